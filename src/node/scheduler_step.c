/* node/scheduler_step.c: one step of the engine for all. */
#include "model/embedding.h"
#include "node/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

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
 * than the bound (node/pace.h). */
static int prompt_rows(const struct ol_scheduler *s, int decoding)
{
	int furthest = 0;
	for (int i = 0; i < s->running_count; i++)
		if (left(s->running[i]) > 1)
			furthest = OL_MAX(furthest, ol_session_length(s->running[i]->session));
	return ol_pace_rows(&s->pace, decoding, furthest, s->step_rows - decoding);
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

/* Among the prompts that are not yet in the step, one of the tenant that has had least; of these
 * the first admitted. A long prompt does not hold up those of others who came after it. */
static struct ol_ticket *next_prompt(const struct ol_scheduler *s, const bool *taken, int *index)
{
	struct ol_ticket *next = NULL;
	for (int i = 0; i < s->running_count; i++) {
		struct ol_ticket *t = s->running[i];
		if (taken[i] || left(t) == 1)
			continue;
		if (!next || t->tenant->virtual_time < next->tenant->virtual_time) {
			next = t;
			*index = i;
		}
	}
	return next;
}

/* What goes into a step: its prompts' rows and their positions, summed up. */
struct step {
	int runs, decoding, rows;
	bool all; /* no prompt has rows left that were not taken */
	double positions;
};

static struct step compose(struct ol_scheduler *s)
{
	struct step step = {.decoding = count_decoding(s)};
	bool taken[OL_BATCH_MAX] = {false};
	int row = 0, budget = prompt_rows(s, step.decoding), index = 0;
	struct ol_ticket *t;
	for (int i = 0; i < s->running_count; i++)
		if (left(s->running[i]) == 1)
			add_run(s, step.runs++, s->running[i], 1, row++);
	while (budget > 0 && (t = next_prompt(s, taken, &index))) {
		const int rows = OL_MIN(left(t), budget);
		taken[index] = true;
		budget -= rows;
		add_run(s, step.runs++, t, rows, row);
		row += rows;
		step.rows += rows;
		step.positions += rows * (ol_session_length(t->session) + 0.5 * rows);
	}
	step.all = budget > 0;
	return step;
}

/* Pages for a step of all; those who came last make room. */
static void make_room(struct ol_scheduler *s)
{
	for (;;) {
		int64_t pages = 0;
		const int count = compose(s).runs, running = s->running_count;
		for (int i = 0; i < count; i++)
			pages += ol_pages_for(s->runs[i].session, s->runs[i].count);
		OL_ASSERT(ol_scheduler_make_pages(s, pages, true) || s->running_count == 1);
		if (s->running_count == running)
			return;
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
		t->tenant->virtual_time += s->runs[i].count / t->weight;
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
		if (s->o.engine_step(s->o.context, s->o.engine, &run, 1, &err) == OL_OK) {
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
	const double begin = s->o.now(s->o.context);
	const bool moved = ol_scheduler_admit(s);
	if (s->running_count == 0) {
		if (moved && s->o.on_step)
			s->o.on_step(s->o.context, 0, 0, 0.0);
		return moved;
	}
	make_room(s);
	const struct step step = compose(s);
	const double start = s->o.now(s->o.context);
	const enum ol_status status =
		s->o.engine_step(s->o.context, s->o.engine, s->runs, step.runs, NULL);
	const double seconds = s->o.now(s->o.context) - start;
	s->stats.steps++;
	s->stats.prompt_tokens += (uint64_t)step.rows;
	if (status == OL_OK)
		distribute(s, step.runs);
	else
		run_alone(s, step.runs);
	/* Answers wait for all of it, not for the engine alone. */
	ol_pace_measured(&s->pace, s->o.now(s->o.context) - begin, step.decoding, step.rows,
			 step.rows > 0 ? step.positions / step.rows : 0.0, step.all);
	if (s->o.on_step)
		s->o.on_step(s->o.context, step.decoding, step.rows, seconds);
	return true;
}
