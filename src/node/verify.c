#include "node/verify.h"
#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "crypto/ed25519.h"
#include "node/adapters.h"
#include "node/attribute_index.h"
#include "node/receipt_shares.h"
#include "node/replay.h"
#include "node/runtime.h"

static const char *const check_names[OL_CHECKS] = {
	[OL_CHECK_RECEIPT] = "receipt", [OL_CHECK_SIGNATURE] = "signature",
	[OL_CHECK_LOG] = "log",         [OL_CHECK_PRICE] = "price",
	[OL_CHECK_OPENING] = "opening", [OL_CHECK_MODELS] = "models",
	[OL_CHECK_ANSWER] = "answer",   [OL_CHECK_SHARES] = "shares",
};

const char *ol_check_name(enum ol_check_kind kind)
{
	OL_ASSERT(kind < OL_CHECKS);
	return check_names[kind];
}

bool ol_verification_holds(const struct ol_verification *v)
{
	for (int i = 0; i < OL_CHECKS; i++)
		if (v->checks[i].outcome == OL_CHECK_FALSE)
			return false;
	return v->checks[OL_CHECK_RECEIPT].outcome == OL_CHECK_TRUE;
}

#define SAY(v, kind, is, ...)                                                                      \
	((v)->checks[kind].outcome = (is),                                                         \
	 (void)snprintf((v)->checks[kind].text, sizeof(v)->checks[kind].text, __VA_ARGS__))

/* --- what needs no models ------------------------------------------------------------ */

static void check_signature(struct ol_verification *v, const struct ol_verify_job *job)
{
	const size_t body = job->size - OL_SIGNATURE_BYTES;
	char hex[2 * 8 + 1];

	ol_hex(hex, v->receipt.node, 8);
	if (job->node && memcmp(job->node, v->receipt.node, 32) != 0)
		SAY(v, OL_CHECK_SIGNATURE, OL_CHECK_FALSE, "it names another node's key, %s…", hex);
	else if (!ol_ed25519_verify(v->receipt.node, job->bytes + body, job->bytes, body))
		SAY(v, OL_CHECK_SIGNATURE, OL_CHECK_FALSE,
		    "not made by the key %s… over these bytes", hex);
	else
		SAY(v, OL_CHECK_SIGNATURE, OL_CHECK_TRUE, "by the node's key %s…%s", hex,
		    job->node ? "" : ", which the receipt itself names");
}

static void check_log(struct ol_verification *v, const struct ol_verify_job *job)
{
	struct ol_tlog_proof_result result;
	struct ol_error err;

	if (!job->proof || !job->policy)
		SAY(v, OL_CHECK_LOG, OL_CHECK_NOT_MADE,
		    "no proof at hand: GET /v1/receipts/{id}/proof");
	else if (ol_tlog_proof_verify(job->proof, v->id, job->policy, &result, &err) != OL_OK)
		SAY(v, OL_CHECK_LOG, OL_CHECK_FALSE, "%s", err.text);
	else if (v->receipt.checkpoint_size > job->proof->index)
		SAY(v, OL_CHECK_LOG, OL_CHECK_FALSE,
		    "leaf %llu cannot have known a checkpoint of %llu leaves",
		    (unsigned long long)job->proof->index,
		    (unsigned long long)v->receipt.checkpoint_size);
	else if (job->known_root && v->receipt.checkpoint_size > 0 &&
		 memcmp(job->known_root, v->receipt.checkpoint_root, 32) != 0)
		SAY(v, OL_CHECK_LOG, OL_CHECK_FALSE,
		    "the log never had the checkpoint of %llu leaves that it names",
		    (unsigned long long)v->receipt.checkpoint_size);
	else
		SAY(v, OL_CHECK_LOG, OL_CHECK_TRUE, "leaf %llu of %llu, cosigned by %u",
		    (unsigned long long)job->proof->index,
		    (unsigned long long)result.checkpoint.size, result.cosigned);
}

/* The parts must be those of the listing, the stakers' being the data's: nobody can stake yet. */
static const char *parts_fault(const struct ol_verification *v, const struct ol_listing *listing)
{
	struct ol_receipt receipt = v->receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	uint32_t same = 0;

	ol_receipt_parts(&receipt, parts, listing, false);
	while (receipt.parts == v->receipt.parts && same < receipt.parts &&
	       parts[same].party == v->parts[same].party && parts[same].ppm == v->parts[same].ppm &&
	       memcmp(&parts[same].account, &v->parts[same].account, sizeof parts[same].account) ==
		       0)
		same++;
	return receipt.parts == v->receipt.parts && same == receipt.parts
		       ? NULL
		       : "its parts are not those of the listing";
}

/* Another price was in force when the request came: the model's own, or else its base's. used: the
 * receipt's; NULL: it is free. */
static bool is_replaced(const struct ol_verify_job *job, const struct ol_receipt *r,
			const uint8_t model[32], const struct ol_listing *used)
{
	struct ol_listing known;

	if (!job->in_force ||
	    ol_listing_read(&known, job->in_force, job->in_force_size) != OL_LISTING_WELL)
		return false;
	if (used && memcmp(known.model, used->model, 32) == 0)
		return known.version > used->version;
	return memcmp(known.model, model, 32) == 0 ||
	       (!used && memcmp(known.model, r->base, 32) == 0);
}

static void check_price(struct ol_verification *v, const struct ol_verify_job *job)
{
	const struct ol_receipt *r = &v->receipt;
	const uint8_t *model = ol_all_zero(r->adapter, 32) ? r->base : r->adapter;
	char number[OL_AMOUNT_OPEN_MAX], price[OL_AMOUNT_OPEN_MAX + 16];
	struct ol_listing listing;
	struct ol_amount due;
	uint8_t id[32];

	ol_amount_print_open(number, r->price);
	(void)snprintf(price, sizeof price, "%s %s", number,
		       r->currency == OL_CURRENCY_CREDIT ? "test credit" : "OPEN");
	if (ol_all_zero(r->listing, 32)) {
		if (is_replaced(job, r, model, NULL))
			SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE,
			    "free, but the model had a price when the request came");
		else
			SAY(v, OL_CHECK_PRICE, OL_CHECK_TRUE, "free: the model has no price");
		return;
	}
	if (!job->listing) {
		SAY(v, OL_CHECK_PRICE, OL_CHECK_NOT_MADE,
		    "the parts are a split of %s; the listing is not at hand", price);
		return;
	}
	const enum ol_listing_fault fault =
		ol_listing_read(&listing, job->listing, job->listing_size);
	ol_event_id(id, job->listing, job->listing_size);
	if (fault != OL_LISTING_WELL)
		SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE, "the listing is broken: %s",
		    ol_listing_fault_text(fault));
	else if (memcmp(id, r->listing, 32) != 0)
		SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE, "this is not the listing that it names");
	else if (memcmp(listing.model, model, 32) != 0 && memcmp(listing.model, r->base, 32) != 0)
		SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE, "the listing is another model's");
	else if (is_replaced(job, r, model, &listing))
		SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE,
		    "listing %llu of the model was replaced before the request came",
		    (unsigned long long)listing.version);
	else if (!ol_price(&due, &listing, r->prompt_tokens, r->completion_tokens) ||
		 ol_amount_compare(due, r->price) != 0)
		SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE,
		    "%s is not what the listing asks for %u + %u tokens", price, r->prompt_tokens,
		    r->completion_tokens);
	else if (parts_fault(v, &listing))
		SAY(v, OL_CHECK_PRICE, OL_CHECK_FALSE, "%s", parts_fault(v, &listing));
	else
		SAY(v, OL_CHECK_PRICE, OL_CHECK_TRUE,
		    "%s for %u + %u tokens, in %u parts as listed", price, r->prompt_tokens,
		    r->completion_tokens, r->parts);
}

/* Counts that must be those of the receipt. Of whoever left, prompts with no answer are free. */
static const char *counts_fault(const struct ol_receipt *r, const struct ol_opening *o)
{
	uint64_t prompts = 0, completions = 0;

	if (o->prompt_count != r->prompts)
		return "it has another number of prompts than the receipt";
	if (o->choice_count != (uint64_t)r->prompts * r->sampling.choices)
		return "it has another number of choices than the receipt";
	for (size_t p = 0; p < o->prompt_count; p++) {
		bool begun = false;
		for (size_t i = 0; i < r->sampling.choices; i++) {
			const struct ol_opening_choice *c =
				&o->choices[p * r->sampling.choices + i];
			completions += c->count;
			begun |= c->count > 0 || c->finish != OL_FINISH_CANCELLED;
		}
		prompts += begun ? o->prompts[p].count : 0;
	}
	if (r->prompt_tokens != prompts)
		return "the receipt charges another number of prompt tokens";
	if (r->completion_tokens != (r->work == OL_WORK_EMBEDDINGS ? 0 : completions))
		return "the receipt charges another number of completion tokens";
	return NULL;
}

static enum ol_status check_opening(struct ol_verification *v, const struct ol_verify_job *job,
				    struct ol_error *err)
{
	uint8_t request[32], response[32];

	if (!job->opening) {
		SAY(v, OL_CHECK_OPENING, OL_CHECK_NOT_MADE,
		    "no opening at hand: it came with the answer");
		return OL_OK;
	}
	if (!ol_receipt_commit_request(request, job->opening) ||
	    !ol_receipt_commit_response(response, job->opening))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the opening");
	const char *fault = counts_fault(&v->receipt, job->opening);
	if (memcmp(request, v->receipt.request, 32) != 0)
		SAY(v, OL_CHECK_OPENING, OL_CHECK_FALSE,
		    "the receipt is about another prompt, other settings or another salt");
	else if (memcmp(response, v->receipt.response, 32) != 0)
		SAY(v, OL_CHECK_OPENING, OL_CHECK_FALSE, "the receipt is about another answer");
	else if (fault)
		SAY(v, OL_CHECK_OPENING, OL_CHECK_FALSE, "%s", fault);
	else
		SAY(v, OL_CHECK_OPENING, OL_CHECK_TRUE, "this prompt, this answer: %u + %u tokens",
		    v->receipt.prompt_tokens, v->receipt.completion_tokens);
	return OL_OK;
}

/* --- models --------------------------------------------------------------------------- */

/* The home's model of this id; its name, or "" when there is none. */
static enum ol_status find_base(char name[OL_NAME_MAX + 1], const struct ol_home *home,
				const uint8_t id[32], struct ol_error *err)
{
	struct ol_names names = {0};
	enum ol_status s = ol_home_models(home, &names, err);

	name[0] = '\0';
	for (size_t i = 0; i < names.count && s == OL_OK && !name[0]; i++) {
		char path[OL_PATH_MAX];
		struct ol_model *model;
		/* A broken file beside the right one does not matter here. */
		if (ol_home_model_path(home, path, names.names[i], NULL) != OL_OK ||
		    ol_model_open(&model, path, NULL) != OL_OK)
			continue;
		if (memcmp(ol_model_id(model), id, 32) == 0)
			(void)snprintf(name, OL_NAME_MAX + 1, "%s", names.names[i]);
		ol_model_close(model);
	}
	ol_names_release(&names);
	return s;
}

static enum ol_status find_adapter(char name[OL_NAME_MAX + 1], const struct ol_home *home,
				   const uint8_t sha256[32], struct ol_error *err)
{
	struct ol_names names = {0};
	enum ol_status s = ol_home_adapters(home, &names, err);

	name[0] = '\0';
	for (size_t i = 0; i < names.count && s == OL_OK && !name[0]; i++) {
		char path[OL_PATH_MAX];
		struct ol_manifest manifest;
		bool found = false;
		ol_manifest_init(&manifest);
		if (ol_home_adapter_path(home, path, names.names[i], NULL) == OL_OK &&
		    ol_adapter_manifest(&manifest, &found, path, NULL) == OL_OK && found &&
		    memcmp(manifest.adapter_sha256, sha256, 32) == 0)
			(void)snprintf(name, OL_NAME_MAX + 1, "%s", names.names[i]);
		ol_manifest_release(&manifest);
	}
	ol_names_release(&names);
	return s;
}

/* Opens what the receipt names, if it is here. *ready: it is. */
static enum ol_status open_models(struct ol_verification *v, const struct ol_verify_job *job,
				  struct ol_runtime *runtime, char adapter[OL_NAME_MAX + 1],
				  bool *ready, struct ol_error *err)
{
	const struct ol_receipt *r = &v->receipt;
	char base[OL_NAME_MAX + 1];
	enum ol_status s;

	*ready = false;
	adapter[0] = '\0';
	if (!job->home) {
		SAY(v, OL_CHECK_MODELS, OL_CHECK_NOT_MADE, "not looked for");
		return OL_OK;
	}
	if (strcmp(r->arithmetic, OL_ARITHMETIC_VERSION) != 0) {
		SAY(v, OL_CHECK_MODELS, OL_CHECK_NOT_MADE,
		    "made under the arithmetic %.16s; this program has %s", r->arithmetic,
		    OL_ARITHMETIC_VERSION);
		return OL_OK;
	}
	s = find_base(base, job->home, r->base, err);
	if (s == OL_OK && base[0] && !ol_all_zero(r->adapter, 32))
		s = find_adapter(adapter, job->home, r->adapter, err);
	if (s != OL_OK)
		return s;
	if (!base[0] || (!adapter[0] && !ol_all_zero(r->adapter, 32))) {
		char hex[2 * 8 + 1];
		ol_hex(hex, base[0] ? r->adapter : r->base, 8);
		SAY(v, OL_CHECK_MODELS, OL_CHECK_NOT_MADE, "the %s %s… is not here",
		    base[0] ? "adapter" : "base", hex);
		return OL_OK;
	}
	s = ol_runtime_open(runtime, job->home, base, err);
	if (s == OL_OK && adapter[0])
		s = ol_runtime_adapt(runtime, job->home, adapter, err);
	if (s != OL_OK)
		return s;
	if (runtime->adapter && memcmp(ol_adapter_sha256(runtime->adapter), r->adapter, 32) != 0) {
		SAY(v, OL_CHECK_MODELS, OL_CHECK_NOT_MADE,
		    "the adapter %s is not what its manifest says", adapter);
		return OL_OK;
	}
	SAY(v, OL_CHECK_MODELS, OL_CHECK_TRUE, "%s%s%s", base, adapter[0] ? " with " : "", adapter);
	*ready = true;
	return OL_OK;
}

static void fill_options(struct ol_answer_options *options, struct ol_logit_bias *bias,
			 const struct ol_receipt_sampling *s, const struct ol_opening *o)
{
	*options =
		(struct ol_answer_options){.sampling = {.temperature = s->temperature,
							.top_k = s->top_k,
							.top_p = s->top_p,
							.min_p = s->min_p,
							.repeat_penalty = s->repeat_penalty,
							.presence_penalty = s->presence_penalty,
							.frequency_penalty = s->frequency_penalty,
							.seed = s->seed,
							.bias = bias,
							.bias_count = (int)o->bias_count},
					   .max_tokens = (int)s->max_tokens,
					   .stop_count = (int)o->stop_count,
					   .ignore_eos = s->ignore_eos,
					   .strip_lead_space = s->strip_lead_space};
	for (size_t i = 0; i < o->bias_count; i++)
		bias[i] = (struct ol_logit_bias){o->bias[i].token, o->bias[i].bias};
	for (size_t i = 0; i < o->stop_count; i++)
		options->stops[i] = o->stops[i].bytes;
}

static enum ol_status replay_prompt(struct ol_verification *v, struct ol_runtime *runtime,
				    const struct ol_opening *o, size_t prompt,
				    const struct ol_answer_options *options, bool *same,
				    struct ol_error *err)
{
	const size_t n = v->receipt.sampling.choices;
	struct ol_replay_choice choices[OL_RECEIPT_CHOICES_MAX];
	struct ol_replay replay;
	char text[256];

	for (size_t i = 0; i < n; i++) {
		const struct ol_opening_choice *c = &o->choices[prompt * n + i];
		choices[i] =
			(struct ol_replay_choice){c->tokens, c->count, (enum ol_finish)c->finish};
	}
	const struct ol_replay_job job = {.prompt = o->prompts[prompt].tokens,
					  .prompt_count = o->prompts[prompt].count,
					  .options = *options,
					  .room = v->receipt.sampling.room,
					  .choices = choices,
					  .choice_count = n};
	const enum ol_status s = ol_replay_answer(&replay, runtime, &job, err);
	if (s != OL_OK)
		return s;
	v->positions += replay.positions;
	*same = replay.verdict == OL_REPLAY_SAME;
	ol_replay_text(text, sizeof text, &replay);
	if (!*same && o->prompt_count > 1)
		SAY(v, OL_CHECK_ANSWER, OL_CHECK_FALSE, "prompt %zu, %s", prompt, text);
	else if (!*same)
		SAY(v, OL_CHECK_ANSWER, OL_CHECK_FALSE, "%s", text);
	return OL_OK;
}

static int64_t longest(const struct ol_receipt *r, const struct ol_opening *o)
{
	size_t most = 1;

	for (size_t i = 0; i < o->choice_count; i++)
		most = OL_MAX(most,
			      o->prompts[i / r->sampling.choices].count + o->choices[i].count + 1);
	return (int64_t)most;
}

/* The grammar that bound the answer, from its text: response_format, or a choice of texts. */
static enum ol_status open_grammar(struct ol_grammar **grammar, struct ol_grammar_vocab **vocab,
				   const struct ol_runtime *runtime, struct ol_opening_text text,
				   struct ol_error *err)
{
	const struct ol_config *config = ol_model_config(runtime->model);
	json_error_t why;

	if (text.size == 0)
		return OL_OK;
	enum ol_status s = ol_runtime_need_tokenizer(runtime, err);
	json_t *json = json_loadb(text.bytes, text.size, JSON_REJECT_DUPLICATES, &why);
	const char *type = json_string_value(json_object_get(json, "type"));
	if (s == OL_OK && !type)
		s = ol_fail(err, OL_ERR_INPUT, "the opening's grammar is no response_format");
	if (s == OL_OK)
		s = ol_grammar_vocab_open(vocab, runtime->tokenizer, config->vocab_size,
					  config->eos_ids, config->eos_count, 0, err);
	if (s == OL_OK)
		s = strcmp(type, "choice") == 0
			    ? ol_grammar_open_choice(grammar, *vocab,
						     json_object_get(json, "choices"), err)
			    : ol_grammar_open_format(grammar, *vocab, json, err);
	json_decref(json);
	return s;
}

static enum ol_status replay(struct ol_verification *v, struct ol_runtime *runtime,
			     const struct ol_opening *o, struct ol_error *err)
{
	const struct ol_receipt *r = &v->receipt;
	struct ol_engine_options engine = {.kv_type = (enum ol_kv_type)r->kv_type};
	struct ol_logit_bias *bias = calloc(o->bias_count + 1, sizeof *bias);
	struct ol_answer_options options;
	struct ol_grammar_vocab *vocab = NULL;
	struct ol_grammar *grammar = NULL;
	bool same = true;
	enum ol_status s = bias ? ol_runtime_environment(&engine, err)
				: ol_fail(err, OL_ERR_FULL, "out of memory for the replay");

	engine.kv_positions = 2 * longest(r, o); /* a prompt, and a copy with its answer */
	if (s == OL_OK)
		s = ol_runtime_start(runtime, &engine, err);
	if (s == OL_OK)
		s = open_grammar(&grammar, &vocab, runtime, o->grammar, err);
	if (s == OL_OK) {
		fill_options(&options, bias, &r->sampling, o);
		options.grammar = grammar;
	}
	for (size_t i = 0; i < o->prompt_count && same && s == OL_OK; i++)
		s = replay_prompt(v, runtime, o, i, &options, &same, err);
	if (s == OL_OK && same)
		SAY(v, OL_CHECK_ANSWER, OL_CHECK_TRUE, "same bits (%u tokens, one prefill)",
		    r->completion_tokens);
	ol_grammar_close(grammar);
	ol_grammar_vocab_close(vocab);
	free(bias);
	return s;
}

/* A choice's "tokens" are the bits of its vector. */
static enum ol_status replay_embeddings(struct ol_verification *v, struct ol_runtime *runtime,
					const struct ol_opening *o, struct ol_error *err)
{
	const size_t n = (size_t)ol_model_config(runtime->model)->hidden;
	struct ol_engine_options engine = {.kv_type = (enum ol_kv_type)v->receipt.kv_type};
	float *vector = malloc(n * sizeof *vector);
	bool same = true;
	enum ol_status s = vector ? ol_runtime_environment(&engine, err)
				  : ol_fail(err, OL_ERR_FULL, "out of memory for the replay");

	engine.kv_positions = longest(&v->receipt, o);
	if (s == OL_OK)
		s = ol_runtime_start(runtime, &engine, err);
	for (size_t i = 0; i < o->prompt_count && same && s == OL_OK; i++) {
		if (o->choices[i].finish == OL_FINISH_CANCELLED && o->choices[i].count == 0)
			continue; /* who left has none */
		s = ol_replay_embedding(vector, runtime, o->prompts[i].tokens, o->prompts[i].count,
					err);
		v->positions += o->prompts[i].count;
		same = s == OL_OK && o->choices[i].count == n &&
		       memcmp(vector, o->choices[i].tokens, n * sizeof *vector) == 0;
		if (s == OL_OK && !same)
			SAY(v, OL_CHECK_ANSWER, OL_CHECK_FALSE,
			    "the vector of prompt %zu is another", i);
	}
	if (s == OL_OK && same)
		SAY(v, OL_CHECK_ANSWER, OL_CHECK_TRUE, "same bits (%zu vectors of %zu)",
		    o->prompt_count, n);
	free(vector);
	return s;
}

/* The index that the receipt names, if the adapter has it. */
static enum ol_status find_index(struct ol_index **index, struct ol_verification *v,
				 const struct ol_verify_job *job, const char *adapter,
				 struct ol_error *err)
{
	char path[OL_PATH_MAX];
	enum ol_status s = ol_home_adapter_path(job->home, path, adapter, err);

	if (s == OL_OK)
		s = ol_adapter_open_index(index, path, err);
	if (s == OL_ERR_NOT_FOUND) {
		*index = NULL;
		SAY(v, OL_CHECK_SHARES, OL_CHECK_NOT_MADE, "the adapter's index is not here");
		return OL_OK;
	}
	if (s == OL_OK && memcmp(ol_index_root(*index), v->receipt.index, 32) != 0) {
		SAY(v, OL_CHECK_SHARES, OL_CHECK_NOT_MADE,
		    "made with another index of this adapter: build that one again");
		ol_index_close(*index);
		*index = NULL;
	}
	return s;
}

static enum ol_status check_shares(struct ol_verification *v, const struct ol_verify_job *job,
				   const struct ol_runtime *runtime, const char *adapter,
				   struct ol_error *err)
{
	const struct ol_attributor_options options = {.rank_max = OL_RANK_MAX};
	struct ol_attributor *attributor = NULL;
	struct ol_index *index = NULL;
	uint8_t root[32];

	const bool shared = !ol_all_zero(v->receipt.shares, 32);

	if (v->receipt.work == OL_WORK_EMBEDDINGS || ol_all_zero(v->receipt.adapter, 32) ||
	    ol_all_zero(v->receipt.index, 32)) {
		SAY(v, OL_CHECK_SHARES, shared ? OL_CHECK_FALSE : OL_CHECK_NOT_MADE, "%s%s",
		    shared ? "it has a share table, but " : "",
		    v->receipt.work == OL_WORK_EMBEDDINGS ? "vectors are not attributed"
							  : "the model has no attribution index");
		return OL_OK;
	}
	enum ol_status s = find_index(&index, v, job, adapter, err);
	if (s != OL_OK || !index)
		return s;
	s = ol_attributor_open(&attributor, runtime->model, &options, err);
	if (s == OL_OK)
		s = ol_receipt_shares(root, NULL, NULL, attributor, index, runtime->adapter,
				      job->opening, v->receipt.request, NULL, err);
	if (s == OL_OK && memcmp(root, v->receipt.shares, 32) == 0)
		SAY(v, OL_CHECK_SHARES, OL_CHECK_TRUE, "same scores, the same table");
	else if (s == OL_OK)
		SAY(v, OL_CHECK_SHARES, OL_CHECK_FALSE,
		    "the answer's attribution gives another share table");
	ol_attributor_close(attributor);
	ol_index_close(index);
	return s;
}

static bool tokens_well(const int32_t *tokens, size_t count, const struct ol_config *config)
{
	for (size_t i = 0; i < count; i++)
		if (tokens[i] < 0 || tokens[i] >= config->vocab_size)
			return false;
	return true;
}

/* What a model could never have read or said is a lie of whoever signed it, not a failure to check
 * it; and nothing of it may size a buffer. */
static const char *claim_fault(const struct ol_receipt *r, const struct ol_opening *o,
			       const struct ol_config *config)
{
	if (o->stop_count > OL_STOPS_MAX)
		return "more stop texts than there can be";
	if (r->sampling.room > (uint32_t)config->context_max)
		return "it claims more room than the model's context has";
	for (size_t i = 0; i < o->prompt_count; i++)
		if (o->prompts[i].count == 0 || o->prompts[i].count > r->sampling.room ||
		    !tokens_well(o->prompts[i].tokens, o->prompts[i].count, config))
			return "a prompt is empty, longer than there was room for, or has a token "
			       "that the model does not know";
	/* The last token is never run: it needs no position. */
	for (size_t i = 0; i < o->choice_count && r->work == OL_WORK_ANSWERS; i++)
		if (o->prompts[i / r->sampling.choices].count + o->choices[i].count >
			    (uint64_t)r->sampling.room + 1 ||
		    !tokens_well(o->choices[i].tokens, o->choices[i].count, config))
			return "an answer is longer than there was room for, or has a token that "
			       "the model does not know";
	return NULL;
}

static enum ol_status check_answer(struct ol_verification *v, const struct ol_verify_job *job,
				   struct ol_error *err)
{
	const bool opened = v->checks[OL_CHECK_OPENING].outcome == OL_CHECK_TRUE;
	char adapter[OL_NAME_MAX + 1];
	struct ol_runtime runtime = {0};
	bool ready;
	enum ol_status s = open_models(v, job, &runtime, adapter, &ready, err);

	const char *fault =
		s == OL_OK && ready && opened
			? claim_fault(&v->receipt, job->opening, ol_model_config(runtime.model))
			: NULL;

	if (s == OL_OK && (!ready || !opened)) {
		const char *what = opened ? "the models" : "the opening";
		SAY(v, OL_CHECK_ANSWER, OL_CHECK_NOT_MADE, "needs %s", what);
		SAY(v, OL_CHECK_SHARES, OL_CHECK_NOT_MADE, "needs %s", what);
		ol_runtime_close(&runtime);
		return OL_OK;
	}
	if (s == OL_OK && fault) {
		SAY(v, OL_CHECK_ANSWER, OL_CHECK_FALSE, "%s", fault);
		SAY(v, OL_CHECK_SHARES, OL_CHECK_NOT_MADE, "no model can have said this");
		ol_runtime_close(&runtime);
		return OL_OK;
	}
	if (s == OL_OK && v->receipt.work == OL_WORK_EMBEDDINGS)
		s = replay_embeddings(v, &runtime, job->opening, err);
	else if (s == OL_OK)
		s = replay(v, &runtime, job->opening, err);
	if (s == OL_OK)
		s = check_shares(v, job, &runtime, adapter, err);
	ol_runtime_close(&runtime);
	return s;
}

enum ol_status ol_verify(struct ol_verification *v, const struct ol_verify_job *job,
			 struct ol_error *err)
{
	const double start = ol_clock_seconds();
	enum ol_status s;

	memset(v, 0, sizeof *v);
	const enum ol_receipt_fault fault =
		ol_receipt_read(&v->receipt, v->parts, job->bytes, job->size);
	if (fault != OL_RECEIPT_WELL) {
		SAY(v, OL_CHECK_RECEIPT, OL_CHECK_FALSE, "%s", ol_receipt_fault_text(fault));
		for (int i = OL_CHECK_SIGNATURE; i < OL_CHECKS; i++)
			SAY(v, i, OL_CHECK_NOT_MADE, "there is no receipt to check");
		return OL_OK;
	}
	ol_event_id(v->id, job->bytes, job->size);
	SAY(v, OL_CHECK_RECEIPT, OL_CHECK_TRUE, "well-formed; %u parts sum to the price",
	    v->receipt.parts);
	check_signature(v, job);
	check_log(v, job);
	check_price(v, job);
	s = check_opening(v, job, err);
	if (s == OL_OK)
		s = check_answer(v, job, err);
	v->seconds = ol_clock_seconds() - start;
	return s;
}
