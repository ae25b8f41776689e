/* The header Range (RFC 9110 section 14), over a representation of known size. Pure. */
#ifndef DAEMON_HTTP_RANGES_H
#define DAEMON_HTTP_RANGES_H

#include <stddef.h>
#include <stdint.h>

/* Ranges of one answer; a request for more is answered with the whole, as the RFC allows. */
#define HTTP_RANGES_MAX 16u

/*
 * Reads decimal digits. Returns where they end, NULL when there is none; a number past 64 bits is
 * UINT64_MAX.
 */
const char *http_number_read(const char *at, uint64_t *ret_number);

struct http_range {
    uint64_t first;
    uint64_t len; /* not 0 */
};

enum http_ranges_verdict {
    HTTP_RANGES_WHOLE, /* no header, another unit, not well formed, or not worth it: all of it */
    HTTP_RANGES_SOME,
    HTTP_RANGES_NONE, /* none of them overlaps what there is */
};

/*
 * Reads a header's value, NULL if there is none. Of HTTP_RANGES_SOME, *ret_count in the order in
 * which they were asked for, cut to `size`. Ranges that come to more than `size` are not worth it:
 * a client could have a cap sent many times by one short line.
 */
enum http_ranges_verdict http_ranges_read(const char *value, uint64_t size,
                                          struct http_range ret_ranges[HTTP_RANGES_MAX],
                                          size_t *ret_count);

#endif
