/* Any bytes as CSV, text and Markdown, and as a data card. */
#include "train/record_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read is no more than what was there (but for joined instructions), and whole UTF-8. */
static void check(const struct ol_records *records, size_t size, size_t joins)
{
	size_t bytes = 0;
	for (size_t i = 0; i < ol_records_count(records); i++) {
		const struct ol_record *record = ol_records_at(records, i);
		OL_ASSERT(record->turn_count > 0 && record->line > 0 && record->id[0]);
		for (int t = 0; t < record->turn_count; t++) {
			OL_ASSERT(!memchr(record->turns[t].text, '\0', record->turns[t].size));
			bytes += record->turns[t].size;
		}
	}
	OL_ASSERT(bytes <= size + joins * ol_records_count(records));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a.csv", "a.txt", "a.md"};
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		struct ol_records *records;
		struct ol_error err = {0};
		if (ol_records_open_bytes(&records, names[i], (const char *)data, size,
					  OL_DATA_AUTO, &err) != OL_OK) {
			OL_ASSERT(strncmp(err.text, names[i], strlen(names[i])) == 0);
			continue;
		}
		check(records, size, i == 0 ? 2 : 0);
		ol_records_close(records);
	}
	struct ol_records *owner = calloc(1, sizeof *owner);
	struct ol_data_card card;
	struct ol_error err = {0};
	OL_ASSERT(owner);
	if (ol_data_card_parse(&card, owner, (const char *)data, size, "card.json", &err) != OL_OK)
		OL_ASSERT(strncmp(err.text, "card.json", 9) == 0);
	ol_records_close(owner);
	return 0;
}
