/* The index file: its layout, its root, and writing it. */
#include "attrib/index_internal.h"

#include "base/buf.h"
#include "base/file.h"
#include "crypto/merkle.h"

#include <stdlib.h>
#include <string.h>

const char ol_index_magic[8] = "OLINDEX\n";

size_t ol_index_leaf(const struct ol_index_header *header, enum ol_index_section section)
{
	return section == OL_INDEX_PAYEE_ROWS || section == OL_INDEX_EXAMPLE_ROWS
		       ? header->row_stride
		       : OL_INDEX_LEAF;
}

void ol_index_section_root(uint8_t out[OL_SHA256_BYTES], const uint8_t *bytes, size_t size,
			   size_t leaf)
{
	struct ol_merkle tree;
	uint8_t hash[OL_MERKLE_BYTES];
	ol_merkle_init(&tree);
	for (size_t at = 0; at < size; at += leaf) {
		ol_merkle_leaf(hash, bytes + at, OL_MIN(leaf, size - at));
		ol_merkle_add(&tree, hash);
	}
	ol_merkle_root(&tree, out);
}

void ol_index_file_root(uint8_t out[OL_SHA256_BYTES], const struct ol_index_header *header)
{
	struct ol_merkle tree;
	uint8_t hash[OL_MERKLE_BYTES];
	ol_merkle_init(&tree);
	ol_merkle_leaf(hash, header, offsetof(struct ol_index_header, roots));
	ol_merkle_add(&tree, hash);
	for (int i = 0; i < OL_INDEX_SECTIONS; i++) {
		ol_merkle_leaf(hash, header->roots[i], OL_SHA256_BYTES);
		ol_merkle_add(&tree, hash);
	}
	ol_merkle_root(&tree, out);
}

static uint64_t padded(uint64_t bytes)
{
	return (bytes + OL_ROW_ALIGN - 1) / OL_ROW_ALIGN * OL_ROW_ALIGN;
}

void ol_index_lay_out(struct ol_index_header *header)
{
	uint64_t at = sizeof *header;
	for (int i = 0; i < OL_INDEX_SECTIONS; i++) {
		header->sections[i].offset = at;
		at = padded(at + header->sections[i].bytes);
	}
	header->file_bytes = at;
}

/* ---- Writing -------------------------------------------------------------------------------- */

/* The sections that the content does not have as one array. */
struct gathered {
	struct ol_index_part_record *parts;
	struct ol_index_payee_record *payees;
	struct ol_index_example_record *examples;
	float *outward, *inward, *weight;
	struct ol_buf names;
};

static bool gather_parts(struct gathered *g, struct ol_index_header *header,
			 const struct ol_index_content *c)
{
	size_t sizes[3] = {0};
	for (int p = 0; p < c->layout.parts; p++) {
		const struct ol_index_part *part = &c->parts[p];
		sizes[0] += (size_t)part->outputs * (size_t)part->kept;
		sizes[1] += (size_t)part->rank * (size_t)part->rank;
		sizes[2] += (size_t)part->kept * (size_t)part->rank;
	}
	g->parts = calloc((size_t)c->layout.parts + 1, sizeof *g->parts);
	g->outward = malloc((sizes[0] + 1) * sizeof(float));
	g->inward = malloc((sizes[1] + 1) * sizeof(float));
	g->weight = malloc((sizes[2] + 1) * sizeof(float));
	if (!g->parts || !g->outward || !g->inward || !g->weight)
		return false;
	float *outward = g->outward, *inward = g->inward, *weight = g->weight;
	for (int p = 0; p < c->layout.parts; p++) {
		const struct ol_index_part *part = &c->parts[p];
		const size_t kept = (size_t)part->kept, rank = (size_t)part->rank;
		g->parts[p] =
			(struct ol_index_part_record){part->layer, part->linear, part->outputs,
						      part->rank,  part->kept,   part->scale};
		memcpy(outward, part->outward, (size_t)part->outputs * kept * sizeof(float));
		memcpy(inward, part->inward, rank * rank * sizeof(float));
		memcpy(weight, part->weight, kept * rank * sizeof(float));
		outward += (size_t)part->outputs * kept;
		inward += rank * rank;
		weight += kept * rank;
	}
	header->sections[OL_INDEX_PARTS].bytes = (size_t)c->layout.parts * sizeof *g->parts;
	header->sections[OL_INDEX_OUTWARD].bytes = sizes[0] * sizeof(float);
	header->sections[OL_INDEX_INWARD].bytes = sizes[1] * sizeof(float);
	header->sections[OL_INDEX_WEIGHT].bytes = sizes[2] * sizeof(float);
	return true;
}

static bool gather_people(struct gathered *g, struct ol_index_header *header,
			  const struct ol_index_content *c)
{
	g->payees = calloc((size_t)c->payee_count + 1, sizeof *g->payees);
	g->examples = calloc((size_t)c->example_count + 1, sizeof *g->examples);
	bool good = g->payees && g->examples;
	for (uint32_t i = 0; good && i < c->payee_count; i++) {
		const struct ol_index_payee *payee = &c->payees[i];
		g->payees[i] = (struct ol_index_payee_record){.name_at = (uint32_t)g->names.size,
							      .examples = payee->examples,
							      .clusters = payee->clusters};
		memcpy(g->payees[i].id, payee->id, OL_PAYEE_BYTES);
		good = ol_buf_append(&g->names, payee->name, strlen(payee->name) + 1);
	}
	for (uint32_t i = 0; good && i < c->example_count; i++) {
		const struct ol_index_example *e = &c->examples[i];
		g->examples[i] = (struct ol_index_example_record){.id_at = (uint32_t)g->names.size,
								  .payee = e->payee,
								  .cluster = e->cluster,
								  .tokens = e->tokens,
								  .answer_tokens = e->answer_tokens,
								  .clip = e->clip};
		good = ol_buf_append(&g->names, e->id, strlen(e->id) + 1);
	}
	header->sections[OL_INDEX_PAYEES].bytes = (size_t)c->payee_count * sizeof *g->payees;
	header->sections[OL_INDEX_EXAMPLES].bytes = (size_t)c->example_count * sizeof *g->examples;
	header->sections[OL_INDEX_NAMES].bytes = g->names.size;
	return good;
}

static void describe(struct ol_index_header *h, const struct ol_index_content *c)
{
	const struct ol_index_settings *s = &c->settings;
	*h = (struct ol_index_header){.version = OL_INDEX_VERSION,
				      .row_stride = (uint32_t)ol_row_bytes(&c->layout),
				      .seed = s->seed,
				      .damping = s->damping,
				      .draws = s->draws,
				      .curvature_max = s->curvature_max,
				      .row_bytes = s->row_bytes,
				      .targets = s->targets,
				      .first_layer = s->first_layer,
				      .last_layer = s->last_layer,
				      .norm_part = s->norm_part,
				      .norm_median = s->norm_median,
				      .span_part = s->span_part,
				      .flags = c->low_confidence ? OL_INDEX_LOW_CONFIDENCE : 0,
				      .answer_tokens = c->answer_tokens,
				      .energy = c->energy,
				      .parts = (uint32_t)c->layout.parts,
				      .values = (uint32_t)c->layout.values,
				      .payees = c->payee_count,
				      .examples = c->example_count,
				      .vocab = c->spans.vocab,
				      .token_bytes = (uint32_t)c->spans.token_bytes,
				      .span_tokens = c->spans.token_count};
	memcpy(h->magic, ol_index_magic, sizeof h->magic);
	memcpy(h->arithmetic, c->arithmetic, sizeof h->arithmetic);
	memcpy(h->base_id, c->base_id, sizeof h->base_id);
	memcpy(h->adapter_sha256, c->adapter_sha256, sizeof h->adapter_sha256);
	memcpy(h->snapshot_sha256, c->snapshot_sha256, sizeof h->snapshot_sha256);
}

static void measure_rows(struct ol_index_header *h, const struct ol_index_content *c)
{
	struct ol_index_place *at = h->sections;
	at[OL_INDEX_PAYEE_ROWS].bytes = (uint64_t)c->payee_count * h->row_stride;
	at[OL_INDEX_EXAMPLE_ROWS].bytes = (uint64_t)c->example_count * h->row_stride;
	at[OL_INDEX_SKETCHES].bytes = (uint64_t)c->example_count * OL_SKETCH_BYTES;
	at[OL_INDEX_SPAN_TOKENS].bytes = (uint64_t)c->spans.token_count * h->token_bytes;
	at[OL_INDEX_SPAN_STARTS].bytes = ((uint64_t)c->spans.example_count + 1) * 4;
	at[OL_INDEX_SPAN_COUNTS].bytes = (uint64_t)c->spans.vocab * 4;
	at[OL_INDEX_SPAN_SUFFIXES].bytes = (uint64_t)c->spans.token_count * 4;
}

static enum ol_status write_sections(struct ol_writer *writer, struct ol_index_header *header,
				     const void *const bytes[OL_INDEX_SECTIONS],
				     struct ol_error *err)
{
	static const uint8_t zeros[OL_ROW_ALIGN];
	enum ol_status s = ol_writer_append(writer, header, sizeof *header, err);
	for (int i = 0; s == OL_OK && i < OL_INDEX_SECTIONS; i++) {
		const size_t size = header->sections[i].bytes;
		ol_index_section_root(header->roots[i], bytes[i], size,
				      ol_index_leaf(header, (enum ol_index_section)i));
		s = ol_writer_append(writer, bytes[i], size, err);
		if (s == OL_OK)
			s = ol_writer_append(writer, zeros, padded(size) - size, err);
	}
	if (s != OL_OK)
		return s;
	ol_index_file_root(header->root, header);
	return ol_writer_patch(writer, 0, header, sizeof *header, err);
}

static enum ol_status write_file(const char *path, struct ol_index_header *header,
				 const struct gathered *g, const struct ol_index_content *c,
				 struct ol_error *err)
{
	const void *const bytes[OL_INDEX_SECTIONS] = {
		[OL_INDEX_PARTS] = g->parts,
		[OL_INDEX_OUTWARD] = g->outward,
		[OL_INDEX_INWARD] = g->inward,
		[OL_INDEX_WEIGHT] = g->weight,
		[OL_INDEX_PAYEES] = g->payees,
		[OL_INDEX_EXAMPLES] = g->examples,
		[OL_INDEX_NAMES] = g->names.data,
		[OL_INDEX_PAYEE_ROWS] = c->payee_rows,
		[OL_INDEX_EXAMPLE_ROWS] = c->example_rows,
		[OL_INDEX_SKETCHES] = c->sketches,
		[OL_INDEX_SPAN_TOKENS] = c->spans.tokens,
		[OL_INDEX_SPAN_STARTS] = c->spans.starts,
		[OL_INDEX_SPAN_COUNTS] = c->spans.counts,
		[OL_INDEX_SPAN_SUFFIXES] = c->spans.suffixes,
	};
	struct ol_writer *writer;
	enum ol_status s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = write_sections(writer, header, bytes, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

enum ol_status ol_index_write(const char *path, uint8_t root_out[OL_SHA256_BYTES],
			      const struct ol_index_content *content, struct ol_error *err)
{
	struct ol_index_header header;
	struct gathered g = {0};
	OL_ASSERT(content->spans.example_count == content->example_count);
	ol_buf_init(&g.names, UINT32_MAX);
	describe(&header, content);
	measure_rows(&header, content);
	enum ol_status s = OL_OK;
	if (!gather_parts(&g, &header, content) || !gather_people(&g, &header, content))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while writing %s", path);
	if (s == OL_OK) {
		ol_index_lay_out(&header);
		s = write_file(path, &header, &g, content, err);
	}
	if (s == OL_OK)
		memcpy(root_out, header.root, sizeof header.root);
	free(g.parts);
	free(g.payees);
	free(g.examples);
	free(g.outward);
	free(g.inward);
	free(g.weight);
	ol_buf_release(&g.names);
	return s;
}
