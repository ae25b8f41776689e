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
 *   - The store failed: nothing is acknowledged any more, the process ends with status 1, and
 *     whoever supervises it starts it again.
 */
#include "daemon/server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/admin/admin.h"
#include "daemon/admin/level.h"
#include "daemon/core/ledger.h"
#include "daemon/core/sd.h"
#include "daemon/core/statedir.h"
#include "daemon/net/accept.h"
#include "daemon/publish/writer.h"

#define TICK_MS         100
#define TEND_US         UINT64_C(60000000)
#define DESCRIPTORS_OWN 64 /* listeners, store, loop, admin connections */

/* A commit failed so that nobody knows what is on the disk. */
static void on_store_failed(void *ctx, enum cap_error error)
{
    struct server *server = ctx;
    log_event(&server->context.log, LOG_LEVEL_ERROR, log_name("commit_failed"), log_error(error));
    context_fault(&server->context, CAP_E_STORE_FAILED,
                  "a commit failed; the daemon ends so that the store is opened anew");
}

/* --- Ends
 * ----------------------------------------------------------------------------------------- */

static void close_listeners(struct server *server)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        listener_close(server->listeners[i]);
    }
    server->listener_count = 0;
}

/* Whether nothing is in flight any more. */
static bool is_quiet(const struct server *server)
{
    return server->hub.session_count == 0 && server->publish.upload_count == 0 &&
           writer_queued(server->publish.writer) == 0;
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
              log_number("uploads", server->publish.upload_count));
    sd_tell("STOPPING=1\nSTATUS=Finishing what is in flight");
    close_listeners(server);
    hub_drain(&server->hub);
}

void server_stop(struct server *server)
{
    if (server->context.phase == PHASE_STOPPING) {
        return;
    }
    server->context.phase = PHASE_STOPPING;
    uv_stop(&server->shard.loop);
}

/* A room asks for the end. */
static void on_drain_asked(void *owner)
{
    server_drain(owner);
}

static void on_stop_asked(void *owner, int exit_code)
{
    struct server *server = owner;
    server->exit_code = exit_code > server->exit_code ? exit_code : server->exit_code;
    server_stop(server);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *server = signal->data;
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("signal"),
              log_number("number", (uint64_t)number));
    if (number == SIGHUP) {
        return; /* nothing is read anew, and a habit or a closed terminal must not end a store */
    }
    if (server->context.phase == PHASE_RUNNING) {
        server_drain(server);
    } else {
        server_stop(server);
    }
}

/* --- Time
 * ----------------------------------------------------------------------------------------- */

static void on_tend(uv_work_t *work)
{
    struct server *server = work->data;
    (void)cap_store_clear_stale_readers(server->context.store);
}

static void on_tended(uv_work_t *work, int status)
{
    struct server *server = work->data;
    (void)status;
    server->tending = false;
    pool_work_done(&server->shard.pool);
}

/* Has a worker clear the store of dead readers once a minute. */
static void maybe_tend(struct server *server, uint64_t now)
{
    if (server->tending || now - server->tended_us < TEND_US) {
        return;
    }
    server->tending = true;
    server->tended_us = now;
    server->tend.data = server;
    pool_work(&server->shard.pool, &server->tend, on_tend, on_tended);
}

static void on_tick(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = env_monotonic_us(server->context.env);
    hub_tick(&server->hub);
    for (size_t i = 0; i < server->listener_count; i++) {
        listener_resume(server->listeners[i]);
    }
    maybe_tend(server, now);
    server->shard.stats.log_lines = server->context.log.lines;
    server->shard.stats.log_lost = server->context.log.lost;
    if (server->context.phase != PHASE_DRAINING) {
        return;
    }
    if (is_quiet(server)) {
        log_event(&server->context.log, LOG_LEVEL_INFO, log_name("drained"));
        server_stop(server);
    } else if (now >= server->drain_deadline_us) {
        log_event(&server->context.log, LOG_LEVEL_WARNING, log_name("drain_incomplete"),
                  log_number("connections", server->hub.session_count),
                  log_number("uploads", server->publish.upload_count));
        server_stop(server);
    }
}

/* The watchdog is fed by the loop, and only while the writer's thread ticks. */
static void on_watchdog(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t beat = writer_heartbeat(server->publish.writer);
    if (beat != server->watchdog_beat) {
        server->watchdog_beat = beat;
        sd_tell("WATCHDOG=1");
    }
}

/* --- Start
 * ---------------------------------------------------------------------------------------- */

/* Why a store does not open and what to do, where its errors mean more than elsewhere. */
static const char *store_problem(enum cap_error error)
{
    if (error == CAP_E_IO) {
        return "it cannot be read and written; it must belong to the user that runs capstored";
    }
    if (error == CAP_E_INVALID_ARGUMENT) {
        return "it must be on a local file system, and --map-size must suit this machine";
    }
    if (error == CAP_E_STORE_VERSION) {
        return "another version of capstored wrote it; run that one, or give another --state";
    }
    return cap_error_text(error);
}

static enum cap_error open_store(struct server *server, char *reason)
{
    uint8_t id[CAP_STORE_ID_SIZE];
    struct cap_store_lmdb_config config = {
        .dir = server->context.statedir->store_dir,
        .map_bytes = server->context.config.map_size,
    };
    snprintf(reason, CONFIG_REASON_SIZE, "no random bytes");
    enum cap_error error = server->context.env->random(server->context.env->ctx, id, sizeof(id));
    if (error != CAP_OK) {
        return error;
    }
    error = cap_store_lmdb_open(&config, id, &server->context.store);
    if (error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "cannot open the store in %.150s: %s", config.dir,
                 store_problem(error));
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
        .stats = &server->shard.stats,
        .failed = on_store_failed,
        .ctx = server,
    };
    snprintf(reason, CONFIG_REASON_SIZE, "out of memory");
    routes_fill(server->routes, &server->publish);
    server->publish = (struct publish){.hub = &server->hub, .shard = &server->shard};
    enum cap_error error = hub_open(&server->hub, &server->shard, server->routes);
    if (error != CAP_OK) {
        return error;
    }
    return writer_new(&server->shard.loop, &writer, &server->publish.writer);
}

static enum cap_error add_listener(struct server *server, struct bound *bound, const char *name,
                                   char *reason)
{
    if (server->listener_count == SERVER_LISTENERS_MAX) {
        snprintf(reason, CONFIG_REASON_SIZE, "more than %u sockets to listen on",
                 SERVER_LISTENERS_MAX);
        bound_release(bound, false);
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error error =
        listener_start(&server->hub, bound, &server->listeners[server->listener_count]);
    if (error != CAP_OK) {
        bound_release(bound, false);
        return error;
    }
    server->listener_count++;
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("listening"),
              log_text("address", name));
    return CAP_OK;
}

/* A second admin socket must not be served to clients. */
static enum cap_error take_admin(struct server *server, struct bound *bound, char *reason)
{
    if (server->admin_bound.fd >= 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "more than one inherited socket is named admin");
        bound_release(bound, false);
        return CAP_E_INVALID_ARGUMENT;
    }
    server->admin_bound = *bound;
    return CAP_OK;
}

/* Sockets that systemd passed: the one named "admin" is the admin socket, others serve clients. */
static enum cap_error take_inherited(struct server *server, char *reason)
{
    int count = sd_listen_count();
    for (int i = 0; i < count; i++) {
        char name[SD_NAME_SIZE];
        struct bound bound;
        sd_listen_name(i, name);
        enum cap_error error = bind_inherit(SD_LISTEN_FDS_START + i, &bound, reason);
        if (error != CAP_OK) {
            return error;
        }
        if (strcmp(name, "admin") == 0) {
            error = take_admin(server, &bound, reason);
            if (error != CAP_OK) {
                return error;
            }
            continue;
        }
        error = add_listener(server, &bound, name, reason);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

static enum cap_error open_listeners(struct server *server, char *reason)
{
    const struct bind_access access = {
        .mode = server->context.config.listen_mode,
        .group = BIND_OWN_GROUP,
    };
    enum cap_error error = take_inherited(server, reason);
    for (size_t i = 0; error == CAP_OK && i < server->context.config.listen_count; i++) {
        struct bound bound;
        error = bind_address(server->context.config.listen[i], &access, &bound, reason);
        if (error == CAP_OK) {
            error = add_listener(server, &bound, server->context.config.listen[i], reason);
        }
    }
    if (error == CAP_OK && server->listener_count == 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "listen: an address must be given; see --help");
        error = CAP_E_INVALID_ARGUMENT;
    }
    return error;
}

/* Only who may operate can connect: the operators' group, if there is one, and ourselves. */
static enum cap_error bind_admin(struct server *server, const struct admin_group *operators,
                                 char *reason)
{
    const struct bind_access access = {
        .mode = operators->exists ? 0660 : 0600,
        .group = operators->exists ? operators->gid : BIND_OWN_GROUP,
    };
    if (strncmp(server->context.config.admin, "unix:", 5) != 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "admin: must be unix:PATH");
        return CAP_E_INVALID_ARGUMENT;
    }
    return bind_address(server->context.config.admin, &access, &server->admin_bound, reason);
}

/* The admin socket opens last: who reaches it finds a daemon that serves. */
static enum cap_error open_admin(struct server *server, char *reason)
{
    struct admin_group operators;
    enum cap_error error = admin_group_find(server->context.config.admin_group, &operators);
    if (error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "admin-group: there is no group %.120s",
                 server->context.config.admin_group);
        return error;
    }
    if (server->admin_bound.fd < 0 && server->context.config.admin != NULL) {
        error = bind_admin(server, &operators, reason);
    }
    if (error != CAP_OK || server->admin_bound.fd < 0) {
        return error;
    }
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("admin_listening"),
              log_text("address",
                       server->admin_bound.path == NULL ? "admin" : server->context.config.admin));
    snprintf(reason, CONFIG_REASON_SIZE, "cannot start the admin socket");
    const struct admin_rooms rooms = {
        .context = &server->context,
        .shard = &server->shard,
        .hub = &server->hub,
        .publish = &server->publish,
    };
    error = admin_start(&rooms, server->admin_bound.fd, &operators, &server->admin);
    if (error == CAP_OK) {
        server->admin_bound.fd = -1; /* the admin socket's now; the path stays ours */
    }
    return error;
}

static uint64_t at_most(uint64_t value, uint64_t most)
{
    if (most == 0) {
        return 1;
    }
    return value < most ? value : most;
}

/*
 * Keeps the limits of clients to what the process may have: past it nobody could be told that there
 * is no room, and clients could lock the operators out. An upload holds its spool file.
 */
static void fit_descriptors(struct server *server)
{
    struct config *config = &server->context.config;
    struct rlimit limit;
    uint64_t wanted = config->max_connections + config->max_uploads + DESCRIPTORS_OWN;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return;
    }
    uint64_t room = limit.rlim_cur > DESCRIPTORS_OWN ? limit.rlim_cur - DESCRIPTORS_OWN : 0;
    config->max_uploads = at_most(config->max_uploads, room / 4);
    config->max_connections = at_most(config->max_connections, room - room / 4);
    log_event(&server->context.log, LOG_LEVEL_WARNING, log_name("few_descriptors"),
              log_number("limit", limit.rlim_cur), log_number("wanted", wanted),
              log_number("max_connections", config->max_connections),
              log_number("max_uploads", config->max_uploads),
              log_text("hint", "raise LimitNOFILE, or lower max-connections"));
}

static void start_handles(struct server *server)
{
    static const int numbers[SERVER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t watchdog_ms = sd_watchdog_us() / 2000;
    uv_timer_init(&server->shard.loop, &server->tick);
    uv_timer_init(&server->shard.loop, &server->watchdog);
    server->tick.data = server->watchdog.data = server;
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

static enum cap_error init(struct server *server, const struct env *env, struct config *config)
{
    *server = (struct server){
        .context =
            {
                .env = env,
                .phase = PHASE_STARTING,
                .drain = on_drain_asked,
                .stop = on_stop_asked,
                .owner = server,
            },
        .shard = {.context = &server->context},
        .admin_bound = {.fd = -1},
    };
    log_init(&server->context.log, env, 2, log_fd_is_journal(2));
    server->context.log.level = (enum log_level)config->log_level;
    server->context.started_us = env_real_us(env);
    server->context.started_monotonic_us = server->tended_us = env_monotonic_us(env);
    if (uv_loop_init(&server->shard.loop) != 0) {
        return CAP_E_NO_MEMORY;
    }
    server->loop_open = true;
    enum cap_error error = pool_init(&server->shard.pool, &server->shard.loop, env,
                                     &server->shard.stats, config->workers);
    if (error == CAP_OK) {
        error = refusals_init(&server->context.refusals, (size_t)config->refusals);
    }
    if (error == CAP_OK) {
        error = ledger_new(&server->context.config, &server->context.ledger);
    }
    return error;
}

enum cap_error server_start(struct server *server, const struct env *env, struct config *config,
                            struct cap_store *store, char ret_reason[CONFIG_REASON_SIZE])
{
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    enum cap_error error = init(server, env, config);
    if (error == CAP_OK) {
        server->context.config = *config;
        error = statedir_open(config->state, &server->context.statedir, ret_reason);
    }
    if (error == CAP_OK && store == NULL) {
        error = open_store(server, ret_reason);
    } else if (error == CAP_OK) {
        server->context.store = store;
    }
    if (error == CAP_OK) {
        start_handles(server);
        error = start_parts(server, ret_reason);
    }
    if (error == CAP_OK) {
        error = open_listeners(server, ret_reason);
    }
    if (error == CAP_OK) {
        error = open_admin(server, ret_reason);
    }
    if (error != CAP_OK) {
        server->context.config = (struct config){0};
        server->context.store = store == NULL ? server->context.store : NULL;
        server_close(server);
        return error;
    }
    *config = (struct config){0};
    server->context.phase = PHASE_RUNNING;
    fit_descriptors(server);
    log_event(&server->context.log, LOG_LEVEL_INFO, log_name("started"),
              log_text("version", CAPSTORE_VERSION),
              log_text("state", server->context.config.state));
    sd_tell("READY=1\nSTATUS=Serving");
    return CAP_OK;
}

/* --- Run
 * ------------------------------------------------------------------------------------------ */

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
    for (size_t i = 0; i < SERVER_SIGNALS; i++) {
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    }
}

void server_close(struct server *server)
{
    server->context.phase = PHASE_STOPPING;
    if (server->loop_open) {
        close_listeners(server);
        admin_stop(server->admin);
        hub_close(&server->hub);
        writer_stop(server->publish.writer);
        close_handles(server);
        pool_close(&server->shard.pool);
        /* Workers come back, handles close, what they held is freed. */
        while (uv_run(&server->shard.loop, UV_RUN_DEFAULT) != 0) {
        }
        admin_free(server->admin);
        (void)uv_loop_close(&server->shard.loop);
    }
    pool_free(&server->shard.pool);
    bound_release(&server->admin_bound, false);
    writer_free(server->publish.writer);
    hub_free(&server->hub);
    cap_store_close(server->context.store);
    statedir_close(server->context.statedir);
    ledger_free(server->context.ledger);
    refusals_free(&server->context.refusals);
    config_free(&server->context.config);
}
