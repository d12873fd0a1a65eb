#include "attrib/clusters.h"

#include <stdlib.h>
#include <string.h>

enum {
	TEXT_BANDS = 16,
	TEXT_BAND = OL_CLUSTER_HASHES / TEXT_BANDS,
	ROW_BANDS = 48, /* of 16 signs of a sketch: finds a cosine of 0.95 in 999 of 1000 cases */
	ROW_BAND = 16
};

struct clusters {
	uint32_t *parent;
	uint32_t *merged;
	uint32_t count;
	const struct ol_span_text *texts;
	const struct ol_cluster_rows *rows;
	uint64_t *hashes; /* (count, OL_CLUSTER_HASHES) least hashes of the pieces */
	double *lengths;  /* (count) row . row                                     */
	size_t stride;
};

struct entry {
	uint64_t key;
	uint32_t example;
};

static uint32_t root_of(struct clusters *c, uint32_t i)
{
	while (c->parent[i] != i) {
		c->parent[i] = c->parent[c->parent[i]];
		i = c->parent[i];
	}
	return i;
}

static void join(struct clusters *c, uint32_t a, uint32_t b, enum ol_cluster_why why)
{
	a = root_of(c, a);
	b = root_of(c, b);
	if (a == b)
		return;
	c->parent[OL_MAX(a, b)] = OL_MIN(a, b);
	c->merged[why]++;
}

static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->example < y->example ? -1 : x->example > y->example;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* ---- Are two the same? ---------------------------------------------------------------------- */

static bool same_tokens(const struct clusters *c, uint32_t a, uint32_t b)
{
	const struct ol_span_text *x = &c->texts[a], *y = &c->texts[b];
	return x->count == y->count &&
	       memcmp(x->tokens, y->tokens, (size_t)x->count * sizeof *x->tokens) == 0;
}

static bool same_pieces(const struct clusters *c, uint32_t a, uint32_t b)
{
	const uint64_t *x = c->hashes + (size_t)a * OL_CLUSTER_HASHES;
	const uint64_t *y = c->hashes + (size_t)b * OL_CLUSTER_HASHES;
	int same = 0;
	for (int i = 0; i < OL_CLUSTER_HASHES; i++)
		same += x[i] == y[i];
	return same >= OL_CLUSTER_SAME_MIN;
}

static bool same_direction(const struct clusters *c, uint32_t a, uint32_t b)
{
	const double least = OL_CLUSTER_COSINE / 100.0, sizes = c->lengths[a] * c->lengths[b];
	const double dot =
		ol_row_dot(c->rows->kernels, c->rows->layout, c->rows->rows + (size_t)a * c->stride,
			   c->rows->rows + (size_t)b * c->stride);
	return dot > 0.0 && sizes > 0.0 && dot * dot >= least * least * sizes;
}

typedef bool same_fn(const struct clusters *c, uint32_t a, uint32_t b);

/* Among entries of one key each is compared with the first and with the one before it. */
static void join_table(struct clusters *c, struct entry *table, size_t count, same_fn *same,
		       enum ol_cluster_why why)
{
	size_t first = 0;
	qsort(table, count, sizeof *table, by_key);
	for (size_t i = 1; i < count; i++) {
		if (table[i].key != table[first].key) {
			first = i;
			continue;
		}
		const uint32_t example = table[i].example;
		if (same(c, table[first].example, example))
			join(c, table[first].example, example, why);
		else if (same(c, table[i - 1].example, example))
			join(c, table[i - 1].example, example, why);
	}
}

/* ---- Tables --------------------------------------------------------------------------------- */

static uint64_t text_key(const struct ol_span_text *text)
{
	uint64_t hash = (uint64_t)text->count;
	for (int32_t i = 0; i < text->count; i++)
		hash = mix(hash + 0x9e3779b97f4a7c15u + (uint64_t)text->tokens[i]);
	return hash;
}

static void join_exact(struct clusters *c, struct entry *table)
{
	for (uint32_t i = 0; i < c->count; i++)
		table[i] = (struct entry){text_key(&c->texts[i]), i};
	join_table(c, table, c->count, same_tokens, OL_CLUSTER_EXACT);
}

static void hash_pieces(uint64_t *least, const struct ol_span_text *text)
{
	memset(least, 0xff, OL_CLUSTER_HASHES * sizeof *least);
	for (int32_t i = 0; i + OL_CLUSTER_PIECE <= text->count; i++) {
		const struct ol_span_text piece = {text->tokens + i, OL_CLUSTER_PIECE};
		const uint64_t key = text_key(&piece);
		for (uint64_t h = 0; h < OL_CLUSTER_HASHES; h++) {
			const uint64_t word = mix(key ^ mix(h + 1));
			least[h] = OL_MIN(least[h], word);
		}
	}
}

static void join_texts(struct clusters *c, struct entry *table)
{
	for (uint32_t i = 0; i < c->count; i++)
		hash_pieces(c->hashes + (size_t)i * OL_CLUSTER_HASHES, &c->texts[i]);
	for (int band = 0; band < TEXT_BANDS; band++) {
		size_t n = 0;
		for (uint32_t i = 0; i < c->count; i++) {
			const uint64_t *own =
				c->hashes + (size_t)i * OL_CLUSTER_HASHES + band * TEXT_BAND;
			uint64_t key = 0;
			if (c->texts[i].count < OL_CLUSTER_PIECE)
				continue;
			for (int h = 0; h < TEXT_BAND; h++)
				key = mix(key + own[h]);
			table[n++] = (struct entry){key, i};
		}
		join_table(c, table, n, same_pieces, OL_CLUSTER_TEXT);
	}
}

static void join_rows(struct clusters *c, struct entry *table)
{
	for (uint32_t i = 0; i < c->count; i++) {
		const uint8_t *row = c->rows->rows + (size_t)i * c->stride;
		c->lengths[i] = ol_row_dot(c->rows->kernels, c->rows->layout, row, row);
	}
	for (int band = 0; band < ROW_BANDS; band++) {
		for (uint32_t i = 0; i < c->count; i++) {
			const int8_t *codes = (const int8_t *)c->rows->sketches +
					      (size_t)i * OL_SKETCH_BYTES + sizeof(float) +
					      band * ROW_BAND;
			uint64_t key = 0;
			for (int k = 0; k < ROW_BAND; k++)
				key = key << 1 | (codes[k] < 0);
			table[i] = (struct entry){key, i};
		}
		join_table(c, table, c->count, same_direction, OL_CLUSTER_ROW);
	}
}

enum ol_status ol_clusters_find(uint32_t *clusters, uint32_t *merged,
				const struct ol_span_text *texts, uint32_t count,
				const struct ol_cluster_rows *rows, struct ol_error *err)
{
	struct clusters c = {.parent = clusters,
			     .merged = merged,
			     .count = count,
			     .texts = texts,
			     .rows = rows,
			     .stride = rows ? ol_row_bytes(rows->layout) : 0};
	struct entry *table = malloc(((size_t)count + 1) * sizeof *table);
	c.hashes = malloc(((size_t)count + 1) * OL_CLUSTER_HASHES * sizeof *c.hashes);
	c.lengths = malloc(((size_t)count + 1) * sizeof *c.lengths);
	const bool room = table && c.hashes && c.lengths;
	memset(merged, 0, OL_CLUSTER_WHYS * sizeof *merged);
	for (uint32_t i = 0; i < count; i++)
		clusters[i] = i;
	if (room) {
		join_exact(&c, table);
		join_texts(&c, table);
		if (rows)
			join_rows(&c, table);
		for (uint32_t i = 0; i < count; i++)
			clusters[i] = root_of(&c, i);
	}
	free(table);
	free(c.hashes);
	free(c.lengths);
	return room ? OL_OK
		    : ol_fail(err, OL_ERR_FULL, "out of memory for the clusters of %u examples",
			      count);
}
