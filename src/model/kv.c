/* The pool of KV pages, and the page lists of sessions. */
#include "model/engine_internal.h"

#include <stdlib.h>
#include <string.h>

enum ol_status ol_kv_pool_init(struct ol_kv_pool *pool, size_t page_bytes, int64_t page_count)
{
	*pool = (struct ol_kv_pool){.page_bytes = page_bytes, .page_count = page_count};
	if ((uint64_t)page_count > SIZE_MAX / page_bytes)
		return OL_ERR_FULL;
	pool->memory = ol_block_alloc((size_t)page_count * page_bytes);
	pool->references = calloc((size_t)page_count, sizeof *pool->references);
	pool->free_pages = malloc((size_t)page_count * sizeof *pool->free_pages);
	if (!pool->memory || !pool->references || !pool->free_pages) {
		ol_kv_pool_release(pool);
		return OL_ERR_FULL;
	}
	/* Low pages on top, so that memory is touched from the start upwards. */
	for (int64_t i = 0; i < page_count; i++)
		pool->free_pages[i] = page_count - 1 - i;
	pool->free_count = page_count;
	return OL_OK;
}

void ol_kv_pool_release(struct ol_kv_pool *pool)
{
	ol_block_free(pool->memory, (size_t)pool->page_count * pool->page_bytes);
	free(pool->references);
	free(pool->free_pages);
	*pool = (struct ol_kv_pool){0};
}

static int64_t page_index(const struct ol_kv_pool *pool, const void *page)
{
	const ptrdiff_t offset = (const uint8_t *)page - pool->memory;
	OL_ASSERT(offset >= 0 && (size_t)offset % pool->page_bytes == 0);
	const int64_t index = (int64_t)((size_t)offset / pool->page_bytes);
	OL_ASSERT(index < pool->page_count);
	return index;
}

void *ol_kv_page_take(struct ol_kv_pool *pool)
{
	OL_ASSERT(pool->free_count > 0);
	const int64_t index = pool->free_pages[--pool->free_count];
	OL_ASSERT(pool->references[index] == 0);
	pool->references[index] = 1;
	return pool->memory + (size_t)index * pool->page_bytes;
}

void ol_kv_page_share(struct ol_kv_pool *pool, const void *page)
{
	int32_t *references = &pool->references[page_index(pool, page)];
	OL_ASSERT(*references > 0 && *references < INT32_MAX);
	++*references;
}

void ol_kv_page_drop(struct ol_kv_pool *pool, const void *page)
{
	const int64_t index = page_index(pool, page);
	OL_ASSERT(pool->references[index] > 0);
	if (--pool->references[index] == 0)
		pool->free_pages[pool->free_count++] = index;
}

bool ol_kv_page_shared(const struct ol_kv_pool *pool, const void *page)
{
	return pool->references[page_index(pool, page)] > 1;
}

static int pages_for(int64_t positions)
{
	return (int)((positions + OL_KV_PAGE - 1) / OL_KV_PAGE);
}

/* The page the next position falls into exists already, and somebody else reads it too. */
static bool must_copy_last(const struct ol_session *s)
{
	return s->length % OL_KV_PAGE != 0 &&
	       ol_kv_page_shared(&s->engine->kv, s->pages[s->length / OL_KV_PAGE]);
}

int64_t ol_session_pages_needed(const struct ol_session *session, int count)
{
	const int64_t fresh = pages_for((int64_t)session->length + count) - session->page_count;
	return count > 0 ? fresh + must_copy_last(session) : 0;
}

enum ol_status ol_session_reserve(struct ol_session *session, int count)
{
	struct ol_kv_pool *pool = &session->engine->kv;
	const int wanted = pages_for((int64_t)session->length + count);
	if (wanted > session->page_room) {
		const int room = OL_MAX(wanted, 2 * session->page_room);
		void **pages = realloc(session->pages, (size_t)room * sizeof *pages);
		if (!pages)
			return OL_ERR_FULL;
		session->pages = pages;
		session->page_room = room;
	}
	if (count > 0 && must_copy_last(session)) {
		void **last = &session->pages[session->length / OL_KV_PAGE];
		void *copy = ol_kv_page_take(pool);
		memcpy(copy, *last, pool->page_bytes);
		ol_kv_page_drop(pool, *last);
		*last = copy;
	}
	while (session->page_count < wanted)
		session->pages[session->page_count++] = ol_kv_page_take(pool);
	return OL_OK;
}

enum ol_status ol_session_open(struct ol_session **session_out, struct ol_engine *engine)
{
	struct ol_session *session = calloc(1, sizeof *session);
	if (!session)
		return OL_ERR_FULL;
	session->engine = engine;
	engine->open_sessions++;
	*session_out = session;
	return OL_OK;
}

void ol_session_close(struct ol_session *session)
{
	if (!session)
		return;
	ol_session_truncate(session, 0);
	session->engine->open_sessions--;
	free(session->pages);
	free(session);
}

enum ol_status ol_session_fork(struct ol_session **session_out, const struct ol_session *source,
			       int length)
{
	OL_ASSERT(length >= 0 && length <= source->length);
	struct ol_kv_pool *pool = &source->engine->kv;
	const int full = length / OL_KV_PAGE, pages = pages_for(length);
	struct ol_session *session;
	enum ol_status s = ol_session_open(&session, source->engine);
	if (s != OL_OK)
		return s;
	session->pages = malloc((size_t)OL_MAX(pages, 1) * sizeof *session->pages);
	session->page_room = OL_MAX(pages, 1);
	if (!session->pages || pool->free_count < pages - full) {
		ol_session_close(session);
		return OL_ERR_FULL;
	}
	for (int i = 0; i < full; i++) {
		session->pages[i] = source->pages[i];
		ol_kv_page_share(pool, session->pages[i]);
	}
	if (pages > full) {
		session->pages[full] = ol_kv_page_take(pool);
		memcpy(session->pages[full], source->pages[full], pool->page_bytes);
	}
	session->page_count = pages;
	session->length = length;
	*session_out = session;
	return OL_OK;
}

int ol_session_length(const struct ol_session *session)
{
	return session->length;
}

void ol_session_truncate(struct ol_session *session, int length)
{
	OL_ASSERT(length >= 0 && length <= session->length);
	const int keep = pages_for(length);
	while (session->page_count > keep)
		ol_kv_page_drop(&session->engine->kv, session->pages[--session->page_count]);
	session->length = length;
}
