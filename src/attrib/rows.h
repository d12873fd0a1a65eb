/* attrib/rows.h, floor 3: rows of whitened gradients in 8 bits, and their products.
 *
 *     a row:  float scale[parts], padding to 64 bytes, int8 code[values], padding to 64 bytes
 *
 * A part is what one linear contributes: codes begin[p] .. begin[p + 1] - 1, each worth
 * scale[p] * code. The product of two rows is a sum over the parts, in order and in f64, of an
 * exact integer times the product of the two scales (exact, too): the same on every machine. */
#ifndef OL_ATTRIB_ROWS_H
#define OL_ATTRIB_ROWS_H

#include "math/kernels.h"

enum {
	OL_ROW_ALIGN = 64,
	OL_ROW_BLOCKS = 8, /* rows that are multiplied at once            */
	OL_ROW_PARTS_MAX = 4096,
	OL_ROW_VALUES_MAX = 1 << 16, /* so that no integer sum leaves 32 bits */
	OL_SKETCH_VALUES = 1020,
	OL_SKETCH_BYTES = 1024 /* float scale, then the codes */
};

struct ol_row_layout {
	int parts, values;
	const uint32_t *begin; /* (parts + 1), ascending from 0 to values; borrowed */
};
size_t ol_row_codes_at(const struct ol_row_layout *layout); /* bytes before the codes */
size_t ol_row_bytes(const struct ol_row_layout *layout);

static inline const float *ol_row_scales(const void *row)
{
	return row;
}
static inline const int8_t *ol_row_codes(const struct ol_row_layout *layout, const void *row)
{
	return (const int8_t *)row + ol_row_codes_at(layout);
}

/* Per part m = the largest magnitude; m < 2^-100: zeros; otherwise scale = m / 127 and
 * code = rne(x * (127 / m)). False if a value is NaN or beyond 2^60. */
OL_MUST_CHECK bool ol_row_quantize(const struct ol_row_layout *layout, void *row, const float *x);
/* x = scale * code, one rounding. */
void ol_row_dequantize(const struct ol_row_layout *layout, float *x, const void *row);
/* Every scale is in [0, 2^60], every code above -128, the padding zero. */
bool ol_row_check(const struct ol_row_layout *layout, const void *row);

/* The integer products of one instruction set; all give the same. */
struct ol_row_kernels {
	enum ol_isa isa;
	int32_t (*dot)(const int8_t *a, const int8_t *b, int n);
	/* out[i] = a_i . b, a_i OL_ROW_BLOCKS rows of codes, `stride` bytes apart. */
	void (*dot_blocks)(int32_t out[OL_ROW_BLOCKS], const int8_t *a, size_t stride,
			   const int8_t *b, int n);
};
const struct ol_row_kernels *ol_row_kernels_for(enum ol_isa isa);

double ol_row_dot(const struct ol_row_kernels *kernels, const struct ol_row_layout *layout,
		  const void *a, const void *b);
/* out (OL_ROW_BLOCKS) of as many rows a, row_bytes apart, with one row b. */
void ol_row_dot_blocks(const struct ol_row_kernels *kernels, const struct ol_row_layout *layout,
		       double out[OL_ROW_BLOCKS], const void *a, const void *b);

/* A row in 1 kB: value i is added to bucket hash(i) mod OL_SKETCH_VALUES with a sign of its own
 * (count sketch; Charikar et al., 2002). Products of sketches estimate products of rows: they
 * choose what is looked at, never what is paid. */
struct ol_sketch_plan {
	uint16_t *bucket; /* (values): bucket * 2 + negative */
	int values;
};
OL_MUST_CHECK bool ol_sketch_plan_init(struct ol_sketch_plan *plan, int values);
void ol_sketch_plan_release(struct ol_sketch_plan *plan);
void ol_sketch_make(const struct ol_sketch_plan *plan, const struct ol_row_layout *layout,
		    uint8_t out[OL_SKETCH_BYTES], const void *row);
double ol_sketch_dot(const struct ol_row_kernels *kernels, const uint8_t *a, const uint8_t *b);

#endif
