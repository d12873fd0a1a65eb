#include "node/receipt_shares.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "node/attribute.h"
#include "node/attribute_index.h"

enum { TOP = 5, HOT_MAX = 16 };

/* --- the table ------------------------------------------------------------------------- */

bool ol_share_table_write(struct ol_buf *table, const struct ol_share *rows, size_t count)
{
	uint8_t bytes[OL_SHARE_ROW_BYTES];

	for (size_t i = 0; i < count; i++) {
		ol_share_write(bytes, &rows[i]);
		if (!ol_buf_append(table, bytes, sizeof bytes))
			return false;
	}
	return true;
}

void ol_share_table_rows(struct ol_share *rows, const uint8_t *table, size_t size)
{
	for (size_t i = 0; i < size / OL_SHARE_ROW_BYTES; i++)
		ol_share_read(&rows[i], table + i * OL_SHARE_ROW_BYTES);
}

/* All answers' tables as one: the sums of the signed scores. */
static enum ol_status add_up(struct ol_epoch *sum, const struct ol_attribution *answers, int count,
			     struct ol_error *err)
{
	enum ol_status s = OL_OK;

	for (int i = 0; i < count && s == OL_OK; i++)
		s = ol_epoch_add(sum, answers[i].shares, answers[i].count, err);
	return s;
}

/* The choices from `from` on that have tokens and fit into a pass, as queries; how many, and *next
 * where to go on. */
static int gather(struct ol_attribution_query *queries, size_t rows_max,
		  const struct ol_index *index, const struct ol_adapter *adapter,
		  const struct ol_opening *o, size_t from, size_t *next)
{
	const size_t per_prompt = o->choice_count / o->prompt_count;
	int count = 0;

	for (; from < o->choice_count && count < OL_ATTRIBUTION_BATCH_MAX; from++) {
		const struct ol_opening_choice *c = &o->choices[from];
		const struct ol_opening_prompt *p = &o->prompts[from / per_prompt];
		if (c->count == 0 || p->count == 0 || p->count > rows_max ||
		    c->count > rows_max + 1 - p->count)
			continue;
		queries[count++] = (struct ol_attribution_query){.index = index,
								 .adapter = adapter,
								 .prompt = p->tokens,
								 .prompt_count = (int)p->count,
								 .response = c->tokens,
								 .response_count = (int)c->count,
								 .top = TOP};
	}
	*next = from;
	return count;
}

static enum ol_status finish(uint8_t root[32], struct ol_buf *table, struct ol_epoch *sum,
			     const struct ol_attribution *only, const uint8_t request[32],
			     struct ol_error *err)
{
	const struct ol_share *rows = only ? only->shares : NULL;
	size_t count = only ? only->count : 0;
	enum ol_status s = OL_OK;

	if (!only) {
		s = ol_epoch_close(sum, request, err);
		rows = sum->rows;
		count = sum->count;
	}
	if (s == OL_OK)
		s = ol_shares_root(root, rows, count, err);
	if (s == OL_OK && table && !ol_share_table_write(table, rows, count))
		s = ol_fail(err, OL_ERR_FULL, "the share table has more than %d payees",
			    OL_SHARE_TABLE_MAX / OL_SHARE_ROW_BYTES);
	return s;
}

enum ol_status ol_receipt_shares(uint8_t root_out[32], struct ol_buf *table, json_t **detail,
				 struct ol_attributor *attributor, const struct ol_index *index,
				 const struct ol_adapter *adapter, const struct ol_opening *opening,
				 const uint8_t request[32], const struct ol_tokenizer *tokenizer,
				 struct ol_error *err)
{
	struct ol_attribution_query queries[OL_ATTRIBUTION_BATCH_MAX];
	struct ol_attribution answers[OL_ATTRIBUTION_BATCH_MAX], first = {0};
	struct ol_epoch sum = {0};
	size_t next = 0, all = 0;
	enum ol_status s = OL_OK;

	memset(root_out, 0, 32);
	if (detail)
		*detail = NULL;
	while (s == OL_OK && next < opening->choice_count) {
		const int count = gather(queries, (size_t)ol_attributor_rows_max(attributor), index,
					 adapter, opening, next, &next);
		if (count == 0)
			break;
		s = ol_attribute(attributor, answers, queries, count, err);
		if (s != OL_OK)
			break;
		s = add_up(&sum, answers, count, err);
		if (all == 0 && detail && s == OL_OK)
			*detail = ol_attribution_json(&answers[0], tokenizer, queries[0].response,
						      queries[0].response_count);
		for (int i = all == 0 ? 1 : 0; i < count; i++)
			ol_attribution_release(&answers[i]);
		if (all == 0)
			first = answers[0];
		all += (size_t)count;
	}
	if (s == OL_OK && all > 0)
		s = finish(root_out, table, &sum, all == 1 ? &first : NULL, request, err);
	ol_attribution_release(&first);
	ol_epoch_release(&sum);
	return s;
}

/* --- kept by their roots ------------------------------------------------------------------ */

static enum ol_status table_path(char path[OL_PATH_MAX], const struct ol_home *home,
				 const uint8_t root[32], bool make, struct ol_error *err)
{
	char folder[OL_PATH_MAX], name[2 * 32 + 2] = "/";
	enum ol_status s = ol_path_join(folder, err, home->path, "/ledger/shares", "");

	ol_hex(name + 1, root, 32);
	if (s == OL_OK && make && mkdir(folder, 0755) != 0 && errno != EEXIST)
		s = ol_fail(err, OL_ERR_IO, "%s: %s", folder, strerror(errno));
	return s == OL_OK ? ol_path_join(path, err, folder, name, "") : s;
}

enum ol_status ol_share_table_keep(const struct ol_home *home, const uint8_t root[32],
				   const struct ol_buf *table, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_writer *writer = NULL;
	struct stat there;
	enum ol_status s = table_path(path, home, root, true, err);

	if (s != OL_OK || stat(path, &there) == 0)
		return s;
	s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, table->data, table->size, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

enum ol_status ol_share_table_find(struct ol_buf *table, const struct ol_home *home,
				   const uint8_t root[32], struct ol_error *err)
{
	char path[OL_PATH_MAX];
	uint8_t found[32];
	struct ol_map map;
	enum ol_status s = table_path(path, home, root, false, err);

	if (s == OL_OK)
		s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	const size_t count = map.size / OL_SHARE_ROW_BYTES;
	struct ol_share *rows = calloc(count + 1, sizeof *rows);
	if (!rows)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a share table");
	if (s == OL_OK) {
		ol_share_table_rows(rows, map.data, map.size);
		s = ol_shares_root(found, rows, count, err);
	}
	if (s == OL_OK && (map.size % OL_SHARE_ROW_BYTES != 0 || memcmp(found, root, 32) != 0))
		s = ol_fail(err, OL_ERR_INPUT, "%s is damaged: it has another root", path);
	if (s == OL_OK && !ol_buf_append(table, map.data, map.size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a share table");
	free(rows);
	ol_map_close(&map);
	return s;
}

/* --- a node's own --------------------------------------------------------------------------- */

struct hot {
	uint8_t sha256[32];
	struct ol_index *index; /* NULL: this adapter has none */
	struct ol_adapter *adapter;
	uint64_t used;
};

struct ol_shaper {
	const struct ol_home *home;
	const struct ol_model *model;
	const struct ol_tokenizer *tokenizer;
	struct ol_attributor *attributor;
	struct hot hot[HOT_MAX];
	uint64_t clock;
};

enum ol_status ol_shaper_open(struct ol_shaper **shaper_out, const struct ol_home *home,
			      const struct ol_model *model, const struct ol_tokenizer *tokenizer,
			      struct ol_error *err)
{
	struct ol_shaper *s = calloc(1, sizeof *s);

	*shaper_out = s;
	if (!s)
		return ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
	s->home = home;
	s->model = model;
	s->tokenizer = tokenizer;
	return OL_OK;
}

static void cool(struct ol_shaper *s, struct hot *hot)
{
	/* What is opened next may lie where this did. */
	if (s->attributor)
		ol_attributor_forget(s->attributor);
	ol_index_close(hot->index);
	ol_adapter_close(hot->adapter);
	*hot = (struct hot){0};
}

void ol_shaper_close(struct ol_shaper *s)
{
	if (!s)
		return;
	for (int i = 0; i < HOT_MAX; i++)
		cool(s, &s->hot[i]);
	ol_attributor_close(s->attributor);
	free(s);
}

/* Opens index and adapter of a folder in the place of those used longest ago. */
static bool is_warm(const struct hot *hot, const uint8_t sha256[32], const uint8_t index[32])
{
	static const uint8_t none[32];

	return hot->used > 0 && memcmp(hot->sha256, sha256, 32) == 0 &&
	       memcmp(hot->index ? ol_index_root(hot->index) : none, index, 32) == 0;
}

static enum ol_status warm(struct ol_shaper *s, struct hot **out, const char *folder,
			   const uint8_t sha256[32], const uint8_t index[32], struct ol_error *err)
{
	struct hot *oldest = &s->hot[0];
	enum ol_status status;

	for (int i = 0; i < HOT_MAX; i++) {
		*out = &s->hot[i];
		if (is_warm(*out, sha256, index)) {
			(*out)->used = ++s->clock;
			return OL_OK;
		}
		if ((*out)->used < oldest->used)
			oldest = *out;
	}
	cool(s, oldest);
	status = ol_adapter_open_index(&oldest->index, folder, err);
	if (status == OL_ERR_NOT_FOUND) {
		oldest->index = NULL;
		status = OL_OK;
	} else if (status == OL_OK) {
		status = ol_adapter_open(&oldest->adapter, folder, ol_model_config(s->model), err);
	}
	if (status == OL_OK && oldest->adapter &&
	    memcmp(ol_adapter_sha256(oldest->adapter), sha256, 32) != 0)
		status = ol_fail(err, OL_ERR_INPUT, "the adapter was exchanged while it answered");
	if (status != OL_OK) {
		cool(s, oldest);
		return status;
	}
	memcpy(oldest->sha256, sha256, 32);
	oldest->used = ++s->clock;
	*out = oldest;
	return OL_OK;
}

enum ol_status ol_shaper_shares(struct ol_shaper *s, uint8_t root_out[32], json_t **detail,
				uint8_t index[32], const char *folder, const uint8_t sha256[32],
				const struct ol_opening *opening, const uint8_t request[32],
				struct ol_error *err)
{
	const struct ol_attributor_options options = {.rank_max = OL_RANK_MAX};
	struct ol_buf table;
	struct hot *hot;
	enum ol_status status = warm(s, &hot, folder, sha256, index, err);

	memset(root_out, 0, 32);
	*detail = NULL;
	if (status != OL_OK)
		return status;
	memset(index, 0, 32);
	if (!hot->index)
		return OL_OK;
	memcpy(index, ol_index_root(hot->index), 32);
	if (!s->attributor)
		status = ol_attributor_open(&s->attributor, s->model, &options, err);
	ol_buf_init(&table, OL_SHARE_TABLE_MAX);
	if (status == OL_OK)
		status = ol_receipt_shares(root_out, &table, detail, s->attributor, hot->index,
					   hot->adapter, opening, request, s->tokenizer, err);
	if (status == OL_OK && table.size > 0)
		status = ol_share_table_keep(s->home, root_out, &table, err);
	ol_buf_release(&table);
	return status;
}
