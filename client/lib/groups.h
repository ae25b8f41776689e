/*
 * Pages in memory that were proven, by groups: those under one node of the tree of pages, which a
 * slice gives together.
 *
 * A bounded number of groups is kept; those that were not asked for longest go, about.
 */
#ifndef CLIENT_LIB_GROUPS_H
#define CLIENT_LIB_GROUPS_H

#include "lib/cap/slice.h"

#define CLIENT_GROUP_LEVEL CAP_SLICE_GROUP_LEVEL
#define CLIENT_GROUP_PAGES CAP_SLICE_GROUP_PAGES
#define CLIENT_GROUP_SIZE  ((size_t)CLIENT_GROUP_PAGES * CAP_PAGE_SIZE)

/* How many groups so many pages of a cap are, and how many of its pages are in one of these. */
static inline uint64_t client_group_count(uint64_t pages)
{
    return pages / CLIENT_GROUP_PAGES + (pages % CLIENT_GROUP_PAGES != 0);
}

static inline unsigned client_group_pages(uint64_t pages, uint64_t group)
{
    uint64_t left = pages - group * CLIENT_GROUP_PAGES;
    return left < CLIENT_GROUP_PAGES ? (unsigned)left : CLIENT_GROUP_PAGES;
}

/* One that is kept. */
struct client_group {
    uint64_t index;
    uint8_t *bytes; /* room for a group; NULL: none was needed yet */
    uint32_t next;  /* 1 + the slot of the next one with this hash; 0: none */
    bool there;
    bool zeros;
    bool used; /* since it was last looked at to be dropped */
};

/* Belongs to one thread at a time. */
struct client_groups {
    struct client_group *slots;
    uint32_t *heads; /* by hash: 1 + a slot; 0: none */
    uint32_t count;  /* of slots */
    uint32_t bits;   /* 2^bits heads */
    uint32_t hand;   /* the slot that is looked at next to be dropped */
};

/* Room for `count` groups, at least 4; their memory is taken when they come. CAP_E_NO_MEMORY.
 * Release with client_groups_free. */
enum cap_error client_groups_init(struct client_groups *groups, uint32_t count);

/* Releases all of it. A zeroed one is fine. */
void client_groups_free(struct client_groups *groups);

/* The bytes of a group, until the next client_groups_put; NULL: it is not here. */
const uint8_t *client_groups_find(struct client_groups *groups, uint64_t index);

/*
 * Keeps a copy of a group's bytes; NULL: it is zero. Half of all that were put last are still here
 * in any case. CAP_E_NO_MEMORY.
 */
enum cap_error client_groups_put(struct client_groups *groups, uint64_t index,
                                 const uint8_t *bytes);

/* Whether these bytes, which client_groups_find gave, are those of a group that was put as zero. */
bool client_groups_are_zeros(const uint8_t *bytes);

#endif
