/* What dump and mirror are about: the caps that are named, or all that a store has. */
#ifndef CLIENT_CAPCTL_ALL_H
#define CLIENT_CAPCTL_ALL_H

#include "client/capctl/walk.h"

/* The bytes of all bodies of the store that cli_visit_all will list, for a progress bar; 0 when
 * caps are named. False after saying what is wrong. */
bool cli_all_bytes(struct cli *cli, uint64_t *ret_bytes);

/*
 * Visits the caps that the arguments name and all that they need; without arguments every cap that
 * the admin socket lists, Data first. False after saying what is wrong.
 */
bool cli_visit_all(struct cli *cli, struct cli_walk *walk);

#endif
