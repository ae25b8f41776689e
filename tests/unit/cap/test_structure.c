/*
 * What is accepted of an Image cap's body: all that conversion makes, nothing that it cannot.
 */
#include "tests/unit/support.h"

#include <sys/mman.h>

#include "lib/cap/deblob.h"
#include "lib/cap/structure.h"
#include "tests/conformance/encode.h"
#include "tests/unit/cap/build_cap.h"

/* Judges it whole and in parts, which must agree. */
static enum cap_error judge(struct cap_bytes body, struct cap_refusal *ret_refusal)
{
    struct cap_image_view view;
    struct cap_structure structure = {.code_len = 0};
    struct cap_source source = cap_source_memory(&body);
    *ret_refusal = (struct cap_refusal){.error = CAP_OK};
    enum cap_error error = cap_image_view_judge(body, &view, ret_refusal);
    assert_cap_error(cap_structure_read(&source, body.len, body.len, &structure, NULL), error);
    assert_cap_error(ret_refusal->error, error);
    assert_cap_error(cap_image_view_decode(body, &view),
                     error == CAP_OK ? CAP_OK : CAP_E_BODY_NOT_CANONICAL);
    if (error == CAP_OK) {
        assert_true(encode_is_reached(body, &view));
        assert_int_equal(structure.code_len, view.code.len);
        assert_int_equal(structure.bytes.len, body.len - view.code.len);
    } else {
        assert_true(ret_refusal->message[0] != '\0');
    }
    cap_structure_free(&structure);
    return error;
}

/* --- Whatever conversion makes ---------------------------------------------------------------- */

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static uint32_t below(uint64_t *seed, size_t limit)
{
    return (uint32_t)(next(seed) % limit);
}

/* Key `i` of a table whose keys ascend: the empty one, then ever longer ones. */
static const char *key_of(size_t i, char ret[16])
{
    memset(ret, 'k', i);
    ret[i] = '\0';
    return ret;
}

static struct test_image random_image(uint64_t *seed)
{
    struct test_image image = test_image_new();
    uint8_t arena[600];
    char key[16];
    for (size_t i = 0; i < sizeof(arena); i++) {
        arena[i] = (uint8_t)next(seed);
    }
    test_image_set_arena(&image, arena, sizeof(arena));
    uint32_t code_off = below(seed, sizeof(arena));
    test_image_set_code(&image, code_off, below(seed, sizeof(arena) - code_off + 1));
    for (size_t i = below(seed, 4); i > 0; i--) {
        struct node *regs = test_image_endpoint(&image, key_of(4 - i, key), next(seed));
        for (uint8_t r = 0; r < CAP_NUM_REGS; r++) {
            if (below(seed, 2) == 0) {
                test_register(regs, r, below(seed, 3) == 0 ? 0 : next(seed));
            }
        }
    }
    for (size_t i = below(seed, 4); i > 0; i--) {
        struct node *path = test_image_mapping(&image, next(seed), next(seed));
        for (size_t steps = 1 + below(seed, CAP_MAX_SOURCE_DEPTH); steps > 0; steps--) {
            node_add(path, test_key(key_of(below(seed, 4), key)));
        }
    }
    for (size_t i = below(seed, 5); i > 0; i--) {
        const struct cap_hash hash = {{(uint8_t)next(seed)}};
        if (below(seed, 2) == 0) {
            test_image_pinned_image(&image, key_of(6 - i, key), &hash);
        } else {
            test_page(test_image_data(&image, CAP_TABLE_PINNED, key_of(6 - i, key), 8192),
                      below(seed, 2), below(seed, 500), 100);
        }
    }
    for (size_t i = below(seed, 5); i > 0; i--) {
        (void)test_image_data(&image, CAP_TABLE_INITIAL, key_of(5 - i, key), 4096 * below(seed, 9));
    }
    if (below(seed, 2) == 0) {
        test_image_set_yield_receiver(&image, key_of(below(seed, 3), key));
    }
    for (size_t i = below(seed, 3); i > 0; i--) {
        node_add(image.gas, test_key(key_of(below(seed, 3), key)));
        node_add(image.quota, test_key(key_of(below(seed, 3), key)));
    }
    return image;
}

/* The body that a wire Image becomes, when its slots resolve to arbitrary hashes. */
static struct cap_buf converted(struct cap_bytes upload, uint64_t *seed)
{
    struct cap_wire_image wire;
    struct cap_image cap;
    struct cap_hash hashes[16];
    struct cap_buf body = {0};
    assert_cap_ok(cap_deblob(upload, upload.len, &wire, NULL));
    assert_true(cap_wire_slot_count(&wire) <= 16);
    for (size_t i = 0; i < 16; i++) {
        cap_store64(hashes[i].bytes, next(seed));
        memset(hashes[i].bytes + 8, (int)i, CAP_HASH_SIZE - 8);
    }
    struct cap_bytes arena = cap_bytes_slice(upload, wire.head.len, (size_t)wire.arena_len);
    struct cap_source source = cap_source_memory(&arena);
    assert_cap_ok(cap_image_from_wire(&wire, hashes, &source, &cap));
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)cap.body.len));
    assert_cap_ok(cap_body_read(&cap.body, &source, 0, body.data, body.len));
    cap_image_free(&cap);
    return body;
}

static void test_conversions_are_accepted(void **state)
{
    (void)state;
    uint64_t seed = 20261127;
    for (unsigned i = 0; i < 400; i++) {
        struct test_image image = random_image(&seed);
        struct cap_buf upload = node_encode(image.root, NULL);
        struct cap_buf body = converted(cap_buf_bytes(&upload), &seed);
        struct cap_refusal refusal;
        assert_cap_ok(judge(cap_buf_bytes(&body), &refusal));
        cap_buf_free(&body);
        cap_buf_free(&upload);
        test_image_free(&image);
    }
}

/* A body with some bytes changed is refused, or some other wire Image becomes it. */
static void test_mutations_are_refused_or_reached(void **state)
{
    (void)state;
    uint64_t seed = 4242;
    unsigned refused = 0;
    unsigned reached = 0;
    for (unsigned i = 0; i < 100; i++) {
        struct test_image image = random_image(&seed);
        struct cap_buf upload = node_encode(image.root, NULL);
        struct cap_buf body = converted(cap_buf_bytes(&upload), &seed);
        for (unsigned k = 0; k < 100; k++) {
            struct cap_refusal refusal;
            uint8_t *at = &body.data[below(&seed, body.len)];
            uint8_t before = *at;
            *at = (uint8_t)(below(&seed, 2) == 0 ? *at + UINT64_C(1) : next(&seed));
            bool good = judge(cap_buf_bytes(&body), &refusal) == CAP_OK;
            refused += !good;
            reached += good;
            *at = before;
        }
        cap_buf_free(&body);
        cap_buf_free(&upload);
        test_image_free(&image);
    }
    assert_true(refused > 1000 && reached > 1000);
}

/* --- Each rule -------------------------------------------------------------------------------- */

static const uint64_t no_regs[CAP_NUM_REGS] = {0};

static struct node *value_of_endpoint(struct node *root, size_t index)
{
    return root->children[ENDPOINTS]->children[index]->children[1];
}

static void break_stack_top(struct node *root)
{
    value_of_endpoint(root, 1)->children[1]->bytes.data[0] ^= 1;
}

static void break_register_1(struct node *root)
{
    value_of_endpoint(root, 1)->children[4]->children[0]->bytes.data[8] ^= 1;
}

static void break_arg_slot(struct node *root)
{
    value_of_endpoint(root, 2)->children[2]->bytes.data[0] = 1;
}

static void break_arg_slot_empty(struct node *root)
{
    value_of_endpoint(root, 2)->children[2]->bytes.len = 0;
}

static void break_endpoint_order(struct node *root)
{
    test_cap_endpoint(root, "aa", 1, no_regs);
}

static void break_endpoint_twice(struct node *root)
{
    test_cap_endpoint(root, "ab", 1, no_regs);
}

static void break_pinned_order(struct node *root)
{
    test_cap_slot(root, PINNED, "yes", 9);
}

static void break_pinned_twice(struct node *root)
{
    test_cap_slot(root, PINNED, "zero", 9);
}

static void break_initial_order(struct node *root)
{
    test_cap_slot(root, INITIAL, "", 9);
}

static void break_initial_twice(struct node *root)
{
    test_cap_slot(root, INITIAL, "stack", 9);
}

static void break_path_empty(struct node *root)
{
    (void)test_cap_mapping(root, 0, 0);
}

static void break_path_depth(struct node *root)
{
    struct node *path = test_cap_mapping(root, 0, 0);
    for (size_t i = 0; i <= CAP_MAX_SOURCE_DEPTH; i++) {
        node_add(path, test_key(""));
    }
}

static void break_option(struct node *root)
{
    root->children[YIELD]->selector = 2;
}

static const struct {
    void (*apply)(struct node *root);
    enum cap_error error;
    const char *message;
} rules[] = {
    {break_stack_top, CAP_E_BODY_NOT_CANONICAL,
     "endpoint 0x61: stack_top is 0x20000001, register 1 is 0x20000000"},
    {break_register_1, CAP_E_BODY_NOT_CANONICAL,
     "endpoint 0x61: stack_top is 0x20000000, register 1 is 0x20000001"},
    {break_arg_slot, CAP_E_BODY_NOT_CANONICAL,
     "endpoint 0x6162: arg_cnode_slot is 0x01, expected 0x00"},
    {break_arg_slot_empty, CAP_E_BODY_NOT_CANONICAL,
     "endpoint 0x6162: arg_cnode_slot is (empty key), expected 0x00"},
    {break_endpoint_order, CAP_E_BODY_NOT_CANONICAL,
     "endpoint 0x6161 follows 0x6162; keys must ascend"},
    {break_endpoint_twice, CAP_E_BODY_NOT_CANONICAL,
     "endpoint 0x6162 follows 0x6162; keys must ascend"},
    {break_pinned_order, CAP_E_BODY_NOT_CANONICAL,
     "pinned slot 0x796573 follows 0x7a65726f; keys must ascend"},
    {break_pinned_twice, CAP_E_BODY_NOT_CANONICAL,
     "pinned slot 0x7a65726f follows 0x7a65726f; keys must ascend"},
    {break_initial_order, CAP_E_BODY_NOT_CANONICAL,
     "initial slot (empty key) follows 0x737461636b; keys must ascend"},
    {break_initial_twice, CAP_E_BODY_NOT_CANONICAL,
     "initial slot 0x737461636b follows 0x737461636b; keys must ascend"},
    {break_path_empty, CAP_E_SOURCE_PATH_EMPTY, "memory mapping 2 has an empty source path"},
    {break_path_depth, CAP_E_SOURCE_PATH_TOO_DEEP,
     "memory mapping 2 has a source path of 9 steps; the limit is 8"},
    {break_option, CAP_E_BODY_NOT_CANONICAL, "yield_receiver_slot: not a canonical encoding"},
};

static void test_each_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        struct node *root = test_cap_full();
        struct cap_refusal refusal;
        rules[i].apply(root);
        struct cap_buf body = test_cap_body(root, NULL);
        assert_cap_error(judge(cap_buf_bytes(&body), &refusal), rules[i].error);
        assert_string_equal(refusal.message, rules[i].message);
        cap_buf_free(&body);
        node_free(root);
    }
}

/* A body of address space: an Image whose code, or whose last quota slot, has so many zeros. */
static enum cap_error judge_long(uint64_t zeros, bool in_code)
{
    struct node *root = test_cap_node(NULL, 0);
    node_add(root->children[QUOTA], test_key(""));
    struct cap_buf body = test_cap_body(root, NULL);
    size_t len = (size_t)(body.len + zeros);
    uint8_t *bytes =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(bytes != MAP_FAILED);
    memcpy(bytes, body.data, CAP_IMAGE_CODE_AT);
    for (size_t at = 5; in_code && at < CAP_IMAGE_CODE_AT; at += 4) {
        cap_store32(bytes + at, cap_load32(bytes + at) + (uint32_t)zeros);
    }
    memcpy(bytes + CAP_IMAGE_CODE_AT + (in_code ? zeros : 0), body.data + CAP_IMAGE_CODE_AT,
           body.len - CAP_IMAGE_CODE_AT);
    struct cap_image_view view;
    enum cap_error error = cap_image_view_judge((struct cap_bytes){bytes, len}, &view, NULL);
    munmap(bytes, len);
    cap_buf_free(&body);
    node_free(root);
    return error;
}

static void test_lengths(void **state)
{
    (void)state;
    assert_cap_ok(judge_long(CAP_MAX_CODE_SIZE, true));
    assert_cap_error(judge_long(CAP_MAX_CODE_SIZE + 1, true), CAP_E_CODE_TOO_LARGE);
#if SIZE_MAX > UINT32_MAX
    /* 40 bytes are the fixed part of a wire Image, 1 says None, 4 are the slot's offset. */
    assert_cap_ok(judge_long(UINT32_MAX - 45, false));
    assert_cap_error(judge_long(UINT32_MAX - 44, false), CAP_E_BODY_TOO_LARGE);
#endif
}

static void test_bounded(void **state)
{
    (void)state;
    struct node *root = test_cap_full();
    struct cap_buf buf = test_cap_body(root, NULL);
    struct cap_bytes body = cap_buf_bytes(&buf);
    struct cap_source source = cap_source_memory(&body);
    struct cap_structure structure;
    assert_cap_ok(cap_structure_read(&source, body.len, body.len - 500, &structure, NULL));
    cap_structure_free(&structure);
    assert_cap_error(cap_structure_read(&source, body.len, body.len - 501, &structure, NULL),
                     CAP_E_STRUCTURE_TOO_LARGE);
    assert_cap_error(cap_structure_read(&source, 32, 32, &structure, NULL),
                     CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&buf);
    node_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions_are_accepted),
        cmocka_unit_test(test_mutations_are_refused_or_reached),
        cmocka_unit_test(test_each_rule),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
