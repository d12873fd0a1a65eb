/* node/train.h, floor 4: a training run, from names to an installed adapter or model.
 *
 *     base, data files, wishes ─ records ─ dataset ─ config ─ trainer ─┬─ adapters/NAME
 *                                                                     └─ models/NAME.olm  (full)
 *     HOME/training/NAME/   checkpoints, metrics.jsonl, examples.jsonl: what a run leaves behind
 *
 * Prints nothing: a watcher is told what happens and may stop the run, which then writes a
 * checkpoint. */
#ifndef OL_NODE_TRAIN_H
#define OL_NODE_TRAIN_H

#include "attrib/build.h"
#include "node/home.h"
#include "train/trainer.h"

/* What somebody asks for; what is not said (as ol_train_wish_init leaves it) is chosen. */
struct ol_train_wish {
	enum ol_train_method method;
	int rank, steps, batch, max_length; /* 0: not said  */
	int warmup, eval_every, patience;   /* -1: not said */
	float alpha, learning_rate, epochs; /* 0: not said  */
	float dropout, weight_decay, eval_fraction, clip, final_fraction, dpo_beta; /* -1 */
	const char *targets, *schedule, *base_type;                                 /* NULL */
	bool attributable, rslora;
	uint64_t seed, init_seed;
	bool seed_given, init_seed_given;
	bool loss_on_prompt;
};
void ol_train_wish_init(struct ol_train_wish *wish);

/* What the run is about to do. */
struct ol_train_start {
	const struct ol_train_config *config;
	const struct ol_dataset *dataset;
	struct ol_train_shape shape;
	uint64_t base_parameters;
	int step; /* already done, by an earlier run */
	const char *folder;
};

/* Any may be NULL. */
struct ol_train_watch {
	void (*notice)(void *context, const char *sentence);
	void (*start)(void *context, const struct ol_train_start *start);
	/* After every step; seconds: of the whole run so far. False stops. */
	bool (*step)(void *context, const struct ol_step_report *report, double seconds);
	/* An answer by the state that an evaluation has just seen. */
	void (*sample)(void *context, const char *question, const char *answer, const char *wanted);
	void (*saved)(void *context, int step);
	void (*preview)(void *context, const char *text);
	void *context;
	/* The index is being made; false leaves it to `openledger index`. */
	bool (*index)(void *context, const char *what, uint32_t done, uint32_t total);
};

struct ol_train_request {
	const char *base;               /* a model of the home, or NULL: */
	const char *config, *tokenizer; /* config.json and a folder, to begin from nothing */
	const char *name;
	const char *from;        /* an adapter to go on from (dpo: the reference); NULL: none */
	const char *export_path; /* full: a Hugging Face folder to write as well; NULL: none */
	const char *const *data;
	int data_count;
	enum ol_data_format format;
	struct ol_train_wish wish;
	bool resume, replace;
	bool no_index;        /* make no attribution index, though contributors are known      */
	int preview;          /* examples to show; then nothing is trained */
	bool color;           /* of the preview                            */
	int samples;          /* answers at each evaluation                */
	int checkpoint_steps; /* 0: by time, and at evaluations            */
	size_t memory_max;    /* 0: choose                                 */
	enum ol_weight_type full_type; /* of the model that full training writes    */
	const char *code;              /* which code this is, for the manifest; NULL: the version */
	struct ol_train_watch watch;
};

struct ol_train_result {
	bool previewed;
	char path[OL_PATH_MAX];          /* the adapter's folder or the model's file */
	uint8_t sha256[OL_SHA256_BYTES]; /* of the adapter; the id of a model */
	bool adapter;
	/* NaN: not measured. train: mean of the examples' last losses; eval: of the best state. */
	double train_loss, eval_loss, eval_perplexity, eval_nats_per_byte;
	double tokens_per_second, seconds; /* of this process */
	int steps, best_step;
	size_t examples;
	bool indexed;
	struct ol_index_result index;
};

/* OL_ERR_CANCELLED: stopped by the watcher; the sentence says how to go on. */
OL_MUST_CHECK enum ol_status ol_train(struct ol_train_result *result,
				      const struct ol_train_request *request, struct ol_error *err);

#endif
