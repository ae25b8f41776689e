/* The params and results of the methods: see shapes.h. */
#include "daemon/admin/shapes.h"

#include "daemon/core/events.h"
#include "lib/store/types.h"

/* --- Params ----------------------------------------------------------------------------------- */

#define END_PARAM                                                                                  \
    {                                                                                              \
        .name = NULL                                                                               \
    }
#define END_FIELD                                                                                  \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }

static const char *const kinds[] = {"image", "data", NULL};
static const char *const directions[] = {"out", "in", NULL};
static const char *const formats[] = {"openmetrics", "prometheus", NULL};
static const char *const event_kinds[] = {
#define EVENT_KIND_NAME(NAME, name) #name,
    EVENT_KINDS(EVENT_KIND_NAME)
#undef EVENT_KIND_NAME
        NULL,
};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};

#define HASH_PARAM(text)                                                                           \
    {                                                                                              \
        .name = "hash", .type = ADMIN_HASH, .required = true, .doc = text                          \
    }
#define LIMIT_PARAM(most, text)                                                                    \
    {                                                                                              \
        .name = "limit", .type = ADMIN_INTEGER, .min = 1, .max = (most), .fallback = 64,           \
        .doc = text                                                                                \
    }
#define HASH_CURSOR                                                                                \
    {                                                                                              \
        .name = "cursor", .type = ADMIN_HASH, .doc = "the cursor of the previous page"             \
    }
#define NUMBER_CURSOR(begin)                                                                       \
    {                                                                                              \
        .name = "cursor", .type = ADMIN_INTEGER, .min = 0, .max = INT64_MAX, .fallback = (begin),  \
        .doc = "the cursor of the previous page"                                                   \
    }

const struct admin_param admin_no_params[] = {END_PARAM};

const struct admin_param admin_method_params[] = {
    [ADMIN_ARG_METHOD] = {.name = "method",
                          .type = ADMIN_WORD,
                          .min = 1,
                          .max = 64,
                          .doc = "the name of a method; default: all methods"},
    END_PARAM,
};

const struct admin_param admin_stat_params[] = {
    [ADMIN_ARG_HASH] = HASH_PARAM("the CapHash"),
    END_PARAM,
};

const struct admin_param admin_find_params[] = {
    [ADMIN_FIND_PREFIX] = {.name = "prefix",
                           .type = ADMIN_PREFIX,
                           .doc = "the first hex digits of the CapHash, enough to be unique"},
    [ADMIN_FIND_CONTENT] = {.name = "image_content_hash",
                            .type = ADMIN_HASH,
                            .doc = "the image_content_hash of a wire Image that was published"},
    END_PARAM,
};

const struct admin_param admin_list_params[] = {
    [ADMIN_LIST_KIND] = {.name = "kind",
                         .type = ADMIN_CHOICE,
                         .choices = kinds,
                         .doc = "only caps of this kind"},
    [ADMIN_LIST_PREFIX] = {.name = "prefix",
                           .type = ADMIN_PREFIX,
                           .doc = "only caps whose hash begins with these hex digits (a string)"},
    [ADMIN_LIST_LIMIT] = LIMIT_PARAM(1000, "most caps on this page"),
    [ADMIN_LIST_CURSOR] = HASH_CURSOR,
    END_PARAM,
};

const struct admin_param admin_explain_params[] = {
    [ADMIN_ARG_HASH] = HASH_PARAM("the CapHash"),
    [ADMIN_EXPLAIN_OFFSET] = {.name = "offset",
                              .type = ADMIN_INTEGER,
                              .min = 0,
                              .max = INT64_MAX,
                              .doc = "entries to skip at the start of each list"},
    [ADMIN_EXPLAIN_LIMIT] = LIMIT_PARAM(256, "most entries of each list"),
    END_PARAM,
};

const struct admin_param admin_refs_params[] = {
    [ADMIN_ARG_HASH] = HASH_PARAM("the CapHash"),
    [ADMIN_REFS_DIRECTION] = {.name = "direction",
                              .type = ADMIN_CHOICE,
                              .choices = directions,
                              .required = true,
                              .doc =
                                  "out: caps that the cap references; in: caps that reference it"},
    [ADMIN_REFS_LIMIT] = LIMIT_PARAM(1000, "most references on this page"),
    [ADMIN_REFS_CURSOR] = HASH_CURSOR,
    END_PARAM,
};

const struct admin_param admin_refusals_params[] = {
    [ADMIN_PAGE_LIMIT] = LIMIT_PARAM(256, "most refusals on this page"),
    [ADMIN_PAGE_CURSOR] = NUMBER_CURSOR(INT64_MAX),
    END_PARAM,
};

const struct admin_param admin_quota_params[] = {
    [ADMIN_PAGE_LIMIT] = LIMIT_PARAM(256, "most publishers on this page"),
    [ADMIN_PAGE_CURSOR] = NUMBER_CURSOR(0),
    END_PARAM,
};

const struct admin_param admin_clients_params[] = {
    [ADMIN_PAGE_LIMIT] = LIMIT_PARAM(256, "most clients on this page"),
    [ADMIN_PAGE_CURSOR] = NUMBER_CURSOR(0),
    END_PARAM,
};

const struct admin_param admin_metrics_params[] = {
    [ADMIN_METRICS_FORMAT] = {.name = "format",
                              .type = ADMIN_CHOICE,
                              .choices = formats,
                              .doc = "openmetrics, the default, or prometheus: the text format "
                                     "0.0.4, for a textfile collector"},
    END_PARAM,
};

const struct admin_param admin_cancel_params[] = {
    [ADMIN_JOB_ID] = {.name = "id",
                      .type = ADMIN_INTEGER,
                      .required = true,
                      .min = 1,
                      .max = INT64_MAX,
                      .doc = "the number of a job that runs"},
    END_PARAM,
};

#define NAME_PARAM                                                                                 \
    {                                                                                              \
        .name = "name", .type = ADMIN_NAME, .required = true, .min = 1, .max = CAP_ROOT_NAME_MAX,  \
        .doc = "the root's name, such as release/2026-11"                                          \
    }

const struct admin_param admin_roots_params[] = {
    [ADMIN_ROOTS_LIMIT] = LIMIT_PARAM(1000, "most roots on this page"),
    [ADMIN_ROOTS_CURSOR] = {.name = "cursor",
                            .type = ADMIN_NAME,
                            .min = 1,
                            .max = CAP_ROOT_NAME_MAX,
                            .doc = "the cursor of the previous page"},
    END_PARAM,
};

const struct admin_param admin_root_params[] = {
    [ADMIN_ROOT_NAME] = NAME_PARAM,
    [ADMIN_ROOT_HASH] = HASH_PARAM("the cap that it keeps, with everything that this needs"),
    END_PARAM,
};

const struct admin_param admin_root_name_params[] = {
    [ADMIN_ROOT_NAME] = NAME_PARAM,
    END_PARAM,
};

const struct admin_param admin_delete_params[] = {
    [ADMIN_ARG_HASH] = HASH_PARAM("the CapHash"),
    [ADMIN_DELETE_FORCE] = {.name = "force",
                            .type = ADMIN_BOOLEAN,
                            .doc = "also if a lease or Images need it, which are degraded then"},
    END_PARAM,
};

const struct admin_param admin_forbid_params[] = {
    [ADMIN_ARG_HASH] = HASH_PARAM("the CapHash"),
    [ADMIN_FORBID_REASON] = {.name = "reason",
                             .type = ADMIN_TEXT,
                             .required = true,
                             .min = 1,
                             .max = CAP_REASON_MAX,
                             .doc = "why, for those who ask for the cap or publish it"},
    END_PARAM,
};

const struct admin_param admin_plan_params[] = {
    [ADMIN_PLAN_LIMIT] = LIMIT_PARAM(1000, "most caps that are listed"),
    END_PARAM,
};

const struct admin_param admin_events_params[] = {
    [ADMIN_EVENTS_SINCE] = {.name = "since",
                            .type = ADMIN_INTEGER,
                            .min = -1,
                            .max = INT64_MAX,
                            .fallback = -1,
                            .doc = "begin after this seq; 0: with the oldest that is kept; -1: "
                                   "with what happens from now on"},
    [ADMIN_EVENTS_KINDS] = {.name = "kinds",
                            .type = ADMIN_CHOICES,
                            .choices = event_kinds,
                            .doc = "only events of these kinds"},
    END_PARAM,
};

const struct admin_param admin_scrub_params[] = {
    [ADMIN_SCRUB_REPAIR] = {.name = "repair",
                            .type = ADMIN_BOOLEAN,
                            .doc = "put right what the caps themselves prove: references, indexes, "
                                   "page roots, counts; drop what belongs to nothing"},
    END_PARAM,
};

const struct admin_param admin_log_params[] = {
    [ADMIN_LOG_LEVEL] = {.name = "level",
                         .type = ADMIN_CHOICE,
                         .choices = log_levels,
                         .required = true,
                         .doc = "the least severe level to log"},
    END_PARAM,
};

/* --- Results ---------------------------------------------------------------------------------- */

const struct admin_field admin_hello_result[] = {
    {"version", "string", "the daemon's version"},
    {"api", "integer", "rises when a method or a member is removed or changes meaning"},
    {"store_id", "string", "the store's identity, 32 hex digits"},
    {"level", "string", "your access level: observe, operate or admin"},
    {"uid", "integer", "your user ID, as attested by the kernel"},
    {"gid", "integer", "your group ID, as attested by the kernel"},
    {"limits", "object",
     "line_bytes, depth, reply_bytes, connections, idle_ms: the limits of this socket"},
    END_FIELD,
};

const struct admin_field admin_help_result[] = {
    {"text", "string", "help in plain text"},
    {"methods", "array", "objects with name, level, summary and deprecated"},
    END_FIELD,
};

const struct admin_field admin_schema_result[] = {
    {"methods", "object",
     "by name: level, doc, params and result as JSON Schema, example, deprecated"},
    END_FIELD,
};

const struct admin_field admin_status_result[] = {
    {"version", "string", "the daemon's version"},
    {"store_id", "string", "the store's identity, 32 hex digits"},
    {"engine", "string", "the store's engine"},
    {"phase", "string", "starting, running, draining or stopping"},
    {"listening", "array", "the addresses where clients are served, with the ports in use"},
    {"time", "string", "the current time"},
    {"started", "string", "when the daemon started"},
    {"uptime_ms", "integer", "time since then"},
    {"caps", "object", "image, data and total: caps by kind"},
    {"body_bytes", "object", "image, data and total: bytes of served bodies by kind"},
    {"refs", "integer", "references between caps"},
    {"file_bytes", "integer", "physical size of the store's file; it does not shrink by itself"},
    {"file_free_bytes", "integer", "bytes of the file in pages free for reuse"},
    {"map_bytes", "integer", "the maximum size of the file"},
    {"disk_free_bytes", "integer", "bytes free for the daemon on the file system"},
    {"readers", "object", "open and limit: read snapshots of the store"},
    {"sessions", "object", "open, limit and peer_limit: client connections"},
    {"requests_in_flight", "integer", "requests of clients not yet answered"},
    {"uploads", "object", "in_flight, limit and peer_limit"},
    {"spool", "object", "bytes, limit_bytes and peer_limit_bytes: uploads in flight"},
    {"parked", "object",
     "uploads and bytes: what is kept of uploads that were cut off and can go on"},
    {"memory", "object", "bytes, limit_bytes and peer_limit_bytes: memory held for requests"},
    {"hashing", "object",
     "jobs, their peers, and peer_limit_percent: uploads being hashed or waiting"},
    {"record_cache", "object", "bytes and limit_bytes: what is known of caps looked up lately"},
    {"map_cache", "object", "bytes and limit_bytes: copies of caps that runtimes map"},
    {"read_jobs", "integer", "reads of the store under way or waiting"},
    {"stall_max_us", "integer", "longest turn of any loop since start, in microseconds"},
    {"threads", "object", "count and responding: those that serve clients; see loops.list"},
    {"writer_queue", "integer", "admissions being written or waiting for it"},
    {"writer_held_ms", "integer",
     "for how long upkeep, such as compaction, has kept them waiting; 0: it does not"},
    {"backups", "object",
     "verified: how many there are; age_ms: time since the newest of these was begun, or null; "
     "failed: whether the last one tried since start failed"},
    {"refusals", "integer", "refusals since start; see refusals.list"},
    {"warnings", "array",
     "objects with reason, a stable word, and message, one sentence that says what to do"},
    {"last_error", "object or null", "time, reason, message: the last fault of the daemon itself"},
    {"scrub", "object",
     "state, ended and age_s of the last whole pass, findings of that and of the one under way; "
     "see scrub.status"},
    {"upstream", "object or null",
     "the daemon above: address; state, since and message: unused, nothing was asked yet; waiting, "
     "for the first answer; up; away, it cannot be reached or nothing came from it for "
     "upstream-timeout; broken, what it sent is wrong; waiting and under_way: caps; fetches: of "
     "each that is under way cap_hash, how many were asked for with "
     "it, caps and body_bytes that came so far, and since when; caps, body_bytes: brought since "
     "start; file_bytes: in the spool for it now; absent, failed: caps that are not there either, "
     "or could not be brought; null: there is none"},
    {"broken", "array",
     "objects with cap_hash, why (damaged or lost) and since: caps that cannot be served; at most "
     "100"},
    {"degraded", "array",
     "objects with cap_hash and needs: Images that refer to a cap which is broken; at most 100"},
    END_FIELD,
};

const struct admin_field admin_metrics_result[] = {
    {"content_type", "string", "the media type of the text"},
    {"text", "string", "the metrics in that format"},
    END_FIELD,
};

const struct admin_field admin_stat_result[] = {
    {"cap_hash", "string", "the CapHash"},
    {"kind", "string", "image or data"},
    {"body_len", "integer", "bytes of its served body"},
    {"size", "integer", "data: logical bytes; image: bytes of code"},
    {"page_count", "integer", "data: pages with content; image: 0"},
    {"ref_count", "integer", "image: distinct caps that it references; data: 0"},
    {"published", "string or null", "when it was first published"},
    {"publisher", "object or null", "uid and gid of its first publisher; null if that was remote"},
    {"image_content_hash", "string or null", "image: of the wire Image it was first published as"},
    {"damaged", "string or null",
     "since when it is quarantined, for its bytes were found damaged; null: it is not"},
    END_FIELD,
};

const struct admin_field admin_list_result[] = {
    {"caps", "array", "objects as in cap.stat without damaged, ordered by hash; may be empty"},
    {"cursor", "string or null", "pass it to get the next page; null: this was the last"},
    END_FIELD,
};

const struct admin_field admin_explain_result[] = {
    {"cap_hash", "string", "the CapHash"},
    {"kind", "string", "image or data"},
    {"body_len", "integer", "bytes of its served body"},
    {"published", "string or null", "when it was first published"},
    {"image", "object or null",
     "for an image: image_content_hash, code, counts, endpoints, mappings in address "
     "order with the Data cap behind each, pinned and initial slots with what they resolve to, "
     "gas_slots, quota_slots, "
     "yield_receiver_slot, warnings with reason and message"},
    {"data", "object or null",
     "for data: size, page_count, content_bytes, stored_bytes, run_count, "
     "runs of pages with content"},
    END_FIELD,
};

const struct admin_field admin_refs_result[] = {
    {"refs", "array", "objects with cap_hash (the other end) and tables (pinned, initial)"},
    {"cursor", "string or null", "pass it to get the next page; null: this was the last"},
    END_FIELD,
};

const struct admin_field admin_refusals_result[] = {
    {"refusals", "array",
     "objects with seq, time, peer, session, what, reason and message, newest first; where room or "
     "a quota was lacking, need and have, in bytes (of quota-caps: caps)"},
    {"total", "integer", "refusals since start; only the latest are kept"},
    {"cursor", "integer or null", "pass it to get older ones; null: no more"},
    END_FIELD,
};

const struct admin_field admin_quota_result[] = {
    {"publishers", "array",
     "objects with publisher (uid:N, or anonymous: all TCP clients together), uid (null: "
     "anonymous), bytes and caps (in the store, of which it was the first publisher), "
     "under_way_bytes and under_way_caps (held by its uploads in flight), and last_hour_bytes "
     "(new to the store); ordered by uid"},
    {"limits", "object",
     "bytes, caps, hourly_bytes (of each publisher) and total_bytes (of all); null: none"},
    {"total_bytes", "integer", "bodies in the store, of all publishers"},
    {"cursor", "integer or null", "pass it to get the next page; null: this was the last"},
    END_FIELD,
};

const struct admin_field admin_loops_result[] = {
    {"loops", "array",
     "of each thread that serves clients, that of the admin socket first: sessions, "
     "requests_in_flight, read_jobs, record_bytes, body_bytes, stall_max_us, and whether it "
     "responds; if not, the figures are those that it last gave"},
    END_FIELD,
};

const struct admin_field admin_clients_result[] = {
    {"clients", "array",
     "objects with session, peer, uid, gid, pid, agent, connected, idle_ms, requests, uploads, "
     "bytes_in, bytes_out and output_bytes"},
    {"cursor", "integer or null", "pass it to get the next page; null: this was the last"},
    END_FIELD,
};

const struct admin_field admin_jobs_result[] = {
    {"jobs", "array",
     "objects with id, kind, state (running, done, failed or cancelled), cancelled (it was asked "
     "to end), phase, done, total, done_bytes, total_bytes (null: unknown), percent (null: "
     "unknown), started, ended (null: it runs), took_ms, reason (of a failure, or null) and "
     "message; those that run first, then those that ended last"},
    END_FIELD,
};

const struct admin_field admin_cancel_result[] = {
    {"id", "integer", "the job's number"},
    END_FIELD,
};

const struct admin_field admin_events_result[] = {
    {"after", "integer", "the events that follow have a higher seq"},
    {"kinds", "array", "the kinds that follow"},
    END_FIELD,
};

const struct admin_field admin_job_result[] = {
    {"job", "integer", "the job's number"},
    END_FIELD,
};

const struct admin_field admin_backups_result[] = {
    {"dir", "string or null", "the option backup-dir"},
    {"backups", "array",
     "objects with name, made (when it was begun: what was acknowledged by then is in it), bytes "
     "(of the store's file) and verified, newest first"},
    END_FIELD,
};

const struct admin_field admin_roots_result[] = {
    {"roots", "array", "objects with name, cap_hash, set and uid, ordered by name"},
    {"cursor", "string or null", "pass it to get the next page; null: this was the last"},
    END_FIELD,
};

const struct admin_field admin_root_result[] = {
    {"name", "string", "the root's name"},
    {"cap_hash", "string", "the cap that it keeps"},
    {"replaced", "boolean", "whether the root was there, and kept another cap or the same"},
    END_FIELD,
};

const struct admin_field admin_root_name_result[] = {
    {"name", "string", "the root's name"},
    END_FIELD,
};

const struct admin_field admin_delete_result[] = {
    {"cap_hash", "string", "the cap that is gone"},
    {"degraded", "array", "hashes of Images that refer to it, the first of them"},
    END_FIELD,
};

const struct admin_field admin_allow_result[] = {
    {"cap_hash", "string", "the cap that may be published again"},
    END_FIELD,
};

const struct admin_field admin_plan_result[] = {
    {"caps", "integer", "caps that would go now, at most 10,000"},
    {"bytes", "integer", "of their bodies"},
    {"kept", "integer", "caps that a collection would look at and leave"},
    {"more", "boolean", "whether there are more than were looked at"},
    {"due", "array",
     "the first of them: objects with cap_hash, kind, body_len, published, kept_by (null: it would "
     "go; else root, reference, lease or upload) and with (the Image that alone refers to it and "
     "goes, too, or null)"},
    END_FIELD,
};

const struct admin_field admin_why_result[] = {
    {"cap_hash", "string", "the CapHash"},
    {"state", "string", "published, degraded, quarantined, forbidden or absent"},
    {"summary", "string", "why, and what to do, in a sentence"},
    {"kind", "string or null", "image or data; null: it is not there"},
    {"body_len", "integer or null", "bytes of its served body"},
    {"published", "string or null", "when it was first published"},
    {"roots", "array", "names of roots that keep it themselves, the first 16"},
    {"references", "array", "hashes of Images that refer to it, the first 16"},
    {"more_references", "boolean", "whether there are more: see refs.list"},
    {"lease_s", "integer", "for how many seconds a lease keeps it; 0: none does"},
    {"held", "boolean", "whether an upload under way needs it"},
    {"path", "object or null",
     "why a root keeps it: root and caps, the hashes from the cap up to the one that the root "
     "names; null: no root does, or the way is too long"},
    {"broken", "array", "hashes that it names and that cannot be served, the first 16"},
    {"quarantined", "string or null", "since when its bytes are known to be damaged"},
    {"forbidden", "object or null",
     "that it may not be here: time, reason and uid of the one who said so"},
    {"removed", "object or null",
     "when it last went: time, cause (collected, deleted or forbidden) and uid of the one who "
     "removed it (null: the store by itself)"},
    {"refusal", "object or null", "the last refusal that names it, as in refusals.list"},
    END_FIELD,
};

const struct admin_field admin_scrub_result[] = {
    {"state", "string",
     "running, paused, interrupted (it goes on at the next start) or idle: no pass is under way"},
    {"repair", "boolean", "whether the one that runs repairs"},
    {"index", "string or null", "what is being looked at"},
    {"caps", "object", "done and total, of the pass that is under way or the last one"},
    {"bytes", "object",
     "the same; page roots and what is read twice count, so done may pass total"},
    {"began", "string or null", "the pass that is under way"},
    {"findings", "integer", "of that pass; what is wrong, one sentence each"},
    {"repaired", "integer", "of that pass: entries that were put right"},
    {"unrepaired", "integer", "of that pass: entries with findings that stay"},
    {"ended", "string or null", "the last pass that came to its end"},
    {"age_s", "integer or null", "seconds since then"},
    {"last_findings", "integer", "of that pass"},
    {"last_unrepaired", "integer", "of that pass"},
    {"period_s", "integer", "the option scrub-period; 0: none begins by itself"},
    {"rate", "integer", "bytes per second at most, the option scrub-rate; 0: any"},
    {"recent", "array",
     "objects with time, cap_hash (or null) and what: the last findings since the daemon's start"},
    {"broken", "array", "as in status"},
    {"degraded", "array", "as in status"},
    END_FIELD,
};

const struct admin_field admin_log_result[] = {
    {"level", "string", "the new level"},
    {"previous", "string", "the previous level"},
    END_FIELD,
};

const struct admin_field admin_config_result[] = {
    {"file", "string or null", "the configuration file (--config)"},
    {"settings", "array",
     "objects with name; value, the one in use; configured, what was given when the configuration "
     "was last read; source: default, file, command line or environment; line, of the file; live, "
     "whether a reload changes it; note: why value is not what was configured"},
    END_FIELD,
};

const struct admin_field admin_reload_result[] = {
    {"changed", "array", "objects with name, from and to: settings that a reload changes"},
    {"restart_needed", "array",
     "the same: settings that keep their value until the daemon is started again"},
    END_FIELD,
};

const struct admin_field admin_phase_result[] = {
    {"phase", "string", "the daemon's phase now"},
    END_FIELD,
};
