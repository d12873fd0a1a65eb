/* node/service_ask.c: an ask from ol_service_ask to on_done. */
#include "node/service_internal.h"

#include "base/clock.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the ask's own memory -------------------------------------------------- */

static void release_ask(struct ol_open_ask *a)
{
	for (size_t i = 0; a->prompts && i < a->ask.prompt_count; i++)
		ol_tokens_release(&a->prompts[i]);
	for (size_t i = 0; a->parts && i < a->part_count; i++)
		ol_generation_release(&a->parts[i].generation);
	free(a->prompts);
	free(a->parts);
	free(a->open);
	free(a->tickets);
	free(a->embeddings);
	free(a->stops);
	free(a->bias);
	free(a);
}

static bool copy_prompts(struct ol_open_ask *a, const struct ol_ask *ask)
{
	a->prompts = calloc(ask->prompt_count, sizeof *a->prompts);
	if (!a->prompts)
		return false;
	for (size_t i = 0; i < ask->prompt_count; i++) {
		const size_t count = ask->prompts[i].count;
		struct ol_tokens *t = &a->prompts[i];
		t->ids = malloc(OL_MAX(count, (size_t)1) * sizeof *t->ids);
		if (!t->ids)
			return false;
		if (count > 0)
			memcpy(t->ids, ask->prompts[i].ids, count * sizeof *t->ids);
		t->count = t->room = count;
	}
	a->ask.prompts = a->prompts;
	return true;
}

static bool copy_options(struct ol_open_ask *a)
{
	struct ol_answer_options *o = &a->ask.answer;
	const size_t bias = (size_t)o->sampling.bias_count * sizeof *a->bias;
	size_t size = 1;
	for (int i = 0; i < o->stop_count; i++)
		size += strlen(o->stops[i]) + 1;
	a->stops = malloc(size);
	a->bias = malloc(bias + 1);
	if (!a->stops || !a->bias)
		return false;
	char *at = a->stops;
	for (int i = 0; i < o->stop_count; i++) {
		const size_t length = strlen(o->stops[i]) + 1;
		memcpy(at, o->stops[i], length);
		o->stops[i] = at;
		at += length;
	}
	if (bias > 0)
		memcpy(a->bias, o->sampling.bias, bias);
	o->sampling.bias = a->bias;
	return true;
}

static void copy_text(char *to, size_t size, const char **text)
{
	(void)snprintf(to, size, "%s", *text ? *text : "");
	*text = to;
}

static struct ol_open_ask *copy_ask(struct ol_service *s, const struct ol_ask *ask)
{
	struct ol_open_ask *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->service = s;
	a->ask = *ask;
	if (!ask->model)
		a->ask.model = s->base_name;
	copy_text(a->model, sizeof a->model, &a->ask.model);
	copy_text(a->account, sizeof a->account, &a->ask.account);
	copy_text(a->key_id, sizeof a->key_id, &a->ask.key_id);
	a->part_count = a->left = ask->prompt_count * (size_t)ask->choices;
	a->parts = calloc(a->part_count, sizeof *a->parts);
	a->open = calloc(a->part_count, sizeof *a->open);
	a->tickets = calloc(a->part_count, sizeof *a->tickets);
	const size_t hidden = (size_t)ol_model_config(s->runtime.model)->hidden;
	if (ask->embed)
		a->embeddings = calloc(a->part_count * hidden, sizeof *a->embeddings);
	if (!a->parts || !a->open || !a->tickets || (ask->embed && !a->embeddings) ||
	    !copy_prompts(a, ask) || !copy_options(a)) {
		release_ask(a);
		return NULL;
	}
	for (size_t i = 0; i < a->part_count; i++)
		a->open[i] = (struct ol_open_part){.ask = a, .index = i};
	return a;
}

/* --- giving up ------------------------------------------------------------- */

/* Under the lock. */
static void cancel_locked(struct ol_open_ask *a)
{
	const bool now = a->submitted && !a->cancelled && a->service->scheduler;
	a->cancelled = true;
	for (size_t i = 0; i < a->part_count && now; i++)
		ol_scheduler_cancel(a->service->scheduler, a->tickets[i]);
}

static void cancel_ask(struct ol_open_ask *a)
{
	(void)pthread_mutex_lock(&a->service->lock);
	cancel_locked(a);
	(void)pthread_mutex_unlock(&a->service->lock);
}

uint64_t ol_service_id(struct ol_service *s)
{
	(void)pthread_mutex_lock(&s->lock);
	const uint64_t id = ++s->last_id;
	(void)pthread_mutex_unlock(&s->lock);
	return id;
}

void ol_service_cancel(struct ol_service *s, uint64_t id)
{
	(void)pthread_mutex_lock(&s->lock);
	for (struct ol_open_ask *a = s->asks; a; a = a->next)
		if (a->ask.id == id)
			cancel_locked(a);
	(void)pthread_mutex_unlock(&s->lock);
}

void ol_service_cancel_key(struct ol_service *s, const char *key_id)
{
	(void)pthread_mutex_lock(&s->lock);
	for (struct ol_open_ask *a = s->asks; a; a = a->next)
		if (strcmp(a->key_id, key_id) == 0)
			cancel_locked(a);
	(void)pthread_mutex_unlock(&s->lock);
}

/* --- on the scheduler's thread --------------------------------------------- */

static bool is_cancelled(struct ol_open_ask *a)
{
	(void)pthread_mutex_lock(&a->service->lock);
	const bool cancelled = a->cancelled;
	(void)pthread_mutex_unlock(&a->service->lock);
	return cancelled;
}

static bool part_token(void *context, const struct ol_generation *generation, size_t final)
{
	struct ol_open_part *p = context;
	struct ol_open_ask *a = p->ask;
	const double now = ol_clock_seconds();
	if (is_cancelled(a))
		return false;
	if (p->last_token > 0.0 && generation->tokens.count > p->tokens)
		ol_histogram_observe(a->service->series.gap, now - p->last_token);
	p->last_token = now;
	p->tokens = generation->tokens.count;
	if (a->first_token == 0.0) {
		a->first_token = now;
		ol_histogram_observe(a->service->series.first_token, now - a->asked);
	}
	if (!a->ask.on_token || a->ask.on_token(a->ask.context, p->index, generation, final))
		return true;
	cancel_ask(a);
	return false;
}

static void part_done(void *context, enum ol_outcome outcome, struct ol_generation *generation,
		      const struct ol_error *err)
{
	struct ol_open_part *p = context;
	struct ol_open_ask *a = p->ask;
	struct ol_service *s = a->service;
	struct ol_part *part = &a->parts[p->index];
	part->outcome = outcome;
	part->generation = *generation;
	part->told = outcome == OL_OUTCOME_DONE ? part->generation.tokens.count : p->tokens;
	*generation = (struct ol_generation){0};
	if (err)
		part->err = *err;
	else if (outcome == OL_OUTCOME_STOPPED)
		(void)ol_fail(&part->err, OL_ERR_CANCELLED, "the node is shutting down");
	else if (outcome == OL_OUTCOME_DEADLINE)
		(void)ol_fail(&part->err, OL_ERR_CANCELLED,
			      "the answer took longer than the %g seconds that it may",
			      a->ask.seconds);
	if (a->ask.on_choice)
		a->ask.on_choice(a->ask.context, p->index, outcome, &part->generation,
				 part->err.status != OL_OK ? &part->err : NULL);
	if (--a->left > 0)
		return;
	(void)pthread_mutex_lock(&s->lock);
	*s->end_done = a;
	s->end_done = &a->next_done;
	(void)pthread_cond_signal(&s->done);
	(void)pthread_mutex_unlock(&s->lock);
}

/* --- asking ---------------------------------------------------------------- */

static enum ol_ask_result check(struct ol_service *s, const struct ol_ask *ask,
				uint64_t *prompt_tokens, uint64_t *completion_max,
				struct ol_error *err)
{
	const size_t max = ask->embed ? 1 : (size_t)OL_MAX(ask->answer.max_tokens, 0);
	OL_ASSERT(ask->prompt_count > 0 && ask->choices > 0 && ask->on_done);
	if (ask->prompt_count > OL_ASK_PROMPTS_MAX || ask->choices > OL_ASK_CHOICES_MAX ||
	    ask->prompt_count * (size_t)ask->choices > OL_ASK_PARTS_MAX) {
		(void)ol_fail(err, OL_ERR_INPUT,
			      "at most %d prompts, %d answers to each and %d answers in all",
			      OL_ASK_PROMPTS_MAX, OL_ASK_CHOICES_MAX, OL_ASK_PARTS_MAX);
		return OL_ASK_INVALID;
	}
	*prompt_tokens = *completion_max = 0;
	for (size_t i = 0; i < ask->prompt_count; i++) {
		const size_t count = ask->prompts[i].count;
		/* The last token is not run: it needs no position. */
		const int64_t room = s->room + 1 - (int64_t)count;
		if (room < 1 || (int64_t)max > room) {
			(void)ol_fail(err, OL_ERR_INPUT,
				      "This model's context holds %lld tokens, but you asked for "
				      "%zu (%zu in the prompt, %zu for the answer): shorten the "
				      "prompt or the answer.",
				      (long long)s->room, count + max, count, max);
			return OL_ASK_TOO_LONG;
		}
		*prompt_tokens += count;
		*completion_max += (uint64_t)ask->choices * (max > 0 ? max : (uint64_t)room);
	}
	if (ask->embed)
		*completion_max = 0;
	if (ask->model && strcmp(ask->model, s->base_name) != 0 &&
	    (ol_name_check(ask->model, NULL) != OL_OK || !ol_service_has_adapter(s, ask->model))) {
		(void)ol_fail(err, OL_ERR_NOT_FOUND,
			      "The model `%.128s` does not exist or you do not have access to it.",
			      ask->model);
		return OL_ASK_UNKNOWN_MODEL;
	}
	return OL_ASK_OK;
}

static void choose_seed(struct ol_service *s, struct ol_open_ask *a)
{
	struct ol_sampling *sampling = &a->ask.answer.sampling;
	if (a->ask.seed_given)
		return;
	const struct ol_accounting *accounting = &s->o.accounting;
	sampling->seed = accounting->seed ? accounting->seed(accounting->self, a->charge, &a->ask)
					  : ol_random_u64(&ol_random_system);
	sampling->seed %= OL_SEED_CHOSEN_MAX;
}

static void link_ask(struct ol_service *s, struct ol_open_ask *a)
{
	(void)pthread_mutex_lock(&s->lock);
	a->number = ++s->last_number;
	a->next = s->asks;
	if (s->asks)
		s->asks->previous = a;
	s->asks = a;
	s->ask_count++;
	s->stats.asks++;
	(void)pthread_mutex_unlock(&s->lock);
}

static void unlink_ask(struct ol_service *s, struct ol_open_ask *a)
{
	(void)pthread_mutex_lock(&s->lock);
	*(a->previous ? &a->previous->next : &s->asks) = a->next;
	if (a->next)
		a->next->previous = a->previous;
	s->ask_count--;
	(void)pthread_mutex_unlock(&s->lock);
}

static enum ol_ask_result submit(struct ol_service *s, struct ol_open_ask *a, struct ol_error *err)
{
	struct ol_request *requests = calloc(a->part_count, sizeof *requests);
	const int choices = a->ask.choices;
	const size_t hidden = (size_t)ol_model_config(s->runtime.model)->hidden;
	if (!requests)
		return OL_ASK_NO_MEMORY;
	(void)pthread_mutex_lock(&s->lock);
	const uint64_t group = s->last_group + 1;
	s->last_group += a->ask.prompt_count;
	(void)pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < a->part_count; i++) {
		const size_t prompt = i / (size_t)choices;
		struct ol_request *r = &requests[i];
		*r = (struct ol_request){
			.tenant = a->ask.tenant,
			.weight = a->ask.weight,
			.adapter = strcmp(a->model, s->base_name) == 0 ? NULL : a->model,
			.prompt = a->prompts[prompt].ids,
			.count = a->prompts[prompt].count,
			.answer = a->ask.answer,
			.embedding = a->embeddings ? a->embeddings + i * hidden : NULL,
			.group = choices > 1 ? group + prompt : 0,
			.deadline = a->asked + a->ask.seconds,
			.on_done = part_done,
			.context = &a->open[i]};
		r->answer.sampling.choice = (uint32_t)(i % (size_t)choices);
		r->answer.on_text = NULL;
		r->answer.on_token = part_token;
		r->answer.context = &a->open[i];
	}
	const enum ol_submit submitted =
		ol_scheduler_submit_all(s->scheduler, requests, a->part_count, a->tickets, err);
	free(requests);
	switch (submitted) {
	case OL_SUBMIT_OK: return OL_ASK_OK;
	case OL_SUBMIT_INVALID: return OL_ASK_INVALID;
	case OL_SUBMIT_FULL: return OL_ASK_FULL;
	case OL_SUBMIT_TENANT_FULL: return OL_ASK_TENANT_FULL;
	case OL_SUBMIT_NO_MEMORY: return OL_ASK_NO_MEMORY;
	case OL_SUBMIT_CLOSED: return OL_ASK_CLOSED;
	}
	OL_UNREACHABLE();
}

/* Somebody may have cancelled before there was anything to cancel. */
static void mark_submitted(struct ol_service *s, uint64_t number)
{
	(void)pthread_mutex_lock(&s->lock);
	for (struct ol_open_ask *a = s->asks; a; a = a->next)
		if (a->number == number) {
			const bool cancelled = a->cancelled;
			a->submitted = true;
			a->cancelled = false;
			if (cancelled)
				cancel_locked(a);
		}
	(void)pthread_mutex_unlock(&s->lock);
}

enum ol_ask_result ol_service_ask(struct ol_service *s, const struct ol_ask *ask,
				  struct ol_refusal *refusal, struct ol_error *err)
{
	const struct ol_accounting *accounting = &s->o.accounting;
	uint64_t prompt_tokens, completion_max;
	*refusal = (struct ol_refusal){0};
	enum ol_ask_result result = check(s, ask, &prompt_tokens, &completion_max, err);
	struct ol_open_ask *a = NULL;
	if (result == OL_ASK_OK) {
		a = copy_ask(s, ask);
		result = a ? OL_ASK_OK : OL_ASK_NO_MEMORY;
	}
	if (result == OL_ASK_OK) {
		a->asked = ol_clock_seconds();
		if (a->ask.seconds <= 0.0 || a->ask.seconds > s->o.ask_seconds)
			a->ask.seconds = s->o.ask_seconds;
		if (accounting->reserve &&
		    !accounting->reserve(accounting->self, &a->charge, refusal, &a->ask,
					 prompt_tokens, completion_max, err)) {
			release_ask(a);
			a = NULL;
			result = OL_ASK_REFUSED;
		}
	}
	if (result == OL_ASK_OK) {
		choose_seed(s, a);
		link_ask(s, a);
		const uint64_t number = a->number; /* it may be gone when submit returns */
		result = submit(s, a, err);
		if (result == OL_ASK_OK) {
			mark_submitted(s, number);
			return OL_ASK_OK;
		}
		unlink_ask(s, a);
		if (accounting->release)
			accounting->release(accounting->self, a->charge);
	}
	if (a)
		release_ask(a);
	ol_counter_add(s->series.refused[result], 1);
	return result;
}

size_t ol_service_asks(struct ol_service *s)
{
	(void)pthread_mutex_lock(&s->lock);
	const size_t count = s->ask_count;
	(void)pthread_mutex_unlock(&s->lock);
	return count;
}

/* --- the clerk ------------------------------------------------------------- */

/* The prompt of an answer that never began costs nothing, nor does one more answer to it. */
static struct ol_usage sum_up(const struct ol_open_ask *a)
{
	struct ol_usage usage = {0};
	const size_t choices = (size_t)a->ask.choices;
	for (size_t p = 0; p < a->ask.prompt_count; p++) {
		bool begun = false;
		for (size_t i = p * choices; i < (p + 1) * choices; i++) {
			/* Whoever left does not pay for what was made behind his back. */
			begun |= a->parts[i].told > 0 || a->parts[i].outcome == OL_OUTCOME_DONE;
			usage.completion_tokens += a->parts[i].told;
		}
		if (!begun)
			continue;
		usage.prompt_tokens += a->prompts[p].count;
		usage.cached_tokens += a->parts[p * choices].generation.cached;
	}
	return usage;
}

/* What ended worst decides what the whole is: a failure of ours, then what the client did. */
static const struct ol_part *worst(const struct ol_open_ask *a)
{
	static const int rank[] = {
		[OL_OUTCOME_DONE] = 0,           [OL_OUTCOME_CANCELLED] = 1,
		[OL_OUTCOME_DEADLINE] = 2,       [OL_OUTCOME_UNKNOWN_ADAPTER] = 3,
		[OL_OUTCOME_BROKEN_ADAPTER] = 4, [OL_OUTCOME_STOPPED] = 5,
		[OL_OUTCOME_FAILED] = 6};
	const struct ol_part *most = &a->parts[0];
	for (size_t i = 1; i < a->part_count; i++)
		if (rank[a->parts[i].outcome] > rank[most->outcome])
			most = &a->parts[i];
	return most;
}

static const uint8_t *adapter_hash(const struct ol_open_ask *a)
{
	static const uint8_t none[OL_SHA256_BYTES];
	for (size_t i = 0; i < a->part_count; i++)
		if (memcmp(a->parts[i].generation.adapter_sha256, none, sizeof none) != 0)
			return a->parts[i].generation.adapter_sha256;
	return NULL;
}

static void close_ask(struct ol_service *s, struct ol_open_ask *a)
{
	const struct ol_accounting *accounting = &s->o.accounting;
	const struct ol_part *part = worst(a);
	const double now = ol_clock_seconds();
	struct ol_error err = {0};
	struct ol_answered answered = {
		.ask = &a->ask,
		.parts = a->parts,
		.part_count = a->part_count,
		.embeddings = a->embeddings,
		.hidden = ol_model_config(s->runtime.model)->hidden,
		.usage = sum_up(a),
		.seed = a->ask.answer.sampling.seed,
		.adapter_sha256 = adapter_hash(a),
		.outcome = part->outcome,
		.err = &part->err,
		.first_token_seconds = a->first_token > 0.0 ? a->first_token - a->asked : 0.0,
		.seconds = now - a->asked};
	/* A stream that ran out of time has told what it told: were that free, asking for more than
	 * fits into the time would be a way not to pay. Who left before anything came owes
	 * nothing. */
	const bool due = part->outcome == OL_OUTCOME_DONE ||
			 (answered.usage.prompt_tokens > 0 &&
			  (part->outcome == OL_OUTCOME_CANCELLED ||
			   (part->outcome == OL_OUTCOME_DEADLINE && a->ask.on_token)));
	if (due && accounting->post) {
		if (accounting->post(accounting->self, a->charge, &answered.receipt, &answered,
				     &err) != OL_OK) {
			answered.outcome = OL_OUTCOME_FAILED;
			answered.err = &err;
		}
	} else if (!due && accounting->release) {
		accounting->release(accounting->self, a->charge);
	}
	ol_counter_add(s->series.outcomes[answered.outcome], 1);
	ol_histogram_observe(s->series.whole, answered.seconds);
	a->ask.on_done(a->ask.context, &answered);
	json_decref(answered.receipt);
	(void)pthread_mutex_lock(&s->lock);
	s->stats.failed += !due;
	s->stats.cancelled += answered.outcome == OL_OUTCOME_CANCELLED;
	(void)pthread_mutex_unlock(&s->lock);
	unlink_ask(s, a);
	release_ask(a);
}

void *ol_service_clerk(void *service)
{
	struct ol_service *s = service;
	(void)pthread_mutex_lock(&s->lock);
	for (;;) {
		struct ol_open_ask *a = s->first_done;
		if (!a && s->closing)
			break;
		if (!a) {
			(void)pthread_cond_wait(&s->done, &s->lock);
			continue;
		}
		s->first_done = a->next_done;
		if (!s->first_done)
			s->end_done = &s->first_done;
		(void)pthread_mutex_unlock(&s->lock);
		close_ask(s, a);
		(void)pthread_mutex_lock(&s->lock);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return NULL;
}
