#include "model/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "math/matrix.h"

static const struct {
	int values, bytes;
} blocks[] = {
	[OL_SOURCE_F32] = {1, 4},      [OL_SOURCE_F16] = {1, 2},    [OL_SOURCE_BF16] = {1, 2},
	[OL_SOURCE_Q8_0] = {32, 34},   [OL_SOURCE_Q4_0] = {32, 18}, [OL_SOURCE_Q4_K] = {256, 144},
	[OL_SOURCE_Q6_K] = {256, 210}, [OL_SOURCE_OTHER] = {1, 1},
};

int ol_source_block_values(enum ol_source_type type)
{
	return blocks[type].values;
}

int ol_source_block_bytes(enum ol_source_type type)
{
	return blocks[type].bytes;
}

/* ---- The list ----------------------------------------------------------------------------- */

void ol_source_list_release(struct ol_source_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].name);
	free(list->items);
	*list = (struct ol_source_list){0};
}

bool ol_source_list_add(struct ol_source_list *list, const struct ol_source_tensor *tensor,
			const char *name, size_t name_size)
{
	if (list->count == list->room) {
		const size_t room = list->room ? list->room * 2 : 64;
		struct ol_source_tensor *items = realloc(list->items, room * sizeof *items);
		if (!items)
			return false;
		list->items = items;
		list->room = room;
	}
	char *copy = malloc(name_size + 1);
	if (!copy)
		return false;
	memcpy(copy, name, name_size);
	copy[name_size] = '\0';
	list->items[list->count] = *tensor;
	list->items[list->count++].name = copy;
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct ol_source_tensor *x = a, *y = b;
	return strcmp(x->name, y->name);
}

enum ol_status ol_source_list_sort(struct ol_source_list *list, struct ol_error *err)
{
	if (list->count > 0)
		qsort(list->items, list->count, sizeof *list->items, by_name);
	for (size_t i = 1; i < list->count; i++)
		if (strcmp(list->items[i - 1].name, list->items[i].name) == 0) {
			char name[128];
			ol_source_printable(name, sizeof name, list->items[i].name,
					    strlen(list->items[i].name));
			return ol_fail(err, OL_ERR_INPUT, "%s: tensor %s stands there twice",
				       list->items[i].path, name);
		}
	return OL_OK;
}

struct ol_source_tensor *ol_source_list_find(const struct ol_source_list *list, const char *name)
{
	const struct ol_source_tensor key = {.name = (char *)(uintptr_t)name};
	return list->count == 0
		       ? NULL
		       : bsearch(&key, list->items, list->count, sizeof *list->items, by_name);
}

void ol_source_printable(char *out, size_t room, const char *name, size_t size)
{
	size_t n = 0;
	for (; n < size && n + 1 < room; n++)
		out[n] = name[n] > ' ' && name[n] <= '~' ? name[n] : '?';
	out[n] = '\0';
}

/* ---- Rows --------------------------------------------------------------------------------- */

const uint8_t *ol_source_row(const struct ol_source_tensor *tensor, uint64_t row, int cols)
{
	const uint64_t bytes = (uint64_t)cols / (uint64_t)blocks[tensor->type].values *
			       (uint64_t)blocks[tensor->type].bytes;
	return tensor->data + row * bytes;
}

/* Six-bit scale and minimum of sub-block j out of the 12 packed bytes of a Q4_K block. */
static void q4_k_scale(uint8_t *scale, uint8_t *minimum, const uint8_t *packed, int j)
{
	if (j < 4) {
		*scale = packed[j] & 63;
		*minimum = packed[j + 4] & 63;
	} else {
		*scale = (uint8_t)((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4);
		*minimum = (uint8_t)((packed[j + 4] >> 4) | (packed[j] >> 6) << 4);
	}
}

/* {f16 d, f16 dmin, scales[12], nibbles[128]}: eight sub-blocks of 32; x = (d * scale) * q -
 * (dmin * minimum), each product and the difference rounded to f32. Sub-blocks 2i and
 * 2i+1 are the low and the high nibbles of bytes 32i .. 32i+31. */
static void read_q4_k(float x[256], const uint8_t *block)
{
	const float d = ol_f16_to_f32(ol_load_u16(block));
	const float dmin = ol_f16_to_f32(ol_load_u16(block + 2));
	for (int j = 0; j < 8; j++) {
		const uint8_t *nibbles = block + 16 + j / 2 * 32;
		uint8_t scale, minimum;
		q4_k_scale(&scale, &minimum, block + 4, j);
		const float step = d * (float)scale, low = dmin * (float)minimum;
		for (int i = 0; i < 32; i++) {
			const int q = j % 2 ? nibbles[i] >> 4 : nibbles[i] & 15;
			const float product = step * (float)q;
			x[32 * j + i] = product - low;
		}
	}
}

/* {low[128], high[64], int8 scale[16], f16 d}: x = (d * scale) * q, q = six bits less 32, each
 * product rounded to f32. Value v = 128 h + 32 p + i of the block: its low nibble is in low[64 h +
 * 32 (p % 2) + i] (high half where p >= 2), its upper two bits are bits 2p of high[32 h + i], its
 * scale is scale[v / 16]. */
static void read_q6_k(float x[256], const uint8_t *block)
{
	const uint8_t *low = block, *high = block + 128;
	const int8_t *scales = (const int8_t *)(block + 192);
	const float d = ol_f16_to_f32(ol_load_u16(block + 208));
	for (int v = 0; v < 256; v++) {
		const int h = v / 128, p = v / 32 % 4, i = v % 32;
		const uint8_t byte = low[64 * h + 32 * (p % 2) + i];
		const int nibble = p >= 2 ? byte >> 4 : byte & 15;
		const int q = (nibble | (high[32 * h + i] >> 2 * p & 3) << 4) - 32;
		const float step = d * (float)scales[v / 16];
		x[v] = step * (float)q;
	}
}

void ol_source_read_row(float *x, const struct ol_source_tensor *tensor, uint64_t row, int cols)
{
	const uint8_t *in = ol_source_row(tensor, row, cols);
	switch (tensor->type) {
	case OL_SOURCE_F32: memcpy(x, in, (size_t)cols * sizeof *x); return;
	case OL_SOURCE_F16:
		for (int i = 0; i < cols; i++)
			x[i] = ol_f16_to_f32(ol_load_u16(in + 2 * (size_t)i));
		return;
	case OL_SOURCE_BF16:
		for (int i = 0; i < cols; i++)
			x[i] = ol_bf16_to_f32(ol_load_u16(in + 2 * (size_t)i));
		return;
	case OL_SOURCE_Q8_0: /* the same bytes as our canonical rows */
		ol_dequantize_row(x, OL_WEIGHT_Q8, in, cols);
		return;
	case OL_SOURCE_Q4_0: ol_dequantize_row(x, OL_WEIGHT_Q4, in, cols); return;
	case OL_SOURCE_Q4_K:
		for (int i = 0; i < cols; i += 256)
			read_q4_k(x + i, in + (size_t)i / 256 * 144);
		return;
	case OL_SOURCE_Q6_K:
		for (int i = 0; i < cols; i += 256)
			read_q6_k(x + i, in + (size_t)i / 256 * 210);
		return;
	case OL_SOURCE_OTHER: break;
	}
	OL_UNREACHABLE();
}
