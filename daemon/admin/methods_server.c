/*
 * Methods about the daemon. What only the admin socket's own loop may touch is published, or taken
 * into the call, by a prepare function; the worker asks the other loops, and the store.
 */
#include <stdlib.h>

#include "daemon/admin/ask.h"
#include "daemon/admin/methods.h"
#include "daemon/admin/metrics.h"
#include "daemon/admin/value.h"
#include "daemon/core/fetcher.h"

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

/* Of its own loop: the others are asked by the worker. */
void admin_publish(struct admin_call *call)
{
    shard_publish_stats(call->rooms->hubs->hubs[0]->shard);
}

static json_t *warnings_json(const struct admin_health *health)
{
    json_t *array = json_array();
    for (int i = 0; array != NULL && i < ADMIN_WARNING_COUNT; i++) {
        char sentence[ADMIN_WARNING_SIZE];
        if (admin_health_warns(health, (enum admin_warning)i, sentence) &&
            !admin_append(array, json_pack("{s:s, s:o}", "reason",
                                           admin_warning_name((enum admin_warning)i), "message",
                                           admin_value_text(sentence)))) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *daemon_json(const struct admin_rooms *rooms, const struct admin_health *health)
{
    struct context *context = rooms->context;
    const struct fault fault = context_last_fault(context);
    struct gauges gauges = {0};
    admin_gauges(rooms, &gauges);
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o, s:o}",
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
        "parked", pair("uploads", gauges.parked_uploads, "bytes", gauges.parked_bytes), "memory",
        shared("bytes", gauges.memory_bytes, "limit_bytes", gauges.max_memory, "peer_limit_bytes",
               gauges.peer_memory),
        "hashing",
        shared("jobs", gauges.jobs, "peers", gauges.hash_peers, "peer_limit_percent",
               gauges.peer_hashing),
        "record_cache", pair("bytes", gauges.record_bytes, "limit_bytes", gauges.max_record_bytes),
        "map_cache", pair("bytes", gauges.map_bytes, "limit_bytes", gauges.max_map_bytes),
        "read_jobs", admin_value_u64(gauges.read_jobs), "stall_max_us",
        admin_value_u64(gauges.stall_max_us), "threads",
        pair("count", health->loops, "responding", health->responding), "writer_queue",
        admin_value_u64(gauges.writer_queue), "refusals",
        admin_value_u64(refusals_total(&context->refusals)), "last_error", fault_json(&fault));
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

/* What is being fetched from the daemon above. */
static json_t *fetches_json(const struct fetcher_figures *figures)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < figures->fetch_count; i++) {
        const struct fetcher_fetch *fetch = &figures->fetches[i];
        json_t *item = json_pack(
            "{s:o, s:o, s:o, s:o, s:o}", "cap_hash", admin_value_hash(&fetch->hash), "asked",
            admin_value_u64(fetch->asked), "caps", admin_value_u64(fetch->caps), "body_bytes",
            admin_value_u64(fetch->bytes), "since", admin_value_time(fetch->since_us));
        if (!admin_append(list, item)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* The daemon above. */
static json_t *upstream_json(struct context *context)
{
    struct fetcher_figures figures;
    if (context->fetcher == NULL) {
        return json_null();
    }
    context->fetcher->figures(context->fetcher, &figures);
    return json_pack(
        "{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "address",
        admin_value_text(context->config.upstream), "state", figures.state, "since",
        figures.since_us == 0 ? json_null() : admin_value_time(figures.since_us), "message",
        figures.reason[0] == '\0' ? json_null() : admin_value_text(figures.reason), "waiting",
        admin_value_u64(figures.waiting), "under_way", admin_value_u64(figures.under_way),
        "fetches", fetches_json(&figures), "caps", admin_value_u64(figures.caps), "body_bytes",
        admin_value_u64(figures.bytes), "file_bytes", admin_value_u64(figures.file_bytes), "absent",
        admin_value_u64(figures.absent), "failed", admin_value_u64(figures.failed));
}

json_t *admin_status(struct admin_call *call)
{
    struct cap_counts counts;
    struct cap_space space;
    size_t broken = 0;
    enum cap_error error = admin_store_counts(call->store, &counts);
    if (error == CAP_OK) {
        error = cap_store_space(call->store, &space);
    }
    if (error == CAP_OK) {
        error = admin_store_broken(call->store, &broken);
    }
    if (error != CAP_OK) {
        return fail(call, error);
    }
    struct admin_ask *ask = admin_ask(call->rooms, 0, 0);
    if (ask == NULL) {
        return NULL;
    }
    struct admin_health health = admin_health_now(call->rooms, ask);
    admin_ask_free(ask);
    health.space = space;
    health.broken = broken;
    json_t *status = daemon_json(call->rooms, &health);
    json_t *store = store_json(call->store, &counts, &space);
    json_t *upkeep = admin_upkeep_status(call->rooms);
    json_t *scrub = admin_scrub_summary(call);
    if (status != NULL && (scrub == NULL || json_object_update(status, scrub) != 0)) {
        json_decref(status);
        status = NULL;
    }
    json_decref(scrub);
    if (status != NULL &&
        (store == NULL || json_object_update(status, store) != 0 || upkeep == NULL ||
         json_object_update(status, upkeep) != 0 ||
         json_object_set_new(status, "upstream", upstream_json(call->rooms->context)) != 0 ||
         json_object_set_new(status, "warnings", warnings_json(&health)) != 0)) {
        json_decref(status);
        status = NULL;
    }
    json_decref(store);
    json_decref(upkeep);
    return status;
}

/* --- metrics ---------------------------------------------------------------------------------- */

static enum admin_metrics_format metrics_format(const struct admin_call *call)
{
    return call->args[ADMIN_METRICS_FORMAT].choice == 1 ? ADMIN_METRICS_PROMETHEUS
                                                        : ADMIN_METRICS_OPENMETRICS;
}

json_t *admin_metrics(struct admin_call *call)
{
    enum admin_metrics_format format = metrics_format(call);
    struct cap_buf text = {0};
    enum cap_error error =
        admin_metrics_text(call->rooms, call->store, &call->figures, format, &text);
    json_t *result = error != CAP_OK
                         ? fail(call, error)
                         : json_pack("{s:s, s:s%}", "content_type", admin_metrics_type(format),
                                     "text", (const char *)text.data, text.len);
    cap_buf_free(&text);
    return result;
}

/* --- Lists ------------------------------------------------------------------------------------ */

static json_t *refusal_json(const struct refusal *refusal)
{
    const struct refusal_figures *figures = &refusal->figures;
    bool lacks = figures->need > 0;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o*, s:o*}", "seq", admin_value_u64(refusal->seq),
        "time", admin_value_time(refusal->time_us), "peer", admin_value_text(refusal->peer),
        "session", admin_value_u64(refusal->session), "what", admin_value_text(refusal->what),
        "reason", cap_error_name(refusal->error), "message", admin_value_text(refusal->message),
        "need", lacks ? admin_value_u64(figures->need) : NULL, "have",
        lacks ? admin_value_u64(figures->have) : NULL);
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

static json_t *loop_json(struct shard *shard, bool responds)
{
    struct stats stats;
    shard_stats(shard, &stats);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "sessions",
                     admin_value_u64(stats.now.connections), "requests_in_flight",
                     admin_value_u64(stats.now.requests), "read_jobs",
                     admin_value_u64(stats.now.read_jobs), "record_bytes",
                     admin_value_u64(stats.now.record_bytes), "body_bytes",
                     admin_value_u64(stats.now.body_bytes), "stall_max_us",
                     admin_value_u64(stats.stall_max_us), "responds", responds ? 1 : 0);
}

json_t *admin_loops_list(struct admin_call *call)
{
    const struct hub_set *hubs = call->rooms->hubs;
    struct admin_ask *ask = admin_ask(call->rooms, 0, 0);
    json_t *list = ask == NULL ? NULL : json_array();
    for (size_t i = 0; list != NULL && i < hubs->count; i++) {
        if (!admin_append(list, loop_json(hubs->hubs[i]->shard, admin_ask_answered(ask, i)))) {
            json_decref(list);
            list = NULL;
        }
    }
    admin_ask_free(ask);
    return list == NULL ? NULL : json_pack("{s:o}", "loops", list);
}

static size_t page_limit(const struct admin_call *call)
{
    return (size_t)call->args[ADMIN_PAGE_LIMIT].integer;
}

static uint64_t page_cursor(const struct admin_call *call)
{
    return (uint64_t)call->args[ADMIN_PAGE_CURSOR].integer;
}

/* Of its own loop. */
void admin_clients_prepare(struct admin_call *call)
{
    struct admin_clients *clients = admin_clients_new(page_limit(call));
    if (clients != NULL) {
        clients->count = hub_clients(call->rooms->hubs->hubs[0], page_cursor(call),
                                     clients->clients, page_limit(call), &clients->more);
    }
    call->clients = clients;
}

/* The clients of one loop that are not in the page yet. */
struct lane {
    const struct admin_clients *clients;
    size_t next;
};

/* The lane with the lowest number next, or NULL. */
static struct lane *lowest(struct lane *lanes, size_t count)
{
    struct lane *least = NULL;
    for (size_t i = 0; i < count; i++) {
        struct lane *lane = &lanes[i];
        if (lane->next < lane->clients->count &&
            (least == NULL || lane->clients->clients[lane->next].session <
                                  least->clients->clients[least->next].session)) {
            least = lane;
        }
    }
    return least;
}

/* Each lane has its own lowest numbers, as many as the page may have: so has their merger. */
static json_t *merge(struct lane *lanes, size_t count, size_t left, uint64_t after)
{
    json_t *list = json_array();
    bool more = false;
    for (struct lane *lane; list != NULL && left > 0 && (lane = lowest(lanes, count)) != NULL;
         left--) {
        const struct client *client = &lane->clients->clients[lane->next++];
        after = client->session;
        if (!admin_append(list, client_json(client))) {
            json_decref(list);
            return NULL;
        }
    }
    for (size_t i = 0; i < count; i++) {
        more = more || lanes[i].clients->more || lanes[i].next < lanes[i].clients->count;
    }
    return json_pack("{s:o, s:o}", "clients", list, "cursor",
                     more ? admin_value_u64(after) : json_null());
}

json_t *admin_clients_list(struct admin_call *call)
{
    struct lane lanes[CONTEXT_SHARDS_MAX];
    size_t count = 0;
    struct admin_ask *ask =
        call->clients == NULL ? NULL : admin_ask(call->rooms, page_cursor(call), page_limit(call));
    if (ask == NULL) {
        return NULL;
    }
    lanes[count++] = (struct lane){.clients = call->clients};
    for (size_t i = 1; i < call->rooms->hubs->count; i++) {
        if (admin_ask_answered(ask, i)) {
            lanes[count++] = (struct lane){.clients = admin_ask_clients(ask, i)};
        }
    }
    json_t *result = merge(lanes, count, page_limit(call), page_cursor(call));
    admin_ask_free(ask);
    return result;
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
        call->rooms->context->config.log_level = wanted;
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
