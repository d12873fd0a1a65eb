/* node/runtime.h, floor 4: everything one model needs to answer: weights, tokenizer, chat template,
 * engine, and an adapter if it is to run under one. Opened by name, closed whole. */
#ifndef OL_NODE_RUNTIME_H
#define OL_NODE_RUNTIME_H

#include "model/chat.h"
#include "model/engine.h"
#include "model/tokenizer.h"
#include "node/home.h"

struct ol_runtime {
	char name[OL_PATH_MAX];
	struct ol_model *model;
	struct ol_tokenizer *tokenizer; /* NULL when the model has none */
	struct ol_template *chat;       /* NULL when the model has none */
	struct ol_engine *engine;       /* NULL until ol_runtime_start  */
	struct ol_adapter *adapter;     /* NULL: the base alone         */
};

/* OPENLEDGER_ISA and OPENLEDGER_THREADS, checked; what they leave open is left to the engine. */
OL_MUST_CHECK enum ol_status ol_runtime_environment(struct ol_engine_options *options,
						    struct ol_error *err);

/* Opens model, tokenizer and template. The name may be that of an adapter, which then finds its
 * base and is opened too; a model of the same name comes first. The engine is started when it is
 * needed and how big is known. */
OL_MUST_CHECK enum ol_status ol_runtime_open(struct ol_runtime *runtime, const struct ol_home *home,
					     const char *name, struct ol_error *err);
/* Opens an adapter (a name or a folder) over the runtime's model, in place of any it had. */
OL_MUST_CHECK enum ol_status ol_runtime_adapt(struct ol_runtime *runtime,
					      const struct ol_home *home, const char *adapter,
					      struct ol_error *err);
/* What the runs of a step run under. */
const struct ol_adapter_view *ol_runtime_adapter(const struct ol_runtime *runtime);
OL_MUST_CHECK enum ol_status ol_runtime_start(struct ol_runtime *runtime,
					      const struct ol_engine_options *options,
					      struct ol_error *err);
void ol_runtime_close(struct ol_runtime *runtime);

/* Fails with a sentence when the model came without a tokenizer. */
OL_MUST_CHECK enum ol_status ol_runtime_need_tokenizer(const struct ol_runtime *runtime,
						       struct ol_error *err);

/* How this model's conversations become ids; borrows from the runtime. */
struct ol_chat_format ol_runtime_chat_format(const struct ol_runtime *runtime);

/* The ids of a conversation through the model's chat template; user text cannot become a special
 * token. messages: a JSON array of {role, content}; borrowed. */
OL_MUST_CHECK enum ol_status ol_runtime_encode_chat(const struct ol_runtime *runtime,
						    struct ol_tokens *tokens, json_t *messages,
						    struct ol_error *err);

#endif
