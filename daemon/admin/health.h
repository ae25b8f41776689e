/*
 * What is wrong with the daemon or its surroundings, for an operator: each a stable word, and one
 * sentence that says what to do. `status` lists them, and each is a series of the metrics.
 */
#ifndef DAEMON_ADMIN_HEALTH_H
#define DAEMON_ADMIN_HEALTH_H

#include "daemon/admin/gauges.h"

#define ADMIN_WARNING_SIZE 512
#define ADMIN_BROKEN_MAX   1000u /* damaged or lost caps that are counted */

/* X(NAME, reason) */
#define ADMIN_WARNINGS(X)                                                                          \
    X(CLOCK, clock_differs)                                                                        \
    X(DISK, disk_low)                                                                              \
    X(MAP, map_low)                                                                                \
    X(SNAPSHOT, old_snapshot)                                                                      \
    X(FOREIGN, foreign_reader)                                                                     \
    X(DESCRIPTORS, too_few_file_descriptors)                                                       \
    X(THREADS, threads_stuck)                                                                      \
    X(SLOW, slow_clients)                                                                          \
    X(HELD, publications_wait)                                                                     \
    X(BACKUP, backup_failed)                                                                       \
    X(BROKEN, caps_broken)                                                                         \
    X(UPSTREAM_AWAY, upstream_away)                                                                \
    X(UPSTREAM_BROKEN, upstream_broken)                                                            \
    X(CONFIG, config_not_reloaded)                                                                 \
    X(RESTART, restart_needed)

enum admin_warning {
#define ADMIN_WARNING_ENUM(NAME, reason) ADMIN_WARNING_##NAME,
    ADMIN_WARNINGS(ADMIN_WARNING_ENUM)
#undef ADMIN_WARNING_ENUM
        ADMIN_WARNING_COUNT
};

/* What it is judged by. */
struct admin_health {
    struct context *context;
    struct cap_space space;
    size_t loops;
    size_t responding; /* of these */
    uint64_t writer_held_us;
    bool backup_failed;
    size_t broken; /* caps that are quarantined or lost */
    bool upstream_away;
    bool upstream_broken;
};

struct admin_ask;

/* What the daemon says of itself, for loops that were just asked; without the store. Any thread. */
struct admin_health admin_health_now(const struct admin_rooms *rooms, const struct admin_ask *ask);

/* The stable word of a warning. Static. */
const char *admin_warning_name(enum admin_warning warning);

/* Whether there is that warning now, with its sentence. Any thread; looks at nothing slow. */
bool admin_health_warns(const struct admin_health *health, enum admin_warning warning,
                        char ret_sentence[ADMIN_WARNING_SIZE]);

#endif
