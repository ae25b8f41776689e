/*
 * Lint: one function per warning, called in the order of the list. Where many things are compared
 * with each other, they are sorted first. Wire Images and caps differ in how slots and endpoints
 * are reached; the checks are the same.
 */
#include "lib/cap/lint.h"

#include <stdlib.h>

/* What each check is given: a wire Image or an Image cap, of which the other pointer is NULL. */
struct lint {
    const struct cap_wire_image *wire;
    const struct cap_image_view *cap;
    const struct cap_ssz_list *mappings;
    uint64_t code_len;
    cap_lint_size_cb *size_of; /* of a cap's Data caps */
    cap_lint_report_cb *report;
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

/* --- Either kind of Image --------------------------------------------------------------------- */

static size_t slot_count(const struct lint *lint, enum cap_table table)
{
    if (lint->wire != NULL) {
        return table == CAP_TABLE_PINNED ? lint->wire->pinned.count : lint->wire->initial.count;
    }
    return table == CAP_TABLE_PINNED ? lint->cap->pinned.count : lint->cap->initial.count;
}

static void wire_slot(const struct lint *lint, enum cap_table table, size_t index,
                      struct cap_wire_slot *ret_slot)
{
    size_t first = table == CAP_TABLE_PINNED ? 0 : lint->wire->pinned.count;
    cap_wire_slot_at(lint->wire, first + index, ret_slot);
}

static void cap_slot(const struct lint *lint, enum cap_table table, size_t index,
                     struct cap_slot *ret_slot)
{
    cap_image_slot_at(table == CAP_TABLE_PINNED ? &lint->cap->pinned : &lint->cap->initial, index,
                      ret_slot);
}

static struct cap_bytes slot_key(const struct lint *lint, enum cap_table table, size_t index)
{
    struct cap_wire_slot wire;
    struct cap_slot cap;
    if (lint->wire != NULL) {
        wire_slot(lint, table, index, &wire);
        return wire.key;
    }
    cap_slot(lint, table, index, &cap);
    return cap.key;
}

/* The size of the Data cap in a slot, when it is one and known. */
static enum cap_error slot_size(const struct lint *lint, enum cap_table table, size_t index,
                                bool *ret_known, uint64_t *ret_size)
{
    struct cap_slot cap;
    struct cap_wire_slot wire;
    if (lint->wire == NULL) {
        cap_slot(lint, table, index, &cap);
        return lint->size_of(lint->ctx, &cap.cap_hash, ret_known, ret_size);
    }
    wire_slot(lint, table, index, &wire);
    *ret_known = wire.kind == CAP_KIND_DATA;
    *ret_size = wire.desc.size == 0 ? CAP_PAGE_SIZE : wire.desc.size;
    return CAP_OK;
}

/* Finds a key in one table, whose keys ascend. */
static bool find_in_table(const struct lint *lint, enum cap_table table, struct cap_bytes key,
                          size_t *ret_index)
{
    size_t low = 0;
    size_t high = slot_count(lint, table);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = cap_bytes_compare(slot_key(lint, table, middle), key);
        if (order == 0) {
            *ret_index = middle;
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* Finds a slot; a pinned one comes before an initial one of the same key. */
static bool find_slot(const struct lint *lint, struct cap_bytes key, enum cap_table *ret_table,
                      size_t *ret_index)
{
    *ret_table = CAP_TABLE_PINNED;
    if (find_in_table(lint, CAP_TABLE_PINNED, key, ret_index)) {
        return true;
    }
    *ret_table = CAP_TABLE_INITIAL;
    return find_in_table(lint, CAP_TABLE_INITIAL, key, ret_index);
}

/* --- The warnings ----------------------------------------------------------------------------- */

static enum cap_error lint_ranges(const struct lint *lint)
{
    const struct cap_ssz_list *mappings = lint->mappings;
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
    const struct cap_ssz_list *mappings = lint->mappings;
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

static void warn_mapping(const struct lint *lint, enum cap_warning_reason reason, size_t index,
                         struct cap_bytes key, uint64_t start)
{
    warn(lint, (struct cap_warning){.reason = reason,
                                    .has_key = true,
                                    .key = key,
                                    .has_index = true,
                                    .index = index,
                                    .value = start});
}

static enum cap_error lint_sources(const struct lint *lint)
{
    for (size_t i = 0; i < lint->mappings->count; i++) {
        struct cap_mapping mapping;
        enum cap_table table;
        size_t slot;
        cap_mapping_at(lint->mappings, i, &mapping);
        struct cap_bytes first = cap_ssz_list_at(&mapping.source, 0);
        if (!find_slot(lint, first, &table, &slot)) {
            warn_mapping(lint, CAP_WARN_SOURCE_NOT_A_SLOT, i, first, mapping.start);
        }
    }
    return CAP_OK;
}

/* The Data cap behind a mapping is the one that the last step of its path names. */
static enum cap_error lint_sizes(const struct lint *lint)
{
    for (size_t i = 0; i < lint->mappings->count; i++) {
        struct cap_mapping mapping;
        enum cap_table table;
        size_t slot;
        bool known = false;
        uint64_t size = 0;
        cap_mapping_at(lint->mappings, i, &mapping);
        struct cap_bytes last = cap_ssz_list_at(&mapping.source, mapping.source.count - 1);
        if (!find_slot(lint, last, &table, &slot)) {
            continue;
        }
        enum cap_error error = slot_size(lint, table, slot, &known, &size);
        if (error != CAP_OK) {
            return error;
        }
        if (known && mapping.size > size) {
            warn_mapping(lint, CAP_WARN_MAPPING_LARGER_THAN_DATA, i, last, mapping.start);
        }
    }
    return CAP_OK;
}

static enum cap_error lint_tables(const struct lint *lint)
{
    for (size_t i = 0; i < slot_count(lint, CAP_TABLE_PINNED); i++) {
        struct cap_bytes key = slot_key(lint, CAP_TABLE_PINNED, i);
        size_t initial;
        if (find_in_table(lint, CAP_TABLE_INITIAL, key, &initial)) {
            warn(lint, (struct cap_warning){
                           .reason = CAP_WARN_SLOT_IN_BOTH_TABLES, .has_key = true, .key = key});
        }
    }
    return CAP_OK;
}

/* Producers count entry_pc from the code's start or from address 0: either is good here. */
static void lint_entry(const struct lint *lint, struct cap_bytes key, uint64_t entry_pc)
{
    if (entry_pc < lint->code_len ||
        (entry_pc >= CAP_CODE_BASE && entry_pc - CAP_CODE_BASE < lint->code_len)) {
        return;
    }
    warn(lint, (struct cap_warning){.reason = CAP_WARN_ENTRY_OUTSIDE_CODE,
                                    .has_key = true,
                                    .key = key,
                                    .value = entry_pc});
}

static enum cap_error lint_entries(const struct lint *lint)
{
    for (size_t i = 0; lint->wire != NULL && i < lint->wire->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(lint->wire, i, &endpoint);
        lint_entry(lint, endpoint.key, endpoint.entry_pc);
    }
    for (size_t i = 0; lint->cap != NULL && i < lint->cap->endpoints.count; i++) {
        struct cap_endpoint endpoint;
        cap_image_endpoint_at(lint->cap, i, &endpoint);
        lint_entry(lint, endpoint.key, endpoint.entry_pc);
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
    const struct cap_wire_image *image = lint->wire;
    if (image == NULL) {
        return CAP_OK; /* a cap has no arena */
    }
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

static enum cap_error run(const struct lint *lint)
{
    static enum cap_error (*const checks[])(const struct lint *) = {
        lint_ranges, lint_overlaps, lint_sources, lint_sizes, lint_tables, lint_entries, lint_arena,
    };
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        enum cap_error error = checks[i](lint);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

enum cap_error cap_lint(const struct cap_wire_image *image, cap_lint_report_cb *report, void *ctx)
{
    const struct lint lint = {
        .wire = image,
        .mappings = &image->mappings,
        .code_len = image->code_len,
        .report = report,
        .ctx = ctx,
    };
    return run(&lint);
}

enum cap_error cap_lint_cap(const struct cap_image_view *view, uint64_t code_len,
                            cap_lint_size_cb *size_of, cap_lint_report_cb *report, void *ctx)
{
    const struct lint lint = {
        .cap = view,
        .mappings = &view->mappings,
        .code_len = code_len,
        .size_of = size_of,
        .report = report,
        .ctx = ctx,
    };
    return run(&lint);
}
