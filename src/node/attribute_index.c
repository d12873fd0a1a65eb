#include "node/attribute_index.h"

#include "crypto/merkle.h"
#include "node/adapters.h"
#include "node/provenance.h"
#include "train/plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct making {
	const struct ol_adapter_index_request *q;
	struct ol_provenance *chain; /* (OL_LINEAGE_MAX) the adapter, its parent, … */
	int generations;
	struct ol_adapter *adapter;
	struct ol_index_source *sources;
	uint32_t count;
};

void ol_index_wish_init(struct ol_index_wish *wish)
{
	*wish = (struct ol_index_wish){-1, -1, -1, -1, -1, -1, -1, NULL};
}

/* ---- What it was made from ------------------------------------------------------------------ */

static enum ol_status open_chain(struct making *m, const struct ol_home *home, struct ol_error *err)
{
	enum ol_status s = ol_provenance_open(&m->chain[m->generations++], home, m->q->adapter,
					      m->q->data, m->q->data_count, OL_PROVENANCE_ANY, err);
	while (s == OL_OK && m->chain[m->generations - 1].start) {
		const char *parent = m->chain[m->generations - 1].start_name;
		struct ol_error why = {0};
		if (m->generations == OL_LINEAGE_MAX)
			return ol_fail(err, OL_ERR_FULL,
				       "\"%s\" goes back over more than %d adapters", m->q->adapter,
				       OL_LINEAGE_MAX);
		s = ol_provenance_open(&m->chain[m->generations++], home, parent, NULL, 0,
				       OL_PROVENANCE_RUN, &why);
		if (s != OL_OK)
			s = ol_fail(err, s,
				    "\"%s\" goes on from \"%s\", whose contributors stay its "
				    "own: %s",
				    m->q->adapter, parent, why.text);
	}
	for (int i = 0; s == OL_OK && i < m->generations; i++)
		if (m->chain[i].manifest.config.method == OL_TRAIN_DPO)
			s = ol_fail(err, OL_ERR_UNSUPPORTED,
				    "\"%s\" was trained on preferences: what a rejected answer is "
				    "worth cannot be attributed yet",
				    m->chain[i].adapter);
	return s;
}

/* Appends the examples that a run trained on, in the order of its snapshot. */
static enum ol_status add_generation(struct making *m, const struct ol_provenance *p,
				     struct ol_error *err)
{
	const size_t count = ol_dataset_count(p->dataset);
	const struct ol_train_config *config = &p->manifest.config;
	struct ol_plan plan = {0};
	uint64_t *keys = malloc((count + 1) * sizeof *keys);
	bool *held_out = calloc(count + 1, sizeof *held_out);
	enum ol_status s =
		keys && held_out ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for examples");
	for (size_t i = 0; s == OL_OK && i < count; i++)
		keys[i] = ol_dataset_at(p->dataset, i)->key;
	if (s == OL_OK && p->manifest.trained) {
		s = ol_plan_init(&plan, keys, count, (double)config->eval_fraction, config->seed,
				 config->order == OL_ORDER_SHUFFLED, err);
		for (size_t i = 0; s == OL_OK && i < plan.held_out_count; i++)
			held_out[plan.held_out[i]] = true;
		ol_plan_release(&plan);
	}
	for (size_t i = 0; s == OL_OK && i < count; i++) {
		const struct ol_example *e = ol_dataset_at(p->dataset, i);
		if (!held_out[i])
			m->sources[m->count++] =
				(struct ol_index_source){e->id, e->contributor, &e->sequence,
							 e->key, (uint32_t)e->answer_tokens};
	}
	free(keys);
	free(held_out);
	return s;
}

static enum ol_status gather(struct making *m, struct ol_error *err)
{
	size_t total = 0;
	enum ol_status s = OL_OK;
	for (int i = 0; i < m->generations; i++)
		total += ol_dataset_count(m->chain[i].dataset);
	if (total > OL_INDEX_EXAMPLES_MAX)
		return ol_fail(err, OL_ERR_FULL, "%zu examples are more than an index holds, %d",
			       total, OL_INDEX_EXAMPLES_MAX);
	m->sources = calloc(total + 1, sizeof *m->sources);
	if (!m->sources)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu examples", total);
	for (int i = m->generations - 1; s == OL_OK && i >= 0; i--)
		s = add_generation(m, &m->chain[i], err);
	return s;
}

/* The snapshot of the run; of several, the RFC 6962 root over theirs, the first one first. */
static void name_snapshot(uint8_t out[OL_SHA256_BYTES], const struct making *m)
{
	struct ol_merkle tree;
	uint8_t leaf[OL_MERKLE_BYTES];
	memcpy(out, ol_dataset_sha256(m->chain[0].dataset), OL_SHA256_BYTES);
	if (m->generations == 1)
		return;
	ol_merkle_init(&tree);
	for (int i = m->generations - 1; i >= 0; i--) {
		ol_merkle_leaf(leaf, ol_dataset_sha256(m->chain[i].dataset), OL_SHA256_BYTES);
		ol_merkle_add(&tree, leaf);
	}
	ol_merkle_root(&tree, out);
}

/* ---- Making --------------------------------------------------------------------------------- */

static enum ol_status choose_settings(struct ol_index_settings *s, const struct ol_index_wish *w,
				      const struct ol_config *config, struct ol_error *err)
{
	ol_index_defaults(s, config);
	const struct {
		int wish;
		uint32_t *target;
	} numbers[] = {{w->draws, &s->draws},
		       {w->curvature, &s->curvature_max},
		       {w->row_bytes, &s->row_bytes},
		       {w->first_layer, &s->first_layer},
		       {w->last_layer, &s->last_layer}};
	for (size_t i = 0; i < OL_ARRAY_LEN(numbers); i++)
		if (numbers[i].wish >= 0)
			*numbers[i].target = (uint32_t)numbers[i].wish;
	if (w->damping >= 0)
		s->damping = (double)w->damping;
	if (w->span_part >= 0)
		s->span_part = (uint32_t)((double)w->span_part * OL_SHARE_WHOLE);
	return w->targets ? ol_targets_parse(&s->targets, w->targets, err) : OL_OK;
}

static enum ol_status build(struct making *m, struct ol_index_result *result, struct ol_error *err)
{
	struct ol_provenance *p = &m->chain[0];
	char path[OL_PATH_MAX];
	struct ol_engine_options machine = {0};
	struct ol_index_request request = {.model = p->base.model,
					   .adapter = m->adapter,
					   .sources = m->sources,
					   .source_count = m->count,
					   .low_confidence = !p->manifest.trained,
					   .progress = m->q->progress,
					   .context = m->q->context};
	enum ol_status s = choose_settings(&request.settings, &m->q->wish,
					   ol_model_config(p->base.model), err);
	if (s == OL_OK)
		s = ol_runtime_environment(&machine, err);
	if (s == OL_OK)
		s = ol_path_join(path, err, p->folder, "/", OL_INDEX_FILE);
	if (s != OL_OK)
		return s;
	request.kernels = machine.kernels;
	request.threads = machine.threads;
	name_snapshot(request.snapshot_sha256, m);
	return ol_index_build(result, path, &request, err);
}

/* The manifest names the index from now on; what was measured with another is no longer true. */
static enum ol_status commit(struct making *m, const struct ol_index_result *result,
			     struct ol_error *err)
{
	struct ol_provenance *p = &m->chain[0];
	struct ol_manifest *manifest = &p->manifest;
	const char *slash = strrchr(p->adapter, '/');
	if (manifest->indexed &&
	    memcmp(manifest->index_root, result->root, sizeof result->root) != 0)
		manifest->fidelity.subsets = 0;
	manifest->indexed = true;
	memcpy(manifest->index_root, result->root, sizeof manifest->index_root);
	if (!p->has_manifest) {
		memcpy(manifest->base_id, ol_model_id(p->base.model), sizeof manifest->base_id);
		memcpy(manifest->base_name, p->base_name,
		       OL_MIN(sizeof manifest->base_name, sizeof p->base_name));
		memcpy(manifest->adapter_sha256, ol_adapter_sha256(m->adapter), OL_SHA256_BYTES);
	}
	return ol_adapter_amend(p->folder, slash ? slash + 1 : p->adapter, m->adapter, manifest,
				err);
}

static enum ol_status make(struct making *m, struct ol_index_result *result,
			   const struct ol_home *home, struct ol_error *err)
{
	enum ol_status s = open_chain(m, home, err);
	if (s == OL_OK)
		s = ol_adapter_open(&m->adapter, m->chain[0].folder,
				    ol_model_config(m->chain[0].base.model), err);
	if (s == OL_OK)
		s = gather(m, err);
	if (s == OL_OK)
		s = build(m, result, err);
	return s == OL_OK ? commit(m, result, err) : s;
}

enum ol_status ol_adapter_index(struct ol_index_result *result, const struct ol_home *home,
				const struct ol_adapter_index_request *request,
				struct ol_error *err)
{
	struct making m = {.q = request,
			   .chain = calloc(OL_LINEAGE_MAX, sizeof(struct ol_provenance))};
	if (!m.chain)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the index");
	const enum ol_status s = make(&m, result, home, err);
	free(m.sources);
	ol_adapter_close(m.adapter);
	for (int i = 0; i < m.generations; i++)
		ol_provenance_release(&m.chain[i]);
	free(m.chain);
	return s;
}

enum ol_status ol_adapter_open_index(struct ol_index **index_out, const char *folder,
				     struct ol_error *err)
{
	struct ol_manifest manifest;
	char path[OL_PATH_MAX];
	bool found = false;
	*index_out = NULL;
	ol_manifest_init(&manifest);
	enum ol_status s = ol_adapter_manifest(&manifest, &found, folder, err);
	if (s == OL_OK)
		s = ol_path_join(path, err, folder, "/", OL_INDEX_FILE);
	if (s == OL_OK && (!manifest.indexed || access(path, F_OK) != 0))
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "%s has no attribution index: `openledger index` makes it", folder);
	if (s == OL_OK)
		s = ol_index_open(index_out, path, manifest.index_root, err);
	ol_manifest_release(&manifest);
	return s;
}
