/* CSV by RFC 4180: commas, quotes doubled inside quotes, line ends inside quotes. */
#include "train/record_internal.h"

#include <string.h>

struct csv_reader {
	struct ol_record_reader *r;
	const char *text;
	size_t at, size;
	uint32_t line;                       /* of the byte at `at` */
	int columns;                         /* of the header       */
	int8_t fields[OL_RECORD_FIELDS_MAX]; /* enum ol_field of a column; -1: not read */
};

/* One cell, in the store but not taken. */
struct cell {
	char *text;
	size_t size;
	bool last; /* of its row */
};

static enum ol_status fail_memory(struct csv_reader *c)
{
	return ol_reader_fail(c->r, OL_ERR_FULL, c->line, NULL, "out of memory for the records");
}

static const char *column_name(const struct csv_reader *c, int column)
{
	return column < c->columns && c->fields[column] >= 0 ? ol_field_names[c->fields[column]]
							     : NULL;
}

/* After a cell: a comma, a line end or the end of the file. */
static enum ol_status end_cell(struct csv_reader *c, struct cell *cell, int column)
{
	cell->last = true;
	if (c->at == c->size)
		return OL_OK;
	const char ch = c->text[c->at];
	if (ch == ',') {
		c->at++;
		cell->last = false;
		return OL_OK;
	}
	if (ch == '\r' && (c->at + 1 == c->size || c->text[c->at + 1] == '\n'))
		c->at++;
	if (c->at == c->size)
		return OL_OK;
	if (c->text[c->at] == '\n') {
		c->at++;
		c->line++;
		return OL_OK;
	}
	return ol_reader_fail(c->r, OL_ERR_INPUT, c->line, column_name(c, column),
			      "column %d has text after its closing quote: double every quote "
			      "inside, \"like \"\"this\"\"\"",
			      column + 1);
}

/* Bytes of the quoted cell at `at`, without the quotes around it; 0 < = or SIZE_MAX: not closed. */
static size_t quoted_bytes(const struct csv_reader *c)
{
	for (size_t i = c->at + 1; i < c->size; i++) {
		if (c->text[i] != '"')
			continue;
		if (i + 1 == c->size || c->text[i + 1] != '"')
			return i - c->at - 1;
		i++;
	}
	return SIZE_MAX;
}

static enum ol_status read_quoted(struct csv_reader *c, struct cell *cell, int column)
{
	const size_t raw = quoted_bytes(c);
	const uint32_t line = c->line;
	const char *name = column_name(c, column);
	if (raw == SIZE_MAX)
		return ol_reader_fail(c->r, OL_ERR_INPUT, line, name,
				      "column %d opens a quote that is never closed: close it, and "
				      "double every quote inside",
				      column + 1);
	if (raw > OL_RECORD_FIELD_MAX)
		return ol_reader_fail(c->r, OL_ERR_FULL, line, name,
				      "column %d has more than %d bytes: is a quote not closed?",
				      column + 1, OL_RECORD_FIELD_MAX);
	cell->text = ol_text_reserve(&c->r->records->texts, raw);
	if (!cell->text)
		return fail_memory(c);
	const char *from = c->text + c->at + 1;
	cell->size = 0;
	for (size_t i = 0; i < raw; i++) {
		c->line += from[i] == '\n';
		cell->text[cell->size++] = from[i];
		i += from[i] == '"'; /* the second of two */
	}
	c->at += raw + 2;
	return end_cell(c, cell, column);
}

static enum ol_status read_cell(struct csv_reader *c, struct cell *cell, int column)
{
	if (c->at < c->size && c->text[c->at] == '"')
		return read_quoted(c, cell, column);
	const size_t begin = c->at;
	while (c->at < c->size && c->text[c->at] != ',' && c->text[c->at] != '\n' &&
	       c->text[c->at] != '"')
		c->at++;
	if (c->at < c->size && c->text[c->at] == '"')
		return ol_reader_fail(
			c->r, OL_ERR_INPUT, c->line, column_name(c, column),
			"column %d has a quote in the middle: put the whole cell into "
			"quotes, and double the quotes inside",
			column + 1);
	size_t size = c->at - begin;
	/* The \r of a line end is not the cell's. */
	if (size > 0 && c->text[c->at - 1] == '\r' && (c->at == c->size || c->text[c->at] == '\n'))
		size--;
	if (size > OL_RECORD_FIELD_MAX)
		return ol_reader_fail(
			c->r, OL_ERR_FULL, c->line, column_name(c, column),
			"column %d has more than %d bytes: cut it into several records", column + 1,
			OL_RECORD_FIELD_MAX);
	cell->text = ol_text_reserve(&c->r->records->texts, size);
	if (!cell->text)
		return fail_memory(c);
	memcpy(cell->text, c->text + begin, size);
	cell->size = size;
	return end_cell(c, cell, column);
}

static bool same_word(const char *a, size_t size, const char *b)
{
	for (size_t i = 0; i < size; i++)
		if (((a[i] >= 'A' && a[i] <= 'Z') ? a[i] + 32 : a[i]) != b[i])
			return false; /* b's NUL is no letter */
	return b[size] == '\0';
}

static enum ol_status name_column(struct csv_reader *c, const char *name, size_t size)
{
	int field = 0;
	while (field < OL_FIELDS && !same_word(name, size, ol_field_names[field]))
		field++;
	for (int i = 0; i < c->columns && field < OL_FIELDS; i++)
		if (c->fields[i] == field)
			return ol_reader_fail(c->r, OL_ERR_INPUT, 1, ol_field_names[field],
					      "names two columns: rename one");
	if (field == OL_FIELD_MESSAGES || field == OL_FIELD_CONVERSATIONS)
		return ol_reader_fail(c->r, OL_ERR_UNSUPPORTED, 1, ol_field_names[field],
				      "does not fit into a table: use JSONL for conversations");
	c->fields[c->columns++] = (int8_t)(field < OL_FIELDS ? field : -1);
	return OL_OK;
}

static enum ol_status read_header(struct csv_reader *c)
{
	struct cell cell = {0};
	bool known = false;
	enum ol_status s = OL_OK;
	while (s == OL_OK && !cell.last) {
		s = read_cell(c, &cell, c->columns);
		if (s == OL_OK && c->columns == OL_RECORD_FIELDS_MAX)
			return ol_reader_fail(c->r, OL_ERR_FULL, 1, NULL,
					      "the header has more than %d columns",
					      OL_RECORD_FIELDS_MAX);
		if (s == OL_OK)
			s = name_column(c, cell.text, cell.size);
		known = known || (s == OL_OK && c->fields[c->columns - 1] >= OL_FIELD_INSTRUCTION);
	}
	if (s == OL_OK && !known)
		return ol_reader_fail(
			c->r, OL_ERR_INPUT, 1, NULL,
			"the header row names no column that is read: name them instruction, input "
			"and output, prompt and completion, text, or prompt, chosen and rejected, "
			"with commas between");
	return s;
}

static enum ol_status read_row(struct csv_reader *c)
{
	struct cell cell = {0};
	int column = 0;
	enum ol_status s = OL_OK;
	ol_reader_begin(c->r, c->line);
	for (; s == OL_OK && !cell.last; column++) {
		if (column == c->columns)
			return ol_reader_fail(c->r, OL_ERR_INPUT, c->r->line, NULL,
					      "the row has more cells than the header's %d: put "
					      "cells with commas into quotes",
					      c->columns);
		s = read_cell(c, &cell, column);
		if (s != OL_OK || c->fields[column] < 0 || cell.size == 0)
			continue; /* an empty cell is a field that is not there */
		ol_text_take(&c->r->records->texts, cell.size);
		c->r->fields[c->fields[column]] = (struct ol_field_value){
			.kind = OL_FIELD_STRING, .text = cell.text, .size = cell.size};
	}
	if (s == OL_OK && column < c->columns)
		return ol_reader_fail(
			c->r, OL_ERR_INPUT, c->r->line, NULL,
			"the row has %d cells where the header has %d: fill it up, or "
			"close a quote",
			column, c->columns);
	return s == OL_OK ? ol_reader_add(c->r) : s;
}

/* Passes over an empty line. */
static bool skip_empty_line(struct csv_reader *c)
{
	size_t at = c->at;
	if (at < c->size && c->text[at] == '\r')
		at++;
	if (at < c->size && c->text[at] != '\n')
		return false;
	c->line += at < c->size;
	c->at = OL_MIN(at + 1, c->size);
	return true;
}

enum ol_status ol_read_csv(struct ol_record_reader *r, const char *text, size_t size)
{
	struct csv_reader c = {.r = r, .text = text, .size = size, .line = 1};
	ol_reader_begin(r, 1);
	enum ol_status s = read_header(&c);
	while (s == OL_OK && c.at < c.size)
		if (!skip_empty_line(&c))
			s = read_row(&c);
	return s;
}
