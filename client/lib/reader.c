/*
 * Readers: content of caps that are not here, by groups of pages.
 *
 * Happy path of a read: each group that it touches is in memory, or in the cache, or is fetched
 * with those that follow it, up to `ahead` groups; what is proven is put in memory, and in the
 * cache. While every fetch begins where the one before it ended, `ahead` doubles; otherwise it
 * begins anew.
 *
 * Where the daemon makes no slices, the whole body is fetched once, and slices are made of it here,
 * so that all comes in by one way. It is kept, or if there is a cache all of it is put there.
 *
 * Failure modes: the connection is lost: it is made again, once, and what has arrived is not asked
 * for again. A slice does not verify: the error is returned, and what was proven before it is kept.
 * The cache cannot be written to: it is left alone from then on.
 */
#include "client/lib/reader.h"

#include <pthread.h>
#include <stdlib.h>

#include "client/lib/cache.h"
#include "client/lib/slice.h"
#include "lib/cap/slice_encode.h"

#define DEFAULT_MEMORY    (UINT64_C(64) << 20)
#define LEAST_MEMORY      (UINT64_C(1) << 20)
#define MOST_MEMORY       (UINT64_C(1) << 40)
#define DEFAULT_READAHEAD (UINT32_C(4) << 20)

/* A whole body, and slices of it. */
struct whole {
    struct capstore_cap *cap; /* NULL: there is none */
    struct cap_slice_body parts;
};

struct capstore_reader {
    struct capstore *store;
    struct cap_hash hash;
    struct capstore_hash shown_hash;
    bool opened; /* the head is proven */
    struct client_tree tree;
    uint64_t size;
    uint64_t group_count;
    struct capstore_cap *image;
    struct client_cache *cache; /* NULL: none */
    struct whole whole;
    struct capstore_read_counts stats;

    struct client_groups groups;
    uint64_t most;   /* groups that are fetched at a time */
    uint64_t least;  /* of them, as many as cost no more than the head, which comes each time */
    uint64_t ahead;  /* groups of the last fetch */
    uint64_t ran_to; /* the group behind the last fetch */

    uint64_t gathered;       /* the group whose pages are arriving */
    unsigned gathered_pages; /* of it */
    uint8_t gather[CLIENT_GROUP_SIZE];
};

/* ---- what is proven ---- */

/* A whole group is proven; NULL: it is zero. */
static enum cap_error keep(struct capstore_reader *reader, uint64_t group, const uint8_t *bytes)
{
    if (reader->cache != NULL) {
        client_cache_put(reader->cache, group, bytes);
    }
    return client_groups_put(&reader->groups, group, bytes);
}

/* Pages of one group; NULL: they are zero. They come in ascending order, and all of a group. */
static enum cap_error gather(struct capstore_reader *reader, uint64_t first, unsigned count,
                             const uint8_t *bytes)
{
    uint64_t group = first / CLIENT_GROUP_PAGES;
    unsigned at = (unsigned)(first % CLIENT_GROUP_PAGES);
    reader->stats.fetched_pages += count;
    if (bytes == NULL && count == client_group_pages(reader->tree.pages, group)) {
        return keep(reader, group, NULL);
    }
    if (at == 0) {
        reader->gathered = group;
        reader->gathered_pages = 0;
        memset(reader->gather, 0, sizeof(reader->gather));
    }
    if (bytes != NULL) {
        memcpy(reader->gather + (size_t)at * CAP_PAGE_SIZE, bytes, (size_t)count * CAP_PAGE_SIZE);
    }
    reader->gathered_pages += count;
    bool whole = reader->gathered == group &&
                 reader->gathered_pages == client_group_pages(reader->tree.pages, group);
    return whole ? keep(reader, group, reader->gather) : CAP_OK;
}

/* Divides pages by groups. */
static enum cap_error on_some(struct capstore_reader *reader, uint64_t first, uint64_t count,
                              const uint8_t *bytes)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && count > 0) {
        uint64_t left = CLIENT_GROUP_PAGES - first % CLIENT_GROUP_PAGES;
        unsigned some = (unsigned)(count < left ? count : left);
        error = gather(reader, first, some, bytes);
        bytes = bytes == NULL ? NULL : bytes + (size_t)some * CAP_PAGE_SIZE;
        first += some;
        count -= some;
    }
    return error;
}

static enum cap_error on_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    return on_some(ctx, first, count, bytes);
}

static enum cap_error on_zeros(void *ctx, uint64_t first, uint64_t count)
{
    return on_some(ctx, first, count, NULL);
}

static enum cap_error on_pair(void *ctx, unsigned level, uint64_t index,
                              const struct cap_hash children[2])
{
    struct capstore_reader *reader = ctx;
    if (reader->cache != NULL) {
        client_cache_put_pair(reader->cache, level, index, children);
    }
    return CAP_OK;
}

static enum cap_error on_head(void *ctx, const struct cap_slice_head *head)
{
    struct capstore_reader *reader = ctx;
    if (reader->opened) {
        return CAP_OK; /* the same again, or it would not have the hash */
    }
    enum cap_error error = head->kind == CAP_KIND_IMAGE
                               ? client_slice_image(head, &reader->hash, &reader->image)
                               : CAP_OK;
    if (error == CAP_OK) {
        reader->opened = true;
        reader->size = head->size;
        reader->tree = (struct client_tree){head->kind, head->page_count, head->tree_root};
        reader->group_count = client_group_count(head->page_count);
        reader->least = head->structure.len / CLIENT_GROUP_SIZE + 1;
    }
    return error;
}

static struct cap_slice_sink sink_of(struct capstore_reader *reader)
{
    return (struct cap_slice_sink){
        .head = on_head, .pages = on_pages, .zeros = on_zeros, .pair = on_pair, .ctx = reader};
}

/* ---- where slices come from ---- */

/* Makes a slice of the whole body, and verifies it. */
static enum cap_error slice_here(struct capstore_reader *reader, const struct cap_range *ranges,
                                 size_t count, struct cap_buf *head)
{
    const struct cap_slice_sink sink = sink_of(reader);
    const struct cap_slice_source source = cap_slice_body_source(&reader->whole.parts);
    struct cap_slice_encoder *encoder = NULL;
    struct cap_slice_verifier *verifier = NULL;
    uint8_t *piece = malloc(CAP_SLICE_ROOM);
    bool done = false;
    enum cap_error error = piece != NULL ? CAP_OK : CAP_E_NO_MEMORY;
    if (error == CAP_OK) {
        error = cap_slice_encoder_new(&reader->whole.parts.subject, ranges, count, &encoder);
    }
    if (error == CAP_OK) {
        error = cap_slice_verifier_new(&reader->hash, ranges, count, UINT64_MAX, &sink, &verifier);
    }
    while (error == CAP_OK && !done) {
        size_t len;
        error = cap_slice_encoder_next(encoder, &source, piece, CAP_SLICE_ROOM, &len, &done);
        if (error == CAP_OK) {
            error = cap_slice_verifier_take(verifier, (struct cap_bytes){piece, len});
        }
        if (error == CAP_OK && head != NULL) {
            error = cap_buf_append(head, piece, len);
        }
    }
    cap_slice_encoder_free(encoder);
    cap_slice_verifier_free(verifier);
    free(piece);
    return error;
}

static void free_whole(struct whole *whole)
{
    cap_slice_body_free(&whole->parts);
    capstore_cap_free(whole->cap);
    *whole = (struct whole){0};
}

static enum cap_error fetch_whole(struct capstore_reader *reader)
{
    struct whole *whole = &reader->whole;
    reader->stats.requests++;
    enum cap_error error =
        client_inner(capstore_get(reader->store, &reader->shown_hash, &whole->cap));
    if (error == CAP_OK) {
        error = cap_slice_body_open(client_cap_bytes(capstore_cap_body(whole->cap)), &whole->parts);
    }
    if (error == CAP_OK && !cap_hash_equal(&whole->parts.hash, &reader->hash)) {
        error = CAP_E_HASH_MISMATCH; /* options.no_verify */
    }
    if (error != CAP_OK) {
        free_whole(whole);
    }
    return error;
}

static enum capstore_error keep_head(void *ctx, struct capstore_bytes piece)
{
    return client_public(cap_buf_append(ctx, piece.data, piece.len));
}

/* Connects again, if the connection was lost and can be. */
static enum cap_error reach(struct capstore *store)
{
    return capstore_connected(store) ? CAP_OK : client_connect_again(store);
}

/* Gets a slice, from wherever; its bytes are appended to *head, unless that is NULL. */
static enum cap_error get_slice(struct capstore_reader *reader, const struct cap_range *ranges,
                                size_t count, struct cap_buf *head)
{
    const struct cap_slice_sink sink = sink_of(reader);
    struct capstore *store = reader->store;
    if (reader->whole.cap == NULL) {
        enum cap_error error = reach(store);
        if (error == CAP_OK && client_slice_offered(store)) {
            reader->stats.requests++;
            error = client_begin(store);
            return error != CAP_OK ? error
                                   : client_slice(store, &reader->hash, ranges, count, &sink,
                                                  head != NULL ? keep_head : NULL, head);
        }
        if (error == CAP_OK) {
            error = fetch_whole(reader);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return slice_here(reader, ranges, count, head);
}

/* ---- opening ---- */

static enum cap_error take_options(struct capstore_reader *reader,
                                   const struct capstore_open_options *options)
{
    struct capstore_open_options all = CAPSTORE_OPEN_OPTIONS_INIT;
    if (options != NULL) {
        size_t size = options->struct_size < sizeof(all) ? options->struct_size : sizeof(all);
        if (size < sizeof(size_t)) {
            return CAP_E_INVALID_ARGUMENT;
        }
        memcpy(&all, options, size);
    }
    uint64_t memory = all.max_memory != 0 ? all.max_memory : DEFAULT_MEMORY;
    memory = memory < LEAST_MEMORY ? LEAST_MEMORY : memory > MOST_MEMORY ? MOST_MEMORY : memory;
    uint32_t readahead = all.readahead != 0 ? all.readahead : DEFAULT_READAHEAD;
    uint64_t slots = memory / CLIENT_GROUP_SIZE;
    reader->most = readahead / CLIENT_GROUP_SIZE;
    reader->most = reader->most == 0 ? 1 : reader->most > slots / 2 ? slots / 2 : reader->most;
    enum cap_error error = client_groups_init(&reader->groups, (uint32_t)slots);
    if (error == CAP_OK && all.cache_directory != NULL &&
        client_cache_open(all.cache_directory, &reader->hash, &reader->cache) != CAP_OK) {
        reader->stats.cache_failed = true;
    }
    return error;
}

/* Takes the head that the cache has; reader->opened then. */
static enum cap_error open_cached(struct capstore_reader *reader)
{
    struct cap_buf slice = {0};
    struct cap_slice_verifier *verifier = NULL;
    const struct cap_slice_sink sink = {.head = on_head, .ctx = reader};
    static const struct cap_range none;
    enum cap_error error = client_cache_head(reader->cache, &slice);
    if (error == CAP_OK) {
        error =
            cap_slice_verifier_new(&reader->hash, &none, 0, CAP_SLICE_STRUCTURE, &sink, &verifier);
    }
    if (error == CAP_OK && cap_slice_verifier_take(verifier, cap_buf_bytes(&slice)) == CAP_OK &&
        reader->opened) {
        client_cache_begin(reader->cache, &reader->tree, slice.len);
    }
    cap_slice_verifier_free(verifier);
    cap_buf_free(&slice);
    return error == CAP_E_NO_MEMORY ? error : CAP_OK;
}

/* The whole body, of which the cache is to have all. */
static enum cap_error fill_cache(struct capstore_reader *reader)
{
    const struct cap_range all = {0, reader->tree.pages};
    enum cap_error error = reader->tree.pages > 0 ? slice_here(reader, &all, 1, NULL) : CAP_OK;
    if (!client_cache_failed(reader->cache)) {
        free_whole(&reader->whole);
    }
    return error;
}

static enum cap_error open_head(struct capstore_reader *reader)
{
    struct cap_buf head = {0};
    enum cap_error error = reader->cache != NULL ? open_cached(reader) : CAP_OK;
    if (error == CAP_OK && !reader->opened) {
        struct cap_buf *kept = reader->cache != NULL ? &head : NULL;
        error = get_slice(reader, NULL, 0, kept);
        if (error == CAP_E_CONNECTION_LOST) {
            cap_buf_free(&head);
            error = get_slice(reader, NULL, 0, kept);
        }
        if (error == CAP_OK && reader->cache != NULL) {
            client_cache_put_head(reader->cache, cap_buf_bytes(&head));
            client_cache_begin(reader->cache, &reader->tree, head.len);
        }
        if (error == CAP_OK && reader->cache != NULL && reader->whole.cap != NULL) {
            error = fill_cache(reader);
        }
    }
    cap_buf_free(&head);
    reader->least = reader->least > reader->most ? reader->most : reader->least;
    reader->ran_to = UINT64_MAX; /* no group */
    return error;
}

enum capstore_error capstore_open(struct capstore *store, const struct capstore_hash *hash,
                                  const struct capstore_open_options *options,
                                  struct capstore_reader **ret_reader)
{
    struct capstore_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    reader->store = store;
    reader->shown_hash = *hash;
    reader->hash = client_cap_hash(hash);
    enum cap_error error = take_options(reader, options);
    if (error == CAP_OK) {
        error = client_take_turn(store);
    }
    if (error == CAP_OK) {
        client_forget(store);
        error = open_head(reader);
        if (error == CAP_OK) {
            *ret_reader = reader;
        }
        (void)client_end(store, error);
        client_end_turn(store);
    }
    if (error != CAP_OK) {
        capstore_reader_free(reader);
    }
    return client_public(error);
}

void capstore_reader_free(struct capstore_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    client_groups_free(&reader->groups);
    client_cache_free(reader->cache);
    free_whole(&reader->whole);
    capstore_cap_free(reader->image);
    free(reader);
}

enum capstore_kind capstore_reader_kind(const struct capstore_reader *reader)
{
    return client_kind(reader->tree.kind);
}

const struct capstore_hash *capstore_reader_hash(const struct capstore_reader *reader)
{
    return &reader->shown_hash;
}

uint64_t capstore_reader_size(const struct capstore_reader *reader)
{
    return reader->size;
}

const struct capstore_cap *capstore_reader_image(const struct capstore_reader *reader)
{
    return reader->image;
}

struct capstore *client_reader_store(const struct capstore_reader *reader)
{
    return reader->store;
}

struct capstore_read_counts capstore_reader_stats(const struct capstore_reader *reader)
{
    struct capstore_read_counts stats;
    bool mine = client_take_turn(reader->store) == CAP_OK; /* else a callback of a read asks */
    stats = reader->stats;
    stats.cache_failed =
        stats.cache_failed || (reader->cache != NULL && client_cache_failed(reader->cache));
    if (mine) {
        client_end_turn(reader->store);
    }
    return stats;
}

/* ---- reading ---- */

/* Takes a group from the cache. *ret_there whether it had it. */
static enum cap_error load_cached(struct capstore_reader *reader, uint64_t group, bool *ret_there)
{
    bool dropped = false;
    *ret_there =
        reader->cache != NULL && client_cache_get(reader->cache, group, reader->gather, &dropped);
    unsigned pages = client_group_pages(reader->tree.pages, group);
    reader->stats.cached_pages += *ret_there ? pages : 0;
    reader->stats.dropped_pages += dropped ? pages : 0;
    return *ret_there ? client_groups_put(&reader->groups, group, reader->gather) : CAP_OK;
}

/* Those groups of [first, end) that are neither in memory nor in the cache, as ranges of pages; the
 * first is not. Returns how many ranges. */
static size_t list_missing(struct capstore_reader *reader, uint64_t first, uint64_t end,
                           struct cap_range ranges[PROTO_SLICE_RANGES_MAX])
{
    size_t count = 0;
    for (uint64_t group = first; group < end; group++) {
        if (group > first && (client_groups_find(&reader->groups, group) != NULL ||
                              (reader->cache != NULL && client_cache_has(reader->cache, group)))) {
            continue;
        }
        struct cap_range *last = count > 0 ? &ranges[count - 1] : NULL;
        uint64_t page = group * CLIENT_GROUP_PAGES;
        if (last != NULL && last->first + last->pages == page) {
            last->pages += client_group_pages(reader->tree.pages, group);
        } else if (count < PROTO_SLICE_RANGES_MAX) {
            ranges[count++] =
                (struct cap_range){page, client_group_pages(reader->tree.pages, group)};
        } else {
            break;
        }
    }
    return count;
}

/* Where a fetch that begins with `group` ends, when a read needs those before `needed`. */
static uint64_t choose_end(struct capstore_reader *reader, uint64_t group, uint64_t needed)
{
    uint64_t least = reader->least;
    reader->ahead =
        group == reader->ran_to && 2 * reader->ahead > least ? 2 * reader->ahead : least;
    reader->ahead = reader->ahead > reader->most ? reader->most : reader->ahead;
    uint64_t count = needed - group > reader->ahead ? needed - group : reader->ahead;
    count = count > reader->most ? reader->most : count;
    return reader->group_count - group < count ? reader->group_count : group + count;
}

/* Makes a group be in memory. */
static enum cap_error load(struct capstore_reader *reader, uint64_t group, uint64_t needed)
{
    struct cap_range ranges[PROTO_SLICE_RANGES_MAX];
    bool there;
    enum cap_error error = load_cached(reader, group, &there);
    if (error != CAP_OK || there) {
        return error;
    }
    bool whole = reader->whole.cap != NULL;
    uint64_t end = choose_end(reader, group, needed);
    for (int i = 0; i < 2; i++) {
        size_t count = list_missing(reader, group, end, ranges);
        error = get_slice(reader, ranges, count, NULL);
        if (error != CAP_E_CONNECTION_LOST) {
            break;
        }
        if (client_groups_find(&reader->groups, group) != NULL) {
            error = CAP_OK; /* the rest is asked for when it is needed */
            break;
        }
    }
    if (error == CAP_OK) {
        reader->ran_to = end;
    }
    if (error == CAP_OK && !whole && reader->whole.cap != NULL && reader->cache != NULL) {
        error = fill_cache(reader);
    }
    if (error == CAP_OK && client_groups_find(&reader->groups, group) == NULL) {
        error = load_cached(reader, group, &there); /* pushed out by all the others */
    }
    return error;
}

/* Makes a group be in memory, if it is not; *ret_bytes are its. */
static enum cap_error find(struct capstore_reader *reader, uint64_t group, uint64_t needed,
                           const uint8_t **ret_bytes)
{
    enum cap_error error = CAP_OK;
    *ret_bytes = client_groups_find(&reader->groups, group);
    if (*ret_bytes == NULL) {
        error = load(reader, group, needed);
        *ret_bytes = client_groups_find(&reader->groups, group);
    }
    if (error == CAP_OK && *ret_bytes == NULL) {
        error = CAP_E_IO; /* the cache lost it as soon as it was written */
    }
    return error;
}

enum capstore_error capstore_read(struct capstore_reader *reader, uint64_t offset, void *dst,
                                  size_t len, size_t *ret_len)
{
    enum cap_error error = client_take_turn(reader->store);
    if (error != CAP_OK) {
        return client_public(error);
    }
    client_forget(reader->store);
    uint8_t *to = dst;
    uint64_t left = offset < reader->size ? reader->size - offset : 0;
    size_t whole = len < left ? len : (size_t)left;
    size_t done = 0;
    while (error == CAP_OK && done < whole) {
        const uint8_t *bytes;
        uint64_t at = offset + done;
        uint64_t last = offset + (whole - 1);
        error = find(reader, at / CLIENT_GROUP_SIZE, last / CLIENT_GROUP_SIZE + 1, &bytes);
        if (error == CAP_OK) {
            size_t from = (size_t)(at % CLIENT_GROUP_SIZE);
            size_t some =
                CLIENT_GROUP_SIZE - from < whole - done ? CLIENT_GROUP_SIZE - from : whole - done;
            memcpy(to + done, bytes + from, some);
            done += some;
        }
    }
    if (error == CAP_OK && ret_len != NULL) {
        *ret_len = whole;
    }
    (void)client_end(reader->store, error);
    client_end_turn(reader->store);
    return client_public(error);
}

enum cap_error client_reader_group(struct capstore_reader *reader, uint64_t group,
                                   uint8_t dst[CLIENT_GROUP_SIZE], bool *ret_zeros,
                                   char ret_message[CAPSTORE_MESSAGE_SIZE])
{
    const uint8_t *bytes;
    enum cap_error error = client_take_turn(reader->store);
    if (error != CAP_OK) {
        memcpy(ret_message, "", 1);
        return error;
    }
    client_forget(reader->store);
    error = find(reader, group, group + 1, &bytes);
    if (error == CAP_OK) {
        *ret_zeros = client_groups_are_zeros(bytes);
        if (!*ret_zeros) {
            memcpy(dst, bytes, CLIENT_GROUP_SIZE);
        }
    }
    (void)client_end(reader->store, error);
    memcpy(ret_message, reader->store->message, CAPSTORE_MESSAGE_SIZE);
    client_end_turn(reader->store);
    return error;
}
