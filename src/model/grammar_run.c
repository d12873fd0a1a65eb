/* Bytes through a grammar: each frame's rule, written once. A frame moves only to where its value
 * can still be completed within OL_GRAMMAR_DEPTH_MAX, so no stack is ever stuck. */
#include "model/grammar_internal.h"

#include <string.h>

/* --- strings of JSON ------------------------------------------------------- */

/* What of a character has come. */
enum lex {
	PLAIN = OL_LEX_PLAIN,
	BACKSLASH,
	TAIL1 = OL_LEX_TEXT_FIRST, /* so many bytes of UTF-8 are missing */
	TAIL2,
	TAIL3,
	AFTER_E0, /* and these lead bytes restrict the next one */
	AFTER_ED,
	AFTER_F0,
	AFTER_F4 = OL_LEX_TEXT_LAST,
	HEX4, /* so many hexadecimal digits are missing */
	HEX3,
	HEX2,
	HEX1,
	ZERO3, /* the same, all before being 0: NUL is no character of ours */
	ZERO2,
	ZERO1,
	HEX_D, /* \ud: a surrogate, or not */
	HIGH2, /* the rest of a high surrogate, then its other half */
	HIGH1,
	LOW_BACKSLASH,
	LOW_U,
	LOW_D,
	LOW_C,
	CONTROL4, /* \u00 and the shortest spelling of a control character */
	CONTROL3,
	CONTROL2,
	CONTROL1
};

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	const uint8_t lower = c | 0x20;
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static uint8_t in_range(uint8_t byte, uint8_t low, uint8_t high, enum lex then)
{
	return byte >= low && byte <= high ? (uint8_t)then : OL_LEX_DEAD;
}

static uint8_t lex_plain(uint8_t byte)
{
	if (byte < 0x80)
		return byte == '\\' ? BACKSLASH : byte < 0x20 || byte == '"' ? OL_LEX_DEAD : PLAIN;
	if (byte < 0xc2 || byte > 0xf4)
		return OL_LEX_DEAD;
	if (byte < 0xe0)
		return TAIL1;
	if (byte < 0xf0)
		return byte == 0xe0 ? AFTER_E0 : byte == 0xed ? AFTER_ED : TAIL2;
	return byte == 0xf0 ? AFTER_F0 : byte == 0xf4 ? AFTER_F4 : TAIL3;
}

static uint8_t lex_hex(uint8_t state, uint8_t byte)
{
	const int v = hex_value(byte);
	if (v < 0)
		return OL_LEX_DEAD;
	switch (state) {
	case HEX4: return v == 0 ? ZERO3 : v == 13 ? HEX_D : HEX3;
	case HEX3: return HEX2;
	case HEX2: return HEX1;
	case ZERO3: return v == 0 ? ZERO2 : HEX2;
	case ZERO2: return v == 0 ? ZERO1 : HEX1;
	case ZERO1: return v == 0 ? OL_LEX_DEAD : PLAIN;
	case HEX_D: return v < 8 ? HEX2 : v < 12 ? HIGH2 : OL_LEX_DEAD;
	case HIGH2: return HIGH1;
	case HIGH1: return LOW_BACKSLASH;
	case LOW_D: return v == 13 ? LOW_C : OL_LEX_DEAD;
	case LOW_C: return v >= 12 ? HEX2 : OL_LEX_DEAD;
	default: return PLAIN; /* HEX1 */
	}
}

static uint8_t lex_control(uint8_t state, uint8_t byte)
{
	switch (state) {
	case CONTROL4: return byte == '0' ? CONTROL3 : OL_LEX_DEAD;
	case CONTROL3: return byte == '0' ? CONTROL2 : OL_LEX_DEAD;
	case CONTROL2: return byte == '0' ? CONTROL1 : byte == '1' ? HEX1 : OL_LEX_DEAD;
	default: /* \b, \t, \n, \f and \r have a shorter spelling */
		return byte != '\0' && strchr("1234567bef", byte) ? PLAIN : OL_LEX_DEAD;
	}
}

uint8_t ol_grammar_lex(uint8_t state, uint8_t byte, bool canonical)
{
	switch ((enum lex)state) {
	case PLAIN: return lex_plain(byte);
	case BACKSLASH:
		if (byte == 'u')
			return canonical ? CONTROL4 : HEX4;
		return byte != '\0' && strchr(canonical ? "\"\\bfnrt" : "\"\\/bfnrt", byte)
			       ? PLAIN
			       : OL_LEX_DEAD;
	case TAIL1: return in_range(byte, 0x80, 0xbf, PLAIN);
	case TAIL2: return in_range(byte, 0x80, 0xbf, TAIL1);
	case TAIL3: return in_range(byte, 0x80, 0xbf, TAIL2);
	case AFTER_E0: return in_range(byte, 0xa0, 0xbf, TAIL1);
	case AFTER_ED: return in_range(byte, 0x80, 0x9f, TAIL1);
	case AFTER_F0: return in_range(byte, 0x90, 0xbf, TAIL2);
	case AFTER_F4: return in_range(byte, 0x80, 0x8f, TAIL2);
	case LOW_BACKSLASH: return in_range(byte, '\\', '\\', LOW_U);
	case LOW_U: return in_range(byte, 'u', 'u', LOW_D);
	case HEX1:
		/* The shortest spelling has small letters. */
		if (canonical && byte >= 'A' && byte <= 'F')
			return OL_LEX_DEAD;
		return lex_hex(state, byte);
	case HEX4:
	case HEX3:
	case HEX2:
	case ZERO3:
	case ZERO2:
	case ZERO1:
	case HEX_D:
	case HIGH2:
	case HIGH1:
	case LOW_D:
	case LOW_C: return lex_hex(state, byte);
	case CONTROL4:
	case CONTROL3:
	case CONTROL2:
	case CONTROL1: return lex_control(state, byte);
	}
	OL_UNREACHABLE();
}

/* --- stacks ---------------------------------------------------------------- */

static bool same_frame(const struct ol_grammar_frame *a, const struct ol_grammar_frame *b)
{
	return a->node == b->node && a->where == b->where && a->lex == b->lex &&
	       a->count == b->count && a->low == b->low && a->high == b->high && a->size == b->size;
}

static uint32_t push(struct ol_grammar_run *run, const struct ol_grammar_frame *frame,
		     uint32_t below)
{
	const uint32_t top = run->link_count++;
	OL_ASSERT(top < OL_GRAMMAR_LINKS_MAX);
	run->links[top] = (struct ol_grammar_link){*frame, below,
						   below == 0 ? 1 : run->links[below].depth + 1};
	return top;
}

/* One more stack that this byte led to, unless it is there already. */
static void emit(struct ol_grammar_run *run, const struct ol_grammar_frame *frame, uint32_t below)
{
	struct ol_grammar_stacks *out = run->out;
	for (int i = 0; i < out->count; i++) {
		const struct ol_grammar_link *other = &run->links[out->tops[i]];
		if (out->tops[i] != 0 && other->below == below && same_frame(&other->frame, frame))
			return;
	}
	if (out->count < OL_GRAMMAR_STACKS_MAX)
		out->tops[out->count++] = push(run, frame, below);
}

static void emit_whole(struct ol_grammar_run *run)
{
	struct ol_grammar_stacks *out = run->out;
	for (int i = 0; i < out->count; i++)
		if (out->tops[i] == 0)
			return;
	if (out->count < OL_GRAMMAR_STACKS_MAX)
		out->tops[out->count++] = 0;
}

/* The value above `below` is whole. */
static void pop(struct ol_grammar_run *run, uint32_t below)
{
	if (below == 0) {
		emit_whole(run);
	} else if (run->local && below == 1) {
		run->popped = true;
	} else {
		struct ol_grammar_frame frame = run->links[below].frame;
		frame.where = OL_WHERE_AFTER;
		emit(run, &frame, run->links[below].below);
	}
}

void ol_grammar_child_done(struct ol_grammar_run *run, struct ol_grammar_stacks *out,
			   uint32_t parent)
{
	out->count = 0;
	run->out = out;
	pop(run, parent);
}

static bool fits(const struct ol_grammar_run *run, uint16_t node, uint32_t below)
{
	const uint32_t depth = below == 0 ? 0 : run->links[below].depth;
	return depth + run->g->nodes[node].height <= OL_GRAMMAR_DEPTH_MAX;
}

/* A dfa came to a state: the value may be whole, and it may go on. */
static void reach(struct ol_grammar_run *run, uint16_t node, uint32_t state, uint32_t below)
{
	const struct ol_dfa *dfa = &run->g->dfas[run->g->nodes[node].begin];
	if (dfa->flags[state] & OL_DFA_ACCEPTS)
		pop(run, below);
	if (dfa->flags[state] & OL_DFA_GOES_ON) {
		const struct ol_grammar_frame frame = {.node = node, .count = state};
		emit(run, &frame, below);
	}
}

static void start(struct ol_grammar_run *run, uint16_t node, uint32_t below, uint8_t byte)
{
	const struct ol_grammar_node *n = &run->g->nodes[node];
	const struct ol_grammar_frame frame = {.node = node, .where = OL_WHERE_OPENED};
	if (!ol_grammar_begins(n, byte) || !fits(run, node, below))
		return;
	if (n->kind == OL_GRAMMAR_BYTES)
		reach(run, node, ol_dfa_step(&run->g->dfas[n->begin], 0, byte), below);
	else
		emit(run, &frame, below);
}

/* The first byte of a value. */
static void start_value(struct ol_grammar_run *run, uint16_t node, uint32_t below, uint8_t byte)
{
	const struct ol_grammar_node *n = &run->g->nodes[node];
	if (n->kind != OL_GRAMMAR_ALTERNATIVES) {
		start(run, node, below, byte);
		return;
	}
	for (uint32_t i = 0; i < n->count; i++)
		start(run, run->g->links[n->begin + i], below, byte);
}

static void string_byte(struct ol_grammar_run *run, struct ol_grammar_frame f, uint32_t below,
			uint8_t byte)
{
	const struct ol_grammar_node *n = &run->g->nodes[f.node];
	if (f.lex == OL_LEX_PLAIN && byte == '"') {
		if (f.count >= n->min)
			pop(run, below);
		return;
	}
	if (f.lex == OL_LEX_PLAIN && f.count == n->max)
		return;
	f.lex = ol_grammar_lex(f.lex, byte, false);
	if (f.lex == OL_LEX_DEAD)
		return;
	if (f.lex == OL_LEX_PLAIN && (n->max != UINT32_MAX || f.count < n->min))
		f.count++;
	emit(run, &f, below);
}

/* --- arrays ---------------------------------------------------------------- */

static uint16_t item_of(const struct ol_grammar_run *run, const struct ol_grammar_frame *f)
{
	const struct ol_grammar_node *n = &run->g->nodes[f->node];
	if (f->count >= n->max)
		return OL_GRAMMAR_NONE;
	return f->count < n->count ? run->g->links[n->begin + f->count] : n->rest;
}

static void start_item(struct ol_grammar_run *run, struct ol_grammar_frame f, uint32_t below,
		       uint8_t byte)
{
	const struct ol_grammar_node *n = &run->g->nodes[f.node];
	const uint16_t item = item_of(run, &f);
	if (item == OL_GRAMMAR_NONE)
		return;
	f.where = OL_WHERE_INSIDE;
	/* Beyond what anything depends on, all counts are the same. */
	if (n->max != UINT32_MAX || f.count < OL_MAX(n->min, n->count))
		f.count++;
	start_value(run, item, push(run, &f, below), byte);
}

static void array_byte(struct ol_grammar_run *run, struct ol_grammar_frame f,
		       const struct ol_grammar_link *link, uint8_t byte)
{
	const struct ol_grammar_node *n = &run->g->nodes[f.node];
	const uint32_t below = link->below;
	switch ((enum ol_grammar_where)f.where) {
	case OL_WHERE_OPENED:
	case OL_WHERE_AFTER:
		if (byte == ']') {
			if (f.count >= n->min)
				pop(run, below);
		} else if (f.where == OL_WHERE_OPENED) {
			start_item(run, f, below, byte);
		} else if (byte == ',') {
			const uint16_t item = item_of(run, &f);
			f.where = OL_WHERE_COMMA;
			if (item != OL_GRAMMAR_NONE &&
			    link->depth + run->g->nodes[item].height <= OL_GRAMMAR_DEPTH_MAX)
				emit(run, &f, below);
		}
		break;
	case OL_WHERE_COMMA:
		if (byte == ' ') {
			f.where = OL_WHERE_SPACE;
			emit(run, &f, below);
			break;
		}
		start_item(run, f, below, byte);
		break;
	case OL_WHERE_SPACE: start_item(run, f, below, byte); break;
	case OL_WHERE_INSIDE:
	case OL_WHERE_NAME:
	case OL_WHERE_NAMED:
	case OL_WHERE_COLON:
	case OL_WHERE_COLON_SPACE: OL_UNREACHABLE();
	}
}

/* --- objects --------------------------------------------------------------- */

/* The next properties it may be: [f->count, last], and others if nothing more is required. */
struct names {
	uint32_t last;
	bool may_close, others;
};

static struct names next_names(const struct ol_grammar_run *run, const struct ol_grammar_frame *f,
			       uint32_t depth)
{
	const struct ol_grammar_node *n = &run->g->nodes[f->node];
	struct names names = {.last = n->count, .may_close = true};
	if (f->count < n->count) {
		const uint32_t required = run->g->properties[n->begin + f->count].first_required;
		names.may_close = required == n->count;
		names.last = names.may_close ? n->count - 1 : required;
	}
	names.others = names.may_close && n->rest != OL_GRAMMAR_NONE &&
		       depth + run->g->nodes[n->rest].height <= OL_GRAMMAR_DEPTH_MAX;
	return names;
}

static bool may_be(const struct ol_grammar_run *run, const struct ol_grammar_frame *f,
		   const struct names *names, uint32_t property, uint32_t depth)
{
	const struct ol_grammar_node *n = &run->g->nodes[f->node];
	if (property < f->count || property > names->last || property >= n->count)
		return false;
	const uint16_t value = run->g->properties[n->begin + property].value;
	return depth + run->g->nodes[value].height <= OL_GRAMMAR_DEPTH_MAX;
}

static bool has_name(const struct ol_grammar_run *run, const struct ol_grammar_frame *f,
		     uint32_t depth)
{
	const struct names names = next_names(run, f, depth);
	bool found = names.others;
	for (uint32_t p = f->count; p <= names.last && !found; p++)
		found = may_be(run, f, &names, p, depth);
	return found;
}

/* The names among [low, high) that go on with this byte. */
static void narrow(const struct ol_grammar *g, struct ol_grammar_frame *f, uint8_t byte)
{
	const struct ol_grammar_node *n = &g->nodes[f->node];
	uint32_t low = f->low, high;
	for (; low < f->high; low++) {
		const struct ol_grammar_property *p =
			&g->properties[n->begin + g->links[n->sorted + low]];
		if (p->name_size > f->size && (uint8_t)g->names[p->name + f->size] == byte)
			break;
	}
	for (high = low; high < f->high; high++) {
		const struct ol_grammar_property *p =
			&g->properties[n->begin + g->links[n->sorted + high]];
		if ((uint8_t)g->names[p->name + f->size] != byte)
			break;
	}
	f->low = low < high ? low : 0;
	f->high = low < high ? (uint16_t)high : 0;
	f->size = low < high ? f->size + 1 : 0;
}

/* The quote that ends a name. */
static void end_name(struct ol_grammar_run *run, struct ol_grammar_frame f,
		     const struct ol_grammar_link *link)
{
	const struct ol_grammar *g = run->g;
	const struct ol_grammar_node *n = &g->nodes[f.node];
	const struct names names = next_names(run, &f, link->depth);
	uint32_t property = n->count;
	if (f.low < f.high) {
		/* A name sorts before those that it begins. */
		const uint32_t first = g->links[n->sorted + f.low];
		if (g->properties[n->begin + first].name_size == f.size)
			property = first;
	}
	if (property < n->count ? !may_be(run, &f, &names, property, link->depth) : !names.others)
		return;
	f.where = OL_WHERE_NAMED;
	f.count = OL_MIN(property + 1, n->count);
	f.size = property < n->count ? g->properties[n->begin + property].value : n->rest;
	f.low = f.high = 0;
	emit(run, &f, link->below);
}

static void name_byte(struct ol_grammar_run *run, struct ol_grammar_frame f,
		      const struct ol_grammar_link *link, uint8_t byte)
{
	const struct ol_grammar *g = run->g;
	if (f.lex == OL_LEX_PLAIN && byte == '"') {
		end_name(run, f, link);
		return;
	}
	const struct names names = next_names(run, &f, link->depth);
	f.lex = ol_grammar_lex(f.lex, byte, true);
	if (f.lex == OL_LEX_DEAD)
		return;
	if (f.low < f.high)
		narrow(g, &f, byte);
	bool found = names.others;
	for (uint32_t i = f.low; i < f.high && !found; i++)
		found = may_be(run, &f, &names, g->links[g->nodes[f.node].sorted + i], link->depth);
	if (found)
		emit(run, &f, link->below);
}

static void start_name(struct ol_grammar_run *run, struct ol_grammar_frame f, uint32_t below)
{
	f.where = OL_WHERE_NAME;
	f.lex = OL_LEX_PLAIN;
	f.low = 0;
	f.high = (uint16_t)run->g->nodes[f.node].count;
	f.size = 0;
	emit(run, &f, below);
}

static void start_property(struct ol_grammar_run *run, struct ol_grammar_frame f, uint32_t below,
			   uint8_t byte)
{
	const uint16_t value = f.size;
	f.where = OL_WHERE_INSIDE;
	f.size = 0;
	start_value(run, value, push(run, &f, below), byte);
}

static void object_byte(struct ol_grammar_run *run, struct ol_grammar_frame f,
			const struct ol_grammar_link *link, uint8_t byte)
{
	const uint32_t below = link->below;
	switch ((enum ol_grammar_where)f.where) {
	case OL_WHERE_OPENED:
	case OL_WHERE_AFTER:
		if (byte == '}') {
			if (next_names(run, &f, link->depth).may_close)
				pop(run, below);
		} else if (byte == (f.where == OL_WHERE_OPENED ? '"' : ',') &&
			   has_name(run, &f, link->depth)) {
			if (byte == '"') {
				start_name(run, f, below);
				break;
			}
			f.where = OL_WHERE_COMMA;
			emit(run, &f, below);
		}
		break;
	case OL_WHERE_COMMA:
	case OL_WHERE_SPACE:
		if (byte == '"') {
			start_name(run, f, below);
		} else if (byte == ' ' && f.where == OL_WHERE_COMMA) {
			f.where = OL_WHERE_SPACE;
			emit(run, &f, below);
		}
		break;
	case OL_WHERE_NAME: name_byte(run, f, link, byte); break;
	case OL_WHERE_NAMED:
		f.where = OL_WHERE_COLON;
		if (byte == ':')
			emit(run, &f, below);
		break;
	case OL_WHERE_COLON:
		if (byte == ' ') {
			f.where = OL_WHERE_COLON_SPACE;
			emit(run, &f, below);
			break;
		}
		start_property(run, f, below, byte);
		break;
	case OL_WHERE_COLON_SPACE: start_property(run, f, below, byte); break;
	case OL_WHERE_INSIDE: OL_UNREACHABLE();
	}
}

/* --- a byte ---------------------------------------------------------------- */

static void root_byte(struct ol_grammar_run *run, struct ol_grammar_frame f, uint8_t byte)
{
	if (f.where == OL_ROOT_STRIP && byte == ' ') {
		f.where = OL_ROOT_STRIPPED;
		emit(run, &f, 0);
		return;
	}
	start_value(run, f.node, 0, byte);
}

void ol_grammar_step(struct ol_grammar_run *run, struct ol_grammar_stacks *out,
		     const struct ol_grammar_stacks *in, uint8_t byte)
{
	out->count = 0;
	run->out = out;
	for (int i = 0; i < in->count; i++) {
		if (in->tops[i] == 0)
			continue;
		const struct ol_grammar_link link = run->links[in->tops[i]];
		const struct ol_grammar_frame f = link.frame;
		if (f.count == OL_GRAMMAR_AT_ROOT) {
			root_byte(run, f, byte);
			continue;
		}
		switch ((enum ol_grammar_kind)run->g->nodes[f.node].kind) {
		case OL_GRAMMAR_BYTES: {
			const struct ol_dfa *dfa = &run->g->dfas[run->g->nodes[f.node].begin];
			const uint32_t state = ol_dfa_step(dfa, f.count, byte);
			if (state != OL_DFA_DEAD)
				reach(run, f.node, state, link.below);
			break;
		}
		case OL_GRAMMAR_STRING: string_byte(run, f, link.below, byte); break;
		case OL_GRAMMAR_ARRAY: array_byte(run, f, &link, byte); break;
		case OL_GRAMMAR_OBJECT: object_byte(run, f, &link, byte); break;
		case OL_GRAMMAR_ALTERNATIVES: OL_UNREACHABLE();
		}
	}
}
