/* Import from folders: what comes out is what went in, and one row for every refusal. */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "model/model_internal.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- A small model, as a folder ----------------------------------------------------------- */

enum { VOCAB = 10, HIDDEN = 8, FFN = 12, HEADS = 2, KV = 1, DIM = 4, TENSORS_MAX = 24 };

struct fake_tensor {
	char name[96];
	const char *dtype;
	int rows, cols; /* rows 0: a vector */
};

struct fake {
	char folder[64], output[80];
	const char *config;
	struct fake_tensor tensors[TENSORS_MAX];
	int count;
	long cut;            /* bytes missing at the end                       */
	const char *special; /* a tensor whose value `at` is the bits `value` */
	int at;
	uint32_t value;
};

#define CONFIG(more)                                                                               \
	"{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":10,"    \
	"\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":1,"                      \
	"\"num_attention_heads\":2,\"num_key_value_heads\":1,\"max_position_embeddings\":16,"      \
	"\"rms_norm_eps\":1e-5,\"bos_token_id\":1,\"eos_token_id\":2" more "}"

static void add(struct fake *f, const char *name, int rows, int cols)
{
	struct fake_tensor *t = &f->tensors[f->count++];
	snprintf(t->name, sizeof t->name, "%s", name);
	t->dtype = "F32";
	t->rows = rows;
	t->cols = cols;
}

static void fake_init(struct fake *f)
{
	*f = (struct fake){.config = CONFIG("")};
	snprintf(f->folder, sizeof f->folder, "/tmp/ol-import-%ld", (long)getpid());
	snprintf(f->output, sizeof f->output, "%s/out.olm", f->folder);
	mkdir(f->folder, 0755);
	add(f, "model.embed_tokens.weight", VOCAB, HIDDEN);
	add(f, "model.layers.0.input_layernorm.weight", 0, HIDDEN);
	add(f, "model.layers.0.self_attn.q_proj.weight", HEADS * DIM, HIDDEN);
	add(f, "model.layers.0.self_attn.k_proj.weight", KV * DIM, HIDDEN);
	add(f, "model.layers.0.self_attn.v_proj.weight", KV * DIM, HIDDEN);
	add(f, "model.layers.0.self_attn.o_proj.weight", HIDDEN, HEADS * DIM);
	add(f, "model.layers.0.post_attention_layernorm.weight", 0, HIDDEN);
	add(f, "model.layers.0.mlp.gate_proj.weight", FFN, HIDDEN);
	add(f, "model.layers.0.mlp.up_proj.weight", FFN, HIDDEN);
	add(f, "model.layers.0.mlp.down_proj.weight", HIDDEN, FFN);
	add(f, "model.norm.weight", 0, HIDDEN);
	add(f, "lm_head.weight", VOCAB, HIDDEN);
}

static struct fake_tensor *find(struct fake *f, const char *name)
{
	for (int i = 0; i < f->count; i++)
		if (strcmp(f->tensors[i].name, name) == 0)
			return &f->tensors[i];
	fail_msg("no %s", name);
	return NULL;
}

static void drop(struct fake *f, const char *name)
{
	struct fake_tensor *t = find(f, name);
	*t = f->tensors[--f->count];
}

/* A value that depends on the place alone; exact in f16 and bf16. */
static float value_at(const struct fake_tensor *t, int i)
{
	unsigned h = 2166136261u;
	for (const char *c = t->name; *c; c++)
		h = (h ^ (unsigned char)*c) * 16777619u;
	h = (h ^ (unsigned)i) * 16777619u;
	return ((float)(h >> 8 & 127) - 64) / 64;
}

static void write_file(const struct fake *f, const char *name, const void *bytes, size_t size)
{
	char path[160];
	snprintf(path, sizeof path, "%s/%s", f->folder, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

static size_t item_bytes(const struct fake_tensor *t)
{
	return strcmp(t->dtype, "F32") == 0 ? 4 : strcmp(t->dtype, "F64") == 0 ? 8 : 2;
}

static void append_value(struct ol_buf *data, const struct fake *f, const struct fake_tensor *t,
			 int i)
{
	uint8_t bytes[8] = {0};
	const float x = value_at(t, i);
	const size_t size = item_bytes(t);
	const bool special = f->special && i == f->at && strcmp(t->name, f->special) == 0;
	if (size == 4)
		ol_store_u32(bytes, special ? f->value : ol_float_bits(x));
	else if (strcmp(t->dtype, "F16") == 0)
		ol_store_u16(bytes, special ? (uint16_t)f->value : ol_f32_to_f16(x));
	else
		ol_store_u16(bytes, special ? (uint16_t)f->value : ol_f32_to_bf16(x));
	ol_buf_append(data, bytes, size);
}

/* Tensors [from,to) as one safetensors file. */
static void write_tensors(const struct fake *f, const char *name, int from, int to)
{
	struct ol_buf header, data, whole;
	uint8_t length[8];
	ol_buf_init(&header, 1 << 20);
	ol_buf_init(&data, 1 << 24);
	ol_buf_init(&whole, 1 << 24);
	ol_buf_append_text(&header, "{");
	for (int n = from; n < to; n++) {
		const struct fake_tensor *t = &f->tensors[n];
		const size_t begin = data.size;
		for (int i = 0; i < (t->rows ? t->rows : 1) * t->cols; i++)
			append_value(&data, f, t, i);
		ol_buf_printf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
			      n > from ? "," : "", t->name, t->dtype);
		if (t->rows)
			ol_buf_printf(&header, "%d,", t->rows);
		ol_buf_printf(&header, "%d],\"data_offsets\":[%zu,%zu]}", t->cols, begin,
			      data.size);
	}
	ol_buf_append_text(&header, "}");
	ol_store_u64(length, header.size);
	ol_buf_append(&whole, length, 8);
	ol_buf_append(&whole, header.data, header.size);
	ol_buf_append(&whole, data.data, data.size);
	write_file(f, name, whole.data, whole.size - (size_t)f->cut);
	ol_buf_release(&header);
	ol_buf_release(&data);
	ol_buf_release(&whole);
}

static void write_fake(const struct fake *f)
{
	write_file(f, "config.json", f->config, strlen(f->config));
	write_tensors(f, "model.safetensors", 0, f->count);
}

static void remove_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[512];
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		unlink(path);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

/* What stands in the folder beside the source: nothing, after a refusal. */
static int leftovers(const char *folder)
{
	int count = 0;
	DIR *dir = opendir(folder);
	for (struct dirent *e; (e = readdir(dir));)
		count += strncmp(e->d_name, "out.olm", 7) == 0;
	closedir(dir);
	return count;
}

static enum ol_status import(const struct fake *f, enum ol_weight_type type, struct ol_error *err)
{
	const struct ol_import_options options = {.type = type};
	*err = (struct ol_error){0};
	return ol_import(f->output, f->folder, &options, err);
}

static struct ol_model *import_and_open(const struct fake *f, enum ol_weight_type type)
{
	struct ol_model *model = NULL;
	struct ol_error err;
	if (import(f, type, &err) != OL_OK || ol_model_open(&model, f->output, &err) != OL_OK ||
	    ol_model_verify(model, &err) != OL_OK)
		fail_msg("%s", err.text);
	return model;
}

/* ---- What is read ------------------------------------------------------------------------- */

static void expect_matrix(const struct ol_matrix *w, struct fake *f, const char *name)
{
	const struct fake_tensor *t = find(f, name);
	float row[16];
	assert_int_equal(w->rows, t->rows);
	assert_int_equal(w->cols, t->cols);
	for (int r = 0; r < t->rows; r++) {
		ol_matrix_row(row, w, r);
		for (int i = 0; i < t->cols; i++)
			assert_true(row[i] == value_at(t, r * t->cols + i));
	}
}

static void expect_vector(const float *v, struct fake *f, const char *name, float plus)
{
	const struct fake_tensor *t = find(f, name);
	for (int i = 0; i < t->cols; i++)
		assert_true(v[i] == value_at(t, i) + plus);
}

static void expect_all(const struct ol_model *model, struct fake *f)
{
	const struct ol_weights *w = ol_model_weights(model);
	const struct ol_layer_weights *l = &w->layers[0];
	expect_matrix(&w->embed, f, "model.embed_tokens.weight");
	expect_matrix(&w->head, f, "lm_head.weight");
	expect_matrix(&l->q, f, "model.layers.0.self_attn.q_proj.weight");
	expect_matrix(&l->k, f, "model.layers.0.self_attn.k_proj.weight");
	expect_matrix(&l->v, f, "model.layers.0.self_attn.v_proj.weight");
	expect_matrix(&l->o, f, "model.layers.0.self_attn.o_proj.weight");
	expect_matrix(&l->gate, f, "model.layers.0.mlp.gate_proj.weight");
	expect_matrix(&l->up, f, "model.layers.0.mlp.up_proj.weight");
	expect_matrix(&l->down, f, "model.layers.0.mlp.down_proj.weight");
	expect_vector(l->attention_norm, f, "model.layers.0.input_layernorm.weight", 0);
	expect_vector(l->ffn_norm, f, "model.layers.0.post_attention_layernorm.weight", 0);
	expect_vector(w->final_norm, f, "model.norm.weight", 0);
}

static void test_every_source_type_is_exact(void **state)
{
	(void)state;
	static const char *const dtypes[] = {"F32", "F16", "BF16"};
	static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16};
	for (size_t d = 0; d < OL_ARRAY_LEN(dtypes); d++)
		for (size_t w = 0; w < OL_ARRAY_LEN(types); w++) {
			struct fake f;
			fake_init(&f);
			for (int i = 0; i < f.count; i++)
				f.tensors[i].dtype = dtypes[d];
			write_fake(&f);
			struct ol_model *model = import_and_open(&f, types[w]);
			expect_all(model, &f);
			assert_false(ol_model_config(model)->tied_embeddings);
			ol_model_close(model);
			remove_folder(f.folder);
		}
}

static void test_quantised_as_the_contract_says(void **state)
{
	(void)state;
	for (int type = OL_WEIGHT_Q8; type < OL_WEIGHT_TYPES; type++) {
		struct fake f;
		fake_init(&f);
		write_fake(&f);
		struct ol_model *model = import_and_open(&f, (enum ol_weight_type)type);
		const struct ol_matrix *up = &ol_model_weights(model)->layers[0].up;
		const struct fake_tensor *t = find(&f, "model.layers.0.mlp.up_proj.weight");
		assert_int_equal(up->type, type);
		assert_int_equal(ol_model_weights(model)->embed.type, OL_WEIGHT_Q8);
		for (int r = 0; r < FFN; r++) {
			float x[HIDDEN];
			uint8_t expected[64], actual[64];
			for (int i = 0; i < HIDDEN; i++)
				x[i] = value_at(t, r * HIDDEN + i);
			assert_true(ol_quantize_row(expected, up->type, x, HIDDEN));
			ol_unpack_rows(actual, up, r, 1);
			assert_memory_equal(actual, expected,
					    ol_canonical_row_bytes(up->type, HIDDEN));
		}
		ol_model_close(model);
		remove_folder(f.folder);
	}
}

static void test_shards_give_the_same_model(void **state)
{
	(void)state;
	struct fake f;
	struct ol_buf index;
	char path[160];
	fake_init(&f);
	write_fake(&f);
	struct ol_model *whole = import_and_open(&f, OL_WEIGHT_Q8);
	ol_buf_init(&index, 1 << 20);
	ol_buf_append_text(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
	for (int i = 0; i < f.count; i++)
		ol_buf_printf(&index, "%s\"%s\":\"model-0000%d-of-00002.safetensors\"",
			      i ? "," : "", f.tensors[i].name, i < 5 ? 1 : 2);
	ol_buf_append_text(&index, "}}");
	snprintf(path, sizeof path, "%s/model.safetensors", f.folder);
	unlink(path);
	write_tensors(&f, "model-00001-of-00002.safetensors", 0, 5);
	write_tensors(&f, "model-00002-of-00002.safetensors", 5, f.count);
	write_file(&f, "model.safetensors.index.json", index.data, index.size);
	struct ol_model *sharded = import_and_open(&f, OL_WEIGHT_Q8);
	assert_memory_equal(ol_model_id(whole), ol_model_id(sharded), OL_MODEL_ID_BYTES);
	ol_model_close(whole);
	ol_model_close(sharded);
	ol_buf_release(&index);
	remove_folder(f.folder);
}

/* Tied embeddings come as embed alone, as head alone, or as both when they are equal. */
static void test_tied_in_every_spelling(void **state)
{
	(void)state;
	uint8_t id[3][OL_MODEL_ID_BYTES];
	for (int way = 0; way < 3; way++) {
		struct fake f;
		fake_init(&f);
		f.config = CONFIG(",\"tie_word_embeddings\":true");
		if (way == 0)
			drop(&f, "lm_head.weight");
		if (way == 1)
			drop(&f, "model.embed_tokens.weight");
		write_fake(&f);
		struct ol_error err;
		if (way == 2) {
			assert_int_equal(import(&f, OL_WEIGHT_F32, &err), OL_ERR_INPUT);
			assert_non_null(
				strstr(err.text, "lm_head.weight differs from model.embed"));
			remove_folder(f.folder);
			continue;
		}
		struct ol_model *model = import_and_open(&f, OL_WEIGHT_F32);
		const struct ol_weights *w = ol_model_weights(model);
		assert_true(ol_model_config(model)->tied_embeddings);
		assert_ptr_equal(w->head.panels, w->embed.panels);
		memcpy(id[way], ol_model_id(model), OL_MODEL_ID_BYTES);
		ol_model_close(model);
		remove_folder(f.folder);
	}
	assert_memory_not_equal(id[0], id[1], OL_MODEL_ID_BYTES); /* other values, by their name */
}

static void test_texts_are_kept(void **state)
{
	(void)state;
	static const char tokenizer_config[] =
		"{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"add_bos_token\":true"
		",\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"no\"},"
		"{\"name\":\"default\",\"template\":\"{{ yes }}\"}],\"clean_up\":1}";
	static const char generation[] =
		"{\"eos_token_id\":[3,4],\"temperature\":0.5,\"top_k\":20,\"cache\":{}}";
	struct fake f;
	size_t size;
	fake_init(&f);
	write_fake(&f);
	write_file(&f, "tokenizer.json", "{\"x\":1}", 7);
	write_file(&f, "tokenizer.model", "ignored", 7);
	write_file(&f, "tokenizer_config.json", tokenizer_config, sizeof tokenizer_config - 1);
	write_file(&f, "generation_config.json", generation, sizeof generation - 1);
	struct ol_model *m = import_and_open(&f, OL_WEIGHT_F32);
	assert_string_equal(ol_model_text(m, "tokenizer.json", &size), "{\"x\":1}");
	assert_null(ol_model_text(m, "tokenizer.model", &size));
	assert_string_equal(ol_model_text(m, "chat_template.jinja", &size), "{{ yes }}");
	assert_string_equal(
		ol_model_text(m, "tokenizer_config.json", &size),
		"{\"add_bos_token\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}");
	assert_string_equal(ol_model_text(m, "generation_config.json", &size),
			    "{\"temperature\":0.5,\"top_k\":20}");
	assert_int_equal(ol_model_config(m)->eos_count, 2);
	assert_int_equal(ol_model_config(m)->eos_ids[0], 3);
	ol_model_close(m);
	remove_folder(f.folder);
}

static void test_golden_models(void **state)
{
	(void)state;
	static const char *const names[] = {"llama2", "llama3", "llama3-tied", "smollm", "mistral",
					    "qwen2",  "qwen3",  "gemma2",      "gemma3"};
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++)
		for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
			char path[512], output[64];
			struct ol_error err = {0};
			struct ol_model *model = NULL;
			const struct ol_import_options options = {
				.type = (enum ol_weight_type)type};
			snprintf(path, sizeof path, OL_SOURCE_DIR "/tests/golden/models/%s",
				 names[i]);
			snprintf(output, sizeof output, "/tmp/ol-golden-%ld.olm", (long)getpid());
			if (ol_import(output, path, &options, &err) != OL_OK ||
			    ol_model_open(&model, output, &err) != OL_OK ||
			    ol_model_verify(model, &err) != OL_OK)
				fail_msg("%s", err.text);
			ol_model_close(model);
			unlink(output);
		}
}

static void test_trained_model(void **state)
{
	(void)state;
	const char *path = OL_SOURCE_DIR "/../shared/models/tinystories-656k";
	char output[64];
	struct ol_error err = {0};
	struct ol_model *model = NULL;
	size_t size;
	const struct ol_import_options options = {.type = OL_WEIGHT_Q8};
	if (access(path, F_OK) != 0) {
		print_message("skipped: ../shared/models is not there\n");
		return;
	}
	snprintf(output, sizeof output, "/tmp/ol-trained-%ld.olm", (long)getpid());
	if (ol_import(output, path, &options, &err) != OL_OK ||
	    ol_model_open(&model, output, &err) != OL_OK || ol_model_verify(model, &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_true(ol_model_config(model)->tied_embeddings);
	assert_int_equal(ol_model_parameters(model), 656000);
	assert_non_null(ol_model_text(model, "tokenizer.json", &size));
	assert_int_equal(size, 86434);
	ol_model_close(model);
	unlink(output);
}

/* ---- Refusals ----------------------------------------------------------------------------- */

#define Q "model.layers.0.self_attn.q_proj.weight"

static void cut_tail(struct fake *f)
{
	f->cut = 5;
}
static void drop_q(struct fake *f)
{
	drop(f, Q);
}
static void drop_both_heads(struct fake *f)
{
	drop(f, "lm_head.weight");
	drop(f, "model.embed_tokens.weight");
}
static void wide_q(struct fake *f)
{
	find(f, Q)->cols = 9;
}
static void flat_q(struct fake *f)
{
	*find(f, Q) = (struct fake_tensor){Q, "F32", 0, 64};
}
static void matrix_norm(struct fake *f)
{
	find(f, "model.norm.weight")->rows = 1;
}
static void double_q(struct fake *f)
{
	find(f, Q)->dtype = "F64";
}
static void extra(struct fake *f)
{
	add(f, "model.layers.0.self_attn.q_proj.bias", 0, 8);
}
static void extra_layer(struct fake *f)
{
	add(f, "model.layers.1.input_layernorm.weight", 0, HIDDEN);
}
static void fused(struct fake *f)
{
	drop_q(f);
	add(f, "model.layers.0.self_attn.qkv_proj.weight", 16, HIDDEN);
}
static void twice(struct fake *f)
{
	add(f, Q, 8, HIDDEN);
}
static void nan_q(struct fake *f)
{
	f->special = Q;
	f->at = 13;
	f->value = 0x7fc00000;
}
static void inf_norm(struct fake *f)
{
	f->special = "model.norm.weight";
	f->at = 7;
	f->value = 0xff800000;
}
static void half_inf(struct fake *f)
{
	find(f, Q)->dtype = "F16";
	f->special = Q;
	f->at = 0;
	f->value = 0x7c00;
}
static void huge_q(struct fake *f)
{
	f->special = Q;
	f->at = 9;
	f->value = 0x7f000000; /* 2^127: no f16 scale reaches it */
}

static const struct {
	const char *name;
	void (*spoil)(struct fake *f);
	const char *message;
} refusals[] = {
	{"truncated", cut_tail, "model.safetensors: tensor lm_head.weight: its data lie outside"},
	{"a tensor is missing", drop_q, "tensor " Q " is missing"},
	{"no embedding at all", drop_both_heads, "tensor model.embed_tokens.weight is missing"},
	{"wrong shape", wide_q,
	 "model.safetensors: tensor " Q " has the shape (8, 9), but the config asks for (8, 8)"},
	{"wrong rank", flat_q, "tensor " Q " has the shape (64), but the config asks for (8, 8)"},
	{"a norm of rank 2", matrix_norm, "has the shape (1, 8), but the config asks for (8)"},
	{"a type we do not read", double_q, "tensor " Q " is of type F64; F32, F16"},
	{"an unknown tensor", extra,
	 "self_attn.q_proj.bias is not part of a llama model of 1 layers"},
	{"a layer too many", extra_layer, "model.layers.1.input_layernorm.weight is not part of"},
	{"fused projections", fused, "tensor " Q " is missing"},
	{"a name twice", twice, "tensor " Q " stands there twice"},
	{"a NaN", nan_q, "tensor " Q " holds a value that is not a finite number at index 13"},
	{"an infinite norm", inf_norm,
	 "model.norm.weight holds a value that is not a finite number"},
	{"an infinite half", half_inf, "is not a finite number at index 0"},
	{"too large for q8", huge_q, "tensor " Q " has values too large for q8 weights in row 1"},
};

static void test_every_refusal(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		struct fake f;
		struct ol_error err;
		fake_init(&f);
		refusals[i].spoil(&f);
		write_fake(&f);
		if (import(&f, OL_WEIGHT_Q8, &err) == OL_OK)
			fail_msg("%s: was imported", refusals[i].name);
		if (!strstr(err.text, refusals[i].message) || !strstr(err.text, f.folder) ||
		    strchr(err.text, '\n'))
			fail_msg("%s: \"%s\", wanted \"%s\"", refusals[i].name, err.text,
				 refusals[i].message);
		assert_int_equal(leftovers(f.folder), 0);
		remove_folder(f.folder);
	}
}

static const struct {
	const char *name, *file, *text, *message;
} file_refusals[] = {
	{"no weights", NULL, NULL,
	 "holds neither model.safetensors nor model.safetensors.index.json"},
	{"an index without a map", "model.safetensors.index.json", "{}", "weight_map is missing"},
	{"an index out of the folder", "model.safetensors.index.json",
	 "{\"weight_map\":{\"a\":\"../b.safetensors\"}}", "which is not a file name"},
	{"an index of numbers", "model.safetensors.index.json", "{\"weight_map\":{\"a\":1}}",
	 "which is not a file name"},
	{"a missing shard", "model.safetensors.index.json",
	 "{\"weight_map\":{\"a\":\"b.safetensors\"}}", "b.safetensors: No such file"},
	{"an index that is no JSON", "model.safetensors.index.json", "{\n{", "line 2: "},
};

static void test_every_refusal_of_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(file_refusals); i++) {
		struct fake f;
		struct ol_error err;
		fake_init(&f);
		write_file(&f, "config.json", f.config, strlen(f.config));
		if (file_refusals[i].file)
			write_file(&f, file_refusals[i].file, file_refusals[i].text,
				   strlen(file_refusals[i].text));
		assert_int_not_equal(import(&f, OL_WEIGHT_Q8, &err), OL_OK);
		if (!strstr(err.text, file_refusals[i].message) || !strstr(err.text, f.folder))
			fail_msg("%s: \"%s\"", file_refusals[i].name, err.text);
		assert_int_equal(leftovers(f.folder), 0);
		remove_folder(f.folder);
	}
}

static void test_index_and_shards_disagree(void **state)
{
	(void)state;
	static const struct {
		const char *map, *message;
	} rows[] = {
		{"\"ghost\":\"a.safetensors\"", "tensor ghost is missing, though the index says"},
		{"\"model.norm.weight\":\"a.safetensors\"", "does not stand in the index"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct fake f;
		struct ol_error err;
		char index[256];
		fake_init(&f);
		write_file(&f, "config.json", f.config, strlen(f.config));
		write_tensors(&f, "a.safetensors", 0, f.count);
		const int n = snprintf(index, sizeof index, "{\"weight_map\":{%s}}", rows[i].map);
		write_file(&f, "model.safetensors.index.json", index, (size_t)n);
		assert_int_equal(import(&f, OL_WEIGHT_Q8, &err), OL_ERR_INPUT);
		if (!strstr(err.text, rows[i].message))
			fail_msg("\"%s\"", err.text);
		remove_folder(f.folder);
	}
}

static bool stop_at_once(void *context, uint64_t done, uint64_t total)
{
	int *calls = context;
	assert_true(done > 0 && done <= total);
	return ++*calls < 3;
}

static void test_cancelled(void **state)
{
	(void)state;
	struct fake f;
	struct ol_error err;
	int calls = 0;
	fake_init(&f);
	write_fake(&f);
	const struct ol_import_options options = {OL_WEIGHT_Q8, stop_at_once, &calls};
	assert_int_equal(ol_import(f.output, f.folder, &options, &err), OL_ERR_CANCELLED);
	assert_int_equal(calls, 3);
	assert_int_equal(leftovers(f.folder), 0);
	remove_folder(f.folder);
}

/* ---- The disk and the memory run out ------------------------------------------------------ */

static int in_child(const struct fake *f, int resource, rlim_t limit)
{
	const pid_t pid = fork();
	if (pid == 0) {
		struct ol_error err;
		const struct rlimit r = {limit, limit};
		signal(SIGXFSZ, SIG_IGN);
		int code = 99;
		if (setrlimit(resource, &r) == 0)
			code = (int)import(f, OL_WEIGHT_F32, &err);
		if (code != OL_OK && (err.text[0] == '\0' || strchr(err.text, '\n')))
			code = 98;
		_exit(code);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_the_disk_runs_out_anywhere(void **state)
{
	(void)state;
	struct fake f;
	fake_init(&f);
	write_fake(&f);
	struct ol_model *model = import_and_open(&f, OL_WEIGHT_F32);
	const rlim_t whole = model->map.size;
	ol_model_close(model);
	unlink(f.output);
	for (rlim_t limit = 0; limit < whole; limit += whole / 9) {
		assert_int_equal(in_child(&f, RLIMIT_FSIZE, limit), OL_ERR_FULL);
		assert_int_equal(leftovers(f.folder), 0);
	}
	assert_int_equal(in_child(&f, RLIMIT_FSIZE, whole), OL_OK);
	remove_folder(f.folder);
}

/* A limit on address space means nothing under AddressSanitizer, which reserves terabytes. */
#if !defined(__SANITIZE_ADDRESS__)
static void test_the_memory_runs_out_anywhere(void **state)
{
	(void)state;
	struct fake f;
	rlim_t pages = 0;
	int failures = 0;
	fake_init(&f);
	write_fake(&f);
	FILE *statm = fopen("/proc/self/statm", "r");
	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%lu", &pages), 1);
	fclose(statm);
	for (rlim_t more = 0; more < 4096; more += 64) {
		const int code = in_child(&f, RLIMIT_AS, (pages + more) * 4096);
		assert_true(code == OL_OK || code == OL_ERR_FULL);
		failures += code == OL_ERR_FULL;
		assert_int_equal(leftovers(f.folder), code == OL_OK);
		unlink(f.output);
	}
	assert_true(failures > 0);
	remove_folder(f.folder);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_source_type_is_exact),
		cmocka_unit_test(test_quantised_as_the_contract_says),
		cmocka_unit_test(test_shards_give_the_same_model),
		cmocka_unit_test(test_tied_in_every_spelling),
		cmocka_unit_test(test_texts_are_kept),
		cmocka_unit_test(test_golden_models),
		cmocka_unit_test(test_trained_model),
		cmocka_unit_test(test_every_refusal),
		cmocka_unit_test(test_every_refusal_of_files),
		cmocka_unit_test(test_index_and_shards_disagree),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_the_disk_runs_out_anywhere),
#if !defined(__SANITIZE_ADDRESS__)
		cmocka_unit_test(test_the_memory_runs_out_anywhere),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
