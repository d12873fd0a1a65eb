/* train/record_internal.h, floor 3: what the readers of data files share.
 *
 *     bytes of a file ─ record_json.c, record_csv.c ─ fields ─┐
 *                     └ record_text.c ────────────────────────┴─ record_build.c ─ ol_records
 *
 * A reader collects the fields of one record and ol_reader_add makes the record of them. */
#ifndef OL_TRAIN_RECORD_INTERNAL_H
#define OL_TRAIN_RECORD_INTERNAL_H

#include "train/record.h"

/* Strings, packed into blocks that never move. */
struct ol_text_block;
struct ol_text_store {
	struct ol_text_block *blocks;
};
/* Room for size bytes, aligned for pointers; what is not taken is given again next time. NULL: out
 * of memory. */
char *ol_text_reserve(struct ol_text_store *store, size_t size);
void ol_text_take(struct ol_text_store *store, size_t size);
char *ol_text_copy(struct ol_text_store *store, const char *text, size_t size); /* adds a NUL */
void ol_text_release(struct ol_text_store *store);

/* Known ids and names. Slots hold index + 1; repeats counts the ids that were made of one id. */
struct ol_id_slot {
	uint32_t record, repeats;
};
struct ol_name_slot {
	uint64_t key;
	const char *name;
};

struct ol_records {
	struct ol_record *records;
	size_t count, room;
	struct ol_text_store texts;
	struct ol_source_card *cards;
	int card_count, card_room;
	struct ol_id_slot *ids; /* (id_slots), a power of two */
	size_t id_slots;
	struct ol_name_slot *names; /* (name_slots), a power of two; contributors and licences */
	size_t name_slots, name_count;
};

/* What a data card says about a file; strings are owned by the records. */
struct ol_data_card {
	const char *license, *attribution, *contributor;
	bool train, export_, commercial;
};
/* Looks for the card of a file; without one, nothing is known and all is allowed. */
OL_MUST_CHECK enum ol_status ol_data_card_find(struct ol_data_card *card,
					       struct ol_records *records, const char *file,
					       struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_data_card_parse(struct ol_data_card *card,
						struct ol_records *records, const char *json,
						size_t size, const char *path,
						struct ol_error *err);
bool ol_is_card_name(const char *name); /* "card.json", "x.card.json" */

enum ol_field {
	OL_FIELD_ID,
	OL_FIELD_CONTRIBUTOR,
	OL_FIELD_LICENSE,
	OL_FIELD_SYSTEM,
	OL_FIELD_FACT,
	OL_FIELD_INSTRUCTION,
	OL_FIELD_INPUT,
	OL_FIELD_OUTPUT,
	OL_FIELD_PROMPT,
	OL_FIELD_COMPLETION,
	OL_FIELD_TEXT,
	OL_FIELD_MESSAGES,
	OL_FIELD_CONVERSATIONS,
	OL_FIELD_CHOSEN,
	OL_FIELD_REJECTED,
	OL_FIELDS
};
extern const char *const ol_field_names[OL_FIELDS];

enum ol_field_kind { OL_FIELD_ABSENT, OL_FIELD_STRING, OL_FIELD_TURNS };
struct ol_field_value {
	enum ol_field_kind kind;
	const char *text; /* in the store */
	size_t size;
	int first, count; /* of the reader's turns */
};

/* Reading one file. */
struct ol_record_reader {
	struct ol_records *records;
	const char *file;          /* owned by the records */
	struct ol_data_card card;  /* of the file          */
	enum ol_data_format shape; /* AUTO until the first record tells it */
	bool shape_given;          /* by the caller, not by the first record */
	uint32_t line;             /* where the record begins */
	struct ol_field_value fields[OL_FIELDS];
	struct ol_turn *turns; /* of this record's fields */
	int turn_count, turn_room;
	struct ol_error *err;
};

/* "FILE:LINE: field "NAME" …": the line is the record's; field may be NULL. Returns the status. */
enum ol_status ol_reader_fail(struct ol_record_reader *r, enum ol_status status, uint32_t line,
			      const char *field, const char *format, ...) OL_PRINTF(5, 6);
void ol_reader_begin(struct ol_record_reader *r, uint32_t line);
OL_MUST_CHECK bool ol_reader_push_turn(struct ol_record_reader *r, struct ol_turn turn);
/* Makes a record of the fields. */
OL_MUST_CHECK enum ol_status ol_reader_add(struct ol_record_reader *r);
/* Adds a record that is one text, in the store already. */
OL_MUST_CHECK enum ol_status ol_reader_add_text(struct ol_record_reader *r,
						enum ol_data_format format, const char *text,
						size_t size);

/* The readers. Bytes are valid UTF-8 without a byte order mark. */
OL_MUST_CHECK enum ol_status ol_read_json(struct ol_record_reader *r, const char *text, size_t size,
					  bool lines);
OL_MUST_CHECK enum ol_status ol_read_csv(struct ol_record_reader *r, const char *text, size_t size);
OL_MUST_CHECK enum ol_status ol_read_plain(struct ol_record_reader *r, const char *text,
					   size_t size);
OL_MUST_CHECK enum ol_status ol_read_markdown(struct ol_record_reader *r, const char *text,
					      size_t size);

/* A contributor or a licence, kept once. NULL: out of memory. */
const char *ol_records_name(struct ol_records *records, const char *text, size_t size);
uint64_t ol_record_key(const char *id, size_t size);
/* Finds the slot of an id: its record's, or the free one where it would stand. NULL: out of
 * memory. */
struct ol_id_slot *ol_records_id_slot(struct ol_records *records, const char *id, uint64_t key);

#endif
