/*
 * Admission over an engine with transactions: many admissions share a commit.
 *
 * Happy path. As many admissions as fit into one transaction (CAP_ADMIT_PUTS, CAP_ADMIT_LEN) are
 * looked at in order: what each needs is resolved, its caps are put. One commit decides them all.
 *
 * Failure modes.
 *   - Something needed is missing, or the admission was cancelled: it is answered, nothing of it
 *     was put, the transaction goes on.
 *   - A put or the commit fails: the transaction leaves nothing, and each of its admissions runs
 *     again in one of its own, so that only the culprit fails.
 *   - A commit fails for good (cap_store_failure): no transaction begins any more.
 */
#include <stdlib.h>

#include "lib/cap/must.h"
#include "lib/store/engine.h"
#include "lib/store/record.h"

struct admit {
    struct cap_store *store;
    const struct store_transactions *transactions;
    const struct cap_admit_watch *watch;
    size_t decided;
};

/* --- One admission ---------------------------------------------------------------------------- */

static bool is_put_valid(const struct cap_put *put)
{
    const struct cap_info *info = &put->info;
    if ((info->kind != CAP_KIND_IMAGE && info->kind != CAP_KIND_DATA) ||
        info->body_len > STORE_BODY_MAX) {
        return false;
    }
    uint64_t roots = cap_info_root_count(info);
    if (roots > STORE_PAGE_MAX || roots > SIZE_MAX / sizeof(struct cap_node)) {
        return false;
    }
    if (!cap_info_nodes_fit(info) ||
        (cap_node_total(&info->node_counts) > 0 && put->nodes == NULL)) {
        return false;
    }
    if ((roots > 0 && put->page_roots == NULL) ||
        (put->stage == 0 && info->body_len > 0 && put->body.read == NULL &&
         put->body.memory == NULL)) {
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
    return put->ref_count <= SIZE_MAX / sizeof(struct cap_ref);
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
    struct cap_ref *refs = malloc(put->ref_count * sizeof(*refs));
    size_t count = 0;
    if (refs == NULL) {
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

static enum cap_error put_merged(const struct admit *admit, struct cap_put *put,
                                 uint64_t kept_until_s)
{
    struct cap_put merged = *put;
    merged.info.kept_until_s = kept_until_s;
    struct cap_ref *refs = NULL;
    if (put->ref_count > 0) {
        enum cap_error error = merge_refs(put, &refs, &merged.ref_count);
        if (error != CAP_OK) {
            return error;
        }
        merged.refs = refs;
    }
    expect(merged.ref_count <= put->ref_count);
    merged.info.ref_count = merged.ref_count;
    enum cap_error error = admit->transactions->put(admit->store, &merged, &put->is_new);
    free(refs);
    return error;
}

/* Marks what is missing. CAP_OK, CAP_E_UNRESOLVED_SLOT, or the store's error. */
static enum cap_error resolve(const struct admit *admit, struct cap_admission *admission)
{
    admission->missing_count = 0;
    for (size_t i = 0; i < admission->needed_count; i++) {
        struct cap_needed *needed = &admission->needed[i];
        enum cap_kind kind = needed->kind;
        enum cap_error error = admit->transactions->find(admit->store, &needed->hash, &kind);
        if (error != CAP_OK && !cap_store_is_unserved(error)) {
            return error;
        }
        needed->missing = !cap_needed_is_met(needed, error == CAP_OK, kind);
        admission->missing_count += needed->missing;
    }
    return admission->missing_count > 0 ? CAP_E_UNRESOLVED_SLOT : CAP_OK;
}

/* Puts one cap of the admission, and keeps what was there already. */
static enum cap_error put_and_keep(const struct admit *admit, struct cap_admission *admission,
                                   size_t index)
{
    struct cap_put *put = &admission->puts[index];
    uint64_t keep_s = admission->keep_s;
    uint64_t until_s = keep_s == 0 ? 0 : store_lease_end(admit->store, keep_s);
    enum cap_error error = put_merged(admit, put, until_s);
    if (error != CAP_OK || keep_s == 0) {
        return error;
    }
    bool of_image = admission->puts[admission->put_count - 1].info.kind == CAP_KIND_IMAGE &&
                    put->info.kind == CAP_KIND_DATA;
    if (of_image) {
        return CAP_OK; /* for as long as the Image, whose lease counts */
    }
    if (!put->is_new) {
        struct cap_keep keep = {.hash = put->hash, .keep_s = keep_s};
        error = admit->transactions->keep(admit->store, &keep);
        until_s = keep.kept_until_s;
    }
    if (admission->kept_until_s == 0 || until_s < admission->kept_until_s) {
        admission->kept_until_s = until_s;
    }
    return error;
}

static bool is_valid(const struct cap_admission *admission)
{
    for (size_t i = 0; i < admission->put_count; i++) {
        if (!is_put_valid(&admission->puts[i])) {
            return false;
        }
    }
    return true;
}

/*
 * Resolves and puts in the open transaction. admission->error is its own verdict; of one that was
 * not put nothing is in the transaction. Returns an error when the transaction is spoilt.
 */
static enum cap_error put_all(const struct admit *admit, struct cap_admission *admission)
{
    if (admission->cancelled != NULL && atomic_load(admission->cancelled)) {
        admission->error = CAP_E_CANCELLED;
        return CAP_OK;
    }
    if (!is_valid(admission)) {
        admission->error = CAP_E_INVALID_ARGUMENT;
        return CAP_OK;
    }
    enum cap_error error = resolve(admit, admission);
    if (error == CAP_OK || error == CAP_E_UNRESOLVED_SLOT) {
        admission->error = error;
    }
    if (error == CAP_E_UNRESOLVED_SLOT) {
        return CAP_OK;
    }
    admission->kept_until_s = 0;
    for (size_t i = 0; error == CAP_OK && i < admission->put_count; i++) {
        error = put_and_keep(admit, admission, i);
    }
    for (size_t i = 0; error == CAP_OK && i < admission->keep_count; i++) {
        error = admit->transactions->keep(admit->store, &admission->keeps[i]);
    }
    return error;
}

/* --- One transaction -------------------------------------------------------------------------- */

static enum cap_error commit(const struct admit *admit, size_t count)
{
    const struct cap_admit_watch *watch = admit->watch;
    if (watch->commit_begins != NULL) {
        watch->commit_begins(watch->ctx);
    }
    enum cap_error error = admit->transactions->commit(admit->store);
    if (watch->committed != NULL) {
        watch->committed(watch->ctx, count, error);
    }
    return error;
}

/*
 * One transaction of all. Those of the first *ret_tried whose error is not CAP_OK are decided by
 * it; an error is the transaction's, which then leaves nothing.
 */
static enum cap_error try_together(const struct admit *admit,
                                   struct cap_admission *const *admissions, size_t count,
                                   size_t *ret_tried)
{
    size_t in = 0;
    *ret_tried = 0;
    enum cap_error error = admit->transactions->begin(admit->store);
    if (error != CAP_OK) {
        return error;
    }
    while (error == CAP_OK && *ret_tried < count) {
        error = put_all(admit, admissions[*ret_tried]);
        if (error == CAP_OK) {
            in += admissions[(*ret_tried)++]->error == CAP_OK;
        }
    }
    if (error == CAP_OK && in > 0) {
        return commit(admit, in);
    }
    admit->transactions->abort(admit->store);
    return error;
}

static void decide(struct admit *admit, struct cap_admission *admission)
{
    admit->decided++;
    admit->watch->decided(admit->watch->ctx, admission);
}

static void admit_alone(struct admit *admit, struct cap_admission *admission)
{
    size_t tried = 0;
    enum cap_error error = try_together(admit, &admission, 1, &tried);
    if (error != CAP_OK) {
        admission->error = error;
    }
    decide(admit, admission);
}

static void admit_together(struct admit *admit, struct cap_admission *const *admissions,
                           size_t count)
{
    size_t tried = 0;
    enum cap_error error = try_together(admit, admissions, count, &tried);
    for (size_t i = 0; i < count; i++) {
        struct cap_admission *admission = admissions[i];
        if (error == CAP_OK || (i < tried && admission->error != CAP_OK)) {
            decide(admit, admission);
        } else {
            admit_alone(admit, admission);
        }
    }
}

/* How many of the admissions, at least one, fit into a transaction. */
static size_t fitting(struct cap_admission *const *admissions, size_t count)
{
    size_t puts = 0;
    uint64_t bytes = 0;
    size_t n = 0;
    for (; n < count; n++) {
        const struct cap_admission *admission = admissions[n];
        puts += admission->put_count + admission->keep_count;
        for (size_t i = 0; i < admission->put_count; i++) {
            const struct cap_put *put = &admission->puts[i];
            bytes += put->stage == 0 ? put->info.body_len : 0;
        }
        if (n > 0 && (puts > CAP_ADMIT_PUTS || bytes > CAP_ADMIT_LEN)) {
            break;
        }
    }
    return n;
}

void store_admit(struct cap_store *store, const struct store_transactions *transactions,
                 struct cap_admission *const *admissions, size_t count,
                 const struct cap_admit_watch *watch)
{
    struct admit admit = {store, transactions, watch, 0};
    for (size_t at = 0, n = 0; at < count; at += n) {
        n = fitting(admissions + at, count - at);
        must(n > 0);
        if (n == 1) {
            admit_alone(&admit, admissions[at]);
        } else {
            admit_together(&admit, admissions + at, n);
        }
        must(admit.decided == at + n);
    }
}
