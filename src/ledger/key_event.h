/* ledger/key_event.h, floor 2: a log's key follows another, as an event of that log, signed by
 * both: the old one says who comes next, the new one that it is held.
 *
 *     bytes     0 head (16)  16 SHA-256 of the origin  48 old key  80 new key
 *             112 old key's signature over bytes 0-111   176 new key's, over the same
 *
 * From the checkpoint on that covers the event, checkpoints bear the new key's signature; whoever
 * trusted the old key trusts the new one for what comes after. */
#ifndef OL_LEDGER_KEY_EVENT_H
#define OL_LEDGER_KEY_EVENT_H

#include "crypto/ed25519.h"
#include "ledger/event.h"

struct ol_key_event {
	struct ol_event_head head;
	uint8_t origin[32];
	uint8_t old_key[32], new_key[32];
	uint8_t old_signature[64], new_signature[64];
};
_Static_assert(sizeof(struct ol_key_event) == 240, "key event v1");

enum { OL_KEY_EVENT_SIGNED = 112, OL_KEY_EVENT_BYTES = 240 };

/* Without signatures: the first OL_KEY_EVENT_SIGNED bytes are what both keys sign. */
void ol_key_event_begin(struct ol_key_event *event, const char *origin, const uint8_t old_key[32],
			const uint8_t new_key[32], uint64_t time_ms);

enum ol_key_event_fault {
	OL_KEY_EVENT_WELL,
	OL_KEY_EVENT_SIZE,    /* not OL_KEY_EVENT_BYTES                        */
	OL_KEY_EVENT_KIND,    /* another event, or another version             */
	OL_KEY_EVENT_ORIGIN,  /* of another log                                */
	OL_KEY_EVENT_SAME,    /* the new key is the old one                    */
	OL_KEY_EVENT_OLD_KEY, /* it does not follow the key that is trusted    */
	OL_KEY_EVENT_OLD_SIGNATURE,
	OL_KEY_EVENT_NEW_SIGNATURE
};
const char *ol_key_event_fault_text(enum ol_key_event_fault fault);

/* May the key in the event take the place of `trusted` for this log? event_out may be NULL. */
OL_MUST_CHECK enum ol_key_event_fault ol_key_event_check(struct ol_key_event *event_out,
							 const uint8_t *bytes, size_t size,
							 const char *origin,
							 const uint8_t trusted[32]);
/* The part before the signatures only, as a signer looks at it; old or new must be `own`. */
OL_MUST_CHECK enum ol_key_event_fault ol_key_event_check_unsigned(const uint8_t *bytes, size_t size,
								  const char *origin,
								  const uint8_t own[32]);

#endif
