/* JSONL and JSON arrays, record by record: no tree of the file is ever built. */
#include "model/json_scan.h"
#include "train/record_internal.h"

#include <stdlib.h>
#include <string.h>

struct json_reader {
	struct ol_record_reader *r;
	struct ol_json_scan scan;
	size_t counted; /* line ends before here are in `line` */
	uint32_t line;  /* of the byte at `counted` */
};

/* The line of a byte at or after the last one that was asked for. */
static uint32_t line_at(struct json_reader *j, size_t at)
{
	const char *text = j->scan.text;
	while (j->counted < at) {
		const char *end = memchr(text + j->counted, '\n', at - j->counted);
		if (!end) {
			j->counted = at;
			break;
		}
		j->counted = (size_t)(end - text) + 1;
		j->line++;
	}
	return j->line;
}

static enum ol_status fail_at(struct json_reader *j, const char *field, const char *what)
{
	return ol_reader_fail(j->r, OL_ERR_INPUT, line_at(j, j->scan.at), field, "%s", what);
}

static enum ol_status fail_memory(struct json_reader *j)
{
	return ol_reader_fail(j->r, OL_ERR_FULL, line_at(j, j->scan.at), NULL,
			      "out of memory for the records");
}

/* Reads a string into the store without taking it: the next string overwrites it unless
 * ol_text_take keeps it. field: for messages. */
static enum ol_status read_string(struct json_reader *j, const char *field, char **text_out,
				  size_t *size_out)
{
	struct ol_json_scan *scan = &j->scan;
	if (ol_json_scan_peek(scan) != '"')
		return fail_at(j, field, "has no text here: put it into quotes");
	const size_t begin = scan->at;
	size_t end = begin + 1;
	while (end < scan->size && scan->text[end] != '"' && scan->text[end] != '\n')
		end += scan->text[end] == '\\' ? 2 : 1;
	if (end >= scan->size || scan->text[end] != '"')
		return fail_at(j, field,
			       "has a text without its closing quote on the same line: close it, "
			       "and write line ends as \\n");
	if (end - begin > OL_RECORD_FIELD_MAX)
		return ol_reader_fail(j->r, OL_ERR_FULL, line_at(j, begin), field,
				      "has more than %d bytes: cut it into several records",
				      OL_RECORD_FIELD_MAX);
	char *text = ol_text_reserve(&j->r->records->texts, end - begin);
	if (!text)
		return fail_memory(j);
	const size_t whole = scan->size;
	scan->size = end + 1;
	const bool good = ol_json_scan_string(scan, text, size_out);
	scan->size = whole;
	if (!good)
		return fail_at(j, field,
			       "has an escape or a character that JSON does not allow: mend it, or "
			       "write the file with a JSON library");
	if (memchr(text, '\0', *size_out))
		return fail_at(j, field, "has a NUL character (\\u0000): remove it");
	*text_out = text;
	return OL_OK;
}

static bool is_delimiter(char c)
{
	return c == '\0' || strchr(",:]}[{\" \n\r\t", c);
}

static size_t digits(const char *text, size_t size)
{
	size_t n = 0;
	while (n < size && text[n] >= '0' && text[n] <= '9')
		n++;
	return n;
}

/* A number as JSON has it. */
static bool is_number(const char *text, size_t size)
{
	size_t at = size > 0 && text[0] == '-' ? 1 : 0;
	const size_t whole = digits(text + at, size - at);
	if (whole == 0 || (whole > 1 && text[at] == '0'))
		return false;
	at += whole;
	if (at < size && text[at] == '.') {
		const size_t part = digits(text + at + 1, size - at - 1);
		if (part == 0)
			return false;
		at += 1 + part;
	}
	if (at < size && (text[at] == 'e' || text[at] == 'E')) {
		at++;
		if (at < size && (text[at] == '+' || text[at] == '-'))
			at++;
		const size_t part = digits(text + at, size - at);
		if (part == 0)
			return false;
		at += part;
	}
	return at == size;
}

/* A number, true, false or null: its bytes. */
static enum ol_status read_bare(struct json_reader *j, const char *field, const char **text_out,
				size_t *size_out)
{
	struct ol_json_scan *scan = &j->scan;
	ol_json_scan_peek(scan);
	const size_t begin = scan->at;
	size_t end = begin;
	while (end < scan->size && !is_delimiter(scan->text[end]))
		end++;
	const char *text = scan->text + begin;
	const size_t size = end - begin;
	const bool word =
		(size == 4 && (memcmp(text, "true", 4) == 0 || !memcmp(text, "null", 4))) ||
		(size == 5 && memcmp(text, "false", 5) == 0);
	if (!word && !is_number(text, size))
		return fail_at(j, field,
			       size == 0 ? "has no value here: the JSON is broken or ends too early"
					 : "has a value that is not JSON: put texts into quotes");
	scan->at = end;
	*text_out = text;
	*size_out = size;
	return OL_OK;
}

/* The keys of one object, to find the one that stands twice. */
struct keys {
	struct ol_buf text; /* one after another */
	size_t ends[OL_RECORD_FIELDS_MAX];
	int count;
};

static bool same_key(const struct keys *keys, int i, const char *key, size_t size)
{
	const size_t begin = i ? keys->ends[i - 1] : 0;
	return keys->ends[i] - begin == size && memcmp(keys->text.data + begin, key, size) == 0;
}

/* Reads the key of the next member and its colon; the key stays in the store until the next string
 * is read, and in `keys`, NUL-terminated by nothing. */
static enum ol_status read_key(struct json_reader *j, struct keys *keys, const char **key_out,
			       size_t *size_out)
{
	char *key;
	enum ol_status s =
		ol_json_scan_peek(&j->scan) == '"'
			? read_string(j, NULL, &key, size_out)
			: fail_at(j, NULL,
				  "a field's name in quotes must stand here: the JSON is "
				  "broken, or a comma is too many");
	if (s != OL_OK)
		return s;
	for (int i = 0; i < keys->count; i++)
		if (same_key(keys, i, key, *size_out))
			return ol_reader_fail(j->r, OL_ERR_INPUT, line_at(j, j->scan.at), NULL,
					      "the field \"%.*s\" stands twice in one object: "
					      "remove one",
					      (int)OL_MIN(*size_out, (size_t)64), key);
	if (keys->count == OL_RECORD_FIELDS_MAX)
		return ol_reader_fail(j->r, OL_ERR_FULL, line_at(j, j->scan.at), NULL,
				      "one object has more than %d fields: leave out what is not "
				      "needed",
				      OL_RECORD_FIELDS_MAX);
	const size_t begin = keys->text.size;
	if (!ol_buf_append(&keys->text, key, *size_out))
		return fail_memory(j);
	keys->ends[keys->count++] = keys->text.size;
	*key_out = keys->text.data + begin;
	return ol_json_scan_take(&j->scan, ':')
		       ? OL_OK
		       : fail_at(j, NULL,
				 "a ':' must stand after a field's name: the JSON is broken");
}

static void keys_init(struct keys *keys)
{
	keys->count = 0;
	ol_buf_init(&keys->text, (size_t)OL_RECORD_FIELD_MAX * 4);
}

/* After a member: true when another follows. */
static enum ol_status next_member(struct json_reader *j, char close, const char *field, bool *more)
{
	*more = ol_json_scan_take(&j->scan, ',');
	if (*more || ol_json_scan_take(&j->scan, close))
		return OL_OK;
	return fail_at(j, field,
		       close == '}'
			       ? "is not followed by ',' or '}': the JSON is broken or ends too "
				 "early"
			       : "is not followed by ',' or ']': the JSON is broken or ends too "
				 "early");
}

static enum ol_status skip_value(struct json_reader *j, const char *field, int depth);

static enum ol_status skip_object(struct json_reader *j, const char *field, int depth)
{
	bool more = !ol_json_scan_take(&j->scan, '}');
	enum ol_status s = OL_OK;
	while (more && s == OL_OK) {
		char *key;
		size_t size;
		s = read_string(j, field, &key, &size);
		if (s == OL_OK && !ol_json_scan_take(&j->scan, ':'))
			s = fail_at(j, field, "has a key without ':': the JSON is broken");
		if (s == OL_OK)
			s = skip_value(j, field, depth);
		if (s == OL_OK)
			s = next_member(j, '}', field, &more);
	}
	return s;
}

/* Passes over a value that nobody asked for, but only over JSON. */
static enum ol_status skip_value(struct json_reader *j, const char *field, int depth)
{
	const char c = ol_json_scan_peek(&j->scan);
	char *text;
	const char *bare;
	size_t size;
	if (c == '"')
		return read_string(j, field, &text, &size);
	if (c != '{' && c != '[')
		return read_bare(j, field, &bare, &size);
	if (depth == OL_RECORD_DEPTH_MAX)
		return fail_at(j, field, "has lists inside lists too deep: leave the field out");
	j->scan.at++;
	if (c == '{')
		return skip_object(j, field, depth + 1);
	bool more = !ol_json_scan_take(&j->scan, ']');
	enum ol_status s = OL_OK;
	while (more && s == OL_OK) {
		s = skip_value(j, field, depth + 1);
		if (s == OL_OK)
			s = next_member(j, ']', field, &more);
	}
	return s;
}

static bool key_is(const char *key, size_t size, const char *name)
{
	return strlen(name) == size && memcmp(key, name, size) == 0;
}

/* The parts [{type: "text", text}…] that OpenAI's content may be, joined into the store. */
static enum ol_status read_parts(struct json_reader *j, struct ol_turn *turn)
{
	struct ol_buf joined;
	bool more = !ol_json_scan_take(&j->scan, ']');
	enum ol_status s = OL_OK;
	ol_buf_init(&joined, OL_RECORD_FIELD_MAX);
	while (more && s == OL_OK) {
		struct keys keys;
		bool member, is_text = false;
		keys_init(&keys);
		if (!ol_json_scan_take(&j->scan, '{'))
			s = fail_at(j, "content",
				    "is a list of something else than "
				    "{type: \"text\", text}: give a text");
		member = s == OL_OK && !ol_json_scan_take(&j->scan, '}');
		while (member && s == OL_OK) {
			const char *key;
			char *text;
			size_t size, text_size;
			s = read_key(j, &keys, &key, &size);
			const bool wanted = s == OL_OK && (key_is(key, size, "type") ||
							   key_is(key, size, "text"));
			if (s == OL_OK && !wanted)
				s = skip_value(j, "content", 0);
			if (wanted)
				s = read_string(j, "content", &text, &text_size);
			if (wanted && s == OL_OK && key_is(key, size, "type"))
				is_text = key_is(text, text_size, "text");
			else if (wanted && s == OL_OK)
				ol_buf_append(&joined, text, text_size);
			if (s == OL_OK)
				s = next_member(j, '}', "content", &member);
		}
		ol_buf_release(&keys.text);
		if (s == OL_OK && !is_text)
			s = fail_at(j, "content",
				    "has a part whose type is not \"text\": models "
				    "here read text only, remove it");
		if (s == OL_OK)
			s = next_member(j, ']', "content", &more);
	}
	if (s == OL_OK && joined.failed)
		s = fail_at(j, "content", "is too large: cut it into several records");
	if (s == OL_OK) {
		turn->text = ol_text_copy(&j->r->records->texts, joined.data ? joined.data : "",
					  joined.size);
		turn->size = joined.size;
		s = turn->text ? OL_OK : fail_memory(j);
	}
	ol_buf_release(&joined);
	return s;
}

static enum ol_status read_content(struct json_reader *j, const char *field, struct ol_turn *turn)
{
	char *text;
	if (ol_json_scan_peek(&j->scan) == '[') {
		j->scan.at++;
		return read_parts(j, turn);
	}
	const enum ol_status s = read_string(j, field, &text, &turn->size);
	if (s == OL_OK) {
		ol_text_take(&j->r->records->texts, turn->size);
		turn->text = text;
	}
	return s;
}

static enum ol_status read_role(struct json_reader *j, const char *field, enum ol_role *role_out)
{
	static const struct {
		const char *name;
		enum ol_role role;
	} names[] = {
		{"system", OL_ROLE_SYSTEM},       {"developer", OL_ROLE_SYSTEM},
		{"user", OL_ROLE_USER},           {"human", OL_ROLE_USER},
		{"assistant", OL_ROLE_ASSISTANT}, {"gpt", OL_ROLE_ASSISTANT},
		{"chatgpt", OL_ROLE_ASSISTANT},   {"model", OL_ROLE_ASSISTANT},
		{"bot", OL_ROLE_ASSISTANT},
	};
	char *text;
	size_t size;
	const enum ol_status s = read_string(j, field, &text, &size);
	if (s != OL_OK)
		return s;
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++)
		if (key_is(text, size, names[i].name)) {
			*role_out = names[i].role;
			return OL_OK;
		}
	return ol_reader_fail(
		j->r, OL_ERR_UNSUPPORTED, line_at(j, j->scan.at), field,
		"is \"%.*s\": use system, user (human) or assistant (gpt); tool calls "
		"cannot be learned yet",
		(int)OL_MIN(size, (size_t)64), text);
}

/* Fields that would change what the model sees if they were passed over. */
static enum ol_status refuse_meaning(struct json_reader *j, const char *key, size_t size)
{
	static const char *const names[] = {"tools",   "functions", "tool_calls", "function_call",
					    "history", "images",    "audio"};
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++)
		if (key_is(key, size, names[i]) && ol_json_scan_peek(&j->scan) != 'n')
			return ol_reader_fail(
				j->r, OL_ERR_UNSUPPORTED, line_at(j, j->scan.at), names[i],
				"is something that cannot be learned here: remove the "
				"field, or the record");
	return OL_OK;
}

/* {role, content} or {from, value}; the scan is past the '{'. */
static enum ol_status read_turn(struct json_reader *j, struct ol_turn *turn)
{
	struct keys keys;
	bool role = false, content = false, more = !ol_json_scan_take(&j->scan, '}');
	enum ol_status s = OL_OK;
	keys_init(&keys);
	while (more && s == OL_OK) {
		const char *key;
		size_t size;
		s = read_key(j, &keys, &key, &size);
		if (s != OL_OK)
			break;
		const bool is_role = key_is(key, size, "role"), is_from = key_is(key, size, "from"),
			   is_content = key_is(key, size, "content"),
			   is_value = key_is(key, size, "value");
		if ((is_role || is_from) && role)
			s = fail_at(j, is_role ? "role" : "from",
				    "says again who speaks: keep \"role\" or \"from\"");
		else if ((is_content || is_value) && content)
			s = fail_at(j, is_content ? "content" : "value",
				    "says again what is said: keep \"content\" or \"value\"");
		else if (is_role || is_from)
			s = read_role(j, is_role ? "role" : "from", &turn->role);
		else if (is_content || is_value)
			s = read_content(j, is_content ? "content" : "value", turn);
		else
			s = refuse_meaning(j, key, size);
		if (s == OL_OK && !is_role && !is_from && !is_content && !is_value)
			s = skip_value(j, "messages", 0);
		role = role || is_role || is_from;
		content = content || is_content || is_value;
		if (s == OL_OK)
			s = next_member(j, '}', "messages", &more);
	}
	ol_buf_release(&keys.text);
	if (s == OL_OK && !role)
		s = fail_at(j, "role", "is missing in a turn: say who speaks");
	if (s == OL_OK && !content)
		s = fail_at(j, "content", "is missing in a turn: say what is said");
	return s;
}

static enum ol_status read_turns(struct json_reader *j, enum ol_field field)
{
	struct ol_field_value *value = &j->r->fields[field];
	const char *name = ol_field_names[field];
	bool more = !ol_json_scan_take(&j->scan, ']');
	enum ol_status s = OL_OK;
	value->kind = OL_FIELD_TURNS;
	value->first = j->r->turn_count;
	while (more && s == OL_OK) {
		struct ol_turn turn = {0};
		if (!ol_json_scan_take(&j->scan, '{'))
			s = fail_at(j, name, "is a list of something else than {role, content}");
		if (s == OL_OK)
			s = read_turn(j, &turn);
		if (s == OL_OK && value->count == OL_RECORD_TURNS_MAX)
			s = ol_reader_fail(j->r, OL_ERR_FULL, line_at(j, j->scan.at), name,
					   "has more than %d turns: cut the conversation",
					   OL_RECORD_TURNS_MAX);
		if (s == OL_OK && !ol_reader_push_turn(j->r, turn))
			s = fail_memory(j);
		value->count++;
		if (s == OL_OK)
			s = next_member(j, ']', name, &more);
	}
	return s;
}

static enum ol_status read_field(struct json_reader *j, enum ol_field field)
{
	struct ol_field_value *value = &j->r->fields[field];
	const char *name = ol_field_names[field];
	const char c = ol_json_scan_peek(&j->scan);
	const char *bare;
	char *text;
	enum ol_status s;
	if (c == '[') {
		j->scan.at++;
		if (field == OL_FIELD_PROMPT || field >= OL_FIELD_MESSAGES)
			return read_turns(j, field);
		return fail_at(j, name, "is a list: give one text");
	}
	if (c == '{')
		return fail_at(j, name, "is an object: give one text, or a list of turns");
	if (c == '"') {
		s = read_string(j, name, &text, &value->size);
		if (s != OL_OK)
			return s;
		ol_text_take(&j->r->records->texts, value->size);
		value->text = text;
		value->kind = OL_FIELD_STRING;
		return OL_OK;
	}
	s = read_bare(j, name, &bare, &value->size);
	if (s != OL_OK || bare[0] == 'n')
		return s; /* null: as if it were not there */
	if (field != OL_FIELD_ID || bare[0] == 't' || bare[0] == 'f')
		return fail_at(j, name, "is not a text: put it into quotes");
	value->text = bare;
	value->kind = OL_FIELD_STRING;
	return OL_OK;
}

/* One record; the scan stands before its '{'. */
static enum ol_status read_record(struct json_reader *j)
{
	struct keys keys;
	if (ol_json_scan_peek(&j->scan) != '{')
		return fail_at(j, NULL,
			       "a record must stand here: {\"prompt\": …, \"completion\": …} "
			       "or another kind");
	ol_reader_begin(j->r, line_at(j, j->scan.at));
	j->scan.at++;
	bool more = !ol_json_scan_take(&j->scan, '}');
	enum ol_status s = OL_OK;
	keys_init(&keys);
	while (more && s == OL_OK) {
		const char *key;
		size_t size;
		int field = 0;
		s = read_key(j, &keys, &key, &size);
		if (s != OL_OK)
			break;
		while (field < OL_FIELDS && !key_is(key, size, ol_field_names[field]))
			field++;
		if (field < OL_FIELDS)
			s = read_field(j, (enum ol_field)field);
		else
			s = refuse_meaning(j, key, size);
		char name[65] = "";
		memcpy(name, key, OL_MIN(size, sizeof name - 1));
		if (s == OL_OK && field == OL_FIELDS)
			s = skip_value(j, name, 0);
		if (s == OL_OK)
			s = next_member(j, '}', name, &more);
	}
	ol_buf_release(&keys.text);
	return s == OL_OK ? ol_reader_add(j->r) : s;
}

/* One record a line; empty lines are passed over. */
static enum ol_status read_lines(struct json_reader *j, size_t size)
{
	enum ol_status s = OL_OK;
	while (j->scan.at < size && s == OL_OK) {
		const char *from = j->scan.text + j->scan.at;
		const char *end = memchr(from, '\n', size - j->scan.at);
		j->scan.size = end ? (size_t)(end - j->scan.text) : size;
		if (ol_json_scan_peek(&j->scan) != '\0' || j->scan.at < j->scan.size)
			s = read_record(j);
		if (s == OL_OK &&
		    (ol_json_scan_peek(&j->scan) != '\0' || j->scan.at < j->scan.size))
			s = fail_at(j, NULL,
				    "something follows the record on its line: one record a "
				    "line");
		j->scan.at = OL_MIN(j->scan.size + 1, size);
	}
	return s;
}

static enum ol_status read_array(struct json_reader *j)
{
	bool more = !ol_json_scan_take(&j->scan, ']');
	enum ol_status s = OL_OK;
	while (more && s == OL_OK) {
		s = read_record(j);
		if (s == OL_OK) {
			more = ol_json_scan_take(&j->scan, ',');
			if (!more && !ol_json_scan_take(&j->scan, ']'))
				s = fail_at(j, NULL, "a ',' or ']' must stand after the record");
		}
	}
	if (s == OL_OK && (ol_json_scan_peek(&j->scan) != '\0' || j->scan.at < j->scan.size))
		s = fail_at(j, NULL, "something follows the end of the list: remove it");
	return s;
}

enum ol_status ol_read_json(struct ol_record_reader *r, const char *text, size_t size, bool lines)
{
	struct json_reader j = {
		.r = r, .scan = {.text = text, .size = size}, .counted = 0, .line = 1};
	if (lines)
		return read_lines(&j, size);
	if (ol_json_scan_take(&j.scan, '['))
		return read_array(&j);
	enum ol_status s = OL_OK;
	while (s == OL_OK && (ol_json_scan_peek(&j.scan) != '\0' || j.scan.at < j.scan.size))
		s = read_record(&j);
	return s;
}
