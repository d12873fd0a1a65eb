/* A form, cut in two ways: the same must come out. The first byte says how; the first line is the
 * Content-Type. */
#include "http/multipart.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool part(void *self, const struct ol_http_part *found)
{
	struct ol_buf *seen = self;
	OL_ASSERT(found->name && strlen(found->name) < OL_MULTIPART_NAME_MAX);
	return ol_buf_printf(seen, "[%s|%s|%s]", found->name,
			     found->filename ? found->filename : "-",
			     found->content_type ? found->content_type : "-");
}

static bool bytes(void *self, const void *piece, size_t size)
{
	return ol_buf_append(self, piece, size);
}

static enum ol_status run(struct ol_buf *seen, const char *type, const uint8_t *data, size_t size,
			  size_t piece)
{
	const struct ol_multipart_sink sink = {part, bytes, seen};
	struct ol_multipart *m;
	enum ol_status s = ol_multipart_open(&m, type, &sink, NULL);
	ol_buf_init(seen, 1 << 22);
	while (s == OL_OK && size > 0) {
		const size_t now = OL_MIN(size, piece);
		s = ol_multipart_feed(m, data, now, NULL);
		data += now;
		size -= now;
	}
	if (s == OL_OK)
		s = ol_multipart_end(m, NULL);
	ol_multipart_close(m);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_buf whole = {0}, pieces = {0};
	char type[300];
	const uint8_t *end = size > 1 ? memchr(data + 1, '\n', size - 1) : NULL;
	if (!end || (size_t)(end - data) > sizeof type)
		return 0;
	const size_t type_size = (size_t)(end - data) - 1;
	memcpy(type, data + 1, type_size);
	type[type_size] = '\0';
	const uint8_t *body = end + 1;
	const size_t body_size = size - type_size - 2;
	const enum ol_status a = run(&whole, type, body, body_size, body_size ? body_size : 1);
	const enum ol_status b = run(&pieces, type, body, body_size, 1 + data[0] % 17u);
	OL_ASSERT(a == b);
	/* What is refused may have been handed on in part. */
	if (a == OL_OK)
		OL_ASSERT(whole.size == pieces.size &&
			  (whole.size == 0 || memcmp(whole.data, pieces.data, whole.size) == 0));
	ol_buf_release(&whole);
	ol_buf_release(&pieces);
	return 0;
}
