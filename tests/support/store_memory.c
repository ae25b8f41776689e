/*
 * The memory engine, with the semantics of the real one.
 *
 * One array holds the caps in the order in which they were put. They never change, and their memory
 * stays until the store is closed, so a commit is a number, how many of them are visible, and a
 * snapshot is a sorted copy of the pointers to these. Everything is searched from end to end: right
 * for tests.
 *
 * Windows hand out deliberately short spans, so that no test can rely on a body in one piece.
 */
#include "tests/support/store_memory.h"

#include <stdlib.h>

#include "tests/support/memory.h"

#define SPAN_SIZE 50000u /* a window of CAP_STORE_WINDOW then takes at most 7 spans */

void *memory_allocate(size_t size)
{
    void *bytes = malloc(size + 1);
    if (bytes == NULL) {
        abort();
    }
    return bytes;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static int compare_caps(const void *a, const void *b)
{
    const struct memory_cap *const *left = a;
    const struct memory_cap *const *right = b;
    int order = memcmp((*left)->hash.bytes, (*right)->hash.bytes, CAP_HASH_SIZE);
    return order != 0 ? order : (int)(*left)->is_alias - (int)(*right)->is_alias;
}

static enum cap_error memory_read_begin(struct cap_store *base, struct cap_read **ret_read)
{
    struct memory_store *store = memory_of(base);
    pthread_mutex_lock(&store->lock);
    size_t count = store->visible;
    struct memory_read *read = malloc(sizeof(*read) + count * sizeof(read->caps[0]));
    if (read != NULL) {
        *read = (struct memory_read){.base.store = base, .count = count};
        for (size_t i = 0; i < count; i++) {
            read->caps[i] = store->caps[i];
        }
        store->open_reads++;
    }
    pthread_mutex_unlock(&store->lock);
    if (read == NULL) {
        return CAP_E_NO_MEMORY;
    }
    qsort(read->caps, count, sizeof(read->caps[0]), compare_caps);
    *ret_read = &read->base;
    return CAP_OK;
}

static void memory_read_end(struct cap_read *base)
{
    struct memory_store *store = memory_of(base->store);
    pthread_mutex_lock(&store->lock);
    store->open_reads--;
    pthread_mutex_unlock(&store->lock);
    free(memory_read_of(base));
}

static struct memory_cap *search(struct memory_cap *const *caps, size_t count,
                                 const struct cap_hash *hash)
{
    for (size_t i = 0; i < count; i++) {
        if (cap_hash_equal(&caps[i]->hash, hash)) {
            return caps[i];
        }
    }
    return NULL;
}

struct memory_cap *memory_search(const struct memory_store *store, const struct cap_hash *hash)
{
    return search(store->caps, store->put, hash);
}

const struct memory_cap *memory_find_cap(struct cap_read *base, const struct cap_hash *hash)
{
    return search(memory_read_of(base)->caps, memory_read_of(base)->count, hash);
}

/* What is said of a cap now. */
static struct cap_info info_of(const struct memory_cap *cap)
{
    struct cap_info info = cap->info;
    info.kept_until_s = atomic_load(&cap->kept_until_s);
    info.quarantined = atomic_load(&cap->quarantined);
    return info;
}

/* A cap that may be served, or why it may not; of what is not there *ret_cap is NULL. */
static enum cap_error find_served(struct cap_read *base, const struct cap_hash *hash,
                                  const struct memory_cap **ret_cap)
{
    *ret_cap = memory_find_cap(base, hash);
    if (*ret_cap == NULL) {
        return memory_is_forbidden(memory_of(base->store), hash, NULL) ? CAP_E_FORBIDDEN_CAP
                                                                       : CAP_E_NOT_FOUND;
    }
    return atomic_load(&(*ret_cap)->quarantined) ? CAP_E_QUARANTINED : CAP_OK;
}

static enum cap_error memory_find(struct cap_read *base, const struct cap_hash *hash,
                                  struct cap_info *ret_info)
{
    const struct memory_cap *cap;
    enum cap_error error = find_served(base, hash, &cap);
    if (cap != NULL) {
        *ret_info = info_of(cap);
    }
    return error;
}

static enum cap_error memory_window(struct cap_read *base, const struct cap_hash *hash,
                                    uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                    int *ret_count, size_t *ret_len)
{
    const struct memory_cap *cap;
    enum cap_error error = find_served(base, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    if (offset > cap->info.body_len) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    if (len > cap->info.body_len - offset) {
        len = cap->info.body_len - offset;
    }
    *ret_len = (size_t)len;
    *ret_count = 0;
    while (len > 0) {
        uint64_t rest = SPAN_SIZE - offset % SPAN_SIZE;
        size_t take = (size_t)(len < rest ? len : rest);
        ret_iov[(*ret_count)++] = (struct iovec){cap->body + offset, take};
        offset += take;
        len -= take;
    }
    return CAP_OK;
}

static enum cap_error memory_peek(struct cap_read *base, const struct cap_hash *hash,
                                  uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                  int *ret_count, size_t *ret_len)
{
    return memory_window(base, hash, offset, len, ret_iov, ret_count, ret_len);
}

static enum cap_error memory_copy(struct cap_read *base, const struct iovec *iov, int count,
                                  void *dst)
{
    (void)base;
    store_copy_spans(iov, count, dst);
    return CAP_OK;
}

static enum cap_error memory_locate(struct cap_read *base, const struct cap_hash *hash,
                                    struct cap_info *ret_info, struct cap_place *ret_place)
{
    const struct memory_cap *cap;
    enum cap_error error = find_served(base, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    *ret_info = info_of(cap);
    *ret_place = (struct cap_place){0};
    if (cap->info.body_len > 0 && cap->info.body_len <= CAP_STORE_PLACE_MAX) {
        ret_place->at = cap->body;
        ret_place->len = (uint32_t)cap->info.body_len;
    }
    return CAP_OK;
}

static enum cap_error memory_load(struct cap_store *base, const struct cap_place *place, void *dst)
{
    (void)base;
    memcpy(dst, place->at, place->len);
    return CAP_OK;
}

static enum cap_error memory_take(struct cap_read *base, const struct cap_hash *hash,
                                  const struct cap_place *place, void *dst)
{
    (void)hash;
    return memory_load(base->store, place, dst);
}

/* Memory does not get damaged by itself, and there are no facts. */
static enum cap_error memory_facts(struct cap_read *base, const struct cap_hash *hash, size_t max,
                                   struct cap_fact *ret_facts, size_t *ret_count)
{
    (void)base;
    (void)hash;
    (void)max;
    (void)ret_facts;
    *ret_count = 0;
    return CAP_OK;
}

static enum cap_error memory_page_roots(struct cap_read *base, const struct cap_hash *hash,
                                        uint64_t first, size_t count, struct cap_hash *ret_roots)
{
    const struct memory_cap *cap;
    enum cap_error error = find_served(base, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t roots = cap_info_root_count(&cap->info);
    if (first > roots || count > roots - first) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    if (count > 0) {
        memcpy(ret_roots, cap->roots + first, count * sizeof(*ret_roots));
    }
    return CAP_OK;
}

static enum cap_error memory_nodes(struct cap_read *base, const struct cap_hash *hash,
                                   uint64_t first, size_t count, struct cap_node *ret_nodes)
{
    const struct memory_cap *cap;
    enum cap_error error = find_served(base, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t nodes = cap_node_total(&cap->info.node_counts);
    if (first > nodes || count > nodes - first) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    if (count > 0) {
        memcpy(ret_nodes, cap->nodes + first, count * sizeof(*ret_nodes));
    }
    return CAP_OK;
}

static enum cap_error memory_list(struct cap_read *base, const struct cap_list_query *query,
                                  struct cap_listed *ret_items, size_t *ret_count,
                                  struct cap_hash *ret_last, bool *ret_more)
{
    const struct memory_read *read = memory_read_of(base);
    const struct cap_hash start = store_scan_start(query);
    struct store_scan scan = {.query = query, .items = ret_items, .last = start};
    bool go_on = true;
    for (size_t i = 0; i < read->count && go_on; i++) {
        const struct memory_cap *cap = read->caps[i];
        if (!cap->is_alias && memcmp(cap->hash.bytes, start.bytes, CAP_HASH_SIZE) >= 0) {
            const struct cap_info info = info_of(cap);
            go_on = store_scan_offer(&scan, &cap->hash, &info);
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
    const struct memory_read *read = memory_read_of(base);
    *ret_count = 0;
    *ret_more = false;
    for (size_t i = 0; i < read->count; i++) {
        const struct memory_cap *cap = read->caps[i];
        for (uint64_t j = 0; j < cap->info.ref_count; j++) {
            bool is_out = direction == CAP_REFS_OUT;
            const struct cap_hash *from = is_out ? &cap->hash : &cap->refs[j].hash;
            const struct cap_hash *to = is_out ? &cap->refs[j].hash : &cap->hash;
            if (!cap_hash_equal(from, hash) ||
                (after != NULL && memcmp(to->bytes, after->bytes, CAP_HASH_SIZE) <= 0)) {
                continue;
            }
            if (*ret_count == max) {
                *ret_more = true;
                return CAP_OK;
            }
            ret_refs[(*ret_count)++] = (struct cap_ref){*to, cap->refs[j].tables};
        }
    }
    return CAP_OK;
}

static enum cap_error memory_find_content(struct cap_read *base,
                                          const struct cap_hash *content_hash,
                                          struct cap_hash *ret_hash)
{
    const struct memory_read *read = memory_read_of(base);
    for (size_t i = 0; i < read->count; i++) {
        const struct cap_info *info = &read->caps[i]->info;
        if (info->has_content_hash && cap_hash_equal(&info->content_hash, content_hash)) {
            *ret_hash = read->caps[i]->hash;
            return CAP_OK;
        }
    }
    return CAP_E_NOT_FOUND;
}

static enum cap_error memory_counts(struct cap_read *base, struct cap_counts *ret_counts)
{
    const struct memory_read *read = memory_read_of(base);
    *ret_counts = (struct cap_counts){0};
    for (size_t i = 0; i < read->count; i++) {
        if (!read->caps[i]->is_alias) {
            store_counts_add(ret_counts, &read->caps[i]->info);
        }
    }
    return CAP_OK;
}

static enum cap_error memory_space(struct cap_store *base, struct cap_space *ret_space)
{
    struct memory_store *store = memory_of(base);
    pthread_mutex_lock(&store->lock);
    *ret_space = (struct cap_space){.map_bytes = store->max_bytes, .readers = store->open_reads};
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

static enum cap_error memory_clear_stale_readers(struct cap_store *base)
{
    (void)base;
    return CAP_OK;
}

/* --- Stages ----------------------------------------------------------------------------------- */

static bool has_room(const struct memory_store *store, uint64_t len)
{
    uint64_t used = 0;
    const struct memory_stage *stage;
    for (size_t i = 0; i < store->put; i++) {
        used += store->caps[i]->info.body_len;
    }
    LIST_FOREACH(stage, &store->stages, entry)
    {
        used += stage->body_len;
    }
    return used <= store->max_bytes && len <= store->max_bytes - used;
}

static struct memory_stage *find_stage(const struct memory_store *store, uint64_t id)
{
    struct memory_stage *stage;
    LIST_FOREACH(stage, &store->stages, entry)
    {
        if (stage->id == id) {
            return stage;
        }
    }
    return NULL;
}

static void free_stage(struct memory_stage *stage)
{
    LIST_REMOVE(stage, entry);
    free(stage->body);
    free(stage);
}

enum cap_error memory_try_commit(struct memory_store *store)
{
    enum cap_error error = store->commit_error;
    if (atomic_load(&store->base.failure) != CAP_OK) {
        return CAP_E_STORE_FAILED;
    }
    if (error == CAP_E_IO || error == CAP_E_STORE_FAILED) {
        atomic_store(&store->base.failure, error);
    }
    store->commit_error = CAP_OK;
    return error;
}

static enum cap_error memory_stage_begin(struct cap_store *base, uint64_t body_len,
                                         uint64_t *ret_stage)
{
    struct memory_store *store = memory_of(base);
    if (!has_room(store, body_len)) {
        return CAP_E_MAP_FULL;
    }
    struct memory_stage *stage = memory_allocate(sizeof(*stage));
    *stage = (struct memory_stage){
        .id = ++store->last_stage,
        .body_len = body_len,
        .body = memory_allocate(body_len),
    };
    LIST_INSERT_HEAD(&store->stages, stage, entry);
    *ret_stage = stage->id;
    return CAP_OK;
}

static enum cap_error memory_stage_step(struct cap_store *base, struct cap_staging *stagings,
                                        size_t count)
{
    struct memory_store *store = memory_of(base);
    enum cap_error error = CAP_OK;
    uint64_t room = CAP_STAGE_STEP;
    for (size_t i = 0; i < count && error == CAP_OK; i++) {
        struct memory_stage *stage = find_stage(store, stagings[i].stage);
        if (stage == NULL) {
            return CAP_E_INVALID_ARGUMENT;
        }
        uint64_t ready = stagings[i].ready;
        uint64_t until = ready == 0 || ready > stage->body_len ? stage->body_len : ready;
        uint64_t rest = until > stage->written ? until - stage->written : 0;
        uint64_t len = rest < room ? rest : room;
        error = store_source_read(stagings[i].body, stage->written, stage->body + stage->written,
                                  (size_t)len);
        stage->written += len; /* of one that fails nothing is used any more */
        stagings[i].written = stage->written;
        stagings[i].done = stage->written == stage->body_len;
        room -= len;
    }
    return error == CAP_OK ? memory_try_commit(store) : error;
}

static void memory_stage_drop(struct cap_store *base, uint64_t id)
{
    struct memory_stage *stage = find_stage(memory_of(base), id);
    if (stage != NULL) {
        free_stage(stage);
    }
}

/* Dropped stages are gone at once, and there are no facts. */
static enum cap_error memory_sweep(struct cap_store *base, uint64_t now_us, bool *ret_more)
{
    (void)base;
    (void)now_us;
    *ret_more = false;
    return CAP_OK;
}

/* --- Transactions ----------------------------------------------------------------------------- */

static enum cap_error begin(struct cap_store *base)
{
    return atomic_load(&base->failure) != CAP_OK ? CAP_E_STORE_FAILED : CAP_OK;
}

static enum cap_error find(struct cap_store *base, const struct cap_hash *hash,
                           enum cap_kind *ret_kind)
{
    const struct memory_cap *cap = memory_search(memory_of(base), hash);
    if (cap == NULL) {
        return memory_is_forbidden(memory_of(base), hash, NULL) ? CAP_E_FORBIDDEN_CAP
                                                                : CAP_E_NOT_FOUND;
    }
    *ret_kind = cap->info.kind;
    return atomic_load(&cap->quarantined) && !cap->healing ? CAP_E_QUARANTINED : CAP_OK;
}

static void *copy(void *to, const void *from, size_t size)
{
    return size > 0 ? memcpy(to, from, size) : to;
}

/* Appends a copy of all that is put; the body comes from its stage if there is one. */
static enum cap_error append(struct memory_store *store, const struct cap_put *put,
                             const struct memory_stage *stage, bool is_alias)
{
    size_t roots = (size_t)cap_info_root_count(&put->info) * sizeof(struct cap_hash);
    size_t nodes = (size_t)cap_node_total(&put->info.node_counts) * sizeof(struct cap_node);
    size_t refs = put->ref_count * sizeof(struct cap_ref);
    size_t len = (size_t)put->info.body_len;
    struct memory_cap *cap = memory_allocate(sizeof(*cap) + roots + nodes + refs + len);
    *cap = (struct memory_cap){.hash = put->hash, .info = put->info, .is_alias = is_alias};
    cap->kept_until_s = put->info.kept_until_s;
    cap->roots = copy(cap->bytes, put->page_roots, roots);
    cap->nodes = copy(cap->bytes + roots, put->nodes, nodes);
    cap->refs = copy(cap->bytes + roots + nodes, put->refs, refs);
    cap->body = cap->bytes + roots + nodes + refs;
    enum cap_error error = CAP_OK;
    if (stage != NULL) {
        copy(cap->body, stage->body, len);
    } else if (len > 0) {
        error = store_source_read(&put->body, 0, cap->body, len);
    }
    if (error != CAP_OK) {
        free(cap);
        return error;
    }
    pthread_mutex_lock(&store->lock);
    store->caps = realloc(store->caps, (store->put + 1) * sizeof(struct memory_cap *));
    if (store->caps == NULL) {
        abort();
    }
    store->caps[store->put++] = cap;
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

/* Whether the content hash of a put is one more that leads to its cap, and there may be more. */
static bool is_new_content(const struct memory_store *store, const struct cap_put *put)
{
    unsigned count = 0;
    for (size_t i = 0; i < store->put; i++) {
        const struct cap_info *info = &store->caps[i]->info;
        if (!info->has_content_hash || !cap_hash_equal(&store->caps[i]->hash, &put->hash)) {
            continue;
        }
        if (cap_hash_equal(&info->content_hash, &put->info.content_hash)) {
            return false;
        }
        count++;
    }
    return count < CAP_STORE_CONTENTS;
}

static enum cap_error put(struct cap_store *base, const struct cap_put *put, bool *ret_new)
{
    struct memory_store *store = memory_of(base);
    struct memory_stage *stage = find_stage(store, put->stage);
    enum cap_error error = CAP_OK;
    enum cap_kind kind;
    if (put->stage != 0 && (stage == NULL || stage->used || stage->body_len != put->info.body_len ||
                            stage->written != stage->body_len)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error found = find(base, &put->hash, &kind);
    *ret_new = found != CAP_OK;
    if (found == CAP_E_FORBIDDEN_CAP) {
        return found;
    }
    if (found == CAP_E_QUARANTINED) {
        memory_search(store, &put->hash)->healing = true;
    } else if (*ret_new && stage == NULL && !has_room(store, put->info.body_len)) {
        error = CAP_E_MAP_FULL;
    } else if (*ret_new) {
        error = append(store, put, stage, false);
    } else if (put->info.has_content_hash && is_new_content(store, put)) {
        const struct cap_put alias = {
            .hash = put->hash,
            .info = {.has_content_hash = true, .content_hash = put->info.content_hash},
        };
        error = append(store, &alias, NULL, true);
    }
    if (error == CAP_OK && stage != NULL) {
        stage->used = true;
    }
    return error;
}

/* The stages that the transaction used are gone after a commit, and as before otherwise. */
static void settle(struct memory_store *store, bool committed)
{
    struct memory_stage *next = NULL;
    for (struct memory_stage *stage = LIST_FIRST(&store->stages); stage != NULL; stage = next) {
        next = LIST_NEXT(stage, entry);
        if (stage->used && committed) {
            free_stage(stage);
        } else {
            stage->used = false;
        }
    }
    while (!committed && store->put > store->visible) {
        free(store->caps[--store->put]);
    }
    for (size_t i = 0; i < store->put; i++) {
        struct memory_cap *cap = store->caps[i];
        if (cap->healing && committed) {
            atomic_store(&cap->quarantined, false);
        }
        cap->healing = false;
    }
    pthread_mutex_lock(&store->lock);
    store->visible = store->put;
    pthread_mutex_unlock(&store->lock);
}

static void abort_puts(struct cap_store *base)
{
    settle(memory_of(base), false);
}

static enum cap_error commit(struct cap_store *base)
{
    enum cap_error error = memory_try_commit(memory_of(base));
    settle(memory_of(base), error == CAP_OK);
    return error;
}

static void memory_admit(struct cap_store *base, struct cap_admission *const *admissions,
                         size_t count, const struct cap_admit_watch *watch)
{
    static const struct store_transactions transactions = {
        .begin = begin,
        .find = find,
        .put = put,
        .keep = memory_keep_one,
        .commit = commit,
        .abort = abort_puts,
    };
    store_admit(base, &transactions, admissions, count, watch);
}

/* --- The engine ------------------------------------------------------------------------------- */

static void memory_close(struct cap_store *base)
{
    struct memory_store *store = memory_of(base);
    while (store->put > 0) {
        free(store->caps[--store->put]);
    }
    while (!LIST_EMPTY(&store->stages)) {
        free_stage(LIST_FIRST(&store->stages));
    }
    pthread_mutex_destroy(&store->lock);
    free(store->caps);
    while (store->removed_count > 0) {
        free(store->removed[--store->removed_count]);
    }
    free(store->removed);
    store_gone_free(base);
    free(store->roots);
    free(store->forbidden);
    free(store);
}

enum cap_error cap_store_memory_new(const uint8_t id[CAP_STORE_ID_SIZE], uint64_t max_bytes,
                                    struct cap_store **ret_store)
{
    static const struct cap_store_ops ops = {
        .name = "memory",
        .close = memory_close,
        .space = memory_space,
        .clear_stale_readers = memory_clear_stale_readers,
        .read_begin = memory_read_begin,
        .read_end = memory_read_end,
        .find = memory_find,
        .window = memory_window,
        .peek = memory_peek,
        .copy = memory_copy,
        .locate = memory_locate,
        .take = memory_take,
        .load = memory_load,
        .facts = memory_facts,
        .forbidden = memory_forbidden,
        .broken = memory_broken,
        .page_roots = memory_page_roots,
        .nodes = memory_nodes,
        .list = memory_list,
        .refs = memory_refs,
        .find_content = memory_find_content,
        .counts = memory_counts,
        .roots = memory_roots,
        .roots_of = memory_roots_of,
        .needed = memory_needed,
        .owner = memory_owner,
        .owners = memory_owners,
        .keep = memory_keep,
        .root_set = memory_root_set,
        .root_remove = memory_root_remove,
        .forbid = memory_forbid,
        .allow = memory_allow,
        .quarantine = memory_quarantine,
        .scrub = memory_scrub,
        .scrub_state = memory_scrub_state,
        .remove = memory_remove,
        .collect = memory_collect,
        .removed = memory_removed,
        .due = memory_due,
        .admit = memory_admit,
        .stage_begin = memory_stage_begin,
        .stage_step = memory_stage_step,
        .stage_drop = memory_stage_drop,
        .sweep = memory_sweep,
    };
    struct memory_store *store = memory_allocate(sizeof(*store));
    *store = (struct memory_store){.base.ops = &ops, .max_bytes = max_bytes};
    memcpy(store->base.id, id, CAP_STORE_ID_SIZE);
    store_clock_start(&store->base, 0);
    store_holds_init(&store->base.holds);
    pthread_mutex_init(&store->lock, NULL);
    *ret_store = &store->base;
    return CAP_OK;
}

void cap_store_memory_fail_commit(struct cap_store *base, enum cap_error error)
{
    memory_of(base)->commit_error = error;
}
