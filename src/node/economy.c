#include "node/economy.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "crypto/secret.h"
#include "crypto/secret_file.h"
#include "node/adapters.h"
#include "node/receipt_shares.h"

enum { IDENTITIES_MAX = 4096, SETTLE_MS = 600000 };

/* What stands behind a name, as of its files. */
struct identity {
	char name[OL_NAME_MAX + 1];
	struct timespec changed, noted; /* its weights, its manifest: an index may come later */
	off_t size;
	uint8_t adapter[32], snapshot[32], index[32];
};

struct ol_economy {
	struct ol_economy_options o;
	struct ol_signer *signer;
	struct ol_books books;
	bool books_open;
	struct ol_cashier *cashier;
	struct ol_service *service;
	struct ol_shaper *shaper; /* the clerk's */
	uint8_t base[32];
	pthread_mutex_t mutex; /* of the identities */
	struct identity *identities;
	size_t count, next;
	pthread_mutex_t epochs; /* whoever closes some */
	uint64_t epoch;         /* of the last tick that did its work */
};

/* --- names -------------------------------------------------------------------------- */

/* Of a folder without a manifest: the hash that the engine will find, which is that of its bf16
 * tensors (model/adapter.h), whatever types its file has. */
static enum ol_status hash_folder(const struct ol_economy *e, uint8_t out[32], const char *folder,
				  struct ol_error *err)
{
	struct ol_adapter *adapter;
	const struct ol_runtime *r = ol_service_runtime(e->service);
	const enum ol_status s = ol_adapter_open(&adapter, folder, ol_model_config(r->model), err);

	if (s != OL_OK)
		return s;
	memcpy(out, ol_adapter_sha256(adapter), 32);
	ol_adapter_close(adapter);
	return OL_OK;
}

/* The manifest says what the adapter is made of; the pool refuses a file that is not what its
 * manifest says. */
static enum ol_status read_identity(const struct ol_economy *e, struct identity *i,
				    const char *folder, struct ol_error *err)
{
	struct ol_manifest manifest;
	bool found = false;

	ol_manifest_init(&manifest);
	enum ol_status s = ol_adapter_manifest(&manifest, &found, folder, err);
	memset(i->snapshot, 0, sizeof i->snapshot);
	memset(i->index, 0, sizeof i->index);
	if (s == OL_OK && found) {
		memcpy(i->adapter, manifest.adapter_sha256, 32);
		if (manifest.trained)
			memcpy(i->snapshot, manifest.snapshot_sha256, 32);
		if (manifest.indexed)
			memcpy(i->index, manifest.index_root, 32);
	} else if (s == OL_OK) {
		s = hash_folder(e, i->adapter, folder, err);
	}
	ol_manifest_release(&manifest);
	return s;
}

/* Under the mutex: a place for the name, perhaps another's. */
static struct identity *place_of(struct ol_economy *e, const char *name)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->identities[i].name, name) == 0)
			return &e->identities[i];
	struct identity *place = &e->identities[e->next];
	e->next = (e->next + 1) % IDENTITIES_MAX;
	e->count = OL_MIN(e->count + 1, (size_t)IDENTITIES_MAX);
	*place = (struct identity){0};
	return place;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static enum ol_status look_up(struct ol_economy *e, struct identity *out, const char *name,
			      const char *folder, struct ol_error *err)
{
	char path[OL_PATH_MAX], manifest[OL_PATH_MAX];
	struct stat now, noted = {0};
	enum ol_status s = ol_path_join(path, err, folder, "/adapter_model.safetensors", "");

	if (s == OL_OK)
		s = ol_path_join(manifest, err, folder, "/manifest.json", "");
	if (s == OL_OK && stat(manifest, &noted) != 0)
		noted = (struct stat){0}; /* not every folder has one */

	if (s == OL_OK && stat(path, &now) != 0)
		s = ol_fail(err, OL_ERR_NOT_FOUND, "%s is gone", path);
	if (s != OL_OK)
		return s;
	pthread_mutex_lock(&e->mutex);
	struct identity *i = place_of(e, name);
	if (!i->name[0] || i->size != now.st_size || !same_time(i->changed, now.st_mtim) ||
	    !same_time(i->noted, noted.st_mtim)) {
		i->name[0] = '\0';
		s = read_identity(e, i, folder, err);
		i->size = now.st_size;
		i->changed = now.st_mtim;
		i->noted = noted.st_mtim;
		if (s == OL_OK)
			(void)snprintf(i->name, sizeof i->name, "%s", name);
	}
	*out = *i;
	pthread_mutex_unlock(&e->mutex);
	return s;
}

static bool identify(void *self, const char *model, uint8_t adapter[32], uint8_t snapshot[32],
		     uint8_t index[32])
{
	struct ol_economy *e = self;
	struct ol_served served;
	struct identity i;

	/* What cannot be read now will be refused by the pool, by name. */
	if (!e->service || !ol_service_find(e->service, &served, model) || !served.folder[0] ||
	    look_up(e, &i, model, served.folder, NULL) != OL_OK)
		return false;
	memcpy(adapter, i.adapter, 32);
	memcpy(snapshot, i.snapshot, 32);
	memcpy(index, i.index, 32);
	return true;
}

static enum ol_status shares(void *self, uint8_t root[32], json_t **detail, uint8_t index[32],
			     const char *model, const uint8_t adapter[32],
			     const struct ol_opening *opening, const uint8_t request[32],
			     struct ol_error *err)
{
	struct ol_economy *e = self;
	struct ol_served served;

	memset(root, 0, 32);
	*detail = NULL;
	if (!e->shaper || !ol_service_find(e->service, &served, model)) {
		memset(index, 0, 32);
		return OL_OK;
	}
	return ol_shaper_shares(e->shaper, root, detail, index, served.folder, adapter, opening,
				request, err);
}

enum ol_status ol_economy_model(struct ol_economy *e, uint8_t id_out[32], const char *name,
				struct ol_error *err)
{
	struct ol_served served;
	struct identity i;

	if (!e->service || !ol_service_find(e->service, &served, name))
		return ol_fail(err, OL_ERR_NOT_FOUND, "no model \"%.128s\" is served here", name);
	if (!served.folder[0]) {
		memcpy(id_out, e->base, 32);
		return OL_OK;
	}
	const enum ol_status s = look_up(e, &i, name, served.folder, err);
	if (s == OL_OK)
		memcpy(id_out, i.adapter, 32);
	return s;
}

/* --- accounting ---------------------------------------------------------------------- */

struct both {
	void *charge;
	struct ol_reservation budget;
};

static bool reserve(void *self, void **charge, struct ol_refusal *refusal, const struct ol_ask *ask,
		    uint64_t prompt_tokens, uint64_t completion_max, struct ol_error *err)
{
	struct ol_economy *e = self;
	const struct ol_accounting cashier = ol_cashier_accounting(e->cashier);
	struct both *both = calloc(1, sizeof *both);
	const uint64_t tokens = OL_MIN(prompt_tokens + completion_max, (uint64_t)INT64_MAX);
	enum ol_verdict verdict = OL_VERDICT_OK;
	int retry = 0;

	if (!both) {
		*refusal = (struct ol_refusal){503, "server_error", "no_memory", 1};
		(void)ol_fail(err, OL_ERR_FULL, "out of memory");
		return false;
	}
	if (!cashier.reserve(cashier.self, &both->charge, refusal, ask, prompt_tokens,
			     completion_max, err)) {
		free(both);
		return false;
	}
	if (e->o.keys && ask->caller)
		verdict = ol_keys_reserve(e->o.keys, &both->budget, &retry, ask->caller,
					  (int64_t)tokens, ol_cashier_most(both->charge));
	if (verdict != OL_VERDICT_OK) {
		const struct ol_verdict_row *row = ol_verdict_row(verdict);
		*refusal = (struct ol_refusal){row->http, row->type, row->code,
					       row->retry ? retry : 0};
		(void)ol_fail(err, OL_ERR_FULL, "%s", row->sentence);
		cashier.release(cashier.self, both->charge);
		free(both);
		return false;
	}
	*charge = both;
	return true;
}

static void settle(struct ol_economy *e, struct both *both, const struct ol_ask *ask,
		   uint64_t tokens, struct ol_amount amount)
{
	if (e->o.keys && (!ask || ask->caller) && both->budget.key)
		ol_keys_settle(e->o.keys, &both->budget, (int64_t)tokens, amount);
	free(both);
}

static enum ol_status post(void *self, void *charge, json_t **receipt,
			   const struct ol_answered *answered, struct ol_error *err)
{
	struct ol_economy *e = self;
	struct both *both = charge;
	const struct ol_usage *u = &answered->usage;
	struct ol_amount amount;
	const enum ol_status s =
		ol_cashier_post(e->cashier, both->charge, receipt, &amount, answered, err);

	settle(e, both, answered->ask, s == OL_OK ? u->prompt_tokens + u->completion_tokens : 0,
	       amount);
	return s;
}

static void release(void *self, void *charge)
{
	struct ol_economy *e = self;
	struct both *both = charge;
	const struct ol_accounting cashier = ol_cashier_accounting(e->cashier);

	if (!both)
		return;
	cashier.release(cashier.self, both->charge);
	settle(e, both, NULL, 0, ol_amount(0));
}

static uint64_t seed(void *self, void *charge, const struct ol_ask *ask)
{
	struct ol_economy *e = self;
	const struct ol_accounting cashier = ol_cashier_accounting(e->cashier);

	return cashier.seed(cashier.self, ((struct both *)charge)->charge, ask);
}

static json_t *price(void *self, const char *model)
{
	struct ol_economy *e = self;
	const struct ol_accounting cashier = ol_cashier_accounting(e->cashier);

	return cashier.price(cashier.self, model);
}

struct ol_accounting ol_economy_accounting(struct ol_economy *e)
{
	return (struct ol_accounting){.reserve = reserve,
				      .post = post,
				      .release = release,
				      .seed = seed,
				      .price = price,
				      .self = e};
}

void ol_economy_attach(struct ol_economy *e, struct ol_service *service)
{
	e->service = service;
	ol_cashier_set_room(e->cashier, (uint32_t)ol_service_room(service));
}

/* --- epochs ------------------------------------------------------------------------ */

enum ol_status ol_economy_close_epochs(struct ol_economy *e, bool early,
				       void (*paid)(void *context,
						    const struct ol_epoch_paid *paid),
				       void *context, struct ol_error *err)
{
	pthread_mutex_lock(&e->epochs);
	enum ol_status s = ol_publisher_settle(e->books.publisher, SETTLE_MS, err);
	if (s == OL_OK)
		s = ol_epoch_close_all(&e->books, e->o.home, early, paid, context, err);
	pthread_mutex_unlock(&e->epochs);
	return s;
}

enum ol_status ol_economy_tick(struct ol_economy *e, struct ol_error *err)
{
	const uint64_t epoch = ol_receipt_epoch(ol_bookkeeper_now_ms(e->books.keeper));

	if (epoch == e->epoch)
		return OL_OK;
	e->epoch = epoch; /* a failure is tried again in an hour, and when the node starts */
	return ol_economy_close_epochs(e, false, NULL, NULL, err);
}

struct ol_books *ol_economy_books(struct ol_economy *e)
{
	return &e->books;
}

const struct ol_home *ol_economy_home(const struct ol_economy *e)
{
	return e->o.home;
}

struct ol_cashier *ol_economy_cashier(struct ol_economy *e)
{
	return e->cashier;
}

/* --- opening ---------------------------------------------------------------------------- */

static enum ol_status open_signer(struct ol_economy *e, struct ol_error *err)
{
	struct ol_ledger_home paths;
	char origin[64];
	enum ol_status s = ol_ledger_home(&paths, e->o.home, err);

	if (s == OL_OK && !ol_signer_exists(paths.signer)) {
		/* A name that no other node chose: logs of two nodes are never one. */
		(void)snprintf(origin, sizeof origin, "openledger.local/%016llx",
			       (unsigned long long)ol_random_u64(&ol_random_system));
		s = ol_signer_create(paths.signer, e->o.origin ? e->o.origin : origin,
				     &ol_random_system, err);
	}
	return s == OL_OK ? ol_signer_start(&e->signer, paths.signer, e->o.program, err) : s;
}

/* The secret behind the payers' pseudonyms, made once. */
static enum ol_status read_secret(uint8_t secret[32], const struct ol_home *home,
				  struct ol_error *err)
{
	char path[OL_PATH_MAX];
	size_t size = 0;
	enum ol_status s = ol_path_join(path, err, home->path, "/signer/payers.key", "");

	if (s == OL_OK && access(path, F_OK) != 0) {
		ol_random_system.fill(ol_random_system.self, secret, 32);
		return ol_secret_file_create(path, secret, 32, err);
	}
	if (s == OL_OK)
		s = ol_secret_file_read(path, secret, 32, &size, err);
	if (s == OL_OK && size != 32)
		s = ol_fail(err, OL_ERR_INPUT, "%s is damaged: restore it from a backup", path);
	return s;
}

struct restoring {
	struct ol_economy *economy;
	enum ol_status status;
	struct ol_error *err;
	uint64_t next;
};

static bool restore_event(void *context, const struct ol_indexed_event *event)
{
	struct restoring *r = context;

	r->next = event->index + 1;
	if (event->kind == OL_EVENT_LISTING)
		r->status =
			ol_cashier_restore(r->economy->cashier, event->bytes, event->size, r->err);
	return r->status == OL_OK;
}

/* The prices in force: the newest listing of each model. */
static enum ol_status restore_listings(struct ol_economy *e, struct ol_error *err)
{
	struct restoring r = {.economy = e, .err = err};
	struct ol_ledger_index_sums sums;
	/* The books are opened with the index at all that was durable. */
	enum ol_status s = ol_ledger_index_sums(e->books.index, &sums, err);

	while (s == OL_OK && r.status == OL_OK && r.next < sums.events) {
		const uint64_t before = r.next;
		s = ol_ledger_index_events_from(e->books.index, r.next, 4096, restore_event, &r,
						err);
		if (r.next == before)
			break;
	}
	return s == OL_OK ? r.status : s;
}

/* What the last life of this node held and never ended: nobody can answer it any more. */
struct left_over {
	struct ol_transfer *voids;
	uint32_t count;
	bool failed;
};

static void find_left_over(void *context, const struct ol_book *book)
{
	struct left_over *l = context;
	struct ol_transfer held;

	l->voids = calloc(ol_book_pending_count(book) + 1, sizeof *l->voids);
	l->failed = !l->voids;
	for (uint32_t at = 0; !l->failed && ol_book_next_reserved(book, &held, &at);)
		if (held.code == OL_CODE_PRICE && held.credit.kind == OL_ACCOUNT_CLEARING)
			l->voids[l->count++] = (struct ol_transfer){.debit = held.debit,
								    .credit = held.credit,
								    .pending_id = held.id,
								    .code = OL_CODE_PRICE,
								    .flags = OL_TRANSFER_VOID};
}

static enum ol_status release_left_over(struct ol_bookkeeper *keeper, struct ol_error *err)
{
	uint8_t results[1024];
	struct left_over l = {0};
	enum ol_status s = ol_bookkeeper_look(keeper, find_left_over, &l, err);

	if (s == OL_OK && l.failed)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the reservations");
	for (uint32_t done = 0; done < l.count && s == OL_OK; done += sizeof results) {
		const uint32_t count = OL_MIN(l.count - done, (uint32_t)sizeof results);
		for (uint32_t i = 0; i < count; i++)
			l.voids[done + i].id = ol_bookkeeper_id(keeper);
		struct ol_batch batch = {
			.postings = {.transfers = l.voids + done, .transfer_count = count},
			.transfer_results = results};
		s = ol_bookkeeper_post(keeper, &batch, OL_DURABLE, err);
	}
	free(l.voids);
	return s;
}

static enum ol_status open_inside(struct ol_economy *e, struct ol_error *err)
{
	struct ol_cashier_options cashier = {.sign = ol_books_sign,
					     .signer = &e->books,
					     .checkpoint = ol_books_checkpoint,
					     .log = &e->books,
					     .identify = identify,
					     .models = e,
					     .shares = shares,
					     .kv_type = e->o.kv_type,
					     .room = 1};
	enum ol_status s = open_signer(e, err);

	if (s == OL_OK) {
		const struct ol_books_options books = {.signer = e->signer,
						       .witnesses = e->o.witnesses,
						       .witness_count = e->o.witness_count};
		s = ol_books_open(&e->books, e->o.home, &books, err);
		e->books_open = s == OL_OK;
	}
	if (s == OL_OK)
		s = release_left_over(e->books.keeper, err);
	if (s == OL_OK)
		s = read_secret(cashier.secret, e->o.home, err);
	if (s == OL_OK) {
		cashier.keeper = e->books.keeper;
		memcpy(cashier.node, e->books.log_key.public_key, 32);
		memcpy(cashier.base, e->base, 32);
		s = ol_cashier_open(&e->cashier, &cashier, err);
	}
	ol_wipe(cashier.secret, sizeof cashier.secret);
	if (s == OL_OK)
		s = ol_shaper_open(&e->shaper, e->o.home, e->o.base, e->o.tokenizer, err);
	return s == OL_OK ? restore_listings(e, err) : s;
}

enum ol_status ol_economy_open(struct ol_economy **economy_out,
			       const struct ol_economy_options *options, struct ol_error *err)
{
	struct ol_economy *e = calloc(1, sizeof *e);

	*economy_out = NULL;
	if (e)
		e->identities = calloc(IDENTITIES_MAX, sizeof *e->identities);
	if (!e || !e->identities) {
		free(e);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the ledger");
	}
	e->o = *options;
	memcpy(e->base, ol_model_id(options->base), sizeof e->base);
	pthread_mutex_init(&e->mutex, NULL);
	pthread_mutex_init(&e->epochs, NULL);
	const enum ol_status s = open_inside(e, err);
	if (s != OL_OK) {
		ol_economy_close(e);
		return s;
	}
	*economy_out = e;
	return OL_OK;
}

void ol_economy_close(struct ol_economy *e)
{
	if (!e)
		return;
	ol_shaper_close(e->shaper);
	ol_cashier_close(e->cashier);
	if (e->books_open)
		ol_books_close(&e->books);
	if (e->signer)
		ol_signer_stop(e->signer);
	pthread_mutex_destroy(&e->epochs);
	pthread_mutex_destroy(&e->mutex);
	free(e->identities);
	free(e);
}
