/* Schemas that hold together: $ref beside other keywords, allOf, anyOf beside other keywords. What
 * cannot be joined exactly is refused. */
#include "model/grammar_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MERGE_WORK = 1000, DISJOINT_DEPTH_MAX = 8 };

/* --- references ------------------------------------------------------------ */

/* One segment of a JSON pointer, unescaped; false where it does not fit. */
static bool segment(char *out, size_t room, const char **at)
{
	size_t n = 0;
	for (; **at && **at != '/'; ++*at) {
		char c = **at;
		if (c == '~' && ((*at)[1] == '0' || (*at)[1] == '1'))
			c = *++*at == '0' ? '~' : '/';
		if (n + 1 >= room)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

const json_t *ol_grammar_resolve(struct ol_grammar_builder *b, const json_t *reference)
{
	char name[512];
	const char *text = json_string_value(reference);
	const json_t *found = b->document;
	if (!text || text[0] != '#' || (text[1] != '/' && text[1] != '\0')) {
		(void)ol_grammar_fail(
			b, OL_ERR_UNSUPPORTED,
			"\"$ref\" must point into the same schema (\"#/$defs/NAME\")");
		return NULL;
	}
	for (const char *at = text + 1; *at == '/' && found;) {
		at++;
		if (!segment(name, sizeof name, &at))
			found = NULL;
		else if (json_is_array(found))
			found = json_array_get(found, (size_t)strtoul(name, NULL, 10));
		else
			found = json_object_get(found, name);
	}
	if (!found)
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"$ref\" \"%.200s\" leads nowhere", text);
	return found;
}

/* --- merging --------------------------------------------------------------- */

/* A new schema, kept until the end. */
static json_t *keep(struct ol_grammar_builder *b, json_t *schema)
{
	if (!schema || json_array_append_new(b->made, schema) != 0) {
		(void)ol_grammar_full(b);
		return NULL;
	}
	return schema;
}

/* Sets a keyword to a value that is the schema's from now on. */
static bool set_new(struct ol_grammar_builder *b, json_t *schema, const char *name, json_t *value)
{
	if (!value || json_object_set_new(schema, name, value) != 0)
		(void)ol_grammar_full(b);
	return b->status == OL_OK;
}

static bool set(struct ol_grammar_builder *b, json_t *schema, const char *name, const json_t *value)
{
	return set_new(b, schema, name, json_incref((json_t *)(uintptr_t)value));
}

static bool has_item(const json_t *list, const json_t *value)
{
	if (!json_is_array(list))
		return json_equal(list, value);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_equal(json_array_get(list, i), value))
			return true;
	return false;
}

/* The items of x that y has too; a single value is a list of one. */
static json_t *common(const json_t *x, const json_t *y)
{
	json_t *both = json_array();
	if (!json_is_array(x) && has_item(y, x))
		(void)json_array_append(both, (json_t *)(uintptr_t)x);
	for (size_t i = 0; i < json_array_size(x); i++)
		if (has_item(y, json_array_get(x, i)))
			(void)json_array_append(both, json_array_get(x, i));
	return both;
}

/* Types that both allow: an integer is a number. */
static bool merge_types(struct ol_grammar_builder *b, json_t *into, const json_t *x,
			const json_t *y)
{
	json_t *number = json_string("number"), *integer = json_string("integer");
	json_t *both = common(x, y);
	if (!number || !integer || !both)
		(void)ol_grammar_full(b);
	else if (!has_item(both, integer) && !has_item(both, number) &&
		 ((has_item(x, number) && has_item(y, integer)) ||
		  (has_item(x, integer) && has_item(y, number))))
		(void)json_array_append(both, integer);
	json_decref(number);
	json_decref(integer);
	if (both && json_array_size(both) == 0)
		(void)ol_grammar_fail(
			b, OL_ERR_INPUT,
			"no type is allowed by all of the schemas that are joined here");
	return set_new(b, into, "type", both);
}

/* Every name of `others` is among the properties. */
static bool covers(const json_t *properties, const json_t *others)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)others, name, value)
	{
		if (!json_object_get(properties, name))
			return false;
	}
	return true;
}

/* additionalProperties speaks of what the same schema does not list: that is not to change. */
static bool check_closed(struct ol_grammar_builder *b, const json_t *x, const json_t *y)
{
	for (int turn = 0; turn < 2; turn++) {
		const json_t *rest = json_object_get(turn ? y : x, "additionalProperties");
		const json_t *own = json_object_get(turn ? y : x, "properties");
		const json_t *others = json_object_get(turn ? x : y, "properties");
		if (rest && !json_is_true(rest) && !covers(own, others)) {
			(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
					      "schemas are joined of which one has "
					      "\"additionalProperties\" and another one has more "
					      "properties: write one schema with all of them");
			return false;
		}
	}
	return true;
}

static bool merge_properties(struct ol_grammar_builder *b, json_t *into, const json_t *x,
			     const json_t *y)
{
	const char *name;
	json_t *value, *all = json_copy((json_t *)(uintptr_t)x);
	if (!all || !json_is_object(x) || !json_is_object(y)) {
		json_decref(all);
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"properties\" must be an object");
		return false;
	}
	json_object_foreach((json_t *)(uintptr_t)y, name, value)
	{
		const json_t *old = json_object_get(all, name);
		if (!old)
			(void)json_object_set(all, name, value);
		else if (!json_equal(old, value))
			(void)json_object_set_new(all, name,
						  json_pack("{s:[OO]}", "allOf", old, value));
	}
	return set_new(b, into, "properties", all);
}

/* Lists of which all items count. */
static bool append_lists(struct ol_grammar_builder *b, json_t *into, const char *name,
			 const json_t *x, const json_t *y)
{
	json_t *all = json_copy((json_t *)(uintptr_t)x);
	for (size_t i = 0; i < json_array_size(y); i++)
		if (!has_item(x, json_array_get(y, i)))
			(void)json_array_append(all, json_array_get(y, i));
	return set_new(b, into, name, all);
}

/* One keyword that both have. */
static bool merge_keyword(struct ol_grammar_builder *b, json_t *into, const char *name,
			  const json_t *x, const json_t *y)
{
	static const char *const lower[] = {"minimum", "exclusiveMinimum", "minLength", "minItems"};
	static const char *const upper[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems"};
	if (json_equal(x, y))
		return true;
	if (strcmp(name, "type") == 0)
		return merge_types(b, into, x, y);
	if (strcmp(name, "properties") == 0)
		return merge_properties(b, into, x, y);
	if ((strcmp(name, "required") == 0 || strcmp(name, "allOf") == 0) && json_is_array(x))
		return append_lists(b, into, name, x, y);
	if (strcmp(name, "enum") == 0)
		return set_new(b, into, name, common(x, y));
	for (size_t i = 0; i < OL_ARRAY_LEN(lower) && json_is_number(x) && json_is_number(y); i++) {
		const bool x_higher = json_number_value(x) > json_number_value(y);
		if (strcmp(name, lower[i]) == 0)
			return set(b, into, name, x_higher ? x : y);
		if (strcmp(name, upper[i]) == 0)
			return set(b, into, name, x_higher ? y : x);
	}
	(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
			      "schemas are joined that differ in \"%.64s\": write one schema",
			      name);
	return false;
}

const json_t *ol_grammar_merge(struct ol_grammar_builder *b, const json_t *x, const json_t *y)
{
	const char *name;
	json_t *value;
	if (json_is_true(x) || json_is_false(y))
		return y;
	if (json_is_true(y) || json_is_false(x))
		return x;
	if (!json_is_object(x) || !json_is_object(y)) {
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "a schema must be an object, true or false");
		return NULL;
	}
	b->work -= MERGE_WORK;
	if (b->work < 0) {
		(void)ol_grammar_full(b);
		return NULL;
	}
	const json_t *reference = json_object_get(y, "$ref");
	json_t *rest = keep(b, json_copy((json_t *)(uintptr_t)y));
	json_t *into = keep(b, json_copy((json_t *)(uintptr_t)x));
	if (!rest || !into || !check_closed(b, x, y))
		return NULL;
	(void)json_object_del(rest, "$ref");
	json_object_foreach(rest, name, value)
	{
		const json_t *old = json_object_get(x, name);
		if (old && ol_grammar_is_annotation(name))
			continue;
		if (old ? !merge_keyword(b, into, name, old, value) : !set(b, into, name, value))
			return NULL;
	}
	if (!reference)
		return into;
	const json_t *target = ol_grammar_resolve(b, reference);
	return target ? ol_grammar_merge(b, into, target) : NULL;
}

/* --- one of ---------------------------------------------------------------- */

/* Strings and names: what is spelled differently is different. (1 and 1.0 are not.) */
static bool spelled_apart(struct ol_grammar_builder *b, const struct ol_grammar_node *x,
			  const struct ol_grammar_node *y)
{
	struct ol_dfa both;
	for (const char *c = "-0123456789[{"; *c; c++)
		if (ol_grammar_begins(x, (uint8_t)*c) && ol_grammar_begins(y, (uint8_t)*c))
			return false;
	const enum ol_status s =
		ol_dfa_intersect(&both, &b->g->dfas[x->begin], &b->g->dfas[y->begin], &b->work);
	const bool apart = s == OL_OK && both.state_count == 0;
	ol_dfa_release(&both);
	return apart;
}

static bool objects_apart(struct ol_grammar_builder *b, const struct ol_grammar_node *x,
			  const struct ol_grammar_node *y, int depth)
{
	const struct ol_grammar *g = b->g;
	for (uint32_t i = 0; i < x->count; i++)
		for (uint32_t k = 0; k < y->count; k++) {
			const struct ol_grammar_property *p = &g->properties[x->begin + i],
							 *q = &g->properties[y->begin + k];
			if (p->required && q->required && p->name_size == q->name_size &&
			    memcmp(g->names + p->name, g->names + q->name, p->name_size) == 0 &&
			    ol_grammar_disjoint(b, p->value, q->value, depth + 1))
				return true;
		}
	return false;
}

static bool share_first(const struct ol_grammar_node *x, const struct ol_grammar_node *y)
{
	return (x->first[0] & y->first[0]) | (x->first[1] & y->first[1]) |
	       (x->first[2] & y->first[2]) | (x->first[3] & y->first[3]);
}

bool ol_grammar_disjoint(struct ol_grammar_builder *b, uint16_t x, uint16_t y, int depth)
{
	const struct ol_grammar *g = b->g;
	const struct ol_grammar_node nx = g->nodes[x], ny = g->nodes[y];
	if (x == y || depth > DISJOINT_DEPTH_MAX || --b->work < 0)
		return false;
	if (nx.kind == OL_GRAMMAR_ALTERNATIVES) {
		bool apart = nx.count > 0; /* a reference to itself is not known yet */
		for (uint32_t i = 0; i < nx.count && apart; i++)
			apart = ol_grammar_disjoint(b, g->links[nx.begin + i], y, depth + 1);
		return apart;
	}
	if (ny.kind == OL_GRAMMAR_ALTERNATIVES)
		return ol_grammar_disjoint(b, y, x, depth);
	if (!share_first(&nx, &ny))
		return true;
	if (nx.kind == OL_GRAMMAR_BYTES && ny.kind == OL_GRAMMAR_BYTES)
		return spelled_apart(b, &nx, &ny);
	return nx.kind == OL_GRAMMAR_OBJECT && ny.kind == OL_GRAMMAR_OBJECT &&
	       objects_apart(b, &nx, &ny, depth);
}
