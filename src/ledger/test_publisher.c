/* The publisher: what it publishes is what the journal says, proofs hold, power may fail at every
 * call of the store, a second history is refused, and what was lost is made again. */
#include "ledger/publisher.h"
#include "ledger/test_history.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

enum { FILES_MAX = 512, LONG_MS = 60000 };

#define MUST(call)                                                                                 \
	do {                                                                                       \
		struct ol_error why = {0};                                                         \
		if ((call) != OL_OK)                                                               \
			fail_msg("%s: %s", #call, why.text);                                       \
	} while (0)

/* ---- A store in memory that forgets what was not synced ---------------------------- */

struct bytes {
	uint8_t *data;
	size_t size;
	bool exists;
};

struct file {
	char name[OL_TILE_PATH_MAX];
	struct bytes now, durable;
};

struct store {
	pthread_mutex_t mutex;
	struct file files[FILES_MAX];
	int count;
	int64_t fuel; /* changing calls until the power fails; negative: never */
	uint64_t calls;
};

static void copy(struct bytes *to, const void *data, size_t size, bool exists)
{
	uint8_t *fresh = malloc(size + 1);
	OL_ASSERT(fresh);
	if (size > 0)
		memcpy(fresh, data, size);
	free(to->data);
	*to = (struct bytes){fresh, size, exists};
}

static struct file *find_file(struct store *store, const char *name)
{
	for (int i = 0; i < store->count; i++)
		if (strcmp(store->files[i].name, name) == 0)
			return &store->files[i];
	OL_ASSERT(store->count < FILES_MAX);
	struct file *file = &store->files[store->count++];
	snprintf(file->name, sizeof file->name, "%s", name);
	return file;
}

static enum ol_status store_fetch(void *self, struct ol_buf *out, const char *name,
				  struct ol_error *err)
{
	struct store *store = self;
	enum ol_status s = OL_OK;
	pthread_mutex_lock(&store->mutex);
	const struct file *file = find_file(store, name);
	if (!file->now.exists)
		s = ol_fail(err, OL_ERR_NOT_FOUND, "no %s", name);
	else if (!ol_buf_append(out, file->now.data, file->now.size))
		s = ol_fail(err, OL_ERR_FULL, "full");
	pthread_mutex_unlock(&store->mutex);
	return s;
}

/* Under the mutex. A failing call may have happened, by the parity of the fuse. */
static bool fails(struct store *store)
{
	store->calls++;
	return store->fuel >= 0 && store->fuel-- <= 0;
}

static enum ol_status power_cut(struct store *store, struct ol_error *err)
{
	store->fuel = 0; /* it stays dark */
	return ol_fail(err, OL_ERR_IO, "power cut");
}

static enum ol_status store_put(void *self, const char *name, const void *bytes, size_t size,
				struct ol_error *err)
{
	struct store *store = self;
	enum ol_status s = OL_OK;
	pthread_mutex_lock(&store->mutex);
	const bool cut = fails(store);
	if (!cut || store->calls % 2)
		copy(&find_file(store, name)->now, bytes, size, true);
	if (cut)
		s = power_cut(store, err);
	pthread_mutex_unlock(&store->mutex);
	return s;
}

static enum ol_status store_sync(void *self, struct ol_error *err)
{
	struct store *store = self;
	enum ol_status s = OL_OK;
	pthread_mutex_lock(&store->mutex);
	const bool cut = fails(store);
	for (int i = 0; i < store->count; i++) {
		struct file *f = &store->files[i];
		if (!cut || (store->calls + (uint64_t)i) % 2)
			copy(&f->durable, f->now.data, f->now.size, f->now.exists);
	}
	if (cut)
		s = power_cut(store, err);
	pthread_mutex_unlock(&store->mutex);
	return s;
}

static enum ol_status store_drop(void *self, const char *name, struct ol_error *err)
{
	struct store *store = self;
	enum ol_status s = OL_OK;
	const size_t length = strlen(name);
	pthread_mutex_lock(&store->mutex);
	if (fails(store))
		s = power_cut(store, err);
	for (int i = 0; s == OL_OK && i < store->count; i++)
		if (strncmp(store->files[i].name, name, length) == 0 &&
		    strncmp(store->files[i].name + length, ".p/", 3) == 0)
			store->files[i].now.exists = false;
	pthread_mutex_unlock(&store->mutex);
	return s;
}

static struct store *new_store(void)
{
	struct store *store = calloc(1, sizeof *store);
	OL_ASSERT(store);
	pthread_mutex_init(&store->mutex, NULL);
	store->fuel = -1;
	return store;
}

static void free_store(struct store *store)
{
	for (int i = 0; i < store->count; i++) {
		free(store->files[i].now.data);
		free(store->files[i].durable.data);
	}
	pthread_mutex_destroy(&store->mutex);
	free(store);
}

/* The power is back: what was not synced is there, or not, by the parity of its place. */
static void restart_store(struct store *store)
{
	for (int i = 0; i < store->count; i++) {
		struct file *f = &store->files[i];
		if ((store->calls + (uint64_t)i) % 3 != 0)
			copy(&f->now, f->durable.data, f->durable.size, f->durable.exists);
		copy(&f->durable, f->now.data, f->now.size, f->now.exists);
	}
	store->fuel = -1;
}

static struct ol_log_store table(struct store *store)
{
	return (struct ol_log_store){.source = {.fetch = store_fetch, .self = store},
				     .put = store_put,
				     .sync = store_sync,
				     .drop_partials = store_drop,
				     .self = store};
}

/* ---- A node without a node ------------------------------------------------------------ */

struct world {
	struct test_folder folder;
	struct test_history history;
	struct store *store;
	struct ol_log_store store_table;
	struct ol_ledger_index *index;
	struct ol_publisher *publisher;
	char path[128];
	bool signer_fails;
	uint64_t signed_size; /* what the signer has seen: never less again */
};

static struct ol_ed25519_key secret;
static struct ol_note_key key;

static int set_up(void **state)
{
	const uint8_t seed[32] = {7};
	(void)state;
	ol_ed25519_key_from_seed(&secret, seed);
	return ol_note_key_init(&key, "example.com/ledger", OL_NOTE_ED25519, secret.public_key,
				NULL) != OL_OK;
}

static enum ol_status sign(void *self, struct ol_buf *note,
			   const struct ol_log_checkpoint *checkpoint, struct ol_error *err)
{
	struct world *w = self;
	struct ol_buf text;
	if (w->signer_fails)
		return ol_fail(err, OL_ERR_IO, "the signer is gone");
	OL_ASSERT(checkpoint->size >= w->signed_size);
	w->signed_size = checkpoint->size;
	ol_buf_init(&text, OL_CHECKPOINT_TEXT_MAX);
	OL_ASSERT(ol_log_checkpoint_print(&text, checkpoint));
	OL_ASSERT(ol_note_append_text(note, text.data, text.size));
	OL_ASSERT(ol_note_sign(note, &key, &secret, text.data, text.size));
	ol_buf_release(&text);
	return OL_OK;
}

static void open_publisher(struct world *w, uint32_t interval_ms)
{
	const struct ol_publisher_options options = {.journal = &w->folder.disk,
						     .index = w->index,
						     .store = &w->store_table,
						     .log_key = &key,
						     .signer = {.sign = sign, .self = w},
						     .interval_ms = interval_ms};
	MUST(ol_publisher_open(&w->publisher, &options, &why));
}

static struct world *new_world(uint64_t seed, uint32_t interval_ms)
{
	struct world *w = calloc(1, sizeof *w);
	assert_non_null(w);
	test_folder_make(&w->folder);
	test_history_init(&w->history, seed);
	test_history_open(&w->history, &w->folder.disk);
	snprintf(w->path, sizeof w->path, "%s/%s", w->folder.path, OL_LEDGER_INDEX_FILE);
	w->store = new_store();
	w->store_table = table(w->store);
	MUST(ol_ledger_index_open(&w->index, w->path, &why));
	open_publisher(w, interval_ms);
	test_begin(&w->history);
	test_commit(&w->history);
	return w;
}

static void free_world(struct world *w)
{
	ol_publisher_close(w->publisher);
	ol_ledger_index_close(w->index);
	free_store(w->store);
	test_history_release(&w->history);
	test_folder_drop(&w->folder);
	free(w);
}

static void wake(struct world *w)
{
	ol_publisher_wake(w->publisher, ol_ledger_durable(w->history.ledger));
}

static void write_more(struct world *w, int batches)
{
	for (int i = 0; i < batches; i++)
		test_batch(&w->history, 4);
	test_commit(&w->history);
}

static void root_of_model(uint8_t out[OL_MERKLE_BYTES], const struct test_history *h, uint64_t size)
{
	struct ol_merkle tree;
	uint8_t id[OL_EVENT_ID_BYTES];
	ol_merkle_init(&tree);
	for (uint64_t i = 0; i < size; i++) {
		ol_event_id(id, h->events[i].bytes, h->events[i].size);
		ol_merkle_add(&tree, id);
	}
	ol_merkle_root(&tree, out);
}

/* What is published: signed, and the root of the model's events. */
static uint64_t check_published(struct world *w)
{
	struct ol_log_checkpoint checkpoint, opened;
	struct ol_buf note;
	uint8_t root[OL_MERKLE_BYTES];
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	MUST(ol_publisher_checkpoint(w->publisher, &checkpoint, &note, &why));
	MUST(ol_log_checkpoint_open(&opened, NULL, note.data, note.size, &key, &why));
	assert_int_equal(opened.size, checkpoint.size);
	root_of_model(root, &w->history, opened.size);
	assert_memory_equal(opened.root, root, sizeof root);
	ol_buf_release(&note);
	return checkpoint.size;
}

static void check_proof(struct world *w, uint64_t event)
{
	const struct ol_log_policy policy = {.log = &key};
	const struct test_event *model = &w->history.events[event];
	struct ol_tlog_proof proof;
	struct ol_buf text;
	uint8_t id[OL_EVENT_ID_BYTES];
	ol_buf_init(&text, OL_TLOG_PROOF_BYTES_MAX);
	MUST(ol_publisher_prove(w->publisher, &text, event, "extra", 5, &why));
	MUST(ol_tlog_proof_parse(&proof, text.data, text.size, &why));
	assert_int_equal(proof.index, event);
	ol_event_id(id, model->bytes, model->size);
	MUST(ol_tlog_proof_verify(&proof, id, &policy, NULL, &why));
	id[0] ^= 1;
	assert_int_equal(ol_tlog_proof_verify(&proof, id, &policy, NULL, NULL), OL_ERR_INPUT);
	ol_buf_release(&text);
}

/* ---- Publishing ------------------------------------------------------------ */

static void what_is_published_is_what_the_journal_says(void **state)
{
	struct world *w = new_world(3, 1);
	(void)state;
	assert_int_equal(
		ol_publisher_checkpoint(w->publisher, &(struct ol_log_checkpoint){0}, NULL, NULL),
		OL_ERR_NOT_FOUND);
	for (int round = 0; round < 40; round++) {
		write_more(w, (int)test_below(&w->history, 12));
		wake(w);
		MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
		if (w->history.event_count == 0)
			continue;
		assert_int_equal(check_published(w), w->history.event_count);
		for (int i = 0; i < 5; i++)
			check_proof(w, test_below(&w->history, w->history.event_count));
		check_proof(w, w->history.event_count - 1);
		assert_int_equal(ol_publisher_prove(w->publisher, NULL, w->history.event_count,
						    NULL, 0, NULL),
				 OL_ERR_NOT_FOUND);
	}
	assert_true(w->history.event_count > 2 * OL_TILE_WIDTH);
	struct ol_publisher_state s;
	ol_publisher_state(w->publisher, &s);
	assert_false(s.stopped);
	assert_int_equal(s.published, w->history.event_count);
	assert_memory_equal(&s.indexed, ol_ledger_durable(w->history.ledger), sizeof s.indexed);
	struct ol_published published;
	MUST(ol_published_check(&published, &w->store_table, &key, w->index, &why));
	assert_int_equal(published.size, w->history.event_count);
	free_world(w);
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void the_interval_is_kept_until_somebody_hurries(void **state)
{
	struct world *w = new_world(4, 30000);
	struct ol_publisher_state s;
	(void)state;
	write_more(w, 20);
	wake(w);
	MUST(ol_publisher_wait(w->publisher, 0, LONG_MS, &why));
	/* The first came at once, the next would come in 30 s. */
	const uint32_t before = w->history.event_count;
	for (int i = 0; i < 10; i++) {
		write_more(w, 4);
		wake(w);
	}
	pause_ms(50);
	ol_publisher_state(w->publisher, &s);
	assert_int_equal(s.published, before);
	assert_int_equal(s.checkpoints, 1);
	assert_true(w->history.event_count > before);
	MUST(ol_publisher_wait(w->publisher, w->history.event_count - 1, LONG_MS, &why));
	assert_int_equal(check_published(w), w->history.event_count);
	/* For one that never happens nobody waits longer than he said. */
	assert_int_equal(ol_publisher_wait(w->publisher, w->history.event_count, 20, NULL),
			 OL_ERR_NOT_FOUND);
	free_world(w);
}

static void a_mark_that_is_older_changes_nothing(void **state)
{
	struct world *w = new_world(5, 1);
	struct ol_journal_mark older;
	struct ol_publisher_state s;
	(void)state;
	write_more(w, 10);
	older = *ol_ledger_durable(w->history.ledger);
	write_more(w, 10);
	wake(w);
	ol_publisher_wake(w->publisher, &older);
	MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	ol_publisher_wake(w->publisher, &older);
	MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	ol_publisher_state(w->publisher, &s);
	assert_false(s.stopped);
	assert_int_equal(check_published(w), w->history.event_count);
	free_world(w);
}

static void a_signer_that_fails_stops_it_and_nothing_else(void **state)
{
	struct world *w = new_world(6, 1);
	struct ol_publisher_state s;
	struct ol_error err = {0};
	(void)state;
	write_more(w, 10);
	wake(w);
	MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	const uint64_t published = check_published(w);
	w->signer_fails = true;
	write_more(w, 10);
	wake(w);
	assert_int_equal(ol_publisher_settle(w->publisher, LONG_MS, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "the signer is gone"));
	ol_publisher_state(w->publisher, &s);
	assert_true(s.stopped);
	assert_non_null(strstr(s.failure.text, "the signer is gone"));
	write_more(w, 10); /* the ledger goes on */
	wake(w);
	assert_int_equal(ol_publisher_wait(w->publisher, published, LONG_MS, NULL), OL_ERR_IO);
	assert_int_equal(check_published(w), published); /* and what was public stays so */
	check_proof(w, published - 1);
	/* Opened again, it catches up. */
	ol_publisher_close(w->publisher);
	w->signer_fails = false;
	open_publisher(w, 1);
	assert_int_equal(check_published(w), published);
	wake(w);
	MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	assert_int_equal(check_published(w), w->history.event_count);
	free_world(w);
}

/* ---- Power cuts ------------------------------------------------------------ */

/* Writes the same history with a power cut at the given call of the store (and again every so many
 * calls after it); false: the history ended before the first cut. */
static bool with_cuts(int64_t first, bool lose_index, const struct store *expected, uint64_t seed)
{
	struct world *w = new_world(seed, 1);
	struct ol_published published;
	bool cut = false;
	w->store->fuel = first;
	for (int round = 0; round < 14; round++) {
		write_more(w, 12);
		wake(w);
		while (ol_publisher_settle(w->publisher, LONG_MS, NULL) != OL_OK) {
			struct ol_publisher_state s;
			cut = true;
			ol_publisher_state(w->publisher, &s);
			assert_true(s.stopped);
			ol_publisher_close(w->publisher);
			restart_store(w->store);
			/* Whatever was public is whole, and true. */
			MUST(ol_published_check(&published, &w->store_table, &key, w->index, &why));
			assert_true(published.size >= (s.published > 0 ? s.published : 0));
			if (lose_index) {
				ol_ledger_index_close(w->index);
				unlink(w->path);
				MUST(ol_ledger_index_open(&w->index, w->path, &why));
			}
			w->store->fuel = -1;
			open_publisher(w, 1);
			wake(w);
		}
	}
	assert_int_equal(check_published(w), w->history.event_count);
	check_proof(w, test_below(&w->history, w->history.event_count));
	MUST(ol_published_check(&published, &w->store_table, &key, w->index, &why));
	for (int i = 0; expected && i < expected->count; i++) {
		const struct file *e = &expected->files[i];
		const struct file *f = find_file(w->store, e->name);
		if (!e->now.exists)
			continue;
		assert_true(f->now.exists || strstr(e->name, ".p/"));
		if (f->now.exists) {
			assert_int_equal(f->now.size, e->now.size);
			assert_memory_equal(f->now.data, e->now.data, e->now.size);
		}
	}
	free_world(w);
	return cut;
}

static void power_may_fail_at_every_call(void **state)
{
	const uint64_t seed = 11;
	struct world *w = new_world(seed, 1);
	int64_t cuts = 0;
	(void)state;
	for (int round = 0; round < 14; round++) {
		write_more(w, 12);
		wake(w);
		MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	}
	assert_true(w->history.event_count > OL_TILE_WIDTH);
	while (with_cuts(cuts, cuts % 2, w->store, seed))
		cuts++;
	assert_int_equal(cuts, w->store->calls);
	assert_true(cuts > 50);
	free_world(w);
}

/* ---- Two histories ------------------------------------------------------------ */

static void a_log_of_another_history_is_not_continued(void **state)
{
	static const struct {
		int first, second; /* batches of the log's journal, and of the other one */
		const char *word;
	} rows[] = {{30, 4, "older copy"}, {30, 60, "two histories"}};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct world *a = new_world(21, 1), *b = new_world(22 + i, 1);
		struct ol_published published;
		struct ol_publisher_state s;
		struct ol_error err = {0};
		write_more(a, rows[i].first);
		wake(a);
		MUST(ol_publisher_settle(a->publisher, LONG_MS, &why));
		write_more(b, rows[i].second);
		assert_true(i == 0 ? b->history.event_count < a->history.event_count
				   : b->history.event_count > a->history.event_count);
		/* The public files of one beside the journal of the other. */
		ol_publisher_close(b->publisher);
		b->store_table = a->store_table;
		b->signed_size = a->signed_size;
		open_publisher(b, 1);
		const uint64_t calls = a->store->calls;
		wake(b);
		assert_int_equal(ol_publisher_settle(b->publisher, LONG_MS, &err), OL_ERR_IO);
		assert_non_null(strstr(err.text, rows[i].word));
		ol_publisher_state(b->publisher, &s);
		assert_true(s.stopped);
		assert_int_equal(
			ol_published_check(&published, &b->store_table, &key, b->index, &err),
			OL_ERR_INPUT);
		assert_non_null(strstr(err.text, rows[i].word));
		assert_int_equal(
			ol_published_rebuild(&published, &b->store_table, &key, b->index, NULL),
			OL_ERR_INPUT);
		assert_int_equal(a->store->calls, calls); /* nothing was written */
		check_published(a);
		free_world(b);
		free_world(a);
	}
}

/* ---- Again from the journal ------------------------------------------------------------ */

static void what_is_damaged_is_found_and_made_again(void **state)
{
	struct world *w = new_world(31, 1);
	struct ol_published whole, published;
	(void)state;
	MUST(ol_published_check(&published, &w->store_table, &key, w->index, &why));
	assert_false(published.published); /* nothing to compare yet */
	for (int i = 0; i < 6; i++) {
		write_more(w, 15);
		wake(w);
		MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	}
	MUST(ol_published_check(&whole, &w->store_table, &key, w->index, &why));
	assert_true(whole.published && whole.files >= 6);
	uint64_t found = 0;
	for (int i = 0; i < w->store->count; i++) {
		struct file *f = &w->store->files[i];
		struct ol_error err = {0};
		if (!f->now.exists || strcmp(f->name, OL_CHECKPOINT_NAME) == 0)
			continue;
		struct bytes before = {0};
		copy(&before, f->now.data, f->now.size, true);
		for (int damage = 0; damage < 3; damage++) {
			if (damage == 0)
				f->now.data[f->now.size / 2] ^= 1;
			else if (damage == 1)
				f->now.size--;
			else
				f->now.exists = false;
			if (ol_published_check(&published, &w->store_table, &key, w->index, &err) ==
			    OL_OK) {
				/* Not of this checkpoint: a partial width of an older one. */
				assert_non_null(strstr(f->name, ".p/"));
				copy(&f->now, before.data, before.size, true);
				continue;
			}
			assert_non_null(strstr(err.text, f->name));
			found += damage == 0;
			MUST(ol_published_rebuild(&published, &w->store_table, &key, w->index,
						  &why));
			assert_memory_equal(&published, &whole, sizeof whole);
			assert_int_equal(f->now.size, before.size);
			assert_memory_equal(f->now.data, before.data, before.size);
			MUST(ol_published_check(&published, &w->store_table, &key, w->index, &why));
		}
		free(before.data);
	}
	assert_int_equal(found, whole.files - 1);
	/* All gone but the checkpoint. */
	for (int i = 0; i < w->store->count; i++)
		if (strcmp(w->store->files[i].name, OL_CHECKPOINT_NAME) != 0)
			w->store->files[i].now.exists = false;
	MUST(ol_published_rebuild(&published, &w->store_table, &key, w->index, &why));
	MUST(ol_published_check(&published, &w->store_table, &key, w->index, &why));
	/* And the publisher goes on from there. */
	ol_publisher_close(w->publisher);
	open_publisher(w, 1);
	write_more(w, 15);
	wake(w);
	MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	assert_int_equal(check_published(w), w->history.event_count);
	/* A checkpoint that nobody signed is none. */
	find_file(w->store, OL_CHECKPOINT_NAME)->now.data[20] ^= 1;
	assert_int_equal(ol_published_check(&published, &w->store_table, &key, w->index, NULL),
			 OL_ERR_INPUT);
	ol_publisher_close(w->publisher);
	open_publisher(w, 1);
	wake(w);
	assert_int_equal(ol_publisher_settle(w->publisher, LONG_MS, NULL), OL_ERR_IO);
	free_world(w);
}

/* ---- A crowd ------------------------------------------------------------ */

struct crowd {
	struct world *w;
	uint64_t first;
};

static void *ask_for_proofs(void *context)
{
	struct crowd *c = context;
	const struct ol_log_policy policy = {.log = &key};
	for (uint64_t event = c->first; event < 300; event += 37) {
		struct ol_tlog_proof proof;
		struct ol_indexed_event e;
		struct ol_buf text;
		ol_buf_init(&text, OL_TLOG_PROOF_BYTES_MAX);
		OL_ASSERT(ol_publisher_wait(c->w->publisher, event, LONG_MS, NULL) == OL_OK);
		OL_ASSERT(ol_publisher_prove(c->w->publisher, &text, event, NULL, 0, NULL) ==
			  OL_OK);
		OL_ASSERT(ol_ledger_index_event(c->w->index, &e, NULL, event, NULL) == OL_OK);
		OL_ASSERT(ol_tlog_proof_parse(&proof, text.data, text.size, NULL) == OL_OK);
		OL_ASSERT(ol_tlog_proof_verify(&proof, e.id, &policy, NULL, NULL) == OL_OK);
		ol_buf_release(&text);
	}
	return NULL;
}

static void many_wait_while_it_publishes(void **state)
{
	struct world *w = new_world(41, 5);
	struct crowd crowd[4];
	pthread_t threads[4];
	(void)state;
	for (int i = 0; i < 4; i++) {
		crowd[i] = (struct crowd){w, (uint64_t)i * 5};
		assert_int_equal(pthread_create(&threads[i], NULL, ask_for_proofs, &crowd[i]), 0);
	}
	while (w->history.event_count < 300) {
		write_more(w, 3);
		wake(w);
		pause_ms(1);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	MUST(ol_publisher_settle(w->publisher, LONG_MS, &why));
	assert_int_equal(check_published(w), w->history.event_count);
	free_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_published_is_what_the_journal_says),
		cmocka_unit_test(the_interval_is_kept_until_somebody_hurries),
		cmocka_unit_test(a_mark_that_is_older_changes_nothing),
		cmocka_unit_test(a_signer_that_fails_stops_it_and_nothing_else),
		cmocka_unit_test(power_may_fail_at_every_call),
		cmocka_unit_test(a_log_of_another_history_is_not_continued),
		cmocka_unit_test(what_is_damaged_is_found_and_made_again),
		cmocka_unit_test(many_wait_while_it_publishes),
	};
	return cmocka_run_group_tests(tests, set_up, NULL);
}
