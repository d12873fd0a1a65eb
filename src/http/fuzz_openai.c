/* What anybody may send to the OpenAI routes: every field of it is read and checked, or refused
 * with a sentence; never a crash. The first byte says which route, the rest is the body. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "http/openai_internal.h"
#include "node/test_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ol_openai *node(void)
{
	static struct ol_openai openai;
	struct ol_runtime runtime;
	struct ol_error err;
	if (openai.service)
		return &openai;
	open_tiny(&runtime);
	const struct ol_service_options options = {
		.runtime = &runtime, .kv_bytes = 1 << 20, .engine = {.threads = 1}};
	must(ol_service_open(&openai.service, &options, &err), &err);
	return &openai;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct ol_call call = {.openai = node(), .kind = (enum ol_call_kind)(data[0] % 3)};
	call.body = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
	if (!call.body)
		return 0;
	ol_call_read(&call);
	OL_ASSERT(call.fields.failed == (call.fields.text[0] != '\0'));
	if (!call.fields.failed) {
		OL_ASSERT(call.ask.model && call.ask.prompt_count > 0 && call.ask.choices > 0);
		for (size_t p = 0; p < call.ask.prompt_count; p++)
			for (size_t i = 0; i < call.prompts[p].count; i++)
				OL_ASSERT(call.prompts[p].ids[i] >= 0 &&
					  call.prompts[p].ids[i] < TINY_VOCAB);
	}
	ol_call_release(&call);
	return 0;
}
