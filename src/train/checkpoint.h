/* train/checkpoint.h, floor 3: the whole state of a run in one file (docs/FORMATS.md,
 * "Checkpoints").
 *
 *     header 256 | config text | tensor directory | values, moments | example losses | best state
 *
 * A checkpoint is written all or nothing, carries a checksum over every byte, and says of which
 * base, data and config it is the state. Nothing in a file is trusted. */
#ifndef OL_TRAIN_CHECKPOINT_H
#define OL_TRAIN_CHECKPOINT_H

#include <limits.h>

#include "base/file.h"
#include "model/model.h"
#include "train/optimizer.h"
#include "train/trainer.h"

#define OL_CHECKPOINT_MAGIC "OLTRAIN\n"
enum { OL_CHECKPOINT_VERSION = 1 };

/* Append-only: the numbers are on disk. */
enum ol_best_type { OL_BEST_NONE = 0, OL_BEST_BF16 = 1, OL_BEST_F32 = 2 };

struct ol_checkpoint_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t step; /* done */
	char arithmetic[32];
	uint8_t base[OL_MODEL_ID_BYTES];
	uint8_t snapshot[OL_SHA256_BYTES];
	uint8_t tokens[OL_SHA256_BYTES]; /* of the examples as the model sees them */
	uint64_t file_bytes;
	uint64_t example_count;
	uint32_t config_bytes, tensor_count;
	double beta1_power, beta2_power;
	double best_loss;
	uint32_t best_type, best_step;
	uint32_t evaluations, stale; /* in all, and since the best */
	uint8_t reserved[16];        /* zero                         */
	uint8_t checksum[OL_SHA256_BYTES];
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checkpoints are mapped as they are");
_Static_assert(sizeof(struct ol_checkpoint_header) == 256, "checkpoint v1");
_Static_assert(offsetof(struct ol_checkpoint_header, file_bytes) == 144, "checkpoint v1");
_Static_assert(offsetof(struct ol_checkpoint_header, checksum) == 224, "checkpoint v1");

struct ol_checkpoint_tensor {
	char name[OL_PARAM_NAME_MAX]; /* NUL-padded; entries ascend by name */
	int32_t rows, cols;
	uint32_t trained; /* 1: with moments */
	uint32_t reserved;
};
_Static_assert(sizeof(struct ol_checkpoint_tensor) == 80, "checkpoint v1");

/* What there is to write: the header's base, snapshot, tokens, counts and numbers filled in by the
 * caller, sizes, version and checksum not. best: the tensors' values one after another, in the
 * header's type. */
struct ol_checkpoint_source {
	struct ol_checkpoint_header header;
	const struct ol_train_config *config;
	const struct ol_params *params;
	const float *example_losses;
	const void *best;
};
OL_MUST_CHECK enum ol_status ol_checkpoint_write(const char *path,
						 const struct ol_checkpoint_source *source,
						 struct ol_error *err);

/* One read: pointers into the bytes. */
struct ol_checkpoint {
	struct ol_map map;
	const struct ol_checkpoint_header *header;
	struct ol_train_config config;
	const struct ol_checkpoint_tensor *tensors;
	const float *state; /* per tensor: values, then if trained first and second moments */
	const float *example_losses;
	const void *best;
};
/* OL_ERR_INPUT: damaged; OL_ERR_UNSUPPORTED: another version. */
OL_MUST_CHECK enum ol_status ol_checkpoint_open(struct ol_checkpoint *checkpoint, const char *path,
						struct ol_error *err);
void ol_checkpoint_close(struct ol_checkpoint *checkpoint);
/* Over bytes in memory, aligned as a mapping is (for the fuzzer); nothing to close. */
OL_MUST_CHECK enum ol_status ol_checkpoint_parse(struct ol_checkpoint *checkpoint,
						 const uint8_t *bytes, size_t size,
						 const char *path, struct ol_error *err);
void ol_checkpoint_checksum(uint8_t out[OL_SHA256_BYTES], const uint8_t *bytes, size_t size);

/* ---- A folder of checkpoints: step-00000120.checkpoint ------------------------------------- */

struct ol_checkpoint_list {
	int *steps; /* descending */
	int count;
};
/* A folder that is not there holds none. */
OL_MUST_CHECK enum ol_status ol_checkpoint_list(struct ol_checkpoint_list *list, const char *folder,
						struct ol_error *err);
void ol_checkpoint_list_release(struct ol_checkpoint_list *list);
OL_MUST_CHECK enum ol_status ol_checkpoint_path(char path[PATH_MAX], const char *folder, int step,
						struct ol_error *err);
/* Keeps the newest `keep` up to `step`, and that of best_step (0: none); deletes the others, those
 * beyond `step` (damaged, or the run would stand there), and what killed processes left half
 * written. Best effort: what cannot be deleted stays. */
void ol_checkpoint_prune(const char *folder, int keep, int step, int best_step);

#endif
