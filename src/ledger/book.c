/* The posting path. Two arrays, each with an index of hashes: accounts in the order of opening, and
 * a ring of the transfers of the last seven days in the order of posting. What a chain did is
 * undone from the ring's young end when one of its transfers is refused. */
#include "ledger/book_inside.h"
#include "base/bytes.h"

#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 wide;

/* ---- Life ------------------------------------------------------------ */

static void *block(size_t *bytes, uint64_t count, size_t size)
{
	*bytes = (size_t)count * size;
	return ol_block_alloc(*bytes);
}

enum ol_status ol_book_open(struct ol_book **book_out, const struct ol_book_limits *limits,
			    uint64_t secret, struct ol_error *err)
{
	if (limits->accounts_max == 0 || limits->accounts_max > OL_BOOK_ACCOUNTS_MAX ||
	    limits->ids_max == 0 || limits->ids_max > OL_BOOK_IDS_MAX || limits->pending_max == 0 ||
	    limits->pending_max > limits->ids_max)
		return ol_fail(err, OL_ERR_INPUT,
			       "the book's limits are wrong: accounts 1 to %d, ids 1 to %d, "
			       "reservations 1 to as many as ids",
			       OL_BOOK_ACCOUNTS_MAX, OL_BOOK_IDS_MAX);
	struct ol_book *book = calloc(1, sizeof *book);
	if (!book)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening the book");
	book->limits = *limits;
	for (int i = 0; i < 4; i++) {
		/* SplitMix64: four odd multipliers from one secret. */
		uint64_t z = (secret += UINT64_C(0x9e3779b97f4a7c15));
		z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		book->secret[i] = (z ^ z >> 31) | 1;
	}
	const uint64_t account_slots = ol_hash_index_slots(limits->accounts_max);
	const uint64_t id_slots = ol_hash_index_slots(limits->ids_max);
	uint64_t *slots;
	book->accounts = block(&book->account_bytes, limits->accounts_max, sizeof *book->accounts);
	book->ring = block(&book->ring_bytes, limits->ids_max, sizeof *book->ring);
	book->due = block(&book->due_bytes, 2 * (uint64_t)limits->pending_max, sizeof *book->due);
	slots = block(&book->account_slot_bytes, account_slots, sizeof *slots);
	if (slots)
		ol_hash_index_init(&book->account_index, slots, account_slots);
	slots = block(&book->id_slot_bytes, id_slots, sizeof *slots);
	if (slots)
		ol_hash_index_init(&book->id_index, slots, id_slots);
	if (!book->accounts || !book->ring || !book->due || !book->account_index.slots ||
	    !book->id_index.slots) {
		ol_book_close(book);
		return ol_fail(err, OL_ERR_FULL,
			       "no memory for a book of %u accounts, %u ids and %u reservations: "
			       "ask for less",
			       limits->accounts_max, limits->ids_max, limits->pending_max);
	}
	*book_out = book;
	return OL_OK;
}

void ol_book_close(struct ol_book *book)
{
	if (!book)
		return;
	ol_block_free(book->accounts, book->account_bytes);
	ol_block_free(book->ring, book->ring_bytes);
	ol_block_free(book->due, book->due_bytes);
	ol_block_free(book->account_index.slots, book->account_slot_bytes);
	ol_block_free(book->id_index.slots, book->id_slot_bytes);
	free(book);
}

/* ---- Finding ------------------------------------------------------------ */

static uint64_t fold(uint64_t a, uint64_t b)
{
	const wide product = (wide)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint32_t book_id_tag(const struct ol_book *book, struct ol_id id)
{
	return (uint32_t)(fold(fold(id.low ^ book->secret[0], book->secret[1]) ^ id.high,
			       book->secret[2]) >>
			  32);
}

uint32_t book_key_tag(const struct ol_book *book, const struct ol_account_key *key)
{
	uint64_t w[4];
	memcpy(w, key, sizeof w);
	const uint64_t a = fold(w[0] ^ book->secret[0], w[1] ^ book->secret[1]);
	const uint64_t b = fold(w[2] ^ book->secret[2], w[3] ^ book->secret[3]);
	return (uint32_t)(fold(a ^ book->secret[3], b ^ book->secret[0]) >> 32);
}

static bool same_key(const struct ol_account_key *a, const struct ol_account_key *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

static struct ol_account *find_account(const struct ol_book *book, uint32_t tag,
				       const struct ol_account_key *key)
{
	uint32_t at = ol_hash_index_home(&book->account_index, tag), ref;
	while (ol_hash_index_next(&book->account_index, tag, &at, &ref))
		if (same_key(&book->accounts[ref].key, key))
			return &book->accounts[ref];
	return NULL;
}

static struct posted *find_posted(const struct ol_book *book, uint32_t tag, struct ol_id id)
{
	uint32_t at = ol_hash_index_home(&book->id_index, tag), ref;
	while (ol_hash_index_next(&book->id_index, tag, &at, &ref))
		if (ol_id_equal(book->ring[ref].id, id))
			return &book->ring[ref];
	return NULL;
}

/* What is older than seven days is gone, whether or not the ring has let go of it; only an open
 * reservation lives on until it ends. */
static bool is_forgotten(const struct ol_book *book, const struct posted *p)
{
	return ol_id_time_ms(p->id) + OL_ID_LIFE_MS < book->now_ms &&
	       (p->flags & STATE_MASK) != STATE_RESERVED;
}

const struct ol_account *ol_book_find(const struct ol_book *book, const struct ol_account_key *key)
{
	return find_account(book, book_key_tag(book, key), key);
}

uint32_t ol_book_account_count(const struct ol_book *book)
{
	return book->account_count;
}

const struct ol_account *ol_book_account_at(const struct ol_book *book, uint32_t index)
{
	OL_ASSERT(index < book->account_count);
	return &book->accounts[index];
}

uint64_t ol_book_now_ms(const struct ol_book *book)
{
	return book->now_ms;
}

uint32_t ol_book_id_count(const struct ol_book *book)
{
	return (uint32_t)(book->young - book->old);
}

uint32_t ol_book_pending_count(const struct ol_book *book)
{
	return book->pending_count;
}

static struct ol_transfer transfer_of(const struct ol_book *book, const struct posted *p)
{
	struct ol_transfer transfer = {.id = p->id,
				       .debit = book->accounts[p->debit].key,
				       .credit = book->accounts[p->credit].key,
				       .pending_id = p->pending_id,
				       .amount = p->amount,
				       .timeout_s = p->timeout_s,
				       .code = p->code,
				       .flags = p->flags & TRANSFER_FLAGS};
	memcpy(transfer.user_data, p->user_data, sizeof transfer.user_data);
	return transfer;
}

enum ol_transfer_state ol_book_transfer(const struct ol_book *book, struct ol_transfer *out,
					struct ol_id id)
{
	const struct posted *p = find_posted(book, book_id_tag(book, id), id);
	if (!p || is_forgotten(book, p))
		return OL_TRANSFER_UNKNOWN;
	if (out)
		*out = transfer_of(book, p);
	switch (p->flags & STATE_MASK) {
	case STATE_POSTED: return OL_TRANSFER_POSTED;
	case STATE_RESERVED: return OL_TRANSFER_RESERVED;
	case STATE_SPENT: return OL_TRANSFER_SPENT;
	case STATE_VOIDED: return OL_TRANSFER_VOIDED;
	case STATE_EXPIRED: return OL_TRANSFER_EXPIRED;
	}
	OL_UNREACHABLE();
}

/* ---- Room ------------------------------------------------------------ */

enum ol_status ol_book_admit(const struct ol_book *book, const struct ol_postings *postings,
			     struct ol_error *err)
{
	uint32_t opened = postings->account_count, reserved = 0;
	if (postings->transfer_count > OL_BATCH_TRANSFERS_MAX ||
	    postings->account_count > OL_BATCH_ACCOUNTS_MAX)
		return ol_fail(err, OL_ERR_FULL,
			       "a batch of %u transfers and %u account changes; at most %d and %d",
			       postings->transfer_count, postings->account_count,
			       OL_BATCH_TRANSFERS_MAX, OL_BATCH_ACCOUNTS_MAX);
	for (uint32_t i = 0; i < postings->transfer_count; i++) {
		opened += (postings->transfers[i].flags & OL_TRANSFER_OPENS) != 0;
		reserved += (postings->transfers[i].flags & OL_TRANSFER_PENDING) != 0;
	}
	if (opened > book->limits.accounts_max - book->account_count)
		return ol_fail(err, OL_ERR_FULL,
			       "the book holds %u of %u accounts: raise its limit",
			       book->account_count, book->limits.accounts_max);
	if (postings->transfer_count > book->limits.ids_max - ol_book_id_count(book))
		return ol_fail(err, OL_ERR_FULL,
			       "the book holds %u of %u transfers of the last seven days: raise "
			       "its limit",
			       ol_book_id_count(book), book->limits.ids_max);
	if (reserved > book->limits.pending_max - book->pending_count)
		return ol_fail(err, OL_ERR_FULL,
			       "the book holds %u of %u open reservations: raise its limit, or "
			       "wait until some are posted",
			       book->pending_count, book->limits.pending_max);
	return OL_OK;
}

/* ---- Time ------------------------------------------------------------ */

static void due_sift_down(struct due *due, uint32_t count, uint32_t root)
{
	for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
		if (child + 1 < count && due[child + 1].at_ms < due[child].at_ms)
			child++;
		if (due[root].at_ms <= due[child].at_ms)
			return;
		const struct due swap = due[root];
		due[root] = due[child];
		due[child] = swap;
	}
}

static struct posted *ring_at(const struct ol_book *book, uint64_t position)
{
	return &book->ring[position % book->limits.ids_max];
}

/* What was posted or voided stays in the heap until its time comes, or until the heap is full. */
static bool still_open(const struct ol_book *book, const struct due *due)
{
	return due->position >= book->old &&
	       (ring_at(book, due->position)->flags & STATE_MASK) == STATE_RESERVED;
}

static void due_purge(struct ol_book *book)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < book->due_count; i++)
		if (still_open(book, &book->due[i]))
			book->due[kept++] = book->due[i];
	book->due_count = kept;
	for (uint32_t i = kept / 2; i-- > 0;)
		due_sift_down(book->due, kept, i);
}

bool ol_book_next_reserved(const struct ol_book *book, struct ol_transfer *out, uint32_t *at)
{
	while (*at < book->due_count) {
		const struct due *due = &book->due[(*at)++];
		if (!still_open(book, due))
			continue;
		*out = transfer_of(book, ring_at(book, due->position));
		return true;
	}
	return false;
}

void book_due_push(struct ol_book *book, uint64_t at_ms, uint64_t position)
{
	if (book->due_count == 2 * book->limits.pending_max)
		due_purge(book);
	OL_ASSERT(book->due_count < 2 * book->limits.pending_max);
	uint32_t at = book->due_count++;
	for (uint32_t up; at > 0 && book->due[up = (at - 1) / 2].at_ms > at_ms; at = up)
		book->due[at] = book->due[up];
	book->due[at] = (struct due){at_ms, position};
}

static void release(struct ol_book *book, struct posted *reservation, uint16_t state)
{
	ol_total_sub(&book->accounts[reservation->debit].debits_pending, reservation->amount);
	ol_total_sub(&book->accounts[reservation->credit].credits_pending, reservation->amount);
	reservation->flags = (uint16_t)((reservation->flags & ~STATE_MASK) | state);
	book->pending_count--;
}

static void reserve_again(struct ol_book *book, struct posted *reservation)
{
	ol_total_add(&book->accounts[reservation->debit].debits_pending, reservation->amount);
	ol_total_add(&book->accounts[reservation->credit].credits_pending, reservation->amount);
	reservation->flags = (uint16_t)((reservation->flags & ~STATE_MASK) | STATE_RESERVED);
	book->pending_count++;
}

void ol_book_advance(struct ol_book *book, uint64_t now_ms)
{
	OL_ASSERT(now_ms >= book->now_ms && now_ms <= OL_TIME_MS_MAX);
	book->now_ms = now_ms;
	while (book->due_count > 0 && book->due[0].at_ms <= now_ms) {
		const struct due due = book->due[0];
		book->due[0] = book->due[--book->due_count];
		due_sift_down(book->due, book->due_count, 0);
		if (still_open(book, &due))
			release(book, ring_at(book, due.position), STATE_EXPIRED);
	}
	/* In the order of posting. An id whose time lies later, or an open reservation, holds up
	 * those behind it: by five minutes, or by a day. */
	while (book->old < book->young) {
		const struct posted *p = ring_at(book, book->old);
		if (!is_forgotten(book, p))
			break;
		ol_hash_index_remove(&book->id_index, book_id_tag(book, p->id),
				     (uint32_t)(book->old % book->limits.ids_max));
		book->old++;
	}
}

/* ---- Accounts ------------------------------------------------------------ */

bool ol_account_key_valid(const struct ol_account_key *key)
{
	if (key->kind == 0 || key->kind > OL_ACCOUNT_KIND_LAST ||
	    key->currency >= OL_CURRENCY_COUNT || key->zero != 0)
		return false;
	if (key->epoch != 0 && key->kind != OL_ACCOUNT_POT)
		return false;
	switch ((enum ol_account_kind)key->kind) {
	case OL_ACCOUNT_ADDRESS: return ol_all_zero(key->id + 20, sizeof key->id - 20);
	case OL_ACCOUNT_CHAIN: return key->currency == OL_CURRENCY_OPEN;
	case OL_ACCOUNT_OUTBOX:
		return key->currency == OL_CURRENCY_OPEN && ol_all_zero(key->id, sizeof key->id);
	case OL_ACCOUNT_GRANTS:
		return key->currency == OL_CURRENCY_CREDIT && ol_all_zero(key->id, sizeof key->id);
	case OL_ACCOUNT_PLATFORM:
	case OL_ACCOUNT_CLEARING: return ol_all_zero(key->id, sizeof key->id);
	case OL_ACCOUNT_POT:
	case OL_ACCOUNT_DATANET:
	case OL_ACCOUNT_STAKERS:
	case OL_ACCOUNT_FUND: return true;
	}
	OL_UNREACHABLE();
}

void ol_account_key_init(struct ol_account_key *key, enum ol_account_kind kind,
			 enum ol_currency currency, uint32_t epoch, const void *id, size_t size)
{
	*key = (struct ol_account_key){
		.kind = (uint8_t)kind, .currency = (uint8_t)currency, .epoch = epoch};
	if (size > 0)
		memcpy(key->id, id, OL_MIN(size, sizeof key->id));
}

/* May be below zero where overdraft is allowed. */
static __int128 available(const struct ol_account *a)
{
	return (__int128)(ol_total_value(a->credits_posted) - ol_total_value(a->debits_posted) -
			  ol_total_value(a->debits_pending));
}

struct ol_amount ol_account_available(const struct ol_account *account)
{
	const __int128 rest = available(account);
	return ol_amount(rest <= 0 ? 0 : rest > UINT64_MAX ? UINT64_MAX : (uint64_t)rest);
}

static struct ol_account *open_account(struct ol_book *book, const struct ol_account_key *key,
				       uint32_t tag, uint32_t flags)
{
	OL_ASSERT(book->account_count < book->limits.accounts_max);
	const uint32_t ref = book->account_count++;
	book->accounts[ref] =
		(struct ol_account){.key = *key, .opened_ms = book->now_ms, .flags = flags};
	ol_hash_index_insert(&book->account_index, tag, ref);
	return &book->accounts[ref];
}

static enum ol_account_outcome set_flags(struct ol_account *account, uint32_t flags)
{
	const bool empty = ol_total_equal(account->debits_posted, account->credits_posted) &&
			   ol_total_value(account->debits_pending) == 0 &&
			   ol_total_value(account->credits_pending) == 0;
	if ((flags & OL_ACCOUNT_CLOSED) && !empty)
		return OL_ACCOUNT_NOT_EMPTY;
	if (!(flags & OL_ACCOUNT_OVERDRAFT) && available(account) < 0)
		return OL_ACCOUNT_OVERDRAWN;
	account->flags = flags;
	return OL_ACCOUNT_OK;
}

static enum ol_account_outcome apply_account_op(struct ol_book *book,
						const struct ol_account_op *op)
{
	const uint32_t all = OL_ACCOUNT_OVERDRAFT | OL_ACCOUNT_FROZEN | OL_ACCOUNT_CLOSED;
	if (op->action != OL_ACCOUNT_OPEN && op->action != OL_ACCOUNT_SET_FLAGS)
		return OL_ACCOUNT_UNKNOWN_ACTION;
	if (op->flags & ~all)
		return OL_ACCOUNT_UNKNOWN_FLAGS;
	if (op->zero != 0 || !ol_all_zero(op->zeros, sizeof op->zeros))
		return OL_ACCOUNT_RESERVED_FIELD;
	if (!ol_account_key_valid(&op->key))
		return OL_ACCOUNT_INVALID_KEY;
	const uint32_t tag = book_key_tag(book, &op->key);
	struct ol_account *account = find_account(book, tag, &op->key);
	if (op->action == OL_ACCOUNT_SET_FLAGS)
		return account ? set_flags(account, op->flags) : OL_ACCOUNT_NOT_FOUND;
	if (account)
		return account->flags == op->flags ? OL_ACCOUNT_EXISTS
						   : OL_ACCOUNT_EXISTS_WITH_DIFFERENT_FLAGS;
	open_account(book, &op->key, tag, op->flags);
	return OL_ACCOUNT_OK;
}

/* ---- One transfer ------------------------------------------------------------ */

static enum ol_post compare_posted(const struct ol_book *book, const struct posted *p,
				   const struct ol_transfer *t)
{
	if ((p->flags & TRANSFER_FLAGS) != t->flags)
		return OL_POST_EXISTS_WITH_DIFFERENT_FLAGS;
	if (p->code != t->code)
		return OL_POST_EXISTS_WITH_DIFFERENT_CODE;
	if (p->amount.nano != t->amount.nano)
		return OL_POST_EXISTS_WITH_DIFFERENT_AMOUNT;
	if (!same_key(&book->accounts[p->debit].key, &t->debit))
		return OL_POST_EXISTS_WITH_DIFFERENT_DEBIT;
	if (!same_key(&book->accounts[p->credit].key, &t->credit))
		return OL_POST_EXISTS_WITH_DIFFERENT_CREDIT;
	if (!ol_id_equal(p->pending_id, t->pending_id))
		return OL_POST_EXISTS_WITH_DIFFERENT_PENDING_ID;
	if (p->timeout_s != t->timeout_s)
		return OL_POST_EXISTS_WITH_DIFFERENT_TIMEOUT;
	if (memcmp(p->user_data, t->user_data, sizeof p->user_data) != 0)
		return OL_POST_EXISTS_WITH_DIFFERENT_USER_DATA;
	return OL_POST_EXISTS;
}

/* What the transfer alone says. */
static enum ol_post check_fields(const struct ol_transfer *t)
{
	const unsigned phases =
		t->flags & (OL_TRANSFER_PENDING | OL_TRANSFER_POST | OL_TRANSFER_VOID);
	const bool second = (t->flags & (OL_TRANSFER_POST | OL_TRANSFER_VOID)) != 0;
	if (t->flags & ~TRANSFER_FLAGS)
		return OL_POST_UNKNOWN_FLAGS;
	if ((phases & (phases - 1)) != 0 || (second && (t->flags & OL_TRANSFER_OPENS)))
		return OL_POST_EXCLUSIVE_FLAGS;
	if (t->code == 0)
		return OL_POST_CODE_ZERO;
	if (!ol_account_key_valid(&t->debit))
		return OL_POST_INVALID_DEBIT;
	if (!ol_account_key_valid(&t->credit))
		return OL_POST_INVALID_CREDIT;
	if (same_key(&t->debit, &t->credit))
		return OL_POST_SAME_ACCOUNT;
	if (t->debit.currency != t->credit.currency)
		return OL_POST_CURRENCY_DIFFERS;
	if (t->amount.nano == 0 && !(t->flags & OL_TRANSFER_VOID))
		return OL_POST_AMOUNT_ZERO;
	if (t->amount.nano != 0 && (t->flags & OL_TRANSFER_VOID))
		return OL_POST_AMOUNT_OF_VOID;
	if (t->flags & OL_TRANSFER_PENDING) {
		if (t->timeout_s == 0)
			return OL_POST_TIMEOUT_MISSING;
		if (t->timeout_s > OL_PENDING_SECONDS_MAX)
			return OL_POST_TIMEOUT_TOO_LONG;
	} else if (t->timeout_s != 0) {
		return OL_POST_TIMEOUT_UNEXPECTED;
	}
	if (second && ol_id_is_zero(t->pending_id))
		return OL_POST_PENDING_ID_MISSING;
	if (!second && !ol_id_is_zero(t->pending_id))
		return OL_POST_PENDING_ID_UNEXPECTED;
	return OL_POST_OK;
}

static enum ol_post check_accounts(const struct ol_transfer *t, const struct ol_account *debit,
				   const struct ol_account *credit)
{
	if (debit->flags & OL_ACCOUNT_CLOSED)
		return OL_POST_DEBIT_CLOSED;
	if (credit && (credit->flags & OL_ACCOUNT_CLOSED))
		return OL_POST_CREDIT_CLOSED;
	if (debit->flags & OL_ACCOUNT_FROZEN)
		return OL_POST_DEBIT_FROZEN;
	if (!(debit->flags & OL_ACCOUNT_OVERDRAFT) && available(debit) < (__int128)t->amount.nano)
		return OL_POST_OVERDRAFT;
	return OL_POST_OK;
}

static enum ol_post check_pending(const struct posted *p, const struct ol_transfer *t,
				  uint32_t debit, uint32_t credit)
{
	if (!(p->flags & OL_TRANSFER_PENDING))
		return OL_POST_PENDING_NOT_PENDING;
	if (p->debit != debit)
		return OL_POST_PENDING_DIFFERENT_DEBIT;
	if (p->credit != credit)
		return OL_POST_PENDING_DIFFERENT_CREDIT;
	switch (p->flags & STATE_MASK) {
	case STATE_SPENT: return OL_POST_PENDING_ALREADY_POSTED;
	case STATE_VOIDED: return OL_POST_PENDING_ALREADY_VOIDED;
	case STATE_EXPIRED: return OL_POST_PENDING_EXPIRED;
	}
	return t->amount.nano > p->amount.nano ? OL_POST_EXCEEDS_PENDING : OL_POST_OK;
}

static void remember(struct ol_book *book, const struct ol_transfer *t, uint32_t tag,
		     uint32_t debit, uint32_t credit, unsigned inner)
{
	OL_ASSERT(book->young - book->old < book->limits.ids_max);
	const uint32_t ref = (uint32_t)(book->young++ % book->limits.ids_max);
	struct posted *p = &book->ring[ref];
	p->id = t->id;
	memcpy(p->user_data, t->user_data, sizeof p->user_data);
	p->pending_id = t->pending_id;
	p->amount = t->amount;
	p->due_ms =
		t->flags & OL_TRANSFER_PENDING ? book->now_ms + (uint64_t)t->timeout_s * 1000 : 0;
	p->debit = debit;
	p->credit = credit;
	p->timeout_s = t->timeout_s;
	p->code = t->code;
	p->flags = (uint16_t)(t->flags | inner);
	ol_hash_index_insert(&book->id_index, tag, ref);
}

static uint32_t ref_of(const struct ol_book *book, const struct ol_account *account)
{
	return (uint32_t)(account - book->accounts);
}

static enum ol_post post_second(struct ol_book *book, const struct ol_transfer *t,
				const struct tags *tags, struct ol_account *debit,
				struct ol_account *credit)
{
	struct posted *p = find_posted(book, tags->pending, t->pending_id);
	if (!p || is_forgotten(book, p))
		return OL_POST_PENDING_NOT_FOUND;
	const enum ol_post answer = check_pending(p, t, ref_of(book, debit), ref_of(book, credit));
	if (answer != OL_POST_OK)
		return answer;
	release(book, p, t->flags & OL_TRANSFER_POST ? STATE_SPENT : STATE_VOIDED);
	ol_total_add(&debit->debits_posted, t->amount);
	ol_total_add(&credit->credits_posted, t->amount);
	remember(book, t, tags->id, p->debit, p->credit, STATE_POSTED);
	return OL_POST_OK;
}

static enum ol_post post_one(struct ol_book *book, const struct ol_transfer *t,
			     const struct tags *tags)
{
	if (ol_id_is_zero(t->id))
		return OL_POST_ID_ZERO;
	if (ol_id_time_ms(t->id) > book->now_ms + OL_ID_FUTURE_MS)
		return OL_POST_ID_IN_FUTURE;
	if (ol_id_time_ms(t->id) + OL_ID_LIFE_MS < book->now_ms)
		return OL_POST_ID_TOO_OLD;
	const struct posted *before = find_posted(book, tags->id, t->id);
	if (before)
		return compare_posted(book, before, t);
	enum ol_post answer = check_fields(t);
	if (answer != OL_POST_OK)
		return answer;
	struct ol_account *debit = find_account(book, tags->debit, &t->debit);
	struct ol_account *credit = find_account(book, tags->credit, &t->credit);
	if (!debit)
		return OL_POST_DEBIT_NOT_FOUND;
	if (!credit && !(t->flags & OL_TRANSFER_OPENS))
		return OL_POST_CREDIT_NOT_FOUND;
	if (t->flags & (OL_TRANSFER_POST | OL_TRANSFER_VOID))
		return post_second(book, t, tags, debit, credit);
	answer = check_accounts(t, debit, credit);
	if (answer != OL_POST_OK)
		return answer;
	unsigned inner = t->flags & OL_TRANSFER_PENDING ? STATE_RESERVED : STATE_POSTED;
	if (!credit) {
		credit = open_account(book, &t->credit, tags->credit, 0);
		inner |= OPENED_CREDIT;
	}
	if (t->flags & OL_TRANSFER_PENDING) {
		ol_total_add(&debit->debits_pending, t->amount);
		ol_total_add(&credit->credits_pending, t->amount);
		book->pending_count++;
	} else {
		ol_total_add(&debit->debits_posted, t->amount);
		ol_total_add(&credit->credits_posted, t->amount);
	}
	remember(book, t, tags->id, ref_of(book, debit), ref_of(book, credit), inner);
	return OL_POST_OK;
}

/* Takes back the youngest transfer. In reverse order every step finds what it left. */
static void undo_youngest(struct ol_book *book)
{
	const uint32_t ref = (uint32_t)(--book->young % book->limits.ids_max);
	struct posted *p = &book->ring[ref];
	struct ol_account *debit = &book->accounts[p->debit], *credit = &book->accounts[p->credit];
	ol_hash_index_remove(&book->id_index, book_id_tag(book, p->id), ref);
	if (p->flags & OL_TRANSFER_PENDING) {
		release(book, p, STATE_VOIDED);
	} else {
		ol_total_sub(&debit->debits_posted, p->amount);
		ol_total_sub(&credit->credits_posted, p->amount);
	}
	if (p->flags & (OL_TRANSFER_POST | OL_TRANSFER_VOID)) {
		struct posted *first =
			find_posted(book, book_id_tag(book, p->pending_id), p->pending_id);
		OL_ASSERT(first);
		reserve_again(book, first);
	}
	if (p->flags & OPENED_CREDIT) {
		OL_ASSERT(p->credit == book->account_count - 1);
		book->account_count--;
		ol_hash_index_remove(&book->account_index, book_key_tag(book, &credit->key),
				     p->credit);
	}
}

/* ---- A batch ------------------------------------------------------------ */

enum { AHEAD_SLOTS = 24, AHEAD_ENTRIES = 12 };

/* Two steps ahead of the posting: the slots of the hash tables, then what they lead to. */
static void prefetch_slots(struct ol_book *book, const struct ol_transfer *t, struct tags *tags)
{
	*tags = (struct tags){book_id_tag(book, t->id), book_key_tag(book, &t->debit),
			      book_key_tag(book, &t->credit), 0};
	ol_hash_index_prefetch(&book->id_index, tags->id);
	ol_hash_index_prefetch(&book->account_index, tags->debit);
	ol_hash_index_prefetch(&book->account_index, tags->credit);
	if (t->flags & (OL_TRANSFER_POST | OL_TRANSFER_VOID)) {
		tags->pending = book_id_tag(book, t->pending_id);
		ol_hash_index_prefetch(&book->id_index, tags->pending);
	}
}

static void prefetch_account(const struct ol_book *book, uint32_t tag)
{
	uint32_t at = ol_hash_index_home(&book->account_index, tag), ref;
	if (ol_hash_index_next(&book->account_index, tag, &at, &ref)) {
		__builtin_prefetch(&book->accounts[ref]);
		__builtin_prefetch((const uint8_t *)&book->accounts[ref] + 64);
	}
}

static void prefetch_entries(const struct ol_book *book, const struct ol_transfer *t,
			     const struct tags *tags)
{
	prefetch_account(book, tags->debit);
	prefetch_account(book, tags->credit);
	if (t->flags & (OL_TRANSFER_POST | OL_TRANSFER_VOID)) {
		uint32_t at = ol_hash_index_home(&book->id_index, tags->pending), ref;
		if (ol_hash_index_next(&book->id_index, tags->pending, &at, &ref)) {
			__builtin_prefetch(&book->ring[ref]);
			__builtin_prefetch((const uint8_t *)&book->ring[ref] + 64);
		}
	}
}

/* An answer that lets the chain go on: all fresh, or all posted before. */
static bool goes_on(enum ol_post answer, enum ol_post first)
{
	return (answer == OL_POST_OK || answer == OL_POST_EXISTS) && answer == first;
}

/* The chain is [from, to); answers hold those of [from, failed], the last of them a refusal. */
static void refuse_chain(struct ol_book *book, uint8_t *answers, uint32_t from, uint32_t failed,
			 uint32_t to, uint64_t young)
{
	while (book->young > young)
		undo_youngest(book);
	if (answers[failed] == OL_POST_OK || answers[failed] == OL_POST_EXISTS)
		answers[failed] = OL_POST_CHAIN_DIFFERS;
	for (uint32_t i = from; i < to; i++)
		if (i != failed)
			answers[i] = OL_POST_LINKED_FAILED;
}

static uint32_t end_of_chain(const struct ol_transfer *t, uint32_t i, uint32_t count)
{
	while (i + 1 < count && (t[i].flags & OL_TRANSFER_LINKED))
		i++;
	return i + 1;
}

static void keep_dues(struct ol_book *book, uint64_t from)
{
	for (; from < book->young; from++) {
		const struct posted *p = ring_at(book, from);
		if ((p->flags & STATE_MASK) == STATE_RESERVED)
			book_due_push(book, p->due_ms, from);
	}
}

void ol_book_post(struct ol_book *book, uint8_t *account_results, uint8_t *transfer_results,
		  const struct ol_postings *postings, uint64_t now_ms)
{
	const struct ol_transfer *t = postings->transfers;
	const uint32_t count = postings->transfer_count;
	uint32_t from = 0, refused_to = 0;
	uint64_t young;
	OL_ASSERT(count <= OL_BATCH_TRANSFERS_MAX);
	ol_book_advance(book, now_ms);
	for (uint32_t i = 0; i < postings->account_count; i++)
		account_results[i] = (uint8_t)apply_account_op(book, &postings->accounts[i]);
	for (uint32_t i = 0; i < OL_MIN(count, AHEAD_SLOTS); i++)
		prefetch_slots(book, &t[i], &book->tags[i]);
	young = book->young;
	for (uint32_t i = 0; i < count; i++) {
		const bool linked = t[i].flags & OL_TRANSFER_LINKED;
		if (i + AHEAD_SLOTS < count)
			prefetch_slots(book, &t[i + AHEAD_SLOTS], &book->tags[i + AHEAD_SLOTS]);
		if (i + AHEAD_ENTRIES < count)
			prefetch_entries(book, &t[i + AHEAD_ENTRIES],
					 &book->tags[i + AHEAD_ENTRIES]);
		if (i < refused_to) /* the rest of a chain whose answers stand */
			continue;
		enum ol_post answer = post_one(book, &t[i], &book->tags[i]);
		if (linked && i + 1 == count)
			answer = OL_POST_CHAIN_OPEN;
		transfer_results[i] = (uint8_t)answer;
		if (i > from || linked) {
			if (!goes_on(answer, i > from ? transfer_results[from] : answer)) {
				refused_to = end_of_chain(t, i, count);
				refuse_chain(book, transfer_results, from, i, refused_to, young);
				from = refused_to;
				continue;
			}
			if (linked)
				continue;
		}
		keep_dues(book, young);
		from = i + 1;
		young = book->young;
	}
}
