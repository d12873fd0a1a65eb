#include "node/reproduce.h"

#include "node/provenance.h"

#include <stdlib.h>
#include <string.h>

struct again {
	const struct ol_reproduce_request *q;
	struct ol_provenance from;
	struct ol_engine_options machine; /* threads and instructions */
	struct ol_trainer *trainer;
};

static enum ol_status train(struct again *a, struct ol_error *err)
{
	const struct ol_provenance *p = &a->from;
	const struct ol_train_options options = {
		.kernels = a->machine.kernels, .threads = a->machine.threads, .start = p->start};
	enum ol_status s = ol_trainer_open(&a->trainer, p->base.model, p->dataset,
					   &p->manifest.config, &options, err);
	while (s == OL_OK && !ol_trainer_finished(a->trainer)) {
		struct ol_step_report report;
		s = ol_trainer_step(a->trainer, &report, err);
		if (s == OL_OK && a->q->step &&
		    !a->q->step(a->q->context, &report, p->manifest.config.steps))
			s = ol_fail(err, OL_ERR_CANCELLED, "stopped after step %d of %d",
				    report.step, p->manifest.config.steps);
	}
	return s;
}

static enum ol_status compare(struct again *a, struct ol_reproduction *out, struct ol_error *err)
{
	struct ol_adapter *adapter = NULL;
	const enum ol_status s = ol_trainer_adapter(a->trainer, &adapter, err);
	if (s != OL_OK)
		return s;
	memcpy(out->wanted, a->from.manifest.adapter_sha256, OL_SHA256_BYTES);
	memcpy(out->got, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	out->same = memcmp(out->wanted, out->got, OL_SHA256_BYTES) == 0;
	ol_adapter_close(adapter);
	return OL_OK;
}

enum ol_status ol_reproduce(struct ol_reproduction *out, const struct ol_home *home,
			    const struct ol_reproduce_request *request, struct ol_error *err)
{
	struct again *a = calloc(1, sizeof *a);
	if (!a)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the run");
	*out = (struct ol_reproduction){0};
	a->q = request;
	ol_manifest_init(&a->from.manifest);
	enum ol_status s = ol_runtime_environment(&a->machine, err);
	if (s == OL_OK)
		s = ol_provenance_open(&a->from, home, request->adapter, request->data,
				       request->data_count, OL_PROVENANCE_RUN, err);
	if (s == OL_OK)
		s = train(a, err);
	if (s == OL_OK)
		s = compare(a, out, err);
	ol_trainer_close(a->trainer);
	ol_provenance_release(&a->from);
	free(a);
	return s;
}
