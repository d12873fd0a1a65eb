/* node/scheduler.c: life, what other threads may call, and the loop. */
#include "node/scheduler_internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_DEFAULT = 64 };

static double clock_now(void *context)
{
	(void)context;
	return ol_clock_seconds();
}

static enum ol_status engine_step(void *context, struct ol_engine *engine, struct ol_run *runs,
				  int run_count, struct ol_error *err)
{
	(void)context;
	return ol_engine_step(engine, runs, run_count, err);
}

/* --- life ------------------------------------------------------------------ */

static void set_defaults(struct ol_scheduler_options *o)
{
	if (o->batch_max == 0)
		o->batch_max = BATCH_DEFAULT;
	if (o->queue_max == 0)
		o->queue_max = OL_QUEUE_MAX;
	if (o->tenant_queue_max == 0)
		o->tenant_queue_max = OL_MAX(1, o->queue_max / 4);
	if (o->stall_seconds == 0.0)
		o->stall_seconds = 0.1;
	if (!o->now)
		o->now = clock_now;
	if (!o->engine_step)
		o->engine_step = engine_step;
	OL_ASSERT(o->batch_max > 0 && o->batch_max <= OL_BATCH_MAX && o->queue_max > 0);
}

/* Waits on it are by a clock that nobody sets. */
static void init_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(condition, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

enum ol_status ol_scheduler_open(struct ol_scheduler **scheduler_out,
				 const struct ol_scheduler_options *options, struct ol_error *err)
{
	struct ol_scheduler *s = calloc(1, sizeof *s);
	*scheduler_out = NULL;
	if (!s)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the scheduler");
	s->o = *options;
	set_defaults(&s->o);
	ol_pace_init(&s->pace, s->o.stall_seconds);
	s->config = ol_model_config(ol_engine_model(s->o.engine));
	s->model =
		(struct ol_answer_model){s->config, s->o.tokenizer, ol_engine_kernels(s->o.engine)};
	s->room = OL_MIN(ol_engine_pages_total(s->o.engine) * OL_KV_PAGE,
			 (int64_t)s->config->context_max);
	s->step_rows = ol_engine_step_rows(s->o.engine);
	s->o.batch_max = OL_MIN(s->o.batch_max, s->step_rows);
	const size_t batch = (size_t)s->o.batch_max;
	(void)pthread_mutex_init(&s->lock, NULL);
	init_condition(&s->changed);
	s->errands_end = &s->errands;
	s->logits = malloc(batch * (size_t)s->config->vocab_size * sizeof *s->logits);
	s->hidden = malloc((size_t)s->step_rows * (size_t)s->config->hidden * sizeof *s->hidden);
	s->runs = calloc(batch, sizeof *s->runs);
	s->run_tickets = calloc(batch, sizeof *s->run_tickets);
	s->running = calloc(batch, sizeof *s->running);
	s->parked = calloc(2 * batch, sizeof *s->parked);
	s->prefixes = calloc((size_t)s->o.prefixes_max + 1, sizeof *s->prefixes);
	if (!s->logits || !s->hidden || !s->runs || !s->run_tickets || !s->running || !s->parked ||
	    !s->prefixes ||
	    ol_sampler_open(&s->sampler, s->model.kernels, s->config->vocab_size) != OL_OK) {
		ol_scheduler_close(s);
		return ol_fail(err, OL_ERR_FULL,
			       "out of memory for a batch of %d answers: make it smaller",
			       s->o.batch_max);
	}
	*scheduler_out = s;
	return OL_OK;
}

static void release_ticket(struct ol_ticket *t)
{
	ol_answer_close(t->answer);
	free(t->adapter);
	free(t->stops);
	free(t);
}

void ol_tenant_forget(struct ol_scheduler *s, struct ol_tenant *tenant)
{
	if (tenant->waiting > 0 || tenant->running > 0)
		return;
	for (int i = 0; i < s->tenant_count; i++)
		if (s->tenants[i] == tenant)
			s->tenants[i] = s->tenants[--s->tenant_count];
	free(tenant);
}

void ol_ticket_finish(struct ol_scheduler *s, struct ol_ticket *t, enum ol_outcome outcome,
		      const struct ol_error *err)
{
	OL_ASSERT(!t->session && !t->pooled);
	t->on_done(t->context, outcome, ol_answer_generation(t->answer), err);
	s->stats.finished++;
	(void)pthread_mutex_lock(&s->lock);
	ol_tenant_forget(s, t->tenant);
	(void)pthread_mutex_unlock(&s->lock);
	release_ticket(t);
}

static void finish_all(struct ol_scheduler *s)
{
	while (s->running_count > 0) {
		struct ol_ticket *t = s->running[s->running_count - 1];
		ol_scheduler_leave(s, s->running_count - 1, false);
		ol_ticket_finish(s, t, OL_OUTCOME_STOPPED, NULL);
	}
	while (s->parked_count > 0) {
		struct ol_ticket *t = s->parked[--s->parked_count];
		t->tenant->waiting--;
		ol_ticket_finish(s, t, OL_OUTCOME_STOPPED, NULL);
	}
	while (s->tenant_count > 0) {
		struct ol_tenant *tenant = s->tenants[0];
		struct ol_ticket *t = tenant->first;
		tenant->first = t->next;
		tenant->waiting--;
		ol_ticket_finish(s, t, OL_OUTCOME_STOPPED, NULL);
	}
}

void ol_scheduler_close(struct ol_scheduler *s)
{
	if (!s)
		return;
	(void)ol_scheduler_run_errands(s);
	if (s->running && s->parked)
		finish_all(s);
	ol_scheduler_drop_prefixes(s);
	ol_sampler_close(s->sampler);
	(void)pthread_cond_destroy(&s->changed);
	(void)pthread_mutex_destroy(&s->lock);
	free(s->logits);
	free(s->hidden);
	free(s->runs);
	free((void *)s->run_tickets);
	free((void *)s->running);
	free((void *)s->parked);
	free(s->prefixes);
	free((void *)s->tenants);
	free(s->cancels);
	free(s);
}

/* --- from other threads ---------------------------------------------------- */

/* Copies the stop texts behind one another and lets the options point at the copies. */
static bool copy_stops(struct ol_ticket *t, struct ol_answer_options *o)
{
	size_t size = 0;
	for (int i = 0; i < o->stop_count; i++)
		size += strlen(o->stops[i]) + 1;
	t->stops = malloc(size + 1);
	if (!t->stops)
		return false;
	char *at = t->stops;
	for (int i = 0; i < o->stop_count; i++) {
		const size_t length = strlen(o->stops[i]) + 1;
		memcpy(at, o->stops[i], length);
		o->stops[i] = at;
		at += length;
	}
	return true;
}

static enum ol_submit make_ticket(const struct ol_scheduler *s, struct ol_ticket **ticket_out,
				  const struct ol_request *r, struct ol_error *err)
{
	struct ol_ticket *t = calloc(1, sizeof *t);
	struct ol_answer_options options = r->answer;
	OL_ASSERT(!r->adapter || strlen(r->adapter) < OL_ADAPTER_NAME_MAX);
	*ticket_out = NULL;
	if (!t)
		return OL_SUBMIT_NO_MEMORY;
	t->group = r->group;
	t->deadline = r->deadline;
	t->embedding = r->embedding;
	t->on_done = r->on_done;
	t->context = r->context;
	const size_t name_size = r->adapter ? strlen(r->adapter) + 1 : 0;
	bool ok = copy_stops(t, &options);
	if (ok && r->adapter) {
		t->adapter = malloc(name_size);
		ok = t->adapter != NULL;
		if (ok)
			memcpy(t->adapter, r->adapter, name_size);
	}
	enum ol_status status = OL_ERR_FULL;
	if (ok)
		status = ol_answer_open(&t->answer, &s->model, r->prompt, r->count, s->room,
					&options, err);
	if (status != OL_OK) {
		release_ticket(t);
		return status == OL_ERR_INPUT ? OL_SUBMIT_INVALID : OL_SUBMIT_NO_MEMORY;
	}
	*ticket_out = t;
	return OL_SUBMIT_OK;
}

static struct ol_tenant *find_tenant(const struct ol_scheduler *s, uint64_t id)
{
	for (int i = 0; i < s->tenant_count; i++)
		if (s->tenants[i]->id == id)
			return s->tenants[i];
	return NULL;
}

/* A tenant that comes back does not have its absence to its credit. */
static struct ol_tenant *make_tenant(struct ol_scheduler *s, const struct ol_request *r)
{
	if (s->tenant_count == s->tenant_room) {
		const int room = OL_MAX(16, 2 * s->tenant_room);
		void *grown = realloc((void *)s->tenants, (size_t)room * sizeof *s->tenants);
		if (!grown)
			return NULL;
		s->tenants = grown;
		s->tenant_room = room;
	}
	struct ol_tenant *tenant = calloc(1, sizeof *tenant);
	if (!tenant)
		return NULL;
	tenant->id = r->tenant;
	tenant->virtual_time = s->virtual_clock;
	tenant->end = &tenant->first;
	s->tenants[s->tenant_count++] = tenant;
	return tenant;
}

static enum ol_submit enqueue(struct ol_scheduler *s, struct ol_ticket **tickets, size_t count,
			      const struct ol_request *r, uint64_t *ids_out)
{
	if (s->closed)
		return OL_SUBMIT_CLOSED;
	if ((size_t)s->waiting + count > (size_t)s->o.queue_max)
		return OL_SUBMIT_FULL;
	struct ol_tenant *tenant = find_tenant(s, r->tenant);
	if ((size_t)(tenant ? tenant->waiting : 0) + count > (size_t)s->o.tenant_queue_max)
		return OL_SUBMIT_TENANT_FULL;
	if (!tenant)
		tenant = make_tenant(s, r);
	if (!tenant)
		return OL_SUBMIT_NO_MEMORY;
	tenant->weight = r->weight > 0.0 ? r->weight : 1.0;
	for (size_t i = 0; i < count; i++) {
		struct ol_ticket *t = tickets[i];
		t->tenant = tenant;
		t->weight = tenant->weight;
		if (t->deadline > 0.0 &&
		    (s->next_deadline == 0.0 || t->deadline < s->next_deadline))
			s->next_deadline = t->deadline;
		t->id = ids_out[i] = ++s->last_id;
		*tenant->end = t;
		tenant->end = &t->next;
		tenant->waiting++;
		s->waiting++;
	}
	s->woken = true; /* or a step that saw nothing yet would be slept upon */
	(void)pthread_cond_signal(&s->changed);
	return OL_SUBMIT_OK;
}

enum ol_submit ol_scheduler_submit_all(struct ol_scheduler *s, const struct ol_request *requests,
				       size_t count, uint64_t *ids_out, struct ol_error *err)
{
	struct ol_ticket **tickets = calloc(count, sizeof(struct ol_ticket *));
	enum ol_submit result = tickets ? OL_SUBMIT_OK : OL_SUBMIT_NO_MEMORY;
	OL_ASSERT(count > 0);
	for (size_t i = 0; i < count && result == OL_SUBMIT_OK; i++) {
		OL_ASSERT(requests[i].tenant == requests[0].tenant);
		result = make_ticket(s, &tickets[i], &requests[i], err);
	}
	if (result == OL_SUBMIT_OK) {
		(void)pthread_mutex_lock(&s->lock);
		result = enqueue(s, tickets, count, requests, ids_out);
		(void)pthread_mutex_unlock(&s->lock);
	}
	for (size_t i = 0; i < count && tickets && result != OL_SUBMIT_OK; i++)
		if (tickets[i])
			release_ticket(tickets[i]);
	free((void *)tickets);
	return result;
}

enum ol_submit ol_scheduler_submit(struct ol_scheduler *s, const struct ol_request *request,
				   uint64_t *id_out, struct ol_error *err)
{
	return ol_scheduler_submit_all(s, request, 1, id_out, err);
}

void ol_scheduler_cancel(struct ol_scheduler *s, uint64_t id)
{
	(void)pthread_mutex_lock(&s->lock);
	if (s->cancel_count == s->cancel_room) {
		const int room = OL_MAX(16, 2 * s->cancel_room);
		uint64_t *grown = realloc(s->cancels, (size_t)room * sizeof *grown);
		if (grown) {
			s->cancels = grown;
			s->cancel_room = room;
		}
	}
	if (s->cancel_count < s->cancel_room) /* else it runs to its end: nothing is lost */
		s->cancels[s->cancel_count++] = id;
	(void)pthread_cond_signal(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}

void ol_scheduler_wake(void *scheduler)
{
	struct ol_scheduler *s = scheduler;
	(void)pthread_mutex_lock(&s->lock);
	s->woken = true;
	(void)pthread_cond_signal(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}

void ol_scheduler_post(struct ol_scheduler *s, struct ol_errand *errand)
{
	errand->next = NULL;
	(void)pthread_mutex_lock(&s->lock);
	*s->errands_end = errand;
	s->errands_end = &errand->next;
	s->woken = true;
	(void)pthread_cond_signal(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}

bool ol_scheduler_run_errands(struct ol_scheduler *s)
{
	(void)pthread_mutex_lock(&s->lock);
	struct ol_errand *errand = s->errands;
	s->errands = NULL;
	s->errands_end = &s->errands;
	(void)pthread_mutex_unlock(&s->lock);
	const bool any = errand != NULL;
	while (errand) {
		struct ol_errand *next = errand->next; /* run may free it */
		errand->run(errand);
		errand = next;
	}
	return any;
}

void ol_scheduler_stop(struct ol_scheduler *s, bool drain)
{
	(void)pthread_mutex_lock(&s->lock);
	s->closed = true;
	s->draining = drain;
	(void)pthread_cond_signal(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}

/* --- the loop -------------------------------------------------------------- */

/* Sleeps until something may have changed; a deadline of a waiting request, or an adapter that is
 * being read, may be passed over by at most a tenth of a second. */
static void sleep_a_while(struct ol_scheduler *s)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += 100000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	(void)pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

void ol_scheduler_run(struct ol_scheduler *s)
{
	for (;;) {
		const bool moved = ol_scheduler_step(s);
		(void)pthread_mutex_lock(&s->lock);
		const bool empty = s->waiting == 0 && s->running_count == 0;
		const bool over = s->closed && (!s->draining || empty);
		if (!over && !moved && !s->woken && s->cancel_count == 0)
			sleep_a_while(s);
		s->woken = false;
		(void)pthread_mutex_unlock(&s->lock);
		if (over)
			return;
	}
}

void ol_scheduler_stats(const struct ol_scheduler *s, struct ol_scheduler_stats *stats)
{
	*stats = s->stats;
	stats->step_seconds = ol_pace_step(&s->pace);
	(void)pthread_mutex_lock(&((struct ol_scheduler *)(uintptr_t)s)->lock);
	stats->waiting = s->waiting;
	(void)pthread_mutex_unlock(&((struct ol_scheduler *)(uintptr_t)s)->lock);
	stats->prefixes = s->prefix_count;
	stats->prefilling = stats->decoding = 0;
	for (int i = 0; i < s->running_count; i++) {
		const struct ol_ticket *t = s->running[i];
		const size_t left =
			ol_answer_history(t->answer)->count - (size_t)ol_session_length(t->session);
		*(left > 1 ? &stats->prefilling : &stats->decoding) += 1;
	}
}
