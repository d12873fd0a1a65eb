/* train/record.h, floor 3: what people have, as records.
 *
 *     JSONL or JSON   Alpaca       {instruction, input?, output}
 *                     ShareGPT     {conversations: [{from, value}…]}
 *                     messages     {messages: [{role, content}…]}          (OpenAI)
 *                     prompt       {prompt, completion}
 *                     text         {text}
 *                     preference   {prompt | messages, chosen, rejected}
 *     CSV             a header row that names the fields of one of the above
 *     .txt            paragraphs' text, cut at max_length only
 *     .md             Markdown, the same; a heading opens a new text
 *
 * Every record may carry id, contributor, license and system; a missing id is FILE:LINE, a missing
 * contributor the data card's or "unknown". Errors name file, line and field. */
#ifndef OL_TRAIN_RECORD_H
#define OL_TRAIN_RECORD_H

#include "base/base.h"
#include "base/buf.h"

enum ol_data_format {
	OL_DATA_AUTO, /* from the name and the first record */
	OL_DATA_ALPACA,
	OL_DATA_SHAREGPT,
	OL_DATA_MESSAGES,
	OL_DATA_PROMPT,
	OL_DATA_TEXT,
	OL_DATA_PREFERENCE,
	OL_DATA_CSV,
	OL_DATA_PLAIN,
	OL_DATA_MARKDOWN
};
enum { OL_DATA_FORMATS = 10, OL_RECORD_FIELD_MAX = 16 << 20, OL_RECORDS_MAX = 50000000 };
const char *ol_data_format_name(enum ol_data_format format); /* "alpaca", "sharegpt", … */
OL_MUST_CHECK bool ol_data_format_parse(enum ol_data_format *format_out, const char *name);

/* One turn of a conversation, or a whole text. Strings are UTF-8, owned by the record list. */
enum ol_role { OL_ROLE_SYSTEM, OL_ROLE_USER, OL_ROLE_ASSISTANT, OL_ROLE_TEXT };
struct ol_turn {
	enum ol_role role;
	const char *text;
	size_t size;
};

/* A text has one turn of OL_ROLE_TEXT; a prompt and its completion are a user and an assistant
 * turn; a preference's last assistant turn is the chosen answer, `rejected` the other. */
struct ol_record {
	const char *id, *contributor, *license; /* license: SPDX, or NULL */
	const char *file;
	uint32_t line; /* where the record begins, from 1 */
	enum ol_data_format format;
	const struct ol_turn *turns;
	int turn_count;
	const char *rejected; /* NULL unless a preference */
	size_t rejected_size;
};

struct ol_records;

/* Files, in the order given; folders stand for their files by name. */
OL_MUST_CHECK enum ol_status ol_records_open(struct ol_records **records_out,
					     const char *const *paths, int path_count,
					     enum ol_data_format format, struct ol_error *err);
void ol_records_close(struct ol_records *records);
size_t ol_records_count(const struct ol_records *records);
const struct ol_record *ol_records_at(const struct ol_records *records, size_t index);
/* One of the records' sources: its licence and terms. */
struct ol_source_card {
	const char *file, *license, *attribution;
	bool train, export_, commercial; /* what the terms allow */
};
int ol_records_cards(const struct ol_records *records, const struct ol_source_card **cards_out);

#endif
