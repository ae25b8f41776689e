/* Figures of a daemon: its answers read, and compared with those before. */
#include "client/capctl/top_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- members of the answers ---- */

static uint64_t number_of(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}

static uint64_t inner_number(const json_t *object, const char *outer, const char *name)
{
    return number_of(json_object_get(object, outer), name);
}

/* Nothing that could move a terminal's cursor passes here. */
static void copy_text(const json_t *object, const char *name, char *ret_text, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    snprintf(ret_text, size, "%s", text != NULL ? text : "");
    for (char *at = ret_text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
}

#define COPY(object, name, field) copy_text((object), (name), (field), sizeof(field))

/* ---- rates ---- */

/* How long ago the sample before was, in seconds; 0: there is none of this daemon. */
static double since_last(const struct top_model *model, int64_t time_ms)
{
    return model->has_rates && time_ms > model->time_ms ? (double)(time_ms - model->time_ms) / 1000
                                                        : 0;
}

/* The rate of a counter that is `total` now. */
static void advance(struct top_rate *rate, double total, double seconds)
{
    double grown = total >= rate->total ? total - rate->total : total;
    rate->per_second = seconds > 0 ? grown / seconds : 0;
    rate->total = total;
}

/* ---- metrics ---- */

static const char *const latency_names[TOP_LATENCIES] = {
    [TOP_LOOKUP] = "capstore_lookup_seconds_bucket",
    [TOP_FETCH] = "capstore_fetch_seconds_bucket",
    [TOP_GET_MANY] = "capstore_get_many_seconds_bucket",
    [TOP_UPLOAD] = "capstore_upload_seconds_bucket",
    [TOP_COMMIT] = "capstore_commit_seconds_bucket",
    [TOP_TURN] = "capstore_loop_turn_seconds_bucket",
};

/* The label of a series between quotes, or NULL. */
static const char *label_of(const char *line, const char *name, size_t *ret_len)
{
    const char *at = strchr(line, '{');
    const char *begin = at != NULL ? strstr(at, name) : NULL;
    if (begin == NULL) {
        return NULL;
    }
    begin += strlen(name);
    *ret_len = strcspn(begin, "\"");
    return begin;
}

static struct top_type *type_named(struct top_model *model, const char *name, size_t len)
{
    for (size_t i = 0; i < model->type_count; i++) {
        if (strlen(model->types[i].name) == len && strncmp(model->types[i].name, name, len) == 0) {
            return &model->types[i];
        }
    }
    if (model->type_count == TOP_TYPES || len >= sizeof(model->types[0].name)) {
        return NULL;
    }
    struct top_type *type = &model->types[model->type_count++];
    *type = (struct top_type){0};
    memcpy(type->name, name, len);
    return type;
}

/* The buckets of a histogram as they come in, to be compared with those of the sample before. */
struct fresh {
    double bounds[TOP_BUCKETS];
    double counts[TOP_BUCKETS];
    size_t buckets;
};

static void take_bucket(struct fresh *fresh, const char *line, double value)
{
    size_t len = 0;
    const char *bound = label_of(line, "le=\"", &len);
    if (bound != NULL && fresh->buckets < TOP_BUCKETS) {
        fresh->bounds[fresh->buckets] =
            strncmp(bound, "+Inf", 4) == 0 ? INFINITY : strtod(bound, NULL);
        fresh->counts[fresh->buckets++] = value;
    }
}

/* The bound of the bucket in which this part of what is new lies. */
static double quantile(const struct fresh *fresh, const double *before, double part)
{
    size_t last = fresh->buckets - 1;
    double all = fresh->counts[last] - before[last];
    for (size_t i = 0; i < fresh->buckets; i++) {
        if (fresh->counts[i] - before[i] >= all * part) {
            return fresh->bounds[i] == INFINITY && i > 0 ? fresh->bounds[i - 1] : fresh->bounds[i];
        }
    }
    return fresh->bounds[last];
}

static void advance_histogram(struct top_histogram *histogram, const struct fresh *fresh,
                              double seconds)
{
    double before[TOP_BUCKETS] = {0};
    bool same = seconds > 0 && histogram->buckets == fresh->buckets && fresh->buckets > 0 &&
                fresh->counts[fresh->buckets - 1] >= histogram->counts[fresh->buckets - 1];
    if (same) {
        memcpy(before, histogram->counts, sizeof(before));
    }
    histogram->p50 = histogram->p99 = -1;
    if (fresh->buckets > 0 && fresh->counts[fresh->buckets - 1] > before[fresh->buckets - 1]) {
        histogram->p50 = quantile(fresh, before, 0.5);
        histogram->p99 = quantile(fresh, before, 0.99);
    }
    histogram->buckets = fresh->buckets;
    memcpy(histogram->counts, fresh->counts, sizeof(fresh->counts));
}

static bool begins(const char *line, const char *name)
{
    size_t len = strlen(name);
    return strncmp(line, name, len) == 0 && (line[len] == '{' || line[len] == ' ');
}

static void take_line(struct top_model *model, struct fresh *fresh, const char *line,
                      double seconds)
{
    const char *space = strrchr(line, ' ');
    double value = space != NULL ? strtod(space + 1, NULL) : 0;
    size_t len = 0;
    if (begins(line, "capstore_requests_total")) {
        const char *name = label_of(line, "type=\"", &len);
        struct top_type *type = name != NULL ? type_named(model, name, len) : NULL;
        if (type != NULL) {
            advance(&type->requests, value, seconds);
        }
    } else if (begins(line, "capstore_received_bytes_total")) {
        advance(&model->received, value, seconds);
    } else if (begins(line, "capstore_sent_bytes_total")) {
        advance(&model->sent, value, seconds);
    } else {
        for (size_t i = 0; i < TOP_LATENCIES; i++) {
            if (begins(line, latency_names[i])) {
                take_bucket(&fresh[i], line, value);
            }
        }
    }
}

static void take_metrics(struct top_model *model, const json_t *metrics, double seconds)
{
    struct fresh fresh[TOP_LATENCIES] = {{{0}, {0}, 0}};
    const char *text = json_string_value(json_object_get(metrics, "text"));
    char line[256];
    while (text != NULL && *text != '\0') {
        size_t len = strcspn(text, "\n");
        if (len < sizeof(line) && text[0] != '#') {
            memcpy(line, text, len);
            line[len] = '\0';
            take_line(model, fresh, line, seconds);
        }
        text += len + (text[len] == '\n' ? 1 : 0);
    }
    for (size_t i = 0; i < TOP_LATENCIES; i++) {
        advance_histogram(&model->latencies[i], &fresh[i], seconds);
    }
}

/* ---- status ---- */

static void take_status(struct top_model *model, const json_t *status)
{
    size_t i;
    const json_t *warning;
    COPY(status, "version", model->version);
    COPY(status, "phase", model->phase);
    COPY(status, "time", model->clock);
    model->uptime_s = (double)number_of(status, "uptime_ms") / 1000;
    model->sessions_open = inner_number(status, "sessions", "open");
    model->sessions_limit = inner_number(status, "sessions", "limit");
    model->sessions_peer_limit = inner_number(status, "sessions", "peer_limit");
    model->in_flight = number_of(status, "requests_in_flight");
    model->uploads = inner_number(status, "uploads", "in_flight");
    model->uploads_limit = inner_number(status, "uploads", "limit");
    model->writer_queue = number_of(status, "writer_queue");
    model->memory = inner_number(status, "memory", "bytes");
    model->memory_limit = inner_number(status, "memory", "limit_bytes");
    model->spool = inner_number(status, "spool", "bytes");
    model->spool_limit = inner_number(status, "spool", "limit_bytes");
    model->images = inner_number(status, "caps", "image");
    model->data = inner_number(status, "caps", "data");
    model->bodies = inner_number(status, "body_bytes", "total");
    model->file = number_of(status, "file_bytes");
    model->file_free = number_of(status, "file_free_bytes");
    model->map = number_of(status, "map_bytes");
    model->disk_free = number_of(status, "disk_free_bytes");
    model->refusals_total = number_of(status, "refusals");
    model->warning_count = 0;
    json_array_foreach(json_object_get(status, "warnings"), i, warning)
    {
        if (model->warning_count < TOP_WARNINGS) {
            COPY(warning, "message", model->warnings[model->warning_count]);
            model->warning_count++;
        }
    }
}

/* ---- sessions and their peers ---- */

void top_peer_name(const char *peer, char ret_name[TOP_TEXT_SIZE])
{
    snprintf(ret_name, TOP_TEXT_SIZE, "%s", peer);
    char *end = strncmp(peer, "unix:", 5) == 0 ? strchr(ret_name, ',') : strrchr(ret_name, ':');
    if (end != NULL && end != ret_name) {
        *end = '\0';
    }
}

/* The session of this number among those of the sample before, or NULL. */
static const struct top_session *session_before(const struct top_session *before, size_t count,
                                                uint64_t number)
{
    for (size_t i = 0; i < count; i++) {
        if (before[i].number == number) {
            return &before[i];
        }
    }
    return NULL;
}

static void take_clients(struct top_model *model, const json_t *clients, double seconds)
{
    size_t count = model->session_count;
    struct top_session *before = calloc(count + 1, sizeof(*before));
    size_t i;
    const json_t *client;
    if (before == NULL) {
        return; /* what is shown stays as it was */
    }
    memcpy(before, model->sessions, count * sizeof(*before));
    model->session_count = 0;
    model->more_sessions = json_is_integer(json_object_get(clients, "cursor"));
    json_array_foreach(json_object_get(clients, "clients"), i, client)
    {
        if (model->session_count == TOP_SESSIONS) {
            break;
        }
        struct top_session *session = &model->sessions[model->session_count++];
        uint64_t number = number_of(client, "session");
        const struct top_session *old = session_before(before, count, number);
        *session = old != NULL ? *old : (struct top_session){.number = number};
        COPY(client, "peer", session->peer);
        COPY(client, "agent", session->agent);
        COPY(client, "connected", session->connected);
        session->idle_s = (double)number_of(client, "idle_ms") / 1000;
        session->requests = number_of(client, "requests");
        session->uploads = number_of(client, "uploads");
        session->waiting = number_of(client, "output_bytes");
        advance(&session->in, (double)number_of(client, "bytes_in"), seconds);
        advance(&session->out, (double)number_of(client, "bytes_out"), seconds);
    }
    free(before);
}

static struct top_peer *peer_named(struct top_model *model, const char *name)
{
    for (size_t i = 0; i < model->peer_count; i++) {
        if (strcmp(model->peers[i].name, name) == 0) {
            return &model->peers[i];
        }
    }
    if (model->peer_count == TOP_PEERS) {
        return NULL;
    }
    struct top_peer *peer = &model->peers[model->peer_count++];
    *peer = (struct top_peer){0};
    snprintf(peer->name, sizeof(peer->name), "%s", name);
    return peer;
}

/* The greatest share first; without traffic, the most sessions. */
static int by_share(const void *a, const void *b)
{
    const struct top_peer *left = a;
    const struct top_peer *right = b;
    if (left->share > right->share || left->share < right->share) {
        return left->share > right->share ? -1 : 1;
    }
    return left->sessions > right->sessions ? -1 : left->sessions < right->sessions;
}

static void sum_peers(struct top_model *model)
{
    double all = 0;
    char name[TOP_TEXT_SIZE];
    model->peer_count = 0;
    for (size_t i = 0; i < model->session_count; i++) {
        const struct top_session *session = &model->sessions[i];
        top_peer_name(session->peer, name);
        struct top_peer *peer = peer_named(model, name);
        all += session->in.per_second + session->out.per_second;
        if (peer != NULL) {
            peer->sessions++;
            peer->requests += session->requests;
            peer->uploads += session->uploads;
            peer->in += session->in.per_second;
            peer->out += session->out.per_second;
        }
    }
    for (size_t i = 0; i < model->peer_count; i++) {
        struct top_peer *peer = &model->peers[i];
        peer->share = all > 0 ? (peer->in + peer->out) / all : 0;
    }
    qsort(model->peers, model->peer_count, sizeof(model->peers[0]), by_share);
}

/* ---- jobs and refusals ---- */

static void take_jobs(struct top_model *model, const json_t *jobs)
{
    size_t i;
    const json_t *from;
    model->job_count = 0;
    json_array_foreach(json_object_get(jobs, "jobs"), i, from)
    {
        if (model->job_count == TOP_JOBS) {
            break;
        }
        struct top_job *job = &model->jobs[model->job_count++];
        const json_t *percent = json_object_get(from, "percent");
        *job = (struct top_job){.id = number_of(from, "id")};
        COPY(from, "kind", job->kind);
        COPY(from, "state", job->state);
        COPY(from, "phase", job->phase);
        COPY(from, "message", job->message);
        job->running = strcmp(job->state, "running") == 0;
        job->cancelled = json_is_true(json_object_get(from, "cancelled"));
        job->percent = json_is_integer(percent) ? (int)json_integer_value(percent) : -1;
        job->done = number_of(from, "done");
        job->total = number_of(from, "total");
        job->done_bytes = number_of(from, "done_bytes");
        job->total_bytes = number_of(from, "total_bytes");
        job->took_s = (double)number_of(from, "took_ms") / 1000;
    }
}

static void take_refusals(struct top_model *model, const json_t *refusals)
{
    size_t i;
    const json_t *from;
    model->refusal_count = 0;
    json_array_foreach(json_object_get(refusals, "refusals"), i, from)
    {
        if (model->refusal_count == TOP_REFUSALS) {
            break;
        }
        struct top_refusal *refusal = &model->refusals[model->refusal_count++];
        COPY(from, "time", refusal->time);
        COPY(from, "peer", refusal->peer);
        COPY(from, "what", refusal->what);
        COPY(from, "reason", refusal->reason);
        COPY(from, "message", refusal->message);
    }
}

/* ---- the model ---- */

/* Forgets what is of a daemon that is no more: its counters and sessions count anew. */
static void forget(struct top_model *model)
{
    model->type_count = model->session_count = 0;
    model->received = model->sent = (struct top_rate){0, 0};
    memset(model->latencies, 0, sizeof(model->latencies));
    model->has_rates = false;
}

void top_model_take(struct top_model *model, const struct top_sample *sample)
{
    double uptime_s = (double)number_of(sample->status, "uptime_ms") / 1000;
    if (uptime_s < model->uptime_s) {
        forget(model);
    }
    double seconds = since_last(model, sample->time_ms);
    take_status(model, sample->status);
    take_metrics(model, sample->metrics, seconds);
    take_clients(model, sample->clients, seconds);
    sum_peers(model);
    take_jobs(model, sample->jobs);
    take_refusals(model, sample->refusals);
    model->time_ms = sample->time_ms;
    model->has_rates = model->connected = true;
    model->problem[0] = '\0';
}

void top_model_lost(struct top_model *model, const char *problem)
{
    model->connected = model->has_rates = false;
    model->received.per_second = model->sent.per_second = 0;
    for (size_t i = 0; i < model->type_count; i++) {
        model->types[i].requests.per_second = 0;
    }
    for (size_t i = 0; i < TOP_LATENCIES; i++) {
        model->latencies[i].p50 = model->latencies[i].p99 = -1;
    }
    for (size_t i = 0; i < model->session_count; i++) {
        model->sessions[i].in.per_second = model->sessions[i].out.per_second = 0;
    }
    sum_peers(model);
    snprintf(model->problem, sizeof(model->problem), "%s", problem);
}

void top_sample_free(struct top_sample *sample)
{
    json_decref(sample->status);
    json_decref(sample->metrics);
    json_decref(sample->clients);
    json_decref(sample->jobs);
    json_decref(sample->refusals);
    *sample = (struct top_sample){0};
}
