/* math/chains_body.h, floor 1: many chains in registers, c[r][lane] = fma(a[r], b[lane], c), the
 * inner loop of everything that is a sum of outer products. Included by the *_body.h files of the
 * backward kernels and of LoRA, once a file.
 *
 * A chain may be interrupted and parked in memory between any two steps, and its lanes and rows
 * are independent: how the work is cut into the calls below changes no bit. */
#include "math/lanes.h"
#include "math/matrix.h"

enum {
#if defined(__AVX512F__)
	CHAIN_ROWS = 12, /* x 2 vectors: 24 of 32 registers are chains               */
	CHAIN_VECTORS = 2,
#elif defined(__AVX2__)
	CHAIN_ROWS = 6, /* x 1 vector of two registers: 12 of 16                     */
	CHAIN_VECTORS = 1,
#else
	CHAIN_ROWS = 6, /* x 1 vector of four registers: 24 of 32                    */
	CHAIN_VECTORS = 1,
#endif
	CHAIN_LANES = 16 * CHAIN_VECTORS
};

/* R rows x V vectors of lanes. Steps come in `groups` of `steps`, the groups a_group floats apart
 * in a; a step's operands are a[r * a_row] (a_step on to the next) and b[0 .. 16 V - 1]. */
struct chains {
	float *c;
	size_t c_stride;
	const float *a, *b;
	size_t a_row, a_step, a_group, b_step;
	int groups, steps;
	int lanes;   /* that exist, 1 .. 16 V: of c the rest is neither read nor written; of b the
		    * rest must be readable */
	bool resume; /* else from +0 */
	const float *next; /* rows of c that will be wanted soon, c_stride apart; or NULL */
};

/* Lanes of vector v that exist. */
OL_INLINE int chains_lanes(const struct chains *p, int v)
{
	return OL_MAX(0, OL_MIN(16, p->lanes - 16 * v));
}

OL_INLINE void chains_prefetch(const struct chains *p, int R, int V)
{
	if (!p->next)
		return;
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		OL_UNROLL
		for (int v = 0; v < V; v++)
			__builtin_prefetch(p->next + (size_t)r * p->c_stride + 16 * v, 1);
	}
}

OL_INLINE void chains_begin(v16 c[CHAIN_ROWS][CHAIN_VECTORS], const struct chains *p, int R, int V)
{
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		const float *from = p->c + (size_t)r * p->c_stride;
		OL_UNROLL
		for (int v = 0; v < V; v++) {
			if (!p->resume)
				c[r][v] = v16_set(0.0f);
			else if (p->lanes == 16 * V)
				c[r][v] = v16_load(from + 16 * v);
			else
				c[r][v] = v16_load_part(from + 16 * v, chains_lanes(p, v));
		}
	}
}

OL_INLINE void chains_end(v16 c[CHAIN_ROWS][CHAIN_VECTORS], const struct chains *p, int R, int V)
{
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		float *to = p->c + (size_t)r * p->c_stride;
		OL_UNROLL
		for (int v = 0; v < V; v++) {
			if (p->lanes == 16 * V)
				v16_store(to + 16 * v, c[r][v]);
			else
				v16_store_part(to + 16 * v, c[r][v], chains_lanes(p, v));
		}
	}
}

/* a_row and a_step as constants make the addresses constants too. */
OL_INLINE void chains_steps(v16 c[CHAIN_ROWS][CHAIN_VECTORS], const struct chains *p, int R, int V,
			    size_t a_row, size_t a_step)
{
	const float *b = p->b;
	const size_t b_step = p->b_step;

	for (int g = 0; g < p->groups; g++) {
		const float *a = p->a + (size_t)g * p->a_group;
		for (int s = 0; s < p->steps; s++, a += a_step, b += b_step) {
			v16 x[CHAIN_VECTORS];
			OL_UNROLL
			for (int v = 0; v < V; v++)
				x[v] = v16_load(b + 16 * v);
			OL_UNROLL
			for (int r = 0; r < R; r++) {
				const v16 y = v16_set(a[(size_t)r * a_row]);
				OL_UNROLL
				for (int v = 0; v < V; v++)
					c[r][v] = v16_fma(y, x[v], c[r][v]);
			}
		}
	}
}

OL_INLINE void chains_run(const struct chains *p, int R, int V, size_t a_row, size_t a_step)
{
	v16 c[CHAIN_ROWS][CHAIN_VECTORS];

	chains_begin(c, p, R, V);
	chains_prefetch(p, R, V);
	chains_steps(c, p, R, V, a_row, a_step);
	chains_end(c, p, R, V);
}

typedef void chains_fn(const struct chains *p);

/* The four ways that a's elements lie: rows beside each other, steps a_step apart; rows a panel's
 * width apart, steps beside each other; rows a_row apart, steps beside each other; the same for at
 * most 16 lanes. */
#define CHAINS(R)                                                                                  \
	static void chains_beside_##R(const struct chains *p)                                      \
	{                                                                                          \
		chains_run(p, R, CHAIN_VECTORS, 1, p->a_step);                                     \
	}                                                                                          \
	static void chains_apart_##R(const struct chains *p)                                       \
	{                                                                                          \
		chains_run(p, R, CHAIN_VECTORS, OL_PANEL, 1);                                      \
	}                                                                                          \
	static void chains_anyhow_##R(const struct chains *p)                                      \
	{                                                                                          \
		chains_run(p, R, CHAIN_VECTORS, p->a_row, 1);                                      \
	}                                                                                          \
	static void chains_thin_##R(const struct chains *p)                                        \
	{                                                                                          \
		chains_run(p, R, 1, p->a_row, 1);                                                  \
	}

#if defined(__AVX512F__)
#define CHAINS_FOR_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12)
#define CHAINS_TABLE(kind)                                                                         \
	{                                                                                          \
		NULL, kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6, kind##_7,        \
			kind##_8, kind##_9, kind##_10, kind##_11, kind##_12                        \
	}
#else
#define CHAINS_FOR_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6)
#define CHAINS_TABLE(kind)                                                                         \
	{                                                                                          \
		NULL, kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6                   \
	}
#endif

CHAINS_FOR_ROWS(CHAINS)

/* By the number of rows. No file needs all of them. */
#define CHAINS_OF(kind)                                                                            \
	static chains_fn *const kind[CHAIN_ROWS + 1] __attribute__((unused)) = CHAINS_TABLE(kind)
CHAINS_OF(chains_beside);
CHAINS_OF(chains_apart);
CHAINS_OF(chains_anyhow);
CHAINS_OF(chains_thin);

/* `rows` in as few tiles as they need, as evenly as they divide: 13 are 7 + 6, never 12 + 1. */
static int chain_tiles(int rows)
{
	return (rows + CHAIN_ROWS - 1) / CHAIN_ROWS;
}

static int chain_tile_start(int rows, int tiles, int t)
{
	return (int)((int64_t)rows * t / tiles);
}
