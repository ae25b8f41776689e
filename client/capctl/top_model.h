/*
 * What `top` knows: the figures of a daemon, from two looks at its admin socket. Pure: no terminal
 * and no socket here.
 *
 * Rates are of the time between the last two samples, and 0 before there are two; counters that
 * went back belong to a daemon that was started again, and count from there.
 */
#ifndef CLIENT_CAPCTL_TOP_MODEL_H
#define CLIENT_CAPCTL_TOP_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOP_TYPES     16  /* of requests; the protocol has fewer */
#define TOP_BUCKETS   64  /* of a histogram */
#define TOP_SESSIONS  256 /* the longest page of clients.list */
#define TOP_PEERS     64
#define TOP_JOBS      16
#define TOP_REFUSALS  16
#define TOP_WARNINGS  4
#define TOP_TEXT_SIZE 128

/* The answers of one look. Each may be NULL when the daemon did not give it. Owned. */
struct top_sample {
    int64_t time_ms; /* monotonic */
    json_t *status;
    json_t *metrics;
    json_t *clients;
    json_t *jobs;
    json_t *refusals;
};

/* A counter and how fast it rises. */
struct top_rate {
    double total;
    double per_second;
};

struct top_type {
    char name[16];
    struct top_rate requests;
};

enum top_latency {
    TOP_LOOKUP,
    TOP_FETCH,
    TOP_GET_MANY,
    TOP_UPLOAD,
    TOP_COMMIT,
    TOP_TURN,
    TOP_LATENCIES,
};

/* A histogram's buckets, cumulative, with what is known of the time between the last two samples.
 */
struct top_histogram {
    double counts[TOP_BUCKETS];
    size_t buckets;
    double p50; /* seconds: the bound of the bucket; negative: nothing was measured */
    double p99;
};

struct top_session {
    uint64_t number;
    char peer[TOP_TEXT_SIZE];
    char agent[TOP_TEXT_SIZE];
    char connected[TOP_TEXT_SIZE];
    double idle_s;
    uint64_t requests; /* in flight */
    uint64_t uploads;
    uint64_t waiting; /* bytes of answers that wait for its socket */
    struct top_rate in;
    struct top_rate out;
};

/* All sessions of a user, or of an address. */
struct top_peer {
    char name[TOP_TEXT_SIZE];
    size_t sessions;
    uint64_t requests;
    uint64_t uploads;
    double in; /* bytes per second */
    double out;
    double share; /* of the bytes of all sessions, 0 to 1 */
};

struct top_job {
    uint64_t id;
    char kind[16];
    char state[16];
    char phase[32];
    bool running;
    bool cancelled;
    int percent; /* -1: unknown */
    uint64_t done;
    uint64_t total;
    uint64_t done_bytes;
    uint64_t total_bytes;
    double took_s;
    char message[TOP_TEXT_SIZE];
};

struct top_refusal {
    char time[TOP_TEXT_SIZE];
    char peer[TOP_TEXT_SIZE];
    char what[32];
    char reason[48];
    char message[TOP_TEXT_SIZE];
};

struct top_model {
    bool connected; /* the last look succeeded */
    bool has_rates; /* there are two samples of the same daemon */
    char address[TOP_TEXT_SIZE];
    char problem[256]; /* why not, when not connected */
    int64_t time_ms;

    char version[32];
    char phase[16];
    char clock[TOP_TEXT_SIZE]; /* the daemon's */
    double uptime_s;
    struct top_type types[TOP_TYPES];
    size_t type_count;
    struct top_rate received; /* bytes */
    struct top_rate sent;
    struct top_histogram latencies[TOP_LATENCIES];
    uint64_t sessions_open, sessions_limit, sessions_peer_limit;
    uint64_t in_flight, uploads, uploads_limit, writer_queue;
    uint64_t memory, memory_limit, spool, spool_limit;
    uint64_t images, data, bodies;
    uint64_t file, file_free, map, disk_free;
    uint64_t refusals_total;
    char warnings[TOP_WARNINGS][256];
    size_t warning_count;

    struct top_session sessions[TOP_SESSIONS];
    size_t session_count;
    bool more_sessions; /* than there is room for */
    struct top_peer peers[TOP_PEERS];
    size_t peer_count;
    struct top_job jobs[TOP_JOBS];
    size_t job_count;
    struct top_refusal refusals[TOP_REFUSALS];
    size_t refusal_count;
};

/* Takes the answers of a look in, and leaves the sample to the caller. */
void top_model_take(struct top_model *model, const struct top_sample *sample);

/* A look failed, and why: what was known stays, but for rates. */
void top_model_lost(struct top_model *model, const char *problem);

/* Releases the answers. */
void top_sample_free(struct top_sample *sample);

/* A name for the owner of a session: its user, or its address without the port. */
void top_peer_name(const char *peer, char ret_name[TOP_TEXT_SIZE]);

#endif
