/* http/assets.h, floor 5: files that are part of the program (the web UI), served from memory.
 *
 * An asset has an ETag (its hash) and is not sent again to who has it. Names with a hash in them
 * (`immutable`) may be kept for a year; the others are asked for again each time. */
#ifndef OL_HTTP_ASSETS_H
#define OL_HTTP_ASSETS_H

#include "http/server.h"

struct ol_asset {
	const char *path; /* below the prefix: "index.html", "assets/app-3f2a.js" */
	const uint8_t *bytes;
	size_t size;
	bool immutable;
};

enum { OL_ASSETS_MAX = 256 };

struct ol_assets;

/* The table is borrowed; so that a path of no asset without a dot in its last segment (a page of
 * the UI) is answered with index.html. */
OL_MUST_CHECK enum ol_status ol_assets_open(struct ol_assets **assets_out,
					    const struct ol_asset *table, size_t count,
					    struct ol_error *err);
void ol_assets_close(struct ol_assets *assets);
/* For a route whose self is the ol_assets and whose path ends with "{path*}", or has no parameter
 * (then index.html is meant). */
void ol_assets_handle(void *self, struct ol_http_request *request);
/* By the ending of a name. */
const char *ol_asset_type(const char *path);

#endif
