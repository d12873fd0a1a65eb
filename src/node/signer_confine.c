#define _GNU_SOURCE
#include "node/signer_internal.h"

#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* What a loop of recv, hash, sign, pwrite, fdatasync, send needs, and what the C library needs for
 * memory and for ending. Nothing opens a file or a connection, starts anything, or maps code. */
static const int allowed[] = {
	SCMP_SYS(recvfrom),      SCMP_SYS(sendto),         SCMP_SYS(read),
	SCMP_SYS(write),         SCMP_SYS(pwrite64),       SCMP_SYS(fdatasync),
	SCMP_SYS(close),         SCMP_SYS(futex),          SCMP_SYS(brk),
	SCMP_SYS(munmap),        SCMP_SYS(munlock),        SCMP_SYS(madvise),
	SCMP_SYS(clock_gettime), SCMP_SYS(exit),           SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigreturn),  SCMP_SYS(rt_sigprocmask), SCMP_SYS(sigaltstack),
	SCMP_SYS(getpid),        SCMP_SYS(gettid),         SCMP_SYS(sched_yield),
};

static int allow_all(scmp_filter_ctx filter)
{
	int failed = 0;
	for (size_t i = 0; i < OL_ARRAY_LEN(allowed); i++)
		failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	/* Memory, but none that can be executed. */
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				   SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				   SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return failed;
}

bool ol_signer_confine(void)
{
	const struct rlimit none = {0, 0};
	if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    setrlimit(RLIMIT_CORE, &none) != 0)
		return false;
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return false;
	const int failed = allow_all(filter) != 0 ? -ENOSYS : seccomp_load(filter);
	seccomp_release(filter);
	if (failed != 0)
		errno = -failed;
	return failed == 0;
}
