/*
 * slow_readers ADDRESS CONNECTIONS RATE FIRST KEYS SECONDS: each connection asks for one of the
 * first KEYS caps of fill_store and takes RATE bytes of it per second; the caps are longer than
 * that comes to. Says "reading" on a line once all have asked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/message.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define HEADER     PROTO_FRAME_HEADER_SIZE
#define PIECE_MAX  65536
#define PER_SECOND 10 /* a reader takes a tenth of its rate at a time */

static void ask(int fd, uint64_t key)
{
    uint8_t bytes[HEADER + 64];
    struct cap_buf payload = {.data = bytes + HEADER, .capacity = sizeof(bytes) - HEADER};
    const struct proto_get get = {.hash = filled_hash(key), .len = PROTO_TO_END};
    if (proto_get_encode(&get, &payload) != CAP_OK) {
        net_die("GET cannot be encoded", NULL, 0);
    }
    const struct proto_frame frame = {.len = (uint32_t)payload.len, .id = 1, .type = PROTO_GET};
    proto_frame_encode(&frame, bytes);
    if (send(fd, bytes, HEADER + payload.len, MSG_NOSIGNAL) < 0) {
        net_die_errno("GET");
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: slow_readers ADDRESS CONNECTIONS RATE FIRST KEYS SECONDS\n");
        return 2;
    }
    size_t count = strtoull(argv[2], NULL, 10), piece = strtoull(argv[3], NULL, 10) / PER_SECOND;
    uint64_t first = strtoull(argv[4], NULL, 10), keys = strtoull(argv[5], NULL, 10);
    unsigned long turns = strtoul(argv[6], NULL, 10) * PER_SECOND;
    const struct rlimit files = {count + 64, count + 64};
    static uint8_t bytes[PIECE_MAX];
    int *fds = calloc(count, sizeof(*fds));
    if (fds == NULL || keys == 0 || piece == 0 || piece > sizeof(bytes)) {
        net_die("bad arguments", NULL, 0);
    }
    (void)setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; i < count; i++) {
        fds[i] = net_connect(argv[1]);
        net_hello(fds[i]);
        ask(fds[i], first + i % keys);
    }
    printf("reading\n");
    (void)fflush(stdout);
    const struct timespec pause = {0, 1000000000 / PER_SECOND};
    for (unsigned long turn = 0; turn < turns; turn++) {
        (void)nanosleep(&pause, NULL);
        for (size_t i = 0; i < count; i++) {
            ssize_t got = recv(fds[i], bytes, piece, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                net_die("the daemon closed the connection", NULL, 0);
            }
        }
    }
    free(fds);
    return 0;
}
