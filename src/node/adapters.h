/* node/adapters.h, floor 4: the adapters of a node.
 *
 *     HOME/adapters/NAME/  adapter_model.safetensors  adapter_config.json  manifest.json  README.md
 *
 * Named by NAME, or by a path with a '/' (a PEFT folder anywhere; it need not have a manifest). */
#ifndef OL_NODE_ADAPTERS_H
#define OL_NODE_ADAPTERS_H

#include "node/home.h"
#include "train/manifest.h"

/* The folder of an adapter, which need not exist. */
OL_MUST_CHECK enum ol_status ol_home_adapter_path(const struct ol_home *home,
						  char path[OL_PATH_MAX], const char *adapter,
						  struct ol_error *err);
/* The same, but it must hold an adapter: the error lists those that there are. */
OL_MUST_CHECK enum ol_status ol_home_find_adapter(const struct ol_home *home,
						  char path[OL_PATH_MAX], const char *adapter,
						  struct ol_error *err);
bool ol_home_has_adapter(const struct ol_home *home, const char *adapter);
/* Names of all adapters, sorted. */
OL_MUST_CHECK enum ol_status ol_home_adapters(const struct ol_home *home, struct ol_names *names,
					      struct ol_error *err);

/* manifest.json of an adapter's folder; *found is false (and the manifest empty) where there is
 * none. */
OL_MUST_CHECK enum ol_status ol_adapter_manifest(struct ol_manifest *manifest, bool *found,
						 const char *folder, struct ol_error *err);
/* The model of the home that is its base: by the id in its manifest, else by the base's name in
 * its manifest or its adapter_config.json. */
OL_MUST_CHECK enum ol_status ol_adapter_base(const struct ol_home *home, char name[OL_NAME_MAX + 1],
					     const char *folder, struct ol_error *err);

/* Puts an adapter, its manifest and its card under a name, all or nothing. The manifest's
 * adapter_sha256 is filled in. A name that is taken is refused unless `replace`. */
OL_MUST_CHECK enum ol_status ol_adapter_install(const struct ol_home *home, const char *name,
						const struct ol_adapter *adapter,
						struct ol_manifest *manifest, bool replace,
						struct ol_error *err);

/* Writes an installed adapter's manifest and card anew, after something was measured about it. */
OL_MUST_CHECK enum ol_status ol_adapter_amend(const char *folder, const char *name,
					      const struct ol_adapter *adapter,
					      const struct ol_manifest *manifest,
					      struct ol_error *err);

#endif
