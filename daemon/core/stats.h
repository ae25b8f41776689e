/*
 * Figures of the daemon: plain counters, gauges and histograms. Each loop has its own, for its
 * thread only; what other threads do is counted when their result comes back to the loop. context.h
 * sums them.
 */
#ifndef DAEMON_CORE_STATS_H
#define DAEMON_CORE_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/cap/error.h"

/* X(field, series, help): monotone, `_total` is part of the series' name. */
#define STATS_COUNTERS(X)                                                                          \
    X(connections, "capstore_connections_accepted_total", "Connections accepted")                  \
    X(connections_refused, "capstore_connections_refused_total", "Connections over a limit")       \
    X(connections_idle, "capstore_connections_idle_total", "Connections closed as idle")           \
    X(bytes_in, "capstore_received_bytes_total", "Bytes received from clients")                    \
    X(bytes_out, "capstore_sent_bytes_total", "Bytes sent to clients")                             \
    X(body_bytes_out, "capstore_served_body_bytes_total", "Bytes of bodies sent")                  \
    X(cold_windows, "capstore_cold_windows_total",                                                 \
      "Windows of bodies that a reader first brought into memory")                                 \
    X(body_bytes_kept, "capstore_body_cache_served_bytes_total",                                   \
      "Bytes of bodies sent from the body cache")                                                  \
    X(records_used, "capstore_records_used_total", "Lookups answered from the record cache")       \
    X(records_missed, "capstore_records_missed_total", "Lookups that went to the store")           \
    X(many_caps, "capstore_get_many_caps_total", "Caps that a GET_MANY asked for")                 \
    X(closure_caps, "capstore_closure_caps_total", "Entries in answers to a CLOSURE")              \
    X(slice_pages, "capstore_slice_pages_total", "Pages that a SLICE asked for")                   \
    X(maps, "capstore_maps_total", "Descriptors of caps given out to be mapped")                   \
    X(maps_made, "capstore_map_copies_made_total", "Copies of caps made to be mapped")             \
    X(refusals, "capstore_refusals_total", "Requests and connections refused, with any error")     \
    X(uploads, "capstore_uploads_total", "Uploads begun")                                          \
    X(uploads_resumed, "capstore_uploads_resumed_total",                                           \
      "Uploads that went on where one had been cut off")                                           \
    X(upload_bytes, "capstore_upload_bytes_total", "Bytes of uploads received")                    \
    X(hash_jobs, "capstore_hash_jobs_total", "Uploads hashed")                                     \
    X(hashed_bytes, "capstore_hashed_bytes_total", "Bytes of uploads hashed")                      \
    X(admissions, "capstore_admissions_total", "Admissions committed")                             \
    X(caps_new, "capstore_caps_published_total", "Caps stored for the first time")                 \
    X(caps_present, "capstore_caps_present_total", "Caps published that were already stored")      \
    X(commits, "capstore_commits_total", "Write transactions committed")                           \
    X(commits_failed, "capstore_commits_failed_total", "Write transactions that failed")           \
    X(stage_steps, "capstore_stage_steps_total", "Steps in which large bodies were written")       \
    X(gc_runs, "capstore_gc_runs_total", "Collections that have ended")                            \
    X(gc_caps, "capstore_gc_caps_total", "Caps collected")                                         \
    X(gc_bytes, "capstore_gc_bytes_total", "Bytes of the bodies of collected caps")                \
    X(http_requests, "capstore_http_requests_total", "Requests answered over HTTP")                \
    X(http_errors, "capstore_http_errors_total",                                                   \
      "Requests answered over HTTP with a status of 400 or more")                                  \
    X(http_bytes, "capstore_http_sent_bytes_total", "Bytes of the bodies of answers over HTTP")    \
    X(http_cut, "capstore_http_slow_total",                                                        \
      "Connections over HTTP that were closed because the client was too slow")                    \
    X(awaited, "capstore_upstream_awaited_total",                                                  \
      "Caps that were not here and that requests waited for")                                      \
    X(upstream_caps, "capstore_upstream_caps_total", "Caps brought from the daemon above")         \
    X(upstream_bytes, "capstore_upstream_bytes_total", "Bytes of the bodies of these")             \
    X(upstream_absent, "capstore_upstream_absent_total",                                           \
      "Caps that the daemon above does not have either")                                           \
    X(upstream_failed, "capstore_upstream_failed_total", "Caps that could not be brought")         \
    X(upstream_recalled, "capstore_upstream_recalled_total",                                       \
      "Caps asked for again within seconds, and not looked for again")                             \
    X(log_lines, "capstore_log_lines_total", "Log lines written")                                  \
    X(log_lost, "capstore_log_lost_total", "Log lines lost to a slow reader")

/* X(field, series, help): the present value; of series in seconds, in microseconds. */
#define STATS_GAUGES(X)                                                                            \
    X(connections, "capstore_connections", "Open client connections")                              \
    X(requests, "capstore_requests_in_flight", "Requests in flight")                               \
    X(uploads, "capstore_uploads_in_flight", "Uploads in flight")                                  \
    X(spool_bytes, "capstore_spool_bytes", "Bytes of uploads reserved in the spool")               \
    X(parked_uploads, "capstore_parked_uploads", "Uploads that were cut off and can go on")        \
    X(parked_bytes, "capstore_parked_bytes", "Bytes kept of uploads that were cut off")            \
    X(memory_bytes, "capstore_request_memory_bytes", "Memory held for requests")                   \
    X(buffer_bytes, "capstore_spool_buffer_bytes", "Memory of uploads on their way to the spool")  \
    X(jobs, "capstore_hash_jobs_in_flight", "Uploads being hashed or waiting for it")              \
    X(hash_peers, "capstore_hash_peers", "Peers whose uploads are being hashed or wait for it")    \
    X(writer_queue, "capstore_writer_queue", "Admissions being written or waiting for it")         \
    X(stall_max_us, "capstore_loop_stall_max_seconds", "Longest turn of any loop since start")     \
    X(read_jobs, "capstore_read_jobs_in_flight", "Reads of the store under way or waiting")        \
    X(record_bytes, "capstore_record_cache_bytes", "Memory of the record cache")                   \
    X(max_record_bytes, "capstore_record_cache_limit_bytes", "Limit of the record cache")          \
    X(body_bytes, "capstore_body_cache_bytes", "Memory of the body cache")                         \
    X(max_body_bytes, "capstore_body_cache_limit_bytes", "Limit of the body cache")                \
    X(map_bytes, "capstore_map_cache_bytes", "Memory of the copies of caps to be mapped")          \
    X(map_copies, "capstore_map_cache_copies", "Copies of caps to be mapped")                      \
    X(max_map_bytes, "capstore_map_cache_limit_bytes",                                             \
      "Limit of memory for copies of caps to be mapped")                                           \
    X(writer_held_us, "capstore_writer_held_seconds",                                              \
      "For how long upkeep has kept publications waiting; 0: it does not")                         \
    X(backups, "capstore_backups", "Verified backups")                                             \
    X(backup_age_us, "capstore_backup_age_seconds",                                                \
      "Time since the newest verified backup was begun; 0: there is none")                         \
    X(backup_failed, "capstore_backup_failed", "1 if the last backup tried since start failed")    \
    X(gc_high, "capstore_gc_high_bytes",                                                           \
      "Bytes in use of the store's file at which collection starts by itself; 0: never")           \
    X(scrub_running, "capstore_scrub_running", "1 while a scrub runs")                             \
    X(scrub_ended_us, "capstore_scrub_last_pass_timestamp_seconds",                                \
      "When the last whole scrub ended, since 1970; 0: never")                                     \
    X(scrub_last_findings, "capstore_scrub_last_pass_findings",                                    \
      "What the last whole scrub found wrong")                                                     \
    X(scrub_caps, "capstore_scrub_caps", "Caps that the scrub under way, or the last, looked at")  \
    X(scrub_caps_total, "capstore_scrub_caps_limit", "Caps that it has to look at")                \
    X(upstream_flights, "capstore_upstream_flights",                                               \
      "Caps that are being brought from the daemon above, or wait for it")                         \
    X(upstream_fetch_us, "capstore_upstream_fetch_seconds",                                        \
      "For how long the oldest fetch from the daemon above has run; 0: none does")                 \
    X(upstream_away, "capstore_upstream_away",                                                     \
      "1 while the daemon above cannot be reached, or does not answer")                            \
    X(upstream_broken, "capstore_upstream_broken", "1 while what the daemon above sends is wrong") \
    X(draining, "capstore_draining", "1 while the daemon drains")                                  \
    X(max_connections, "capstore_connections_limit", "Limit of open client connections")           \
    X(max_uploads, "capstore_uploads_limit", "Limit of uploads in flight")                         \
    X(max_spool, "capstore_spool_limit_bytes", "Limit of bytes in the spool")                      \
    X(max_memory, "capstore_request_memory_limit_bytes", "Limit of memory held for requests")      \
    X(peers, "capstore_peers", "Peers that hold something")                                        \
    X(max_requests, "capstore_requests_limit", "Limit of requests in flight")                      \
    X(max_buffers, "capstore_spool_buffer_limit_bytes",                                            \
      "Limit of memory of uploads on their way to the spool")                                      \
    X(peer_connections, "capstore_peer_connections_limit", "A peer's share of connections")        \
    X(peer_requests, "capstore_peer_requests_limit", "A peer's share of requests in flight")       \
    X(peer_uploads, "capstore_peer_uploads_limit", "A peer's share of uploads in flight")          \
    X(peer_spool, "capstore_peer_spool_limit_bytes", "A peer's share of bytes in the spool")       \
    X(peer_memory, "capstore_peer_request_memory_limit_bytes",                                     \
      "A peer's share of memory held for requests")                                                \
    X(peer_maps, "capstore_peer_map_limit_bytes", "A peer's share of copies to be mapped")         \
    X(peer_hashing, "capstore_peer_hashing_limit_percent",                                         \
      "A peer's share of hashing while others wait, in percent")                                   \
    X(quota_bytes, "capstore_publisher_limit_bytes",                                               \
      "Quota of a publisher's bodies in the store; 0: any")                                        \
    X(quota_caps, "capstore_publisher_caps_limit",                                                 \
      "Quota of a publisher's caps in the store; 0: any")                                          \
    X(quota_hourly, "capstore_publisher_hour_limit_bytes",                                         \
      "Quota of a publisher's new bytes in an hour; 0: any")                                       \
    X(quota_total, "capstore_body_limit_bytes", "Quota of all bodies in the store; 0: any")

/* X(field, series, help): microseconds, shown in seconds. */
#define STATS_HISTOGRAMS(X)                                                                        \
    X(lookup_us, "capstore_lookup_seconds", "From a HAS or STAT to its answer")                    \
    X(fetch_us, "capstore_fetch_seconds", "From a GET to the last byte handed to the socket")      \
    X(many_us, "capstore_get_many_seconds", "From a GET_MANY to the last byte of its answer")      \
    X(closure_us, "capstore_closure_seconds", "From a CLOSURE to the last byte of its answer")     \
    X(slice_us, "capstore_slice_seconds", "From a SLICE to the last byte of its answer")           \
    X(map_us, "capstore_map_seconds", "From a MAP to its descriptor")                              \
    X(upload_us, "capstore_upload_seconds", "From an upload's request to its answer")              \
    X(hash_us, "capstore_hash_seconds", "Time a thread spent on an upload")                        \
    X(turn_us, "capstore_loop_turn_seconds", "Time of the loop between two polls of its sockets")  \
    X(commit_us, "capstore_commit_seconds", "Time of a commit, sync included")

#define STATS_ERROR_CODES 128 /* every magnitude of an enum cap_error is below */
#define STATS_TYPES       256 /* every frame type */
#define STATS_BUCKETS     16  /* bounds 4^1 … 4^15 microseconds (18 minutes), then infinity */

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t buckets[STATS_BUCKETS]; /* not cumulative */
};

/* What a loop holds at the moment. */
struct stats_now {
    uint64_t connections;
    uint64_t requests; /* in flight */
    uint64_t read_jobs;
    uint64_t record_bytes;
    uint64_t body_bytes;
};

struct stats {
#define STATS_FIELD(field, series, help) uint64_t field;
    STATS_COUNTERS(STATS_FIELD)
#undef STATS_FIELD
#define STATS_FIELD(field, series, help) struct histogram field;
    STATS_HISTOGRAMS(STATS_FIELD)
#undef STATS_FIELD
    uint64_t stall_max_us;              /* the longest of turn_us */
    struct histogram commit_admissions; /* admissions per commit */
    uint64_t requests[STATS_TYPES];     /* by enum proto_type */
    uint64_t errors[STATS_ERROR_CODES]; /* refusals by magnitude of the error */
    struct stats_now now;
};

/* What is counted of HTTP, by any thread; the rows http_ above show it. */
struct stats_http {
    atomic_uint_fast64_t requests;
    atomic_uint_fast64_t errors;
    atomic_uint_fast64_t bytes;
    atomic_uint_fast64_t cut;
    atomic_uint_fast64_t awaited; /* beside what the loops count */
};

struct gauges {
    uint64_t uptime_ms;
#define STATS_FIELD(field, series, help) uint64_t field;
    STATS_GAUGES(STATS_FIELD)
#undef STATS_FIELD
};

/* Where the field of a series lies in struct stats or struct gauges. */
struct stats_row {
    const char *field;
    const char *series;
    const char *help;
    size_t offset;
};

/* The rows of the three lists above, in order. Static. */
const struct stats_row *stats_counter_rows(size_t *ret_count);
const struct stats_row *stats_gauge_rows(size_t *ret_count);
const struct stats_row *stats_histogram_rows(size_t *ret_count);

/* Whether a gauge's series is in seconds, and its field in microseconds. */
bool stats_in_seconds(const struct stats_row *row);

/* Adds every figure of `other` to those of `sum`; the maximum of those that are a maximum. */
void stats_add(struct stats *sum, const struct stats *other);

/* Adds one observation. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* Adds the observations of `other`. */
void histogram_merge(struct histogram *sum, const struct histogram *other);

/* The upper bound (inclusive) of bucket `index`; UINT64_MAX for the last one. */
uint64_t histogram_bound(unsigned index);

#endif
