#include "node/cashier.h"
#include "base/bytes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/ethereum.h"
#include "crypto/secret.h"
#include "crypto/text.h"

/* A reservation lives as long as any ask may take (serve --request-seconds). */
enum {
	HOLD_SECONDS = OL_PENDING_SECONDS_MAX,
	LISTINGS_MAX = 1 << 20,
	TRANSFERS_MAX = OL_PARTIES + 1
};

struct listed {
	uint8_t id[32];
	struct ol_listing listing;
};

struct ol_cashier {
	struct ol_cashier_options o;
	pthread_mutex_t mutex;
	struct listed *listings; /* in force, in no order */
	size_t count, room;
};

/* What was agreed when an ask came. */
struct charge {
	bool listed, held;
	struct listed price;
	struct ol_id hold; /* the reservation's id */
	struct ol_account_key payer;
	enum ol_currency currency;
	struct ol_amount most;
	uint8_t salt[OL_SALT_BYTES], request[32];
	uint64_t checkpoint_size;
	uint8_t checkpoint_root[32];
	uint8_t adapter[32], snapshot[32], index[32];
};

static const char *currency_name(enum ol_currency currency)
{
	return currency == OL_CURRENCY_CREDIT ? "test credit" : "OPEN";
}

enum ol_status ol_account_key_parse(struct ol_account_key *key, const char *text,
				    enum ol_currency currency, struct ol_error *err)
{
	struct ol_address address;
	enum ol_status s;

	if (strcmp(text, "local") == 0) {
		ol_account_key_init(key, OL_ACCOUNT_FUND, currency, 0, "local", 5);
		return OL_OK;
	}
	s = ol_address_parse(&address, text, err);
	if (s == OL_OK)
		ol_account_key_init(key, OL_ACCOUNT_ADDRESS, currency, 0, address.bytes,
				    sizeof address.bytes);
	return s;
}

/* --- listings ---------------------------------------------------------------------- */

static struct listed *find(const struct ol_cashier *c, const uint8_t model[32])
{
	for (size_t i = 0; i < c->count; i++)
		if (memcmp(c->listings[i].listing.model, model, 32) == 0)
			return &c->listings[i];
	return NULL;
}

/* Under the mutex. */
static enum ol_status put_in_force(struct ol_cashier *c, const struct listed *listed,
				   struct ol_error *err)
{
	struct listed *place = find(c, listed->listing.model);

	if (!place && c->count == c->room) {
		const size_t room = OL_MAX(2 * c->room, (size_t)16);
		struct listed *grown =
			room <= LISTINGS_MAX ? realloc(c->listings, room * sizeof *grown) : NULL;
		if (!grown)
			return ol_fail(err, OL_ERR_FULL, "no room for another model's price");
		c->listings = grown;
		c->room = room;
	}
	if (!place)
		place = &c->listings[c->count++];
	*place = *listed;
	return OL_OK;
}

bool ol_cashier_listing(struct ol_cashier *c, struct ol_listing *listing_out, uint8_t id_out[32],
			const uint8_t model[32])
{
	pthread_mutex_lock(&c->mutex);
	const struct listed *listed = find(c, model);
	if (listed) {
		*listing_out = listed->listing;
		if (id_out)
			memcpy(id_out, listed->id, 32);
	}
	pthread_mutex_unlock(&c->mutex);
	return listed != NULL;
}

enum ol_status ol_cashier_restore(struct ol_cashier *c, const uint8_t *event, size_t size,
				  struct ol_error *err)
{
	struct listed listed;
	const enum ol_listing_fault fault = ol_listing_read(&listed.listing, event, size);
	enum ol_status s;

	if (fault != OL_LISTING_WELL)
		return ol_fail(err, OL_ERR_INPUT, "a listing of the log is broken: %s",
			       ol_listing_fault_text(fault));
	ol_event_id(listed.id, event, size);
	pthread_mutex_lock(&c->mutex);
	s = put_in_force(c, &listed, err);
	pthread_mutex_unlock(&c->mutex);
	return s;
}

/* An adapter that nobody priced costs what its base costs: it is not a way around that. */
static bool find_price(struct ol_cashier *c, struct listed *out, const uint8_t model[32])
{
	return ol_cashier_listing(c, &out->listing, out->id, model) ||
	       ol_cashier_listing(c, &out->listing, out->id, c->o.base);
}

/* An event without money. */
static enum ol_status log_event(struct ol_cashier *c, enum ol_event_kind kind, const void *bytes,
				size_t size, struct ol_error *err)
{
	const struct ol_event event = {
		.bytes = bytes, .size = (uint32_t)size, .kind = (uint16_t)kind};
	uint64_t index;
	struct ol_batch batch = {.events = &event, .event_count = 1, .event_indexes = &index};

	return ol_bookkeeper_post(c->o.keeper, &batch, OL_DURABLE, err);
}

enum ol_status ol_cashier_publish(struct ol_cashier *c, struct ol_listing *listing,
				  uint8_t id_out[32], struct ol_error *err)
{
	struct listed listed;
	enum ol_status s = OL_OK;

	/* Held until it is durable: two listings of one model must not have one predecessor. */
	pthread_mutex_lock(&c->mutex);
	const struct listed *before = find(c, listing->model);
	ol_event_begin(&listing->head, OL_EVENT_LISTING, ol_bookkeeper_now_ms(c->o.keeper));
	memset(listing->previous, 0, sizeof listing->previous);
	memcpy(listing->base, c->o.base, sizeof listing->base);
	listing->version = before ? before->listing.version + 1 : 1;
	if (before)
		memcpy(listing->previous, before->id, sizeof before->id);
	const enum ol_listing_fault fault = ol_listing_check(listing);
	if (fault != OL_LISTING_WELL)
		s = ol_fail(err, OL_ERR_INPUT, "this price cannot be published: %s",
			    ol_listing_fault_text(fault));
	if (s == OL_OK)
		s = log_event(c, OL_EVENT_LISTING, listing, sizeof *listing, err);
	listed.listing = *listing;
	ol_event_id(listed.id, (const uint8_t *)listing, sizeof *listing);
	if (s == OL_OK)
		s = put_in_force(c, &listed, err);
	pthread_mutex_unlock(&c->mutex);
	if (s == OL_OK && id_out)
		memcpy(id_out, listed.id, 32);
	return s;
}

/* --- posting ----------------------------------------------------------------------- */

/* All or none of linked transfers, with the event that tells of them. */
static enum ol_status post_linked(struct ol_cashier *c, struct ol_transfer *transfers,
				  uint32_t count, const struct ol_event *event, uint64_t *index,
				  enum ol_when when, struct ol_error *err)
{
	uint8_t results[TRANSFERS_MAX] = {0};
	struct ol_batch batch = {.postings = {.transfers = transfers, .transfer_count = count},
				 .events = event,
				 .event_count = event ? 1 : 0,
				 .transfer_results = results,
				 .event_indexes = index};
	OL_ASSERT(count <= TRANSFERS_MAX);
	for (uint32_t i = 0; i + 1 < count; i++)
		transfers[i].flags |= OL_TRANSFER_LINKED;
	const enum ol_status s = ol_bookkeeper_post(c->o.keeper, &batch, when, err);
	if (s != OL_OK)
		return s;
	for (uint32_t i = 0; i < count; i++)
		if (results[i] != OL_POST_OK && results[i] != OL_POST_LINKED_FAILED)
			return ol_fail(err,
				       results[i] == OL_POST_OVERDRAFT ? OL_ERR_FULL : OL_ERR_INPUT,
				       "the ledger refuses the transfer: %s",
				       ol_post_name((enum ol_post)results[i]));
	return OL_OK;
}

struct grant_event {
	struct ol_event_head head;
	struct ol_account_key account;
	struct ol_amount amount;
};
_Static_assert(sizeof(struct grant_event) == 56, "grant v1");

enum ol_status ol_cashier_grant(struct ol_cashier *c, const struct ol_account_key *account,
				struct ol_amount amount, struct ol_error *err)
{
	struct grant_event grant = {.account = *account, .amount = amount};
	struct ol_event event = {.bytes = (const uint8_t *)&grant,
				 .size = sizeof grant,
				 .kind = OL_EVENT_GRANT,
				 .transfer_count = 1};
	struct ol_transfer transfer = {.id = ol_bookkeeper_id(c->o.keeper),
				       .credit = *account,
				       .amount = amount,
				       .code = OL_CODE_GRANT,
				       .flags = OL_TRANSFER_OPENS};
	struct ol_account_op op = {.action = OL_ACCOUNT_OPEN, .flags = OL_ACCOUNT_OVERDRAFT};
	uint8_t account_result, result;
	uint64_t index;
	struct ol_batch batch = {
		.postings = {&op, &transfer, 1, 1},
		.events = &event,
		.event_count = 1,
		.account_results = &account_result,
		.transfer_results = &result,
		.event_indexes = &index,
	};
	if (account->currency != OL_CURRENCY_CREDIT)
		return ol_fail(err, OL_ERR_INPUT,
			       "only test credit can be granted: OPEN comes from deposits");
	ol_event_begin(&grant.head, OL_EVENT_GRANT, ol_bookkeeper_now_ms(c->o.keeper));
	ol_account_key_init(&op.key, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
	transfer.debit = op.key;
	enum ol_status s = ol_bookkeeper_post(c->o.keeper, &batch, OL_DURABLE, err);
	if (s == OL_OK && result != OL_POST_OK)
		s = ol_fail(err, OL_ERR_INPUT, "the ledger refuses the grant: %s",
			    ol_post_name((enum ol_post)result));
	return s;
}

/* --- reserving --------------------------------------------------------------------- */

static struct ol_amount available(struct ol_cashier *c, const struct ol_account_key *key)
{
	struct ol_account account;
	bool found = false;

	if (ol_bookkeeper_account(c->o.keeper, &account, &found, key, NULL) != OL_OK || !found)
		return ol_amount(0);
	return ol_account_available(&account);
}

static bool refuse(struct ol_refusal *refusal, int status, const char *type, const char *code)
{
	*refusal = (struct ol_refusal){.status = status, .type = type, .code = code};
	return false;
}

static bool refuse_poor(struct ol_cashier *c, const struct charge *charge,
			struct ol_refusal *refusal, struct ol_error *err)
{
	char need[OL_AMOUNT_OPEN_MAX], credit[OL_AMOUNT_OPEN_MAX], open[OL_AMOUNT_OPEN_MAX];
	struct ol_account_key key = charge->payer;

	key.currency = OL_CURRENCY_CREDIT;
	ol_amount_print_open(credit, available(c, &key));
	key.currency = OL_CURRENCY_OPEN;
	ol_amount_print_open(open, available(c, &key));
	ol_amount_print_open(need, charge->most);
	(void)ol_fail(
		err, OL_ERR_FULL,
		"This answer may cost up to %s OPEN, and your account has %s OPEN and %s test "
		"credit: ask for fewer tokens (max_tokens), or add to the account.",
		need, open, credit);
	return refuse(refusal, 402, "insufficient_funds", "insufficient_funds");
}

/* Credit first; in one currency whole. */
static bool hold(struct ol_cashier *c, struct charge *charge, struct ol_refusal *refusal,
		 struct ol_error *err)
{
	static const enum ol_currency order[] = {OL_CURRENCY_CREDIT, OL_CURRENCY_OPEN};

	for (size_t i = 0; i < OL_ARRAY_LEN(order); i++) {
		charge->currency = order[i];
		charge->payer.currency = (uint8_t)order[i];
		if (ol_amount_compare(available(c, &charge->payer), charge->most) < 0)
			continue;
		charge->hold = ol_bookkeeper_id(c->o.keeper);
		struct ol_transfer transfer = {.id = charge->hold,
					       .debit = charge->payer,
					       .amount = charge->most,
					       .timeout_s = HOLD_SECONDS,
					       .code = OL_CODE_PRICE,
					       .flags = OL_TRANSFER_PENDING | OL_TRANSFER_OPENS};
		ol_account_key_init(&transfer.credit, OL_ACCOUNT_CLEARING, order[i], 0, NULL, 0);
		const enum ol_status s = post_linked(c, &transfer, 1, NULL, NULL, OL_SOON, err);
		charge->held = s == OL_OK;
		if (charge->held)
			return true;
		if (s != OL_ERR_FULL) /* somebody else was quicker to spend it: the next one */
			return refuse(refusal, 503, "server_error", "ledger_unavailable");
	}
	return refuse_poor(c, charge, refusal, err);
}

static enum ol_finish finish_of(const struct ol_part *part)
{
	return part->outcome != OL_OUTCOME_DONE ? OL_FINISH_CANCELLED : part->generation.finish;
}

/* What the caller keeps. Borrows from the ask; choices: NULL until there are some. */
struct opened {
	struct ol_opening opening;
	struct ol_opening_prompt *prompts;
	struct ol_opening_text *stops;
	struct ol_opening_bias *bias;
	struct ol_opening_choice *choices;
};

static void close_opened(struct opened *o)
{
	free(o->prompts);
	free(o->stops);
	free(o->bias);
	free(o->choices);
}

static int by_token(const void *a, const void *b)
{
	const int32_t x = ((const struct ol_opening_bias *)a)->token;
	const int32_t y = ((const struct ol_opening_bias *)b)->token;
	return (x > y) - (x < y);
}

static bool open_request(struct opened *o, const struct ol_ask *ask, const uint8_t *salt)
{
	const struct ol_answer_options *a = &ask->answer;
	const size_t stops = (size_t)a->stop_count, bias = (size_t)a->sampling.bias_count;

	*o = (struct opened){.prompts = calloc(ask->prompt_count, sizeof *o->prompts),
			     .stops = calloc(stops + 1, sizeof *o->stops),
			     .bias = calloc(bias + 1, sizeof *o->bias)};
	if (!o->prompts || !o->stops || !o->bias)
		return false;
	for (size_t i = 0; i < ask->prompt_count; i++)
		o->prompts[i] =
			(struct ol_opening_prompt){ask->prompts[i].ids, ask->prompts[i].count};
	for (size_t i = 0; i < stops; i++)
		o->stops[i] = (struct ol_opening_text){a->stops[i], strlen(a->stops[i])};
	for (size_t i = 0; i < bias; i++)
		o->bias[i] = (struct ol_opening_bias){a->sampling.bias[i].token,
						      a->sampling.bias[i].bias};
	qsort(o->bias, bias, sizeof *o->bias, by_token);
	memcpy(o->opening.salt, salt, OL_SALT_BYTES);
	o->opening.prompts = o->prompts;
	o->opening.prompt_count = ask->prompt_count;
	o->opening.stops = o->stops;
	o->opening.stop_count = stops;
	o->opening.bias = o->bias;
	o->opening.bias_count = bias;
	if (ask->grammar_text)
		o->opening.grammar =
			(struct ol_opening_text){ask->grammar_text, strlen(ask->grammar_text)};
	return true;
}

static bool reserve(void *self, void **charge_out, struct ol_refusal *refusal,
		    const struct ol_ask *ask, uint64_t prompt_tokens, uint64_t completion_max,
		    struct ol_error *err)
{
	struct ol_cashier *c = self;
	struct charge *charge = calloc(1, sizeof *charge);
	struct opened opened = {0};
	bool ok = charge != NULL;

	if (ok) {
		ol_random_system.fill(ol_random_system.self, charge->salt, sizeof charge->salt);
		ok = open_request(&opened, ask, charge->salt) &&
		     ol_receipt_commit_request(charge->request, &opened.opening);
		close_opened(&opened);
	}
	if (!ok) {
		free(charge);
		(void)ol_fail(err, OL_ERR_FULL, "out of memory for a charge");
		return refuse(refusal, 503, "server_error", "out_of_memory");
	}
	if (c->o.checkpoint)
		c->o.checkpoint(c->o.log, &charge->checkpoint_size, charge->checkpoint_root);
	const bool adapted = c->o.identify && ask->model &&
			     c->o.identify(c->o.models, ask->model, charge->adapter,
					   charge->snapshot, charge->index);
	charge->listed = find_price(c, &charge->price, adapted ? charge->adapter : c->o.base);
	*charge_out = charge;
	if (!charge->listed)
		return true;
	const char *account = ask->account && ask->account[0] ? ask->account : "local";
	if (ol_account_key_parse(&charge->payer, account, OL_CURRENCY_CREDIT, err) != OL_OK)
		ok = refuse(refusal, 402, "insufficient_funds", "no_such_account");
	else if (!ol_price(&charge->most, &charge->price.listing, prompt_tokens, completion_max)) {
		(void)ol_fail(
			err, OL_ERR_FULL,
			"This answer could cost more than there is OPEN: ask for fewer tokens.");
		ok = refuse(refusal, 402, "insufficient_funds", "price_too_high");
	} else if (!ol_amount_is_zero(charge->most))
		ok = hold(c, charge, refusal, err);
	if (!ok) {
		free(charge);
		*charge_out = NULL;
	}
	return ok;
}

static void give_back(struct ol_cashier *c, const struct charge *charge)
{
	struct ol_transfer transfer = {.id = ol_bookkeeper_id(c->o.keeper),
				       .debit = charge->payer,
				       .pending_id = charge->hold,
				       .code = OL_CODE_PRICE,
				       .flags = OL_TRANSFER_VOID};

	ol_account_key_init(&transfer.credit, OL_ACCOUNT_CLEARING, charge->currency, 0, NULL, 0);
	/* Should it fail, the hold runs out by itself. */
	if (charge->held && post_linked(c, &transfer, 1, NULL, NULL, OL_SOON, NULL) != OL_OK)
		return;
}

static void release(void *self, void *charge)
{
	if (!charge)
		return;
	give_back(self, charge);
	free(charge);
}

static uint64_t seed(void *self, void *charge, const struct ol_ask *ask)
{
	const struct charge *ch = charge;
	(void)self;
	(void)ask;
	return ol_receipt_seed(ch->checkpoint_size, ch->checkpoint_root, ch->request);
}

/* --- the receipt ------------------------------------------------------------------- */

/* Choices as they are paid for: whoever left has what was made until then. */
static bool open_answer(struct opened *o, const struct ol_answered *answered, int hidden)
{
	o->choices = calloc(answered->part_count, sizeof *o->choices);
	if (!o->choices)
		return false;
	for (size_t i = 0; i < answered->part_count; i++) {
		const struct ol_part *part = &answered->parts[i];
		struct ol_opening_choice *choice = &o->choices[i];
		*choice = (struct ol_opening_choice){
			part->generation.tokens.ids,
			OL_MIN(part->told, part->generation.tokens.count),
			(uint32_t)finish_of(part)};
		if (answered->embeddings &&
		    part->outcome == OL_OUTCOME_DONE) /* the bits of its numbers */
			*choice = (struct ol_opening_choice){
				(const int32_t *)(const void *)(answered->embeddings +
								i * (size_t)hidden),
				(size_t)hidden, OL_FINISH_STOP};
	}
	o->opening.choices = o->choices;
	o->opening.choice_count = answered->part_count;
	return true;
}

static void fill_sampling(struct ol_receipt_sampling *out, const struct ol_answered *answered,
			  uint32_t room)
{
	const struct ol_answer_options *a = &answered->ask->answer;
	const struct ol_sampling *s = &a->sampling;

	*out = (struct ol_receipt_sampling){
		.seed = answered->seed,
		.temperature = s->temperature,
		.top_p = s->top_p,
		.min_p = s->min_p,
		.repeat_penalty = s->repeat_penalty,
		.presence_penalty = s->presence_penalty,
		.frequency_penalty = s->frequency_penalty,
		.top_k = s->top_k,
		.max_tokens = (uint32_t)OL_MAX(a->max_tokens, 0),
		.room = room,
		.choices = (uint32_t)answered->ask->choices,
		.seed_rule = answered->ask->seed_given ? OL_SEED_CLIENT : OL_SEED_CHECKPOINT,
		.ignore_eos = a->ignore_eos,
		.strip_lead_space = a->strip_lead_space};
}

static enum ol_status fill_receipt(struct ol_cashier *c, struct ol_receipt *r,
				   struct ol_receipt_part *parts, const struct charge *charge,
				   const struct ol_answered *answered, struct ol_error *err)
{
	memset(r, 0, sizeof *r);
	ol_event_begin(&r->head, OL_EVENT_RECEIPT, ol_bookkeeper_now_ms(c->o.keeper));
	memcpy(r->node, c->o.node, 32);
	memcpy(r->request, charge->request, 32);
	memcpy(r->base, c->o.base, 32);
	memcpy(r->adapter, charge->adapter, 32);
	memcpy(r->snapshot, charge->snapshot, 32);
	memcpy(r->index, charge->index, 32);
	(void)snprintf(r->arithmetic, sizeof r->arithmetic, "%s", OL_ARITHMETIC_VERSION);
	r->kv_type = c->o.kv_type;
	r->work = answered->embeddings ? OL_WORK_EMBEDDINGS : OL_WORK_ANSWERS;
	r->prompts = (uint16_t)answered->ask->prompt_count;
	r->checkpoint_size = charge->checkpoint_size;
	memcpy(r->checkpoint_root, charge->checkpoint_root, 32);
	fill_sampling(&r->sampling, answered, c->o.room);
	r->prompt_tokens = (uint32_t)answered->usage.prompt_tokens;
	r->completion_tokens = (uint32_t)answered->usage.completion_tokens;
	r->epoch = ol_receipt_epoch(r->head.time_ms);
	if (!charge->listed)
		return OL_OK;
	r->currency = charge->currency;
	memcpy(r->listing, charge->price.id, 32);
	r->reservation = charge->hold;
	ol_receipt_pseudonym(r->payer, c->o.secret, r->epoch, &charge->payer);
	if (!ol_price(&r->price, &charge->price.listing, r->prompt_tokens, r->completion_tokens) ||
	    ol_amount_compare(r->price, charge->most) > 0)
		return ol_fail(err, OL_ERR_INPUT, "an answer cost more than was held for it");
	ol_receipt_parts(r, parts, &charge->price.listing, false);
	ol_receipt_split(r, parts);
	return OL_OK;
}

static uint16_t code_of(uint32_t party)
{
	static const uint16_t codes[OL_PARTIES] = {
		[OL_PARTY_BASE] = OL_CODE_BASE_OWNER,   [OL_PARTY_BUILDER] = OL_CODE_BUILDER,
		[OL_PARTY_DATA] = OL_CODE_DATA,         [OL_PARTY_REVIEWERS] = OL_CODE_REVIEWERS,
		[OL_PARTY_STAKERS] = OL_CODE_STAKERS,   [OL_PARTY_NODE] = OL_CODE_NODE,
		[OL_PARTY_PLATFORM] = OL_CODE_PLATFORM,
	};
	return codes[party];
}

/* The price out of what was held, then to everybody his part. Parts learn their transfers' ids. */
static uint32_t fill_transfers(struct ol_cashier *c, struct ol_transfer *transfers,
			       const struct charge *charge, const struct ol_receipt *r,
			       struct ol_receipt_part *parts)
{
	struct ol_account_key clearing;
	uint32_t count = 0;

	ol_account_key_init(&clearing, OL_ACCOUNT_CLEARING, charge->currency, 0, NULL, 0);
	transfers[count++] = (struct ol_transfer){
		.id = ol_bookkeeper_id(c->o.keeper),
		.debit = charge->payer,
		.credit = clearing,
		.pending_id = charge->hold,
		.amount = r->price,
		.code = OL_CODE_PRICE,
		.flags = ol_amount_is_zero(r->price) ? OL_TRANSFER_VOID : OL_TRANSFER_POST};
	for (uint32_t i = 0; i < r->parts; i++) {
		if (ol_amount_is_zero(parts[i].amount))
			continue;
		parts[i].transfer = ol_bookkeeper_id(c->o.keeper);
		transfers[count++] = (struct ol_transfer){.id = parts[i].transfer,
							  .debit = clearing,
							  .credit = parts[i].account,
							  .amount = parts[i].amount,
							  .code = code_of(parts[i].party),
							  .flags = OL_TRANSFER_OPENS};
	}
	return count;
}

static json_t *receipt_json(const struct ol_receipt *r, const uint8_t id[32], uint64_t index,
			    const struct ol_buf *bytes, const struct ol_opening *opening)
{
	char hex[65], nano[OL_AMOUNT_TEXT_MAX], open[OL_AMOUNT_OPEN_MAX];
	struct ol_buf base64;
	json_t *json = NULL;

	ol_hex(hex, id, 32);
	ol_amount_print(nano, r->price);
	ol_amount_print_open(open, r->price);
	ol_buf_init(&base64, OL_BASE64_LENGTH(OL_RECEIPT_MAX));
	if (ol_base64_append(&base64, bytes->data, bytes->size))
		json = json_pack("{s:{s:s, s:I, s:s, s:s, s:s, s:s#}, s:o}", "receipt", "id", hex,
				 "log_index", (json_int_t)index, "price", open, "price_nano", nano,
				 "currency", currency_name((enum ol_currency)r->currency), "bytes",
				 base64.data, (int)base64.size, "opening",
				 ol_opening_json(opening));
	ol_buf_release(&base64);
	return json;
}

/* Signs, books, and says so when it is durable. */
static enum ol_status book(struct ol_cashier *c, const struct charge *charge, struct ol_receipt *r,
			   struct ol_receipt_part *parts, const struct ol_opening *opening,
			   json_t **json, struct ol_error *err)
{
	struct ol_transfer transfers[TRANSFERS_MAX];
	const uint32_t count = charge->held ? fill_transfers(c, transfers, charge, r, parts) : 0;
	uint8_t signature[OL_SIGNATURE_BYTES], id[32];
	struct ol_buf bytes;
	uint64_t index = 0;
	enum ol_status s;

	ol_buf_init(&bytes, OL_RECEIPT_MAX);
	ol_receipt_write(&bytes, r, parts);
	s = bytes.failed ? ol_fail(err, OL_ERR_FULL, "out of memory for a receipt")
			 : c->o.sign(c->o.signer, signature, bytes.data, bytes.size, err);
	if (s == OL_OK && !ol_buf_append(&bytes, signature, sizeof signature))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a receipt");
	if (s == OL_OK) {
		const struct ol_event event = {.bytes = (const uint8_t *)bytes.data,
					       .size = (uint32_t)bytes.size,
					       .kind = OL_EVENT_RECEIPT,
					       .transfer_count = count};
		ol_event_id(id, event.bytes, event.size);
		for (uint32_t i = 0; i < count; i++)
			memcpy(transfers[i].user_data, id, sizeof transfers[i].user_data);
		s = post_linked(c, transfers, count, &event, &index, OL_DURABLE, err);
	}
	if (s == OL_OK) {
		*json = receipt_json(r, id, index, &bytes, opening);
		if (!*json)
			s = ol_fail(err, OL_ERR_FULL, "out of memory for a receipt");
	}
	ol_buf_release(&bytes);
	return s;
}

enum ol_status ol_cashier_post(struct ol_cashier *c, void *charge_in, json_t **json,
			       struct ol_amount *price_out, const struct ol_answered *answered,
			       struct ol_error *err)
{
	struct charge *charge = charge_in;
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_receipt receipt;
	struct opened opened = {0};
	json_t *detail = NULL;
	enum ol_status s = OL_OK;

	*json = NULL;
	if (answered->adapter_sha256 && memcmp(answered->adapter_sha256, charge->adapter, 32) != 0)
		s = ol_fail(err, OL_ERR_INPUT, "the adapter was exchanged while it answered");
	if (s == OL_OK)
		s = fill_receipt(c, &receipt, parts, charge, answered, err);
	if (s == OL_OK && (!open_request(&opened, answered->ask, charge->salt) ||
			   !open_answer(&opened, answered, answered->hidden) ||
			   !ol_receipt_commit_response(receipt.response, &opened.opening)))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a receipt");
	if (s == OL_OK && c->o.shares && !ol_all_zero(charge->adapter, 32) && !answered->embeddings)
		s = c->o.shares(c->o.models, receipt.shares, &detail, receipt.index,
				answered->ask->model, charge->adapter, &opened.opening,
				receipt.request, err);
	if (s == OL_OK)
		s = book(c, charge, &receipt, parts, &opened.opening, json, err);
	if (s == OL_OK && detail)
		json_object_set(*json, "attribution", detail);
	json_decref(detail);
	if (s != OL_OK)
		give_back(c, charge);
	*price_out = s == OL_OK ? receipt.price : ol_amount(0);
	close_opened(&opened);
	free(charge);
	return s;
}

static enum ol_status post(void *self, void *charge, json_t **json,
			   const struct ol_answered *answered, struct ol_error *err)
{
	struct ol_amount price;

	return ol_cashier_post(self, charge, json, &price, answered, err);
}

struct ol_amount ol_cashier_most(const void *charge)
{
	return ((const struct charge *)charge)->most;
}

void ol_cashier_set_room(struct ol_cashier *c, uint32_t room)
{
	c->o.room = room;
}

static json_t *price_json(void *self, const char *model)
{
	struct ol_cashier *c = self;
	uint8_t adapter[32], snapshot[32], index[32];
	struct listed price;
	char prompt[OL_AMOUNT_TEXT_MAX], completion[OL_AMOUNT_TEXT_MAX];
	const bool adapted =
		c->o.identify && c->o.identify(c->o.models, model, adapter, snapshot, index);

	if (!find_price(c, &price, adapted ? adapter : c->o.base))
		return NULL;
	ol_amount_print(prompt, price.listing.prompt_price);
	ol_amount_print(completion, price.listing.completion_price);
	return json_pack("{s:s, s:s, s:I}", "prompt_nano_per_1000", prompt,
			 "completion_nano_per_1000", completion, "version",
			 (json_int_t)price.listing.version);
}

/* --- life -------------------------------------------------------------------------- */

enum ol_status ol_cashier_open(struct ol_cashier **cashier_out,
			       const struct ol_cashier_options *options, struct ol_error *err)
{
	struct ol_cashier *c = calloc(1, sizeof *c);

	*cashier_out = c;
	if (!c)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the cashier");
	c->o = *options;
	pthread_mutex_init(&c->mutex, NULL);
	return OL_OK;
}

void ol_cashier_close(struct ol_cashier *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->mutex);
	ol_wipe(c->o.secret, sizeof c->o.secret);
	free(c->listings);
	free(c);
}

struct ol_accounting ol_cashier_accounting(struct ol_cashier *c)
{
	return (struct ol_accounting){.reserve = reserve,
				      .post = post,
				      .release = release,
				      .seed = seed,
				      .price = price_json,
				      .self = c};
}
