/*
 * Warnings to a publisher that are no admission errors (the end of FORMATS.md section 5).
 *
 * Lint runs over an admitted wire Image and is never part of admission.
 */
#ifndef LIB_CAP_LINT_H
#define LIB_CAP_LINT_H

#include "lib/cap/wire_image.h"

/* X(NAME, name, text) */
#define CAP_WARNINGS(X)                                                                            \
    X(MAPPING_OUT_OF_RANGE, mapping_out_of_range,                                                  \
      "a mapping overflows or leaves [DATA_BASE, 4 GiB)")                                          \
    X(MAPPINGS_OVERLAP, mappings_overlap, "two mappings overlap")                                  \
    X(SOURCE_NOT_A_SLOT, source_not_a_slot,                                                        \
      "the first step of a mapping's source is neither a pinned nor an initial slot")              \
    X(MAPPING_LARGER_THAN_DATA, mapping_larger_than_data, "a mapping is larger than its Data cap") \
    X(SLOT_IN_BOTH_TABLES, slot_in_both_tables, "one key is a pinned and an initial slot")         \
    X(ENTRY_OUTSIDE_CODE, entry_outside_code, "an endpoint's entry_pc lies outside of the code")   \
    X(ARENA_UNUSED, arena_unused, "the arena has bytes that nothing names")

enum cap_warning_reason {
#define CAP_WARNING_ENUM(NAME, name, text) CAP_WARN_##NAME,
    CAP_WARNINGS(CAP_WARNING_ENUM)
#undef CAP_WARNING_ENUM
};

/* Which fields are meaningful follows from the reason; the others are zero or empty. */
struct cap_warning {
    enum cap_warning_reason reason;
    bool has_key;
    struct cap_bytes key; /* borrowed from the view: the slot or endpoint concerned */
    bool has_index;
    size_t index;       /* of the mapping concerned */
    size_t other_index; /* of the mapping that it overlaps (only with MAPPINGS_OVERLAP) */
    uint64_t value;     /* start of the mapping (of `index`), entry_pc, or unused arena bytes */
};

/* The stable name of a warning, and one sentence for a person without a final stop. Static. */
const char *cap_warning_name(enum cap_warning_reason reason);
const char *cap_warning_text(enum cap_warning_reason reason);

/*
 * Reports every warning of an Image that cap_deblob accepted, in the order of the list above; of
 * mappings that overlap, each that begins inside of one before it (in address order), once. Cost:
 * O(n log n) in the structure. An `entry_pc` is good as an offset into the code and as an address
 * where the code maps. `report` must not free the view. CAP_E_NO_MEMORY, else CAP_OK however many
 * warnings there are.
 */
enum cap_error cap_lint(const struct cap_wire_image *image,
                        void (*report)(void *ctx, const struct cap_warning *warning), void *ctx);

#endif
