/* A confined server serves; what a break-in would try kills it or is refused. Each row runs in a
 * process of its own. */
#define _GNU_SOURCE
#include "http/confine.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { FINE = 0, REFUSED = 1, ODD = 2 };

static int by_errno(long result)
{
	return result >= 0 ? FINE : errno == EPERM ? REFUSED : ODD;
}

static int try_exec(void)
{
	char *const none[] = {NULL};
	return by_errno(execve("/bin/true", none, none));
}

static int try_ptrace(void)
{
	return by_errno(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_mount(void)
{
	return by_errno(syscall(SYS_mount, NULL, NULL, NULL, 0UL, NULL));
}

static int try_setuid(void)
{
	return by_errno(syscall(SYS_setuid, getuid()));
}

static int try_io_uring(void)
{
	return by_errno(syscall(SYS_io_uring_setup, 1, NULL));
}

static int try_fork(void)
{
	const pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return by_errno(pid);
}

static int try_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return by_errno(p == MAP_FAILED ? -1 : 0);
}

static int try_dial(void)
{
	return by_errno(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_raw(void)
{
	return by_errno(socket(AF_PACKET, SOCK_RAW, 0));
}

static int try_kill(void)
{
	return by_errno(kill(getppid(), 0));
}

static int try_file(void)
{
	char buffer[16];
	const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, buffer, sizeof buffer) == sizeof buffer && close(fd) == 0 ? FINE
											     : ODD;
}

static void *touch(void *self)
{
	*(int *)self = 7;
	return NULL;
}

static int try_thread(void)
{
	pthread_t thread;
	int value = 0;
	if (pthread_create(&thread, NULL, touch, &value) != 0)
		return ODD;
	pthread_join(thread, NULL);
	return value == 7 ? FINE : ODD;
}

static void hello(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_reply(request, 200, "text/plain", "hello", 5);
}

/* Asked by its parent, from outside the filter. */
static int client(uint16_t port)
{
	static const char request[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n"
				      "Connection: close\r\n\r\n";
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	char answer[4096] = "";
	size_t used = 0;
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
	    send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
		return ODD;
	for (ssize_t n; used + 1 < sizeof answer &&
			(n = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0;)
		used += (size_t)n;
	close(fd);
	return strstr(answer, "\r\n\r\nhello") ? FINE : ODD;
}

static int serve(int port_out, int stop)
{
	static const struct ol_http_route route = {"GET", "/hello", 0, 0, hello, NULL, NULL};
	const struct ol_http_options options = {
		.routes = &route, .route_count = 1, .log = OL_HTTP_LOG_OFF};
	struct ol_http_server *server;
	char byte;
	if (ol_http_server_open(&server, &options, NULL) != OL_OK ||
	    ol_http_confine(false, NULL) != OL_OK)
		return ODD;
	const uint16_t port = ol_http_server_port(server);
	if (write(port_out, &port, sizeof port) != sizeof port || read(stop, &byte, 1) != 1)
		return ODD;
	ol_http_server_close(server);
	return FINE;
}

static void test_serves(void **state)
{
	int ports[2], stops[2], status;
	uint16_t port = 0;
	(void)state;
	assert_int_equal(pipe(ports), 0);
	assert_int_equal(pipe(stops), 0);
	const pid_t pid = fork();
	if (pid == 0)
		_exit(serve(ports[1], stops[0]));
	close(ports[1]);
	if (read(ports[0], &port, sizeof port) != sizeof port)
		fail_msg("the confined server did not start");
	for (int i = 0; i < 20; i++)
		assert_int_equal(client(port), FINE);
	assert_int_equal(write(stops[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == FINE);
	close(ports[0]);
	close(stops[0]);
	close(stops[1]);
}

static void test_rows(void **state)
{
	static const struct {
		const char *what;
		int (*attempt)(void);
		bool dial;
		int expected; /* or minus the signal */
	} rows[] = {
		{"starting a program", try_exec, true, -SIGSYS},
		{"tracing", try_ptrace, true, -SIGSYS},
		{"mounting", try_mount, true, -SIGSYS},
		{"becoming another user", try_setuid, true, -SIGSYS},
		{"io_uring", try_io_uring, true, -SIGSYS},
		{"a process", try_fork, true, REFUSED},
		{"memory to be executed", try_code, true, REFUSED},
		{"dialling", try_dial, false, REFUSED},
		{"dialling where it is allowed", try_dial, true, FINE},
		{"a raw socket", try_raw, true, REFUSED},
		{"a signal to another", try_kill, true, REFUSED},
		{"a file", try_file, false, FINE},
		{"a thread", try_thread, false, FINE},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		int status;
		const pid_t pid = fork();
		if (pid == 0)
			_exit(ol_http_confine(rows[i].dial, NULL) == OL_OK ? rows[i].attempt()
									   : 99);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		const int got = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
		if (got != rows[i].expected)
			fail_msg("%s: %d instead of %d", rows[i].what, got, rows[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_serves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
