#include "daemon/http/request.h"

#include <stdio.h>

#include "daemon/http/caps.h"
#include "daemon/http/closure.h"
#include "daemon/http/health.h"
#include "daemon/http/info.h"
#include "daemon/http/page.h"
#include "daemon/http/slice.h"
#include "daemon/serve/lack.h"

#define METHODS    "GET, HEAD, OPTIONS"
#define WALK_STEPS 4096u /* of a walk, in one snapshot: milliseconds */

/* What stands at a path. */
struct resource {
    const char *path;
    enum MHD_Result (*answer)(const struct http_call *call);
};

/* What stands at a path with a hash in it: before the hash, and behind it. */
struct view {
    const char *before;
    const char *behind;
    enum MHD_Result (*answer)(const struct http_call *call, const struct cap_hash *hash);
};

static enum MHD_Result body(const struct http_call *call, const struct cap_hash *hash)
{
    return http_caps_bytes(call, hash, HTTP_FORM_BODY);
}

static enum MHD_Result content(const struct http_call *call, const struct cap_hash *hash)
{
    return http_caps_bytes(call, hash, HTTP_FORM_CONTENT);
}

static const struct resource resources[] = {
    {"/", http_page_home},    {"/find", http_page_find},  {"/healthz", http_healthz},
    {"/readyz", http_readyz}, {"/metrics", http_metrics},
};

static const struct view views[] = {
    {"/caps/", "", body},
    {"/caps/", "/content", content},
    {"/caps/", "/slice", http_slice},
    {"/caps/", "/info", http_info},
    {"/caps/", "/view", http_page_view},
    {"/closures/", "", http_closure},
};

static enum MHD_Result nothing_there(const struct http_call *call)
{
    return http_answer_refusal(call, MHD_HTTP_NOT_FOUND, CAP_E_INVALID_ARGUMENT,
                               "nothing is served at this path; / says what is");
}

/* Finds what is lost of what a cap that is here refers to, as far as there is room in the wait. */
static void find_lost(const struct http_call *call, const struct cap_hash *hash)
{
    const struct context *context = call->http->context;
    struct http_wait *wait = &call->client->wait;
    const struct walk_query query = {
        .roots = {hash->bytes, sizeof(hash->bytes)},
        .max = context->config.closure_max,
    };
    struct walk *walk = NULL;
    bool done = walk_new(context->ledger, call->client->account, &query, &walk) != CAP_OK;
    while (!done) {
        struct cap_read *read = NULL;
        done = cap_store_read_begin(context->store, &read) != CAP_OK ||
               lack_walk(walk, read, WALK_STEPS, wait->hashes, HTTP_WAIT_CAPS, &wait->count);
        cap_store_read_end(read);
    }
    walk_free(walk);
}

/* Finds what a request about a cap has to wait for: the cap, or what is lost of what it refers to.
 */
static void find_absent(const struct http_call *call, const struct cap_hash *hash)
{
    struct http_wait *wait = &call->client->wait;
    struct cap_read *read = NULL;
    wait->count = 0;
    if (cap_store_read_begin(call->http->context->store, &read) != CAP_OK) {
        return; /* who answers meets the same */
    }
    wait->lost = !lack_is_absent(cap_store_find(read, hash, NULL));
    bool whole = lack_is_nothing(read);
    cap_store_read_end(read);
    if (!wait->lost) {
        wait->hashes[wait->count++] = *hash;
    } else if (!whole) {
        find_lost(call, hash);
    }
}

/* Whether a request about a cap has to wait for the daemon above first, which it does then. */
static bool wait_for_cap(const struct http_call *call, const struct cap_hash *hash)
{
    struct context *context = call->http->context;
    struct http_client *client = call->client;
    if (context->fetcher == NULL || (client->waited && client->wait.order.error != CAP_OK)) {
        return false;
    }
    find_absent(call, hash);
    if (client->wait.count == 0) {
        return false;
    }
    if (!client->waited) {
        client->waited = true;
        client->waited_us = env_monotonic_us(context->env);
    }
    context->http.awaited += client->wait.count;
    http_clients_wait(&call->thread->clients, client, context->fetcher, call->connection,
                      client->waited_us);
    return true;
}

/* The fetch that a request has waited for did not say whether the cap is above. */
static bool has_failed(const struct http_client *client)
{
    bool matters = client->waited && !client->wait.lost;
    enum cap_error error = matters ? client->wait.order.error : CAP_OK;
    return error != CAP_OK && error != CAP_E_NOT_FOUND;
}

static enum MHD_Result answer_failed(const struct http_call *call, const struct cap_hash *hash)
{
    char message[REFUSAL_MESSAGE_SIZE];
    char hex[CAP_HASH_HEX_SIZE];
    enum cap_error error = call->client->wait.order.error;
    cap_hash_format(hash, hex);
    snprintf(message, sizeof(message), "%s: fetching it from upstream: %s", hex,
             cap_error_text(error));
    return http_answer_error(call, error, message);
}

/* A path that begins as one of a cap does. */
static enum MHD_Result answer_cap(const struct http_call *call, const char *before)
{
    struct cap_hash hash;
    const char *behind = http_hash_read(call->path + strlen(before), &hash);
    if (behind == NULL) {
        return http_answer_refusal(call, MHD_HTTP_BAD_REQUEST, CAP_E_INVALID_ARGUMENT,
                                   "a cap is named by the 64 lower-case hex digits of its hash");
    }
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        if (strcmp(before, views[i].before) != 0 || strcmp(behind, views[i].behind) != 0) {
            continue;
        }
        if (wait_for_cap(call, &hash)) {
            return MHD_YES;
        }
        return has_failed(call->client) ? answer_failed(call, &hash) : views[i].answer(call, &hash);
    }
    return nothing_there(call);
}

static enum MHD_Result answer_path(const struct http_call *call)
{
    for (size_t i = 0; i < sizeof(resources) / sizeof(resources[0]); i++) {
        if (strcmp(call->path, resources[i].path) == 0) {
            return resources[i].answer(call);
        }
    }
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        if (strncmp(call->path, views[i].before, strlen(views[i].before)) == 0) {
            return answer_cap(call, views[i].before);
        }
    }
    return nothing_there(call);
}

/* What a browser asks before a script of another origin may read with Range or If-None-Match. */
static enum MHD_Result answer_options(const struct http_call *call)
{
    struct MHD_Response *response = http_response_empty();
    http_header(response, MHD_HTTP_HEADER_ALLOW, METHODS);
    http_header(response, "Access-Control-Allow-Methods", METHODS);
    http_header(response, "Access-Control-Allow-Headers", "Range, If-None-Match, If-Range");
    http_header(response, "Access-Control-Max-Age", "86400");
    return http_send(call, MHD_HTTP_NO_CONTENT, response, 0);
}

static enum MHD_Result refuse_method(const struct http_call *call)
{
    struct MHD_Response *response = http_response_empty();
    http_header(response, MHD_HTTP_HEADER_ALLOW, METHODS);
    return http_send(call, MHD_HTTP_METHOD_NOT_ALLOWED, response, 0);
}

enum MHD_Result http_request(const struct http_call *call, const char *method)
{
    struct ledger *ledger = call->http->context->ledger;
    if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0) {
        return answer_options(call);
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return refuse_method(call);
    }
    if (!call->client->waited && !ledger_may_request(ledger, call->client->account)) {
        char why[LEDGER_WHY_SIZE];
        ledger_why(ledger, call->client->account, LEDGER_REQUESTS, 1, why);
        return http_answer_error(call, CAP_E_TOO_MANY_REQUESTS, why);
    }
    return answer_path(call);
}
