/* train/trainer.h, floor 3: a training run.
 *
 * A run is a pure function of (base, data snapshot, config): the adapter's bytes do not depend on
 * threads, instruction set, micro-batches, or on being stopped and resumed
 * (docs/ARITHMETIC.md, "Training").
 *
 *     plan:  the examples of every step, from the seed        (plan.h)
 *     step:  micro-batches through the tape -> gradients -> clip -> AdamW (optimizer.h)
 *     now and then: evaluation, a checkpoint (checkpoint.h)
 *
 * A trainer belongs to one thread; it prints nothing and knows no folder but the one given to it.
 */
#ifndef OL_TRAIN_TRAINER_H
#define OL_TRAIN_TRAINER_H

#include "model/adapter.h"
#include "model/tape.h"
#include "train/dataset.h"

/* Append-only: the numbers are in checkpoints. */
enum ol_train_method { OL_TRAIN_LORA = 0, OL_TRAIN_QLORA = 1, OL_TRAIN_FULL = 2, OL_TRAIN_DPO = 3 };
enum ol_schedule { OL_SCHEDULE_CONSTANT = 0, OL_SCHEDULE_LINEAR = 1, OL_SCHEDULE_COSINE = 2 };

/* Everything that the result depends on beside base and data. Written canonically into checkpoint
 * and manifest; zero-initialised by nobody: ol_train_defaults. */
struct ol_train_config {
	enum ol_train_method method;
	/* LoRA */
	int rank;
	float alpha;
	bool rslora;
	uint32_t targets;   /* bits 1 << ol_linear                                            */
	bool attributable;  /* A stays as the public seed gives it; only B is trained          */
	uint64_t init_seed; /* of A; public, the same for every run unless chosen              */
	float dropout;
	enum ol_weight_type base_type; /* what the frozen base runs in: qlora nf4 or q8           */
	/* optimisation */
	float learning_rate, beta1, beta2, eps, weight_decay, clip_norm; /* clip 0: off           */
	enum ol_schedule schedule;
	int warmup;           /* steps                                                           */
	float final_fraction; /* of the learning rate, at the schedule's end                     */
	int steps;            /* of the optimiser, in all                                        */
	int batch;            /* examples a step                                                 */
	int max_length;
	uint64_t seed; /* order of examples, split, dropout                               */
	/* evaluation */
	float eval_fraction; /* of the examples, held out by hash of their ids                  */
	int eval_every;      /* steps; 0: only at the end                                       */
	int patience;        /* evaluations without improvement before stopping; 0: never       */
	/* preference tuning (Rafailov et al., 2023): reference = the same base without adapter   */
	float dpo_beta;
};

/* Defaults that give a good adapter for this base and these data. epochs: used for steps. */
void ol_train_defaults(struct ol_train_config *config, enum ol_train_method method,
		       const struct ol_config *base, size_t examples, double epochs);
/* Every number in its range; the error names the option. */
OL_MUST_CHECK enum ol_status ol_train_config_check(const struct ol_train_config *config,
						   const struct ol_config *base,
						   struct ol_error *err);
/* Canonical text, one "key value" line each, floats as hexadecimal; and back. */
bool ol_train_config_write(struct ol_buf *text, const struct ol_train_config *config);
OL_MUST_CHECK enum ol_status ol_train_config_read(struct ol_train_config *config, const char *text,
						  size_t size, struct ol_error *err);

/* How it is run; none of this reaches the result. */
struct ol_train_options {
	const struct ol_kernels *kernels; /* NULL: the best */
	int threads;                      /* 0: all         */
	size_t memory_max;                /* bytes for activations; 0: choose; decides micro-batch
					   * and recomputation                              */
	const char *folder; /* checkpoints go here; NULL: none are written                  */
	bool resume;        /* from the last whole checkpoint in `folder`, if there is one   */
};

struct ol_trainer;

/* Borrows all. With resume, a checkpoint of another base, snapshot or config is refused, naming
 * what differs. */
OL_MUST_CHECK enum ol_status ol_trainer_open(struct ol_trainer **trainer_out,
					     const struct ol_model *base,
					     const struct ol_dataset *dataset,
					     const struct ol_train_config *config,
					     const struct ol_train_options *options,
					     struct ol_error *err);
void ol_trainer_close(struct ol_trainer *trainer);

struct ol_step_report {
	int step;    /* just done, from 1 */
	double loss; /* nats per answer token */
	float learning_rate;
	double gradient_norm; /* before clipping */
	int examples, tokens, answer_tokens;
	double seconds;
	double dpo_accuracy, dpo_margin; /* of preference tuning */
};
/* One optimiser step. OL_ERR_INPUT: the run diverges (the sentence names step and example). */
OL_MUST_CHECK enum ol_status ol_trainer_step(struct ol_trainer *trainer,
					     struct ol_step_report *report, struct ol_error *err);
int ol_trainer_steps_done(const struct ol_trainer *trainer);
bool ol_trainer_finished(const struct ol_trainer *trainer); /* all steps, or patience is out */

/* Losses of examples under the current state, as published (bf16): on the held-out examples, or on
 * all those of `indices`. per_example (count; may be NULL): nats of the answer. */
struct ol_evaluation {
	double loss, perplexity; /* per answer token */
	double nats_per_byte;
	uint64_t tokens;
	size_t examples;
	bool best; /* so far */
};
OL_MUST_CHECK enum ol_status ol_trainer_evaluate(struct ol_trainer *trainer,
						 struct ol_evaluation *evaluation,
						 struct ol_error *err);
/* The last loss of each example of the dataset while it trained (nats per answer token; NaN: not
 * seen), for attribution and data review. */
const float *ol_trainer_example_losses(const struct ol_trainer *trainer);

/* Writes a checkpoint now, all or nothing; the last two and the best are kept. */
OL_MUST_CHECK enum ol_status ol_trainer_save(struct ol_trainer *trainer, struct ol_error *err);
/* What would be published: bf16, of the best evaluation if there were any, else of now. */
OL_MUST_CHECK enum ol_status ol_trainer_adapter(const struct ol_trainer *trainer,
						struct ol_adapter **adapter_out,
						struct ol_error *err);
/* Full training: the trained weights as a model file of the given type. texts as in the base. */
OL_MUST_CHECK enum ol_status ol_trainer_write_model(const struct ol_trainer *trainer,
						    const char *path, enum ol_weight_type type,
						    struct ol_error *err);

#endif
