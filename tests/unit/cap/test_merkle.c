#include "lib/cap/constants.h"
#include "lib/cap/merkle.h"
#include "lib/cap/sha256.h"
#include "tests/unit/cap/build_image.h"
#include "tests/unit/support.h"

#define MANY 300u

static struct cap_hash numbered(uint64_t n)
{
    struct cap_hash hash = cap_chunk64(n);
    hash.bytes[31] = 0xee;
    return hash;
}

/* FIPS 180-4 by way of two published values: SHA-256 of 64 zero bytes, and of 64 times 'a'. */
static void sha256_of_pairs(void **state)
{
    uint8_t pairs[128] = {0};
    uint8_t out[64];
    struct cap_hash hash;
    (void)state;
    memset(pairs + 64, 'a', 64);
    cap_sha256_pairs(out, pairs, 2);
    memcpy(hash.bytes, out, 32);
    assert_hash_hex(&hash, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
    memcpy(hash.bytes, out + 32, 32);
    assert_hash_hex(&hash, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

static void sha256_in_place_is_the_same(void **state)
{
    static uint8_t pairs[64 * 64];
    static uint8_t out[64 * 32];
    (void)state;
    for (size_t i = 0; i < sizeof(pairs); i++) {
        pairs[i] = (uint8_t)(i * 31 + i / 256);
    }
    cap_sha256_pairs(out, pairs, 64);
    cap_sha256_pairs(pairs, pairs, 64);
    assert_memory_equal(out, pairs, sizeof(out));
    cap_sha256_pairs(out, pairs, 0);
    assert_memory_equal(out, pairs, sizeof(out));
}

static void the_zero_table_is_right(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth <= CAP_MAX_DEPTH; depth++) {
        struct cap_hash node = plain_zero(depth);
        assert_hash_equal(cap_zero_node(depth), &node);
    }
}

static void depths(void **state)
{
    static const struct {
        uint64_t count;
        unsigned depth;
    } rows[] = {
        {0, 0},
        {1, 0},
        {2, 1},
        {3, 2},
        {4, 2},
        {5, 3},
        {(UINT64_C(1) << 32) - 1, 32},
        {UINT64_C(1) << 32, 32},
        {(UINT64_C(1) << 32) + 1, 33},
        {(UINT64_C(1) << 52) - 1, 52},
        {UINT64_C(1) << 63, 63},
        {(UINT64_C(1) << 63) + 1, 64},
        {UINT64_MAX, 64},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(cap_depth_of(rows[i].count), rows[i].depth);
    }
}

/* Outputs may be inputs. */
static void pairs_alias(void **state)
{
    struct cap_hash a = numbered(1);
    struct cap_hash b = numbered(2);
    struct cap_hash wanted;
    struct cap_hash right = b;
    (void)state;
    cap_hash_pair(&a, &b, &wanted);
    cap_hash_pair(&a, &right, &right);
    assert_hash_equal(&right, &wanted);
    cap_hash_pair(&a, &b, &a);
    assert_hash_equal(&a, &wanted);

    struct cap_hash five = cap_chunk64(5);
    cap_hash_pair(&b, &five, &wanted);
    cap_mix_in(&b, 5, &b);
    assert_hash_equal(&b, &wanted);
}

static void dense_trees(void **state)
{
    struct cap_hash chunks[40];
    struct cap_tree tree;
    (void)state;
    cap_tree_init(&tree, 0);
    for (size_t count = 0; count <= 40; count++) {
        for (unsigned depth = cap_depth_of(count); depth <= CAP_MAX_DEPTH; depth++) {
            struct cap_hash wanted = plain_merkleize(chunks, count, depth);
            struct cap_hash root;
            cap_tree_root(&tree, depth, &root);
            assert_hash_equal(&root, &wanted);
        }
        if (count < 40) {
            chunks[count] = numbered(count);
            cap_tree_add(&tree, count, &chunks[count]);
        }
    }
}

/* A tree over sorted indexes, halved from the top: nothing in common with the code under test. */
static struct cap_hash sparse_root(const uint64_t *indexes, size_t count, uint64_t base,
                                   unsigned depth, unsigned height)
{
    if (count == 0) {
        return plain_zero(depth + height);
    }
    if (depth == 0) {
        return numbered(indexes[0]);
    }
    uint64_t middle = base + (UINT64_C(1) << (depth - 1));
    size_t split = 0;
    while (split < count && indexes[split] < middle) {
        split++;
    }
    struct cap_hash left = sparse_root(indexes, split, base, depth - 1, height);
    struct cap_hash right = sparse_root(indexes + split, count - split, middle, depth - 1, height);
    cap_hash_pair(&left, &right, &left);
    return left;
}

static void check_sparse(const uint64_t *indexes, size_t count, unsigned depth, unsigned height)
{
    struct cap_hash wanted = sparse_root(indexes, count, 0, depth, height);
    struct cap_hash root;
    struct cap_tree tree;
    cap_tree_init(&tree, height);
    for (size_t i = 0; i < count; i++) {
        struct cap_hash node = numbered(indexes[i]);
        cap_tree_add(&tree, indexes[i], &node);
    }
    for (int again = 0; again < 2; again++) {
        cap_tree_root(&tree, depth, &root);
        assert_hash_equal(&root, &wanted);
    }
}

static void sparse_trees_at_the_edges(void **state)
{
    static const uint64_t edges[] = {
        0,
        1,
        2,
        7,
        8,
        (UINT64_C(1) << 31),
        (UINT64_C(1) << 32) - 1,
        (UINT64_C(1) << 32),
        (UINT64_C(1) << 51) - 1,
        (UINT64_C(1) << 51),
        (UINT64_C(1) << 52) - 2,
        (UINT64_C(1) << 63) - 1,
        (UINT64_C(1) << 63),
        UINT64_MAX - 2,
        UINT64_MAX - 1,
    };
    const size_t count = sizeof(edges) / sizeof(edges[0]);
    (void)state;
    check_sparse(edges, count, 64, 0);
    check_sparse(edges + count - 1, 1, 64, 0);
    check_sparse(edges + 5, 8, 64, 0);
    check_sparse(edges, 11, 52, 0);
    check_sparse(edges, 11, 57, CAP_BLOCK_DEPTH);
    check_sparse(edges + 10, 1, 52, 12);
    for (size_t i = 0; i < count; i++) {
        check_sparse(edges + i, 1, 64, 0);
        check_sparse(edges, i, 64, 0);
    }
}

static void random_sparse_trees(void **state)
{
    uint64_t seed = 1;
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        uint64_t indexes[24];
        unsigned width = 1 + round % 62;
        uint64_t at = 0;
        size_t count = 0;
        while (count < sizeof(indexes) / sizeof(indexes[0])) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            uint64_t gap = seed >> 1 >> (63 - width) >> (seed % 7);
            if (gap > (UINT64_C(1) << 62) - 1 - at) {
                break;
            }
            at += gap;
            indexes[count++] = at++;
        }
        check_sparse(indexes, count, 62, 0);
        check_sparse(indexes, count, 62, 2);
    }
}

static void full_trees(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth <= 6; depth++) {
        uint64_t indexes[64];
        for (uint64_t i = 0; i < UINT64_C(1) << depth; i++) {
            indexes[i] = i;
        }
        check_sparse(indexes, (size_t)1 << depth, depth, 0);
    }
}

static void few_chunks(void **state)
{
    struct cap_hash chunks[16];
    (void)state;
    for (size_t i = 0; i < 16; i++) {
        chunks[i] = numbered(i);
    }
    for (size_t count = 0; count <= 16; count++) {
        for (unsigned depth = cap_depth_of(count); depth <= 4; depth++) {
            struct cap_hash wanted = plain_merkleize(chunks, count, depth);
            struct cap_hash root;
            cap_merkleize_few(chunks, count, depth, &root);
            assert_hash_equal(&root, &wanted);
        }
    }
}

static const size_t lengths[] = {0,    1,    31,   32,   33,    63,    64,   65,
                                 95,   96,   2048, 4032, 4064,  4095,  4096, 4097,
                                 4160, 8191, 8192, 8193, 12288, 12305, 20480};

static uint8_t content[20480];

static void fill_content(void)
{
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i * 13 + i / 256 + 1);
    }
}

static struct cap_hash wanted_byte_list(size_t len)
{
    struct node *node = node_bytes(content, len);
    struct cap_hash root = node_root(node);
    node_free(node);
    return root;
}

static void byte_lists_whole_and_in_pieces(void **state)
{
    static const size_t pieces[] = {1, 7, 32, 64, 4095, 4096, 4097, 9000, sizeof(content)};
    (void)state;
    fill_content();
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct cap_hash wanted = wanted_byte_list(lengths[i]);
        uint8_t *exact = test_exact_copy(content, lengths[i]);
        struct cap_hash root;
        cap_byte_list_root((struct cap_bytes){exact, lengths[i]}, &root);
        assert_hash_equal(&root, &wanted);
        for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
            struct cap_byte_tree tree;
            cap_byte_tree_init(&tree);
            for (size_t at = 0; at < lengths[i]; at += pieces[p]) {
                size_t left = lengths[i] - at;
                cap_byte_tree_update(&tree, exact + at, left < pieces[p] ? left : pieces[p]);
                cap_byte_tree_update(&tree, exact, 0);
                assert_true(tree.filled < CAP_BLOCK_SIZE);
            }
            cap_byte_tree_list_root(&tree, &root);
            assert_hash_equal(&root, &wanted);
        }
        free(exact);
    }
}

static void a_root_in_between_disturbs_nothing(void **state)
{
    struct cap_byte_tree tree;
    struct cap_hash root;
    (void)state;
    fill_content();
    cap_byte_tree_init(&tree);
    for (size_t at = 0; at < 9000; at += 1000) {
        cap_byte_tree_update(&tree, content + at, 1000);
        struct cap_hash wanted = wanted_byte_list(at + 1000);
        cap_byte_tree_list_root(&tree, &root);
        assert_hash_equal(&root, &wanted);
    }
}

static void an_absent_byte_list_is_empty(void **state)
{
    struct cap_hash wanted = wanted_byte_list(0);
    struct cap_hash root;
    (void)state;
    cap_byte_list_root((struct cap_bytes){NULL, 0}, &root);
    assert_hash_equal(&root, &wanted);
    cap_mix_in(cap_zero_node(CAP_BYTE_LIST_DEPTH), 0, &wanted);
    assert_hash_equal(&root, &wanted);
}

static struct cap_hash wanted_page(const uint8_t *data, size_t len)
{
    struct cap_hash chunks[CAP_PAGE_SIZE / CAP_CHUNK_SIZE] = {{{0}}};
    memcpy(chunks, data, len);
    return plain_merkleize(chunks, CAP_PAGE_SIZE / CAP_CHUNK_SIZE, 7);
}

/* For every length: non-zero to its end; then with zeros behind, which change only the result's
 * trimmed length. */
static void page_roots(void **state)
{
    static uint8_t page[CAP_PAGE_SIZE];
    (void)state;
    fill_content();
    for (size_t len = 1; len <= CAP_PAGE_SIZE; len += len < 200 ? 1 : 61) {
        uint8_t *exact = test_exact_copy(content, len);
        struct cap_hash root;
        exact[len - 1] = 1;
        struct cap_hash wanted = wanted_page(exact, len);
        assert_int_equal(cap_page_root(exact, len, &root), len);
        assert_hash_equal(&root, &wanted);
        memset(page, 0, sizeof(page));
        memcpy(page, exact, len);
        assert_int_equal(cap_page_root(page, CAP_PAGE_SIZE, &root), len);
        assert_hash_equal(&root, &wanted);
        free(exact);
    }
}

static void zero_pages(void **state)
{
    static const uint8_t page[CAP_PAGE_SIZE];
    struct cap_hash root;
    (void)state;
    for (size_t len = 0; len <= CAP_PAGE_SIZE; len += len < MANY ? 1 : 59) {
        uint8_t *exact = test_exact_copy(page, len);
        root = numbered(1);
        assert_int_equal(cap_page_root(exact, len, &root), 0);
        assert_hash_equal(&root, cap_zero_node(0));
        free(exact);
    }
    assert_int_equal(cap_page_root(page, CAP_PAGE_SIZE, &root), 0);
    assert_int_equal(cap_page_root(NULL, 0, &root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_pairs),
        cmocka_unit_test(sha256_in_place_is_the_same),
        cmocka_unit_test(the_zero_table_is_right),
        cmocka_unit_test(depths),
        cmocka_unit_test(pairs_alias),
        cmocka_unit_test(dense_trees),
        cmocka_unit_test(sparse_trees_at_the_edges),
        cmocka_unit_test(random_sparse_trees),
        cmocka_unit_test(full_trees),
        cmocka_unit_test(few_chunks),
        cmocka_unit_test(byte_lists_whole_and_in_pieces),
        cmocka_unit_test(a_root_in_between_disturbs_nothing),
        cmocka_unit_test(an_absent_byte_list_is_empty),
        cmocka_unit_test(page_roots),
        cmocka_unit_test(zero_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
