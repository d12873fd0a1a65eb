/* train/manifest.h, floor 3: what an adapter is made of, and by whom.
 *
 *     adapter_model.safetensors, adapter_config.json   what PEFT reads
 *     manifest.json                                    this: enough to train it again
 *     README.md                                        the model card, for people
 *
 * A manifest's text follows from its content (docs/FORMATS.md, "Manifest"), and all of it but the
 * member "run" (when, how fast, where the files lay) follows from base, data and config: who trains
 * again gets the same text. */
#ifndef OL_TRAIN_MANIFEST_H
#define OL_TRAIN_MANIFEST_H

#include "crypto/sha256.h"
#include "model/model.h"
#include "train/trainer.h"

enum { OL_MANIFEST_MAX = 64 << 20, OL_MANIFEST_TEXT_MAX = 4096 };

/* One data file. Texts are the manifest's own; NULL: not known. */
struct ol_manifest_source {
	char *file; /* its name without folders */
	char *path; /* as it was given; only in "run" */
	uint8_t sha256[OL_SHA256_BYTES];
	char *license, *attribution;
	bool train, export_, commercial; /* what its terms allow */
};
struct ol_manifest_contributor {
	char *name;
	uint64_t examples;
};

/* How well an adapter's scores foretell what retraining does (docs/ATTRIBUTION.md). NaN: not
 * measured. */
struct ol_manifest_fidelity {
	int subsets;  /* random subsets that were retrained; 0: nothing was measured */
	double alpha; /* part of the examples in each                                */
	double queries;
	double lds;     /* rank correlation, scores against retraining                 */
	double ceiling; /* one retraining against another: the best is about its root  */
	double removal; /* loss without the best examples over loss without random ones */
	double shapley; /* total variation between shares and exact Shapley values     */
};

struct ol_manifest {
	uint8_t adapter_sha256[OL_SHA256_BYTES];
	char base_name[256];
	uint8_t base_id[OL_MODEL_ID_BYTES];
	char arithmetic[32], code[128]; /* versions: of the contract, of this program */

	/* Trained here; an imported adapter has none of these. */
	bool trained;
	struct ol_train_config config;
	uint8_t snapshot_sha256[OL_SHA256_BYTES];
	uint64_t examples;
	bool loss_on_prompt, single_text; /* how the examples were cut (dataset.h) */
	enum ol_data_format format;       /* as it was asked for                   */
	struct ol_manifest_source *sources;
	size_t source_count;
	struct ol_manifest_contributor *contributors; /* ascending by name */
	size_t contributor_count;
	/* NaN: not measured. Nats per answer token, and per byte of the answers. */
	double train_loss, eval_loss, eval_perplexity, eval_nats_per_byte;

	/* Its attribution index, once there is one, and how faithful that is. */
	bool indexed;
	uint8_t index_root[OL_SHA256_BYTES];
	struct ol_manifest_fidelity fidelity;

	/* How it went: not a function of the above. */
	char created[24]; /* "2026-11-22T21:47:16Z" */
	double seconds, tokens_per_second;
};

/* Empty: this program's versions, NaN metrics. Release it whatever happened. */
void ol_manifest_init(struct ol_manifest *manifest);
void ol_manifest_release(struct ol_manifest *manifest);

/* created, from seconds since 1970. */
void ol_manifest_stamp(struct ol_manifest *manifest, int64_t seconds);
/* Both copy. A contributor that is there already gets the examples added. False: out of memory. */
OL_MUST_CHECK bool ol_manifest_add_contributor(struct ol_manifest *manifest, const char *name,
					       uint64_t examples);
OL_MUST_CHECK bool ol_manifest_add_source(struct ol_manifest *manifest,
					  const struct ol_manifest_source *source);
/* What a run knows of its data: the examples' contributors, the files with their hashes (read here)
 * and cards, the snapshot. Makes it a trained one; config and metrics are the caller's to fill. */
OL_MUST_CHECK enum ol_status ol_manifest_describe(struct ol_manifest *manifest,
						  const struct ol_records *records,
						  const struct ol_dataset *dataset,
						  struct ol_error *err);

/* Canonical JSON, and back. `where` is for messages. */
OL_MUST_CHECK bool ol_manifest_write(struct ol_buf *text, const struct ol_manifest *manifest);
OL_MUST_CHECK enum ol_status ol_manifest_read(struct ol_manifest *manifest, const char *text,
					      size_t size, const char *where, struct ol_error *err);

/* The first source whose terms forbid it, in a sentence that names it; OL_OK: none does. */
OL_MUST_CHECK enum ol_status ol_manifest_may_export(const struct ol_manifest *manifest,
						    struct ol_error *err);

/* README.md: YAML front matter as Hugging Face reads it, then words. */
OL_MUST_CHECK bool ol_manifest_card(struct ol_buf *text, const struct ol_manifest *manifest,
				    const char *name, const struct ol_adapter *adapter);

#endif
