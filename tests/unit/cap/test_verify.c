/* A body that arrives in pieces has the outcome and the hash that it has as a whole. */
#include "tests/unit/support.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/verify.h"
#include "tests/unit/cap/build_cap.h"
#include "tests/unit/data_body.h"

#define PAGE CAP_PAGE_SIZE

/* xorshift64. */
static size_t next_random(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (size_t)(x >> 33);
}

static uint8_t *random_bytes(size_t len)
{
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)next_random();
    }
    return bytes;
}

static struct cap_buf image_body(size_t code_len)
{
    uint8_t *code = random_bytes(code_len);
    struct node *root = test_cap_node(code, code_len);
    uint64_t regs[CAP_NUM_REGS] = {0};
    test_cap_endpoint(root, "main", 4096, regs);
    test_cap_slot(root, INITIAL, "data", 7);
    struct cap_buf body = test_cap_body(root, NULL);
    node_free(root);
    free(code);
    return body;
}

/* Pages of which some are zero, some short, and some the same. */
static struct cap_buf data_body(size_t pages)
{
    uint8_t *content = random_bytes(pages * PAGE);
    for (size_t i = 0; i < pages; i++) {
        uint8_t *page = content + i * PAGE;
        if (i % 5 == 1) {
            memset(page, 0, PAGE);
        } else if (i % 5 == 2) {
            memset(page + next_random() % PAGE, 0, 1);
            memset(page + PAGE - 40, 0, 40);
        } else if (i % 5 == 3 && i > 7) {
            memcpy(page, content + (next_random() % (i - 1)) * PAGE, PAGE);
        }
    }
    struct cap_buf body = make_data_body((struct cap_bytes){content, pages * PAGE});
    free(content);
    return body;
}

/* Verifies a body that arrives in pieces of at most `most` bytes, and moves each time. */
static enum cap_error in_pieces(struct cap_bytes body, size_t most, enum cap_kind *ret_kind,
                                struct cap_hash *ret_hash)
{
    struct cap_verifier *verifier;
    uint8_t *at = NULL;
    assert_cap_ok(cap_verifier_new(body.len, &verifier));
    enum cap_error error = CAP_OK;
    for (size_t there = 0; error == CAP_OK && there < body.len;) {
        size_t len = 1 + next_random() % most;
        there = len < body.len - there ? there + len : body.len;
        uint8_t *moved = malloc(there);
        assert_non_null(moved);
        memcpy(moved, body.data, there); /* exactly so long: the sanitizer sees what is read */
        free(at);
        at = moved;
        error = cap_verifier_take(verifier, (struct cap_bytes){at, there});
    }
    if (error == CAP_OK) {
        error = cap_verifier_finish(verifier, (struct cap_bytes){at, body.len}, ret_kind, ret_hash);
    }
    cap_verifier_free(verifier);
    free(at);
    return error;
}

static void assert_same(struct cap_bytes body, size_t most)
{
    enum cap_kind kind = 0;
    enum cap_kind wanted_kind = 0;
    struct cap_hash hash = {{0}};
    struct cap_hash wanted = {{0}};
    enum cap_error error = cap_body_hash(body, &wanted_kind, &wanted);
    assert_cap_error(in_pieces(body, most, &kind, &hash), error);
    assert_int_equal(kind, wanted_kind);
    assert_hash_equal(&hash, &wanted);
}

static void test_images(void **state)
{
    static const size_t lens[] = {0, 1, PAGE - 1, PAGE, PAGE + 1, 16 * PAGE, 16 * PAGE + 5, 300001};
    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct cap_buf body = image_body(lens[i]);
        for (size_t most = lens[i] < 2 * PAGE ? 1 : 5000; most < 2 * body.len; most *= 7) {
            assert_same(cap_buf_bytes(&body), most);
        }
        cap_buf_free(&body);
    }
}

static void test_data(void **state)
{
    static const size_t counts[] = {1, 2, 15, 16, 17, 31, 33, 300};
    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct cap_buf body = data_body(counts[i]);
        for (size_t most = counts[i] < 3 ? 1 : 3000; most < 2 * body.len; most *= 7) {
            assert_same(cap_buf_bytes(&body), most);
        }
        cap_buf_free(&body);
    }
}

/* Damage at any byte that matters, and at some that only change the hash. */
static void test_damage(void **state)
{
    (void)state;
    for (int data = 0; data < 2; data++) {
        struct cap_buf body = data ? data_body(19) : image_body(20 * PAGE + 9);
        for (size_t at = 0; at < body.len; at += at < 400 ? 1 : 997) {
            uint8_t before = body.data[at];
            body.data[at] ^= (uint8_t)(1u << next_random() % 8);
            assert_same(cap_buf_bytes(&body), 20000);
            body.data[at] = before;
        }
        for (size_t len = 0; len < body.len; len += len < 400 ? 1 : 9973) {
            assert_same((struct cap_bytes){body.data, len}, 20000);
        }
        cap_buf_free(&body);
    }
}

/* A length that will never come true takes no memory and is refused when the body has ended. */
static void test_claimed_length(void **state)
{
    struct cap_verifier *verifier;
    struct cap_hash hash;
    enum cap_kind kind;
    (void)state;
    struct cap_buf body = data_body(3);
    assert_cap_ok(cap_verifier_new(UINT64_MAX, &verifier));
    assert_cap_error(cap_verifier_take(verifier, cap_buf_bytes(&body)), CAP_E_BODY_NOT_CANONICAL);
    cap_verifier_free(verifier);
    assert_cap_ok(cap_verifier_new(body.len + 1, &verifier));
    assert_cap_error(cap_verifier_finish(verifier, cap_buf_bytes(&body), &kind, &hash),
                     CAP_E_BODY_NOT_CANONICAL);
    cap_verifier_free(verifier);
    cap_verifier_free(NULL);
    cap_buf_free(&body);
}

/* What is wrong with the references is found before the arena has come. */
static void test_early(void **state)
{
    struct cap_verifier *verifier;
    (void)state;
    struct cap_buf body = data_body(300);
    body.data[CAP_DATA_BODY_FIXED + 4] ^= 1; /* the first window does not begin the arena */
    assert_cap_ok(cap_verifier_new(body.len, &verifier));
    assert_cap_error(cap_verifier_take(verifier, (struct cap_bytes){body.data, body.len / 2}),
                     CAP_E_BODY_NOT_CANONICAL);
    cap_verifier_free(verifier);
    cap_buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images), cmocka_unit_test(test_data),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_claimed_length),
        cmocka_unit_test(test_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
