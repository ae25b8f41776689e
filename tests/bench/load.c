/*
 * load PROTOCOL WORK ADDRESS [OPTION=VALUE]...: one load on one server, its figures as one line of
 * JSON. `load` alone lists the options. load.h says how it works.
 */
#include "tests/bench/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/param.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/histogram.h"
#include "daemon/net/calls.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define RECEIVE_SIZE (256u << 10)
#define SMALL        4096u /* bytes: with values up to this connections receive and send together */
#define SMALL_SIZE   (64u << 10) /* of a receive of one of these */
#define EVENTS       256
#define SERVERS      16u /* processes whose CPU time is measured */
#define SECOND       UINT64_C(1000000000)

struct load {
    struct load_options options;
    size_t request_max;
    size_t out_size;
    struct conn *conns;
    int epoll;
    uint64_t now; /* of this turn */
    uint64_t random;
    uint64_t begun; /* requests sent */
    uint64_t next_key;
    uint64_t schedule; /* when the first request was due, under `rate` */
    bool measuring;
    bool ended; /* begins no more requests */
    struct histogram latencies;
    uint64_t bytes; /* of values that arrived or were sent, while measuring */
    clockid_t servers[SERVERS];
    size_t server_count;
    struct calls calls;
    struct call plans[CALLS_MAX];
    size_t together;     /* connections that receive and send by one system call */
    size_t receive_size; /* bytes, of each */
    uint8_t *received;   /* for each, behind LOAD_CARRY */
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec at;
    if (clock_gettime(clock, &at) != 0) {
        return 0;
    }
    return (uint64_t)at.tv_sec * SECOND + (uint64_t)at.tv_nsec;
}

const struct load_options *load_options(const struct conn *conn)
{
    return &conn->load->options;
}

uint64_t load_key(const struct conn *conn, unsigned slot, unsigned index)
{
    const struct load_options *options = &conn->load->options;
    return options->first + splitmix64(conn->slots[slot].key + index) % options->keys;
}

unsigned load_oldest(const struct conn *conn)
{
    if (conn->in_flight == 0) {
        net_die("an answer that nobody asked for", NULL, 0);
    }
    return conn->order[conn->done % conn->load->options.depth];
}

void load_value(struct conn *conn, unsigned slot_index, const uint8_t *bytes, size_t len)
{
    struct load *load = conn->load;
    struct slot *slot = &conn->slots[slot_index];
    if (len > load->options.len - slot->len) {
        net_die("a value is too long", bytes, len);
    }
    struct cap_hash hash = filled_hash(slot->value);
    uint8_t pattern[2 * CAP_HASH_SIZE];
    memcpy(pattern, hash.bytes, CAP_HASH_SIZE);
    memcpy(pattern + CAP_HASH_SIZE, hash.bytes, CAP_HASH_SIZE);
    size_t edge = len < CAP_HASH_SIZE ? len : CAP_HASH_SIZE;
    const uint8_t *head = pattern + slot->len % CAP_HASH_SIZE;
    const uint8_t *tail = pattern + (slot->len + len - edge) % CAP_HASH_SIZE;
    bool right = memcmp(bytes, head, edge) == 0 && memcmp(bytes + len - edge, tail, edge) == 0;
    if (load->options.verify_full && right) {
        right = memcmp(bytes, bytes + edge, len - edge) == 0;
    }
    if (!right) {
        net_die("a value is not what was stored", bytes, len);
    }
    slot->len += len;
    load->bytes += len;
}

void load_expect(struct conn *conn, unsigned slot, unsigned index)
{
    if (index >= conn->load->options.batch) {
        net_die("a value that nobody asked for", NULL, 0);
    }
    conn->slots[slot].value = load_key(conn, slot, index);
}

bool load_value_done(struct conn *conn, unsigned slot_index)
{
    const struct load_options *options = &conn->load->options;
    struct slot *slot = &conn->slots[slot_index];
    if (slot->len != options->len) {
        net_die("a value is too short", NULL, 0);
    }
    slot->len = 0;
    slot->values++;
    return options->work == LOAD_MANY && slot->values < options->batch;
}

void load_done(struct conn *conn, unsigned slot_index)
{
    struct load *load = conn->load;
    const struct slot *slot = &conn->slots[slot_index];
    unsigned values = load->options.work == LOAD_GET    ? 1
                      : load->options.work == LOAD_MANY ? load->options.batch
                                                        : 0;
    if (slot->values != values) {
        net_die("values are missing", NULL, 0);
    }
    if (load->options.work == LOAD_PUT) {
        load->bytes += load->options.len;
    }
    if (load->measuring) {
        histogram_add(&load->latencies, load->now - slot->began);
    }
    conn->done++;
    conn->in_flight--;
    conn->free[conn->in_flight] = slot_index;
}

size_t load_line_value(struct conn *conn, const uint8_t *bytes, size_t len)
{
    size_t piece = conn->body_left < len ? (size_t)conn->body_left : len;
    /* The last two bytes are \r\n. */
    size_t value = conn->body_left > 2 ? (size_t)conn->body_left - 2 : 0;
    value = value < piece ? value : piece;
    if (value > 0) {
        load_value(conn, conn->body_slot, bytes, value);
    }
    conn->body_left -= piece;
    if (conn->body_left == 0 && !load_value_done(conn, conn->body_slot)) {
        load_done(conn, conn->body_slot);
    }
    return piece;
}

/* Whether a request has several keys. */
static bool has_batch(const struct load_options *options)
{
    return options->work == LOAD_HAS || options->work == LOAD_MANY;
}

static uint64_t choose_key(struct load *load)
{
    if (load->options.work == LOAD_PUT) {
        return load->options.first + load->next_key++;
    }
    if (load->options.in_order) {
        return load->options.first + load->next_key++ % load->options.keys;
    }
    load->random = splitmix64(load->random);
    return has_batch(&load->options) ? load->random
                                     : load->options.first + load->random % load->options.keys;
}

/* When request `n` of the connection is due: the connections take turns. */
static uint64_t due_at(const struct conn *conn, uint64_t n)
{
    const struct load *load = conn->load;
    double number = (double)(n * load->options.connections + conn->index);
    return load->schedule + (uint64_t)(number / load->options.rate * 1e9);
}

static void watch(struct conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (conn->blocked) {
        event.events |= EPOLLOUT;
    }
    if (epoll_ctl(conn->load->epoll, EPOLL_CTL_MOD, conn->fd, &event) != 0) {
        net_die_errno("epoll_ctl");
    }
}

static void plan_send(const struct conn *conn, bool may, struct call *call)
{
    size_t rest = conn->out_len - conn->out_sent;
    call->fd = conn->fd;
    call->sends = true;
    call->spans[0] = (struct iovec){conn->out + conn->out_sent, rest};
    call->count = may && rest > 0 ? 1 : 0;
}

static void book_sent(struct conn *conn, const struct call *call)
{
    if (call->count == 0) {
        return;
    }
    if (call->result < 0 && call->result != -EAGAIN) {
        errno = (int)-call->result;
        net_die_errno("send");
    }
    conn->out_sent += call->result > 0 ? (size_t)call->result : 0;
    bool blocked = conn->out_sent < conn->out_len;
    if (!blocked) {
        conn->out_sent = conn->out_len = 0;
    }
    if (blocked != conn->blocked) {
        conn->blocked = blocked;
        watch(conn);
    }
}

/* Begins the requests that there is room and time for. */
static void fill(struct conn *conn)
{
    struct load *load = conn->load;
    const struct load_options *options = &load->options;
    while (!load->ended && conn->in_flight < options->depth) {
        uint64_t began = load->now;
        if (options->rate > 0) {
            began = due_at(conn, conn->sent);
            if (began > load->now) {
                break;
            }
        }
        if (load->out_size - conn->out_len < load->request_max) {
            memmove(conn->out, conn->out + conn->out_sent, conn->out_len - conn->out_sent);
            conn->out_len -= conn->out_sent;
            conn->out_sent = 0;
        }
        unsigned slot = conn->free[conn->in_flight];
        uint64_t key = choose_key(load);
        conn->slots[slot] = (struct slot){.began = began, .key = key, .value = key};
        conn->order[conn->sent % options->depth] = slot;
        conn->in_flight++;
        conn->sent++;
        conn->out_len += options->speaker->request(conn, slot, conn->out + conn->out_len);
        load->begun++;
        load->ended = options->count > 0 && load->begun == options->count;
    }
}

/* The same, and sends them. */
static void pump(struct conn *conn)
{
    struct load *load = conn->load;
    fill(conn);
    plan_send(conn, !conn->blocked, &load->plans[0]);
    calls_make(&load->calls, load->plans, 1);
    book_sent(conn, &load->plans[0]);
}

static void plan_receive(const struct conn *conn, bool may, size_t index, struct call *call)
{
    const struct load *load = conn->load;
    uint8_t *to = load->received + index * (LOAD_CARRY + load->receive_size) + LOAD_CARRY;
    call->fd = conn->fd;
    call->sends = false;
    call->spans[0] = (struct iovec){to, load->receive_size};
    call->count = may ? 1 : 0;
}

static void take_received(struct conn *conn, const struct call *call)
{
    if (call->count == 0 || call->result == -EAGAIN) {
        return;
    }
    if (call->result <= 0) {
        net_die(call->result == 0 ? "the server closed the connection"
                                  : strerror((int)-call->result),
                conn->carry, conn->carry_len);
    }
    uint8_t *bytes = (uint8_t *)call->spans[0].iov_base - conn->carry_len;
    memcpy(bytes, conn->carry, conn->carry_len);
    size_t len = conn->carry_len + (size_t)call->result, taken = 0, step = 0;
    do {
        step = conn->load->options.speaker->parse(conn, bytes + taken, len - taken);
        taken += step;
    } while (step > 0 && taken < len);
    conn->carry_len = len - taken;
    if (conn->carry_len > LOAD_CARRY) {
        net_die("a message is too long", bytes + taken, len - taken);
    }
    memcpy(conn->carry, bytes + taken, conn->carry_len);
}

/* Serves up to load->together connections that are ready. */
static void serve(struct load *load, const struct epoll_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool may = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
        plan_receive(events[i].data.ptr, may, i, &load->plans[i]);
    }
    calls_make(&load->calls, load->plans, count);
    for (size_t i = 0; i < count; i++) {
        struct conn *conn = events[i].data.ptr;
        take_received(conn, &load->plans[i]);
        fill(conn);
        plan_send(conn, !conn->blocked || (events[i].events & EPOLLOUT) != 0, &load->plans[i]);
    }
    calls_make(&load->calls, load->plans, count);
    for (size_t i = 0; i < count; i++) {
        book_sent(events[i].data.ptr, &load->plans[i]);
    }
}

/* One turn: waits for answers, or for the next request that is due. */
static void turn(struct load *load, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t until = end > load->now ? end - load->now : 0;
    if (load->options.rate > 0) {
        uint64_t next = load->schedule + (uint64_t)((double)load->begun / load->options.rate * 1e9);
        uint64_t pause = next > load->now ? next - load->now : 1000;
        until = pause < until ? pause : until;
    }
    struct timespec timeout = {(time_t)(until / SECOND), (long)(until % SECOND)};
    int count = epoll_pwait2(load->epoll, events, EVENTS, &timeout, NULL);
    if (count < 0 && errno != EINTR) {
        net_die_errno("epoll_pwait2");
    }
    load->now = clock_ns(CLOCK_MONOTONIC);
    size_t ready = count > 0 ? (size_t)count : 0;
    for (size_t at = 0; at < ready; at += load->together) {
        serve(load, events + at, MIN(load->together, ready - at));
    }
    if (load->options.rate > 0) {
        for (unsigned i = 0; i < load->options.connections; i++) {
            pump(&load->conns[i]);
        }
    }
}

/* --- connections ------------------------------------------------------------------------------ */

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        net_die("out of memory", NULL, 0);
    }
    return memory;
}

static void open_conn(struct load *load, unsigned index)
{
    const struct load_options *options = &load->options;
    struct conn *conn = &load->conns[index];
    conn->load = load;
    conn->index = index;
    conn->slots = allocate(options->depth, sizeof(*conn->slots));
    conn->free = allocate(options->depth, sizeof(*conn->free));
    conn->order = allocate(options->depth, sizeof(*conn->order));
    conn->out = allocate(1, load->out_size);
    for (unsigned i = 0; i < options->depth; i++) {
        conn->free[i] = i;
    }
    conn->fd = net_connect(options->address);
    if (options->speaker->greet != NULL) {
        options->speaker->greet(conn->fd);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (fcntl(conn->fd, F_SETFL, O_NONBLOCK) != 0 ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        net_die_errno("a connection");
    }
}

static void close_conns(struct load *load)
{
    for (unsigned i = 0; i < load->options.connections; i++) {
        struct conn *conn = &load->conns[i];
        (void)close(conn->fd);
        free(conn->slots);
        free(conn->free);
        free(conn->order);
        free(conn->out);
    }
    free(load->conns);
    free(load->received);
    calls_close(&load->calls);
    (void)close(load->epoll);
}

/* --- the run ---------------------------------------------------------------------------------- */

static uint64_t servers_cpu(const struct load *load)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < load->server_count; i++) {
        sum += clock_ns(load->servers[i]);
    }
    return sum;
}

static bool is_over(const struct load *load, uint64_t end)
{
    if (load->options.count == 0) {
        return load->now >= end && load->latencies.count > 0;
    }
    for (unsigned i = 0; load->ended && i < load->options.connections; i++) {
        if (load->conns[i].in_flight > 0) {
            return false;
        }
    }
    return load->ended;
}

static void run(struct load *load)
{
    load->now = clock_ns(CLOCK_MONOTONIC);
    load->schedule = load->now;
    for (unsigned i = 0; i < load->options.connections; i++) {
        pump(&load->conns[i]);
    }
    uint64_t warm = load->now + (uint64_t)(load->options.warmup * 1e9);
    while (load->now < warm && load->options.count == 0) {
        turn(load, warm);
    }
    uint64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), servers = servers_cpu(load);
    uint64_t began = load->now;
    uint64_t end = began + (uint64_t)(load->options.seconds * 1e9);
    load->bytes = 0;
    load->measuring = true;
    while (!is_over(load, end)) {
        turn(load, load->now < end ? end : load->now + SECOND);
    }
    double seconds = (double)(load->now - began) / 1e9;
    own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    servers = servers_cpu(load) - servers;
    const struct histogram *latencies = &load->latencies;
    double items =
        (double)latencies->count * (has_batch(&load->options) ? (double)load->options.batch : 1);
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"items_per_second\": %.1f, "
           "\"bytes_per_second\": %.0f, \"generator_cores\": %.3f, \"server_cores\": %.3f, ",
           (unsigned long long)latencies->count, seconds, (double)latencies->count / seconds,
           items / seconds, (double)load->bytes / seconds, (double)own / 1e9 / seconds,
           (double)servers / 1e9 / seconds);
    printf("\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"worst_us\": %.1f}\n",
           (double)histogram_at(latencies, 0.5) / 1e3, (double)histogram_at(latencies, 0.9) / 1e3,
           (double)histogram_at(latencies, 0.99) / 1e3,
           (double)histogram_at(latencies, 0.999) / 1e3, (double)latencies->longest / 1e3);
}

/* --- options ---------------------------------------------------------------------------------- */

static _Noreturn void usage(void)
{
    fprintf(
        stderr,
        "usage: load capstore|redis|memcached|http get|put|has|many ADDRESS [OPTION=VALUE]...\n"
        "\n"
        "  connections=N  depth=N (in flight per connection)  batch=N (keys of one has or many)\n"
        "  keys=N (of the set)  first=N (index of the set's first key)  len=BYTES\n"
        "  seconds=S  warmup=S  count=N (requests, in place of a time)  rate=N (per second)\n"
        "  seed=N  order=1 (keys in order)  verify=1 (every byte)  pid=N (a server's; repeat)\n");
    exit(2);
}

static void add_server(struct load *load, uint64_t pid)
{
    if (load->server_count == SERVERS ||
        clock_getcpuclockid((pid_t)pid, &load->servers[load->server_count]) != 0) {
        net_die("a server's CPU time cannot be measured", NULL, 0);
    }
    load->server_count++;
}

static bool set_option(struct load *load, const char *name, double value)
{
    struct load_options *options = &load->options;
    const struct {
        const char *name;
        unsigned *number;
        uint64_t *large;
        double *real;
        bool *flag;
    } table[] = {
        {"connections", &options->connections, NULL, NULL, NULL},
        {"depth", &options->depth, NULL, NULL, NULL},
        {"batch", &options->batch, NULL, NULL, NULL},
        {"keys", NULL, &options->keys, NULL, NULL},
        {"first", NULL, &options->first, NULL, NULL},
        {"len", NULL, &options->len, NULL, NULL},
        {"count", NULL, &options->count, NULL, NULL},
        {"seed", NULL, &options->seed, NULL, NULL},
        {"seconds", NULL, NULL, &options->seconds, NULL},
        {"warmup", NULL, NULL, &options->warmup, NULL},
        {"rate", NULL, NULL, &options->rate, NULL},
        {"order", NULL, NULL, NULL, &options->in_order},
        {"verify", NULL, NULL, NULL, &options->verify_full},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].name, name) != 0) {
            continue;
        }
        if (table[i].number != NULL) {
            *table[i].number = (unsigned)value;
        } else if (table[i].large != NULL) {
            *table[i].large = (uint64_t)value;
        } else if (table[i].real != NULL) {
            *table[i].real = value;
        } else {
            *table[i].flag = value != 0;
        }
        return true;
    }
    return false;
}

static void parse_option(struct load *load, char *word)
{
    char *equals = strchr(word, '=');
    if (equals == NULL) {
        usage();
    }
    *equals = '\0';
    char *end = NULL;
    double value = strtod(equals + 1, &end);
    if (end == equals + 1 || *end != '\0' || value < 0) {
        usage();
    }
    if (strcmp(word, "pid") == 0) {
        add_server(load, (uint64_t)value);
    } else if (!set_option(load, word, value)) {
        usage();
    }
}

static void parse_work(struct load_options *options, const char *protocol, const char *work)
{
    const struct speaker *speakers[] = {&speaker_capstore, &speaker_redis, &speaker_memcached,
                                        &speaker_http};
    const char *works[] = {
        [LOAD_GET] = "get", [LOAD_PUT] = "put", [LOAD_HAS] = "has", [LOAD_MANY] = "many"};
    for (size_t i = 0; i < sizeof(speakers) / sizeof(speakers[0]); i++) {
        if (strcmp(speakers[i]->name, protocol) == 0) {
            options->speaker = speakers[i];
        }
    }
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
        if (strcmp(works[i], work) == 0) {
            options->work = (enum load_work)i;
            return;
        }
    }
    usage();
}

int main(int argc, char **argv)
{
    static struct load load = {.options = {
                                   .connections = 1,
                                   .depth = 1,
                                   .batch = 1,
                                   .keys = 1,
                                   .len = 1024,
                                   .seconds = 1,
                               }};
    if (argc < 4) {
        usage();
    }
    parse_work(&load.options, argv[1], argv[2]);
    load.options.address = argv[3];
    for (int i = 4; i < argc; i++) {
        parse_option(&load, argv[i]);
    }
    const struct load_options *options = &load.options;
    if (options->speaker == NULL || options->connections == 0 || options->depth == 0 ||
        options->keys == 0 || options->batch == 0) {
        usage();
    }
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* a request is due to the microsecond */
    load.random = splitmix64(options->seed);
    load.request_max = options->speaker->request_max(options);
    load.out_size = load.request_max * (options->depth + 1);
    load.conns = allocate(options->connections, sizeof(*load.conns));
    bool small = options->len <= SMALL && !has_batch(options);
    load.together = small ? CALLS_MAX : 1;
    load.receive_size = small ? SMALL_SIZE : RECEIVE_SIZE;
    load.received = allocate(load.together, LOAD_CARRY + load.receive_size);
    if (small) {
        (void)calls_open(&load.calls, CALLS_MAX); /* without it, each call is made by itself */
    }
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < options->connections; i++) {
        open_conn(&load, i);
    }
    run(&load);
    close_conns(&load);
    return 0;
}
