/*
 * The cache of copies.
 *
 * Happy path: the first asker makes a copy that is not there yet, and its job goes to the readers
 * of the asker's loop; the job makes room, copies step by step, and seals. On that loop everybody
 * who waits is given a descriptor.
 *
 * Failure modes.
 *   - The cap is not there, or cannot be read, or there is no room: everybody who waits is told,
 *     and the next asker begins anew.
 *   - Everybody leaves: the job ends at its next step.
 *   - The loop ends: a job that has not begun is given up, one that runs is waited for.
 */
#include "daemon/serve/copies.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/serve/serve.h"
#include "lib/cap/must.h"

#define BUCKETS 1024u

enum copy_state {
    COPY_MAKING,
    COPY_READY, /* in the cache: `fd` is open */
    COPY_GIVEN, /* the cache has let go of it; peers have not */
};

TAILQ_HEAD(copy_waits, copy_wait);

/* A struct inotify_event without a name, which a memfd does not have. */
struct event {
    int wd;
    uint32_t mask;
    uint32_t cookie;
    uint32_t len;
};

_Static_assert(sizeof(struct event) == sizeof(struct inotify_event), "events without a name");

/* A peer that was given the copy, or has it made. */
struct charge {
    SLIST_ENTRY(charge) link;
    struct ledger_peer *account;
};

struct copy {
    struct copies *copies;
    struct cap_hash hash;
    enum copy_state state;
    bool listed;            /* in its bucket: it can be found */
    LIST_ENTRY(copy) find;  /* of its bucket */
    TAILQ_ENTRY(copy) link; /* of those in the same state, the least recently asked for first */
    struct copy_waits waits;
    uint64_t asked; /* how often, while it is made */
    SLIST_HEAD(, charge) charges;
    uint64_t bytes; /* counted; 0: nothing yet */
    int fd;
    int watch;
    bool gone; /* nobody has it any more */
    struct copy_layout layout;

    struct serve *home; /* whose readers make it */
    struct read_job job;
    struct copying copying; /* the job's */
    bool has_found;         /* the job has looked the cap up, and there is room */
    enum cap_error error;
    char why[LEDGER_WHY_SIZE];
};

TAILQ_HEAD(copy_list, copy);

struct copies {
    const struct context *context;
    struct ledger *ledger;
    uint64_t max;
    size_t open_max;
    uint64_t seed; /* of the buckets, so that nobody can choose caps that meet in one */
    int inotify;

    uv_mutex_t lock; /* of what follows, and of every copy but what is the job's */
    LIST_HEAD(, copy) buckets[BUCKETS];
    struct copy_list making;
    struct copy_list ready;
    struct copy_list given;
    size_t open; /* copies in `ready` */
    uint64_t count;
    uint64_t bytes;
};

/* --- Copies: all under the lock --------------------------------------------------------------- */

static struct copy_list *list_of(struct copies *copies, enum copy_state state)
{
    return state == COPY_MAKING  ? &copies->making
           : state == COPY_READY ? &copies->ready
                                 : &copies->given;
}

static unsigned bucket_of(const struct copies *copies, const struct cap_hash *hash)
{
    uint64_t word = cap_load64(hash->bytes) ^ copies->seed;
    return (unsigned)(word * UINT64_C(0x9e3779b97f4a7c15) >> 54);
}

_Static_assert(BUCKETS == 1u << (64 - 54), "the top bits choose a bucket");

static struct copy *find(struct copies *copies, const struct cap_hash *hash)
{
    struct copy *copy;
    LIST_FOREACH(copy, &copies->buckets[bucket_of(copies, hash)], find)
    {
        if (cap_hash_equal(&copy->hash, hash)) {
            return copy;
        }
    }
    return NULL;
}

static void unlist(struct copy *copy)
{
    if (copy->listed) {
        LIST_REMOVE(copy, find);
        copy->listed = false;
    }
}

static void move_to(struct copy *copy, enum copy_state state)
{
    TAILQ_REMOVE(list_of(copy->copies, copy->state), copy, link);
    copy->state = state;
    TAILQ_INSERT_TAIL(list_of(copy->copies, state), copy, link);
}

static void uncharge(struct copy *copy)
{
    while (!SLIST_EMPTY(&copy->charges)) {
        struct charge *charge = SLIST_FIRST(&copy->charges);
        SLIST_REMOVE_HEAD(&copy->charges, link);
        ledger_map_give(copy->copies->ledger, charge->account, copy->bytes);
        free(charge);
    }
}

/* The copy, of that list, is no more, or was never made. */
static void free_copy(struct copy_list *list, struct copy *copy)
{
    struct copies *copies = copy->copies;
    must(TAILQ_EMPTY(&copy->waits));
    unlist(copy);
    TAILQ_REMOVE(list, copy, link);
    uncharge(copy);
    copies->bytes -= copy->bytes;
    copies->count--;
    copying_drop(&copy->copying);
    free(copy);
}

static void note_gone(struct copies *copies, int watch)
{
    struct copy *copy;
    TAILQ_FOREACH(copy, &copies->given, link)
    {
        copy->gone = copy->gone || copy->watch == watch;
    }
}

/* Takes in the kernel's news of copies that are gone. */
static void reap(struct copies *copies)
{
    struct event events[64];
    struct copy *next;
    bool any = false;
    ssize_t n;
    while ((n = read(copies->inotify, events, sizeof(events))) > 0) {
        for (size_t i = 0; i < (size_t)n / sizeof(events[0]); i++) {
            if ((events[i].mask & IN_DELETE_SELF) != 0) {
                note_gone(copies, events[i].wd);
                any = true;
            }
        }
    }
    for (struct copy *copy = TAILQ_FIRST(&copies->given); any && copy != NULL; copy = next) {
        next = TAILQ_NEXT(copy, link);
        if (copy->gone) {
            free_copy(&copies->given, copy);
        }
    }
}

/* The cache lets go of a copy: it is no more, or only peers have it. */
static void let_go(struct copy *copy)
{
    struct copies *copies = copy->copies;
    unlist(copy);
    move_to(copy, COPY_GIVEN);
    copies->open--;
    close(copy->fd);
    copy->fd = -1;
    reap(copies);
}

static bool has_charge(const struct copy *copy, const struct ledger_peer *account)
{
    const struct charge *charge;
    SLIST_FOREACH(charge, &copy->charges, link)
    {
        if (charge->account == account) {
            return true;
        }
    }
    return false;
}

/* Lets go of the peer's copy in the cache that was asked for least recently, but `keep`. */
static bool let_go_of_one(struct copies *copies, const struct ledger_peer *account,
                          const struct copy *keep)
{
    struct copy *copy;
    TAILQ_FOREACH(copy, &copies->ready, link)
    {
        if (copy != keep && (account == NULL || has_charge(copy, account))) {
            let_go(copy);
            return true;
        }
    }
    return false;
}

/* Counts the copy, of `bytes`, to a peer. CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error charge_peer(struct copy *copy, struct ledger_peer *account, uint64_t bytes,
                                  char *ret_why)
{
    struct copies *copies = copy->copies;
    if (has_charge(copy, account)) {
        return CAP_OK;
    }
    struct charge *charge = calloc(1, sizeof(*charge));
    if (charge == NULL) {
        return CAP_E_NO_MEMORY;
    }
    reap(copies);
    while (!ledger_map_take(copies->ledger, account, bytes, ret_why)) {
        if (!let_go_of_one(copies, account, copy)) {
            free(charge);
            return CAP_E_MEMORY_LIMIT;
        }
    }
    charge->account = account;
    SLIST_INSERT_HEAD(&copy->charges, charge, link);
    return CAP_OK;
}

/* Answers an asker of a copy that is there. */
static void give(struct copy *copy, struct copy_wait *wait)
{
    wait->error = charge_peer(copy, wait->account, copy->bytes, wait->why);
    if (wait->error != CAP_OK) {
        return;
    }
    wait->layout = copy->layout;
    wait->fd = fcntl(copy->fd, F_DUPFD_CLOEXEC, 0);
    if (wait->fd < 0) {
        wait->error = CAP_E_NO_MEMORY;
        snprintf(wait->why, sizeof(wait->why), "the daemon has too many open files");
    }
}

/* --- Making: in a reader ---------------------------------------------------------------------- */

/* Room in all for a copy of `bytes`. Under the lock. */
static bool make_room(struct copies *copies, uint64_t bytes)
{
    reap(copies);
    while (copies->bytes + bytes > copies->max || copies->count > COPIES_MAX) {
        if (!let_go_of_one(copies, NULL, NULL)) {
            return false;
        }
    }
    return true;
}

/* Counts what is about to be made, to somebody who waits for it and has the room. */
static enum cap_error reserve(struct copy *copy)
{
    struct copies *copies = copy->copies;
    uint64_t bytes = copy->copying.bytes > COPY_LEAST ? copy->copying.bytes : COPY_LEAST;
    enum cap_error error = CAP_E_CANCELLED;
    struct copy_wait *wait;
    if (bytes > copies->max) {
        snprintf(copy->why, sizeof(copy->why),
                 "mapping it takes %" PRIu64 " bytes, and all copies may take %" PRIu64
                 " (map-cache)",
                 bytes, copies->max);
        return CAP_E_MEMORY_LIMIT;
    }
    TAILQ_FOREACH(wait, &copy->waits, link)
    {
        error = charge_peer(copy, wait->account, bytes, copy->why);
        if (error == CAP_OK) {
            copy->why[0] = '\0';
            break;
        }
    }
    if (error == CAP_OK) {
        copy->bytes = bytes; /* what uncharge gives back */
        if (!make_room(copies, bytes)) {
            uncharge(copy);
            copy->bytes = 0;
            snprintf(copy->why, sizeof(copy->why),
                     "limit of %" PRIu64 " bytes of mapped copies reached, by all clients "
                     "(map-cache)",
                     copies->max);
            return CAP_E_MEMORY_LIMIT;
        }
        copies->bytes += bytes;
    }
    return error;
}

/* Looks the cap up and makes room. *ret_again: somebody asked meanwhile, for whom it may be there.
 */
static enum cap_error prepare(struct copy *copy, bool *ret_again)
{
    struct copies *copies = copy->copies;
    uv_mutex_lock(&copies->lock);
    uint64_t asked = copy->asked;
    uv_mutex_unlock(&copies->lock);
    enum cap_error error = copying_find(&copy->copying, copies->context->store, &copy->hash);
    uv_mutex_lock(&copies->lock);
    *ret_again = error == CAP_E_NOT_FOUND && copy->asked != asked;
    if (error == CAP_OK) {
        error = reserve(copy);
    }
    copy->has_found = error == CAP_OK;
    if (error != CAP_OK && !*ret_again) {
        unlist(copy);
    }
    uv_mutex_unlock(&copies->lock);
    return error;
}

/* Seals the copy and watches for its end. */
static enum cap_error finish(struct copy *copy)
{
    char path[32];
    copy->layout = copy->copying.layout;
    enum cap_error error = copying_seal(&copy->copying, &copy->fd);
    if (error != CAP_OK) {
        return error;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", copy->fd);
    copy->watch = inotify_add_watch(copy->copies->inotify, path, IN_DELETE_SELF);
    if (copy->watch < 0) {
        close(copy->fd);
        copy->fd = -1;
        snprintf(copy->why, sizeof(copy->why),
                 "the daemon cannot watch more files (fs.inotify.max_user_watches)");
        return CAP_E_NO_MEMORY;
    }
    return CAP_OK;
}

static bool has_waits(struct copy *copy)
{
    uv_mutex_lock(&copy->copies->lock);
    bool waits = !TAILQ_EMPTY(&copy->waits);
    if (!waits) {
        unlist(copy); /* from now on a request begins anew */
    }
    uv_mutex_unlock(&copy->copies->lock);
    return waits;
}

static bool on_run(struct read_job *job)
{
    struct copy *copy = CONTAINER_OF(job, struct copy, job);
    bool is_done = false;
    if (!has_waits(copy)) {
        copy->error = CAP_E_CANCELLED;
        return true;
    }
    if (!copy->has_found) {
        bool again;
        copy->error = prepare(copy, &again);
        return copy->error != CAP_OK && !again;
    }
    copy->error = copying_step(&copy->copying, &is_done);
    if (copy->error == CAP_OK && is_done) {
        copy->error = finish(copy);
    }
    if (copy->error != CAP_OK) {
        uv_mutex_lock(&copy->copies->lock);
        unlist(copy);
        uv_mutex_unlock(&copy->copies->lock);
    }
    return is_done || copy->error != CAP_OK;
}

/* --- Answering -------------------------------------------------------------------------------- */

static void on_letter(struct letter *letter)
{
    struct copy_wait *wait = CONTAINER_OF(letter, struct copy_wait, letter);
    wait->done(wait);
}

/* Answers everybody who waits, and puts them behind those in `answered`. Under the lock. */
static void answer_all(struct copy *copy, enum cap_error error, struct copy_waits *answered)
{
    while (!TAILQ_EMPTY(&copy->waits)) {
        struct copy_wait *wait = TAILQ_FIRST(&copy->waits);
        TAILQ_REMOVE(&copy->waits, wait, link);
        wait->copy = NULL;
        if (error == CAP_OK) {
            give(copy, wait);
        } else {
            wait->error = error;
            memcpy(wait->why, copy->why, sizeof(wait->why));
        }
        TAILQ_INSERT_TAIL(answered, wait, link);
    }
}

/* Tells them, each on its loop. On the loop of `home`. */
static void tell_all(struct copy_waits *answered, const struct serve *home)
{
    while (!TAILQ_EMPTY(answered)) {
        struct copy_wait *wait = TAILQ_FIRST(answered);
        TAILQ_REMOVE(answered, wait, link);
        wait->letter.run = on_letter;
        /* A mailbox is closed only when the main thread runs every loop. */
        if (wait->serve == home || !mailbox_post(&wait->serve->shard->mailbox, &wait->letter)) {
            wait->done(wait);
        }
    }
}

static void on_done(struct read_job *job)
{
    struct copy *copy = CONTAINER_OF(job, struct copy, job);
    struct copies *copies = copy->copies;
    const struct serve *home = copy->home;
    struct copy_waits answered = TAILQ_HEAD_INITIALIZER(answered);
    uv_mutex_lock(&copies->lock);
    if (copy->error == CAP_OK) {
        move_to(copy, COPY_READY);
        copy->home->shard->stats.maps_made++;
        copies->open++;
    }
    answer_all(copy, copy->error, &answered);
    if (copy->error != CAP_OK) {
        free_copy(&copies->making, copy);
    }
    while (copies->open > copies->open_max) {
        (void)let_go_of_one(copies, NULL, NULL);
    }
    uv_mutex_unlock(&copies->lock);
    tell_all(&answered, home);
}

/* A copy that is to be made. Under the lock. NULL: no memory. */
static struct copy *begin(struct copies *copies, const struct copy_wait *wait)
{
    struct copy *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    copy->copies = copies;
    copy->hash = wait->hash;
    copy->state = COPY_MAKING;
    copy->fd = copy->watch = copy->copying.fd = -1;
    copy->home = wait->serve;
    copy->job = (struct read_job){.account = wait->account, .run = on_run, .done = on_done};
    TAILQ_INIT(&copy->waits);
    SLIST_INIT(&copy->charges);
    if (readers_submit(&wait->serve->readers, &copy->job) != CAP_OK) {
        free(copy);
        return NULL;
    }
    LIST_INSERT_HEAD(&copies->buckets[bucket_of(copies, &copy->hash)], copy, find);
    copy->listed = true;
    TAILQ_INSERT_TAIL(&copies->making, copy, link);
    copies->count++;
    return copy;
}

bool copies_get(struct copies *copies, struct copy_wait *wait)
{
    wait->error = CAP_OK;
    wait->why[0] = '\0';
    wait->fd = -1;
    wait->copy = NULL;
    uv_mutex_lock(&copies->lock);
    struct copy *copy = find(copies, &wait->hash);
    if (copy != NULL && copy->state == COPY_READY) {
        move_to(copy, COPY_READY); /* the last one to go */
        give(copy, wait);
        uv_mutex_unlock(&copies->lock);
        return true;
    }
    if (copy == NULL) {
        copy = begin(copies, wait);
    }
    if (copy != NULL) {
        wait->copy = copy;
        copy->asked++;
        TAILQ_INSERT_TAIL(&copy->waits, wait, link);
    } else {
        wait->error = CAP_E_NO_MEMORY;
    }
    uv_mutex_unlock(&copies->lock);
    return copy == NULL;
}

bool copies_leave(struct copies *copies, struct copy_wait *wait)
{
    uv_mutex_lock(&copies->lock);
    bool waits = wait->copy != NULL;
    if (waits) {
        TAILQ_REMOVE(&wait->copy->waits, wait, link);
        wait->copy = NULL;
    }
    uv_mutex_unlock(&copies->lock);
    return waits;
}

void copies_stop(struct copies *copies, struct serve *serve)
{
    struct copy *next;
    struct copy_waits answered = TAILQ_HEAD_INITIALIZER(answered);
    if (copies == NULL) {
        return;
    }
    uv_mutex_lock(&copies->lock);
    for (struct copy *copy = TAILQ_FIRST(&copies->making); copy != NULL; copy = next) {
        next = TAILQ_NEXT(copy, link);
        if (copy->home != serve) {
            continue;
        }
        unlist(copy);
        answer_all(copy, CAP_E_DRAINING, &answered);
        if (readers_withdraw(&serve->readers, &copy->job)) {
            free_copy(&copies->making, copy);
        }
    }
    uv_mutex_unlock(&copies->lock);
    tell_all(&answered, serve);
}

/* --- The cache -------------------------------------------------------------------------------- */

/* Tries all that a copy needs of the system. */
static bool is_possible(struct copies *copies)
{
    char path[32];
    bool told = false;
    struct event events[4];
    struct copying copying = {.fd = memfd_create("capstore", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    int fd = -1;
    if (copying.fd >= 0 && copying_seal(&copying, &fd) == CAP_OK) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int watch = inotify_add_watch(copies->inotify, path, IN_DELETE_SELF);
        close(fd);
        ssize_t n = read(copies->inotify, events, sizeof(events));
        told = n >= (ssize_t)sizeof(events[0]) && events[0].wd == watch;
    }
    copying_drop(&copying);
    return told;
}

enum cap_error copies_new(const struct context *context, struct copies **ret_copies)
{
    struct rlimit limit;
    struct copies *copies = calloc(1, sizeof(*copies));
    if (copies == NULL || uv_mutex_init(&copies->lock) != 0) {
        free(copies);
        return CAP_E_NO_MEMORY;
    }
    copies->context = context;
    copies->ledger = context->ledger;
    copies->max = context->config.map_cache;
    copies->open_max = COPIES_OPEN_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 16 < COPIES_OPEN_MAX) {
        copies->open_max = (size_t)limit.rlim_cur / 16;
    }
    TAILQ_INIT(&copies->making);
    TAILQ_INIT(&copies->ready);
    TAILQ_INIT(&copies->given);
    (void)context->env->random(context->env->ctx, &copies->seed, sizeof(copies->seed));
    copies->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (copies->inotify < 0 || !is_possible(copies)) {
        copies_free(copies);
        return CAP_E_IO;
    }
    *ret_copies = copies;
    return CAP_OK;
}

void copies_free(struct copies *copies)
{
    struct copy *next;
    if (copies == NULL) {
        return;
    }
    must(TAILQ_EMPTY(&copies->making));
    while (!TAILQ_EMPTY(&copies->ready)) {
        let_go(TAILQ_FIRST(&copies->ready));
    }
    for (struct copy *copy = TAILQ_FIRST(&copies->given); copy != NULL; copy = next) {
        next = TAILQ_NEXT(copy, link);
        free_copy(&copies->given, copy);
    }
    if (copies->inotify >= 0) {
        close(copies->inotify);
    }
    uv_mutex_destroy(&copies->lock);
    free(copies);
}

void copies_figures(struct copies *copies, struct copies_figures *ret_figures)
{
    uv_mutex_lock(&copies->lock);
    reap(copies);
    *ret_figures = (struct copies_figures){.bytes = copies->bytes, .count = copies->count};
    uv_mutex_unlock(&copies->lock);
}

uint64_t copies_open_max(const struct copies *copies)
{
    return copies->open_max;
}
