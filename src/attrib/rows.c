#include "attrib/rows.h"

#include "attrib/rows_kernels.h"
#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Below this a part counts as nothing, as a block of activations does (docs/ARITHMETIC.md). */
static const float NOTHING = 0x1p-100f;
/* Above this a number is as good as infinite: sums of products could not be told from it. */
static const float ABSURD = 0x1p60f;

static size_t padded(size_t bytes)
{
	return (bytes + OL_ROW_ALIGN - 1) / OL_ROW_ALIGN * OL_ROW_ALIGN;
}

size_t ol_row_codes_at(const struct ol_row_layout *layout)
{
	return padded((size_t)layout->parts * sizeof(float));
}

size_t ol_row_bytes(const struct ol_row_layout *layout)
{
	return ol_row_codes_at(layout) + padded((size_t)layout->values);
}

/* ---- 8 bits --------------------------------------------------------------------------------- */

/* codes (n) and their scale. */
static bool quantize(float *scale, int8_t *codes, const float *x, size_t n)
{
	float most = 0.0f;
	bool finite = true;
	for (size_t i = 0; i < n; i++) {
		const float size = fabsf(x[i]);
		finite = finite && size <= ABSURD;
		most = size > most ? size : most;
	}
	*scale = 0.0f;
	memset(codes, 0, n);
	if (!finite || most < NOTHING)
		return finite;
	const float inverse = 127.0f / most;
	*scale = most / 127.0f;
	for (size_t i = 0; i < n; i++)
		codes[i] = (int8_t)rintf(x[i] * inverse);
	return true;
}

bool ol_row_quantize(const struct ol_row_layout *layout, void *row, const float *x)
{
	float *scales = row;
	int8_t *codes = (int8_t *)row + ol_row_codes_at(layout);
	bool finite = true;
	memset(row, 0, ol_row_bytes(layout));
	for (int p = 0; p < layout->parts; p++) {
		const uint32_t begin = layout->begin[p];
		finite = quantize(&scales[p], codes + begin, x + begin,
				  layout->begin[p + 1] - begin) &&
			 finite;
	}
	return finite;
}

void ol_row_dequantize(const struct ol_row_layout *layout, float *x, const void *row)
{
	const float *scales = ol_row_scales(row);
	const int8_t *codes = ol_row_codes(layout, row);
	for (int p = 0; p < layout->parts; p++)
		for (uint32_t i = layout->begin[p]; i < layout->begin[p + 1]; i++)
			x[i] = scales[p] * (float)codes[i];
}

static bool all_zero(const uint8_t *from, const uint8_t *to)
{
	uint8_t any = 0;
	while (from < to)
		any |= *from++;
	return any == 0;
}

bool ol_row_check(const struct ol_row_layout *layout, const void *row)
{
	const uint8_t *bytes = row;
	const float *scales = ol_row_scales(row);
	const int8_t *codes = ol_row_codes(layout, row);
	bool good = true;
	for (int p = 0; p < layout->parts; p++)
		good = good && scales[p] >= 0.0f && scales[p] <= ABSURD;
	for (int i = 0; i < layout->values; i++)
		good = good && codes[i] != -128;
	return good &&
	       all_zero(bytes + (size_t)layout->parts * sizeof(float),
			bytes + ol_row_codes_at(layout)) &&
	       all_zero((const uint8_t *)codes + layout->values, bytes + ol_row_bytes(layout));
}

/* ---- Products ------------------------------------------------------------------------------- */

static int32_t dot_scalar(const int8_t *a, const int8_t *b, int n)
{
	int32_t sum = 0;
	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

static void dot_blocks_scalar(int32_t out[OL_ROW_BLOCKS], const int8_t *a, size_t stride,
			      const int8_t *b, int n)
{
	for (int k = 0; k < OL_ROW_BLOCKS; k++)
		out[k] = dot_scalar(a + (size_t)k * stride, b, n);
}

static const struct ol_row_kernels plain[] = {
	[OL_ISA_SCALAR] = {OL_ISA_SCALAR, dot_scalar, dot_blocks_scalar},
	[OL_ISA_NEON] = {OL_ISA_NEON, dot_scalar, dot_blocks_scalar},
};

const struct ol_row_kernels *ol_row_kernels_for(enum ol_isa isa)
{
	switch (isa) {
	case OL_ISA_SCALAR:
	case OL_ISA_NEON: return &plain[isa];
#if defined(__x86_64__)
	case OL_ISA_AVX2: return &ol_row_kernels_avx2;
	case OL_ISA_AVX512: return &ol_row_kernels_avx512;
#else
	case OL_ISA_AVX2:
	case OL_ISA_AVX512: return NULL;
#endif
	}
	OL_UNREACHABLE();
}

static double part_product(int32_t sum, float a, float b)
{
	return (double)sum * ((double)a * (double)b);
}

double ol_row_dot(const struct ol_row_kernels *kernels, const struct ol_row_layout *layout,
		  const void *a, const void *b)
{
	const int8_t *left = ol_row_codes(layout, a), *right = ol_row_codes(layout, b);
	double sum = 0.0;
	for (int p = 0; p < layout->parts; p++) {
		const uint32_t begin = layout->begin[p];
		const int n = (int)(layout->begin[p + 1] - begin);
		sum += part_product(kernels->dot(left + begin, right + begin, n),
				    ol_row_scales(a)[p], ol_row_scales(b)[p]);
	}
	return sum;
}

void ol_row_dot_blocks(const struct ol_row_kernels *kernels, const struct ol_row_layout *layout,
		       double out[OL_ROW_BLOCKS], const void *a, const void *b)
{
	const size_t stride = ol_row_bytes(layout);
	const int8_t *left = ol_row_codes(layout, a), *right = ol_row_codes(layout, b);
	const float *scales = ol_row_scales(b);
	int32_t sums[OL_ROW_BLOCKS];
	for (int k = 0; k < OL_ROW_BLOCKS; k++)
		out[k] = 0.0;
	for (int p = 0; p < layout->parts; p++) {
		const uint32_t begin = layout->begin[p];
		kernels->dot_blocks(sums, left + begin, stride, right + begin,
				    (int)(layout->begin[p + 1] - begin));
		for (int k = 0; k < OL_ROW_BLOCKS; k++) {
			const float *own = ol_row_scales((const uint8_t *)a + (size_t)k * stride);
			out[k] += part_product(sums[k], own[p], scales[p]);
		}
	}
}

/* ---- Sketches ------------------------------------------------------------------------------- */

/* SplitMix64's finaliser: a public, fixed hash of a coordinate. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

bool ol_sketch_plan_init(struct ol_sketch_plan *plan, int values)
{
	plan->values = values;
	plan->bucket = malloc(((size_t)values + 1) * sizeof *plan->bucket);
	for (int i = 0; plan->bucket && i < values; i++) {
		const uint64_t word = mix((uint64_t)i);
		plan->bucket[i] = (uint16_t)((word >> 1) % OL_SKETCH_VALUES * 2 + (word & 1));
	}
	return plan->bucket != NULL;
}

void ol_sketch_plan_release(struct ol_sketch_plan *plan)
{
	free(plan->bucket);
	plan->bucket = NULL;
}

void ol_sketch_make(const struct ol_sketch_plan *plan, const struct ol_row_layout *layout,
		    uint8_t out[OL_SKETCH_BYTES], const void *row)
{
	const int8_t *codes = ol_row_codes(layout, row);
	float sums[OL_SKETCH_VALUES] = {0}, scale;
	int8_t quantized[OL_SKETCH_VALUES];
	OL_ASSERT(plan->values == layout->values);
	for (int p = 0; p < layout->parts; p++) {
		const float unit = ol_row_scales(row)[p];
		for (uint32_t i = layout->begin[p]; i < layout->begin[p + 1]; i++) {
			const float x = unit * (float)codes[i];
			sums[plan->bucket[i] >> 1] += plan->bucket[i] & 1 ? -x : x;
		}
	}
	/* Sums of finite numbers this small stay finite: a row's scales are checked. */
	OL_ASSERT(quantize(&scale, quantized, sums, OL_SKETCH_VALUES));
	ol_store_u32(out, ol_float_bits(scale));
	memcpy(out + sizeof(float), quantized, sizeof quantized);
}

double ol_sketch_dot(const struct ol_row_kernels *kernels, const uint8_t *a, const uint8_t *b)
{
	const int32_t sum = kernels->dot((const int8_t *)a + sizeof(float),
					 (const int8_t *)b + sizeof(float), OL_SKETCH_VALUES);
	return part_product(sum, ol_bits_float(ol_load_u32(a)), ol_bits_float(ol_load_u32(b)));
}
