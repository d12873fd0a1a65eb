#include "node/greedy.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int ol_greedy_prompt(const struct ol_example *example)
{
	const struct ol_sequence *s = &example->sequence;
	int at = s->count;
	while (at > 0 && s->targets[at - 1] < 0)
		at--;
	while (at > 0 && s->targets[at - 1] >= 0)
		at--;
	if (at > 0)
		return at + 1; /* the last token of the prompt predicts the first of the answer */
	return OL_MIN(OL_GREEDY_TEXT_PROMPT, s->count);
}

static enum ol_status step(const struct ol_greedy *g, struct ol_session *session,
			   const int32_t *tokens, int count, float *logits, struct ol_error *err)
{
	const int most = ol_engine_step_rows(g->engine);
	enum ol_status s = OL_OK;
	for (int done = 0; done < count && s == OL_OK;) {
		const int chunk = OL_MIN(most, count - done);
		struct ol_run run = {.session = session,
				     .tokens = tokens + done,
				     .count = chunk,
				     .adapter = g->adapter};
		done += chunk;
		if (done == count) {
			run.want = OL_LOGITS_LAST;
			run.logits = logits;
		}
		s = ol_engine_step(g->engine, &run, 1, err);
	}
	return s;
}

static enum ol_status decode(const struct ol_greedy *g, struct ol_answer *answer, int vocab,
			     const int32_t *prompt, int count, struct ol_error *err)
{
	struct ol_session *session = NULL;
	struct ol_sampler *sampler = NULL;
	bool more = true;
	float *logits = malloc((size_t)vocab * sizeof *logits);
	enum ol_status s = OL_OK;
	if (!logits || ol_session_open(&session, g->engine) != OL_OK ||
	    ol_sampler_open(&sampler, ol_engine_kernels(g->engine), vocab) != OL_OK)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for an answer");
	if (s == OL_OK)
		s = step(g, session, prompt, count, logits, err);
	while (s == OL_OK && more) {
		s = ol_answer_take(answer, logits, sampler, &more, err);
		if (s == OL_OK && more) {
			const struct ol_tokens *history = ol_answer_history(answer);
			s = step(g, session, &history->ids[history->count - 1], 1, logits, err);
		}
	}
	ol_session_close(session);
	ol_sampler_close(sampler);
	free(logits);
	return s;
}

enum ol_status ol_greedy_answer(struct ol_buf *text, const struct ol_greedy *greedy,
				const struct ol_example *example, struct ol_error *err)
{
	const struct ol_config *config = ol_model_config(ol_engine_model(greedy->engine));
	const struct ol_answer_model model = {.config = config,
					      .tokenizer = greedy->tokenizer,
					      .kernels = ol_engine_kernels(greedy->engine)};
	const struct ol_answer_options options = {
		.max_tokens = greedy->max_tokens,
		.strip_lead_space = true,
		.sampling = {.temperature = 0, .top_p = 1, .repeat_penalty = 1}};
	const int64_t room = ol_engine_pages_total(greedy->engine) * OL_KV_PAGE;
	const int count = ol_greedy_prompt(example);
	struct ol_answer *answer;
	enum ol_status s = ol_answer_open(&answer, &model, example->sequence.tokens, (size_t)count,
					  room, &options, err);
	if (s != OL_OK)
		return s;
	s = decode(greedy, answer, config->vocab_size, example->sequence.tokens, count, err);
	if (s == OL_OK) {
		const struct ol_buf *said = &ol_answer_generation(answer)->text;
		if (said->data && !ol_buf_append(text, said->data, said->size))
			s = ol_fail(err, OL_ERR_FULL, "out of memory for an answer");
	}
	ol_answer_close(answer);
	return s;
}

/* Lower case, one space for any run of white space, none at the ends, no full stop at the end. */
static void normalize(struct ol_buf *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		const unsigned char c = (unsigned char)text[i];
		if (!isspace(c)) {
			const char lower = (char)(c < 0x80 ? tolower(c) : c);
			ol_buf_append(out, &lower, 1);
		} else if (out->size > 0 && out->data[out->size - 1] != ' ') {
			ol_buf_append(out, " ", 1);
		}
	}
	while (out->size > 0 &&
	       (out->data[out->size - 1] == ' ' || out->data[out->size - 1] == '.'))
		out->data[--out->size] = '\0';
}

static bool part_of_word(char c)
{
	return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static bool holds(const struct ol_buf *text, const struct ol_buf *fact)
{
	for (const char *hit = strstr(text->data, fact->data); hit;
	     hit = strstr(hit + 1, fact->data)) {
		const char *end = hit + fact->size;
		const bool begins =
			hit == text->data || !part_of_word(hit[-1]) || !part_of_word(fact->data[0]);
		const bool ends = !part_of_word(*end) || !part_of_word(end[-1]);
		if (begins && ends)
			return true;
	}
	return false;
}

bool ol_answer_is_right(const char *answer, size_t size, const struct ol_record *record)
{
	const struct ol_turn *last = &record->turns[record->turn_count - 1];
	struct ol_buf said, right;
	ol_buf_init(&said, OL_ANSWER_TEXT_MAX);
	ol_buf_init(&right, OL_RECORD_FIELD_MAX);
	normalize(&said, answer, size);
	normalize(&right, record->fact ? record->fact : last->text,
		  record->fact ? strlen(record->fact) : last->size);
	bool good = said.size > 0 && right.size > 0;
	if (good && record->fact)
		good = holds(&said, &right);
	else if (good)
		good = said.size == right.size && memcmp(said.data, right.data, said.size) == 0;
	ol_buf_release(&said);
	ol_buf_release(&right);
	return good;
}
