/*
 * The memory engine: for tests, with the semantics of the real one.
 *
 * A *version* is an immutable picture of the store: four sorted tables and the counts. A snapshot
 * holds a reference to the version of its time; a write fills a copy, and its commit makes that the
 * current one. So readers see exactly what was committed when they began, never wait, and a commit
 * costs O(caps): right for tests. Caps themselves are immutable, are never deleted, and belong to
 * the store; versions only point to them.
 *
 * Windows hand out deliberately short spans, so that no test can rely on a body in one piece.
 */
#include "tests/support/store_memory.h"

#include <pthread.h>
#include <stdlib.h>

#include "lib/store/engine.h"
#include "tests/support/memory_version.h"

#define SPAN_SIZE 50000u /* a window of CAP_STORE_WINDOW then takes at most 7 spans */

struct memory_stage {
    uint64_t id;
    uint64_t body_len;
    struct cap_buf body;
    bool linked; /* in the open cap_write */
    struct memory_stage *next;
};

struct memory_read {
    struct cap_read base;
    struct memory_version *version;
};

struct memory_write {
    struct cap_write base;
    struct memory_version *version;
    struct memory_cap *caps;
    uint64_t bytes;   /* of bodies that were not staged: given back by an abort */
    uint64_t dropped; /* of stages of known caps: given back by a commit */
};

struct memory_store {
    struct cap_store base;
    uint64_t max_bytes;

    pthread_mutex_t lock; /* of the next two, and of every version's references */
    struct memory_version *current;
    uint32_t open_reads;

    struct memory_cap *caps; /* from here on: the writer's thread only */
    struct memory_stage *stages;
    uint64_t next_stage;
    uint64_t used_bytes; /* of committed bodies and of stages */
    struct memory_write write;
};

static struct memory_store *memory_of(struct cap_store *store)
{
    return (struct memory_store *)store;
}

static const struct memory_version *version_of(struct cap_read *read)
{
    return ((struct memory_read *)read)->version;
}

/* --- Versions --------------------------------------------------------------------------------- */

static void version_release(struct memory_store *store, struct memory_version *version)
{
    unsigned left;

    pthread_mutex_lock(&store->lock);
    left = --version->references;
    pthread_mutex_unlock(&store->lock);
    if (left == 0) {
        memory_version_free(version);
    }
}

/* --- Reading ---------------------------------------------------------------------------------- */

static enum cap_error memory_read_begin(struct cap_store *base, struct cap_read **ret_read)
{
    struct memory_store *store = memory_of(base);
    struct memory_read *read = malloc(sizeof(*read));

    if (!read) {
        return CAP_E_NO_MEMORY;
    }
    read->base.store = base;
    pthread_mutex_lock(&store->lock);
    read->version = store->current;
    read->version->references++;
    store->open_reads++;
    pthread_mutex_unlock(&store->lock);
    *ret_read = &read->base;
    return CAP_OK;
}

static void memory_read_end(struct cap_read *base)
{
    struct memory_read *read = (struct memory_read *)base;
    struct memory_store *store = memory_of(base->store);

    pthread_mutex_lock(&store->lock);
    store->open_reads--;
    pthread_mutex_unlock(&store->lock);
    version_release(store, read->version);
    free(read);
}

static enum cap_error memory_find(struct cap_read *base, const struct cap_hash *hash,
                                  struct cap_info *ret_info)
{
    const struct memory_cap *cap = memory_version_find(version_of(base), hash);

    if (!cap) {
        return CAP_E_NOT_FOUND;
    }
    *ret_info = cap->info;
    return CAP_OK;
}

static enum cap_error memory_window(struct cap_read *base, const struct cap_hash *hash,
                                    uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                    int *ret_count, size_t *ret_len)
{
    const struct memory_cap *cap = memory_version_find(version_of(base), hash);
    size_t at, rest;
    int count = 0;

    if (!cap) {
        return CAP_E_NOT_FOUND;
    }
    if (offset > cap->body.len) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    at = (size_t)offset;
    rest = cap->body.len - at < len ? cap->body.len - at : (size_t)len;
    *ret_len = rest;
    while (rest > 0) {
        size_t take = rest < SPAN_SIZE ? rest : SPAN_SIZE;

        ret_iov[count++] = (struct iovec){cap->body.data + at, take};
        at += take;
        rest -= take;
    }
    *ret_count = count;
    return CAP_OK;
}

static enum cap_error memory_page_roots(struct cap_read *base, const struct cap_hash *hash,
                                        uint64_t first, size_t count, struct cap_hash *ret_roots)
{
    const struct memory_cap *cap = memory_version_find(version_of(base), hash);

    if (!cap) {
        return CAP_E_NOT_FOUND;
    }
    if (first > cap->info.page_count || count > cap->info.page_count - first) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    if (count > 0) {
        memcpy(ret_roots, cap->roots.data + first * CAP_HASH_SIZE, count * CAP_HASH_SIZE);
    }
    return CAP_OK;
}

static enum cap_error memory_list(struct cap_read *base, const struct cap_list_query *query,
                                  struct cap_listed *ret_items, size_t *ret_count,
                                  struct cap_hash *ret_last, bool *ret_more)
{
    const struct memory_table *caps = &version_of(base)->caps;
    struct store_scan scan = {.query = query, .items = ret_items};

    scan.last = store_scan_start(query);
    for (size_t i = memory_table_seek(caps, scan.last.bytes); i < caps->count; i++) {
        const struct cap_item *item = memory_table_at(caps, i);

        if (!store_scan_offer(&scan, &item->hash, &item->cap->info)) {
            break;
        }
    }
    *ret_count = scan.count;
    *ret_last = scan.last;
    *ret_more = scan.more;
    return CAP_OK;
}

static enum cap_error memory_refs(struct cap_read *base, const struct cap_hash *hash,
                                  enum cap_ref_direction direction, const struct cap_hash *after,
                                  size_t max, struct cap_ref *ret_refs, size_t *ret_count,
                                  bool *ret_more)
{
    const struct memory_version *version = version_of(base);
    const struct memory_table *table = direction == CAP_REFS_OUT ? &version->refs : &version->revs;
    struct ref_item start = {.left = *hash};
    size_t count = 0;
    bool more = false;

    if (after) {
        start.right = *after;
    }
    for (size_t i = memory_table_seek(table, &start); i < table->count && !more; i++) {
        const struct ref_item *item = memory_table_at(table, i);

        if (!cap_hash_equal(&item->left, hash)) {
            break;
        }
        if (after && cap_hash_equal(&item->right, after)) {
            continue;
        }
        more = count == max;
        if (!more) {
            ret_refs[count++] = (struct cap_ref){item->right, item->tables};
        }
    }
    *ret_count = count;
    *ret_more = more;
    return CAP_OK;
}

static enum cap_error memory_find_content(struct cap_read *base,
                                          const struct cap_hash *content_hash,
                                          struct cap_hash *ret_hash)
{
    const struct content_item *item =
        memory_table_find(&version_of(base)->contents, content_hash->bytes);

    if (!item) {
        return CAP_E_NOT_FOUND;
    }
    *ret_hash = item->hash;
    return CAP_OK;
}

static enum cap_error memory_counts(struct cap_read *base, struct cap_counts *ret_counts)
{
    *ret_counts = version_of(base)->counts;
    return CAP_OK;
}

static enum cap_error memory_space(struct cap_store *base, struct cap_space *ret_space)
{
    struct memory_store *store = memory_of(base);
    struct cap_space space = {.map_bytes = store->max_bytes};

    pthread_mutex_lock(&store->lock);
    space.readers = store->open_reads;
    pthread_mutex_unlock(&store->lock);
    *ret_space = space;
    return CAP_OK;
}

static enum cap_error memory_tend(struct cap_store *base)
{
    (void)base; /* no readers of other processes */
    return CAP_OK;
}

/* --- Stages ----------------------------------------------------------------------------------- */

static enum cap_error take_bytes(struct memory_store *store, uint64_t bytes)
{
    if (bytes > store->max_bytes - store->used_bytes) {
        return CAP_E_MAP_FULL;
    }
    store->used_bytes += bytes;
    return CAP_OK;
}

static enum cap_error append_source(struct cap_buf *buf, const struct cap_source *source,
                                    uint64_t offset, size_t len)
{
    enum cap_error error = cap_buf_reserve(buf, len);

    if (error == CAP_OK && len > 0) {
        error = store_source_read(source, offset, buf->data + buf->len, len);
    }
    if (error == CAP_OK) {
        buf->len += len;
    }
    return error;
}

static struct memory_stage *stage_of(const struct memory_store *store, uint64_t id)
{
    struct memory_stage *stage = store->stages;

    while (stage && stage->id != id) {
        stage = stage->next;
    }
    return stage;
}

static void stage_forget(struct memory_store *store, struct memory_stage *stage)
{
    struct memory_stage **link = &store->stages;

    while (*link != stage) {
        link = &(*link)->next;
    }
    *link = stage->next;
    cap_buf_free(&stage->body);
    free(stage);
}

static enum cap_error memory_stage_begin(struct cap_store *base, uint64_t body_len,
                                         uint64_t *ret_stage)
{
    struct memory_store *store = memory_of(base);
    struct memory_stage *stage;

    if (body_len > store->max_bytes - store->used_bytes) {
        return CAP_E_MAP_FULL;
    }
    stage = calloc(1, sizeof(*stage));
    if (!stage) {
        return CAP_E_NO_MEMORY;
    }
    stage->id = store->next_stage++;
    stage->body_len = body_len;
    stage->next = store->stages;
    store->stages = stage;
    *ret_stage = stage->id;
    return CAP_OK;
}

static enum cap_error memory_stage_step(struct cap_store *base, uint64_t id,
                                        const struct cap_source *body, bool *ret_done)
{
    struct memory_store *store = memory_of(base);
    struct memory_stage *stage = stage_of(store, id);
    uint64_t rest;
    size_t take;
    enum cap_error error;

    if (!stage) {
        return CAP_E_INVALID_ARGUMENT;
    }
    rest = stage->body_len - stage->body.len;
    take = (size_t)(rest < CAP_STAGE_STEP ? rest : CAP_STAGE_STEP);
    error = take_bytes(store, take);
    if (error != CAP_OK) {
        return error;
    }
    error = append_source(&stage->body, body, stage->body.len, take);
    if (error != CAP_OK) {
        store->used_bytes -= take;
        return error;
    }
    *ret_done = stage->body.len == stage->body_len;
    return CAP_OK;
}

static enum cap_error memory_stage_drop(struct cap_store *base, uint64_t id)
{
    struct memory_store *store = memory_of(base);
    struct memory_stage *stage = stage_of(store, id);

    if (!stage) {
        return CAP_OK;
    }
    store->used_bytes -= stage->body.len;
    stage_forget(store, stage);
    return CAP_OK;
}

/* --- Writing ---------------------------------------------------------------------------------- */

static struct memory_write *write_of(struct cap_write *base)
{
    return (struct memory_write *)base;
}

static void caps_free(struct memory_cap *cap)
{
    while (cap) {
        struct memory_cap *next = cap->next;

        cap_buf_free(&cap->body);
        cap_buf_free(&cap->roots);
        free(cap);
        cap = next;
    }
}

/* `current` changes only on the writer's own thread, so it is read here without the lock. */
static enum cap_error memory_write_begin(struct cap_store *base, struct cap_write **ret_write)
{
    struct memory_store *store = memory_of(base);
    struct memory_write *write = &store->write;

    write->version = memory_version_copy(store->current);
    if (!write->version) {
        return CAP_E_NO_MEMORY;
    }
    write->caps = NULL;
    write->bytes = 0;
    write->dropped = 0;
    *ret_write = &write->base;
    return CAP_OK;
}

static enum cap_error memory_write_find(struct cap_write *base, const struct cap_hash *hash,
                                        struct cap_info *ret_info)
{
    const struct memory_cap *cap = memory_version_find(write_of(base)->version, hash);

    if (!cap) {
        return CAP_E_NOT_FOUND;
    }
    *ret_info = cap->info;
    return CAP_OK;
}

static enum cap_error put_content(struct memory_version *version, const struct cap_put *put)
{
    struct content_item item = {put->info.content_hash, put->hash};

    if (!put->info.has_content_hash ||
        memory_table_find(&version->contents, item.content_hash.bytes)) {
        return CAP_OK;
    }
    return memory_table_put(&version->contents, &item);
}

static enum cap_error put_refs(struct memory_version *version, const struct cap_put *put)
{
    for (size_t i = 0; i < put->ref_count; i++) {
        const struct cap_ref *ref = &put->refs[i];
        struct ref_item out = {put->hash, ref->hash, ref->tables};
        struct ref_item in = {ref->hash, put->hash, ref->tables};
        enum cap_error error = memory_table_put(&version->refs, &out);

        if (error == CAP_OK) {
            error = memory_table_put(&version->revs, &in);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

/* A staged body is copied: an abort gives the stage back. */
static enum cap_error fill_body(struct memory_write *write, const struct cap_put *put,
                                const struct memory_stage *stage, struct memory_cap *cap)
{
    struct memory_store *store = memory_of(write->base.store);
    enum cap_error error;

    if (stage) {
        return cap_buf_append(&cap->body, stage->body.data, stage->body.len);
    }
    error = take_bytes(store, put->info.body_len);
    if (error != CAP_OK) {
        return error;
    }
    write->bytes += put->info.body_len;
    return append_source(&cap->body, &put->body, 0, (size_t)put->info.body_len);
}

static enum cap_error put_new(struct memory_write *write, const struct cap_put *put,
                              const struct memory_stage *stage)
{
    struct cap_item item = {.hash = put->hash};
    struct memory_cap *cap = calloc(1, sizeof(*cap));
    enum cap_error error;

    if (!cap) {
        return CAP_E_NO_MEMORY;
    }
    cap->next = write->caps; /* the write owns it from here on */
    write->caps = cap;
    cap->info = put->info;
    item.cap = cap;
    error = fill_body(write, put, stage, cap);
    if (error == CAP_OK && put->info.page_count > 0) {
        error = cap_buf_append(&cap->roots, put->page_roots,
                               (size_t)put->info.page_count * CAP_HASH_SIZE);
    }
    if (error == CAP_OK) {
        error = memory_table_put(&write->version->caps, &item);
    }
    if (error == CAP_OK) {
        error = put_refs(write->version, put);
    }
    if (error == CAP_OK) {
        error = put_content(write->version, put);
    }
    if (error == CAP_OK) {
        store_counts_add(&write->version->counts, &put->info);
    }
    return error;
}

static enum cap_error memory_write_put(struct cap_write *base, const struct cap_put *put,
                                       bool *ret_new)
{
    struct memory_write *write = write_of(base);
    struct memory_stage *stage = NULL;
    enum cap_error error;
    bool is_new;

    if (put->stage != 0) {
        stage = stage_of(memory_of(base->store), put->stage);
        if (!stage || stage->linked || stage->body_len != put->info.body_len ||
            stage->body.len != stage->body_len) {
            return CAP_E_INVALID_ARGUMENT;
        }
        stage->linked = true;
    }
    is_new = !memory_version_find(write->version, &put->hash);
    error = is_new ? put_new(write, put, stage) : put_content(write->version, put);
    if (error != CAP_OK) {
        return error;
    }
    if (stage && !is_new) {
        write->dropped += stage->body_len;
    }
    *ret_new = is_new;
    return CAP_OK;
}

static void settle_stages(struct memory_store *store, bool committed)
{
    struct memory_stage *stage = store->stages;

    while (stage) {
        struct memory_stage *next = stage->next;

        if (stage->linked && committed) {
            stage_forget(store, stage);
        } else {
            stage->linked = false;
        }
        stage = next;
    }
}

static enum cap_error memory_write_commit(struct cap_write *base)
{
    struct memory_write *write = write_of(base);
    struct memory_store *store = memory_of(base->store);
    struct memory_version *old = store->current;

    while (write->caps) {
        struct memory_cap *cap = write->caps;

        write->caps = cap->next;
        cap->next = store->caps;
        store->caps = cap;
    }
    store->used_bytes -= write->dropped;
    settle_stages(store, true);
    pthread_mutex_lock(&store->lock);
    store->current = write->version;
    pthread_mutex_unlock(&store->lock);
    version_release(store, old);
    write->version = NULL;
    return CAP_OK;
}

static void memory_write_abort(struct cap_write *base)
{
    struct memory_write *write = write_of(base);
    struct memory_store *store = memory_of(base->store);

    store->used_bytes -= write->bytes;
    settle_stages(store, false);
    caps_free(write->caps);
    write->caps = NULL;
    memory_version_free(write->version);
    write->version = NULL;
}

/* --- Life ------------------------------------------------------------------------------------- */

static void memory_close(struct cap_store *base)
{
    struct memory_store *store = memory_of(base);

    while (store->stages) {
        stage_forget(store, store->stages);
    }
    memory_version_free(store->current);
    caps_free(store->caps);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static const struct cap_store_ops memory_ops = {
    .name = "memory",
    .close = memory_close,
    .space = memory_space,
    .tend = memory_tend,
    .read_begin = memory_read_begin,
    .read_end = memory_read_end,
    .find = memory_find,
    .window = memory_window,
    .page_roots = memory_page_roots,
    .list = memory_list,
    .refs = memory_refs,
    .find_content = memory_find_content,
    .counts = memory_counts,
    .stage_begin = memory_stage_begin,
    .stage_step = memory_stage_step,
    .stage_drop = memory_stage_drop,
    .write_begin = memory_write_begin,
    .write_find = memory_write_find,
    .write_put = memory_write_put,
    .write_commit = memory_write_commit,
    .write_abort = memory_write_abort,
};

enum cap_error cap_store_memory_new(const uint8_t id[CAP_STORE_ID_SIZE], uint64_t max_bytes,
                                    struct cap_store **ret_store)
{
    struct memory_store *store = calloc(1, sizeof(*store));

    if (!store) {
        return CAP_E_NO_MEMORY;
    }
    store->current = memory_version_new();
    if (!store->current) {
        free(store);
        return CAP_E_NO_MEMORY;
    }
    store->base.ops = &memory_ops;
    memcpy(store->base.id, id, CAP_STORE_ID_SIZE);
    store->max_bytes = max_bytes;
    store->next_stage = 1;
    pthread_mutex_init(&store->lock, NULL);
    *ret_store = &store->base;
    return CAP_OK;
}
