/* http/head.h, floor 5: is this the head of an honest request? Pure functions over what
 * libmicrohttpd parsed, and the bytes it parsed it from.
 *
 * libmicrohttpd 0.9.75 is forgiving: it takes bare line feeds, NULs (the rest of the line is not
 * seen), folded lines (glued together without a space), several Content-Length fields, and
 * Content-Length beside Transfer-Encoding. A proxy before us may read such a head another way, and
 * then the two disagree about where a request ends. So we are strict. The parsed names and values
 * point into the connection's buffer, in which only separators were overwritten; in an honest head
 * they lie exactly like this, and any other distance means that there was something else:
 *
 *     Host NUL SP localhost NUL NUL Accept NUL SP ...  NUL NUL NUL NUL
 *     name   :    value     CR  LF                     CR  LF  CR  LF */
#ifndef OL_HTTP_HEAD_H
#define OL_HTTP_HEAD_H

#include "base/base.h"

enum { OL_HEAD_FIELDS_MAX = 128 };

struct ol_field {
	const char *name, *value; /* NUL-terminated */
	size_t name_size, value_size;
};

struct ol_head {
	int count;
	struct ol_field fields[OL_HEAD_FIELDS_MAX];
};

/* First and one past the last byte of the head as it was received. */
struct ol_head_span {
	const char *start, *end;
	const char
		*version; /* of the first line; like the method, NUL-terminated within the span */
	size_t uri_size;  /* of the address as a NUL-terminated text */
};

/* Why a head is refused; each has a sentence, and a row in the test. */
enum ol_head_fault {
	OL_HEAD_OK,
	OL_HEAD_LINES, /* bare LF, NUL, folded line, white space before a colon */
	OL_HEAD_NAME,  /* not a token                                          */
	OL_HEAD_VALUE, /* control characters                                   */
	OL_HEAD_HOST_MISSING,
	OL_HEAD_HOST_TWICE,
	OL_HEAD_LENGTH_TWICE,
	OL_HEAD_LENGTH_ODD, /* not plain digits                                     */
	OL_HEAD_LENGTH_AND_CODING,
	OL_HEAD_CODING_TWICE,
	OL_HEAD_CODING_ODD, /* not exactly "chunked"                                */
	OL_HEAD_CODING_OLD, /* Transfer-Encoding in HTTP/1.0                        */
	OL_HEAD_AUTHORIZATION_TWICE,
	OL_HEAD_ORIGIN_TWICE,
	OL_HEAD_EXPECT_ODD /* something else than 100-continue: 417                */
};
const char *ol_head_fault_text(enum ol_head_fault fault);

/* Do the fields lie as an honest head's do? */
bool ol_head_lies_well(const struct ol_head *head, const struct ol_head_span *span);
/* All other faults. http_1_0: by HTTP/1.0. */
enum ol_head_fault ol_head_check(const struct ol_head *head, bool http_1_0);

/* The first field of that name, in any case; NULL: none. */
const char *ol_head_find(const struct ol_head *head, const char *name);
/* -1: no Content-Length. INT64_MAX: one that ol_head_check refuses. */
int64_t ol_head_length(const struct ol_head *head);
bool ol_head_chunked(const struct ol_head *head);

/* Splits "host:port", "[::1]:port", "host": the host in lower case without brackets and without a
 * last dot. False when it is malformed or longer than host_max - 1. port_out: -1 when absent. */
bool ol_host_split(char *host_out, size_t host_max, int *port_out, const char *text);
/* Does an Origin ("http://host:port", "https://…") name the same host and port as Host does? */
bool ol_origin_is_host(const char *origin, const char *host);
/* Equal but for the case of ASCII letters. */
bool ol_same_text(const char *a, const char *b);

#endif
