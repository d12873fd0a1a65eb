/* node/home.h, floor 4: where a node keeps its things.
 *
 *     $OPENLEDGER_HOME, else $XDG_DATA_HOME/openledger, else ~/.local/share/openledger
 *         models/NAME.olm
 *         adapters/NAME/      (node/adapters.h)
 *
 * A model is named everywhere by NAME, or by a path that contains a '/'. */
#ifndef OL_NODE_HOME_H
#define OL_NODE_HOME_H

#include "base/base.h"

enum { OL_PATH_MAX = 4096, OL_NAME_MAX = 128 };

struct ol_home {
	char path[OL_PATH_MAX];
};

/* path = a, b and c behind one another; too long is an error. */
OL_MUST_CHECK enum ol_status ol_path_join(char path[OL_PATH_MAX], struct ol_error *err,
					  const char *a, const char *b, const char *c);

/* Finds the home and makes its folders. */
OL_MUST_CHECK enum ol_status ol_home_open(struct ol_home *home, struct ol_error *err);

/* Letters, digits, '.', '_', '-' and ':'; not starting with '.' or '-'; at most OL_NAME_MAX. */
OL_MUST_CHECK enum ol_status ol_name_check(const char *name, struct ol_error *err);
/* A name from a path: the last component without its extension, odd characters as '-'. */
void ol_name_from_path(char name[OL_NAME_MAX + 1], const char *path);

/* The file of a model, which need not exist. */
OL_MUST_CHECK enum ol_status ol_home_model_path(const struct ol_home *home, char path[OL_PATH_MAX],
						const char *model, struct ol_error *err);
/* The same, but it must exist: the error lists the models there are. */
OL_MUST_CHECK enum ol_status ol_home_find_model(const struct ol_home *home, char path[OL_PATH_MAX],
						const char *model, struct ol_error *err);

/* Is there such a model? */
bool ol_home_has_model(const struct ol_home *home, const char *model);

struct ol_names {
	char (*names)[OL_NAME_MAX + 1];
	size_t count, room;
};
/* Names of all models, sorted. */
OL_MUST_CHECK enum ol_status ol_home_models(const struct ol_home *home, struct ol_names *names,
					    struct ol_error *err);
/* Appends one; false: out of memory. */
OL_MUST_CHECK bool ol_names_push(struct ol_names *names, const char *name, size_t length);
void ol_names_sort(struct ol_names *names);
void ol_names_release(struct ol_names *names);

#endif
