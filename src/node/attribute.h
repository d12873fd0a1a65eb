/* node/attribute.h, floor 4: who shaped an answer, for whoever asks: the server, the command line.
 *
 *     server: one ol_attributor a worker (attrib/answer.h), an ol_index an adapter
 *             (ol_adapter_open_index), ol_attribute over the answers just finished,
 *             ol_attribution_json into "openledger.attribution", shares and root onto the receipt
 *     person: ol_explain: names in, one answer's attribution out */
#ifndef OL_NODE_ATTRIBUTE_H
#define OL_NODE_ATTRIBUTE_H

#include "attrib/answer.h"
#include "base/buf.h"
#include "model/tokenizer.h"
#include "node/answer.h"
#include "node/home.h"

#include <jansson.h>

enum { OL_ATTRIBUTION_LISTED = 100 /* contributors in JSON; the share table has them all */ };

/* "openledger.attribution" (docs/API.md). response: its ids, for the spans' texts; tokenizer NULL:
 * no texts. NULL: out of memory. */
json_t *ol_attribution_json(const struct ol_attribution *attribution,
			    const struct ol_tokenizer *tokenizer, const int32_t *response,
			    int count);
/* Payees by share, then score, best first: order (attribution->count) are rows of the table. */
void ol_attribution_rank(const struct ol_attribution *attribution, uint32_t *order);

struct ol_explain_request {
	const char *adapter, *prompt;
	const char *response; /* NULL: let the adapter answer, greedily */
	bool raw;             /* the prompt as it is, without the chat template */
	int max_tokens;       /* of an answer of its own */
	int top;
	bool gain;
};

struct ol_explanation {
	struct ol_attribution attribution;
	struct ol_index *index;
	struct ol_tokens prompt, response;
	struct ol_buf text;             /* of the response                                */
	struct ol_tokenizer *tokenizer; /* of the base: for spans and examples            */
	bool own_answer;
	double seconds; /* of the attribution alone                       */
};

/* Release it whatever happened. */
OL_MUST_CHECK enum ol_status ol_explain(struct ol_explanation *explanation,
					const struct ol_home *home,
					const struct ol_explain_request *request,
					struct ol_error *err);
void ol_explanation_release(struct ol_explanation *explanation);

/* Ids of a prompt (through the chat template if there is one, unless raw) and of a response, which
 * may be NULL. */
struct ol_runtime;
OL_MUST_CHECK enum ol_status ol_runtime_encode_exchange(const struct ol_runtime *runtime,
							struct ol_tokens *prompt_out,
							struct ol_tokens *response_out,
							const char *prompt, const char *response,
							bool raw, struct ol_error *err);
/* Appends an example's text as its tokens say. */
OL_MUST_CHECK bool ol_index_example_text(struct ol_buf *text, const struct ol_index *index,
					 uint32_t example, const struct ol_tokenizer *tokenizer);

#endif
