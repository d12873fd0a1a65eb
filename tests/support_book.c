#include "tests/support_book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef unsigned __int128 wide;

/* ---- The list ------------------------------------------------------------ */

void ol_naive_init(struct ol_naive_book *naive)
{
	*naive = (struct ol_naive_book){0};
}

void ol_naive_release(struct ol_naive_book *naive)
{
	free(naive->accounts);
	free(naive->transfers);
	*naive = (struct ol_naive_book){0};
}

static void fit(struct ol_naive_book *n, int accounts, int transfers)
{
	if (accounts > n->account_room) {
		n->account_room = 2 * accounts;
		n->accounts = realloc(n->accounts, (size_t)n->account_room * sizeof *n->accounts);
		assert_non_null(n->accounts);
	}
	if (transfers > n->transfer_room) {
		n->transfer_room = 2 * transfers;
		n->transfers =
			realloc(n->transfers, (size_t)n->transfer_room * sizeof *n->transfers);
		assert_non_null(n->transfers);
	}
}

void ol_naive_copy(struct ol_naive_book *to, const struct ol_naive_book *from)
{
	fit(to, from->account_count, from->transfer_count);
	if (from->account_count > 0)
		memcpy(to->accounts, from->accounts,
		       (size_t)from->account_count * sizeof *to->accounts);
	if (from->transfer_count > 0)
		memcpy(to->transfers, from->transfers,
		       (size_t)from->transfer_count * sizeof *to->transfers);
	to->account_count = from->account_count;
	to->transfer_count = from->transfer_count;
	to->now_ms = from->now_ms;
}

static struct ol_naive_account *account_of(const struct ol_naive_book *n,
					   const struct ol_account_key *key)
{
	for (int i = 0; i < n->account_count; i++)
		if (memcmp(&n->accounts[i].key, key, sizeof *key) == 0)
			return &n->accounts[i];
	return NULL;
}

static struct ol_naive_transfer *transfer_of(const struct ol_naive_book *n, struct ol_id id)
{
	for (int i = n->transfer_count; i-- > 0;)
		if (memcmp(&n->transfers[i].t.id, &id, sizeof id) == 0)
			return &n->transfers[i];
	return NULL;
}

static bool has(const struct ol_transfer *t, unsigned flag)
{
	return (t->flags & flag) != 0;
}

static bool is(const struct ol_account_key *a, const struct ol_account_key *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

struct sums {
	wide debits_posted, credits_posted, debits_pending, credits_pending;
};

static struct sums sums_of(const struct ol_naive_book *n, const struct ol_account_key *key)
{
	struct sums s = {0};
	for (int i = 0; i < n->transfer_count; i++) {
		const struct ol_naive_transfer *x = &n->transfers[i];
		const uint64_t units = x->t.amount.nano;
		const bool reserves = has(&x->t, OL_TRANSFER_PENDING);
		if (reserves && x->state != OL_TRANSFER_RESERVED)
			continue;
		if (is(&x->t.debit, key))
			*(reserves ? &s.debits_pending : &s.debits_posted) += units;
		if (is(&x->t.credit, key))
			*(reserves ? &s.credits_pending : &s.credits_posted) += units;
	}
	return s;
}

static bool too_old(const struct ol_naive_book *n, struct ol_id id)
{
	const uint64_t seven_days = 7ull * 24 * 60 * 60 * 1000;
	return n->now_ms > seven_days && (id.high >> 16) < n->now_ms - seven_days;
}

void ol_naive_advance(struct ol_naive_book *n, uint64_t now_ms)
{
	assert_true(now_ms >= n->now_ms);
	n->now_ms = now_ms;
	for (int i = 0; i < n->transfer_count; i++) {
		struct ol_naive_transfer *x = &n->transfers[i];
		if (x->state == OL_TRANSFER_RESERVED &&
		    x->posted_ms + 1000ull * x->t.timeout_s <= now_ms)
			x->state = OL_TRANSFER_EXPIRED;
	}
}

/* ---- Rules ------------------------------------------------------------ */

static bool all_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i])
			return false;
	return true;
}

static bool key_ok(const struct ol_account_key *k)
{
	const bool open = k->currency == OL_CURRENCY_OPEN,
		   credit = k->currency == OL_CURRENCY_CREDIT;
	const bool no_id = all_zero(k->id, 24), no_epoch = k->epoch == 0;
	if (k->zero || (!open && !credit))
		return false;
	switch (k->kind) {
	case 1: return no_epoch && all_zero(k->id + 20, 4);
	case 2: return no_epoch && no_id;
	case 3: return no_epoch && no_id;
	case 4: return true;
	case 5: return no_epoch;
	case 6: return no_epoch;
	case 7: return no_epoch && open;
	case 8: return no_epoch && no_id && open;
	case 9: return no_epoch && no_id && credit;
	case 10: return no_epoch;
	default: return false;
	}
}

static enum ol_account_outcome do_op(struct ol_naive_book *n, const struct ol_account_op *op)
{
	if (op->action != 1 && op->action != 2)
		return OL_ACCOUNT_UNKNOWN_ACTION;
	if (op->flags > 7)
		return OL_ACCOUNT_UNKNOWN_FLAGS;
	if (op->zero || !all_zero(op->zeros, sizeof op->zeros))
		return OL_ACCOUNT_RESERVED_FIELD;
	if (!key_ok(&op->key))
		return OL_ACCOUNT_INVALID_KEY;
	struct ol_naive_account *a = account_of(n, &op->key);
	if (op->action == 2) {
		if (!a)
			return OL_ACCOUNT_NOT_FOUND;
		const struct sums s = sums_of(n, &op->key);
		if ((op->flags & OL_ACCOUNT_CLOSED) &&
		    (s.debits_posted != s.credits_posted || s.debits_pending || s.credits_pending))
			return OL_ACCOUNT_NOT_EMPTY;
		if (!(op->flags & OL_ACCOUNT_OVERDRAFT) &&
		    s.debits_posted + s.debits_pending > s.credits_posted)
			return OL_ACCOUNT_OVERDRAWN;
		a->flags = op->flags;
		return OL_ACCOUNT_OK;
	}
	if (a)
		return a->flags == op->flags ? OL_ACCOUNT_EXISTS
					     : OL_ACCOUNT_EXISTS_WITH_DIFFERENT_FLAGS;
	fit(n, n->account_count + 1, 0);
	n->accounts[n->account_count++] = (struct ol_naive_account){op->key, op->flags, n->now_ms};
	return OL_ACCOUNT_OK;
}

static enum ol_post again(const struct ol_transfer *old, const struct ol_transfer *t)
{
	if (old->flags != t->flags)
		return OL_POST_EXISTS_WITH_DIFFERENT_FLAGS;
	if (old->code != t->code)
		return OL_POST_EXISTS_WITH_DIFFERENT_CODE;
	if (old->amount.nano != t->amount.nano)
		return OL_POST_EXISTS_WITH_DIFFERENT_AMOUNT;
	if (!is(&old->debit, &t->debit))
		return OL_POST_EXISTS_WITH_DIFFERENT_DEBIT;
	if (!is(&old->credit, &t->credit))
		return OL_POST_EXISTS_WITH_DIFFERENT_CREDIT;
	if (memcmp(&old->pending_id, &t->pending_id, 16) != 0)
		return OL_POST_EXISTS_WITH_DIFFERENT_PENDING_ID;
	if (old->timeout_s != t->timeout_s)
		return OL_POST_EXISTS_WITH_DIFFERENT_TIMEOUT;
	if (memcmp(old->user_data, t->user_data, 16) != 0)
		return OL_POST_EXISTS_WITH_DIFFERENT_USER_DATA;
	return OL_POST_EXISTS;
}

static enum ol_post fields(const struct ol_transfer *t)
{
	const bool pending = has(t, OL_TRANSFER_PENDING), post = has(t, OL_TRANSFER_POST);
	const bool cancel = has(t, OL_TRANSFER_VOID),
		   no_pending_id = !t->pending_id.low && !t->pending_id.high;
	if (t->flags >= 32)
		return OL_POST_UNKNOWN_FLAGS;
	if (pending + post + cancel > 1 || (has(t, OL_TRANSFER_OPENS) && (post || cancel)))
		return OL_POST_EXCLUSIVE_FLAGS;
	if (!t->code)
		return OL_POST_CODE_ZERO;
	if (!key_ok(&t->debit))
		return OL_POST_INVALID_DEBIT;
	if (!key_ok(&t->credit))
		return OL_POST_INVALID_CREDIT;
	if (is(&t->debit, &t->credit))
		return OL_POST_SAME_ACCOUNT;
	if (t->debit.currency != t->credit.currency)
		return OL_POST_CURRENCY_DIFFERS;
	if (!cancel && !t->amount.nano)
		return OL_POST_AMOUNT_ZERO;
	if (cancel && t->amount.nano)
		return OL_POST_AMOUNT_OF_VOID;
	if (pending && !t->timeout_s)
		return OL_POST_TIMEOUT_MISSING;
	if (pending && t->timeout_s > 24 * 60 * 60)
		return OL_POST_TIMEOUT_TOO_LONG;
	if (!pending && t->timeout_s)
		return OL_POST_TIMEOUT_UNEXPECTED;
	if ((post || cancel) && no_pending_id)
		return OL_POST_PENDING_ID_MISSING;
	if (!post && !cancel && !no_pending_id)
		return OL_POST_PENDING_ID_UNEXPECTED;
	return OL_POST_OK;
}

static enum ol_post second_phase(const struct ol_naive_book *n, const struct ol_transfer *t)
{
	const struct ol_naive_transfer *x = transfer_of(n, t->pending_id);
	if (!x || (too_old(n, x->t.id) && x->state != OL_TRANSFER_RESERVED))
		return OL_POST_PENDING_NOT_FOUND;
	if (!has(&x->t, OL_TRANSFER_PENDING))
		return OL_POST_PENDING_NOT_PENDING;
	if (!is(&x->t.debit, &t->debit))
		return OL_POST_PENDING_DIFFERENT_DEBIT;
	if (!is(&x->t.credit, &t->credit))
		return OL_POST_PENDING_DIFFERENT_CREDIT;
	if (x->state == OL_TRANSFER_SPENT)
		return OL_POST_PENDING_ALREADY_POSTED;
	if (x->state == OL_TRANSFER_VOIDED)
		return OL_POST_PENDING_ALREADY_VOIDED;
	if (x->state == OL_TRANSFER_EXPIRED)
		return OL_POST_PENDING_EXPIRED;
	return t->amount.nano > x->t.amount.nano ? OL_POST_EXCEEDS_PENDING : OL_POST_OK;
}

static enum ol_post judge(const struct ol_naive_book *n, const struct ol_transfer *t)
{
	const uint64_t id_ms = t->id.high >> 16;
	if (!t->id.high && !t->id.low)
		return OL_POST_ID_ZERO;
	if (id_ms > n->now_ms + 5 * 60 * 1000)
		return OL_POST_ID_IN_FUTURE;
	if (too_old(n, t->id))
		return OL_POST_ID_TOO_OLD;
	const struct ol_naive_transfer *old = transfer_of(n, t->id);
	if (old)
		return again(&old->t, t);
	const enum ol_post wrong = fields(t);
	if (wrong != OL_POST_OK)
		return wrong;
	const struct ol_naive_account *debit = account_of(n, &t->debit);
	const struct ol_naive_account *credit = account_of(n, &t->credit);
	if (!debit)
		return OL_POST_DEBIT_NOT_FOUND;
	if (!credit && !has(t, OL_TRANSFER_OPENS))
		return OL_POST_CREDIT_NOT_FOUND;
	if (has(t, OL_TRANSFER_POST | OL_TRANSFER_VOID))
		return second_phase(n, t);
	if (debit->flags & OL_ACCOUNT_CLOSED)
		return OL_POST_DEBIT_CLOSED;
	if (credit && credit->flags & OL_ACCOUNT_CLOSED)
		return OL_POST_CREDIT_CLOSED;
	if (debit->flags & OL_ACCOUNT_FROZEN)
		return OL_POST_DEBIT_FROZEN;
	const struct sums s = sums_of(n, &t->debit);
	if (!(debit->flags & OL_ACCOUNT_OVERDRAFT) &&
	    s.debits_posted + s.debits_pending + t->amount.nano > s.credits_posted)
		return OL_POST_OVERDRAFT;
	return OL_POST_OK;
}

static void carry_out(struct ol_naive_book *n, const struct ol_transfer *t)
{
	enum ol_transfer_state state = OL_TRANSFER_POSTED;
	if (!account_of(n, &t->credit)) {
		fit(n, n->account_count + 1, 0);
		n->accounts[n->account_count++] =
			(struct ol_naive_account){t->credit, 0, n->now_ms};
	}
	if (has(t, OL_TRANSFER_PENDING))
		state = OL_TRANSFER_RESERVED;
	if (has(t, OL_TRANSFER_POST))
		transfer_of(n, t->pending_id)->state = OL_TRANSFER_SPENT;
	if (has(t, OL_TRANSFER_VOID))
		transfer_of(n, t->pending_id)->state = OL_TRANSFER_VOIDED;
	fit(n, 0, n->transfer_count + 1);
	n->transfers[n->transfer_count++] = (struct ol_naive_transfer){*t, n->now_ms, state};
}

/* Transfers [from, to) are one chain. Every one of them must be fresh and fine, in order; or every
 * one must stand in the book already. */
static void do_chain(struct ol_naive_book *n, uint8_t *results, const struct ol_transfer *t,
		     int from, int to, bool open)
{
	struct ol_naive_book before = {0};
	int fresh = 0, old = 0, culprit = -1;
	ol_naive_copy(&before, n);
	for (int i = from; i < to && culprit < 0; i++) {
		enum ol_post answer = judge(n, &t[i]);
		if (open && i + 1 == to)
			answer = OL_POST_CHAIN_OPEN;
		if (answer == OL_POST_OK) {
			carry_out(n, &t[i]);
			fresh++;
		} else if (answer == OL_POST_EXISTS) {
			old++;
		}
		if (fresh > 0 && old > 0)
			answer = OL_POST_CHAIN_DIFFERS;
		results[i] = (uint8_t)answer;
		if (answer != OL_POST_OK && answer != OL_POST_EXISTS)
			culprit = i;
	}
	if (culprit >= 0) {
		ol_naive_copy(n, &before);
		for (int i = from; i < to; i++)
			if (i != culprit)
				results[i] = OL_POST_LINKED_FAILED;
	}
	ol_naive_release(&before);
}

void ol_naive_post(struct ol_naive_book *n, uint8_t *account_results, uint8_t *transfer_results,
		   const struct ol_postings *p, uint64_t now_ms)
{
	const int count = (int)p->transfer_count;
	ol_naive_advance(n, now_ms);
	for (uint32_t i = 0; i < p->account_count; i++)
		account_results[i] = (uint8_t)do_op(n, &p->accounts[i]);
	for (int from = 0, to; from < count; from = to) {
		to = from + 1;
		while (to < count && has(&p->transfers[to - 1], OL_TRANSFER_LINKED))
			to++;
		const bool open = has(&p->transfers[to - 1], OL_TRANSFER_LINKED);
		if (to - from > 1 || open) {
			do_chain(n, transfer_results, p->transfers, from, to, open);
			continue;
		}
		const enum ol_post answer = judge(n, &p->transfers[from]);
		transfer_results[from] = (uint8_t)answer;
		if (answer == OL_POST_OK)
			carry_out(n, &p->transfers[from]);
	}
}

/* ---- Comparing ------------------------------------------------------------ */

static bool totals_differ(struct ol_total t, wide value)
{
	return ol_total_value(t) != value;
}

const char *ol_naive_difference(const struct ol_naive_book *n, const struct ol_book *book)
{
	struct ol_transfer t;
	if (ol_book_account_count(book) != (uint32_t)n->account_count)
		return "another number of accounts";
	for (int i = 0; i < n->account_count; i++) {
		const struct ol_naive_account *x = &n->accounts[i];
		const struct ol_account *a = ol_book_account_at(book, (uint32_t)i);
		const struct sums s = sums_of(n, &x->key);
		if (!is(&a->key, &x->key) || ol_book_find(book, &x->key) != a)
			return "another account";
		if (a->flags != x->flags || a->opened_ms != x->opened_ms)
			return "other flags or another time of an account";
		if (totals_differ(a->debits_posted, s.debits_posted) ||
		    totals_differ(a->credits_posted, s.credits_posted))
			return "another balance";
		if (totals_differ(a->debits_pending, s.debits_pending) ||
		    totals_differ(a->credits_pending, s.credits_pending))
			return "another reservation";
	}
	for (int i = 0; i < n->transfer_count; i++) {
		const struct ol_naive_transfer *x = &n->transfers[i];
		const bool gone = too_old(n, x->t.id) && x->state != OL_TRANSFER_RESERVED;
		const enum ol_transfer_state state = ol_book_transfer(book, &t, x->t.id);
		if (state != (gone ? OL_TRANSFER_UNKNOWN : x->state))
			return "another state of a transfer";
		if (!gone && memcmp(&t, &x->t, sizeof t) != 0)
			return "another transfer";
	}
	return NULL;
}

/* ---- Random batches ------------------------------------------------------------ */

static int pick(struct ol_world *w, int count)
{
	return ol_dice_between(&w->dice, 0, count - 1);
}

/* The first 16 are opened at the beginning; of the others one in two exists by and by. */
static struct ol_account_key key_of(int number)
{
	static const uint8_t kinds[] = {
		OL_ACCOUNT_CHAIN,    OL_ACCOUNT_GRANTS,   OL_ACCOUNT_CLEARING, OL_ACCOUNT_CLEARING,
		OL_ACCOUNT_PLATFORM, OL_ACCOUNT_PLATFORM, OL_ACCOUNT_OUTBOX,   OL_ACCOUNT_POT,
		OL_ACCOUNT_DATANET,  OL_ACCOUNT_STAKERS};
	struct ol_account_key key = {0};
	const int fixed = (int)OL_ARRAY_LEN(kinds);
	key.kind = number < fixed ? kinds[number] : OL_ACCOUNT_ADDRESS;
	key.currency = (uint8_t)(number % 2);
	if (key.kind == OL_ACCOUNT_OUTBOX)
		key.currency = OL_CURRENCY_OPEN;
	if (key.kind == OL_ACCOUNT_POT)
		key.epoch = 77;
	if (key.kind == OL_ACCOUNT_ADDRESS || key.kind == OL_ACCOUNT_POT ||
	    key.kind == OL_ACCOUNT_DATANET || key.kind == OL_ACCOUNT_STAKERS)
		key.id[3] = (uint8_t)(number / 2 + 1);
	return key;
}

void ol_world_init(struct ol_world *w, uint64_t seed)
{
	memset(w, 0, sizeof *w);
	w->dice.state = seed;
	w->now_ms = UINT64_C(1790000000000) + ol_dice_next(&w->dice) % 1000000000;
}

void ol_world_wait(struct ol_world *w)
{
	const int kind = pick(w, 100);
	if (kind < 40)
		w->now_ms += (uint64_t)pick(w, 20);
	else if (kind < 90)
		w->now_ms += (uint64_t)pick(w, 20000);
	else if (kind < 97)
		w->now_ms += (uint64_t)pick(w, 6 * 3600) * 1000;
	else
		w->now_ms += (uint64_t)pick(w, 4 * 86400) * 1000;
}

void ol_world_open_accounts(struct ol_world *w, struct ol_postings *postings)
{
	const int count = 16;
	for (int i = 0; i < count; i++)
		w->ops[i] = (struct ol_account_op){.key = key_of(i),
						   .action = OL_ACCOUNT_OPEN,
						   .flags = i < 2 ? OL_ACCOUNT_OVERDRAFT : 0};
	*postings = (struct ol_postings){.accounts = w->ops, .account_count = (uint32_t)count};
}

static struct ol_id fresh_id(struct ol_world *w)
{
	uint8_t random[OL_ID_RANDOM_BYTES];
	for (size_t i = 0; i < sizeof random; i++)
		random[i] = (uint8_t)ol_dice_next(&w->dice);
	uint64_t ms = w->now_ms - (uint64_t)pick(w, 5000);
	const int kind = pick(w, 100);
	if (kind == 0)
		ms = w->now_ms + (uint64_t)pick(w, 10 * 60 * 1000);
	else if (kind <= 2)
		ms = w->now_ms - (uint64_t)pick(w, 10 * 86400) * 1000;
	else if (kind <= 5) /* about to be too old */
		ms = w->now_ms - OL_ID_LIFE_MS + (uint64_t)pick(w, 3600) * 1000;
	return ol_id_make(ms, random);
}

static void spoil(struct ol_world *w, struct ol_transfer *t)
{
	switch (pick(w, 14)) {
	case 0: t->flags ^= (uint16_t)(1u << pick(w, 7)); break;
	case 1: t->code = (uint16_t)pick(w, 3); break;
	case 2: t->amount.nano = (uint64_t)pick(w, 3); break;
	case 3: t->debit = key_of(pick(w, OL_WORLD_ACCOUNTS)); break;
	case 4: t->credit = key_of(pick(w, OL_WORLD_ACCOUNTS)); break;
	case 5: t->pending_id = fresh_id(w); break;
	case 6: t->timeout_s = (uint32_t)pick(w, 3) * 60000; break;
	case 7: t->user_data[pick(w, 16)] ^= 1; break;
	case 8: t->debit.kind = (uint8_t)pick(w, 12); break;
	case 9: t->credit.currency = (uint8_t)pick(w, 3); break;
	case 10: t->id = (struct ol_id){0}; break;
	case 11: t->credit.epoch = (uint32_t)pick(w, 2); break;
	case 12: t->credit.id[23] ^= 1; break;
	case 13: t->amount.nano = UINT64_MAX - (uint64_t)pick(w, 3); break;
	}
}

static struct ol_transfer random_transfer(struct ol_world *w)
{
	struct ol_transfer t = {.id = fresh_id(w), .code = (uint16_t)(1 + pick(w, 15))};
	const int kind = pick(w, 100);
	const int from = pick(w, 10) < 3 ? pick(w, 2) : pick(w, OL_WORLD_ACCOUNTS);
	t.debit = key_of(from);
	t.credit = key_of(from % 2 + 2 * pick(w, OL_WORLD_ACCOUNTS / 2));
	t.amount.nano = (uint64_t)pick(w, from < 2 ? 1000 : 200);
	t.user_data[0] = (uint8_t)pick(w, 4);
	if (pick(w, 3) > 0)
		t.flags |= OL_TRANSFER_OPENS;
	if (kind < 30) {
		t.flags |= OL_TRANSFER_PENDING;
		t.timeout_s = 1 + (uint32_t)pick(w, pick(w, 2) ? 30 : 86400);
	} else if (kind < 55 && w->sent_count > 0) {
		/* Of the last few, one in three of them reserves something. */
		const int reach = pick(w, 2) ? 8 : 200;
		const int back = pick(w, OL_MIN(w->sent_count, reach));
		const struct ol_transfer *first =
			&w->sent[(w->sent_count - 1 - back) % OL_WORLD_SENT_MAX];
		t.debit = first->debit;
		t.credit = first->credit;
		t.pending_id = first->id;
		t.flags = pick(w, 3) ? OL_TRANSFER_POST : OL_TRANSFER_VOID;
		t.amount.nano = t.flags == OL_TRANSFER_VOID ? 0
				: pick(w, 8)                ? first->amount.nano
							    : (uint64_t)pick(w, 300);
	}
	if (pick(w, 12) == 0)
		spoil(w, &t);
	return t;
}

static struct ol_account_op random_op(struct ol_world *w)
{
	struct ol_account_op op = {.key = key_of(pick(w, OL_WORLD_ACCOUNTS)),
				   .action = (uint16_t)(1 + pick(w, 2)),
				   .flags = pick(w, 2) ? 0 : (uint32_t)pick(w, 8)};
	switch (pick(w, 12)) {
	case 0: op.action = 3; break;
	case 1: op.flags = 8; break;
	case 2: op.zeros[5] = 1; break;
	case 3: op.key.kind = (uint8_t)pick(w, 13); break;
	case 4: op.zero = 1; break;
	}
	return op;
}

/* Something sent before: the same, or nearly so; a whole chain most of the time. */
static int send_again(struct ol_world *w, struct ol_transfer *out, int room)
{
	const int back = pick(w, OL_MIN(w->sent_count, OL_WORLD_SENT_MAX - 32));
	int at = w->sent_count - 1 - back, count = 0;
	const int floor = OL_MAX(0, w->sent_count - OL_WORLD_SENT_MAX);
	while (at > floor && (w->sent[(at - 1) % OL_WORLD_SENT_MAX].flags & OL_TRANSFER_LINKED))
		at--;
	while (count < room && at < w->sent_count) {
		out[count] = w->sent[at++ % OL_WORLD_SENT_MAX];
		if (pick(w, 20) == 0)
			spoil(w, &out[count]);
		if (!(out[count++].flags & OL_TRANSFER_LINKED))
			break;
	}
	return count;
}

void ol_world_batch(struct ol_world *w, struct ol_postings *postings, int max)
{
	const int wanted = ol_dice_between(&w->dice, 1, OL_MIN(max, OL_WORLD_BATCH_MAX));
	int count = 0, ops = 0;
	if (pick(w, 6) == 0)
		for (ops = 0; ops < 3; ops++)
			w->ops[ops] = random_op(w);
	const int before = w->sent_count;
	while (count < wanted) {
		if (before > 0 && pick(w, 6) == 0) {
			count += send_again(w, w->transfers + count, wanted - count);
			continue;
		}
		const int length = pick(w, 4) ? 1 : 1 + pick(w, 5);
		const int chain = OL_MIN(length, wanted - count);
		for (int i = 0; i < chain; i++) {
			struct ol_transfer t = random_transfer(w);
			if (i + 1 < chain)
				t.flags |= OL_TRANSFER_LINKED;
			w->transfers[count++] = t;
			w->sent[w->sent_count++ % OL_WORLD_SENT_MAX] = t;
		}
	}
	*postings = (struct ol_postings){w->ops, w->transfers, (uint32_t)ops, (uint32_t)count};
}
