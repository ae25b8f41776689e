/*
 * One list of places under one mutex: every call walks it, over at most the uploads in flight and
 * PARK_MAX loads.
 */
#include "daemon/publish/park.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "lib/cap/must.h"

struct park_place {
    TAILQ_ENTRY(park_place) link;
    char peer[PEER_KEY_SIZE];
    uint8_t fields[PROTO_UPLOAD_MAX]; /* of the message: all but the offset */
    size_t fields_len;
    uint64_t total_len;
    atomic_bool wanted;
    bool listed; /* under the lock, as is the next: its name is its own */
    bool loaded; /* no upload has it, but what was left of one */
    struct park_load load;
    uint64_t until_us; /* monotonic */
    struct park *park;
    struct pool_job end;
};

TAILQ_HEAD(places, park_place);

struct park {
    const struct config *config;
    struct ledger *ledger;
    pthread_mutex_t lock;
    struct places places; /* that are listed; those with a load in the order in which they came */
    struct park_figures figures;
};

uint64_t park_memory(void)
{
    return sizeof(struct park_place);
}

enum cap_error park_new(const struct config *config, struct ledger *ledger, struct park **ret_park)
{
    struct park *park = calloc(1, sizeof(*park));
    if (park == NULL) {
        return CAP_E_NO_MEMORY;
    }
    park->config = config;
    park->ledger = ledger;
    (void)pthread_mutex_init(&park->lock, NULL);
    TAILQ_INIT(&park->places);
    *ret_park = park;
    return CAP_OK;
}

/* --- Dropping --------------------------------------------------------------------------------- */

static void unlist(struct park *park, struct park_place *place)
{
    TAILQ_REMOVE(&park->places, place, link);
    place->listed = false;
    if (place->loaded) {
        park->figures.count--;
        park->figures.bytes -= place->load.received;
    }
}

/* Moves a place with a load to those that are dropped when the lock is open. */
static void condemn(struct park *park, struct park_place *place, struct places *dropped)
{
    unlist(park, place);
    TAILQ_INSERT_TAIL(dropped, place, link);
}

static void free_place(struct park_place *place)
{
    struct park_load *load = &place->load;
    head_free(&load->head);
    (void)ledger_memory_hold(place->park->ledger, load->account, &load->held, 0);
    free(place);
}

static void run_close(struct pool_job *job)
{
    spool_rest_free(&CONTAINER_OF(job, struct park_place, end)->load.spool);
}

static void on_closed(struct pool_job *job)
{
    free_place(CONTAINER_OF(job, struct park_place, end));
}

static void drop_all(struct places *dropped, struct pool_outlet *outlet)
{
    struct park_place *place;
    while ((place = TAILQ_FIRST(dropped)) != NULL) {
        TAILQ_REMOVE(dropped, place, link);
        if (place->load.spooled) {
            place->end = (struct pool_job){.run = run_close, .done = on_closed};
            pool_submit(outlet, &place->end);
        } else {
            free_place(place);
        }
    }
}

void park_free(struct park *park)
{
    if (park == NULL) {
        return;
    }
    struct park_place *place;
    while ((place = TAILQ_FIRST(&park->places)) != NULL) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it cannot follow the list's links back */
        must(place->loaded);
        unlist(park, place);
        if (place->load.spooled) {
            spool_rest_free(&place->load.spool);
        }
        free_place(place);
    }
    (void)pthread_mutex_destroy(&park->lock);
    free(park);
}

/* --- Names ------------------------------------------------------------------------------------ */

/* The token stands behind the other fields. */
static const uint8_t *token_of(const struct park_place *place)
{
    return place->fields + place->fields_len - PROTO_TOKEN_SIZE;
}

static struct park_place *find(const struct park *park, const struct park_name *name)
{
    struct park_place *place;
    TAILQ_FOREACH(place, &park->places, link)
    {
        if (memcmp(token_of(place), name->token, PROTO_TOKEN_SIZE) == 0 &&
            strcmp(place->peer, name->peer) == 0) {
            return place;
        }
    }
    return NULL;
}

/* --- Uploads ---------------------------------------------------------------------------------- */

/* All of the message but the offset. */
static struct cap_bytes fields_of(const struct park_upload *upload)
{
    must(upload->payload.len <= PROTO_UPLOAD_MAX &&
         upload->payload.len >= PROTO_TOKEN_SIZE + sizeof(uint64_t));
    return (struct cap_bytes){upload->payload.data, upload->payload.len - sizeof(uint64_t)};
}

static struct park_name name_of(const struct park_upload *upload)
{
    struct cap_bytes fields = fields_of(upload);
    return (struct park_name){upload->peer, fields.data + fields.len - PROTO_TOKEN_SIZE};
}

/* Takes the name from what has it. Under the lock. */
static void take_name(struct park *park, const struct park_name *name, struct places *dropped)
{
    struct park_place *place = find(park, name);
    if (place != NULL && place->loaded) {
        condemn(park, place, dropped);
    } else if (place != NULL) {
        unlist(park, place); /* its upload goes on, and frees it */
    }
}

static enum cap_error enter_new(struct park *park, const struct park_upload *upload,
                                struct pool_outlet *outlet, struct park_place **ret_place)
{
    struct cap_bytes fields = fields_of(upload);
    struct park_name name = name_of(upload);
    struct places dropped = TAILQ_HEAD_INITIALIZER(dropped);
    struct park_place *place = calloc(1, sizeof(*place));
    if (place == NULL) {
        return CAP_E_NO_MEMORY;
    }
    place->park = park;
    place->listed = true;
    place->total_len = upload->total_len;
    place->fields_len = fields.len;
    memcpy(place->fields, fields.data, fields.len);
    (void)snprintf(place->peer, sizeof(place->peer), "%s", upload->peer);
    pthread_mutex_lock(&park->lock);
    take_name(park, &name, &dropped);
    TAILQ_INSERT_HEAD(&park->places, place, link);
    pthread_mutex_unlock(&park->lock);
    drop_all(&dropped, outlet);
    *ret_place = place;
    return CAP_OK;
}

static bool fits_on(const struct park_place *place, const struct park_upload *upload)
{
    struct cap_bytes fields = fields_of(upload);
    return place != NULL && place->loaded && place->load.received == upload->offset &&
           place->fields_len == fields.len && memcmp(place->fields, fields.data, fields.len) == 0;
}

/* Takes out of the park what the upload goes on with. */
static enum cap_error enter_loaded(struct park *park, const struct park_upload *upload,
                                   struct park_place **ret_place, struct park_load *ret_load)
{
    struct park_name name = name_of(upload);
    pthread_mutex_lock(&park->lock);
    struct park_place *place = find(park, &name);
    bool fits = fits_on(place, upload);
    if (fits) {
        park->figures.count--;
        park->figures.bytes -= place->load.received;
        place->loaded = false;
        atomic_store(&place->wanted, false);
        *ret_load = place->load;
        *ret_place = place;
        place->load = (struct park_load){0};
    }
    pthread_mutex_unlock(&park->lock);
    return fits ? CAP_OK : CAP_E_RESUME_OFFSET;
}

enum cap_error park_enter(struct park *park, const struct park_upload *upload,
                          struct pool_outlet *outlet, struct park_place **ret_place,
                          struct park_load *ret_load)
{
    return upload->offset == 0 ? enter_new(park, upload, outlet, ret_place)
                               : enter_loaded(park, upload, ret_place, ret_load);
}

/* --- Loads ------------------------------------------------------------------------------------ */

/* Whether `more` bytes fit beside what the peer, and all, have left. Drops the peer's oldest load
 * if that is in the way and there is one. Under the lock. */
static bool make_room(struct park *park, const char *peer, uint64_t more, struct places *dropped)
{
    const uint64_t share = park->config->resume_bytes;
    for (;;) {
        struct park_figures own = {0};
        struct park_place *oldest = NULL;
        struct park_place *place;
        TAILQ_FOREACH(place, &park->places, link)
        {
            if (place->loaded && strcmp(place->peer, peer) == 0) {
                oldest = oldest == NULL ? place : oldest;
                own.count++;
                own.bytes += place->load.received;
            }
        }
        if (own.count < PARK_PEER_MAX && own.bytes + more <= share &&
            park->figures.count < PARK_MAX && park->figures.bytes + more <= 4 * share) {
            return true;
        }
        if (oldest == NULL || more > share) {
            return false;
        }
        condemn(park, oldest, dropped);
    }
}

void park_leave(struct park *park, struct park_place *place, const struct park_load *load,
                uint64_t now_us, struct pool_outlet *outlet)
{
    struct places dropped = TAILQ_HEAD_INITIALIZER(dropped);
    if (load != NULL) {
        place->load = *load;
    }
    pthread_mutex_lock(&park->lock);
    if (place->listed) {
        unlist(park, place);
        place->listed = load != NULL && park->config->resume_keep > 0 &&
                        make_room(park, place->peer, load->received, &dropped);
    }
    if (place->listed) {
        place->loaded = true;
        place->until_us = now_us + park->config->resume_keep * UINT64_C(1000000);
        park->figures.count++;
        park->figures.bytes += load->received;
        TAILQ_INSERT_TAIL(&park->places, place, link);
    } else {
        TAILQ_INSERT_TAIL(&dropped, place, link);
    }
    pthread_mutex_unlock(&park->lock);
    drop_all(&dropped, outlet);
}

bool park_find(struct park *park, const struct park_name *name, uint64_t *ret_total_len,
               uint64_t *ret_offset)
{
    pthread_mutex_lock(&park->lock);
    struct park_place *place = find(park, name);
    bool there = place != NULL && place->loaded;
    *ret_total_len = there ? place->total_len : 0;
    *ret_offset = there ? place->load.received : 0;
    if (place != NULL && !there) {
        atomic_store(&place->wanted, true);
    }
    pthread_mutex_unlock(&park->lock);
    return place == NULL || there;
}

bool park_is_wanted(const struct park_place *place)
{
    return atomic_load(&place->wanted);
}

void park_clear(struct park *park, uint64_t now_us, bool all, struct pool_outlet *outlet)
{
    struct places dropped = TAILQ_HEAD_INITIALIZER(dropped);
    struct park_place *place;
    struct park_place *next;
    pthread_mutex_lock(&park->lock);
    for (place = TAILQ_FIRST(&park->places); place != NULL; place = next) {
        next = TAILQ_NEXT(place, link);
        if (place->loaded && (all || now_us >= place->until_us)) {
            condemn(park, place, &dropped);
        }
    }
    pthread_mutex_unlock(&park->lock);
    drop_all(&dropped, outlet);
}

void park_figures(struct park *park, struct park_figures *ret_figures)
{
    pthread_mutex_lock(&park->lock);
    *ret_figures = park->figures;
    pthread_mutex_unlock(&park->lock);
}
