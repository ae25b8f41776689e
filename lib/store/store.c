/*
 * The store's front: checks arguments once for all engines, then calls the engine's operation.
 *
 * What is the same for every engine lives here: which puts are well-formed, how references are
 * merged, how a listing is cut into pages, that one cap_write is open at a time and that after a
 * failed put nothing but an abort is taken.
 */
#include "lib/store/store.h"

#include <stdlib.h>

#include "lib/store/engine.h"
#include "lib/store/record.h"

static bool is_kind(int kind)
{
    return kind == CAP_KIND_IMAGE || kind == CAP_KIND_DATA;
}

void cap_store_close(struct cap_store *store)
{
    if (store) {
        store->ops->close(store);
    }
}

const uint8_t *cap_store_id(const struct cap_store *store)
{
    return store->id;
}

const char *cap_store_engine(const struct cap_store *store)
{
    return store->ops->name;
}

enum cap_error cap_store_space(struct cap_store *store, struct cap_space *ret_space)
{
    return store->ops->space(store, ret_space);
}

enum cap_error cap_store_tend(struct cap_store *store)
{
    return store->ops->tend(store);
}

/* --- Reading ---------------------------------------------------------------------------------- */

enum cap_error cap_store_read_begin(struct cap_store *store, struct cap_read **ret_read)
{
    return store->ops->read_begin(store, ret_read);
}

void cap_store_read_end(struct cap_read *read)
{
    if (read) {
        read->store->ops->read_end(read);
    }
}

enum cap_error cap_store_find(struct cap_read *read, const struct cap_hash *hash,
                              struct cap_info *ret_info)
{
    struct cap_info info;
    enum cap_error error = read->store->ops->find(read, hash, &info);

    if (error == CAP_OK && ret_info) {
        *ret_info = info;
    }
    return error;
}

enum cap_error cap_store_window(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                                uint64_t len, struct iovec *ret_iov, int *ret_count,
                                size_t *ret_len)
{
    if (len > CAP_STORE_WINDOW) {
        len = CAP_STORE_WINDOW;
    }
    return read->store->ops->window(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

enum cap_error cap_store_page_roots(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t first, size_t count, struct cap_hash *ret_roots)
{
    return read->store->ops->page_roots(read, hash, first, count, ret_roots);
}

enum cap_error cap_store_list(struct cap_read *read, const struct cap_list_query *query,
                              struct cap_listed *ret_items, size_t *ret_count,
                              struct cap_hash *ret_last, bool *ret_more)
{
    if (query->kind != 0 && !is_kind(query->kind)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    if (query->prefix_bits > 8 * CAP_HASH_SIZE || query->max == 0 || query->scan_max == 0) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return read->store->ops->list(read, query, ret_items, ret_count, ret_last, ret_more);
}

enum cap_error cap_store_refs(struct cap_read *read, const struct cap_hash *hash,
                              enum cap_ref_direction direction, const struct cap_hash *after,
                              size_t max, struct cap_ref *ret_refs, size_t *ret_count,
                              bool *ret_more)
{
    if (max == 0) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return read->store->ops->refs(read, hash, direction, after, max, ret_refs, ret_count, ret_more);
}

enum cap_error cap_store_find_content(struct cap_read *read, const struct cap_hash *content_hash,
                                      struct cap_hash *ret_hash)
{
    return read->store->ops->find_content(read, content_hash, ret_hash);
}

enum cap_error cap_store_counts(struct cap_read *read, struct cap_counts *ret_counts)
{
    return read->store->ops->counts(read, ret_counts);
}

/* --- Writing ---------------------------------------------------------------------------------- */

enum cap_error cap_store_stage_begin(struct cap_store *store, uint64_t body_len,
                                     uint64_t *ret_stage)
{
    if (store->writing || body_len > STORE_BODY_MAX) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return store->ops->stage_begin(store, body_len, ret_stage);
}

enum cap_error cap_store_stage_step(struct cap_store *store, uint64_t stage,
                                    const struct cap_source *body, bool *ret_done)
{
    if (store->writing) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return store->ops->stage_step(store, stage, body, ret_done);
}

enum cap_error cap_store_stage_drop(struct cap_store *store, uint64_t stage)
{
    if (store->writing) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return store->ops->stage_drop(store, stage);
}

enum cap_error cap_store_write_begin(struct cap_store *store, struct cap_write **ret_write)
{
    struct cap_write *write;
    enum cap_error error;

    if (store->writing) {
        return CAP_E_INVALID_ARGUMENT;
    }
    error = store->ops->write_begin(store, &write);
    if (error != CAP_OK) {
        return error;
    }
    write->store = store;
    write->failed = false;
    store->writing = true;
    *ret_write = write;
    return CAP_OK;
}

enum cap_error cap_store_write_find(struct cap_write *write, const struct cap_hash *hash,
                                    struct cap_info *ret_info)
{
    struct cap_info info;
    enum cap_error error = write->store->ops->write_find(write, hash, &info);

    if (error == CAP_OK && ret_info) {
        *ret_info = info;
    }
    return error;
}

static int compare_refs(const void *a, const void *b)
{
    const struct cap_ref *left = a;
    const struct cap_ref *right = b;

    return memcmp(left->hash.bytes, right->hash.bytes, CAP_HASH_SIZE);
}

/* Sorts a copy of the references and merges the tables of those with one target. */
static enum cap_error merge_refs(const struct cap_put *put, struct cap_ref **ret_refs,
                                 size_t *ret_count)
{
    struct cap_ref *refs;
    size_t count = 0;

    if (put->ref_count > SIZE_MAX / sizeof(*refs)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    refs = malloc(put->ref_count * sizeof(*refs));
    if (!refs) {
        return CAP_E_NO_MEMORY;
    }
    memcpy(refs, put->refs, put->ref_count * sizeof(*refs));
    qsort(refs, put->ref_count, sizeof(*refs), compare_refs);
    for (size_t i = 0; i < put->ref_count; i++) {
        if (count > 0 && cap_hash_equal(&refs[count - 1].hash, &refs[i].hash)) {
            refs[count - 1].tables |= refs[i].tables;
        } else {
            refs[count++] = refs[i];
        }
    }
    *ret_refs = refs;
    *ret_count = count;
    return CAP_OK;
}

static bool is_put_valid(const struct cap_put *put)
{
    const struct cap_info *info = &put->info;

    if (!is_kind((int)info->kind) || info->body_len > STORE_BODY_MAX) {
        return false;
    }
    if (info->page_count > STORE_PAGE_MAX || info->page_count > SIZE_MAX / CAP_HASH_SIZE) {
        return false;
    }
    if ((info->page_count > 0 && !put->page_roots) ||
        (put->stage == 0 && info->body_len > 0 && !put->body.read && !put->body.memory)) {
        return false;
    }
    if (info->kind == CAP_KIND_DATA && (put->ref_count > 0 || info->has_content_hash)) {
        return false;
    }
    if (info->kind == CAP_KIND_IMAGE && info->page_count > 0) {
        return false;
    }
    for (size_t i = 0; i < put->ref_count; i++) {
        uint8_t tables = put->refs[i].tables;

        if (tables == 0 || tables > (CAP_REF_PINNED | CAP_REF_INITIAL)) {
            return false;
        }
    }
    return true;
}

static enum cap_error put_merged(struct cap_write *write, const struct cap_put *put, bool *ret_new)
{
    struct cap_put merged = *put;
    struct cap_ref *refs = NULL;
    enum cap_error error;

    if (put->ref_count > 0) {
        error = merge_refs(put, &refs, &merged.ref_count);
        if (error != CAP_OK) {
            return error;
        }
        merged.refs = refs;
    }
    merged.info.ref_count = merged.ref_count;
    error = write->store->ops->write_put(write, &merged, ret_new);
    free(refs);
    return error;
}

enum cap_error cap_store_write_put(struct cap_write *write, const struct cap_put *put,
                                   bool *ret_new)
{
    enum cap_error error = CAP_E_INVALID_ARGUMENT;

    if (!write->failed && is_put_valid(put)) {
        error = put_merged(write, put, ret_new);
    }
    if (error != CAP_OK) {
        write->failed = true;
    }
    return error;
}

enum cap_error cap_store_write_commit(struct cap_write *write)
{
    struct cap_store *store = write->store;

    if (write->failed) {
        cap_store_write_abort(write);
        return CAP_E_INVALID_ARGUMENT;
    }
    store->writing = false;
    return store->ops->write_commit(write);
}

void cap_store_write_abort(struct cap_write *write)
{
    if (!write) {
        return;
    }
    write->store->writing = false;
    write->store->ops->write_abort(write);
}

/* --- What engines share ----------------------------------------------------------------------- */

static bool has_prefix(const struct cap_hash *hash, const struct cap_list_query *query)
{
    unsigned whole = query->prefix_bits / 8;
    unsigned rest = query->prefix_bits % 8;

    if (memcmp(hash->bytes, query->prefix.bytes, whole) != 0) {
        return false;
    }
    return rest == 0 || (hash->bytes[whole] ^ query->prefix.bytes[whole]) >> (8 - rest) == 0;
}

struct cap_hash store_scan_start(const struct cap_list_query *query)
{
    struct cap_hash start = {{0}};
    unsigned whole = query->prefix_bits / 8;
    unsigned rest = query->prefix_bits % 8;

    memcpy(start.bytes, query->prefix.bytes, whole);
    if (rest > 0) {
        start.bytes[whole] = (uint8_t)(query->prefix.bytes[whole] >> (8 - rest) << (8 - rest));
    }
    if (query->after && memcmp(query->after->bytes, start.bytes, CAP_HASH_SIZE) > 0) {
        start = *query->after;
    }
    return start;
}

bool store_scan_offer(struct store_scan *scan, const struct cap_hash *hash,
                      const struct cap_info *info)
{
    const struct cap_list_query *query = scan->query;

    if (!has_prefix(hash, query)) {
        return false;
    }
    if (query->after && memcmp(hash->bytes, query->after->bytes, CAP_HASH_SIZE) <= 0) {
        return true;
    }
    if (scan->count == query->max || scan->scanned == query->scan_max) {
        scan->more = true;
        return false;
    }
    scan->scanned++;
    scan->last = *hash;
    if (query->kind == 0 || query->kind == (int)info->kind) {
        scan->items[scan->count++] = (struct cap_listed){*hash, *info};
    }
    return true;
}

void store_counts_add(struct cap_counts *counts, const struct cap_info *info)
{
    counts->caps[info->kind]++;
    counts->body_bytes[info->kind] += info->body_len;
    counts->refs += info->ref_count;
}

enum cap_error store_source_read(const struct cap_source *source, uint64_t offset, void *dst,
                                 size_t len)
{
    if (!source->memory) {
        return source->read(source->ctx, offset, dst, len);
    }
    if (len > 0) {
        memcpy(dst, source->memory + offset, len);
    }
    return CAP_OK;
}
