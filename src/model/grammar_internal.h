/* model/grammar_internal.h, floor 2: what the parts of a grammar share.
 *
 * A compiled schema is a table of nodes. While a value is being written, each node that is open has
 * a frame on the stack:
 *
 *     {"a": [1, "x      object (which property, where in it) < array (how many items) < string
 *
 * A byte goes to the top frame, which moves, opens a child (push) or is whole (pop: the parent
 * learns that its child is done). Alternatives that begin alike are followed side by side: a place
 * in a grammar is a small set of stacks. Stacks are linked lists with shared tails in a bump pool,
 * so a walk over the trie of tokens goes back by resetting the pool. */
#ifndef OL_MODEL_GRAMMAR_INTERNAL_H
#define OL_MODEL_GRAMMAR_INTERNAL_H

#include "model/grammar.h"
#include "model/grammar_dfa.h"

#include <pthread.h>
#include <stdatomic.h>

enum { OL_JSON_ESCAPE_MAX = 8, OL_GRAMMAR_NONE = 0xffff, OL_GRAMMAR_NEVER = 255 };

/* A code point as a string of JSON spells it here: itself, or the shortest escape. Returns its
 * length. */
size_t ol_json_escape(char out[OL_JSON_ESCAPE_MAX], uint32_t code);
/* Room for one more; false: at max, or out of memory. */
OL_MUST_CHECK bool ol_grammar_grow(void **array, uint32_t *room, uint32_t count, size_t size,
				   uint32_t max);

/* --- the compiled schema --------------------------------------------------- */

enum ol_grammar_kind {
	OL_GRAMMAR_ALTERNATIVES,
	OL_GRAMMAR_BYTES,  /* a regular language: numbers, literals, strings with a pattern */
	OL_GRAMMAR_STRING, /* min to max characters */
	OL_GRAMMAR_ARRAY,
	OL_GRAMMAR_OBJECT
};

struct ol_grammar_node {
	uint8_t kind;
	uint8_t height; /* frames that the smallest value needs; OL_GRAMMAR_NEVER: there is none */
	uint16_t rest;  /* items after the prefix, additional properties; OL_GRAMMAR_NONE        */
	uint32_t begin,
		count;     /* alternatives and prefix: of links; properties; begin: the dfa    */
	uint32_t sorted;   /* object: its properties by name, in links                        */
	uint32_t min, max; /* characters or items; max UINT32_MAX: any number                   */
	uint64_t first[4]; /* bytes that may begin a value                                       */
};

struct ol_grammar_property {
	uint32_t name, name_size; /* in names, as a string of JSON spells it, without quotes */
	uint16_t value;
	uint16_t first_required; /* the first from here on that is required; the count: none */
	bool required;
};

struct ol_grammar {
	atomic_int references;
	struct ol_grammar_vocab *vocab;
	size_t bytes;    /* about what it takes in memory */
	uint32_t serial; /* among the vocabulary's grammars; never used again */
	uint8_t id[OL_GRAMMAR_ID_BYTES];
	uint16_t root;
	uint8_t height_max; /* the highest of the nodes that have values */
	bool depth_matters; /* it nests without end: a mask depends on how deep it is */
	struct ol_grammar_node *nodes;
	struct ol_grammar_property *properties;
	struct ol_dfa *dfas;
	uint16_t *links;
	char *names;
	uint32_t node_count, node_room, property_count, property_room, dfa_count, dfa_room;
	uint32_t link_count, link_room, name_size, name_room;
};

static inline bool ol_grammar_begins(const struct ol_grammar_node *node, uint8_t byte)
{
	return node->first[byte >> 6] >> (byte & 63) & 1;
}

/* --- compiling ------------------------------------------------------------- */

struct ol_grammar_reference {
	const json_t *schema;
	uint16_t node;
};

struct ol_grammar_builder {
	struct ol_grammar *g;
	const json_t *document; /* what "#" in a $ref means */
	json_t *made;           /* array: schemas that merging made, kept until the end */
	struct ol_buf path;     /* JSON pointer of what is being compiled */
	struct ol_grammar_reference *references;
	uint32_t reference_count, reference_room, states;
	uint16_t any; /* the node of "any value"; OL_GRAMMAR_NONE: not made yet */
	int nesting;
	int64_t work;
	enum ol_status status; /* the first failure */
	struct ol_error *err;
};

/* Remembers the first failure, with the path before it; always OL_GRAMMAR_NONE. */
uint16_t ol_grammar_fail(struct ol_grammar_builder *b, enum ol_status status, const char *format,
			 ...) OL_PRINTF(3, 4);
uint16_t ol_grammar_full(struct ol_grammar_builder *b); /* memory, or a limit on size */
/* Each gives the node, or OL_GRAMMAR_NONE after a failure. */
uint16_t ol_grammar_node(struct ol_grammar_builder *b, enum ol_grammar_kind kind);
uint16_t ol_grammar_compile(struct ol_grammar_builder *b, const json_t *schema);
uint16_t ol_grammar_compile_at(struct ol_grammar_builder *b, const json_t *schema,
			       const char *segment, const char *name);
uint16_t ol_grammar_any(struct ol_grammar_builder *b);
uint16_t ol_grammar_literals(struct ol_grammar_builder *b, const json_t *values);
uint16_t ol_grammar_texts(struct ol_grammar_builder *b, const json_t *texts);
uint16_t ol_grammar_number(struct ol_grammar_builder *b, const json_t *schema, bool integer);
uint16_t ol_grammar_string(struct ol_grammar_builder *b, const json_t *schema);
uint16_t ol_grammar_array(struct ol_grammar_builder *b, const json_t *schema);
uint16_t ol_grammar_object(struct ol_grammar_builder *b, const json_t *schema);
uint16_t ol_grammar_alternatives(struct ol_grammar_builder *b, const uint16_t *nodes,
				 uint32_t count);
/* Appends to links; false after a failure. */
bool ol_grammar_link(struct ol_grammar_builder *b, uint16_t node);
/* Appends a value, compactly, in the one spelling that a grammar lets through. False: it cannot be
 * written (a NUL character, too deep). */
bool ol_grammar_write(struct ol_buf *out, const json_t *value, int depth);
/* A keyword that counts, within [0, 2^30]; absent: otherwise. False after a failure. */
bool ol_grammar_count(struct ol_grammar_builder *b, const json_t *schema, const char *keyword,
		      uint32_t otherwise, uint32_t *value_out);
/* Does this keyword say nothing about which values are valid? */
bool ol_grammar_is_annotation(const char *keyword);
/* One schema for what several demand together; NULL after a failure. Borrowed from b->made. */
const json_t *ol_grammar_merge(struct ol_grammar_builder *b, const json_t *x, const json_t *y);
const json_t *ol_grammar_resolve(struct ol_grammar_builder *b, const json_t *reference);
/* Is no value valid under both, so that oneOf is anyOf? */
bool ol_grammar_disjoint(struct ol_grammar_builder *b, uint16_t x, uint16_t y, int depth);
/* Heights, first bytes, alternatives of alternatives: once all nodes are there. */
void ol_grammar_finish(struct ol_grammar_builder *b);

/* --- running --------------------------------------------------------------- */

/* What a frame's `where` means depends on the node's kind. */
enum ol_grammar_where {
	/* array and object */
	OL_WHERE_OPENED, /* after [ or {                      */
	OL_WHERE_INSIDE, /* a child is being written           */
	OL_WHERE_AFTER,  /* after a child                      */
	OL_WHERE_COMMA,  /* after a comma                      */
	OL_WHERE_SPACE,  /* after a comma and a space          */
	/* object */
	OL_WHERE_NAME,       /* in a property's name               */
	OL_WHERE_NAMED,      /* after a property's name            */
	OL_WHERE_COLON,      /* after the colon                    */
	OL_WHERE_COLON_SPACE /* after the colon and a space        */
};
/* The frame of the whole text, before its first byte: count is OL_GRAMMAR_AT_ROOT, and where says
 * whether a space may open the token without being part of the text. */
#define OL_GRAMMAR_AT_ROOT UINT32_MAX
enum ol_grammar_root { OL_ROOT_TEXT, OL_ROOT_STRIP, OL_ROOT_STRIPPED };

struct ol_grammar_frame {
	uint16_t node;
	uint8_t where;  /* ol_grammar_where; root: ol_grammar_root */
	uint8_t lex;    /* inside a string of JSON: what of a character has come */
	uint32_t count; /* items begun; the next property; characters; bytes: the dfa's state */
	uint32_t low;   /* name: which of the sorted properties it may still be: [low, high) */
	uint16_t high;
	uint16_t size; /* name: its bytes so far; after it: the node of the value */
};

/* A stack is the index of its top link. 0 is the empty stack: the value is whole. 1 is what lies
 * under a stack that is looked at by itself (a local run). */
struct ol_grammar_link {
	struct ol_grammar_frame frame;
	uint32_t below, depth;
};

enum {
	OL_GRAMMAR_STACKS_MAX = 16, /* followed side by side; more are dropped, the last first */
	/* Each byte leaves at most STACKS_MAX stacks, each with at most three new links. */
	OL_GRAMMAR_LINKS_MAX = OL_GRAMMAR_DEPTH_MAX * OL_GRAMMAR_STACKS_MAX +
			       8 * OL_GRAMMAR_STACKS_MAX * (OL_GRAMMAR_PIECE_MAX + 2)
};

struct ol_grammar_stacks {
	uint32_t tops[OL_GRAMMAR_STACKS_MAX];
	int count;
};

/* A machine that runs bytes through a grammar. `popped`: the stack under link 1 is not known; a
 * stack that is popped to it is reported there and not followed. */
struct ol_grammar_run {
	const struct ol_grammar *g;
	struct ol_grammar_link *links; /* (OL_GRAMMAR_LINKS_MAX) */
	uint32_t link_count;
	bool local, popped;
	struct ol_grammar_stacks *out;
};

/* The stacks after one byte. */
void ol_grammar_step(struct ol_grammar_run *run, struct ol_grammar_stacks *out,
		     const struct ol_grammar_stacks *in, uint8_t byte);
/* What comes after a link's child is done: for going on where a local run stopped. */
void ol_grammar_child_done(struct ol_grammar_run *run, struct ol_grammar_stacks *out,
			   uint32_t parent);
enum { OL_LEX_PLAIN = 0, OL_LEX_TEXT_FIRST = 2, OL_LEX_TEXT_LAST = 8, OL_LEX_DEAD = 255 };
/* Strings of JSON, byte by byte: from OL_LEX_PLAIN back to it for every character. canonical: only
 * the shortest spelling, as names and patterns have it. */
uint8_t ol_grammar_lex(uint8_t state, uint8_t byte, bool canonical);

/* --- the vocabulary -------------------------------------------------------- */

/* In the order of their bytes, each before those that it begins. Leaving out everything below node
 * i, the next is skip. */
struct ol_trie_node {
	int32_t token; /* the first with these bytes; -1: none */
	uint32_t skip;
	uint8_t byte;
	uint16_t depth; /* bytes: 1 for the first */
};

struct ol_trie {
	struct ol_trie_node *nodes;
	uint32_t count, room;
};

struct ol_grammar_mask_entry;

struct ol_grammar_vocab {
	atomic_int references;
	int vocab_size;
	size_t words;
	int32_t *eos;
	int eos_count;
	char *bytes;                 /* of all tokens */
	uint32_t *begin, *size;      /* (vocab_size) of each; size 0: never allowed */
	int32_t *same;               /* (vocab_size) the next token with the same bytes; -1: none */
	struct ol_trie all, special; /* special: without the plain ones */
	/* Plain: whole characters that a string holds as they are. plain[n]: those of up to n
	 * characters, (plain_max + 1, words). */
	int plain_max;
	uint64_t *plain;
	int longest, opens_max; /* bytes and opening brackets of one token, at most */
	pthread_mutex_t lock;   /* for all that follows */
	uint32_t serials;
	struct ol_grammar *kept[OL_GRAMMAR_KEPT_MAX]; /* the last used first; a reference each */
	int kept_count;
	size_t kept_bytes;
	struct ol_grammar_run run;        /* scratch */
	struct ol_grammar_stacks *levels; /* (bytes of a token) scratch: a walk's stacks …      */
	uint32_t *marks;                  /* … and how much of the pool they use               */
	struct ol_grammar_mask_entry **slots, *newest, *oldest;
	uint32_t slot_count;
	size_t cache_bytes, cache_max;
	uint64_t hits, misses;
};

/* Is there a token for this byte alone? And for every byte that JSON may need? */
bool ol_grammar_vocab_spells(const struct ol_grammar_vocab *vocab, uint8_t byte);
OL_MUST_CHECK enum ol_status ol_grammar_vocab_check(const struct ol_grammar_vocab *vocab,
						    struct ol_error *err);
void ol_grammar_cache_release(struct ol_grammar_vocab *vocab);
/* A grammar's own reference to its vocabulary. */
void ol_grammar_vocab_drop(struct ol_grammar_vocab *vocab);
/* The grammar with this id, held for the caller; NULL: it is not kept. */
struct ol_grammar *ol_grammar_kept(struct ol_grammar_vocab *vocab,
				   const uint8_t id[OL_GRAMMAR_ID_BYTES]);
/* Gives it a serial and keeps it; those that were not used for longest go. */
void ol_grammar_keep(struct ol_grammar_vocab *vocab, struct ol_grammar *grammar);

struct ol_grammar_state {
	const struct ol_grammar *g;
	bool allow_eos;
	struct ol_grammar_stacks stacks;
	struct ol_grammar_link *links, *spare; /* two pools: the stacks', and where the next go */
	uint32_t link_count;
};

#endif
