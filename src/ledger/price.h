/* ledger/price.h, floor 2: what an answer costs, and in which parts it is paid out.
 *
 * A listing is what a builder publishes for an adapter (or a base's owner for the base alone):
 * prices per 1,000 tokens and a split in parts per million. It is an event of the log; the newest
 * one is in force from the next request on, and every receipt names the one it was made under.
 *
 *     price = ceil((prompt * prompt_price + completion * completion_price) / 1000)
 *     parts = the split of the price: largest remainder, always summing to the price */
#ifndef OL_LEDGER_PRICE_H
#define OL_LEDGER_PRICE_H

#include "ledger/book.h"
#include "ledger/event.h"

/* Append-only. */
enum ol_party {
	OL_PARTY_BASE = 0,      /* who owns the base                             */
	OL_PARTY_BUILDER = 1,   /* who trained the adapter                       */
	OL_PARTY_DATA = 2,      /* the contributors: the model's pot of the epoch */
	OL_PARTY_REVIEWERS = 3, /* the review pot                                */
	OL_PARTY_STAKERS = 4,   /* joins the data's part while nobody stakes      */
	OL_PARTY_NODE = 5,      /* who ran the computation                       */
	OL_PARTY_PLATFORM = 6,
	OL_PARTIES = 7
};
const char *ol_party_name(enum ol_party party);

struct ol_listing {
	struct ol_event_head head;
	uint8_t model[32]; /* the adapter, or the base's id when it is sold alone */
	uint8_t base[32];
	uint8_t previous[32]; /* id of the listing that this one replaces; zero: the first */
	uint64_t version;     /* 1, 2, … */
	struct ol_amount prompt_price, completion_price; /* per 1,000 tokens */
	uint32_t ppm[OL_PARTIES];                        /* together OL_PPM                  */
	uint32_t data_floor; /* what the Datanets' use policies leave the contributors at least */
	/* In OPEN; credit goes to the same names in credit. Zero where ppm is 0, and for the data,
	 * whose account is the pot of the epoch. */
	struct ol_account_key accounts[OL_PARTIES];
};
_Static_assert(sizeof(struct ol_listing) == 16 + 96 + 8 + 16 + 32 + 7 * 32, "listing v1");

/* Every refusal; one test row each. */
enum ol_listing_fault {
	OL_LISTING_WELL,
	OL_LISTING_SIZE,
	OL_LISTING_KIND,
	OL_LISTING_VERSION,  /* 0, or the first one names a previous one            */
	OL_LISTING_PPM,      /* not a million together                             */
	OL_LISTING_FLOOR,    /* the data gets less than the policies leave it       */
	OL_LISTING_ACCOUNTS, /* a part without an account, an account without a part, or one
			      * that cannot be paid this way                             */
	OL_LISTING_PRICE     /* above OL_PRICE_MAX                                 */
};
const char *ol_listing_fault_text(enum ol_listing_fault fault);
/* 1,000 tokens cost at most a million OPEN: so a price fits for any count of tokens below 2^32. */
#define OL_PRICE_MAX UINT64_C(1000000000000000)
#define OL_NANO_SUPPLY (OL_NANO_PER_OPEN * UINT64_C(1000000000)) /* all the OPEN there is */

enum ol_listing_fault ol_listing_read(struct ol_listing *listing, const uint8_t *bytes,
				      size_t size);
enum ol_listing_fault ol_listing_check(const struct ol_listing *listing);

/* False: more than there is OPEN in the world; then nothing is written. */
OL_MUST_CHECK bool ol_price(struct ol_amount *price_out, const struct ol_listing *listing,
			    uint64_t prompt_tokens, uint64_t completion_tokens);

#endif
