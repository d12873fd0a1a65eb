/* Any bytes as a checkpoint. The size and the checksum are made right first, or nothing behind them
 * would ever be reached. */
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *bytes, size_t size)
{
	const uint64_t file_bytes = size;
	if (size < sizeof(struct ol_checkpoint_header))
		return;
	memcpy(bytes + offsetof(struct ol_checkpoint_header, file_bytes), &file_bytes,
	       sizeof file_bytes);
	ol_checkpoint_checksum(bytes + offsetof(struct ol_checkpoint_header, checksum), bytes,
			       size);
}

/* Reads everything that the checkpoint says it has. */
static double sum_all(const struct ol_checkpoint *c)
{
	double sum = 0;
	const float *state = c->state;
	size_t values = 0;
	for (uint32_t i = 0; i < c->header->tensor_count; i++) {
		const size_t count = (size_t)c->tensors[i].rows * (size_t)c->tensors[i].cols;
		const size_t kept = count * (c->tensors[i].trained ? 3 : 1);
		for (size_t k = 0; k < kept; k++)
			sum += (double)state[k];
		state += kept;
		values += count;
	}
	for (uint64_t i = 0; i < c->header->example_count; i++)
		sum += (double)c->example_losses[i];
	const size_t width = c->header->best_type == OL_BEST_F32    ? 4
			     : c->header->best_type == OL_BEST_BF16 ? 2
								    : 0;
	for (size_t i = 0; i < values * width; i++)
		sum += ((const uint8_t *)c->best)[i];
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_checkpoint checkpoint;
	struct ol_error err;
	static volatile double sink;
	void *block;
	if (posix_memalign(&block, 64, size ? size : 1) != 0)
		return 0;
	uint8_t *bytes = block;
	if (size)
		memcpy(bytes, data, size);
	seal(bytes, size);
	if (ol_checkpoint_parse(&checkpoint, bytes, size, "fuzz", &err) == OL_OK)
		sink = sum_all(&checkpoint);
	else
		OL_ASSERT(err.text[0] != '\0' && !strchr(err.text, '\n'));
	(void)sink;
	free(bytes);
	return 0;
}
