/* An index file from a stranger: it is refused, or everything that uses it stays inside of it. The
 * hashes are mended first, so that what is behind them is reached. */
#include "attrib/index_internal.h"
#include "attrib/spans.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Roots as the bytes are, where the sections lie inside the file. */
static void mend(uint8_t *bytes, size_t size)
{
	struct ol_index_header h;
	if (size < sizeof h)
		return;
	memcpy(&h, bytes, sizeof h);
	for (int i = 0; i < OL_INDEX_SECTIONS; i++) {
		const struct ol_index_place *at = &h.sections[i];
		const size_t leaf = ol_index_leaf(&h, (enum ol_index_section)i);
		if (leaf > 0 && at->offset <= size && at->bytes <= size - at->offset)
			ol_index_section_root(h.roots[i], bytes + at->offset, at->bytes, leaf);
	}
	ol_index_file_root(h.root, &h);
	memcpy(bytes, &h, sizeof h);
}

static void look_up(const struct ol_span_corpus *c)
{
	static struct ol_span spans[OL_SPANS_MAX];
	int32_t tokens[24];
	int count;
	for (int i = 0; i < 24; i++) {
		tokens[i] = (uint32_t)i < c->token_count ? ol_span_token(c, (uint32_t)i) : 0;
		if (tokens[i] < 0 || (uint32_t)tokens[i] >= c->vocab)
			tokens[i] = 0;
	}
	(void)!ol_span_corpus_find(spans, &count, c, tokens, 24, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t room = (size + 127) / 64 * 64;
	uint8_t *bytes = aligned_alloc(64, room);
	struct ol_index *index;
	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	mend(bytes, size);
	if (ol_index_open_bytes(&index, bytes, size, "fuzz", NULL, NULL) == OL_OK) {
		look_up(&ol_index_content(index)->spans);
		(void)!ol_index_audit(index, NULL);
		ol_index_close(index);
	}
	free(bytes);
	return 0;
}
