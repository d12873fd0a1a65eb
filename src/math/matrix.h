/* math/matrix.h, floor 1: weight matrices. Arrays and numbers only.
 *
 * A matrix W (O,K) multiplies rows of activations: y (M,O) = x (M,K) W^T. It exists in two forms.
 *
 * Canonical: row-major, what files and hashes hold (docs/ARITHMETIC.md, "Canonical tensors").
 *     f32   K little-endian floats a row
 *     bf16  K little-endian uint16 a row
 *     q8    ceil(K/32) blocks of {f16 scale, int8 code[32]}     34 bytes (GGUF's Q8_0)
 *     q4    ceil(K/32) blocks of {f16 scale, uint8 nibble[16]}  18 bytes (GGUF's Q4_0):
 *           element i is the low nibble of byte i (i < 16) or the high nibble of byte i-16
 *     nf4   as q4, but a nibble indexes ol_nf4_levels
 * The last block of a row is padded with zero values (q4: code 8; nf4: code OL_NF4_ZERO).
 *
 * Panels: what kernels read. OL_PANEL outputs side by side, one output a lane, so that no kernel
 * ever sums across lanes:
 *     panel p = outputs 32p .. 32p+31, all of K, contiguous, 64-byte aligned
 *     f32   [K][32] float
 *     bf16  [ceil(K/2)][32][2] uint16            a pair (k even, k odd) beside each other
 *     q8    [ceil(K/32)] { f16 scale[32]; uint8 code+128 [8][32][4] }       1088 bytes a block
 *     q4    [ceil(K/32)] { f16 scale[32]; uint8 nibbles  [4][32][4] }        576 bytes a block
 *     nf4   as q4
 * For q8, [8][32][4]: group g holds k = 4g..4g+3 of each output. For q4/nf4, byte [g][o][j] has
 * k = 4g+j in its low nibble and k = 16+4g+j in its high nibble: 64 bytes of 16 outputs unpack into
 * two VNNI operands. Lanes past O and elements past K are filled with zero values; the results of
 * lanes past O are never written. Packing is a cache, never an identity. */
#ifndef OL_MATH_MATRIX_H
#define OL_MATH_MATRIX_H

#include "base/base.h"

enum { OL_PANEL = 32, OL_BLOCK = 32, OL_NF4_ZERO = 7 };

/* Append-only: the numbers are on disk. */
enum ol_weight_type {
	OL_WEIGHT_F32 = 0,
	OL_WEIGHT_BF16 = 1,
	OL_WEIGHT_Q8 = 2,
	OL_WEIGHT_Q4 = 3,
	OL_WEIGHT_NF4 = 4
};
enum { OL_WEIGHT_TYPES = 5 };

/* Owns nothing: panels belong to a model file's mapping, or to whoever packed them. */
struct ol_matrix {
	enum ol_weight_type type;
	int32_t rows;       /* O, outputs */
	int32_t cols;       /* K, inputs  */
	const void *panels; /* 64-byte aligned, ol_panels_bytes() long */
};

extern const int8_t ol_nf4_levels[16]; /* round(127 * the NF4 quantiles), docs/ARITHMETIC.md */

const char *ol_weight_type_name(enum ol_weight_type type); /* "f32", "bf16", "q8", "q4", "nf4" */
bool ol_weight_type_parse(enum ol_weight_type *type_out, const char *name);

size_t ol_canonical_row_bytes(enum ol_weight_type type, int cols);
size_t ol_panels_bytes(enum ol_weight_type type, int rows, int cols);
int ol_panel_count(int rows); /* ceil(rows / OL_PANEL) */

/* One canonical row out of K floats: the contract's quantisation. False if a value is NaN or
 * infinite, or too large for the type's scale; then `row` is undefined. */
OL_MUST_CHECK bool ol_quantize_row(void *row, enum ol_weight_type type, const float *x, int cols);
/* K floats out of one canonical row: code * scale, one rounding at most (f32 product). */
void ol_dequantize_row(float *x, enum ol_weight_type type, const void *row, int cols);

/* Canonical rows row0 .. row0+count-1 into their places in the panels and back. A panel whose last
 * lanes do not exist must be zeroed beforehand by ol_panels_clear. Exact inverses. */
void ol_panels_clear(void *panels, enum ol_weight_type type, int rows, int cols);
void ol_pack_rows(void *panels, enum ol_weight_type type, int rows, int cols, const void *canonical,
		  int row0, int count);
void ol_unpack_rows(void *canonical, const struct ol_matrix *w, int row0, int count);

/* One row of W as floats, straight from the panels (an embedding look-up). */
void ol_matrix_row(float *x, const struct ol_matrix *w, int row);

/* bf16 and f16: round to nearest, ties to even; exact the other way. Subnormals are kept. */
uint16_t ol_f32_to_bf16(float x);
float ol_bf16_to_f32(uint16_t h);
uint16_t ol_f32_to_f16(float x);
float ol_f16_to_f32(uint16_t h);

#endif
