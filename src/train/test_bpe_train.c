/* What a learned vocabulary promises: the merges of the plain definition, the same bytes in any
 * order of texts, and a file that the tokenizer reads. */
#include "model/tokenizer.h"
#include "train/bpe_train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const special[] = {"<|end|>", "<|bos|>"};
enum { SPECIAL = 2, FIRST = SPECIAL + 256 };

static uint32_t below(uint32_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % n;
}

static struct ol_bpe_trainer *open_trainer(void)
{
	struct ol_bpe_trainer *t;
	assert_int_equal(ol_bpe_trainer_open(&t, NULL), OL_OK);
	return t;
}

static void add(struct ol_bpe_trainer *t, const char *text)
{
	assert_int_equal(ol_bpe_trainer_add(t, text, strlen(text), "text", NULL), OL_OK);
}

/* Learns and gives the tokenizer.json, closing the trainer. */
static struct ol_buf finish(struct ol_bpe_trainer *t, int vocab)
{
	struct ol_error err = {0};
	struct ol_buf json;
	ol_buf_init(&json, 1 << 24);
	if (ol_bpe_trainer_learn(t, vocab, special, SPECIAL, &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_int_equal(ol_bpe_trainer_write(t, &json, "<|bos|>", &err), OL_OK);
	ol_bpe_trainer_close(t);
	return json;
}

static struct ol_tokenizer *tokenizer_of(const struct ol_buf *json)
{
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_error err = {0};
	if (ol_tokenizer_open(&tokenizer, json->data, json->size, "learned", &err) != OL_OK)
		fail_msg("%s", err.text);
	return tokenizer;
}

static struct ol_tokens encode(const struct ol_tokenizer *tokenizer, const char *text,
			       bool add_template)
{
	struct ol_tokens tokens = {0};
	assert_int_equal(ol_tokenizer_encode(tokenizer, &tokens, text, strlen(text),
					     OL_SPECIAL_NONE, add_template, NULL, 0, NULL),
			 OL_OK);
	return tokens;
}

/* ---- the definition, step by step and slowly ---- */

enum { WORDS_MAX = 400, LENGTH_MAX = 16, ENTRIES_MAX = FIRST + 64 };
struct naive {
	int words[WORDS_MAX][LENGTH_MAX], length[WORDS_MAX], count;
	char entries[ENTRIES_MAX][LENGTH_MAX + 1];
	int entry_count;
};

static void naive_best(const struct naive *n, int *left, int *right, int *count)
{
	static int pairs[ENTRIES_MAX][ENTRIES_MAX];
	memset(pairs, 0, sizeof pairs);
	for (int w = 0; w < n->count; w++)
		for (int i = 0; i + 1 < n->length[w]; i++)
			pairs[n->words[w][i]][n->words[w][i + 1]]++;
	*count = 0;
	for (int a = 0; a < n->entry_count; a++)
		for (int b = 0; b < n->entry_count; b++)
			if (pairs[a][b] > *count) {
				*count = pairs[a][b];
				*left = a;
				*right = b;
			}
}

static void naive_merge(struct naive *n, int left, int right)
{
	char made_text[2 * LENGTH_MAX + 2];
	snprintf(made_text, sizeof made_text, "%s%s", n->entries[left], n->entries[right]);
	int made = SPECIAL;
	while (made < n->entry_count && strcmp(n->entries[made], made_text) != 0)
		made++;
	if (made == n->entry_count)
		snprintf(n->entries[n->entry_count++], LENGTH_MAX + 1, "%.*s", LENGTH_MAX,
			 made_text);
	for (int w = 0; w < n->count; w++) {
		int kept = 0;
		for (int i = 0; i < n->length[w]; kept++) {
			const bool here = i + 1 < n->length[w] && n->words[w][i] == left &&
					  n->words[w][i + 1] == right;
			n->words[w][kept] = here ? made : n->words[w][i];
			i += here ? 2 : 1;
		}
		n->length[w] = kept;
	}
}

/* Words of few letters, so that pairs tie, overlap ("aaa") and spell one entry in two ways. */
static void equals_the_definition(void **state)
{
	(void)state;
	static struct naive n;
	for (uint32_t seed = 1; seed <= 60; seed++) {
		uint32_t random = seed * 2654435761u;
		struct ol_bpe_trainer *t = open_trainer();
		memset(&n, 0, sizeof n);
		n.entry_count = FIRST;
		for (int byte = 1; byte < 256; byte++)
			n.entries[SPECIAL + byte][0] = (char)byte;
		n.count = 40 + (int)below(&random, WORDS_MAX - 40);
		for (int w = 0; w < n.count; w++) {
			char word[LENGTH_MAX + 1] = {0};
			n.length[w] = 1 + (int)below(&random, 9);
			for (int i = 0; i < n.length[w]; i++) {
				word[i] = (char)('a' + below(&random, 2 + seed % 3));
				n.words[w][i] = SPECIAL + word[i];
			}
			add(t, word);
		}
		while (n.entry_count < FIRST + 24) {
			int left = 0, right = 0, count;
			naive_best(&n, &left, &right, &count);
			if (count < OL_BPE_TRAIN_COUNT_MIN)
				break;
			naive_merge(&n, left, right);
		}
		struct ol_buf json = finish(t, n.entry_count);
		struct ol_tokenizer *tokenizer = tokenizer_of(&json);
		for (int id = FIRST; id < n.entry_count; id++) {
			size_t size;
			const char *entry = ol_tokenizer_entry(tokenizer, id, &size);
			assert_int_equal(size, strlen(n.entries[id]));
			assert_memory_equal(entry, n.entries[id], size);
		}
		ol_tokenizer_close(tokenizer);
		ol_buf_release(&json);
	}
}

static const char *const texts[] = {
	"The ledger keeps every transfer twice, once for each side.\nThe ledger is never wrong.\n",
	"Every transfer has two sides; the ledger keeps both sides of every transfer.\n\n",
	"In 1945 and in 1946 the side that kept the ledger \"won\" the transfer \\ of 12345 coins.",
	"L'\xc3\xa9t\xc3\xa9 dernier, nous avons mang\xc3\xa9 tout. \xf0\x9f\x91\x8d\n",
};

static void order_does_not_matter(void **state)
{
	(void)state;
	struct ol_bpe_trainer *up = open_trainer(), *down = open_trainer();
	for (size_t i = 0; i < OL_ARRAY_LEN(texts); i++) {
		add(up, texts[i]);
		add(down, texts[OL_ARRAY_LEN(texts) - 1 - i]);
	}
	assert_true(ol_bpe_trainer_words(up) == ol_bpe_trainer_words(down));
	struct ol_buf a = finish(up, FIRST + 36), b = finish(down, FIRST + 36);
	assert_int_equal(a.size, b.size);
	assert_memory_equal(a.data, b.data, a.size);
	ol_buf_release(&a);
	ol_buf_release(&b);
}

/* A long text is cut where words end: the same as its lines one by one. */
static void long_texts_are_cut_between_words(void **state)
{
	(void)state;
	struct ol_bpe_trainer *whole = open_trainer(), *lines = open_trainer();
	struct ol_buf text;
	ol_buf_init(&text, 1 << 22);
	uint32_t random = 7;
	for (int i = 0; i < 20000; i++) {
		char line[64];
		snprintf(line, sizeof line, "%s word%u is  %u ,\n",
			 below(&random, 4) ? "A" : "The\t", below(&random, 50),
			 below(&random, 1000));
		ol_buf_append_text(&text, line);
		add(lines, line);
	}
	assert_false(text.failed);
	add(whole, text.data);
	assert_true(text.size > 3 << 16);
	assert_true(ol_bpe_trainer_words(whole) == ol_bpe_trainer_words(lines));
	assert_true(ol_bpe_trainer_unique_words(whole) == ol_bpe_trainer_unique_words(lines));
	ol_buf_release(&text);
	ol_bpe_trainer_close(whole);
	ol_bpe_trainer_close(lines);
}

static void the_file_is_a_tokenizer(void **state)
{
	(void)state;
	struct ol_bpe_trainer *t = open_trainer();
	for (size_t i = 0; i < OL_ARRAY_LEN(texts); i++)
		add(t, texts[i]);
	struct ol_buf json = finish(t, FIRST + 36);
	struct ol_tokenizer *tokenizer = tokenizer_of(&json);
	assert_int_equal(ol_tokenizer_vocab_size(tokenizer), FIRST + 36);
	for (size_t i = 0; i < OL_ARRAY_LEN(texts); i++) {
		struct ol_tokens tokens = encode(tokenizer, texts[i], false);
		struct ol_buf back;
		ol_buf_init(&back, 1 << 16);
		assert_true(ol_tokenizer_decode(tokenizer, &back, tokens.ids, tokens.count, false));
		assert_int_equal(back.size, strlen(texts[i]));
		assert_memory_equal(back.data, texts[i], back.size);
		assert_true(tokens.count < strlen(texts[i]) / 2 + 40);
		ol_buf_release(&back);
		ol_tokens_release(&tokens);
	}
	struct ol_tokens digits = encode(tokenizer, "12345", false);
	assert_int_equal(digits.count, 5);
	struct ol_tokens user = encode(tokenizer, "<|end|>", false);
	for (size_t i = 0; i < user.count; i++)
		assert_true(user.ids[i] >= SPECIAL);
	struct ol_tokens begun = encode(tokenizer, "a", true);
	assert_int_equal(begun.count, 2);
	assert_int_equal(begun.ids[0], 1);
	assert_true(ol_tokenizer_is_special(tokenizer, 0) && ol_tokenizer_is_special(tokenizer, 1));
	ol_tokens_release(&digits);
	ol_tokens_release(&user);
	ol_tokens_release(&begun);
	ol_tokenizer_close(tokenizer);
	ol_buf_release(&json);
}

static void refusals(void **state)
{
	(void)state;
	struct ol_error err;
	struct ol_bpe_trainer *t = open_trainer();
	assert_int_equal(ol_bpe_trainer_add(t, "ab\xff", 3, "notes.txt", &err), OL_ERR_INPUT);
	assert_string_equal(err.text, "notes.txt: not valid UTF-8 at byte 2");
	assert_int_equal(ol_bpe_trainer_learn(t, FIRST - 1, special, SPECIAL, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "it must have 258 to"));
	ol_bpe_trainer_close(t);

	t = open_trainer();
	add(t, "ab ab ab");
	assert_int_equal(ol_bpe_trainer_learn(t, FIRST + 9, special, SPECIAL, &err), OL_ERR_INPUT);
	assert_string_equal(err.text,
			    "the text gives only 260 of 267 vocabulary entries: give more "
			    "text or ask for a smaller vocabulary");
	ol_bpe_trainer_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equals_the_definition),
		cmocka_unit_test(order_does_not_matter),
		cmocka_unit_test(long_texts_are_cut_between_words),
		cmocka_unit_test(the_file_is_a_tokenizer),
		cmocka_unit_test(refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
