/* node/ledger_audit.h, floor 4: a ledger derived again from its journal, and compared with all that
 * is said to follow from it; and what follows, made again.
 *
 *     journal ─┬─ every hash, every answer       sums: debits equal credits
 *              ├─ snapshots                      the book at their place
 *              ├─ index                          one made anew has the same content
 *              ├─ receipts                       signed, and paid just as they say; contributors
 *              │                                 by the scores of the share tables
 *              └─ public log                     every file under the checkpoint
 *
 * An audit changes nothing and may be made beside a running node. */
#ifndef OL_NODE_LEDGER_AUDIT_H
#define OL_NODE_LEDGER_AUDIT_H

#include "node/ledger_home.h"

enum ol_audit_row {
	OL_AUDIT_JOURNAL,
	OL_AUDIT_BOOK,
	OL_AUDIT_SNAPSHOTS,
	OL_AUDIT_INDEX,
	OL_AUDIT_RECEIPTS,
	OL_AUDIT_LOG,
	OL_AUDIT_ROWS
};
const char *ol_audit_row_name(enum ol_audit_row row); /* "journal", "public log" */

enum ol_audit_outcome { OL_AUDIT_NOT_MADE, OL_AUDIT_OK, OL_AUDIT_NOT_OK };

struct ol_audit_finding {
	enum ol_audit_outcome outcome;
	char text[OL_ERROR_TEXT_MAX]; /* what was compared, or what is wrong and how to mend it */
};

struct ol_ledger_audit {
	struct ol_audit_finding rows[OL_AUDIT_ROWS];
	struct ol_ledger_report report; /* if the journal is ok             */
	uint64_t indexed;               /* position of the index: sequence  */
	uint64_t published;             /* events under the checkpoint      */
	uint64_t receipts;
	uint64_t epochs, epochs_unknown; /* pots paid out; those whose share tables are not here */
};

/* What a ledger gets wrong stands in the rows. An error is a failure to look: NOT_FOUND when there
 * is no ledger here. limits: zeros for OL_BOOKS_LIMITS. */
OL_MUST_CHECK enum ol_status ol_ledger_audit(struct ol_ledger_audit *audit,
					     const struct ol_ledger_home *paths,
					     const struct ol_book_limits *limits,
					     struct ol_error *err);
/* Nothing is wrong. */
bool ol_ledger_audit_holds(const struct ol_ledger_audit *audit);

struct ol_ledger_rebuilt {
	struct ol_journal_mark until;
	struct ol_published published;
};
/* Makes index and public files anew. Takes the ledger's lock: no node may be running. */
OL_MUST_CHECK enum ol_status ol_ledger_rebuild(struct ol_ledger_rebuilt *rebuilt_out,
					       const struct ol_ledger_home *paths,
					       const struct ol_book_limits *limits,
					       struct ol_error *err);

#endif
