/*
 * The daemon as a whole.
 *
 * Happy path. Start: state directory and its lock, store, loops, sockets, admin socket, threads,
 * READY. SIGTERM: listeners close, sessions of every loop finish what is in flight, and when the
 * last one is gone the main loop ends; the writer has committed by then. The main thread joins the
 * others and closes their loops as its own.
 *
 * Failure modes.
 *   - Anything at start: what was opened is closed, a sentence says why.
 *   - The drain takes too long, or a second signal comes: everything is dropped. What was
 *     acknowledged is committed; what was not is not there.
 *   - The store failed: nothing is acknowledged any more and the process exits with status 1, so
 *     that its supervisor starts it again.
 */
#include "daemon/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/admin/admin.h"
#include "daemon/admin/level.h"
#include "daemon/admin/metrics.h"
#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/core/oserror.h"
#include "daemon/core/sd.h"
#include "daemon/core/statedir.h"
#include "daemon/descriptors.h"
#include "daemon/http/http.h"
#include "daemon/opening.h"
#include "daemon/publish/park.h"
#include "daemon/publish/quota.h"
#include "daemon/publish/writer.h"
#include "daemon/serve/copies.h"
#include "daemon/serve/pieces.h"
#include "daemon/serve/watch.h"
#include "daemon/upkeep/backup.h"
#include "daemon/upkeep/gc.h"
#include "daemon/upkeep/jobs.h"
#include "daemon/upkeep/scrub.h"
#include "daemon/upstream/upstream.h"
#include "lib/cap/sha256.h"
#include "proto/message.h"

#define TICK_MS          100                /* the bounds of time that it enforces are seconds */
#define STALE_READERS_US UINT64_C(60000000) /* a reader that died holds back the reuse of pages */

static struct shard *main_shard(struct server *server)
{
    return &server->loops[0].shard;
}

static const char no_threads[] = "out of memory, or too many threads (ulimit -u, TasksMax=)";

/* A commit failed in a way that leaves open what is on the disk. */
static void on_store_failed(void *ctx, enum cap_error error)
{
    struct server *server = ctx;
    log_event(&server->context.log, LOG_LEVEL_ERROR, log_name("commit_failed"), log_error(error));
    context_fault(&server->context, CAP_E_STORE_FAILED,
                  "a commit failed; the daemon stops, so that the store is reopened when it is "
                  "started again");
}

/* --- Ends ----------------------------------------------------------------------------------- */

static struct ledger_figures held(const struct server *server)
{
    struct ledger_figures figures;
    ledger_figures(server->context.ledger, &figures);
    return figures;
}

/* Whether nothing is in flight any more. */
static bool is_quiet(const struct server *server)
{
    const struct ledger_figures figures = held(server);
    return figures.connections == 0 && figures.uploads == 0 && writer_queued(server->writer) == 0 &&
           upkeep_jobs_count(server->jobs) == 0;
}

void server_drain(struct server *server)
{
    if (server->context.phase != PHASE_RUNNING) {
        return;
    }
    server->context.phase = PHASE_DRAINING;
    server->drain_deadline_us =
        env_monotonic_us(server->context.env) + server->context.config.drain_ms * 1000;
    const struct ledger_figures figures = held(server);
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("draining"),
              log_number("connections", figures.connections),
              log_number("uploads", figures.uploads));
    sd_notify("STOPPING=1\nSTATUS=Finishing what is in flight");
    sockets_close_clients(&server->sockets);
    http_drain(server->http);
    upkeep_jobs_cancel_all(server->jobs);
    upstream_stop(server->upstream);
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_drain(&server->loops[i]);
    }
}

void server_stop(struct server *server)
{
    server->context.phase = PHASE_STOPPING;
    if (server->handles_open) {
        (void)uv_async_send(&server->wake);
    }
}

static void on_wake(uv_async_t *wake)
{
    struct server *server = wake->data;
    if (server->context.phase == PHASE_STOPPING) {
        uv_stop(&main_shard(server)->loop);
    }
}

/* A room asks for the end. */
static void on_drain_asked(void *owner)
{
    server_drain(owner);
}

static void on_stop_asked(void *owner, int exit_code)
{
    struct server *server = owner;
    if (exit_code != 0) {
        server->exit_code = exit_code;
    }
    server_stop(server);
}

static enum cap_error on_reload_asked(void *owner, bool apply, struct config_changes *ret_changes,
                                      char reason[CONFIG_REASON_SIZE])
{
    return reload_run(&((struct server *)owner)->reload, apply, ret_changes, reason);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *server = signal->data;
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("signal"),
              log_number("number", (uint64_t)number));
    if (number == SIGHUP) {
        reload_start(&server->reload);
        return;
    }
    if (server->context.phase == PHASE_RUNNING) {
        server_drain(server);
    } else {
        server_stop(server);
    }
}

/* --- Time ----------------------------------------------------------------------------------- */

static void run_clear_readers(struct pool_job *job)
{
    struct server *server = CONTAINER_OF(job, struct server, clear_readers);
    (void)cap_store_clear_stale_readers(server->context.store);
}

static void on_readers_cleared(struct pool_job *job)
{
    CONTAINER_OF(job, struct server, clear_readers)->clearing = false;
}

/* Has a thread clear the store of readers that died, once a minute. */
static void maybe_clear_readers(struct server *server, uint64_t now)
{
    if (server->clearing || now - server->cleared_us < STALE_READERS_US) {
        return;
    }
    server->clearing = true;
    server->cleared_us = now;
    server->clear_readers = (struct pool_job){.run = run_clear_readers, .done = on_readers_cleared};
    pool_submit(&main_shard(server)->pool, &server->clear_readers);
}

static void count_gc(struct server *server)
{
    struct stats *stats = &main_shard(server)->stats;
    struct gc_figures figures;
    gc_figures(server->gc, &figures);
    stats->gc_runs = figures.runs;
    stats->gc_caps = figures.caps;
    stats->gc_bytes = figures.bytes;
}

static void tick_http(struct server *server)
{
    struct admin_figures admin;
    if (server->http != NULL) {
        admin_figures(server->admin, &admin);
        http_tick(server->http, &admin);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = env_monotonic_us(server->context.env);
    admin_tick(server->admin);
    sockets_tick(&server->sockets);
    tick_http(server);
    maybe_clear_readers(server, now);
    if (server->context.phase == PHASE_RUNNING) {
        gc_tick(server->gc, now);
    }
    publish_tick(&server->loops[0].publish); /* for all loops */
    count_gc(server);
    upstream_count(server->upstream, &main_shard(server)->stats);
    scrub_tick(server->scrub);
    main_shard(server)->stats.log_lines = server->context.log.lines;
    main_shard(server)->stats.log_lost = server->context.log.lost;
    if (server->context.phase != PHASE_DRAINING) {
        return;
    }
    if (is_quiet(server)) {
        log_event(&server->context.log, LOG_LEVEL_INFO, log_name("drained"));
        server_stop(server);
    } else if (now >= server->drain_deadline_us) {
        const struct ledger_figures figures = held(server);
        log_event(&server->context.log, LOG_LEVEL_WARNING, log_name("drain_incomplete"),
                  log_number("connections", figures.connections),
                  log_number("uploads", figures.uploads),
                  log_number("jobs", upkeep_jobs_count(server->jobs)));
        server_stop(server);
    }
}

/* The watchdog is fed by the main loop, and only while the other loops and the writer tick. */
static void on_watchdog(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t beat = writer_heartbeat(server->writer);
    bool all = beat != server->watchdog_beat;
    server->watchdog_beat = beat;
    for (size_t i = 1; i < server->loop_count; i++) {
        all = loop_beats(&server->loops[i]) && all;
    }
    if (all) {
        sd_notify("WATCHDOG=1");
    }
}

/* --- Start ---------------------------------------------------------------------------------- */

/* Without them the daemon serves all but MAP. CAP_E_NO_MEMORY. */
static enum cap_error open_copies(struct server *server)
{
    struct context *context = &server->context;
    context->features = PROTO_FEATURE_GET_MANY | PROTO_FEATURE_KEEP | PROTO_FEATURE_PUT_CAP |
                        PROTO_FEATURE_SLICE | PROTO_FEATURE_CLOSURE | PROTO_FEATURE_RESUME;
    if (context->config.map_cache == 0) {
        return CAP_OK;
    }
    enum cap_error error = copies_new(context, &server->serves.copies);
    if (error == CAP_E_IO) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("no_maps"),
                  log_text("message", "this system cannot seal a file in memory, or not tell when "
                                      "it is gone: caps cannot be mapped (memfd_create, inotify)"));
        return CAP_OK;
    }
    if (error == CAP_OK) {
        context->features |= PROTO_FEATURE_MAP;
    }
    return error;
}

static enum cap_error start_parts(struct server *server, char *reason)
{
    const struct writer_config writer = {
        .store = server->context.store,
        .store_dir = server->context.statedir->store_dir,
        .disk_reserve = server->context.config.disk_reserve,
        .env = server->context.env,
        .failed = on_store_failed,
        .ctx = server,
    };
    snprintf(reason, CONFIG_REASON_SIZE, "%s", no_threads);
    enum cap_error error = gone_open(&server->serves.gone);
    if (error == CAP_OK) {
        serve_watch(&server->serves, &server->context);
        error = writer_new(&writer, &server->writer);
    }
    if (error == CAP_OK) {
        error = upkeep_jobs_new(&server->context, &server->jobs);
    }
    if (error == CAP_OK) {
        error = backups_new(&server->context, server->jobs, &server->backups);
    }
    if (error == CAP_OK) {
        error = gc_new(&server->context, server->jobs, server->writer, &server->gc);
    }
    if (error == CAP_OK) {
        error = scrub_new(&server->context, server->writer, server->jobs, &server->scrub);
    }
    if (error == CAP_OK) {
        error = open_copies(server);
    }
    if (error == CAP_OK) {
        error = upstream_new(&server->context, &server->hubs, &server->upstream, reason);
        server->context.fetcher = upstream_fetcher(server->upstream);
    }
    for (size_t i = 0; error == CAP_OK && i < server->loop_count; i++) {
        error = loop_open(&server->loops[i], &server->hubs, &server->serves, server->writer,
                          &server->room);
    }
    if (error != CAP_OK) {
        return error;
    }
    server->reload.writer = server->writer;
    server->reload.pool = &main_shard(server)->pool;
    return publish_look(&server->loops[0].publish);
}

/* Everything that the threads look at is there. */
static enum cap_error start_threads(struct server *server, char *reason)
{
    enum cap_error error = CAP_OK;
    snprintf(reason, CONFIG_REASON_SIZE, "%s", no_threads);
    for (size_t i = 1; error == CAP_OK && i < server->loop_count; i++) {
        error = loop_start(&server->loops[i]);
    }
    return error == CAP_OK ? upstream_start(server->upstream) : error;
}

/* What those see who look at the whole daemon. */
static struct admin_rooms rooms_of(struct server *server)
{
    return (struct admin_rooms){
        .context = &server->context,
        .hubs = &server->hubs,
        .writer = server->writer,
        .jobs = server->jobs,
        .backups = server->backups,
        .gc = server->gc,
        .scrub = server->scrub,
        .copies = server->serves.copies,
    };
}

static enum cap_error start_http(struct server *server, char *reason)
{
    struct sockets *sockets = &server->sockets;
    const struct admin_rooms rooms = rooms_of(server);
    if (sockets->http_count == 0) {
        return CAP_OK;
    }
    snprintf(reason, CONFIG_REASON_SIZE, "cannot start HTTP: %s", no_threads);
    enum cap_error error = http_start(&rooms, sockets->http, sockets->http_count, &server->http);
    sockets->http_taken = error == CAP_OK;
    return error;
}

/* The admin socket opens last: operators that reach it find a daemon that serves. */
static enum cap_error start_admin(struct server *server, const struct admin_group *operators,
                                  char *reason)
{
    struct bound *bound = &server->sockets.admin;
    if (bound->fd < 0) {
        return CAP_OK;
    }
    snprintf(reason, CONFIG_REASON_SIZE,
             "cannot start the admin socket: out of memory, or too many threads "
             "(ulimit -u, TasksMax=)");
    const struct admin_rooms rooms = rooms_of(server);
    enum cap_error error = admin_start(&rooms, bound->fd, operators, &server->admin);
    if (error == CAP_OK) {
        bound->fd = -1; /* the admin socket's now; the path stays ours */
        server->reload.admin = server->admin;
    }
    return error;
}

/* Timers and signals; after the parts that they use. */
static void start_handles(struct server *server)
{
    static const int numbers[SERVER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t watchdog_ms = sd_watchdog_us() / 2000;
    uv_loop_t *loop = &main_shard(server)->loop;
    uv_timer_init(loop, &server->tick);
    uv_timer_init(loop, &server->watchdog);
    uv_async_init(loop, &server->wake, on_wake);
    server->tick.data = server->watchdog.data = server->wake.data = server;
    uv_timer_start(&server->tick, on_tick, TICK_MS, TICK_MS);
    if (watchdog_ms > 0) {
        uv_timer_start(&server->watchdog, on_watchdog, 0, watchdog_ms);
    }
    for (size_t i = 0; i < SERVER_SIGNALS; i++) {
        uv_signal_init(loop, &server->signals[i]);
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], on_signal, numbers[i]);
    }
    server->handles_open = true;
}

static size_t cores(void)
{
    size_t count = uv_available_parallelism();
    return count < CONFIG_THREADS_MAX ? count : CONFIG_THREADS_MAX;
}

static enum cap_error make_loops(struct server *server, size_t count)
{
    enum cap_error error = CAP_OK;
    server->loops = calloc(count, sizeof(*server->loops));
    if (server->loops == NULL) {
        return CAP_E_NO_MEMORY;
    }
    while (error == CAP_OK && server->loop_count < count) {
        error = loop_init(&server->loops[server->loop_count++], &server->context);
    }
    return error;
}

static enum cap_error init(struct server *server, const struct env *env, struct config *config,
                           char *reason)
{
    *server = (struct server){
        .context =
            {
                .env = env,
                .phase = PHASE_STARTING,
                .drain = on_drain_asked,
                .stop = on_stop_asked,
                .reload = on_reload_asked,
                .owner = server,
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .config_lock = PTHREAD_MUTEX_INITIALIZER,
            },
        .reload =
            {
                .context = &server->context,
                .sockets = &server->sockets,
                .lock = PTHREAD_MUTEX_INITIALIZER,
            },
    };
    sockets_init(&server->sockets, &server->context);
    log_init(&server->context.log, env, 2, log_fd_is_journal(2));
    server->context.log.level = (enum log_level)config->log_level;
    server->context.started_us = env_real_us(env);
    server->context.started_monotonic_us = server->cleared_us = env_monotonic_us(env);
    size_t loops = config->threads > 0 ? (size_t)config->threads : cores();
    enum cap_error error = descriptors_check(loops, reason);
    if (error == CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "%s", no_threads);
        error = pool_open(&server->context.pool, env,
                          &(struct pool_size){config->workers, uv_available_parallelism(),
                                              config->max_peer_hashing});
    }
    if (error == CAP_OK) {
        error = make_loops(server, loops);
    }
    if (error == CAP_OK) {
        error = refusals_init(&server->context.refusals, (size_t)config->refusals);
    }
    if (error == CAP_OK) {
        error = events_init(&server->context.events, env);
    }
    if (error == CAP_OK) {
        error = ledger_new(&server->context.config, env, &server->context.ledger);
    }
    if (error == CAP_OK) {
        error = park_new(&server->context.config, server->context.ledger, &server->context.park);
    }
    if (error == CAP_OK) {
        error = quotas_new(&server->context.config, env, &server->context.quotas);
    }
    return error;
}

/* Opens everything, in an order in which a part finds what it uses. */
static enum cap_error open_all(struct server *server, struct cap_store *store, char *reason)
{
    struct context *context = &server->context;
    struct admin_group operators;
    enum cap_error error = reload_check_admin(&context->config, &operators, reason);
    if (error == CAP_OK) {
        error = statedir_open(context->config.state, &context->log, &context->statedir, reason);
    }
    if (error == CAP_OK && store == NULL) {
        error = opening_store(context, server->loop_count, reason);
    } else if (error == CAP_OK) {
        context->store = store;
    }
    if (error == CAP_OK) {
        error = start_parts(server, reason);
    }
    if (error == CAP_OK) {
        const struct bind_access access = reload_admin_access(&operators);
        start_handles(server);
        error = sockets_open(&server->sockets, &server->loops[0].hub, &access, reason);
    }
    if (error == CAP_OK) {
        error = start_http(server, reason);
    }
    if (error == CAP_OK) {
        error = start_admin(server, &operators, reason);
    }
    if (error == CAP_OK) {
        error = descriptors_own(server->serves.copies, &server->reload.own_descriptors, reason);
        server->reload.own_descriptors += server->upstream != NULL ? UPSTREAM_DESCRIPTORS : 0;
    }
    if (error == CAP_OK) {
        error = descriptors_fit(server->reload.own_descriptors, &context->config, &context->log,
                                reason);
    }
    if (error == CAP_OK) {
        error = sockets_write_addresses(&server->sockets, reason);
    }
    return error == CAP_OK ? start_threads(server, reason) : error;
}

/* Memory that is short under a limit of address space is what the store's map leaves of it. */
static void explain_no_memory(const struct server *server, enum cap_error error, char *reason)
{
    struct rlimit limit;
    struct cap_space space;
    if (error != CAP_E_NO_MEMORY || server->context.store == NULL ||
        getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        cap_store_space(server->context.store, &space) != CAP_OK) {
        return;
    }
    snprintf(reason, CONFIG_REASON_SIZE,
             "out of memory: of %" PRIu64
             " bytes of address space (ulimit -v) the store's map takes "
             "%" PRIu64 "; lower --map-size, or raise the limit",
             (uint64_t)limit.rlim_cur, space.map_bytes);
}

/* A cache that the configuration asks for and that yet keeps nothing is hard to notice otherwise.
 */
static void warn_of_body_cache(struct context *context)
{
    const struct config *config = &context->config;
    uint64_t needed = context->shard_count * (uint64_t)PIECES_SLAB;
    if (config->body_cache > 0 && (config->body_cache < needed || config->record_cache == 0)) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("body_cache_unused"),
                  log_number("body_cache", config->body_cache), log_number("needed", needed),
                  log_number("record_cache", config->record_cache),
                  log_text("message", "the body cache keeps nothing: it needs 4 MiB for each "
                                      "thread, and a record cache"));
    }
}

enum cap_error server_start(struct server *server, const struct env *env, struct config *config,
                            struct cap_store *store, char ret_reason[CONFIG_REASON_SIZE])
{
    struct context *context = &server->context;
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    enum cap_error error = init(server, env, config, ret_reason);
    context->config = *config;
    if (error == CAP_OK) {
        error = config_copy(config, &context->given);
    }
    if (error == CAP_OK) {
        error = open_all(server, store, ret_reason);
    }
    if (error != CAP_OK) {
        explain_no_memory(server, error, ret_reason);
        context->config = (struct config){0};
        context->store = store == NULL ? context->store : NULL;
        server_close(server);
        return error;
    }
    *config = (struct config){0};
    context->phase = PHASE_RUNNING;
    warn_of_body_cache(context);
    sockets_log(&server->sockets); /* only now: a start that fails has not listened */
    log_event(&context->log, LOG_LEVEL_INFO, log_name("started"),
              log_text("version", CAPSTORE_VERSION), log_text("hashing", cap_sha256_kernel_name()),
              log_text("io_uring", server->loops[0].hub.calls.ring != NULL ? "used" : "unused"),
              log_text("state", context->config.state));
    sd_notify("READY=1\nSTATUS=Serving");
    return CAP_OK;
}

/* --- Run ------------------------------------------------------------------------------------ */

int server_run(struct server *server)
{
    while (server->context.phase != PHASE_STOPPING) {
        uv_run(&main_shard(server)->loop, UV_RUN_DEFAULT);
    }
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("stopped"),
              log_number("status", (uint64_t)server->exit_code));
    return server->exit_code;
}

static void close_handles(struct server *server)
{
    if (!server->handles_open) {
        return;
    }
    server->handles_open = false;
    uv_close((uv_handle_t *)&server->tick, NULL);
    uv_close((uv_handle_t *)&server->watchdog, NULL);
    uv_close((uv_handle_t *)&server->wake, NULL);
    for (size_t i = 0; i < SERVER_SIGNALS; i++) {
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    }
}

/* The loops, and what they have in flight. */
static void close_loops(struct server *server)
{
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_join(&server->loops[i]);
    }
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_close(&server->loops[i]);
    }
    writer_stop(server->writer);
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_settle(&server->loops[i]);
    }
    close_handles(server);
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_free(&server->loops[i]);
    }
    free(server->loops);
}

/* With a job that does not end nothing can be released: the process ends, as in a crash. */
static void close_jobs(struct server *server)
{
    upkeep_jobs_cancel_all(server->jobs);
    if (!upkeep_jobs_join(server->jobs, UPKEEP_JOBS_GRACE_US)) {
        log_event(&server->context.log, LOG_LEVEL_ERROR, log_name("job_does_not_end"),
                  log_number("jobs", upkeep_jobs_count(server->jobs)));
        _exit(EXIT_FAILURE);
    }
}

void server_close(struct server *server)
{
    server->context.phase = PHASE_STOPPING;
    reload_close(&server->reload);
    sockets_close(&server->sockets);
    admin_stop(server->admin);
    upstream_stop(server->upstream); /* HTTP ends when nothing of it waits for the fetcher */
    http_stop(server->http);
    if (server->jobs != NULL) {
        close_jobs(server);
    }
    upstream_join(server->upstream); /* what it tells the loops comes before their end */
    close_loops(server);
    admin_free(server->admin);
    http_free(server->http);
    upstream_free(server->upstream);
    copies_free(server->serves.copies);
    pool_close(&server->context.pool);
    gc_free(server->gc);
    backups_free(server->backups);
    upkeep_jobs_free(server->jobs);
    scrub_free(server->scrub);
    writer_free(server->writer);
    cap_store_close(server->context.store);
    gone_close(&server->serves.gone);
    statedir_close(server->context.statedir);
    park_free(server->context.park);
    ledger_free(server->context.ledger);
    quotas_free(server->context.quotas);
    refusals_free(&server->context.refusals);
    events_free(&server->context.events);
    config_free(&server->context.config);
    config_free(&server->context.given);
}
