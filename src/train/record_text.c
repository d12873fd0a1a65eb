/* Plain text and Markdown. Line ends become \n, white space around a text is dropped. */
#include "train/record_internal.h"

#include <string.h>

/* Lines of a file, and the number of the first. */
struct part {
	const char *text;
	size_t size;
	uint32_t line;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void trim(struct part *p)
{
	while (p->size > 0 && is_space(p->text[0])) {
		p->line += p->text[0] == '\n';
		p->text++;
		p->size--;
	}
	while (p->size > 0 && is_space(p->text[p->size - 1]))
		p->size--;
}

/* How much of a long part makes the next piece; > 0. */
static size_t cut(const struct part *p)
{
	size_t line_end = 0;
	if (p->size <= OL_RECORD_PIECE)
		return p->size;
	for (size_t i = OL_RECORD_PIECE; i > 0; i--) {
		if (p->text[i - 1] != '\n')
			continue;
		if (!line_end)
			line_end = i;
		size_t before = i - 1;
		while (before > 0 && (p->text[before - 1] == '\r' || p->text[before - 1] == ' ' ||
				      p->text[before - 1] == '\t'))
			before--;
		if (before > 0 && p->text[before - 1] == '\n')
			return i;
	}
	if (line_end)
		return line_end;
	size_t end = OL_RECORD_PIECE;
	while (((uint8_t)p->text[end] & 0xc0) == 0x80)
		end--;
	return end;
}

static enum ol_status add_piece(struct ol_record_reader *r, enum ol_data_format format,
				struct part piece)
{
	trim(&piece);
	if (piece.size == 0)
		return OL_OK;
	ol_reader_begin(r, piece.line);
	char *text = ol_text_reserve(&r->records->texts, piece.size);
	if (!text)
		return ol_reader_fail(r, OL_ERR_FULL, piece.line, NULL,
				      "out of memory for the records");
	size_t size = 0;
	for (size_t i = 0; i < piece.size; i++)
		if (piece.text[i] != '\r' || i + 1 == piece.size || piece.text[i + 1] != '\n')
			text[size++] = piece.text[i];
	ol_text_take(&r->records->texts, size);
	return ol_reader_add_text(r, format, text, size);
}

/* Adds a part as one text, or as several of at most OL_RECORD_PIECE bytes: cut after the last empty
 * line before, else at the last line end, else between two characters. */
static enum ol_status add_part(struct ol_record_reader *r, enum ol_data_format format,
			       struct part part)
{
	enum ol_status s = OL_OK;
	while (part.size > 0 && s == OL_OK) {
		const size_t size = cut(&part);
		s = add_piece(r, format, (struct part){part.text, size, part.line});
		for (size_t i = 0; i < size; i++)
			part.line += part.text[i] == '\n';
		part.text += size;
		part.size -= size;
	}
	return s;
}

enum ol_status ol_read_plain(struct ol_record_reader *r, const char *text, size_t size)
{
	return add_part(r, OL_DATA_PLAIN, (struct part){text, size, 1});
}

/* The length of a run of c at the begin of a line, after at most three spaces. */
static size_t run_of(const char *line, size_t size, char c, size_t *indent)
{
	size_t at = 0, n = 0;
	while (at < size && at < 3 && line[at] == ' ')
		at++;
	*indent = at;
	while (at + n < size && line[at + n] == c)
		n++;
	return n;
}

/* An ATX heading: one to six '#', then a space or the line's end. */
static bool is_heading(const char *line, size_t size)
{
	size_t indent;
	const size_t n = run_of(line, size, '#', &indent);
	return n >= 1 && n <= 6 && (indent + n == size || is_space(line[indent + n]));
}

/* The fence a line opens or closes: its character and length; 0: none. */
static size_t fence_of(const char *line, size_t size, char *c)
{
	size_t indent;
	for (const char *kind = "`~"; *kind; kind++) {
		const size_t n = run_of(line, size, *kind, &indent);
		/* A line like ```this``` is code inside a text. */
		if (n >= 3 &&
		    (*kind == '~' || !memchr(line + indent + n, '`', size - indent - n))) {
			*c = *kind;
			return n;
		}
	}
	return 0;
}

/* A heading opens a new text, unless there are only headings before it. */
enum ol_status ol_read_markdown(struct ol_record_reader *r, const char *text, size_t size)
{
	struct part part = {text, 0, 1};
	bool body = false; /* the part has more than headings */
	char fence = 0;
	size_t fence_length = 0;
	uint32_t number = 1;
	enum ol_status s = OL_OK;
	for (size_t at = 0; at < size && s == OL_OK; number++) {
		const char *line = text + at;
		const char *end = memchr(line, '\n', size - at);
		const size_t length = end ? (size_t)(end - line) : size - at;
		char c = 0;
		const size_t ticks = fence_of(line, length, &c);
		const bool heading = !fence && is_heading(line, length);
		if (heading && body) {
			s = add_part(r, OL_DATA_MARKDOWN, part);
			part = (struct part){line, 0, number};
			body = false;
		}
		if (!fence && ticks) {
			fence = c;
			fence_length = ticks;
		} else if (fence && c == fence && ticks >= fence_length) {
			fence = 0;
		}
		for (size_t i = 0; i < length && !heading && !body; i++)
			body = !is_space(line[i]);
		at += OL_MIN(length + 1, size - at);
		part.size = (size_t)(text + at - part.text);
	}
	return s == OL_OK ? add_part(r, OL_DATA_MARKDOWN, part) : s;
}
