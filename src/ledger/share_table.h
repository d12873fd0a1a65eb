/* ledger/share_table.h, floor 2: who shaped an answer, as a receipt commits to it.
 *
 * A row per payee, ascending by account: the signed score, and what the answer's own shares are in
 * parts per billion (of positive scores; all zero: no clear source). Pay is netted over an epoch
 * from the scores alone (docs/PAYOUT.md). The table's root is the RFC 6962 root over its head and
 * its rows, so one payee's row can be proven without the others; the bytes are stored under it. */
#ifndef OL_LEDGER_SHARE_TABLE_H
#define OL_LEDGER_SHARE_TABLE_H

#include "base/buf.h"
#include "crypto/merkle.h"
#include "ledger/price.h"

enum { OL_SHARE_ROWS_MAX = 1 << 16, OL_PPB = 1000000000 };

enum ol_confidence {
	OL_CONFIDENCE_WHOLE = 0, /* not attributed: the data as a whole */
	OL_CONFIDENCE_LOW = 1,   /* an adapter made elsewhere           */
	OL_CONFIDENCE_MEASURED = 2
};

struct ol_share_head {
	char magic[4]; /* "OLSH" */
	uint16_t version, confidence;
	uint8_t adapter[32], index[32];
	int64_t gain; /* nats the adapter made the answer likelier, in 2^-32: the gate */
	uint32_t rows, zero;
};
_Static_assert(sizeof(struct ol_share_head) == 88, "share table v1");

struct ol_share_row {
	struct ol_account_key account; /* in OPEN */
	int64_t score;                 /* nats in 2^-32 */
	uint32_t ppb, zero;
};
_Static_assert(sizeof(struct ol_share_row) == 48, "share table v1");

enum ol_share_fault {
	OL_SHARE_WELL,
	OL_SHARE_SIZE,
	OL_SHARE_KIND,  /* not a table of a version that this program knows       */
	OL_SHARE_ORDER, /* rows not strictly ascending by account                 */
	OL_SHARE_SUM,   /* shares neither a billion together nor all zero         */
	OL_SHARE_SIGN   /* a share without a positive score                       */
};
const char *ol_share_fault_text(enum ol_share_fault fault);

void ol_share_table_begin(struct ol_share_head *head, enum ol_confidence confidence, uint32_t rows);
/* Sorts the rows and appends the table. */
void ol_share_table_write(struct ol_buf *bytes, const struct ol_share_head *head,
			  struct ol_share_row *rows);
/* *rows points into bytes, which must be aligned to 8. *row_out is the number of the bad row. */
enum ol_share_fault ol_share_table_read(const struct ol_share_head **head,
					const struct ol_share_row **rows, uint32_t *row_out,
					const uint8_t *bytes, size_t size);
void ol_share_table_root(uint8_t root[32], const struct ol_share_head *head,
			 const struct ol_share_row *rows);

#endif
