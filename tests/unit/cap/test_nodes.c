/* Nodes that are kept of a tree of pages, compared with a tree computed from its leaves. */
#include "lib/cap/merkle.h"

#include <stdlib.h>

#include "tests/unit/support.h"

#define PAGES_MAX 6000u

/* Pages of a tree, in order. */
struct pages {
    unsigned height;
    size_t count;
    uint64_t indexes[PAGES_MAX];
    struct cap_hash roots[PAGES_MAX];
};

static struct pages pages;

static void add_page(uint64_t index)
{
    assert_true(pages.count < PAGES_MAX);
    pages.indexes[pages.count] = index;
    pages.roots[pages.count] = cap_chunk64(index * 7 + 1);
    pages.count++;
}

/* splitmix64 */
static uint64_t fake_number(uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void begin_pages(unsigned height)
{
    pages.count = 0;
    pages.height = height;
}

static void build(struct cap_nodes *ret_nodes)
{
    struct cap_node_list list = {0};
    struct cap_tree tree;
    cap_tree_init(&tree, pages.height);
    tree.ret_nodes = &list;
    for (size_t i = 0; i < pages.count; i++) {
        cap_tree_add(&tree, pages.indexes[i], &pages.roots[i]);
    }
    cap_tree_end_nodes(&tree);
    assert_cap_ok(cap_node_list_finish(&list, ret_nodes));
}

/* The subtree `index` of a level, whose pages are those from `first` up to `end`. */
static struct cap_hash subtree(unsigned level, uint64_t index, size_t first, size_t end)
{
    if (first == end) {
        return *cap_zero_node(level + pages.height);
    }
    if (level == 0) {
        return pages.roots[first];
    }
    size_t middle = first;
    while (middle < end && pages.indexes[middle] < (2 * index + 1) << (level - 1)) {
        middle++;
    }
    struct cap_hash left = subtree(level - 1, 2 * index, first, middle);
    struct cap_hash right = subtree(level - 1, 2 * index + 1, middle, end);
    cap_hash_pair(&left, &right, &left);
    return left;
}

/* Exactly those subtrees are kept that nodes.h names. Returns how many. */
static uint64_t assert_nodes(void)
{
    struct cap_nodes nodes;
    build(&nodes);
    uint64_t at = 0;
    for (unsigned level = 6; level <= 30; level += 6) {
        uint64_t begin = at;
        for (size_t first = 0, end; first < pages.count; first = end) {
            uint64_t index = pages.indexes[first] >> level;
            end = first;
            while (end < pages.count && pages.indexes[end] >> level == index) {
                end++;
            }
            if (pages.count <= 256 || end - first < 4 || end - first == pages.count) {
                continue;
            }
            assert_true(at < cap_node_total(&nodes.counts));
            const struct cap_node *node = &nodes.all[at++];
            struct cap_hash wanted = subtree(level, index, first, end);
            assert_hash_equal(&node->hash, &wanted);
            assert_int_equal(cap_load32(node->index), index);
            assert_int_equal(cap_load32(node->first), first);
            assert_int_equal(cap_load32(node->count), end - first);
        }
        assert_int_equal(nodes.counts.of[level / 6 - 1], at - begin);
    }
    assert_int_equal(cap_node_total(&nodes.counts), at);
    assert_true((nodes.all == NULL) == (at == 0));
    free(nodes.all);
    return at;
}

static void test_dense(void **state)
{
    static const struct {
        size_t count;
        uint64_t kept;
    } cases[] = {{0, 0},   {1, 0},   {64, 0},    {256, 0},   {257, 4},
                 {260, 5}, {320, 5}, {4096, 64}, {4097, 65}, {4100, 67}};
    (void)state;
    for (unsigned height = 0; height <= CAP_BLOCK_DEPTH; height += CAP_BLOCK_DEPTH) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            begin_pages(height);
            for (size_t page = 0; page < cases[i].count; page++) {
                add_page(page);
            }
            assert_int_equal(assert_nodes(), cases[i].kept);
        }
    }
}

/* Clusters of every size, far apart and near each other, up to the last page there can be. */
static void test_sparse(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t index = fake_number(seed) % 300;
        begin_pages(0);
        for (uint64_t i = 0; pages.count < 1500 && index <= UINT32_MAX; i++) {
            uint64_t random = fake_number(1000 * seed + i);
            add_page(index);
            index += 1 + (random % 7 == 0 ? random / 7 % (UINT64_C(1) << (random >> 32) % 24) : 0);
        }
        while (pages.count > 0 && pages.indexes[pages.count - 1] >= UINT32_MAX - 10) {
            pages.count--;
        }
        for (uint64_t last = UINT32_MAX - seed % 9; last <= UINT32_MAX; last++) {
            add_page(last);
        }
        (void)assert_nodes();
    }
}

/* Every page alone in its node: nothing is kept of the low levels. */
static void test_lonely_pages(void **state)
{
    (void)state;
    begin_pages(0);
    for (uint64_t i = 0; i < 5000; i++) {
        add_page(i << 18);
    }
    assert_int_equal(assert_nodes(), 79 + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_lonely_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
