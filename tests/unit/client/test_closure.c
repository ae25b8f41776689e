/* The closure of many caps from a scripted daemon that gives what it has in small pieces. */
#include <poll.h>

#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#include <capstore/async.h>

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

/* More Data caps than a closure asks for ahead. */
#define IMAGES   4u
#define CHILDREN 200u
#define ALL      (1 + IMAGES + IMAGES * CHILDREN)

#define QUIET_MS 5 /* the client has asked for all that it wants now */

/* A root that names Images, each of which names as many Data caps. Hashes are numbers. */
struct tree {
    struct cap_buf images[1 + IMAGES]; /* the first is the root's */
    uint64_t data_len;                 /* as STAT says */
};

/* A GET_MANY that is answered bit by bit. */
struct many {
    uint32_t id;
    uint32_t count;
    unsigned steps; /* that are done */
    struct cap_buf payload;
};

static struct capstore_hash numbered(size_t number)
{
    return (struct capstore_hash){{0xcc, (uint8_t)(number >> 8), (uint8_t)number}};
}

static struct cap_bytes body_of(const struct tree *tree, const uint8_t hash[CAP_HASH_SIZE])
{
    size_t number = (size_t)hash[1] << 8 | hash[2];
    return number <= IMAGES ? cap_buf_bytes(&tree->images[number])
                            : (struct cap_bytes){hello_body, sizeof(hello_body)};
}

static void answer_stat(struct fake *fake, const struct tree *tree)
{
    struct cap_bytes body = body_of(tree, fake->payload.data);
    struct cap_buf payload = {0};
    const struct proto_stat_reply reply = {
        .kind = body.data[0], .body_len = body.data == hello_body ? tree->data_len : body.len};
    fake_check(fake, proto_stat_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_STAT_REPLY, fake->frame.id, &payload);
}

static void begin_many(struct fake *fake, struct many *many)
{
    struct proto_get_many asked = {0};
    struct cap_buf payload = {0};
    fake_check(fake, proto_get_many_decode(cap_buf_bytes(&fake->payload), &asked) == CAP_OK);
    fake_check(fake, asked.count > 0);
    *many = (struct many){.id = fake->frame.id, .count = (uint32_t)asked.count};
    (void)cap_buf_append(&many->payload, asked.hashes.data, asked.hashes.len);
    const struct proto_get_many_reply reply = {many->count};
    fake_check(fake, proto_get_many_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_MANY_REPLY, many->id, &payload);
}

/* The first cap, then all others, then END. */
static void go_on(struct fake *fake, const struct tree *tree, struct many *many)
{
    struct cap_buf pieces = {0};
    uint32_t from = many->steps == 0 ? 0 : 1;
    uint32_t until = many->steps == 0 ? 1 : many->steps == 1 ? many->count : 0;
    for (uint32_t i = from; i < until; i++) {
        struct cap_bytes body = body_of(tree, many->payload.data + (size_t)i * CAP_HASH_SIZE);
        const struct proto_piece piece = {
            .index = i, .kind = body.data[0], .body_len = body.len, .len = (uint32_t)body.len};
        uint8_t head[PROTO_PIECE_SIZE];
        proto_piece_encode(&piece, head);
        (void)cap_buf_append(&pieces, head, sizeof(head));
        (void)cap_buf_append(&pieces, body.data, body.len);
    }
    fake_send(fake, PROTO_BODY, many->id, many->steps == 2 ? PROTO_FLAG_END : 0,
              cap_buf_bytes(&pieces));
    many->steps++;
    cap_buf_free(&pieces);
}

/* Answers STAT and GET at once, and of each GET_MANY a step whenever the client is quiet. */
static void serve_tree(struct fake *fake)
{
    const struct tree *tree = (const struct tree *)fake->ctx;
    static struct many many[ALL];
    size_t begun = 0;
    size_t ended = 0;
    fake->features = PROTO_FEATURE_GET_MANY;
    fake_hello(fake);
    for (;;) {
        struct pollfd entry = {fake->fd, POLLIN, 0};
        if (poll(&entry, 1, ended < begun ? QUIET_MS : -1) == 0) {
            go_on(fake, tree, &many[ended]);
            if (many[ended].steps == 3) {
                cap_buf_free(&many[ended++].payload);
            }
        } else if (!fake_take(fake) || fake->frame.type == PROTO_HAS) {
            break;
        } else if (fake->frame.type == PROTO_STAT) {
            answer_stat(fake, tree);
        } else if (fake->frame.type == PROTO_GET) {
            fake_body(fake, body_of(tree, fake->payload.data), 4096);
        } else if (fake->frame.type == PROTO_GET_MANY && begun < ALL) {
            begin_many(fake, &many[begun++]);
        } else {
            fake_check(fake, fake->frame.type == PROTO_CANCEL);
        }
    }
    for (; ended < begun; ended++) {
        cap_buf_free(&many[ended].payload);
    }
}

/* What was visited, and whether with the bodies of Data caps. */
struct visited {
    size_t count;
    bool bodies;
};

static enum capstore_error count_visit(void *ctx, const struct capstore_closure_entry *entry)
{
    struct visited *visited = (struct visited *)ctx;
    struct capstore_hash hash = numbered(visited->count);
    bool image = visited->count++ <= IMAGES;
    assert_true(capstore_hash_equal(&entry->hash, &hash));
    assert_int_equal(entry->kind, image ? CAPSTORE_KIND_IMAGE : CAPSTORE_KIND_DATA);
    assert_true((entry->cap != NULL) == (image || visited->bodies));
    assert_true(entry->cap == NULL || entry->body_len == capstore_cap_body(entry->cap).len);
    return CAPSTORE_OK;
}

static void make_tree(struct tree *tree)
{
    struct capstore_hash hashes[CHILDREN];
    struct capstore_hash unused;
    for (size_t image = 0; image <= IMAGES; image++) {
        size_t count = image == 0 ? IMAGES : CHILDREN;
        size_t first = image == 0 ? 1 : 1 + IMAGES + (image - 1) * CHILDREN;
        for (size_t i = 0; i < count; i++) {
            hashes[i] = numbered(first + i);
        }
        make_image("code", hashes, count, &tree->images[image], &unused);
    }
}

/* Every cap is visited once and in order, however its answer is cut; nothing is left in flight. */
static void walk(unsigned flags, uint64_t data_len, uint64_t max_bodies)
{
    struct fake fake;
    struct tree tree = {.data_len = data_len};
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore_hash root = numbered(0);
    struct visited visited = {.bodies = flags == CAPSTORE_CLOSURE_BODIES};
    options.no_verify = true;
    options.max_body = options.max_bodies = max_bodies;
    make_tree(&tree);
    fake_start(&fake, serve_tree, &tree);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_closure(store, &root, flags, count_visit, &visited), "ok");
    assert_int_equal(visited.count, ALL);
    assert_int_equal(capstore_pending(store), 0);
    capstore_free(store);
    fake_join(&fake);
    for (size_t i = 0; i <= IMAGES; i++) {
        cap_buf_free(&tree.images[i]);
    }
}

static void test_pieces(void **state)
{
    (void)state;
    walk(CAPSTORE_CLOSURE_BODIES, sizeof(hello_body), 1 << 20);
}

/* Room for three hundred bodies at a time, by what STAT says of them. */
static void test_little_room(void **state)
{
    (void)state;
    walk(CAPSTORE_CLOSURE_BODIES, 1000, 300000);
}

/* A list, from a daemon that gives none in one answer. */
static void test_list(void **state)
{
    (void)state;
    walk(CAPSTORE_CLOSURE_LIST, sizeof(hello_body), 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_little_room),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
