/* tests/support.h: what the programs of this folder share: small random models of every
 * architecture, timelines of tokens, and the many ways of running a timeline that must all give the
 * same bits. */
#ifndef OL_TESTS_SUPPORT_H
#define OL_TESTS_SUPPORT_H

#include "model/engine.h"

/* SplitMix64: test data only. */
struct ol_dice {
	uint64_t state;
};
uint64_t ol_dice_next(struct ol_dice *dice);
int ol_dice_between(struct ol_dice *dice, int low, int high); /* both included */

/* Ends the test with the error's sentence unless the status is OK. */
void ol_must(enum ol_status status, const struct ol_error *err);
/* The slow, full matrices run when OL_TEST_SLOW=1 in optimised builds without sanitizers. The
 * others look for something else, ten times slower: for them the fast matrix has to do. */
bool ol_slow(void);
/* The first instruction set that a costly loop of the fast matrix takes: where every access is
 * checked by a sanitizer, the scalar kernels only say what is right and do not compete. */
enum ol_isa ol_first_isa(void);
const char *ol_kv_name(enum ol_kv_type type);

/* Odd shapes of every architecture: nothing is a multiple of a panel, block, page or vector. */
struct ol_shape {
	const char *name;
	struct ol_config config;
};
extern const struct ol_shape ol_shapes[];
extern const int ol_shape_count;

/* Tokens, and the logits that every position must have. */
struct ol_timeline {
	int count, vocab;
	int32_t *tokens;
	float *logits; /* (count, vocab) */
	/* Both NULL after init. What the timeline runs under, and what strangers may run under. */
	const struct ol_adapter_view *adapter;
	const struct ol_adapter_view *const *strangers; /* OL_STRANGER_ADAPTERS of them */
};
enum { OL_STRANGER_ADAPTERS = 3 };
void ol_timeline_init(struct ol_timeline *t, const struct ol_model *model, int count,
		      uint64_t seed);
void ol_timeline_release(struct ol_timeline *t);

/* One way of running a timeline through an engine; fills logits (count, vocab) of all positions. */
typedef void ol_way_fn(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		       float *logits);
struct ol_way {
	const char *name;
	ol_way_fn *run;
};
extern const struct ol_way ol_ways[];
extern const int ol_way_count;
ol_way_fn ol_way_decode, ol_way_prefill, ol_way_chunks;
/* In steps together with `sessions` - 1 others. */
void ol_way_strangers(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		      float *logits, int sessions);

/* Appends tokens to a session in as many steps as the engine needs, logits (count, vocab). */
void ol_feed(struct ol_engine *engine, struct ol_session *session, const int32_t *tokens, int count,
	     float *logits);
void ol_feed_adapted(struct ol_engine *engine, struct ol_session *session,
		     const struct ol_adapter_view *adapter, const int32_t *tokens, int count,
		     float *logits);
/* Random numbers of about the size of a trained adapter's. */
struct ol_adapter *ol_adapter_for_test(const struct ol_config *config, uint32_t targets, int rank,
				       uint64_t seed);
struct ol_engine *ol_engine_for_test(const struct ol_model *model, const struct ol_kernels *kernels,
				     int threads, enum ol_kv_type kv_type, int64_t kv_positions);

/* -1 when equal to the bit, else the first position that differs. */
int ol_first_difference(const struct ol_timeline *t, const float *logits);

#endif
