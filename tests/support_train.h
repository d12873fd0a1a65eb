/* tests/support_train.h: what the tests of training share: the tiny models of tests/golden/models
 * with weights that can change, adapters by a formula, and gradients side by side with both. All
 * are flat arrays of canonical f32 rows, tensor after tensor, so that a test can step, compare and
 * print them without knowing what they are. */
#ifndef OL_TESTS_SUPPORT_TRAIN_H
#define OL_TESTS_SUPPORT_TRAIN_H

#include <jansson.h>

#include "model/layout.h"
#include "model/tape.h"
#include "tests/support.h"
#include "train/trainer.h"

enum { OL_GOLDEN_MODELS = 9, OL_GOLDEN_EXAMPLES = 5, OL_GOLDEN_PAIRS = 2, OL_GOLDEN_LENGTH = 48 };
extern const char *const ol_golden_models[OL_GOLDEN_MODELS];

/* One tensor of a flat array. */
struct ol_slice {
	char name[OL_TENSOR_NAME_MAX]; /* as in the golden files: "layers.0.q", "head.a", … */
	size_t start;
	int rows, cols;
	bool vector; /* a norm or a bias: never decayed */
	void *place; /* of its panels or floats         */
};

/* Imports tests/golden/models/NAME; the file is gone at once, its mapping stays. */
struct ol_model *ol_golden_model(const char *name, enum ol_weight_type type);

/* All the weights of a model, in f32. */
struct ol_plastic {
	struct ol_config config;
	struct ol_layout layout;
	struct ol_weights weights; /* what a tape reads: packed from `values` */
	struct ol_layer_weights *layers;
	uint8_t *data;
	float *values; /* (size) */
	size_t size;
	struct ol_slice *slices;
	int slice_count;
};
/* Of a model of any type, dequantised. */
void ol_plastic_init(struct ol_plastic *p, const struct ol_model *model);
void ol_plastic_release(struct ol_plastic *p);
void ol_plastic_pack(struct ol_plastic *p); /* after `values` have changed */

/* Gradients of all the weights, in the same order; a tied head's are apart until they are tied. */
struct ol_plastic_gradients {
	struct ol_weight_gradients tables; /* what a tape adds into */
	struct ol_layer_gradients *layers;
	float *values, *tied_head;
	size_t size, head_size;
};
void ol_plastic_gradients_init(struct ol_plastic_gradients *g, const struct ol_plastic *p);
void ol_plastic_gradients_clear(struct ol_plastic_gradients *g);
void ol_plastic_gradients_tie(struct ol_plastic_gradients *g); /* embed = tied head + embed */
void ol_plastic_gradients_release(struct ol_plastic_gradients *g);

/* An adapter on every linear and the head, with the A and B of weights_of_adapter in
 * make_training.py, and its gradients. */
struct ol_plastic_lora {
	struct ol_adapter_view view;
	struct ol_lora_view *views;
	struct ol_lora_gradient *gradients;
	uint8_t *data;
	float *values, *gradient_values; /* (size) */
	size_t size;
	struct ol_slice *slices;
	int slice_count;
};
void ol_plastic_lora_init(struct ol_plastic_lora *lora, const struct ol_config *config, int rank,
			  float alpha);
void ol_plastic_lora_release(struct ol_plastic_lora *lora);
void ol_plastic_lora_pack(struct ol_plastic_lora *lora);

/* tests/golden/training/NAME.json. */
struct ol_golden {
	json_t *root;
	int rank;
	float alpha;
	int32_t tokens[OL_GOLDEN_EXAMPLES + 2 * OL_GOLDEN_PAIRS][OL_GOLDEN_LENGTH];
	int32_t targets[OL_GOLDEN_EXAMPLES + 2 * OL_GOLDEN_PAIRS][OL_GOLDEN_LENGTH];
	/* Then the chosen and the rejected of each pair. */
	struct ol_sequence sequences[OL_GOLDEN_EXAMPLES + 2 * OL_GOLDEN_PAIRS];
	int answers[OL_GOLDEN_EXAMPLES + 2 * OL_GOLDEN_PAIRS]; /* rows that have a target */
};
void ol_golden_open(struct ol_golden *golden, const char *name);
void ol_golden_close(struct ol_golden *golden);
const json_t *ol_golden_get(const struct ol_golden *golden, const char *section, const char *key);

/* Nats and gradients of a step of `count` sequences whose loss is (sum of nats) / (all answers).
 * per_pass sequences go into a micro-batch. nats (count; may be NULL). */
struct ol_step_request {
	const struct ol_sequence *sequences;
	int count, per_pass;
	const struct ol_adapter_view *adapter;
	struct ol_lora_gradient *lora;
	struct ol_weight_gradients *weights;
	const double *weights_of; /* of each sequence's rows; NULL: 1 / all answers */
	double *nats;
};
double ol_step_run(struct ol_tape *tape, const struct ol_step_request *request); /* the loss */

/* For a trainer: 30 examples, so that a step s of three takes the golden ones s, s + 1 and s + 2
 * modulo 5; or the pairs. */
enum { OL_GOLDEN_STEPS = 10, OL_GOLDEN_BATCH = 3 };
struct ol_golden_data {
	struct ol_example examples[OL_GOLDEN_STEPS * OL_GOLDEN_BATCH];
	char ids[OL_GOLDEN_STEPS * OL_GOLDEN_BATCH][24];
	struct ol_examples list;
};
void ol_golden_data_make(struct ol_golden_data *data, const struct ol_golden *golden, bool pairs);
/* Every number of it, but for the learning rate (1e-2) and the weight decay (0), is that of
 * make_training.py. */
struct ol_train_config ol_golden_config(const struct ol_golden *golden, enum ol_train_method method,
					const struct ol_config *base);

/* Largest difference between a gradient and the golden one, as a share: entries of the tensor's
 * largest, norm and sum of its norm. Infinite where something is missing. */
double ol_golden_difference(const json_t *gradients, const struct ol_slice *slices, int count,
			    const float *values, const char **worst_name);
double ol_norm(const float *x, size_t n);

#endif
