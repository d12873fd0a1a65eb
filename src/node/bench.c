#include "node/bench.h"

#include "base/clock.h"
#include "math/functions.h"
#include "math/peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

const struct ol_bench_shape ol_bench_shapes[OL_BENCH_SHAPES] = {
	{"m430", 1024, 4096, 24, 16, 4, 32000},
	{"m110", 768, 2048, 12, 12, 12, 32000},
	{"tiny", 128, 384, 2, 8, 4, 2048},
};

static const int batches[OL_BENCH_BATCHES] = {1, 8, 32};

/* Long enough for a steady clock, short enough for a person who waits. */
#define PEAK_SECONDS 0.3
#define PEAK_READ_BYTES ((size_t)1 << 30)

const struct ol_bench_shape *ol_bench_shape_find(const char *name)
{
	for (int i = 0; i < OL_BENCH_SHAPES; i++)
		if (strcmp(ol_bench_shapes[i].name, name) == 0)
			return &ol_bench_shapes[i];
	return NULL;
}

struct ol_config ol_bench_config(const struct ol_bench_shape *shape, int context)
{
	const int head_dim = shape->hidden / shape->heads;
	return (struct ol_config){
		.arch = OL_ARCH_LLAMA,
		.vocab_size = shape->vocab,
		.hidden = shape->hidden,
		.ffn = shape->ffn,
		.layers = shape->layers,
		.heads = shape->heads,
		.kv_heads = shape->kv_heads,
		.head_dim = head_dim,
		.context_max = context,
		.norm_eps = 1e-5f,
		.embed_scale = 1.0f,
		.attention_scale = (float)(1.0 / sqrt((double)head_dim)),
		.rope_theta = 10000.0,
		.rope_theta_local = 10000.0,
		.bos_id = 1,
	};
}

struct bench_state {
	const struct ol_bench_options *o;
	struct ol_engine *engine;
	float *logits;   /* (largest batch, vocab) */
	int32_t *tokens; /* (prefill)              */
	double times[OL_BENCH_REPEATS_MAX];
};

static void say(const struct ol_bench_options *o, const char *text)
{
	if (o->progress)
		o->progress(text);
}

static int32_t random_token(uint32_t i, int vocab)
{
	uint32_t words[4];
	ol_philox(words, (const uint32_t[4]){i, 0, 0, 0}, (const uint32_t[2]){2026, 0});
	return (int32_t)(words[0] % (uint32_t)vocab);
}

static enum ol_status prefill_once(struct bench_state *b, double *seconds, struct ol_error *err)
{
	struct ol_session *session;
	const int rows = ol_engine_step_rows(b->engine), n = b->o->prefill_tokens;
	enum ol_status s = ol_session_open(&session, b->engine);
	if (s != OL_OK)
		return ol_fail(err, s, "out of memory for a session");
	const double start = ol_clock_seconds();
	for (int done = 0; done < n && s == OL_OK; done += rows) {
		const int count = OL_MIN(rows, n - done);
		const bool last = done + count == n;
		struct ol_run run = {.session = session,
				     .tokens = b->tokens + done,
				     .count = count,
				     .want = last ? OL_LOGITS_LAST : OL_LOGITS_NONE,
				     .logits = b->logits};
		s = ol_engine_step(b->engine, &run, 1, err);
	}
	*seconds = ol_clock_seconds() - start;
	ol_session_close(session);
	return s;
}

/* One decoding of decode_tokens tokens in each of `batch` streams, from empty contexts. */
static enum ol_status decode_once(struct bench_state *b, int batch, double *seconds,
				  struct ol_error *err)
{
	const int vocab = ol_model_config(ol_engine_model(b->engine))->vocab_size;
	struct ol_session *sessions[32] = {0};
	struct ol_run runs[32];
	int32_t tokens[32];
	enum ol_status s = OL_OK;
	for (int i = 0; i < batch && s == OL_OK; i++)
		if (ol_session_open(&sessions[i], b->engine) != OL_OK)
			s = ol_fail(err, OL_ERR_FULL, "out of memory for a session");
	const double start = ol_clock_seconds();
	for (int t = 0; t < b->o->decode_tokens && s == OL_OK; t++) {
		for (int i = 0; i < batch; i++) {
			tokens[i] = random_token((uint32_t)(t * batch + i), vocab);
			runs[i] = (struct ol_run){.session = sessions[i],
						  .tokens = &tokens[i],
						  .count = 1,
						  .want = OL_LOGITS_LAST,
						  .logits = b->logits + (size_t)i * (size_t)vocab};
		}
		s = ol_engine_step(b->engine, runs, batch, err);
	}
	*seconds = ol_clock_seconds() - start;
	for (int i = 0; i < batch; i++)
		ol_session_close(sessions[i]);
	return s;
}

static enum ol_status measure(struct bench_state *b, struct ol_bench *out, struct ol_error *err)
{
	const struct ol_bench_options *o = b->o;
	char text[128];
	double warm_up;
	snprintf(text, sizeof text, "prefill of %d tokens", o->prefill_tokens);
	say(o, text);
	enum ol_status s = prefill_once(b, &warm_up, err);
	for (int r = 0; r < o->repeats && s == OL_OK; r++)
		s = prefill_once(b, &b->times[r], err);
	if (s != OL_OK)
		return s;
	out->prefill_tps = (double)o->prefill_tokens / ol_median(b->times, o->repeats);
	for (int i = 0; i < OL_BENCH_BATCHES; i++) {
		out->batches[i] = batches[i];
		snprintf(text, sizeof text, "decoding %d stream%s", batches[i],
			 batches[i] > 1 ? "s" : "");
		say(o, text);
		for (int r = 0; r < o->repeats && s == OL_OK; r++)
			s = decode_once(b, batches[i], &b->times[r], err);
		if (s != OL_OK)
			return s;
		out->decode_tps[i] = (double)batches[i] * (double)o->decode_tokens /
				     ol_median(b->times, o->repeats);
	}
	return OL_OK;
}

/* Multiply-adds count two. One prefilled token passes every matrix once, but for the output head,
 * which sees the last token only; attention is left out, as everywhere in this field. */
static double prefill_ops_per_token(const struct ol_model *model, int prefill_tokens)
{
	const struct ol_config *c = ol_model_config(model);
	const double head = (double)c->vocab_size * (double)c->hidden;
	const double q = (double)c->heads * c->head_dim, kv = (double)c->kv_heads * c->head_dim;
	const double layer = (double)c->hidden * (2 * q + 2 * kv + 3.0 * (double)c->ffn);
	return 2.0 * (layer * (double)c->layers + head / (double)prefill_tokens);
}

static enum ol_status measure_peaks(struct ol_bench *out, const struct ol_bench_options *o,
				    int threads, struct ol_error *err)
{
	struct ol_pool *pool;
	say(o, "the machine's peaks");
	if (ol_pool_open(&pool, threads) != OL_OK)
		return ol_fail(err, OL_ERR_FULL, "out of memory for threads");
	out->peak_f32_flops = ol_peak_ops_pool(pool, OL_PEAK_F32, PEAK_SECONDS);
	out->peak_int8_ops = ol_peak_ops_pool(pool, OL_PEAK_INT8, PEAK_SECONDS);
	out->peak_bf16_flops = ol_peak_ops_pool(pool, OL_PEAK_BF16, PEAK_SECONDS);
	out->peak_read = ol_peak_read(pool, PEAK_READ_BYTES, PEAK_SECONDS);
	ol_pool_close(pool);
	return OL_OK;
}

static double peak_of_type(const struct ol_bench *b, enum ol_weight_type type)
{
	switch (type) {
	case OL_WEIGHT_F32: return b->peak_f32_flops;
	case OL_WEIGHT_BF16: return b->peak_bf16_flops;
	case OL_WEIGHT_Q8:
	case OL_WEIGHT_Q4:
	case OL_WEIGHT_NF4: return b->peak_int8_ops;
	}
	OL_UNREACHABLE();
}

/* Before the peaks are measured, which takes a gibibyte of its own. */
static void note_memory(struct ol_bench *out, const struct ol_model *model)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	out->parameters = ol_model_parameters(model);
	out->weight_bytes = ol_model_nominal_bytes(model);
	out->peak_memory = (uint64_t)usage.ru_maxrss * 1024;
}

static void compare_with_peaks(struct ol_bench *out, const struct ol_model *model,
			       const struct ol_bench_options *o)
{
	out->prefill_ops = out->prefill_tps * prefill_ops_per_token(model, o->prefill_tokens);
	out->decode_read = out->decode_tps[0] * (double)out->weight_bytes;
	out->share_prefill = out->prefill_ops / peak_of_type(out, o->type);
	out->share_decode = out->decode_read / out->peak_read;
}

enum ol_status ol_bench_run(struct ol_bench *bench, const struct ol_bench_options *options,
			    struct ol_error *err)
{
	const int most =
		OL_MAX(options->prefill_tokens, batches[2] * (options->decode_tokens + OL_KV_PAGE));
	const struct ol_config config = ol_bench_config(options->shape, most);
	struct ol_engine_options engine = options->engine;
	struct bench_state b = {.o = options};
	struct ol_model *model = NULL;
	OL_ASSERT(options->repeats >= 1 && options->repeats <= OL_BENCH_REPEATS_MAX);
	*bench = (struct ol_bench){0};
	say(options, "making random weights");
	enum ol_status s = ol_model_random(&model, &config, options->type, 1, err);
	engine.kv_positions = most;
	if (s == OL_OK)
		s = ol_engine_open(&b.engine, model, &engine, err);
	if (s == OL_OK) {
		b.logits =
			malloc((size_t)batches[2] * (size_t)config.vocab_size * sizeof *b.logits);
		b.tokens = malloc((size_t)options->prefill_tokens * sizeof *b.tokens);
		if (!b.logits || !b.tokens)
			s = ol_fail(err, OL_ERR_FULL,
				    "out of memory for the logits of the benchmark");
	}
	for (int i = 0; i < options->prefill_tokens && s == OL_OK; i++)
		b.tokens[i] = random_token((uint32_t)i, config.vocab_size);
	if (s == OL_OK)
		s = measure(&b, bench, err);
	const int threads = engine.threads ? engine.threads : ol_processor_count();
	if (s == OL_OK)
		note_memory(bench, model);
	if (s == OL_OK)
		s = measure_peaks(bench, options, threads, err);
	if (s == OL_OK)
		compare_with_peaks(bench, model, options);
	free(b.tokens);
	free(b.logits);
	ol_engine_close(b.engine);
	ol_model_close(model);
	return s;
}
