/* train/bpe_train.h, floor 3: learning a byte-level BPE vocabulary from text.
 *
 * The text is cut into words by the pattern of Qwen 2 (a word takes the space before it, digits
 * stand alone), words start as bytes, and the pair of neighbours that is most frequent over all
 * words becomes one entry, again and again, until the vocabulary is full (Sennrich et al. 2016).
 * Ties go to the pair with the lower left id, then the lower right id. What is learned is a
 * function of the multiset of words alone: the order of the texts does not matter.
 *
 * Ids: the special tokens in the caller's order, the 256 bytes in ascending order, then the merges
 * in the order they were made. The file that ol_bpe_trainer_write makes is a tokenizer.json that
 * ol_tokenizer and the Hugging Face tokenizers library read alike. */
#ifndef OL_TRAIN_BPE_TRAIN_H
#define OL_TRAIN_BPE_TRAIN_H

#include "base/base.h"
#include "base/buf.h"

enum {
	OL_BPE_TRAIN_WORD_MAX = 64, /* bytes; longer words (rulers, encoded data) teach nothing */
	OL_BPE_TRAIN_SPECIAL_MAX = 64, /* special tokens                                          */
	OL_BPE_TRAIN_VOCAB_MAX =
		1 << 20,           /* entries                                                 */
	OL_BPE_TRAIN_COUNT_MIN = 2 /* a pair seen less often is not worth an entry            */
};

struct ol_bpe_trainer;

OL_MUST_CHECK enum ol_status ol_bpe_trainer_open(struct ol_bpe_trainer **trainer_out,
						 struct ol_error *err);
void ol_bpe_trainer_close(struct ol_bpe_trainer *trainer);

/* Counts the words of one text; `where` (a file, a line) opens the sentence of an error. A text
 * that is not valid UTF-8 is an error that names the byte offset. */
OL_MUST_CHECK enum ol_status ol_bpe_trainer_add(struct ol_bpe_trainer *trainer, const char *text,
						size_t size, const char *where,
						struct ol_error *err);
uint64_t ol_bpe_trainer_words(const struct ol_bpe_trainer *trainer);        /* counted so far */
uint64_t ol_bpe_trainer_unique_words(const struct ol_bpe_trainer *trainer); /* different ones */

/* Learns a vocabulary of exactly vocab_size entries, `special_count` special tokens and the 256
 * bytes among them. Once per trainer. Text that has not enough pairs is an error. */
OL_MUST_CHECK enum ol_status ol_bpe_trainer_learn(struct ol_bpe_trainer *trainer, int vocab_size,
						  const char *const *special, int special_count,
						  struct ol_error *err);

/* Appends the tokenizer.json. `bos` (one of the special tokens, or NULL for none) is what the
 * post-processor puts before a text. After ol_bpe_trainer_learn. */
OL_MUST_CHECK enum ol_status ol_bpe_trainer_write(const struct ol_bpe_trainer *trainer,
						  struct ol_buf *json, const char *bos,
						  struct ol_error *err);

#endif
