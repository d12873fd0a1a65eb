#include "model/embedding.h"

#include <math.h>

enum { LANES = 16 };

void ol_embedding_add(float *sum, const struct ol_kernels *kernels, const float *hidden, int count,
		      int n)
{
	for (int i = 0; i < count; i++)
		kernels->add(sum, hidden + (size_t)i * (size_t)n, n);
}

void ol_embedding_finish(float *sum, int count, int n)
{
	float lanes[LANES] = {0};
	OL_ASSERT(count > 0);
	for (int i = 0; i < n; i++) {
		sum[i] = sum[i] / (float)count;
		lanes[i % LANES] = fmaf(sum[i], sum[i], lanes[i % LANES]);
	}
	for (int half = LANES / 2; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			lanes[i] = lanes[i] + lanes[i + half];
	const float length = sqrtf(lanes[0]);
	for (int i = 0; i < n && length > 0.0f; i++)
		sum[i] = sum[i] / length;
}
