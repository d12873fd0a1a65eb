#include "ledger/checkpoint.h"
#include "crypto/text.h"

#include <inttypes.h>
#include <string.h>

bool ol_decimal_parse(uint64_t *value_out, const char *text, size_t length, uint64_t max)
{
	uint64_t value = 0;
	if (length == 0 || length > 20 || (length > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < length; i++) {
		const uint64_t digit = (uint64_t)text[i] - '0';
		if (text[i] < '0' || text[i] > '9' || value > (max - digit) / 10 || digit > max)
			return false;
		value = value * 10 + digit;
	}
	*value_out = value;
	return true;
}

/* The next line without its newline; false at the end or where a newline is missing. */
static bool next_line(const char **line, size_t *length, const char **text, const char *end)
{
	const char *stop = *text < end ? memchr(*text, '\n', (size_t)(end - *text)) : NULL;
	if (!stop)
		return false;
	*line = *text;
	*length = (size_t)(stop - *text);
	*text = stop + 1;
	return true;
}

enum ol_status ol_log_checkpoint_parse(struct ol_log_checkpoint *checkpoint, const char *text,
				       size_t size, struct ol_error *err)
{
	const char *line, *end = text + size;
	size_t length;
	memset(checkpoint, 0, sizeof *checkpoint);
	if (size > OL_CHECKPOINT_TEXT_MAX || !ol_note_text_valid(text, size))
		return ol_fail(err, OL_ERR_INPUT,
			       "a checkpoint is UTF-8 text of at most %d bytes without control "
			       "characters",
			       OL_CHECKPOINT_TEXT_MAX);
	if (!next_line(&line, &length, &text, end) || length == 0 || length > OL_ORIGIN_MAX)
		return ol_fail(err, OL_ERR_INPUT,
			       "line 1 of the checkpoint must be the origin, 1 to %d bytes",
			       OL_ORIGIN_MAX);
	memcpy(checkpoint->origin, line, length);
	if (!next_line(&line, &length, &text, end) ||
	    !ol_decimal_parse(&checkpoint->size, line, length, OL_TREE_SIZE_MAX))
		return ol_fail(err, OL_ERR_INPUT,
			       "line 2 of the checkpoint must be the tree's size: a decimal number "
			       "without leading zeros");
	if (!next_line(&line, &length, &text, end) ||
	    !ol_base64_parse_exact(checkpoint->root, OL_MERKLE_BYTES, line, length))
		return ol_fail(err, OL_ERR_INPUT,
			       "line 3 of the checkpoint must be the root hash: base64 of %d bytes",
			       OL_MERKLE_BYTES);
	while (text < end) {
		if (!next_line(&line, &length, &text, end) || length == 0)
			return ol_fail(
				err, OL_ERR_INPUT,
				"an extension line of the checkpoint is empty or has no end");
		checkpoint->extension_lines++;
	}
	return OL_OK;
}

bool ol_log_checkpoint_print(struct ol_buf *text, const struct ol_log_checkpoint *checkpoint)
{
	return ol_buf_printf(text, "%s\n%" PRIu64 "\n", checkpoint->origin, checkpoint->size) &&
	       ol_base64_append(text, checkpoint->root, OL_MERKLE_BYTES) &&
	       ol_buf_append_text(text, "\n");
}

enum ol_status ol_log_checkpoint_open(struct ol_log_checkpoint *checkpoint, struct ol_note *note,
				      const char *bytes, size_t size,
				      const struct ol_note_key *log_key, struct ol_error *err)
{
	struct ol_note own;
	if (!note)
		note = &own;
	enum ol_status s = ol_note_parse(note, bytes, size, err);
	if (s == OL_OK)
		s = ol_log_checkpoint_parse(checkpoint, note->text, note->text_size, err);
	if (s != OL_OK)
		return s;
	if (strcmp(checkpoint->origin, log_key->name) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the checkpoint is of the log \"%s\", the key of \"%s\"",
			       checkpoint->origin, log_key->name);
	switch (ol_note_check(note, log_key, NULL)) {
	case OL_NOTE_SIGNED: return OL_OK;
	case OL_NOTE_UNSIGNED:
		return ol_fail(err, OL_ERR_INPUT,
			       "the checkpoint of \"%s\" does not bear the signature of the key "
			       "%08" PRIx32,
			       log_key->name, log_key->id);
	case OL_NOTE_FORGED:
		return ol_fail(
			err, OL_ERR_INPUT,
			"the signature of \"%s\" under its checkpoint is wrong: the text was "
			"changed, or another key signed it",
			log_key->name);
	}
	OL_UNREACHABLE();
}
