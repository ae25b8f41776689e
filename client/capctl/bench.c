/*
 * bench: a running daemon's rates and latencies, as clients of the library see them.
 *
 * Each client is a thread with a connection of its own, on which a number of requests are always in
 * flight: whenever one is answered, another is submitted. What is fetched is not verified: it is
 * the daemon that is measured, not this machine's hashing.
 */
#include <capstore/async.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
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
#define MAX_FLIGHTS     1024u
#define MAX_SHARE       10000u
#define DEFAULT_CLIENTS 4u
#define DEFAULT_FLIGHTS 1u
#define DEFAULT_SECONDS 5u
#define HEAD_SIZE       32u /* what tells one cap from another */
#define DEFAULT_SIZE    1024u
#define MIN_SIZE        HEAD_SIZE
#define MAX_SIZE        (UINT64_C(64) << 20)
#define KEPT            65536u /* hashes that a client remembers to fetch them: 2 MiB */
#define SECOND          UINT64_C(1000000000)

/* What a request does. */
enum kind {
    PUBLISH,
    FETCH,
    KINDS,
};

struct bench {
    uint64_t clients;
    uint64_t flights; /* requests in flight per client */
    uint64_t seconds;
    uint64_t size;
    uint64_t mix[KINDS]; /* shares of the mixed measurement; both 0: there is none */
    uint8_t run[16];     /* in every cap, so that no other run has published it */
    uint64_t end;        /* of the measurement under way, ns */
    const struct capstore_hash *given;
    size_t given_count;
};

struct client;

/* A request in flight and, when it publishes, its content. */
struct flight {
    struct client *client;
    enum kind kind;
    uint64_t began; /* ns */
    uint8_t head[HEAD_SIZE];
};

struct client {
    pthread_t thread;
    struct flight *flights;
    const struct bench *bench;
    struct capstore *store;
    uint64_t number;
    uint64_t serial;
    uint64_t random;
    const uint64_t *shares;          /* of requests in the measurement under way */
    uint8_t *content;                /* of every cap, after its head */
    struct capstore_hash *published; /* up to KEPT */
    uint64_t published_count;        /* all of them */
    enum capstore_error error;       /* the first one */
    char message[CAPSTORE_MESSAGE_SIZE];
    uint64_t bytes[KINDS];
    struct histogram latencies[KINDS];
};

/* What all clients did in one measurement, of one kind. */
struct measured {
    double seconds;
    uint64_t bytes;
    struct histogram latencies;
};

struct results {
    struct measured published[KINDS];
    struct measured fetched[KINDS];
    struct measured mixed[KINDS];
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

static enum capstore_error keep_error(struct client *client, enum capstore_error error)
{
    if (client->error == CAPSTORE_OK && error != CAPSTORE_OK) {
        client->error = error;
        (void)snprintf(client->message, sizeof(client->message), "%s",
                       capstore_message(client->store));
    }
    return client->error;
}

static void submit(struct flight *flight, uint64_t began);

/* Counts an answer, and asks again until the time is over. */
static void on_answer(void *ctx, const struct capstore_answer *answer)
{
    struct flight *flight = (struct flight *)ctx;
    struct client *client = flight->client;
    uint64_t ended = now();
    if (keep_error(client, answer->error) != CAPSTORE_OK) {
        return;
    }
    histogram_add(&client->latencies[flight->kind], ended - flight->began);
    if (ended < client->bench->end) {
        submit(flight, ended);
    }
}

static void on_published(void *ctx, const struct capstore_answer *answer)
{
    struct client *client = ((struct flight *)ctx)->client;
    if (answer->error == CAPSTORE_OK) {
        client->published[client->published_count++ % KEPT] = answer->put.cap_hash;
        client->bytes[PUBLISH] += client->bench->size;
    }
    on_answer(ctx, answer);
}

/* Reads a cap's content: its own head, then what they have in common. */
static enum capstore_error read_content(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct flight *flight = (const struct flight *)ctx;
    size_t at = (size_t)offset;
    memcpy(dst, flight->client->content + at, len);
    if (at < HEAD_SIZE) {
        memcpy(dst, flight->head + at, len < HEAD_SIZE - at ? len : HEAD_SIZE - at);
    }
    return CAPSTORE_OK;
}

static enum capstore_error submit_publish(struct flight *flight)
{
    struct client *client = flight->client;
    const struct bench *bench = client->bench;
    const struct capstore_source source = {read_content, flight, bench->size, NULL};
    uint64_t serial = client->serial++;
    memcpy(flight->head, bench->run, sizeof(bench->run));
    memcpy(flight->head + sizeof(bench->run), &client->number, sizeof(client->number));
    memcpy(flight->head + sizeof(bench->run) + sizeof(client->number), &serial, sizeof(serial));
    return capstore_async_put_data(client->store, &source, 0, 0, on_published, flight, NULL);
}

static enum capstore_error count_bytes(void *ctx, struct capstore_bytes piece)
{
    ((struct flight *)ctx)->client->bytes[FETCH] += piece.len;
    return CAPSTORE_OK;
}

static enum capstore_error submit_fetch(struct flight *flight)
{
    struct client *client = flight->client;
    const struct bench *bench = client->bench;
    const struct capstore_hash *from = bench->given_count > 0 ? bench->given : client->published;
    uint64_t own = client->published_count < KEPT ? client->published_count : KEPT;
    uint64_t count = bench->given_count > 0 ? bench->given_count : own;
    return capstore_async_get_range(client->store, &from[next_random(&client->random) % count], 0,
                                    UINT64_MAX, count_bytes, on_answer, flight, NULL);
}

/* Submits a request of a kind drawn by the shares. */
static void submit(struct flight *flight, uint64_t began)
{
    struct client *client = flight->client;
    const uint64_t *shares = client->shares;
    uint64_t drawn = next_random(&client->random) % (shares[PUBLISH] + shares[FETCH]);
    flight->kind = drawn < shares[PUBLISH] ? PUBLISH : FETCH;
    flight->began = began;
    (void)keep_error(client,
                     flight->kind == PUBLISH ? submit_publish(flight) : submit_fetch(flight));
}

/* A client's thread: keeps its requests in flight until the time is over. */
static void *work(void *ctx)
{
    struct client *client = (struct client *)ctx;
    struct capstore *store = client->store;
    memset(client->bytes, 0, sizeof(client->bytes));
    memset(client->latencies, 0, sizeof(client->latencies));
    for (uint64_t i = 0; i < client->bench->flights && client->error == CAPSTORE_OK; i++) {
        client->flights[i].client = client;
        submit(&client->flights[i], now());
    }
    while (capstore_pending(store) > 0) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        (void)poll(&entry, 1, capstore_timeout_ms(store));
        (void)keep_error(client, capstore_process(store, entry.revents));
    }
    return NULL;
}

/* Runs one measurement on all clients, of requests of both kinds by their shares. CLI_DONE, or a
 * status after saying what is wrong. */
static enum cli_exit measure(struct cli *cli, struct bench *bench, struct client *clients,
                             const uint64_t shares[KINDS], struct measured ret_measured[KINDS])
{
    uint64_t started = 0, began = now();
    int code = 0;
    bench->end = began + bench->seconds * SECOND;
    while (started < bench->clients && code == 0) {
        clients[started].shares = shares;
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
    double seconds = (double)(now() - began) / 1e9;
    for (uint64_t i = 0; i < bench->clients; i++) {
        if (clients[i].error != CAPSTORE_OK) {
            return cli_fail_error(cli, clients[i].error, NULL, clients[i].message);
        }
        for (enum kind kind = PUBLISH; kind < KINDS; kind++) {
            ret_measured[kind].seconds = seconds;
            ret_measured[kind].bytes += clients[i].bytes[kind];
            histogram_merge(&ret_measured[kind].latencies, &clients[i].latencies[kind]);
        }
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
    printf("%-14s %12.0f %10.1f", name, (double)latencies->count / measured->seconds,
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

static json_t *mixed_object(const struct bench *bench, const struct measured mixed[KINDS])
{
    return json_pack("{s:o, s:o, s:o}", "mix",
                     json_sprintf("%" PRIu64 ":%" PRIu64, bench->mix[FETCH], bench->mix[PUBLISH]),
                     "publish", measured_object(&mixed[PUBLISH]), "fetch",
                     measured_object(&mixed[FETCH]));
}

static enum cli_exit print_all(struct cli *cli, const struct bench *bench,
                               const struct results *results)
{
    const struct {
        bool done;
        const char *name;
        const struct measured *measured;
    } rows[] = {
        {bench->given_count == 0, "publish", &results->published[PUBLISH]},
        {true, "fetch", &results->fetched[FETCH]},
        {bench->mix[FETCH] > 0, "mixed publish", &results->mixed[PUBLISH]},
        {bench->mix[FETCH] > 0, "mixed fetch", &results->mixed[FETCH]},
    };
    const size_t count = sizeof(rows) / sizeof(rows[0]);
    if (cli->json) {
        return cli_print(cli,
                         json_pack("{s:o, s:o, s:o, s:o*, s:o*, s:o, s:o*}", "clients",
                                   out_u64(bench->clients), "in_flight", out_u64(bench->flights),
                                   "seconds", out_u64(bench->seconds), "size",
                                   rows[0].done ? out_u64(bench->size) : NULL, "publish",
                                   rows[0].done ? measured_object(rows[0].measured) : NULL, "fetch",
                                   measured_object(rows[1].measured), "mixed",
                                   rows[2].done ? mixed_object(bench, results->mixed) : NULL),
                         CLI_DONE);
    }
    printf("%-14s %12s %10s %10s %10s %10s %10s\n", "", "per second", "MiB/s", "p50 us", "p90 us",
           "p99 us", "worst us");
    for (size_t i = 0; i < count; i++) {
        if (rows[i].done) {
            print_row(rows[i].name, rows[i].measured);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (rows[i].done) {
            print_histogram(rows[i].name, &rows[i].measured->latencies);
        }
    }
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

/* The shares of a mix: "90:10" is 90 fetches for each 10 publications. */
static bool take_mix(struct cli *cli, uint64_t ret_mix[KINDS])
{
    const char *text = cli->options[CLI_MIX];
    if (text == NULL) {
        return true;
    }
    char fetches[8] = "";
    const char *colon = strchr(text, ':');
    if (colon != NULL && (size_t)(colon - text) < sizeof(fetches)) {
        memcpy(fetches, text, (size_t)(colon - text));
        if (cli_parse_u64(fetches, &ret_mix[FETCH]) && ret_mix[FETCH] > 0 &&
            ret_mix[FETCH] <= MAX_SHARE && cli_parse_u64(colon + 1, &ret_mix[PUBLISH]) &&
            ret_mix[PUBLISH] > 0 && ret_mix[PUBLISH] <= MAX_SHARE) {
            return true;
        }
    }
    (void)cli_fail(cli, CLI_USAGE, "usage",
                   "--mix: \"%s\" is not two integers from 1 to %u, as in 90:10", text, MAX_SHARE);
    return false;
}

static bool take_options(struct cli *cli, struct bench *bench)
{
    if (!take_count(cli, CLI_CLIENTS, "clients", MAX_CLIENTS, DEFAULT_CLIENTS, &bench->clients) ||
        !take_count(cli, CLI_IN_FLIGHT, "in-flight", MAX_FLIGHTS, DEFAULT_FLIGHTS,
                    &bench->flights) ||
        !take_count(cli, CLI_SECONDS, "seconds", MAX_SECONDS, DEFAULT_SECONDS, &bench->seconds) ||
        !cli_option_size(cli, CLI_SIZE, DEFAULT_SIZE, &bench->size) || !take_mix(cli, bench->mix)) {
        return false;
    }
    if (cli->argument_count > 0 &&
        (cli->options[CLI_SIZE] != NULL || cli->options[CLI_MIX] != NULL)) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "--%s does not go with hashes",
                       cli->options[CLI_SIZE] != NULL ? "size" : "mix");
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
    client->flights = calloc(bench->flights, sizeof(*client->flights));
    if (client->content == NULL || client->published == NULL || client->flights == NULL) {
        return cli_fail(cli, CLI_FAILED, "no_memory", "out of memory");
    }
    for (uint64_t i = 0; i < bench->size; i++) {
        client->content[i] = (uint8_t)(next_random(&client->random) | 1); /* pages are not zero */
    }
    client->store = cli_connect(cli, &exit);
    return client->store != NULL ? CLI_DONE : exit;
}

static enum cli_exit run(struct cli *cli, struct bench *bench, struct client *clients,
                         struct results *ret_results)
{
    static const uint64_t only_publish[KINDS] = {[PUBLISH] = 1};
    static const uint64_t only_fetch[KINDS] = {[FETCH] = 1};
    enum cli_exit exit = CLI_DONE;
    for (uint64_t i = 0; exit == CLI_DONE && i < bench->clients; i++) {
        clients[i].number = i;
        exit = open_client(cli, bench, &clients[i]);
    }
    if (exit == CLI_DONE && bench->given_count == 0) {
        exit = measure(cli, bench, clients, only_publish, ret_results->published);
    }
    if (exit == CLI_DONE) {
        exit = measure(cli, bench, clients, only_fetch, ret_results->fetched);
    }
    if (exit == CLI_DONE && bench->mix[FETCH] > 0) {
        exit = measure(cli, bench, clients, bench->mix, ret_results->mixed);
    }
    return exit == CLI_DONE ? print_all(cli, bench, ret_results) : exit;
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
    struct results *results = calloc(1, sizeof(*results)); /* histograms: too much for a stack */
    if (given == NULL || clients == NULL || results == NULL) {
        free(given);
        free(clients);
        free(results);
        return cli_fail(cli, CLI_FAILED, "no_memory", "out of memory");
    }
    enum cli_exit exit = CLI_DONE;
    for (size_t i = 0; exit == CLI_DONE && i < bench.given_count; i++) {
        exit = cli_parse_hash(cli, cli->arguments[i], &given[i]) ? CLI_DONE : CLI_USAGE;
    }
    bench.given = given;
    if (exit == CLI_DONE) {
        exit = run(cli, &bench, clients, results);
    }
    for (uint64_t i = 0; i < bench.clients; i++) {
        capstore_free(clients[i].store);
        free(clients[i].content);
        free(clients[i].published);
        free(clients[i].flights);
    }
    free(results);
    free(clients);
    free(given);
    return exit;
}
