#include "base/notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const size_t size = strlen(path);
	/* '@' stands for the NUL of an abstract name. */
	if ((path[0] != '/' && path[0] != '@') || size >= sizeof address.sun_path)
		return -1;
	memcpy(address.sun_path, path, size);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0)
		return -1;
	const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
	    connect(fd, (struct sockaddr *)&address, length) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static double watchdog_seconds(void)
{
	const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char *end;
	if (!text || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return 0.0;
	const long long us = strtoll(text, &end, 10);
	return *end == '\0' && us > 0 ? 1e-6 * (double)us : 0.0;
}

void ol_notify_open(struct ol_notify *notify)
{
	const char *path = getenv("NOTIFY_SOCKET");
	notify->fd = path ? connect_to(path) : -1;
	notify->watchdog_seconds = notify->fd >= 0 ? watchdog_seconds() : 0.0;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void ol_notify_close(struct ol_notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

void ol_notify_send(const struct ol_notify *notify, const char *lines)
{
	if (notify->fd >= 0)
		(void)!send(notify->fd, lines, strlen(lines), MSG_DONTWAIT | MSG_NOSIGNAL);
}
