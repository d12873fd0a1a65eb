#include "node/idempotency_index.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

/* ---- Kept answers ---- */

static size_t home_of(const struct kept_index *index, const uint8_t id[OL_SHA256_BYTES])
{
	return (size_t)ol_load_u64(id) & (index->room - 1);
}

struct kept_entry *kept_find(const struct kept_index *index, const uint8_t id[OL_SHA256_BYTES])
{
	if (index->room == 0)
		return NULL;
	for (size_t i = home_of(index, id); index->entries[i].used; i = (i + 1) & (index->room - 1))
		if (memcmp(index->entries[i].id, id, OL_SHA256_BYTES) == 0)
			return &index->entries[i];
	return NULL;
}

static void place(struct kept_index *index, const struct kept_entry *entry)
{
	size_t i = home_of(index, entry->id);
	while (index->entries[i].used)
		i = (i + 1) & (index->room - 1);
	index->entries[i] = *entry;
	index->entries[i].used = true;
	index->count++;
}

bool kept_put(struct kept_index *index, const struct kept_entry *entry)
{
	if (4 * (index->count + 1) > 3 * index->room) {
		struct kept_index grown = {.room = OL_MAX(2 * index->room, (size_t)64)};
		grown.entries = calloc(grown.room, sizeof *grown.entries);
		if (!grown.entries)
			return false;
		for (size_t i = 0; i < index->room; i++)
			if (index->entries[i].used)
				place(&grown, &index->entries[i]);
		free(index->entries);
		*index = grown;
	}
	place(index, entry);
	return true;
}

/* Those behind it that could not lie at their home move up: no marks of the dead. */
void kept_remove(struct kept_index *index, struct kept_entry *entry)
{
	const size_t mask = index->room - 1;
	size_t hole = (size_t)(entry - index->entries);
	index->count--;
	for (size_t i = (hole + 1) & mask; index->entries[i].used; i = (i + 1) & mask) {
		const size_t home = home_of(index, index->entries[i].id);
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		index->entries[hole] = index->entries[i];
		hole = i;
	}
	index->entries[hole].used = false;
}

void kept_release(struct kept_index *index)
{
	free(index->entries);
	*index = (struct kept_index){0};
}

/* ---- Accounts ---- */

static struct kept_account *slot_of(const struct kept_accounts *accounts, uint64_t account)
{
	size_t i = (size_t)account & (accounts->room - 1);
	while (accounts->at[i].bytes != 0 && accounts->at[i].account != account)
		i = (i + 1) & (accounts->room - 1);
	return &accounts->at[i];
}

uint64_t accounts_get(const struct kept_accounts *accounts, uint64_t account)
{
	return accounts->room == 0 ? 0 : slot_of(accounts, account)->bytes;
}

static void accounts_place(struct kept_accounts *accounts, uint64_t account, uint64_t bytes)
{
	struct kept_account *slot = slot_of(accounts, account);
	accounts->count += slot->bytes == 0;
	slot->account = account;
	slot->bytes += bytes;
}

bool accounts_add(struct kept_accounts *accounts, uint64_t account, uint64_t bytes)
{
	if (bytes == 0)
		return true;
	if (4 * (accounts->count + 1) > 3 * accounts->room) {
		struct kept_accounts grown = {.room = OL_MAX(2 * accounts->room, (size_t)64)};
		grown.at = calloc(grown.room, sizeof *grown.at);
		if (!grown.at)
			return false;
		for (size_t i = 0; i < accounts->room; i++)
			if (accounts->at[i].bytes != 0)
				accounts_place(&grown, accounts->at[i].account,
					       accounts->at[i].bytes);
		free(accounts->at);
		*accounts = grown;
	}
	accounts_place(accounts, account, bytes);
	return true;
}

void accounts_take(struct kept_accounts *accounts, uint64_t account, uint64_t bytes)
{
	if (bytes == 0)
		return;
	const size_t mask = accounts->room - 1;
	struct kept_account *slot = slot_of(accounts, account);
	OL_ASSERT(slot->bytes >= bytes);
	slot->bytes -= bytes;
	if (slot->bytes != 0)
		return;
	accounts->count--;
	size_t hole = (size_t)(slot - accounts->at);
	for (size_t i = (hole + 1) & mask; accounts->at[i].bytes != 0; i = (i + 1) & mask) {
		const size_t home = (size_t)accounts->at[i].account & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		accounts->at[hole] = accounts->at[i];
		accounts->at[i].bytes = 0;
		hole = i;
	}
}

void accounts_release(struct kept_accounts *accounts)
{
	free(accounts->at);
	*accounts = (struct kept_accounts){0};
}
