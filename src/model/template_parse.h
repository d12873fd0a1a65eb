/* model/template_parse.h, floor 2: the parser's state, between its two files.
 *
 * template_parse.c has the statements and the helpers, template_parse_expr.c the expressions. */
#ifndef OL_MODEL_TEMPLATE_PARSE_H
#define OL_MODEL_TEMPLATE_PARSE_H

#include "model/template_internal.h"

struct ol_tpl_parser {
	struct ol_tpl_heap *heap;
	const struct ol_tpl_source *source;
	const struct ol_tpl_token *token; /* the next one; the last is TOKEN_END */
	struct ol_error *err;
	enum ol_status status;
	int depth;        /* of the recursion */
	uint8_t specials; /* SPECIAL_ names used so far in this macro */
};

/* A list of nodes under construction. */
struct ol_tpl_chain {
	struct ol_tpl_node *first, **end;
};

/* Functions that give a node give NULL after a failure; p->status and p->err say which. */
struct ol_tpl_node *ol_tpl_parse_fail(struct ol_tpl_parser *p, const struct ol_tpl_token *at,
				      const char *format, ...) OL_PRINTF(3, 4);
struct ol_tpl_node *ol_tpl_parse_wanted(struct ol_tpl_parser *p, const char *wanted);
struct ol_tpl_node *ol_tpl_node_make(struct ol_tpl_parser *p, enum ol_tpl_node_kind kind,
				     uint32_t at);
void ol_tpl_chain_append(struct ol_tpl_chain *chain, struct ol_tpl_node *node);
bool ol_tpl_parse_enter(struct ol_tpl_parser *p); /* one level deeper; p->depth-- leaves it */
bool ol_tpl_at(const struct ol_tpl_parser *p, enum ol_tpl_token_kind kind);
bool ol_tpl_at_word(const struct ol_tpl_parser *p, const char *word);
bool ol_tpl_skip(struct ol_tpl_parser *p, enum ol_tpl_token_kind kind);
bool ol_tpl_skip_word(struct ol_tpl_parser *p, const char *word);
bool ol_tpl_expect(struct ol_tpl_parser *p, enum ol_tpl_token_kind kind);
bool ol_tpl_expect_name(struct ol_tpl_parser *p, struct ol_tpl_name *name);

struct ol_tpl_node *ol_tpl_parse_expression(struct ol_tpl_parser *p);
struct ol_tpl_node *ol_tpl_parse_disjunction(
	struct ol_tpl_parser *p); /* no `a if b` outside brackets */
struct ol_tpl_node *ol_tpl_parse_primary(struct ol_tpl_parser *p);
/* a | a, b — each part by `one` */
struct ol_tpl_node *ol_tpl_parse_tuple(struct ol_tpl_parser *p,
				       struct ol_tpl_node *(*one)(struct ol_tpl_parser *));
/* | name(arguments) over subject; the bar was read */
struct ol_tpl_node *ol_tpl_parse_filter(struct ol_tpl_parser *p, struct ol_tpl_node *subject);

#endif
