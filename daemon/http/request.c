#include "daemon/http/request.h"

#include "daemon/http/caps.h"
#include "daemon/http/closure.h"
#include "daemon/http/health.h"
#include "daemon/http/info.h"
#include "daemon/http/page.h"
#include "daemon/http/slice.h"

#define METHODS "GET, HEAD, OPTIONS"

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

/* The hash that a path goes on with, and what follows it; NULL: it is none. One cap has one URL. */
static const char *read_hash(const char *at, struct cap_hash *ret_hash)
{
    char hex[CAP_HASH_HEX_SIZE] = "";
    if (strspn(at, "0123456789abcdef") != CAP_HASH_HEX_SIZE - 1) {
        return NULL;
    }
    memcpy(hex, at, CAP_HASH_HEX_SIZE - 1);
    return cap_hash_parse(hex, ret_hash) == CAP_OK ? at + CAP_HASH_HEX_SIZE - 1 : NULL;
}

/* A path that begins as one of a cap does. */
static enum MHD_Result answer_cap(const struct http_call *call, const char *before)
{
    struct cap_hash hash;
    const char *behind = read_hash(call->path + strlen(before), &hash);
    if (behind == NULL) {
        return http_answer_refusal(call, MHD_HTTP_BAD_REQUEST, CAP_E_INVALID_ARGUMENT,
                                   "a cap is named by the 64 lower-case hex digits of its hash");
    }
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        if (strcmp(before, views[i].before) == 0 && strcmp(behind, views[i].behind) == 0) {
            return views[i].answer(call, &hash);
        }
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
    if (!ledger_may_request(ledger, call->client->account)) {
        char why[LEDGER_WHY_SIZE];
        ledger_why(ledger, call->client->account, LEDGER_REQUESTS, 1, why);
        return http_answer_error(call, CAP_E_TOO_MANY_REQUESTS, why);
    }
    return answer_path(call);
}
