/* An Image without its code, which lies between the front of its body and the rest. */
#ifndef DAEMON_ADMIN_STRUCTURE_H
#define DAEMON_ADMIN_STRUCTURE_H

#include "lib/cap/layout.h"
#include "lib/store/store.h"

#define ADMIN_EXPLAIN_MAX (UINT64_C(4) << 20) /* bytes of an Image's structure */

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

#endif
