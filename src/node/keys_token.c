/* The form of a token, the names of scopes, and what is said to whoever is refused. */
#include "node/keys_internal.h"

#include "base/random.h"
#include "crypto/secret.h"

#include <string.h>

enum { PREFIX = 3, SECRET_BYTES = 32, SECRET_CHARS = 43, SUM_CHARS = 6 };
_Static_assert(PREFIX + SECRET_CHARS + SUM_CHARS == OL_KEY_TOKEN_CHARS, "the form of a token");

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* `count` digits of base 62, the most significant first; overwrites the number. */
static void write_base62(char *text, int count, uint8_t *number, size_t size)
{
	for (int i = count - 1; i >= 0; i--) {
		unsigned rest = 0;
		for (size_t k = 0; k < size; k++) {
			const unsigned value = rest << 8 | number[k];
			number[k] = (uint8_t)(value / 62);
			rest = value % 62;
		}
		text[i] = digits[rest];
	}
}

/* CRC-32 as in IEEE 802.3 and zlib. */
static uint32_t crc32(const char *text, size_t size)
{
	uint32_t sum = 0xffffffff;
	for (size_t i = 0; i < size; i++) {
		sum ^= (uint8_t)text[i];
		for (int bit = 0; bit < 8; bit++)
			sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
	}
	return ~sum;
}

static void write_sum(char *text, const char *token)
{
	const uint32_t sum = crc32(token, PREFIX + SECRET_CHARS);
	uint8_t bytes[4] = {(uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8),
			    (uint8_t)sum};
	write_base62(text, SUM_CHARS, bytes, sizeof bytes);
}

void key_token_make(char token_out[OL_KEY_TOKEN_CHARS + 1], char id_out[OL_KEY_ID_CHARS + 1])
{
	const struct ol_random *random = &ol_random_system;
	uint8_t secret[SECRET_BYTES], name[9];
	random->fill(random->self, secret, sizeof secret);
	random->fill(random->self, name, sizeof name);
	memcpy(token_out, "ol-", PREFIX);
	write_base62(token_out + PREFIX, SECRET_CHARS, secret, sizeof secret);
	write_sum(token_out + PREFIX + SECRET_CHARS, token_out);
	token_out[OL_KEY_TOKEN_CHARS] = '\0';
	memcpy(id_out, "key-", 4);
	write_base62(id_out + 4, OL_KEY_ID_CHARS - 4, name, sizeof name);
	id_out[OL_KEY_ID_CHARS] = '\0';
	ol_wipe(secret, sizeof secret);
}

bool ol_key_token_check(const char *token)
{
	char sum[SUM_CHARS];
	if (strnlen(token, OL_KEY_TOKEN_CHARS + 1) != OL_KEY_TOKEN_CHARS ||
	    memcmp(token, "ol-", PREFIX) != 0 ||
	    strspn(token + PREFIX, digits) != OL_KEY_TOKEN_CHARS - PREFIX)
		return false;
	write_sum(sum, token);
	return memcmp(token + PREFIX + SECRET_CHARS, sum, SUM_CHARS) == 0;
}

/* ---- Scopes ---- */

static const char *const scope_names[OL_SCOPES] = {"inference", "models",  "files",   "jobs",
						   "ledger",    "datanet", "metrics", "admin"};

const char *ol_scope_name(enum ol_scope scope)
{
	for (int i = 0; i < OL_SCOPES; i++)
		if ((unsigned)scope == 1u << i)
			return scope_names[i];
	OL_UNREACHABLE();
}

enum ol_status ol_scopes_parse(uint32_t *scopes_out, const char *text, struct ol_error *err)
{
	uint32_t scopes = 0;
	for (const char *at = text;;) {
		const size_t length = strcspn(at, ",");
		int found = -1;
		for (int i = 0; i < OL_SCOPES; i++)
			if (strlen(scope_names[i]) == length &&
			    memcmp(scope_names[i], at, length) == 0)
				found = i;
		if (found < 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "\"%.*s\" is not a scope: name some of inference, models, "
				       "files, jobs, ledger, datanet, metrics, admin, with commas "
				       "between them",
				       (int)OL_MIN(length, (size_t)40), at);
		scopes |= 1u << found;
		at += length;
		if (*at == '\0')
			break;
		at++;
	}
	*scopes_out = scopes;
	return OL_OK;
}

bool ol_scopes_write(struct ol_buf *text, uint32_t scopes)
{
	const char *comma = "";
	for (int i = 0; i < OL_SCOPES; i++)
		if (scopes & 1u << i) {
			ol_buf_printf(text, "%s%s", comma, scope_names[i]);
			comma = ",";
		}
	return !text->failed;
}

/* ---- Verdicts ---- */

static const struct ol_verdict_row rows[OL_VERDICTS] = {
	{OL_VERDICT_OK, 200, "", "", "", false},
	{OL_VERDICT_NO_KEY, 401, "invalid_request_error", "missing_api_key",
	 "This server needs an API key: send `Authorization: Bearer ol-...`. Its operator makes "
	 "one with `openledger keys add`.",
	 false},
	{OL_VERDICT_MALFORMED, 401, "invalid_request_error", "invalid_api_key",
	 "What was sent is not an API key of this server (ol- and 49 letters and digits), or has a "
	 "typing error: its checksum is wrong.",
	 false},
	{OL_VERDICT_UNKNOWN, 401, "invalid_request_error", "invalid_api_key",
	 "This API key was not made by this server.", false},
	{OL_VERDICT_REVOKED, 401, "invalid_request_error", "invalid_api_key",
	 "This API key has been revoked.", false},
	{OL_VERDICT_EXPIRED, 401, "invalid_request_error", "invalid_api_key",
	 "This API key has expired.", false},
	{OL_VERDICT_SCOPE, 403, "permission_error", "missing_scope",
	 "This API key may not be used for this; `openledger keys list` shows its scopes.", false},
	{OL_VERDICT_REQUESTS, 429, "requests", "rate_limit_exceeded",
	 "This API key has used up its requests per minute: try again after the time in "
	 "retry-after.",
	 true},
	{OL_VERDICT_TOKENS_MINUTE, 429, "tokens", "rate_limit_exceeded",
	 "This API key has used up its tokens per minute: try again after the time in retry-after.",
	 true},
	{OL_VERDICT_TOO_LARGE, 413, "tokens", "request_too_large",
	 "This request alone may need more tokens than this API key has per minute: shorten it, or "
	 "lower max_tokens.",
	 false},
	{OL_VERDICT_TOKENS_DAY, 429, "insufficient_quota", "insufficient_quota",
	 "This API key has too few tokens left for today (UTC) for this request.", true},
	{OL_VERDICT_TOKENS_TOTAL, 403, "insufficient_quota", "insufficient_quota",
	 "This API key has too few tokens left for this request.", false},
	{OL_VERDICT_MONEY_DAY, 402, "insufficient_quota", "billing_limit_reached",
	 "This API key's money for today (UTC) does not cover what this request may cost.", true},
	{OL_VERDICT_MONEY_TOTAL, 402, "insufficient_quota", "billing_limit_reached",
	 "This API key's money does not cover what this request may cost.", false},
};

const struct ol_verdict_row *ol_verdict_row(enum ol_verdict verdict)
{
	OL_ASSERT((unsigned)verdict < OL_VERDICTS && rows[verdict].verdict == verdict);
	return &rows[verdict];
}
