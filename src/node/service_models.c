/* node/service_models.c: which models there are: the base, and an index of its adapters by name. */
#include "node/service_internal.h"

#include "node/adapters.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* --- reading --------------------------------------------------------------- */

static enum ol_status other_base(const struct ol_service *s, const char *folder,
				 const struct ol_manifest *m, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_INPUT,
		       "%s was made for the base \"%s\", which is not the one served here (\"%s\")",
		       folder, m->base_name, s->base_name);
}

static bool is_our_base(const struct ol_service *s, const struct ol_manifest *m)
{
	return memcmp(m->base_id, ol_model_id(s->runtime.model), OL_MODEL_ID_BYTES) == 0;
}

enum ol_status ol_service_read(void *self, struct ol_adapter **adapter_out, const char *folder,
			       const struct ol_config *base, struct ol_error *err)
{
	const struct ol_service *s = self;
	struct ol_manifest manifest;
	struct ol_adapter *adapter = NULL;
	bool found;
	enum ol_status status = ol_adapter_manifest(&manifest, &found, folder, err);
	if (status != OL_OK)
		return status;
	if (found && !is_our_base(s, &manifest))
		status = other_base(s, folder, &manifest, err);
	if (status == OL_OK)
		status = ol_adapter_open(&adapter, folder, base, err);
	if (status == OL_OK && found &&
	    memcmp(ol_adapter_sha256(adapter), manifest.adapter_sha256, OL_SHA256_BYTES) != 0) {
		ol_adapter_close(adapter);
		status = ol_fail(err, OL_ERR_INPUT,
				 "%s/adapter_model.safetensors is not what its manifest.json says: "
				 "restore the file, or import the adapter anew",
				 folder);
	}
	ol_manifest_release(&manifest);
	if (status == OL_OK)
		*adapter_out = adapter;
	return status;
}

/* --- the index ------------------------------------------------------------- */

/* Where the name is, or would go. */
static size_t place_of(const struct ol_service *s, const char *name, bool *there)
{
	size_t low = 0, high = s->served_count;
	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		if (strcmp(s->served[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*there = low < s->served_count && strcmp(s->served[low]->name, name) == 0;
	return low;
}

static struct ol_served_entry *make_entry(const char *name, const char *folder, int64_t created,
					  bool loaded)
{
	const size_t name_size = strlen(name) + 1, folder_size = strlen(folder) + 1;
	struct ol_served_entry *e = calloc(1, sizeof *e);
	if (e)
		e->name = malloc(name_size + folder_size);
	if (!e || !e->name) {
		free(e);
		return NULL;
	}
	memcpy(e->name, name, name_size);
	e->folder = e->name + name_size;
	memcpy(e->folder, folder, folder_size);
	e->created = created;
	e->loaded = loaded;
	return e;
}

static void free_entry(struct ol_served_entry *e)
{
	if (e)
		free(e->name);
	free(e);
}

/* Takes the entry; false: out of memory. */
static bool insert(struct ol_service *s, size_t place, struct ol_served_entry *e)
{
	if (!e)
		return false;
	if (s->served_count == s->served_room) {
		const size_t room = OL_MAX(2 * s->served_room, (size_t)64);
		void *grown = realloc((void *)s->served, room * sizeof *s->served);
		if (!grown) {
			free_entry(e);
			return false;
		}
		s->served = grown;
		s->served_room = room;
	}
	memmove((void *)&s->served[place + 1], (void *)&s->served[place],
		(s->served_count - place) * sizeof *s->served);
	s->served[place] = e;
	s->served_count++;
	return true;
}

void ol_service_forget_models(struct ol_service *s)
{
	for (size_t i = 0; i < s->served_count; i++)
		free_entry(s->served[i]);
	free((void *)s->served);
	s->served = NULL;
	s->served_count = s->served_room = 0;
}

bool ol_service_has_adapter(struct ol_service *s, const char *name)
{
	bool there;
	(void)pthread_mutex_lock(&s->models);
	(void)place_of(s, name, &there);
	(void)pthread_mutex_unlock(&s->models);
	return there;
}

/* --- what is found at the start -------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	const struct ol_served_entry *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

/* Nothing but a look at each folder: what lies in it is read when it is asked for. */
static enum ol_status scan_folder(struct ol_service *s, const char *folder, struct ol_error *err)
{
	DIR *dir = opendir(folder);
	enum ol_status status = OL_OK;
	if (!dir)
		return ol_fail(err, OL_ERR_NOT_FOUND, "cannot list the adapters in %s: %s", folder,
			       strerror(errno));
	for (struct dirent *entry; status == OL_OK && (entry = readdir(dir)) != NULL;) {
		char path[OL_PATH_MAX], config[OL_PATH_MAX];
		struct stat info;
		if (ol_name_check(entry->d_name, NULL) != OL_OK ||
		    ol_path_join(config, NULL, entry->d_name, "/adapter_config.json", "") !=
			    OL_OK ||
		    fstatat(dirfd(dir), config, &info, 0) != 0)
			continue;
		status = ol_path_join(path, err, folder, "/", entry->d_name);
		struct ol_served_entry *e =
			make_entry(entry->d_name, path, (int64_t)info.st_mtime, false);
		if (status == OL_OK && !insert(s, s->served_count, e))
			status = ol_fail(err, OL_ERR_FULL, "out of memory for the adapters in %s",
					 folder);
	}
	(void)closedir(dir);
	return status;
}

/* The home may hold adapters of many bases: those of this one, which each one's manifest, or else
 * its adapter_config.json, says. */
static bool of_this_base(const struct ol_service *s, const char *folder)
{
	struct ol_manifest manifest;
	struct ol_adapter_about about;
	char base[OL_NAME_MAX + 1];
	bool found;
	if (ol_adapter_manifest(&manifest, &found, folder, NULL) != OL_OK)
		return false;
	const bool ours = found && is_our_base(s, &manifest);
	ol_manifest_release(&manifest);
	if (found)
		return ours;
	if (ol_adapter_look(&about, folder, NULL) != OL_OK)
		return false;
	ol_name_from_path(base, about.config.base_name);
	return strcmp(base, s->base_name) == 0;
}

static enum ol_status scan_home(struct ol_service *s, const struct ol_home *home,
				struct ol_error *err)
{
	struct ol_names names = {0};
	enum ol_status status = ol_home_adapters(home, &names, err);
	for (size_t i = 0; i < names.count && status == OL_OK; i++) {
		char path[OL_PATH_MAX];
		struct stat info;
		if (strcmp(names.names[i], s->base_name) == 0 ||
		    ol_home_adapter_path(home, path, names.names[i], NULL) != OL_OK ||
		    !of_this_base(s, path) || stat(path, &info) != 0)
			continue;
		if (!insert(s, s->served_count,
			    make_entry(names.names[i], path, (int64_t)info.st_mtime, false)))
			status = ol_fail(err, OL_ERR_FULL, "out of memory for the adapters");
	}
	ol_names_release(&names);
	return status;
}

enum ol_status ol_service_scan(struct ol_service *s, const struct ol_home *home, const char *folder,
			       struct ol_error *err)
{
	enum ol_status status = home ? scan_home(s, home, err) : OL_OK;
	if (status == OL_OK && folder)
		status = scan_folder(s, folder, err);
	if (status != OL_OK || s->served_count == 0)
		return status;
	qsort((void *)s->served, s->served_count, sizeof *s->served, by_name);
	for (size_t i = 0; i < s->served_count; i++) {
		const struct ol_served_entry *e = s->served[i];
		const bool twice = i > 0 && strcmp(e->name, s->served[i - 1]->name) == 0;
		if (twice || strcmp(e->name, s->base_name) == 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "two models are called \"%s\", one of them %s: rename it",
				       e->name, e->folder);
		if (ol_adapter_pool_register(s->pool, e->name, e->folder, NULL) != OL_REGISTER_OK)
			return ol_fail(err, OL_ERR_FULL,
				       "%zu adapters are more than the %d that can be registered",
				       s->served_count, OL_POOL_ADAPTERS_MAX);
	}
	return OL_OK;
}

/* --- asked by routes ------------------------------------------------------- */

static void copy_served(const struct ol_service *s, struct ol_served *out,
			const struct ol_served_entry *e)
{
	*out = (struct ol_served){.created = e ? e->created : s->opened, .loaded = e && e->loaded};
	(void)snprintf(out->name, sizeof out->name, "%s", e ? e->name : s->base_name);
	if (!e)
		return;
	(void)snprintf(out->parent, sizeof out->parent, "%s", s->base_name);
	(void)snprintf(out->folder, sizeof out->folder, "%s", e->folder);
}

bool ol_service_find(struct ol_service *s, struct ol_served *served_out, const char *name)
{
	bool there;
	if (strcmp(name, s->base_name) == 0) {
		copy_served(s, served_out, NULL);
		return true;
	}
	(void)pthread_mutex_lock(&s->models);
	const size_t place = place_of(s, name, &there);
	if (there)
		copy_served(s, served_out, s->served[place]);
	(void)pthread_mutex_unlock(&s->models);
	return there;
}

bool ol_service_next(struct ol_service *s, struct ol_served *served_out, const char *after)
{
	bool there = false;
	if (!after || *after == '\0') {
		copy_served(s, served_out, NULL);
		return true;
	}
	(void)pthread_mutex_lock(&s->models);
	size_t place = 0;
	if (strcmp(after, s->base_name) != 0) {
		place = place_of(s, after, &there);
		place += there;
	}
	there = place < s->served_count;
	if (there)
		copy_served(s, served_out, s->served[place]);
	(void)pthread_mutex_unlock(&s->models);
	return there;
}

size_t ol_service_count(struct ol_service *s)
{
	(void)pthread_mutex_lock(&s->models);
	const size_t count = s->served_count + 1;
	(void)pthread_mutex_unlock(&s->models);
	return count;
}

/* --- changes --------------------------------------------------------------- */

/* The pool is the scheduler thread's: it hears of changes by errands. */
struct change {
	struct ol_errand errand; /* first */
	struct ol_adapter_pool *pool;
	char *folder; /* NULL: to unregister */
	char name[OL_NAME_MAX + 1];
};

static void run_change(struct ol_errand *errand)
{
	struct change *c = (struct change *)errand;
	/* A pool that is full leaves the name unknown to it: asks for it are told so. */
	if (c->folder)
		(void)ol_adapter_pool_register(c->pool, c->name, c->folder, NULL);
	else
		(void)ol_adapter_pool_unregister(c->pool, c->name);
	free(c->folder);
	free(c);
}

static struct change *make_change(struct ol_service *s, const char *name, const char *folder)
{
	struct change *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->errand.run = run_change;
	c->pool = s->pool;
	(void)snprintf(c->name, sizeof c->name, "%s", name);
	if (!folder)
		return c;
	const size_t size = strlen(folder) + 1;
	c->folder = malloc(size);
	if (!c->folder) {
		free(c);
		return NULL;
	}
	memcpy(c->folder, folder, size);
	return c;
}

/* Its header, its manifest: does it look like an adapter of this base? */
static enum ol_status look_at(const struct ol_service *s, const char *folder, struct ol_error *err)
{
	struct ol_adapter_about about;
	struct ol_manifest manifest;
	bool found;
	enum ol_status status = ol_adapter_look(&about, folder, err);
	if (status == OL_OK)
		status = ol_adapter_manifest(&manifest, &found, folder, err);
	if (status != OL_OK)
		return status;
	if (found && !is_our_base(s, &manifest))
		status = other_base(s, folder, &manifest, err);
	ol_manifest_release(&manifest);
	return status;
}

static enum ol_status add(struct ol_service *s, const char *name, const char *folder,
			  struct ol_error *err)
{
	struct change *change = make_change(s, name, folder);
	struct ol_served_entry *entry = make_entry(name, folder, (int64_t)time(NULL), true);
	enum ol_status status = change && entry ? OL_OK : OL_ERR_FULL;
	bool there = false;
	if (status == OL_OK) {
		(void)pthread_mutex_lock(&s->models);
		const size_t place = place_of(s, name, &there);
		const bool full = s->served_count >= OL_POOL_ADAPTERS_MAX;
		if (!there && !full && insert(s, place, entry)) {
			ol_scheduler_post(s->scheduler, &change->errand);
			(void)pthread_mutex_unlock(&s->models);
			return OL_OK;
		}
		if (!there && !full)
			entry = NULL; /* insert has freed it */
		(void)pthread_mutex_unlock(&s->models);
		status = there ? OL_ERR_INPUT : OL_ERR_FULL;
	}
	free_entry(entry);
	if (change)
		free(change->folder);
	free(change);
	return there ? ol_fail(err, status,
			       "an adapter \"%s\" is loaded already: unload it first, or choose "
			       "another name",
			       name)
		     : ol_fail(err, status, "there is no room for one more adapter");
}

enum ol_status ol_service_load(struct ol_service *s, const char *name, const char *folder,
			       struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_home home;
	enum ol_status status = ol_name_check(name, err);
	if (status == OL_OK && strcmp(name, s->base_name) == 0)
		status = ol_fail(err, OL_ERR_INPUT, "\"%s\" is the name of the base", name);
	if (status == OL_OK && folder) {
		status = ol_path_join(path, err, folder, "", "");
	} else if (status == OL_OK && s->home[0] == '\0') {
		status = ol_fail(err, OL_ERR_INPUT, "say in which folder \"%s\" lies", name);
	} else if (status == OL_OK) {
		(void)snprintf(home.path, sizeof home.path, "%s", s->home);
		status = ol_home_find_adapter(&home, path, name, err);
	}
	if (status == OL_OK)
		status = look_at(s, path, err);
	return status == OL_OK ? add(s, name, path, err) : status;
}

enum ol_status ol_service_unload(struct ol_service *s, const char *name, struct ol_error *err)
{
	struct change *change = make_change(s, name, NULL);
	bool there;
	if (!change)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	(void)pthread_mutex_lock(&s->models);
	const size_t place = place_of(s, name, &there);
	if (there) {
		free_entry(s->served[place]);
		s->served_count--;
		memmove((void *)&s->served[place], (void *)&s->served[place + 1],
			(s->served_count - place) * sizeof *s->served);
		ol_scheduler_post(s->scheduler, &change->errand);
	}
	(void)pthread_mutex_unlock(&s->models);
	if (there)
		return OL_OK;
	free(change);
	return ol_fail(err, OL_ERR_NOT_FOUND, "there is no adapter \"%s\" here", name);
}
