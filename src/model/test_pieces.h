/* model/test_pieces.h, floor 2: a tokenizer for tests: a special token, every byte by itself, and
 * whatever pieces are wanted. Needs cmocka. */
#ifndef OL_MODEL_TEST_PIECES_H
#define OL_MODEL_TEST_PIECES_H

#include "model/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEST_EOS = 0, TEST_BYTE = 1, TEST_PIECES = 257 }; /* first ids */

/* Pieces that are there already, or twice, are left out. */
static inline struct ol_tokenizer *test_tokenizer(const char *const *pieces, size_t count)
{
	struct ol_tokenizer *t = NULL;
	struct ol_error err = {0};
	json_t *vocab = json_pack("{s:i}", "<eos>", TEST_EOS);
	int id = TEST_BYTE;
	for (int b = 0; b < 256; b++, id++) {
		char name[8];
		snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
		json_object_set_new(vocab, name, json_integer(id));
	}
	for (size_t i = 0; i < count; i++)
		if (!json_object_get(vocab, pieces[i]))
			json_object_set_new(vocab, pieces[i], json_integer(id++));
	json_t *root = json_pack("{s:s, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}], s:n, s:n, s:n,"
				 " s:{s:s, s:[{s:s}, {s:s}]}, s:{s:s, s:b, s:b, s:n, s:o, s:[]}}",
				 "version", "1.0", "added_tokens", "id", TEST_EOS, "content",
				 "<eos>", "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized",
				 0, "special", 1, "normalizer", "pre_tokenizer", "post_processor",
				 "decoder", "type", "Sequence", "decoders", "type", "ByteFallback",
				 "type", "Fuse", "model", "type", "BPE", "byte_fallback", 1,
				 "fuse_unk", 1, "unk_token", "vocab", vocab, "merges");
	char *text = json_dumps(root, 0);
	json_decref(root);
	if (ol_tokenizer_open(&t, text, strlen(text), "pieces", &err) != OL_OK)
		fail_msg("%s", err.text);
	free(text);
	return t;
}

#endif
