/* A tokenizer file from anyone, and a text: whatever comes, an error or ids, never a crash.
 * The input is the file, then (behind its last 0xff byte) the text. */
#include "model/tokenizer.h"
#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the parts of the text become must hold together whatever the file says. */
static void check_ids(const struct ol_tokenizer *t, const struct ol_tokens *tokens)
{
	size_t size;
	for (size_t i = 0; i < tokens->count; i++) {
		OL_ASSERT(tokens->ids[i] >= 0 && tokens->ids[i] < ol_tokenizer_vocab_size(t));
		OL_ASSERT(ol_tokenizer_entry(t, tokens->ids[i], &size) != NULL);
		OL_ASSERT(ol_tokenizer_piece(t, tokens->ids[i], &size) != NULL);
	}
}

static void check_plain(const struct ol_tokenizer *t, const struct ol_tokens *tokens)
{
	const int32_t unknown = ol_tokenizer_unknown(t);
	for (size_t i = 0; i < tokens->count; i++)
		OL_ASSERT(tokens->ids[i] == unknown || !ol_tokenizer_is_special(t, tokens->ids[i]));
}

static void try_text(const struct ol_tokenizer *t, const char *text, size_t size)
{
	const struct ol_text_span all = {0, size};
	struct ol_tokens parsed = {0}, plain = {0}, none = {0};
	struct ol_error err;
	struct ol_buf buf;
	ol_buf_init(&buf, 1 << 24);
	if (ol_tokenizer_encode(t, &parsed, text, size, OL_SPECIAL_PARSE, true, NULL, 0, &err) ==
	    OL_OK) {
		check_ids(t, &parsed);
		const bool fits = ol_tokenizer_decode(t, &buf, parsed.ids, parsed.count, false);
		OL_ASSERT(!fits || ol_utf8_check(buf.data ? buf.data : "", buf.size) == buf.size);
	}
	ol_buf_clear(&buf);
	if (ol_tokenizer_encode(t, &plain, text, size, OL_SPECIAL_PARSE, false, &all, 1, &err) ==
		    OL_OK &&
	    ol_tokenizer_encode(t, &none, text, size, OL_SPECIAL_NONE, false, NULL, 0, &err) ==
		    OL_OK) {
		check_plain(t, &plain);
		OL_ASSERT(plain.count == none.count &&
			  (plain.count == 0 ||
			   memcmp(plain.ids, none.ids, plain.count * sizeof *plain.ids) == 0));
		const bool fits = ol_tokenizer_decode(t, &buf, plain.ids, plain.count, true);
		OL_ASSERT(!fits || ol_utf8_check(buf.data ? buf.data : "", buf.size) == buf.size);
	}
	ol_buf_release(&buf);
	ol_tokens_release(&parsed);
	ol_tokens_release(&plain);
	ol_tokens_release(&none);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char sample[] = "It's a <s>\xe2\x96\x81test</s>, e\xcc\x81 12345  \n\n"
				     " \xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd \xea\xb0\x80\xe1\x86\xa8x";
	const char *bytes = (const char *)data, *text = sample;
	size_t text_size = sizeof sample - 1, file_size = size;
	for (size_t i = size; i > 0; i--) {
		if (data[i - 1] == 0xff) {
			file_size = i - 1;
			text = bytes + i;
			text_size = size - i;
			break;
		}
	}
	struct ol_tokenizer *t = NULL;
	struct ol_error err;
	if (ol_tokenizer_open(&t, bytes, file_size, "fuzz", &err) != OL_OK)
		return 0;
	try_text(t, text, text_size);
	if (text != sample)
		try_text(t, sample, sizeof sample - 1);
	ol_tokenizer_close(t);
	return 0;
}
