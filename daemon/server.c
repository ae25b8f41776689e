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
#include "daemon/hashing.h"
#include "daemon/ledger.h"
#include "daemon/listener.h"
#include "daemon/sd.h"
#include "daemon/session.h"
#include "daemon/state.h"
#include "daemon/turn.h"
#include "daemon/writer.h"

#define TICK_MS           100
#define TEND_US           UINT64_C(60000000)
#define REFUSAL_LINES_MAX 20 /* log lines for refusals in one second */
#define DESCRIPTORS_OWN   64 /* listeners, store, loop, admin connections */

/* --- Refusals and faults
 * -------------------------------------------------------------------------- */

/* Whether a refusal may have a log line in this second; tells how many had none before. */
static bool may_log_refusal(struct server *server, uint64_t now_us)
{
    uint64_t second = now_us / 1000000;
    if (second != server->refusal_second) {
        if (server->refusal_lines > REFUSAL_LINES_MAX) {
            log_event(&server->log, LOG_LEVEL_WARNING, log_name("refusals_not_logged"),
                      log_number("count", server->refusal_lines - REFUSAL_LINES_MAX));
        }
        server->refusal_second = second;
        server->refusal_lines = 0;
    }
    return ++server->refusal_lines <= REFUSAL_LINES_MAX;
}

void server_refused(struct server *server, const struct session *session, const struct peer *peer,
                    const char *what, enum cap_error error, const char *message)
{
    struct refusal refusal = {
        .time_us = env_real_us(server->env),
        .session = session == NULL ? 0 : session->number,
        .error = error,
    };
    snprintf(refusal.peer, sizeof(refusal.peer), "%s", peer->text);
    snprintf(refusal.what, sizeof(refusal.what), "%s", what);
    snprintf(refusal.message, sizeof(refusal.message), "%s", message);
    refusals_add(&server->refusals, &refusal);
    server->stats.refusals++;
    server->stats.errors[(unsigned)-error % STATS_ERROR_CODES]++;
    if (may_log_refusal(server, refusal.time_us)) {
        log_event(&server->log, LOG_LEVEL_INFO, log_name("refused"),
                  log_number("session", refusal.session), log_text("peer", peer->text),
                  log_text("what", what), log_error(error), log_text("message", message));
    }
}

void server_fault(struct server *server, enum cap_error error, const char *message)
{
    server->last_fault = (struct server_fault){.time_us = env_real_us(server->env), .error = error};
    snprintf(server->last_fault.message, sizeof(server->last_fault.message), "%s", message);
    log_event(&server->log, LOG_LEVEL_ERROR, log_name("fault"), log_error(error),
              log_text("message", message));
    if (error == CAP_E_STORE_FAILED) {
        server->exit_code = 1;
        server_stop(server);
    }
}

/* A commit failed so that nobody knows what is on the disk. */
static void on_store_failed(void *ctx, enum cap_error error)
{
    struct server *server = ctx;
    log_event(&server->log, LOG_LEVEL_ERROR, log_name("commit_failed"), log_error(error));
    server_fault(server, CAP_E_STORE_FAILED,
                 "a commit failed; the daemon ends so that the store is opened anew");
}

/* --- Figures
 * -------------------------------------------------------------------------------------- */

void server_gauges(struct server *server, struct gauges *ret_gauges)
{
    struct ledger_figures held = {0};
    ledger_figures(server->ledger, &held);
    struct gauges gauges = {
        .uptime_ms = (env_monotonic_us(server->env) - server->started_monotonic_us) / 1000,
        .connections = server->session_count,
        .uploads = server->upload_count,
        .spool_bytes = held.spool,
        .memory_bytes = held.memory,
        .buffer_bytes = held.buffers,
        .jobs = hashing_count(server->hashing),
        .writer_queue = writer_queued(server->writer),
        .draining = server->phase == SERVER_DRAINING ? 1 : 0,
        .max_connections = server->config.max_connections,
        .max_uploads = server->config.max_uploads,
        .max_spool = server->config.max_spool,
        .max_memory = server->config.max_memory,
    };
    for (const struct session *at = server->sessions; at != NULL; at = at->next) {
        gauges.requests += at->request_count;
    }
    *ret_gauges = gauges;
}

size_t server_clients(struct server *server, uint64_t after, struct client *ret_clients, size_t max,
                      bool *ret_more)
{
    struct session *at = server->sessions;
    size_t count = 0;
    while (at != NULL && at->next != NULL) {
        at = at->next;
    }
    for (; at != NULL && count < max; at = at->prev) {
        if (at->number > after) {
            session_describe(at, &ret_clients[count++]);
        }
    }
    *ret_more = at != NULL;
    return count;
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
    return server->session_count == 0 && server->upload_count == 0 &&
           writer_queued(server->writer) == 0;
}

void server_drain(struct server *server)
{
    if (server->phase != SERVER_RUNNING) {
        return;
    }
    server->phase = SERVER_DRAINING;
    server->drain_deadline_us = env_monotonic_us(server->env) + server->config.drain_ms * 1000;
    log_event(&server->log, LOG_LEVEL_INFO, log_name("draining"),
              log_number("connections", server->session_count),
              log_number("uploads", server->upload_count));
    sd_tell("STOPPING=1\nSTATUS=Finishing what is in flight");
    close_listeners(server);
    struct session *next;
    for (struct session *session = server->sessions; session != NULL; session = next) {
        next = session->next;
        session_update(session);
    }
}

void server_stop(struct server *server)
{
    if (server->phase == SERVER_STOPPING) {
        return;
    }
    server->phase = SERVER_STOPPING;
    uv_stop(&server->loop);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *server = signal->data;
    log_event(&server->log, LOG_LEVEL_INFO, log_name("signal"),
              log_number("number", (uint64_t)number));
    if (number == SIGHUP) {
        return; /* nothing is read anew, and a habit or a closed terminal must not end a store */
    }
    if (server->phase == SERVER_RUNNING) {
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
    (void)cap_store_tend(server->store);
}

static void on_tended(uv_work_t *work, int status)
{
    struct server *server = work->data;
    (void)status;
    server->tending = false;
    server_work_done(server);
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
    server_work(server, &server->tend, on_tend, on_tended);
}

static void on_tick(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = env_monotonic_us(server->env);
    struct session *next;
    for (struct session *session = server->sessions; session != NULL; session = next) {
        next = session->next;
        session_tick(session, now);
    }
    for (size_t i = 0; i < server->listener_count; i++) {
        listener_resume(server->listeners[i]);
    }
    maybe_tend(server, now);
    server->stats.log_lines = server->log.lines;
    server->stats.log_lost = server->log.lost;
    if (server->phase != SERVER_DRAINING) {
        return;
    }
    if (is_quiet(server)) {
        log_event(&server->log, LOG_LEVEL_INFO, log_name("drained"));
        server_stop(server);
    } else if (now >= server->drain_deadline_us) {
        log_event(&server->log, LOG_LEVEL_WARNING, log_name("drain_incomplete"),
                  log_number("connections", server->session_count),
                  log_number("uploads", server->upload_count));
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
        sd_tell("WATCHDOG=1");
    }
}

static void on_turn(uv_idle_t *idle)
{
    struct server *server = idle->data;
    if (!sessions_turn(server)) {
        (void)uv_idle_stop(&server->turn);
    }
}

static void on_round(uv_prepare_t *round)
{
    turn_round_over(round->data);
}

void server_turn_soon(struct server *server)
{
    (void)uv_idle_start(&server->turn, on_turn);
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
        .dir = server->state->store_dir,
        .map_bytes = server->config.map_size,
    };
    snprintf(reason, CONFIG_REASON_SIZE, "no random bytes");
    enum cap_error error = server->env->random(server->env->ctx, id, sizeof(id));
    if (error != CAP_OK) {
        return error;
    }
    error = cap_store_lmdb_open(&config, id, &server->store);
    if (error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "cannot open the store in %.150s: %s", config.dir,
                 store_problem(error));
    }
    return error;
}

static enum cap_error start_parts(struct server *server, char *reason)
{
    const struct writer_config writer = {
        .store = server->store,
        .ledger = server->ledger,
        .env = server->env,
        .stats = &server->stats,
        .failed = on_store_failed,
        .ctx = server,
    };
    snprintf(reason, CONFIG_REASON_SIZE, "out of memory");
    server->input = malloc(SESSION_INPUT);
    if (server->input == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = hashing_new(server, &server->hashing);
    return error == CAP_OK ? writer_new(&server->loop, &writer, &server->writer) : error;
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
        listener_start(server, bound, &server->listeners[server->listener_count]);
    if (error != CAP_OK) {
        bound_release(bound, false);
        return error;
    }
    server->listener_count++;
    log_event(&server->log, LOG_LEVEL_INFO, log_name("listening"), log_text("address", name));
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
        enum cap_error error = listener_inherit(SD_LISTEN_FDS_START + i, &bound, reason);
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
    const struct listener_access access = {
        .mode = server->config.listen_mode,
        .group = LISTENER_OWN_GROUP,
    };
    enum cap_error error = take_inherited(server, reason);
    for (size_t i = 0; error == CAP_OK && i < server->config.listen_count; i++) {
        struct bound bound;
        error = listener_bind(server->config.listen[i], &access, &bound, reason);
        if (error == CAP_OK) {
            error = add_listener(server, &bound, server->config.listen[i], reason);
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
    const struct listener_access access = {
        .mode = operators->exists ? 0660 : 0600,
        .group = operators->exists ? operators->gid : LISTENER_OWN_GROUP,
    };
    if (strncmp(server->config.admin, "unix:", 5) != 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "admin: must be unix:PATH");
        return CAP_E_INVALID_ARGUMENT;
    }
    return listener_bind(server->config.admin, &access, &server->admin_bound, reason);
}

/* The admin socket opens last: who reaches it finds a daemon that serves. */
static enum cap_error open_admin(struct server *server, char *reason)
{
    struct admin_group operators;
    enum cap_error error = admin_group_find(server->config.admin_group, &operators);
    if (error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "admin-group: there is no group %.120s",
                 server->config.admin_group);
        return error;
    }
    if (server->admin_bound.fd < 0 && server->config.admin != NULL) {
        error = bind_admin(server, &operators, reason);
    }
    if (error != CAP_OK || server->admin_bound.fd < 0) {
        return error;
    }
    log_event(
        &server->log, LOG_LEVEL_INFO, log_name("admin_listening"),
        log_text("address", server->admin_bound.path == NULL ? "admin" : server->config.admin));
    snprintf(reason, CONFIG_REASON_SIZE, "cannot start the admin socket");
    error = admin_start(server, server->admin_bound.fd, &operators, &server->admin);
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
    struct config *config = &server->config;
    struct rlimit limit;
    uint64_t wanted = config->max_connections + config->max_uploads + DESCRIPTORS_OWN;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return;
    }
    uint64_t room = limit.rlim_cur > DESCRIPTORS_OWN ? limit.rlim_cur - DESCRIPTORS_OWN : 0;
    config->max_uploads = at_most(config->max_uploads, room / 4);
    config->max_connections = at_most(config->max_connections, room - room / 4);
    log_event(&server->log, LOG_LEVEL_WARNING, log_name("few_descriptors"),
              log_number("limit", limit.rlim_cur), log_number("wanted", wanted),
              log_number("max_connections", config->max_connections),
              log_number("max_uploads", config->max_uploads),
              log_text("hint", "raise LimitNOFILE, or lower max-connections"));
}

static void start_handles(struct server *server)
{
    static const int numbers[SERVER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t watchdog_ms = sd_watchdog_us() / 2000;
    uv_timer_init(&server->loop, &server->tick);
    uv_timer_init(&server->loop, &server->watchdog);
    uv_idle_init(&server->loop, &server->turn);
    uv_prepare_init(&server->loop, &server->round);
    server->tick.data = server->watchdog.data = server->turn.data = server->round.data = server;
    uv_prepare_start(&server->round, on_round);
    uv_timer_start(&server->tick, on_tick, TICK_MS, TICK_MS);
    if (watchdog_ms > 0) {
        uv_timer_start(&server->watchdog, on_watchdog, 0, watchdog_ms);
    }
    for (size_t i = 0; i < SERVER_SIGNALS; i++) {
        uv_signal_init(&server->loop, &server->signals[i]);
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], on_signal, numbers[i]);
    }
    server->handles_open = true;
}

static enum cap_error init(struct server *server, const struct env *env, struct config *config)
{
    *server = (struct server){.env = env, .phase = SERVER_STARTING, .admin_bound = {.fd = -1}};
    log_init(&server->log, env, 2, log_fd_is_journal(2));
    server->log.level = (enum log_level)config->log_level;
    server->started_us = env_real_us(env);
    server->started_monotonic_us = server->tended_us = env_monotonic_us(env);
    if (uv_loop_init(&server->loop) != 0) {
        return CAP_E_NO_MEMORY;
    }
    server->loop_open = true;
    enum cap_error error = refusals_init(&server->refusals, (size_t)config->refusals);
    if (error == CAP_OK) {
        error = ledger_new(&server->config, &server->ledger);
    }
    return error;
}

enum cap_error server_start(struct server *server, const struct env *env, struct config *config,
                            struct cap_store *store, char ret_reason[CONFIG_REASON_SIZE])
{
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    enum cap_error error = init(server, env, config);
    if (error == CAP_OK) {
        server->config = *config;
        error = state_open(config->state, &server->state, ret_reason);
    }
    if (error == CAP_OK && store == NULL) {
        error = open_store(server, ret_reason);
    } else if (error == CAP_OK) {
        server->store = store;
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
        server->config = (struct config){0};
        server->store = store == NULL ? server->store : NULL;
        server_close(server);
        return error;
    }
    *config = (struct config){0};
    server->phase = SERVER_RUNNING;
    fit_descriptors(server);
    log_event(&server->log, LOG_LEVEL_INFO, log_name("started"),
              log_text("version", CAPSTORE_VERSION), log_text("state", server->config.state));
    sd_tell("READY=1\nSTATUS=Serving");
    return CAP_OK;
}

/* --- Run
 * ------------------------------------------------------------------------------------------ */

int server_run(struct server *server)
{
    while (server->phase != SERVER_STOPPING) {
        uv_run(&server->loop, UV_RUN_DEFAULT);
    }
    log_event(&server->log, LOG_LEVEL_INFO, log_name("stopped"),
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
    uv_close((uv_handle_t *)&server->turn, NULL);
    uv_close((uv_handle_t *)&server->round, NULL);
    for (size_t i = 0; i < SERVER_SIGNALS; i++) {
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    }
}

void server_close(struct server *server)
{
    server->phase = SERVER_STOPPING;
    if (server->loop_open) {
        close_listeners(server);
        admin_stop(server->admin);
        while (server->sessions != NULL) {
            session_close(server->sessions);
        }
        writer_stop(server->writer);
        close_handles(server);
        /* Workers come back, handles close, what they held is freed. */
        while (uv_run(&server->loop, UV_RUN_DEFAULT) != 0) {
        }
        admin_free(server->admin);
        (void)uv_loop_close(&server->loop);
    }
    bound_release(&server->admin_bound, false);
    writer_free(server->writer);
    hashing_free(server->hashing);
    cap_store_close(server->store);
    state_close(server->state);
    ledger_free(server->ledger);
    refusals_free(&server->refusals);
    free(server->input);
    config_free(&server->config);
}
