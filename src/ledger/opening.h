/* ledger/opening.h, floor 2: what a caller keeps to prove what he asked and got: as JSON.
 *
 *     {"salt": "…64 hex digits…", "prompts": [[1, 15, 9]], "stop": ["\n"],
 *      "logit_bias": [[7, -1.5]], "grammar": "…",
 *      "choices": [{"tokens": [3, 4], "finish_reason": "stop"}]}
 *
 * prompts and tokens are ids: the text follows from the tokenizer that the receipt's base holds.
 * stop, logit_bias and grammar are left out where there are none. */
#ifndef OL_LEDGER_OPENING_H
#define OL_LEDGER_OPENING_H

#include <jansson.h>

#include "ledger/receipt.h"

enum { OL_OPENING_TOKENS_MAX = 1 << 24 };

/* NULL: out of memory. A new reference. */
json_t *ol_opening_json(const struct ol_opening *opening);

/* An opening that owns what it points at. */
struct ol_opening_copy {
	struct ol_opening opening;
	void *memory;
};
/* Fails with a sentence that names the member. The JSON may be released afterwards. */
OL_MUST_CHECK enum ol_status ol_opening_parse(struct ol_opening_copy *copy, const json_t *json,
					      struct ol_error *err);
void ol_opening_release(struct ol_opening_copy *copy);

#endif
