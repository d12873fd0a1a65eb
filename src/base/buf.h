/* base/buf.h, floor 0: a growing byte string with a limit that has a name.
 *
 * A buf remembers its first failure, so that a writer may append many times and ask once. */
#ifndef OL_BASE_BUF_H
#define OL_BASE_BUF_H

#include "base/base.h"

struct ol_buf {
	char *data;  /* NUL-terminated whenever data is not NULL */
	size_t size; /* without the NUL                          */
	size_t room; /* allocated                                */
	size_t max;  /* limit on size                            */
	bool failed; /* an append was dropped: out of memory, or over max */
};

void ol_buf_init(struct ol_buf *buf, size_t max);
void ol_buf_release(struct ol_buf *buf);
/* false (and buf->failed) when the bytes did not fit; then nothing of them is appended. */
bool ol_buf_append(struct ol_buf *buf, const void *bytes, size_t size);
bool ol_buf_append_text(struct ol_buf *buf, const char *text);
bool ol_buf_printf(struct ol_buf *buf, const char *format, ...) OL_PRINTF(2, 3);
/* Drops the content, keeps the memory. */
void ol_buf_clear(struct ol_buf *buf);

#endif
