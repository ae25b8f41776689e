/*
 * What the check sees of one cap: its chunks, and whether its body is that of its name.
 *
 * The body is rebuilt by the functions that judge an upload, so what is accepted here is what would
 * be admitted. A body that proves to be its cap's also gives all that is kept beside it: figures of
 * the record, page roots, nodes, references. These are written anew where they are not the same.
 *
 * Reading a long body pauses now and then. When the cap's record names another body after a pause,
 * or is not there, the cap went: nothing that was found of it counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/param.h>
#include <unistd.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/structure.h"
#include "lib/store/lmdb/check.h"

#define BAD_CHUNKS_MAX 8u /* findings of one stream: a billion missing chunks help nobody */

/* --- A cap's bulk ----------------------------------------------------------------------------- */

/* One stream of a cap's bulk as a source. */
struct stream {
    struct check *check;
    uint64_t body;
    enum store_stream stream;
    uint64_t len;
    size_t chunk_len; /* of the one in check->chunks; 0: none */
    uint64_t chunk_at;
};

static const char *stream_name(enum store_stream stream)
{
    static const char *const names[STORE_STREAMS] = {"body", "page roots", "nodes"};
    return names[stream];
}

/* Where a chunk lies in memory, if it has its length; else *ret_len says which it has. */
static enum cap_error find_chunk(const struct stream *stream, const struct lmdb_chunk *chunk,
                                 const void **ret_at, size_t *ret_len)
{
    struct check *check = stream->check;
    uint8_t name[STORE_CHUNK_KEY];
    MDB_val key = {sizeof(name), name};
    MDB_val value;
    store_chunk_key(stream->body, stream->stream, chunk->number, name);
    int rc = mdb_get(check->txn, check->store->tables[LMDB_BULK], &key, &value);
    if (rc != 0) {
        return lmdb_error(-1, rc);
    }
    *ret_at = value.mv_data;
    *ret_len = value.mv_size;
    return CAP_OK;
}

static enum cap_error copy_bytes(const void *at, size_t len, void *dst)
{
    memcpy(dst, at, len);
    return CAP_OK;
}

static enum cap_error load_bytes(struct check *check, const void *at, size_t len, void *dst)
{
    enum cap_error error;
    CHECK_GUARDED(check, error, copy_bytes(at, len, dst));
    return error;
}

/* Where a chunk lies; NULL: it is not there. */
static enum cap_error look_for_chunk(const struct stream *stream, const struct lmdb_chunk *chunk,
                                     const void **ret_at, size_t *ret_len)
{
    struct check *check = stream->check;
    enum cap_error error;
    *ret_at = NULL;
    CHECK_GUARDED(check, error, find_chunk(stream, chunk, ret_at, ret_len));
    return error;
}

/*
 * Copies a chunk. From the file where its place there is known: a page that the device cannot give
 * is then this chunk's damage, and does not end writing as a failed load would (guard.h).
 */
static enum cap_error copy_chunk(const struct stream *stream, const struct lmdb_chunk *chunk,
                                 size_t *ret_len)
{
    struct check *check = stream->check;
    uint8_t *to = check->chunks[stream->stream];
    const void *at;
    enum cap_error error = look_for_chunk(stream, chunk, &at, ret_len);
    if (error != CAP_OK || at == NULL || *ret_len != chunk->len + STORE_SEAL_SIZE) {
        return error;
    }
    uintptr_t place = (uintptr_t)at;
    if (check->mending || check->map_from == 0) {
        return load_bytes(check, at, *ret_len, to);
    }
    for (size_t got = 0; got < *ret_len;) {
        ssize_t rc =
            pread(check->fd, to + got, *ret_len - got, (off_t)(place - check->map_from + got));
        if (rc == 0 || (rc < 0 && errno != EINTR)) {
            return CAP_E_CORRUPT;
        }
        got += rc > 0 ? (size_t)rc : 0;
    }
    return CAP_OK;
}

/* Whether the cap still has the body that is being looked at. */
static enum cap_error breathe(struct stream *stream)
{
    struct check *check = stream->check;
    uint64_t before = check->snapshot;
    struct store_cap cap;
    enum cap_error error = lmdb_check_breathe(check);
    if (error == CAP_OK && check->snapshot != before &&
        (!lmdb_check_record(check, check->hash, &cap) || cap.body != stream->body)) {
        check->is_moved = true;
        error = CAP_E_CANCELLED;
    }
    return error;
}

/* The chunk, compared with its seal. CAP_E_CORRUPT has been found; any other error ends the look.
 */
static enum cap_error read_chunk(struct stream *stream, const struct lmdb_chunk *chunk)
{
    struct check *check = stream->check;
    uint8_t name[STORE_CHUNK_KEY];
    const char *which = stream_name(stream->stream);
    struct cap_bytes bytes;
    size_t len = 0;
    stream->chunk_len = 0;
    enum cap_error error = breathe(stream);
    if (error != CAP_OK) {
        return error;
    }
    error = copy_chunk(stream, chunk, &len);
    if (error == CAP_E_NO_MEMORY || error == CAP_E_IO) {
        return error;
    }
    if (error != CAP_OK) {
        lmdb_check_find(check, "%s: chunk %" PRIu32 " cannot be read: %s", which, chunk->number,
                        error == CAP_E_NOT_FOUND ? "it is missing" : "the device does not give it");
        return CAP_E_CORRUPT;
    }
    if (len != chunk->len + STORE_SEAL_SIZE) {
        lmdb_check_find(check, "%s: chunk %" PRIu32 " has %zu bytes, not %zu", which, chunk->number,
                        len, chunk->len + STORE_SEAL_SIZE);
        return CAP_E_CORRUPT;
    }
    store_chunk_key(stream->body, stream->stream, chunk->number, name);
    if (!store_unseal(store_seed((struct cap_bytes){name, sizeof(name)}),
                      (struct cap_bytes){check->chunks[stream->stream], len}, &bytes)) {
        lmdb_check_find(check, "%s: chunk %" PRIu32 " is damaged: its checksum does not match",
                        which, chunk->number);
        return CAP_E_CORRUPT;
    }
    stream->chunk_at = chunk->from;
    stream->chunk_len = chunk->len;
    return CAP_OK;
}

static enum cap_error read_stream(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct stream *stream = ctx;
    uint8_t *to = dst;
    while (len > 0) {
        const struct lmdb_chunk chunk = lmdb_chunk_at(stream->stream, stream->len, offset);
        if (stream->chunk_len == 0 || stream->chunk_at != chunk.from) {
            enum cap_error error = read_chunk(stream, &chunk);
            if (error != CAP_OK) {
                return error;
            }
        }
        size_t skip = (size_t)(offset - stream->chunk_at);
        size_t take = MIN(stream->chunk_len - skip, len);
        memcpy(to, stream->check->chunks[stream->stream] + skip, take);
        to += take;
        offset += take;
        len -= take;
    }
    return CAP_OK;
}

/* Sees every chunk of a stream: after that its length is known, not just claimed. Finds all that is
 * wrong. */
static enum cap_error see_stream(struct stream *stream, bool *ret_sound)
{
    unsigned bad = 0;
    for (uint64_t at = 0; at < stream->len;) {
        const struct lmdb_chunk chunk = lmdb_chunk_at(stream->stream, stream->len, at);
        enum cap_error error = read_chunk(stream, &chunk);
        if (error != CAP_OK && error != CAP_E_CORRUPT) {
            return error;
        }
        lmdb_check_step(stream->check, error == CAP_OK ? chunk.len : 0);
        bad += error != CAP_OK;
        at += chunk.len;
        if (bad == BAD_CHUNKS_MAX && at < stream->len) {
            lmdb_check_find(stream->check, "%s: the other chunks are not looked at",
                            stream_name(stream->stream));
            break;
        }
    }
    *ret_sound = bad == 0;
    return CAP_OK;
}

static struct stream stream_of(struct check *check, const struct store_cap *cap,
                               enum store_stream which)
{
    return (struct stream){
        .check = check,
        .body = cap->body,
        .stream = which,
        .len = lmdb_stream_len(&cap->info, which),
    };
}

/* How many chunks a cap has of a stream. */
static uint32_t count_chunks(const struct cap_info *info, uint8_t stream)
{
    uint64_t len = stream < STORE_STREAMS ? lmdb_stream_len(info, (enum store_stream)stream) : 0;
    return len == 0 ? 0 : lmdb_chunk_at((enum store_stream)stream, len, len - 1).number + 1;
}

/* Finds the chunks that lie under the cap's body and past the ends of its streams. */
static enum cap_error check_surplus(struct check *check, const struct store_cap *cap)
{
    struct check_entry *entry = &check->probed;
    uint8_t start[STORE_BODY_KEY];
    const struct cap_bytes from = {start, sizeof(start)};
    enum cap_error error = CAP_OK;
    store_body_key(cap->body, start);
    while (error == CAP_OK) {
        error = lmdb_check_next(check, &check->probe, LMDB_BULK, from, entry);
        if (error != CAP_OK || entry->key_len != STORE_CHUNK_KEY ||
            memcmp(entry->key, start, sizeof(start)) != 0) {
            break;
        }
        uint32_t chunk = 0;
        for (size_t i = 9; i < STORE_CHUNK_KEY; i++) {
            chunk = chunk << 8 | entry->key[i];
        }
        if (chunk >= count_chunks(&cap->info, entry->key[8])) {
            lmdb_check_find(check, "chunk %" PRIu32 " of its body %" PRIu64 " belongs to nothing",
                            chunk, cap->body);
            if (check->mending) { /* a deletion moves the probe */
                lmdb_check_end_probe(check);
                lmdb_mend_delete(check, LMDB_BULK, entry->key, entry->key_len);
                error = check->repair ? check->mend_error : CAP_E_NOT_FOUND;
            }
        }
    }
    lmdb_check_end_probe(check);
    return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
}

/* --- A cap ------------------------------------------------------------------------------------ */

/* What a body says of its cap. */
struct rebuilt {
    struct cap_hash hash;
    uint64_t size;
    uint64_t page_count;
    const struct cap_hash *roots;
    uint64_t root_count;
    const struct cap_nodes *nodes;
};

/* A cap under the glass. */
struct look {
    struct check *check;
    const struct store_cap *cap; /* as the record says */
    struct store_cap proven;     /* as the body says */
    struct stream streams[STORE_STREAMS];
    bool is_record_wrong;         /* its figures are not the body's */
    bool is_sound[STORE_STREAMS]; /* as far as seals tell */
};

static enum cap_error compare_roots(struct look *look, const struct rebuilt *rebuilt)
{
    struct cap_hash stored;
    for (uint64_t i = 0; i < rebuilt->root_count; i++) {
        enum cap_error error = read_stream(&look->streams[STORE_STREAM_ROOTS], i * CAP_HASH_SIZE,
                                           stored.bytes, CAP_HASH_SIZE);
        if (error != CAP_OK) {
            return error;
        }
        if (!cap_hash_equal(&stored, &rebuilt->roots[i])) {
            lmdb_check_find(look->check, "the root of page %" PRIu64 " is not its content's", i);
            look->is_sound[STORE_STREAM_ROOTS] = false;
            return CAP_OK;
        }
    }
    return CAP_OK;
}

static enum cap_error compare_nodes(struct look *look, const struct rebuilt *rebuilt)
{
    for (uint64_t i = 0; i < cap_node_total(&rebuilt->nodes->counts); i++) {
        struct cap_node stored;
        enum cap_error error = read_stream(&look->streams[STORE_STREAM_NODES], i * sizeof(stored),
                                           &stored, sizeof(stored));
        if (error != CAP_OK) {
            return error;
        }
        if (memcmp(&stored, &rebuilt->nodes->all[i], sizeof(stored)) != 0) {
            lmdb_check_find(look->check, "node %" PRIu64 " is not that of the pages below it", i);
            look->is_sound[STORE_STREAM_NODES] = false;
            return CAP_OK;
        }
    }
    return CAP_OK;
}

/* Compares the figures of the record, which say how long the streams beside the body are. */
static bool compare_figures(struct look *look, const struct rebuilt *rebuilt)
{
    const struct cap_info *info = &look->cap->info;
    const struct cap_node_counts *counts = &rebuilt->nodes->counts;
    bool same = rebuilt->size == info->size && rebuilt->page_count == info->page_count;
    if (!same) {
        lmdb_check_find(look->check,
                        "the record says %" PRIu64 " bytes in %" PRIu64 " pages, the body %" PRIu64
                        " in %" PRIu64,
                        info->size, info->page_count, rebuilt->size, rebuilt->page_count);
    }
    if (memcmp(counts, &info->node_counts, sizeof(*counts)) != 0) {
        lmdb_check_find(look->check,
                        "the record says %" PRIu64 " nodes above its pages, there are %" PRIu64,
                        cap_node_total(&info->node_counts), cap_node_total(counts));
        same = false;
    }
    look->is_record_wrong |= !same;
    look->proven.info.size = rebuilt->size;
    look->proven.info.page_count = rebuilt->page_count;
    look->proven.info.node_counts = *counts;
    return same;
}

/* Compares what is kept beside a body that proves to be the cap's, and writes it anew. */
static enum cap_error compare(struct look *look, const struct rebuilt *rebuilt)
{
    struct check *check = look->check;
    enum cap_error error = CAP_OK;
    if (!cap_hash_equal(&rebuilt->hash, check->hash)) {
        lmdb_check_find(check, "the body has another CapHash");
        check->bad_body = look->cap->body;
        return CAP_OK;
    }
    if (!compare_figures(look, rebuilt)) {
        look->is_sound[STORE_STREAM_ROOTS] = look->is_sound[STORE_STREAM_NODES] = false;
    }
    if (look->is_sound[STORE_STREAM_ROOTS]) {
        error = compare_roots(look, rebuilt);
    }
    if (error == CAP_OK && look->is_sound[STORE_STREAM_NODES]) {
        error = compare_nodes(look, rebuilt);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (!look->is_sound[STORE_STREAM_ROOTS]) {
        lmdb_mend_stream(check, look->cap->body, STORE_STREAM_ROOTS, rebuilt->roots,
                         rebuilt->root_count * CAP_HASH_SIZE);
    }
    if (!look->is_sound[STORE_STREAM_NODES]) {
        lmdb_mend_stream(check, look->cap->body, STORE_STREAM_NODES, rebuilt->nodes->all,
                         cap_node_total(&rebuilt->nodes->counts) * sizeof(struct cap_node));
    }
    return CAP_OK;
}

/* Whether an error says that the bytes are not a body of the kind. */
static bool not_a_body(enum cap_error error)
{
    return error != CAP_OK && error != CAP_E_NO_MEMORY && error != CAP_E_CANCELLED &&
           error != CAP_E_IO;
}

static enum cap_error check_data(struct look *look)
{
    struct stream *body = &look->streams[STORE_STREAM_BODY];
    const struct cap_source source = {.read = read_stream, .ctx = body};
    struct cap_data data = {0};
    enum cap_error error = cap_data_from_body(&source, body->len, &data);
    if (not_a_body(error)) {
        lmdb_check_find(look->check, "the body cannot be read as a Data cap: %s",
                        cap_error_text(error));
        look->check->bad_body = look->cap->body;
        return CAP_OK;
    }
    if (error != CAP_OK) {
        return error;
    }
    const struct rebuilt rebuilt = {data.hash,       data.size,       data.page_count,
                                    data.page_roots, data.page_count, &data.nodes};
    error = compare(look, &rebuilt);
    cap_data_free(&data);
    return error;
}

/* --- References ------------------------------------------------------------------------------- */

static int compare_refs(const void *a, const void *b)
{
    return memcmp(a, b, CAP_HASH_SIZE); /* both begin with the hash */
}

static size_t gather_refs(const struct cap_ssz_list *slots, uint8_t table, struct cap_ref *ret_refs)
{
    for (size_t i = 0; i < slots->count; i++) {
        struct cap_slot slot;
        cap_image_slot_at(slots, i, &slot);
        ret_refs[i] = (struct cap_ref){slot.cap_hash, table};
    }
    return slots->count;
}

/* The references of a body in hash order, each target once. free() releases them; NULL: no memory.
 */
static struct cap_ref *refs_of(const struct cap_image_view *view, size_t *ret_count)
{
    size_t count = view->pinned.count + view->initial.count;
    size_t distinct = 0;
    struct cap_ref *refs = calloc(count + 1, sizeof(*refs));
    if (refs == NULL) {
        return NULL;
    }
    size_t pinned = gather_refs(&view->pinned, CAP_REF_PINNED, refs);
    (void)gather_refs(&view->initial, CAP_REF_INITIAL, refs + pinned);
    qsort(refs, count, sizeof(*refs), compare_refs);
    for (size_t i = 0; i < count; i++) {
        if (distinct > 0 && cap_hash_equal(&refs[distinct - 1].hash, &refs[i].hash)) {
            refs[distinct - 1].tables |= refs[i].tables;
        } else {
            refs[distinct++] = refs[i];
        }
    }
    *ret_count = distinct;
    return refs;
}

static void make_pair(const struct cap_hash *left, const struct cap_hash *right,
                      uint8_t ret_pair[STORE_PAIR_KEY])
{
    memcpy(ret_pair, left->bytes, CAP_HASH_SIZE);
    memcpy(ret_pair + CAP_HASH_SIZE, right->bytes, CAP_HASH_SIZE);
}

static bool is_pair(struct check *check, enum lmdb_table table, const uint8_t pair[STORE_PAIR_KEY],
                    uint8_t tables)
{
    uint8_t there;
    size_t len;
    return lmdb_check_get(check, table, pair, STORE_PAIR_KEY, &there, 1, &len) && len == 1 &&
           there == tables;
}

/* Finds the references in the index that the body does not have. */
static enum cap_error check_more_refs(struct check *check, const struct cap_ref *refs, size_t count)
{
    struct check_entry *entry = &check->probed;
    const struct cap_bytes from = {check->hash->bytes, CAP_HASH_SIZE};
    enum cap_error error = CAP_OK;
    while (error == CAP_OK) {
        error = lmdb_check_next(check, &check->probe, LMDB_REFS, from, entry);
        if (error != CAP_OK || entry->key_len != STORE_PAIR_KEY ||
            memcmp(entry->key, from.data, from.len) != 0) {
            break;
        }
        if (bsearch(entry->key + CAP_HASH_SIZE, refs, count, sizeof(*refs), compare_refs) == NULL) {
            lmdb_check_find(check, "the index has a reference of it that its body has not");
            if (check->mending) {
                lmdb_check_end_probe(check);
                lmdb_mend_unref(check, entry->key);
                error = check->repair ? check->mend_error : CAP_E_NOT_FOUND;
            }
        }
    }
    lmdb_check_end_probe(check);
    return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
}

/* The references of the body are those of the index, in both directions and in the record. */
static enum cap_error check_refs(struct look *look, const struct cap_image_view *view)
{
    struct check *check = look->check;
    size_t count = 0;
    struct cap_ref *refs = refs_of(view, &count);
    if (refs == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t pair[STORE_PAIR_KEY], mirror[STORE_PAIR_KEY];
        char hex[CAP_HASH_HEX_SIZE];
        make_pair(check->hash, &refs[i].hash, pair);
        make_pair(&refs[i].hash, check->hash, mirror);
        if (!is_pair(check, LMDB_REFS, pair, refs[i].tables) ||
            !is_pair(check, LMDB_REVS, mirror, refs[i].tables)) {
            cap_hash_format(&refs[i].hash, hex);
            lmdb_check_find(check, "its reference to %s is missing or wrong in the index", hex);
            lmdb_mend_ref(check, pair, refs[i].tables);
        }
    }
    if (count != look->cap->info.ref_count) {
        lmdb_check_find(check, "the record says %" PRIu64 " references, the body %zu",
                        look->cap->info.ref_count, count);
        look->is_record_wrong = true;
    }
    look->proven.info.ref_count = count;
    enum cap_error error = check_more_refs(check, refs, count);
    free(refs);
    return error;
}

static enum cap_error check_image(struct look *look)
{
    struct check *check = look->check;
    struct stream *body = &look->streams[STORE_STREAM_BODY];
    const struct cap_source source = {.read = read_stream, .ctx = body};
    struct cap_image image = {0};
    struct cap_structure structure = {0};
    enum cap_error error = cap_structure_read(&source, body->len, body->len, &structure, NULL);
    if (error == CAP_OK) {
        error =
            cap_image_from_body(&source, body->len, &structure.view, structure.code_len, &image);
    }
    if (not_a_body(error)) {
        lmdb_check_find(check, "the body cannot be read as an Image cap: %s",
                        cap_error_text(error));
        check->bad_body = look->cap->body;
        error = CAP_OK;
    } else if (error == CAP_OK) {
        const struct rebuilt rebuilt = {image.hash,       structure.code_len,    0,
                                        image.code_roots, image.code_page_count, &image.nodes};
        error = compare(look, &rebuilt);
        if (error == CAP_OK && check->bad_body == 0) {
            error = check_refs(look, &structure.view);
        }
    }
    cap_image_free(&image);
    cap_structure_free(&structure);
    return error;
}

/* Looks at what the streams hold, which have been seen. */
static enum cap_error check_content(struct look *look)
{
    struct check *check = look->check;
    if (!look->is_sound[STORE_STREAM_BODY]) {
        check->bad_body = look->cap->body;
        return CAP_OK;
    }
    enum cap_error error =
        look->cap->info.kind == CAP_KIND_DATA ? check_data(look) : check_image(look);
    if (error == CAP_OK && check->bad_body == 0 && look->is_record_wrong) {
        lmdb_mend_record(check, &look->proven);
    }
    return error;
}

enum cap_error lmdb_check_cap(struct check *check, const struct store_cap *cap)
{
    struct look look = {.check = check, .cap = cap, .proven = *cap};
    enum cap_error error = CAP_OK;
    for (int i = STORE_STREAMS - 1; error == CAP_OK && i >= 0; i--) { /* the body last */
        look.streams[i] = stream_of(check, cap, (enum store_stream)i);
        error = see_stream(&look.streams[i], &look.is_sound[i]);
    }
    if (error == CAP_OK) {
        error = check_content(&look);
    }
    if (error == CAP_OK) {
        error = check_surplus(check, &look.proven);
    }
    return error == CAP_E_CORRUPT ? CAP_OK : error; /* which has been found */
}
