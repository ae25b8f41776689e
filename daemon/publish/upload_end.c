/* The end of an upload: what it held is given back; what has come of it may be left. */
#include <stdlib.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/upload_inner.h"
#include "lib/cap/must.h"

bool upload_hold_memory(struct upload *upload, uint64_t wanted)
{
    return ledger_memory_hold(upload_context(upload)->ledger, upload->account, &upload->held,
                              wanted);
}

uint64_t upload_kept_memory(const struct upload *upload)
{
    bool hashed = upload->spool != NULL && spool_roots(upload->spool) != NULL;
    return upload->head.capacity +
           (hashed ? spool_hash_memory(upload->total_len - upload->head.len) : 0);
}

enum cap_error upload_hold_quota(struct upload *upload, struct cap_usage wanted)
{
    const struct context *context = upload_context(upload);
    return quota_take(context->quotas, context->store, upload->job.stamp.publisher.uid,
                      &upload->quota, &wanted, &upload->outcome);
}

/* --- Parting ---------------------------------------------------------------------------------- */

/* Whether the spool has a file, or will have: what lies in memory is short. */
static bool has_file(const struct upload *upload)
{
    return upload->spool != NULL && !spool_in_memory(upload->spool);
}

/* Whether what has come of it can stay, and is worth it. The daemon that ends keeps nothing. */
static bool is_kept(const struct upload *upload)
{
    bool failed = upload->spool != NULL && spool_error(upload->spool) != CAP_OK;
    return upload->kept && upload->place != NULL && !failed && upload->received >= PARK_MIN &&
           upload_context(upload)->phase == PHASE_RUNNING;
}

static bool is_quiet(const struct upload *upload)
{
    return upload->spool == NULL || spool_quiet(upload->spool);
}

static void log_kept(const struct upload *upload, uint64_t received)
{
    struct context *context = upload_context(upload);
    if (context_may_log(context, LINE_REFUSED)) {
        log_event(&context->log, LOG_LEVEL_INFO, log_name("upload_kept"),
                  log_number("session", upload->session), log_number("id", upload->request.id),
                  log_number("received", received), log_number("of", upload->total_len));
    }
}

/* Moves what is kept out of the upload. False: it is too little. */
static bool load(struct upload *upload, struct park_load *ret_load)
{
    struct spool_rest rest = {.fd = -1};
    uint64_t memory = upload_kept_memory(upload) + park_memory();
    uint64_t received = upload->head.filled;
    if (has_file(upload)) {
        spool_leave(upload->spool, &rest);
        received += rest.appended;
    }
    if (received < PARK_MIN) {
        spool_rest_free(&rest);
        return false; /* an arena in memory does not count */
    }
    /* It is there already, so that it is counted and not asked for. */
    ledger_memory_count(upload_context(upload)->ledger, upload->account, &upload->held, memory);
    *ret_load = (struct park_load){
        .head = upload->head,
        .front = upload->job.front,
        .spooled = has_file(upload),
        .spool = rest,
        .received = received,
        .account = upload->account,
        .held = upload->held,
    };
    upload->head = (struct head){0};
    upload->held = 0;
    log_kept(upload, received);
    return true;
}

/* Gives its place up, with what is kept or without. */
static void part(struct upload *upload)
{
    struct context *context = upload_context(upload);
    struct park_load left;
    bool kept = is_kept(upload) && load(upload, &left);
    park_leave(context->park, upload->place, kept ? &left : NULL, env_monotonic_us(context->env),
               &upload->request.shard->pool);
    upload->place = NULL;
}

void upload_free(struct upload *upload)
{
    must(!upload->busy);
    if (upload->ahead.open && writer_outlet_is_open(&upload->publish->outlet)) {
        atomic_store(&upload->writing.cancelled, true);
        upload_write(upload);
        return;
    }
    if (is_kept(upload) && !is_quiet(upload)) {
        spool_flush(upload->spool);
    }
    if (is_kept(upload) && !is_quiet(upload)) {
        upload->parting = true; /* the spool tells when it has written */
        return;
    }
    (void)ahead_take(&upload->ahead);
    ahead_free(&upload->ahead);
    if (upload->place != NULL) {
        part(upload);
    }
    job_free(&upload->job);
    cap_buf_free(&upload->outcome.detail);
    head_free(&upload->head);
    spool_free(upload->spool);
    (void)upload_hold_memory(upload, 0);
    quota_give(upload_context(upload)->quotas, &upload->quota, 0);
    if (upload->reserved) {
        ledger_upload_end(upload_context(upload)->ledger, upload->account, upload->total_len);
    }
    free(upload);
}
