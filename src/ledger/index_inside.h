/* ledger/index_inside.h, floor 2: what the index's files share (index.c: the file and its intake;
 * index_ask.c: questions). */
#ifndef OL_LEDGER_INDEX_INSIDE_H
#define OL_LEDGER_INDEX_INSIDE_H

#include "ledger/index.h"

#include <pthread.h>
#include <sqlite3.h>

struct index_touched;

struct ol_ledger_index {
	sqlite3 *db;
	char *path;
	bool read_only;
	/* The connection is used under `lock`; who wants it queues at `turn`, so that catching up,
	 * which takes it again and again, lets those pass who came meanwhile. */
	pthread_mutex_t turn, lock;
	/* Taken before the others: one at a time reads on from the position. */
	pthread_mutex_t catching_up;
	/* What only catching up needs; NULL when read-only. */
	sqlite3_stmt *put_event, *put_transfer, *put_account, *put_position, *get_account;
	struct index_touched *touched;
	uint64_t accounts, transfers; /* so many so far */
};

static inline void index_enter(struct ol_ledger_index *index)
{
	pthread_mutex_lock(&index->turn);
	pthread_mutex_lock(&index->lock);
	pthread_mutex_unlock(&index->turn);
}

static inline void index_leave(struct ol_ledger_index *index)
{
	pthread_mutex_unlock(&index->lock);
}

/* Says what SQLite says. CANCELLED: another process has it; nothing happened. */
enum ol_status index_fail(const struct ol_ledger_index *index, int code, const char *what,
			  struct ol_error *err);
/* Inside enter and leave. */
OL_MUST_CHECK enum ol_status index_position(struct ol_ledger_index *index,
					    struct ol_journal_mark *mark_out, struct ol_error *err);

/* A transfer's id as it stands in the file: 16 bytes, time first: young ids lie together. */
static inline void index_put_id(uint8_t out[16], struct ol_id id)
{
	for (int i = 0; i < 8; i++) {
		out[i] = (uint8_t)(id.high >> (56 - 8 * i));
		out[8 + i] = (uint8_t)(id.low >> (56 - 8 * i));
	}
}

static inline struct ol_id index_get_id(const uint8_t bytes[16])
{
	struct ol_id id = {0};
	for (int i = 0; i < 8; i++) {
		id.high = id.high << 8 | bytes[i];
		id.low = id.low << 8 | bytes[8 + i];
	}
	return id;
}

#endif
