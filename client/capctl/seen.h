/* A set of hashes that is told many of them: some 20 to 45 bytes each. */
#ifndef CLIENT_CAPCTL_SEEN_H
#define CLIENT_CAPCTL_SEEN_H

#include <capstore/capstore.h>

#define CLI_SEEN_BYTES 16 /* of a hash: to find two that agree in 128 bits takes 2^64 attempts */

/* Zeroed it is empty. Release with cli_seen_free. */
struct cli_seen {
    uint8_t (*slots)[CLI_SEEN_BYTES]; /* all zero: free */
    size_t capacity;                  /* a power of two, or 0 */
    size_t count;
    bool has_zero; /* the hash that begins with zeros is in it */
};

/* Whether it is in the set. */
bool cli_seen_has(const struct cli_seen *seen, const struct capstore_hash *hash);

/* Adds it. False when memory is short. */
bool cli_seen_add(struct cli_seen *seen, const struct capstore_hash *hash);

/* Releases the memory and leaves an empty set. */
void cli_seen_free(struct cli_seen *seen);

#endif
