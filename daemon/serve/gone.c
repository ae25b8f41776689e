/* A ring of hashes. */
#include "daemon/serve/gone.h"

#include <stdlib.h>

enum cap_error gone_open(struct gone *gone)
{
    *gone = (struct gone){.ring = calloc(GONE_MAX, sizeof(*gone->ring))};
    if (gone->ring != NULL && uv_mutex_init(&gone->lock) == 0) {
        return CAP_OK;
    }
    free(gone->ring);
    gone->ring = NULL;
    return CAP_E_NO_MEMORY;
}

void gone_close(struct gone *gone)
{
    if (gone->ring != NULL) {
        uv_mutex_destroy(&gone->lock);
        free(gone->ring);
        gone->ring = NULL;
    }
}

void gone_tell(struct gone *gone, const struct cap_hash *hash)
{
    uv_mutex_lock(&gone->lock);
    gone->ring[gone->count++ % GONE_MAX] = *hash;
    uv_mutex_unlock(&gone->lock);
}

bool gone_take(struct gone *gone, uint64_t *at, struct cap_hash *ret_hashes, size_t max,
               size_t *ret_count)
{
    uv_mutex_lock(&gone->lock);
    bool all = gone->count - *at <= GONE_MAX;
    *ret_count = 0;
    if (!all) {
        *at = gone->count;
    }
    while (*at < gone->count && *ret_count < max) {
        ret_hashes[(*ret_count)++] = gone->ring[(*at)++ % GONE_MAX];
    }
    uv_mutex_unlock(&gone->lock);
    return all;
}
