/*
 * Uploads.
 *
 * Happy path. The message is checked against the limits and its bytes reserved before the body is
 * read. The body goes to the spool (an Image's head to memory first, where it is judged as soon as
 * it is complete). Workers hash the pages of an arena as they write them to the spool, and the
 * writer stages a long code from there (ahead.h). When the body has ended and lies in the spool, a
 * worker makes the caps and looks what is there already; the writer resolves, stores the rest and
 * commits; the answer goes out.
 *
 * What happens becomes an event; upload_step says to which state it leads and what is to be done,
 * and drive() does it. Nothing else moves an upload.
 *
 * Threads. While `busy`, a worker has `job`, or the writer `writing`, and the loop leaves it alone;
 * a worker touches nothing else. What a job refers to (head, spool) stays until it comes back, and
 * what is staged ahead until the writer has had `writing`, be it only to drop the stage.
 *
 * Failure modes.
 *   - Refused, at any time: the ERROR is the end of the upload, whether its body has ended or not;
 *     what the client still sends is skipped by the session. A thread that has the upload is told
 *     by writing.cancelled, and the upload is freed when it comes back.
 *   - The connection goes: as refused, without an answer.
 *   - Cancelled: refused, but in WRITING, where the writer's word counts.
 *   - The spool cannot be written: refused with the disk's error, which operators are told of.
 */
#include "daemon/publish/upload.h"

#include <sys/param.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/publish/upload_inner.h"
#include "lib/cap/must.h"

/* What an action returns when nothing follows from it; else it returns the event that does. */
#define NO_EVENT UPLOAD_EVENT_COUNT

/* An upload that another connection asks for ends when nothing has moved for a tick, and after this
 * time whatever moves. */
#define YIELD_QUIET_US UINT64_C(100000)
#define YIELD_US       UINT64_C(2000000)

static bool drive(struct upload *upload, enum upload_event event);
static void on_written(struct writer_job *writing);

/* --- Failing ---------------------------------------------------------------------------------- */

/* Ends the upload with an error whose text, or a message, says enough. */
static enum upload_event fail(struct upload *upload, enum cap_error error, const char *message)
{
    if (message == NULL) {
        judgement_set(&upload->outcome, error);
    } else {
        judgement_say(&upload->outcome, error, "%s", message);
    }
    return UPLOAD_EVENT_FAILED;
}

/* There is no memory now: the peer's share or the total is taken. */
static enum upload_event fail_memory(struct upload *upload, uint64_t wanted)
{
    upload->outcome.error = CAP_E_MEMORY_LIMIT;
    ledger_why(upload_context(upload)->ledger, upload->account, LEDGER_MEMORY,
               wanted - upload->held, upload->outcome.message);
    return UPLOAD_EVENT_FAILED;
}

/* --- The end ---------------------------------------------------------------------------------- */

void upload_write(struct upload *upload)
{
    must(!upload->busy);
    upload->busy = true;
    upload->writing.done = on_written;
    upload->writing.ahead = ahead_take(&upload->ahead);
    writer_submit(&upload->publish->outlet, &upload->writing);
}

/* Has what works for it end soon. */
static void withdraw(struct upload *upload)
{
    atomic_store(&upload->writing.cancelled, true);
    pool_cancelled(&upload_context(upload)->pool);
}

/* No answer is owed any more. Frees the upload, now or when its thread is done. */
static enum upload_event over(struct upload *upload)
{
    if (upload->busy) {
        withdraw(upload);
    } else {
        upload_free(upload);
    }
    return NO_EVENT;
}

static void log_aborted(const struct upload *upload, const char *why)
{
    struct context *context = upload_context(upload);
    uint64_t us = env_monotonic_us(context->env) - upload->request.started_us;
    if (!context_may_log(context, LINE_REFUSED)) {
        return;
    }
    log_event(&context->log, LOG_LEVEL_INFO, log_name("upload_aborted"),
              log_number("session", upload->session), log_number("id", upload->request.id),
              log_text("why", why), log_number("received", upload->received),
              log_number("of", upload->total_len), log_number("ms", us / 1000));
}

static enum upload_event do_abandon(struct upload *upload)
{
    log_aborted(upload, "the connection is gone");
    upload->kept = true;
    return over(upload);
}

static enum upload_event do_refuse(struct upload *upload)
{
    struct judgement *outcome = &upload->outcome;
    if (outcome->error == CAP_E_CANCELLED) {
        log_aborted(upload, "cancelled");
    }
    if (outcome->error == CAP_E_DISK_FULL && outcome->message[0] == '\0') {
        char text[ROOM_FULL_SIZE];
        uint64_t disk_free = atomic_load(&upload->publish->room->disk_free);
        judgement_say(outcome, CAP_E_DISK_FULL, "%s", room_full_text(disk_free, text));
    }
    if (upload_is_trouble(outcome->error)) {
        context_trouble(upload_context(upload), outcome->error, judgement_text(outcome));
    }
    request_refuse(&upload->request, outcome->error,
                   outcome->message[0] == '\0' ? NULL : outcome->message, &outcome->detail);
    return over(upload);
}

static enum upload_event do_answer(struct upload *upload)
{
    struct shard *shard = upload->request.shard;
    histogram_add(&shard->stats.upload_us,
                  env_monotonic_us(shard->context->env) - upload->request.started_us);
    struct cap_buf payload = {0};
    enum cap_error encoded = job_encode_reply(&upload->job, &upload->writing.admission, &payload);
    request_answer(&upload->request, upload->request.type | PROTO_REPLY_BIT, encoded, &payload,
                   NULL);
    return over(upload);
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* Counts and logs what was published. */
static void count_admission(struct upload *upload)
{
    const struct cap_admission *admission = &upload->writing.admission;
    const struct cap_put *last = &admission->puts[admission->put_count - 1];
    job_count(admission, upload->request.shard);
    quota_give(upload_context(upload)->quotas, &upload->quota, caps_new(admission).bytes);
    if (!last->is_new && !context_may_log(upload_context(upload), LINE_PRESENT)) {
        return;
    }
    log_event(&upload->request.shard->context->log, LOG_LEVEL_INFO, log_name("published"),
              log_number("session", upload->session), log_hash("cap", &last->hash),
              log_text("kind", upload->job.form == JOB_DATA ? "data" : "image"),
              log_text("new", last->is_new ? "true" : "false"),
              log_number("bytes", upload->total_len));
}

static void on_written(struct writer_job *writing)
{
    struct upload *upload = CONTAINER_OF(writing, struct upload, writing);
    const struct cap_admission *admission = &writing->admission;
    upload->busy = false;
    if (admission->error == CAP_OK) {
        count_admission(upload);
    }
    job_explain(&upload->job, admission, &writing->claim, &upload->outcome);
    drive(upload, UPLOAD_EVENT_WRITTEN);
}

/* --- Workers ---------------------------------------------------------------------------------- */

static void start_job(struct upload *upload, void (*run)(struct pool_job *job),
                      void (*done)(struct pool_job *job), uint64_t cost)
{
    must(!upload->busy);
    upload->busy = true;
    upload->job.pool = (struct pool_job){ledger_peer_id(upload->account), cost,
                                         upload->job.cancelled, .run = run, .done = done};
    pool_submit(&upload->request.shard->pool, &upload->job.pool);
}

static void run_make(struct pool_job *pool_job)
{
    job_make(CONTAINER_OF(pool_job, struct job, pool));
}

static enum upload_event take_caps(struct upload *upload)
{
    struct stats *stats = &upload->request.shard->stats;
    stats->hash_jobs++;
    histogram_add(&stats->hash_us, upload->job.pool.took_us);
    judgement_move(&upload->job.judgement, &upload->outcome);
    upload->writing.admission = upload->job.caps.admission;
    bool stores = upload->state != UPLOAD_OVER && !upload->job.dry_run;
    if (upload->outcome.error == CAP_OK && stores) {
        (void)upload_hold_quota(upload, caps_new(&upload->writing.admission));
    }
    return UPLOAD_EVENT_HASHED;
}

static void on_hashed(struct pool_job *pool_job)
{
    struct upload *upload = CONTAINER_OF(pool_job, struct upload, job.pool);
    upload->busy = false;
    drive(upload, take_caps(upload));
}

/* On the loop, as part of the turn of its session. */
static enum upload_event hash_here(struct upload *upload)
{
    const struct env *env = upload_context(upload)->env;
    struct pool_job *pool = &upload->job.pool;
    uint64_t started = env_monotonic_us(env);
    job_make_quick(&upload->job);
    pool->took_us = env_monotonic_us(env) - started;
    upload->request.shard->stats.hashed_bytes += pool->hashed;
    return take_caps(upload);
}

static enum upload_event do_hash(struct upload *upload)
{
    struct job *job = &upload->job;
    uint64_t memory = upload->head.capacity + job_make_memory(job);
    if (!upload_hold_memory(upload, memory)) {
        return fail_memory(upload, memory);
    }
    job->spool = spool_source(upload->spool);
    job->block_roots = spool_roots(upload->spool);
    job->stamp.published_us = env_real_us(upload_context(upload)->env);
    if (job_is_quick(job) && spool_in_memory(upload->spool) &&
        !round_is_late(&upload->publish->hub->round)) {
        return hash_here(upload);
    }
    start_job(upload, run_make, on_hashed, job_make_cost(job));
    return NO_EVENT;
}

static void run_judge(struct pool_job *pool_job)
{
    job_judge(CONTAINER_OF(pool_job, struct job, pool));
}

static void on_judged(struct pool_job *pool_job)
{
    struct upload *upload = CONTAINER_OF(pool_job, struct upload, job.pool);
    upload->busy = false;
    upload->request.moved_us = env_monotonic_us(upload_context(upload)->env);
    (void)upload_hold_memory(upload, upload_kept_memory(upload));
    judgement_move(&upload->job.judgement, &upload->outcome);
    drive(upload, UPLOAD_EVENT_JUDGED);
}

static enum upload_event do_judge(struct upload *upload)
{
    struct job *job = &upload->job;
    job->head = (struct cap_bytes){upload->head.data, upload->head.len};
    if (job->head.len <= UPLOAD_JUDGE_INLINE &&
        (job_judge_rules(job) != CAP_OK || !job_looks_early(job))) {
        judgement_move(&job->judgement, &upload->outcome);
        return UPLOAD_EVENT_JUDGED;
    }
    uint64_t memory = job_judge_memory(job);
    job->look_memory = upload_hold_memory(upload, upload_kept_memory(upload) + memory) ? memory : 0;
    start_job(upload, run_judge, on_judged, job->head.len);
    return NO_EVENT;
}

/* --- The body --------------------------------------------------------------------------------- */

static void on_spooled(void *owner)
{
    struct upload *upload = owner;
    upload->request.moved_us = env_monotonic_us(upload_context(upload)->env);
    enum cap_error error = spool_error(upload->spool);
    if (error != CAP_OK && upload->state != UPLOAD_OVER) {
        drive(upload, fail(upload, error, NULL));
    } else {
        drive(upload, UPLOAD_EVENT_SPOOLED);
    }
}

struct spool_order upload_spool_order(struct upload *upload, uint64_t len)
{
    return (struct spool_order){upload->account, len, &upload->writing.cancelled, on_spooled,
                                upload};
}

/* For the arena, whose pages are hashed as they arrive if there is memory for their roots. */
static enum upload_event make_spool(struct upload *upload, uint64_t len)
{
    const struct spool_order order = upload_spool_order(upload, len);
    enum cap_error error = spool_new(&upload->publish->spools, &order, &upload->spool);
    if (error == CAP_OK && !spool_in_memory(upload->spool) &&
        upload_hold_memory(upload, upload->head.capacity + spool_hash_memory(len))) {
        error = spool_hash(upload->spool);
    }
    return error == CAP_OK ? NO_EVENT : fail(upload, error, NULL);
}

/* The head came before the connection of an upload was lost that this one goes on with. */
static enum upload_event begin_resumed(struct upload *upload)
{
    enum upload_event event =
        upload->spool != NULL ? NO_EVENT : make_spool(upload, upload->total_len - upload->head.len);
    return event == NO_EVENT ? UPLOAD_EVENT_GATHERED : event;
}

/* What has come of an Image's code may be staged, and what nothing will read is only hashed. */
static enum upload_event do_stage(struct upload *upload)
{
    spool_narrow(upload->spool, upload->job.reads_from, upload->job.reads_until);
    ahead_arrived(&upload->ahead, &upload->publish->outlet, &upload->job, upload->spool);
    return NO_EVENT;
}

static enum upload_event do_settle(struct upload *upload)
{
    spool_flush(upload->spool);
    return spool_settled(upload->spool) ? UPLOAD_EVENT_SPOOLED : NO_EVENT;
}

/* Takes the head from the piece; what follows it is left in the piece. */
static enum upload_event do_gather(struct upload *upload)
{
    struct head *head = &upload->head;
    struct cap_bytes *piece = &upload->piece;
    do {
        size_t wanted = head_wants(head, upload->total_len, piece->len);
        if (!upload_hold_memory(upload, wanted)) {
            return fail_memory(upload, wanted);
        }
        if (head_take(head, piece, upload->total_len, upload->limits.structure, &upload->outcome) !=
            CAP_OK) {
            return UPLOAD_EVENT_FAILED;
        }
    } while (piece->len > 0 && !head_is_complete(head));
    if (!head_is_complete(head)) {
        return NO_EVENT;
    }
    enum upload_event event = make_spool(upload, upload->total_len - head->len);
    return event == NO_EVENT ? UPLOAD_EVENT_GATHERED : event;
}

static enum upload_event do_spool(struct upload *upload)
{
    if (job_front_take(&upload->job, upload->piece) != CAP_OK) {
        judgement_move(&upload->job.judgement, &upload->outcome);
        return UPLOAD_EVENT_FAILED;
    }
    enum cap_error error = spool_append(upload->spool, upload->piece);
    upload->piece = (struct cap_bytes){0};
    return error == CAP_OK ? NO_EVENT : fail(upload, error, NULL);
}

static enum upload_event do_measure(struct upload *upload)
{
    enum cap_error error = pace_judge(&upload->pace, upload->received - upload->resumed,
                                      &upload_context(upload)->config, &upload->outcome);
    return error == CAP_OK ? NO_EVENT : UPLOAD_EVENT_FAILED;
}

/* --- The driver ------------------------------------------------------------------------------- */

/* Does what the step says. Where that ends the upload, it may be freed. */
static enum upload_event perform(struct upload *upload, enum upload_action action)
{
    switch (action) {
    case UPLOAD_DO_NOTHING:
        return NO_EVENT;
    case UPLOAD_DO_GATHER:
        return do_gather(upload);
    case UPLOAD_DO_SPOOL:
        return do_spool(upload);
    case UPLOAD_DO_STAGE:
        return do_stage(upload);
    case UPLOAD_DO_MEASURE:
        return do_measure(upload);
    case UPLOAD_DO_JUDGE:
        return do_judge(upload);
    case UPLOAD_DO_SETTLE:
        return do_settle(upload);
    case UPLOAD_DO_HASH:
        return do_hash(upload);
    case UPLOAD_DO_WRITE:
        upload_write(upload);
        return NO_EVENT;
    case UPLOAD_DO_WITHDRAW:
        withdraw(upload);
        return NO_EVENT;
    case UPLOAD_DO_ANSWER:
        return do_answer(upload);
    case UPLOAD_DO_REFUSE:
        return do_refuse(upload);
    case UPLOAD_DO_CANCEL:
        judgement_set(&upload->outcome, CAP_E_CANCELLED);
        return do_refuse(upload);
    case UPLOAD_DO_YIELD:
        upload->kept = true;
        judgement_say(&upload->outcome, CAP_E_CANCELLED, "another connection goes on with it");
        return do_refuse(upload);
    case UPLOAD_DO_ABANDON:
        return do_abandon(upload);
    case UPLOAD_DO_RELEASE:
        upload_free(upload);
        return NO_EVENT;
    case UPLOAD_ACTION_COUNT:
        break;
    }
    must(false);
}

/* The one place where an upload moves. Returns whether it goes on; if not, it may be freed. */
static bool drive(struct upload *upload, enum upload_event event)
{
    while (event != NO_EVENT) {
        const struct upload_facts facts = {
            .failed = upload->outcome.error != CAP_OK,
            .ended = upload->ended,
            .settled = upload->spool != NULL && spool_settled(upload->spool),
            .dry_run = upload->job.dry_run,
            .parting = upload->parting,
        };
        const struct upload_step step = upload_step(upload->state, event, facts);
        must(step.next == upload->state || upload_may_move(upload->state, step.next));
        if (step.next != upload->state) {
            log_event(&upload_context(upload)->log, LOG_LEVEL_DEBUG, log_name("upload_state"),
                      log_number("session", upload->session), log_number("id", upload->request.id),
                      log_text("event", upload_event_name(event)),
                      log_text("from", upload_state_name(upload->state)),
                      log_text("to", upload_state_name(step.next)));
            upload->state = step.next;
        }
        event = perform(upload, step.action);
        if (step.next == UPLOAD_OVER) {
            return false;
        }
    }
    return true;
}

/* --- The session's side ----------------------------------------------------------------------- */

static struct upload *upload_of(struct request *request)
{
    return CONTAINER_OF(request, struct upload, request);
}

static void on_body(struct request *request, struct cap_bytes piece, bool end)
{
    struct upload *upload = upload_of(request);
    upload->received += piece.len;
    upload->request.shard->stats.upload_bytes += piece.len;
    if (upload->received > upload->total_len) {
        drive(upload, fail(upload, CAP_E_LENGTH_MISMATCH, "the body is longer than declared"));
        return;
    }
    upload->piece = piece;
    if (upload->state == UPLOAD_HEAD && head_is_complete(&upload->head) &&
        !drive(upload, begin_resumed(upload))) {
        return;
    }
    do { /* of a piece, the head may take a part */
        if (!drive(upload, UPLOAD_EVENT_PIECE)) {
            return;
        }
    } while (upload->piece.len > 0);
    if (!end) {
        return;
    }
    if (upload->received < upload->total_len) {
        drive(upload, fail(upload, CAP_E_LENGTH_MISMATCH, "the body is shorter than declared"));
        return;
    }
    upload->ended = true;
    drive(upload, UPLOAD_EVENT_END);
}

static void on_turn(struct request *request)
{
    struct upload *upload = upload_of(request);
    if (upload->spool != NULL) {
        spool_flush(upload->spool);
    }
}

static size_t on_room(struct request *request)
{
    struct upload *upload = upload_of(request);
    size_t room = upload->spool == NULL ? SIZE_MAX : spool_room(upload->spool);
    upload->pace.ours |= room == 0;
    return room;
}

/*
 * Another connection asks to go on with it: that of this one is lost, and will be found to be when
 * all that it has brought is read; or it hangs.
 */
static bool must_yield(struct upload *upload, uint64_t now, bool paused)
{
    if (upload->place == NULL || !park_is_wanted(upload->place)) {
        return false;
    }
    upload->wanted_us = upload->wanted_us == 0 ? now : upload->wanted_us;
    bool quiet = !paused && now - MIN(now, upload->request.moved_us) >= YIELD_QUIET_US;
    return quiet || now - upload->wanted_us >= YIELD_US;
}

static void on_tick(struct request *request, uint64_t now, bool paused)
{
    struct upload *upload = upload_of(request);
    uint64_t limit = upload->limits.progress_ms * UINT64_C(1000);
    upload->pace.ours |= paused;
    bool stalled = pace_tick(&upload->pace, now) && limit > 0 && request->body_open &&
                   now > request->moved_us && now - request->moved_us > limit;
    upload->pace.ours = upload->state != UPLOAD_HEAD && upload->state != UPLOAD_BODY;
    if (stalled) {
        upload->kept = true; /* who was cut off does not read it */
        drive(upload, fail(upload, CAP_E_PROGRESS_TIMEOUT,
                           "nothing of the upload's body arrived for too long"));
    } else if (must_yield(upload, now, paused)) {
        drive(upload, UPLOAD_EVENT_TAKEN);
    } else {
        drive(upload, UPLOAD_EVENT_TICK);
    }
}

static void on_cancel(struct request *request)
{
    drive(upload_of(request), UPLOAD_EVENT_CANCELLED);
}

static void on_detach(struct request *request)
{
    drive(upload_of(request), UPLOAD_EVENT_DETACHED);
}

const struct request_class upload_class = {
    .body = on_body,
    .cancel = on_cancel,
    .detach = on_detach,
    .turn = on_turn,
    .room = on_room,
    .tick = on_tick,
};
