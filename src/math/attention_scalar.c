/* math/attention_scalar.c: the specification of attention (docs/ARITHMETIC.md, "Attention"). */
#include <math.h>

#include "math/functions.h"
#include "math/kernels_internal.h"

enum { LANES = OL_KV_PAGE };

static float page_value(const void *page, enum ol_kv_type type, size_t index)
{
	return type == OL_KV_BF16 ? ol_bf16_to_f32(((const uint16_t *)page)[index])
				  : ((const float *)page)[index];
}

static void page_put(void *page, enum ol_kv_type type, size_t index, float x)
{
	if (type == OL_KV_BF16)
		((uint16_t *)page)[index] = ol_f32_to_bf16(x);
	else
		((float *)page)[index] = x;
}

void ol_kv_store_scalar(void *page_k, void *page_v, enum ol_kv_type type, int lane, const float *k,
			const float *v, int d)
{
	for (int i = 0; i < d; i++) {
		page_put(page_k, type, (size_t)i * LANES + (size_t)lane, k[i]);
		page_put(page_v, type, (size_t)lane * (size_t)d + (size_t)i, v[i]);
	}
}

size_t ol_attention_scratch_scalar(const struct ol_attention *a, int pos0, int rows)
{
	(void)a;
	return (size_t)pos0 + (size_t)rows; /* the scores of one query */
}

/* One query head at position t: keys first .. t are visible; `score` is indexed by position. */
static void attend(float *out, const float *q, const struct ol_attention *a,
		   const void *const *pages, size_t k_offset, size_t v_offset, int t, float *score)
{
	const int d = a->head_dim;
	const int first = a->window > 0 ? OL_MAX(0, t - a->window + 1) : 0;

	float max = -INFINITY;
	for (int j = first; j <= t; j++) {
		const void *k = (const char *)pages[j / LANES] + k_offset;
		float c = 0.0f;
		for (int i = 0; i < d; i++)
			c = fmaf(q[i], page_value(k, a->kv_type, (size_t)(i * LANES + j % LANES)),
				 c);
		float s = c * a->scale;
		if (a->softcap > 0.0f)
			s = a->softcap * ol_tanhf(s / a->softcap);
		score[j] = s;
		max = max > s ? max : s;
	}

	float lane[LANES] = {0};
	for (int j = first; j <= t; j++) {
		score[j] = ol_expf(score[j] - max);
		lane[j % LANES] += score[j];
	}
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];

	for (int i = 0; i < d; i++) {
		float o = 0.0f;
		for (int j = first; j <= t; j++) {
			const void *v = (const char *)pages[j / LANES] + v_offset;
			o = fmaf(score[j], page_value(v, a->kv_type, (size_t)(j % LANES * d + i)),
				 o);
		}
		out[i] = o / lane[0];
	}
}

void ol_attention_scalar(float *out, size_t out_stride, const float *q, size_t q_stride,
			 const struct ol_attention *a, const void *const *pages, size_t k_offset,
			 size_t v_offset, int pos0, int rows, float *scratch)
{
	for (int row = 0; row < rows; row++)
		for (int g = 0; g < a->group; g++) {
			const size_t head = (size_t)g * (size_t)a->head_dim;
			attend(out + (size_t)row * out_stride + head,
			       q + (size_t)row * q_stride + head, a, pages, k_offset, v_offset,
			       pos0 + row, scratch);
		}
}
