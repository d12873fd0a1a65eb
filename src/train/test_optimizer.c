/* AdamW over a list of tensors, against the textbook in f64, and its independence of threads. */
#include "train/optimizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct ol_optimizer_settings settings = {.learning_rate = 0.01f,
						      .beta1 = 0.9f,
						      .beta2 = 0.99f,
						      .eps = 1e-8f,
						      .weight_decay = 0.1f,
						      .clip_norm = 1};

static float noise(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(*state >> 40) * 0x1p-23 - 1);
}

/* Out of order on purpose; one is frozen, one does not decay, one has many pieces. */
static void make_params(struct ol_params *params)
{
	static const struct ol_param made[] = {
		{.name = "layers.2.q", .rows = 33, .cols = 7, .trained = true, .decays = true},
		{.name = "layers.10.q", .rows = 200, .cols = 1001, .trained = true, .decays = true},
		{.name = "embed", .rows = 3, .cols = 5, .trained = false, .decays = true},
		{.name = "final_norm", .rows = 1, .cols = 37, .trained = true, .decays = false},
	};
	struct ol_param *list = malloc(sizeof made);
	assert_non_null(list);
	memcpy(list, made, sizeof made);
	assert_int_equal(ol_params_init(params, list, 4, NULL), OL_OK);
	uint64_t dice = 1;
	for (int i = 0; i < params->count; i++)
		for (size_t k = 0; k < params->list[i].count; k++)
			params->w[params->list[i].offset + k] = noise(&dice);
}

static void make_gradients(struct ol_params *params, int step)
{
	uint64_t dice = (uint64_t)step * 77 + 5;
	for (int i = 0; i < params->count; i++)
		for (size_t k = 0; k < params->list[i].count; k++)
			params->g[params->list[i].offset + k] = 0.1f * noise(&dice);
}

static void test_tensors_ascend_and_are_found(void **state)
{
	(void)state;
	struct ol_params params;
	make_params(&params);
	static const char *const names[] = {"embed", "final_norm", "layers.10.q", "layers.2.q"};
	for (int i = 0; i < 4; i++) {
		assert_string_equal(params.list[i].name, names[i]);
		assert_int_equal(ol_params_find(&params, names[i]), i);
		assert_int_equal(params.list[i].offset % 16, 0);
	}
	assert_int_equal(ol_params_find(&params, "layers.2.k"), -1);
	assert_int_equal(ol_params_trained(&params), 33 * 7 + 200 * 1001 + 37);
	/* The pieces cover every row once. */
	int rows[4] = {0};
	for (int i = 0; i < params.piece_count; i++) {
		assert_int_equal(params.pieces[i].row0, rows[params.pieces[i].param]);
		rows[params.pieces[i].param] += params.pieces[i].rows;
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(rows[i], params.list[i].rows);
	ol_params_release(&params);
}

/* Loshchilov and Hutter, algorithm 2, in f64. */
struct textbook {
	double *w, *m, *v;
	int t;
};

static void textbook_step(struct textbook *b, const struct ol_params *params)
{
	double squares = 0;
	for (int i = 0; i < params->count; i++)
		for (size_t k = 0; k < params->list[i].count && params->list[i].trained; k++) {
			const double g = (double)params->g[params->list[i].offset + k];
			squares += g * g;
		}
	const double clip = fmin(1, (double)settings.clip_norm / sqrt(squares));
	const double b1 = (double)settings.beta1, b2 = (double)settings.beta2;
	b->t++;
	for (int i = 0; i < params->count; i++) {
		const struct ol_param *p = &params->list[i];
		const double decay = p->decays ? (double)settings.weight_decay : 0;
		for (size_t k = p->offset; k < p->offset + p->count && p->trained; k++) {
			const double g = clip * (double)params->g[k];
			b->m[k] = b1 * b->m[k] + (1 - b1) * g;
			b->v[k] = b2 * b->v[k] + (1 - b2) * g * g;
			const double m = b->m[k] / (1 - pow(b1, b->t));
			const double v = b->v[k] / (1 - pow(b2, b->t));
			b->w[k] -= (double)settings.learning_rate *
				   (m / (sqrt(v) + (double)settings.eps) + decay * b->w[k]);
		}
	}
}

static void test_ten_steps_are_the_textbooks(void **state)
{
	(void)state;
	struct ol_params params;
	struct ol_pool *pool;
	make_params(&params);
	assert_int_equal(ol_pool_open(&pool, 2), OL_OK);
	struct textbook book = {calloc(params.floats, sizeof(double)),
				calloc(params.floats, sizeof(double)),
				calloc(params.floats, sizeof(double)), 0};
	for (size_t k = 0; k < params.floats; k++)
		book.w[k] = (double)params.w[k];
	struct ol_optimizer optimizer = {1, 1};
	const struct ol_gradients *kernels = ol_gradients_for(OL_ISA_SCALAR);
	for (int step = 0; step < 10; step++) {
		make_gradients(&params, step);
		const double norm = ol_params_norm(&params, pool, kernels);
		ol_optimizer_step(&optimizer, &params, pool, kernels, &settings, norm);
		textbook_step(&book, &params);
	}
	for (size_t k = 0; k < params.floats; k++)
		if (fabs((double)params.w[k] - book.w[k]) > 2e-6)
			fail_msg("%zu: %.9g, the textbook says %.9g", k, (double)params.w[k],
				 book.w[k]);
	/* A frozen tensor has not moved. */
	struct ol_params fresh;
	make_params(&fresh);
	assert_memory_equal(params.w, fresh.w, params.list[0].count * sizeof(float));
	ol_params_release(&fresh);
	free(book.w);
	free(book.m);
	free(book.v);
	ol_pool_close(pool);
	ol_params_release(&params);
}

static void run_steps(struct ol_params *params, int threads, enum ol_isa isa, double *norms)
{
	struct ol_pool *pool;
	struct ol_optimizer optimizer = {1, 1};
	make_params(params);
	assert_int_equal(ol_pool_open(&pool, threads), OL_OK);
	for (int step = 0; step < 3; step++) {
		ol_params_clear_gradients(params, pool);
		for (size_t k = params->list[1].offset; k < params->floats; k++)
			assert_true(params->g[k] == 0);
		make_gradients(params, step);
		norms[step] = ol_params_norm(params, pool, ol_gradients_for(isa));
		ol_optimizer_step(&optimizer, params, pool, ol_gradients_for(isa), &settings,
				  norms[step]);
	}
	ol_pool_close(pool);
}

static void test_threads_and_instruction_sets_do_not_matter(void **state)
{
	(void)state;
	struct ol_params first;
	double norms[3];
	run_steps(&first, 1, OL_ISA_SCALAR, norms);
	for (int isa = 0; isa < OL_ISAS; isa++)
		for (int threads = 1; threads <= 4 && ol_gradients_for((enum ol_isa)isa);
		     threads++) {
			struct ol_params again;
			double other[3];
			run_steps(&again, threads, (enum ol_isa)isa, other);
			assert_memory_equal(norms, other, sizeof norms);
			const size_t bytes = first.floats * sizeof(float);
			assert_memory_equal(first.w, again.w, bytes);
			assert_memory_equal(first.m, again.m, bytes);
			assert_memory_equal(first.v, again.v, bytes);
			ol_params_release(&again);
		}
	ol_params_release(&first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tensors_ascend_and_are_found),
		cmocka_unit_test(test_ten_steps_are_the_textbooks),
		cmocka_unit_test(test_threads_and_instruction_sets_do_not_matter),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
