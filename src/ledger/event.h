/* ledger/event.h, floor 2: what stands in the public log.
 *
 * Every leaf of the log is an event: a head of 16 bytes, then a body whose layout its kind and
 * version fix (docs/FORMATS.md, "Events"). Little-endian, no padding; what is written is a promise.
 * An event's id is its leaf hash, SHA-256(0x00 || bytes): whoever knows the id can find the leaf,
 * and nothing in it assumes one node. */
#ifndef OL_LEDGER_EVENT_H
#define OL_LEDGER_EVENT_H

#include "base/base.h"
#include "crypto/merkle.h"

enum { OL_EVENT_HEAD_BYTES = 16, OL_EVENT_ID_BYTES = OL_MERKLE_BYTES, OL_EVENT_MAX = 65535 };

/* Append-only. */
enum ol_event_kind {
	OL_EVENT_GENESIS = 1,     /* a log begins: its origin, its key                    */
	OL_EVENT_KEY = 2,         /* a key follows another                                */
	OL_EVENT_GRANT = 3,       /* test credit to an account                            */
	OL_EVENT_LISTING = 4,     /* an adapter's price and split from now on             */
	OL_EVENT_RECEIPT = 5,     /* an inference: what answered, what it cost, who earns   */
	OL_EVENT_EPOCH_CLOSE = 6, /* an adapter's data pot goes to its contributors         */
	OL_EVENT_KINDS
};
const char *ol_event_kind_name(enum ol_event_kind kind); /* "genesis", "receipt", … */

struct ol_event_head {
	char magic[4]; /* "OLEV" */
	uint16_t version;
	uint16_t kind;
	uint64_t time_ms; /* since 1970, by the node's clock */
};
_Static_assert(sizeof(struct ol_event_head) == OL_EVENT_HEAD_BYTES, "event v1");

/* False: not an event of a kind and version that this program knows. */
OL_MUST_CHECK bool ol_event_read(struct ol_event_head *head, const uint8_t *bytes, size_t size);
void ol_event_begin(struct ol_event_head *head, enum ol_event_kind kind, uint64_t time_ms);
void ol_event_id(uint8_t id[OL_EVENT_ID_BYTES], const uint8_t *bytes, size_t size);

#endif
