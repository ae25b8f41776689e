/* Jobs of uploads. */
#include "daemon/publish/job.h"

#include <inttypes.h>
#include <sys/param.h>

static void set_lease(struct job_lease *lease, uint32_t keep_s)
{
    uint64_t wanted = keep_s == 0 ? lease->usual : keep_s;
    lease->keep_s = MIN(wanted, lease->most);
}

static void set_name(struct job *job, const uint8_t token[PROTO_TOKEN_SIZE], uint64_t offset)
{
    static const uint8_t none[PROTO_TOKEN_SIZE];
    job->named = memcmp(token, none, PROTO_TOKEN_SIZE) != 0;
    job->offset = offset;
}

static enum cap_error decode_image(struct job *job, struct cap_bytes payload)
{
    struct proto_put_image m;
    enum cap_error error = job->named         ? proto_put_image_resume_decode(payload, &m)
                           : job->lease.asked ? proto_put_image_keep_decode(payload, &m)
                                              : proto_put_image_decode(payload, &m);
    if (error == CAP_OK) {
        set_lease(&job->lease, m.keep_s);
        set_name(job, m.token, m.offset);
        job->form = JOB_WIRE;
        job->resolve_only = (m.flags & PROTO_IMAGE_RESOLVE_ONLY) != 0;
        job->dry_run = (m.flags & PROTO_IMAGE_DRY_RUN) != 0;
        job->total_len = m.total_len;
    }
    return error;
}

static enum cap_error decode_data(struct job *job, struct cap_bytes payload)
{
    struct proto_put_data m;
    enum cap_error error = job->named         ? proto_put_data_resume_decode(payload, &m)
                           : job->lease.asked ? proto_put_data_keep_decode(payload, &m)
                                              : proto_put_data_decode(payload, &m);
    if (error == CAP_OK) {
        set_lease(&job->lease, m.keep_s);
        set_name(job, m.token, m.offset);
        job->form = JOB_DATA;
        job->data = (struct data_order){
            .canonical = (m.flags & PROTO_PUT_CANONICAL) != 0,
            .size = m.size,
            .total_len = m.total_len,
        };
        job->total_len = m.total_len;
        job->pages = job->data.canonical ? 0 : data_pages(&job->data);
    }
    return error;
}

static enum cap_error decode_cap(struct job *job, struct cap_bytes payload)
{
    struct proto_put_cap m;
    enum cap_error error = job->named         ? proto_put_cap_resume_decode(payload, &m)
                           : job->lease.asked ? proto_put_cap_keep_decode(payload, &m)
                                              : proto_put_cap_decode(payload, &m);
    if (error == CAP_OK) {
        set_lease(&job->lease, m.keep_s);
        set_name(job, m.token, m.offset);
        job->form = m.kind == CAP_KIND_IMAGE ? JOB_BODY : JOB_DATA;
        job->is_cap = true;
        job->expected = m.hash;
        job->data = (struct data_order){.canonical = true, .total_len = m.total_len};
        job->body = (struct body_order){.hash = m.hash, .total_len = m.total_len};
        job->total_len = m.total_len;
    }
    return error;
}

enum cap_error job_decode(struct job *job, uint8_t type, struct cap_bytes payload)
{
    job->reads_until = UINT64_MAX;
    switch (type) {
    case PROTO_PUT_IMAGE:
        return decode_image(job, payload);
    case PROTO_PUT_CAP:
        return decode_cap(job, payload);
    default:
        return decode_data(job, payload);
    }
}

/* --- The front -------------------------------------------------------------------------------- */

bool job_is_canonical(const struct job *job)
{
    return job->form == JOB_BODY || (job->form == JOB_DATA && job->data.canonical);
}

/* How long it is: other uploads have none. */
static size_t front_len(const struct job *job)
{
    if (!job_is_canonical(job)) {
        return 0;
    }
    return job->form == JOB_BODY ? CAP_IMAGE_FRONT : CAP_DATA_BODY_FIXED;
}

/* Whether its cap could be made if nothing else had memory. */
static enum cap_error check_memory(struct job *job)
{
    uint64_t memory = job_make_memory(job);
    if (memory <= job->limits.max_memory) {
        return judgement_set(&job->judgement, CAP_OK);
    }
    return judgement_say(&job->judgement, CAP_E_MEMORY_LIMIT,
                         "hashing this upload takes %" PRIu64 " bytes of memory; %s is %" PRIu64,
                         memory, job->limits.memory_option, job->limits.max_memory);
}

enum cap_error job_check(struct job *job)
{
    if (job->total_len < front_len(job)) {
        return judgement_set(&job->judgement, CAP_E_BODY_NOT_CANONICAL);
    }
    if (job->form == JOB_BODY) {
        return judgement_set(&job->judgement, CAP_OK); /* the front will tell */
    }
    enum cap_error error = data_check(&job->data);
    return error == CAP_OK ? check_memory(job) : judgement_set(&job->judgement, error);
}

enum cap_error job_front_take(struct job *job, struct cap_bytes piece)
{
    struct job_front *front = &job->front;
    size_t missing = front_len(job) - front->filled;
    size_t n = piece.len < missing ? piece.len : missing;
    if (n == 0) {
        return CAP_OK;
    }
    memcpy(front->bytes + front->filled, piece.data, n);
    front->filled += n;
    if (n < missing) {
        return CAP_OK;
    }
    const struct cap_bytes bytes = {front->bytes, front->filled};
    enum cap_error error;
    if (job->form == JOB_BODY) {
        error = body_judge_front(&job->body, bytes, &job->limits, &job->judgement);
    } else {
        error =
            judgement_set(&job->judgement, data_front_pages(bytes, job->total_len, &job->pages));
    }
    return error == CAP_OK ? check_memory(job) : error;
}

/* --- Judging ---------------------------------------------------------------------------------- */

enum cap_error job_judge_rules(struct job *job)
{
    job->judged = true;
    enum cap_error error =
        image_judge(job->head, job->total_len, &job->limits, &job->wire, &job->judgement);
    if (error == CAP_OK && job->dry_run) {
        image_reads(&job->wire, &job->reads_from, &job->reads_until);
    }
    return error;
}

bool job_looks_early(const struct job *job)
{
    return image_resolves_early(&job->wire, job->resolve_only, job->early_min);
}

void job_judge(struct job *job)
{
    if (atomic_load(job->cancelled)) {
        judgement_set(&job->judgement, CAP_E_CANCELLED);
        return;
    }
    if (!job->judged && job_judge_rules(job) != CAP_OK) {
        return;
    }
    if (job_looks_early(job) && job_judge_memory(job) <= job->look_memory) {
        pool_rest(&job->pool);
        job->resolved =
            image_resolve(&job->wire, job->store, &job->held, &job->judgement) == CAP_OK &&
            job->judgement.error == CAP_OK;
    }
}

uint64_t job_judge_memory(const struct job *job)
{
    size_t slots = job->judged ? cap_wire_slot_count(&job->wire) : (size_t)job->limits.max_slots;
    return image_resolve_memory(slots, job->head.len);
}

uint64_t job_make_memory(const struct job *job)
{
    switch (job->form) {
    case JOB_WIRE:
        return image_make_memory(&job->wire);
    case JOB_BODY:
        return body_make_memory(&job->body, &job->limits);
    case JOB_DATA:
        break;
    }
    return data_make_memory(job->pages);
}

uint64_t job_make_cost(const struct job *job)
{
    switch (job->form) {
    case JOB_WIRE:
        return image_make_cost(&job->wire, job->block_roots != NULL);
    case JOB_BODY:
        return body_make_cost(&job->body);
    case JOB_DATA:
        break;
    }
    return job->total_len;
}

/* --- Making ----------------------------------------------------------------------------------- */

static void list_missing(const struct job *job, const struct cap_admission *admission,
                         struct judgement *ret_judgement)
{
    if (job->form == JOB_BODY) {
        (void)body_list_missing(&job->caps, admission, ret_judgement);
    } else {
        (void)image_list_missing(&job->wire, admission, job->caps.needed_slots, ret_judgement);
    }
}

/* For what is hashed beside the bytes read. */
static bool go_on(void *ctx, uint64_t bytes)
{
    struct job *job = ctx;
    pool_hashed(&job->pool, bytes);
    return !atomic_load(job->cancelled);
}

static enum cap_error read_to_hash(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct job *job = ctx;
    pool_hashed(&job->pool, len);
    return job->spool.read(job->spool.ctx, offset, dst, len);
}

/* What was uploaded; before it come what it brings along. */
static const struct cap_put *last_put(const struct cap_admission *admission)
{
    return &admission->puts[admission->put_count - 1];
}

/* The store's verdict, with the slots that are missing, or why the cap is forbidden. */
static void say_verdict(const struct job *job, const struct cap_admission *admission,
                        struct judgement *ret_judgement)
{
    judgement_set(ret_judgement, admission->error);
    if (admission->error == CAP_E_UNRESOLVED_SLOT) {
        list_missing(job, admission, ret_judgement);
    } else if (admission->error == CAP_E_FORBIDDEN_CAP) {
        char message[CAP_REFUSAL_MESSAGE_SIZE];
        context_say_forbidden(job->store, &last_put(admission)->hash, message, sizeof(message));
        (void)judgement_say(ret_judgement, CAP_E_FORBIDDEN_CAP, "%s%s", message,
                            admission->put_count > 1 ? " (it or its data)" : "");
    }
}

/*
 * What is there already. What cannot be admitted is refused early; that it can be only the
 * admission decides, but for a dry run. Slots that were looked up before the arena came are not
 * looked up again.
 */
static void look(struct job *job)
{
    struct cap_admission admission = job->caps.admission;
    if (!job->dry_run && held_add(&job->held, job->store, &admission) != CAP_OK) {
        judgement_set(&job->judgement, CAP_E_NO_MEMORY);
        return;
    }
    if (job->resolved && !job->dry_run) {
        admission.needed_count = 0;
    }
    enum cap_error error = cap_store_dry_run(job->store, &admission);
    if (error != CAP_OK) {
        judgement_set(&job->judgement, error);
    } else {
        say_verdict(job, &admission, &job->judgement);
    }
}

static enum cap_error make_data(struct job *job, const struct caps_source *source)
{
    enum cap_error error = data_make(&job->data, source, &job->stamp, &job->caps);
    if (error == CAP_OK && job->is_cap) {
        return body_check_hash(&job->expected, &job->caps.admission.puts[0].hash, &job->judgement);
    }
    return judgement_set(&job->judgement, error);
}

/* Makes the caps. Sets `caps` and `judgement`. */
static enum cap_error make(struct job *job)
{
    const struct cap_work work = {go_on, job};
    const struct caps_source source = {
        {
            .read = read_to_hash,
            .ctx = job,
            .work = &work,
            .block_roots = job->block_roots,
            .block_count = job->block_roots == NULL ? 0 : cap_block_count(job->wire.arena_len),
        },
        job->spool,
    };
    judgement_set(&job->judgement, CAP_OK);
    if (atomic_load(job->cancelled)) {
        return judgement_set(&job->judgement, CAP_E_CANCELLED);
    }
    switch (job->form) {
    case JOB_WIRE:
        return judgement_set(&job->judgement, image_make(&job->wire, job->resolve_only, &source,
                                                         &job->stamp, &job->caps));
    case JOB_BODY:
        return body_make(&job->body, &job->limits, &source, &job->stamp, &job->caps,
                         &job->judgement);
    case JOB_DATA:
        break;
    }
    return make_data(job, &source);
}

void job_make(struct job *job)
{
    if (make(job) == CAP_OK) {
        job->caps.admission.keep_s = job->lease.keep_s;
        pool_rest(&job->pool);
        look(job);
    }
}

bool job_is_quick(const struct job *job)
{
    return job->form == JOB_DATA && job->total_len <= JOB_QUICK_MAX;
}

void job_make_quick(struct job *job)
{
    job->pool = (struct pool_job){0}; /* it takes no turns */
    if (make(job) == CAP_OK) {
        job->caps.admission.keep_s = job->lease.keep_s;
        job->caps.admission.puts[0].is_new = true; /* as far as is known */
    }
}

void job_count(const struct cap_admission *admission, struct shard *shard)
{
    struct stats *stats = &shard->stats;
    const struct cap_put *last = last_put(admission);
    if (last->is_new) {
        events_emit(&shard->context->events, EVENT_PUBLISHED, &last->hash, "%s, %" PRIu64 " bytes",
                    last->info.kind == CAP_KIND_IMAGE ? "image" : "data", last->info.body_len);
    }
    stats->admissions++;
    for (size_t i = 0; i < admission->put_count; i++) {
        stats->caps_new += admission->puts[i].is_new ? 1 : 0;
        stats->caps_present += admission->puts[i].is_new ? 0 : 1;
    }
}

void job_explain(const struct job *job, const struct cap_admission *admission,
                 const struct room_claim *claim, struct judgement *ret_judgement)
{
    say_verdict(job, admission, ret_judgement);
    bool full = admission->error == CAP_E_DISK_FULL || admission->error == CAP_E_MAP_FULL;
    if (full && !room_fits(claim)) {
        (void)room_refuse(claim, admission->error, ret_judgement);
    }
}

/* Seconds from now, as the protocol says it. */
static uint32_t kept_s(const struct job *job, const struct cap_admission *admission)
{
    return job->dry_run ? 0 : cap_store_left(job->store, admission->kept_until_s);
}

static enum cap_error encode_cap(const struct job *job, const struct cap_admission *admission,
                                 struct cap_buf *ret_payload)
{
    const struct proto_put_cap_reply m = {
        .is_new = last_put(admission)->is_new ? 1 : 0,
        .kept_s = kept_s(job, admission),
    };
    return job->lease.asked ? proto_put_cap_reply_keep_encode(&m, ret_payload)
                            : proto_put_cap_reply_encode(&m, ret_payload);
}

static enum cap_error encode_data(const struct job *job, const struct cap_admission *admission,
                                  struct cap_buf *ret_payload)
{
    const struct cap_put *put = last_put(admission);
    const struct proto_put_data_reply m = {
        .cap_hash = put->hash,
        .size = put->info.size,
        .body_len = put->info.body_len,
        .is_new = put->is_new ? 1 : 0,
        .kept_s = kept_s(job, admission),
    };
    return job->lease.asked ? proto_put_data_reply_keep_encode(&m, ret_payload)
                            : proto_put_data_reply_encode(&m, ret_payload);
}

static enum cap_error encode_image(const struct job *job, const struct cap_admission *admission,
                                   struct cap_buf *ret_payload)
{
    const struct caps *caps = &job->caps;
    const struct cap_put *put = last_put(admission);
    uint32_t data_new = 0;
    for (size_t i = 0; i < caps->data_count; i++) {
        data_new += admission->puts[i].is_new ? 1 : 0;
    }
    const struct proto_put_image_reply m = {
        .cap_hash = put->hash,
        .content_hash = caps->content_hash,
        .body_len = put->info.body_len,
        .is_new = put->is_new ? 1 : 0,
        .data_new = data_new,
        .data_present = caps->data_distinct - data_new,
        .kept_s = kept_s(job, admission),
    };
    return job->lease.asked ? proto_put_image_reply_keep_encode(&m, ret_payload)
                            : proto_put_image_reply_encode(&m, ret_payload);
}

enum cap_error job_encode_reply(const struct job *job, const struct cap_admission *admission,
                                struct cap_buf *ret_payload)
{
    if (job->is_cap) {
        return encode_cap(job, admission, ret_payload);
    }
    return job->form == JOB_DATA ? encode_data(job, admission, ret_payload)
                                 : encode_image(job, admission, ret_payload);
}

void job_free(struct job *job)
{
    held_release(&job->held);
    caps_free(&job->caps);
    cap_buf_free(&job->judgement.detail);
}
