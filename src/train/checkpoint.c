#include "train/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "math/kernels.h"

enum { DIRECTORY_ALIGN = 8 };

static size_t align_up(size_t value, size_t to)
{
	return (value + to - 1) / to * to;
}

static size_t best_bytes(uint32_t type)
{
	return type == OL_BEST_BF16 ? 2 : type == OL_BEST_F32 ? 4 : 0;
}

/* ---- Writing ------------------------------------------------------------------------------ */

struct writing {
	struct ol_writer *writer;
	struct ol_sha256 hash;
	struct ol_error *err;
	enum ol_status status; /* the first failure */
};

static void put(struct writing *w, const void *bytes, size_t size)
{
	if (w->status != OL_OK)
		return;
	ol_sha256_update(&w->hash, bytes, size);
	w->status = ol_writer_append(w->writer, bytes, size, w->err);
}

static void put_tensors(struct writing *w, const struct ol_params *params)
{
	for (int i = 0; i < params->count; i++) {
		const struct ol_param *p = &params->list[i];
		struct ol_checkpoint_tensor entry = {
			.rows = p->rows, .cols = p->cols, .trained = p->trained};
		memcpy(entry.name, p->name, strlen(p->name));
		put(w, &entry, sizeof entry);
	}
	for (int i = 0; i < params->count; i++) {
		const struct ol_param *p = &params->list[i];
		const size_t bytes = p->count * sizeof(float);
		put(w, params->w + p->offset, bytes);
		if (p->trained) {
			put(w, params->m + p->offset, bytes);
			put(w, params->v + p->offset, bytes);
		}
	}
}

static size_t value_count(const struct ol_params *params)
{
	size_t sum = 0;
	for (int i = 0; i < params->count; i++)
		sum += params->list[i].count;
	return sum;
}

/* What stands behind the header, then the header that describes it: the checksum takes them in
 * this order, so that one pass is enough. */
static enum ol_status put_all(struct writing *w, const struct ol_checkpoint_source *source,
			      const struct ol_buf *text)
{
	static const uint8_t zeros[DIRECTORY_ALIGN];
	struct ol_checkpoint_header h = source->header;
	const size_t hashed = offsetof(struct ol_checkpoint_header, checksum);
	memcpy(h.magic, OL_CHECKPOINT_MAGIC, sizeof h.magic);
	h.version = OL_CHECKPOINT_VERSION;
	memset(h.arithmetic, 0, sizeof h.arithmetic);
	memcpy(h.arithmetic, OL_ARITHMETIC_VERSION, strlen(OL_ARITHMETIC_VERSION));
	h.config_bytes = (uint32_t)text->size;
	h.tensor_count = (uint32_t)source->params->count;
	memset(h.reserved, 0, sizeof h.reserved);
	w->status = ol_writer_append(w->writer, &h, sizeof h, w->err);
	put(w, text->data, text->size);
	put(w, zeros, align_up(text->size, DIRECTORY_ALIGN) - text->size);
	put_tensors(w, source->params);
	put(w, source->example_losses, (size_t)h.example_count * sizeof(float));
	if (h.best_type != OL_BEST_NONE)
		put(w, source->best, value_count(source->params) * best_bytes(h.best_type));
	h.file_bytes = ol_writer_offset(w->writer);
	ol_sha256_update(&w->hash, &h, hashed);
	ol_sha256_final(&w->hash, h.checksum);
	if (w->status == OL_OK)
		w->status = ol_writer_patch(w->writer, 0, &h, sizeof h, w->err);
	return w->status;
}

enum ol_status ol_checkpoint_write(const char *path, const struct ol_checkpoint_source *source,
				   struct ol_error *err)
{
	struct writing w = {.err = err};
	struct ol_buf text;
	ol_buf_init(&text, OL_TRAIN_CONFIG_MAX);
	enum ol_status s = OL_OK;
	if (!ol_train_config_write(&text, source->config) || !ol_sha256_init(&w.hash))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while writing %s", path);
	if (s == OL_OK) {
		s = ol_writer_open(&w.writer, path, err);
		if (s != OL_OK)
			ol_sha256_release(&w.hash);
	}
	if (s == OL_OK) {
		s = put_all(&w, source, &text);
		if (s == OL_OK)
			s = ol_writer_commit(w.writer, err);
		else
			ol_writer_abort(w.writer);
	}
	ol_buf_release(&text);
	return s;
}

/* ---- Reading ------------------------------------------------------------------------------ */

void ol_checkpoint_checksum(uint8_t out[OL_SHA256_BYTES], const uint8_t *bytes, size_t size)
{
	const size_t header = sizeof(struct ol_checkpoint_header);
	struct ol_sha256 hash;
	memset(out, 0, OL_SHA256_BYTES);
	if (size < header || !ol_sha256_init(&hash))
		return;
	ol_sha256_update(&hash, bytes + header, size - header);
	ol_sha256_update(&hash, bytes, offsetof(struct ol_checkpoint_header, checksum));
	ol_sha256_final(&hash, out);
}

static enum ol_status damaged(const char *path, const char *what, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_INPUT, "%s is damaged: %s", path, what);
}

static enum ol_status check_header(const struct ol_checkpoint_header *h, const uint8_t *bytes,
				   size_t size, const char *path, struct ol_error *err)
{
	uint8_t checksum[OL_SHA256_BYTES];
	if (memcmp(h->magic, OL_CHECKPOINT_MAGIC, sizeof h->magic) != 0)
		return damaged(path, "it does not begin as a checkpoint does", err);
	if (h->version != OL_CHECKPOINT_VERSION)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: checkpoint version %u; this program reads version %d", path,
			       h->version, OL_CHECKPOINT_VERSION);
	if (h->file_bytes != size)
		return damaged(path, "its size is not what it should be", err);
	ol_checkpoint_checksum(checksum, bytes, size);
	if (memcmp(checksum, h->checksum, sizeof checksum) != 0)
		return damaged(path, "its checksum is wrong", err);
	if (h->arithmetic[sizeof h->arithmetic - 1] != '\0')
		return damaged(path, "the arithmetic version is not a text", err);
	if (strcmp(h->arithmetic, OL_ARITHMETIC_VERSION) != 0)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: made by arithmetic version \"%s\"; this program runs \"%s\"",
			       path, h->arithmetic, OL_ARITHMETIC_VERSION);
	return OL_OK;
}

static bool numbers_possible(const struct ol_checkpoint_header *h)
{
	static const uint8_t zeros[sizeof h->reserved];
	return h->step <= OL_TRAIN_STEPS_MAX && h->best_step <= h->step && h->beta1_power >= 0 &&
	       h->beta1_power <= 1 && h->beta2_power >= 0 && h->beta2_power <= 1 &&
	       h->best_type <= OL_BEST_F32 &&
	       (h->best_type != OL_BEST_NONE) == (h->best_step > 0) && isfinite(h->best_loss) &&
	       h->stale <= h->evaluations && h->evaluations <= h->step &&
	       h->config_bytes <= OL_TRAIN_CONFIG_MAX &&
	       memcmp(h->reserved, zeros, sizeof zeros) == 0;
}

/* Takes `bytes` from what is left; false if there is less. */
static bool take(size_t *left, uint64_t bytes)
{
	if (bytes > *left)
		return false;
	*left -= (size_t)bytes;
	return true;
}

static bool entry_possible(const struct ol_checkpoint_tensor *t)
{
	return memchr(t->name, '\0', sizeof t->name) && t->name[0] != '\0' && t->rows > 0 &&
	       t->cols > 0 && t->trained <= 1 && t->reserved == 0;
}

/* Floats of all values, and of all values and moments; false if they are not all there. */
static bool count_state(const struct ol_checkpoint *c, size_t *left, uint64_t *values,
			uint64_t *state)
{
	for (uint32_t i = 0; i < c->header->tensor_count; i++) {
		const struct ol_checkpoint_tensor *t = &c->tensors[i];
		if (!entry_possible(t) || (i > 0 && strcmp(c->tensors[i - 1].name, t->name) >= 0))
			return false;
		const uint64_t count = (uint64_t)t->rows * (uint64_t)t->cols;
		const uint64_t kept = count * (t->trained ? 3 : 1);
		if (!take(left, kept * sizeof(float)))
			return false;
		*values += count;
		*state += kept;
	}
	return true;
}

static enum ol_status find_parts(struct ol_checkpoint *c, const uint8_t *bytes, size_t size,
				 const char *path, struct ol_error *err)
{
	const struct ol_checkpoint_header *h = c->header;
	const size_t config = align_up(h->config_bytes, DIRECTORY_ALIGN);
	size_t left = size - sizeof *h;
	uint64_t values = 0, state = 0;
	const uint8_t *at = bytes + sizeof *h;
	if (!take(&left, config))
		return damaged(path, "it ends inside the config", err);
	const enum ol_status s =
		ol_train_config_read(&c->config, (const char *)at, h->config_bytes, err);
	if (s != OL_OK)
		return s;
	at += config;
	c->tensors = (const struct ol_checkpoint_tensor *)(const void *)at;
	if (!take(&left, h->tensor_count * sizeof *c->tensors) ||
	    !count_state(c, &left, &values, &state))
		return damaged(path, "its tensors are not all there", err);
	at += h->tensor_count * sizeof *c->tensors;
	c->state = (const float *)(const void *)at;
	at += state * sizeof(float);
	c->example_losses = (const float *)(const void *)at;
	if (h->example_count > left / sizeof(float) ||
	    !take(&left, h->example_count * sizeof(float)))
		return damaged(path, "its losses are not all there", err);
	at += h->example_count * sizeof(float);
	c->best = h->best_type == OL_BEST_NONE ? NULL : at;
	if (left != values * best_bytes(h->best_type))
		return damaged(path, "its best state is not all there", err);
	return OL_OK;
}

enum ol_status ol_checkpoint_parse(struct ol_checkpoint *checkpoint, const uint8_t *bytes,
				   size_t size, const char *path, struct ol_error *err)
{
	*checkpoint = (struct ol_checkpoint){0};
	if (size < sizeof *checkpoint->header)
		return damaged(path, "it is shorter than a header", err);
	checkpoint->header = (const struct ol_checkpoint_header *)(const void *)bytes;
	enum ol_status s = check_header(checkpoint->header, bytes, size, path, err);
	if (s == OL_OK && !numbers_possible(checkpoint->header))
		s = damaged(path, "its header holds impossible numbers", err);
	return s == OL_OK ? find_parts(checkpoint, bytes, size, path, err) : s;
}

enum ol_status ol_checkpoint_open(struct ol_checkpoint *checkpoint, const char *path,
				  struct ol_error *err)
{
	struct ol_map map;
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	s = ol_checkpoint_parse(checkpoint, map.data, map.size, path, err);
	checkpoint->map = map;
	if (s != OL_OK)
		ol_checkpoint_close(checkpoint);
	return s;
}

void ol_checkpoint_close(struct ol_checkpoint *checkpoint)
{
	ol_map_close(&checkpoint->map);
	*checkpoint = (struct ol_checkpoint){0};
}
