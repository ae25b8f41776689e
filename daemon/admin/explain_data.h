/* A Data cap laid out for a person: its size, its pages, and the runs that they form. */
#ifndef DAEMON_ADMIN_EXPLAIN_DATA_H
#define DAEMON_ADMIN_EXPLAIN_DATA_H

#include <jansson.h>

#include "daemon/admin/page.h"
#include "lib/store/store.h"

/* As admin_explain, for a Data cap whose record is `info`. Memory does not grow with its pages. */
enum cap_error admin_explain_data(struct cap_read *read, const struct cap_hash *hash,
                                  const struct cap_info *info, const struct admin_page *page,
                                  json_t **ret_layout);

#endif
