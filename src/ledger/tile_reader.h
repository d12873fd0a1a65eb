/* ledger/tile_reader.h, floor 2: hashes, proofs and entries out of the public files of a log, from
 * wherever they come (ledger/log_store.h). Nothing here trusts them: what the functions give must
 * be held against the root of a checkpoint, and those with a root do it themselves.
 *
 * A reader belongs to one thread and to one tree size; it keeps the tiles it has seen. */
#ifndef OL_LEDGER_TILE_READER_H
#define OL_LEDGER_TILE_READER_H

#include "ledger/log_store.h"
#include "ledger/proof.h"
#include "ledger/tile.h"

struct ol_tile_reader;

/* Reads the tiles of a log of so many entries. The source's self is borrowed. NULL: no memory. */
OL_MUST_CHECK struct ol_tile_reader *ol_tile_reader_open(const struct ol_log_source *source,
							 uint64_t size);
void ol_tile_reader_close(struct ol_tile_reader *reader);
/* As ol_tree_root, ol_inclusion_prove and ol_consistency_prove take it; lives as long as reader. */
struct ol_tree ol_tile_reader_tree(struct ol_tile_reader *reader);

/* The proof that the entry of this leaf hash has this index under this root of the reader's size.
 * INPUT: it does not: the tiles are wrong, or it is another entry. */
OL_MUST_CHECK enum ol_status ol_tile_reader_inclusion(
	struct ol_tile_reader *reader, struct ol_proof *proof, const uint8_t leaf[OL_MERKLE_BYTES],
	uint64_t index, const uint8_t root[OL_MERKLE_BYTES], struct ol_error *err);
/* The proof that the tree of old_size entries with old_root is the beginning of the reader's one
 * with root. INPUT: the tiles do not show it. */
OL_MUST_CHECK enum ol_status ol_tile_reader_consistency(struct ol_tile_reader *reader,
							struct ol_proof *proof, uint64_t old_size,
							const uint8_t old_root[OL_MERKLE_BYTES],
							const uint8_t root[OL_MERKLE_BYTES],
							struct ol_error *err);

/* The bundle that holds this index, appended to out (max at least OL_BUNDLE_BYTES_MAX), whole or as
 * far as the reader's size goes. */
OL_MUST_CHECK enum ol_status ol_tile_reader_bundle(struct ol_tile_reader *reader,
						   struct ol_buf *out, uint64_t index,
						   struct ol_error *err);

/* Walks the entries of a bundle. Begin with {data, size, 0}. */
struct ol_bundle {
	const uint8_t *bytes;
	size_t size, offset;
};
/* The next entry; false at the end, and where the bytes are no entry (offset < size then). */
OL_MUST_CHECK bool ol_bundle_next(struct ol_bundle *bundle, const uint8_t **entry_out,
				  size_t *size_out);

/* One entry, appended to out, held against the reader's tile but not against a root: the caller
 * proves its inclusion. leaf_out (may be NULL) is its hash. */
OL_MUST_CHECK enum ol_status ol_tile_reader_entry(struct ol_tile_reader *reader, struct ol_buf *out,
						  uint8_t leaf_out[OL_MERKLE_BYTES], uint64_t index,
						  struct ol_error *err);

#endif
