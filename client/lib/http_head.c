#include "client/lib/http_head.h"

#include <strings.h>

#define ERROR_CODES 256u /* of the wire, more than there are (lib/cap/error.h) */

/* ---- headers ---- */

/* The value of a header of that name (with its colon), or NULL; *ret_end is behind it. */
static const char *value_of(struct cap_bytes line, const char *name, const char **ret_end)
{
    const char *at = (const char *)line.data;
    const char *end = at + line.len;
    size_t len = strlen(name);
    if (line.len < len || strncasecmp(at, name, len) != 0) {
        return NULL;
    }
    at += len;
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    while (end > at && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *ret_end = end;
    return at;
}

/* Decimal digits that end before `end`; NULL: there are none, or they say too much. */
static const char *read_number(const char *at, const char *end, uint64_t *ret_number)
{
    uint64_t number = 0;
    const char *begin = at;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return NULL;
        }
        number = number * 10 + digit;
    }
    *ret_number = number;
    return at > begin ? at : NULL;
}

static const char *skip(const char *at, const char *end, char c)
{
    return at != NULL && at < end && *at == c ? at + 1 : NULL;
}

/* "bytes 0-99/1000", or "bytes" and an asterisk in the place of the range. */
static void take_range(struct client_http_head *head, const char *at, const char *end)
{
    uint64_t first = 0;
    uint64_t last = 0;
    uint64_t total = 0;
    if (end - at < 6 || strncasecmp(at, "bytes ", 6) != 0) {
        return;
    }
    at += 6;
    bool none = at < end && *at == '*';
    if (none) {
        at++;
    } else {
        at = read_number(at, end, &first);
        at = skip(at, end, '-');
        at = at != NULL ? read_number(at, end, &last) : NULL;
    }
    at = skip(at, end, '/');
    at = at != NULL ? read_number(at, end, &total) : NULL;
    if (at != end || (!none && (first > last || last >= total))) {
        return;
    }
    head->has_total = true;
    head->total = total;
    head->has_range = !none;
    head->first = first;
    head->last = last;
}

static void take_store(struct client_http_head *head, const char *at, const char *end)
{
    struct cap_buf id = {0};
    if ((size_t)(end - at) == (size_t)2 * PROTO_STORE_ID_SIZE &&
        cap_hex_parse(at, (size_t)(end - at), &id) == CAP_OK) {
        memcpy(head->store_id, id.data, sizeof(head->store_id));
        head->has_store = true;
    }
    cap_buf_free(&id);
}

void client_http_head_take(struct client_http_head *head, struct cap_bytes line)
{
    const char *end;
    const char *at;
    if (line.len >= 5 && memcmp(line.data, "HTTP/", 5) == 0) {
        *head = (struct client_http_head){0};
    } else if ((at = value_of(line, "Content-Range:", &end)) != NULL) {
        head->has_range = head->has_total = false; /* of several none counts but the last */
        take_range(head, at, end);
    } else if ((at = value_of(line, "Capstore-Store:", &end)) != NULL) {
        take_store(head, at, end);
    }
}

/* ---- refusals ---- */

/* Whether a daemon says it of a request, of those that HTTP can make. */
static bool is_said(enum cap_error error)
{
    switch ((int)error) {
    case CAP_OK:
    case CAP_E_BAD_FRAME: /* these five end a connection of the protocol */
    case CAP_E_UNSUPPORTED_VERSION:
    case CAP_E_FRAME_TOO_LARGE:
    case CAP_E_MESSAGE_TOO_LARGE:
    case CAP_E_ID_IN_USE:
    case CAP_E_CONNECT: /* and these are a client's own */
    case CAP_E_CONNECTION_LOST:
    case CAP_E_BAD_REPLY:
    case CAP_E_TIMED_OUT:
    case CAP_E_CANCELLED:
        return false;
    default:
        return true;
    }
}

/* The error of that name, or CAP_OK. */
static enum cap_error error_named(const char *name, size_t len)
{
    for (unsigned code = 1; code < ERROR_CODES; code++) {
        enum cap_error error = cap_error_from_code(code);
        const char *known = cap_error_name(error);
        if (strlen(known) == len && memcmp(known, name, len) == 0) {
            return is_said(error) ? error : CAP_OK;
        }
    }
    return CAP_OK;
}

/* Copies a JSON string whose first quote has been passed; escapes of what is not printable ASCII
 * become '?'. */
static void take_text(const char *at, const char *end, char ret_text[CLIENT_REFUSAL_TEXT])
{
    size_t len = 0;
    while (at < end && *at != '"' && len + 1 < CLIENT_REFUSAL_TEXT) {
        char c = *at++;
        if (c == '\\' && at < end) {
            c = *at++;
            if (c == 'u') {
                at = end - at > 4 ? at + 4 : end;
                c = '?';
            } else if (c != '"' && c != '\\' && c != '/') {
                c = ' '; /* a line break or the like */
            }
        }
        ret_text[len++] = (char)(c >= ' ' && c <= '~' ? c : '?');
    }
    ret_text[len] = '\0';
}

struct client_http_refusal client_http_refusal_read(struct cap_bytes body)
{
    static const char before[] = "{\"error\":\"";
    static const char between[] = "\",\"message\":\"";
    struct client_http_refusal refusal = {.error = CAP_OK};
    if (body.len < sizeof(before) - 1 || memcmp(body.data, before, sizeof(before) - 1) != 0) {
        return refusal;
    }
    const char *end = (const char *)body.data + body.len;
    const char *at = (const char *)body.data + sizeof(before) - 1;
    const char *quote = memchr(at, '"', (size_t)(end - at));
    if (quote == NULL) {
        return refusal;
    }
    refusal.error = error_named(at, (size_t)(quote - at));
    if ((size_t)(end - quote) > sizeof(between) - 1 &&
        memcmp(quote, between, sizeof(between) - 1) == 0) {
        take_text(quote + sizeof(between) - 1, end, refusal.text);
    }
    return refusal;
}
