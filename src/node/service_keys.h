/* node/service_keys.h, floor 4: what an ask may cost, by the limits of the key it came with: the
 * keys' side of ol_accounting (node/service.h). */
#ifndef OL_NODE_SERVICE_KEYS_H
#define OL_NODE_SERVICE_KEYS_H

#include "node/keys.h"
#include "node/service.h"

/* Reserves prompt and longest answer of an ask with the key, settles what it came to. ol_ask.caller
 * is the asking const struct ol_caller; NULL: nothing is counted. Borrows keys. */
struct ol_accounting ol_accounting_of_keys(struct ol_keys *keys);

#endif
