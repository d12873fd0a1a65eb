/* Adapters: what is written is read back to the bit, and one row for every way a folder is
 * refused. */
#include "model/adapter_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"

enum { LINEARS = 2 * OL_LAYER_LINEARS + 1, PATH_ROOM = 512 };

static const struct ol_config base = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = 37,
	.hidden = 12,
	.ffn = 20,
	.layers = 2,
	.heads = 3,
	.kv_heads = 1,
	.head_dim = 4,
};

static char folder[PATH_ROOM];

static void must(enum ol_status s, const struct ol_error *err)
{
	if (s != OL_OK)
		fail_msg("status %d: %s", (int)s, err->text);
}

/* --- building -------------------------------------------------------------- */

struct made {
	struct ol_adapter_config config;
	struct ol_lora_tensors tensors[LINEARS];
	uint16_t *values[2 * LINEARS];
};

static void made_release(struct made *m)
{
	for (int i = 0; i < 2 * LINEARS; i++)
		free(m->values[i]);
}

/* Finite bf16 numbers of every size, zeros and subnormals among them. */
static uint16_t *numbers(size_t count, uint32_t *state)
{
	uint16_t *values = malloc(count * sizeof *values);
	assert_non_null(values);
	for (size_t i = 0; i < count; i++) {
		*state = *state * 1664525u + 1013904223u;
		values[i] = (uint16_t)(*state >> 16);
		if ((values[i] & 0x7f80) == 0x7f80)
			values[i] = (uint16_t)(values[i] & 0x807f);
	}
	return values;
}

static void adapt(struct made *m, int layer, enum ol_linear linear, int rank, float scale,
		  uint32_t *state)
{
	int outputs, inputs;
	const int i = ol_linear_index(&base, layer, linear);
	ol_linear_shape(&base, linear, &outputs, &inputs);
	m->values[2 * i] = numbers((size_t)(rank * inputs), state);
	m->values[2 * i + 1] = numbers((size_t)(outputs * rank), state);
	m->tensors[i] = (struct ol_lora_tensors){
		.rank = rank, .scale = scale, .a = m->values[2 * i], .b = m->values[2 * i + 1]};
}

/* Which linears, ranks and scales an adapter has. */
static const struct kind {
	const char *name;
	uint32_t targets;
	int rank, odd_rank; /* odd_rank: of layer 1's v; 0: as the others */
	float alpha, odd_scale;
	bool rslora, first_layer_only;
} kinds[] = {
	{"all", OL_TARGETS_ALL, 4, 0, 8.0f, 0.0f, false, false},
	{"with the head", OL_TARGETS_ALL | OL_TARGETS_HEAD, 3, 0, 16.0f, 0.0f, false, false},
	{"the head alone", OL_TARGETS_HEAD, 2, 0, 0.1f, 0.0f, false, false},
	{"q and v", 1u << OL_LINEAR_Q | 1u << OL_LINEAR_V, 1, 0, 1.0f, 0.0f, false, false},
	{"another rank", OL_TARGETS_ALL, 4, 7, 8.0f, 0.0f, false, false},
	{"another scale", OL_TARGETS_ALL, 3, 0, 1.0f, 0.1f, false, false},
	{"rslora", OL_TARGETS_ALL, 5, 0, 0.7f, 0.0f, true, false},
	{"rslora, another rank and scale", OL_TARGETS_ALL, 5, 6, 3.0f, 0.3f, true, false},
	{"one layer", OL_TARGETS_ALL, 33, 0, 8.0f, 0.0f, false, true},
};

static void make(struct ol_adapter **adapter, const struct kind *kind, uint32_t seed)
{
	struct made m = {.config = {.rank = kind->rank,
				    .alpha = kind->alpha,
				    .rslora = kind->rslora,
				    .dropout = 0.05f,
				    .base_name = "a \"base\" / ü"}};
	struct ol_error err;
	for (int i = 0; i < LINEARS; i++) {
		int layer;
		const enum ol_linear linear = ol_linear_at(&base, i, &layer);
		const bool odd = layer == 1 && linear == OL_LINEAR_V;
		const int rank = odd && kind->odd_rank ? kind->odd_rank : kind->rank;
		if (!(kind->targets & 1u << linear) || (kind->first_layer_only && layer > 0))
			continue;
		adapt(&m, layer, linear, rank,
		      odd && kind->odd_scale != 0.0f
			      ? kind->odd_scale
			      : ol_lora_scale((double)kind->alpha, rank, kind->rslora),
		      &seed);
	}
	must(ol_adapter_make(adapter, &base, &m.config, m.tensors, &err), &err);
	made_release(&m);
}

static void read_file(struct ol_buf *out, const char *name)
{
	char path[2 * PATH_ROOM];
	struct ol_map map;
	struct ol_error err;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	must(ol_map_open(&map, path, &err), &err);
	ol_buf_init(out, 1 << 24);
	assert_true(ol_buf_append(out, map.data, map.size));
	ol_map_close(&map);
}

/* --- round trips ----------------------------------------------------------- */

static void check_equal(const struct ol_adapter *a, const struct ol_adapter *b)
{
	assert_memory_equal(a->sha256, b->sha256, OL_SHA256_BYTES);
	assert_int_equal(a->config.targets, b->config.targets);
	assert_int_equal(a->config.rank, b->config.rank);
	assert_int_equal(a->config.rslora, b->config.rslora);
	assert_memory_equal(&a->config.alpha, &b->config.alpha, sizeof(float));
	assert_memory_equal(&a->config.dropout, &b->config.dropout, sizeof(float));
	assert_string_equal(a->config.base_name, b->config.base_name);
	assert_int_equal(a->view.rank_max, b->view.rank_max);
	assert_int_equal(a->parameters, b->parameters);
	for (int i = 0; i < LINEARS; i++) {
		const struct ol_lora_tensors *x = &a->tensors[i], *y = &b->tensors[i];
		int layer, outputs, inputs;
		ol_linear_shape(&base, ol_linear_at(&base, i, &layer), &outputs, &inputs);
		assert_int_equal(x->rank, y->rank);
		if (x->rank == 0)
			continue;
		assert_memory_equal(&x->scale, &y->scale, sizeof(float));
		assert_memory_equal(x->a, y->a, (size_t)(x->rank * inputs) * 2);
		assert_memory_equal(x->b, y->b, (size_t)(x->rank * outputs) * 2);
	}
}

/* The panels hold the tensors. */
static void check_views(const struct ol_adapter *a)
{
	uint16_t row[64];
	for (int i = 0; i < LINEARS; i++) {
		const struct ol_lora_view *view = &ol_adapter_views(a)->linears[i];
		assert_int_equal(view->rank, a->tensors[i].rank);
		if (view->rank == 0)
			continue;
		assert_memory_equal(&view->scale, &a->tensors[i].scale, sizeof(float));
		for (int r = 0; r < view->a.rows; r++) {
			ol_unpack_rows(row, &view->a, r, 1);
			assert_memory_equal(row, a->tensors[i].a + r * view->a.cols,
					    (size_t)view->a.cols * 2);
		}
		for (int r = 0; r < view->b.rows; r++) {
			ol_unpack_rows(row, &view->b, r, 1);
			assert_memory_equal(row, a->tensors[i].b + r * view->b.cols,
					    (size_t)view->b.cols * 2);
		}
	}
}

static void what_is_written_is_read_back(void **state)
{
	(void)state;
	for (size_t k = 0; k < OL_ARRAY_LEN(kinds); k++) {
		struct ol_adapter *first, *second;
		struct ol_buf files[4];
		uint8_t digest[OL_SHA256_BYTES];
		struct ol_error err;
		make(&first, &kinds[k], (uint32_t)k);
		check_views(first);
		must(ol_adapter_write(first, folder, &err), &err);
		read_file(&files[0], "adapter_model.safetensors");
		read_file(&files[1], "adapter_config.json");
		ol_sha256(digest, files[0].data, files[0].size);
		assert_memory_equal(digest, ol_adapter_sha256(first), sizeof digest);

		must(ol_adapter_open(&second, folder, &base, &err), &err);
		check_equal(first, second);
		check_views(second);
		must(ol_adapter_write(second, folder, &err), &err);
		read_file(&files[2], "adapter_model.safetensors");
		read_file(&files[3], "adapter_config.json");
		for (int f = 0; f < 2; f++) {
			assert_int_equal(files[f].size, files[f + 2].size);
			assert_memory_equal(files[f].data, files[f + 2].data, files[f].size);
		}
		for (int f = 0; f < 4; f++)
			ol_buf_release(&files[f]);
		ol_adapter_close(second);
		ol_adapter_close(first);
	}
}

/* Every scale that is a float comes back through alpha, whatever the rank. */
static void scales_survive_alpha(void **state)
{
	uint32_t bits = 1;
	(void)state;
	for (int i = 0; i < 20000; i++) {
		bits = bits * 1664525u + 1013904223u;
		const float scale = ol_bits_float((bits >> 1) % 0x7f000000u);
		const int rank = 1 + (int)(bits % OL_RANK_MAX);
		for (int rs = 0; rs < 2; rs++)
			assert_true(ol_lora_scale(ol_lora_alpha(scale, rank, rs), rank, rs) ==
				    scale);
	}
}

static const char config_text[] = "{\n"
				  "  \"alpha_pattern\": {},\n"
				  "  \"base_model_name_or_path\": \"some/base\",\n"
				  "  \"bias\": \"none\",\n"
				  "  \"fan_in_fan_out\": false,\n"
				  "  \"inference_mode\": true,\n"
				  "  \"lora_alpha\": 16,\n"
				  "  \"lora_dropout\": 0.05,\n"
				  "  \"peft_type\": \"LORA\",\n"
				  "  \"r\": 2,\n"
				  "  \"rank_pattern\": {},\n"
				  "  \"target_modules\": [\n"
				  "    \"q_proj\"\n"
				  "  ],\n"
				  "  \"task_type\": \"CAUSAL_LM\",\n"
				  "  \"use_dora\": false,\n"
				  "  \"use_rslora\": false\n"
				  "}\n";

/* The bytes of a file are a promise: written out once, by hand. */
static void the_files_are_these(void **state)
{
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\"},"
		"\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":"
		"{\"dtype\":\"BF16\",\"shape\":[2,12],\"data_offsets\":[0,48]},"
		"\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\":"
		"{\"dtype\":\"BF16\",\"shape\":[12,2],\"data_offsets\":[48,96]},"
		"\"base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight\":"
		"{\"dtype\":\"BF16\",\"shape\":[2,12],\"data_offsets\":[96,144]},"
		"\"base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight\":"
		"{\"dtype\":\"BF16\",\"shape\":[12,2],\"data_offsets\":[144,192]}}";
	struct made m = {
		.config = {.rank = 2, .alpha = 16.0f, .dropout = 0.05f, .base_name = "some/base"}};
	struct ol_adapter *adapter;
	struct ol_buf text;
	struct ol_error err;
	uint32_t seed = 1;
	(void)state;
	adapt(&m, 0, OL_LINEAR_Q, 2, 8.0f, &seed);
	adapt(&m, 1, OL_LINEAR_Q, 2, 8.0f, &seed);
	must(ol_adapter_make(&adapter, &base, &m.config, m.tensors, &err), &err);
	const size_t length = (strlen(header) + 7) / 8 * 8;
	assert_int_equal(ol_load_u64(adapter->file), length);
	assert_memory_equal(adapter->file + 8, header, strlen(header));
	for (size_t i = strlen(header); i < length; i++)
		assert_int_equal(adapter->file[8 + i], ' ');
	assert_int_equal(adapter->file_bytes, 8 + length + 192);
	assert_memory_equal(adapter->file + 8 + length, m.values[0], 48);
	assert_memory_equal(adapter->file + 8 + length + 48, m.values[1], 48);
	ol_buf_init(&text, 1 << 16);
	assert_true(ol_peft_config_write(&text, adapter));
	assert_string_equal(text.data, config_text);
	ol_buf_release(&text);
	ol_adapter_close(adapter);
	made_release(&m);
}

/* --- refusals -------------------------------------------------------------- */

/* A safetensors file of q_proj in layer 0 and 1, rank 2, and what a row changes in it. */
struct file_row {
	const char *name;
	const char *dtype; /* of all tensors; NULL: F32        */
	const char *drop;  /* a part of the name of the tensor that is missing */
	const char *extra; /* one more tensor's name           */
	int rank;          /* 0: 2                             */
	uint32_t value;    /* bits of every number             */
	const char *message;
};

static void add_tensor(struct ol_buf *header, struct ol_buf *data, const char *name,
		       const char *dtype, int rows, int cols, uint32_t value)
{
	const size_t size = strcmp(dtype, "F32") == 0 || strcmp(dtype, "I32") == 0 ? 4 : 2;
	const size_t begin = data->size;
	for (int i = 0; i < rows * cols; i++) {
		uint8_t bytes[4];
		ol_store_u32(bytes, value);
		ol_buf_append(data, bytes, size);
	}
	ol_buf_printf(header,
		      "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
		      header->size > 1 ? "," : "", name, dtype, rows, cols, begin, data->size);
}

static void build_file(struct ol_buf *file, const struct file_row *row)
{
	struct ol_buf header, data;
	uint8_t length[8];
	const char *dtype = row->dtype ? row->dtype : "F32";
	const int rank = row->rank ? row->rank : 2;
	ol_buf_init(&header, 1 << 20);
	ol_buf_init(&data, 1 << 20);
	ol_buf_init(file, 1 << 22);
	ol_buf_append_text(&header, "{");
	for (int t = 0; t < 4; t++) {
		char name[OL_ADAPTER_TENSOR_NAME_MAX];
		ol_adapter_tensor_name(name, t / 2, OL_LINEAR_Q, "AB"[t % 2]);
		if (!row->drop || !strstr(name, row->drop))
			add_tensor(&header, &data, name, dtype, t % 2 ? 12 : rank,
				   t % 2 ? rank : 12, row->value);
	}
	if (row->extra)
		add_tensor(&header, &data, row->extra, dtype, 2, 12, row->value);
	ol_buf_append_text(&header, "}");
	ol_store_u64(length, header.size);
	ol_buf_append(file, length, 8);
	ol_buf_append(file, header.data, header.size);
	ol_buf_append(file, data.data ? data.data : "", data.size);
	assert_false(header.failed || data.failed || file->failed);
	ol_buf_release(&header);
	ol_buf_release(&data);
}

static enum ol_status open_bytes(struct ol_adapter **adapter, const char *config,
				 const struct file_row *row, struct ol_error *err)
{
	struct ol_buf file;
	build_file(&file, row);
	/* A copy of exactly this size, so that a sanitizer sees the first byte too far. */
	uint8_t *copy = malloc(file.size);
	assert_non_null(copy);
	memcpy(copy, file.data, file.size);
	const enum ol_status s = ol_adapter_open_bytes(adapter, config, strlen(config), copy,
						       file.size, "F", &base, err);
	free(copy);
	ol_buf_release(&file);
	return s;
}

static void check_message(const char *name, const char *wanted, enum ol_status s,
			  const struct ol_error *err)
{
	if ((s == OL_OK) != (*wanted == '\0') || (s != OL_OK && !strstr(err->text, wanted)))
		fail_msg("%s: status %d, \"%s\", wanted \"%s\"", name, (int)s,
			 s == OL_OK ? "" : err->text, wanted);
}

#define NAME(layer, module, side)                                                                  \
	"base_model.model.model.layers." layer "." module ".lora_" side ".weight"

static const struct file_row file_rows[] = {
	{"f32", NULL, NULL, NULL, 0, 0x3f800001, ""},
	{"f16", "F16", NULL, NULL, 0, 0x3c01, ""},
	{"bf16", "BF16", NULL, NULL, 0, 0x3f81, ""},
	{"integers", "I32", NULL, NULL, 0, 1,
	 "lora_A.weight is I32: adapters are F32, F16 or BF16"},
	{"NaN", NULL, NULL, NULL, 0, 0x7fc00000,
	 "layers.0.self_attn.q_proj.lora_A.weight: value 0 is not"},
	{"infinity", "F16", NULL, NULL, 0, 0x7c00, "is not a finite bf16 number"},
	{"too large for bf16", NULL, NULL, NULL, 0, 0x7f7fffff, "is not a finite bf16 number"},
	{"one B is missing", NULL, NAME("1", "self_attn.q_proj", "B"), NULL, 0, 0,
	 NAME("1", "self_attn.q_proj", "B") " is missing, but adapter_config.json asks for it"},
	{"a layer is missing", NULL, "layers.1", NULL, 0, 0,
	 NAME("1", "self_attn.q_proj", "A") " is missing"},
	{"another rank", NULL, NULL, NULL, 3, 0, "has not the shape [2, 12]"},
	{"a module that is not targeted", NULL, NULL, NAME("0", "self_attn.k_proj", "A"), 0, 0,
	 NAME("0", "self_attn.k_proj", "B") " is missing"},
	{"a layer too far", NULL, NULL, NAME("2", "self_attn.q_proj", "A"), 0, 0,
	 NAME("2", "self_attn.q_proj", "A") " is no LoRA weight of a linear layer"},
	{"a trained bias", NULL, NULL, "base_model.model.model.layers.0.self_attn.q_proj.bias", 0,
	 0, "q_proj.bias is no LoRA weight"},
	{"an embedding", NULL, NULL, "base_model.model.model.embed_tokens.lora_embedding_A", 0, 0,
	 "lora_embedding_A is no LoRA weight"},
	{"DoRA's magnitudes", NULL, NULL,
	 "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", 0, 0,
	 "lora_magnitude_vector is no LoRA weight"},
	{"a name of PEFT's inside", NULL, NULL,
	 "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", 0, 0,
	 "is no LoRA weight"},
};

static void files_are_refused_by_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(file_rows); i++) {
		struct ol_adapter *adapter = NULL;
		struct ol_error err = {0};
		const enum ol_status s = open_bytes(&adapter, config_text, &file_rows[i], &err);
		check_message(file_rows[i].name, file_rows[i].message, s, &err);
		if (s != OL_OK)
			assert_non_null(strstr(err.text, "F/adapter_model.safetensors"));
		ol_adapter_close(adapter);
	}
}

static void f32_and_f16_are_rounded_to_bf16(void **state)
{
	static const struct {
		const char *dtype;
		uint32_t value;
		uint16_t bf16;
	} rows[] = {
		{"F32", 0x3f808000, 0x3f80}, /* a tie: to even */
		{"F32", 0x3f808001, 0x3f81}, {"F32", 0x3f818000, 0x3f82},
		{"F32", 0x00008001, 0x0001}, /* subnormals stay */
		{"F32", 0x80000000, 0x8000}, {"F16", 0x3c04, 0x3f80},
		{"F16", 0x3c05, 0x3f81},     {"BF16", 0xbf81, 0xbf81},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct file_row row = {
			.name = "", .dtype = rows[i].dtype, .value = rows[i].value};
		struct ol_adapter *adapter = NULL;
		struct ol_error err = {0};
		must(open_bytes(&adapter, config_text, &row, &err), &err);
		assert_int_equal(ol_adapter_tensors(adapter)[0].a[0], rows[i].bf16);
		assert_int_equal(ol_adapter_tensors(adapter)[0].b[23], rows[i].bf16);
		ol_adapter_close(adapter);
	}
}

/* What follows "{"; the members that a row leaves out come after it. */
static const struct config_row {
	const char *name, *own, *message;
	bool whole; /* `own` is the whole text */
} config_rows[] = {
	{"plain", "", "", false},
	{"as newer PEFT writes it",
	 "\"auto_mapping\":null,\"corda_config\":null,\"eva_config\":null,\"exclude_modules\":null,"
	 "\"layer_replication\":null,\"layers_pattern\":null,\"layers_to_transform\":null,"
	 "\"loftq_config\":{},\"lora_bias\":false,\"megatron_config\":null,"
	 "\"megatron_core\":\"megatron.core\",\"modules_to_save\":null,\"qalora_group_size\":16,"
	 "\"revision\":null,\"trainable_token_indices\":null,\"use_qalora\":false,"
	 "\"init_lora_weights\":true,\"peft_version\":\"0.18.0\"",
	 "", false},
	{"rsLoRA", "\"use_rslora\":true", "", false},
	{"a null name", "\"base_model_name_or_path\":null", "", false},
	{"a regular expression of modules", "\"target_modules\":\".*q_proj\"", "", false},
	{"modules by their whole names",
	 "\"target_modules\":[\"model.layers.0.self_attn.q_proj\",\"layers.1.self_attn.q_proj\"]",
	 "", false},
	{"both layers", "\"layers_to_transform\":[1,0]", "", false},
	{"a pattern for nobody", "\"rank_pattern\":{\"k_proj\":7}", "", false},
	{"a pattern for all", "\"r\":9,\"rank_pattern\":{\"self_attn.q_proj\":2}", "", false},
	{"a pattern for some", "\"r\":9,\"rank_pattern\":{\"layers.0.self_attn.q_proj\":2}",
	 "layers.1.self_attn.q_proj.lora_A.weight has not the shape [9, 12]", false},
	{"half a name", "\"target_modules\":[\"proj\"]",
	 "belongs to a module that adapter_config.json does not target", false},
	{"one layer", "\"layers_to_transform\":0",
	 "layers.1.self_attn.q_proj.lora_A.weight belongs to a module", false},
	{"a module that is not there", "\"target_modules\":[\"q_proj\",\"up_proj\"]",
	 "layers.0.mlp.up_proj.lora_A.weight is missing", false},
	{"no JSON", "adapter", "F/adapter_config.json: line 1: not JSON", true},
	{"a list", "[]", "not a JSON object", true},
	{"a key twice", "\"r\":2,\"r\":2", "not JSON: duplicate object key", false},
	{"no kind", "{}", "\"peft_type\" is missing", true},
	{"another kind", "\"peft_type\":\"IA3\"", "\"peft_type\" is \"IA3\"", false},
	{"another task", "\"task_type\":\"SEQ_CLS\"", "\"task_type\" is \"SEQ_CLS\"", false},
	{"a kind that is a number", "\"peft_type\":7", "\"peft_type\" is not a text", false},
	{"DoRA", "\"use_dora\":true", "\"use_dora\" is true: DoRA", false},
	{"biases", "\"bias\":\"lora_only\"", "\"bias\" is \"lora_only\"", false},
	{"LoRA's biases", "\"lora_bias\":true", "\"lora_bias\" asks for something", false},
	{"transposed", "\"fan_in_fan_out\":true", "\"fan_in_fan_out\" is true", false},
	{"a flag that is a text", "\"use_rslora\":\"yes\"", "\"use_rslora\" is neither", false},
	{"modules trained whole", "\"modules_to_save\":[\"lm_head\"]",
	 "\"modules_to_save\" asks for something", false},
	{"something new", "\"warp\":{\"speed\":9}", "\"warp\" asks for something", false},
	{"PiSSA", "\"init_lora_weights\":\"pissa_niter_4\"", "\"init_lora_weights\" changes",
	 false},
	{"no rank", "\"r\":null", "\"r\" is missing", false},
	{"rank 0", "\"r\":0", "\"r\" is missing, or not a whole number from 1 to 512", false},
	{"rank 513", "\"r\":513", "\"r\" is missing, or not", false},
	{"rank 2.0", "\"r\":2.0", "\"r\" is missing, or not", false},
	{"alpha as a text", "\"lora_alpha\":\"16\"", "\"lora_alpha\" is missing, or not", false},
	{"a huge alpha", "\"lora_alpha\":1e300", "\"lora_alpha\" is missing, or not", false},
	{"dropout", "\"lora_dropout\":1.5", "\"lora_dropout\" is not a number from 0 to 1", false},
	{"no targets", "\"target_modules\":[]", "\"target_modules\" is missing", false},
	{"targets of numbers", "\"target_modules\":[1]", "\"target_modules\" is not a list", false},
	{"a pattern of regular expressions", "\"rank_pattern\":{\".*q_proj\":4}",
	 "\"rank_pattern\" has a regular expression", false},
	{"a pattern of texts", "\"alpha_pattern\":{\"q_proj\":\"4\"}",
	 "\"alpha_pattern\" holds a number that is out of its range", false},
	{"a pattern that is a list", "\"rank_pattern\":[4]", "\"rank_pattern\" is not an object",
	 false},
	{"layers of texts", "\"layers_to_transform\":[\"0\"]", "\"layers_to_transform\" is not",
	 false},
	{"blocks", "\"layers_pattern\":\"blocks\"", "\"layers_pattern\" is not \"layers\"", false},
	{"a long name",
	 "\"base_model_name_or_path\":\"0123456789012345678901234567890123456789012345678901234567"
	 "89012345678901234567890123456789012345678901234567890123456789012345678901234567890123456"
	 "78901234567890123456789012345678901234567890123456789012345678901234567890123456789012345"
	 "67890123456789012345678901234567890123456789\"",
	 "\"base_model_name_or_path\" is longer than 255 bytes", false},
};

static void build_config(struct ol_buf *text, const struct config_row *row)
{
	static const struct {
		const char *key, *value;
	} usual[] = {
		{"\"peft_type\"", "\"LORA\""},
		{"\"r\"", "2"},
		{"\"lora_alpha\"", "16"},
		{"\"target_modules\"", "[\"q_proj\"]"},
	};
	bool first = *row->own == '\0';
	ol_buf_init(text, 1 << 16);
	if (row->whole) {
		ol_buf_append_text(text, row->own);
		return;
	}
	ol_buf_printf(text, "{%s", row->own);
	for (size_t i = 0; i < OL_ARRAY_LEN(usual); i++)
		if (!strstr(row->own, usual[i].key)) {
			ol_buf_printf(text, "%s%s:%s", first ? "" : ",", usual[i].key,
				      usual[i].value);
			first = false;
		}
	ol_buf_append_text(text, "}");
}

static void configs_are_refused_by_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(config_rows); i++) {
		const struct file_row plain = {.name = ""};
		struct ol_adapter *adapter = NULL;
		struct ol_error err = {0};
		struct ol_buf config;
		build_config(&config, &config_rows[i]);
		const enum ol_status s = open_bytes(&adapter, config.data, &plain, &err);
		check_message(config_rows[i].name, config_rows[i].message, s, &err);
		ol_buf_release(&config);
		ol_adapter_close(adapter);
	}
}

static void patterns_give_ranks_and_scales(void **state)
{
	static const struct {
		const char *own;
		float scales[2];
	} rows[] = {
		{"\"lora_alpha\":16", {8.0f, 8.0f}},
		{"\"lora_alpha\":1,\"use_rslora\":true", {0x1.6a09e6p-1f, 0x1.6a09e6p-1f}},
		{"\"alpha_pattern\":{\"q_proj\":3}", {1.5f, 1.5f}},
		{"\"alpha_pattern\":{\"layers.1.self_attn.q_proj\":0.2}", {8.0f, 0.1f}},
		/* The first that fits counts. */
		{"\"alpha_pattern\":{\"layers.1.self_attn.q_proj\":0.2,\"q_proj\":-5}",
		 {-2.5f, 0.1f}},
		{"\"alpha_pattern\":{\"q_proj\":-5,\"layers.1.self_attn.q_proj\":0.2}",
		 {-2.5f, -2.5f}},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct config_row row = {"", rows[i].own, "", false};
		const struct file_row plain = {.name = ""};
		struct ol_adapter *adapter = NULL;
		struct ol_error err = {0};
		struct ol_buf config;
		build_config(&config, &row);
		must(open_bytes(&adapter, config.data, &plain, &err), &err);
		for (int l = 0; l < 2; l++)
			assert_true(ol_adapter_views(adapter)
					    ->linears[ol_linear_index(&base, l, OL_LINEAR_Q)]
					    .scale == rows[i].scales[l]);
		ol_buf_release(&config);
		ol_adapter_close(adapter);
	}
}

static void adapters_that_cannot_be_made(void **state)
{
	static const struct {
		const char *name;
		int rank;
		float scale;
		uint16_t value;
		const char *message;
	} rows[] = {
		{"fine", 2, 1.0f, 0x3f80, ""},
		{"none", 0, 1.0f, 0x3f80, "an adapter without tensors changes nothing"},
		{"a negative rank", -1, 1.0f, 0x3f80,
		 "model.layers.0.self_attn.q_proj: a rank of -1"},
		{"a huge rank", 513, 1.0f, 0x3f80, "a rank of 513; ranks are from 1 to 512"},
		{"a scale of infinity", 2, 0x1p127f * 2.0f, 0x3f80,
		 "its scale is not a finite number"},
		{"NaN", 2, 1.0f, 0xffff,
		 "q_proj.lora_A.weight: value 0 is not a finite bf16 number"},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		uint16_t values[2 * 12];
		struct ol_lora_tensors tensors[LINEARS] = {
			{.rank = rows[i].rank, .scale = rows[i].scale, .a = values, .b = values}};
		const struct ol_adapter_config config = {.rank = 2, .alpha = 2.0f};
		struct ol_adapter *adapter = NULL;
		struct ol_error err = {0};
		for (size_t k = 0; k < OL_ARRAY_LEN(values); k++)
			values[k] = rows[i].value;
		check_message(rows[i].name, rows[i].message,
			      ol_adapter_make(&adapter, &base, &config, tensors, &err), &err);
		ol_adapter_close(adapter);
	}
}

static void target_lists_are_read(void **state)
{
	static const struct {
		const char *text;
		uint32_t targets; /* 0: refused */
	} rows[] = {
		{"all", 0x7f},
		{"q", 1},
		{"q,k,v,o", 0xf},
		{"gate,up,down", 0x70},
		{"all,head", 0xff},
		{"head", 0x80},
		{"q_proj,lm_head", 0x81},
		{"q,q", 1},
		{"", 0},
		{"q,", 0},
		{"q k", 0},
		{"Q", 0},
		{"alll", 0},
		{"q_pro", 0},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		uint32_t targets = 0;
		struct ol_error err;
		const enum ol_status s = ol_targets_parse(&targets, rows[i].text, &err);
		assert_int_equal(s, rows[i].targets ? OL_OK : OL_ERR_INPUT);
		assert_int_equal(targets, rows[i].targets);
	}
}

static void a_missing_folder_is_named(void **state)
{
	struct ol_adapter *adapter = NULL;
	struct ol_error err = {0};
	(void)state;
	assert_int_not_equal(ol_adapter_open(&adapter, "no/such/folder", &base, &err), OL_OK);
	assert_non_null(strstr(err.text, "no/such/folder/adapter_config.json"));
}

static int make_folder(void **state)
{
	char place[] = "/tmp/openledger-adapter-XXXXXX";
	(void)state;
	if (!mkdtemp(place))
		return 1;
	snprintf(folder, sizeof folder, "%s", place);
	return 0;
}

static int remove_folder(void **state)
{
	static const char *const names[] = {"/adapter_config.json", "/adapter_model.safetensors",
					    ""};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		char path[2 * PATH_ROOM];
		snprintf(path, sizeof path, "%s%s", folder, names[i]);
		if (remove(path) != 0)
			return 1;
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(scales_survive_alpha),
		cmocka_unit_test(the_files_are_these),
		cmocka_unit_test(files_are_refused_by_name),
		cmocka_unit_test(f32_and_f16_are_rounded_to_bf16),
		cmocka_unit_test(configs_are_refused_by_key),
		cmocka_unit_test(patterns_give_ranks_and_scales),
		cmocka_unit_test(adapters_that_cannot_be_made),
		cmocka_unit_test(target_lists_are_read),
		cmocka_unit_test(a_missing_folder_is_named),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
