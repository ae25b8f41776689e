/*
 * closure_speed HOW ADDRESS LIST COUNT [VERIFY]
 *
 * Fetches a whole program COUNT times, each time over a new connection, and prints one line of
 * JSON: the median and best seconds, and the bytes of bodies. LIST is a file with the program's
 * hashes in hex and the lengths of their bodies, the root's last.
 *
 * HOW: `closure` is one CLOSURE by the library; `many` the root by a GET and all others by
 * GET_MANYs of the library, which is all that a program of one level takes; `one` an HTTP request
 * after the other on one connection, `pipe` all of them at once. VERIFY 1 has the library hash what
 * comes, as it does unless told otherwise; HTTP only counts bytes.
 */
#include <capstore/capstore.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/net.h"

#define CAPS_MAX   4096u
#define ROUNDS_MAX 1000u
#define HEX        (CAPSTORE_HASH_HEX_SIZE - 1)
#define REQUEST    "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"

struct program {
    size_t count;
    char hex[CAPS_MAX][CAPSTORE_HASH_HEX_SIZE];
    struct capstore_hash hashes[CAPS_MAX];
    uint64_t lens[CAPS_MAX];
    uint64_t bytes;
};

/* What came in a round. */
struct came {
    size_t caps;
    uint64_t bytes;
};

static double now_s(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void read_list(const char *path, struct program *program)
{
    FILE *file = fopen(path, "re");
    char line[200];
    if (file == NULL) {
        net_die_errno("the list");
    }
    while (program->count < CAPS_MAX && fgets(line, sizeof(line), file) != NULL) {
        size_t i = program->count;
        memcpy(program->hex[i], line, HEX);
        if (capstore_hash_parse(program->hex[i], &program->hashes[i]) != CAPSTORE_OK) {
            net_die("not a hash", NULL, 0);
        }
        program->lens[i] = strtoull(line + HEX, NULL, 10);
        program->bytes += program->lens[i];
        program->count++;
    }
    (void)fclose(file);
}

/* ---- the library ---- */

static enum capstore_error on_entry(void *ctx, const struct capstore_closure_entry *entry,
                                    struct capstore_cap *cap)
{
    struct came *came = (struct came *)ctx;
    came->caps++;
    came->bytes += entry->body_len;
    capstore_cap_free(cap);
    return CAPSTORE_OK;
}

static enum capstore_error on_got(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap)
{
    struct came *came = (struct came *)ctx;
    (void)index;
    if (error == CAPSTORE_OK) {
        came->caps++;
        came->bytes += capstore_cap_body(cap).len;
        capstore_cap_free(cap);
    }
    return error;
}

static void by_library(const struct program *program, const char *address, bool whole, bool verify,
                       struct came *came)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore *store = NULL;
    struct capstore_cap *root = NULL;
    const struct capstore_hash *root_hash = &program->hashes[program->count - 1];
    options.no_verify = !verify;
    enum capstore_error error = capstore_new(&options, &store);
    if (error == CAPSTORE_OK) {
        error = capstore_connect(store, address);
    }
    if (error == CAPSTORE_OK && whole) {
        const struct capstore_closure_query query = {
            .roots = root_hash, .root_count = 1, .flags = CAPSTORE_CLOSURE_BODIES};
        error = capstore_closure_many(store, &query, on_entry, came);
    } else if (error == CAPSTORE_OK) {
        error = capstore_get(store, root_hash, &root);
        if (error == CAPSTORE_OK) {
            error = on_got(came, 0, CAPSTORE_OK, root);
        }
        if (error == CAPSTORE_OK) {
            error = capstore_get_many(store, program->hashes, program->count - 1, on_got, came);
        }
    }
    if (error != CAPSTORE_OK) {
        net_die(capstore_error_name(error), NULL, 0);
    }
    capstore_free(store);
}

/* ---- HTTP ---- */

/* What was received and not looked at. */
struct input {
    int fd;
    size_t at, end;
    char bytes[256 << 10];
};

static void refill(struct input *input)
{
    memmove(input->bytes, input->bytes + input->at, input->end - input->at);
    input->end -= input->at;
    input->at = 0;
    ssize_t got = read(input->fd, input->bytes + input->end, sizeof(input->bytes) - 1 - input->end);
    if (got <= 0) {
        net_die_errno("read");
    }
    input->end += (size_t)got;
    input->bytes[input->end] = '\0';
}

/* Takes one answer of `len` bytes behind its head. */
static void take_answer(struct input *input, uint64_t len)
{
    const char *end;
    while (input->at == input->end ||
           (end = strstr(input->bytes + input->at, "\r\n\r\n")) == NULL) {
        refill(input);
    }
    if (strncmp(input->bytes + input->at, "HTTP/1.1 200 ", 13) != 0) {
        net_die("an answer is wrong", (const uint8_t *)input->bytes + input->at, 40);
    }
    input->at = (size_t)(end - input->bytes) + 4;
    while (len > 0) {
        if (input->at == input->end) {
            refill(input);
        }
        size_t some = input->end - input->at;
        some = some < len ? some : (size_t)len;
        input->at += some;
        len -= some;
    }
}

static void ask(int fd, const char *request, size_t len)
{
    while (len > 0) {
        ssize_t sent = write(fd, request, len);
        if (sent < 0) {
            net_die_errno("write");
        }
        request += sent;
        len -= (size_t)sent;
    }
}

static void by_http(const struct program *program, const char *address, bool at_once,
                    struct came *came)
{
    static struct input input;
    static char requests[CAPS_MAX * (HEX + sizeof(REQUEST))];
    size_t ends[CAPS_MAX + 1] = {0};
    for (size_t i = 0; i < program->count; i++) {
        int len =
            snprintf(requests + ends[i], sizeof(requests) - ends[i], REQUEST, program->hex[i]);
        ends[i + 1] = ends[i] + (size_t)len;
    }
    input = (struct input){.fd = net_connect(address)};
    if (at_once) {
        ask(input.fd, requests, ends[program->count]); /* some 100 KiB, which the sockets take */
    }
    for (size_t i = 0; i < program->count; i++) {
        if (!at_once) {
            ask(input.fd, requests + ends[i], ends[i + 1] - ends[i]);
        }
        take_answer(&input, program->lens[i]);
        came->caps++;
        came->bytes += program->lens[i];
    }
    close(input.fd);
}

int main(int argc, char **argv)
{
    static struct program program;
    static double seconds[ROUNDS_MAX];
    if (argc < 5) {
        net_die("usage: closure_speed closure|many|one|pipe ADDRESS LIST COUNT [VERIFY]", NULL, 0);
    }
    const char *how = argv[1];
    size_t rounds = strtoul(argv[4], NULL, 10);
    bool verify = argc > 5 && strcmp(argv[5], "1") == 0;
    read_list(argv[3], &program);
    if (rounds == 0 || rounds > ROUNDS_MAX || program.count == 0) {
        net_die("nothing to do", NULL, 0);
    }
    for (size_t i = 0; i < rounds; i++) {
        struct came came = {0};
        double began = now_s();
        if (strcmp(how, "closure") == 0 || strcmp(how, "many") == 0) {
            by_library(&program, argv[2], how[0] == 'c', verify, &came);
        } else {
            by_http(&program, argv[2], strcmp(how, "pipe") == 0, &came);
        }
        seconds[i] = now_s() - began;
        if (came.caps != program.count || came.bytes != program.bytes) {
            net_die("not the whole program came", NULL, 0);
        }
    }
    qsort(seconds, rounds, sizeof(*seconds), by_value);
    printf("{\"p50_seconds\": %.9f, \"best_seconds\": %.9f, \"bytes\": %llu}\n",
           seconds[rounds / 2], seconds[0], (unsigned long long)program.bytes);
    return 0;
}
