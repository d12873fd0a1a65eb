#include "crypto/random.h"
#include "base/bytes.h"

#include <string.h>
#include <sodium.h>

static void system_fill(void *self, void *out, size_t size)
{
	(void)self;
	OL_ASSERT(sodium_init() >= 0);
	randombytes_buf(out, size);
}

struct ol_random ol_random_system(void)
{
	return (struct ol_random){.fill = system_fill};
}

/* Call number n of a seed is one stream of its own: its key is the seed with n in its last bytes. */
static void seeded_fill(void *self, void *out, size_t size)
{
	struct ol_random_seeded *state = self;
	uint8_t key[randombytes_SEEDBYTES];
	_Static_assert(sizeof key == sizeof state->seed, "one seed is one key");
	memcpy(key, state->seed, sizeof key);
	ol_store_u64(key + 24, state->calls++);
	randombytes_buf_deterministic(out, size, key);
}

struct ol_random ol_random_from_seed(struct ol_random_seeded *state, uint64_t seed)
{
	memset(state, 0, sizeof *state);
	ol_store_u64(state->seed, seed);
	return (struct ol_random){.fill = seeded_fill, .self = state};
}
