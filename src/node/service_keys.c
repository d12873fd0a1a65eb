#include "node/service_keys.h"

#include <stdlib.h>

static bool reserve(void *self, void **charge, struct ol_refusal *refusal, const struct ol_ask *ask,
		    uint64_t prompt_tokens, uint64_t completion_max, struct ol_error *err)
{
	const struct ol_caller *caller = ask->caller;
	*charge = NULL;
	if (!caller)
		return true;
	struct ol_reservation *r = malloc(sizeof *r);
	if (!r) {
		*refusal = (struct ol_refusal){503, "server_error", "no_memory", 1};
		(void)ol_fail(err, OL_ERR_FULL, "out of memory");
		return false;
	}
	const uint64_t tokens = OL_MIN(prompt_tokens + completion_max, (uint64_t)INT64_MAX);
	int retry = 0;
	const enum ol_verdict verdict =
		ol_keys_reserve(self, r, &retry, caller, (int64_t)tokens, (struct ol_amount){0});
	if (verdict == OL_VERDICT_OK) {
		*charge = r;
		return true;
	}
	const struct ol_verdict_row *row = ol_verdict_row(verdict);
	*refusal = (struct ol_refusal){row->http, row->type, row->code, row->retry ? retry : 0};
	(void)ol_fail(err, OL_ERR_FULL, "%s", row->sentence);
	free(r);
	return false;
}

static enum ol_status post(void *self, void *charge, json_t **receipt,
			   const struct ol_answered *answered, struct ol_error *err)
{
	const struct ol_usage *u = &answered->usage;
	(void)receipt;
	(void)err;
	if (charge)
		ol_keys_settle(self, charge, (int64_t)(u->prompt_tokens + u->completion_tokens),
			       (struct ol_amount){0});
	free(charge);
	return OL_OK;
}

static void release(void *self, void *charge)
{
	if (charge)
		ol_keys_settle(self, charge, 0, (struct ol_amount){0});
	free(charge);
}

struct ol_accounting ol_accounting_of_keys(struct ol_keys *keys)
{
	return (struct ol_accounting){
		.reserve = reserve, .post = post, .release = release, .self = keys};
}
