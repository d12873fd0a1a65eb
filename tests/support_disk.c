#include "tests/support_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SECTOR = 512, NAMES_MAX = 64, HANDLES_MAX = 16, OPS_MAX = 256 };

enum sector_state {
	CLEAN,
	DIRTY, /* written, not synced */
	LOST   /* a sync failed: seen, but never to be on the disk */
};

struct inode {
	uint8_t *seen, *durable; /* room bytes each */
	uint8_t *state;          /* of each sector  */
	size_t room, seen_size, durable_size;
	int references; /* names seen and durable, operations, handles */
};

struct entry {
	char name[OL_DISK_NAME_MAX];
	struct inode *inode;
};

enum op_kind { OP_CREATE, OP_RENAME, OP_REMOVE };

struct op {
	enum op_kind kind;
	char name[OL_DISK_NAME_MAX], to[OL_DISK_NAME_MAX];
	struct inode *inode;
};

struct folder {
	struct entry entries[NAMES_MAX];
	int count;
};

struct handle {
	struct inode *inode;
	bool lock;
};

struct ol_sim_disk {
	struct ol_dice dice;
	struct folder seen, durable;
	struct op ops[OPS_MAX]; /* since the last sync_dir */
	int op_count;
	struct handle handles[HANDLES_MAX];
	uint64_t calls, fault_at;
	enum ol_sim_fault fault;
	bool dead;
};

/* ---- Files ------------------------------------------------------------ */

static void unref(struct inode *inode)
{
	if (--inode->references > 0)
		return;
	free(inode->seen);
	free(inode->durable);
	free(inode->state);
	free(inode);
}

static struct inode *ref(struct inode *inode)
{
	inode->references++;
	return inode;
}

static void make_room(struct inode *inode, size_t size)
{
	if (size <= inode->room)
		return;
	const size_t room = (OL_MAX(size, 2 * inode->room) + SECTOR - 1) / SECTOR * SECTOR;
	inode->seen = realloc(inode->seen, room);
	inode->durable = realloc(inode->durable, room);
	inode->state = realloc(inode->state, room / SECTOR);
	assert_true(inode->seen && inode->durable && inode->state);
	memset(inode->seen + inode->room, 0, room - inode->room);
	memset(inode->durable + inode->room, 0, room - inode->room);
	memset(inode->state + inode->room / SECTOR, CLEAN, (room - inode->room) / SECTOR);
	inode->room = room;
}

static void write_seen(struct inode *inode, const void *bytes, size_t size, uint64_t offset)
{
	if (size == 0)
		return;
	make_room(inode, (size_t)offset + size);
	memcpy(inode->seen + offset, bytes, size);
	for (size_t i = (size_t)offset / SECTOR; i <= ((size_t)offset + size - 1) / SECTOR; i++)
		inode->state[i] = DIRTY;
	inode->seen_size = OL_MAX(inode->seen_size, (size_t)offset + size);
}

static size_t sectors_of(const struct inode *inode)
{
	return (OL_MAX(inode->seen_size, inode->durable_size) + SECTOR - 1) / SECTOR;
}

/* ---- Folders ------------------------------------------------------------ */

static struct entry *find(struct folder *folder, const char *name)
{
	for (int i = 0; i < folder->count; i++)
		if (strcmp(folder->entries[i].name, name) == 0)
			return &folder->entries[i];
	return NULL;
}

static void unlink_name(struct folder *folder, const char *name)
{
	struct entry *entry = find(folder, name);
	if (!entry)
		return;
	unref(entry->inode);
	*entry = folder->entries[--folder->count];
}

static void link_name(struct folder *folder, const char *name, struct inode *inode)
{
	ref(inode);
	unlink_name(folder, name);
	assert_true(folder->count < NAMES_MAX);
	struct entry *entry = &folder->entries[folder->count++];
	snprintf(entry->name, sizeof entry->name, "%s", name);
	entry->inode = inode;
}

static void apply_op(struct folder *folder, const struct op *op)
{
	struct entry *from = find(folder, op->name);
	switch (op->kind) {
	case OP_CREATE: link_name(folder, op->name, op->inode); break;
	case OP_RENAME:
		if (from) {
			struct inode *inode = ref(from->inode);
			unlink_name(folder, op->name);
			link_name(folder, op->to, inode);
			unref(inode);
		}
		break;
	case OP_REMOVE: unlink_name(folder, op->name); break;
	}
}

static void note_op(struct ol_sim_disk *sim, enum op_kind kind, const char *name, const char *to,
		    struct inode *inode)
{
	assert_true(sim->op_count < OPS_MAX);
	struct op *op = &sim->ops[sim->op_count++];
	*op = (struct op){.kind = kind, .inode = inode};
	snprintf(op->name, sizeof op->name, "%s", name);
	snprintf(op->to, sizeof op->to, "%s", to ? to : "");
	if (inode)
		ref(inode);
	apply_op(&sim->seen, op);
}

static void forget_ops(struct ol_sim_disk *sim)
{
	for (int i = 0; i < sim->op_count; i++)
		if (sim->ops[i].inode)
			unref(sim->ops[i].inode);
	sim->op_count = 0;
}

/* ---- Faults ------------------------------------------------------------ */

enum mishap { NONE, FAIL, FULL };

/* Every call comes through here. */
static enum mishap tick(struct ol_sim_disk *sim, bool wants_room)
{
	sim->calls++;
	if (sim->dead)
		return FAIL;
	if (sim->fault_at == 0 || --sim->fault_at > 0)
		return NONE;
	if (sim->fault == OL_SIM_ENOSPC)
		return wants_room ? FULL : NONE;
	sim->dead = sim->fault == OL_SIM_CUT;
	return FAIL;
}

static enum ol_status fail_with(struct ol_error *err, enum mishap mishap, const char *verb)
{
	return ol_fail(err, mishap == FULL ? OL_ERR_FULL : OL_ERR_IO, "cannot %s: %s", verb,
		       mishap == FULL ? "no space left (simulated)" : "I/O error (simulated)");
}

static size_t some(struct ol_sim_disk *sim, size_t size)
{
	return (size_t)(ol_dice_next(&sim->dice) % (size + 1));
}

/* ---- The table ------------------------------------------------------------ */

static struct inode *inode_of(struct ol_sim_disk *sim, int file)
{
	assert_true(file >= 0 && file < HANDLES_MAX && sim->handles[file].inode);
	return sim->handles[file].inode;
}

static int new_handle(struct ol_sim_disk *sim, struct inode *inode, bool lock)
{
	for (int i = 0; i < HANDLES_MAX; i++)
		if (!sim->handles[i].inode) {
			sim->handles[i] = (struct handle){ref(inode), lock};
			return i;
		}
	fail_msg("more than %d files open", HANDLES_MAX);
	return -1;
}

static struct inode *create(struct ol_sim_disk *sim, const char *name)
{
	struct inode *inode = calloc(1, sizeof *inode);
	assert_non_null(inode);
	ref(inode);
	note_op(sim, OP_CREATE, name, NULL, inode);
	unref(inode);
	return inode;
}

static enum ol_status sim_open(void *self, int *file_out, const char *name, enum ol_disk_open how,
			       struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum mishap mishap = tick(sim, how == OL_DISK_CREATE);
	if (mishap != NONE)
		return fail_with(err, mishap, "open");
	const struct entry *entry = find(&sim->seen, name);
	if (!entry && how != OL_DISK_CREATE)
		return ol_fail(err, OL_ERR_NOT_FOUND, "cannot open %s: there is none", name);
	if (entry && how == OL_DISK_CREATE)
		return ol_fail(err, OL_ERR_IO, "cannot create %s: it exists", name);
	*file_out = new_handle(sim, entry ? entry->inode : create(sim, name), false);
	return OL_OK;
}

static void sim_close(void *self, int file)
{
	struct ol_sim_disk *sim = self;
	unref(inode_of(sim, file));
	sim->handles[file] = (struct handle){0};
}

static enum ol_status sim_read(void *self, int file, size_t *got_out, void *bytes, size_t size,
			       uint64_t offset, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const struct inode *inode = inode_of(sim, file);
	const enum mishap mishap = tick(sim, false);
	if (mishap != NONE)
		return fail_with(err, mishap, "read");
	*got_out = offset >= inode->seen_size ? 0 : OL_MIN(size, inode->seen_size - offset);
	if (*got_out > 0)
		memcpy(bytes, inode->seen + offset, *got_out);
	return OL_OK;
}

static enum ol_status sim_write(void *self, int file, const void *bytes, size_t size,
				uint64_t offset, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	struct inode *inode = inode_of(sim, file);
	const bool was_dead = sim->dead;
	const enum mishap mishap = tick(sim, true);
	if (mishap != NONE) {
		if (!was_dead)
			write_seen(inode, bytes, some(sim, size), offset);
		return fail_with(err, mishap, "write");
	}
	write_seen(inode, bytes, size, offset);
	return OL_OK;
}

static void persist(struct inode *inode, size_t sector)
{
	memcpy(inode->durable + sector * SECTOR, inode->seen + sector * SECTOR, SECTOR);
	inode->state[sector] = CLEAN;
}

static enum ol_status sim_sync(void *self, int file, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	struct inode *inode = inode_of(sim, file);
	const bool was_dead = sim->dead;
	const enum mishap mishap = tick(sim, true);
	if (was_dead)
		return fail_with(err, mishap, "sync");
	for (size_t i = 0; i < sectors_of(inode); i++) {
		if (inode->state[i] != DIRTY)
			continue;
		if (mishap == NONE || some(sim, 1))
			persist(inode, i);
		else if (!sim->dead) /* the kernel says so once, then takes the page for clean */
			inode->state[i] = LOST;
	}
	if (mishap == NONE || some(sim, 1))
		inode->durable_size = inode->seen_size;
	return mishap == NONE ? OL_OK : fail_with(err, mishap, "sync");
}

static void drop_lost(struct inode *inode)
{
	for (size_t i = 0; i < inode->room / SECTOR; i++)
		if (inode->state[i] == LOST) {
			memcpy(inode->seen + i * SECTOR, inode->durable + i * SECTOR, SECTOR);
			inode->state[i] = CLEAN;
		}
}

static enum ol_status sim_settle(void *self, int file, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum ol_status s = sim_sync(self, file, err);
	if (s == OL_OK)
		drop_lost(inode_of(sim, file));
	return s;
}

static enum ol_status sim_size(void *self, int file, uint64_t *size_out, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum mishap mishap = tick(sim, false);
	if (mishap != NONE)
		return fail_with(err, mishap, "ask the size");
	*size_out = inode_of(sim, file)->seen_size;
	return OL_OK;
}

static enum ol_status sim_allocate(void *self, int file, uint64_t size, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	struct inode *inode = inode_of(sim, file);
	const enum mishap mishap = tick(sim, true);
	if (mishap != NONE)
		return fail_with(err, mishap, "allocate");
	make_room(inode, (size_t)size);
	inode->seen_size = OL_MAX(inode->seen_size, (size_t)size);
	return OL_OK;
}

static enum ol_status sim_truncate(void *self, int file, uint64_t size, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	struct inode *inode = inode_of(sim, file);
	const enum mishap mishap = tick(sim, false);
	if (mishap != NONE)
		return fail_with(err, mishap, "truncate");
	make_room(inode, (size_t)size);
	/* What is cut off reads as zero if the file grows again, now and after a sync. */
	for (size_t at = (size_t)size; at < inode->seen_size;) {
		const size_t n = OL_MIN(SECTOR - at % SECTOR, inode->seen_size - at);
		memset(inode->seen + at, 0, n);
		inode->state[at / SECTOR] = DIRTY;
		at += n;
	}
	inode->seen_size = (size_t)size;
	return OL_OK;
}

static enum ol_status sim_rename(void *self, const char *from, const char *to, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const bool was_dead = sim->dead;
	const enum mishap mishap = tick(sim, true);
	if (mishap == NONE && !find(&sim->seen, from))
		return ol_fail(err, OL_ERR_NOT_FOUND, "cannot rename %s: there is none", from);
	if (mishap == NONE || (!was_dead && find(&sim->seen, from) && some(sim, 1)))
		note_op(sim, OP_RENAME, from, to, NULL);
	return mishap == NONE ? OL_OK : fail_with(err, mishap, "rename");
}

static enum ol_status sim_remove(void *self, const char *name, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum mishap mishap = tick(sim, false);
	if (mishap != NONE)
		return fail_with(err, mishap, "remove");
	if (!find(&sim->seen, name))
		return ol_fail(err, OL_ERR_NOT_FOUND, "cannot remove %s: there is none", name);
	note_op(sim, OP_REMOVE, name, NULL, NULL);
	return OL_OK;
}

static enum ol_status sim_list(void *self, void (*visit)(void *context, const char *name),
			       void *context, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum mishap mishap = tick(sim, false);
	if (mishap != NONE)
		return fail_with(err, mishap, "list");
	for (int i = 0; i < sim->seen.count; i++)
		visit(context, sim->seen.entries[i].name);
	return OL_OK;
}

static enum ol_status sim_sync_dir(void *self, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum mishap mishap = tick(sim, true);
	if (mishap != NONE)
		return fail_with(err, mishap, "sync the folder");
	for (int i = 0; i < sim->op_count; i++)
		apply_op(&sim->durable, &sim->ops[i]);
	forget_ops(sim);
	return OL_OK;
}

static enum ol_status sim_lock(void *self, int *file_out, const char *name, struct ol_error *err)
{
	struct ol_sim_disk *sim = self;
	const enum mishap mishap = tick(sim, true);
	if (mishap != NONE)
		return fail_with(err, mishap, "lock");
	const struct entry *entry = find(&sim->seen, name);
	struct inode *inode = entry ? entry->inode : create(sim, name);
	for (int i = 0; i < HANDLES_MAX; i++)
		if (sim->handles[i].inode == inode && sim->handles[i].lock)
			return ol_fail(err, OL_ERR_IO, "somebody else has the lock");
	*file_out = new_handle(sim, inode, true);
	return OL_OK;
}

struct ol_disk ol_sim_disk_table(struct ol_sim_disk *sim)
{
	return (struct ol_disk){.self = sim,
				.open = sim_open,
				.close = sim_close,
				.read = sim_read,
				.write = sim_write,
				.sync = sim_sync,
				.settle = sim_settle,
				.size = sim_size,
				.allocate = sim_allocate,
				.truncate = sim_truncate,
				.rename = sim_rename,
				.remove = sim_remove,
				.list = sim_list,
				.sync_dir = sim_sync_dir,
				.lock = sim_lock};
}

/* ---- Fate ------------------------------------------------------------ */

enum fate { DROPPED, KEPT, EITHER, TORN, SOILED, FATES };

static void soil(struct ol_sim_disk *sim, uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)ol_dice_next(&sim->dice);
}

/* TORN: a prefix of the unsynced sectors arrived, and one of them in part. */
static void meet_fate(struct ol_sim_disk *sim, struct inode *inode, enum fate fate)
{
	const size_t sectors = sectors_of(inode);
	size_t dirty = 0, arrived;
	for (size_t i = 0; i < sectors; i++)
		dirty += inode->state[i] == DIRTY;
	arrived = some(sim, dirty);
	for (size_t i = 0, n = 0; i < sectors; i++) {
		uint8_t *durable = inode->durable + i * SECTOR;
		const uint8_t *seen = inode->seen + i * SECTOR;
		if (inode->state[i] != DIRTY)
			continue;
		switch (fate) {
		case DROPPED: break;
		case KEPT: persist(inode, i); break;
		case EITHER:
			if (some(sim, 1))
				persist(inode, i);
			break;
		case TORN:
			if (n < arrived)
				persist(inode, i);
			else if (n == arrived)
				memcpy(durable, seen, some(sim, SECTOR));
			break;
		case SOILED:
			if (some(sim, 1))
				persist(inode, i);
			else if (some(sim, 1))
				soil(sim, durable, SECTOR);
			break;
		case FATES: break;
		}
		n++;
	}
	if (fate == KEPT || (fate != DROPPED && some(sim, 1)))
		inode->durable_size = inode->seen_size;
}

static void wake(struct inode *inode)
{
	if (inode->room == 0)
		return;
	memset(inode->durable + inode->durable_size, 0, inode->room - inode->durable_size);
	memcpy(inode->seen, inode->durable, inode->room);
	memset(inode->state, CLEAN, inode->room / SECTOR);
	inode->seen_size = inode->durable_size;
}

void ol_sim_disk_kill(struct ol_sim_disk *sim)
{
	for (int i = 0; i < HANDLES_MAX; i++)
		if (sim->handles[i].inode)
			sim_close(sim, i);
	sim->dead = false;
	sim->fault_at = 0;
}

void ol_sim_disk_crash(struct ol_sim_disk *sim)
{
	const enum fate fate = (enum fate)(ol_dice_next(&sim->dice) % FATES);
	ol_sim_disk_kill(sim);
	/* Names: those before some operation, or any of them in order. */
	const size_t kept = some(sim, (size_t)sim->op_count);
	const bool any = some(sim, 3) == 0;
	for (int i = 0; i < sim->op_count; i++)
		if (any ? some(sim, 1) : (size_t)i < kept)
			apply_op(&sim->durable, &sim->ops[i]);
	forget_ops(sim);
	for (int i = 0; i < sim->durable.count; i++) {
		struct inode *inode = sim->durable.entries[i].inode;
		meet_fate(sim, inode, fate);
		wake(inode);
	}
	while (sim->seen.count > 0)
		unlink_name(&sim->seen, sim->seen.entries[0].name);
	for (int i = 0; i < sim->durable.count; i++)
		link_name(&sim->seen, sim->durable.entries[i].name, sim->durable.entries[i].inode);
}

/* ---- Life ------------------------------------------------------------ */

struct ol_sim_disk *ol_sim_disk_open(uint64_t seed)
{
	struct ol_sim_disk *sim = calloc(1, sizeof *sim);
	assert_non_null(sim);
	sim->dice.state = seed;
	return sim;
}

void ol_sim_disk_close(struct ol_sim_disk *sim)
{
	ol_sim_disk_kill(sim);
	forget_ops(sim);
	while (sim->seen.count > 0)
		unlink_name(&sim->seen, sim->seen.entries[0].name);
	while (sim->durable.count > 0)
		unlink_name(&sim->durable, sim->durable.entries[0].name);
	free(sim);
}

void ol_sim_disk_fault(struct ol_sim_disk *sim, uint64_t n, enum ol_sim_fault fault)
{
	sim->fault_at = n;
	sim->fault = fault;
}

uint64_t ol_sim_disk_calls(const struct ol_sim_disk *sim)
{
	return sim->calls;
}

const char *ol_sim_disk_name(const struct ol_sim_disk *sim, int index)
{
	return index < sim->seen.count ? sim->seen.entries[index].name : NULL;
}

uint8_t *ol_sim_disk_bytes(struct ol_sim_disk *sim, const char *name, size_t *size_out)
{
	const struct entry *entry = find(&sim->seen, name);
	assert_non_null(entry);
	*size_out = entry->inode->seen_size;
	return entry->inode->seen;
}

void ol_sim_disk_put(struct ol_sim_disk *sim, const char *name, const uint8_t *bytes, size_t size)
{
	unlink_name(&sim->seen, name);
	struct inode *inode = create(sim, name);
	write_seen(inode, bytes, size, 0);
	for (size_t i = 0; i < sectors_of(inode); i++)
		persist(inode, i);
	inode->durable_size = inode->seen_size;
	assert_int_equal(sim_sync_dir(sim, NULL), OL_OK);
}

struct ol_sim_disk *ol_sim_disk_copy(const struct ol_sim_disk *sim, uint64_t seed)
{
	struct ol_sim_disk *copy = ol_sim_disk_open(seed);
	for (int i = 0; i < sim->seen.count; i++) {
		const struct inode *inode = sim->seen.entries[i].inode;
		ol_sim_disk_put(copy, sim->seen.entries[i].name, inode->seen, inode->seen_size);
	}
	return copy;
}
