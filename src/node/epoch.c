#include "node/epoch.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "attrib/shares.h"
#include "ledger/receipt.h"
#include "node/receipt_shares.h"

enum { PAGE = 1024 };

void ol_payee_account(struct ol_account_key *key, const uint8_t payee[32],
		      enum ol_currency currency)
{
	if (ol_payee_is_address(payee))
		ol_account_key_init(key, OL_ACCOUNT_ADDRESS, currency, 0, payee + 12, 20);
	else
		ol_account_key_init(key, OL_ACCOUNT_FUND, currency, 0, payee, 32);
}

/* --- the scores of an epoch ------------------------------------------------------------- */

struct netting {
	const struct ol_home *home;
	struct ol_account_key pot;
	struct ol_epoch sum;
	uint64_t before, log_size; /* where the walk goes on; leaves that count */
	bool over;                 /* older than the epoch */
	uint8_t (*roots)[32];      /* of this page */
	size_t root_count;
};

static bool take_receipt(void *context, const struct ol_indexed_event *event)
{
	struct netting *n = context;
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_receipt receipt;
	struct ol_account_key pot;

	n->before = event->index;
	if (n->log_size == 0)
		n->log_size = event->index + 1;
	if (ol_receipt_read(&receipt, parts, event->bytes, event->size) != OL_RECEIPT_WELL)
		return true;
	n->over = receipt.epoch < n->pot.epoch;
	ol_receipt_pot(&pot, &receipt);
	if (memcmp(&pot, &n->pot, sizeof pot) == 0 && !ol_all_zero(receipt.shares, 32))
		memcpy(n->roots[n->root_count++], receipt.shares, 32);
	return !n->over && n->root_count < PAGE;
}

static enum ol_status add_table(struct netting *n, const uint8_t root[32], struct ol_error *err)
{
	struct ol_buf table;
	struct ol_share *rows = NULL;
	size_t count = 0;

	ol_buf_init(&table, OL_SHARE_TABLE_MAX);
	enum ol_status s = ol_share_table_find(&table, n->home, root, err);
	if (s == OL_OK) {
		count = table.size / OL_SHARE_ROW_BYTES;
		rows = calloc(count + 1, sizeof *rows);
		if (!rows)
			s = ol_fail(err, OL_ERR_FULL, "out of memory for an epoch's scores");
	}
	if (s == OL_OK) {
		ol_share_table_rows(rows, (const uint8_t *)table.data, table.size);
		s = ol_epoch_add(&n->sum, rows, count, err);
	}
	free(rows);
	ol_buf_release(&table);
	return s;
}

/* Of the leaves before this one, newest first; a page at a time, since the index must not be asked
 * while it is walked. */
static enum ol_status add_up(struct netting *n, struct ol_ledger_index *index, uint64_t before,
			     struct ol_error *err)
{
	enum ol_status s = OL_OK;

	n->before = before;
	for (uint64_t last = 0; s == OL_OK && !n->over && last != n->before;) {
		last = n->before;
		n->root_count = 0;
		s = ol_ledger_index_events(index, OL_EVENT_RECEIPT, n->before, PAGE, take_receipt,
					   n, err);
		for (size_t i = 0; i < n->root_count && s == OL_OK; i++)
			s = add_table(n, n->roots[i], err);
	}
	return s;
}

/* --- paying --------------------------------------------------------------------------------- */

static void salt_of(uint8_t salt[32], const struct ol_account_key *pot)
{
	static const char purpose[24] = "openledger epoch v1";
	uint8_t bytes[sizeof purpose + sizeof *pot];

	memcpy(bytes, purpose, sizeof purpose);
	memcpy(bytes + sizeof purpose, pot, sizeof *pot);
	ol_sha256(salt, bytes, sizeof bytes);
}

/* Those who have a part of the whole; none: the Datanet has it all. */
static uint32_t fill_parts(struct ol_split_part *parts, const struct netting *n)
{
	struct ol_account_key key;
	uint32_t count = 0;

	for (size_t i = 0; i < n->sum.count; i++) {
		if (n->sum.rows[i].share == 0)
			continue;
		ol_payee_account(&key, n->sum.rows[i].payee, (enum ol_currency)n->pot.currency);
		parts[count] = (struct ol_split_part){.weight = n->sum.rows[i].share};
		memcpy(parts[count++].account, &key, sizeof key);
	}
	if (count == 0) {
		ol_account_key_init(&key, OL_ACCOUNT_DATANET, (enum ol_currency)n->pot.currency, 0,
				    n->pot.id, sizeof n->pot.id);
		parts[count] = (struct ol_split_part){.weight = 1};
		memcpy(parts[count++].account, &key, sizeof key);
	}
	return count;
}

static enum ol_status post_parts(struct ol_books *books, const struct netting *n,
				 const struct ol_split_part *parts, uint32_t count,
				 const struct ol_epoch_event *event, struct ol_error *err)
{
	struct ol_transfer *transfers = calloc(count, sizeof *transfers);
	uint8_t *results = calloc(count, 1);
	const struct ol_event told = {.bytes = (const uint8_t *)event,
				      .size = sizeof *event,
				      .kind = OL_EVENT_EPOCH_CLOSE};
	struct ol_event with = told;
	uint32_t used = 0;
	uint64_t index;
	enum ol_status s = transfers && results
				   ? OL_OK
				   : ol_fail(err, OL_ERR_FULL, "out of memory for the payments");

	for (uint32_t i = 0; i < count && s == OL_OK; i++) {
		if (ol_amount_is_zero(parts[i].amount))
			continue;
		struct ol_transfer *t = &transfers[used++];
		*t = (struct ol_transfer){.id = ol_bookkeeper_id(books->keeper),
					  .debit = n->pot,
					  .amount = parts[i].amount,
					  .code = OL_CODE_CONTRIBUTOR,
					  .flags = OL_TRANSFER_OPENS | OL_TRANSFER_LINKED};
		memcpy(&t->credit, parts[i].account, sizeof t->credit);
	}
	if (s == OL_OK && used > 0) {
		transfers[used - 1].flags &= (uint16_t)~OL_TRANSFER_LINKED;
		with.transfer_count = used;
		struct ol_batch batch = {
			.postings = {.transfers = transfers, .transfer_count = used},
			.events = &with,
			.event_count = 1,
			.transfer_results = results,
			.event_indexes = &index};
		s = ol_bookkeeper_post(books->keeper, &batch, OL_DURABLE, err);
		for (uint32_t i = 0; i < used && s == OL_OK; i++)
			if (results[i] != OL_POST_OK && results[i] != OL_POST_LINKED_FAILED)
				s = ol_fail(err, OL_ERR_INPUT,
					    "the ledger refuses a contributor's pay: %s",
					    ol_post_name((enum ol_post)results[i]));
	}
	free(transfers);
	free(results);
	return s;
}

static enum ol_status keep_table(struct netting *n, uint8_t root[32], struct ol_error *err)
{
	struct ol_buf table;
	enum ol_status s = ol_shares_root(root, n->sum.rows, n->sum.count, err);

	ol_buf_init(&table, OL_SHARE_TABLE_MAX);
	if (s == OL_OK && !ol_share_table_write(&table, n->sum.rows, n->sum.count))
		s = ol_fail(err, OL_ERR_FULL, "an epoch has too many contributors");
	if (s == OL_OK)
		s = ol_share_table_keep(n->home, root, &table, err);
	ol_buf_release(&table);
	return s;
}

static enum ol_status close_pot(struct ol_books *books, struct netting *n, struct ol_amount amount,
				struct ol_epoch_paid *paid, struct ol_error *err)
{
	struct ol_epoch_event event = {
		.epoch = n->pot.epoch, .currency = n->pot.currency, .amount = amount};
	struct ol_split_part *parts;
	uint8_t salt[32];
	enum ol_status s = add_up(n, books->index, UINT64_MAX, err);

	salt_of(salt, &n->pot);
	if (s == OL_OK && n->sum.count > 0)
		s = ol_epoch_close(&n->sum, salt, err);
	if (s == OL_OK && n->sum.count > OL_EPOCH_PAYEES_MAX)
		s = ol_fail(err, OL_ERR_FULL, "an epoch pays at most %d contributors",
			    OL_EPOCH_PAYEES_MAX);
	if (s == OL_OK && n->sum.count > 0)
		s = keep_table(n, event.shares, err);
	if (s != OL_OK)
		return s;
	parts = calloc(n->sum.count + 1, sizeof *parts);
	if (!parts)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the payments");
	const uint32_t count = fill_parts(parts, n);
	OL_ASSERT(ol_amount_split(parts, count, amount, salt));
	ol_event_begin(&event.head, OL_EVENT_EPOCH_CLOSE, ol_bookkeeper_now_ms(books->keeper));
	memcpy(event.model, n->pot.id, sizeof event.model);
	event.payees = count;
	event.answers = n->sum.answers;
	event.log_size = n->log_size;
	s = post_parts(books, n, parts, count, &event, err);
	*paid = (struct ol_epoch_paid){n->pot, amount, count, n->sum.answers};
	free(parts);
	return s;
}

/* --- checking --------------------------------------------------------------------------------- */

struct paid_out {
	const struct netting *n;
	const struct ol_split_part *parts;
	uint32_t count, paid;
	bool other;
};

static bool match_part(void *context, const struct ol_indexed_transfer *indexed)
{
	struct paid_out *p = context;
	const struct ol_transfer *t = &indexed->transfer;
	uint32_t i = p->paid++;

	while (i < p->count && ol_amount_is_zero(p->parts[i].amount))
		i = p->paid++;
	p->other = i >= p->count || memcmp(&t->debit, &p->n->pot, sizeof t->debit) != 0 ||
		   memcmp(&t->credit, p->parts[i].account, sizeof t->credit) != 0 ||
		   ol_amount_compare(t->amount, p->parts[i].amount) != 0;
	return !p->other;
}

static enum ol_status check_parts(const char **fault, struct netting *n,
				  struct ol_ledger_index *index, uint64_t event_index,
				  const struct ol_epoch_event *event, struct ol_error *err)
{
	struct ol_split_part *parts = calloc(n->sum.count + 1, sizeof *parts);
	struct paid_out paid = {.n = n, .parts = parts};
	uint8_t salt[32];

	if (!parts)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the payments");
	salt_of(salt, &n->pot);
	paid.count = fill_parts(parts, n);
	OL_ASSERT(ol_amount_split(parts, paid.count, event->amount, salt));
	const enum ol_status s =
		ol_ledger_index_event_transfers(index, event_index, match_part, &paid, err);
	while (paid.paid < paid.count && ol_amount_is_zero(parts[paid.paid].amount))
		paid.paid++;
	if (event->payees != paid.count || event->answers != n->sum.answers)
		*fault = "it names other numbers of answers or payees";
	else if (paid.other || paid.paid != paid.count)
		*fault = "its pot was not paid out by the scores";
	free(parts);
	return s;
}

enum ol_status ol_epoch_check(const char **fault, struct ol_ledger_index *index,
			      const struct ol_home *home, uint64_t event_index,
			      const uint8_t *bytes, size_t size, struct ol_error *err)
{
	uint8_t(*roots)[32] = calloc(PAGE, sizeof *roots), root[32] = {0}, salt[32];
	struct netting n = {.home = home, .roots = roots};
	struct ol_epoch_event event;
	enum ol_status s =
		roots ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for an epoch's scores");

	*fault = NULL;
	if (size != sizeof event || !ol_event_read(&event.head, bytes, size)) {
		free(roots);
		*fault = "it is not the close of an epoch that this program knows";
		return OL_OK;
	}
	memcpy(&event, bytes, sizeof event);
	ol_account_key_init(&n.pot, OL_ACCOUNT_POT, (enum ol_currency)event.currency,
			    (uint32_t)event.epoch, event.model, sizeof event.model);
	if (s == OL_OK && (event.log_size > event_index || !ol_account_key_valid(&n.pot) ||
			   event.epoch > UINT32_MAX))
		*fault = "it names no pot, or leaves behind its own";
	if (s == OL_OK && !*fault)
		s = add_up(&n, index, event.log_size, err);
	salt_of(salt, &n.pot);
	if (s == OL_OK && !*fault && n.sum.count > 0)
		s = ol_epoch_close(&n.sum, salt, err);
	if (s == OL_OK && !*fault && n.sum.count > 0)
		s = ol_shares_root(root, n.sum.rows, n.sum.count, err);
	if (s == OL_OK && !*fault && memcmp(root, event.shares, sizeof root) != 0)
		*fault = "the scores of its answers give another share table";
	if (s == OL_OK && !*fault)
		s = check_parts(fault, &n, index, event_index, &event, err);
	ol_epoch_release(&n.sum);
	free(roots);
	return s;
}

/* --- all pots ------------------------------------------------------------------------------ */

struct pots {
	struct ol_account *accounts;
	uint32_t count;
	uint64_t until; /* epochs below this are over */
	bool failed;
};

static void find_pots(void *context, const struct ol_book *book)
{
	struct pots *pots = context;
	const uint32_t count = ol_book_account_count(book);

	pots->accounts = calloc((size_t)count + 1, sizeof *pots->accounts);
	pots->failed = !pots->accounts;
	for (uint32_t i = 0; i < count && !pots->failed; i++) {
		const struct ol_account *a = ol_book_account_at(book, i);
		if (a->key.kind == OL_ACCOUNT_POT && a->key.epoch < pots->until &&
		    !ol_amount_is_zero(ol_account_available(a)))
			pots->accounts[pots->count++] = *a;
	}
}

enum ol_status ol_epoch_close_all(struct ol_books *books, const struct ol_home *home, bool early,
				  void (*paid)(void *context, const struct ol_epoch_paid *paid),
				  void *context, struct ol_error *err)
{
	const uint64_t now = ol_receipt_epoch(ol_bookkeeper_now_ms(books->keeper));
	struct pots pots = {.until = early ? now + 1 : now};
	uint8_t(*roots)[32] = calloc(PAGE, sizeof *roots);
	enum ol_status s = ol_bookkeeper_look(books->keeper, find_pots, &pots, err), first = OL_OK;

	if (s == OL_OK && (pots.failed || !roots))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the pots");
	for (uint32_t i = 0; i < pots.count && s == OL_OK; i++) {
		struct netting n = {.home = home, .pot = pots.accounts[i].key, .roots = roots};
		struct ol_epoch_paid one;
		struct ol_error why;
		const enum ol_status closed =
			close_pot(books, &n, ol_account_available(&pots.accounts[i]), &one, &why);
		ol_epoch_release(&n.sum);
		if (closed == OL_OK && paid)
			paid(context, &one);
		/* What is wrong with one model's pot must not keep the others from being paid. */
		if (closed != OL_OK && first == OL_OK)
			first = ol_fail(err, closed, "%s", why.text);
	}
	if (s == OL_OK)
		s = first;
	free(pots.accounts);
	free(roots);
	return s;
}
