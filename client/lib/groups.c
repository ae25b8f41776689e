#include "client/lib/groups.h"

#include <stdlib.h>

static const uint8_t zero_group[CLIENT_GROUP_SIZE];

/* The list that an index belongs to. */
static uint32_t *head_of(const struct client_groups *groups, uint64_t index)
{
    /* Groups are asked for in runs, and a run must not fall on few lists. */
    uint64_t mixed = index * UINT64_C(0x9e3779b97f4a7c15);
    return &groups->heads[groups->bits == 0 ? 0 : mixed >> (64 - groups->bits)];
}

enum cap_error client_groups_init(struct client_groups *groups, uint32_t count)
{
    *groups = (struct client_groups){.count = count};
    while ((UINT64_C(1) << groups->bits) < count) {
        groups->bits++;
    }
    groups->slots = calloc(count, sizeof(*groups->slots));
    groups->heads = calloc((size_t)1 << groups->bits, sizeof(*groups->heads));
    if (groups->slots == NULL || groups->heads == NULL) {
        client_groups_free(groups);
        return CAP_E_NO_MEMORY;
    }
    return CAP_OK;
}

void client_groups_free(struct client_groups *groups)
{
    for (uint32_t i = 0; groups->slots != NULL && i < groups->count; i++) {
        free(groups->slots[i].bytes);
    }
    free(groups->slots);
    free(groups->heads);
    *groups = (struct client_groups){0};
}

static struct client_group *find(const struct client_groups *groups, uint64_t index)
{
    for (uint32_t at = *head_of(groups, index); at != 0; at = groups->slots[at - 1].next) {
        if (groups->slots[at - 1].index == index) {
            return &groups->slots[at - 1];
        }
    }
    return NULL;
}

const uint8_t *client_groups_find(struct client_groups *groups, uint64_t index)
{
    struct client_group *group = find(groups, index);
    if (group == NULL) {
        return NULL;
    }
    group->used = true;
    return group->zeros ? zero_group : group->bytes;
}

static void drop(struct client_groups *groups, struct client_group *group)
{
    uint32_t *link = head_of(groups, group->index);
    uint32_t slot = (uint32_t)(group - groups->slots) + 1;
    while (*link != slot) {
        link = &groups->slots[*link - 1].next;
    }
    *link = group->next;
    group->there = false;
}

/* A slot without a group. What is used is skipped once, so that what was put a moment ago,
 * which counts as used, is not dropped for what is put next. */
static struct client_group *make_room(struct client_groups *groups)
{
    for (;;) {
        struct client_group *group = &groups->slots[groups->hand];
        groups->hand = (groups->hand + 1) % groups->count;
        if (group->there && group->used) {
            group->used = false;
            continue;
        }
        if (group->there) {
            drop(groups, group);
        }
        return group;
    }
}

enum cap_error client_groups_put(struct client_groups *groups, uint64_t index, const uint8_t *bytes)
{
    struct client_group *group = find(groups, index);
    if (group != NULL) {
        group->used = true;
        return CAP_OK; /* proven bytes are the same each time */
    }
    group = make_room(groups);
    if (bytes != NULL && group->bytes == NULL) {
        group->bytes = malloc(CLIENT_GROUP_SIZE);
        if (group->bytes == NULL) {
            return CAP_E_NO_MEMORY;
        }
    }
    if (bytes != NULL) {
        memcpy(group->bytes, bytes, CLIENT_GROUP_SIZE);
    }
    uint32_t *head = head_of(groups, index);
    group->index = index;
    group->zeros = bytes == NULL;
    group->there = group->used = true;
    group->next = *head;
    *head = (uint32_t)(group - groups->slots) + 1;
    return CAP_OK;
}

bool client_groups_are_zeros(const uint8_t *bytes)
{
    return bytes == zero_group;
}
