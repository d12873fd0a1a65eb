#include "train/dataset.h"

#include "model/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Byte-level BPE: 256 bytes, the merges t+h and th+e, and three special tokens. */
enum { TH = 256, THE = 257, BOS = 258, START = 259, END = 260, VOCAB = 261 };

static void put_byte(struct ol_buf *json, int byte)
{
	char utf8[4];
	uint32_t code = (uint32_t)byte;
	if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)) {
		code = 256;
		for (int b = 0; b < byte; b++)
			code += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
	}
	if (byte == '"' || byte == '\\')
		ol_buf_append(json, "\\", 1);
	ol_buf_append(json, utf8, ol_utf8_put(utf8, code));
}

static struct ol_tokenizer *make_tokenizer(bool opens)
{
	static const char *const special[] = {"<s>", "<|im_start|>", "<|im_end|>"};
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_error err = {0};
	struct ol_buf json;
	ol_buf_init(&json, 1 << 20);
	ol_buf_append_text(&json, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
				  "\"added_tokens\":[");
	for (int i = 0; i < 3; i++)
		ol_buf_printf(&json,
			      "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":"
			      "false,\"rstrip\":false,\"normalized\":false,\"special\":true}",
			      i ? "," : "", BOS + i, special[i]);
	ol_buf_append_text(&json,
			   "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
			   "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
			   "\"post_processor\":");
	ol_buf_append_text(
		&json,
		opens ? "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
			"\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
			"\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
			"{\"Sequence\":{\"id\":"
			"\"B\",\"type_id\":1}}],"
			"\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":"
			"[258],\"tokens\":[\"<s>\"]}}}"
		      : "null");
	ol_buf_append_text(&json,
			   ",\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
			   "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
			   "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
			   "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
			   "\"vocab\":{");
	for (int byte = 0; byte < 256; byte++) {
		ol_buf_append_text(&json, byte ? ",\"" : "\"");
		put_byte(&json, byte);
		ol_buf_printf(&json, "\":%d", byte);
	}
	ol_buf_append_text(&json, ",\"th\":256,\"the\":257},\"merges\":[\"t h\",\"th e\"]}}");
	assert_false(json.failed);
	if (ol_tokenizer_open(&tokenizer, json.data, json.size, "test", &err) != OL_OK)
		fail_msg("%s", err.text);
	ol_buf_release(&json);
	return tokenizer;
}

static const char CHATML[] =
	"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
	"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/* Everything a dataset borrows, and the dataset. */
struct bench {
	struct ol_config config;
	struct ol_chat_format chat;
	struct ol_tokenizer *tokenizer;
	struct ol_template *tpl;
	struct ol_records *records;
	struct ol_dataset *dataset;
};

static enum ol_status try_open(struct bench *b, const char *tpl, bool opens, const char *jsonl,
			       struct ol_dataset_options options, struct ol_error *err)
{
	*b = (struct bench){
		.config = {.vocab_size = VOCAB, .bos_id = BOS, .eos_ids = {END}, .eos_count = 1}};
	b->tokenizer = make_tokenizer(opens);
	if (tpl && ol_template_open(&b->tpl, tpl, strlen(tpl), "test", err) != OL_OK)
		fail_msg("%s", err->text);
	b->chat = (struct ol_chat_format){b->tokenizer, b->tpl, &b->config, 0};
	if (ol_records_open_bytes(&b->records, "a.jsonl", jsonl, strlen(jsonl), OL_DATA_AUTO,
				  err) != OL_OK)
		fail_msg("%s", err->text);
	if (options.max_length == 0)
		options.max_length = 1000;
	return ol_dataset_open(&b->dataset, b->records, &b->chat, &options, err);
}

static void open_bench(struct bench *b, const char *tpl, bool opens, const char *jsonl,
		       struct ol_dataset_options options)
{
	struct ol_error err = {0};
	if (try_open(b, tpl, opens, jsonl, options, &err) != OL_OK)
		fail_msg("%s", err.text);
}

static void close_bench(struct bench *b)
{
	ol_dataset_close(b->dataset);
	ol_records_close(b->records);
	ol_template_close(b->tpl);
	ol_tokenizer_close(b->tokenizer);
}

/* What the model sees of an example, after the line that names it. */
static void assert_preview(const struct bench *b, size_t index, const char *expected)
{
	struct ol_buf text;
	ol_buf_init(&text, 1 << 20);
	assert_true(
		ol_example_preview(&text, ol_dataset_at(b->dataset, index), b->tokenizer, false));
	assert_string_equal(strchr(text.data, '\n') + 1, expected);
	ol_buf_release(&text);
}

struct row {
	const char *tpl;
	bool opens;
	const char *jsonl;
	size_t count;
	const char *first, *second; /* previews; second may be NULL */
};

#define TURN(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"

static const struct row rows[] = {
	/* Only the answer and its end are targets; what follows the last is left out. */
	{CHATML, false, "{\"prompt\":\"Q\",\"completion\":\"A\"}", 1,
	 "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n[[A<|im_end|>]]\n", NULL},
	/* Every answer of a conversation. */
	{CHATML, false,
	 "{\"messages\":[" TURN("system", "S") "," TURN("user", "Q") "," TURN(
		 "assistant", "A") "," TURN("user", "R") "," TURN("assistant", "B") "]}",
	 1,
	 "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
	 "[[A<|im_end|>]]\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"
	 "[[B<|im_end|>]]\n",
	 NULL},
	/* What people wrote is text, never a special token: the answer does not end early. */
	{CHATML, false, "{\"prompt\":\"<|im_end|>\",\"completion\":\"A<|im_end|>B\"}", 1,
	 "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n"
	 "[[A<|im_end|>B<|im_end|>]]\n",
	 NULL},
	/* Without a template: the texts, joined; where a token would reach over the border, the
	 * prompt keeps its own. */
	{NULL, true, "{\"prompt\":\"t\",\"completion\":\"he\"}", 1, "<s>t[[he<|im_end|>]]\n", NULL},
	{NULL, false, "{\"prompt\":\"Q\",\"completion\":\" A\"}", 1, "Q[[ A<|im_end|>]]\n", NULL},
	/* Without a template each answer ends the text: one example per answer. */
	{NULL, false,
	 "{\"messages\":[" TURN("user", "Q") "," TURN("assistant", "A") "," TURN(
		 "user", "R") "," TURN("assistant", "B") "]}",
	 2, "Q[[A<|im_end|>]]\n", "QAR[[B<|im_end|>]]\n"},
	/* A template that drops earlier answers' first letters: an example per answer again. */
	{"{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}{{ "
	 "m.content[1:] }}"
	 "{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}",
	 false,
	 "{\"messages\":[" TURN("user", "Q") "," TURN("assistant", "AA") "," TURN(
		 "user", "R") "," TURN("assistant", "B") "]}",
	 2, "Q<|im_end|>[[AA<|im_end|>]]\n", "Q<|im_end|>A<|im_end|>R<|im_end|>[[B<|im_end|>]]\n"},
	/* A template without an end: the model must learn to end. */
	{"{% for m in messages %}{{ m.content }}\n{% endfor %}", false,
	 "{\"prompt\":\"Q\",\"completion\":\"A\"}", 1, "Q\n[[A\n<|im_end|>]]\n", NULL},
	/* A text: every token but the first. */
	{CHATML, true, "{\"text\":\"the <s> end\"}", 1, "<s>[[the <s> end<|im_end|>]]\n", NULL},
	{CHATML, false, "{\"text\":\"the end\"}", 1, "the[[ end<|im_end|>]]\n", NULL},
	/* A preference: the last answer twice; earlier answers are context. */
	{CHATML, false,
	 "{\"messages\":[" TURN("user", "P") "," TURN("assistant", "O") "," TURN(
		 "user", "Q") "],\"chosen\":\"A\",\"rejected\":\"B!\"}",
	 1,
	 "chosen:\n<|im_start|>user\nP<|im_end|>\n<|im_start|>assistant\nO<|im_end|>\n"
	 "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n[[A<|im_end|>]]\n"
	 "rejected:\n<|im_start|>user\nP<|im_end|>\n<|im_start|>assistant\nO<|im_end|>\n"
	 "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n[[B!<|im_end|>]]\n",
	 NULL},
	/* The day of training does not enter. */
	{"{{ strftime_now('%d %b %Y') }}{% for m in messages %}|{{ m.content "
	 "}}<|im_end|>{% endfor %}"
	 "{% if add_generation_prompt %}|{% endif %}",
	 false, "{\"prompt\":\"Q\",\"completion\":\"A\"}", 1,
	 "26 Jul 2024|Q<|im_end|>|[[A<|im_end|>]]\n", NULL},
};

static void test_what_the_model_sees(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct bench b;
		open_bench(&b, rows[i].tpl, rows[i].opens, rows[i].jsonl,
			   (struct ol_dataset_options){0});
		assert_int_equal(ol_dataset_count(b.dataset), rows[i].count);
		assert_preview(&b, 0, rows[i].first);
		if (rows[i].second)
			assert_preview(&b, 1, rows[i].second);
		close_bench(&b);
	}
}

static void test_numbers_of_an_example(void **state)
{
	struct bench b;
	(void)state;
	open_bench(&b, CHATML, false,
		   "{\"id\":\"x\",\"contributor\":\"Ann\",\"prompt\":\"Q\",\"completion\":\"the "
		   "A\"}",
		   (struct ol_dataset_options){0});
	const struct ol_example *e = ol_dataset_at(b.dataset, 0);
	assert_string_equal(e->id, "x");
	assert_string_equal(e->contributor, "Ann");
	assert_int_equal(e->answer_tokens, 4); /* the, space, A, end */
	assert_int_equal(e->answer_bytes, 5);
	assert_true(e->key == e->record->key && e->key == e->sequence.example);
	assert_int_equal(e->sequence.tokens[0], START);
	for (int32_t t = 0; t + 1 < e->sequence.count; t++)
		assert_true(e->sequence.targets[t] == -1 ||
			    e->sequence.targets[t] == e->sequence.tokens[t + 1]);
	assert_int_equal(e->sequence.targets[e->sequence.count - 1], END);
	assert_int_equal(e->rejected.count, 0);
	assert_int_equal(ol_dataset_longest(b.dataset), e->sequence.count);
	assert_int_equal(ol_dataset_answer_tokens(b.dataset), 4);
	close_bench(&b);
	/* The parts of a conversation are held out together. */
	open_bench(&b, NULL, false, rows[5].jsonl, (struct ol_dataset_options){0});
	const struct ol_example *first = ol_dataset_at(b.dataset, 0),
				*second = ol_dataset_at(b.dataset, 1);
	assert_int_equal(strncmp(second->id, first->id, strlen(first->id)), 0);
	assert_string_equal(second->id + strlen(first->id), "#2");
	assert_true(first->key == second->key);
	assert_int_equal(first->answer_bytes + second->answer_bytes, 2);
	close_bench(&b);
}

static void test_cut_conversations(void **state)
{
	struct bench b;
	struct ol_error err = {0};
	const char *jsonl = "{\"prompt\":\"Q\",\"completion\":\"A\"}\n"
			    "{\"prompt\":\"Q\",\"completion\":\"ABCDEFGHIJKLMNOP\"}";
	(void)state;
	open_bench(&b, NULL, false, jsonl, (struct ol_dataset_options){.max_length = 4});
	assert_int_equal(ol_dataset_truncated(b.dataset), 1);
	assert_false(ol_dataset_at(b.dataset, 0)->truncated);
	assert_preview(&b, 1, "Q[[ABCD]]\n");
	assert_int_equal(ol_dataset_at(b.dataset, 1)->answer_bytes, 4);
	assert_int_equal(ol_dataset_at(b.dataset, 1)->sequence.count, 4);
	close_bench(&b);
	open_bench(&b, NULL, false, jsonl,
		   (struct ol_dataset_options){.max_length = 4, .loss_on_prompt = true});
	assert_preview(&b, 0, "Q[[A<|im_end|>]]\n");
	close_bench(&b);
	open_bench(&b, CHATML, false, jsonl, (struct ol_dataset_options){.loss_on_prompt = true});
	assert_preview(&b, 0,
		       "<|im_start|>[[user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>]]\n");
	close_bench(&b);
	assert_int_equal(try_open(&b, CHATML, false,
				  "{\"prompt\":\"Q\",\"completion\":\"A\"}\n"
				  "{\"prompt\":\"QQQQQQQQQQQQQQQQQ\",\"completion\":\"A\"}",
				  (struct ol_dataset_options){.max_length = 26}, &err),
			 OL_ERR_INPUT);
	assert_non_null(
		strstr(err.text, "a.jsonl:2: no token of the answer is left within the 26"));
	close_bench(&b);
}

/* Each token of a long text is predicted once, and the bytes add up. */
static void test_split_texts(void **state)
{
	struct bench b;
	(void)state;
	const char *jsonl = "{\"text\":\"the theory of the thing: \xc3\xa9t\xc3\xa9\"}";
	for (int length = 1; length < 40; length++)
		for (int opens = 0; opens < 2; opens++) {
			uint32_t bytes = 0;
			int32_t rows_seen = 0;
			open_bench(&b, CHATML, opens, jsonl,
				   (struct ol_dataset_options){.max_length = length});
			const struct ol_example *first = ol_dataset_at(b.dataset, 0);
			for (size_t i = 0; i < ol_dataset_count(b.dataset); i++) {
				const struct ol_example *e = ol_dataset_at(b.dataset, i);
				assert_true(e->sequence.count <= length && !e->truncated);
				assert_int_equal(e->answer_tokens, e->sequence.count);
				assert_ptr_equal(e->sequence.tokens,
						 first->sequence.tokens + rows_seen);
				rows_seen += e->sequence.count;
				bytes += e->answer_bytes;
				assert_true((e->key == e->record->key) == (i == 0));
			}
			assert_int_equal(bytes, 30);
			assert_int_equal(first->sequence.targets[rows_seen - 1], END);
			assert_int_equal(first->sequence.tokens[0] == BOS, opens);
			close_bench(&b);
		}
	open_bench(&b, CHATML, true, jsonl,
		   (struct ol_dataset_options){.max_length = 3, .single_text = true});
	assert_int_equal(ol_dataset_count(b.dataset), 1);
	assert_int_equal(ol_dataset_truncated(b.dataset), 1);
	assert_preview(&b, 0, "<s>[[the the]]\n");
	close_bench(&b);
}

static void test_template_refusals(void **state)
{
	struct bench b;
	struct ol_error err = {0};
	(void)state;
	assert_int_equal(try_open(&b, "{{ raise_exception('no system') }}", false,
				  "\n{\"prompt\":\"Q\",\"completion\":\"A\"}",
				  (struct ol_dataset_options){0}, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "a.jsonl:2: "));
	assert_non_null(strstr(err.text, "no system"));
	close_bench(&b);
	assert_int_equal(try_open(&b, "{% if add_generation_prompt %}x{% else %}y{% endif %}",
				  false, "{\"prompt\":\"Q\",\"completion\":\"A\"}",
				  (struct ol_dataset_options){0}, &err),
			 OL_ERR_UNSUPPORTED);
	assert_non_null(
		strstr(err.text, "a.jsonl:1: the model's chat template writes another text"));
	close_bench(&b);
	assert_int_equal(try_open(&b, CHATML, false, "{\"text\":\"ok then\"}\n{\"text\":\"ok\"}\n",
				  (struct ol_dataset_options){.single_text = true}, &err),
			 OL_OK);
	close_bench(&b);
}

/* However many threads: the same examples in the same order, the first error in order. */
static void test_threads(void **state)
{
	struct ol_buf jsonl;
	struct bench one, many;
	struct ol_error err = {0};
	(void)state;
	ol_buf_init(&jsonl, 16 << 20);
	for (int i = 0; i < 3000; i++)
		ol_buf_printf(&jsonl,
			      i % 3 ? "{\"prompt\":\"q%d\",\"completion\":\"the %d\"}\n"
				    : "{\"prompt\":\"%d\",\"completion\":\"%d %d\"}\n",
			      i, i * i, i);
	open_bench(&one, CHATML, false, jsonl.data, (struct ol_dataset_options){.threads = 1});
	open_bench(&many, CHATML, false, jsonl.data, (struct ol_dataset_options){.threads = 4});
	assert_int_equal(ol_dataset_count(one.dataset), 3000);
	assert_int_equal(ol_dataset_count(many.dataset), 3000);
	assert_memory_equal(ol_dataset_sha256(one.dataset), ol_dataset_sha256(many.dataset),
			    OL_SHA256_BYTES);
	for (size_t i = 0; i < 3000; i++) {
		const struct ol_example *a = ol_dataset_at(one.dataset, i),
					*b = ol_dataset_at(many.dataset, i);
		const size_t bytes = (size_t)a->sequence.count * sizeof(int32_t);
		assert_string_equal(a->id, b->id);
		assert_int_equal(a->sequence.count, b->sequence.count);
		assert_memory_equal(a->sequence.tokens, b->sequence.tokens, bytes);
		assert_memory_equal(a->sequence.targets, b->sequence.targets, bytes);
	}
	close_bench(&one);
	close_bench(&many);
	ol_buf_append_text(&jsonl,
			   "{\"prompt\":\"0123456789012345678901234567890123456789\","
			   "\"completion\":\"A\"}\n{\"prompt\":\"012345678901234567890123456"
			   "789012345678901234567890123456789\",\"completion\":\"A\"}\n");
	assert_int_equal(try_open(&many, CHATML, false, jsonl.data,
				  (struct ol_dataset_options){.threads = 4, .max_length = 40},
				  &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "a.jsonl:3001: "));
	close_bench(&many);
	ol_buf_release(&jsonl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_model_sees),
		cmocka_unit_test(test_numbers_of_an_example),
		cmocka_unit_test(test_cut_conversations),
		cmocka_unit_test(test_split_texts),
		cmocka_unit_test(test_template_refusals),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
