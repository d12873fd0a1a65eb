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

	"CREATE TABLE files ("
	" n INTEGER PRIMARY KEY AUTOINCREMENT,"
	" id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, name TEXT NOT NULL,"
	" purpose TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,"
	" made_at INTEGER NOT NULL, records INTEGER NOT NULL) STRICT;"
	"CREATE INDEX files_by_account ON files (account, n);"
	"CREATE INDEX files_by_content ON files (sha256);",

	"CREATE TABLE jobs ("
	" n INTEGER PRIMARY KEY AUTOINCREMENT,"
	" id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, base TEXT NOT NULL,"
	" model TEXT NOT NULL," /* ft:…, the result's name */
	" training_file TEXT NOT NULL, validation_file TEXT NOT NULL, suffix TEXT NOT NULL,"
	" seed INTEGER NOT NULL, request TEXT NOT NULL," /* JSON */
	" status INTEGER NOT NULL, want INTEGER NOT NULL, crashes INTEGER NOT NULL,"
	" made_at INTEGER NOT NULL, started_at INTEGER NOT NULL, finished_at INTEGER NOT NULL,"
	" estimated_finish INTEGER NOT NULL, trained_tokens INTEGER NOT NULL,"
	" step INTEGER NOT NULL, steps INTEGER NOT NULL, sha256 TEXT NOT NULL,"
	" turn INTEGER NOT NULL DEFAULT 0," /* the how-manieth start of all; 0: none yet */
	" error TEXT, error_code TEXT NOT NULL) STRICT;"
	"CREATE INDEX jobs_by_account ON jobs (account, n);"
	"CREATE INDEX jobs_by_status ON jobs (status, n);"
	"CREATE TABLE job_events ("
	" n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
	" job TEXT NOT NULL, made_at INTEGER NOT NULL, level TEXT NOT NULL, type TEXT NOT NULL,"
	" message TEXT NOT NULL, data TEXT) STRICT;"
	"CREATE INDEX job_events_by_job ON job_events (job, n);"
	"CREATE TABLE job_checkpoints ("
	" n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
	" job TEXT NOT NULL, made_at INTEGER NOT NULL, step INTEGER NOT NULL,"
	" tokens INTEGER NOT NULL, metrics TEXT NOT NULL, UNIQUE (job, step)) STRICT;",
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
