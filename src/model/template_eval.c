/* The tree, evaluated: statements write into a builder, expressions give values.
 *
 * Names, frames and calls are in template_call.c, what can be done to values in
 * template_operate.c. */
#include "model/template_internal.h"

#include <string.h>

typedef struct ol_tpl_node node;
typedef struct ol_tpl_render render;
typedef struct ol_tpl_frame frame;
typedef struct ol_tpl_value value;

enum flow { FLOW_FAIL, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static enum flow run(render *r, frame *f, struct ol_tpl_builder *out, const node *body);

/* Every recursion of the evaluator passes here. */
static bool enter(render *r, const node *n)
{
	r->at = n->at;
	if (r->depth >= OL_TEMPLATE_EVALUATION_MAX)
		return ol_tpl_fail_limit(
			r,
			"the evaluation is nested more than %d deep (a macro that calls itself?)",
			OL_TEMPLATE_EVALUATION_MAX);
	r->depth++;
	return ol_tpl_spend(r, 1);
}

/* Runs a body into a string of its own. */
bool ol_tpl_capture(render *r, frame *f, value *out, const node *body)
{
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	const enum flow flow = run(r, f, &b, body);
	if (flow == FLOW_BREAK || flow == FLOW_CONTINUE)
		return ol_tpl_fail(r,
				   "break and continue cannot leave a macro or a captured block");
	*out = ol_tpl_built(&b);
	return flow == FLOW_NEXT;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static bool eval_list(render *r, frame *f, value *out, const node *n)
{
	if (!ol_tpl_list_make(r, out, n->kind == NODE_TUPLE ? FORM_TUPLE : FORM_LIST, 0))
		return false;
	struct ol_tpl_list *list = out->list;
	for (const node *item = n->list; item; item = item->next) {
		value v;
		if (!ol_tpl_eval(r, f, &v, item) || !ol_tpl_list_push(r, list, v))
			return false;
	}
	return true;
}

static bool eval_dict(render *r, frame *f, value *out, const node *n)
{
	if (!ol_tpl_dict_make(r, out, 0))
		return false;
	struct ol_tpl_dict *dict = out->dict;
	for (const node *item = n->list; item; item = item->next->next) {
		value key, v;
		if (!ol_tpl_eval(r, f, &key, item) || !ol_tpl_eval(r, f, &v, item->next))
			return false;
		r->at = item->at;
		if (!ol_tpl_dict_put(r, dict, key, v))
			return false;
	}
	return true;
}

static bool eval_concat(render *r, frame *f, value *out, const node *n)
{
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	for (const node *item = n->list; item; item = item->next) {
		value v;
		if (!ol_tpl_eval(r, f, &v, item))
			return false;
		r->at = n->at;
		if (!ol_tpl_add_str(&b, &v))
			return false;
	}
	*out = ol_tpl_built(&b);
	return true;
}

/* Strings that are added one after the other grow in one builder. */
static bool eval_sum(render *r, frame *f, value *out, const node *n)
{
	struct ol_tpl_builder b;
	bool building = false;
	if (!ol_tpl_eval(r, f, out, n->a))
		return false;
	for (const node *operand = n->list; operand; operand = operand->next) {
		value v;
		if (!ol_tpl_eval(r, f, &v, operand->a))
			return false;
		r->at = operand->at;
		if (operand->op != TOKEN_ADD || out->kind != KIND_STRING || v.kind != KIND_STRING) {
			building = false;
			if (!ol_tpl_arithmetic(r, out, operand->op, out, &v))
				return false;
			continue;
		}
		if (!building) {
			building = true;
			ol_tpl_builder_init(&b, r);
			if (!ol_tpl_add(&b, out->text))
				return false;
		}
		if (!ol_tpl_add(&b, v.text))
			return false;
		*out = ol_tpl_built(&b);
	}
	return true;
}

static bool compare(render *r, bool *out, enum ol_tpl_compare op, const value *a, const value *b)
{
	static const char *const signs[] = {
		[COMPARE_LT] = "<", [COMPARE_LE] = "<=", [COMPARE_GT] = ">", [COMPARE_GE] = ">="};
	int order;
	switch (op) {
	case COMPARE_EQ:
	case COMPARE_NE:
		if (!ol_tpl_equal(r, out, a, b))
			return false;
		*out = *out == (op == COMPARE_EQ);
		return true;
	case COMPARE_IN:
	case COMPARE_NOT_IN:
		if (!ol_tpl_contains(r, out, b, a))
			return false;
		*out = *out == (op == COMPARE_IN);
		return true;
	case COMPARE_LT:
	case COMPARE_LE:
	case COMPARE_GT:
	case COMPARE_GE:
		if (!ol_tpl_order(r, &order, a, b, signs[op]))
			return false;
		*out = op == COMPARE_LT   ? order < 0
		       : op == COMPARE_LE ? order <= 0
		       : op == COMPARE_GT ? order > 0
					  : order >= 0;
		return true;
	}
	OL_UNREACHABLE();
}

static bool eval_compare(render *r, frame *f, value *out, const node *n)
{
	value left;
	bool holds = true;
	if (!ol_tpl_eval(r, f, &left, n->a))
		return false;
	for (const node *operand = n->list; holds && operand; operand = operand->next) {
		value right;
		if (!ol_tpl_eval(r, f, &right, operand->a))
			return false;
		r->at = n->at;
		if (!compare(r, &holds, (enum ol_tpl_compare)operand->op, &left, &right))
			return false;
		left = right;
	}
	*out = ol_tpl_bool(holds);
	return true;
}

static bool eval_sign(render *r, frame *f, value *out, const node *n)
{
	value v;
	if (!ol_tpl_eval(r, f, &v, n->a))
		return false;
	r->at = n->at;
	const value zero = ol_tpl_int(0, false), minus = ol_tpl_float(-1, false);
	if (v.kind == KIND_FLOAT && n->kind == NODE_NEGATE) /* -0.0 exists */
		return ol_tpl_arithmetic(r, out, TOKEN_MUL, &v, &minus);
	if (!ol_tpl_is_numeric(&v))
		return ol_tpl_fail(r, "a sign needs a number, not a %s", ol_tpl_kind_name(&v));
	return ol_tpl_arithmetic(r, out, n->kind == NODE_NEGATE ? TOKEN_SUB : TOKEN_ADD, &zero, &v);
}

static bool eval_bound(render *r, frame *f, const int64_t **out, int64_t *storage, const node *n)
{
	value v;
	*out = NULL;
	if (!n)
		return true;
	if (!ol_tpl_eval(r, f, &v, n))
		return false;
	if (v.kind == KIND_NONE)
		return true;
	*out = storage;
	return ol_tpl_as_int(r, storage, &v, "a slice");
}

static bool eval_item(render *r, frame *f, value *out, const node *n)
{
	value object, key;
	if (!ol_tpl_eval(r, f, &object, n->a))
		return false;
	if (n->b->kind == NODE_SLICE) {
		int64_t storage[3];
		const int64_t *bounds[3];
		if (!eval_bound(r, f, &bounds[0], &storage[0], n->b->a) ||
		    !eval_bound(r, f, &bounds[1], &storage[1], n->b->b) ||
		    !eval_bound(r, f, &bounds[2], &storage[2], n->b->c))
			return false;
		r->at = n->at;
		return ol_tpl_slice(r, out, &object, bounds);
	}
	if (!ol_tpl_eval(r, f, &key, n->b))
		return false;
	r->at = n->at;
	return ol_tpl_item(r, out, &object, &key);
}

/* a | name(…) and a is name(…) */
static bool eval_applied(render *r, frame *f, value *out, const node *n,
			 const struct ol_tpl_builtin *builtin, const char *what)
{
	value subject;
	struct ol_tpl_args args;
	OL_ASSERT(builtin); /* the parser looked */
	if (!ol_tpl_eval(r, f, &subject, n->a) || !ol_tpl_eval_arguments(r, f, &args, n) ||
	    !ol_tpl_call_builtin(r, out, builtin, what, &subject, &args))
		return false;
	if (n->kind == NODE_TEST && n->negated)
		out->truth = !out->truth;
	return true;
}

static bool eval_logic(render *r, frame *f, value *out, const node *n)
{
	if (!ol_tpl_eval(r, f, out, n->a))
		return false;
	const bool truth = ol_tpl_truth(out);
	if (n->kind == NODE_NOT) {
		*out = ol_tpl_bool(!truth);
		return true;
	}
	return truth == (n->kind == NODE_OR) || ol_tpl_eval(r, f, out, n->b);
}

static bool eval_choice(render *r, frame *f, value *out, const node *n)
{
	value condition;
	if (!ol_tpl_eval(r, f, &condition, n->b))
		return false;
	if (ol_tpl_truth(&condition))
		return ol_tpl_eval(r, f, out, n->a);
	return n->c ? ol_tpl_eval(r, f, out, n->c)
		    : ol_tpl_undefined(r, out, "the inline if was false and has no else");
}

static bool eval_binary(render *r, frame *f, value *out, const node *n)
{
	value a, b;
	if (!ol_tpl_eval(r, f, &a, n->a) || !ol_tpl_eval(r, f, &b, n->b))
		return false;
	r->at = n->at;
	return ol_tpl_arithmetic(r, out, n->op, &a, &b);
}

static bool eval_attribute(render *r, frame *f, value *out, const node *n)
{
	value object;
	if (!ol_tpl_eval(r, f, &object, n->a))
		return false;
	r->at = n->at;
	return ol_tpl_attribute(r, out, &object, n->name);
}

static bool eval_kind(render *r, frame *f, value *out, const node *n)
{
	switch (n->kind) {
	case NODE_STRING:
		*out = ol_tpl_string(
			(struct ol_tpl_text){.bytes = n->text.bytes, .size = n->text.size});
		return true;
	case NODE_INT: *out = ol_tpl_int(n->integer, false); return true;
	case NODE_FLOAT: *out = ol_tpl_float(n->number, false); return true;
	case NODE_BOOL: *out = ol_tpl_bool(n->integer != 0); return true;
	case NODE_NONE: *out = ol_tpl_none(); return true;
	case NODE_CAPTURED: *out = r->captured; return true;
	case NODE_NAME: return ol_tpl_eval_name(r, f, out, n->name);
	case NODE_LIST:
	case NODE_TUPLE: return eval_list(r, f, out, n);
	case NODE_DICT: return eval_dict(r, f, out, n);
	case NODE_ATTRIBUTE: return eval_attribute(r, f, out, n);
	case NODE_ITEM: return eval_item(r, f, out, n);
	case NODE_CALL: return ol_tpl_eval_call(r, f, out, n, NULL);
	case NODE_FILTER: return eval_applied(r, f, out, n, ol_tpl_filter(n->name), "filter");
	case NODE_TEST: return eval_applied(r, f, out, n, ol_tpl_test(n->name), "test");
	case NODE_NEGATE:
	case NODE_PLUS: return eval_sign(r, f, out, n);
	case NODE_NOT:
	case NODE_AND:
	case NODE_OR: return eval_logic(r, f, out, n);
	case NODE_BINARY: return eval_binary(r, f, out, n);
	case NODE_SUM: return eval_sum(r, f, out, n);
	case NODE_CONCAT: return eval_concat(r, f, out, n);
	case NODE_COMPARE: return eval_compare(r, f, out, n);
	case NODE_CHOICE: return eval_choice(r, f, out, n);
	case NODE_SLICE:
	case NODE_ARGUMENT:
	case NODE_TEXT:
	case NODE_PRINT:
	case NODE_SET:
	case NODE_FOR:
	case NODE_IF:
	case NODE_MACRO:
	case NODE_CALL_BLOCK:
	case NODE_FILTER_BLOCK:
	case NODE_SCOPE:
	case NODE_BREAK:
	case NODE_CONTINUE: break; /* the parser puts no statement into an expression */
	}
	OL_UNREACHABLE();
}

bool ol_tpl_eval(render *r, frame *f, value *out, const node *n)
{
	if (!enter(r, n))
		return false;
	const bool ok = eval_kind(r, f, out, n);
	r->depth--;
	return ok;
}

/* ---- statements ------------------------------------------------------------------------------ */

static bool assign(render *r, frame *f, const node *target, value v)
{
	if (target->kind == NODE_NAME)
		return ol_tpl_frame_set(r, f, target->name, v);
	struct ol_tpl_list items;
	size_t index = 0;
	if (!ol_tpl_walk(r, &items, &v))
		return false;
	for (const node *n = target->list; n; n = n->next, index++)
		if (index < items.count && !assign(r, f, n, items.items[index]))
			return false;
	return index == items.count ||
	       ol_tpl_fail(r, "%zu values cannot be unpacked into %zu names", items.count, index);
}

static bool assign_attribute(render *r, frame *f, const node *target, value v)
{
	value object;
	if (!ol_tpl_eval(r, f, &object, target->a))
		return false;
	r->at = target->at;
	if (object.kind != KIND_NAMESPACE)
		return ol_tpl_fail(r, "only a namespace() has attributes that can be set");
	const struct ol_tpl_name name = target->name;
	return ol_tpl_dict_put(
		r, object.dict,
		ol_tpl_string((struct ol_tpl_text){.bytes = name.bytes, .size = name.size}), v);
}

/* The body in a scope of its own, then through the filters. */
static bool capture_filtered(render *r, frame *f, value *out, const node *body, const node *filters)
{
	frame *inner;
	if (!ol_tpl_frame_open(r, &inner, f) || !ol_tpl_capture(r, inner, &r->captured, body))
		return false;
	return ol_tpl_eval(r, f, out, filters);
}

static bool run_set(render *r, frame *f, const node *n)
{
	value v;
	if (n->b ? !ol_tpl_eval(r, f, &v, n->b) : !capture_filtered(r, f, &v, n->body, n->c))
		return false;
	r->at = n->at;
	return n->a->kind == NODE_ATTRIBUTE ? assign_attribute(r, f, n->a, v)
					    : assign(r, f, n->a, v);
}

/* Drops the items for which the loop's if does not hold. */
static bool choose_items(render *r, frame *f, struct ol_tpl_list *items, const node *n)
{
	struct ol_tpl_list chosen = {0};
	for (size_t i = 0; i < items->count; i++) {
		frame *inner;
		value holds;
		if (!ol_tpl_frame_open(r, &inner, f) || !assign(r, inner, n->a, items->items[i]) ||
		    !ol_tpl_eval(r, inner, &holds, n->c))
			return false;
		if (ol_tpl_truth(&holds) && !ol_tpl_list_push(r, &chosen, items->items[i]))
			return false;
	}
	*items = chosen;
	return true;
}

static enum flow run_for(render *r, frame *f, struct ol_tpl_builder *out, const node *n)
{
	value iterable, loop = {.kind = KIND_LOOP};
	struct ol_tpl_list items;
	bool completed = false; /* as in jinja2: else runs unless a body ran to its end */
	if (!ol_tpl_eval(r, f, &iterable, n->b))
		return FLOW_FAIL;
	r->at = n->b->at;
	if (!ol_tpl_walk(r, &items, &iterable) || (n->c && !choose_items(r, f, &items, n)) ||
	    !ol_tpl_get(r, &loop.loop, 1, sizeof *loop.loop))
		return FLOW_FAIL;
	loop.loop->items = items.items;
	loop.loop->count = items.count;
	for (size_t i = 0; i < items.count; i++) {
		frame *inner;
		loop.loop->index0 = i;
		r->at = n->at;
		if (!ol_tpl_spend(r, 1) || !ol_tpl_frame_open(r, &inner, f) ||
		    !ol_tpl_frame_set(r, inner, (struct ol_tpl_name){"loop", 4}, loop) ||
		    !assign(r, inner, n->a, items.items[i]))
			return FLOW_FAIL;
		const enum flow flow = run(r, inner, out, n->body);
		if (flow == FLOW_FAIL)
			return FLOW_FAIL;
		if (flow == FLOW_BREAK)
			break;
		completed |= flow == FLOW_NEXT;
	}
	frame *inner;
	if (completed || !n->otherwise)
		return FLOW_NEXT;
	return ol_tpl_frame_open(r, &inner, f) ? run(r, inner, out, n->otherwise) : FLOW_FAIL;
}

static enum flow run_if(render *r, frame *f, struct ol_tpl_builder *out, const node *n)
{
	for (const node *arm = n->list; arm; arm = arm->next) {
		value condition;
		if (!ol_tpl_eval(r, f, &condition, arm->a))
			return FLOW_FAIL;
		if (ol_tpl_truth(&condition))
			return run(r, f, out, arm->body);
	}
	return run(r, f, out, n->otherwise);
}

static bool make_macro(render *r, frame *f, value *out, const node *n)
{
	*out = (value){.kind = KIND_MACRO};
	if (!ol_tpl_get(r, &out->macro, 1, sizeof *out->macro))
		return false;
	*out->macro = (struct ol_tpl_macro){n, f};
	return true;
}

static enum flow run_scope(render *r, frame *f, struct ol_tpl_builder *out, const node *n)
{
	frame *inner;
	if (!ol_tpl_frame_open(r, &inner, f))
		return FLOW_FAIL;
	for (const node *set = n->list; set; set = set->next) {
		value v; /* each is evaluated outside: with a = 1, b = a sees the outer a */
		if (!ol_tpl_eval(r, f, &v, set->b) || !assign(r, inner, set->a, v))
			return FLOW_FAIL;
	}
	return run(r, inner, out, n->body);
}

static enum flow run_one(render *r, frame *f, struct ol_tpl_builder *out, const node *n)
{
	value v;
	bool ok = false;
	switch (n->kind) {
	case NODE_TEXT: ok = ol_tpl_add_bytes(out, n->text.bytes, n->text.size, false); break;
	case NODE_PRINT:
		ok = ol_tpl_eval(r, f, &v, n->a);
		r->at = ok ? n->at : r->at;
		ok = ok && ol_tpl_add_str(out, &v);
		break;
	case NODE_SET: ok = run_set(r, f, n); break;
	case NODE_MACRO: ok = make_macro(r, f, &v, n) && ol_tpl_frame_set(r, f, n->name, v); break;
	case NODE_CALL_BLOCK:
		ok = make_macro(r, f, &v, n) && ol_tpl_eval_call(r, f, &v, n->a, &v) &&
		     ol_tpl_add_str(out, &v);
		break;
	case NODE_FILTER_BLOCK:
		ok = capture_filtered(r, f, &v, n->body, n->a) && ol_tpl_add_str(out, &v);
		break;
	case NODE_FOR: return run_for(r, f, out, n);
	case NODE_IF: return run_if(r, f, out, n);
	case NODE_SCOPE: return run_scope(r, f, out, n);
	case NODE_BREAK: return FLOW_BREAK;
	case NODE_CONTINUE: return FLOW_CONTINUE;
	default: OL_UNREACHABLE(); /* the parser puts no expression here */
	}
	return ok ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow run(render *r, frame *f, struct ol_tpl_builder *out, const node *body)
{
	enum flow flow = FLOW_NEXT;
	for (const node *n = body; n && flow == FLOW_NEXT; n = n->next) {
		if (!enter(r, n))
			return FLOW_FAIL;
		flow = run_one(r, f, out, n);
		r->depth--;
	}
	return flow;
}

bool ol_tpl_run(render *r, struct ol_tpl_builder *out, const node *body)
{
	const enum flow flow = run(r, &r->globals, out, body);
	if (flow == FLOW_BREAK || flow == FLOW_CONTINUE)
		return ol_tpl_fail(r, "break and continue belong into a loop");
	return flow == FLOW_NEXT;
}
