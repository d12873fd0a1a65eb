/* Any bytes as a signed note with a checkpoint in it, and as a verifier key. */
#include <string.h>

#include "ledger/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void keys(const char *text)
{
	struct ol_note_key key, again;
	char printed[OL_VERIFIER_KEY_TEXT];
	if (ol_note_key_parse(&key, text, NULL) != OL_OK)
		return;
	ol_note_key_print(printed, &key);
	OL_ASSERT(ol_note_key_parse(&again, printed, NULL) == OL_OK && again.id == key.id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char example[] =
		"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
	struct ol_note note;
	struct ol_note_key key;
	struct ol_log_checkpoint checkpoint;
	char text[OL_VERIFIER_KEY_TEXT];
	OL_ASSERT(ol_note_key_parse(&key, example, NULL) == OL_OK);
	if (size < sizeof text) {
		if (size > 0)
			memcpy(text, data, size);
		text[size] = '\0';
		keys(text);
	}
	if (ol_note_parse(&note, (const char *)data, size, NULL) != OL_OK)
		return 0;
	/* The one note that this key ever signed stands in the specification. */
	if (ol_note_check(&note, &key, NULL) == OL_NOTE_SIGNED)
		OL_ASSERT(note.text_size == 28 &&
			  memcmp(note.text, "This is an example message.\n", 28) == 0);
	if (ol_log_checkpoint_parse(&checkpoint, note.text, note.text_size, NULL) == OL_OK &&
	    checkpoint.extension_lines == 0) {
		struct ol_buf again;
		ol_buf_init(&again, OL_NOTE_BYTES_MAX);
		OL_ASSERT(ol_log_checkpoint_print(&again, &checkpoint));
		OL_ASSERT(again.size == note.text_size &&
			  memcmp(again.data, note.text, again.size) == 0);
		ol_buf_release(&again);
	}
	return 0;
}
