/* node/train_files.h, floor 4: what a training run leaves in its folder for people and tools. */
#ifndef OL_NODE_TRAIN_FILES_H
#define OL_NODE_TRAIN_FILES_H

#include "node/home.h"
#include "train/trainer.h"

/* metrics.jsonl grows while the run goes on: a line per step, a line per evaluation. Opened again
 * at step `done`, it forgets what came after. */
struct ol_step_log;
OL_MUST_CHECK enum ol_status ol_step_log_open(struct ol_step_log **metrics_out, const char *folder,
					      int done, struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_step_log_add(struct ol_step_log *metrics,
					     const struct ol_step_report *report,
					     struct ol_error *err);
void ol_step_log_close(struct ol_step_log *metrics);

/* examples.jsonl: of every example its id, contributor, place, whether it was held out, and the
 * last loss it had while it trained. */
OL_MUST_CHECK enum ol_status ol_examples_write(const char *folder, const struct ol_dataset *dataset,
					       const struct ol_trainer *trainer,
					       struct ol_error *err);
/* Copies one of these files. */
OL_MUST_CHECK enum ol_status ol_run_file_copy(const char *to, const char *from, const char *name,
					      struct ol_error *err);
/* Removes the checkpoints and these files, so that a run can begin anew. */
OL_MUST_CHECK enum ol_status ol_run_folder_clear(const char *folder, struct ol_error *err);

#endif
