/* What leaves as a Hugging Face folder or as a merged model: the folder comes back bit for bit, a
 * merged weight is the chain that docs/ARITHMETIC.md states, an adapter's GGUF holds its numbers.
 */
#include "base/bytes.h"
#include "base/file.h"
#include "model/adapter_internal.h"
#include "model/export_internal.h"
#include "model/gguf.h"
#include "model/model_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static const char *in_folder(char out[160], const char *name)
{
	snprintf(out, 160, "%s/%s", folder, name);
	return out;
}

static void must(enum ol_status s, const struct ol_error *err)
{
	if (s != OL_OK)
		fail_msg("status %d: %s", (int)s, err->text);
}

static struct ol_config config_of(enum ol_arch arch)
{
	const bool gemma = arch == OL_ARCH_GEMMA2 || arch == OL_ARCH_GEMMA3;
	struct ol_config c = {
		.arch = arch,
		.vocab_size = 70,
		.hidden = 64,
		.ffn = 96,
		.layers = 6,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 16,
		.context_max = 128,
		.tied_embeddings = arch != OL_ARCH_LLAMA,
		.qkv_bias = arch == OL_ARCH_QWEN2,
		.qk_norm = arch == OL_ARCH_QWEN3 || arch == OL_ARCH_GEMMA3,
		.post_norms = gemma,
		.activation = gemma ? OL_ACTIVATION_GELU_TANH : OL_ACTIVATION_SILU,
		.norm_eps = 1e-5f,
		.embed_scale = gemma ? 8.0f : 1.0f,
		.attention_scale = gemma ? (float)(1 / sqrt(24.0)) : 0.25f,
		.rope_theta = 500000,
		.rope_theta_local = arch == OL_ARCH_GEMMA3 ? 10000 : 500000,
		.rope_factor = 1,
		.bos_id = arch == OL_ARCH_QWEN2 ? -1 : 1,
		.eos_ids = {2, 5},
		.eos_count = arch == OL_ARCH_QWEN3 ? 1 : 2,
	};
	if (arch == OL_ARCH_LLAMA) {
		c.rope_scaling = OL_ROPE_LLAMA3;
		c.rope_factor = 8;
		c.rope_low_freq_factor = 1;
		c.rope_high_freq_factor = 4;
		c.rope_original_context = 64;
	}
	if (arch == OL_ARCH_MISTRAL || gemma)
		c.window = 16;
	if (gemma)
		c.window_period = arch == OL_ARCH_GEMMA2 ? 2 : 3;
	if (arch == OL_ARCH_GEMMA2) {
		c.attention_softcap = 50;
		c.logit_softcap = 30;
	}
	if (arch == OL_ARCH_QWEN3) {
		c.rope_scaling = OL_ROPE_LINEAR;
		c.rope_factor = 2.5;
		c.window = 8;
		c.window_period = 2;
	}
	return c;
}

static struct ol_model *random_model(const struct ol_config *config, enum ol_weight_type type)
{
	struct ol_model *model = NULL;
	struct ol_error err;
	must(ol_model_random(&model, config, type, 9, &err), &err);
	return model;
}

/* --- folders --------------------------------------------------------------- */

static void folders_come_back(void **state)
{
	(void)state;
	for (int arch = 0; arch < OL_ARCHES; arch++)
		for (int type = OL_WEIGHT_F32; type <= OL_WEIGHT_BF16; type++) {
			const struct ol_config c = config_of((enum ol_arch)arch);
			const struct ol_import_options options = {
				.type = (enum ol_weight_type)type};
			struct ol_model *model = random_model(&c, (enum ol_weight_type)type), *back;
			struct ol_error err;
			char hf[160], olm[160];
			must(ol_export_folder(in_folder(hf, "hf"), model, &err), &err);
			must(ol_import(in_folder(olm, "back.olm"), hf, &options, &err), &err);
			must(ol_model_open(&back, olm, &err), &err);
			/* The id covers the config and every bit of every tensor. */
			if (memcmp(ol_model_id(back), ol_model_id(model), OL_MODEL_ID_BYTES) != 0)
				fail_msg("%s %s", ol_arch_name(c.arch),
					 ol_weight_type_name((enum ol_weight_type)type));
			ol_model_close(back);
			ol_model_close(model);
		}
}

/* q8, q4 and nf4 are written in f32: the values are the same, read as f32. */
static void quantised_models_keep_their_values(void **state)
{
	(void)state;
	for (int type = OL_WEIGHT_Q8; type <= OL_WEIGHT_NF4; type++) {
		const struct ol_config c = config_of(OL_ARCH_LLAMA);
		const struct ol_import_options options = {.type = OL_WEIGHT_F32};
		struct ol_model *model = random_model(&c, (enum ol_weight_type)type), *back;
		struct ol_error err;
		char hf[160], olm[160];
		must(ol_export_folder(in_folder(hf, "hf"), model, &err), &err);
		must(ol_import(in_folder(olm, "back.olm"), hf, &options, &err), &err);
		must(ol_model_open(&back, olm, &err), &err);
		const struct ol_matrix *ours = &ol_model_weights(model)->layers[5].down;
		const struct ol_matrix *theirs = &ol_model_weights(back)->layers[5].down;
		for (int r = 0; r < ours->rows; r++) {
			float a[96], b[96];
			ol_matrix_row(a, ours, r);
			ol_matrix_row(b, theirs, r);
			assert_memory_equal(a, b, sizeof a);
		}
		ol_model_close(back);
		ol_model_close(model);
	}
}

static void what_config_json_cannot_say(void **state)
{
	struct ol_config rows[4];
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		rows[i] = config_of(i == 2 ? OL_ARCH_GEMMA2 : OL_ARCH_LLAMA);
	rows[0].attention_scale = 0.3f;
	rows[1].embed_scale = 2.0f;
	rows[2].window_period = 3;
	rows[3].window = 5;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_buf json;
		struct ol_error err = {0};
		ol_buf_init(&json, 1 << 16);
		if (i == 2) /* layer_types says any period */
			assert_int_equal(ol_config_write_json(&json, &rows[i], false, "m", &err),
					 OL_OK);
		else
			assert_int_equal(ol_config_write_json(&json, &rows[i], false, "m", &err),
					 OL_ERR_UNSUPPORTED);
		ol_buf_release(&json);
	}
}

/* --- adapters ---------------------------------------------------------------- */

/* targets in every layer but the last. */
static struct ol_adapter *random_adapter(const struct ol_config *c, uint32_t targets, int rank,
					 float scale)
{
	const struct ol_adapter_config config = {.rank = rank, .alpha = 1.0f};
	struct ol_lora_tensors tensors[6 * OL_LAYER_LINEARS + 1] = {{0}};
	uint16_t *values = malloc((size_t)128 * (size_t)rank * sizeof *values);
	struct ol_adapter *adapter = NULL;
	struct ol_error err;
	assert_non_null(values);
	for (int i = 0; i < 128 * rank; i++)
		values[i] = ol_f32_to_bf16(sinf((float)i) * 0.3f);
	for (int i = 0; i < ol_linear_count(c); i++) {
		int layer;
		const enum ol_linear linear = ol_linear_at(c, i, &layer);
		if ((targets & 1u << linear) && layer != c->layers - 1)
			tensors[i] = (struct ol_lora_tensors){.rank = rank,
							      .scale = i % 2 ? scale : 2.0f * scale,
							      .a = values + i % 32,
							      .b = values + i % 31};
	}
	must(ol_adapter_make(&adapter, c, &config, tensors, &err), &err);
	free(values);
	return adapter;
}

static const struct ol_matrix *matrix_of(const struct ol_model *model, int layer,
					 enum ol_linear linear)
{
	const struct ol_weights *w = ol_model_weights(model);
	const struct ol_layer_weights *l = &w->layers[OL_MIN(layer, 5)];
	const struct ol_matrix *all[OL_LINEARS] = {&l->q,    &l->k,  &l->v,    &l->o,
						   &l->gate, &l->up, &l->down, &w->head};
	return all[linear];
}

/* The text of docs/ARITHMETIC.md, "Merging", once more. */
static void check_merged(const struct ol_model *base, const struct ol_adapter *adapter,
			 const struct ol_model *merged)
{
	const struct ol_config *c = ol_model_config(base);
	for (int i = 0; i < ol_linear_count(c); i++) {
		int layer;
		const enum ol_linear linear = ol_linear_at(c, i, &layer);
		const struct ol_lora_tensors *t = &ol_adapter_tensors(adapter)[i];
		const struct ol_matrix *ours = matrix_of(base, layer, linear);
		const struct ol_matrix *theirs = matrix_of(merged, layer, linear);
		for (int o = 0; o < ours->rows; o++) {
			float w[128], wanted[128], got[128];
			uint8_t canonical[512];
			ol_matrix_row(w, ours, o);
			for (int k = 0; k < ours->cols && t->rank > 0; k++) {
				float sum = 0.0f;
				for (int r = 0; r < t->rank; r++)
					sum = fmaf(ol_bf16_to_f32(t->b[o * t->rank + r]),
						   ol_bf16_to_f32(t->a[r * ours->cols + k]), sum);
				w[k] = fmaf(t->scale, sum, w[k]);
			}
			assert_true(ol_quantize_row(canonical, theirs->type, w, ours->cols));
			ol_dequantize_row(wanted, theirs->type, canonical, ours->cols);
			ol_matrix_row(got, theirs, o);
			assert_memory_equal(got, wanted, (size_t)ours->cols * sizeof(float));
		}
	}
}

static void merged_weights_are_the_chain(void **state)
{
	static const struct {
		enum ol_arch arch;
		enum ol_weight_type from, to;
		uint32_t targets;
		int rank;
	} rows[] = {
		{OL_ARCH_LLAMA, OL_WEIGHT_F32, OL_WEIGHT_F32, OL_TARGETS_ALL, 5},
		{OL_ARCH_LLAMA, OL_WEIGHT_F32, OL_WEIGHT_Q8, OL_TARGETS_ALL | OL_TARGETS_HEAD, 40},
		{OL_ARCH_QWEN2, OL_WEIGHT_Q4, OL_WEIGHT_BF16, 1u << OL_LINEAR_V, 1},
		{OL_ARCH_GEMMA3, OL_WEIGHT_BF16, OL_WEIGHT_BF16, OL_TARGETS_ALL | OL_TARGETS_HEAD,
		 8},
		{OL_ARCH_GEMMA2, OL_WEIGHT_Q8, OL_WEIGHT_F32, OL_TARGETS_HEAD, 33},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_config c = config_of(rows[i].arch);
		struct ol_model *base = random_model(&c, rows[i].from), *merged;
		struct ol_adapter *adapter =
			random_adapter(&c, rows[i].targets, rows[i].rank, 0.7f);
		struct ol_error err;
		char olm[160];
		must(ol_adapter_merge(in_folder(olm, "back.olm"), base, adapter, rows[i].to, &err),
		     &err);
		must(ol_model_open(&merged, olm, &err), &err);
		must(ol_model_verify(merged, &err), &err);
		assert_int_equal(ol_model_config(merged)->tied_embeddings,
				 c.tied_embeddings && !(rows[i].targets & OL_TARGETS_HEAD));
		check_merged(base, adapter, merged);
		ol_model_close(merged);
		ol_adapter_close(adapter);
		ol_model_close(base);
	}
}

static double gguf_value(const struct ol_source_tensor *t, int row, int cols, int col)
{
	float x[128];
	ol_source_read_row(x, t, (uint64_t)row, cols);
	return (double)x[col];
}

static void check_gguf(const struct ol_config *c, const struct ol_adapter *adapter,
		       const struct ol_gguf *gguf)
{
	double alpha = 0.0;
	size_t tensors = 0;
	assert_true(ol_gguf_real(ol_gguf_find(gguf, "adapter.lora.alpha"), &alpha));
	for (int i = 0; i < ol_linear_count(c); i++) {
		static const char *const names[] = {"attn_q",   "attn_k", "attn_v",   "attn_output",
						    "ffn_gate", "ffn_up", "ffn_down", "output"};
		const struct ol_lora_tensors *t = &ol_adapter_tensors(adapter)[i];
		char name[64];
		int layer, outputs, inputs;
		const enum ol_linear linear = ol_linear_at(c, i, &layer);
		if (t->rank == 0)
			continue;
		ol_linear_shape(c, linear, &outputs, &inputs);
		snprintf(name, sizeof name, "blk.%d.%s.weight.lora_a", layer, names[linear]);
		const struct ol_source_tensor *a = ol_source_list_find(
			&gguf->tensors, linear == OL_LINEAR_HEAD ? "output.weight.lora_a" : name);
		name[strlen(name) - 1] = 'b';
		const struct ol_source_tensor *b = ol_source_list_find(
			&gguf->tensors, linear == OL_LINEAR_HEAD ? "output.weight.lora_b" : name);
		assert_true(a && b);
		tensors += 2;
		assert_true(a->shape[0] == (uint64_t)t->rank && a->shape[1] == (uint64_t)inputs);
		assert_true(b->shape[0] == (uint64_t)outputs && b->shape[1] == (uint64_t)t->rank);
		for (int r = 0; r < t->rank; r++)
			assert_true(gguf_value(a, r, inputs, 3) ==
				    (double)ol_bf16_to_f32(t->a[r * inputs + 3]));
		for (int o = 0; o < outputs; o++) {
			const int ours = ol_gguf_file_row(c, ol_linear_role(linear), o);
			const double wanted =
				(double)t->scale * (double)ol_bf16_to_f32(t->b[ours * t->rank]);
			const double got = alpha / t->rank * gguf_value(b, o, t->rank, 0);
			assert_true(fabs(got - wanted) <= 2e-7 * fabs(wanted));
		}
	}
	assert_int_equal(gguf->tensors.count, tensors);
}

static void gguf_adapters_hold_the_numbers(void **state)
{
	static const struct {
		enum ol_arch arch;
		uint32_t targets;
		float scale;
	} rows[] = {
		{OL_ARCH_LLAMA, OL_TARGETS_ALL | OL_TARGETS_HEAD, 0.7f},
		{OL_ARCH_QWEN3, OL_TARGETS_ALL, 4.0f},
		{OL_ARCH_LLAMA, OL_TARGETS_ALL, 0.0f},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_config c = config_of(rows[i].arch);
		struct ol_adapter *adapter = random_adapter(&c, rows[i].targets, 6, rows[i].scale);
		struct ol_gguf gguf;
		struct ol_map map;
		struct ol_error err;
		char path[160];
		must(ol_adapter_write_gguf(adapter, in_folder(path, "a.gguf"), &c, &err), &err);
		must(ol_map_open(&map, path, &err), &err);
		must(ol_gguf_read(&gguf, map.data, map.size, path, &err), &err);
		check_gguf(&c, adapter, &gguf);
		ol_gguf_release(&gguf);
		ol_map_close(&map);
		ol_adapter_close(adapter);
	}
}

static void a_tied_head_is_not_written_as_gguf(void **state)
{
	const struct ol_config c = config_of(OL_ARCH_QWEN3);
	struct ol_adapter *adapter = random_adapter(&c, OL_TARGETS_HEAD, 2, 1.0f);
	struct ol_error err = {0};
	char path[160];
	(void)state;
	assert_int_equal(ol_adapter_write_gguf(adapter, in_folder(path, "tied.gguf"), &c, &err),
			 OL_ERR_UNSUPPORTED);
	assert_non_null(strstr(err.text, "merged-gguf"));
	assert_int_not_equal(access(path, F_OK), 0);
	ol_adapter_close(adapter);
}

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/openledger-export-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	static const char *const names[] = {
		"hf/config.json", "hf/model.safetensors", "hf", "back.olm", "a.gguf", ""};
	int left = 0;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		char path[160];
		left |= remove(in_folder(path, names[i]));
	}
	return left;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(folders_come_back),
		cmocka_unit_test(quantised_models_keep_their_values),
		cmocka_unit_test(what_config_json_cannot_say),
		cmocka_unit_test(merged_weights_are_the_chain),
		cmocka_unit_test(gguf_adapters_hold_the_numbers),
		cmocka_unit_test(a_tied_head_is_not_written_as_gguf),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
