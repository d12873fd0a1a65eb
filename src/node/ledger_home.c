#include "node/ledger_home.h"

#include "base/file.h"
#include "crypto/secret_file.h"

#include <string.h>

enum { CLOSING_MS = 10000 /* for what is not public yet */ };

/* ---- Places ------------------------------------------------------------ */

enum ol_status ol_ledger_home(struct ol_ledger_home *paths, const struct ol_home *home,
			      struct ol_error *err)
{
	enum ol_status s = ol_path_join(paths->folder, err, home->path, "/ledger", "");
	if (s == OL_OK)
		s = ol_path_join(paths->index, err, paths->folder, "/", OL_LEDGER_INDEX_FILE);
	if (s == OL_OK)
		s = ol_path_join(paths->key, err, paths->folder, "/log.key", "");
	if (s == OL_OK)
		s = ol_path_join(paths->log, err, paths->folder, "/log", "");
	return s == OL_OK ? ol_path_join(paths->signer, err, home->path, "/signer", "") : s;
}

enum ol_status ol_ledger_home_key(struct ol_note_key *key_out, const struct ol_ledger_home *paths,
				  struct ol_error *err)
{
	char text[OL_VERIFIER_KEY_TEXT];
	struct ol_map map;
	enum ol_status s = ol_map_open(&map, paths->key, err);
	if (s != OL_OK)
		return s;
	const bool fits = map.size > 0 && map.size < sizeof text && map.data[map.size - 1] == '\n';
	if (fits) {
		memcpy(text, map.data, map.size - 1);
		text[map.size - 1] = '\0';
	}
	ol_map_close(&map);
	if (!fits)
		return ol_fail(err, OL_ERR_INPUT, "%s holds no verifier key: delete it",
			       paths->key);
	return ol_note_key_parse(key_out, text, err);
}

enum ol_status ol_ledger_home_keep_key(const struct ol_ledger_home *paths,
				       const struct ol_note_key *key, struct ol_error *err)
{
	char text[OL_VERIFIER_KEY_TEXT + 1];
	struct ol_note_key there;
	struct ol_writer *writer = NULL;
	enum ol_status s = ol_ledger_home_key(&there, paths, err);
	if (s == OL_OK && strcmp(there.name, key->name) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "this ledger publishes as %s, the node's key is of %s: a log keeps "
			       "its name",
			       there.name, key->name);
	if (s == OL_OK && memcmp(there.public_key, key->public_key, sizeof key->public_key) == 0)
		return OL_OK;
	if (s != OL_OK && s != OL_ERR_NOT_FOUND)
		return s;
	ol_note_key_print(text, key);
	const size_t length = strlen(text);
	text[length] = '\n';
	s = ol_writer_open(&writer, paths->key, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, text, length + 1, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

/* ---- Signing ------------------------------------------------------------ */

enum ol_status ol_books_sign(void *self, uint8_t signature_out[OL_ED25519_SIGNATURE_BYTES],
			     const void *bytes, size_t size, struct ol_error *err)
{
	struct ol_books *books = self;
	if (!books->signer)
		return ol_fail(err, OL_ERR_UNSUPPORTED, "the ledger was opened without a signer");
	return ol_signer_event(books->signer, signature_out, bytes, size, err);
}

void ol_books_checkpoint(void *self, uint64_t *size_out, uint8_t root_out[OL_MERKLE_BYTES])
{
	struct ol_books *books = self;
	struct ol_log_checkpoint checkpoint = {0};
	if (books->publisher &&
	    ol_publisher_checkpoint(books->publisher, &checkpoint, NULL, NULL) != OL_OK)
		memset(&checkpoint, 0, sizeof checkpoint);
	*size_out = checkpoint.size;
	memcpy(root_out, checkpoint.root, sizeof checkpoint.root);
}

/* ---- Opening and closing ------------------------------------------------------------ */

/* On the bookkeeper's thread; once in the opening, before there is a publisher. */
static void on_commit(void *context, const struct ol_journal_mark *durable)
{
	struct ol_books *books = context;
	books->durable = *durable;
	if (books->publisher)
		ol_publisher_wake(books->publisher, durable);
}

static enum ol_status open_keeper(struct ol_books *books, const struct ol_books_options *o,
				  struct ol_error *err)
{
	const struct ol_bookkeeper_options options = {
		.ledger = {.disk = books->disk,
			   .clock = o->clock ? *o->clock : ol_clock_system,
			   .random = o->random ? *o->random : ol_random_system,
			   .limits = o->limits.accounts_max > 0 ? o->limits : OL_BOOKS_LIMITS,
			   .journal = o->journal},
		.on_commit = on_commit,
		.context = books};
	return ol_bookkeeper_open(&books->keeper, &books->opening, &options, err);
}

static enum ol_status open_publisher(struct ol_books *books, const struct ol_books_options *o,
				     struct ol_error *err)
{
	struct ol_publisher *publisher = NULL;
	enum ol_status s = ol_log_folder_open(&books->folder, books->paths.log, err);
	if (s != OL_OK)
		return s;
	books->store = ol_log_folder_store(books->folder);
	if (!books->signer)
		return OL_OK;
	books->log_key = *ol_signer_key(books->signer);
	s = ol_ledger_home_keep_key(&books->paths, &books->log_key, err);
	if (s == OL_OK)
		s = ol_log_signer_open(&books->log_signer, books->signer, &books->store.source,
				       o->witnesses, o->witness_count, err);
	if (s == OL_OK)
		ol_log_signer_also(books->log_signer, o->second_signer);
	const struct ol_publisher_options options = {
		.journal = &books->disk,
		.index = books->index,
		.store = &books->store,
		.log_key = &books->log_key,
		.signer = {.sign = ol_log_signer_sign, .self = books->log_signer},
		.interval_ms = o->interval_ms};
	if (s == OL_OK)
		s = ol_publisher_open(&publisher, &options, err);
	if (s != OL_OK)
		return s;
	/* Nobody posts yet: the bookkeeper's thread sees it with the first post. */
	books->publisher = publisher;
	ol_publisher_wake(publisher, &books->durable);
	return OL_OK;
}

enum ol_status ol_books_open(struct ol_books *books, const struct ol_home *home,
			     const struct ol_books_options *options, struct ol_error *err)
{
	memset(books, 0, sizeof *books);
	books->opened = true;
	books->signer = options->signer;
	enum ol_status s = ol_ledger_home(&books->paths, home, err);
	if (s == OL_OK)
		s = ol_secret_folder_make(books->paths.folder, err);
	if (s == OL_OK)
		s = ol_disk_open(&books->disk, books->paths.folder, err);
	books->has_disk = s == OL_OK;
	/* The ledger first: it takes the lock, so that nobody else writes the index. */
	if (s == OL_OK)
		s = open_keeper(books, options, err);
	if (s == OL_OK)
		s = ol_ledger_index_open(&books->index, books->paths.index, err);
	/* What was durable when the last life ended can be asked for from the start. */
	if (s == OL_OK && books->durable.sequence > 0)
		s = ol_ledger_index_catch_up(books->index, &books->disk, &books->durable, err);
	if (s == OL_OK)
		s = open_publisher(books, options, err);
	if (s != OL_OK)
		ol_books_close(books);
	return s;
}

void ol_books_close(struct ol_books *books)
{
	if (!books->opened)
		return;
	ol_bookkeeper_close(books->keeper);
	/* What does not become public now does at the next opening. */
	if (books->publisher) {
		(void)!ol_publisher_settle(books->publisher, CLOSING_MS, NULL);
		ol_publisher_close(books->publisher);
	} else if (books->index && books->durable.sequence > 0) {
		(void)!ol_ledger_index_catch_up(books->index, &books->disk, &books->durable, NULL);
	}
	ol_log_signer_close(books->log_signer);
	ol_ledger_index_close(books->index);
	ol_log_folder_close(books->folder);
	if (books->has_disk)
		ol_disk_close(&books->disk);
	memset(books, 0, sizeof *books);
}
