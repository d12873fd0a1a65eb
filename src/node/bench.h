/* node/bench.h, floor 4: how fast this machine runs a model of a known shape, beside what the
 * machine could do at best. Random weights, so that anyone can repeat it (shapes:
 * bench/RESULTS.md). */
#ifndef OL_NODE_BENCH_H
#define OL_NODE_BENCH_H

#include "model/engine.h"

struct ol_bench_shape {
	const char *name;
	int hidden, ffn, layers, heads, kv_heads, vocab;
};
extern const struct ol_bench_shape ol_bench_shapes[]; /* "m110", "m430", "tiny" */
enum { OL_BENCH_SHAPES = 3 };
const struct ol_bench_shape *ol_bench_shape_find(const char *name); /* NULL: unknown */
struct ol_config ol_bench_config(const struct ol_bench_shape *shape, int context);

enum { OL_BENCH_BATCHES = 3, OL_BENCH_REPEATS_MAX = 64 };

struct ol_bench_options {
	const struct ol_bench_shape *shape;
	enum ol_weight_type type;
	int prefill_tokens; /* 512 */
	int decode_tokens;  /* 64: per stream, after an empty context, as llama-bench does */
	int repeats;        /* medians of so many */
	struct ol_engine_options engine;
	void (*progress)(const char *text); /* may be NULL */
};

struct ol_bench {
	double prefill_tps;                  /* logits of the last token only */
	int batches[OL_BENCH_BATCHES];       /* 1, 8, 32 */
	double decode_tps[OL_BENCH_BATCHES]; /* all streams together */
	/* All threads together, per second. */
	double peak_f32_flops, peak_bf16_flops, peak_int8_ops, peak_read;
	double prefill_ops, decode_read;    /* achieved, per second */
	double share_prefill, share_decode; /* of the peak that limits them */
	uint64_t parameters, weight_bytes;
	uint64_t peak_memory; /* bytes resident at most, whole process */
};

OL_MUST_CHECK enum ol_status ol_bench_run(struct ol_bench *bench,
					  const struct ol_bench_options *options,
					  struct ol_error *err);

#endif
