/*
 * The two connections.
 *
 * Happy path. Above: the library dials without blocking, so that a cut is seen meanwhile, and says
 * hello. Front: one end of a pair of sockets goes to the loop by a letter and through the door of
 * every listener; the other is the library's. Its peer is the daemon itself, with an account of its
 * own in the ledger, and what it publishes is published by the daemon's own user.
 *
 * Over HTTP the library has a thread of its own at the other end of a pair of sockets, so that the
 * same is done with it.
 *
 * Failure modes. Nobody is above, or it takes too long: upstream_away. It speaks something else, or
 * is this daemon: upstream_broken. The ledger has no room for the connection: its error.
 */
#include "daemon/upstream/ends.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/net/speaker.h"

#define CUT_POLL_MS 100  /* how often a wait that cannot be cut looks whether it was */
#define MARGIN_MS   5000 /* a cache above, with the same timeout, says why first */
#define AGENT       "capstored " CAPSTORE_VERSION " upstream"

enum cap_error above_judge(enum capstore_error error)
{
    switch ((int)error) {
    case CAPSTORE_OK:
    case CAPSTORE_E_NO_MEMORY:
    case CAPSTORE_E_DISK_FULL:
        return (enum cap_error)(int)error;
    case CAPSTORE_E_NOT_FOUND:
    case CAPSTORE_E_QUARANTINED:
    case CAPSTORE_E_FORBIDDEN_CAP:
        return CAP_E_NOT_FOUND;
    case CAPSTORE_E_HASH_MISMATCH:
    case CAPSTORE_E_BODY_NOT_CANONICAL:
    case CAPSTORE_E_BODY_TOO_LARGE: /* although it said that it is small */
    case CAPSTORE_E_SSZ:
    case CAPSTORE_E_WRONG_KIND:
    case CAPSTORE_E_BAD_REPLY:
    case CAPSTORE_E_BAD_FRAME:
    case CAPSTORE_E_FRAME_TOO_LARGE:
    case CAPSTORE_E_UNSUPPORTED_VERSION:
    case CAPSTORE_E_UNSUPPORTED_REQUEST:
    case CAPSTORE_E_LENGTH_MISMATCH:
    case CAPSTORE_E_UPSTREAM_BROKEN:
    case CAPSTORE_E_INVALID_ARGUMENT: /* an address that is none */
    case CAPSTORE_E_NOT_SUPPORTED:    /* one over HTTP, in a build without */
        return CAP_E_UPSTREAM_BROKEN;
    default:
        return CAP_E_UPSTREAM_AWAY; /* it is not there, or cannot now */
    }
}

/* --- Tethers ---------------------------------------------------------------------------------- */

static void tether_init(struct tether *tether)
{
    *tether = (struct tether){.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};
}

static void tether_end(struct tether *tether)
{
    (void)pthread_mutex_lock(&tether->lock);
    if (tether->fd >= 0) {
        close(tether->fd);
        tether->fd = -1;
    }
    (void)pthread_mutex_unlock(&tether->lock);
}

/* Holds a socket. False: it was cut already, or there are too few descriptors. */
static bool tether_hold(struct tether *tether, int fd)
{
    tether_end(tether);
    (void)pthread_mutex_lock(&tether->lock);
    bool held = !tether->cut;
    if (held && fd >= 0) {
        tether->fd = dup(fd);
        held = tether->fd >= 0;
    }
    (void)pthread_mutex_unlock(&tether->lock);
    return held;
}

void tether_cut(struct tether *tether)
{
    (void)pthread_mutex_lock(&tether->lock);
    tether->cut = true;
    if (tether->fd >= 0) {
        (void)shutdown(tether->fd, SHUT_RDWR);
    }
    (void)pthread_mutex_unlock(&tether->lock);
}

bool tether_is_cut(struct tether *tether)
{
    (void)pthread_mutex_lock(&tether->lock);
    bool cut = tether->cut;
    (void)pthread_mutex_unlock(&tether->lock);
    return cut;
}

/* --- Above ------------------------------------------------------------------------------------ */

void above_init(struct above *above, const char *address, config_number *timeout_ms,
                const uint8_t *own_id)
{
    *above = (struct above){
        .address = address,
        .timeout_ms = timeout_ms,
        .own_id = own_id,
    };
    tether_init(&above->tether);
}

static bool on_progress(void *ctx, const struct capstore_progress *progress)
{
    (void)progress;
    return !tether_is_cut(&((struct above *)ctx)->tether);
}

static enum capstore_error make_handle(struct above *above)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    options.timeout_ms = (uint32_t)*above->timeout_ms + MARGIN_MS;
    options.agent = AGENT;
    options.max_body = ENDS_SMALL_MAX;
    options.max_bodies = ENDS_BODIES;
    options.progress = on_progress;
    options.progress_ctx = above;
    return capstore_new(&options, &above->store);
}

struct dialled {
    bool done;
    enum capstore_error error;
};

static void on_dialled(void *ctx, const struct capstore_answer *answer)
{
    *(struct dialled *)ctx = (struct dialled){true, answer->error};
}

/* As capstore_connect, which cannot be cut while it dials. */
static enum capstore_error dial(struct above *above)
{
    struct dialled dialled = {0};
    enum capstore_error error =
        capstore_async_connect(above->store, above->address, on_dialled, &dialled);
    while (error == CAPSTORE_OK && !dialled.done && !tether_is_cut(&above->tether)) {
        struct pollfd entry = {capstore_fd(above->store), (short)capstore_events(above->store), 0};
        int wait = capstore_timeout_ms(above->store);
        int n = poll(&entry, 1, wait < 0 || wait > CUT_POLL_MS ? CUT_POLL_MS : wait);
        (void)capstore_process(above->store, n > 0 ? entry.revents : 0);
    }
    if (error == CAPSTORE_OK && !dialled.done) {
        capstore_close(above->store); /* calls on_dialled */
        return CAPSTORE_E_CANCELLED;
    }
    return error == CAPSTORE_OK ? dialled.error : error;
}

/* Who is there. A daemon that asked itself would wait for itself. */
static enum cap_error greet(const struct above *above, char *reason)
{
    struct capstore_daemon_info info;
    if (capstore_info(above->store, &info) == CAPSTORE_OK &&
        memcmp(info.store_id, above->own_id, CAPSTORE_STORE_ID_SIZE) == 0) {
        snprintf(reason, ENDS_REASON_SIZE,
                 "%.120s: that is this daemon, or one on a copy of its "
                 "store",
                 above->address);
        return CAP_E_UPSTREAM_BROKEN;
    }
    return CAP_OK;
}

enum cap_error above_open(struct above *above, char ret_reason[ENDS_REASON_SIZE])
{
    if (above->store != NULL && capstore_connected(above->store)) {
        above->fresh = false;
        return CAP_OK;
    }
    above_close(above);
    snprintf(ret_reason, ENDS_REASON_SIZE, "%.120s: out of memory", above->address);
    enum capstore_error made = make_handle(above);
    if (made != CAPSTORE_OK) {
        return above_judge(made);
    }
    made = dial(above);
    enum cap_error error = above_judge(made);
    if (error != CAP_OK) {
        snprintf(ret_reason, ENDS_REASON_SIZE, "%s: %.180s", capstore_error_name(made),
                 capstore_message(above->store));
    } else if (!tether_hold(&above->tether, capstore_fd(above->store))) {
        error = CAP_E_UPSTREAM_AWAY;
    } else {
        above->fresh = true;
        error = greet(above, ret_reason);
    }
    if (error != CAP_OK) {
        above_close(above);
    }
    return error;
}

void above_close(struct above *above)
{
    capstore_free(above->store);
    above->store = NULL;
    tether_end(&above->tether);
}

/* --- Front ------------------------------------------------------------------------------------ */

/* Our end of a pair of sockets, on its way to its loop. */
struct arrival {
    struct letter letter;
    struct hub *hub;
    int fd;
};

/* On the hub's loop. */
static void on_arrival(struct letter *letter)
{
    struct arrival *arrival = CONTAINER_OF(letter, struct arrival, letter);
    struct ledger *ledger = arrival->hub->shard->context->ledger;
    struct ledger_peer *account = NULL;
    const struct peer peer = {
        .local = true,
        .uid = geteuid(),
        .gid = getegid(),
        .pid = getpid(),
        .text = "upstream",
        .key = "upstream",
    };
    enum cap_error error = ledger_connect(ledger, peer.key, &account);
    if (error == CAP_OK) {
        error = session_door.open(arrival->hub, arrival->fd, &peer, account);
        if (error != CAP_OK) {
            ledger_disconnect(ledger, account);
        }
    }
    if (error != CAP_OK) {
        session_door.turn_away(arrival->fd, error);
        close(arrival->fd);
    }
    free(arrival);
}

void front_init(struct front *front, struct hub *hub)
{
    *front = (struct front){.hub = hub};
    tether_init(&front->tether);
}

/* Sends one end to the loop. Returns the other, or -1. */
static int knock(const struct front *front)
{
    int pair[2];
    struct arrival *arrival = malloc(sizeof(*arrival));
    if (arrival == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        free(arrival);
        return -1;
    }
    *arrival = (struct arrival){.letter = {.run = on_arrival}, .hub = front->hub, .fd = pair[0]};
    if (!mailbox_post(&front->hub->shard->mailbox, &arrival->letter)) {
        close(pair[0]);
        close(pair[1]);
        free(arrival);
        return -1;
    }
    return pair[1];
}

enum cap_error front_open(struct front *front, char ret_reason[ENDS_REASON_SIZE])
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    if (front->store != NULL && capstore_connected(front->store)) {
        return CAP_OK;
    }
    front_close(front);
    snprintf(ret_reason, ENDS_REASON_SIZE, "too few descriptors or too little memory");
    options.agent = AGENT;
    int fd = knock(front);
    if (fd < 0 || !tether_hold(&front->tether, fd)) {
        if (fd >= 0) {
            close(fd);
        }
        return CAP_E_NO_MEMORY;
    }
    enum capstore_error error = capstore_new(&options, &front->store);
    if (error != CAPSTORE_OK) {
        close(fd);
    } else {
        error = capstore_connect_fd(front->store, fd);
    }
    if (error != CAPSTORE_OK) {
        snprintf(ret_reason, ENDS_REASON_SIZE, "%s", capstore_error_name(error));
        front_close(front);
    }
    return (enum cap_error)(int)error;
}

void front_close(struct front *front)
{
    capstore_free(front->store);
    front->store = NULL;
    tether_end(&front->tether);
}
