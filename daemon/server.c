/*
 * The daemon as a whole.
 *
 * Happy path. Start: state directory and its lock, store, threads, sockets, admin socket, READY.
 * SIGTERM: listeners close, sessions finish what is in flight, and when the last one is gone the
 * loop ends; the writer has committed by then.
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
#include <string.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/admin/admin.h"
#include "daemon/admin/level.h"
#include "daemon/admin/limits.h"
#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/core/oserror.h"
#include "daemon/core/sd.h"
#include "daemon/core/statedir.h"
#include "daemon/publish/writer.h"

#define TICK_MS          100                /* the bounds of time that it enforces are seconds */
#define STALE_READERS_US UINT64_C(60000000) /* a reader that died holds back the reuse of pages */
#define DESCRIPTORS_MIN  40 /* streams, loop, store, lock: about 20; sockets; admin connections */
#define DESCRIPTORS_NEW  4  /* opened for a moment: a spool file, a socket that is turned away */

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

static uint64_t uploads(const struct server *server)
{
    struct ledger_figures figures;
    ledger_figures(server->context.ledger, &figures);
    return figures.uploads;
}

/* Whether nothing is in flight any more. */
static bool is_quiet(const struct server *server)
{
    return server->hub.session_count == 0 && uploads(server) == 0 &&
           writer_queued(server->writer) == 0;
}

void server_drain(struct server *server)
{
    if (server->context.phase != PHASE_RUNNING) {
        return;
    }
    server->context.phase = PHASE_DRAINING;
    server->drain_deadline_us =
        env_monotonic_us(server->context.env) + server->context.config.drain_ms * 1000;
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("draining"),
              log_number("connections", server->hub.session_count),
              log_number("uploads", uploads(server)));
    sd_notify("STOPPING=1\nSTATUS=Finishing what is in flight");
    sockets_close_clients(&server->sockets);
    hub_drain(&server->hub);
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
        uv_stop(&server->shard.loop);
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

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *server = signal->data;
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("signal"),
              log_number("number", (uint64_t)number));
    if (number == SIGHUP) {
        return; /* there is nothing to reload, and a closed terminal must not end a store */
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
    pool_submit(&server->shard.pool, &server->clear_readers);
}

static void on_tick(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = env_monotonic_us(server->context.env);
    hub_tick(&server->hub);
    admin_tick(server->admin);
    sockets_tick(&server->sockets);
    maybe_clear_readers(server, now);
    publish_tick(&server->publish);
    server->shard.stats.log_lines = server->context.log.lines;
    server->shard.stats.log_lost = server->context.log.lost;
    shard_publish_stats(&server->shard);
    if (server->context.phase != PHASE_DRAINING) {
        return;
    }
    if (is_quiet(server)) {
        log_event(&server->context.log, LOG_LEVEL_INFO, log_name("drained"));
        server_stop(server);
    } else if (now >= server->drain_deadline_us) {
        log_event(&server->context.log, LOG_LEVEL_WARNING, log_name("drain_incomplete"),
                  log_number("connections", server->hub.session_count),
                  log_number("uploads", uploads(server)));
        server_stop(server);
    }
}

/* The watchdog is fed by the loop, and only while the writer's thread ticks. */
static void on_watchdog(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t beat = writer_heartbeat(server->writer);
    if (beat != server->watchdog_beat) {
        server->watchdog_beat = beat;
        sd_notify("WATCHDOG=1");
    }
}

/* --- Start ---------------------------------------------------------------------------------- */

/* Why a store does not open and what to do, where its errors mean more than elsewhere. */
static const char *store_problem(const struct server *server, enum cap_error error,
                                 char full[ROOM_FULL_SIZE])
{
    uint64_t disk_free = 0;
    const struct env *env = server->context.env;
    if (error == CAP_E_DISK_FULL) {
        (void)env->disk_free(env->ctx, server->context.statedir->store_dir, &disk_free);
        return room_full_text(disk_free, full);
    }
    if (error == CAP_E_IO) {
        return "input or output error; its files must be readable and writable for the user that "
               "runs capstored, and the disk must be sound";
    }
    if (error == CAP_E_INVALID_ARGUMENT) {
        return "it must be on a local file system, and --map-size must suit this machine";
    }
    if (error == CAP_E_NO_MEMORY) {
        return "not enough address space; lower --map-size, or raise the limit (ulimit -v)";
    }
    if (error == CAP_E_STORE_VERSION) {
        return "another version of capstored wrote it; run that one, or give another --state";
    }
    return cap_error_text(error);
}

static enum cap_error open_store(struct server *server, char *reason)
{
    uint8_t id[CAP_STORE_ID_SIZE];
    bool unsynced = false;
    struct cap_store_lmdb_config config = {
        .dir = server->context.statedir->store_dir,
        .map_bytes = server->context.config.map_size,
        .ret_unsynced = &unsynced,
    };
    snprintf(reason, CONFIG_REASON_SIZE, "no random bytes");
    enum cap_error error = server->context.env->random(server->context.env->ctx, id, sizeof(id));
    if (error != CAP_OK) {
        return error;
    }
    error = cap_store_lmdb_open(&config, id, &server->context.store);
    if (error != CAP_OK) {
        char full[ROOM_FULL_SIZE];
        snprintf(reason, CONFIG_REASON_SIZE, "cannot open the store in %.100s: %s", config.dir,
                 store_problem(server, error, full));
    }
    if (unsynced) {
        log_event(&server->context.log, LOG_LEVEL_WARNING, log_name("directory_not_synced"),
                  log_text("path", config.dir),
                  log_text("message", "the file system cannot sync a directory; a new store may "
                                      "be missing after a power failure now"));
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
    snprintf(reason, CONFIG_REASON_SIZE,
             "out of memory, or too many threads (ulimit -u, TasksMax=)");
    routes_fill(server->routes, &server->publish, &server->serve);
    enum cap_error error = hub_open(&server->hub, &server->shard, server->routes);
    if (error == CAP_OK) {
        error = writer_new(&writer, &server->writer);
    }
    if (error == CAP_OK) {
        error = publish_open(&server->publish, &server->hub, server->writer, &server->room);
    }
    if (error == CAP_OK) {
        error = serve_open(&server->serve, &server->shard);
    }
    if (error != CAP_OK) {
        return error;
    }
    return publish_look(&server->publish);
}

/* The socket lets in the operators' group, if there is one, and our own user. */
static struct bind_access admin_access(const struct admin_group *operators)
{
    return (struct bind_access){
        .mode = operators->exists ? 0660 : 0600,
        .group = operators->exists ? operators->gid : BIND_OWN_GROUP,
    };
}

/* What is wrong with the admin socket's options is said before anything is opened. */
static enum cap_error check_admin(const struct server *server, struct admin_group *ret_operators,
                                  char *reason)
{
    const struct config *config = &server->context.config;
    enum cap_error error = admin_group_find(config->admin_group, ret_operators);
    if (error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "admin-group: no group is called %.120s",
                 config->admin_group);
    } else if (config->admin != NULL) {
        const struct bind_access access = admin_access(ret_operators);
        error = sockets_check_admin(config->admin, &access, reason);
    }
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
    const struct admin_rooms rooms = {
        .context = &server->context,
        .shard = &server->shard,
        .hub = &server->hub,
        .publish = &server->publish,
        .serve = &server->serve,
    };
    enum cap_error error = admin_start(&rooms, bound->fd, operators, &server->admin);
    if (error == CAP_OK) {
        bound->fd = -1; /* the admin socket's now; the path stays ours */
    }
    return error;
}

/* How many descriptors the process may have, and whether that is enough to start at all. */
static enum cap_error check_descriptors(char *reason)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < DESCRIPTORS_MIN) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "too many open files: the limit is %" PRIu64 " file descriptors, and at least %d "
                 "are needed; raise it (ulimit -n, LimitNOFILE=)",
                 (uint64_t)limit.rlim_cur, DESCRIPTORS_MIN);
        return CAP_E_IO;
    }
    return CAP_OK;
}

/*
 * Lowers the limits of clients to what the process may open: past it nobody could be told that
 * there are too many, and clients could lock the operators out. An upload holds its spool file.
 */
static enum cap_error fit_descriptors(struct server *server, char *reason)
{
    struct config *config = &server->context.config;
    struct rlimit limit;
    int next = dup(STDERR_FILENO); /* the lowest free number: about as many are open */
    if (next < 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "cannot open more files: %s", strerror(errno));
        return error_of_errno(errno);
    }
    close(next);
    uint64_t own = (uint64_t)next + ADMIN_CONNECTIONS_MAX + DESCRIPTORS_NEW;
    uint64_t needed = config->max_connections + config->max_uploads + own;
    if (limit.rlim_cur >= needed) {
        return CAP_OK;
    }
    uint64_t room = limit.rlim_cur > own ? limit.rlim_cur - own : 0;
    if (room < 2) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "too many open files: the limit of %" PRIu64 " file descriptors leaves none for "
                 "clients; raise it to %" PRIu64 " (ulimit -n, LimitNOFILE=)",
                 (uint64_t)limit.rlim_cur, needed);
        return CAP_E_IO;
    }
    uint64_t uploads = room / 4 > 0 ? room / 4 : 1;
    config->max_uploads = MIN(config->max_uploads, uploads);
    config->max_connections = MIN(config->max_connections, room - uploads);
    log_event(&server->context.log, LOG_LEVEL_WARNING, log_name("too_few_file_descriptors"),
              log_number("limit", limit.rlim_cur), log_number("needed", needed),
              log_number("max_connections", config->max_connections),
              log_number("max_uploads", config->max_uploads),
              log_text("message", "fewer clients are served than configured; raise the limit "
                                  "(ulimit -n, LimitNOFILE=), or lower max-connections"));
    return CAP_OK;
}

/* Timers and signals; after the parts that they use. */
static void start_handles(struct server *server)
{
    static const int numbers[SERVER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t watchdog_ms = sd_watchdog_us() / 2000;
    uv_timer_init(&server->shard.loop, &server->tick);
    uv_timer_init(&server->shard.loop, &server->watchdog);
    uv_async_init(&server->shard.loop, &server->wake, on_wake);
    server->tick.data = server->watchdog.data = server->wake.data = server;
    uv_timer_start(&server->tick, on_tick, TICK_MS, TICK_MS);
    if (watchdog_ms > 0) {
        uv_timer_start(&server->watchdog, on_watchdog, 0, watchdog_ms);
    }
    for (size_t i = 0; i < SERVER_SIGNALS; i++) {
        uv_signal_init(&server->shard.loop, &server->signals[i]);
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], on_signal, numbers[i]);
    }
    server->handles_open = true;
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
                .owner = server,
                .shards = {&server->shard},
                .shard_count = 1,
                .lock = PTHREAD_MUTEX_INITIALIZER,
            },
        .shard = {.context = &server->context},
    };
    sockets_init(&server->sockets, &server->context, &server->hub);
    log_init(&server->context.log, env, 2, log_fd_is_journal(2));
    server->context.log.level = (enum log_level)config->log_level;
    server->context.started_us = env_real_us(env);
    server->context.started_monotonic_us = server->cleared_us = env_monotonic_us(env);
    enum cap_error error = check_descriptors(reason);
    if (error != CAP_OK) {
        return error;
    }
    if (uv_loop_init(&server->shard.loop) != 0) {
        return CAP_E_NO_MEMORY;
    }
    server->loop_open = true;
    lag_open(&server->lag, &server->shard.loop, env, &server->shard.stats);
    error = pool_open(&server->context.pool, env, config->workers, uv_available_parallelism());
    if (error == CAP_OK) {
        error = pool_outlet_open(&server->shard.pool, &server->context.pool, &server->shard.loop,
                                 &server->shard.stats);
    }
    if (error == CAP_OK) {
        error = refusals_init(&server->context.refusals, (size_t)config->refusals);
    }
    if (error == CAP_OK) {
        error = ledger_new(&server->context.config, env, &server->context.ledger);
    }
    return error;
}

/* Opens everything, in an order in which a part finds what it uses. */
static enum cap_error open_all(struct server *server, struct cap_store *store, char *reason)
{
    struct context *context = &server->context;
    struct admin_group operators;
    enum cap_error error = check_admin(server, &operators, reason);
    if (error == CAP_OK) {
        error = statedir_open(context->config.state, &context->log, &context->statedir, reason);
    }
    if (error == CAP_OK && store == NULL) {
        error = open_store(server, reason);
    } else if (error == CAP_OK) {
        context->store = store;
    }
    if (error == CAP_OK) {
        error = start_parts(server, reason);
    }
    if (error == CAP_OK) {
        const struct bind_access access = admin_access(&operators);
        start_handles(server);
        error = sockets_open(&server->sockets, &access, reason);
    }
    if (error == CAP_OK) {
        error = start_admin(server, &operators, reason);
    }
    if (error == CAP_OK) {
        error = fit_descriptors(server, reason);
    }
    return error == CAP_OK ? sockets_write_addresses(&server->sockets, reason) : error;
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

enum cap_error server_start(struct server *server, const struct env *env, struct config *config,
                            struct cap_store *store, char ret_reason[CONFIG_REASON_SIZE])
{
    struct context *context = &server->context;
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    enum cap_error error = init(server, env, config, ret_reason);
    context->config = *config;
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
    sockets_log(&server->sockets); /* only now: a start that fails has not listened */
    log_event(&context->log, LOG_LEVEL_INFO, log_name("started"),
              log_text("version", CAPSTORE_VERSION), log_text("state", context->config.state));
    sd_notify("READY=1\nSTATUS=Serving");
    return CAP_OK;
}

/* --- Run ------------------------------------------------------------------------------------ */

int server_run(struct server *server)
{
    while (server->context.phase != PHASE_STOPPING) {
        uv_run(&server->shard.loop, UV_RUN_DEFAULT);
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

void server_close(struct server *server)
{
    server->context.phase = PHASE_STOPPING;
    sockets_close(&server->sockets);
    if (server->loop_open) {
        admin_stop(server->admin);
        hub_close(&server->hub);
        serve_close(&server->serve);
        lag_close(&server->lag);
        writer_stop(server->writer);
        publish_close(&server->publish);
        close_handles(server);
        pool_outlet_close(&server->shard.pool);
        /* Workers come back, handles close, what they held is freed. */
        while (uv_run(&server->shard.loop, UV_RUN_DEFAULT) != 0) {
        }
        admin_free(server->admin);
        (void)uv_loop_close(&server->shard.loop);
    }
    pool_close(&server->context.pool);
    writer_free(server->writer);
    hub_free(&server->hub);
    cap_store_close(server->context.store);
    statedir_close(server->context.statedir);
    ledger_free(server->context.ledger);
    refusals_free(&server->context.refusals);
    config_free(&server->context.config);
}
