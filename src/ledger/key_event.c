#include "ledger/key_event.h"
#include "crypto/sha256.h"

#include <string.h>

void ol_key_event_begin(struct ol_key_event *event, const char *origin, const uint8_t old_key[32],
			const uint8_t new_key[32], uint64_t time_ms)
{
	memset(event, 0, sizeof *event);
	ol_event_begin(&event->head, OL_EVENT_KEY, time_ms);
	ol_sha256(event->origin, origin, strlen(origin));
	memcpy(event->old_key, old_key, sizeof event->old_key);
	memcpy(event->new_key, new_key, sizeof event->new_key);
}

const char *ol_key_event_fault_text(enum ol_key_event_fault fault)
{
	switch (fault) {
	case OL_KEY_EVENT_WELL: return "well-formed";
	case OL_KEY_EVENT_SIZE: return "it has not the size of a key event";
	case OL_KEY_EVENT_KIND: return "it is not a key event of a known version";
	case OL_KEY_EVENT_ORIGIN: return "it is of another log";
	case OL_KEY_EVENT_SAME: return "the new key is the old one";
	case OL_KEY_EVENT_OLD_KEY: return "it does not follow the trusted key";
	case OL_KEY_EVENT_OLD_SIGNATURE: return "the old key's signature is wrong";
	case OL_KEY_EVENT_NEW_SIGNATURE: return "the new key's signature is wrong";
	}
	OL_UNREACHABLE();
}

/* All but the signatures; bytes hold at least OL_KEY_EVENT_SIGNED. */
static enum ol_key_event_fault check_head(struct ol_key_event *event, const uint8_t *bytes,
					  const char *origin)
{
	struct ol_event_head head;
	uint8_t hash[OL_SHA256_BYTES];
	memset(event, 0, sizeof *event);
	memcpy(event, bytes, OL_KEY_EVENT_SIGNED);
	if (!ol_event_read(&head, bytes, OL_KEY_EVENT_SIGNED) || head.kind != OL_EVENT_KEY)
		return OL_KEY_EVENT_KIND;
	ol_sha256(hash, origin, strlen(origin));
	if (memcmp(hash, event->origin, sizeof hash) != 0)
		return OL_KEY_EVENT_ORIGIN;
	if (memcmp(event->old_key, event->new_key, sizeof event->old_key) == 0)
		return OL_KEY_EVENT_SAME;
	return OL_KEY_EVENT_WELL;
}

enum ol_key_event_fault ol_key_event_check_unsigned(const uint8_t *bytes, size_t size,
						    const char *origin, const uint8_t own[32])
{
	struct ol_key_event event;
	if (size != OL_KEY_EVENT_SIGNED)
		return OL_KEY_EVENT_SIZE;
	const enum ol_key_event_fault fault = check_head(&event, bytes, origin);
	if (fault != OL_KEY_EVENT_WELL)
		return fault;
	if (memcmp(event.old_key, own, 32) != 0 && memcmp(event.new_key, own, 32) != 0)
		return OL_KEY_EVENT_OLD_KEY;
	return OL_KEY_EVENT_WELL;
}

enum ol_key_event_fault ol_key_event_check(struct ol_key_event *event_out, const uint8_t *bytes,
					   size_t size, const char *origin,
					   const uint8_t trusted[32])
{
	struct ol_key_event event;
	if (size != OL_KEY_EVENT_BYTES)
		return OL_KEY_EVENT_SIZE;
	const enum ol_key_event_fault fault = check_head(&event, bytes, origin);
	if (fault != OL_KEY_EVENT_WELL)
		return fault;
	memcpy(&event, bytes, sizeof event);
	if (memcmp(event.old_key, trusted, 32) != 0)
		return OL_KEY_EVENT_OLD_KEY;
	if (!ol_ed25519_verify(event.old_key, event.old_signature, bytes, OL_KEY_EVENT_SIGNED))
		return OL_KEY_EVENT_OLD_SIGNATURE;
	if (!ol_ed25519_verify(event.new_key, event.new_signature, bytes, OL_KEY_EVENT_SIGNED))
		return OL_KEY_EVENT_NEW_SIGNATURE;
	if (event_out)
		*event_out = event;
	return OL_KEY_EVENT_WELL;
}
