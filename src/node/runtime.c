#include "node/runtime.h"

#include "base/pool.h"
#include "node/adapters.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum ol_status ol_runtime_environment(struct ol_engine_options *options, struct ol_error *err)
{
	const char *isa = getenv("OPENLEDGER_ISA"), *threads = getenv("OPENLEDGER_THREADS");
	if (isa && *isa) {
		enum ol_isa parsed;
		if (!ol_isa_parse(&parsed, isa))
			return ol_fail(
				err, OL_ERR_INPUT,
				"OPENLEDGER_ISA=%s is unknown: use scalar, avx2, avx512 or neon",
				isa);
		options->kernels = ol_kernels_for(parsed);
		if (!options->kernels)
			return ol_fail(
				err, OL_ERR_UNSUPPORTED,
				"OPENLEDGER_ISA=%s: this machine does not have these instructions; "
				"leave it unset for the best that it has",
				isa);
	}
	if (threads && *threads) {
		char *end;
		errno = 0;
		const long count = strtol(threads, &end, 10);
		if (errno || *end || count < 1 || count > OL_POOL_THREADS_MAX)
			return ol_fail(err, OL_ERR_INPUT,
				       "OPENLEDGER_THREADS=%s: give a number from 1 to %d", threads,
				       OL_POOL_THREADS_MAX);
		options->threads = (int)count;
	}
	return OL_OK;
}

static enum ol_status open_texts(struct ol_runtime *r, struct ol_error *err)
{
	static const char *const tokenizer_files[] = {"tokenizer.json", "tokenizer.model"};
	char where[OL_PATH_MAX + 64];
	size_t size;
	enum ol_status s = OL_OK;
	for (size_t i = 0; i < OL_ARRAY_LEN(tokenizer_files) && !r->tokenizer && s == OL_OK; i++) {
		const char *text = ol_model_text(r->model, tokenizer_files[i], &size);
		snprintf(where, sizeof where, "%s (%s)", r->name, tokenizer_files[i]);
		if (text)
			s = ol_tokenizer_open(&r->tokenizer, text, size, where, err);
	}
	const char *chat = ol_model_text(r->model, "chat_template.jinja", &size);
	snprintf(where, sizeof where, "%s (chat template)", r->name);
	if (s == OL_OK && chat)
		s = ol_template_open(&r->chat, chat, size, where, err);
	return s;
}

enum ol_status ol_runtime_open(struct ol_runtime *runtime, const struct ol_home *home,
			       const char *name, struct ol_error *err)
{
	char path[OL_PATH_MAX], base[OL_NAME_MAX + 1];
	const char *model = name;
	*runtime = (struct ol_runtime){0};
	enum ol_status s = OL_OK;
	const bool adapted = !ol_home_has_model(home, name) && ol_home_has_adapter(home, name);
	if (adapted) {
		s = ol_home_find_adapter(home, path, name, err);
		if (s == OL_OK)
			s = ol_adapter_base(home, base, path, err);
		model = base;
	}
	if (s == OL_OK)
		s = ol_home_find_model(home, path, model, err);
	if (s != OL_OK)
		return s;
	snprintf(runtime->name, sizeof runtime->name, "%s", name);
	s = ol_model_open(&runtime->model, path, err);
	if (s == OL_OK)
		s = open_texts(runtime, err);
	if (s == OL_OK && adapted)
		s = ol_runtime_adapt(runtime, home, name, err);
	if (s != OL_OK)
		ol_runtime_close(runtime);
	return s;
}

enum ol_status ol_runtime_adapt(struct ol_runtime *runtime, const struct ol_home *home,
				const char *adapter, struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	struct ol_adapter *opened = NULL;
	enum ol_status s = ol_home_find_adapter(home, folder, adapter, err);
	if (s == OL_OK)
		s = ol_adapter_open(&opened, folder, ol_model_config(runtime->model), err);
	if (s != OL_OK)
		return s;
	ol_adapter_close(runtime->adapter);
	runtime->adapter = opened;
	return OL_OK;
}

const struct ol_adapter_view *ol_runtime_adapter(const struct ol_runtime *runtime)
{
	return runtime->adapter ? ol_adapter_views(runtime->adapter) : NULL;
}

enum ol_status ol_runtime_start(struct ol_runtime *runtime, const struct ol_engine_options *options,
				struct ol_error *err)
{
	OL_ASSERT(!runtime->engine);
	return ol_engine_open(&runtime->engine, runtime->model, options, err);
}

void ol_runtime_close(struct ol_runtime *runtime)
{
	ol_engine_close(runtime->engine);
	ol_template_close(runtime->chat);
	ol_tokenizer_close(runtime->tokenizer);
	ol_adapter_close(runtime->adapter);
	ol_model_close(runtime->model);
	*runtime = (struct ol_runtime){0};
}

enum ol_status ol_runtime_need_tokenizer(const struct ol_runtime *runtime, struct ol_error *err)
{
	if (runtime->tokenizer)
		return OL_OK;
	return ol_fail(
		err, OL_ERR_UNSUPPORTED,
		"model \"%s\" was imported without a tokenizer: import it again from a folder that "
		"has tokenizer.json or tokenizer.model",
		runtime->name);
}

struct ol_chat_format ol_runtime_chat_format(const struct ol_runtime *runtime)
{
	return (struct ol_chat_format){.tokenizer = runtime->tokenizer,
				       .chat = runtime->chat,
				       .config = ol_model_config(runtime->model)};
}

enum ol_status ol_runtime_encode_chat(const struct ol_runtime *runtime, struct ol_tokens *tokens,
				      json_t *messages, struct ol_error *err)
{
	const struct ol_chat_format format = ol_runtime_chat_format(runtime);
	const enum ol_status s = ol_runtime_need_tokenizer(runtime, err);
	if (s != OL_OK)
		return s;
	if (!runtime->chat)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "model \"%s\" has no chat template: use it without --chat",
			       runtime->name);
	return ol_chat_encode(&format, tokens, messages, true, err);
}
