/*
 * Many caps in one answer.
 *
 * Happy path. The loop goes through the hashes and loads small bodies whose places are known and in
 * memory (places.h) into a chunk, one piece behind the other; a full chunk goes out as one BODY
 * frame, and is filled again when the socket has taken it. The rest is left for the end: then a
 * reader fills the chunk from the store, small bodies whole and large ones in pieces, one chunk for
 * each job, and other peers have their turns between. So one chunk is all the memory that an answer
 * takes, whatever it names, and no snapshot of the store is held while a socket is full.
 *
 * Failure modes.
 *   - A place is stale or its page cannot be read: as if it were not known.
 *   - A cap is not there, is damaged or cannot be read: a piece says so, perhaps after pieces with
 *     bytes, and the next cap follows.
 *   - The store fails as a whole: an ERROR, which ends the answer.
 *   - Cancelled: at the end of the frame, or at once while a reader works. The connection goes: a
 *     job that waits is withdrawn; what a reader has is freed when it comes back.
 */
#include "daemon/serve/many.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/core/fetcher.h"
#include "daemon/core/ledger.h"
#include "daemon/serve/serve.h"
#include "daemon/serve/window.h"
#include "proto/message.h"

#define MANY_FEW    32u /* hashes for which the places of other loops are asked, too */
#define MANY_AHEAD  16u /* hashes whose entries are fetched from memory while others are loaded */
#define MANY_BODIES 6u  /* the same of bodies: a core fetches no more lines at once */
#define MANY_PIECE  131024u /* of a large body: two of the chunks that LMDB checks as a whole */
#define MANY_FOUND  256u    /* places that one job leaves for the loop */

_Static_assert(CHUNK_SIZE <= PROTO_FRAME_MAX, "a chunk is a frame");
_Static_assert(MANY_PIECE + PROTO_PIECE_SIZE <= CHUNK_SIZE, "a piece fits into a chunk");
_Static_assert(CONFIG_HASHES_MAX <= UINT16_MAX, "an index is 16 bits");

/* A small body that a reader found, and put into the chunk. */
struct found {
    uint16_t index; /* of its hash */
    uint32_t at;    /* in the chunk */
    enum cap_kind kind;
    struct cap_place place;
};

struct many {
    struct request request;
    struct stream stream;
    struct serve *serve;
    struct ledger_peer *account;
    uint64_t held; /* memory of the ledger */
    bool replied;  /* the GET_MANY_REPLY is out */
    bool freed;    /* while a reader had it */
    uint8_t *chunk;
    size_t filled;
    size_t sent;
    size_t at;      /* hash that the loop looks at next */
    size_t missed;  /* how many the loop has left for readers */
    size_t miss_at; /* of these, the one that a reader looks at next */

    bool asked; /* a reader has the job, or it waits for one: then what follows is the reader's */
    struct read_job job;
    uint64_t offset; /* in the body of that one; not 0: its earlier pieces are made */
    struct cap_info info;
    enum cap_error error;   /* ends the answer */
    enum cap_error fault;   /* of the last piece, for the operator */
    size_t fault_at;        /* its hash */
    struct cap_place place; /* of the cap at hand */
    uint64_t epoch;         /* before the reader looked; see serve_may_remember */
    struct found found[MANY_FOUND];
    size_t found_count;

    size_t count;
    uint16_t *misses; /* indices of hashes */
    struct cap_hash hashes[];
};

/* --- Memory ----------------------------------------------------------------------------------- */

/* Of a request that is off its session. */
static void many_free(struct many *many)
{
    if (many->asked && !readers_withdraw(&many->serve->readers, &many->job)) {
        many->freed = true;
        return;
    }
    chunks_give(&many->serve->chunks, many->chunk);
    (void)ledger_memory_hold(many->serve->shard->context->ledger, many->account, &many->held, 0);
    free(many);
}

/* --- Pieces ----------------------------------------------------------------------------------- */

/* Where the next piece's bytes go. There is room for its head. */
static uint8_t *piece_bytes(const struct many *many)
{
    return many->chunk + many->filled + PROTO_PIECE_SIZE;
}

/* Ends the piece whose bytes are in place. */
static void end_piece(struct many *many, const struct proto_piece *piece)
{
    proto_piece_encode(piece, many->chunk + many->filled);
    many->filled += PROTO_PIECE_SIZE + piece->len;
}

static size_t room(const struct many *many)
{
    return CHUNK_SIZE - many->filled;
}

/* Loads the body of hash `at` from its place. False: that is not known, or not in memory. */
static bool put_known(struct many *many, size_t at, struct place *place, uint64_t now_us)
{
    if (place == NULL ||
        !serve_load(many->serve, place, &many->hashes[at], now_us, piece_bytes(many))) {
        return false;
    }
    const struct proto_piece piece = {
        .index = (uint32_t)at,
        .kind = (uint8_t)place->kind,
        .body_len = place->len,
        .len = place->len,
    };
    end_piece(many, &piece);
    return true;
}

/* The place of the next hash; those of the hashes behind it are fetched from memory. */
static struct place *find_next(struct many *many)
{
    struct serve *serve = many->serve;
    const struct cap_hash *hash = &many->hashes[many->at];
    if (many->count <= MANY_FEW) {
        return serve_find_place(serve, hash);
    }
    size_t rest = many->count - many->at;
    if (rest > MANY_AHEAD) {
        places_expect(&serve->places, hash + MANY_AHEAD);
    }
    if (rest > MANY_BODIES) {
        places_expect_body(&serve->places, hash + MANY_BODIES);
    }
    return places_find(&serve->places, hash);
}

/* Fills the chunk with what is known and in memory, and notes what is not. */
static void fill_known(struct many *many)
{
    struct shard *shard = many->serve->shard;
    uint64_t now_us = env_monotonic_us(shard->context->env);
    while (many->at < many->count) {
        struct place *place = find_next(many);
        if (place != NULL && room(many) < PROTO_PIECE_SIZE + (size_t)place->len) {
            return;
        }
        if (put_known(many, many->at, place, now_us)) {
            shard->stats.records_used++;
        } else {
            shard->stats.records_missed++;
            many->misses[many->missed++] = (uint16_t)many->at;
        }
        many->at++;
    }
}

/* --- In a reader ------------------------------------------------------------------------------ */

/* Copies `len` bytes of a large body to where its piece is made. */
static enum cap_error copy_part(struct many *many, struct cap_read *read,
                                const struct cap_hash *hash, size_t len)
{
    struct window window = {.serve = many->serve};
    if (len == 0) {
        return CAP_OK;
    }
    enum cap_error error = window_fill(&window, read, hash, many->offset, len, 1);
    if (error == CAP_OK && window.len != len) {
        error = CAP_E_CORRUPT;
    }
    return error == CAP_OK ? cap_store_copy(read, window.iov, window.count, piece_bytes(many))
                           : error;
}

/* The body of the cap at hand, or a part, to where its piece is made; where a small one lies is
 * left for the loop. */
static enum cap_error copy_body(struct many *many, struct cap_read *read,
                                const struct cap_hash *hash, size_t len)
{
    if (!places_take(&many->place)) {
        return copy_part(many, read, hash, len);
    }
    enum cap_error error = cap_store_take(read, hash, &many->place, piece_bytes(many));
    if (error == CAP_OK && many->found_count < MANY_FOUND) {
        many->found[many->found_count++] = (struct found){
            .index = many->misses[many->miss_at],
            .at = (uint32_t)(many->filled + PROTO_PIECE_SIZE),
            .kind = many->info.kind,
            .place = many->place,
        };
    }
    return error;
}

/* Bytes of the next piece of the cap at hand. */
static size_t next_len(const struct many *many)
{
    uint64_t rest = many->info.body_len - many->offset;
    return rest < MANY_PIECE ? (size_t)rest : MANY_PIECE;
}

/* The next piece of the cap at hand, for which there is room. */
static enum cap_error put_piece(struct many *many, struct cap_read *read,
                                const struct cap_hash *hash)
{
    size_t len = next_len(many);
    bool more = len < many->info.body_len - many->offset;
    enum cap_error error = copy_body(many, read, hash, len);
    if (error != CAP_OK) {
        return error;
    }
    const struct proto_piece piece = {
        .index = many->misses[many->miss_at],
        .kind = (uint8_t)many->info.kind,
        .more = more,
        .body_len = many->info.body_len,
        .len = (uint32_t)len,
    };
    end_piece(many, &piece);
    many->offset += len;
    if (!more) {
        many->offset = 0;
        many->miss_at++;
    }
    return CAP_OK;
}

/* Ends the answer about the cap at hand with an error of its own. */
static void put_error(struct many *many, enum cap_error error)
{
    struct fetcher *fetcher = many->serve->shard->context->fetcher;
    if (error == CAP_E_NOT_FOUND && fetcher != NULL) {
        error = fetcher->recall(fetcher, &many->hashes[many->misses[many->miss_at]]);
    }
    const struct proto_piece piece = {
        .index = many->misses[many->miss_at],
        .code = (uint16_t)-error,
    };
    end_piece(many, &piece);
    if (error == CAP_E_CORRUPT || error == CAP_E_IO) {
        many->fault = error;
        many->fault_at = piece.index;
    }
    many->offset = 0;
    many->miss_at++;
}

/* One piece. False: the chunk is full, or there is something that the loop must know first. */
static bool read_next(struct many *many, struct cap_read *read)
{
    const struct cap_hash *hash = &many->hashes[many->misses[many->miss_at]];
    enum cap_error error = CAP_OK;
    if (room(many) < PROTO_PIECE_SIZE) {
        return false;
    }
    if (many->offset == 0) {
        many->place = (struct cap_place){0};
        error = cap_store_locate(read, hash, &many->info, &many->place);
    }
    if (error == CAP_OK && room(many) < PROTO_PIECE_SIZE + next_len(many)) {
        return false;
    }
    if (error == CAP_OK) {
        error = put_piece(many, read, hash);
    }
    switch ((int)error) {
    case CAP_OK:
        return true;
    case CAP_E_NOT_FOUND:
    case CAP_E_QUARANTINED:
    case CAP_E_FORBIDDEN_CAP:
    case CAP_E_CORRUPT:
    case CAP_E_IO:
        put_error(many, error);
        return many->fault == CAP_OK;
    default:
        many->error = error;
        return false;
    }
}

static bool on_many(struct read_job *job)
{
    struct many *many = CONTAINER_OF(job, struct many, job);
    const struct context *context = many->serve->shard->context;
    uint64_t until = env_monotonic_us(context->env) + READERS_TURN_US;
    struct cap_read *read = NULL;
    many->error = cap_store_read_begin(context->store, &read);
    bool more = many->error == CAP_OK;
    while (more && many->miss_at < many->missed) {
        more = read_next(many, read) && !atomic_load(&job->withdrawn) &&
               env_monotonic_us(context->env) < until;
    }
    cap_store_read_end(read);
    return true;
}

/* --- The answer ------------------------------------------------------------------------------- */

static void refuse(struct many *many, enum cap_error error)
{
    char message[SERVE_MESSAGE_SIZE];
    size_t at = many->miss_at < many->missed ? many->misses[many->miss_at] : 0;
    serve_failed(many->serve, &many->hashes[at], error, message);
    request_refuse(&many->request, error, message, NULL);
    many_free(many);
}

/* Has the chunk sent, behind the reply if it is the first. */
static void send_chunk(struct many *many)
{
    struct cap_buf payload = {0};
    many->sent = 0;
    many->stream.left = many->filled;
    many->stream.more = many->at < many->count || many->miss_at < many->missed;
    if (many->replied) {
        request_resume(&many->request, &many->stream);
        return;
    }
    many->replied = true;
    const struct proto_get_many_reply reply = {.count = (uint32_t)many->count};
    enum cap_error encoded = proto_get_many_reply_encode(&reply, &payload);
    request_stream(&many->request, PROTO_GET_MANY_REPLY, encoded, &payload, &many->stream);
}

/* The chunk is free: fills it and has it sent, now or when a reader has filled it. */
static void go_on(struct many *many)
{
    many->filled = 0;
    serve_catch_up(many->serve);
    many->epoch = serve_epoch(many->serve);
    fill_known(many);
    if (many->filled > 0 || many->miss_at == many->missed) {
        send_chunk(many);
        return;
    }
    enum cap_error error = readers_submit(&many->serve->readers, &many->job);
    many->asked = error == CAP_OK;
    if (error != CAP_OK) {
        refuse(many, error);
    }
}

/* Enters the places that a reader found; the chunk has their bodies. */
static void remember(struct many *many)
{
    uint64_t now_us = env_monotonic_us(many->serve->shard->context->env);
    bool may = serve_may_remember(many->serve, many->epoch);
    for (size_t i = 0; may && i < many->found_count; i++) {
        const struct found *found = &many->found[i];
        places_add(&many->serve->places, &many->hashes[found->index], found->kind, &found->place,
                   many->chunk + found->at, now_us);
    }
    many->found_count = 0;
}

static void on_many_done(struct read_job *job)
{
    struct many *many = CONTAINER_OF(job, struct many, job);
    char message[SERVE_MESSAGE_SIZE];
    many->asked = false;
    if (many->freed) {
        many_free(many);
        return;
    }
    remember(many);
    if (many->fault != CAP_OK) {
        serve_failed(many->serve, &many->hashes[many->fault_at], many->fault, message);
        many->fault = CAP_OK;
    }
    if (many->error != CAP_OK) {
        refuse(many, many->error);
    } else {
        send_chunk(many);
    }
}

static enum stream_answer many_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                      int *ret_count)
{
    const struct many *many = CONTAINER_OF(stream, struct many, stream);
    *ret_iov = (struct iovec){many->chunk + many->sent, len};
    *ret_count = 1;
    return STREAM_READY;
}

static void many_sent(struct stream *stream, size_t len)
{
    struct many *many = CONTAINER_OF(stream, struct many, stream);
    many->sent += len;
    many->serve->shard->stats.body_bytes_out += len;
}

static void many_over(struct stream *stream, enum cap_error error)
{
    struct many *many = CONTAINER_OF(stream, struct many, stream);
    struct shard *shard = many->serve->shard;
    if (error != CAP_OK) {
        request_refuse(&many->request, error, NULL, NULL);
        many_free(many);
    } else if (stream->more) {
        go_on(many);
    } else {
        histogram_add(&shard->stats.many_us,
                      env_monotonic_us(shard->context->env) - many->request.started_us);
        request_end(&many->request);
        many_free(many);
    }
}

static const struct stream_class many_stream = {
    .window = many_window,
    .sent = many_sent,
    .over = many_over,
};

static void on_cancel(struct request *request)
{
    struct many *many = CONTAINER_OF(request, struct many, request);
    request_cut(request, &many->stream, CAP_E_CANCELLED);
}

static void on_detach(struct request *request)
{
    many_free(CONTAINER_OF(request, struct many, request));
}

static const struct request_class many_request = {.cancel = on_cancel, .detach = on_detach};

/* --- The request ------------------------------------------------------------------------------ */

/* CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error many_new(struct serve *serve, const struct session *session,
                               const struct proto_get_many *asked, struct many **ret_many)
{
    struct ledger *ledger = serve->shard->context->ledger;
    size_t size = sizeof(struct many) + asked->count * (CAP_HASH_SIZE + sizeof(uint16_t));
    uint64_t held = 0;
    if (!ledger_memory_hold(ledger, session->account, &held, size + CHUNK_SIZE)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct many *many = malloc(size);
    uint8_t *chunk = chunks_take(&serve->chunks);
    if (many == NULL || chunk == NULL) {
        free(many);
        chunks_give(&serve->chunks, chunk);
        (void)ledger_memory_hold(ledger, session->account, &held, 0);
        return CAP_E_NO_MEMORY;
    }
    *many = (struct many){
        .request = {.class = &many_request},
        .stream = {.class = &many_stream},
        .serve = serve,
        .account = session->account,
        .held = held,
        .chunk = chunk,
        .job = {.account = session->account, .run = on_many, .done = on_many_done},
        .count = asked->count,
    };
    many->misses = (uint16_t *)(void *)(many->hashes + asked->count);
    if (asked->count > 0) {
        memcpy(many->hashes, asked->hashes.data, asked->hashes.len);
    }
    *ret_many = many;
    return CAP_OK;
}

const struct verdict *many_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                 struct cap_bytes payload)
{
    struct serve *serve = room;
    struct proto_get_many asked;
    struct many *many = NULL;
    enum cap_error error = proto_get_many_decode(payload, &asked);
    if (error == CAP_OK && asked.count > session->limits.hashes) {
        error = CAP_E_TOO_MANY_HASHES;
    }
    if (error == CAP_OK) {
        error = many_new(serve, session, &asked, &many);
    }
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    serve->shard->stats.many_caps += asked.count;
    many->request.id = many->stream.id = id;
    many->request.type = type;
    const struct verdict *verdict = session_pending(session, &many->request);
    go_on(many);
    return verdict;
}
