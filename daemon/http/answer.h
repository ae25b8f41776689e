/*
 * Answers: headers, errors and what becomes of libmicrohttpd's responses. A thread of
 * libmicrohttpd's.
 */
#ifndef DAEMON_HTTP_ANSWER_H
#define DAEMON_HTTP_ANSWER_H

#include "daemon/http/life.h"

/* A request while it is answered. */
struct http_call {
    struct http *http;
    struct http_thread *thread;
    struct http_client *client;
    struct MHD_Connection *connection;
    const char *path;
};

/* For how long a cache may keep an answer. */
enum http_cache {
    HTTP_CACHE_NEVER,   /* figures, pages, trouble */
    HTTP_CACHE_BRIEFLY, /* what is not there may come */
    HTTP_CACHE_FOREVER, /* what a hash names */
};

/* A body that is made while it is sent; the maker's struct begins with it. */
struct http_stream {
    /*
     * Up to `room` bytes (HTTP_BLOCK or less, not 0) from `at` on, which is where the last ended;
     * 0 bytes with CAP_OK: that was all. After an error the connection is closed, so that nobody
     * takes what there is for the whole.
     */
    enum cap_error (*read)(struct http_stream *stream, uint64_t at, uint8_t *dst, size_t room,
                           size_t *ret_len);
    void (*free)(struct http_stream *stream);

    struct http *http; /* set by http_response_stream, as the next */
    struct http_client *client;
};

/*
 * http_answer_... and http_send answer a call once, and return what the handler returns to
 * libmicrohttpd: MHD_NO closes the connection.
 */

/* An error as JSON, with the status that it has in HTTP. `message` NULL: what it means in general.
 */
enum MHD_Result http_answer_error(const struct http_call *call, enum cap_error error,
                                  const char *message);

/* The same with another status. */
enum MHD_Result http_answer_refusal(const struct http_call *call, unsigned status,
                                    enum cap_error error, const char *message);

/* A text, which is taken over and left empty. `hash` is its ETag, or NULL. */
enum MHD_Result http_answer_text(const struct http_call *call, unsigned status, const char *type,
                                 struct cap_buf *text, enum http_cache cache,
                                 const struct cap_hash *hash);

/* An answer without a body. */
struct MHD_Response *http_response_empty(void);

/*
 * A response whose body comes from a stream, which is taken over in any case. `size` UINT64_MAX: in
 * chunks, until it ends. NULL: there is no memory.
 */
struct MHD_Response *http_response_stream(const struct http_call *call, struct http_stream *stream,
                                          uint64_t size);

/* Adds a header; on a NULL response it does nothing. */
void http_header(struct MHD_Response *response, const char *name, const char *value);

/* Adds what every answer has: how long it may be kept, what a browser may do with it, its ETag. */
void http_headers(struct MHD_Response *response, enum http_cache cache,
                  const struct cap_hash *hash);

/*
 * Sends a response, which is taken over; NULL: that there is no memory. `memory` is what it takes
 * until it is sent; where that cannot be had of the ledger, says so instead.
 */
enum MHD_Result http_send(const struct http_call *call, unsigned status,
                          struct MHD_Response *response, uint64_t memory);

/* What this hash names as an ETag, in quotes. */
#define HTTP_TAG_SIZE (CAP_HASH_HEX_SIZE + 2)
void http_tag_format(const struct cap_hash *hash, char ret_tag[HTTP_TAG_SIZE]);

/* Reads a hash, in lower case: one cap has one URL. Returns where it ends, NULL when it is none. */
const char *http_hash_read(const char *at, struct cap_hash *ret_hash);

/* Whether the client has what this hash names already (If-None-Match). */
bool http_is_known(const struct http_call *call, const struct cap_hash *hash);

/* The value of a header, or of an argument of the query; NULL: there is none. */
const char *http_header_of(const struct http_call *call, const char *name);
const char *http_argument_of(const struct http_call *call, const char *name);

/* Whether the query has an argument, with a value or without. */
bool http_has_argument(const struct http_call *call, const char *name);

#endif
