/*
 * Lines in, lines out.
 *
 * The reader gathers one line in a buffer that grows with the bytes that came, never past its
 * bound; at the bound it reports once and drops what follows up to the newline, so a connection
 * survives its own mistake. jansson accepts thousands of levels, so depth is scanned here first.
 */
#include "daemon/admin/jsonrpc.h"

#include <stdlib.h>

struct jsonrpc_reader {
    struct cap_buf line;
    size_t max_line;
    bool complete; /* the line was handed out and is to be forgotten */
    bool skipping;
};

struct jsonrpc_reader *jsonrpc_reader_new(size_t max_line)
{
    struct jsonrpc_reader *reader = calloc(1, sizeof(*reader));
    if (reader != NULL) {
        reader->max_line = max_line;
    }
    return reader;
}

void jsonrpc_reader_free(struct jsonrpc_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    cap_buf_free(&reader->line);
    free(reader);
}

static void consume(struct cap_bytes *input, size_t len)
{
    *input = cap_bytes_slice(*input, len, input->len - len);
}

static bool is_blank(const struct cap_buf *line)
{
    for (size_t i = 0; i < line->len; i++) {
        if (line->data[i] != ' ' && line->data[i] != '\t' && line->data[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* Takes what belongs to the current line, and its newline if that is there. */
static enum jsonrpc_event take(struct jsonrpc_reader *reader, struct cap_bytes *input)
{
    const uint8_t *newline = memchr(input->data, '\n', input->len);
    size_t len = newline != NULL ? (size_t)(newline - input->data) : input->len;
    size_t used = newline != NULL ? len + 1 : len;
    if (reader->skipping) {
        reader->skipping = newline == NULL;
        consume(input, used);
        return JSONRPC_MORE;
    }
    if (len > reader->max_line - reader->line.len) {
        reader->skipping = newline == NULL;
        cap_buf_free(&reader->line);
        consume(input, used);
        return JSONRPC_TOO_LONG;
    }
    if (cap_buf_append(&reader->line, input->data, len) != CAP_OK) {
        return JSONRPC_NO_MEMORY;
    }
    consume(input, used);
    return newline != NULL ? JSONRPC_LINE : JSONRPC_MORE;
}

enum jsonrpc_event jsonrpc_reader_feed(struct jsonrpc_reader *reader, struct cap_bytes *input,
                                       struct cap_bytes *ret_line)
{
    if (reader->complete) {
        reader->line.len = 0;
    }
    reader->complete = false;
    while (input->len > 0) {
        enum jsonrpc_event event = take(reader, input);
        if (event == JSONRPC_LINE && is_blank(&reader->line)) {
            reader->line.len = 0;
            continue;
        }
        if (event == JSONRPC_MORE) {
            continue;
        }
        if (event == JSONRPC_LINE) {
            reader->complete = true;
            *ret_line = cap_buf_bytes(&reader->line);
        }
        return event;
    }
    return JSONRPC_MORE;
}

bool jsonrpc_reader_rest(struct jsonrpc_reader *reader, struct cap_bytes *ret_line)
{
    if (reader->complete || is_blank(&reader->line)) {
        return false;
    }
    reader->complete = true;
    *ret_line = cap_buf_bytes(&reader->line);
    return true;
}

bool jsonrpc_too_deep(struct cap_bytes line, unsigned max)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < line.len; i++) {
        uint8_t c = line.data[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        if (c == '"') {
            in_string = true;
        } else if ((c == '[' || c == '{') && ++depth > max) {
            return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

/* The one place where jansson's codes become ours. */
static enum admin_reason reason_of(const json_error_t *error)
{
    return json_error_code(error) == json_error_duplicate_key ? ADMIN_DUPLICATE_KEY
                                                              : ADMIN_PARSE_ERROR;
}

static bool is_id(const json_t *id)
{
    return json_is_string(id) || json_is_integer(id) || json_is_null(id);
}

/* Which member makes an object no request; NULL when none does. */
static const char *wrong_member(const json_t *root)
{
    const char *version = json_string_value(json_object_get(root, "jsonrpc"));
    const json_t *id = json_object_get(root, "id");
    if (version == NULL || strcmp(version, "2.0") != 0) {
        return "jsonrpc must be \"2.0\"";
    }
    if (id != NULL && !is_id(id)) {
        return "id must be a string, an integer or null";
    }
    if (!json_is_string(json_object_get(root, "method"))) {
        return "method must be a string";
    }
    return NULL;
}

/* Judges a decoded object; fills in what a wrong one still has for its answer. */
static bool read_request(struct jsonrpc_request *request, struct admin_error *ret_error)
{
    json_t *id = json_object_get(request->root, "id");
    if (is_id(id)) {
        request->id = id;
    }
    const char *wrong = wrong_member(request->root);
    json_t *params = json_object_get(request->root, "params");
    if (wrong != NULL) {
        admin_error_set(ret_error, ADMIN_INVALID_REQUEST);
        snprintf(ret_error->message, sizeof(ret_error->message), "%s", wrong);
        if (request->id == NULL) {
            request->id = json_null();
        }
        return false;
    }
    request->method = json_string_value(json_object_get(request->root, "method"));
    if (params != NULL && !json_is_object(params)) {
        admin_error_set(ret_error, ADMIN_PARAMS_NOT_BY_NAME);
        return false;
    }
    request->params = params;
    return true;
}

bool jsonrpc_request_parse(struct cap_bytes line, struct jsonrpc_request *ret_request,
                           struct admin_error *ret_error)
{
    *ret_request = (struct jsonrpc_request){.id = json_null()};
    if (jsonrpc_too_deep(line, JSONRPC_DEPTH_MAX)) {
        admin_error_set(ret_error, ADMIN_TOO_DEEP);
        return false;
    }
    json_error_t error;
    json_t *root = json_loadb((const char *)line.data, line.len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        enum admin_reason reason = reason_of(&error);
        admin_error_set(ret_error, reason);
        if (reason == ADMIN_PARSE_ERROR) {
            size_t at = error.position > 0 ? (size_t)error.position : 0;
            bool odd =
                at > 0 && at <= line.len && (line.data[at - 1] < ' ' || line.data[at - 1] >= 0x7f);
            snprintf(ret_error->message, sizeof(ret_error->message),
                     "the line is not one JSON object: wrong at byte %d%s", error.position,
                     odd ? ", an invisible character or one outside ASCII" : "");
        }
        return false;
    }
    ret_request->root = root;
    if (!json_is_object(root)) {
        admin_error_set(ret_error, json_is_array(root) ? ADMIN_BATCH : ADMIN_INVALID_REQUEST);
        return false;
    }
    ret_request->id = NULL;
    return read_request(ret_request, ret_error);
}

void jsonrpc_request_free(struct jsonrpc_request *request)
{
    json_decref(request->root);
    *request = (struct jsonrpc_request){0};
}

/* Where a reply is dumped to, with its bound. */
struct sink {
    struct cap_buf *buf;
    size_t end;
    bool too_large;
};

static int dump_piece(const char *data, size_t len, void *ctx)
{
    struct sink *sink = ctx;
    sink->too_large = len > sink->end - sink->buf->len;
    return sink->too_large || cap_buf_append(sink->buf, data, len) != CAP_OK ? -1 : 0;
}

/* Appends the envelope in one line; on failure `buf` is as it was. Steals `envelope`. */
static enum cap_error dump_line(json_t *envelope, struct cap_buf *buf)
{
    if (envelope == NULL) {
        return CAP_E_NO_MEMORY;
    }
    size_t before = buf->len;
    struct sink sink = {.buf = buf, .end = before + JSONRPC_REPLY_MAX - 1};
    int failed = json_dump_callback(envelope, dump_piece, &sink, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(envelope);
    if (!failed && cap_buf_append8(buf, '\n') == CAP_OK) {
        return CAP_OK;
    }
    buf->len = before;
    return sink.too_large ? CAP_E_MESSAGE_TOO_LARGE : CAP_E_NO_MEMORY;
}

static enum cap_error dump_error(json_t *id, const struct admin_error *error, struct cap_buf *buf)
{
    return dump_line(json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id",
                               id != NULL ? id : json_null(), "error", admin_error_json(error)),
                     buf);
}

enum cap_error jsonrpc_reply(json_t *id, json_t *result, const struct admin_error *error,
                             struct cap_buf *ret_line)
{
    if (result == NULL) {
        return dump_error(id, error, ret_line);
    }
    enum cap_error failed = dump_line(json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "id",
                                                id != NULL ? id : json_null(), "result", result),
                                      ret_line);
    if (failed != CAP_E_MESSAGE_TOO_LARGE) {
        return failed;
    }
    struct admin_error too_large;
    admin_error_set(&too_large, ADMIN_REPLY_TOO_LARGE);
    return dump_error(id, &too_large, ret_line);
}
