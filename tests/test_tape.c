/* The tape on odd shapes of every architecture: its losses are the engine's, its gradients are
 * slopes, and how a step is run (threads, instruction set, micro-batches, recomputation) leaves no
 * trace in a single bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "math/functions.h"
#include "tests/support_train.h"

enum { SEQUENCES = 4, LENGTH_MAX = 40, ROWS = 73, RANK = 5, MODEL_SEED = 7 };

/* Longer than windows and pages; one token alone; one sequence without any target. */
static const int lengths[SEQUENCES] = {23, LENGTH_MAX, 1, 9};
static const bool answered[SEQUENCES] = {true, true, true, false};

struct world {
	const char *name;
	struct ol_model *model;
	struct ol_plastic base;
	const struct ol_weights *weights; /* what tapes read: the base's, unless a test says so */
	struct ol_plastic_gradients full;
	struct ol_plastic_lora lora;
	int32_t tokens[SEQUENCES][LENGTH_MAX], targets[SEQUENCES][LENGTH_MAX];
	struct ol_sequence sequences[SEQUENCES];
	float row_weights[ROWS];
};

static void open_world(struct world *w, const struct ol_shape *shape)
{
	struct ol_dice dice = {11};
	struct ol_error err;
	int answers = 0;
	memset(w, 0, sizeof *w);
	w->name = shape->name;
	ol_must(ol_model_random(&w->model, &shape->config, OL_WEIGHT_F32, MODEL_SEED, &err), &err);
	ol_plastic_init(&w->base, w->model);
	w->weights = &w->base.weights;
	ol_plastic_gradients_init(&w->full, &w->base);
	ol_plastic_lora_init(&w->lora, &shape->config, RANK, 8.0f);
	for (int s = 0; s < SEQUENCES; s++) {
		const int vocab = shape->config.vocab_size;
		for (int t = 0; t < lengths[s]; t++) {
			const bool target = answered[s] && ol_dice_between(&dice, 0, 2) > 0;
			w->tokens[s][t] = ol_dice_between(&dice, 0, vocab - 1);
			w->targets[s][t] = target ? ol_dice_between(&dice, 0, vocab - 1) : -1;
			answers += target;
		}
		w->sequences[s] = (struct ol_sequence){w->tokens[s], w->targets[s], lengths[s],
						       0x123456789u * (uint64_t)(s + 1)};
	}
	for (int r = 0; r < ROWS; r++)
		w->row_weights[r] = (1.0f + 0.25f * (float)(r % 3)) / (float)answers;
}

static void close_world(struct world *w)
{
	ol_plastic_lora_release(&w->lora);
	ol_plastic_gradients_release(&w->full);
	ol_plastic_release(&w->base);
	ol_model_close(w->model);
}

static struct ol_tape *open_tape(const struct world *w, const struct ol_kernels *kernels,
				 int threads, bool recompute)
{
	const struct ol_tape_options options = {.kernels = kernels,
						.threads = threads,
						.rows_max = ROWS,
						.rank_max = RANK,
						.full = true,
						.recompute = recompute};
	struct ol_tape *tape = NULL;
	struct ol_error err;
	ol_must(ol_tape_open(&tape, &w->base.config, w->weights, &options, &err), &err);
	return tape;
}

/* What one step asks for. */
struct step {
	bool adapter, full;
	const struct ol_dropout *dropout;
	int per_pass;
};

static void clear_gradients(struct world *w)
{
	ol_plastic_gradients_clear(&w->full);
	memset(w->lora.gradient_values, 0, w->lora.size * sizeof(float));
}

/* Fills the world's gradients and losses (ROWS); returns the sum of weighted losses. */
static double run_step(struct ol_tape *tape, struct world *w, const struct step *step,
		       float *losses)
{
	struct ol_error err;
	double sum = 0.0;
	int row = 0;
	clear_gradients(w);
	for (int begin = 0; begin < SEQUENCES; begin += step->per_pass) {
		const int count = OL_MIN(step->per_pass, SEQUENCES - begin);
		const struct ol_micro_batch batch = {.sequences = w->sequences + begin,
						     .sequence_count = count,
						     .adapter =
							     step->adapter ? &w->lora.view : NULL,
						     .dropout = step->dropout};
		const struct ol_tape_backward request = {
			.row_weights = w->row_weights + row,
			.losses = losses + row,
			.lora = step->adapter ? w->lora.gradients : NULL,
			.weights = step->full ? &w->full.tables : NULL};
		ol_must(ol_tape_forward(tape, &batch, &err), &err);
		ol_must(ol_tape_backward(tape, &request, &err), &err);
		for (int s = begin; s < begin + count; s++)
			row += lengths[s];
	}
	for (int r = 0; r < ROWS; r++)
		sum += (double)w->row_weights[r] * (double)losses[r];
	return sum;
}

/* The sum of weighted losses alone. */
static double loss_of(struct ol_tape *tape, const struct world *w, const struct step *step)
{
	const struct ol_micro_batch batch = {.sequences = w->sequences,
					     .sequence_count = SEQUENCES,
					     .adapter = step->adapter ? &w->lora.view : NULL,
					     .dropout = step->dropout};
	float losses[ROWS];
	struct ol_error err;
	double sum = 0.0;
	ol_must(ol_tape_forward(tape, &batch, &err), &err);
	ol_tape_losses(tape, losses);
	for (int r = 0; r < ROWS; r++)
		sum += (double)w->row_weights[r] * (double)losses[r];
	return sum;
}

/* --- the engine ------------------------------------------------------------- */

/* Losses and hidden states of every row by the engine: a prefill under the adapter. */
static void ask_engine(struct ol_engine *engine, const struct world *w,
		       const struct ol_adapter_view *adapter, float *losses, float *hidden)
{
	const struct ol_kernels *kernels = ol_engine_kernels(engine);
	const size_t vocab = (size_t)w->base.config.vocab_size;
	float *logits = malloc(LENGTH_MAX * vocab * sizeof *logits);
	assert_non_null(logits);
	for (int s = 0; s < SEQUENCES; s++) {
		struct ol_session *session;
		struct ol_error err;
		ol_must(ol_session_open(&session, engine), NULL);
		struct ol_run run = {.session = session,
				     .tokens = w->tokens[s],
				     .count = lengths[s],
				     .want = OL_LOGITS_ALL,
				     .logits = logits,
				     .hidden = hidden,
				     .adapter = adapter};
		ol_must(ol_engine_step(engine, &run, 1, &err), &err);
		ol_session_close(session);
		for (int t = 0; t < lengths[s]; t++) {
			const float *row = logits + (size_t)t * vocab;
			const int32_t target = w->targets[s][t];
			const float max = kernels->row_max(row, (int)vocab);
			const float sum = kernels->row_sum_exp(row, max, (int)vocab);
			*losses++ = target < 0 ? 0.0f : -((row[target] - max) - ol_logf(sum));
		}
		hidden += (size_t)lengths[s] * (size_t)w->base.config.hidden;
	}
	free(logits);
}

/* Under one adapter, or none. */
static void check_against_engine(const struct world *w, struct ol_engine *engine,
				 struct ol_tape *tape, const struct ol_adapter_view *adapter)
{
	const size_t size = (size_t)ROWS * (size_t)w->base.config.hidden;
	const struct ol_micro_batch batch = {
		.sequences = w->sequences, .sequence_count = SEQUENCES, .adapter = adapter};
	float right[ROWS], losses[ROWS];
	float *hidden = calloc(size, sizeof *hidden);
	struct ol_error err;
	assert_non_null(hidden);
	ask_engine(engine, w, adapter, right, hidden);
	ol_must(ol_tape_forward(tape, &batch, &err), &err);
	assert_memory_equal(ol_tape_hidden(tape), hidden, size * sizeof *hidden);
	for (int twice = 0; twice < 2; twice++) {
		memset(losses, 0xff, sizeof losses);
		ol_tape_losses(tape, losses);
		assert_memory_equal(losses, right, sizeof losses);
	}
	free(hidden);
}

static void losses_are_the_engines(void **state)
{
	(void)state;
	for (int i = 0; i < ol_shape_count * OL_WEIGHT_TYPES; i++) {
		struct world w;
		struct ol_model *model;
		struct ol_tape *tape;
		struct ol_error err;
		const struct ol_config *config = &ol_shapes[i / OL_WEIGHT_TYPES].config;
		const enum ol_weight_type type = (enum ol_weight_type)(i % OL_WEIGHT_TYPES);
		const struct ol_tape_options options = {
			.threads = 2, .rows_max = ROWS, .rank_max = RANK};
		open_world(&w, &ol_shapes[i / OL_WEIGHT_TYPES]);
		ol_must(ol_model_random(&model, config, type, MODEL_SEED, &err), &err);
		ol_must(ol_tape_open(&tape, config, ol_model_weights(model), &options, &err), &err);
		struct ol_engine *engine = ol_engine_for_test(model, NULL, 1, OL_KV_F32, 256);
		struct ol_adapter *adapter = ol_adapter_for_test(
			config, OL_TARGETS_ALL | OL_TARGETS_HEAD, RANK, MODEL_SEED);
		check_against_engine(&w, engine, tape, NULL);
		check_against_engine(&w, engine, tape, &w.lora.view);
		check_against_engine(&w, engine, tape, ol_adapter_views(adapter));
		ol_adapter_close(adapter);
		ol_engine_close(engine);
		ol_tape_close(tape);
		ol_model_close(model);
		close_world(&w);
	}
}

/* --- slopes ---------------------------------------------------------------- */

/* A tensor goes a little way along its own gradient g, there and back: the slope is |g|. */
static double slope_of(struct ol_tape *tape, const struct world *w, const struct step *step,
		       float *values, const float *gradient, size_t n, void (*pack)(void *),
		       void *what)
{
	const double norm = ol_norm(gradient, n), size = 0.01 / OL_MAX(norm, 1.0);
	float *kept = malloc(n * sizeof *kept);
	double ends[2];
	assert_non_null(kept);
	memcpy(kept, values, n * sizeof *kept);
	for (int end = 0; end < 2; end++) {
		for (size_t i = 0; i < n; i++)
			values[i] = (float)((double)kept[i] +
					    (end ? -size : size) * (double)gradient[i] / norm);
		pack(what);
		ends[end] = loss_of(tape, w, step);
	}
	memcpy(values, kept, n * sizeof *kept);
	pack(what);
	free(kept);
	return (ends[0] - ends[1]) / (2.0 * size);
}

static void pack_base(void *base)
{
	ol_plastic_pack(base);
}

static void pack_lora(void *lora)
{
	ol_plastic_lora_pack(lora);
}

static int wrong_slopes(struct ol_tape *tape, struct world *w, const struct step *step,
			const struct ol_slice *slices, int count, float *values,
			const float *gradients, void (*pack)(void *), void *what)
{
	int wrong = 0;
	for (int i = 0; i < count; i++) {
		const size_t n = (size_t)slices[i].rows * (size_t)slices[i].cols;
		const float *g = gradients + slices[i].start;
		const double norm = ol_norm(g, n);
		const double slope =
			slope_of(tape, w, step, values + slices[i].start, g, n, pack, what);
		if (fabs(slope - norm) <= 2e-3 * norm + 3e-5 && norm > 1e-4)
			continue;
		print_message("%s, %s: slope %.7f, gradient %.7f\n", w->name, slices[i].name, slope,
			      norm);
		wrong++;
	}
	return wrong;
}

static void gradients_are_slopes(void **state)
{
	const struct ol_dropout dropout = {.rate = 0.3f, .seed = 99, .step = 5};
	const struct step full = {.full = true, .per_pass = SEQUENCES};
	const struct step lora = {.adapter = true, .per_pass = SEQUENCES};
	const struct step dropped = {.adapter = true, .dropout = &dropout, .per_pass = SEQUENCES};
	float losses[ROWS];
	int wrong = 0;
	(void)state;
	for (int i = 0; i < ol_shape_count; i++) {
		struct world w;
		open_world(&w, &ol_shapes[i]);
		struct ol_tape *tape = open_tape(&w, NULL, 2, false);
		run_step(tape, &w, &full, losses);
		ol_plastic_gradients_tie(&w.full);
		wrong += wrong_slopes(tape, &w, &full, w.base.slices, w.base.slice_count,
				      w.base.values, w.full.values, pack_base, &w.base);
		run_step(tape, &w, &lora, losses);
		wrong += wrong_slopes(tape, &w, &lora, w.lora.slices, w.lora.slice_count,
				      w.lora.values, w.lora.gradient_values, pack_lora, &w.lora);
		run_step(tape, &w, &dropped, losses);
		wrong += wrong_slopes(tape, &w, &dropped, w.lora.slices, w.lora.slice_count,
				      w.lora.values, w.lora.gradient_values, pack_lora, &w.lora);
		ol_tape_close(tape);
		close_world(&w);
	}
	assert_int_equal(wrong, 0);
}

/* --- no trace -------------------------------------------------------------- */

static size_t result_size(const struct world *w)
{
	return w->full.size + w->full.head_size + w->lora.size + ROWS;
}

static float *floats(size_t n)
{
	float *x = calloc(n, sizeof *x);
	assert_non_null(x);
	return x;
}

/* Every gradient and loss of a step, one after the other. */
static void run_way(float *out, struct world *w, const struct ol_kernels *kernels, int threads,
		    bool recompute, const struct step *step)
{
	struct ol_tape *tape = open_tape(w, kernels, threads, recompute);
	const size_t head = w->full.head_size;
	float losses[ROWS];
	run_step(tape, w, step, losses);
	memcpy(out, losses, sizeof losses);
	out += ROWS;
	memcpy(out, w->full.values, w->full.size * sizeof *out);
	out += w->full.size;
	if (head)
		memcpy(out, w->full.tied_head, head * sizeof *out);
	memcpy(out + head, w->lora.gradient_values, w->lora.size * sizeof *out);
	ol_tape_close(tape);
}

static void how_a_step_is_run_leaves_no_trace(void **state)
{
	static const struct {
		int threads, per_pass;
		bool recompute;
	} ways[] = {{1, 1, false}, {2, 2, true}, {4, 3, false}, {3, SEQUENCES, true}};
	const struct ol_dropout dropout = {.rate = 0.1f, .seed = 3, .step = 1};
	(void)state;
	for (int i = 0; i < 2 * ol_shape_count; i++) {
		const enum ol_weight_type type =
			i % 2 ? (enum ol_weight_type)(1 + i / 2 % (OL_WEIGHT_TYPES - 1))
			      : OL_WEIGHT_F32;
		struct world w;
		struct ol_model *model;
		struct ol_error err;
		open_world(&w, &ol_shapes[i / 2]);
		ol_must(ol_model_random(&model, &w.base.config, type, MODEL_SEED, &err), &err);
		w.weights = ol_model_weights(model);
		const size_t size = result_size(&w);
		float *first = floats(size), *other = floats(size);
		for (int dropped = 0; dropped < 2; dropped++) {
			struct step step = {true, true, dropped ? &dropout : NULL, SEQUENCES};
			run_way(first, &w, ol_kernels_for(ol_first_isa()), 1, false, &step);
			for (int isa = ol_first_isa(); isa < OL_ISAS; isa++) {
				const struct ol_kernels *kernels = ol_kernels_for((enum ol_isa)isa);
				for (size_t j = 0; kernels && j < OL_ARRAY_LEN(ways); j++) {
					step.per_pass = ways[j].per_pass;
					run_way(other, &w, kernels, ways[j].threads,
						ways[j].recompute, &step);
					if (memcmp(first, other, size * sizeof *first) != 0)
						fail_msg("%s of %s: %s, way %zu%s", w.name,
							 ol_weight_type_name(type), kernels->name,
							 j, dropped ? ", dropout" : "");
				}
			}
		}
		free(first);
		free(other);
		ol_model_close(model);
		close_world(&w);
	}
}

static void dropout_follows_its_key(void **state)
{
	struct ol_dropout dropout = {.rate = 0.1f, .seed = 3, .step = 1};
	struct step step = {.adapter = true, .per_pass = SEQUENCES};
	struct world w;
	(void)state;
	open_world(&w, &ol_shapes[0]);
	const size_t size = result_size(&w);
	float *none = floats(size), *first = floats(size), *other = floats(size);
	run_way(none, &w, NULL, 2, false, &step);
	step.dropout = &dropout;
	run_way(first, &w, NULL, 2, false, &step);
	assert_memory_not_equal(first, none, ROWS * sizeof *first);
	dropout.step = 2;
	run_way(other, &w, NULL, 2, false, &step);
	assert_memory_not_equal(first, other, ROWS * sizeof *first);
	dropout.step = 1;
	w.sequences[0].example++;
	run_way(other, &w, NULL, 2, false, &step);
	assert_memory_not_equal(first, other, (size_t)lengths[0] * sizeof *first);
	assert_memory_equal(first + lengths[0], other + lengths[0],
			    (size_t)(ROWS - lengths[0]) * sizeof *first);
	w.sequences[0].example--;
	dropout.rate = 0.0f;
	run_way(other, &w, NULL, 2, false, &step);
	assert_memory_equal(other, none, size * sizeof *none);
	free(none);
	free(first);
	free(other);
	close_world(&w);
}

/* --- what is not asked for ------------------------------------------------- */

/* Only some gradients asked for: they keep their bits, the others are not touched. */
static void gradients_do_not_depend_on_what_else_is_wanted(void **state)
{
	struct step step = {.adapter = true, .per_pass = SEQUENCES};
	float losses[ROWS];
	(void)state;
	for (int i = 0; i < ol_shape_count; i++) {
		struct world w;
		open_world(&w, &ol_shapes[i]);
		struct ol_tape *tape = open_tape(&w, NULL, 2, i % 2);
		const int linears = ol_linear_count(&w.base.config);
		float *all = floats(w.lora.size);
		struct ol_lora_gradient *wanted = w.lora.gradients;
		w.lora.gradients = calloc((size_t)linears, sizeof *wanted);
		assert_non_null(w.lora.gradients);
		memcpy(w.lora.gradients, wanted, (size_t)linears * sizeof *wanted);
		run_step(tape, &w, &step, losses);
		memcpy(all, w.lora.gradient_values, w.lora.size * sizeof *all);
		for (int lowest = 0; lowest < linears; lowest++) {
			/* One A or B alone, then everything from there up. */
			for (int j = 0; j < linears; j++) {
				const bool a = lowest % 2 ? j == lowest : j > lowest;
				const bool b = lowest % 2 ? false : j >= lowest;
				w.lora.gradients[j].a = a ? wanted[j].a : NULL;
				w.lora.gradients[j].b = b ? wanted[j].b : NULL;
			}
			run_step(tape, &w, &step, losses);
			for (int s = 0; s < w.lora.slice_count; s++) {
				const struct ol_slice *slice = &w.lora.slices[s];
				const struct ol_lora_gradient *g = &w.lora.gradients[s / 2];
				const bool asked = s % 2 ? g->b : g->a;
				const size_t n = (size_t)slice->rows * (size_t)slice->cols;
				const float *got = w.lora.gradient_values + slice->start;
				if (asked)
					assert_memory_equal(got, all + slice->start,
							    n * sizeof *got);
				else
					assert_true(ol_norm(got, n) == 0.0);
			}
		}
		free(w.lora.gradients);
		w.lora.gradients = wanted;
		free(all);
		ol_tape_close(tape);
		close_world(&w);
	}
}

struct seen {
	const struct world *w;
	const struct ol_gradients *gradients;
	float *values; /* of all weights, as the observer adds them up */
	int views;
};

static void see(void *context, const struct ol_tape_view *view)
{
	struct seen *seen = context;
	const struct ol_config *c = &seen->w->base.config;
	int outputs, inputs;
	ol_linear_shape(c, view->linear, &outputs, &inputs);
	const float *place =
		view->linear == OL_LINEAR_HEAD
			? seen->w->full.tables.head
			: seen->w->full.tables.layers[view->layer].linears[view->linear];
	assert_true((view->linear == OL_LINEAR_HEAD) == (view->layer == c->layers));
	assert_non_null(view->h);
	if (place != seen->w->full.tied_head)
		seen->gradients->matmul_dw(seen->values + (place - seen->w->full.values), view->dy,
					   (size_t)outputs, view->x, (size_t)inputs, view->rows, 0,
					   outputs, inputs);
	seen->views++;
}

/* An observer that adds dy^T x up gets the weights' gradients, bit for bit. */
static void an_observer_sees_every_linear(void **state)
{
	const struct step step = {.adapter = true, .full = true, .per_pass = SEQUENCES};
	float losses[ROWS];
	struct ol_error err;
	(void)state;
	for (int i = 0; i < ol_shape_count; i++) {
		struct world w;
		open_world(&w, &ol_shapes[i]);
		struct ol_tape *tape = open_tape(&w, NULL, 2, i % 2);
		struct seen seen = {&w, ol_gradients_for(ol_kernels_best()->isa),
				    floats(w.full.size), 0};
		const struct ol_micro_batch batch = {.sequences = w.sequences,
						     .sequence_count = SEQUENCES,
						     .adapter = &w.lora.view};
		const struct ol_tape_backward request = {
			.row_weights = w.row_weights, .observe = see, .context = &seen};
		run_step(tape, &w, &step, losses);
		ol_must(ol_tape_forward(tape, &batch, &err), &err);
		ol_must(ol_tape_backward(tape, &request, &err), &err);
		assert_int_equal(seen.views, ol_linear_count(&w.base.config));
		for (int s = 0; s < w.base.slice_count; s++) {
			const struct ol_slice *slice = &w.base.slices[s];
			const size_t bytes =
				(size_t)slice->rows * (size_t)slice->cols * sizeof(float);
			if (!slice->vector && strcmp(slice->name, "embed") != 0)
				assert_memory_equal(seen.values + slice->start,
						    w.full.values + slice->start, bytes);
		}
		free(seen.values);
		ol_tape_close(tape);
		close_world(&w);
	}
}

/* --- failures -------------------------------------------------------------- */

static void a_broken_sequence_is_named(void **state)
{
	static const struct {
		int sequence;
		bool in_loss;
	} rows[] = {{0, true}, {1, true}, {0, false}, {1, false}};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct world w;
		struct ol_error err;
		char name[32];
		open_world(&w, &ol_shapes[0]);
		struct ol_tape *tape = open_tape(&w, NULL, 2, i % 2);
		const int vocab = w.base.config.vocab_size;
		int row = rows[i].sequence == 0 ? 0 : lengths[0];
		/* A token that only this sequence has, its embedding broken; or a row whose weight
		 * is. */
		for (int s = 0; s < SEQUENCES; s++)
			for (int t = 0; t < lengths[s]; t++)
				w.tokens[s][t] %= vocab - 1;
		if (rows[i].in_loss) {
			w.tokens[rows[i].sequence][0] = vocab - 1;
			float *embed = w.base.values + w.base.slices[0].start +
				       (size_t)(vocab - 1) * (size_t)w.base.config.hidden;
			for (int k = 0; k < w.base.config.hidden; k++)
				embed[k] = NAN;
			ol_plastic_pack(&w.base);
		} else {
			while (w.targets[rows[i].sequence]
					[row - (rows[i].sequence ? lengths[0] : 0)] < 0)
				row++;
			w.row_weights[row] = INFINITY;
		}
		const struct ol_micro_batch batch = {.sequences = w.sequences,
						     .sequence_count = SEQUENCES,
						     .adapter = &w.lora.view};
		const struct ol_tape_backward request = {.row_weights = w.row_weights,
							 .lora = w.lora.gradients};
		ol_must(ol_tape_forward(tape, &batch, &err), &err);
		assert_int_equal(ol_tape_broken_sequence(tape), -1);
		assert_int_equal(ol_tape_backward(tape, &request, &err), OL_ERR_INPUT);
		assert_int_equal(ol_tape_broken_sequence(tape), rows[i].sequence);
		snprintf(name, sizeof name, "%s of sequence %d ",
			 rows[i].in_loss ? "loss" : "gradient", rows[i].sequence);
		assert_non_null(strstr(err.text, name));
		ol_tape_close(tape);
		close_world(&w);
	}
}

static void tokens_outside_the_vocabulary_are_refused(void **state)
{
	struct world w;
	struct ol_error err;
	(void)state;
	open_world(&w, &ol_shapes[0]);
	struct ol_tape *tape = open_tape(&w, NULL, 1, false);
	const struct ol_micro_batch batch = {.sequences = w.sequences, .sequence_count = SEQUENCES};
	int32_t *const places[] = {&w.tokens[1][3], &w.targets[1][3]};
	for (size_t i = 0; i < OL_ARRAY_LEN(places); i++) {
		const int32_t good = *places[i];
		ol_must(ol_tape_forward(tape, &batch, &err), &err);
		*places[i] = w.base.config.vocab_size;
		assert_int_equal(ol_tape_forward(tape, &batch, &err), OL_ERR_INPUT);
		assert_non_null(strstr(err.text, "sequence 1, position 3"));
		*places[i] = -2;
		assert_int_equal(ol_tape_forward(tape, &batch, &err), OL_ERR_INPUT);
		*places[i] = good;
	}
	ol_tape_close(tape);
	close_world(&w);
}

static void recomputing_needs_less_memory(void **state)
{
	struct ol_tape_options options = {.rows_max = 512, .rank_max = 16, .threads = 2};
	struct ol_config config = ol_shapes[0].config;
	(void)state;
	config.layers = 20;
	const size_t all = ol_tape_bytes(&config, &options);
	options.recompute = true;
	const size_t less = ol_tape_bytes(&config, &options);
	/* Of a layer only x stays: 40 of about 40 + 3 * 40 + 2 * 40 + 2 * 88 + 7 * 16 floats. */
	assert_true(less < all - 19 * 512 * (3 * 40 + 2 * 40 + 2 * 88) * sizeof(float));
	assert_true(less > 20 * 512 * 40 * sizeof(float));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(losses_are_the_engines),
		cmocka_unit_test(gradients_are_slopes),
		cmocka_unit_test(how_a_step_is_run_leaves_no_trace),
		cmocka_unit_test(dropout_follows_its_key),
		cmocka_unit_test(gradients_do_not_depend_on_what_else_is_wanted),
		cmocka_unit_test(an_observer_sees_every_linear),
		cmocka_unit_test(a_broken_sequence_is_named),
		cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
		cmocka_unit_test(recomputing_needs_less_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
