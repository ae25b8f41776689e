/* The limit of open files, and the limits of clients. */
#include "daemon/descriptors.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/admin/limits.h"
#include "daemon/core/oserror.h"
#include "daemon/serve/copies.h"

#define LEAST    40 /* streams, loop, store, lock: about 20; sockets; admin connections */
#define PER_LOOP 6  /* of each loop but the first */
#define MOMENT   4  /* opened for a moment: a spool file, a socket that is turned away */

enum cap_error descriptors_check(size_t loops, char ret_reason[CONFIG_REASON_SIZE])
{
    struct rlimit limit;
    size_t least = LEAST + (loops - 1) * PER_LOOP;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < least) {
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "too many open files: the limit is %" PRIu64 " file descriptors, and at least %zu "
                 "are needed; raise it (ulimit -n, LimitNOFILE=)",
                 (uint64_t)limit.rlim_cur, least);
        return CAP_E_IO;
    }
    return CAP_OK;
}

enum cap_error descriptors_own(const struct copies *copies, uint64_t *ret_own,
                               char ret_reason[CONFIG_REASON_SIZE])
{
    int next = dup(STDERR_FILENO); /* the lowest free number: about as many are open */
    if (next < 0) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "cannot open more files: %s", strerror(errno));
        return error_of_errno(errno);
    }
    close(next);
    *ret_own = (uint64_t)next + ADMIN_CONNECTIONS_MAX + MOMENT +
               (copies != NULL ? copies_open_max(copies) : 0);
    return CAP_OK;
}

enum cap_error descriptors_fit(uint64_t own, struct config *config, struct log *log,
                               char ret_reason[CONFIG_REASON_SIZE])
{
    struct rlimit limit;
    uint64_t connections = config->max_connections;
    uint64_t uploads = config->max_uploads; /* each holds its spool file */
    uint64_t needed = connections + uploads + own;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) {
        return CAP_OK;
    }
    uint64_t room = limit.rlim_cur > own ? limit.rlim_cur - own : 0;
    if (room < 2) {
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "too many open files: the limit of %" PRIu64 " file descriptors leaves none for "
                 "clients; raise it to %" PRIu64 " (ulimit -n, LimitNOFILE=)",
                 (uint64_t)limit.rlim_cur, needed);
        return CAP_E_IO;
    }
    uploads = MIN(uploads, MAX(room / 4, 1));
    connections = MIN(connections, room - MAX(room / 4, 1));
    config->max_uploads = uploads;
    config->max_connections = connections;
    log_event(log, LOG_LEVEL_WARNING, log_name("too_few_file_descriptors"),
              log_number("limit", limit.rlim_cur), log_number("needed", needed),
              log_number("max_connections", connections), log_number("max_uploads", uploads),
              log_text("message", "fewer clients are served than configured; raise the limit "
                                  "(ulimit -n, LimitNOFILE=), or lower max-connections"));
    return CAP_OK;
}
