/* base/notify.h, floor 0: telling the service manager how a server is doing (systemd's sd_notify
 * protocol: one datagram of lines to the socket that $NOTIFY_SOCKET names). Without such a socket
 * nothing is sent and nothing fails. */
#ifndef OL_BASE_NOTIFY_H
#define OL_BASE_NOTIFY_H

#include "base/base.h"

struct ol_notify {
	int fd; /* -1: nobody listens */
	/* How often WATCHDOG=1 is expected, 0 for never: send it twice as often. */
	double watchdog_seconds;
};

/* Opens the socket, so that later no more than send(2) is needed. The environment loses its
 * variables: children are not to speak for us. */
void ol_notify_open(struct ol_notify *notify);
void ol_notify_close(struct ol_notify *notify);
/* "READY=1\nSTATUS=serving at http://…", "STOPPING=1", "WATCHDOG=1". Never waits. */
void ol_notify_send(const struct ol_notify *notify, const char *lines);

#endif
