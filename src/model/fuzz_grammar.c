/* Schemas from strangers. The bytes are a JSON Schema, or after a 'C' choices, after an 'F' a
 * response_format. Where it compiles, a walk that the same bytes choose finds a token at every
 * step, and a text that comes to its end is JSON. */
#include "model/grammar.h"

#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 200 };

/* Every byte by itself, and a few pieces. */
static struct ol_grammar_vocab *open_vocab(void)
{
	static const char *const pieces[] = {"{\\\"", "\\\":",    "\\\",\\\"", "}]",  "[[",
					     "},{",   "12",       "true,",     "abc", "\\\\u00",
					     "e+",    "\\\"\\\"", "\xc3\xa9"};
	struct ol_tokenizer *t = NULL;
	struct ol_grammar_vocab *v = NULL;
	struct ol_buf text;
	ol_buf_init(&text, 1 << 16);
	ol_buf_printf(&text,
		      "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":null,"
		      "\"post_processor\":null,\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
		      "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},\"model\":{\"type\":"
		      "\"BPE\",\"byte_fallback\":true,\"merges\":[],\"vocab\":{");
	for (unsigned b = 0; b < 256; b++)
		ol_buf_printf(&text, "%s\"<0x%02X>\":%u", b ? "," : "", b, b);
	for (size_t i = 0; i < OL_ARRAY_LEN(pieces); i++)
		ol_buf_printf(&text, ",\"%s\":%zu", pieces[i], 256 + i);
	ol_buf_append_text(&text, "}}}");
	OL_ASSERT(ol_tokenizer_open(&t, text.data, text.size, "pieces", NULL) == OL_OK);
	OL_ASSERT(ol_grammar_vocab_open(&v, t, ol_tokenizer_vocab_size(t), NULL, 0, 1 << 20,
					NULL) == OL_OK);
	ol_tokenizer_close(t);
	ol_buf_release(&text);
	return v;
}

static void walk(const struct ol_grammar *g, const uint8_t *data, size_t size, bool json)
{
	enum { WORDS = 8 };
	uint64_t mask[WORDS];
	struct ol_grammar_state *s;
	struct ol_buf text;
	uint32_t random = 1;
	OL_ASSERT(ol_grammar_begin(&s, g, false, true) == OL_OK);
	ol_buf_init(&text, 1 << 16);
	for (size_t i = 0; i < STEPS && !ol_grammar_is_over(s); i++) {
		random = random * 1664525u + 1013904223u + data[i % size];
		int32_t token = (int32_t)(random >> 8 & 0xff);
		OL_ASSERT(ol_grammar_mask(s, mask));
		if (random >> 30) { /* mostly what closes, if it may */
			const int32_t closing = "\"}]0"[random >> 16 & 3];
			if (mask[closing / 64] >> closing % 64 & 1)
				token = closing;
		}
		while (!(mask[token / 64] >> token % 64 & 1))
			token = (token + 1) % (WORDS * 64);
		if (!ol_grammar_accept(s, token)) /* only where readings were given up */
			break;
		if (token < 256)
			ol_buf_append(&text, &(char){(char)token}, 1);
		else
			json = false; /* the pieces are not kept here */
	}
	if (json && ol_grammar_is_complete(s)) {
		json_t *value = json_loadb(text.data, text.size, JSON_DECODE_ANY, NULL);
		OL_ASSERT(value);
		json_decref(value);
	}
	ol_grammar_state_close(s);
	ol_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ol_grammar_vocab *vocab;
	struct ol_grammar *g = NULL;
	struct ol_error err;
	if (!vocab)
		vocab = open_vocab();
	if (size == 0)
		return 0;
	const char kind = (char)data[0];
	const size_t skip = kind == 'C' || kind == 'F';
	json_t *source = json_loadb((const char *)data + skip, size - skip,
				    JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!source)
		return 0;
	const enum ol_status s = kind == 'C'   ? ol_grammar_open_choice(&g, vocab, source, &err)
				 : kind == 'F' ? ol_grammar_open_format(&g, vocab, source, &err)
					       : ol_grammar_open_schema(&g, vocab, source, &err);
	OL_ASSERT(s == OL_OK || (!g && err.text[0]));
	if (g)
		walk(g, data, size, kind != 'C');
	ol_grammar_close(g);
	json_decref(source);
	return 0;
}
