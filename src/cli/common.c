#include "cli/commands.h"
#include "model/adapter.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ol_program = "openledger";
const char *ol_code_version = OL_VERSION;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

void ol_interrupt_catch(void)
{
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool ol_interrupted(void)
{
	return interrupted != 0;
}

int ol_report(const struct ol_error *err)
{
	fprintf(stderr, "openledger: %s\n", err->text);
	return err->status == OL_ERR_CANCELLED ? 130 : 1;
}

int ol_print_json(json_t *object)
{
	if (!object || json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) != 0) {
		fprintf(stderr, "openledger: cannot write JSON: out of memory or disk\n");
		json_decref(object);
		return 1;
	}
	putchar('\n');
	json_decref(object);
	return fflush(stdout) == 0 ? 0 : 1;
}

void ol_json_adapter(json_t *object, const struct ol_adapter *adapter)
{
	char hash[2 * OL_SHA256_BYTES + 1];
	if (!adapter)
		return;
	ol_hex(hash, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	json_object_set_new(object, "adapter_sha256", json_string(hash));
}

void ol_format_bytes(char text[32], uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 999.5 && unit + 1 < OL_ARRAY_LEN(units)) {
		value /= 1000.0;
		unit++;
	}
	snprintf(text, 32, value < 9.95 && unit > 0 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}
