/* A closure in one answer, from a scripted daemon that sends what no daemon should. */
#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

#define STEP 7u /* bytes of a frame: heads and bodies lie across them */

/* A root with an Image and Data, and an Image that it does not need. */
struct program {
    struct capstore_hash data;
    struct capstore_hash inner;
    struct capstore_hash root;
    struct capstore_hash stranger;
    struct cap_buf inner_body;
    struct cap_buf root_body;
    struct cap_buf stranger_body;
};

/* What the daemon sends, and how it ends. */
struct talk {
    struct cap_buf entries;
    size_t cut;           /* bytes that go out; 0: all */
    enum cap_error error; /* instead of END; CAP_OK: END */
    bool hangs_up;
    uint8_t flags; /* that are asked with */
};

static void make_program(struct program *program)
{
    program->data = hash_of(HELLO_HASH);
    make_image("inner", &program->data, 1, &program->inner_body, &program->inner);
    const struct capstore_hash refs[] = {program->data, program->inner};
    make_image("root", refs, 2, &program->root_body, &program->root);
    make_image("stranger", &program->data, 1, &program->stranger_body, &program->stranger);
}

static void free_program(struct program *program)
{
    cap_buf_free(&program->inner_body);
    cap_buf_free(&program->root_body);
    cap_buf_free(&program->stranger_body);
}

/* Appends an entry; `body` NULL: only its head. */
static void add(struct talk *talk, const struct capstore_hash *hash, uint8_t kind, uint64_t len,
                const uint8_t *body)
{
    uint8_t head[PROTO_ENTRY_SIZE];
    struct proto_entry entry = {.kind = kind, .body_len = len};
    memcpy(entry.hash.bytes, hash->bytes, CAP_HASH_SIZE);
    proto_entry_encode(&entry, head);
    assert_cap_ok(cap_buf_append(&talk->entries, head, sizeof(head)));
    if (body != NULL) {
        assert_cap_ok(cap_buf_append(&talk->entries, body, (size_t)len));
    }
}

static void add_data(struct talk *talk, const struct program *program)
{
    add(talk, &program->data, CAP_KIND_DATA, sizeof(hello_body), hello_body);
}

static void add_inner(struct talk *talk, const struct program *program)
{
    add(talk, &program->inner, CAP_KIND_IMAGE, program->inner_body.len, program->inner_body.data);
}

static void add_root(struct talk *talk, const struct program *program)
{
    add(talk, &program->root, CAP_KIND_IMAGE, program->root_body.len, program->root_body.data);
}

/* Answers one CLOSURE as the talk says. */
static void serve_talk(struct fake *fake)
{
    const struct talk *talk = (const struct talk *)fake->ctx;
    struct proto_closure asked;
    struct cap_buf payload = {0};
    const struct proto_closure_reply reply = {.max = 100};
    fake->features = PROTO_FEATURE_CLOSURE;
    fake_hello(fake);
    if (!fake_take(fake)) {
        return; /* the library asked for nothing */
    }
    fake_check(fake, fake->frame.type == PROTO_CLOSURE);
    fake_check(fake, proto_closure_decode(cap_buf_bytes(&fake->payload), &asked) == CAP_OK);
    fake_check(fake, asked.flags == talk->flags);
    uint32_t id = fake->frame.id;
    fake_check(fake, proto_closure_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_CLOSURE_REPLY, id, &payload);
    size_t len = talk->cut > 0 ? talk->cut : talk->entries.len;
    for (size_t at = 0; at < len; at += STEP) {
        struct cap_bytes some = {talk->entries.data + at, len - at < STEP ? len - at : STEP};
        fake_send(fake, PROTO_BODY, id, 0, some);
    }
    if (talk->error != CAP_OK) {
        fake_error(fake, id, talk->error, "as the script says", 0);
    } else if (!talk->hangs_up) {
        fake_send(fake, PROTO_BODY, id, PROTO_FLAG_END, (struct cap_bytes){NULL, 0});
    }
    while (!talk->hangs_up && fake_take(fake)) {
    }
}

static enum capstore_error count_came(void *ctx, const struct capstore_closure_entry *entry,
                                      struct capstore_cap *cap)
{
    size_t *count = (size_t *)ctx;
    assert_ptr_equal(entry->cap, cap);
    capstore_cap_free(cap);
    ++*count;
    return CAPSTORE_OK;
}

/* Asks with these flags, beside those that say how; returns how it ended and how many came. */
static enum capstore_error ask(const struct program *program, const struct talk *talk,
                               unsigned flags, size_t *ret_came)
{
    struct fake fake;
    const struct capstore_closure_query query = {
        .roots = &program->root, .root_count = 1, .flags = flags};
    *ret_came = 0;
    fake_start(&fake, serve_talk, talk);
    struct capstore *store = fake_connect(&fake, NULL);
    enum capstore_error error = capstore_closure_many(store, &query, count_came, ret_came);
    capstore_free(store);
    fake_join(&fake);
    return error;
}

static void expect(struct program *program, struct talk *talk, const char *error, size_t wanted)
{
    size_t came;
    assert_error(ask(program, talk, CAPSTORE_CLOSURE_BODIES, &came), error);
    assert_int_equal(came, wanted);
    cap_buf_free(&talk->entries);
    *talk = (struct talk){0};
}

static void test_sound(void **state)
{
    struct program program;
    struct talk talk = {0};
    (void)state;
    make_program(&program);
    add_data(&talk, &program);
    add_inner(&talk, &program);
    add_root(&talk, &program);
    expect(&program, &talk, "ok", 3);
    free_program(&program);
}

static void test_list(void **state)
{
    struct program program;
    struct talk talk = {.flags = PROTO_CLOSURE_LIST};
    size_t came;
    (void)state;
    make_program(&program);
    add(&talk, &program.data, CAP_KIND_DATA, 34, NULL);
    add(&talk, &program.inner, 0, 0, NULL);
    add(&talk, &program.root, CAP_KIND_IMAGE, 100, NULL);
    assert_error(ask(&program, &talk, CAPSTORE_CLOSURE_LIST, &came), "not_found");
    assert_int_equal(came, 2);
    assert_error(ask(&program, &talk, CAPSTORE_CLOSURE_LIST | CAPSTORE_CLOSURE_ABSENT, &came),
                 "ok");
    assert_int_equal(came, 3);
    assert_error(ask(&program, &talk, CAPSTORE_CLOSURE_LIST | CAPSTORE_CLOSURE_BODIES, &came),
                 "invalid_argument");
    cap_buf_free(&talk.entries);
    free_program(&program);
}

/* Entries that come twice, too early, from elsewhere, not at all, or say something else. */
static void test_entries_out_of_place(void **state)
{
    struct program program;
    struct talk talk = {0};
    (void)state;
    make_program(&program);
    /* All else is as it should be: only that it comes twice is wrong. */
    add_data(&talk, &program);
    add_data(&talk, &program);
    add_inner(&talk, &program);
    add_root(&talk, &program);
    expect(&program, &talk, "bad_reply", 1);

    add_data(&talk, &program);
    add_inner(&talk, &program);
    add_inner(&talk, &program);
    add_root(&talk, &program);
    expect(&program, &talk, "bad_reply", 2);

    add_data(&talk, &program);
    add_root(&talk, &program);
    add_inner(&talk, &program);
    expect(&program, &talk, "bad_reply", 1);

    add_inner(&talk, &program);
    add_data(&talk, &program);
    add_root(&talk, &program);
    expect(&program, &talk, "bad_reply", 0);

    add_data(&talk, &program);
    add(&talk, &program.stranger, CAP_KIND_IMAGE, program.stranger_body.len,
        program.stranger_body.data);
    add_inner(&talk, &program);
    add_root(&talk, &program);
    expect(&program, &talk, "bad_reply", 4);

    add_data(&talk, &program);
    add_inner(&talk, &program);
    expect(&program, &talk, "bad_reply", 2);

    add(&talk, &program.data, CAP_KIND_IMAGE, sizeof(hello_body), hello_body);
    expect(&program, &talk, "hash_mismatch", 0);

    add(&talk, &program.inner, CAP_KIND_DATA, sizeof(hello_body), hello_body);
    expect(&program, &talk, "hash_mismatch", 0);

    add(&talk, &program.data, 3, 10, NULL);
    expect(&program, &talk, "bad_reply", 0);
    free_program(&program);
}

static void test_long_bodies(void **state)
{
    struct program program;
    struct talk talk = {0};
    (void)state;
    make_program(&program);
    add(&talk, &program.data, CAP_KIND_DATA, UINT64_MAX, NULL);
    expect(&program, &talk, "body_too_large", 0);
    add(&talk, &program.data, CAP_KIND_DATA, 0, NULL);
    expect(&program, &talk, "body_not_canonical", 0);
    free_program(&program);
}

/* Ended at every byte, with END, an ERROR or the connection. */
static void test_ends_anywhere(void **state)
{
    struct program program;
    (void)state;
    make_program(&program);
    struct talk whole = {0};
    add_data(&whole, &program);
    add_inner(&whole, &program);
    size_t root_at = whole.entries.len;
    add_root(&whole, &program);
    for (size_t cut = 1; cut < whole.entries.len; cut += 3) {
        size_t came;
        struct talk talk = {.entries = whole.entries, .cut = cut};
        assert_error(ask(&program, &talk, CAPSTORE_CLOSURE_BODIES, &came), "bad_reply");
        assert_int_equal(came, (cut >= PROTO_ENTRY_SIZE + sizeof(hello_body)) + (cut >= root_at));
        talk.hangs_up = true;
        assert_error(ask(&program, &talk, CAPSTORE_CLOSURE_BODIES, &came), "connection_lost");
        talk.hangs_up = false;
        talk.error = CAP_E_IO;
        assert_error(ask(&program, &talk, CAPSTORE_CLOSURE_BODIES, &came), "io");
    }
    cap_buf_free(&whole.entries);
    free_program(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_entries_out_of_place),
        cmocka_unit_test(test_long_bodies),
        cmocka_unit_test(test_ends_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
