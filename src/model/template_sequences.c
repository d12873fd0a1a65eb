/* Filters over sequences: list, first, sort, map, select and their kind. */
#include "model/template_internal.h"

#include <string.h>

typedef struct ol_tpl_render render;
typedef struct ol_tpl_value value;
typedef struct ol_tpl_args args;
typedef struct ol_tpl_text text;

static bool truth_of(const value *v)
{
	return v && ol_tpl_truth(v);
}

/* ---- sequences ------------------------------------------------------------------------------- */

static bool make_list(render *r, value *out, enum ol_tpl_form form, const struct ol_tpl_list *items,
		      bool input)
{
	if (!ol_tpl_list_make(r, out, form, items->count) || !ol_tpl_spend(r, items->count))
		return false;
	out->input = input;
	for (size_t i = 0; i < items->count; i++)
		out->list->items[out->list->count++] = items->items[i];
	return true;
}

static bool filter_list(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	struct ol_tpl_list items;
	return ol_tpl_walk(r, &items, self) && make_list(r, out, FORM_LIST, &items, self->input);
}

static bool filter_first(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	struct ol_tpl_list items;
	if (self->kind == KIND_LIST && self->list->form == FORM_LAZY && self->list->count) {
		*out = self->list->items[0]; /* the rest stays where it is */
		self->list->items++;
		self->list->count--;
		self->list->room--;
		return true;
	}
	if (!ol_tpl_walk(r, &items, self))
		return false;
	if (items.count == 0)
		return ol_tpl_undefined(r, out, "there is no first item");
	*out = items.items[0];
	return true;
}

static bool filter_last(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	struct ol_tpl_list items;
	if (self->kind == KIND_LIST && self->list->form == FORM_LAZY)
		return ol_tpl_fail(r,
				   "a generator has no last item; pass it through the list filter");
	if (!ol_tpl_walk(r, &items, self))
		return false;
	if (items.count == 0)
		return ol_tpl_undefined(r, out, "there is no last item");
	*out = items.items[items.count - 1];
	return true;
}

static bool filter_reverse(render *r, value *out, const value *self, const args *a)
{
	static const int64_t minus_one = -1;
	static const int64_t *const backwards[3] = {NULL, NULL, &minus_one};
	(void)a;
	struct ol_tpl_list items;
	if (self->kind == KIND_STRING)
		return ol_tpl_slice(r, out, self, backwards);
	if (!ol_tpl_walk(r, &items, self) || !ol_tpl_list_make(r, out, FORM_LAZY, items.count))
		return false;
	out->input = self->input;
	for (size_t i = items.count; i-- > 0;)
		out->list->items[out->list->count++] = items.items[i];
	return ol_tpl_spend(r, items.count);
}

/* The attribute of an item: a name, an index, or several of them with dots between. */
static bool get_path(render *r, value *out, const value *item, const value *path)
{
	*out = *item;
	if (!path || path->kind == KIND_NONE)
		return true;
	if (path->kind != KIND_STRING)
		return ol_tpl_item(r, out, item, path);
	for (size_t begin = 0; begin <= path->text.size;) {
		const size_t dot = ol_tpl_text_find(path->text, ol_tpl_text_of("."), begin);
		const size_t end = OL_MIN(dot, path->text.size);
		const text part = ol_tpl_text_part(path->text, begin, end);
		value key = ol_tpl_string(part);
		int64_t index = 0;
		size_t digits = 0;
		for (; digits < part.size && digits < 9 && part.bytes[digits] >= '0' &&
		       part.bytes[digits] <= '9';
		     digits++)
			index = index * 10 + (part.bytes[digits] - '0');
		if (digits && digits == part.size)
			key = ol_tpl_int(index, false);
		if (!ol_tpl_item(r, out, out, &key))
			return false;
		begin = end + 1;
	}
	return true;
}

static bool filter_join(render *r, value *out, const value *self, const args *a)
{
	struct ol_tpl_list items;
	text separator = ol_tpl_text_of("");
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_walk(r, &items, self) || (a->at[0] && !ol_tpl_str(r, &separator, a->at[0])))
		return false;
	for (size_t i = 0; i < items.count; i++) {
		value item;
		if (!get_path(r, &item, &items.items[i], a->at[1]) ||
		    (i && !ol_tpl_add(&b, separator)) || !ol_tpl_add_str(&b, &item))
			return false;
	}
	*out = ol_tpl_built(&b);
	return true;
}

static bool filter_sum(render *r, value *out, const value *self, const args *a)
{
	struct ol_tpl_list items;
	value sum = a->at[1] ? *a->at[1] : ol_tpl_int(0, false);
	if (!ol_tpl_walk(r, &items, self))
		return false;
	for (size_t i = 0; i < items.count; i++) {
		value item;
		if (!get_path(r, &item, &items.items[i], a->at[0]) ||
		    !ol_tpl_arithmetic(r, &sum, TOKEN_ADD, &sum, &item))
			return false;
	}
	*out = sum;
	return true;
}

/* ---- order ----------------------------------------------------------------------------------- */

struct keyed {
	value key, item;
};

static bool lower(render *r, value *v)
{
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_add_case(&b, v->text, CASE_LOWER))
		return false;
	*v = ol_tpl_built(&b);
	return true;
}

static bool make_key(render *r, value *key, const value *item, const value *path,
		     bool case_sensitive)
{
	if (!get_path(r, key, item, path))
		return false;
	return case_sensitive || key->kind != KIND_STRING || lower(r, key);
}

/* Several attributes with commas between them make a list. */
static bool make_sort_key(render *r, value *key, const value *item, const value *path,
			  bool case_sensitive)
{
	if (!path || path->kind != KIND_STRING || !path->text.size ||
	    !memchr(path->text.bytes, ',', path->text.size))
		return make_key(r, key, item, path, case_sensitive);
	if (!ol_tpl_list_make(r, key, FORM_LIST, 0))
		return false;
	for (size_t begin = 0; begin <= path->text.size;) {
		const size_t end = OL_MIN(ol_tpl_text_find(path->text, ol_tpl_text_of(","), begin),
					  path->text.size);
		const value one = ol_tpl_string(ol_tpl_text_part(path->text, begin, end));
		value part;
		if (!make_key(r, &part, item, &one, case_sensitive) ||
		    !ol_tpl_list_push(r, key->list, part))
			return false;
		begin = end + 1;
	}
	return true;
}

/* A stable merge sort, because comparing can fail. Equal items keep their order in reverse, too. */
static bool sort_keyed(render *r, struct keyed *items, struct keyed *scratch, size_t count,
		       bool reverse)
{
	for (size_t width = 1; width < count; width *= 2) {
		for (size_t begin = 0; begin < count; begin += 2 * width) {
			const size_t middle = OL_MIN(begin + width, count),
				     end = OL_MIN(begin + 2 * width, count);
			size_t left = begin, right = middle;
			for (size_t at = begin; at < end; at++) {
				int order = -1;
				if (left < middle && right < end &&
				    (!ol_tpl_spend(r, 1) ||
				     !ol_tpl_order(r, &order, &items[left].key, &items[right].key,
						   "sort")))
					return false;
				const bool take_left =
					right == end ||
					(left < middle &&
					 (reverse ? order >= 0 || right == end : order <= 0));
				scratch[at] = take_left ? items[left++] : items[right++];
			}
		}
		memcpy(items, scratch, count * sizeof *items);
	}
	return true;
}

static bool sorted(render *r, value *out, const value *self, const struct ol_tpl_list *items,
		   const value *path, bool case_sensitive, bool reverse)
{
	struct keyed *keyed, *scratch;
	const size_t count = items->count;
	if (!ol_tpl_get(r, &keyed, count + 1, sizeof *keyed) ||
	    !ol_tpl_get(r, &scratch, count + 1, sizeof *scratch))
		return false;
	for (size_t i = 0; i < count; i++) {
		keyed[i].item = items->items[i];
		if (!make_sort_key(r, &keyed[i].key, &keyed[i].item, path, case_sensitive))
			return false;
	}
	if (!sort_keyed(r, keyed, scratch, count, reverse) ||
	    !ol_tpl_list_make(r, out, FORM_LIST, count))
		return false;
	out->input = self->input;
	for (size_t i = 0; i < count; i++)
		out->list->items[out->list->count++] = keyed[i].item;
	return true;
}

static bool filter_sort(render *r, value *out, const value *self, const args *a)
{
	struct ol_tpl_list items;
	return ol_tpl_walk(r, &items, self) &&
	       sorted(r, out, self, &items, a->at[2], truth_of(a->at[1]), truth_of(a->at[0]));
}

static bool filter_dictsort(render *r, value *out, const value *self, const args *a)
{
	text by = ol_tpl_text_of("key");
	value pairs;
	if (self->kind != KIND_DICT)
		return ol_tpl_fail(r, "dictsort needs a dict, not a %s", ol_tpl_kind_name(self));
	if (a->at[1] && !ol_tpl_as_text(r, &by, a->at[1], "the order of dictsort"))
		return false;
	const bool by_value = ol_tpl_text_equal(by, ol_tpl_text_of("value"));
	if (!by_value && !ol_tpl_text_equal(by, ol_tpl_text_of("key")))
		return ol_tpl_fail(r, "dictsort sorts by 'key' or 'value'");
	const value place = ol_tpl_int(by_value, false);
	return ol_tpl_dict_items(r, &pairs, self, FORM_LIST) &&
	       sorted(r, out, self, pairs.list, &place, truth_of(a->at[0]), truth_of(a->at[2]));
}

static bool filter_unique(render *r, value *out, const value *self, const args *a)
{
	struct ol_tpl_list items, keys = {0};
	if (!ol_tpl_walk(r, &items, self) || !ol_tpl_list_make(r, out, FORM_LAZY, 0))
		return false;
	out->input = self->input;
	for (size_t i = 0; i < items.count; i++) {
		value key;
		bool seen = false;
		if (!make_key(r, &key, &items.items[i], a->at[1], truth_of(a->at[0])))
			return false;
		for (size_t k = 0; k < keys.count && !seen; k++)
			if (!ol_tpl_spend(r, 1) || !ol_tpl_equal(r, &seen, &keys.items[k], &key))
				return false;
		if (!seen && (!ol_tpl_list_push(r, &keys, key) ||
			      !ol_tpl_list_push(r, out->list, items.items[i])))
			return false;
	}
	return true;
}

static bool extreme(render *r, value *out, const value *self, const args *a, bool least)
{
	struct ol_tpl_list items;
	value best;
	if (!ol_tpl_walk(r, &items, self))
		return false;
	if (items.count == 0)
		return ol_tpl_undefined(r, out, "an empty sequence has neither min nor max");
	for (size_t i = 0; i < items.count; i++) {
		value key;
		int order = 0;
		if (!make_key(r, &key, &items.items[i], a->at[1], truth_of(a->at[0])) ||
		    (i && !ol_tpl_order(r, &order, &key, &best, least ? "min" : "max")))
			return false;
		if (i == 0 || (least ? order < 0 : order > 0)) {
			best = key;
			*out = items.items[i];
		}
	}
	return true;
}

static bool filter_min(render *r, value *out, const value *self, const args *a)
{
	return extreme(r, out, self, a, true);
}

static bool filter_max(render *r, value *out, const value *self, const args *a)
{
	return extreme(r, out, self, a, false);
}

/* ---- map, select and their kind -------------------------------------------------------------- */

static bool find_named(const args *a, const char *name, const value **out)
{
	*out = NULL;
	for (size_t i = 0; i < a->named_count; i++)
		if (ol_tpl_name_is(a->named[i].name, name))
			*out = &a->named[i].value;
	return *out != NULL;
}

/* The filter or test that the argument at `place` names. */
static bool find_builtin(render *r, const struct ol_tpl_builtin **out, const args *a, size_t place,
			 bool test)
{
	text name;
	if (!ol_tpl_as_text(r, &name, &a->plain[place],
			    test ? "the name of a test" : "the name of a filter"))
		return false;
	const struct ol_tpl_name wanted = {name.bytes, name.size};
	*out = test ? ol_tpl_test(wanted) : ol_tpl_filter(wanted);
	return *out || ol_tpl_fail(r, "there is no %s '%.*s'", test ? "test" : "filter",
				   (int)OL_MIN(name.size, (size_t)64), name.bytes);
}

static bool call_with_rest(render *r, value *out, const struct ol_tpl_builtin *builtin,
			   const char *what, const value *item, const args *a, size_t skipped)
{
	args rest = *a;
	rest.plain += skipped;
	rest.count -= skipped;
	return ol_tpl_call_builtin(r, out, builtin, what, item, &rest);
}

/* map and select take anything that is false, even None, for an empty list. */
static bool walk_if_true(render *r, struct ol_tpl_list *items, const value *self)
{
	*items = (struct ol_tpl_list){0};
	return !ol_tpl_truth(self) || ol_tpl_walk(r, items, self);
}

/* map("filter", …) or map(attribute="name", default=…) */
static bool filter_map(render *r, value *out, const value *self, const args *a)
{
	struct ol_tpl_list items;
	const value *attribute, *fallback;
	const struct ol_tpl_builtin *builtin = NULL;
	const bool by_attribute = a->count == 0 && find_named(a, "attribute", &attribute);
	find_named(a, "default", &fallback);
	if (!by_attribute && a->count == 0)
		return ol_tpl_fail(r, "map needs the name of a filter, or attribute=");
	if ((!by_attribute && !find_builtin(r, &builtin, a, 0, false)) ||
	    !walk_if_true(r, &items, self) || !ol_tpl_list_make(r, out, FORM_LAZY, items.count))
		return false;
	for (size_t i = 0; i < items.count; i++) {
		value v;
		if (by_attribute ? !get_path(r, &v, &items.items[i], attribute)
				 : !call_with_rest(r, &v, builtin, "filter", &items.items[i], a, 1))
			return false;
		if (by_attribute && v.kind == KIND_UNDEFINED && fallback)
			v = *fallback;
		if (!ol_tpl_list_push(r, out->list, v))
			return false;
	}
	return true;
}

static bool choose(render *r, value *out, const value *self, const args *a, bool by_attribute,
		   bool wanted)
{
	struct ol_tpl_list items;
	const struct ol_tpl_builtin *test = NULL;
	if (by_attribute && a->count == 0)
		return ol_tpl_fail(r, "selectattr and rejectattr need the name of an attribute");
	if ((a->count > by_attribute && !find_builtin(r, &test, a, by_attribute, true)) ||
	    !walk_if_true(r, &items, self) || !ol_tpl_list_make(r, out, FORM_LAZY, 0))
		return false;
	out->input = self->input;
	for (size_t i = 0; i < items.count; i++) {
		value v = items.items[i];
		if (by_attribute && !get_path(r, &v, &items.items[i], &a->plain[0]))
			return false;
		if (test && !call_with_rest(r, &v, test, "test", &v, a, 1 + (size_t)by_attribute))
			return false;
		if (ol_tpl_truth(&v) == wanted && !ol_tpl_list_push(r, out->list, items.items[i]))
			return false;
	}
	return ol_tpl_spend(r, items.count);
}

static bool filter_select(render *r, value *out, const value *self, const args *a)
{
	return choose(r, out, self, a, false, true);
}

static bool filter_reject(render *r, value *out, const value *self, const args *a)
{
	return choose(r, out, self, a, false, false);
}

static bool filter_selectattr(render *r, value *out, const value *self, const args *a)
{
	return choose(r, out, self, a, true, true);
}

static bool filter_rejectattr(render *r, value *out, const value *self, const args *a)
{
	return choose(r, out, self, a, true, false);
}

static const struct ol_tpl_builtin filters[] = {
	{"dictsort", filter_dictsort, 0, "case_sensitive by reverse"},
	{"first", filter_first, 0, ""},
	{"join", filter_join, 0, "d attribute"},
	{"last", filter_last, 0, ""},
	{"list", filter_list, 0, ""},
	{"map", filter_map, 0, NULL},
	{"max", filter_max, 0, "case_sensitive attribute"},
	{"min", filter_min, 0, "case_sensitive attribute"},
	{"reject", filter_reject, 0, NULL},
	{"rejectattr", filter_rejectattr, 0, NULL},
	{"reverse", filter_reverse, 0, ""},
	{"select", filter_select, 0, NULL},
	{"selectattr", filter_selectattr, 0, NULL},
	{"sort", filter_sort, 0, "reverse case_sensitive attribute"},
	{"sum", filter_sum, 0, "attribute start"},
	{"unique", filter_unique, 0, "case_sensitive attribute"},
};

const struct ol_tpl_builtin *ol_tpl_sequence_filter(struct ol_tpl_name name)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(filters); i++)
		if (ol_tpl_name_is(name, filters[i].name))
			return &filters[i];
	return NULL;
}
