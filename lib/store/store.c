/*
 * The store's front: checks arguments once for all engines, then calls the engine's operation.
 *
 * What is the same for every engine lives here: what a dry run finds, how a listing is cut into
 * pages. Admission is in admit.c.
 */
#include "lib/store/store.h"

#include "lib/cap/must.h"
#include "lib/store/engine.h"
#include "lib/store/record.h"

static bool is_kind(int kind)
{
    return kind == CAP_KIND_IMAGE || kind == CAP_KIND_DATA;
}

static bool is_root_name(const char *name)
{
    size_t len = strnlen(name, CAP_ROOT_NAME_MAX + 1);
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return false;
        }
    }
    return len > 0 && len <= CAP_ROOT_NAME_MAX;
}

void cap_store_close(struct cap_store *store)
{
    if (store != NULL) {
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

enum cap_error cap_store_clear_stale_readers(struct cap_store *store)
{
    return store->ops->clear_stale_readers(store);
}

enum cap_error cap_store_failure(const struct cap_store *store)
{
    return (enum cap_error)atomic_load(&store->failure);
}

/* --- Reading ---------------------------------------------------------------------------------- */

enum cap_error cap_store_read_begin(struct cap_store *store, struct cap_read **ret_read)
{
    return store->ops->read_begin(store, ret_read);
}

void cap_store_read_end(struct cap_read *read)
{
    if (read != NULL) {
        read->store->ops->read_end(read);
    }
}

enum cap_error cap_store_find(struct cap_read *read, const struct cap_hash *hash,
                              struct cap_info *ret_info)
{
    struct cap_info info;
    enum cap_error error = read->store->ops->find(read, hash, &info);
    if ((error == CAP_OK || error == CAP_E_QUARANTINED) && ret_info != NULL) {
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

enum cap_error cap_store_peek(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                              uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len)
{
    if (len > CAP_STORE_WINDOW) {
        len = CAP_STORE_WINDOW;
    }
    return read->store->ops->peek(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

enum cap_error cap_store_copy(struct cap_read *read, const struct iovec *iov, int count, void *dst)
{
    return read->store->ops->copy(read, iov, count, dst);
}

enum cap_error cap_store_locate(struct cap_read *read, const struct cap_hash *hash,
                                struct cap_info *ret_info, struct cap_place *ret_place)
{
    return read->store->ops->locate(read, hash, ret_info, ret_place);
}

enum cap_error cap_store_take(struct cap_read *read, const struct cap_hash *hash,
                              const struct cap_place *place, void *dst)
{
    return read->store->ops->take(read, hash, place, dst);
}

enum cap_error cap_store_load(struct cap_store *store, const struct cap_place *place, void *dst)
{
    return store->ops->load(store, place, dst);
}

enum cap_error cap_store_page_roots(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t first, size_t count, struct cap_hash *ret_roots)
{
    return read->store->ops->page_roots(read, hash, first, count, ret_roots);
}

enum cap_error cap_store_nodes(struct cap_read *read, const struct cap_hash *hash, uint64_t first,
                               size_t count, struct cap_node *ret_nodes)
{
    return read->store->ops->nodes(read, hash, first, count, ret_nodes);
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

enum cap_error cap_store_find_prefix(struct cap_read *read, const struct cap_hash *prefix,
                                     unsigned bits, struct cap_hash *ret_hash, size_t *ret_count)
{
    const struct cap_list_query query = {
        .prefix = *prefix, .prefix_bits = bits, .max = 2, .scan_max = 2};
    struct cap_listed found[2];
    struct cap_hash last;
    bool more;
    enum cap_error error = cap_store_list(read, &query, found, ret_count, &last, &more);
    if (error == CAP_OK && *ret_count > 0) {
        *ret_hash = found[0].hash;
    }
    return error;
}

enum cap_error cap_store_facts(struct cap_read *read, const struct cap_hash *hash, size_t max,
                               struct cap_fact *ret_facts, size_t *ret_count)
{
    return read->store->ops->facts(read, hash, max, ret_facts, ret_count);
}

enum cap_error cap_store_roots(struct cap_read *read, const char *after, size_t max,
                               struct cap_root *ret_roots, size_t *ret_count, bool *ret_more)
{
    if (max == 0 || (after != NULL && !is_root_name(after))) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return read->store->ops->roots(read, after, max, ret_roots, ret_count, ret_more);
}

enum cap_error cap_store_roots_of(struct cap_read *read, const struct cap_hash *hash, size_t max,
                                  struct cap_root *ret_roots, size_t *ret_count)
{
    return read->store->ops->roots_of(read, hash, max, ret_roots, ret_count);
}

enum cap_error cap_store_needed(struct cap_read *read, const struct cap_hash *hash,
                                unsigned *ret_needed)
{
    enum cap_error error = read->store->ops->needed(read, hash, ret_needed);
    if (error == CAP_OK && store_holds_has(&read->store->holds, hash)) {
        *ret_needed |= CAP_NEEDED_HOLD;
    }
    return error;
}

enum cap_error cap_store_removed(struct cap_read *read, const struct cap_hash *hash,
                                 struct cap_removed *ret_removed)
{
    return read->store->ops->removed(read, hash, ret_removed);
}

enum cap_error cap_store_due(struct cap_read *read, struct cap_due_cursor *cursor, uint64_t now_s,
                             size_t max, struct cap_due *ret_due, size_t *ret_count, bool *ret_more)
{
    if (max == 0) {
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error error =
        read->store->ops->due(read, cursor, now_s, max, ret_due, ret_count, ret_more);
    for (size_t i = 0; error == CAP_OK && i < *ret_count; i++) {
        if (store_holds_has(&read->store->holds, &ret_due[i].hash)) {
            ret_due[i].needed |= CAP_NEEDED_HOLD;
        }
    }
    return error;
}

enum cap_error cap_store_owner(struct cap_read *read, uint32_t uid, struct cap_usage *ret_usage)
{
    return read->store->ops->owner(read, uid, ret_usage);
}

enum cap_error cap_store_owners(struct cap_read *read, uint32_t from, size_t max,
                                struct cap_owner *ret_owners, size_t *ret_count)
{
    if (max == 0) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return read->store->ops->owners(read, from, max, ret_owners, ret_count);
}

enum cap_error cap_store_broken(struct cap_read *read, const struct cap_hash *after, size_t max,
                                struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more)
{
    *ret_count = 0;
    *ret_more = false;
    return max == 0 ? CAP_E_INVALID_ARGUMENT
                    : read->store->ops->broken(read, after, max, ret_broken, ret_count, ret_more);
}

enum cap_error cap_store_counts(struct cap_read *read, struct cap_counts *ret_counts)
{
    return read->store->ops->counts(read, ret_counts);
}

static enum cap_error look(struct cap_read *read, struct cap_admission *admission)
{
    struct cap_info info;
    admission->missing_count = 0;
    for (size_t i = 0; i < admission->needed_count; i++) {
        struct cap_needed *needed = &admission->needed[i];
        enum cap_error error = cap_store_find(read, &needed->hash, &info);
        if (error != CAP_OK && !cap_store_is_unserved(error)) {
            return error;
        }
        needed->missing = !cap_needed_is_met(needed, error == CAP_OK, info.kind);
        admission->missing_count += needed->missing;
    }
    for (size_t i = 0; i < admission->put_count; i++) {
        enum cap_error error = cap_store_find(read, &admission->puts[i].hash, NULL);
        if (error == CAP_E_FORBIDDEN_CAP) {
            admission->error = error;
            return CAP_OK;
        }
        if (error != CAP_OK && !cap_store_is_unserved(error)) {
            return error;
        }
        admission->puts[i].is_new = error != CAP_OK;
    }
    admission->error = admission->missing_count > 0 ? CAP_E_UNRESOLVED_SLOT : CAP_OK;
    return CAP_OK;
}

enum cap_error cap_store_dry_run(struct cap_store *store, struct cap_admission *admission)
{
    struct cap_read *read;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error != CAP_OK) {
        return error;
    }
    error = look(read, admission);
    cap_store_read_end(read);
    return error;
}

enum cap_error cap_store_forbidden(struct cap_read *read, const struct cap_hash *hash,
                                   struct cap_forbidden *ret_forbidden)
{
    return read->store->ops->forbidden(read, hash, ret_forbidden);
}

enum cap_error cap_store_forbid(struct cap_store *store, const struct cap_hash *hash, uint32_t uid,
                                const char *reason)
{
    struct cap_forbidden forbidden = {.time_us = store_wall_us(), .uid = uid};
    size_t len = strlen(reason);
    if (len > CAP_REASON_MAX) {
        return CAP_E_INVALID_ARGUMENT;
    }
    memcpy(forbidden.reason, reason, len);
    return store->ops->forbid(store, hash, &forbidden);
}

enum cap_error cap_store_allow(struct cap_store *store, const struct cap_hash *hash)
{
    return store->ops->allow(store, hash);
}

enum cap_error cap_store_quarantine(struct cap_store *store, const struct cap_hash *hash)
{
    return store->ops->quarantine(store, hash);
}

/* --- Scrub ------------------------------------------------------------------------------------ */

enum cap_error cap_store_scrub(struct cap_store *store, bool repair,
                               const struct cap_scrub_watch *watch,
                               struct cap_check_outcome *ret_outcome)
{
    *ret_outcome = (struct cap_check_outcome){0};
    return store->ops->scrub(store, repair, watch, ret_outcome);
}

enum cap_error cap_store_scrub_state(struct cap_read *read, struct cap_scrub_state *ret_state)
{
    return read->store->ops->scrub_state(read, ret_state);
}

/* --- Writing ---------------------------------------------------------------------------------- */

void cap_store_admit(struct cap_store *store, struct cap_admission *const *admissions, size_t count,
                     const struct cap_admit_watch *watch)
{
    store->ops->admit(store, admissions, count, watch);
}

enum cap_error cap_store_keep(struct cap_store *store, struct cap_keep *keeps, size_t count)
{
    return store->ops->keep(store, keeps, count);
}

enum cap_error cap_store_root_set(struct cap_store *store, const struct cap_root *root,
                                  bool *ret_replaced)
{
    if (!is_root_name(root->name)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return store->ops->root_set(store, root, ret_replaced);
}

enum cap_error cap_store_root_remove(struct cap_store *store, const char *name)
{
    return is_root_name(name) ? store->ops->root_remove(store, name) : CAP_E_NO_ROOT;
}

enum cap_error cap_store_delete(struct cap_store *store, const struct cap_hash *hash, uint32_t uid,
                                bool force)
{
    return store->ops->remove(store, hash, uid, force);
}

enum cap_error cap_store_collect(struct cap_store *store, size_t max_caps,
                                 struct cap_collected *ret_collected)
{
    *ret_collected = (struct cap_collected){0};
    return max_caps == 0 ? CAP_E_INVALID_ARGUMENT
                         : store->ops->collect(store, max_caps, ret_collected);
}

enum cap_error cap_store_stage_begin(struct cap_store *store, uint64_t body_len,
                                     uint64_t *ret_stage)
{
    if (body_len > STORE_BODY_MAX) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return store->ops->stage_begin(store, body_len, ret_stage);
}

enum cap_error cap_store_stage_step(struct cap_store *store, struct cap_staging *stagings,
                                    size_t count)
{
    return store->ops->stage_step(store, stagings, count);
}

void cap_store_stage_drop(struct cap_store *store, uint64_t stage)
{
    store->ops->stage_drop(store, stage);
}

enum cap_error cap_store_sweep(struct cap_store *store, uint64_t now_us, bool *ret_more)
{
    return store->ops->sweep(store, now_us, ret_more);
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
    if (query->after != NULL && memcmp(query->after->bytes, start.bytes, CAP_HASH_SIZE) > 0) {
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
    if (query->after != NULL && memcmp(hash->bytes, query->after->bytes, CAP_HASH_SIZE) <= 0) {
        return true;
    }
    if (scan->count == query->max || scan->scanned == query->scan_max) {
        scan->more = true;
        return false;
    }
    expect(scan->count <= scan->scanned);
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

void store_counts_remove(struct cap_counts *counts, const struct cap_info *info)
{
    counts->caps[info->kind]--;
    counts->body_bytes[info->kind] -= info->body_len;
    counts->refs -= info->ref_count;
}

void store_copy_spans(const struct iovec *iov, int count, void *dst)
{
    uint8_t *at = dst;
    for (int i = 0; i < count; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
}

enum cap_error store_source_read(const struct cap_source *source, uint64_t offset, void *dst,
                                 size_t len)
{
    if (source->memory == NULL) {
        return source->read(source->ctx, offset, dst, len);
    }
    if (len > 0) {
        memcpy(dst, source->memory + offset, len);
    }
    return CAP_OK;
}

/* --- Copies ----------------------------------------------------------------------------------- */

enum cap_error cap_store_backup(struct cap_store *store, const char *dir, struct cap_copy *copy)
{
    return store->ops->backup == NULL ? CAP_E_INVALID_ARGUMENT
                                      : store->ops->backup(store, dir, copy);
}

enum cap_error cap_store_compact(struct cap_store *store, struct cap_copy *copy)
{
    return store->ops->compact == NULL ? CAP_E_INVALID_ARGUMENT : store->ops->compact(store, copy);
}

bool cap_store_let_go(struct cap_store *store)
{
    return store->ops->let_go == NULL || store->ops->let_go(store);
}
