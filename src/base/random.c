#define _GNU_SOURCE
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

static void system_fill(void *self, void *bytes, size_t size)
{
	uint8_t *at = bytes;
	(void)self;
	while (size > 0) {
		const ssize_t n = getrandom(at, size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		OL_ASSERT(n > 0);
		at += n;
		size -= (size_t)n;
	}
}

const struct ol_random ol_random_system = {NULL, system_fill};
