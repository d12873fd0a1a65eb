/* Receipts, prices, openings: what is written is read again, every rule that bytes can break
 * has a row, and nothing that shapes an answer can be changed without changing a commitment. */
#include "ledger/receipt.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/ed25519.h"
#include "ledger/opening.h"

enum { MODEL = 0xaa };
static const uint64_t noon = UINT64_C(1790000000000);

static struct ol_account_key address(uint8_t who)
{
	struct ol_account_key key;
	uint8_t id[20];

	memset(id, who, sizeof id);
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_OPEN, 0, id, sizeof id);
	return key;
}

static struct ol_listing good_listing(void)
{
	struct ol_listing listing = {.version = 1,
				     .prompt_price = {1500},
				     .completion_price = {6001},
				     .ppm = {100000, 200000, 400000, 50000, 50000, 150000, 50000},
				     .data_floor = 300000};

	ol_event_begin(&listing.head, OL_EVENT_LISTING, noon);
	memset(listing.model, MODEL, sizeof listing.model);
	for (uint8_t party = 0; party < OL_PARTIES; party++)
		if (party != OL_PARTY_DATA)
			listing.accounts[party] = address((uint8_t)(party + 1));
	return listing;
}

struct made {
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
};

static struct made good_receipt(void)
{
	const struct ol_listing listing = good_listing();
	struct made made = {.receipt = {.arithmetic = "0-draft",
					.prompts = 1,
					.sampling = {.seed = 7,
						     .temperature = 0.7f,
						     .top_p = 0.9f,
						     .repeat_penalty = 1,
						     .max_tokens = 100,
						     .room = 512,
						     .choices = 1},
					.prompt_tokens = 17,
					.completion_tokens = 33,
					.epoch = ol_receipt_epoch(noon)}};

	ol_event_begin(&made.receipt.head, OL_EVENT_RECEIPT, noon);
	memset(made.receipt.adapter, MODEL, sizeof made.receipt.adapter);
	memset(made.receipt.request, 3, sizeof made.receipt.request);
	OL_ASSERT(ol_price(&made.receipt.price, &listing, 17, 33));
	ol_receipt_parts(&made.receipt, made.parts, &listing, false);
	ol_receipt_split(&made.receipt, made.parts);
	return made;
}

static size_t bytes_of(uint8_t bytes[OL_RECEIPT_MAX], const struct made *made)
{
	static const uint8_t no_signature[OL_SIGNATURE_BYTES];
	struct ol_buf buf;

	ol_buf_init(&buf, OL_RECEIPT_MAX);
	ol_receipt_write(&buf, &made->receipt, made->parts);
	ol_buf_append(&buf, no_signature, sizeof no_signature);
	assert_false(buf.failed);
	const size_t size = buf.size;
	memcpy(bytes, buf.data, size);
	ol_buf_release(&buf);
	return size;
}

static enum ol_receipt_fault read_again(const struct made *made)
{
	uint8_t bytes[OL_RECEIPT_MAX];
	struct made again;
	const size_t size = bytes_of(bytes, made);

	return ol_receipt_read(&again.receipt, again.parts, bytes, size);
}

/* --- prices ------------------------------------------------------------------- */

static void a_price_is_rounded_up_once(void **state)
{
	static const struct {
		uint64_t prompt, completion, price;
	} rows[] = {
		{0, 0, 0},      {1, 0, 2},       {2, 0, 3},     {1000, 0, 1500},
		{0, 1, 7},      {0, 1000, 6001}, {17, 33, 224}, /* 25.5 + 198.033 = 223.533 */
		{667, 1, 1007}, /* 1000.5 + 6.001 = 1006.501: rounded together, not one by one */
	};
	const struct ol_listing listing = good_listing();
	struct ol_amount price;

	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		assert_true(ol_price(&price, &listing, rows[i].prompt, rows[i].completion));
		assert_int_equal(price.nano, rows[i].price);
	}
}

static void a_price_beyond_all_money_is_none(void **state)
{
	struct ol_listing listing = good_listing();
	struct ol_amount price = {42};

	(void)state;
	listing.prompt_price.nano = OL_PRICE_MAX;
	assert_true(ol_price(&price, &listing, 1000000, 0));
	assert_int_equal(price.nano, OL_NANO_SUPPLY);
	assert_false(ol_price(&price, &listing, 1000001, 0));
	assert_false(ol_price(&price, &listing, UINT64_C(1) << 32, 0));
	assert_int_equal(price.nano, OL_NANO_SUPPLY); /* untouched */
}

static void every_fault_of_a_listing_is_named(void **state)
{
	struct ol_listing rows[16], again;
	enum ol_listing_fault faults[16];
	int count = 0;

	(void)state;
#define ROW(fault, change)                                                                         \
	do {                                                                                       \
		struct ol_listing l = good_listing();                                              \
		change;                                                                            \
		faults[count] = fault;                                                             \
		rows[count++] = l;                                                                 \
	} while (0)
	ROW(OL_LISTING_WELL, (void)0);
	ROW(OL_LISTING_WELL, (l.version = 2, l.previous[0] = 1));
	ROW(OL_LISTING_KIND, l.head.kind = OL_EVENT_RECEIPT);
	ROW(OL_LISTING_KIND, l.head.version = 9);
	ROW(OL_LISTING_VERSION, l.version = 0);
	ROW(OL_LISTING_VERSION, l.previous[5] = 1);
	ROW(OL_LISTING_VERSION, l.version = 2);
	ROW(OL_LISTING_PPM, l.ppm[OL_PARTY_NODE]++);
	ROW(OL_LISTING_FLOOR, l.data_floor = 400001);
	ROW(OL_LISTING_ACCOUNTS, l.accounts[OL_PARTY_NODE] = (struct ol_account_key){0});
	ROW(OL_LISTING_ACCOUNTS, l.accounts[OL_PARTY_DATA] = address(9));
	ROW(OL_LISTING_ACCOUNTS, l.accounts[OL_PARTY_NODE].kind = OL_ACCOUNT_CHAIN);
	ROW(OL_LISTING_ACCOUNTS, l.accounts[OL_PARTY_NODE].currency = OL_CURRENCY_CREDIT);
	ROW(OL_LISTING_ACCOUNTS, (l.ppm[OL_PARTY_BASE] = 0, l.ppm[OL_PARTY_DATA] += 100000));
	ROW(OL_LISTING_PRICE, l.prompt_price.nano = OL_PRICE_MAX + 1);
	ROW(OL_LISTING_PRICE, l.completion_price.nano = UINT64_MAX);
#undef ROW
	for (int i = 0; i < count; i++) {
		const enum ol_listing_fault fault =
			ol_listing_read(&again, (const uint8_t *)&rows[i], sizeof rows[i]);
		if (fault != faults[i])
			fail_msg("row %d: %s", i, ol_listing_fault_text(fault));
	}
	assert_int_equal(ol_listing_read(&again, (const uint8_t *)&rows[0], sizeof rows[0] - 1),
			 OL_LISTING_SIZE);
}

/* --- receipts ------------------------------------------------------------------ */

static void a_receipt_is_read_as_it_was_written(void **state)
{
	const struct made made = good_receipt();
	struct made again;
	uint8_t bytes[OL_RECEIPT_MAX];
	uint64_t sum = 0;
	const size_t size = bytes_of(bytes, &made);

	(void)state;
	assert_int_equal(ol_receipt_read(&again.receipt, again.parts, bytes, size),
			 OL_RECEIPT_WELL);
	assert_memory_equal(&again.receipt, &made.receipt, sizeof made.receipt);
	assert_memory_equal(again.parts, made.parts, made.receipt.parts * sizeof made.parts[0]);
	for (uint32_t i = 0; i < again.receipt.parts; i++)
		sum += again.parts[i].amount.nano;
	assert_int_equal(sum, made.receipt.price.nano);
}

static void stakers_share_is_the_datas_while_nobody_stakes(void **state)
{
	const struct ol_listing listing = good_listing();
	struct made made = good_receipt();
	struct ol_account_key pot;

	(void)state;
	assert_int_equal(made.receipt.parts, OL_PARTIES - 1);
	assert_int_equal(made.parts[2].party, OL_PARTY_DATA);
	assert_int_equal(made.parts[2].ppm, 450000);
	ol_account_key_init(&pot, OL_ACCOUNT_POT, OL_CURRENCY_OPEN,
			    (uint32_t)ol_receipt_epoch(noon), made.receipt.adapter, 32);
	assert_memory_equal(&made.parts[2].account, &pot, sizeof pot);
	ol_receipt_parts(&made.receipt, made.parts, &listing, true);
	assert_int_equal(made.receipt.parts, OL_PARTIES);
	assert_int_equal(made.parts[OL_PARTY_DATA].ppm, 400000);
	assert_int_equal(made.parts[OL_PARTY_STAKERS].ppm, 50000);
}

static void every_fault_of_a_receipt_is_named(void **state)
{
	int row = 0;

	(void)state;
#define ROW(wanted, change)                                                                        \
	do {                                                                                       \
		struct made m = good_receipt();                                                    \
		struct ol_receipt *r = &m.receipt;                                                 \
		(void)r;                                                                           \
		change;                                                                            \
		const enum ol_receipt_fault fault = read_again(&m);                                \
		if (fault != (wanted))                                                             \
			fail_msg("row %d: %s", row, ol_receipt_fault_text(fault));                 \
		row++;                                                                             \
	} while (0)
	ROW(OL_RECEIPT_WELL, (void)0);
	ROW(OL_RECEIPT_KIND, r->head.kind = OL_EVENT_LISTING);
	ROW(OL_RECEIPT_KIND, r->head.magic[0] = 'X');
	ROW(OL_RECEIPT_KIND, r->head.version = 2);
	ROW(OL_RECEIPT_ARITHMETIC, r->arithmetic[0] = '\0');
	ROW(OL_RECEIPT_ARITHMETIC, memset(r->arithmetic, 'x', sizeof r->arithmetic));
	ROW(OL_RECEIPT_ARITHMETIC, r->arithmetic[15] = 'x');
	ROW(OL_RECEIPT_ARITHMETIC, r->kv_type = 2);
	ROW(OL_RECEIPT_WORK, r->work = 2);
	ROW(OL_RECEIPT_WORK, r->prompts = 0);
	ROW(OL_RECEIPT_WORK, (r->prompts = 9, r->sampling.choices = 128));
	ROW(OL_RECEIPT_SAMPLING, r->sampling.temperature = -0.5f);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.temperature = (float)NAN);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.top_p = 1.5f);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.top_k = -1);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.choices = 0);
	ROW(OL_RECEIPT_WORK, r->sampling.choices = OL_RECEIPT_CHOICES_MAX + 1);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.room = 0);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.strip_lead_space = 2);
	ROW(OL_RECEIPT_SAMPLING, r->sampling.zero[4] = 1);
	ROW(OL_RECEIPT_EPOCH, r->epoch++);
	ROW(OL_RECEIPT_EPOCH, r->head.time_ms += 3600000);
	ROW(OL_RECEIPT_CURRENCY, r->currency = OL_CURRENCY_COUNT);
	ROW(OL_RECEIPT_ORDER, m.parts[1].party = m.parts[0].party);
	ROW(OL_RECEIPT_ORDER, m.parts[5].party = OL_PARTIES);
	ROW(OL_RECEIPT_ACCOUNTS, m.parts[0].account.kind = 99);
	ROW(OL_RECEIPT_ACCOUNTS, m.parts[0].account.currency = OL_CURRENCY_CREDIT);
	ROW(OL_RECEIPT_ACCOUNTS, r->currency = OL_CURRENCY_CREDIT);
	ROW(OL_RECEIPT_ACCOUNTS, m.parts[2].account = address(1));
	ROW(OL_RECEIPT_ACCOUNTS, m.parts[0].account = m.parts[2].account);
	ROW(OL_RECEIPT_ACCOUNTS, r->adapter[0] ^= 1); /* another adapter's pot */
	ROW(OL_RECEIPT_PPM, m.parts[1].ppm++);
	ROW(OL_RECEIPT_SPLIT, (m.parts[0].amount.nano++, m.parts[1].amount.nano--));
	ROW(OL_RECEIPT_SPLIT, m.parts[1].amount.nano--);
	ROW(OL_RECEIPT_SPLIT, r->price.nano++);
	ROW(OL_RECEIPT_SPLIT, (m.parts[0].ppm += 100000, m.parts[1].ppm -= 100000));
	ROW(OL_RECEIPT_SEED, r->sampling.seed_rule = OL_SEED_CHECKPOINT);
	ROW(OL_RECEIPT_WELL,
	    (r->sampling.seed_rule = OL_SEED_CHECKPOINT,
	     r->sampling.seed = ol_receipt_seed(0, r->checkpoint_root, r->request)));
	ROW(OL_RECEIPT_PPM, r->parts--);
	ROW(OL_RECEIPT_FREE, r->parts = 0);
	ROW(OL_RECEIPT_FREE, (r->parts = 0, r->price.nano = 0, r->listing[31] = 1));
	ROW(OL_RECEIPT_WELL, (r->parts = 0, r->price.nano = 0));
#undef ROW
}

static void lengths_that_are_no_receipt_are_refused(void **state)
{
	const struct made made = good_receipt();
	struct made again;
	uint8_t bytes[OL_RECEIPT_MAX + 1] = {0};
	const size_t size = bytes_of(bytes, &made);

	(void)state;
	for (size_t n = 0; n <= sizeof bytes; n++) {
		/* From the heap, so that a sanitizer sees a read beyond the end. */
		uint8_t *copy = malloc(n ? n : 1);
		assert_non_null(copy);
		memcpy(copy, bytes, n);
		const enum ol_receipt_fault fault =
			ol_receipt_read(&again.receipt, again.parts, copy, n);
		assert_int_equal(fault, n == size ? OL_RECEIPT_WELL : OL_RECEIPT_SIZE);
		free(copy);
	}
}

static void every_flipped_bit_breaks_the_signature(void **state)
{
	const struct made made = good_receipt();
	const uint8_t seed[OL_ED25519_SEED_BYTES] = {5};
	uint8_t bytes[OL_RECEIPT_MAX];
	struct ol_ed25519_key key;
	const size_t size = bytes_of(bytes, &made), body = size - OL_SIGNATURE_BYTES;

	(void)state;
	ol_ed25519_key_from_seed(&key, seed);
	ol_ed25519_sign(bytes + body, &key, bytes, body);
	assert_true(ol_ed25519_verify(key.public_key, bytes + body, bytes, body));
	for (size_t bit = 0; bit < 8 * size; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(ol_ed25519_verify(key.public_key, bytes + body, bytes, body));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* --- openings ------------------------------------------------------------------- */

static void whatever_shapes_an_answer_is_committed_to(void **state)
{
	const int32_t prompt[] = {5, 6, 7}, other_prompt[] = {5, 6, 8}, tokens[] = {1, 2};
	const struct ol_opening_prompt prompts[] = {{prompt, 2}, {prompt, 1}};
	const struct ol_opening_prompt others[] = {{other_prompt, 3}, {prompt, 3}};
	const struct ol_opening_prompt joined[] = {{prompt, 3}};
	const struct ol_opening_text stops[] = {{"ab", 2}, {"c", 1}},
				     other_stops[] = {{"a", 1}, {"bc", 2}};
	const struct ol_opening_bias bias[] = {{3, 1.0f}}, other_bias[] = {{3, -1.0f}};
	const struct ol_opening_choice choices[] = {{tokens, 2, 0}, {tokens, 1, 1}};
	const struct ol_opening_choice moved[] = {{tokens, 1, 0}, {tokens + 1, 2 - 1, 1}};
	const struct ol_opening_choice ended[] = {{tokens, 2, 1}, {tokens, 1, 1}};
	const struct ol_opening honest = {.prompts = prompts,
					  .prompt_count = 2,
					  .stops = stops,
					  .stop_count = 2,
					  .bias = bias,
					  .bias_count = 1,
					  .grammar = {"{}", 2},
					  .choices = choices,
					  .choice_count = 2};
	struct ol_opening rows[13];
	uint8_t requests[13][32], responses[13][32];
	bool response_only[13] = {false};
	int count = 0;

	(void)state;
#define ROW(of_response, change)                                                                   \
	do {                                                                                       \
		struct ol_opening o = honest;                                                      \
		change;                                                                            \
		response_only[count] = of_response;                                                \
		rows[count++] = o;                                                                 \
	} while (0)
	ROW(false, (void)0);
	ROW(false, o.prompts = others);
	ROW(false, (o.prompts = joined, o.prompt_count = 1));
	ROW(false, o.prompt_count = 1);
	ROW(false, o.stops = other_stops); /* the same letters, cut elsewhere */
	ROW(false, o.stop_count = 1);
	ROW(false, o.bias = other_bias);
	ROW(false, o.bias_count = 0);
	ROW(false, o.grammar.size = 1);
	ROW(false, o.salt[31] = 1);
	ROW(true, o.choices = moved);
	ROW(true, o.choices = ended);
	ROW(true, o.choice_count = 1);
#undef ROW
	for (int i = 0; i < count; i++) {
		assert_true(ol_receipt_commit_request(requests[i], &rows[i]));
		assert_true(ol_receipt_commit_response(responses[i], &rows[i]));
		for (int k = 0; k < i; k++) {
			const bool request_differs = memcmp(requests[i], requests[k], 32) != 0;
			if (!request_differs && !(response_only[i] && (response_only[k] || k == 0)))
				fail_msg("rows %d and %d have one request", i, k);
			if (response_only[i])
				assert_memory_not_equal(responses[i], responses[k], 32);
		}
		assert_memory_not_equal(requests[i], responses[i], 32);
	}
}

static void an_opening_goes_through_json_unchanged(void **state)
{
	const int32_t prompt[] = {5, 600000, 7}, tokens[] = {1, -1082130432};
	const struct ol_opening_prompt prompts[] = {{prompt, 3}, {prompt, 0}};
	const struct ol_opening_text stops[] = {{"\n\n", 2}, {"\xc3\xa4\"", 3}};
	const struct ol_opening_bias bias[] = {{3, 0.1f}, {9, -99.99999f}};
	const struct ol_opening_choice choices[] = {{tokens, 2, 0}, {tokens, 0, 2}};
	const struct ol_opening rows[] = {
		{.salt = {1, 255},
		 .prompts = prompts,
		 .prompt_count = 2,
		 .stops = stops,
		 .stop_count = 2,
		 .bias = bias,
		 .bias_count = 2,
		 .grammar = {"{\"type\": \"object\"}", 18},
		 .choices = choices,
		 .choice_count = 2},
		{.prompts = prompts, .prompt_count = 1, .choices = choices, .choice_count = 1}};
	uint8_t before[32], after[32];

	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_opening_copy copy;
		struct ol_error err = {0};
		json_t *json = ol_opening_json(&rows[i]);
		char *text = json_dumps(json, JSON_COMPACT);
		json_decref(json);
		json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
		free(text);
		if (ol_opening_parse(&copy, json, &err) != OL_OK)
			fail_msg("%s", err.text);
		json_decref(json);
		assert_true(ol_receipt_commit_request(before, &rows[i]));
		assert_true(ol_receipt_commit_request(after, &copy.opening));
		assert_memory_equal(before, after, 32);
		assert_true(ol_receipt_commit_response(before, &rows[i]));
		assert_true(ol_receipt_commit_response(after, &copy.opening));
		assert_memory_equal(before, after, 32);
		ol_opening_release(&copy);
	}
}

static void what_is_no_opening_gets_a_sentence(void **state)
{
#define SALT "\"salt\":\"" ZEROS "\""
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"{}", "salt"},
		{"{\"salt\":\"00\"}", "salt"},
		{"{" SALT "}", "prompts"},
		{"{" SALT ",\"prompts\":7}", "prompts"},
		{"{" SALT ",\"prompts\":[7]}", "prompts is not a list"},
		{"{" SALT ",\"prompts\":[[1.5]]}", "no token"},
		{"{" SALT ",\"prompts\":[[2147483648]]}", "no token"},
		{"{" SALT ",\"prompts\":[[1]]}", "choices"},
		{"{" SALT ",\"prompts\":[[1]],\"choices\":[{\"tokens\":[1]}]}", "finish_reason"},
		{"{" SALT ",\"prompts\":[[1]],\"choices\":[{\"finish_reason\":\"stop\"}]}",
		 "choices is not a list"},
		{"{" SALT ",\"prompts\":[[1]],\"choices\":[],\"stop\":[1]}", "stop is not a text"},
		{"{" SALT ",\"prompts\":[[1]],\"choices\":[],\"logit_bias\":[[1]]}", "logit_bias"},
		{"{" SALT ",\"prompts\":[[1]],\"choices\":[],\"logit_bias\":[[-1,0]]}",
		 "logit_bias"},
		{"{" SALT ",\"prompts\":[[1]],\"choices\":[],\"grammar\":1}", "grammar"},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_opening_copy copy;
		struct ol_error err = {0};
		json_t *json = json_loads(rows[i].text, 0, NULL);
		assert_non_null(json);
		assert_int_equal(ol_opening_parse(&copy, json, &err), OL_ERR_INPUT);
		if (!strstr(err.text, rows[i].says))
			fail_msg("row %zu: %s", i, err.text);
		json_decref(json);
		ol_opening_release(&copy);
	}
#undef SALT
#undef ZEROS
}

static void pseudonyms_change_with_epoch_and_account(void **state)
{
	const uint8_t secret[32] = {1}, other[32] = {2};
	const struct ol_account_key a = address(1), b = address(2);
	uint8_t names[4][32], again[32];

	(void)state;
	ol_receipt_pseudonym(names[0], secret, 1, &a);
	ol_receipt_pseudonym(names[1], secret, 2, &a);
	ol_receipt_pseudonym(names[2], secret, 1, &b);
	ol_receipt_pseudonym(names[3], other, 1, &a);
	ol_receipt_pseudonym(again, secret, 1, &a);
	assert_memory_equal(names[0], again, 32);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			assert_memory_not_equal(names[i], names[k], 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_price_is_rounded_up_once),
		cmocka_unit_test(a_price_beyond_all_money_is_none),
		cmocka_unit_test(every_fault_of_a_listing_is_named),
		cmocka_unit_test(a_receipt_is_read_as_it_was_written),
		cmocka_unit_test(stakers_share_is_the_datas_while_nobody_stakes),
		cmocka_unit_test(every_fault_of_a_receipt_is_named),
		cmocka_unit_test(lengths_that_are_no_receipt_are_refused),
		cmocka_unit_test(every_flipped_bit_breaks_the_signature),
		cmocka_unit_test(whatever_shapes_an_answer_is_committed_to),
		cmocka_unit_test(an_opening_goes_through_json_unchanged),
		cmocka_unit_test(what_is_no_opening_gets_a_sentence),
		cmocka_unit_test(pseudonyms_change_with_epoch_and_account),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
