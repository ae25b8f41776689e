/* memcached's meta commands: mg and ms. Keys are the hash in hex. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/load.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define REQUEST_MAX (16u + CAP_HASH_HEX_SIZE + 32u)

static size_t request_max(const struct load_options *options)
{
    if (options->work == LOAD_HAS || options->work == LOAD_MANY) {
        net_die("memcached has no question for many keys", NULL, 0);
    }
    return REQUEST_MAX + (options->work == LOAD_PUT ? options->len + 2 : 0);
}

static size_t request(struct conn *conn, unsigned slot, uint8_t *out)
{
    const struct load_options *options = load_options(conn);
    uint64_t key = conn->slots[slot].key;
    struct cap_hash hash = filled_hash(key);
    size_t at = load_text(out, options->work == LOAD_PUT ? "ms " : "mg ");
    cap_hash_format(&hash, (char *)out + at);
    at += CAP_HASH_HEX_SIZE - 1;
    if (options->work == LOAD_GET) {
        return at + load_text(out + at, " v\r\n");
    }
    at += (size_t)snprintf((char *)out + at, 32, " %llu\r\n", (unsigned long long)options->len);
    filled_body(key, out + at, options->len);
    at += options->len;
    return at + load_text(out + at, "\r\n");
}

static size_t parse(struct conn *conn, const uint8_t *bytes, size_t len)
{
    const struct load_options *options = load_options(conn);
    if (conn->body_left > 0) {
        return load_line_value(conn, bytes, len);
    }
    const uint8_t *end = memchr(bytes, '\n', len);
    if (end == NULL) {
        return 0;
    }
    size_t line = (size_t)(end - bytes) + 1;
    unsigned slot = load_oldest(conn);
    if (options->work == LOAD_GET && line > 3 && memcmp(bytes, "VA ", 3) == 0 &&
        strtoull((const char *)bytes + 3, NULL, 10) == options->len) {
        conn->body_left = options->len + 2;
        conn->body_slot = slot;
        return line;
    }
    if (options->work != LOAD_PUT || memcmp(bytes, "HD", 2) != 0) {
        net_die("memcached refused", bytes, line);
    }
    load_done(conn, slot);
    return line;
}

const struct speaker speaker_memcached = {
    .name = "memcached",
    .request_max = request_max,
    .request = request,
    .parse = parse,
};
