/* model/tape_internal.h, floor 2: what the files of the tape share.
 *
 *     tape.c           its life, its memory, the batch
 *     tape_linear.c    groups: the linears that read the same input, forward and backward
 *     tape_forward.c   a layer forward
 *     tape_backward.c  a layer backward, and where backward may stop
 *     tape_head.c      the output head and the losses, some rows at a time
 *
 * Every phase is a loop of the pool over pieces: tiles of rows, ranges of panels or of columns,
 * heads. Pieces may be cut anywhere, because no number depends on the cut. */
#ifndef OL_MODEL_TAPE_INTERNAL_H
#define OL_MODEL_TAPE_INTERNAL_H

#include "base/arena.h"
#include "model/blocks.h"
#include "model/tape.h"

enum {
	OL_TAPE_GROUP_MAX = 3,
	OL_TAPE_VECTORS_MAX = 8,
	OL_TAPE_ROW_TILE_MAX = 64,
	OL_TAPE_HEAD_ROWS_MIN = 32,
	OL_TAPE_HEAD_ROWS_MAX = 256,
	OL_TAPE_HEAD_BYTES = 32 << 20 /* of logits at a time, unless the fewest rows need more */
};

/* What backward reads of one layer; R rows. With recompute all layers share all but x. */
struct ol_tape_layer {
	float *x;                   /* (R, hidden) at the layer's entry                          */
	float *q_raw, *k_raw;       /* before the head norms; NULL where there are none          */
	float *q, *k, *v;           /* q and k rotated                                           */
	float *o;                   /* (R, heads d) attention's output                           */
	float *attention_y;         /* (R, hidden) Wo's output before a post norm; NULL: no norm */
	float *middle;              /* (R, hidden) the residual stream between the halves        */
	float *gate, *up;           /* before the activation; backward puts their gradients here */
	float *ffn_y;               /* as attention_y                                            */
	float *h[OL_LAYER_LINEARS]; /* (R, rank) A x of every adapted linear              */
};

/* The linears that read one input: q k v, o, gate up, down, or the head. */
struct ol_tape_group {
	int layer, count, rows, inputs;
	enum ol_linear linears[OL_TAPE_GROUP_MAX];
	const struct ol_matrix *weights[OL_TAPE_GROUP_MAX];
	const struct ol_lora_view *lora[OL_TAPE_GROUP_MAX]; /* NULL: not adapted             */
	const int32_t *row_ids; /* rows of the batch; NULL: all of them, in order             */
	const float *x;         /* (rows, inputs); backward: only where a gradient reads it   */
	float *y[OL_TAPE_GROUP_MAX], *h[OL_TAPE_GROUP_MAX];
	const float *dy[OL_TAPE_GROUP_MAX];
	float *dx; /* NULL: not wanted */
};

/* A vector's gradient, taken together with the next group's: of a norm's weight, or of a bias
 * (inverse NULL). */
struct ol_tape_vector {
	float *gradient;
	const float *dy, *x, *inverse;
	int rows, width;
};

enum ol_tape_task_kind { OL_TASK_DX, OL_TASK_DW, OL_TASK_DA, OL_TASK_DB, OL_TASK_VECTOR };
struct ol_tape_task {
	enum ol_tape_task_kind kind;
	int which, begin, end; /* linear of the group, or vector; columns or outputs */
	int row0, row1;        /* of dx                                              */
};

struct ol_tape {
	const struct ol_config *config;
	const struct ol_weights *weights;
	const struct ol_kernels *kernels;
	const struct ol_gradients *gradients;
	struct ol_pool *threads;
	int thread_count, rows_max, rank_max, head_rows;
	bool full, recompute;
	uint8_t *memory;
	size_t memory_bytes;

	/* the batch */
	const struct ol_micro_batch *batch;
	const struct ol_dropout *dropout; /* NULL: none */
	int row_count, target_count, row_tile;
	int32_t *tokens, *targets, *positions; /* (R) */
	int32_t *sequence_of;                  /* (R) */
	int32_t *row_starts;                   /* (sequences + 1) */
	int32_t *target_rows;                  /* rows that have a target, ascending */
	int broken_sequence;

	/* keys and values of the layer that runs, page after page */
	uint8_t *pages;
	size_t pages_bytes, page_bytes;
	const void **page_list;
	int32_t *first_pages; /* (sequences) into page_list */
	struct ol_attention_plan attention;

	double *frequencies, *frequencies_local; /* (d/2) */
	float *rope, *rope_local;                /* (R, 3 d/2) cosines, sines, negative sines */
	struct ol_tape_layer *layers;
	int held_layer; /* whose activations the shared ones are; -1: none */

	float *residual;    /* (R, hidden) after the last layer                */
	float *hidden;      /* (R, hidden) after the final norm                */
	float *n;           /* (R, hidden) a group's input after its norm      */
	float *f;           /* (R, ffn) the input of down                      */
	void *act;          /* activations ready for a matmul                  */
	float *head_x;      /* (head_rows, hidden)                             */
	float *head_h;      /* (head_rows, rank)                               */
	float *head_dx;     /* (head_rows, hidden)                             */
	float *logits;      /* (head_rows, vocab)                              */
	float *head_losses; /* (head_rows)                                     */

	/* backward */
	const struct ol_tape_backward *request;
	int lowest; /* level of the lowest wanted gradient */
	float *dx;  /* (R, hidden) of the residual stream  */
	float *dy;  /* (R, hidden) before a post norm      */
	float *dn;  /* (R, hidden) of a norm's output      */
	float *df;  /* (R, ffn)                            */
	float *d_o, *dq, *dk, *dv, *dk_raw;
	float *inverse, *inverse_post, *inverse_q, *inverse_k;
	float *dh[OL_TAPE_GROUP_MAX], *hs[OL_TAPE_GROUP_MAX]; /* (R, rank) */
	float *dropped[OL_TAPE_GROUP_MAX];                    /* (R, inputs) */
	struct ol_tape_vector vectors[OL_TAPE_VECTORS_MAX];
	int vector_count;
	struct ol_tape_task *tasks;
	int task_count, task_room;
	uint8_t *scratch, *tiles; /* a piece for each thread */
	size_t scratch_bytes, tile_bytes;
};

/* Calls fn for tiles of `rows` rows; ol_tape_tile gives a piece's rows. */
void ol_tape_over_rows(struct ol_tape *t, int rows, ol_pool_fn *fn, void *context);
void ol_tape_tile(const struct ol_tape *t, int rows, int index, int *row0, int *row1);
static inline float *ol_tape_scratch(const struct ol_tape *t, int thread)
{
	return (float *)(void *)(t->scratch + (size_t)thread * t->scratch_bytes);
}
static inline float *ol_tape_tile_memory(const struct ol_tape *t, int thread)
{
	return (float *)(void *)(t->tiles + (size_t)thread * t->tile_bytes);
}

/* first: q, o, gate, down or head. Fills in everything but x, y, dy and dx. */
void ol_tape_group_init(struct ol_tape_group *g, struct ol_tape *t, int layer,
			enum ol_linear first);
/* Forward: rows of x become ready for the matmul, h = A x; then all y. */
void ol_tape_group_read(struct ol_tape *t, const struct ol_tape_group *g, int thread, int row0,
			int row1);
void ol_tape_group_multiply(struct ol_tape *t, const struct ol_tape_group *g);
/* Backward: rows of dh; then every wanted gradient and dx; then, with dropout, what the adapters
 * add to rows of dx. */
void ol_tape_group_pull(struct ol_tape *t, const struct ol_tape_group *g, int thread, int row0,
			int row1);
void ol_tape_group_spread(struct ol_tape *t, struct ol_tape_group *g);
void ol_tape_group_drop(struct ol_tape *t, const struct ol_tape_group *g, int thread, int row0,
			int row1);
/* Whether the observer is to see a linear. */
bool ol_tape_is_observed(const struct ol_tape *t, int layer, enum ol_linear linear);
/* Whether a gradient or the observer reads the group's x in backward. */
bool ol_tape_group_reads_x(const struct ol_tape *t, const struct ol_tape_group *g);
void ol_tape_add_vector(struct ol_tape *t, struct ol_tape_vector vector);
void ol_tape_flush_vectors(struct ol_tape *t);

/* Layer `layer` from its x to the next x. `again`: for backward, which does not need the next x. */
void ol_tape_layer_forward(struct ol_tape *t, int layer, bool again);
/* From the gradient of a layer's output in dx to that of its input. False: nothing below is
 * wanted. */
OL_MUST_CHECK bool ol_tape_layer_backward(struct ol_tape *t, int layer);

/* The levels of the backward pass: a group's gradients, or a norm's weight. */
enum ol_tape_level {
	OL_LEVEL_ATTENTION_NORM,
	OL_LEVEL_QKV,
	OL_LEVEL_O,
	OL_LEVEL_POST_ATTENTION_NORM,
	OL_LEVEL_FFN_NORM,
	OL_LEVEL_GATE_UP,
	OL_LEVEL_DOWN,
	OL_LEVEL_POST_FFN_NORM,
	OL_LEVELS
};
/* Of the embedding -1, of the final norm layers * OL_LEVELS, of the head one more. */
int ol_tape_lowest_level(const struct ol_tape *t);
static inline bool ol_tape_wanted_below(const struct ol_tape *t, int layer, int level)
{
	return t->lowest < layer * OL_LEVELS + level;
}

/* losses may be NULL. `backward`: also the head's gradients, and those of `hidden` into dn. */
void ol_tape_head(struct ol_tape *t, float *losses, bool backward);
/* The first row of (rows, width) that is not finite, or -1. */
int ol_tape_broken_row(const float *x, int rows, int width);

#endif
