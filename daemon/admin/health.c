/* The warnings, each judged on its own. */
#include "daemon/admin/health.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>

#include "daemon/admin/ask.h"

#define CLOCK_MAX_S     60                  /* time services step by less */
#define SNAPSHOT_MAX_US UINT64_C(120000000) /* a client that does not read is closed earlier */
#define RECENT_US       UINT64_C(600000000) /* refusals that still say something */
#define HELD_MAX_US     UINT64_C(1000000)
#define LOW_PART        20 /* room is low when less than a twentieth is left */
#define MIB             (UINT64_C(1) << 20)
#define LOW_MIN         (16 * MIB) /* of a map: a commit of large bodies may need as much at once */

struct admin_health admin_health_now(const struct admin_rooms *rooms, const struct admin_ask *ask)
{
    struct admin_health health = {.context = rooms->context, .loops = rooms->hubs->count};
    for (size_t i = 0; i < health.loops; i++) {
        health.responding += admin_ask_answered(ask, i) ? 1 : 0;
    }
    struct gauges gauges;
    admin_gauges(rooms, &gauges);
    health.writer_held_us = gauges.writer_held_us;
    health.backup_failed = gauges.backup_failed != 0;
    health.upstream_away = gauges.upstream_away != 0;
    health.upstream_broken = gauges.upstream_broken != 0;
    return health;
}

const char *admin_warning_name(enum admin_warning warning)
{
    static const char *const names[ADMIN_WARNING_COUNT] = {
#define ADMIN_WARNING_NAME(NAME, reason) #reason,
        ADMIN_WARNINGS(ADMIN_WARNING_NAME)
#undef ADMIN_WARNING_NAME
    };
    return names[warning];
}

static bool clock_differs(const struct admin_health *health, char *sentence)
{
    const struct context *context = health->context;
    int64_t ours = (int64_t)cap_store_clock(context->store);
    int64_t ahead = (int64_t)(env_real_us(context->env) / 1000000) - ours;
    if (ahead > CLOCK_MAX_S) {
        snprintf(sentence, ADMIN_WARNING_SIZE,
                 "the machine's clock is %" PRId64 " s ahead of the daemon's, by which leases end; "
                 "if it is wrong, set it (timedatectl); if it is right, restart capstored",
                 ahead);
    } else if (ahead < -CLOCK_MAX_S) {
        snprintf(sentence, ADMIN_WARNING_SIZE,
                 "the machine's clock is %" PRId64 " s behind the store's, by which leases end; if "
                 "it is wrong, set it (timedatectl); if it is right, there is nothing to do",
                 -ahead);
    }
    return ahead > CLOCK_MAX_S || ahead < -CLOCK_MAX_S;
}

/* What publications may still take of the disk. */
static bool disk_low(const struct admin_health *health, char *sentence)
{
    const struct cap_space *space = &health->space;
    uint64_t reserve = health->context->config.disk_reserve;
    uint64_t left = space->disk_free > reserve ? space->disk_free - reserve : 0;
    if (left == 0) {
        snprintf(sentence, ADMIN_WARNING_SIZE,
                 "the disk is full: %" PRIu64 " MiB are free and uploads must leave %" PRIu64
                 " (disk-reserve), so publications are refused; free some, and they go on",
                 space->disk_free / MIB, reserve / MIB);
        return true;
    }
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "publications can take %" PRIu64 " MiB more of the disk before they are refused; free "
             "some space, or move the state directory to a larger disk",
             left / MIB);
    return left < (space->file_bytes + space->disk_free) / LOW_PART;
}

static bool map_low(const struct admin_health *health, char *sentence)
{
    const struct cap_space *space = &health->space;
    uint64_t used = space->file_bytes - space->free_bytes;
    uint64_t left = space->map_bytes > used ? space->map_bytes - used : 0;
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "the store can take %" PRIu64 " MiB more before its map is full and publications are "
             "refused; restart capstored with a larger map-size than %" PRIu64 " MiB",
             left / MIB, space->map_bytes / MIB);
    return left < MAX(space->map_bytes / LOW_PART, LOW_MIN);
}

static bool old_snapshot(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "a read of the store has gone on for %" PRIu64 " s, and room freed since is not used "
             "again; unless a backup runs (jobs.list), look for a client that does not take its "
             "bytes (clients.list)",
             health->space.oldest_reader_us / 1000000);
    return health->space.oldest_reader_us > SNAPSHOT_MAX_US;
}

static bool foreign_reader(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "process %" PRIu64 " reads the store's files, and room freed since it began is not "
             "used again; end it",
             health->space.foreign_pid);
    return health->space.foreign_pid != 0;
}

static bool too_few_file_descriptors(const struct admin_health *health, char *sentence)
{
    const struct context *context = health->context;
    uint64_t now = context->config.max_connections;
    uint64_t wanted = context->given.max_connections;
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "%" PRIu64 " clients are served instead of %" PRIu64 ", for the process may open too "
             "few files; raise the limit (LimitNOFILE=, ulimit -n), or lower max-connections",
             now, wanted);
    return now < wanted;
}

static bool threads_stuck(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "%zu of %zu threads that serve clients do not respond (loops.list says which); if "
             "that lasts, restart capstored",
             health->loops - health->responding, health->loops);
    return health->responding < health->loops;
}

/* Those that were closed, or whose upload was refused, for being slow. */
static bool slow_clients(const struct admin_health *health, char *sentence)
{
    struct refusals *refusals = &health->context->refusals;
    uint64_t now = env_real_us(health->context->env);
    struct refusal refusal;
    uint64_t before = UINT64_MAX;
    unsigned count = 0;
    char last[PEER_TEXT_SIZE] = "";
    while (refusals_before(refusals, before, &refusal) && refusal.time_us + RECENT_US > now) {
        before = refusal.seq;
        if (refusal.error == CAP_E_PROGRESS_TIMEOUT || refusal.error == CAP_E_UPLOAD_TOO_SLOW) {
            count++;
            if (last[0] == '\0') {
                snprintf(last, sizeof(last), "%s", refusal.peer);
            }
        }
    }
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "requests given up in the last 10 minutes because the client did not keep up: %u, "
             "the last of %s; refusals.list has them; raise progress-ms or lower min-upload-rate "
             "if such clients are to be served",
             count, last);
    return count > 0;
}

/* A slice of upkeep is far shorter. */
static bool publications_wait(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "publications have waited for %" PRIu64 " s while the store is compacted, and go on "
             "by themselves; capctl jobs shows how far it is and can cancel it",
             health->writer_held_us / 1000000);
    return health->writer_held_us > HELD_MAX_US;
}

static bool backup_failed(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "the last backup failed; capctl jobs says why; fix it, then run capctl backup");
    return health->backup_failed;
}

static bool caps_broken(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "damaged or lost caps that are not served: %zu%s (`broken`, and the Images that need "
             "them: `degraded`); publish them again, from their source or from a backup's daemon",
             health->broken, health->broken < ADMIN_BROKEN_MAX ? "" : " or more");
    return health->broken > 0;
}

static const char *upstream_of(const struct admin_health *health)
{
    const char *address = health->context->config.upstream;
    return address == NULL ? "" : address;
}

static bool upstream_away(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "what is not here cannot be fetched from %.128s; `upstream` says why; see whether "
             "that daemon runs, is reachable, and responds",
             upstream_of(health));
    return health->upstream_away;
}

static bool upstream_broken(const struct admin_health *health, char *sentence)
{
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "what %.128s answers is wrong, and is neither served nor kept; `upstream` says how; "
             "see whether that is the daemon that is meant, and scrub its store",
             upstream_of(health));
    return health->upstream_broken;
}

static bool config_not_reloaded(const struct admin_health *health, char *sentence)
{
    const char *problem = health->context->config_problem;
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "the configuration was not reloaded, and the previous one stays: %s; fix the file, "
             "then capctl config reload",
             problem);
    return problem[0] != '\0';
}

static bool restart_needed(const struct admin_health *health, char *sentence)
{
    const struct context *context = health->context;
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    char names[ADMIN_WARNING_SIZE - 120] = "";
    size_t len = 0;
    for (size_t i = 0; i < count && len < sizeof(names); i++) {
        if (!options[i].live && config_differs(&context->config, &context->given, &options[i])) {
            len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", len > 0 ? ", " : "",
                                    options[i].name);
        }
    }
    snprintf(sentence, ADMIN_WARNING_SIZE,
             "settings were changed that only a restart brings; restart capstored: %s", names);
    return len > 0;
}

bool admin_health_warns(const struct admin_health *health, enum admin_warning warning,
                        char ret_sentence[ADMIN_WARNING_SIZE])
{
    static bool (*const judges[ADMIN_WARNING_COUNT])(const struct admin_health *, char *) = {
#define ADMIN_WARNING_JUDGE(NAME, reason) reason,
        ADMIN_WARNINGS(ADMIN_WARNING_JUDGE)
#undef ADMIN_WARNING_JUDGE
    };
    struct context *context = health->context;
    pthread_mutex_lock(&context->config_lock);
    bool warns = judges[warning](health, ret_sentence);
    pthread_mutex_unlock(&context->config_lock);
    return warns;
}
