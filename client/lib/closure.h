/* What the two ways of fetching a closure share: closure.c, which asks cap by cap, and whole.c,
 * with one request. */
#ifndef CLIENT_LIB_CLOSURE_H
#define CLIENT_LIB_CLOSURE_H

#include "client/lib/conn.h"
#include "lib/cap/hash_set.h"

/* What is known of a cap; bits. */
#define CLIENT_GIVEN   1u  /* the caller has got it in this call */
#define CLIENT_HAD     2u  /* the caller had it before, with all that it refers to */
#define CLIENT_WHOLE   4u  /* GIVEN, and so is all that it refers to, or had before */
#define CLIENT_COVERED 8u  /* a cap that is whole refers to it */
#define CLIENT_NEEDED  16u /* a root, or a cap that has come refers to it */
#define CLIENT_ABSENT  32u /* the daemon does not have it */
#define CLIENT_TOLD    64u /* and the caller was told */

struct client_fact {
    uint32_t round; /* of asking, when an entry of it last came */
    uint8_t bits;
};

/* Caps that are known, in the order in which they became so. Zeroed: none. */
struct client_known {
    struct cap_hash *hashes;
    struct client_fact *facts;
    size_t count;
    size_t capacity;
    struct cap_hash_set set;
};

/* The place of a cap; SIZE_MAX: it is not known. */
size_t client_known_find(const struct client_known *known, const struct cap_hash *hash);

/* Its place, after adding it if need be; at most `max` are. CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
enum cap_error client_known_add(struct client_known *known, uint64_t max,
                                const struct cap_hash *hash, size_t *ret_at);

void client_known_free(struct client_known *known);

/* A call for a closure. */
struct client_closure {
    struct capstore *store;
    const struct capstore_closure_query *query;
    capstore_came_cb *came;
    void *ctx;
    struct client_known known;
};

/* Cap by cap, breadth first: gives what is not GIVEN, and looks for nothing below what is had or
 * whole. */
enum cap_error client_closure_walk(struct client_closure *call);

/* Whether the daemon understands CLOSURE. */
bool client_closure_offered(const struct capstore *store);

/* With CLOSURE, which the daemon has granted, again and again until all has come. */
enum cap_error client_closure_whole(struct client_closure *call);

#endif
