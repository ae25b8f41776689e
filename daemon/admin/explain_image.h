/* An Image cap laid out for a person. */
#ifndef DAEMON_ADMIN_EXPLAIN_IMAGE_H
#define DAEMON_ADMIN_EXPLAIN_IMAGE_H

#include <jansson.h>

#include "daemon/admin/page.h"
#include "lib/store/store.h"

/* As admin_explain, for an Image whose record is `info`. */
enum cap_error admin_explain_image(struct cap_read *read, const struct cap_hash *hash,
                                   const struct cap_info *info, const struct admin_page *page,
                                   json_t **ret_layout);

#endif
