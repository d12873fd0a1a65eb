/* Making an automaton deterministic, intersecting two, and cutting off what leads nowhere. */
#include "model/grammar_dfa.h"

#include "model/grammar.h"
#include "model/grammar_internal.h"

#include <stdlib.h>
#include <string.h>

void ol_dfa_release(struct ol_dfa *dfa)
{
	free(dfa->next);
	free(dfa->flags);
	free(dfa->room);
	*dfa = (struct ol_dfa){0};
}

/* --- what leads nowhere ---------------------------------------------------- */

/* Marks the states from which an accepting one can be reached: a search from those along the edges
 * turned round. */
static bool find_live(const struct ol_dfa *d, bool *live)
{
	const size_t n = d->state_count, k = (size_t)d->class_count;
	uint32_t *begin = calloc(n + 2, sizeof *begin), *sources = malloc(n * k * sizeof *sources);
	uint32_t *queue = malloc(n * sizeof *queue);
	size_t head = 0, tail = 0;
	const bool ok = begin && sources && queue;
	for (size_t i = 0; ok && i < n * k; i++)
		if (d->next[i] != OL_DFA_DEAD)
			begin[d->next[i] + 2]++;
	for (size_t s = 0; ok && s < n; s++)
		begin[s + 2] += begin[s + 1];
	for (size_t i = 0; ok && i < n * k; i++)
		if (d->next[i] != OL_DFA_DEAD)
			sources[begin[d->next[i] + 1]++] = (uint32_t)(i / k);
	for (uint32_t s = 0; ok && s < n; s++)
		if (d->flags[s] & OL_DFA_ACCEPTS) {
			live[s] = true;
			queue[tail++] = s;
		}
	while (ok && head < tail) {
		const uint32_t s = queue[head++];
		for (uint32_t i = begin[s]; i < begin[s + 1]; i++)
			if (!live[sources[i]]) {
				live[sources[i]] = true;
				queue[tail++] = sources[i];
			}
	}
	free(begin);
	free(sources);
	free(queue);
	return ok;
}

/* Drops the states that are not live and says of the others whether they go on. */
static enum ol_status trim(struct ol_dfa *d)
{
	const uint32_t n = d->state_count, k = (uint32_t)d->class_count;
	bool *live = calloc(n, sizeof *live);
	uint16_t *name = malloc(n * sizeof *name);
	uint32_t kept = 0;
	if (!live || !name || !find_live(d, live)) {
		free(live);
		free(name);
		return OL_ERR_FULL;
	}
	for (uint32_t s = 0; s < n; s++)
		name[s] = live[s] ? (uint16_t)kept++ : OL_DFA_DEAD;
	for (uint32_t s = 0; s < n; s++) {
		if (!live[s])
			continue;
		uint8_t flags = d->flags[s] & OL_DFA_ACCEPTS;
		for (uint32_t c = 0; c < k; c++) {
			const uint16_t to = d->next[s * k + c];
			const uint16_t next = to == OL_DFA_DEAD ? OL_DFA_DEAD : name[to];
			d->next[(uint32_t)name[s] * k + c] = next;
			if (next != OL_DFA_DEAD)
				flags |= OL_DFA_GOES_ON;
		}
		d->flags[name[s]] = flags;
	}
	d->state_count = live[0] ? kept : 0;
	free(live);
	free(name);
	return OL_OK;
}

static bool add_state(struct ol_dfa *d, uint32_t *room, bool accepts)
{
	const size_t k = (size_t)d->class_count;
	if (d->state_count >= OL_GRAMMAR_STATES_MAX)
		return false;
	if (d->state_count == *room) {
		const size_t wanted = OL_MAX(2 * (size_t)*room, (size_t)32);
		uint16_t *next = realloc(d->next, wanted * k * sizeof *next);
		if (!next)
			return false;
		d->next = next;
		uint8_t *flags = realloc(d->flags, wanted);
		if (!flags)
			return false;
		d->flags = flags;
		*room = (uint32_t)wanted;
	}
	for (size_t c = 0; c < k; c++)
		d->next[d->state_count * k + c] = OL_DFA_DEAD;
	d->flags[d->state_count++] = accepts ? OL_DFA_ACCEPTS : 0;
	return true;
}

/* --- deterministic --------------------------------------------------------- */

/* Sets of nfa states, each one state of the dfa: set i is pool[begin[i], begin[i + 1]). */
struct subsets {
	const struct ol_nfa *nfa;
	uint32_t end;
	uint32_t *pool, pool_room;
	uint32_t *begin;
	uint16_t *slots; /* hash table of sets; OL_DFA_DEAD: free */
	uint32_t *stamp, *stack, now;
	uint32_t count, dfa_room;
	int64_t work;
};

enum { SLOTS = 2 * OL_GRAMMAR_STATES_MAX };

static int compare_states(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Adds to the set being built, at the end of the pool, what a state stands for: itself if it reads
 * a byte or ends, and all that it reaches without reading. */
static bool add_closure(struct subsets *w, uint32_t *size, uint32_t state)
{
	uint32_t depth = 0;
	if (w->stamp[state] == w->now)
		return true;
	w->stamp[state] = w->now;
	w->stack[depth++] = state;
	while (depth > 0) {
		const uint32_t s = w->stack[--depth];
		bool reads = s == w->end;
		for (int32_t e = w->nfa->first[s]; e >= 0; e = w->nfa->edges[e].next) {
			const struct ol_nfa_edge *edge = &w->nfa->edges[e];
			w->work--;
			if (edge->low <= edge->high) {
				reads = true;
			} else if (w->stamp[edge->to] != w->now) {
				w->stamp[edge->to] = w->now;
				w->stack[depth++] = edge->to;
			}
		}
		if (!reads)
			continue;
		const uint32_t at = w->begin[w->count] + *size;
		if (at == w->pool_room) {
			const uint32_t room = OL_MAX(2 * w->pool_room, 1024u);
			uint32_t *grown = w->pool_room < 1u << 27
						  ? realloc(w->pool, room * sizeof *grown)
						  : NULL;
			if (!grown)
				return false;
			w->pool = grown;
			w->pool_room = room;
		}
		w->pool[at] = s;
		++*size;
	}
	return true;
}

/* The dfa state of the set at the end of the pool: an old one, or a new one. */
static bool name_set(struct subsets *w, struct ol_dfa *d, uint32_t size, uint16_t *name_out)
{
	uint32_t *set = w->pool + w->begin[w->count];
	uint64_t hash = size;
	bool accepts = false;
	if (size > 1)
		qsort(set, size, sizeof *set, compare_states);
	for (uint32_t i = 0; i < size; i++) {
		hash = (hash ^ set[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
		accepts |= set[i] == w->end;
	}
	uint32_t slot = (uint32_t)(hash % SLOTS);
	w->work -= size;
	for (; w->slots[slot] != OL_DFA_DEAD; slot = (slot + 1) % SLOTS) {
		const uint32_t other = w->slots[slot];
		if (w->begin[other + 1] - w->begin[other] == size &&
		    memcmp(w->pool + w->begin[other], set, size * sizeof *set) == 0) {
			*name_out = (uint16_t)other;
			return true;
		}
	}
	if (!add_state(d, &w->dfa_room, accepts))
		return false;
	w->slots[slot] = (uint16_t)w->count;
	*name_out = (uint16_t)w->count++;
	w->begin[w->count] = w->begin[w->count - 1] + size;
	return true;
}

static void find_classes(struct ol_dfa *d, const struct ol_nfa *nfa)
{
	bool cut[257] = {false};
	for (uint32_t i = 0; i < nfa->edge_count; i++)
		if (nfa->edges[i].low <= nfa->edges[i].high) {
			cut[nfa->edges[i].low] = true;
			cut[nfa->edges[i].high + 1] = true;
		}
	int class = 0;
	for (int b = 0; b < 256; b++) {
		class += b > 0 && cut[b];
		d->classes[b] = (uint8_t) class;
	}
	d->class_count = class + 1;
}

/* All transitions of one dfa state. */
static bool expand(struct subsets *w, struct ol_dfa *d, uint32_t state, const uint8_t *first_byte)
{
	for (int c = 0; c < d->class_count; c++) {
		uint32_t size = 0;
		uint16_t name;
		w->now++;
		for (uint32_t i = w->begin[state]; i < w->begin[state + 1]; i++) {
			int32_t e = w->nfa->first[w->pool[i]];
			for (; e >= 0; e = w->nfa->edges[e].next) {
				const struct ol_nfa_edge *edge = &w->nfa->edges[e];
				w->work--;
				if (edge->low <= first_byte[c] && first_byte[c] <= edge->high &&
				    !add_closure(w, &size, edge->to))
					return false;
			}
		}
		if (size == 0)
			continue;
		if (w->work < 0 || !name_set(w, d, size, &name))
			return false;
		d->next[state * (uint32_t)d->class_count + (uint32_t)c] = name;
	}
	return true;
}

static bool determinise(struct subsets *w, struct ol_dfa *d, uint32_t start)
{
	uint8_t first_byte[256];
	uint32_t size = 0;
	uint16_t name;
	find_classes(d, w->nfa);
	for (int b = 255; b >= 0; b--)
		first_byte[d->classes[b]] = (uint8_t)b;
	w->now = 1;
	if (!add_closure(w, &size, start) || !name_set(w, d, size, &name))
		return false;
	for (uint32_t s = 0; s < w->count; s++)
		if (!expand(w, d, s, first_byte))
			return false;
	return true;
}

enum ol_status ol_dfa_make(struct ol_dfa *dfa, const struct ol_nfa *nfa, uint32_t start,
			   uint32_t end, int64_t *work)
{
	struct subsets w = {.nfa = nfa, .end = end, .work = *work};
	*dfa = (struct ol_dfa){0};
	if (nfa->failed)
		return OL_ERR_FULL;
	w.pool_room = 1024;
	w.pool = malloc(w.pool_room * sizeof *w.pool);
	w.begin = calloc(OL_GRAMMAR_STATES_MAX + 2, sizeof *w.begin);
	w.slots = malloc(SLOTS * sizeof *w.slots);
	w.stamp = calloc(nfa->state_count, sizeof *w.stamp);
	w.stack = malloc(nfa->state_count * sizeof *w.stack);
	enum ol_status s = OL_ERR_FULL;
	if (w.pool && w.begin && w.slots && w.stamp && w.stack) {
		memset(w.slots, 0xff, SLOTS * sizeof *w.slots);
		if (determinise(&w, dfa, start))
			s = trim(dfa);
	}
	*work = w.work;
	free(w.pool);
	free(w.begin);
	free(w.slots);
	free(w.stamp);
	free(w.stack);
	if (s != OL_OK)
		ol_dfa_release(dfa);
	return s;
}

/* --- both ------------------------------------------------------------------ */

struct pairs {
	const struct ol_dfa *a, *b;
	uint32_t *of; /* (states) a's state * 2^16 + b's */
	uint16_t *slots;
	uint32_t room;
};

static bool name_pair(struct pairs *w, struct ol_dfa *d, uint32_t a, uint32_t b, uint16_t *name_out)
{
	const uint32_t pair = a << 16 | b;
	uint32_t slot = (uint32_t)((pair * 0x9e3779b97f4a7c15u >> 32) % SLOTS);
	for (; w->slots[slot] != OL_DFA_DEAD; slot = (slot + 1) % SLOTS)
		if (w->of[w->slots[slot]] == pair) {
			*name_out = w->slots[slot];
			return true;
		}
	if (!add_state(d, &w->room, w->a->flags[a] & w->b->flags[b] & OL_DFA_ACCEPTS))
		return false;
	*name_out = (uint16_t)(d->state_count - 1);
	w->slots[slot] = *name_out;
	w->of[*name_out] = pair;
	return true;
}

static void pair_classes(struct ol_dfa *d, const struct ol_dfa *a, const struct ol_dfa *b,
			 uint8_t *first_byte)
{
	for (int x = 0; x < 256; x++) {
		int y = 0;
		while (y < x && (a->classes[y] != a->classes[x] || b->classes[y] != b->classes[x]))
			y++;
		if (y < x) {
			d->classes[x] = d->classes[y];
		} else {
			first_byte[d->class_count] = (uint8_t)x;
			d->classes[x] = (uint8_t)d->class_count++;
		}
	}
}

static bool intersect(struct pairs *w, struct ol_dfa *d, int64_t *work)
{
	uint8_t first_byte[256];
	uint16_t name;
	pair_classes(d, w->a, w->b, first_byte);
	if (!name_pair(w, d, 0, 0, &name))
		return false;
	for (uint32_t s = 0; s < d->state_count; s++) {
		for (int c = 0; c < d->class_count; c++) {
			const uint32_t a = ol_dfa_step(w->a, w->of[s] >> 16, first_byte[c]);
			const uint32_t b = ol_dfa_step(w->b, w->of[s] & 0xffff, first_byte[c]);
			if (--*work < 0)
				return false;
			if (a == OL_DFA_DEAD || b == OL_DFA_DEAD)
				continue;
			if (!name_pair(w, d, a, b, &name))
				return false;
			d->next[s * (uint32_t)d->class_count + (uint32_t)c] = name;
		}
	}
	return true;
}

enum ol_status ol_dfa_intersect(struct ol_dfa *dfa, const struct ol_dfa *a, const struct ol_dfa *b,
				int64_t *work)
{
	struct pairs w = {.a = a, .b = b};
	*dfa = (struct ol_dfa){0};
	if (a->state_count == 0 || b->state_count == 0)
		return OL_OK;
	w.of = malloc(OL_GRAMMAR_STATES_MAX * sizeof *w.of);
	w.slots = malloc(SLOTS * sizeof *w.slots);
	enum ol_status s = OL_ERR_FULL;
	if (w.of && w.slots) {
		memset(w.slots, 0xff, SLOTS * sizeof *w.slots);
		if (intersect(&w, dfa, work))
			s = trim(dfa);
	}
	free(w.of);
	free(w.slots);
	if (s != OL_OK)
		ol_dfa_release(dfa);
	return s;
}
