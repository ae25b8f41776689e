/*
 * Answers.
 *
 * A stream's block is memory that a client holds for as long as it reads, so it is taken from the
 * ledger, and given back when the answer has ended. What is not well is logged once, here.
 */
#include "daemon/http/answer.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/value.h"
#include "daemon/http/html.h"

#define YEAR   "public, max-age=31536000, immutable"
#define MOMENT "public, max-age=10" /* as long as a person may wait for what was just published */
#define RESTRICTION                                                                                \
    "default-src 'none'; style-src " HTML_STYLE_SOURCE "; form-action 'self'; base-uri 'none'; "   \
    "frame-ancestors 'none'"

void http_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (response != NULL) {
        (void)MHD_add_response_header(response, name, value);
    }
}

void http_tag_format(const struct cap_hash *hash, char ret_tag[HTTP_TAG_SIZE])
{
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    snprintf(ret_tag, HTTP_TAG_SIZE, "\"%s\"", hex);
}

const char *http_hash_read(const char *at, struct cap_hash *ret_hash)
{
    char hex[CAP_HASH_HEX_SIZE] = "";
    if (strspn(at, "0123456789abcdef") != CAP_HASH_HEX_SIZE - 1) {
        return NULL;
    }
    memcpy(hex, at, CAP_HASH_HEX_SIZE - 1);
    return cap_hash_parse(hex, ret_hash) == CAP_OK ? at + CAP_HASH_HEX_SIZE - 1 : NULL;
}

void http_headers(struct MHD_Response *response, enum http_cache cache, const struct cap_hash *hash)
{
    switch (cache) {
    case HTTP_CACHE_NEVER:
        http_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        break;
    case HTTP_CACHE_BRIEFLY:
        http_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, MOMENT);
        break;
    case HTTP_CACHE_FOREVER:
        http_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, YEAR);
        break;
    }
    if (hash != NULL) {
        char tag[HTTP_TAG_SIZE];
        http_tag_format(hash, tag);
        http_header(response, MHD_HTTP_HEADER_ETAG, tag);
    }
    http_header(response, "X-Content-Type-Options", "nosniff");
    http_header(response, "Content-Security-Policy", RESTRICTION);
    http_header(response, "Referrer-Policy", "no-referrer");
}

const char *http_header_of(const struct http_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

const char *http_argument_of(const struct http_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool http_has_argument(const struct http_call *call, const char *name)
{
    return MHD_lookup_connection_value_n(call->connection, MHD_GET_ARGUMENT_KIND, name,
                                         strlen(name), NULL, NULL) == MHD_YES;
}

bool http_is_known(const struct http_call *call, const struct cap_hash *hash)
{
    const char *known = http_header_of(call, MHD_HTTP_HEADER_IF_NONE_MATCH);
    char tag[HTTP_TAG_SIZE];
    http_tag_format(hash, tag);
    return known != NULL && (strcmp(known, "*") == 0 || strstr(known, tag) != NULL);
}

/* --- Sending -------------------------------------------------------------------------------- */

/* Whose answer it is: a daemon whose upstream is behind proxies learns from it that it asks itself.
 */
static void say_store(const struct http_call *call, struct MHD_Response *response)
{
    char hex[2 * CAP_STORE_ID_SIZE + 1];
    cap_hex_format((struct cap_bytes){cap_store_id(call->http->context->store), CAP_STORE_ID_SIZE},
                   hex);
    http_header(response, "Capstore-Store", hex);
}

static enum MHD_Result queue(const struct http_call *call, unsigned status,
                             struct MHD_Response *response)
{
    if (response == NULL) {
        return MHD_NO; /* there is no memory even to say so */
    }
    call->http->context->http.requests++;
    if (status >= MHD_HTTP_BAD_REQUEST) {
        call->http->context->http.errors++;
    }
    if (strncmp(call->path, "/caps/", 6) == 0 || strncmp(call->path, "/closures/", 10) == 0) {
        /* Scripts of any page may read what proves itself, and no figures. */
        http_header(response, "Access-Control-Allow-Origin", "*");
        http_header(response, "Access-Control-Expose-Headers",
                    "Accept-Ranges, Content-Range, ETag");
    }
    say_store(call, response);
    if (call->http->context->phase != PHASE_RUNNING) {
        http_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    enum MHD_Result result = MHD_queue_response(call->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result http_send(const struct http_call *call, unsigned status,
                          struct MHD_Response *response, uint64_t memory)
{
    struct ledger *ledger = call->http->context->ledger;
    struct http_client *client = call->client;
    if (response == NULL) {
        return http_answer_error(call, CAP_E_NO_MEMORY, NULL);
    }
    if (!ledger_memory_hold(ledger, client->account, &client->memory, memory)) {
        char why[LEDGER_WHY_SIZE];
        ledger_why(ledger, client->account, LEDGER_MEMORY, memory, why);
        MHD_destroy_response(response);
        return http_answer_error(call, CAP_E_MEMORY_LIMIT, why);
    }
    return queue(call, status, response);
}

struct MHD_Response *http_response_empty(void)
{
    return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
}

enum MHD_Result http_answer_text(const struct http_call *call, unsigned status, const char *type,
                                 struct cap_buf *text, enum http_cache cache,
                                 const struct cap_hash *hash)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(text->len, text->data, MHD_RESPMEM_MUST_FREE);
    if (response != NULL) {
        call->http->context->http.bytes += text->len;
        *text = (struct cap_buf){0};
    }
    cap_buf_free(text);
    http_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    http_headers(response, cache, hash);
    return queue(call, status, response);
}

/* --- Streams -------------------------------------------------------------------------------- */

static ssize_t on_block(void *cls, uint64_t at, char *dst, size_t room)
{
    struct http_stream *stream = cls;
    size_t len = 0;
    enum cap_error error = stream->read(stream, at, (uint8_t *)dst, room, &len);
    if (error != CAP_OK) {
        if (error == CAP_E_CORRUPT || error == CAP_E_IO) {
            context_store_fault(stream->http->context, error, "an answer over HTTP was given up");
        }
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    stream->client->given += len;
    stream->http->context->http.bytes += len;
    return len > 0 ? (ssize_t)len : MHD_CONTENT_READER_END_OF_STREAM;
}

static void on_free(void *cls)
{
    struct http_stream *stream = cls;
    stream->free(stream);
}

struct MHD_Response *http_response_stream(const struct http_call *call, struct http_stream *stream,
                                          uint64_t size)
{
    stream->http = call->http;
    stream->client = call->client;
    struct MHD_Response *response = MHD_create_response_from_callback(
        size == UINT64_MAX ? MHD_SIZE_UNKNOWN : size, HTTP_BLOCK, on_block, stream, on_free);
    if (response == NULL) {
        stream->free(stream);
    }
    return response;
}

/* --- Errors --------------------------------------------------------------------------------- */

/* What is wrong with the request is a status of 400 or more, what is wrong here one of 500 or more.
 */
static unsigned status_of(enum cap_error error, enum http_cache *ret_cache)
{
    unsigned status = MHD_HTTP_SERVICE_UNAVAILABLE;
    *ret_cache = HTTP_CACHE_NEVER;
    if (error == CAP_E_NOT_FOUND || error == CAP_E_FORBIDDEN_CAP) {
        status = error == CAP_E_NOT_FOUND ? MHD_HTTP_NOT_FOUND : MHD_HTTP_GONE;
        *ret_cache = HTTP_CACHE_BRIEFLY;
    } else if (error == CAP_E_INVALID_ARGUMENT || error == CAP_E_RANGE_OUT_OF_BODY) {
        status = MHD_HTTP_BAD_REQUEST;
    } else if (error == CAP_E_NOT_SUPPORTED || error == CAP_E_STRUCTURE_TOO_LARGE) {
        status = MHD_HTTP_NOT_IMPLEMENTED;
    } else if (error == CAP_E_UPSTREAM_AWAY) {
        status = MHD_HTTP_GATEWAY_TIMEOUT;
    } else if (error == CAP_E_UPSTREAM_BROKEN) {
        status = MHD_HTTP_BAD_GATEWAY;
    } else if (error == CAP_E_CORRUPT || error == CAP_E_IO || error == CAP_E_INTERNAL) {
        status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    return status;
}

static enum MHD_Result answer(const struct http_call *call, unsigned status, enum http_cache cache,
                              enum cap_error error, const char *message)
{
    json_t *object = json_pack("{s:s, s:o}", "error", cap_error_name(error), "message",
                               admin_value_text(message != NULL ? message : cap_error_text(error)));
    char *dump = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(object);
    if (dump == NULL) {
        return MHD_NO;
    }
    struct cap_buf text = {.data = (uint8_t *)dump, .len = strlen(dump)};
    return http_answer_text(call, status, "application/json", &text, cache, NULL);
}

enum MHD_Result http_answer_error(const struct http_call *call, enum cap_error error,
                                  const char *message)
{
    enum http_cache cache;
    unsigned status = status_of(error, &cache);
    if (error == CAP_E_CORRUPT || error == CAP_E_IO) {
        context_store_fault(call->http->context, error, "a cap cannot be read for HTTP");
    }
    return answer(call, status, cache, error, message);
}

enum MHD_Result http_answer_refusal(const struct http_call *call, unsigned status,
                                    enum cap_error error, const char *message)
{
    return answer(call, status,
                  status == MHD_HTTP_NOT_FOUND || status == MHD_HTTP_GONE ? HTTP_CACHE_BRIEFLY
                                                                          : HTTP_CACHE_NEVER,
                  error, message);
}
