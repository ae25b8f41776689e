#include "lib/cap/ssz.h"

/* Length of a container's fixed part, and how many of its fields are variable. */
static uint64_t fixed_part(const size_t *sizes, size_t count, size_t *ret_variable)
{
    uint64_t fixed = 0;
    *ret_variable = 0;
    for (size_t i = 0; i < count; i++) {
        fixed += sizes[i] == CAP_SSZ_VARIABLE ? CAP_SSZ_OFFSET_SIZE : sizes[i];
        *ret_variable += sizes[i] == CAP_SSZ_VARIABLE;
    }
    return fixed;
}

/* Offsets begin at `fixed`, do not decrease, and stay within `in`; `fixed` <= in.len. */
static bool offsets_good(struct cap_bytes in, const size_t *sizes, size_t count, uint64_t fixed)
{
    uint64_t last = fixed;
    bool first = true;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] != CAP_SSZ_VARIABLE) {
            at += sizes[i];
            continue;
        }
        uint32_t offset = cap_load32(in.data + at);
        if (offset < last || offset > in.len || (first && offset != fixed)) {
            return false;
        }
        first = false;
        last = offset;
        at += CAP_SSZ_OFFSET_SIZE;
    }
    return true;
}

enum cap_error cap_ssz_container(struct cap_bytes in, uint64_t total, const size_t *sizes,
                                 size_t count, struct cap_bytes *ret_fields)
{
    size_t variable;
    uint64_t fixed = fixed_part(sizes, count, &variable);
    if (in.len > total || fixed > in.len || (variable == 0 && fixed != total)) {
        return CAP_E_SSZ;
    }
    if (!offsets_good(in, sizes, count, fixed)) {
        return CAP_E_SSZ;
    }

    struct cap_bytes *open = NULL; /* the variable field whose end is not known yet */
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] != CAP_SSZ_VARIABLE) {
            ret_fields[i] = cap_bytes_slice(in, at, sizes[i]);
            at += sizes[i];
            continue;
        }
        size_t offset = cap_load32(in.data + at);
        ret_fields[i] = cap_bytes_slice(in, offset, in.len - offset);
        if (open != NULL) {
            open->len = (size_t)(ret_fields[i].data - open->data);
        }
        open = &ret_fields[i];
        at += CAP_SSZ_OFFSET_SIZE;
    }
    return CAP_OK;
}

enum cap_error cap_ssz_list(struct cap_bytes in, struct cap_ssz_list *ret_list)
{
    if (in.len == 0) {
        *ret_list = (struct cap_ssz_list){in, 0};
        return CAP_OK;
    }
    if (in.len < CAP_SSZ_OFFSET_SIZE) {
        return CAP_E_SSZ;
    }

    /* The table's own length is the first offset, so a claimed count is backed by bytes. */
    uint32_t table = cap_load32(in.data);
    if (table == 0 || table % CAP_SSZ_OFFSET_SIZE != 0 || table > in.len) {
        return CAP_E_SSZ;
    }
    uint32_t last = table;
    for (size_t at = CAP_SSZ_OFFSET_SIZE; at < table; at += CAP_SSZ_OFFSET_SIZE) {
        uint32_t offset = cap_load32(in.data + at);
        if (offset < last || offset > in.len) {
            return CAP_E_SSZ;
        }
        last = offset;
    }
    *ret_list = (struct cap_ssz_list){in, table / CAP_SSZ_OFFSET_SIZE};
    return CAP_OK;
}

struct cap_bytes cap_ssz_list_at(const struct cap_ssz_list *list, size_t index)
{
    const uint8_t *entry = list->bytes.data + index * CAP_SSZ_OFFSET_SIZE;
    size_t from = cap_load32(entry);
    size_t to = index + 1 < list->count ? cap_load32(entry + CAP_SSZ_OFFSET_SIZE) : list->bytes.len;
    return cap_bytes_slice(list->bytes, from, to - from);
}

enum cap_error cap_ssz_fixed_list(struct cap_bytes in, size_t element_size, size_t *ret_count)
{
    if (in.len % element_size != 0 || !cap_ssz_within_limit(in.len / element_size)) {
        return CAP_E_SSZ;
    }
    *ret_count = in.len / element_size;
    return CAP_OK;
}

enum cap_error cap_ssz_union(struct cap_bytes in, uint8_t max_selector, uint8_t *ret_selector,
                             struct cap_bytes *ret_value)
{
    if (in.len == 0 || in.data[0] > max_selector) {
        return CAP_E_SSZ;
    }
    *ret_selector = in.data[0];
    *ret_value = cap_bytes_slice(in, 1, in.len - 1);
    return CAP_OK;
}
