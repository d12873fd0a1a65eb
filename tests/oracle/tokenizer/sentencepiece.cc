// The same measurement as bench/bench_tokenizer.c by libsentencepiece, and the training of a model for
// it. Development only.
// usage: sentencepiece train TEXT PREFIX VOCAB | sentencepiece bench MODEL TEXT [DOCUMENT [IDS_OUT]]
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

static std::vector<std::string> documents(const std::string &text, size_t size)
{
	std::vector<std::string> out;
	for (size_t at = 0; at < text.size();) {
		size_t end = text.size();
		if (text.size() - at > size) {
			const size_t line = text.find('\n', at + size - 1);
			end = line == std::string::npos ? text.size() : line + 1;
		}
		out.push_back(text.substr(at, end - at));
		at = end;
	}
	return out;
}

static double cpu_now() // of this thread: other processes do not count
{
	timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc > 4 && std::string(argv[1]) == "train") {
		const auto s = sentencepiece::SentencePieceTrainer::Train(
			std::string("--input=") + argv[2] + " --model_prefix=" + argv[3] +
			" --vocab_size=" + argv[4] + " --model_type=bpe --byte_fallback=true"
			" --normalization_rule_name=identity --remove_extra_whitespaces=false"
			" --max_sentence_length=1000000 --split_digits=true --minloglevel=1");
		if (!s.ok())
			fprintf(stderr, "%s\n", s.ToString().c_str());
		return !s.ok();
	}
	if (argc < 4 || std::string(argv[1]) != "bench")
		return 2;
	sentencepiece::SentencePieceProcessor sp;
	if (!sp.Load(argv[2]).ok())
		return 1;
	std::ifstream in(argv[3], std::ios::binary);
	const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
	const auto docs = documents(text, argc > 4 ? std::max(1, atoi(argv[4])) : 100000);
	std::vector<double> seconds;
	size_t tokens = 0;
	for (int round = 0; round < 3; round++) {
		FILE *out = round == 0 && argc > 5 ? fopen(argv[5], "w") : nullptr;
		std::vector<std::vector<int>> all(docs.size());
		const double start = cpu_now();
		for (size_t i = 0; i < docs.size(); i++)
			sp.Encode(docs[i], &all[i]);
		seconds.push_back(cpu_now() - start);
		tokens = 0;
		for (const auto &ids : all) {
			tokens += ids.size();
			for (size_t i = 0; out && i < ids.size(); i++)
				fprintf(out, "%d ", ids[i]);
			if (out)
				fputc('\n', out);
		}
		if (out)
			fclose(out);
	}
	std::sort(seconds.begin(), seconds.end());
	printf("{\"library\": \"libsentencepiece\", \"megabytes\": %.2f, \"tokens\": %zu, \"encode_mb_s\": %.2f}\n",
	       text.size() / 1e6, tokens, text.size() / 1e6 / seconds[1]);
}
