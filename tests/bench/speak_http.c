/* HTTP/1.1 with kept connections: GET /caps/HASH, the hash in hex. */
#include <stdlib.h>

#include "tests/bench/load.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define BEFORE "GET /caps/"
#define AFTER  " HTTP/1.1\r\nHost: load\r\n\r\n"
#define LENGTH "\r\nContent-Length: "

static size_t request_max(const struct load_options *options)
{
    if (options->work != LOAD_GET) {
        net_die("over HTTP there is only get", NULL, 0);
    }
    return sizeof(BEFORE) + CAP_HASH_HEX_SIZE + sizeof(AFTER);
}

static size_t request(struct conn *conn, unsigned slot, uint8_t *out)
{
    struct cap_hash hash = filled_hash(conn->slots[slot].key);
    size_t at = load_text(out, BEFORE);
    cap_hash_format(&hash, (char *)out + at);
    at += CAP_HASH_HEX_SIZE - 1;
    return at + load_text(out + at, AFTER);
}

static size_t parse(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (conn->body_left > 0) {
        size_t piece = conn->body_left < len ? (size_t)conn->body_left : len;
        load_value(conn, conn->body_slot, bytes, piece);
        conn->body_left -= piece;
        if (conn->body_left == 0) {
            (void)load_value_done(conn, conn->body_slot);
            load_done(conn, conn->body_slot);
        }
        return piece;
    }
    const uint8_t *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    size_t head = (size_t)(end - bytes) + 4;
    const uint8_t *length = memmem(bytes, head, LENGTH, sizeof(LENGTH) - 1);
    if (head < 12 || memcmp(bytes + 9, "200", 3) != 0 || length == NULL ||
        strtoull((const char *)length + sizeof(LENGTH) - 1, NULL, 10) != load_options(conn)->len) {
        net_die("the server refused", bytes, head);
    }
    conn->body_left = load_options(conn)->len;
    conn->body_slot = load_oldest(conn);
    return head;
}

const struct speaker speaker_http = {
    .name = "http",
    .request_max = request_max,
    .request = request,
    .parse = parse,
};
