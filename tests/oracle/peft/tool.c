/* tool MODEL FOLDER TOKEN...: imports the model in f32, puts a random adapter of ours over it,
 * writes that as a PEFT folder, and prints the logits of all the tokens (native f32). The adapter
 * has rank 5 on q, v, down and the head. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/engine.h"
#include "tests/oracle/random_adapter.h"

enum { TOKENS_MAX = 256 };

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK) {
		fprintf(stderr, "%s\n", err->text);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	const struct ol_import_options options = {.type = OL_WEIGHT_F32};
	const struct ol_engine_options engine_options = {.threads = 2};
	struct ol_error err = {0};
	struct ol_model *model = NULL;
	struct ol_engine *engine = NULL;
	struct ol_session *session = NULL;
	int32_t tokens[TOKENS_MAX];
	if (argc < 4 || argc - 3 > TOKENS_MAX)
		return 1;
	for (int i = 3; i < argc; i++) {
		char *end;
		tokens[i - 3] = (int32_t)strtol(argv[i], &end, 10);
		if (*end || end == argv[i])
			return 1;
	}
	must(ol_import("peft-oracle.olm", argv[1], &options, &err), &err);
	must(ol_model_open(&model, "peft-oracle.olm", &err), &err);
	unlink("peft-oracle.olm");
	const struct ol_config *c = ol_model_config(model);
	struct ol_adapter *adapter =
		random_adapter(c, 5,
			       1u << OL_LINEAR_Q | 1u << OL_LINEAR_V | 1u << OL_LINEAR_DOWN |
				       1u << OL_LINEAR_HEAD);
	must(ol_adapter_write(adapter, argv[2], &err), &err);
	must(ol_engine_open(&engine, model, &engine_options, &err), &err);
	must(ol_session_open(&session, engine), &err);
	const size_t floats = (size_t)(argc - 3) * (size_t)c->vocab_size;
	float *logits = malloc(floats * sizeof *logits);
	struct ol_run run = {.session = session,
			     .tokens = tokens,
			     .count = argc - 3,
			     .want = OL_LOGITS_ALL,
			     .logits = logits,
			     .adapter = ol_adapter_views(adapter)};
	must(ol_engine_step(engine, &run, 1, &err), &err);
	fwrite(logits, sizeof *logits, floats, stdout);
	free(logits);
	ol_session_close(session);
	ol_engine_close(engine);
	ol_adapter_close(adapter);
	ol_model_close(model);
	return 0;
}
