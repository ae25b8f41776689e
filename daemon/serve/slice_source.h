/*
 * The store as where slices are made from (struct cap_slice_source): all but the body, which a
 * reader and a thread of HTTP read each in its own way.
 */
#ifndef DAEMON_SERVE_SLICE_SOURCE_H
#define DAEMON_SERVE_SLICE_SOURCE_H

#include "lib/cap/slice.h"
#include "lib/store/store.h"

/* A cap in a snapshot; borrowed, both. */
struct slice_snapshot {
    struct cap_read *read;
    const struct cap_hash *hash;
};

/* What a slice is made of, by what the store says of the cap. */
static inline struct cap_slice_subject slice_subject(const struct cap_info *info)
{
    return (struct cap_slice_subject){
        .kind = info->kind,
        .body_len = info->body_len,
        .size = info->size,
        .page_count = info->page_count,
        .node_counts = info->node_counts,
    };
}

/* `roots` and `nodes` of a cap_slice_source, whose ctx begins with a struct slice_snapshot. As
 * cap_store_page_roots and cap_store_nodes. */
static inline enum cap_error slice_roots(void *ctx, uint64_t first, size_t count,
                                         struct cap_hash *dst)
{
    const struct slice_snapshot *snapshot = ctx;
    return cap_store_page_roots(snapshot->read, snapshot->hash, first, count, dst);
}

static inline enum cap_error slice_nodes(void *ctx, uint64_t first, size_t count,
                                         struct cap_node *dst)
{
    const struct slice_snapshot *snapshot = ctx;
    return cap_store_nodes(snapshot->read, snapshot->hash, first, count, dst);
}

#endif
