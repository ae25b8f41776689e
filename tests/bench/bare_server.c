/*
 * bare_server COUNT LEN ADDRESS...: the least that a server of small values does. It holds the
 * values of COUNT keys, LEN bytes each, those of filled.h, and listens on each ADDRESS (unix:PATH
 * or tcp:HOST:PORT) for what the load generator asks of redis: GET of a key of 32 bytes.
 *
 * One thread, one epoll, one receive and one send per ready connection. It receives from several,
 * then looks up what they ask for, then answers, so that the lines of one value arrive while others
 * are worked on. It trusts its clients: a send waits for one that does not read.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/cap/bytes.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define AHEAD       32u /* requests received before the first is answered */
#define GET_HEAD    "*2\r\n$3\r\nGET\r\n$32\r\n"
#define HEAD_LEN    (sizeof(GET_HEAD) - 1)
#define REQUEST_LEN (HEAD_LEN + CAP_HASH_SIZE + 2)
#define REQUESTS    64u /* of one receive */
#define LINE        64u /* of the processor's caches */

/* Where a key's answer is. */
struct place {
    uint64_t word;   /* the key's first: no two keys of a set have the same */
    uint8_t *answer; /* NULL: nothing here */
};

struct table {
    struct place *places;
    uint64_t mask;
    size_t head_len;   /* of an answer: "$LEN\r\n" */
    size_t answer_len; /* with the value and its "\r\n" */
};

struct conn {
    int fd;
    bool listens;
    uint8_t in[REQUESTS * REQUEST_LEN];
    size_t in_len;
    unsigned count; /* of requests that are whole */
    struct iovec out[REQUESTS];
};

/* Zeros, in huge pages where the kernel gives them. */
static void *map(size_t len)
{
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        net_die_errno("mmap");
    }
    (void)madvise(memory, len, MADV_HUGEPAGE);
    return memory;
}

/* The place of the key, or the empty one where it would be. */
static struct place *find(const struct table *table, uint64_t word)
{
    uint64_t at = word & table->mask;
    while (table->places[at].answer != NULL && table->places[at].word != word) {
        at = (at + 1) & table->mask;
    }
    return &table->places[at];
}

static void fill(struct table *table, uint64_t count, size_t len)
{
    table->head_len = (size_t)snprintf(NULL, 0, "$%zu\r\n", len);
    table->answer_len = table->head_len + len + 2;
    size_t stride = (table->answer_len + LINE - 1) / LINE * LINE;
    table->mask = UINT64_MAX >> __builtin_clzll(2 * count);
    table->places = map((table->mask + 1) * sizeof(*table->places));
    uint8_t *answer = map(count * stride);
    for (uint64_t i = 0; i < count; i++, answer += stride) {
        (void)snprintf((char *)answer, stride, "$%zu\r\n", len);
        filled_body(i, answer + table->head_len, len);
        memcpy(answer + table->answer_len - 2, answer + table->head_len - 2, 2); /* "\r\n" */
        struct place place = {cap_load64(answer + table->head_len), answer};
        *find(table, place.word) = place;
    }
}

static const uint8_t *key_of(const struct conn *conn, unsigned request)
{
    return conn->in + request * REQUEST_LEN + HEAD_LEN;
}

/* Returns false once the client has gone. */
static bool receive(const struct table *table, struct conn *conn)
{
    ssize_t got = recv(conn->fd, conn->in + conn->in_len, sizeof(conn->in) - conn->in_len, 0);
    if (got <= 0) {
        return false;
    }
    conn->in_len += (size_t)got;
    conn->count = (unsigned)(conn->in_len / REQUEST_LEN);
    for (unsigned i = 0; i < conn->count; i++) {
        const uint8_t *key = key_of(conn, i);
        if (memcmp(key - HEAD_LEN, GET_HEAD, HEAD_LEN) != 0) {
            net_die("not a GET", key - HEAD_LEN, REQUEST_LEN);
        }
        __builtin_prefetch(&table->places[cap_load64(key) & table->mask]);
    }
    return true;
}

static void look_up(const struct table *table, struct conn *conn)
{
    for (unsigned i = 0; i < conn->count; i++) {
        uint8_t *found = find(table, cap_load64(key_of(conn, i)))->answer;
        for (size_t at = 0; found != NULL && at < table->answer_len; at += LINE) {
            __builtin_prefetch(found + at);
        }
        conn->out[i] = (struct iovec){found, table->answer_len};
    }
}

/* The send blocks, and so takes all there is; the next receive reports a failure. */
static void answer(const struct table *table, struct conn *conn)
{
    static char absent[] = "$-1\r\n";
    for (unsigned i = 0; i < conn->count; i++) {
        const uint8_t *found = conn->out[i].iov_base; /* its value begins with its key */
        if (found == NULL || memcmp(found + table->head_len, key_of(conn, i), CAP_HASH_SIZE) != 0) {
            conn->out[i] = (struct iovec){absent, sizeof(absent) - 1};
        }
    }
    const struct msghdr message = {.msg_iov = conn->out, .msg_iovlen = conn->count};
    (void)sendmsg(conn->fd, &message, MSG_NOSIGNAL);
    conn->in_len -= conn->count * REQUEST_LEN;
    memmove(conn->in, conn->in + conn->count * REQUEST_LEN, conn->in_len);
}

static void watch(int epoll, int fd, bool listens)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (fd < 0 || conn == NULL || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        net_die_errno("a connection");
    }
    conn->fd = fd;
    conn->listens = listens;
}

static void turn(const struct table *table, int epoll)
{
    struct epoll_event events[AHEAD];
    struct conn *received[AHEAD];
    unsigned received_count = 0, requests = 0;
    int count = epoll_wait(epoll, events, (int)AHEAD, -1);
    for (int i = 0; i < count; i++) {
        struct conn *conn = events[i].data.ptr;
        if (conn->listens) {
            watch(epoll, accept(conn->fd, NULL, NULL), false);
        } else if (receive(table, conn)) {
            received[received_count++] = conn;
            requests += conn->count;
        } else {
            (void)close(conn->fd);
            free(conn);
        }
        if (requests < AHEAD && i + 1 < count) {
            continue;
        }
        for (unsigned j = 0; j < received_count; j++) {
            look_up(table, received[j]);
        }
        for (unsigned j = 0; j < received_count; j++) {
            answer(table, received[j]);
        }
        received_count = requests = 0;
    }
}

int main(int argc, char **argv)
{
    uint64_t count = argc >= 4 ? strtoull(argv[1], NULL, 10) : 0;
    size_t len = argc >= 4 ? (size_t)strtoull(argv[2], NULL, 10) : 0;
    if (count == 0 || len < CAP_HASH_SIZE) {
        net_die("usage: bare_server COUNT LEN ADDRESS... (LEN: at least 32)", NULL, 0);
    }
    struct table table;
    fill(&table, count, len);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 3; i < argc; i++) {
        watch(epoll, net_listen(argv[i]), true);
    }
    while (true) {
        turn(&table, epoll);
    }
}
