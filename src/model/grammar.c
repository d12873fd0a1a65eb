/* Opening and closing grammars, and what is derived of a node once all are there. */
#include "model/grammar_internal.h"

#include "crypto/sha256.h"

#include <stdlib.h>
#include <string.h>

bool ol_grammar_grow(void **array, uint32_t *room, uint32_t count, size_t size, uint32_t max)
{
	if (count < *room)
		return true;
	if (count >= max)
		return false;
	const uint32_t wanted = OL_MIN(OL_MAX(2 * *room, 64u), max);
	void *grown = realloc(*array, (size_t)wanted * size);
	if (!grown)
		return false;
	*array = grown;
	*room = wanted;
	return true;
}

/* --- what is derived ------------------------------------------------------- */

/* The frames that a node needs, from those of its children as known so far. smallest: of the
 * smallest value; else of the largest. */
static uint32_t frames(const struct ol_grammar *g, const uint8_t *known, uint32_t node,
		       bool smallest)
{
	const struct ol_grammar_node *n = &g->nodes[node];
	uint32_t most = 0, least = OL_GRAMMAR_NEVER;
	switch ((enum ol_grammar_kind)n->kind) {
	case OL_GRAMMAR_BYTES:
	case OL_GRAMMAR_STRING: return 1;
	case OL_GRAMMAR_ALTERNATIVES:
		for (uint32_t i = 0; i < n->count; i++) {
			const uint32_t h = known[g->links[n->begin + i]];
			most = OL_MAX(most, h);
			least = OL_MIN(least, h);
		}
		return smallest ? least : most;
	case OL_GRAMMAR_ARRAY: {
		const uint32_t count = OL_MIN(n->count, smallest ? n->min : n->max);
		for (uint32_t i = 0; i < count; i++)
			most = OL_MAX(most, known[g->links[n->begin + i]]);
		if (n->rest != OL_GRAMMAR_NONE && (smallest ? n->min : n->max) > n->count)
			most = OL_MAX(most, known[n->rest]);
		return most + 1;
	}
	case OL_GRAMMAR_OBJECT:
		for (uint32_t i = 0; i < n->count; i++) {
			const struct ol_grammar_property *p = &g->properties[n->begin + i];
			if (p->required || !smallest)
				most = OL_MAX(most, known[p->value]);
		}
		if (n->rest != OL_GRAMMAR_NONE && !smallest)
			most = OL_MAX(most, known[n->rest]);
		return most + 1;
	}
	OL_UNREACHABLE();
}

/* Repeats until nothing changes. The smallest sink from OL_GRAMMAR_NEVER, the largest rise from 0;
 * what is beyond OL_GRAMMAR_DEPTH_MAX is never written, or without end. */
static void settle(const struct ol_grammar *g, uint8_t *known, bool smallest)
{
	memset(known, smallest ? OL_GRAMMAR_NEVER : 0, g->node_count);
	for (bool changed = true; changed;) {
		changed = false;
		for (uint32_t i = 0; i < g->node_count; i++) {
			uint32_t h = frames(g, known, i, smallest);
			if (h > OL_GRAMMAR_DEPTH_MAX)
				h = smallest ? OL_GRAMMAR_NEVER : OL_GRAMMAR_DEPTH_MAX + 1;
			changed |= h != known[i];
			known[i] = (uint8_t)h;
		}
	}
}

/* Collects what a node's alternatives come down to, each once. */
static bool leaves(struct ol_grammar_builder *b, uint32_t node, uint32_t *seen, uint32_t stamp,
		   uint16_t *stack)
{
	const struct ol_grammar *g = b->g;
	uint32_t depth = 0;
	stack[depth++] = (uint16_t)node;
	seen[node] = stamp;
	while (depth > 0) {
		const uint16_t at = stack[--depth];
		const struct ol_grammar_node n = g->nodes[at];
		b->work--;
		if (n.kind != OL_GRAMMAR_ALTERNATIVES) {
			if (!ol_grammar_link(b, at))
				return false;
			continue;
		}
		for (uint32_t i = n.count;
		     i-- > 0;) { /* the first is to come off the stack first */
			const uint16_t next = g->links[n.begin + i];
			if (seen[next] == stamp)
				continue;
			seen[next] = stamp;
			stack[depth++] = next;
		}
	}
	return true;
}

static void flatten(struct ol_grammar_builder *b)
{
	struct ol_grammar *g = b->g;
	const size_t n = g->node_count;
	uint32_t *seen = calloc(n, sizeof *seen), *begin = calloc(n, sizeof *begin),
		 *end = calloc(n, sizeof *end);
	uint16_t *stack = calloc(n, sizeof *stack);
	bool ok = seen && begin && end && stack;
	for (uint32_t i = 0; i < n && ok; i++) {
		if (g->nodes[i].kind != OL_GRAMMAR_ALTERNATIVES)
			continue;
		begin[i] = g->link_count;
		ok = leaves(b, i, seen, i + 1, stack) && b->work >= 0;
		end[i] = g->link_count;
	}
	for (uint32_t i = 0; i < n && ok; i++) {
		struct ol_grammar_node *node = &g->nodes[i];
		if (node->kind != OL_GRAMMAR_ALTERNATIVES)
			continue;
		node->begin = begin[i];
		node->count = end[i] - begin[i];
		for (uint32_t k = begin[i]; k < end[i]; k++)
			for (int w = 0; w < 4; w++)
				node->first[w] |= g->nodes[g->links[k]].first[w];
	}
	if (!ok)
		(void)ol_grammar_full(b);
	free(seen);
	free(begin);
	free(end);
	free(stack);
}

void ol_grammar_finish(struct ol_grammar_builder *b)
{
	struct ol_grammar *g = b->g;
	uint8_t *known = malloc((size_t)g->node_count + 1);
	if (!known) {
		(void)ol_grammar_full(b);
		return;
	}
	settle(g, known, false);
	g->depth_matters = known[g->root] > OL_GRAMMAR_DEPTH_MAX;
	settle(g, known, true);
	for (uint32_t i = 0; i < g->node_count; i++) {
		g->nodes[i].height = known[i];
		if (known[i] != OL_GRAMMAR_NEVER)
			g->height_max = OL_MAX(g->height_max, known[i]);
	}
	free(known);
	flatten(b);
	if (g->nodes[g->root].height == OL_GRAMMAR_NEVER)
		(void)ol_grammar_fail(b, OL_ERR_INPUT,
				      "no value satisfies it: something that is required is false, "
				      "refers to itself without end, or nests deeper than %d",
				      OL_GRAMMAR_DEPTH_MAX);
}

/* --- life ------------------------------------------------------------------ */

static void grammar_free(struct ol_grammar *g)
{
	for (uint32_t i = 0; i < g->dfa_count; i++)
		ol_dfa_release(&g->dfas[i]);
	free(g->dfas);
	free(g->nodes);
	free(g->properties);
	free(g->links);
	free(g->names);
	ol_grammar_vocab_drop(g->vocab);
	free(g);
}

/* Counting does not change what a grammar says: a const one may be held and closed. */
static struct ol_grammar *counted(const struct ol_grammar *grammar)
{
	return (struct ol_grammar *)(uintptr_t)grammar;
}

const struct ol_grammar *ol_grammar_hold(const struct ol_grammar *grammar)
{
	(void)atomic_fetch_add(&counted(grammar)->references, 1);
	return grammar;
}

void ol_grammar_close(const struct ol_grammar *grammar)
{
	if (grammar && atomic_fetch_sub(&counted(grammar)->references, 1) == 1)
		grammar_free(counted(grammar));
}

const uint8_t *ol_grammar_id(const struct ol_grammar *grammar)
{
	return grammar->id;
}

/* The identity; also refuses what is too long or nests too deep, before anything recurses. */
static enum ol_status identify(struct ol_grammar *g, const char *kind, const json_t *source,
			       struct ol_error *err)
{
	struct ol_buf text;
	ol_buf_init(&text, OL_GRAMMAR_SCHEMA_MAX);
	(void)ol_buf_printf(&text, "openledger grammar 1\n%s\n", kind);
	/* Twice as deep as schemas: "properties" and what is in it are a level each. */
	const bool written = ol_grammar_write(&text, source, 1 - OL_GRAMMAR_NESTING_MAX);
	const bool failed = text.failed;
	if (written && !failed)
		ol_sha256(g->id, text.data, text.size);
	ol_buf_release(&text);
	if (failed)
		return ol_fail(err, OL_ERR_FULL, "a schema may have at most %d bytes",
			       OL_GRAMMAR_SCHEMA_MAX);
	return written ? OL_OK
		       : ol_fail(err, OL_ERR_FULL,
				 "a schema may nest at most %d deep and hold no NUL character",
				 OL_GRAMMAR_NESTING_MAX);
}

static size_t memory_of(const struct ol_grammar *g)
{
	size_t bytes = sizeof *g + g->node_room * sizeof *g->nodes +
		       g->property_room * sizeof *g->properties + g->dfa_room * sizeof *g->dfas +
		       g->link_room * sizeof *g->links + g->name_room;
	for (uint32_t i = 0; i < g->dfa_count; i++)
		bytes += g->dfas[i].state_count *
			 ((size_t)g->dfas[i].class_count * sizeof *g->dfas[i].next + 1);
	return bytes;
}

static enum ol_status open_grammar(struct ol_grammar **out, struct ol_grammar_vocab *vocab,
				   const char *kind, const json_t *source,
				   uint16_t (*compile)(struct ol_grammar_builder *b,
						       const json_t *source),
				   struct ol_error *err)
{
	struct ol_grammar *g = calloc(1, sizeof *g);
	struct ol_grammar_builder b = {.g = g,
				       .document = source,
				       .any = OL_GRAMMAR_NONE,
				       .work = OL_GRAMMAR_WORK_MAX,
				       .err = err};
	*out = NULL;
	if (!g)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a grammar");
	atomic_init(&g->references, 1);
	g->vocab = vocab;
	(void)atomic_fetch_add(&vocab->references, 1);
	enum ol_status s = identify(g, kind, source, err);
	if (s == OL_OK && compile == ol_grammar_compile)
		s = ol_grammar_vocab_check(vocab, err);
	if (s == OL_OK && (*out = ol_grammar_kept(vocab, g->id))) {
		grammar_free(g);
		return OL_OK;
	}
	if (s == OL_OK) {
		ol_buf_init(&b.path, OL_ERROR_TEXT_MAX);
		b.made = json_array();
		g->root = b.made ? compile(&b, source) : ol_grammar_full(&b);
		if (b.status == OL_OK)
			ol_grammar_finish(&b);
		s = b.status;
		json_decref(b.made);
		ol_buf_release(&b.path);
		free(b.references);
	}
	if (s != OL_OK) {
		grammar_free(g);
		return s;
	}
	g->bytes = memory_of(g);
	ol_grammar_keep(vocab, g);
	*out = g;
	return OL_OK;
}

enum ol_status ol_grammar_open_schema(struct ol_grammar **grammar_out,
				      struct ol_grammar_vocab *vocab, const json_t *schema,
				      struct ol_error *err)
{
	return open_grammar(grammar_out, vocab, "schema", schema, ol_grammar_compile, err);
}

enum ol_status ol_grammar_open_json(struct ol_grammar **grammar_out, struct ol_grammar_vocab *vocab,
				    struct ol_error *err)
{
	json_t *schema = json_pack("{s:s}", "type", "object");
	*grammar_out = NULL;
	if (!schema)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a grammar");
	const enum ol_status s =
		open_grammar(grammar_out, vocab, "json", schema, ol_grammar_compile, err);
	json_decref(schema);
	return s;
}

enum ol_status ol_grammar_open_choice(struct ol_grammar **grammar_out,
				      struct ol_grammar_vocab *vocab, const json_t *choices,
				      struct ol_error *err)
{
	const size_t count = json_array_size(choices);
	*grammar_out = NULL;
	if (count == 0 || count > OL_GRAMMAR_ENUM_MAX)
		return ol_fail(err, OL_ERR_INPUT, "guided_choice must be a list of 1 to %d texts",
			       OL_GRAMMAR_ENUM_MAX);
	for (size_t i = 0; i < count; i++) {
		const json_t *choice = json_array_get(choices, i);
		const char *text = json_string_value(choice);
		if (json_string_length(choice) == 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "choice %zu of guided_choice is not a text, or empty", i);
		for (size_t k = 0; k < json_string_length(choice); k++)
			if (!ol_grammar_vocab_spells(vocab, (uint8_t)text[k]))
				return ol_fail(err, OL_ERR_UNSUPPORTED,
					       "choice %zu of guided_choice holds the byte 0x%02x, "
					       "for which the model has no token",
					       i, (unsigned)(uint8_t)text[k]);
	}
	return open_grammar(grammar_out, vocab, "choice", choices, ol_grammar_texts, err);
}

enum ol_status ol_grammar_open_format(struct ol_grammar **grammar_out,
				      struct ol_grammar_vocab *vocab, const json_t *response_format,
				      struct ol_error *err)
{
	const json_t *wrapper = json_object_get(response_format, "json_schema");
	const json_t *schema = json_object_get(wrapper, "schema");
	const char *type = json_string_value(json_object_get(response_format, "type"));
	*grammar_out = NULL;
	if (!type)
		return ol_fail(err, OL_ERR_INPUT,
			       "response_format must be an object with a \"type\"");
	if (strcmp(type, "text") == 0)
		return OL_OK;
	if (strcmp(type, "json_object") == 0)
		return ol_grammar_open_json(grammar_out, vocab, err);
	if (strcmp(type, "json_schema") != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "response_format.type must be text, json_object or json_schema");
	if (!json_is_object(wrapper) || !json_is_string(json_object_get(wrapper, "name")))
		return ol_fail(err, OL_ERR_INPUT,
			       "response_format.json_schema must be an object with a \"name\"");
	if (!schema)
		return ol_fail(err, OL_ERR_INPUT, "response_format.json_schema has no \"schema\"");
	return ol_grammar_open_schema(grammar_out, vocab, schema, err);
}
