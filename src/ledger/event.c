#include "ledger/event.h"

#include <string.h>

static const struct {
	const char *name;
	uint16_t version;
} kinds[OL_EVENT_KINDS] = {
	[OL_EVENT_GENESIS] = {"genesis", 1}, [OL_EVENT_KEY] = {"key", 1},
	[OL_EVENT_GRANT] = {"grant", 1},     [OL_EVENT_LISTING] = {"listing", 1},
	[OL_EVENT_RECEIPT] = {"receipt", 1}, [OL_EVENT_EPOCH_CLOSE] = {"epoch-close", 1},
};

const char *ol_event_kind_name(enum ol_event_kind kind)
{
	OL_ASSERT(kind > 0 && kind < OL_EVENT_KINDS);
	return kinds[kind].name;
}

bool ol_event_read(struct ol_event_head *head, const uint8_t *bytes, size_t size)
{
	if (size < sizeof *head || size > OL_EVENT_MAX)
		return false;
	memcpy(head, bytes, sizeof *head);
	return memcmp(head->magic, "OLEV", sizeof head->magic) == 0 && head->kind > 0 &&
	       head->kind < OL_EVENT_KINDS && head->version == kinds[head->kind].version;
}

void ol_event_begin(struct ol_event_head *head, enum ol_event_kind kind, uint64_t time_ms)
{
	OL_ASSERT(kind > 0 && kind < OL_EVENT_KINDS);
	memcpy(head->magic, "OLEV", sizeof head->magic);
	head->version = kinds[kind].version;
	head->kind = (uint16_t)kind;
	head->time_ms = time_ms;
}

void ol_event_id(uint8_t id[OL_EVENT_ID_BYTES], const uint8_t *bytes, size_t size)
{
	ol_merkle_leaf(id, bytes, size);
}
