/* Import from a GGUF file. */
#include <stdio.h>
#include <string.h>

#include "model/gguf_config.h"
#include "model/import_internal.h"

struct gguf_import {
	struct ol_import_plan plan;
	struct ol_gguf gguf;
	const char *embed_name;
	bool permuted; /* rows of q and k lie interleaved, as the architecture "llama" has them */
};

static const char *layer_name(enum ol_tensor_role role)
{
	switch (role) {
	case OL_TENSOR_ATTENTION_NORM: return "attn_norm.weight";
	case OL_TENSOR_Q: return "attn_q.weight";
	case OL_TENSOR_Q_BIAS: return "attn_q.bias";
	case OL_TENSOR_Q_NORM: return "attn_q_norm.weight";
	case OL_TENSOR_K: return "attn_k.weight";
	case OL_TENSOR_K_BIAS: return "attn_k.bias";
	case OL_TENSOR_K_NORM: return "attn_k_norm.weight";
	case OL_TENSOR_V: return "attn_v.weight";
	case OL_TENSOR_V_BIAS: return "attn_v.bias";
	case OL_TENSOR_O: return "attn_output.weight";
	case OL_TENSOR_POST_ATTENTION_NORM: return "post_attention_norm.weight";
	case OL_TENSOR_FFN_NORM: return "ffn_norm.weight";
	case OL_TENSOR_GATE: return "ffn_gate.weight";
	case OL_TENSOR_UP: return "ffn_up.weight";
	case OL_TENSOR_DOWN: return "ffn_down.weight";
	case OL_TENSOR_POST_FFN_NORM: return "post_ffw_norm.weight";
	case OL_TENSOR_EMBED:
	case OL_TENSOR_HEAD:
	case OL_TENSOR_FINAL_NORM: break;
	}
	OL_UNREACHABLE();
}

void ol_gguf_tensor_name(char *out, size_t room, const struct ol_tensor *tensor)
{
	if (tensor->role == OL_TENSOR_EMBED)
		snprintf(out, room, "token_embd.weight");
	else if (tensor->role == OL_TENSOR_HEAD)
		snprintf(out, room, "output.weight");
	else if (tensor->role == OL_TENSOR_FINAL_NORM)
		snprintf(out, room, "output_norm.weight");
	else
		snprintf(out, room, "blk.%d.%s", tensor->layer, layer_name(tensor->role));
}

static void gguf_name(void *context, char *out, struct ol_import_slot *slot,
		      const struct ol_tensor *tensor)
{
	const struct gguf_import *g = context;
	if (tensor->role == OL_TENSOR_EMBED)
		snprintf(out, OL_SOURCE_NAME_MAX, "%s", g->embed_name);
	else
		ol_gguf_tensor_name(out, OL_SOURCE_NAME_MAX, tensor);
	if (g->permuted && (tensor->role == OL_TENSOR_Q || tensor->role == OL_TENSOR_K))
		slot->head_dim = g->plan.config.head_dim;
}

/* Its values have become the config's rope scaling. */
static bool gguf_ignored(const char *name)
{
	return strcmp(name, "rope_freqs.weight") == 0;
}

/* "general.name" and the like name a model, but are no part of it: they are not kept. */
static enum ol_status keep_texts(struct gguf_import *g, struct ol_error *err)
{
	struct ol_gguf_text template;
	struct ol_buf tokenizer;
	const char *name;
	ol_buf_init(&tokenizer, OL_MODEL_TEXT_MAX);
	enum ol_status s = ol_gguf_tokenizer(&tokenizer, &name, &g->gguf, g->plan.path, err);
	if (s == OL_OK && name)
		s = ol_import_keep(&g->plan, name, tokenizer.data, tokenizer.size, err);
	ol_buf_release(&tokenizer);
	if (s == OL_OK &&
	    ol_gguf_string(ol_gguf_find(&g->gguf, "tokenizer.chat_template"), &template))
		s = ol_import_keep(&g->plan, "chat_template.jinja", template.bytes, template.size,
				   err);
	return s;
}

static enum ol_status refuse_parts(const struct gguf_import *g, struct ol_error *err)
{
	int64_t parts = 0;
	(void)ol_gguf_int(ol_gguf_find(&g->gguf, "split.count"), &parts);
	if (parts > 1)
		return ol_fail(
			err, OL_ERR_UNSUPPORTED,
			"%s is one of %lld parts; merge them first (llama-gguf-split --merge)",
			g->plan.path, (long long)parts);
	return OL_OK;
}

static enum ol_status import_gguf(struct gguf_import *g, const char *output,
				  const struct ol_import_options *options, struct ol_error *err)
{
	struct ol_import_plan *plan = &g->plan;
	enum ol_status s = refuse_parts(g, err);
	if (s == OL_OK)
		s = ol_gguf_config(&plan->config, &g->gguf, plan->path, err);
	if (s != OL_OK)
		return s;
	/* The plan takes the tensors over. */
	plan->list = g->gguf.tensors;
	g->gguf.tensors = (struct ol_source_list){0};
	g->embed_name = "token_embd.weight";
	g->permuted = plan->config.arch == OL_ARCH_LLAMA || plan->config.arch == OL_ARCH_MISTRAL;
	s = ol_import_tie(plan, &g->embed_name, "output.weight", err);
	if (s == OL_OK)
		s = ol_import_map(plan, options->type, gguf_name, g, gguf_ignored, err);
	if (s == OL_OK)
		s = keep_texts(g, err);
	return s == OL_OK ? ol_import_run(plan, output, options, err) : s;
}

enum ol_status ol_import_gguf(const char *output, const char *path,
			      const struct ol_import_options *options, struct ol_error *err)
{
	struct gguf_import g;
	struct ol_map map;
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	ol_import_plan_init(&g.plan, path);
	s = ol_gguf_read(&g.gguf, map.data, map.size, path, err);
	if (s == OL_OK)
		s = import_gguf(&g, output, options, err);
	ol_gguf_release(&g.gguf);
	ol_import_plan_release(&g.plan);
	ol_map_close(&map);
	return s;
}
