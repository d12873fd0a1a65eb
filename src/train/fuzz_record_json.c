/* Any bytes as JSONL and as JSON: either refused with a sentence that names the file, or records
 * that are written and read again without a change. */
#include "train/record_internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct ol_records *records)
{
	struct ol_records *again;
	struct ol_buf lines;
	struct ol_error err = {0};
	uint8_t a[OL_SHA256_BYTES], b[OL_SHA256_BYTES];
	ol_buf_init(&lines, (size_t)1 << 30);
	for (size_t i = 0; i < ol_records_count(records); i++) {
		OL_ASSERT(ol_record_write(&lines, ol_records_at(records, i)));
		OL_ASSERT(ol_buf_append_text(&lines, "\n"));
	}
	OL_ASSERT(ol_records_open_bytes(&again, "b.jsonl", lines.data, lines.size, OL_DATA_AUTO,
					&err) == OL_OK);
	OL_ASSERT(ol_records_sha256(records, a, NULL) == OL_OK);
	OL_ASSERT(ol_records_sha256(again, b, NULL) == OL_OK);
	OL_ASSERT(memcmp(a, b, sizeof a) == 0);
	ol_records_close(again);
	ol_buf_release(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a.jsonl", "a.json", "data"};
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		struct ol_records *records;
		struct ol_error err = {0};
		if (ol_records_open_bytes(&records, names[i], (const char *)data, size,
					  OL_DATA_AUTO, &err) != OL_OK) {
			OL_ASSERT(strncmp(err.text, names[i], strlen(names[i])) == 0);
			continue;
		}
		round_trip(records);
		ol_records_close(records);
	}
	struct ol_records *records;
	if (ol_records_open_bytes(&records, "a.json", (const char *)data, size, OL_DATA_PREFERENCE,
				  NULL) == OL_OK)
		ol_records_close(records);
	return 0;
}
