/*
 * A stored cap laid out for a person.
 *
 * Runs on a worker with a snapshot of its own. Memory is bounded: an Image's code, which lies in
 * the middle of its body, is never read, and its structure only up to ADMIN_EXPLAIN_MAX; a Data
 * cap's pages are read in windows.
 */
#ifndef DAEMON_ADMIN_EXPLAIN_H
#define DAEMON_ADMIN_EXPLAIN_H

#include <jansson.h>

#include "daemon/admin/page.h"
#include "lib/store/store.h"

/*
 * Explains the cap of that name as an object. CAP_E_NOT_FOUND, CAP_E_STRUCTURE_TOO_LARGE,
 * CAP_E_CORRUPT (the stored body does not decode), CAP_E_NO_MEMORY, or as the store fails.
 */
enum cap_error admin_explain(struct cap_read *read, const struct cap_hash *hash,
                             const struct admin_page *page, json_t **ret_object);

#endif
