/* node/test_books.h, floor 4: for tests: a node's ledger in a home of its own, with its signer. */
#ifndef OL_NODE_TEST_BOOKS_H
#define OL_NODE_TEST_BOOKS_H

#include "node/ledger_home.h"
#include "node/test_folder.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { LONG_MS = 60000 };

#define MUST(call)                                                                                 \
	do {                                                                                       \
		struct ol_error why = {0};                                                         \
		if ((call) != OL_OK)                                                               \
			fail_msg("%s: %s", #call, why.text);                                       \
	} while (0)

struct world {
	struct ol_home home;
	struct ol_ledger_home paths;
	struct ol_signer *signer;
	pid_t signer_pid;
	struct ol_books books;
	uint64_t events;
};

/* In memory if there is such a place: every post is synced. */
static inline void make_home(struct ol_home *home)
{
	snprintf(home->path, sizeof home->path, "/dev/shm/openledger-test-XXXXXX");
	if (!mkdtemp(home->path)) {
		test_home_make(home);
		return;
	}
	OL_ASSERT(setenv("OPENLEDGER_HOME", home->path, 1) == 0);
	MUST(ol_home_open(home, &why));
}

/* A child of this test is the signer. */
static inline void start_signer(struct world *w)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	w->signer_pid = fork();
	assert_true(w->signer_pid >= 0);
	if (w->signer_pid == 0) {
		close(ends[0]);
		const enum ol_status s = ol_signer_serve(ends[1], w->paths.signer, ol_signer_rules,
							 ol_signer_rule_count, NULL);
		_exit(s == OL_OK ? 0 : 1);
	}
	close(ends[1]);
	MUST(ol_signer_attach(&w->signer, ends[0], w->signer_pid, &why));
}

static inline struct world *new_world(const char *origin)
{
	struct world *w = calloc(1, sizeof *w);
	assert_non_null(w);
	make_home(&w->home);
	MUST(ol_ledger_home(&w->paths, &w->home, &why));
	if (origin) {
		assert_int_equal(mkdir(w->paths.signer, 0700), 0);
		MUST(ol_signer_create(w->paths.signer, origin, &ol_random_system, &why));
		start_signer(w);
	}
	return w;
}

static inline void open_books(struct world *w)
{
	const struct ol_books_options options = {
		.limits = {1 << 12, 1 << 16, 1 << 12}, .signer = w->signer, .interval_ms = 1};
	MUST(ol_books_open(&w->books, &w->home, &options, &why));
}

static inline void free_world(struct world *w)
{
	ol_books_close(&w->books);
	if (w->signer)
		ol_signer_stop(w->signer);
	test_folder_remove(w->home.path);
	free(w);
}

static inline struct ol_account_key grants(void)
{
	struct ol_account_key key;
	ol_account_key_init(&key, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
	return key;
}

static inline struct ol_account_key somebody(uint8_t who)
{
	struct ol_account_key key;
	uint8_t id[20];
	memset(id, who, sizeof id);
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, id, sizeof id);
	return key;
}

/* A transfer with an event that speaks of it. Gives the event's index in the log. */
static inline uint64_t grant(struct world *w, uint8_t who)
{
	const struct ol_account_op op = {
		.key = grants(), .action = OL_ACCOUNT_OPEN, .flags = OL_ACCOUNT_OVERDRAFT};
	const struct ol_transfer transfer = {.id = ol_bookkeeper_id(w->books.keeper),
					     .debit = grants(),
					     .credit = somebody(who),
					     .amount = {1000},
					     .code = OL_CODE_GRANT,
					     .flags = OL_TRANSFER_OPENS};
	struct {
		struct ol_event_head head;
		struct ol_id id;
	} bytes = {.id = transfer.id};
	ol_event_begin(&bytes.head, OL_EVENT_GRANT, ol_bookkeeper_now_ms(w->books.keeper));
	const struct ol_event event = {.bytes = (const uint8_t *)&bytes,
				       .size = sizeof bytes,
				       .kind = OL_EVENT_GRANT,
				       .transfer_count = 1};
	uint8_t opened, posted;
	uint64_t index;
	struct ol_batch batch = {.postings = {&op, &transfer, 1, 1},
				 .events = &event,
				 .event_count = 1,
				 .account_results = &opened,
				 .transfer_results = &posted,
				 .event_indexes = &index};
	MUST(ol_bookkeeper_post(w->books.keeper, &batch, OL_DURABLE, &why));
	assert_int_equal(posted, OL_POST_OK);
	w->events++;
	return index;
}

#endif
