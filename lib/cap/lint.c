/*
 * Lint: one function per warning, called in the order of the list. Where many things are compared
 * with each other, they are sorted first.
 */
#include "lib/cap/lint.h"

#include <stdlib.h>

/* What each check is given. */
struct lint {
    const struct cap_wire_image *image;
    void (*report)(void *ctx, const struct cap_warning *warning);
    void *ctx;
};

/* Addresses or arena bytes from `first` to `last`, both in it, and which mapping they belong to. */
struct span {
    uint64_t first;
    uint64_t last;
    size_t index;
};

const char *cap_warning_name(enum cap_warning_reason reason)
{
    switch (reason) {
#define CAP_WARNING_NAME(NAME, name, text)                                                         \
    case CAP_WARN_##NAME:                                                                          \
        return #name;
        CAP_WARNINGS(CAP_WARNING_NAME)
#undef CAP_WARNING_NAME
    }
    return "unknown";
}

const char *cap_warning_text(enum cap_warning_reason reason)
{
    switch (reason) {
#define CAP_WARNING_TEXT(NAME, name, text)                                                         \
    case CAP_WARN_##NAME:                                                                          \
        return text;
        CAP_WARNINGS(CAP_WARNING_TEXT)
#undef CAP_WARNING_TEXT
    }
    return "unknown";
}

static void warn(const struct lint *lint, struct cap_warning warning)
{
    lint->report(lint->ctx, &warning);
}

/* `size` > 0 addresses from `start`; what would be past the last address is cut. */
static struct span make_span(uint64_t start, uint64_t size, size_t index)
{
    uint64_t last = size - 1 > UINT64_MAX - start ? UINT64_MAX : start + (size - 1);

    return (struct span){start, last, index};
}

static int span_compare(const void *a, const void *b)
{
    const struct span *left = a;
    const struct span *right = b;

    if (left->first != right->first) {
        return left->first < right->first ? -1 : 1;
    }
    return (left->index > right->index) - (left->index < right->index);
}

static enum cap_error lint_ranges(const struct lint *lint)
{
    const struct cap_ssz_list *mappings = &lint->image->mappings;

    for (size_t i = 0; i < mappings->count; i++) {
        struct cap_mapping mapping;

        cap_mapping_at(mappings, i, &mapping);
        if (mapping.start < CAP_DATA_BASE || mapping.start > CAP_ADDRESS_END ||
            mapping.size > CAP_ADDRESS_END - mapping.start) {
            warn(lint, (struct cap_warning){.reason = CAP_WARN_MAPPING_OUT_OF_RANGE,
                                            .has_index = true,
                                            .index = i,
                                            .value = mapping.start});
        }
    }
    return CAP_OK;
}

/* Sweeps sorted spans: each that begins before the furthest end so far overlaps its owner. */
static void sweep(const struct lint *lint, const struct span *spans, size_t count)
{
    const struct span *furthest = NULL; /* of the spans before, the one with the greatest end */

    for (size_t i = 0; i < count; i++) {
        const struct span *span = &spans[i];

        if (furthest != NULL && span->first <= furthest->last) {
            warn(lint, (struct cap_warning){.reason = CAP_WARN_MAPPINGS_OVERLAP,
                                            .has_index = true,
                                            .index = span->index,
                                            .other_index = furthest->index,
                                            .value = span->first});
        }
        if (furthest == NULL || span->last > furthest->last) {
            furthest = span;
        }
    }
}

static enum cap_error lint_overlaps(const struct lint *lint)
{
    const struct cap_ssz_list *mappings = &lint->image->mappings;
    size_t count = 0;

    if (mappings->count < 2) {
        return CAP_OK;
    }
    struct span *spans = calloc(mappings->count, sizeof(*spans));
    if (spans == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < mappings->count; i++) {
        struct cap_mapping mapping;

        cap_mapping_at(mappings, i, &mapping);
        if (mapping.size > 0) { /* an empty one overlaps nothing */
            spans[count++] = make_span(mapping.start, mapping.size, i);
        }
    }
    qsort(spans, count, sizeof(*spans), span_compare);
    sweep(lint, spans, count);
    free(spans);
    return CAP_OK;
}

/* Finds `key` among `count` slots from `first`, which lie in key order. */
static bool find_slot(const struct cap_wire_image *image, size_t first, size_t count,
                      struct cap_bytes key, struct cap_wire_slot *ret_slot)
{
    while (count > 0) {
        size_t middle = first + count / 2;
        struct cap_wire_slot slot;

        cap_wire_slot_at(image, middle, &slot);
        int order = cap_bytes_compare(key, slot.key);
        if (order == 0) {
            *ret_slot = slot;
            return true;
        }
        if (order > 0) {
            count -= count / 2 + 1;
            first = middle + 1;
        } else {
            count /= 2;
        }
    }
    return false;
}

/* The slot where a path begins; a pinned one comes before an initial one of the same key. */
static bool find_root(const struct cap_wire_image *image, struct cap_bytes key,
                      struct cap_wire_slot *ret_slot)
{
    return find_slot(image, 0, image->pinned.count, key, ret_slot) ||
           find_slot(image, image->pinned.count, image->initial.count, key, ret_slot);
}

static enum cap_error lint_sources(const struct lint *lint)
{
    const struct cap_ssz_list *mappings = &lint->image->mappings;

    for (size_t i = 0; i < mappings->count; i++) {
        struct cap_mapping mapping;
        struct cap_wire_slot slot;

        cap_mapping_at(mappings, i, &mapping);
        struct cap_bytes key = cap_ssz_list_at(&mapping.source, 0);
        if (!find_root(lint->image, key, &slot)) {
            warn(lint, (struct cap_warning){.reason = CAP_WARN_SOURCE_NOT_A_SLOT,
                                            .has_key = true,
                                            .key = key,
                                            .has_index = true,
                                            .index = i,
                                            .value = mapping.start});
        }
    }
    return CAP_OK;
}

/* A path of more than one step leads through a cap that is not in this Image: nothing to compare.
 */
static enum cap_error lint_sizes(const struct lint *lint)
{
    const struct cap_ssz_list *mappings = &lint->image->mappings;

    for (size_t i = 0; i < mappings->count; i++) {
        struct cap_mapping mapping;
        struct cap_wire_slot slot;

        cap_mapping_at(mappings, i, &mapping);
        struct cap_bytes key = cap_ssz_list_at(&mapping.source, 0);
        if (mapping.source.count != 1 || !find_root(lint->image, key, &slot) ||
            slot.kind != CAP_KIND_DATA) {
            continue;
        }
        uint64_t size = slot.desc.size == 0 ? CAP_PAGE_SIZE : slot.desc.size;
        if (mapping.size > size) {
            warn(lint, (struct cap_warning){.reason = CAP_WARN_MAPPING_LARGER_THAN_DATA,
                                            .has_key = true,
                                            .key = key,
                                            .has_index = true,
                                            .index = i,
                                            .value = mapping.start});
        }
    }
    return CAP_OK;
}

static enum cap_error lint_tables(const struct lint *lint)
{
    const struct cap_wire_image *image = lint->image;

    for (size_t i = 0; i < image->pinned.count; i++) {
        struct cap_wire_slot pinned;
        struct cap_wire_slot initial;

        cap_wire_slot_at(image, i, &pinned);
        if (find_slot(image, image->pinned.count, image->initial.count, pinned.key, &initial)) {
            warn(lint, (struct cap_warning){.reason = CAP_WARN_SLOT_IN_BOTH_TABLES,
                                            .has_key = true,
                                            .key = pinned.key});
        }
    }
    return CAP_OK;
}

/* Producers count entry_pc from the code's start or from address 0: either is good here. */
static bool entry_in_code(const struct cap_wire_image *image, uint64_t entry_pc)
{
    return entry_pc < image->code_len ||
           (entry_pc >= CAP_CODE_BASE && entry_pc - CAP_CODE_BASE < image->code_len);
}

static enum cap_error lint_entries(const struct lint *lint)
{
    const struct cap_wire_image *image = lint->image;

    for (size_t i = 0; i < image->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;

        cap_wire_endpoint_at(image, i, &endpoint);
        if (!entry_in_code(image, endpoint.entry_pc)) {
            warn(lint, (struct cap_warning){.reason = CAP_WARN_ENTRY_OUTSIDE_CODE,
                                            .has_key = true,
                                            .key = endpoint.key,
                                            .value = endpoint.entry_pc});
        }
    }
    return CAP_OK;
}

/* How many page references all Data slots have. */
static size_t window_count(const struct cap_wire_image *image)
{
    size_t count = 0;

    for (size_t i = 0; i < cap_wire_slot_count(image); i++) {
        struct cap_wire_slot slot;

        cap_wire_slot_at(image, i, &slot);
        count += slot.desc.page_count;
    }
    return count;
}

/* Fills `spans` with every window and the code; returns how many. */
static size_t collect_windows(const struct cap_wire_image *image, struct span *spans)
{
    size_t count = 0;

    if (image->code_len > 0) {
        spans[count++] = make_span(image->code_off, image->code_len, 0);
    }
    for (size_t i = 0; i < cap_wire_slot_count(image); i++) {
        struct cap_wire_slot slot;

        cap_wire_slot_at(image, i, &slot);
        for (size_t page = 0; page < slot.desc.page_count; page++) {
            struct cap_page_ref ref = cap_page_ref_at(slot.desc.pages, page);

            spans[count++] = make_span(ref.arena_off, ref.len, 0);
        }
    }
    return count;
}

/* How many bytes sorted spans cover, each counted once; they end below 2^64 - 1. */
static uint64_t covered(const struct span *spans, size_t count)
{
    uint64_t sum = 0;
    uint64_t next = 0; /* everything before it is counted */

    for (size_t i = 0; i < count; i++) {
        uint64_t from = spans[i].first > next ? spans[i].first : next;

        if (spans[i].last >= from) {
            next = spans[i].last + 1;
            sum += next - from;
        }
    }
    return sum;
}

static enum cap_error lint_arena(const struct lint *lint)
{
    const struct cap_wire_image *image = lint->image;
    struct span *spans = calloc(window_count(image) + 1, sizeof(*spans));

    if (spans == NULL) {
        return CAP_E_NO_MEMORY;
    }
    size_t count = collect_windows(image, spans);
    qsort(spans, count, sizeof(*spans), span_compare);
    uint64_t named = covered(spans, count);
    free(spans);
    if (named < image->arena_len) {
        warn(lint, (struct cap_warning){.reason = CAP_WARN_ARENA_UNUSED,
                                        .value = image->arena_len - named});
    }
    return CAP_OK;
}

enum cap_error cap_lint(const struct cap_wire_image *image,
                        void (*report)(void *ctx, const struct cap_warning *warning), void *ctx)
{
    static enum cap_error (*const checks[])(const struct lint *) = {
        lint_ranges, lint_overlaps, lint_sources, lint_sizes, lint_tables, lint_entries, lint_arena,
    };
    struct lint lint = {image, report, ctx};

    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        enum cap_error error = checks[i](&lint);

        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}
