/* Models: random, written, opened, verified; and one row for every way a model file is refused. */
#include "base/bytes.h"
#include "math/kernels.h"
#include "model/model_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct ol_config tiny_config(void)
{
	return (struct ol_config){
		.arch = OL_ARCH_LLAMA,
		.vocab_size = 70, /* none of these is a multiple of 32: tails everywhere */
		.hidden = 36,
		.ffn = 50,
		.layers = 2,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 10,
		.context_max = 64,
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
}

static struct ol_config gemma_config(void)
{
	struct ol_config c = tiny_config();
	c.arch = OL_ARCH_GEMMA3;
	c.tied_embeddings = c.qk_norm = c.post_norms = c.qkv_bias = true;
	c.window = 8;
	c.window_period = 2;
	return c;
}

static struct ol_model *random_model(const struct ol_config *config, enum ol_weight_type type,
				     uint64_t seed)
{
	struct ol_model *model;
	struct ol_error err = {0};
	if (ol_model_random(&model, config, type, seed, &err) != OL_OK)
		fail_msg("%s", err.text);
	return model;
}

/* ---- The layout --------------------------------------------------------------------------- */

static void test_layout_of_the_tiny_model(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int rows, cols;
		enum ol_weight_type type;
	} expected[] = {
		{"embed", 70, 36, OL_WEIGHT_Q8},
		{"layers.0.attention_norm", 1, 36, OL_WEIGHT_F32},
		{"layers.0.q", 40, 36, OL_WEIGHT_Q4},
		{"layers.0.k", 20, 36, OL_WEIGHT_Q4},
		{"layers.0.v", 20, 36, OL_WEIGHT_Q4},
		{"layers.0.o", 36, 40, OL_WEIGHT_Q4},
		{"layers.0.ffn_norm", 1, 36, OL_WEIGHT_F32},
		{"layers.0.gate", 50, 36, OL_WEIGHT_Q4},
		{"layers.0.up", 50, 36, OL_WEIGHT_Q4},
		{"layers.0.down", 36, 50, OL_WEIGHT_Q4},
		{"layers.1.attention_norm", 1, 36, OL_WEIGHT_F32},
	};
	const struct ol_config config = tiny_config();
	struct ol_layout layout;
	assert_true(ol_layout_init(&layout, &config, OL_WEIGHT_Q4));
	assert_int_equal(layout.count, 3 + 2 * 9);
	for (size_t i = 0; i < OL_ARRAY_LEN(expected); i++) {
		assert_string_equal(layout.tensors[i].name, expected[i].name);
		assert_int_equal(layout.tensors[i].rows, expected[i].rows);
		assert_int_equal(layout.tensors[i].cols, expected[i].cols);
		assert_int_equal(layout.tensors[i].type, expected[i].type);
	}
	for (int i = 0; i < layout.count; i++) {
		const struct ol_tensor *t = &layout.tensors[i];
		assert_int_equal(t->offset % OL_TENSOR_ALIGN, 0);
		assert_int_equal(ol_layout_find(&layout, t->role, t->layer), i);
	}
	assert_int_equal(ol_layout_find(&layout, OL_TENSOR_Q_NORM, 0), -1);
	assert_int_equal(ol_layout_find(&layout, OL_TENSOR_Q, 2), -1);
	ol_layout_release(&layout);
}

/* ---- Random models ------------------------------------------------------------------------ */

static void test_random_is_a_function_of_its_seed(void **state)
{
	(void)state;
	const struct ol_config config = gemma_config();
	for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
		struct ol_model *a = random_model(&config, (enum ol_weight_type)type, 7);
		struct ol_model *b = random_model(&config, (enum ol_weight_type)type, 7);
		struct ol_model *c = random_model(&config, (enum ol_weight_type)type, 8);
		assert_memory_equal(ol_model_id(a), ol_model_id(b), OL_MODEL_ID_BYTES);
		assert_memory_not_equal(ol_model_id(a), ol_model_id(c), OL_MODEL_ID_BYTES);
		assert_memory_equal(a->data, b->data, a->layout.bytes);
		assert_int_equal(ol_model_verify(a, NULL), OL_OK);
		ol_model_close(a);
		ol_model_close(b);
		ol_model_close(c);
	}
}

static void test_random_values_have_the_promised_spread(void **state)
{
	(void)state;
	struct ol_config config = tiny_config();
	config.ffn = 4096;
	struct ol_model *model = random_model(&config, OL_WEIGHT_F32, 1);
	const struct ol_weights *w = ol_model_weights(model);
	double sum = 0, squares = 0;
	float most = 0, row[36];
	for (int r = 0; r < 4096; r++) {
		ol_matrix_row(row, &w->layers[1].gate, r);
		for (int i = 0; i < 36; i++) {
			sum += (double)row[i];
			squares += (double)row[i] * (double)row[i];
			most = OL_MAX(most, row[i] < 0 ? -row[i] : row[i]);
		}
	}
	const double n = 4096.0 * 36;
	assert_true(most < 0.2886752f && most > 0.2886f); /* sqrt(3 / 36) */
	assert_true(sum / n < 0.002 && sum / n > -0.002);
	assert_true(squares / n * 36 > 0.99 && squares / n * 36 < 1.01);
	assert_true(w->final_norm[0] > 0.9f && w->final_norm[0] < 1.1f);
	assert_ptr_equal(w->layers[0].q_bias, NULL);
	assert_ptr_not_equal(w->head.panels, w->embed.panels);
	assert_int_equal(ol_model_parameters(model),
			 2 * 70 * 36 + 36 +
				 2 * (2 * 36 + 40 * 36 * 2 + 20 * 36 * 2 + 3 * 4096 * 36));
	ol_model_close(model);
}

/* ---- Files -------------------------------------------------------------------------------- */

static void temporary_path(char out[64], const char *name)
{
	snprintf(out, 64, "/tmp/ol-test-%ld-%s.olm", (long)getpid(), name);
}

static const struct ol_model_text texts[] = {
	{"chat_template.jinja", "{{ messages }}", 14},
	{"tokenizer.json", "{}", 2},
};

static void write_model(const char *path, struct ol_model *model)
{
	struct ol_error err = {0};
	const struct ol_model_source source = {.config = &model->config,
					       .type = model->type,
					       .texts = texts,
					       .text_count = OL_ARRAY_LEN(texts),
					       .rows = ol_model_rows,
					       .context = model};
	if (ol_model_write(path, &source, &err) != OL_OK)
		fail_msg("%s", err.text);
}

/* As texts: a struct's padding is nobody's promise. */
static void assert_same_config(const struct ol_config *a, const struct ol_config *b)
{
	struct ol_buf text_a, text_b;
	ol_buf_init(&text_a, 1 << 16);
	ol_buf_init(&text_b, 1 << 16);
	assert_true(ol_config_write(&text_a, a) && ol_config_write(&text_b, b));
	assert_string_equal(text_a.data, text_b.data);
	ol_buf_release(&text_a);
	ol_buf_release(&text_b);
}

static void test_written_and_opened_again(void **state)
{
	(void)state;
	char path[64];
	temporary_path(path, "round");
	for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
		const struct ol_config config = type % 2 ? gemma_config() : tiny_config();
		struct ol_model *made = random_model(&config, (enum ol_weight_type)type, 3);
		struct ol_model *opened;
		struct ol_error err = {0};
		size_t size;
		write_model(path, made);
		if (ol_model_open(&opened, path, &err) != OL_OK)
			fail_msg("%s", err.text);
		assert_same_config(ol_model_config(opened), &config);
		assert_int_equal(ol_model_weight_type(opened), type);
		assert_memory_equal(opened->data, made->data, made->layout.bytes);
		assert_int_equal((uintptr_t)opened->data % OL_MODEL_PAGE, 0);
		assert_string_equal(ol_model_text(opened, "tokenizer.json", &size), "{}");
		assert_int_equal(size, 2);
		assert_null(ol_model_text(opened, "tokenizer.model", &size));
		if (ol_model_verify(opened, &err) != OL_OK)
			fail_msg("%s", err.text);
		/* Texts are part of the identity, so it is another model than the bare one. */
		assert_memory_not_equal(ol_model_id(opened), ol_model_id(made), OL_MODEL_ID_BYTES);
		ol_model_close(opened);
		ol_model_close(made);
	}
	unlink(path);
}

/* The id by the words of docs/ARITHMETIC.md, without the code under test's own tree. */
static void test_id_as_documented(void **state)
{
	(void)state;
	const struct ol_config config = tiny_config();
	struct ol_model *model = random_model(&config, OL_WEIGHT_Q8, 5);
	struct ol_merkle tree;
	struct ol_buf leaf;
	uint8_t hash[OL_MERKLE_BYTES];
	ol_merkle_init(&tree);
	ol_buf_init(&leaf, 1 << 20);
	ol_buf_append_text(&leaf, "config\n");
	ol_config_write(&leaf, &config);
	ol_merkle_leaf(hash, leaf.data, leaf.size);
	ol_merkle_add(&tree, hash);
	static const char *const order[] = {"embed",
					    "final_norm",
					    "head",
					    "layers.0.attention_norm",
					    "layers.0.down",
					    "layers.0.ffn_norm",
					    "layers.0.gate",
					    "layers.0.k",
					    "layers.0.o",
					    "layers.0.q",
					    "layers.0.up",
					    "layers.0.v",
					    "layers.1.attention_norm",
					    "layers.1.down",
					    "layers.1.ffn_norm",
					    "layers.1.gate",
					    "layers.1.k",
					    "layers.1.o",
					    "layers.1.q",
					    "layers.1.up",
					    "layers.1.v"};
	for (size_t n = 0; n < OL_ARRAY_LEN(order); n++) {
		const struct ol_tensor *t = model->layout.tensors;
		while (strcmp(t->name, order[n]) != 0)
			t++;
		const size_t bytes = ol_tensor_canonical_bytes(t);
		uint8_t *canonical = malloc(bytes);
		ol_model_rows(model, t, canonical, 0, t->rows, NULL);
		ol_buf_clear(&leaf);
		ol_buf_printf(&leaf, "tensor %s %s %d %d\n", t->name, t->vector ? "f32" : "q8",
			      t->rows, t->cols);
		ol_buf_append(&leaf, canonical, bytes);
		ol_merkle_leaf(hash, leaf.data, leaf.size);
		ol_merkle_add(&tree, hash);
		free(canonical);
	}
	ol_merkle_root(&tree, hash);
	assert_memory_equal(hash, ol_model_id(model), sizeof hash);
	ol_buf_release(&leaf);
	ol_model_close(model);
}

/* ---- Refusals ----------------------------------------------------------------------------- */

#define AT(field) offsetof(struct ol_file_header, field)

/* One change to a good file (`width` little-endian bytes at `offset`), and what is said about it.
 * sealed: the checksum is made right again, so that the check behind it has to notice. */
static const struct {
	const char *name;
	size_t offset;
	int width;
	uint64_t value;
	bool sealed;
	const char *message;
} refusals[] = {
	{"another kind of file", 0, 1, 'X', true, "is not an OpenLedger model file"},
	{"a later version", AT(version), 4, 2, true, "model file version 2; this program reads"},
	{"another arithmetic", AT(arithmetic), 1, '9', true, "arithmetic version \"9-draft\""},
	{"unknown weight type", AT(weight_type), 4, 5, true, "the weight type is unknown"},
	{"wrong size", AT(file_bytes), 8, 1, true, "bytes long, but its header says 1"},
	{"config elsewhere", AT(config_offset), 8, 264, true, "offsets are wrong"},
	{"texts elsewhere", AT(texts_offset), 8, UINT64_MAX, true, "offsets are wrong"},
	{"tensors elsewhere", AT(tensors_offset), 8, 0, true, "offsets are wrong"},
	{"weights too early", AT(data_offset), 8, 0, true, "offsets are wrong"},
	{"weights past the end", AT(data_offset), 8, UINT64_MAX, true, "offsets are wrong"},
	{"weights too late", AT(data_offset), 8, 2 * OL_MODEL_PAGE, true, "do not begin where"},
	{"wrong amount of weights", AT(data_bytes), 8, 64, true, "do not begin where"},
	{"huge config", AT(config_bytes), 8, UINT64_MAX, true, "beyond their limits"},
	{"short config", AT(config_bytes), 8, 3, true, "offsets are wrong"},
	{"many texts", AT(text_count), 4, UINT32_MAX, true, "beyond their limits"},
	{"many tensors", AT(tensor_count), 4, UINT32_MAX, true, "beyond their limits"},
	{"a bit in the id", AT(id), 1, 0x55, false, "checksum is wrong"},
	{"a bit in the padding", AT(reserved), 1, 1, false, "checksum is wrong"},
	{"a changed config", sizeof(struct ol_file_header), 1, 'A', true, "damaged at \"arch\""},
};

static void change(uint8_t *bytes, size_t offset, int width, uint64_t value)
{
	for (int i = 0; i < width; i++)
		bytes[offset + (size_t)i] = (uint8_t)(value >> 8 * i);
}

static void seal(uint8_t *bytes, size_t size)
{
	struct ol_file_header h;
	memcpy(&h, bytes, sizeof h);
	if (h.data_offset >= sizeof h && h.data_offset <= size &&
	    ol_model_file_checksum(h.checksum, &h, bytes + sizeof h, h.data_offset - sizeof h))
		memcpy(bytes, &h, sizeof h);
}

static void expect_refusal(const char *name, const uint8_t *bytes, size_t size, const char *message)
{
	struct ol_model *model;
	struct ol_error err = {0};
	const enum ol_status s = ol_model_open_bytes(&model, bytes, size, "x.olm", &err);
	if (s == OL_OK)
		fail_msg("%s: was opened", name);
	if (!strstr(err.text, message) || !strstr(err.text, "x.olm"))
		fail_msg("%s: got \"%s\", wanted \"%s\"", name, err.text, message);
}

static uint8_t *good_file(struct ol_map *map, char path[64])
{
	const struct ol_config config = tiny_config();
	struct ol_model *model = random_model(&config, OL_WEIGHT_Q4, 3);
	temporary_path(path, "good");
	write_model(path, model);
	ol_model_close(model);
	assert_int_equal(ol_map_open(map, path, NULL), OL_OK);
	return aligned_alloc(64, (map->size + 63) / 64 * 64);
}

static void test_every_refusal_of_a_header(void **state)
{
	(void)state;
	struct ol_map map;
	char path[64];
	uint8_t *copy = good_file(&map, path);
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		memcpy(copy, map.data, map.size);
		change(copy, refusals[i].offset, refusals[i].width, refusals[i].value);
		if (refusals[i].sealed)
			seal(copy, map.size);
		expect_refusal(refusals[i].name, copy, map.size, refusals[i].message);
	}
	free(copy);
	ol_map_close(&map);
	unlink(path);
}

static void test_every_refusal_of_a_directory(void **state)
{
	(void)state;
	struct ol_map map;
	struct ol_file_header h;
	char path[64];
	uint8_t *copy = good_file(&map, path);
	memcpy(&h, map.data, sizeof h);
	const struct {
		const char *name;
		size_t offset;
		int width;
		uint64_t value;
		const char *message;
	} rows[] = {
		{"text outside", h.texts_offset + 40, 8, UINT64_MAX, "a text lies outside"},
		{"text too long", h.texts_offset + 48, 8, UINT64_MAX, "a text lies outside"},
		{"text longer", h.texts_offset + 48, 8, 15, "does not end with a NUL"},
		{"text names unsorted", h.texts_offset, 1, 'z', "names of the texts"},
		{"tensor renamed", h.tensors_offset, 1, 'E', "entry of tensor embed"},
		{"tensor type", h.tensors_offset + 48, 4, 0, "entry of tensor embed"},
		{"tensor rows", h.tensors_offset + 80 + 52, 4, 7, "entry of tensor layers.0.att"},
		{"tensor offset", h.tensors_offset + 160 + 64, 8, 0, "entry of tensor layers.0.q"},
		{"tensor bytes", h.tensors_offset + 160 + 72, 8, 1, "entry of tensor layers.0.q"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		memcpy(copy, map.data, map.size);
		change(copy, rows[i].offset, rows[i].width, rows[i].value);
		seal(copy, map.size);
		expect_refusal(rows[i].name, copy, map.size, rows[i].message);
	}
	free(copy);
	ol_map_close(&map);
	unlink(path);
}

static void test_truncated_anywhere(void **state)
{
	(void)state;
	struct ol_map map;
	char path[64];
	uint8_t *copy = good_file(&map, path);
	memcpy(copy, map.data, map.size);
	for (size_t size = 0; size < map.size; size += size < 9000 ? 61 : 4001)
		expect_refusal("truncated", copy, size,
			       size < 256 ? "is not an Open" : "truncated");
	free(copy);
	ol_map_close(&map);
	unlink(path);
}

static void test_verify_notices_one_bit_of_weights(void **state)
{
	(void)state;
	struct ol_map map;
	char path[64];
	uint8_t *copy = good_file(&map, path);
	struct ol_file_header h;
	memcpy(&h, map.data, sizeof h);
	for (size_t i = 0; i < map.size - h.data_offset; i += 997) {
		struct ol_model *model;
		memcpy(copy, map.data, map.size);
		copy[h.data_offset + i] ^= 0x10;
		assert_int_equal(ol_model_open_bytes(&model, copy, map.size, "x.olm", NULL), OL_OK);
		/* The gaps of up to 63 bytes between tensors belong to nobody. */
		bool covered = false;
		for (int t = 0; t < model->layout.count; t++)
			covered |= i - model->layout.tensors[t].offset <
				   model->layout.tensors[t].bytes;
		assert_int_equal(ol_model_verify(model, NULL), covered ? OL_ERR_INPUT : OL_OK);
		ol_model_close(model);
	}
	free(copy);
	ol_map_close(&map);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_of_the_tiny_model),
		cmocka_unit_test(test_random_is_a_function_of_its_seed),
		cmocka_unit_test(test_random_values_have_the_promised_spread),
		cmocka_unit_test(test_written_and_opened_again),
		cmocka_unit_test(test_id_as_documented),
		cmocka_unit_test(test_every_refusal_of_a_header),
		cmocka_unit_test(test_every_refusal_of_a_directory),
		cmocka_unit_test(test_truncated_anywhere),
		cmocka_unit_test(test_verify_notices_one_bit_of_weights),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
