/* The life of one paid answer: asked, held, answered, split, signed, logged, and then everything on
 * its receipt computed again. And thirty-odd ways to lie about it, each refused by the check that
 * must see it: by somebody without the node's key, and by a node that signs its own lies. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "node/test_world.h"

#include <math.h>
#include <pthread.h>

#include "crypto/ed25519.h"
#include "crypto/text.h"
#include "node/cashier.h"
#include "node/verify.h"

static char folder[OL_PATH_MAX / 2];
static struct ol_home home;
static struct ol_disk disk;
static struct ol_bookkeeper *keeper;
static struct ol_cashier *cashier;
static struct ol_service *service;
static struct ol_ed25519_key node_key;
static uint8_t base_id[32], adapter_id[32], other_id[32];
static const char origin[] = "test.example/log";

/* --- a node with a ledger --------------------------------------------------------------- */

static enum ol_status sign(void *self, uint8_t signature[OL_SIGNATURE_BYTES], const void *bytes,
			   size_t size, struct ol_error *err)
{
	(void)self;
	(void)err;
	ol_ed25519_sign(signature, &node_key, bytes, size);
	return OL_OK;
}

static void checkpoint(void *self, uint64_t *size, uint8_t root[32])
{
	(void)self;
	*size = 1;
	memset(root, 8, 32);
}

static bool identify(void *self, const char *model, uint8_t adapter[32], uint8_t snapshot[32],
		     uint8_t index[32])
{
	(void)self;
	if (strcmp(model, "other") == 0)
		memcpy(adapter, other_id, 32);
	else if (strcmp(model, "poet") == 0)
		memcpy(adapter, adapter_id, 32);
	else
		return false;
	memset(snapshot, 5, 32);
	memset(index, 6, 32);
	return true;
}

static void make_home(void)
{
	const struct ol_import_options options = {.type = OL_WEIGHT_Q8};
	struct ol_adapter *adapter = make_adapter(4), *other = make_adapter(9);
	struct ol_config config = tiny;
	struct ol_manifest manifest;
	struct ol_runtime runtime;
	struct ol_model *model;
	struct ol_error err;
	char path[OL_PATH_MAX], hf[OL_PATH_MAX], file[OL_PATH_MAX];
	char *json = tiny_tokenizer_json();

	must(ol_path_join(hf, &err, folder, "/hf", ""), &err);
	must(ol_path_join(file, &err, hf, "/tokenizer.json", ""), &err);
	config.attention_scale = (float)(1.0 / sqrt(8.0)); /* as a config.json has it */
	must(ol_model_random(&model, &config, OL_WEIGHT_F32, 3, &err), &err);
	must(ol_export_folder(hf, model, &err), &err);
	ol_model_close(model);
	FILE *out = fopen(file, "w");
	assert_true(out && fputs(json, out) >= 0 && fclose(out) == 0);
	free(json);
	must(ol_home_model_path(&home, path, "tiny", &err), &err);
	must(ol_import(path, hf, &options, &err), &err);
	must(ol_runtime_open(&runtime, &home, "tiny", &err), &err);
	memcpy(base_id, ol_model_id(runtime.model), 32);
	ol_runtime_close(&runtime);
	ol_manifest_init(&manifest);
	memcpy(manifest.base_id, base_id, 32);
	snprintf(manifest.base_name, sizeof manifest.base_name, "tiny");
	must(ol_adapter_install(&home, "poet", adapter, &manifest, true, &err), &err);
	must(ol_adapter_install(&home, "other", other, &manifest, true, &err), &err);
	ol_manifest_release(&manifest);
	memcpy(adapter_id, ol_adapter_sha256(adapter), 32);
	memcpy(other_id, ol_adapter_sha256(other), 32);
	ol_adapter_close(adapter);
	ol_adapter_close(other);
}

static struct ol_account_key address(uint8_t who)
{
	struct ol_account_key key;
	uint8_t id[20];
	memset(id, who, sizeof id);
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_OPEN, 0, id, sizeof id);
	return key;
}

static struct ol_listing listing(void)
{
	struct ol_listing l = {.prompt_price = {1000},
			       .completion_price = {7777},
			       .ppm = {100000, 200000, 400000, 50000, 50000, 150000, 50000}};
	memcpy(l.model, adapter_id, 32);
	for (uint8_t party = 0; party < OL_PARTIES; party++)
		if (party != OL_PARTY_DATA)
			l.accounts[party] = address((uint8_t)(party + 1));
	return l;
}

static void open_node(void)
{
	struct ol_cashier_options options = {
		.sign = sign, .checkpoint = checkpoint, .identify = identify, .room = 64};
	const uint8_t seed[32] = {9};
	struct ol_service_options serve = {0};
	struct ol_bookkeeper_options books = {0};
	struct ol_runtime runtime;
	struct ol_account_key local;
	struct ol_listing price = listing();
	struct ol_error err;
	char path[OL_PATH_MAX];

	must(ol_path_join(path, &err, folder, "/ledger", ""), &err);
	assert_int_equal(mkdir(path, 0700), 0);
	must(ol_disk_open(&disk, path, &err), &err);
	books.ledger = (struct ol_ledger_options){.disk = disk,
						  .clock = ol_clock_system,
						  .random = ol_random_system,
						  .limits = {1 << 10, 1 << 12, 1 << 10}};
	must(ol_bookkeeper_open(&keeper, NULL, &books, &err), &err);
	ol_ed25519_key_from_seed(&node_key, seed);
	options.keeper = keeper;
	memcpy(options.node, node_key.public_key, 32);
	memcpy(options.base, base_id, 32);
	memset(options.secret, 7, 32);
	must(ol_runtime_open(&runtime, &home, "tiny", &err), &err);
	serve.runtime = &runtime;
	serve.home = &home;
	serve.engine.threads = 1;
	serve.base_name = "tiny";
	options.room = (uint32_t)tiny.context_max;
	must(ol_cashier_open(&cashier, &options, &err), &err);
	serve.accounting = ol_cashier_accounting(cashier);
	must(ol_service_open(&service, &serve, &err), &err);
	assert_int_equal(ol_service_room(service), tiny.context_max);
	must(ol_account_key_parse(&local, "local", OL_CURRENCY_CREDIT, &err), &err);
	must(ol_cashier_grant(cashier, &local, ol_amount(1000000), &err), &err);
	must(ol_cashier_publish(cashier, &price, NULL, &err), &err);
	assert_memory_equal(price.base, base_id, 32); /* by itself */
}

static int set_up(void **state)
{
	(void)state;
	make_folder(folder, sizeof folder);
	assert_int_equal(setenv("OPENLEDGER_HOME", folder, 1), 0);
	must(ol_home_open(&home, NULL), NULL);
	make_home();
	open_node();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ol_service_close(service);
	ol_cashier_close(cashier);
	ol_bookkeeper_close(keeper);
	ol_disk_close(&disk);
	remove_folder(folder);
	return 0;
}

/* --- asking ------------------------------------------------------------------------------- */

struct asked {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	enum ol_outcome outcome;
	json_t *receipt;
	size_t give_up_after, told;
	char why[OL_ERROR_TEXT_MAX];
};

static bool on_token(void *context, size_t part, const struct ol_generation *g, size_t final)
{
	struct asked *a = context;
	(void)part;
	(void)g;
	(void) final;
	return a->give_up_after == 0 || ++a->told < a->give_up_after;
}

static void on_done(void *context, const struct ol_answered *answered)
{
	struct asked *a = context;
	pthread_mutex_lock(&a->lock);
	a->outcome = answered->outcome;
	a->receipt = json_incref(answered->receipt);
	if (answered->err)
		snprintf(a->why, sizeof a->why, "%s", answered->err->text);
	a->done = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static void ask(struct asked *a, const char *model, int choices, int max_tokens, bool seed_given)
{
	struct ol_tokens prompts[2] = {{0}, {0}};
	struct ol_refusal refusal;
	struct ol_error err;
	struct ol_logit_bias bias[] = {{65, 1.5f}, {300 - 45, -3.0f}};
	struct ol_ask what = {.model = model,
			      .prompts = prompts,
			      .prompt_count = 2,
			      .choices = choices,
			      .seed_given = seed_given,
			      .answer = {.max_tokens = max_tokens,
					 .stops = {"zq"},
					 .stop_count = 1,
					 .sampling = {.temperature = 0.9f,
						      .top_k = 50,
						      .top_p = 0.95f,
						      .repeat_penalty = 1.0f,
						      .seed = 12345,
						      .bias = bias,
						      .bias_count = 2}},
			      .on_token = on_token,
			      .on_done = on_done,
			      .context = a};
	const size_t give_up_after = a->give_up_after;

	*a = (struct asked){.give_up_after = give_up_after};
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	for (int i = 0; i < 20; i++) {
		assert_true(ol_tokens_push(&prompts[0], 97 + i));
		if (i < 7)
			assert_true(ol_tokens_push(&prompts[1], 65 + 2 * i));
	}
	if (ol_service_ask(service, &what, &refusal, &err) != OL_ASK_OK)
		fail_msg("%s", err.text);
	pthread_mutex_lock(&a->lock);
	while (!a->done)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
	ol_tokens_release(&prompts[0]);
	ol_tokens_release(&prompts[1]);
}

/* --- everything a caller holds ----------------------------------------------------------- */

struct leaves {
	uint8_t hashes[64][32];
	uint64_t count;
	uint8_t listing[sizeof(struct ol_listing)];
};

static enum ol_status take_record(void *context, const struct ol_journal_record *record,
				  struct ol_error *err)
{
	struct leaves *leaves = context;
	(void)err;
	for (uint32_t i = 0; i < record->event_count; i++) {
		const struct ol_event *e = &record->events[i];
		OL_ASSERT(leaves->count < OL_ARRAY_LEN(leaves->hashes));
		ol_event_id(leaves->hashes[leaves->count++], e->bytes, e->size);
		if (e->kind == OL_EVENT_LISTING)
			memcpy(leaves->listing, e->bytes, e->size);
	}
	return OL_OK;
}

static enum ol_status tree_node(void *self, uint8_t out[32], int level, uint64_t index,
				struct ol_error *err)
{
	const struct leaves *leaves = self;
	struct ol_merkle tree;
	(void)err;
	ol_merkle_init(&tree);
	for (uint64_t i = index << level; i < (index + 1) << level; i++)
		ol_merkle_add(&tree, leaves->hashes[i]);
	ol_merkle_root(&tree, out);
	return OL_OK;
}

struct held {
	uint8_t bytes[OL_RECEIPT_MAX];
	size_t size;
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_opening_copy copy;
	struct ol_opening opening; /* copy's, or changed */
	struct ol_opening_choice choices[8];
	struct ol_opening_prompt prompts[2];
	int32_t tokens[64], prompt[64];
	struct ol_opening_bias bias[2];
	struct ol_listing listing, in_force;
	struct ol_buf proof_text;
	struct ol_tlog_proof proof;
	struct ol_note_key log_key, witness;
	struct ol_log_policy policy;
	uint8_t node[32], root[32];
};

static void prove(struct held *h, uint64_t index)
{
	struct leaves leaves = {.count = 0};
	const struct ol_tree tree = {tree_node, &leaves};
	struct ol_log_checkpoint checkpoint = {0};
	struct ol_proof proof;
	struct ol_buf text, note;
	struct ol_error err;

	must(ol_journal_read(&disk, NULL, NULL, take_record, &leaves, &err), &err);
	memcpy(&h->listing, leaves.listing, sizeof h->listing);
	h->in_force = h->listing;
	must(ol_inclusion_prove(&tree, &proof, index, leaves.count, &err), &err);
	snprintf(checkpoint.origin, sizeof checkpoint.origin, "%s", origin);
	checkpoint.size = leaves.count;
	must(ol_tree_root(&tree, checkpoint.root, leaves.count, &err), &err);
	must(ol_note_key_init(&h->log_key, origin, OL_NOTE_ED25519, node_key.public_key, &err),
	     &err);
	ol_buf_init(&text, 4096);
	ol_buf_init(&note, 4096);
	ol_buf_init(&h->proof_text, 8192);
	assert_true(ol_log_checkpoint_print(&text, &checkpoint));
	assert_true(ol_note_append_text(&note, text.data, text.size));
	assert_true(ol_note_sign(&note, &h->log_key, &node_key, text.data, text.size));
	assert_true(
		ol_tlog_proof_print(&h->proof_text, NULL, 0, index, &proof, note.data, note.size));
	must(ol_tlog_proof_parse(&h->proof, h->proof_text.data, h->proof_text.size, &err), &err);
	h->policy = (struct ol_log_policy){.log = &h->log_key};
	ol_buf_release(&text);
	ol_buf_release(&note);
}

static void hold(struct held *h, const json_t *json)
{
	const json_t *receipt = json_object_get(json, "receipt");
	const json_t *bytes = json_object_get(receipt, "bytes");
	struct ol_error err;

	memset(h, 0, sizeof *h);
	assert_true(ol_base64_parse(h->bytes, sizeof h->bytes, &h->size, json_string_value(bytes),
				    json_string_length(bytes)));
	assert_int_equal(ol_receipt_read(&h->receipt, h->parts, h->bytes, h->size),
			 OL_RECEIPT_WELL);
	must(ol_opening_parse(&h->copy, json_object_get(json, "opening"), &err), &err);
	h->opening = h->copy.opening;
	memcpy(h->node, node_key.public_key, 32);
	memset(h->root, 8, 32);
	prove(h, (uint64_t)json_integer_value(json_object_get(receipt, "log_index")));
}

static void let_go(struct held *h)
{
	ol_buf_release(&h->proof_text);
	ol_opening_release(&h->copy);
}

static void check(struct ol_verification *v, const struct held *h)
{
	const struct ol_verify_job job = {.bytes = h->bytes,
					  .size = h->size,
					  .node = h->node,
					  .listing = (const uint8_t *)&h->listing,
					  .listing_size = sizeof h->listing,
					  .in_force = (const uint8_t *)&h->in_force,
					  .in_force_size = sizeof h->in_force,
					  .proof = &h->proof,
					  .policy = &h->policy,
					  .known_root = h->root,
					  .opening = &h->opening,
					  .home = &home};
	struct ol_error err;
	must(ol_verify(v, &job, &err), &err);
}

static void expect_all_true(const struct ol_verification *v)
{
	for (int i = 0; i < OL_CHECK_SHARES; i++) /* these adapters have no index */
		if (v->checks[i].outcome != OL_CHECK_TRUE)
			fail_msg("%s: %s", ol_check_name((enum ol_check_kind)i), v->checks[i].text);
	assert_int_equal(v->checks[OL_CHECK_SHARES].outcome, OL_CHECK_NOT_MADE);
	assert_true(ol_verification_holds(v));
}

/* --- honest --------------------------------------------------------------------------------- */

static struct ol_amount balance(struct ol_account_key key)
{
	struct ol_account account;
	struct ol_error err;
	bool found;
	must(ol_bookkeeper_account(keeper, &account, &found, &key, &err), &err);
	return found ? ol_account_available(&account) : ol_amount(0);
}

static void every_number_of_a_receipt_is_computed_again(void **state)
{
	struct asked a = {.give_up_after = 0};
	struct ol_account_key local;
	struct held h;
	(void)state;
	must(ol_account_key_parse(&local, "local", OL_CURRENCY_CREDIT, NULL), NULL);
	for (int row = 0; row < 4; row++) {
		struct ol_verification v;
		const uint64_t before = balance(local).nano;
		uint64_t paid = 0;
		ask(&a, row == 3 ? "tiny" : "poet", 1 + row % 3, 9 + row, row % 2 == 0);
		if (a.outcome != OL_OUTCOME_DONE)
			fail_msg("%s", a.why);
		hold(&h, a.receipt);
		check(&v, &h);
		expect_all_true(&v);
		assert_int_equal(h.receipt.prompt_tokens, 27);
		assert_int_equal(before - balance(local).nano, h.receipt.price.nano);
		assert_int_equal(h.receipt.price.nano > 0, row != 3); /* the base is free */
		for (uint32_t i = 0; i < h.receipt.parts; i++)
			paid += h.parts[i].amount.nano;
		assert_int_equal(paid, h.receipt.price.nano);
		assert_int_equal(h.receipt.sampling.seed_rule,
				 row % 2 ? OL_SEED_CHECKPOINT : OL_SEED_CLIENT);
		let_go(&h);
		json_decref(a.receipt);
	}
}

static void who_leaves_early_pays_for_what_he_got(void **state)
{
	struct asked a = {.give_up_after = 6};
	struct ol_verification v;
	struct held h;
	(void)state;
	ask(&a, "poet", 1, 200, true);
	assert_int_equal(a.outcome, OL_OUTCOME_CANCELLED);
	hold(&h, a.receipt);
	assert_in_range(h.receipt.completion_tokens, 1, 20);
	check(&v, &h);
	expect_all_true(&v);
	let_go(&h);
	json_decref(a.receipt);
}

/* Without the money nothing runs, nothing is held, and the sentence says what is missing. */
static void who_cannot_pay_is_told_what_is_missing(void **state)
{
	struct ol_tokens prompt = {0};
	struct ol_refusal refusal;
	struct ol_error err;
	struct ol_ask what = {
		.model = "poet",
		.account = "0x00000000000000000000000000000000000000aa",
		.prompts = &prompt,
		.prompt_count = 1,
		.choices = 1,
		.answer = {.max_tokens = 100, .sampling = {.top_p = 1, .repeat_penalty = 1}},
		.on_done = on_done};
	(void)state;
	assert_true(ol_tokens_push(&prompt, 65));
	assert_int_equal(ol_service_ask(service, &what, &refusal, &err), OL_ASK_REFUSED);
	assert_int_equal(refusal.status, 402);
	assert_string_equal(refusal.code, "insufficient_funds");
	assert_non_null(strstr(err.text, "0.000000779 OPEN")); /* 1 + 777.7, rounded up */
	assert_non_null(strstr(err.text, "0.000000000 test credit"));
	ol_tokens_release(&prompt);
}

/* --- lies ------------------------------------------------------------------------------------- */

/* What is changed, and by whom: a lie that the node signs itself is found only by recomputation. */
#define OWN_CHOICES(h)                                                                             \
	(memcpy((h)->choices, (h)->opening.choices,                                                \
		(h)->opening.choice_count * sizeof *(h)->choices),                                 \
	 memcpy((h)->tokens, (h)->choices[0].tokens, (h)->choices[0].count * sizeof *(h)->tokens), \
	 (h)->choices[0].tokens = (h)->tokens, (h)->opening.choices = (h)->choices)
#define OWN_PROMPTS(h)                                                                             \
	(memcpy((h)->prompts, (h)->opening.prompts, sizeof(h)->prompts),                           \
	 memcpy((h)->prompt, (h)->prompts[0].tokens, (h)->prompts[0].count * sizeof *(h)->prompt), \
	 (h)->prompts[0].tokens = (h)->prompt, (h)->opening.prompts = (h)->prompts)

static void commit_again(struct held *h)
{
	assert_true(ol_receipt_commit_request(h->receipt.request, &h->opening));
	assert_true(ol_receipt_commit_response(h->receipt.response, &h->opening));
	ol_receipt_split(&h->receipt, h->parts); /* ties go by the request */
}

static void reprice(struct held *h)
{
	assert_true(ol_price(&h->receipt.price, &h->listing, h->receipt.prompt_tokens,
			     h->receipt.completion_tokens));
	ol_receipt_split(&h->receipt, h->parts);
}

static void seal_again(struct held *h, bool by_node)
{
	uint8_t signature[OL_SIGNATURE_BYTES];
	struct ol_buf bytes;

	memcpy(signature, h->bytes + h->size - sizeof signature, sizeof signature);
	ol_buf_init(&bytes, OL_RECEIPT_MAX);
	ol_receipt_write(&bytes, &h->receipt, h->parts);
	if (by_node)
		ol_ed25519_sign(signature, &node_key, bytes.data, bytes.size);
	assert_true(ol_buf_append(&bytes, signature, sizeof signature));
	memcpy(h->bytes, bytes.data, bytes.size);
	h->size = bytes.size;
	ol_buf_release(&bytes);
}

/* by: '-' as it is, 's' a stranger changes the receipt, 'n' the node does and signs. A node that
 * lies has its lie in the log, so its proofs are not looked at. */
static void expect_caught(const char *what, struct held *h, char by, enum ol_check_kind where,
			  const char *words)
{
	struct ol_verification v;

	if (by != '-')
		seal_again(h, by == 'n');
	check(&v, h);
	if (v.checks[where].outcome != OL_CHECK_FALSE || !strstr(v.checks[where].text, words)) {
		for (int i = 0; i < OL_CHECKS; i++)
			print_message("%s %d: %s\n", ol_check_name((enum ol_check_kind)i),
				      (int)v.checks[i].outcome, v.checks[i].text);
		fail_msg("%s is not caught by the %s as \"%s\"", what, ol_check_name(where), words);
	}
	assert_false(ol_verification_holds(&v));
	for (int i = 0; i < (int)where; i++) /* and not already by an earlier one */
		if (v.checks[i].outcome == OL_CHECK_FALSE && !(by == 'n' && i == OL_CHECK_LOG))
			fail_msg("%s: %s", what, v.checks[i].text);
}

static int lies;
#define LIE(what, by, where, words, change)                                                        \
	do {                                                                                       \
		struct held lie = honest, *h = &lie;                                               \
		struct ol_receipt *r = &h->receipt;                                                \
		(void)r;                                                                           \
		change;                                                                            \
		expect_caught(what, h, by, where, words);                                          \
		lies++;                                                                            \
	} while (0)

static void lies_about_bytes(const struct held *held)
{
	const struct held honest = *held;
	LIE("a bit of the signature", '-', OL_CHECK_SIGNATURE, "not made by the key",
	    h->bytes[h->size - 1] ^= 1);
	LIE("a bit of the salted answer", 's', OL_CHECK_SIGNATURE, "not made by",
	    r->response[0] ^= 1);
	LIE("another time", 's', OL_CHECK_SIGNATURE, "not made by", r->head.time_ms++);
	LIE("another payer", 's', OL_CHECK_SIGNATURE, "not made by", r->payer[3] ^= 1);
	LIE("another share table", 's', OL_CHECK_SIGNATURE, "not made by", r->shares[0] ^= 1);
	LIE("another index", 's', OL_CHECK_SIGNATURE, "not made by", r->index[0] ^= 1);
	LIE("another transfer", 's', OL_CHECK_SIGNATURE, "not made by", h->parts[0].transfer.low++);
	LIE("another node", '-', OL_CHECK_SIGNATURE, "another node's key", h->node[0] ^= 1);
	LIE("cut short", '-', OL_CHECK_RECEIPT, "length", h->size--);
	LIE("one party gets another's", 's', OL_CHECK_RECEIPT, "not the split",
	    (h->parts[0].amount.nano++, h->parts[1].amount.nano--));
	LIE("a price that is not split", 's', OL_CHECK_RECEIPT, "not the split", r->price.nano++);
	LIE("a million too few", 's', OL_CHECK_RECEIPT, "million", h->parts[3].ppm--);
	LIE("the pot of another model", 's', OL_CHECK_RECEIPT, "cannot have it",
	    h->parts[2].account.id[0] ^= 1);
	LIE("another epoch", 's', OL_CHECK_RECEIPT, "epoch", r->epoch--);
	LIE("a seed that it did not get", 's', OL_CHECK_RECEIPT, "seed",
	    r->sampling.seed_rule = OL_SEED_CHECKPOINT);
}

static void lies_about_the_log(const struct held *held)
{
	const struct held honest = *held;
	LIE("another leaf", '-', OL_CHECK_LOG, "", h->proof.index ^= 1);
	LIE("a hash of the proof", '-', OL_CHECK_LOG, "", h->proof.inclusion.hashes[0][0] ^= 1);
	LIE("a hash too few", '-', OL_CHECK_LOG, "", h->proof.inclusion.count--);
	LIE("a log of another name", '-', OL_CHECK_LOG, "",
	    must(ol_note_key_init(&h->log_key, "other.example/log", OL_NOTE_ED25519,
				  node_key.public_key, NULL),
		 NULL);
	    h->policy.log = &h->log_key);
	LIE("no witness", '-', OL_CHECK_LOG, "",
	    must(ol_note_key_init(&h->witness, "witness.example", OL_NOTE_COSIGNATURE,
				  node_key.public_key, NULL),
		 NULL);
	    (h->policy.witnesses = &h->witness, h->policy.witness_count = 1, h->policy.quorum = 1));
	LIE("a checkpoint that never was", '-', OL_CHECK_LOG, "never had the checkpoint",
	    h->root[5] ^= 1);
	LIE("a checkpoint of the future", 'n', OL_CHECK_LOG, "", r->checkpoint_size = 1000);
}

static void lies_of_the_node_about_money(const struct held *held)
{
	const struct held honest = *held;
	LIE("more than was listed", 'n', OL_CHECK_PRICE, "not what the listing asks",
	    (r->price.nano += 1000, ol_receipt_split(r, h->parts)));
	LIE("a cheaper friend", 'n', OL_CHECK_PRICE, "not what the listing asks",
	    (r->price.nano = 1, ol_receipt_split(r, h->parts)));
	LIE("contributors get less", 'n', OL_CHECK_PRICE, "not those of the listing",
	    (h->parts[2].ppm -= 100000, h->parts[4].ppm += 100000, ol_receipt_split(r, h->parts)));
	LIE("the builder is another", 'n', OL_CHECK_PRICE, "not those of the listing",
	    (h->parts[1].account.id[0] ^= 1, ol_receipt_split(r, h->parts)));
	LIE("stakers where nobody stakes", 'n', OL_CHECK_PRICE, "not those of the listing",
	    (ol_receipt_parts(r, h->parts, &h->listing, true), ol_receipt_split(r, h->parts)));
	LIE("a price of yesterday", '-', OL_CHECK_PRICE, "was replaced before",
	    (h->in_force.version++, h->in_force.previous[0] = 1));
	LIE("free for a friend", 'n', OL_CHECK_PRICE, "had a price",
	    (memset(r->listing, 0, 32), r->price.nano = 0, r->parts = 0));
	LIE("another price list", '-', OL_CHECK_PRICE, "not the listing that it names",
	    h->listing.completion_price.nano++);
	LIE("a broken price list", '-', OL_CHECK_PRICE, "broken", h->listing.version = 0);
	LIE("tokens that never were", 'n', OL_CHECK_OPENING, "completion tokens",
	    (r->completion_tokens += 5, reprice(h)));
	LIE("a prompt that nobody began", 'n', OL_CHECK_OPENING, "prompt tokens",
	    (OWN_CHOICES(h),
	     r->completion_tokens -= (uint32_t)(h->choices[2].count + h->choices[3].count),
	     h->choices[2] = h->choices[3] =
		     (struct ol_opening_choice){h->tokens, 0, OL_FINISH_CANCELLED},
	     reprice(h), commit_again(h)));
	LIE("a longer prompt", 'n', OL_CHECK_OPENING, "prompt tokens",
	    (r->prompt_tokens += 5, reprice(h)));
}

static void lies_about_what_was_said(const struct held *held)
{
	const struct held honest = *held;
	LIE("another prompt", '-', OL_CHECK_OPENING, "another prompt",
	    (OWN_PROMPTS(h), h->prompt[1]++));
	LIE("another salt", '-', OL_CHECK_OPENING, "another salt", h->opening.salt[0] ^= 1);
	LIE("another answer", '-', OL_CHECK_OPENING, "another answer",
	    (OWN_CHOICES(h), h->tokens[2] ^= 1));
	LIE("another end", '-', OL_CHECK_OPENING, "another answer",
	    (OWN_CHOICES(h), h->choices[1].finish = OL_FINISH_CANCELLED));
	LIE("no stop text", '-', OL_CHECK_OPENING, "other settings", h->opening.stop_count = 0);
	LIE("another bias", '-', OL_CHECK_OPENING, "other settings", h->opening.bias_count = 1);
	LIE("a grammar", '-', OL_CHECK_OPENING, "other settings",
	    h->opening.grammar = ((struct ol_opening_text){"{}", 2}));
	LIE("fewer choices", '-', OL_CHECK_OPENING, "another answer", h->opening.choice_count--);
}

static void lies_of_the_node_about_the_answer(const struct held *held)
{
	const struct held honest = *held;
	LIE("a token of its own", 'n', OL_CHECK_ANSWER, "prompt 0, choice 0, token 2",
	    (OWN_CHOICES(h), h->tokens[2] ^= 1, commit_again(h)));
	LIE("a token that there is not", 'n', OL_CHECK_ANSWER, "does not know",
	    (OWN_CHOICES(h), h->tokens[2] = 1 << 20, commit_again(h)));
	LIE("a prompt that nobody can read", 'n', OL_CHECK_ANSWER, "does not know",
	    (OWN_PROMPTS(h), h->prompt[0] = -1, commit_again(h)));
	LIE("room without end", 'n', OL_CHECK_ANSWER, "more room", r->sampling.room = 1u << 31);
	LIE("less room than it took", 'n', OL_CHECK_ANSWER, "longer than there was room",
	    r->sampling.room = 25);
	LIE("a share table without an index", 'n', OL_CHECK_SHARES, "no attribution index",
	    (memset(r->index, 0, 32), memset(r->shares, 3, 32)));
	LIE("words of its own", 'n', OL_CHECK_ANSWER, "the receipt's answer is over",
	    (OWN_CHOICES(h), h->choices[0].count -= 2, r->completion_tokens -= 2, reprice(h),
	     commit_again(h)));
	LIE("it ended by itself", 'n', OL_CHECK_ANSWER, "another reason",
	    (OWN_CHOICES(h), h->choices[0].finish = OL_FINISH_STOP, commit_again(h)));
	LIE("an answer to another prompt", 'n', OL_CHECK_ANSWER, "prompt 0, choice",
	    (OWN_PROMPTS(h), h->prompt[3]++, commit_again(h)));
	LIE("another seed", 'n', OL_CHECK_ANSWER, "choice", r->sampling.seed++);
	LIE("another temperature", 'n', OL_CHECK_ANSWER, "choice", r->sampling.temperature = 1.9f);
	LIE("another top-k", 'n', OL_CHECK_ANSWER, "choice", r->sampling.top_k = 1);
	LIE("a penalty", 'n', OL_CHECK_ANSWER, "choice", r->sampling.frequency_penalty = 50.0f);
	LIE("room for more", 'n', OL_CHECK_ANSWER, "choice 0", r->sampling.max_tokens += 9);
}

static void every_lie_is_caught_where_it_must_be(void **state)
{
	struct asked a = {.give_up_after = 0};
	struct ol_verification v;
	struct held held;
	(void)state;
	ask(&a, "poet", 2, 11, true);
	assert_int_equal(a.outcome, OL_OUTCOME_DONE);
	hold(&held, a.receipt);
	check(&v, &held);
	expect_all_true(&v);
	lies_about_bytes(&held);
	lies_about_the_log(&held);
	lies_of_the_node_about_money(&held);
	lies_about_what_was_said(&held);
	lies_of_the_node_about_the_answer(&held);
	print_message("%d lies, all caught\n", lies);
	assert_true(lies >= 30);
	let_go(&held);
	json_decref(a.receipt);
}

/* A cheaper model under the name of a better one: one adapter for another. */
static void another_model_is_not_the_one_on_the_receipt(void **state)
{
	struct asked a = {.give_up_after = 0};
	struct ol_verification v;
	struct held h;
	struct ol_manifest manifest;
	char path[OL_PATH_MAX];
	bool found;
	(void)state;
	ask(&a, "poet", 1, 11, true);
	hold(&h, a.receipt);
	must(ol_home_adapter_path(&home, path, "other", NULL), NULL);
	must(ol_adapter_manifest(&manifest, &found, path, NULL), NULL);
	struct ol_account_key pot;
	memcpy(h.receipt.adapter, manifest.adapter_sha256, 32);
	memcpy(h.listing.model, manifest.adapter_sha256, 32);
	ol_event_id(h.receipt.listing, (const uint8_t *)&h.listing, sizeof h.listing);
	ol_receipt_pot(&pot, &h.receipt);
	h.parts[2].account = pot;
	ol_receipt_split(&h.receipt, h.parts);
	ol_manifest_release(&manifest);
	expect_caught("another adapter", &h, 'n', OL_CHECK_ANSWER, "choice 0");
	memset(h.receipt.base, 1, 32); /* one that nobody has: said, not guessed */
	seal_again(&h, true);
	check(&v, &h);
	assert_int_equal(v.checks[OL_CHECK_MODELS].outcome, OL_CHECK_NOT_MADE);
	assert_int_equal(v.checks[OL_CHECK_ANSWER].outcome, OL_CHECK_NOT_MADE);
	assert_non_null(strstr(v.checks[OL_CHECK_MODELS].text, "is not here"));
	let_go(&h);
	json_decref(a.receipt);
}

/* Whoever may bring adapters must not have the base for nothing. */
static void an_adapter_without_a_price_costs_what_its_base_costs(void **state)
{
	struct asked a = {.give_up_after = 0};
	struct ol_listing price = listing();
	struct ol_verification v;
	struct held h;
	struct ol_error err;
	(void)state;
	ask(&a, "other", 1, 11, true);
	hold(&h, a.receipt);
	assert_int_equal(h.receipt.price.nano, 0);
	let_go(&h);
	json_decref(a.receipt);
	memcpy(price.model, base_id, 32);
	must(ol_cashier_publish(cashier, &price, NULL, &err), &err);
	ask(&a, "other", 1, 11, true);
	hold(&h, a.receipt); /* with the newest listing, the base's */
	assert_true(h.receipt.price.nano > 0);
	assert_memory_equal(h.receipt.adapter, other_id, 32);
	check(&v, &h);
	expect_all_true(&v);
	let_go(&h);
	json_decref(a.receipt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_number_of_a_receipt_is_computed_again),
		cmocka_unit_test(who_leaves_early_pays_for_what_he_got),
		cmocka_unit_test(who_cannot_pay_is_told_what_is_missing),
		cmocka_unit_test(every_lie_is_caught_where_it_must_be),
		cmocka_unit_test(another_model_is_not_the_one_on_the_receipt),
		cmocka_unit_test(an_adapter_without_a_price_costs_what_its_base_costs),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
