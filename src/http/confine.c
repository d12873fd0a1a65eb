#define _GNU_SOURCE
#include "http/confine.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* By name: a call that this machine's headers do not know is not there to be called either. */
static const char *const allowed[] = {
	/* sockets that are there, and those that come in */
	"accept",
	"accept4",
	"recvfrom",
	"recvmsg",
	"recvmmsg",
	"sendto",
	"sendmsg",
	"sendmmsg",
	"shutdown",
	"getsockname",
	"getpeername",
	"getsockopt",
	"setsockopt",
	"socketpair",
	/* waiting */
	"poll",
	"ppoll",
	"select",
	"pselect6",
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	"epoll_pwait2",
	"eventfd2",
	"timerfd_create",
	"timerfd_settime",
	"timerfd_gettime",
	"signalfd4",
	"inotify_init1",
	"inotify_add_watch",
	"inotify_rm_watch",
	"pipe",
	"pipe2",
	"nanosleep",
	"clock_nanosleep",
	"restart_syscall",
	/* files */
	"open",
	"openat",
	"openat2",
	"creat",
	"close",
	"close_range",
	"read",
	"readv",
	"pread64",
	"preadv",
	"preadv2",
	"write",
	"writev",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"lseek",
	"stat",
	"fstat",
	"lstat",
	"newfstatat",
	"fstatat64",
	"statx",
	"statfs",
	"fstatfs",
	"access",
	"faccessat",
	"faccessat2",
	"getdents64",
	"mkdir",
	"mkdirat",
	"rmdir",
	"rename",
	"renameat",
	"renameat2",
	"link",
	"linkat",
	"symlink",
	"symlinkat",
	"unlink",
	"unlinkat",
	"readlink",
	"readlinkat",
	"truncate",
	"ftruncate",
	"fallocate",
	"fsync",
	"fdatasync",
	"sync_file_range",
	"flock",
	"fcntl",
	"fchmod",
	"fchmodat",
	"fchown",
	"utimensat",
	"umask",
	"getcwd",
	"fadvise64",
	"readahead",
	"sendfile",
	"copy_file_range",
	"splice",
	"dup",
	"dup2",
	"dup3",
	/* memory; mmap and mprotect are looked at */
	"munmap",
	"mremap",
	"madvise",
	"brk",
	"msync",
	"mincore",
	"mlock",
	"mlock2",
	"munlock",
	"mlockall",
	"munlockall",
	"membarrier",
	"get_mempolicy",
	/* threads; clone is looked at */
	"futex",
	"futex_waitv",
	"set_robust_list",
	"get_robust_list",
	"rseq",
	"set_tid_address",
	"arch_prctl",
	"gettid",
	"getpid",
	"getppid",
	"tgkill",
	"exit",
	"exit_group",
	"sched_yield",
	"sched_getaffinity",
	"sched_setaffinity",
	"sched_getparam",
	"sched_getscheduler",
	"sched_setscheduler",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"getpriority",
	"setpriority",
	"sigaltstack",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigtimedwait",
	"rt_sigpending",
	"rt_sigsuspend",
	/* clocks, randomness, and who one is */
	"clock_gettime",
	"clock_getres",
	"gettimeofday",
	"time",
	"times",
	"getrandom",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"getgroups",
	"getpgrp",
	"getsid",
	"uname",
	"sysinfo",
	"getrusage",
	"getcpu",
	"getrlimit",
	"wait4",
	"waitid",
	"alarm",
	"setitimer",
	"getitimer",
};

/* What nothing here ever does, and what is asked for first by somebody who should not be here. */
static const char *const deadly[] = {
	"execve",
	"execveat",
	"ptrace",
	"process_vm_readv",
	"process_vm_writev",
	"kcmp",
	"pidfd_getfd",
	"init_module",
	"finit_module",
	"delete_module",
	"kexec_load",
	"kexec_file_load",
	"bpf",
	"perf_event_open",
	"userfaultfd",
	"mount",
	"umount2",
	"move_mount",
	"open_tree",
	"fsopen",
	"fsconfig",
	"fsmount",
	"pivot_root",
	"chroot",
	"setns",
	"unshare",
	"setuid",
	"setgid",
	"setreuid",
	"setregid",
	"setresuid",
	"setresgid",
	"setgroups",
	"setfsuid",
	"setfsgid",
	"capset",
	"keyctl",
	"add_key",
	"request_key",
	"reboot",
	"swapon",
	"swapoff",
	"iopl",
	"ioperm",
	"open_by_handle_at",
	"personality",
	"acct",
	"quotactl",
	"settimeofday",
	"clock_settime",
	"adjtimex",
	"sethostname",
	"setdomainname",
	"vhangup",
	"modify_ldt",
	"io_uring_setup",
	"io_uring_enter",
	"io_uring_register",
};

static int add_names(scmp_filter_ctx filter, uint32_t action, const char *const *names,
		     size_t count)
{
	int failed = 0;
	for (size_t i = 0; i < count; i++) {
		const int number = seccomp_syscall_resolve_name(names[i]);
		if (number != __NR_SCMP_ERROR)
			failed |= seccomp_rule_add(filter, action, number, 0);
	}
	return failed;
}

/* Calls that are fine with some arguments only. */
static int add_looked_at(scmp_filter_ctx filter, bool dial)
{
	static const unsigned long ioctls[] = {FIONREAD, FIONBIO, 0x5401 /* TCGETS: isatty */};
	static const int options[] = {PR_SET_NAME,     PR_GET_NAME,     PR_SET_PDEATHSIG,
				      PR_SET_DUMPABLE, PR_GET_DUMPABLE, PR_SET_VMA};
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
	int failed = 0;
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				   SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				   SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* Threads, no processes. The arguments of clone3 cannot be seen: the C library then falls
	 * back on clone. */
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				   SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	failed |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	for (size_t i = 0; i < OL_ARRAY_LEN(ioctls); i++)
		failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
					   SCMP_A1(SCMP_CMP_EQ, ioctls[i], 0));
	for (size_t i = 0; i < OL_ARRAY_LEN(options); i++)
		failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
					   SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)options[i], 0));
	/* Limits may be read. */
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				   SCMP_A2(SCMP_CMP_EQ, 0, 0));
	if (!dial)
		return failed;
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0);
	for (size_t i = 0; i < OL_ARRAY_LEN(families); i++)
		failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
					   SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
	return failed;
}

enum ol_status ol_http_confine(bool dial, struct ol_error *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return ol_fail(err, OL_ERR_UNSUPPORTED, "the kernel cannot confine a process: %s",
			       strerror(errno));
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the filter of system calls");
	int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	failed |= add_names(filter, SCMP_ACT_ALLOW, allowed, OL_ARRAY_LEN(allowed));
	failed |= add_names(filter, SCMP_ACT_KILL_PROCESS, deadly, OL_ARRAY_LEN(deadly));
	failed |= add_looked_at(filter, dial);
	if (failed == 0)
		failed = seccomp_load(filter);
	seccomp_release(filter);
	if (failed != 0)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "the kernel does not take the filter of system calls: %s",
			       strerror(failed < 0 ? -failed : EINVAL));
	return OL_OK;
}
