/*
 * Warnings to a publisher that are not errors of admission (the end of FORMATS.md section 5).
 *
 * Lint runs over an admitted wire Image, or over the cap that it became, and is never part of
 * admission.
 */
#ifndef LIB_CAP_LINT_H
#define LIB_CAP_LINT_H

#include "lib/cap/image_cap.h"
#include "lib/cap/wire_image.h"

/* X(NAME, name, text) */
#define CAP_WARNINGS(X)                                                                            \
    X(MAPPING_OUT_OF_RANGE, mapping_out_of_range,                                                  \
      "a mapping overflows or leaves [DATA_BASE, 4 GiB)")                                          \
    X(MAPPINGS_OVERLAP, mappings_overlap, "two mappings overlap")                                  \
    X(SOURCE_NOT_A_SLOT, source_not_a_slot,                                                        \
      "the first step of a mapping's source is neither a pinned nor an initial slot")              \
    X(MAPPING_LARGER_THAN_DATA, mapping_larger_than_data,                                          \
      "a mapping is larger than the Data cap behind it")                                           \
    X(SLOT_IN_BOTH_TABLES, slot_in_both_tables, "the same key is a pinned and an initial slot")    \
    X(ENTRY_OUTSIDE_CODE, entry_outside_code, "an endpoint's entry_pc is outside the code")        \
    X(ARENA_UNUSED, arena_unused, "some bytes of the arena are not used")

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

/* Takes one warning; its spans are borrowed from the view, which it must not free. */
typedef void cap_lint_report_cb(void *ctx, const struct cap_warning *warning);

/*
 * Looks up the size of the Data cap with that hash; *ret_known is false when it is unknown or the
 * cap is not a Data cap. An error ends the lint, which returns it.
 */
typedef enum cap_error cap_lint_size_cb(void *ctx, const struct cap_hash *hash, bool *ret_known,
                                        uint64_t *ret_size);

/*
 * Reports every warning of an Image that cap_deblob accepted, in the order of the list above; of
 * mappings that overlap, each that begins within one before it (in address order), once. Cost:
 * O(n log n) in the structure. An `entry_pc` is good as an offset into the code and as an address
 * where the code maps. CAP_E_NO_MEMORY, else CAP_OK however many warnings there are.
 */
enum cap_error cap_lint(const struct cap_wire_image *image, cap_lint_report_cb *report, void *ctx);

/*
 * The same for an Image cap, except ARENA_UNUSED: a cap has no arena. `code_len` is the
 * length of the code, which need not be in the view. `size_of` is called at most once per mapping.
 * Both callbacks are handed `ctx`.
 */
enum cap_error cap_lint_cap(const struct cap_image_view *view, uint64_t code_len,
                            cap_lint_size_cb *size_of, cap_lint_report_cb *report, void *ctx);

#endif
