/*
 * What the peer of an admin connection may do, by its user and groups as attested by the kernel.
 */
#ifndef DAEMON_ADMIN_LEVEL_H
#define DAEMON_ADMIN_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/peer.h"
#include "lib/cap/error.h"

/* Each level includes those before it. */
enum admin_level {
    ADMIN_OBSERVE, /* reads; everyone who can connect */
    ADMIN_OPERATE, /* changes that are easily undone; members of the operators' group */
    ADMIN_ADMIN,   /* the rest; root and the daemon's own user */
};

/* Whose members may operate. */
struct admin_group {
    bool exists;
    gid_t gid;
};

/*
 * The group of a name or a number; none for NULL. May ask the host's directory service, so at start
 * only. CAP_E_INVALID_ARGUMENT for an unknown group.
 */
enum cap_error admin_group_find(const char *name, struct admin_group *ret_group);

/* "observe", "operate" or "admin". Static. */
const char *admin_level_name(enum admin_level level);

/* The level of a user with these groups when the daemon runs as `own_uid`. Pure. */
enum admin_level admin_level_of(uint32_t uid, uint32_t own_uid, const struct admin_group *operators,
                                const gid_t *groups, size_t count);

/*
 * The level of a connected Unix socket's peer, by its user, its group and its supplementary groups.
 * *ret_complete is false where the kernel does not tell the latter. CAP_E_IO when the peer is not
 * local, CAP_E_NO_MEMORY.
 */
enum cap_error admin_level_read(int fd, const struct peer *peer,
                                const struct admin_group *operators, enum admin_level *ret_level,
                                bool *ret_complete);

#endif
