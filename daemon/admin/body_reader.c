#include "daemon/admin/body_reader.h"

enum cap_error admin_body_copy(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                               void *dst, size_t len)
{
    uint8_t *to = dst;
    while (len > 0) {
        struct iovec spans[CAP_STORE_WINDOW_IOV];
        int count = 0;
        size_t got = 0;
        enum cap_error error = cap_store_window(read, hash, offset, len, spans, &count, &got);
        if (error != CAP_OK) {
            return error;
        }
        if (got == 0 || got > len) {
            return CAP_E_RANGE_OUT_OF_BODY;
        }
        error = cap_store_copy(read, spans, count, to);
        if (error != CAP_OK) {
            return error;
        }
        to += got;
        offset += got;
        len -= got;
    }
    return CAP_OK;
}
