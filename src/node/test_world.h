/* node/test_world.h, floor 4: what the tests of the serving node and of its routes share: a tiny
 * random base with a tokenizer of bytes and a chat template, and adapters of it in folders. Test
 * programs and fuzz targets include it once. */
#ifndef OL_NODE_TEST_WORLD_H
#define OL_NODE_TEST_WORLD_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Fuzz targets do without. */
#if __has_include(<cmocka.h>)
#include <cmocka.h>
#endif

#include "math/functions.h"
#include "model/chat.h"
#include "node/adapters.h"
#include "node/runtime.h"

enum { TINY_EOS = 258, TINY_VOCAB = 260 };

static const struct ol_config tiny = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = TINY_VOCAB,
	.hidden = 32,
	.ffn = 64,
	.layers = 2,
	.heads = 4,
	.kv_heads = 2,
	.head_dim = 8,
	.context_max = 512,
	.norm_eps = 1e-5f,
	.embed_scale = 1.0f,
	.attention_scale = 0.35f,
	.rope_theta = 10000,
	.rope_theta_local = 10000,
	.rope_factor = 1,
	.bos_id = -1,
	.eos_ids = {TINY_EOS},
	.eos_count = 1,
};

static const char tiny_chat[] =
	"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
	"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static inline void must(enum ol_status s, const struct ol_error *err)
{
	if (s != OL_OK)
		(void)fprintf(stderr, "status %d: %s\n", (int)s, err->text);
	OL_ASSERT(s == OL_OK);
}

/* GPT-2's printable stand-ins for bytes. */
static inline int byte_character(int byte)
{
	int extra = 0;
	for (int b = 0; b < 256; b++) {
		const bool plain = (b >= 33 && b < 127) || (b >= 161 && b < 173) || b >= 174;
		if (b == byte)
			return plain ? b : 256 + extra;
		extra += !plain;
	}
	return -1;
}

/* One token a byte, and three special ones. */
static inline char *tiny_tokenizer_json(void)
{
	static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
	json_t *vocab = json_object(), *added = json_array();
	for (int b = 0; b < 256; b++) {
		const int c = byte_character(b);
		char text[3] = {(char)c, 0, 0};
		if (c >= 128) {
			text[0] = (char)(0xc0 | c >> 6);
			text[1] = (char)(0x80 | (c & 63));
		}
		json_object_set_new(vocab, text, json_integer(b));
	}
	for (int i = 0; i < 3; i++)
		json_array_append_new(added,
				      json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", 256 + i,
						"content", special[i], "single_word", 0, "lstrip",
						0, "rstrip", 0, "normalized", 0, "special", 1));
	json_t *file = json_pack(
		"{s:s, s:n, s:n, s:o, s:n, s:{s:s,s:b,s:b,s:b}, s:n, s:{s:s,s:b,s:b,s:b},"
		" s:{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:o,s:[]}}",
		"version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
		"pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
		"use_regex", 1, "post_processor", "decoder", "type", "ByteLevel",
		"add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1, "model", "type", "BPE",
		"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
		"fuse_unk", 0, "byte_fallback", 0, "vocab", vocab, "merges");
	OL_ASSERT(file);
	char *text = json_dumps(file, 0);
	json_decref(file);
	return text;
}

/* Opened, not started. The same every time. */
static inline void open_tiny(struct ol_runtime *r)
{
	struct ol_error err;
	char *json = tiny_tokenizer_json();
	*r = (struct ol_runtime){.name = "tiny"};
	must(ol_model_random(&r->model, &tiny, OL_WEIGHT_Q8, 3, &err), &err);
	must(ol_tokenizer_open(&r->tokenizer, json, strlen(json), "tiny", &err), &err);
	must(ol_template_open(&r->chat, tiny_chat, strlen(tiny_chat), "tiny", &err), &err);
	free(json);
}

/* An adapter that makes itself felt; `seed` decides everything. */
static inline struct ol_adapter *make_adapter(uint32_t seed)
{
	struct ol_lora_tensors tensors[2 * OL_LAYER_LINEARS + 1] = {{0}};
	const struct ol_adapter_config settings = {
		.rank = 4, .alpha = 8, .targets = OL_TARGETS_ALL, .base_name = "tiny"};
	const int rank = 2 + (int)(seed % 7);
	struct ol_adapter *adapter;
	struct ol_error err;
	uint16_t *values = malloc((size_t)1 << 18);
	size_t at = 0;
	for (int i = 0; i < 2 * OL_LAYER_LINEARS; i++) {
		int outputs, inputs;
		ol_linear_shape(&tiny, (enum ol_linear)(i % OL_LAYER_LINEARS), &outputs, &inputs);
		tensors[i] = (struct ol_lora_tensors){rank, 8.0f / (float)rank, values + at,
						      values + at + (size_t)(rank * inputs)};
		for (int k = 0; k < rank * (inputs + outputs); k++, at++) {
			const uint32_t counter[4] = {(uint32_t)at, seed, 0, 0}, key[2] = {1, 2};
			uint32_t word[4];
			ol_philox(word, counter, key);
			values[at] = ol_f32_to_bf16((float)(0.5 * ol_unit_double(word[0]) - 0.25));
		}
	}
	must(ol_adapter_make(&adapter, &tiny, &settings, tensors, &err), &err);
	free(values);
	return adapter;
}

/* FOLDER/NAME, by the seed. */
static inline void write_adapter(const char *folder, const char *name, uint32_t seed)
{
	char path[OL_PATH_MAX];
	struct ol_error err;
	struct ol_adapter *adapter = make_adapter(seed);
	must(ol_path_join(path, &err, folder, "/", name), &err);
	must(ol_adapter_write(adapter, path, &err), &err);
	ol_adapter_close(adapter);
}

static inline int remove_one(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
	(void)info;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static inline void make_folder(char *folder, size_t size)
{
	const char *base = getenv("TMPDIR");
	const int length = snprintf(folder, size, "%s/openledger-test-XXXXXX",
				    base && *base ? base : P_tmpdir);
	OL_ASSERT(length > 0 && (size_t)length < size && mkdtemp(folder));
}

static inline void remove_folder(const char *folder)
{
	OL_ASSERT(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

#endif
