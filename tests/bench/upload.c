/*
 * upload ADDRESS FILE image|dry-run|data: uploads a wire Image, or raw bytes as a Data cap, as fast
 * as the daemon takes it. Prints the seconds from its first byte to the answer, and to its last
 * byte sent, as one line of JSON.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "proto/message.h"
#include "tests/bench/net.h"

#define HEADER PROTO_FRAME_HEADER_SIZE
#define PIECE  PROTO_FRAME_MAX

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void send_all(int fd, struct iovec *parts, size_t count)
{
    while (count > 0) {
        const struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            net_die_errno("send");
        }
        size_t left = (size_t)sent;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (uint8_t *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
}

/* What to upload a file as. */
enum kind { IMAGE, DRY_RUN, DATA, KINDS };

static void send_upload(int fd, uint8_t *image, size_t len, enum kind kind)
{
    uint8_t bytes[HEADER + 64];
    struct cap_buf payload = {.data = bytes + HEADER, .capacity = sizeof(bytes) - HEADER};
    const struct proto_put_data data = {.total_len = len};
    const struct proto_put_image wire = {
        .flags = kind == DRY_RUN ? PROTO_IMAGE_DRY_RUN : 0,
        .total_len = len,
    };
    enum cap_error error = kind == DATA ? proto_put_data_encode(&data, &payload)
                                        : proto_put_image_encode(&wire, &payload);
    if (error != CAP_OK) {
        net_die("the request cannot be encoded", NULL, 0);
    }
    struct proto_frame frame = {
        .len = (uint32_t)payload.len,
        .id = 1,
        .type = kind == DATA ? PROTO_PUT_DATA : PROTO_PUT_IMAGE,
    };
    proto_frame_encode(&frame, bytes);
    struct iovec request = {bytes, HEADER + payload.len};
    send_all(fd, &request, 1);
    frame.type = PROTO_BODY;
    for (size_t at = 0; at < len; at += frame.len) {
        frame.len = len - at < PIECE ? (uint32_t)(len - at) : PIECE;
        frame.flags = at + frame.len == len ? PROTO_FLAG_END : 0;
        proto_frame_encode(&frame, bytes);
        struct iovec parts[] = {{bytes, HEADER}, {image + at, frame.len}};
        send_all(fd, parts, 2);
    }
}

int main(int argc, char **argv)
{
    static const char *const names[KINDS] = {"image", "dry-run", "data"};
    int kind = IMAGE;
    while (argc == 4 && kind < KINDS && strcmp(argv[3], names[kind]) != 0) {
        kind++;
    }
    if (argc != 4 || kind == KINDS) {
        fprintf(stderr, "usage: upload ADDRESS FILE image|dry-run|data\n");
        return 2;
    }
    struct stat status;
    int file = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0 || status.st_size == 0) {
        net_die_errno(argv[2]);
    }
    size_t len = (size_t)status.st_size;
    uint8_t *image = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (image == MAP_FAILED) {
        net_die_errno("mmap");
    }
    int fd = net_connect(argv[1]);
    net_hello(fd);
    uint8_t reply[PROTO_MESSAGE_MAX];
    double began = now();
    send_upload(fd, image, len, (enum kind)kind);
    double sent = now() - began;
    uint8_t type = net_message(fd, reply);
    double took = now() - began;
    if (type != PROTO_PUT_IMAGE_REPLY && type != PROTO_PUT_DATA_REPLY) {
        net_die("the answer is not a reply", NULL, 0);
    }
    struct cap_hash hash;
    char hex[CAP_HASH_HEX_SIZE];
    memcpy(hash.bytes, reply + HEADER, sizeof(hash.bytes)); /* the first field of both */
    cap_hash_format(&hash, hex);
    printf("{\"seconds\": %.6f, \"sent_seconds\": %.6f, \"cap_hash\": \"%s\"}\n", took, sent, hex);
    (void)munmap(image, len);
    (void)close(fd);
    (void)close(file);
    return 0;
}
