/* Two fuzzers in one: the bytes up to the first NUL are a template (when there are none, one that
 * uses most of the language), the bytes after it the JSON of the conversation (when there are none,
 * one with something in every field). What comes out is UTF-8, and its spans are in order. */
#include "model/chat_template.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char usual_template[] =
	"{%- macro turn(m, tag='<|') %}{{ tag }}{{ m.role }}{% generation %}{{ m.content | trim }}"
	"{% endgeneration %}{% endmacro %}{% set ns = namespace(n=0) %}"
	"{% for m in messages if m.content is defined %}{% set ns.n = ns.n + 1 %}"
	"{% if m.content is string %}{{ m.content[::-1] }}{{ m.content.split('a') | join('-') | "
	"title }}"
	"{{ m.content | replace('b', m.role) | upper }}{{ m.content.strip('x')[1:-1] }}{{ "
	"turn(m) }}"
	"{% elif m.content is mapping %}{% for k, v in m.content | dictsort %}{{ k }}{{ v }}{% "
	"endfor %}"
	"{% else %}{{ m.content | tojson(indent=2) | indent(3) }}{% endif %}{{ loop.index }}"
	"{{ m }}{{ m.content ~ loop.last }}{% endfor %}{{ messages | map(attribute='role') | "
	"unique | list }}"
	"{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ tools | "
	"tojson }}";

static const char usual_json[] =
	"{\"messages\": [{\"role\": \"user\", \"content\": \" h\\u00e9llo <|x|> \"}, {\"role\": "
	"\"assistant\","
	"\"content\": [{\"type\": \"text\", \"text\": \"a\"}], \"tool_calls\": [{\"function\": "
	"{\"name\":"
	"\"f\", \"arguments\": {\"x\": 1.5, \"y\": [null, true, \"z\"]}}}]}], \"tools\": "
	"[{\"name\": \"f\"}],"
	"\"add_generation_prompt\": true, \"n\": 7, \"s\": \"a,b\\n\\nc\", \"d\": {\"k\": "
	"{\"l\": 2}}}";

static void check_utf8(const char *text, size_t size)
{
	for (size_t at = 0; at < size;) {
		const unsigned char lead = (unsigned char)text[at];
		const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
		OL_ASSERT((lead < 0x80 || lead >= 0xc2) && length <= size - at);
		for (size_t i = 1; i < length; i++)
			OL_ASSERT(((unsigned char)text[at + i] & 0xc0) == 0x80);
		at += length;
	}
}

static void check_output(const struct ol_buf *text, const struct ol_spans *spans)
{
	check_utf8(text->data ? text->data : "", text->size);
	for (size_t i = 0; i < spans->count; i++) {
		OL_ASSERT(spans->spans[i].begin < spans->spans[i].end);
		OL_ASSERT(spans->spans[i].end <= text->size);
		OL_ASSERT(i == 0 || spans->spans[i - 1].end < spans->spans[i].begin);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *source = (const char *)data;
	const char *nul = size ? memchr(data, '\0', size) : NULL;
	size_t source_size = nul ? (size_t)(nul - source) : size;
	const char *json = nul ? nul + 1 : usual_json;
	size_t json_size = nul ? size - source_size - 1 : sizeof usual_json - 1;
	if (source_size == 0) {
		source = usual_template;
		source_size = sizeof usual_template - 1;
	}
	if (json_size == 0) {
		json = usual_json;
		json_size = sizeof usual_json - 1;
	}
	json_t *variables = json_loadb(json, json_size, JSON_ALLOW_NUL, NULL);
	struct ol_template *tpl;
	struct ol_error err;
	if (variables && ol_template_open(&tpl, source, source_size, "fuzz", &err) == OL_OK) {
		struct ol_buf text;
		struct ol_spans spans = {0};
		ol_buf_init(&text, OL_TEMPLATE_OUTPUT_MAX);
		const enum ol_status s =
			ol_template_render(tpl, &text, &spans, variables, NULL, 0, &err);
		OL_ASSERT(s == OL_OK || (text.size == 0 && spans.count == 0 && err.text[0]));
		check_output(&text, &spans);
		ol_buf_release(&text);
		ol_spans_release(&spans);
		ol_template_close(tpl);
	}
	json_decref(variables);
	return 0;
}
