/*
 * slice_speed HOW ADDRESS HASH PAGES COUNT PID
 *
 * Asks capstored COUNT times, one request after the other on one connection, and prints one line of
 * JSON: the median microseconds of an answer, the microseconds of a processor that PID took for
 * one, and the bytes of one.
 *
 * HOW: `page` is a slice of one random page out of PAGES, `whole` the slice of all of them, `get`
 * the body. Bytes are only counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "proto/frame.h"
#include "proto/message.h"
#include "tests/bench/net.h"

#define COUNT_MAX 100000u
#define ID        1u
#define SENT_MAX  256u

struct asked {
    const char *how;
    struct cap_hash hash;
    uint64_t pages;
};

static double seconds_of(clockid_t clock)
{
    struct timespec at;
    if (clock_gettime(clock, &at) != 0) {
        net_die_errno("a clock");
    }
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void send_request(int fd, const struct asked *asked, uint64_t *random)
{
    uint8_t bytes[SENT_MAX], range[PROTO_RANGE_SIZE];
    struct cap_buf payload = {
        .data = bytes + PROTO_FRAME_HEADER_SIZE,
        .capacity = sizeof(bytes) - PROTO_FRAME_HEADER_SIZE,
    };
    bool is_get = strcmp(asked->how, "get") == 0;
    bool is_page = strcmp(asked->how, "page") == 0;
    *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407;
    cap_store64(range, is_page ? (*random >> 33) % asked->pages : 0);
    cap_store64(range + 8, is_page ? 1 : asked->pages);
    const struct proto_get get = {.hash = asked->hash, .len = PROTO_TO_END};
    const struct proto_slice slice = {asked->hash, {range, sizeof(range)}, 1};
    enum cap_error error =
        is_get ? proto_get_encode(&get, &payload) : proto_slice_encode(&slice, &payload);
    if (error != CAP_OK || payload.data != bytes + PROTO_FRAME_HEADER_SIZE) {
        net_die("a request cannot be encoded", NULL, 0);
    }
    const struct proto_frame frame = {
        .len = (uint32_t)payload.len,
        .id = ID,
        .type = is_get ? PROTO_GET : PROTO_SLICE,
    };
    proto_frame_encode(&frame, bytes);
    size_t len = PROTO_FRAME_HEADER_SIZE + payload.len;
    if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len) {
        net_die_errno("a request");
    }
}

/* Reads an answer to its END; returns how many bytes its body has. */
static uint64_t take_answer(int fd)
{
    static uint8_t bytes[PROTO_FRAME_HEADER_SIZE + PROTO_FRAME_MAX];
    struct proto_frame frame = {0};
    uint64_t body = 0;
    size_t got = 0, need = PROTO_FRAME_HEADER_SIZE;
    while (frame.type != PROTO_BODY || (frame.flags & PROTO_FLAG_END) == 0 || got > 0) {
        ssize_t more = got < need ? recv(fd, bytes + got, sizeof(bytes) - got, 0) : 0;
        if (more < 0 || (more == 0 && got < need)) {
            net_die_errno("an answer");
        }
        got += (size_t)more;
        while (got >= PROTO_FRAME_HEADER_SIZE) {
            if (proto_frame_decode(bytes, PROTO_FRAME_MAX, &frame) != CAP_OK ||
                frame.type == PROTO_ERROR) {
                net_die("an answer is wrong", bytes, got);
            }
            need = PROTO_FRAME_HEADER_SIZE + frame.len;
            if (got < need) {
                break;
            }
            body += frame.type == PROTO_BODY ? frame.len : 0;
            got -= need;
            memmove(bytes, bytes + need, got);
            need = PROTO_FRAME_HEADER_SIZE;
        }
    }
    return body;
}

int main(int argc, char **argv)
{
    static double times[COUNT_MAX];
    struct asked asked;
    clockid_t server;
    if (argc != 7 || cap_hash_parse(argv[3], &asked.hash) != CAP_OK) {
        net_die("usage: slice_speed page|whole|get ADDRESS HASH PAGES COUNT PID", NULL, 0);
    }
    asked.how = argv[1];
    asked.pages = strtoull(argv[4], NULL, 10);
    size_t count = strtoul(argv[5], NULL, 10);
    if (asked.pages == 0 || count == 0 || count > COUNT_MAX ||
        clock_getcpuclockid((pid_t)strtol(argv[6], NULL, 10), &server) != 0) {
        net_die("nothing to do", NULL, 0);
    }
    int fd = net_connect(argv[2]);
    uint64_t random = asked.pages, bytes = 0;
    net_hello(fd);
    for (size_t i = 0; i < count / 10 + 1;
         i++) { /* what is asked for the first time does not count */
        send_request(fd, &asked, &random);
        bytes = take_answer(fd);
    }
    double used = seconds_of(server);
    for (size_t i = 0; i < count; i++) {
        double began = seconds_of(CLOCK_MONOTONIC);
        send_request(fd, &asked, &random);
        bytes = take_answer(fd);
        times[i] = seconds_of(CLOCK_MONOTONIC) - began;
    }
    used = seconds_of(server) - used;
    qsort(times, count, sizeof(*times), by_value);
    printf("{\"p50_us\": %.3f, \"server_us\": %.3f, \"bytes\": %llu}\n", times[count / 2] * 1e6,
           used * 1e6 / (double)count, (unsigned long long)bytes);
    return 0;
}
