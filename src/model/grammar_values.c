/* The types of JSON Schema as nodes: literals, numbers, strings, arrays, objects. */
#include "model/grammar_internal.h"

#include "model/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- spelling -------------------------------------------------------------- */

size_t ol_json_escape(char out[OL_JSON_ESCAPE_MAX], uint32_t code)
{
	static const char values[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
	const char *at = code > 0 && code < 0x80 ? strchr(values, (int)code) : NULL;
	if (at) {
		out[0] = '\\';
		out[1] = names[at - values];
		return 2;
	}
	if (code >= 0x20)
		return ol_utf8_put(out, code);
	return (size_t)snprintf(out, OL_JSON_ESCAPE_MAX, "\\u%04x", (unsigned)code);
}

/* The inside of a string. False: it holds a NUL character, which is no character of ours. */
static bool write_characters(struct ol_buf *out, const char *text, size_t size)
{
	for (size_t at = 0, length; at < size; at += length) {
		char spelled[OL_JSON_ESCAPE_MAX];
		const uint32_t code = ol_utf8_at(text + at, &length);
		if (code == 0)
			return false;
		(void)ol_buf_append(out, spelled, ol_json_escape(spelled, code));
	}
	return true;
}

static bool write_string(struct ol_buf *out, const json_t *value)
{
	(void)ol_buf_append_text(out, "\"");
	const bool ok = write_characters(out, json_string_value(value), json_string_length(value));
	(void)ol_buf_append_text(out, "\"");
	return ok;
}

/* The shortest digits that give the same number, with an exponent only where it is far from 1. */
static void write_real(struct ol_buf *out, double value)
{
	char text[64] = "";
	const bool near = value == 0 || (fabs(value) >= 1e-5 && fabs(value) < 1e15);
	for (int digits = 1; digits <= 21 && (digits == 1 || strtod(text, NULL) != value); digits++)
		snprintf(text, sizeof text, near ? "%.*f" : "%.*g", digits, value);
	(void)ol_buf_append_text(out, text);
	if (!strpbrk(text, ".e"))
		(void)ol_buf_append_text(out, ".0");
}

bool ol_grammar_write(struct ol_buf *out, const json_t *value, int depth)
{
	bool first = true;
	size_t i;
	const char *name;
	json_t *item;
	if (depth > OL_GRAMMAR_DEPTH_MAX)
		return false;
	switch (json_typeof(value)) {
	case JSON_NULL: return ol_buf_append_text(out, "null");
	case JSON_TRUE: return ol_buf_append_text(out, "true");
	case JSON_FALSE: return ol_buf_append_text(out, "false");
	case JSON_STRING: return write_string(out, value);
	case JSON_INTEGER: return ol_buf_printf(out, "%lld", (long long)json_integer_value(value));
	case JSON_REAL: write_real(out, json_real_value(value)); return true;
	case JSON_ARRAY:
		(void)ol_buf_append_text(out, "[");
		json_array_foreach((json_t *)(uintptr_t)value, i, item)
		{
			if (i > 0)
				(void)ol_buf_append_text(out, ",");
			if (!ol_grammar_write(out, item, depth + 1))
				return false;
		}
		return ol_buf_append_text(out, "]");
	case JSON_OBJECT:
		(void)ol_buf_append_text(out, "{");
		json_object_foreach((json_t *)(uintptr_t)value, name, item)
		{
			(void)ol_buf_append_text(out, first ? "\"" : ",\"");
			first = false;
			(void)write_characters(out, name, strlen(name));
			(void)ol_buf_append_text(out, "\":");
			if (!ol_grammar_write(out, item, depth + 1))
				return false;
		}
		return ol_buf_append_text(out, "}");
	}
	OL_UNREACHABLE();
}

/* --- regular languages ----------------------------------------------------- */

/* Takes the dfa over. What nothing matches is an error that says `what`. */
static uint16_t add_dfa(struct ol_grammar_builder *b, struct ol_dfa *dfa, const char *what)
{
	struct ol_grammar *g = b->g;
	void *dfas = g->dfas;
	uint16_t node = OL_GRAMMAR_NONE;
	b->states += dfa->state_count;
	if (b->status != OL_OK)
		;
	else if (dfa->state_count == 0)
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "no value satisfies %s", what);
	else if (b->states > OL_GRAMMAR_STATES_TOTAL_MAX ||
		 !ol_grammar_grow(&dfas, &g->dfa_room, g->dfa_count, sizeof *g->dfas,
				  OL_GRAMMAR_NODES_MAX))
		(void)ol_grammar_full(b);
	else
		node = ol_grammar_node(b, OL_GRAMMAR_BYTES);
	g->dfas = dfas;
	if (node == OL_GRAMMAR_NONE) {
		ol_dfa_release(dfa);
		return node;
	}
	for (int byte = 0; byte < 256; byte++)
		if (ol_dfa_step(dfa, 0, (uint8_t)byte) != OL_DFA_DEAD)
			g->nodes[node].first[byte / 64] |= 1ull << byte % 64;
	g->dfas[g->dfa_count] = *dfa;
	g->nodes[node].begin = g->dfa_count++;
	return node;
}

/* Makes the nfa deterministic and releases it. */
static bool make_dfa(struct ol_grammar_builder *b, struct ol_dfa *dfa, struct ol_nfa *nfa,
		     uint32_t begin, uint32_t end)
{
	*dfa = (struct ol_dfa){0};
	if (b->status == OL_OK && ol_dfa_make(dfa, nfa, begin, end, &b->work) != OL_OK)
		(void)ol_grammar_full(b);
	ol_nfa_release(nfa);
	return b->status == OL_OK;
}

/* quoted: the texts are strings of JSON themselves (enum); else they stand as they are. */
static uint16_t literals(struct ol_grammar_builder *b, const json_t *values, bool quoted)
{
	struct ol_nfa nfa;
	struct ol_dfa dfa;
	struct ol_buf text;
	size_t i;
	json_t *value;
	ol_nfa_init(&nfa);
	ol_buf_init(&text, OL_GRAMMAR_SCHEMA_MAX * 6);
	const uint32_t begin = ol_nfa_state(&nfa), end = ol_nfa_state(&nfa);
	json_array_foreach((json_t *)(uintptr_t)values, i, value)
	{
		ol_buf_clear(&text);
		if (!quoted)
			(void)ol_buf_append(&text, json_string_value(value),
					    json_string_length(value));
		else if (!ol_grammar_write(&text, value, 1))
			(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
					      "value %zu of \"enum\" or \"const\" holds a NUL "
					      "character or nests deeper than %d",
					      i, OL_GRAMMAR_DEPTH_MAX);
		if (text.failed)
			(void)ol_grammar_full(b);
		ol_nfa_text(&nfa, begin, text.data ? text.data : "", text.size, end);
	}
	ol_buf_release(&text);
	return make_dfa(b, &dfa, &nfa, begin, end) ? add_dfa(b, &dfa, "an empty list")
						   : OL_GRAMMAR_NONE;
}

uint16_t ol_grammar_literals(struct ol_grammar_builder *b, const json_t *values)
{
	return literals(b, values, true);
}

uint16_t ol_grammar_texts(struct ol_grammar_builder *b, const json_t *texts)
{
	return literals(b, texts, false);
}

/* --- numbers --------------------------------------------------------------- */

/* Whole bounds, and whether they themselves are outside. */
struct range {
	int64_t low, high;
	bool low_open, high_open, low_given, high_given;
};

/* Integers without a bound have at most 18 digits, numbers at most 15 before the point. In numbers
 * with bounds an f64 must tell any two of 6 digits after the point apart. */
static const int64_t integer_most = 999999999999999999, number_most = 999999999999999,
		     number_bound_max = 1000000000;

/* A bound as a whole number. For integers a fraction moves to the next one inside. */
static bool read_bound(struct ol_grammar_builder *b, const json_t *schema, const char *keyword,
		       bool integer, bool is_low, bool open, struct range *r)
{
	const json_t *value = json_object_get(schema, keyword);
	int64_t bound = json_integer_value(value);
	if (!value)
		return true;
	if (!json_is_number(value)) {
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"%s\" must be a number", keyword);
		return false;
	}
	if (json_is_real(value)) {
		const double real = json_real_value(value);
		const double whole = is_low ? ceil(real) : floor(real);
		if (!(fabs(real) <= 0x1p53) || (whole != real && !integer)) {
			(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
					      "\"%s\" is %g: only whole bounds can be enforced "
					      "exactly",
					      keyword, real);
			return false;
		}
		open = open && whole == real;
		bound = (int64_t)whole;
	}
	if (!integer && (bound > number_bound_max || bound < -number_bound_max)) {
		(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
				      "\"%s\" of a number must be within +-%lld to be enforced "
				      "exactly",
				      keyword, (long long)number_bound_max);
		return false;
	}
	if (is_low && (!r->low_given || bound > r->low || (bound == r->low && open))) {
		r->low = bound;
		r->low_open = open;
		r->low_given = true;
	}
	if (!is_low && (!r->high_given || bound < r->high || (bound == r->high && open))) {
		r->high = bound;
		r->high_open = open;
		r->high_given = true;
	}
	return true;
}

static void integers(struct ol_nfa *nfa, uint32_t begin, struct range r, uint32_t end)
{
	if (!r.low_given)
		r.low = r.high_given && r.high < -integer_most ? INT64_MIN + 1 : -integer_most;
	if (!r.high_given)
		r.high = r.low > integer_most ? INT64_MAX : integer_most;
	if (r.low_open && r.low < INT64_MAX)
		r.low++;
	if (r.high_open && r.high > INT64_MIN)
		r.high--;
	if (r.low <= r.high)
		ol_nfa_integer(nfa, begin, r.low, r.high, end);
}

uint16_t ol_grammar_number(struct ol_grammar_builder *b, const json_t *schema, bool integer)
{
	struct range r = {.low = 0};
	struct ol_nfa nfa;
	struct ol_dfa dfa;
	if (!read_bound(b, schema, "minimum", integer, true, false, &r) ||
	    !read_bound(b, schema, "exclusiveMinimum", integer, true, true, &r) ||
	    !read_bound(b, schema, "maximum", integer, false, false, &r) ||
	    !read_bound(b, schema, "exclusiveMaximum", integer, false, true, &r))
		return OL_GRAMMAR_NONE;
	ol_nfa_init(&nfa);
	const uint32_t begin = ol_nfa_state(&nfa), end = ol_nfa_state(&nfa);
	if (integer)
		integers(&nfa, begin, r, end);
	else if (!r.low_given && !r.high_given)
		ol_nfa_number(&nfa, begin, end);
	else
		ol_nfa_number_range(&nfa, begin, r.low_given ? r.low : -number_most, r.low_open,
				    r.high_given ? r.high : number_most, r.high_open, end);
	return make_dfa(b, &dfa, &nfa, begin, end) ? add_dfa(b, &dfa, "minimum and maximum")
						   : OL_GRAMMAR_NONE;
}

/* --- strings --------------------------------------------------------------- */

/* The strings of JSON that match a pattern. */
static bool pattern_dfa(struct ol_grammar_builder *b, struct ol_dfa *dfa, const char *pattern,
			size_t size)
{
	struct ol_nfa nfa;
	const char *failure;
	ol_nfa_init(&nfa);
	const uint32_t begin = ol_nfa_state(&nfa), inside = ol_nfa_state(&nfa),
		       close = ol_nfa_state(&nfa), end = ol_nfa_state(&nfa);
	ol_nfa_edge(&nfa, begin, '"', '"', inside);
	ol_nfa_edge(&nfa, close, '"', '"', end);
	if (ol_nfa_pattern(&nfa, inside, pattern, size, close, &failure) == OL_ERR_UNSUPPORTED)
		(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED, "\"pattern\" \"%.200s\": %s", pattern,
				      failure ? failure : "cannot be read");
	return make_dfa(b, dfa, &nfa, begin, end);
}

static bool length_dfa(struct ol_grammar_builder *b, struct ol_dfa *dfa, uint32_t min, uint32_t max)
{
	struct ol_nfa nfa;
	ol_nfa_init(&nfa);
	const uint32_t begin = ol_nfa_state(&nfa), inside = ol_nfa_state(&nfa),
		       close = ol_nfa_state(&nfa), end = ol_nfa_state(&nfa);
	ol_nfa_edge(&nfa, begin, '"', '"', inside);
	ol_nfa_edge(&nfa, close, '"', '"', end);
	ol_nfa_length(&nfa, inside, min, max, close);
	return make_dfa(b, dfa, &nfa, begin, end);
}

/* Takes both over; the first one holds what both accept. */
static bool intersect(struct ol_grammar_builder *b, struct ol_dfa *dfa, struct ol_dfa *other)
{
	struct ol_dfa both;
	if (dfa->class_count == 0) { /* the first one */
		*dfa = *other;
		return true;
	}
	const enum ol_status s = ol_dfa_intersect(&both, dfa, other, &b->work);
	ol_dfa_release(dfa);
	ol_dfa_release(other);
	*dfa = both;
	if (s != OL_OK)
		(void)ol_grammar_full(b);
	return s == OL_OK;
}

static uint16_t matching_string(struct ol_grammar_builder *b, const json_t *pattern,
				const char *format, uint32_t min, uint32_t max)
{
	struct ol_dfa dfa = {0}, other;
	bool ok = true;
	if (pattern)
		ok = pattern_dfa(b, &other, json_string_value(pattern),
				 json_string_length(pattern)) &&
		     intersect(b, &dfa, &other);
	if (ok && format)
		ok = pattern_dfa(b, &other, format, strlen(format)) && intersect(b, &dfa, &other);
	if (ok && (min > 0 || max != UINT32_MAX))
		ok = length_dfa(b, &other, min, max) && intersect(b, &dfa, &other);
	if (!ok) {
		ol_dfa_release(&dfa);
		return OL_GRAMMAR_NONE;
	}
	if (dfa.state_count > 0 && !ol_dfa_find_room(&dfa)) {
		ol_dfa_release(&dfa);
		return ol_grammar_full(b);
	}
	return add_dfa(b, &dfa, "pattern, format, minLength and maxLength together");
}

uint16_t ol_grammar_string(struct ol_grammar_builder *b, const json_t *schema)
{
	const json_t *pattern = json_object_get(schema, "pattern"),
		     *format = json_object_get(schema, "format");
	const char *format_pattern = NULL;
	uint32_t min, max;
	if (!ol_grammar_count(b, schema, "minLength", 0, &min) ||
	    !ol_grammar_count(b, schema, "maxLength", UINT32_MAX, &max))
		return OL_GRAMMAR_NONE;
	if (min > max)
		return ol_grammar_fail(b, OL_ERR_INPUT, "minLength is above maxLength");
	if (pattern && !json_is_string(pattern))
		return ol_grammar_fail(b, OL_ERR_INPUT, "\"pattern\" must be a string");
	if (format && !json_is_string(format))
		return ol_grammar_fail(b, OL_ERR_INPUT, "\"format\" must be a string");
	if (format)
		format_pattern = ol_grammar_format_pattern(json_string_value(format));
	if (format && !format_pattern)
		return ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
				       "the format \"%.64s\" is not one of date, time, date-time, "
				       "duration, uuid, email, hostname, ipv4: use a pattern",
				       json_string_value(format));
	if (pattern || format)
		return matching_string(b, pattern, format_pattern, min, max);
	const uint16_t node = ol_grammar_node(b, OL_GRAMMAR_STRING);
	if (node != OL_GRAMMAR_NONE) {
		b->g->nodes[node].min = min;
		b->g->nodes[node].max = max;
	}
	return node;
}

/* --- arrays ---------------------------------------------------------------- */

uint16_t ol_grammar_array(struct ol_grammar_builder *b, const json_t *schema)
{
	const json_t *prefix = json_object_get(schema, "prefixItems"),
		     *items = json_object_get(schema, "items");
	const uint16_t node = ol_grammar_node(b, OL_GRAMMAR_ARRAY);
	const size_t count = json_array_size(prefix);
	uint32_t min, max;
	uint16_t rest = OL_GRAMMAR_NONE;
	if (node == OL_GRAMMAR_NONE || !ol_grammar_count(b, schema, "minItems", 0, &min) ||
	    !ol_grammar_count(b, schema, "maxItems", UINT32_MAX, &max))
		return OL_GRAMMAR_NONE;
	if (prefix && !json_is_array(prefix))
		return ol_grammar_fail(b, OL_ERR_INPUT,
				       "\"prefixItems\" must be a list of schemas");
	if (json_is_array(items))
		return ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
				       "a list in \"items\" is of older drafts: write prefixItems");
	uint16_t *nodes = malloc((count + 1) * sizeof *nodes);
	if (!nodes)
		return ol_grammar_full(b);
	for (size_t i = 0; i < count && b->status == OL_OK; i++) {
		char index[24];
		snprintf(index, sizeof index, "%zu", i);
		nodes[i] =
			ol_grammar_compile_at(b, json_array_get(prefix, i), "prefixItems", index);
	}
	if (json_is_false(items))
		max = OL_MIN(max, (uint32_t)count);
	else
		rest = items ? ol_grammar_compile_at(b, items, "items", NULL) : ol_grammar_any(b);
	if (min > max)
		(void)ol_grammar_fail(
			b, OL_ERR_INPUT,
			"minItems is above maxItems, or above what prefixItems allows");
	struct ol_grammar_node *n = &b->g->nodes[node];
	n->begin = b->g->link_count;
	for (size_t i = 0; i < count; i++)
		(void)ol_grammar_link(b, b->status == OL_OK ? nodes[i] : OL_GRAMMAR_NONE);
	free(nodes);
	n->count = (uint32_t)count;
	n->rest = rest;
	n->min = min;
	n->max = max;
	return b->status == OL_OK ? node : OL_GRAMMAR_NONE;
}

/* --- objects --------------------------------------------------------------- */

/* The property's name goes to names, spelled; its other fields are the caller's. */
static bool add_name(struct ol_grammar_builder *b, struct ol_grammar_property *p, const char *name)
{
	enum { NAME_MAX = 4096 };
	struct ol_grammar *g = b->g;
	struct ol_buf text;
	ol_buf_init(&text, NAME_MAX);
	bool ok = write_characters(&text, name, strlen(name)) && !text.failed;
	p->name = g->name_size;
	p->name_size = (uint32_t)text.size;
	if (ok && g->name_size + text.size > g->name_room) {
		const size_t room = 2 * (g->name_size + text.size);
		char *grown = realloc(g->names, room);
		ok = grown != NULL;
		if (ok) {
			g->names = grown;
			g->name_room = (uint32_t)room;
		}
	}
	if (ok && text.size > 0) {
		memcpy(g->names + g->name_size, text.data, text.size);
		g->name_size += (uint32_t)text.size;
	}
	ol_buf_release(&text);
	if (!ok)
		(void)ol_grammar_fail(b, OL_ERR_FULL, "the name of a property is over %d bytes",
				      NAME_MAX);
	return ok;
}

static bool is_required(const json_t *required, const char *name)
{
	for (size_t i = 0; i < json_array_size(required); i++)
		if (strcmp(json_string_value(json_array_get(required, i)), name) == 0)
			return true;
	return false;
}

/* Declared ones in their order, then those that are only required, which are additional. */
static bool read_properties(struct ol_grammar_builder *b, struct ol_grammar_property *list,
			    uint32_t *count, const json_t *properties, const json_t *required,
			    uint16_t rest)
{
	const char *name;
	json_t *value;
	size_t i;
	*count = 0;
	json_object_foreach((json_t *)(uintptr_t)properties, name, value)
	{
		struct ol_grammar_property *p = &list[(*count)++];
		p->required = is_required(required, name);
		p->value = ol_grammar_compile_at(b, value, "properties", name);
		if (p->value == OL_GRAMMAR_NONE || !add_name(b, p, name))
			return false;
	}
	json_array_foreach((json_t *)(uintptr_t)required, i, value)
	{
		struct ol_grammar_property *p = &list[*count];
		name = json_string_value(value);
		bool listed = json_object_get(properties, name) != NULL;
		for (size_t k = 0; k < i && !listed; k++)
			listed = json_equal(json_array_get(required, k), value);
		if (listed)
			continue;
		if (rest == OL_GRAMMAR_NONE) {
			(void)ol_grammar_fail(b, OL_ERR_INPUT,
					      "\"%.64s\" is required, but it is not among the "
					      "properties and no others are allowed",
					      name);
			return false;
		}
		p->required = true;
		p->value = rest;
		++*count;
		if (!add_name(b, p, name))
			return false;
	}
	return true;
}

static bool check_object(struct ol_grammar_builder *b, const json_t *properties,
			 const json_t *required)
{
	if (properties && !json_is_object(properties))
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"properties\" must be an object");
	if (required && !json_is_array(required))
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"required\" must be a list of names");
	for (size_t i = 0; i < json_array_size(required); i++) {
		const json_t *name = json_array_get(required, i);
		if (!json_is_string(name) ||
		    strlen(json_string_value(name)) != json_string_length(name))
			(void)ol_grammar_fail(b, OL_ERR_INPUT,
					      "\"required\" must be a list of names");
	}
	if (json_object_size(properties) + json_array_size(required) > OL_GRAMMAR_PROPERTIES_MAX)
		(void)ol_grammar_fail(b, OL_ERR_FULL, "more than %d properties",
				      OL_GRAMMAR_PROPERTIES_MAX);
	return b->status == OL_OK;
}

/* Which of a list of properties comes first by name: for qsort. */
struct by_name {
	const char *name;
	uint32_t size;
	uint16_t index;
};

static int compare_names(const void *a, const void *b)
{
	const struct by_name *x = a, *y = b;
	const uint32_t both = OL_MIN(x->size, y->size);
	const int order = both ? memcmp(x->name, y->name, both) : 0;
	return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Puts the list where the grammar has it, with all that is derived from it. */
static bool store_properties(struct ol_grammar_builder *b, uint16_t node,
			     struct ol_grammar_property *list, uint32_t count)
{
	struct ol_grammar *g = b->g;
	struct by_name *sorted = calloc((size_t)count + 1, sizeof *sorted);
	uint16_t next = (uint16_t)count;
	const uint32_t begin = g->property_count;
	for (uint32_t i = count; i-- > 0;) {
		next = list[i].required ? (uint16_t)i : next;
		list[i].first_required = next;
	}
	for (uint32_t i = 0; i < count && sorted; i++) {
		void *properties = g->properties;
		sorted[i] =
			(struct by_name){g->names + list[i].name, list[i].name_size, (uint16_t)i};
		if (!ol_grammar_grow(&properties, &g->property_room, g->property_count,
				     sizeof *g->properties, UINT32_MAX / 64))
			(void)ol_grammar_full(b);
		g->properties = properties;
		if (b->status == OL_OK)
			g->properties[g->property_count++] = list[i];
	}
	if (!sorted) {
		(void)ol_grammar_full(b);
		return false;
	}
	qsort(sorted, count, sizeof *sorted, compare_names);
	g->nodes[node].begin = begin;
	g->nodes[node].count = count;
	g->nodes[node].sorted = g->link_count;
	for (uint32_t i = 0; i < count; i++)
		(void)ol_grammar_link(b, sorted[i].index);
	free(sorted);
	return b->status == OL_OK;
}

uint16_t ol_grammar_object(struct ol_grammar_builder *b, const json_t *schema)
{
	const json_t *properties = json_object_get(schema, "properties"),
		     *required = json_object_get(schema, "required"),
		     *rest_schema = json_object_get(schema, "additionalProperties");
	const uint16_t node = ol_grammar_node(b, OL_GRAMMAR_OBJECT);
	uint16_t rest = OL_GRAMMAR_NONE;
	uint32_t count;
	if (node == OL_GRAMMAR_NONE || !check_object(b, properties, required))
		return OL_GRAMMAR_NONE;
	/* Who lists properties and says nothing of others gets no others: still valid. */
	if (rest_schema && !json_is_false(rest_schema))
		rest = ol_grammar_compile_at(b, rest_schema, "additionalProperties", NULL);
	else if (!rest_schema && json_object_size(properties) == 0)
		rest = ol_grammar_any(b);
	struct ol_grammar_property *list =
		calloc(json_object_size(properties) + json_array_size(required) + 1, sizeof *list);
	if (!list)
		return ol_grammar_full(b);
	const bool ok = b->status == OL_OK &&
			read_properties(b, list, &count, properties, required, rest) &&
			store_properties(b, node, list, count);
	free(list);
	b->g->nodes[node].rest = rest;
	return ok ? node : OL_GRAMMAR_NONE;
}
