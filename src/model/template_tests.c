/* Tests: value is name(arguments). */
#include "model/template_internal.h"

typedef struct ol_tpl_render render;
typedef struct ol_tpl_value value;
typedef struct ol_tpl_args args;

static bool answer(value *out, bool truth)
{
	*out = ol_tpl_bool(truth);
	return true;
}

/* ---- of a kind ------------------------------------------------------------------------------- */

/* Questions whose answer is in the value alone: one function each, from one line each. */
#define KIND_TEST(name, condition)                                                                 \
	static bool test_##name(render *r, value *out, const value *v, const args *a)              \
	{                                                                                          \
		(void)r;                                                                           \
		(void)a;                                                                           \
		return answer(out, condition);                                                     \
	}

static bool is_walkable(const value *v)
{
	return v->kind == KIND_STRING || v->kind == KIND_LIST || v->kind == KIND_DICT ||
	       v->kind == KIND_UNDEFINED || v->kind == KIND_LOOP;
}

KIND_TEST(boolean, v->kind == KIND_BOOL)
KIND_TEST(callable, v->kind == KIND_MACRO || v->kind == KIND_BUILTIN)
KIND_TEST(defined, v->kind != KIND_UNDEFINED)
KIND_TEST(false, v->kind == KIND_BOOL && !v->truth)
KIND_TEST(float, v->kind == KIND_FLOAT)
KIND_TEST(integer, v->kind == KIND_INT)
KIND_TEST(iterable, is_walkable(v))
KIND_TEST(mapping, v->kind == KIND_DICT)
KIND_TEST(none, v->kind == KIND_NONE)
KIND_TEST(number, ol_tpl_is_numeric(v))
KIND_TEST(sequence, v->kind == KIND_LIST ? v->list->form <= FORM_RANGE
					 : is_walkable(v) && v->kind != KIND_LOOP)
KIND_TEST(string, v->kind == KIND_STRING)
KIND_TEST(true, v->kind == KIND_BOOL && v->truth)
KIND_TEST(undefined, v->kind == KIND_UNDEFINED)

/* ---- of numbers and strings ------------------------------------------------------------------ */

static bool divides(render *r, value *out, const value *v, const value *by, int64_t rest)
{
	value remainder;
	const value wanted = ol_tpl_int(rest, false);
	bool equal;
	if (!ol_tpl_arithmetic(r, &remainder, TOKEN_MOD, v, by) ||
	    !ol_tpl_equal(r, &equal, &remainder, &wanted))
		return false;
	return answer(out, equal);
}

static bool test_odd(render *r, value *out, const value *v, const args *a)
{
	(void)a;
	const value two = ol_tpl_int(2, false);
	return divides(r, out, v, &two, 1);
}

static bool test_even(render *r, value *out, const value *v, const args *a)
{
	(void)a;
	const value two = ol_tpl_int(2, false);
	return divides(r, out, v, &two, 0);
}

static bool test_divisibleby(render *r, value *out, const value *v, const args *a)
{
	return divides(r, out, v, a->at[0], 0);
}

static bool test_lower(render *r, value *out, const value *v, const args *a)
{
	(void)a;
	struct ol_tpl_text text;
	return ol_tpl_str(r, &text, v) && answer(out, ol_tpl_is_case(text, false));
}

static bool test_upper(render *r, value *out, const value *v, const args *a)
{
	(void)a;
	struct ol_tpl_text text;
	return ol_tpl_str(r, &text, v) && answer(out, ol_tpl_is_case(text, true));
}

static bool is_known(render *r, value *out, const value *v, bool filter)
{
	struct ol_tpl_text text;
	if (!ol_tpl_str(r, &text, v))
		return false;
	const struct ol_tpl_name name = {text.bytes, text.size};
	return answer(out, (filter ? ol_tpl_filter(name) : ol_tpl_test(name)) != NULL);
}

static bool test_filter(render *r, value *out, const value *v, const args *a)
{
	(void)a;
	return is_known(r, out, v, true);
}

static bool test_test(render *r, value *out, const value *v, const args *a)
{
	(void)a;
	return is_known(r, out, v, false);
}

/* ---- between two values ---------------------------------------------------------------------- */

static bool test_eq(render *r, value *out, const value *v, const args *a)
{
	bool equal;
	return ol_tpl_equal(r, &equal, v, a->at[0]) && answer(out, equal);
}

static bool test_ne(render *r, value *out, const value *v, const args *a)
{
	bool equal;
	return ol_tpl_equal(r, &equal, v, a->at[0]) && answer(out, !equal);
}

static bool test_lt(render *r, value *out, const value *v, const args *a)
{
	int order;
	return ol_tpl_order(r, &order, v, a->at[0], "<") && answer(out, order < 0);
}

static bool test_le(render *r, value *out, const value *v, const args *a)
{
	int order;
	return ol_tpl_order(r, &order, v, a->at[0], "<=") && answer(out, order <= 0);
}

static bool test_gt(render *r, value *out, const value *v, const args *a)
{
	int order;
	return ol_tpl_order(r, &order, v, a->at[0], ">") && answer(out, order > 0);
}

static bool test_ge(render *r, value *out, const value *v, const args *a)
{
	int order;
	return ol_tpl_order(r, &order, v, a->at[0], ">=") && answer(out, order >= 0);
}

static bool test_in(render *r, value *out, const value *v, const args *a)
{
	bool contains;
	return ol_tpl_contains(r, &contains, a->at[0], v) && answer(out, contains);
}

/* Equal and of one kind: 1 is not sameas true. */
static bool test_sameas(render *r, value *out, const value *v, const args *a)
{
	bool equal;
	return ol_tpl_equal(r, &equal, v, a->at[0]) &&
	       answer(out, equal && v->kind == a->at[0]->kind);
}

static const struct ol_tpl_builtin tests[] = {
	{"!=", test_ne, 1, "other"},
	{"<", test_lt, 1, "other"},
	{"<=", test_le, 1, "other"},
	{"==", test_eq, 1, "other"},
	{">", test_gt, 1, "other"},
	{">=", test_ge, 1, "other"},
	{"boolean", test_boolean, 0, ""},
	{"callable", test_callable, 0, ""},
	{"defined", test_defined, 0, ""},
	{"divisibleby", test_divisibleby, 1, "num"},
	{"eq", test_eq, 1, "other"},
	{"equalto", test_eq, 1, "other"},
	{"even", test_even, 0, ""},
	{"false", test_false, 0, ""},
	{"filter", test_filter, 0, ""},
	{"float", test_float, 0, ""},
	{"ge", test_ge, 1, "other"},
	{"greaterthan", test_gt, 1, "other"},
	{"gt", test_gt, 1, "other"},
	{"in", test_in, 1, "seq"},
	{"integer", test_integer, 0, ""},
	{"iterable", test_iterable, 0, ""},
	{"le", test_le, 1, "other"},
	{"lessthan", test_lt, 1, "other"},
	{"lower", test_lower, 0, ""},
	{"lt", test_lt, 1, "other"},
	{"mapping", test_mapping, 0, ""},
	{"ne", test_ne, 1, "other"},
	{"none", test_none, 0, ""},
	{"number", test_number, 0, ""},
	{"odd", test_odd, 0, ""},
	{"sameas", test_sameas, 1, "other"},
	{"sequence", test_sequence, 0, ""},
	{"string", test_string, 0, ""},
	{"test", test_test, 0, ""},
	{"true", test_true, 0, ""},
	{"undefined", test_undefined, 0, ""},
	{"upper", test_upper, 0, ""},
};

const struct ol_tpl_builtin *ol_tpl_test(struct ol_tpl_name name)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(tests); i++)
		if (ol_tpl_name_is(name, tests[i].name))
			return &tests[i];
	return NULL;
}
