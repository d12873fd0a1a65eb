#include "node/generate.h"

#include "base/clock.h"
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

enum ol_status ol_prefill(struct ol_engine *engine, struct ol_session *session,
			  const int32_t *tokens, size_t count, float *logits, struct ol_error *err)
{
	const size_t most = (size_t)ol_engine_step_rows(engine);
	enum ol_status s = OL_OK;
	for (size_t done = 0; done < count && s == OL_OK;) {
		const size_t chunk = OL_MIN(most, count - done);
		struct ol_run run = {
			.session = session, .tokens = tokens + done, .count = (int)chunk};
		done += chunk;
		if (done == count && logits) {
			run.want = OL_LOGITS_LAST;
			run.logits = logits;
		}
		s = ol_engine_step(engine, &run, 1, err);
	}
	return s;
}

/* One answer under way. `sent` bytes of text have been handed to the caller. */
struct answer {
	struct ol_runtime *r;
	const struct ol_generate_options *o;
	struct ol_generation *g;
	struct ol_session *session;
	struct ol_sampler *sampler;
	float *logits;            /* (vocab) */
	struct ol_tokens history; /* prompt, then answer */
	struct ol_buf raw;        /* bytes of a character that is not whole yet */
	size_t prompt_count, sent, info_room;
	bool cancelled, stopped; /* by the caller; by a stop text */
};

static bool is_eos(const struct ol_config *c, int32_t token)
{
	for (int i = 0; i < c->eos_count; i++)
		if (c->eos_ids[i] == token)
			return true;
	return false;
}

/* Where the first stop text begins, or `size`. Looks from `from` on. */
static size_t find_stop(const struct answer *a, size_t from)
{
	size_t first = a->g->text.size;
	for (int i = 0; i < a->o->stop_count; i++) {
		const char *hit =
			a->g->text.data ? strstr(a->g->text.data + from, a->o->stops[i]) : NULL;
		if (hit)
			first = OL_MIN(first, (size_t)(hit - a->g->text.data));
	}
	return first;
}

/* How much of the text cannot become part of a stop text any more. */
static size_t final_length(const struct answer *a)
{
	const struct ol_buf *text = &a->g->text;
	size_t held = 0;
	for (int i = 0; i < a->o->stop_count; i++) {
		const size_t length = strlen(a->o->stops[i]);
		for (size_t n = OL_MIN(length - 1, text->size); n > held; n--)
			if (memcmp(text->data + text->size - n, a->o->stops[i], n) == 0)
				held = n;
	}
	return text->size - held;
}

static void send_text(struct answer *a, size_t until)
{
	struct ol_buf *text = &a->g->text;
	if (until > a->sent && a->o->on_text)
		a->cancelled = !a->o->on_text(a->o->context, text->data + a->sent, until - a->sent);
	a->sent = OL_MAX(a->sent, until);
}

/* Moves what is whole from the raw bytes to the text; at the end, all of it. */
static void take_characters(struct answer *a, bool end)
{
	struct ol_buf *raw = &a->raw;
	const size_t whole = end ? raw->size : ol_utf8_complete(raw->data, raw->size);
	ol_utf8_append_lossy(&a->g->text, raw->data, whole);
	memmove(raw->data, raw->data + whole, raw->size - whole);
	raw->size -= whole;
}

/* Cuts the text before the first stop text in it, if there is one. */
static bool cut_at_stop(struct answer *a, size_t from)
{
	const size_t stop = find_stop(a, from);
	const bool stopped = stop < a->g->text.size;
	if (stopped) {
		a->g->text.size = stop;
		a->g->text.data[stop] = '\0';
	}
	return stopped;
}

/* Adds a token's text. True when a stop text is complete: then the text ends before it. */
static bool add_text(struct answer *a, int32_t token)
{
	size_t size = 0, longest = 0;
	struct ol_buf *text = &a->g->text;
	const char *piece =
		a->r->tokenizer ? ol_tokenizer_piece(a->r->tokenizer, token, &size) : NULL;
	if (!piece || ol_tokenizer_is_special(a->r->tokenizer, token))
		return false;
	if (a->o->strip_lead_space && text->size + a->raw.size == 0 && size > 0 &&
	    piece[0] == ' ') {
		piece++;
		size--;
	}
	for (int i = 0; i < a->o->stop_count; i++)
		longest = OL_MAX(longest, strlen(a->o->stops[i]));
	const size_t from = text->size > longest ? text->size - longest : 0;
	if (!ol_buf_append(&a->raw, piece, size))
		text->failed = true;
	take_characters(a, false);
	a->stopped = cut_at_stop(a, from);
	send_text(a, a->stopped ? text->size : final_length(a));
	return a->stopped;
}

static bool add_info(struct answer *a, int32_t token)
{
	struct ol_generation *g = a->g;
	const struct ol_kernels *kernels = ol_engine_kernels(a->r->engine);
	const int vocab = ol_model_config(a->r->model)->vocab_size;
	if (a->o->logprobs == 0)
		return true;
	if (g->tokens.count >= a->info_room) {
		a->info_room = OL_MAX(2 * a->info_room, (size_t)64);
		void *grown = realloc(g->infos, a->info_room * sizeof *g->infos);
		if (!grown)
			return false;
		g->infos = grown;
	}
	struct ol_token_info *info = &g->infos[g->tokens.count];
	const int count = OL_MIN(a->o->logprobs, vocab);
	int32_t ids[OL_LOGPROBS_MAX + 1] = {token};
	float logprobs[OL_LOGPROBS_MAX + 1];
	*info = (struct ol_token_info){0};
	ol_top_tokens(info->top_ids, count, a->logits, vocab);
	memcpy(ids + 1, info->top_ids, (size_t)count * sizeof *ids);
	ol_token_logprobs(logprobs, kernels, a->logits, vocab, ids, count + 1);
	info->logprob = logprobs[0];
	memcpy(info->top_logprobs, logprobs + 1, (size_t)count * sizeof *logprobs);
	return true;
}

static enum ol_status decode(struct answer *a, size_t limit, struct ol_error *err)
{
	const struct ol_config *c = ol_model_config(a->r->model);
	struct ol_generation *g = a->g;
	for (;;) {
		if (g->tokens.count == limit) {
			g->finish = OL_FINISH_LENGTH;
			return OL_OK;
		}
		const int32_t token = ol_sampler_choose(
			a->sampler, a->logits, &a->o->sampling, (uint32_t)a->history.count,
			a->history.ids, (int)a->history.count,
			(int)(a->history.count - a->prompt_count), NULL);
		if (is_eos(c, token) && !a->o->ignore_eos) {
			g->finish = OL_FINISH_STOP;
			return OL_OK;
		}
		if (!add_info(a, token) || !ol_tokens_push(&g->tokens, token) ||
		    !ol_tokens_push(&a->history, token))
			return ol_fail(err, OL_ERR_FULL, "out of memory for the answer's tokens");
		if (add_text(a, token)) {
			g->finish = OL_FINISH_STOP;
			return OL_OK;
		}
		if (g->text.failed)
			return ol_fail(err, OL_ERR_FULL,
				       "the answer's text is over its limit of %d bytes",
				       OL_ANSWER_TEXT_MAX);
		if (a->cancelled) {
			g->finish = OL_FINISH_CANCELLED;
			return OL_OK;
		}
		if (g->tokens.count == limit)
			continue;
		const enum ol_status s =
			ol_prefill(a->r->engine, a->session, &token, 1, a->logits, err);
		if (s != OL_OK)
			return s;
	}
}

static enum ol_status prepare(struct answer *a, const struct ol_tokens *prompt,
			      struct ol_error *err)
{
	const struct ol_config *c = ol_model_config(a->r->model);
	a->logits = malloc((size_t)c->vocab_size * sizeof *a->logits);
	bool ok = a->logits != NULL;
	for (size_t i = 0; i < prompt->count && ok; i++)
		ok = ol_tokens_push(&a->history, prompt->ids[i]);
	if (!ok || ol_session_open(&a->session, a->r->engine) != OL_OK ||
	    ol_sampler_open(&a->sampler, ol_engine_kernels(a->r->engine), c->vocab_size) != OL_OK)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the prompt");
	return OL_OK;
}

enum ol_status ol_generate(struct ol_generation *generation, struct ol_runtime *runtime,
			   const struct ol_tokens *prompt,
			   const struct ol_generate_options *options, struct ol_error *err)
{
	const int64_t room = ol_engine_pages_total(runtime->engine) * OL_KV_PAGE;
	struct answer a = {
		.r = runtime, .o = options, .g = generation, .prompt_count = prompt->count};
	*generation = (struct ol_generation){0};
	ol_buf_init(&generation->text, OL_ANSWER_TEXT_MAX);
	ol_buf_init(&a.raw, OL_ANSWER_TEXT_MAX);
	enum ol_status s = ol_sampling_check(&options->sampling, err);
	if (s == OL_OK && prompt->count == 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "the prompt is empty and the model has no token to begin "
			    "a text with: give it at least one word");
	if (s == OL_OK && (int64_t)prompt->count > room)
		s = ol_fail(err, OL_ERR_INPUT,
			    "the prompt has %zu tokens, but the context holds %lld: shorten it",
			    prompt->count, (long long)room);
	if (s == OL_OK)
		s = prepare(&a, prompt, err);
	const double start = ol_clock_seconds();
	if (s == OL_OK)
		s = ol_prefill(runtime->engine, a.session, prompt->ids, prompt->count, a.logits,
			       err);
	const double prefilled = ol_clock_seconds();
	if (s == OL_OK) {
		/* The last token needs no position of its own: it is never run. */
		size_t limit = (size_t)(room - (int64_t)prompt->count) + 1;
		if (options->max_tokens > 0)
			limit = OL_MIN(limit, (size_t)options->max_tokens);
		s = decode(&a, limit, err);
		if (generation->finish != OL_FINISH_CANCELLED) {
			if (!a.stopped)
				take_characters(&a, true);
			send_text(&a, generation->text.size);
		}
	}
	generation->prefill_seconds = prefilled - start;
	generation->decode_seconds = ol_clock_seconds() - prefilled;
	ol_session_close(a.session);
	ol_sampler_close(a.sampler);
	ol_buf_release(&a.raw);
	ol_tokens_release(&a.history);
	free(a.logits);
	if (s != OL_OK)
		ol_generation_release(generation);
	return s;
}

void ol_generation_release(struct ol_generation *generation)
{
	ol_tokens_release(&generation->tokens);
	ol_buf_release(&generation->text);
	free(generation->infos);
	*generation = (struct ol_generation){0};
}
