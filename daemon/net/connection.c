/*
 * One connection.
 *
 * Happy path. The socket is readable: the hub receives for all that are (hub_ready), into a buffer
 * that all connections of the loop share. Then each has its turn: the speaker takes the bytes. At
 * last the hub sends for all; what is more than messages is pumped. A turn is bounded: what is
 * received but not handled waits in `leftover`.
 *
 * Failure modes.
 *   - The client closes or resets: connection_close; the speaker drops what is in flight.
 *   - It does not take answers: nothing more is read from it, until the progress time is over.
 *   - The speaker has no room (the disk is slow): it is paused; hub_resume goes on.
 *   - There is no memory for it beyond its floor: it is not read until there is, and ended after
 *     the progress time.
 */
#include "daemon/net/connection.h"

#include <errno.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"

#define TURN_RECEIVES 4 /* then others have their turn: 256 KiB fill a spool block */
#define LINGER_US     UINT64_C(1000000) /* a client that reads has the last bytes by then */
#define LEFTOVER_KEEP (4u << 10)  /* bytes: a message at most, kept instead of freed each turn */
#define CHARGE_STEP   (16u << 10) /* bytes: so that not every message asks the ledger */

static void on_poll(uv_poll_t *poll, int status, int events);

static uint64_t now_of(const struct connection *connection)
{
    return env_monotonic_us(connection->context->env);
}

uint64_t passed_us(uint64_t now_us, uint64_t then_us)
{
    return now_us > then_us ? now_us - then_us : 0;
}

/* --- Bounds ----------------------------------------------------------------------------------- */

/*
 * Counts the memory that is held beyond the floor. Where there is no room for it, it is counted all
 * the same, but nothing more is read until there is (the tick looks again): what is held past the
 * floor without room is what came of one piece of input. `leftover` is not counted: it is one
 * receive at most, and must be handled for the rest to be freed.
 */
static void charge(struct connection *connection)
{
    struct ledger *ledger = connection->context->ledger;
    uint64_t bytes = output_memory(&connection->output) + connection->speaker->memory(connection);
    uint64_t over = bytes > CONNECTION_FLOOR ? bytes - CONNECTION_FLOOR : 0;
    uint64_t wanted = (over + CHARGE_STEP - 1) / CHARGE_STEP * CHARGE_STEP;
    bool starved = connection->starved;
    if (starved) {
        (void)ledger_memory_hold(ledger, connection->account, &connection->held, 0);
    }
    connection->starved =
        !ledger_memory_hold(ledger, connection->account, &connection->held, wanted);
    if (connection->starved) {
        ledger_memory_count(ledger, connection->account, &connection->held, wanted);
        connection->starved_us = starved ? connection->starved_us : now_of(connection);
    }
}

bool connection_may_handle(struct connection *connection, uint64_t until_us)
{
    if (connection->phase != CONNECTION_OPEN) {
        return false;
    }
    charge(connection);
    return !connection->starved &&
           output_waiting(&connection->output) < connection->context->config.max_output &&
           now_of(connection) < until_us;
}

/* How many bytes may be received now. */
static size_t input_room(const struct connection *connection)
{
    if (connection->phase != CONNECTION_OPEN) {
        return SESSION_INPUT;
    }
    return connection->starved ? 0 : connection->speaker->room(connection);
}

/* --- Receiving -------------------------------------------------------------------------------- */

/* Keeps what a turn did not handle. False: there is no memory, and the connection is closed. */
static bool keep_leftover(struct connection *connection, struct cap_bytes rest)
{
    if (connection->phase != CONNECTION_OPEN || rest.len == 0) {
        return true;
    }
    if (cap_buf_append(&connection->leftover, rest.data, rest.len) != CAP_OK) {
        connection_close(connection);
        return false;
    }
    return true;
}

/* Handles leftover input. True when none is left. */
static bool handle_leftover(struct connection *connection, uint64_t until)
{
    struct cap_buf *leftover = &connection->leftover;
    if (leftover->len == 0) {
        return true;
    }
    struct cap_bytes rest = {leftover->data + connection->leftover_at,
                             leftover->len - connection->leftover_at};
    connection->speaker->input(connection, &rest, until);
    if (connection->phase != CONNECTION_OPEN || rest.len == 0) {
        leftover->len = connection->leftover_at = 0;
        if (leftover->capacity > LEFTOVER_KEEP) {
            cap_buf_free(leftover);
        }
        return true;
    }
    connection->leftover_at = leftover->len - rest.len;
    return false;
}

/* How many bytes one receive may take, of at most `len`. */
static size_t receive_room(const struct connection *connection, size_t len)
{
    size_t room = input_room(connection);
    size_t most = round_receive(&connection->hub->round);
    return MIN(len, MIN(room, most));
}

/*
 * Books a receive of `len` bytes at most to `dst`, with its result: as `arrived`. False: there is
 * nothing, or the connection is closed.
 */
static bool book_received(struct connection *connection, uint8_t *dst, size_t len, ssize_t n)
{
    if (n == -EAGAIN || n == -EWOULDBLOCK || n == -EINTR) {
        return false;
    }
    if (n <= 0) {
        connection_close(connection);
        return false;
    }
    connection->bytes_in += (uint64_t)n;
    connection->input_us = now_of(connection);
    connection->shard->stats.bytes_in += (uint64_t)n;
    connection->arrived = (struct cap_bytes){dst, (size_t)n};
    connection->filled = (size_t)n == len;
    return true;
}

/* One more receive in a turn. */
static bool receive(struct connection *connection)
{
    uint8_t *dst = connection->hub->more;
    size_t len = receive_room(connection, SESSION_INPUT);
    if (len == 0) {
        return false;
    }
    ssize_t n = recv(connection->fd, dst, len, MSG_DONTWAIT);
    return book_received(connection, dst, len, n < 0 ? -errno : n);
}

/* Handles what has arrived. True: there may be more, and time for it. */
static bool handle_arrived(struct connection *connection, uint64_t until)
{
    struct cap_bytes input = connection->arrived;
    connection->arrived = (struct cap_bytes){0};
    if (connection->phase == CONNECTION_OPEN) {
        connection->speaker->input(connection, &input, until);
    }
    return keep_leftover(connection, input) && connection->phase < CONNECTION_KEPT &&
           connection->leftover.len == 0 && connection->filled && now_of(connection) < until;
}

/* Reads and handles within the bounds of a turn. */
static void read_turn(struct connection *connection)
{
    connection->busy = true;
    uint64_t until = round_turn_end(&connection->hub->round);
    bool more = handle_leftover(connection, until);
    for (int i = 0; more && i < TURN_RECEIVES; i++) {
        more = (connection->arrived.len > 0 || receive(connection)) &&
               handle_arrived(connection, until);
    }
    if (connection->phase < CONNECTION_KEPT) {
        connection->speaker->turn(connection);
    }
    connection->busy = false;
}

/* --- Sending and polling ---------------------------------------------------------------------- */

static void book_sent(struct connection *connection, uint64_t sent)
{
    bool waited = connection->sending;
    connection->bytes_out += sent;
    connection->shard->stats.bytes_out += sent;
    connection->sending = output_wants(&connection->output);
    if (sent > 0 || !waited) {
        connection->output_us = now_of(connection);
    }
}

/* Sends what the socket takes. */
static void pump(struct connection *connection)
{
    uint64_t sent = 0;
    uint64_t most = round_send(&connection->hub->round);
    enum pump_result result = output_pump(&connection->output, connection->fd, most, &sent);
    book_sent(connection, sent);
    if (result == PUMP_LOST) {
        connection_close(connection);
    }
}

/* One that ends and whose last bytes are out waits for the client to close. */
static void maybe_linger(struct connection *connection)
{
    if (connection->phase == CONNECTION_ENDING && !output_wants(&connection->output) &&
        !connection->output.waits) {
        connection->phase = CONNECTION_LINGERING;
        (void)shutdown(connection->fd, SHUT_WR);
    }
}

static bool is_full(const struct connection *connection)
{
    return output_waiting(&connection->output) >= connection->context->config.max_output;
}

static int wanted_events(struct connection *connection)
{
    int events = output_wants(&connection->output) ? UV_WRITABLE : 0;
    bool paused = input_room(connection) == 0;
    hub_pause(connection->hub, &connection->member, paused);
    if (connection->phase != CONNECTION_OPEN ||
        (!is_full(connection) && !paused && connection->leftover.len == 0)) {
        events |= UV_READABLE;
    }
    return events;
}

/* Whether leftover input could be handled now. */
static bool has_turn(const struct connection *connection)
{
    return connection->phase == CONNECTION_OPEN && connection->leftover.len > 0 &&
           !connection->member.paused && !is_full(connection);
}

static void poll_for(struct connection *connection, int events)
{
    if (events == connection->events) {
        return;
    }
    connection->events = events;
    if (events == 0) {
        (void)uv_poll_stop(&connection->poll);
    } else {
        (void)uv_poll_start(&connection->poll, events, on_poll);
    }
}

static void update(struct connection *connection)
{
    if (output_wants(&connection->output)) {
        pump(connection);
    }
    if (connection->phase >= CONNECTION_KEPT) {
        return;
    }
    charge(connection);
    maybe_linger(connection);
    if (connection->phase == CONNECTION_OPEN && connection->context->phase == PHASE_DRAINING) {
        connection->speaker->drain(connection);
    }
    int events = wanted_events(connection);
    if (has_turn(connection)) {
        hub_turn_soon(connection->hub);
    }
    poll_for(connection, events);
}

void connection_update(struct connection *connection)
{
    if (connection->phase >= CONNECTION_KEPT || connection->busy) {
        return;
    }
    connection->busy = true;
    update(connection);
    connection->busy = false;
}

void connection_update_soon(struct connection *connection)
{
    if (connection->phase < CONNECTION_KEPT && !connection->busy) {
        hub_update_soon(connection->hub, &connection->member);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct connection *connection = poll->data;
    if (status < 0) {
        connection_close(connection);
        return;
    }
    round_turn(&connection->hub->round);
    if ((events & UV_READABLE) != 0) {
        hub_ready(connection->hub, &connection->member);
    } else {
        connection_update(connection);
    }
}

/* --- As a member of the hub ------------------------------------------------------------------- */

static struct connection *of_member(struct member *member)
{
    return CONTAINER_OF(member, struct connection, member);
}

_Static_assert(offsetof(struct connection, member) == 0, "of_const casts");

static const struct connection *of_const(const struct member *member)
{
    return (const struct connection *)(const void *)member;
}

static bool on_turn(struct member *member)
{
    struct connection *connection = of_member(member);
    if (!has_turn(connection)) {
        return false;
    }
    round_turn(&connection->hub->round);
    read_turn(connection);
    connection_update(connection);
    return has_turn(connection);
}

/* One that has input left over has turns already. */
static void on_plan_receive(const struct member *member, uint8_t *dst, size_t len,
                            struct call *call)
{
    const struct connection *connection = of_const(member);
    bool may = connection->phase < CONNECTION_KEPT && connection->leftover.len == 0;
    size_t room = may ? receive_room(connection, len) : 0;
    call->fd = connection->fd;
    call->sends = false;
    call->spans[0] = (struct iovec){.iov_base = dst, .iov_len = room};
    call->count = room > 0 ? 1 : 0;
}

static bool on_received(struct member *member, const struct call *call)
{
    struct connection *connection = of_member(member);
    const struct iovec *span = &call->spans[0];
    bool some = call->count > 0 && connection->phase < CONNECTION_KEPT &&
                book_received(connection, span->iov_base, span->iov_len, call->result);
    if (some) {
        connection->speaker->ahead(connection, connection->arrived, &connection->hub->coming);
    } else {
        connection_update_soon(connection);
    }
    return some;
}

static void on_plan_send(const struct member *member, struct call *call)
{
    const struct connection *connection = of_const(member);
    bool may = connection->phase < CONNECTION_KEPT && !connection->busy;
    call->fd = connection->fd;
    call->sends = true;
    call->count = may ? output_plan(&connection->output, call->spans) : 0;
}

/* The update that follows sends what this did not, or finds that the connection is lost. */
static void on_sent(struct member *member, const struct call *call)
{
    struct connection *connection = of_member(member);
    if (call->count > 0 && call->result > 0) {
        output_sent(&connection->output, (size_t)call->result);
        book_sent(connection, (uint64_t)call->result);
    }
}

static void on_arrived(struct member *member)
{
    struct connection *connection = of_member(member);
    read_turn(connection);
    connection_update_soon(connection);
}

static void tick_open(struct connection *connection, uint64_t now)
{
    uint64_t progress = connection->progress_us;
    if (progress > 0 && connection->sending && passed_us(now, connection->output_us) > progress) {
        connection->speaker->fail(connection, CAP_E_PROGRESS_TIMEOUT, "the client takes no bytes");
    } else if (progress > 0 && connection->starved &&
               passed_us(now, connection->starved_us) > progress) {
        char why[LEDGER_WHY_SIZE];
        ledger_why(connection->context->ledger, connection->account, LEDGER_MEMORY, 1, why);
        connection->speaker->fail(connection, CAP_E_MEMORY_LIMIT, why);
    } else {
        connection->speaker->tick(connection, now);
    }
}

static void on_tick(struct member *member, uint64_t now)
{
    struct connection *connection = of_member(member);
    enum connection_phase phase = connection->phase;
    size_t waiting = output_waiting(&connection->output);
    if (phase == CONNECTION_OPEN) {
        connection->busy = true;
        tick_open(connection, now);
        connection->busy = false;
    } else if (phase == CONNECTION_KEPT ||
               (phase < CONNECTION_KEPT && now >= connection->deadline_us)) {
        connection_close(connection);
    }
    /* There may be many: only those that the clock changed cost more than a look. */
    if (connection->phase != phase || output_waiting(&connection->output) != waiting ||
        connection->starved) {
        connection_update(connection);
    }
}

static void on_update(struct member *member)
{
    connection_update(of_member(member));
}

static void on_close(struct member *member)
{
    connection_close(of_member(member));
}

static size_t on_requests(const struct member *member)
{
    const struct connection *connection = of_const(member);
    return connection->speaker->requests(connection);
}

static void on_describe(const struct member *member, struct client *ret_client)
{
    const struct connection *connection = of_const(member);
    uint64_t moved =
        connection->input_us > connection->output_us ? connection->input_us : connection->output_us;
    *ret_client = (struct client){
        .session = member->number,
        .peer = connection->peer,
        .connected_us = connection->connected_us,
        .idle_ms = passed_us(now_of(connection), moved) / 1000,
        .bytes_in = connection->bytes_in,
        .bytes_out = connection->bytes_out,
        .output_bytes = output_waiting(&connection->output),
    };
    connection->speaker->describe(connection, ret_client);
}

static const struct member_class member_class = {
    .turn = on_turn,
    .plan_receive = on_plan_receive,
    .plan_send = on_plan_send,
    .received = on_received,
    .sent = on_sent,
    .arrived = on_arrived,
    .tick = on_tick,
    .update = on_update,
    .close = on_close,
    .requests = on_requests,
    .describe = on_describe,
};

/* --- Life ------------------------------------------------------------------------------------- */

enum cap_error connection_open(struct connection *connection, const struct speaker *speaker,
                               struct hub *hub, int fd, const struct peer *peer,
                               struct ledger_peer *account)
{
    if (uv_poll_init(&hub->shard->loop, &connection->poll, fd) != 0) {
        return CAP_E_NO_MEMORY;
    }
    connection->member.class = &member_class;
    connection->speaker = speaker;
    connection->hub = hub;
    connection->shard = hub->shard;
    connection->context = hub->shard->context;
    connection->poll.data = connection;
    connection->fd = fd;
    connection->peer = *peer;
    connection->account = account;
    output_init(&connection->output, speaker->framing);
    if (peer_is_own(peer) && hub->shard->handover != NULL) {
        output_lend(&connection->output, hub->shard->handover, fd);
    }
    connection->connected_us = env_real_us(connection->context->env);
    connection->input_us = connection->output_us = now_of(connection);
    hub_add(hub, &connection->member);
    connection->shard->stats.connections++;
    log_event(&connection->context->log, LOG_LEVEL_DEBUG, log_name("session_opened"),
              log_number("session", connection->member.number),
              log_text("peer", connection->peer.text));
    return CAP_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    cap_buf_free(&connection->leftover);
    output_free(&connection->output);
    connection->speaker->free(connection);
}

/* Closes the socket: nothing of the connection is counted any more. */
static void let_go(struct connection *connection)
{
    connection->phase = CONNECTION_CLOSED;
    output_close(&connection->output);
    hub_remove(connection->hub, &connection->member);
    ledger_disconnect(connection->context->ledger, connection->account);
    uv_close((uv_handle_t *)&connection->poll, on_closed);
    close(connection->fd);
}

/* Whether the socket has to be kept, and the connection counted, since the client has lent pages.
 */
static bool must_keep(struct connection *connection)
{
    return connection->hub->open && connection->context->phase == PHASE_RUNNING &&
           output_is_lent(&connection->output);
}

void connection_close(struct connection *connection)
{
    struct context *context = connection->context;
    if (connection->phase == CONNECTION_KEPT && !must_keep(connection)) {
        let_go(connection);
    }
    if (connection->phase >= CONNECTION_KEPT) {
        return;
    }
    connection->phase = CONNECTION_KEPT;
    log_event(&context->log, LOG_LEVEL_DEBUG, log_name("session_closed"),
              log_number("session", connection->member.number),
              log_number("bytes_in", connection->bytes_in),
              log_number("bytes_out", connection->bytes_out));
    output_drop_streams(&connection->output, false);
    connection->speaker->closed(connection);
    (void)ledger_memory_hold(context->ledger, connection->account, &connection->held, 0);
    if (!must_keep(connection)) {
        let_go(connection);
        return;
    }
    output_free(&connection->output);
    hub_pause(connection->hub, &connection->member, false);
    poll_for(connection, 0);
    (void)shutdown(connection->fd, SHUT_RDWR);
}

void connection_end(struct connection *connection)
{
    if (connection->phase == CONNECTION_OPEN) {
        connection->phase = CONNECTION_ENDING;
        connection->deadline_us = now_of(connection) + LINGER_US;
        connection->leftover.len = connection->leftover_at = 0;
    }
}

void connection_give_up(struct connection *connection)
{
    if (connection->phase < CONNECTION_KEPT) {
        connection->phase = CONNECTION_LINGERING;
        connection->deadline_us = 0;
    }
}
