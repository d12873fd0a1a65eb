/* http/openai_prompt.c: texts, tokens and conversations of a request, as the model's tokens. */
#include "http/openai_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No token is longer than this on average: longer texts cannot fit, and are not worth reading. */
enum { TOKEN_BYTES_MAX = 64 };

static const struct ol_runtime *runtime_of(const struct ol_call *call)
{
	return ol_service_runtime(call->openai->service);
}

static bool fits(struct ol_call *call, const char *param, size_t size)
{
	const int64_t room = ol_service_room(call->openai->service);
	if (size <= (size_t)room * TOKEN_BYTES_MAX)
		return true;
	ol_fields_fail(&call->fields, param, "context_length_exceeded",
		       "This model's context holds %lld tokens, but '%s' has %zu bytes: shorten "
		       "it.",
		       (long long)room, param, size);
	return false;
}

static bool make_room(struct ol_call *call, const char *param, size_t count)
{
	if (count == 0)
		ol_fields_fail(&call->fields, param, "empty_array",
			       "Invalid '%s': empty array. Expected an array with minimum length "
			       "1, but got an empty array instead.",
			       param);
	else if (count > OL_ASK_PROMPTS_MAX)
		ol_fields_fail(&call->fields, param, "array_above_max_length",
			       "Invalid '%s': array too long. Expected an array with maximum "
			       "length %d, but got an array with length %zu instead.",
			       param, OL_ASK_PROMPTS_MAX, count);
	if (call->fields.failed)
		return false;
	call->prompts = calloc(count, sizeof *call->prompts);
	call->echo = calloc(count, sizeof *call->echo);
	if (!call->prompts || !call->echo) {
		ol_fields_fail(&call->fields, "", NULL, "out of memory for the prompts");
		call->fields.status = 503;
		return false;
	}
	call->ask.prompts = call->prompts;
	call->ask.prompt_count = count;
	return true;
}

static void encode(struct ol_call *call, const char *param, size_t index, const json_t *text,
		   bool special)
{
	struct ol_error err;
	const size_t size = json_string_length(text);
	call->echo[index] = json_string_value(text);
	if (size == 0 && call->kind == OL_CALL_EMBEDDING)
		ol_fields_fail(&call->fields, param, "invalid_value",
			       "Invalid '%s': input cannot be an empty string.", param);
	if (call->fields.failed || !fits(call, param, size))
		return;
	if (ol_tokenizer_encode(runtime_of(call)->tokenizer, &call->prompts[index],
				json_string_value(text), size, OL_SPECIAL_NONE, special, NULL, 0,
				&err) != OL_OK)
		ol_fields_fail(&call->fields, param, "invalid_value", "Invalid '%s': %s", param,
			       err.text);
}

static void take_tokens(struct ol_call *call, const char *param, size_t index, const json_t *list)
{
	const int vocab = ol_model_config(runtime_of(call)->model)->vocab_size;
	size_t i;
	const json_t *id;
	call->echo[index] = "";
	if (!fits(call, param, json_array_size(list)))
		return;
	json_array_foreach(list, i, id)
	{
		const int64_t n = json_is_integer(id) ? json_integer_value(id) : -1;
		if (n < 0 || n >= vocab) {
			ol_fields_fail(&call->fields, param, "invalid_value",
				       "Invalid '%s': element %zu is not a token of this model, "
				       "which are the integers from 0 to %d.",
				       param, i, vocab - 1);
			return;
		}
		if (!ol_tokens_push(&call->prompts[index], (int32_t)n)) {
			ol_fields_fail(&call->fields, "", NULL, "out of memory for the prompt");
			call->fields.status = 503;
			return;
		}
	}
}

void ol_call_read_prompt(struct ol_call *call, const char *field)
{
	const json_t *value = ol_fields_get(&call->fields, field);
	const json_t *first = json_array_get(value, 0);
	size_t i;
	const json_t *one;
	if (!value)
		ol_fields_fail(&call->fields, field, "missing_required_parameter",
			       "Missing required parameter: '%s'.", field);
	else if (json_is_string(value) && make_room(call, field, 1))
		encode(call, field, 0, value, true);
	else if (json_is_integer(first) && make_room(call, field, 1))
		take_tokens(call, field, 0, value);
	if (call->fields.failed || call->prompts)
		return;
	if (!json_is_array(value)) {
		ol_fields_fail(&call->fields, field, "invalid_type",
			       "Invalid type for '%s': expected a string, an array of strings, an "
			       "array of tokens, or an array of these, but got %s instead.",
			       field, ol_json_kind(value));
		return;
	}
	if (!make_room(call, field, json_array_size(value)))
		return;
	json_array_foreach(value, i, one)
	{
		if (json_is_string(one))
			encode(call, field, i, one, true);
		else if (json_is_array(one))
			take_tokens(call, field, i, one);
		else
			ol_fields_fail(&call->fields, field, "invalid_type",
				       "Invalid type for '%s[%zu]': expected a string or an array "
				       "of tokens, but got %s instead.",
				       field, i, ol_json_kind(one));
		if (call->fields.failed)
			return;
	}
}

/* --- conversations --------------------------------------------------------- */

/* The text of a message's content: a string, or parts of type text, joined. NULL: a fault. */
static json_t *content_of(struct ol_call *call, size_t index, const json_t *content)
{
	struct ol_buf text;
	size_t i;
	const json_t *part;
	if (json_is_string(content))
		return json_stringn(json_string_value(content), json_string_length(content));
	char param[48];
	(void)snprintf(param, sizeof param, "messages[%zu].content", index);
	if (!json_is_array(content)) {
		ol_fields_fail(&call->fields, param, "invalid_type",
			       "Invalid type for '%s': expected a string or an array of parts, but "
			       "got %s instead.",
			       param, content ? ol_json_kind(content) : "nothing");
		return NULL;
	}
	ol_buf_init(&text, OL_OPENAI_BODY_MAX);
	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));
		const json_t *piece = json_object_get(part, "text");
		if (!type || strcmp(type, "text") != 0 || !json_is_string(piece)) {
			ol_fields_fail(&call->fields, param, "unsupported_content",
				       "Invalid '%s[%zu]': this model reads text alone, so a part "
				       "must be {\"type\": \"text\", \"text\": …}.",
				       param, i);
			break;
		}
		ol_buf_append(&text, json_string_value(piece), json_string_length(piece));
	}
	json_t *joined =
		call->fields.failed ? NULL : json_stringn(text.data ? text.data : "", text.size);
	ol_buf_release(&text);
	return joined;
}

/* {role, content} of one message; a developer is what used to be called the system. */
static json_t *message_of(struct ol_call *call, size_t index, const json_t *message)
{
	static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
	const char *role = json_string_value(json_object_get(message, "role"));
	const json_t *tools = json_object_get(message, "tool_calls");
	char param[48];
	bool known = false;
	(void)snprintf(param, sizeof param, "messages[%zu].role", index);
	for (size_t i = 0; i < OL_ARRAY_LEN(roles); i++)
		known |= role && strcmp(role, roles[i]) == 0;
	if (!known)
		ol_fields_fail(&call->fields, param, "invalid_value",
			       "Invalid value: '%s'. Supported values are: 'system', 'developer', "
			       "'user', 'assistant', and 'tool'.",
			       role ? role : "");
	if (json_array_size(tools) > 0) {
		(void)snprintf(param, sizeof param, "messages[%zu].tool_calls", index);
		ol_fields_fail(&call->fields, param, "unsupported_parameter",
			       "Unsupported parameter: this node does not call tools.");
	}
	if (call->fields.failed)
		return NULL;
	json_t *content = content_of(call, index, json_object_get(message, "content"));
	if (!content && !call->fields.failed)
		ol_fields_fail(&call->fields, "messages", "invalid_value",
			       "message %zu holds a NUL character or more text than fits", index);
	return content ? json_pack("{s:s, s:o}", "role",
				   strcmp(role, "developer") == 0 ? "system" : role, "content",
				   content)
		       : NULL;
}

static void read_messages(struct ol_call *call, bool open_answer)
{
	const json_t *list = ol_fields_get(&call->fields, "messages");
	const struct ol_runtime *r = runtime_of(call);
	const struct ol_chat_format format = ol_runtime_chat_format(r);
	json_t *messages = json_array();
	size_t i;
	const json_t *message;
	struct ol_error err;
	if (!list)
		ol_fields_fail(&call->fields, "messages", "missing_required_parameter",
			       "Missing required parameter: 'messages'.");
	else if (!json_is_array(list) || json_array_size(list) == 0)
		ol_fields_fail(&call->fields, "messages", "invalid_type",
			       "Invalid 'messages': expected an array of at least one message.");
	else if (json_array_size(list) > OL_OPENAI_MESSAGES_MAX)
		ol_fields_fail(&call->fields, "messages", "array_above_max_length",
			       "Invalid 'messages': at most %d messages.", OL_OPENAI_MESSAGES_MAX);
	else if (!r->chat)
		ol_fields_fail(&call->fields, "model", "unsupported_model",
			       "This model has no chat template: use /v1/completions.");
	json_array_foreach(list, i, message)
	{
		json_t *plain = call->fields.failed ? NULL : message_of(call, i, message);
		if (!plain)
			break;
		if (json_array_append_new(messages, plain) != 0)
			ol_fields_fail(&call->fields, "", NULL, "out of memory");
	}
	if (!call->fields.failed && make_room(call, "messages", 1) &&
	    ol_chat_encode(&format, &call->prompts[0], messages, open_answer, &err) != OL_OK)
		ol_fields_fail(&call->fields, "messages", "invalid_value", "%s", err.text);
	json_decref(messages);
}

void ol_call_read_messages(struct ol_call *call)
{
	read_messages(call, true);
}

void ol_call_read_either(struct ol_call *call, bool special, bool open_answer)
{
	const json_t *prompt = ol_fields_get(&call->fields, "prompt");
	if (ol_fields_get(&call->fields, "messages"))
		read_messages(call, open_answer);
	else if (json_is_string(prompt) && make_room(call, "prompt", 1))
		encode(call, "prompt", 0, prompt, special);
	else if (!prompt)
		ol_fields_fail(&call->fields, "prompt", "missing_required_parameter",
			       "Missing required parameter: 'prompt' or 'messages'.");
	else
		ol_fields_fail(&call->fields, "prompt", "invalid_type",
			       "Invalid type for 'prompt': expected a string, but got %s instead.",
			       ol_json_kind(prompt));
}
