/*
 * What a PUT_DATA, or a PUT_CAP of Data, brings: one Data cap, from raw bytes or from its canonical
 * body. See caps.h.
 */
#ifndef DAEMON_PUBLISH_DATA_H
#define DAEMON_PUBLISH_DATA_H

#include "daemon/publish/caps.h"

/* What the message declares. */
struct data_order {
    bool canonical;     /* the body is a served body, else raw content */
    uint64_t size;      /* of raw content: logical bytes, see cap_data_from_content */
    uint64_t total_len; /* of the body */
};

/* Judges the message alone. CAP_E_BODY_NOT_CANONICAL, CAP_E_INVALID_ARGUMENT. */
enum cap_error data_check(const struct data_order *order);

/* The most pages that raw content of this length can have. */
uint64_t data_pages(const struct data_order *order);

/*
 * How many pages a canonical body has, by its first CAP_DATA_BODY_FIXED bytes.
 * CAP_E_BODY_NOT_CANONICAL.
 */
enum cap_error data_front_pages(struct cap_bytes front, uint64_t total_len, uint64_t *ret_pages);

/* Memory that making the cap takes, by its pages. */
uint64_t data_make_memory(uint64_t pages);

/*
 * Makes the cap and its admission. CAP_E_BODY_NOT_CANONICAL, CAP_E_INVALID_ARGUMENT,
 * CAP_E_NO_MEMORY, or as the source fails; then *ret_caps can only be freed.
 */
enum cap_error data_make(const struct data_order *order, const struct caps_source *source,
                         const struct caps_stamp *stamp, struct caps *ret_caps);

#endif
