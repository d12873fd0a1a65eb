#include "model/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const role_names[OL_TENSOR_ROLES] = {
	[OL_TENSOR_EMBED] = "embed",
	[OL_TENSOR_HEAD] = "head",
	[OL_TENSOR_FINAL_NORM] = "final_norm",
	[OL_TENSOR_ATTENTION_NORM] = "attention_norm",
	[OL_TENSOR_Q] = "q",
	[OL_TENSOR_Q_BIAS] = "q_bias",
	[OL_TENSOR_Q_NORM] = "q_norm",
	[OL_TENSOR_K] = "k",
	[OL_TENSOR_K_BIAS] = "k_bias",
	[OL_TENSOR_K_NORM] = "k_norm",
	[OL_TENSOR_V] = "v",
	[OL_TENSOR_V_BIAS] = "v_bias",
	[OL_TENSOR_O] = "o",
	[OL_TENSOR_POST_ATTENTION_NORM] = "post_attention_norm",
	[OL_TENSOR_FFN_NORM] = "ffn_norm",
	[OL_TENSOR_GATE] = "gate",
	[OL_TENSOR_UP] = "up",
	[OL_TENSOR_DOWN] = "down",
	[OL_TENSOR_POST_FFN_NORM] = "post_ffn_norm",
};

/* Rows and columns of a role; rows 0 where this kind of model has no such tensor. */
static void shape_of(enum ol_tensor_role role, const struct ol_config *c, int32_t *rows,
		     int32_t *cols)
{
	const int32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	const int32_t table[OL_TENSOR_ROLES][2] = {
		[OL_TENSOR_EMBED] = {c->vocab_size, c->hidden},
		[OL_TENSOR_HEAD] = {c->tied_embeddings ? 0 : c->vocab_size, c->hidden},
		[OL_TENSOR_FINAL_NORM] = {1, c->hidden},
		[OL_TENSOR_ATTENTION_NORM] = {1, c->hidden},
		[OL_TENSOR_Q] = {q, c->hidden},
		[OL_TENSOR_Q_BIAS] = {c->qkv_bias, q},
		[OL_TENSOR_Q_NORM] = {c->qk_norm, c->head_dim},
		[OL_TENSOR_K] = {kv, c->hidden},
		[OL_TENSOR_K_BIAS] = {c->qkv_bias, kv},
		[OL_TENSOR_K_NORM] = {c->qk_norm, c->head_dim},
		[OL_TENSOR_V] = {kv, c->hidden},
		[OL_TENSOR_V_BIAS] = {c->qkv_bias, kv},
		[OL_TENSOR_O] = {c->hidden, q},
		[OL_TENSOR_POST_ATTENTION_NORM] = {c->post_norms, c->hidden},
		[OL_TENSOR_FFN_NORM] = {1, c->hidden},
		[OL_TENSOR_GATE] = {c->ffn, c->hidden},
		[OL_TENSOR_UP] = {c->ffn, c->hidden},
		[OL_TENSOR_DOWN] = {c->hidden, c->ffn},
		[OL_TENSOR_POST_FFN_NORM] = {c->post_norms, c->hidden},
	};
	*rows = table[role][0];
	*cols = table[role][1];
}

bool ol_tensor_is_norm(enum ol_tensor_role role)
{
	return role == OL_TENSOR_FINAL_NORM || role == OL_TENSOR_ATTENTION_NORM ||
	       role == OL_TENSOR_Q_NORM || role == OL_TENSOR_K_NORM ||
	       role == OL_TENSOR_POST_ATTENTION_NORM || role == OL_TENSOR_FFN_NORM ||
	       role == OL_TENSOR_POST_FFN_NORM;
}

static bool is_vector(enum ol_tensor_role role)
{
	return ol_tensor_is_norm(role) || role == OL_TENSOR_Q_BIAS || role == OL_TENSOR_K_BIAS ||
	       role == OL_TENSOR_V_BIAS;
}

/* Embeddings and the head suffer most from 4 bits: they stay at 8. */
static enum ol_weight_type type_of(enum ol_tensor_role role, enum ol_weight_type type)
{
	if (is_vector(role))
		return OL_WEIGHT_F32;
	const bool wide = role == OL_TENSOR_EMBED || role == OL_TENSOR_HEAD;
	return wide && (type == OL_WEIGHT_Q4 || type == OL_WEIGHT_NF4) ? OL_WEIGHT_Q8 : type;
}

static void add(struct ol_layout *layout, const struct ol_config *c, enum ol_weight_type type,
		enum ol_tensor_role role, int layer)
{
	int32_t rows, cols;
	shape_of(role, c, &rows, &cols);
	if (rows == 0)
		return;
	struct ol_tensor *t = &layout->tensors[layout->count++];
	*t = (struct ol_tensor){.role = role,
				.layer = layer,
				.type = type_of(role, type),
				.vector = is_vector(role),
				.rows = rows,
				.cols = cols,
				.offset = layout->bytes};
	if (layer < 0)
		snprintf(t->name, sizeof t->name, "%s", role_names[role]);
	else
		snprintf(t->name, sizeof t->name, "layers.%d.%s", layer, role_names[role]);
	t->bytes =
		t->vector ? (uint64_t)cols * sizeof(float) : ol_panels_bytes(t->type, rows, cols);
	layout->bytes += (t->bytes + OL_TENSOR_ALIGN - 1) / OL_TENSOR_ALIGN * OL_TENSOR_ALIGN;
}

bool ol_layout_init(struct ol_layout *layout, const struct ol_config *config,
		    enum ol_weight_type type)
{
	const size_t most = 3 + (size_t)config->layers * (OL_TENSOR_ROLES - 3);
	*layout = (struct ol_layout){.tensors = calloc(most, sizeof *layout->tensors)};
	if (!layout->tensors)
		return false;
	add(layout, config, type, OL_TENSOR_EMBED, -1);
	for (int layer = 0; layer < config->layers; layer++)
		for (int role = OL_TENSOR_ATTENTION_NORM; role < OL_TENSOR_ROLES; role++)
			add(layout, config, type, (enum ol_tensor_role)role, layer);
	add(layout, config, type, OL_TENSOR_FINAL_NORM, -1);
	add(layout, config, type, OL_TENSOR_HEAD, -1);
	return true;
}

void ol_layout_release(struct ol_layout *layout)
{
	free(layout->tensors);
	*layout = (struct ol_layout){0};
}

int ol_layout_find(const struct ol_layout *layout, enum ol_tensor_role role, int layer)
{
	/* Every layer has the same tensors, so those of layer n stand at 1 + n * per_layer. */
	const bool single = role <= OL_TENSOR_FINAL_NORM;
	int begin = 0, end = layout->count;
	if (!single) {
		int per_layer = 0;
		while (1 + per_layer < layout->count && layout->tensors[1 + per_layer].layer == 0)
			per_layer++;
		begin = OL_MIN(1 + layer * per_layer, layout->count);
		end = OL_MIN(begin + per_layer, layout->count);
	}
	for (int i = begin; i < end; i++)
		if (layout->tensors[i].role == role &&
		    (single || layout->tensors[i].layer == layer))
			return i;
	return -1;
}

uint64_t ol_tensor_canonical_bytes(const struct ol_tensor *tensor)
{
	return (uint64_t)tensor->rows * ol_canonical_row_bytes(tensor->type, tensor->cols);
}
