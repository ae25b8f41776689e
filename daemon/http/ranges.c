#include "daemon/http/ranges.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static const char *skip_spaces(const char *at)
{
    return at + strspn(at, " \t");
}

const char *http_number_read(const char *at, uint64_t *ret_number)
{
    const char *end = at + strspn(at, "0123456789");
    uint64_t number = 0;
    for (const char *digit = at; digit < end; digit++) {
        uint64_t value = (uint64_t)(*digit - '0');
        number = number > (UINT64_MAX - value) / 10 ? UINT64_MAX : number * 10 + value;
    }
    *ret_number = number;
    return end == at ? NULL : end;
}

/* One range; NULL: it is not well formed. *ret_len is 0 when it overlaps nothing. */
static const char *read_range(const char *at, uint64_t size, struct http_range *ret_range)
{
    uint64_t first = 0;
    uint64_t last = UINT64_MAX;
    const char *dash = http_number_read(at, &first);
    *ret_range = (struct http_range){0};
    if (dash == NULL) { /* "-N": the last N bytes */
        const char *end = *at == '-' ? http_number_read(at + 1, &last) : NULL;
        uint64_t len = last < size ? last : size;
        *ret_range = (struct http_range){size - len, len};
        return end;
    }
    if (*dash != '-') {
        return NULL;
    }
    const char *end = http_number_read(dash + 1, &last);
    if (end == NULL) {
        end = dash + 1;
        last = UINT64_MAX;
    }
    if (last < first) {
        return NULL;
    }
    if (first < size) {
        uint64_t stop = last < size ? last + 1 : size;
        *ret_range = (struct http_range){first, stop - first};
    }
    return end;
}

enum http_ranges_verdict http_ranges_read(const char *value, uint64_t size,
                                          struct http_range ret_ranges[HTTP_RANGES_MAX],
                                          size_t *ret_count)
{
    static const char unit[] = "bytes=";
    uint64_t sum = 0;
    size_t asked = 0;
    *ret_count = 0;
    if (value == NULL || strncasecmp(value, unit, sizeof(unit) - 1) != 0) {
        return HTTP_RANGES_WHOLE;
    }
    const char *at = value + sizeof(unit) - 1;
    for (bool more = true; more; asked++) {
        struct http_range range;
        at = asked == HTTP_RANGES_MAX ? NULL : read_range(skip_spaces(at), size, &range);
        if (at == NULL) {
            return HTTP_RANGES_WHOLE;
        }
        if (range.len > 0) {
            if (range.len > size - sum) {
                return HTTP_RANGES_WHOLE;
            }
            sum += range.len;
            ret_ranges[(*ret_count)++] = range;
        }
        at = skip_spaces(at);
        more = *at == ',';
        if (!more && *at != '\0') {
            return HTTP_RANGES_WHOLE;
        }
        at++;
    }
    return *ret_count > 0 ? HTTP_RANGES_SOME : HTTP_RANGES_NONE;
}
