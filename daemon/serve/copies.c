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
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/serve/charges.h"
#include "daemon/serve/lasthold.h"
#include "daemon/serve/serve.h"
#include "lib/cap/must.h"

#define BUCKETS 1024u

enum copy_state {
    COPY_MAKING,
    COPY_READY, /* in the cache: `fd` is open */
    COPY_GIVEN, /* the cache has let go of it; peers have not */
};

TAILQ_HEAD(copy_waits, copy_wait);

struct copy {
    struct copies *copies;
    struct cap_hash hash;
    enum copy_state state;
    bool busy;              /* a reader works for it, or will */
    bool listed;            /* in its bucket: it can be found */
    LIST_ENTRY(copy) find;  /* of its bucket */
    TAILQ_ENTRY(copy) link; /* of those in the same state, the least recently asked for first */
    struct copy_waits waits;
    uint64_t asked; /* how often, while it is made */
    struct charges charges;
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
    int watcher;   /* see lasthold.h */

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

/* The copy, of that list, is no more, or was never made. */
static void free_copy(struct copy_list *list, struct copy *copy)
{
    struct copies *copies = copy->copies;
    must(TAILQ_EMPTY(&copy->waits));
    unlist(copy);
    TAILQ_REMOVE(list, copy, link);
    charges_drop(&copy->charges, copies->ledger, copy->bytes);
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

/* Takes in which copies are gone. */
static void reap(struct copies *copies)
{
    int numbers[64];
    struct copy *next;
    bool any = false;
    for (size_t n; (n = lasthold_gone(copies->watcher, numbers, 64)) > 0;) {
        any = true;
        for (size_t i = 0; i < n; i++) {
            note_gone(copies, numbers[i]);
        }
    }
    for (struct copy *copy = TAILQ_FIRST(&copies->given); any && copy != NULL; copy = next) {
        next = TAILQ_NEXT(copy, link);
        if (copy->gone) {
            free_copy(&copies->given, copy);
        }
    }
}

/* The cache lets go of a copy, which close_all closes: then it is no more, or only peers have it.
 */
static void let_go(struct copy *copy)
{
    unlist(copy);
    move_to(copy, COPY_GIVEN);
    copy->copies->open--;
}

/* The peer's copy in the cache that was asked for least recently, but `keep`. NULL: none. */
static struct copy *find_to_let_go(struct copies *copies, const struct ledger_peer *account,
                                   const struct copy *keep)
{
    struct copy *copy;
    TAILQ_FOREACH(copy, &copies->ready, link)
    {
        if (copy != keep && !copy->busy &&
            (account == NULL || charges_have(&copy->charges, account))) {
            return copy;
        }
    }
    return NULL;
}

static bool let_go_of_one(struct copies *copies, const struct ledger_peer *account,
                          const struct copy *keep)
{
    struct copy *copy = find_to_let_go(copies, account, keep);
    if (copy != NULL) {
        let_go(copy);
    }
    return copy != NULL;
}

/* Answers an asker of a copy that is there. */
static void give(struct copy *copy, struct copy_wait *wait)
{
    wait->error =
        charges_add(&copy->charges, copy->copies->ledger, wait->account, copy->bytes, wait->why);
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

static int take_open(struct copies *copies)
{
    struct copy *copy;
    TAILQ_FOREACH(copy, &copies->given, link)
    {
        if (copy->fd >= 0) {
            int fd = copy->fd;
            copy->fd = -1;
            return fd;
        }
    }
    return -1;
}

/*
 * Closes what the cache has let go of. That frees the pages of a copy, which takes milliseconds:
 * so no loop does it, and the lock, which is held otherwise, is not held meanwhile.
 */
static void close_all(struct copies *copies)
{
    int fd;
    while ((fd = take_open(copies)) >= 0) {
        uv_mutex_unlock(&copies->lock);
        close(fd);
        uv_mutex_lock(&copies->lock);
    }
    reap(copies);
}

/*
 * Counts the copy, of `bytes`, to those who wait for it; to make room in a peer's share the cache
 * lets go of that peer's copies. True: to one of them at least. *ret_error: why not to another.
 * Under the lock, as close_all.
 */
static bool charge_waits(struct copy *copy, uint64_t bytes, enum cap_error *ret_error)
{
    struct copies *copies = copy->copies;
    bool charged = false;
    bool again = true;
    close_all(copies);
    while (again) {
        struct copy_wait *wait;
        again = false;
        TAILQ_FOREACH(wait, &copy->waits, link)
        {
            enum cap_error error =
                charges_add(&copy->charges, copies->ledger, wait->account, bytes, copy->why);
            charged = charged || error == CAP_OK;
            *ret_error = error == CAP_OK ? *ret_error : error;
            if (error == CAP_E_MEMORY_LIMIT && let_go_of_one(copies, wait->account, copy)) {
                again = true;
            }
        }
        close_all(copies);
    }
    return charged;
}

/* Room in all for a copy of `bytes`. Under the lock, as close_all. */
static bool make_room(struct copies *copies, uint64_t bytes)
{
    while (copies->bytes + bytes > copies->max || copies->count > LASTHOLD_FILES_MAX) {
        if (!let_go_of_one(copies, NULL, NULL)) {
            return false;
        }
        close_all(copies);
    }
    return true;
}

/* Counts what is about to be made, in all and to those who wait. Under the lock, as close_all. */
static enum cap_error reserve(struct copy *copy)
{
    struct copies *copies = copy->copies;
    uint64_t bytes = copy->copying.bytes > COPY_LEAST ? copy->copying.bytes : COPY_LEAST;
    enum cap_error error = CAP_E_CANCELLED;
    if (bytes > copies->max) {
        snprintf(copy->why, sizeof(copy->why),
                 "mapping it takes %" PRIu64 " bytes, and all copies may take %" PRIu64
                 " (map-cache)",
                 bytes, copies->max);
        return CAP_E_MEMORY_LIMIT;
    }
    if (!charge_waits(copy, bytes, &error)) {
        return error;
    }
    if (!make_room(copies, bytes)) {
        charges_drop(&copy->charges, copies->ledger, bytes);
        snprintf(copy->why, sizeof(copy->why),
                 "limit of %" PRIu64 " bytes of mapped copies reached, by all clients (map-cache)",
                 copies->max);
        return CAP_E_MEMORY_LIMIT;
    }
    copy->why[0] = '\0';
    copy->bytes = bytes;
    copies->bytes += bytes;
    return CAP_OK;
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
    copy->layout = copy->copying.layout;
    enum cap_error error = copying_seal(&copy->copying, &copy->fd);
    if (error != CAP_OK) {
        return error;
    }
    copy->watch = lasthold_watch(copy->copies->watcher, copy->fd);
    if (copy->watch < 0) {
        close(copy->fd);
        copy->fd = -1;
        snprintf(copy->why, sizeof(copy->why),
                 "the daemon cannot watch more files (fs.inotify.max_user_watches)");
        return CAP_E_NO_MEMORY;
    }
    return CAP_OK;
}

/* Makes room for one more in the cache, and in the shares of those who wait for this one. */
static void make_way(struct copy *copy)
{
    struct copies *copies = copy->copies;
    enum cap_error error;
    uv_mutex_lock(&copies->lock);
    while (copies->open >= copies->open_max && let_go_of_one(copies, NULL, copy)) {
    }
    (void)charge_waits(copy, copy->bytes, &error);
    copy->why[0] = '\0';
    uv_mutex_unlock(&copies->lock);
}

/* The next step of making a copy. True: it is there, or cannot be made. */
static bool make(struct copy *copy)
{
    bool is_done = false;
    if (!copy->has_found) {
        bool again;
        copy->error = prepare(copy, &again);
        return copy->error != CAP_OK && !again;
    }
    copy->error = copying_step(&copy->copying, &is_done);
    if (copy->error == CAP_OK && is_done) {
        copy->error = finish(copy);
    }
    return is_done || copy->error != CAP_OK;
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
    bool is_done = true;
    if (copy->state == COPY_MAKING && has_waits(copy)) {
        is_done = make(copy);
    } else if (copy->state == COPY_MAKING) {
        copy->error = CAP_E_CANCELLED;
    }
    if (is_done && copy->error == CAP_OK) {
        make_way(copy);
    } else if (is_done) {
        uv_mutex_lock(&copy->copies->lock);
        unlist(copy);
        uv_mutex_unlock(&copy->copies->lock);
        copying_drop(&copy->copying);
    }
    return is_done;
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
    copy->busy = false;
    if (copy->error == CAP_OK && copy->state == COPY_MAKING) {
        move_to(copy, COPY_READY);
        copy->home->shard->stats.maps_made++;
        copies->open++;
    }
    answer_all(copy, copy->error, &answered);
    if (copy->error != CAP_OK) {
        free_copy(&copies->making, copy);
    } else if (copy->state == COPY_READY && !copy->listed) {
        let_go(copy); /* its cap is gone */
    }
    uv_mutex_unlock(&copies->lock);
    tell_all(&answered, home);
}

/* Has a reader of the asker's loop work for the copy. Under the lock. CAP_E_NO_MEMORY. */
static enum cap_error submit(struct copy *copy, const struct copy_wait *wait)
{
    copy->home = wait->serve;
    copy->job = (struct read_job){.account = wait->account, .run = on_run, .done = on_done};
    enum cap_error error = readers_submit(&wait->serve->readers, &copy->job);
    copy->busy = error == CAP_OK;
    return error;
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
    TAILQ_INIT(&copy->waits);
    if (submit(copy, wait) != CAP_OK) {
        free(copy);
        return NULL;
    }
    LIST_INSERT_HEAD(&copies->buckets[bucket_of(copies, &copy->hash)], copy, find);
    copy->listed = true;
    TAILQ_INSERT_TAIL(&copies->making, copy, link);
    copies->count++;
    return copy;
}

/*
 * Answers an asker of a copy in the cache. False: it has to wait until a reader has made room in
 * its share. Under the lock.
 */
static bool give_at_once(struct copy *copy, struct copy_wait *wait)
{
    struct copies *copies = copy->copies;
    TAILQ_REMOVE(&copies->ready, copy, link);
    TAILQ_INSERT_TAIL(&copies->ready, copy, link); /* the last one to go */
    give(copy, wait);
    if (wait->error != CAP_E_MEMORY_LIMIT || find_to_let_go(copies, wait->account, copy) == NULL) {
        return true;
    }
    return !copy->busy && submit(copy, wait) != CAP_OK;
}

bool copies_get(struct copies *copies, struct copy_wait *wait)
{
    wait->error = CAP_OK;
    wait->why[0] = '\0';
    wait->fd = -1;
    wait->copy = NULL;
    uv_mutex_lock(&copies->lock);
    struct copy *copy = find(copies, &wait->hash);
    if (copy == NULL) {
        copy = begin(copies, wait);
    }
    bool answered = copy == NULL || (copy->state == COPY_READY && give_at_once(copy, wait));
    if (copy == NULL) {
        wait->error = CAP_E_NO_MEMORY;
    } else if (!answered) {
        wait->copy = copy;
        copy->asked++;
        TAILQ_INSERT_TAIL(&copy->waits, wait, link);
    }
    uv_mutex_unlock(&copies->lock);
    return answered;
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

/* Under the lock. */
static void stop_list(struct copy_list *list, struct serve *serve, struct copy_waits *answered)
{
    struct copy *next;
    for (struct copy *copy = TAILQ_FIRST(list); copy != NULL; copy = next) {
        next = TAILQ_NEXT(copy, link);
        if (!copy->busy || copy->home != serve) {
            continue;
        }
        answer_all(copy, CAP_E_DRAINING, answered);
        if (copy->state == COPY_MAKING) {
            unlist(copy);
        }
        copy->busy = !readers_withdraw(&serve->readers, &copy->job);
        if (!copy->busy && copy->state == COPY_MAKING) {
            free_copy(list, copy);
        }
    }
}

void copies_stop(struct copies *copies, struct serve *serve)
{
    struct copy_waits answered = TAILQ_HEAD_INITIALIZER(answered);
    if (copies == NULL) {
        return;
    }
    uv_mutex_lock(&copies->lock);
    stop_list(&copies->making, serve, &answered);
    stop_list(&copies->ready, serve, &answered);
    uv_mutex_unlock(&copies->lock);
    tell_all(&answered, serve);
}

/* --- The cache -------------------------------------------------------------------------------- */

/* Tries to seal a file. */
static bool seals(void)
{
    int fd = -1;
    struct copying copying = {.fd = memfd_create("capstore", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    bool sealed = copying.fd >= 0 && copying_seal(&copying, &fd) == CAP_OK;
    copying_drop(&copying);
    if (fd >= 0) {
        close(fd);
    }
    return sealed;
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
    copies->watcher = lasthold_open();
    if (copies->watcher < 0 || !seals()) {
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
    for (int fd; (fd = take_open(copies)) >= 0;) {
        close(fd);
    }
    for (struct copy *copy = TAILQ_FIRST(&copies->given); copy != NULL; copy = next) {
        next = TAILQ_NEXT(copy, link);
        free_copy(&copies->given, copy);
    }
    if (copies->watcher >= 0) {
        close(copies->watcher);
    }
    uv_mutex_destroy(&copies->lock);
    free(copies);
}

void copies_drop(struct copies *copies, const struct cap_hash *hash)
{
    uv_mutex_lock(&copies->lock);
    struct copy *copy = find(copies, hash);
    if (copy != NULL && copy->state == COPY_READY && !copy->busy) {
        let_go(copy);
    } else if (copy != NULL) {
        unlist(copy);
    }
    uv_mutex_unlock(&copies->lock);
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
