/*
 * Backups: verified copies of the store, in the directory that the option backup-dir names.
 *
 * - DIR/20261127T104500.123Z/: a backup, named by the time at which it was begun. A state directory
 *   (store/, lock), so `capstored --state` of it is the restore, and one file more: `verified` when
 *   the check found it sound, else `findings`, what it found;
 * - DIR/20261127T104500.123Z.new/: one that is being made; a leftover is removed.
 *
 * It has its name only when it is whole, verified and synced. Then the oldest go, as many as there
 * are more than backup-keep; of those that are not sound only the newest is kept, and none of the
 * sound ones goes for them. Other files in DIR are left alone, and so is a backup of which a daemon
 * holds the lock.
 *
 * Any thread.
 */
#ifndef DAEMON_UPKEEP_BACKUP_H
#define DAEMON_UPKEEP_BACKUP_H

#include "daemon/upkeep/jobs.h"

#define BACKUP_NAME_SIZE 24u
#define BACKUPS_MAX      256u /* that are listed: the newest */

struct backup {
    char name[BACKUP_NAME_SIZE];
    uint64_t made_us; /* real time: when it was begun; what was acknowledged by then is in it */
    uint64_t bytes;   /* of the store's file */
    bool verified;
};

struct backups_figures {
    uint64_t count;   /* verified ones */
    uint64_t made_us; /* of the newest of these; 0: there is none */
    bool failed;      /* the last one that was tried since start did not succeed */
};

struct backups;

/*
 * Looks what is there; a directory that cannot be used is a warning. Without the option it is
 * empty. Context and jobs outlive it. CAP_E_NO_MEMORY.
 */
enum cap_error backups_new(struct context *context, struct upkeep_jobs *jobs,
                           struct backups **ret_backups);

/* After upkeep_jobs_join. NULL is fine. */
void backups_free(struct backups *backups);

/* Starts a job that makes one. CAP_E_NOT_CONFIGURED, or as upkeep_jobs_start. */
enum cap_error backups_start(struct backups *backups, uint64_t *ret_id);

/* Copies what is known of the backups, the newest first. Returns how many. */
size_t backups_list(struct backups *backups, struct backup ret_list[BACKUPS_MAX]);

void backups_figures(struct backups *backups, struct backups_figures *ret_figures);

#endif
