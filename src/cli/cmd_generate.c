#include "cli/commands.h"

#include "base/file.h"
#include "cli/options.h"
#include "crypto/sha256.h"
#include "node/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Everything the command line can say. */
struct generate_line {
	const char *model, *adapter, *prompt, *system;
	const char *json_schema;
	bool chat, json, json_object, special, ignore_eos, quiet, seed_given;
	int context;
	uint64_t seed;
	struct ol_texts stops, choices;
	struct ol_grammar *grammar;
	struct ol_answer_options generate;
};

static bool stream_text(void *context, const char *text, size_t size)
{
	const struct generate_line *g = context;
	if (!g->json) {
		fwrite(text, 1, size, stdout);
		fflush(stdout);
	}
	return !ol_interrupted();
}

/* Without a seed the same command still gives the same answer: the seed is a hash of what was
 * asked. */
static uint64_t derived_seed(const struct ol_runtime *r, const struct ol_tokens *prompt)
{
	uint8_t digest[OL_SHA256_BYTES];
	uint64_t seed = 0;
	struct ol_sha256 hash;
	if (!ol_sha256_init(&hash))
		return 0;
	ol_sha256_update(&hash, ol_model_id(r->model), OL_MODEL_ID_BYTES);
	ol_sha256_update(&hash, prompt->ids, prompt->count * sizeof *prompt->ids);
	ol_sha256_final(&hash, digest);
	for (int i = 0; i < 8; i++)
		seed |= (uint64_t)digest[i] << 8 * i;
	return seed;
}

static enum ol_status read_schema(json_t **schema_out, const char *path, struct ol_error *err)
{
	struct ol_map map;
	json_error_t error;
	const enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	*schema_out = json_loadb((const char *)map.data, map.size,
				 JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	ol_map_close(&map);
	return *schema_out ? OL_OK
			   : ol_fail(err, OL_ERR_INPUT, "%s, line %d: %s", path, error.line,
				     error.text);
}

/* What --json-object, --json-schema and --choice ask for. */
static enum ol_status open_grammar(struct generate_line *g, const struct ol_runtime *r,
				   struct ol_error *err)
{
	const struct ol_config *config = ol_model_config(r->model);
	struct ol_grammar_vocab *vocab = NULL;
	json_t *source = NULL;
	if (g->json_object + (g->json_schema != NULL) + (g->choices.count > 0) == 0)
		return OL_OK;
	enum ol_status s = ol_grammar_vocab_open(&vocab, r->tokenizer, config->vocab_size,
						 config->eos_ids, config->eos_count, 0, err);
	if (s == OL_OK && g->json_schema)
		s = read_schema(&source, g->json_schema, err);
	if (s == OL_OK && g->json_schema)
		s = ol_grammar_open_schema(&g->grammar, vocab, source, err);
	else if (s == OL_OK && g->json_object)
		s = ol_grammar_open_json(&g->grammar, vocab, err);
	else if (s == OL_OK) {
		source = json_array();
		for (int i = 0; i < g->choices.count; i++)
			json_array_append_new(source, json_string(g->choices.values[i]));
		s = ol_grammar_open_choice(&g->grammar, vocab, source, err);
	}
	json_decref(source);
	ol_grammar_vocab_close(vocab); /* the grammar keeps it */
	g->generate.grammar = g->grammar;
	return s;
}

static enum ol_status encode_prompt(struct ol_tokens *prompt, const struct ol_runtime *r,
				    const struct generate_line *g, struct ol_error *err)
{
	enum ol_status s = ol_runtime_need_tokenizer(r, err);
	if (s != OL_OK || !g->chat)
		return s != OL_OK ? s
				  : ol_tokenizer_encode(
					    r->tokenizer, prompt, g->prompt, strlen(g->prompt),
					    g->special ? OL_SPECIAL_PARSE : OL_SPECIAL_NONE, true,
					    NULL, 0, err);
	json_t *messages = json_array();
	if (g->system)
		json_array_append_new(
			messages, json_pack("{s:s, s:s}", "role", "system", "content", g->system));
	json_array_append_new(messages,
			      json_pack("{s:s, s:s}", "role", "user", "content", g->prompt));
	if (json_array_size(messages) != (g->system ? 2u : 1u))
		s = ol_fail(err, OL_ERR_INPUT, "the prompt is not valid UTF-8");
	if (s == OL_OK)
		s = ol_runtime_encode_chat(r, prompt, messages, err);
	json_decref(messages);
	return s;
}

static json_t *logprobs_json(const struct ol_runtime *r, const struct ol_generation *g, int count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < g->tokens.count; i++) {
		const struct ol_token_info *info = &g->infos[i];
		json_t *top = json_array();
		for (int k = 0; k < count; k++)
			json_array_append_new(top,
					      json_pack("{s:i, s:f}", "token", info->top_ids[k],
							"logprob", (double)info->top_logprobs[k]));
		size_t size = 0;
		const char *piece = ol_tokenizer_piece(r->tokenizer, g->tokens.ids[i], &size);
		json_t *bytes = json_array();
		for (size_t k = 0; piece && k < size; k++)
			json_array_append_new(bytes, json_integer((uint8_t)piece[k]));
		json_array_append_new(list,
				      json_pack("{s:i, s:f, s:o, s:o}", "token", g->tokens.ids[i],
						"logprob", (double)info->logprob, "bytes", bytes,
						"top", top));
	}
	return list;
}

static int print_result(const struct ol_runtime *r, const struct generate_line *g,
			const struct ol_tokens *prompt, const struct ol_generation *result)
{
	if (!g->json) {
		putchar('\n');
		if (!g->quiet && isatty(STDERR_FILENO))
			fprintf(stderr,
				"\n[%zu + %zu tokens, prefill %.0f tokens/s, decode %.1f "
				"tokens/s, seed %llu, %s]\n",
				prompt->count, result->tokens.count,
				(double)prompt->count / result->prefill_seconds,
				(double)result->tokens.count / result->decode_seconds,
				(unsigned long long)g->generate.sampling.seed,
				ol_finish_name(result->finish));
		return result->finish == OL_FINISH_CANCELLED ? 130 : 0;
	}
	char id[65];
	ol_hex(id, ol_model_id(r->model), OL_MODEL_ID_BYTES);
	json_t *tokens = json_array();
	for (size_t i = 0; i < result->tokens.count; i++)
		json_array_append_new(tokens, json_integer(result->tokens.ids[i]));
	json_t *object = json_pack(
		"{s:o, s:o, s:s, s:i, s:s, s:s, s:s}", "text",
		json_stringn(result->text.data ? result->text.data : "", result->text.size),
		"tokens", tokens, "finish_reason", ol_finish_name(result->finish), "prompt_tokens",
		(int)prompt->count, "model", g->model, "model_id", id, "arithmetic",
		OL_ARITHMETIC_VERSION);
	if (object) {
		/* A string: JSON numbers lose integers above 2^53. */
		char seed[24];
		snprintf(seed, sizeof seed, "%llu", (unsigned long long)g->generate.sampling.seed);
		json_object_set_new(object, "seed", json_string(seed));
		if (g->grammar) {
			ol_hex(id, ol_grammar_id(g->grammar), OL_GRAMMAR_ID_BYTES);
			json_object_set_new(object, "grammar_id", json_string(id));
		}
		ol_json_adapter(object, r->adapter);
		if (g->generate.logprobs > 0)
			json_object_set_new(object, "logprobs",
					    logprobs_json(r, result, g->generate.logprobs));
	}
	const int status = ol_print_json(object);
	return result->finish == OL_FINISH_CANCELLED ? 130 : status;
}

static enum ol_status answer(struct generate_line *g, int *exit_status, struct ol_error *err)
{
	struct ol_home home;
	struct ol_runtime r = {0};
	struct ol_engine_options engine = {0};
	struct ol_tokens prompt = {0};
	struct ol_generation result;
	enum ol_status s = ol_runtime_environment(&engine, err);
	if (s == OL_OK)
		s = ol_home_open(&home, err);
	if (s == OL_OK)
		s = ol_runtime_open(&r, &home, g->model, err);
	if (s == OL_OK && g->adapter)
		s = ol_runtime_adapt(&r, &home, g->adapter, err);
	if (s == OL_OK)
		s = encode_prompt(&prompt, &r, g, err);
	if (s == OL_OK)
		s = open_grammar(g, &r, err);
	if (s == OL_OK) {
		const int context = g->context ? g->context : ol_model_config(r.model)->context_max;
		const int64_t wanted = (int64_t)prompt.count + g->generate.max_tokens;
		engine.kv_positions =
			g->generate.max_tokens > 0 ? OL_MIN(wanted, context) : context;
		engine.step_rows =
			(int)OL_MAX(OL_MIN(prompt.count, (size_t)OL_STEP_ROWS_DEFAULT), (size_t)1);
		if ((int64_t)prompt.count > context)
			s = ol_fail(
				err, OL_ERR_INPUT,
				"the prompt has %zu tokens, but the context of \"%s\" holds %d: "
				"shorten it",
				prompt.count, g->model, context);
	}
	if (s == OL_OK)
		s = ol_runtime_start(&r, &engine, err);
	if (s == OL_OK) {
		g->generate.sampling.seed = g->seed_given ? g->seed : derived_seed(&r, &prompt);
		g->generate.strip_lead_space = g->chat;
		ol_interrupt_catch();
		s = ol_generate(&result, &r, &prompt, &g->generate, err);
	}
	if (s == OL_OK) {
		*exit_status = print_result(&r, g, &prompt, &result);
		ol_generation_release(&result);
	}
	ol_grammar_close(g->grammar);
	ol_tokens_release(&prompt);
	ol_runtime_close(&r);
	return s;
}

int ol_command_generate(int argc, char **argv)
{
	struct generate_line g = {
		.generate = {
			.max_tokens = 256,
			.sampling = {.temperature = 0.8f, .top_p = 0.95f, .repeat_penalty = 1.0f}}};
	struct ol_sampling *p = &g.generate.sampling;
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', g.model, "NAME", "which model, or an adapter of one"),
		OL_TEXT("adapter", 'a', g.adapter, "NAME",
			"under which adapter: a name or a folder"),
		OL_TEXT("prompt", 'p', g.prompt, "TEXT", "the text to continue, or the question"),
		OL_FLAG("chat", 0, g.chat, "put the prompt through the model's chat template"),
		OL_TEXT("system", 0, g.system, "TEXT", "with --chat: the system message"),
		OL_NUMBER(INT, "max-tokens", 'n', g.generate.max_tokens, "N", 0, 1 << 24,
			  "at most so many (256; 0: to the end of the context)"),
		OL_NUMBER(FLOAT, "temperature", 't', p->temperature, "T", 0, 100,
			  "0 is greedy (0.8)"),
		OL_NUMBER(INT, "top-k", 0, p->top_k, "K", 0, 1 << 24,
			  "only the K likeliest (0: off)"),
		OL_NUMBER(FLOAT, "top-p", 0, p->top_p, "P", 0, 1,
			  "only the likeliest that together have P (0.95; 1: off)"),
		OL_NUMBER(FLOAT, "min-p", 0, p->min_p, "P", 0, 1,
			  "only those at least P times as likely as the first (0: off)"),
		OL_NUMBER(FLOAT, "repeat-penalty", 0, p->repeat_penalty, "R", 0, 1024,
			  "makes what was said less likely (1: off)"),
		OL_NUMBER(FLOAT, "presence-penalty", 0, p->presence_penalty, "X", -1024, 1024,
			  "as OpenAI's (0: off)"),
		OL_NUMBER(FLOAT, "frequency-penalty", 0, p->frequency_penalty, "X", -1024, 1024,
			  "as OpenAI's (0: off)"),
		OL_U64("seed", 's', g.seed, "S",
		       "the same seed gives the same answer (default: from the prompt)",
		       &g.seed_given),
		OL_TEXTS("stop", 0, g.stops, "TEXT", "end before this text (may be repeated)"),
		OL_FLAG("json-object", 0, g.json_object, "the answer is a JSON object"),
		OL_TEXT("json-schema", 0, g.json_schema, "FILE",
			"the answer is JSON that this JSON Schema allows"),
		OL_TEXTS("choice", 0, g.choices, "TEXT",
			 "the answer is this text, or another --choice"),
		OL_NUMBER(INT, "logprobs", 0, g.generate.logprobs, "N", 0, OL_LOGPROBS_MAX,
			  "with --json: N alternatives for every token"),
		OL_NUMBER(INT, "context", 'c', g.context, "N", 0, 1 << 24,
			  "positions to make room for (default: the model's)"),
		OL_FLAG("special", 0, g.special,
			"special tokens written in the prompt become themselves"),
		OL_FLAG("ignore-eos", 0, g.generate.ignore_eos, "go on after the model has ended"),
		OL_FLAG("quiet", 'q', g.quiet, "only the answer"),
		OL_FLAG("json", 0, g.json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger generate",
		.usage = "-m NAME -p TEXT [options]",
		.about = "Continues a text, or with --chat answers a question. Tokens appear as "
			 "they come.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.examples = "  openledger generate -m smol --chat -p \"What is a ledger?\"\n"
			    "  openledger generate -m smol -p \"Once upon a time\" -t 0 -n 64 "
			    "--json\n"};
	struct ol_error err = {0};
	int exit_status = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	g.generate.on_text = stream_text;
	g.generate.context = &g;
	enum ol_status s = OL_OK;
	if (!g.model || !g.prompt)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "generate needs a model (-m NAME) and a prompt (-p TEXT)");
	else if (g.json_object + (g.json_schema != NULL) + (g.choices.count > 0) > 1)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "--json-object, --json-schema and --choice exclude one another");
	else if (g.stops.count > OL_STOPS_MAX)
		s = ol_fail(&err, OL_ERR_INPUT, "at most %d --stop texts", OL_STOPS_MAX);
	for (int i = 0; i < g.stops.count && s == OL_OK; i++) {
		if (g.stops.values[i][0] == '\0')
			s = ol_fail(&err, OL_ERR_INPUT, "a --stop text cannot be empty");
		g.generate.stops[g.generate.stop_count++] = g.stops.values[i];
	}
	if (s == OL_OK)
		s = answer(&g, &exit_status, &err);
	return s == OL_OK ? exit_status : ol_report(&err);
}
