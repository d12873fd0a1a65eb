/* ledger/monitor.h, floor 2: follows a log from outside and says in words when it lies.
 *
 *     checkpoint ── signed by the log's key? ── continues the one known? ── new entries hash to it?
 *
 * A monitor reads everything: every entry is hashed, and with the entries before it must give the
 * root that the log signed; every tile must say the same. What it has seen it keeps in a folder, so
 * that a log which shows another history tomorrow is found out; then both signed checkpoints are
 * kept beside it as evidence: nobody without the log's key can make such a pair.
 *
 *     FOLDER/state                      the checkpoint known, and the hashes to go on from
 *     FOLDER/evidence-SIZE-ROOT/        known, shown (signed checkpoints), words
 *
 * It needs nothing but the public files (ledger/log_store.h) and the log's verifier key. */
#ifndef OL_LEDGER_MONITOR_H
#define OL_LEDGER_MONITOR_H

#include "ledger/log_store.h"
#include "ledger/proof.h"

/* Append-only; the order is that of the numbers in JSON. */
enum ol_monitor_finding {
	OL_MONITOR_SAME = 0,        /* nothing new                                            */
	OL_MONITOR_GREW = 1,        /* new entries, all as they should be                     */
	OL_MONITOR_UNREACHABLE = 2, /* no answer; nothing can be said                         */
	OL_MONITOR_UNSIGNED = 3,    /* the checkpoint is malformed or of another key or log   */
	OL_MONITOR_ROLLED_BACK = 4, /* fewer entries than known, though of the same history   */
	OL_MONITOR_FORKED = 5,      /* it contradicts the known checkpoint: two histories     */
	OL_MONITOR_TRUNCATED = 6,   /* files are missing that the checkpoint promises         */
	OL_MONITOR_WRONG_FILES = 7  /* entries or tiles do not hash to the checkpoint         */
};
const char *ol_monitor_finding_name(enum ol_monitor_finding finding); /* "same", "grew", … */
/* Is it the log's fault, and not the network's? */
bool ol_monitor_is_alarm(enum ol_monitor_finding finding);

struct ol_monitor_report {
	enum ol_monitor_finding finding;
	uint64_t known_size, size;        /* before; of the checkpoint that was shown */
	char text[OL_ERROR_TEXT_MAX];     /* what was found, in a sentence */
	char evidence[OL_ERROR_TEXT_MAX]; /* the folder of what was kept, or "" */
	/* The verifier key that follows by an event of the log, signed by both keys, or "": what
	 * comes after bears its signature. */
	char next_key[OL_VERIFIER_KEY_TEXT];
};

struct ol_monitor_options {
	struct ol_log_source source;
	const struct ol_note_key *log_key;
	const char *folder; /* made when missing; NULL: it forgets all at its end */
	/* Sees every new entry, after its hash was checked, in order; may be NULL. A status other
	 * than OL_OK ends the step with it. */
	enum ol_status (*visit)(void *context, uint64_t index, const uint8_t *entry, size_t size,
				struct ol_error *err);
	void *context;
};

struct ol_monitor;

OL_MUST_CHECK enum ol_status ol_monitor_open(struct ol_monitor **monitor_out,
					     const struct ol_monitor_options *options,
					     struct ol_error *err);
void ol_monitor_close(struct ol_monitor *monitor);

/* Looks once. What the log did stands in the report; an error is this machine's own (memory, its
 * folder), or the visitor's. */
OL_MUST_CHECK enum ol_status ol_monitor_step(struct ol_monitor *monitor,
					     struct ol_monitor_report *report,
					     struct ol_error *err);
/* Entries checked so far. */
uint64_t ol_monitor_size(const struct ol_monitor *monitor);

#endif
