/* http/confine.h, floor 5: what the process that reads strangers' bytes may ask of the kernel.
 *
 * Called once everything is open: sockets listening, threads and helper processes started. After it
 * the process (all its threads, for good) works on files, memory, threads and the sockets it has or
 * accepts. Asking for what a break-in wants first (starting a program, reading another process,
 * mounting, loading code into the kernel, changing who one is) kills it at once; anything else that
 * is not on the list is refused with EPERM, as is memory that is to be executed and a second
 * listening socket. */
#ifndef OL_HTTP_CONFINE_H
#define OL_HTTP_CONFINE_H

#include "base/base.h"

/* dial: connections to others may be opened (a chain's RPC). OL_ERR_UNSUPPORTED where the kernel or
 * the machine has no such filters; then nothing is confined. */
OL_MUST_CHECK enum ol_status ol_http_confine(bool dial, struct ol_error *err);

#endif
