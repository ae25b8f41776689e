/*
 * Bad input for the wire Image's decoder, generated: every kind of fault at every node of an Image
 * that has everything, then random damage. What is accepted nevertheless must be a value of its
 * own: encoding what the decoder understood gives the same bytes, its root is that value's root,
 * and everything behind the decoder can work with it.
 */
#include "lib/cap/deblob.h"
#include "lib/cap/lint.h"
#include "lib/cap/merkle.h"
#include "tests/unit/cap/build_image.h"
#include "tests/unit/support.h"

struct tally {
    unsigned accepted;
    unsigned refused;
};

static void ignore_warning(void *ctx, const struct cap_warning *warning)
{
    (void)ctx;
    assert_true(strlen(cap_warning_name(warning->reason)) > 0);
}

/* Hashing is most of the work, so only every eighth root is compared. */
#define ROOT_EVERY 8u

static void check_root(const struct cap_wire_image *view, const struct test_image *again)
{
    struct cap_hash wanted = node_root(again->root);
    struct cap_hash arena_root = node_root(again->arena);
    struct cap_hash hash;
    assert_cap_ok(cap_wire_image_content_hash(view, &arena_root, NULL, &hash));
    assert_hash_equal(&hash, &wanted);
}

static void check_accepted(const struct cap_wire_image *view, bool root_too)
{
    struct test_image again = test_image_of_view(view);
    struct cap_buf bytes = node_encode(again.root, NULL);
    assert_int_equal(bytes.len, view->head.len);
    assert_memory_equal(bytes.data, view->head.data, bytes.len);
    if (root_too) {
        check_root(view, &again);
    }
    struct cap_wire_image image;
    if (cap_deblob(view->head, view->total_len, &image, NULL) == CAP_OK) {
        assert_cap_ok(cap_lint(view, ignore_warning, NULL));
    }
    cap_buf_free(&bytes);
    test_image_free(&again);
}

static void check(const uint8_t *data, size_t len, struct tally *tally)
{
    uint8_t *exact = test_exact_copy(data, len);
    struct cap_wire_image view;
    enum cap_error error = cap_wire_image_decode((struct cap_bytes){exact, len}, len, &view);
    if (error == CAP_OK) {
        check_accepted(&view, tally->accepted++ % ROOT_EVERY == 0);
    } else {
        tally->refused++;
        assert_cap_error(error, CAP_E_SSZ);
    }
    free(exact);
}

/* Plants a fault; the result must be refused when `must_refuse`, and be sound in any case. */
static void plant(const struct test_image *image, struct fault fault, bool must_refuse,
                  struct tally *tally)
{
    struct cap_buf bytes = node_encode(image->root, &fault);
    unsigned accepted = tally->accepted;
    check(bytes.data, bytes.len, tally);
    if (must_refuse && tally->accepted != accepted) {
        fail_msg("accepted: fault %d at node %zu, offset %zu, value %u", (int)fault.kind,
                 fault.node, fault.which, fault.value);
    }
    cap_buf_free(&bytes);
}

/* How many offsets a node's encoding has. */
static size_t offset_count(const struct node *node)
{
    size_t count = 0;
    if (node->shape != SHAPE_CONTAINER && node->shape != SHAPE_LIST) {
        return 0;
    }
    for (size_t i = 0; i < node->count; i++) {
        count += node_variable(node->children[i]);
    }
    return count;
}

static void an_image_without_a_fault(void **state)
{
    struct test_image image = test_image_full();
    struct tally tally = {0};
    (void)state;
    plant(&image, (struct fault){.kind = FAULT_NONE}, false, &tally);
    assert_int_equal(tally.accepted, 1);
    test_image_free(&image);
}

/* A first offset that is not the end of the fixed part; for a list, the end of its table. */
static void first_offsets(void **state)
{
    static const uint32_t deltas[] = {1, UINT32_MAX, 2, 3, 4, UINT32_MAX - 3, 12};
    static const uint32_t values[] = {0, 1, 2, 3, UINT32_C(1) << 31, UINT32_MAX - 3, UINT32_MAX};
    struct test_image image = test_image_full();
    size_t total = node_total(image.root);
    struct tally tally = {0};
    (void)state;
    for (size_t node = 0; node < total; node++) {
        const struct node *at = node_at(image.root, node);
        if (offset_count(at) == 0) {
            continue;
        }
        /* A key list with another table length can be other keys; the rest is always wrong. */
        for (size_t i = 0; i < sizeof(deltas) / sizeof(deltas[0]); i++) {
            plant(&image, (struct fault){FAULT_OFFSET_ADD, node, 0, deltas[i]},
                  at->shape == SHAPE_CONTAINER || deltas[i] % 4 != 0, &tally);
        }
        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, 0, values[i]}, true, &tally);
        }
    }
    assert_true(tally.refused > 200);
    test_image_free(&image);
}

/* Later offsets that decrease, reach the end of their scope or leave it. */
static void later_offsets(void **state)
{
    struct test_image image = test_image_full();
    size_t total = node_total(image.root);
    struct tally tally = {0};
    (void)state;
    for (size_t node = 0; node < total; node++) {
        const struct node *at = node_at(image.root, node);
        struct cap_buf plain = node_encode(at, NULL);
        uint32_t len = (uint32_t)plain.len;
        for (size_t which = 1; which < offset_count(at); which++) {
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, which, 0}, true, &tally);
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, which, 7}, true, &tally);
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, which, len}, false, &tally);
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, which, len + 1}, true, &tally);
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, which, UINT32_C(1) << 31}, true,
                  &tally);
            plant(&image, (struct fault){FAULT_OFFSET_SET, node, which, UINT32_MAX}, true, &tally);
            plant(&image, (struct fault){FAULT_OFFSET_ADD, node, which, 1}, false, &tally);
            plant(&image, (struct fault){FAULT_OFFSET_ADD, node, which, UINT32_MAX}, false, &tally);
        }
        cap_buf_free(&plain);
    }
    assert_true(tally.refused > 100);
    test_image_free(&image);
}

static void gaps(void **state)
{
    struct test_image image = test_image_full();
    size_t total = node_total(image.root);
    struct tally tally = {0};
    (void)state;
    for (size_t node = 0; node < total; node++) {
        if (offset_count(node_at(image.root, node)) == 0) {
            continue;
        }
        for (uint32_t gap = 1; gap <= 8; gap++) {
            plant(&image, (struct fault){FAULT_GAP, node, 0, gap}, true, &tally);
        }
    }
    assert_int_equal(tally.accepted, 0);
    test_image_free(&image);
}

/* A value without a length of its own takes no byte more or less; nor does None, nor a list of
 * such values. */
static void bytes_too_many_and_too_few(void **state)
{
    struct test_image image = test_image_full();
    size_t total = node_total(image.root);
    struct tally tally = {0};
    (void)state;
    for (size_t node = 0; node < total; node++) {
        const struct node *at = node_at(image.root, node);
        bool fixed_elements = at->shape == SHAPE_LIST && at->count > 0 && offset_count(at) == 0;
        bool must_refuse = !node_variable(at) || fixed_elements;
        for (uint32_t count = 1; count <= 5; count++) {
            bool ragged = must_refuse && count < 4;
            plant(&image, (struct fault){FAULT_TRAILING, node, 0, count}, ragged, &tally);
            plant(&image, (struct fault){FAULT_TRUNCATED, node, 0, count}, ragged, &tally);
        }
    }
    assert_true(tally.refused > 200);
    test_image_free(&image);
}

static void selectors(void **state)
{
    static const uint32_t unknown[] = {2, 3, 127, 128, 255};
    struct test_image image = test_image_full();
    size_t total = node_total(image.root);
    struct tally tally = {0};
    (void)state;
    for (size_t node = 0; node < total; node++) {
        const struct node *at = node_at(image.root, node);
        if (at->shape != SHAPE_UNION) {
            continue;
        }
        for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
            plant(&image, (struct fault){FAULT_SELECTOR, node, 0, unknown[i]}, true, &tally);
        }
        /* The other arm's data; the only union empty of it would be None. */
        plant(&image, (struct fault){FAULT_SELECTOR, node, 0, at->selector ^ 1u}, true, &tally);
        struct cap_buf plain = node_encode(at, NULL);
        for (uint32_t left = 0; left < 4; left++) {
            /* A Some of a shorter key is a value; a pinned cap cut so short is none. */
            bool key = at == image.yield_receiver && left > 0;

            plant(&image, (struct fault){FAULT_TRUNCATED, node, 0, (uint32_t)plain.len - left},
                  !key, &tally);
        }
        cap_buf_free(&plain);
    }
    test_image_free(&image);
}

static void none_has_nothing_after_it(void **state)
{
    struct test_image image = test_image_new();
    struct tally tally = {0};
    (void)state;
    for (uint32_t count = 1; count <= 40; count++) {
        plant(&image, (struct fault){FAULT_TRAILING, 8, 0, count}, true, &tally);
    }
    assert_ptr_equal(node_at(image.root, 8), image.yield_receiver);
    plant(&image, (struct fault){FAULT_SELECTOR, 8, 0, 1}, false, &tally);
    assert_int_equal(tally.accepted, 1); /* Some of the empty key */
    test_image_free(&image);
}

/* Every byte of the head with every single bit flipped, and with a few values of its own. */
static void every_byte_damaged(void **state)
{
    static const uint8_t values[] = {0, 1, 4, 127, 128, 255};
    struct test_image image = test_image_full();
    struct tally tally = {0};
    struct cap_buf bytes;
    (void)state;
    image.arena->bytes.len = 0;
    bytes = node_encode(image.root, NULL);
    for (size_t at = 0; at < bytes.len; at++) {
        uint8_t good = bytes.data[at];
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.data[at] = (uint8_t)(good ^ 1u << bit);
            check(bytes.data, bytes.len, &tally);
        }
        for (size_t i = 0; i < sizeof(values); i++) {
            bytes.data[at] = values[i];
            check(bytes.data, bytes.len, &tally);
        }
        bytes.data[at] = good;
    }
    assert_true(tally.accepted > 100 && tally.refused > 100);
    cap_buf_free(&bytes);
    test_image_free(&image);
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

/* One random edit: a byte set, a run doubled or removed, an offset-like number planted. */
static void edit(struct cap_buf *bytes, uint64_t *seed)
{
    size_t at = next_random(seed) % (bytes->len + 1);
    size_t len = next_random(seed) % 9;
    if (len > bytes->len - at) {
        len = bytes->len - at;
    }
    switch (next_random(seed) % 4) {
    case 0:
        if (len > 0) {
            bytes->data[at] = (uint8_t)next_random(seed);
        }
        return;
    case 1:
        assert_cap_ok(cap_buf_append_zeros(bytes, len));
        memmove(bytes->data + at + len, bytes->data + at, bytes->len - at - len);
        return;
    case 2:
        memmove(bytes->data + at, bytes->data + at + len, bytes->len - at - len);
        bytes->len -= len;
        return;
    case 3:
        if (bytes->len - at >= 4) {
            cap_store32(bytes->data + at, next_random(seed) % 64);
        }
        return;
    }
}

static void random_damage(void **state)
{
    struct test_image image = test_image_full();
    struct tally tally = {0};
    uint64_t seed = 2024;
    (void)state;
    image.arena->bytes.len = 3;
    for (unsigned round = 0; round < 8000; round++) {
        struct cap_buf bytes = node_encode(image.root, NULL);
        for (uint32_t edits = 1 + next_random(&seed) % 3; edits > 0; edits--) {
            edit(&bytes, &seed);
        }
        check(bytes.data, bytes.len, &tally);
        cap_buf_free(&bytes);
    }
    assert_true(tally.accepted > 100 && tally.refused > 500);
    test_image_free(&image);
}

/* Claims of counts that nothing backs: refused at once, whatever the claim. */
static void claimed_counts(void **state)
{
    (void)state;
    for (unsigned field = 0; field < 7; field++) {
        uint8_t bytes[CAP_WIRE_FIXED_SIZE + 8] = {0};
        struct tally tally = {0};
        for (unsigned i = 0; i < 8; i++) {
            cap_store32(bytes + 8 + 4 * i, CAP_WIRE_FIXED_SIZE + (i > field ? 8 : 0));
        }
        for (uint32_t claim = 4; claim != 0; claim <<= 1) {
            cap_store32(bytes + CAP_WIRE_FIXED_SIZE, claim);
            cap_store32(bytes + CAP_WIRE_FIXED_SIZE + 4, claim);
            check(bytes, sizeof(bytes), &tally);
        }
        assert_int_equal(tally.accepted, 0); /* the yield receiver, empty, is wrong too */
    }
}

/* As many elements as fit a given size, each as small as it can be. */
static void the_largest_counts(void **state)
{
    struct test_image image = test_image_new();
    struct node *source = test_image_mapping(&image, 0, 0);
    struct tally tally = {0};
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        node_add(source, node_bytes(NULL, 0));
        node_add(image.gas, node_bytes(NULL, 0));
    }
    plant(&image, (struct fault){.kind = FAULT_NONE}, false, &tally);
    assert_int_equal(tally.accepted, 1);
    test_image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_without_a_fault),
        cmocka_unit_test(first_offsets),
        cmocka_unit_test(later_offsets),
        cmocka_unit_test(gaps),
        cmocka_unit_test(bytes_too_many_and_too_few),
        cmocka_unit_test(selectors),
        cmocka_unit_test(none_has_nothing_after_it),
        cmocka_unit_test(every_byte_damaged),
        cmocka_unit_test(random_damage),
        cmocka_unit_test(claimed_counts),
        cmocka_unit_test(the_largest_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
