/* Requests: made, queued, started, ended once, delivered. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"
#include "lib/cap/must.h"

enum cap_error client_request_new(struct capstore *store, enum proto_type type,
                                  enum cap_error encoded, struct cap_buf *payload,
                                  struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (encoded == CAP_OK && type != PROTO_HELLO && !capstore_connected(store)) {
        encoded = CAP_E_CONNECTION_LOST; /* or not made yet */
    }
    if (encoded == CAP_OK) {
        request = calloc(1, sizeof(*request));
        encoded = request != NULL ? CAP_OK : CAP_E_NO_MEMORY;
    }
    if (encoded != CAP_OK) {
        cap_buf_free(payload);
        return encoded;
    }
    request->store = store;
    request->type = type;
    request->most = store->max_body;
    request->payload = *payload;
    *payload = (struct cap_buf){0};
    *ret_request = request;
    return CAP_OK;
}

void client_request_free(struct capstore_request *request)
{
    if (request == NULL) {
        return;
    }
    if (request->sparse != NULL) {
        cap_data_free(&request->sparse->data);
        free(request->sparse);
    }
    client_many_free(request->many);
    cap_buf_free(&request->payload);
    cap_buf_free(&request->body);
    cap_buf_free(&request->detail);
    free(request);
}

enum cap_error client_tell(struct capstore_request *request, enum cap_error error,
                           const char *format, ...)
{
    if (request->message[0] != '\0') {
        return error;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(request->message, sizeof(request->message), format, args);
    va_end(args);
    return error;
}

/* ---- beginning ---- */

void client_submit(struct capstore_request *request, capstore_done_cb *done, void *ctx)
{
    struct capstore *store = request->store;
    request->done = done;
    request->done_ctx = ctx;
    request->state = CLIENT_QUEUED;
    client_list_add(&store->queued, &request->link);
    store->pending++;
    store->check_ns = 0; /* ended requests may hold the lanes that this one waits for */
}

enum cap_error client_submit_made(enum cap_error made, struct capstore_request *request,
                                  capstore_done_cb *done, void *ctx,
                                  struct capstore_request **ret_request)
{
    if (made != CAP_OK) {
        return made;
    }
    client_submit(request, done, ctx);
    if (ret_request != NULL) {
        *ret_request = request;
    }
    return CAP_OK;
}

/* Sends the message; a body follows by itself. CAP_E_NO_MEMORY. */
static enum cap_error start(struct capstore *store, struct capstore_request *request)
{
    enum cap_error error = CAP_OK;
    if (request->type != PROTO_HELLO) {
        error = client_lane_open(store, request, &request->id);
    } else {
        store->hello = (struct client_lane){.type = PROTO_HELLO,
                                            .request = request,
                                            .began_ns = client_now_ns(store),
                                            .moved = store->moved};
    }
    if (error != CAP_OK) {
        return error;
    }
    client_list_remove(&request->link);
    client_list_add(&store->started, &request->link);
    request->state = CLIENT_STARTED;
    store->check_ns = 0;
    error = client_send(store, request->type, 0, request->id, cap_buf_bytes(&request->payload));
    cap_buf_free(&request->payload);
    if (error != CAP_OK) {
        struct client_lane *lane = client_lane_find(store, request->id);
        if (lane != NULL) {
            client_lane_close(store, lane); /* the daemon has not heard of it */
        }
        client_finish(request, error);
        return CAP_OK;
    }
    if (request->source.read != NULL) {
        client_list_add(&store->uploads, &request->upload);
        request->uploading = true;
    }
    return CAP_OK;
}

void client_start_queued(struct capstore *store)
{
    struct capstore_request *request;
    /* As long as what is written is not taken, no more is piled upon it. */
    while ((request = client_linked(client_list_first(&store->queued))) != NULL &&
           store->out.len < CLIENT_IN_SIZE &&
           (request->type == PROTO_HELLO || store->lanes_used < store->limits.requests)) {
        enum cap_error error = start(store, request);
        if (error != CAP_OK && store->lanes_used > 0) {
            return; /* a lane will be free */
        }
        if (error != CAP_OK) {
            client_finish(request, error);
        }
    }
}

/* ---- ending ---- */

void client_finish(struct capstore_request *request, enum cap_error error)
{
    struct capstore *store = request->store;
    must(request->state == CLIENT_QUEUED || request->state == CLIENT_STARTED);
    client_list_remove(&request->link);
    if (request->uploading) {
        client_list_remove(&request->upload);
        request->uploading = false;
    }
    client_verify_free(request->verify); /* it may be reading the body */
    request->verify = NULL;
    store->held -= request->held;
    request->held = 0;
    request->error = error;
    request->answer.error = client_public(error);
    if (error != CAP_OK) {
        (void)client_tell(request, error, "%s", cap_error_text(error));
        cap_buf_free(&request->body);
    } else {
        request->message[0] = '\0';
    }
    request->state = CLIENT_DONE;
    client_list_add(&store->done, &request->link);
}

void client_abandon(struct capstore_request *request, enum cap_error error)
{
    struct capstore *store = request->store;
    struct client_lane *lane = client_lane_find(store, request->id);
    must(request->state == CLIENT_STARTED);
    if (lane != NULL) {
        lane->request = NULL;
        store->check_ns = 0;
        /* Without memory the daemon is not told, and answers: no harm for a GET. An upload would
         * never end. */
        if (client_send(store, PROTO_CANCEL, 0, request->id, (struct cap_bytes){NULL, 0}) !=
                CAP_OK &&
            request->source.read != NULL) {
            client_link_end(store->fd);
        }
    }
    client_finish(request, error);
}

void capstore_cancel(struct capstore_request *request)
{
    if (request->state == CLIENT_QUEUED) {
        client_finish(request, CAP_E_CANCELLED);
    } else if (request->state == CLIENT_STARTED) {
        request->message[0] = '\0'; /* an error whose detail was arriving */
        client_abandon(request, CAP_E_CANCELLED);
    }
}

static void fail_each(struct client_link *requests, enum cap_error error, const char *message)
{
    struct capstore_request *request;
    while ((request = client_linked(client_list_first(requests))) != NULL) {
        request->message[0] = '\0';
        client_finish(request, client_tell(request, error, "%s", message));
    }
}

void client_fail_all(struct capstore *store, enum cap_error error, const char *message)
{
    fail_each(&store->started, error, message);
    fail_each(&store->queued, error, message);
    free(store->lanes);
    store->lanes = NULL;
    store->lane_count = 0;
    store->lanes_used = 0;
    store->hello = (struct client_lane){0};
    client_shut(store);
}

/* ---- delivering ---- */

/* Makes a request's outcome that of the handle. */
static void show_outcome(struct capstore_request *request)
{
    struct capstore *store = request->store;
    client_forget(store);
    memcpy(store->message, request->message, sizeof(store->message));
    store->detail = request->detail;
    store->unresolved = request->unresolved;
    store->shortage = request->shortage;
    request->detail = (struct cap_buf){0};
}

static void deliver_one(struct capstore_request *request)
{
    struct capstore *store = request->store;
    request->state = CLIENT_DELIVERED;
    store->pending--;
    if (request->done == NULL) {
        return; /* client_run waits for it */
    }
    int64_t began_ns = client_clock_ns();
    show_outcome(request);
    request->done(request->done_ctx, &request->answer);
    client_request_free(request);
    store->caller_ns += client_clock_ns() - began_ns;
}

void client_deliver(struct capstore *store)
{
    must(!store->inside);
    store->inside = true;
    /* What is done by now; all of it when the stream is closed, because nothing can be submitted.
     */
    const struct client_link *last = client_list_last(&store->done);
    bool more = last != NULL;
    while ((more || store->fd < 0) && client_list_first(&store->done) != NULL) {
        struct client_link *link = client_list_take(&store->done);
        more = more && link != last;
        deliver_one(client_linked(link));
    }
    store->inside = false;
}

enum cap_error client_run(struct capstore_request *request)
{
    struct capstore *store = request->store;
    client_submit(request, NULL, NULL);
    (void)client_process(store, false);
    client_deliver(store);
    while (request->state != CLIENT_DELIVERED) {
        (void)client_wait(store);
        client_deliver(store);
    }
    show_outcome(request);
    return request->error;
}

enum cap_error client_call(enum cap_error made, struct capstore_request *request,
                           struct capstore_answer *ret_answer)
{
    if (made != CAP_OK) {
        return made;
    }
    request->report = true;
    enum cap_error error = client_run(request);
    if (error == CAP_OK) {
        *ret_answer = request->answer;
    }
    client_request_free(request);
    return error;
}
