/* ledger/note.h, floor 2: signed notes: text with signatures under it, byte for byte as
 * c2sp.org/signed-note v1.0.0 has them, and the cosignatures of c2sp.org/tlog-cosignature.
 *
 *     text, one or more lines
 *                                                     (an empty line; the last one of the note)
 *     — KEY NAME base64(key id, 4 bytes big-endian || signature)
 *
 *     key id = first 4 bytes of SHA-256(name || "\n" || type || public key)
 *
 * Type 0x01 signs the text as it is. Type 0x04 is a witness's: its signature is
 * time (8 bytes big-endian) || Ed25519 over "cosignature/v1\ntime T\n" || text.
 *
 * A key is written as a verifier key: NAME+id in hex+base64(type || public key). Lines of unknown
 * keys are ignored; a line of a known key that does not verify spoils the note. */
#ifndef OL_LEDGER_NOTE_H
#define OL_LEDGER_NOTE_H

#include "base/buf.h"
#include "crypto/ed25519.h"

enum {
	OL_NOTE_NAME_MAX = 255,           /* bytes of a key's name                        */
	OL_NOTE_SIGNATURES_MAX = 64,      /* the specification asks for 16                */
	OL_NOTE_SIGNATURE_MAX = 8 * 1024, /* bytes of one; ML-DSA needs 2,432             */
	OL_NOTE_BYTES_MAX = 256 * 1024,   /* of a whole note                              */
	OL_VERIFIER_KEY_TEXT = OL_NOTE_NAME_MAX + 64 /* a verifier key as text, with NUL  */
};

enum ol_note_type { OL_NOTE_ED25519 = 0x01, OL_NOTE_COSIGNATURE = 0x04 };

struct ol_note_key {
	char name[OL_NOTE_NAME_MAX + 1];
	enum ol_note_type type;
	uint32_t id;
	uint8_t public_key[OL_ED25519_PUBLIC_BYTES];
};

/* Not empty, UTF-8, no space of Unicode, no control character, no '+'. */
OL_MUST_CHECK bool ol_note_name_valid(const char *name, size_t length);
OL_MUST_CHECK enum ol_status ol_note_key_init(struct ol_note_key *key, const char *name,
					      enum ol_note_type type,
					      const uint8_t public_key[OL_ED25519_PUBLIC_BYTES],
					      struct ol_error *err);
/* From and to NAME+id+key; the id must be the right one. UNSUPPORTED: a type that is not ours. */
OL_MUST_CHECK enum ol_status ol_note_key_parse(struct ol_note_key *key, const char *text,
					       struct ol_error *err);
void ol_note_key_print(char text_out[OL_VERIFIER_KEY_TEXT], const struct ol_note_key *key);

/* The private half as text: PRIVATE+KEY+NAME+id+base64(type || the key's 32 secret bytes), as other
 * programs for signed notes keep it. Both key and secret are filled; the caller wipes the text. */
enum { OL_NOTE_SECRET_TEXT = OL_VERIFIER_KEY_TEXT + 16 };
OL_MUST_CHECK enum ol_status ol_note_secret_parse(struct ol_note_key *key,
						  struct ol_ed25519_key *secret, const char *text,
						  struct ol_error *err);
void ol_note_secret_print(char text_out[OL_NOTE_SECRET_TEXT], const struct ol_note_key *key,
			  const struct ol_ed25519_key *secret);

/* One signature line; points into the note. */
struct ol_note_line {
	const char *name, *base64; /* neither ends with a NUL */
	uint32_t name_length, base64_length;
	uint32_t id;
};

/* A note taken apart; it borrows the bytes it was parsed from. */
struct ol_note {
	const char *text; /* with its last newline */
	size_t text_size;
	struct ol_note_line lines[OL_NOTE_SIGNATURES_MAX];
	uint32_t line_count;
};

OL_MUST_CHECK enum ol_status ol_note_parse(struct ol_note *note, const char *bytes, size_t size,
					   struct ol_error *err);

enum ol_note_check {
	OL_NOTE_SIGNED = 0,   /* the key signed this text                                     */
	OL_NOTE_UNSIGNED = 1, /* no line of this key                                          */
	OL_NOTE_FORGED = 2    /* a line says it is of this key, and is not over this text     */
};
/* time_out (may be NULL): when a cosignature was made, POSIX seconds; 0 for the plain type. */
OL_MUST_CHECK enum ol_note_check ol_note_check(const struct ol_note *note,
					       const struct ol_note_key *key, uint64_t *time_out);

/* Making one: the text (ending in a newline), an empty line, then signature lines. */
bool ol_note_append_text(struct ol_buf *note, const char *text, size_t size);
bool ol_note_append_line(struct ol_buf *note, const struct ol_note_key *key, const void *signature,
			 size_t size);
/* Signs and appends the line. */
bool ol_note_sign(struct ol_buf *note, const struct ol_note_key *key,
		  const struct ol_ed25519_key *secret, const char *text, size_t size);
bool ol_note_cosign(struct ol_buf *note, const struct ol_note_key *key,
		    const struct ol_ed25519_key *secret, uint64_t time, const char *text,
		    size_t size);

/* UTF-8 without control characters other than newline (both specifications ask for it). */
OL_MUST_CHECK bool ol_note_text_valid(const char *text, size_t size);

#endif
