/* Influence against its definition, solved densely.
 *
 * Tokens are a full grid of dy and h vectors, so that the Fisher matrix is exactly a Kronecker
 * product and EK-FAC is exact. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/influence.h"
#include "math/functions.h"

enum { O = 5, R = 3, DY = 7, H = 4, ROWS = DY * H, N = O * R, QUERIES = 3, LENGTH = 6 };

static const float SCALE = 2.0f;

static float uniform(uint32_t purpose, uint32_t index)
{
	const uint32_t counter[4] = {index, purpose, 0, 0}, key[2] = {3, 4};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return (float)(2.0 * ol_unit_double(out[0]) - 1.0);
}

/* rows of dy (O) and h (R); purpose 0 is the grid that the curvature is made from. */
static void fill(float *dy, float *h, int rows, uint32_t purpose)
{
	for (int m = 0; m < rows; m++) {
		for (int o = 0; o < O; o++)
			dy[m * O + o] =
				uniform(2 * purpose, (uint32_t)((purpose ? m : m / H) * O + o));
		for (int r = 0; r < R; r++)
			h[m * R + r] =
				uniform(2 * purpose + 1, (uint32_t)((purpose ? m : m % H) * R + r));
	}
}

/* v of a separable v^(-1/4) = a[o] b[r]. */
static void fill_moments(float *v)
{
	for (int o = 0; o < O; o++)
		for (int r = 0; r < R; r++)
			v[o * R + r] = 1e-6f * (float)((o + 1) * (o + 1) * (r + 2));
}

/* x = (F + lambda I)^-1 g by elimination. */
static void solve(double *f, double *g)
{
	for (int i = 0; i < N; i++) {
		for (int j = i + 1; j < N; j++) {
			const double factor = f[j * N + i] / f[i * N + i];
			for (int k = i; k < N; k++)
				f[j * N + k] -= factor * f[i * N + k];
			g[j] -= factor * g[i];
		}
	}
	for (int i = N - 1; i >= 0; i--) {
		for (int j = i + 1; j < N; j++)
			g[i] -= f[i * N + j] * g[j];
		g[i] /= f[i * N + i];
	}
}

/* The gradient of rows, multiplied by v^(-1/4) if there are moments. */
static void plain_gradient(double *g, const float *dy, const float *h, int rows, const float *v)
{
	for (int o = 0; o < O; o++)
		for (int r = 0; r < R; r++) {
			double sum = 0.0;
			for (int m = 0; m < rows; m++)
				sum += (double)dy[m * O + o] * h[m * R + r] * SCALE;
			g[o * R + r] = v ? sum * pow((double)v[o * R + r], -0.25) : sum;
		}
}

static double expected(const float *dy_a, const float *h_a, const float *dy_b, const float *h_b,
		       const float *v, double damping)
{
	static double f[N * N];
	double a[N], b[N], token[N], trace = 0.0, dot = 0.0;
	float dy[ROWS * O], h[ROWS * R];
	memset(f, 0, sizeof f);
	fill(dy, h, ROWS, 0);
	for (int m = 0; m < ROWS; m++) {
		plain_gradient(token, dy + m * O, h + m * R, 1, v);
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++)
				f[i * N + j] += token[i] * token[j] / ROWS;
	}
	for (int i = 0; i < N; i++)
		trace += f[i * N + i] / N;
	for (int i = 0; i < N; i++)
		f[i * N + i] += damping * trace;
	plain_gradient(a, dy_a, h_a, LENGTH, v);
	plain_gradient(b, dy_b, h_b, LENGTH, v);
	solve(f, b);
	for (int i = 0; i < N; i++)
		dot += a[i] * b[i];
	return dot;
}

struct world {
	struct ol_pool *threads;
	struct ol_influence *influence;
	struct ol_config config;
	float dy[ROWS * O], h[ROWS * R], v[N];
};

static void open_world(struct world *w, bool adam)
{
	struct ol_lora_view views[2 * OL_LAYER_LINEARS + 1] = {0};
	const struct ol_adapter_view adapter = {views, R};
	const float *moments[2 * OL_LAYER_LINEARS + 1] = {0};
	struct ol_error err = {0};
	const int index = OL_LAYER_LINEARS + OL_LINEAR_UP; /* of the second layer */
	w->config = (struct ol_config){.layers = 2};
	views[index] = (struct ol_lora_view){.b.rows = O, .scale = SCALE, .rank = R};
	fill_moments(w->v);
	moments[index] = w->v;
	assert_int_equal(ol_pool_open(&w->threads, 2), OL_OK);
	const struct ol_influence_options options = {
		.threads = w->threads, .rows_max = ROWS, .second_moments = adam ? moments : NULL};
	if (ol_influence_open(&w->influence, &w->config, &adapter, &options, &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_int_equal(ol_influence_floats(w->influence), N);
}

static void close_world(struct world *w)
{
	ol_influence_close(w->influence);
	ol_pool_close(w->threads);
}

static void look(struct world *w, int rows)
{
	const struct ol_tape_view view = {
		.layer = 1, .linear = OL_LINEAR_UP, .rows = rows, .h = w->h, .dy = w->dy};
	ol_influence_observe(w->influence, &view);
}

static void gradient(struct world *w, uint32_t purpose, float *out)
{
	const int rows = LENGTH;
	ol_influence_collect(w->influence, &out, &rows, 1);
	fill(w->dy, w->h, rows, purpose);
	look(w, rows);
}

static void check_scores(bool adam)
{
	struct world w;
	const double damping = 0.2;
	float rows[QUERIES][N], dy[QUERIES][LENGTH * O], h[QUERIES][LENGTH * R];
	open_world(&w, adam);
	for (enum ol_influence_phase p = OL_INFLUENCE_FACTORS; p <= OL_INFLUENCE_EIGENVALUES; p++) {
		ol_influence_begin(w.influence, p);
		fill(w.dy, w.h, ROWS, 0);
		look(&w, ROWS);
		if (p == OL_INFLUENCE_FACTORS)
			assert_int_equal(ol_influence_factorise(w.influence, NULL), OL_OK);
	}
	ol_influence_precondition(w.influence, ROWS, damping);
	ol_influence_begin(w.influence, OL_INFLUENCE_GRADIENTS);
	for (uint32_t q = 0; q < QUERIES; q++) {
		gradient(&w, q + 1, rows[q]);
		fill(dy[q], h[q], LENGTH, q + 1);
	}
	for (int a = 0; a < QUERIES; a++)
		for (int b = 0; b < QUERIES; b++) {
			double dot = 0.0;
			for (int i = 0; i < N; i++)
				dot += (double)rows[a][i] * rows[b][i];
			const double right =
				expected(dy[a], h[a], dy[b], h[b], adam ? w.v : NULL, damping);
			const double size =
				expected(dy[a], h[a], dy[a], h[a], adam ? w.v : NULL, damping);
			assert_true(fabs(dot - right) < 1e-4 * size);
		}
	close_world(&w);
}

static void test_exact_where_fisher_is_kronecker(void **state)
{
	(void)state;
	check_scores(false);
	check_scores(true);
}

static void test_plain(void **state)
{
	struct world w;
	float row[N];
	double right[N];
	(void)state;
	open_world(&w, true);
	ol_influence_begin(w.influence, OL_INFLUENCE_PLAIN);
	gradient(&w, 9, row);
	plain_gradient(right, w.dy, w.h, LENGTH, NULL);
	for (int i = 0; i < N; i++)
		assert_true(fabs(row[i] - right[i]) < 1e-5);
	close_world(&w);
}

static void test_refusals(void **state)
{
	struct world w;
	struct ol_error err = {0};
	(void)state;
	open_world(&w, false);
	ol_influence_begin(w.influence, OL_INFLUENCE_FACTORS);
	fill(w.dy, w.h, ROWS, 0);
	w.dy[3] = NAN;
	look(&w, ROWS);
	assert_int_equal(ol_influence_factorise(w.influence, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "layer 1, up"));
	close_world(&w);

	struct ol_lora_view none[OL_LAYER_LINEARS + 1] = {0};
	const struct ol_adapter_view adapter = {none, 0};
	const struct ol_config config = {.layers = 1};
	const struct ol_influence_options options = {.rows_max = 1};
	struct ol_influence *influence;
	assert_int_equal(ol_influence_open(&influence, &config, &adapter, &options, &err),
			 OL_ERR_INPUT);
	assert_null(influence);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_where_fisher_is_kronecker),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
