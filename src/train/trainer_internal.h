/* train/trainer_internal.h, floor 3: the inside of an ol_trainer.
 *
 *     trainer.c          life, steps
 *     trainer_step.c     micro-batches: rows, weights, losses; preference pairs
 *     trainer_weights.c  tensors <-> what the tape reads (panels) and writes (gradients)
 *     trainer_state.c    evaluation, checkpoints, what is published */
#ifndef OL_TRAIN_TRAINER_INTERNAL_H
#define OL_TRAIN_TRAINER_INTERNAL_H

#include "model/model_convert.h"
#include "train/checkpoint.h"
#include "train/plan.h"

/* A unit is what stays together in a micro-batch: an example, or a preference's two answers. */
struct ol_unit {
	uint32_t example;
	int rows;
};

struct ol_best_state {
	int step; /* 0: none */
	double loss;
	int evaluations, stale; /* in all, and since the best */
	void *values;           /* bf16 (adapters) or f32 (full), tensor after tensor */
	size_t bytes;
};

struct ol_trainer {
	struct ol_train_config config;
	const struct ol_model *base;
	struct ol_model *converted; /* qlora's own base      */
	struct ol_model *weights;   /* full: f32, repacked after every step */
	const struct ol_config *c;
	const struct ol_adapter *start;
	const struct ol_kernels *kernels;
	const struct ol_gradients *gradients;
	const char *folder;

	struct ol_example *examples;
	uint64_t *keys;
	size_t count;
	uint8_t snapshot[OL_SHA256_BYTES], tokens[OL_SHA256_BYTES];
	struct ol_plan plan;

	struct ol_tape *tape;
	struct ol_pool *pool; /* the tape's */
	struct ol_train_shape shape;

	struct ol_params params;
	struct ol_optimizer optimizer;
	/* Adapters: what the tape reads and writes, by ol_linear_index. */
	struct ol_lora_view *views;
	struct ol_adapter_view view;
	struct ol_lora_gradient *lora;
	uint8_t *panels;
	size_t panels_bytes;
	/* Full: gradients by place. A tied head's own, and the layers' table. */
	struct ol_weight_gradients weight_gradients;
	float *head_gradient;
	size_t head_floats;

	/* Scratch of a step. */
	uint32_t *batch;
	struct ol_unit *units;
	int *unit_rows;
	struct ol_sequence *sequences;
	float *row_weights, *row_losses;
	double *nats; /* (batch, 2) of the step's units: answer, rejected answer */

	double *reference; /* dpo: (count, 2) nats under the reference; NaN: not yet known */
	float *example_losses;
	int step; /* done */
	struct ol_best_state best;
	bool stopped; /* patience is out */
	bool broken;  /* a step failed half way */
	struct ol_error notice;
};

/* ---- trainer_weights.c ---- */
OL_MUST_CHECK enum ol_status ol_trainer_make_weights(struct ol_trainer *t, struct ol_error *err);
void ol_trainer_release_weights(struct ol_trainer *t);
/* Masters into the panels that the tape reads. */
void ol_trainer_pack(struct ol_trainer *t);
/* Adds what is apart only in the tape (a tied head). After the last micro-batch of a step. */
void ol_trainer_join_gradients(struct ol_trainer *t);
/* An adapter out of bf16 values (NULL: of the masters now). */
OL_MUST_CHECK enum ol_status ol_trainer_make_adapter(const struct ol_trainer *t,
						     const uint16_t *values,
						     struct ol_adapter **adapter_out,
						     struct ol_error *err);
float ol_trainer_scale(const struct ol_train_config *config);
static inline bool ol_trainer_adapts(const struct ol_trainer *t)
{
	return t->config.method != OL_TRAIN_FULL;
}

/* ---- trainer_step.c ---- */
/* Forward and backward of the batch's examples, gradients added up. Fills nats and the report's
 * loss, counts, dpo numbers. */
OL_MUST_CHECK enum ol_status ol_trainer_accumulate(struct ol_trainer *t, int examples,
						   struct ol_step_report *report,
						   struct ol_error *err);
/* Nats of sequences, one sum per sequence. */
OL_MUST_CHECK enum ol_status ol_sequence_nats(struct ol_tape *tape, int rows_max,
					      const struct ol_adapter_view *adapter,
					      const struct ol_sequence *const *sequences,
					      size_t count, double *nats, struct ol_error *err);
/* Reference nats of these examples, computed where not known. */
OL_MUST_CHECK enum ol_status ol_trainer_reference(struct ol_trainer *t, const uint32_t *examples,
						  size_t count, struct ol_error *err);
/* -log sigmoid(z), and sigmoid(-z). */
double ol_preference_loss(double z, double *slope_out);

/* ---- trainer_state.c ---- */
/* After a step: the evaluation of the plan, if one is due. */
OL_MUST_CHECK enum ol_status ol_trainer_evaluate_if_due(struct ol_trainer *t,
							struct ol_step_report *report,
							struct ol_error *err);
/* Finds and loads the newest whole checkpoint of the folder. */
OL_MUST_CHECK enum ol_status ol_trainer_resume(struct ol_trainer *t, struct ol_error *err);
/* Refuses a folder that holds checkpoints. */
OL_MUST_CHECK enum ol_status ol_trainer_expect_empty(const struct ol_trainer *t,
						     struct ol_error *err);

#endif
