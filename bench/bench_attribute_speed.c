/* What attribution costs: beside the answer that it is of, and for large ledgers.
 *
 *     bench_attribute_speed [shape=m110|tiny] [prompt=32] [tokens=128] [rank=16] [layer=-1]
 *                           [threads=2] [payees=1000] [examples=100000] [corpus=1000000]
 *                           [rounds=5]
 *
 * A random base (q8) under a random adapter answers token by token; then the answer is attributed
 * with a ledger of random rows of 64,000 bytes: what is in a row does not change how long it takes.
 * layer: the lowest that is looked at (-1: a third of them). Medians of the rounds. The sketches of
 * `examples` and a corpus of `corpus` tokens are measured by themselves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attrib/answer.h"
#include "attrib/build.h"
#include "attrib/spans.h"
#include "base/arena.h"
#include "base/clock.h"
#include "math/functions.h"
#include "model/engine.h"

enum { ROUNDS_MAX = 100, LINEARS = 5, EXAMPLES = 64, TEXT = 64, SPAN_TEXT = 100 };

struct settings {
	struct ol_config config;
	const char *shape;
	int prompt, tokens, rank, layer, threads, payees, examples, corpus, rounds;
};

static void die(const struct ol_error *err)
{
	(void)fprintf(stderr, "bench_attribute_speed: %s\n", err->text);
	exit(1);
}

static void must(enum ol_status s, const struct ol_error *err)
{
	if (s != OL_OK)
		die(err);
}

static void *need(size_t bytes)
{
	void *block = ol_block_alloc(bytes);
	const struct ol_error full = {OL_ERR_FULL, "out of memory"};
	if (!block)
		die(&full);
	return block;
}

static uint64_t state = 1;
static uint32_t word(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

static float small(void)
{
	return ((float)(word() >> 8) * 0x1p-24f - 0.5f) * 0.02f;
}

static struct ol_config shape_of(const char *name)
{
	const bool tiny = strcmp(name, "tiny") == 0;
	return (struct ol_config){.arch = OL_ARCH_LLAMA,
				  .vocab_size = tiny ? 512 : 32000,
				  .hidden = tiny ? 128 : 768,
				  .ffn = tiny ? 256 : 2048,
				  .layers = tiny ? 3 : 12,
				  .heads = tiny ? 2 : 12,
				  .kv_heads = tiny ? 2 : 12,
				  .head_dim = 64,
				  .context_max = 4096,
				  .norm_eps = 1e-5f,
				  .embed_scale = 1.0f,
				  .attention_scale = 0.125f,
				  .rope_theta = 10000.0,
				  .rope_theta_local = 10000.0,
				  .rope_factor = 1.0,
				  .bos_id = 1,
				  .eos_ids = {2},
				  .eos_count = 1};
}

static struct ol_adapter *random_adapter(const struct settings *s)
{
	const int count = ol_linear_count(&s->config);
	struct ol_lora_tensors *tensors = calloc((size_t)count, sizeof *tensors);
	const struct ol_adapter_config about = {
		.rank = s->rank, .alpha = 2.0f * (float)s->rank, .targets = OL_TARGETS_ALL};
	struct ol_adapter *adapter;
	struct ol_error err;
	for (int i = 0; i + 1 < count; i++) {
		int outputs, inputs;
		ol_linear_shape(&s->config, (enum ol_linear)(i % OL_LAYER_LINEARS), &outputs,
				&inputs);
		const size_t a = (size_t)s->rank * (size_t)inputs;
		const size_t b = (size_t)outputs * (size_t)s->rank;
		uint16_t *x = malloc((a + b) * sizeof *x);
		for (size_t k = 0; k < a + b; k++)
			x[k] = ol_f32_to_bf16(small());
		tensors[i] = (struct ol_lora_tensors){s->rank, 2.0f, x, x + a};
	}
	must(ol_adapter_make(&adapter, &s->config, &about, tensors, &err), &err);
	for (int i = 0; i + 1 < count; i++)
		free((void *)(uintptr_t)tensors[i].a);
	free(tensors);
	return adapter;
}

/* ---- A ledger of the right size --------------------------------------------------------- */

static float *random_floats(size_t n)
{
	float *x = malloc((n + 1) * sizeof *x);
	for (size_t i = 0; i < n; i++)
		x[i] = small();
	return x;
}

/* As many directions of every linear as fit, evenly. */
static void make_parts(const struct settings *s, struct ol_index_content *c)
{
	static const enum ol_linear wanted[LINEARS] = {OL_LINEAR_Q, OL_LINEAR_K, OL_LINEAR_V,
						       OL_LINEAR_O, OL_LINEAR_DOWN};
	const int first = s->layer >= 0 ? s->layer : s->config.layers / 3;
	const int count = (s->config.layers - first) * LINEARS;
	struct ol_index_part *parts = calloc((size_t)count, sizeof *parts);
	uint32_t *begin = calloc((size_t)count + 1, sizeof *begin);
	const int room = (OL_INDEX_ROW_BYTES - 64 - (count * 4 + 63) / 64 * 64) / count / s->rank;
	for (int p = 0; p < count; p++) {
		const enum ol_linear linear = wanted[p % LINEARS];
		int outputs, inputs;
		ol_linear_shape(&s->config, linear, &outputs, &inputs);
		const int kept = OL_MIN(outputs, room);
		const size_t rank = (size_t)s->rank;
		parts[p] = (struct ol_index_part){first + p / LINEARS,
						  (int)linear,
						  outputs,
						  s->rank,
						  kept,
						  2.0f,
						  random_floats((size_t)outputs * (size_t)kept),
						  random_floats(rank * rank),
						  random_floats((size_t)kept * rank)};
		begin[p + 1] = begin[p] + (uint32_t)(kept * s->rank);
	}
	c->parts = parts;
	c->layout = (struct ol_row_layout){count, (int)begin[count], begin};
}

static uint8_t *random_rows(const struct ol_row_layout *layout, size_t count)
{
	const size_t stride = ol_row_bytes(layout), codes = ol_row_codes_at(layout);
	uint8_t *rows = need(count * stride);
	for (size_t i = 0; i < count; i++) {
		float *scales = (float *)(void *)(rows + i * stride);
		for (int p = 0; p < layout->parts; p++)
			scales[p] = 1e-3f;
		for (int v = 0; v < layout->values; v++)
			rows[i * stride + codes + (size_t)v] =
				(uint8_t)(int8_t)(word() % 255 - 127);
	}
	return rows;
}

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, OL_PAYEE_BYTES);
}

static void make_people(const struct settings *s, struct ol_index_content *c)
{
	struct ol_index_payee *payees = calloc((size_t)s->payees, sizeof *payees);
	struct ol_index_example *examples = calloc(EXAMPLES, sizeof *examples);
	char(*names)[24] = calloc((size_t)s->payees, sizeof *names);
	for (int i = 0; i < s->payees; i++) {
		(void)snprintf(names[i], sizeof names[i], "payee%d", i);
		payees[i].name = names[i];
		ol_payee_id(payees[i].id, names[i]);
	}
	qsort(payees, (size_t)s->payees, sizeof *payees, by_id);
	for (uint32_t i = 0; i < EXAMPLES; i++) {
		const uint32_t payee = i % (uint32_t)s->payees;
		examples[i] = (struct ol_index_example){"e", payee, i, TEXT, TEXT, 1.0f};
		payees[payee].examples++;
		payees[payee].clusters++;
	}
	c->payees = payees;
	c->payee_count = (uint32_t)s->payees;
	c->examples = examples;
	c->example_count = EXAMPLES;
}

static struct ol_index *make_index(const struct settings *s, const struct ol_model *model,
				   const struct ol_adapter *adapter, const char *path)
{
	struct ol_index_content c = {.answer_tokens = (uint64_t)EXAMPLES * TEXT, .energy = 0.5};
	struct ol_span_text texts[EXAMPLES];
	static int32_t tokens[EXAMPLES][TEXT];
	static uint8_t sketches[EXAMPLES * OL_SKETCH_BYTES];
	struct ol_span_build spans;
	struct ol_index *index;
	struct ol_error err = {0};
	uint8_t root[OL_SHA256_BYTES];
	ol_index_defaults(&c.settings, &s->config);
	memcpy(c.base_id, ol_model_id(model), sizeof c.base_id);
	memcpy(c.adapter_sha256, ol_adapter_sha256(adapter), sizeof c.adapter_sha256);
	(void)snprintf(c.arithmetic, sizeof c.arithmetic, "%s", OL_ARITHMETIC_VERSION);
	make_parts(s, &c);
	make_people(s, &c);
	for (int i = 0; i < EXAMPLES; i++) {
		texts[i] = (struct ol_span_text){tokens[i], TEXT};
		for (int t = 0; t < TEXT; t++)
			tokens[i][t] = (int32_t)(word() % (uint32_t)s->config.vocab_size);
	}
	must(ol_span_corpus_build(&spans, texts, EXAMPLES, (uint32_t)s->config.vocab_size, &err),
	     &err);
	c.spans = spans.corpus;
	c.sketches = sketches;
	c.example_rows = random_rows(&c.layout, EXAMPLES);
	c.payee_rows = random_rows(&c.layout, c.payee_count);
	must(ol_index_write(path, root, &c, &err), &err);
	must(ol_index_open(&index, path, root, &err), &err);
	(void)remove(path); /* it stays mapped */
	return index;
}

/* ---- The answer ------------------------------------------------------------------------- */

static double answer(const struct settings *s, const struct ol_model *model,
		     const struct ol_adapter *adapter, const int32_t *ids)
{
	const struct ol_engine_options options = {.threads = s->threads,
						  .kv_positions = s->prompt + s->tokens};
	struct ol_engine *engine;
	struct ol_session *session;
	struct ol_error err = {0};
	float *logits = need((size_t)s->config.vocab_size * sizeof *logits);
	must(ol_engine_open(&engine, model, &options, &err), &err);
	must(ol_session_open(&session, engine), &err);
	const double start = ol_clock_seconds();
	for (int done = 0; done < s->prompt + s->tokens - 1;) {
		const int count = done == 0 ? s->prompt : 1;
		struct ol_run run = {.session = session,
				     .tokens = ids + done,
				     .count = count,
				     .want = OL_LOGITS_LAST,
				     .logits = logits,
				     .adapter = ol_adapter_views(adapter)};
		must(ol_engine_step(engine, &run, 1, &err), &err);
		done += count;
	}
	const double seconds = ol_clock_seconds() - start;
	ol_session_close(session);
	ol_engine_close(engine);
	ol_block_free(logits, (size_t)s->config.vocab_size * sizeof *logits);
	return seconds;
}

static double attribute(struct ol_attributor *a, const struct settings *s,
			const struct ol_index *index, const struct ol_adapter *adapter,
			const int32_t *ids)
{
	struct ol_attribution out;
	struct ol_error err = {0};
	const struct ol_attribution_query q = {.index = index,
					       .adapter = adapter,
					       .prompt = ids,
					       .prompt_count = s->prompt,
					       .response = ids + s->prompt,
					       .response_count = s->tokens};
	const double start = ol_clock_seconds();
	must(ol_attribute(a, &out, &q, 1, &err), &err);
	const double seconds = ol_clock_seconds() - start;
	ol_attribution_release(&out);
	return seconds;
}

static void measure_answer(const struct settings *s)
{
	double answers[ROUNDS_MAX], attributions[ROUNDS_MAX];
	struct ol_model *model;
	struct ol_attributor *attributor;
	struct ol_error err = {0};
	int32_t *ids = calloc((size_t)(s->prompt + s->tokens), sizeof *ids);
	must(ol_model_random(&model, &s->config, OL_WEIGHT_Q8, 1, &err), &err);
	struct ol_adapter *adapter = random_adapter(s);
	struct ol_index *index = make_index(s, model, adapter, "bench-attribute-speed.index");
	const struct ol_attributor_options options = {
		.threads = s->threads, .rows_max = s->prompt + s->tokens, .rank_max = s->rank};
	must(ol_attributor_open(&attributor, model, &options, &err), &err);
	for (int i = 0; i < s->prompt + s->tokens; i++)
		ids[i] = 3 + (int32_t)(word() % (uint32_t)(s->config.vocab_size - 3));
	for (int r = -1; r < s->rounds; r++) { /* the first is not counted */
		answers[OL_MAX(r, 0)] = answer(s, model, adapter, ids);
		attributions[OL_MAX(r, 0)] = attribute(attributor, s, index, adapter, ids);
	}
	const double a = ol_median(answers, s->rounds), b = ol_median(attributions, s->rounds);
	const struct ol_index_content *c = ol_index_content(index);
	printf("%s, rank %d, %d linears from layer %d on, %d numbers (%zu bytes) a row, "
	       "%d threads\n",
	       s->shape, s->rank, c->layout.parts, c->parts[0].layer, c->layout.values,
	       ol_row_bytes(&c->layout), s->threads);
	printf("answer of %d tokens to %d at batch 1   %8.1f ms\n", s->tokens, s->prompt, 1e3 * a);
	printf("attributed among %d payees          %8.1f ms   %+.1f%%\n", s->payees, 1e3 * b,
	       100.0 * b / a);
	ol_attributor_close(attributor);
	ol_index_close(index);
	ol_adapter_close(adapter);
	ol_model_close(model);
	free(ids);
}

/* ---- By themselves ---------------------------------------------------------------------- */

struct scan {
	const struct ol_row_kernels *kernels;
	const struct ol_row_layout *layout;
	const uint8_t *asked, *rows;
	int count, pieces;
	bool sketches;
	double sums[OL_POOL_THREADS_MAX];
};

static void scan_piece(void *context, int index, int thread)
{
	struct scan *s = context;
	const int begin = (int)((int64_t)s->count * index / s->pieces);
	const int end = (int)((int64_t)s->count * (index + 1) / s->pieces);
	for (int i = begin; i < end; i++) {
		double out[OL_ROW_BLOCKS];
		if (s->sketches) {
			s->sums[thread] += ol_sketch_dot(s->kernels, s->asked,
							 s->rows + (size_t)i * OL_SKETCH_BYTES);
			continue;
		}
		ol_row_dot_blocks(s->kernels, s->layout, out, s->asked,
				  s->rows + (size_t)i * ol_row_bytes(s->layout));
		s->sums[thread] += out[0];
	}
}

static double measure_scan(const struct settings *s, struct scan *scan)
{
	double times[ROUNDS_MAX];
	struct ol_pool *pool;
	struct ol_error err = {0};
	must(ol_pool_open(&pool, s->threads), &err);
	scan->kernels = ol_row_kernels_for(ol_kernels_best()->isa);
	scan->pieces = 8 * s->threads;
	for (int r = -1; r < s->rounds; r++) {
		const double start = ol_clock_seconds();
		ol_pool_for(pool, scan->pieces, scan_piece, scan);
		times[OL_MAX(r, 0)] = ol_clock_seconds() - start;
	}
	ol_pool_close(pool);
	return ol_median(times, s->rounds);
}

static void measure_rows(const struct settings *s)
{
	const uint32_t begin[] = {0, 32000, 63872};
	const struct ol_row_layout layout = {2, 63872, begin};
	struct scan rows = {.layout = &layout,
			    .asked = random_rows(&layout, OL_ROW_BLOCKS),
			    .rows = random_rows(&layout, (size_t)s->payees),
			    .count = s->payees};
	printf("8 blocks x %d payees' rows of %zu bytes %8.2f ms\n", s->payees,
	       ol_row_bytes(&layout), 1e3 * measure_scan(s, &rows));
	uint8_t *sketches = need((size_t)s->examples * OL_SKETCH_BYTES);
	for (size_t i = 0; i < (size_t)s->examples * OL_SKETCH_BYTES; i += 4)
		sketches[i] = (uint8_t)(word() % 127);
	struct scan list = {
		.asked = sketches, .rows = sketches, .count = s->examples, .sketches = true};
	printf("%d sketches of %d bytes           %8.2f ms\n", s->examples, OL_SKETCH_BYTES,
	       1e3 * measure_scan(s, &list));
}

/* Words of very different frequencies, as in a language: the product of two uniform numbers. */
static int32_t common_word(uint32_t vocab)
{
	return (int32_t)((uint64_t)(word() % vocab) * (word() % vocab) / vocab);
}

static void measure_spans(const struct settings *s)
{
	enum { VOCAB = 4096, ANSWER = 256 };
	const uint32_t texts_count = (uint32_t)(s->corpus / SPAN_TEXT);
	int32_t *tokens = malloc((size_t)s->corpus * sizeof *tokens), answer_ids[ANSWER];
	struct ol_span_text *texts = calloc(texts_count, sizeof *texts);
	struct ol_span *spans = malloc(OL_SPANS_MAX * sizeof *spans);
	struct ol_span_build build;
	struct ol_error err = {0};
	double times[ROUNDS_MAX];
	int count = 0;
	for (int i = 0; i < s->corpus; i++)
		tokens[i] = common_word(VOCAB);
	for (uint32_t i = 0; i < texts_count; i++)
		texts[i] = (struct ol_span_text){tokens + (size_t)i * SPAN_TEXT, SPAN_TEXT};
	const double start = ol_clock_seconds();
	must(ol_span_corpus_build(&build, texts, texts_count, VOCAB, &err), &err);
	const double seconds = ol_clock_seconds() - start;
	const struct ol_span_corpus *c = &build.corpus;
	for (int r = -1; r < s->rounds; r++) {
		for (int t = 0; t < ANSWER; t++)
			answer_ids[t] = common_word(VOCAB);
		/* Pieces of 16 tokens out of the corpus. */
		for (int t = 0; t + 20 <= ANSWER; t += 20)
			memcpy(answer_ids + t, texts[word() % texts_count].tokens + word() % 80,
			       16 * sizeof *answer_ids);
		const double begun = ol_clock_seconds();
		must(ol_span_corpus_find(spans, &count, c, answer_ids, ANSWER, &err), &err);
		times[OL_MAX(r, 0)] = ol_clock_seconds() - begun;
	}
	const double bytes = (double)c->token_count * (c->token_bytes + 4.0) +
			     4.0 * (double)(c->example_count + 1 + c->vocab);
	printf("spans of %d tokens among %u        %8.3f ms   (%d found)\n", ANSWER, c->token_count,
	       1e3 * ol_median(times, s->rounds), count);
	printf("span index %.2f bytes a token, built at %.1f MB/s of its 16-bit tokens\n",
	       bytes / c->token_count, 2e-6 * c->token_count / seconds);
	ol_span_corpus_release(&build);
	free(spans);
	free(texts);
	free(tokens);
}

int main(int argc, char **argv)
{
	struct settings s = {.shape = "m110",
			     .prompt = 32,
			     .tokens = 128,
			     .rank = 16,
			     .layer = -1,
			     .threads = 2,
			     .payees = 1000,
			     .examples = 100000,
			     .corpus = 1000000,
			     .rounds = 5};
	const struct {
		const char *name;
		int *target;
	} options[] = {{"prompt", &s.prompt},     {"tokens", &s.tokens},   {"rank", &s.rank},
		       {"layer", &s.layer},       {"threads", &s.threads}, {"payees", &s.payees},
		       {"examples", &s.examples}, {"corpus", &s.corpus},   {"rounds", &s.rounds}};
	for (int i = 1; i < argc; i++) {
		const char *equals = strchr(argv[i], '=');
		const size_t length = equals ? (size_t)(equals - argv[i]) : 0;
		bool known = length == 5 && strncmp(argv[i], "shape", 5) == 0;
		if (known)
			s.shape = equals + 1;
		for (size_t k = 0; equals && k < OL_ARRAY_LEN(options); k++)
			if (strlen(options[k].name) == length &&
			    strncmp(argv[i], options[k].name, length) == 0) {
				*options[k].target = (int)strtol(equals + 1, NULL, 10);
				known = true;
			}
		if (!known) {
			struct ol_error err;
			(void)ol_fail(&err, OL_ERR_INPUT, "what is %s?", argv[i]);
			die(&err);
		}
	}
	s.rounds = OL_MIN(OL_MAX(s.rounds, 1), ROUNDS_MAX);
	s.corpus = OL_MAX(s.corpus, 100 * SPAN_TEXT);
	s.config = shape_of(s.shape);
	measure_answer(&s);
	measure_rows(&s);
	measure_spans(&s);
	return 0;
}
