/*
 * What a PUT_IMAGE brings: the judgement of its head, the look whether what it refers to is there,
 * and the caps that it becomes. See caps.h.
 */
#ifndef DAEMON_PUBLISH_IMAGE_H
#define DAEMON_PUBLISH_IMAGE_H

#include "daemon/publish/caps.h"
#include "daemon/publish/held.h"

/* What we take of an Image, beyond the rules. */
struct image_limits {
    uint64_t max_slots;
    uint64_t max_data;         /* bytes that its data windows name */
    uint64_t max_memory;       /* that making its caps may take, its head included */
    const char *memory_option; /* which says so */
    uint64_t max_structure;    /* bytes of an Image's body without its code */
};

/*
 * Rules 0 to 10, then the limits, for the head of an upload of `total_len` bytes. With CAP_OK
 * *ret_wire is a view of `head`.
 */
enum cap_error image_judge(struct cap_bytes head, uint64_t total_len,
                           const struct image_limits *limits, struct cap_wire_image *ret_wire,
                           struct judgement *ret_judgement);

/*
 * Whether a look at the store before the arena has come is worth it: the head alone tells what rule
 * 11 will find (pinned Images are named by it, and no Data slot can fail, because there is none or
 * its data comes with the upload), and the arena is longer than `arena_min`.
 */
bool image_resolves_early(const struct cap_wire_image *wire, bool resolve_only, uint64_t arena_min);

/* Memory of that look, and of its list, for at most so many slots. */
uint64_t image_resolve_memory(size_t slots, size_t head_len);

/*
 * That look. Refuses, with the list, what cannot be admitted; admits nothing: only the admission
 * decides. Returns CAP_OK with the judgement, or why there is none: left to the admission. What it
 * looks for it adds to `held`. Blocks.
 */
enum cap_error image_resolve(const struct cap_wire_image *wire, struct cap_store *store,
                             struct held *held, struct judgement *ret_judgement);

/* Memory that image_make and image_list_missing take, beyond the head. */
uint64_t image_make_memory(const struct cap_wire_image *wire);

/*
 * A byte of structure counts as so many of content: short lists in lists have a tree each. The
 * worst, steps of source paths, take some 200 times as long as content; with this a structure of
 * 4 KiB is a long job, and a small one takes no longer than some milliseconds, whatever the CPU.
 */
#define IMAGE_STRUCTURE_COST 64u

/*
 * Bytes that image_make hashes, about: all of them for the arena's root, or the nodes above its
 * pages if their roots are known; then the code unless it begins at a page of the arena, then every
 * window; and the structure, by its cost. Windows that are named again cost nothing as long as the
 * memo has them, but they may overlap in more ways than it has room for.
 */
uint64_t image_make_cost(const struct cap_wire_image *wire, bool roots_known);

/*
 * What image_make reads of an arena whose block roots are known lies in this range, which may be
 * empty: the windows of the slots, and code that is not whole blocks.
 */
void image_reads(const struct cap_wire_image *wire, uint64_t *ret_from, uint64_t *ret_until);

/*
 * Makes the caps and their admission. `source` is the arena, of which the roots of all blocks may
 * be known, that of an incomplete last one too; with `resolve_only` no Data cap comes along.
 * CAP_E_NO_MEMORY, CAP_E_BODY_TOO_LARGE, or as the source fails; then *ret_caps can only be freed.
 * The wire's head must outlive the caps.
 */
enum cap_error image_make(const struct cap_wire_image *wire, bool resolve_only,
                          const struct caps_source *source, const struct caps_stamp *stamp,
                          struct caps *ret_caps);

/* As caps_list_missing. */
enum cap_error image_list_missing(const struct cap_wire_image *wire,
                                  const struct cap_admission *admission,
                                  const uint32_t *needed_slots, struct judgement *ret_judgement);

#endif
