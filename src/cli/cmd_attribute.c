#include "cli/commands.h"
#include "cli/options.h"
#include "node/attribute.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 30, LISTED = 12, EXAMPLE_CELLS = 100 };

struct screen {
	const struct ol_explanation *x;
	const struct ol_index_content *c;
	bool color;
};

static const char *on(const struct screen *s, const char *code)
{
	return s->color ? code : "";
}

/* A text on one line, at most so many bytes, cut between characters. */
static void print_line(const char *text, size_t size, size_t most)
{
	bool space = false;
	size_t printed = 0;
	for (size_t i = 0; i < size; i++) {
		const unsigned char c = (unsigned char)text[i];
		if (c <= ' ') {
			space = printed > 0;
			continue;
		}
		if (printed >= most && (c & 0xc0) != 0x80) {
			fputs(" …", stdout);
			return;
		}
		if (space)
			putchar(' ');
		printed += 1 + (size_t)space;
		space = false;
		putchar(c == 0x7f ? '?' : c);
	}
}

/* The answer token by token, what stands in spans marked. */
static void print_answer(const struct screen *s)
{
	const struct ol_attribution *a = &s->x->attribution;
	const struct ol_tokens *ids = &s->x->response;
	int span = 0;
	bool inside = false;
	for (int i = 0; i < (int)ids->count; i++) {
		while (span < a->span_count && i >= a->spans[span].begin + a->spans[span].count)
			span++;
		const bool now = span < a->span_count && i >= a->spans[span].begin;
		if (now != inside)
			fputs(now ? (s->color ? "\033[4;33m" : "[[")
				  : (s->color ? "\033[0m" : "]]"),
			      stdout);
		inside = now;
		size_t size = 0;
		const char *piece = ol_tokenizer_piece(s->x->tokenizer, ids->ids[i], &size);
		for (size_t k = 0; piece && k < size; k++)
			putchar((unsigned char)piece[k] < ' ' && piece[k] != '\n' ? ' ' : piece[k]);
	}
	fputs(inside ? (s->color ? "\033[0m\n" : "]]\n") : "\n", stdout);
}

static void print_bar(double part)
{
	const int eighths = (int)lrint(part * BAR_CELLS * 8);
	static const char *const ends[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
	int cells = 0;
	for (; cells < eighths / 8; cells++)
		fputs("█", stdout);
	if (eighths % 8) {
		fputs(ends[eighths % 8], stdout);
		cells++;
	}
	for (; cells < BAR_CELLS; cells++)
		putchar(' ');
}

static void print_contributors(const struct screen *s)
{
	const struct ol_attribution *a = &s->x->attribution;
	uint32_t *order = malloc(((size_t)a->count + 1) * sizeof *order);
	if (!order)
		return;
	ol_attribution_rank(a, order);
	for (uint32_t i = 0; i < OL_MIN(a->count, (uint32_t)LISTED); i++) {
		const struct ol_share *row = &a->shares[order[i]];
		const double part = (double)row->share / OL_SHARE_WHOLE;
		printf("  %-24.24s %s", s->c->payees[order[i]].name, on(s, "\033[36m"));
		print_bar(part);
		printf("%s %5.1f%%  %+10.4f%s%s\n", on(s, "\033[0m"), 100.0 * part,
		       (double)row->score / OL_SHARE_WHOLE,
		       a->told[order[i]] ? "" : "  may be noise",
		       a->bonus[order[i]] > 0 ? "  word for word" : "");
	}
	if (a->count > LISTED)
		printf("  … and %u more\n", a->count - LISTED);
	free(order);
}

static void print_examples(const struct screen *s)
{
	const struct ol_attribution *a = &s->x->attribution;
	for (int i = 0; i < a->top_count; i++) {
		const struct ol_index_example *e = &s->c->examples[a->top[i].example];
		struct ol_buf text;
		ol_buf_init(&text, OL_ANSWER_TEXT_MAX);
		printf("  %+10.4f  %s  %s\n              ",
		       (double)a->top[i].score / OL_SHARE_WHOLE, s->c->payees[e->payee].name,
		       e->id);
		if (ol_index_example_text(&text, s->x->index, a->top[i].example, s->x->tokenizer))
			print_line(text.data ? text.data : "", text.size, EXAMPLE_CELLS);
		putchar('\n');
		ol_buf_release(&text);
	}
}

static void print_spans(const struct screen *s)
{
	const struct ol_attribution *a = &s->x->attribution;
	for (int i = 0; i < a->span_count; i++) {
		const struct ol_span *span = &a->spans[i];
		struct ol_buf text;
		ol_buf_init(&text, OL_ANSWER_TEXT_MAX);
		if (ol_tokenizer_decode(s->x->tokenizer, &text, s->x->response.ids + span->begin,
					(size_t)span->count, false)) {
			fputs("  \"", stdout);
			print_line(text.data ? text.data : "", text.size, EXAMPLE_CELLS);
			printf("\", %d tokens, in", span->count);
		}
		for (int k = 0; k < span->source_count; k++) {
			const struct ol_index_example *e =
				&s->c->examples[span->sources[k].example];
			printf("%s %s (%s)", k ? "," : "", e->id, s->c->payees[e->payee].name);
		}
		putchar('\n');
		ol_buf_release(&text);
	}
}

static void print_picture(const struct ol_explanation *x)
{
	const struct screen s = {x, ol_index_content(x->index), isatty(STDOUT_FILENO) != 0};
	const struct ol_attribution *a = &x->attribution;
	char root[2 * OL_SHA256_BYTES + 1];
	print_answer(&s);
	if (a->clear)
		printf("\n%sWho shaped it%s\n", on(&s, "\033[1m"), on(&s, "\033[0m"));
	else
		printf("\n%sNo clear source%s: no contributor's score is told from noise\n",
		       on(&s, "\033[1m"), on(&s, "\033[0m"));
	print_contributors(&s);
	if (a->top_count > 0)
		printf("\n%sExamples that did most%s\n", on(&s, "\033[1m"), on(&s, "\033[0m"));
	print_examples(&s);
	if (a->span_count > 0)
		printf("\n%sWord for word%s: %u of %zu tokens\n", on(&s, "\033[1m"),
		       on(&s, "\033[0m"), a->span_tokens, x->response.count);
	print_spans(&s);
	if (a->low_confidence)
		printf("\nLow confidence: nobody here saw this adapter being trained.\n");
	ol_hex(root, a->root, sizeof a->root);
	printf("\nloss %.3f nats", a->nats);
	if (isfinite(a->base_nats))
		printf(" (%.3f under the base alone)", a->base_nats);
	printf(", attributed in %.0f ms; share table %s\n", 1e3 * x->seconds, root);
}

static int print_json(const struct ol_explanation *x)
{
	json_t *object = ol_attribution_json(&x->attribution, x->tokenizer, x->response.ids,
					     (int)x->response.count);
	if (object) {
		json_object_set_new(object, "response",
				    json_stringn(x->text.data ? x->text.data : "", x->text.size));
		json_object_set_new(object, "prompt_tokens",
				    json_integer((json_int_t)x->prompt.count));
		json_object_set_new(object, "response_tokens",
				    json_integer((json_int_t)x->response.count));
		json_object_set_new(object, "seconds", json_real(x->seconds));
	}
	return ol_print_json(object);
}

int ol_command_attribute(int argc, char **argv)
{
	struct ol_explain_request q = {.max_tokens = 128, .top = 5};
	bool json = false;
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', q.adapter, "ADAPTER", "which adapter"),
		OL_TEXT("prompt", 'p', q.prompt, "TEXT", "the question"),
		OL_TEXT("response", 'r', q.response, "TEXT",
			"the answer (default: what the adapter answers, greedily)"),
		OL_FLAG("raw", 0, q.raw, "the prompt as it is, without the chat template"),
		OL_NUMBER(INT, "max-tokens", 'n', q.max_tokens, "N", 1, 1 << 20,
			  "of the adapter's answer (128)"),
		OL_NUMBER(INT, "top", 0, q.top, "N", 0, OL_ATTRIBUTION_TOP_MAX,
			  "examples to show (5)"),
		OL_FLAG("gain", 0, q.gain, "also the answer's loss under the base alone"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger attribute",
		.usage = "-m ADAPTER -p TEXT [options]",
		.about = "Who shaped an answer: shares of the contributors, the examples that did "
			 "most, and\nwhat stands in them word for word.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.examples = "  openledger attribute -m mine -p \"What is a ledger?\"\n"};
	struct ol_error err = {0};
	struct ol_home home;
	struct ol_explanation x = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (!q.adapter || !q.prompt)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "attribute needs an adapter (-m ADAPTER) and a prompt (-p TEXT)");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_explain(&x, &home, &q, &err);
	int status = 0;
	if (s == OL_OK && json)
		status = print_json(&x);
	else if (s == OL_OK)
		print_picture(&x);
	else
		status = ol_report(&err);
	ol_explanation_release(&x);
	return status;
}
