/*
 * Connections of HTTP clients: who is there, what each is doing, and for how long it may.
 *
 * Three times bound a client, whatever it sends: `hello-ms` to the end of its first request, and to
 * the end of a request whose first line is there; `idle-ms` from one answer to the next request;
 * `progress-ms` for each HTTP_BLOCK of an answer. So neither a byte every few seconds nor an answer
 * that nobody reads keeps a connection. A request waits for the daemon above as long as
 * `upstream-timeout` says and its client is there.
 *
 * A record lives from http_clients_expect until libmicrohttpd says that the connection is closed.
 */
#ifndef DAEMON_HTTP_CLIENT_H
#define DAEMON_HTTP_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "daemon/core/config.h"
#include "daemon/core/ledger.h"
#include "daemon/core/peer.h"
#include "daemon/http/wait.h"

/* Bytes that are read of the store, and held for a client, at a time: about a chunk of the store.
 */
#define HTTP_BLOCK (64u << 10)

enum http_doing {
    HTTP_ARRIVING,  /* it has made no request yet */
    HTTP_IDLE,      /* between requests */
    HTTP_ASKING,    /* the first line of a request is there */
    HTTP_WAITING,   /* its request waits for the daemon above */
    HTTP_ANSWERING, /* it reads an answer */
};

struct http_client {
    LIST_ENTRY(http_client) link;
    int fd; /* libmicrohttpd's */
    struct peer peer;
    struct ledger_peer *account;

    _Atomic(enum http_doing) doing;
    atomic_uint_fast64_t since_us; /* monotonic */
    atomic_uint_fast64_t given;    /* bytes of the answer that libmicrohttpd was given */

    /* The thread of libmicrohttpd's. */
    bool asked;         /* libmicrohttpd has shown us the request at hand */
    uint64_t memory;    /* held in the ledger for the answer */
    bool requesting;    /* counted in the ledger */
    bool waited;        /* the request at hand has waited, or does */
    uint64_t waited_us; /* monotonic: since when */

    struct http_wait wait; /* begun and ended under the lock of the clients */

    /* The main thread's, while it looks. */
    uint64_t answer_us; /* since_us of the answer that the next two are of */
    uint64_t taken;
    uint64_t moved_us;
    bool cut;
};

/* Those of one thread of libmicrohttpd. */
struct http_clients {
    pthread_mutex_t lock; /* of the lists, and of the fds of `list` against being closed */
    LIST_HEAD(, http_client) list;
    LIST_HEAD(, http_client) unknown; /* those that libmicrohttpd has yet to know */
    atomic_size_t count;
};

/* What a look at the clients' clocks goes by. */
struct http_bounds {
    uint64_t now_us; /* monotonic */
    uint64_t hello_us;
    uint64_t idle_us;
    uint64_t progress_us; /* all three: 0: none */
    uint64_t upstream_us;
    bool draining; /* who is not being answered leaves */
};

/* Nobody. */
void http_clients_init(struct http_clients *clients);

/* Enters a record, of a connection that libmicrohttpd will be given. */
void http_clients_expect(struct http_clients *clients, struct http_client *client);

/*
 * Takes out a record of that fd which libmicrohttpd does not know; NULL: there is none. While the
 * fd is somebody else's, libmicrohttpd has closed it without a word, for want of memory.
 */
struct http_client *http_clients_unknown(struct http_clients *clients, int fd);

/* The record of an fd that libmicrohttpd now knows; NULL: there is none. */
struct http_client *http_clients_begin(struct http_clients *clients, int fd);

/* Takes a record out that libmicrohttpd knew. */
void http_clients_remove(struct http_clients *clients, struct http_client *client);

/* Takes a record out if libmicrohttpd has not come to know it. */
bool http_clients_forget(struct http_clients *clients, const struct http_client *client);

/* Takes out any record that libmicrohttpd has not come to know; NULL: there is none. */
struct http_client *http_clients_take(struct http_clients *clients);

/*
 * Has a client's request wait for the hashes in client->wait, from the daemon above; `since_us` is
 * when it began to. The thread of libmicrohttpd's.
 */
void http_clients_wait(struct http_clients *clients, struct http_client *client,
                       struct fetcher *fetcher, struct MHD_Connection *connection,
                       uint64_t since_us);

/*
 * Shuts the sockets of those whose time is over, which libmicrohttpd then closes, and ends waits
 * that are. Returns how many clients were too slow. The main thread.
 */
uint64_t http_clients_judge(struct http_clients *clients, const struct http_bounds *bounds);

/* Says what a client does from now on. Any thread. */
void http_client_does(struct http_client *client, enum http_doing doing, uint64_t now_us);

#endif
