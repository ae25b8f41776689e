/*
 * Room on the disk for uploads, by figures that a worker refreshes: asking the file system may
 * block, which a loop must not.
 *
 * An upload needs its bytes twice, in the spool and in the store. Of the uploads in flight, what
 * their spools have on the disk is counted there, and not once more; what is still to come is
 * promised to them, and so is what is staged of them ahead of its admission: a figure that is too
 * high for a moment refuses early, and never lets too much in. The store may use its free pages.
 *
 * Near a full disk one peer's large uploads would take all that is left, and those of others be
 * refused. So of what the other peers leave, a quarter, or 64 MiB if that is less, is not for one
 * peer alone.
 */
#ifndef DAEMON_PUBLISH_ROOM_H
#define DAEMON_PUBLISH_ROOM_H

#include <stdatomic.h>

#include "daemon/core/env.h"
#include "daemon/publish/caps.h"
#include "lib/store/store.h"

/* What is to be written and what there is for it, in bytes. */
struct room_claim {
    uint64_t needed;
    const char *where; /* that is: "in the store" */
    uint64_t free; /* on the disk, and in the store's free pages; of CAP_E_MAP_FULL: in its map */
    uint64_t reserve;  /* stay free: option disk-reserve */
    uint64_t promised; /* to other uploads */
};

/* Whether there is room for it. Any thread. */
bool room_fits(const struct room_claim *claim);

/* Says to the client, and to operators, why there is not: CAP_E_DISK_FULL or CAP_E_MAP_FULL, which
 * is returned. */
enum cap_error room_refuse(const struct room_claim *claim, enum cap_error error,
                           struct judgement *ret_judgement);

#define ROOM_FULL_SIZE 160

/*
 * CAP_E_DISK_FULL in words, of a write that failed: with `disk_free` bytes free it may not be the
 * disk that is full, but a file that met the limit of the process (`ulimit -f`). Returns the text,
 * which may lie in the buffer. Any thread.
 */
const char *room_full_text(uint64_t disk_free, char buffer[ROOM_FULL_SIZE]);

/* Shared by all loops. Any thread. */
struct room {
    atomic_uint_fast64_t disk_free;    /* bytes, when last refreshed */
    atomic_uint_fast64_t store_free;   /* bytes in free pages of the store, at that time, or 0 */
    atomic_uint_fast64_t spooled_then; /* bytes in spool files, at that time */
    atomic_uint_fast64_t spooled;      /* bytes in spool files now */
};

/* One question. */
struct room_ask {
    uint64_t len;      /* of the upload */
    uint64_t reserved; /* declared lengths of all uploads in flight, without this one */
    uint64_t own;      /* of these, the peer's own */
    uint64_t reserve;  /* bytes that stay free: option disk-reserve */
    bool in_memory;    /* it is spooled there */
    uint64_t parked;   /* bytes of uploads that were cut off, to be dropped for it */
};

/*
 * Asks the file systems and the store; blocks. The figures stay as they are if that fails. The
 * store's free pages, which take a walk of its free list, are counted only where less than `enough`
 * bytes of disk are free: with so much no upload needs them.
 */
enum cap_error room_refresh(struct room *room, const struct env *env, const char *spool_dir,
                            const char *store_dir, struct cap_store *store, uint64_t enough);

/* Whether the upload has room. CAP_E_DISK_FULL, and the judgement says why. */
enum cap_error room_check(const struct room *room, const struct room_ask *ask,
                          struct judgement *ret_judgement);

#endif
