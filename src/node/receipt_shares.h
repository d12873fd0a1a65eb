/* node/receipt_shares.h, floor 4: who shaped an answer, as its receipt commits to it.
 *
 *     prompts and choices ── ol_attribute, each ──> signed scores, added up ──> share table ─> root
 *
 * The table is a pure function of base, adapter, index and opening: whoever verifies a receipt
 * makes it again and compares the root. Tables are kept by their roots in HOME/ledger/shares/. */
#ifndef OL_NODE_RECEIPT_SHARES_H
#define OL_NODE_RECEIPT_SHARES_H

#include <jansson.h>

#include "attrib/answer.h"
#include "ledger/opening.h"
#include "model/tokenizer.h"
#include "node/home.h"

enum { OL_SHARE_TABLE_MAX = OL_SHARE_ROW_BYTES << 16 };

/* request: the receipt's commitment, which breaks ties. table gets the rows (OL_SHARE_ROW_BYTES
 * each), detail the first choice's attribution for people (tokenizer NULL: without texts); either
 * may be NULL. A choice without a token, or longer with its prompt than the attributor takes, has
 * no scores; if none has any, the root is zero and there is no table. */
OL_MUST_CHECK enum ol_status ol_receipt_shares(
	uint8_t root_out[32], struct ol_buf *table, json_t **detail,
	struct ol_attributor *attributor, const struct ol_index *index,
	const struct ol_adapter *adapter, const struct ol_opening *opening,
	const uint8_t request[32], const struct ol_tokenizer *tokenizer, struct ol_error *err);

/* Appends rows as a table's bytes. False: the table is over its limit. */
OL_MUST_CHECK bool ol_share_table_write(struct ol_buf *table, const struct ol_share *rows,
					size_t count);
/* Durable on OL_OK; a table that is there already is the same one. */
OL_MUST_CHECK enum ol_status ol_share_table_keep(const struct ol_home *home, const uint8_t root[32],
						 const struct ol_buf *table, struct ol_error *err);
/* Appends a table that is kept, checked against its root. OL_ERR_NOT_FOUND. */
OL_MUST_CHECK enum ol_status ol_share_table_find(struct ol_buf *table, const struct ol_home *home,
						 const uint8_t root[32], struct ol_error *err);
/* Rows of a table's bytes, into rows (size / OL_SHARE_ROW_BYTES of them). */
void ol_share_table_rows(struct ol_share *rows, const uint8_t *table, size_t size);

/* ---- A node's own: indexes and adapters that were used lately, and one attributor ---- */

struct ol_shaper;

/* Borrows model and tokenizer. The attributor is opened when it is first needed. */
OL_MUST_CHECK enum ol_status ol_shaper_open(struct ol_shaper **shaper_out,
					    const struct ol_home *home,
					    const struct ol_model *model,
					    const struct ol_tokenizer *tokenizer,
					    struct ol_error *err);
void ol_shaper_close(struct ol_shaper *shaper);
/* One thread at a time. The root of the table, which is kept; zero where the adapter has no index
 * (*detail NULL). folder: the adapter's; sha256: its hash. index: the root that its index is known
 * by, and then that of the index which was used; zero: none. */
OL_MUST_CHECK enum ol_status ol_shaper_shares(struct ol_shaper *shaper, uint8_t root_out[32],
					      json_t **detail, uint8_t index[32],
					      const char *folder, const uint8_t sha256[32],
					      const struct ol_opening *opening,
					      const uint8_t request[32], struct ol_error *err);

#endif
