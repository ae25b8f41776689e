/*
 * bench: a running daemon's rates and latencies, as clients of the library see them.
 *
 * Each client is a thread with a connection of its own and one request at a time. What is fetched
 * is not verified: it is the daemon that is measured, not this machine's hashing.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "client/capctl/histogram.h"
#include "client/capctl/result.h"

#define MAX_CLIENTS     256u
#define MAX_SECONDS     3600u
#define DEFAULT_CLIENTS 4u
#define DEFAULT_SECONDS 5u
#define DEFAULT_SIZE    1024u
#define MIN_SIZE        32u /* what tells one cap from another */
#define MAX_SIZE        (UINT64_C(64) << 20)
#define KEPT            65536u /* hashes that a client remembers to fetch them: 2 MiB */
#define SECOND          UINT64_C(1000000000)

struct bench {
    uint64_t clients;
    uint64_t seconds;
    uint64_t size;
    uint8_t run[16]; /* in every cap, so that no other run has published it */
    uint64_t end;    /* of the measurement under way, ns */
    const struct capstore_hash *given;
    size_t given_count;
};

struct client {
    pthread_t thread;
    const struct bench *bench;
    struct capstore *store;
    uint64_t number;
    uint64_t serial;
    uint64_t random;
    uint8_t *content;
    struct capstore_hash *published; /* up to KEPT */
    size_t published_count;
    uint64_t bytes;
    enum capstore_error error;
    struct histogram latencies;
};

/* What all clients did in one measurement. */
struct measured {
    double seconds;
    uint64_t bytes;
    struct histogram latencies;
};

static uint64_t now(void)
{
    struct timespec at;
    if (clock_gettime(CLOCK_MONOTONIC, &at) != 0) {
        return 0;
    }
    return (uint64_t)at.tv_sec * SECOND + (uint64_t)at.tv_nsec;
}

/* xorshift64; the state is not 0. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static enum capstore_error publish_one(struct client *client)
{
    const struct bench *bench = client->bench;
    uint64_t serial = client->serial++;
    memcpy(client->content, bench->run, sizeof(bench->run));
    memcpy(client->content + sizeof(bench->run), &client->number, sizeof(client->number));
    memcpy(client->content + sizeof(bench->run) + sizeof(client->number), &serial, sizeof(serial));
    const struct capstore_bytes content = {client->content, bench->size};
    const struct capstore_source source = capstore_source_memory(&content);
    struct capstore_put_result result;
    enum capstore_error error = capstore_put_data(client->store, &source, 0, 0, &result);
    if (error == CAPSTORE_OK) {
        client->published[serial % KEPT] = result.cap_hash;
        client->published_count = serial < KEPT ? serial + 1 : KEPT;
        client->bytes += bench->size;
    }
    return error;
}

static enum capstore_error count_bytes(void *ctx, struct capstore_bytes piece)
{
    struct client *client = (struct client *)ctx;
    client->bytes += piece.len;
    return CAPSTORE_OK;
}

static enum capstore_error fetch_one(struct client *client)
{
    const struct bench *bench = client->bench;
    const struct capstore_hash *from = bench->given_count > 0 ? bench->given : client->published;
    size_t count = bench->given_count > 0 ? bench->given_count : client->published_count;
    return capstore_get_range(client->store, &from[next_random(&client->random) % count], 0,
                              UINT64_MAX, count_bytes, client);
}

static void repeat(struct client *client, enum capstore_error (*one)(struct client *client))
{
    uint64_t began = now();
    client->bytes = 0;
    memset(&client->latencies, 0, sizeof(client->latencies));
    do {
        client->error = one(client);
        uint64_t ended = now();
        histogram_add(&client->latencies, ended - began);
        began = ended;
    } while (client->error == CAPSTORE_OK && began < client->bench->end);
}

static void *publish_all(void *ctx)
{
    repeat((struct client *)ctx, publish_one);
    return NULL;
}

static void *fetch_all(void *ctx)
{
    repeat((struct client *)ctx, fetch_one);
    return NULL;
}

/* Runs one measurement on all clients. CLI_DONE, or a status after saying what is wrong. */
static enum cli_exit measure(struct cli *cli, struct bench *bench, struct client *clients,
                             void *(*work)(void *ctx), struct measured *ret_measured)
{
    uint64_t started = 0, began = now();
    int code = 0;
    bench->end = began + bench->seconds * SECOND;
    while (started < bench->clients && code == 0) {
        code = pthread_create(&clients[started].thread, NULL, work, &clients[started]);
        started += code == 0 ? 1 : 0;
    }
    for (uint64_t i = 0; i < started; i++) {
        (void)pthread_join(clients[i].thread, NULL);
    }
    if (code != 0) {
        return cli_fail(cli, CLI_FAILED, "no_memory", "cannot start %" PRIu64 " threads: %s",
                        bench->clients, strerror(code));
    }
    ret_measured->seconds = (double)(now() - began) / 1e9;
    for (uint64_t i = 0; i < bench->clients; i++) {
        if (clients[i].error != CAPSTORE_OK) {
            return cli_fail_error(cli, clients[i].error, NULL, capstore_message(clients[i].store));
        }
        histogram_merge(&ret_measured->latencies, &clients[i].latencies);
        ret_measured->bytes += clients[i].bytes;
    }
    return CLI_DONE;
}

/* --- results ---------------------------------------------------------------------------------- */

/* One entry for each power of two, in microseconds, from the first that holds a value. */
static json_t *histogram_object(const struct histogram *histogram)
{
    json_t *entries = json_array();
    uint64_t seen = 0;
    for (uint64_t end = 1; entries != NULL && seen < histogram->count; end *= 2) {
        uint64_t below = end * 1000 > histogram->longest ? histogram->count
                                                         : histogram_below(histogram, end * 1000);
        if (below > 0) {
            entries = out_append(entries, json_pack("{s:o, s:o}", "below_us", out_u64(end), "count",
                                                    out_u64(below - seen)));
        }
        seen = below;
    }
    return entries;
}

static json_t *measured_object(const struct measured *measured)
{
    const struct histogram *latencies = &measured->latencies;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "requests", out_u64(latencies->count),
        "per_second", out_u64((uint64_t)((double)latencies->count / measured->seconds)),
        "bytes_per_second", out_u64((uint64_t)((double)measured->bytes / measured->seconds)),
        "p50_ns", out_u64(histogram_at(latencies, 0.5)), "p90_ns",
        out_u64(histogram_at(latencies, 0.9)), "p99_ns", out_u64(histogram_at(latencies, 0.99)),
        "p999_ns", out_u64(histogram_at(latencies, 0.999)), "worst_ns", out_u64(latencies->longest),
        "histogram", histogram_object(latencies));
}

static void print_row(const char *name, const struct measured *measured)
{
    const struct histogram *latencies = &measured->latencies;
    printf("%-8s %12.0f %10.1f", name, (double)latencies->count / measured->seconds,
           (double)measured->bytes / measured->seconds / (1 << 20));
    printf(" %10.1f %10.1f %10.1f %10.1f\n", (double)histogram_at(latencies, 0.5) / 1e3,
           (double)histogram_at(latencies, 0.9) / 1e3, (double)histogram_at(latencies, 0.99) / 1e3,
           (double)latencies->longest / 1e3);
}

static void print_histogram(const char *name, const struct histogram *histogram)
{
    static const char bar[] = "##################################################";
    uint64_t seen = 0;
    printf("\n%s, requests by latency:\n", name);
    for (uint64_t end = 1; seen < histogram->count; end *= 2) {
        uint64_t below = end * 1000 > histogram->longest ? histogram->count
                                                         : histogram_below(histogram, end * 1000);
        uint64_t here = below - seen;
        if (below > 0) {
            printf("  < %8" PRIu64 " us %10" PRIu64 " %.*s\n", end, here,
                   (int)((sizeof(bar) - 1) * here / histogram->count), bar);
        }
        seen = below;
    }
}

static enum cli_exit print_all(struct cli *cli, const struct bench *bench,
                               const struct measured *published, const struct measured *fetched)
{
    bool both = bench->given_count == 0;
    if (cli->json) {
        return cli_print(cli,
                         json_pack("{s:o, s:o, s:o*, s:o*, s:o}", "clients",
                                   out_u64(bench->clients), "seconds", out_u64(bench->seconds),
                                   "size", both ? out_u64(bench->size) : NULL, "publish",
                                   both ? measured_object(published) : NULL, "fetch",
                                   measured_object(fetched)),
                         CLI_DONE);
    }
    printf("%-8s %12s %10s %10s %10s %10s %10s\n", "", "per second", "MiB/s", "p50 us", "p90 us",
           "p99 us", "worst us");
    if (both) {
        print_row("publish", published);
    }
    print_row("fetch", fetched);
    if (both) {
        print_histogram("publish", &published->latencies);
    }
    print_histogram("fetch", &fetched->latencies);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    return CLI_DONE;
}

/* --- the command ------------------------------------------------------------------------------ */

/* An option that is an integer from 1 to `most`. False after saying what is wrong. */
static bool take_count(struct cli *cli, enum cli_option option, const char *name, uint64_t most,
                       uint64_t fallback, uint64_t *ret_value)
{
    const char *text = cli->options[option];
    *ret_value = fallback;
    if (text == NULL || (cli_parse_u64(text, ret_value) && *ret_value > 0 && *ret_value <= most)) {
        return true;
    }
    (void)cli_fail(cli, CLI_USAGE, "usage", "--%s: \"%s\" is not an integer from 1 to %" PRIu64,
                   name, text, most);
    return false;
}

static bool take_options(struct cli *cli, struct bench *bench)
{
    if (!take_count(cli, CLI_CLIENTS, "clients", MAX_CLIENTS, DEFAULT_CLIENTS, &bench->clients) ||
        !take_count(cli, CLI_SECONDS, "seconds", MAX_SECONDS, DEFAULT_SECONDS, &bench->seconds) ||
        !cli_option_size(cli, CLI_SIZE, DEFAULT_SIZE, &bench->size)) {
        return false;
    }
    if (cli->argument_count > 0 && cli->options[CLI_SIZE] != NULL) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "--size does not go with hashes");
        return false;
    }
    if (bench->size < MIN_SIZE || bench->size > MAX_SIZE) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "--size: \"%s\" is not a number of bytes from %u to %" PRIu64,
                       cli->options[CLI_SIZE], MIN_SIZE, MAX_SIZE);
        return false;
    }
    return true;
}

static enum cli_exit open_client(struct cli *cli, const struct bench *bench, struct client *client)
{
    enum cli_exit exit = CLI_FAILED;
    client->bench = bench;
    client->random = (client->number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    client->content = malloc(bench->size);
    client->published = calloc(KEPT, sizeof(*client->published));
    if (client->content == NULL || client->published == NULL) {
        return cli_fail(cli, CLI_FAILED, "no_memory", "out of memory");
    }
    for (uint64_t i = 0; i < bench->size; i++) {
        client->content[i] = (uint8_t)(next_random(&client->random) | 1); /* pages are not zero */
    }
    client->store = cli_connect(cli, &exit);
    return client->store != NULL ? CLI_DONE : exit;
}

static enum cli_exit run(struct cli *cli, struct bench *bench, struct client *clients)
{
    struct measured published = {0}, fetched = {0};
    enum cli_exit exit = CLI_DONE;
    for (uint64_t i = 0; exit == CLI_DONE && i < bench->clients; i++) {
        clients[i].number = i;
        exit = open_client(cli, bench, &clients[i]);
    }
    if (exit == CLI_DONE && bench->given_count == 0) {
        exit = measure(cli, bench, clients, publish_all, &published);
    }
    if (exit == CLI_DONE) {
        exit = measure(cli, bench, clients, fetch_all, &fetched);
    }
    return exit == CLI_DONE ? print_all(cli, bench, &published, &fetched) : exit;
}

enum cli_exit cli_bench(struct cli *cli)
{
    struct bench bench = {.given_count = (size_t)cli->argument_count};
    if (!take_options(cli, &bench)) {
        return CLI_USAGE;
    }
    if (getrandom(bench.run, sizeof(bench.run), 0) != (ssize_t)sizeof(bench.run)) {
        return cli_fail(cli, CLI_FAILED, "io", "random numbers: %s", strerror(errno));
    }
    struct capstore_hash *given = calloc(bench.given_count + 1, sizeof(*given));
    struct client *clients = calloc(bench.clients, sizeof(*clients));
    if (given == NULL || clients == NULL) {
        free(given);
        free(clients);
        return cli_fail(cli, CLI_FAILED, "no_memory", "out of memory");
    }
    enum cli_exit exit = CLI_DONE;
    for (size_t i = 0; exit == CLI_DONE && i < bench.given_count; i++) {
        exit = cli_parse_hash(cli, cli->arguments[i], &given[i]) ? CLI_DONE : CLI_USAGE;
    }
    bench.given = given;
    if (exit == CLI_DONE) {
        exit = run(cli, &bench, clients);
    }
    for (uint64_t i = 0; i < bench.clients; i++) {
        capstore_free(clients[i].store);
        free(clients[i].content);
        free(clients[i].published);
    }
    free(clients);
    free(given);
    return exit;
}
