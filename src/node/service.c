/* node/service.c: life of a serving node, and its threads. */
#include "node/service_internal.h"

#include "model/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PREFIXES_DEFAULT = 64 };
static const double ASK_SECONDS = 600.0;
#define GIB ((uint64_t)1 << 30)

/* A share of the machine's memory, of which no more than `most` is wise without being asked. */
static uint64_t memory_share(int parts, uint64_t most)
{
	const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
	if (pages <= 0 || bytes <= 0)
		return most / 4;
	return OL_MIN((uint64_t)pages * (uint64_t)bytes / (uint64_t)parts, most);
}

static enum ol_status start_engine(struct ol_service *s, struct ol_error *err)
{
	const struct ol_config *c = ol_model_config(s->runtime.model);
	struct ol_engine_options engine = s->o.engine;
	const uint64_t page = (uint64_t)c->layers * (uint64_t)c->kv_heads * 2 *
			      ol_kv_half_bytes(c, engine.kv_type);
	const uint64_t bytes = s->o.kv_bytes ? s->o.kv_bytes : memory_share(4, 4 * GIB);
	const uint64_t pages = bytes / page;
	if (pages < 2)
		return ol_fail(err, OL_ERR_INPUT,
			       "%llu bytes of KV cache are less than two pages of %llu bytes: give "
			       "it more",
			       (unsigned long long)bytes, (unsigned long long)page);
	/* More than a full batch of whole contexts will never be used. */
	const uint64_t whole = (uint64_t)(c->context_max + OL_KV_PAGE) / OL_KV_PAGE;
	const uint64_t most = whole * (uint64_t)(OL_BATCH_MAX + PREFIXES_DEFAULT);
	engine.kv_positions = (int64_t)OL_MIN(pages, most) * OL_KV_PAGE;
	const enum ol_status status = ol_runtime_start(&s->runtime, &engine, err);
	if (status == OL_OK)
		s->room = OL_MIN(ol_engine_pages_total(s->runtime.engine) * OL_KV_PAGE,
				 (int64_t)c->context_max);
	return status;
}

/* By a thread that has read an adapter, which may be slower than the scheduler's end. */
static void wake(void *context)
{
	struct ol_service *s = context;
	(void)pthread_mutex_lock(&s->lock);
	if (s->scheduler) /* a reading thread may outlive it */
		ol_scheduler_wake(s->scheduler);
	(void)pthread_mutex_unlock(&s->lock);
}

static enum ol_status open_parts(struct ol_service *s, struct ol_error *err)
{
	s->source = (struct ol_adapter_source){ol_service_read, ol_adapter_folders.bytes, s};
	const struct ol_adapter_pool_options pool = {
		.base = ol_model_config(s->runtime.model),
		.bytes_max = (size_t)(s->o.adapter_bytes ? s->o.adapter_bytes
							 : memory_share(8, 2 * GIB)),
		.readers = s->o.readers,
		.source = &s->source,
		.wake = wake,
		.context = s};
	enum ol_status status = ol_adapter_pool_open(&s->pool, &pool, err);
	if (status != OL_OK)
		return status;
	const int prefixes = s->o.prefixes_max ? s->o.prefixes_max : PREFIXES_DEFAULT;
	const struct ol_scheduler_options scheduler = {.engine = s->runtime.engine,
						       .tokenizer = s->runtime.tokenizer,
						       .adapters = s->pool,
						       .batch_max = s->o.batch_max,
						       .queue_max = s->o.queue_max,
						       .stall_seconds = s->o.stall_seconds,
						       .prefixes_max = OL_MAX(prefixes, 0),
						       .on_step = ol_service_on_step,
						       .context = s};
	return ol_scheduler_open(&s->scheduler, &scheduler, err);
}

static void *run_scheduler(void *context)
{
	const struct ol_service *s = context;
	ol_scheduler_run(s->scheduler);
	return NULL;
}

static enum ol_status start_threads(struct ol_service *s, struct ol_error *err)
{
	s->clerk_runs = pthread_create(&s->clerk, NULL, ol_service_clerk, s) == 0;
	s->thread_runs = s->clerk_runs && pthread_create(&s->thread, NULL, run_scheduler, s) == 0;
	return s->thread_runs ? OL_OK
			      : ol_fail(err, OL_ERR_FULL, "no thread can be started to serve");
}

static enum ol_status name_base(struct ol_service *s, const struct ol_service_options *o,
				struct ol_error *err)
{
	char id[2 * OL_MODEL_ID_BYTES + 1];
	if (o->base_name) {
		const enum ol_status status = ol_name_check(o->base_name, err);
		if (status != OL_OK)
			return status;
		(void)snprintf(s->base_name, sizeof s->base_name, "%s", o->base_name);
	} else {
		ol_name_from_path(s->base_name, s->runtime.name);
	}
	ol_hex(id, ol_model_id(s->runtime.model), OL_MODEL_ID_BYTES);
	(void)snprintf(s->fingerprint, sizeof s->fingerprint, "ol-%.16s-%s", id,
		       OL_ARITHMETIC_VERSION);
	return OL_OK;
}

/* A model that cannot spell JSON is served all the same: only structured output is refused. */
static void open_vocab(struct ol_service *s)
{
	const struct ol_config *c = ol_model_config(s->runtime.model);
	if (!s->runtime.tokenizer ||
	    ol_grammar_vocab_open(&s->vocab, s->runtime.tokenizer, c->vocab_size, c->eos_ids,
				  c->eos_count, 0, NULL) != OL_OK)
		s->vocab = NULL;
}

enum ol_status ol_service_open(struct ol_service **service_out,
			       const struct ol_service_options *options, struct ol_error *err)
{
	struct ol_service *s = calloc(1, sizeof *s);
	*service_out = NULL;
	OL_ASSERT(!options->runtime->engine && !options->runtime->adapter);
	if (!s) {
		ol_runtime_close(options->runtime);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the service");
	}
	s->runtime = *options->runtime;
	*options->runtime = (struct ol_runtime){0};
	s->o = *options;
	s->o.runtime = &s->runtime;
	if (s->o.ask_seconds == 0.0)
		s->o.ask_seconds = ASK_SECONDS;
	s->opened = (int64_t)time(NULL);
	s->end_done = &s->first_done;
	if (options->home)
		(void)snprintf(s->home, sizeof s->home, "%s", options->home->path);
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_mutex_init(&s->models, NULL);
	(void)pthread_cond_init(&s->done, NULL);
	enum ol_status status = name_base(s, options, err);
	if (status == OL_OK)
		status = start_engine(s, err);
	if (status == OL_OK)
		status = open_parts(s, err);
	if (status == OL_OK)
		status = ol_service_scan(s, options->home, options->adapters, err);
	if (status == OL_OK) {
		open_vocab(s);
		ol_service_register(s);
		ol_service_on_step(s, 0, 0, 0.0);
		status = start_threads(s, err);
	}
	if (status != OL_OK) {
		ol_service_close(s);
		return status;
	}
	*service_out = s;
	return OL_OK;
}

void ol_service_drain(struct ol_service *s)
{
	ol_scheduler_stop(s->scheduler, true);
}

void ol_service_close(struct ol_service *s)
{
	if (!s)
		return;
	if (s->scheduler)
		ol_scheduler_stop(s->scheduler, false);
	if (s->thread_runs)
		(void)pthread_join(s->thread, NULL);
	(void)pthread_mutex_lock(&s->lock);
	struct ol_scheduler *scheduler = s->scheduler;
	s->scheduler = NULL; /* a cancel or a wake finds none */
	(void)pthread_mutex_unlock(&s->lock);
	ol_scheduler_close(scheduler); /* what is left goes to the clerk */
	(void)pthread_mutex_lock(&s->lock);
	s->closing = true;
	(void)pthread_cond_signal(&s->done);
	(void)pthread_mutex_unlock(&s->lock);
	if (s->clerk_runs)
		(void)pthread_join(s->clerk, NULL);
	OL_ASSERT(s->ask_count == 0);
	ol_adapter_pool_close(s->pool);
	if (s->vocab)
		ol_grammar_vocab_close(s->vocab);
	ol_runtime_close(&s->runtime);
	ol_service_forget_models(s);
	(void)pthread_cond_destroy(&s->done);
	(void)pthread_mutex_destroy(&s->models);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

const struct ol_runtime *ol_service_runtime(const struct ol_service *s)
{
	return &s->runtime;
}

const char *ol_service_base_name(const struct ol_service *s)
{
	return s->base_name;
}

struct ol_grammar_vocab *ol_service_vocab(const struct ol_service *s)
{
	return s->vocab;
}

int64_t ol_service_room(const struct ol_service *s)
{
	return s->room;
}

const char *ol_service_fingerprint(const struct ol_service *s)
{
	return s->fingerprint;
}

const struct ol_accounting *ol_service_accounting(const struct ol_service *s)
{
	return &s->o.accounting;
}
