/* How an upload begins, or goes on where one before it was cut off. */
#include "daemon/publish/upload.h"

#include <stdlib.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/upload_inner.h"

static struct upload *new_upload(struct publish *publish, struct session *session, uint32_t id,
                                 uint8_t type)
{
    struct upload *upload = calloc(1, sizeof(*upload));
    if (upload == NULL) {
        return NULL;
    }
    const struct config *config = &session->context->config;
    uint64_t all = ledger_limit(config, LEDGER_MEMORY);
    uint64_t share = ledger_share(config, LEDGER_MEMORY);
    upload->request = (struct request){
        .class = &upload_class,
        .size = sizeof(struct upload),
        .shard = session->shard,
        .id = id,
        .type = type,
        .body_open = true,
    };
    upload->publish = publish;
    upload->session = session_number(session);
    upload->account = session->account;
    upload->limits = session->limits;
    upload->pace.ticked_us = env_monotonic_us(session->context->env);
    upload->job = (struct job){
        .named = (session->features & PROTO_FEATURE_RESUME) != 0,
        .store = session->context->store,
        .stamp.publisher = {session_peer(session)->uid, session_peer(session)->gid},
        .early_min = SPOOL_SMALL,
        .lease = {session_keeps(session), config->lease, config->lease_max, 0},
        .limits = {config->max_slots, session->limits.data, all < share ? all : share,
                   all < share ? "max-memory" : "max-peer-memory", config->max_structure},
        .cancelled = &upload->writing.cancelled,
    };
    return upload;
}

/* Reads the message into the upload. */
static enum cap_error decode(struct upload *upload, struct cap_bytes payload)
{
    struct job *job = &upload->job;
    enum cap_error error = job_decode(job, upload->request.type, payload);
    if (error == CAP_OK) {
        upload->state = job->form == JOB_WIRE ? UPLOAD_HEAD : UPLOAD_BODY;
        upload->total_len = job->total_len;
    }
    return error;
}

/* Reserves room before a byte of the body is read. *ret_drop: as publish_reserve. */
static enum cap_error reserve(struct upload *upload, bool *ret_drop)
{
    const struct publish_ask ask = {
        .account = upload->account,
        .len = upload->total_len,
        .max_upload = upload->limits.upload,
        .goes_on = upload->job.offset > 0,
    };
    enum cap_error error = publish_reserve(upload->publish, &ask, ret_drop, &upload->outcome);
    upload->reserved = error == CAP_OK;
    if (error == CAP_OK && !upload->job.dry_run) {
        error = upload_hold_quota(upload, (struct cap_usage){1, upload->total_len});
    }
    upload->request.shard->stats.uploads += error == CAP_OK ? 1 : 0;
    return error;
}

static enum cap_error new_spool(struct upload *upload)
{
    const struct spool_order order = upload_spool_order(upload, upload->total_len);
    return spool_new(&upload->publish->spools, &order, &upload->spool);
}

/* What the message alone shows to be wrong is refused before the body; a wire Image has a head. */
static enum cap_error check(struct upload *upload)
{
    enum cap_error error = upload->job.form == JOB_WIRE ? CAP_OK : job_check(&upload->job);
    if (error != CAP_OK) {
        judgement_move(&upload->job.judgement, &upload->outcome);
    }
    return error;
}

/* --- Going on --------------------------------------------------------------------------------- */

/* Gives an upload with a name its place, and what is kept of the one that it goes on with. */
static enum cap_error enter(struct upload *upload, const struct session *session,
                            struct cap_bytes payload, struct park_load *ret_load)
{
    const struct park_upload named = {
        .peer = session_peer(session)->key,
        .payload = payload,
        .total_len = upload->total_len,
        .offset = upload->job.offset,
    };
    if (!upload->job.named) {
        return CAP_OK;
    }
    return park_enter(session->context->park, &named, &session->shard->pool, &upload->place,
                      ret_load);
}

/* Takes a load over: its head will be judged anew, as will its front. */
static enum cap_error go_on(struct upload *upload, struct park_load *load)
{
    struct job *job = &upload->job;
    upload->head = load->head;
    upload->held = load->held;
    upload->received = upload->resumed = load->received;
    upload->request.shard->stats.uploads_resumed++;
    if (load->spooled) {
        const struct spool_order order =
            upload_spool_order(upload, upload->total_len - upload->head.len);
        if (spool_take_up(&upload->publish->spools, &order, &load->spool, &upload->spool) !=
            CAP_OK) {
            spool_rest_free(&load->spool);
            return CAP_E_NO_MEMORY;
        }
    }
    enum cap_error error =
        job_front_take(job, (struct cap_bytes){load->front.bytes, load->front.filled});
    if (error != CAP_OK) {
        judgement_move(&job->judgement, &upload->outcome);
    }
    return error;
}

/* --- Beginning -------------------------------------------------------------------------------- */

static enum cap_error begin(struct upload *upload, const struct session *session,
                            struct cap_bytes payload)
{
    struct park_load load = {0};
    bool drop = false;
    enum cap_error error = decode(upload, payload);
    if (error == CAP_OK) {
        error = reserve(upload, &drop);
    }
    if (error == CAP_OK) {
        error = check(upload);
    }
    if (error == CAP_OK) {
        error = enter(upload, session, payload, &load);
    }
    if (error == CAP_OK && upload->job.offset > 0) {
        return go_on(upload, &load);
    }
    if (error == CAP_OK && upload->job.form != JOB_WIRE) {
        error = new_spool(upload);
    }
    if (error == CAP_OK && drop) {
        park_clear(session->context->park, 0, true, &session->shard->pool);
    }
    return error;
}

const struct verdict *upload_begin(void *publish, struct session *session, uint32_t id,
                                   uint8_t type, struct cap_bytes payload)
{
    struct upload *upload = new_upload(publish, session, id, type);
    if (upload == NULL) {
        return session_refuse(session, id, type, CAP_E_NO_MEMORY, NULL);
    }
    enum cap_error error = begin(upload, session, payload);
    if (error == CAP_OK) {
        return session_pending(session, &upload->request);
    }
    upload->outcome.error = error;
    if (upload_is_trouble(error)) {
        context_trouble(session->context, error, judgement_text(&upload->outcome));
    }
    const struct verdict *verdict = session_refuse_detailed(
        session, id, type, error, judgement_text(&upload->outcome), &upload->outcome.detail);
    upload_free(upload);
    return verdict;
}
