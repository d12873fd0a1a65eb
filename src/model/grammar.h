/* model/grammar.h, floor 2: structured output: an answer that cannot but be what was asked for.
 *
 *     JSON Schema ──compile──> ol_grammar ───┐  begin   ┌── mask: which tokens may come next
 *     tokenizer ──> ol_grammar_vocab (trie) ─┴────────> state
 *                    one per model, shared              └── accept: this one came
 *
 * A grammar is an automaton with a stack over BYTES: what a token is does not enter into it, so
 * half a UTF-8 character, a byte-fallback token and a token that spans `"},{"` all work. Every
 * state that can be reached can be completed (those that cannot are cut at compile time), so as
 * long as each byte has a token of its own there is always a token to choose. docs/API.md,
 * "Structured output", says which keywords of JSON Schema exist and what text is allowed; whatever
 * a schema says is enforced or refused by name, never passed over.
 *
 * Vocabulary and grammar are immutable to their users and may be shared by threads (masks that were
 * computed once are kept behind a lock); a state belongs to one answer. Masks are a function of
 * grammar, tokens so far and vocabulary alone: what the cache holds changes no bit. */
#ifndef OL_MODEL_GRAMMAR_H
#define OL_MODEL_GRAMMAR_H

#include "base/base.h"
#include "model/tokenizer.h"

#include <jansson.h>

/* Limits, each refused by name. */
enum {
	OL_GRAMMAR_SCHEMA_MAX = 256 << 10,     /* bytes of a schema, written compactly         */
	OL_GRAMMAR_NESTING_MAX = 64,           /* how deep a schema nests                      */
	OL_GRAMMAR_DEPTH_MAX = 64,             /* how deep a value nests                       */
	OL_GRAMMAR_NODES_MAX = 8192,           /* subschemas after references are followed     */
	OL_GRAMMAR_ALTERNATIVES_MAX = 1 << 18, /* and links between them                       */
	OL_GRAMMAR_PROPERTIES_MAX = 1000,      /* of one object                                */
	OL_GRAMMAR_ENUM_MAX = 1000,            /* values of one enum, or choices                */
	OL_GRAMMAR_STATES_MAX = 32768,         /* of one pattern, enum or number               */
	OL_GRAMMAR_STATES_TOTAL_MAX = 65536,   /* of all of them                               */
	OL_GRAMMAR_WORK_MAX = 20 << 20,        /* steps of compiling: about a second           */
	OL_GRAMMAR_PIECE_MAX = 256,            /* bytes; longer tokens are never allowed        */
	OL_GRAMMAR_KEPT_MAX = 64,              /* compiled grammars that a vocabulary keeps …  */
	OL_GRAMMAR_KEPT_BYTES = 32 << 20,      /* … and how large they may be together     */
	OL_GRAMMAR_ID_BYTES = 32,
	OL_GRAMMAR_CACHE_BYTES = 64 << 20 /* masks kept for one vocabulary, by default     */
};

/* The tokens of a model as a trie of bytes. */
struct ol_grammar_vocab;

/* vocab_size: of the model's logits. The eos ids end an answer; other special tokens are never
 * allowed. cache_bytes 0: OL_GRAMMAR_CACHE_BYTES. The tokenizer is not needed afterwards. */
OL_MUST_CHECK enum ol_status ol_grammar_vocab_open(struct ol_grammar_vocab **vocab_out,
						   const struct ol_tokenizer *tokenizer,
						   int vocab_size, const int32_t *eos_ids,
						   int eos_count, size_t cache_bytes,
						   struct ol_error *err);
/* Grammars that are in use keep what they need of it alive. */
void ol_grammar_vocab_close(struct ol_grammar_vocab *vocab);

struct ol_grammar_vocab_stats {
	uint64_t hits, misses; /* masks found and computed */
	size_t cache_bytes, trie_bytes;
};
void ol_grammar_vocab_stats(struct ol_grammar_vocab *vocab, struct ol_grammar_vocab_stats *stats);

/* A compiled grammar, counted: open gives one reference, close takes one back. One that was opened
 * lately is not compiled again, and its masks are there already. Errors name the
 * place in the schema ("the schema at /properties/age: …"). OL_ERR_INPUT: malformed, or nothing
 * can satisfy it; OL_ERR_UNSUPPORTED: a keyword or a use of one that is refused, or a byte that
 * JSON needs has no token of its own; OL_ERR_FULL: over a limit, or out of memory. */
struct ol_grammar;

/* Any JSON object: OpenAI's {"type": "json_object"}. */
OL_MUST_CHECK enum ol_status ol_grammar_open_json(struct ol_grammar **grammar_out,
						  struct ol_grammar_vocab *vocab,
						  struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_grammar_open_schema(struct ol_grammar **grammar_out,
						    struct ol_grammar_vocab *vocab,
						    const json_t *schema, struct ol_error *err);
/* One of these texts as it stands, without quotes: vLLM's guided_choice. An array of strings. */
OL_MUST_CHECK enum ol_status ol_grammar_open_choice(struct ol_grammar **grammar_out,
						    struct ol_grammar_vocab *vocab,
						    const json_t *choices, struct ol_error *err);
/* OpenAI's response_format object, {"type": "text" | "json_object" | "json_schema", …}; text gives
 * NULL. */
OL_MUST_CHECK enum ol_status ol_grammar_open_format(struct ol_grammar **grammar_out,
						    struct ol_grammar_vocab *vocab,
						    const json_t *response_format,
						    struct ol_error *err);
const struct ol_grammar *ol_grammar_hold(const struct ol_grammar *grammar); /* one more reference */
void ol_grammar_close(const struct ol_grammar *grammar); /* one less; NULL is fine */

/* SHA-256 over "openledger grammar 1\n", the kind ("json", "schema" or "choice") and a newline, and
 * the schema or the choices as compact JSON in the order given. Stands on the receipt. */
const uint8_t *ol_grammar_id(const struct ol_grammar *grammar);

/* One answer's place in a grammar. */
struct ol_grammar_state;

/* strip_lead_space: a space that opens the first token is no part of the text
 * (ol_answer_options). allow_eos: the eos tokens end an answer. */
OL_MUST_CHECK enum ol_status ol_grammar_begin(struct ol_grammar_state **state_out,
					      const struct ol_grammar *grammar,
					      bool strip_lead_space, bool allow_eos);
void ol_grammar_state_close(struct ol_grammar_state *state);

/* A bit per token of the vocabulary, (vocab_size + 63) / 64 words: may it come next? False: none
 * may, which only memory can bring about. */
OL_MUST_CHECK bool ol_grammar_mask(struct ol_grammar_state *state, uint64_t *allowed);
/* The same of one token, by looking at it alone; slow for many. */
bool ol_grammar_allows(struct ol_grammar_state *state, int32_t token);
/* The token came. False, and nothing changed: it was not allowed. An eos token changes nothing. */
OL_MUST_CHECK bool ol_grammar_accept(struct ol_grammar_state *state, int32_t token);
/* The text so far is a whole value; and, for is_over, nothing more can follow it. */
bool ol_grammar_is_complete(const struct ol_grammar_state *state);
bool ol_grammar_is_over(const struct ol_grammar_state *state);

#endif
