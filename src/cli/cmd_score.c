#include "base/file.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/sha256.h"
#include "node/score.h"

#include <math.h>
#include <stdio.h>

enum { WINDOW_DEFAULT = 2048 };

static int print_score(const struct ol_score *score, const struct ol_adapter *adapter, bool json)
{
	char hash[65];
	const double per_token = score->tokens ? score->nats / (double)score->tokens : 0.0;
	const double per_byte = score->bytes ? score->nats / (double)score->bytes : 0.0;
	ol_hex(hash, score->logits_sha256, sizeof score->logits_sha256);
	if (json) {
		json_t *object =
			json_pack("{s:I, s:f, s:f, s:s, s:I, s:s}", "tokens",
				  (json_int_t)score->tokens, "nats_per_token", per_token,
				  "nats_per_byte", per_byte, "logits_sha256", hash, "bytes",
				  (json_int_t)score->bytes, "arithmetic", OL_ARITHMETIC_VERSION);
		ol_json_adapter(object, adapter);
		return ol_print_json(object);
	}
	printf("%llu tokens, %llu bytes\n%.6f nats per token (perplexity %.4f)\n%.6f nats per byte "
	       "(%.4f bits)\n%.0f tokens/s\nlogits %s\n",
	       (unsigned long long)score->tokens, (unsigned long long)score->bytes, per_token,
	       exp(per_token), per_byte, per_byte / log(2.0),
	       (double)score->tokens / score->seconds, hash);
	return 0;
}

int ol_command_score(int argc, char **argv)
{
	const char *model = NULL, *adapter = NULL;
	bool json = false;
	int window = 0;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', model, "NAME", "which model, or an adapter of one"),
		OL_TEXT("adapter", 'a', adapter, "NAME", "under which adapter: a name or a folder"),
		OL_NUMBER(INT, "window", 0, window, "N", 2, 1 << 24,
			  "positions a window (default: the context, at most 2048)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger score",
		.usage = "-m NAME FILE [options]",
		.about = "Reads FILE as the model would have written it: nats per token and per "
			 "byte, and one hash\n"
			 "over all logits that is equal on every machine.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_home home;
	struct ol_runtime r = {0};
	struct ol_engine_options engine = {0};
	struct ol_map file = {0};
	struct ol_score score;
	struct ol_error err = {0};
	int exit_status = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (!model || operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "score needs a model (-m NAME) and one FILE");
	if (s == OL_OK)
		s = ol_runtime_environment(&engine, &err);
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_map_open(&file, operands.values[0], &err);
	if (s == OL_OK)
		s = ol_runtime_open(&r, &home, model, &err);
	if (s == OL_OK && adapter)
		s = ol_runtime_adapt(&r, &home, adapter, &err);
	if (s == OL_OK) {
		const int context = ol_model_config(r.model)->context_max;
		engine.kv_positions = window ? window : OL_MIN(context, WINDOW_DEFAULT);
		s = ol_runtime_start(&r, &engine, &err);
	}
	if (s == OL_OK)
		s = ol_score_text(&score, &r, (const char *)file.data, file.size,
				  (int)engine.kv_positions, &err);
	if (s == OL_OK)
		exit_status = print_score(&score, r.adapter, json);
	ol_runtime_close(&r);
	ol_map_close(&file);
	return s == OL_OK ? exit_status : ol_report(&err);
}
