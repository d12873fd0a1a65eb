#include "ledger/note.h"
#include "crypto/secret.h"
#include "crypto/sha256.h"
#include "crypto/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char em_dash[] = "\xe2\x80\x94 ";
enum { ID_BYTES = 4, TIME_BYTES = 8, COSIGNATURE_HEAD_MAX = 64 };

static uint32_t load_be32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void store_be(uint8_t *out, uint64_t v, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, v >>= 8)
		out[i] = (uint8_t)v;
}

/* One code point of strict UTF-8 (RFC 3629); its length, or 0 where there is none. */
static size_t decode(uint32_t *point_out, const char *text, size_t size)
{
	const uint8_t *b = (const uint8_t *)text;
	static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
	const size_t length = b[0] < 0x80   ? 1
			      : b[0] < 0xc0 ? 0
			      : b[0] < 0xe0 ? 2
			      : b[0] < 0xf0 ? 3
			      : b[0] < 0xf8 ? 4
					    : 0;
	if (length == 0 || length > size)
		return 0;
	uint32_t point = length == 1 ? b[0] : b[0] & (0x7fU >> length);
	for (size_t i = 1; i < length; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (b[i] & 0x3f);
	}
	if (point < lowest[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
		return 0;
	*point_out = point;
	return length;
}

/* Unicode's White_Space above the control characters. */
static bool is_space(uint32_t point)
{
	return point == 0x20 || point == 0x85 || point == 0xa0 || point == 0x1680 ||
	       (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 ||
	       point == 0x202f || point == 0x205f || point == 0x3000;
}

bool ol_note_text_valid(const char *text, size_t size)
{
	for (size_t i = 0; i < size;) {
		uint32_t point;
		const size_t length = decode(&point, text + i, size - i);
		if (length == 0 || (point < 0x20 && point != '\n'))
			return false;
		i += length;
	}
	return true;
}

bool ol_note_name_valid(const char *name, size_t length)
{
	if (length == 0 || length > OL_NOTE_NAME_MAX)
		return false;
	for (size_t i = 0; i < length;) {
		uint32_t point;
		const size_t bytes = decode(&point, name + i, length - i);
		if (bytes == 0 || point < 0x20 || point == '+' || is_space(point))
			return false;
		i += bytes;
	}
	return true;
}

enum ol_status ol_note_key_init(struct ol_note_key *key, const char *name, enum ol_note_type type,
				const uint8_t public_key[OL_ED25519_PUBLIC_BYTES],
				struct ol_error *err)
{
	const size_t length = strlen(name);
	uint8_t bytes[OL_NOTE_NAME_MAX + 2 + OL_ED25519_PUBLIC_BYTES], hash[OL_SHA256_BYTES];
	if (!ol_note_name_valid(name, length))
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%.80s\" cannot name a key: 1 to %d bytes without spaces and '+' "
			       "are needed (such as example.com/log)",
			       name, OL_NOTE_NAME_MAX);
	memcpy(key->name, name, length + 1);
	memcpy(key->public_key, public_key, sizeof key->public_key);
	key->type = type;
	memcpy(bytes, name, length);
	bytes[length] = '\n';
	bytes[length + 1] = (uint8_t)type;
	memcpy(bytes + length + 2, public_key, OL_ED25519_PUBLIC_BYTES);
	ol_sha256(hash, bytes, length + 2 + OL_ED25519_PUBLIC_BYTES);
	key->id = load_be32(hash);
	return OL_OK;
}

/* Eight digits in lower case, the specification's one spelling. */
static bool id_parse(uint32_t *id_out, const char *text, size_t length)
{
	uint8_t bytes[ID_BYTES];
	if (!ol_hex_parse(bytes, sizeof bytes, text, length))
		return false;
	for (size_t i = 0; i < length; i++)
		if (text[i] >= 'A' && text[i] <= 'F')
			return false;
	*id_out = load_be32(bytes);
	return true;
}

enum ol_status ol_note_key_parse(struct ol_note_key *key, const char *text, struct ol_error *err)
{
	const char *id = strchr(text, '+'), *material = id ? strchr(id + 1, '+') : NULL;
	uint32_t stated;
	uint8_t bytes[1 + OL_ED25519_PUBLIC_BYTES];
	char name[OL_NOTE_NAME_MAX + 1];
	size_t size;
	if (!material || (size_t)(id - text) > OL_NOTE_NAME_MAX ||
	    !id_parse(&stated, id + 1, (size_t)(material - id - 1)))
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%.80s\" is not a verifier key: it must look like "
			       "example.com/log+530d903a+AekyeR… (name, id, key)",
			       text);
	const bool fits =
		ol_base64_parse(bytes, sizeof bytes, &size, material + 1, strlen(material + 1));
	if (!fits || size != sizeof bytes)
		return ol_fail(err, OL_ERR_INPUT,
			       "the last part of the verifier key \"%.80s\" must be the base64 of "
			       "%zu bytes: a type and an Ed25519 public key",
			       text, sizeof bytes);
	if (bytes[0] != OL_NOTE_ED25519 && bytes[0] != OL_NOTE_COSIGNATURE)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "the verifier key \"%.80s\" is of type %d; types 1 (Ed25519) and 4 "
			       "(cosignature) are understood",
			       text, bytes[0]);
	memcpy(name, text, (size_t)(id - text));
	name[id - text] = '\0';
	const enum ol_status s =
		ol_note_key_init(key, name, (enum ol_note_type)bytes[0], bytes + 1, err);
	if (s == OL_OK && key->id != stated)
		return ol_fail(err, OL_ERR_INPUT,
			       "the id in the verifier key \"%.80s\" must be %08" PRIx32
			       ": a character was mistyped",
			       text, key->id);
	return s;
}

void ol_note_key_print(char text_out[OL_VERIFIER_KEY_TEXT], const struct ol_note_key *key)
{
	uint8_t bytes[1 + OL_ED25519_PUBLIC_BYTES];
	struct ol_buf base64;
	bytes[0] = (uint8_t)key->type;
	memcpy(bytes + 1, key->public_key, OL_ED25519_PUBLIC_BYTES);
	ol_buf_init(&base64, OL_BASE64_LENGTH(sizeof bytes));
	OL_ASSERT(ol_base64_append(&base64, bytes, sizeof bytes));
	snprintf(text_out, OL_VERIFIER_KEY_TEXT, "%s+%08" PRIx32 "+%s", key->name, key->id,
		 base64.data);
	ol_buf_release(&base64);
}

static const char secret_head[] = "PRIVATE+KEY+";

enum ol_status ol_note_secret_parse(struct ol_note_key *key, struct ol_ed25519_key *secret,
				    const char *text, struct ol_error *err)
{
	const size_t head = sizeof secret_head - 1;
	const char *name = text + head, *id = NULL, *material = NULL;
	uint32_t stated;
	uint8_t bytes[1 + OL_ED25519_SEED_BYTES];
	char name_text[OL_NOTE_NAME_MAX + 1];
	enum ol_status s = OL_ERR_INPUT;
	if (strncmp(text, secret_head, head) == 0)
		id = strchr(name, '+');
	if (id && (size_t)(id - name) <= OL_NOTE_NAME_MAX)
		material = strchr(id + 1, '+');
	if (material && id_parse(&stated, id + 1, (size_t)(material - id - 1)) &&
	    ol_base64_parse_exact(bytes, sizeof bytes, material + 1, strlen(material + 1)) &&
	    (bytes[0] == OL_NOTE_ED25519 || bytes[0] == OL_NOTE_COSIGNATURE)) {
		memcpy(name_text, name, (size_t)(id - name));
		name_text[id - name] = '\0';
		ol_ed25519_key_from_seed(secret, bytes + 1);
		s = ol_note_key_init(key, name_text, (enum ol_note_type)bytes[0],
				     secret->public_key, NULL);
		if (s == OL_OK && key->id != stated)
			s = OL_ERR_INPUT;
		if (s != OL_OK)
			ol_ed25519_key_wipe(secret);
	}
	ol_wipe(bytes, sizeof bytes);
	/* Nothing of a secret is repeated in a sentence. */
	return s == OL_OK ? s
			  : ol_fail(err, s,
				    "this is not a private key of the form "
				    "PRIVATE+KEY+NAME+id+key, or its id is not the right one");
}

void ol_note_secret_print(char text_out[OL_NOTE_SECRET_TEXT], const struct ol_note_key *key,
			  const struct ol_ed25519_key *secret)
{
	uint8_t bytes[1 + OL_ED25519_SEED_BYTES];
	struct ol_buf base64;
	bytes[0] = (uint8_t)key->type;
	memcpy(bytes + 1, secret->seed, OL_ED25519_SEED_BYTES);
	ol_buf_init(&base64, OL_BASE64_LENGTH(sizeof bytes));
	OL_ASSERT(ol_base64_append(&base64, bytes, sizeof bytes));
	snprintf(text_out, OL_NOTE_SECRET_TEXT, "%s%s+%08" PRIx32 "+%s", secret_head, key->name,
		 key->id, base64.data);
	ol_wipe(base64.data, base64.size);
	ol_wipe(bytes, sizeof bytes);
	ol_buf_release(&base64);
}

/* The line from `— ` up to, not including, its newline. */
static enum ol_status parse_line(struct ol_note_line *line, const char *text, size_t size,
				 uint32_t number, struct ol_error *err)
{
	uint8_t bytes[ID_BYTES + OL_NOTE_SIGNATURE_MAX];
	const size_t dash = sizeof em_dash - 1;
	size_t got;
	const char *space = size > dash && memcmp(text, em_dash, dash) == 0
				    ? memchr(text + dash, ' ', size - dash)
				    : NULL;
	if (!space || !ol_note_name_valid(text + dash, (size_t)(space - text) - dash))
		return ol_fail(err, OL_ERR_INPUT,
			       "signature line %" PRIu32 " of the note is malformed: it must be "
			       "\"— NAME BASE64\"",
			       number);
	line->name = text + dash;
	line->name_length = (uint32_t)((size_t)(space - text) - dash);
	line->base64 = space + 1;
	line->base64_length = (uint32_t)(size - (size_t)(space + 1 - text));
	if (!ol_base64_parse(bytes, sizeof bytes, &got, line->base64, line->base64_length) ||
	    got <= ID_BYTES)
		return ol_fail(err, OL_ERR_INPUT,
			       "the signature of line %" PRIu32 " of the note is not base64 of 5 "
			       "to %zu bytes",
			       number, sizeof bytes);
	line->id = load_be32(bytes);
	return OL_OK;
}

/* Where the last empty line starts: the newline that ends the text is just before it. */
static const char *find_blank_line(const char *bytes, size_t size)
{
	for (size_t i = size; i >= 2; i--)
		if (bytes[i - 2] == '\n' && bytes[i - 1] == '\n')
			return bytes + i - 1;
	return NULL;
}

enum ol_status ol_note_parse(struct ol_note *note, const char *bytes, size_t size,
			     struct ol_error *err)
{
	memset(note, 0, sizeof *note);
	if (size > OL_NOTE_BYTES_MAX)
		return ol_fail(err, OL_ERR_INPUT,
			       "a note of %zu bytes is larger than the limit, %d", size,
			       OL_NOTE_BYTES_MAX);
	if (!ol_note_text_valid(bytes, size))
		return ol_fail(err, OL_ERR_INPUT,
			       "the note is not UTF-8 text, or holds control characters");
	const char *blank = find_blank_line(bytes, size), *end = bytes + size;
	if (!blank || bytes[size - 1] != '\n')
		return ol_fail(err, OL_ERR_INPUT,
			       "this is no signed note: text, an empty line and signature lines "
			       "are needed");
	note->text = bytes;
	note->text_size = (size_t)(blank - bytes);
	for (const char *line = blank + 1; line < end;) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		if (note->line_count == OL_NOTE_SIGNATURES_MAX)
			return ol_fail(err, OL_ERR_INPUT,
				       "the note has more than %d signatures, the limit",
				       OL_NOTE_SIGNATURES_MAX);
		const enum ol_status s =
			parse_line(&note->lines[note->line_count], line, (size_t)(stop - line),
				   note->line_count + 1, err);
		if (s != OL_OK)
			return s;
		note->line_count++;
		line = stop + 1;
	}
	if (note->line_count == 0)
		return ol_fail(err, OL_ERR_INPUT, "the note bears no signature");
	return OL_OK;
}

/* What a cosignature signs, in a buf of its own. */
static bool cosigned_message(struct ol_buf *out, uint64_t time, const char *text, size_t size)
{
	ol_buf_init(out, COSIGNATURE_HEAD_MAX + size);
	ol_buf_printf(out, "cosignature/v1\ntime %" PRIu64 "\n", time);
	return ol_buf_append(out, text, size);
}

static bool verify_line(const struct ol_note *note, const struct ol_note_line *line,
			const struct ol_note_key *key, uint64_t *time_out)
{
	uint8_t bytes[ID_BYTES + TIME_BYTES + OL_ED25519_SIGNATURE_BYTES];
	size_t size;
	struct ol_buf message;
	if (!ol_base64_parse(bytes, sizeof bytes, &size, line->base64, line->base64_length))
		return false;
	if (key->type == OL_NOTE_ED25519)
		return size == ID_BYTES + OL_ED25519_SIGNATURE_BYTES &&
		       ol_ed25519_verify(key->public_key, bytes + ID_BYTES, note->text,
					 note->text_size);
	const uint64_t time =
		(uint64_t)load_be32(bytes + ID_BYTES) << 32 | load_be32(bytes + ID_BYTES + 4);
	if (size != sizeof bytes || time > INT64_MAX)
		return false;
	const bool right = cosigned_message(&message, time, note->text, note->text_size) &&
			   ol_ed25519_verify(key->public_key, bytes + ID_BYTES + TIME_BYTES,
					     message.data, message.size);
	ol_buf_release(&message);
	if (right && time_out)
		*time_out = time;
	return right;
}

enum ol_note_check ol_note_check(const struct ol_note *note, const struct ol_note_key *key,
				 uint64_t *time_out)
{
	enum ol_note_check check = OL_NOTE_UNSIGNED;
	const size_t length = strlen(key->name);
	if (time_out)
		*time_out = 0;
	for (uint32_t i = 0; i < note->line_count; i++) {
		const struct ol_note_line *line = &note->lines[i];
		if (line->id != key->id || line->name_length != length ||
		    memcmp(line->name, key->name, length) != 0)
			continue;
		if (!verify_line(note, line, key, time_out))
			return OL_NOTE_FORGED;
		check = OL_NOTE_SIGNED;
	}
	return check;
}

bool ol_note_append_text(struct ol_buf *note, const char *text, size_t size)
{
	OL_ASSERT(size > 0 && text[size - 1] == '\n');
	return ol_buf_append(note, text, size) && ol_buf_append_text(note, "\n");
}

bool ol_note_append_line(struct ol_buf *note, const struct ol_note_key *key, const void *signature,
			 size_t size)
{
	uint8_t bytes[ID_BYTES + OL_NOTE_SIGNATURE_MAX];
	OL_ASSERT(size > 0 && size <= OL_NOTE_SIGNATURE_MAX);
	store_be(bytes, key->id, ID_BYTES);
	memcpy(bytes + ID_BYTES, signature, size);
	return ol_buf_printf(note, "%s%s ", em_dash, key->name) &&
	       ol_base64_append(note, bytes, ID_BYTES + size) && ol_buf_append_text(note, "\n");
}

bool ol_note_sign(struct ol_buf *note, const struct ol_note_key *key,
		  const struct ol_ed25519_key *secret, const char *text, size_t size)
{
	uint8_t signature[OL_ED25519_SIGNATURE_BYTES];
	OL_ASSERT(key->type == OL_NOTE_ED25519);
	ol_ed25519_sign(signature, secret, text, size);
	return ol_note_append_line(note, key, signature, sizeof signature);
}

bool ol_note_cosign(struct ol_buf *note, const struct ol_note_key *key,
		    const struct ol_ed25519_key *secret, uint64_t time, const char *text,
		    size_t size)
{
	uint8_t bytes[TIME_BYTES + OL_ED25519_SIGNATURE_BYTES];
	struct ol_buf message;
	OL_ASSERT(key->type == OL_NOTE_COSIGNATURE && time <= INT64_MAX);
	store_be(bytes, time, TIME_BYTES);
	const bool made = cosigned_message(&message, time, text, size);
	if (made)
		ol_ed25519_sign(bytes + TIME_BYTES, secret, message.data, message.size);
	ol_buf_release(&message);
	return made && ol_note_append_line(note, key, bytes, sizeof bytes);
}
