/*
 * JSON-RPC 2.0 in lines: an incremental reader, requests and replies as bytes. No sockets here.
 *
 * One compact object per line, '\n' at its end; no batches. A reader belongs to the
 * loop's thread; a request is replied to on the thread that has its call.
 */
#ifndef DAEMON_ADMIN_JSONRPC_H
#define DAEMON_ADMIN_JSONRPC_H

#include <jansson.h>

#include "daemon/admin/error.h"
#include "lib/cap/bytes.h"

#define JSONRPC_LINE_MAX  65536u        /* bytes of a request before its '\n' */
#define JSONRPC_DEPTH_MAX 16u           /* objects and arrays inside each other */
#define JSONRPC_REPLY_MAX (1024u << 10) /* bytes of a reply with its '\n' */

/* --- Lines ------------------------------------------------------------------------------------ */

struct jsonrpc_reader; /* opaque; holds at most one line */

enum jsonrpc_event {
    JSONRPC_MORE,     /* all input is used up; no line is complete */
    JSONRPC_LINE,     /* *ret_line is a line, without its '\n' */
    JSONRPC_TOO_LONG, /* a line passed its bound; the rest of it will be skipped */
    JSONRPC_NO_MEMORY,
};

/* A reader of lines of up to `max_line` bytes. NULL without memory. */
struct jsonrpc_reader *jsonrpc_reader_new(size_t max_line);

/* NULL is fine. */
void jsonrpc_reader_free(struct jsonrpc_reader *reader);

/*
 * Takes bytes from the front of *input until something happens, and shortens *input by them.
 * Empty lines are skipped. *ret_line is valid until the next call. A line that never ends costs one
 * JSONRPC_TOO_LONG, at its bound, and no memory after it.
 */
enum jsonrpc_event jsonrpc_reader_feed(struct jsonrpc_reader *reader, struct cap_bytes *input,
                                       struct cap_bytes *ret_line);

/*
 * At the end of all input: the line that lacks only its '\n', if there is one, and only once. As
 * jsonrpc_reader_feed.
 */
bool jsonrpc_reader_rest(struct jsonrpc_reader *reader, struct cap_bytes *ret_line);

/* --- Requests --------------------------------------------------------------------------------- */

/* A decoded request; release with jsonrpc_request_free. */
struct jsonrpc_request {
    json_t *root;       /* owns what follows */
    json_t *id;         /* a string, an integer or null; NULL in a notification */
    const char *method; /* NULL when the request is wrong */
    json_t *params;     /* an object, or NULL */
};

/*
 * Decodes one line. False with *ret_error when it is wrong; then *ret_request carries what the
 * answer needs: its id, where one could be read, else null. Free it in either case. The depth is
 * judged before jansson sees the line.
 */
bool jsonrpc_request_parse(struct cap_bytes line, struct jsonrpc_request *ret_request,
                           struct admin_error *ret_error);

/* Releases what the request holds and leaves it empty. */
void jsonrpc_request_free(struct jsonrpc_request *request);

/* Whether brackets outside of strings nest deeper than `max`. */
bool jsonrpc_too_deep(struct cap_bytes line, unsigned max);

/* --- Replies ---------------------------------------------------------------------------------- */

/*
 * Appends the reply to `id` (NULL: null) as one line: `result`, or `error` when result is NULL.
 * Both are borrowed. A result past JSONRPC_REPLY_MAX becomes the error reply_too_large. On
 * CAP_E_NO_MEMORY `ret_line` is as it was.
 */
enum cap_error jsonrpc_reply(json_t *id, json_t *result, const struct admin_error *error,
                             struct cap_buf *ret_line);

#endif
