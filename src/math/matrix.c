/* math/matrix.c, floor 1: canonical rows, panels, and the way between them.
 *
 * Everything here is plain C that moves bits (docs/ARITHMETIC.md, "Canonical tensors"); quantising
 * lies in quantize_scalar.c and its faster equals. */
#include "math/matrix.h"

#include <string.h>

#include "math/kernels.h"

enum {
	Q8_BLOCK_BYTES = 34, /* f16 scale, 32 codes   */
	Q4_BLOCK_BYTES = 18, /* f16 scale, 16 nibbles */
	SCALES_BYTES = 2 * OL_PANEL,
	Q8_PANEL_BYTES = SCALES_BYTES + OL_BLOCK * OL_PANEL,
	Q4_PANEL_BYTES = SCALES_BYTES + OL_BLOCK / 2 * OL_PANEL,
	NIBBLES = OL_BLOCK / 2
};

const int8_t ol_nf4_levels[16] = {-127, -88, -67, -50, -36, -23, -12, 0,
				  10,   20,  31,  43,  56,  71,  92,  127};

static const char *const type_names[OL_WEIGHT_TYPES] = {"f32", "bf16", "q8", "q4", "nf4"};

const char *ol_weight_type_name(enum ol_weight_type type)
{
	OL_ASSERT((unsigned)type < OL_WEIGHT_TYPES);
	return type_names[type];
}

bool ol_weight_type_parse(enum ol_weight_type *type_out, const char *name)
{
	for (int i = 0; i < OL_WEIGHT_TYPES; i++) {
		if (strcmp(name, type_names[i]) == 0) {
			*type_out = (enum ol_weight_type)i;
			return true;
		}
	}
	return false;
}

/* --- Sizes ---------------------------------------------------------------------------------- */

static int block_count(int cols)
{
	return cols / OL_BLOCK + (cols % OL_BLOCK != 0);
}

int ol_panel_count(int rows)
{
	return rows / OL_PANEL + (rows % OL_PANEL != 0);
}

size_t ol_canonical_row_bytes(enum ol_weight_type type, int cols)
{
	OL_ASSERT(cols >= 0);
	switch (type) {
	case OL_WEIGHT_F32: return (size_t)cols * 4;
	case OL_WEIGHT_BF16: return (size_t)cols * 2;
	case OL_WEIGHT_Q8: return (size_t)block_count(cols) * Q8_BLOCK_BYTES;
	case OL_WEIGHT_Q4:
	case OL_WEIGHT_NF4: return (size_t)block_count(cols) * Q4_BLOCK_BYTES;
	}
	OL_UNREACHABLE();
}

static size_t panel_bytes(enum ol_weight_type type, int cols)
{
	switch (type) {
	case OL_WEIGHT_F32: return (size_t)cols * OL_PANEL * 4;
	case OL_WEIGHT_BF16: return ((size_t)cols + 1) / 2 * OL_PANEL * 4;
	case OL_WEIGHT_Q8: return (size_t)block_count(cols) * Q8_PANEL_BYTES;
	case OL_WEIGHT_Q4:
	case OL_WEIGHT_NF4: return (size_t)block_count(cols) * Q4_PANEL_BYTES;
	}
	OL_UNREACHABLE();
}

size_t ol_panels_bytes(enum ol_weight_type type, int rows, int cols)
{
	OL_ASSERT(rows >= 0 && cols >= 0);
	return (size_t)ol_panel_count(rows) * panel_bytes(type, cols);
}

/* --- 16-bit floats -------------------------------------------------------------------------- */

static uint32_t float_bits(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

static float bits_float(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

uint16_t ol_f32_to_bf16(float x)
{
	const uint32_t bits = float_bits(x);
	if ((bits & 0x7fffffff) > 0x7f800000) /* a NaN stays one: quiet, payload cut */
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float ol_bf16_to_f32(uint16_t h)
{
	return bits_float((uint32_t)h << 16);
}

uint16_t ol_f32_to_f16(float x)
{
	const uint32_t bits = float_bits(x), magnitude = bits & 0x7fffffff;
	const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);

	if (magnitude > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
	if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
		return sign | 0x7c00;
	if (magnitude < 0x38800000) {
		/* Below 2^-14: in units of 2^-24 the value is below 1024, so adding 2^23 rounds it
		 * to an integer, ties to even, and leaves that integer in the low bits. */
		const float shifted = bits_float(magnitude) * 0x1p24f + 0x1p23f;
		return (uint16_t)(sign | (float_bits(shifted) - 0x4b000000));
	}
	const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
	return (uint16_t)(sign | ((rounded - 0x38000000) >> 13));
}

float ol_f16_to_f32(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;

	if (magnitude >= 0x7c00) /* infinity; a NaN comes out quiet, as from the hardware */
		return bits_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13 |
				  (magnitude > 0x7c00 ? 0x400000 : 0));
	if (magnitude < 0x400) /* subnormal: an exact product */
		return bits_float(sign | float_bits((float)magnitude * 0x1p-24f));
	return bits_float(sign | (magnitude + 0x1c000) << 13);
}

static uint16_t load16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

/* --- Quantisation --------------------------------------------------------------------------- */

bool ol_quantize_row(void *row, enum ol_weight_type type, const float *x, int cols)
{
	return ol_kernels_best()->quantize_row(row, type, x, cols);
}

/* The level in the low or the high nibble of a byte. */
static int nibble_code(enum ol_weight_type type, unsigned byte, bool high)
{
	const unsigned nibble = high ? byte >> 4 : byte & 15;
	return type == OL_WEIGHT_Q4 ? (int)nibble - 8 : ol_nf4_levels[nibble];
}

void ol_dequantize_row(float *x, enum ol_weight_type type, const void *row, int cols)
{
	const uint8_t *in = row;
	switch (type) {
	case OL_WEIGHT_F32: memcpy(x, in, (size_t)cols * sizeof *x); return;
	case OL_WEIGHT_BF16:
		for (int k = 0; k < cols; k++)
			x[k] = ol_bf16_to_f32(load16(in + 2 * (size_t)k));
		return;
	case OL_WEIGHT_Q8:
		for (int k = 0; k < cols; k++) {
			const uint8_t *block = in + (size_t)(k / OL_BLOCK) * Q8_BLOCK_BYTES;
			x[k] = (float)(int8_t)block[2 + k % OL_BLOCK] *
			       ol_f16_to_f32(load16(block));
		}
		return;
	case OL_WEIGHT_Q4:
	case OL_WEIGHT_NF4:
		for (int k = 0; k < cols; k++) {
			const uint8_t *block = in + (size_t)(k / OL_BLOCK) * Q4_BLOCK_BYTES;
			const int code =
				nibble_code(type, block[2 + k % NIBBLES], k % OL_BLOCK >= NIBBLES);
			x[k] = (float)code * ol_f16_to_f32(load16(block));
		}
		return;
	}
	OL_UNREACHABLE();
}

/* --- Panels --------------------------------------------------------------------------------- */

void ol_panels_clear(void *panels, enum ol_weight_type type, int rows, int cols)
{
	uint8_t *p = panels;
	const size_t bytes = ol_panels_bytes(type, rows, cols);
	memset(p, 0, bytes);
	if (type == OL_WEIGHT_F32 || type == OL_WEIGHT_BF16)
		return;
	const size_t step = type == OL_WEIGHT_Q8 ? Q8_PANEL_BYTES : Q4_PANEL_BYTES;
	const int zero = type == OL_WEIGHT_Q8   ? 128
			 : type == OL_WEIGHT_Q4 ? 0x88
						: OL_NF4_ZERO * 0x11;
	for (size_t at = 0; at < bytes; at += step)
		memset(p + at + SCALES_BYTES, zero, step - SCALES_BYTES);
}

/* The address of lane 0 of the panel that holds a row. */
static size_t panel_offset(enum ol_weight_type type, int cols, int row)
{
	return (size_t)(row / OL_PANEL) * panel_bytes(type, cols);
}

static void pack_row(uint8_t *panel, enum ol_weight_type type, int cols, const uint8_t *row,
		     int lane)
{
	if (type == OL_WEIGHT_F32) {
		for (size_t k = 0; k < (size_t)cols; k++)
			memcpy(panel + (k * OL_PANEL + (size_t)lane) * 4, row + k * 4, 4);
		return;
	}
	if (type == OL_WEIGHT_BF16) {
		for (size_t k = 0; k < (size_t)cols; k++)
			memcpy(panel + ((k / 2 * OL_PANEL + (size_t)lane) * 2 + k % 2) * 2,
			       row + k * 2, 2);
		return;
	}
	const uint32_t flip = type == OL_WEIGHT_Q8 ? 0x80808080 : 0;
	const int groups = type == OL_WEIGHT_Q8 ? OL_BLOCK / 4 : NIBBLES / 4;
	for (int b = 0; b < block_count(cols); b++) {
		memcpy(panel + 2 * lane, row, 2);
		for (int g = 0; g < groups; g++) {
			uint32_t codes;
			memcpy(&codes, row + 2 + 4 * g, 4);
			codes ^= flip;
			memcpy(panel + SCALES_BYTES + (g * OL_PANEL + lane) * 4, &codes, 4);
		}
		row += 2 + 4 * groups;
		panel += SCALES_BYTES + 4 * OL_PANEL * groups;
	}
}

static void unpack_row(uint8_t *row, enum ol_weight_type type, int cols, const uint8_t *panel,
		       int lane)
{
	if (type == OL_WEIGHT_F32) {
		for (size_t k = 0; k < (size_t)cols; k++)
			memcpy(row + k * 4, panel + (k * OL_PANEL + (size_t)lane) * 4, 4);
		return;
	}
	if (type == OL_WEIGHT_BF16) {
		for (size_t k = 0; k < (size_t)cols; k++)
			memcpy(row + k * 2,
			       panel + ((k / 2 * OL_PANEL + (size_t)lane) * 2 + k % 2) * 2, 2);
		return;
	}
	const uint32_t flip = type == OL_WEIGHT_Q8 ? 0x80808080 : 0;
	const int groups = type == OL_WEIGHT_Q8 ? OL_BLOCK / 4 : NIBBLES / 4;
	for (int b = 0; b < block_count(cols); b++) {
		memcpy(row, panel + 2 * lane, 2);
		for (int g = 0; g < groups; g++) {
			uint32_t codes;
			memcpy(&codes, panel + SCALES_BYTES + (g * OL_PANEL + lane) * 4, 4);
			codes ^= flip;
			memcpy(row + 2 + 4 * g, &codes, 4);
		}
		row += 2 + 4 * groups;
		panel += SCALES_BYTES + 4 * OL_PANEL * groups;
	}
}

void ol_pack_rows(void *panels, enum ol_weight_type type, int rows, int cols, const void *canonical,
		  int row0, int count)
{
	OL_ASSERT(row0 >= 0 && count >= 0 && count <= rows - row0);
	const uint8_t *row = canonical;
	for (int o = row0; o < row0 + count; o++) {
		pack_row((uint8_t *)panels + panel_offset(type, cols, o), type, cols, row,
			 o % OL_PANEL);
		row += ol_canonical_row_bytes(type, cols);
	}
}

void ol_unpack_rows(void *canonical, const struct ol_matrix *w, int row0, int count)
{
	OL_ASSERT(row0 >= 0 && count >= 0 && count <= w->rows - row0);
	uint8_t *row = canonical;
	for (int o = row0; o < row0 + count; o++) {
		unpack_row(row, w->type, w->cols,
			   (const uint8_t *)w->panels + panel_offset(w->type, w->cols, o),
			   o % OL_PANEL);
		row += ol_canonical_row_bytes(w->type, w->cols);
	}
}

void ol_matrix_row(float *x, const struct ol_matrix *w, int row)
{
	OL_ASSERT(row >= 0 && row < w->rows);
	const uint8_t *panel = (const uint8_t *)w->panels + panel_offset(w->type, w->cols, row);
	const int lane = row % OL_PANEL, groups = w->type == OL_WEIGHT_Q8 ? 8 : 4;

	if (w->type == OL_WEIGHT_F32) {
		unpack_row((uint8_t *)x, w->type, w->cols, panel, lane);
		return;
	}
	for (int k = 0; k < w->cols; k++) {
		if (w->type == OL_WEIGHT_BF16) {
			const size_t at =
				((size_t)(k / 2 * OL_PANEL + lane) * 2 + (size_t)(k % 2)) * 2;
			x[k] = ol_bf16_to_f32(load16(panel + at));
			continue;
		}
		const int i = k % OL_BLOCK % (4 * groups);
		const uint8_t *block =
			panel +
			(size_t)(k / OL_BLOCK) * (size_t)(SCALES_BYTES + 4 * OL_PANEL * groups);
		const uint8_t byte = block[SCALES_BYTES + (i / 4 * OL_PANEL + lane) * 4 + i % 4];
		const int code = w->type == OL_WEIGHT_Q8
					 ? byte - 128
					 : nibble_code(w->type, byte, k % OL_BLOCK >= NIBBLES);
		x[k] = (float)code * ol_f16_to_f32(load16(block + 2 * lane));
	}
}
