/* Methods of strings, dicts, lists and loops, and the functions every template has. */
#include "model/template_internal.h"

#include <string.h>

typedef struct ol_tpl_render render;
typedef struct ol_tpl_value value;
typedef struct ol_tpl_args args;
typedef struct ol_tpl_text text;

/* ---- strings: change ------------------------------------------------------------------------- */

static bool with_case(render *r, value *out, const value *self, enum ol_tpl_case to)
{
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_add_case(&b, self->text, to))
		return false;
	*out = ol_tpl_built(&b);
	return true;
}

static bool string_upper(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return with_case(r, out, self, CASE_UPPER);
}

static bool string_lower(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return with_case(r, out, self, CASE_LOWER);
}

static bool string_title(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return with_case(r, out, self, CASE_TITLE);
}

static bool string_capitalize(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return with_case(r, out, self, CASE_CAPITAL);
}

static bool strip(render *r, value *out, const value *self, const args *a, int sides)
{
	text chars = {0};
	const bool given = a->at[0] && a->at[0]->kind != KIND_NONE;
	if (given && !ol_tpl_as_text(r, &chars, a->at[0], "strip"))
		return false;
	*out = ol_tpl_string(ol_tpl_text_strip(self->text, given ? &chars : NULL, sides));
	return ol_tpl_spend(r, (self->text.size - out->text.size) * (1 + chars.size));
}

static bool string_strip(render *r, value *out, const value *self, const args *a)
{
	return strip(r, out, self, a, STRIP_LEFT | STRIP_RIGHT);
}

static bool string_lstrip(render *r, value *out, const value *self, const args *a)
{
	return strip(r, out, self, a, STRIP_LEFT);
}

static bool string_rstrip(render *r, value *out, const value *self, const args *a)
{
	return strip(r, out, self, a, STRIP_RIGHT);
}

bool ol_tpl_replace(render *r, value *out, text whole, text old, text new, int64_t limit)
{
	struct ol_tpl_builder b;
	size_t done = 0;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_spend(r, whole.size))
		return false;
	/* An empty old string stands between all characters and at both ends. */
	for (size_t at = 0; limit != 0; limit--) {
		const size_t hit = ol_tpl_text_find(whole, old, at);
		if (hit == SIZE_MAX)
			break;
		if (!ol_tpl_spend(r, 1) || !ol_tpl_add(&b, ol_tpl_text_part(whole, done, hit)) ||
		    !ol_tpl_add(&b, new))
			return false;
		done = at = hit + old.size;
		if (old.size == 0 && at < whole.size)
			ol_tpl_next(whole, &at);
		else if (old.size == 0)
			break;
	}
	if (!ol_tpl_add(&b, ol_tpl_text_part(whole, done, whole.size)))
		return false;
	*out = ol_tpl_built(&b);
	return true;
}

static bool string_replace(render *r, value *out, const value *self, const args *a)
{
	text old, new;
	int64_t count = -1;
	return ol_tpl_as_text(r, &old, a->at[0], "replace") &&
	       ol_tpl_as_text(r, &new, a->at[1], "replace") &&
	       (!a->at[2] || ol_tpl_as_int(r, &count, a->at[2], "the count of replace")) &&
	       ol_tpl_replace(r, out, self->text, old, new, count);
}

static bool remove_affix(render *r, value *out, const value *self, const args *a, bool prefix)
{
	text affix, whole = self->text;
	if (!ol_tpl_as_text(r, &affix, a->at[0], prefix ? "removeprefix" : "removesuffix"))
		return false;
	*out = *self;
	if (affix.size > whole.size)
		return true;
	const size_t at = prefix ? 0 : whole.size - affix.size;
	if (ol_tpl_text_equal(ol_tpl_text_part(whole, at, at + affix.size), affix))
		out->text =
			ol_tpl_text_part(whole, prefix ? affix.size : 0, prefix ? whole.size : at);
	return true;
}

static bool string_removeprefix(render *r, value *out, const value *self, const args *a)
{
	return remove_affix(r, out, self, a, true);
}

static bool string_removesuffix(render *r, value *out, const value *self, const args *a)
{
	return remove_affix(r, out, self, a, false);
}

/* ---- strings: split and join ----------------------------------------------------------------- */

static bool push_part(render *r, value *list, text whole, size_t begin, size_t end)
{
	return ol_tpl_spend(r, 1) &&
	       ol_tpl_list_push(r, list->list, ol_tpl_string(ol_tpl_text_part(whole, begin, end)));
}

static bool split_left(render *r, value *out, text whole, text separator, int64_t limit)
{
	size_t begin = 0;
	for (; limit != 0; limit--) {
		const size_t hit = ol_tpl_text_find(whole, separator, begin);
		if (hit == SIZE_MAX)
			break;
		if (!push_part(r, out, whole, begin, hit))
			return false;
		begin = hit + separator.size;
	}
	return push_part(r, out, whole, begin, whole.size);
}

static void reverse_items(struct ol_tpl_list *list)
{
	for (size_t i = 0; i < list->count / 2; i++) {
		const value v = list->items[i];
		list->items[i] = list->items[list->count - 1 - i];
		list->items[list->count - 1 - i] = v;
	}
}

static bool split_right(render *r, value *out, text whole, text separator, int64_t limit)
{
	size_t end = whole.size;
	for (; limit != 0; limit--) {
		const size_t hit = ol_tpl_text_find_last(whole, separator, end);
		if (hit == SIZE_MAX)
			break;
		if (!push_part(r, out, whole, hit + separator.size, end))
			return false;
		end = hit;
	}
	const bool ok = push_part(r, out, whole, 0, end);
	reverse_items(out->list);
	return ok;
}

/* The end of the word (or white space, as `space` says) that starts at `at`. */
static size_t run_end(text whole, size_t at, bool space)
{
	while (at < whole.size) {
		size_t next = at;
		if (ol_tpl_is_space(ol_tpl_next(whole, &next)) != space)
			break;
		at = next;
	}
	return at;
}

static bool split_words(render *r, value *out, text whole, int64_t limit)
{
	for (size_t at = run_end(whole, 0, true); at < whole.size; limit--) {
		const size_t end = limit == 0 ? whole.size : run_end(whole, at, false);
		if (!push_part(r, out, whole, at, end))
			return false;
		at = run_end(whole, end, true);
	}
	return true;
}

static size_t last_word(text whole)
{
	size_t begin = whole.size;
	while (begin > 0) {
		size_t at = begin - 1;
		while (at > 0 && ((unsigned char)whole.bytes[at] & 0xc0) == 0x80)
			at--;
		size_t next = at;
		if (ol_tpl_is_space(ol_tpl_next(whole, &next)))
			break;
		begin = at;
	}
	return begin;
}

/* Cuts off the last word until the limit; what is left then is the first item. */
static bool split_words_right(render *r, value *out, text whole, int64_t limit)
{
	for (whole = ol_tpl_text_strip(whole, NULL, STRIP_RIGHT); whole.size; limit--) {
		const size_t word = limit == 0 ? 0 : last_word(whole);
		if (!push_part(r, out, whole, word, whole.size))
			return false;
		whole = ol_tpl_text_strip(ol_tpl_text_part(whole, 0, word), NULL, STRIP_RIGHT);
	}
	reverse_items(out->list);
	return true;
}

static bool split(render *r, value *out, const value *self, const args *a, bool right)
{
	const bool words = !a->at[0] || a->at[0]->kind == KIND_NONE;
	text separator = {0};
	int64_t limit = -1;
	if ((!words && !ol_tpl_as_text(r, &separator, a->at[0], "split")) ||
	    (a->at[1] && !ol_tpl_as_int(r, &limit, a->at[1], "the limit of split")))
		return false;
	if (!words && separator.size == 0)
		return ol_tpl_fail(r, "split needs a separator that is not empty");
	if (!ol_tpl_spend(r, self->text.size) || !ol_tpl_list_make(r, out, FORM_LIST, 0))
		return false;
	if (words)
		return right ? split_words_right(r, out, self->text, limit)
			     : split_words(r, out, self->text, limit);
	return right ? split_right(r, out, self->text, separator, limit)
		     : split_left(r, out, self->text, separator, limit);
}

static bool string_split(render *r, value *out, const value *self, const args *a)
{
	return split(r, out, self, a, false);
}

static bool string_rsplit(render *r, value *out, const value *self, const args *a)
{
	return split(r, out, self, a, true);
}

static bool is_line_end(uint32_t c)
{
	return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
	       c == 0x2029;
}

bool ol_tpl_split_lines(render *r, value *out, text whole, bool keep_ends)
{
	if (!ol_tpl_spend(r, whole.size) || !ol_tpl_list_make(r, out, FORM_LIST, 0))
		return false;
	size_t begin = 0;
	for (size_t at = 0; at < whole.size;) {
		const size_t end = at;
		const uint32_t c = ol_tpl_next(whole, &at);
		if (!is_line_end(c))
			continue;
		if (c == '\r' && at < whole.size && whole.bytes[at] == '\n')
			at++;
		if (!push_part(r, out, whole, begin, keep_ends ? at : end))
			return false;
		begin = at;
	}
	return begin == whole.size || push_part(r, out, whole, begin, whole.size);
}

static bool string_splitlines(render *r, value *out, const value *self, const args *a)
{
	return ol_tpl_split_lines(r, out, self->text, a->at[0] && ol_tpl_truth(a->at[0]));
}

static bool partition(render *r, value *out, const value *self, const args *a, bool right)
{
	const text whole = self->text;
	text separator;
	if (!ol_tpl_as_text(r, &separator, a->at[0], "partition") || !ol_tpl_spend(r, whole.size) ||
	    !ol_tpl_list_make(r, out, FORM_TUPLE, 3))
		return false;
	if (separator.size == 0)
		return ol_tpl_fail(r, "partition needs a separator that is not empty");
	const size_t hit = right ? ol_tpl_text_find_last(whole, separator, whole.size)
				 : ol_tpl_text_find(whole, separator, 0);
	if (hit == SIZE_MAX) {
		const size_t first = right ? 0 : whole.size;
		return push_part(r, out, whole, 0, first) && push_part(r, out, whole, 0, 0) &&
		       push_part(r, out, whole, first, whole.size);
	}
	return push_part(r, out, whole, 0, hit) &&
	       push_part(r, out, whole, hit, hit + separator.size) &&
	       push_part(r, out, whole, hit + separator.size, whole.size);
}

static bool string_partition(render *r, value *out, const value *self, const args *a)
{
	return partition(r, out, self, a, false);
}

static bool string_rpartition(render *r, value *out, const value *self, const args *a)
{
	return partition(r, out, self, a, true);
}

static bool string_join(render *r, value *out, const value *self, const args *a)
{
	struct ol_tpl_list items;
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_walk(r, &items, a->at[0]))
		return false;
	for (size_t i = 0; i < items.count; i++) {
		text item;
		if (!ol_tpl_as_text(r, &item, &items.items[i], "join") ||
		    (i && !ol_tpl_add(&b, self->text)) || !ol_tpl_add(&b, item))
			return false;
	}
	*out = ol_tpl_built(&b);
	return true;
}

/* ---- strings: questions ---------------------------------------------------------------------- */

static bool has_affix(render *r, value *out, const value *self, const args *a, bool prefix)
{
	const text whole = self->text;
	const bool many = a->at[0]->kind == KIND_LIST && a->at[0]->list->form == FORM_TUPLE;
	const value *items = many ? a->at[0]->list->items : a->at[0];
	const size_t count = many ? a->at[0]->list->count : 1;
	bool has = false;
	for (size_t i = 0; i < count && !has; i++) {
		text affix;
		if (!ol_tpl_as_text(r, &affix, &items[i], prefix ? "startswith" : "endswith") ||
		    !ol_tpl_spend(r, affix.size))
			return false;
		if (affix.size > whole.size)
			continue;
		const size_t at = prefix ? 0 : whole.size - affix.size;
		has = ol_tpl_text_equal(ol_tpl_text_part(whole, at, at + affix.size), affix);
	}
	*out = ol_tpl_bool(has);
	return true;
}

static bool string_startswith(render *r, value *out, const value *self, const args *a)
{
	return has_affix(r, out, self, a, true);
}

static bool string_endswith(render *r, value *out, const value *self, const args *a)
{
	return has_affix(r, out, self, a, false);
}

static bool find(render *r, value *out, const value *self, const args *a, bool last)
{
	const text whole = self->text;
	text part;
	if (!ol_tpl_as_text(r, &part, a->at[0], "find") || !ol_tpl_spend(r, whole.size))
		return false;
	const size_t hit = last ? ol_tpl_text_find_last(whole, part, whole.size)
				: ol_tpl_text_find(whole, part, 0);
	*out = ol_tpl_int(
		hit == SIZE_MAX ? -1 : (int64_t)ol_tpl_text_length(ol_tpl_text_part(whole, 0, hit)),
		false);
	return true;
}

static bool string_find(render *r, value *out, const value *self, const args *a)
{
	return find(r, out, self, a, false);
}

static bool string_rfind(render *r, value *out, const value *self, const args *a)
{
	return find(r, out, self, a, true);
}

static bool string_count(render *r, value *out, const value *self, const args *a)
{
	text part;
	int64_t count = 0;
	if (!ol_tpl_as_text(r, &part, a->at[0], "count") || !ol_tpl_spend(r, self->text.size))
		return false;
	if (part.size == 0)
		count = (int64_t)ol_tpl_text_length(self->text) + 1;
	for (size_t at = 0; part.size && (at = ol_tpl_text_find(self->text, part, at)) != SIZE_MAX;
	     at += part.size)
		count++;
	*out = ol_tpl_int(count, false);
	return true;
}

/* Every character passes, and there is one. */
static bool all_characters(render *r, value *out, const value *self, bool (*passes)(uint32_t))
{
	bool all = self->text.size > 0;
	for (size_t at = 0; all && at < self->text.size;)
		all = passes(ol_tpl_next(self->text, &at));
	*out = ol_tpl_bool(all);
	return ol_tpl_spend(r, self->text.size);
}

static bool is_digit(uint32_t c)
{
	return c >= '0' && c <= '9';
}

static bool string_isdigit(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return all_characters(r, out, self, is_digit);
}

static bool string_isspace(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return all_characters(r, out, self, ol_tpl_is_space);
}

/* islower(), isupper(): no character of the other case, and one of this. */
bool ol_tpl_is_case(text whole, bool upper)
{
	bool some = false;
	for (size_t at = 0; at < whole.size;) {
		const uint32_t c = ol_tpl_next(whole, &at);
		const bool is_upper = ol_tpl_to_lower(c) != c;
		const bool is_lower = ol_tpl_to_upper(c) != c || ol_tpl_upper_expansion(c);
		if (upper ? is_lower : is_upper)
			return false;
		some |= upper ? is_upper : is_lower;
	}
	return some;
}

static bool string_islower(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	*out = ol_tpl_bool(ol_tpl_is_case(self->text, false));
	return ol_tpl_spend(r, self->text.size);
}

static bool string_isupper(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	*out = ol_tpl_bool(ol_tpl_is_case(self->text, true));
	return ol_tpl_spend(r, self->text.size);
}

/* ---- dicts, lists, loops --------------------------------------------------------------------- */

bool ol_tpl_dict_items(render *r, value *out, const value *self, enum ol_tpl_form form)
{
	const struct ol_tpl_dict *dict = self->dict;
	if (!ol_tpl_list_make(r, out, form, dict->count))
		return false;
	out->input = self->input;
	for (size_t i = 0; i < dict->count; i++) {
		value pair;
		if (!ol_tpl_spend(r, 1) ||
		    !ol_tpl_pair_make(r, &pair, dict->pairs[i].key, dict->pairs[i].value) ||
		    !ol_tpl_list_push(r, out->list, pair))
			return false;
		out->list->items[i].input = self->input;
	}
	return true;
}

static bool dict_items(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return ol_tpl_dict_items(r, out, self, FORM_VIEW);
}

static bool dict_column(render *r, value *out, const value *self, bool keys)
{
	if (!ol_tpl_list_make(r, out, FORM_VIEW, self->dict->count))
		return false;
	out->input = self->input;
	for (size_t i = 0; i < self->dict->count; i++)
		out->list->items[out->list->count++] =
			keys ? self->dict->pairs[i].key : self->dict->pairs[i].value;
	return ol_tpl_spend(r, self->dict->count);
}

static bool dict_keys(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return dict_column(r, out, self, true);
}

static bool dict_values(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return dict_column(r, out, self, false);
}

static bool dict_get(render *r, value *out, const value *self, const args *a)
{
	const value *found;
	if (!ol_tpl_dict_find(r, &found, self->dict, a->at[0]))
		return false;
	*out = found ? *found : a->at[1] ? *a->at[1] : ol_tpl_none();
	return true;
}

static bool copy(render *r, value *out, const value *self, const args *a)
{
	(void)r;
	(void)a;
	*out = *self; /* nothing ever changes it */
	return true;
}

static bool list_search(render *r, int64_t *index, int64_t *count, const value *self,
			const value *item)
{
	*index = -1;
	*count = 0;
	for (size_t i = 0; i < self->list->count; i++) {
		bool equal;
		if (!ol_tpl_spend(r, 1) || !ol_tpl_equal(r, &equal, &self->list->items[i], item))
			return false;
		if (equal && ++*count == 1)
			*index = (int64_t)i;
	}
	return true;
}

static bool list_index(render *r, value *out, const value *self, const args *a)
{
	int64_t index, count;
	if (!list_search(r, &index, &count, self, a->at[0]))
		return false;
	*out = ol_tpl_int(index, false);
	return count > 0 || ol_tpl_fail(r, "index: the list has no such item");
}

static bool list_count(render *r, value *out, const value *self, const args *a)
{
	int64_t index, count;
	if (!list_search(r, &index, &count, self, a->at[0]))
		return false;
	*out = ol_tpl_int(count, false);
	return true;
}

static bool loop_cycle(render *r, value *out, const value *self, const args *a)
{
	if (a->count == 0 || a->named_count)
		return ol_tpl_fail(r, "loop.cycle() needs values");
	*out = a->plain[self->loop->index0 % a->count];
	return true;
}

static bool loop_changed(render *r, value *out, const value *self, const args *a)
{
	value now;
	bool same = false;
	if (!ol_tpl_list_make(r, &now, FORM_TUPLE, a->count))
		return false;
	for (size_t i = 0; i < a->count; i++)
		now.list->items[now.list->count++] = a->plain[i];
	if (self->loop->changed) {
		const value before = {.kind = KIND_LIST, .list = self->loop->changed};
		if (!ol_tpl_equal(r, &same, &before, &now))
			return false;
	}
	self->loop->changed = now.list;
	*out = ol_tpl_bool(!same);
	return true;
}

/* ---- functions ------------------------------------------------------------------------------- */

static bool function_range(render *r, value *out, const value *self, const args *a)
{
	(void)self;
	int64_t start = 0, stop, step = 1;
	if (!ol_tpl_as_int(r, &stop, a->at[0], "range"))
		return false;
	if (a->at[1]) {
		start = stop;
		if (!ol_tpl_as_int(r, &stop, a->at[1], "range"))
			return false;
	}
	if (a->at[2] && !ol_tpl_as_int(r, &step, a->at[2], "range"))
		return false;
	if (step == 0)
		return ol_tpl_fail(r, "the step of range() cannot be 0");
	const bool empty = step > 0 ? start >= stop : start <= stop;
	const uint64_t distance =
		step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
	const uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
	const uint64_t count = empty ? 0 : (distance - 1) / stride + 1;
	if (count > OL_TEMPLATE_RANGE_MAX)
		return ol_tpl_fail_limit(r, "range() is limited to %d items",
					 OL_TEMPLATE_RANGE_MAX);
	if (!ol_tpl_spend(r, (size_t)count) || !ol_tpl_list_make(r, out, FORM_RANGE, (size_t)count))
		return false;
	for (uint64_t i = 0; i < count; i++)
		out->list->items[out->list->count++] =
			ol_tpl_int((int64_t)((uint64_t)start + i * (uint64_t)step), false);
	return true;
}

/* dict(a=1, b=2), dict(other, c=3), and the same for namespace. */
static bool function_dict(render *r, value *out, const value *self, const args *a)
{
	(void)self;
	if (a->count > 1)
		return ol_tpl_fail(r, "dict() takes at most one argument without a name");
	if (!ol_tpl_dict_make(r, out, 0))
		return false;
	if (a->count && a->plain[0].kind == KIND_DICT) {
		const struct ol_tpl_dict *from = a->plain[0].dict;
		out->input = a->plain[0].input;
		for (size_t i = 0; i < from->count; i++)
			if (!ol_tpl_dict_put(r, out->dict, from->pairs[i].key,
					     from->pairs[i].value))
				return false;
	} else if (a->count) { /* a list of pairs */
		struct ol_tpl_list pairs, pair;
		if (!ol_tpl_walk(r, &pairs, &a->plain[0]))
			return false;
		for (size_t i = 0; i < pairs.count; i++) {
			if (!ol_tpl_walk(r, &pair, &pairs.items[i]))
				return false;
			if (pair.count != 2)
				return ol_tpl_fail(r, "dict() needs pairs of a key and a value");
			if (!ol_tpl_dict_put(r, out->dict, pair.items[0], pair.items[1]))
				return false;
		}
	}
	for (size_t i = 0; i < a->named_count; i++) {
		const text key = {.bytes = a->named[i].name.bytes, .size = a->named[i].name.size};
		if (!ol_tpl_dict_put(r, out->dict, ol_tpl_string(key), a->named[i].value))
			return false;
	}
	return true;
}

static bool function_namespace(render *r, value *out, const value *self, const args *a)
{
	if (!function_dict(r, out, self, a))
		return false;
	out->kind = KIND_NAMESPACE;
	return true;
}

static bool function_raise_exception(render *r, value *out, const value *self, const args *a)
{
	(void)out;
	(void)self;
	text message;
	if (!ol_tpl_str(r, &message, a->at[0]))
		return false;
	return ol_tpl_fail(r, "the template refuses this conversation: %.*s",
			   (int)OL_MIN(message.size, (size_t)512), message.bytes);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static const struct ol_tpl_builtin string_methods[] = {
	{"capitalize", string_capitalize, 0, ""},
	{"count", string_count, 1, "sub"},
	{"endswith", string_endswith, 1, "suffix"},
	{"find", string_find, 1, "sub"},
	{"format", ol_tpl_format, 0, NULL},
	{"isdigit", string_isdigit, 0, ""},
	{"islower", string_islower, 0, ""},
	{"isspace", string_isspace, 0, ""},
	{"isupper", string_isupper, 0, ""},
	{"join", string_join, 1, "iterable"},
	{"lower", string_lower, 0, ""},
	{"lstrip", string_lstrip, 0, "chars"},
	{"partition", string_partition, 1, "sep"},
	{"removeprefix", string_removeprefix, 1, "prefix"},
	{"removesuffix", string_removesuffix, 1, "suffix"},
	{"replace", string_replace, 2, "old new count"},
	{"rfind", string_rfind, 1, "sub"},
	{"rpartition", string_rpartition, 1, "sep"},
	{"rsplit", string_rsplit, 0, "sep maxsplit"},
	{"rstrip", string_rstrip, 0, "chars"},
	{"split", string_split, 0, "sep maxsplit"},
	{"splitlines", string_splitlines, 0, "keepends"},
	{"startswith", string_startswith, 1, "prefix"},
	{"strip", string_strip, 0, "chars"},
	{"title", string_title, 0, ""},
	{"upper", string_upper, 0, ""},
};
static const struct ol_tpl_builtin dict_methods[] = {
	{"copy", copy, 0, ""},          {"get", dict_get, 1, "key default"},
	{"items", dict_items, 0, ""},   {"keys", dict_keys, 0, ""},
	{"values", dict_values, 0, ""},
};
static const struct ol_tpl_builtin list_methods[] = {
	{"copy", copy, 0, ""},
	{"count", list_count, 1, "value"},
	{"index", list_index, 1, "value"},
};
static const struct ol_tpl_builtin loop_methods[] = {
	{"changed", loop_changed, 0, NULL},
	{"cycle", loop_cycle, 0, NULL},
};
static const struct ol_tpl_builtin functions[] = {
	{"dict", function_dict, 0, NULL},
	{"namespace", function_namespace, 0, NULL},
	{"raise_exception", function_raise_exception, 1, "message"},
	{"range", function_range, 1, "start stop step"},
	{"strftime_now", ol_tpl_strftime_now, 1, "format"},
};

static const struct ol_tpl_builtin *look_up(const struct ol_tpl_builtin *table, size_t count,
					    struct ol_tpl_name name)
{
	for (size_t i = 0; i < count; i++)
		if (ol_tpl_name_is(name, table[i].name))
			return &table[i];
	return NULL;
}

const struct ol_tpl_builtin *ol_tpl_function(struct ol_tpl_name name)
{
	return look_up(functions, OL_ARRAY_LEN(functions), name);
}

static bool is_one_of(struct ol_tpl_name name, const char *const *words)
{
	for (; *words; words++)
		if (ol_tpl_name_is(name, *words))
			return true;
	return false;
}

const struct ol_tpl_builtin *ol_tpl_method(const value *object, struct ol_tpl_name name,
					   bool *unsafe)
{
	/* What transformers' ImmutableSandboxedEnvironment forbids. */
	static const char *const dict_changes[] = {"clear",      "pop",    "popitem",
						   "setdefault", "update", NULL};
	static const char *const list_changes[] = {"append", "clear",   "extend", "insert", "pop",
						   "remove", "reverse", "sort",   NULL};
	*unsafe = false;
	if (object->kind == KIND_STRING)
		return look_up(string_methods, OL_ARRAY_LEN(string_methods), name);
	if (object->kind == KIND_LOOP)
		return look_up(loop_methods, OL_ARRAY_LEN(loop_methods), name);
	if (object->kind == KIND_DICT) {
		*unsafe = is_one_of(name, dict_changes);
		return look_up(dict_methods, OL_ARRAY_LEN(dict_methods), name);
	}
	if (object->kind == KIND_LIST && object->list->form <= FORM_RANGE) {
		*unsafe = object->list->form == FORM_LIST && is_one_of(name, list_changes);
		return look_up(list_methods, OL_ARRAY_LEN(list_methods), name);
	}
	return NULL;
}
