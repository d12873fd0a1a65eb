/* Threads share a model and nothing else: two engines with workers of their own run at once,
 * each through every way, and both get the bits of the specification. Small enough for
 * ThreadSanitizer. */
#include "tests/support.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ENGINES = 2, TOKENS = 23 };

struct runner {
	const struct ol_model *model;
	const struct ol_timeline *timeline;
	const struct ol_kernels *kernels;
	float *logits;
	int threads;
	int wrong; /* out: how many ways gave other bits */
};

static void *run(void *argument)
{
	struct runner *r = argument;
	struct ol_engine *engine =
		ol_engine_for_test(r->model, r->kernels, r->threads, OL_KV_BF16, 1024);
	struct ol_dice dice = {(uint64_t)r->threads};
	for (int w = 0; w < ol_way_count; w++) {
		ol_ways[w].run(engine, r->timeline, &dice, r->logits);
		r->wrong += ol_first_difference(r->timeline, r->logits) >= 0;
	}
	ol_engine_close(engine);
	return NULL;
}

static void check_together(const struct ol_model *model, struct ol_timeline *t)
{
	struct runner runners[ENGINES];
	pthread_t threads[ENGINES];
	struct ol_engine *engine =
		ol_engine_for_test(model, ol_kernels_for(OL_ISA_SCALAR), 1, OL_KV_BF16, TOKENS);
	ol_way_decode(engine, t, NULL, t->logits);
	ol_engine_close(engine);
	for (int i = 0; i < ENGINES; i++) {
		runners[i] = (struct runner){model, t, ol_kernels_best(), NULL, 2 + i, 0};
		runners[i].logits = calloc((size_t)t->count, (size_t)t->vocab * sizeof(float));
		assert_non_null(runners[i].logits);
		assert_int_equal(pthread_create(&threads[i], NULL, run, &runners[i]), 0);
	}
	for (int i = 0; i < ENGINES; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(runners[i].wrong, 0);
		free(runners[i].logits);
	}
}

static void engines_share_a_model_and_nothing_else(void **state)
{
	static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_Q4};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(types); i++) {
		struct ol_model *model = NULL;
		struct ol_timeline t;
		struct ol_error err;
		/* The last shape, Gemma 3, has the most parts. */
		ol_must(ol_model_random(&model, &ol_shapes[ol_shape_count - 1].config, types[i], 1,
					&err),
			&err);
		ol_timeline_init(&t, model, TOKENS, 1);
		check_together(model, &t);
		ol_timeline_release(&t);
		ol_model_close(model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engines_share_a_model_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
