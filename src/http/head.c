#include "http/head.h"

#include <string.h>

const char *ol_head_fault_text(enum ol_head_fault fault)
{
	switch (fault) {
	case OL_HEAD_OK: return "";
	case OL_HEAD_LINES:
		return "The lines of the request's head are malformed (bare line feed, NUL, folded "
		       "line, or white space where none may be).";
	case OL_HEAD_NAME: return "The name of a header field is malformed.";
	case OL_HEAD_VALUE: return "The value of a header field holds control characters.";
	case OL_HEAD_HOST_MISSING: return "There is no Host header.";
	case OL_HEAD_HOST_TWICE: return "There is more than one Host header.";
	case OL_HEAD_LENGTH_TWICE: return "There is more than one Content-Length header.";
	case OL_HEAD_LENGTH_ODD: return "Content-Length is not a plain number.";
	case OL_HEAD_LENGTH_AND_CODING:
		return "There are both Content-Length and Transfer-Encoding.";
	case OL_HEAD_CODING_TWICE: return "There is more than one Transfer-Encoding header.";
	case OL_HEAD_CODING_ODD: return "The only Transfer-Encoding taken is \"chunked\".";
	case OL_HEAD_CODING_OLD: return "HTTP/1.0 knows no Transfer-Encoding.";
	case OL_HEAD_AUTHORIZATION_TWICE: return "There is more than one Authorization header.";
	case OL_HEAD_ORIGIN_TWICE: return "There is more than one Origin header.";
	case OL_HEAD_EXPECT_ODD: return "The only expectation met is \"100-continue\".";
	}
	OL_UNREACHABLE();
}

bool ol_head_lies_well(const struct ol_head *head, const struct ol_head_span *span)
{
	const char *at = span->version + strlen(span->version) + 2;
	/* Method, one space, address, one space, version. */
	if (span->start + strlen(span->start) + 1 + span->uri_size + 1 != span->version ||
	    at > span->end)
		return false;
	for (int i = 0; i < head->count; i++) {
		const struct ol_field *f = &head->fields[i];
		/* Compared before anything is read through it: a folded value lies elsewhere. */
		if (f->name != at || f->value <= f->name + f->name_size ||
		    f->value + f->value_size + 4 > span->end)
			return false;
		for (const char *c = f->name + f->name_size + 1; c < f->value; c++)
			if (*c != ' ' && *c != '\t')
				return false;
		at = f->value + f->value_size + 2;
	}
	return at + 2 == span->end;
}

/* RFC 9110 section 5.6.2. */
static bool is_token(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		const char c = text[i];
		const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!letter && !(c >= '0' && c <= '9') && !(c && strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return size > 0;
}

static bool is_field_value(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
			return false;
	return true;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool ol_same_text(const char *a, const char *b)
{
	while (*a && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return lower(*a) == lower(*b);
}

const char *ol_head_find(const struct ol_head *head, const char *name)
{
	for (int i = 0; i < head->count; i++)
		if (ol_same_text(head->fields[i].name, name))
			return head->fields[i].value;
	return NULL;
}

static int count_of(const struct ol_head *head, const char *name)
{
	int count = 0;
	for (int i = 0; i < head->count; i++)
		count += ol_same_text(head->fields[i].name, name);
	return count;
}

/* At most 18 digits: no overflow in 63 bits. */
static bool plain_number(const char *text)
{
	const size_t digits = strspn(text, "0123456789");
	return digits > 0 && digits <= 18 && text[digits] == '\0';
}

enum ol_head_fault ol_head_check(const struct ol_head *head, bool http_1_0)
{
	for (int i = 0; i < head->count; i++) {
		if (!is_token(head->fields[i].name, head->fields[i].name_size))
			return OL_HEAD_NAME;
		if (!is_field_value(head->fields[i].value, head->fields[i].value_size))
			return OL_HEAD_VALUE;
	}
	const int lengths = count_of(head, "content-length");
	const int codings = count_of(head, "transfer-encoding");
	const int hosts = count_of(head, "host");
	const char *expect = ol_head_find(head, "expect");
	if (lengths > 0 && codings > 0)
		return OL_HEAD_LENGTH_AND_CODING;
	if (lengths > 1)
		return OL_HEAD_LENGTH_TWICE;
	if (codings > 1)
		return OL_HEAD_CODING_TWICE;
	if (lengths == 1 && !plain_number(ol_head_find(head, "content-length")))
		return OL_HEAD_LENGTH_ODD;
	if (codings == 1 && http_1_0)
		return OL_HEAD_CODING_OLD;
	if (codings == 1 && !ol_same_text(ol_head_find(head, "transfer-encoding"), "chunked"))
		return OL_HEAD_CODING_ODD;
	if (hosts > 1)
		return OL_HEAD_HOST_TWICE;
	/* HTTP/1.0 need not send it, but without it we cannot tell a page's request from ours. */
	if (hosts == 0)
		return OL_HEAD_HOST_MISSING;
	if (count_of(head, "authorization") > 1)
		return OL_HEAD_AUTHORIZATION_TWICE;
	if (count_of(head, "origin") > 1)
		return OL_HEAD_ORIGIN_TWICE;
	if (count_of(head, "expect") > 1 || (expect && !ol_same_text(expect, "100-continue")))
		return OL_HEAD_EXPECT_ODD;
	return OL_HEAD_OK;
}

int64_t ol_head_length(const struct ol_head *head)
{
	const char *text = ol_head_find(head, "content-length");
	int64_t length = 0;
	if (!text)
		return -1;
	if (!plain_number(text))
		return INT64_MAX;
	for (; *text; text++)
		length = length * 10 + (*text - '0');
	return length;
}

bool ol_head_chunked(const struct ol_head *head)
{
	return ol_head_find(head, "transfer-encoding") != NULL;
}

static bool parse_port(int *port_out, const char *text)
{
	int port = 0;
	const size_t digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 5 || text[digits] != '\0')
		return false;
	for (; *text; text++)
		port = port * 10 + (*text - '0');
	*port_out = port;
	return port <= 65535;
}

bool ol_host_split(char *host_out, size_t host_max, int *port_out, const char *text)
{
	const bool bracket = *text == '[';
	const char *start = text + bracket;
	const char *end = bracket ? strchr(start, ']') : start + strcspn(start, ":");
	const char *port = end ? end + bracket : NULL;
	*port_out = -1;
	if (!end || end == start || (size_t)(end - start) >= host_max)
		return false;
	if (*port == ':' ? !parse_port(port_out, port + 1) : *port != '\0')
		return false;
	const char *allowed =
		bracket ? "0123456789abcdefABCDEF:."
			: "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"
			  "XYZ-._";
	if (strspn(start, allowed) < (size_t)(end - start))
		return false;
	if (!bracket && end - start > 1 && end[-1] == '.')
		end--;
	for (const char *c = start; c < end; c++)
		*host_out++ = lower(*c);
	*host_out = '\0';
	return true;
}

bool ol_origin_is_host(const char *origin, const char *host)
{
	static const struct {
		const char *scheme;
		int port;
	} schemes[] = {{"http://", 80}, {"https://", 443}};
	char a[256], b[256];
	int port_a, port_b;
	for (size_t i = 0; i < OL_ARRAY_LEN(schemes); i++) {
		const size_t size = strlen(schemes[i].scheme);
		if (strncmp(origin, schemes[i].scheme, size) != 0)
			continue;
		if (!ol_host_split(a, sizeof a, &port_a, origin + size) ||
		    !ol_host_split(b, sizeof b, &port_b, host))
			return false;
		port_a = port_a < 0 ? schemes[i].port : port_a;
		port_b = port_b < 0 ? schemes[i].port : port_b;
		return port_a == port_b && strcmp(a, b) == 0;
	}
	return false;
}
