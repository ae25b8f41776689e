/* What a PUT_DATA brings: one Data cap, from raw bytes or from its canonical body. See caps.h. */
#ifndef DAEMON_PUBLISH_DATA_H
#define DAEMON_PUBLISH_DATA_H

#include "daemon/publish/caps.h"

/* What the message declares. */
struct data_order {
    bool canonical;     /* the body is a served body, else raw content */
    uint64_t size;      /* of raw content: logical bytes, see cap_data_from_content */
    uint64_t total_len; /* of the body */
};

/* The first bytes of a canonical body, while they are gathered. */
struct data_front {
    uint8_t bytes[CAP_DATA_BODY_FIXED];
    size_t filled;
};

/* Judges the message alone. CAP_E_BODY_NOT_CANONICAL, CAP_E_INVALID_ARGUMENT. */
enum cap_error data_check(const struct data_order *order);

/* The most pages that raw content of this length can have. */
uint64_t data_pages(const struct data_order *order);

/*
 * Looks at the next piece of a canonical body. *ret_pages is set once the front is complete, and
 * says how many pages the body has; until then it is left alone. CAP_E_BODY_NOT_CANONICAL.
 */
enum cap_error data_front_take(struct data_front *front, struct cap_bytes piece, uint64_t total_len,
                               uint64_t *ret_pages);

/*
 * Whether a cap of so many pages could be made if nothing else had memory: CAP_E_MEMORY_LIMIT, and
 * the judgement names `option`, whose figure `max` is.
 */
enum cap_error data_check_memory(uint64_t pages, uint64_t max, const char *option,
                                 struct judgement *ret_judgement);

/* Memory that making the cap takes, by its pages. */
uint64_t data_make_memory(uint64_t pages);

/*
 * Makes the cap and its admission. CAP_E_BODY_NOT_CANONICAL, CAP_E_INVALID_ARGUMENT,
 * CAP_E_NO_MEMORY, or as the source fails; then *ret_caps can only be freed.
 */
enum cap_error data_make(const struct data_order *order, const struct caps_source *source,
                         const struct caps_stamp *stamp, struct caps *ret_caps);

#endif
