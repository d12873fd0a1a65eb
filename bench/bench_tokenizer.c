/* How fast a tokenizer opens, encodes and decodes, on one core.
 *
 * usage: bench_tokenizer TOKENIZER TEXT [DOCUMENT [IDS_OUT]]
 *
 * The text is encoded in documents of about DOCUMENT bytes (100000), cut at line ends (1: every
 * line is one); the median of 5 rounds counts. IDS_OUT gets the ids as text, one document a line,
 * to compare with another program's. */
#include "base/clock.h"
#include "base/file.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5 };

static size_t document_size = 100000;

static size_t document_end(const struct ol_map *text, size_t at)
{
	if (text->size - at <= document_size)
		return text->size;
	const size_t from = at + document_size - 1;
	const uint8_t *line = memchr(text->data + from, '\n', text->size - from);
	return line ? (size_t)(line + 1 - text->data) : text->size;
}

/* All documents once; tokens holds the ids of all of them. */
static bool encode_all(const struct ol_tokenizer *t, const struct ol_map *text,
		       struct ol_tokens *tokens, FILE *ids, struct ol_error *err)
{
	tokens->count = 0;
	for (size_t at = 0; at < text->size;) {
		const size_t end = document_end(text, at), first = tokens->count;
		if (ol_tokenizer_encode(t, tokens, (const char *)text->data + at, end - at,
					OL_SPECIAL_NONE, false, NULL, 0, err) != OL_OK)
			return false;
		for (size_t i = first; ids && i < tokens->count; i++)
			fprintf(ids, "%d ", (int)tokens->ids[i]);
		if (ids)
			fputc('\n', ids);
		at = end;
	}
	return true;
}

static int run(const struct ol_map *file, const struct ol_map *text, const char *path, FILE *ids)
{
	double opening[ROUNDS], encoding[ROUNDS], decoding[ROUNDS];
	struct ol_tokenizer *t = NULL;
	struct ol_tokens tokens = {0};
	struct ol_error err = {0};
	struct ol_buf buf;
	ol_buf_init(&buf, (size_t)1 << 32);
	for (int i = 0; i < ROUNDS; i++) {
		ol_tokenizer_close(t);
		double start = ol_clock_thread_seconds();
		if (ol_tokenizer_open(&t, (const char *)file->data, file->size, path, &err) !=
		    OL_OK)
			break;
		opening[i] = ol_clock_thread_seconds() - start;
		start = ol_clock_thread_seconds();
		if (!encode_all(t, text, &tokens, i == 0 ? ids : NULL, &err))
			break;
		encoding[i] = ol_clock_thread_seconds() - start;
		start = ol_clock_thread_seconds();
		ol_buf_clear(&buf);
		if (!ol_tokenizer_decode(t, &buf, tokens.ids, tokens.count, false))
			break;
		decoding[i] = ol_clock_thread_seconds() - start;
	}
	if (err.status != OL_OK) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	const double mb = (double)text->size / 1e6;
	printf("{\"tokenizer\": \"%s\", \"megabytes\": %.2f, \"tokens\": %zu, \"open_ms\": %.1f, "
	       "\"encode_mb_s\": %.1f, \"decode_mb_s\": %.1f}\n",
	       path, mb, tokens.count, ol_median(opening, ROUNDS) * 1e3,
	       mb / ol_median(encoding, ROUNDS), mb / ol_median(decoding, ROUNDS));
	ol_buf_release(&buf);
	ol_tokens_release(&tokens);
	ol_tokenizer_close(t);
	return 0;
}

int main(int argc, char **argv)
{
	struct ol_map file, text;
	struct ol_error err = {0};
	if (argc < 3) {
		fprintf(stderr, "usage: %s TOKENIZER TEXT [DOCUMENT [IDS_OUT]]\n", argv[0]);
		return 2;
	}
	if (ol_map_open(&file, argv[1], &err) != OL_OK ||
	    ol_map_open(&text, argv[2], &err) != OL_OK) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	if (argc > 3)
		document_size = OL_MAX((size_t)strtoul(argv[3], NULL, 10), (size_t)1);
	FILE *ids = argc > 4 ? fopen(argv[4], "w") : NULL;
	const int result = run(&file, &text, argv[1], ids);
	if (ids)
		fclose(ids);
	ol_map_close(&file);
	ol_map_close(&text);
	return result;
}
