/*
 * Methods about the daemon. What only the loop may touch is taken by a prepare function into the
 * call's draft or text; the worker adds what the store knows.
 */
#include "daemon/admin/methods.h"
#include "daemon/admin/metrics.h"
#include "daemon/admin/value.h"

static json_t *fail(struct admin_call *call, enum cap_error error)
{
    admin_error_cap(&call->error, error);
    return NULL;
}

static const char *phase_name(enum phase phase)
{
    switch (phase) {
    case PHASE_STARTING:
        return "starting";
    case PHASE_RUNNING:
        return "running";
    case PHASE_DRAINING:
        return "draining";
    case PHASE_STOPPING:
        break;
    }
    return "stopping";
}

/* --- status ----------------------------------------------------------------------------------- */

static json_t *fault_json(const struct fault *fault)
{
    if (fault->time_us == 0) {
        return json_null();
    }
    return json_pack("{s:o, s:s, s:o}", "time", admin_value_time(fault->time_us), "reason",
                     cap_error_name(fault->error), "message", admin_value_text(fault->message));
}

/* As pair, with a peer's share of the limit. */
static json_t *shared(const char *name, uint64_t value, const char *limit_name, uint64_t limit,
                      const char *share_name, uint64_t share)
{
    return json_pack("{s:o, s:o, s:o}", name, admin_value_u64(value), limit_name,
                     admin_value_u64(limit), share_name, admin_value_u64(share));
}

static json_t *pair(const char *name, uint64_t value, const char *limit_name, uint64_t limit)
{
    return json_pack("{s:o, s:o}", name, admin_value_u64(value), limit_name,
                     admin_value_u64(limit));
}

static json_t *addresses_json(const struct context *context)
{
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < context->address_count; i++) {
        if (!admin_append(array, admin_value_text(context->addresses[i]))) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

void admin_status_prepare(struct admin_call *call)
{
    struct context *context = call->rooms->context;
    const struct fault fault = context_last_fault(context);
    struct gauges gauges = {0};
    admin_gauges(call->rooms, &gauges);
    call->draft = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "version", CAPSTORE_VERSION, "phase", phase_name(context->phase), "listening",
        addresses_json(context), "time", admin_value_time(env_real_us(context->env)), "started",
        admin_value_time(context->started_us), "uptime_ms", admin_value_u64(gauges.uptime_ms),
        "sessions",
        shared("open", gauges.connections, "limit", gauges.max_connections, "peer_limit",
               gauges.peer_connections),
        "requests_in_flight", admin_value_u64(gauges.requests), "uploads",
        shared("in_flight", gauges.uploads, "limit", gauges.max_uploads, "peer_limit",
               gauges.peer_uploads),
        "spool",
        shared("bytes", gauges.spool_bytes, "limit_bytes", gauges.max_spool, "peer_limit_bytes",
               gauges.peer_spool),
        "memory",
        shared("bytes", gauges.memory_bytes, "limit_bytes", gauges.max_memory, "peer_limit_bytes",
               gauges.peer_memory),
        "record_cache", pair("bytes", gauges.record_bytes, "limit_bytes", gauges.max_record_bytes),
        "read_jobs", admin_value_u64(gauges.read_jobs), "stall_max_us",
        admin_value_u64(gauges.stall_max_us), "writer_queue", admin_value_u64(gauges.writer_queue),
        "refusals", admin_value_u64(refusals_total(&context->refusals)), "last_error",
        fault_json(&fault));
}

static json_t *by_kind(const uint64_t values[CAP_STORE_KINDS])
{
    uint64_t image = values[CAP_KIND_IMAGE];
    uint64_t data = values[CAP_KIND_DATA];
    return json_pack("{s:o, s:o, s:o}", "image", admin_value_u64(image), "data",
                     admin_value_u64(data), "total", admin_value_u64(image + data));
}

static json_t *store_json(struct cap_store *store, const struct cap_counts *counts,
                          const struct cap_space *space)
{
    return json_pack(
        "{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "store_id",
        admin_value_store_id(cap_store_id(store)), "engine", cap_store_engine(store), "caps",
        by_kind(counts->caps), "body_bytes", by_kind(counts->body_bytes), "refs",
        admin_value_u64(counts->refs), "file_bytes", admin_value_u64(space->file_bytes),
        "file_free_bytes", admin_value_u64(space->free_bytes), "map_bytes",
        admin_value_u64(space->map_bytes), "disk_free_bytes", admin_value_u64(space->disk_free),
        "readers", pair("open", space->readers, "limit", space->max_readers));
}

json_t *admin_status(struct admin_call *call)
{
    struct cap_read *read = NULL;
    struct cap_counts counts;
    struct cap_space space;
    enum cap_error error = cap_store_read_begin(call->store, &read);
    if (error == CAP_OK) {
        error = cap_store_counts(read, &counts);
    }
    cap_store_read_end(read);
    if (error == CAP_OK) {
        error = cap_store_space(call->store, &space);
    }
    if (error != CAP_OK) {
        return fail(call, error);
    }
    json_t *store = store_json(call->store, &counts, &space);
    int failed =
        store == NULL || call->draft == NULL || json_object_update(call->draft, store) != 0;
    json_decref(store);
    return failed ? NULL : json_incref(call->draft);
}

/* --- metrics ---------------------------------------------------------------------------------- */

static enum admin_metrics_format metrics_format(const struct admin_call *call)
{
    return call->args[ADMIN_METRICS_FORMAT].choice == 1 ? ADMIN_METRICS_PROMETHEUS
                                                        : ADMIN_METRICS_OPENMETRICS;
}

void admin_metrics_prepare(struct admin_call *call)
{
    enum cap_error error =
        admin_metrics_daemon(call->rooms, call->figures, metrics_format(call), &call->text);
    if (error != CAP_OK) {
        admin_error_cap(&call->error, error);
    }
}

json_t *admin_metrics(struct admin_call *call)
{
    if (call->error.reason != NULL) {
        return NULL;
    }
    enum cap_error error = admin_metrics_store(call->store, metrics_format(call), &call->text);
    if (error != CAP_OK) {
        return fail(call, error);
    }
    return json_pack("{s:s, s:s%}", "content_type", admin_metrics_type(metrics_format(call)),
                     "text", (const char *)call->text.data, call->text.len);
}

/* --- Lists ------------------------------------------------------------------------------------ */

static json_t *refusal_json(const struct refusal *refusal)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "seq", admin_value_u64(refusal->seq),
                     "time", admin_value_time(refusal->time_us), "peer",
                     admin_value_text(refusal->peer), "session", admin_value_u64(refusal->session),
                     "what", admin_value_text(refusal->what), "reason",
                     cap_error_name(refusal->error), "message", admin_value_text(refusal->message));
}

json_t *admin_refusals_list(struct admin_call *call)
{
    struct refusals *refusals = &call->rooms->context->refusals;
    uint64_t before = (uint64_t)call->args[ADMIN_PAGE_CURSOR].integer;
    int64_t left = call->args[ADMIN_PAGE_LIMIT].integer;
    json_t *list = json_array();
    struct refusal refusal;
    bool more = refusals_before(refusals, before, &refusal);
    for (; list != NULL && more && left > 0; left--) {
        if (!admin_append(list, refusal_json(&refusal))) {
            json_decref(list);
            return NULL;
        }
        before = refusal.seq;
        more = refusals_before(refusals, before, &refusal);
    }
    return json_pack("{s:o, s:o, s:o}", "refusals", list, "total",
                     admin_value_u64(refusals_total(refusals)), "cursor",
                     more ? admin_value_u64(before) : json_null());
}

/* Users of a TCP client are not known: null. */
static json_t *attested(const struct client *client, uint64_t value)
{
    return client->peer.local ? admin_value_u64(value) : json_null();
}

static json_t *client_json(const struct client *client)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "session",
        admin_value_u64(client->session), "peer", admin_value_text(client->peer.text), "uid",
        attested(client, client->peer.uid), "gid", attested(client, client->peer.gid), "pid",
        attested(client, (uint64_t)client->peer.pid), "agent", admin_value_text(client->agent),
        "connected", admin_value_time(client->connected_us), "idle_ms",
        admin_value_u64(client->idle_ms), "requests", admin_value_u64(client->requests), "uploads",
        admin_value_u64(client->uploads), "bytes_in", admin_value_u64(client->bytes_in),
        "bytes_out", admin_value_u64(client->bytes_out), "output_bytes",
        admin_value_u64(client->output_bytes));
}

#define CLIENTS_STEP 16u /* on the stack at a time: some 5 KiB */

json_t *admin_clients_list(struct admin_call *call)
{
    uint64_t after = (uint64_t)call->args[ADMIN_PAGE_CURSOR].integer;
    size_t left = (size_t)call->args[ADMIN_PAGE_LIMIT].integer;
    bool more = true;
    json_t *list = json_array();
    while (list != NULL && left > 0 && more) {
        struct client clients[CLIENTS_STEP];
        size_t max = left < CLIENTS_STEP ? left : CLIENTS_STEP;
        size_t count = hub_clients(call->rooms->hub, after, clients, max, &more);
        for (size_t i = 0; i < count; i++) {
            if (!admin_append(list, client_json(&clients[i]))) {
                json_decref(list);
                return NULL;
            }
            after = clients[i].session;
        }
        left -= count;
        more = more && count > 0;
    }
    return json_pack("{s:o, s:o}", "clients", list, "cursor",
                     more ? admin_value_u64(after) : json_null());
}

/* --- Changes ---------------------------------------------------------------------------------- */

json_t *admin_log_set(struct admin_call *call)
{
    struct log *log = &call->rooms->context->log;
    enum log_level wanted = (enum log_level)call->args[ADMIN_LOG_LEVEL].choice;
    json_t *result = json_pack("{s:s, s:s}", "level", log_level_name(wanted), "previous",
                               log_level_name(log->level));
    if (result != NULL) {
        log->level = wanted;
    }
    return result;
}

static json_t *phase_json(const struct context *context)
{
    return json_pack("{s:s}", "phase", phase_name(context->phase));
}

json_t *admin_drain(struct admin_call *call)
{
    struct context *context = call->rooms->context;
    context->drain(context->owner);
    return phase_json(context);
}

json_t *admin_shutdown(struct admin_call *call)
{
    struct context *context = call->rooms->context;
    context->stop(context->owner, 0);
    return phase_json(context);
}
