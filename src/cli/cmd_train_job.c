/* openledger train-job: a trainer, as a server's launcher starts it (node/jobs_launcher.h). */
#include "cli/commands.h"
#include "node/jobs_worker.h"

#include <stdio.h>
#include <unistd.h>

int ol_command_train_job(int argc, char **argv)
{
	if (argc != 2 || argv[1][0] == '-') {
		fprintf(stderr, "Usage: openledger train-job FOLDER\nIt is for `openledger serve`: "
				"trains what FOLDER/job.json says.\n");
		return 1;
	}
	ol_interrupt_catch();
	const struct ol_job_work work = {.folder = argv[1],
					 .fd = STDOUT_FILENO,
					 .code = ol_code_version,
					 .stopped = ol_interrupted};
	return ol_job_work(&work) ? 0 : 1;
}
