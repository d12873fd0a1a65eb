#include "ledger/receipt.h"

#include <string.h>

#include "base/bytes.h"

/* --- commitments --- */

static void hash_u64(struct ol_sha256 *hash, uint64_t value)
{
	uint8_t bytes[8];

	ol_store_u64(bytes, value);
	ol_sha256_update(hash, bytes, sizeof bytes);
}

static void hash_u32(struct ol_sha256 *hash, uint32_t value)
{
	uint8_t bytes[4];

	ol_store_u32(bytes, value);
	ol_sha256_update(hash, bytes, sizeof bytes);
}

static void hash_tokens(struct ol_sha256 *hash, const int32_t *tokens, size_t count)
{
	hash_u64(hash, count);
	for (size_t i = 0; i < count; i++)
		hash_u32(hash, (uint32_t)tokens[i]);
}

static void hash_text(struct ol_sha256 *hash, struct ol_opening_text text)
{
	hash_u64(hash, text.size);
	ol_sha256_update(hash, text.bytes, text.size);
}

/* Each use of SHA-256 begins with its own words, so that no hash can be passed off as another. */
static bool hash_begin(struct ol_sha256 *hash, const char *purpose)
{
	if (!ol_sha256_init(hash))
		return false;
	ol_sha256_update(hash, purpose, strlen(purpose) + 1);
	return true;
}

bool ol_receipt_commit_request(uint8_t out[32], const struct ol_opening *opening)
{
	struct ol_sha256 hash;

	if (!hash_begin(&hash, "openledger request v1"))
		return false;
	ol_sha256_update(&hash, opening->salt, OL_SALT_BYTES);
	hash_u64(&hash, opening->prompt_count);
	for (size_t i = 0; i < opening->prompt_count; i++)
		hash_tokens(&hash, opening->prompts[i].tokens, opening->prompts[i].count);
	hash_u64(&hash, opening->stop_count);
	for (size_t i = 0; i < opening->stop_count; i++)
		hash_text(&hash, opening->stops[i]);
	hash_u64(&hash, opening->bias_count);
	for (size_t i = 0; i < opening->bias_count; i++) {
		uint32_t bits;
		memcpy(&bits, &opening->bias[i].bias, sizeof bits);
		hash_u32(&hash, (uint32_t)opening->bias[i].token);
		hash_u32(&hash, bits);
	}
	hash_text(&hash, opening->grammar);
	ol_sha256_final(&hash, out);
	return true;
}

bool ol_receipt_commit_response(uint8_t out[32], const struct ol_opening *opening)
{
	struct ol_sha256 hash;

	if (!hash_begin(&hash, "openledger response v1"))
		return false;
	ol_sha256_update(&hash, opening->salt, OL_SALT_BYTES);
	hash_u64(&hash, opening->choice_count);
	for (size_t i = 0; i < opening->choice_count; i++) {
		hash_u32(&hash, opening->choices[i].finish);
		hash_tokens(&hash, opening->choices[i].tokens, opening->choices[i].count);
	}
	ol_sha256_final(&hash, out);
	return true;
}

uint64_t ol_receipt_seed(uint64_t checkpoint_size, const uint8_t checkpoint_root[32],
			 const uint8_t request[32])
{
	static const char purpose[24] = "openledger seed v1";
	uint8_t bytes[sizeof purpose + 8 + 32 + 32], hash[OL_SHA256_BYTES];

	memcpy(bytes, purpose, sizeof purpose);
	ol_store_u64(bytes + sizeof purpose, checkpoint_size);
	memcpy(bytes + sizeof purpose + 8, checkpoint_root, 32);
	memcpy(bytes + sizeof purpose + 40, request, 32);
	ol_sha256(hash, bytes, sizeof bytes);
	return ol_load_u64(hash) >> 11;
}

void ol_receipt_pseudonym(uint8_t out[32], const uint8_t secret[32], uint64_t epoch,
			  const struct ol_account_key *account)
{
	static const char purpose[24] = "openledger payer v1";
	uint8_t bytes[sizeof purpose + 32 + 8 + sizeof *account];

	/* A secret of fixed length in front, all lengths fixed: nothing can be appended. */
	memcpy(bytes, purpose, sizeof purpose);
	memcpy(bytes + sizeof purpose, secret, 32);
	ol_store_u64(bytes + sizeof purpose + 32, epoch);
	memcpy(bytes + sizeof purpose + 40, account, sizeof *account);
	ol_sha256(out, bytes, sizeof bytes);
}

uint64_t ol_receipt_epoch(uint64_t time_ms)
{
	return time_ms / 3600000;
}

/* --- bytes --- */

void ol_receipt_write(struct ol_buf *bytes, const struct ol_receipt *receipt,
		      const struct ol_receipt_part *parts)
{
	OL_ASSERT(receipt->parts <= OL_PARTIES);
	ol_buf_append(bytes, receipt, sizeof *receipt);
	ol_buf_append(bytes, parts, receipt->parts * sizeof *parts);
}

static bool within(float value, float low, float high)
{
	return value >= low && value <= high; /* false for NaN */
}

static bool sampling_well(const struct ol_receipt_sampling *s)
{
	static const uint8_t zero[sizeof s->zero];

	return within(s->temperature, 0, 100) && within(s->top_p, 0, 1) && within(s->min_p, 0, 1) &&
	       within(s->repeat_penalty, 0, 100) && within(s->presence_penalty, -100, 100) &&
	       within(s->frequency_penalty, -100, 100) && s->top_k >= 0 && s->choices > 0 &&
	       s->room > 0 && s->seed_rule <= OL_SEED_CHECKPOINT && s->ignore_eos <= 1 &&
	       s->strip_lead_space <= 1 && memcmp(s->zero, zero, sizeof zero) == 0;
}

static bool name_well(const char *name, size_t room)
{
	const size_t size = strnlen(name, room);

	for (size_t i = size; i < room; i++)
		if (name[i] != '\0')
			return false;
	return size > 0 && size < room;
}

void ol_receipt_pot(struct ol_account_key *pot, const struct ol_receipt *receipt)
{
	static const uint8_t none[32];
	const uint8_t *model =
		memcmp(receipt->adapter, none, sizeof none) == 0 ? receipt->base : receipt->adapter;

	ol_account_key_init(pot, OL_ACCOUNT_POT, (enum ol_currency)receipt->currency,
			    (uint32_t)receipt->epoch, model, 32);
}

void ol_receipt_parts(struct ol_receipt *receipt, struct ol_receipt_part *parts,
		      const struct ol_listing *listing, bool staked)
{
	receipt->parts = 0;
	for (uint32_t party = 0; party < OL_PARTIES; party++) {
		uint32_t ppm = listing->ppm[party];
		if (party == OL_PARTY_STAKERS && !staked)
			ppm = 0;
		if (party == OL_PARTY_DATA && !staked)
			ppm += listing->ppm[OL_PARTY_STAKERS];
		if (ppm == 0)
			continue;
		struct ol_receipt_part *part = &parts[receipt->parts++];
		memset(part, 0, sizeof *part);
		part->party = party;
		part->ppm = ppm;
		part->account = listing->accounts[party];
		part->account.currency = (uint8_t)receipt->currency;
		if (party == OL_PARTY_DATA)
			ol_receipt_pot(&part->account, receipt);
	}
}

void ol_receipt_split(const struct ol_receipt *receipt, struct ol_receipt_part *parts)
{
	struct ol_split_part shares[OL_PARTIES];

	OL_ASSERT(receipt->parts <= OL_PARTIES);
	for (uint32_t i = 0; i < receipt->parts; i++) {
		shares[i] = (struct ol_split_part){.weight = parts[i].ppm};
		memcpy(shares[i].account, &parts[i].account, sizeof parts[i].account);
	}
	OL_ASSERT(ol_amount_split(shares, receipt->parts, receipt->price, receipt->request));
	for (uint32_t i = 0; i < receipt->parts; i++)
		parts[i].amount = shares[i].amount;
}

static enum ol_receipt_fault check_parts(const struct ol_receipt *receipt,
					 const struct ol_receipt_part *parts)
{
	struct ol_receipt_part split[OL_PARTIES];
	struct ol_account_key pot;
	uint64_t ppm = 0;

	if (receipt->parts == 0) { /* no price was asked */
		static const uint8_t none[32];
		return receipt->price.nano == 0 && memcmp(receipt->listing, none, 32) == 0
			       ? OL_RECEIPT_WELL
			       : OL_RECEIPT_FREE;
	}
	ol_receipt_pot(&pot, receipt);
	for (uint32_t i = 0; i < receipt->parts; i++) {
		if (parts[i].party >= OL_PARTIES || (i > 0 && parts[i].party <= parts[i - 1].party))
			return OL_RECEIPT_ORDER;
		if (!ol_account_key_valid(&parts[i].account) ||
		    parts[i].account.currency != receipt->currency ||
		    (parts[i].party == OL_PARTY_DATA) !=
			    (memcmp(&parts[i].account, &pot, sizeof pot) == 0))
			return OL_RECEIPT_ACCOUNTS;
		ppm += parts[i].ppm;
	}
	if (ppm != OL_PPM)
		return OL_RECEIPT_PPM;
	memcpy(split, parts, receipt->parts * sizeof *parts);
	ol_receipt_split(receipt, split);
	for (uint32_t i = 0; i < receipt->parts; i++)
		if (split[i].amount.nano != parts[i].amount.nano)
			return OL_RECEIPT_SPLIT;
	return OL_RECEIPT_WELL;
}

enum ol_receipt_fault ol_receipt_read(struct ol_receipt *receipt, struct ol_receipt_part *parts,
				      const uint8_t *bytes, size_t size)
{
	if (size < sizeof *receipt + OL_SIGNATURE_BYTES || size > OL_RECEIPT_MAX)
		return OL_RECEIPT_SIZE;
	memcpy(receipt, bytes, sizeof *receipt);
	if (!ol_event_read(&receipt->head, bytes, size) || receipt->head.kind != OL_EVENT_RECEIPT)
		return OL_RECEIPT_KIND;
	if (receipt->parts > OL_PARTIES ||
	    size != sizeof *receipt + receipt->parts * sizeof *parts + OL_SIGNATURE_BYTES)
		return OL_RECEIPT_SIZE;
	memcpy(parts, bytes + sizeof *receipt, receipt->parts * sizeof *parts);
	if (!name_well(receipt->arithmetic, sizeof receipt->arithmetic) || receipt->kv_type > 1)
		return OL_RECEIPT_ARITHMETIC;
	if (receipt->work > OL_WORK_EMBEDDINGS || receipt->prompts == 0 ||
	    (uint64_t)receipt->prompts * receipt->sampling.choices > OL_RECEIPT_CHOICES_MAX)
		return OL_RECEIPT_WORK;
	if (!sampling_well(&receipt->sampling))
		return OL_RECEIPT_SAMPLING;
	if (receipt->epoch != ol_receipt_epoch(receipt->head.time_ms))
		return OL_RECEIPT_EPOCH;
	if (receipt->currency >= OL_CURRENCY_COUNT)
		return OL_RECEIPT_CURRENCY;
	if (receipt->sampling.seed_rule == OL_SEED_CHECKPOINT &&
	    receipt->sampling.seed != ol_receipt_seed(receipt->checkpoint_size,
						      receipt->checkpoint_root, receipt->request))
		return OL_RECEIPT_SEED;
	return check_parts(receipt, parts);
}

const char *ol_receipt_fault_text(enum ol_receipt_fault fault)
{
	switch (fault) {
	case OL_RECEIPT_WELL: return "well-formed";
	case OL_RECEIPT_SIZE: return "its length is not that of a receipt";
	case OL_RECEIPT_KIND: return "it is not a receipt of a version that this program knows";
	case OL_RECEIPT_ARITHMETIC: return "it names no arithmetic that there is";
	case OL_RECEIPT_WORK: return "what was done is unknown, or there is none or too much of it";
	case OL_RECEIPT_SAMPLING: return "a sampling setting is out of its range";
	case OL_RECEIPT_EPOCH: return "its epoch is not that of its time";
	case OL_RECEIPT_CURRENCY: return "its currency is unknown";
	case OL_RECEIPT_ORDER: return "its parts are not in the order of their parties";
	case OL_RECEIPT_ACCOUNTS: return "a part goes to an account that cannot have it";
	case OL_RECEIPT_PPM: return "its parts are not a million together";
	case OL_RECEIPT_SPLIT: return "its amounts are not the split of its price";
	case OL_RECEIPT_FREE: return "it has a price or a listing, but nobody is paid";
	case OL_RECEIPT_SEED:
		return "its seed does not follow from checkpoint and request, as it says";
	}
	OL_UNREACHABLE();
}
