/* Pieces of bodies in memory: what is kept, for how long, and what fetches get of it. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/handover.h"
#include "daemon/serve/pieces.h"

#define SLABS       3u
#define PER_SLAB    (PIECES_SLAB / PIECE_SIZE)
#define LENT        (64u << 10)
#define BODY_MAX    (8u << 20)
#define CONTENT_LEN (1300u << 10) /* two pieces */

static struct cap_hash hash_of(uint64_t number)
{
    struct cap_hash hash = {{0}};
    memcpy(hash.bytes, &number, sizeof(number));
    return hash;
}

static bool has(const struct pieces *pieces, uint64_t number, uint64_t offset)
{
    struct cap_hash hash = hash_of(number);
    struct piece_part part;
    return pieces_find(pieces, &hash, offset, &part);
}

/* Keeps a piece if there is room; its bytes are its number's lowest. */
static bool keep(struct pieces *pieces, struct handover *handover, uint64_t number, uint64_t at,
                 size_t len)
{
    struct cap_hash hash = hash_of(number);
    struct piece *piece = pieces_begin(pieces, handover, &hash, at, len);
    if (piece == NULL) {
        return false;
    }
    assert_false(has(pieces, number, at));
    memset(piece->bytes, (int)(number & 0xff), len);
    piece_end(pieces, piece, true);
    return true;
}

static void test_what_is_found(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    struct piece_part part;
    struct cap_hash hash = hash_of(7);
    assert_cap_ok(pieces_open(&pieces, &fixture->env, SLABS * PIECES_SLAB));
    assert_true(keep(&pieces, NULL, 7, 0, PIECE_SIZE));
    assert_true(keep(&pieces, NULL, 7, PIECE_SIZE, 5000));
    assert_false(keep(&pieces, NULL, 7, 0, PIECE_SIZE)); /* it is there */
    assert_true(pieces_find(&pieces, &hash, PIECE_SIZE - 10, &part));
    assert_int_equal(part.len, 10);
    assert_int_equal(part.bytes[9], 7);
    assert_true(pieces_find(&pieces, &hash, PIECE_SIZE + 4000, &part));
    assert_int_equal(part.len, 1000);
    assert_false(has(&pieces, 7, PIECE_SIZE + 5000));
    assert_false(has(&pieces, 7, UINT64_C(2) * PIECE_SIZE));
    assert_false(has(&pieces, 8, 0));
    assert_int_equal(pieces.bytes, PIECE_SIZE + 8192);
    pieces_close(&pieces);
    assert_int_equal(pieces.bytes, 0);
}

/* The oldest go, a slab at a time, and of those that come one in a few is kept. */
static void test_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    unsigned kept = 0;
    assert_cap_ok(pieces_open(&pieces, &fixture->env, SLABS * PIECES_SLAB));
    for (uint64_t i = 0; i < (SLABS - 1) * PER_SLAB + 1; i++) {
        assert_true(keep(&pieces, NULL, i, 0, PIECE_SIZE));
    }
    for (uint64_t i = 100; i < 200; i++) {
        kept += keep(&pieces, NULL, i, 0, PIECE_SIZE) ? 1 : 0;
        assert_true(pieces.bytes <= SLABS * PIECES_SLAB);
    }
    assert_in_range(kept, 10, 50);
    assert_false(has(&pieces, 0, 0));
    pieces_close(&pieces);
}

/* Pieces of a body that is gone are not found, nor are those that are being written. */
static void test_gone(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    struct cap_hash hash = hash_of(7);
    assert_cap_ok(pieces_open(&pieces, &fixture->env, SLABS * PIECES_SLAB));
    pieces_drop(&pieces, &hash);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(keep(&pieces, NULL, 7, i * PIECE_SIZE, PIECE_SIZE));
        assert_true(keep(&pieces, NULL, 8, i * PIECE_SIZE, PIECE_SIZE));
    }
    struct piece *piece = pieces_begin(&pieces, NULL, &hash, 3 * (uint64_t)PIECE_SIZE, 100);
    assert_non_null(piece);
    pieces_drop(&pieces, &hash);
    memset(piece->bytes, 7, 100);
    piece_end(&pieces, piece, true);
    for (uint64_t i = 0; i < 4; i++) {
        assert_false(has(&pieces, 7, i * PIECE_SIZE));
        assert_int_equal(has(&pieces, 8, i * PIECE_SIZE), i < 3);
    }
    assert_true(keep(&pieces, NULL, 7, 0, PIECE_SIZE)); /* it was published again */
    assert_true(has(&pieces, 7, 0));
    pieces_clear(&pieces);
    assert_false(has(&pieces, 7, 0));
    assert_false(has(&pieces, 8, 0));
    pieces_close(&pieces);
}

/* A slab in which a piece is being written stays, and one that is given up is not found. */
static void test_being_written(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    struct cap_hash hash = hash_of(1);
    assert_cap_ok(pieces_open(&pieces, &fixture->env, PIECES_SLAB));
    struct piece *piece = pieces_begin(&pieces, NULL, &hash, 0, PIECE_SIZE);
    assert_non_null(piece);
    assert_null(pieces_begin(&pieces, NULL, &hash, 0, PIECE_SIZE)); /* somebody does it already */
    for (uint64_t i = 100; i < 200; i++) {
        (void)keep(&pieces, NULL, i, 0, PIECE_SIZE);
    }
    memset(piece->bytes, 1, PIECE_SIZE);
    piece_end(&pieces, piece, false);
    assert_false(has(&pieces, 1, 0));
    for (uint64_t i = 200; i < 300; i++) {
        (void)keep(&pieces, NULL, i, 0, PIECE_SIZE);
    }
    assert_false(has(&pieces, 100, 0));
    pieces_close(&pieces);
}

/* Lends the beginning of a piece to a socket. */
static void lend(const struct pieces *pieces, uint64_t number, struct handover *handover,
                 struct borrower *borrower)
{
    struct cap_hash hash = hash_of(number);
    struct piece_part part;
    assert_true(pieces_find(pieces, &hash, 0, &part));
    assert_true(handover_may(handover, borrower, part.loan));
    const struct iovec iov = {part.bytes, LENT};
    assert_int_equal(handover_send(handover, borrower, part.loan, &iov, 1), LENT);
}

static bool may_lend(const struct pieces *pieces, uint64_t number, struct handover *handover,
                     struct borrower *borrower)
{
    struct cap_hash hash = hash_of(number);
    struct piece_part part;
    assert_true(pieces_find(pieces, &hash, 0, &part));
    return handover_may(handover, borrower, part.loan);
}

static void open_pair(struct borrower *borrower, int *ret_theirs)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    *borrower = (struct borrower){.socket = fds[0]};
    *ret_theirs = fds[1];
}

/* A slab of which a socket has pages stays until its peer has read them or is gone; others go. */
static void test_lent(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    struct handover handover;
    static uint8_t bytes[LENT];
    struct borrower borrowers[2];
    int theirs[2];
    assert_cap_ok(handover_open(&handover));
    assert_cap_ok(pieces_open(&pieces, &fixture->env, UINT64_C(2) * PIECES_SLAB));
    for (unsigned i = 0; i < 2 * PER_SLAB; i++) {
        assert_true(keep(&pieces, &handover, i, 0, PIECE_SIZE));
    }
    for (unsigned i = 0; i < 2; i++) {
        open_pair(&borrowers[i], &theirs[i]);
        lend(&pieces, i, &handover, &borrowers[i]);
    }
    for (unsigned i = 100; i < 200; i++) {
        (void)keep(&pieces, &handover, i, 0, PIECE_SIZE);
    }
    assert_true(pieces.slabs_made > 4); /* the other slab went, again and again */
    assert_true(has(&pieces, 0, 0));
    assert_false(has(&pieces, PER_SLAB, 0));
    assert_int_equal(recv(theirs[0], bytes, LENT, 0), LENT);
    assert_int_equal(bytes[LENT - 1], 0);
    assert_false(handover_holds(&handover, &borrowers[0]));
    assert_true(handover_holds(&handover, &borrowers[1]));
    close(theirs[1]);
    for (unsigned i = 200; i < 300; i++) {
        (void)keep(&pieces, &handover, i, 0, PIECE_SIZE);
    }
    assert_false(has(&pieces, 0, 0));
    assert_false(handover_holds(&handover, &borrowers[1]));
    pieces_close(&pieces);
    handover_close(&handover);
    close(theirs[0]);
    close(borrowers[0].socket);
    close(borrowers[1].socket);
}

/* A socket has pages of two slabs at most; which it has read shows in what it was sent later. */
static void test_lent_of_two_slabs(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    struct handover handover;
    static uint8_t bytes[LENT];
    struct borrower borrower;
    int theirs;
    assert_cap_ok(handover_open(&handover));
    assert_cap_ok(pieces_open(&pieces, &fixture->env, UINT64_C(3) * PIECES_SLAB));
    for (unsigned i = 0; i < 3 * PER_SLAB; i++) {
        assert_true(keep(&pieces, &handover, i, 0, PIECE_SIZE));
    }
    open_pair(&borrower, &theirs);
    lend(&pieces, 0, &handover, &borrower);
    lend(&pieces, PER_SLAB, &handover, &borrower);
    assert_true(may_lend(&pieces, 0, &handover, &borrower));
    assert_false(may_lend(&pieces, 2 * PER_SLAB, &handover, &borrower));
    assert_int_equal(recv(theirs, bytes, LENT, 0), LENT);
    lend(&pieces, PER_SLAB, &handover, &borrower);
    assert_int_equal(recv(theirs, bytes, LENT, 0), LENT);
    assert_true(may_lend(&pieces, 2 * PER_SLAB, &handover, &borrower));
    lend(&pieces, 2 * PER_SLAB, &handover, &borrower);
    assert_false(may_lend(&pieces, 0, &handover, &borrower));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(recv(theirs, bytes, LENT, 0), LENT);
    }
    assert_true(may_lend(&pieces, 0, &handover, &borrower));
    assert_false(handover_holds(&handover, &borrower));
    pieces_close(&pieces);
    handover_close(&handover);
    close(theirs);
    close(borrower.socket);
}

static void test_none(void **state)
{
    struct fixture *fixture = *state;
    struct pieces pieces;
    assert_cap_ok(pieces_open(&pieces, &fixture->env, PIECES_SLAB - 1));
    assert_false(keep(&pieces, NULL, 1, 0, 5000));
    assert_false(has(&pieces, 1, 0));
    pieces_close(&pieces);
}

/* --- Fetches ---------------------------------------------------------------------------------- */

/* Fetches a part of a body and compares it. */
static void fetch(struct fixture *fixture, int fd, const struct cap_hash *hash, uint64_t offset,
                  uint64_t len, const uint8_t *body)
{
    static struct reply reply;
    uint64_t at = offset;
    client_get(fixture, fd, 5, hash, offset, len);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    do {
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_BODY);
        if (body != NULL) {
            assert_memory_equal(reply.payload, body + at, reply.frame.len);
        }
        at += reply.frame.len;
    } while ((reply.frame.flags & PROTO_FLAG_END) == 0);
    if (len != PROTO_TO_END) {
        assert_int_equal(at, offset + len);
    }
}

/* The body that GET sends, the caller's. */
static uint8_t *read_whole(struct fixture *fixture, int fd, const struct cap_hash *hash,
                           uint64_t *ret_len)
{
    static struct reply reply;
    uint8_t *body = malloc(BODY_MAX);
    assert_non_null(body);
    *ret_len = 0;
    client_get(fixture, fd, 5, hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    do {
        client_receive(fixture, fd, &reply);
        assert_true(*ret_len + reply.frame.len <= BODY_MAX);
        memcpy(body + *ret_len, reply.payload, reply.frame.len);
        *ret_len += reply.frame.len;
    } while ((reply.frame.flags & PROTO_FLAG_END) == 0);
    return body;
}

static struct cap_hash publish(struct fixture *fixture, int fd, size_t len)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    uint32_t random = 1;
    for (size_t i = 0; i < len; i++) {
        random = random * 1664525 + 1013904223;
        content[i] = (uint8_t)(random >> 24 | 1); /* no page twice, none of zeros */
    }
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, len});
    free(content);
    return hash;
}

/* What is fetched again is kept, whole and in parts the same, and then needs no reader. */
static void test_fetched_again(void **state)
{
    struct fixture *fixture = *state;
    const struct serve *serve = &fixture->server.loops[0].serve;
    const struct stats *stats = &fixture->server.loops[0].shard.stats;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    uint64_t len;
    uint8_t *body = read_whole(fixture, fd, &hash, &len);
    assert_int_equal(serve->pieces.bytes, 0); /* once is not often */
    fetch(fixture, fd, &hash, 0, PROTO_TO_END, body);
    assert_true(serve->pieces.bytes >= len);
    fixture_settle(fixture);
    fixture->cold = true; /* a reader would have to read in */
    uint64_t populated = atomic_load(&fixture->populated);
    uint64_t kept = stats->body_bytes_kept;
    fetch(fixture, fd, &hash, 0, PROTO_TO_END, body);
    fetch(fixture, fd, &hash, 1000000, 100000, body); /* across pieces */
    fetch(fixture, fd, &hash, len - 1, PROTO_TO_END, body);
    assert_int_equal(stats->body_bytes_kept, kept + len + 100000 + 1);
    assert_int_equal(atomic_load(&fixture->populated), populated);
    free(body);
    close(fd);
}

/* Parts of a body are not kept, unless they are whole pieces. */
static void test_parts(void **state)
{
    struct fixture *fixture = *state;
    const struct serve *serve = &fixture->server.loops[0].serve;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    for (int i = 0; i < 3; i++) {
        fetch(fixture, fd, &hash, 0, PIECE_SIZE - 1, NULL);
        fetch(fixture, fd, &hash, 1, PIECE_SIZE - 1, NULL);
    }
    assert_int_equal(serve->pieces.bytes, 0);
    for (int i = 0; i < 3; i++) {
        fetch(fixture, fd, &hash, 0, PIECE_SIZE + 1, NULL);
    }
    assert_int_equal(serve->pieces.bytes, PIECE_SIZE);
    close(fd);
}

/* Bodies that wait for the device are not: they are not expected to be asked for often. */
static void test_cold_bodies(void **state)
{
    struct fixture *fixture = *state;
    const struct serve *serve = &fixture->server.loops[0].serve;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    fixture->cold = true;
    for (int i = 0; i < 3; i++) {
        fetch(fixture, fd, &hash, 0, PROTO_TO_END, NULL);
    }
    assert_int_equal(serve->pieces.bytes, 0);
    close(fd);
}

static void one_slab(struct config *config)
{
    config->body_cache = PIECES_SLAB;
    config->threads = 1;
}

/* A body larger than the cache: its own pieces push each other out while it is sent. */
static void test_larger_than_the_cache(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, one_slab);
    const struct serve *serve = &fixture.server.loops[0].serve;
    int fd = client_open(&fixture);
    struct cap_hash hash = publish(&fixture, fd, 6u << 20);
    uint64_t len;
    uint8_t *body = read_whole(&fixture, fd, &hash, &len);
    for (int i = 0; i < 20; i++) {
        fetch(&fixture, fd, &hash, 0, PROTO_TO_END, body);
        /* What this sends first makes room for what it reads ahead. */
        fetch(&fixture, fd, &hash, UINT64_C(3) * PIECE_SIZE, PROTO_TO_END, body);
        fetch(&fixture, fd, &hash, UINT64_C(4) * PIECE_SIZE, PROTO_TO_END, body);
        assert_true(serve->pieces.bytes <= PIECES_SLAB);
    }
    assert_true(serve->pieces.slabs_made > 2);
    free(body);
    close(fd);
    fixture_stop(&fixture);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_found),
        TEST(test_bounded),
        TEST(test_being_written),
        TEST(test_lent),
        TEST(test_gone),
        TEST(test_lent_of_two_slabs),
        TEST(test_none),
        TEST(test_fetched_again),
        TEST(test_parts),
        TEST(test_cold_bodies),
        cmocka_unit_test(test_larger_than_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
