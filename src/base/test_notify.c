/* What a service manager gets to read. */
#include "base/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_lines(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ol_notify notify;
	char got[64] = "", name[64], pid[16];
	(void)state;
	/* Abstract, and in the file system. */
	for (int i = 0; i < 2; i++) {
		char folder[] = "/tmp/test_notify.XXXXXX";
		assert_non_null(mkdtemp(folder));
		if (i == 0)
			snprintf(name, sizeof name, "@openledger-test-%d", (int)getpid());
		else
			snprintf(name, sizeof name, "%s/s", folder);
		memset(&address.sun_path, 0, sizeof address.sun_path);
		memcpy(address.sun_path, name, strlen(name));
		if (i == 0)
			address.sun_path[0] = '\0';
		const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
		const size_t size = offsetof(struct sockaddr_un, sun_path) + strlen(name);
		assert_int_equal(bind(fd, (struct sockaddr *)&address, (socklen_t)size), 0);
		snprintf(pid, sizeof pid, "%d", (int)getpid() + i);
		setenv("NOTIFY_SOCKET", name, 1);
		setenv("WATCHDOG_USEC", "1500000", 1);
		setenv("WATCHDOG_PID", pid, 1);
		ol_notify_open(&notify);
		/* The watchdog may be meant for another process. */
		assert_true(notify.watchdog_seconds == (i == 0 ? 1.5 : 0.0));
		assert_null(getenv("NOTIFY_SOCKET"));
		assert_null(getenv("WATCHDOG_USEC"));
		ol_notify_send(&notify, "READY=1\nSTATUS=here");
		const ssize_t n = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
		assert_int_equal(n, 19);
		assert_memory_equal(got, "READY=1\nSTATUS=here", 19);
		/* Nobody reads: it does not wait. */
		for (int k = 0; k < 5000; k++)
			ol_notify_send(&notify, "WATCHDOG=1");
		close(fd);
		ol_notify_send(&notify, "STOPPING=1");
		ol_notify_close(&notify);
		if (i == 1)
			assert_int_equal(unlink(name), 0);
		assert_int_equal(rmdir(folder), 0);
	}
}

static void test_nobody(void **state)
{
	static const char *const bad[] = {
		NULL, "", "relative", "/no/such/socket",
		"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct ol_notify notify;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		if (bad[i])
			setenv("NOTIFY_SOCKET", bad[i], 1);
		setenv("WATCHDOG_USEC", "5", 1);
		ol_notify_open(&notify);
		assert_int_equal(notify.fd, -1);
		assert_true(notify.watchdog_seconds == 0.0);
		ol_notify_send(&notify, "READY=1");
		ol_notify_close(&notify);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
