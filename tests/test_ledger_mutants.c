/* The crash tests can fail. The journal is compiled here a second time, with a mistake that a row
 * chooses; the row says what must find it. Without a mistake, the same runs find nothing. */
#include <stdbool.h>

enum mutant {
	HONEST,
	MUTANT_CHECKSUM_OFF,
	MUTANT_ACK_BEFORE_SYNC,
	MUTANT_RETRY_SYNC, /* a failed sync is tried again, and believed                  */
	MUTANT_CHAIN_OFF,
	MUTANT_SNAPSHOT_FIRST,  /* a snapshot covers a record that is not durable yet          */
	MUTANT_NO_SETTLE,       /* after a failed sync, recovery believes the cache            */
	MUTANT_NAME_NOT_SYNCED, /* a segment's name is believed because it is seen             */
	MUTANT_NO_PADDING,      /* a group begins in the sector in which an older one ends     */
	MUTANT_NO_NEW_SEGMENT   /* the same, behind the whole records of a torn group          */
};

static enum mutant mutant;
#define OL_MUTANT(name) (mutant == (name))

#include "ledger/journal.c"
#include "ledger/journal_read.c"

#include "tests/support_crash.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ROUND = 60, ROUNDS_MAX = 150, ROUNDS_HONEST = 20 };

static bool found_by_crashes(uint64_t *recoveries_out, int rounds)
{
	struct ol_crash_tally tally = {0};
	char why[OL_ERROR_TEXT_MAX];
	for (int i = 0; i < rounds; i++) {
		const struct ol_crash_options o = {
			.seed = 500 + (uint64_t)i, .recoveries = ROUND, .steps_max = 24};
		if (!ol_crash_run(&o, &tally, why)) {
			*recoveries_out = tally.recoveries;
			print_message("  \"%s\"\n", why);
			return true;
		}
	}
	return false;
}

/* ---- Another history of the same length, grafted into this one
 * --------------------------------- */

static void grant(struct ol_ledger *ledger, struct ol_world *world, struct ol_amount given)
{
	struct ol_account_op ops[1] = {{.action = OL_ACCOUNT_OPEN, .flags = OL_ACCOUNT_OVERDRAFT}};
	struct ol_transfer t = {.amount = given, .code = OL_CODE_GRANT, .flags = OL_TRANSFER_OPENS};
	struct ol_batch batch = {.postings = {ops, &t, 1, 1}};
	uint8_t op_result, result, random[OL_ID_RANDOM_BYTES] = {1};
	struct ol_error err;
	batch.account_results = &op_result;
	batch.transfer_results = &result;
	ol_account_key_init(&ops[0].key, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
	t.debit = ops[0].key;
	ol_account_key_init(&t.credit, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, "somebody", 8);
	world->now_ms += 1000;
	t.id = ol_id_make(world->now_ms, random);
	ol_must(ol_ledger_post(ledger, &batch, &err), &err);
	assert_int_equal(result, OL_POST_OK);
	ol_must(ol_ledger_commit(ledger, &err), &err);
}

static const char segment[] = "0000000000000000.journal";

/* Three grants, the second of them this one. */
static struct ol_sim_disk *history(struct ol_amount second, uint64_t *from_out, uint64_t *to_out)
{
	static struct ol_world world;
	struct ol_sim_disk *sim = ol_sim_disk_open(7);
	struct ol_error err;
	struct ol_ledger *ledger = NULL;
	ol_world_init(&world, 7);
	const struct ol_ledger_options options = ol_crash_ledger(sim, &world);
	ol_must(ol_ledger_open(&ledger, NULL, &options, &err), &err);
	grant(ledger, &world, ol_amount(1));
	*from_out = ol_ledger_durable(ledger)->position;
	grant(ledger, &world, second);
	*to_out = ol_ledger_durable(ledger)->position;
	grant(ledger, &world, ol_amount(3));
	ol_must(ol_ledger_seal(ledger, &err), &err);
	ol_ledger_close(ledger);
	return sim;
}

static bool found_by_graft(void)
{
	static struct ol_world world;
	uint64_t from, to, other_from, other_to;
	size_t size;
	struct ol_sim_disk *sim = history(ol_amount(20), &from, &to);
	struct ol_sim_disk *other = history(ol_amount(21), &other_from, &other_to);
	assert_true(from == other_from && to == other_to);
	memcpy(ol_sim_disk_bytes(sim, segment, &size) + SEGMENT_HEADER + from,
	       ol_sim_disk_bytes(other, segment, &size) + SEGMENT_HEADER + from, to - from);
	ol_world_init(&world, 7);
	const struct ol_ledger_options options = ol_crash_ledger(sim, &world);
	struct ol_ledger *ledger = NULL;
	struct ol_error err;
	/* The rule that is broken: a changed history is refused. */
	const bool opened = ol_ledger_open(&ledger, NULL, &options, &err) == OL_OK;
	if (!opened)
		assert_non_null(strstr(err.text, "chain of hashes"));
	ol_ledger_close(ledger);
	ol_sim_disk_close(sim);
	ol_sim_disk_close(other);
	return opened;
}

/* ---- The rows ------------------------------------------------------------ */

static const struct {
	const char *name;
	enum mutant mutant;
	bool by_crashes, by_graft;
} rows[] = {
	{"honest", HONEST, false, false},
	{"checksum off", MUTANT_CHECKSUM_OFF, true, false},
	{"acknowledged before the sync", MUTANT_ACK_BEFORE_SYNC, true, false},
	{"sync tried again after a failure", MUTANT_RETRY_SYNC, true, false},
	{"chain off", MUTANT_CHAIN_OFF, false, true},
	{"snapshot before its journal", MUTANT_SNAPSHOT_FIRST, true, false},
	{"recovery reads the cache", MUTANT_NO_SETTLE, true, false},
	{"a name is not synced", MUTANT_NAME_NOT_SYNCED, true, false},
	{"groups share a sector", MUTANT_NO_PADDING, true, false},
	{"a group goes on where a torn one was kept", MUTANT_NO_NEW_SEGMENT, true, false},
};

static void test_every_mutant_is_caught(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		uint64_t recoveries = 0;
		mutant = rows[i].mutant;
		print_message("%s:\n", rows[i].name);
		const bool crashes = found_by_crashes(
			&recoveries, rows[i].by_crashes ? ROUNDS_MAX : ROUNDS_HONEST);
		const bool graft = found_by_graft();
		mutant = HONEST;
		if (crashes != rows[i].by_crashes || (graft && !rows[i].by_graft) ||
		    (!graft && rows[i].by_graft))
			fail_msg("%s: found by crashes %d, by the graft %d", rows[i].name, crashes,
				 graft);
		if (crashes)
			print_message("  found after %llu recoveries\n",
				      (unsigned long long)recoveries);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_mutant_is_caught),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
