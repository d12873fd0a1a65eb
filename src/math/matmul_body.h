/* math/matmul_body.h, floor 1: the loops of a matmul around one `step`, for every instruction set.
 *
 * The including file says what a step is: one k of f32, or one pair of k of bf16. It defines
 *     MATMUL_NAME(f)              the name of function f for this type and instruction set
 *     TILE_ROWS                   rows of activations that are worked on together, divides 48
 *     NARROW, WIDE(R)             vectors of 16 outputs beside them: many rows; only R rows
 *     DEPTH                       see below
 *     unit                        one step of one row of activations
 *     make_unit(x, k, K)          the unit of the step that starts at k
 *     STEP_K                      elements of k in a step
 *     operand, spread(u)          a unit in all lanes
 *     weights, load_weights(p)    one step of sixteen outputs; 64 bytes of the panel
 *     step(c, operand, weights)   the chain's next value
 *
 * Activations are kept as tiles [steps][rows of the tile], so that a tile is read in one stream.
 * Rows are cut into groups of 48, a group evenly into as few tiles as it needs: 13 rows are 7 + 6,
 * never 12 + 1. With many tiles the chain is interrupted after DEPTH steps, parked in y and taken
 * up again (a float in memory is the same float), so that DEPTH steps of a panel stay in the second
 * cache while the tiles pass by. Blocks as small as the first cache measured 15% slower. */
#include "math/kernels_internal.h"

enum {
	AHEAD = 4096, /* bytes of a panel: few rows doubled their speed by asking so early */
	PIECE = 64,   /* steps of a tile that are prepared at once, in the first cache */
	GROUP = 48    /* rows; kernels.c promises pieces of this size                  */
};

static size_t step_count(int K)
{
	return ((size_t)K + STEP_K - 1) / STEP_K;
}

/* First row of tile t when `rows` rows of a group are cut into `tiles`. */
static int tile_start(int rows, int tiles, int t)
{
	return rows * t / tiles;
}

static int tile_count(int rows)
{
	return (rows + TILE_ROWS - 1) / TILE_ROWS;
}

size_t MATMUL_NAME(ol_act_bytes)(int M, int K)
{
	return (size_t)M * step_count(K) * sizeof(unit);
}

/* Steps [s0,s1) of the rows of a tile. */
OL_INLINE void prepare_piece(unit *tile, const float *x, size_t x_stride, int K, size_t rows,
			     size_t s0, size_t s1)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t s = s0; s < s1; s++)
			tile[s * rows + r] = make_unit(x + r * x_stride, (int)s * STEP_K, K);
}

void MATMUL_NAME(ol_act_prepare)(void *act, const float *x, size_t x_stride, int M, int K, int row0,
				 int row1)
{
	const size_t steps = step_count(K);
	(void)M;

	for (int row = row0; row < row1; row += GROUP) {
		const int rows = OL_MIN(GROUP, row1 - row), tiles = tile_count(rows);
		for (int t = 0; t < tiles; t++) {
			const int first = row + tile_start(rows, tiles, t);
			const int count = row + tile_start(rows, tiles, t + 1) - first;
			unit *tile = (unit *)act + (size_t)first * steps;
			for (size_t s0 = 0; s0 < steps; s0 += PIECE)
				prepare_piece(tile, x + (size_t)first * x_stride, x_stride, K,
					      (size_t)count, s0, OL_MIN(s0 + PIECE, steps));
		}
	}
}

/* What one call of a micro kernel works on. */
struct piece {
	float *y; /* first row, first output                          */
	size_t y_stride;
	const unit *act; /* first step                                       */
	const char *w;   /* first step of the first 16 outputs               */
	size_t panel;    /* bytes of a panel                                 */
	size_t steps;
	int outputs; /* that exist from here on; the lanes past them stay unwritten */
	bool resume; /* the chains began earlier: their values are in y       */
};

/* Which of the outputs of vector v exist. */
OL_INLINE int outputs_in(const struct piece *p, int v)
{
	return OL_MAX(0, OL_MIN(16, p->outputs - 16 * v));
}

OL_INLINE void take_up(v16 c[TILE_ROWS][8], const struct piece *p, int R, int V)
{
	if (!p->resume) {
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			OL_UNROLL
			for (int v = 0; v < V; v++)
				c[r][v] = v16_set(0.0f);
		}
	} else if (p->outputs >= 16 * V) {
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			OL_UNROLL
			for (int v = 0; v < V; v++)
				c[r][v] = v16_load(p->y + (size_t)r * p->y_stride + 16 * v);
		}
	} else {
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			OL_UNROLL
			for (int v = 0; v < V; v++)
				c[r][v] = v16_load_part(p->y + (size_t)r * p->y_stride + 16 * v,
							outputs_in(p, v));
		}
	}
}

OL_INLINE void put_down(v16 c[TILE_ROWS][8], const struct piece *p, int R, int V)
{
	if (p->outputs >= 16 * V) {
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			OL_UNROLL
			for (int v = 0; v < V; v++)
				v16_store(p->y + (size_t)r * p->y_stride + 16 * v, c[r][v]);
		}
	} else {
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			OL_UNROLL
			for (int v = 0; v < V; v++)
				v16_store_part(p->y + (size_t)r * p->y_stride + 16 * v, c[r][v],
					       outputs_in(p, v));
		}
	}
}

/* The tile after this one will begin by writing, or taking up, the rows below. */
OL_INLINE void prefetch_next(const struct piece *p, int R, int V)
{
	const float *y = p->y + (size_t)R * p->y_stride;
	for (int r = 0; r < R; r++, y += p->y_stride) {
		OL_UNROLL
		for (int v = 0; v < V; v++)
			__builtin_prefetch(y + 16 * v, 1);
	}
}

/* R rows times V vectors of 16 outputs, `steps` steps of their chains. */
OL_INLINE void micro(const struct piece *p, int R, int V)
{
	v16 c[TILE_ROWS][8];
	const char *w = p->w;
	const unit *a = p->act;
	const unit *const end = a + p->steps * (size_t)R;
	const size_t panel = p->panel;

	take_up(c, p, R, V);
	prefetch_next(p, R, V);
	for (; a != end; a += R, w += OL_PANEL * 4) {
		weights b[8];
		OL_UNROLL
		for (int v = 0; v < V; v++) {
			const char *at = w + (size_t)(v / 2) * panel + (size_t)(v % 2) * 64;
			__builtin_prefetch(at + AHEAD);
			b[v] = load_weights(at);
		}
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			const operand o = spread(a[r]);
			OL_UNROLL
			for (int v = 0; v < V; v++)
				c[r][v] = step(c[r][v], o, b[v]);
		}
	}
	put_down(c, p, R, V);
}

#define MICRO(R)                                                                                   \
	static void narrow_##R(const struct piece *p)                                              \
	{                                                                                          \
		micro(p, R, NARROW);                                                               \
	}                                                                                          \
	static void wide_##R(const struct piece *p)                                                \
	{                                                                                          \
		micro(p, R, WIDE(R));                                                              \
	}

MICRO(1)
MICRO(2)
MICRO(3)
MICRO(4)
#if TILE_ROWS > 4
MICRO(5)
MICRO(6)
#endif
#if TILE_ROWS > 6
MICRO(7)
MICRO(8)
MICRO(9)
MICRO(10)
MICRO(11)
MICRO(12)
#endif

typedef void micro_fn(const struct piece *p);

static micro_fn *const narrow[TILE_ROWS + 1] = {
	NULL,     narrow_1, narrow_2, narrow_3,  narrow_4,
#if TILE_ROWS > 4
	narrow_5, narrow_6,
#endif
#if TILE_ROWS > 6
	narrow_7, narrow_8, narrow_9, narrow_10, narrow_11, narrow_12,
#endif
};
static micro_fn *const wide[TILE_ROWS + 1] = {
	NULL,   wide_1, wide_2, wide_3,  wide_4,
#if TILE_ROWS > 4
	wide_5, wide_6,
#endif
#if TILE_ROWS > 6
	wide_7, wide_8, wide_9, wide_10, wide_11, wide_12,
#endif
};

/* Up to TILE_ROWS rows: the panels are read once, from memory, and everything of them at once. */
static void few_rows(float *y, size_t y_stride, const unit *act, const struct ol_matrix *w, int M,
		     int panel0, int panel1)
{
	const size_t steps = step_count(w->cols);
	struct piece p = {.y_stride = y_stride,
			  .act = act,
			  .panel = steps * OL_PANEL * 4,
			  .steps = steps,
			  .resume = false};
	const int end = OL_MIN(2 * panel1, (w->rows + 15) / 16);

	for (int half = 2 * panel0; half < end;) {
		const bool fits = half % 2 == 0 && half + WIDE(M) <= end;
		p.y = y + 16 * half;
		p.w = (const char *)w->panels + (size_t)(half / 2) * p.panel +
		      (size_t)(half % 2) * 64;
		p.outputs = w->rows - 16 * half;
		(fits ? wide : narrow)[M](&p);
		half += fits ? WIDE(M) : NARROW;
	}
}

/* All rows, the piece's steps from step0 on. */
static void many_rows(struct piece *p, float *y, const unit *act, size_t all_steps, size_t step0,
		      int M)
{
	for (int row = 0; row < M; row += GROUP) {
		const int rows = OL_MIN(GROUP, M - row), tiles = tile_count(rows);
		for (int t = 0; t < tiles; t++) {
			const int first = row + tile_start(rows, tiles, t);
			const int count = row + tile_start(rows, tiles, t + 1) - first;
			p->y = y + (size_t)first * p->y_stride;
			p->act = act + (size_t)first * all_steps + step0 * (size_t)count;
			narrow[count](p);
		}
	}
}

OL_INLINE void matmul(float *y, size_t y_stride, const unit *act, const struct ol_matrix *w, int M,
		      int panel0, int panel1)
{
	const size_t steps = step_count(w->cols);
	const size_t rounds = (steps + DEPTH - 1) / DEPTH;
	const size_t depth = (steps + rounds - 1) / rounds;
	struct piece p = {.y_stride = y_stride, .panel = steps * OL_PANEL * 4};

	if (M <= TILE_ROWS) {
		few_rows(y, y_stride, act, w, M, panel0, panel1);
		return;
	}
	for (size_t s = 0; s < steps; s += depth)
		for (int half = 2 * panel0; half < 2 * panel1; half += NARROW) {
			p.w = (const char *)w->panels + (size_t)(half / 2) * p.panel +
			      (size_t)(half % 2) * 64 + s * OL_PANEL * 4;
			p.steps = OL_MIN(depth, steps - s);
			p.outputs = w->rows - 16 * half;
			p.resume = s > 0;
			if (p.outputs > 0)
				many_rows(&p, y + 16 * half, act, steps, s, M);
		}
}
