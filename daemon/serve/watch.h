/* What the store's writer tells the reading rooms. */
#ifndef DAEMON_SERVE_WATCH_H
#define DAEMON_SERVE_WATCH_H

#include "daemon/serve/serve.h"

/*
 * Has the writer tell all rooms, and the cache of copies, what is gone. Before anything is written;
 * the set outlives the store's last write.
 */
void serve_watch(struct serve_set *set, struct cap_store *store);

#endif
