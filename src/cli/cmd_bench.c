#include "cli/commands.h"
#include "cli/options.h"
#include "node/bench.h"
#include "node/runtime.h"

#include <stdio.h>
#include <unistd.h>

static void show_progress(const char *text)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s ...", text);
}

static int print_json_bench(const struct ol_bench *b, const char *shape, const char *weights,
			    int threads)
{
	json_t *decode = json_object();
	for (int i = 0; i < OL_BENCH_BATCHES; i++) {
		char key[16];
		snprintf(key, sizeof key, "%d", b->batches[i]);
		json_object_set_new(decode, key, json_real(b->decode_tps[i]));
	}
	return ol_print_json(json_pack(
		"{s:s, s:s, s:i, s:f, s:o, s:f, s:{s:f, s:f, s:f, s:f}, s:{s:f, s:f}, s:I, s:I}",
		"shape", shape, "weights", weights, "threads", threads, "prefill_tps",
		b->prefill_tps, "decode_tps", decode, "decode_gbs", 1e-9 * b->decode_read, "peak",
		"f32_gflops", 1e-9 * b->peak_f32_flops, "bf16_gflops", 1e-9 * b->peak_bf16_flops,
		"int8_gops", 1e-9 * b->peak_int8_ops, "read_gbs", 1e-9 * b->peak_read, "share",
		"prefill", b->share_prefill, "decode_bandwidth", b->share_decode, "weight_bytes",
		(json_int_t)b->weight_bytes, "peak_memory_bytes", (json_int_t)b->peak_memory));
}

static void print_bench(const struct ol_bench *b, const char *shape, const char *weights,
			int threads, const char *isa)
{
	char bytes[32], memory[32];
	ol_format_bytes(bytes, b->weight_bytes);
	ol_format_bytes(memory, b->peak_memory);
	printf("%s as %s: %.1fM parameters, %s; %s, %d thread%s; %s of memory at most\n\n", shape,
	       weights, 1e-6 * (double)b->parameters, bytes, isa, threads, threads > 1 ? "s" : "",
	       memory);
	printf("  prefill            %9.1f tokens/s   %6.0f GOP/s, %2.0f%% of the machine's peak\n",
	       b->prefill_tps, 1e-9 * b->prefill_ops, 100.0 * b->share_prefill);
	for (int i = 0; i < OL_BENCH_BATCHES; i++) {
		printf("  decode, %2d stream%s %9.1f tokens/s", b->batches[i],
		       b->batches[i] > 1 ? "s" : " ", b->decode_tps[i]);
		if (b->batches[i] == 1)
			printf("   %6.1f GB/s of weights, %2.0f%% of what memory gives",
			       1e-9 * b->decode_read, 100.0 * b->share_decode);
		putchar('\n');
	}
	printf("\n  peaks measured in this run: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, int8 %.0f "
	       "GOP/s, "
	       "memory read %.1f GB/s\n",
	       1e-9 * b->peak_f32_flops, 1e-9 * b->peak_bf16_flops, 1e-9 * b->peak_int8_ops,
	       1e-9 * b->peak_read);
}

int ol_command_bench(int argc, char **argv)
{
	const char *shape = "m430", *weights = "q8", *kv = "f32";
	bool json = false;
	struct ol_bench_options o = {.prefill_tokens = 512, .decode_tokens = 64, .repeats = 3};
	const struct ol_option options[] = {
		OL_TEXT("shape", 0, shape, "NAME", "m430 (default), m110 or tiny"),
		OL_TEXT("weights", 'w', weights, "TYPE", "f32, bf16, q8 (default), q4 or nf4"),
		OL_TEXT("kv", 0, kv, "TYPE", "how keys and values are kept: f32 (default) or bf16"),
		OL_NUMBER(INT, "prefill", 0, o.prefill_tokens, "N", 1, 8192,
			  "tokens of the prompt (512)"),
		OL_NUMBER(INT, "decode", 0, o.decode_tokens, "N", 1, 8192,
			  "tokens decoded in each stream (64)"),
		OL_NUMBER(INT, "repeats", 0, o.repeats, "N", 1, OL_BENCH_REPEATS_MAX,
			  "medians of so many (3)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger bench",
		.usage = "[options]",
		.about = "Runs a model of random weights and prints tokens per second beside what "
			 "this machine\n"
			 "could do at best, measured in the same run.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_bench bench;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = ol_runtime_environment(&o.engine, &err);
	o.shape = ol_bench_shape_find(shape);
	o.progress = json ? NULL : show_progress;
	if (s == OL_OK && !o.shape)
		s = ol_fail(&err, OL_ERR_INPUT, "--shape %s is unknown: use m430, m110 or tiny",
			    shape);
	if (s == OL_OK && !ol_weight_type_parse(&o.type, weights))
		s = ol_fail(&err, OL_ERR_INPUT,
			    "--weights %s is unknown: use f32, bf16, q8, q4 or nf4", weights);
	if (s == OL_OK && !ol_kv_type_parse(&o.engine.kv_type, kv))
		s = ol_fail(&err, OL_ERR_INPUT, "--kv %s is unknown: use f32 or bf16", kv);
	if (s == OL_OK)
		s = ol_bench_run(&bench, &o, &err);
	if (!json && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	if (s != OL_OK)
		return ol_report(&err);
	const int threads = o.engine.threads ? o.engine.threads : ol_processor_count();
	const struct ol_kernels *kernels = o.engine.kernels ? o.engine.kernels : ol_kernels_best();
	if (json)
		return print_json_bench(&bench, shape, weights, threads);
	print_bench(&bench, shape, weights, threads, kernels->name);
	return 0;
}
