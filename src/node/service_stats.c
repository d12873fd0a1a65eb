/* node/service_stats.c: what a node counts, for /metrics and for who asks. */
#include "node/service_internal.h"

#include <string.h>

static const double batch_bounds[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
static const double step_bounds[] = {0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075,
				     0.1,   0.15,  0.2,  0.3,  0.5,  1,    2};
static const char *const outcome_names[] = {[OL_OUTCOME_DONE] = "done",
					    [OL_OUTCOME_CANCELLED] = "cancelled",
					    [OL_OUTCOME_DEADLINE] = "deadline",
					    [OL_OUTCOME_UNKNOWN_ADAPTER] = "unknown_adapter",
					    [OL_OUTCOME_BROKEN_ADAPTER] = "broken_adapter",
					    [OL_OUTCOME_FAILED] = "failed",
					    [OL_OUTCOME_STOPPED] = "stopped"};
static const char *const result_names[] = {[OL_ASK_OK] = "ok",
					   [OL_ASK_INVALID] = "invalid",
					   [OL_ASK_TOO_LONG] = "too_long",
					   [OL_ASK_UNKNOWN_MODEL] = "unknown_model",
					   [OL_ASK_REFUSED] = "refused",
					   [OL_ASK_FULL] = "queue_full",
					   [OL_ASK_TENANT_FULL] = "account_queue_full",
					   [OL_ASK_NO_MEMORY] = "no_memory",
					   [OL_ASK_CLOSED] = "draining"};
_Static_assert(OL_ARRAY_LEN(result_names) == OL_ASK_RESULTS, "one name each");

static struct ol_counter *counter(struct ol_service *s, const char *name, const char *help)
{
	return ol_metrics_counter(s->o.metrics, name, help, NULL, 0);
}

static struct ol_counter *counter_of(struct ol_service *s, const char *name, const char *help,
				     const char *label, const char *value)
{
	return ol_metrics_counter(s->o.metrics, name, help,
				  &(struct ol_label){.name = label, .value = value}, 1);
}

static struct ol_gauge *gauge(struct ol_service *s, const char *name, const char *help)
{
	return ol_metrics_gauge(s->o.metrics, name, help, NULL, 0);
}

static struct ol_gauge *gauge_of(struct ol_service *s, const char *name, const char *help,
				 const char *state)
{
	return ol_metrics_gauge(s->o.metrics, name, help,
				&(struct ol_label){.name = "state", .value = state}, 1);
}

static void register_requests(struct ol_service *s)
{
	static const char answers[] = "Answers by where they are.";
	static const char asks[] = "Requests that have ended, by how.";
	static const char refused[] = "Requests that were not taken, by why.";
	struct ol_service_series *m = &s->series;
	m->waiting = gauge_of(s, "openledger_answers", answers, "waiting");
	m->prefilling = gauge_of(s, "openledger_answers", answers, "prefilling");
	m->decoding = gauge_of(s, "openledger_answers", answers, "decoding");
	for (size_t i = 0; i < OL_ARRAY_LEN(outcome_names); i++)
		m->outcomes[i] = counter_of(s, "openledger_requests_ended_total", asks, "outcome",
					    outcome_names[i]);
	for (size_t i = 1; i < OL_ARRAY_LEN(result_names); i++)
		m->refused[i] = counter_of(s, "openledger_requests_refused_total", refused,
					   "reason", result_names[i]);
	m->first_token = ol_metrics_histogram(s->o.metrics, "openledger_first_token_seconds",
					      "From request to first token.", NULL, 0,
					      ol_seconds_bounds, ol_seconds_bound_count);
	m->gap = ol_metrics_histogram(s->o.metrics, "openledger_token_gap_seconds",
				      "Between two tokens of an answer.", NULL, 0, step_bounds,
				      OL_ARRAY_LEN(step_bounds));
	m->whole = ol_metrics_histogram(s->o.metrics, "openledger_request_seconds",
					"From request to its whole answer.", NULL, 0,
					ol_seconds_bounds, ol_seconds_bound_count);
}

static void register_steps(struct ol_service *s)
{
	static const char tokens[] = "Tokens, by kind; cached ones were not run again.";
	static const char pages[] = "KV pages of 16 positions.";
	struct ol_service_series *m = &s->series;
	m->prompt_tokens = counter_of(s, "openledger_tokens_total", tokens, "kind", "prompt");
	m->shared_tokens = counter_of(s, "openledger_tokens_total", tokens, "kind", "cached");
	m->answer_tokens = counter_of(s, "openledger_tokens_total", tokens, "kind", "completion");
	m->tokens_per_second = gauge(s, "openledger_tokens_per_second",
				     "Completion tokens a second while answers are under way.");
	m->steps = counter(s, "openledger_steps_total", "Steps of the engine.");
	m->preempted = counter(s, "openledger_preemptions_total",
			       "Answers put back in the queue for want of KV pages or fairness.");
	m->batch = ol_metrics_histogram(s->o.metrics, "openledger_batch_answers",
					"Answers moved on by a step.", NULL, 0, batch_bounds,
					OL_ARRAY_LEN(batch_bounds));
	m->step = ol_metrics_histogram(s->o.metrics, "openledger_step_seconds",
				       "Steps of the engine.", NULL, 0, step_bounds,
				       OL_ARRAY_LEN(step_bounds));
	m->pages_free = gauge_of(s, "openledger_kv_pages", pages, "free");
	m->pages_total = gauge_of(s, "openledger_kv_pages", pages, "total");
	m->prefixes =
		gauge(s, "openledger_prefixes", "Finished sessions kept for what begins alike.");
}

static void register_adapters(struct ol_service *s)
{
	static const char adapters[] = "Adapters by where they are.";
	static const char bytes[] = "Memory of adapters.";
	struct ol_service_series *m = &s->series;
	m->registered = gauge_of(s, "openledger_adapters", adapters, "registered");
	m->in_memory = gauge_of(s, "openledger_adapters", adapters, "in_memory");
	m->reading = gauge_of(s, "openledger_adapters", adapters, "reading");
	m->pinned = gauge_of(s, "openledger_adapters", adapters, "pinned");
	m->bytes = gauge_of(s, "openledger_adapter_bytes", bytes, "used");
	m->bytes_max = gauge_of(s, "openledger_adapter_bytes", bytes, "budget");
	m->hits = counter(s, "openledger_adapter_hits_total", "Adapters found in memory.");
	m->cold_reads =
		counter(s, "openledger_adapter_cold_reads_total", "Adapters read from disk.");
	m->evictions =
		counter(s, "openledger_adapter_evictions_total", "Adapters dropped for others.");
	m->failures =
		counter(s, "openledger_adapter_failures_total", "Adapters that could not be read.");
}

void ol_service_register(struct ol_service *s)
{
	register_requests(s);
	register_steps(s);
	register_adapters(s);
}

/* Counters move by what has been added since the last step. */
static void count(struct ol_service_series *m, const struct ol_service_stats *was,
		  const struct ol_service_stats *is)
{
	const struct ol_scheduler_stats *a = &was->scheduler, *b = &is->scheduler;
	const struct ol_adapter_pool_stats *p = &was->adapters, *q = &is->adapters;
	ol_counter_add(m->prompt_tokens, b->prompt_tokens - a->prompt_tokens);
	ol_counter_add(m->shared_tokens, b->shared_tokens - a->shared_tokens);
	ol_counter_add(m->answer_tokens, b->answer_tokens - a->answer_tokens);
	ol_counter_add(m->preempted, b->preempted - a->preempted);
	ol_counter_add(m->steps, b->steps - a->steps);
	ol_counter_add(m->hits, q->hits - p->hits);
	ol_counter_add(m->cold_reads, q->cold_reads - p->cold_reads);
	ol_counter_add(m->evictions, q->evictions - p->evictions);
	ol_counter_add(m->failures, q->failures - p->failures);
	ol_gauge_set(m->waiting, b->waiting);
	ol_gauge_set(m->prefilling, b->prefilling);
	ol_gauge_set(m->decoding, b->decoding);
	ol_gauge_set(m->prefixes, b->prefixes);
	ol_gauge_set(m->pages_free, (double)is->pages_free);
	ol_gauge_set(m->pages_total, (double)is->pages_total);
	ol_gauge_set(m->registered, (double)q->registered);
	ol_gauge_set(m->in_memory, (double)q->in_memory);
	ol_gauge_set(m->reading, (double)q->reading);
	ol_gauge_set(m->pinned, (double)q->pinned);
	ol_gauge_set(m->bytes, (double)q->bytes);
	ol_gauge_set(m->bytes_max, (double)q->bytes_max);
}

void ol_service_on_step(void *context, int answers, int prompt_rows, double seconds)
{
	struct ol_service *s = context;
	struct ol_service_stats now = {0};
	ol_scheduler_stats(s->scheduler, &now.scheduler);
	ol_adapter_pool_stats(s->pool, &now.adapters);
	now.pages_free = ol_engine_pages_free(s->runtime.engine);
	now.pages_total = ol_engine_pages_total(s->runtime.engine);
	(void)prompt_rows;
	if (answers > 0 && seconds > 0.0) {
		/* A mean over about the last 32 steps. */
		const uint64_t n = OL_MIN(++s->rate_steps, (uint64_t)32);
		s->rate += (answers / seconds - s->rate) / (double)n;
		ol_gauge_set(s->series.tokens_per_second, s->rate);
		ol_histogram_observe(s->series.batch, answers);
	}
	if (seconds > 0.0)
		ol_histogram_observe(s->series.step, seconds);
	(void)pthread_mutex_lock(&s->lock);
	const struct ol_service_stats was = s->stats;
	s->stats.scheduler = now.scheduler;
	s->stats.adapters = now.adapters;
	s->stats.pages_free = now.pages_free;
	s->stats.pages_total = now.pages_total;
	(void)pthread_mutex_unlock(&s->lock);
	count(&s->series, &was, &now);
}

void ol_service_stats(struct ol_service *s, struct ol_service_stats *stats)
{
	(void)pthread_mutex_lock(&s->lock);
	*stats = s->stats;
	stats->asks_open = s->ask_count;
	(void)pthread_mutex_unlock(&s->lock);
}
