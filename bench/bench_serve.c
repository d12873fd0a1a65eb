/* A serving node under load, in one process (node/service.h; HTTP adds a few microseconds a token):
 *
 *     bench_serve streams      1, 8, 32, 64 streams: time to first token, gaps, tokens/s
 *     bench_serve prefill      a prompt of 4,000 tokens beside 8 streams: their longest gap
 *     bench_serve adapters     32 streams under none and under 32 adapters, in turn; 1,000 adapters
 *                              in a Zipf mix
 *     bench_serve cold         adapters whose files are in no cache: what they add to the time to
 *                              first token
 *     bench_serve registered   10,000 adapters: time to open, memory
 *
 * --shape m110|m430|tiny (m110), --weights q8|q4|bf16|f32 (q8), --rank 16, --tokens 64 (of an
 * answer), --count N (adapters, where it is not said), --folder DIR (for adapters; the default is
 * made and removed). Weights and adapters are random. One line of JSON for each measure. */
#define _XOPEN_SOURCE 700 /* nftw */
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "math/functions.h"
#include "math/peak.h"
#include "node/bench.h"
#include "node/service.h"

enum { STREAMS_MAX = 64, PROMPT = 32, LONG_PROMPT = 4000, CONTEXT = 8192 };

static struct {
	const struct ol_bench_shape *shape;
	enum ol_weight_type type;
	int rank, tokens, count;
	char folder[OL_PATH_MAX / 2];
	bool made;
} o = {.rank = 16, .tokens = 64};

static struct ol_service *service;
static struct ol_config config;

static void stop(const char *why, const char *what)
{
	fprintf(stderr, "bench_serve: %s%s\n", why, what);
	exit(1);
}

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK)
		stop(err->text, "");
}

/* --- a node ---------------------------------------------------------------- */

static void open_service(bool adapters)
{
	struct ol_error err;
	struct ol_runtime runtime = {.name = "base"};
	config = ol_bench_config(o.shape, CONTEXT);
	must(ol_model_random(&runtime.model, &config, o.type, 1, &err), &err);
	const struct ol_service_options options = {
		.runtime = &runtime, .adapters = adapters ? o.folder : NULL, .prefixes_max = -1};
	must(ol_service_open(&service, &options, &err), &err);
}

static struct ol_adapter *random_adapter(uint64_t seed)
{
	const int count = ol_linear_count(&config);
	const struct ol_adapter_config settings = {.rank = o.rank,
						   .alpha = (float)(2 * o.rank),
						   .targets = OL_TARGETS_ALL,
						   .base_name = "base"};
	struct ol_lora_tensors *tensors = calloc((size_t)count, sizeof *tensors);
	struct ol_adapter *adapter;
	struct ol_error err;
	size_t size = 0, at = 0;
	for (int i = 0; i < count - 1; i++) {
		int outputs, inputs;
		ol_linear_shape(&config, (enum ol_linear)(i % OL_LAYER_LINEARS), &outputs, &inputs);
		size += (size_t)o.rank * (size_t)(outputs + inputs);
	}
	uint16_t *values = malloc(size * sizeof *values);
	if (!tensors || !values)
		stop("out of memory for ", "an adapter");
	for (size_t i = 0; i < size; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		values[i] = ol_f32_to_bf16((float)(int32_t)(seed >> 32) * 0x1p-36f);
	}
	for (int i = 0; i < count - 1; i++) {
		int outputs, inputs;
		ol_linear_shape(&config, (enum ol_linear)(i % OL_LAYER_LINEARS), &outputs, &inputs);
		tensors[i] = (struct ol_lora_tensors){o.rank, 2.0f, values + at,
						      values + at + (size_t)(o.rank * inputs)};
		at += (size_t)o.rank * (size_t)(outputs + inputs);
	}
	must(ol_adapter_make(&adapter, &config, &settings, tensors, &err), &err);
	free(values);
	free(tensors);
	return adapter;
}

/* Real ones, and links to them beyond `real`: what an index costs does not depend on what lies
 * behind it. Returns the bytes of one in memory. */
static size_t write_adapters(int count, int real)
{
	char path[OL_PATH_MAX], from[OL_PATH_MAX];
	struct ol_error err;
	size_t bytes = 0;
	config = ol_bench_config(o.shape, CONTEXT);
	for (int i = 0; i < count; i++) {
		(void)snprintf(path, sizeof path, "%s/a%05d", o.folder, i);
		if (i < real) {
			struct ol_adapter *a = random_adapter((uint64_t)i + 1);
			must(ol_adapter_write(a, path, &err), &err);
			bytes = ol_adapter_bytes(a);
			ol_adapter_close(a);
			continue;
		}
		(void)snprintf(from, sizeof from, "%s/a%05d", o.folder, i % real);
		if (symlink(from, path) != 0)
			stop("cannot link ", path);
	}
	return bytes;
}

/* --- load ------------------------------------------------------------------ */

/* One stream: its times, and what it does when an answer has ended. */
struct stream {
	uint64_t number;
	char model[32];
	int32_t *prompt;
	size_t prompt_count;
	int tokens;
	bool again; /* ask anew, under another adapter of the mix */
	int adapters;
	double asked, first, last;
	double *gaps;
	size_t gap_count, gap_room;
	uint64_t told;
	bool done;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t tokens_told;
static bool stopping;

static uint32_t draw(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

static void ask(struct stream *s);

static bool on_token(void *context, size_t part, const struct ol_generation *g, size_t final)
{
	struct stream *s = context;
	const double now = ol_clock_seconds();
	(void)part;
	(void) final;
	(void)pthread_mutex_lock(&lock);
	tokens_told++;
	const bool go_on = !stopping;
	(void)pthread_mutex_unlock(&lock);
	if (g->tokens.count == 1)
		s->first = now;
	else if (s->gap_count < s->gap_room)
		s->gaps[s->gap_count++] = now - s->last;
	s->last = now;
	s->told++;
	return go_on;
}

static void on_done(void *context, const struct ol_answered *answered)
{
	struct stream *s = context;
	if (answered->outcome != OL_OUTCOME_DONE && answered->outcome != OL_OUTCOME_CANCELLED)
		stop("an answer failed: ", answered->err->text);
	(void)pthread_mutex_lock(&lock);
	s->done = !s->again || stopping;
	(void)pthread_cond_broadcast(&changed);
	const bool done = s->done;
	(void)pthread_mutex_unlock(&lock);
	if (!done)
		ask(s);
}

/* Zipf with exponent 1: the k-th is asked for 1/k as often as the first. */
static int zipf(uint64_t *state, int count)
{
	double sum = 0.0;
	for (int k = 1; k <= count; k++)
		sum += 1.0 / k;
	double left = sum * draw(state) / 0x1p31;
	int k = 1;
	while (k < count && (left -= 1.0 / k) > 0.0)
		k++;
	return k - 1;
}

static void ask(struct stream *s)
{
	struct ol_refusal refusal;
	struct ol_error err = {0};
	uint64_t state = s->number * 1000003 + s->told + 1;
	if (s->again)
		(void)snprintf(s->model, sizeof s->model, "a%05d", zipf(&state, s->adapters));
	for (size_t i = 0; i < s->prompt_count; i++)
		s->prompt[i] = (int32_t)(draw(&state) % (uint32_t)config.vocab_size);
	const struct ol_tokens prompt = {.ids = s->prompt, .count = s->prompt_count};
	const struct ol_ask a = {.model = s->model[0] ? s->model : NULL,
				 .tenant = s->number,
				 .prompts = &prompt,
				 .prompt_count = 1,
				 .choices = 1,
				 .seed_given = true,
				 .answer = {.max_tokens = s->tokens,
					    .ignore_eos = true,
					    .sampling = {.top_p = 1.0f, .repeat_penalty = 1.0f}},
				 .on_token = on_token,
				 .on_done = on_done,
				 .context = s};
	s->asked = ol_clock_seconds();
	if (ol_service_ask(service, &a, &refusal, &err) != OL_ASK_OK)
		stop("refused: ", err.text);
}

static void open_stream(struct stream *s, int number, const char *model, size_t prompt, int tokens)
{
	*s = (struct stream){.number = (uint64_t)number,
			     .prompt_count = prompt,
			     .tokens = tokens,
			     .gap_room = 1 << 16};
	(void)snprintf(s->model, sizeof s->model, "%s", model);
	s->prompt = calloc(prompt, sizeof *s->prompt);
	s->gaps = calloc(s->gap_room, sizeof *s->gaps);
	if (!s->prompt || !s->gaps)
		stop("out of memory for ", "a stream");
}

static void close_stream(struct stream *s)
{
	free(s->prompt);
	free(s->gaps);
}

static void wait_for(struct stream *s)
{
	(void)pthread_mutex_lock(&lock);
	while (!s->done)
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
}

/* --- numbers --------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double percentile(double *values, size_t count, double share)
{
	qsort(values, count, sizeof *values, by_size);
	return count ? values[(size_t)(share * (double)(count - 1) + 0.5)] : 0.0;
}

/* All gaps of some streams behind one another; the caller frees. The first of each are left out:
 * then the others are still being read. */
static double *join_gaps(const struct stream *s, int count, size_t skip, size_t *total)
{
	*total = 0;
	for (int i = 0; i < count; i++)
		*total += s[i].gap_count > skip ? s[i].gap_count - skip : 0;
	double *all = calloc(*total + 1, sizeof *all);
	size_t at = 0;
	for (int i = 0; i < count; i++)
		for (size_t k = skip; k < s[i].gap_count; k++)
			all[at++] = s[i].gaps[k];
	return all;
}

static double resident_mb(void)
{
	long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (file && fscanf(file, "%*d %ld", &pages) != 1)
		pages = 0;
	if (file)
		(void)fclose(file);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* Median gap of so many streams, each under its own adapter or all under none. */
static double median_gap(int count, bool adapters)
{
	struct stream *s = calloc((size_t)count, sizeof *s);
	size_t total;
	for (int i = 0; i < count; i++) {
		char model[32] = "";
		if (adapters)
			(void)snprintf(model, sizeof model, "a%05d", i);
		open_stream(&s[i], i, model, PROMPT, o.tokens);
	}
	for (int i = 0; i < count; i++)
		ask(&s[i]);
	for (int i = 0; i < count; i++)
		wait_for(&s[i]);
	double *gaps = join_gaps(s, count, (size_t)o.tokens / 3, &total);
	const double median = percentile(gaps, total, 0.5);
	for (int i = 0; i < count; i++)
		close_stream(&s[i]);
	free(gaps);
	free(s);
	return median;
}

/* --- the measures ---------------------------------------------------------- */

static void bench_streams(void)
{
	static const int rows[] = {1, 8, 32, 64};
	struct stream s[STREAMS_MAX];
	open_service(false);
	(void)median_gap(1, false);
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		const int count = rows[r];
		double first[STREAMS_MAX];
		size_t total;
		const double start = ol_clock_seconds();
		for (int i = 0; i < count; i++)
			open_stream(&s[i], i, "", PROMPT, o.tokens);
		for (int i = 0; i < count; i++)
			ask(&s[i]);
		for (int i = 0; i < count; i++)
			wait_for(&s[i]);
		const double seconds = ol_clock_seconds() - start;
		for (int i = 0; i < count; i++)
			first[i] = s[i].first - s[i].asked;
		double *gaps = join_gaps(s, count, 0, &total);
		printf("{\"bench\":\"streams\",\"shape\":\"%s\",\"streams\":%d,\"prompt\":%d,"
		       "\"first_token_ms\":{\"p50\":%.1f,\"p99\":%.1f},\"gap_ms\":{\"p50\":%.2f,"
		       "\"p99\":%.2f,\"max\":%.2f},\"tokens_per_second\":%.1f}\n",
		       o.shape->name, count, PROMPT, 1e3 * percentile(first, (size_t)count, 0.5),
		       1e3 * percentile(first, (size_t)count, 0.99),
		       1e3 * percentile(gaps, total, 0.5), 1e3 * percentile(gaps, total, 0.99),
		       1e3 * percentile(gaps, total, 1.0), count * o.tokens / seconds);
		(void)fflush(stdout);
		free(gaps);
		for (int i = 0; i < count; i++)
			close_stream(&s[i]);
	}
	ol_service_close(service);
}

static void bench_prefill(void)
{
	enum { RUNNING = 8 };
	struct stream s[RUNNING], prompt;
	size_t total, before[RUNNING];
	double *quiet, longest = 0.0;
	open_service(false);
	for (int i = 0; i < RUNNING; i++)
		open_stream(&s[i], i, "", PROMPT, 4000);
	for (int i = 0; i < RUNNING; i++)
		ask(&s[i]);
	while (s[RUNNING - 1].told < (uint64_t)o.tokens)
		(void)nanosleep(&(struct timespec){0, 10000000}, NULL);
	quiet = join_gaps(s, RUNNING, (size_t)o.tokens / 3, &total);
	const double median = percentile(quiet, total, 0.5);
	for (int i = 0; i < RUNNING; i++)
		before[i] = s[i].gap_count;
	open_stream(&prompt, RUNNING, "", LONG_PROMPT, 1);
	ask(&prompt);
	wait_for(&prompt);
	(void)pthread_mutex_lock(&lock);
	stopping = true;
	(void)pthread_mutex_unlock(&lock);
	for (int i = 0; i < RUNNING; i++)
		wait_for(&s[i]);
	for (int i = 0; i < RUNNING; i++)
		for (size_t k = before[i]; k < s[i].gap_count; k++)
			longest = OL_MAX(longest, s[i].gaps[k]);
	printf("{\"bench\":\"prefill\",\"shape\":\"%s\",\"streams\":%d,\"prompt\":%d,"
	       "\"median_gap_ms\":%.2f,\"bound_ms\":%.1f,\"longest_gap_ms\":%.1f,"
	       "\"first_token_s\":%.2f}\n",
	       o.shape->name, RUNNING, LONG_PROMPT, 1e3 * median, OL_MAX(100.0, 2e3 * median),
	       1e3 * longest, prompt.first - prompt.asked);
	ol_service_close(service);
	for (int i = 0; i < RUNNING; i++)
		close_stream(&s[i]);
	close_stream(&prompt);
	free(quiet);
}

/* Tokens a second of 32 streams that draw their adapters by Zipf. */
static double zipf_rate(int adapters, double seconds)
{
	enum { STREAMS = 32 };
	struct stream s[STREAMS];
	for (int i = 0; i < STREAMS; i++) {
		open_stream(&s[i], i, "", PROMPT, o.tokens);
		s[i].again = true;
		s[i].adapters = adapters;
	}
	for (int i = 0; i < STREAMS; i++)
		ask(&s[i]);
	(void)nanosleep(&(struct timespec){(time_t)(seconds / 4), 0}, NULL); /* warm */
	(void)pthread_mutex_lock(&lock);
	const uint64_t from = tokens_told;
	(void)pthread_mutex_unlock(&lock);
	const double start = ol_clock_seconds();
	(void)nanosleep(&(struct timespec){(time_t)seconds, 0}, NULL);
	(void)pthread_mutex_lock(&lock);
	const double rate = (double)(tokens_told - from) / (ol_clock_seconds() - start);
	stopping = true;
	(void)pthread_mutex_unlock(&lock);
	for (int i = 0; i < STREAMS; i++) {
		wait_for(&s[i]);
		close_stream(&s[i]);
	}
	stopping = false;
	return rate;
}

static void bench_adapters(void)
{
	enum { BATCH = 32, TURNS = 4, REAL_MAX = 256 };
	double none[TURNS], each[TURNS];
	const int count = o.count ? o.count : 1000;
	const size_t bytes = write_adapters(OL_MAX(count, BATCH), OL_MIN(count, REAL_MAX));
	struct ol_pool *pool;
	struct ol_service_stats stats;
	open_service(true);
	(void)median_gap(BATCH, true); /* read once */
	if (ol_pool_open(&pool, ol_processor_count()) != OL_OK)
		stop("no threads for ", "the read measurement");
	double read = ol_peak_read(pool, (size_t)1 << 30, 0.5);
	for (int i = 0; i < TURNS; i++) {
		none[i] = median_gap(BATCH, false);
		each[i] = median_gap(BATCH, true);
		read = OL_MAX(read, ol_peak_read(pool, (size_t)1 << 30, 0.3));
	}
	ol_pool_close(pool);
	const double base = ol_median(none, TURNS), with = ol_median(each, TURNS);
	const double least = BATCH * (double)bytes / read;
	printf("{\"bench\":\"adapters\",\"shape\":\"%s\",\"rank\":%d,\"batch\":%d,"
	       "\"step_ms\":{\"none\":%.2f,\"each\":%.2f},\"adapter_bytes\":%zu,"
	       "\"read_gb_per_s\":%.1f,\"added_ms\":%.2f,\"reading_ms\":%.2f,\"ratio\":%.2f}\n",
	       o.shape->name, o.rank, BATCH, 1e3 * base, 1e3 * with, bytes * BATCH, read / 1e9,
	       1e3 * (with - base), 1e3 * least, (with - base) / least);
	(void)fflush(stdout);
	const double few = zipf_rate(BATCH, 8.0), many = zipf_rate(count, 8.0);
	ol_service_stats(service, &stats);
	printf("{\"bench\":\"zipf\",\"shape\":\"%s\",\"tokens_per_second\":{\"of_32\":%.1f,"
	       "\"of_%d\":%.1f},\"ratio\":%.3f,\"cold_reads\":%llu,\"evictions\":%llu}\n",
	       o.shape->name, few, count, many, many / few,
	       (unsigned long long)stats.adapters.cold_reads,
	       (unsigned long long)stats.adapters.evictions);
	ol_service_close(service);
}

static void forget(int number)
{
	static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json"};
	for (size_t i = 0; i < OL_ARRAY_LEN(files); i++) {
		char path[OL_PATH_MAX];
		(void)snprintf(path, sizeof path, "%s/a%05d/%s", o.folder, number, files[i]);
		const int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
			stop("cannot drop the pages of ", path);
		(void)close(fd);
	}
}

static double first_token(int number)
{
	struct stream s;
	char model[32];
	(void)snprintf(model, sizeof model, "a%05d", number);
	open_stream(&s, number, model, PROMPT, 1);
	ask(&s);
	wait_for(&s);
	const double seconds = s.first - s.asked;
	close_stream(&s);
	return seconds;
}

static void bench_cold(void)
{
	const int count = o.count ? o.count : 200;
	double *cold = calloc((size_t)count, sizeof *cold),
	       *warm = calloc((size_t)count, sizeof *warm);
	double *added = calloc((size_t)count, sizeof *added);
	const size_t bytes = write_adapters(count, count);
	open_service(true);
	(void)median_gap(1, false);
	for (int i = 0; i < count; i++) {
		forget(i);
		cold[i] = first_token(i);
		warm[i] = first_token(i);
		added[i] = cold[i] - warm[i];
	}
	printf("{\"bench\":\"cold\",\"shape\":\"%s\",\"rank\":%d,\"adapter_bytes\":%zu,"
	       "\"adapters\":%d,\"warm_ms\":%.2f,\"added_ms\":{\"p50\":%.2f,\"p99\":%.2f}}\n",
	       o.shape->name, o.rank, bytes, count, 1e3 * percentile(warm, (size_t)count, 0.5),
	       1e3 * percentile(added, (size_t)count, 0.5),
	       1e3 * percentile(added, (size_t)count, 0.99));
	ol_service_close(service);
	free(cold);
	free(warm);
	free(added);
}

static void bench_registered(void)
{
	enum { REAL = 64, USED = 512 };
	const int count = o.count ? o.count : 10000;
	struct ol_service_stats stats;
	const size_t bytes = write_adapters(count, OL_MIN(count, REAL));
	open_service(false);
	const double without = resident_mb();
	ol_service_close(service);
	const double start = ol_clock_seconds();
	open_service(true);
	const double opened = ol_clock_seconds() - start, with = resident_mb();
	for (int i = 0; i < USED; i++)
		(void)first_token(i * (count / USED) % count);
	ol_service_stats(service, &stats);
	printf("{\"bench\":\"registered\",\"shape\":\"%s\",\"adapters\":%zu,\"open_s\":%.2f,"
	       "\"resident_mb\":{\"none\":%.0f,\"registered\":%.0f,\"used\":%.0f},"
	       "\"adapter_mb\":{\"one\":%.2f,\"in_memory\":%.0f,\"budget\":%.0f}}\n",
	       o.shape->name, stats.adapters.registered, opened, without, with, resident_mb(),
	       (double)bytes / 1e6, (double)stats.adapters.bytes / 1e6,
	       (double)stats.adapters.bytes_max / 1e6);
	ol_service_close(service);
}

/* --- the command ----------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
	(void)info;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static void make_folder(void)
{
	const char *base = getenv("TMPDIR");
	struct ol_error err;
	if (o.folder[0]) {
		must(ol_make_directories(o.folder, &err), &err);
		return;
	}
	(void)snprintf(o.folder, sizeof o.folder, "%s/openledger-bench-XXXXXX",
		       base && *base ? base : P_tmpdir);
	if (!mkdtemp(o.folder))
		stop("cannot make ", o.folder);
	o.made = true;
}

static int number_of(const char *text)
{
	char *end;
	const long n = strtol(text, &end, 10);
	if (*end || end == text || n < 1 || n > 1 << 20)
		stop("not a positive number: ", text);
	return (int)n;
}

static void read_line(int argc, char **argv)
{
	static const struct {
		const char *name;
		enum ol_weight_type type;
	} types[] = {{"q8", OL_WEIGHT_Q8},
		     {"q4", OL_WEIGHT_Q4},
		     {"bf16", OL_WEIGHT_BF16},
		     {"f32", OL_WEIGHT_F32}};
	o.shape = ol_bench_shape_find("m110");
	o.type = OL_WEIGHT_Q8;
	for (int i = 2; i + 1 < argc; i += 2) {
		const char *value = argv[i + 1];
		if (strcmp(argv[i], "--shape") == 0)
			o.shape = ol_bench_shape_find(value);
		else if (strcmp(argv[i], "--rank") == 0)
			o.rank = number_of(value);
		else if (strcmp(argv[i], "--tokens") == 0)
			o.tokens = number_of(value);
		else if (strcmp(argv[i], "--count") == 0)
			o.count = number_of(value);
		else if (strcmp(argv[i], "--folder") == 0)
			(void)snprintf(o.folder, sizeof o.folder, "%s", value);
		else if (strcmp(argv[i], "--weights") != 0)
			stop("there is no option ", argv[i]);
		for (size_t k = 0; k < OL_ARRAY_LEN(types); k++)
			if (strcmp(argv[i], "--weights") == 0 && strcmp(value, types[k].name) == 0)
				o.type = types[k].type;
	}
	if (!o.shape)
		stop("--shape is m110, m430 or ", "tiny");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} benches[] = {{"streams", bench_streams},
		       {"prefill", bench_prefill},
		       {"adapters", bench_adapters},
		       {"cold", bench_cold},
		       {"registered", bench_registered}};
	for (size_t i = 0; i < OL_ARRAY_LEN(benches); i++) {
		if (argc < 2 || strcmp(argv[1], benches[i].name) != 0)
			continue;
		read_line(argc, argv);
		make_folder();
		benches[i].run();
		if (o.made)
			(void)nftw(o.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
		return 0;
	}
	stop("say which: streams, prefill, adapters, cold or ", "registered");
	return 1;
}
