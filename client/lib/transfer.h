/*
 * Requests over HTTP: one GET or HEAD each, through libcurl, with what comes of it.
 *
 * Glossary. A *transfer* is one request and its answer. An answer is *good* if it has what was
 * asked for (status 200, or 206 for a range); any other is a *refusal*, whose body is read only for
 * the error that it names.
 *
 * Nothing here may use more than bounded memory, whatever a server sends: bytes are passed on as
 * they come, and not taken from the socket while `full` is set.
 *
 * One thread, the translator's.
 */
#ifndef CLIENT_LIB_TRANSFER_H
#define CLIENT_LIB_TRANSFER_H

#include <curl/curl.h>

#include "client/lib/http_head.h"
#include "client/lib/list.h"

#define CLIENT_URL_MAX ((size_t)16 << 10) /* of the longest request: 256 ranges of pages */

struct client_transfer;

/* What its maker does with it. None of these may end the transfer otherwise than by what they
 * return, but for `ended`. */
struct client_transfer_calls {
    /* The answer is good; called once, before the first byte. An error ends the transfer. */
    enum cap_error (*begun)(struct client_transfer *transfer);
    /* Bytes of a good answer. An error ends the transfer, and so does *ret_enough, with success. */
    enum cap_error (*take)(struct client_transfer *transfer, struct cap_bytes bytes,
                           bool *ret_enough);
    /* The last call; the transfer is released after it. `error` is CAP_OK when all of a good answer
     * has come, or enough of it; else client_transfer.message says why not. */
    void (*ended)(struct client_transfer *transfer, enum cap_error error);
};

struct client_transfer {
    struct client_link link;
    struct client_transfers *all;
    const struct client_transfer_calls *calls;
    void *ctx; /* its maker's */
    CURL *easy;
    long status;     /* of the answer at hand; 0: none has come */
    bool has_length; /* Content-Length */
    uint64_t length;
    struct client_http_head head;
    size_t head_len; /* bytes of all headers */
    bool answered;   /* something that speaks HTTP has answered completely, whatever it said */
    bool begun;
    bool enough;
    bool paused;
    enum cap_error error;            /* why the maker, or the bounds here, ended it */
    char message[PROTO_TEXT_MAX];    /* empty: what the error means in general */
    struct cap_buf refusal;          /* the beginning of its body */
    char shown[300];                 /* the URL, for messages */
    char curl_says[CURL_ERROR_SIZE]; /* libcurl writes here when it fails */
};

/* Those of one thread. */
struct client_transfers {
    CURLM *multi; /* borrowed */
    char agent[PROTO_AGENT_MAX + 1];
    uint32_t timeout_ms;
    bool full; /* set by the owner: nothing is taken from a socket meanwhile */
    struct client_link list;
};

/* Makes an empty set. */
void client_transfers_init(struct client_transfers *all, CURLM *multi, const char *agent,
                           uint32_t timeout_ms);

/*
 * Begins a request. `range` is what follows "bytes=" in the header, or NULL for all; `head` asks
 * for no body. CAP_E_NO_MEMORY.
 */
enum cap_error client_transfer_start(struct client_transfers *all, const char *url,
                                     const char *range, bool head,
                                     const struct client_transfer_calls *calls, void *ctx,
                                     struct client_transfer **ret_transfer);

/* Gives a transfer up: no further call, and it is released. Not inside a call of a transfer. */
void client_transfer_drop(struct client_transfer *transfer);

/* Sets the message of an error, with the URL in front, unless there is one. Returns the error. */
enum cap_error client_transfer_say(struct client_transfer *transfer, enum cap_error error,
                                   const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Ends those that libcurl is done with. To be called after curl_multi_perform. */
void client_transfers_collect(struct client_transfers *all);

/* Goes on with those that waited while `full` was set. */
void client_transfers_resume(struct client_transfers *all);

#endif
