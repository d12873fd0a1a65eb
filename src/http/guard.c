#include "http/guard.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert((int)OL_ACCOUNT_MAX <= (int)OL_HTTP_ACCOUNT_MAX, "accounts fit");
_Static_assert((int)OL_KEY_ID_CHARS < (int)OL_HTTP_KEY_ID_MAX, "ids fit");

static void refuse(struct ol_http_refusal *refusal, enum ol_verdict verdict, int retry)
{
	const struct ol_verdict_row *row = ol_verdict_row(verdict);
	*refusal = (struct ol_http_refusal){.status = row->http,
					    .type = row->type,
					    .code = row->code,
					    .retry_after = row->retry ? retry : 0};
	(void)snprintf(refusal->text, sizeof refusal->text, "%s", row->sentence);
}

static bool admit(void *self, struct ol_http_caller *caller, struct ol_http_refusal *refusal,
		  const char *token, bool loopback, const struct ol_http_route *route)
{
	int retry = 0;
	(void)loopback; /* the keys were opened knowing it */
	*caller = (struct ol_http_caller){0};
	if (route->scope == OL_SCOPE_NONE)
		return true;
	struct ol_caller *grant = malloc(sizeof *grant);
	if (!grant) {
		*refusal = (struct ol_http_refusal){.status = 429,
						    .type = "server_error",
						    .code = "no_memory",
						    .text = "out of memory",
						    .retry_after = 1};
		return false;
	}
	const enum ol_verdict verdict =
		ol_keys_admit(self, grant, &retry, token, (enum ol_scope)route->scope);
	if (verdict != OL_VERDICT_OK) {
		free(grant);
		refuse(refusal, verdict, retry);
		return false;
	}
	caller->grant = grant;
	caller->scopes = grant->scopes;
	(void)snprintf(caller->account, sizeof caller->account, "%s", grant->account);
	(void)snprintf(caller->key_id, sizeof caller->key_id, "%s", grant->key_id);
	return true;
}

static void leave(void *self, const struct ol_http_caller *caller)
{
	(void)self;
	free(caller->grant);
}

struct ol_http_guard ol_guard_of_keys(struct ol_keys *keys)
{
	return (struct ol_http_guard){.admit = admit, .leave = leave, .self = keys};
}
