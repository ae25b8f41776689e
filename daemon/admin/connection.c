/*
 * Happy path: bytes come, the reader yields a line, the line becomes a command, its result
 * an answer, the answer goes out at once; then the next line.
 *
 * What holds a connection up, and what then happens:
 * - a command in a thread, or waiting for one: nothing is read until it is answered, and no bound
 * of time is on the peer;
 * - an answer that the socket does not take: nothing is read until it is out; progress_ms bounds
 *   that;
 * - ADMIN_TURN_MAX commands in one go: the rest waits for the next turn of the loop;
 * - the peer has shut down its side: what it asked is answered, then the connection closes.
 *
 * Failures: no memory, a broken socket or a timeout close the connection; a wrong line is answered
 * with an error and leaves it usable; a client that greets in the protocol of the other socket is
 * told so in that protocol. Idle time counts from the last whole line, so that a line which never
 * ends does not keep a connection.
 */
#include "daemon/admin/connection.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/admin/limits.h"
#include "proto/frame.h"
#include "proto/message.h"

#define INPUT_SIZE  16384u /* per connection, of which there are few; most lines are far shorter */
#define OUTPUT_KEEP 65536u /* an output buffer beyond it is given back when it is empty */

struct admin_connection {
    struct admin *admin;
    LIST_ENTRY(admin_connection) link;
    struct peer peer;
    enum admin_level level;
    uv_pipe_t pipe;
    uint64_t deadline_us; /* monotonic; 0: none */
    uv_timer_t turn;      /* goes on in the next turn of the loop */
    unsigned open_handles;
    bool closing;
    bool reading;
    bool heard;   /* something has come */
    bool at_end;  /* the peer sends no more */
    bool writing; /* `output` is with libuv */
    uv_write_t write;
    struct jsonrpc_reader *reader;
    struct cap_bytes pending; /* of `input`, not yet looked at */
    struct cap_buf output;
    struct admin_command *command; /* under way */
    struct admin_subscription subscription;
    unsigned events_left; /* turns with events until the next look */
    uint8_t input[INPUT_SIZE];
};

static void pump(struct admin_connection *connection);

/* --- Closing ---------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct admin_connection *connection = handle->data;
    if (--connection->open_handles > 0) {
        return;
    }
    jsonrpc_reader_free(connection->reader);
    cap_buf_free(&connection->output);
    free(connection);
}

void admin_connection_close(struct admin_connection *connection)
{
    if (connection->closing) {
        return;
    }
    connection->closing = true;
    LIST_REMOVE(connection, link);
    connection->admin->figures.connections--;
    if (connection->subscription.on && --connection->admin->subscribers == 0) {
        uv_timer_stop(&connection->admin->events);
    }
    if (connection->command != NULL) {
        admin_command_abandon(connection->command);
    }
    connection->command = NULL;
    uv_close((uv_handle_t *)&connection->pipe, on_closed);
    uv_close((uv_handle_t *)&connection->turn, on_closed);
}

/* --- Time ------------------------------------------------------------------------------------- */

static void append_error(struct admin_connection *connection, enum cap_error error);
static void send_output(struct admin_connection *connection);

/* Sets the bound of what the peer owes now: to read on, to ask, or nothing while a command runs or
 * it waits for events. */
static void arm(struct admin_connection *connection)
{
    const struct context *context = connection->admin->rooms.context;
    uint64_t ms = connection->writing ? context->config.progress_ms : context->config.idle_ms;
    bool owes =
        connection->writing || (connection->command == NULL && !connection->subscription.on);
    connection->deadline_us = ms > 0 && owes ? env_monotonic_us(context->env) + ms * 1000 : 0;
}

static void expire(struct admin_connection *connection)
{
    if (!connection->writing) {
        append_error(connection, CAP_E_IDLE_TIMEOUT);
        send_output(connection);
    }
    admin_connection_close(connection);
}

void admin_connections_tick(struct admin *admin)
{
    uint64_t now_us = env_monotonic_us(admin->rooms.context->env);
    struct admin_connection *connection = LIST_FIRST(&admin->connections);
    while (connection != NULL) {
        struct admin_connection *next = LIST_NEXT(connection, link);
        if (connection->deadline_us != 0 && now_us >= connection->deadline_us) {
            expire(connection);
        }
        connection = next;
    }
}

static void on_turn(uv_timer_t *timer)
{
    pump(timer->data);
}

/* --- Output ----------------------------------------------------------------------------------- */

static void append_error(struct admin_connection *connection, enum cap_error error)
{
    struct admin_error told;
    admin_error_cap(&told, error);
    (void)jsonrpc_reply(NULL, NULL, &told, &connection->output);
}

static void output_done(struct admin_connection *connection)
{
    connection->output.len = 0;
    if (connection->output.capacity > OUTPUT_KEEP) {
        cap_buf_free(&connection->output);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct admin_connection *connection = write->data;
    connection->writing = false;
    if (connection->closing) {
        return;
    }
    if (status != 0) {
        admin_connection_close(connection);
        return;
    }
    output_done(connection);
    arm(connection);
    pump(connection);
}

/* Hands the output to the socket at once; what it does not take waits with libuv. */
static void send_output(struct admin_connection *connection)
{
    struct cap_buf *output = &connection->output;
    if (output->len == 0 || connection->writing || connection->closing) {
        return;
    }
    uv_stream_t *stream = (uv_stream_t *)&connection->pipe;
    uv_buf_t buf = uv_buf_init((char *)output->data, (unsigned)output->len);
    int sent = uv_try_write(stream, &buf, 1);
    if (sent == (int)output->len) {
        output_done(connection);
        return;
    }
    size_t done = sent > 0 ? (size_t)sent : 0;
    buf = uv_buf_init((char *)output->data + done, (unsigned)(output->len - done));
    connection->write.data = connection;
    if ((sent < 0 && sent != UV_EAGAIN) ||
        uv_write(&connection->write, stream, &buf, 1, on_written) != 0) {
        admin_connection_close(connection);
        return;
    }
    connection->writing = true;
    arm(connection);
}

/* --- Events ----------------------------------------------------------------------------------- */

/* Lets every subscriber have what has happened; which is not often enough to slow the loop. */
static void on_events(uv_timer_t *timer)
{
    struct admin *admin = timer->data;
    struct admin_connection *connection = LIST_FIRST(&admin->connections);
    while (connection != NULL) {
        struct admin_connection *next = LIST_NEXT(connection, link);
        if (connection->subscription.on) {
            connection->events_left = ADMIN_EVENTS_TICK;
            pump(connection);
        }
        connection = next;
    }
}

void admin_events_open(struct admin *admin)
{
    uv_timer_init(&admin->rooms.hubs->hubs[0]->shard->loop, &admin->events);
    admin->events.data = admin;
    admin->events_open = true;
}

void admin_events_close(struct admin *admin)
{
    if (admin->events_open) {
        admin->events_open = false;
        uv_close((uv_handle_t *)&admin->events, NULL);
    }
}

static void subscribe(struct admin_connection *connection,
                      const struct admin_subscription *subscription)
{
    struct admin *admin = connection->admin;
    if (!connection->subscription.on && admin->subscribers++ == 0) {
        uv_timer_start(&admin->events, on_events, ADMIN_EVENTS_MS, ADMIN_EVENTS_MS);
    }
    connection->subscription = *subscription;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

/* Every change, done or refused, is a line of the log, whatever the level of the log is. */
static void audit(struct context *context, const struct admin_command *command)
{
    const struct admin_method *method = command->call.method;
    if (method == NULL || method->level == ADMIN_OBSERVE) {
        return;
    }
    char *params =
        command->request.params != NULL ? json_dumps(command->request.params, JSON_COMPACT) : NULL;
    const char *outcome = command->succeeded ? "ok" : command->call.error.reason;
    log_event_always(&context->log, LOG_LEVEL_INFO, log_name("admin_audit"),
                     log_text("method", method->name), log_text("peer", command->call.peer.text),
                     log_text("level", admin_level_name(command->call.level)),
                     log_text("outcome", outcome),
                     log_text("params", params != NULL ? params : "{}"));
    free(params);
}

/* Answers a command and frees it. The connection is then free for the next one. */
static void answer(struct admin_command *command)
{
    struct admin_connection *connection = command->connection;
    if (!command->succeeded) {
        command->admin->figures.failures++;
    }
    audit(command->admin->rooms.context, command);
    if (connection == NULL) {
        admin_command_free(command);
        return;
    }
    connection->command = NULL;
    if (!command->ran) {
        admin_command_refuse(command);
    }
    enum cap_error error = command->failed;
    /* The command's line becomes the output, which is empty: a megabyte is not copied. */
    cap_buf_free(&connection->output);
    connection->output = command->line;
    command->line = (struct cap_buf){0};
    if (command->succeeded && command->call.subscription.on) {
        subscribe(connection, &command->call.subscription);
    }
    admin_command_free(command);
    if (error != CAP_OK) {
        admin_connection_close(connection);
        return;
    }
    send_output(connection);
    arm(connection);
}

/* The connection goes on in the next turn of the loop. */
static void on_command_done(struct admin_command *command)
{
    struct admin_connection *connection = command->connection;
    answer(command);
    if (connection != NULL && !connection->closing) {
        uv_timer_start(&connection->turn, on_turn, 0, 0);
    }
}

static void take_line(struct admin_connection *connection, struct cap_bytes line)
{
    struct admin *admin = connection->admin;
    struct admin_command *command = calloc(1, sizeof(*command));
    if (command == NULL) {
        admin_connection_close(connection);
        return;
    }
    admin->figures.calls++;
    command->admin = admin;
    command->connection = connection;
    command->call.rooms = &admin->rooms;
    command->call.figures = admin->figures;
    command->call.store = admin->rooms.context->store;
    command->call.peer = connection->peer;
    command->call.level = connection->level;
    connection->command = command;
    if (!jsonrpc_request_parse(line, &command->request, &command->call.error)) {
        answer(command);
    } else if (!admin_call_begin(&command->call, command->request.method,
                                 command->request.params)) {
        answer(command);
    } else if (command->call.method->in_worker) {
        admin_command_submit(&admin->commands, command, on_command_done);
        if (!connection->closing) {
            arm(connection);
        }
    } else {
        admin_command_run(command);
        answer(command);
    }
}

static void refuse_line(struct admin_connection *connection)
{
    struct admin_error error;
    admin_error_set(&error, ADMIN_LINE_TOO_LONG);
    connection->admin->figures.calls++;
    connection->admin->figures.failures++;
    if (jsonrpc_reply(NULL, NULL, &error, &connection->output) != CAP_OK) {
        admin_connection_close(connection);
    } else {
        send_output(connection);
    }
}

/* --- Input ------------------------------------------------------------------------------------ */

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *ret_buf)
{
    (void)wanted;
    struct admin_connection *connection = handle->data;
    *ret_buf = uv_buf_init((char *)connection->input, INPUT_SIZE);
}

/*
 * Whether a client took this socket for one of --listen: a frame begins with its length, whose
 * fourth byte is zero, and no JSON text has a zero byte.
 */
static bool is_client_protocol(struct cap_bytes input)
{
    return input.len >= 4 && input.data[3] == 0;
}

/* Answers in the client's protocol; as far as the socket takes it at once. */
static void turn_client_away(struct admin_connection *connection)
{
    static const char text[] = "this is the admin socket of capstored; clients connect to an "
                               "address of --listen";
    const char *name = cap_error_name(CAP_E_UNSUPPORTED_VERSION);
    const struct proto_error m = {
        .code = (uint16_t)-CAP_E_UNSUPPORTED_VERSION,
        .name = {(const uint8_t *)name, strlen(name)},
        .message = {(const uint8_t *)text, sizeof(text) - 1},
    };
    struct cap_buf payload = {0};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    log_event(&connection->admin->rooms.context->log, LOG_LEVEL_WARNING, log_name("admin_refused"),
              log_text("peer", connection->peer.text), log_text("message", text));
    if (proto_error_encode(&m, &payload) == CAP_OK) {
        proto_frame_encode(&(struct proto_frame){.len = (uint32_t)payload.len, .type = PROTO_ERROR},
                           header);
        if (cap_buf_append(&connection->output, header, sizeof(header)) == CAP_OK &&
            cap_buf_append(&connection->output, payload.data, payload.len) == CAP_OK) {
            send_output(connection);
        }
    }
    cap_buf_free(&payload);
    admin_connection_close(connection);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct admin_connection *connection = stream->data;
    if (len == 0) {
        return;
    }
    if (len < 0 && len != UV_EOF) {
        admin_connection_close(connection);
        return;
    }
    if (len == UV_EOF) {
        connection->at_end = true;
    } else {
        connection->pending = (struct cap_bytes){(const uint8_t *)buf->base, (size_t)len};
        if (!connection->heard && is_client_protocol(connection->pending)) {
            turn_client_away(connection);
            return;
        }
        connection->heard = true;
    }
    pump(connection);
}

static bool is_held_up(const struct admin_connection *connection)
{
    return connection->closing || connection->writing || connection->command != NULL;
}

/* Reads exactly when there is nothing else to do for this connection. */
static void set_reading(struct admin_connection *connection)
{
    bool wanted = !is_held_up(connection) && !connection->at_end && connection->pending.len == 0;
    if (connection->closing || wanted == connection->reading) {
        return;
    }
    connection->reading = wanted;
    uv_stream_t *stream = (uv_stream_t *)&connection->pipe;
    if (!wanted) {
        uv_read_stop(stream);
    } else if (uv_read_start(stream, on_alloc, on_read) != 0) {
        admin_connection_close(connection);
    }
}

/* Takes lines until the input is used up, something holds the connection up, or its turn is over.
 */
static void take_lines(struct admin_connection *connection)
{
    for (unsigned taken = 0; !is_held_up(connection); taken++) {
        if (taken == ADMIN_TURN_MAX) {
            uv_timer_start(&connection->turn, on_turn, 0, 0);
            return;
        }
        struct cap_bytes line;
        enum jsonrpc_event event =
            jsonrpc_reader_feed(connection->reader, &connection->pending, &line);
        if (event == JSONRPC_MORE && connection->at_end &&
            jsonrpc_reader_rest(connection->reader, &line)) {
            event = JSONRPC_LINE;
        }
        if (event == JSONRPC_MORE) {
            return;
        }
        if (event == JSONRPC_NO_MEMORY) {
            admin_connection_close(connection);
        } else if (event == JSONRPC_TOO_LONG) {
            refuse_line(connection);
        } else {
            take_line(connection, line);
        }
    }
}

/* Sends some of the events that it subscribed to; the rest in other turns or at the next look. */
static void send_events(struct admin_connection *connection)
{
    struct events *events = &connection->admin->rooms.context->events;
    if (!connection->subscription.on || is_held_up(connection) || connection->events_left == 0 ||
        !admin_subscription_waits(&connection->subscription, events)) {
        return;
    }
    connection->events_left--;
    if (admin_subscription_write(&connection->subscription, events, &connection->output) !=
        CAP_OK) {
        admin_connection_close(connection);
        return;
    }
    send_output(connection);
    if (!connection->closing) {
        uv_timer_start(&connection->turn, on_turn, 0, 0);
    }
}

/* Does what can be done now. Called from the loop only, never from within itself. */
static void pump(struct admin_connection *connection)
{
    if (connection->closing) {
        return;
    }
    take_lines(connection);
    send_events(connection);
    set_reading(connection);
    if (connection->at_end && connection->pending.len == 0 && !is_held_up(connection)) {
        admin_connection_close(connection);
    }
}

/* --- Opening ---------------------------------------------------------------------------------- */

/* All that can fail and needs no loop. */
static enum cap_error prepare(struct admin *admin, int fd, struct admin_connection **ret)
{
    struct admin_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        return CAP_E_NO_MEMORY;
    }
    connection->admin = admin;
    connection->reader = jsonrpc_reader_new(JSONRPC_LINE_MAX);
    enum cap_error error =
        connection->reader != NULL ? peer_of(fd, 128, &connection->peer) : CAP_E_NO_MEMORY;
    if (error == CAP_OK) {
        bool complete = false;
        const struct admin_group operators = admin->operators;
        error = admin_level_read(fd, &connection->peer, &operators, &connection->level, &complete);
        if (error == CAP_OK && !complete && !admin->told_groups) {
            admin->told_groups = true;
            log_event(&admin->rooms.context->log, LOG_LEVEL_WARNING,
                      log_name("peer_groups_unknown"),
                      log_text("message", "the kernel does not tell the supplementary groups of a "
                                          "peer; only its user and primary group count"));
        }
    }
    if (error != CAP_OK) {
        jsonrpc_reader_free(connection->reader);
        free(connection);
        return error;
    }
    *ret = connection;
    return CAP_OK;
}

enum cap_error admin_connection_open(struct admin *admin, int fd)
{
    struct admin_connection *connection = NULL;
    enum cap_error error = prepare(admin, fd, &connection);
    if (error != CAP_OK) {
        close(fd);
        return error;
    }
    uv_loop_t *loop = &admin->rooms.hubs->hubs[0]->shard->loop;
    uv_timer_init(loop, &connection->turn);
    uv_pipe_init(loop, &connection->pipe, 0);
    connection->turn.data = connection;
    connection->pipe.data = connection;
    connection->open_handles = 2;
    LIST_INSERT_HEAD(&admin->connections, connection, link);
    admin->figures.connections++;
    if (uv_pipe_open(&connection->pipe, fd) != 0) {
        close(fd);
        admin_connection_close(connection);
        return CAP_E_IO;
    }
    arm(connection);
    pump(connection);
    return CAP_OK;
}
