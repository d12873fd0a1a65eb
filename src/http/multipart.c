#include "http/multipart.h"
#include "http/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*     --B CRLF headers CRLF CRLF bytes CRLF --B CRLF headers … bytes CRLF --B-- anything
 *
 * Every boundary but perhaps the first has CRLF before it; we act as if the body began with one, so
 * that one search finds all: CRLF "--" B. */
enum state { PREAMBLE, AFTER_BOUNDARY, HEADERS, BYTES, EPILOGUE };

struct ol_multipart {
	enum state state;
	struct ol_multipart_sink sink;
	char mark[4 + OL_MULTIPART_BOUNDARY_MAX + 1]; /* CRLF "--" B */
	size_t mark_size;
	size_t matched; /* bytes of the mark seen at the end of what came */
	int parts;
	char head[OL_MULTIPART_HEAD_MAX + 1]; /* also the two bytes after a boundary */
	size_t head_size;
};

static bool boundary_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("'()+_,-./:=? ", c));
}

/* Copies the value of `name` from `a; name=value; name2="quoted"`. False: absent or malformed. */
static bool parameter(char *out, size_t out_max, const char *text, const char *name)
{
	const size_t name_size = strlen(name);
	text += strcspn(text, ";");
	while (*text == ';') {
		text += 1 + strspn(text + 1, " \t");
		const size_t size = strcspn(text, "=;");
		if (text[size] != '=') {
			text += size;
			continue;
		}
		char label[32];
		const bool fits = size == name_size && size < sizeof label;
		snprintf(label, sizeof label, "%.*s", fits ? (int)size : 0, text);
		const bool wanted = fits && ol_same_text(label, name);
		const bool quoted = text[size + 1] == '"';
		size_t used = 0;
		text += size + 1 + quoted;
		while (*text && (quoted ? *text != '"' : *text != ';')) {
			if (quoted && text[0] == '\\' && (text[1] == '"' || text[1] == '\\'))
				text++;
			if (wanted && used + 1 >= out_max)
				return false;
			if (wanted)
				out[used++] = *text;
			text++;
		}
		if (quoted && *text++ != '"')
			return false;
		if (wanted) {
			while (!quoted && used > 0 && out[used - 1] == ' ')
				used--;
			out[used] = '\0';
			return true;
		}
		text += strcspn(text, ";");
	}
	return false;
}

enum ol_status ol_multipart_open(struct ol_multipart **multipart_out, const char *type,
				 const struct ol_multipart_sink *sink, struct ol_error *err)
{
	char boundary[OL_MULTIPART_BOUNDARY_MAX + 1];
	*multipart_out = NULL;
	bool good = parameter(boundary, sizeof boundary, type, "boundary") && boundary[0] != '\0';
	for (const char *c = boundary; good && *c; c++)
		good = boundary_char(*c);
	if (!good)
		return ol_fail(err, OL_ERR_INPUT,
			       "multipart/form-data needs a boundary of at most %d characters",
			       OL_MULTIPART_BOUNDARY_MAX);
	struct ol_multipart *m = calloc(1, sizeof *m);
	if (!m)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a form");
	m->sink = *sink;
	m->mark_size = (size_t)snprintf(m->mark, sizeof m->mark, "\r\n--%s", boundary);
	m->matched = 2; /* the CRLF that we pretend was there */
	*multipart_out = m;
	return OL_OK;
}

void ol_multipart_close(struct ol_multipart *multipart)
{
	free(multipart);
}

static enum ol_status stopped(struct ol_error *err)
{
	return ol_fail(err, OL_ERR_CANCELLED, "the form was refused");
}

/* Hands out the bytes of the mark that turned out not to be one. */
static bool give(struct ol_multipart *m, const char *bytes, size_t size)
{
	return m->state != BYTES || size == 0 || m->sink.bytes(m->sink.self, bytes, size);
}

/* Looks for the mark; bytes before it go to the sink. *used: how many were taken. The mark begins
 * with CR, and CR is nowhere else in it: after a mismatch only the present byte can begin it. */
static enum ol_status search(struct ol_multipart *m, size_t *used, const char *bytes, size_t size,
			     struct ol_error *err)
{
	size_t at = 0, start = 0; /* bytes[start, at) belong to the part */
	while (at < size) {
		if (m->matched == 0) {
			const char *cr = memchr(bytes + at, '\r', size - at);
			at = cr ? (size_t)(cr - bytes) : size;
			if (!cr)
				break;
		}
		if (bytes[at] == m->mark[m->matched]) {
			if (m->matched == 0 && !give(m, bytes + start, at - start))
				return stopped(err);
			m->matched++;
			start = ++at;
			if (m->matched == m->mark_size) {
				m->matched = 0;
				m->state = AFTER_BOUNDARY;
				m->head_size = 0;
				*used = at;
				return OL_OK;
			}
			continue;
		}
		/* In the preamble the first CRLF was never sent, but there nothing is handed on. */
		if (!give(m, m->mark, m->matched))
			return stopped(err);
		m->matched = 0;
		start = at;
	}
	*used = size;
	return m->matched > 0 || give(m, bytes + start, size - start) ? OL_OK : stopped(err);
}

/* One header line of a part. */
static void part_line(struct ol_http_part *part, char names[3][OL_MULTIPART_NAME_MAX], char *line,
		      bool *bad)
{
	char *colon = strchr(line, ':');
	if (!colon) {
		*bad = true;
		return;
	}
	*colon++ = '\0';
	colon += strspn(colon, " \t");
	if (ol_same_text(line, "content-disposition")) {
		if (part->name || strncmp(colon, "form-data", 9) != 0 ||
		    !parameter(names[0], OL_MULTIPART_NAME_MAX, colon, "name")) {
			*bad = true;
			return;
		}
		part->name = names[0];
		if (parameter(names[1], OL_MULTIPART_NAME_MAX, colon, "filename"))
			part->filename = names[1];
	} else if (ol_same_text(line, "content-type")) {
		snprintf(names[2], OL_MULTIPART_NAME_MAX, "%s", colon);
		part->content_type = names[2];
	}
}

static enum ol_status begin_part(struct ol_multipart *m, struct ol_error *err)
{
	char names[3][OL_MULTIPART_NAME_MAX];
	struct ol_http_part part = {0};
	bool bad = memchr(m->head, '\0', m->head_size) != NULL;
	m->head[m->head_size] = '\0';
	for (char *line = m->head, *next; *line && !bad; line = next) {
		char *end = strstr(line, "\r\n");
		next = end ? end + 2 : line + strlen(line);
		if (end)
			*end = '\0';
		part_line(&part, names, line, &bad);
	}
	if (bad || !part.name)
		return ol_fail(err, OL_ERR_INPUT,
			       "part %d of the form has no good Content-Disposition", m->parts + 1);
	if (m->parts++ == OL_MULTIPART_PARTS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the form has more than %d parts",
			       OL_MULTIPART_PARTS_MAX);
	m->state = BYTES;
	m->matched = 0;
	return m->sink.part(m->sink.self, &part) ? OL_OK : stopped(err);
}

/* After a boundary: "--" ends the form, CRLF begins headers; white space may stand before CRLF. */
static enum ol_status after_boundary(struct ol_multipart *m, char c, struct ol_error *err)
{
	if (m->head_size == 0 && (c == ' ' || c == '\t'))
		return OL_OK;
	m->head[m->head_size++] = c;
	if (m->head_size < 2)
		return OL_OK;
	m->head_size = 0;
	if (memcmp(m->head, "--", 2) == 0)
		m->state = EPILOGUE;
	else if (memcmp(m->head, "\r\n", 2) == 0)
		m->state = HEADERS;
	else
		return ol_fail(err, OL_ERR_INPUT, "a boundary of the form is malformed");
	return OL_OK;
}

static enum ol_status header_byte(struct ol_multipart *m, char c, struct ol_error *err)
{
	if (m->head_size == OL_MULTIPART_HEAD_MAX)
		return ol_fail(err, OL_ERR_INPUT,
			       "a part of the form has more than %d bytes of "
			       "headers",
			       OL_MULTIPART_HEAD_MAX);
	m->head[m->head_size++] = c;
	if (m->head_size >= 4 && memcmp(m->head + m->head_size - 4, "\r\n\r\n", 4) == 0) {
		m->head_size -= 2;
		return begin_part(m, err);
	}
	if (m->head_size == 2 && memcmp(m->head, "\r\n", 2) == 0)
		return ol_fail(err, OL_ERR_INPUT, "a part of the form has no headers");
	return OL_OK;
}

enum ol_status ol_multipart_feed(struct ol_multipart *m, const void *bytes, size_t size,
				 struct ol_error *err)
{
	const char *at = bytes;
	enum ol_status s = OL_OK;
	while (size > 0 && s == OL_OK && m->state != EPILOGUE) {
		size_t used = 1;
		switch (m->state) {
		case PREAMBLE:
		case BYTES: s = search(m, &used, at, size, err); break;
		case AFTER_BOUNDARY: s = after_boundary(m, *at, err); break;
		case HEADERS: s = header_byte(m, *at, err); break;
		case EPILOGUE: break;
		}
		at += used;
		size -= used;
	}
	return s;
}

enum ol_status ol_multipart_end(struct ol_multipart *m, struct ol_error *err)
{
	if (m->state != EPILOGUE)
		return ol_fail(err, OL_ERR_INPUT, "the form ends before its closing boundary");
	return OL_OK;
}
