/* model/grammar_dfa.h, floor 2: regular languages over bytes, for the leaves of a grammar.
 *
 * An ol_nfa is built edge by edge (literals, patterns, ranges of numbers), made deterministic, and
 * cut down to the states from which an end can be reached: then "there is a transition" means "this
 * byte may come", and an empty language is known at once. */
#ifndef OL_MODEL_GRAMMAR_DFA_H
#define OL_MODEL_GRAMMAR_DFA_H

#include "base/base.h"

enum { OL_NFA_STATES_MAX = 1 << 17, OL_NFA_EDGES_MAX = 1 << 19, OL_DFA_DEAD = 0xffff };

struct ol_nfa_edge {
	uint32_t to;
	int32_t next; /* edge of the same state; -1: the last */
	uint8_t low, high;
};

/* The first failure stays; everything after it does nothing. */
struct ol_nfa {
	struct ol_nfa_edge *edges;
	int32_t *first; /* (states) the edge list of each; -1: none */
	uint32_t edge_count, edge_room, state_count, state_room;
	bool failed; /* a limit, or memory */
};

void ol_nfa_init(struct ol_nfa *nfa);
void ol_nfa_release(struct ol_nfa *nfa);
uint32_t ol_nfa_state(struct ol_nfa *nfa);
/* low > high: an edge that takes no byte. */
void ol_nfa_edge(struct ol_nfa *nfa, uint32_t from, uint8_t low, uint8_t high, uint32_t to);
void ol_nfa_skip(struct ol_nfa *nfa, uint32_t from, uint32_t to);
void ol_nfa_text(struct ol_nfa *nfa, uint32_t from, const char *text, size_t size, uint32_t to);

/* Characters, as a string of JSON spells them: UTF-8, with the shortest escape for those that need
 * one and no other spelling. NUL and surrogates are left out. */
void ol_nfa_chars(struct ol_nfa *nfa, uint32_t from, const uint32_t (*ranges)[2], size_t count,
		  uint32_t to);
void ol_nfa_any_char(struct ol_nfa *nfa, uint32_t from, uint32_t to);
/* Whole numbers from low to high, without leading zeros or "-0". */
void ol_nfa_integer(struct ol_nfa *nfa, uint32_t from, int64_t low, int64_t high, uint32_t to);
/* A JSON number: up to 18 digits, 17 of fraction, an exponent of two. */
void ol_nfa_number(struct ol_nfa *nfa, uint32_t from, uint32_t to);
/* Numbers without exponent, up to 6 digits of fraction, in a range with whole bounds. */
void ol_nfa_number_range(struct ol_nfa *nfa, uint32_t from, int64_t low, bool low_open,
			 int64_t high, bool high_open, uint32_t to);

/* Starts in state 0. */
struct ol_dfa {
	uint8_t classes[256]; /* bytes that no state tells apart */
	int class_count;
	uint32_t state_count; /* 0: the language is empty */
	uint16_t *next;       /* (states, classes); OL_DFA_DEAD: this byte may not come */
	uint8_t *flags;       /* (states) */
	/* (states) inside a string of JSON: how many plain characters (no escape, no quote) may
	 * follow, whichever they are; 255: any number. NULL: not known. */
	uint8_t *room;
};
enum { OL_DFA_ACCEPTS = 1, OL_DFA_GOES_ON = 2 };

static inline uint32_t ol_dfa_step(const struct ol_dfa *dfa, uint32_t state, uint8_t byte)
{
	return dfa->next[state * (uint32_t)dfa->class_count + dfa->classes[byte]];
}
void ol_dfa_release(struct ol_dfa *dfa);
/* Finds the room of a dfa of strings. False: out of memory. */
OL_MUST_CHECK bool ol_dfa_find_room(struct ol_dfa *dfa);
/* *work counts down; OL_ERR_FULL when it is used up, when there would be too many states, or where
 * memory or the nfa failed. */
OL_MUST_CHECK enum ol_status ol_dfa_make(struct ol_dfa *dfa, const struct ol_nfa *nfa,
					 uint32_t start, uint32_t end, int64_t *work);
/* What both accept. */
OL_MUST_CHECK enum ol_status ol_dfa_intersect(struct ol_dfa *dfa, const struct ol_dfa *a,
					      const struct ol_dfa *b, int64_t *work);

/* Appends a pattern (ECMAScript's regular expressions, as far as they are regular) to the nfa: the
 * inside of a JSON string some part of which matches. *failure: why not, for a person. */
OL_MUST_CHECK enum ol_status ol_nfa_pattern(struct ol_nfa *nfa, uint32_t from, const char *pattern,
					    size_t size, uint32_t to, const char **failure);
/* Between min and max characters (UINT32_MAX: any number). */
void ol_nfa_length(struct ol_nfa *nfa, uint32_t from, uint32_t min, uint32_t max, uint32_t to);
/* The pattern a JSON Schema format stands for; NULL: unknown. */
const char *ol_grammar_format_pattern(const char *format);

#endif
