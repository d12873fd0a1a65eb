#define _GNU_SOURCE
#include "node/jobs_launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRAINERS_MAX = 16, KIND_MS = 20000, NEWS_MAX = 64, NICE = 19 };

/* Between server and launcher: one message each way per datagram. */
enum ask { ASK_RUN, ASK_SIGNAL };
struct question {
	uint32_t ask;
	int32_t pid, signal_number;
	uint32_t normal;
	uint64_t memory_max, cpu_max;
	char folder[OL_PATH_MAX];
};
enum tell { TELL_STARTED, TELL_FAILED, TELL_EXITED };
struct answer {
	uint32_t tell;
	int32_t pid, status; /* FAILED: errno */
};

struct ol_launcher {
	pid_t pid;
	int fd;
	struct answer news[NEWS_MAX]; /* exits that came while a start was waited for */
	int news_count;
	bool dead;
};

/* ---- The launcher process ---- */

struct boss {
	int server, exits;
	char program[OL_PATH_MAX];
	pid_t trainers[TRAINERS_MAX];
	int count;
};

/* A forked process ends without the exit handlers of the server, which are not its own. */
_Noreturn static void end_here(void)
{
	for (;;)
		kill(getpid(), SIGKILL);
}

static void write_text(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	/* Best effort: a system that has no such file has no such trouble. */
	if (write(fd, text, strlen(text)) < 0)
		errno = 0;
	close(fd);
}

/* A sanitizer maps terabytes for itself: with it there is no limit on what is mapped. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MAPS_LIMITED = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { MAPS_LIMITED = 0 };
#else
enum { MAPS_LIMITED = 1 };
#endif
#else
enum { MAPS_LIMITED = 1 };
#endif

static void limit(int what, uint64_t max)
{
	const struct rlimit both = {max, max};
	if (max > 0)
		setrlimit(what, &both);
}

/* In the new process, up to the program itself. Only what may be called after fork. */
_Noreturn static void become_trainer(const struct boss *b, const struct question *q, int output)
{
	char program[] = "openledger", command[] = "train-job", folder[OL_PATH_MAX];
	char *const arguments[] = {program, command, folder, NULL};
	const struct sched_param idle = {0};
	sigset_t none;
	memcpy(folder, q->folder, sizeof folder);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	if (!q->normal) {
		setpriority(PRIO_PROCESS, 0, NICE);
		sched_setscheduler(0, SCHED_IDLE, &idle);
	}
	write_text("/proc/self/oom_score_adj", "1000");
	limit(RLIMIT_DATA, MAPS_LIMITED ? q->memory_max : 0);
	limit(RLIMIT_CPU, q->cpu_max);
	const int nothing = open("/dev/null", O_RDONLY);
	if (nothing >= 0 && dup2(nothing, 0) == 0 && dup2(output, 1) == 1 && dup2(output, 2) == 2) {
		close_range(3, ~0U, 0);
		execv(b->program, arguments);
	}
	static const char sentence[] = "the trainer's program cannot be started\n";
	if (write(output, sentence, sizeof sentence - 1) < 0)
		errno = 0;
	end_here();
}

static void tell(const struct boss *b, const struct answer *answer, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec part = {(void *)(uintptr_t)answer, sizeof *answer};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof control.bytes;
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(head), &fd, sizeof fd);
	}
	while (sendmsg(b->server, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
		continue;
}

static void run(struct boss *b, const struct question *q)
{
	struct answer answer = {.tell = TELL_FAILED, .status = EAGAIN};
	int ends[2] = {-1, -1};
	if (b->count < TRAINERS_MAX && pipe2(ends, O_CLOEXEC) == 0) {
		const pid_t pid = fork();
		if (pid == 0)
			become_trainer(b, q, ends[1]);
		if (pid > 0) {
			b->trainers[b->count++] = pid;
			answer = (struct answer){.tell = TELL_STARTED, .pid = pid};
		} else {
			answer.status = errno;
		}
	}
	tell(b, &answer, answer.tell == TELL_STARTED ? ends[0] : -1);
	if (ends[0] >= 0) {
		close(ends[0]);
		close(ends[1]);
	}
}

static void signal_one(const struct boss *b, pid_t pid, int signal_number)
{
	/* Only a child that has not been waited for: its number cannot be another process. */
	for (int i = 0; i < b->count; i++)
		if (b->trainers[i] == pid)
			kill(pid, signal_number);
}

static void reap(struct boss *b)
{
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		for (int i = 0; i < b->count; i++)
			if (b->trainers[i] == pid)
				b->trainers[i--] = b->trainers[--b->count];
		tell(b, &(struct answer){TELL_EXITED, pid, status}, -1);
	}
}

static void wait_for_exits(struct boss *b, int milliseconds)
{
	struct signalfd_siginfo info;
	struct pollfd fd = {.fd = b->exits, .events = POLLIN};
	for (; b->count > 0 && milliseconds > 0; milliseconds -= 100) {
		poll(&fd, 1, 100);
		while (read(b->exits, &info, sizeof info) > 0)
			continue;
		reap(b);
	}
}

static void end_all(struct boss *b)
{
	for (int i = 0; i < b->count; i++)
		kill(b->trainers[i], SIGTERM);
	wait_for_exits(b, KIND_MS);
	for (int i = 0; i < b->count; i++)
		kill(b->trainers[i], SIGKILL);
	wait_for_exits(b, KIND_MS);
}

_Noreturn static void be_launcher(struct boss *b)
{
	struct question q;
	struct signalfd_siginfo info;
	sigset_t child;
	/* Ctrl-C is for the server, which then ends its trainers as it should. The session, and so
	 * the autogroup, stays the server's. */
	setpgid(0, 0);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "ol-launcher");
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	b->exits = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	for (bool open = b->exits >= 0; open;) {
		struct pollfd fds[2] = {{.fd = b->server, .events = POLLIN},
					{.fd = b->exits, .events = POLLIN}};
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		while (read(b->exits, &info, sizeof info) > 0)
			continue;
		reap(b);
		if (fds[0].revents == 0)
			continue;
		const ssize_t size = recv(b->server, &q, sizeof q, 0);
		open = size > 0 || (size < 0 && errno == EINTR);
		if (size != (ssize_t)sizeof q || !memchr(q.folder, '\0', sizeof q.folder))
			continue;
		if (q.ask == ASK_RUN)
			run(b, &q);
		else if (q.ask == ASK_SIGNAL)
			signal_one(b, q.pid, q.signal_number);
	}
	end_all(b);
	end_here();
}

/* ---- The server's side ---- */

enum ol_status ol_launcher_start(struct ol_launcher **launcher_out, const char *program,
				 struct ol_error *err)
{
	int ends[2];
	struct boss boss = {0};
	struct ol_launcher *l = calloc(1, sizeof *l);
	enum ol_status s = ol_path_join(boss.program, err, program, "", "");
	if (!l || s != OL_OK) {
		free(l);
		return l ? s : ol_fail(err, OL_ERR_FULL, "out of memory for the launcher");
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		free(l);
		return ol_fail(err, OL_ERR_IO, "cannot make a socket pair: %s", strerror(errno));
	}
	l->pid = fork();
	if (l->pid == 0) {
		close(ends[0]);
		boss.server = ends[1];
		be_launcher(&boss);
	}
	const int why = errno;
	close(ends[1]);
	l->fd = ends[0];
	if (l->pid < 0) {
		close(ends[0]);
		free(l);
		return ol_fail(err, OL_ERR_IO, "cannot start the launcher of trainers: %s",
			       strerror(why));
	}
	*launcher_out = l;
	return OL_OK;
}

void ol_launcher_close(struct ol_launcher *l)
{
	if (!l)
		return;
	close(l->fd);
	while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	free(l);
}

static bool ask(const struct ol_launcher *l, const struct question *q)
{
	ssize_t size;
	do
		size = send(l->fd, q, sizeof *q, MSG_NOSIGNAL);
	while (size < 0 && errno == EINTR);
	return size == (ssize_t)sizeof *q;
}

/* One datagram; -1: there is none, 0: the launcher is gone. */
static int receive(struct ol_launcher *l, struct answer *answer, int *fd_out, int flags)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {answer, sizeof *answer};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof control.bytes};
	ssize_t size;
	*fd_out = -1;
	do
		size = recvmsg(l->fd, &message, flags | MSG_CMSG_CLOEXEC);
	while (size < 0 && errno == EINTR);
	if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -1;
	const struct cmsghdr *head = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (head && head->cmsg_type == SCM_RIGHTS)
		memcpy(fd_out, CMSG_DATA(head), sizeof *fd_out);
	l->dead |= size != (ssize_t)sizeof *answer;
	return l->dead ? 0 : 1;
}

enum ol_status ol_launcher_run(struct ol_launcher *l, pid_t *pid_out, int *fd_out,
			       const struct ol_launch *launch, struct ol_error *err)
{
	struct question q = {.ask = ASK_RUN,
			     .normal = launch->normal,
			     .memory_max = launch->memory_max,
			     .cpu_max = launch->cpu_max};
	struct answer answer;
	const enum ol_status s = ol_path_join(q.folder, err, launch->folder, "", "");
	if (s != OL_OK)
		return s;
	if (l->dead || !ask(l, &q))
		return ol_fail(err, OL_ERR_IO,
			       "the process that starts trainers has ended: restart the server");
	/* Exits of others may come first. */
	for (;;) {
		if (receive(l, &answer, fd_out, 0) <= 0)
			return ol_fail(err, OL_ERR_IO,
				       "the process that starts trainers has ended: restart the "
				       "server");
		if (answer.tell != TELL_EXITED)
			break;
		OL_ASSERT(l->news_count < NEWS_MAX);
		l->news[l->news_count++] = answer;
	}
	if (answer.tell == TELL_FAILED)
		return ol_fail(err, OL_ERR_IO, "cannot start a trainer: %s",
			       strerror(answer.status));
	*pid_out = answer.pid;
	return OL_OK;
}

void ol_launcher_signal(struct ol_launcher *l, pid_t pid, int signal_number)
{
	const struct question q = {.ask = ASK_SIGNAL, .pid = pid, .signal_number = signal_number};
	if (!l->dead)
		l->dead = !ask(l, &q);
}

int ol_launcher_fd(const struct ol_launcher *l)
{
	return l->fd;
}

bool ol_launcher_news(struct ol_launcher *l, pid_t *pid_out, int *status_out, bool *dead)
{
	struct answer answer;
	int fd;
	bool found = l->news_count > 0;
	if (found)
		answer = l->news[--l->news_count];
	else
		found = !l->dead && receive(l, &answer, &fd, MSG_DONTWAIT) > 0;
	*dead = l->dead;
	if (found) {
		*pid_out = answer.pid;
		*status_out = answer.status;
	}
	return found;
}
