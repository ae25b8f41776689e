/* RESP, as redis speaks it: GET, SET, EXISTS and MGET. Keys are the 32 bytes of the hash. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/load.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define KEY_HEAD "$32\r\n"
#define KEY_LEN  (sizeof(KEY_HEAD) - 1 + CAP_HASH_SIZE + 2)
#define HEAD_MAX 64u /* "*3\r\n$3\r\nSET\r\n" and the value's "$LEN\r\n" */

static size_t request_max(const struct load_options *options)
{
    size_t value = options->work == LOAD_PUT ? options->len + 2 : 0;
    return HEAD_MAX + KEY_LEN * (size_t)options->batch + value;
}

static size_t write_key(uint8_t *out, uint64_t key)
{
    struct cap_hash hash = filled_hash(key);
    size_t at = load_text(out, KEY_HEAD);
    memcpy(out + at, hash.bytes, CAP_HASH_SIZE);
    at += CAP_HASH_SIZE;
    return at + load_text(out + at, "\r\n");
}

static size_t request(struct conn *conn, unsigned slot, uint8_t *out)
{
    const struct load_options *options = load_options(conn);
    char head[HEAD_MAX];
    size_t at = 0;
    switch (options->work) {
    case LOAD_GET:
        at = load_text(out, "*2\r\n$3\r\nGET\r\n");
        return at + write_key(out + at, conn->slots[slot].key);
    case LOAD_PUT:
        at = load_text(out, "*3\r\n$3\r\nSET\r\n");
        at += write_key(out + at, conn->slots[slot].key);
        (void)snprintf(head, sizeof(head), "$%llu\r\n", (unsigned long long)options->len);
        at += load_text(out + at, head);
        filled_body(conn->slots[slot].key, out + at, options->len);
        return at + options->len + load_text(out + at + options->len, "\r\n");
    case LOAD_HAS:
    case LOAD_MANY:
        (void)snprintf(head, sizeof(head), "*%u\r\n%s\r\n", options->batch + 1,
                       options->work == LOAD_HAS ? "$6\r\nEXISTS" : "$4\r\nMGET");
        at = load_text(out, head);
        for (unsigned i = 0; i < options->batch; i++) {
            at += write_key(out + at, load_key(conn, slot, i));
        }
        return at;
    }
    return 0;
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
    if (options->work == LOAD_MANY && bytes[0] == '*') {
        if (strtoull((const char *)bytes + 1, NULL, 10) != options->batch) {
            net_die("MGET has another number of values", bytes, line);
        }
        return line;
    }
    if ((options->work == LOAD_GET || options->work == LOAD_MANY) && bytes[0] == '$' &&
        bytes[1] != '-') {
        if (strtoull((const char *)bytes + 1, NULL, 10) != options->len) {
            net_die("a value has another length", bytes, line);
        }
        if (options->work == LOAD_MANY) {
            load_expect(conn, slot, conn->slots[slot].values);
        }
        conn->body_left = options->len + 2;
        conn->body_slot = slot;
        return line;
    }
    bool right =
        options->work == LOAD_PUT ? line == 5 && memcmp(bytes, "+OK\r\n", 5) == 0
        : options->work == LOAD_HAS
            ? bytes[0] == ':' && strtoull((const char *)bytes + 1, NULL, 10) == options->batch
            : false;
    if (!right) {
        net_die("redis refused", bytes, line);
    }
    load_done(conn, slot);
    return line;
}

const struct speaker speaker_redis = {
    .name = "redis",
    .request_max = request_max,
    .request = request,
    .parse = parse,
};
