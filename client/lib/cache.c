#include "client/lib/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cap/merkle.h"
#include "lib/cap/slice_verify.h"

#define GROUPS_MAX (UINT64_C(1) << 28) /* of 64 KiB: 2^44 bytes, where the pages of Data end */

/* The file's first page. */
#define MAGIC      "capslice" /* then the version */
#define VERSION    UINT32_C(1)
#define AT_VERSION 8u
#define AT_LEN     12u
#define AT_HASH    16u
#define FRONT_SIZE 48u

struct client_cache {
    int fd;
    struct cap_hash hash;
    bool failed;
    struct client_tree tree;
    unsigned depth;
    unsigned bottom;   /* the level of a group's node, which is the root where that is lower */
    uint64_t groups;   /* that are kept */
    uint64_t there_at; /* in the file, as the next two */
    uint64_t nodes_at[CAP_MAX_DEPTH + 1]; /* of each level from CLIENT_GROUP_LEVEL to below depth */
    uint64_t pages_at;
};

static uint64_t page_up(uint64_t len)
{
    return (len + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
}

/* ---- the file ---- */

enum cap_error client_cache_open(const char *directory, const struct cap_hash *hash,
                                 struct client_cache **ret_cache)
{
    char path[PATH_MAX];
    char hex[CAP_HASH_HEX_SIZE];
    struct stat info;
    cap_hash_format(hash, hex);
    if (snprintf(path, sizeof(path), "%s/%s.pages", directory, hex) >= (int)sizeof(path)) {
        return CAP_E_IO;
    }
    /* O_NONBLOCK: somebody may have put a pipe there, and nobody its other end. */
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) {
        return CAP_E_IO;
    }
    struct client_cache *cache = calloc(1, sizeof(*cache));
    /* With another name it may be somebody's file that was linked here to be written over. */
    if (cache == NULL || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink > 1) {
        enum cap_error error = cache == NULL ? CAP_E_NO_MEMORY : CAP_E_IO;
        close(fd);
        free(cache);
        return error;
    }
    cache->fd = fd;
    cache->hash = *hash;
    *ret_cache = cache;
    return CAP_OK;
}

void client_cache_free(struct client_cache *cache)
{
    if (cache != NULL) {
        close(cache->fd);
        free(cache);
    }
}

bool client_cache_failed(const struct client_cache *cache)
{
    return cache->failed;
}

/* Reads as far as the file goes; zeros behind that. */
static void read_at(const struct client_cache *cache, uint64_t offset, void *dst, size_t len)
{
    uint8_t *at = dst;
    while (len > 0) {
        ssize_t n = offset <= INT64_MAX ? pread(cache->fd, at, len, (off_t)offset) : 0;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            memset(at, 0, len);
            return;
        }
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
}

static void write_at(struct client_cache *cache, uint64_t offset, const void *src, size_t len)
{
    const uint8_t *at = src;
    while (len > 0 && !cache->failed) {
        ssize_t n = offset <= INT64_MAX ? pwrite(cache->fd, at, len, (off_t)offset) : -1;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            cache->failed = true; /* a full disk, a limit, a file system without room for it */
            return;
        }
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
}

/* ---- the head ---- */

enum cap_error client_cache_head(struct client_cache *cache, struct cap_buf *ret_slice)
{
    uint8_t front[FRONT_SIZE];
    struct cap_buf slice = {0};
    read_at(cache, 0, front, sizeof(front));
    uint32_t len = cap_load32(front + AT_LEN);
    if (memcmp(front, MAGIC, AT_VERSION) != 0 || cap_load32(front + AT_VERSION) != VERSION ||
        memcmp(front + AT_HASH, cache->hash.bytes, CAP_HASH_SIZE) != 0 || len == 0 ||
        len > CAP_SLICE_STRUCTURE + CAP_PAGE_SIZE) {
        return CAP_E_NOT_FOUND;
    }
    enum cap_error error = cap_buf_reserve(&slice, len);
    if (error != CAP_OK) {
        return error;
    }
    slice.len = len;
    read_at(cache, CAP_PAGE_SIZE, slice.data, len);
    *ret_slice = slice;
    return CAP_OK;
}

void client_cache_put_head(struct client_cache *cache, struct cap_bytes slice)
{
    uint8_t front[FRONT_SIZE] = MAGIC;
    cap_store32(front + AT_VERSION, VERSION);
    cap_store32(front + AT_LEN, (uint32_t)slice.len);
    memcpy(front + AT_HASH, cache->hash.bytes, CAP_HASH_SIZE);
    write_at(cache, CAP_PAGE_SIZE, slice.data, slice.len);
    write_at(cache, 0, front, sizeof(front));
}

/* How many nodes of a level lie in the file: an even number, so that pairs do. */
static uint64_t nodes_of(const struct client_cache *cache, unsigned level)
{
    uint64_t per = UINT64_C(1) << (level - CLIENT_GROUP_LEVEL);
    uint64_t count = cache->groups / per + (cache->groups % per != 0);
    return (count + 1) / 2 * 2;
}

void client_cache_begin(struct client_cache *cache, const struct client_tree *tree, size_t head_len)
{
    uint64_t groups = client_group_count(tree->pages);
    cache->tree = *tree;
    cache->depth = cap_slice_depth(tree->kind, tree->pages);
    cache->bottom = cache->depth < CLIENT_GROUP_LEVEL ? cache->depth : CLIENT_GROUP_LEVEL;
    cache->groups = groups < GROUPS_MAX ? groups : GROUPS_MAX;
    cache->there_at = CAP_PAGE_SIZE + page_up(head_len);
    uint64_t at = cache->there_at + page_up(cache->groups);
    for (unsigned level = CLIENT_GROUP_LEVEL; level < cache->depth; level++) {
        cache->nodes_at[level] = at;
        at += nodes_of(cache, level) * CAP_HASH_SIZE;
    }
    cache->pages_at = page_up(at);
}

/* ---- the tree ---- */

/* The hash beside a node, as the file has it. */
static struct cap_hash beside(const struct client_cache *cache, unsigned level, uint64_t index)
{
    static const struct cap_hash none;
    struct cap_hash hash = none;
    if ((index ^ 1) < nodes_of(cache, level)) {
        read_at(cache, cache->nodes_at[level] + (index ^ 1) * CAP_HASH_SIZE, hash.bytes,
                CAP_HASH_SIZE);
    }
    return cap_hash_equal(&hash, &none) ? *cap_slice_empty(cache->tree.kind, level) : hash;
}

/* Whether a group whose subtree has this root is the cap's, by the nodes in the file. */
static bool is_proven(const struct client_cache *cache, uint64_t group, struct cap_hash hash)
{
    uint64_t index = group;
    for (unsigned level = CLIENT_GROUP_LEVEL; level < cache->depth; level++) {
        struct cap_hash other = beside(cache, level, index);
        cap_hash_pair(index % 2 == 0 ? &hash : &other, index % 2 == 0 ? &other : &hash, &hash);
        index /= 2;
    }
    return cap_hash_equal(&hash, &cache->tree.root);
}

/*
 * A slice has no nodes below one whose pages are all zero, so what the file has there instead, of
 * which none may be right, stays. A group of zeros was proven: from it upwards nodes are taken
 * back, as far as they keep the file from proving it.
 */
static void clear_beside_zeros(struct client_cache *cache, uint64_t group)
{
    static const struct cap_hash none;
    for (unsigned level = cache->bottom; level < cache->depth; level++) {
        uint64_t index = (group >> (level - cache->bottom)) ^ 1;
        if (is_proven(cache, group, *cap_slice_empty(cache->tree.kind, cache->bottom))) {
            return;
        }
        if (index < nodes_of(cache, level)) {
            write_at(cache, cache->nodes_at[level] + index * CAP_HASH_SIZE, &none, sizeof(none));
        }
    }
}

/* ---- groups ---- */

bool client_cache_has(struct client_cache *cache, uint64_t group)
{
    uint8_t there = 0;
    if (group < cache->groups) {
        read_at(cache, cache->there_at + group, &there, 1);
    }
    return there != 0;
}

bool client_cache_get(struct client_cache *cache, uint64_t group, uint8_t dst[CLIENT_GROUP_SIZE],
                      bool *ret_dropped)
{
    static const uint8_t gone = 0;
    *ret_dropped = false;
    if (!client_cache_has(cache, group)) {
        return false;
    }
    unsigned pages = client_group_pages(cache->tree.pages, group);
    size_t len = (size_t)pages * CAP_PAGE_SIZE;
    read_at(cache, cache->pages_at + group * CLIENT_GROUP_SIZE, dst, len);
    memset(dst + len, 0, CLIENT_GROUP_SIZE - len);
    struct cap_hash root;
    cap_slice_group_root(cache->tree.kind, dst, pages, cache->bottom, &root);
    if (is_proven(cache, group, root)) {
        return true;
    }
    write_at(cache, cache->there_at + group, &gone, 1);
    *ret_dropped = true;
    return false;
}

void client_cache_put(struct client_cache *cache, uint64_t group, const uint8_t *bytes)
{
    static const uint8_t there = 1;
    static const uint8_t zeros[CLIENT_GROUP_SIZE];
    if (group >= cache->groups || cache->failed) {
        return;
    }
    uint64_t at = cache->pages_at + group * CLIENT_GROUP_SIZE;
    size_t len = (size_t)client_group_pages(cache->tree.pages, group) * CAP_PAGE_SIZE;
    /* A hole where nothing was; elsewhere the file system may not know how to make one. */
    if (bytes == NULL && fallocate(cache->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                                   (off_t)len) == 0) {
        len = 0;
    }
    write_at(cache, at, bytes != NULL ? bytes : zeros, len);
    if (bytes == NULL) {
        clear_beside_zeros(cache, group);
    }
    write_at(cache, cache->there_at + group, &there, 1);
}

void client_cache_put_pair(struct client_cache *cache, unsigned level, uint64_t index,
                           const struct cap_hash children[2])
{
    if (level > CLIENT_GROUP_LEVEL && 2 * index + 1 < nodes_of(cache, level - 1)) {
        write_at(cache, cache->nodes_at[level - 1] + 2 * index * CAP_HASH_SIZE, children,
                 2 * CAP_HASH_SIZE);
    }
}
