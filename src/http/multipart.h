/* http/multipart.h, floor 5: multipart/form-data (RFC 7578) taken apart as it comes, in any pieces,
 * with a few kB of memory whatever the size. */
#ifndef OL_HTTP_MULTIPART_H
#define OL_HTTP_MULTIPART_H

#include "http/server.h"

enum {
	OL_MULTIPART_BOUNDARY_MAX = 70, /* RFC 2046 */
	OL_MULTIPART_HEAD_MAX = 4096,   /* bytes of one part's headers */
	OL_MULTIPART_PARTS_MAX = 64,
	OL_MULTIPART_NAME_MAX = 256 /* of a field, a file or a type */
};

/* Where what was found goes; false ends the parsing (OL_ERR_CANCELLED). */
struct ol_multipart_sink {
	bool (*part)(void *self, const struct ol_http_part *part);
	bool (*bytes)(void *self, const void *bytes, size_t size);
	void *self;
};

struct ol_multipart;

/* type: the Content-Type header. OL_ERR_INPUT when it names no good boundary. */
OL_MUST_CHECK enum ol_status ol_multipart_open(struct ol_multipart **multipart_out,
					       const char *type,
					       const struct ol_multipart_sink *sink,
					       struct ol_error *err);
void ol_multipart_close(struct ol_multipart *multipart);
/* After a failure nothing more may be fed. */
OL_MUST_CHECK enum ol_status ol_multipart_feed(struct ol_multipart *multipart, const void *bytes,
					       size_t size, struct ol_error *err);
/* OL_ERR_INPUT unless the closing boundary was seen. */
OL_MUST_CHECK enum ol_status ol_multipart_end(struct ol_multipart *multipart, struct ol_error *err);

#endif
