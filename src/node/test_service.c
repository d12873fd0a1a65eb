/* The serving node: whoever asks gets the bits that he would get alone, the right code when he is
 * refused, and pays for what he got. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "node/test_world.h"

#include <stdatomic.h>
#include <pthread.h>
#include <time.h>

#include "model/embedding.h"
#include "node/generate.h"
#include "node/service.h"

static char folder[OL_PATH_MAX / 2];
static struct ol_service *service;
enum { ADAPTERS = 32 };

/* --- a node ---------------------------------------------------------------- */

static void open_service(struct ol_service_options options)
{
	struct ol_runtime runtime;
	struct ol_error err;
	open_tiny(&runtime);
	options.runtime = &runtime;
	options.adapters = folder;
	options.engine.threads = 2;
	must(ol_service_open(&service, &options, &err), &err);
}

static void close_service(void)
{
	ol_service_close(service);
	service = NULL;
}

/* One ask and what came of it. */
struct asked {
	struct ol_ask ask;
	struct ol_tokens prompt[4];
	char model[OL_NAME_MAX + 1];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	size_t told, chosen;  /* calls of on_token and on_choice */
	size_t give_up_after; /* tokens; 0: never */
	enum ol_outcome outcome;
	struct ol_usage usage;
	uint64_t seed;
	bool adapted;
	uint8_t adapter[OL_SHA256_BYTES];
	char why[OL_ERROR_TEXT_MAX];
	size_t part_count;
	struct ol_tokens answers[8];
	struct ol_buf texts[8], streamed[8];
	float embedding[4][32];
};

static bool on_token(void *context, size_t part, const struct ol_generation *g, size_t final)
{
	struct asked *a = context;
	OL_ASSERT(part < OL_ARRAY_LEN(a->streamed) && final >= a->streamed[part].size);
	ol_buf_append(&a->streamed[part], g->text.data + a->streamed[part].size,
		      final - a->streamed[part].size);
	a->told++;
	return a->give_up_after == 0 || a->told < a->give_up_after;
}

static void on_choice(void *context, size_t part, enum ol_outcome outcome,
		      const struct ol_generation *g, const struct ol_error *err)
{
	struct asked *a = context;
	(void)part;
	(void)g;
	OL_ASSERT(!a->done);
	OL_ASSERT((err != NULL) == (outcome != OL_OUTCOME_DONE && outcome != OL_OUTCOME_CANCELLED));
	a->chosen++;
}

static void on_done(void *context, const struct ol_answered *answered)
{
	struct asked *a = context;
	(void)pthread_mutex_lock(&a->lock);
	OL_ASSERT(!a->done && a->chosen == answered->part_count);
	a->outcome = answered->outcome;
	a->usage = answered->usage;
	a->seed = answered->seed;
	a->part_count = answered->part_count;
	a->adapted = answered->adapter_sha256 != NULL;
	if (a->adapted)
		memcpy(a->adapter, answered->adapter_sha256, sizeof a->adapter);
	if (answered->err->status != OL_OK)
		(void)snprintf(a->why, sizeof a->why, "%s", answered->err->text);
	for (size_t i = 0; i < answered->part_count && i < OL_ARRAY_LEN(a->answers); i++) {
		const struct ol_generation *g = &answered->parts[i].generation;
		for (size_t k = 0; k < g->tokens.count; k++)
			OL_ASSERT(ol_tokens_push(&a->answers[i], g->tokens.ids[k]));
		ol_buf_append(&a->texts[i], g->text.data ? g->text.data : "", g->text.size);
	}
	if (answered->embeddings)
		memcpy(a->embedding, answered->embeddings,
		       answered->part_count * sizeof a->embedding[0]);
	a->done = true;
	(void)pthread_cond_signal(&a->changed);
	(void)pthread_mutex_unlock(&a->lock);
}

static void set_prompt(struct asked *a, int index, const char *text)
{
	for (size_t i = 0; text[i]; i++)
		OL_ASSERT(ol_tokens_push(&a->prompt[index], (uint8_t)text[i]));
}

static struct asked *prepare(const char *model, const char *prompt, int max_tokens)
{
	struct asked *a = calloc(1, sizeof *a);
	(void)pthread_mutex_init(&a->lock, NULL);
	(void)pthread_cond_init(&a->changed, NULL);
	for (size_t i = 0; i < OL_ARRAY_LEN(a->texts); i++) {
		ol_buf_init(&a->texts[i], 1 << 20);
		ol_buf_init(&a->streamed[i], 1 << 20);
	}
	if (model)
		(void)snprintf(a->model, sizeof a->model, "%s", model);
	set_prompt(a, 0, prompt);
	a->ask = (struct ol_ask){.model = model ? a->model : NULL,
				 .tenant = 1,
				 .prompts = a->prompt,
				 .prompt_count = 1,
				 .choices = 1,
				 .seed_given = true,
				 .answer = {.max_tokens = max_tokens,
					    .ignore_eos = true,
					    .sampling = {.temperature = 1.0f,
							 .top_p = 1.0f,
							 .repeat_penalty = 1.0f,
							 .seed = 7}},
				 .on_token = on_token,
				 .on_choice = on_choice,
				 .on_done = on_done,
				 .context = a};
	return a;
}

static void drop(struct asked *a)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(a->texts); i++) {
		ol_buf_release(&a->texts[i]);
		ol_buf_release(&a->streamed[i]);
		ol_tokens_release(&a->answers[i]);
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(a->prompt); i++)
		ol_tokens_release(&a->prompt[i]);
	(void)pthread_cond_destroy(&a->changed);
	(void)pthread_mutex_destroy(&a->lock);
	free(a);
}

static void ask(struct asked *a)
{
	struct ol_error err = {0};
	struct ol_refusal refusal;
	const enum ol_ask_result r = ol_service_ask(service, &a->ask, &refusal, &err);
	if (r != OL_ASK_OK)
		fail_msg("ask %d: %s", (int)r, err.text);
}

static void wait_for(struct asked *a)
{
	(void)pthread_mutex_lock(&a->lock);
	while (!a->done)
		(void)pthread_cond_wait(&a->changed, &a->lock);
	(void)pthread_mutex_unlock(&a->lock);
}

/* The same by ol_generate, on an engine of its own. */
static void expect_same(const struct asked *a, int part)
{
	struct ol_runtime r;
	struct ol_error err;
	struct ol_generation g;
	struct ol_answer_options options = a->ask.answer;
	const struct ol_engine_options engine = {.threads = 1, .step_rows = 64};
	open_tiny(&r);
	options.sampling.choice = (uint32_t)(part % a->ask.choices);
	options.sampling.seed = a->seed;
	if (a->model[0])
		r.adapter = make_adapter((uint32_t)strtoul(a->model + 1, NULL, 10));
	must(ol_runtime_start(&r, &engine, &err), &err);
	must(ol_generate(&g, &r, &a->prompt[part / a->ask.choices], &options, &err), &err);
	assert_int_equal(a->outcome, OL_OUTCOME_DONE);
	assert_int_equal(a->answers[part].count, g.tokens.count);
	assert_memory_equal(a->answers[part].ids, g.tokens.ids,
			    g.tokens.count * sizeof *g.tokens.ids);
	assert_int_equal(a->texts[part].size, g.text.size);
	assert_memory_equal(a->texts[part].data, g.text.data, g.text.size);
	assert_int_equal(a->streamed[part].size, g.text.size);
	assert_memory_equal(a->streamed[part].data, g.text.data, g.text.size);
	assert_int_equal(a->adapted, r.adapter != NULL);
	if (r.adapter)
		assert_memory_equal(a->adapter, ol_adapter_sha256(r.adapter), OL_SHA256_BYTES);
	ol_generation_release(&g);
	ol_runtime_close(&r);
}

/* --- tests ----------------------------------------------------------------- */

/* Alone; with 32 others under 32 adapters; in a node with so few pages that answers are preempted:
 * always what ol_generate says. */
static void test_bits(void **state)
{
	enum { CROWD = 33 };
	static const struct {
		uint64_t kv_bytes;
		int batch_max;
	} rows[] = {{0, 0}, {1 << 17, 48}};
	struct ol_service_stats stats;
	(void)state;
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		struct asked *crowd[CROWD];
		open_service((struct ol_service_options){.kv_bytes = rows[r].kv_bytes,
							 .batch_max = rows[r].batch_max});
		for (int i = 0; i < CROWD; i++) {
			char model[16], prompt[64];
			(void)snprintf(model, sizeof model, "a%d", i);
			(void)snprintf(prompt, sizeof prompt, "Question %d of many: %*s?", i,
				       i % 20, "what");
			crowd[i] = prepare(i < ADAPTERS ? model : NULL, prompt, 20 + i % 30);
			crowd[i]->ask.answer.sampling.seed = (uint64_t)i;
			crowd[i]->ask.tenant = (uint64_t)i % 3;
		}
		for (int i = 0; i < CROWD; i++) /* all at once: pages must run out */
			ask(crowd[i]);
		for (int i = 0; i < CROWD; i++)
			wait_for(crowd[i]);
		ol_service_stats(service, &stats);
		assert_true(r == 0 || stats.scheduler.preempted > 0);
		for (int i = 0; i < CROWD; i++) {
			expect_same(crowd[i], 0);
			assert_int_equal(crowd[i]->usage.prompt_tokens, crowd[i]->prompt[0].count);
			assert_int_equal(crowd[i]->usage.completion_tokens,
					 crowd[i]->answers[0].count);
			drop(crowd[i]);
		}
		close_service();
	}
}

/* Two prompts, three answers to each: each prompt is read, and paid, once. */
static void test_choices(void **state)
{
	struct asked *a = prepare("a3", "The first of two prompts, longer than a page", 9);
	struct ol_service_stats stats;
	(void)state;
	open_service((struct ol_service_options){0});
	set_prompt(a, 1, "And this is the second one, of another length");
	a->ask.prompt_count = 2;
	a->ask.choices = 3;
	ask(a);
	wait_for(a);
	assert_int_equal(a->part_count, 6);
	for (int i = 0; i < 6; i++)
		expect_same(a, i);
	assert_int_equal(a->usage.prompt_tokens, a->prompt[0].count + a->prompt[1].count);
	assert_int_equal(a->usage.completion_tokens, 6 * 9);
	assert_int_equal(a->usage.cached_tokens, 0);
	ol_service_stats(service, &stats);
	assert_int_equal(stats.scheduler.shared_tokens,
			 2 * (a->prompt[0].count + a->prompt[1].count - 2));
	drop(a);
	close_service();
}

/* What was said before need not be read again, and the usage says so. */
static void test_cached_tokens(void **state)
{
	static const char prompt[] =
		"A prompt that is long enough to fill a few pages of the cache.";
	(void)state;
	open_service((struct ol_service_options){0});
	for (int i = 0; i < 3; i++) {
		struct asked *a = prepare("a1", prompt, 4);
		a->ask.tenant = i == 2 ? 2 : 1; /* another's prompts are nobody's business */
		ask(a);
		wait_for(a);
		assert_int_equal(a->usage.cached_tokens, i == 1 ? sizeof prompt - 2 : 0);
		expect_same(a, 0);
		drop(a);
	}
	close_service();
}

static void test_chosen_seed(void **state)
{
	uint64_t seeds[2];
	(void)state;
	open_service((struct ol_service_options){0});
	for (int i = 0; i < 2; i++) {
		struct asked *a = prepare(NULL, "Say something", 12);
		a->ask.seed_given = false;
		ask(a);
		wait_for(a);
		seeds[i] = a->seed;
		assert_true(a->seed < OL_SEED_CHOSEN_MAX);
		expect_same(a, 0); /* with that seed, anybody says the same */
		drop(a);
	}
	assert_true(seeds[0] != seeds[1]);
	close_service();
}

/* What the engine says of a text by itself. */
static void embed_alone(float sum[32], const struct ol_tokens *prompt, uint32_t adapter)
{
	float hidden[128][32];
	struct ol_runtime r;
	struct ol_error err;
	struct ol_session *session;
	const struct ol_engine_options engine = {.threads = 1};
	open_tiny(&r);
	r.adapter = make_adapter(adapter);
	must(ol_runtime_start(&r, &engine, &err), &err);
	assert_int_equal(ol_session_open(&session, r.engine), OL_OK);
	struct ol_run run = {.session = session,
			     .tokens = prompt->ids,
			     .count = (int)prompt->count,
			     .hidden = hidden[0],
			     .adapter = ol_runtime_adapter(&r)};
	must(ol_engine_step(r.engine, &run, 1, &err), &err);
	memset(sum, 0, 32 * sizeof *sum);
	ol_embedding_add(sum, ol_engine_kernels(r.engine), hidden[0], run.count, 32);
	ol_embedding_finish(sum, run.count, 32);
	ol_session_close(session);
	ol_runtime_close(&r);
}

/* The mean of the hidden states, whoever else is there; also in a node so small that texts are put
 * back and begun again. */
static void test_embeddings(void **state)
{
	enum { OTHERS = 8 };
	static const char text[] = "A text to be embedded, over more than one page of positions";
	static const uint64_t kv_bytes[] = {0, 1 << 17};
	struct asked *a, *others[OTHERS];
	float sum[32], square = 0.0f;
	(void)state;
	for (size_t r = 0; r < OL_ARRAY_LEN(kv_bytes); r++) {
		open_service((struct ol_service_options){.kv_bytes = kv_bytes[r],
							 .engine = {.step_rows = 24}});
		for (int i = 0; i < OTHERS; i++) {
			others[i] = prepare("a5", "others talk meanwhile", 100);
			ask(others[i]);
		}
		a = prepare("a2", text, 0);
		set_prompt(a, 1, "b");
		a->ask.prompt_count = 2;
		a->ask.embed = true;
		ask(a);
		wait_for(a);
		assert_int_equal(a->outcome, OL_OUTCOME_DONE);
		assert_int_equal(a->usage.prompt_tokens, sizeof text - 1 + 1);
		assert_int_equal(a->usage.completion_tokens, 0);
		for (int i = 0; i < OTHERS; i++) {
			wait_for(others[i]);
			drop(others[i]);
		}
		embed_alone(sum, &a->prompt[1], 2);
		assert_memory_equal(sum, a->embedding[1], sizeof sum);
		embed_alone(sum, &a->prompt[0], 2);
		assert_memory_equal(sum, a->embedding[0], sizeof sum);
		drop(a);
		close_service();
	}
	for (int i = 0; i < 32; i++)
		square += sum[i] * sum[i];
	assert_true(square > 0.99999f && square < 1.00001f);
}

/* --- refusals -------------------------------------------------------------- */

static enum ol_ask_result try_ask(struct asked *a, struct ol_error *err)
{
	struct ol_refusal refusal;
	return ol_service_ask(service, &a->ask, &refusal, err);
}

static void test_refusals(void **state)
{
	struct ol_error err;
	struct asked *a = prepare("nobody", "x", 4);
	(void)state;
	open_service((struct ol_service_options){0});
	assert_int_equal(try_ask(a, &err), OL_ASK_UNKNOWN_MODEL);
	assert_non_null(strstr(err.text, "`nobody` does not exist"));
	a->ask.model = "../a1";
	assert_int_equal(try_ask(a, &err), OL_ASK_UNKNOWN_MODEL);
	a->ask.model = "tiny";
	a->ask.answer.max_tokens = 512;
	ask(a);
	wait_for(a);
	assert_int_equal(a->answers[0].count, 512); /* the last token needs no position */
	drop(a);

	a = prepare("tiny", "x", 513);
	assert_int_equal(try_ask(a, &err), OL_ASK_TOO_LONG);
	assert_non_null(strstr(err.text, "512"));
	a->ask.answer.max_tokens = 4;
	a->ask.answer.sampling.top_p = 3.0f;
	assert_int_equal(try_ask(a, &err), OL_ASK_INVALID);
	assert_non_null(strstr(err.text, "top-p"));
	a->ask.answer.sampling.top_p = 1.0f;
	a->ask.choices = OL_ASK_CHOICES_MAX + 1;
	assert_int_equal(try_ask(a, &err), OL_ASK_INVALID);
	a->ask.choices = 1;
	a->ask.prompt_count = 2; /* the second one is empty */
	assert_int_equal(try_ask(a, &err), OL_ASK_INVALID);
	a->ask.prompt_count = 1;
	ol_service_drain(service);
	assert_int_equal(try_ask(a, &err), OL_ASK_CLOSED);
	drop(a);
	close_service();
}

static void test_full_queues(void **state)
{
	struct ol_error err;
	struct asked *a = prepare(NULL, "x", 4);
	(void)state;
	open_service((struct ol_service_options){.queue_max = 8});
	a->ask.choices = 9; /* all or none */
	assert_int_equal(try_ask(a, &err), OL_ASK_FULL);
	a->ask.choices = 3; /* a quarter of 8 for one account */
	assert_int_equal(try_ask(a, &err), OL_ASK_TENANT_FULL);
	a->ask.choices = 2;
	ask(a);
	wait_for(a);
	drop(a);
	close_service();
}

/* An adapter that is not what its manifest says, is truncated, or went away: an error in words, and
 * everybody else goes on. */
static void test_broken_adapters(void **state)
{
	static const char *const names[] = {"b1", "b2"};
	char path[OL_PATH_MAX];
	struct ol_error err;
	struct asked *a, *other;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++)
		write_adapter(folder, names[i], 1);
	open_service((struct ol_service_options){0});
	other = prepare("a1", "goes on", 200);
	ask(other);
	must(ol_path_join(path, &err, folder, "/b1/adapter_model.safetensors", ""), &err);
	assert_int_equal(truncate(path, 1000), 0);
	must(ol_path_join(path, &err, folder, "/b2/adapter_config.json", ""), &err);
	assert_int_equal(remove(path), 0);
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		a = prepare(names[i], "x", 4);
		ask(a);
		wait_for(a);
		assert_int_equal(a->outcome, OL_OUTCOME_BROKEN_ADAPTER);
		assert_non_null(strstr(a->why, names[i]));
		assert_int_equal(a->usage.prompt_tokens + a->usage.completion_tokens, 0);
		drop(a);
	}
	wait_for(other);
	expect_same(other, 0);
	drop(other);
	close_service();
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		must(ol_path_join(path, &err, folder, "/", names[i]), &err);
		remove_folder(path);
	}
}

/* --- endings --------------------------------------------------------------- */

static void test_endings(void **state)
{
	struct asked *a = prepare(NULL, "for ever", 500);
	(void)state;
	open_service((struct ol_service_options){.ask_seconds = 60});
	a->give_up_after = 5; /* by itself */
	ask(a);
	wait_for(a);
	assert_int_equal(a->outcome, OL_OUTCOME_CANCELLED);
	assert_int_equal(a->usage.completion_tokens, 5);
	drop(a);

	a = prepare(NULL, "for ever", 500); /* by its id, then by its key */
	a->ask.choices = 2;
	a->ask.key_id = "key-1";
	a->ask.id = ol_service_id(service);
	ask(a);
	ol_service_cancel(service, a->ask.id);
	ol_service_cancel(service, a->ask.id);
	ol_service_cancel(service, 999999);
	wait_for(a);
	assert_int_equal(a->outcome, OL_OUTCOME_CANCELLED);
	drop(a);

	struct asked *b = prepare(NULL, "for ever", 500);
	a = prepare(NULL, "for ever", 300);
	a->ask.key_id = "key-1";
	b->ask.key_id = "key-2";
	ask(b);
	ask(a);
	ol_service_cancel_key(service, "key-2");
	wait_for(b);
	wait_for(a);
	assert_int_equal(b->outcome, OL_OUTCOME_CANCELLED);
	assert_int_equal(a->outcome, OL_OUTCOME_DONE);
	drop(a);
	drop(b);

	a = prepare(NULL, "for ever", 500); /* by the clock: costs nothing */
	a->ask.choices = 8;
	a->ask.seconds = 0.002;
	ask(a);
	wait_for(a);
	assert_int_equal(a->outcome, OL_OUTCOME_DEADLINE);
	assert_non_null(strstr(a->why, "seconds"));
	drop(a);

	a = prepare(NULL, "for ever", 500); /* by the node's end */
	a->ask.choices = 8;
	ask(a);
	close_service();
	assert_true(a->done);
	assert_int_equal(a->outcome, OL_OUTCOME_STOPPED);
	drop(a);
}

/* A drained node finishes what it has begun. */
static void test_drain(void **state)
{
	struct asked *a = prepare("a1", "to the end", 60);
	(void)state;
	open_service((struct ol_service_options){0});
	ask(a);
	ol_service_drain(service);
	while (ol_service_asks(service) > 0)
		(void)nanosleep(&(struct timespec){0, 1000000}, NULL);
	expect_same(a, 0);
	drop(a);
	close_service();
}

/* --- money ----------------------------------------------------------------- */

static atomic_bool gate;

static bool on_token_slowly(void *context, size_t part, const struct ol_generation *g, size_t final)
{
	(void)context;
	(void)part;
	(void)g;
	(void) final;
	(void)nanosleep(&(struct timespec){0, 2000000}, NULL);
	return true;
}

struct book {
	int reserved, posted, released;
	uint64_t prompt_tokens, completion_max;
	struct ol_usage usage;
	bool poor, broken;
};

static bool reserve(void *self, void **charge, struct ol_refusal *refusal,
		    const struct ol_ask *asks, uint64_t prompt_tokens, uint64_t completion_max,
		    struct ol_error *err)
{
	struct book *b = self;
	assert_string_equal(asks->account, "alice");
	b->prompt_tokens = prompt_tokens;
	b->completion_max = completion_max;
	if (b->poor) {
		*refusal = (struct ol_refusal){402, "insufficient_quota", "insufficient_quota", 0};
		(void)ol_fail(err, OL_ERR_INPUT, "nothing left");
		return false;
	}
	b->reserved++;
	*charge = b;
	return true;
}

static enum ol_status post(void *self, void *charge, json_t **receipt,
			   const struct ol_answered *answered, struct ol_error *err)
{
	struct book *b = self;
	assert_ptr_equal(charge, b);
	b->usage = answered->usage;
	b->posted++;
	if (b->broken)
		return ol_fail(err, OL_ERR_IO, "the journal is gone");
	*receipt = json_pack("{s:i}", "leaf", 5);
	return OL_OK;
}

static void release(void *self, void *charge)
{
	struct book *b = self;
	assert_ptr_equal(charge, b);
	b->released++;
}

/* What was told is paid for, and nothing else: not even by asking for more than the time allows. */
static void test_who_pays_for_what_did_not_end(void **state)
{
	static const struct {
		const char *what;
		bool streams;
		double seconds;
		int posted;
	} rows[] = {{"a stream that ran out of time", true, 0.1, 1},
		    {"an answer that ran out of time", false, 0.002, 0}};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct book b = {0};
		struct asked *a = prepare(NULL, "for ever", 500);
		open_service((struct ol_service_options){
			.accounting = {
				.reserve = reserve, .post = post, .release = release, .self = &b}});
		a->ask.account = "alice";
		a->ask.on_token = rows[i].streams ? on_token_slowly : NULL;
		a->ask.seconds = rows[i].seconds;
		a->ask.choices = rows[i].streams ? 1 : 8;
		ask(a);
		wait_for(a);
		close_service();
		if (a->outcome != OL_OUTCOME_DEADLINE || b.posted != rows[i].posted ||
		    b.released != 1 - rows[i].posted)
			fail_msg("%s: outcome %d, posted %d, released %d", rows[i].what,
				 (int)a->outcome, b.posted, b.released);
		if (b.posted) {
			assert_int_equal(b.usage.prompt_tokens, 8);
			assert_in_range(b.usage.completion_tokens, 1, 60);
		}
		drop(a);
	}
}

static bool on_token_at_the_gate(void *context, size_t part, const struct ol_generation *g,
				 size_t final)
{
	(void)context;
	(void)part;
	(void)g;
	(void) final;
	while (atomic_load(&gate))
		(void)nanosleep(&(struct timespec){0, 1000000}, NULL);
	return true;
}

static void test_who_left_before_anything_came_owes_nothing(void **state)
{
	struct book b = {0};
	struct asked *first = prepare(NULL, "for ever", 9), *a = prepare(NULL, "for ever", 9);
	(void)state;
	open_service((struct ol_service_options){
		.accounting = {.reserve = reserve, .post = post, .release = release, .self = &b}});
	atomic_store(&gate, true); /* the scheduler waits with the first one's first token */
	first->ask.account = a->ask.account = "alice";
	first->ask.on_token = on_token_at_the_gate;
	ask(first);
	(void)nanosleep(&(struct timespec){0, 50000000}, NULL);
	a->ask.id = ol_service_id(service);
	ask(a);
	ol_service_cancel(service, a->ask.id);
	atomic_store(&gate, false);
	wait_for(first);
	wait_for(a);
	close_service();
	assert_int_equal(first->outcome, OL_OUTCOME_DONE);
	assert_int_equal(a->outcome, OL_OUTCOME_CANCELLED);
	assert_int_equal(b.posted, 1);
	assert_int_equal(b.released, 1);
	drop(first);
	drop(a);
}

static void test_accounting(void **state)
{
	struct book b = {0};
	struct ol_error err;
	struct ol_refusal refusal;
	struct asked *a = prepare("a1", "twelve bytes", 7);
	(void)state;
	open_service((struct ol_service_options){
		.accounting = {.reserve = reserve, .post = post, .release = release, .self = &b}});
	a->ask.account = "alice";
	a->ask.choices = 2;
	ask(a);
	wait_for(a);
	assert_int_equal(b.prompt_tokens, 12);
	assert_int_equal(b.completion_max, 14);
	assert_int_equal(b.usage.prompt_tokens, 12);
	assert_int_equal(b.usage.completion_tokens, 14);
	drop(a);

	a = prepare("a1", "twelve bytes", 7);
	a->ask.account = "alice";
	b.poor = true;
	assert_int_equal(ol_service_ask(service, &a->ask, &refusal, &err), OL_ASK_REFUSED);
	assert_int_equal(refusal.status, 402);
	assert_string_equal(err.text, "nothing left");
	b.poor = false;
	b.broken = true; /* what cannot be booked is not handed out */
	ask(a);
	wait_for(a);
	assert_int_equal(a->outcome, OL_OUTCOME_FAILED);
	assert_string_equal(a->why, "the journal is gone");
	drop(a);

	b.broken = false;
	a = prepare("a1", "twelve bytes", 500); /* our end, not the client's: free */
	a->ask.account = "alice";
	ask(a);
	close_service();
	assert_int_equal(a->outcome, OL_OUTCOME_STOPPED);
	drop(a);
	assert_int_equal(b.reserved, 3);
	assert_int_equal(b.posted, 2);
	assert_int_equal(b.released, 1);
}

/* --- models ---------------------------------------------------------------- */

static void test_models(void **state)
{
	struct ol_served served;
	struct ol_error err;
	char path[OL_PATH_MAX], before[OL_NAME_MAX + 1] = "";
	struct asked *a;
	size_t count = 0;
	(void)state;
	open_service((struct ol_service_options){.base_name = "base"});
	for (; ol_service_next(service, &served, before); count++) {
		assert_true(count == 0 ? strcmp(served.name, "base") == 0
				       : strcmp(served.parent, "base") == 0);
		assert_true(count < 2 || strcmp(before, served.name) < 0);
		(void)snprintf(before, sizeof before, "%s", served.name);
	}
	assert_int_equal(count, ADAPTERS + 1);
	assert_int_equal(ol_service_count(service), ADAPTERS + 1);

	/* One more: there at once, gone at once, answers under way keep it. */
	must(ol_path_join(path, &err, folder, "/a9", ""), &err);
	must(ol_service_load(service, "a-new-one", path, &err), &err);
	assert_true(ol_service_find(service, &served, "a-new-one") && served.loaded);
	assert_int_equal(ol_service_load(service, "a-new-one", path, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "loaded already"));
	assert_int_equal(ol_service_load(service, "base", path, &err), OL_ERR_INPUT);
	assert_int_equal(ol_service_load(service, "no/slash", path, &err), OL_ERR_INPUT);
	assert_true(ol_service_load(service, "other", folder, &err) != OL_OK);
	a = prepare("a9", "by its new name", 300);
	a->ask.model = "a-new-one";
	ask(a);
	must(ol_service_unload(service, "a-new-one", &err), &err);
	assert_int_equal(ol_service_unload(service, "a-new-one", &err), OL_ERR_NOT_FOUND);
	assert_false(ol_service_find(service, &served, "a-new-one"));
	wait_for(a);
	/* It was asked before it went, but may not have begun: then it ends as unknown. */
	if (a->outcome != OL_OUTCOME_UNKNOWN_ADAPTER)
		expect_same(a, 0);
	drop(a);
	close_service();
}

/* --- numbers --------------------------------------------------------------- */

static void test_metrics(void **state)
{
	static const char *const lines[] = {
		"openledger_tokens_total{kind=\"prompt\"} 5\n",
		"openledger_requests_ended_total{outcome=\"done\"} 1\n",
		"openledger_adapter_cold_reads_total 1\n",
		"openledger_adapters{state=\"registered\"} 32\n",
		"openledger_adapters{state=\"in_memory\"} 1\n",
		"openledger_answers{state=\"decoding\"} 0\n",
		"openledger_first_token_seconds_count 1\n",
		"openledger_token_gap_seconds_count 2\n",
		"openledger_requests_refused_total{reason=\"unknown_model\"} 1\n"};
	struct ol_metrics *metrics;
	struct ol_buf text;
	struct ol_error err;
	struct asked *a = prepare("a7", "hello", 3);
	(void)state;
	assert_int_equal(ol_metrics_open(&metrics), OL_OK);
	open_service((struct ol_service_options){.metrics = metrics});
	ask(a);
	wait_for(a);
	drop(a);
	a = prepare("nobody", "x", 1);
	assert_int_equal(try_ask(a, &err), OL_ASK_UNKNOWN_MODEL);
	drop(a);
	ol_service_close(service); /* no step is running any more */
	ol_buf_init(&text, 1 << 20);
	assert_true(ol_metrics_write(metrics, &text));
	for (size_t i = 0; i < OL_ARRAY_LEN(lines); i++)
		if (!strstr(text.data, lines[i]))
			fail_msg("%s is not in\n%s", lines[i], text.data);
	ol_buf_release(&text);
	ol_metrics_close(metrics);
}

static int make_adapters(void **state)
{
	(void)state;
	make_folder(folder, sizeof folder);
	for (uint32_t i = 0; i < ADAPTERS; i++) {
		char name[16];
		(void)snprintf(name, sizeof name, "a%u", i);
		write_adapter(folder, name, i);
	}
	return 0;
}

static int remove_adapters(void **state)
{
	(void)state;
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_cached_tokens),
		cmocka_unit_test(test_chosen_seed),
		cmocka_unit_test(test_embeddings),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_full_queues),
		cmocka_unit_test(test_broken_adapters),
		cmocka_unit_test(test_endings),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_who_pays_for_what_did_not_end),
		cmocka_unit_test(test_who_left_before_anything_came_owes_nothing),
		cmocka_unit_test(test_accounting),
		cmocka_unit_test(test_models),
		cmocka_unit_test(test_metrics),
	};
	return cmocka_run_group_tests(tests, make_adapters, remove_adapters);
}
