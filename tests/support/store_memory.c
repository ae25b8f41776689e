/*
 * The memory engine, with the semantics of the real one.
 *
 * Caps are immutable and never deleted, so a snapshot is a number: that of the last commit which it
 * sees. A list holds the caps, each with the number of its commit; what the open transaction has
 * put is PENDING. Everything is searched from end to end: right for tests.
 *
 * Windows hand out deliberately short spans, so that no test can rely on a body in one piece.
 */
#include "tests/support/store_memory.h"

#include <pthread.h>
#include <stdlib.h>

#include "lib/store/engine.h"

#define SPAN_SIZE 50000u /* a window of CAP_STORE_WINDOW then takes at most 7 spans */
#define PENDING   UINT64_MAX

struct memory_cap {
    struct cap_hash hash;
    struct cap_info info;
    uint8_t *body;
    struct cap_hash *roots;
    struct cap_ref *refs;
    uint64_t commit;
    uint64_t stage; /* that its body came by, or 0 */
    bool is_alias;  /* no cap: only its content hash counts */
    struct memory_cap *next;
};

struct memory_stage {
    uint64_t id;
    uint64_t body_len;
    uint64_t written;
    uint8_t *body;
    bool linked; /* in the open transaction */
    bool dead;
    struct memory_stage *next;
};

struct memory_read {
    struct cap_read base;
    uint64_t commit;
};

struct memory_store {
    struct cap_store base;
    uint64_t max_bytes;

    pthread_mutex_t lock;    /* of the next four */
    struct memory_cap *caps; /* the newest first */
    size_t cap_count;        /* in the list */
    uint64_t commit;         /* the last one */
    uint32_t open_reads;

    struct memory_stage *stages; /* from here on: the writer's thread only */
    uint64_t next_stage;
    uint64_t used_bytes; /* of caps, put ones included, and of stages */
    unsigned commits_to_fail;
    enum cap_error commit_error;
};

static struct memory_store *memory_of(struct cap_store *base)
{
    return STORE_CONTAINER_OF(base, struct memory_store, base);
}

static struct memory_read *read_of(struct cap_read *base)
{
    return STORE_CONTAINER_OF(base, struct memory_read, base);
}

/* PENDING for `commit` sees what the open transaction sees. */
static struct memory_cap *find_cap(struct memory_store *store, const struct cap_hash *hash,
                                   uint64_t commit)
{
    pthread_mutex_lock(&store->lock);
    struct memory_cap *cap = store->caps;
    while (cap != NULL && (cap->is_alias || !cap_hash_equal(&cap->hash, hash))) {
        cap = cap->next;
    }
    bool visible = cap != NULL && cap->commit <= commit;
    pthread_mutex_unlock(&store->lock);
    return visible ? cap : NULL;
}

static const struct memory_cap *find_read(struct cap_read *base, const struct cap_hash *hash)
{
    return find_cap(memory_of(base->store), hash, read_of(base)->commit);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static enum cap_error memory_read_begin(struct cap_store *base, struct cap_read **ret_read)
{
    struct memory_store *store = memory_of(base);
    struct memory_read *read = calloc(1, sizeof(*read));
    if (read == NULL) {
        return CAP_E_NO_MEMORY;
    }
    read->base.store = base;
    pthread_mutex_lock(&store->lock);
    read->commit = store->commit;
    store->open_reads++;
    pthread_mutex_unlock(&store->lock);
    *ret_read = &read->base;
    return CAP_OK;
}

static void memory_read_end(struct cap_read *base)
{
    struct memory_store *store = memory_of(base->store);
    pthread_mutex_lock(&store->lock);
    store->open_reads--;
    pthread_mutex_unlock(&store->lock);
    free(read_of(base));
}

static enum cap_error memory_find(struct cap_read *base, const struct cap_hash *hash,
                                  struct cap_info *ret_info)
{
    const struct memory_cap *cap = find_read(base, hash);
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
    }
    *ret_info = cap->info;
    return CAP_OK;
}

static enum cap_error memory_window(struct cap_read *base, const struct cap_hash *hash,
                                    uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                    int *ret_count, size_t *ret_len)
{
    const struct memory_cap *cap = find_read(base, hash);
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
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
                                  int *ret_count, size_t *ret_len, bool *ret_checked)
{
    *ret_checked = true;
    return memory_window(base, hash, offset, len, ret_iov, ret_count, ret_len);
}

/* Memory does not get damaged. */
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
    const struct memory_cap *cap = find_read(base, hash);
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
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

static int compare_caps(const void *a, const void *b)
{
    const struct memory_cap *const *left = a;
    const struct memory_cap *const *right = b;
    return memcmp((*left)->hash.bytes, (*right)->hash.bytes, CAP_HASH_SIZE);
}

/* All caps of the snapshot in hash order; the caller frees the array. NULL: no memory. */
static const struct memory_cap **all_caps(struct cap_read *base, size_t *ret_count)
{
    struct memory_store *store = memory_of(base->store);
    size_t count = 0;
    pthread_mutex_lock(&store->lock);
    const struct memory_cap **caps = calloc(store->cap_count + 1, sizeof(*caps));
    for (const struct memory_cap *cap = store->caps; caps != NULL && cap != NULL; cap = cap->next) {
        if (cap->commit <= read_of(base)->commit && !cap->is_alias) {
            caps[count++] = cap;
        }
    }
    pthread_mutex_unlock(&store->lock);
    if (count > 0) {
        qsort(caps, count, sizeof(*caps), compare_caps);
    }
    *ret_count = count;
    return caps;
}

static enum cap_error memory_list(struct cap_read *base, const struct cap_list_query *query,
                                  struct cap_listed *ret_items, size_t *ret_count,
                                  struct cap_hash *ret_last, bool *ret_more)
{
    struct store_scan scan = {.query = query, .items = ret_items, .last = store_scan_start(query)};
    struct cap_hash start = scan.last;
    size_t count = 0;
    bool go_on = true;
    const struct memory_cap **caps = all_caps(base, &count);
    if (caps == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count && go_on; i++) {
        if (memcmp(caps[i]->hash.bytes, start.bytes, CAP_HASH_SIZE) >= 0) {
            go_on = store_scan_offer(&scan, &caps[i]->hash, &caps[i]->info);
        }
    }
    free(caps);
    *ret_count = scan.count;
    *ret_last = scan.last;
    *ret_more = scan.more;
    return CAP_OK;
}

/* A page of references, filled in hash order. */
struct ref_page {
    const struct cap_hash *after;
    size_t max;
    struct cap_ref *refs;
    size_t count;
    bool more;
};

static void offer_ref(struct ref_page *page, const struct cap_hash *hash, uint8_t tables)
{
    if (page->after != NULL && memcmp(hash, page->after, CAP_HASH_SIZE) <= 0) {
        return;
    }
    page->more = page->count == page->max;
    if (!page->more) {
        page->refs[page->count++] = (struct cap_ref){*hash, tables};
    }
}

static enum cap_error memory_refs(struct cap_read *base, const struct cap_hash *hash,
                                  enum cap_ref_direction direction, const struct cap_hash *after,
                                  size_t max, struct cap_ref *ret_refs, size_t *ret_count,
                                  bool *ret_more)
{
    struct ref_page page = {.after = after, .max = max, .refs = ret_refs};
    size_t count = 0;
    const struct memory_cap **caps = all_caps(base, &count);
    if (caps == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        for (uint64_t j = 0; j < caps[i]->info.ref_count; j++) {
            const struct cap_ref *ref = &caps[i]->refs[j];
            if (direction == CAP_REFS_OUT && cap_hash_equal(&caps[i]->hash, hash)) {
                offer_ref(&page, &ref->hash, ref->tables);
            } else if (direction == CAP_REFS_IN && cap_hash_equal(&ref->hash, hash)) {
                offer_ref(&page, &caps[i]->hash, ref->tables);
            }
        }
    }
    free(caps);
    *ret_count = page.count;
    *ret_more = page.more;
    return CAP_OK;
}

static enum cap_error memory_find_content(struct cap_read *base,
                                          const struct cap_hash *content_hash,
                                          struct cap_hash *ret_hash)
{
    struct memory_store *store = memory_of(base->store);
    bool found = false;
    pthread_mutex_lock(&store->lock);
    for (const struct memory_cap *cap = store->caps; cap != NULL; cap = cap->next) {
        if (cap->commit <= read_of(base)->commit && cap->info.has_content_hash &&
            cap_hash_equal(&cap->info.content_hash, content_hash)) {
            *ret_hash = cap->hash; /* the oldest is the last */
            found = true;
        }
    }
    pthread_mutex_unlock(&store->lock);
    return found ? CAP_OK : CAP_E_NOT_FOUND;
}

static enum cap_error memory_counts(struct cap_read *base, struct cap_counts *ret_counts)
{
    size_t count = 0;
    const struct memory_cap **caps = all_caps(base, &count);
    if (caps == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *ret_counts = (struct cap_counts){0};
    for (size_t i = 0; i < count; i++) {
        store_counts_add(ret_counts, &caps[i]->info);
    }
    free(caps);
    return CAP_OK;
}

static enum cap_error memory_space(struct cap_store *base, struct cap_space *ret_space)
{
    struct memory_store *store = memory_of(base);
    pthread_mutex_lock(&store->lock);
    *ret_space = (struct cap_space){
        .map_bytes = store->max_bytes,
        .readers = store->open_reads,
    };
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

static enum cap_error memory_clear_stale_readers(struct cap_store *base)
{
    (void)base;
    return CAP_OK;
}

/* --- Stages ----------------------------------------------------------------------------------- */

static struct memory_stage *stage_of(struct memory_store *store, uint64_t id)
{
    struct memory_stage *stage = store->stages;
    while (stage != NULL && (stage->id != id || stage->dead)) {
        stage = stage->next;
    }
    return stage;
}

static enum cap_error fail_commit(struct memory_store *store)
{
    if (atomic_load(&store->base.failure) != CAP_OK) {
        return CAP_E_STORE_FAILED;
    }
    if (store->commits_to_fail == 0) {
        return CAP_OK;
    }
    store->commits_to_fail--;
    if (store->commit_error == CAP_E_IO || store->commit_error == CAP_E_STORE_FAILED) {
        atomic_store(&store->base.failure, store->commit_error);
    }
    return store->commit_error;
}

static enum cap_error memory_stage_begin(struct cap_store *base, uint64_t body_len,
                                         uint64_t *ret_stage)
{
    struct memory_store *store = memory_of(base);
    if (body_len > store->max_bytes - store->used_bytes) {
        return CAP_E_MAP_FULL;
    }
    struct memory_stage *stage = calloc(1, sizeof(*stage));
    uint8_t *body = malloc(body_len + 1);
    if (stage == NULL || body == NULL) {
        free(stage);
        free(body);
        return CAP_E_NO_MEMORY;
    }
    *stage = (struct memory_stage){
        .id = ++store->next_stage,
        .body_len = body_len,
        .body = body,
        .next = store->stages,
    };
    store->stages = stage;
    store->used_bytes += body_len;
    *ret_stage = stage->id;
    return CAP_OK;
}

static enum cap_error memory_stage_step(struct cap_store *base, uint64_t id,
                                        const struct cap_source *body, bool *ret_done)
{
    struct memory_store *store = memory_of(base);
    struct memory_stage *stage = stage_of(store, id);
    if (stage == NULL) {
        return CAP_E_INVALID_ARGUMENT;
    }
    uint64_t rest = stage->body_len - stage->written;
    uint64_t len = rest < CAP_STAGE_STEP ? rest : CAP_STAGE_STEP;
    enum cap_error error =
        store_source_read(body, stage->written, stage->body + stage->written, (size_t)len);
    if (error == CAP_OK) {
        error = fail_commit(store);
    }
    if (error == CAP_OK) {
        stage->written += len;
        *ret_done = stage->written == stage->body_len;
    }
    return error;
}

static void memory_stage_drop(struct cap_store *base, uint64_t id)
{
    struct memory_stage *stage = stage_of(memory_of(base), id);
    if (stage != NULL) {
        stage->dead = true;
    }
}

/* One stage per call. */
static enum cap_error memory_sweep(struct cap_store *base, uint64_t now_us, bool *ret_more)
{
    (void)now_us;
    struct memory_store *store = memory_of(base);
    struct memory_stage **link = &store->stages;
    while (*link != NULL && !(*link)->dead) {
        link = &(*link)->next;
    }
    struct memory_stage *stage = *link;
    *ret_more = stage != NULL;
    if (stage != NULL) {
        *link = stage->next;
        store->used_bytes -= stage->body_len;
        free(stage->body);
        free(stage);
    }
    return CAP_OK;
}

/* --- Transactions ----------------------------------------------------------------------------- */

static void free_cap(struct memory_cap *cap)
{
    free(cap->body);
    free(cap->roots);
    free(cap->refs);
    free(cap);
}

static enum cap_error begin(struct cap_store *base)
{
    return atomic_load(&base->failure) != CAP_OK ? CAP_E_STORE_FAILED : CAP_OK;
}

static enum cap_error find(struct cap_store *base, const struct cap_hash *hash,
                           enum cap_kind *ret_kind)
{
    const struct memory_cap *cap = find_cap(memory_of(base), hash, PENDING);
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
    }
    *ret_kind = cap->info.kind;
    return CAP_OK;
}

static void *copy(const void *from, size_t size)
{
    void *to = malloc(size + 1);
    if (to != NULL && size > 0) {
        memcpy(to, from, size);
    }
    return to;
}

static void add_pending(struct memory_store *store, struct memory_cap *cap)
{
    cap->commit = PENDING;
    pthread_mutex_lock(&store->lock);
    cap->next = store->caps;
    store->caps = cap;
    store->cap_count++;
    pthread_mutex_unlock(&store->lock);
}

static enum cap_error put_new(struct memory_store *store, const struct cap_put *put,
                              struct memory_stage *stage)
{
    struct memory_cap *cap = calloc(1, sizeof(*cap));
    if (cap == NULL) {
        return CAP_E_NO_MEMORY;
    }
    cap->hash = put->hash;
    cap->info = put->info;
    cap->stage = put->stage;
    cap->roots = copy(put->page_roots, cap_info_root_count(&put->info) * sizeof(*cap->roots));
    cap->refs = copy(put->refs, put->ref_count * sizeof(*cap->refs));
    enum cap_error error = cap->roots == NULL || cap->refs == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    if (error == CAP_OK && stage == NULL) {
        cap->body = malloc(put->info.body_len + 1);
        error = cap->body == NULL
                    ? CAP_E_NO_MEMORY
                    : store_source_read(&put->body, 0, cap->body, (size_t)put->info.body_len);
    }
    if (error != CAP_OK) {
        free_cap(cap);
        return error;
    }
    store->used_bytes += stage == NULL ? put->info.body_len : 0;
    add_pending(store, cap);
    return CAP_OK;
}

/* Another content hash for a cap that is there. */
static enum cap_error put_alias(struct memory_store *store, const struct cap_put *put)
{
    struct memory_cap *alias = calloc(1, sizeof(*alias));
    if (alias == NULL) {
        return CAP_E_NO_MEMORY;
    }
    alias->hash = put->hash;
    alias->info =
        (struct cap_info){.has_content_hash = true, .content_hash = put->info.content_hash};
    alias->is_alias = true;
    add_pending(store, alias);
    return CAP_OK;
}

static enum cap_error put(struct cap_store *base, const struct cap_put *put, bool *ret_new)
{
    struct memory_store *store = memory_of(base);
    struct memory_stage *stage = NULL;
    if (put->stage != 0) {
        stage = stage_of(store, put->stage);
        if (stage == NULL || stage->linked || stage->body_len != put->info.body_len ||
            stage->written != stage->body_len) {
            return CAP_E_INVALID_ARGUMENT;
        }
    }
    bool is_new = find_cap(store, &put->hash, PENDING) == NULL;
    enum cap_error error = CAP_OK;
    if (is_new && stage == NULL && put->info.body_len > store->max_bytes - store->used_bytes) {
        error = CAP_E_MAP_FULL;
    } else if (is_new) {
        error = put_new(store, put, stage);
    } else if (put->info.has_content_hash) {
        error = put_alias(store, put);
    }
    if (error == CAP_OK) {
        *ret_new = is_new;
        if (stage != NULL) {
            stage->linked = true;
        }
    }
    return error;
}

/* Keeps or forgets a cap of the transaction that ends. The lock is held. */
static void settle_cap(struct memory_store *store, struct memory_cap **link, bool committed)
{
    struct memory_cap *cap = *link;
    if (committed) {
        cap->commit = store->commit;
        if (cap->stage != 0) {
            struct memory_stage *stage = stage_of(store, cap->stage);
            cap->body = stage->body;
            stage->body = NULL;
            store->used_bytes += stage->body_len; /* the sweep takes them off again */
        }
        return;
    }
    *link = cap->next;
    store->cap_count--;
    store->used_bytes -= cap->stage == 0 ? cap->info.body_len : 0;
    free_cap(cap);
}

static void settle(struct memory_store *store, bool committed)
{
    pthread_mutex_lock(&store->lock);
    store->commit += committed;
    for (struct memory_cap **link = &store->caps; *link != NULL;) {
        struct memory_cap *cap = *link;
        if (cap->commit == PENDING) {
            settle_cap(store, link, committed);
        }
        link = *link == cap ? &cap->next : link;
    }
    pthread_mutex_unlock(&store->lock);
    for (struct memory_stage *stage = store->stages; stage != NULL; stage = stage->next) {
        stage->dead |= stage->linked && committed;
        stage->linked = false;
    }
}

static void abort_puts(struct cap_store *base)
{
    settle(memory_of(base), false);
}

static enum cap_error commit(struct cap_store *base)
{
    enum cap_error error = fail_commit(memory_of(base));
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
        .commit = commit,
        .abort = abort_puts,
    };
    store_admit(base, &transactions, admissions, count, watch);
}

/* --- The engine ------------------------------------------------------------------------------- */

static void memory_close(struct cap_store *base)
{
    struct memory_store *store = memory_of(base);
    for (struct memory_cap *cap = store->caps; cap != NULL; cap = store->caps) {
        store->caps = cap->next;
        free_cap(cap);
    }
    for (struct memory_stage *stage = store->stages; stage != NULL; stage = store->stages) {
        store->stages = stage->next;
        free(stage->body);
        free(stage);
    }
    pthread_mutex_destroy(&store->lock);
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
        .facts = memory_facts,
        .page_roots = memory_page_roots,
        .list = memory_list,
        .refs = memory_refs,
        .find_content = memory_find_content,
        .counts = memory_counts,
        .admit = memory_admit,
        .stage_begin = memory_stage_begin,
        .stage_step = memory_stage_step,
        .stage_drop = memory_stage_drop,
        .sweep = memory_sweep,
    };
    struct memory_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return CAP_E_NO_MEMORY;
    }
    store->base.ops = &ops;
    memcpy(store->base.id, id, CAP_STORE_ID_SIZE);
    store->max_bytes = max_bytes;
    pthread_mutex_init(&store->lock, NULL);
    *ret_store = &store->base;
    return CAP_OK;
}

void cap_store_memory_fail_commits(struct cap_store *base, unsigned count, enum cap_error error)
{
    struct memory_store *store = memory_of(base);
    store->commits_to_fail = count;
    store->commit_error = error;
}
