/* model/import_internal.h, floor 2: what import from folders and from GGUF files share.
 *
 * A plan says, for every tensor of the layout, which source tensor it comes from; running it
 * streams rows from the mapped files through quantisation into the model file. */
#ifndef OL_MODEL_IMPORT_INTERNAL_H
#define OL_MODEL_IMPORT_INTERNAL_H

#include "base/buf.h"
#include "base/file.h"
#include "model/model_file.h"
#include "model/source.h"

enum { OL_SOURCE_NAME_MAX = 128 };

struct ol_import_slot {
	const struct ol_source_tensor *source;
	float add;        /* 1 for the norms of Gemma in safetensors, which stores w - 1       */
	int32_t head_dim; /* not 0: the rows of each head are interleaved for rope and go back
			   * to halves: ours i < d/2 is theirs 2i, ours i + d/2 is theirs 2i+1   */
};

struct ol_import_plan {
	const char *path; /* of the whole source */
	struct ol_config config;
	struct ol_source_list list;
	struct ol_layout layout;
	struct ol_import_slot *slots; /* one per tensor of the layout */
	struct ol_buf text_bytes[OL_TEXTS_MAX];
	const char *text_names[OL_TEXTS_MAX]; /* static texts */
	int text_count;
	float *row; /* one row, the widest */
};

void ol_import_plan_init(struct ol_import_plan *plan, const char *path);
void ol_import_plan_release(struct ol_import_plan *plan);

/* Keeps a text with the model; a name that is already there is left as it is. */
OL_MUST_CHECK enum ol_status ol_import_keep(struct ol_import_plan *plan, const char *name,
					    const void *bytes, size_t size, struct ol_error *err);

/* Decides config.tied_embeddings by what the file holds; *embed_name and *head_name are the names
 * there, and *embed_name becomes *head_name where the tied matrix is stored under that alone. A
 * tied model that stores the head as well must store the same values. */
OL_MUST_CHECK enum ol_status ol_import_tie(struct ol_import_plan *plan, const char **embed_name,
					   const char *head_name, struct ol_error *err);

/* The source name of a tensor, into out (OL_SOURCE_NAME_MAX), and how to read it. */
typedef void ol_import_name_fn(void *context, char *out, struct ol_import_slot *slot,
			       const struct ol_tensor *tensor);
/* Fills the slots: every tensor is there, once, in the right shape and a known type, and nothing is
 * left over but what `ignored` says may be. config must be checked. */
OL_MUST_CHECK enum ol_status ol_import_map(struct ol_import_plan *plan, enum ol_weight_type type,
					   ol_import_name_fn *name, void *context,
					   bool (*ignored)(const char *name), struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_import_run(struct ol_import_plan *plan, const char *output,
					   const struct ol_import_options *options,
					   struct ol_error *err);

OL_MUST_CHECK enum ol_status ol_import_folder(const char *output, const char *path,
					      const struct ol_import_options *options,
					      struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_import_gguf(const char *output, const char *path,
					    const struct ol_import_options *options,
					    struct ol_error *err);
/* What a Hugging Face folder calls a tensor, and what GGUF does. */
void ol_folder_tensor_name(char *out, size_t room, const struct ol_tensor *tensor, bool gemma);
void ol_gguf_tensor_name(char *out, size_t room, const struct ol_tensor *tensor);

#endif
