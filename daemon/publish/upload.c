/*
 * Uploads.
 *
 * Happy path. The message is checked against the limits and its bytes reserved before the body is
 * read. The body goes to the spool (an Image's head to memory first, where it is judged as soon as
 * it is complete). When the body has ended and lies in the spool, a worker hashes it and makes the
 * caps; the writer resolves, stores and commits; the answer goes out.
 *
 * Failure modes.
 *   - Refused: the upload is over, whether its body has ended or not; what the client still sends
 *     of it is skipped by the session. A thread that has the upload is told by job.cancelled, and
 *     the upload is freed when it comes back.
 *   - The spool cannot be written: refused with the disk's error.
 *   - Cancelled: answered at once, but in WRITING, where the writer's word counts.
 *   - The connection goes: as refused, without an answer.
 */
#include "daemon/publish/upload.h"

#include <inttypes.h>
#include <stdlib.h>

#include "daemon/core/ledger.h"
#include "daemon/core/statedir.h"

static void on_spooled(void *owner);

/* --- Ends
 * ----------------------------------------------------------------------------------------- */

void upload_move(struct upload *upload, enum upload_state to)
{
    struct shard *shard = upload->request.shard;
    if (!upload_may_move(upload->state, to)) {
        context_fault(shard->context, CAP_E_INTERNAL,
                      "an upload made a move that its table does not have");
    }
    log_event(&shard->context->log, LOG_LEVEL_DEBUG, log_name("upload_state"),
              log_number("id", upload->request.id),
              log_text("from", upload_state_name(upload->state)),
              log_text("to", upload_state_name(to)));
    upload->state = to;
}

/* No thread has it. */
static void free_upload(struct upload *upload)
{
    struct shard *shard = upload->request.shard;
    if (upload->kind != NULL) {
        upload->kind->release(upload);
    }
    spool_free(upload->spool);
    free(upload->job.admission.puts);
    (void)ledger_memory_hold(shard->context->ledger, upload->account, &upload->held, 0);
    if (upload->reserved) {
        ledger_upload_end(shard->context->ledger, upload->account, upload->total_len);
        upload->publish->upload_count--;
    }
    free(upload);
}

/* It is answered, or nobody waits for an answer. Frees it, now or when its thread is done. */
static void upload_over(struct upload *upload)
{
    upload_move(upload, UPLOAD_OVER);
    atomic_store(&upload->job.cancelled, true);
    if (!upload->busy) {
        free_upload(upload);
    }
}

void upload_refuse(struct upload *upload, enum cap_error error, const char *message)
{
    request_refuse(&upload->request, error, message, NULL);
    upload_over(upload);
}

bool upload_take_back(struct upload *upload)
{
    upload->busy = false;
    if (upload->state == UPLOAD_OVER) {
        free_upload(upload);
        return false;
    }
    return true;
}

void upload_send_unresolved(struct upload *upload)
{
    struct ledger *ledger = upload->request.shard->context->ledger;
    size_t missing = upload->job.admission.missing_count;
    struct cap_buf detail = {0};
    uint64_t held = 0;
    char message[80];
    enum cap_error error = upload_image_list_missing(upload, &detail, &held);
    /* The session counts the list from here on. */
    (void)ledger_memory_hold(ledger, upload->account, &held, 0);
    if (error != CAP_OK) {
        upload_refuse(upload, error, NULL);
    } else {
        snprintf(message, sizeof(message), "%zu %s not published here", missing,
                 missing == 1 ? "slot names a cap that is" : "slots name caps that are");
        request_refuse(&upload->request, CAP_E_UNRESOLVED_SLOT, message, &detail);
        upload_over(upload);
    }
    cap_buf_free(&detail);
}

/* --- The writer ------------------------------------------------------------------------------- */

static void count_admission(struct upload *upload)
{
    struct stats *stats = &upload->request.shard->stats;
    const struct cap_admission *admission = &upload->job.admission;
    stats->admissions++;
    for (size_t i = 0; i < admission->put_count; i++) {
        stats->caps_new += admission->puts[i].is_new ? 1 : 0;
        stats->caps_present += admission->puts[i].is_new ? 0 : 1;
    }
}

static void log_admission(const struct upload *upload)
{
    const struct session *session = upload->request.session;
    const struct cap_admission *admission = &upload->job.admission;
    const struct cap_put *put = &admission->puts[admission->put_count - 1];
    log_event(
        &upload->request.shard->context->log, LOG_LEVEL_INFO, log_name("published"),
        log_number("session", session == NULL ? 0 : session->number), log_hash("cap", &put->hash),
        log_text("kind", put->info.kind == CAP_KIND_IMAGE ? "image" : "data"),
        log_text("new", put->is_new ? "true" : "false"), log_number("bytes", upload->total_len));
}

static void answer(struct upload *upload)
{
    struct request *request = &upload->request;
    struct shard *shard = request->shard;
    enum cap_error error = upload->job.admission.error;
    if (error == CAP_OK) {
        upload->kind->reply(upload);
        histogram_add(&shard->stats.upload_us,
                      env_monotonic_us(shard->context->env) - request->started_us);
        upload_over(upload);
    } else if (error == CAP_E_UNRESOLVED_SLOT) {
        upload_send_unresolved(upload);
    } else {
        upload_refuse(upload, error, NULL);
    }
}

static void on_written(struct writer_job *job)
{
    struct upload *upload = job->owner;
    if (job->admission.error == CAP_OK) {
        count_admission(upload);
        log_admission(upload);
    }
    if (!upload_take_back(upload)) {
        return;
    }
    answer(upload);
}

static void start_writing(struct upload *upload)
{
    upload_move(upload, UPLOAD_WRITING);
    upload->busy = true;
    upload->job.done = on_written;
    upload->job.owner = upload;
    writer_submit(upload->publish->writer, &upload->job);
}

/* --- Hashing ---------------------------------------------------------------------------------- */

static struct upload *upload_of_job(struct pool_job *job)
{
    return CONTAINER_OF(job, struct upload, hash_job);
}

/* In a worker. What cannot be admitted is refused early; that it can be, only the writer decides.
 */
static void run_hash(struct pool_job *job)
{
    struct upload *upload = upload_of_job(job);
    enum cap_error error =
        atomic_load(&upload->job.cancelled) ? CAP_E_CANCELLED : upload->kind->hash(upload);
    if (error == CAP_OK) {
        error = cap_store_dry_run(upload->request.shard->context->store, &upload->job.admission);
    }
    upload->error = error == CAP_OK ? upload->job.admission.error : error;
}

static enum cap_error read_to_hash(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct upload *upload = ctx;
    pool_hashed(&upload->hash_job, len);
    return upload->spooled.read(upload->spooled.ctx, offset, dst, len);
}

struct cap_source upload_hash_source(struct upload *upload)
{
    return (struct cap_source){.read = read_to_hash, .ctx = upload};
}

static void on_hashed(struct pool_job *job)
{
    struct upload *upload = upload_of_job(job);
    struct stats *stats = &upload->request.shard->stats;
    stats->hash_jobs++;
    histogram_add(&stats->hash_us, job->took_us);
    if (!upload_take_back(upload)) {
        return;
    }
    if (upload->error == CAP_E_UNRESOLVED_SLOT || (upload->error == CAP_OK && upload->dry_run)) {
        answer(upload);
    } else if (upload->error != CAP_OK) {
        upload_refuse(upload, upload->error, upload->message[0] == '\0' ? NULL : upload->message);
    } else {
        start_writing(upload);
    }
}

enum cap_error upload_check_memory(struct upload *upload)
{
    const struct config *config = &upload->request.shard->context->config;
    uint64_t wanted = upload->held + upload->kind->hash_memory(upload);
    uint64_t all = ledger_limit(config, LEDGER_MEMORY);
    uint64_t share = ledger_share(config, LEDGER_MEMORY);
    if (wanted <= all && wanted <= share) {
        return CAP_OK;
    }
    snprintf(upload->message, sizeof(upload->message),
             "hashing this upload takes %" PRIu64 " bytes; the limit is %" PRIu64 " (%s)", wanted,
             all < share ? all : share, all < share ? "max-memory" : "max-peer-memory");
    return CAP_E_MEMORY_LIMIT;
}

static void start_hashing(struct upload *upload)
{
    struct shard *shard = upload->request.shard;
    uint64_t wanted = upload->held + upload->kind->hash_memory(upload);
    if (!ledger_memory_hold(shard->context->ledger, upload->account, &upload->held, wanted)) {
        ledger_why(shard->context->ledger, upload->account, LEDGER_MEMORY, wanted - upload->held,
                   upload->message);
        upload_refuse(upload, CAP_E_MEMORY_LIMIT, upload->message);
        return;
    }
    upload_move(upload, UPLOAD_HASHING);
    upload->spooled = spool_source(upload->spool, &upload->job.cancelled);
    upload->busy = true;
    upload->hash_job = (struct pool_job){
        .account = upload->account,
        .cost = upload->kind->hash_cost(upload),
        .run = run_hash,
        .done = on_hashed,
    };
    pool_submit(&shard->pool, &upload->hash_job);
}

/* The body has ended: what is in the spool may still be on its way to the disk. */
static void settle(struct upload *upload)
{
    upload_move(upload, UPLOAD_SETTLING);
    spool_flush(upload->spool);
    if (spool_settled(upload->spool)) {
        start_hashing(upload);
    }
}

/* --- The body --------------------------------------------------------------------------------- */

static void on_spooled(void *owner)
{
    struct upload *upload = owner;
    struct session *session = upload->request.session;
    if (upload->state == UPLOAD_OVER) {
        return; /* the thread that has it frees it */
    }
    upload->request.moved_us = env_monotonic_us(upload->request.shard->context->env);
    if (spool_error(upload->spool) != CAP_OK) {
        upload_refuse(upload, spool_error(upload->spool), NULL);
    } else if (upload->state == UPLOAD_SETTLING && spool_settled(upload->spool)) {
        start_hashing(upload);
    }
    session_update(session);
}

enum cap_error upload_make_spool(struct upload *upload, uint64_t len)
{
    return spool_new(upload->publish, upload->account, len, on_spooled, upload, &upload->spool);
}

void upload_accepted(struct upload *upload)
{
    upload_move(upload, UPLOAD_BODY);
    if (!upload->request.body_open) {
        settle(upload);
    }
}

/* Takes a piece into head and spool. An error is the upload's refusal; its message may say more. */
static enum cap_error take_piece(struct upload *upload, struct cap_bytes piece)
{
    upload->received += piece.len;
    upload->request.shard->stats.upload_bytes += piece.len;
    if (upload->received > upload->total_len) {
        snprintf(upload->message, sizeof(upload->message), "the body is longer than declared");
        return CAP_E_LENGTH_MISMATCH;
    }
    enum cap_error error = upload->kind->take(upload, &piece);
    if (error == CAP_OK && piece.len > 0) {
        error = spool_append(upload->spool, piece);
    }
    return error;
}

static void on_body(struct request *request, struct cap_bytes piece, bool end)
{
    struct upload *upload = CONTAINER_OF(request, struct upload, request);
    enum cap_error error = take_piece(upload, piece);
    if (error == CAP_OK && end && upload->received < upload->total_len) {
        snprintf(upload->message, sizeof(upload->message), "the body is shorter than declared");
        error = CAP_E_LENGTH_MISMATCH;
    }
    if (error != CAP_OK) {
        upload_refuse(upload, error, upload->message[0] == '\0' ? NULL : upload->message);
    } else if (end && upload->state == UPLOAD_BODY) {
        settle(upload);
    }
}

static void on_turn(struct request *request)
{
    struct upload *upload = CONTAINER_OF(request, struct upload, request);
    if (upload->spool != NULL && upload->state <= UPLOAD_BODY) {
        spool_flush(upload->spool);
    }
}

static size_t on_room(struct request *request)
{
    const struct upload *upload = CONTAINER_OF(request, struct upload, request);
    return upload->spool == NULL ? SIZE_MAX : spool_room(upload->spool);
}

static bool on_waits(struct request *request)
{
    return request->body_open;
}

static void on_stalled(struct request *request)
{
    upload_refuse(CONTAINER_OF(request, struct upload, request), CAP_E_PROGRESS_TIMEOUT,
                  "nothing of the upload's body arrived for too long");
}

static void on_cancel(struct request *request)
{
    struct upload *upload = CONTAINER_OF(request, struct upload, request);
    if (upload->state == UPLOAD_WRITING) {
        atomic_store(&upload->job.cancelled, true);
    } else {
        upload_refuse(upload, CAP_E_CANCELLED, NULL);
    }
}

static void on_detach(struct request *request)
{
    upload_over(CONTAINER_OF(request, struct upload, request));
}

static const struct request_class upload_class = {
    .body = on_body,
    .cancel = on_cancel,
    .detach = on_detach,
    .turn = on_turn,
    .room = on_room,
    .waits = on_waits,
    .stalled = on_stalled,
};

/* --- Beginning
 * ------------------------------------------------------------------------------------ */

static struct upload *new_upload(struct publish *publish, struct session *session, uint32_t id,
                                 uint8_t type)
{
    struct upload *upload = calloc(1, sizeof(*upload));
    if (upload != NULL) {
        upload->request = (struct request){
            .class = &upload_class,
            .size = sizeof(struct upload),
            .shard = session->shard,
            .id = id,
            .type = type,
            .body_open = true,
        };
        upload->publish = publish;
        upload->account = session->account;
        upload->publisher = (struct cap_publisher){session->peer.uid, session->peer.gid};
    }
    return upload;
}

/* Reads the message into the upload. */
static enum cap_error decode(struct upload *upload, struct cap_bytes payload)
{
    if (upload->request.type == PROTO_PUT_IMAGE) {
        struct proto_put_image m;
        enum cap_error error = proto_put_image_decode(payload, &m);
        if (error == CAP_OK) {
            upload->kind = &upload_image_kind;
            upload->state = UPLOAD_HEAD;
            upload->of.image.flags = m.flags;
            upload->dry_run = (m.flags & PROTO_IMAGE_DRY_RUN) != 0;
            upload->total_len = m.total_len;
        }
        return error;
    }
    struct proto_put_data m;
    enum cap_error error = proto_put_data_decode(payload, &m);
    if (error == CAP_OK) {
        upload->kind = &upload_data_kind;
        upload->state = UPLOAD_BODY;
        upload->of.data.flags = m.flags;
        upload->of.data.size = m.size;
        upload->total_len = m.total_len;
    }
    return error;
}

/*
 * Reserves room before a byte of the body is read. The disk must hold the upload twice, in spool
 * and store, beside what other uploads have reserved.
 */
static enum cap_error reserve(struct upload *upload)
{
    struct shard *shard = upload->request.shard;
    const struct config *config = &shard->context->config;
    struct ledger_figures figures;
    uint64_t disk = 0;
    if (upload->total_len > config->max_upload) {
        return CAP_E_UPLOAD_TOO_LARGE;
    }
    enum cap_error error = shard->context->env->disk_free(
        shard->context->env->ctx, shard->context->statedir->spool_dir, &disk);
    if (error != CAP_OK) {
        return error;
    }
    ledger_figures(shard->context->ledger, &figures);
    if (disk < config->disk_reserve + figures.spool + 2 * upload->total_len) {
        return CAP_E_DISK_FULL;
    }
    error = ledger_upload_begin(shard->context->ledger, upload->account, upload->total_len,
                                upload->message);
    if (error == CAP_OK) {
        upload->reserved = true;
        upload->publish->upload_count++;
        shard->stats.uploads++;
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
    enum cap_error error = decode(upload, payload);
    if (error == CAP_OK) {
        error = reserve(upload);
    }
    if (error == CAP_OK) {
        error = upload->kind->begin(upload);
    }
    if (error != CAP_OK) {
        char message[CAP_REFUSAL_MESSAGE_SIZE];
        memcpy(message, upload->message, sizeof(message));
        free_upload(upload);
        return session_refuse(session, id, type, error, message[0] == '\0' ? NULL : message);
    }
    return session_pending(session, &upload->request);
}

/* --- Shared by the kinds
 * -------------------------------------------------------------------------- */

static enum cap_error read_data_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct upload_data_cap *cap = ctx;
    return cap_body_read(&cap->data.body, &cap->bytes, offset, dst, len);
}

void upload_fill_data(const struct upload *upload, struct upload_data_cap *cap,
                      struct cap_put *ret_put)
{
    *ret_put = (struct cap_put){
        .hash = cap->data.hash,
        .info =
            {
                .kind = CAP_KIND_DATA,
                .body_len = cap->data.body.len,
                .size = cap->data.size,
                .page_count = cap->data.page_count,
                .publisher = upload->publisher,
                .published_us = env_real_us(upload->request.shard->context->env),
            },
        .body = {.read = read_data_body, .ctx = cap},
        .page_roots = cap->data.page_roots,
    };
}

_Static_assert(LEDGER_WHY_SIZE <= CAP_REFUSAL_MESSAGE_SIZE, "the ledger writes into `message`");
