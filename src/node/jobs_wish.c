/* The API's words for a training run, as the trainer's. One table per object: what is in it can be
 * asked for. */
#include "node/jobs_worker.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum kind { INT, FLOAT, BOOL, TEXT, U64 };

struct member {
	const char *name;
	enum kind kind;
	size_t offset; /* in the wish */
	double low, high;
};

/* clang-format off */
#define AT(field) offsetof(struct ol_train_wish, field)
/* clang-format on */

static const struct member extension[] = {
	{"rank", INT, AT(rank), 1, OL_RANK_MAX},
	{"alpha", FLOAT, AT(alpha), 1e-3, 1e6},
	{"targets", TEXT, AT(targets), 0, 0},
	{"attributable", BOOL, AT(attributable), 0, 0},
	{"rslora", BOOL, AT(rslora), 0, 0},
	{"steps", INT, AT(steps), 1, 1000000},
	{"max_length", INT, AT(max_length), 2, 1 << 20},
	{"warmup", INT, AT(warmup), 0, 1000000},
	{"eval_every", INT, AT(eval_every), 0, 1000000},
	{"patience", INT, AT(patience), 0, 1000000},
	{"learning_rate", FLOAT, AT(learning_rate), 1e-9, 10},
	{"dropout", FLOAT, AT(dropout), 0, 0.95},
	{"weight_decay", FLOAT, AT(weight_decay), 0, 10},
	{"eval_fraction", FLOAT, AT(eval_fraction), 0, 0.9},
	{"clip", FLOAT, AT(clip), 0, 1e9},
	{"final_fraction", FLOAT, AT(final_fraction), 0, 1},
	{"schedule", TEXT, AT(schedule), 0, 0},
	{"quantization", TEXT, AT(base_type), 0, 0},
	{"init_seed", U64, AT(init_seed), 0, 0},
	{"loss_on_prompt", BOOL, AT(loss_on_prompt), 0, 0},
};
static const struct member usual[] = {
	{"n_epochs", FLOAT, AT(epochs), 0.01, 1000},
	{"batch_size", INT, AT(batch), 1, 4096},
	{"beta", FLOAT, AT(dpo_beta), 1e-4, 100},
};

static enum ol_status refuse(char field[64], const char *object, const char *name,
			     struct ol_error *err, const char *wanted)
{
	snprintf(field, 64, "%s.%s", object, name);
	return ol_fail(err, OL_ERR_INPUT, "%s.%s must be %s", object, name, wanted);
}

static enum ol_status take_number(void *wish, const struct member *m, const json_t *value,
				  const char *object, char field[64], struct ol_error *err)
{
	char wanted[96];
	const double number = json_number_value(value);
	if (json_is_number(value) && number >= m->low && number <= m->high &&
	    (m->kind == FLOAT || json_is_integer(value))) {
		if (m->kind == INT)
			*(int *)((char *)wish + m->offset) = (int)json_integer_value(value);
		else
			*(float *)((char *)wish + m->offset) = (float)number;
		return OL_OK;
	}
	snprintf(wanted, sizeof wanted, "%s between %g and %g",
		 m->kind == INT ? "a whole number" : "a number", m->low, m->high);
	return refuse(field, object, m->name, err, wanted);
}

static enum ol_status take(struct ol_train_wish *wish, const struct member *m, const json_t *value,
			   const char *object, char field[64], struct ol_error *err)
{
	char *at = (char *)wish + m->offset;
	switch (m->kind) {
	case INT:
	case FLOAT: return take_number(wish, m, value, object, field, err);
	case BOOL:
		if (!json_is_boolean(value))
			return refuse(field, object, m->name, err, "true or false");
		*(bool *)at = json_is_true(value);
		return OL_OK;
	case TEXT:
		if (!json_is_string(value))
			return refuse(field, object, m->name, err, "a text");
		*(const char **)at = json_string_value(value);
		return OL_OK;
	case U64:
		if (!json_is_integer(value) || json_integer_value(value) < 0)
			return refuse(field, object, m->name, err, "a whole number, not below 0");
		*(uint64_t *)at = (uint64_t)json_integer_value(value);
		return OL_OK;
	}
	OL_UNREACHABLE();
}

static bool is_auto(const json_t *value)
{
	return !value || json_is_null(value) ||
	       (json_is_string(value) && strcmp(json_string_value(value), "auto") == 0);
}

/* OpenAI's own: what is unknown there is ignored, as everywhere in its API. */
static enum ol_status take_usual(struct ol_train_wish *wish, struct ol_job_extra *extra,
				 char field[64], const json_t *object, struct ol_error *err)
{
	enum ol_status s = OL_OK;
	const json_t *multiplier = json_object_get(object, "learning_rate_multiplier");
	for (size_t i = 0; i < OL_ARRAY_LEN(usual) && s == OL_OK; i++) {
		const json_t *value = json_object_get(object, usual[i].name);
		if (!is_auto(value))
			s = take(wish, &usual[i], value, "hyperparameters", field, err);
	}
	if (s != OL_OK || is_auto(multiplier))
		return s;
	extra->multiplier = json_number_value(multiplier);
	if (!json_is_number(multiplier) || !(extra->multiplier > 0 && extra->multiplier <= 1000))
		return refuse(field, "hyperparameters", "learning_rate_multiplier", err,
			      "a number above 0, at most 1000, or \"auto\"");
	return OL_OK;
}

static const struct member *find(const struct member *members, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

/* Ours: what is unknown is a typing error. */
static enum ol_status take_extension(struct ol_train_wish *wish, struct ol_job_extra *extra,
				     char field[64], const json_t *object, struct ol_error *err)
{
	const char *name;
	json_t *value;
	static const struct member more[] = {
		{"samples", INT, offsetof(struct ol_job_extra, samples), 0, 100},
		{"checkpoint_steps", INT, offsetof(struct ol_job_extra, checkpoint_steps), 1,
		 1000000}};
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		const struct member *m = find(extension, OL_ARRAY_LEN(extension), name),
				    *beside = find(more, OL_ARRAY_LEN(more), name);
		enum ol_status s;
		if (beside) {
			s = take_number(extra, beside, value, "openledger", field, err);
		} else if (!m) {
			snprintf(field, 64, "openledger.%.40s", name);
			s = ol_fail(err, OL_ERR_INPUT,
				    "openledger.%.40s is unknown: there are rank, alpha, targets, "
				    "attributable, rslora, steps, max_length, warmup, eval_every, "
				    "patience, learning_rate, dropout, weight_decay, "
				    "eval_fraction, clip, final_fraction, schedule, quantization, "
				    "init_seed, loss_on_prompt, samples and checkpoint_steps",
				    name);
		} else {
			s = take(wish, m, value, "openledger", field, err);
			wish->init_seed_given |= m->kind == U64;
		}
		if (s != OL_OK)
			return s;
	}
	return OL_OK;
}

static enum ol_status check_texts(struct ol_train_wish *wish, char field[64], struct ol_error *err)
{
	static const char *const schedules[] = {"constant", "linear", "cosine"};
	uint32_t targets;
	bool known = !wish->schedule;
	for (size_t i = 0; i < OL_ARRAY_LEN(schedules); i++)
		known |= wish->schedule && strcmp(wish->schedule, schedules[i]) == 0;
	if (!known)
		return refuse(field, "openledger", "schedule", err, "constant, linear or cosine");
	if (wish->base_type) {
		if (strcmp(wish->base_type, "nf4") != 0 && strcmp(wish->base_type, "q8") != 0)
			return refuse(field, "openledger", "quantization", err, "nf4 or q8");
		if (wish->method == OL_TRAIN_DPO)
			return refuse(field, "openledger", "quantization", err,
				      "left out with the method dpo");
		wish->method = OL_TRAIN_QLORA;
	}
	if (!wish->targets)
		return OL_OK;
	const enum ol_status s = ol_targets_parse(&targets, wish->targets, err);
	if (s != OL_OK)
		snprintf(field, 64, "openledger.targets");
	return s;
}

enum ol_status ol_job_wish(struct ol_train_wish *wish, struct ol_job_extra *extra, char field[64],
			   const char *method, const json_t *hyperparameters,
			   const json_t *openledger, struct ol_error *err)
{
	ol_train_wish_init(wish);
	field[0] = '\0';
	*extra = (struct ol_job_extra){0};
	if (strcmp(method, "supervised") != 0 && strcmp(method, "dpo") != 0) {
		snprintf(field, 64, "method.type");
		return ol_fail(err, OL_ERR_INPUT,
			       "method.type must be supervised or dpo; \"%.32s\" is not supported",
			       method);
	}
	wish->method = strcmp(method, "dpo") == 0 ? OL_TRAIN_DPO : OL_TRAIN_LORA;
	enum ol_status s = take_usual(wish, extra, field, hyperparameters, err);
	if (s == OL_OK)
		s = take_extension(wish, extra, field, openledger, err);
	if (s == OL_OK && extra->multiplier > 0 && wish->learning_rate > 0)
		s = refuse(field, "openledger", "learning_rate", err,
			   "left out where hyperparameters.learning_rate_multiplier is given");
	return s == OL_OK ? check_texts(wish, field, err) : s;
}
