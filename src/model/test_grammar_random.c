/* Structured output against an independent reading of JSON Schema: random schemas; random values
 * that a small validator of the test's own calls valid, spelled and cut into tokens at random, are
 * accepted; what is generated at random parses and validates; a text that was made wrong is
 * accepted only if the validator has nothing against it either. */
#include "model/grammar.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/test_pieces.h"

enum {
	EOS = TEST_EOS,
	PIECES = 640,
	SCHEMAS = 400,
	TOKENS_MAX = 600,
	TEXT_MAX = 1 << 16,
	REFS_DEPTH = 3
};

static uint32_t seed = 20;

static uint32_t below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % n;
}

static bool chance(uint32_t percent)
{
	return below(100) < percent;
}

/* --- a vocabulary: single bytes, and pieces of what JSON is made of --------- */

static const char alphabet[] = "{}[]\":, 0123456789.-eE+truefalsn\\abkxy";
static struct ol_tokenizer *tokenizer;
static struct ol_grammar_vocab *vocab;
static int vocab_size;

static int set_up(void **state)
{
	struct ol_error err;
	const int32_t eos[] = {EOS};
	static char spelled[PIECES][8];
	const char *pieces[PIECES];
	(void)state;
	for (int i = 0; i < PIECES; i++) {
		const uint32_t length = 1 + below(5);
		for (uint32_t k = 0; k < length; k++)
			spelled[i][k] = alphabet[below(sizeof alphabet - 1)];
		pieces[i] = spelled[i];
	}
	tokenizer = test_tokenizer(pieces, PIECES);
	vocab_size = ol_tokenizer_vocab_size(tokenizer);
	if (ol_grammar_vocab_open(&vocab, tokenizer, vocab_size, eos, 1, 0, &err) != OL_OK)
		fail_msg("%s", err.text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ol_grammar_vocab_close(vocab);
	ol_tokenizer_close(tokenizer);
	return 0;
}

/* --- random schemas -------------------------------------------------------- */

static const char *const names[] = {"a", "ab", "abc", "b", "k\"", "x\\y", "\xc3\xa9", ""};
static const char *const patterns[] = {"^a+$",      "b",      "^(ab|k){1,3}$",
				       "^[^a]?x*$", "\\d\\d", "^\\w+ ?$"};

static json_t *random_value(int depth)
{
	json_t *value;
	switch (below(depth > 0 ? 8 : 6)) {
	case 0: return json_null();
	case 1: return json_boolean(chance(50));
	case 2: return json_integer((int)below(300) - 100);
	case 3: return json_real((double)((int)below(4000) - 2000) / 8);
	case 4: return json_string(names[below(OL_ARRAY_LEN(names))]);
	case 5: return json_string("k\n\x01\xf0\x9f\x98\x80");
	case 6:
		value = json_array();
		for (uint32_t i = below(3); i > 0; i--)
			json_array_append_new(value, random_value(depth - 1));
		return value;
	default:
		value = json_object();
		for (uint32_t i = below(3); i > 0; i--)
			json_object_set_new(value, names[below(OL_ARRAY_LEN(names))],
					    random_value(depth - 1));
		return value;
	}
}

static json_t *random_schema(int depth);

static json_t *random_leaf(void)
{
	json_t *s;
	const int low = (int)below(200) - 100;
	switch (below(9)) {
	case 0: return json_pack("{s:s}", "type", "null");
	case 1: return json_pack("{s:s}", "type", "boolean");
	case 2: return json_pack("{s:s}", "type", chance(50) ? "integer" : "number");
	case 3:
		s = json_pack("{s:s}", "type", chance(60) ? "integer" : "number");
		if (chance(70))
			json_object_set_new(s, chance(50) ? "minimum" : "exclusiveMinimum",
					    json_integer(low));
		if (chance(70))
			json_object_set_new(s, chance(50) ? "maximum" : "exclusiveMaximum",
					    json_integer(low + 2 + (int)below(150)));
		return s;
	case 4: return json_pack("{s:s}", "type", "string");
	case 5:
		s = json_pack("{s:s}", "type", "string");
		if (chance(60))
			json_object_set_new(s, "minLength", json_integer(below(3)));
		if (chance(60))
			json_object_set_new(s, "maxLength", json_integer(2 + below(5)));
		return s;
	case 6: return json_pack("{s:s}", "pattern", patterns[below(OL_ARRAY_LEN(patterns))]);
	case 7: return json_pack("{s:o}", "const", random_value(1));
	default:
		s = json_array();
		for (uint32_t i = 1 + below(5); i > 0; i--)
			json_array_append_new(s, random_value(1));
		return json_pack("{s:o}", "enum", s);
	}
}

static json_t *random_array(int depth)
{
	json_t *s = json_pack("{s:s}", "type", "array");
	const uint32_t prefix = below(3);
	if (chance(30)) {
		json_t *list = json_array();
		for (uint32_t i = 0; i < prefix; i++)
			json_array_append_new(list, random_schema(depth - 1));
		json_object_set_new(s, "prefixItems", list);
	}
	if (chance(15) && json_object_get(s, "prefixItems")) {
		json_object_set_new(s, "items", json_false());
		return s;
	}
	if (chance(85))
		json_object_set_new(s, "items", random_schema(depth - 1));
	if (chance(40))
		json_object_set_new(s, "minItems", json_integer(below(3)));
	if (chance(40))
		json_object_set_new(s, "maxItems", json_integer(2 + below(2)));
	return s;
}

static json_t *random_object(int depth)
{
	json_t *s = json_pack("{s:s}", "type", "object"), *properties = json_object(),
	       *required = json_array();
	for (uint32_t i = below(4); i > 0; i--) {
		const char *name = names[below(OL_ARRAY_LEN(names))];
		if (chance(40) && !json_object_get(properties, name))
			json_array_append_new(required, json_string(name));
		if (!json_object_get(properties, name))
			json_object_set_new(properties, name, random_schema(depth - 1));
	}
	json_object_set_new(s, "properties", properties);
	json_object_set_new(s, "required", required);
	switch (below(3)) {
	case 0: json_object_set_new(s, "additionalProperties", json_false()); break;
	case 1: json_object_set_new(s, "additionalProperties", random_schema(depth - 1)); break;
	default: break;
	}
	return s;
}

static json_t *random_schema(int depth)
{
	if (depth == 0 || chance(35))
		return random_leaf();
	if (chance(10))
		return json_pack("{s:s}", "$ref", chance(70) ? "#/$defs/d" : "#");
	if (chance(20)) {
		json_t *list = json_array();
		for (uint32_t i = 2 + below(2); i > 0; i--)
			json_array_append_new(list, random_schema(depth - 1));
		/* A branch that is the whole again has no meaning of its own. */
		for (size_t i = 0; i < json_array_size(list); i++)
			if (json_object_get(json_array_get(list, i), "$ref"))
				json_array_set_new(list, i,
						   json_pack("{s:s}", "$ref", "#/$defs/d"));
		return json_pack("{s:o}", "anyOf", list);
	}
	if (chance(5))
		return json_object();
	return chance(50) ? random_array(depth) : random_object(depth);
}

/* --- a validator of the test's own ----------------------------------------- */

static const json_t *document;

static const json_t *follow(const json_t *schema)
{
	const char *ref = json_string_value(json_object_get(schema, "$ref"));
	if (!ref)
		return schema;
	return follow(strcmp(ref, "#") == 0
			      ? document
			      : json_object_get(json_object_get(document, "$defs"), "d"));
}

static size_t characters(const json_t *value)
{
	size_t n = 0;
	for (const char *c = json_string_value(value); *c; c++)
		n += (*c & 0xc0) != 0x80;
	return n;
}

static bool matches(const char *pattern, const json_t *value)
{
	int code;
	PCRE2_SIZE offset;
	pcre2_code *compiled =
		pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
			      PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code, &offset, NULL);
	assert_non_null(compiled);
	pcre2_match_data *data = pcre2_match_data_create_from_pattern(compiled, NULL);
	const int found = pcre2_match(compiled, (PCRE2_SPTR)json_string_value(value),
				      json_string_length(value), 0, 0, data, NULL);
	pcre2_match_data_free(data);
	pcre2_code_free(compiled);
	return found >= 0;
}

static bool is_type(const char *type, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_NULL: return strcmp(type, "null") == 0;
	case JSON_TRUE:
	case JSON_FALSE: return strcmp(type, "boolean") == 0;
	case JSON_STRING: return strcmp(type, "string") == 0;
	case JSON_ARRAY: return strcmp(type, "array") == 0;
	case JSON_OBJECT: return strcmp(type, "object") == 0;
	case JSON_INTEGER: return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
	case JSON_REAL: return strcmp(type, "number") == 0;
	}
	return false;
}

static bool in_bounds(const json_t *s, const json_t *value)
{
	const double x = json_number_value(value);
	const json_t *bound;
	if ((bound = json_object_get(s, "minimum")) && !(x >= json_number_value(bound)))
		return false;
	if ((bound = json_object_get(s, "maximum")) && !(x <= json_number_value(bound)))
		return false;
	if ((bound = json_object_get(s, "exclusiveMinimum")) && !(x > json_number_value(bound)))
		return false;
	return !(bound = json_object_get(s, "exclusiveMaximum")) || x < json_number_value(bound);
}

static bool counted(const json_t *s, const char *least, const char *most, size_t n)
{
	const json_t *min = json_object_get(s, least), *max = json_object_get(s, most);
	return (!min || n >= (size_t)json_integer_value(min)) &&
	       (!max || n <= (size_t)json_integer_value(max));
}

static bool validate(const json_t *schema, const json_t *value);

static bool validate_array(const json_t *s, const json_t *value)
{
	const json_t *prefix = json_object_get(s, "prefixItems"),
		     *items = json_object_get(s, "items");
	if (!counted(s, "minItems", "maxItems", json_array_size(value)))
		return false;
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *schema =
			i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
		if (schema && !validate(schema, json_array_get(value, i)))
			return false;
	}
	return true;
}

/* As the grammar has it: who lists properties and says nothing of others wants no others. */
static bool validate_object(const json_t *s, const json_t *value)
{
	const json_t *properties = json_object_get(s, "properties"),
		     *rest = json_object_get(s, "additionalProperties"),
		     *required = json_object_get(s, "required");
	const char *name;
	json_t *item;
	for (size_t i = 0; i < json_array_size(required); i++)
		if (!json_object_get(value, json_string_value(json_array_get(required, i))))
			return false;
	json_object_foreach((json_t *)(uintptr_t)value, name, item)
	{
		const json_t *schema = json_object_get(properties, name);
		if (schema ? !validate(schema, item)
		    : rest ? !validate(rest, item)
			   : json_object_size(properties) > 0)
			return false;
	}
	return true;
}

/* Numbers are equal by value. */
static bool equal(const json_t *a, const json_t *b)
{
	const char *name;
	json_t *item;
	if (json_is_number(a) && json_is_number(b))
		return json_number_value(a) == json_number_value(b);
	if (json_typeof(a) != json_typeof(b))
		return false;
	if (json_is_array(a)) {
		for (size_t i = 0; i < json_array_size(a); i++)
			if (i >= json_array_size(b) ||
			    !equal(json_array_get(a, i), json_array_get(b, i)))
				return false;
		return json_array_size(a) == json_array_size(b);
	}
	if (json_is_object(a)) {
		json_object_foreach((json_t *)(uintptr_t)a, name, item)
		{
			const json_t *other = json_object_get(b, name);
			if (!other || !equal(item, other))
				return false;
		}
		return json_object_size(a) == json_object_size(b);
	}
	return json_equal(a, b);
}

static bool validate(const json_t *schema, const json_t *value)
{
	const json_t *s = follow(schema), *keyword;
	bool any = false;
	if (json_is_boolean(s))
		return json_is_true(s);
	if ((keyword = json_object_get(s, "const")) && !equal(keyword, value))
		return false;
	if ((keyword = json_object_get(s, "type")) && !is_type(json_string_value(keyword), value))
		return false;
	if ((keyword = json_object_get(s, "pattern")) &&
	    (!json_is_string(value) || !matches(json_string_value(keyword), value)))
		return false;
	for (size_t i = 0; (keyword = json_object_get(s, "enum")) && i < json_array_size(keyword);
	     i++)
		any = any || equal(json_array_get(keyword, i), value);
	for (size_t i = 0; (keyword = json_object_get(s, "anyOf")) && i < json_array_size(keyword);
	     i++)
		any = any || validate(json_array_get(keyword, i), value);
	if (!any && (json_object_get(s, "enum") || json_object_get(s, "anyOf")))
		return false;
	if (json_is_number(value))
		return in_bounds(s, value);
	if (json_is_string(value))
		return counted(s, "minLength", "maxLength", characters(value));
	if (json_is_array(value))
		return validate_array(s, value);
	return !json_is_object(value) || validate_object(s, value);
}

/* --- random valid values --------------------------------------------------- */

static json_t *string_for(const json_t *s)
{
	static const char *const bits[] = {"a",
					   "b",
					   "k",
					   "x",
					   "7",
					   " ",
					   "\"",
					   "\\",
					   "\n",
					   "\x02",
					   "\xc3\xa9",
					   "\xe6\x97\xa5",
					   "\xf0\x9f\x98\x80",
					   "/"};
	for (int tries = 0; tries < 3000; tries++) {
		char text[64];
		size_t size = 0;
		for (uint32_t n = below(8); n > 0; n--) {
			const char *bit = bits[below(tries < 1000 ? OL_ARRAY_LEN(bits) : 6)];
			memcpy(text + size, bit, strlen(bit));
			size += strlen(bit);
		}
		text[size] = '\0';
		json_t *value = json_string(text);
		if (validate(s, value))
			return value;
		json_decref(value);
	}
	return NULL;
}

static json_t *value_for(const json_t *schema, int depth);

static json_t *array_for(const json_t *s, int depth)
{
	const json_t *prefix = json_object_get(s, "prefixItems"),
		     *items = json_object_get(s, "items");
	json_t *value = json_array();
	const json_t *min = json_object_get(s, "minItems"), *max = json_object_get(s, "maxItems");
	size_t count = (size_t)json_integer_value(min) + (depth > 0 ? below(3) : 0);
	if (max)
		count = OL_MIN(count, (size_t)json_integer_value(max));
	for (size_t i = 0; i < count; i++) {
		const json_t *schema =
			i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
		if (json_is_false(schema))
			break;
		json_t *item = schema ? value_for(schema, depth - 1) : random_value(1);
		if (item)
			json_array_append_new(value, item);
	}
	return value;
}

static json_t *object_for(const json_t *s, int depth)
{
	const json_t *properties = json_object_get(s, "properties"),
		     *rest = json_object_get(s, "additionalProperties"),
		     *required = json_object_get(s, "required");
	json_t *value = json_object(), *schema, *item;
	const char *name;
	json_object_foreach((json_t *)(uintptr_t)properties, name, schema)
	{
		bool needed = chance(50) && depth > 0;
		for (size_t i = 0; i < json_array_size(required); i++)
			needed |= strcmp(name, json_string_value(json_array_get(required, i))) == 0;
		if (needed && (item = value_for(schema, depth - 1)))
			json_object_set_new(value, name, item);
	}
	for (uint32_t i = json_is_object(rest) && depth > 0 ? below(3) : 0; i > 0; i--) {
		char other[16];
		snprintf(other, sizeof other, "%s%u", names[below(OL_ARRAY_LEN(names))], i);
		if ((item = value_for(rest, depth - 1)))
			json_object_set_new(value, other, item);
	}
	return value;
}

/* NULL: none was found. It may be wrong: the caller validates. */
static json_t *value_for(const json_t *schema, int depth)
{
	const json_t *s = follow(schema), *keyword;
	const char *type = json_string_value(json_object_get(s, "type"));
	if (depth < -REFS_DEPTH)
		return NULL;
	if ((keyword = json_object_get(s, "const")))
		return json_incref((json_t *)(uintptr_t)keyword);
	if ((keyword = json_object_get(s, "enum")))
		return json_incref(
			json_array_get(keyword, below((uint32_t)json_array_size(keyword))));
	if ((keyword = json_object_get(s, "anyOf")))
		return value_for(json_array_get(keyword, below((uint32_t)json_array_size(keyword))),
				 depth - 1);
	if (json_object_get(s, "pattern"))
		return string_for(s);
	if (!type)
		return random_value(depth > 0);
	if (strcmp(type, "string") == 0)
		return string_for(s);
	if (strcmp(type, "array") == 0)
		return array_for(s, depth);
	if (strcmp(type, "object") == 0)
		return object_for(s, depth);
	for (int tries = 0; tries < 1000; tries++) {
		json_t *value = strcmp(type, "integer") == 0 ? json_integer((int)below(400) - 150)
				: strcmp(type, "number") == 0
					? json_real((double)((int)below(4000) - 1500) / 16)
				: strcmp(type, "null") == 0 ? json_null()
							    : json_boolean(chance(50));
		if (validate(s, value))
			return value;
		json_decref(value);
	}
	return NULL;
}

/* --- spelling and cutting -------------------------------------------------- */

static void spell_string(struct ol_buf *out, const char *text)
{
	ol_buf_append_text(out, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\' || *text == '\n')
			ol_buf_printf(out, "\\%c", *text == '\n' ? 'n' : *text);
		else if ((unsigned char)*text < 0x20)
			ol_buf_printf(out, "\\u%04x", *text);
		else
			ol_buf_append(out, text, 1);
	}
	ol_buf_append_text(out, "\"");
}

/* As the grammar wants it: a space or none after , and : except in the values of an enum, which
 * `spaced` says. */
static void spell(struct ol_buf *out, const json_t *value, bool spaced)
{
	bool first = true;
	const char *name;
	json_t *item;
	char text[40];
	switch (json_typeof(value)) {
	case JSON_NULL: ol_buf_append_text(out, "null"); return;
	case JSON_TRUE: ol_buf_append_text(out, "true"); return;
	case JSON_FALSE: ol_buf_append_text(out, "false"); return;
	case JSON_INTEGER: ol_buf_printf(out, "%d", (int)json_integer_value(value)); return;
	case JSON_REAL:
		snprintf(text, sizeof text, "%.10g", json_real_value(value));
		ol_buf_append_text(out, text);
		if (!strpbrk(text, ".e"))
			ol_buf_append_text(out, ".0");
		return;
	case JSON_STRING: spell_string(out, json_string_value(value)); return;
	case JSON_ARRAY:
		ol_buf_append_text(out, "[");
		for (size_t i = 0; i < json_array_size(value); i++) {
			if (i > 0)
				ol_buf_append_text(out, spaced && chance(30) ? ", " : ",");
			spell(out, json_array_get(value, i), spaced);
		}
		ol_buf_append_text(out, "]");
		return;
	case JSON_OBJECT:
		ol_buf_append_text(out, "{");
		json_object_foreach((json_t *)(uintptr_t)value, name, item)
		{
			if (!first)
				ol_buf_append_text(out, spaced && chance(30) ? ", " : ",");
			first = false;
			spell_string(out, name);
			ol_buf_append_text(out, spaced && chance(30) ? ": " : ":");
			spell(out, item, spaced);
		}
		ol_buf_append_text(out, "}");
		return;
	}
}

/* A token that the rest of a text begins with: a long one, a short one, a byte. */
static int32_t cut(const char *text, size_t size, size_t *length)
{
	for (int tries = 0; tries < 200; tries++) {
		const int32_t id = TEST_PIECES + (int32_t)below((uint32_t)vocab_size - TEST_PIECES);
		const char *piece = ol_tokenizer_piece(tokenizer, id, length);
		if (*length <= size && memcmp(piece, text, *length) == 0)
			return id;
	}
	*length = 1;
	return 1 + (uint8_t)text[0];
}

/* Feeds a text in tokens cut at random, each of which the mask must agree on. Bytes accepted. */
static size_t feed(const struct ol_grammar *g, const char *text, size_t size, bool *complete)
{
	uint64_t *mask = calloc((size_t)vocab_size / 64 + 1, sizeof *mask);
	struct ol_grammar_state *s;
	size_t at = 0, length;
	assert_int_equal(ol_grammar_begin(&s, g, false, true), OL_OK);
	while (at < size) {
		int32_t token = cut(text + at, size - at, &length);
		if (!ol_grammar_mask(s, mask))
			break;
		bool allowed = mask[token / 64] >> token % 64 & 1;
		assert_int_equal(ol_grammar_accept(s, token), allowed);
		if (!allowed && length == 1)
			break;
		if (!allowed) { /* byte by byte to the one that is wrong */
			token = 1 + (uint8_t)text[at];
			allowed = ol_grammar_accept(s, token);
			length = allowed;
			if (!allowed)
				break;
		}
		at += length;
	}
	*complete = at == size && ol_grammar_is_complete(s);
	ol_grammar_state_close(s);
	free(mask);
	return at;
}

/* --- properties ------------------------------------------------------------ */

struct tally {
	int schemas, valid, wrong, refused, generated;
};

static bool has_values_of_objects(const char *schema_text)
{
	return strstr(schema_text, "const") || strstr(schema_text, "enum");
}

/* Values in the order of the schema's properties are accepted whole. */
static void check_valid(const struct ol_grammar *g, const json_t *schema, const char *schema_text,
			struct ol_buf *text, struct tally *tally)
{
	json_t *value = value_for(schema, 3);
	bool complete;
	if (value && validate(schema, value)) {
		ol_buf_clear(text);
		spell(text, value, !has_values_of_objects(schema_text));
		const size_t n = feed(g, text->data, text->size, &complete);
		if (n != text->size || !complete)
			fail_msg("%s\n%s: only %zu bytes", schema_text, text->data, n);
		tally->valid++;
	}
	json_decref(value);
}

/* One byte changed, removed or added: accepted only if it is still valid. */
static void check_mutant(const struct ol_grammar *g, const json_t *schema, const char *schema_text,
			 const struct ol_buf *text, struct tally *tally)
{
	char mutant[TEXT_MAX];
	json_error_t error;
	bool complete;
	if (text->size == 0 || text->size + 2 > sizeof mutant)
		return;
	const size_t at = below((uint32_t)text->size), removed = below(2);
	size_t size = at;
	memcpy(mutant, text->data, at);
	if (chance(70))
		mutant[size++] = alphabet[below(sizeof alphabet - 1)];
	memcpy(mutant + size, text->data + at + removed, text->size - at - removed);
	size += text->size - at - removed;
	mutant[size] = '\0';
	const size_t n = feed(g, mutant, size, &complete);
	if (n < at)
		fail_msg("%s\n%s: refused at %zu, changed at %zu", schema_text, mutant, n, at);
	json_t *value = json_loads(mutant, JSON_DECODE_ANY, &error);
	if (complete && !(value && validate(schema, value)))
		fail_msg("%s\n%s: accepted, but it is not valid", schema_text, mutant);
	tally->wrong += !complete;
	tally->refused += n < size;
	json_decref(value);
}

/* Any allowed token, with a leaning towards what closes: an end is reached, and is valid. */
static void check_generated(const struct ol_grammar *g, const json_t *schema,
			    const char *schema_text, struct ol_buf *text, struct tally *tally)
{
	uint64_t *mask = calloc((size_t)vocab_size / 64 + 1, sizeof *mask);
	struct ol_grammar_state *s;
	json_error_t error;
	assert_int_equal(ol_grammar_begin(&s, g, false, true), OL_OK);
	ol_buf_clear(text);
	for (int i = 0; i < TOKENS_MAX && !ol_grammar_is_over(s); i++) {
		int32_t token = (int32_t)below((uint32_t)vocab_size);
		size_t length;
		assert_true(ol_grammar_mask(s, mask));
		for (const char *c = "\"}]0"; i > 20 && *c; c++)
			if (mask[(1 + *c) / 64] >> (1 + *c) % 64 & 1 && chance(60))
				token = 1 + *c;
		while (!(mask[token / 64] >> token % 64 & 1))
			token = (token + 1) % vocab_size;
		if (token == EOS)
			break;
		assert_true(ol_grammar_accept(s, token));
		const char *piece = ol_tokenizer_piece(tokenizer, token, &length);
		assert_true(ol_buf_append(text, piece, length));
	}
	if (ol_grammar_is_complete(s)) {
		json_t *value = json_loads(text->data, JSON_DECODE_ANY, &error);
		if (!value)
			fail_msg("%s\n%s: %s", schema_text, text->data, error.text);
		if (!validate(schema, value))
			fail_msg("%s\n%s: generated, but not valid", schema_text, text->data);
		json_decref(value);
		tally->generated++;
	}
	ol_grammar_state_close(s);
	free(mask);
}

static void test_random_schemas(void **state)
{
	struct tally tally = {0};
	struct ol_buf text;
	(void)state;
	ol_buf_init(&text, TEXT_MAX);
	for (int i = 0; i < SCHEMAS; i++) {
		struct ol_grammar *g = NULL;
		struct ol_error err;
		json_t *schema = random_schema(3);
		if (json_object_get(schema, "$ref")) {
			json_decref(schema);
			continue;
		}
		json_object_set_new(schema, "$defs", json_pack("{s:o}", "d", random_schema(0)));
		document = schema;
		char *schema_text = json_dumps(schema, JSON_COMPACT);
		if (ol_grammar_open_schema(&g, vocab, schema, &err) == OL_OK) {
			tally.schemas++;
			for (int k = 0; k < 10; k++) {
				check_generated(g, schema, schema_text, &text, &tally);
				check_valid(g, schema, schema_text, &text, &tally);
				check_mutant(g, schema, schema_text, &text, &tally);
			}
			ol_grammar_close(g);
		} else if (!strstr(err.text, "no value satisfies") &&
			   !strstr(err.text, "prefixItems allows")) {
			fail_msg("%s: %s", schema_text, err.text);
		}
		free(schema_text);
		json_decref(schema);
	}
	ol_buf_release(&text);
	print_message(
		"%d schemas: %d valid values accepted, %d of their mutants refused, %d values "
		"generated\n",
		tally.schemas, tally.valid, tally.refused, tally.generated);
	assert_true(tally.schemas > SCHEMAS / 2 && tally.valid > tally.schemas * 5 &&
		    tally.wrong > tally.schemas * 3 && tally.generated > tally.schemas * 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_schemas),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
