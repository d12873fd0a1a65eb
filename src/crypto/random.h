/* crypto/random.h, floor 1: unpredictable bytes, as a table of functions so that a test can repeat
 * what it saw. */
#ifndef OL_CRYPTO_RANDOM_H
#define OL_CRYPTO_RANDOM_H

#include "base/base.h"

struct ol_random {
	void (*fill)(void *self, void *out, size_t size); /* never fails */
	void *self;
};

/* The system's generator (getrandom). A system without one stops the process: there is no key and
 * no salt without it. */
struct ol_random ol_random_system(void);

/* For tests: the n-th call of a seed gives the same bytes in every run. */
struct ol_random_seeded {
	uint8_t seed[32];
	uint64_t calls;
};
struct ol_random ol_random_from_seed(struct ol_random_seeded *state, uint64_t seed);

static inline void ol_random_fill(const struct ol_random *random, void *out, size_t size)
{
	random->fill(random->self, out, size);
}

#endif
