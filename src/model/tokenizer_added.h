/* model/tokenizer_added.h, floor 2: added tokens. Private to tokenizer*.c. */
#ifndef OL_MODEL_TOKENIZER_ADDED_H
#define OL_MODEL_TOKENIZER_ADDED_H

#include "model/tokenizer_parts.h"

/* What must not be searched: spans of the text, or (where marks is not NULL) every marked byte. */
struct ol_plain {
	const struct ol_text_span *spans;
	size_t count;
	const char *marks;
};

/* A text cut at added tokens; id -1: text between them. */
struct ol_cut {
	size_t begin, end;
	int32_t id;
};
struct ol_cuts {
	struct ol_cut *list;
	size_t count, room;
};
OL_MUST_CHECK bool ol_cuts_push(struct ol_cuts *cuts, size_t begin, size_t end, int32_t id);

/* Numbers the added tokens and builds both tries; the vocabulary is complete. */
enum ol_status ol_tokenizer_add_tokens(struct ol_tokenizer *t, const char *path,
				       struct ol_error *err);

/* Appends the cuts of a text. lstrip and rstrip reach into plain parts; of the matches, only blank
 * ones do (Gemma's runs of line breaks: no template is opened or closed by them). */
enum ol_status ol_tokenizer_find_added(const struct ol_tokenizer *t, const struct ol_trie *trie,
				       const char *text, size_t size, const struct ol_plain *plain,
				       struct ol_cuts *cuts, struct ol_error *err);

#endif
