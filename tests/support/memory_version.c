/* Versions of the memory engine: four tables that share the caps they point to. */
#include "tests/support/memory_version.h"

#include <stdlib.h>

void memory_version_free(struct memory_version *version)
{
    if (!version) {
        return;
    }
    memory_table_free(&version->caps);
    memory_table_free(&version->refs);
    memory_table_free(&version->revs);
    memory_table_free(&version->contents);
    free(version);
}

struct memory_version *memory_version_new(void)
{
    struct memory_version *version = calloc(1, sizeof(*version));

    if (!version) {
        return NULL;
    }
    version->references = 1;
    version->caps.item_size = sizeof(struct cap_item);
    version->refs.item_size = version->revs.item_size = sizeof(struct ref_item);
    version->contents.item_size = sizeof(struct content_item);
    version->caps.key_size = version->contents.key_size = CAP_HASH_SIZE;
    version->refs.key_size = version->revs.key_size = 2 * CAP_HASH_SIZE;
    return version;
}

struct memory_version *memory_version_copy(const struct memory_version *from)
{
    struct memory_version *version = memory_version_new();

    if (!version) {
        return NULL;
    }
    version->counts = from->counts;
    if (memory_table_copy(&from->caps, &version->caps) != CAP_OK ||
        memory_table_copy(&from->refs, &version->refs) != CAP_OK ||
        memory_table_copy(&from->revs, &version->revs) != CAP_OK ||
        memory_table_copy(&from->contents, &version->contents) != CAP_OK) {
        memory_version_free(version);
        return NULL;
    }
    return version;
}

const struct memory_cap *memory_version_find(const struct memory_version *version,
                                             const struct cap_hash *hash)
{
    const struct cap_item *item = memory_table_find(&version->caps, hash->bytes);

    return item ? item->cap : NULL;
}
