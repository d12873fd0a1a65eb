/* math/matmul_dw_body.h, floor 1: dw += dy^T x of gradients_scalar.c on sixteen lanes.
 *
 * The chains run over rows m. Lanes are inputs k, rows of a tile outputs o: both lie beside each
 * other in x and dy. So that a tile reads one stream, strips of x (CHAIN_LANES wide) and tiles of
 * dy are copied first. Where there are few inputs (a LoRA's B), lanes are outputs, and dw is
 * transposed on its way in and out. */
#include "math/chains_body.h"
#include "math/gradients_internal.h"
#include "math/lanes_transpose.h"

enum {
	DEPTH = 256,                /* rows m whose copies fit the second cache  */
	STRIPS = 256 / CHAIN_LANES, /* of x beside each other                    */
	TILE_STRIDE = 16,           /* at least CHAIN_ROWS                       */
	FEW_INPUTS = 64,            /* a multiple of 16                          */
};

struct dw_piece {
	float *dw; /* output o0 */
	const float *dy;
	size_t dy_stride;
	const float *x;
	size_t x_stride;
	int M, outputs, K;
};

/* Inputs from k on, STRIPS * CHAIN_LANES of them, of all outputs. Room for copies: `strips`,
 * `tile`. */
static void some_inputs(const struct dw_piece *p, int k, float *strips, float *tile)
{
	const int tiles = chain_tiles(p->outputs);
	const int end = OL_MIN(p->K, k + STRIPS * CHAIN_LANES);
	struct chains q = {.c_stride = (size_t)p->K,
			   .a = tile,
			   .a_step = TILE_STRIDE,
			   .b_step = CHAIN_LANES,
			   .groups = 1,
			   .steps = p->M,
			   .resume = true};

	for (int i = 0; k + i * CHAIN_LANES < end; i++)
		copy_rows(strips + (size_t)i * DEPTH * CHAIN_LANES, CHAIN_LANES,
			  p->x + k + i * CHAIN_LANES, p->x_stride, p->M,
			  OL_MIN(CHAIN_LANES, end - k - i * CHAIN_LANES));
	for (int t = 0; t < tiles; t++) {
		const int o = chain_tile_start(p->outputs, tiles, t);
		const int count = chain_tile_start(p->outputs, tiles, t + 1) - o;
		copy_rows(tile, TILE_STRIDE, p->dy + o, p->dy_stride, p->M, count);
		for (int i = 0; k + i * CHAIN_LANES < end; i++) {
			q.c = p->dw + (size_t)o * (size_t)p->K + k + i * CHAIN_LANES;
			q.b = strips + (size_t)i * DEPTH * CHAIN_LANES;
			q.lanes = OL_MIN(CHAIN_LANES, end - k - i * CHAIN_LANES);
			q.next = q.c + (k + (i + 1) * CHAIN_LANES < end
						? (size_t)CHAIN_LANES
						: (size_t)count * (size_t)p->K -
							  (size_t)(i * CHAIN_LANES));
			chains_beside[count](&q);
		}
	}
}

/* CHAIN_LANES outputs from o on; `strip` is room for a copy of DEPTH rows. */
static void few_inputs(const struct dw_piece *p, int o, float *strip)
{
	float c[FEW_INPUTS * CHAIN_LANES];
	const int tiles = chain_tiles(p->K), lanes = OL_MIN(CHAIN_LANES, p->outputs - o);
	const size_t K = (size_t)p->K;
	struct chains q = {.c_stride = CHAIN_LANES,
			   .a_step = p->x_stride,
			   .b = p->dy + o,
			   .b_step = p->dy_stride,
			   .groups = 1,
			   .steps = p->M,
			   .lanes = CHAIN_LANES,
			   .resume = true};

	if (lanes < CHAIN_LANES) {
		copy_rows(strip, CHAIN_LANES, q.b, p->dy_stride, p->M, lanes);
		q.b = strip;
		q.b_step = CHAIN_LANES;
	}
	for (int i = 0; i < CHAIN_LANES; i += 16)
		for (int k = 0; k < p->K; k += 16)
			transpose_block(c + k * CHAIN_LANES + i, CHAIN_LANES,
					p->dw + (size_t)(o + OL_MIN(i, lanes)) * K + k, K,
					OL_MAX(0, OL_MIN(16, lanes - i)), OL_MIN(16, p->K - k), 16);
	for (int t = 0; t < tiles; t++) {
		const int k = chain_tile_start(p->K, tiles, t);
		q.c = c + k * CHAIN_LANES;
		q.a = p->x + k;
		chains_beside[chain_tile_start(p->K, tiles, t + 1) - k](&q);
	}
	for (int i = 0; i < lanes; i += 16)
		for (int k = 0; k < p->K; k += 16) {
			const int count = OL_MIN(16, p->K - k);
			transpose_block(p->dw + (size_t)(o + i) * K + k, K, c + k * CHAIN_LANES + i,
					CHAIN_LANES, count, OL_MIN(16, lanes - i), count);
		}
}

void OL_LANES_NAME(ol_matmul_dw)(float *dw, const float *dy, size_t dy_stride, const float *x,
				 size_t x_stride, int M, int o0, int o1, int K)
{
	float strips[STRIPS * DEPTH * CHAIN_LANES] __attribute__((aligned(64)));
	float tile[DEPTH * TILE_STRIDE] __attribute__((aligned(64)));
	struct dw_piece p = {.dw = dw + (size_t)o0 * (size_t)K,
			     .dy_stride = dy_stride,
			     .x_stride = x_stride,
			     .outputs = o1 - o0,
			     .K = K};

	for (int m = 0; m < M; m += DEPTH) {
		p.M = OL_MIN(DEPTH, M - m);
		p.dy = dy + (size_t)m * dy_stride + o0;
		p.x = x + (size_t)m * x_stride;
		if (K <= FEW_INPUTS && p.outputs > K) {
			for (int o = 0; o < p.outputs; o += CHAIN_LANES)
				few_inputs(&p, o, strips);
			continue;
		}
		for (int k = 0; k < K; k += STRIPS * CHAIN_LANES)
			some_inputs(&p, k, strips, tile);
	}
}
