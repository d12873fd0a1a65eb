/* base/base.h, floor 0: the words every other file uses.
 *
 * Two kinds of failure (docs/ARCHITECTURE.md): our own bug stops the process through OL_ASSERT;
 * the world's failure comes back as an ol_status that the compiler insists on being looked at. */
#ifndef OL_BASE_BASE_H
#define OL_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OL_MUST_CHECK __attribute__((warn_unused_result))
#define OL_PRINTF(fmt_index, first) __attribute__((format(printf, fmt_index, first)))
#define OL_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define OL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define OL_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Prints where and what, then aborts. Always on: a wrong number is worse than a stopped process. */
_Noreturn void ol_assert_failed(const char *file, int line, const char *what);

#define OL_ASSERT(cond) ((cond) ? (void)0 : ol_assert_failed(__FILE__, __LINE__, #cond))
#define OL_UNREACHABLE() ol_assert_failed(__FILE__, __LINE__, "unreachable")

/* What the world can do to us. Append-only: the numbers are exit codes and appear in JSON. */
enum ol_status {
	OL_OK = 0,
	OL_ERR_INPUT = 1,       /* the caller's data are wrong: a malformed file, a bad argument  */
	OL_ERR_IO = 2,          /* the disk or the network refused                                */
	OL_ERR_FULL = 3,        /* out of memory, disk or a named limit                           */
	OL_ERR_UNSUPPORTED = 4, /* well-formed, but not something this program does               */
	OL_ERR_NOT_FOUND = 5,   /* no such model, adapter, file                                   */
	OL_ERR_CANCELLED = 6    /* the user asked to stop                                         */
};

enum { OL_ERROR_TEXT_MAX = 1024 };

/* One sentence for a person: what, where, and how to mend it. Owned by the caller; a NULL
 * ol_error is allowed everywhere and drops the sentence. */
struct ol_error {
	enum ol_status status;
	char text[OL_ERROR_TEXT_MAX];
};

/* Fills err (if any) and returns status, so that a failing function can `return ol_fail(…)`.
 * Control characters, which a quoted file may hold, become '?': the sentence stays one line. */
enum ol_status ol_fail(struct ol_error *err, enum ol_status status, const char *format, ...)
	OL_PRINTF(3, 4);

#endif
