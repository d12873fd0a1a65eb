/* base/random.h, floor 0: unpredictable bytes as a table of functions, so that a test can repeat
 * them. For ids, salts and keys; what a receipt names is drawn by Philox (math/). */
#ifndef OL_BASE_RANDOM_H
#define OL_BASE_RANDOM_H

#include "base/base.h"

struct ol_random {
	void *self;
	void (*fill)(void *self, void *bytes, size_t size);
};

/* The kernel's generator; a machine without one stops the process. */
extern const struct ol_random ol_random_system;

static inline uint64_t ol_random_u64(const struct ol_random *random)
{
	uint64_t value;
	random->fill(random->self, &value, sizeof value);
	return value;
}

#endif
