/* Any text as a config.json, and any as the canonical text of a config. */
#include <string.h>

#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What passed the checks is written and read again without a change. */
static void round_trip(const struct ol_config *config)
{
	struct ol_config again;
	struct ol_buf first, second;
	ol_buf_init(&first, 1 << 16);
	ol_buf_init(&second, 1 << 16);
	OL_ASSERT(ol_config_write(&first, config));
	OL_ASSERT(ol_config_read(&again, first.data, first.size, "fuzz", NULL) == OL_OK);
	OL_ASSERT(ol_config_write(&second, &again));
	OL_ASSERT(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
	ol_buf_release(&first);
	ol_buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_config config;
	struct ol_error err;
	const char *text = (const char *)data;
	/* A NUL parts config.json from generation_config.json. */
	const char *split = size ? memchr(text, '\0', size) : NULL;
	const size_t length = split ? (size_t)(split - text) : size;
	if (ol_config_parse(&config, text, length, split ? split + 1 : NULL,
			    split ? size - length - 1 : 0, "fuzz", &err) == OL_OK)
		round_trip(&config);
	else
		OL_ASSERT(err.text[0] != '\0');
	if (ol_config_read(&config, text, size, "fuzz", &err) == OL_OK)
		round_trip(&config);
	return 0;
}
