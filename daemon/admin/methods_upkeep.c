/* Methods that start long work on the store, and what status says of it. */
#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/upkeep/backup.h"
#include "daemon/upkeep/compact.h"

static json_t *started(struct admin_call *call, enum cap_error error, uint64_t id)
{
    if (error != CAP_OK) {
        admin_error_cap(&call->error, error);
        return NULL;
    }
    return json_pack("{s:o}", "job", admin_value_u64(id));
}

/* --- Backups ---------------------------------------------------------------------------------- */

json_t *admin_backup_start(struct admin_call *call)
{
    uint64_t id = 0;
    enum cap_error error = backups_start(call->rooms->backups, &id);
    json_t *result = started(call, error, id);
    if (error == CAP_E_NOT_CONFIGURED) {
        snprintf(call->error.message, sizeof(call->error.message),
                 "backup-dir is not set; restart with --backup-dir DIR");
    }
    return result;
}

json_t *admin_backup_list(struct admin_call *call)
{
    struct backup backups[BACKUPS_MAX];
    const char *dir = call->rooms->context->config.backup_dir;
    size_t count = backups_list(call->rooms->backups, backups);
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        json_t *item =
            json_pack("{s:s, s:o, s:o, s:b}", "name", backups[i].name, "made",
                      admin_value_time(backups[i].made_us), "bytes",
                      admin_value_u64(backups[i].bytes), "verified", backups[i].verified ? 1 : 0);
        if (!admin_append(list, item)) {
            json_decref(list);
            list = NULL;
        }
    }
    return json_pack("{s:o, s:o}", "dir", dir == NULL ? json_null() : admin_value_text(dir),
                     "backups", list);
}

/* --- Compaction ------------------------------------------------------------------------------- */

json_t *admin_compact_start(struct admin_call *call)
{
    const struct admin_rooms *rooms = call->rooms;
    uint64_t id = 0;
    enum cap_error error = compact_start(rooms->jobs, rooms->context, rooms->writer, &id);
    return started(call, error, id);
}

/* --- status ----------------------------------------------------------------------------------- */

json_t *admin_upkeep_status(const struct admin_rooms *rooms)
{
    struct gauges gauges;
    admin_gauges(rooms, &gauges);
    return json_pack(
        "{s:o, s:{s:o, s:o, s:b}}", "writer_held_ms", admin_value_u64(gauges.writer_held_us / 1000),
        "backups", "verified", admin_value_u64(gauges.backups), "age_ms",
        gauges.backups > 0 ? admin_value_u64(gauges.backup_age_us / 1000) : json_null(), "failed",
        gauges.backup_failed != 0 ? 1 : 0);
}
