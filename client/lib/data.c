/* Data caps of raw bytes: known holes are not read. */
#include <capstore/publish.h>

#include "client/lib/internal.h"

#define STEP ((size_t)1 << 20) /* smaller holes are not worth a call */

/* Where the content continues at or after `offset` < its length; the length if nowhere. */
static uint64_t next_data(const struct capstore_source *content, uint64_t offset)
{
    uint64_t next = content->next_data != NULL ? content->next_data(content->ctx, offset) : offset;
    if (next < offset) {
        return offset;
    }
    return next < content->len ? next : content->len;
}

bool client_mostly_holes(const struct capstore_source *content)
{
    uint64_t holes = 0;
    for (uint64_t at = 0; content->next_data != NULL && at < content->len;) {
        uint64_t next = next_data(content, at);
        holes += next - at;
        at = next > UINT64_MAX - STEP ? UINT64_MAX : next + STEP;
    }
    return holes > content->len / 2;
}

enum cap_error client_data_make(const struct capstore_source *content, uint64_t size,
                                struct cap_data *ret_data)
{
    struct client_window whole = {*content, 0};
    struct cap_source source = client_window_source(&whole);
    return cap_data_from_content(&source, content->len, size, UINT64_MAX, ret_data);
}

enum capstore_error capstore_data_hash(const struct capstore_source *content, uint64_t size,
                                       struct capstore_data_id *ret_id)
{
    struct cap_data data;
    enum cap_error error = client_data_make(content, size, &data);
    if (error != CAP_OK) {
        return client_public(error);
    }
    *ret_id = (struct capstore_data_id){client_hash(&data.hash), data.size, data.body.len};
    cap_data_free(&data);
    return CAPSTORE_OK;
}
