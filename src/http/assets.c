#include "http/assets.h"
#include "crypto/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_HEX = 32, TAG_MAX = TAG_HEX + 3 };

struct ol_assets {
	const struct ol_asset *table;
	size_t count;
	const struct ol_asset *index;
	char (*tags)[TAG_MAX]; /* "\"…\"" */
};

const char *ol_asset_type(const char *path)
{
	static const struct {
		const char *ending, *type;
	} types[] = {
		{".html", "text/html; charset=utf-8"},
		{".js", "text/javascript; charset=utf-8"},
		{".css", "text/css; charset=utf-8"},
		{".json", "application/json"},
		{".webmanifest", "application/manifest+json"},
		{".svg", "image/svg+xml"},
		{".png", "image/png"},
		{".ico", "image/vnd.microsoft.icon"},
		{".woff2", "font/woff2"},
		{".wasm", "application/wasm"},
		{".txt", "text/plain; charset=utf-8"},
	};
	const size_t size = strlen(path);
	for (size_t i = 0; i < OL_ARRAY_LEN(types); i++) {
		const size_t ending = strlen(types[i].ending);
		if (size > ending && strcmp(path + size - ending, types[i].ending) == 0)
			return types[i].type;
	}
	return "application/octet-stream";
}

static const struct ol_asset *find(const struct ol_assets *assets, const char *path)
{
	for (size_t i = 0; i < assets->count; i++)
		if (strcmp(assets->table[i].path, path) == 0)
			return &assets->table[i];
	return NULL;
}

enum ol_status ol_assets_open(struct ol_assets **assets_out, const struct ol_asset *table,
			      size_t count, struct ol_error *err)
{
	*assets_out = NULL;
	if (count > OL_ASSETS_MAX)
		return ol_fail(err, OL_ERR_FULL, "%zu assets, at most %d", count, OL_ASSETS_MAX);
	struct ol_assets *assets = calloc(1, sizeof *assets);
	if (assets)
		assets->tags = calloc(count ? count : 1, sizeof *assets->tags);
	if (!assets || !assets->tags) {
		ol_assets_close(assets);
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu assets", count);
	}
	assets->table = table;
	assets->count = count;
	assets->index = find(assets, "index.html");
	for (size_t i = 0; i < count; i++) {
		uint8_t hash[OL_SHA256_BYTES];
		char hex[TAG_HEX + 1];
		ol_sha256(hash, table[i].bytes, table[i].size);
		ol_hex(hex, hash, TAG_HEX / 2);
		snprintf(assets->tags[i], TAG_MAX, "\"%s\"", hex);
	}
	*assets_out = assets;
	return OL_OK;
}

void ol_assets_close(struct ol_assets *assets)
{
	if (assets)
		free(assets->tags);
	free(assets);
}

/* Is the tag in the list of an If-None-Match header? */
static bool has_tag(const char *list, const char *tag)
{
	return list && (strcmp(list, "*") == 0 || strstr(list, tag) != NULL);
}

void ol_assets_handle(void *self, struct ol_http_request *request)
{
	const struct ol_assets *assets = self;
	const char *path = ol_http_param(request, "path");
	const char *last = path ? strrchr(path, '/') : NULL;
	const struct ol_asset *asset = path ? find(assets, path) : assets->index;
	if (!asset && path && !strchr(last ? last : path, '.'))
		asset = assets->index;
	if (!asset) {
		ol_http_error(request, 404, NULL, NULL, "unknown_url", "There is no such file.");
		return;
	}
	const char *tag = assets->tags[asset - assets->table];
	ol_http_set_header(request, "ETag", tag);
	ol_http_set_header(request, "Cache-Control",
			   asset->immutable ? "public, max-age=31536000, immutable" : "no-cache");
	/* A page runs our own scripts, asks us alone, and is not to be framed by others. */
	ol_http_set_header(request, "Content-Security-Policy",
			   "default-src 'self'; img-src 'self' data:; style-src 'self' "
			   "'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
			   "form-action 'self'");
	ol_http_set_header(request, "Referrer-Policy", "no-referrer");
	if (has_tag(ol_http_header(request, "if-none-match"), tag))
		ol_http_reply(request, 304, NULL, "", 0);
	else
		ol_http_reply_static(request, 200, ol_asset_type(asset->path), asset->bytes,
				     asset->size);
}
