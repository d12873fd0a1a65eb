/* A random adapter of the given rank and targets over a base, scale 2: for the oracles' tools. */
#include <stdio.h>
#include <stdlib.h>

#include "model/adapter.h"

static uint16_t *random_bf16(size_t count, uint64_t *state)
{
	uint16_t *bits = malloc(count * sizeof *bits);
	if (!bits)
		exit(1);
	for (size_t i = 0; i < count; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		bits[i] = ol_f32_to_bf16((float)(int32_t)(*state >> 32) * 0x1p-33f);
	}
	return bits;
}

static struct ol_adapter *random_adapter(const struct ol_config *c, int rank, uint32_t targets)
{
	const struct ol_adapter_config config = {
		.rank = rank, .alpha = 2.0f * (float)rank, .targets = targets};
	struct ol_lora_tensors *tensors = calloc((size_t)ol_linear_count(c), sizeof *tensors);
	struct ol_adapter *adapter = NULL;
	struct ol_error err = {0};
	uint64_t state = 7;
	for (int i = 0; tensors && i < c->layers * OL_LINEARS; i++) {
		const enum ol_linear linear = (enum ol_linear)(i % OL_LINEARS);
		const int layer = i / OL_LINEARS;
		int outputs, inputs;
		if (!(targets >> linear & 1) || (linear == OL_LINEAR_HEAD && layer > 0))
			continue;
		ol_linear_shape(c, linear, &outputs, &inputs);
		tensors[ol_linear_index(c, layer, linear)] = (struct ol_lora_tensors){
			.rank = rank,
			.scale = 2,
			.a = random_bf16((size_t)(rank * inputs), &state),
			.b = random_bf16((size_t)(rank * outputs), &state)};
	}
	if (!tensors || ol_adapter_make(&adapter, c, &config, tensors, &err) != OL_OK) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	for (int i = 0; i < ol_linear_count(c); i++) {
		free((void *)(uintptr_t)tensors[i].a);
		free((void *)(uintptr_t)tensors[i].b);
	}
	free(tensors);
	return adapter;
}
