/* Accounts under one mutex: every call is a few additions. */
#include "daemon/core/ledger.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "daemon/core/peer.h"

struct ledger_peer {
    struct ledger_peer *next;
    char key[PEER_KEY_SIZE];
    uint64_t connections;
    uint64_t uploads;
    uint64_t spool;
};

struct ledger {
    uv_mutex_t lock;
    const struct config *config;
    struct ledger_figures used;
    struct ledger_peer *peers;
};

enum cap_error ledger_new(const struct config *config, struct ledger **ret_ledger)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));
    if (ledger == NULL || uv_mutex_init(&ledger->lock) != 0) {
        free(ledger);
        return CAP_E_NO_MEMORY;
    }
    ledger->config = config;
    *ret_ledger = ledger;
    return CAP_OK;
}

void ledger_free(struct ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    while (ledger->peers != NULL) {
        struct ledger_peer *peer = ledger->peers;
        ledger->peers = peer->next;
        free(peer);
    }
    uv_mutex_destroy(&ledger->lock);
    free(ledger);
}

static struct ledger_peer *find_or_add(struct ledger *ledger, const char *key)
{
    for (struct ledger_peer *peer = ledger->peers; peer != NULL; peer = peer->next) {
        if (strcmp(peer->key, key) == 0) {
            return peer;
        }
    }
    struct ledger_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    strncpy(peer->key, key, sizeof(peer->key) - 1);
    peer->next = ledger->peers;
    ledger->peers = peer;
    return peer;
}

/* Frees an account that nothing holds. */
static void release(struct ledger *ledger, struct ledger_peer *peer)
{
    if (peer->connections > 0 || peer->uploads > 0) {
        return;
    }
    struct ledger_peer **at = &ledger->peers;
    while (*at != peer) {
        at = &(*at)->next;
    }
    *at = peer->next;
    free(peer);
}

enum cap_error ledger_connect(struct ledger *ledger, const char *key, struct ledger_peer **ret_peer)
{
    enum cap_error error = CAP_OK;
    uv_mutex_lock(&ledger->lock);
    struct ledger_peer *peer = find_or_add(ledger, key);
    if (peer == NULL) {
        error = CAP_E_NO_MEMORY;
    } else if (ledger->used.connections >= ledger->config->max_connections ||
               peer->connections >= ledger->config->max_peer_connections) {
        error = CAP_E_TOO_MANY_CONNECTIONS;
        release(ledger, peer);
    } else {
        ledger->used.connections++;
        peer->connections++;
        *ret_peer = peer;
    }
    uv_mutex_unlock(&ledger->lock);
    return error;
}

void ledger_disconnect(struct ledger *ledger, struct ledger_peer *peer)
{
    uv_mutex_lock(&ledger->lock);
    ledger->used.connections--;
    peer->connections--;
    release(ledger, peer);
    uv_mutex_unlock(&ledger->lock);
}

/* Whether `more` fits beside `used` under `limit`, without wrapping. */
static bool fits(uint64_t used, uint64_t more, uint64_t limit)
{
    return used <= limit && more <= limit - used;
}

enum cap_error ledger_upload_begin(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes)
{
    const struct config *config = ledger->config;
    enum cap_error error = CAP_E_SPOOL_FULL;
    uv_mutex_lock(&ledger->lock);
    if (ledger->used.uploads < config->max_uploads &&
        fits(ledger->used.spool, bytes, config->max_spool) &&
        fits(peer->spool, bytes, config->max_peer_spool)) {
        ledger->used.uploads++;
        ledger->used.spool += bytes;
        peer->uploads++;
        peer->spool += bytes;
        error = CAP_OK;
    }
    uv_mutex_unlock(&ledger->lock);
    return error;
}

void ledger_upload_end(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    ledger->used.uploads--;
    ledger->used.spool -= bytes;
    peer->uploads--;
    peer->spool -= bytes;
    release(ledger, peer);
    uv_mutex_unlock(&ledger->lock);
}

bool ledger_memory_take(struct ledger *ledger, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    bool taken = fits(ledger->used.memory, bytes, ledger->config->max_memory);
    if (taken) {
        ledger->used.memory += bytes;
    }
    uv_mutex_unlock(&ledger->lock);
    return taken;
}

void ledger_memory_give(struct ledger *ledger, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    ledger->used.memory -= bytes;
    uv_mutex_unlock(&ledger->lock);
}

bool ledger_memory_hold(struct ledger *ledger, uint64_t *held, uint64_t wanted)
{
    if (wanted > *held && !ledger_memory_take(ledger, wanted - *held)) {
        return false;
    }
    if (wanted < *held) {
        ledger_memory_give(ledger, *held - wanted);
    }
    *held = wanted;
    return true;
}

void ledger_buffer_take(struct ledger *ledger, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    ledger->used.buffers += bytes;
    uv_mutex_unlock(&ledger->lock);
}

void ledger_buffer_give(struct ledger *ledger, uint64_t bytes)
{
    uv_mutex_lock(&ledger->lock);
    ledger->used.buffers -= bytes;
    uv_mutex_unlock(&ledger->lock);
}

void ledger_figures(struct ledger *ledger, struct ledger_figures *ret_figures)
{
    uv_mutex_lock(&ledger->lock);
    *ret_figures = ledger->used;
    uv_mutex_unlock(&ledger->lock);
}
