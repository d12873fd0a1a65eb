/* node/scheduler_step.c: one step of the engine for all. */
#include "model/embedding.h"
#include "node/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

/* Rows of prompts a step takes beside answers under way, at the least. */
enum { PROMPT_ROWS_MIN = OL_KV_PAGE };

/* Weight of the newest measurement in the running means. */
static const double NEWEST = 0.125;

/* Tokens that have not been run yet. */
static int left(const struct ol_ticket *t)
{
	return (int)ol_answer_history(t->answer)->count - ol_session_length(t->session);
}

static int count_decoding(const struct ol_scheduler *s)
{
	int count = 0;
	for (int i = 0; i < s->running_count; i++)
		count += left(s->running[i]) == 1;
	return count;
}

/* How many rows of prompts go into a step with `decoding` answers, so that these wait no longer
 * than the bound: the larger of stall_seconds and twice their usual step. */
static int prompt_rows(const struct ol_scheduler *s, int decoding)
{
	const int room = s->step_rows - decoding;
	if (decoding == 0)
		return room;
	const double bound = OL_MAX(s->o.stall_seconds, 2.0 * s->stats.step_seconds);
	if (s->row_seconds == 0.0)
		return OL_MIN(room, PROMPT_ROWS_MIN);
	const double rows = (bound - s->stats.step_seconds) / s->row_seconds;
	return OL_MIN(room, (int)OL_MIN(OL_MAX(rows, (double)PROMPT_ROWS_MIN), 1e6));
}

static void add_run(struct ol_scheduler *s, int index, struct ol_ticket *t, int count, int row0)
{
	const size_t vocab = (size_t)s->config->vocab_size, hidden = (size_t)s->config->hidden;
	const bool last = count == left(t) && !t->embedding;
	s->run_tickets[index] = t;
	s->runs[index] = (struct ol_run){
		.session = t->session,
		.tokens = ol_answer_history(t->answer)->ids + ol_session_length(t->session),
		.count = count,
		.want = last ? OL_LOGITS_LAST : OL_LOGITS_NONE,
		.logits = last ? s->logits + (size_t)index * vocab : NULL,
		.hidden = t->embedding ? s->hidden + (size_t)row0 * hidden : NULL,
		.adapter = t->pooled ? ol_adapter_views(ol_pooled_adapter(t->pooled)) : NULL,
	};
}

/* Answers under way first, then prompts in the order of admission. */
static int compose(struct ol_scheduler *s, int *prompt_rows_out)
{
	int count = 0, row = 0, budget = prompt_rows(s, count_decoding(s));
	const int before = budget;
	for (int i = 0; i < s->running_count; i++)
		if (left(s->running[i]) == 1)
			add_run(s, count++, s->running[i], 1, row++);
	for (int i = 0; i < s->running_count && budget > 0; i++) {
		const int wanted = left(s->running[i]);
		if (wanted == 1)
			continue;
		const int rows = OL_MIN(wanted, budget);
		budget -= rows;
		add_run(s, count++, s->running[i], rows, row);
		row += rows;
	}
	*prompt_rows_out = before - budget;
	return count;
}

/* Pages for a step of all; those who came last make room. */
static void make_room(struct ol_scheduler *s)
{
	for (;;) {
		int unused;
		int64_t pages = 0;
		const int count = compose(s, &unused), running = s->running_count;
		for (int i = 0; i < count; i++)
			pages += ol_pages_for(s->runs[i].session, s->runs[i].count);
		OL_ASSERT(ol_scheduler_make_pages(s, pages, true) || s->running_count == 1);
		if (s->running_count == running)
			return;
	}
}

static void measure(struct ol_scheduler *s, double seconds, int decoding, int rows)
{
	double *step = &s->stats.step_seconds;
	if (decoding > 0 && rows == 0)
		*step = *step == 0.0 ? seconds : *step + NEWEST * (seconds - *step);
	if (rows >= PROMPT_ROWS_MIN) {
		const double each = OL_MAX(seconds - (decoding > 0 ? *step : 0.0), 0.0) / rows;
		s->row_seconds = s->row_seconds == 0.0
					 ? each
					 : s->row_seconds + NEWEST * (each - s->row_seconds);
	}
}

static int index_of(const struct ol_scheduler *s, const struct ol_ticket *t)
{
	for (int i = 0; i < s->running_count; i++)
		if (s->running[i] == t)
			return i;
	OL_UNREACHABLE();
}

/* A prompt's hidden states are summed up as they come. */
static void take_hidden(struct ol_scheduler *s, struct ol_ticket *t, const struct ol_run *run)
{
	ol_embedding_add(t->embedding, s->model.kernels, run->hidden, run->count,
			 s->config->hidden);
	if (left(t) > 0)
		return;
	ol_embedding_finish(t->embedding, ol_session_length(t->session), s->config->hidden);
	ol_scheduler_leave(s, index_of(s, t), false);
	ol_ticket_finish(s, t, OL_OUTCOME_DONE, NULL);
}

static void distribute(struct ol_scheduler *s, int count)
{
	for (int i = 0; i < count; i++) {
		struct ol_ticket *t = s->run_tickets[i];
		struct ol_error err = {0};
		bool more = true;
		t->tenant->virtual_time += s->runs[i].count / t->tenant->weight;
		if (t->embedding)
			take_hidden(s, t, &s->runs[i]);
		if (!s->runs[i].logits)
			continue;
		const enum ol_status status =
			ol_answer_take(t->answer, s->runs[i].logits, s->sampler, &more, &err);
		s->stats.answer_tokens += status == OL_OK;
		if (status == OL_OK && more)
			continue;
		ol_scheduler_leave(s, index_of(s, t), status == OL_OK);
		const bool cancelled =
			ol_answer_generation(t->answer)->finish == OL_FINISH_CANCELLED;
		ol_ticket_finish(s, t,
				 status != OL_OK ? OL_OUTCOME_FAILED
				 : cancelled     ? OL_OUTCOME_CANCELLED
						 : OL_OUTCOME_DONE,
				 status != OL_OK ? &err : NULL);
	}
}

/* The engine refused: nobody can tell whose fault it is from outside, so each is tried alone, and
 * those who fail alone end. */
static void run_alone(struct ol_scheduler *s, int count)
{
	int good = 0;
	for (int i = 0; i < count; i++) {
		struct ol_error err = {0};
		struct ol_run run = s->runs[i];
		struct ol_ticket *t = s->run_tickets[i];
		if (ol_engine_step(s->o.engine, &run, 1, &err) == OL_OK) {
			s->runs[good] = run;
			s->run_tickets[good++] = t;
			continue;
		}
		ol_scheduler_leave(s, index_of(s, t), false);
		ol_ticket_finish(s, t, OL_OUTCOME_FAILED, &err);
	}
	distribute(s, good);
}

bool ol_scheduler_step(struct ol_scheduler *s)
{
	const bool moved = ol_scheduler_admit(s);
	if (s->running_count == 0) {
		if (moved && s->o.on_step)
			s->o.on_step(s->o.context, 0, 0, 0.0);
		return moved;
	}
	make_room(s);
	int rows;
	const int count = compose(s, &rows), decoding = count_decoding(s);
	const double start = s->o.now(s->o.context);
	const enum ol_status status = ol_engine_step(s->o.engine, s->runs, count, NULL);
	const double seconds = s->o.now(s->o.context) - start;
	measure(s, seconds, decoding, rows);
	s->stats.steps++;
	s->stats.prompt_tokens += (uint64_t)rows;
	if (status == OL_OK)
		distribute(s, count);
	else
		run_alone(s, count);
	if (s->o.on_step)
		s->o.on_step(s->o.context, decoding, rows, seconds);
	return true;
}
