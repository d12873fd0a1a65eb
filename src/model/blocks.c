/* Rotary tables, heads, attention settings and tasks: see blocks.h. */
#include "model/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "math/functions.h"

/* Bytes of attention scores that one task may fill: they should stay in a core's L2 cache. */
enum { SCORES_TARGET = 512 << 10, TASK_ROWS_MAX = 64 };

/* Llama 3.1's stretching of the slow frequencies, as in its published reference. */
static double llama3_frequency(const struct ol_config *c, double frequency)
{
	const double two_pi = 0x1.921fb54442d18p+2;
	const double wavelength = two_pi / frequency, original = (double)c->rope_original_context;
	if (wavelength > original / c->rope_low_freq_factor)
		return frequency / c->rope_factor;
	if (wavelength < original / c->rope_high_freq_factor)
		return frequency;
	const double smooth = (original / wavelength - c->rope_low_freq_factor) /
			      (c->rope_high_freq_factor - c->rope_low_freq_factor);
	return (1.0 - smooth) * frequency / c->rope_factor + smooth * frequency;
}

void ol_rope_frequencies(double *out, const struct ol_config *c, bool local)
{
	const bool scaled = !(local && ol_rope_has_local(c));
	const double log_theta = ol_log(local ? c->rope_theta_local : c->rope_theta);
	for (int i = 0; i < c->head_dim / 2; i++) {
		double frequency = ol_exp(-((double)(2 * i) / (double)c->head_dim) * log_theta);
		if (scaled && c->rope_scaling == OL_ROPE_LINEAR)
			frequency /= c->rope_factor;
		else if (scaled && c->rope_scaling == OL_ROPE_LLAMA3)
			frequency = llama3_frequency(c, frequency);
		out[i] = frequency;
	}
}

void ol_rope_row(float *out, const double *frequencies, int position, int head_dim)
{
	const int half = head_dim / 2;
	for (int i = 0; i < half; i++) {
		double sine, cosine;
		ol_sincos(&sine, &cosine, (double)position * frequencies[i]);
		out[i] = (float)cosine;
		out[half + i] = (float)sine;
	}
}

void ol_heads_finish(const struct ol_kernels *kernels, const struct ol_config *c, float *x,
		     int heads, const float *norm, const float *bias, const float *rope)
{
	const int d = c->head_dim;
	if (bias)
		kernels->add(x, bias, heads * d);
	for (int h = 0; h < heads; h++) {
		if (norm)
			kernels->rmsnorm(x + h * d, x + h * d, norm, d, c->norm_eps);
		kernels->rope(x + h * d, rope, rope + d / 2, d / 2);
	}
}

struct ol_attention ol_attention_settings(const struct ol_config *c, enum ol_kv_type kv_type,
					  int layer)
{
	return (struct ol_attention){
		.kv_type = kv_type,
		.head_dim = c->head_dim,
		.group = c->heads / c->kv_heads,
		.window = ol_config_layer_windowed(c, layer) ? c->window : 0,
		.scale = c->attention_scale,
		.softcap = c->attention_softcap,
	};
}

size_t ol_kv_half_bytes(const struct ol_config *config, enum ol_kv_type type)
{
	return (size_t)OL_KV_PAGE * (size_t)config->head_dim * (type == OL_KV_F32 ? 4 : 2);
}

static bool add_task(struct ol_attention_plan *plan, struct ol_attention_task task)
{
	if (plan->count == plan->room) {
		const int room = OL_MAX(2 * plan->room, 256);
		struct ol_attention_task *tasks =
			realloc(plan->tasks, (size_t)room * sizeof *tasks);
		if (!tasks)
			return false;
		plan->tasks = tasks;
		plan->room = room;
	}
	plan->tasks[plan->count++] = task;
	return true;
}

void ol_attention_plan_clear(struct ol_attention_plan *plan)
{
	plan->count = 0;
	plan->thread_bytes = 0;
}

bool ol_attention_plan_run(struct ol_attention_plan *plan, const struct ol_kernels *kernels,
			   const struct ol_config *c, int run, int pos0, int count)
{
	/* Layer 0 may be windowed, but scratch does not depend on the window. */
	const struct ol_attention a = ol_attention_settings(c, OL_KV_F32, 0);
	const size_t row_bytes =
		(size_t)(pos0 + count + OL_KV_PAGE) * (size_t)a.group * sizeof(float);
	const int fit = (int)OL_MIN(SCORES_TARGET / row_bytes, TASK_ROWS_MAX);
	const int tile = OL_MAX(fit, 1);
	for (int row = (count - 1) / tile * tile; row >= 0; row -= tile) {
		const int rows = OL_MIN(tile, count - row);
		const size_t bytes =
			kernels->attention_scratch(&a, pos0 + row, rows) * sizeof(float);
		plan->thread_bytes = OL_MAX(plan->thread_bytes, (bytes + 4095) / 4096 * 4096);
		for (int h = 0; h < c->kv_heads; h++)
			if (!add_task(plan, (struct ol_attention_task){run, row, rows, h}))
				return false;
	}
	return true;
}

bool ol_attention_plan_finish(struct ol_attention_plan *plan, int threads)
{
	const size_t bytes = plan->thread_bytes * (size_t)threads;
	if (bytes > plan->scratch_bytes) {
		ol_block_free(plan->scratch, plan->scratch_bytes);
		plan->scratch = ol_block_alloc(bytes);
		plan->scratch_bytes = plan->scratch ? bytes : 0;
	}
	return plan->scratch != NULL;
}

void ol_attention_plan_release(struct ol_attention_plan *plan)
{
	ol_block_free(plan->scratch, plan->scratch_bytes);
	free(plan->tasks);
	*plan = (struct ol_attention_plan){0};
}

bool ol_all_finite(const float *x, size_t n)
{
	uint32_t broken = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &x[i], sizeof bits);
		broken |= (bits & 0x7f800000u) == 0x7f800000u;
	}
	return !broken;
}
