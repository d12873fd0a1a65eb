/* node/store_schema.h, floor 4: what the tables of the stores are, as steps from version to
 * version. Append-only: a step that has been in use is never edited. */
#ifndef OL_NODE_STORE_SCHEMA_H
#define OL_NODE_STORE_SCHEMA_H

#include "node/store.h"

struct ol_store_schema {
	const char *file;         /* in the home folder                */
	const char *const *steps; /* steps[i]: from version i to i + 1 */
	int count;
};
struct ol_store_schema ol_store_schema(enum ol_store_kind kind);

#endif
