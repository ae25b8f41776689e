/* PUT_DATA: what can be judged early, and the cap. */
#include "daemon/publish/data.h"

#include <stdlib.h>

enum cap_error data_check(const struct data_order *order)
{
    if (order->canonical) {
        return order->total_len < CAP_DATA_BODY_FIXED ? CAP_E_BODY_NOT_CANONICAL : CAP_OK;
    }
    return order->size > UINT64_MAX - (CAP_PAGE_SIZE - 1) ? CAP_E_INVALID_ARGUMENT : CAP_OK;
}

uint64_t data_pages(const struct data_order *order)
{
    return order->total_len / CAP_PAGE_SIZE + 1;
}

enum cap_error data_front_pages(struct cap_bytes front, uint64_t total_len, uint64_t *ret_pages)
{
    uint64_t head_len = 0;
    enum cap_error error = cap_data_body_head_len(front, total_len, &head_len);
    if (error == CAP_OK) {
        *ret_pages = (head_len - CAP_DATA_BODY_FIXED) / CAP_PAGE_REF_SIZE;
    }
    return error;
}

uint64_t data_make_memory(uint64_t pages)
{
    return pages * CAPS_PAGE_MEMORY + cap_window_memo_size(pages);
}

enum cap_error data_make(const struct data_order *order, const struct caps_source *source,
                         const struct caps_stamp *stamp, struct caps *ret_caps)
{
    *ret_caps = (struct caps){0};
    ret_caps->data = calloc(1, sizeof(*ret_caps->data));
    ret_caps->admission.puts = calloc(1, sizeof(*ret_caps->admission.puts));
    if (ret_caps->data == NULL || ret_caps->admission.puts == NULL) {
        return CAP_E_NO_MEMORY;
    }
    struct cap_data *data = &ret_caps->data[0].data;
    enum cap_error error = order->canonical
                               ? cap_data_from_body(&source->hashed, order->total_len, data)
                               : cap_data_from_content(&source->hashed, order->total_len,
                                                       order->size, UINT64_MAX, data);
    if (error != CAP_OK) {
        return error;
    }
    ret_caps->data[0].bytes = source->stored;
    ret_caps->data_count = 1;
    ret_caps->admission.put_count = 1;
    caps_put_data(ret_caps, 0, stamp);
    return CAP_OK;
}
