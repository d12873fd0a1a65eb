#include "model/model_id.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool ol_tensor_leaf_init(struct ol_sha256 *hash, const struct ol_tensor *tensor)
{
	char line[OL_TENSOR_NAME_MAX + 64];
	if (!ol_merkle_leaf_init(hash))
		return false;
	const int n = snprintf(line, sizeof line, "tensor %s %s %d %d\n", tensor->name,
			       ol_weight_type_name(tensor->type), tensor->rows, tensor->cols);
	ol_sha256_update(hash, line, (size_t)n);
	return true;
}

static bool add_text(struct ol_merkle *tree, const char *line, const void *bytes, size_t size)
{
	struct ol_sha256 hash;
	uint8_t leaf[OL_MERKLE_BYTES];
	if (!ol_merkle_leaf_init(&hash))
		return false;
	ol_sha256_update(&hash, line, strlen(line));
	ol_sha256_update(&hash, bytes, size);
	ol_sha256_final(&hash, leaf);
	ol_merkle_add(tree, leaf);
	return true;
}

static bool add_config(struct ol_merkle *tree, const struct ol_config *config)
{
	struct ol_buf text;
	ol_buf_init(&text, 1 << 16);
	const bool ok =
		ol_config_write(&text, config) && add_text(tree, "config\n", text.data, text.size);
	ol_buf_release(&text);
	return ok;
}

static int by_name(const void *a, const void *b)
{
	const struct ol_tensor *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

static bool add_tensors(struct ol_merkle *tree, const struct ol_layout *layout,
			const uint8_t (*leaves)[OL_MERKLE_BYTES])
{
	const struct ol_tensor **order = malloc((size_t)layout->count * sizeof *order);
	if (!order)
		return false;
	for (int i = 0; i < layout->count; i++)
		order[i] = &layout->tensors[i];
	qsort(order, (size_t)layout->count, sizeof *order, by_name);
	for (int i = 0; i < layout->count; i++)
		ol_merkle_add(tree, leaves[order[i] - layout->tensors]);
	free(order);
	return true;
}

bool ol_model_id_compute(uint8_t id[OL_MERKLE_BYTES], const struct ol_config *config,
			 const struct ol_model_text *texts, int text_count,
			 const struct ol_layout *layout, const uint8_t (*leaves)[OL_MERKLE_BYTES])
{
	struct ol_merkle tree;
	ol_merkle_init(&tree);
	bool ok = add_config(&tree, config);
	for (int i = 0; ok && i < text_count; i++) {
		char line[OL_TEXT_NAME_MAX + 64];
		OL_ASSERT(i == 0 || strcmp(texts[i - 1].name, texts[i].name) < 0);
		snprintf(line, sizeof line, "text %s %zu\n", texts[i].name, texts[i].size);
		ok = add_text(&tree, line, texts[i].bytes, texts[i].size);
	}
	ok = ok && add_tensors(&tree, layout, leaves);
	if (ok)
		ol_merkle_root(&tree, id);
	return ok;
}
