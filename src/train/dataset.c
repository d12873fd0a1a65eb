#include "train/dataset.h"

#include "base/pool.h"
#include "model/unicode.h"
#include "train/record_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Records encoded at once: the threads share them. */
enum { WAVE = 1024 };

/* An example and the memory that it owns. */
struct part {
	struct ol_example example;
	void *memory, *rejected_memory; /* NULL: an earlier part of the record owns it */
};

/* What one record became. */
struct encoded {
	struct part *parts;
	int count, room;
	enum ol_status status;
	struct ol_error err;
};

struct ol_dataset {
	const struct ol_records *records;
	struct ol_chat_format chat;
	struct ol_dataset_options options;
	int32_t opening, closing;
	struct ol_example *examples;
	void **memory;
	size_t count, room, memory_count, memory_room;
	size_t truncated;
	uint64_t answer_tokens;
	int longest;
	struct ol_text_store ids;
	uint8_t sha256[OL_SHA256_BYTES];
	/* The wave that the threads work on. */
	struct encoded *wave;
	size_t wave_begin;
};

/* ---- one record ---- */

struct work {
	const struct ol_dataset *d;
	const struct ol_record *record;
	struct encoded *out;
};

static enum ol_status fail_record(struct work *w, enum ol_status status, const char *what)
{
	return ol_fail(&w->out->err, status, "%s:%u: %s", w->record->file, w->record->line, what);
}

static enum ol_status fail_memory(struct work *w)
{
	return fail_record(w, OL_ERR_FULL, "out of memory for the record's tokens");
}

/* What went wrong below, with the record's place before it. */
static enum ol_status fail_below(struct work *w, enum ol_status status)
{
	char what[OL_ERROR_TEXT_MAX / 2];
	snprintf(what, sizeof what, "%.*s", (int)sizeof what - 1, w->out->err.text);
	return fail_record(w, status, what);
}

static struct part *push_part(struct work *w)
{
	struct encoded *out = w->out;
	if (out->count == out->room) {
		const int room = OL_MAX(2 * out->room, 1);
		struct part *grown = realloc(out->parts, (size_t)room * sizeof *grown);
		if (!grown)
			return NULL;
		out->parts = grown;
		out->room = room;
	}
	struct part *part = &out->parts[out->count++];
	*part = (struct part){
		.example = {.contributor = w->record->contributor, .record = w->record}};
	return part;
}

static uint32_t token_bytes(const struct work *w, int32_t id)
{
	const struct ol_tokenizer *t = w->d->chat.tokenizer;
	size_t size = 0;
	return ol_tokenizer_is_special(t, id) || !ol_tokenizer_piece(t, id, &size) ? 0
										   : (uint32_t)size;
}

/* Every token but the first is a target: rows share the tokens' memory, one further on. */
static enum ol_status encode_text(struct work *w)
{
	const struct ol_dataset *d = w->d;
	const struct ol_turn *turn = &w->record->turns[0];
	struct ol_tokens ids = {0};
	bool room = d->opening < 0 || ol_tokens_push(&ids, d->opening);
	enum ol_status s = ol_tokenizer_encode(d->chat.tokenizer, &ids, turn->text, turn->size,
					       OL_SPECIAL_NONE, false, NULL, 0, &w->out->err);
	if (s == OL_OK && d->closing >= 0)
		room = room && ol_tokens_push(&ids, d->closing);
	if (s != OL_OK)
		s = fail_below(w, s);
	else if (!room || ids.count > INT32_MAX)
		s = fail_memory(w);
	else if (ids.count < 2)
		s = fail_record(w, OL_ERR_INPUT,
				"the text is one token, there is nothing to predict: remove it");
	if (s != OL_OK) {
		ol_tokens_release(&ids);
		return s;
	}
	/* Text is most of what a large dataset holds: no spare room stays. */
	void *exact = realloc(ids.ids, ids.count * sizeof *ids.ids);
	int32_t *tokens = exact ? exact : ids.ids;
	const size_t rows = ids.count - 1, length = (size_t)d->options.max_length;
	size_t bytes_left = turn->size;
	for (size_t at = 0; at < rows; at += length) {
		struct part *part = push_part(w);
		if (!part) {
			if (at == 0)
				free(tokens);
			return fail_memory(w);
		}
		struct ol_example *e = &part->example;
		const size_t count = OL_MIN(length, rows - at);
		const bool last = at + count == rows;
		part->memory = at == 0 ? tokens : NULL;
		e->sequence = (struct ol_sequence){
			.tokens = tokens + at, .targets = tokens + at + 1, .count = (int32_t)count};
		e->answer_tokens = (int32_t)count;
		size_t bytes = 0;
		for (size_t i = 0; i < count; i++)
			bytes += token_bytes(w, e->sequence.targets[i]);
		/* The parts' bytes add up to the text's. */
		bytes = last ? bytes_left : OL_MIN(bytes, bytes_left);
		bytes_left -= bytes;
		e->answer_bytes = (uint32_t)bytes;
		if (d->options.single_text) {
			e->truncated = !last;
			return OL_OK;
		}
	}
	return OL_OK;
}

/* A conversation as it grows: its tokens, and which of them answers are made of. */
struct dialogue {
	struct ol_tokens ids;
	struct ol_buf marks; /* a byte per token: 1, it is a target */
	size_t end;          /* after the last target               */
	uint32_t bytes;      /* of the answers                      */
	bool last_only;      /* only the last answer counts         */
};

static void dialogue_release(struct dialogue *g)
{
	ol_tokens_release(&g->ids);
	ol_buf_release(&g->marks);
	*g = (struct dialogue){0};
}

static bool ends_answer(const struct work *w, int32_t id)
{
	const struct ol_config *c = w->d->chat.config;
	for (int i = 0; i < c->eos_count; i++)
		if (c->eos_ids[i] == id)
			return true;
	return ol_tokenizer_is_special(w->d->chat.tokenizer, id);
}

static bool begins_with(const struct ol_tokens *whole, const int32_t *ids, size_t count)
{
	return whole->count >= count &&
	       (count == 0 || memcmp(whole->ids, ids, count * sizeof *ids) == 0);
}

/* The tokens of the answer where a token of the whole reaches over the end of the prompt: those of
 * the prompt as the model will get it, then those of the rest of the text by itself. */
static enum ol_status encode_apart(struct work *w, struct ol_tokens *whole,
				   const struct ol_tokens *prompt, json_t *messages)
{
	const struct ol_chat_format *chat = &w->d->chat;
	const size_t turns = json_array_size(messages);
	struct ol_buf before, all;
	struct ol_spans ignored = {0}, spans = {0};
	json_t *earlier = json_array();
	ol_buf_init(&before, OL_TEMPLATE_OUTPUT_MAX);
	ol_buf_init(&all, OL_TEMPLATE_OUTPUT_MAX);
	bool room = earlier != NULL;
	for (size_t i = 0; i + 1 < turns && room; i++)
		room = json_array_append(earlier, json_array_get(messages, i)) == 0;
	enum ol_status s = room ? OL_OK : ol_fail(&w->out->err, OL_ERR_FULL, "out of memory");
	if (s == OL_OK)
		s = ol_chat_render(chat, &before, &ignored, earlier, true, &w->out->err);
	if (s == OL_OK)
		s = ol_chat_render(chat, &all, &spans, messages, false, &w->out->err);
	if (s == OL_OK && (before.size > all.size ||
			   (before.size > 0 && memcmp(before.data, all.data, before.size) != 0)))
		s = ol_fail(&w->out->err, OL_ERR_UNSUPPORTED,
			    "the model's chat template writes another text before an answer than "
			    "it gives the model to answer: nobody can tell the answer from the "
			    "rest; train on prompt and completion with a base without template");
	whole->count = 0;
	for (size_t i = 0; i < prompt->count && s == OL_OK; i++)
		if (!ol_tokens_push(whole, prompt->ids[i]))
			s = ol_fail(&w->out->err, OL_ERR_FULL, "out of memory");
	size_t kept = 0;
	for (size_t i = 0; i < spans.count && s == OL_OK; i++) {
		struct ol_text_span span = spans.spans[i];
		if (span.end <= before.size)
			continue;
		span.begin = OL_MAX(span.begin, before.size) - before.size;
		span.end -= before.size;
		spans.spans[kept++] = span;
	}
	if (s == OL_OK)
		s = ol_tokenizer_encode(chat->tokenizer, whole,
					all.size ? all.data + before.size : "",
					all.size - before.size, OL_SPECIAL_PARSE, false,
					spans.spans, kept, &w->out->err);
	if (s == OL_OK && !chat->chat && w->d->closing >= 0 &&
	    !ol_tokens_push(whole, w->d->closing))
		s = ol_fail(&w->out->err, OL_ERR_FULL, "out of memory");
	json_decref(earlier);
	ol_spans_release(&ignored);
	ol_spans_release(&spans);
	ol_buf_release(&before);
	ol_buf_release(&all);
	return s;
}

/* Makes a sequence of the dialogue: rows up to the last target, at most max_length. */
static enum ol_status make_sequence(struct work *w, const struct dialogue *g,
				    struct ol_sequence *sequence, int32_t *targets_out,
				    void **memory_out, bool *truncated)
{
	const struct ol_dataset_options *o = &w->d->options;
	const size_t rows = OL_MIN(g->end > 0 ? g->end - 1 : 0, (size_t)o->max_length);
	*truncated = *truncated || rows + 1 < g->end;
	int32_t *memory = malloc(2 * OL_MAX(rows, (size_t)1) * sizeof *memory);
	if (!memory)
		return fail_memory(w);
	*memory_out = memory;
	*targets_out = 0;
	for (size_t i = 0; i < rows; i++) {
		const bool target = o->loss_on_prompt || g->marks.data[i + 1];
		memory[i] = g->ids.ids[i];
		memory[rows + i] = target ? g->ids.ids[i + 1] : -1;
		*targets_out += target;
	}
	*sequence = (struct ol_sequence){
		.tokens = memory, .targets = memory + rows, .count = (int32_t)rows};
	if (*targets_out > 0)
		return OL_OK;
	char what[160];
	snprintf(what, sizeof what,
		 "no token of the answer is left within the %d tokens of max-length: raise it, or "
		 "shorten what stands before the answer",
		 o->max_length);
	return fail_record(w, OL_ERR_INPUT, what);
}

/* The dialogue so far becomes an example. */
static enum ol_status flush(struct work *w, struct dialogue *g)
{
	if (g->end == 0)
		return OL_OK;
	struct part *part = push_part(w);
	if (!part)
		return fail_memory(w);
	struct ol_example *e = &part->example;
	const enum ol_status s =
		make_sequence(w, g, &e->sequence, &e->answer_tokens, &part->memory, &e->truncated);
	if (s != OL_OK)
		return s;
	e->answer_bytes = g->bytes;
	if (!e->truncated && !w->d->options.loss_on_prompt)
		return OL_OK;
	e->answer_bytes = 0;
	for (int32_t i = 0; i < e->sequence.count; i++)
		if (e->sequence.targets[i] >= 0)
			e->answer_bytes += token_bytes(w, e->sequence.targets[i]);
	return OL_OK;
}

/* Takes the tokens of the conversation so far, of which those from `from` on are the answer. */
static enum ol_status take_answer(struct work *w, struct dialogue *g, struct ol_tokens *whole,
				  size_t from, bool last, size_t answer_bytes)
{
	const bool extends = !g->last_only && begins_with(whole, g->ids.ids, g->end);
	if (!extends) {
		const enum ol_status s = g->last_only ? OL_OK : flush(w, g);
		const bool last_only = g->last_only;
		dialogue_release(g);
		g->last_only = last_only;
		ol_buf_init(&g->marks, (size_t)1 << 31);
		if (s != OL_OK)
			return s;
	}
	size_t end = from;
	while (end < whole->count && !ends_answer(w, whole->ids[end]))
		end++;
	if (end < whole->count)
		end++;
	else if (last && w->d->closing >= 0 && ol_tokens_push(whole, w->d->closing))
		end = whole->count; /* a template that ends no answer: it must learn to end */
	g->marks.size = OL_MIN(g->marks.size, g->end);
	while (g->marks.size < from && ol_buf_append(&g->marks, "\0", 1))
		;
	while (g->marks.size < end && ol_buf_append(&g->marks, "\1", 1))
		;
	if (g->marks.failed)
		return fail_memory(w);
	g->end = end;
	g->bytes += (uint32_t)answer_bytes;
	const struct ol_tokens old = g->ids;
	g->ids = *whole;
	*whole = old;
	return OL_OK;
}

static enum ol_status push_message(struct work *w, json_t *messages, enum ol_role role,
				   const char *text, size_t size)
{
	json_t *message = json_object();
	if (message && json_object_set_new(message, "role", json_string(ol_role_name(role))) == 0 &&
	    json_object_set_new(message, "content", json_stringn(text, size)) == 0 &&
	    json_array_append_new(messages, message) == 0)
		return OL_OK;
	return fail_memory(w);
}

/* One answer: the conversation before it is in `messages`, which gets it too. */
static enum ol_status encode_answer(struct work *w, struct dialogue *g, json_t *messages,
				    const char *text, size_t size, bool last)
{
	struct ol_tokens prompt = {0}, whole = {0};
	enum ol_status s = ol_chat_encode(&w->d->chat, &prompt, messages, true, &w->out->err);
	if (s != OL_OK)
		s = fail_below(w, s);
	if (s == OL_OK)
		s = push_message(w, messages, OL_ROLE_ASSISTANT, text, size);
	if (s == OL_OK) {
		s = ol_chat_encode(&w->d->chat, &whole, messages, false, &w->out->err);
		if (s == OL_OK && !begins_with(&whole, prompt.ids, prompt.count))
			s = encode_apart(w, &whole, &prompt, messages);
		if (s != OL_OK)
			s = fail_below(w, s);
	}
	if (s == OL_OK)
		s = take_answer(w, g, &whole, prompt.count, last, size);
	ol_tokens_release(&prompt);
	ol_tokens_release(&whole);
	return s;
}

/* The turns of a record into g; what must stand alone is flushed on the way. final: what the last
 * turn says. */
static enum ol_status encode_turns(struct work *w, struct dialogue *g, const char *final,
				   size_t final_size)
{
	const struct ol_record *record = w->record;
	json_t *messages = json_array();
	enum ol_status s = messages ? OL_OK : fail_memory(w);
	for (int i = 0; i < record->turn_count && s == OL_OK; i++) {
		const struct ol_turn *turn = &record->turns[i];
		const bool last = i + 1 == record->turn_count;
		if (turn->role != OL_ROLE_ASSISTANT || (g->last_only && !last))
			s = push_message(w, messages, turn->role, turn->text, turn->size);
		else if (last)
			s = encode_answer(w, g, messages, final, final_size, true);
		else
			s = encode_answer(w, g, messages, turn->text, turn->size, false);
	}
	json_decref(messages);
	return s;
}

static enum ol_status encode_conversation(struct work *w)
{
	const struct ol_record *record = w->record;
	const struct ol_turn *final = &record->turns[record->turn_count - 1];
	struct dialogue g = {.last_only = record->rejected != NULL};
	ol_buf_init(&g.marks, (size_t)1 << 31);
	enum ol_status s = encode_turns(w, &g, final->text, final->size);
	if (s == OL_OK)
		s = flush(w, &g);
	dialogue_release(&g);
	if (s != OL_OK || !record->rejected)
		return s;
	struct part *part = &w->out->parts[0];
	g = (struct dialogue){.last_only = true};
	ol_buf_init(&g.marks, (size_t)1 << 31);
	s = encode_turns(w, &g, record->rejected, record->rejected_size);
	if (s == OL_OK)
		s = make_sequence(w, &g, &part->example.rejected, &part->example.rejected_tokens,
				  &part->rejected_memory, &part->example.truncated);
	dialogue_release(&g);
	return s;
}

static void encode_one(void *context, int index, int thread)
{
	struct ol_dataset *d = context;
	(void)thread;
	struct encoded *out = &d->wave[index];
	struct work w = {.d = d,
			 .record = ol_records_at(d->records, d->wave_begin + (size_t)index),
			 .out = out};
	*out = (struct encoded){0};
	out->status =
		w.record->turns[0].role == OL_ROLE_TEXT ? encode_text(&w) : encode_conversation(&w);
}

/* ---- all records ---- */

static bool own(struct ol_dataset *d, void *memory)
{
	if (!memory)
		return true;
	if (d->memory_count == d->memory_room) {
		const size_t room = OL_MAX(d->memory_room + d->memory_room / 2, (size_t)64);
		void **grown = realloc(d->memory, room * sizeof *grown);
		if (!grown) {
			free(memory);
			return false;
		}
		d->memory = grown;
		d->memory_room = room;
	}
	d->memory[d->memory_count++] = memory;
	return true;
}

static bool take_part(struct ol_dataset *d, const struct part *part, int index)
{
	if (d->count == d->room) {
		const size_t room = OL_MAX(d->room + d->room / 2, (size_t)64);
		struct ol_example *grown = realloc(d->examples, room * sizeof *grown);
		if (!grown)
			return false;
		d->examples = grown;
		d->room = room;
	}
	struct ol_example *e = &d->examples[d->count];
	*e = part->example;
	e->id = e->record->id;
	e->key = e->record->key;
	if (index > 0) {
		char id[OL_RECORD_NAME_MAX + 32];
		const int size = snprintf(id, sizeof id, "%s#%d", e->record->id, index + 1);
		e->id = ol_text_copy(&d->ids, id, (size_t)size);
		if (e->record->turns[0].role == OL_ROLE_TEXT)
			e->key = ol_record_key(id, (size_t)size);
	}
	if (!e->id)
		return false;
	e->sequence.example = e->rejected.example = e->key;
	d->truncated += e->truncated;
	d->answer_tokens += (uint64_t)e->answer_tokens;
	d->longest = OL_MAX(d->longest, OL_MAX(e->sequence.count, e->rejected.count));
	d->count++;
	return true;
}

/* Moves one record's examples into the dataset. Its memory is owned or freed whatever happens. */
static enum ol_status take_encoded(struct ol_dataset *d, struct encoded *encoded,
				   enum ol_status before, struct ol_error *err)
{
	enum ol_status s = before;
	bool room = true;
	for (int i = 0; i < encoded->count; i++) {
		const struct part *part = &encoded->parts[i];
		room = own(d, part->memory) && room;
		room = own(d, part->rejected_memory) && room;
		if (s == OL_OK && encoded->status == OL_OK && room)
			room = take_part(d, part, i);
	}
	free(encoded->parts);
	if (s == OL_OK && encoded->status != OL_OK)
		s = ol_fail(err, encoded->status, "%s", encoded->err.text);
	if (s == OL_OK && !room)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the dataset's tokens");
	return s;
}

static enum ol_status encode_all(struct ol_dataset *d, struct ol_pool *pool, struct ol_error *err)
{
	const size_t count = ol_records_count(d->records);
	enum ol_status s = OL_OK;
	for (size_t at = 0; at < count && s == OL_OK; at += WAVE) {
		const size_t wave = OL_MIN(count - at, (size_t)WAVE);
		d->wave_begin = at;
		ol_pool_for(pool, (int)wave, encode_one, d);
		for (size_t i = 0; i < wave; i++)
			s = take_encoded(d, &d->wave[i], s, err);
	}
	return s;
}

enum ol_status ol_dataset_open(struct ol_dataset **dataset_out, const struct ol_records *records,
			       const struct ol_chat_format *chat,
			       const struct ol_dataset_options *options, struct ol_error *err)
{
	struct ol_pool *pool = NULL;
	struct ol_dataset *d = calloc(1, sizeof *d);
	OL_ASSERT(options->max_length >= 1);
	if (!d)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the dataset");
	d->records = records;
	d->chat = *chat;
	d->chat.now = OL_CHAT_TRAINING_NOW;
	d->options = *options;
	d->opening = ol_chat_opening(chat);
	d->closing = ol_chat_closing(chat);
	d->wave = calloc(OL_MIN(ol_records_count(records), (size_t)WAVE) + 1, sizeof *d->wave);
	enum ol_status s = ol_records_sha256(records, d->sha256, err);
	if (s == OL_OK && !d->wave)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the dataset");
	if (s == OL_OK) {
		s = ol_pool_open(&pool,
				 options->threads > 0 ? options->threads : ol_processor_count());
		if (s != OL_OK)
			ol_fail(err, s, "cannot start threads to read the data");
	}
	if (s == OL_OK)
		s = encode_all(d, pool, err);
	ol_pool_close(pool);
	free(d->wave);
	d->wave = NULL;
	if (s != OL_OK) {
		ol_dataset_close(d);
		return s;
	}
	*dataset_out = d;
	return OL_OK;
}

void ol_dataset_close(struct ol_dataset *dataset)
{
	if (!dataset)
		return;
	for (size_t i = 0; i < dataset->memory_count; i++)
		free(dataset->memory[i]);
	free(dataset->memory);
	free(dataset->examples);
	ol_text_release(&dataset->ids);
	free(dataset);
}

size_t ol_dataset_count(const struct ol_dataset *dataset)
{
	return dataset->count;
}

const struct ol_example *ol_dataset_at(const struct ol_dataset *dataset, size_t index)
{
	OL_ASSERT(index < dataset->count);
	return &dataset->examples[index];
}

const uint8_t *ol_dataset_sha256(const struct ol_dataset *dataset)
{
	return dataset->sha256;
}

size_t ol_dataset_truncated(const struct ol_dataset *dataset)
{
	return dataset->truncated;
}

int ol_dataset_longest(const struct ol_dataset *dataset)
{
	return dataset->longest;
}

uint64_t ol_dataset_answer_tokens(const struct ol_dataset *dataset)
{
	return dataset->answer_tokens;
}

const struct ol_records *ol_dataset_records(const struct ol_dataset *dataset)
{
	return dataset->records;
}

/* ---- preview ---- */

static bool preview_sequence(struct ol_buf *text, const struct ol_sequence *sequence,
			     const struct ol_tokenizer *tokenizer, bool color)
{
	struct ol_buf raw;
	bool inside = false;
	ol_buf_init(&raw, (size_t)1 << 31);
	for (int32_t t = 0; t <= sequence->count; t++) {
		const bool target = t > 0 && sequence->targets[t - 1] >= 0;
		/* After the last row comes what it predicts. */
		if (t == sequence->count && !target)
			break;
		size_t size = 0;
		const int32_t id = target ? sequence->targets[t - 1] : sequence->tokens[t];
		const char *piece = ol_tokenizer_piece(tokenizer, id, &size);
		if (target != inside) {
			ol_utf8_append_lossy(text, raw.data ? raw.data : "", raw.size);
			ol_buf_clear(&raw);
			ol_buf_append_text(text, color    ? target ? "\033[32m" : "\033[0m"
						 : target ? "[["
							  : "]]");
			inside = target;
		}
		ol_buf_append(&raw, piece ? piece : "", piece ? size : 0);
	}
	ol_utf8_append_lossy(text, raw.data ? raw.data : "", raw.size);
	if (inside)
		ol_buf_append_text(text, color ? "\033[0m" : "]]");
	ol_buf_append_text(text, "\n");
	const bool good = !raw.failed && !text->failed;
	ol_buf_release(&raw);
	return good;
}

bool ol_example_preview(struct ol_buf *text, const struct ol_example *example,
			const struct ol_tokenizer *tokenizer, bool color)
{
	ol_buf_printf(text, "%s (%s, %s:%u): %d tokens, %d of them targets%s\n", example->id,
		      example->contributor, example->record->file, example->record->line,
		      example->sequence.count + 1, example->answer_tokens,
		      example->truncated ? ", cut" : "");
	if (example->rejected.count > 0)
		ol_buf_append_text(text, "chosen:\n");
	bool good = preview_sequence(text, &example->sequence, tokenizer, color);
	if (example->rejected.count > 0) {
		ol_buf_append_text(text, "rejected:\n");
		good = preview_sequence(text, &example->rejected, tokenizer, color) && good;
	}
	return good;
}
