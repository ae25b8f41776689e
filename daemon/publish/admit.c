/* Rule 11 of the deblob, and the puts, for one job in one transaction or snapshot. */
#include "daemon/publish/admit.h"

#include <stdlib.h>

#include "proto/message.h"

/* Where to look a hash up: exactly one of the two. */
struct lookup {
    struct cap_write *write;
    struct cap_read *read;
};

static enum cap_error look_up(const struct lookup *in, const struct cap_hash *hash,
                              struct cap_info *ret_info)
{
    return in->write != NULL ? cap_store_write_find(in->write, hash, ret_info)
                             : cap_store_find(in->read, hash, ret_info);
}

/* Whether a slot resolves to a cap of its kind. */
static enum cap_error resolves(const struct lookup *in, const struct cap_hash *hash,
                               enum cap_kind kind, bool *ret_resolves)
{
    struct cap_info info;
    enum cap_error error = look_up(in, hash, &info);
    if (error != CAP_OK && error != CAP_E_NOT_FOUND) {
        return error;
    }
    *ret_resolves = error == CAP_OK && info.kind == kind;
    return CAP_OK;
}

/* The slots that failed, while they are collected. */
struct missing {
    struct proto_unresolved *slots;
    size_t count;
    size_t capacity;
    uint64_t held; /* memory taken from the ledger for `slots` */
    uint64_t encoded_len;
};

static enum cap_error missing_add(struct missing *missing, struct ledger *ledger,
                                  const struct cap_wire_slot *slot, const struct cap_hash *hash)
{
    if (missing->count == missing->capacity) {
        size_t capacity = missing->capacity == 0 ? 16 : 2 * missing->capacity;
        if (!ledger_memory_hold(ledger, &missing->held, capacity * sizeof(*missing->slots))) {
            return CAP_E_MEMORY_LIMIT;
        }
        struct proto_unresolved *slots = realloc(missing->slots, capacity * sizeof(*slots));
        if (slots == NULL) {
            return CAP_E_NO_MEMORY;
        }
        missing->slots = slots;
        missing->capacity = capacity;
    }
    missing->slots[missing->count++] = (struct proto_unresolved){
        .table = (uint8_t)slot->table,
        .kind = (uint8_t)slot->kind,
        .cap_hash = *hash,
        .slot = slot->key,
    };
    missing->encoded_len += 4 + 38 + slot->key.len;
    return CAP_OK;
}

/* Encodes what is missing as the job's detail. */
static enum cap_error missing_encode(const struct missing *missing, struct ledger *ledger,
                                     struct writer_job *job)
{
    if (!ledger_memory_hold(ledger, &job->detail_held, missing->encoded_len)) {
        return CAP_E_MEMORY_LIMIT;
    }
    enum cap_error error = cap_buf_reserve(&job->detail, missing->encoded_len);
    if (error == CAP_OK) {
        error = proto_unresolved_encode(missing->slots, missing->count, &job->detail);
    }
    job->unresolved = missing->count;
    return error == CAP_OK ? CAP_E_UNRESOLVED_SLOT : error;
}

static enum cap_error collect(const struct lookup *in, struct ledger *ledger,
                              const struct writer_slots *slots, struct missing *missing)
{
    size_t count = slots->image == NULL ? 0 : cap_wire_slot_count(slots->image);
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        bool found = true;
        if (slots->own[i]) {
            continue;
        }
        cap_wire_slot_at(slots->image, i, &slot);
        enum cap_error error = resolves(in, &slots->hashes[i], slot.kind, &found);
        if (error == CAP_OK && !found) {
            error = missing_add(missing, ledger, &slot, &slots->hashes[i]);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

/* CAP_OK when every slot resolves; the job's verdict, or the store's error. */
static enum cap_error resolve(const struct lookup *in, struct ledger *ledger,
                              struct writer_job *job)
{
    struct missing missing = {0};
    enum cap_error error = collect(in, ledger, &job->slots, &missing);
    if (error == CAP_OK && missing.count > 0) {
        error = missing_encode(&missing, ledger, job);
    }
    free(missing.slots);
    ledger_memory_give(ledger, missing.held);
    return error;
}

/* Whether an error is the job's own affair and not the transaction's. */
static bool is_verdict(enum cap_error error)
{
    return error == CAP_E_UNRESOLVED_SLOT || error == CAP_E_MEMORY_LIMIT;
}

bool admit_fits(const struct writer_job *job, struct admit_budget *budget)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < job->cap_count; i++) {
        uint64_t len = job->caps[i].put.info.body_len;
        bytes += len > job->stage_min ? 0 : len;
    }
    if (budget->puts > 0 && (budget->puts + job->cap_count > WRITER_BATCH_PUTS ||
                             budget->bytes + bytes > WRITER_BATCH_LEN)) {
        return false;
    }
    budget->puts += job->cap_count;
    budget->bytes += bytes;
    return true;
}

enum cap_error admit_put(struct cap_write *write, struct ledger *ledger, struct writer_job *job,
                         enum cap_error *ret_verdict)
{
    const struct lookup in = {.write = write};
    enum cap_error error =
        atomic_load(&job->cancelled) ? CAP_E_CANCELLED : resolve(&in, ledger, job);
    if (error == CAP_E_CANCELLED || is_verdict(error)) {
        *ret_verdict = error;
        return CAP_OK;
    }
    for (size_t i = 0; error == CAP_OK && i < job->cap_count; i++) {
        error = cap_store_write_put(write, &job->caps[i].put, &job->caps[i].is_new);
    }
    return error;
}

enum cap_error admit_resolve_read(struct cap_store *store, struct ledger *ledger,
                                  struct writer_job *job)
{
    struct lookup in = {0};
    enum cap_error error = cap_store_read_begin(store, &in.read);
    if (error == CAP_OK) {
        error = resolve(&in, ledger, job);
        cap_store_read_end(in.read);
    }
    return error;
}

static enum cap_error would_be_new(struct cap_read *read, struct writer_job *job)
{
    for (size_t i = 0; i < job->cap_count; i++) {
        enum cap_error error = cap_store_find(read, &job->caps[i].put.hash, NULL);
        if (error != CAP_OK && error != CAP_E_NOT_FOUND) {
            return error;
        }
        job->caps[i].is_new = error == CAP_E_NOT_FOUND;
    }
    return CAP_OK;
}

enum cap_error admit_dry_run(struct cap_store *store, struct ledger *ledger, struct writer_job *job)
{
    struct lookup in = {0};
    enum cap_error error = cap_store_read_begin(store, &in.read);
    if (error != CAP_OK) {
        return error;
    }
    error = resolve(&in, ledger, job);
    if (error == CAP_OK) {
        error = would_be_new(in.read, job);
    }
    cap_store_read_end(in.read);
    return error;
}
