/* Names and calls.
 *
 * Scopes are jinja2's: a for loop makes a new one for every iteration, a macro, a call block, a
 * filter block and a captured block one for their body; an if makes none. A name is looked for
 * outwards from where it is written (a macro: from where it was defined), then among what the
 * caller of the template gave, then among the functions. */
#include "model/template_internal.h"

#include <string.h>

typedef struct ol_tpl_node node;
typedef struct ol_tpl_render render;
typedef struct ol_tpl_frame frame;
typedef struct ol_tpl_value value;

/* ---- names ----------------------------------------------------------------------------------- */

static bool same_name(struct ol_tpl_name a, struct ol_tpl_name b)
{
	return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

static bool find_variable(render *r, struct ol_tpl_variable **found, const frame *f,
			  struct ol_tpl_name name)
{
	size_t looked_at = 0;
	*found = f->variables;
	for (; *found && !same_name((*found)->name, name); *found = (*found)->next)
		looked_at++;
	return ol_tpl_spend(r, looked_at);
}

static bool add_variable(render *r, frame *f, struct ol_tpl_name name, value v)
{
	struct ol_tpl_variable *variable;
	if (!ol_tpl_get(r, &variable, 1, sizeof *variable))
		return false;
	*variable = (struct ol_tpl_variable){.next = f->variables, .name = name, .value = v};
	f->variables = variable;
	return true;
}

bool ol_tpl_frame_set(render *r, frame *f, struct ol_tpl_name name, value v)
{
	struct ol_tpl_variable *variable;
	if (!find_variable(r, &variable, f, name))
		return false;
	if (!variable)
		return add_variable(r, f, name, v);
	variable->value = v;
	return true;
}

bool ol_tpl_frame_open(render *r, frame **f, frame *parent)
{
	if (!ol_tpl_get(r, f, 1, sizeof **f))
		return false;
	(*f)->parent = parent;
	return true;
}

/* What the caller of the template gave, or a function that every template has. */
static bool eval_global(render *r, value *out, struct ol_tpl_name name)
{
	const json_t *json = json_object_getn(r->trusted, name.bytes, name.size);
	const bool input = !json;
	if (!json)
		json = json_object_getn(r->variables, name.bytes, name.size);
	if (json)
		return ol_tpl_from_json(r, out, json, input) &&
		       add_variable(r, &r->globals, name, *out);
	const struct ol_tpl_builtin *function = ol_tpl_function(name);
	if (!function)
		return ol_tpl_undefined(r, out, "'%.*s' is undefined",
					(int)OL_MIN(name.size, (size_t)64), name.bytes);
	*out = (value){.kind = KIND_BUILTIN};
	if (!ol_tpl_get(r, &out->bound, 1, sizeof *out->bound))
		return false;
	out->bound->builtin = function;
	return add_variable(r, &r->globals, name, *out);
}

bool ol_tpl_eval_name(render *r, const frame *f, value *out, struct ol_tpl_name name)
{
	for (; f; f = f->parent) {
		struct ol_tpl_variable *variable;
		if (!find_variable(r, &variable, f, name))
			return false;
		if (variable) {
			*out = variable->value;
			return true;
		}
	}
	return eval_global(r, out, name);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static bool eval_spread(render *r, frame *f, struct ol_tpl_list *plain, const node *n)
{
	value v;
	struct ol_tpl_list items;
	if (!n)
		return true;
	if (!ol_tpl_eval(r, f, &v, n) || !ol_tpl_walk(r, &items, &v))
		return false;
	for (size_t i = 0; i < items.count; i++)
		if (!ol_tpl_list_push(r, plain, items.items[i]))
			return false;
	return true;
}

static bool eval_named_spread(render *r, const value *spread, struct ol_tpl_args *args)
{
	if (spread->kind != KIND_DICT)
		return ol_tpl_fail(r, "** needs a dict, not a %s", ol_tpl_kind_name(spread));
	for (size_t i = 0; i < spread->dict->count; i++) {
		const struct ol_tpl_pair *pair = &spread->dict->pairs[i];
		struct ol_tpl_text key;
		if (!ol_tpl_as_text(r, &key, &pair->key, "the name of an argument"))
			return false;
		args->named[args->named_count++] =
			(struct ol_tpl_named_value){{key.bytes, key.size}, pair->value};
	}
	return true;
}

/* The arguments of a call, filter or test; one more named one has room. */
bool ol_tpl_eval_arguments(render *r, frame *f, struct ol_tpl_args *args, const node *call)
{
	*args = (struct ol_tpl_args){0};
	struct ol_tpl_list plain = {0};
	size_t named = 1;
	value spread = ol_tpl_none();
	for (const node *n = call->list; n; n = n->next)
		named += n->name.size > 0;
	if (call->named_spread && !ol_tpl_eval(r, f, &spread, call->named_spread))
		return false;
	if (spread.kind == KIND_DICT)
		named += spread.dict->count;
	if ((named > 1 || call->kind == NODE_CALL) &&
	    !ol_tpl_get(r, &args->named, named, sizeof *args->named))
		return false;
	for (const node *n = call->list; n; n = n->next) {
		value v;
		if (!ol_tpl_eval(r, f, &v, n->a))
			return false;
		if (n->name.size)
			args->named[args->named_count++] = (struct ol_tpl_named_value){n->name, v};
		else if (!ol_tpl_list_push(r, &plain, v))
			return false;
	}
	if (!eval_spread(r, f, &plain, call->spread) ||
	    (call->named_spread && !eval_named_spread(r, &spread, args)))
		return false;
	args->plain = plain.items;
	args->count = plain.count;
	r->at = call->at;
	return true;
}

/* The place of a name in "one two three"; -1: not there. */
static int parameter_index(const char *parameters, struct ol_tpl_name name)
{
	for (int index = 0; *parameters; index++) {
		const size_t size = strcspn(parameters, " ");
		if (size == name.size && memcmp(parameters, name.bytes, size) == 0)
			return index;
		parameters += size + (parameters[size] == ' ');
	}
	return -1;
}

static int parameter_count(const char *parameters)
{
	int count = *parameters != '\0';
	for (; *parameters; parameters++)
		count += *parameters == ' ';
	return count;
}

bool ol_tpl_call_builtin(render *r, value *out, const struct ol_tpl_builtin *builtin,
			 const char *what, const value *self, struct ol_tpl_args *args)
{
	if (!ol_tpl_spend(r, 1))
		return false;
	if (!builtin->parameters)
		return builtin->call(r, out, self, args);
	const size_t max = (size_t)parameter_count(builtin->parameters);
	OL_ASSERT(max <= OL_TPL_PARAMETERS_MAX);
	if (args->count > max)
		return ol_tpl_fail(r, "the %s '%s' takes at most %zu arguments, not %zu", what,
				   builtin->name, max, args->count);
	for (size_t i = 0; i < args->count; i++)
		args->at[i] = &args->plain[i];
	for (size_t i = 0; i < args->named_count; i++) {
		const struct ol_tpl_name name = args->named[i].name;
		const int index = parameter_index(builtin->parameters, name);
		if (index < 0 || args->at[index])
			return ol_tpl_fail(r, "the %s '%s' has no use for the argument '%.*s'",
					   what, builtin->name, (int)OL_MIN(name.size, (size_t)64),
					   name.bytes);
		args->at[index] = &args->named[i].value;
	}
	for (int i = 0; i < builtin->required; i++)
		if (!args->at[i])
			return ol_tpl_fail(r, "the %s '%s' needs %d argument(s)", what,
					   builtin->name, builtin->required);
	return builtin->call(r, out, self, args);
}

static bool take_named(struct ol_tpl_args *args, value *out, struct ol_tpl_name name)
{
	for (size_t i = 0; i < args->named_count; i++)
		if (same_name(args->named[i].name, name)) {
			*out = args->named[i].value;
			args->named[i] = args->named[--args->named_count];
			return true;
		}
	return false;
}

static bool bind_parameters(render *r, frame *f, const node *macro, struct ol_tpl_args *args)
{
	size_t index = 0;
	for (const node *n = macro->list; n; n = n->next, index++) {
		value v;
		if (index < args->count)
			v = args->plain[index];
		else if (take_named(args, &v, n->name))
			;
		else if (n->a ? !ol_tpl_eval(r, f, &v, n->a)
			      : !ol_tpl_undefined(r, &v, "parameter '%.*s' was not provided",
						  (int)OL_MIN(n->name.size, (size_t)64),
						  n->name.bytes))
			return false;
		if (!ol_tpl_frame_set(r, f, n->name, v))
			return false;
	}
	return true;
}

/* varargs, kwargs and caller, where the body asks for them; nothing may be left over. */
static bool bind_specials(render *r, frame *f, const node *macro, struct ol_tpl_args *args)
{
	static const struct ol_tpl_name caller = {"caller", 6}, kwargs = {"kwargs", 6},
					varargs = {"varargs", 7};
	size_t parameters = 0;
	bool explicit_caller = false;
	for (const node *n = macro->list; n; n = n->next, parameters++)
		explicit_caller |= same_name(n->name, caller);
	value v;
	if ((macro->op & SPECIAL_CALLER) && !explicit_caller) {
		if (!take_named(args, &v, caller) &&
		    !ol_tpl_undefined(r, &v, "no caller is defined"))
			return false;
		if (!ol_tpl_frame_set(r, f, caller, v))
			return false;
	}
	if (macro->op & SPECIAL_KWARGS) {
		if (!ol_tpl_dict_make(r, &v, args->named_count))
			return false;
		for (size_t i = 0; i < args->named_count; i++) {
			const struct ol_tpl_name name = args->named[i].name;
			const value key = ol_tpl_string(
				(struct ol_tpl_text){.bytes = name.bytes, .size = name.size});
			if (!ol_tpl_dict_put(r, v.dict, key, args->named[i].value))
				return false;
		}
		if (!ol_tpl_frame_set(r, f, kwargs, v))
			return false;
	} else if (args->named_count) {
		const struct ol_tpl_name name = args->named[0].name;
		return ol_tpl_fail(r, "the macro has no use for the argument '%.*s'",
				   (int)OL_MIN(name.size, (size_t)64), name.bytes);
	}
	if (!(macro->op & SPECIAL_VARARGS))
		return args->count <= parameters ||
		       ol_tpl_fail(r, "the macro takes at most %zu arguments, not %zu", parameters,
				   args->count);
	if (!ol_tpl_list_make(r, &v, FORM_TUPLE, 0))
		return false;
	for (size_t i = parameters; i < args->count; i++)
		if (!ol_tpl_list_push(r, v.list, args->plain[i]))
			return false;
	return ol_tpl_frame_set(r, f, varargs, v);
}

static bool call_macro(render *r, value *out, const struct ol_tpl_macro *macro,
		       struct ol_tpl_args *args)
{
	frame *f;
	return ol_tpl_frame_open(r, &f, macro->frame) && bind_parameters(r, f, macro->node, args) &&
	       bind_specials(r, f, macro->node, args) &&
	       ol_tpl_capture(r, f, out, macro->node->body);
}

/* caller: NULL, or the value that a call block adds. */
bool ol_tpl_eval_call(render *r, frame *f, value *out, const node *n, const value *caller)
{
	value callee;
	struct ol_tpl_args args;
	if (!ol_tpl_eval(r, f, &callee, n->a) || !ol_tpl_eval_arguments(r, f, &args, n))
		return false;
	if (caller)
		args.named[args.named_count++] =
			(struct ol_tpl_named_value){{"caller", 6}, *caller};
	switch (callee.kind) {
	case KIND_MACRO: return call_macro(r, out, callee.macro, &args);
	case KIND_BUILTIN:
		return ol_tpl_call_builtin(r, out, callee.bound->builtin, "function",
					   &callee.bound->self, &args);
	case KIND_UNDEFINED: return ol_tpl_fail(r, "this cannot be called: %s", callee.text.bytes);
	case KIND_NONE:
	case KIND_BOOL:
	case KIND_INT:
	case KIND_FLOAT:
	case KIND_STRING:
	case KIND_LIST:
	case KIND_DICT:
	case KIND_NAMESPACE:
	case KIND_LOOP: return ol_tpl_fail(r, "a %s cannot be called", ol_tpl_kind_name(&callee));
	}
	OL_UNREACHABLE();
}
