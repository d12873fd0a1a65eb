/* Where a pattern lets any text through for a while: there the tokens of plain characters need not
 * be tried one by one. */
#include "model/grammar_internal.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_MAX = 255, TEXTS = OL_LEX_TEXT_LAST + 1, SEPARATOR = TEXTS, OTHER = 4 };

/* Scratch: of each state what of a character has come, and the plain edges turned round. */
struct plain {
	const struct ol_dfa *d;
	bool edge[TEXTS + 1]
		 [256]; /* from there, by some byte of that class, with a plain character */
	uint8_t *mark;  /* (states) find_separators */
	uint8_t *lex;   /* (states) OL_LEX_DEAD: not in the string                       */
	uint32_t *begin, *sources, *queue;
};

static bool is_text(uint8_t lex)
{
	return lex == OL_LEX_PLAIN || (lex >= OL_LEX_TEXT_FIRST && lex <= OL_LEX_TEXT_LAST);
}

/* Which state is reached in the middle of what: each in one way only, in such a language. */
static void find_lex(struct plain *p)
{
	const struct ol_dfa *d = p->d;
	size_t head = 0, tail = 0;
	memset(p->lex, OL_LEX_DEAD, d->state_count);
	const uint32_t inside = ol_dfa_step(d, 0, '"');
	if (inside == OL_DFA_DEAD)
		return;
	p->lex[inside] = OL_LEX_PLAIN;
	p->queue[tail++] = inside;
	while (head < tail) {
		const uint32_t s = p->queue[head++];
		for (int byte = 0; byte < 256; byte++) {
			const uint32_t to = ol_dfa_step(d, s, (uint8_t)byte);
			const uint8_t lex = ol_grammar_lex(p->lex[s], (uint8_t)byte, true);
			if (to == OL_DFA_DEAD || lex == OL_LEX_DEAD || p->lex[to] != OL_LEX_DEAD)
				continue;
			p->lex[to] = lex;
			p->queue[tail++] = to;
		}
	}
	for (int lex = 0; lex < TEXTS; lex++)
		for (int byte = 0; byte < 256 && is_text((uint8_t)lex); byte++)
			if (byte != '\\' &&
			    ol_grammar_lex((uint8_t)lex, (uint8_t)byte, true) != OL_LEX_DEAD)
				p->edge[lex][d->classes[byte]] = true;
	for (int byte = 0x80; byte < 0xc0; byte++)
		if (byte != 0xa8 && byte != 0xa9)
			p->edge[SEPARATOR][d->classes[byte]] = true;
}

/* Marks the states that are only reached by E2 (mark 1), or by E2 80 (mark 2): U+2028 and U+2029,
 * which "." does not match, are not plain (grammar_vocab.c). */
static void find_separators(struct plain *p)
{
	const struct ol_dfa *d = p->d;
	static const uint8_t lead[] = {0xe2, 0x80};
	for (int turn = 0; turn < 2; turn++)
		for (uint32_t s = 0; s < d->state_count; s++)
			for (int byte = 0; byte < 256 && is_text(p->lex[s]); byte++) {
				const uint32_t to = ol_dfa_step(d, s, (uint8_t)byte);
				if (to == OL_DFA_DEAD || p->lex[to] != OL_LEX_TEXT_FIRST + 1 - turn)
					continue;
				const bool from =
					turn == 0 ? p->lex[s] == OL_LEX_PLAIN : p->mark[s] == 1;
				p->mark[to] |= from && byte == lead[turn] ? 1 + turn : OTHER;
			}
}

/* Edges turned round: sources[begin[t], begin[t + 1]) lead to t. Returns whether each state that is
 * within text takes all plain characters: else it is the beginning of the search. */
static void turn_edges(struct plain *p, bool *refuses)
{
	const struct ol_dfa *d = p->d;
	const uint32_t k = (uint32_t)d->class_count;
	for (int turn = 0; turn < 2; turn++) {
		for (uint32_t s = 0; s < d->state_count; s++) {
			const uint8_t row = p->mark[s] == 2 ? SEPARATOR : p->lex[s];
			if (!is_text(p->lex[s]))
				continue;
			for (uint32_t c = 0; c < k; c++) {
				const uint16_t to = d->next[s * k + c];
				if (!p->edge[row][c])
					continue;
				if (to == OL_DFA_DEAD)
					refuses[s] = true;
				else if (turn == 0)
					p->begin[to + 2]++;
				else
					p->sources[p->begin[to + 1]++] = s;
			}
		}
		for (uint32_t s = 0; turn == 0 && s < d->state_count; s++)
			p->begin[s + 2] += p->begin[s + 1];
	}
}

/* From the states that refuse a plain character outwards. An edge that completes a character is one
 * step, others are none; level by level, and within one until nothing is left of it. */
static void spread(const struct plain *p, uint8_t *room, uint32_t *now, uint32_t *next)
{
	uint32_t count = 0, next_count = 0;
	for (uint32_t s = 0; s < p->d->state_count; s++)
		if (room[s] == 0)
			now[count++] = s;
	for (uint32_t level = 0; count > 0 && level + 1 < ROOM_MAX; level++) {
		while (count > 0) {
			const uint32_t t = now[--count];
			const bool whole = p->lex[t] == OL_LEX_PLAIN;
			if (room[t] != level) /* it was reached at a lower one */
				continue;
			for (uint32_t i = p->begin[t]; i < p->begin[t + 1]; i++) {
				const uint32_t s = p->sources[i];
				if (room[s] <= level + whole)
					continue;
				room[s] = (uint8_t)(level + whole);
				if (whole)
					next[next_count++] = s;
				else
					now[count++] = s;
			}
		}
		uint32_t *swap = now;
		now = next;
		next = swap;
		count = next_count;
		next_count = 0;
	}
}

bool ol_dfa_find_room(struct ol_dfa *d)
{
	const size_t n = d->state_count, edges = n * (size_t)d->class_count;
	struct plain *p = calloc(1, sizeof *p);
	bool *refuses = calloc(n, sizeof *refuses);
	/* A state enters a list at most twice: for a level, and again for the one below. */
	uint32_t *now = malloc(2 * n * sizeof *now), *next = malloc(2 * n * sizeof *next);
	bool ok = p && refuses && now && next;
	d->room = malloc(n);
	if (ok) {
		p->d = d;
		p->lex = malloc(n);
		p->mark = calloc(n, 1);
		p->queue = malloc(n * sizeof *p->queue);
		p->begin = calloc(n + 2, sizeof *p->begin);
		p->sources = malloc(edges * sizeof *p->sources);
		ok = d->room && p->lex && p->mark && p->queue && p->begin && p->sources;
	}
	if (ok) {
		find_lex(p);
		find_separators(p);
		turn_edges(p, refuses);
		for (uint32_t s = 0; s < n; s++)
			d->room[s] = refuses[s] ? 0 : ROOM_MAX;
		spread(p, d->room, now, next);
		for (uint32_t s = 0; s < n; s++)
			if (p->lex[s] != OL_LEX_PLAIN)
				d->room[s] = 0;
	}
	if (p) {
		free(p->lex);
		free(p->mark);
		free(p->queue);
		free(p->begin);
		free(p->sources);
	}
	free(p);
	free(refuses);
	free(now);
	free(next);
	return ok;
}
