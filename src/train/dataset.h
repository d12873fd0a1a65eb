/* train/dataset.h, floor 3: records as token sequences: what the model will really see.
 *
 * Conversations go through the model's chat template; only answers (and the token that ends them)
 * are targets. Every example keeps its id and its contributor to the loss. The order of a dataset
 * is its records' order; snapshot_sha256 is the RFC 6962 root over the canonical records
 * (docs/FORMATS.md, "Data snapshots"): the same data, the same hash, whatever the file format.
 *
 * Where an answer lies is found by rendering prefixes: what the model is given before it answers
 * (turns [0, i), answer opened) must begin what turns [0, i] become; the rest is the answer. Turns
 * that a template writes otherwise once more turns follow make an example of their own.
 *
 *     text     <s> t1 t2 … tn </s>      rows of at most max_length, each predicting the next token
 *     chat     prompt ─ answer <end> ─ prompt ─ answer <end>
 *                       ^^^^^^^^^^^^            ^^^^^^^^^^^^ targets; what follows is left out */
#ifndef OL_TRAIN_DATASET_H
#define OL_TRAIN_DATASET_H

#include "crypto/sha256.h"
#include "model/chat.h"
#include "model/tape.h"
#include "train/record.h"

struct ol_example {
	const char *id; /* the record's; of a second part and on, "ID#2" … */
	const char *contributor;
	uint64_t key; /* first 8 bytes of SHA-256(id): keys order, hold-out and dropout; the parts
		       * of a conversation have the first one's, so that they stay together */
	const struct ol_record *record;
	struct ol_sequence sequence; /* a preference: with the chosen answer */
	struct ol_sequence rejected; /* count 0 unless a preference          */
	int32_t answer_tokens;       /* targets >= 0 in `sequence`           */
	int32_t rejected_tokens;
	uint32_t answer_bytes; /* of the answers' text, for nats per byte */
	bool truncated;        /* cut at max_length                    */
};

struct ol_dataset_options {
	int max_length;      /* tokens; a longer conversation is cut, a longer text split     */
	bool loss_on_prompt; /* every token is a target (texts always are)                    */
	bool single_text;    /* do not split long texts: cut them                             */
	int threads;         /* 0: all; the result is the same                                */
};

struct ol_dataset;

/* Borrows the records and the chat format. An example without a target is refused by name. Where a
 * template asks for the time, it is OL_CHAT_TRAINING_NOW. */
OL_MUST_CHECK enum ol_status ol_dataset_open(struct ol_dataset **dataset_out,
					     const struct ol_records *records,
					     const struct ol_chat_format *chat,
					     const struct ol_dataset_options *options,
					     struct ol_error *err);
void ol_dataset_close(struct ol_dataset *dataset);
size_t ol_dataset_count(const struct ol_dataset *dataset);
const struct ol_example *ol_dataset_at(const struct ol_dataset *dataset, size_t index);
const uint8_t *ol_dataset_sha256(const struct ol_dataset *dataset); /* snapshot, OL_SHA256_BYTES */
size_t ol_dataset_truncated(const struct ol_dataset *dataset);
int ol_dataset_longest(const struct ol_dataset *dataset); /* rows of the longest sequence */
uint64_t ol_dataset_answer_tokens(const struct ol_dataset *dataset);
const struct ol_records *ol_dataset_records(const struct ol_dataset *dataset);

/* Appends what the model sees of an example, targets marked, for a terminal: in colour, or between
 * "[[" and "]]". */
bool ol_example_preview(struct ol_buf *text, const struct ol_example *example,
			const struct ol_tokenizer *tokenizer, bool color);

#endif
