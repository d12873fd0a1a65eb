#include "cli/commands.h"
#include "cli/options.h"
#include "node/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Everything the command line can say. */
struct train_line {
	struct ol_train_request q;
	const char *method, *format, *weights;
	struct ol_texts data, more;
	bool json, quiet, no_index;
	int memory_mb;
	char own_name[OL_NAME_MAX + 1];
};

/* What the screen remembers. */
struct screen {
	bool terminal, quiet, drawn;
	struct ol_train_config config;
	int first_step, shown_step;
	double loss; /* smoothed */
	uint64_t tokens;
	double seconds; /* of steps */
};

static void clear_line(struct screen *s)
{
	if (s->drawn)
		fprintf(stderr, "\r\033[K");
	s->drawn = false;
}

static void show_notice(void *context, const char *sentence)
{
	clear_line(context);
	fprintf(stderr, "note: %s\n", sentence);
}

static void show_saved(void *context, int step)
{
	(void)context;
	(void)step;
}

static void show_start(void *context, const struct ol_train_start *start)
{
	struct screen *s = context;
	const struct ol_train_config *c = start->config;
	char activations[32], state[32];
	s->config = *c;
	s->first_step = s->shown_step = start->step;
	if (s->quiet)
		return;
	ol_format_bytes(activations, start->shape.tape_bytes);
	ol_format_bytes(state, start->shape.state_bytes);
	fprintf(stderr,
		"%s: %zu examples to learn, %zu held out; %.2fM of %.1fM parameters are trained\n",
		ol_train_method_name(c->method), start->shape.train_examples,
		start->shape.held_out_examples, 1e-6 * (double)start->shape.trained_parameters,
		1e-6 * (double)start->base_parameters);
	if (c->method != OL_TRAIN_FULL)
		fprintf(stderr, "rank %d, alpha %g%s, ", c->rank, (double)c->alpha,
			c->attributable ? ", attributable" : "");
	fprintf(stderr,
		"%d steps of %d examples, learning rate %g, at most %d tokens an example; memory "
		"%s + %s%s\n",
		c->steps, c->batch, (double)c->learning_rate, c->max_length, activations, state,
		start->shape.recompute ? ", recomputing" : "");
	if (start->step > 0)
		fprintf(stderr, "going on after step %d\n", start->step);
}

static void format_time(char text[32], double seconds)
{
	const long s = seconds < 1e9 ? (long)(seconds + 0.5) : 0;
	if (s >= 3600)
		snprintf(text, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(text, 32, "%ld:%02ld", s / 60, s % 60);
}

static void draw_step(struct screen *s, const struct ol_step_report *report, double seconds)
{
	char left[32], memory[32];
	struct rusage usage;
	const int done = report->step - s->first_step;
	const double rate = s->seconds > 0 ? (double)s->tokens / s->seconds : 0;
	format_time(left, seconds / done * (s->config.steps - report->step));
	getrusage(RUSAGE_SELF, &usage);
	ol_format_bytes(memory, (uint64_t)usage.ru_maxrss * 1024);
	fprintf(stderr, "%sstep %d/%d  loss %.4f  %.0f tokens/s  %s left  %s",
		s->terminal ? "\r\033[K" : "", report->step, s->config.steps, s->loss, rate, left,
		memory);
	if (report->dpo_margin != 0)
		fprintf(stderr, "  preferred %.0f%%", 100 * report->dpo_accuracy);
	fprintf(stderr, s->terminal ? "" : "\n");
	s->drawn = s->terminal;
}

static bool show_step(void *context, const struct ol_step_report *report, double seconds)
{
	struct screen *s = context;
	const struct ol_evaluation *e = &report->evaluation;
	const int every = s->terminal ? 1 : OL_MAX(s->config.steps / 20, 1);
	s->loss = s->tokens == 0 ? report->loss : 0.9 * s->loss + 0.1 * report->loss;
	s->tokens += (uint64_t)report->tokens;
	s->seconds += report->seconds;
	if (!s->quiet && (report->evaluated || report->step - s->shown_step >= every)) {
		draw_step(s, report, seconds);
		s->shown_step = report->step;
	}
	if (!s->quiet && report->evaluated) {
		clear_line(s);
		fprintf(stderr, "after step %d: held-out loss %.4f", report->step, e->loss);
		if (s->config.method == OL_TRAIN_DPO)
			fprintf(stderr, ", preferred %.0f%%", 100 * e->dpo_accuracy);
		else
			fprintf(stderr, ", perplexity %.2f, %.3f nats per byte", e->perplexity,
				e->nats_per_byte);
		fprintf(stderr, "%s\n", e->best ? " (best so far)" : "");
	}
	return !ol_interrupted();
}

static void print_one_line(const char *label, const char *text)
{
	fprintf(stderr, "  %s", label);
	for (const char *p = text; *p && p - text < 120; p++)
		fputc((unsigned char)*p < 0x20 ? ' ' : *p, stderr);
	fputc('\n', stderr);
}

static void show_sample(void *context, const char *question, const char *answer, const char *wanted)
{
	struct screen *s = context;
	if (s->quiet)
		return;
	clear_line(s);
	if (*question)
		print_one_line("asked:  ", question);
	print_one_line("wanted: ", wanted);
	print_one_line("said:   ", answer);
}

static void show_preview(void *context, const char *text)
{
	(void)context;
	fputs(text, stdout);
}

/* ---- the command line ---- */

static enum ol_status check_line(struct train_line *l, struct ol_error *err)
{
	if (!ol_train_method_parse(&l->q.wish.method, l->method))
		return ol_fail(err, OL_ERR_INPUT,
			       "--method %s is unknown: use lora, qlora, full or dpo", l->method);
	if (!ol_data_format_parse(&l->q.format, l->format))
		return ol_fail(err, OL_ERR_INPUT,
			       "--format %s is unknown: use auto, alpaca, sharegpt, messages, "
			       "prompt, text, preference, csv, plain or markdown",
			       l->format);
	if (!ol_weight_type_parse(&l->q.full_type, l->weights))
		return ol_fail(err, OL_ERR_INPUT,
			       "--weights %s is unknown: use f32, bf16, q8, q4 or nf4", l->weights);
	for (int i = 0; i < l->more.count; i++) {
		if (l->data.count == OL_TEXTS_MAX)
			return ol_fail(err, OL_ERR_INPUT,
				       "more than %d data files: put them into a folder and name "
				       "that",
				       OL_TEXTS_MAX);
		l->data.values[l->data.count++] = l->more.values[i];
	}
	if (l->data.count == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "train needs data: -d FILE-OR-FOLDER (JSONL, JSON, CSV, text or "
			       "Markdown)");
	if (l->q.base && (l->q.config || l->q.tokenizer))
		return ol_fail(err, OL_ERR_INPUT,
			       "a base (-m) has its own config and tokenizer: leave out --config "
			       "and --tokenizer, or the base");
	if (l->q.wish.method == OL_TRAIN_FULL ? l->q.from != NULL : l->q.export_path != NULL)
		return ol_fail(err, OL_ERR_INPUT,
			       l->q.from ? "--from is for adapters, not for full training"
					 : "--export is for full training; adapters are exported "
					   "by `openledger export`");
	l->q.data = l->data.values;
	l->q.data_count = l->data.count;
	l->q.memory_max = (size_t)l->memory_mb << 20;
	if (!l->q.name) {
		ol_name_from_path(l->own_name, l->data.values[0]);
		char *dot = strrchr(l->own_name, '.');
		if (dot && dot != l->own_name)
			*dot = '\0';
		l->q.name = l->own_name;
	}
	return OL_OK;
}

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static int print_result(const struct train_line *l, const struct ol_train_result *r)
{
	char hex[65], root[65];
	ol_hex(hex, r->sha256, sizeof r->sha256);
	if (r->indexed)
		ol_hex(root, r->index.root, sizeof r->index.root);
	if (l->json)
		return ol_print_json(json_pack(
			"{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:I, s:s, s:o}",
			r->adapter ? "adapter" : "model", l->q.name,
			r->adapter ? "adapter_sha256" : "model_id", hex, "train_loss",
			number(r->train_loss), "eval_loss", number(r->eval_loss), "eval_perplexity",
			number(r->eval_perplexity), "eval_nats_per_byte",
			number(r->eval_nats_per_byte), "tokens_per_second",
			number(r->tokens_per_second), "steps", r->steps, "best_step", r->best_step,
			"examples", (json_int_t)r->examples, "path", r->path, "index",
			r->indexed ? json_string(root) : json_null()));
	printf("%s: %d steps in %.1f s, %.0f tokens/s; training loss %.4f", l->q.name, r->steps,
	       r->seconds, r->tokens_per_second, r->train_loss);
	if (isfinite(r->eval_loss))
		printf(", held-out loss %.4f (step %d)", r->eval_loss, r->best_step);
	printf("\n%s %s\n%s\n", r->adapter ? "sha256" : "id", hex, r->path);
	if (r->indexed)
		ol_print_index(&r->index);
	return 0;
}

static bool show_index(void *context, const char *what, uint32_t done, uint32_t total)
{
	const struct screen *screen = context;
	bool show = screen->terminal && !screen->quiet;
	return ol_show_index_progress(&show, what, done, total);
}

static int run_line(struct train_line *l)
{
	struct screen screen = {.terminal = isatty(STDERR_FILENO) != 0, .quiet = l->quiet};
	struct ol_train_result result;
	struct ol_error err = {0};
	enum ol_status s = check_line(l, &err);
	l->q.no_index = l->no_index;
	l->q.code = ol_code_version;
	l->q.color = isatty(STDOUT_FILENO) != 0;
	l->q.watch = (struct ol_train_watch){.notice = show_notice,
					     .start = show_start,
					     .step = show_step,
					     .sample = show_sample,
					     .saved = show_saved,
					     .preview = show_preview,
					     .index = show_index,
					     .context = &screen};
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_train(&result, &l->q, &err);
	clear_line(&screen);
	if (s != OL_OK)
		return ol_report(&err);
	return result.previewed ? 0 : print_result(l, &result);
}

int ol_command_train(int argc, char **argv)
{
	struct train_line l = {
		.method = "lora", .format = "auto", .weights = "bf16", .q = {.samples = 3}};
	struct ol_train_wish *w = &l.q.wish;
	ol_train_wish_init(w);
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', l.q.base, "NAME", "the base to train on"),
		OL_TEXTS("data", 'd', l.data, "PATH", "a file or a folder (may be repeated)"),
		OL_TEXT("format", 0, l.format, "KIND", "of the data (auto)"),
		OL_TEXT("name", 'n', l.q.name, "NAME", "of the result (default: after the data)"),
		OL_TEXT("method", 0, l.method, "M", "lora (default), qlora, full or dpo"),
		OL_NUMBER(INT, "rank", 'r', w->rank, "R", 1, 512, "of the adapter (16)"),
		OL_NUMBER(FLOAT, "alpha", 0, w->alpha, "A", 0.001, 1e6, "its scale (2 R)"),
		OL_TEXT("targets", 0, w->targets, "LIST",
			"linear layers: q,k,v,o,gate,up,down,head (all but head)"),
		OL_FLAG("rslora", 0, w->rslora, "scale by the square root of the rank"),
		OL_FLAG("attributable", 0, w->attributable,
			"A stays as its public seed gives it: answers can be attributed"),
		OL_NUMBER(FLOAT, "lr", 0, w->learning_rate, "X", 1e-9, 10, "peak learning rate"),
		OL_NUMBER(FLOAT, "epochs", 'e', w->epochs, "N", 0.001, 1e6,
			  "how often every example is seen (10; fewer for many)"),
		OL_NUMBER(INT, "steps", 0, w->steps, "N", 1, OL_TRAIN_STEPS_MAX,
			  "of the optimiser, in place of epochs"),
		OL_NUMBER(INT, "batch", 'b', w->batch, "N", 1, OL_TRAIN_BATCH_MAX,
			  "examples a step (8; 16 for many)"),
		OL_NUMBER(INT, "max-length", 0, w->max_length, "N", 2, 1 << 24,
			  "tokens of an example (512 or the context)"),
		OL_NUMBER(INT, "warmup", 0, w->warmup, "N", 0, OL_TRAIN_STEPS_MAX,
			  "steps until the learning rate is reached (3%)"),
		OL_TEXT("schedule", 0, w->schedule, "S", "constant, linear or cosine (default)"),
		OL_NUMBER(FLOAT, "final-fraction", 0, w->final_fraction, "F", 0, 1,
			  "of the learning rate at the end (0.1)"),
		OL_NUMBER(FLOAT, "weight-decay", 0, w->weight_decay, "X", 0, 10,
			  "decoupled (0.01; full: 0.1)"),
		OL_NUMBER(FLOAT, "clip", 0, w->clip, "X", 0, 1e9,
			  "the gradient's norm (1; 0: off)"),
		OL_NUMBER(FLOAT, "dropout", 0, w->dropout, "P", 0, 0.95,
			  "on the adapter's inputs (0)"),
		OL_NUMBER(FLOAT, "dpo-beta", 0, w->dpo_beta, "X", 0.0001, 100,
			  "of preference tuning (0.1)"),
		OL_FLAG("loss-on-prompt", 0, w->loss_on_prompt, "learn questions, too"),
		OL_NUMBER(FLOAT, "eval-fraction", 0, w->eval_fraction, "F", 0, 0.9,
			  "of the examples, held out (0.05 from 50 examples on)"),
		OL_NUMBER(INT, "eval-every", 0, w->eval_every, "N", 0, OL_TRAIN_STEPS_MAX,
			  "steps (a tenth of all; 0: at the end)"),
		OL_NUMBER(INT, "patience", 0, w->patience, "N", 0, OL_TRAIN_STEPS_MAX,
			  "stop after N evaluations without improvement (0: never)"),
		OL_NUMBER(INT, "samples", 0, l.q.samples, "N", 0, 100,
			  "answers to look at, at each evaluation (3)"),
		OL_U64("seed", 's', w->seed, "S", "order, hold-out and dropout (1)",
		       &w->seed_given),
		OL_U64("init-seed", 0, w->init_seed, "S", "of the first weights; public (1)",
		       &w->init_seed_given),
		OL_TEXT("base-type", 0, w->base_type, "T", "qlora: keep the base in nf4 or q8"),
		OL_TEXT("from", 0, l.q.from, "ADAPTER", "go on from it; dpo: prefer against it"),
		OL_TEXT("config", 0, l.q.config, "FILE",
			"full: a config.json, to begin from nothing"),
		OL_TEXT("tokenizer", 0, l.q.tokenizer, "FOLDER", "with --config: its tokenizer"),
		OL_TEXT("weights", 'w', l.weights, "TYPE", "full: of the result (bf16)"),
		OL_TEXT("export", 0, l.q.export_path, "FOLDER",
			"full: write the result as a Hugging Face folder, too"),
		OL_FLAG("resume", 0, l.q.resume, "go on from the last checkpoint"),
		OL_FLAG("force", 0, l.q.replace, "replace a result or a run of that name"),
		OL_NUMBER(INT, "checkpoint-every", 0, l.q.checkpoint_steps, "N", 1,
			  OL_TRAIN_STEPS_MAX, "steps (default: every minute)"),
		OL_NUMBER(INT, "memory", 0, l.memory_mb, "MB", 16, 1 << 24,
			  "for activations (default: by the machine)"),
		OL_NUMBER(INT, "preview", 0, l.q.preview, "N", 1, 1 << 24,
			  "show N examples as the model sees them; train nothing"),
		OL_FLAG("no-index", 0, l.no_index,
			"no attribution index, though contributors are known"),
		OL_FLAG("quiet", 'q', l.quiet, "no progress"),
		OL_FLAG("json", 0, l.json, "end with one line of JSON"),
	};
	const struct ol_command_line line = {
		.command = "openledger train",
		.usage = "-m BASE -d DATA... [options]",
		.about = "Trains an adapter (or a whole model) on your data. The result is a\n"
			 "function of base, data and options: anyone can compute it again.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &l.more,
		.examples = "  openledger train -m base -d questions.jsonl --name mine\n"
			    "  openledger train -m base -d questions.csv --preview 3\n"};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	return run_line(&l);
}
