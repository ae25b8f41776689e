/*
 * Entries, as the body of a CLOSURE_REPLY has them (PROTOCOL.md section 4.24): taken apart, and
 * their caps verified, as the bytes arrive. Nothing of the connection is needed, so they may come
 * from anywhere.
 */
#ifndef CLIENT_LIB_ENTRIES_H
#define CLIENT_LIB_ENTRIES_H

#include "client/lib/internal.h"
#include "client/lib/verify.h"
#include "proto/message.h"

/* Zeroed but for the first members, which its maker sets. Release with client_entries_free. */
struct client_entries {
    struct capstore *store; /* whose options hold, and whose bound of bodies */
    bool list;              /* no bodies follow */
    /* Takes over the cap of an entry; NULL when it is only listed or not there. An error gives the
     * entries up. */
    enum cap_error (*came)(void *ctx, const struct capstore_closure_entry *entry,
                           struct capstore_cap *cap);
    void *ctx;

    char message[CAPSTORE_MESSAGE_SIZE]; /* of `given_up`, or empty */
    enum cap_error given_up;
    struct proto_entry entry; /* at hand */
    bool inside;              /* bytes of its body are next, rather than a head */
    struct cap_buf body;
    uint64_t held; /* of capstore.held */
    struct client_verify *verify;
    size_t filled; /* bytes of the head that have come */
    uint8_t head[PROTO_ENTRY_SIZE];
};

/*
 * Takes bytes; `end`: the last. CAP_E_BAD_REPLY: they are not entries. *ret_given_up: why the
 * others are not taken, or CAP_OK; what `came` said, CAP_E_HASH_MISMATCH, CAP_E_BODY_NOT_CANONICAL,
 * CAP_E_BODY_TOO_LARGE, CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY.
 */
enum cap_error client_entries_take(struct client_entries *entries, struct cap_bytes bytes, bool end,
                                   enum cap_error *ret_given_up);

/* Releases the body that was arriving; then it is as its maker made it. */
void client_entries_free(struct client_entries *entries);

#endif
