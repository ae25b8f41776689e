/*
 * Feeds a verifier a good slice that the input changes.
 *
 * The input: which cap, flags, the size of pieces, ranges, then changes of four bytes each: how, a
 * position, a value. What must hold: there is one encoding, so that a slice is accepted if it is
 * that, byte for byte, and else refused; what was handed on before that is the cap's; nothing is
 * read past a piece (each is an allocation of its own).
 */
#include <stdlib.h>

#include "tests/fuzz/slice_cap.h"

#define CAPS    6u
#define CHANGES 16u
#define ANY     1 /* flag: the verifier is not told the ranges */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice_cap make_cap(unsigned which)
{
    static const uint32_t strewn[] = {0, 1, 5, 16, 17, 18, 64, 70, 4095, 4096, 100000};
    static const uint16_t lens[] = {1, 3, 4096, 32, 33, 7, 9, 64, 2, 1, 4};
    uint32_t dense[20];
    uint16_t short_lens[20];
    uint8_t code[18 * CAP_PAGE_SIZE + 5] = {0};
    for (uint32_t i = 0; i < 20; i++) {
        dense[i] = i < 9 ? i : i + 2;
        short_lens[i] = (uint16_t)(1 + i % 5);
    }
    for (size_t i = 0; i < sizeof(code); i += i % 3 == 0 ? 700 : 4000) {
        code[i] = (uint8_t)(1 + i % 255);
    }
    code[sizeof(code) - 1] = 1;
    switch (which) {
    case 0:
        return slice_cap_data(UINT64_C(22) * CAP_PAGE_SIZE, dense, short_lens, 20);
    case 1:
        return slice_cap_data(UINT64_C(1) << 63, strewn, lens, 11);
    case 2:
        return slice_cap_data(CAP_PAGE_SIZE, dense, short_lens, 1);
    case 3:
        return slice_cap_image(code, 3 * CAP_PAGE_SIZE);
    case 4:
        return slice_cap_image(code, sizeof(code));
    default:
        return slice_cap_image(code, 0);
    }
}

static void change(struct cap_buf *slice, struct cap_bytes *input)
{
    uint8_t how = next8(input);
    size_t at = next16(input);
    uint8_t value = next8(input);
    if (at >= slice->len) {
        at = slice->len > 0 ? at % slice->len : 0;
    }
    switch (how % 6) {
    case 0:
        if (at < slice->len) {
            slice->data[at] = value;
        }
        break;
    case 1:
        if (at < slice->len) {
            slice->data[at] ^= value;
        }
        break;
    case 2: /* from there on */
        slice->len = at;
        break;
    case 3: /* one byte more, at the end or there */
    case 4:
        require(cap_buf_append8(slice, value) == CAP_OK);
        if (how % 6 == 4) {
            memmove(slice->data + at + 1, slice->data + at, slice->len - 1 - at);
            slice->data[at] = value;
        }
        break;
    default: /* `value` bytes less */
        if (value > slice->len - at) {
            value = (uint8_t)(slice->len - at);
        }
        if (value > 0) {
            memmove(slice->data + at, slice->data + at + value, slice->len - at - value);
            slice->len -= value;
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct slice_cap caps[CAPS]; /* made once */
    struct cap_bytes input = {data, size};
    struct cap_range ranges[SLICE_RANGES_MAX];
    struct cap_buf good = {0};
    struct cap_buf slice = {0};
    unsigned which = next8(&input) % CAPS;
    if (caps[which].body.len == 0) {
        caps[which] = make_cap(which);
    }
    struct slice_cap *cap = &caps[which];
    uint8_t flags = next8(&input);
    size_t piece = (size_t)next8(&input) * next8(&input);
    piece = piece > 0 ? piece : SIZE_MAX;
    size_t count = slice_ranges(&input, 3, cap->pages, ranges);
    require(slice_encode(&cap->parts, ranges, count, 0, &good) == CAP_OK);
    require(cap_buf_append(&slice, good.data, good.len) == CAP_OK);
    for (unsigned i = 0; i < CHANGES && input.len >= 4; i++) {
        change(&slice, &input);
    }
    bool same = slice.len == good.len && memcmp(slice.data, good.data, good.len) == 0;
    enum cap_error error =
        slice_take(cap, ranges, count, (flags & ANY) != 0, cap_buf_bytes(&slice), piece);
    if ((flags & ANY) != 0 && error == CAP_OK && !same) {
        /* Then it is the encoding for the ranges that it states. */
        uint8_t *stated =
            slice.data +
            (cap->parts.subject.kind == CAP_KIND_DATA ? 41 : 45 + cap_load32(slice.data + 41));
        count = cap_load32(stated);
        require(count <= SLICE_RANGES_MAX);
        for (size_t i = 0; i < count; i++) {
            ranges[i].first = cap_load64(stated + 4 + 16 * i);
            ranges[i].pages = cap_load64(stated + 12 + 16 * i);
        }
        cap_buf_free(&good);
        require(slice_encode(&cap->parts, ranges, count, 0, &good) == CAP_OK);
        same = slice.len == good.len && memcmp(slice.data, good.data, good.len) == 0;
    }
    require((error == CAP_OK) == same);
    cap_buf_free(&good);
    cap_buf_free(&slice);
    return 0;
}
