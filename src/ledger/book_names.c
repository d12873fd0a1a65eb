#include "ledger/book.h"

static const char *const kind_names[] = {
	[OL_ACCOUNT_ADDRESS] = "address",   [OL_ACCOUNT_PLATFORM] = "platform",
	[OL_ACCOUNT_CLEARING] = "clearing", [OL_ACCOUNT_POT] = "pot",
	[OL_ACCOUNT_DATANET] = "datanet",   [OL_ACCOUNT_STAKERS] = "stakers",
	[OL_ACCOUNT_CHAIN] = "chain",       [OL_ACCOUNT_OUTBOX] = "outbox",
	[OL_ACCOUNT_GRANTS] = "grants",     [OL_ACCOUNT_FUND] = "fund",
};
_Static_assert(OL_ARRAY_LEN(kind_names) == OL_ACCOUNT_KIND_LAST + 1, "a name for every kind");

static const char *const account_outcome_names[] = {
	[OL_ACCOUNT_OK] = "ok",
	[OL_ACCOUNT_UNKNOWN_ACTION] = "unknown_action",
	[OL_ACCOUNT_UNKNOWN_FLAGS] = "unknown_flags",
	[OL_ACCOUNT_RESERVED_FIELD] = "reserved_field",
	[OL_ACCOUNT_INVALID_KEY] = "invalid_key",
	[OL_ACCOUNT_NOT_FOUND] = "not_found",
	[OL_ACCOUNT_EXISTS] = "exists",
	[OL_ACCOUNT_EXISTS_WITH_DIFFERENT_FLAGS] = "exists_with_different_flags",
	[OL_ACCOUNT_NOT_EMPTY] = "not_empty",
	[OL_ACCOUNT_OVERDRAWN] = "overdrawn",
};
_Static_assert(OL_ARRAY_LEN(account_outcome_names) == OL_ACCOUNT_OUTCOME_COUNT,
	       "a name for every outcome");

static const char *const post_names[] = {
	[OL_POST_OK] = "ok",
	[OL_POST_EXISTS] = "exists",
	[OL_POST_LINKED_FAILED] = "linked_failed",
	[OL_POST_CHAIN_OPEN] = "chain_open",
	[OL_POST_CHAIN_DIFFERS] = "chain_differs",
	[OL_POST_ID_ZERO] = "id_zero",
	[OL_POST_ID_IN_FUTURE] = "id_in_future",
	[OL_POST_ID_TOO_OLD] = "id_too_old",
	[OL_POST_EXISTS_WITH_DIFFERENT_FLAGS] = "exists_with_different_flags",
	[OL_POST_EXISTS_WITH_DIFFERENT_CODE] = "exists_with_different_code",
	[OL_POST_EXISTS_WITH_DIFFERENT_AMOUNT] = "exists_with_different_amount",
	[OL_POST_EXISTS_WITH_DIFFERENT_DEBIT] = "exists_with_different_debit",
	[OL_POST_EXISTS_WITH_DIFFERENT_CREDIT] = "exists_with_different_credit",
	[OL_POST_EXISTS_WITH_DIFFERENT_PENDING_ID] = "exists_with_different_pending_id",
	[OL_POST_EXISTS_WITH_DIFFERENT_TIMEOUT] = "exists_with_different_timeout",
	[OL_POST_EXISTS_WITH_DIFFERENT_USER_DATA] = "exists_with_different_user_data",
	[OL_POST_UNKNOWN_FLAGS] = "unknown_flags",
	[OL_POST_EXCLUSIVE_FLAGS] = "exclusive_flags",
	[OL_POST_CODE_ZERO] = "code_zero",
	[OL_POST_INVALID_DEBIT] = "invalid_debit",
	[OL_POST_INVALID_CREDIT] = "invalid_credit",
	[OL_POST_SAME_ACCOUNT] = "same_account",
	[OL_POST_CURRENCY_DIFFERS] = "currency_differs",
	[OL_POST_AMOUNT_ZERO] = "amount_zero",
	[OL_POST_AMOUNT_OF_VOID] = "amount_of_void",
	[OL_POST_TIMEOUT_MISSING] = "timeout_missing",
	[OL_POST_TIMEOUT_TOO_LONG] = "timeout_too_long",
	[OL_POST_TIMEOUT_UNEXPECTED] = "timeout_unexpected",
	[OL_POST_PENDING_ID_MISSING] = "pending_id_missing",
	[OL_POST_PENDING_ID_UNEXPECTED] = "pending_id_unexpected",
	[OL_POST_DEBIT_NOT_FOUND] = "debit_not_found",
	[OL_POST_CREDIT_NOT_FOUND] = "credit_not_found",
	[OL_POST_PENDING_NOT_FOUND] = "pending_not_found",
	[OL_POST_PENDING_NOT_PENDING] = "pending_not_pending",
	[OL_POST_PENDING_DIFFERENT_DEBIT] = "pending_different_debit",
	[OL_POST_PENDING_DIFFERENT_CREDIT] = "pending_different_credit",
	[OL_POST_PENDING_ALREADY_POSTED] = "pending_already_posted",
	[OL_POST_PENDING_ALREADY_VOIDED] = "pending_already_voided",
	[OL_POST_PENDING_EXPIRED] = "pending_expired",
	[OL_POST_EXCEEDS_PENDING] = "exceeds_pending",
	[OL_POST_DEBIT_CLOSED] = "debit_closed",
	[OL_POST_CREDIT_CLOSED] = "credit_closed",
	[OL_POST_DEBIT_FROZEN] = "debit_frozen",
	[OL_POST_OVERDRAFT] = "overdraft",
};
_Static_assert(OL_ARRAY_LEN(post_names) == OL_POST_COUNT, "a name for every answer");

/* What has no name cannot come from this program: "?" */
static const char *name_in(const char *const *names, size_t count, unsigned index)
{
	return index < count && names[index] ? names[index] : "?";
}

const char *ol_account_kind_name(enum ol_account_kind kind)
{
	return name_in(kind_names, OL_ARRAY_LEN(kind_names), kind);
}

const char *ol_account_outcome_name(enum ol_account_outcome outcome)
{
	return name_in(account_outcome_names, OL_ARRAY_LEN(account_outcome_names), outcome);
}

const char *ol_post_name(enum ol_post outcome)
{
	return name_in(post_names, OL_ARRAY_LEN(post_names), outcome);
}
