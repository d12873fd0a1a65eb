/* math/lora_body.h, floor 1: lora_scalar.c on sixteen lanes. Lanes are ranks on the way down and
 * outputs on the way up, as they lie in the panels; bf16 panels are unpacked first, DEPTH elements
 * of the chains at a time. */
#include "math/chains_body.h"
#include "math/kernels_internal.h"
#include "math/lanes_weights.h"

enum {
	DEPTH = 256,
	RANK_MAX = 512 /* whose panel of B fits on the stack */
};

/* Inputs [k0,k1) of a panel as f32 [k][OL_PANEL]: where they lie, or unpacked into `room`. */
static const float *panel_floats(float *room, const struct ol_matrix *w, int panel, int k0, int k1)
{
	OL_ASSERT(w->type == OL_WEIGHT_F32 || w->type == OL_WEIGHT_BF16);
	if (w->type == OL_WEIGHT_F32)
		return (const float *)w->panels +
		       ((size_t)panel * (size_t)w->cols + (size_t)k0) * OL_PANEL;
	unpack_panel(room, w, panel, k0, k1);
	return room;
}

void OL_LANES_NAME(ol_lora_down)(float *h, size_t h_stride, const float *x, size_t x_stride,
				 const struct ol_matrix *a, int M)
{
	float room[DEPTH * OL_PANEL] __attribute__((aligned(64)));
	const int tiles = chain_tiles(M);
	struct chains q = {
		.c_stride = h_stride, .a_row = x_stride, .b_step = OL_PANEL, .groups = 1};

	for (int r0 = 0; r0 < a->rows; r0 += OL_PANEL)
		for (int k = 0; k < a->cols; k += DEPTH) {
			const int end = OL_MIN(k + DEPTH, a->cols);
			const float *panel = panel_floats(room, a, r0 / OL_PANEL, k, end);
			q.steps = end - k;
			q.resume = k > 0;
			for (int t = 0; t < tiles; t++) {
				const int m = chain_tile_start(M, tiles, t);
				const int count = chain_tile_start(M, tiles, t + 1) - m;
				q.a = x + (size_t)m * x_stride + k;
				for (int r = r0; r < OL_MIN(r0 + OL_PANEL, a->rows);) {
					const int left = a->rows - r;
					q.c = h + (size_t)m * h_stride + r;
					q.b = panel + (r - r0);
					q.lanes = OL_MIN(left, left <= 16 ? 16 : CHAIN_LANES);
					(left <= 16 ? chains_thin : chains_anyhow)[count](&q);
					r += left <= 16 ? 16 : CHAIN_LANES;
				}
			}
		}
}

/* y = fma(scale, chains over h, y). */
OL_INLINE void up(const struct chains *p, float scale, int R)
{
	v16 c[CHAIN_ROWS][CHAIN_VECTORS];
	const v16 s = v16_set(scale);

	chains_begin(c, p, R, CHAIN_VECTORS);
	chains_steps(c, p, R, CHAIN_VECTORS, p->a_row, 1);
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		const float *y = p->c + (size_t)r * p->c_stride;
		OL_UNROLL
		for (int v = 0; v < CHAIN_VECTORS; v++) {
			const v16 old = p->lanes == CHAIN_LANES
						? v16_load(y + 16 * v)
						: v16_load_part(y + 16 * v, chains_lanes(p, v));
			c[r][v] = v16_fma(s, c[r][v], old);
		}
	}
	chains_end(c, p, R, CHAIN_VECTORS);
}

#define UP(R)                                                                                      \
	static void up_##R(const struct chains *p, float scale)                                    \
	{                                                                                          \
		up(p, scale, R);                                                                   \
	}
CHAINS_FOR_ROWS(UP)

static void (*const up_of[CHAIN_ROWS + 1])(const struct chains *p, float scale) = CHAINS_TABLE(up);

void OL_LANES_NAME(ol_lora_up)(float *y, size_t y_stride, const float *h, size_t h_stride,
			       const struct ol_matrix *b, float scale, int M, int panel0,
			       int panel1)
{
	float room[RANK_MAX * OL_PANEL] __attribute__((aligned(64)));
	const int tiles = chain_tiles(M), rank = b->cols;
	struct chains q = {.c_stride = y_stride,
			   .a_row = h_stride,
			   .b_step = OL_PANEL,
			   .groups = 1,
			   .steps = rank};

	OL_ASSERT(rank <= RANK_MAX);
	for (int panel = panel0; panel < panel1; panel++) {
		const float *weights = panel_floats(room, b, panel, 0, rank);
		const int o0 = panel * OL_PANEL, o1 = OL_MIN(o0 + OL_PANEL, b->rows);
		for (int t = 0; t < tiles; t++) {
			const int m = chain_tile_start(M, tiles, t);
			const int count = chain_tile_start(M, tiles, t + 1) - m;
			q.a = h + (size_t)m * h_stride;
			for (int o = o0; o < o1; o += CHAIN_LANES) {
				q.c = y + (size_t)m * y_stride + o;
				q.b = weights + (o - o0);
				q.lanes = OL_MIN(CHAIN_LANES, o1 - o);
				up_of[count](&q, scale);
			}
		}
	}
}
