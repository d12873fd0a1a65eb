/* What the oracle compares llama.cpp with, through the library alone:
 *
 *     tool random OUT.gguf             a tiny random model with a tokenizer of single characters
 *     tool export SOURCE OUT.gguf TYPE import a folder or a GGUF file, export it again
 *     tool adapt SOURCE OUT.gguf       a random adapter of rank 6 on every linear of that base
 *     tool greedy|adapted SOURCE PROMPT N   the prompt's ids, and N greedy tokens in f32, as JSON;
 *                                      of the base alone, or under that adapter
 *     tool vocabulary TOKENIZER.json OUT.gguf   a tiny random model that has this tokenizer
 *     tool ids TOKENIZER.json TEXTS.json        ids of each text of an array, no special tokens
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/file.h"
#include "model/engine.h"
#include "model/model_internal.h"
#include "model/tokenizer.h"
#include "tests/oracle/random_adapter.h"

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK) {
		fprintf(stderr, "%s\n", err->text);
		exit(1);
	}
}

static struct ol_model *open_source(const char *source, enum ol_weight_type type)
{
	struct ol_error err = {0};
	struct ol_model *model = NULL;
	const struct ol_import_options options = {.type = type};
	char path[64];
	snprintf(path, sizeof path, "oracle-%ld.olm", (long)getpid());
	must(ol_import(path, source, &options, &err), &err);
	must(ol_model_open(&model, path, &err), &err);
	unlink(path);
	return model;
}

/* <unk> <s> </s> U+2581 and the printable characters: every text a model makes can be compared. */
static void put_tokenizer(struct ol_buf *out)
{
	ol_buf_append_text(out, "{\"version\":\"1.0\",\"added_tokens\":[");
	for (int id = 0; id < 3; id++)
		ol_buf_printf(out,
			      "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,"
			      "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
			      "\"special\":true}",
			      id ? "," : "", id, id == 0 ? "<unk>" : id == 1 ? "<s>" : "</s>");
	ol_buf_append_text(
		out, "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
		     "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
		     "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
		     "\"content\":\"\xe2\x96\x81\"}]},\"pre_tokenizer\":null,"
		     "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
		     "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
		     "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"
		     "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],"
		     "\"tokens\":[\"<s>\"]}}},\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
		     "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
		     "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
		     "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
		     "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
		     "\"byte_fallback\":true,\"merges\":[],\"vocab\":{"
		     "\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"\xe2\x96\x81\":3");
	for (int c = '!'; c <= '~'; c++) {
		const char *escape = c == '"' || c == '\\' ? "\\" : "";
		ol_buf_printf(out, ",\"%s%c\":%d", escape, c, c - '!' + 4);
	}
	ol_buf_append_text(out, "}}}");
}

/* With ids 1 and 2 as begin and end. */
static struct ol_model *random_model(int vocab, const void *tokenizer, size_t size)
{
	const struct ol_config config = {
		.arch = OL_ARCH_LLAMA,
		.vocab_size = vocab,
		.hidden = 64,
		.ffn = 160,
		.layers = 3,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 16,
		.context_max = 256,
		.norm_eps = 1e-5f,
		.embed_scale = 1,
		.attention_scale = 0.25f,
		.rope_theta = 10000,
		.rope_theta_local = 10000,
		.rope_factor = 1,
		.bos_id = 1,
		.eos_ids = {2},
		.eos_count = 1,
	};
	struct ol_error err = {0};
	struct ol_model *made = NULL, *model = NULL;
	const struct ol_model_text text = {"tokenizer.json", tokenizer, size};
	must(ol_model_random(&made, &config, OL_WEIGHT_F32, 11, &err), &err);
	const struct ol_model_source source = {.config = &config,
					       .type = OL_WEIGHT_F32,
					       .texts = &text,
					       .text_count = 1,
					       .rows = ol_model_rows,
					       .context = made};
	must(ol_model_write("oracle-random.olm", &source, &err), &err);
	must(ol_model_open(&model, "oracle-random.olm", &err), &err);
	unlink("oracle-random.olm");
	ol_model_close(made);
	return model;
}

static struct ol_model *characters(void)
{
	struct ol_buf tokenizer;
	ol_buf_init(&tokenizer, 1 << 20);
	put_tokenizer(&tokenizer);
	struct ol_model *model = random_model(98, tokenizer.data, tokenizer.size);
	ol_buf_release(&tokenizer);
	return model;
}

static struct ol_model *with_tokenizer(const char *path)
{
	struct ol_error err = {0};
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_map map;
	must(ol_map_open(&map, path, &err), &err);
	must(ol_tokenizer_open(&tokenizer, (const char *)map.data, map.size, path, &err), &err);
	struct ol_model *model =
		random_model(ol_tokenizer_vocab_size(tokenizer), map.data, map.size);
	ol_tokenizer_close(tokenizer);
	ol_map_close(&map);
	return model;
}

static int32_t highest(const float *logits, int count)
{
	int32_t best = 0;
	for (int i = 1; i < count; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static void print_ids(const char *name, const int32_t *ids, size_t count)
{
	printf("\"%s\":[", name);
	for (size_t i = 0; i < count; i++)
		printf("%s%d", i ? "," : "", ids[i]);
	printf("]");
}

static void ids_of_texts(const char *path, const char *texts)
{
	struct ol_error err = {0};
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_map map;
	json_t *root = json_load_file(texts, JSON_ALLOW_NUL, NULL), *text;
	size_t i;
	must(ol_map_open(&map, path, &err), &err);
	must(ol_tokenizer_open(&tokenizer, (const char *)map.data, map.size, path, &err), &err);
	printf("{");
	json_array_foreach(root, i, text)
	{
		struct ol_tokens tokens = {0};
		char name[32];
		must(ol_tokenizer_encode(tokenizer, &tokens, json_string_value(text),
					 json_string_length(text), OL_SPECIAL_NONE, false, NULL, 0,
					 &err),
		     &err);
		snprintf(name, sizeof name, "%zu", i);
		printf("%s", i ? "," : "");
		print_ids(name, tokens.ids, tokens.count);
		ol_tokens_release(&tokens);
	}
	printf("}\n");
	ol_tokenizer_close(tokenizer);
	ol_map_close(&map);
	json_decref(root);
}

static void greedy(const struct ol_model *model, const struct ol_adapter *adapter,
		   const char *prompt, int count)
{
	struct ol_error err = {0};
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_tokens tokens = {0};
	struct ol_engine *engine = NULL;
	struct ol_session *session = NULL;
	const int vocab = ol_model_config(model)->vocab_size;
	float *logits = malloc((size_t)vocab * sizeof *logits);
	size_t size, done = 0;
	const char *name = "tokenizer.json", *text = ol_model_text(model, name, &size);
	if (!text)
		text = ol_model_text(model, name = "tokenizer.model", &size);
	if (!text || !logits)
		exit(1);
	must(ol_tokenizer_open(&tokenizer, text, size, name, &err), &err);
	must(ol_tokenizer_encode(tokenizer, &tokens, prompt, strlen(prompt), OL_SPECIAL_NONE, true,
				 NULL, 0, &err),
	     &err);
	const struct ol_engine_options options = {.threads = 1};
	must(ol_engine_open(&engine, model, &options, &err), &err);
	must(ol_session_open(&session, engine), &err);
	const size_t prompt_count = tokens.count;
	for (int i = 0; i < count; i++) {
		struct ol_run run = {.session = session,
				     .tokens = tokens.ids + done,
				     .count = (int)(tokens.count - done),
				     .want = OL_LOGITS_LAST,
				     .logits = logits,
				     .adapter = adapter ? ol_adapter_views(adapter) : NULL};
		done = tokens.count;
		must(ol_engine_step(engine, &run, 1, &err), &err);
		if (!ol_tokens_push(&tokens, highest(logits, vocab)))
			exit(1);
	}
	printf("{");
	print_ids("prompt", tokens.ids, prompt_count);
	printf(",");
	print_ids("tokens", tokens.ids + prompt_count, tokens.count - prompt_count);
	printf("}\n");
	ol_session_close(session);
	ol_engine_close(engine);
	ol_tokens_release(&tokens);
	ol_tokenizer_close(tokenizer);
	free(logits);
}

int main(int argc, char **argv)
{
	struct ol_error err = {0};
	struct ol_model *model = NULL;
	struct ol_adapter *adapter = NULL;
	if (argc == 3 && strcmp(argv[1], "random") == 0) {
		model = characters();
		must(ol_export_gguf(argv[2], model, &err), &err);
	} else if (argc == 4 && strcmp(argv[1], "vocabulary") == 0) {
		model = with_tokenizer(argv[2]);
		must(ol_export_gguf(argv[3], model, &err), &err);
	} else if (argc == 4 && strcmp(argv[1], "ids") == 0) {
		ids_of_texts(argv[2], argv[3]);
	} else if (argc == 5 && strcmp(argv[1], "export") == 0) {
		enum ol_weight_type type;
		if (!ol_weight_type_parse(&type, argv[4]))
			return 1;
		model = open_source(argv[2], type);
		must(ol_export_gguf(argv[3], model, &err), &err);
	} else if (argc == 4 && strcmp(argv[1], "adapt") == 0) {
		model = open_source(argv[2], OL_WEIGHT_F32);
		adapter = random_adapter(ol_model_config(model), 6, OL_TARGETS_ALL);
		must(ol_adapter_write_gguf(adapter, argv[3], ol_model_config(model), &err), &err);
	} else if (argc == 5 && strcmp(argv[1], "adapted") == 0) {
		model = open_source(argv[2], OL_WEIGHT_F32);
		adapter = random_adapter(ol_model_config(model), 6, OL_TARGETS_ALL);
		greedy(model, adapter, argv[3], (int)strtol(argv[4], NULL, 10));
	} else if (argc == 5 && strcmp(argv[1], "greedy") == 0) {
		model = open_source(argv[2], OL_WEIGHT_F32);
		greedy(model, NULL, argv[3], (int)strtol(argv[4], NULL, 10));
	} else {
		fprintf(stderr, "usage: tool random|export|adapt|greedy|… (see tool.c)\n");
		return 1;
	}
	ol_adapter_close(adapter);
	ol_model_close(model);
	return 0;
}
