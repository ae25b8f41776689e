/*
 * What is odd about a stored Image, for a person: the warnings of lib/cap/lint.h as far as a cap
 * still shows them, and what became of its references.
 */
#ifndef DAEMON_ADMIN_WARNINGS_H
#define DAEMON_ADMIN_WARNINGS_H

#include <jansson.h>

#include "daemon/admin/page.h"
#include "daemon/admin/structure.h"
#include "lib/cap/layout.h"

#define ADMIN_LOOKUPS_MAX 8192u /* in the store, for one explanation */

/* Everything that one explanation works on. Borrows; lives on the worker's stack. */
struct admin_layout {
    struct cap_read *read;
    const struct cap_structure *structure;
    const struct admin_page *page;
    struct cap_layout places; /* of its mappings */
    size_t lookups_left;
};

/* What a slot names, as far as is known. */
struct admin_target {
    bool looked_up; /* false when the lookups were spent */
    bool present;
    struct cap_info info;
};

/* Looks a cap up, within the bound. That it is absent is not an error. */
enum cap_error admin_layout_resolve(struct admin_layout *layout, const struct cap_hash *hash,
                                    struct admin_target *ret_target);

/*
 * Appends warnings to the array: objects with reason and message, and key, table or start where
 * they apply. At most layout->page->limit of them; *ret_count counts all. Cost: O(n log n) in the
 * structure.
 */
enum cap_error admin_warnings(struct admin_layout *layout, json_t *array, uint64_t *ret_count);

#endif
