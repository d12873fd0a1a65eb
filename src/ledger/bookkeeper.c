#include "ledger/bookkeeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SEAL_AFTER_MS = 50 };

/* What a caller wants; it lies on his stack while he waits. */
struct job {
	struct job *next;
	struct ol_batch *batch; /* or */
	ol_book_look *look;
	void *context;
	enum ol_when when;
	bool judged, told;
	enum ol_status status;
	struct ol_error *err;
};

struct ol_bookkeeper {
	struct ol_bookkeeper_options options;
	struct ol_ledger *ledger;      /* the thread's alone once it runs */
	uint64_t transfers;            /* since the last snapshot         */
	struct ol_journal_mark covers; /* what the snapshot that is being written covers */
	bool snapshotting;             /* its thread is to be joined                     */
	atomic_bool snapshot_done;
	pthread_t thread, snapshot_thread;
	pthread_mutex_t mutex;
	pthread_cond_t arrived, told;
	/* Under the mutex. */
	struct job *first, **last;
	bool closing, stopped;
	struct ol_error failure; /* why it stopped */
};

static enum ol_status stopped_error(const struct ol_bookkeeper *keeper, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_IO, "the ledger has stopped (%s): start the node again",
		       keeper->failure.text);
}

/* --- the thread ------------------------------------------------------------------- */

/* Waits for jobs: *idle when the time for a seal has come instead. False: closing, and all done. */
static bool take_jobs(struct ol_bookkeeper *keeper, struct job **jobs, bool sealed, bool *idle)
{
	struct timespec until;
	bool more = true;

	*idle = false;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += SEAL_AFTER_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&keeper->mutex);
	while (!keeper->first && !keeper->closing && !*idle) {
		if (sealed)
			pthread_cond_wait(&keeper->arrived, &keeper->mutex);
		else
			*idle = pthread_cond_timedwait(&keeper->arrived, &keeper->mutex, &until) ==
				ETIMEDOUT;
	}
	*jobs = keeper->first;
	keeper->first = NULL;
	keeper->last = &keeper->first;
	if (!*jobs && keeper->closing)
		more = false;
	pthread_mutex_unlock(&keeper->mutex);
	return more;
}

static void tell(struct ol_bookkeeper *keeper, struct job *job, enum ol_status status)
{
	pthread_mutex_lock(&keeper->mutex);
	job->status = status;
	job->told = true;
	pthread_cond_broadcast(&keeper->told);
	pthread_mutex_unlock(&keeper->mutex);
}

/* Judges one job. *wrote: there is something to commit. The ledger's own failures are returned. */
static enum ol_status judge(struct ol_bookkeeper *keeper, struct job *job, bool *wrote,
			    struct ol_error *err)
{
	if (job->look) {
		job->look(job->context, ol_ledger_book(keeper->ledger));
		tell(keeper, job, OL_OK);
		return OL_OK;
	}
	/* The words of a refusal are the caller's; of a broken disk, everybody's. */
	const enum ol_status s = ol_ledger_post(keeper->ledger, job->batch, err);
	if (s != OL_OK) {
		if (ol_ledger_stopped(keeper->ledger))
			return s;
		if (job->err)
			*job->err = *err;
		tell(keeper, job, s);
		return OL_OK;
	}
	keeper->transfers += job->batch->postings.transfer_count;
	*wrote = *wrote || job->batch->sequence > 0;
	job->judged = true;
	if (job->when == OL_SOON)
		tell(keeper, job, OL_OK);
	return OL_OK;
}

/* A told job is its caller's again: its `next` must have been read before. */
static enum ol_status do_jobs(struct ol_bookkeeper *keeper, struct job *jobs, struct job **waiting,
			      bool *wrote, struct ol_error *err)
{
	struct job **last = waiting;

	*waiting = NULL;
	for (struct job *job = jobs, *next; job; job = next) {
		next = job->next;
		job->next = NULL;
		const bool waits = !job->look && job->when == OL_DURABLE;
		const enum ol_status s = judge(keeper, job, wrote, err);
		if (s != OL_OK) {
			job->next = next; /* this one and the rest are told of the end */
			*last = job;
			return s;
		}
		if (waits && job->judged) {
			*last = job;
			last = &job->next;
		}
	}
	return OL_OK;
}

static void tell_all(struct ol_bookkeeper *keeper, struct job *jobs, enum ol_status status)
{
	for (struct job *next; jobs; jobs = next) {
		next = jobs->next;
		tell(keeper, jobs, status);
	}
}

static void stop(struct ol_bookkeeper *keeper, struct job *waiting, const struct ol_error *why)
{
	pthread_mutex_lock(&keeper->mutex);
	keeper->stopped = true;
	keeper->failure = *why;
	struct job *more = keeper->first;
	keeper->first = NULL;
	keeper->last = &keeper->first;
	pthread_mutex_unlock(&keeper->mutex);
	for (struct job *job = waiting; job; job = job->next)
		(void)stopped_error(keeper, job->err);
	for (struct job *job = more; job; job = job->next)
		(void)stopped_error(keeper, job->err);
	tell_all(keeper, waiting, OL_ERR_IO);
	tell_all(keeper, more, OL_ERR_IO);
}

/* Only saves time at the next opening: a failure is not heard. */
static void *write_snapshot(void *context)
{
	struct ol_bookkeeper *keeper = context;
	const struct ol_ledger_options *o = &keeper->options.ledger;
	struct ol_error err;
	const enum ol_status s = ol_ledger_snapshot_beside(&o->disk, &keeper->covers, &o->limits,
							   ol_random_u64(&o->random), &err);

	(void)s;
	atomic_store(&keeper->snapshot_done, true);
	return NULL;
}

static void end_snapshot(struct ol_bookkeeper *keeper)
{
	if (keeper->snapshotting)
		pthread_join(keeper->snapshot_thread, NULL);
	keeper->snapshotting = false;
}

/* Now and then, so that a crash costs seconds, however long the node has run. */
static void consider_snapshot(struct ol_bookkeeper *keeper)
{
	if (keeper->snapshotting && atomic_load(&keeper->snapshot_done))
		end_snapshot(keeper);
	if (keeper->snapshotting || keeper->transfers < keeper->options.snapshot_transfers)
		return;
	keeper->covers = *ol_ledger_durable(keeper->ledger);
	atomic_store(&keeper->snapshot_done, false);
	if (pthread_create(&keeper->snapshot_thread, NULL, write_snapshot, keeper) != 0)
		return;
	keeper->snapshotting = true;
	keeper->transfers = 0;
}

static void *keep(void *context)
{
	struct ol_bookkeeper *keeper = context;
	struct job *jobs, *waiting;
	struct ol_error err;
	bool sealed = false, idle;

	while (take_jobs(keeper, &jobs, sealed, &idle)) {
		bool wrote = false;
		enum ol_status s = do_jobs(keeper, jobs, &waiting, &wrote, &err);
		if (s == OL_OK && wrote) {
			s = ol_ledger_commit(keeper->ledger, &err);
			sealed = false;
		}
		if (s == OL_OK && wrote && keeper->options.on_commit)
			keeper->options.on_commit(keeper->options.context,
						  ol_ledger_durable(keeper->ledger));
		if (s == OL_OK && idle) {
			s = ol_ledger_seal(keeper->ledger, &err);
			sealed = true;
		}
		if (s != OL_OK) {
			stop(keeper, waiting, &err);
			return NULL;
		}
		tell_all(keeper, waiting, OL_OK);
		if (wrote)
			consider_snapshot(keeper);
	}
	return NULL;
}

/* --- opening and closing ------------------------------------------------------------ */

enum ol_status ol_bookkeeper_open(struct ol_bookkeeper **keeper_out,
				  struct ol_ledger_opening *opening_out,
				  const struct ol_bookkeeper_options *options, struct ol_error *err)
{
	struct ol_bookkeeper *keeper = calloc(1, sizeof *keeper);
	struct ol_ledger_opening opening;

	*keeper_out = NULL;
	if (!keeper)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the ledger");
	keeper->options = *options;
	keeper->last = &keeper->first;
	if (options->snapshot_transfers == 0)
		keeper->options.snapshot_transfers = 100000;
	enum ol_status s = ol_ledger_open(&keeper->ledger, &opening, &options->ledger, err);
	if (s != OL_OK) {
		free(keeper);
		return s;
	}
	keeper->transfers = opening.replayed_transfers;
	if (opening_out)
		*opening_out = opening;
	pthread_mutex_init(&keeper->mutex, NULL);
	pthread_cond_init(&keeper->arrived, NULL);
	pthread_cond_init(&keeper->told, NULL);
	if (options->on_commit)
		options->on_commit(options->context, ol_ledger_durable(keeper->ledger));
	if (pthread_create(&keeper->thread, NULL, keep, keeper) != 0) {
		pthread_cond_destroy(&keeper->told);
		pthread_cond_destroy(&keeper->arrived);
		pthread_mutex_destroy(&keeper->mutex);
		ol_ledger_close(keeper->ledger);
		free(keeper);
		return ol_fail(err, OL_ERR_FULL, "no thread for the ledger: raise the limit");
	}
	*keeper_out = keeper;
	return OL_OK;
}

void ol_bookkeeper_close(struct ol_bookkeeper *keeper)
{
	struct ol_error err;

	if (!keeper)
		return;
	pthread_mutex_lock(&keeper->mutex);
	keeper->closing = true;
	pthread_cond_signal(&keeper->arrived);
	pthread_mutex_unlock(&keeper->mutex);
	pthread_join(keeper->thread, NULL);
	end_snapshot(keeper);
	/* A snapshot only saves time at the next opening; without one everything is read again. */
	if (!keeper->stopped) {
		const enum ol_status s = keeper->transfers >= keeper->options.snapshot_transfers
						 ? ol_ledger_snapshot(keeper->ledger, &err)
						 : ol_ledger_seal(keeper->ledger, &err);
		(void)s;
	}
	ol_ledger_close(keeper->ledger);
	pthread_cond_destroy(&keeper->told);
	pthread_cond_destroy(&keeper->arrived);
	pthread_mutex_destroy(&keeper->mutex);
	free(keeper);
}

/* --- callers ---------------------------------------------------------------------- */

static enum ol_status do_job(struct ol_bookkeeper *keeper, struct job *job)
{
	pthread_mutex_lock(&keeper->mutex);
	OL_ASSERT(!keeper->closing);
	if (keeper->stopped) {
		job->status = stopped_error(keeper, job->err);
	} else {
		*keeper->last = job;
		keeper->last = &job->next;
		pthread_cond_signal(&keeper->arrived);
		while (!job->told)
			pthread_cond_wait(&keeper->told, &keeper->mutex);
	}
	pthread_mutex_unlock(&keeper->mutex);
	return job->status;
}

enum ol_status ol_bookkeeper_post(struct ol_bookkeeper *keeper, struct ol_batch *batch,
				  enum ol_when when, struct ol_error *err)
{
	struct job job = {.batch = batch, .when = when, .err = err};

	return do_job(keeper, &job);
}

enum ol_status ol_bookkeeper_look(struct ol_bookkeeper *keeper, ol_book_look *look, void *context,
				  struct ol_error *err)
{
	struct job job = {.look = look, .context = context, .err = err};

	return do_job(keeper, &job);
}

struct finding {
	const struct ol_account_key *key;
	struct ol_account *account;
	bool *found;
};

static void find_account(void *context, const struct ol_book *book)
{
	struct finding *f = context;
	const struct ol_account *account = ol_book_find(book, f->key);

	*f->found = account != NULL;
	if (account)
		*f->account = *account;
}

enum ol_status ol_bookkeeper_account(struct ol_bookkeeper *keeper, struct ol_account *account_out,
				     bool *found, const struct ol_account_key *key,
				     struct ol_error *err)
{
	struct finding f = {key, account_out, found};

	return ol_bookkeeper_look(keeper, find_account, &f, err);
}

uint64_t ol_bookkeeper_now_ms(const struct ol_bookkeeper *keeper)
{
	const struct ol_clock *clock = &keeper->options.ledger.clock;

	return clock->now_ms(clock->self);
}

struct ol_id ol_bookkeeper_id(const struct ol_bookkeeper *keeper)
{
	uint8_t bytes[OL_ID_RANDOM_BYTES];
	const struct ol_random *random = &keeper->options.ledger.random;

	random->fill(random->self, bytes, sizeof bytes);
	return ol_id_make(ol_bookkeeper_now_ms(keeper), bytes);
}
