/* The handle: options, connecting, and what a call leaves behind. */
#include "client/lib/conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/lib/link.h"
#include "lib/cap/must.h"

/* ---- the handle ---- */

#define DEFAULT_TIMEOUT_MS 30000u              /* a person gives up about then */
#define DEFAULT_MAX_BODY   (UINT64_C(1) << 30) /* bytes of memory that a daemon may make us fill */
#define DEFAULT_MAX_CAPS   (UINT64_C(1) << 20) /* 56 MiB of hashes, facts and a table */
#define MIN_FRAME          4096u               /* smaller frames would leave no room for messages */
/* That this library asks for in any case. */
#define FEATURES                                                                                   \
    (PROTO_FEATURE_MAP | PROTO_FEATURE_GET_MANY | PROTO_FEATURE_PUT_CAP | PROTO_FEATURE_SLICE |    \
     PROTO_FEATURE_CLOSURE)

/* Bytes of the options of the first version. */
#define FIRST_OPTIONS offsetof(struct capstore_options, max_bodies)

static bool agent_valid(const char *agent)
{
    size_t len = strlen(agent);
    if (len > CAPSTORE_AGENT_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (agent[i] < ' ' || agent[i] > '~') {
            return false;
        }
    }
    return true;
}

static void take_options(struct capstore *store, const struct capstore_options *options)
{
    store->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
    store->max_body = options->max_body != 0 ? options->max_body : DEFAULT_MAX_BODY;
    store->max_bodies = options->max_bodies != 0 ? options->max_bodies : DEFAULT_MAX_BODY;
    if (store->max_bodies < store->max_body) {
        store->max_bodies = store->max_body;
    }
    store->max_caps = options->max_caps != 0 ? options->max_caps : DEFAULT_MAX_CAPS;
    store->no_verify = options->no_verify;
    store->hash_thread = options->hash_thread;
    store->no_resume = options->no_resume;
    store->asked = FEATURES;
    if (options->leases) { /* an upload that goes on has the forms of leases */
        store->asked |= PROTO_FEATURE_KEEP | (options->no_resume ? 0 : PROTO_FEATURE_RESUME);
    }
    store->keep_s = options->keep_s;
    store->progress = options->progress;
    store->progress_ctx = options->progress_ctx;
    const char *agent = options->agent != NULL ? options->agent : "libcapstore " CAPSTORE_VERSION;
    memcpy(store->agent, agent, strlen(agent) + 1);
}

/* A mutex that tells a thread that it has it already. */
static bool init_turn(pthread_mutex_t *turn)
{
    pthread_mutexattr_t how;
    if (pthread_mutexattr_init(&how) != 0) {
        return false;
    }
    bool good = pthread_mutexattr_settype(&how, PTHREAD_MUTEX_ERRORCHECK) == 0 &&
                pthread_mutex_init(turn, &how) == 0;
    pthread_mutexattr_destroy(&how);
    return good;
}

enum cap_error client_take_turn(struct capstore *store)
{
    if (pthread_mutex_lock(&store->turn) != 0) {
        return CAP_E_INVALID_ARGUMENT; /* this thread is in a callback of a read */
    }
    if (store->inside) {
        client_end_turn(store);
        return CAP_E_INVALID_ARGUMENT;
    }
    return CAP_OK;
}

void client_end_turn(struct capstore *store)
{
    must(pthread_mutex_unlock(&store->turn) == 0);
}

enum capstore_error capstore_new(const struct capstore_options *options,
                                 struct capstore **ret_store)
{
    struct capstore_options all = CAPSTORE_OPTIONS_INIT;
    if (options != NULL) {
        /* A caller built with an earlier version has fewer, one with a later version more. */
        size_t size = options->struct_size < sizeof(all) ? options->struct_size : sizeof(all);
        if (size < FIRST_OPTIONS) {
            return CAPSTORE_E_INVALID_ARGUMENT;
        }
        memcpy(&all, options, size);
    }
    if (all.agent != NULL && !agent_valid(all.agent)) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    struct capstore *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    if (!init_turn(&store->turn)) {
        free(store);
        return CAPSTORE_E_NO_MEMORY;
    }
    store->fd = store->passed = -1;
    client_list_init(&store->queued);
    client_list_init(&store->started);
    client_list_init(&store->done);
    client_list_init(&store->uploads);
    take_options(store, &all);
    proto_reader_init(&store->reader, PROTO_FRAME_MAX);
    *ret_store = store;
    return CAPSTORE_OK;
}

void capstore_set_keep(struct capstore *store, uint32_t keep_s)
{
    store->keep_s = keep_s;
}

void capstore_free(struct capstore *store)
{
    if (store == NULL) {
        return;
    }
    capstore_close(store);
    cap_buf_free(&store->detail);
    free(store->address);
    pthread_mutex_destroy(&store->turn);
    free(store);
}

void capstore_close(struct capstore *store)
{
    client_fail_all(store, CAP_E_CANCELLED, "the handle was closed");
    if (!store->inside) {
        client_deliver(store);
    }
}

bool capstore_connected(const struct capstore *store)
{
    return store->fd >= 0 && store->limits.frame != 0; /* the daemon has said hello */
}

const char *capstore_message(const struct capstore *store)
{
    return store->message;
}

/* ---- beginning and ending a call ---- */

void client_forget(struct capstore *store)
{
    store->message[0] = '\0';
    store->unresolved = (struct cap_ssz_list){0};
    store->shortage = (struct proto_shortage){0};
    cap_buf_free(&store->detail);
}

enum cap_error client_begin(struct capstore *store)
{
    if (store->inside) {
        return CAP_E_INVALID_ARGUMENT;
    }
    client_forget(store);
    if (!capstore_connected(store)) {
        return client_say(store, CAP_E_CONNECTION_LOST, "not connected");
    }
    return CAP_OK;
}

enum cap_error client_say(struct capstore *store, enum cap_error error, const char *format, ...)
{
    if (store->message[0] != '\0') {
        return error;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(store->message, sizeof(store->message), format, args);
    va_end(args);
    return error;
}

enum cap_error client_say_reading(struct capstore *store)
{
    return client_say(
        store, CAP_E_NOT_SUPPORTED,
        "HTTP only reads; to publish, keep or map, connect to a capstore address, such "
        "as unix:PATH or tcp:HOST:PORT");
}

enum cap_error client_check_leases(struct capstore *store)
{
    if (client_leases(store)) {
        return CAP_OK;
    }
    if (store->http != NULL) {
        return client_say_reading(store);
    }
    return client_say(store, CAP_E_UNSUPPORTED_REQUEST,
                      (store->asked & PROTO_FEATURE_KEEP) != 0
                          ? "this daemon promises nothing for a time; it is older than that"
                          : "options.leases is not set");
}

enum capstore_error client_end(struct capstore *store, enum cap_error error)
{
    if (error != CAP_OK) {
        client_say(store, error, "%s", cap_error_text(error));
    } else {
        store->message[0] = '\0';
    }
    return client_public(error);
}

/* ---- hello ---- */

enum cap_error client_take_hello(struct capstore *store, struct cap_bytes payload)
{
    struct proto_hello_reply reply;
    if (proto_hello_reply_decode(payload, &reply) != CAP_OK || reply.limits.hashes == 0 ||
        reply.limits.frame < MIN_FRAME || (reply.features & ~store->asked) != 0) {
        return client_say(store, CAP_E_BAD_REPLY, "the daemon's hello does not make sense");
    }
    if (reply.version != PROTO_VERSION) {
        return CAP_E_UNSUPPORTED_VERSION;
    }
    store->features = reply.features;
    store->limits = reply.limits;
    if (store->limits.requests == 0) {
        store->limits.requests = 1; /* it says so when it means none */
    }
    store->info = (struct capstore_daemon_info){
        .protocol_version = reply.version,
        .max_hashes = reply.limits.hashes,
        .max_upload = reply.limits.upload,
        .max_structure = reply.limits.structure,
        .max_data = reply.limits.data,
        .idle_ms = reply.limits.idle_ms,
    };
    memcpy(store->info.store_id, reply.store_id, sizeof(store->info.store_id));
    size_t len = reply.agent.len < CAPSTORE_AGENT_MAX ? reply.agent.len : CAPSTORE_AGENT_MAX;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = reply.agent.data[i];
        store->info.agent[i] = (char)(c >= ' ' && c <= '~' ? c : '?');
    }
    return CAP_OK;
}

/* A request that says hello. */
static enum cap_error make_hello(struct capstore *store, struct capstore_request **ret_request)
{
    struct proto_hello hello = {
        .version_min = PROTO_VERSION,
        .version_max = PROTO_VERSION,
        .agent = {(const uint8_t *)store->agent, strlen(store->agent)},
        .has_features = true,
        .features = store->asked,
    };
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_hello_encode(&hello, &payload);
    return client_request_new(store, PROTO_HELLO, encoded, &payload, ret_request);
}

/* Forgets what the handle knew of an earlier connection. */
static void begin_anew(struct capstore *store)
{
    capstore_close(store);
    client_forget(store);
    store->heard = false;
    store->id = 0;
    store->features = 0;
    store->limits = (struct proto_limits){0};
    store->info = (struct capstore_daemon_info){0};
}

/* Says hello over store->fd. */
static enum cap_error say_hello(struct capstore *store)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_link_prepare(store->fd);
    if (error == CAP_OK) {
        error = make_hello(store, &request);
        error = client_call(error, request, &answer);
    }
    if (error != CAP_OK) {
        client_shut(store); /* a connection without a hello is unusable */
    }
    return error;
}

enum capstore_error capstore_connect_fd(struct capstore *store, int fd)
{
    if (store->inside) {
        close(fd);
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    begin_anew(store);
    free(store->address);
    store->address = NULL;
    store->fd = fd;
    return client_end(store, say_hello(store));
}

static enum cap_error parse_address(struct capstore *store, const char *text,
                                    struct client_address *ret_address)
{
    bool http = client_address_means_http(text);
    enum cap_error error = http ? client_address_is_http(text) ? CAP_OK : CAP_E_INVALID_ARGUMENT
                                : client_address_parse(text, ret_address);
    return error == CAP_OK ? CAP_OK
                           : client_say(store, error,
                                        "%.200s is not an address; expected unix:PATH, "
                                        "tcp:HOST:PORT or http://HOST[:PORT][/PATH]",
                                        text);
}

/* Starts what answers the handle from HTTP; the handle's end of it is the connection. */
static enum cap_error begin_http(struct capstore *store, const char *base)
{
    enum cap_error error =
        client_http_start(base, store->agent, store->timeout_ms, &store->http, &store->fd);
    if (error == CAP_E_NOT_SUPPORTED) {
        return client_say(store, error,
                          "this libcapstore was built without HTTP, as the static library always "
                          "is");
    }
    return error;
}

static enum cap_error say_refused(struct capstore *store, const struct client_dial *dial,
                                  enum cap_error error, const char *address)
{
    char detail[CLIENT_DETAIL_SIZE];
    client_dial_detail(dial, error, detail);
    return client_say(store, error, "cannot connect to %.200s: %s", address, detail);
}

static enum cap_error connect_to(struct capstore *store, const char *address)
{
    struct client_address parsed;
    struct client_dial dial;
    int fd = -1;
    begin_anew(store);
    enum cap_error error = parse_address(store, address, &parsed);
    if (error != CAP_OK) {
        return error;
    }
    if (client_address_means_http(address)) {
        error = begin_http(store, address);
        return error == CAP_OK ? say_hello(store) : error;
    }
    error = client_dial_begin(&dial, &parsed);
    if (error == CAP_OK) {
        error = client_dial_wait(&dial, store->timeout_ms, &fd);
    }
    if (error != CAP_OK) {
        (void)say_refused(store, &dial, error, address);
    }
    client_dial_end(&dial);
    if (error != CAP_OK) {
        return error;
    }
    store->fd = fd;
    return say_hello(store);
}

enum capstore_error capstore_connect(struct capstore *store, const char *address)
{
    if (store->inside) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    char *kept = strdup(address); /* it may be the handle's own */
    if (kept == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    free(store->address);
    store->address = kept;
    return client_end(store, connect_to(store, kept));
}

enum cap_error client_connect_again(struct capstore *store)
{
    if (store->address == NULL) {
        return client_say(store, CAP_E_CONNECTION_LOST,
                          "not connected, and this handle was not told the daemon's address");
    }
    return connect_to(store, store->address);
}

/* ---- connecting without blocking ---- */

enum capstore_error capstore_async_connect(struct capstore *store, const char *address,
                                           capstore_done_cb *done, void *ctx)
{
    struct client_address parsed;
    struct capstore_request *hello = NULL;
    if (store->inside || done == NULL) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    char *kept = strdup(address);
    if (kept == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    begin_anew(store);
    free(store->address);
    store->address = kept;
    enum cap_error error = parse_address(store, kept, &parsed);
    if (error != CAP_OK) {
        return client_end(store, error);
    }
    bool http = client_address_means_http(kept);
    struct client_dialling *dialling = http ? NULL : calloc(1, sizeof(*dialling));
    error = http || dialling != NULL ? make_hello(store, &hello) : CAP_E_NO_MEMORY;
    if (error == CAP_OK && http) {
        error = begin_http(store, kept);
    } else if (error == CAP_OK) {
        error = client_dial_begin(&dialling->dial, &parsed);
        if (error != CAP_OK) {
            (void)say_refused(store, &dialling->dial, error, kept);
            client_dial_end(&dialling->dial);
        }
    }
    if (error != CAP_OK) {
        client_request_free(hello);
        free(dialling);
        return client_end(store, error);
    }
    if (!http) {
        dialling->deadline_ms = client_clock_ms() + store->timeout_ms;
        snprintf(dialling->address, sizeof(dialling->address), "%s", kept);
        store->dialling = dialling;
    }
    client_submit(hello, done, ctx); /* it waits for the connection */
    return client_end(store, CAP_OK);
}

void client_stop_dialling(struct capstore *store)
{
    if (store->dialling != NULL) {
        client_dial_end(&store->dialling->dial);
        free(store->dialling);
        store->dialling = NULL;
    }
}

enum cap_error client_dial_on(struct capstore *store)
{
    struct client_dialling *dialling = store->dialling;
    int fd;
    enum cap_error error = client_dial_step(&dialling->dial, &fd);
    if (error == CAP_OK && fd < 0 && client_clock_ms() >= dialling->deadline_ms) {
        error = CAP_E_TIMED_OUT;
    }
    if (error != CAP_OK) {
        char message[CAPSTORE_MESSAGE_SIZE];
        (void)say_refused(store, &dialling->dial, error, dialling->address);
        memcpy(message, store->message, sizeof(message));
        client_fail_all(store, error, message);
    } else if (fd >= 0) {
        client_stop_dialling(store);
        store->fd = fd;
    }
    return error;
}

enum capstore_error capstore_info(struct capstore *store, struct capstore_daemon_info *ret_info)
{
    client_forget(store);
    if (!capstore_connected(store)) {
        return client_end(store, client_say(store, CAP_E_CONNECTION_LOST, "not connected"));
    }
    *ret_info = store->info;
    return client_end(store, CAP_OK);
}
