/* The heart of the product: a position's logits depend on the tokens up to it and on nothing else.
 *
 * For every architecture, weight type and KV type the scalar kernels decode a timeline token by
 * token on one thread. Every other way of running it (support.c), on every instruction set of this
 * machine, on 1, 2 and 4 threads, must give those bits again. OL_TEST_SLOW=1 runs the full matrix
 * (see ol_slow). */
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TOKENS = 43, MODEL_SEED = 20 };

static struct ol_model *random_model(const struct ol_config *config, enum ol_weight_type type)
{
	struct ol_model *model = NULL;
	struct ol_error err;
	ol_must(ol_model_random(&model, config, type, MODEL_SEED, &err), &err);
	return model;
}

/* Fills the timeline's logits by the specification: scalar kernels, one thread, token by token. */
static void specify(struct ol_timeline *t, const struct ol_model *model, enum ol_kv_type kv_type)
{
	const struct ol_kernels *scalar = ol_kernels_for(OL_ISA_SCALAR);
	struct ol_engine *engine = ol_engine_for_test(model, scalar, 1, kv_type, t->count);
	ol_way_decode(engine, t, NULL, t->logits);
	ol_engine_close(engine);
}

static void check_same(const struct ol_timeline *t, const float *logits,
		       const struct ol_model *model, const struct ol_kernels *kernels, int threads,
		       enum ol_kv_type kv_type, const char *way)
{
	const int at = ol_first_difference(t, logits);
	if (at >= 0)
		fail_msg(
			"%s, %s weights, %s cache, %s kernels, %d threads, %s: position %d differs",
			ol_arch_name(ol_model_config(model)->arch),
			ol_weight_type_name(ol_model_weight_type(model)), ol_kv_name(kv_type),
			kernels->name, threads, way, at);
}

/* Every `stride`-th way from `first` on through one engine. The buffer is soiled before each, so
 * that nothing passes by staying. */
static void run_ways(const struct ol_timeline *t, const struct ol_model *model,
		     const struct ol_kernels *kernels, int threads, enum ol_kv_type kv_type,
		     int first, int stride)
{
	const size_t size = (size_t)t->count * (size_t)t->vocab * sizeof(float);
	struct ol_engine *engine = ol_engine_for_test(model, kernels, threads, kv_type, 4096);
	struct ol_dice dice = {(uint64_t)(first + 100 * threads)};
	float *logits = malloc(size);
	assert_non_null(logits);
	for (int w = first % stride; w < ol_way_count; w += stride) {
		memset(logits, 0xff, size);
		ol_ways[w].run(engine, t, &dice, logits);
		check_same(t, logits, model, kernels, threads, kv_type, ol_ways[w].name);
	}
	assert_int_equal(ol_engine_pages_free(engine), ol_engine_pages_total(engine));
	free(logits);
	ol_engine_close(engine);
}

/* One timeline on every instruction set. In the fast test each visit takes the next thread count
 * and the next few ways, so that a run of the whole file comes by all of them many times. */
static void run_everywhere(const struct ol_timeline *t, const struct ol_model *model,
			   enum ol_kv_type kv_type)
{
	static const int thread_counts[] = {2, 1, 4};
	static int visit;
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_kernels *k = ol_kernels_for((enum ol_isa)isa);
		if (!k)
			continue;
		for (int n = 0; n < (ol_slow() ? 3 : 1); n++) {
			const int stride = ol_slow() ? 1 : isa == OL_ISA_SCALAR ? 8 : 4;
			run_ways(t, model, k, thread_counts[(visit + isa + n) % 3], kv_type,
				 visit + isa, stride);
		}
	}
	visit++;
}

static void run_matrix(enum ol_weight_type type)
{
	for (int a = 0; a < ol_shape_count; a++) {
		struct ol_model *model = random_model(&ol_shapes[a].config, type);
		for (int kv = 0; kv < OL_KV_TYPES; kv++) {
			struct ol_timeline t;
			if (!ol_slow() && kv != (a / 4 + (int)type) % OL_KV_TYPES)
				continue;
			ol_timeline_init(&t, model, TOKENS, (uint64_t)(a + 1));
			specify(&t, model, (enum ol_kv_type)kv);
			run_everywhere(&t, model, (enum ol_kv_type)kv);
			ol_timeline_release(&t);
		}
		ol_model_close(model);
	}
}

static void f32_weights_give_the_same_bits(void **state)
{
	(void)state;
	run_matrix(OL_WEIGHT_F32);
}

static void bf16_weights_give_the_same_bits(void **state)
{
	(void)state;
	run_matrix(OL_WEIGHT_BF16);
}

static void q8_weights_give_the_same_bits(void **state)
{
	(void)state;
	run_matrix(OL_WEIGHT_Q8);
}

static void q4_weights_give_the_same_bits(void **state)
{
	(void)state;
	run_matrix(OL_WEIGHT_Q4);
}

static void nf4_weights_give_the_same_bits(void **state)
{
	(void)state;
	run_matrix(OL_WEIGHT_NF4);
}

/* --- adapters ---------------------------------------------------------------- */

/* Ranks around a vector and a panel, and targets, of the timeline's adapter and of strangers'. */
static const struct {
	uint32_t targets;
	int rank;
} adapters[] = {
	{OL_TARGETS_ALL, 16},
	{OL_TARGETS_ALL | OL_TARGETS_HEAD, 5},
	{1u << OL_LINEAR_Q | 1u << OL_LINEAR_V, 33},
	{1u << OL_LINEAR_DOWN | OL_TARGETS_HEAD, 1},
	{1u << OL_LINEAR_UP, 64},
};

struct crew {
	struct ol_adapter *all[1 + OL_STRANGER_ADAPTERS];
	const struct ol_adapter_view *strangers[OL_STRANGER_ADAPTERS];
};

static void crew_init(struct crew *crew, struct ol_timeline *t, const struct ol_config *config,
		      int first)
{
	for (int i = 0; i <= OL_STRANGER_ADAPTERS; i++) {
		const size_t which = (size_t)(first + i) % OL_ARRAY_LEN(adapters);
		crew->all[i] = ol_adapter_for_test(config, adapters[which].targets,
						   adapters[which].rank, (uint64_t)(100 + i));
		if (i > 0)
			crew->strangers[i - 1] = ol_adapter_views(crew->all[i]);
	}
	t->adapter = ol_adapter_views(crew->all[0]);
	t->strangers = crew->strangers;
}

static void crew_release(struct crew *crew)
{
	for (int i = 0; i <= OL_STRANGER_ADAPTERS; i++)
		ol_adapter_close(crew->all[i]);
}

static void adapters_give_the_same_bits(void **state)
{
	int visit = 0;
	(void)state;
	for (int a = 0; a < ol_shape_count; a++)
		for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
			struct ol_timeline t;
			struct crew crew;
			if (!ol_slow() && (a + type) % OL_WEIGHT_TYPES >= 2)
				continue;
			struct ol_model *model =
				random_model(&ol_shapes[a].config, (enum ol_weight_type)type);
			ol_timeline_init(&t, model, TOKENS, (uint64_t)(a + 50));
			crew_init(&crew, &t, &ol_shapes[a].config, visit++);
			specify(&t, model, OL_KV_F32);
			run_everywhere(&t, model, OL_KV_F32);
			crew_release(&crew);
			ol_timeline_release(&t);
			ol_model_close(model);
		}
}

/* A timeline without an adapter keeps its bits among strangers that have some. */
static void strangers_adapters_change_nothing(void **state)
{
	const struct ol_config *config = &ol_shapes[1].config;
	struct ol_model *model = random_model(config, OL_WEIGHT_Q8);
	struct ol_timeline t;
	struct crew crew;
	(void)state;
	ol_timeline_init(&t, model, TOKENS, 8);
	specify(&t, model, OL_KV_F32);
	crew_init(&crew, &t, config, 0);
	t.adapter = NULL;
	run_everywhere(&t, model, OL_KV_F32);
	run_everywhere(&t, model, OL_KV_F32);
	crew_release(&crew);
	ol_timeline_release(&t);
	ol_model_close(model);
}

/* Every linear alone, in every layer or head, changes the logits: none is left out. */
static void every_linear_counts(void **state)
{
	const struct ol_config *config = &ol_shapes[4].config;
	struct ol_model *model = random_model(config, OL_WEIGHT_F32);
	struct ol_timeline base, adapted;
	(void)state;
	ol_timeline_init(&base, model, TOKENS, 8);
	ol_timeline_init(&adapted, model, TOKENS, 8);
	specify(&base, model, OL_KV_F32);
	for (int i = 0; i < OL_LINEARS; i++) {
		struct ol_adapter *adapter = ol_adapter_for_test(config, 1u << i, 3, 1);
		adapted.adapter = ol_adapter_views(adapter);
		specify(&adapted, model, OL_KV_F32);
		/* Attention over one position does not look at q and k. */
		assert_int_equal(ol_first_difference(&base, adapted.logits),
				 i == OL_LINEAR_Q || i == OL_LINEAR_K ? 1 : 0);
		ol_adapter_close(adapter);
	}
	ol_timeline_release(&base);
	ol_timeline_release(&adapted);
	ol_model_close(model);
}

static void check_crowd(const struct ol_model *model, const struct ol_timeline *t, int sessions,
			const struct ol_kernels *kernels, int threads)
{
	const size_t size = (size_t)t->count * (size_t)t->vocab * sizeof(float);
	struct ol_engine *engine = ol_engine_for_test(model, kernels, threads, OL_KV_F32, 4096);
	struct ol_dice dice = {(uint64_t)sessions};
	char way[64];
	float *logits = malloc(size);
	assert_non_null(logits);
	memset(logits, 0xff, size);
	ol_way_strangers(engine, t, &dice, logits, sessions);
	snprintf(way, sizeof way, "in a batch of %d", sessions);
	check_same(t, logits, model, kernels, threads, OL_KV_F32, way);
	free(logits);
	ol_engine_close(engine);
}

static void a_crowd_of_up_to_64_changes_nothing(void **state)
{
	const int few[] = {17, 64};
	const int many[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64};
	const int *sizes = ol_slow() ? many : few;
	const int size_count = ol_slow() ? (int)OL_ARRAY_LEN(many) : (int)OL_ARRAY_LEN(few);
	(void)state;
	for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
		/* The fast test gives each weight type another architecture. */
		for (int a = ol_slow() ? 0 : type; a < (ol_slow() ? ol_shape_count : type + 1);
		     a++) {
			struct ol_model *model =
				random_model(&ol_shapes[a].config, (enum ol_weight_type)type);
			struct ol_timeline t;
			struct crew crew;
			ol_timeline_init(&t, model, TOKENS, 99);
			crew_init(&crew, &t, &ol_shapes[a].config, type);
			specify(&t, model, OL_KV_F32);
			for (int i = 0; i < size_count; i++)
				for (int isa = (int)ol_first_isa(); isa < OL_ISAS; isa++)
					if (ol_kernels_for((enum ol_isa)isa))
						check_crowd(model, &t, sizes[i],
							    ol_kernels_for((enum ol_isa)isa), 2);
			crew_release(&crew);
			ol_timeline_release(&t);
			ol_model_close(model);
		}
	}
}

static void windows_of_every_length_give_the_same_bits(void **state)
{
	const int windows[] = {1, 2, 15, 16, 17, 31, TOKENS - 1, TOKENS};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(windows); i++) {
		struct ol_config config = ol_shapes[3].config;
		assert_int_equal(config.arch, OL_ARCH_MISTRAL);
		config.window = windows[i];
		struct ol_model *model = random_model(&config, OL_WEIGHT_F32);
		struct ol_timeline t;
		ol_timeline_init(&t, model, TOKENS, 5);
		specify(&t, model, OL_KV_F32);
		run_everywhere(&t, model, OL_KV_F32);
		ol_timeline_release(&t);
		ol_model_close(model);
	}
}

/* A window that is never full is no window; one that is full drops what it should. */
static void a_window_matters_only_when_it_is_full(void **state)
{
	struct ol_config config = ol_shapes[3].config;
	struct ol_timeline narrow, wide;
	(void)state;
	config.window = 20;
	struct ol_model *model = random_model(&config, OL_WEIGHT_F32);
	ol_timeline_init(&narrow, model, TOKENS, 5);
	specify(&narrow, model, OL_KV_F32);
	ol_model_close(model);
	config.window = TOKENS;
	model = random_model(&config, OL_WEIGHT_F32);
	ol_timeline_init(&wide, model, TOKENS, 5);
	specify(&wide, model, OL_KV_F32);
	ol_model_close(model);
	assert_int_equal(ol_first_difference(&narrow, wide.logits), 20);
	ol_timeline_release(&narrow);
	ol_timeline_release(&wide);
}

/* Past 4,096 positions: whole prefills in steps of several sizes, and a tail decoded token by
 * token. One small layer with a full and one with a 4,096 window, so that it takes seconds. */
static void check_long(const struct ol_kernels *kernels, int threads, enum ol_kv_type kv_type,
		       const struct ol_model *model, struct ol_timeline *t, bool specification)
{
	enum { TAIL = 40 };
	const struct ol_engine_options options = {.kernels = kernels,
						  .threads = threads,
						  .kv_type = kv_type,
						  .kv_positions = t->count + 16,
						  .step_rows = specification ? 512 : 700};
	const size_t vocab = (size_t)t->vocab;
	const int head = t->count - TAIL;
	float *logits =
		specification ? t->logits : calloc((size_t)t->count, vocab * sizeof *logits);
	struct ol_engine *engine = NULL;
	struct ol_session *session = NULL;
	struct ol_error err;
	assert_non_null(logits);
	ol_must(ol_engine_open(&engine, model, &options, &err), &err);
	ol_must(ol_session_open(&session, engine), NULL);
	ol_feed(engine, session, t->tokens, t->count, logits);
	if (!specification) {
		check_same(t, logits, model, kernels, threads, kv_type, "a long prefill");
		/* The tail again, over the kept cache. */
		memset(logits + (size_t)head * vocab, 0xff, (size_t)TAIL * vocab * sizeof *logits);
		ol_session_truncate(session, head);
		for (int i = head; i < t->count; i++)
			ol_feed(engine, session, t->tokens + i, 1, logits + (size_t)i * vocab);
		check_same(t, logits, model, kernels, threads, kv_type, "a long context's tail");
		free(logits);
	}
	ol_session_close(session);
	ol_engine_close(engine);
}

static void contexts_past_4096_give_the_same_bits(void **state)
{
	struct ol_config config = ol_shapes[6].config;
	const int count = ol_slow() ? 6000 : 4140;
	const struct ol_kernels *first = ol_kernels_for(ol_first_isa());
	(void)state;
	assert_int_equal(config.arch, OL_ARCH_GEMMA2);
	config.hidden = 20;
	config.ffn = 28;
	config.layers = 2;
	config.heads = config.kv_heads = 1;
	config.head_dim = 6;
	config.window = 4096;
	config.vocab_size = 35;
	config.attention_softcap = 0.0f; /* the slow scalar tanh is tried elsewhere */
	for (int kv = 0; kv < (ol_slow() ? OL_KV_TYPES : 1); kv++) {
		struct ol_model *model = random_model(&config, OL_WEIGHT_F32);
		struct ol_timeline t;
		ol_timeline_init(&t, model, count, 3);
		if (ol_slow())
			specify(&t, model, (enum ol_kv_type)kv);
		else
			check_long(first, 1, (enum ol_kv_type)kv, model, &t, true);
		for (int isa = (int)first->isa; isa < OL_ISAS; isa++)
			if (ol_kernels_for((enum ol_isa)isa))
				check_long(ol_kernels_for((enum ol_isa)isa), 2, (enum ol_kv_type)kv,
					   model, &t, false);
		ol_timeline_release(&t);
		ol_model_close(model);
	}
}

/* A full pool refuses without changing anybody; after making room the same step gives the same
 * bits. */
static void a_refused_step_leaves_no_trace(void **state)
{
	struct ol_model *model = random_model(&ol_shapes[2].config, OL_WEIGHT_Q8);
	struct ol_engine *engine = ol_engine_for_test(model, NULL, 2, OL_KV_F32, 64);
	struct ol_session *ours = NULL, *thief = NULL;
	struct ol_timeline t;
	struct ol_error err;
	(void)state;
	ol_timeline_init(&t, model, 50, 11);
	specify(&t, model, OL_KV_F32);
	float *logits = calloc((size_t)t.count * (size_t)t.vocab, sizeof *logits);
	assert_non_null(logits);
	ol_must(ol_session_open(&ours, engine), NULL);
	ol_must(ol_session_open(&thief, engine), NULL);
	ol_feed(engine, ours, t.tokens, 30, logits);
	ol_feed(engine, thief, t.tokens + 7, 30, NULL);
	struct ol_run run = {.session = ours,
			     .tokens = t.tokens + 30,
			     .count = 20,
			     .want = OL_LOGITS_ALL,
			     .logits = logits + 30 * t.vocab};
	assert_int_equal(ol_engine_step(engine, &run, 1, &err), OL_ERR_FULL);
	assert_int_equal(ol_session_length(ours), 30);
	assert_int_equal(ol_engine_pages_free(engine), 0);
	ol_session_close(thief);
	ol_must(ol_engine_step(engine, &run, 1, &err), &err);
	assert_int_equal(ol_first_difference(&t, logits), -1);

	const int32_t outside = t.vocab;
	run = (struct ol_run){.session = ours, .tokens = &outside, .count = 1};
	assert_int_equal(ol_engine_step(engine, &run, 1, &err), OL_ERR_INPUT);
	assert_int_equal(ol_session_length(ours), 50);
	ol_session_close(ours);
	ol_engine_close(engine);
	free(logits);
	ol_timeline_release(&t);
	ol_model_close(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(f32_weights_give_the_same_bits),
		cmocka_unit_test(bf16_weights_give_the_same_bits),
		cmocka_unit_test(q8_weights_give_the_same_bits),
		cmocka_unit_test(q4_weights_give_the_same_bits),
		cmocka_unit_test(nf4_weights_give_the_same_bits),
		cmocka_unit_test(adapters_give_the_same_bits),
		cmocka_unit_test(strangers_adapters_change_nothing),
		cmocka_unit_test(every_linear_counts),
		cmocka_unit_test(a_crowd_of_up_to_64_changes_nothing),
		cmocka_unit_test(windows_of_every_length_give_the_same_bits),
		cmocka_unit_test(a_window_matters_only_when_it_is_full),
		cmocka_unit_test(contexts_past_4096_give_the_same_bits),
		cmocka_unit_test(a_refused_step_leaves_no_trace),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
