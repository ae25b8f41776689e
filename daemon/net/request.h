/*
 * A request: what a client asked and has not been answered in full.
 *
 * Each kind of request embeds this struct and brings a table of what to do with it. It belongs to a
 * session from session_pending to its answer (request_answer, request_refuse or request_end in
 * session.h); when the connection goes first, `detach` is called. After either `session` is NULL:
 * the maker frees the request as soon as no thread works for it. Loop thread only.
 */
#ifndef DAEMON_NET_REQUEST_H
#define DAEMON_NET_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/cap/bytes.h"

struct request;
struct session;
struct shard;

struct request_class {
    /* A piece of the body that follows the request. NULL: none follows. */
    void (*body)(struct request *request, struct cap_bytes piece, bool end);
    /* The client gives it up: sends its one answer, now or as soon as may be. */
    void (*cancel)(struct request *request);
    /* The connection is gone: request->session is NULL already; nothing may be sent. */
    void (*detach)(struct request *request);
    /* A turn of input is over. NULL: nothing to do. */
    void (*turn)(struct request *request);
    /* How many bytes of its body it can take now. NULL: any number. */
    size_t (*room)(struct request *request);
    /*
     * About ten times a second: `now` is monotonic; `paused` when the session cannot be read from,
     * because the daemon is the slow side. NULL: nothing to do.
     */
    void (*tick)(struct request *request, uint64_t now, bool paused);
};

/* The maker sets class, size, id, type and body_open, net the rest. */
struct request {
    const struct request_class *class;
    size_t size; /* of the whole request; counted as memory of its session while it is there */
    struct shard *shard;
    struct session *session; /* NULL: answered, or the connection is gone */
    struct request *next;    /* of the session */
    uint32_t id;
    uint8_t type;   /* enum proto_type */
    bool body_open; /* a body follows and has not been ended; net keeps it up to date */
    uint64_t started_us;
    uint64_t moved_us; /* when its body last moved */
};

#endif
