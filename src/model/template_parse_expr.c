/* Expressions to trees, by recursive descent, from the loosest binding to the tightest; the grammar
 * stands in chat_template.c.
 *
 * Two things bound the recursion of everything that walks the tree: blocks and brackets nest at
 * most OL_TEMPLATE_DEPTH_MAX deep, and an expression is at most OL_TEMPLATE_HEIGHT_MAX high. */
#include "model/template_parse.h"

#include <string.h>

typedef struct ol_tpl_node node;

static int height_of(const node *n)
{
	return n ? n->height : 0;
}

/* Sets the height of an expression whose operands are in place. */
static node *finish(struct ol_tpl_parser *p, node *n)
{
	int height = OL_MAX(height_of(n->a), OL_MAX(height_of(n->b), height_of(n->c)));
	height = OL_MAX(height, OL_MAX(height_of(n->spread), height_of(n->named_spread)));
	for (const node *item = n->list; item; item = item->next)
		height = OL_MAX(height, OL_MAX(item->height, height_of(item->a)));
	n->height = (uint16_t)(height + 1);
	if (n->height <= OL_TEMPLATE_HEIGHT_MAX)
		return n;
	p->status = ol_tpl_fail_at(p->err, OL_ERR_FULL, p->source, n->at,
				   "this expression is more than %d operations high",
				   OL_TEMPLATE_HEIGHT_MAX);
	return NULL;
}

static bool next_is_word(const struct ol_tpl_parser *p, const char *word)
{
	return !ol_tpl_at(p, TOKEN_END) && p->token[1].kind == TOKEN_NAME &&
	       ol_tpl_name_is(p->token[1].text, word);
}

static node *unary_node(struct ol_tpl_parser *p, enum ol_tpl_node_kind kind, uint32_t at, node *a)
{
	node *n = a ? ol_tpl_node_make(p, kind, at) : NULL;
	if (!n)
		return NULL;
	n->a = a;
	return finish(p, n);
}

static node *binary_node(struct ol_tpl_parser *p, enum ol_tpl_node_kind kind, uint8_t op,
			 uint32_t at, node *a, node *b)
{
	node *n = a && b ? ol_tpl_node_make(p, kind, at) : NULL;
	if (!n)
		return NULL;
	n->op = op;
	n->a = a;
	n->b = b;
	return finish(p, n);
}

/* (a, *b, name=c, **d) */
static bool arguments(struct ol_tpl_parser *p, node *call)
{
	struct ol_tpl_chain chain = {0};
	bool named = false;
	if (!ol_tpl_expect(p, TOKEN_L_PAREN))
		return false;
	while (!ol_tpl_at(p, TOKEN_R_PAREN)) {
		node *argument = ol_tpl_node_make(p, NODE_ARGUMENT, p->token->at), **spread = NULL;
		if (!argument)
			return false;
		if (ol_tpl_skip(p, TOKEN_MUL)) {
			spread = &call->spread;
		} else if (ol_tpl_skip(p, TOKEN_POWER)) {
			spread = &call->named_spread;
		} else if (ol_tpl_at(p, TOKEN_NAME) && p->token[1].kind == TOKEN_ASSIGN) {
			argument->name = p->token->text;
			p->token += 2;
			named = true;
		} else if (named || call->spread || call->named_spread) {
			return ol_tpl_parse_fail(p, p->token,
						 "arguments without a name come first in a call");
		}
		if (spread && *spread)
			return ol_tpl_parse_fail(
				p, p->token, "only one argument of a call can be spread this way");
		argument->a = ol_tpl_parse_expression(p);
		if (!argument->a)
			return false;
		if (spread)
			*spread = argument->a;
		else
			ol_tpl_chain_append(&chain, argument);
		if (!ol_tpl_at(p, TOKEN_R_PAREN) && !ol_tpl_expect(p, TOKEN_COMMA))
			return false;
	}
	call->list = chain.first;
	return ol_tpl_expect(p, TOKEN_R_PAREN);
}

static bool at_tuple_end(const struct ol_tpl_parser *p)
{
	return ol_tpl_at(p, TOKEN_PRINT_END) || ol_tpl_at(p, TOKEN_BLOCK_END) ||
	       ol_tpl_at(p, TOKEN_R_PAREN) || ol_tpl_at_word(p, "in");
}

/* a or a, b or a, — without brackets. one: what an item is. */
node *ol_tpl_parse_tuple(struct ol_tpl_parser *p, node *(*one)(struct ol_tpl_parser *))
{
	const struct ol_tpl_token *first = p->token;
	struct ol_tpl_chain chain = {0};
	node *n = one(p);
	if (!n || !ol_tpl_at(p, TOKEN_COMMA))
		return n;
	ol_tpl_chain_append(&chain, n);
	while (ol_tpl_skip(p, TOKEN_COMMA) && !at_tuple_end(p)) {
		n = one(p);
		if (!n)
			return NULL;
		ol_tpl_chain_append(&chain, n);
	}
	n = ol_tpl_node_make(p, NODE_TUPLE, first->at);
	if (!n)
		return NULL;
	n->list = chain.first;
	return finish(p, n);
}

/* [a, b] and {a: b, c: d}, both with a comma at the end if one likes. */
static node *bracketed(struct ol_tpl_parser *p, enum ol_tpl_node_kind kind,
		       enum ol_tpl_token_kind closer)
{
	node *n = ol_tpl_node_make(p, kind, p->token++->at);
	struct ol_tpl_chain chain = {0};
	while (n && !ol_tpl_at(p, closer)) {
		node *item = ol_tpl_parse_expression(p);
		if (!item)
			return NULL;
		ol_tpl_chain_append(&chain, item);
		if (kind == NODE_DICT) {
			if (!ol_tpl_expect(p, TOKEN_COLON) || !(item = ol_tpl_parse_expression(p)))
				return NULL;
			ol_tpl_chain_append(&chain, item);
		}
		if (!ol_tpl_at(p, closer) && !ol_tpl_expect(p, TOKEN_COMMA))
			return NULL;
	}
	if (!n || !ol_tpl_expect(p, closer))
		return NULL;
	n->list = chain.first;
	return finish(p, n);
}

/* "a" "b" is "ab". */
static node *string(struct ol_tpl_parser *p)
{
	node *n = ol_tpl_node_make(p, NODE_STRING, p->token->at);
	if (!n)
		return NULL;
	n->text = p->token++->text;
	size_t size = n->text.size;
	for (const struct ol_tpl_token *t = p->token; t->kind == TOKEN_STRING; t++)
		size += t->text.size;
	if (ol_tpl_at(p, TOKEN_STRING)) {
		char *joined = ol_tpl_alloc(p->heap, size + 1);
		if (!joined)
			return ol_tpl_parse_fail(p, p->token,
						 "the template's strings do not fit into memory");
		memcpy(joined, n->text.bytes, n->text.size);
		for (size_t used = n->text.size; ol_tpl_at(p, TOKEN_STRING); p->token++) {
			memcpy(joined + used, p->token->text.bytes, p->token->text.size);
			used += p->token->text.size;
		}
		n->text = (struct ol_tpl_name){joined, size};
	}
	return finish(p, n);
}

static node *name(struct ol_tpl_parser *p)
{
	static const struct {
		const char *word;
		enum ol_tpl_node_kind kind;
		int truth;
	} constants[] = {{"true", NODE_BOOL, 1},  {"True", NODE_BOOL, 1}, {"false", NODE_BOOL, 0},
			 {"False", NODE_BOOL, 0}, {"none", NODE_NONE, 0}, {"None", NODE_NONE, 0}};
	static const struct {
		const char *word;
		uint8_t bit;
	} specials[] = {{"varargs", SPECIAL_VARARGS},
			{"kwargs", SPECIAL_KWARGS},
			{"caller", SPECIAL_CALLER}};

	node *n = ol_tpl_node_make(p, NODE_NAME, p->token->at);
	if (!n)
		return NULL;
	n->name = p->token->text;
	for (size_t i = 0; i < OL_ARRAY_LEN(constants); i++)
		if (ol_tpl_at_word(p, constants[i].word)) {
			n->kind = constants[i].kind;
			n->integer = constants[i].truth;
		}
	for (size_t i = 0; i < OL_ARRAY_LEN(specials); i++)
		if (ol_tpl_at_word(p, specials[i].word))
			p->specials |= specials[i].bit;
	p->token++;
	return finish(p, n);
}

node *ol_tpl_parse_primary(struct ol_tpl_parser *p)
{
	node *n;
	switch (p->token->kind) {
	case TOKEN_NAME: return name(p);
	case TOKEN_STRING: return string(p);
	case TOKEN_INT:
	case TOKEN_FLOAT:
		n = ol_tpl_node_make(p, ol_tpl_at(p, TOKEN_INT) ? NODE_INT : NODE_FLOAT,
				     p->token->at);
		if (!n)
			return NULL;
		if (ol_tpl_at(p, TOKEN_INT))
			n->integer = p->token->integer;
		else
			n->number = p->token->number;
		p->token++;
		return finish(p, n);
	case TOKEN_L_PAREN:
		p->token++;
		if (ol_tpl_at(p, TOKEN_R_PAREN)) {
			n = ol_tpl_node_make(p, NODE_TUPLE, p->token->at);
			n = n ? finish(p, n) : NULL;
		} else {
			n = ol_tpl_parse_tuple(p, ol_tpl_parse_expression);
		}
		return n && ol_tpl_expect(p, TOKEN_R_PAREN) ? n : NULL;
	case TOKEN_L_BRACKET: return bracketed(p, NODE_LIST, TOKEN_R_BRACKET);
	case TOKEN_L_BRACE: return bracketed(p, NODE_DICT, TOKEN_R_BRACE);
	default: ol_tpl_parse_wanted(p, "an expression"); return NULL;
	}
}

/* The inside of a[…]: an expression, or a slice. */
static node *subscript(struct ol_tpl_parser *p)
{
	const uint32_t at = p->token->at;
	node *n = NULL, *parts[3] = {NULL, NULL, NULL};
	for (int i = 0; i < 3; i++) {
		if (!ol_tpl_at(p, TOKEN_COLON) && !ol_tpl_at(p, TOKEN_R_BRACKET) &&
		    !(parts[i] = ol_tpl_parse_expression(p)))
			return NULL;
		if (i == 0 && parts[0] && !ol_tpl_at(p, TOKEN_COLON))
			return parts[0];
		if (i < 2 && !ol_tpl_skip(p, TOKEN_COLON)) {
			if (i == 0)
				return ol_tpl_parse_fail(p, p->token, "an index was expected here");
			break;
		}
	}
	n = ol_tpl_node_make(p, NODE_SLICE, at);
	if (!n)
		return NULL;
	n->a = parts[0];
	n->b = parts[1];
	n->c = parts[2];
	return finish(p, n);
}

/* .name, .0, [index], (arguments) as often as they come. */
static node *postfix(struct ol_tpl_parser *p, node *n)
{
	while (n && (ol_tpl_at(p, TOKEN_DOT) || ol_tpl_at(p, TOKEN_L_BRACKET) ||
		     ol_tpl_at(p, TOKEN_L_PAREN))) {
		node *outer = ol_tpl_node_make(
			p, ol_tpl_at(p, TOKEN_L_PAREN) ? NODE_CALL : NODE_ITEM, p->token->at);
		if (!outer)
			return NULL;
		outer->a = n;
		if (ol_tpl_at(p, TOKEN_L_PAREN)) {
			if (!arguments(p, outer))
				return NULL;
		} else if (ol_tpl_skip(p, TOKEN_L_BRACKET)) {
			outer->b = subscript(p);
			if (!outer->b || !ol_tpl_expect(p, TOKEN_R_BRACKET))
				return NULL;
		} else if (p->token++, ol_tpl_at(p, TOKEN_INT)) {
			outer->b = ol_tpl_parse_primary(p);
			if (!outer->b)
				return NULL;
		} else {
			outer->kind = NODE_ATTRIBUTE;
			if (!ol_tpl_expect_name(p, &outer->name))
				return NULL;
		}
		n = finish(p, outer);
	}
	return n;
}

/* | name(arguments); the bar was read. */
node *ol_tpl_parse_filter(struct ol_tpl_parser *p, node *subject)
{
	node *n = subject ? ol_tpl_node_make(p, NODE_FILTER, p->token->at) : NULL;
	if (!n || !ol_tpl_expect_name(p, &n->name))
		return NULL;
	n->a = subject;
	if (!ol_tpl_filter(n->name)) {
		p->token--;
		return ol_tpl_parse_fail(p, p->token, "there is no filter '%.*s'",
					 (int)OL_MIN(n->name.size, (size_t)64), n->name.bytes);
	}
	return ol_tpl_at(p, TOKEN_L_PAREN) && !arguments(p, n) ? NULL : finish(p, n);
}

/* is [not] name [argument or (arguments)]; the "is" was read. */
static node *test(struct ol_tpl_parser *p, node *subject)
{
	node *n = ol_tpl_node_make(p, NODE_TEST, p->token->at);
	if (!n)
		return NULL;
	n->negated = ol_tpl_skip_word(p, "not");
	const struct ol_tpl_token *at_name = p->token;
	if (!ol_tpl_expect_name(p, &n->name))
		return NULL;
	n->a = subject;
	if (!ol_tpl_test(n->name))
		return ol_tpl_parse_fail(p, at_name, "there is no test '%.*s'",
					 (int)OL_MIN(n->name.size, (size_t)64), n->name.bytes);
	if (ol_tpl_at(p, TOKEN_L_PAREN))
		return arguments(p, n) ? finish(p, n) : NULL;
	const bool word = ol_tpl_at(p, TOKEN_NAME) && !ol_tpl_at_word(p, "else") &&
			  !ol_tpl_at_word(p, "or") && !ol_tpl_at_word(p, "and");
	if (word && ol_tpl_at_word(p, "is"))
		return ol_tpl_parse_fail(p, p->token,
					 "tests cannot be chained with is; use brackets");
	if (word || ol_tpl_at(p, TOKEN_STRING) || ol_tpl_at(p, TOKEN_INT) ||
	    ol_tpl_at(p, TOKEN_FLOAT) || ol_tpl_at(p, TOKEN_L_BRACKET) ||
	    ol_tpl_at(p, TOKEN_L_BRACE)) {
		/* As in jinja2, the if of "x is y if z" is taken for an argument. */
		node *argument = ol_tpl_node_make(p, NODE_ARGUMENT, p->token->at);
		if (!argument || !(argument->a = postfix(p, ol_tpl_parse_primary(p))))
			return NULL;
		n->list = argument;
	}
	return finish(p, n);
}

static node *unary(struct ol_tpl_parser *p, bool with_filters)
{
	node *n;
	if (ol_tpl_at(p, TOKEN_SUB) || ol_tpl_at(p, TOKEN_ADD)) {
		const uint32_t at = p->token->at;
		const bool negate = ol_tpl_at(p, TOKEN_SUB);
		p->token++;
		if (!ol_tpl_parse_enter(p))
			return NULL;
		n = unary_node(p, negate ? NODE_NEGATE : NODE_PLUS, at, unary(p, false));
		p->depth--;
	} else {
		n = ol_tpl_parse_primary(p);
	}
	n = postfix(p, n);
	while (n && with_filters) {
		if (ol_tpl_skip(p, TOKEN_PIPE))
			n = ol_tpl_parse_filter(p, n);
		else if (ol_tpl_skip_word(p, "is"))
			n = test(p, n);
		else if (ol_tpl_at(p, TOKEN_L_PAREN))
			n = postfix(p, n);
		else
			break;
	}
	return n;
}

static node *power(struct ol_tpl_parser *p)
{
	node *n = unary(p, true);
	while (n && ol_tpl_at(p, TOKEN_POWER)) {
		const uint32_t at = p->token++->at;
		n = binary_node(p, NODE_BINARY, TOKEN_POWER, at, n, unary(p, true));
	}
	return n;
}

static node *product(struct ol_tpl_parser *p)
{
	node *n = power(p);
	while (n && (ol_tpl_at(p, TOKEN_MUL) || ol_tpl_at(p, TOKEN_DIV) ||
		     ol_tpl_at(p, TOKEN_FLOOR_DIV) || ol_tpl_at(p, TOKEN_MOD))) {
		const struct ol_tpl_token *op = p->token++;
		n = binary_node(p, NODE_BINARY, (uint8_t)op->kind, op->at, n, power(p));
	}
	return n;
}

static node *concatenation(struct ol_tpl_parser *p)
{
	const uint32_t at = p->token->at;
	struct ol_tpl_chain chain = {0};
	node *n = product(p);
	if (!n || !ol_tpl_at(p, TOKEN_TILDE))
		return n;
	ol_tpl_chain_append(&chain, n);
	while (ol_tpl_skip(p, TOKEN_TILDE)) {
		n = product(p);
		if (!n)
			return NULL;
		ol_tpl_chain_append(&chain, n);
	}
	n = ol_tpl_node_make(p, NODE_CONCAT, at);
	if (!n)
		return NULL;
	n->list = chain.first;
	return finish(p, n);
}

/* a + b - c. As a list, because templates have long ones: each operand keeps the sign before it. */
static node *sum(struct ol_tpl_parser *p)
{
	struct ol_tpl_chain chain = {0};
	node *n = concatenation(p);
	if (!n || (!ol_tpl_at(p, TOKEN_ADD) && !ol_tpl_at(p, TOKEN_SUB)))
		return n;
	node *whole = ol_tpl_node_make(p, NODE_SUM, p->token->at);
	if (!whole)
		return NULL;
	whole->a = n;
	while (ol_tpl_at(p, TOKEN_ADD) || ol_tpl_at(p, TOKEN_SUB)) {
		node *operand = ol_tpl_node_make(p, NODE_ARGUMENT, p->token->at);
		if (!operand)
			return NULL;
		operand->op = (uint8_t)p->token++->kind;
		operand->a = concatenation(p);
		if (!operand->a)
			return NULL;
		ol_tpl_chain_append(&chain, operand);
	}
	whole->list = chain.first;
	return finish(p, whole);
}

static bool compare_op(struct ol_tpl_parser *p, uint8_t *op)
{
	static const struct {
		enum ol_tpl_token_kind token;
		enum ol_tpl_compare op;
	} ops[] = {{TOKEN_EQ, COMPARE_EQ}, {TOKEN_NE, COMPARE_NE}, {TOKEN_LT, COMPARE_LT},
		   {TOKEN_LE, COMPARE_LE}, {TOKEN_GT, COMPARE_GT}, {TOKEN_GE, COMPARE_GE}};
	for (size_t i = 0; i < OL_ARRAY_LEN(ops); i++)
		if (ol_tpl_skip(p, ops[i].token)) {
			*op = (uint8_t)ops[i].op;
			return true;
		}
	if (ol_tpl_skip_word(p, "in")) {
		*op = COMPARE_IN;
		return true;
	}
	if (ol_tpl_at_word(p, "not") && next_is_word(p, "in")) {
		p->token += 2;
		*op = COMPARE_NOT_IN;
		return true;
	}
	return false;
}

/* a < b < c means a < b and b < c */
static node *comparison(struct ol_tpl_parser *p)
{
	struct ol_tpl_chain chain = {0};
	node *n = sum(p);
	if (!n)
		return NULL;
	const uint32_t at = p->token->at;
	uint8_t op;
	while (compare_op(p, &op)) {
		node *operand = ol_tpl_node_make(p, NODE_ARGUMENT, p->token->at);
		if (!operand || !(operand->a = sum(p)))
			return NULL;
		operand->op = op;
		ol_tpl_chain_append(&chain, operand);
	}
	if (!chain.first)
		return n;
	node *whole = ol_tpl_node_make(p, NODE_COMPARE, at);
	if (!whole)
		return NULL;
	whole->a = n;
	whole->list = chain.first;
	return finish(p, whole);
}

static node *negation(struct ol_tpl_parser *p)
{
	const uint32_t at = p->token->at;
	if (!ol_tpl_skip_word(p, "not"))
		return comparison(p);
	if (!ol_tpl_parse_enter(p))
		return NULL;
	node *n = unary_node(p, NODE_NOT, at, negation(p));
	p->depth--;
	return n;
}

static node *conjunction(struct ol_tpl_parser *p)
{
	node *n = negation(p);
	while (n && ol_tpl_at_word(p, "and")) {
		const uint32_t at = p->token++->at;
		n = binary_node(p, NODE_AND, 0, at, n, negation(p));
	}
	return n;
}

node *ol_tpl_parse_disjunction(struct ol_tpl_parser *p)
{
	node *n = conjunction(p);
	while (n && ol_tpl_at_word(p, "or")) {
		const uint32_t at = p->token++->at;
		n = binary_node(p, NODE_OR, 0, at, n, conjunction(p));
	}
	return n;
}

/* a if b else c; without else, undefined when b is false */
node *ol_tpl_parse_expression(struct ol_tpl_parser *p)
{
	if (!ol_tpl_parse_enter(p))
		return NULL;
	node *n = ol_tpl_parse_disjunction(p);
	while (n && ol_tpl_at_word(p, "if")) {
		node *choice = ol_tpl_node_make(p, NODE_CHOICE, p->token++->at);
		if (!choice)
			return NULL;
		choice->a = n;
		choice->b = ol_tpl_parse_disjunction(p);
		if (!choice->b ||
		    (ol_tpl_skip_word(p, "else") && !(choice->c = ol_tpl_parse_expression(p))))
			return NULL;
		n = finish(p, choice);
	}
	p->depth--;
	return n;
}
