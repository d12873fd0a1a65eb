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
#include "train/schedule.h"

/* Append-only: the numbers are in checkpoints. */
enum ol_train_method { OL_TRAIN_LORA = 0, OL_TRAIN_QLORA = 1, OL_TRAIN_FULL = 2, OL_TRAIN_DPO = 3 };
enum { OL_TRAIN_METHODS = 4 };
enum {
	OL_TRAIN_STEPS_MAX = 100000000,
	OL_TRAIN_BATCH_MAX = 1 << 16,
	OL_TRAIN_CONFIG_MAX = 1 << 14 /* bytes of the canonical text */
};
const char *ol_train_method_name(enum ol_train_method method); /* "lora", "qlora", "full", "dpo" */
OL_MUST_CHECK bool ol_train_method_parse(enum ol_train_method *method_out, const char *name);
/* The examples' way through an epoch: shuffled by the seed, or as the dataset has them. */
enum ol_train_order { OL_ORDER_SHUFFLED = 0, OL_ORDER_DATASET = 1 };

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
	bool from_scratch;  /* full: weights drawn by init_seed, not those of the base         */
	uint8_t start[OL_SHA256_BYTES]; /* the adapter that training goes on from; zeros: none */
	float dropout;
	enum ol_weight_type base_type; /* what the frozen base runs in: qlora nf4 or q8           */
	/* optimisation */
	float learning_rate, beta1, beta2, eps, weight_decay, clip_norm; /* clip 0: off           */
	enum ol_schedule schedule;
	int warmup;           /* steps                                                           */
	float final_fraction; /* of the learning rate, at the schedule's end                     */
	int steps;            /* of the optimiser, in all                                        */
	int batch;            /* examples (preference pairs) a step                              */
	enum ol_train_order order;
	int max_length;
	uint64_t seed; /* order of examples, split, dropout                               */
	/* evaluation */
	float eval_fraction; /* of the examples, held out by hash of their ids                  */
	int eval_every;      /* steps; 0: only at the end                                       */
	int patience;        /* evaluations without improvement before stopping; 0: never       */
	/* preference tuning (Rafailov et al., 2023): reference = the same base without adapter   */
	float dpo_beta;
};

/* Defaults that give a good adapter for this base and these data. epochs: used for steps; 0: by
 * the number of examples. */
void ol_train_defaults(struct ol_train_config *config, enum ol_train_method method,
		       const struct ol_config *base, size_t examples, double epochs);
/* The learning rate among them. Whoever sets `attributable` afterwards wants this one anew. */
float ol_train_default_rate(enum ol_train_method method, bool attributable,
			    const struct ol_config *base);
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
	int rows_max;  /* of a micro-batch; 0: by memory_max; raised to the longest example     */
	int recompute; /* 1: always, -1: never, 0: by memory_max                                */
	const char *folder; /* checkpoints go here; NULL: none are written                  */
	bool resume;        /* from the last whole checkpoint in `folder`, if there is one   */
	/* To go on from, of config.start's hash; NULL: A from its seed, B zero. Preference tuning
	 * takes it as the reference as well. */
	const struct ol_adapter *start;
};

struct ol_trainer;

/* Borrows base, dataset and start; opened over a base of another weight type, qlora makes its own.
 * With resume, a checkpoint of another base, snapshot or config is refused, naming what differs;
 * one that is damaged is passed over (ol_trainer_notice says so). Without resume a folder that
 * holds checkpoints is refused. */
OL_MUST_CHECK enum ol_status ol_trainer_open(struct ol_trainer **trainer_out,
					     const struct ol_model *base,
					     const struct ol_dataset *dataset,
					     const struct ol_train_config *config,
					     const struct ol_train_options *options,
					     struct ol_error *err);
/* The same with examples that come from elsewhere: copied, what they point to is borrowed. */
struct ol_examples {
	const struct ol_example *at;
	size_t count;
	uint8_t snapshot[OL_SHA256_BYTES];
};
OL_MUST_CHECK enum ol_status ol_trainer_open_examples(struct ol_trainer **trainer_out,
						      const struct ol_model *base,
						      const struct ol_examples *examples,
						      const struct ol_train_config *config,
						      const struct ol_train_options *options,
						      struct ol_error *err);
void ol_trainer_close(struct ol_trainer *trainer);

/* Losses under the state as it would be published (adapters in bf16; full training in f32). */
struct ol_evaluation {
	double loss, perplexity; /* per answer token */
	double nats_per_byte;
	uint64_t tokens; /* of answers */
	size_t examples;
	bool best; /* so far, of the evaluations of the plan */
	/* Preference pairs: how often the chosen answer gained more than the rejected one. */
	double dpo_accuracy, dpo_margin;
};

struct ol_step_report {
	int step;    /* just done, from 1 */
	double loss; /* nats per answer token; dpo: nats per pair */
	float learning_rate;
	double gradient_norm; /* before clipping */
	int examples, tokens, answer_tokens;
	double seconds;                  /* without the evaluation */
	double dpo_accuracy, dpo_margin; /* of preference tuning   */
	bool evaluated;                  /* the plan wanted an evaluation after this step */
	struct ol_evaluation evaluation;
};
/* One optimiser step, and the evaluation if one is due after it: when that is, and so which state
 * is the best, does not depend on the caller. OL_ERR_INPUT: the run diverges (the sentence names
 * step and example); the trainer can only be closed then. */
OL_MUST_CHECK enum ol_status ol_trainer_step(struct ol_trainer *trainer,
					     struct ol_step_report *report, struct ol_error *err);
int ol_trainer_steps_done(const struct ol_trainer *trainer);
bool ol_trainer_finished(const struct ol_trainer *trainer); /* all steps, or patience is out */
/* The config with what opening added to it (start). */
const struct ol_train_config *ol_trainer_config(const struct ol_trainer *trainer);
/* One sentence about a damaged checkpoint that was passed over; "" if there was none. */
const char *ol_trainer_notice(const struct ol_trainer *trainer);
/* The step of the best evaluation and its loss; 0: there was none. */
int ol_trainer_best(const struct ol_trainer *trainer, double *loss_out);
/* How the memory was cut. */
struct ol_train_shape {
	size_t train_examples, held_out_examples;
	int rows_max;
	bool recompute;
	size_t tape_bytes, state_bytes; /* activations; masters, moments, gradients and panels */
	uint64_t trained_parameters;
};
struct ol_train_shape ol_trainer_shape(const struct ol_trainer *trainer);

/* The held-out examples now, at any time; changes nothing. OL_ERR_NOT_FOUND: none is held out. */
OL_MUST_CHECK enum ol_status ol_trainer_evaluate(struct ol_trainer *trainer,
						 struct ol_evaluation *evaluation,
						 struct ol_error *err);
/* Of every example of the dataset, now and as published: nats (count) of its answer. */
OL_MUST_CHECK enum ol_status ol_trainer_nats(struct ol_trainer *trainer, double *nats,
					     struct ol_error *err);
/* The last loss of each example of the dataset while it trained (nats per answer token; NaN: not
 * seen), for attribution and data review. */
const float *ol_trainer_example_losses(const struct ol_trainer *trainer);
/* Adam's second moment of B (outputs, rank) of a linear, by ol_linear_index; NULL: not adapted.
 * Attribution measures influence in the coordinates that it gives. */
const float *ol_trainer_second_moment(const struct ol_trainer *trainer, int linear);
bool ol_trainer_is_held_out(const struct ol_trainer *trainer, size_t example);

/* Writes a checkpoint now, all or nothing; the last two and the best are kept. */
OL_MUST_CHECK enum ol_status ol_trainer_save(struct ol_trainer *trainer, struct ol_error *err);
/* What would be published: bf16, of the best evaluation if there were any, else of now. */
OL_MUST_CHECK enum ol_status ol_trainer_adapter(const struct ol_trainer *trainer,
						struct ol_adapter **adapter_out,
						struct ol_error *err);
/* Full training: the trained weights (of the best evaluation if there were any, else of now) as a
 * model file of the given type. Texts as in the base. */
OL_MUST_CHECK enum ol_status ol_trainer_write_model(const struct ol_trainer *trainer,
						    const char *path, enum ol_weight_type type,
						    struct ol_error *err);

/* Nats of the answers of `count` examples under a base with an adapter (NULL: alone), without a
 * trainer: what `eval` and attribution ask for. rows_max: the tape's. */
OL_MUST_CHECK enum ol_status ol_answer_nats(struct ol_tape *tape, int rows_max,
					    const struct ol_adapter_view *adapter,
					    const struct ol_example *const *examples, size_t count,
					    double *nats, struct ol_error *err);

#endif
