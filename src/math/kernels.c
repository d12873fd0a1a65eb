/* math/kernels.c: the tables of kernels, and which of them this machine runs. */
#include "math/kernels.h"

#include <string.h>

#include "math/kernels_internal.h"

/* A common multiple of the row tiles of every matmul of every table. */
enum { ACT_TILE = 48 };

/* The three families of weight types keep their activations differently. */
#define DEFINE_BY_TYPE(table, isa, bf16_isa)                                                       \
	static size_t act_bytes_##table(enum ol_weight_type type, int M, int K)                    \
	{                                                                                          \
		switch (type) {                                                                    \
		case OL_WEIGHT_F32: return ol_act_bytes_f32_##isa(M, K);                           \
		case OL_WEIGHT_BF16: return ol_act_bytes_bf16_##bf16_isa(M, K);                    \
		case OL_WEIGHT_Q8:                                                                 \
		case OL_WEIGHT_Q4:                                                                 \
		case OL_WEIGHT_NF4: return ol_act_bytes_int_##isa(M, K);                           \
		}                                                                                  \
		OL_UNREACHABLE();                                                                  \
	}                                                                                          \
                                                                                                   \
	static void act_prepare_##table(void *act, enum ol_weight_type type, const float *x,       \
					size_t x_stride, int M, int K, int row0, int row1)         \
	{                                                                                          \
		OL_ASSERT(row0 % ACT_TILE == 0 && (row1 % ACT_TILE == 0 || row1 == M));            \
		switch (type) {                                                                    \
		case OL_WEIGHT_F32:                                                                \
			ol_act_prepare_f32_##isa(act, x, x_stride, M, K, row0, row1);              \
			return;                                                                    \
		case OL_WEIGHT_BF16:                                                               \
			ol_act_prepare_bf16_##bf16_isa(act, x, x_stride, M, K, row0, row1);        \
			return;                                                                    \
		case OL_WEIGHT_Q8:                                                                 \
		case OL_WEIGHT_Q4:                                                                 \
		case OL_WEIGHT_NF4:                                                                \
			ol_act_prepare_int_##isa(act, x, x_stride, M, K, row0, row1);              \
			return;                                                                    \
		}                                                                                  \
		OL_UNREACHABLE();                                                                  \
	}                                                                                          \
                                                                                                   \
	static void matmul_##table(float *y, size_t y_stride, const void *act,                     \
				   const struct ol_matrix *w, int M, int panel0, int panel1)       \
	{                                                                                          \
		switch (w->type) {                                                                 \
		case OL_WEIGHT_F32:                                                                \
			ol_matmul_f32_##isa(y, y_stride, act, w, M, panel0, panel1);               \
			return;                                                                    \
		case OL_WEIGHT_BF16:                                                               \
			ol_matmul_bf16_##bf16_isa(y, y_stride, act, w, M, panel0, panel1);         \
			return;                                                                    \
		case OL_WEIGHT_Q8:                                                                 \
		case OL_WEIGHT_Q4:                                                                 \
		case OL_WEIGHT_NF4:                                                                \
			ol_matmul_int_##isa(y, y_stride, act, w, M, panel0, panel1);               \
			return;                                                                    \
		}                                                                                  \
		OL_UNREACHABLE();                                                                  \
	}

#define TABLE(ISA, table, isa_)                                                                    \
	{                                                                                          \
		.isa = ISA, .name = #isa_, .act_tile = ACT_TILE, .act_bytes = act_bytes_##table,   \
		.act_prepare = act_prepare_##table, .matmul = matmul_##table,                      \
		.rmsnorm = ol_rmsnorm_##isa_, .rope = ol_rope_##isa_, .add = ol_add_##isa_,        \
		.silu_mul = ol_silu_mul_##isa_, .gelu_mul = ol_gelu_mul_##isa_,                    \
		.softcap = ol_softcap_##isa_, .kv_store = ol_kv_store_##isa_,                      \
		.attention = ol_attention_##isa_,                                                  \
		.attention_scratch = ol_attention_scratch_##isa_, .row_max = ol_row_max_##isa_,    \
		.row_sum_exp = ol_row_sum_exp_##isa_, .lora_down = ol_lora_down_##isa_,            \
		.lora_up = ol_lora_up_##isa_, .exp = ol_exp_array_##isa_,                          \
		.quantize_row = ol_quantize_row_##isa_, .tanh = ol_tanh_array_##isa_,              \
	}

DEFINE_BY_TYPE(scalar, scalar, scalar)
static const struct ol_kernels scalar_kernels = TABLE(OL_ISA_SCALAR, scalar, scalar);

#if defined(__x86_64__)

DEFINE_BY_TYPE(avx2, avx2, avx2)
static const struct ol_kernels avx2_kernels = TABLE(OL_ISA_AVX2, avx2, avx2);

DEFINE_BY_TYPE(avx512, avx512, avx512)
static const struct ol_kernels avx512_kernels = TABLE(OL_ISA_AVX512, avx512, avx512);

DEFINE_BY_TYPE(avx512_dot, avx512, avx512bf16)
static const struct ol_kernels avx512_dot_kernels = TABLE(OL_ISA_AVX512, avx512_dot, avx512);

static const struct ol_kernels *avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2_kernels
									       : NULL;
}

static const struct ol_kernels *avx512(void)
{
	if (!avx2() || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
	    !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
	    !__builtin_cpu_supports("avx512vnni"))
		return NULL;
	/* VDPBF16PS and two flushed fmas give the same bits. Intel starts one every other cycle (87
	 * GFLOP/s on Emerald Rapids) and two fmas a cycle (176); AMD does it at twice the rate of
	 * the fmas. */
	return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd") ? &avx512_dot_kernels
									       : &avx512_kernels;
}

#elif defined(__aarch64__)

DEFINE_BY_TYPE(neon, neon, neon)
static const struct ol_kernels neon_kernels = TABLE(OL_ISA_NEON, neon, neon);

#endif

const struct ol_kernels *ol_kernels_for(enum ol_isa isa)
{
	switch (isa) {
	case OL_ISA_SCALAR: return &scalar_kernels;
	case OL_ISA_AVX2:
#if defined(__x86_64__)
		return avx2();
#else
		return NULL;
#endif
	case OL_ISA_AVX512:
#if defined(__x86_64__)
		return avx512();
#else
		return NULL;
#endif
	case OL_ISA_NEON:
#if defined(__aarch64__)
		return &neon_kernels;
#else
		return NULL;
#endif
	}
	OL_UNREACHABLE();
}

const struct ol_kernels *ol_kernels_best(void)
{
	static const enum ol_isa order[] = {OL_ISA_AVX512, OL_ISA_AVX2, OL_ISA_NEON};

	for (size_t i = 0; i < OL_ARRAY_LEN(order); i++) {
		const struct ol_kernels *kernels = ol_kernels_for(order[i]);
		if (kernels)
			return kernels;
	}
	return &scalar_kernels;
}

bool ol_isa_parse(enum ol_isa *isa_out, const char *name)
{
	static const char *const names[OL_ISAS] = {
		[OL_ISA_SCALAR] = "scalar",
		[OL_ISA_AVX2] = "avx2",
		[OL_ISA_AVX512] = "avx512",
		[OL_ISA_NEON] = "neon",
	};

	for (int i = 0; i < OL_ISAS; i++)
		if (strcmp(name, names[i]) == 0) {
			*isa_out = (enum ol_isa)i;
			return true;
		}
	return false;
}

bool ol_kv_type_parse(enum ol_kv_type *type_out, const char *name)
{
	static const char *const names[OL_KV_TYPES] = {[OL_KV_F32] = "f32", [OL_KV_BF16] = "bf16"};

	for (int i = 0; i < OL_KV_TYPES; i++)
		if (strcmp(name, names[i]) == 0) {
			*type_out = (enum ol_kv_type)i;
			return true;
		}
	return false;
}
