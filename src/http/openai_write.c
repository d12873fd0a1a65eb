/* http/openai_write.c: answers as JSON, straight from tokens and texts. */
#include "http/openai_internal.h"

#include "crypto/text.h"
#include "model/unicode.h"

#include <string.h>

void ol_write_string(struct ol_buf *out, const char *text, size_t size)
{
	static const char names[] = "btn\0fr";
	size_t plain = 0;
	ol_buf_append(out, "\"", 1);
	for (size_t i = 0; i < size; i++) {
		const unsigned char c = (unsigned char)text[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		ol_buf_append(out, text + plain, i - plain);
		plain = i + 1;
		if (c == '"' || c == '\\')
			ol_buf_printf(out, "\\%c", c);
		else if (c >= 8 && c <= 13 && names[c - 8])
			ol_buf_printf(out, "\\%c", names[c - 8]);
		else
			ol_buf_printf(out, "\\u%04x", c);
	}
	ol_buf_append(out, text + plain, size - plain);
	ol_buf_append(out, "\"", 1);
}

static void write_text(struct ol_buf *out, const char *text)
{
	ol_write_string(out, text, strlen(text));
}

/* --- tokens ---------------------------------------------------------------- */

static const char *piece_of(const struct ol_call *call, int32_t token, size_t *size)
{
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const char *piece = ol_tokenizer_piece(r->tokenizer, token, size);
	if (!piece)
		*size = 0;
	return piece ? piece : "";
}

/* A token's text; half a character becomes U+FFFD, as in the answer's text at its end. */
static void write_token(struct ol_buf *out, const char *piece, size_t size)
{
	struct ol_buf text;
	if (ol_utf8_check(piece, size) == size) {
		ol_write_string(out, piece, size);
		return;
	}
	ol_buf_init(&text, OL_OPENAI_BODY_MAX);
	if (!ol_utf8_append_lossy(&text, piece, size))
		out->failed = true;
	ol_write_string(out, text.data ? text.data : "", text.size);
	ol_buf_release(&text);
}

static void write_chat_token(struct ol_buf *out, const struct ol_call *call, int32_t token,
			     float logprob)
{
	size_t size;
	const char *piece = piece_of(call, token, &size);
	ol_buf_append_text(out, "{\"token\":");
	write_token(out, piece, size);
	ol_buf_printf(out, ",\"logprob\":%.9g,\"bytes\":[", (double)logprob);
	for (size_t i = 0; i < size; i++)
		ol_buf_printf(out, i ? ",%d" : "%d", (unsigned char)piece[i]);
	ol_buf_append_text(out, "]");
}

/* {"content":[{token, logprob, bytes, top_logprobs}…]} of tokens [from, to). */
static void write_chat_logprobs(struct ol_buf *out, const struct ol_call *call,
				const struct ol_generation *g, size_t from, size_t to)
{
	ol_buf_append_text(out, "{\"content\":[");
	for (size_t i = from; i < to; i++) {
		const struct ol_token_info *info = &g->infos[i];
		if (i > from)
			ol_buf_append_text(out, ",");
		write_chat_token(out, call, g->tokens.ids[i], info->logprob);
		ol_buf_append_text(out, ",\"top_logprobs\":[");
		for (int k = 0; k < call->top_logprobs; k++) {
			if (k > 0)
				ol_buf_append_text(out, ",");
			write_chat_token(out, call, info->top_ids[k], info->top_logprobs[k]);
			ol_buf_append_text(out, "}");
		}
		ol_buf_append_text(out, "]}");
	}
	ol_buf_append_text(out, "],\"refusal\":null}");
}

/* The legacy form names half a character by its bytes. */
static void write_legacy_token(struct ol_buf *out, const struct ol_call *call, int32_t token)
{
	size_t size;
	const char *piece = piece_of(call, token, &size);
	if (ol_utf8_check(piece, size) == size) {
		ol_write_string(out, piece, size);
		return;
	}
	ol_buf_append_text(out, "\"bytes:");
	for (size_t i = 0; i < size; i++)
		ol_buf_printf(out, "\\\\x%02x", (unsigned char)piece[i]);
	ol_buf_append_text(out, "\"");
}

static size_t characters(const char *bytes, size_t size)
{
	size_t count = 0;
	for (size_t i = 0; i < size; i++)
		count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
	return count;
}

static void write_legacy_top(struct ol_buf *out, const struct ol_call *call,
			     const struct ol_generation *g, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		ol_buf_append_text(out, i > from ? ",{" : "{");
		for (int k = 0; k < call->top_logprobs; k++) {
			if (k > 0)
				ol_buf_append_text(out, ",");
			write_legacy_token(out, call, g->infos[i].top_ids[k]);
			ol_buf_printf(out, ":%.9g", (double)g->infos[i].top_logprobs[k]);
		}
		ol_buf_append_text(out, "}");
	}
}

/* {tokens, token_logprobs, top_logprobs, text_offset}; offsets in characters, *offset goes on. */
static void write_legacy_logprobs(struct ol_buf *out, const struct ol_call *call,
				  const struct ol_generation *g, size_t from, size_t to,
				  size_t *offset)
{
	ol_buf_append_text(out, "{\"tokens\":[");
	for (size_t i = from; i < to; i++) {
		if (i > from)
			ol_buf_append_text(out, ",");
		write_legacy_token(out, call, g->tokens.ids[i]);
	}
	ol_buf_append_text(out, "],\"token_logprobs\":[");
	for (size_t i = from; i < to; i++)
		ol_buf_printf(out, i > from ? ",%.9g" : "%.9g", (double)g->infos[i].logprob);
	ol_buf_append_text(out, "],\"top_logprobs\":");
	ol_buf_append_text(out, call->top_logprobs > 0 ? "[" : "null");
	if (call->top_logprobs > 0) {
		write_legacy_top(out, call, g, from, to);
		ol_buf_append_text(out, "]");
	}
	ol_buf_append_text(out, ",\"text_offset\":[");
	for (size_t i = from; i < to; i++) {
		size_t size;
		const char *piece = piece_of(call, g->tokens.ids[i], &size);
		ol_buf_printf(out, i > from ? ",%zu" : "%zu", *offset);
		*offset += characters(piece, size);
	}
	ol_buf_append_text(out, "]}");
}

static void write_logprobs(struct ol_buf *out, const struct ol_call *call,
			   const struct ol_generation *g, size_t from, size_t to, size_t *offset)
{
	ol_buf_append_text(out, ",\"logprobs\":");
	if (!call->logprobs || (call->stream && from == to))
		ol_buf_append_text(out, "null");
	else if (call->kind == OL_CALL_CHAT)
		write_chat_logprobs(out, call, g, from, to);
	else
		write_legacy_logprobs(out, call, g, from, to, offset);
}

/* --- what every answer has ------------------------------------------------- */

static void write_head(struct ol_buf *out, const struct ol_call *call, const char *object)
{
	ol_buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", call->id,
		      object, (long long)call->created);
	write_text(out, call->ask.model);
	ol_buf_printf(out, ",\"system_fingerprint\":\"%s\"",
		      ol_service_fingerprint(call->openai->service));
}

static void write_usage(struct ol_buf *out, const struct ol_usage *u)
{
	const unsigned long long prompt = u->prompt_tokens, answer = u->completion_tokens;
	ol_buf_printf(out,
		      ",\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,"
		      "\"total_tokens\":%llu,\"prompt_tokens_details\":{\"cached_tokens\":%llu}}",
		      prompt, answer, prompt + answer, (unsigned long long)u->cached_tokens);
}

/* What it takes to ask again and get the same bits; then the receipt's members. */
static void write_proof(struct ol_buf *out, const struct ol_call *call,
			const struct ol_answered *answered)
{
	char id[2 * OL_MODEL_ID_BYTES + 1], hash[2 * OL_SHA256_BYTES + 1];
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const char *key;
	json_t *value;
	ol_hex(id, ol_model_id(r->model), OL_MODEL_ID_BYTES);
	ol_buf_printf(out, ",\"openledger\":{\"model_id\":\"%s\",\"arithmetic\":\"%s\"", id,
		      OL_ARITHMETIC_VERSION);
	if (answered->adapter_sha256) {
		ol_hex(hash, answered->adapter_sha256, OL_SHA256_BYTES);
		ol_buf_printf(out, ",\"adapter_sha256\":\"%s\"", hash);
	}
	if (!answered->ask->embed)
		ol_buf_printf(out, ",\"seed\":%lld", (long long)answered->seed);
	json_object_foreach(answered->receipt, key, value)
	{
		char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
		ol_buf_append_text(out, ",");
		write_text(out, key);
		ol_buf_append_text(out, ":");
		if (!text || !ol_buf_append_text(out, text))
			out->failed = true;
		free(text);
	}
	ol_buf_append_text(out, "}");
}

/* --- streams --------------------------------------------------------------- */

static void write_text_part(struct ol_buf *out, const struct ol_call *call, size_t p,
			    const struct ol_generation *g, size_t final)
{
	const struct ol_call_part *part = &call->parts[p];
	const char *text = g->text.data ? g->text.data + part->text : "";
	struct ol_buf whole;
	if (part->opened || !call->echo) {
		ol_write_string(out, text, final - part->text);
		return;
	}
	ol_buf_init(&whole, OL_ANSWER_TEXT_MAX);
	ol_buf_append_text(&whole, call->echo[p / (size_t)call->ask.choices]);
	ol_buf_append(&whole, text, final - part->text);
	ol_write_string(out, whole.data ? whole.data : "", whole.size);
	out->failed |= whole.failed;
	ol_buf_release(&whole);
}

static void write_delta(struct ol_buf *out, const struct ol_call *call, size_t p,
			const struct ol_generation *g, size_t final, bool empty)
{
	const bool opened = call->parts[p].opened;
	if (call->kind == OL_CALL_COMPLETION) {
		ol_buf_append_text(out, ",\"text\":");
		write_text_part(out, call, p, g, final);
		return;
	}
	ol_buf_append_text(out, ",\"delta\":{");
	if (!opened)
		ol_buf_append_text(out, "\"role\":\"assistant\"");
	if (!empty || !opened) {
		ol_buf_append_text(out, opened ? "\"content\":" : ",\"content\":");
		write_text_part(out, call, p, g, final);
	}
	ol_buf_append_text(out, "}");
}

void ol_write_chunk(struct ol_buf *out, struct ol_call *call, size_t p,
		    const struct ol_generation *g, size_t final, const char *finish,
		    const struct ol_answered *last)
{
	struct ol_call_part *part = &call->parts[p];
	write_head(out, call,
		   call->kind == OL_CALL_CHAT ? "chat.completion.chunk" : "text_completion");
	ol_buf_printf(out, ",\"choices\":[{\"index\":%zu", p);
	write_delta(out, call, p, g, final, final == part->text);
	write_logprobs(out, call, g, part->tokens, g->tokens.count, &part->characters);
	if (finish)
		ol_buf_printf(out, ",\"finish_reason\":\"%s\"}]", finish);
	else
		ol_buf_append_text(out, ",\"finish_reason\":null}]");
	if (call->include_usage)
		ol_buf_append_text(out, ",\"usage\":null");
	if (last)
		write_proof(out, call, last);
	ol_buf_append_text(out, "}");
	part->opened = true;
	part->text = final;
	part->tokens = g->tokens.count;
}

void ol_write_usage_chunk(struct ol_buf *out, const struct ol_call *call,
			  const struct ol_answered *answered)
{
	write_head(out, call,
		   call->kind == OL_CALL_CHAT ? "chat.completion.chunk" : "text_completion");
	ol_buf_append_text(out, ",\"choices\":[]");
	write_usage(out, &answered->usage);
	write_proof(out, call, answered);
	ol_buf_append_text(out, "}");
}

/* --- whole answers --------------------------------------------------------- */

static void write_choice(struct ol_buf *out, struct ol_call *call, size_t p,
			 const struct ol_generation *g)
{
	ol_buf_printf(out, "{\"index\":%zu", p);
	if (call->kind == OL_CALL_CHAT) {
		ol_buf_append_text(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
		ol_write_string(out, g->text.data ? g->text.data : "", g->text.size);
		ol_buf_append_text(out, ",\"refusal\":null}");
	} else {
		ol_buf_append_text(out, ",\"text\":");
		write_text_part(out, call, p, g, g->text.size);
	}
	write_logprobs(out, call, g, 0, g->tokens.count, &call->parts[p].characters);
	ol_buf_printf(out, ",\"finish_reason\":\"%s\"}", ol_finish_name(g->finish));
}

void ol_write_whole(struct ol_buf *out, struct ol_call *call, const struct ol_answered *answered)
{
	write_head(out, call, call->kind == OL_CALL_CHAT ? "chat.completion" : "text_completion");
	ol_buf_append_text(out, ",\"choices\":[");
	for (size_t p = 0; p < answered->part_count; p++) {
		if (p > 0)
			ol_buf_append_text(out, ",");
		write_choice(out, call, p, &answered->parts[p].generation);
	}
	ol_buf_append_text(out, "]");
	write_usage(out, &answered->usage);
	write_proof(out, call, answered);
	ol_buf_append_text(out, "}");
}

/* --- embeddings ------------------------------------------------------------ */

static void write_vector(struct ol_buf *out, const float *vector, int n, bool base64)
{
	if (base64) {
		/* Little-endian f32, as every machine we run on has them. */
		ol_buf_append_text(out, "\"");
		if (!ol_base64_append(out, vector, (size_t)n * sizeof *vector))
			out->failed = true;
		ol_buf_append_text(out, "\"");
		return;
	}
	ol_buf_append_text(out, "[");
	for (int i = 0; i < n; i++)
		ol_buf_printf(out, i ? ",%.9g" : "%.9g", (double)vector[i]);
	ol_buf_append_text(out, "]");
}

void ol_write_embeddings(struct ol_buf *out, const struct ol_call *call,
			 const struct ol_answered *answered)
{
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const int n = ol_model_config(r->model)->hidden;
	const unsigned long long tokens = answered->usage.prompt_tokens;
	ol_buf_append_text(out, "{\"object\":\"list\",\"data\":[");
	for (size_t p = 0; p < answered->part_count; p++) {
		ol_buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":",
			      p ? "," : "", p);
		write_vector(out, answered->embeddings + p * (size_t)n, n, call->base64);
		ol_buf_append_text(out, "}");
	}
	ol_buf_append_text(out, "],\"model\":");
	write_text(out, call->ask.model);
	ol_buf_printf(out, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}", tokens,
		      tokens);
	write_proof(out, call, answered);
	ol_buf_append_text(out, "}");
}
