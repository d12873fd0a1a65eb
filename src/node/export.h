/* node/export.h, floor 4: handing out what a node has, in other programs' formats.
 *
 *     an adapter   peft                 a folder; its manifest and card go with it
 *                  gguf                 a file that llama.cpp loads over the base's GGUF
 *                  merged-safetensors   base and adapter as one model: a Hugging Face folder
 *                  merged-gguf          the same as a GGUF file
 *     a model      safetensors, gguf
 *
 * What the terms of an adapter's data forbid is refused, naming the source. */
#ifndef OL_NODE_EXPORT_H
#define OL_NODE_EXPORT_H

#include "math/matrix.h"
#include "node/home.h"

enum ol_export_format {
	OL_EXPORT_PEFT,
	OL_EXPORT_GGUF,
	OL_EXPORT_SAFETENSORS,
	OL_EXPORT_MERGED_SAFETENSORS,
	OL_EXPORT_MERGED_GGUF
};
enum { OL_EXPORT_FORMATS = 5 };
const char *ol_export_format_name(enum ol_export_format format); /* "peft", … "merged-gguf" */
OL_MUST_CHECK bool ol_export_format_parse(enum ol_export_format *format_out, const char *name);

struct ol_export_request {
	const char *name; /* an adapter or a model; where both are, what the format fits, else
			   * the model */
	enum ol_export_format format;
	const char *output;
	const char *base; /* of an adapter; NULL: found */
	/* Of a merged model's matrices; given false: f32 where the base is f32, else bf16. */
	enum ol_weight_type weights;
	bool weights_given;
	bool replace;
};

/* A file or a folder at `output`. A file that is there is refused unless `replace`, and so is a
 * folder with something in it. */
OL_MUST_CHECK enum ol_status ol_export(const struct ol_home *home,
				       const struct ol_export_request *request,
				       struct ol_error *err);

#endif
