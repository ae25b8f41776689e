/* What dump and mirror are about: the caps that are named, or all that a store has. */
#ifndef CLIENT_CAPCTL_ALL_H
#define CLIENT_CAPCTL_ALL_H

#include "client/capctl/walk.h"

/* The bytes of all bodies of the store that cli_visit_all will list, for a progress bar; 0 when
 * caps are named. False after saying what is wrong. */
bool cli_all_bytes(struct cli *cli, uint64_t *ret_bytes);

/*
 * Calls `found` for every root of the daemon behind the admin socket, until it returns false. False
 * after saying what is wrong, or if `found` did.
 */
bool cli_each_root(struct cli *cli,
                   bool (*found)(void *ctx, const char *name, const struct capstore_hash *hash),
                   void *ctx);

/* Reads a hash, or the name of a root, for which it asks the admin socket. False after saying what
 * is wrong. */
bool cli_cap_named(struct cli *cli, const char *text, struct capstore_hash *ret_hash);

/*
 * Visits the caps that the arguments name and all that they need; without arguments every cap that
 * the admin socket lists, Data first. False after saying what is wrong.
 */
bool cli_visit_all(struct cli *cli, struct cli_walk *walk);

#endif
