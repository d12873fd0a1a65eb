/* bench_machine: what this machine does at best, the yardstick for every other measurement here.
 *
 *     bench_machine [--json] [--seconds S] [--mib N]
 *
 * S seconds for each figure (0.5), memory read over N MiB (1024). Threads: OPENLEDGER_THREADS, or
 * all processors this process may use. */
#include "base/base.h"
#include "base/pool.h"
#include "math/peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct figures {
	double ops[OL_PEAKS];
	double read;
};

struct options {
	bool json;
	double seconds;
	size_t mib;
};

static bool parse(struct options *options, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *end = NULL;
		if (strcmp(argv[i], "--json") == 0)
			options->json = true;
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
			options->seconds = strtod(argv[++i], &end);
		else if (strcmp(argv[i], "--mib") == 0 && i + 1 < argc)
			options->mib = strtoul(argv[++i], &end, 10);
		else
			return false;
		if (end && *end)
			return false;
	}
	return options->mib < SIZE_MAX >> 20;
}

static int thread_count(void)
{
	const char *text = getenv("OPENLEDGER_THREADS");
	const long wanted = text ? strtol(text, NULL, 10) : 0;
	return wanted > 0 ? (int)OL_MIN(wanted, OL_POOL_THREADS_MAX) : ol_processor_count();
}

static bool measure(struct figures *figures, const struct options *options, int threads)
{
	struct ol_pool *pool;
	if (ol_pool_open(&pool, threads) != OL_OK)
		return false;
	for (int kind = 0; kind < OL_PEAKS; kind++)
		figures->ops[kind] = ol_peak_ops_pool(pool, (enum ol_peak)kind, options->seconds);
	figures->read = ol_peak_read(pool, options->mib << 20, options->seconds);
	ol_pool_close(pool);
	return true;
}

static void print_table(const struct figures *one, const struct figures *all, int threads)
{
	printf("%-32s %9s %6d thr.\n", "", "1 thread", threads);
	for (int kind = 0; kind < OL_PEAKS; kind++)
		printf("%-12s %-19s %9.1f %11.1f\n", ol_peak_name((enum ol_peak)kind),
		       kind < OL_PEAK_INT8 ? "GFLOP/s" : "GOP/s", one->ops[kind] * 1e-9,
		       all->ops[kind] * 1e-9);
	printf("%-12s %-19s %9.1f %11.1f\n", "memory read", "GB/s", one->read * 1e-9,
	       all->read * 1e-9);
}

static void print_json(const struct figures *figures, int threads, const char *tail)
{
	printf("\"%d\": {", threads);
	for (int kind = 0; kind < OL_PEAKS; kind++)
		printf("\"%s_gops\": %.1f, ", ol_peak_name((enum ol_peak)kind),
		       figures->ops[kind] * 1e-9);
	printf("\"read_gbs\": %.1f}%s", figures->read * 1e-9, tail);
}

int main(int argc, char **argv)
{
	struct options options = {.seconds = 0.5, .mib = 1024};
	struct figures one, all;
	const int threads = thread_count();
	if (!parse(&options, argc, argv)) {
		fprintf(stderr, "usage: bench_machine [--json] [--seconds S] [--mib N]\n");
		return OL_ERR_INPUT;
	}
	if (!measure(&one, &options, 1) || !measure(&all, &options, threads)) {
		fprintf(stderr, "bench_machine: %d threads could not be started\n", threads);
		return OL_ERR_FULL;
	}
	if (!options.json) {
		print_table(&one, &all, threads);
		return OL_OK;
	}
	printf("{\"peak\": {");
	if (threads > 1)
		print_json(&one, 1, ", ");
	print_json(&all, threads, "}}\n");
	return OL_OK;
}
