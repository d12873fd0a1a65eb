#include "ledger/price.h"
#include "base/bytes.h"

#include <string.h>

static const char *const party_names[OL_PARTIES] = {
	[OL_PARTY_BASE] = "base",         [OL_PARTY_BUILDER] = "builder",
	[OL_PARTY_DATA] = "data",         [OL_PARTY_REVIEWERS] = "reviewers",
	[OL_PARTY_STAKERS] = "stakers",   [OL_PARTY_NODE] = "node",
	[OL_PARTY_PLATFORM] = "platform",
};

const char *ol_party_name(enum ol_party party)
{
	OL_ASSERT(party < OL_PARTIES);
	return party_names[party];
}

/* Only these kinds may earn: the others are the book's own. */
static bool account_well(const struct ol_listing *listing, enum ol_party party)
{
	const struct ol_account_key *key = &listing->accounts[party];

	if (party == OL_PARTY_DATA || listing->ppm[party] == 0)
		return ol_all_zero(key, sizeof *key);
	if (!ol_account_key_valid(key) || key->currency != OL_CURRENCY_OPEN)
		return false;
	return key->kind == OL_ACCOUNT_ADDRESS || key->kind == OL_ACCOUNT_PLATFORM ||
	       key->kind == OL_ACCOUNT_DATANET || key->kind == OL_ACCOUNT_STAKERS ||
	       key->kind == OL_ACCOUNT_FUND;
}

enum ol_listing_fault ol_listing_check(const struct ol_listing *listing)
{
	uint64_t ppm = 0;

	if (listing->version == 0 ||
	    (listing->version == 1) != ol_all_zero(listing->previous, sizeof listing->previous))
		return OL_LISTING_VERSION;
	if (listing->prompt_price.nano > OL_PRICE_MAX ||
	    listing->completion_price.nano > OL_PRICE_MAX)
		return OL_LISTING_PRICE;
	for (int party = 0; party < OL_PARTIES; party++)
		ppm += listing->ppm[party];
	if (ppm != OL_PPM)
		return OL_LISTING_PPM;
	for (int party = 0; party < OL_PARTIES; party++)
		if (!account_well(listing, (enum ol_party)party))
			return OL_LISTING_ACCOUNTS;
	if (listing->data_floor > OL_PPM || listing->ppm[OL_PARTY_DATA] < listing->data_floor)
		return OL_LISTING_FLOOR;
	return OL_LISTING_WELL;
}

enum ol_listing_fault ol_listing_read(struct ol_listing *listing, const uint8_t *bytes, size_t size)
{
	if (size != sizeof *listing)
		return OL_LISTING_SIZE;
	memcpy(listing, bytes, sizeof *listing);
	if (!ol_event_read(&listing->head, bytes, size) || listing->head.kind != OL_EVENT_LISTING)
		return OL_LISTING_KIND;
	return ol_listing_check(listing);
}

const char *ol_listing_fault_text(enum ol_listing_fault fault)
{
	switch (fault) {
	case OL_LISTING_WELL: return "well-formed";
	case OL_LISTING_SIZE: return "its length is not that of a listing";
	case OL_LISTING_KIND: return "it is not a listing of a version that this program knows";
	case OL_LISTING_VERSION:
		return "a first listing is version 1 and replaces none, a later one names the one "
		       "before";
	case OL_LISTING_PPM: return "the shares are not 1,000,000 parts together";
	case OL_LISTING_FLOOR:
		return "the contributors get less than the use policies of their data allow";
	case OL_LISTING_ACCOUNTS:
		return "a share has no account that can be paid, or an account no share";
	case OL_LISTING_PRICE: return "a price is above a million OPEN per 1,000 tokens";
	}
	OL_UNREACHABLE();
}

bool ol_price(struct ol_amount *price_out, const struct ol_listing *listing, uint64_t prompt_tokens,
	      uint64_t completion_tokens)
{
	if (prompt_tokens > UINT32_MAX || completion_tokens > UINT32_MAX)
		return false;
	const unsigned __int128 thousandths =
		(unsigned __int128)listing->prompt_price.nano * prompt_tokens +
		(unsigned __int128)listing->completion_price.nano * completion_tokens;
	const unsigned __int128 whole = (thousandths + 999) / 1000;
	if (whole > OL_NANO_SUPPLY)
		return false;
	*price_out = ol_amount((uint64_t)whole);
	return true;
}
