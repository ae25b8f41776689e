/*
 * What the check sees of one cap: its chunks, and whether its body is that of its name.
 *
 * The body is rebuilt by the functions that judge an upload, so what is accepted here is what would
 * be admitted.
 */
#include <inttypes.h>
#include <stdlib.h>

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
    struct cap_bytes chunk; /* the last one that was read; NULL: none was */
    uint64_t chunk_at;      /* where it begins */
};

static const char *stream_name(enum store_stream stream)
{
    static const char *const names[STORE_STREAMS] = {"body", "page roots", "nodes"};
    return names[stream];
}

/* The chunk, compared with its seal. */
static enum cap_error read_chunk(struct stream *stream, const struct lmdb_chunk *chunk)
{
    struct check *check = stream->check;
    uint8_t name[STORE_CHUNK_KEY];
    MDB_val key = {sizeof(name), name};
    MDB_val value;
    store_chunk_key(stream->body, stream->stream, chunk->number, name);
    int rc = mdb_get(check->txn, check->store->tables[LMDB_BULK], &key, &value);
    if (rc != 0) {
        lmdb_check_find(check, "%s: chunk %" PRIu32 " cannot be read: %s",
                        stream_name(stream->stream), chunk->number,
                        rc == MDB_NOTFOUND ? "it is missing" : mdb_strerror(rc));
        return CAP_E_CORRUPT;
    }
    if (value.mv_size != chunk->len + STORE_SEAL_SIZE) {
        lmdb_check_find(check, "%s: chunk %" PRIu32 " has %zu bytes, not %zu",
                        stream_name(stream->stream), chunk->number, value.mv_size,
                        chunk->len + STORE_SEAL_SIZE);
        return CAP_E_CORRUPT;
    }
    if (!lmdb_unseal(&key, &value, &stream->chunk)) {
        lmdb_check_find(check, "%s: chunk %" PRIu32 " is damaged: its checksum does not match",
                        stream_name(stream->stream), chunk->number);
        return CAP_E_CORRUPT;
    }
    stream->chunk_at = chunk->from;
    return CAP_OK;
}

static enum cap_error read_stream(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct stream *stream = ctx;
    uint8_t *to = dst;
    while (len > 0) {
        const struct lmdb_chunk chunk = lmdb_chunk_at(stream->stream, stream->len, offset);
        if (stream->chunk.data == NULL || stream->chunk_at != chunk.from) {
            enum cap_error error = read_chunk(stream, &chunk);
            if (error != CAP_OK) {
                return error;
            }
        }
        size_t skip = (size_t)(offset - stream->chunk_at);
        size_t take = stream->chunk.len - skip < len ? stream->chunk.len - skip : len;
        memcpy(to, stream->chunk.data + skip, take);
        to += take;
        offset += take;
        len -= take;
    }
    return CAP_OK;
}

/* Sees every chunk of a stream: after that its length is known, not just claimed. Finds all that is
 * wrong. */
static bool see_stream(struct stream *stream)
{
    unsigned bad = 0;
    for (uint64_t at = 0; at < stream->len;) {
        const struct lmdb_chunk chunk = lmdb_chunk_at(stream->stream, stream->len, at);
        bool is_sound = read_chunk(stream, &chunk) == CAP_OK;
        lmdb_check_step(stream->check, is_sound ? stream->chunk.len : 0);
        bad += !is_sound;
        at += chunk.len;
        if (bad == BAD_CHUNKS_MAX && at < stream->len) {
            lmdb_check_find(stream->check, "%s: the other chunks are not looked at",
                            stream_name(stream->stream));
            return false;
        }
    }
    return bad == 0;
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

/* The streams of a cap. */
struct streams {
    struct stream body;
    struct stream roots;
    struct stream nodes;
};

static void compare_roots(struct check *check, struct stream *roots, const struct rebuilt *rebuilt)
{
    struct cap_hash stored;
    for (uint64_t i = 0; i < rebuilt->root_count; i++) {
        if (read_stream(roots, i * CAP_HASH_SIZE, stored.bytes, CAP_HASH_SIZE) != CAP_OK) {
            return; /* it has been found */
        }
        if (!cap_hash_equal(&stored, &rebuilt->roots[i])) {
            lmdb_check_find(check, "the root of page %" PRIu64 " is not its content's", i);
            return;
        }
    }
}

static void compare_nodes(struct check *check, const struct store_cap *cap, struct stream *nodes,
                          const struct rebuilt *rebuilt)
{
    const struct cap_node_counts *counts = &rebuilt->nodes->counts;
    if (memcmp(counts, &cap->info.node_counts, sizeof(*counts)) != 0) {
        lmdb_check_find(check,
                        "the record says %" PRIu64 " nodes above its pages, there are %" PRIu64,
                        cap_node_total(&cap->info.node_counts), cap_node_total(counts));
        return;
    }
    for (uint64_t i = 0; i < cap_node_total(counts); i++) {
        struct cap_node stored;
        if (read_stream(nodes, i * sizeof(stored), &stored, sizeof(stored)) != CAP_OK) {
            return; /* it has been found */
        }
        if (memcmp(&stored, &rebuilt->nodes->all[i], sizeof(stored)) != 0) {
            lmdb_check_find(check, "node %" PRIu64 " is not that of the pages below it", i);
            return;
        }
    }
}

static void compare(struct check *check, const struct store_cap *cap, struct streams *streams,
                    const struct rebuilt *rebuilt)
{
    if (!cap_hash_equal(&rebuilt->hash, check->hash)) {
        lmdb_check_find(check, "the body has another CapHash");
        return;
    }
    if (rebuilt->size != cap->info.size || rebuilt->page_count != cap->info.page_count) {
        lmdb_check_find(check,
                        "the record says %" PRIu64 " bytes in %" PRIu64 " pages, the body %" PRIu64
                        " in %" PRIu64,
                        cap->info.size, cap->info.page_count, rebuilt->size, rebuilt->page_count);
        return;
    }
    compare_roots(check, &streams->roots, rebuilt);
    compare_nodes(check, cap, &streams->nodes, rebuilt);
}

static void check_data(struct check *check, const struct store_cap *cap, struct streams *streams)
{
    const struct cap_source source = {.read = read_stream, .ctx = &streams->body};
    struct cap_data data = {0};
    enum cap_error error = cap_data_from_body(&source, streams->body.len, &data);
    if (error != CAP_OK) {
        lmdb_check_find(check, "the body cannot be read as a Data cap: %s", cap_error_text(error));
        return;
    }
    const struct rebuilt rebuilt = {data.hash,       data.size,       data.page_count,
                                    data.page_roots, data.page_count, &data.nodes};
    compare(check, cap, streams, &rebuilt);
    cap_data_free(&data);
}

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

/* Every reference of the body is stored in both directions, and their number is the record's. */
static void compare_refs_of(struct check *check, const struct store_cap *cap,
                            const struct cap_image_view *view)
{
    size_t count = view->pinned.count + view->initial.count;
    struct cap_ref *refs = calloc(count + 1, sizeof(*refs));
    uint64_t distinct = 0;
    if (refs == NULL) {
        lmdb_check_find(check, "not enough memory to compare its references");
        return;
    }
    size_t pinned = gather_refs(&view->pinned, CAP_REF_PINNED, refs);
    (void)gather_refs(&view->initial, CAP_REF_INITIAL, refs + pinned);
    qsort(refs, count, sizeof(*refs), compare_refs);
    for (size_t i = 0; i < count;) {
        struct cap_ref ref = refs[i];
        uint8_t pair[STORE_PAIR_KEY];
        struct cap_bytes tables;
        char hex[CAP_HASH_HEX_SIZE];
        for (; i < count && cap_hash_equal(&refs[i].hash, &ref.hash); i++) {
            ref.tables |= refs[i].tables;
        }
        distinct++;
        memcpy(pair, check->hash->bytes, CAP_HASH_SIZE);
        memcpy(pair + CAP_HASH_SIZE, ref.hash.bytes, CAP_HASH_SIZE);
        cap_hash_format(&ref.hash, hex);
        if (!lmdb_check_get(check, LMDB_REFS, pair, sizeof(pair), &tables) || tables.len != 1 ||
            tables.data[0] != ref.tables) {
            lmdb_check_find(check, "its reference to %s is missing or wrong in the index", hex);
        }
    }
    if (distinct != cap->info.ref_count) {
        lmdb_check_find(check, "the record says %" PRIu64 " references, the body %" PRIu64,
                        cap->info.ref_count, distinct);
    }
    free(refs);
}

static void check_image(struct check *check, const struct store_cap *cap, struct streams *streams)
{
    const uint64_t body_len = streams->body.len;
    const struct cap_source body = {.read = read_stream, .ctx = &streams->body};
    struct cap_image image = {0};
    struct cap_structure structure = {0};
    enum cap_error error = cap_structure_read(&body, body_len, body_len, &structure, NULL);
    if (error == CAP_OK) {
        error = cap_image_from_body(&body, body_len, &structure.view, structure.code_len, &image);
    }
    if (error == CAP_OK) {
        const struct rebuilt rebuilt = {image.hash,       structure.code_len,    0,
                                        image.code_roots, image.code_page_count, &image.nodes};
        compare(check, cap, streams, &rebuilt);
        compare_refs_of(check, cap, &structure.view);
    } else {
        lmdb_check_find(check, "the body cannot be read as an Image cap: %s",
                        cap_error_text(error));
    }
    cap_image_free(&image);
    cap_structure_free(&structure);
}

void lmdb_check_cap(struct check *check, const struct store_cap *cap)
{
    struct streams streams = {
        .body = stream_of(check, cap, STORE_STREAM_BODY),
        .roots = stream_of(check, cap, STORE_STREAM_ROOTS),
        .nodes = stream_of(check, cap, STORE_STREAM_NODES),
    };
    bool roots_sound = see_stream(&streams.roots);
    bool nodes_sound = see_stream(&streams.nodes);
    if (!see_stream(&streams.body) || !roots_sound || !nodes_sound) {
        return;
    }
    if (cap->info.kind == CAP_KIND_DATA) {
        check_data(check, cap, &streams);
    } else {
        check_image(check, cap, &streams);
    }
}
