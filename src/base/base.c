#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void ol_assert_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "openledger: internal error at %s:%d: %s\n", file, line, what);
	abort();
}

enum ol_status ol_fail(struct ol_error *err, enum ol_status status, const char *format, ...)
{
	if (err) {
		va_list args;
		err->status = status;
		va_start(args, format);
		vsnprintf(err->text, sizeof err->text, format, args);
		va_end(args);
		/* What is quoted from a file must not break the line or command a terminal. */
		for (char *c = err->text; *c; c++)
			if ((unsigned char)*c < 0x20 || *c == 0x7f)
				*c = '?';
	}
	return status;
}
