#include "train/record_internal.h"

#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const ol_field_names[OL_FIELDS] = {
	[OL_FIELD_ID] = "id",
	[OL_FIELD_CONTRIBUTOR] = "contributor",
	[OL_FIELD_LICENSE] = "license",
	[OL_FIELD_SYSTEM] = "system",
	[OL_FIELD_FACT] = "fact",
	[OL_FIELD_INSTRUCTION] = "instruction",
	[OL_FIELD_INPUT] = "input",
	[OL_FIELD_OUTPUT] = "output",
	[OL_FIELD_PROMPT] = "prompt",
	[OL_FIELD_COMPLETION] = "completion",
	[OL_FIELD_TEXT] = "text",
	[OL_FIELD_MESSAGES] = "messages",
	[OL_FIELD_CONVERSATIONS] = "conversations",
	[OL_FIELD_CHOSEN] = "chosen",
	[OL_FIELD_REJECTED] = "rejected",
};

enum ol_status ol_reader_fail(struct ol_record_reader *r, enum ol_status status, uint32_t line,
			      const char *field, const char *format, ...)
{
	char what[OL_ERROR_TEXT_MAX / 2];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	if (field)
		return ol_fail(r->err, status, "%s:%u: field \"%s\" %s", r->file, line, field,
			       what);
	return ol_fail(r->err, status, "%s:%u: %s", r->file, line, what);
}

static enum ol_status fail_memory(struct ol_record_reader *r)
{
	return ol_reader_fail(r, OL_ERR_FULL, r->line, NULL, "out of memory for the records");
}

static enum ol_status fail_field(struct ol_record_reader *r, enum ol_field field, const char *what)
{
	return ol_reader_fail(r, OL_ERR_INPUT, r->line, ol_field_names[field], "%s", what);
}

void ol_reader_begin(struct ol_record_reader *r, uint32_t line)
{
	memset(r->fields, 0, sizeof r->fields);
	r->turn_count = 0;
	r->line = line;
}

bool ol_reader_push_turn(struct ol_record_reader *r, struct ol_turn turn)
{
	if (r->turn_count == r->turn_room) {
		const int room = OL_MAX(2 * r->turn_room, 16);
		struct ol_turn *grown = realloc(r->turns, (size_t)room * sizeof *grown);
		if (!grown)
			return false;
		r->turns = grown;
		r->turn_room = room;
	}
	r->turns[r->turn_count++] = turn;
	return true;
}

static bool is_blank(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (text[i] != ' ' && text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
			return false;
	return true;
}

static bool there(const struct ol_record_reader *r, enum ol_field field)
{
	return r->fields[field].kind != OL_FIELD_ABSENT;
}

/* What the fields of a record say it is; the first that fits. */
static enum ol_data_format guess_shape(const struct ol_record_reader *r)
{
	if (there(r, OL_FIELD_CHOSEN) || there(r, OL_FIELD_REJECTED))
		return OL_DATA_PREFERENCE;
	if (there(r, OL_FIELD_MESSAGES))
		return OL_DATA_MESSAGES;
	if (there(r, OL_FIELD_CONVERSATIONS))
		return OL_DATA_SHAREGPT;
	if (there(r, OL_FIELD_INSTRUCTION) || there(r, OL_FIELD_OUTPUT))
		return OL_DATA_ALPACA;
	if (there(r, OL_FIELD_PROMPT) || there(r, OL_FIELD_COMPLETION))
		return OL_DATA_PROMPT;
	if (there(r, OL_FIELD_TEXT))
		return OL_DATA_TEXT;
	return OL_DATA_AUTO;
}

/* A field that must be there, be a text and say something. */
static enum ol_status need_text(struct ol_record_reader *r, enum ol_field field)
{
	const struct ol_field_value *v = &r->fields[field];
	if (v->kind == OL_FIELD_ABSENT)
		return ol_reader_fail(r, OL_ERR_INPUT, r->line, ol_field_names[field],
				      "is missing: a record of the kind \"%s\"%s needs it",
				      ol_data_format_name(r->shape),
				      r->shape_given ? "" : ", as the first one of this file is,");
	if (v->kind != OL_FIELD_STRING)
		return fail_field(r, field, "is a list: give one text, or use \"messages\"");
	if (is_blank(v->text, v->size))
		return fail_field(r, field, "is empty: fill it or remove the record");
	return OL_OK;
}

static enum ol_status push(struct ol_record_reader *r, enum ol_role role, const char *text,
			   size_t size)
{
	const struct ol_turn turn = {role, text, size};
	return ol_reader_push_turn(r, turn) ? OL_OK : fail_memory(r);
}

static enum ol_status push_field(struct ol_record_reader *r, enum ol_role role, enum ol_field field)
{
	const enum ol_status s = need_text(r, field);
	return s == OL_OK ? push(r, role, r->fields[field].text, r->fields[field].size) : s;
}

/* The turns of a field: they lie before those that are being pushed. */
static enum ol_status push_turns(struct ol_record_reader *r, const struct ol_field_value *value,
				 int count)
{
	enum ol_status s = OL_OK;
	for (int i = 0; i < count && s == OL_OK; i++)
		s = ol_reader_push_turn(r, r->turns[value->first + i]) ? OL_OK : fail_memory(r);
	return s;
}

static enum ol_status push_instruction(struct ol_record_reader *r)
{
	const struct ol_field_value *task = &r->fields[OL_FIELD_INSTRUCTION],
				    *input = &r->fields[OL_FIELD_INPUT];
	const enum ol_status s = need_text(r, OL_FIELD_INSTRUCTION);
	if (s != OL_OK)
		return s;
	if (input->kind == OL_FIELD_TURNS)
		return fail_field(r, OL_FIELD_INPUT, "is a list: give one text");
	if (input->kind == OL_FIELD_ABSENT || is_blank(input->text, input->size))
		return push(r, OL_ROLE_USER, task->text, task->size);
	const size_t size = task->size + 2 + input->size;
	char *joined = ol_text_reserve(&r->records->texts, size);
	if (!joined)
		return fail_memory(r);
	memcpy(joined, task->text, task->size);
	memcpy(joined + task->size, "\n\n", 2);
	memcpy(joined + task->size + 2, input->text, input->size);
	ol_text_take(&r->records->texts, size);
	return push(r, OL_ROLE_USER, joined, size);
}

static enum ol_status push_conversation(struct ol_record_reader *r, enum ol_field field)
{
	const struct ol_field_value *v = &r->fields[field];
	if (v->kind == OL_FIELD_ABSENT)
		return need_text(r, field);
	if (v->kind != OL_FIELD_TURNS)
		return fail_field(r, field, "is a text: give a list of turns");
	return push_turns(r, v, v->count);
}

static bool same_turns(const struct ol_turn *a, const struct ol_turn *b, int count)
{
	for (int i = 0; i < count; i++)
		if (a[i].role != b[i].role || a[i].size != b[i].size ||
		    memcmp(a[i].text, b[i].text, a[i].size) != 0)
			return false;
	return true;
}

/* An answer of a preference: a text, or turns of which the last is it; those before must be the
 * prompt. Where there is no prompt yet (`from` is the end), they are it. */
static enum ol_status take_choice(struct ol_record_reader *r, enum ol_field field, int from,
				  struct ol_turn *answer)
{
	const struct ol_field_value *v = &r->fields[field];
	if (v->kind != OL_FIELD_TURNS) {
		const enum ol_status s = need_text(r, field);
		*answer = (struct ol_turn){OL_ROLE_ASSISTANT, v->text, v->size};
		return s;
	}
	*answer = v->count > 0 ? r->turns[v->first + v->count - 1] : (struct ol_turn){0};
	if (v->count == 0 || answer->role != OL_ROLE_ASSISTANT)
		return fail_field(r, field, "does not end with the assistant's turn: add it");
	if (is_blank(answer->text, answer->size))
		return fail_field(r, field, "is empty: fill it or remove the record");
	const int before = v->count - 1;
	if (from == r->turn_count)
		return push_turns(r, v, before);
	if (before > 0 && (before != r->turn_count - from ||
			   !same_turns(r->turns + v->first, r->turns + from, before)))
		return fail_field(r, field,
				  "begins with other turns than the prompt and the other answer: "
				  "make them equal, or leave only the answer");
	return OL_OK;
}

static enum ol_status push_preference(struct ol_record_reader *r, struct ol_turn *rejected)
{
	const int from = r->turn_count;
	struct ol_turn chosen;
	enum ol_status s = OL_OK;
	if (r->fields[OL_FIELD_PROMPT].kind == OL_FIELD_TURNS)
		s = push_conversation(r, OL_FIELD_PROMPT);
	else if (there(r, OL_FIELD_PROMPT))
		s = push_field(r, OL_ROLE_USER, OL_FIELD_PROMPT);
	else if (there(r, OL_FIELD_MESSAGES))
		s = push_conversation(r, OL_FIELD_MESSAGES);
	if (s == OL_OK)
		s = take_choice(r, OL_FIELD_CHOSEN, from, &chosen);
	if (s == OL_OK && r->turn_count == from)
		return fail_field(r, OL_FIELD_PROMPT,
				  "is missing: chosen and rejected are answers to it");
	if (s == OL_OK)
		s = take_choice(r, OL_FIELD_REJECTED, from, rejected);
	if (s == OL_OK && r->turns[r->turn_count - 1].role == OL_ROLE_ASSISTANT)
		return ol_reader_fail(
			r, OL_ERR_INPUT, r->line, NULL,
			"the prompt of a preference ends with the assistant's turn: end it with "
			"the user's");
	return s == OL_OK ? push(r, OL_ROLE_ASSISTANT, chosen.text, chosen.size) : s;
}

/* A conversation that can be learned from: the last turn is an answer, and no answer is empty. */
static enum ol_status check_turns(struct ol_record_reader *r, int from)
{
	const struct ol_turn *turns = r->turns + from;
	const int count = r->turn_count - from;
	for (int i = 0; i < count; i++)
		if (turns[i].role != OL_ROLE_SYSTEM && is_blank(turns[i].text, turns[i].size))
			return ol_reader_fail(r, OL_ERR_INPUT, r->line, NULL,
					      "turn %d (%s) is empty: fill it or remove the record",
					      i + 1, ol_role_name(turns[i].role));
	if (count == 0 || turns[count - 1].role != OL_ROLE_ASSISTANT)
		return ol_reader_fail(r, OL_ERR_INPUT, r->line, NULL,
				      "the conversation does not end with an answer of the "
				      "assistant: add it, or remove what follows the last answer");
	if (there(r, OL_FIELD_SYSTEM) && count > 1 && turns[0].role == OL_ROLE_SYSTEM &&
	    turns[1].role == OL_ROLE_SYSTEM)
		return fail_field(
			r, OL_FIELD_SYSTEM,
			"and the conversation's own system turn are both there: keep one");
	return OL_OK;
}

static enum ol_status push_shape(struct ol_record_reader *r, struct ol_turn *rejected)
{
	enum ol_status s = OL_OK;
	switch (r->shape) {
	case OL_DATA_ALPACA:
		s = push_instruction(r);
		return s == OL_OK ? push_field(r, OL_ROLE_ASSISTANT, OL_FIELD_OUTPUT) : s;
	case OL_DATA_PROMPT:
		s = push_field(r, OL_ROLE_USER, OL_FIELD_PROMPT);
		return s == OL_OK ? push_field(r, OL_ROLE_ASSISTANT, OL_FIELD_COMPLETION) : s;
	case OL_DATA_SHAREGPT: return push_conversation(r, OL_FIELD_CONVERSATIONS);
	case OL_DATA_MESSAGES: return push_conversation(r, OL_FIELD_MESSAGES);
	case OL_DATA_PREFERENCE: return push_preference(r, rejected);
	case OL_DATA_TEXT: return push_field(r, OL_ROLE_TEXT, OL_FIELD_TEXT);
	case OL_DATA_AUTO:
	case OL_DATA_CSV:
	case OL_DATA_PLAIN:
	case OL_DATA_MARKDOWN: break;
	}
	OL_UNREACHABLE();
}

/* An id, contributor or licence: short, one line, something in it. */
static enum ol_status check_name(struct ol_record_reader *r, enum ol_field field)
{
	const struct ol_field_value *v = &r->fields[field];
	if (v->kind == OL_FIELD_ABSENT)
		return OL_OK;
	if (v->kind != OL_FIELD_STRING || is_blank(v->text, v->size))
		return fail_field(r, field, "is empty: fill it or leave it out");
	if (v->size > OL_RECORD_NAME_MAX)
		return ol_reader_fail(r, OL_ERR_INPUT, r->line, ol_field_names[field],
				      "has %zu bytes, at most %d: shorten it", v->size,
				      OL_RECORD_NAME_MAX);
	for (size_t i = 0; i < v->size; i++)
		if ((unsigned char)v->text[i] < 0x20)
			return fail_field(r, field,
					  "has a line end or another control character: remove it");
	return OL_OK;
}

static enum ol_status take_id(struct ol_record_reader *r, struct ol_record *record, const char *id,
			      size_t size)
{
	record->key = ol_record_key(id, size);
	record->id = ol_text_copy(&r->records->texts, id, size);
	struct ol_id_slot *slot =
		record->id ? ol_records_id_slot(r->records, record->id, record->key) : NULL;
	if (!slot)
		return fail_memory(r);
	if (slot->record) {
		const struct ol_record *other = &r->records->records[slot->record - 1];
		return ol_reader_fail(r, OL_ERR_INPUT, r->line, "id",
				      "is \"%s\", as that of %s:%u: give each record its own, or "
				      "leave it out",
				      record->id, other->file, other->line);
	}
	slot->record = (uint32_t)r->records->count + 1;
	return OL_OK;
}

/* The first 16 digits of the SHA-256 of the canonical record without id; "-2", "-3" and so on when
 * the same record stands there again. */
static enum ol_status make_id(struct ol_record_reader *r, struct ol_record *record)
{
	uint8_t digest[OL_SHA256_BYTES];
	char id[64], hex[17];
	struct ol_buf json;
	ol_buf_init(&json, (size_t)1 << 40);
	record->id = NULL;
	const bool written = ol_record_write(&json, record);
	if (written)
		ol_sha256(digest, json.data, json.size);
	ol_buf_release(&json);
	if (!written)
		return fail_memory(r);
	ol_hex(hex, digest, 8);
	struct ol_id_slot *slot = ol_records_id_slot(r->records, hex, ol_record_key(hex, 16));
	if (!slot)
		return fail_memory(r);
	if (!slot->record)
		return take_id(r, record, hex, 16);
	/* The table may move while the next ids are looked for: the base is found again. */
	for (;;) {
		slot = ol_records_id_slot(r->records, hex, ol_record_key(hex, 16));
		const int size = snprintf(id, sizeof id, "%s-%u", hex, ++slot->repeats + 1);
		struct ol_id_slot *free_slot =
			ol_records_id_slot(r->records, id, ol_record_key(id, (size_t)size));
		if (!free_slot)
			return fail_memory(r);
		if (!free_slot->record)
			return take_id(r, record, id, (size_t)size);
	}
}

/* The card entry of a licence of this file. Files have one or two, in runs. */
static enum ol_status count_license(struct ol_record_reader *r, const char *license)
{
	struct ol_records *records = r->records;
	for (int i = records->card_count - 1; i >= 0 && records->cards[i].file == r->file; i--)
		if (records->cards[i].license == license) {
			records->cards[i].records++;
			return OL_OK;
		}
	if (records->card_count == records->card_room) {
		const int room = OL_MAX(2 * records->card_room, 8);
		void *grown = realloc(records->cards, (size_t)room * sizeof *records->cards);
		if (!grown)
			return fail_memory(r);
		records->cards = grown;
		records->card_room = room;
	}
	bool first = true;
	for (int i = 0; i < records->card_count && first; i++)
		first = records->cards[i].license != license;
	records->cards[records->card_count++] =
		(struct ol_source_card){.first = first,
					.file = r->file,
					.license = license,
					.attribution = r->card.attribution,
					.train = r->card.train,
					.export_ = r->card.export_,
					.commercial = r->card.commercial,
					.records = 1};
	return OL_OK;
}

static enum ol_status name_or(struct ol_record_reader *r, enum ol_field field, const char *other,
			      const char **name_out)
{
	const struct ol_field_value *v = &r->fields[field];
	const enum ol_status s = check_name(r, field);
	*name_out = other;
	if (s != OL_OK || v->kind == OL_FIELD_ABSENT)
		return s;
	*name_out = ol_records_name(r->records, v->text, v->size);
	return *name_out ? OL_OK : fail_memory(r);
}

/* Gives the record its turns, its names and its id, and keeps it. */
static enum ol_status keep(struct ol_record_reader *r, struct ol_record *record, int from)
{
	struct ol_records *records = r->records;
	const size_t bytes = (size_t)(r->turn_count - from) * sizeof *r->turns;
	char *turns = ol_text_reserve(&records->texts, bytes);
	if (!turns)
		return fail_memory(r);
	memcpy(turns, r->turns + from, bytes);
	ol_text_take(&records->texts, bytes);
	record->turns = (const struct ol_turn *)(const void *)turns;
	record->turn_count = r->turn_count - from;
	record->file = r->file;
	record->line = r->line;
	const char *unknown =
		r->card.contributor ? r->card.contributor : ol_records_name(records, "unknown", 7);
	enum ol_status s = unknown ? OL_OK : fail_memory(r);
	if (s == OL_OK)
		s = name_or(r, OL_FIELD_CONTRIBUTOR, unknown, &record->contributor);
	if (s == OL_OK)
		s = name_or(r, OL_FIELD_LICENSE, r->card.license, &record->license);
	if (s == OL_OK && records->count == OL_RECORDS_MAX)
		s = ol_reader_fail(r, OL_ERR_FULL, r->line, NULL,
				   "is beyond the limit of %d records: train on fewer at a time",
				   OL_RECORDS_MAX);
	const struct ol_field_value *id = &r->fields[OL_FIELD_ID];
	if (s == OL_OK)
		s = check_name(r, OL_FIELD_ID);
	if (s == OL_OK)
		s = id->kind == OL_FIELD_STRING ? take_id(r, record, id->text, id->size)
						: make_id(r, record);
	if (s == OL_OK)
		s = count_license(r, record->license);
	if (s == OL_OK && records->count == records->room) {
		const size_t room = OL_MAX(records->room + records->room / 2, (size_t)64);
		void *grown = realloc(records->records, room * sizeof *records->records);
		if (!grown)
			return fail_memory(r);
		records->records = grown;
		records->room = room;
	}
	if (s == OL_OK)
		records->records[records->count++] = *record;
	return s;
}

enum ol_status ol_reader_add(struct ol_record_reader *r)
{
	struct ol_record record = {0};
	struct ol_turn rejected = {0};
	const int from = r->turn_count;
	const struct ol_field_value *system = &r->fields[OL_FIELD_SYSTEM],
				    *fact = &r->fields[OL_FIELD_FACT];
	if (r->shape == OL_DATA_AUTO)
		r->shape = guess_shape(r);
	if (r->shape == OL_DATA_AUTO)
		return ol_reader_fail(
			r, OL_ERR_INPUT, r->line, NULL,
			"the record has none of the fields that are read: name them instruction "
			"and output, prompt and completion, messages, conversations, text, or "
			"prompt, chosen and rejected");
	record.format = r->shape;
	enum ol_status s = OL_OK;
	if (system->kind == OL_FIELD_TURNS || fact->kind == OL_FIELD_TURNS)
		s = fail_field(r, system->kind == OL_FIELD_TURNS ? OL_FIELD_SYSTEM : OL_FIELD_FACT,
			       "is a list: give one text");
	if (s == OL_OK && system->kind == OL_FIELD_STRING && r->shape == OL_DATA_TEXT)
		s = fail_field(r, OL_FIELD_SYSTEM, "does not belong to a text: leave it out");
	if (s == OL_OK && system->kind == OL_FIELD_STRING)
		s = push(r, OL_ROLE_SYSTEM, system->text, system->size);
	if (s == OL_OK)
		s = push_shape(r, &rejected);
	if (s == OL_OK && r->shape != OL_DATA_TEXT)
		s = check_turns(r, from);
	if (s != OL_OK)
		return s;
	if (r->shape == OL_DATA_PREFERENCE) {
		record.rejected = rejected.text;
		record.rejected_size = rejected.size;
	}
	if (fact->kind == OL_FIELD_STRING && !is_blank(fact->text, fact->size)) {
		record.fact = ol_text_copy(&r->records->texts, fact->text, fact->size);
		if (!record.fact)
			return fail_memory(r);
	}
	return keep(r, &record, from);
}

enum ol_status ol_reader_add_text(struct ol_record_reader *r, enum ol_data_format format,
				  const char *text, size_t size)
{
	struct ol_record record = {.format = format};
	const enum ol_status s = push(r, OL_ROLE_TEXT, text, size);
	return s == OL_OK ? keep(r, &record, r->turn_count - 1) : s;
}
