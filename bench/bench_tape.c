/* Forward and backward of LoRA over a random base: tokens per second, and operations as a share of
 * what the machine's fmas reach in the same run.
 *
 *     bench_tape [shape=m110|m430|1b] [type=f32|bf16|q8|nf4] [tokens=256] [sequences=1] [rank=16]
 *                [threads=2] [rounds=5] [recompute] [full]
 *
 * Rank `rank` on q k v o gate up down; every token is a target; A and B both get gradients; what is
 * below the lowest of them is left out. Medians of the rounds, by the clock on the wall and, since
 * machines are shared, by the processor time of the threads. Operations: the base's matmuls there
 * and back, the adapters', attention over visible pairs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/arena.h"
#include "base/clock.h"
#include "math/peak.h"
#include "model/tape.h"

enum { ROUNDS_MAX = 100, SEQUENCES_MAX = 256 };

struct settings {
	struct ol_config config;
	enum ol_weight_type type;
	int tokens, sequences, rank, threads, rounds;
	bool recompute, full;
};

static const struct {
	const char *name;
	int hidden, ffn, layers, heads, kv_heads, vocab;
	bool tied;
} shapes[] = {
	{"m110", 768, 2048, 12, 12, 12, 32000, false},
	{"m430", 1024, 4096, 24, 16, 4, 32000, false},
	{"1b", 2048, 8192, 16, 32, 8, 128256, true},
};

static void die(const char *what)
{
	fprintf(stderr, "bench_tape: %s\n", what);
	exit(1);
}

static void *need(size_t bytes)
{
	void *block = ol_block_alloc(bytes);
	if (!block)
		die("out of memory");
	return block;
}

static bool take_shape(struct settings *s, const char *name)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		if (strcmp(name, shapes[i].name) == 0) {
			s->config = (struct ol_config){
				.arch = OL_ARCH_LLAMA,
				.vocab_size = shapes[i].vocab,
				.hidden = shapes[i].hidden,
				.ffn = shapes[i].ffn,
				.layers = shapes[i].layers,
				.heads = shapes[i].heads,
				.kv_heads = shapes[i].kv_heads,
				.head_dim = shapes[i].hidden / shapes[i].heads,
				.context_max = 8192,
				.tied_embeddings = shapes[i].tied,
				.norm_eps = 1e-5f,
				.embed_scale = 1.0f,
				.attention_scale = 0.125f,
				.rope_theta = 10000.0,
				.rope_theta_local = 10000.0,
				.bos_id = 1,
				.eos_ids = {2},
				.eos_count = 1,
			};
			return true;
		}
	return false;
}

static struct settings take_arguments(int count, char **words)
{
	struct settings s = {.tokens = 256, .sequences = 1, .rank = 16, .threads = 2, .rounds = 5};
	take_shape(&s, "m110");
	for (int i = 1; i < count; i++) {
		const char *equals = strchr(words[i], '='), *value = equals ? equals + 1 : "";
		const size_t length = equals ? (size_t)(equals - words[i]) : strlen(words[i]);
		const int number = (int)strtol(value, NULL, 10);
		const struct {
			const char *name;
			int *place;
		} numbers[] = {{"tokens", &s.tokens},
			       {"sequences", &s.sequences},
			       {"rank", &s.rank},
			       {"threads", &s.threads},
			       {"rounds", &s.rounds}};
		bool known = false;
		for (size_t n = 0; n < OL_ARRAY_LEN(numbers); n++)
			if (strlen(numbers[n].name) == length &&
			    strncmp(words[i], numbers[n].name, length) == 0) {
				*numbers[n].place = number;
				known = number > 0;
			}
		if (strncmp(words[i], "shape=", 6) == 0)
			known = take_shape(&s, value);
		else if (strncmp(words[i], "type=", 5) == 0)
			known = ol_weight_type_parse(&s.type, value);
		else if (strcmp(words[i], "recompute") == 0)
			known = s.recompute = true;
		else if (strcmp(words[i], "full") == 0)
			known = s.full = true;
		if (!known)
			die(words[i]);
	}
	if (s.sequences > SEQUENCES_MAX || s.rounds > ROUNDS_MAX || s.tokens % s.sequences)
		die("too many sequences or rounds, or tokens that cannot be shared out");
	return s;
}

/* --- what is trained ------------------------------------------------------- */

static struct ol_matrix random_matrix(int rows, int cols, uint32_t *state)
{
	float *row = need((size_t)cols * sizeof *row);
	uint8_t *panels = need(ol_panels_bytes(OL_WEIGHT_F32, rows, cols));
	for (int r = 0; r < rows; r++) {
		for (int c = 0; c < cols; c++) {
			*state = *state * 1664525u + 1013904223u;
			row[c] = ((float)(*state >> 8) * 0x1p-24f - 0.5f) * 0.02f;
		}
		ol_pack_rows(panels, OL_WEIGHT_F32, rows, cols, row, r, 1);
	}
	ol_block_free(row, (size_t)cols * sizeof *row);
	return (struct ol_matrix){OL_WEIGHT_F32, rows, cols, panels};
}

static void shape_of(const struct ol_config *c, enum ol_linear linear, int *outputs, int *inputs)
{
	const int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	const int rows[] = {q, kv, kv, c->hidden, c->ffn, c->ffn, c->hidden, c->vocab_size};
	*outputs = rows[linear];
	*inputs = linear == OL_LINEAR_O ? q : linear == OL_LINEAR_DOWN ? c->ffn : c->hidden;
}

static struct ol_lora_view *make_adapter(const struct settings *s, struct ol_lora_gradient *g)
{
	const struct ol_config *c = &s->config;
	struct ol_lora_view *views = need((size_t)ol_linear_count(c) * sizeof *views);
	uint32_t state = 1;
	for (int l = 0; l < c->layers; l++)
		for (int i = 0; i < OL_LAYER_LINEARS; i++) {
			const int index = ol_linear_index(c, l, (enum ol_linear)i);
			int outputs, inputs;
			shape_of(c, (enum ol_linear)i, &outputs, &inputs);
			views[index] = (struct ol_lora_view){
				random_matrix(s->rank, inputs, &state),
				random_matrix(outputs, s->rank, &state), 2.0f, s->rank};
			g[index].a = need((size_t)(s->rank * inputs) * sizeof(float));
			g[index].b = need((size_t)(s->rank * outputs) * sizeof(float));
		}
	return views;
}

static struct ol_weight_gradients make_gradients(const struct ol_config *c)
{
	const size_t f = sizeof(float), hidden = (size_t)c->hidden;
	struct ol_weight_gradients g = {
		.embed = need((size_t)c->vocab_size * hidden * f),
		.head = need((size_t)c->vocab_size * hidden * f),
		.final_norm = need(hidden * f),
		.layers = need((size_t)c->layers * sizeof *g.layers),
	};
	for (int l = 0; l < c->layers; l++) {
		g.layers[l].attention_norm = need(hidden * f);
		g.layers[l].ffn_norm = need(hidden * f);
		for (int i = 0; i < OL_LAYER_LINEARS; i++) {
			int outputs, inputs;
			shape_of(c, (enum ol_linear)i, &outputs, &inputs);
			g.layers[l].linears[i] = need((size_t)outputs * (size_t)inputs * f);
		}
	}
	return g;
}

/* Operations of one step. */
static double operations(const struct settings *s)
{
	const struct ol_config *c = &s->config;
	const double length = (double)s->tokens / s->sequences, tokens = s->tokens;
	const double pairs = length * (length + 1) / 2 * s->sequences * c->heads * c->head_dim;
	double sum = 0.0;
	for (int i = 0; i < OL_LINEARS; i++) {
		const int times = i == OL_LINEAR_HEAD ? 1 : c->layers;
		/* The input of layer 0 wants no gradient. */
		const int back = i <= OL_LINEAR_V && !s->full ? times - 1 : times;
		int outputs, inputs;
		shape_of(c, (enum ol_linear)i, &outputs, &inputs);
		const double base = 2.0 * outputs * inputs, lora = 2.0 * s->rank;
		sum += tokens * base * (times + back + (s->full ? times : 0));
		if (i != OL_LINEAR_HEAD && !s->full)
			sum += tokens * times * lora * 3 * (outputs + inputs);
	}
	return sum + c->layers * pairs * 2 * (2 + 5);
}

/* Seconds of processor time of all threads: what neighbours take does not count. */
static double busy_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
	const struct settings s = take_arguments(argc, argv);
	struct ol_error err;
	struct ol_model *model;
	struct ol_tape *tape;
	const struct ol_tape_options options = {.threads = s.threads,
						.rows_max = s.tokens,
						.rank_max = s.full ? 0 : s.rank,
						.full = s.full,
						.recompute = s.recompute};
	if (ol_model_random(&model, &s.config, s.type, 1, &err) != OL_OK ||
	    ol_tape_open(&tape, &s.config, ol_model_weights(model), &options, &err) != OL_OK)
		die(err.text);
	struct ol_lora_gradient *lora = need((size_t)ol_linear_count(&s.config) * sizeof *lora);
	const struct ol_adapter_view adapter = {s.full ? NULL : make_adapter(&s, lora), s.rank};
	struct ol_weight_gradients weights =
		s.full ? make_gradients(&s.config) : (struct ol_weight_gradients){0};
	int32_t *tokens = need((size_t)s.tokens * 2 * sizeof *tokens), *targets = tokens + s.tokens;
	float *row_weights = need((size_t)s.tokens * 2 * sizeof *row_weights);
	struct ol_sequence sequences[SEQUENCES_MAX];
	const int length = s.tokens / s.sequences;
	for (int i = 0; i < s.tokens; i++) {
		tokens[i] = (int32_t)((unsigned)i * 7919u % (unsigned)s.config.vocab_size);
		targets[i] = (int32_t)((unsigned)i * 104729u % (unsigned)s.config.vocab_size);
		row_weights[i] = 1.0f / (float)s.tokens;
	}
	for (int i = 0; i < s.sequences; i++)
		sequences[i] = (struct ol_sequence){tokens + i * length, targets + i * length,
						    length, (uint64_t)i};
	const struct ol_micro_batch batch = {.sequences = sequences,
					     .sequence_count = s.sequences,
					     .adapter = s.full ? NULL : &adapter};
	const struct ol_tape_backward request = {.row_weights = row_weights,
						 .losses = row_weights + s.tokens,
						 .lora = s.full ? NULL : lora,
						 .weights = s.full ? &weights : NULL};
	double forward[ROUNDS_MAX], both[ROUNDS_MAX], busy[ROUNDS_MAX], peak = 0.0;
	for (int round = -1; round < s.rounds; round++) {
		peak = OL_MAX(peak, ol_peak_ops_pool(ol_tape_threads(tape), OL_PEAK_F32, 0.1));
		const double busy_begin = busy_seconds(), begin = ol_clock_seconds();
		if (ol_tape_forward(tape, &batch, &err) != OL_OK)
			die(err.text);
		const double middle = ol_clock_seconds();
		if (ol_tape_backward(tape, &request, &err) != OL_OK)
			die(err.text);
		if (round >= 0) {
			forward[round] = middle - begin;
			both[round] = ol_clock_seconds() - begin;
			busy[round] = busy_seconds() - busy_begin;
		}
	}
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	const double seconds = ol_median(both, s.rounds), work = operations(&s);
	const double busy_median = ol_median(busy, s.rounds) / s.threads;
	printf("%d tokens: %.1f tokens/s, %.0f ms (layers forward %.0f; fastest %.0f; busy %.0f)\n"
	       "%.1f GF/s = %.3f of %.1f (fastest %.3f; busy %.3f)\n"
	       "tape %.0f MB, peak memory %.0f MB\n",
	       s.tokens, s.tokens / seconds, seconds * 1e3, ol_median(forward, s.rounds) * 1e3,
	       both[0] * 1e3, busy_median * 1e3, work / seconds * 1e-9, work / seconds / peak,
	       peak * 1e-9, work / both[0] / peak, work / busy_median / peak,
	       (double)ol_tape_bytes(&s.config, &options) * 1e-6, (double)usage.ru_maxrss * 1e-3);
	ol_tape_close(tape);
	ol_model_close(model);
	return 0;
}
