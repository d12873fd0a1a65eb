#define _GNU_SOURCE
#include "cli/passphrase.h"
#include "crypto/secret.h"
#include "crypto/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* One line from the terminal, not shown. */
static enum ol_status ask(char *out, size_t *size_out, const char *prompt, struct ol_error *err)
{
	struct termios shown, hidden;
	size_t size = 0;
	enum ol_status s = OL_OK;
	const int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (tty < 0 || tcgetattr(tty, &shown) != 0) {
		if (tty >= 0)
			close(tty);
		return ol_fail(err, OL_ERR_INPUT,
			       "there is no terminal to ask for the passphrase; give "
			       "--passphrase-file FILE or set OPENLEDGER_PASSPHRASE");
	}
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	if (tcsetattr(tty, TCSAFLUSH, &hidden) != 0 ||
	    write(tty, prompt, strlen(prompt)) != (ssize_t)strlen(prompt))
		s = ol_fail(err, OL_ERR_IO, "cannot ask on the terminal: %s", strerror(errno));
	while (s == OL_OK) {
		char c;
		const ssize_t got = read(tty, &c, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || c == '\n')
			break;
		if (size == OL_PASSPHRASE_MAX)
			s = ol_fail(err, OL_ERR_INPUT, "a passphrase has at most %d bytes",
				    OL_PASSPHRASE_MAX);
		else
			out[size++] = c;
	}
	tcsetattr(tty, TCSAFLUSH, &shown);
	if (write(tty, "\n", 1) != 1 && s == OL_OK)
		s = ol_fail(err, OL_ERR_IO, "cannot write to the terminal: %s", strerror(errno));
	close(tty);
	*size_out = size;
	return s;
}

static enum ol_status ask_twice(struct ol_passphrase *passphrase, struct ol_error *err)
{
	size_t size = 0;
	char *again = ol_secret_alloc(OL_PASSPHRASE_MAX + 1);
	if (!again)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	enum ol_status s = ask(again, &size, "Once more: ", err);
	if (s == OL_OK &&
	    (size != passphrase->size || !ol_secret_equal(again, passphrase->bytes, size)))
		s = ol_fail(err, OL_ERR_INPUT, "the two passphrases differ");
	ol_secret_free(again);
	return s;
}

enum ol_status ol_passphrase_get(struct ol_passphrase *passphrase, const char *file,
				 const char *prompt, bool twice, struct ol_error *err)
{
	const char *from_environment = getenv("OPENLEDGER_PASSPHRASE");
	enum ol_status s = OL_OK;
	passphrase->size = 0;
	passphrase->bytes = ol_secret_alloc(OL_PASSPHRASE_MAX + 1);
	if (!passphrase->bytes)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	if (file) {
		s = ol_secret_file_read(file, passphrase->bytes, OL_PASSPHRASE_MAX,
					&passphrase->size, err);
		if (s == OL_OK && passphrase->size > 0 &&
		    passphrase->bytes[passphrase->size - 1] == '\n')
			passphrase->size--;
	} else if (from_environment) {
		passphrase->size = strlen(from_environment);
		if (passphrase->size > OL_PASSPHRASE_MAX)
			s = ol_fail(err, OL_ERR_INPUT,
				    "OPENLEDGER_PASSPHRASE has more than %d bytes",
				    OL_PASSPHRASE_MAX);
		else
			memcpy(passphrase->bytes, from_environment, passphrase->size);
	} else {
		s = ask(passphrase->bytes, &passphrase->size, prompt, err);
		if (s == OL_OK && twice)
			s = ask_twice(passphrase, err);
	}
	if (s == OL_OK && passphrase->size == 0)
		s = ol_fail(err, OL_ERR_INPUT, "the passphrase is empty");
	if (s != OL_OK)
		ol_passphrase_release(passphrase);
	return s;
}

void ol_passphrase_release(struct ol_passphrase *passphrase)
{
	ol_secret_free(passphrase->bytes); /* wipes */
	passphrase->bytes = NULL;
	passphrase->size = 0;
}
