/* Tokens to a tree: the statements. */
#include "model/template_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct ol_tpl_node node;
typedef struct ol_tpl_parser parser;

enum { WORD_SHOWN_MAX = 64 }; /* bytes of a name that a message repeats */

node *ol_tpl_parse_fail(parser *p, const struct ol_tpl_token *at, const char *format, ...)
{
	char sentence[512];
	va_list args;
	va_start(args, format);
	vsnprintf(sentence, sizeof sentence, format, args);
	va_end(args);
	p->status = ol_tpl_fail_at(p->err, OL_ERR_INPUT, p->source, at->at, "%s", sentence);
	return NULL;
}

node *ol_tpl_parse_wanted(parser *p, const char *wanted)
{
	if (ol_tpl_at(p, TOKEN_NAME))
		return ol_tpl_parse_fail(p, p->token, "%s was expected here, not '%.*s'", wanted,
					 (int)OL_MIN(p->token->text.size, (size_t)WORD_SHOWN_MAX),
					 p->token->text.bytes);
	return ol_tpl_parse_fail(p, p->token, "%s was expected here, not %s", wanted,
				 ol_tpl_token_name(p->token->kind));
}

node *ol_tpl_node_make(parser *p, enum ol_tpl_node_kind kind, uint32_t at)
{
	node *n = ol_tpl_alloc(p->heap, sizeof *n);
	if (!n) {
		p->status = ol_tpl_fail_at(p->err, OL_ERR_FULL, p->source, at,
					   "the template has more parts than fit into memory");
		return NULL;
	}
	n->kind = kind;
	n->at = at;
	return n;
}

void ol_tpl_chain_append(struct ol_tpl_chain *chain, node *n)
{
	if (!chain->first)
		chain->end = &chain->first;
	*chain->end = n;
	chain->end = &n->next;
}

bool ol_tpl_parse_enter(parser *p)
{
	if (p->depth < OL_TEMPLATE_DEPTH_MAX) {
		p->depth++;
		return true;
	}
	p->status = ol_tpl_fail_at(p->err, OL_ERR_FULL, p->source, p->token->at,
				   "blocks and expressions are nested more than %d deep here",
				   OL_TEMPLATE_DEPTH_MAX);
	return false;
}

bool ol_tpl_at(const parser *p, enum ol_tpl_token_kind kind)
{
	return p->token->kind == kind;
}

bool ol_tpl_at_word(const parser *p, const char *word)
{
	return ol_tpl_at(p, TOKEN_NAME) && ol_tpl_name_is(p->token->text, word);
}

bool ol_tpl_skip(parser *p, enum ol_tpl_token_kind kind)
{
	if (!ol_tpl_at(p, kind))
		return false;
	p->token++;
	return true;
}

bool ol_tpl_skip_word(parser *p, const char *word)
{
	return ol_tpl_at_word(p, word) && ol_tpl_skip(p, TOKEN_NAME);
}

bool ol_tpl_expect(parser *p, enum ol_tpl_token_kind kind)
{
	return ol_tpl_skip(p, kind) || ol_tpl_parse_wanted(p, ol_tpl_token_name(kind));
}

bool ol_tpl_expect_name(parser *p, struct ol_tpl_name *name)
{
	*name = p->token->text;
	return ol_tpl_expect(p, TOKEN_NAME);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static node *statement(parser *p);

/* Statements up to a {% word of ends; the word is the next token. The end of the template ends them
 * when ends is NULL. false: failure. */
static bool statements(parser *p, node **body, const char *const *ends)
{
	const struct ol_tpl_token *opened = p->token;
	struct ol_tpl_chain chain = {0};
	while (!ol_tpl_at(p, TOKEN_END)) {
		node *n;
		if (ol_tpl_at(p, TOKEN_TEXT)) {
			n = ol_tpl_node_make(p, NODE_TEXT, p->token->at);
			if (n)
				n->text = p->token++->text;
		} else if (ol_tpl_skip(p, TOKEN_PRINT_BEGIN)) {
			n = ol_tpl_node_make(p, NODE_PRINT, p->token->at);
			if (n && (!(n->a = ol_tpl_parse_tuple(p, ol_tpl_parse_expression)) ||
				  !ol_tpl_expect(p, TOKEN_PRINT_END)))
				return false;
		} else {
			OL_ASSERT(ol_tpl_skip(p, TOKEN_BLOCK_BEGIN));
			for (size_t i = 0; ends && ends[i]; i++)
				if (ol_tpl_at_word(p, ends[i])) {
					*body = chain.first;
					return true;
				}
			n = statement(p);
		}
		if (!n)
			return false;
		ol_tpl_chain_append(&chain, n);
	}
	*body = chain.first;
	return !ends ||
	       ol_tpl_parse_fail(p, opened, "this block is not closed: there is no {%% %s %%}",
				 ends[0]);
}

/* What follows an opening tag: "%}", the body, and {% with one of ends, which is the next token. */
static bool block(parser *p, node **body, const char *const *ends)
{
	ol_tpl_skip(p, TOKEN_COLON); /* jinja2 allows a Python-like colon */
	if (!ol_tpl_expect(p, TOKEN_BLOCK_END) || !ol_tpl_parse_enter(p))
		return false;
	const bool ok = statements(p, body, ends);
	p->depth--;
	return ok;
}

static bool closed_block(parser *p, node **body, const char *end)
{
	const char *const ends[] = {end, NULL};
	return block(p, body, ends) && ol_tpl_skip_word(p, end);
}

/* ---- statements; the word that opens one was read -------------------------------------------- */

static bool is_target(const node *n)
{
	if (n->kind != NODE_TUPLE)
		return n->kind == NODE_NAME;
	for (const node *item = n->list; item; item = item->next)
		if (!is_target(item))
			return false;
	return true;
}

/* name, or a tuple of targets */
static node *target(parser *p)
{
	const struct ol_tpl_token *first = p->token;
	node *n = ol_tpl_parse_tuple(p, ol_tpl_parse_primary);
	if (n && !is_target(n))
		return ol_tpl_parse_fail(p, first, "only names can be assigned to here");
	return n;
}

static node *set_statement(parser *p, node *n)
{
	if (ol_tpl_at(p, TOKEN_NAME) && p->token[1].kind == TOKEN_DOT) {
		node *object = ol_tpl_parse_primary(p);
		n->a = object ? ol_tpl_node_make(p, NODE_ATTRIBUTE, p->token->at) : NULL;
		if (!n->a || !ol_tpl_expect(p, TOKEN_DOT) || !ol_tpl_expect_name(p, &n->a->name))
			return NULL;
		n->a->a = object;
	} else if (!(n->a = target(p))) {
		return NULL;
	}
	if (ol_tpl_skip(p, TOKEN_ASSIGN)) {
		n->b = ol_tpl_parse_tuple(p, ol_tpl_parse_expression);
		return n->b ? n : NULL;
	}
	n->c = ol_tpl_node_make(p, NODE_CAPTURED, n->at);
	while (n->c && ol_tpl_skip(p, TOKEN_PIPE))
		n->c = ol_tpl_parse_filter(p, n->c);
	return n->c && closed_block(p, &n->body, "endset") ? n : NULL;
}

static node *for_statement(parser *p, node *n)
{
	static const char *const ends[] = {"endfor", "else", NULL};
	n->a = target(p);
	if (!n->a || (!ol_tpl_skip_word(p, "in") && !ol_tpl_parse_wanted(p, "'in'")))
		return NULL;
	n->b = ol_tpl_parse_tuple(p, ol_tpl_parse_disjunction);
	if (!n->b || (ol_tpl_skip_word(p, "if") && !(n->c = ol_tpl_parse_expression(p))))
		return NULL;
	if (ol_tpl_at_word(p, "recursive"))
		return ol_tpl_parse_fail(p, p->token, "recursive loops are not supported");
	if (!block(p, &n->body, ends))
		return NULL;
	if (ol_tpl_skip_word(p, "else"))
		return closed_block(p, &n->otherwise, "endfor") ? n : NULL;
	return ol_tpl_skip_word(p, "endfor") ? n : NULL;
}

static node *if_statement(parser *p, node *n)
{
	static const char *const ends[] = {"endif", "elif", "else", NULL};
	struct ol_tpl_chain arms = {0};
	do {
		node *arm = ol_tpl_node_make(p, NODE_ARGUMENT, p->token->at);
		if (!arm || !(arm->a = ol_tpl_parse_tuple(p, ol_tpl_parse_disjunction)) ||
		    !block(p, &arm->body, ends))
			return NULL;
		ol_tpl_chain_append(&arms, arm);
	} while (ol_tpl_skip_word(p, "elif"));
	n->list = arms.first;
	if (ol_tpl_skip_word(p, "else"))
		return closed_block(p, &n->otherwise, "endif") ? n : NULL;
	return ol_tpl_skip_word(p, "endif") ? n : NULL;
}

/* (name, name=default) */
static bool signature(parser *p, node *macro)
{
	struct ol_tpl_chain parameters = {0};
	bool defaults = false;
	if (!ol_tpl_expect(p, TOKEN_L_PAREN))
		return false;
	while (!ol_tpl_at(p, TOKEN_R_PAREN)) {
		node *parameter = ol_tpl_node_make(p, NODE_ARGUMENT, p->token->at);
		if (!parameter || (parameters.first && !ol_tpl_expect(p, TOKEN_COMMA)) ||
		    !ol_tpl_expect_name(p, &parameter->name))
			return false;
		if (ol_tpl_skip(p, TOKEN_ASSIGN)) {
			defaults = true;
			if (!(parameter->a = ol_tpl_parse_expression(p)))
				return false;
		} else if (defaults) {
			return ol_tpl_parse_fail(
				p, p->token - 1,
				"a parameter without a default cannot follow one with");
		}
		ol_tpl_chain_append(&parameters, parameter);
	}
	macro->list = parameters.first;
	return ol_tpl_expect(p, TOKEN_R_PAREN);
}

/* The body of a macro, and which of varargs, kwargs and caller it asks for. */
static bool macro_body(parser *p, node *n, const char *end)
{
	const uint8_t outer = p->specials;
	p->specials = 0;
	const bool ok = closed_block(p, &n->body, end);
	n->op = p->specials;
	p->specials |= outer;
	return ok;
}

static node *macro_statement(parser *p, node *n)
{
	return ol_tpl_expect_name(p, &n->name) && signature(p, n) && macro_body(p, n, "endmacro")
		       ? n
		       : NULL;
}

static node *call_statement(parser *p, node *n)
{
	if (ol_tpl_at(p, TOKEN_L_PAREN) && !signature(p, n))
		return NULL;
	const struct ol_tpl_token *first = p->token;
	n->a = ol_tpl_parse_expression(p);
	if (n->a && n->a->kind != NODE_CALL)
		return ol_tpl_parse_fail(p, first,
					 "a call block calls a macro: {%% call name(…) %%}");
	return n->a && macro_body(p, n, "endcall") ? n : NULL;
}

static node *filter_statement(parser *p, node *n)
{
	n->a = ol_tpl_node_make(p, NODE_CAPTURED, n->at);
	do
		n->a = n->a ? ol_tpl_parse_filter(p, n->a) : NULL;
	while (n->a && ol_tpl_skip(p, TOKEN_PIPE));
	return n->a && closed_block(p, &n->body, "endfilter") ? n : NULL;
}

static node *with_statement(parser *p, node *n)
{
	struct ol_tpl_chain chain = {0};
	while (!ol_tpl_at(p, TOKEN_BLOCK_END)) {
		node *set = ol_tpl_node_make(p, NODE_SET, p->token->at);
		if (!set || (chain.first && !ol_tpl_expect(p, TOKEN_COMMA)) ||
		    !(set->a = ol_tpl_parse_primary(p)))
			return NULL;
		if (!is_target(set->a))
			return ol_tpl_parse_fail(p, p->token - 1,
						 "only names can be assigned to here");
		if (!ol_tpl_expect(p, TOKEN_ASSIGN) || !(set->b = ol_tpl_parse_expression(p)))
			return NULL;
		ol_tpl_chain_append(&chain, set);
	}
	n->list = chain.first;
	return closed_block(p, &n->body, "endwith") ? n : NULL;
}

/* {% generation %} marks what the assistant said, for training; when rendering it is a scope. */
static node *generation_statement(parser *p, node *n)
{
	return closed_block(p, &n->body, "endgeneration") ? n : NULL;
}

static node *no_operands(parser *p, node *n)
{
	(void)p;
	return n;
}

static node *statement(parser *p)
{
	static const struct {
		const char *word;
		enum ol_tpl_node_kind kind;
		node *(*parse)(parser *p, node *n);
	} words[] = {
		{"set", NODE_SET, set_statement},
		{"for", NODE_FOR, for_statement},
		{"if", NODE_IF, if_statement},
		{"macro", NODE_MACRO, macro_statement},
		{"call", NODE_CALL_BLOCK, call_statement},
		{"filter", NODE_FILTER_BLOCK, filter_statement},
		{"with", NODE_SCOPE, with_statement},
		{"generation", NODE_SCOPE, generation_statement},
		{"break", NODE_BREAK, no_operands},
		{"continue", NODE_CONTINUE, no_operands},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(words); i++) {
		const struct ol_tpl_token *word = p->token;
		if (!ol_tpl_skip_word(p, words[i].word))
			continue;
		node *n = ol_tpl_node_make(p, words[i].kind, word->at);
		if (n)
			n = words[i].parse(p, n);
		return n && ol_tpl_expect(p, TOKEN_BLOCK_END) ? n : NULL;
	}
	if (ol_tpl_at(p, TOKEN_NAME))
		return ol_tpl_parse_fail(p, p->token, "there is no statement '%.*s' here",
					 (int)OL_MIN(p->token->text.size, (size_t)WORD_SHOWN_MAX),
					 p->token->text.bytes);
	return ol_tpl_parse_wanted(p, "a statement");
}

enum ol_status ol_tpl_parse(node **body_out, struct ol_tpl_heap *heap,
			    const struct ol_tpl_source *source, const struct ol_tpl_tokens *tokens,
			    struct ol_error *err)
{
	parser p = {.heap = heap, .source = source, .token = tokens->items, .err = err};
	*body_out = NULL;
	if (statements(&p, body_out, NULL))
		return OL_OK;
	OL_ASSERT(p.status != OL_OK);
	return p.status;
}
