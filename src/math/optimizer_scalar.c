/* math/optimizer_scalar.c: the specification of the loss, of dropout and of the optimiser's step
 * (docs/ARITHMETIC.md, "Training"). */
#include <math.h>

#include "math/functions.h"
#include "math/gradients_internal.h"

enum { LANES = 16 };

float ol_cross_entropy_scalar(float *dlogits, const float *logits, int n, int target, float weight)
{
	OL_ASSERT(target >= 0 && target < n);
	float max = -INFINITY, lane[LANES];
	for (int i = 0; i < LANES; i++)
		lane[i] = -INFINITY;
	for (int i = 0; i < n; i++)
		lane[i % LANES] = lane[i % LANES] > logits[i] ? lane[i % LANES] : logits[i];
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
	max = lane[0];

	for (int i = 0; i < LANES; i++)
		lane[i] = 0.0f;
	for (int i = 0; i < n; i++)
		lane[i % LANES] += ol_expf(logits[i] - max);
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	const float sum = lane[0], inverse = 1.0f / sum;
	const float loss = ol_logf(sum) - (logits[target] - max);

	if (dlogits)
		for (int i = 0; i < n; i++) {
			const float p = ol_expf(logits[i] - max) * inverse;
			dlogits[i] = weight * (i == target ? p - 1.0f : p);
		}
	return loss;
}

void ol_dropout_scalar(float *y, const float *x, const struct ol_dropout *key, uint64_t example,
		       uint32_t position, int n)
{
	const uint32_t seed[2] = {(uint32_t)key->seed, (uint32_t)(key->seed >> 32)};
	const uint32_t place[4] = {OL_PURPOSE_DROPOUT, key->step,
				   key->layer << 16 | (key->module & 0xffff), position};
	const float kept = 1.0f / (1.0f - key->rate);
	uint32_t row[4], word[4];

	ol_philox(row, place, seed);
	for (int i = 0; i < n; i++) {
		if (i % 4 == 0) {
			const uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)example,
						     (uint32_t)(example >> 32), row[2]};
			ol_philox(word, counter, row);
		}
		y[i] = ol_unit_double(word[i % 4]) < (double)key->rate ? 0.0f : x[i] * kept;
	}
}

double ol_sum_squares_scalar(const float *x, size_t n)
{
	double lane[LANES] = {0};
	for (size_t i = 0; i < n; i++)
		lane[i % LANES] += (double)x[i] * (double)x[i];
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

void ol_adamw_scalar(float *w, float *m, float *v, const float *g, size_t n,
		     const struct ol_adamw *s)
{
	const float rest1 = 1.0f - s->beta1, rest2 = 1.0f - s->beta2;

	for (size_t i = 0; i < n; i++) {
		const float d = g[i] * s->grad_scale;
		m[i] = fmaf(s->beta1, m[i], rest1 * d);
		v[i] = fmaf(s->beta2, v[i], (rest2 * d) * d);
		const float size = sqrtf(v[i] / s->correction2) + s->eps;
		const float step = (m[i] / s->correction1) / size;
		w[i] = fmaf(-s->learning_rate, fmaf(s->weight_decay, w[i], step), w[i]);
	}
}
