/* Accounts under one mutex: every call is a few additions. */
#include "daemon/core/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/peer.h"
#include "lib/cap/must.h"

#define BUCKETS 4096u /* 32 KiB; 65,536 connections of as many peers make lists of 16 */

struct ledger_peer {
    LIST_ENTRY(ledger_peer) link; /* of its bucket */
    char key[PEER_KEY_SIZE];
    uint64_t id; /* the hash of `key`, not 0 */
    uint64_t used[LEDGER_KINDS];
    uint64_t buffers;
};

struct ledger {
    uv_mutex_t lock;
    const struct config *config;
    uint64_t used[LEDGER_KINDS];
    uint64_t buffers;
    uint64_t peer_count;
    uint64_t seed; /* of the table, so that nobody can choose addresses that share a bucket */
    LIST_HEAD(bucket, ledger_peer) table[BUCKETS];
};

/* --- Limits ----------------------------------------------------------------------------------- */

/* The options of a kind, and how a limit reached is said. */
struct limit {
    size_t all; /* offset in struct config */
    size_t peer;
    const char *all_name;
    const char *peer_name;
    const char *one; /* "upload in flight" */
    const char *many;
};

#define AT(field) offsetof(struct config, field)

static const struct limit limits[LEDGER_KINDS] = {
    [LEDGER_CONNECTIONS] = {AT(max_connections), AT(max_peer_connections), "max-connections",
                            "max-peer-connections", "connection", "connections"},
    [LEDGER_REQUESTS] = {AT(max_all_requests), AT(max_peer_requests), "max-all-requests",
                         "max-peer-requests", "request in flight", "requests in flight"},
    [LEDGER_UPLOADS] = {AT(max_uploads), AT(max_peer_uploads), "max-uploads", "max-peer-uploads",
                        "upload in flight", "uploads in flight"},
    [LEDGER_SPOOL] = {AT(max_spool), AT(max_peer_spool), "max-spool", "max-peer-spool",
                      "byte of uploads in flight", "bytes of uploads in flight"},
    [LEDGER_MEMORY] = {AT(max_memory), AT(max_peer_memory), "max-memory", "max-peer-memory",
                       "byte of memory for requests", "bytes of memory for requests"},
    [LEDGER_MAPS] = {AT(map_cache), AT(max_peer_maps), "map-cache", "max-peer-maps",
                     "byte of mapped copies", "bytes of mapped copies"},
};

static uint64_t option(const struct config *config, size_t offset)
{
    return *(const config_number *)(const void *)((const char *)config + offset);
}

uint64_t ledger_limit(const struct config *config, enum ledger_kind kind)
{
    return option(config, limits[kind].all);
}

uint64_t ledger_share(const struct config *config, enum ledger_kind kind)
{
    uint64_t share = option(config, limits[kind].peer);
    uint64_t quarter = ledger_limit(config, kind) / 4;
    return share > 0 ? share : quarter > 0 ? quarter : 1;
}

/* Whether `more` fits beside `used` under `limit`, without wrapping. */
static bool fits(uint64_t used, uint64_t more, uint64_t limit)
{
    return used <= limit && more <= limit - used;
}

static bool fits_share(const struct ledger *ledger, const struct ledger_peer *peer,
                       enum ledger_kind kind, uint64_t more)
{
    return peer == NULL || fits(peer->used[kind], more, ledger_share(ledger->config, kind));
}

static bool has_room(const struct ledger *ledger, const struct ledger_peer *peer,
                     enum ledger_kind kind, uint64_t more)
{
    return fits(ledger->used[kind], more, ledger_limit(ledger->config, kind)) &&
           fits_share(ledger, peer, kind, more);
}

static void say_why(const struct ledger *ledger, const struct ledger_peer *peer,
                    enum ledger_kind kind, uint64_t more, char *ret_why)
{
    const struct limit *limit = &limits[kind];
    bool all = fits_share(ledger, peer, kind, more);
    uint64_t most = all ? ledger_limit(ledger->config, kind) : ledger_share(ledger->config, kind);
    snprintf(ret_why, LEDGER_WHY_SIZE, "limit of %" PRIu64 " %s%s (%s)", most,
             most == 1 ? limit->one : limit->many,
             all ? " reached, by all clients" : " of one peer reached",
             all ? limit->all_name : limit->peer_name);
}

void ledger_why(struct ledger *ledger, const struct ledger_peer *peer, enum ledger_kind kind,
                uint64_t more, char ret_why[LEDGER_WHY_SIZE])
{
    uv_mutex_lock(&ledger->lock);
    say_why(ledger, peer, kind, more, ret_why);
    uv_mutex_unlock(&ledger->lock);
}

/* --- Accounts --------------------------------------------------------------------------------- */

enum cap_error ledger_new(const struct config *config, const struct env *env,
                          struct ledger **ret_ledger)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));
    if (ledger == NULL || uv_mutex_init(&ledger->lock) != 0) {
        free(ledger);
        return CAP_E_NO_MEMORY;
    }
    ledger->config = config;
    /* Without entropy this early the table works as well, only predictably. */
    (void)env->random(env->ctx, &ledger->seed, sizeof(ledger->seed));
    *ret_ledger = ledger;
    return CAP_OK;
}

void ledger_free(struct ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    must(ledger->peer_count == 0);
    uv_mutex_destroy(&ledger->lock);
    free(ledger);
}

/* FNV-1a from a secret start; the multiplication at the end mixes the high bits down. */
static uint64_t hash_of(const struct ledger *ledger, const char *key)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ ledger->seed;
    for (const char *at = key; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
    }
    return (hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t ledger_peer_id(const struct ledger_peer *peer)
{
    return peer == NULL ? 0 : peer->id;
}

_Static_assert(BUCKETS == 1u << (64 - 52), "the top bits of the hash choose a bucket");

static struct ledger_peer *find_or_add(struct ledger *ledger, const char *key)
{
    uint64_t hash = hash_of(ledger, key);
    struct bucket *bucket = &ledger->table[hash >> 52];
    struct ledger_peer *peer;
    LIST_FOREACH(peer, bucket, link)
    {
        if (strcmp(peer->key, key) == 0) {
            return peer;
        }
    }
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    snprintf(peer->key, sizeof(peer->key), "%s", key);
    peer->id = hash > 0 ? hash : 1;
    LIST_INSERT_HEAD(bucket, peer, link);
    ledger->peer_count++;
    return peer;
}

/* Frees an account in which nothing is counted. */
static void maybe_free(struct ledger *ledger, struct ledger_peer *peer)
{
    for (size_t i = 0; i < LEDGER_KINDS; i++) {
        if (peer->used[i] > 0) {
            return;
        }
    }
    if (peer->buffers == 0) {
        LIST_REMOVE(peer, link);
        ledger->peer_count--;
        free(peer);
    }
}

static void take(struct ledger *ledger, struct ledger_peer *peer, enum ledger_kind kind,
                 uint64_t more)
{
    ledger->used[kind] += more;
    if (peer != NULL) {
        peer->used[kind] += more;
    }
}

/* The account may be freed. */
static void give(struct ledger *ledger, struct ledger_peer *peer, enum ledger_kind kind,
                 uint64_t less)
{
    must(ledger->used[kind] >= less && (peer == NULL || peer->used[kind] >= less));
    ledger->used[kind] -= less;
    if (peer != NULL) {
        peer->used[kind] -= less;
        maybe_free(ledger, peer);
    }
}

/* --- What is counted -------------------------------------------------------------------------- */

enum cap_error ledger_connect(struct ledger *ledger, const char *key, struct ledger_peer **ret_peer)
{
    enum cap_error error = CAP_OK;
    uv_mutex_lock(&ledger->lock);
    struct ledger_peer *peer = find_or_add(ledger, key);
    if (peer == NULL) {
        error = CAP_E_NO_MEMORY;
    } else if (has_room(ledger, peer, LEDGER_CONNECTIONS, 1)) {
        take(ledger, peer, LEDGER_CONNECTIONS, 1);
        *ret_peer = peer;
    } else {
        error = CAP_E_TOO_MANY_CONNECTIONS;
        maybe_free(ledger, peer);
    }
    uv_mutex_unlock(&ledger->lock);
    return error;
}

void ledger_disconnect(struct ledger *ledger, struct ledger_peer *peer)
{
    uv_mutex_lock(&ledger->lock);
    give(ledger, peer, LEDGER_CONNECTIONS, 1);
    uv_mutex_unlock(&ledger->lock);
}

bool ledger_may_request(struct ledger *ledger, const struct ledger_peer *peer)
{
    uv_mutex_lock(&ledger->lock);
    bool may = has_room(ledger, peer, LEDGER_REQUESTS, 1);
    uv_mutex_unlock(&ledger->lock);
    return may;
}

void ledger_request_begin(struct ledger *ledger, struct ledger_peer *peer)
{
    uv_mutex_lock(&ledger->lock);
    take(ledger, peer, LEDGER_REQUESTS, 1);
    uv_mutex_unlock(&ledger->lock);
}

void ledger_request_end(struct ledger *ledger, struct ledger_peer *peer)
{
    uv_mutex_lock(&ledger->lock);
    give(ledger, peer, LEDGER_REQUESTS, 1);
    uv_mutex_unlock(&ledger->lock);
}

enum cap_error ledger_upload_begin(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes,
                                   char ret_why[LEDGER_WHY_SIZE])
{
    enum cap_error error = CAP_OK;
    uv_mutex_lock(&ledger->lock);
    if (!has_room(ledger, peer, LEDGER_UPLOADS, 1)) {
        say_why(ledger, peer, LEDGER_UPLOADS, 1, ret_why);
        error = CAP_E_SPOOL_FULL;
    } else if (!has_room(ledger, peer, LEDGER_SPOOL, bytes)) {
        say_why(ledger, peer, LEDGER_SPOOL, bytes, ret_why);
        error = CAP_E_SPOOL_FULL;
    } else {
        take(ledger, peer, LEDGER_UPLOADS, 1);
        take(ledger, peer, LEDGER_SPOOL, bytes);
    }
    uv_mutex_unlock(&ledger->lock);
    return error;
}

uint64_t ledger_spool(struct ledger *ledger, const struct ledger_peer *peer)
{
    uv_mutex_lock(&ledger->lock);
    uint64_t bytes = peer == NULL ? 0 : peer->used[LEDGER_SPOOL];
    uv_mutex_unlock(&ledger->lock);
    return bytes;
}

void ledger_upload_end(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    give(ledger, peer, LEDGER_SPOOL, bytes);
    give(ledger, peer, LEDGER_UPLOADS, 1);
    uv_mutex_unlock(&ledger->lock);
}

static bool change_memory(struct ledger *ledger, struct ledger_peer *peer, uint64_t *held,
                          uint64_t wanted, bool anyway)
{
    bool changed = true;
    if (wanted == *held) {
        return true;
    }
    uv_mutex_lock(&ledger->lock);
    if (wanted < *held) {
        give(ledger, peer, LEDGER_MEMORY, *held - wanted);
    } else if (anyway || has_room(ledger, peer, LEDGER_MEMORY, wanted - *held)) {
        take(ledger, peer, LEDGER_MEMORY, wanted - *held);
    } else {
        changed = false;
    }
    uv_mutex_unlock(&ledger->lock);
    *held = changed ? wanted : *held;
    return changed;
}

bool ledger_memory_hold(struct ledger *ledger, struct ledger_peer *peer, uint64_t *held,
                        uint64_t wanted)
{
    return change_memory(ledger, peer, held, wanted, false);
}

void ledger_memory_count(struct ledger *ledger, struct ledger_peer *peer, uint64_t *held,
                         uint64_t wanted)
{
    (void)change_memory(ledger, peer, held, wanted, true);
}

bool ledger_map_take(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes,
                     char ret_why[LEDGER_WHY_SIZE])
{
    uv_mutex_lock(&ledger->lock);
    bool fits = fits_share(ledger, peer, LEDGER_MAPS, bytes);
    if (fits) {
        take(ledger, peer, LEDGER_MAPS, bytes);
    } else {
        say_why(ledger, peer, LEDGER_MAPS, bytes, ret_why);
    }
    uv_mutex_unlock(&ledger->lock);
    return fits;
}

void ledger_map_give(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    give(ledger, peer, LEDGER_MAPS, bytes);
    uv_mutex_unlock(&ledger->lock);
}

/* --- Buffers ---------------------------------------------------------------------------------- */

void ledger_buffer_take(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    ledger->buffers += bytes;
    if (peer != NULL) {
        peer->buffers += bytes;
    }
    uv_mutex_unlock(&ledger->lock);
}

void ledger_buffer_give(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes)
{
    if (bytes == 0) {
        return; /* the account may be gone */
    }
    uv_mutex_lock(&ledger->lock);
    must(ledger->buffers >= bytes && (peer == NULL || peer->buffers >= bytes));
    ledger->buffers -= bytes;
    if (peer != NULL) {
        peer->buffers -= bytes;
        maybe_free(ledger, peer);
    }
    uv_mutex_unlock(&ledger->lock);
}

bool ledger_buffer_room(struct ledger *ledger, const struct ledger_peer *peer, uint64_t more)
{
    uint64_t most = ledger->config->max_buffers;
    uv_mutex_lock(&ledger->lock);
    /* A peer that buffers nothing may begin, or a small limit would stop it for ever. */
    bool room = fits(ledger->buffers, more, most) &&
                (peer == NULL || peer->buffers == 0 || fits(peer->buffers, more, most / 4));
    uv_mutex_unlock(&ledger->lock);
    return room;
}

void ledger_figures(struct ledger *ledger, struct ledger_figures *ret_figures)
{
    uv_mutex_lock(&ledger->lock);
    *ret_figures = (struct ledger_figures){
        .connections = ledger->used[LEDGER_CONNECTIONS],
        .requests = ledger->used[LEDGER_REQUESTS],
        .uploads = ledger->used[LEDGER_UPLOADS],
        .spool = ledger->used[LEDGER_SPOOL],
        .memory = ledger->used[LEDGER_MEMORY],
        .buffers = ledger->buffers,
        .peers = ledger->peer_count,
    };
    uv_mutex_unlock(&ledger->lock);
}
