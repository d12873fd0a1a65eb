#include "ledger/publisher.h"

#include "ledger/tile_reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { APPEND_STEP = 256 }; /* events that are appended before others may ask the index */

struct ol_publisher {
	struct ol_publisher_options options;
	struct ol_tlog *log; /* the thread's alone */
	struct ol_buf fresh; /* the thread's: a note on its way */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t work, told;
	/* Under the mutex. */
	struct ol_journal_mark durable, indexed, derived; /* known; in the index; and published */
	uint64_t wanted;                                  /* events that somebody waits for  */
	uint64_t hurried;                                 /* sequence that somebody waits for */
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note; /* size 0: none was ever published */
	uint64_t checkpoints;
	bool closing, stopped;
	struct ol_error failure;
};

static struct timespec after_ms(uint32_t ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000L;
	t.tv_nsec %= 1000000000L;
	return t;
}

/* ---- The thread: opening ------------------------------------------------------------ */

/* Makes the note in `fresh` the current one. */
static void announce(struct ol_publisher *p, const struct ol_log_checkpoint *checkpoint)
{
	pthread_mutex_lock(&p->mutex);
	const struct ol_buf older = p->note;
	p->note = p->fresh;
	p->fresh = older;
	p->checkpoint = *checkpoint;
	pthread_cond_broadcast(&p->told);
	pthread_mutex_unlock(&p->mutex);
}

static enum ol_status load_checkpoint(struct ol_publisher *p, struct ol_error *err)
{
	const struct ol_log_source *source = &p->options.store->source;
	struct ol_log_checkpoint checkpoint;
	ol_buf_clear(&p->fresh);
	enum ol_status s = source->fetch(source->self, &p->fresh, OL_CHECKPOINT_NAME, err);
	if (s == OL_ERR_NOT_FOUND)
		return OL_OK;
	if (s == OL_OK)
		s = ol_log_checkpoint_open(&checkpoint, NULL, p->fresh.data ? p->fresh.data : "",
					   p->fresh.size, p->options.log_key, err);
	if (s == OL_OK)
		announce(p, &checkpoint);
	return s;
}

/* ---- The thread: deriving ------------------------------------------------------------ */

struct append {
	struct ol_tlog *log;
	enum ol_status status;
	struct ol_error *err;
};

static bool append_event(void *context, const struct ol_indexed_event *event)
{
	struct append *a = context;
	if (event->index != ol_tlog_size(a->log)) {
		a->status = ol_fail(a->err, OL_ERR_INPUT,
				    "the index has no event %llu: openledger ledger rebuild",
				    (unsigned long long)ol_tlog_size(a->log));
		return false;
	}
	a->status = ol_tlog_append(a->log, event->bytes, event->size, a->err);
	return a->status == OL_OK;
}

static enum ol_status append_events(struct ol_publisher *p, uint64_t event_count,
				    struct ol_error *err)
{
	struct append a = {.log = p->log, .err = err};
	while (ol_tlog_size(p->log) < event_count && a.status == OL_OK) {
		const uint64_t before = ol_tlog_size(p->log);
		const enum ol_status s = ol_ledger_index_events_from(
			p->options.index, before, APPEND_STEP, append_event, &a, err);
		if (s != OL_OK)
			return s;
		if (a.status == OL_OK && ol_tlog_size(p->log) == before)
			return ol_fail(err, OL_ERR_INPUT,
				       "the index has no event %llu: openledger ledger rebuild",
				       (unsigned long long)before);
	}
	return a.status;
}

/* The log must not say what the journal does not: then one of them is an older copy, and going on
 * would publish a second history. */
static enum ol_status check_end(struct ol_publisher *p, uint64_t event_count, struct ol_error *err)
{
	const uint64_t size = ol_tlog_size(p->log);
	struct ol_tile_reader *reader;
	struct ol_indexed_event event;
	struct ol_buf entry;
	uint8_t leaf[OL_MERKLE_BYTES];
	if (size > event_count)
		return ol_fail(err, OL_ERR_INPUT,
			       "the public log has %llu events, the journal only %llu: it was "
			       "restored from an older copy. Restore the newest; to go on without "
			       "those events would be a second history",
			       (unsigned long long)size, (unsigned long long)event_count);
	if (size == 0)
		return OL_OK;
	reader = ol_tile_reader_open(&p->options.store->source, size);
	if (!reader)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the public log");
	ol_buf_init(&entry, OL_ENTRY_MAX);
	enum ol_status s = ol_ledger_index_event(p->options.index, &event, NULL, size - 1, err);
	if (s == OL_OK)
		s = ol_tile_reader_entry(reader, &entry, leaf, size - 1, err);
	if (s == OL_OK && memcmp(leaf, event.id, sizeof leaf) != 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "event %llu of the public log is not the journal's: they are of two "
			    "histories. Restore the journal that belongs to this log",
			    (unsigned long long)size - 1);
	ol_buf_release(&entry);
	ol_tile_reader_close(reader);
	return s;
}

static enum ol_status publish(struct ol_publisher *p, struct ol_error *err)
{
	struct ol_log_checkpoint checkpoint;
	enum ol_status s = ol_tlog_flush(p->log, &checkpoint, err);
	ol_buf_clear(&p->fresh);
	if (s == OL_OK)
		s = p->options.signer.sign(p->options.signer.self, &p->fresh, &checkpoint, err);
	if (s == OL_OK && p->fresh.failed)
		s = ol_fail(err, OL_ERR_FULL, "a checkpoint of over %zu bytes", p->fresh.max);
	if (s == OL_OK)
		s = ol_tlog_publish(p->log, p->fresh.data ? p->fresh.data : "", p->fresh.size, err);
	if (s != OL_OK)
		return s;
	announce(p, &checkpoint);
	pthread_mutex_lock(&p->mutex);
	p->checkpoints++;
	pthread_mutex_unlock(&p->mutex);
	return OL_OK;
}

/* From the journal up to this mark to the public. */
static enum ol_status derive(struct ol_publisher *p, const struct ol_journal_mark *durable,
			     struct ol_error *err)
{
	enum ol_status s =
		ol_ledger_index_catch_up(p->options.index, p->options.journal, durable, err);
	if (s != OL_OK)
		return s;
	pthread_mutex_lock(&p->mutex);
	p->indexed = *durable;
	pthread_mutex_unlock(&p->mutex);
	if (!p->log) {
		s = ol_tlog_open(&p->log, p->options.store, p->options.log_key, err);
		if (s == OL_OK)
			s = check_end(p, durable->event_count, err);
	}
	if (s == OL_OK)
		s = append_events(p, durable->event_count, err);
	if (s == OL_OK && ol_tlog_size(p->log) > ol_tlog_published(p->log))
		s = publish(p, err);
	if (s != OL_OK)
		return s;
	pthread_mutex_lock(&p->mutex);
	p->derived = *durable;
	p->wanted = p->hurried = 0; /* who still waits says so again */
	pthread_cond_broadcast(&p->told);
	pthread_mutex_unlock(&p->mutex);
	return OL_OK;
}

static bool hurry(const struct ol_publisher *p)
{
	return p->wanted > p->checkpoint.size || p->hurried > p->derived.sequence;
}

/* Until there is something to do and its time has come. False: closing. */
static bool next_work(struct ol_publisher *p, struct ol_journal_mark *durable,
		      const struct timespec *not_before)
{
	pthread_mutex_lock(&p->mutex);
	while (!p->closing && p->durable.sequence <= p->derived.sequence)
		pthread_cond_wait(&p->work, &p->mutex);
	while (!p->closing && !hurry(p) &&
	       pthread_cond_timedwait(&p->work, &p->mutex, not_before) != ETIMEDOUT)
		;
	*durable = p->durable;
	const bool more = !p->closing;
	pthread_mutex_unlock(&p->mutex);
	return more;
}

/* Another process holds the index for a moment: later, in a hurry or not. */
static void rest(struct ol_publisher *p)
{
	const struct timespec until = after_ms(p->options.interval_ms);
	pthread_mutex_lock(&p->mutex);
	while (!p->closing && pthread_cond_timedwait(&p->work, &p->mutex, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&p->mutex);
}

static void *publish_forever(void *context)
{
	struct ol_publisher *p = context;
	struct timespec not_before = after_ms(0);
	struct ol_journal_mark durable;
	struct ol_error err = {0};
	while (!p->stopped && next_work(p, &durable, &not_before)) {
		const enum ol_status s = derive(p, &durable, &err);
		not_before = after_ms(p->options.interval_ms);
		if (s == OL_OK)
			continue;
		if (s == OL_ERR_CANCELLED) {
			rest(p);
			continue;
		}
		pthread_mutex_lock(&p->mutex);
		p->stopped = true;
		p->failure = err;
		pthread_cond_broadcast(&p->told);
		pthread_mutex_unlock(&p->mutex);
	}
	return NULL;
}

/* ---- Life ------------------------------------------------------------ */

static void release(struct ol_publisher *p)
{
	ol_tlog_close(p->log);
	ol_buf_release(&p->note);
	ol_buf_release(&p->fresh);
	pthread_cond_destroy(&p->told);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

enum ol_status ol_publisher_open(struct ol_publisher **publisher_out,
				 const struct ol_publisher_options *options, struct ol_error *err)
{
	struct ol_publisher *p = calloc(1, sizeof *p);
	pthread_condattr_t monotonic;
	*publisher_out = NULL;
	if (!p)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the public log");
	p->options = *options;
	if (p->options.interval_ms == 0)
		p->options.interval_ms = OL_PUBLISHER_INTERVAL_MS;
	ol_buf_init(&p->note, OL_NOTE_BYTES_MAX);
	ol_buf_init(&p->fresh, OL_NOTE_BYTES_MAX);
	pthread_mutex_init(&p->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &monotonic);
	pthread_cond_init(&p->told, &monotonic);
	pthread_condattr_destroy(&monotonic);
	enum ol_status s = load_checkpoint(p, &p->failure);
	/* A log that cannot be read stops the publisher, not the ledger. */
	p->stopped = s != OL_OK;
	if (pthread_create(&p->thread, NULL, publish_forever, p) != 0) {
		release(p);
		return ol_fail(err, OL_ERR_FULL, "no thread for the public log: raise the limit");
	}
	*publisher_out = p;
	return OL_OK;
}

void ol_publisher_close(struct ol_publisher *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->mutex);
	p->closing = true;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->mutex);
	pthread_join(p->thread, NULL);
	release(p);
}

/* ---- Any thread ------------------------------------------------------------ */

void ol_publisher_wake(struct ol_publisher *p, const struct ol_journal_mark *durable)
{
	pthread_mutex_lock(&p->mutex);
	if (durable->sequence > p->durable.sequence) {
		p->durable = *durable;
		pthread_cond_signal(&p->work);
	}
	pthread_mutex_unlock(&p->mutex);
}

/* Under the mutex: hurries until what is waited for has come. `count` grows to what; `wish` is
 * where the thread sees the wish. */
static enum ol_status await(struct ol_publisher *p, const uint64_t *count, uint64_t what,
			    uint64_t *wish, uint32_t timeout_ms, struct ol_error *err)
{
	const struct timespec until = after_ms(timeout_ms);
	int code = 0;
	while (*count < what && !p->stopped && code != ETIMEDOUT) {
		*wish = OL_MAX(*wish, what);
		pthread_cond_signal(&p->work);
		code = pthread_cond_timedwait(&p->told, &p->mutex, &until);
	}
	if (*count >= what)
		return OL_OK;
	if (p->stopped)
		return ol_fail(err, OL_ERR_IO, "the public log has stopped: %s", p->failure.text);
	return ol_fail(err, OL_ERR_NOT_FOUND,
		       "not under a checkpoint within %u ms: the public log has %llu events",
		       timeout_ms, (unsigned long long)p->checkpoint.size);
}

enum ol_status ol_publisher_wait(struct ol_publisher *p, uint64_t event_index, uint32_t timeout_ms,
				 struct ol_error *err)
{
	pthread_mutex_lock(&p->mutex);
	const enum ol_status s =
		await(p, &p->checkpoint.size, event_index + 1, &p->wanted, timeout_ms, err);
	pthread_mutex_unlock(&p->mutex);
	return s;
}

enum ol_status ol_publisher_settle(struct ol_publisher *p, uint32_t timeout_ms,
				   struct ol_error *err)
{
	pthread_mutex_lock(&p->mutex);
	const enum ol_status s =
		await(p, &p->derived.sequence, p->durable.sequence, &p->hurried, timeout_ms, err);
	pthread_mutex_unlock(&p->mutex);
	return s;
}

enum ol_status ol_publisher_checkpoint(struct ol_publisher *p,
				       struct ol_log_checkpoint *checkpoint_out,
				       struct ol_buf *note, struct ol_error *err)
{
	enum ol_status s = OL_OK;
	pthread_mutex_lock(&p->mutex);
	*checkpoint_out = p->checkpoint;
	if (p->note.size == 0)
		s = ol_fail(err, OL_ERR_NOT_FOUND, "nothing has been published yet");
	else if (note && !ol_buf_append(note, p->note.data, p->note.size))
		s = ol_fail(err, OL_ERR_FULL, "no room for a checkpoint of %zu bytes",
			    p->note.size);
	pthread_mutex_unlock(&p->mutex);
	return s;
}

static enum ol_status print_proof(struct ol_publisher *p, struct ol_buf *text, uint64_t event_index,
				  const struct ol_log_checkpoint *checkpoint,
				  const struct ol_buf *note, const void *extra, size_t extra_size,
				  struct ol_error *err)
{
	struct ol_tile_reader *reader =
		ol_tile_reader_open(&p->options.store->source, checkpoint->size);
	struct ol_indexed_event event;
	struct ol_proof proof;
	if (!reader)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a proof");
	enum ol_status s = ol_ledger_index_event(p->options.index, &event, NULL, event_index, err);
	if (s == OL_OK)
		s = ol_tile_reader_inclusion(reader, &proof, event.id, event_index,
					     checkpoint->root, err);
	if (s == OL_OK && !ol_tlog_proof_print(text, extra, extra_size, event_index, &proof,
					       note->data, note->size))
		s = ol_fail(err, OL_ERR_FULL, "no room for a proof");
	ol_tile_reader_close(reader);
	return s;
}

enum ol_status ol_publisher_prove(struct ol_publisher *p, struct ol_buf *text, uint64_t event_index,
				  const void *extra, size_t extra_size, struct ol_error *err)
{
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note;
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	enum ol_status s = ol_publisher_checkpoint(p, &checkpoint, &note, err);
	if (s == OL_OK && event_index >= checkpoint.size)
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "event %llu is under no checkpoint yet: the public log has %llu events",
			    (unsigned long long)event_index, (unsigned long long)checkpoint.size);
	if (s == OL_OK)
		s = print_proof(p, text, event_index, &checkpoint, &note, extra, extra_size, err);
	ol_buf_release(&note);
	return s;
}

void ol_publisher_state(struct ol_publisher *p, struct ol_publisher_state *state_out)
{
	pthread_mutex_lock(&p->mutex);
	*state_out = (struct ol_publisher_state){.stopped = p->stopped,
						 .failure = p->failure,
						 .durable = p->durable,
						 .indexed = p->indexed,
						 .published = p->checkpoint.size,
						 .checkpoints = p->checkpoints};
	pthread_mutex_unlock(&p->mutex);
}
