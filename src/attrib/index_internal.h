/* attrib/index_internal.h, floor 3: the index file's layout, version 1 (docs/FORMATS.md). */
#ifndef OL_ATTRIB_INDEX_INTERNAL_H
#define OL_ATTRIB_INDEX_INTERNAL_H

#include "attrib/index.h"

/* In the order of the file. */
enum ol_index_section {
	OL_INDEX_PARTS,
	OL_INDEX_OUTWARD,
	OL_INDEX_INWARD,
	OL_INDEX_WEIGHT,
	OL_INDEX_PAYEES,
	OL_INDEX_EXAMPLES,
	OL_INDEX_NAMES,
	OL_INDEX_PAYEE_ROWS,
	OL_INDEX_EXAMPLE_ROWS,
	OL_INDEX_SKETCHES,
	OL_INDEX_SPAN_TOKENS,
	OL_INDEX_SPAN_STARTS,
	OL_INDEX_SPAN_COUNTS,
	OL_INDEX_SPAN_SUFFIXES,
	OL_INDEX_SECTIONS
};

struct ol_index_place {
	uint64_t offset, bytes;
};

struct ol_index_header {
	char magic[8];
	uint32_t version, row_stride;
	char arithmetic[32];
	uint8_t base_id[OL_SHA256_BYTES], adapter_sha256[OL_SHA256_BYTES];
	uint8_t snapshot_sha256[OL_SHA256_BYTES];
	uint64_t seed;
	double damping;
	uint32_t draws, curvature_max, row_bytes, targets, first_layer, last_layer;
	uint32_t norm_part, norm_median, span_part, flags; /* 1: low confidence */
	uint64_t answer_tokens;
	double energy;
	uint32_t parts, values, payees, examples;
	uint32_t vocab, token_bytes, span_tokens, zero;
	uint64_t file_bytes;
	struct ol_index_place sections[OL_INDEX_SECTIONS];
	uint8_t roots[OL_INDEX_SECTIONS][OL_SHA256_BYTES]; /* of the sections */
	uint8_t root[OL_SHA256_BYTES]; /* of the bytes before `roots`, then of the roots */
	uint8_t rest[64];              /* zero */
};
_Static_assert(sizeof(struct ol_index_header) == 1024, "index header, version 1");
_Static_assert(offsetof(struct ol_index_header, seed) == 144, "index header, version 1");
_Static_assert(offsetof(struct ol_index_header, sections) == 256, "index header, version 1");
_Static_assert(offsetof(struct ol_index_header, roots) == 480, "index header, version 1");

struct ol_index_part_record {
	int32_t layer, linear, outputs, rank, kept;
	float scale;
};
_Static_assert(sizeof(struct ol_index_part_record) == 24, "index parts, version 1");

struct ol_index_payee_record {
	uint8_t id[OL_PAYEE_BYTES];
	uint32_t name_at, examples, clusters, zero;
};
_Static_assert(sizeof(struct ol_index_payee_record) == 48, "index payees, version 1");

struct ol_index_example_record {
	uint32_t id_at, payee, cluster, tokens, answer_tokens;
	float clip;
	uint64_t zero;
};
_Static_assert(sizeof(struct ol_index_example_record) == 32, "index examples, version 1");

extern const char ol_index_magic[8];
enum { OL_INDEX_LOW_CONFIDENCE = 1 };

/* Bytes of a leaf of a section's tree. */
size_t ol_index_leaf(const struct ol_index_header *header, enum ol_index_section section);
/* A section's root, of bytes in memory; the empty tree's for none. */
void ol_index_section_root(uint8_t out[OL_SHA256_BYTES], const uint8_t *bytes, size_t size,
			   size_t leaf);
/* The file's, of its header. */
void ol_index_file_root(uint8_t out[OL_SHA256_BYTES], const struct ol_index_header *header);
/* Offsets and the file's size from the sections' bytes. */
void ol_index_lay_out(struct ol_index_header *header);

#endif
