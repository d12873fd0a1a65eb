#include "ledger/opening.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/text.h"

static const char *const finish_names[] = {"stop", "length", "cancelled"};

/* --- out ------------------------------------------------------------------------- */

static json_t *tokens_json(const int32_t *tokens, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_integer(tokens[i]));
	return list;
}

static json_t *choices_json(const struct ol_opening *o)
{
	json_t *list = json_array();

	for (size_t i = 0; i < o->choice_count; i++) {
		const struct ol_opening_choice *c = &o->choices[i];
		OL_ASSERT(c->finish < OL_ARRAY_LEN(finish_names));
		json_array_append_new(list, json_pack("{s:o, s:s}", "tokens",
						      tokens_json(c->tokens, c->count),
						      "finish_reason", finish_names[c->finish]));
	}
	return list;
}

json_t *ol_opening_json(const struct ol_opening *o)
{
	char salt[2 * OL_SALT_BYTES + 1];
	json_t *prompts = json_array(), *json;

	ol_hex(salt, o->salt, OL_SALT_BYTES);
	for (size_t i = 0; i < o->prompt_count; i++)
		json_array_append_new(prompts,
				      tokens_json(o->prompts[i].tokens, o->prompts[i].count));
	json = json_pack("{s:s, s:o, s:o}", "salt", salt, "prompts", prompts, "choices",
			 choices_json(o));
	if (json && o->stop_count > 0) {
		json_t *stops = json_array();
		for (size_t i = 0; i < o->stop_count; i++)
			json_array_append_new(stops,
					      json_stringn(o->stops[i].bytes, o->stops[i].size));
		json_object_set_new(json, "stop", stops);
	}
	if (json && o->bias_count > 0) {
		json_t *bias = json_array();
		for (size_t i = 0; i < o->bias_count; i++)
			json_array_append_new(bias, json_pack("[i, f]", (int)o->bias[i].token,
							      (double)o->bias[i].bias));
		json_object_set_new(json, "logit_bias", bias);
	}
	if (json && o->grammar.size > 0)
		json_object_set_new(json, "grammar",
				    json_stringn(o->grammar.bytes, o->grammar.size));
	return json;
}

/* --- in -------------------------------------------------------------------------- */

/* Everything lies in one block, which is measured first: `at` NULL only counts. */
struct placing {
	uint8_t *at;
	size_t used;
};

static void *place(struct placing *p, size_t size)
{
	void *here = p->at ? p->at + p->used : NULL;

	p->used += (size + 15) / 16 * 16;
	return here;
}

static enum ol_status place_tokens(struct placing *p, const int32_t **tokens, size_t *count,
				   const json_t *list, const char *where, struct ol_error *err)
{
	if (!json_is_array(list) || json_array_size(list) > OL_OPENING_TOKENS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the opening's %s is not a list of tokens",
			       where);
	int32_t *out = place(p, json_array_size(list) * sizeof *out);
	*tokens = out;
	*count = json_array_size(list);
	for (size_t i = 0; i < *count; i++) {
		const json_t *token = json_array_get(list, i);
		const json_int_t id = json_integer_value(token);
		if (!json_is_integer(token) || id < INT32_MIN || id > INT32_MAX)
			return ol_fail(err, OL_ERR_INPUT,
				       "the opening's %s holds something at %zu that is no token",
				       where, i);
		if (out)
			out[i] = (int32_t)id;
	}
	return OL_OK;
}

static enum ol_status place_text(struct placing *p, struct ol_opening_text *text,
				 const json_t *json, const char *where, struct ol_error *err)
{
	if (!json_is_string(json))
		return ol_fail(err, OL_ERR_INPUT, "the opening's %s is not a text", where);
	char *out = place(p, json_string_length(json) + 1);
	*text = (struct ol_opening_text){out, json_string_length(json)};
	if (out)
		memcpy(out, json_string_value(json), text->size + 1);
	return OL_OK;
}

static enum ol_status place_prompts(struct placing *p, struct ol_opening *o, const json_t *json,
				    struct ol_error *err)
{
	const json_t *list = json_object_get(json, "prompts");
	enum ol_status s = OL_OK;

	if (!json_is_array(list) || json_array_size(list) > OL_RECEIPT_CHOICES_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the opening has no list \"prompts\"");
	o->prompt_count = json_array_size(list);
	struct ol_opening_prompt *out = place(p, o->prompt_count * sizeof *out), one;
	o->prompts = out;
	for (size_t i = 0; i < o->prompt_count && s == OL_OK; i++) {
		s = place_tokens(p, &one.tokens, &one.count, json_array_get(list, i), "prompts",
				 err);
		if (out)
			out[i] = one;
	}
	return s;
}

static enum ol_status place_choices(struct placing *p, struct ol_opening *o, const json_t *json,
				    struct ol_error *err)
{
	const json_t *list = json_object_get(json, "choices");
	enum ol_status s = OL_OK;

	if (!json_is_array(list) || json_array_size(list) > OL_RECEIPT_CHOICES_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the opening has no list \"choices\"");
	o->choice_count = json_array_size(list);
	struct ol_opening_choice *out = place(p, o->choice_count * sizeof *out), one;
	o->choices = out;
	for (size_t i = 0; i < o->choice_count && s == OL_OK; i++) {
		const json_t *choice = json_array_get(list, i);
		const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
		for (one.finish = 0; one.finish < OL_ARRAY_LEN(finish_names); one.finish++)
			if (finish && strcmp(finish, finish_names[one.finish]) == 0)
				break;
		if (one.finish == OL_ARRAY_LEN(finish_names))
			return ol_fail(
				err, OL_ERR_INPUT,
				"choice %zu of the opening has no finish_reason of \"stop\", "
				"\"length\" or \"cancelled\"",
				i);
		s = place_tokens(p, &one.tokens, &one.count, json_object_get(choice, "tokens"),
				 "choices", err);
		if (out)
			out[i] = one;
	}
	return s;
}

static enum ol_status place_stops(struct placing *p, struct ol_opening *o, const json_t *json,
				  struct ol_error *err)
{
	const json_t *list = json_object_get(json, "stop");
	enum ol_status s = OL_OK;

	if (!list)
		return OL_OK;
	if (!json_is_array(list) || json_array_size(list) > OL_RECEIPT_CHOICES_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the opening's \"stop\" is not a list of texts");
	o->stop_count = json_array_size(list);
	struct ol_opening_text *out = place(p, o->stop_count * sizeof *out), one;
	o->stops = out;
	for (size_t i = 0; i < o->stop_count && s == OL_OK; i++) {
		s = place_text(p, &one, json_array_get(list, i), "stop", err);
		if (out)
			out[i] = one;
	}
	return s;
}

static enum ol_status place_bias(struct placing *p, struct ol_opening *o, const json_t *json,
				 struct ol_error *err)
{
	const json_t *list = json_object_get(json, "logit_bias");

	if (!list)
		return OL_OK;
	if (!json_is_array(list) || json_array_size(list) > OL_OPENING_TOKENS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the opening's \"logit_bias\" is not a list");
	o->bias_count = json_array_size(list);
	struct ol_opening_bias *out = place(p, o->bias_count * sizeof *out);
	o->bias = out;
	for (size_t i = 0; i < o->bias_count; i++) {
		const json_t *pair = json_array_get(list, i);
		const json_t *token = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
		if (json_array_size(pair) != 2 || !json_is_integer(token) ||
		    json_integer_value(token) < 0 || json_integer_value(token) > INT32_MAX ||
		    !json_is_number(bias) || !(fabs(json_number_value(bias)) < 1e30))
			return ol_fail(
				err, OL_ERR_INPUT,
				"the opening's \"logit_bias\" holds something at %zu that is "
				"no pair of token and number",
				i);
		if (out)
			out[i] = (struct ol_opening_bias){(int32_t)json_integer_value(token),
							  (float)json_number_value(bias)};
	}
	return OL_OK;
}

static enum ol_status place_all(struct placing *p, struct ol_opening *o, const json_t *json,
				struct ol_error *err)
{
	const json_t *salt = json_object_get(json, "salt");
	const json_t *grammar = json_object_get(json, "grammar");
	enum ol_status s;

	*o = (struct ol_opening){0};
	if (!json_is_string(salt) || !ol_hex_parse(o->salt, OL_SALT_BYTES, json_string_value(salt),
						   json_string_length(salt)))
		return ol_fail(err, OL_ERR_INPUT, "the opening has no salt of %d hex digits",
			       2 * OL_SALT_BYTES);
	s = place_prompts(p, o, json, err);
	if (s == OL_OK)
		s = place_choices(p, o, json, err);
	if (s == OL_OK)
		s = place_stops(p, o, json, err);
	if (s == OL_OK)
		s = place_bias(p, o, json, err);
	if (s == OL_OK && grammar)
		s = place_text(p, &o->grammar, grammar, "grammar", err);
	return s;
}

enum ol_status ol_opening_parse(struct ol_opening_copy *copy, const json_t *json,
				struct ol_error *err)
{
	struct placing measure = {0}, real = {0};
	enum ol_status s = place_all(&measure, &copy->opening, json, err);

	copy->memory = NULL;
	if (s != OL_OK)
		return s;
	copy->memory = real.at = malloc(measure.used + 1);
	if (!real.at)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the opening");
	s = place_all(&real, &copy->opening, json, err);
	OL_ASSERT(s == OL_OK && real.used == measure.used);
	return s;
}

void ol_opening_release(struct ol_opening_copy *copy)
{
	free(copy->memory);
	copy->memory = NULL;
}
