/* node/scheduler_admit.c: who runs, and with which pages. */
#include "node/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

/* One tenant may have such a part of the batch's number parked. */
enum { PARKED_SHARE = 8 };

int64_t ol_pages_for(const struct ol_session *session, int count)
{
	const int64_t length = session ? ol_session_length(session) : 0;
	return (length + count + OL_KV_PAGE - 1) / OL_KV_PAGE -
	       (length + OL_KV_PAGE - 1) / OL_KV_PAGE;
}

/* --- prefixes -------------------------------------------------------------- */

static void adapter_key(uint8_t key[OL_SHA256_BYTES], const struct ol_ticket *t)
{
	memset(key, 0, OL_SHA256_BYTES);
	if (t->pooled)
		memcpy(key, ol_adapter_sha256(ol_pooled_adapter(t->pooled)), OL_SHA256_BYTES);
}

static void drop_prefix(struct ol_scheduler *s, int index)
{
	struct ol_prefix *p = &s->prefixes[index];
	ol_session_close(p->session);
	ol_tokens_release(&p->tokens);
	*p = s->prefixes[--s->prefix_count];
}

void ol_scheduler_drop_prefixes(struct ol_scheduler *s)
{
	while (s->prefix_count > 0)
		drop_prefix(s, s->prefix_count - 1);
}

static int oldest_prefix(const struct ol_scheduler *s)
{
	int oldest = 0;
	for (int i = 1; i < s->prefix_count; i++)
		if (s->prefixes[i].last_used < s->prefixes[oldest].last_used)
			oldest = i;
	return oldest;
}

/* Keeps a session that a ticket leaves behind; false: it is not worth it. */
static bool keep_prefix(struct ol_scheduler *s, struct ol_ticket *t)
{
	const int length = ol_session_length(t->session);
	const struct ol_tokens *history = ol_answer_history(t->answer);
	struct ol_prefix p = {.tenant = t->tenant->id, .session = t->session};
	if (length < OL_KV_PAGE || s->o.prefixes_max == 0)
		return false;
	for (int i = 0; i < length; i++)
		if (!ol_tokens_push(&p.tokens, history->ids[i])) {
			ol_tokens_release(&p.tokens);
			return false;
		}
	adapter_key(p.adapter, t);
	p.last_used = ++s->clock;
	if (s->prefix_count == s->o.prefixes_max)
		drop_prefix(s, oldest_prefix(s));
	s->prefixes[s->prefix_count++] = p;
	return true;
}

static int common(const int32_t *a, const int32_t *b, size_t count)
{
	size_t n = 0;
	while (n < count && a[n] == b[n])
		n++;
	return (int)n;
}

/* The session that shares most with what the ticket has to say, of the same tenant and adapter. At
 * least its last token is run anew: its logits are wanted. NULL: less than a page. */
static const struct ol_session *find_shared(struct ol_scheduler *s, const struct ol_ticket *t,
					    int *length_out)
{
	const struct ol_tokens *mine = ol_answer_history(t->answer);
	const struct ol_session *best = NULL;
	uint8_t key[OL_SHA256_BYTES], other_key[OL_SHA256_BYTES];
	int longest = OL_KV_PAGE - 1;
	*length_out = 0;
	if (t->embedding) /* every position's hidden state is wanted */
		return NULL;
	adapter_key(key, t);
	for (int i = 0; i < s->prefix_count; i++) {
		struct ol_prefix *p = &s->prefixes[i];
		if (p->tenant != t->tenant->id || memcmp(p->adapter, key, sizeof key) != 0)
			continue;
		const int n =
			common(mine->ids, p->tokens.ids, OL_MIN(mine->count - 1, p->tokens.count));
		if (n > longest) {
			longest = n;
			best = p->session;
			p->last_used = ++s->clock;
		}
	}
	for (int i = 0; i < s->running_count; i++) {
		const struct ol_ticket *other = s->running[i];
		adapter_key(other_key, other);
		if (other->tenant != t->tenant || memcmp(other_key, key, sizeof key) != 0)
			continue;
		const size_t length = (size_t)ol_session_length(other->session);
		const int n = common(mine->ids, ol_answer_history(other->answer)->ids,
				     OL_MIN(mine->count - 1, length));
		if (n > longest) {
			longest = n;
			best = other->session;
		}
	}
	*length_out = best ? longest : 0;
	return best;
}

/* --- leaving --------------------------------------------------------------- */

void ol_scheduler_leave(struct ol_scheduler *s, int index, bool keep)
{
	struct ol_ticket *t = s->running[index];
	if (!keep || !keep_prefix(s, t))
		ol_session_close(t->session);
	t->session = NULL;
	if (t->pooled)
		ol_adapter_pool_release(s->o.adapters, t->pooled);
	t->pooled = NULL;
	s->running_count--;
	memmove((void *)&s->running[index], (void *)&s->running[index + 1],
		(size_t)(s->running_count - index) * sizeof *s->running);
	(void)pthread_mutex_lock(&s->lock);
	t->tenant->running--;
	(void)pthread_mutex_unlock(&s->lock);
}

static void park(struct ol_scheduler *s, struct ol_ticket *t, int index)
{
	memmove((void *)&s->parked[index + 1], (void *)&s->parked[index],
		(size_t)(s->parked_count - index) * sizeof *s->parked);
	s->parked[index] = t;
	s->parked_count++;
	t->tenant->parked++;
}

/* Back to those who wait; what it has said so far stays said. For want of pages: to the front. For
 * the sake of another tenant: to the end, and what it holds is kept while there is room. */
static void preempt(struct ol_scheduler *s, int index, bool keep)
{
	struct ol_ticket *t = s->running[index];
	(void)pthread_mutex_lock(&s->lock);
	t->tenant->waiting++; /* before running is less: the tenant must not be forgotten */
	s->waiting++;
	(void)pthread_mutex_unlock(&s->lock);
	ol_scheduler_leave(s, index, keep);
	park(s, t, keep ? s->parked_count : 0);
	s->stats.preempted++;
}

bool ol_scheduler_make_pages(struct ol_scheduler *s, int64_t pages, bool may_preempt)
{
	while (ol_engine_pages_free(s->o.engine) < pages) {
		if (s->prefix_count > 0)
			drop_prefix(s, oldest_prefix(s));
		else if (may_preempt && s->running_count > 1)
			preempt(s, s->running_count - 1, false);
		else
			return false;
	}
	return true;
}

/* --- ending ---------------------------------------------------------------- */

/* Takes a cancelled ticket out of the queues; NULL: it is not there. Under the lock. */
static struct ol_ticket *unlink_queued(struct ol_scheduler *s, uint64_t id)
{
	for (int i = 0; i < s->tenant_count; i++) {
		struct ol_tenant *tenant = s->tenants[i];
		for (struct ol_ticket **at = &tenant->first; *at; at = &(*at)->next) {
			struct ol_ticket *t = *at;
			if (t->id != id)
				continue;
			*at = t->next;
			if (tenant->end == &t->next)
				tenant->end = at;
			tenant->waiting--;
			s->waiting--;
			return t;
		}
	}
	return NULL;
}

static bool take_cancels(struct ol_scheduler *s)
{
	bool moved = false;
	for (;;) {
		(void)pthread_mutex_lock(&s->lock);
		const bool any = s->cancel_count > 0;
		const uint64_t id = any ? s->cancels[--s->cancel_count] : 0;
		struct ol_ticket *queued = any ? unlink_queued(s, id) : NULL;
		(void)pthread_mutex_unlock(&s->lock);
		if (!any)
			return moved;
		moved = true;
		if (queued)
			ol_ticket_finish(s, queued, OL_OUTCOME_CANCELLED, NULL);
		for (int i = 0; i < s->running_count; i++)
			s->running[i]->cancelled |= s->running[i]->id == id;
		for (int i = 0; i < s->parked_count; i++)
			s->parked[i]->cancelled |= s->parked[i]->id == id;
	}
}

static bool is_over(const struct ol_scheduler *s, const struct ol_ticket *t,
		    enum ol_outcome *outcome)
{
	*outcome = t->cancelled ? OL_OUTCOME_CANCELLED : OL_OUTCOME_DEADLINE;
	return t->cancelled || (t->deadline > 0.0 && s->o.now(s->o.context) > t->deadline);
}

static bool end_running(struct ol_scheduler *s)
{
	bool moved = false;
	for (int i = 0; i < s->running_count;) {
		struct ol_ticket *t = s->running[i];
		enum ol_outcome outcome;
		if (!is_over(s, t, &outcome)) {
			i++;
			continue;
		}
		ol_scheduler_leave(s, i, true);
		ol_ticket_finish(s, t, outcome, NULL);
		moved = true;
	}
	return moved;
}

/* --- admission ------------------------------------------------------------- */

enum admission { ADMITTED, ENDED, LATER, NO_PAGES };

static void no_longer_waiting(struct ol_scheduler *s, struct ol_ticket *t, int running)
{
	(void)pthread_mutex_lock(&s->lock);
	t->tenant->waiting--;
	t->tenant->running += running;
	s->waiting--;
	s->virtual_clock = OL_MAX(s->virtual_clock, t->tenant->virtual_time);
	(void)pthread_mutex_unlock(&s->lock);
}

static enum admission end(struct ol_scheduler *s, struct ol_ticket *t, enum ol_outcome outcome,
			  const struct ol_error *err)
{
	no_longer_waiting(s, t, 0);
	ol_ticket_finish(s, t, outcome, err);
	return ENDED;
}

/* Another choice of the same prompt is still reading it: its pages will serve this one too. */
static bool leader_is_reading(const struct ol_scheduler *s, const struct ol_ticket *t)
{
	for (int i = 0; i < s->running_count; i++) {
		const struct ol_ticket *other = s->running[i];
		if (t->group != 0 && other->group == t->group && other->tenant == t->tenant &&
		    ol_answer_history(other->answer)->count >
			    (size_t)ol_session_length(other->session) + 1)
			return true;
	}
	return false;
}

static void unpin(struct ol_scheduler *s, struct ol_ticket *t)
{
	if (t->pooled)
		ol_adapter_pool_release(s->o.adapters, t->pooled);
	t->pooled = NULL;
}

/* An answer that was preempted goes on under the adapter it began with, or not at all. */
static enum admission same_adapter(struct ol_scheduler *s, struct ol_ticket *t)
{
	uint8_t *was = ol_answer_generation(t->answer)->adapter_sha256;
	const uint8_t *is = ol_adapter_sha256(ol_pooled_adapter(t->pooled));
	struct ol_error err;
	if (!t->begun || memcmp(was, is, OL_SHA256_BYTES) == 0) {
		memcpy(was, is, OL_SHA256_BYTES);
		return ADMITTED;
	}
	unpin(s, t);
	(void)ol_fail(&err, OL_ERR_INPUT,
		      "adapter %s was replaced while it answered: ask again for an answer by the "
		      "new one",
		      t->adapter);
	return end(s, t, OL_OUTCOME_BROKEN_ADAPTER, &err);
}

/* ADMITTED here: the adapter is pinned, or none is wanted. */
static enum admission pin(struct ol_scheduler *s, struct ol_ticket *t)
{
	struct ol_error err = {0};
	if (!t->adapter)
		return ADMITTED;
	const enum ol_acquire acquired =
		s->o.adapters ? ol_adapter_pool_acquire(s->o.adapters, &t->pooled, t->adapter, &err)
			      : OL_ACQUIRE_UNKNOWN;
	switch (acquired) {
	case OL_ACQUIRE_READY: return same_adapter(s, t);
	case OL_ACQUIRE_READING:
	case OL_ACQUIRE_BUSY: return LATER;
	case OL_ACQUIRE_UNKNOWN:
		(void)ol_fail(&err, OL_ERR_NOT_FOUND, "there is no adapter %s here", t->adapter);
		return end(s, t, OL_OUTCOME_UNKNOWN_ADAPTER, &err);
	case OL_ACQUIRE_TOO_LARGE:
	case OL_ACQUIRE_BROKEN: return end(s, t, OL_OUTCOME_BROKEN_ADAPTER, &err);
	}
	OL_UNREACHABLE();
}

/* A session that holds what can be shared, and pages free for the rest and for a step of all. */
static enum admission open_session(struct ol_scheduler *s, struct ol_ticket *t)
{
	const int count = (int)ol_answer_history(t->answer)->count;
	int shared;
	struct ol_error err = {0};
	(void)find_shared(s, t, &shared); /* marks it as used: it goes last */
	const int64_t whole = (count + OL_KV_PAGE) / OL_KV_PAGE - shared / OL_KV_PAGE;
	if (!ol_scheduler_make_pages(s, whole + s->running_count, false) && s->running_count > 0)
		return NO_PAGES;
	const struct ol_session *source = find_shared(s, t, &shared);
	const enum ol_status status = source ? ol_session_fork(&t->session, source, shared)
					     : ol_session_open(&t->session, s->o.engine);
	if (status != OL_OK) {
		t->session = NULL;
		(void)ol_fail(&err, status, "out of memory for one more answer");
		unpin(s, t);
		return end(s, t, OL_OUTCOME_FAILED, &err);
	}
	s->stats.shared_tokens += (uint64_t)shared;
	if (!t->begun)
		ol_answer_generation(t->answer)->cached = (size_t)shared;
	if (t->embedding)
		memset(t->embedding, 0, (size_t)s->config->hidden * sizeof *t->embedding);
	t->begun = true;
	return ADMITTED;
}

static enum admission try_admit(struct ol_scheduler *s, struct ol_ticket *t)
{
	enum ol_outcome outcome;
	if (is_over(s, t, &outcome))
		return end(s, t, outcome, NULL);
	if (leader_is_reading(s, t))
		return LATER;
	enum admission a = pin(s, t);
	if (a != ADMITTED)
		return a;
	a = open_session(s, t);
	if (a == NO_PAGES)
		unpin(s, t);
	if (a != ADMITTED)
		return a;
	s->running[s->running_count++] = t;
	no_longer_waiting(s, t, 1);
	return ADMITTED;
}

/* Out of the parked ones, which close ranks. */
static struct ol_ticket *unpark(struct ol_scheduler *s, int index)
{
	struct ol_ticket *t = s->parked[index];
	s->parked_count--;
	t->tenant->parked--;
	memmove((void *)&s->parked[index], (void *)&s->parked[index + 1],
		(size_t)(s->parked_count - index) * sizeof *s->parked);
	return t;
}

/* Takes those whose time is over out of a tenant's queue into a list. Under the lock. */
static struct ol_ticket *take_late(struct ol_scheduler *s, struct ol_tenant *tenant, double now,
				   struct ol_ticket *late)
{
	tenant->end = &tenant->first;
	for (struct ol_ticket *t = tenant->first, *next; t; t = next) {
		next = t->next;
		if (t->deadline > 0.0 && now > t->deadline) {
			t->next = late;
			late = t;
			continue;
		}
		if (t->deadline > 0.0 &&
		    (s->next_deadline == 0.0 || t->deadline < s->next_deadline))
			s->next_deadline = t->deadline;
		*tenant->end = t;
		tenant->end = &t->next;
	}
	*tenant->end = NULL;
	return late;
}

/* Who waits too long hears of it now, not when there would have been a place. */
static bool end_waiting(struct ol_scheduler *s)
{
	const double now = s->o.now(s->o.context);
	struct ol_ticket *late = NULL;
	bool moved = false;
	(void)pthread_mutex_lock(&s->lock);
	if (s->next_deadline > 0.0 && now > s->next_deadline) {
		s->next_deadline = 0.0;
		for (int i = 0; i < s->tenant_count; i++)
			late = take_late(s, s->tenants[i], now, late);
	}
	(void)pthread_mutex_unlock(&s->lock);
	for (struct ol_ticket *next; late; late = next) {
		next = late->next;
		(void)end(s, late, OL_OUTCOME_DEADLINE, NULL);
		moved = true;
	}
	for (int i = 0; i < s->parked_count;) {
		enum ol_outcome outcome;
		if (!is_over(s, s->parked[i], &outcome)) {
			i++;
			continue;
		}
		(void)end(s, unpark(s, i), outcome, NULL);
		moved = true;
	}
	return moved;
}

/* Of the tenants that have queued requests the one that has had least. Who has many that cannot run
 * yet (adapters being read) does not take the places in which others would wait for theirs. Under
 * the lock. */
static struct ol_tenant *next_tenant(const struct ol_scheduler *s)
{
	const int parked_max = OL_MAX(1, s->o.batch_max / PARKED_SHARE);
	struct ol_tenant *next = NULL;
	for (int i = 0; i < s->tenant_count; i++) {
		struct ol_tenant *t = s->tenants[i];
		if (t->first && t->parked < parked_max &&
		    (!next || t->virtual_time < next->virtual_time))
			next = t;
	}
	return next;
}

/* Its next request. It still counts as waiting. */
static struct ol_ticket *pop_next(struct ol_scheduler *s)
{
	(void)pthread_mutex_lock(&s->lock);
	struct ol_tenant *next = next_tenant(s);
	struct ol_ticket *t = next ? next->first : NULL;
	if (t) {
		next->first = t->next;
		if (!next->first)
			next->end = &next->first;
		t->next = NULL;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return t;
}

/* When the batch is full and the tenant whose turn it is has less than its share of it: the newest
 * answer of the tenant that is furthest over its own. -1: all is fair. */
static int over_share(struct ol_scheduler *s)
{
	double weights = 0.0, most = 1.0;
	struct ol_tenant *greedy = NULL;
	(void)pthread_mutex_lock(&s->lock);
	const struct ol_tenant *next = next_tenant(s);
	for (int i = 0; i < s->tenant_count; i++)
		weights += s->tenants[i]->weight;
	for (int i = 0; i < s->tenant_count; i++) {
		struct ol_tenant *tenant = s->tenants[i];
		const double share = s->o.batch_max * tenant->weight / weights;
		if (tenant == next && tenant->running + 1 > share)
			next = NULL;
		if (tenant->running - share >= most) {
			most = tenant->running - share;
			greedy = tenant;
		}
	}
	(void)pthread_mutex_unlock(&s->lock);
	for (int i = s->running_count - 1; next && greedy && i >= 0; i--)
		if (s->running[i]->tenant == greedy)
			return i;
	return -1;
}

/* *blocked: one waits for pages. What comes free is for it: smaller ones that could go at once
 * would keep it waiting for ever. */
static bool admit_parked(struct ol_scheduler *s, bool *blocked)
{
	bool moved = false;
	*blocked = false;
	for (int i = 0; i < s->parked_count && s->running_count < s->o.batch_max && !*blocked;) {
		struct ol_ticket *t = unpark(s, i);
		const enum admission a = try_admit(s, t);
		*blocked = a == NO_PAGES;
		if (a == LATER || a == NO_PAGES)
			park(s, t, i++);
		else
			moved = true;
	}
	return moved;
}

bool ol_scheduler_admit(struct ol_scheduler *s)
{
	bool blocked, moved = ol_scheduler_run_errands(s);
	moved = take_cancels(s) || moved;
	if (s->o.adapters)
		moved = ol_adapter_pool_collect(s->o.adapters) > 0 || moved;
	moved = end_running(s) || moved;
	moved = end_waiting(s) || moved;
	moved = admit_parked(s, &blocked) || moved;
	const int greedy = s->running_count == s->o.batch_max ? over_share(s) : -1;
	if (greedy >= 0)
		preempt(s, greedy, true);
	while (s->running_count < s->o.batch_max && s->parked_count < s->o.batch_max && !blocked) {
		struct ol_ticket *t = pop_next(s);
		if (!t)
			break;
		const enum admission a = try_admit(s, t);
		moved = moved || a == ADMITTED || a == ENDED;
		if (a == LATER || a == NO_PAGES)
			park(s, t, s->parked_count);
		blocked = a == NO_PAGES;
	}
	return moved;
}
