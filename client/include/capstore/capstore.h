/*
 * libcapstore: a store of immutable caps, by hash.
 *
 * A `struct capstore` is one connection to one daemon. A call blocks until it is answered, fails,
 * or makes no progress for options.timeout_ms. A call that moves N bytes ends after timeout_ms + N
 * ms at the latest, so that a slow daemon cannot hold its caller indefinitely. Time spent in the
 * caller's callbacks does not count. Resolving a host name follows the system's timeouts instead.
 *
 * Threads: a handle belongs to one thread at a time; concurrent threads open a handle each.
 * Different handles never share state. <capstore/async.h> has many requests in flight on one
 * handle without blocking; a blocking call also runs the callbacks of those.
 *
 * Errors: every call returns an enum capstore_error; capstore_message(store) then says more, in the
 * daemon's words when it was the daemon that refused. Outputs (ret_...) are untouched on failure.
 * After a refusal (not_found, unresolved_slot, any limit), a cancelled call or a body that does not
 * verify, the connection stays usable. When the stream itself is unusable
 * (CAPSTORE_E_CONNECTION_LOST, CAPSTORE_E_TIMED_OUT, CAPSTORE_E_BAD_REPLY and the like) it is
 * closed: capstore_connected says so, and capstore_connect may be called again.
 *
 * Trust: a body is accepted only when its bytes decode strictly and have the hash that was asked
 * for, so that the daemon need not be trusted; options.no_verify switches the hashing off.
 *
 * HTTP: over an address of http:// or https:// the handle reads from capstored's --http, or from
 * any cache, mirror or CDN in front of it, and verifies all the same. Then it has a thread of its
 * own, which speaks HTTP through libcurl, from capstore_connect on until the connection is closed;
 * the call that closes it ends and joins the thread, and waits for nothing else. The thread runs
 * nothing of the caller's and takes no signals; it uses libcurl's connections, 8 at most to one
 * server, and the proxies that the environment names. What writes or keeps, and capstore_map, are
 * CAPSTORE_E_NOT_SUPPORTED. A request that is cut off ends with CAPSTORE_E_CONNECTION_LOST, while
 * the handle stays connected. A child of fork(2) can only close or free such a handle.
 *
 * Memory: bodies grow as their bytes arrive, up to options.max_body; nothing is allocated from a
 * length that a daemon claims.
 *
 *     struct capstore *store;
 *     struct capstore_cap *cap;
 *     if (capstore_new(NULL, &store) != CAPSTORE_OK)
 *         return 1;
 *     if (capstore_connect(store, "unix:/run/capstore/capstore.sock") != CAPSTORE_OK ||
 *         capstore_get(store, &hash, &cap) != CAPSTORE_OK)
 *         fprintf(stderr, "%s\n", capstore_message(store));
 *     capstore_free(store);
 */
#ifndef CAPSTORE_CAPSTORE_H
#define CAPSTORE_CAPSTORE_H

#include <capstore/cap.h>
#include <capstore/map.h>
#include <capstore/publish.h>
#include <capstore/slice.h>
#include <capstore/types.h>
#include <capstore/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAPSTORE_STORE_ID_SIZE 16
#define CAPSTORE_AGENT_MAX     64

/* A connection; opaque. */
struct capstore;

/* How far a transfer has got. */
struct capstore_progress {
    bool upload;
    uint64_t done;    /* bytes of the body so far */
    uint64_t total;   /* bytes of the body */
    uint64_t resumed; /* upload: where it went on after its connection was lost; 0: it has not */
};

/* How a handle behaves. Start from CAPSTORE_OPTIONS_INIT; zero means the default. */
struct capstore_options {
    size_t struct_size; /* sizeof(struct capstore_options), so that later versions may append */
    /* Longest wait without progress; default 30,000. The answer to an upload may take longer by
     * 1 ms for every 2 KiB sent, and for every 256 bytes of an Image before its arena, because the
     * daemon hashes and commits them first. */
    uint32_t timeout_ms;
    bool no_verify;    /* accept bodies without hashing them */
    const char *agent; /* for the daemon's log: printable ASCII, at most CAPSTORE_AGENT_MAX */
    uint64_t max_body; /* longest body to accept, in bytes; default 1 GiB */
    uint64_t max_caps; /* most caps in a closure; default 1,048,576 */
    /* Called while a body is moving, at most once per frame, on the calling thread. Returning
     * false cancels the call: CAPSTORE_E_CANCELLED. */
    bool (*progress)(void *ctx, const struct capstore_progress *progress);
    void *progress_ctx;
    uint64_t max_bodies; /* bytes of all bodies that are arriving at a time, and that a closure
                          * holds; default 1 GiB, at least max_body */
    bool hash_thread;    /* capstore_get hashes a body of 1 MiB or more on a thread that it starts
                          * and ends, while the calling thread receives; it runs nothing of the
                          * caller's and takes no signals */
    bool leases;         /* speak of leases: results of publications say for how long they are kept,
                          * and capstore_keep can be called. capstore_has then asks the store, where
                          * the daemon otherwise answers from memory */
    uint32_t keep_s; /* with `leases`: for how many seconds to keep what is published; 0: as long
                      * as the daemon does by itself. See capstore_set_keep */
    bool no_resume;  /* do not have uploads go on. Else capstore_put_data, capstore_publish and
                      * capstore_put_cap of more than 1 MiB, on a handle that capstore_connect
                      * connected to a daemon which keeps what is cut off, connect again when their
                      * connection is lost, and send what the daemon has not got: the source is then
                      * read again from some offset. They wait up to 8 s in between, and give up
                      * after five attempts without progress. Where the handle has no leases, the
                      * first such call connects anew, to ask for it, unless requests are pending;
                      * capstore_has asks the store from then on. The calls of async.h leave it to
                      * the caller */
};

#define CAPSTORE_OPTIONS_INIT                                                                      \
    {                                                                                              \
        sizeof(struct capstore_options), 0, false, NULL, 0, 0, NULL, NULL, 0, false, false, 0,     \
            false                                                                                  \
    }

/* ---- connection ---- */

/* A handle that is not connected yet. `options` may be NULL; it is copied.
 * CAPSTORE_E_INVALID_ARGUMENT, CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_new(const struct capstore_options *options,
                                 struct capstore **ret_store);

/* Closes and releases a handle. NULL is fine. */
void capstore_free(struct capstore *store);

/*
 * Connects and says hello, after closing an earlier connection. `address` is "unix:PATH",
 * "unix:@NAME" (an abstract socket) or "tcp:HOST:PORT", an IPv6 host in brackets; or, to read over
 * HTTP, "http://HOST[:PORT][/PATH]" or the same with https, where a server that answers anything at
 * all counts as connected. CAPSTORE_E_NOT_SUPPORTED: this build, or the static library, is without
 * HTTP. CAPSTORE_E_INVALID_ARGUMENT, CAPSTORE_E_CONNECT, CAPSTORE_E_TIMED_OUT,
 * CAPSTORE_E_UNSUPPORTED_VERSION, a refusal such as CAPSTORE_E_TOO_MANY_CONNECTIONS.
 */
enum capstore_error capstore_connect(struct capstore *store, const char *address);

/*
 * As capstore_connect, over a stream socket that is connected already. The handle owns `fd` from
 * here on and closes it, also on failure.
 */
enum capstore_error capstore_connect_fd(struct capstore *store, int fd);

/* Closes the connection, if there is one. The handle can connect again. */
void capstore_close(struct capstore *store);

/* Whether the handle has a connection that can be used. */
bool capstore_connected(const struct capstore *store);

/* What went wrong in the last call on this handle, for a person; empty after success. Valid until
 * the next call. */
const char *capstore_message(const struct capstore *store);

/* What the daemon said in its hello. */
struct capstore_daemon_info {
    uint16_t protocol_version;
    uint8_t store_id[CAPSTORE_STORE_ID_SIZE];
    char agent[CAPSTORE_AGENT_MAX + 1]; /* what the daemon calls itself */
    uint32_t max_hashes;                /* per request; capstore_has splits by it */
    uint64_t max_upload;                /* bytes of an upload */
    uint64_t max_structure;             /* bytes of an Image before its arena */
    uint64_t max_data;                  /* bytes that an Image's data windows name */
    uint32_t idle_ms;                   /* a connection silent for longer is closed; 0: never */
};

/* What the daemon said in its hello. CAPSTORE_E_CONNECTION_LOST when not connected. */
enum capstore_error capstore_info(struct capstore *store, struct capstore_daemon_info *ret_info);

/* ---- reading ---- */

/* Which of `count` caps are published: ret_kinds[i] is 0 or an enum capstore_kind. Any count: the
 * question is split by the daemon's limit. */
enum capstore_error capstore_has(struct capstore *store, const struct capstore_hash *hashes,
                                 size_t count, uint8_t *ret_kinds);

/* What capstore_keep says of a cap. */
struct capstore_kept {
    uint8_t kind; /* 0: it is not published; else an enum capstore_kind */
    uint32_t
        kept_s; /* for how many seconds from the answer it is promised to stay; 0: no promise */
};

/*
 * Has those of `count` caps that are published kept for `keep_s` seconds from now, and says until
 * when each is promised to stay: durable when it returns. Less than asked for by an eighth, or
 * bounded by the daemon's configuration; more where more was promised before. `keep_s` 0 only asks.
 * Any count: the question is split by the daemon's limit, and on failure a part of it may have been
 * done. CAPSTORE_E_UNSUPPORTED_REQUEST without options.leases, or when the daemon is too old.
 */
enum capstore_error capstore_keep(struct capstore *store, const struct capstore_hash *hashes,
                                  size_t count, uint32_t keep_s, struct capstore_kept *ret_kept);

/* What the daemon knows of a cap without its body. */
struct capstore_stat_result {
    enum capstore_kind kind;
    uint64_t body_len;
    uint64_t size;                     /* Data: logical bytes. Image: bytes of code */
    uint64_t page_count;               /* Data: pages that are not zero */
    uint64_t ref_count;                /* Image: distinct caps that it names */
    uint64_t published_us;             /* microseconds since 1970, UTC */
    struct capstore_hash content_hash; /* Image: as it was first published; zero for Data */
};

/* What the daemon knows of a cap; over HTTP the members from ref_count on are zero.
 * CAPSTORE_E_NOT_FOUND. */
enum capstore_error capstore_stat(struct capstore *store, const struct capstore_hash *hash,
                                  struct capstore_stat_result *ret_stat);

/*
 * Fetches a cap and verifies it. CAPSTORE_E_NOT_FOUND, CAPSTORE_E_BODY_TOO_LARGE
 * (options.max_body), CAPSTORE_E_HASH_MISMATCH, CAPSTORE_E_BODY_NOT_CANONICAL. The caller owns
 * *ret_cap.
 */
enum capstore_error capstore_get(struct capstore *store, const struct capstore_hash *hash,
                                 struct capstore_cap **ret_cap);

/*
 * Takes the outcome for hash `index` of those asked for: CAPSTORE_OK and *cap, which belongs to the
 * function from then on (capstore_cap_free); or the error for this one, and NULL. An error that it
 * returns ends the call with that error. The handle must not be used inside.
 */
typedef enum capstore_error capstore_got_cb(void *ctx, size_t index, enum capstore_error error,
                                            struct capstore_cap *cap);

/*
 * Fetches and verifies many caps, each as capstore_get, and calls `got` once for every index: in
 * any order, as they arrive. Made for small caps, of which thousands come in one answer; the
 * question is split by the daemon's limit, and asked cap by cap where the daemon does not know it.
 * What is wrong with one cap is given to `got` (CAPSTORE_E_NOT_FOUND and the other errors of
 * capstore_get; CAPSTORE_E_MEMORY_LIMIT when options.max_bodies leaves no room for its body), and
 * the others go on. When the call fails, `got` has not been called for every index.
 */
enum capstore_error capstore_get_many(struct capstore *store, const struct capstore_hash *hashes,
                                      size_t count, capstore_got_cb *got, void *ctx);

/*
 * Fetches bytes [offset, offset + len) of a served body, cut at the body's end (UINT64_MAX: to its
 * end), and passes them to `write` as they arrive. A part of a body cannot be verified: these bytes
 * are NOT verified. CAPSTORE_E_NOT_FOUND, CAPSTORE_E_RANGE_OUT_OF_BODY.
 */
enum capstore_error capstore_get_range(struct capstore *store, const struct capstore_hash *hash,
                                       uint64_t offset, uint64_t len, capstore_write_cb *write,
                                       void *ctx);

/* One cap of a closure. */
struct capstore_closure_entry {
    struct capstore_hash hash;
    enum capstore_kind kind;
    uint64_t body_len;
    const struct capstore_cap *cap; /* borrowed for the call; NULL when only listed */
};

/* Takes an entry of a closure. An error ends the walk with that error. The handle must not be used
 * inside. */
typedef enum capstore_error capstore_visit_cb(void *ctx,
                                              const struct capstore_closure_entry *entry);

/* For capstore_closure: fetch and verify Data caps too, instead of only asking for their length. */
#define CAPSTORE_CLOSURE_BODIES 1u
/* For capstore_closure: list only, as the daemon says: in one answer, of which nothing is proven.
 * Where the daemon does not offer that it is as without, so that Images are fetched. */
#define CAPSTORE_CLOSURE_LIST 2u
/* For capstore_closure: a cap that is not there is an entry, too, with `kind` and `body_len` 0, and
 * the call goes on. */
#define CAPSTORE_CLOSURE_ABSENT 4u

/*
 * Visits a cap and every cap that it needs, transitively, each once. With CAPSTORE_CLOSURE_BODIES
 * or _LIST, where the daemon offers it, all of it comes in one answer, what a cap refers to before
 * the cap; else `root` comes first, and then breadth first, so that a level costs a few round
 * trips.
 *
 * In one answer a handle that was connected by an address goes on by itself when its connection is
 * lost: it connects again and asks for what has not come. It gives up when nothing came for several
 * times, within about six seconds. What was visited stays so, and nothing is visited twice.
 *
 * All but a list is verified. What is visited before the call has ended well is a cap of its hash,
 * but only the end proves that it belongs to the closure, and CAPSTORE_E_BAD_REPLY that it does
 * not. CAPSTORE_E_NOT_FOUND names a missing cap in the message: in one answer all others were
 * visited then. CAPSTORE_E_MEMORY_LIMIT past options.max_caps; otherwise as capstore_get.
 */
enum capstore_error capstore_closure(struct capstore *store, const struct capstore_hash *root,
                                     unsigned flags, capstore_visit_cb *visit, void *ctx);

/* What capstore_closure_many asks for. Zero what is not needed. */
struct capstore_closure_query {
    const struct capstore_hash *roots; /* may repeat; in one answer as many as the daemon takes */
    size_t root_count;
    /* Caps that are at hand with all that they refer to: they are left out, and what is only below
     * them. Where the daemon cannot be told of all, what is below those that it is not told may
     * come. */
    const struct capstore_hash *have;
    size_t have_count;
    unsigned flags; /* CAPSTORE_CLOSURE_* */
};

/* Takes an entry of a closure, and its cap, which it owns: NULL when it is only listed or not
 * there. An error ends the call with that error. The handle must not be used inside. */
typedef enum capstore_error capstore_came_cb(void *ctx, const struct capstore_closure_entry *entry,
                                             struct capstore_cap *cap);

/* As capstore_closure, from many caps, and without what is at hand. CAPSTORE_E_TOO_MANY_HASHES: too
 * many roots. */
enum capstore_error capstore_closure_many(struct capstore *store,
                                          const struct capstore_closure_query *query,
                                          capstore_came_cb *came, void *ctx);

/* ---- publishing ---- */

/*
 * From now on publications ask to be kept for `keep_s` seconds, as by options.keep_s. A publication
 * fails with CAPSTORE_E_UNSUPPORTED_REQUEST when that is not 0 and cannot be asked: without
 * options.leases, or when the daemon is too old.
 */
void capstore_set_keep(struct capstore *store, uint32_t keep_s);

/* For capstore_put_data: the source is a canonical served body, not raw bytes. */
#define CAPSTORE_PUT_CANONICAL 1u

/* What publishing a Data cap yielded. */
struct capstore_put_result {
    struct capstore_hash cap_hash;
    uint64_t size; /* logical bytes */
    uint64_t body_len;
    bool is_new;     /* false: it was published already, which is success */
    uint32_t kept_s; /* with options.leases: for how many seconds from the answer it is promised to
                      * stay; 0: no promise */
};

/*
 * Publishes a Data cap: raw logical bytes followed by zeros up to `size` (0: the content's length),
 * or with CAPSTORE_PUT_CANONICAL a served body, with `size` 0. Durable when it returns. A refusal
 * ends the upload early. Raw content that is mostly holes (source.next_data) is read twice and sent
 * without them.
 */
enum capstore_error capstore_put_data(struct capstore *store, const struct capstore_source *content,
                                      uint64_t size, unsigned flags,
                                      struct capstore_put_result *ret_result);

/* For capstore_publish: every Data cap must be published already; inline data is not stored. */
#define CAPSTORE_RESOLVE_ONLY 1u
/* For capstore_publish: judge and resolve, store nothing. */
#define CAPSTORE_DRY_RUN 2u

/* What publishing an Image yielded. */
struct capstore_publish_result {
    struct capstore_hash cap_hash;
    struct capstore_hash content_hash;
    uint64_t body_len;
    bool is_new;           /* in a dry run: would be */
    uint32_t data_new;     /* distinct Data caps stored with it; in a dry run: that would be */
    uint32_t data_present; /* distinct Data caps that were there */
    uint32_t kept_s;       /* as in capstore_put_result, of the Image and all that it needs; 0 in a
                            * dry run */
};

/*
 * Uploads a wire Image, and unless told otherwise publishes its inline data with it, in one step.
 * Durable when it returns. Refused with the deblob's error, or CAPSTORE_E_UNRESOLVED_SLOT: then
 * capstore_unresolved lists every slot that failed.
 */
enum capstore_error capstore_publish(struct capstore *store, const struct capstore_source *wire,
                                     unsigned flags, struct capstore_publish_result *ret_result);

/*
 * Publishes a cap of either kind by its hash and its served body, as capstore_get gave it
 * (capstore_cap_body): how a cap goes from one store to another. Durable when it returns; of
 * *ret_result, `size` is 0. What an Image names must be published already:
 * CAPSTORE_E_UNRESOLVED_SLOT as for capstore_publish. The daemon judges the body:
 * CAPSTORE_E_BODY_NOT_CANONICAL and other rules by name, CAPSTORE_E_HASH_MISMATCH for a body that
 * is not of that hash. CAPSTORE_E_UNSUPPORTED_REQUEST: the daemon is too old for such requests.
 */
enum capstore_error capstore_put_cap(struct capstore *store, const struct capstore_hash *hash,
                                     enum capstore_kind kind, const struct capstore_source *body,
                                     struct capstore_put_result *ret_result);

/* A slot that names a cap that is not published. */
struct capstore_unresolved_slot {
    enum capstore_table table;
    enum capstore_kind kind; /* what was expected; 0: either (a pinned slot, capstore_put_cap) */
    struct capstore_hash cap_hash;
    struct capstore_bytes slot; /* valid until the next call on the handle */
};

/* How many slots the last call's CAPSTORE_E_UNRESOLVED_SLOT named; 0 otherwise. */
size_t capstore_unresolved_count(const struct capstore *store);

/* Slot `i` < capstore_unresolved_count(store). */
struct capstore_unresolved_slot capstore_unresolved(const struct capstore *store, size_t i);

/* What an upload needed and what there was, in figures. */
struct capstore_shortage_figures {
    uint64_t need;               /* bytes; caps if `limit` is "quota-caps" */
    uint64_t have;               /* of the same, less than `need` */
    struct capstore_bytes limit; /* the daemon's option that sets it, ASCII; empty: the error says
                                  * it; valid until the next call on the handle */
};

/*
 * The figures of the last call's CAPSTORE_E_QUOTA_EXCEEDED, CAPSTORE_E_DISK_FULL or
 * CAPSTORE_E_MAP_FULL. False: there are none; a daemon may not know them.
 */
bool capstore_shortage(const struct capstore *store, struct capstore_shortage_figures *ret_figures);

#ifdef __cplusplus
}
#endif

#endif
