/*
 * Makes a cap, and a slice of it, as the input says.
 *
 * The input: kind, flags, how the encoder is given room, the pages, ranges, and perhaps a place
 * where what is kept with the cap is damaged. What must hold: the verifier accepts the slice and
 * hands on the pages that were asked for; with damage the encoder reads nothing outside of what is
 * kept, and what comes of it is that slice, or refused by one of the two.
 */
#include <stdlib.h>

#include "tests/fuzz/slice_cap.h"

#define PAGES_MAX 300u /* more than a cap needs for nodes to be kept */
#define CODE_MAX  (20u * CAP_PAGE_SIZE)
#define IMAGE     1 /* flags */
#define DAMAGE    2
#define HUGE_DATA 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice_cap make_image(struct cap_bytes *input)
{
    static uint8_t code[CODE_MAX];
    size_t len = (size_t)next32(input) % (CODE_MAX + 1);
    memset(code, 0, sizeof(code));
    for (uint8_t runs = next8(input) % 16; runs > 0; runs--) {
        size_t at = (size_t)next32(input) % CODE_MAX;
        size_t run = next16(input);
        memset(code + at, next8(input), run < CODE_MAX - at ? run : CODE_MAX - at);
    }
    return slice_cap_image(code, len);
}

/* Runs of pages, each after a gap. */
static struct slice_cap make_data(struct cap_bytes *input, bool huge)
{
    static uint32_t indexes[PAGES_MAX];
    static uint16_t lens[PAGES_MAX];
    size_t count = 0;
    uint64_t next = 0;
    for (uint8_t runs = next8(input) % 64; runs > 0; runs--) {
        unsigned shift = next8(input) % 25;
        next += (uint64_t)next8(input) << shift;
        for (uint8_t run = next8(input); run > 0 && count < PAGES_MAX && next <= UINT32_MAX;
             run--) {
            lens[count] = (uint16_t)(1 + next * 37 % 70); /* short pages are hashed fast */
            indexes[count++] = (uint32_t)next++;
        }
    }
    uint64_t pages = (count > 0 ? indexes[count - 1] : 0) + UINT64_C(1) + next8(input);
    pages <<= huge ? next8(input) % 20 : 0;
    return slice_cap_data(pages * CAP_PAGE_SIZE, indexes, lens, count);
}

/* Copies of what is kept, exactly as long, of which one bit may be wrong. */
static struct cap_slice_body copy_parts(const struct cap_slice_body *parts, bool damage,
                                        struct cap_bytes *input)
{
    struct cap_slice_body copy = *parts;
    uint64_t roots = parts->subject.kind == CAP_KIND_DATA
                         ? parts->subject.page_count
                         : cap_slice_page_count(parts->subject.size);
    size_t lens[3] = {parts->body.len, (size_t)roots * sizeof(struct cap_hash),
                      (size_t)cap_node_total(&parts->nodes.counts) * sizeof(struct cap_node)};
    const void *all[3] = {parts->body.data, parts->roots, parts->nodes.all};
    uint8_t *copies[3];
    for (size_t i = 0; i < 3; i++) {
        copies[i] = malloc(lens[i] > 0 ? lens[i] : 1);
        require(copies[i] != NULL);
        if (lens[i] > 0) {
            memcpy(copies[i], all[i], lens[i]);
        }
    }
    if (damage) {
        size_t which = next8(input) % 3;
        size_t at = next32(input);
        if (lens[which] > 0) {
            copies[which][at % lens[which]] ^= (uint8_t)(1u << next8(input) % 8);
        }
    }
    copy.body.data = copies[0];
    copy.roots = (struct cap_hash *)(void *)copies[1];
    copy.nodes.all = (struct cap_node *)(void *)copies[2];
    return copy;
}

static void free_copy(struct cap_slice_body *copy)
{
    free((void *)(uintptr_t)copy->body.data);
    cap_slice_body_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cap_bytes input = {data, size};
    struct cap_range ranges[SLICE_RANGES_MAX];
    struct cap_buf slice = {0};
    uint8_t flags = next8(&input);
    size_t more = next16(&input);
    bool damage = (flags & DAMAGE) != 0;
    struct slice_cap cap =
        (flags & IMAGE) != 0 ? make_image(&input) : make_data(&input, (flags & HUGE_DATA) != 0);
    size_t count = slice_ranges(&input, SLICE_RANGES_MAX, cap.pages, ranges);
    struct cap_slice_body parts = copy_parts(&cap.parts, damage, &input);
    enum cap_error error = slice_encode(&parts, ranges, count, more, &slice);
    if (error == CAP_OK) {
        error = slice_take(&cap, ranges, count, false, cap_buf_bytes(&slice), 1 + more);
    }
    require(error == CAP_OK || damage);
    free_copy(&parts);
    cap_buf_free(&slice);
    slice_cap_free(&cap);
    return 0;
}
