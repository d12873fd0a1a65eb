/* node/cashier.h, floor 4: what an answer costs, who is paid, and the receipt: where the side that
 * knows models meets the side that knows money.
 *
 *     ask ──> reserve: listing in force, the most it can cost, held on the payer's account
 *              │                                           (402 with what is missing)
 *     answer ──> post: the price of what came, its split, the receipt signed by the node,
 *              │       all in one batch of the ledger; told when it is durable
 *     failure ──> release: what was held is the payer's again
 *
 * An adapter without a listing costs what its base costs. A model without any is free: it has
 * receipts, but nobody pays. Test credit is spent before
 * OPEN, and an answer is paid in one of them. */
#ifndef OL_NODE_CASHIER_H
#define OL_NODE_CASHIER_H

#include "ledger/bookkeeper.h"
#include "ledger/opening.h"
#include "ledger/receipt.h"
#include "node/service.h"

struct ol_cashier;

/* What the world gives a cashier; borrowed with all they point at. Functions are called from any
 * thread. */
struct ol_cashier_options {
	struct ol_bookkeeper *keeper;
	/* The node's key. signature over the bytes of a receipt; may be refused. */
	uint8_t node[32];
	enum ol_status (*sign)(void *self, uint8_t signature[OL_SIGNATURE_BYTES], const void *bytes,
			       size_t size, struct ol_error *err);
	void *signer;
	/* The newest checkpoint of the log; NULL, or size 0: there is none yet. */
	void (*checkpoint)(void *self, uint64_t *size, uint8_t root[32]);
	void *log;
	/* The adapter's hash and its data, by the name it is served under; false: the base. */
	bool (*identify)(void *self, const char *model, uint8_t adapter[32], uint8_t snapshot[32],
			 uint8_t index[32]);
	void *models;
	/* The root of the answer's share table, kept where others find it, and its detail for the
	 * response (NULL: none). Zero: the adapter has no index. index: as identify said, then that
	 * of the index which was used. NULL function: nothing has shares. On the clerk's thread. */
	enum ol_status (*shares)(void *self, uint8_t root[32], json_t **detail, uint8_t index[32],
				 const char *model, const uint8_t adapter[32],
				 const struct ol_opening *opening, const uint8_t request[32],
				 struct ol_error *err);
	uint8_t base[32];   /* the base's model id                  */
	uint8_t secret[32]; /* of the payers' pseudonyms            */
	uint32_t kv_type;   /* enum ol_kv_type                      */
	uint32_t room;      /* positions of prompt and answer       */
};

OL_MUST_CHECK enum ol_status ol_cashier_open(struct ol_cashier **cashier_out,
					     const struct ol_cashier_options *options,
					     struct ol_error *err);
/* No charge is open. */
void ol_cashier_close(struct ol_cashier *cashier);

/* For ol_service_options.accounting. */
struct ol_accounting ol_cashier_accounting(struct ol_cashier *cashier);

/* How many positions prompt and answer may take: known when the service is open. */
void ol_cashier_set_room(struct ol_cashier *cashier, uint32_t room);
/* The most that a charge of reserve can come to. */
struct ol_amount ol_cashier_most(const void *charge);
/* As post, and what it came to. */
OL_MUST_CHECK enum ol_status ol_cashier_post(struct ol_cashier *cashier, void *charge,
					     json_t **receipt, struct ol_amount *price_out,
					     const struct ol_answered *answered,
					     struct ol_error *err);

/* Brings a listing into force: a new one, which is checked, completed (head, base, version,
 * previous) and logged; durable on OL_OK. id_out may be NULL. */
OL_MUST_CHECK enum ol_status ol_cashier_publish(struct ol_cashier *cashier,
						struct ol_listing *listing, uint8_t id_out[32],
						struct ol_error *err);
/* One that the log holds already, in the log's order: at the start. */
OL_MUST_CHECK enum ol_status ol_cashier_restore(struct ol_cashier *cashier, const uint8_t *event,
						size_t size, struct ol_error *err);
/* The one in force for a model (adapter's hash or base's id); false: it is free. */
bool ol_cashier_listing(struct ol_cashier *cashier, struct ol_listing *listing_out,
			uint8_t id_out[32], const uint8_t model[32]);

/* Gives test credit to an account, which is opened if need be: an event of its own. */
OL_MUST_CHECK enum ol_status ol_cashier_grant(struct ol_cashier *cashier,
					      const struct ol_account_key *account,
					      struct ol_amount amount, struct ol_error *err);

/* "local" (who asks on this machine without a key) or "0x…", as an account in that currency. */
OL_MUST_CHECK enum ol_status ol_account_key_parse(struct ol_account_key *key, const char *text,
						  enum ol_currency currency, struct ol_error *err);

#endif
