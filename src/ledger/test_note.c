/* Signed notes, cosignatures and checkpoints: the examples of the C2SP specifications, one row per
 * refusal, and every single-bit flip. */
#include "crypto/text.h"
#include "ledger/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define DASH "\xe2\x80\x94 "

/* c2sp.org/signed-note v1.0.0, "Example". */
static const char foo_key[] =
	"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
static const char foo_note[] =
	"This is an example message.\n"
	"\n" DASH "example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYj"
	"OBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/* c2sp.org/tlog-cosignature: a checkpoint with the signatures of its log and of a witness. */
static const char sofa_text[] = "example.com/behind-the-sofa\n"
				"20852163\n"
				"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
static const char sofa_note[] =
	"example.com/behind-the-sofa\n"
	"20852163\n"
	"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
	"\n" DASH "example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URY"
	"N7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n" DASH
	"witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b"
	"2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

static void test_the_example_of_the_specification(void **state)
{
	(void)state;
	struct ol_note_key key;
	struct ol_note note;
	char text[OL_VERIFIER_KEY_TEXT];
	assert_int_equal(ol_note_key_parse(&key, foo_key, NULL), OL_OK);
	assert_string_equal(key.name, "example.com/foo");
	assert_int_equal(key.id, 0x530d903a);
	ol_note_key_print(text, &key);
	assert_string_equal(text, foo_key);
	assert_int_equal(ol_note_parse(&note, foo_note, sizeof foo_note - 1, NULL), OL_OK);
	assert_int_equal(note.line_count, 1);
	assert_int_equal(note.text_size, strlen("This is an example message.\n"));
	assert_int_equal(ol_note_check(&note, &key, NULL), OL_NOTE_SIGNED);
}

static void test_the_checkpoint_of_the_specification(void **state)
{
	(void)state;
	struct ol_note note;
	struct ol_log_checkpoint checkpoint;
	struct ol_buf again;
	assert_int_equal(ol_note_parse(&note, sofa_note, sizeof sofa_note - 1, NULL), OL_OK);
	assert_int_equal(note.line_count, 2);
	assert_int_equal(note.lines[1].id, 0x8d66cf3f);
	assert_int_equal(ol_log_checkpoint_parse(&checkpoint, note.text, note.text_size, NULL),
			 OL_OK);
	assert_string_equal(checkpoint.origin, "example.com/behind-the-sofa");
	assert_int_equal(checkpoint.size, 20852163);
	ol_buf_init(&again, OL_NOTE_BYTES_MAX);
	assert_true(ol_log_checkpoint_print(&again, &checkpoint));
	assert_string_equal(again.data, sofa_text);
	ol_buf_release(&again);
}

static void make_keys(struct ol_ed25519_key *secret, struct ol_note_key *log,
		      struct ol_note_key *witness)
{
	const uint8_t seed[32] = {1, 2, 3};
	ol_ed25519_key_from_seed(secret, seed);
	assert_int_equal(ol_note_key_init(log, "example.com/behind-the-sofa", OL_NOTE_ED25519,
					  secret->public_key, NULL),
			 OL_OK);
	assert_int_equal(ol_note_key_init(witness, "witness.example/w\xc3\xa9", OL_NOTE_COSIGNATURE,
					  secret->public_key, NULL),
			 OL_OK);
}

static void make_note(struct ol_buf *out, uint64_t time)
{
	struct ol_ed25519_key secret;
	struct ol_note_key log, witness;
	make_keys(&secret, &log, &witness);
	ol_buf_init(out, OL_NOTE_BYTES_MAX);
	assert_true(ol_note_append_text(out, sofa_text, sizeof sofa_text - 1));
	assert_true(ol_note_sign(out, &log, &secret, sofa_text, sizeof sofa_text - 1));
	assert_true(ol_note_cosign(out, &witness, &secret, time, sofa_text, sizeof sofa_text - 1));
}

/* The two kinds of signature do not stand for one another, though the key is the same. */
static void test_signing_and_cosigning(void **state)
{
	(void)state;
	static const char signed_by_hand[] = "cosignature/v1\ntime 1679315147\n";
	struct ol_ed25519_key secret;
	struct ol_note_key log, witness;
	struct ol_note note;
	struct ol_buf buf, message;
	uint64_t time;
	uint8_t bytes[4 + 8 + 64];
	make_keys(&secret, &log, &witness);
	assert_int_not_equal(log.id, witness.id);
	make_note(&buf, 1679315147);
	assert_int_equal(ol_note_parse(&note, buf.data, buf.size, NULL), OL_OK);
	assert_int_equal(ol_note_check(&note, &log, &time), OL_NOTE_SIGNED);
	assert_int_equal(time, 0);
	assert_int_equal(ol_note_check(&note, &witness, &time), OL_NOTE_SIGNED);
	assert_int_equal(time, 1679315147);
	/* The message, written out as the specification has it. */
	ol_buf_init(&message, 4096);
	ol_buf_append_text(&message, signed_by_hand);
	ol_buf_append_text(&message, sofa_text);
	assert_true(ol_base64_parse_exact(bytes, sizeof bytes, note.lines[1].base64,
					  note.lines[1].base64_length));
	assert_memory_equal(bytes + 4, "\0\0\0\0\x64\x18\x50\xcb", 8);
	assert_true(ol_ed25519_verify(secret.public_key, bytes + 12, message.data, message.size));
	ol_buf_release(&message);
	ol_buf_release(&buf);
}

/* Flips every bit of a note: what comes out is refused, or signed by neither key as it was. */
static void test_every_flipped_bit(void **state)
{
	(void)state;
	struct ol_ed25519_key secret;
	struct ol_note_key log, witness;
	struct ol_buf buf;
	make_keys(&secret, &log, &witness);
	make_note(&buf, 7);
	for (size_t bit = 0; bit < 8 * buf.size; bit++) {
		struct ol_note note;
		uint64_t time;
		buf.data[bit / 8] ^= (char)(1 << bit % 8);
		if (ol_note_parse(&note, buf.data, buf.size, NULL) == OL_OK)
			assert_false(ol_note_check(&note, &log, NULL) == OL_NOTE_SIGNED &&
				     ol_note_check(&note, &witness, &time) == OL_NOTE_SIGNED);
		buf.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	ol_buf_release(&buf);
}

static void test_what_is_no_note(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"",
		"\n",
		"text\n",
		"text\n\n",                       /* no signature              */
		"text\n" DASH "a AAAAAAA=\n",     /* no empty line             */
		"text\n\n" DASH "a AAAAAAA=",     /* no newline at the end     */
		"text\n\n- a AAAAAAA=\n",         /* another dash              */
		"text\n\n" DASH "a\n",            /* no base64                 */
		"text\n\n" DASH "a AAAAAA==\n",   /* an id and nothing behind  */
		"text\n\n" DASH "a AAAAAAA= \n",  /* a space behind            */
		"text\n\n" DASH "a  AAAAAAA=\n",  /* two spaces                */
		"text\n\n" DASH " AAAAAAA=\n",    /* no name                   */
		"text\n\n" DASH "a+b AAAAAAA=\n", /* a plus in the name        */
		"text\n\n" DASH "a\xc2\xa0"
		"b AAAAAAA=\n",                   /* a space of Unicode     */
		"text\n\n" DASH "a AAAAAAB=\n",   /* bits behind the last byte */
		"te\txt\n\n" DASH "a AAAAAAA=\n", /* a control character       */
		"te\rxt\n\n" DASH "a AAAAAAA=\n",
		"te\xc0\x80xt\n\n" DASH "a AAAAAAA=\n",     /* UTF-8 in too many bytes   */
		"te\xed\xa0\x80xt\n\n" DASH "a AAAAAAA=\n", /* half a surrogate pair  */
		"te\xf4\x90\x80\x80\n\n" DASH "a AAAAAAA=\n",
	};
	struct ol_note note;
	const char *good = "text\n\n" DASH "a AAAAAAA=\n";
	assert_int_equal(ol_note_parse(&note, good, strlen(good), NULL), OL_OK);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		assert_int_equal(ol_note_parse(&note, rows[i], strlen(rows[i]), NULL),
				 OL_ERR_INPUT);
}

static void test_many_signatures(void **state)
{
	(void)state;
	struct ol_buf buf;
	struct ol_note note;
	ol_buf_init(&buf, OL_NOTE_BYTES_MAX);
	ol_buf_append_text(&buf, "text\n\n");
	for (int i = 0; i < OL_NOTE_SIGNATURES_MAX; i++)
		ol_buf_append_text(&buf, DASH "a AAAAAAA=\n");
	assert_int_equal(ol_note_parse(&note, buf.data, buf.size, NULL), OL_OK);
	assert_int_equal(note.line_count, OL_NOTE_SIGNATURES_MAX);
	ol_buf_append_text(&buf, DASH "a AAAAAAA=\n");
	assert_int_equal(ol_note_parse(&note, buf.data, buf.size, NULL), OL_ERR_INPUT);
	ol_buf_release(&buf);
}

/* The key pair of the documentation of Go's sumdb/note, which other programs read and write. */
static void test_private_keys(void **state)
{
	(void)state;
	static const char go_secret[] =
		"PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
	static const char go_key[] =
		"PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
	struct ol_note_key key;
	struct ol_ed25519_key secret;
	char text[OL_NOTE_SECRET_TEXT], changed[sizeof go_secret];
	assert_int_equal(ol_note_secret_parse(&key, &secret, go_secret, NULL), OL_OK);
	ol_note_key_print(text, &key);
	assert_string_equal(text, go_key);
	ol_note_secret_print(text, &key, &secret);
	assert_string_equal(text, go_secret);
	for (size_t i = 0; i + 1 < sizeof go_secret; i++) {
		memcpy(changed, go_secret, sizeof changed);
		changed[i] = changed[i] == 'A' ? 'B' : 'A';
		assert_int_equal(ol_note_secret_parse(&key, &secret, changed, NULL), OL_ERR_INPUT);
	}
}

static void test_what_is_no_verifier_key(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum ol_status status;
	} rows[] = {
		{"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", OL_OK},
		{"example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
		 OL_ERR_INPUT},
		{"example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
		 OL_ERR_INPUT},
		{"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U",
		 OL_ERR_INPUT},
		{"example.com/foo+530d903a+BukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
		 OL_ERR_UNSUPPORTED},
		{"+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", OL_ERR_INPUT},
		{"example.com/foo+530d903a", OL_ERR_INPUT},
		{"example.com/foo", OL_ERR_INPUT},
		{"", OL_ERR_INPUT},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_note_key key;
		assert_int_equal(ol_note_key_parse(&key, rows[i].text, NULL), rows[i].status);
	}
}

#define ROOT "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="

static void test_what_is_no_checkpoint(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum ol_status status;
	} rows[] = {
		{"log\n0\n" ROOT "\n", OL_OK},
		{"log\n9223372036854775807\n" ROOT "\n", OL_OK},
		{"log\n1\n" ROOT "\nan extension\nand one more\n", OL_OK},
		{"log\n9223372036854775808\n" ROOT "\n", OL_ERR_INPUT},
		{"log\n18446744073709551617\n" ROOT "\n", OL_ERR_INPUT},
		{"log\n01\n" ROOT "\n", OL_ERR_INPUT},
		{"log\n+1\n" ROOT "\n", OL_ERR_INPUT},
		{"log\n1 \n" ROOT "\n", OL_ERR_INPUT},
		{"log\n\n" ROOT "\n", OL_ERR_INPUT},
		{"\n1\n" ROOT "\n", OL_ERR_INPUT},
		{"log\n1\n" ROOT, OL_ERR_INPUT},
		{"log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==\n", OL_ERR_INPUT},
		{"log\n1\n", OL_ERR_INPUT},
		{"log\n1\n" ROOT "\n\n", OL_ERR_INPUT},
		{"log\n1\n" ROOT "\nno end", OL_ERR_INPUT},
		{"log\n1\n" ROOT "\n\x01\n", OL_ERR_INPUT},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_log_checkpoint checkpoint;
		assert_int_equal(ol_log_checkpoint_parse(&checkpoint, rows[i].text,
							 strlen(rows[i].text), NULL),
				 rows[i].status);
	}
}

static void test_opening_a_checkpoint(void **state)
{
	(void)state;
	struct ol_ed25519_key secret;
	struct ol_note_key log, witness, other;
	struct ol_log_checkpoint checkpoint;
	struct ol_error err = {0};
	struct ol_buf buf;
	const uint8_t seed[32] = {9};
	make_keys(&secret, &log, &witness);
	make_note(&buf, 7);
	assert_int_equal(ol_log_checkpoint_open(&checkpoint, NULL, buf.data, buf.size, &log, &err),
			 OL_OK);
	/* Somebody else's key under the same name is unknown; another log is another log. */
	ol_ed25519_key_from_seed(&secret, seed);
	assert_int_equal(
		ol_note_key_init(&other, log.name, OL_NOTE_ED25519, secret.public_key, NULL),
		OL_OK);
	assert_int_equal(
		ol_log_checkpoint_open(&checkpoint, NULL, buf.data, buf.size, &other, &err),
		OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "does not bear the signature"));
	assert_int_equal(ol_note_key_init(&other, "example.com/other", OL_NOTE_ED25519,
					  secret.public_key, NULL),
			 OL_OK);
	assert_int_equal(
		ol_log_checkpoint_open(&checkpoint, NULL, buf.data, buf.size, &other, &err),
		OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "is of the log"));
	buf.data[30] ^= 1; /* a digit of the size */
	assert_int_equal(ol_log_checkpoint_open(&checkpoint, NULL, buf.data, buf.size, &log, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "is wrong"));
	ol_buf_release(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_example_of_the_specification),
		cmocka_unit_test(test_the_checkpoint_of_the_specification),
		cmocka_unit_test(test_signing_and_cosigning),
		cmocka_unit_test(test_every_flipped_bit),
		cmocka_unit_test(test_what_is_no_note),
		cmocka_unit_test(test_many_signatures),
		cmocka_unit_test(test_private_keys),
		cmocka_unit_test(test_what_is_no_verifier_key),
		cmocka_unit_test(test_what_is_no_checkpoint),
		cmocka_unit_test(test_opening_a_checkpoint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
