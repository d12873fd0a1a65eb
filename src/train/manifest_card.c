/* README.md of an adapter: what Hugging Face's tools read, then what people want to know. */
#include "train/manifest.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A JSON string is a YAML string too. */
static void put_quoted(struct ol_buf *out, const char *text)
{
	json_t *string = json_string(text);
	char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
	if (!quoted || !ol_buf_append_text(out, quoted))
		out->failed = true;
	free(quoted);
	json_decref(string);
}

/* On one line, and without what Markdown or HTML would take for their own. */
static void put_plain(struct ol_buf *out, const char *text)
{
	for (const char *c = text; *c; c++) {
		if ((unsigned char)*c < ' ')
			ol_buf_append(out, " ", 1);
		else if (strchr("\\`*_[]<>#|", *c))
			ol_buf_printf(out, "\\%c", *c);
		else
			ol_buf_append(out, c, 1);
	}
}

/* Is this the first source with this value? */
static bool first_with(const struct ol_manifest *m, size_t index, bool license)
{
	const char *value = license ? m->sources[index].license : m->sources[index].file;
	for (size_t i = 0; i < index && value; i++) {
		const char *other = license ? m->sources[i].license : m->sources[i].file;
		if (other && strcmp(other, value) == 0)
			return false;
	}
	return value != NULL;
}

/* Hugging Face writes SPDX ids in lower case. */
static void put_licenses(struct ol_buf *out, const struct ol_manifest *m)
{
	bool any = false;
	for (size_t i = 0; i < m->source_count; i++) {
		char id[OL_RECORD_NAME_MAX + 1] = "";
		if (!first_with(m, i, true) || strlen(m->sources[i].license) >= sizeof id)
			continue;
		for (size_t k = 0; m->sources[i].license[k]; k++)
			id[k] = (char)tolower((unsigned char)m->sources[i].license[k]);
		ol_buf_append_text(out, any ? "- " : "license:\n- ");
		put_quoted(out, id);
		ol_buf_append_text(out, "\n");
		any = true;
	}
}

static void put_results(struct ol_buf *out, const struct ol_manifest *m, const char *name)
{
	if (!isfinite(m->eval_loss))
		return;
	ol_buf_append_text(out, "metrics:\n- perplexity\nmodel-index:\n- name: ");
	put_quoted(out, name);
	ol_buf_printf(out,
		      "\n  results:\n  - task:\n      type: text-generation\n    dataset:\n"
		      "      name: held-out examples\n      type: held-out\n    metrics:\n"
		      "    - type: loss\n      value: %.6g\n    - type: perplexity\n"
		      "      value: %.6g\n",
		      m->eval_loss, m->eval_perplexity);
}

static void put_front_matter(struct ol_buf *out, const struct ol_manifest *m, const char *name)
{
	bool any = false;
	ol_buf_append_text(out, "---\nbase_model: ");
	put_quoted(out, m->base_name);
	ol_buf_append_text(out, "\nlibrary_name: peft\npipeline_tag: text-generation\n"
				"tags:\n- lora\n- openledger\n");
	put_licenses(out, m);
	for (size_t i = 0; i < m->source_count; i++)
		if (first_with(m, i, false)) {
			ol_buf_append_text(out, any ? "- " : "datasets:\n- ");
			put_quoted(out, m->sources[i].file);
			ol_buf_append_text(out, "\n");
			any = true;
		}
	put_results(out, m, name);
	ol_buf_append_text(out, "---\n\n");
}

static void put_targets(struct ol_buf *out, uint32_t targets)
{
	bool any = false;
	for (int i = 0; i < OL_LINEARS; i++)
		if (targets & 1u << i) {
			ol_buf_printf(out, "%s%s", any ? ", " : "",
				      ol_linear_name((enum ol_linear)i));
			any = true;
		}
}

static void put_hex(struct ol_buf *out, const uint8_t *bytes)
{
	char text[2 * OL_SHA256_BYTES + 1];
	ol_hex(text, bytes, OL_SHA256_BYTES);
	ol_buf_append_text(out, text);
}

static void put_metric(struct ol_buf *out, const char *what, double value)
{
	if (isfinite(value))
		ol_buf_printf(out, "- %s: %.4f\n", what, value);
}

static void put_training(struct ol_buf *out, const struct ol_manifest *m)
{
	const struct ol_train_config *c = &m->config;
	ol_buf_printf(out,
		      "## Training\n\n"
		      "- method %s, %llu examples, %d steps of %d, at most %d tokens each\n"
		      "- learning rate %g, weight decay %g, dropout %g, seed %llu\n",
		      ol_train_method_name(c->method), (unsigned long long)m->examples, c->steps,
		      c->batch, c->max_length, (double)c->learning_rate, (double)c->weight_decay,
		      (double)c->dropout, (unsigned long long)c->seed);
	put_metric(out, "training loss, nats per answer token", m->train_loss);
	put_metric(out, "held-out loss, nats per answer token", m->eval_loss);
	put_metric(out, "held-out perplexity", m->eval_perplexity);
	put_metric(out, "held-out nats per byte", m->eval_nats_per_byte);
	ol_buf_append_text(out, "- data snapshot `");
	put_hex(out, m->snapshot_sha256);
	ol_buf_append_text(out,
			   "`\n\nTraining is a pure function of base, data and config: "
			   "`openledger reproduce` trains again and\ncompares the hash above.\n\n");
}

static void put_sources(struct ol_buf *out, const struct ol_manifest *m)
{
	ol_buf_append_text(out, "## Data\n\n");
	for (size_t i = 0; i < m->source_count; i++) {
		const struct ol_manifest_source *s = &m->sources[i];
		ol_buf_append_text(out, "- ");
		put_plain(out, s->file);
		ol_buf_append_text(out, ": ");
		put_plain(out, s->license ? s->license : "no licence named");
		if (!s->export_)
			ol_buf_append_text(out, "; what is made of it may not be handed out");
		if (!s->commercial)
			ol_buf_append_text(out, "; no commercial use");
		if (s->attribution) {
			ol_buf_append_text(out, "; ");
			put_plain(out, s->attribution);
		}
		ol_buf_append_text(out, "\n");
	}
	ol_buf_append_text(out, "\n## Contributors\n\n");
	for (size_t i = 0; i < m->contributor_count; i++) {
		ol_buf_append_text(out, "- ");
		put_plain(out, m->contributors[i].name);
		ol_buf_printf(out, ": %llu examples\n",
			      (unsigned long long)m->contributors[i].examples);
	}
	ol_buf_append_text(out, "\n");
}

static void put_attribution(struct ol_buf *out, const struct ol_manifest *m)
{
	const struct ol_manifest_fidelity *f = &m->fidelity;
	ol_buf_append_text(out, "## Attribution\n\nWho shaped an answer follows from the index `");
	put_hex(out, m->index_root);
	ol_buf_append_text(out, "`\n(`openledger attribute`). ");
	if (f->subsets == 0) {
		ol_buf_append_text(out, "How well its scores foretell retraining was not measured "
					"yet (`openledger fidelity`).\n\n");
		return;
	}
	ol_buf_printf(out,
		      "Measured by retraining on %d random subsets of %.0f%% of the examples, "
		      "%.0f queries:\n\n",
		      f->subsets, 100.0 * f->alpha, f->queries);
	put_metric(out, "rank correlation of scores with retraining (LDS)", f->lds);
	put_metric(out, "of one retraining with another (ceiling; the best LDS is about its root)",
		   f->ceiling);
	put_metric(out, "loss without the best examples, over that without as many at random",
		   f->removal);
	put_metric(out, "distance of the shares to exact Shapley values", f->shapley);
	ol_buf_append_text(out, "\n");
}

bool ol_manifest_card(struct ol_buf *text, const struct ol_manifest *manifest, const char *name,
		      const struct ol_adapter *adapter)
{
	const struct ol_adapter_config *c = ol_adapter_settings(adapter);
	put_front_matter(text, manifest, name);
	ol_buf_append_text(text, "# ");
	put_plain(text, name);
	ol_buf_append_text(text, "\n\nA LoRA adapter for the base model ");
	put_plain(text, manifest->base_name);
	ol_buf_printf(text, ": rank %d, alpha %g%s, %llu parameters, on ", c->rank,
		      (double)c->alpha, c->rslora ? " (rank-stabilised)" : "",
		      (unsigned long long)ol_adapter_parameters(adapter));
	put_targets(text, c->targets);
	ol_buf_append_text(text, ".\n\n- adapter `");
	put_hex(text, manifest->adapter_sha256);
	ol_buf_append_text(text, "`\n- base `");
	put_hex(text, manifest->base_id);
	ol_buf_printf(text, "`\n- arithmetic %s, OpenLedger %s\n\n", manifest->arithmetic,
		      manifest->code);
	if (manifest->trained) {
		put_training(text, manifest);
		put_sources(text, manifest);
	} else {
		ol_buf_append_text(text, "It was made elsewhere and imported: what it was trained "
					 "on is not known here.\n\n");
	}
	if (manifest->indexed)
		put_attribution(text, manifest);
	ol_buf_printf(text, "## Use\n\n    openledger generate -m %s --chat -p \"…\"\n", name);
	return !text->failed;
}
