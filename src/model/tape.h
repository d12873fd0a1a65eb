/* model/tape.h, floor 2: the transformer forward and backward over whole sequences.
 *
 *     tokens ─ layers, keeping what backward needs ─ hidden ─ head, 32 rows at a time ─ losses
 *     dA, dB (and every weight, in full training) <─ layers in reverse <─ dlogits
 *
 * The forward pass is the engine's, bit for bit: the base runs in its own weight type, adapters as
 * the views say (f32 while they train, bf16 when published). Gradients go straight through the
 * rounding of activations: dx = dy W with W dequantised, in f32 chains.
 *
 * A tape holds one micro-batch: whole sequences, row after row, no padding, no attention from one
 * to another. Weight gradients go on from micro-batch to micro-batch (they are chains over the rows
 * in order), so how a step is cut into micro-batches leaves no trace. A tape belongs to one
 * thread. */
#ifndef OL_MODEL_TAPE_H
#define OL_MODEL_TAPE_H

#include "base/pool.h"
#include "math/gradients.h"
#include "model/adapter.h"
#include "model/layout.h"

struct ol_tape;

struct ol_tape_options {
	const struct ol_kernels *kernels; /* NULL: the best; the gradients are of the same ISA */
	int threads;                      /* 0: all processors of this process */
	int rows_max;   /* most rows of a micro-batch                                          */
	int rank_max;   /* largest rank of any adapter that will be used; 0: none              */
	bool full;      /* gradients of all the weights will be asked for                      */
	bool recompute; /* keep only each layer's input; run the layer again in backward: one
			   * layer's memory instead of all, the same bits                        */
};

/* Bytes that a tape of these options takes over such a model: to choose rows and recomputation. */
size_t ol_tape_bytes(const struct ol_config *config, const struct ol_tape_options *options);

/* Borrows config and weights (a model's, or a trainer's own that change between steps). */
OL_MUST_CHECK enum ol_status ol_tape_open(struct ol_tape **tape_out, const struct ol_config *config,
					  const struct ol_weights *weights,
					  const struct ol_tape_options *options,
					  struct ol_error *err);
void ol_tape_close(struct ol_tape *tape);
struct ol_pool *ol_tape_threads(const struct ol_tape *tape); /* to share between passes */

/* One example's tokens. targets[t] is the token that position t should predict, or -1. */
struct ol_sequence {
	const int32_t *tokens;
	const int32_t *targets;
	int32_t count;
	uint64_t example; /* keys dropout */
};

struct ol_micro_batch {
	const struct ol_sequence *sequences;
	int sequence_count;                    /* rows: the sum of their counts, at most rows_max */
	const struct ol_adapter_view *adapter; /* NULL: the base alone                       */
	const struct ol_dropout *dropout; /* on the adapters' inputs; NULL: none; layer and module
					    * are filled in                                  */
};

/* Runs the layers. OL_ERR_INPUT: a token outside the vocabulary. The batch is borrowed until the
 * next forward. */
OL_MUST_CHECK enum ol_status ol_tape_forward(struct ol_tape *tape,
					     const struct ol_micro_batch *batch,
					     struct ol_error *err);
/* losses (rows): -log p(target) of every row, 0 where there is none. After forward and before
 * backward, any number of times. */
void ol_tape_losses(struct ol_tape *tape, float *losses);
/* Hidden states after the final norm (rows, hidden), until the next forward. */
const float *ol_tape_hidden(const struct ol_tape *tape);

/* Gradients of one linear's adapter, row-major; NULL: not wanted (a frozen A). */
struct ol_lora_gradient {
	float *a; /* (rank, inputs)  */
	float *b; /* (outputs, rank) */
};
/* Gradients of everything, shapes as the weights. embed and head are apart even where tied: the
 * optimiser adds them (head + embed) once a step. */
struct ol_layer_gradients {
	float *attention_norm, *ffn_norm, *post_attention_norm, *post_ffn_norm;
	float *q_norm, *k_norm, *q_bias, *k_bias, *v_bias;
	float *linears[OL_LAYER_LINEARS]; /* (outputs, inputs) row-major */
};
struct ol_weight_gradients {
	float *embed, *head, *final_norm;
	struct ol_layer_gradients *layers;
};

/* Where the gradient of a tensor of the layout belongs. */
float **ol_gradient_place(struct ol_weight_gradients *gradients, const struct ol_tensor *tensor);

/* What an observer sees of one linear in backward: attribution builds its scores from it. */
struct ol_tape_view {
	int layer;
	enum ol_linear linear;
	int rows;
	const float *x;  /* (rows, inputs) what the linear read, before dropout     */
	const float *h;  /* (rows, rank)   A x, of the dropped x; NULL: no adapter  */
	const float *dy; /* (rows, outputs); of the head only rows with a target    */
};

struct ol_tape_backward {
	/* (rows) d objective / d loss of a row: 1 / answer tokens of the step. Rows whose target is
	 * -1 are not read. */
	const float *row_weights;
	float *losses;                       /* (rows) out, as ol_tape_losses; may be NULL   */
	struct ol_lora_gradient *lora;       /* ol_linear_count(); NULL: no adapter gradients */
	struct ol_weight_gradients *weights; /* NULL: the base is frozen                     */
	/* May be NULL. Called by the owning thread; head rows come in several calls. */
	void (*observe)(void *context, const struct ol_tape_view *view);
	void *context;
	const bool *observed; /* (ol_linear_count()) which linears are shown; NULL: all. Below the
			       * lowest of them, and of the wanted gradients, nothing is run */
};

/* After forward, once. Adds into the gradients. Layers below the lowest wanted gradient are left
 * out. OL_ERR_INPUT: a loss or a gradient is NaN or infinite; the sentence names the sequence. */
OL_MUST_CHECK enum ol_status ol_tape_backward(struct ol_tape *tape,
					      const struct ol_tape_backward *request,
					      struct ol_error *err);
/* After such an error: which sequence of the batch it was; otherwise -1. */
int ol_tape_broken_sequence(const struct ol_tape *tape);

#endif
