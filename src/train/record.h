/* train/record.h, floor 3: what people have, as records.
 *
 *     JSONL or JSON   Alpaca       {instruction, input?, output}
 *                     ShareGPT     {conversations: [{from, value}…]}
 *                     messages     {messages: [{role, content}…]}          (OpenAI)
 *                     prompt       {prompt, completion}
 *                     text         {text}
 *                     preference   {prompt | messages, chosen, rejected}
 *     CSV             a header row that names the fields of one of the above
 *     .txt            one text; a long file is cut at empty lines
 *     .md             Markdown; a heading opens a new text
 *
 * Every record may carry id, contributor, license, system and fact. A missing contributor is the
 * data card's or "unknown". A missing id comes from the content (docs/FORMATS.md, "Data"), so that
 * the same data have the same ids in whatever file they come. Errors name file, line and field. */
#ifndef OL_TRAIN_RECORD_H
#define OL_TRAIN_RECORD_H

#include "base/base.h"
#include "base/buf.h"
#include "crypto/sha256.h"

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
enum {
	OL_DATA_FORMATS = 10,
	OL_RECORD_FIELD_MAX = 16 << 20, /* bytes of one field                           */
	OL_RECORD_FIELDS_MAX = 256,     /* keys of one JSON object, columns of one CSV  */
	OL_RECORD_TURNS_MAX = 4096,     /* of one conversation                          */
	OL_RECORD_NAME_MAX = 256,       /* bytes of an id, a contributor, a license     */
	OL_RECORD_DEPTH_MAX = 64,       /* of values that are passed over               */
	OL_RECORD_PIECE = 1 << 20,      /* bytes; a longer .txt or section is cut       */
	OL_RECORDS_MAX = 50000000,
	OL_DATA_FILES_MAX = 100000,
	OL_DATA_FOLDERS_MAX = 8, /* inside each other */
	OL_DATA_CARD_MAX = 4 << 20
};
const char *ol_data_format_name(enum ol_data_format format); /* "alpaca", "sharegpt", … */
OL_MUST_CHECK bool ol_data_format_parse(enum ol_data_format *format_out, const char *name);

/* One turn of a conversation, or a whole text. Strings are UTF-8 without NUL, owned by the record
 * list. */
enum ol_role { OL_ROLE_SYSTEM, OL_ROLE_USER, OL_ROLE_ASSISTANT, OL_ROLE_TEXT };
const char *ol_role_name(enum ol_role role); /* "system", "user", "assistant", "text" */
struct ol_turn {
	enum ol_role role;
	const char *text;
	size_t size;
};

/* A text has one turn of OL_ROLE_TEXT; a prompt and its completion are a user and an assistant
 * turn; a conversation ends with an assistant turn; a preference's last assistant turn is the
 * chosen answer, `rejected` the other. */
struct ol_record {
	const char *id, *contributor, *license; /* license: SPDX, or NULL */
	const char *fact; /* what a right answer holds, for evaluation; or NULL */
	uint64_t key;     /* first 8 bytes of SHA-256(id), little-endian        */
	const char *file;
	uint32_t line;              /* where the record begins, from 1 */
	enum ol_data_format format; /* its shape: never AUTO or CSV */
	const struct ol_turn *turns;
	int turn_count;
	const char *rejected; /* NULL unless a preference */
	size_t rejected_size;
};

struct ol_records;

/* Files, in the order given; folders stand for their files and folders, by name. Of a folder, what
 * begins with '.', data cards and README, LICENSE and NOTICE files are passed over. What the terms
 * of a data card forbid is not decided here (ol_records_cards). */
OL_MUST_CHECK enum ol_status ol_records_open(struct ol_records **records_out,
					     const char *const *paths, int path_count,
					     enum ol_data_format format, struct ol_error *err);
/* One file's content from memory; its name tells the kind. No data card. */
OL_MUST_CHECK enum ol_status ol_records_open_bytes(struct ol_records **records_out,
						   const char *name, const char *bytes, size_t size,
						   enum ol_data_format format,
						   struct ol_error *err);
void ol_records_close(struct ol_records *records);
size_t ol_records_count(const struct ol_records *records);
const struct ol_record *ol_records_at(const struct ol_records *records, size_t index);

/* A source: a data file and one of the licences in it, with what its data card (FILE.card.json,
 * or with FILE's last extension dropped, or card.json in its folder) says. */
struct ol_source_card {
	const char *file, *license, *attribution;
	bool train, export_, commercial; /* what the terms allow */
	size_t records;                  /* under this licence   */
	bool first;                      /* source with this licence */
};
int ol_records_cards(const struct ol_records *records, const struct ol_source_card **cards_out);
/* OL_ERR_INPUT, naming the source, when the terms of one forbid training. */
OL_MUST_CHECK enum ol_status ol_records_may_train(const struct ol_records *records,
						  struct ol_error *err);
/* Two sources whose licences do not allow one work made of both: their indices in the cards, each
 * the first with its licence. Looks from the pair (*a, *b) on, which begins at (0, 0); false when
 * there is no further pair. */
bool ol_records_conflict(const struct ol_records *records, int *a, int *b);
/* The same for two SPDX ids or expressions. NULL conflicts with nothing: nothing is known. */
bool ol_licenses_conflict(const char *a, const char *b);

/* Appends the canonical record: its JSON object by RFC 8785 (docs/FORMATS.md, "Data snapshots"). */
bool ol_record_write(struct ol_buf *json, const struct ol_record *record);
/* The snapshot: the RFC 6962 root over the canonical records in order. */
OL_MUST_CHECK enum ol_status ol_records_sha256(const struct ol_records *records,
					       uint8_t out[OL_SHA256_BYTES], struct ol_error *err);

#endif
