#include "tests/support_crash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MODELS = 64, BATCH = 12, EVENTS_MAX = 3, EVENT_BYTES = 700, TRANSFERS_KEPT = 200 };

/* The plain book after a record, and how many events were logged by then. */
struct model {
	struct ol_naive_book book;
	uint64_t sequence, events;
};

struct run {
	struct ol_sim_disk *sim;
	struct ol_world world;
	struct ol_ledger *ledger;
	struct ol_dice dice;
	struct model models[MODELS]; /* of the records since the last opening, ascending */
	int model_count;
	uint64_t acknowledged; /* sequence */
	struct ol_crash_tally *tally;
	char *why;
};

static uint64_t world_now(void *self)
{
	return ((struct ol_world *)self)->now_ms;
}

static void world_fill(void *self, void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)bytes)[i] = (uint8_t)ol_dice_next(&((struct ol_world *)self)->dice);
}

struct ol_ledger_options ol_crash_ledger(struct ol_sim_disk *sim, struct ol_world *world)
{
	return (struct ol_ledger_options){
		.disk = ol_sim_disk_table(sim),
		.clock = {world, world_now},
		.random = {world, world_fill},
		.limits = {96, 4000, 1000},
		.journal = {.segment_bytes = 32768, .group_bytes = 16384}};
}

static int dice(struct run *r, int count)
{
	return ol_dice_between(&r->dice, 0, count - 1);
}

static bool broken(struct run *r, const char *what)
{
	if (!r->why[0])
		snprintf(r->why, OL_ERROR_TEXT_MAX, "%s", what);
	return false;
}

/* ---- Models ------------------------------------------------------------ */

static struct model *newest(struct run *r)
{
	return &r->models[r->model_count - 1];
}

static void push_model(struct run *r, uint64_t sequence, uint64_t events)
{
	assert_true(r->model_count < MODELS);
	struct model *m = &r->models[r->model_count++];
	ol_naive_copy(&m->book, &r->models[r->model_count - 2].book);
	m->sequence = sequence;
	m->events = events;
}

/* The model of the last record that holds anything, up to this sequence: the others are seals. */
static void rewind_models(struct run *r, uint64_t sequence)
{
	while (r->model_count > 1 && newest(r)->sequence > sequence)
		r->model_count--;
	if (r->model_count > 1) {
		const struct model last = *newest(r);
		*newest(r) = r->models[0];
		r->models[0] = last;
		r->model_count = 1;
	}
}

/* ---- Steps ------------------------------------------------------------ */

static void random_events(struct run *r, struct ol_event *events, uint8_t *bytes, uint32_t count,
			  uint32_t transfers)
{
	for (uint32_t i = 0; i < count; i++) {
		const int size = dice(r, EVENT_BYTES);
		const uint32_t first = transfers ? (uint32_t)dice(r, (int)transfers) : 0;
		const uint32_t of = dice(r, 3) || !transfers
					    ? 0
					    : (uint32_t)dice(r, (int)(transfers - first) + 1);
		for (int b = 0; b < size; b++)
			bytes[i * EVENT_BYTES + (uint32_t)b] = (uint8_t)(i + (uint32_t)b);
		events[i] = (struct ol_event){bytes + i * EVENT_BYTES, (uint32_t)size,
					      (uint16_t)(1 + i), first, of};
	}
}

static uint64_t count_logged(const struct ol_event *events, uint32_t count, const uint8_t *results)
{
	uint64_t logged = 0;
	for (uint32_t i = 0; i < count; i++) {
		bool paid = true;
		for (uint32_t t = 0; t < events[i].transfer_count; t++)
			paid &= results[events[i].first_transfer + t] == OL_POST_OK;
		logged += paid;
	}
	return logged;
}

/* *failed_out: the disk refused. false: a rule is broken. */
static bool post(struct run *r, bool *failed_out)
{
	uint8_t ops[2][OL_WORLD_BATCH_MAX], results[2][OL_WORLD_BATCH_MAX];
	uint8_t event_bytes[EVENTS_MAX * EVENT_BYTES];
	struct ol_event events[EVENTS_MAX];
	uint64_t indexes[EVENTS_MAX];
	struct ol_batch batch = {.events = events,
				 .event_count = (uint32_t)dice(r, EVENTS_MAX + 1),
				 .account_results = ops[0],
				 .transfer_results = results[0],
				 .event_indexes = indexes};
	struct ol_error err;
	struct ol_naive_book *book = &newest(r)->book;
	if (book->account_count == 0)
		ol_world_open_accounts(&r->world, &batch.postings);
	else
		ol_world_batch(&r->world, &batch.postings, BATCH);
	random_events(r, events, event_bytes, batch.event_count, batch.postings.transfer_count);
	ol_world_wait(&r->world);
	const enum ol_status s = ol_ledger_post(r->ledger, &batch, &err);
	if (s != OL_OK) {
		*failed_out = true;
		return ol_ledger_stopped(r->ledger) || broken(r, err.text);
	}
	const uint64_t before = newest(r)->sequence;
	r->tally->batches++;
	if (batch.sequence != 0 && batch.sequence <= before)
		return broken(r, "a record stands before the one before it");
	/* What was refused and not written is not in the model either: not even its time. */
	push_model(r, batch.sequence, newest(r)->events);
	book = &newest(r)->book;
	ol_naive_post(book, ops[1], results[1], &batch.postings, batch.timestamp_ms);
	newest(r)->events += count_logged(events, batch.event_count, results[1]);
	if (memcmp(ops[0], ops[1], batch.postings.account_count) != 0 ||
	    memcmp(results[0], results[1], batch.postings.transfer_count) != 0)
		return broken(r, "the book answers otherwise than the plain book");
	const char *difference = ol_naive_difference(book, ol_ledger_book(r->ledger));
	if (batch.sequence == 0)
		r->model_count--;
	return difference ? broken(r, difference) : true;
}

static bool step(struct run *r, bool *failed_out)
{
	struct ol_error err;
	enum ol_status s;
	const int kind = dice(r, 100);
	if (kind < 72 && r->model_count < MODELS)
		return post(r, failed_out);
	if (kind < 91) {
		s = ol_ledger_commit(r->ledger, &err);
	} else if (kind < 94) {
		s = ol_ledger_seal(r->ledger, &err);
	} else if (kind < 98) {
		/* Beside the writer, which may have written more than it has made durable. */
		const struct ol_ledger_options o = ol_crash_ledger(r->sim, &r->world);
		s = ol_ledger_durable(r->ledger)->sequence == 0
			    ? OL_OK
			    : ol_ledger_snapshot_beside(&o.disk, ol_ledger_durable(r->ledger),
							&o.limits, 3, &err);
		r->tally->snapshots += s == OL_OK;
		if (s == OL_ERR_INPUT)
			return broken(r, err.text);
		return true; /* a failure costs nothing; the next call of the ledger says more */
	} else {
		s = ol_ledger_snapshot(r->ledger, &err);
		r->tally->snapshots += s == OL_OK;
		/* A snapshot that fails costs nothing but itself. */
		if (s != OL_OK && !ol_ledger_stopped(r->ledger))
			return true;
	}
	*failed_out = s != OL_OK;
	if (s == OL_OK) {
		r->acknowledged = ol_ledger_durable(r->ledger)->sequence;
		r->tally->acknowledged++;
	}
	return true;
}

/* ---- Breaking and opening ------------------------------------------------------------ */

enum { BREAK_POWER, BREAK_KILL, BREAK_CUT, BREAK_EIO, BREAK_ENOSPC, BREAK_CLOSE };

static bool compare_opened(struct run *r)
{
	const struct ol_journal_mark *mark = ol_ledger_durable(r->ledger);
	if (mark->sequence < r->acknowledged)
		return broken(r, "an acknowledged batch is lost");
	rewind_models(r, mark->sequence);
	struct model *m = newest(r);
	m->sequence = OL_MAX(m->sequence, mark->sequence);
	ol_naive_advance(&m->book,
			 OL_MAX(ol_book_now_ms(ol_ledger_book(r->ledger)), m->book.now_ms));
	if (mark->event_count != m->events)
		return broken(r, "another number of events");
	struct ol_error err;
	if (ol_book_check(ol_ledger_book(r->ledger), &err) != OL_OK)
		return broken(r, err.text);
	const char *difference = ol_naive_difference(&m->book, ol_ledger_book(r->ledger));
	return difference ? broken(r, difference) : true;
}

/* The model's clock may be ahead of the last record's: posted, refused, never written. */
static bool open_again(struct run *r)
{
	const struct ol_ledger_options options = ol_crash_ledger(r->sim, &r->world);
	struct ol_ledger_opening opening;
	struct ol_error err;
	/* Now and then it breaks while it recovers. */
	for (int i = dice(r, 4) == 0 ? dice(r, 4) : 0; i > 0; i--) {
		ol_sim_disk_fault(r->sim, (uint64_t)(1 + dice(r, 40)),
				  (enum ol_sim_fault)dice(r, 3));
		if (ol_ledger_open(&r->ledger, NULL, &options, &err) == OL_OK) {
			ol_sim_disk_fault(r->sim, 0, OL_SIM_EIO);
			if (!compare_opened(r))
				return false;
			r->acknowledged = ol_ledger_durable(r->ledger)->sequence;
			ol_ledger_close(r->ledger);
		}
		r->ledger = NULL;
		if (dice(r, 2))
			ol_sim_disk_crash(r->sim);
		else
			ol_sim_disk_kill(r->sim);
	}
	if (ol_ledger_open(&r->ledger, &opening, &options, &err) != OL_OK) {
		r->ledger = NULL;
		return broken(r, err.text);
	}
	r->tally->cuts += opening.cut > 0;
	r->tally->from_snapshot += opening.snapshot > 0;
	if (!compare_opened(r))
		return false;
	r->acknowledged = ol_ledger_durable(r->ledger)->sequence;
	return true;
}

static bool check_all(struct run *r)
{
	const struct ol_disk disk = ol_sim_disk_table(r->sim);
	const struct ol_book_limits limits = {96, 4000, 1000};
	struct ol_ledger_report report;
	struct ol_error err;
	if (ol_ledger_check(&disk, &report, &limits, 1, false, &err) != OL_OK)
		return broken(r, err.text);
	r->tally->checks++;
	return report.end.sequence == ol_ledger_durable(r->ledger)->sequence ||
	       broken(r, "the check ends elsewhere");
}

static bool break_it(struct run *r, int kind, const struct ol_crash_options *o, bool first)
{
	static const enum ol_sim_fault faults[] = {
		[BREAK_CUT] = OL_SIM_CUT, [BREAK_EIO] = OL_SIM_EIO, [BREAK_ENOSPC] = OL_SIM_ENOSPC};
	bool failed = false;
	const bool by_fault = kind >= BREAK_CUT && kind <= BREAK_ENOSPC;
	if (first && o->fault_call)
		ol_sim_disk_fault(r->sim, o->fault_call, o->fault);
	else if (by_fault)
		ol_sim_disk_fault(r->sim, (uint64_t)(1 + dice(r, o->steps_max / 2 + 1)),
				  faults[kind]);
	for (int i = dice(r, o->steps_max) + 1; i > 0 && !failed; i--)
		if (!step(r, &failed))
			return false;
	/* A ledger that has stopped says so, and changes nothing. */
	struct ol_error err;
	if (failed && ol_ledger_commit(r->ledger, &err) == OL_OK)
		return broken(r, "a stopped ledger went on");
	if (kind == BREAK_CLOSE && !failed && ol_ledger_seal(r->ledger, &err) == OL_OK)
		r->acknowledged = ol_ledger_durable(r->ledger)->sequence;
	ol_ledger_close(r->ledger);
	r->ledger = NULL;
	/* After a fault the machine may go on, and the cache shows what the disk never got. */
	if (kind == BREAK_KILL || kind == BREAK_CLOSE || (failed && dice(r, 2)))
		ol_sim_disk_kill(r->sim);
	else
		ol_sim_disk_crash(r->sim);
	r->tally->kinds[kind]++;
	r->tally->recoveries++;
	return true;
}

/* Those that strike while something is being written, more often than the others. */
static int random_break(struct run *r)
{
	static const int kinds[] = {BREAK_POWER, BREAK_KILL, BREAK_CUT,    BREAK_CUT,   BREAK_CUT,
				    BREAK_EIO,   BREAK_EIO,  BREAK_ENOSPC, BREAK_CLOSE, BREAK_CUT};
	return kinds[dice(r, OL_ARRAY_LEN(kinds))];
}

/* Long histories make the plain book slow: begin a new one. */
static void new_ledger(struct run *r, uint64_t seed)
{
	ol_ledger_close(r->ledger);
	r->ledger = NULL;
	if (r->sim)
		ol_sim_disk_close(r->sim);
	for (int i = 0; i < MODELS; i++) {
		r->models[i].book.account_count = r->models[i].book.transfer_count = 0;
		r->models[i].book.now_ms = 0;
		r->models[i].sequence = r->models[i].events = 0;
	}
	r->model_count = 1;
	r->acknowledged = 0;
	r->sim = ol_sim_disk_open(seed);
	ol_world_init(&r->world, seed);
}

bool ol_crash_run(const struct ol_crash_options *o, struct ol_crash_tally *tally,
		  char why[OL_ERROR_TEXT_MAX])
{
	struct run *r = calloc(1, sizeof *r);
	bool held = true;
	assert_non_null(r);
	r->dice.state = o->seed ^ 0x5eed;
	r->tally = tally;
	r->why = why;
	why[0] = '\0';
	new_ledger(r, o->seed);
	held = open_again(r);
	for (int i = 0; i < o->recoveries && held; i++) {
		held = break_it(r, random_break(r), o, i == 0) && open_again(r);
		if (held && dice(r, 8) == 0)
			held = check_all(r);
		if (held && newest(r)->book.transfer_count > TRANSFERS_KEPT) {
			new_ledger(r, o->seed + (uint64_t)i + 1);
			held = open_again(r);
		}
	}
	ol_ledger_close(r->ledger);
	ol_sim_disk_close(r->sim);
	for (int i = 0; i < MODELS; i++)
		ol_naive_release(&r->models[i].book);
	free(r);
	return held;
}
