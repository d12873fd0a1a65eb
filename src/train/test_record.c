#include "train/record_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct ol_records *read_text(const char *name, const char *text)
{
	struct ol_records *records = NULL;
	struct ol_error err = {0};
	if (ol_records_open_bytes(&records, name, text, strlen(text), OL_DATA_AUTO, &err) != OL_OK)
		fail_msg("%s", err.text);
	return records;
}

/* The record as its canonical JSON without id. */
static void assert_canonical(const struct ol_record *record, const char *expected)
{
	struct ol_record bare = *record;
	struct ol_buf json;
	bare.id = NULL;
	ol_buf_init(&json, 1 << 20);
	assert_true(ol_record_write(&json, &bare));
	assert_string_equal(json.data, expected);
	ol_buf_release(&json);
}

struct good_row {
	const char *name, *text;
	enum ol_data_format format;
	const char *canonical; /* of the first record */
	size_t count;
};

#define ASKED                                                                                      \
	"{\"contributor\":\"unknown\",\"messages\":[{\"content\":\"Q\",\"role\":\"user\"},"        \
	"{\"content\":\"A\",\"role\":\"assistant\"}]}"

static const struct good_row good_rows[] = {
	{"a.jsonl", "{\"instruction\":\"Q\",\"output\":\"A\"}", OL_DATA_ALPACA, ASKED, 1},
	{"a.jsonl", "\xef\xbb\xbf{\"instruction\":\"Q\",\"input\":\"\",\"output\":\"A\"}\r\n\r\n",
	 OL_DATA_ALPACA, ASKED, 1},
	{"a.json", "[{\"instruction\":\"Do\",\"input\":\"this\",\"output\":\"A\"}]", OL_DATA_ALPACA,
	 "{\"contributor\":\"unknown\",\"messages\":[{\"content\":\"Do\\n\\nthis\","
	 "\"role\":\"user\"},"
	 "{\"content\":\"A\",\"role\":\"assistant\"}]}",
	 1},
	{"a.json",
	 "[{\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"},{\"from\":\"gpt\","
	 "\"value\":\"A\"}]}]",
	 OL_DATA_SHAREGPT, ASKED, 1},
	{"a.jsonl",
	 "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\","
	 "\"content\":[{\"type\":\"text\",\"text\":\"A\"}]}],\"tools\":null}",
	 OL_DATA_MESSAGES, ASKED, 1},
	{"a.jsonl", "{\"prompt\":\"Q\",\"completion\":\"A\",\"score\":[1,-2.5e3,{\"x\":[]},true]}",
	 OL_DATA_PROMPT, ASKED, 1},
	{"a.json",
	 "{\"prompt\":\"Q\",\"completion\":\"A\"}\n{\"prompt\":\"R\",\"completion\":\"B\"}",
	 OL_DATA_PROMPT, ASKED, 2},
	{"no-extension", " {\"prompt\":\"Q\",\"completion\":\"A\"}", OL_DATA_PROMPT, ASKED, 1},
	{"a.jsonl", "{\"text\":\"T\\u00e9 \\ud83d\\ude00\\u0001\\\"\\/\"}", OL_DATA_TEXT,
	 "{\"contributor\":\"unknown\",\"text\":\"T\xc3\xa9 \xf0\x9f\x98\x80\\u0001\\\"/\"}", 1},
	{"a.jsonl", "{\"prompt\":\"Q\",\"chosen\":\"A\",\"rejected\":\"B\"}", OL_DATA_PREFERENCE,
	 "{\"chosen\":\"A\",\"contributor\":\"unknown\",\"messages\":[{\"content\":\"Q\",\"role\":"
	 "\"user\"}],\"rejected\":\"B\"}",
	 1},
	{"a.jsonl",
	 "{\"chosen\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":"
	 "\"A\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\","
	 "\"content\":\"B\"}]}",
	 OL_DATA_PREFERENCE,
	 "{\"chosen\":\"A\",\"contributor\":\"unknown\",\"messages\":[{\"content\":\"Q\",\"role\":"
	 "\"user\"}],\"rejected\":\"B\"}",
	 1},
	{"a.jsonl",
	 "{\"id\":7,\"contributor\":\"Ann\",\"license\":\"CC0-1.0\",\"system\":\"S\","
	 "\"fact\":\"F\","
	 "\"prompt\":\"Q\",\"completion\":\"A\"}",
	 OL_DATA_PROMPT,
	 "{\"contributor\":\"Ann\",\"fact\":\"F\",\"license\":\"CC0-1.0\",\"messages\":[{"
	 "\"content\":\"S\",\"role\":\"system\"},{\"content\":\"Q\",\"role\":\"user\"},{"
	 "\"content\":\"A\",\"role\":\"assistant\"}]}",
	 1},
	{"a.csv", "prompt,completion\nQ,A\n", OL_DATA_PROMPT, ASKED, 1},
	{"a.csv", "Prompt,ignored,COMPLETION\r\n\"Q\",\"x, y\",A\r\n\r\nR,,B", OL_DATA_PROMPT,
	 ASKED, 2},
	{"a.csv", "prompt,completion\n\"Q \"\"1\"\",\n2\",A\n", OL_DATA_PROMPT,
	 "{\"contributor\":\"unknown\",\"messages\":[{\"content\":\"Q \\\"1\\\",\\n2\",\"role\":"
	 "\"user\"},{\"content\":\"A\",\"role\":\"assistant\"}]}",
	 1},
	{"a.txt", "\n one\r\n\r\ntwo \n", OL_DATA_PLAIN,
	 "{\"contributor\":\"unknown\",\"text\":\"one\\n\\ntwo\"}", 1},
	{"a.md", "# Title\n\n## One\ntext\n```\n# no heading\n```\n## Two\nmore\n",
	 OL_DATA_MARKDOWN,
	 "{\"contributor\":\"unknown\",\"text\":\"# Title\\n\\n## One\\ntext\\n```\\n# no "
	 "heading\\n```\"}",
	 2},
};

static void test_every_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(good_rows); i++) {
		const struct good_row *row = &good_rows[i];
		struct ol_records *records = read_text(row->name, row->text);
		assert_int_equal(ol_records_count(records), row->count);
		assert_int_equal(ol_records_at(records, 0)->format, row->format);
		assert_canonical(ol_records_at(records, 0), row->canonical);
		ol_records_close(records);
	}
}

struct bad_row {
	const char *name, *text, *sentence;
};

static const struct bad_row bad_rows[] = {
	{"a.jsonl", "", "a.jsonl:1: there is no record"},
	{"a.jsonl", "\n\n", "there is no record"},
	{"a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\",\"text\":\"c\"}\n",
	 "a.jsonl:2: the field \"text\" stands twice"},
	{"a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"",
	 "a.jsonl:2: field \"text\" is not followed"},
	{"a.jsonl", "{\"text\":\"a\"} {\"text\":\"b\"}", "a.jsonl:1: something follows the record"},
	{"a.jsonl", "{\"text\":\"a}\n", "a.jsonl:1: field \"text\" has a text without its closing"},
	{"a.jsonl", "{\"text\":\"\\x\"}", "a.jsonl:1: field \"text\" has an escape"},
	{"a.jsonl", "{\"text\":\"a\\u0000\"}", "field \"text\" has a NUL"},
	{"a.jsonl", "{\"text\":\"\\ud800\"}", "field \"text\" has an escape"},
	{"a.jsonl", "{\"text\":5}", "a.jsonl:1: field \"text\" is not a text"},
	{"a.jsonl", "{\"text\":[\"a\"]}", "field \"text\" is a list"},
	{"a.jsonl", "{\"text\":{}}", "field \"text\" is an object"},
	{"a.jsonl", "{\"text\":\"a\",\"n\":01}", "field \"n\" has a value that is not JSON"},
	{"a.jsonl", "{\"text\":\"a\",\"n\":[1,]}", "field \"n\" has no value here"},
	{"a.jsonl", "{\"text\":\"a\",}", "a comma is too many"},
	{"a.jsonl", "{\"text\":\" \\n\"}", "field \"text\" is empty"},
	{"a.jsonl", "{\"text\":null}", "the record has none of the fields"},
	{"a.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}", "the record has none of the fields"},
	{"a.jsonl", "[1]", "a record must stand here"},
	{"a.jsonl", "\xff", "a.jsonl:1: byte 0 of the file (0xff) is not UTF-8"},
	{"a.jsonl", "\xff\xfe{", "UTF-16"},
	{"a.jsonl", "{\"instruction\":\"Q\"}", "a.jsonl:1: field \"output\" is missing"},
	{"a.jsonl", "{\"prompt\":\"Q\",\"completion\":\"A\"}\n\n{\"text\":\"T\"}",
	 "a.jsonl:3: field \"prompt\" is missing: a record of the kind \"prompt\", as "
	 "the first one"},
	{"a.jsonl", "{\"messages\":[]}", "does not end with an answer"},
	{"a.jsonl", "{\"messages\":\"x\"}", "field \"messages\" is a text"},
	{"a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"}]}",
	 "does not end with an answer"},
	{"a.jsonl", "{\"messages\":[{\"role\":\"tool\",\"content\":\"Q\"}]}",
	 "field \"role\" is \"tool\""},
	{"a.jsonl", "{\"messages\":[{\"role\":\"user\"}]}", "field \"content\" is missing"},
	{"a.jsonl", "{\"messages\":[{\"content\":\"Q\"}]}", "field \"role\" is missing"},
	{"a.jsonl", "{\"messages\":[{\"role\":\"user\",\"from\":\"human\",\"content\":\"Q\"}]}",
	 "field \"from\" says again"},
	{"a.jsonl",
	 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
	 "\"url\":\"x\"}]}]}",
	 "field \"content\" has a part whose type is not"},
	{"a.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"content\":\" \"}]}",
	 "turn 1 (assistant) is empty"},
	{"a.jsonl",
	 "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":"
	 "\"A\",\"tool_calls\":[]}]}",
	 "field \"tool_calls\" is something that cannot be learned"},
	{"a.jsonl",
	 "{\"system\":\"S\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
	 "\"assistant\",\"content\":\"A\"}]}",
	 "field \"system\" and the conversation's own system turn"},
	{"a.jsonl", "{\"system\":\"S\",\"text\":\"T\"}",
	 "field \"system\" does not belong to a text"},
	{"a.jsonl", "{\"prompt\":\"Q\",\"chosen\":\"A\"}", "field \"rejected\" is missing"},
	{"a.jsonl", "{\"chosen\":\"A\",\"rejected\":\"B\"}", "field \"prompt\" is missing"},
	{"a.jsonl",
	 "{\"messages\":[{\"role\":\"assistant\",\"content\":\"Q\"}],\"chosen\":\"A\",\"rejected\":"
	 "\"B\"}",
	 "ends with the assistant's turn"},
	{"a.jsonl",
	 "{\"chosen\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":"
	 "\"A\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"R\"},{\"role\":\"assistant\","
	 "\"content\":\"B\"}]}",
	 "field \"rejected\" begins with other turns"},
	{"a.jsonl", "{\"id\":\"x\",\"text\":\"a\"}\n{\"id\":\"x\",\"text\":\"b\"}",
	 "a.jsonl:2: field \"id\" is \"x\", as that of a.jsonl:1"},
	{"a.jsonl", "{\"id\":\"\",\"text\":\"a\"}", "field \"id\" is empty"},
	{"a.jsonl", "{\"id\":\"a\\nb\",\"text\":\"a\"}", "field \"id\" has a line end"},
	{"a.jsonl", "{\"contributor\":true,\"text\":\"a\"}", "field \"contributor\" is not a text"},
	{"a.json", "[{\"text\":\"a\"}\n{\"text\":\"b\"}]", "a.json:2: a ',' or ']' must stand"},
	{"a.json", "[{\"text\":\"a\"}] x", "something follows the end of the list"},
	{"a.json", "[{\"text\":\"a\"},]", "a record must stand here"},
	{"a.json", "[\n{\n\"text\":\n\"a}]", "a.json:4: field \"text\" has a text without"},
	{"a.csv", "prompt,prompt\n", "field \"prompt\" names two columns"},
	{"a.csv", "prompt;completion\nQ;A\n", "a.csv:1: the header row names no column"},
	{"a.csv", "prompt,completion\n\nQ,A\nQ\n",
	 "a.csv:4: the row has 1 cells where the header has 2"},
	{"a.csv", "prompt,completion\nQ,A,B\n", "a.csv:2: the row has more cells"},
	{"a.csv", "prompt,completion\n\"Q\n,A\n",
	 "a.csv:2: field \"prompt\" column 1 opens a quote"},
	{"a.csv", "prompt,completion\nQ,A\"B\n",
	 "a.csv:2: field \"completion\" column 2 has a quote in the middle"},
	{"a.csv", "prompt,completion\n\"Q\nx\" y,A\n",
	 "a.csv:3: field \"prompt\" column 1 has text after its closing quote"},
	{"a.csv", "prompt,completion\nQ,\n", "a.csv:2: field \"completion\" is missing"},
	{"a.csv", "messages\nx\n", "field \"messages\" does not fit into a table"},
	{"a.csv", "prompt,completion\n", "there is no record"},
	{"a.csv", "", "the header row names no column"},
	{"a.txt", " \n", "there is no record"},
	{"a.bin", "hello", "nobody can tell what kind"},
};

static void test_every_refusal(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(bad_rows); i++) {
		const struct bad_row *row = &bad_rows[i];
		struct ol_records *records = NULL;
		struct ol_error err = {0};
		const enum ol_status s = ol_records_open_bytes(
			&records, row->name, row->text, strlen(row->text), OL_DATA_AUTO, &err);
		if (s == OL_OK || !strstr(err.text, row->sentence) || strchr(err.text, '\n') ||
		    strncmp(err.text, row->name, strlen(row->name)) != 0)
			fail_msg("row %zu: \"%s\" instead of \"%s\"", i, s ? err.text : "accepted",
				 row->sentence);
	}
}

static void hash_of(const char *name, const char *text, uint8_t out[OL_SHA256_BYTES])
{
	struct ol_records *records = read_text(name, text);
	assert_int_equal(ol_records_sha256(records, out, NULL), OL_OK);
	ol_records_close(records);
}

/* The same data in four kinds of file: ids, and so the snapshot, are the same. */
static void test_snapshot_knows_no_format(void **state)
{
	static const char *const same[][2] = {
		{"b.json", "[{\"instruction\":\"Q\",\"output\":\"A\"},{\"instruction\":\"R\","
			   "\"output\":\"B\"}]"},
		{"c.csv", "completion,prompt\nA,Q\nB,R\n"},
		{"d.jsonl", "{\"conversations\":[{\"from\":\"user\",\"value\":\"Q\"},{\"from\":"
			    "\"gpt\",\"value\":\"A\"}]}\n\n{\"conversations\":[{\"from\":\"human\","
			    "\"value\":\"R\"},{\"from\":\"gpt\",\"value\":\"B\"}]}"},
	};
	static const char *const other[][2] = {
		{"c.csv", "completion,prompt\nB,R\nA,Q\n"},
		{"c.csv", "completion,prompt\nA,Q\n"},
		{"c.csv", "completion,prompt,contributor\nA,Q,Ann\nB,R,\n"},
		{"c.csv", "completion,prompt,id\nA,Q,1\nB,R,\n"},
	};
	uint8_t first[OL_SHA256_BYTES], next[OL_SHA256_BYTES];
	(void)state;
	hash_of("a.jsonl",
		"{\"prompt\":\"Q\",\"completion\":\"A\"}\n{\"prompt\":\"R\",\"completion\":\"B\"}",
		first);
	for (size_t i = 0; i < OL_ARRAY_LEN(same); i++) {
		hash_of(same[i][0], same[i][1], next);
		assert_memory_equal(first, next, sizeof first);
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(other); i++) {
		hash_of(other[i][0], other[i][1], next);
		assert_memory_not_equal(first, next, sizeof first);
	}
}

/* Canonical records, one a line, are a data file with the same snapshot. */
static void test_canonical_is_readable(void **state)
{
	(void)state;
	struct ol_records *records = read_text(
		"a.jsonl",
		"{\"prompt\":\"Q\\u001f\\t\",\"chosen\":\"A\",\"rejected\":\"B\",\"system\":"
		"\"S\",\"license\":\"MIT\"}\n{\"prompt\":\"Q\",\"chosen\":\"A\","
		"\"rejected\":\"\\\\\",\"fact\":\"F\"}");
	struct ol_buf lines;
	uint8_t first[OL_SHA256_BYTES], next[OL_SHA256_BYTES];
	ol_buf_init(&lines, 1 << 20);
	for (size_t i = 0; i < ol_records_count(records); i++) {
		assert_true(ol_record_write(&lines, ol_records_at(records, i)));
		assert_true(ol_buf_append_text(&lines, "\n"));
	}
	assert_int_equal(ol_records_sha256(records, first, NULL), OL_OK);
	hash_of("b.jsonl", lines.data, next);
	assert_memory_equal(first, next, sizeof first);
	ol_buf_release(&lines);
	ol_records_close(records);
}

/* The golden hash: tests/oracle would compute the same by RFC 8785 and RFC 6962 (docs/FORMATS.md):
 * leaf = SHA-256(00 || {"contributor":"unknown","id":"1","text":"a"}), and so on. */
static void test_snapshot_by_hand(void **state)
{
	static const char *const leaves[] = {
		"\0{\"contributor\":\"unknown\",\"id\":\"1\",\"text\":\"a\"}",
		"\0{\"contributor\":\"Ann\",\"id\":\"2\",\"license\":\"MIT\",\"text\":\"b\"}"};
	uint8_t node[1 + 2 * OL_SHA256_BYTES] = {1}, root[OL_SHA256_BYTES], ours[OL_SHA256_BYTES];
	(void)state;
	for (size_t i = 0; i < 2; i++)
		ol_sha256(node + 1 + i * OL_SHA256_BYTES, leaves[i], 1 + strlen(leaves[i] + 1));
	ol_sha256(root, node, sizeof node);
	hash_of("a.jsonl",
		"{\"text\":\"a\",\"id\":1}\n{\"id\":\"2\",\"text\":\"b\",\"license\":\"MIT\","
		"\"contributor\":\"Ann\"}",
		ours);
	assert_memory_equal(root, ours, sizeof root);
}

static void test_ids_of_repeated_records(void **state)
{
	(void)state;
	struct ol_records *records =
		read_text("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"a\"}\n"
				     "{\"text\":\"a\"}\n");
	char second[64], third[64];
	const char *first = ol_records_at(records, 0)->id;
	assert_int_equal(strlen(first), 16);
	assert_string_not_equal(first, ol_records_at(records, 1)->id);
	snprintf(second, sizeof second, "%s-2", first);
	snprintf(third, sizeof third, "%s-3", first);
	assert_string_equal(ol_records_at(records, 2)->id, second);
	assert_string_equal(ol_records_at(records, 3)->id, third);
	assert_int_equal(ol_records_at(records, 3)->line, 4);
	ol_records_close(records);
}

/* Many records: the tables of ids and names grow. */
static void test_many_records(void **state)
{
	struct ol_buf text;
	(void)state;
	ol_buf_init(&text, 64 << 20);
	for (int i = 0; i < 20000; i++)
		ol_buf_printf(&text, "{\"id\":%d,\"contributor\":\"c%d\",\"text\":\"%d\"}\n", i,
			      i % 300, i * 7);
	struct ol_records *records = read_text("a.jsonl", text.data);
	assert_int_equal(ol_records_count(records), 20000);
	assert_string_equal(ol_records_at(records, 12345)->id, "12345");
	assert_ptr_equal(ol_records_at(records, 5)->contributor,
			 ol_records_at(records, 305)->contributor);
	assert_int_equal(ol_records_at(records, 12345)->line, 12346);
	ol_records_close(records);
	ol_buf_release(&text);
}

/* A long text is cut at an empty line, else at a line end, else between characters; nothing but
 * the white space at the cuts is lost. */
static void test_long_texts(void **state)
{
	static const char *const fillers[] = {"word word\n\nword\n", "word word\nword\n",
					      "\xc3\xa9"};
	(void)state;
	for (size_t f = 0; f < OL_ARRAY_LEN(fillers); f++) {
		struct ol_buf text;
		ol_buf_init(&text, 64 << 20);
		while (text.size < 3 * (size_t)OL_RECORD_PIECE)
			ol_buf_append_text(&text, fillers[f]);
		struct ol_records *records = read_text("a.txt", text.data);
		const size_t count = ol_records_count(records);
		size_t at = 0;
		assert_true(count >= 3 && count <= 5);
		for (size_t i = 0; i < count; i++) {
			const struct ol_record *record = ol_records_at(records, i);
			const struct ol_turn *turn = &record->turns[0];
			uint32_t line = 1;
			assert_true(turn->size <= OL_RECORD_PIECE);
			while (text.data[at] == '\n')
				at++;
			assert_memory_equal(text.data + at, turn->text, turn->size);
			for (size_t k = 0; k < at; k++)
				line += text.data[k] == '\n';
			assert_int_equal(record->line, line);
			at += turn->size;
			if (f == 0)
				assert_memory_equal(text.data + at, i + 1 < count ? "\n\n" : "\n",
						    i + 1 < count ? 2 : 1);
		}
		ol_records_close(records);
		ol_buf_release(&text);
	}
}

/* ---- files, folders and their cards ---- */

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static char *make_folder(char folder[32])
{
	snprintf(folder, 32, "/tmp/openledger-data-XXXXXX");
	assert_non_null(mkdtemp(folder));
	return folder;
}

static void remove_folder(const char *folder, const char *const *names, size_t count)
{
	char path[512];
	for (size_t i = count; i-- > 0;) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		assert_int_equal(remove(path), 0);
	}
	assert_int_equal(rmdir(folder), 0);
}

static void test_folder(void **state)
{
	static const char *const names[] = {"sub",       "sub/c.txt",   "b.jsonl",   "a.csv",
					    "card.json", "b.card.json", "README.md", ".hidden.md"};
	char folder[32], path[64], file[64];
	struct ol_records *records;
	struct ol_error err = {0};
	const struct ol_source_card *cards;
	(void)state;
	make_folder(folder);
	snprintf(path, sizeof path, "%s/sub", folder);
	assert_int_equal(mkdir(path, 0755), 0);
	write_file(folder, "sub/c.txt", "plain");
	write_file(folder, "b.jsonl", "{\"text\":\"b\",\"license\":\"MIT\"}\n{\"text\":\"bb\"}");
	write_file(folder, "a.csv", "text\na\n");
	write_file(folder, "card.json",
		   "{\"license\":\"CC-BY-4.0\",\"attribution\":\"by Ann\",\"contributor\":\"Ann\","
		   "\"terms\":{\"commercial\":false},\"url\":\"https://example.org\"}");
	write_file(folder, "b.card.json",
		   "{\"license\":\"GPL-2.0-only\",\"terms\":{\"train\":false}}");
	write_file(folder, "README.md", "# not data\n\ntext");
	write_file(folder, ".hidden.md", "no");
	const char *paths[] = {folder};
	if (ol_records_open(&records, paths, 1, OL_DATA_AUTO, &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_int_equal(ol_records_count(records), 4);
	snprintf(file, sizeof file, "%s/a.csv", folder);
	assert_string_equal(ol_records_at(records, 0)->file, file);
	assert_string_equal(ol_records_at(records, 0)->contributor, "Ann");
	assert_string_equal(ol_records_at(records, 0)->license, "CC-BY-4.0");
	assert_string_equal(ol_records_at(records, 1)->license, "MIT");
	assert_string_equal(ol_records_at(records, 2)->license, "GPL-2.0-only");
	assert_string_equal(ol_records_at(records, 2)->contributor, "unknown");
	assert_null(ol_records_at(records, 3)->license);
	assert_int_equal(ol_records_cards(records, &cards), 4);
	assert_string_equal(cards[0].attribution, "by Ann");
	assert_true(cards[0].train && cards[0].export_ && !cards[0].commercial);
	assert_false(cards[1].train);
	assert_true(cards[3].train && cards[3].commercial);
	assert_int_equal(ol_records_may_train(records, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "b.jsonl forbid training"));
	ol_records_close(records);
	write_file(folder, "b.card.json", "{\"terms\":{\"training\":false}}");
	assert_int_equal(ol_records_open(&records, paths, 1, OL_DATA_AUTO, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "b.card.json: terms have no field \"training\""));
	remove_folder(folder, names, OL_ARRAY_LEN(names));
	assert_int_equal(ol_records_open(&records, paths, 1, OL_DATA_AUTO, &err), OL_ERR_NOT_FOUND);
}

static void test_licenses(void **state)
{
	static const struct {
		const char *a, *b;
		bool conflict;
	} rows[] = {
		{"MIT", "Apache-2.0", false},
		{"MIT", "GPL-2.0-only", false},
		{NULL, "GPL-2.0-only", false},
		{"GPL-2.0-only", "GPL-3.0-only", true},
		{"GPL-2.0-or-later", "GPL-3.0-only", false},
		{"GPL-2.0-or-later", "GPL-2.0-only", false},
		{"GPL-3.0-or-later", "AGPL-3.0-only", false},
		{"GPL-2.0-only", "AGPL-3.0-only", true},
		{"CC-BY-SA-3.0", "CC-BY-SA-4.0", false},
		{"CC-BY-SA-4.0", "GPL-3.0-only", false},
		{"CC-BY-SA-3.0", "GPL-3.0-only", true},
		{"CC-BY-SA-4.0", "GFDL-1.3-only", true},
		{"CC-BY-NC-4.0", "CC-BY-SA-4.0", true},
		{"CC-BY-NC-4.0", "CC-BY-4.0", false},
		{"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", false},
		{"CC-BY-ND-4.0", "MIT", true},
		{"GPL-2.0-only OR MIT", "GPL-3.0-only", false},
		{"GPL-2.0-only AND MIT", "GPL-3.0-only", true},
		{"(GPL-2.0-only OR CC-BY-SA-3.0)", "GPL-3.0-only OR GFDL-1.3-only", true},
		{"GPL-2.0-only WITH Classpath-exception-2.0", "MIT", false},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		if (ol_licenses_conflict(rows[i].a, rows[i].b) != rows[i].conflict ||
		    ol_licenses_conflict(rows[i].b, rows[i].a) != rows[i].conflict)
			fail_msg("%s and %s", rows[i].a ? rows[i].a : "nothing", rows[i].b);
	struct ol_records *records =
		read_text("a.jsonl", "{\"text\":\"a\",\"license\":\"MIT\"}\n"
				     "{\"text\":\"b\",\"license\":\"GPL-2.0-only\"}\n"
				     "{\"text\":\"c\",\"license\":\"GPL-3.0-only\"}\n"
				     "{\"text\":\"d\",\"license\":\"CC-BY-SA-3.0\"}\n");
	int a = 0, b = 0;
	assert_true(ol_records_conflict(records, &a, &b) && a == 1 && b == 2);
	assert_true(ol_records_conflict(records, &a, &b) && a == 1 && b == 3);
	assert_true(ol_records_conflict(records, &a, &b) && a == 2 && b == 3);
	assert_false(ol_records_conflict(records, &a, &b));
	ol_records_close(records);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_format),
		cmocka_unit_test(test_every_refusal),
		cmocka_unit_test(test_snapshot_knows_no_format),
		cmocka_unit_test(test_canonical_is_readable),
		cmocka_unit_test(test_snapshot_by_hand),
		cmocka_unit_test(test_ids_of_repeated_records),
		cmocka_unit_test(test_many_records),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_licenses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
