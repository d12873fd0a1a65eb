/* Any JSON as the settings of a job: what is taken lies in its ranges, what is refused is told in
 * one line, with the field. */
#include <string.h>

#include "node/jobs_worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_ranges(const struct ol_train_wish *w, const struct ol_job_extra *extra)
{
	OL_ASSERT(w->rank >= 0 && w->rank <= OL_RANK_MAX);
	OL_ASSERT(w->batch >= 0 && w->batch <= 4096 && w->steps >= 0);
	OL_ASSERT(w->epochs >= 0 && w->epochs <= 1000 && w->learning_rate >= 0);
	OL_ASSERT(w->dropout <= 0.95f && w->eval_fraction <= 0.9f);
	OL_ASSERT(extra->multiplier >= 0 && extra->multiplier <= 1000);
	OL_ASSERT(extra->samples >= 0 && extra->samples <= 100);
	OL_ASSERT(extra->checkpoint_steps >= 0 && extra->checkpoint_steps <= 1000000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_train_wish wish;
	struct ol_job_extra extra;
	struct ol_error err;
	json_error_t why;
	char field[64];
	json_t *request = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, &why);
	const char *method = json_string_value(json_object_get(request, "method"));
	if (ol_job_wish(&wish, &extra, field, method ? method : "supervised",
			json_object_get(request, "hyperparameters"),
			json_object_get(request, "openledger"), &err) == OL_OK)
		expect_ranges(&wish, &extra);
	else
		OL_ASSERT(field[0] != '\0' && memchr(field, '\0', sizeof field) &&
			  err.text[0] != '\0' && !strchr(err.text, '\n'));
	json_decref(request);
	return 0;
}
