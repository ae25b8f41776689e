/*
 * What a PUT_CAP of an Image brings: a served body. It is judged as one that a wire Image becomes,
 * its references are listed, and its CapHash is computed. See caps.h.
 */
#ifndef DAEMON_PUBLISH_BODY_H
#define DAEMON_PUBLISH_BODY_H

#include "daemon/publish/image.h"

/* What the message declares, and what the body's front adds. */
struct body_order {
    uint64_t total_len;
    struct cap_hash hash; /* that the body must have */
    uint64_t code_len;    /* known with the front */
};

/*
 * Judges the first CAP_IMAGE_FRONT bytes, and sets order->code_len. CAP_E_BODY_NOT_CANONICAL,
 * CAP_E_CODE_TOO_LARGE, CAP_E_STRUCTURE_TOO_LARGE.
 */
enum cap_error body_judge_front(struct body_order *order, struct cap_bytes front,
                                const struct image_limits *limits, struct judgement *ret_judgement);

/* Memory that body_make and body_list_missing take, at most. */
uint64_t body_make_memory(const struct body_order *order, const struct image_limits *limits);

/* Bytes that body_make hashes, about. */
uint64_t body_make_cost(const struct body_order *order);

/*
 * Makes the cap and its admission. The judgement says which rule the body breaks, or
 * CAP_E_STRUCTURE_TOO_LARGE, CAP_E_HASH_MISMATCH, CAP_E_NO_MEMORY, or how the source fails; then
 * *ret_caps can only be freed.
 */
enum cap_error body_make(const struct body_order *order, const struct image_limits *limits,
                         const struct caps_source *source, const struct caps_stamp *stamp,
                         struct caps *ret_caps, struct judgement *ret_judgement);

/* As caps_list_missing, for what body_make made. */
enum cap_error body_list_missing(const struct caps *caps, const struct cap_admission *admission,
                                 struct judgement *ret_judgement);

/* CAP_E_HASH_MISMATCH when a body does not have the hash that it was declared to have. */
enum cap_error body_check_hash(const struct cap_hash *declared, const struct cap_hash *found,
                               struct judgement *ret_judgement);

#endif
