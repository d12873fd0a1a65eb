/* Which tokens may come next.
 *
 * For each stack the trie of tokens is walked with the stack's top frame alone. What only moves the
 * top frame is decided for good, and kept (a bit per token, under the frame as key). What makes its
 * value whole depends on what lies below: where that happens in the trie is kept too, and walked on
 * from at every step. In a string, tokens of plain characters alone need no walk at all. */
#include "model/grammar_internal.h"

#include <stdlib.h>
#include <string.h>

/* Everything that the top frame's part of a mask depends on. No padding: it is hashed. */
struct key {
	uint32_t serial;
	uint16_t node, high;
	uint32_t count, low;
	uint32_t left; /* string: characters that are missing at least */
	uint16_t size;
	uint8_t where, lex;
	uint32_t depth;
};
_Static_assert(sizeof(struct key) == 28, "no padding in a key");

/* Kept in a list by last use and in chains by hash. */
struct ol_grammar_mask_entry {
	struct key key;
	struct ol_grammar_mask_entry *chain, *newer, *older;
	size_t bytes;
	uint32_t *resume; /* nodes of the trie to go on from when the value is whole */
	uint32_t resume_count, resume_room;
	bool special; /* of which trie */
	uint64_t mask[];
};

/* --- the cache ------------------------------------------------------------- */

static uint32_t slot_of(const struct ol_grammar_vocab *v, const struct key *key)
{
	uint32_t words[sizeof *key / 4];
	uint64_t hash = 0;
	memcpy(words, key, sizeof words);
	for (size_t i = 0; i < OL_ARRAY_LEN(words); i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 32;
	}
	return (uint32_t)(hash % v->slot_count);
}

static void unlist(struct ol_grammar_vocab *v, struct ol_grammar_mask_entry *e)
{
	*(e->newer ? &e->newer->older : &v->newest) = e->older;
	*(e->older ? &e->older->newer : &v->oldest) = e->newer;
}

static void list_newest(struct ol_grammar_vocab *v, struct ol_grammar_mask_entry *e)
{
	e->newer = NULL;
	e->older = v->newest;
	*(v->newest ? &v->newest->newer : &v->oldest) = e;
	v->newest = e;
}

static void drop(struct ol_grammar_vocab *v, struct ol_grammar_mask_entry *e)
{
	struct ol_grammar_mask_entry **at = &v->slots[slot_of(v, &e->key)];
	while (*at != e)
		at = &(*at)->chain;
	*at = e->chain;
	unlist(v, e);
	v->cache_bytes -= e->bytes;
	free(e->resume);
	free(e);
}

void ol_grammar_cache_release(struct ol_grammar_vocab *v)
{
	while (v->newest)
		drop(v, v->newest);
}

/* --- walking --------------------------------------------------------------- */

static void allow(const struct ol_grammar_vocab *v, uint64_t *mask, int32_t token)
{
	for (; token >= 0; token = v->same[token])
		mask[token / 64] |= 1ull << token % 64;
}

/* A space that opens the first token is not the whole of it. */
static bool only_stripped(const struct ol_grammar_run *run, const struct ol_grammar_stacks *s)
{
	if (s->count == 0 || s->tops[0] == 0)
		return false;
	const struct ol_grammar_frame *f = &run->links[s->tops[0]].frame;
	return f->count == OL_GRAMMAR_AT_ROOT && f->where == OL_ROOT_STRIPPED;
}

/* What may follow a value: where a walk can be taken up when one is whole. */
static bool keep_children(struct ol_grammar_mask_entry *e, const struct ol_trie *trie, uint32_t at)
{
	for (uint32_t i = at + 1; i < trie->nodes[at].skip; i = trie->nodes[i].skip) {
		const uint8_t byte = trie->nodes[i].byte;
		if (byte != ',' && byte != ']' && byte != '}')
			continue;
		void *resume = e->resume;
		if (!ol_grammar_grow(&resume, &e->resume_room, e->resume_count, sizeof *e->resume,
				     UINT32_MAX / 8))
			return false;
		e->resume = resume;
		e->resume[e->resume_count++] = i;
	}
	return true;
}

/* Nodes [from, to) of the trie, whose first has its stacks in levels[its depth - 1]. e: the walk is
 * local, and this is where to remember values that became whole. */
static bool walk(struct ol_grammar_vocab *v, uint64_t *mask, struct ol_grammar_mask_entry *e,
		 const struct ol_trie *trie, uint32_t from, uint32_t to)
{
	struct ol_grammar_run *run = &v->run;
	for (uint32_t i = from; i < to;) {
		const struct ol_trie_node *node = &trie->nodes[i];
		struct ol_grammar_stacks *out = &v->levels[node->depth];
		run->link_count = v->marks[node->depth - 1];
		run->popped = false;
		ol_grammar_step(run, out, &v->levels[node->depth - 1], node->byte);
		v->marks[node->depth] = run->link_count;
		if ((out->count > 0 || run->popped) && node->token >= 0 && !only_stripped(run, out))
			allow(v, mask, node->token);
		if (run->popped && !keep_children(e, trie, i))
			return false;
		i = out->count > 0 ? i + 1 : node->skip;
	}
	return true;
}

/* --- the part of the top frame --------------------------------------------- */

static struct key make_key(const struct ol_grammar_vocab *v, const struct ol_grammar *g,
			   const struct ol_grammar_link *link)
{
	const struct ol_grammar_frame *f = &link->frame;
	const struct ol_grammar_node *n = &g->nodes[f->node];
	struct key key = {.serial = g->serial,
			  .node = f->node,
			  .high = f->high,
			  .count = f->count,
			  .low = f->low,
			  .size = f->size,
			  .where = f->where,
			  .lex = f->lex};
	const uint32_t reach = (uint32_t)v->longest + 1;
	if (f->count != OL_GRAMMAR_AT_ROOT && n->kind == OL_GRAMMAR_STRING) {
		/* What no token is long enough to come to makes no difference. */
		key.left = f->count < n->min ? OL_MIN(n->min - f->count, reach) : 0;
		key.count = n->max == UINT32_MAX ? reach : OL_MIN(n->max - f->count, reach);
	}
	if (g->depth_matters)
		key.depth = 1 + OL_MIN(OL_GRAMMAR_DEPTH_MAX - link->depth,
				       (uint32_t)v->opens_max + g->height_max + 1);
	return key;
}

/* Inside a string that takes any plain characters, between two of them: the tokens of up to so many
 * characters need no walk. 0: not there. */
static uint32_t plain_room(const struct ol_grammar_vocab *v, const struct ol_grammar *g,
			   const struct ol_grammar_frame *f)
{
	const struct ol_grammar_node *n = &g->nodes[f->node];
	if (f->count == OL_GRAMMAR_AT_ROOT || f->lex != OL_LEX_PLAIN)
		return 0;
	if (n->kind == OL_GRAMMAR_OBJECT)
		return f->where == OL_WHERE_NAME && f->low == f->high ? (uint32_t)v->plain_max : 0;
	if (n->kind == OL_GRAMMAR_BYTES) {
		const uint8_t *room = g->dfas[n->begin].room;
		return room && room[f->count] >= v->plain_max ? (uint32_t)v->plain_max : 0;
	}
	if (n->kind != OL_GRAMMAR_STRING)
		return 0;
	return n->max == UINT32_MAX ? (uint32_t)v->plain_max
				    : OL_MIN(n->max - f->count, (uint32_t)v->plain_max);
}

static bool compute(struct ol_grammar_vocab *v, const struct ol_grammar *g,
		    struct ol_grammar_mask_entry *e, const struct ol_grammar_link *link)
{
	struct ol_grammar_run *run = &v->run;
	const uint32_t mark = run->link_count;
	const uint32_t room = plain_room(v, g, &link->frame);
	const bool root = link->frame.count == OL_GRAMMAR_AT_ROOT;
	e->special = room > 0;
	if (room > 0)
		memcpy(e->mask, v->plain + room * v->words, v->words * sizeof *e->mask);
	run->local = true;
	run->links[1].depth = link->depth - 1;
	run->links[run->link_count] = *link;
	run->links[run->link_count].below = root ? 0 : 1;
	v->levels[0].count = 1;
	v->levels[0].tops[0] = run->link_count++;
	v->marks[0] = run->link_count;
	const struct ol_trie *trie = e->special ? &v->special : &v->all;
	const bool ok = walk(v, e->mask, e, trie, 0, trie->count);
	run->local = false;
	run->link_count = mark;
	return ok;
}

/* The kept part of a mask, computed if need be. Others leave when there is no room for it. */
static struct ol_grammar_mask_entry *find(struct ol_grammar_vocab *v, const struct ol_grammar *g,
					  const struct ol_grammar_link *link)
{
	const struct key key = make_key(v, g, link);
	const uint32_t slot = slot_of(v, &key);
	struct ol_grammar_mask_entry *e = v->slots[slot];
	while (e && memcmp(&e->key, &key, sizeof key) != 0)
		e = e->chain;
	if (e) {
		v->hits++;
		unlist(v, e);
		list_newest(v, e);
		return e;
	}
	v->misses++;
	e = calloc(1, sizeof *e + v->words * sizeof *e->mask);
	if (!e)
		return NULL;
	e->key = key;
	if (!compute(v, g, e, link)) {
		free(e->resume);
		free(e);
		return NULL;
	}
	e->bytes = sizeof *e + v->words * sizeof *e->mask + e->resume_room * sizeof *e->resume;
	while (v->oldest && v->cache_bytes + e->bytes > v->cache_max)
		drop(v, v->oldest);
	e->chain = v->slots[slot];
	v->slots[slot] = e;
	list_newest(v, e);
	v->cache_bytes += e->bytes;
	return e;
}

/* --- a mask ---------------------------------------------------------------- */

/* A state's links, in the scratch pool. */
static void load(struct ol_grammar_vocab *v, const struct ol_grammar_state *state)
{
	v->run.g = state->g;
	v->run.local = false;
	v->run.link_count = state->link_count;
	memcpy(v->run.links, state->links, state->link_count * sizeof *state->links);
}

static bool add_stack(struct ol_grammar_vocab *v, const struct ol_grammar *g, uint64_t *allowed,
		      uint32_t top)
{
	const struct ol_grammar_link link = v->run.links[top];
	const struct ol_grammar_mask_entry *e = find(v, g, &link);
	struct ol_grammar_stacks after;
	if (!e)
		return false;
	for (size_t w = 0; w < v->words; w++)
		allowed[w] |= e->mask[w];
	if (e->resume_count == 0 || link.below == 0)
		return true;
	const uint32_t mark = v->run.link_count;
	const struct ol_trie *trie = e->special ? &v->special : &v->all;
	ol_grammar_child_done(&v->run, &after, link.below);
	for (uint32_t i = 0; i < e->resume_count; i++) {
		const uint32_t node = e->resume[i];
		const uint16_t depth = trie->nodes[node].depth;
		v->levels[depth - 1] = after;
		v->marks[depth - 1] = mark + 1;
		if (!walk(v, allowed, NULL, trie, node, trie->nodes[node].skip))
			return false;
	}
	v->run.link_count = mark;
	return true;
}

static bool any(const uint64_t *mask, size_t words)
{
	uint64_t all = 0;
	for (size_t w = 0; w < words; w++)
		all |= mask[w];
	return all != 0;
}

bool ol_grammar_mask(struct ol_grammar_state *state, uint64_t *allowed)
{
	struct ol_grammar_vocab *v = state->g->vocab;
	bool ok = true;
	memset(allowed, 0, v->words * sizeof *allowed);
	(void)pthread_mutex_lock(&v->lock);
	load(v, state);
	for (int i = 0; i < state->stacks.count && ok; i++)
		if (state->stacks.tops[i] != 0)
			ok = add_stack(v, state->g, allowed, state->stacks.tops[i]);
	(void)pthread_mutex_unlock(&v->lock);
	if (state->allow_eos && ol_grammar_is_complete(state))
		for (int i = 0; i < v->eos_count; i++)
			if (v->eos[i] >= 0 && v->eos[i] < v->vocab_size)
				allowed[v->eos[i] / 64] |= 1ull << v->eos[i] % 64;
	return ok && any(allowed, v->words);
}

/* --- one answer ------------------------------------------------------------ */

enum { STATE_LINKS = 2 + OL_GRAMMAR_STACKS_MAX * OL_GRAMMAR_DEPTH_MAX };

enum ol_status ol_grammar_begin(struct ol_grammar_state **state_out,
				const struct ol_grammar *grammar, bool strip_lead_space,
				bool allow_eos)
{
	struct ol_grammar_state *s = calloc(1, sizeof *s);
	*state_out = NULL;
	if (!s)
		return OL_ERR_FULL;
	s->links = calloc(STATE_LINKS, sizeof *s->links);
	s->spare = calloc(STATE_LINKS, sizeof *s->spare);
	if (!s->links || !s->spare) {
		ol_grammar_state_close(s);
		return OL_ERR_FULL;
	}
	s->g = ol_grammar_hold(grammar);
	s->allow_eos = allow_eos;
	s->links[2] = (struct ol_grammar_link){
		.frame = {.node = grammar->root,
			  .where = strip_lead_space ? OL_ROOT_STRIP : OL_ROOT_TEXT,
			  .count = OL_GRAMMAR_AT_ROOT},
		.depth = 1};
	s->link_count = 3;
	s->stacks = (struct ol_grammar_stacks){.tops = {2}, .count = 1};
	*state_out = s;
	return OL_OK;
}

void ol_grammar_state_close(struct ol_grammar_state *state)
{
	if (!state)
		return;
	ol_grammar_close(state->g);
	free(state->links);
	free(state->spare);
	free(state);
}

static bool same_stack(const struct ol_grammar_link *x, uint32_t a, const struct ol_grammar_link *y,
		       uint32_t b)
{
	while (a != 0 && b != 0) {
		if (memcmp(&x[a].frame, &y[b].frame, sizeof x[a].frame) != 0)
			return false;
		a = x[a].below;
		b = y[b].below;
	}
	return a == b;
}

/* Copies a stack out of the scratch pool, unless there is one like it. */
static void keep_stack(struct ol_grammar_state *s, struct ol_grammar_stacks *kept, uint32_t *used,
		       const struct ol_grammar_link *links, uint32_t top)
{
	for (int i = 0; i < kept->count; i++)
		if (same_stack(s->spare, kept->tops[i], links, top))
			return;
	if (kept->count == OL_GRAMMAR_STACKS_MAX)
		return;
	uint32_t at = *used;
	kept->tops[kept->count++] = top == 0 ? 0 : at;
	for (; top != 0; top = links[top].below, at++) {
		s->spare[at] = links[top];
		s->spare[at].below = links[top].below == 0 ? 0 : at + 1;
	}
	*used = at;
}

/* One stack through a token, as the mask looked at it. */
static void feed(struct ol_grammar_vocab *v, struct ol_grammar_stacks *stacks, const uint8_t *bytes,
		 uint32_t size)
{
	for (uint32_t i = 0; i < size && stacks->count > 0; i++) {
		struct ol_grammar_stacks next;
		ol_grammar_step(&v->run, &next, stacks, bytes[i]);
		*stacks = next;
	}
	if (only_stripped(&v->run, stacks))
		stacks->count = 0;
}

static bool is_eos(const struct ol_grammar_vocab *v, int32_t token)
{
	for (int i = 0; i < v->eos_count; i++)
		if (v->eos[i] == token)
			return true;
	return false;
}

/* The stacks after a token, in the spare pool; none: it is not allowed. */
static struct ol_grammar_stacks try(struct ol_grammar_state *s, int32_t token, uint32_t *used)
{
	struct ol_grammar_vocab *v = s->g->vocab;
	struct ol_grammar_stacks kept = {.count = 0};
	*used = 2;
	if (token < 0 || token >= v->vocab_size || v->size[token] == 0)
		return kept;
	(void)pthread_mutex_lock(&v->lock);
	load(v, s);
	const uint32_t mark = v->run.link_count;
	for (int i = 0; i < s->stacks.count; i++) {
		struct ol_grammar_stacks stacks = {.tops = {s->stacks.tops[i]}, .count = 1};
		v->run.link_count = mark;
		feed(v, &stacks, (const uint8_t *)v->bytes + v->begin[token], v->size[token]);
		for (int k = 0; k < stacks.count; k++)
			keep_stack(s, &kept, used, v->run.links, stacks.tops[k]);
	}
	(void)pthread_mutex_unlock(&v->lock);
	return kept;
}

bool ol_grammar_allows(struct ol_grammar_state *s, int32_t token)
{
	uint32_t used;
	if (is_eos(s->g->vocab, token))
		return s->allow_eos && ol_grammar_is_complete(s);
	return try(s, token, &used).count > 0;
}

bool ol_grammar_accept(struct ol_grammar_state *s, int32_t token)
{
	uint32_t used;
	if (is_eos(s->g->vocab, token))
		return s->allow_eos && ol_grammar_is_complete(s);
	const struct ol_grammar_stacks kept = try(s, token, &used);
	if (kept.count == 0)
		return false;
	struct ol_grammar_link *swap = s->links;
	s->links = s->spare;
	s->spare = swap;
	s->link_count = used;
	s->stacks = kept;
	return true;
}

bool ol_grammar_is_complete(const struct ol_grammar_state *state)
{
	for (int i = 0; i < state->stacks.count; i++)
		if (state->stacks.tops[i] == 0)
			return true;
	return false;
}

bool ol_grammar_is_over(const struct ol_grammar_state *state)
{
	for (int i = 0; i < state->stacks.count; i++)
		if (state->stacks.tops[i] != 0)
			return false;
	return true;
}
