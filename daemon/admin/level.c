#include "daemon/admin/level.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define FIRST_GROUPS 64u    /* enough for nearly everybody; else asked again */
#define MAX_GROUPS   65536u /* the kernel's NGROUPS_MAX */

enum cap_error admin_group_find(const char *name, struct admin_group *ret_group)
{
    if (name == NULL) {
        *ret_group = (struct admin_group){.exists = false};
        return CAP_OK;
    }
    const struct group *group = getgrnam(name);
    if (group != NULL) {
        *ret_group = (struct admin_group){.exists = true, .gid = group->gr_gid};
        return CAP_OK;
    }
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (name[0] < '0' || name[0] > '9' || *end != '\0' || errno != 0 || number >= UINT32_MAX) {
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
 * suffices. A kernel that does not know the question (gVisor) leaves the primary group alone.
 */
static enum cap_error read_groups(int fd, gid_t primary, gid_t **ret_groups, size_t *ret_count,
                                  bool *ret_complete)
{
    socklen_t size = FIRST_GROUPS * sizeof(gid_t);
    for (int attempt = 0; attempt < 2; attempt++) {
        gid_t *groups = malloc(sizeof(gid_t) + size);
        if (groups == NULL) {
            return CAP_E_NO_MEMORY;
        }
        int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &size);
        bool again = result != 0 && errno == ERANGE && size <= MAX_GROUPS * sizeof(gid_t);
        if (again && attempt == 0) {
            free(groups);
            continue;
        }
        groups[0] = primary;
        *ret_groups = groups;
        *ret_count = 1 + (result == 0 ? size / sizeof(gid_t) : 0);
        *ret_complete = result == 0;
        return CAP_OK;
    }
    return CAP_E_INTERNAL;
}

enum cap_error admin_level_read(int fd, const struct peer *peer,
                                const struct admin_group *operators, enum admin_level *ret_level,
                                bool *ret_complete)
{
    if (!peer->local) {
        return CAP_E_IO;
    }
    gid_t *groups = NULL;
    size_t count = 0;
    enum cap_error error = read_groups(fd, peer->gid, &groups, &count, ret_complete);
    if (error != CAP_OK) {
        return error;
    }
    *ret_level = admin_level_of(peer->uid, geteuid(), operators, groups, count);
    free(groups);
    return CAP_OK;
}
