/* An Image cap laid out for a person. */
#ifndef DAEMON_ADMIN_EXPLAIN_IMAGE_H
#define DAEMON_ADMIN_EXPLAIN_IMAGE_H

#include "daemon/admin/explain.h"
#include "lib/cap/layout.h"

/* An Image's structure without its code, held in memory. Release with admin_structure_free. */
struct admin_structure {
    struct cap_buf body;        /* the served body with its code cut out */
    struct cap_image_view view; /* of that body: its code is empty */
    uint64_t code_len;
};

/*
 * Reads the structure of an Image and decodes it strictly. Costs its structure, whatever the code's
 * length. Errors as admin_explain.
 */
enum cap_error admin_structure_read(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t body_len, struct admin_structure *ret_structure);

/* Releases the memory. */
void admin_structure_free(struct admin_structure *structure);

/* As admin_explain, for an Image whose record is `info`. */
enum cap_error admin_explain_image(struct cap_read *read, const struct cap_hash *hash,
                                   const struct cap_info *info, const struct admin_page *page,
                                   json_t **ret_layout);

#endif
