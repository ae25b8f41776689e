/* What is hashed many at a time has the roots that it has one by one. */
#include <stdio.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "tests/unit/cap/build_cap.h"
#include "tests/unit/support.h"

#define PAGE  CAP_PAGE_SIZE
#define PAGES 37u /* more than two batches */

/* xorshift64. */
static size_t next_random(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (size_t)(x >> 33);
}

static struct cap_hash numbered(uint64_t n)
{
    struct cap_hash hash = cap_chunk64(n);
    hash.bytes[31] = 0xee;
    return hash;
}

static void assert_same_nodes(struct cap_tree *one, struct cap_tree *many)
{
    struct cap_nodes wanted;
    struct cap_nodes nodes;
    cap_tree_end_nodes(one);
    cap_tree_end_nodes(many);
    assert_int_equal(one->ret_nodes->roots, many->ret_nodes->roots);
    assert_cap_ok(cap_node_list_finish(one->ret_nodes, &wanted));
    assert_cap_ok(cap_node_list_finish(many->ret_nodes, &nodes));
    assert_memory_equal(&nodes.counts, &wanted.counts, sizeof(nodes.counts));
    if (wanted.all != NULL) {
        assert_memory_equal(nodes.all, wanted.all,
                            (size_t)cap_node_total(&wanted.counts) * sizeof(*wanted.all));
    }
    free(wanted.all);
    free(nodes.all);
}

/* Runs of any length behind gaps of any width; the nodes that are kept are the same, too. */
static void test_runs_of_nodes(void **state)
{
    static struct cap_hash nodes[300];
    (void)state;
    for (size_t i = 0; i < 300; i++) {
        nodes[i] = numbered(i);
    }
    for (unsigned round = 0; round < 200; round++) {
        struct cap_node_list kept[2] = {0};
        struct cap_tree one;
        struct cap_tree many;
        cap_tree_init(&one, round % 8);
        cap_tree_init(&many, round % 8);
        one.ret_nodes = &kept[0];
        many.ret_nodes = &kept[1];
        for (unsigned run = 0; run < 6; run++) {
            uint64_t index = one.next + (run % 2 == 0 ? 0 : next_random() % 100);
            size_t count = next_random() % (run % 3 == 0 ? 300 : 9);
            for (size_t i = 0; i < count; i++) {
                cap_tree_add(&one, index + i, &nodes[i]);
            }
            if (count > 0) {
                cap_tree_add_many(&many, index, nodes, count);
            }
            assert_int_equal(many.next, one.next);
        }
        struct cap_hash wanted;
        struct cap_hash root;
        cap_tree_root(&one, 32, &wanted);
        cap_tree_root(&many, 32, &root);
        assert_hash_equal(&root, &wanted);
        assert_same_nodes(&one, &many);
    }
}

/* Pages of every kind, side by side: full, zero, with a zero beginning, with zeros behind. */
static uint8_t *mixed_pages(void)
{
    uint8_t *bytes = calloc(PAGES, PAGE);
    assert_non_null(bytes);
    for (size_t i = 0; i < PAGES; i++) {
        size_t from = i % 5 == 1 ? next_random() % PAGE : 0;
        size_t until = i % 5 == 2 ? next_random() % PAGE : PAGE;
        for (size_t at = i * PAGE + from; i % 7 != 3 && at < i * PAGE + until; at++) {
            bytes[at] = (uint8_t)next_random();
        }
    }
    return bytes;
}

static struct cap_hash plain_block(const uint8_t *data, size_t len)
{
    struct cap_hash chunks[PAGE / CAP_CHUNK_SIZE] = {0};
    memcpy(chunks, data, len);
    return plain_merkleize(chunks, PAGE / CAP_CHUNK_SIZE, CAP_BLOCK_DEPTH);
}

static void test_blocks(void **state)
{
    static const size_t lens[] = {0,
                                  1,
                                  63,
                                  PAGE - 1,
                                  PAGE,
                                  PAGE + 1,
                                  5 * PAGE,
                                  16 * PAGE,
                                  16 * PAGE + 7,
                                  17 * PAGE,
                                  32 * PAGE,
                                  37 * PAGE,
                                  36 * PAGE + 2049};
    (void)state;
    uint8_t *bytes = mixed_pages();
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint8_t *exact = test_exact_copy(bytes, lens[i]);
        size_t count = cap_block_count(lens[i]);
        struct cap_hash roots[PAGES + 1];
        memset(&roots[count], 0xaa, sizeof(roots[count]));
        cap_block_roots(exact, lens[i], roots);
        assert_int_equal(roots[count].bytes[0], 0xaa);
        for (size_t block = 0; block < count; block++) {
            size_t left = lens[i] - block * PAGE;
            struct cap_hash wanted = plain_block(exact + block * PAGE, left < PAGE ? left : PAGE);
            assert_hash_equal(&roots[block], &wanted);
        }
        free(exact);
    }
    free(bytes);
}

static void test_pages(void **state)
{
    (void)state;
    uint8_t *bytes = mixed_pages();
    for (size_t count = 0; count <= CAP_BLOCKS_TOGETHER; count++) {
        struct cap_bytes pages[CAP_BLOCKS_TOGETHER];
        struct cap_hash roots[CAP_BLOCKS_TOGETHER];
        uint32_t used[CAP_BLOCKS_TOGETHER];
        for (size_t i = 0; i < count; i++) {
            pages[i] = (struct cap_bytes){bytes + (count + i) * PAGE, next_random() % (PAGE + 1)};
        }
        cap_page_roots(pages, count, roots, used);
        for (size_t i = 0; i < count; i++) {
            struct cap_hash wanted;
            assert_int_equal(cap_page_root(pages[i].data, pages[i].len, &wanted), used[i]);
            assert_int_equal(cap_page_used(pages[i].data, pages[i].len), used[i]);
            assert_hash_equal(&roots[i], &wanted);
            if (used[i] > 0) {
                wanted = plain_block(pages[i].data, pages[i].len);
                assert_hash_equal(&roots[i], &wanted);
            }
        }
    }
    free(bytes);
}

/* Lists of any length, empty ones too, and more than are hashed at a time. */
static void test_lists(void **state)
{
    enum { LISTS = 500 };
    static struct cap_hash roots[LISTS];
    static struct cap_hash wanted[LISTS];
    struct cap_lists lists;
    (void)state;
    for (unsigned depth = 8; depth <= 32; depth += 8) {
        cap_lists_init(&lists, depth);
        for (size_t i = 0; i < LISTS; i++) {
            size_t count = i % 50 == 49 ? CAP_LISTS_NODES : next_random() % (i % 9 + 1);
            uint64_t len = next_random();
            struct cap_hash *nodes = cap_lists_add(&lists, count, len, &roots[i]);
            for (size_t n = 0; n < count; n++) {
                nodes[n] = numbered(i * 1000 + n);
            }
            wanted[i] = plain_merkleize(nodes, count, depth);
            cap_mix_in(&wanted[i], len, &wanted[i]);
        }
        cap_lists_finish(&lists);
        cap_lists_finish(&lists);
        assert_memory_equal(roots, wanted, sizeof(roots));
    }
}

static void test_containers(void **state)
{
    static struct cap_hash chunks[70 * 8];
    struct cap_hash wanted[70];
    struct cap_hash roots[70];
    (void)state;
    for (unsigned depth = 0; depth <= 3; depth++) {
        for (size_t count = 0; count <= 70; count += 7) {
            for (size_t i = 0; i < count << depth; i++) {
                chunks[i] = numbered(i * 3 + depth);
            }
            for (size_t i = 0; i < count; i++) {
                wanted[i] = plain_merkleize(&chunks[i << depth], (size_t)1 << depth, depth);
            }
            cap_merkleize_many(chunks, count, depth, roots);
            assert_memory_equal(roots, wanted, count * sizeof(roots[0]));
            assert_memory_equal(depth == 0 ? roots : chunks, wanted, count * sizeof(roots[0]));
        }
    }
}

/* --- Structures larger than one batch --------------------------------------------------------- */

#define ENTRIES 150u

/* A key that sorts as `i` does; some are too long to be hashed with others. */
static char *key_of(unsigned i, char ret_key[4000])
{
    size_t len = i % 31 == 7 ? 3000 : i % 11 * 40;
    int digits = snprintf(ret_key, 4000, "%04u", i);
    memset(ret_key + digits, 'k', len);
    ret_key[(size_t)digits + len] = '\0';
    return ret_key;
}

static void fill_path(struct node *source, unsigned i)
{
    char key[4000];
    for (unsigned step = 0; step <= i % CAP_MAX_SOURCE_DEPTH; step++) {
        node_add(source, test_key(key_of(i + step, key)));
    }
}

static void test_large_wire_image(void **state)
{
    struct test_image image = test_image_new();
    struct cap_hash hash = numbered(9);
    char key[4000];
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct node *registers = test_image_endpoint(&image, key_of(i, key), i);
        for (unsigned r = 0; r < i % 14; r++) {
            test_register(registers, (uint8_t)r, i * r);
        }
        fill_path(test_image_mapping(&image, i * 65536ull, 4096), i);
        if (i % 3 == 0) {
            test_image_pinned_image(&image, key_of(i, key), &hash);
        }
        struct node *pages = test_image_data(
            &image, i % 3 == 1 ? CAP_TABLE_PINNED : CAP_TABLE_INITIAL, key_of(i, key), 400 * PAGE);
        for (unsigned page = 0; page < (i % 29 == 5 ? 100 : i % 4); page++) {
            test_page(pages, page, page * 3, 5);
        }
        node_add(image.gas, test_key(key_of(i * 7 % 100, key)));
    }
    struct cap_hash wanted = node_root(image.root);
    struct cap_hash arena_root = node_root(image.arena);
    struct cap_buf bytes = node_encode(image.root, NULL);
    struct cap_wire_image view;
    assert_cap_ok(cap_wire_image_decode(cap_buf_bytes(&bytes), bytes.len, &view));
    assert_cap_ok(cap_wire_image_content_hash(&view, &arena_root, NULL, &hash));
    assert_hash_equal(&hash, &wanted);
    cap_buf_free(&bytes);
    test_image_free(&image);
}

static void test_large_image_cap(void **state)
{
    struct node *root = test_cap_node(NULL, 0);
    uint64_t regs[CAP_NUM_REGS];
    char key[4000];
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++) {
        for (unsigned r = 0; r < CAP_NUM_REGS; r++) {
            regs[r] = next_random();
        }
        test_cap_endpoint(root, key_of(i, key), i, regs);
        fill_path(test_cap_mapping(root, i * 65536ull, 4096), i);
        test_cap_slot(root, i % 2 == 0 ? PINNED : INITIAL, key_of(i, key), (uint8_t)i);
        node_add(root->children[QUOTA], test_key(key_of(i, key)));
    }
    struct cap_hash wanted = test_cap_hash(root);
    struct cap_buf body = test_cap_body(root, NULL);
    enum cap_kind kind;
    struct cap_hash hash;
    assert_cap_ok(cap_body_hash(cap_buf_bytes(&body), &kind, &hash));
    assert_hash_equal(&hash, &wanted);
    cap_buf_free(&body);
    node_free(root);
}

/* --- What is known of an arena's blocks ------------------------------------------------------- */

struct arena {
    uint8_t *bytes;
    struct cap_hash roots[PAGES];
    size_t reads;
    struct cap_source source;
};

static enum cap_error counted_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct arena *arena = ctx;
    arena->reads++;
    memcpy(dst, arena->bytes + offset, len);
    return CAP_OK;
}

/* An arena that ends within its last page. */
static void open_arena(struct arena *arena)
{
    arena->bytes = mixed_pages();
    arena->reads = 0;
    arena->source = (struct cap_source){.read = counted_read, .ctx = arena};
    cap_block_roots(arena->bytes, PAGES * PAGE - 100, arena->roots);
}

static struct cap_image convert(struct arena *arena, uint32_t code_off, uint32_t code_len)
{
    struct cap_wire_image wire;
    struct cap_image image;
    struct test_image tree = test_image_new();
    struct cap_buf bytes = node_encode(tree.root, NULL);
    assert_cap_ok(cap_wire_image_decode(cap_buf_bytes(&bytes), bytes.len, &wire));
    wire.code_off = code_off;
    wire.code_len = code_len;
    arena->reads = 0;
    assert_cap_ok(cap_image_from_wire(&wire, NULL, &arena->source, &image));
    cap_buf_free(&bytes);
    test_image_free(&tree);
    return image;
}

/* Code at a page of the arena takes the roots of its blocks, and reads only what is left over. */
static void test_code_of_known_blocks(void **state)
{
    static const struct {
        uint32_t off;
        uint32_t len;
        size_t reads;
    } rows[] = {
        {0, 0, 0},
        {0, 4096, 0},
        {4096, 20 * PAGE, 0},
        {3 * PAGE, 5 * PAGE + 17, 1},
        {2 * PAGE, 100, 1},
        {30 * PAGE, 6 * PAGE + PAGE - 100, 1},
        {4095, 3 * PAGE, 1},
    };
    struct arena arena;
    (void)state;
    open_arena(&arena);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        arena.source.block_roots = NULL;
        arena.source.block_count = 0;
        struct cap_image wanted = convert(&arena, rows[i].off, rows[i].len);
        arena.source.block_roots = arena.roots;
        arena.source.block_count = PAGES - 1;
        struct cap_image image = convert(&arena, rows[i].off, rows[i].len);
        assert_int_equal(arena.reads, rows[i].reads);
        assert_hash_equal(&image.hash, &wanted.hash);
        if (wanted.code_page_count > 0) {
            assert_memory_equal(image.code_roots, wanted.code_roots,
                                wanted.code_page_count * sizeof(struct cap_hash));
        }
        cap_image_free(&image);
        cap_image_free(&wanted);
    }
    free(arena.bytes);
}

/* A window that is a whole block has its root, one that is not has its own. */
static void test_windows_of_known_blocks(void **state)
{
    struct arena arena;
    struct cap_buf refs = {0};
    struct cap_data wanted;
    struct cap_data data;
    (void)state;
    open_arena(&arena);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint32_t off = i * PAGE - (i % 6 == 5);
        assert_cap_ok(cap_buf_append32(&refs, i));
        assert_cap_ok(cap_buf_append32(&refs, off));
        assert_cap_ok(cap_buf_append32(&refs, i % 4 == 2 || i == PAGES - 1 ? 1000 : PAGE));
    }
    struct cap_data_desc desc = {PAGES * PAGE, cap_buf_bytes(&refs), PAGES};
    assert_cap_ok(cap_data_from_desc(&desc, &arena.source, UINT64_MAX, NULL, &wanted));
    arena.source.block_roots = arena.roots;
    arena.source.block_count = PAGES - 1;
    assert_cap_ok(cap_data_from_desc(&desc, &arena.source, UINT64_MAX, NULL, &data));
    assert_hash_equal(&data.hash, &wanted.hash);
    assert_int_equal(data.body.len, wanted.body.len);
    cap_data_free(&data);
    cap_data_free(&wanted);

    /* It is taken as it is, not computed again. */
    struct cap_page_ref first = cap_page_ref_at(desc.pages, 0);
    assert_int_equal(first.len, PAGE);
    arena.roots[0] = numbered(1);
    assert_cap_ok(cap_data_from_desc(&desc, &arena.source, UINT64_MAX, NULL, &data));
    assert_hash_equal(&data.page_roots[0], &arena.roots[0]);
    cap_data_free(&data);
    cap_buf_free(&refs);
    free(arena.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_of_nodes),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_large_wire_image),
        cmocka_unit_test(test_large_image_cap),
        cmocka_unit_test(test_code_of_known_blocks),
        cmocka_unit_test(test_windows_of_known_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
