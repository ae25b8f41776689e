/*
 * floor WHAT SECONDS [FILE]: what this machine can do at best, for the benchmarks to be compared
 * with, as one line of JSON. WHAT is
 *
 * - copy: bytes per second that one core copies between two buffers of 256 MiB,
 * - unix, tcp: bytes per second in writes of 64 KiB, and round trips of a byte, on a socket,
 * - sync: times per second that 4 KiB are appended to FILE and synced.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/net.h"

#define COPY_SIZE  ((size_t)256 << 20)
#define WRITE_SIZE (64u << 10)
#define SYNC_SIZE  4096u

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static double copy_rate(double seconds)
{
    uint8_t *from = malloc(COPY_SIZE), *to = malloc(COPY_SIZE);
    if (from == NULL || to == NULL) {
        net_die("out of memory", NULL, 0);
    }
    memset(from, 1, COPY_SIZE);
    memset(to, 2, COPY_SIZE);
    double began = now(), took = 0, bytes = 0;
    while (took < seconds) {
        memcpy(to, from, COPY_SIZE);
        from[(size_t)bytes % COPY_SIZE] = to[COPY_SIZE - 1]; /* or the copy may be left out */
        bytes += (double)COPY_SIZE;
        took = now() - began;
    }
    free(from);
    free(to);
    return bytes / took;
}

static void connect_tcp_pair(int ret_fds[2])
{
    const int on = 1;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(name);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || ret_fds[0] < 0 || bind(listener, (struct sockaddr *)&name, len) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&name, &len) != 0 ||
        connect(ret_fds[0], (struct sockaddr *)&name, len) != 0) {
        net_die_errno("tcp");
    }
    ret_fds[1] = accept(listener, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        if (setsockopt(ret_fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
            net_die_errno("tcp");
        }
    }
    (void)close(listener);
}

/* Gives every byte back. */
static void *echo(void *context)
{
    const int *fd = context;
    uint8_t byte;
    while (recv(*fd, &byte, 1, 0) == 1 && send(*fd, &byte, 1, MSG_NOSIGNAL) == 1) {
    }
    return NULL;
}

/* Takes all there is. */
static void *drain(void *context)
{
    static uint8_t bytes[4 * WRITE_SIZE];
    const int *fd = context;
    while (recv(*fd, bytes, sizeof(bytes), 0) > 0) {
    }
    return NULL;
}

/* Runs a thread at the other end of a socket. The rate of what `step` does with this end. */
static double socket_rate(bool tcp, void *(*peer)(void *context), size_t (*step)(int fd),
                          double seconds)
{
    int fds[2];
    pthread_t thread;
    if (tcp) {
        connect_tcp_pair(fds);
    } else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        net_die_errno("socketpair");
    }
    if (pthread_create(&thread, NULL, peer, &fds[1]) != 0) {
        net_die("no thread", NULL, 0);
    }
    double began = now(), took = 0, sum = 0;
    while (took < seconds) {
        sum += (double)step(fds[0]);
        took = now() - began;
    }
    (void)close(fds[0]);
    (void)pthread_join(thread, NULL);
    (void)close(fds[1]);
    return sum / took;
}

static size_t write_some(int fd)
{
    static uint8_t bytes[WRITE_SIZE];
    ssize_t sent = send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
    if (sent < 0) {
        net_die_errno("send");
    }
    return (size_t)sent;
}

static size_t round_trip(int fd)
{
    uint8_t byte = 1;
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1) {
        net_die_errno("a round trip");
    }
    return 1;
}

static double sync_rate(const char *path, double seconds)
{
    static uint8_t bytes[SYNC_SIZE];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        net_die_errno(path);
    }
    double began = now(), took = 0, count = 0;
    while (took < seconds) {
        if (write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes) || fdatasync(fd) != 0) {
            net_die_errno(path);
        }
        count++;
        took = now() - began;
    }
    (void)close(fd);
    return count / took;
}

int main(int argc, char **argv)
{
    double seconds = argc >= 3 ? strtod(argv[2], NULL) : 0;
    bool tcp = argc == 3 && strcmp(argv[1], "tcp") == 0;
    if (argc == 3 && strcmp(argv[1], "copy") == 0) {
        printf("{\"bytes_per_second\": %.0f}\n", copy_rate(seconds));
    } else if (tcp || (argc == 3 && strcmp(argv[1], "unix") == 0)) {
        double bytes = socket_rate(tcp, drain, write_some, seconds);
        double trips = socket_rate(tcp, echo, round_trip, seconds);
        printf("{\"bytes_per_second\": %.0f, \"trips_per_second\": %.1f}\n", bytes, trips);
    } else if (argc == 4 && strcmp(argv[1], "sync") == 0) {
        printf("{\"syncs_per_second\": %.1f}\n", sync_rate(argv[3], seconds));
    } else {
        fprintf(stderr, "usage: floor copy|unix|tcp SECONDS | floor sync SECONDS FILE\n");
        return 2;
    }
    return 0;
}
