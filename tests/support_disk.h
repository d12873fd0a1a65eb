/* tests/support_disk.h: a disk in memory that does what disks do when the power goes: it loses,
 * keeps, tears, reorders and soils what was not synced, in pieces of 512 bytes; and it fails at any
 * call that a test names. What was synced, it keeps. */
#ifndef OL_TESTS_SUPPORT_DISK_H
#define OL_TESTS_SUPPORT_DISK_H

#include "base/disk.h"
#include "tests/support.h"

enum ol_sim_fault {
	OL_SIM_EIO,    /* the call fails; of a write or a sync, any part may have happened       */
	OL_SIM_ENOSPC, /* the same for calls that want room; others do as they are told          */
	OL_SIM_CUT     /* the machine stops in the middle of the call: all later ones fail too   */
};

struct ol_sim_disk;

struct ol_sim_disk *ol_sim_disk_open(uint64_t seed);
void ol_sim_disk_close(struct ol_sim_disk *sim);
struct ol_disk ol_sim_disk_table(struct ol_sim_disk *sim);
/* An independent copy of what is seen now, all of it durable. */
struct ol_sim_disk *ol_sim_disk_copy(const struct ol_sim_disk *sim, uint64_t seed);

/* The n-th call from now (1: the next one) gets the fault. 0: none. */
void ol_sim_disk_fault(struct ol_sim_disk *sim, uint64_t n, enum ol_sim_fault fault);
uint64_t ol_sim_disk_calls(const struct ol_sim_disk *sim); /* since it was opened */
/* Power off and on: unsynced things meet their fate, handles and locks are gone. */
void ol_sim_disk_crash(struct ol_sim_disk *sim);
/* The process dies, the machine does not: handles and locks are gone, the cache is not. */
void ol_sim_disk_kill(struct ol_sim_disk *sim);

/* Files as they are seen now, for tests that damage them. NULL at the end. */
const char *ol_sim_disk_name(const struct ol_sim_disk *sim, int index);
/* Of a name that ends so; the size, and the bytes themselves. */
uint8_t *ol_sim_disk_bytes(struct ol_sim_disk *sim, const char *name, size_t *size_out);
/* Puts a file of these bytes in the place of the name, durably. */
void ol_sim_disk_put(struct ol_sim_disk *sim, const char *name, const uint8_t *bytes, size_t size);

#endif
