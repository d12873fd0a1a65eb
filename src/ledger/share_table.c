#include "ledger/share_table.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 1 };

void ol_share_table_begin(struct ol_share_head *head, enum ol_confidence confidence, uint32_t rows)
{
	memset(head, 0, sizeof *head);
	memcpy(head->magic, "OLSH", sizeof head->magic);
	head->version = VERSION;
	head->confidence = (uint16_t)confidence;
	head->rows = rows;
}

static int by_account(const void *a, const void *b)
{
	return memcmp(&((const struct ol_share_row *)a)->account,
		      &((const struct ol_share_row *)b)->account, sizeof(struct ol_account_key));
}

void ol_share_table_write(struct ol_buf *bytes, const struct ol_share_head *head,
			  struct ol_share_row *rows)
{
	OL_ASSERT(head->rows <= OL_SHARE_ROWS_MAX);
	if (head->rows > 0)
		qsort(rows, head->rows, sizeof *rows, by_account);
	ol_buf_append(bytes, head, sizeof *head);
	ol_buf_append(bytes, rows, head->rows * sizeof *rows);
}

enum ol_share_fault ol_share_table_read(const struct ol_share_head **head_out,
					const struct ol_share_row **rows_out, uint32_t *row_out,
					const uint8_t *bytes, size_t size)
{
	const struct ol_share_head *head = (const void *)bytes;
	const struct ol_share_row *rows;
	uint64_t sum = 0;

	*row_out = 0;
	if (size < sizeof *head)
		return OL_SHARE_SIZE;
	if (memcmp(head->magic, "OLSH", sizeof head->magic) != 0 || head->version != VERSION ||
	    head->confidence > OL_CONFIDENCE_MEASURED || head->zero != 0)
		return OL_SHARE_KIND;
	if (head->rows > OL_SHARE_ROWS_MAX || size != sizeof *head + head->rows * sizeof *rows)
		return OL_SHARE_SIZE;
	rows = (const void *)(bytes + sizeof *head);
	for (uint32_t i = 0; i < head->rows; i++) {
		*row_out = i;
		if ((i > 0 && by_account(&rows[i - 1], &rows[i]) >= 0) || rows[i].zero != 0)
			return OL_SHARE_ORDER;
		if (rows[i].ppb > 0 && rows[i].score <= 0)
			return OL_SHARE_SIGN;
		sum += rows[i].ppb;
	}
	if (sum != OL_PPB && sum != 0)
		return OL_SHARE_SUM;
	*head_out = head;
	*rows_out = rows;
	return OL_SHARE_WELL;
}

void ol_share_table_root(uint8_t root[32], const struct ol_share_head *head,
			 const struct ol_share_row *rows)
{
	struct ol_merkle tree;
	uint8_t leaf[OL_MERKLE_BYTES];

	ol_merkle_init(&tree);
	ol_merkle_leaf(leaf, head, sizeof *head);
	ol_merkle_add(&tree, leaf);
	for (uint32_t i = 0; i < head->rows; i++) {
		ol_merkle_leaf(leaf, &rows[i], sizeof rows[i]);
		ol_merkle_add(&tree, leaf);
	}
	ol_merkle_root(&tree, root);
}

const char *ol_share_fault_text(enum ol_share_fault fault)
{
	switch (fault) {
	case OL_SHARE_WELL: return "well-formed";
	case OL_SHARE_SIZE: return "its length is not that of a share table";
	case OL_SHARE_KIND: return "it is not a share table of a version that this program knows";
	case OL_SHARE_ORDER: return "its rows do not ascend by account";
	case OL_SHARE_SUM: return "its shares are not a billion together";
	case OL_SHARE_SIGN: return "a payee has a share without a positive score";
	}
	OL_UNREACHABLE();
}
