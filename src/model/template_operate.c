/* What can be done to values: attributes, items, slices, arithmetic. Python's rules throughout. */
#include "model/template_internal.h"

#include <math.h>
#include <string.h>

typedef struct ol_tpl_render render;
typedef struct ol_tpl_value value;

/* ---- attributes and items -------------------------------------------------------------------- */

enum { NAME_SHOWN_MAX = 64 };

static bool is_unknown(render *r, value *out, const value *object, struct ol_tpl_name name)
{
	return ol_tpl_undefined(r, out, "'%s object' has no attribute '%.*s'",
				ol_tpl_kind_name(object),
				(int)OL_MIN(name.size, (size_t)NAME_SHOWN_MAX), name.bytes);
}

static bool loop_attribute(render *r, value *out, const value *object, struct ol_tpl_name name,
			   bool *found)
{
	const struct ol_tpl_loop *loop = object->loop;
	const int64_t index0 = (int64_t)loop->index0, count = (int64_t)loop->count;
	const struct {
		const char *name;
		value v;
	} attributes[] = {
		{"index", ol_tpl_int(index0 + 1, false)},
		{"index0", ol_tpl_int(index0, false)},
		{"revindex", ol_tpl_int(count - index0, false)},
		{"revindex0", ol_tpl_int(count - index0 - 1, false)},
		{"first", ol_tpl_bool(index0 == 0)},
		{"last", ol_tpl_bool(index0 == count - 1)},
		{"length", ol_tpl_int(count, false)},
		{"depth", ol_tpl_int(1, false)},
		{"depth0", ol_tpl_int(0, false)},
	};
	*found = true;
	for (size_t i = 0; i < OL_ARRAY_LEN(attributes); i++)
		if (ol_tpl_name_is(name, attributes[i].name)) {
			*out = attributes[i].v;
			return true;
		}
	if (ol_tpl_name_is(name, "previtem")) {
		if (index0 == 0)
			return ol_tpl_undefined(r, out, "there is no previous item");
		*out = loop->items[index0 - 1];
		return true;
	}
	if (ol_tpl_name_is(name, "nextitem")) {
		if (index0 == count - 1)
			return ol_tpl_undefined(r, out, "there is no next item");
		*out = loop->items[index0 + 1];
		return true;
	}
	*found = false;
	return true;
}

/* A method of object; *found says whether there is one. */
static bool method_of(render *r, value *out, const value *object, struct ol_tpl_name name,
		      bool *found)
{
	bool unsafe = false;
	const struct ol_tpl_builtin *method = ol_tpl_method(object, name, &unsafe);
	*found = method || unsafe;
	if (unsafe)
		return ol_tpl_undefined(r, out,
					"'%.*s' would change a %s, and templates change nothing",
					(int)name.size, name.bytes, ol_tpl_kind_name(object));
	if (!method)
		return true;
	struct ol_tpl_bound *bound;
	if (!ol_tpl_get(r, &bound, 1, sizeof *bound))
		return false;
	bound->builtin = method;
	bound->self = *object;
	*out = (value){.kind = KIND_BUILTIN, .bound = bound};
	return true;
}

static bool find_key(render *r, value *out, const value *object, const value *key, bool *found)
{
	const value *item;
	if (!ol_tpl_dict_find(r, &item, object->dict, key))
		return false;
	*found = item != NULL;
	if (item)
		*out = *item;
	return true;
}

bool ol_tpl_attribute(render *r, value *out, const value *object, struct ol_tpl_name name)
{
	const value self = *object;
	const value key =
		ol_tpl_string((struct ol_tpl_text){.bytes = name.bytes, .size = name.size});
	bool found = false;
	if (self.kind == KIND_UNDEFINED)
		return ol_tpl_fail(r, "an undefined value has no attribute '%.*s': %s",
				   (int)OL_MIN(name.size, (size_t)NAME_SHOWN_MAX), name.bytes,
				   self.text.bytes);
	if (self.kind == KIND_LOOP) {
		if (!loop_attribute(r, out, &self, name, &found))
			return false;
		if (found)
			return true;
	}
	/* Python looks for methods first: message.items is one, message['items'] the key. */
	if (!method_of(r, out, &self, name, &found))
		return false;
	if (!found && (self.kind == KIND_DICT || self.kind == KIND_NAMESPACE) &&
	    !find_key(r, out, &self, &key, &found))
		return false;
	return found || is_unknown(r, out, &self, name);
}

static bool index_of(render *r, value *out, const value *object, int64_t index)
{
	size_t length;
	if (!ol_tpl_length(r, &length, object))
		return false;
	const int64_t at = index < 0 ? index + (int64_t)length : index;
	if (at < 0 || at >= (int64_t)length)
		return ol_tpl_undefined(r, out, "the %s has no item %lld", ol_tpl_kind_name(object),
					(long long)index);
	if (object->kind == KIND_LIST) {
		*out = object->list->items[at];
		return true;
	}
	const size_t begin = ol_tpl_text_offset(object->text, (size_t)at);
	size_t end = begin;
	ol_tpl_next(object->text, &end);
	*out = ol_tpl_string(ol_tpl_text_part(object->text, begin, end));
	return true;
}

static bool has_index(const value *object)
{
	return object->kind == KIND_STRING ||
	       (object->kind == KIND_LIST && object->list->form <= FORM_RANGE);
}

bool ol_tpl_item(render *r, value *out, const value *object, const value *key)
{
	const value self = *object;
	bool found = false;
	if (self.kind == KIND_UNDEFINED)
		return ol_tpl_fail(r, "an undefined value has no items: %s", self.text.bytes);
	if (has_index(&self) && (key->kind == KIND_INT || key->kind == KIND_BOOL))
		return index_of(r, out, &self, key->kind == KIND_INT ? key->integer : key->truth);
	if (self.kind == KIND_DICT && !find_key(r, out, &self, key, &found))
		return false;
	if (!found && key->kind == KIND_STRING)
		return ol_tpl_attribute(r, out, &self,
					(struct ol_tpl_name){key->text.bytes, key->text.size});
	return found ||
	       ol_tpl_undefined(r, out, "the %s has no such item", ol_tpl_kind_name(&self));
}

/* Python's slice.indices(): first index, step, and how many. */
static bool slice_indices(render *r, int64_t *first, int64_t *step, int64_t *count,
			  const int64_t *const bounds[3], int64_t length)
{
	*step = bounds[2] ? *bounds[2] : 1;
	if (*step == 0)
		return ol_tpl_fail(r, "the step of a slice cannot be 0");
	*step = OL_MAX(*step, -INT64_MAX);
	const int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? length - 1 : length;
	int64_t ends[2] = {*step < 0 ? high : low, *step < 0 ? low : high};
	for (int i = 0; i < 2; i++)
		if (bounds[i]) {
			const int64_t at = *bounds[i] < 0 ? *bounds[i] + length : *bounds[i];
			ends[i] = OL_MAX(low, OL_MIN(high, at));
		}
	*first = ends[0];
	const int64_t distance = *step < 0 ? ends[0] - ends[1] : ends[1] - ends[0];
	const int64_t stride = *step < 0 ? -*step : *step;
	*count = distance <= 0 ? 0 : (distance - 1) / stride + 1;
	return true;
}

static bool slice_text(render *r, value *out, struct ol_tpl_text text, int64_t first, int64_t step,
		       int64_t count)
{
	if (step == 1) {
		const size_t begin = ol_tpl_text_offset(text, (size_t)first);
		const struct ol_tpl_text rest = ol_tpl_text_part(text, begin, text.size);
		*out = ol_tpl_string(
			ol_tpl_text_part(rest, 0, ol_tpl_text_offset(rest, (size_t)count)));
		return true;
	}
	/* Any other step goes through the offsets of all characters. */
	struct ol_tpl_builder b;
	size_t *offsets, length = 0;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_get(r, &offsets, text.size + 1, sizeof *offsets))
		return false;
	for (size_t at = 0; at < text.size; ol_tpl_next(text, &at))
		offsets[length++] = at;
	offsets[length] = text.size;
	for (int64_t i = 0, at = first; i < count; i++, at += i < count ? step : 0)
		if (!ol_tpl_add(&b, ol_tpl_text_part(text, offsets[at], offsets[at + 1])))
			return false;
	*out = ol_tpl_built(&b);
	return true;
}

bool ol_tpl_slice(render *r, value *out, const value *object, const int64_t *const bounds[3])
{
	const value self = *object;
	size_t length;
	int64_t first = 0, step = 1, count = 0;
	if (self.kind == KIND_UNDEFINED)
		return ol_tpl_fail(r, "an undefined value has no slices: %s", self.text.bytes);
	if (!has_index(&self))
		return ol_tpl_fail(r, "a %s has no slices", ol_tpl_kind_name(&self));
	if (!ol_tpl_length(r, &length, &self) ||
	    !slice_indices(r, &first, &step, &count, bounds, (int64_t)length) ||
	    !ol_tpl_spend(r, (size_t)count))
		return false;
	if (self.kind == KIND_STRING)
		return slice_text(r, out, self.text, first, step, count);
	if (!ol_tpl_list_make(r, out, self.list->form, (size_t)count))
		return false;
	out->input = self.input;
	for (int64_t i = 0, at = first; i < count; i++, at += i < count ? step : 0)
		out->list->items[out->list->count++] = self.list->items[at];
	return true;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static const char *sign_of(uint8_t op)
{
	return ol_tpl_token_name((enum ol_tpl_token_kind)op);
}

static bool fail_overflow(render *r, uint8_t op)
{
	return ol_tpl_fail(r, "the result of %s does not fit into 64 bits", sign_of(op));
}

/* By squaring: no pow() of a C library decides what a prompt says. */
static bool float_power(render *r, value *out, double base, double exponent, bool input)
{
	double result = 1;
	if (exponent != floor(exponent) || fabs(exponent) > 1024)
		return ol_tpl_fail(r, "a power is a whole number of at most 1024 here");
	if (base == 0 && exponent < 0)
		return ol_tpl_fail(r, "0 has no negative power");
	for (int left = (int)fabs(exponent); left > 0; left >>= 1) {
		if (left & 1)
			result *= base;
		base *= base;
	}
	*out = ol_tpl_float(exponent < 0 ? 1 / result : result, input);
	return true;
}

static bool int_power(render *r, value *out, int64_t base, int64_t exponent, bool input)
{
	int64_t result = 1;
	if (exponent < 0)
		return float_power(r, out, (double)base, (double)exponent, input);
	for (; exponent > 0; exponent >>= 1) {
		if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
			return fail_overflow(r, TOKEN_POWER);
		if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
			return fail_overflow(r, TOKEN_POWER);
	}
	*out = ol_tpl_int(result, input);
	return true;
}

static bool int_arithmetic(render *r, value *out, uint8_t op, int64_t a, int64_t b, bool input)
{
	int64_t result = 0;
	bool overflow = false;
	switch (op) {
	case TOKEN_ADD: overflow = __builtin_add_overflow(a, b, &result); break;
	case TOKEN_SUB: overflow = __builtin_sub_overflow(a, b, &result); break;
	case TOKEN_MUL: overflow = __builtin_mul_overflow(a, b, &result); break;
	case TOKEN_POWER: return int_power(r, out, a, b, input);
	default: /* / // % */
		if (b == 0)
			return ol_tpl_fail(r, "%s by zero", sign_of(op));
		if (op == TOKEN_DIV) {
			*out = ol_tpl_float((double)a / (double)b, input);
			return true;
		}
		overflow = a == INT64_MIN && b == -1;
		if (!overflow) { /* towards minus infinity; the remainder has the divisor's sign */
			const int64_t quotient = a / b - (a % b != 0 && (a < 0) != (b < 0));
			result = op == TOKEN_FLOOR_DIV ? quotient : a - quotient * b;
		}
	}
	*out = ol_tpl_int(result, input);
	return !overflow || fail_overflow(r, op);
}

static bool float_arithmetic(render *r, value *out, uint8_t op, double a, double b, bool input)
{
	double result;
	if (b == 0 && (op == TOKEN_DIV || op == TOKEN_FLOOR_DIV || op == TOKEN_MOD))
		return ol_tpl_fail(r, "%s by zero", sign_of(op));
	switch (op) {
	case TOKEN_ADD: result = a + b; break;
	case TOKEN_SUB: result = a - b; break;
	case TOKEN_MUL: result = a * b; break;
	case TOKEN_DIV: result = a / b; break;
	case TOKEN_POWER: return float_power(r, out, a, b, input);
	default: { /* // and %: the remainder has the divisor's sign */
		double remainder = fmod(a, b);
		const double exact = (a - remainder) / b;
		const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
		if (adjust)
			remainder += b;
		if (remainder == 0)
			remainder = copysign(0, b);
		const double quotient = floor(exact - adjust);
		result = op == TOKEN_MOD ? remainder : quotient + (exact - adjust - quotient > 0.5);
	}
	}
	*out = ol_tpl_float(result, input);
	return true;
}

static bool repeat(render *r, value *out, value whole, int64_t times)
{
	const size_t count = times > 0 ? (size_t)times : 0;
	if (whole.kind == KIND_STRING) {
		struct ol_tpl_builder b;
		ol_tpl_builder_init(&b, r);
		for (size_t i = 0; whole.text.size && i < count; i++)
			if (!ol_tpl_add(&b, whole.text))
				return false;
		*out = ol_tpl_built(&b);
		return true;
	}
	const struct ol_tpl_list *list = whole.list;
	if (list->count && count > OL_TEMPLATE_STEPS_MAX / list->count)
		return ol_tpl_fail_limit(r, "this list would have more than %d items",
					 OL_TEMPLATE_STEPS_MAX);
	if (!ol_tpl_list_make(r, out, list->form, list->count * count) ||
	    !ol_tpl_spend(r, list->count * count))
		return false;
	out->input = whole.input;
	for (size_t i = 0; list->count && i < count; i++)
		for (size_t k = 0; k < list->count; k++)
			out->list->items[out->list->count++] = list->items[k];
	return true;
}

static bool join_lists(render *r, value *out, value a, value b)
{
	if (!ol_tpl_list_make(r, out, a.list->form, a.list->count + b.list->count) ||
	    !ol_tpl_spend(r, a.list->count + b.list->count))
		return false;
	out->input = a.input || b.input;
	for (size_t i = 0; i < a.list->count; i++)
		out->list->items[out->list->count++] = a.list->items[i];
	for (size_t i = 0; i < b.list->count; i++)
		out->list->items[out->list->count++] = b.list->items[i];
	return true;
}

static bool is_repeatable(const value *v)
{
	return v->kind == KIND_STRING || (v->kind == KIND_LIST && v->list->form <= FORM_TUPLE);
}

static bool is_whole(const value *v)
{
	return v->kind == KIND_INT || v->kind == KIND_BOOL;
}

static int64_t whole_of(const value *v)
{
	return v->kind == KIND_INT ? v->integer : v->truth;
}

bool ol_tpl_arithmetic(render *r, value *out, uint8_t op, const value *left, const value *right)
{
	const value a = *left, b = *right;
	if (ol_tpl_is_numeric(&a) && ol_tpl_is_numeric(&b)) {
		const bool input = a.input || b.input;
		if (is_whole(&a) && is_whole(&b))
			return int_arithmetic(r, out, op, whole_of(&a), whole_of(&b), input);
		return float_arithmetic(r, out, op, ol_tpl_as_double(&a), ol_tpl_as_double(&b),
					input);
	}
	if (op == TOKEN_MUL && is_repeatable(&a) && is_whole(&b))
		return repeat(r, out, a, whole_of(&b));
	if (op == TOKEN_MUL && is_whole(&a) && is_repeatable(&b))
		return repeat(r, out, b, whole_of(&a));
	if (op == TOKEN_MOD && a.kind == KIND_STRING)
		return ol_tpl_percent(r, out, a.text, &b);
	if (op == TOKEN_ADD && a.kind == KIND_STRING && b.kind == KIND_STRING) {
		struct ol_tpl_builder builder;
		ol_tpl_builder_init(&builder, r);
		if (!ol_tpl_add(&builder, a.text) || !ol_tpl_add(&builder, b.text))
			return false;
		*out = ol_tpl_built(&builder);
		return true;
	}
	if (op == TOKEN_ADD && a.kind == KIND_LIST && b.kind == KIND_LIST &&
	    a.list->form == b.list->form && is_repeatable(&a))
		return join_lists(r, out, a, b);
	const value *undefined = a.kind == KIND_UNDEFINED ? &a : &b;
	if (undefined->kind == KIND_UNDEFINED)
		return ol_tpl_fail(r, "%s has nothing to work on: %s", sign_of(op),
				   undefined->text.bytes);
	return ol_tpl_fail(r, "%s does not work between a %s and a %s", sign_of(op),
			   ol_tpl_kind_name(&a), ol_tpl_kind_name(&b));
}
