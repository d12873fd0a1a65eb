/* The book as a whole: checked, written out, read back. */
#include "ledger/book_inside.h"

#include "crypto/sha256.h"

#include <string.h>

typedef unsigned __int128 wide;

/* ---- Check ------------------------------------------------------------ */

struct sums {
	wide debits_posted, credits_posted, debits_pending, credits_pending;
};

static enum ol_status check_account(const struct ol_account *a, uint32_t index,
				    struct ol_error *err)
{
	const __int128 rest =
		(__int128)(ol_total_value(a->credits_posted) - ol_total_value(a->debits_posted) -
			   ol_total_value(a->debits_pending));
	if (rest < 0 && !(a->flags & OL_ACCOUNT_OVERDRAFT))
		return ol_fail(err, OL_ERR_INPUT,
			       "account %u (%s) is below zero and may not be: the book is wrong",
			       index, ol_account_kind_name(a->key.kind));
	return OL_OK;
}

static enum ol_status check_reservations(const struct ol_book *book, wide pending,
					 struct ol_error *err)
{
	wide open = 0;
	uint32_t count = 0;
	for (uint64_t at = book->old; at < book->young; at++) {
		const struct posted *p = &book->ring[at % book->limits.ids_max];
		if ((p->flags & STATE_MASK) != STATE_RESERVED)
			continue;
		open += p->amount.nano;
		count++;
	}
	if (open != pending || count != book->pending_count)
		return ol_fail(err, OL_ERR_INPUT,
			       "%u reservations are open, the accounts say %u, or other amounts: "
			       "the book is wrong",
			       count, book->pending_count);
	return OL_OK;
}

enum ol_status ol_book_check(const struct ol_book *book, struct ol_error *err)
{
	static const char *const currencies[OL_CURRENCY_COUNT] = {"OPEN", "test credit"};
	struct sums sums[OL_CURRENCY_COUNT] = {0};
	wide pending = 0;
	for (uint32_t i = 0; i < book->account_count; i++) {
		const struct ol_account *a = &book->accounts[i];
		const enum ol_status s = check_account(a, i, err);
		if (s != OL_OK)
			return s;
		struct sums *sum = &sums[a->key.currency];
		sum->debits_posted += ol_total_value(a->debits_posted);
		sum->credits_posted += ol_total_value(a->credits_posted);
		sum->debits_pending += ol_total_value(a->debits_pending);
		sum->credits_pending += ol_total_value(a->credits_pending);
	}
	for (int c = 0; c < OL_CURRENCY_COUNT; c++) {
		if (sums[c].debits_posted != sums[c].credits_posted ||
		    sums[c].debits_pending != sums[c].credits_pending)
			return ol_fail(err, OL_ERR_INPUT,
				       "debits and credits of %s differ: the book is wrong",
				       currencies[c]);
		pending += sums[c].debits_pending;
	}
	return check_reservations(book, pending, err);
}

/* ---- Out ------------------------------------------------------------ */

/* First in what ol_book_save writes; then the accounts, then the transfers, oldest first. */
struct saved {
	uint64_t now_ms, account_count, old, young;
};
_Static_assert(sizeof(struct saved) == 32, "snapshot v1");

enum ol_status ol_book_save(const struct ol_book *book, ol_book_put *put, void *context,
			    struct ol_error *err)
{
	const struct saved saved = {book->now_ms, book->account_count, book->old, book->young};
	const uint64_t first = book->old % book->limits.ids_max;
	const uint64_t live = book->young - book->old;
	const uint64_t straight = OL_MIN(live, book->limits.ids_max - first);
	enum ol_status s = put(context, &saved, sizeof saved, err);
	if (s == OL_OK)
		s = put(context, book->accounts, book->account_count * sizeof *book->accounts, err);
	if (s == OL_OK)
		s = put(context, book->ring + first, straight * sizeof *book->ring, err);
	if (s == OL_OK)
		s = put(context, book->ring, (live - straight) * sizeof *book->ring, err);
	return s;
}

static enum ol_status put_hash(void *context, const void *bytes, size_t size, struct ol_error *err)
{
	(void)err;
	ol_sha256_update(context, bytes, size);
	return OL_OK;
}

enum ol_status ol_book_digest(const struct ol_book *book, uint8_t out[32], struct ol_error *err)
{
	struct ol_sha256 hash;
	if (!ol_sha256_init(&hash))
		return ol_fail(err, OL_ERR_FULL, "out of memory while hashing the book");
	const enum ol_status s = ol_book_save(book, put_hash, &hash, err);
	ol_sha256_final(&hash, out);
	return s;
}

/* ---- In ------------------------------------------------------------ */

static enum ol_status fail_saved(struct ol_error *err, const char *what)
{
	return ol_fail(err, OL_ERR_INPUT, "the saved book is wrong: %s", what);
}

/* Far from where 128 bits end: it takes 2^62 transfers of the largest amount to come here. */
static bool totals_ok(const struct ol_account *a)
{
	return (a->debits_posted.high | a->credits_posted.high | a->debits_pending.high |
		a->credits_pending.high) >>
		       62 ==
	       0;
}

static enum ol_status load_accounts(struct ol_book *book, ol_book_get *get, void *context,
				    uint64_t count, struct ol_error *err)
{
	const uint32_t all = OL_ACCOUNT_OVERDRAFT | OL_ACCOUNT_FROZEN | OL_ACCOUNT_CLOSED;
	if (count > book->limits.accounts_max)
		return ol_fail(err, OL_ERR_FULL,
			       "the saved book has %llu accounts, the limit is %u: raise it",
			       (unsigned long long)count, book->limits.accounts_max);
	const enum ol_status s = get(context, book->accounts, count * sizeof *book->accounts, err);
	if (s != OL_OK)
		return s;
	for (uint32_t i = 0; i < count; i++) {
		const struct ol_account *a = &book->accounts[i];
		if (!ol_account_key_valid(&a->key) || (a->flags & ~all) ||
		    a->opened_ms > book->now_ms || !totals_ok(a))
			return fail_saved(err, "an account that cannot be");
		if (ol_book_find(book, &a->key))
			return fail_saved(err, "an account stands twice");
		ol_hash_index_insert(&book->account_index, book_key_tag(book, &a->key), i);
		book->account_count++;
	}
	return OL_OK;
}

static bool posted_ok(const struct ol_book *book, const struct posted *p)
{
	const unsigned inner = p->flags & ~(unsigned)TRANSFER_FLAGS;
	const unsigned state = p->flags & STATE_MASK;
	const bool pending = p->flags & OL_TRANSFER_PENDING;
	return p->debit < book->account_count && p->credit < book->account_count &&
	       (inner & ~(unsigned)(STATE_MASK | OPENED_CREDIT)) == 0 && state >= STATE_POSTED &&
	       state <= STATE_EXPIRED && pending == (state != STATE_POSTED) &&
	       ol_id_time_ms(p->id) <= book->now_ms + OL_ID_FUTURE_MS &&
	       p->due_ms <= book->now_ms + OL_PENDING_SECONDS_MAX * UINT64_C(1000);
}

static enum ol_status load_transfers(struct ol_book *book, ol_book_get *get, void *context,
				     const struct saved *saved, struct ol_error *err)
{
	const uint64_t live = saved->young - saved->old;
	if (saved->young < saved->old || live > book->limits.ids_max)
		return ol_fail(err, OL_ERR_FULL,
			       "the saved book has %llu transfers of the last seven days, the "
			       "limit is %u: raise it",
			       (unsigned long long)live, book->limits.ids_max);
	const uint64_t first = saved->old % book->limits.ids_max;
	const uint64_t straight = OL_MIN(live, book->limits.ids_max - first);
	enum ol_status s = get(context, book->ring + first, straight * sizeof *book->ring, err);
	if (s == OL_OK)
		s = get(context, book->ring, (live - straight) * sizeof *book->ring, err);
	if (s != OL_OK)
		return s;
	book->old = saved->old;
	for (book->young = saved->old; book->young < saved->young; book->young++) {
		const uint32_t ref = (uint32_t)(book->young % book->limits.ids_max);
		const struct posted *p = &book->ring[ref];
		if (!posted_ok(book, p))
			return fail_saved(err, "a transfer that cannot be");
		ol_hash_index_insert(&book->id_index, book_id_tag(book, p->id), ref);
		if ((p->flags & STATE_MASK) != STATE_RESERVED)
			continue;
		if (book->pending_count == book->limits.pending_max)
			return ol_fail(err, OL_ERR_FULL,
				       "the saved book has more than %u open reservations: raise "
				       "the limit",
				       book->limits.pending_max);
		book->pending_count++;
		book_due_push(book, p->due_ms, book->young);
	}
	return OL_OK;
}

static bool take_off(struct ol_total *total, struct ol_amount amount)
{
	if (ol_total_value(*total) < amount.nano)
		return false;
	ol_total_sub(total, amount);
	return true;
}

/* Are the open reservations, account by account, what is pending there? Takes them off, looks
 * whether anything is left, and puts them back. */
static bool reservations_ok(struct ol_book *book)
{
	bool ok = true;
	uint64_t at = book->old;
	for (; at < book->young && ok; at++) {
		const struct posted *p = &book->ring[at % book->limits.ids_max];
		if ((p->flags & STATE_MASK) == STATE_RESERVED)
			ok = take_off(&book->accounts[p->debit].debits_pending, p->amount) &&
			     take_off(&book->accounts[p->credit].credits_pending, p->amount);
	}
	for (uint32_t i = 0; i < book->account_count && ok; i++)
		ok = ol_total_value(book->accounts[i].debits_pending) == 0 &&
		     ol_total_value(book->accounts[i].credits_pending) == 0;
	for (uint64_t back = book->old; back < at && ok; back++) {
		const struct posted *p = &book->ring[back % book->limits.ids_max];
		if ((p->flags & STATE_MASK) != STATE_RESERVED)
			continue;
		ol_total_add(&book->accounts[p->debit].debits_pending, p->amount);
		ol_total_add(&book->accounts[p->credit].credits_pending, p->amount);
	}
	return ok;
}

enum ol_status ol_book_load(struct ol_book *book, ol_book_get *get, void *context,
			    struct ol_error *err)
{
	struct saved saved;
	OL_ASSERT(book->account_count == 0 && book->young == 0);
	enum ol_status s = get(context, &saved, sizeof saved, err);
	if (s == OL_OK && (saved.now_ms > OL_TIME_MS_MAX || saved.young >> 62 != 0))
		s = fail_saved(err, "a time or a number that cannot be");
	if (s != OL_OK)
		return s;
	book->now_ms = saved.now_ms;
	s = load_accounts(book, get, context, saved.account_count, err);
	if (s == OL_OK)
		s = load_transfers(book, get, context, &saved, err);
	if (s == OL_OK && !reservations_ok(book))
		s = fail_saved(err, "reservations that no account knows");
	return s == OL_OK ? ol_book_check(book, err) : s;
}
