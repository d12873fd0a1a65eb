/* model/tokenizer.h, floor 2: text to token ids and back.
 *
 * Byte-level BPE (GPT-2, Llama 3, Qwen) and SentencePiece-style BPE with byte fallback (Llama 2,
 * Mistral, Gemma, TinyStories), from a tokenizer.json or a SentencePiece tokenizer.model of type
 * BPE. Equal, id by id, to the Hugging Face tokenizers library (its `truncation` and `padding`
 * apart, which are the caller's business) and to SentencePiece. A tokenizer is immutable and
 * shared by threads.
 *
 * A file that asks for anything else (another model, an unknown kind of step) is refused by
 * name. */
#ifndef OL_MODEL_TOKENIZER_H
#define OL_MODEL_TOKENIZER_H

#include "base/base.h"
#include "base/buf.h"

struct ol_tokenizer;

/* Ids that grow; owned by the caller. */
struct ol_tokens {
	int32_t *ids;
	size_t count, room;
};
void ol_tokens_release(struct ol_tokens *tokens);
OL_MUST_CHECK bool ol_tokens_grow(struct ol_tokens *tokens); /* room for more, at least doubled */
OL_MUST_CHECK static inline bool ol_tokens_push(struct ol_tokens *tokens, int32_t id)
{
	if (tokens->count == tokens->room && !ol_tokens_grow(tokens))
		return false;
	tokens->ids[tokens->count++] = id;
	return true;
}

/* A part of a text, in bytes. */
struct ol_text_span {
	size_t begin, end;
};

/* The bytes of a tokenizer.json, or of a tokenizer.model (told apart by their content), which
 * need not outlive the call. `path` is for messages only. The template of a tokenizer.model is
 * its BOS. */
OL_MUST_CHECK enum ol_status ol_tokenizer_open(struct ol_tokenizer **tokenizer_out,
					       const char *bytes, size_t size, const char *path,
					       struct ol_error *err);
void ol_tokenizer_close(struct ol_tokenizer *tokenizer);

int ol_tokenizer_vocab_size(const struct ol_tokenizer *tokenizer); /* highest id + 1 */
/* What stands for a character that the vocabulary cannot spell; -1: such characters vanish. */
int32_t ol_tokenizer_unknown(const struct ol_tokenizer *tokenizer);

enum ol_special {
	OL_SPECIAL_NONE, /* "<s>" in the text is just text: what a user typed        */
	OL_SPECIAL_PARSE /* added and special tokens in the text become themselves     */
};

/* Appends the ids of text. With add_template, the post-processor's tokens (BOS and the like) are
 * put around it. Where `special` is PARSE, the `plain_count` spans in `plain` (ascending, disjoint;
 * NULL: none) are exempt: an added token that overlaps one of them is not matched, so what a user
 * wrote inside a chat template can never become a special token. Added tokens of white space alone
 * that are not special (Gemma's line breaks) are matched everywhere. Text that is not valid UTF-8
 * is an error that names the byte offset. */
OL_MUST_CHECK enum ol_status ol_tokenizer_encode(const struct ol_tokenizer *tokenizer,
						 struct ol_tokens *tokens, const char *text,
						 size_t size, enum ol_special special,
						 bool add_template,
						 const struct ol_text_span *plain,
						 size_t plain_count, struct ol_error *err);

/* Appends the text of ids, as the library's decode(ids, skip_special_tokens=skip_special). */
OL_MUST_CHECK bool ol_tokenizer_decode(const struct ol_tokenizer *tokenizer, struct ol_buf *text,
				       const int32_t *ids, size_t count, bool skip_special);

/* The raw bytes one id stands for in the middle of a text (may be a part of a UTF-8 character);
 * special tokens give their content. NULL for an unused id. Streaming concatenates these and
 * sends what ol_utf8_complete (model/unicode.h) lets through; where the decoder strips the space
 * that opens a text (SentencePiece), the first piece still has it. */
const char *ol_tokenizer_piece(const struct ol_tokenizer *tokenizer, int32_t id, size_t *size_out);
bool ol_tokenizer_is_special(const struct ol_tokenizer *tokenizer, int32_t id);
/* The vocabulary entry as the file spells it ("▁the", "Ġthe", "<0x0A>"); NULL for an unused id. */
const char *ol_tokenizer_entry(const struct ol_tokenizer *tokenizer, int32_t id, size_t *size_out);
int32_t ol_tokenizer_find(const struct ol_tokenizer *tokenizer, const char *entry); /* -1: none */

#endif
