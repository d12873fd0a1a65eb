/* Any bytes as a .safetensors file: read or refused, never outside of them. */
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_source_list list = {0};
	struct ol_error err;
	unsigned sum = 0;
	if (ol_safetensors_read(&list, data, size, "fuzz", &err) == OL_OK &&
	    ol_source_list_sort(&list, &err) == OL_OK) {
		for (size_t i = 0; i < list.count; i++) {
			const struct ol_source_tensor *t = &list.items[i];
			OL_ASSERT(ol_source_list_find(&list, t->name) == t);
			for (uint64_t b = 0; b < t->bytes; b++)
				sum += t->data[b];
		}
	} else {
		OL_ASSERT(err.text[0] != '\0' && !strchr(err.text, '\n'));
	}
	ol_source_list_release(&list);
	return sum == 0xffffffff; /* always 0: the sum keeps the reads */
}
