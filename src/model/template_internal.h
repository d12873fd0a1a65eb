/* model/template_internal.h, floor 2: what the files of the template engine share.
 *
 *     source ──template_lex──▶ tokens ──template_parse──▶ tree ──template_eval──▶ text + marks
 *                                                                │
 *                     template_filters, template_methods ────────┤ what templates can call
 *                     template_value, template_text  ────────────┘ what they call it on
 *
 * Nobody else includes this header. Names start with ol_tpl_; positions are byte offsets into the
 * template's source and become line:column only in a message. */
#ifndef OL_MODEL_TEMPLATE_INTERNAL_H
#define OL_MODEL_TEMPLATE_INTERNAL_H

#include "base/arena.h"
#include "model/chat_template.h"

/* ---- memory: many small pieces of one arena; all of it goes at once -------------------------- */

struct ol_tpl_heap {
	struct ol_arena *arena;
	uint8_t *chunk;
	size_t chunk_left;
};
/* Zeroed, aligned to 16; NULL when the arena is full. */
OL_MUST_CHECK void *ol_tpl_alloc(struct ol_tpl_heap *heap, size_t size);

/* ---- the source ------------------------------------------------------------------------------ */

/* A name or literal in the source. */
struct ol_tpl_name {
	const char *bytes;
	size_t size;
};
bool ol_tpl_name_is(struct ol_tpl_name name, const char *text);

struct ol_tpl_source {
	const char *path;
	const char *bytes; /* newlines normalised to \n, one final newline dropped */
	size_t size;
};
/* Fills err with "PATH:LINE:COLUMN: sentence"; returns status. */
enum ol_status ol_tpl_fail_at(struct ol_error *err, enum ol_status status,
			      const struct ol_tpl_source *source, size_t at, const char *format,
			      ...) OL_PRINTF(5, 6);

/* ---- tokens ---------------------------------------------------------------------------------- */

enum ol_tpl_token_kind {
	TOKEN_END,
	TOKEN_TEXT,
	TOKEN_PRINT_BEGIN,
	TOKEN_PRINT_END,
	TOKEN_BLOCK_BEGIN,
	TOKEN_BLOCK_END,
	TOKEN_NAME,
	TOKEN_STRING,
	TOKEN_INT,
	TOKEN_FLOAT,
	/* operators: token_names in template_lex.c has the same order, the longer spelling first */
	TOKEN_FLOOR_DIV,
	TOKEN_POWER,
	TOKEN_EQ,
	TOKEN_NE,
	TOKEN_GE,
	TOKEN_LE,
	TOKEN_ADD,
	TOKEN_SUB,
	TOKEN_MUL,
	TOKEN_DIV,
	TOKEN_MOD,
	TOKEN_TILDE,
	TOKEN_GT,
	TOKEN_LT,
	TOKEN_ASSIGN,
	TOKEN_DOT,
	TOKEN_COLON,
	TOKEN_PIPE,
	TOKEN_COMMA,
	TOKEN_L_PAREN,
	TOKEN_R_PAREN,
	TOKEN_L_BRACKET,
	TOKEN_R_BRACKET,
	TOKEN_L_BRACE,
	TOKEN_R_BRACE,
	TOKEN_KINDS
};

struct ol_tpl_token {
	enum ol_tpl_token_kind kind;
	uint32_t at;
	struct ol_tpl_name text; /* TEXT, NAME; STRING after its escapes */
	int64_t integer;
	double number;
};

struct ol_tpl_tokens {
	struct ol_tpl_token *items; /* the last one is TOKEN_END */
	size_t count, room;
};
OL_MUST_CHECK enum ol_status ol_tpl_lex(struct ol_tpl_tokens *tokens_out, struct ol_tpl_heap *heap,
					const struct ol_tpl_source *source, struct ol_error *err);
const char *ol_tpl_token_name(enum ol_tpl_token_kind kind);

/* ---- the tree -------------------------------------------------------------------------------- */

enum ol_tpl_node_kind {
	/* expressions */
	NODE_STRING,
	NODE_INT,
	NODE_FLOAT,
	NODE_BOOL,
	NODE_NONE,
	NODE_NAME,
	NODE_LIST,
	NODE_TUPLE,
	NODE_DICT,      /* list: key, value, key, value, … */
	NODE_ATTRIBUTE, /* a.name                          */
	NODE_ITEM,      /* a[b]; b may be a NODE_SLICE     */
	NODE_SLICE,     /* a:b:c, each may be NULL         */
	NODE_CALL,      /* a(args)                         */
	NODE_FILTER,    /* a | name(args)                  */
	NODE_TEST,      /* a is [not] name(args)           */
	NODE_NEGATE,
	NODE_PLUS,
	NODE_NOT,
	NODE_AND,
	NODE_OR,
	NODE_BINARY,   /* a op b: * / // % **             */
	NODE_SUM,      /* a (op list)+: + -               */
	NODE_CONCAT,   /* list ~ list ~ …                 */
	NODE_COMPARE,  /* a (op list)+                    */
	NODE_CHOICE,   /* a if b else c; c may be NULL    */
	NODE_CAPTURED, /* the text of the block being filtered */
	NODE_ARGUMENT, /* a, in the list of a call (with its name), a sum or comparison (op) */
	/* statements */
	NODE_TEXT,
	NODE_PRINT,
	NODE_SET,          /* a = b; without b, body is captured, then passed through c */
	NODE_FOR,          /* for a in b if c: body, else otherwise */
	NODE_IF,           /* list of arms: (a: body); without a it is the else */
	NODE_MACRO,        /* name(list of parameters, a: the default): body */
	NODE_CALL_BLOCK,   /* call(list) a: body             */
	NODE_FILTER_BLOCK, /* a over NODE_CAPTURED: body   */
	NODE_SCOPE,        /* with, generation: list of NODE_SET, body */
	NODE_BREAK,
	NODE_CONTINUE
};

enum ol_tpl_compare {
	COMPARE_EQ,
	COMPARE_NE,
	COMPARE_LT,
	COMPARE_LE,
	COMPARE_GT,
	COMPARE_GE,
	COMPARE_IN,
	COMPARE_NOT_IN
};

enum { SPECIAL_VARARGS = 1, SPECIAL_KWARGS = 2, SPECIAL_CALLER = 4 };

/* Nodes of a list are linked by next. */
struct ol_tpl_node {
	enum ol_tpl_node_kind kind;
	uint32_t at;
	uint16_t height; /* of an expression: 1 + the highest operand */
	uint8_t op;      /* a token kind, an ol_tpl_compare, or SPECIAL_ bits of a macro */
	bool negated;    /* is not */
	struct ol_tpl_node *next;
	struct ol_tpl_node *a, *b, *c;
	struct ol_tpl_node *list, *body, *otherwise;
	struct ol_tpl_node *spread, *named_spread; /* f(*spread, **named_spread) */
	struct ol_tpl_name name;
	union {
		int64_t integer;
		double number;
		struct ol_tpl_name text;
	};
};

OL_MUST_CHECK enum ol_status ol_tpl_parse(struct ol_tpl_node **body_out, struct ol_tpl_heap *heap,
					  const struct ol_tpl_source *source,
					  const struct ol_tpl_tokens *tokens, struct ol_error *err);

/* ---- values ---------------------------------------------------------------------------------- */

/* Who wrote a string: the template's author, the input, or each byte as marks say. */
enum ol_tpl_origin { ORIGIN_AUTHOR, ORIGIN_INPUT, ORIGIN_MIXED };

struct ol_tpl_text {
	const char *bytes;    /* valid UTF-8, not terminated */
	const uint8_t *marks; /* MIXED only: 1 where the byte is input */
	size_t size;
	enum ol_tpl_origin origin;
};

enum ol_tpl_kind {
	KIND_UNDEFINED,
	KIND_NONE,
	KIND_BOOL,
	KIND_INT,
	KIND_FLOAT,
	KIND_STRING,
	KIND_LIST,
	KIND_DICT,
	KIND_NAMESPACE,
	KIND_LOOP,
	KIND_MACRO,
	KIND_BUILTIN
};

/* Python's kinds of sequence differ in what can be done with them. LAZY is a generator: always
 * true, without length or index, and empty once it was walked. */
enum ol_tpl_form { FORM_LIST, FORM_TUPLE, FORM_RANGE, FORM_VIEW, FORM_LAZY };

struct ol_tpl_value {
	enum ol_tpl_kind kind;
	bool input; /* numbers, lists, dicts: the value came from the input */
	union {
		bool truth;
		int64_t integer;
		double number;
		struct ol_tpl_text text; /* STRING; of UNDEFINED: the sentence why */
		struct ol_tpl_list *list;
		struct ol_tpl_dict *dict; /* DICT, NAMESPACE */
		struct ol_tpl_loop *loop;
		struct ol_tpl_macro *macro;
		struct ol_tpl_bound *bound; /* BUILTIN */
	};
};

struct ol_tpl_list {
	struct ol_tpl_value *items;
	size_t count, room;
	enum ol_tpl_form form;
};

struct ol_tpl_pair {
	struct ol_tpl_value key, value;
};

struct ol_tpl_dict {
	struct ol_tpl_pair *pairs; /* in the order of insertion */
	size_t count, room;
};

struct ol_tpl_loop {
	const struct ol_tpl_value *items;
	size_t count, index0;
	struct ol_tpl_list *changed; /* what loop.changed() saw last */
};

struct ol_tpl_variable {
	struct ol_tpl_variable *next;
	struct ol_tpl_name name;
	struct ol_tpl_value value;
};

struct ol_tpl_frame {
	struct ol_tpl_frame *parent;
	struct ol_tpl_variable *variables;
};

struct ol_tpl_macro {
	const struct ol_tpl_node *node; /* NODE_MACRO, or the NODE_CALL_BLOCK that is the caller */
	struct ol_tpl_frame *frame;     /* where it was defined */
};

struct ol_tpl_named_value {
	struct ol_tpl_name name;
	struct ol_tpl_value value;
};

/* The arguments of one call: as written, and (for builtins with parameters) in place. */
enum { OL_TPL_PARAMETERS_MAX = 5 };
struct ol_tpl_args {
	struct ol_tpl_value *plain;
	size_t count;
	struct ol_tpl_named_value *named;
	size_t named_count;
	const struct ol_tpl_value *at[OL_TPL_PARAMETERS_MAX]; /* NULL: not given */
};

struct ol_tpl_render;
typedef bool ol_tpl_builtin_fn(struct ol_tpl_render *r, struct ol_tpl_value *out,
			       const struct ol_tpl_value *self, const struct ol_tpl_args *args);

/* parameters: names with a blank between them; NULL: any arguments, the function looks itself. */
struct ol_tpl_builtin {
	const char *name;
	ol_tpl_builtin_fn *call;
	int required;
	const char *parameters;
};

struct ol_tpl_bound {
	const struct ol_tpl_builtin *builtin;
	struct ol_tpl_value self;
};

/* ---- one rendering --------------------------------------------------------------------------- */

struct ol_tpl_render {
	const struct ol_tpl_source *source;
	struct ol_tpl_heap heap;
	struct ol_error *err;
	enum ol_status status; /* of the failure */
	size_t at;             /* the node being evaluated, for messages */
	size_t steps;
	int depth;
	const json_t *variables, *trusted;
	struct ol_tpl_frame globals; /* variables and trusted, as they are first asked for */
	struct ol_tpl_value captured;
	int64_t now;
};

/* All of these return false after telling why through ol_tpl_fail. */
bool ol_tpl_fail(struct ol_tpl_render *r, const char *format, ...) OL_PRINTF(2, 3);
bool ol_tpl_fail_limit(struct ol_tpl_render *r, const char *format, ...) OL_PRINTF(2, 3);
/* Counts work: one step, or one per 64 bytes or items looked at. */
OL_MUST_CHECK bool ol_tpl_spend(struct ol_tpl_render *r, size_t size);
OL_MUST_CHECK bool ol_tpl_get(struct ol_tpl_render *r, void *pointer_out, size_t count,
			      size_t size);

/* ---- template_text.c: strings that know their origin ----------------------------------------- */

struct ol_tpl_builder {
	struct ol_tpl_render *r;
	char *bytes;
	uint8_t *marks;
	size_t size, room;
	enum ol_tpl_origin origin; /* AUTHOR while empty */
};
struct ol_tpl_text ol_tpl_text_of(const char *literal);
struct ol_tpl_text ol_tpl_text_part(struct ol_tpl_text text, size_t begin, size_t end);
bool ol_tpl_text_input(struct ol_tpl_text text, size_t begin, size_t end); /* any byte is input */
bool ol_tpl_text_equal(struct ol_tpl_text a, struct ol_tpl_text b);
int ol_tpl_text_order(struct ol_tpl_text a, struct ol_tpl_text b);
/* The first occurrence at or after from; SIZE_MAX: none. The last one that ends at or before to. */
size_t ol_tpl_text_find(struct ol_tpl_text text, struct ol_tpl_text part, size_t from);
size_t ol_tpl_text_find_last(struct ol_tpl_text text, struct ol_tpl_text part, size_t to);
size_t ol_tpl_text_length(struct ol_tpl_text text);                    /* characters */
size_t ol_tpl_text_offset(struct ol_tpl_text text, size_t characters); /* byte of a character */
/* strip(): both ends; chars NULL: white space. */
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
struct ol_tpl_text ol_tpl_text_strip(struct ol_tpl_text text, const struct ol_tpl_text *chars,
				     int sides);
/* The character at *offset, which moves behind it. */
uint32_t ol_tpl_next(struct ol_tpl_text text, size_t *offset);

void ol_tpl_builder_init(struct ol_tpl_builder *b, struct ol_tpl_render *r);
OL_MUST_CHECK bool ol_tpl_add_bytes(struct ol_tpl_builder *b, const char *bytes, size_t size,
				    bool input);
OL_MUST_CHECK bool ol_tpl_add_cstr(struct ol_tpl_builder *b, const char *text, bool input);
OL_MUST_CHECK bool ol_tpl_add(struct ol_tpl_builder *b, struct ol_tpl_text text);
OL_MUST_CHECK bool ol_tpl_add_character(struct ol_tpl_builder *b, uint32_t character, bool input);
struct ol_tpl_value ol_tpl_built(const struct ol_tpl_builder *b);

enum ol_tpl_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL };
OL_MUST_CHECK bool ol_tpl_add_case(struct ol_tpl_builder *b, struct ol_tpl_text text,
				   enum ol_tpl_case to);

/* ---- template_unicode.c ---------------------------------------------------------------------- */

bool ol_tpl_is_space(uint32_t character);
bool ol_tpl_is_printable(uint32_t character);
uint32_t ol_tpl_to_upper(uint32_t character); /* where it is one to one */
uint32_t ol_tpl_to_lower(uint32_t character);
/* What ß and its kind become in upper case: 3 characters, the last may be 0; NULL for any other. */
const uint32_t *ol_tpl_upper_expansion(uint32_t character);
/* The same at the start of a word, for those that differ there: ß is Ss, ǆ is ǅ. */
const uint32_t *ol_tpl_title_expansion(uint32_t character);

/* ---- template_value.c ------------------------------------------------------------------------ */

struct ol_tpl_value ol_tpl_none(void);
struct ol_tpl_value ol_tpl_bool(bool truth);
struct ol_tpl_value ol_tpl_int(int64_t integer, bool input);
struct ol_tpl_value ol_tpl_float(double number, bool input);
struct ol_tpl_value ol_tpl_string(struct ol_tpl_text text);
OL_MUST_CHECK bool ol_tpl_undefined(struct ol_tpl_render *r, struct ol_tpl_value *out,
				    const char *format, ...) OL_PRINTF(3, 4);
OL_MUST_CHECK bool ol_tpl_list_make(struct ol_tpl_render *r, struct ol_tpl_value *out,
				    enum ol_tpl_form form, size_t room);
OL_MUST_CHECK bool ol_tpl_list_push(struct ol_tpl_render *r, struct ol_tpl_list *list,
				    struct ol_tpl_value item);
OL_MUST_CHECK bool ol_tpl_pair_make(struct ol_tpl_render *r, struct ol_tpl_value *out,
				    struct ol_tpl_value first, struct ol_tpl_value second);
OL_MUST_CHECK bool ol_tpl_dict_make(struct ol_tpl_render *r, struct ol_tpl_value *out, size_t room);
OL_MUST_CHECK bool ol_tpl_dict_put(struct ol_tpl_render *r, struct ol_tpl_dict *dict,
				   struct ol_tpl_value key, struct ol_tpl_value value);
OL_MUST_CHECK bool ol_tpl_dict_find(struct ol_tpl_render *r, const struct ol_tpl_value **found,
				    const struct ol_tpl_dict *dict, const struct ol_tpl_value *key);
const char *ol_tpl_kind_name(const struct ol_tpl_value *value); /* as Python calls it */
bool ol_tpl_truth(const struct ol_tpl_value *value);
bool ol_tpl_is_numeric(const struct ol_tpl_value *value); /* bool, int, float */
double ol_tpl_as_double(const struct ol_tpl_value *value);
/* bool or int; the sentence names what it was for. */
OL_MUST_CHECK bool ol_tpl_as_int(struct ol_tpl_render *r, int64_t *out,
				 const struct ol_tpl_value *value, const char *what);
OL_MUST_CHECK bool ol_tpl_as_text(struct ol_tpl_render *r, struct ol_tpl_text *out,
				  const struct ol_tpl_value *value, const char *what);
OL_MUST_CHECK bool ol_tpl_equal(struct ol_tpl_render *r, bool *out, const struct ol_tpl_value *a,
				const struct ol_tpl_value *b);
OL_MUST_CHECK bool ol_tpl_order(struct ol_tpl_render *r, int *out, const struct ol_tpl_value *a,
				const struct ol_tpl_value *b, const char *op);
OL_MUST_CHECK bool ol_tpl_contains(struct ol_tpl_render *r, bool *out,
				   const struct ol_tpl_value *whole,
				   const struct ol_tpl_value *part);
/* The items of anything that a for loop can walk; a LAZY list is empty afterwards. */
OL_MUST_CHECK bool ol_tpl_walk(struct ol_tpl_render *r, struct ol_tpl_list *items,
			       const struct ol_tpl_value *value);
OL_MUST_CHECK bool ol_tpl_length(struct ol_tpl_render *r, size_t *out,
				 const struct ol_tpl_value *value);
/* Python's str() and repr(), and json.dumps(). */
OL_MUST_CHECK bool ol_tpl_add_str(struct ol_tpl_builder *b, const struct ol_tpl_value *value);
OL_MUST_CHECK bool ol_tpl_add_repr(struct ol_tpl_builder *b, const struct ol_tpl_value *value);
OL_MUST_CHECK bool ol_tpl_str(struct ol_tpl_render *r, struct ol_tpl_text *out,
			      const struct ol_tpl_value *value);
OL_MUST_CHECK bool ol_tpl_from_json(struct ol_tpl_render *r, struct ol_tpl_value *out,
				    const json_t *json, bool input);

/* ---- template_json.c ------------------------------------------------------------------------- */

struct ol_tpl_json_style {
	bool ascii, sort, pretty;
	struct ol_tpl_text indent, item_separator, key_separator;
};
OL_MUST_CHECK bool ol_tpl_add_json(struct ol_tpl_builder *b, const struct ol_tpl_value *value,
				   const struct ol_tpl_json_style *style);

/* ---- template_eval.c ------------------------------------------------------------------------- */

OL_MUST_CHECK bool ol_tpl_run(struct ol_tpl_render *r, struct ol_tpl_builder *out,
			      const struct ol_tpl_node *body);
OL_MUST_CHECK bool ol_tpl_eval(struct ol_tpl_render *r, struct ol_tpl_frame *frame,
			       struct ol_tpl_value *out, const struct ol_tpl_node *node);
/* Runs a body into a string of its own. */
OL_MUST_CHECK bool ol_tpl_capture(struct ol_tpl_render *r, struct ol_tpl_frame *frame,
				  struct ol_tpl_value *out, const struct ol_tpl_node *body);

/* ---- template_call.c ------------------------------------------------------------------------- */

OL_MUST_CHECK bool ol_tpl_frame_open(struct ol_tpl_render *r, struct ol_tpl_frame **out,
				     struct ol_tpl_frame *parent);
OL_MUST_CHECK bool ol_tpl_frame_set(struct ol_tpl_render *r, struct ol_tpl_frame *frame,
				    struct ol_tpl_name name, struct ol_tpl_value value);
OL_MUST_CHECK bool ol_tpl_eval_name(struct ol_tpl_render *r, const struct ol_tpl_frame *frame,
				    struct ol_tpl_value *out, struct ol_tpl_name name);
/* The arguments of a call, filter or test; in a call, one more named one has room. */
OL_MUST_CHECK bool ol_tpl_eval_arguments(struct ol_tpl_render *r, struct ol_tpl_frame *frame,
					 struct ol_tpl_args *args, const struct ol_tpl_node *call);
/* caller: NULL, or the value that a call block adds. */
OL_MUST_CHECK bool ol_tpl_eval_call(struct ol_tpl_render *r, struct ol_tpl_frame *frame,
				    struct ol_tpl_value *out, const struct ol_tpl_node *call,
				    const struct ol_tpl_value *caller);
/* Puts the arguments in place and calls. what: "filter", "test", "function", "method". */
OL_MUST_CHECK bool ol_tpl_call_builtin(struct ol_tpl_render *r, struct ol_tpl_value *out,
				       const struct ol_tpl_builtin *builtin, const char *what,
				       const struct ol_tpl_value *self, struct ol_tpl_args *args);

/* ---- template_operate.c ---------------------------------------------------------------------- */

/* environment.getattr and environment.getitem of jinja2. */
OL_MUST_CHECK bool ol_tpl_attribute(struct ol_tpl_render *r, struct ol_tpl_value *out,
				    const struct ol_tpl_value *object, struct ol_tpl_name name);
OL_MUST_CHECK bool ol_tpl_item(struct ol_tpl_render *r, struct ol_tpl_value *out,
			       const struct ol_tpl_value *object, const struct ol_tpl_value *key);
/* object[a:b:c]; a bound that is NULL was left out. */
OL_MUST_CHECK bool ol_tpl_slice(struct ol_tpl_render *r, struct ol_tpl_value *out,
				const struct ol_tpl_value *object, const int64_t *const bounds[3]);
/* op: the token of + - * / // % or **; out may be a or b. */
OL_MUST_CHECK bool ol_tpl_arithmetic(struct ol_tpl_render *r, struct ol_tpl_value *out, uint8_t op,
				     const struct ol_tpl_value *a, const struct ol_tpl_value *b);

/* ---- template_filters.c, template_methods.c, template_format.c: what templates can call ------ */

OL_MUST_CHECK bool ol_tpl_replace(struct ol_tpl_render *r, struct ol_tpl_value *out,
				  struct ol_tpl_text whole, struct ol_tpl_text old,
				  struct ol_tpl_text new, int64_t limit); /* limit < 0: all */
OL_MUST_CHECK bool ol_tpl_split_lines(struct ol_tpl_render *r, struct ol_tpl_value *out,
				      struct ol_tpl_text whole, bool keep_ends);
OL_MUST_CHECK bool ol_tpl_dict_items(struct ol_tpl_render *r, struct ol_tpl_value *out,
				     const struct ol_tpl_value *self, enum ol_tpl_form form);
bool ol_tpl_is_case(struct ol_tpl_text whole, bool upper);
/* "%s and %d" % value: a tuple has one item per conversion. */
OL_MUST_CHECK bool ol_tpl_percent(struct ol_tpl_render *r, struct ol_tpl_value *out,
				  struct ol_tpl_text format, const struct ol_tpl_value *value);
/* "{} {0} {name}".format(…) */
ol_tpl_builtin_fn ol_tpl_format;
ol_tpl_builtin_fn ol_tpl_strftime_now;

const struct ol_tpl_builtin *ol_tpl_filter(struct ol_tpl_name name);
const struct ol_tpl_builtin *ol_tpl_sequence_filter(struct ol_tpl_name name); /* those of them */
const struct ol_tpl_builtin *ol_tpl_test(struct ol_tpl_name name);
const struct ol_tpl_builtin *ol_tpl_function(struct ol_tpl_name name);
/* NULL: no such method. *unsafe: Python has it, but it would change its object. */
const struct ol_tpl_builtin *ol_tpl_method(const struct ol_tpl_value *object,
					   struct ol_tpl_name name, bool *unsafe);

#endif
