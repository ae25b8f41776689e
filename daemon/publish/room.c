/* Room on the disk. */
#include "daemon/publish/room.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/param.h>
#include <sys/resource.h>

#define SHARE_KEPT  (UINT64_C(64) << 20) /* some hundred small uploads */
#define NEARLY_FULL (UINT64_C(16) << 20) /* below it the disk is to blame; as in lib/store/lmdb */

bool room_fits(const struct room_claim *claim)
{
    return claim->free >= claim->needed + claim->promised + claim->reserve;
}

enum cap_error room_refuse(const struct room_claim *claim, enum cap_error error,
                           struct judgement *ret_judgement)
{
    uint64_t taken = claim->reserve + claim->promised;
    judgement_lack(ret_judgement, claim->needed, claim->free - MIN(taken, claim->free), "");
    if (error == CAP_E_MAP_FULL) {
        return judgement_say(ret_judgement, error,
                             "the upload needs %" PRIu64
                             " bytes %s, whose map has room for %" PRIu64
                             "; raise map-size, then retry",
                             claim->needed, claim->where, claim->free);
    }
    return judgement_say(ret_judgement, error,
                         "the upload needs %" PRIu64 " bytes of disk, %s; free are %" PRIu64
                         ", of which disk-reserve keeps %" PRIu64
                         " and other uploads need %" PRIu64,
                         claim->needed, claim->where, claim->free, claim->reserve, claim->promised);
}

const char *room_full_text(uint64_t disk_free, char buffer[ROOM_FULL_SIZE])
{
    struct rlimit limit;
    if (disk_free < NEARLY_FULL || getrlimit(RLIMIT_FSIZE, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY) {
        return cap_error_text(CAP_E_DISK_FULL);
    }
    (void)snprintf(buffer, ROOM_FULL_SIZE,
                   "a file met the limit of %" PRIu64
                   " bytes that the daemon has; raise it (ulimit -f, LimitFSIZE=)",
                   (uint64_t)limit.rlim_cur);
    return buffer;
}

enum cap_error room_refresh(struct room *room, const struct env *env, const char *spool_dir,
                            const char *store_dir, struct cap_store *store, uint64_t enough)
{
    uint64_t spooled = atomic_load(&room->spooled);
    uint64_t spool_disk = 0;
    uint64_t store_disk = 0;
    struct cap_space space = {0};
    enum cap_error error = env->disk_free(env->ctx, spool_dir, &spool_disk);
    if (error == CAP_OK) {
        error = env->disk_free(env->ctx, store_dir, &store_disk);
    }
    /* One file system, as a rule; of two, the fuller one bounds both. */
    uint64_t disk = MIN(spool_disk, store_disk);
    if (error == CAP_OK && disk < enough) {
        error = cap_store_space(store, &space);
    }
    if (error != CAP_OK) {
        return error;
    }
    atomic_store(&room->disk_free, disk);
    atomic_store(&room->store_free, space.free_bytes);
    atomic_store(&room->spooled_then, spooled);
    return CAP_OK;
}

/*
 * What one peer's uploads may take of `disk`, the bytes that there would be if no spool had been
 * written: not all that the others leave.
 */
static uint64_t share_of(uint64_t disk, const struct room_ask *ask)
{
    uint64_t others = ask->reserve + 2 * (ask->reserved - MIN(ask->own, ask->reserved));
    uint64_t left = disk > others ? disk - others : 0;
    return left - MIN(left / 4, SHARE_KEPT);
}

enum cap_error room_check(const struct room *room, const struct room_ask *ask,
                          struct judgement *ret_judgement)
{
    uint64_t disk = atomic_load(&room->disk_free) + ask->parked;
    uint64_t in_store = ask->len + ask->reserved;
    uint64_t reusable = atomic_load(&room->store_free);
    if (ask->in_memory && reusable >= in_store) {
        return CAP_OK; /* takes nothing of the disk, however full that is */
    }
    uint64_t reused = MIN(reusable, in_store);
    uint64_t spooled = atomic_load(&room->spooled_then);
    const struct room_claim claim = {
        .needed = 2 * ask->len,
        .where = "in spool and store",
        .free = disk + reused,
        .reserve = ask->reserve,
        .promised = 2 * ask->reserved - MIN(spooled, ask->reserved),
    };
    if (!room_fits(&claim)) {
        return room_refuse(&claim, CAP_E_DISK_FULL, ret_judgement);
    }
    uint64_t share = share_of(claim.free + MIN(spooled, ask->reserved), ask);
    uint64_t needed = claim.needed + 2 * ask->own;
    if (needed > share) {
        judgement_lack(ret_judgement, needed, share, "");
        return judgement_say(ret_judgement, CAP_E_DISK_FULL,
                             "the disk is nearly full: with this upload the client's would need "
                             "%" PRIu64 " bytes of it, %s; of what is left it may have %" PRIu64
                             ", the rest is for other clients",
                             needed, claim.where, share);
    }
    return CAP_OK;
}
