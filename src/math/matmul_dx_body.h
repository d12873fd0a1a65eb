/* math/matmul_dx_body.h, floor 1: dx (+)= dy W of gradients_scalar.c on sixteen lanes.
 *
 * Panels hold W with outputs beside each other, and the chains run over outputs. So lanes are rows
 * of dy: a tile is some inputs k (their weights, read along a panel, are the broadcast side) times
 * CHAIN_LANES rows (dy transposed: [output][row]). W is never transposed; only unpacked to f32,
 * once for all rows, while dy and dx are transposed on their way in and out.
 *
 *     for rows in blocks                        c: dx transposed [strip of rows][k][row]
 *       for outputs in blocks of DEPTH          b: dy transposed [strip][output][row]
 *         for inputs in blocks of WIDTH         w: panels as f32 [panel][k][output], second cache
 *           for strips of rows                  b's strip stays in the first cache
 *             for tiles of inputs               chains go on from c
 *
 * (Weights of f32 are read in place; then the last two loops change places.)
 *
 * A LoRA matrix has few outputs: then W is transposed, once, and lanes are inputs. */
#include "math/chains_body.h"
#include "math/gradients_internal.h"
#include "math/lanes_transpose.h"
#include "math/lanes_weights.h"

enum {
	DEPTH = 256,
	WIDTH = 256,
	ROWS = 256,       /* a block of rows, a multiple of CHAIN_LANES */
	FEW_OUTPUTS = 64, /* a multiple of OL_PANEL                     */
	DEPTH_PANELS = DEPTH / OL_PANEL
};

static int strips_of(int rows)
{
	return (rows + CHAIN_LANES - 1) / CHAIN_LANES;
}

size_t OL_LANES_NAME(ol_matmul_dx_scratch)(const struct ol_matrix *w, int M)
{
	const size_t rows = (size_t)strips_of(OL_MIN(M, ROWS)) * CHAIN_LANES;
	const size_t many = rows * ((size_t)w->cols + DEPTH) + (size_t)DEPTH * WIDTH;
	const size_t few = (size_t)FEW_OUTPUTS * (WIDTH + 16) + (size_t)OL_PANEL * WIDTH;
	return w->rows <= FEW_OUTPUTS ? few : many;
}

/* --- many outputs ----------------------------------------------------------------------------- */

struct dx_block {
	float *dx; /* first row */
	size_t dx_stride;
	const float *dy;
	size_t dy_stride;
	const struct ol_matrix *w;
	int rows, k0, k1;
	float *c, *b, *unpacked;
	const float *weights; /* of the outputs' first panel, inputs from run_block's k0 on */
	size_t panel_floats;  /* from one panel to the next                                 */
};

/* c = dx, transposed. */
static void take_dx(const struct dx_block *p)
{
	const int inputs = p->k1 - p->k0;
	for (int m = 0; m < p->rows; m += 16) {
		float *c = p->c + (size_t)(m / CHAIN_LANES) * (size_t)inputs * CHAIN_LANES +
			   m % CHAIN_LANES;
		const float *dx = p->dx + (size_t)m * p->dx_stride + p->k0;
		for (int k = 0; k < inputs; k += 16)
			transpose_block(c + (size_t)k * CHAIN_LANES, CHAIN_LANES, dx + k,
					p->dx_stride, OL_MIN(16, p->rows - m),
					OL_MIN(16, inputs - k), 16);
	}
}

/* dx = c, transposed. */
static void give_dx(const struct dx_block *p)
{
	const int inputs = p->k1 - p->k0;
	for (int m = 0; m < p->rows; m += 16) {
		const float *c = p->c + (size_t)(m / CHAIN_LANES) * (size_t)inputs * CHAIN_LANES +
				 m % CHAIN_LANES;
		float *dx = p->dx + (size_t)m * p->dx_stride + p->k0;
		for (int k = 0; k < inputs; k += 16) {
			const int count = OL_MIN(16, inputs - k);
			transpose_block(dx + k, p->dx_stride, c + (size_t)k * CHAIN_LANES,
					CHAIN_LANES, count, OL_MIN(16, p->rows - m), count);
		}
	}
}

/* b = dy of outputs [o0,o1), transposed; rows that do not exist become zeros. */
static void take_dy(const struct dx_block *p, int o0, int o1)
{
	const size_t outputs = (size_t)(o1 - o0);
	const int padded = strips_of(p->rows) * CHAIN_LANES;
	for (int m = 0; m < padded; m += 16) {
		float *b =
			p->b + (size_t)(m / CHAIN_LANES) * outputs * CHAIN_LANES + m % CHAIN_LANES;
		const float *dy = p->dy + (size_t)m * p->dy_stride;
		for (int o = o0; o < o1; o += 16)
			transpose_block(b + (size_t)(o - o0) * CHAIN_LANES, CHAIN_LANES, dy + o,
					p->dy_stride, OL_MAX(0, OL_MIN(16, p->rows - m)),
					OL_MIN(16, o1 - o), 16);
	}
}

/* Asks for the part-th of `parts` parts of the tile of weights that begins here: its panels lie so
 * far apart that no machine foresees the next one. */
static void prefetch_tile(const struct dx_block *p, const float *weights, int panels, int part,
			  int parts)
{
	enum { LINE_FLOATS = 16, TILE_LINES = CHAIN_ROWS * OL_PANEL / LINE_FLOATS };
	const int lines = panels * TILE_LINES, end = chain_tile_start(lines, parts, part + 1);
	for (int i = chain_tile_start(lines, parts, part); i < end; i++)
		__builtin_prefetch(weights + (size_t)(i / TILE_LINES) * p->panel_floats +
				   i % TILE_LINES * LINE_FLOATS);
}

/* Outputs of panels [panel0,panel1), inputs [k0,k1), whose weights are ready: all rows. */
static void run_block(const struct dx_block *p, int panel0, int panel1, int k0, int k1, bool resume)
{
	const int width = k1 - k0, tiles = chain_tiles(width), inputs = p->k1 - p->k0;
	const int outputs = OL_MIN(panel1 * OL_PANEL, p->w->rows) - panel0 * OL_PANEL;
	const int whole = outputs / OL_PANEL;
	struct chains q = {.c_stride = CHAIN_LANES,
			   .a_row = OL_PANEL,
			   .a_group = p->panel_floats,
			   .b_step = CHAIN_LANES,
			   .lanes = CHAIN_LANES};

	/* Weights in place come from far: a tile of them stays while the strips pass. Unpacked ones
	 * are in the second cache: a strip stays while their tiles pass. */
	const bool in_place = p->weights != p->unpacked;
	const int strips = strips_of(p->rows);
	for (int i = 0; i < strips * tiles; i++) {
		const int strip = in_place ? i % strips : i / tiles;
		const int t = in_place ? i / strips : i % tiles;
		const int k = chain_tile_start(width, tiles, t);
		const int count = chain_tile_start(width, tiles, t + 1) - k;
		q.c = p->c +
		      ((size_t)strip * (size_t)inputs + (size_t)(k0 - p->k0 + k)) * CHAIN_LANES;
		q.a = p->weights + (size_t)k * OL_PANEL;
		q.b = p->b + (size_t)strip * (size_t)outputs * CHAIN_LANES;
		q.next = q.c + (size_t)(in_place ? inputs : count) * CHAIN_LANES;
		q.resume = resume;
		q.groups = whole;
		q.steps = OL_PANEL;
		if (in_place)
			prefetch_tile(p, q.a + (size_t)count * OL_PANEL, whole, strip, strips);
		if (whole > 0)
			chains_apart[count](&q);
		if (outputs % OL_PANEL == 0)
			continue;
		q.a += (size_t)whole * q.a_group;
		q.b += (size_t)whole * OL_PANEL * CHAIN_LANES;
		q.resume = resume || whole > 0;
		q.groups = 1;
		q.steps = outputs % OL_PANEL;
		chains_apart[count](&q);
	}
}

/* Weights of panels [panel0,panel1), inputs [k0,k1), in f32; those of f32 are read in place. */
static void ready_weights(struct dx_block *p, int panel0, int panel1, int k0, int k1)
{
	const size_t cols = (size_t)p->w->cols;
	if (p->w->type == OL_WEIGHT_F32) {
		p->panel_floats = cols * OL_PANEL;
		p->weights = (const float *)p->w->panels + (size_t)panel0 * p->panel_floats +
			     (size_t)k0 * OL_PANEL;
		return;
	}
	p->panel_floats = (size_t)(k1 - k0) * OL_PANEL;
	p->weights = p->unpacked;
	for (int panel = panel0; panel < panel1; panel++)
		unpack_panel(p->unpacked + (size_t)(panel - panel0) * p->panel_floats, p->w, panel,
			     k0, k1);
}

static void many_outputs(struct dx_block *p, bool onto)
{
	const int panels = ol_panel_count(p->w->rows);
	const int rounds = (panels + DEPTH_PANELS - 1) / DEPTH_PANELS;

	if (onto)
		take_dx(p);
	for (int round = 0; round < rounds; round++) {
		const int panel0 = chain_tile_start(panels, rounds, round);
		const int panel1 = chain_tile_start(panels, rounds, round + 1);
		take_dy(p, panel0 * OL_PANEL, OL_MIN(panel1 * OL_PANEL, p->w->rows));
		for (int k = p->k0; k < p->k1; k += WIDTH) {
			const int end = OL_MIN(k + WIDTH, p->k1);
			ready_weights(p, panel0, panel1, k, end);
			run_block(p, panel0, panel1, k, end, onto || round > 0);
		}
	}
	give_dx(p);
}

/* --- few outputs ------------------------------------------------------------------------------ */

/* weights [outputs][WIDTH] = inputs [k0,k1) of all rows of W. */
static void transpose_weights(float *weights, float *panel, const struct ol_matrix *w, int k0,
			      int k1)
{
	for (int o = 0; o < w->rows; o += OL_PANEL) {
		unpack_panel(panel, w, o / OL_PANEL, k0, k1);
		for (int half = 0; half < OL_PANEL && o + half < w->rows; half += 16)
			for (int k = 0; k < k1 - k0; k += 16)
				transpose_block(weights + (size_t)(o + half) * WIDTH + k, WIDTH,
						panel + (size_t)k * OL_PANEL + half, OL_PANEL,
						OL_MIN(16, k1 - k0 - k),
						OL_MIN(16, w->rows - o - half), 16);
	}
}

static void few_outputs(const struct dx_block *p, bool onto)
{
	float *weights = p->c, *panel = weights + FEW_OUTPUTS * WIDTH;
	float *dy = panel + OL_PANEL * WIDTH; /* [outputs][16]: the tile's rows beside each other */
	const int outputs = p->w->rows, tiles = chain_tiles(p->rows);
	struct chains q = {.c_stride = p->dx_stride,
			   .a = dy,
			   .a_step = 16,
			   .b_step = WIDTH,
			   .groups = 1,
			   .steps = outputs,
			   .resume = onto};

	for (int k0 = p->k0; k0 < p->k1; k0 += WIDTH) {
		const int k1 = OL_MIN(k0 + WIDTH, p->k1);
		transpose_weights(weights, panel, p->w, k0, k1);
		for (int t = 0; t < tiles; t++) {
			const int m = chain_tile_start(p->rows, tiles, t);
			const int count = chain_tile_start(p->rows, tiles, t + 1) - m;
			for (int o = 0; o < outputs; o += 16)
				transpose_block(dy + (size_t)o * 16, 16,
						p->dy + (size_t)m * p->dy_stride + o, p->dy_stride,
						count, OL_MIN(16, outputs - o), 16);
			for (int k = k0; k < k1; k += CHAIN_LANES) {
				q.c = p->dx + (size_t)m * p->dx_stride + k;
				q.b = weights + (k - k0);
				q.lanes = OL_MIN(CHAIN_LANES, k1 - k);
				chains_beside[count](&q);
			}
		}
	}
}

void OL_LANES_NAME(ol_matmul_dx)(float *dx, size_t dx_stride, const float *dy, size_t dy_stride,
				 const struct ol_matrix *w, int M, int k0, int k1, bool onto,
				 float *scratch)
{
	OL_ASSERT(k0 % OL_PANEL == 0 && (k1 % OL_PANEL == 0 || k1 == w->cols));
	struct dx_block p = {.dx_stride = dx_stride,
			     .dy_stride = dy_stride,
			     .w = w,
			     .k0 = k0,
			     .k1 = k1,
			     .c = scratch};
	const int blocks = (M + ROWS - 1) / ROWS;

	for (int i = 0; i < blocks && k0 < k1; i++) {
		const int row = chain_tile_start(M, blocks, i);
		p.dx = dx + (size_t)row * dx_stride;
		p.dy = dy + (size_t)row * dy_stride;
		p.rows = chain_tile_start(M, blocks, i + 1) - row;
		if (w->rows <= FEW_OUTPUTS) {
			few_outputs(&p, onto);
			continue;
		}
		const size_t rows = (size_t)strips_of(p.rows) * CHAIN_LANES;
		p.unpacked = p.c + rows * (size_t)(k1 - k0);
		p.b = p.unpacked + DEPTH * WIDTH;
		many_outputs(&p, onto);
	}
}
