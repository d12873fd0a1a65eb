/* GGUF: what is exported comes back bit for bit, and one row for every way a file is refused. */
#include "base/bytes.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/model_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- Models of every architecture that GGUF can say --------------------------------------- */

static struct ol_config config_of(enum ol_arch arch)
{
	struct ol_config c = {
		.arch = arch,
		.vocab_size = 70,
		.hidden = 64,
		.ffn = 96,
		.layers = 3,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 32,
		.context_max = 128,
		.tied_embeddings = arch != OL_ARCH_LLAMA,
		.qkv_bias = arch == OL_ARCH_QWEN2,
		.qk_norm = arch == OL_ARCH_QWEN3 || arch == OL_ARCH_GEMMA3,
		.norm_eps = 1e-5f,
		.embed_scale = 1,
		.attention_scale = (float)(1 / sqrt(32.0)),
		.rope_theta = 500000,
		.rope_theta_local = 500000,
		.rope_factor = 1,
		.bos_id = 1,
		.eos_ids = {2, 5},
		.eos_count = 2,
	};
	if (arch == OL_ARCH_LLAMA) {
		c.rope_scaling = OL_ROPE_LLAMA3;
		c.rope_factor = 8;
		c.rope_low_freq_factor = 1;
		c.rope_high_freq_factor = 4;
		c.rope_original_context = 64;
	}
	if (arch == OL_ARCH_MISTRAL)
		c.window = 16;
	if (arch == OL_ARCH_QWEN3) {
		c.rope_scaling = OL_ROPE_LINEAR;
		c.rope_factor = 4;
	}
	if (arch == OL_ARCH_GEMMA2 || arch == OL_ARCH_GEMMA3) {
		c.activation = OL_ACTIVATION_GELU_TANH;
		c.post_norms = true;
		c.embed_scale = 8;
		c.window = 16;
		c.window_period = arch == OL_ARCH_GEMMA2 ? 2 : 6;
		c.rope_theta_local = arch == OL_ARCH_GEMMA2 ? 500000 : 10000;
		c.attention_softcap = arch == OL_ARCH_GEMMA2 ? 50 : 0;
		c.logit_softcap = arch == OL_ARCH_GEMMA2 ? 30 : 0;
	}
	return c;
}

struct paths {
	char gguf[64], olm[64];
};

static struct paths paths_here(void)
{
	struct paths p;
	snprintf(p.gguf, sizeof p.gguf, "/tmp/ol-gguf-%ld.gguf", (long)getpid());
	snprintf(p.olm, sizeof p.olm, "/tmp/ol-gguf-%ld.olm", (long)getpid());
	return p;
}

static void remove_paths(const struct paths *p)
{
	unlink(p->gguf);
	unlink(p->olm);
}

static struct ol_model *export_and_import(const struct paths *p, const struct ol_model *model,
					  enum ol_weight_type type)
{
	struct ol_error err = {0};
	struct ol_model *back = NULL;
	const struct ol_import_options options = {.type = type};
	if (ol_export_gguf(p->gguf, model, &err) != OL_OK ||
	    ol_import(p->olm, p->gguf, &options, &err) != OL_OK ||
	    ol_model_open(&back, p->olm, &err) != OL_OK || ol_model_verify(back, &err) != OL_OK)
		fail_msg("%s", err.text);
	return back;
}

static void test_every_model_comes_back(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	for (int arch = 0; arch < OL_ARCHES; arch++)
		for (int type = OL_WEIGHT_F32; type <= OL_WEIGHT_Q4; type++) {
			const struct ol_config c = config_of((enum ol_arch)arch);
			struct ol_model *model;
			assert_int_equal(
				ol_model_random(&model, &c, (enum ol_weight_type)type, 9, NULL),
				OL_OK);
			struct ol_model *back =
				export_and_import(&p, model, (enum ol_weight_type)type);
			/* The id covers the config and every bit of every tensor. */
			if (memcmp(ol_model_id(back), ol_model_id(model), OL_MODEL_ID_BYTES) != 0)
				fail_msg("%s %s", ol_arch_name(c.arch),
					 ol_weight_type_name((enum ol_weight_type)type));
			ol_model_close(back);
			ol_model_close(model);
		}
	remove_paths(&p);
}

/* q8 from a q8 file keeps the codes; f32 from it widens them without loss. */
static void test_q8_file_widened_to_f32(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	const struct ol_config c = config_of(OL_ARCH_QWEN2);
	struct ol_model *model;
	float a[96], b[96];
	assert_int_equal(ol_model_random(&model, &c, OL_WEIGHT_Q8, 9, NULL), OL_OK);
	struct ol_model *back = export_and_import(&p, model, OL_WEIGHT_F32);
	for (int r = 0; r < c.hidden; r++) {
		ol_matrix_row(a, &ol_model_weights(model)->layers[1].down, r);
		ol_matrix_row(b, &ol_model_weights(back)->layers[1].down, r);
		assert_memory_equal(a, b, sizeof a);
	}
	ol_model_close(back);
	ol_model_close(model);
	remove_paths(&p);
}

/* Rows that are no whole blocks are written in f32, with the same values. */
static void test_rows_without_whole_blocks(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	struct ol_config c = config_of(OL_ARCH_QWEN2);
	struct ol_model *model;
	float a[50], b[50];
	c.hidden = 50;
	assert_int_equal(ol_model_random(&model, &c, OL_WEIGHT_Q4, 9, NULL), OL_OK);
	struct ol_model *back = export_and_import(&p, model, OL_WEIGHT_F32);
	for (int r = 0; r < c.ffn; r++) {
		ol_matrix_row(a, &ol_model_weights(model)->layers[0].up, r);
		ol_matrix_row(b, &ol_model_weights(back)->layers[0].up, r);
		assert_memory_equal(a, b, sizeof a);
	}
	ol_model_close(back);
	ol_model_close(model);
	remove_paths(&p);
}

static void test_what_gguf_cannot_say(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	struct ol_config c[3] = {config_of(OL_ARCH_LLAMA), config_of(OL_ARCH_GEMMA2),
				 config_of(OL_ARCH_QWEN2)};
	static const char *const messages[] = {"its attention scale", "its pattern of windows",
					       "nf4 weights"};
	c[0].attention_scale = 0.25f;
	c[1].window_period = 3;
	for (int i = 0; i < 3; i++) {
		struct ol_model *model;
		struct ol_error err;
		const enum ol_weight_type type = i == 2 ? OL_WEIGHT_NF4 : OL_WEIGHT_F32;
		assert_int_equal(ol_model_random(&model, &c[i], type, 9, NULL), OL_OK);
		assert_int_equal(ol_export_gguf(p.gguf, model, &err), OL_ERR_UNSUPPORTED);
		assert_non_null(strstr(err.text, messages[i]));
		assert_int_not_equal(access(p.gguf, F_OK), 0);
		ol_model_close(model);
	}
}

/* ---- Q4_K and Q6_K, against the loops of the format's reference --------------------------- */

static void reference_q4_k(float *y, const uint8_t *block)
{
	const float d = ol_f16_to_f32(ol_load_u16(block)),
		    min = ol_f16_to_f32(ol_load_u16(block + 2));
	const uint8_t *scales = block + 4, *q = block + 16;
	int is = 0;
	for (int j = 0; j < 256; j += 64) {
		float d1[2], m1[2];
		for (int k = 0; k < 2; k++, is++) {
			const int sc =
				is < 4 ? scales[is] & 63
				       : (scales[is + 4] & 0xf) | ((scales[is - 4] >> 6) << 4);
			const int m = is < 4 ? scales[is + 4] & 63
					     : (scales[is + 4] >> 4) | ((scales[is] >> 6) << 4);
			d1[k] = d * (float)sc;
			m1[k] = min * (float)m;
		}
		for (int l = 0; l < 32; ++l)
			*y++ = d1[0] * (float)(q[l] & 0xf) - m1[0];
		for (int l = 0; l < 32; ++l)
			*y++ = d1[1] * (float)(q[l] >> 4) - m1[1];
		q += 32;
	}
}

static void reference_q6_k(float *y, const uint8_t *block)
{
	const uint8_t *ql = block, *qh = block + 128;
	const int8_t *sc = (const int8_t *)(block + 192);
	const float d = ol_f16_to_f32(ol_load_u16(block + 208));
	for (int n = 0; n < 256; n += 128, y += 128, ql += 64, qh += 32, sc += 8)
		for (int l = 0; l < 32; ++l) {
			const int is = l / 16;
			const int q1 = ((ql[l] & 0xf) | (((qh[l] >> 0) & 3) << 4)) - 32;
			const int q2 = ((ql[l + 32] & 0xf) | (((qh[l] >> 2) & 3) << 4)) - 32;
			const int q3 = ((ql[l] >> 4) | (((qh[l] >> 4) & 3) << 4)) - 32;
			const int q4 = ((ql[l + 32] >> 4) | (((qh[l] >> 6) & 3) << 4)) - 32;
			y[l] = d * (float)sc[is] * (float)q1;
			y[l + 32] = d * (float)sc[is + 2] * (float)q2;
			y[l + 64] = d * (float)sc[is + 4] * (float)q3;
			y[l + 96] = d * (float)sc[is + 6] * (float)q4;
		}
}

static void test_k_quants(void **state)
{
	(void)state;
	uint32_t seed = 1;
	for (int round = 0; round < 50; round++) {
		uint8_t bytes[2 * 210];
		float expected[512], actual[512];
		struct ol_source_tensor t = {.data = bytes};
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
		for (int b = 0; b < 2; b++) { /* scales that are finite */
			ol_store_u16(bytes + 144 * b, 0x2c00 + (unsigned)round);
			ol_store_u16(bytes + 144 * b + 2, 0x2800 + (unsigned)round);
		}
		t.type = OL_SOURCE_Q4_K;
		ol_source_read_row(actual, &t, 0, 512);
		reference_q4_k(expected, bytes);
		reference_q4_k(expected + 256, bytes + 144);
		assert_memory_equal(actual, expected, sizeof actual);
		for (int b = 0; b < 2; b++)
			ol_store_u16(bytes + 210 * b + 208, 0x2c00 + (unsigned)round);
		t.type = OL_SOURCE_Q6_K;
		ol_source_read_row(actual, &t, 0, 512);
		reference_q6_k(expected, bytes);
		reference_q6_k(expected + 256, bytes + 210);
		assert_memory_equal(actual, expected, sizeof actual);
	}
}

/* ---- Refusals ----------------------------------------------------------------------------- */

/* A change: `width` bytes at `offset` after the text `at` (or from the start of the file). */
static const struct {
	const char *name, *at;
	size_t offset;
	int width;
	uint64_t value;
	const char *message;
} refusals[] = {
	{"another file", NULL, 0, 1, 'X', "neither a Hugging Face model folder nor a GGUF file"},
	{"version 1", NULL, 4, 4, 1, "GGUF version 1; versions 2 and 3"},
	{"big-endian", NULL, 4, 4, 0x03000000, "GGUF version 50331648 (big-endian)"},
	{"many tensors", NULL, 8, 8, UINT64_MAX, "more tensors than the file can hold"},
	{"many keys", NULL, 16, 8, UINT64_MAX, "more keys than the file can hold"},
	{"keys taken for tensors", NULL, 16, 8, 3, "tensor llama.vocab_size: its size is 0 or"},
	{"a long key", NULL, 24, 8, UINT64_MAX, "a key does not fit the file"},
	{"an empty key", NULL, 24, 8, 0, "a key is empty or very long"},
	{"an unknown type", "llama.block_count", 0, 4, 13, "a value is of an unknown type"},
	{"a text for a number", "llama.block_count", 0, 4, OL_GGUF_F32,
	 "llama.block_count is not a whole number"},
	{"another architecture", "general.architecture", 4 + 8, 1, 'L',
	 "\"Llama\" is not supported"},
	{"an adapter", "general.type", 4 + 8, 1, 'n', "type \"nodel\", not a model"},
	{"no layers", "llama.block_count", 4, 4, 0, "num_hidden_layers is 0"},
	{"a layer too many", "llama.block_count", 4, 4, 4,
	 "tensor blk.3.attn_norm.weight is missing"},
	{"a layer too few", "llama.block_count", 4, 4, 2,
	 "is not part of a llama model of 2 layers"},
	{"heads that do not divide", "llama.attention.head_count_kv", 4, 4, 3, "not a multiple"},
	{"another head size", "llama.attention.key_length", 4, 4, 16, "different sizes"},
	{"a partial rotation", "llama.rope.dimension_count", 4, 4, 16, "over a part of a head"},
	{"another theta", "llama.rope.freq_base", 4, 4, 0x461c4000, "rope_freqs.weight is no rope"},
	{"wrong width", "llama.feed_forward_length", 4, 4, 64, "the config asks for (64, 64)"},
	{"a type we do not read", "blk.1.ffn_up.weight", 20, 4, 13,
	 "tensor blk.1.ffn_up.weight is of type Q5_K (13)"},
	{"a type nobody knows", "blk.1.ffn_up.weight", 20, 4, 99, "is of type unknown (99)"},
	{"five dimensions", "blk.1.ffn_up.weight", 0, 4, 5, "no dimension, or more than 4"},
	{"no dimension", "blk.1.ffn_up.weight", 0, 4, 0, "no dimension, or more than 4"},
	{"size 0", "blk.1.ffn_up.weight", 4, 8, 0, "its size is 0 or does not fit 64 bits"},
	{"size 2^63", "blk.1.ffn_up.weight", 4, 8, 1ull << 63, "does not fit 64 bits"},
	{"another shape", "blk.1.ffn_up.weight", 4, 8, 32, "overlaps another or leaves a hole"},
	{"overlap", "blk.1.ffn_up.weight", 24, 8, 0, "ffn_up.weight lies at 0 where"},
	{"outside", "output_norm.weight", 16, 8, 1ull << 62, "overlaps another or leaves a hole"},
};

static size_t find_after(const struct ol_map *map, const char *text)
{
	const size_t length = strlen(text);
	for (size_t i = 0; i + length <= map->size; i++)
		if (memcmp(map->data + i, text, length) == 0)
			return i + length;
	fail_msg("no %s in the file", text);
	return 0;
}

static void write_bytes(const char *path, const uint8_t *bytes, size_t size)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

static void expect_refusal(const struct paths *p, const char *name, const uint8_t *bytes,
			   size_t size, const char *message)
{
	struct ol_error err = {0};
	const struct ol_import_options options = {.type = OL_WEIGHT_F32};
	write_bytes(p->gguf, bytes, size);
	if (ol_import(p->olm, p->gguf, &options, &err) == OL_OK)
		fail_msg("%s: was imported", name);
	if (!strstr(err.text, message) || !strstr(err.text, p->gguf) || strchr(err.text, '\n'))
		fail_msg("%s: got \"%s\", wanted \"%s\"", name, err.text, message);
	assert_int_not_equal(access(p->olm, F_OK), 0);
}

/* The file of a random llama model, in memory. */
static uint8_t *good_file(const struct paths *p, struct ol_map *map)
{
	const struct ol_config c = config_of(OL_ARCH_LLAMA);
	struct ol_model *model;
	assert_int_equal(ol_model_random(&model, &c, OL_WEIGHT_F32, 9, NULL), OL_OK);
	assert_int_equal(ol_export_gguf(p->gguf, model, NULL), OL_OK);
	ol_model_close(model);
	assert_int_equal(ol_map_open(map, p->gguf, NULL), OL_OK);
	unlink(p->gguf); /* the mapping stays as it is while the name is used again */
	return malloc(map->size);
}

static void test_every_refusal(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	struct ol_map map;
	uint8_t *copy = good_file(&p, &map);
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		const size_t at = refusals[i].at ? find_after(&map, refusals[i].at) : 0;
		memcpy(copy, map.data, map.size);
		for (int b = 0; b < refusals[i].width; b++)
			copy[at + refusals[i].offset + (size_t)b] =
				(uint8_t)(refusals[i].value >> 8 * b);
		expect_refusal(&p, refusals[i].name, copy, map.size, refusals[i].message);
	}
	free(copy);
	ol_map_close(&map);
	remove_paths(&p);
}

static void test_names_that_stand_twice(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to, *message;
	} rows[] = {
		{"general.name", "general.type", "the key general.type stands there twice"},
		{"blk.1.attn_v.weight", "blk.1.attn_k.weight",
		 "tensor blk.1.attn_k.weight stands there twice"},
	};
	const struct paths p = paths_here();
	struct ol_map map;
	uint8_t *copy = good_file(&p, &map);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const size_t length = strlen(rows[i].from);
		memcpy(copy, map.data, map.size);
		memcpy(copy + find_after(&map, rows[i].from) - length, rows[i].to, length);
		expect_refusal(&p, rows[i].to, copy, map.size, rows[i].message);
	}
	free(copy);
	ol_map_close(&map);
	remove_paths(&p);
}

static void test_truncated_anywhere(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	struct ol_map map;
	uint8_t *copy = good_file(&p, &map);
	memcpy(copy, map.data, map.size);
	/* The last 32 bytes are the last tensor's, or its padding. */
	for (size_t size = 0; size < map.size - 32; size += size < 4096 ? 37 : 7919)
		expect_refusal(&p, "truncated", copy, size, size < 4 ? "neither" : "truncated");
	free(copy);
	ol_map_close(&map);
	remove_paths(&p);
}

static void test_a_nan_and_an_infinite_scale(void **state)
{
	(void)state;
	const struct paths p = paths_here();
	const struct ol_config c = config_of(OL_ARCH_QWEN2);
	for (int type = OL_WEIGHT_F32; type <= OL_WEIGHT_Q4; type++) {
		struct ol_model *model;
		struct ol_map map;
		struct ol_gguf gguf;
		assert_int_equal(ol_model_random(&model, &c, (enum ol_weight_type)type, 9, NULL),
				 OL_OK);
		assert_int_equal(ol_export_gguf(p.gguf, model, NULL), OL_OK);
		ol_model_close(model);
		assert_int_equal(ol_map_open(&map, p.gguf, NULL), OL_OK);
		assert_int_equal(ol_gguf_read(&gguf, map.data, map.size, p.gguf, NULL), OL_OK);
		const struct ol_source_tensor *t =
			ol_source_list_find(&gguf.tensors, "blk.2.ffn_gate.weight");
		uint8_t *copy = malloc(map.size);
		memcpy(copy, map.data, map.size);
		uint8_t *at = copy + (ol_source_row(t, 3, c.hidden) - map.data);
		if (type == OL_WEIGHT_F32)
			ol_store_u32(at, 0x7fc00000);
		else
			ol_store_u16(at, type == OL_WEIGHT_BF16 ? 0x7f80 : 0x7c00);
		const struct ol_import_options options = {.type = (enum ol_weight_type)type};
		struct ol_error err;
		write_bytes(p.gguf, copy, map.size);
		assert_int_equal(ol_import(p.olm, p.gguf, &options, &err), OL_ERR_INPUT);
		assert_non_null(strstr(err.text,
				       "blk.2.ffn_gate.weight holds a value that is not a "
				       "finite number at index 192"));
		free(copy);
		ol_gguf_release(&gguf);
		ol_map_close(&map);
	}
	remove_paths(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_model_comes_back),
		cmocka_unit_test(test_q8_file_widened_to_f32),
		cmocka_unit_test(test_rows_without_whole_blocks),
		cmocka_unit_test(test_what_gguf_cannot_say),
		cmocka_unit_test(test_k_quants),
		cmocka_unit_test(test_every_refusal),
		cmocka_unit_test(test_names_that_stand_twice),
		cmocka_unit_test(test_truncated_anywhere),
		cmocka_unit_test(test_a_nan_and_an_infinite_scale),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
