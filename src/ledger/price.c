#include "ledger/price.h"

#include <string.h>

static const char *const role_names[OL_ROLES] = {
	[OL_ROLE_BASE] = "base",           [OL_ROLE_BUILDER] = "builder", [OL_ROLE_DATA] = "data",
	[OL_ROLE_REVIEWERS] = "reviewers", [OL_ROLE_STAKERS] = "stakers", [OL_ROLE_NODE] = "node",
	[OL_ROLE_PLATFORM] = "platform",
};

const char *ol_role_name(enum ol_role role)
{
	OL_ASSERT(role < OL_ROLES);
	return role_names[role];
}

static bool all_zero(const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* Only these kinds may earn: the others are the book's own. */
static bool account_well(const struct ol_listing *listing, enum ol_role role)
{
	const struct ol_account_key *key = &listing->accounts[role];

	if (role == OL_ROLE_DATA || listing->ppm[role] == 0)
		return all_zero(key, sizeof *key);
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
	    (listing->version == 1) != all_zero(listing->previous, sizeof listing->previous))
		return OL_LISTING_VERSION;
	if (listing->prompt_price.nano > OL_PRICE_MAX ||
	    listing->completion_price.nano > OL_PRICE_MAX)
		return OL_LISTING_PRICE;
	for (int role = 0; role < OL_ROLES; role++)
		ppm += listing->ppm[role];
	if (ppm != OL_PPM)
		return OL_LISTING_PPM;
	for (int role = 0; role < OL_ROLES; role++)
		if (!account_well(listing, (enum ol_role)role))
			return OL_LISTING_ACCOUNTS;
	if (listing->data_floor > OL_PPM || listing->ppm[OL_ROLE_DATA] < listing->data_floor)
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
