/*
 * The scrub: the check of a store in use.
 *
 * Happy path. The file's pages are looked at in one snapshot, then the tables are walked
 * (check_tables.c) in slices, each in a snapshot of its own. Between two of them what was found is
 * settled on the writer's thread: damaged caps are quarantined, with repair the rest is put right.
 * Now and then, and when the scrub is paused, the place where it is goes into the record "scrub";
 * the next one goes on from there, and a pass that came to its end leaves there when that was.
 *
 * Failure modes. Pages that are damaged end the pass: LMDB trusts them, and the process is needed.
 * A cap that goes while it is looked at is let go. An error of the store's ends the scrub, which
 * goes on from the last place that was written down.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "lib/store/lmdb/check.h"

#define SAVE_US    UINT64_C(10000000) /* between two places that are written down: one sync each */
#define PLACE_HEAD 80u
#define PLACE_MAX  (PLACE_HEAD + CHECK_KEY_MAX)

static const struct cap_bytes place_key = {(const uint8_t *)"scrub", 5};

/*
 * Where a scrub is, as a record: 0 walk u32, 4 paused u32, 8 began_us (0: none is under way),
 * 16 findings, 24 mended, 32 unmended, 40 caps, 48 bytes, 56 ended_us, 64 last_findings,
 * 72 last_unmended; then the key.
 */
struct place {
    uint32_t walk;
    struct cap_scrub_state state;
    uint8_t key[CHECK_KEY_MAX];
    size_t key_len;
};

static size_t encode_place(const struct place *place, uint8_t ret_bytes[PLACE_MAX])
{
    const struct cap_scrub_state *state = &place->state;
    const uint64_t numbers[] = {state->began_us, state->findings,      state->mended,
                                state->unmended, state->caps,          state->bytes,
                                state->ended_us, state->last_findings, state->last_unmended};
    cap_store32(ret_bytes, place->walk);
    cap_store32(ret_bytes + 4, state->paused ? 1 : 0);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cap_store64(ret_bytes + 8 + 8 * i, numbers[i]);
    }
    memcpy(ret_bytes + PLACE_HEAD, place->key, place->key_len);
    return PLACE_HEAD + place->key_len;
}

/* A record that cannot be read is none: the pass begins anew. */
static void decode_place(struct cap_bytes bytes, struct place *ret_place)
{
    *ret_place = (struct place){0};
    if (bytes.len < PLACE_HEAD || bytes.len > PLACE_MAX) {
        return;
    }
    ret_place->walk = cap_load32(bytes.data);
    ret_place->state = (struct cap_scrub_state){
        .paused = cap_load32(bytes.data + 4) != 0,
        .began_us = cap_load64(bytes.data + 8),
        .findings = cap_load64(bytes.data + 16),
        .mended = cap_load64(bytes.data + 24),
        .unmended = cap_load64(bytes.data + 32),
        .caps = cap_load64(bytes.data + 40),
        .bytes = cap_load64(bytes.data + 48),
        .ended_us = cap_load64(bytes.data + 56),
        .last_findings = cap_load64(bytes.data + 64),
        .last_unmended = cap_load64(bytes.data + 72),
    };
    ret_place->key_len = bytes.len - PLACE_HEAD;
    memcpy(ret_place->key, bytes.data + PLACE_HEAD, ret_place->key_len);
}

static enum cap_error load_place(const struct lmdb_store *store, MDB_txn *txn,
                                 struct place *ret_place)
{
    struct cap_bytes bytes = {NULL, 0};
    enum cap_error error = lmdb_get(store, txn, LMDB_META, place_key, &bytes);
    decode_place(bytes, ret_place);
    return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
}

static enum cap_error read_place(struct cap_read *base, struct place *ret_place)
{
    struct lmdb_read *read = lmdb_read_of(base);
    struct lmdb_store *store = lmdb_of(base->store);
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, load_place(store, read->txn, ret_place));
    return lmdb_cursor_close(read, error);
}

enum cap_error lmdb_scrub_state(struct cap_read *base, struct cap_scrub_state *ret_state)
{
    struct place place;
    enum cap_error error = read_place(base, &place);
    if (error == CAP_OK) {
        *ret_state = place.state;
    }
    return error;
}

/* --- A scrub ---------------------------------------------------------------------------------- */

struct scrub {
    struct check check;
    const struct cap_scrub_watch *watch;
    struct place place;
    struct cap_read *read; /* the snapshot that is open, or NULL */
    uint64_t saved_us;
    bool save;              /* the place is to be written down */
    struct check_meta meta; /* of the snapshot that the pages are looked at in */
};

static struct scrub *scrub_of(struct check *check)
{
    return STORE_CONTAINER_OF(check, struct scrub, check);
}

static void end_snapshot(struct scrub *scrub)
{
    lmdb_check_close(&scrub->check);
    cap_store_read_end(scrub->read);
    scrub->read = NULL;
    scrub->check.txn = NULL;
}

static enum cap_error begin_snapshot(struct scrub *scrub)
{
    struct check *check = &scrub->check;
    enum cap_error error = cap_store_read_begin(&check->store->base, &scrub->read);
    if (error == CAP_OK) {
        const struct lmdb_read *read = lmdb_read_of(scrub->read);
        check->txn = read->txn;
        check->map_from = read->map_from;
        (void)mdb_env_get_fd(read->env, &check->fd);
        check->snapshot++;
    }
    return error;
}

static enum cap_error on_writer(struct scrub *scrub, cap_store_work *work)
{
    return scrub->watch->on_writer(scrub->watch->ctx, work, scrub);
}

/* --- On the writer's thread ------------------------------------------------------------------- */

static enum cap_error put_place(struct scrub *scrub)
{
    struct check *check = &scrub->check;
    struct place *place = &scrub->place;
    uint8_t bytes[PLACE_MAX];
    place->walk = (uint32_t)check->walk;
    place->key_len = check->done_len;
    memcpy(place->key, check->done, check->done_len);
    place->state.findings = check->outcome.findings;
    place->state.mended = check->outcome.mended;
    place->state.unmended = check->outcome.unmended;
    place->state.caps = check->progress.caps;
    place->state.bytes = check->progress.bytes;
    size_t len = encode_place(place, bytes);
    return lmdb_put(check->store, check->store->write.txn, LMDB_META, place_key,
                    (struct cap_bytes){bytes, len});
}

/* Settles what was found, and writes the place down if that is due, in one transaction. */
static enum cap_error settle(struct cap_store *base, void *work_ctx)
{
    struct scrub *scrub = work_ctx;
    struct check *check = &scrub->check;
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    if (error != CAP_OK) {
        return error;
    }
    check->txn = store->write.txn;
    error = lmdb_check_mend(check);
    check->txn = NULL;
    if (error == CAP_OK && scrub->save) {
        error = put_place(scrub);
    }
    store->write.changed = true;
    return lmdb_write_end(store, error);
}

/* The snapshot is of the last commit, whose meta page is read while there is no other. */
static enum cap_error open_pages(struct cap_store *base, void *work_ctx)
{
    struct scrub *scrub = work_ctx;
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = begin_snapshot(scrub);
    if (error == CAP_OK) {
        lmdb_check_meta(&scrub->check, scrub->check.fd, (uint32_t)store->page_size, &scrub->meta);
    }
    return error;
}

/*
 * A body on its way in is in no table until a step has written some of it, so the ids from the
 * first of these on are not looked at.
 */
static enum cap_error open_anchor(struct cap_store *base, void *work_ctx)
{
    struct scrub *scrub = work_ctx;
    const struct lmdb_store *store = lmdb_of(base);
    scrub->check.limit = store->next_body;
    for (const struct lmdb_stage *stage = store->stages; stage != NULL; stage = stage->next) {
        if (stage->written == 0 && stage->body < scrub->check.limit) {
            scrub->check.limit = stage->body;
        }
    }
    return begin_snapshot(scrub);
}

/* --- On the scrub's own ----------------------------------------------------------------------- */

/* Settles with the writer what there is to settle. No snapshot is open. */
static enum cap_error settle_now(struct scrub *scrub, bool save)
{
    uint64_t now_us = lmdb_now_us();
    scrub->save = save || now_us - scrub->saved_us >= SAVE_US;
    if (scrub->check.mend_count == 0 && !scrub->save) {
        return CAP_OK;
    }
    scrub->saved_us = scrub->save ? now_us : scrub->saved_us;
    return on_writer(scrub, settle);
}

static enum cap_error pace(struct scrub *scrub, uint64_t bytes)
{
    enum cap_scrub_pace pace = scrub->watch->pace(scrub->watch->ctx, bytes);
    scrub->place.state.paused = pace == CAP_SCRUB_PAUSE;
    return pace == CAP_SCRUB_GO ? CAP_OK : CAP_E_CANCELLED;
}

static enum cap_error pause(struct check *check)
{
    struct scrub *scrub = scrub_of(check);
    uint64_t cost = check->cost < UINT64_MAX / 2 ? check->cost : 0;
    end_snapshot(scrub);
    enum cap_error error = settle_now(scrub, false);
    if (error == CAP_OK) {
        error = pace(scrub, cost);
    }
    return error == CAP_OK ? begin_snapshot(scrub) : error;
}

static enum cap_error rest(struct check *check)
{
    struct scrub *scrub = scrub_of(check);
    return pace(scrub, check->cost);
}

static enum cap_error anchor(struct check *check)
{
    struct scrub *scrub = scrub_of(check);
    end_snapshot(scrub);
    return on_writer(scrub, open_anchor);
}

static enum cap_error look_at_pages(struct scrub *scrub)
{
    struct check *check = &scrub->check;
    const struct lmdb_store *store = check->store;
    struct stat file;
    check->progress.index = "of pages";
    lmdb_check_step(check, 0);
    enum cap_error error = on_writer(scrub, open_pages);
    if (error != CAP_OK) {
        return error;
    }
    if (fstat(check->fd, &file) != 0) {
        return CAP_E_IO;
    }
    error = lmdb_check_pages(check, check->fd, (uint32_t)store->page_size,
                             (uint64_t)file.st_size / store->page_size, &scrub->meta);
    if (error == CAP_OK && check->found_count > 0) {
        lmdb_check_find(check, "its pages are damaged, so no more of it is looked at: restore a "
                               "backup, or load a dump into a new store");
        check->outcome.unmended++;
        error = CAP_E_CORRUPT;
    }
    lmdb_check_tell(check);
    return error;
}

static enum cap_error scrub_all(struct scrub *scrub)
{
    struct check *check = &scrub->check;
    enum cap_error error = look_at_pages(scrub);
    if (error == CAP_OK) {
        check->cost = 0;
        error = lmdb_check_tables(check);
    }
    if (scrub->read != NULL) {
        end_snapshot(scrub);
    }
    return error;
}

/* Writes down where the pass is, or that it has ended. */
static enum cap_error leave(struct scrub *scrub, enum cap_error error)
{
    struct check *check = &scrub->check;
    struct cap_scrub_state *state = &scrub->place.state;
    if (error == CAP_OK) {
        state->ended_us = store_wall_us();
        state->paused = false; /* as it was left, if nothing was left to look at */
        state->last_findings = check->outcome.findings;
        state->last_unmended = check->outcome.unmended;
    }
    enum cap_error saved = CAP_OK;
    if (error == CAP_OK || error == CAP_E_CANCELLED) {
        if (error == CAP_OK) {
            state->began_us = 0;
            check->walk = check->done_len = 0;
        }
        saved = settle_now(scrub, true);
    }
    return error == CAP_OK ? saved : error;
}

/* Goes on where the last one was paused, or begins anew. */
static enum cap_error resume(struct scrub *scrub)
{
    struct check *check = &scrub->check;
    struct place *place = &scrub->place;
    struct cap_counts counts;
    enum cap_error error = begin_snapshot(scrub);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_counts(scrub->read, &counts);
    if (error == CAP_OK) {
        error = read_place(scrub->read, place);
    }
    end_snapshot(scrub);
    if (error != CAP_OK) {
        return error;
    }
    if (place->state.began_us == 0) {
        *place = (struct place){.state = {.began_us = store_wall_us(),
                                          .ended_us = place->state.ended_us,
                                          .last_findings = place->state.last_findings,
                                          .last_unmended = place->state.last_unmended}};
    }
    check->walk = place->walk;
    check->done_len = place->key_len;
    memcpy(check->done, place->key, place->key_len);
    check->outcome.findings = place->state.findings;
    check->outcome.mended = place->state.mended;
    check->outcome.unmended = place->state.unmended;
    check->progress.caps = place->state.caps;
    check->progress.bytes = place->state.bytes;
    check->progress.caps_total = counts.caps[CAP_KIND_IMAGE] + counts.caps[CAP_KIND_DATA];
    check->progress.bytes_total =
        counts.body_bytes[CAP_KIND_IMAGE] + counts.body_bytes[CAP_KIND_DATA];
    return CAP_OK;
}

enum cap_error lmdb_scrub(struct cap_store *base, bool repair, const struct cap_scrub_watch *watch,
                          struct cap_check_outcome *ret_outcome)
{
    const struct cap_check_watch check_watch = {watch->finding, watch->progress, watch->ctx};
    struct scrub *scrub = calloc(1, sizeof(*scrub));
    if (scrub == NULL) {
        return CAP_E_NO_MEMORY;
    }
    struct check *check = &scrub->check;
    scrub->watch = watch;
    scrub->saved_us = lmdb_now_us();
    check->watch = &check_watch;
    check->store = lmdb_of(base);
    check->repair = repair;
    check->is_online = true;
    check->pause = pause;
    check->rest = rest;
    check->anchor = anchor;
    enum cap_error error = resume(scrub);
    if (error == CAP_OK) {
        error = leave(scrub, scrub_all(scrub));
    }
    *ret_outcome = check->outcome;
    lmdb_check_free(check);
    free(scrub);
    return error;
}
