/* ledger/book_inside.h, floor 2: what book.c and book_state.c share. For nobody else. */
#ifndef OL_LEDGER_BOOK_INSIDE_H
#define OL_LEDGER_BOOK_INSIDE_H

#include "ledger/book.h"
#include "ledger/hash_index.h"

enum {
	TRANSFER_FLAGS = OL_TRANSFER_LINKED | OL_TRANSFER_PENDING | OL_TRANSFER_POST |
			 OL_TRANSFER_VOID | OL_TRANSFER_OPENS,
	/* Above them, in what the book remembers: */
	OPENED_CREDIT = 0x100,
	STATE_POSTED = 0x1000,
	STATE_RESERVED = 0x2000,
	STATE_SPENT = 0x3000,
	STATE_VOIDED = 0x4000,
	STATE_EXPIRED = 0x5000,
	STATE_MASK = 0xf000
};

/* A transfer of the last seven days, whole, so that a retry can be compared field by field. */
struct posted {
	struct ol_id id, pending_id;
	uint8_t user_data[16];
	struct ol_amount amount;
	uint64_t due_ms; /* of a reservation: when it runs out */
	uint32_t debit, credit;
	uint32_t timeout_s;
	uint16_t code, flags;
};
_Static_assert(sizeof(struct posted) == 80, "snapshot v1");
_Static_assert(offsetof(struct posted, debit) == 64, "snapshot v1");

struct due {
	uint64_t at_ms, position;
};

/* The hashes of one transfer's ids and accounts, taken while others are posted. */
struct tags {
	uint32_t id, debit, credit, pending;
};

struct ol_book {
	struct ol_book_limits limits;
	uint64_t secret[4];
	uint64_t now_ms;
	struct ol_account *accounts;
	struct ol_hash_index account_index, id_index;
	uint32_t account_count;
	uint32_t pending_count;
	struct posted *ring; /* [old, young), each at its position mod ids_max */
	uint64_t old, young;
	struct due *due; /* a heap, earliest first */
	uint32_t due_count;
	size_t account_bytes, ring_bytes, due_bytes, account_slot_bytes, id_slot_bytes;
	struct tags tags[OL_BATCH_TRANSFERS_MAX];
};

void book_due_push(struct ol_book *book, uint64_t at_ms, uint64_t position);
uint32_t book_id_tag(const struct ol_book *book, struct ol_id id);
uint32_t book_key_tag(const struct ol_book *book, const struct ol_account_key *key);

#endif
