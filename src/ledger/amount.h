/* ledger/amount.h, floor 2: money is a type.
 *
 * An ol_amount counts nano-OPEN (10^-9 OPEN); the whole supply of 10^9 OPEN is 10^18 of them and
 * fits. Nothing here rounds silently: adding and multiplying say false when the result does not
 * fit, and dividing says which way it rounds. In JSON an amount is the decimal string of its
 * nano-OPEN, on screens it is OPEN with nine decimals; both print and parse exactly.
 *
 * An ol_total is 128 bits wide: what an account has moved in its life may exceed any one amount. */
#ifndef OL_LEDGER_AMOUNT_H
#define OL_LEDGER_AMOUNT_H

#include "base/base.h"

struct ol_amount {
	uint64_t nano;
};

#define OL_NANO_PER_OPEN UINT64_C(1000000000)
#define OL_PPM UINT32_C(1000000) /* parts per million that make a whole */

enum {
	OL_AMOUNT_TEXT_MAX = 21,     /* nano-OPEN in decimal, with its NUL          */
	OL_AMOUNT_OPEN_MAX = 22,     /* OPEN with point and nine decimals, with NUL */
	OL_TOTAL_TEXT_MAX = 41,      /* a sign, 39 digits, NUL                      */
	OL_PART_ACCOUNT_BYTES = 32,  /* an ol_account_key (ledger/book.h)           */
	OL_SPLIT_RECEIPT_BYTES = 32, /* what the ties of a split are hashed with    */
	OL_SPLIT_PARTS_MAX = 1 << 20 /* of one split                                */
};

static inline struct ol_amount ol_amount(uint64_t nano)
{
	return (struct ol_amount){nano};
}

static inline bool ol_amount_is_zero(struct ol_amount a)
{
	return a.nano == 0;
}

/* -1, 0, 1 */
static inline int ol_amount_compare(struct ol_amount a, struct ol_amount b)
{
	return (a.nano > b.nano) - (a.nano < b.nano);
}

/* false, and *out untouched: the result does not fit 64 bits, or lies below zero. out may be one of
 * the operands. */
OL_MUST_CHECK bool ol_amount_add(struct ol_amount *out, struct ol_amount a, struct ol_amount b);
OL_MUST_CHECK bool ol_amount_sub(struct ol_amount *out, struct ol_amount a, struct ol_amount b);

enum ol_round { OL_ROUND_DOWN, OL_ROUND_UP };

/* a * times / by, the product exact in 128 bits, rounded once. false when by is 0 or the quotient
 * does not fit. */
OL_MUST_CHECK bool ol_amount_mul_div(struct ol_amount *out, struct ol_amount a, uint64_t times,
				     uint64_t by, enum ol_round round);

/* Nano-OPEN as JSON carries them: digits only, no sign, no leading zero, at most 2^64 - 1. Exactly
 * one text per amount, so that what is signed has one form. */
OL_MUST_CHECK bool ol_amount_parse(struct ol_amount *out, const char *text, size_t length);
void ol_amount_print(char out[OL_AMOUNT_TEXT_MAX], struct ol_amount a);

/* OPEN as a person types and reads it. Parsing takes digits with at most nine decimals ("1", "1.5",
 * "0.000000001"; no sign, no exponent, no bare point); printing writes all nine. */
OL_MUST_CHECK bool ol_amount_parse_open(struct ol_amount *out, const char *text, size_t length);
void ol_amount_print_open(char out[OL_AMOUNT_OPEN_MAX], struct ol_amount a);

/* ---- Totals ------------------------------------------------------------ */

/* low first, as on disk. */
struct ol_total {
	uint64_t low, high;
};

static inline unsigned __int128 ol_total_value(struct ol_total t)
{
	return (unsigned __int128)t.high << 64 | t.low;
}

static inline struct ol_total ol_total_of(unsigned __int128 value)
{
	return (struct ol_total){(uint64_t)value, (uint64_t)(value >> 64)};
}

/* Passing 2^128 takes 2^64 transfers of the largest amount: our bug, so both stop the process. */
void ol_total_add(struct ol_total *total, struct ol_amount a);
void ol_total_sub(struct ol_total *total, struct ol_amount a);
static inline bool ol_total_equal(struct ol_total a, struct ol_total b)
{
	return a.low == b.low && a.high == b.high;
}

/* plus - minus in nano-OPEN, with a '-' when below zero. */
void ol_total_print_difference(char out[OL_TOTAL_TEXT_MAX], struct ol_total plus,
			       struct ol_total minus);

/* ---- Splits ------------------------------------------------------------ */

/* One party of a split: who, and with which weight. The rest is filled in. */
struct ol_split_part {
	uint8_t account[OL_PART_ACCOUNT_BYTES];
	uint64_t weight; /* parts per million, a score, a stake: any unit, the same for all */
	struct ol_amount amount;
	uint64_t fraction; /* what rounding down cost, in units of 1 / sum of the weights */
	uint64_t tie;      /* first eight bytes of the hash that decides between equal fractions */
	uint32_t order;    /* scratch */
};

/* Splits total by weight: every part is rounded down, then the nano-OPEN that are left go one by
 * one to the largest fractions; among equal fractions to the smaller SHA-256("openledger split\n"
 * || receipt || account), then to the earlier part. So the parts always sum to the total, a party
 * of weight 0 gets nothing, and nobody gains by choosing an address before the receipt exists.
 *
 * false, and nothing written but scratch: no parts or too many, all weights 0, or weights that sum
 * to 2^63 or more. */
OL_MUST_CHECK bool ol_amount_split(struct ol_split_part *parts, size_t count,
				   struct ol_amount total,
				   const uint8_t receipt[OL_SPLIT_RECEIPT_BYTES]);

#endif
