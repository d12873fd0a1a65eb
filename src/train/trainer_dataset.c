/* Training over a dataset. */
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

enum ol_status ol_trainer_open(struct ol_trainer **trainer_out, const struct ol_model *base,
			       const struct ol_dataset *dataset,
			       const struct ol_train_config *config,
			       const struct ol_train_options *options, struct ol_error *err)
{
	struct ol_examples examples = {.count = ol_dataset_count(dataset)};
	struct ol_example *at = calloc(examples.count + 1, sizeof *at);
	if (!at)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu examples", examples.count);
	for (size_t i = 0; i < examples.count; i++)
		at[i] = *ol_dataset_at(dataset, i);
	examples.at = at;
	memcpy(examples.snapshot, ol_dataset_sha256(dataset), sizeof examples.snapshot);
	const enum ol_status s =
		ol_trainer_open_examples(trainer_out, base, &examples, config, options, err);
	free(at);
	return s;
}
