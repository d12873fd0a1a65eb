#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ol_buf_init(struct ol_buf *buf, size_t max)
{
	*buf = (struct ol_buf){.max = max};
}

void ol_buf_release(struct ol_buf *buf)
{
	free(buf->data);
	*buf = (struct ol_buf){.max = buf->max};
}

void ol_buf_clear(struct ol_buf *buf)
{
	buf->size = 0;
	buf->failed = false;
	if (buf->data)
		buf->data[0] = '\0';
}

static bool reserve(struct ol_buf *buf, size_t more)
{
	if (buf->failed || more > buf->max - buf->size || more > SIZE_MAX / 4 - buf->size)
		return false;
	if (buf->size + more + 1 > buf->room) {
		const size_t room = OL_MAX(buf->size + more + 1, OL_MAX(buf->room * 2, (size_t)64));
		char *data = realloc(buf->data, room);
		if (!data)
			return false;
		buf->data = data;
		buf->room = room;
	}
	return true;
}

bool ol_buf_append(struct ol_buf *buf, const void *bytes, size_t size)
{
	if (!reserve(buf, size)) {
		buf->failed = true;
		return false;
	}
	if (size)
		memcpy(buf->data + buf->size, bytes, size);
	buf->size += size;
	buf->data[buf->size] = '\0';
	return true;
}

bool ol_buf_append_text(struct ol_buf *buf, const char *text)
{
	return ol_buf_append(buf, text, strlen(text));
}

bool ol_buf_printf(struct ol_buf *buf, const char *format, ...)
{
	char small[512];
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	const int length = vsnprintf(small, sizeof small, format, args);
	va_end(args);
	bool ok = length >= 0;
	if (ok && (size_t)length < sizeof small) {
		ok = ol_buf_append(buf, small, (size_t)length);
	} else if (ok && reserve(buf, (size_t)length)) {
		vsnprintf(buf->data + buf->size, (size_t)length + 1, format, again);
		buf->size += (size_t)length;
	} else {
		buf->failed = true;
		ok = false;
	}
	va_end(again);
	return ok;
}
