/* A JSON Schema as a table of nodes. Every keyword is enforced, says nothing about validity, or is
 * refused by name. */
#include "model/grammar_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- failures -------------------------------------------------------------- */

uint16_t ol_grammar_fail(struct ol_grammar_builder *b, enum ol_status status, const char *format,
			 ...)
{
	char text[OL_ERROR_TEXT_MAX / 2];
	va_list args;
	if (b->status != OL_OK)
		return OL_GRAMMAR_NONE;
	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	b->status = ol_fail(b->err, status, "the schema at %.300s: %s",
			    b->path.size ? b->path.data : "/", text);
	return OL_GRAMMAR_NONE;
}

uint16_t ol_grammar_full(struct ol_grammar_builder *b)
{
	return ol_grammar_fail(b, OL_ERR_FULL,
			       "it is too large (at most %d subschemas, %d states in one pattern, "
			       "enum or range, %d in all): simplify it",
			       OL_GRAMMAR_NODES_MAX, OL_GRAMMAR_STATES_MAX,
			       OL_GRAMMAR_STATES_TOTAL_MAX);
}

uint16_t ol_grammar_node(struct ol_grammar_builder *b, enum ol_grammar_kind kind)
{
	struct ol_grammar *g = b->g;
	void *nodes = g->nodes;
	if (b->status != OL_OK)
		return OL_GRAMMAR_NONE;
	if (!ol_grammar_grow(&nodes, &g->node_room, g->node_count, sizeof *g->nodes,
			     OL_GRAMMAR_NODES_MAX))
		return ol_grammar_full(b);
	g->nodes = nodes;
	g->nodes[g->node_count] = (struct ol_grammar_node){
		.kind = (uint8_t)kind,
		.height = OL_GRAMMAR_NEVER,
		.rest = OL_GRAMMAR_NONE,
		.max = UINT32_MAX,
	};
	struct ol_grammar_node *node = &g->nodes[g->node_count];
	if (kind == OL_GRAMMAR_STRING)
		node->first['"' / 64] |= 1ull << '"' % 64;
	if (kind == OL_GRAMMAR_ARRAY || kind == OL_GRAMMAR_OBJECT)
		node->first[1] |= 1ull << (kind == OL_GRAMMAR_ARRAY ? '[' : '{') % 64;
	return (uint16_t)g->node_count++;
}

bool ol_grammar_link(struct ol_grammar_builder *b, uint16_t node)
{
	struct ol_grammar *g = b->g;
	void *links = g->links;
	if (b->status != OL_OK)
		return false;
	if (!ol_grammar_grow(&links, &g->link_room, g->link_count, sizeof *g->links,
			     OL_GRAMMAR_ALTERNATIVES_MAX)) {
		(void)ol_grammar_full(b);
		return false;
	}
	g->links = links;
	g->links[g->link_count++] = node;
	return true;
}

uint16_t ol_grammar_alternatives(struct ol_grammar_builder *b, const uint16_t *nodes,
				 uint32_t count)
{
	const uint16_t node = ol_grammar_node(b, OL_GRAMMAR_ALTERNATIVES);
	const uint32_t begin = b->g->link_count;
	for (uint32_t i = 0; i < count; i++)
		if (!ol_grammar_link(b, nodes[i]))
			return OL_GRAMMAR_NONE;
	if (node == OL_GRAMMAR_NONE)
		return OL_GRAMMAR_NONE;
	b->g->nodes[node].begin = begin;
	b->g->nodes[node].count = count;
	return node;
}

/* --- keywords -------------------------------------------------------------- */

enum use {
	ANNOTATION, /* says nothing about which values are valid */
	ANY_TYPE,   /* types, references, combinations           */
	OF_STRING,
	OF_NUMBER,
	OF_ARRAY,
	OF_OBJECT,
	REFUSED
};

static const struct keyword {
	const char *name;
	enum use use;
	const char *instead; /* why it is refused, or what to write */
} keywords[] = {
	{"title", ANNOTATION, NULL},
	{"description", ANNOTATION, NULL},
	{"default", ANNOTATION, NULL},
	{"examples", ANNOTATION, NULL},
	{"deprecated", ANNOTATION, NULL},
	{"readOnly", ANNOTATION, NULL},
	{"writeOnly", ANNOTATION, NULL},
	{"contentEncoding", ANNOTATION, NULL},
	{"contentMediaType", ANNOTATION, NULL},
	{"$comment", ANNOTATION, NULL},
	{"$schema", ANNOTATION, NULL},
	{"$id", ANNOTATION, NULL},
	{"$defs", ANNOTATION, NULL},
	{"definitions", ANNOTATION, NULL},
	{"type", ANY_TYPE, NULL},
	{"enum", ANY_TYPE, NULL},
	{"const", ANY_TYPE, NULL},
	{"$ref", ANY_TYPE, NULL},
	{"allOf", ANY_TYPE, NULL},
	{"anyOf", ANY_TYPE, NULL},
	{"oneOf", ANY_TYPE, NULL},
	{"minLength", OF_STRING, NULL},
	{"maxLength", OF_STRING, NULL},
	{"pattern", OF_STRING, NULL},
	{"format", OF_STRING, NULL},
	{"minimum", OF_NUMBER, NULL},
	{"maximum", OF_NUMBER, NULL},
	{"exclusiveMinimum", OF_NUMBER, NULL},
	{"exclusiveMaximum", OF_NUMBER, NULL},
	{"items", OF_ARRAY, NULL},
	{"prefixItems", OF_ARRAY, NULL},
	{"minItems", OF_ARRAY, NULL},
	{"maxItems", OF_ARRAY, NULL},
	{"properties", OF_OBJECT, NULL},
	{"required", OF_OBJECT, NULL},
	{"additionalProperties", OF_OBJECT, NULL},
	{"multipleOf", REFUSED, "an automaton cannot divide; give minimum and maximum, or an enum"},
	{"uniqueItems", REFUSED, "an automaton does not remember all items"},
	{"contains", REFUSED, "describe every item with items or prefixItems"},
	{"minContains", REFUSED, "describe every item with items or prefixItems"},
	{"maxContains", REFUSED, "describe every item with items or prefixItems"},
	{"additionalItems", REFUSED, "write prefixItems and items"},
	{"unevaluatedItems", REFUSED, "write prefixItems and items"},
	{"unevaluatedProperties", REFUSED, "write additionalProperties"},
	{"patternProperties", REFUSED, "name the properties, or use additionalProperties"},
	{"propertyNames", REFUSED, "name the properties, or use additionalProperties"},
	{"minProperties", REFUSED, "list what must be there in required"},
	{"maxProperties", REFUSED, "name the properties and forbid additional ones"},
	{"dependencies", REFUSED, "write one schema per case in anyOf"},
	{"dependentRequired", REFUSED, "write one schema per case in anyOf"},
	{"dependentSchemas", REFUSED, "write one schema per case in anyOf"},
	{"if", REFUSED, "write one schema per case in anyOf"},
	{"then", REFUSED, "write one schema per case in anyOf"},
	{"else", REFUSED, "write one schema per case in anyOf"},
	{"not", REFUSED, "say what is allowed instead"},
	{"$anchor", REFUSED, "refer by \"#/$defs/NAME\""},
	{"$dynamicRef", REFUSED, "refer by \"#/$defs/NAME\""},
	{"$dynamicAnchor", REFUSED, "refer by \"#/$defs/NAME\""},
	{"$recursiveRef", REFUSED, "refer by \"#/$defs/NAME\""},
	{"nullable", REFUSED, "write \"type\": [\"…\", \"null\"]"},
};

static const struct keyword *find_keyword(const char *name)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(keywords); i++)
		if (strcmp(keywords[i].name, name) == 0)
			return &keywords[i];
	return NULL;
}

bool ol_grammar_is_annotation(const char *keyword)
{
	const struct keyword *k = find_keyword(keyword);
	return k ? k->use == ANNOTATION : strncmp(keyword, "x-", 2) == 0;
}

/* All keywords are known; *uses has a bit for each kind of them. */
static bool check_keywords(struct ol_grammar_builder *b, const json_t *schema, unsigned *uses)
{
	const char *name;
	json_t *value;
	*uses = 0;
	json_object_foreach((json_t *)(uintptr_t)schema, name, value)
	{
		const struct keyword *k = find_keyword(name);
		if (ol_grammar_is_annotation(name))
			continue;
		if (k && strcmp(name, "uniqueItems") == 0 && json_is_false(value))
			continue;
		if (!k) {
			(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
					      "the keyword \"%.64s\" is not known", name);
			return false;
		}
		if (k->use == REFUSED) {
			(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
					      "\"%s\" cannot be enforced: %s", name, k->instead);
			return false;
		}
		*uses |= 1u << k->use;
	}
	return true;
}

bool ol_grammar_count(struct ol_grammar_builder *b, const json_t *schema, const char *keyword,
		      uint32_t otherwise, uint32_t *value_out)
{
	const json_t *value = json_object_get(schema, keyword);
	const double number = json_number_value(value);
	*value_out = otherwise;
	if (!value)
		return true;
	if (!json_is_number(value) || !(number >= 0 && number <= 1 << 30) ||
	    number != (double)(uint32_t)number) {
		(void)ol_grammar_fail(b, OL_ERR_INPUT,
				      "\"%s\" must be a whole number from 0 to 2^30", keyword);
		return false;
	}
	*value_out = (uint32_t)number;
	return true;
}

/* --- types ----------------------------------------------------------------- */

enum type {
	TYPE_NULL = 1,
	TYPE_BOOLEAN = 2,
	TYPE_INTEGER = 4,
	TYPE_NUMBER = 8,
	TYPE_STRING = 16,
	TYPE_ARRAY = 32,
	TYPE_OBJECT = 64
};

static const char *const type_names[] = {"null",   "boolean", "integer", "number",
					 "string", "array",   "object"};

static bool one_type(struct ol_grammar_builder *b, const json_t *name, unsigned *types)
{
	for (size_t i = 0; json_is_string(name) && i < OL_ARRAY_LEN(type_names); i++)
		if (strcmp(type_names[i], json_string_value(name)) == 0) {
			*types |= 1u << i;
			return true;
		}
	(void)ol_grammar_fail(b, OL_ERR_INPUT,
			      "\"type\" must be one or a list of null, boolean, integer, number, "
			      "string, array, object");
	return false;
}

/* The types a schema allows: what it says, or else what its keywords speak of. 0: any. */
static bool read_types(struct ol_grammar_builder *b, const json_t *schema, unsigned uses,
		       unsigned *types)
{
	const json_t *type = json_object_get(schema, "type");
	*types = 0;
	if (!type) {
		*types |= uses & 1u << OF_STRING ? TYPE_STRING : 0u;
		*types |= uses & 1u << OF_NUMBER ? TYPE_NUMBER : 0u;
		*types |= uses & 1u << OF_ARRAY ? TYPE_ARRAY : 0u;
		*types |= uses & 1u << OF_OBJECT ? TYPE_OBJECT : 0u;
		return true;
	}
	if (!json_is_array(type))
		return one_type(b, type, types);
	for (size_t i = 0; i < json_array_size(type); i++)
		if (!one_type(b, json_array_get(type, i), types))
			return false;
	if (*types == 0)
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"type\" is an empty list");
	if (*types & TYPE_NUMBER)
		*types &= ~(unsigned)TYPE_INTEGER;
	return b->status == OL_OK;
}

static unsigned type_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_NULL: return TYPE_NULL;
	case JSON_TRUE:
	case JSON_FALSE: return TYPE_BOOLEAN;
	case JSON_INTEGER: return TYPE_INTEGER | TYPE_NUMBER;
	case JSON_REAL: return TYPE_NUMBER;
	case JSON_STRING: return TYPE_STRING;
	case JSON_ARRAY: return TYPE_ARRAY;
	case JSON_OBJECT: return TYPE_OBJECT;
	}
	OL_UNREACHABLE();
}

/* enum and const: of the values listed, those of an allowed type. */
static uint16_t compile_values(struct ol_grammar_builder *b, const json_t *schema, unsigned uses)
{
	const json_t *list = json_object_get(schema, "enum");
	json_t *constant = json_object_get(schema, "const"), *values = json_array();
	unsigned types;
	uint16_t node = OL_GRAMMAR_NONE;
	if (!values)
		return ol_grammar_full(b);
	if (uses & (1u << OF_STRING | 1u << OF_NUMBER | 1u << OF_ARRAY | 1u << OF_OBJECT))
		(void)ol_grammar_fail(b, OL_ERR_UNSUPPORTED,
				      "\"enum\" and \"const\" list the values themselves: remove "
				      "the other keywords");
	else if (list && (!json_is_array(list) || json_array_size(list) == 0))
		(void)ol_grammar_fail(b, OL_ERR_INPUT, "\"enum\" must be a list of values");
	else if (json_array_size(list) > OL_GRAMMAR_ENUM_MAX)
		(void)ol_grammar_fail(b, OL_ERR_FULL, "\"enum\" has %zu values, at most %d",
				      json_array_size(list), OL_GRAMMAR_ENUM_MAX);
	else if (read_types(b, schema, 0, &types)) {
		if (constant && !list)
			(void)json_array_append(values, constant);
		for (size_t i = 0; i < json_array_size(list); i++) {
			json_t *value = json_array_get(list, i);
			if (!constant || json_equal(value, constant))
				(void)json_array_append(values, value);
		}
		for (size_t i = json_array_size(values); i-- > 0 && types != 0;)
			if (!(type_of(json_array_get(values, i)) & types))
				(void)json_array_remove(values, i);
		node = json_array_size(values) > 0
			       ? ol_grammar_literals(b, values)
			       : ol_grammar_fail(b, OL_ERR_INPUT,
						 "no value of \"enum\" or \"const\" is of the type "
						 "asked for");
	}
	json_decref(values);
	return node;
}

static uint16_t compile_type(struct ol_grammar_builder *b, const json_t *schema, unsigned type)
{
	json_t *values = NULL;
	uint16_t node = OL_GRAMMAR_NONE;
	switch ((enum type)type) {
	case TYPE_INTEGER: return ol_grammar_number(b, schema, true);
	case TYPE_NUMBER: return ol_grammar_number(b, schema, false);
	case TYPE_STRING: return ol_grammar_string(b, schema);
	case TYPE_ARRAY: return ol_grammar_array(b, schema);
	case TYPE_OBJECT: return ol_grammar_object(b, schema);
	case TYPE_NULL: values = json_pack("[n]"); break;
	case TYPE_BOOLEAN: values = json_pack("[bb]", 1, 0); break;
	}
	node = values ? ol_grammar_literals(b, values) : ol_grammar_full(b);
	json_decref(values);
	return node;
}

static uint16_t compile_types(struct ol_grammar_builder *b, const json_t *schema, unsigned types)
{
	uint16_t nodes[OL_ARRAY_LEN(type_names)];
	uint32_t count = 0;
	for (size_t i = 0; i < OL_ARRAY_LEN(type_names); i++) {
		if (!(types & 1u << i))
			continue;
		nodes[count++] = compile_type(b, schema, 1u << i);
		if (nodes[count - 1] == OL_GRAMMAR_NONE)
			return OL_GRAMMAR_NONE;
	}
	return count == 1 ? nodes[0] : ol_grammar_alternatives(b, nodes, count);
}

uint16_t ol_grammar_any(struct ol_grammar_builder *b)
{
	if (b->any != OL_GRAMMAR_NONE)
		return b->any;
	/* Its arrays and objects refer to it: it has to be there before them. */
	b->any = ol_grammar_node(b, OL_GRAMMAR_ALTERNATIVES);
	json_t *empty = json_object();
	const uint16_t node = empty ? compile_types(b, empty,
						    TYPE_NULL | TYPE_BOOLEAN | TYPE_NUMBER |
							    TYPE_STRING | TYPE_ARRAY | TYPE_OBJECT)
				    : ol_grammar_full(b);
	json_decref(empty);
	if (node == OL_GRAMMAR_NONE || b->any == OL_GRAMMAR_NONE)
		return OL_GRAMMAR_NONE;
	b->g->nodes[b->any].begin = b->g->nodes[node].begin;
	b->g->nodes[b->any].count = b->g->nodes[node].count;
	return b->any;
}

/* --- combinations ---------------------------------------------------------- */

/* A schema that is referred to has one node, however often: so it may refer to itself. */
static uint16_t compile_reference(struct ol_grammar_builder *b, const json_t *reference)
{
	const json_t *target = ol_grammar_resolve(b, reference);
	void *references = b->references;
	if (!target)
		return OL_GRAMMAR_NONE;
	for (uint32_t i = 0; i < b->reference_count; i++)
		if (b->references[i].schema == target)
			return b->references[i].node;
	const uint16_t node = ol_grammar_node(b, OL_GRAMMAR_ALTERNATIVES);
	if (!ol_grammar_grow(&references, &b->reference_room, b->reference_count,
			     sizeof *b->references, OL_GRAMMAR_NODES_MAX))
		return ol_grammar_full(b);
	b->references = references;
	b->references[b->reference_count++] = (struct ol_grammar_reference){target, node};
	const uint16_t inner = ol_grammar_compile_at(b, target, "$ref", NULL);
	const uint32_t begin = b->g->link_count;
	if (!ol_grammar_link(b, inner))
		return OL_GRAMMAR_NONE;
	b->g->nodes[node].begin = begin;
	b->g->nodes[node].count = 1;
	return node;
}

/* The schema without one keyword. Kept until the end. */
static json_t *without(struct ol_grammar_builder *b, const json_t *schema, const char *keyword)
{
	json_t *rest = json_copy((json_t *)(uintptr_t)schema);
	if (!rest || json_array_append_new(b->made, rest) != 0) {
		(void)ol_grammar_full(b);
		return NULL;
	}
	(void)json_object_del(rest, keyword);
	return rest;
}

static bool constrains(const json_t *schema)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)schema, name, value)
	{
		if (!ol_grammar_is_annotation(name))
			return true;
	}
	return false;
}

static uint16_t compile_all(struct ol_grammar_builder *b, const json_t *schema)
{
	const json_t *list = json_object_get(schema, "allOf"), *all = without(b, schema, "allOf");
	json_t *part;
	size_t i;
	if (!json_is_array(list) || json_array_size(list) == 0)
		return ol_grammar_fail(b, OL_ERR_INPUT, "\"allOf\" must be a list of schemas");
	json_array_foreach((json_t *)(uintptr_t)list, i, part)
	{
		if (!all)
			return OL_GRAMMAR_NONE;
		all = ol_grammar_merge(b, all, part);
	}
	return all ? ol_grammar_compile(b, all) : OL_GRAMMAR_NONE;
}

static bool all_disjoint(struct ol_grammar_builder *b, const uint16_t *nodes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < i; k++)
			if (!ol_grammar_disjoint(b, nodes[i], nodes[k], 0)) {
				(void)ol_grammar_fail(
					b, OL_ERR_UNSUPPORTED,
					"a value may match both %u and %u of \"oneOf\", which "
					"cannot be forbidden: use anyOf, or give each a "
					"required property with a \"const\" of its own",
					k, i);
				return false;
			}
	return true;
}

static uint16_t compile_any_of(struct ol_grammar_builder *b, const json_t *schema,
			       const char *keyword)
{
	enum { BRANCHES_MAX = 256 };
	const json_t *list = json_object_get(schema, keyword), *rest = without(b, schema, keyword);
	uint16_t nodes[BRANCHES_MAX];
	uint32_t count = 0;
	json_t *part;
	size_t i;
	if (!json_is_array(list) || json_array_size(list) == 0)
		return ol_grammar_fail(b, OL_ERR_INPUT, "\"%s\" must be a list of schemas",
				       keyword);
	if (json_array_size(list) > BRANCHES_MAX)
		return ol_grammar_fail(b, OL_ERR_FULL, "\"%s\" has %zu schemas, at most %d",
				       keyword, json_array_size(list), BRANCHES_MAX);
	if (!rest)
		return OL_GRAMMAR_NONE;
	const bool alone = !constrains(rest);
	json_array_foreach((json_t *)(uintptr_t)list, i, part)
	{
		char index[24];
		const json_t *branch = alone ? part : ol_grammar_merge(b, rest, part);
		snprintf(index, sizeof index, "%zu", i);
		nodes[count] =
			branch ? ol_grammar_compile_at(b, branch, keyword, index) : OL_GRAMMAR_NONE;
		if (nodes[count++] == OL_GRAMMAR_NONE)
			return OL_GRAMMAR_NONE;
	}
	if (strcmp(keyword, "oneOf") == 0 && !all_disjoint(b, nodes, count))
		return OL_GRAMMAR_NONE;
	return count == 1 ? nodes[0] : ol_grammar_alternatives(b, nodes, count);
}

/* --- a schema -------------------------------------------------------------- */

static uint16_t compile_object(struct ol_grammar_builder *b, const json_t *schema)
{
	unsigned uses, types;
	const json_t *reference = json_object_get(schema, "$ref");
	if (!check_keywords(b, schema, &uses))
		return OL_GRAMMAR_NONE;
	if (reference) {
		json_t *rest = without(b, schema, "$ref");
		if (!rest || !constrains(rest))
			return rest ? compile_reference(b, reference) : OL_GRAMMAR_NONE;
		const json_t *target = ol_grammar_resolve(b, reference);
		const json_t *both = target ? ol_grammar_merge(b, target, rest) : NULL;
		return both ? ol_grammar_compile(b, both) : OL_GRAMMAR_NONE;
	}
	if (json_object_get(schema, "allOf"))
		return compile_all(b, schema);
	if (json_object_get(schema, "anyOf"))
		return compile_any_of(b, schema, "anyOf");
	if (json_object_get(schema, "oneOf"))
		return compile_any_of(b, schema, "oneOf");
	if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
		return compile_values(b, schema, uses);
	if (!read_types(b, schema, uses, &types))
		return OL_GRAMMAR_NONE;
	return types == 0 ? ol_grammar_any(b) : compile_types(b, schema, types);
}

uint16_t ol_grammar_compile(struct ol_grammar_builder *b, const json_t *schema)
{
	uint16_t node;
	if (b->status != OL_OK)
		return OL_GRAMMAR_NONE;
	if (b->nesting == OL_GRAMMAR_NESTING_MAX)
		return ol_grammar_fail(b, OL_ERR_FULL, "it nests deeper than %d",
				       OL_GRAMMAR_NESTING_MAX);
	b->nesting++;
	if (json_is_true(schema))
		node = ol_grammar_any(b);
	else if (json_is_false(schema)) /* no alternative: never written */
		node = ol_grammar_node(b, OL_GRAMMAR_ALTERNATIVES);
	else if (json_is_object(schema))
		node = compile_object(b, schema);
	else
		node = ol_grammar_fail(b, OL_ERR_INPUT,
				       "a schema must be an object, true or false");
	b->nesting--;
	return node;
}

uint16_t ol_grammar_compile_at(struct ol_grammar_builder *b, const json_t *schema,
			       const char *segment, const char *name)
{
	const size_t path = b->path.size;
	(void)ol_buf_printf(&b->path, name ? "/%s/" : "/%s", segment);
	for (const char *c = name; c && *c; c++) /* a JSON pointer's escapes */
		if (*c == '~' || *c == '/')
			(void)ol_buf_append_text(&b->path, *c == '~' ? "~0" : "~1");
		else
			(void)ol_buf_append(&b->path, c, 1);
	const uint16_t node = ol_grammar_compile(b, schema);
	if (b->path.data && path <= b->path.size) {
		b->path.size = path;
		b->path.data[path] = '\0';
	}
	return node;
}
