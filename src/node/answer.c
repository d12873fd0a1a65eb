#include "node/answer.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

const char *ol_finish_name(enum ol_finish finish)
{
	switch (finish) {
	case OL_FINISH_STOP: return "stop";
	case OL_FINISH_LENGTH: return "length";
	case OL_FINISH_CANCELLED: return "cancelled";
	}
	OL_UNREACHABLE();
}

/* `sent` bytes of text have been handed to the caller. */
struct ol_answer {
	struct ol_answer_model model;
	struct ol_answer_options o;
	struct ol_generation g;
	struct ol_tokens history;         /* prompt, then answer */
	struct ol_buf raw;                /* bytes of a character that is not whole yet */
	struct ol_grammar_state *grammar; /* NULL: none */
	uint64_t *allowed;                /* with a grammar: a bit per token */
	size_t prompt_count, limit, sent, info_room;
	bool cancelled, stopped; /* by the caller; by a stop text */
};

static bool is_eos(const struct ol_config *c, int32_t token)
{
	for (int i = 0; i < c->eos_count; i++)
		if (c->eos_ids[i] == token)
			return true;
	return false;
}

/* Where the first stop text begins, or `size`. Looks from `from` on. A text may hold NUL. */
static size_t find_stop(const struct ol_answer *a, size_t from)
{
	const struct ol_buf *text = &a->g.text;
	size_t first = text->size;
	for (int i = 0; i < a->o.stop_count; i++) {
		const size_t length = strlen(a->o.stops[i]);
		for (size_t at = from; at < first && text->size - at >= length; at++)
			if (memcmp(text->data + at, a->o.stops[i], length) == 0)
				first = at;
	}
	return first;
}

/* How much of the text cannot become part of a stop text any more. */
static size_t final_length(const struct ol_answer *a)
{
	const struct ol_buf *text = &a->g.text;
	size_t held = 0;
	for (int i = 0; i < a->o.stop_count; i++) {
		const size_t length = strlen(a->o.stops[i]);
		for (size_t n = OL_MIN(length - 1, text->size); n > held; n--)
			if (memcmp(text->data + text->size - n, a->o.stops[i], n) == 0)
				held = n;
	}
	return text->size - held;
}

static void send_text(struct ol_answer *a, size_t until)
{
	struct ol_buf *text = &a->g.text;
	if (until > a->sent && a->o.on_text)
		a->cancelled = !a->o.on_text(a->o.context, text->data + a->sent, until - a->sent);
	a->sent = OL_MAX(a->sent, until);
}

/* Moves what is whole from the raw bytes to the text; at the end, all of it. */
static void take_characters(struct ol_answer *a, bool end)
{
	struct ol_buf *raw = &a->raw;
	if (raw->size == 0)
		return;
	const size_t whole = end ? raw->size : ol_utf8_complete(raw->data, raw->size);
	ol_utf8_append_lossy(&a->g.text, raw->data, whole);
	memmove(raw->data, raw->data + whole, raw->size - whole);
	raw->size -= whole;
}

/* Cuts the text before the first stop text in it, if there is one. */
static bool cut_at_stop(struct ol_answer *a, size_t from)
{
	const size_t stop = find_stop(a, from);
	const bool stopped = stop < a->g.text.size;
	if (stopped) {
		a->g.text.size = stop;
		a->g.text.data[stop] = '\0';
	}
	return stopped;
}

/* Adds a token's text. True when a stop text is complete: then the text ends before it. */
static bool add_text(struct ol_answer *a, int32_t token)
{
	size_t size = 0, longest = 0;
	struct ol_buf *text = &a->g.text;
	const struct ol_tokenizer *tokenizer = a->model.tokenizer;
	const char *piece = tokenizer ? ol_tokenizer_piece(tokenizer, token, &size) : NULL;
	if (!piece || ol_tokenizer_is_special(tokenizer, token))
		return false;
	if (a->o.strip_lead_space && text->size + a->raw.size == 0 && size > 0 && piece[0] == ' ') {
		piece++;
		size--;
	}
	for (int i = 0; i < a->o.stop_count; i++)
		longest = OL_MAX(longest, strlen(a->o.stops[i]));
	const size_t from = text->size > longest ? text->size - longest : 0;
	if (!ol_buf_append(&a->raw, piece, size))
		text->failed = true;
	take_characters(a, false);
	a->stopped = cut_at_stop(a, from);
	send_text(a, a->stopped ? text->size : final_length(a));
	return a->stopped;
}

static bool add_info(struct ol_answer *a, const float *logits, int32_t token)
{
	struct ol_generation *g = &a->g;
	const int vocab = a->model.config->vocab_size;
	if (a->o.logprobs == 0)
		return true;
	if (g->tokens.count >= a->info_room) {
		a->info_room = OL_MAX(2 * a->info_room, (size_t)64);
		void *grown = realloc(g->infos, a->info_room * sizeof *g->infos);
		if (!grown)
			return false;
		g->infos = grown;
	}
	struct ol_token_info *info = &g->infos[g->tokens.count];
	const int count = OL_MIN(a->o.logprobs, vocab);
	int32_t ids[OL_LOGPROBS_MAX + 1] = {token};
	float logprobs[OL_LOGPROBS_MAX + 1];
	*info = (struct ol_token_info){0};
	ol_top_tokens(info->top_ids, count, logits, vocab);
	memcpy(ids + 1, info->top_ids, (size_t)count * sizeof *ids);
	ol_token_logprobs(logprobs, a->model.kernels, logits, vocab, ids, count + 1);
	info->logprob = logprobs[0];
	memcpy(info->top_logprobs, logprobs + 1, (size_t)count * sizeof *logprobs);
	return true;
}

enum ol_status ol_answer_open(struct ol_answer **answer_out, const struct ol_answer_model *model,
			      const int32_t *prompt, size_t count, int64_t room,
			      const struct ol_answer_options *options, struct ol_error *err)
{
	*answer_out = NULL;
	const enum ol_status s = ol_sampling_check(&options->sampling, err);
	if (s != OL_OK)
		return s;
	if (count == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the prompt is empty and the model has no token to begin "
			       "a text with: give it at least one word");
	if ((int64_t)count > room)
		return ol_fail(err, OL_ERR_INPUT,
			       "the prompt has %zu tokens, but the context holds %lld: shorten it",
			       count, (long long)room);
	for (size_t i = 0; i < count; i++)
		if (prompt[i] < 0 || prompt[i] >= model->config->vocab_size)
			return ol_fail(err, OL_ERR_INPUT,
				       "token %zu of the prompt is %d, but the vocabulary of the "
				       "model has the ids 0 to %d",
				       i, (int)prompt[i], model->config->vocab_size - 1);
	struct ol_answer *a = calloc(1, sizeof *a);
	bool ok = a != NULL;
	if (ok) {
		*a = (struct ol_answer){.model = *model, .o = *options, .prompt_count = count};
		ol_buf_init(&a->g.text, OL_ANSWER_TEXT_MAX);
		ol_buf_init(&a->raw, OL_ANSWER_TEXT_MAX);
		/* The last token needs no position of its own: it is never run. */
		a->limit = (size_t)(room - (int64_t)count) + 1;
		if (options->max_tokens > 0)
			a->limit = OL_MIN(a->limit, (size_t)options->max_tokens);
	}
	if (ok && options->grammar) {
		a->allowed = calloc((size_t)model->config->vocab_size / 64 + 1, sizeof *a->allowed);
		ok = a->allowed &&
		     ol_grammar_begin(&a->grammar, options->grammar, options->strip_lead_space,
				      !options->ignore_eos) == OL_OK;
	}
	for (size_t i = 0; i < count && ok; i++)
		ok = ol_tokens_push(&a->history, prompt[i]);
	if (!ok) {
		ol_answer_close(a);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the prompt");
	}
	*answer_out = a;
	return OL_OK;
}

void ol_answer_close(struct ol_answer *a)
{
	if (!a)
		return;
	ol_generation_release(&a->g);
	ol_buf_release(&a->raw);
	ol_grammar_state_close(a->grammar);
	free(a->allowed);
	ol_tokens_release(&a->history);
	free(a);
}

/* The caller sees every token, and has the last word. */
static void tell(struct ol_answer *a)
{
	if (a->o.on_token && !a->o.on_token(a->o.context, &a->g, a->sent))
		a->cancelled = true;
}

/* Nothing more will come: what was held back goes out, unless nobody wants it. */
static void finish(struct ol_answer *a, enum ol_finish finish)
{
	a->g.finish = finish;
	if (finish == OL_FINISH_CANCELLED)
		return;
	if (!a->stopped)
		take_characters(a, true);
	send_text(a, a->g.text.size);
	tell(a);
}

/* The next token: of those that the grammar allows, if there is one. The mask is exact but where
 * more than OL_GRAMMAR_STACKS_MAX readings of the text had to be followed side by side; a token
 * that led only where one of them was given up is not taken. */
static enum ol_status choose(struct ol_answer *a, int32_t *token_out, const float *logits,
			     struct ol_sampler *sampler, struct ol_error *err)
{
	const int history = (int)a->history.count, generated = history - (int)a->prompt_count;
	bool some = !a->grammar || ol_grammar_mask(a->grammar, a->allowed);
	while (some) {
		const int32_t token = ol_sampler_choose(sampler, logits, &a->o.sampling,
							(uint32_t)history, a->history.ids, history,
							generated, a->grammar ? a->allowed : NULL);
		*token_out = token;
		if (!a->grammar || ol_grammar_accept(a->grammar, token))
			return OL_OK;
		a->allowed[token / 64] &= ~(1ull << token % 64);
		some = false;
		for (int w = 0; w <= a->model.config->vocab_size / 64 && !some; w++)
			some = a->allowed[w] != 0;
	}
	return ol_fail(err, OL_ERR_FULL, "out of memory for the tokens that may come next");
}

enum ol_status ol_answer_take(struct ol_answer *a, const float *logits, struct ol_sampler *sampler,
			      bool *more, struct ol_error *err)
{
	struct ol_generation *g = &a->g;
	int32_t token = -1;
	*more = false;
	const enum ol_status s = choose(a, &token, logits, sampler, err);
	if (s != OL_OK)
		return s;
	if (is_eos(a->model.config, token) && !a->o.ignore_eos) {
		finish(a, OL_FINISH_STOP);
		return OL_OK;
	}
	if (!add_info(a, logits, token) || !ol_tokens_push(&g->tokens, token) ||
	    !ol_tokens_push(&a->history, token))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the answer's tokens");
	const bool stopped = add_text(a, token);
	if (g->text.failed)
		return ol_fail(err, OL_ERR_FULL, "the answer's text is over its limit of %d bytes",
			       OL_ANSWER_TEXT_MAX);
	if (stopped || (a->grammar && ol_grammar_is_over(a->grammar))) {
		finish(a, OL_FINISH_STOP);
		return OL_OK;
	}
	if (g->tokens.count == a->limit) {
		finish(a, a->cancelled ? OL_FINISH_CANCELLED : OL_FINISH_LENGTH);
		return OL_OK;
	}
	tell(a);
	if (a->cancelled)
		finish(a, OL_FINISH_CANCELLED);
	*more = !a->cancelled;
	return OL_OK;
}

const struct ol_tokens *ol_answer_history(const struct ol_answer *a)
{
	return &a->history;
}

struct ol_generation *ol_answer_generation(struct ol_answer *a)
{
	return &a->g;
}

void ol_generation_release(struct ol_generation *generation)
{
	ol_tokens_release(&generation->tokens);
	ol_buf_release(&generation->text);
	free(generation->infos);
	*generation = (struct ol_generation){0};
}
