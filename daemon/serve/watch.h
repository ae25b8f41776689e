/* What the store tells the reading rooms. */
#ifndef DAEMON_SERVE_WATCH_H
#define DAEMON_SERVE_WATCH_H

#include "daemon/serve/serve.h"

/*
 * Has the store tell all rooms, the cache of copies, and those who watch events what is gone, the
 * latter what is healed, and the operator (context_store_fault) what is found damaged. Before
 * anything is written; the set and the context outlive the store's last write.
 */
void serve_watch(struct serve_set *set, struct context *context);

#endif
