/*
 * Uploads that go on: a blocking call whose connection is lost connects again, asks how much of its
 * upload the daemon has kept under the token that it chose, and sends the rest.
 *
 * Failure modes: the answer was lost. Then nothing is kept, and where the cap's hash is known the
 * daemon is asked for it before all of it is sent again; publishing it again is success. What is
 * lost again without the daemon having more than the last time counts as an attempt, as does not
 * reaching it; after ATTEMPTS of them in a row the call fails with what went wrong last. A refusal
 * ends it at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"

/* What is not longer is sent again in the time that asking takes. */
#define RESUME_MIN (UINT64_C(1) << 20)

/* The attempts, and what each waits for first, in ms: a lost connection is as a rule there again at
 * once, and a daemon that restarts after some seconds. */
static const unsigned waits_ms[] = {20, 250, 1000, 3000, 8000};
#define ATTEMPTS (sizeof(waits_ms) / sizeof(waits_ms[0]))

/* How long one wait is: then the caller's function may say to stop. */
#define STEP_MS 100u

bool client_resumes(const struct capstore *store)
{
    return (store->features & PROTO_FEATURE_RESUME) != 0;
}

enum cap_error client_prepare_upload(struct capstore *store, uint64_t len)
{
    if (store->no_resume || len <= RESUME_MIN || store->address == NULL || store->pending > 0 ||
        (store->asked & PROTO_FEATURE_RESUME) != 0) {
        return CAP_OK;
    }
    store->asked |= PROTO_FEATURE_KEEP | PROTO_FEATURE_RESUME;
    return client_connect_again(store);
}

void client_name_upload(const struct capstore *store, uint64_t len,
                        uint8_t ret_token[PROTO_TOKEN_SIZE])
{
    if (client_resumes(store) && store->address != NULL && len > RESUME_MIN &&
        getrandom(ret_token, PROTO_TOKEN_SIZE, 0) != (ssize_t)PROTO_TOKEN_SIZE) {
        memset(ret_token, 0, PROTO_TOKEN_SIZE); /* it goes without a name */
    }
}

/* ---- its message ---- */

/* At the end of the message stand token and offset. */
#define TAIL (PROTO_TOKEN_SIZE + sizeof(uint64_t))

struct again {
    uint8_t message[PROTO_UPLOAD_MAX];
    size_t len; /* 0: the upload has no name */
};

static const uint8_t *token_of(const struct again *again)
{
    return again->message + again->len - TAIL;
}

/* Keeps the message, which is gone once it is sent. */
static void keep_message(const struct capstore_request *request, struct again *again)
{
    static const uint8_t none[PROTO_TOKEN_SIZE];
    *again = (struct again){.len = 0};
    if (client_resumes(request->store) && request->payload.len <= sizeof(again->message)) {
        memcpy(again->message, request->payload.data, request->payload.len);
        again->len = request->payload.len;
        again->len = memcmp(token_of(again), none, sizeof(none)) == 0 ? 0 : again->len;
    }
}

/* Makes the request as new, with the rest of its body from `offset` on. */
static enum cap_error rearm(struct capstore_request *request, struct again *again, uint64_t offset)
{
    cap_store64(again->message + again->len - sizeof(uint64_t), offset);
    cap_buf_free(&request->payload);
    cap_buf_free(&request->detail);
    request->id = 0;
    request->ended = false;
    request->error = CAP_OK;
    request->message[0] = '\0';
    request->unresolved = (struct cap_ssz_list){0};
    request->shortage = (struct proto_shortage){0};
    request->sent = request->resumed = offset;
    return cap_buf_append(&request->payload, again->message, again->len);
}

/* ---- going on ---- */

/* Whether another connection may help. */
static bool is_lost(enum cap_error error)
{
    return error == CAP_E_CONNECTION_LOST || error == CAP_E_CONNECT || error == CAP_E_TIMED_OUT ||
           error == CAP_E_PROGRESS_TIMEOUT || error == CAP_E_TOO_MANY_CONNECTIONS ||
           error == CAP_E_DRAINING || error == CAP_E_RESUME_OFFSET;
}

/* CAP_E_CANCELLED when the caller's function says to stop. */
static enum cap_error pause_for(struct capstore_request *request, unsigned ms)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && ms > 0) {
        unsigned step = ms < STEP_MS ? ms : STEP_MS;
        client_sleep_ms(step);
        ms -= step;
        error = client_report(request, true, request->sent, request->source.len);
    }
    return error;
}

/* Asks how much is kept. */
static enum cap_error ask(struct capstore *store, const struct again *again,
                          struct proto_resume_reply *ret_reply)
{
    struct proto_resume message;
    struct cap_buf payload = {0};
    struct capstore_request *request = NULL;
    memcpy(message.token, token_of(again), sizeof(message.token));
    enum cap_error error = proto_resume_encode(&message, &payload);
    error = client_request_new(store, PROTO_RESUME, error, &payload, &request);
    if (error != CAP_OK) {
        return error;
    }
    error = client_run(request);
    if (error == CAP_OK &&
        proto_resume_reply_decode(cap_buf_bytes(&request->body), ret_reply) != CAP_OK) {
        error = client_say(store, CAP_E_BAD_REPLY, "the daemon's answer does not decode");
    }
    client_request_free(request);
    return error;
}

/* Whether the cap that was sent is published, and for how long it is promised to stay. */
static enum cap_error look(struct capstore_request *request, bool *ret_there)
{
    struct capstore_put_result *put = &request->answer.put;
    struct capstore_kept kept = {0};
    if (request->type != PROTO_PUT_CAP || !request->ended) {
        return CAP_OK;
    }
    enum cap_error error =
        client_keep(request->store, &put->cap_hash, 1, request->store->keep_s, &kept);
    if (error == CAP_OK && kept.kind != 0 && kept.kept_s > 0) {
        put->kept_s = kept.kept_s;
        *ret_there = true;
    }
    return error;
}

/* Connects, and makes the request ready for what the daemon lacks; *ret_there: it lacks nothing. */
static enum cap_error go_on(struct capstore_request *request, struct again *again, bool *ret_there)
{
    struct capstore *store = request->store;
    struct proto_resume_reply kept = {0};
    enum cap_error error = client_connect_again(store);
    if (error == CAP_OK && !client_resumes(store)) {
        return client_say(store, CAP_E_CONNECTION_LOST,
                          "the daemon does not let uploads go on any more");
    }
    if (error == CAP_OK) {
        error = ask(store, again, &kept);
    }
    if (error == CAP_OK && kept.offset > 0 && kept.total_len != request->source.len) {
        return client_say(store, CAP_E_BAD_REPLY, "the daemon's answer does not make sense");
    }
    if (error == CAP_OK && kept.offset == 0) {
        error = look(request, ret_there);
    }
    if (error != CAP_OK || *ret_there) {
        return error;
    }
    error = rearm(request, again, kept.offset);
    return error == CAP_OK ? client_report(request, true, kept.offset, request->source.len) : error;
}

/* Says what went wrong last, and how far the upload came. */
static enum cap_error give_up(struct capstore *store, enum cap_error error, uint64_t offset)
{
    char last[CAPSTORE_MESSAGE_SIZE];
    snprintf(last, sizeof(last), "%s",
             store->message[0] == '\0' ? cap_error_text(error) : store->message);
    client_forget(store);
    return client_say(store, error,
                      "%.120s (the upload was at %llu bytes; %u attempts to go on have failed)",
                      last, (unsigned long long)offset, (unsigned)ATTEMPTS);
}

enum cap_error client_call_upload(enum cap_error made, struct capstore_request *request,
                                  struct capstore_answer *ret_answer)
{
    if (made != CAP_OK) {
        return made;
    }
    struct capstore *store = request->store;
    struct again again;
    bool there = false;
    size_t attempt = 0;
    uint64_t furthest = 0; /* that the daemon has named */
    keep_message(request, &again);
    request->report = true;
    enum cap_error error = client_run(request);
    while (again.len > 0 && is_lost(error) && attempt < ATTEMPTS) {
        enum cap_error paused = pause_for(request, waits_ms[attempt++]);
        error = paused == CAP_OK ? go_on(request, &again, &there) : paused;
        if (error == CAP_OK && request->resumed > furthest) {
            furthest = request->resumed;
            attempt = 0;
        }
        error = error == CAP_OK && !there ? client_run(request) : error;
    }
    if (error == CAP_OK) {
        *ret_answer = request->answer;
    } else if (again.len > 0 && is_lost(error)) {
        error = give_up(store, error, furthest);
    }
    client_request_free(request);
    return error;
}
