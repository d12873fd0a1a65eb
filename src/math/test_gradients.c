/* The backward kernels compute gradients: each is compared with central finite differences of the
 * forward formula, written here once more in f64. (That all instruction sets agree bit for bit is
 * test_gradients_bits.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/functions.h"
#include "math/gradients.h"

static uint64_t random_state = 88172645463325252u;

static float random_float(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (float)(int32_t)random_state * 0x1p-31f;
}

static void fill(float *x, size_t n, float scale)
{
	for (size_t i = 0; i < n; i++)
		x[i] = scale * random_float();
}

/* A scalar function of `n` numbers, and what it needs beside them. */
struct function {
	double (*value)(const double *x, const void *context);
	const void *context;
	size_t n;
};

enum { NUMBERS_MAX = 4096 };

/* The gradient `got` against (f(x + h) - f(x - h)) / 2h, h = 1e-5: the error of the difference is
 * about 1e-10, so the tolerance is that of the f32 arithmetic under test. */
static void check_slopes(const char *what, const struct function *f, const float *x,
			 const float *got, double tolerance)
{
	static double at[NUMBERS_MAX];
	const double h = 1e-5;
	double largest = 0;
	assert_true(f->n <= NUMBERS_MAX);
	static double slope[NUMBERS_MAX];
	for (size_t i = 0; i < f->n; i++)
		at[i] = (double)x[i];
	for (size_t i = 0; i < f->n; i++) {
		at[i] = (double)x[i] + h;
		const double above = f->value(at, f->context);
		at[i] = (double)x[i] - h;
		const double below = f->value(at, f->context);
		at[i] = (double)x[i];
		slope[i] = (above - below) / (2 * h);
		largest = OL_MAX(largest, fabs(slope[i]));
	}
	assert_true(largest > 1e-3); /* a function that moves at all */
	for (size_t i = 0; i < f->n; i++)
		if (!(fabs(slope[i] - (double)got[i]) <= tolerance * largest)) {
			print_message("%s: slope %zu is %.9g, by differences %.9g\n", what, i,
				      (double)got[i], slope[i]);
			fail();
		}
}

static const struct ol_gradients *tables[OL_ISAS];
static int table_count;

/* --- matrices --------------------------------------------------------------------------------- */

struct product {
	int M, K, O;
	const float *w, *x, *dy; /* (O,K), (M,K), (M,O) */
};

static double product_of_x(const double *x, const void *context)
{
	const struct product *p = context;
	double sum = 0;
	for (int m = 0; m < p->M; m++)
		for (int o = 0; o < p->O; o++)
			for (int k = 0; k < p->K; k++)
				sum += (double)p->dy[m * p->O + o] * x[m * p->K + k] *
				       (double)p->w[o * p->K + k];
	return sum;
}

static double product_of_w(const double *w, const void *context)
{
	const struct product *p = context;
	double sum = 0;
	for (int m = 0; m < p->M; m++)
		for (int o = 0; o < p->O; o++)
			for (int k = 0; k < p->K; k++)
				sum += (double)p->dy[m * p->O + o] * (double)p->x[m * p->K + k] *
				       w[o * p->K + k];
	return sum;
}

static void test_matmul(void **state)
{
	(void)state;
	enum { M = 5, K = 35, O = 37 };
	static float w[O * K], x[M * K], dy[M * O], dx[M * K], dw[O * K];
	static float scratch[100000] __attribute__((aligned(64)));
	static uint8_t panels[O * K * 16] __attribute__((aligned(64)));
	uint8_t canonical[4 * K + 64];

	for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
		const struct ol_matrix matrix = {(enum ol_weight_type)type, O, K, panels};
		const struct product p = {M, K, O, w, x, dy};
		assert_true(ol_panels_bytes(matrix.type, O, K) <= sizeof panels);
		fill(w, O * K, 1.0f);
		fill(x, M * K, 1.0f);
		fill(dy, M * O, 1.0f);
		ol_panels_clear(panels, matrix.type, O, K);
		for (int o = 0; o < O; o++) {
			assert_true(ol_quantize_row(canonical, matrix.type, w + o * K, K));
			ol_pack_rows(panels, matrix.type, O, K, canonical, o, 1);
			ol_dequantize_row(w + o * K, matrix.type, canonical, K);
		}
		for (int i = 0; i < table_count; i++) {
			assert_true(tables[i]->matmul_dx_scratch(&matrix, M) <= 100000);
			tables[i]->matmul_dx(dx, K, dy, O, &matrix, M, 0, K, false, scratch);
			check_slopes("matmul_dx", &(struct function){product_of_x, &p, M * K}, x,
				     dx, 2e-6);
			memset(dw, 0, sizeof dw);
			tables[i]->matmul_dw(dw, dy, O, x, K, M, 0, O, K);
			check_slopes("matmul_dw", &(struct function){product_of_w, &p, O * K}, w,
				     dw, 2e-6);
		}
	}
}

static void test_sums_go_on(void **state)
{
	(void)state;
	for (int i = 0; i < table_count; i++) {
		const float dy[4] = {1, 2, 3, 4}, x[2] = {10, 100};
		float db[2] = {5, 6}, dw[4] = {1, 1, 1, 1};
		tables[i]->sum_rows(db, dy, 2, 2, 0, 2);
		assert_true(db[0] == 9 && db[1] == 12);
		tables[i]->matmul_dw(dw, dy, 2, x, 1, 2, 1, 2, 1);
		assert_true(dw[0] == 1 && dw[1] == 1 + 2 * 10 + 4 * 100 && dw[2] == 1);
		tables[i]->scale(db, dy, 0.5f, 2);
		assert_true(db[0] == 0.5f && db[1] == 1);
	}
}

/* --- rows ------------------------------------------------------------------------------------- */

struct row {
	int n;
	const float *a, *b, *dy; /* the other operands */
	double eps, cap;
	bool gelu;
};

static double norm_of_x(const double *x, const void *context)
{
	const struct row *p = context;
	double squares = 0, sum = 0;
	for (int i = 0; i < p->n; i++)
		squares += x[i] * x[i];
	const double r = 1 / sqrt(squares / p->n + p->eps);
	for (int i = 0; i < p->n; i++)
		sum += (double)p->dy[i] * x[i] * r * (double)p->a[i];
	return sum;
}

static double norm_of_weight(const double *w, const void *context)
{
	const struct row *p = context;
	double squares = 0, sum = 0;
	for (int i = 0; i < p->n; i++)
		squares += (double)p->a[i] * (double)p->a[i];
	const double r = 1 / sqrt(squares / p->n + p->eps);
	for (int i = 0; i < p->n; i++)
		sum += (double)p->dy[i] * (double)p->a[i] * r * w[i];
	return sum;
}

static void test_rmsnorm(void **state)
{
	(void)state;
	enum { N = 53 };
	float x[N], w[N], dy[N], dx[N], dw[N];
	for (int i = 0; i < table_count; i++) {
		fill(x, N, 2.0f);
		fill(w, N, 1.0f);
		fill(dy, N, 1.0f);
		const struct row p = {.n = N, .a = w, .dy = dy, .eps = 1e-2};
		const float r = tables[i]->rmsnorm_dx(dx, x, w, dy, N, 1e-2f, false);
		check_slopes("rmsnorm_dx", &(struct function){norm_of_x, &p, N}, x, dx, 2e-6);
		memset(dw, 0, sizeof dw);
		tables[i]->rmsnorm_dw(dw, dy, N, x, N, &r, 1, 0, N);
		const struct row q = {.n = N, .a = x, .dy = dy, .eps = 1e-2};
		check_slopes("rmsnorm_dw", &(struct function){norm_of_weight, &q, N}, w, dw, 1e-6);

		/* onto: added to what is there. */
		float onto[N];
		memcpy(onto, x, sizeof x);
		tables[i]->rmsnorm_dx(onto, x, w, dy, N, 1e-2f, true);
		for (int j = 0; j < N; j++)
			assert_true(onto[j] == x[j] + dx[j]);
	}
}

static double activation(double g, bool gelu)
{
	const double inner = 2 * sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g);
	return g / (1 + exp(-(gelu ? inner : g)));
}

static double gated(const double *x, const void *context)
{
	const struct row *p = context;
	double sum = 0;
	for (int i = 0; i < p->n; i++)
		sum += (double)p->dy[i] * activation(x[i], p->gelu) * x[p->n + i];
	return sum;
}

static void test_gates(void **state)
{
	(void)state;
	enum { N = 77 };
	float x[2 * N], dx[2 * N], dy[N];
	for (int i = 0; i < table_count; i++)
		for (int gelu = 0; gelu < 2; gelu++) {
			fill(x, 2 * N, 6.0f);
			fill(dy, N, 1.0f);
			x[0] = 0.0f;
			const struct row p = {.n = N, .dy = dy, .gelu = gelu != 0};
			(gelu ? tables[i]->gelu_mul_dx : tables[i]->silu_mul_dx)(dx, dx + N, x,
										 x + N, dy, N);
			check_slopes(gelu ? "gelu_mul_dx" : "silu_mul_dx",
				     &(struct function){gated, &p, 2 * N}, x, dx, 1e-6);

			/* They may overwrite their arguments. */
			(gelu ? tables[i]->gelu_mul_dx : tables[i]->silu_mul_dx)(x, x + N, x, x + N,
										 dy, N);
			assert_memory_equal(x, dx, sizeof x);

			/* Far out nothing becomes infinite or a NaN. */
			const float gate[4] = {-1e30f, 1e30f, -100.0f, 100.0f},
				    one[4] = {1, 1, 1, 1};
			float far[4], up[4];
			(gelu ? tables[i]->gelu_mul_dx : tables[i]->silu_mul_dx)(far, up, gate, one,
										 one, 4);
			assert_true(far[0] == 0 && far[1] == 1 && far[2] == 0 && far[3] == 1);
		}
}

static double capped(const double *x, const void *context)
{
	const struct row *p = context;
	double sum = 0;
	for (int i = 0; i < p->n; i++)
		sum += (double)p->dy[i] * p->cap * tanh(x[i] / p->cap);
	return sum;
}

static void test_softcap(void **state)
{
	(void)state;
	enum { N = 21 };
	float x[N], y[N], dy[N], dx[N];
	fill(x, N, 40.0f);
	fill(dy, N, 1.0f);
	memcpy(y, x, sizeof x);
	ol_kernels_for(OL_ISA_SCALAR)->softcap(y, 30.0f, N);
	const struct row p = {.n = N, .dy = dy, .cap = 30};
	for (int i = 0; i < table_count; i++) {
		tables[i]->softcap_dx(dx, dy, y, 30.0f, N);
		check_slopes("softcap_dx", &(struct function){capped, &p, N}, x, dx, 1e-6);
	}
}

static double entropy(const double *x, const void *context)
{
	const struct row *p = context;
	double sum = 0;
	for (int i = 0; i < p->n; i++)
		sum += exp(x[i] - x[3]);
	return p->cap * log(sum);
}

static void test_cross_entropy(void **state)
{
	(void)state;
	enum { N = 101 };
	float x[N], dx[N];
	double wide[N];
	for (int i = 0; i < table_count; i++) {
		fill(x, N, 5.0f);
		const struct row p = {.n = N, .cap = 0.125};
		for (int j = 0; j < N; j++)
			wide[j] = (double)x[j];
		const float loss = tables[i]->cross_entropy(dx, x, N, 3, 0.125f);
		assert_true(fabs((double)loss - 8 * entropy(wide, &p)) < 1e-5);
		check_slopes("cross_entropy", &(struct function){entropy, &p, N}, x, dx, 1e-6);
		assert_true(tables[i]->cross_entropy(NULL, x, N, 3, 0.125f) == loss);
		tables[i]->cross_entropy(x, x, N, 3, 0.125f);
		assert_memory_equal(x, dx, sizeof x);
	}
}

/* --- attention -------------------------------------------------------------------------------- */

enum { T = 19, D = 6, GROUP = 2, Q_ROW = GROUP * D + 1, KV_ROW = D + 2 };

struct attention {
	struct ol_attention a;
	float q[T * Q_ROW], k[T * KV_ROW], v[T * KV_ROW], out[T * Q_ROW], dout[T * Q_ROW];
	float dq[T * Q_ROW], dk[T * KV_ROW], dv[T * KV_ROW];
};

/* One query head at t; out (D) may be NULL. Returns out . dout. */
static double attend(double *out, const double *q, const double *k, const double *v,
		     const float *dout, const struct ol_attention *a, int t)
{
	const int first = a->window > 0 ? OL_MAX(0, t - a->window + 1) : 0;
	double p[T], sum = 0, dot = 0;
	for (int j = first; j <= t; j++) {
		double s = 0;
		for (int i = 0; i < D; i++)
			s += q[i] * k[j * KV_ROW + i];
		s *= (double)a->scale;
		if (a->softcap > 0)
			s = (double)a->softcap * tanh(s / (double)a->softcap);
		p[j] = exp(s);
		sum += p[j];
	}
	for (int i = 0; i < D; i++) {
		double o = 0;
		for (int j = first; j <= t; j++)
			o += p[j] / sum * v[j * KV_ROW + i];
		if (out)
			out[i] = o;
		dot += o * (double)dout[i];
	}
	return dot;
}

static void widen(double *to, const float *from, int n)
{
	for (int i = 0; i < n; i++)
		to[i] = (double)from[i];
}

static double attend_all(const struct attention *x, const double *q, const double *k,
			 const double *v)
{
	double sum = 0;
	for (int t = 0; t < T; t++)
		for (int g = 0; g < GROUP; g++)
			sum += attend(NULL, q + t * Q_ROW + g * D, k, v,
				      x->dout + t * Q_ROW + g * D, &x->a, t);
	return sum;
}

static double attention_of_q(const double *q, const void *context)
{
	const struct attention *x = context;
	double k[T * KV_ROW], v[T * KV_ROW];
	widen(k, x->k, T * KV_ROW);
	widen(v, x->v, T * KV_ROW);
	return attend_all(x, q, k, v);
}

static double attention_of_k(const double *k, const void *context)
{
	const struct attention *x = context;
	double q[T * Q_ROW], v[T * KV_ROW];
	widen(q, x->q, T * Q_ROW);
	widen(v, x->v, T * KV_ROW);
	return attend_all(x, q, k, v);
}

static double attention_of_v(const double *v, const void *context)
{
	const struct attention *x = context;
	double q[T * Q_ROW], k[T * KV_ROW];
	widen(q, x->q, T * Q_ROW);
	widen(k, x->k, T * KV_ROW);
	return attend_all(x, q, k, v);
}

static void fill_attention(struct attention *x, int window, float softcap)
{
	double q[T * Q_ROW], k[T * KV_ROW], v[T * KV_ROW], out[D];
	memset(x, 0, sizeof *x);
	x->a = (struct ol_attention){OL_KV_F32, D, GROUP, window, 0.7f, softcap};
	fill(x->q, T * Q_ROW, 1.5f);
	fill(x->k, T * KV_ROW, 1.5f);
	fill(x->v, T * KV_ROW, 1.0f);
	fill(x->dout, T * Q_ROW, 1.0f);
	widen(q, x->q, T * Q_ROW);
	widen(k, x->k, T * KV_ROW);
	widen(v, x->v, T * KV_ROW);
	for (int t = 0; t < T; t++)
		for (int g = 0; g < GROUP; g++) {
			const int at = t * Q_ROW + g * D;
			attend(out, q + at, k, v, x->dout + at, &x->a, t);
			for (int i = 0; i < D; i++)
				x->out[at + i] = (float)out[i];
		}
}

static void test_attention(void **state)
{
	(void)state;
	static struct attention x;
	static float scratch[200000] __attribute__((aligned(64)));
	static const int windows[] = {0, 1, 5, 17, 40};
	for (size_t w = 0; w < OL_ARRAY_LEN(windows); w++)
		for (int cap = 0; cap < 2; cap++)
			for (int i = 0; i < table_count; i++) {
				fill_attention(&x, windows[w], cap ? 0.9f : 0.0f);
				assert_true(tables[i]->attention_dx_scratch(&x.a, T) <= 200000);
				tables[i]->attention_dx(x.dq, x.dk, x.dv, x.q, x.k, x.v, x.out,
							x.dout, Q_ROW, KV_ROW, &x.a, T, scratch);
				/* With a window of one key the softmax has no slope. */
				if (windows[w] != 1) {
					check_slopes(
						"attention dq",
						&(struct function){attention_of_q, &x, T * Q_ROW},
						x.q, x.dq, 4e-6);
					check_slopes(
						"attention dk",
						&(struct function){attention_of_k, &x, T * KV_ROW},
						x.k, x.dk, 4e-6);
				}
				check_slopes("attention dv",
					     &(struct function){attention_of_v, &x, T * KV_ROW},
					     x.v, x.dv, 4e-6);
			}
}

/* --- the optimiser ---------------------------------------------------------------------------- */

static void test_sum_squares(void **state)
{
	(void)state;
	float x[1000];
	double sum = 0;
	fill(x, 1000, 3.0f);
	for (int i = 0; i < 1000; i++)
		sum += (double)x[i] * (double)x[i];
	for (int i = 0; i < table_count; i++) {
		assert_true(fabs(tables[i]->sum_squares(x, 1000) - sum) < 1e-9 * sum);
		assert_true(tables[i]->sum_squares(x, 0) == 0);
		/* f32 could not hold the square. */
		const float large[2] = {1e30f, 1e30f};
		assert_true(fabs(tables[i]->sum_squares(large, 2) / 2e60 - 1) < 1e-6);
	}
}

/* PyTorch's torch.optim.AdamW, in f64: w (1 - lr wd) - lr / c1 * m / (sqrt(v) / sqrt(c2) + eps). */
static void test_adamw_is_adamw(void **state)
{
	(void)state;
	enum { N = 37, STEPS = 30 };
	const double lr = 3e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.1;
	for (int i = 0; i < table_count; i++) {
		float w[N], m[N] = {0}, v[N] = {0}, g[N];
		double w2[N], m2[N] = {0}, v2[N] = {0}, power1 = 1, power2 = 1;
		fill(w, N, 1.0f);
		widen(w2, w, N);
		for (int step = 0; step < STEPS; step++) {
			fill(g, N, 1e-3f);
			power1 *= (double)(float)beta1;
			power2 *= (double)(float)beta2;
			const struct ol_adamw s = {(float)lr,           (float)beta1,
						   (float)beta2,        (float)eps,
						   (float)decay,        0.5f,
						   (float)(1 - power1), (float)(1 - power2)};
			tables[i]->adamw(w, m, v, g, N, &s);
			for (int j = 0; j < N; j++) {
				const double d = 0.5 * (double)g[j];
				w2[j] *= 1 - lr * decay;
				m2[j] = beta1 * m2[j] + (1 - beta1) * d;
				v2[j] = beta2 * v2[j] + (1 - beta2) * d * d;
				w2[j] -= lr / (1 - pow(beta1, step + 1)) * m2[j] /
					 (sqrt(v2[j]) / sqrt(1 - pow(beta2, step + 1)) + eps);
			}
		}
		for (int j = 0; j < N; j++)
			assert_true(fabs((double)w[j] - w2[j]) < 1e-6);
	}
}

/* --- dropout ---------------------------------------------------------------------------------- */

static void test_dropout(void **state)
{
	(void)state;
	enum { N = 10007 };
	static float x[N], y[N], again[N];
	struct ol_dropout key = {.rate = 0.25f, .seed = 7, .step = 3, .layer = 2, .module = 1};
	for (int j = 0; j < N; j++)
		x[j] = 3.0f;
	for (int i = 0; i < table_count; i++) {
		const struct ol_gradients *t = tables[i];
		int dropped = 0;
		key.rate = 0.25f;
		t->dropout(y, x, &key, 5, 9, N);
		for (int j = 0; j < N; j++) {
			assert_true(y[j] == 0.0f || y[j] == 4.0f);
			dropped += y[j] == 0.0f;
		}
		assert_true(abs(dropped - N / 4) < 220); /* five deviations */

		/* Another key, another mask; the same, the same. */
		t->dropout(again, x, &key, 5, 9, N);
		assert_memory_equal(y, again, sizeof y);
		for (int change = 0; change < 7; change++) {
			struct ol_dropout other = key;
			other.seed += change == 0 ? 1u : change == 1 ? UINT64_C(1) << 32 : 0;
			other.step += change == 2;
			other.layer += change == 3;
			other.module += change == 4;
			t->dropout(again, x, &other, 5 + (change == 5), 9 + (change == 6), N);
			int different = 0;
			for (int j = 0; j < N; j++)
				different += y[j] != again[j];
			assert_true(abs(different - N * 3 / 8) < 250);
		}
		key.rate = 0.0f;
		t->dropout(y, x, &key, 5, 9, N);
		assert_memory_equal(y, x, sizeof y);

		/* What stands in docs/ARITHMETIC.md, by hand. */
		const uint32_t seed[2] = {7, 0}, place[4] = {16, 3, 2 << 16 | 1, 9};
		uint32_t row[4], word[4];
		ol_philox(row, place, seed);
		const uint32_t counter[4] = {1, 5, 0, row[2]};
		ol_philox(word, counter, row);
		key.rate = 0.25f;
		t->dropout(y, x, &key, 5, 9, 8);
		for (int j = 0; j < 4; j++)
			assert_true((y[4 + j] == 0.0f) == (ol_unit_double(word[j]) < 0.25));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matmul),         cmocka_unit_test(test_sums_go_on),
		cmocka_unit_test(test_rmsnorm),        cmocka_unit_test(test_gates),
		cmocka_unit_test(test_softcap),        cmocka_unit_test(test_cross_entropy),
		cmocka_unit_test(test_attention),      cmocka_unit_test(test_sum_squares),
		cmocka_unit_test(test_adamw_is_adamw), cmocka_unit_test(test_dropout),
	};
	for (int isa = 0; isa < OL_ISAS; isa++)
		if (ol_gradients_for((enum ol_isa)isa))
			tables[table_count++] = ol_gradients_for((enum ol_isa)isa);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
