#include "node/attribute.h"

#include "base/clock.h"
#include "node/adapters.h"
#include "node/attribute_index.h"
#include "node/generate.h"
#include "node/runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading -------------------------------------------------------------------------------- */

struct ranked {
	const struct ol_share *row;
	uint32_t index;
};

static int by_share(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->row->share != y->row->share)
		return x->row->share > y->row->share ? -1 : 1;
	if (x->row->score != y->row->score)
		return x->row->score > y->row->score ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

void ol_attribution_rank(const struct ol_attribution *a, uint32_t *order)
{
	struct ranked *list = malloc(((size_t)a->count + 1) * sizeof *list);
	OL_ASSERT(list);
	for (uint32_t i = 0; i < a->count; i++)
		list[i] = (struct ranked){&a->shares[i], i};
	qsort(list, a->count, sizeof *list, by_share);
	for (uint32_t i = 0; i < a->count; i++)
		order[i] = list[i].index;
	free(list);
}

static json_t *hex_json(const uint8_t *bytes)
{
	char text[2 * OL_SHA256_BYTES + 1];
	ol_hex(text, bytes, OL_SHA256_BYTES);
	return json_string(text);
}

static json_t *contributors_json(const struct ol_attribution *a)
{
	const struct ol_index_content *c = ol_index_content(a->index);
	uint32_t *order = malloc(((size_t)a->count + 1) * sizeof *order);
	json_t *list = order ? json_array() : NULL;
	if (order)
		ol_attribution_rank(a, order);
	for (uint32_t i = 0; list && i < OL_MIN(a->count, (uint32_t)OL_ATTRIBUTION_LISTED); i++) {
		const uint32_t k = order[i];
		json_array_append_new(
			list, json_pack("{s:s, s:o, s:I, s:I, s:b, s:I}", "contributor",
					c->payees[k].name, "payee", hex_json(a->shares[k].payee),
					"score", (json_int_t)a->shares[k].score, "share_ppb",
					(json_int_t)a->shares[k].share, "told", a->told[k],
					"score_from_spans", (json_int_t)a->bonus[k]));
	}
	free(order);
	return list;
}

static json_t *examples_json(const struct ol_attribution *a)
{
	const struct ol_index_content *c = ol_index_content(a->index);
	json_t *list = json_array();
	for (int i = 0; list && i < a->top_count; i++) {
		const struct ol_index_example *e = &c->examples[a->top[i].example];
		json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "id", e->id, "contributor",
						      c->payees[e->payee].name, "score",
						      (json_int_t)a->top[i].score));
	}
	return list;
}

static json_t *span_json(const struct ol_attribution *a, const struct ol_span *span,
			 const struct ol_tokenizer *tokenizer, const int32_t *response)
{
	const struct ol_index_content *c = ol_index_content(a->index);
	struct ol_buf text;
	json_t *sources = json_array(), *object;
	ol_buf_init(&text, OL_ANSWER_TEXT_MAX);
	for (int i = 0; sources && i < span->source_count; i++) {
		const struct ol_index_example *e = &c->examples[span->sources[i].example];
		json_array_append_new(sources,
				      json_pack("{s:s, s:s, s:I}", "id", e->id, "contributor",
						c->payees[e->payee].name, "offset",
						(json_int_t)span->sources[i].offset));
	}
	object = json_pack("{s:i, s:i, s:f, s:o}", "begin", span->begin, "end",
			   span->begin + span->count, "surprise", (double)span->surprise / 1e6,
			   "sources", sources);
	if (object && tokenizer &&
	    ol_tokenizer_decode(tokenizer, &text, response + span->begin, (size_t)span->count,
				false) &&
	    text.data)
		json_object_set_new(object, "text", json_stringn(text.data, text.size));
	ol_buf_release(&text);
	return object;
}

json_t *ol_attribution_json(const struct ol_attribution *a, const struct ol_tokenizer *tokenizer,
			    const int32_t *response, int count)
{
	json_t *spans = json_array();
	for (int i = 0; spans && i < a->span_count; i++)
		if (a->spans[i].begin + a->spans[i].count <= count)
			json_array_append_new(spans,
					      span_json(a, &a->spans[i], tokenizer, response));
	json_t *object = json_pack(
		"{s:o, s:o, s:s, s:b, s:s, s:I, s:o, s:o, s:o}", "index",
		hex_json(ol_index_root(a->index)), "shares_root", hex_json(a->root), "confidence",
		a->low_confidence ? "low" : "normal", "clear", a->clear, "score_unit", "1e-9 nat",
		"contributors_total", (json_int_t)a->count, "contributors", contributors_json(a),
		"examples", examples_json(a), "spans", spans);
	if (object) {
		json_object_set_new(object, "nats", json_real(a->nats));
		if (isfinite(a->base_nats))
			json_object_set_new(object, "base_nats", json_real(a->base_nats));
	}
	return object;
}

bool ol_index_example_text(struct ol_buf *text, const struct ol_index *index, uint32_t example,
			   const struct ol_tokenizer *tokenizer)
{
	const struct ol_span_corpus *c = &ol_index_content(index)->spans;
	struct ol_tokens ids = {0};
	bool good = example < c->example_count;
	for (uint32_t i = good ? c->starts[example] : 0; good && i + 1 < c->starts[example + 1];
	     i++) {
		const int32_t token = ol_span_token(c, i);
		good = token >= 0 && token < (int32_t)c->vocab && ol_tokens_push(&ids, token);
	}
	good = good && ol_tokenizer_decode(tokenizer, text, ids.ids, ids.count, true);
	ol_tokens_release(&ids);
	return good;
}

/* ---- One answer, by name -------------------------------------------------------------------- */

/* A conversation of a question and, unless NULL, its answer; without a template their texts joined,
 * as training joins them. */
static enum ol_status encode_turns(const struct ol_runtime *r, struct ol_tokens *ids,
				   const char *prompt, const char *response, bool raw,
				   struct ol_error *err)
{
	const struct ol_chat_format format = ol_runtime_chat_format(r);
	struct ol_buf text;
	enum ol_status s = OL_OK;
	if (r->chat && !raw) {
		json_t *turns = json_pack("[{s:s, s:s}]", "role", "user", "content", prompt);
		if (turns && response)
			json_array_append_new(turns, json_pack("{s:s, s:s}", "role", "assistant",
							       "content", response));
		s = turns && json_array_size(turns) == (response ? 2 : 1)
			    ? ol_chat_encode(&format, ids, turns, !response, err)
			    : ol_fail(err, OL_ERR_INPUT, "prompt or response is not valid UTF-8");
		json_decref(turns);
		return s;
	}
	ol_buf_init(&text, OL_ANSWER_TEXT_MAX);
	s = ol_buf_append_text(&text, prompt) && (!response || ol_buf_append_text(&text, response))
		    ? ol_tokenizer_encode(r->tokenizer, ids, text.data ? text.data : "", text.size,
					  OL_SPECIAL_NONE, true, NULL, 0, err)
		    : ol_fail(err, OL_ERR_FULL, "out of memory for prompt and response");
	ol_buf_release(&text);
	return s;
}

/* The answer's ids: what follows the prompt's in the ids of both, up to what ends a turn; where the
 * tokens of both do not begin with the prompt's, those of the answer by itself. */
static enum ol_status encode_response(const struct ol_runtime *r, const struct ol_tokens *prompt,
				      struct ol_tokens *out, const char *prompt_text,
				      const char *response, bool raw, struct ol_error *err)
{
	struct ol_tokens both = {0};
	enum ol_status s = encode_turns(r, &both, prompt_text, response, raw, err);
	if (s == OL_OK && both.count > prompt->count &&
	    memcmp(both.ids, prompt->ids, prompt->count * sizeof *both.ids) == 0) {
		for (size_t i = prompt->count; s == OL_OK && i < both.count; i++) {
			if (ol_tokenizer_is_special(r->tokenizer, both.ids[i]))
				break;
			if (!ol_tokens_push(out, both.ids[i]))
				s = ol_fail(err, OL_ERR_FULL, "out of memory for the response");
		}
	} else if (s == OL_OK) {
		s = ol_tokenizer_encode(r->tokenizer, out, response, strlen(response),
					OL_SPECIAL_NONE, false, NULL, 0, err);
	}
	ol_tokens_release(&both);
	return s;
}

enum ol_status ol_runtime_encode_exchange(const struct ol_runtime *r, struct ol_tokens *prompt_out,
					  struct ol_tokens *response_out, const char *prompt,
					  const char *response, bool raw, struct ol_error *err)
{
	enum ol_status s = ol_runtime_need_tokenizer(r, err);
	if (s == OL_OK)
		s = encode_turns(r, prompt_out, prompt, NULL, raw, err);
	if (s == OL_OK && response)
		s = encode_response(r, prompt_out, response_out, prompt, response, raw, err);
	return s;
}

static enum ol_status encode(struct ol_explanation *x, const struct ol_runtime *r,
			     const struct ol_explain_request *q, struct ol_error *err)
{
	const enum ol_status s = ol_runtime_encode_exchange(r, &x->prompt, &x->response, q->prompt,
							    q->response, q->raw, err);
	if (s == OL_OK && q->response && !ol_buf_append_text(&x->text, q->response))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the response");
	return s;
}

/* The adapter's own answer, greedily. */
static enum ol_status answer(struct ol_explanation *x, struct ol_runtime *r,
			     const struct ol_explain_request *q,
			     const struct ol_engine_options *machine, struct ol_error *err)
{
	struct ol_engine_options options = *machine;
	struct ol_generation g;
	const struct ol_answer_options how = {.sampling = {.top_p = 1.0f, .repeat_penalty = 1.0f},
					      .max_tokens = q->max_tokens,
					      .strip_lead_space = true};
	options.kv_positions = OL_MIN((int64_t)x->prompt.count + q->max_tokens,
				      (int64_t)ol_model_config(r->model)->context_max);
	enum ol_status s = ol_runtime_start(r, &options, err);
	if (s == OL_OK)
		s = ol_generate(&g, r, &x->prompt, &how, err);
	if (s != OL_OK)
		return s;
	x->own_answer = true;
	if (g.text.size > 0 && !ol_buf_append(&x->text, g.text.data, g.text.size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the response");
	for (size_t i = 0; s == OL_OK && i < g.tokens.count; i++)
		if (!ol_tokens_push(&x->response, g.tokens.ids[i]))
			s = ol_fail(err, OL_ERR_FULL, "out of memory for the response");
	ol_generation_release(&g);
	return s;
}

static enum ol_status attribute(struct ol_explanation *x, const struct ol_runtime *r,
				const struct ol_explain_request *q,
				const struct ol_engine_options *machine, struct ol_error *err)
{
	struct ol_attributor *attributor;
	const size_t rows = x->prompt.count + x->response.count;
	if (rows > INT32_MAX)
		return ol_fail(err, OL_ERR_INPUT, "prompt and response are too long");
	const struct ol_attributor_options options = {
		.kernels = machine->kernels,
		.threads = machine->threads,
		.rows_max = (int)rows,
		.rank_max = ol_adapter_views(r->adapter)->rank_max};
	const struct ol_attribution_query query = {.index = x->index,
						   .adapter = r->adapter,
						   .prompt = x->prompt.ids,
						   .prompt_count = (int)x->prompt.count,
						   .response = x->response.ids,
						   .response_count = (int)x->response.count,
						   .top = q->top,
						   .gain = q->gain};
	enum ol_status s = ol_attributor_open(&attributor, r->model, &options, err);
	if (s != OL_OK)
		return s;
	const double start = ol_clock_seconds();
	s = ol_attribute(attributor, &x->attribution, &query, 1, err);
	x->seconds = ol_clock_seconds() - start;
	ol_attributor_close(attributor);
	return s;
}

enum ol_status ol_explain(struct ol_explanation *x, const struct ol_home *home,
			  const struct ol_explain_request *q, struct ol_error *err)
{
	char folder[OL_PATH_MAX], base[OL_NAME_MAX + 1];
	struct ol_runtime r = {0};
	struct ol_engine_options machine = {0};
	*x = (struct ol_explanation){0};
	ol_buf_init(&x->text, OL_ANSWER_TEXT_MAX);
	enum ol_status s = ol_runtime_environment(&machine, err);
	if (s == OL_OK)
		s = ol_home_find_adapter(home, folder, q->adapter, err);
	if (s == OL_OK)
		s = ol_adapter_base(home, base, folder, err);
	if (s == OL_OK)
		s = ol_adapter_open_index(&x->index, folder, err);
	if (s == OL_OK)
		s = ol_runtime_open(&r, home, base, err);
	if (s == OL_OK)
		s = ol_runtime_adapt(&r, home, folder, err);
	if (s == OL_OK)
		s = encode(x, &r, q, err);
	if (s == OL_OK && !q->response)
		s = answer(x, &r, q, &machine, err);
	if (s == OL_OK && x->response.count == 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "the answer is empty: there is nothing to attribute");
	if (s == OL_OK)
		s = attribute(x, &r, q, &machine, err);
	x->tokenizer = r.tokenizer;
	r.tokenizer = NULL;
	ol_runtime_close(&r);
	return s;
}

void ol_explanation_release(struct ol_explanation *x)
{
	ol_attribution_release(&x->attribution);
	ol_index_close(x->index);
	ol_tokens_release(&x->prompt);
	ol_tokens_release(&x->response);
	ol_buf_release(&x->text);
	ol_tokenizer_close(x->tokenizer);
}
