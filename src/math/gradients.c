/* math/gradients.c: the tables of backward kernels; a machine runs those whose forward kernels it
 * runs. */
#include "math/gradients.h"

#include "math/gradients_internal.h"

#define TABLE(ISA, isa_)                                                                           \
	{                                                                                          \
		.isa = ISA, .matmul_dx = ol_matmul_dx_##isa_,                                      \
		.matmul_dx_scratch = ol_matmul_dx_scratch_##isa_,                                  \
		.matmul_dw = ol_matmul_dw_##isa_, .rmsnorm_dx = ol_rmsnorm_dx_##isa_,              \
		.rmsnorm_dw = ol_rmsnorm_dw_##isa_, .silu_mul_dx = ol_silu_mul_dx_##isa_,          \
		.gelu_mul_dx = ol_gelu_mul_dx_##isa_, .softcap_dx = ol_softcap_dx_##isa_,          \
		.scale = ol_scale_##isa_, .sum_rows = ol_sum_rows_##isa_,                          \
		.attention_dx = ol_attention_dx_##isa_,                                            \
		.attention_dx_scratch = ol_attention_dx_scratch_##isa_,                            \
		.cross_entropy = ol_cross_entropy_##isa_, .dropout = ol_dropout_##isa_,            \
		.sum_squares = ol_sum_squares_##isa_, .adamw = ol_adamw_##isa_,                    \
	}

static const struct ol_gradients tables[OL_ISAS] = {
	[OL_ISA_SCALAR] = TABLE(OL_ISA_SCALAR, scalar),
#if defined(__x86_64__)
	[OL_ISA_AVX2] = TABLE(OL_ISA_AVX2, avx2),
	[OL_ISA_AVX512] = TABLE(OL_ISA_AVX512, avx512),
#elif defined(__aarch64__)
	[OL_ISA_NEON] = TABLE(OL_ISA_NEON, neon),
#endif
};

const struct ol_gradients *ol_gradients_for(enum ol_isa isa)
{
	return ol_kernels_for(isa) ? &tables[isa] : NULL;
}
