/*
 * The check of the file's pages, without LMDB: it trusts them, so what is wrong here it would write
 * on with, or crash over.
 *
 * The trees are walked from the last commit's meta page: every page says its own number and kind,
 * its nodes fill it from `upper` to its end, no page is in use twice, none that is in use is in the
 * free list, and each tree has as many pages and entries as its root says. The file is read, not
 * mapped: what lies past its end is a finding and no SIGBUS. Bytes that LMDB never reads (padding,
 * the meta page that the next commit replaces) are not looked at.
 *
 * The layout is LMDB's data version 1, which all of 0.9 writes, on a machine of 64 bits: a page
 * begins with number u64, pad u16, kind u16, then either lower u16 and upper u16 or the length of
 * an overflow run u32; a node with size or child in lo u16 and hi u16, flags u16 (of a branch the
 * child's highest bits), length of its key u16.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/store/lmdb/check.h"

#define META_PAGES    2u
#define META_MAGIC    0xbeefc0deu
#define META_DBS      40u  /* offset of the two trees of a meta page: free list, then main */
#define META_LAST     136u /* of the last page's number */
#define META_TXN      144u
#define DB_SIZE       48u
#define HEADER        16u
#define NODE          8u
#define KIND_BRANCH   1u
#define KIND_LEAF     2u
#define KIND_OVERFLOW 4u
#define NODE_OVERFLOW 1u /* the value lies in a run of pages */
#define NODE_TREE     2u /* the value is a tree's root */
#define NODE_FLAGS    (NODE_OVERFLOW | NODE_TREE)
#define NO_PAGE       UINT64_MAX
#define PAGE_MAX      65536u
#define FINDINGS_MAX  16u
#define REST_COST     (UINT64_C(1) << 20) /* bytes of pages between two rests */
#define TREES_MAX     (LMDB_TABLES + 2u)

struct tree {
    uint64_t flags; /* how its keys are compared; of the free list also the environment's */
    uint64_t branches;
    uint64_t leaves;
    uint64_t overflow;
    uint64_t entries;
    uint64_t root;
};

struct pages {
    struct check *check;
    int fd;
    uint32_t size;  /* of a page */
    uint64_t count; /* up to the last one that the meta page knows */
    uint8_t *used;  /* a bit for each */
    unsigned findings;
    struct tree trees[TREES_MAX]; /* as their roots say */
    size_t tree_count;
    uint64_t *todo; /* pages of the tree that is walked */
    size_t todo_count;
    size_t todo_capacity;
    struct tree seen; /* of that tree */
    bool is_main;
    bool is_free;
    uint64_t txn;        /* the last commit */
    uint64_t freed_last; /* the last transaction that is in the free list */
    uint64_t free_by;    /* the transaction of the free list's entry before, in this page */
    size_t filled;       /* bytes of this page's nodes */
    uint8_t page[PAGE_MAX];
};

#define FIND(pages, ...)                                                                           \
    do {                                                                                           \
        if ((pages)->findings++ < FINDINGS_MAX) {                                                  \
            lmdb_check_find((pages)->check, __VA_ARGS__);                                          \
        }                                                                                          \
    } while (0)

static bool read_at(int fd, uint64_t at, void *dst, size_t len)
{
    uint8_t *to = dst;
    while (len > 0) {
        ssize_t got = pread(fd, to, len, (off_t)at);
        if (got <= 0) {
            return false;
        }
        to += got;
        at += (uint64_t)got;
        len -= (size_t)got;
    }
    return true;
}

static struct tree load_tree(const uint8_t *db)
{
    return (struct tree){cap_load16(db + 4),  cap_load64(db + 8),  cap_load64(db + 16),
                         cap_load64(db + 24), cap_load64(db + 32), cap_load64(db + 40)};
}

/* Nodes begin at even offsets. */
static size_t even(size_t len)
{
    return len + len % 2;
}

/* Takes a page for one use. */
static bool take(struct pages *pages, uint64_t number, const char *what)
{
    if (number < META_PAGES || number >= pages->count) {
        FIND(pages, "%s names page %" PRIu64 " of %" PRIu64, what, number, pages->count);
        return false;
    }
    uint8_t bit = (uint8_t)(1u << number % 8);
    if ((pages->used[number / 8] & bit) != 0) {
        FIND(pages, "%s names page %" PRIu64 ", which is in use", what, number);
        return false;
    }
    pages->used[number / 8] |= bit;
    return true;
}

static enum cap_error push(struct pages *pages, uint64_t number)
{
    if (!take(pages, number, "an index")) {
        return CAP_OK;
    }
    if (pages->todo_count == pages->todo_capacity) {
        size_t capacity = 2 * pages->todo_capacity + 64;
        uint64_t *todo = realloc(pages->todo, capacity * sizeof(*todo));
        if (todo == NULL) {
            return CAP_E_NO_MEMORY;
        }
        pages->todo = todo;
        pages->todo_capacity = capacity;
    }
    pages->todo[pages->todo_count++] = number;
    return CAP_OK;
}

/* A list of free pages: their number, then theirs. They are taken where they are in no tree. */
static void take_free(struct pages *pages, const uint8_t *list, size_t len)
{
    uint64_t count = len >= 8 ? cap_load64(list) : 0;
    if (len < 8 || count > len / 8 - 1) {
        FIND(pages, "a list of free pages is longer than its record");
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        (void)take(pages, cap_load64(list + 8 * i), "the free list");
    }
}

/* A value in pages of its own. */
static enum cap_error look_at_run(struct pages *pages, uint64_t number, uint64_t len)
{
    uint8_t header[HEADER];
    uint64_t run = (HEADER + len + pages->size - 1) / pages->size;
    pages->seen.overflow += run;
    for (uint64_t i = 0; i < run; i++) {
        if (!take(pages, number + i, "a value")) {
            return CAP_OK;
        }
    }
    if (!read_at(pages->fd, number * pages->size, header, sizeof(header))) {
        FIND(pages, "page %" PRIu64 " lies past the end of the file, or cannot be read", number);
        return CAP_OK;
    }
    if (cap_load64(header) != number || cap_load16(header + 10) != KIND_OVERFLOW ||
        cap_load32(header + 12) != run) {
        FIND(pages, "page %" PRIu64 " is not the beginning of a value of %" PRIu64 " pages", number,
             run);
        return CAP_OK;
    }
    if (!pages->is_free) {
        return CAP_OK;
    }
    uint8_t *list = malloc((size_t)len); /* so many pages are there */
    if (list == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (read_at(pages->fd, number * pages->size + HEADER, list, (size_t)len)) {
        take_free(pages, list, (size_t)len);
    } else {
        FIND(pages, "page %" PRIu64 " lies past the end of the file, or cannot be read", number);
    }
    free(list);
    return CAP_OK;
}

/* An entry of the free list: pages that a transaction gave back. */
static void look_at_free(struct pages *pages, struct cap_bytes key)
{
    uint64_t txn = key.len == sizeof(txn) ? cap_load64(key.data) : 0;
    if (txn <= pages->free_by || txn > pages->txn) {
        FIND(pages, "the free list is out of order");
    }
    pages->free_by = txn;
    pages->freed_last = txn > pages->freed_last ? txn : pages->freed_last;
}

/* An entry of a leaf, whose `room` bytes reach to the page's end. */
static enum cap_error look_at_entry(struct pages *pages, const uint8_t *node, size_t room)
{
    uint32_t len = cap_load16(node) | (uint32_t)cap_load16(node + 2) << 16;
    uint16_t flags = cap_load16(node + 4);
    uint16_t key_len = cap_load16(node + 6);
    const uint8_t *value = node + NODE + key_len;
    size_t inline_len = (flags & NODE_OVERFLOW) != 0 ? 8 : len;
    pages->seen.entries++;
    if (inline_len > room || key_len + NODE + inline_len > room) {
        FIND(pages, "an entry of an index leaves its page");
        return CAP_OK;
    }
    if ((flags & ~NODE_FLAGS) != 0) {
        FIND(pages, "an entry of an index has unknown flags: 0x%x", flags);
    }
    pages->filled += even(NODE + key_len + inline_len);
    if (pages->is_free) {
        look_at_free(pages, (struct cap_bytes){node + NODE, key_len});
    }
    if ((flags & NODE_OVERFLOW) != 0) {
        return look_at_run(pages, cap_load64(value), len);
    }
    if (pages->is_free) {
        take_free(pages, value, len);
    } else if ((flags & NODE_TREE) != 0 && (!pages->is_main || len != DB_SIZE)) {
        FIND(pages, "an index lies within another");
    } else if ((flags & NODE_TREE) != 0 && pages->tree_count < TREES_MAX) {
        pages->trees[pages->tree_count++] = load_tree(value);
    }
    return CAP_OK;
}

/* Whether what was read as a page is one of an index, by its own word. */
static bool is_index_page(const struct pages *pages, uint64_t number)
{
    const uint8_t *page = pages->page;
    uint16_t kind = cap_load16(page + 10);
    uint16_t lower = cap_load16(page + 12);
    uint16_t upper = cap_load16(page + 14);
    return cap_load64(page) == number && (kind == KIND_BRANCH || kind == KIND_LEAF) &&
           lower >= HEADER && lower % 2 == 0 && upper >= lower && upper <= pages->size;
}

/* What lies at `offset` in the page that was read. */
static enum cap_error look_at_node(struct pages *pages, uint16_t offset, bool is_leaf)
{
    const uint8_t *node = pages->page + offset;
    if (offset < cap_load16(pages->page + 14) || offset + NODE > pages->size) {
        FIND(pages, "page %" PRIu64 " of an index is damaged", cap_load64(pages->page));
        return CAP_OK;
    }
    if (is_leaf) {
        return look_at_entry(pages, node, pages->size - offset);
    }
    pages->filled += even(NODE + cap_load16(node + 6));
    return push(pages, cap_load16(node) | (uint64_t)cap_load16(node + 2) << 16 |
                           (uint64_t)cap_load16(node + 4) << 32);
}

static enum cap_error look_at_page(struct pages *pages, uint64_t number)
{
    const uint8_t *page = pages->page;
    enum cap_error error = CAP_OK;
    if (!read_at(pages->fd, number * pages->size, pages->page, pages->size)) {
        FIND(pages, "page %" PRIu64 " lies past the end of the file, or cannot be read", number);
        return CAP_OK;
    }
    if (!is_index_page(pages, number)) {
        FIND(pages, "page %" PRIu64 " of an index is damaged", number);
        return CAP_OK;
    }
    bool is_leaf = cap_load16(page + 10) == KIND_LEAF;
    uint16_t lower = cap_load16(page + 12);
    pages->seen.branches += !is_leaf;
    pages->seen.leaves += is_leaf;
    pages->free_by = pages->filled = 0;
    for (uint16_t at = HEADER; error == CAP_OK && at < lower; at = (uint16_t)(at + 2)) {
        error = look_at_node(pages, cap_load16(page + at), is_leaf);
    }
    if (error == CAP_OK && pages->filled != pages->size - cap_load16(page + 14)) {
        FIND(pages, "page %" PRIu64 " of an index does not hold what it says", number);
    }
    return error;
}

static enum cap_error rest(struct pages *pages)
{
    struct check *check = pages->check;
    check->cost += pages->size;
    if (check->rest == NULL || check->cost < REST_COST) {
        return CAP_OK;
    }
    enum cap_error error = check->rest(check);
    check->cost = 0;
    return error;
}

static enum cap_error walk_tree(struct pages *pages, const struct tree *tree)
{
    enum cap_error error = CAP_OK;
    pages->seen = (struct tree){.flags = tree->flags, .root = tree->root};
    if (tree->flags != 0 && !pages->is_free) {
        FIND(pages, "an index has unknown flags: 0x%" PRIx64, tree->flags);
    }
    if (tree->root != NO_PAGE) {
        error = push(pages, tree->root);
    }
    while (error == CAP_OK && pages->todo_count > 0) {
        error = look_at_page(pages, pages->todo[--pages->todo_count]);
        if (error == CAP_OK) {
            error = rest(pages);
        }
    }
    if (error == CAP_OK && memcmp(&pages->seen, tree, sizeof(*tree)) != 0) {
        FIND(pages,
             "an index of %" PRIu64 " entries in %" PRIu64 " pages says %" PRIu64 " in %" PRIu64,
             pages->seen.entries, pages->seen.branches + pages->seen.leaves + pages->seen.overflow,
             tree->entries, tree->branches + tree->leaves + tree->overflow);
    }
    return error;
}

static enum cap_error walk_trees(struct pages *pages, const struct tree *free_list)
{
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < pages->tree_count; i++) {
        const struct tree tree = pages->trees[i];
        pages->is_main = i == 0;
        error = walk_tree(pages, &tree);
    }
    if (error == CAP_OK) {
        pages->is_free = true; /* last: what is free is in no tree */
        error = walk_tree(pages, free_list);
    }
    /* Every commit but the first copies pages, and gives back those that it copied. */
    if (error == CAP_OK && pages->txn > 1 && pages->freed_last != pages->txn) {
        FIND(pages, "the last commit is %" PRIu64 ", and in the free list %" PRIu64, pages->txn,
             pages->freed_last);
    }
    return error;
}

void lmdb_check_meta(struct check *check, int fd, uint32_t page_size, struct check_meta *ret_meta)
{
    uint8_t metas[META_PAGES][CHECK_META_SIZE];
    bool is_meta[META_PAGES];
    for (unsigned i = 0; i < META_PAGES; i++) {
        is_meta[i] = read_at(fd, (uint64_t)i * page_size, metas[i], sizeof(metas[i])) &&
                     cap_load32(metas[i] + HEADER) == META_MAGIC;
    }
    uint64_t txns[META_PAGES] = {cap_load64(metas[0] + META_TXN), cap_load64(metas[1] + META_TXN)};
    uint64_t apart = txns[0] > txns[1] ? txns[0] - txns[1] : txns[1] - txns[0];
    if (is_meta[0] && is_meta[1] && (txns[0] % 2 != 0 || apart != 1)) {
        lmdb_check_find(
            check, "the two last commits are not one after the other: %" PRIu64 " and %" PRIu64,
            txns[0], txns[1]);
    }
    unsigned newer = is_meta[1] && (!is_meta[0] || txns[1] > txns[0]);
    memcpy(ret_meta->bytes, metas[newer], CHECK_META_SIZE);
    ret_meta->is_sound = is_meta[newer];
}

enum cap_error lmdb_check_pages(struct check *check, int fd, uint32_t page_size,
                                uint64_t file_pages, const struct check_meta *meta)
{
    struct pages *pages = calloc(1, sizeof(*pages));
    enum cap_error error = CAP_E_NO_MEMORY;
    if (pages == NULL) {
        return error;
    }
    pages->check = check;
    pages->fd = fd;
    pages->size = page_size;
    if (page_size > PAGE_MAX || !meta->is_sound) {
        FIND(pages, "the first pages are damaged");
        error = CAP_OK;
        goto end;
    }
    pages->count = cap_load64(meta->bytes + META_LAST) + 1;
    if (pages->count > file_pages + LMDB_GAP_MAX) {
        FIND(pages, "the file has %" PRIu64 " pages of %" PRIu64 ": it was cut", file_pages,
             pages->count);
        error = CAP_OK;
        goto end;
    }
    pages->used = calloc(1, (size_t)(pages->count / 8 + 1));
    if (pages->used == NULL) {
        goto end;
    }
    const struct tree free_list = load_tree(meta->bytes + META_DBS);
    pages->txn = cap_load64(meta->bytes + META_TXN);
    pages->trees[pages->tree_count++] = load_tree(meta->bytes + META_DBS + DB_SIZE);
    error = walk_trees(pages, &free_list);
    if (pages->findings > FINDINGS_MAX) {
        lmdb_check_find(check, "so are %u more things of its pages",
                        pages->findings - FINDINGS_MAX);
    }
end:
    free(pages->todo);
    free(pages->used);
    free(pages);
    return error;
}
