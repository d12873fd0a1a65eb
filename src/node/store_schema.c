#include "node/store_schema.h"

/* Times are seconds since 1970; nano: 10^-9 OPEN; days: since 1970, UTC. */
static const char *const node_steps[] = {
	"CREATE TABLE keys ("
	" n INTEGER PRIMARY KEY," /* 1, 2, …: rows are never deleted */
	" id TEXT NOT NULL UNIQUE,"
	" hash BLOB NOT NULL UNIQUE," /* SHA-256 of the token */
	" name TEXT NOT NULL, account TEXT NOT NULL, scopes INTEGER NOT NULL,"
	" hint TEXT NOT NULL," /* the token's first characters, for people */
	" requests_per_minute INTEGER NOT NULL, tokens_per_minute INTEGER NOT NULL,"
	" tokens_per_day INTEGER NOT NULL, tokens_total INTEGER NOT NULL,"
	" nano_per_day INTEGER NOT NULL, nano_total INTEGER NOT NULL,"
	" made_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL"
	") STRICT;"
	"CREATE TABLE key_usage ("
	" key INTEGER NOT NULL REFERENCES keys (n), day INTEGER NOT NULL,"
	" requests INTEGER NOT NULL, tokens INTEGER NOT NULL, nano INTEGER NOT NULL,"
	" PRIMARY KEY (key, day)) STRICT, WITHOUT ROWID;",
};

static const char *const answers_steps[] = {
	"CREATE TABLE answers ("
	" id BLOB PRIMARY KEY," /* SHA-256 of account and key */
	" account TEXT NOT NULL,"
	" fingerprint BLOB NOT NULL," /* SHA-256 of the request */
	" made_at INTEGER NOT NULL, status INTEGER NOT NULL, type TEXT NOT NULL,"
	" whole INTEGER NOT NULL," /* 0: the body was too long to keep */
	" body BLOB NOT NULL) STRICT;"
	"CREATE INDEX answers_by_age ON answers (made_at);",
};

struct ol_store_schema ol_store_schema(enum ol_store_kind kind)
{
	switch (kind) {
	case OL_STORE_NODE:
		return (struct ol_store_schema){"node.sqlite3", node_steps,
						OL_ARRAY_LEN(node_steps)};
	case OL_STORE_ANSWERS:
		return (struct ol_store_schema){"answers.sqlite3", answers_steps,
						OL_ARRAY_LEN(answers_steps)};
	}
	OL_UNREACHABLE();
}
