/* Served bodies of Data caps, for tests. */
#ifndef TESTS_UNIT_DATA_BODY_H
#define TESTS_UNIT_DATA_BODY_H

#include "lib/cap/data_cap.h"
#include "tests/unit/support.h"

/* The body of a Data cap with this content; the caller frees it. */
static inline struct cap_buf make_data_body(struct cap_bytes content)
{
    struct cap_source source = cap_source_memory(&content);
    struct cap_data data;
    struct cap_buf body = {0};
    assert_cap_ok(cap_data_from_content(&source, content.len, 0, UINT64_MAX, &data));
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)data.body.len));
    assert_cap_ok(cap_body_read(&data.body, &source, 0, body.data, body.len));
    cap_data_free(&data);
    return body;
}

#endif
