/* Random weights: for benchmarks, tests and the first run of a node that has no base yet. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/pool.h"
#include "math/functions.h"
#include "model/model_internal.h"

struct random_job {
	struct ol_model *model;
	uint8_t *data;
	uint64_t seed;
	uint8_t (*leaves)[OL_MERKLE_BYTES];
	atomic_bool out_of_memory;
};

/* Element c of row r of tensor i is word c % 4 of Philox(counter {c / 4, r, i, 0}, key = seed), so
 * that a value depends on its place alone and tensors may be made in any order. */
static void random_row(float *x, const struct ol_tensor *t, int index, int row, uint64_t seed)
{
	const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	const double width = t->vector ? 0.1 : sqrt(3.0 / (double)t->cols);
	const double middle = ol_tensor_is_norm(t->role) ? 1 : 0;
	for (int c = 0; c < t->cols; c += 4) {
		const uint32_t counter[4] = {(uint32_t)c / 4, (uint32_t)row, (uint32_t)index, 0};
		uint32_t words[4];
		ol_philox(words, counter, key);
		for (int i = 0; i < 4 && c + i < t->cols; i++)
			x[c + i] = (float)(middle + width * (2 * ol_unit_double(words[i]) - 1));
	}
}

static bool make_tensor(struct random_job *job, int index)
{
	const struct ol_tensor *t = &job->model->layout.tensors[index];
	const size_t row_bytes = ol_canonical_row_bytes(t->type, t->cols);
	const int chunk = OL_MIN(OL_PANEL, t->rows);
	uint8_t *canonical = malloc((size_t)chunk * row_bytes);
	float *x = malloc((size_t)t->cols * sizeof *x);
	struct ol_sha256 hash;
	const bool ok = canonical && x && ol_tensor_leaf_init(&hash, t);
	if (ok && !t->vector)
		ol_panels_clear(job->data + t->offset, t->type, t->rows, t->cols);
	for (int row = 0; ok && row < t->rows; row += chunk) {
		const int count = OL_MIN(chunk, t->rows - row);
		for (int r = 0; r < count; r++) {
			random_row(x, t, index, row + r, job->seed);
			OL_ASSERT(ol_quantize_row(canonical + (size_t)r * row_bytes, t->type, x,
						  t->cols));
		}
		ol_sha256_update(&hash, canonical, (size_t)count * row_bytes);
		if (t->vector)
			memcpy(job->data + t->offset, canonical, row_bytes);
		else
			ol_pack_rows(job->data + t->offset, t->type, t->rows, t->cols, canonical,
				     row, count);
	}
	if (ok)
		ol_sha256_final(&hash, job->leaves[index]);
	free(x);
	free(canonical);
	return ok;
}

static void make_tensor_task(void *context, int index, int thread)
{
	struct random_job *job = context;
	(void)thread;
	if (!make_tensor(job, index))
		atomic_store(&job->out_of_memory, true);
}

static bool fill(struct ol_model *model, uint64_t seed)
{
	struct ol_pool *pool;
	struct random_job job = {
		.model = model,
		.data = model->block,
		.seed = seed,
		.leaves = calloc((size_t)model->layout.count, sizeof *job.leaves),
	};
	bool ok = job.leaves && ol_pool_open(&pool, ol_processor_count()) == OL_OK;
	if (ok) {
		ol_pool_for(pool, model->layout.count, make_tensor_task, &job);
		ol_pool_close(pool);
		ok = !atomic_load(&job.out_of_memory) &&
		     ol_model_id_compute(model->id, &model->config, NULL, 0, &model->layout,
					 (const uint8_t(*)[OL_MERKLE_BYTES])job.leaves);
	}
	free(job.leaves);
	return ok;
}

enum ol_status ol_model_random(struct ol_model **model_out, const struct ol_config *config,
			       enum ol_weight_type type, uint64_t seed, struct ol_error *err)
{
	const enum ol_status s = ol_config_check(config, "the random model", err);
	if (s != OL_OK)
		return s;
	struct ol_model *model = ol_model_new(config, type, "the random model");
	if (model)
		model->block = ol_block_alloc((size_t)model->layout.bytes);
	if (!model || !model->block || !fill(model, seed)) {
		ol_model_close(model);
		return ol_fail(err, OL_ERR_FULL, "out of memory for a random model of %s weights",
			       ol_weight_type_name(type));
	}
	ol_model_bind(model, model->block);
	*model_out = model;
	return OL_OK;
}
