#include "base/bytes.h"
#include "crypto/text.h"
#include "ledger/book.h"

#include <stdio.h>

struct ol_id ol_id_make(uint64_t time_ms, const uint8_t random[OL_ID_RANDOM_BYTES])
{
	OL_ASSERT(time_ms <= OL_TIME_MS_MAX);
	return (struct ol_id){.low = ol_load_u64(random + 2),
			      .high = time_ms << 16 | ol_load_u16(random)};
}

void ol_id_print(char out[OL_ID_TEXT_MAX], struct ol_id id)
{
	(void)snprintf(out, OL_ID_TEXT_MAX, "%016llx%016llx", (unsigned long long)id.high,
		       (unsigned long long)id.low);
}

static bool lower_case(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] >= 'A' && text[i] <= 'F')
			return false;
	return true;
}

bool ol_id_parse(struct ol_id *out, const char *text, size_t length)
{
	uint8_t bytes[16];
	struct ol_id id = {0};

	if (!ol_hex_parse(bytes, sizeof bytes, text, length) || !lower_case(text, length))
		return false;
	for (int i = 0; i < 8; i++) {
		id.high = id.high << 8 | bytes[i];
		id.low = id.low << 8 | bytes[8 + i];
	}
	*out = id;
	return true;
}
