/* openledger serve: the base and its adapters over HTTP. */
#define _GNU_SOURCE /* ppoll */
#include "base/clock.h"
#include "base/metrics.h"
#include "base/notify.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "http/confine.h"
#include "http/files_routes.h"
#include "http/guard.h"
#include "http/ledger_routes.h"
#include "http/jobs_routes.h"
#include "http/openai.h"
#include "node/jobs_launcher.h"
#include "node/service_keys.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char section[] = "serve";
enum { DRAIN_SECONDS = 30, ORIGINS_MAX = OL_TEXTS_MAX };

/* Everything the command line and the configuration can say. */
struct serve_line {
	const char *host, *base, *adapters, *kv_bytes, *adapter_bytes, *kv_type, *log, *config;
	struct ol_texts names, origins, witnesses;
	const char *log_origin;
	int port, threads, batch, queue, prefixes, step_rows, drain, ask_seconds, connections;
	float stall;
	bool allow_load, check_config, no_ledger;
};

/* In the order of opening; closed the other way round. */
struct serving {
	struct ol_launcher *launcher;
	struct ol_home home;
	struct ol_store *store;
	struct ol_keys *keys;
	struct ol_metrics *metrics;
	struct ol_economy *economy; /* NULL: no ledger */
	struct ol_service *service;
	struct ol_idempotency *idempotency;
	struct ol_files *files;
	struct ol_jobs *jobs;
	struct ol_files_api *files_api;
	struct ol_jobs_api *jobs_api;
	struct ol_ledger_api *ledger_api;
	struct ol_http_server *server;
	struct ol_openai openai;
	struct ol_http_route
		routes[OL_OPENAI_ROUTES_MAX + OL_FILES_ROUTES + OL_JOBS_ROUTES + OL_LEDGER_ROUTES];
	size_t route_count;
	pthread_mutex_t lock;         /* of what follows */
	struct ol_service *revocable; /* whose requests end with their keys */
};

/* "512M", "4G", "1000000" */
static enum ol_status parse_bytes(uint64_t *out, const char *name, const char *text,
				  struct ol_error *err)
{
	static const char units[] = "kMGT";
	char *end;
	errno = 0;
	*out = 0;
	if (!text)
		return OL_OK;
	const unsigned long long n = strtoull(text, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;
	const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
	if (errno || end == text || strchr(text, '-') || (*end && (!unit || end[1])) || n == 0 ||
	    n > UINT64_MAX >> shift)
		return ol_fail(err, OL_ERR_INPUT,
			       "--%s cannot be \"%s\": give bytes, or with k, M, G or T behind",
			       name, text);
	*out = (uint64_t)n << shift;
	return OL_OK;
}

/* --- opening --------------------------------------------------------------- */

/* The one base there is, if none was named. */
static enum ol_status choose_base(char name[OL_PATH_MAX], const struct serve_line *line,
				  const struct ol_home *home, struct ol_error *err)
{
	struct ol_names names = {0};
	if (line->base)
		return ol_path_join(name, err, line->base, "", "");
	enum ol_status s = ol_home_models(home, &names, err);
	if (s == OL_OK && names.count == 1)
		s = ol_path_join(name, err, names.names[0], "", "");
	else if (s == OL_OK && names.count == 0)
		s = ol_fail(
			err, OL_ERR_NOT_FOUND,
			"there is no model to serve yet: bring one in with `openledger import`");
	else if (s == OL_OK)
		s = ol_fail(err, OL_ERR_INPUT,
			    "there are %zu models: say which one to serve with --base NAME "
			    "(`openledger models` lists them)",
			    names.count);
	ol_names_release(&names);
	return s;
}

static enum ol_status service_options(struct ol_service_options *o, const struct serve_line *line,
				      struct serving *v, struct ol_error *err)
{
	*o = (struct ol_service_options){.home = &v->home,
					 .adapters = line->adapters,
					 .batch_max = line->batch,
					 .queue_max = line->queue,
					 .prefixes_max = line->prefixes ? line->prefixes : -1,
					 .stall_seconds = (double)line->stall / 1000.0,
					 .ask_seconds = line->ask_seconds,
					 .metrics = v->metrics};
	enum ol_status s = ol_runtime_environment(&o->engine, err);
	if (s == OL_OK)
		s = parse_bytes(&o->kv_bytes, "kv-bytes", line->kv_bytes, err);
	if (s == OL_OK)
		s = parse_bytes(&o->adapter_bytes, "adapter-bytes", line->adapter_bytes, err);
	if (s == OL_OK && !ol_kv_type_parse(&o->engine.kv_type, line->kv_type))
		s = ol_fail(err, OL_ERR_INPUT, "--kv-type is f32 or bf16, not \"%s\"",
			    line->kv_type);
	if (line->threads > 0)
		o->engine.threads = line->threads;
	o->engine.step_rows = line->step_rows;
	return s;
}

/* Whoever's key ends has his requests ended. On a thread of the keys. */
static void on_revoked(void *context, const char *key_id)
{
	struct serving *v = context;
	(void)pthread_mutex_lock(&v->lock);
	if (v->revocable)
		ol_service_cancel_key(v->revocable, key_id);
	(void)pthread_mutex_unlock(&v->lock);
}

/* Money: the signer, the books, who may spend what. */
static enum ol_status open_economy(struct serving *v, const struct serve_line *line,
				   const struct ol_runtime *runtime, struct ol_service_options *o,
				   struct ol_error *err)
{
	struct ol_log_witness witnesses[OL_TEXTS_MAX];
	for (int i = 0; i < line->witnesses.count; i++) {
		const enum ol_status s =
			ol_log_witness_parse(&witnesses[i], line->witnesses.values[i], err);
		if (s != OL_OK)
			return s;
	}
	const struct ol_economy_options economy = {.home = &v->home,
						   .origin = line->log_origin,
						   .witnesses = witnesses,
						   .witness_count = (uint32_t)line->witnesses.count,
						   .keys = v->keys,
						   .base = runtime->model,
						   .tokenizer = runtime->tokenizer,
						   .kv_type = o->engine.kv_type};
	o->accounting = ol_accounting_of_keys(v->keys);
	if (line->no_ledger)
		return OL_OK;
	const enum ol_status s = ol_economy_open(&v->economy, &economy, err);
	if (s == OL_OK)
		o->accounting = ol_economy_accounting(v->economy);
	return s;
}

static enum ol_status open_node(struct serving *v, const struct serve_line *line,
				struct ol_error *err)
{
	char base[OL_PATH_MAX];
	struct ol_runtime runtime = {0};
	struct ol_service_options o;
	const struct ol_keys_options keys = {.local = ol_http_is_loopback(line->host),
					     .watch = true,
					     .on_revoked = on_revoked,
					     .context = v};
	const struct ol_idempotency_options idempotency = {0};
	enum ol_status s = ol_home_open(&v->home, err);
	if (s == OL_OK)
		s = choose_base(base, line, &v->home, err);
	if (s == OL_OK)
		s = ol_metrics_open(&v->metrics);
	if (s == OL_OK)
		s = service_options(&o, line, v, err);
	if (s == OL_OK)
		s = ol_store_open(&v->store, &v->home, OL_STORE_NODE, err);
	if (s == OL_OK)
		s = ol_runtime_open(&runtime, &v->home, base, err);
	if (s == OL_OK && runtime.adapter) {
		s = ol_fail(err, OL_ERR_INPUT,
			    "\"%s\" is an adapter: name its base, and it is served with it", base);
		ol_runtime_close(&runtime);
	}
	if (s == OL_OK) {
		s = ol_keys_open(&v->keys, v->store, &keys, err);
		if (s != OL_OK)
			ol_runtime_close(&runtime);
	}
	if (s == OL_OK) {
		s = open_economy(v, line, &runtime, &o, err);
		if (s != OL_OK)
			ol_runtime_close(&runtime);
	}
	if (s == OL_OK) {
		o.runtime = &runtime;
		s = ol_service_open(&v->service, &o, err);
	}
	if (s == OL_OK && v->economy)
		ol_economy_attach(v->economy, v->service);
	(void)pthread_mutex_lock(&v->lock);
	v->revocable = v->service;
	(void)pthread_mutex_unlock(&v->lock);
	if (s == OL_OK)
		s = ol_idempotency_open(&v->idempotency, &v->home, &idempotency, err);
	return s;
}

/* What a fine-tuning job has made can be asked for at once. */
static void on_model(void *context, const char *model, const char *account)
{
	struct serving *v = context;
	struct ol_served *known = malloc(sizeof *known);
	struct ol_error err = {0};
	(void)account;
	if (known && !ol_service_find(v->service, known, model) &&
	    ol_service_load(v->service, model, NULL, &err) != OL_OK)
		(void)ol_report(&err);
	free(known);
}

static enum ol_status open_jobs(struct serving *v, struct ol_error *err)
{
	const struct ol_files_options files = {0};
	const struct ol_jobs_options jobs = {
		.launcher = v->launcher, .on_model = on_model, .context = v};
	enum ol_status s = ol_files_open(&v->files, &v->home, v->store, &files, true, err);
	if (s == OL_OK)
		s = ol_jobs_open(&v->jobs, &v->home, v->store, v->files, &jobs, err);
	if (s == OL_OK)
		s = ol_files_api_open(&v->files_api, v->files, err);
	if (s == OL_OK)
		s = ol_jobs_api_open(&v->jobs_api, v->jobs, v->idempotency, err);
	if (s == OL_OK && v->economy)
		s = ol_ledger_api_open(&v->ledger_api, v->economy, err);
	return s;
}

static enum ol_status open_server(struct serving *v, const struct serve_line *line,
				  struct ol_error *err)
{
	const int log = ol_http_log_level(line->log);
	if (log < 0)
		return ol_fail(err, OL_ERR_INPUT, "--log is off, error, info or debug, not \"%s\"",
			       line->log);
	v->openai = (struct ol_openai){.service = v->service,
				       .metrics = v->metrics,
				       .idempotency = v->idempotency,
				       .allow_load = line->allow_load};
	v->route_count = ol_openai_routes(v->routes, &v->openai);
	ol_files_routes(v->routes + v->route_count, v->files_api);
	v->route_count += OL_FILES_ROUTES;
	ol_jobs_routes(v->routes + v->route_count, v->jobs_api);
	v->route_count += OL_JOBS_ROUTES;
	if (v->ledger_api) {
		ol_ledger_routes(v->routes + v->route_count, v->ledger_api);
		v->route_count += OL_LEDGER_ROUTES;
	}
	const struct ol_http_options o = {
		.address = line->host,
		.port = (uint16_t)line->port,
		.names = line->names.values,
		.name_count = (size_t)line->names.count,
		.origins = line->origins.values,
		.origin_count = (size_t)line->origins.count,
		.routes = v->routes,
		.route_count = v->route_count,
		.limits = {.connections_max = (uint32_t)line->connections},
		.guard = ol_guard_of_keys(v->keys),
		.metrics = v->metrics,
		.log = (enum ol_http_log)log};
	return ol_http_server_open(&v->server, &o, err);
}

/* --- running --------------------------------------------------------------- */

/* A sanitizer asks the kernel for more than a server may. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED false
#endif

/* From here on strangers are read: the process gives up what it does not need for that. Where the
 * kernel has no such filters, it serves all the same, and says so. */
static void confine(void)
{
	struct ol_error err;
	if (!SANITIZED && ol_http_confine(false, &err) != OL_OK)
		fprintf(stderr, "openledger: %s; it serves without that protection\n", err.text);
}

static void greet(const struct serving *v)
{
	const char *url = ol_http_server_url(v->server);
	const char *name = ol_service_base_name(v->service);
	const struct ol_runtime *r = ol_service_runtime(v->service);
	printf("openledger serves %s and %zu adapters at %s\n", name,
	       ol_service_count(v->service) - 1, url);
	if (r->chat)
		printf("  curl %s/v1/chat/completions -H 'content-type: application/json' -d "
		       "'{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": "
		       "\"Hello\"}]}'\n",
		       url, name);
	else
		printf("  curl %s/v1/completions -H 'content-type: application/json' -d "
		       "'{\"model\": \"%s\", \"prompt\": \"Once upon a time\"}'\n",
		       url, name);
	(void)fflush(stdout);
}

/* The watchdog hears of us only while the threads of server and model get on. */
static void beat_once(struct serving *v, const struct ol_notify *notify, double *next)
{
	struct ol_error err;
	if (v->economy && ol_economy_tick(v->economy, &err) != OL_OK)
		(void)ol_report(&err);
	struct ol_service_stats stats;
	if (notify->watchdog_seconds <= 0.0 || ol_clock_seconds() < *next)
		return;
	ol_service_stats(v->service, &stats); /* stands still if the model's thread does */
	if (ol_http_server_healthy(v->server))
		ol_notify_send(notify, "WATCHDOG=1");
	*next = ol_clock_seconds() + notify->watchdog_seconds / 3.0;
}

static void wait_for_signal(struct serving *v, const struct ol_notify *notify)
{
	double next = 0.0;
	sigset_t all, before;
	struct timespec beat = {.tv_sec = 1};
	(void)sigemptyset(&all);
	(void)sigaddset(&all, SIGINT);
	(void)sigaddset(&all, SIGTERM);
	/* A signal between the question and the sleep must not be slept through. */
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	while (!ol_interrupted()) {
		beat_once(v, notify, &next);
		(void)ppoll(NULL, 0, &beat, &before);
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Who asks now is told to come back; who is being answered gets the rest. */
static void drain(struct serving *v, const struct serve_line *line)
{
	fprintf(stderr, "openledger: stopping; requests under way have %d s\n", line->drain);
	v->openai.draining = true;
	ol_service_drain(v->service);
	ol_http_server_stop(v->server, (uint32_t)line->drain * 1000u);
}

static void close_all(struct serving *v)
{
	struct ol_error err = {0};
	if (v->files_api)
		ol_files_api_close(v->files_api);
	if (v->jobs_api)
		ol_jobs_api_close(v->jobs_api);
	ol_ledger_api_close(v->ledger_api);
	ol_jobs_close(v->jobs); /* its trainer keeps a checkpoint; the next server goes on */
	(void)pthread_mutex_lock(&v->lock);
	v->revocable = NULL;
	(void)pthread_mutex_unlock(&v->lock);
	ol_service_close(v->service); /* every request is finished now */
	ol_economy_close(v->economy);
	if (v->keys && ol_keys_close(v->keys, &err) != OL_OK)
		(void)ol_report(&err);
	ol_idempotency_close(v->idempotency);
	ol_http_server_close(v->server);
	ol_metrics_close(v->metrics);
	if (v->files)
		ol_files_close(v->files);
	ol_store_close(v->store);
	ol_launcher_close(v->launcher);
	(void)pthread_mutex_destroy(&v->lock);
	free(v);
}

static enum ol_status serve(const struct serve_line *line, struct ol_error *err)
{
	struct ol_notify notify;
	struct serving *v = calloc(1, sizeof *v);
	if (!v)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	(void)pthread_mutex_init(&v->lock, NULL);
	ol_notify_open(&notify);
	/* First of all, while there is one thread. */
	enum ol_status s = ol_launcher_start(&v->launcher, "/proc/self/exe", err);
	if (s == OL_OK)
		s = open_node(v, line, err);
	ol_interrupt_catch();
	if (s == OL_OK)
		s = open_jobs(v, err);
	if (s == OL_OK)
		s = open_server(v, line, err);
	if (s == OL_OK) {
		greet(v);
		confine();
		ol_notify_send(&notify, "READY=1");
		wait_for_signal(v, &notify);
		ol_notify_send(&notify, "STOPPING=1");
		drain(v, line);
	}
	close_all(v);
	ol_notify_close(&notify);
	return s;
}

/* --- the command ----------------------------------------------------------- */

static const char examples[] =
	"  openledger serve --base smol\n"
	"  openledger serve --base smol --adapters /srv/adapters --port 8080 --kv-bytes 4G\n"
	"  openledger serve --config /etc/openledger.ini --check-config\n";

int ol_command_serve(int argc, char **argv)
{
	struct serve_line l = {.host = "127.0.0.1",
			       .port = 8080,
			       .kv_type = "f32",
			       .log = "error",
			       .batch = 64,
			       .queue = OL_QUEUE_MAX,
			       .prefixes = 64,
			       .step_rows = OL_STEP_ROWS_DEFAULT,
			       .drain = DRAIN_SECONDS,
			       .ask_seconds = 600,
			       .connections = 4000,
			       .stall = 100.0f};
	const struct ol_option options[] = {
		OL_TEXT("host", 0, l.host, "ADDRESS",
			"where to listen (127.0.0.1); any other demands API keys"),
		OL_NUMBER(INT, "port", 'p', l.port, "N", 0, 65535, "(8080; 0: any)"),
		OL_TEXT("base", 'b', l.base, "NAME", "the model to serve (default: the only one)"),
		OL_TEXT("adapters", 'a', l.adapters, "DIR",
			"a folder of adapters' folders, beside those of the home"),
		OL_TEXT("kv-bytes", 0, l.kv_bytes, "N",
			"memory of the answers under way (a quarter of all, at most 4G)"),
		OL_TEXT("adapter-bytes", 0, l.adapter_bytes, "N",
			"memory of the adapters in use (an eighth of all, at most 2G)"),
		OL_TEXT("kv-type", 0, l.kv_type, "TYPE", "f32 or bf16 (f32)"),
		OL_NUMBER(INT, "threads", 't', l.threads, "N", 0, OL_POOL_THREADS_MAX,
			  "of the model (default: all processors)"),
		OL_NUMBER(INT, "batch", 0, l.batch, "N", 1, OL_BATCH_MAX, "answers at once (64)"),
		OL_NUMBER(INT, "queue", 0, l.queue, "N", 1, OL_QUEUE_MAX,
			  "answers that may wait (4096); a quarter of it for one account"),
		OL_NUMBER(INT, "prefixes", 0, l.prefixes, "N", 0, 4096,
			  "finished sessions kept for what begins alike (64)"),
		OL_NUMBER(INT, "step-rows", 0, l.step_rows, "N", 1, OL_STEP_ROWS_MAX,
			  "most tokens in one step of the model (256)"),
		OL_NUMBER(FLOAT, "stall-ms", 0, l.stall, "MS", 1, 60000,
			  "how long a new prompt may hold the others up (100)"),
		OL_NUMBER(INT, "request-seconds", 0, l.ask_seconds, "N", 1, 86400,
			  "the most a request may take (600)"),
		OL_NUMBER(INT, "connections", 0, l.connections, "N", 1, 100000, "at once (4000)"),
		OL_NUMBER(INT, "drain", 0, l.drain, "SECONDS", 0, 86400,
			  "that requests under way have when the server stops (30)"),
		OL_FLAG("allow-adapter-loading", 0, l.allow_load,
			"let admins load and unload adapters over HTTP"),
		OL_TEXTS("name", 0, l.names, "HOST", "a further host name of this server"),
		OL_TEXTS("origin", 0, l.origins, "URL", "a web page elsewhere that may ask"),
		OL_TEXT("log", 0, l.log, "LEVEL", "off, error, info or debug (error)"),
		OL_TEXT("config", 0, l.config, "FILE",
			"options from a file, under [serve]; those given here come first"),
		OL_TEXT("log-origin", 0, l.log_origin, "NAME",
			"of a new public log: example.com/log (openledger.local/ and a number)"),
		OL_TEXTS("witness", 0, l.witnesses, "KEY=URL",
			 "asked to cosign the public log's checkpoints"),
		OL_FLAG("no-ledger", 0, l.no_ledger,
			"no receipts, no prices: nothing is written down or paid"),
		OL_FLAG("check-config", 0, l.check_config,
			"print what the options come to, and end"),
	};
	const struct ol_command_line line = {
		.command = "openledger serve",
		.usage = "[--base NAME] [options]",
		.about = "Answers over HTTP as OpenAI's API does: the base and all its adapters. "
			 "Ends with Ctrl-C\nor SIGTERM, when the requests under way have been "
			 "answered.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.examples = examples};
	struct ol_buf texts = {0};
	struct ol_error err = {0};
	enum ol_status s = OL_OK;
	const struct serve_line defaults = l;
	enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed == OL_PARSE_GO && l.config) {
		const char *config = l.config;
		l = defaults;
		s = ol_options_read(&line, config, section, &texts, &err);
		if (s == OL_OK)
			parsed = ol_options_parse(&line, argc, argv);
	}
	if (parsed == OL_PARSE_GO && s == OL_OK) {
		if (l.check_config)
			ol_options_print(&line, section);
		else
			s = serve(&l, &err);
	}
	ol_buf_release(&texts);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	return s == OL_OK ? 0 : ol_report(&err);
}
