#include "ledger/amount.h"

#include "crypto/sha256.h"

#include <stdio.h>
#include <string.h>

typedef unsigned __int128 wide;

bool ol_amount_add(struct ol_amount *out, struct ol_amount a, struct ol_amount b)
{
	if (a.nano > UINT64_MAX - b.nano)
		return false;
	out->nano = a.nano + b.nano;
	return true;
}

bool ol_amount_sub(struct ol_amount *out, struct ol_amount a, struct ol_amount b)
{
	if (a.nano < b.nano)
		return false;
	out->nano = a.nano - b.nano;
	return true;
}

bool ol_amount_mul_div(struct ol_amount *out, struct ol_amount a, uint64_t times, uint64_t by,
		       enum ol_round round)
{
	if (by == 0)
		return false;
	const wide product = (wide)a.nano * times;
	wide quotient = product / by;
	if (round == OL_ROUND_UP && product % by != 0)
		quotient++;
	if (quotient > UINT64_MAX)
		return false;
	out->nano = (uint64_t)quotient;
	return true;
}

/* ---- Text ------------------------------------------------------------ */

/* digits * 10 + the next ones; false at anything but digits, or beyond 64 bits. */
static bool append_digits(uint64_t *value, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		const uint64_t digit = (uint64_t)(text[i] - '0');
		if (*value > (UINT64_MAX - digit) / 10)
			return false;
		*value = *value * 10 + digit;
	}
	return true;
}

static bool is_plain_integer(const char *text, size_t length)
{
	return length > 0 && (length == 1 || text[0] != '0');
}

bool ol_amount_parse(struct ol_amount *out, const char *text, size_t length)
{
	uint64_t value = 0;
	if (!is_plain_integer(text, length) || !append_digits(&value, text, length))
		return false;
	out->nano = value;
	return true;
}

void ol_amount_print(char out[OL_AMOUNT_TEXT_MAX], struct ol_amount a)
{
	snprintf(out, OL_AMOUNT_TEXT_MAX, "%llu", (unsigned long long)a.nano);
}

bool ol_amount_parse_open(struct ol_amount *out, const char *text, size_t length)
{
	static const char zeros[] = "000000000";
	enum { DECIMALS = sizeof zeros - 1 };
	const char *point = length > 0 ? memchr(text, '.', length) : NULL;
	const size_t whole = point ? (size_t)(point - text) : length;
	const size_t decimals = point ? length - whole - 1 : 0;
	uint64_t value = 0;
	if (!is_plain_integer(text, whole) || (point && decimals == 0) || decimals > DECIMALS)
		return false;
	if (!append_digits(&value, text, whole) ||
	    (point && !append_digits(&value, point + 1, decimals)) ||
	    !append_digits(&value, zeros, DECIMALS - decimals))
		return false;
	out->nano = value;
	return true;
}

void ol_amount_print_open(char out[OL_AMOUNT_OPEN_MAX], struct ol_amount a)
{
	snprintf(out, OL_AMOUNT_OPEN_MAX, "%llu.%09llu",
		 (unsigned long long)(a.nano / OL_NANO_PER_OPEN),
		 (unsigned long long)(a.nano % OL_NANO_PER_OPEN));
}

/* ---- Totals ------------------------------------------------------------ */

void ol_total_add(struct ol_total *total, struct ol_amount a)
{
	const uint64_t low = total->low + a.nano;
	if (low < a.nano)
		OL_ASSERT(++total->high != 0);
	total->low = low;
}

void ol_total_sub(struct ol_total *total, struct ol_amount a)
{
	if (total->low < a.nano)
		OL_ASSERT(total->high-- != 0);
	total->low -= a.nano;
}

void ol_total_print_difference(char out[OL_TOTAL_TEXT_MAX], struct ol_total plus,
			       struct ol_total minus)
{
	const wide p = ol_total_value(plus), m = ol_total_value(minus);
	wide rest = p < m ? m - p : p - m;
	char digits[OL_TOTAL_TEXT_MAX];
	size_t at = sizeof digits - 1;
	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + (int)(rest % 10));
		rest /= 10;
	} while (rest != 0);
	if (p < m)
		digits[--at] = '-';
	memcpy(out, digits + at, sizeof digits - at);
}

/* ---- Splits ------------------------------------------------------------ */

static uint64_t tie_of(const uint8_t receipt[OL_SPLIT_RECEIPT_BYTES],
		       const uint8_t account[OL_PART_ACCOUNT_BYTES])
{
	static const char tag[] = "openledger split\n";
	enum { TAG = sizeof tag - 1 };
	uint8_t text[TAG + OL_SPLIT_RECEIPT_BYTES + OL_PART_ACCOUNT_BYTES], hash[OL_SHA256_BYTES];
	uint64_t first = 0;
	memcpy(text, tag, TAG);
	memcpy(text + TAG, receipt, OL_SPLIT_RECEIPT_BYTES);
	memcpy(text + TAG + OL_SPLIT_RECEIPT_BYTES, account, OL_PART_ACCOUNT_BYTES);
	ol_sha256(hash, text, sizeof text);
	for (int i = 0; i < 8; i++) /* so that comparing numbers compares bytes */
		first = first << 8 | hash[i];
	return first;
}

/* Is a served before b? */
static bool before(const struct ol_split_part *parts, uint32_t a, uint32_t b)
{
	if (parts[a].fraction != parts[b].fraction)
		return parts[a].fraction > parts[b].fraction;
	if (parts[a].tie != parts[b].tie)
		return parts[a].tie < parts[b].tie;
	return a < b;
}

/* Heap sort of the order column: no memory, no bad case. Last served at the root. */
static void sift(struct ol_split_part *parts, size_t root, size_t count)
{
	for (size_t child; (child = 2 * root + 1) < count; root = child) {
		if (child + 1 < count && before(parts, parts[child].order, parts[child + 1].order))
			child++;
		if (!before(parts, parts[root].order, parts[child].order))
			return;
		const uint32_t swap = parts[root].order;
		parts[root].order = parts[child].order;
		parts[child].order = swap;
	}
}

static void sort_by_claim(struct ol_split_part *parts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		parts[i].order = (uint32_t)i;
	for (size_t i = count / 2; i-- > 0;)
		sift(parts, i, count);
	for (size_t end = count; end-- > 1;) {
		const uint32_t swap = parts[0].order;
		parts[0].order = parts[end].order;
		parts[end].order = swap;
		sift(parts, 0, end);
	}
}

bool ol_amount_split(struct ol_split_part *parts, size_t count, struct ol_amount total,
		     const uint8_t receipt[OL_SPLIT_RECEIPT_BYTES])
{
	uint64_t whole = 0, given = 0;
	if (count == 0 || count > OL_SPLIT_PARTS_MAX)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].weight > INT64_MAX - whole)
			return false;
		whole += parts[i].weight;
	}
	if (whole == 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		const wide product = (wide)total.nano * parts[i].weight;
		parts[i].amount.nano = (uint64_t)(product / whole);
		parts[i].fraction = (uint64_t)(product % whole);
		parts[i].tie = parts[i].fraction ? tie_of(receipt, parts[i].account) : 0;
		given += parts[i].amount.nano;
	}
	/* The fractions sum to left * whole and each is below whole: more than `left` parts have
	 * one, so a part of weight 0 is never reached. */
	const uint64_t left = total.nano - given;
	if (left > 0)
		sort_by_claim(parts, count);
	for (uint64_t i = 0; i < left; i++)
		parts[parts[i].order].amount.nano++;
	return true;
}
