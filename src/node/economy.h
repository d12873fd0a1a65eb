/* node/economy.h, floor 4: everything of a node that has to do with money, opened as one thing:
 * signer, books, cashier, and the limits of API keys.
 *
 *     ask ──> keys: may this key spend so much? ──> cashier: has its account so much?
 *     answer ──> cashier: price, split, receipt ──> keys: what it came to
 *
 * Which adapter stands behind a name is looked up in its folder, again when its file changes. */
#ifndef OL_NODE_ECONOMY_H
#define OL_NODE_ECONOMY_H

#include "node/cashier.h"
#include "node/epoch.h"
#include "node/keys.h"
#include "node/ledger_home.h"
#include "node/service.h"

struct ol_economy;

struct ol_economy_options {
	const struct ol_home *home;  /* borrowed                                          */
	const char *origin;          /* of a new log; NULL: "openledger.local/" and a number */
	struct ol_keys *keys;        /* borrowed; NULL: no limits                         */
	const struct ol_model *base; /* borrowed, like the tokenizer (NULL: none)         */
	const struct ol_tokenizer *tokenizer;
	uint32_t kv_type;
	const char *program;                    /* for the signer; NULL: this one */
	const struct ol_log_witness *witnesses; /* asked to cosign the log's checkpoints; copied */
	uint32_t witness_count;
};

/* Makes the node's key where there is none. */
OL_MUST_CHECK enum ol_status ol_economy_open(struct ol_economy **economy_out,
					     const struct ol_economy_options *options,
					     struct ol_error *err);
/* After the service was closed. */
void ol_economy_close(struct ol_economy *economy);

/* For ol_service_options.accounting; then attach the service that was opened with it. */
struct ol_accounting ol_economy_accounting(struct ol_economy *economy);
void ol_economy_attach(struct ol_economy *economy, struct ol_service *service);

/* Pays the contributors (node/epoch.h). One thread at a time, inside. */
OL_MUST_CHECK enum ol_status ol_economy_close_epochs(struct ol_economy *economy, bool early,
						     void (*paid)(void *context,
								  const struct ol_epoch_paid *paid),
						     void *context, struct ol_error *err);
/* To be called now and then: closes what is over when an hour has passed. */
OL_MUST_CHECK enum ol_status ol_economy_tick(struct ol_economy *economy, struct ol_error *err);

struct ol_books *ol_economy_books(struct ol_economy *economy);
const struct ol_home *ol_economy_home(const struct ol_economy *economy);
struct ol_cashier *ol_economy_cashier(struct ol_economy *economy);
/* What a served name stands for: the base's id, or the adapter's hash. */
OL_MUST_CHECK enum ol_status ol_economy_model(struct ol_economy *economy, uint8_t id_out[32],
					      const char *name, struct ol_error *err);

#endif
