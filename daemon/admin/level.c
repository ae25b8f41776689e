#include "daemon/admin/level.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define FIRST_GROUPS 64u
#define MAX_GROUPS   65536u /* the kernel's NGROUPS_MAX */

enum cap_error admin_group_find(const char *name, struct admin_group *ret_group)
{
    if (!name) {
        *ret_group = (struct admin_group){.exists = false};
        return CAP_OK;
    }
    const struct group *group = getgrnam(name);
    if (group) {
        *ret_group = (struct admin_group){.exists = true, .gid = group->gr_gid};
        return CAP_OK;
    }
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (name[0] < '0' || name[0] > '9' || *end || errno || number >= UINT32_MAX) {
        return CAP_E_INVALID_ARGUMENT;
    }
    *ret_group = (struct admin_group){.exists = true, .gid = (gid_t)number};
    return CAP_OK;
}

const char *admin_level_name(enum admin_level level)
{
    switch (level) {
    case ADMIN_OBSERVE:
        break;
    case ADMIN_OPERATE:
        return "operate";
    case ADMIN_ADMIN:
        return "admin";
    }
    return "observe";
}

enum admin_level admin_level_of(uint32_t uid, uint32_t own_uid, const struct admin_group *operators,
                                const gid_t *groups, size_t count)
{
    if (uid == 0 || uid == own_uid) {
        return ADMIN_ADMIN;
    }
    for (size_t i = 0; operators->exists && i < count; i++) {
        if (groups[i] == operators->gid) {
            return ADMIN_OPERATE;
        }
    }
    return ADMIN_OBSERVE;
}

/*
 * The primary group, then the supplementary ones. The kernel says how much room it wants when there
 * is too little; what it attests does not change after the peer connected, so asking twice
 * suffices.
 */
static enum cap_error read_groups(int fd, gid_t primary, gid_t **ret_groups, size_t *ret_count)
{
    socklen_t size = FIRST_GROUPS * sizeof(gid_t);
    for (int attempt = 0; attempt < 2 && size <= MAX_GROUPS * sizeof(gid_t); attempt++) {
        gid_t *groups = malloc(sizeof(gid_t) + size);
        if (!groups) {
            return CAP_E_NO_MEMORY;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &size) == 0) {
            groups[0] = primary;
            *ret_groups = groups;
            *ret_count = 1 + size / sizeof(gid_t);
            return CAP_OK;
        }
        free(groups);
        if (errno != ERANGE) {
            return CAP_E_IO;
        }
    }
    return CAP_E_IO;
}

enum cap_error admin_level_read(int fd, const struct peer *peer,
                                const struct admin_group *operators, enum admin_level *ret_level)
{
    if (!peer->local) {
        return CAP_E_IO;
    }
    gid_t *groups = NULL;
    size_t count = 0;
    enum cap_error error = read_groups(fd, peer->gid, &groups, &count);
    if (error != CAP_OK) {
        return error;
    }
    *ret_level = admin_level_of(peer->uid, geteuid(), operators, groups, count);
    free(groups);
    return CAP_OK;
}
