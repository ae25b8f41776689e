/* Spans that are in memory or not. */
#include "daemon/serve/warm.h"

bool warm_is_resident(const struct env *env, const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++) {
        if (!env->resident(env->ctx, iov[i].iov_base, iov[i].iov_len)) {
            return false;
        }
    }
    return true;
}

enum cap_error warm_populate(const struct env *env, const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++) {
        enum cap_error error = env->populate(env->ctx, iov[i].iov_base, iov[i].iov_len);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}
