/* The structure of a stored Image. */
#ifndef DAEMON_ADMIN_STRUCTURE_H
#define DAEMON_ADMIN_STRUCTURE_H

#include "lib/cap/structure.h"
#include "lib/store/store.h"

#define ADMIN_EXPLAIN_MAX (UINT64_C(4) << 20) /* bytes of an Image's structure */

/*
 * Reads the structure of an Image and decodes it strictly. Costs its structure, whatever the code's
 * length. Errors as admin_explain.
 */
enum cap_error admin_structure_read(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t body_len, struct cap_structure *ret_structure);

#endif
