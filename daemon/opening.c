#include "daemon/opening.h"

#include <stdio.h>

#include "daemon/core/statedir.h"
#include "daemon/publish/room.h"

#define STORE_READERS_LOOP 256u /* half of the store's default; see store_readers */

/* Why a store does not open and what to do, where its errors mean more than elsewhere. */
static const char *store_problem(const struct context *context, enum cap_error error,
                                 char full[ROOM_FULL_SIZE])
{
    uint64_t disk_free = 0;
    const struct env *env = context->env;
    if (error == CAP_E_DISK_FULL) {
        (void)env->disk_free(env->ctx, context->statedir->store_dir, &disk_free);
        return room_full_text(disk_free, full);
    }
    if (error == CAP_E_IO) {
        return "input or output error; its files must be readable and writable for the user that "
               "runs capstored, and the disk must be sound";
    }
    if (error == CAP_E_INVALID_ARGUMENT) {
        return cap_store_lmdb_is_remote(context->statedir->store_dir)
                   ? "it is on a network file system, where its locks do not hold; give a --state "
                     "on "
                     "a local disk"
                   : "--map-size must suit this machine";
    }
    if (error == CAP_E_NO_MEMORY) {
        return "not enough address space; lower --map-size, or raise the limit (ulimit -v)";
    }
    if (error == CAP_E_STORE_VERSION) {
        return "another version of capstored wrote it; run that one, or give another --state";
    }
    return cap_error_text(error);
}

/* Snapshots that the loops may have open: windows, and what readers have finished; see serve/. */
static uint32_t store_readers(size_t loops)
{
    return loops > 2 ? (uint32_t)loops * STORE_READERS_LOOP : 0;
}

enum cap_error opening_store(struct context *context, size_t loops,
                             char ret_reason[CONFIG_REASON_SIZE])
{
    uint8_t id[CAP_STORE_ID_SIZE];
    bool unsynced = false;
    struct cap_store_lmdb_config config = {
        .dir = context->statedir->store_dir,
        .map_bytes = context->config.map_size,
        .max_readers = store_readers(loops),
        .ret_unsynced = &unsynced,
    };
    snprintf(ret_reason, CONFIG_REASON_SIZE, "no random bytes");
    enum cap_error error = context->env->random(context->env->ctx, id, sizeof(id));
    if (error != CAP_OK) {
        return error;
    }
    error = cap_store_lmdb_open(&config, id, &context->store);
    if (error != CAP_OK) {
        char full[ROOM_FULL_SIZE];
        snprintf(ret_reason, CONFIG_REASON_SIZE, "cannot open the store in %.100s: %s", config.dir,
                 store_problem(context, error, full));
    }
    if (unsynced) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("directory_not_synced"),
                  log_text("path", config.dir),
                  log_text("message", "the file system cannot sync a directory; a new store may "
                                      "be missing after a power failure now"));
    }
    return error;
}
