/*
 * Image caps against trees of nodes, which encode themselves and know their roots independently.
 */
#include "tests/unit/support.h"

#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/merkle.h"
#include "lib/cap/structure.h"
#include "tests/unit/cap/build_cap.h"

#define FULL_SLOTS                                                                                 \
    5u /* test_image_full has "code", "lib", "zero" pinned, "heap", "stack" initial */

/* Decodes from a buffer of the exact length; the view is gone with it. */
static enum cap_error decode(struct cap_bytes body, struct cap_hash *ret_hash)
{
    uint8_t *copy = test_exact_copy(body.data, body.len);
    struct cap_image_view view;
    enum cap_kind kind;
    enum cap_error error = cap_image_view_decode((struct cap_bytes){copy, body.len}, &view);
    if (error == CAP_OK) {
        assert_cap_ok(cap_body_hash((struct cap_bytes){copy, body.len}, &kind, ret_hash));
        assert_int_equal(kind, CAP_KIND_IMAGE);
    }
    free(copy);
    return error;
}

/* Decodes the tree's body, and frees the tree. */
static enum cap_error decode_tree(struct node *root)
{
    struct cap_hash hash;
    struct cap_buf body = test_cap_body(root, NULL);
    enum cap_error error = decode(cap_buf_bytes(&body), &hash);
    if (error == CAP_OK) {
        struct cap_hash wanted = test_cap_hash(root);
        assert_hash_equal(&hash, &wanted);
    }
    cap_buf_free(&body);
    node_free(root);
    return error;
}

/* --- Conversion ------------------------------------------------------------------------------- */

struct stream {
    struct cap_bytes bytes;
    unsigned reads;
    unsigned fail_at;
};

static enum cap_error stream_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct stream *stream = ctx;
    if (++stream->reads == stream->fail_at) {
        return CAP_E_IO;
    }
    assert_true(offset <= stream->bytes.len && len <= stream->bytes.len - offset);
    memcpy(dst, stream->bytes.data + offset, len);
    return CAP_OK;
}

static struct cap_wire_image accept(struct cap_bytes upload, struct cap_bytes *ret_arena)
{
    struct cap_wire_image wire;
    assert_cap_ok(cap_deblob(upload, upload.len, &wire, NULL));
    *ret_arena = cap_bytes_slice(upload, wire.head.len, (size_t)wire.arena_len);
    return wire;
}

/* The roots of the pages of code must be the leaves of the tree that has the code's root, and the
 * nodes that are kept be those of that tree.
 */
static void assert_code_roots(const struct cap_image *image, size_t code_len,
                              const struct cap_hash *code_root)
{
    struct cap_node_list list = {0};
    struct cap_nodes nodes;
    struct cap_tree tree;
    struct cap_hash root;
    assert_int_equal(image->code_page_count, (code_len + 4095) / 4096);
    assert_true((image->code_roots == NULL) == (code_len == 0));
    cap_tree_init(&tree, CAP_BLOCK_DEPTH);
    tree.ret_nodes = &list;
    for (size_t i = 0; i < image->code_page_count; i++) {
        cap_tree_add(&tree, i, &image->code_roots[i]);
    }
    cap_tree_end_nodes(&tree);
    assert_cap_ok(cap_node_list_finish(&list, &nodes));
    assert_memory_equal(&nodes.counts, &image->nodes.counts, sizeof(nodes.counts));
    assert_int_equal(nodes.counts.of[0], image->code_page_count > 256 ? 5 : 0);
    if (nodes.all != NULL) {
        assert_memory_equal(nodes.all, image->nodes.all,
                            (size_t)cap_node_total(&nodes.counts) * sizeof(*nodes.all));
    }
    free(nodes.all);
    cap_tree_root(&tree, 20, &root);
    cap_mix_in(&root, code_len, &root);
    assert_hash_equal(&root, code_root);
}

/* The same cap comes of its body. */
static void assert_rebuilt(const struct cap_image *image, struct cap_bytes body)
{
    struct cap_image rebuilt;
    struct cap_source source = cap_source_memory(&body);
    uint8_t *read = malloc(body.len);
    assert_non_null(read);
    struct cap_structure structure;
    assert_cap_ok(cap_structure_read(&source, body.len, body.len, &structure, NULL));
    assert_cap_ok(
        cap_image_from_body(&source, body.len, &structure.view, structure.code_len, &rebuilt));
    cap_structure_free(&structure);
    assert_hash_equal(&rebuilt.hash, &image->hash);
    assert_int_equal(rebuilt.code_page_count, image->code_page_count);
    if (image->code_page_count > 0) {
        assert_memory_equal(rebuilt.code_roots, image->code_roots,
                            image->code_page_count * sizeof(struct cap_hash));
    }
    assert_int_equal(rebuilt.body.len, body.len);
    assert_cap_ok(cap_body_read(&rebuilt.body, &source, 0, read, body.len));
    assert_memory_equal(read, body.data, body.len);
    cap_image_free(&rebuilt);
    free(read);
}

static void assert_image(const struct cap_image *image, const struct cap_source *arena,
                         const struct node *wanted)
{
    struct cap_hash hash = test_cap_hash(wanted);
    struct cap_buf body = test_cap_body(wanted, NULL);
    struct cap_buf read = {0};
    assert_hash_equal(&image->hash, &hash);
    assert_int_equal(image->body.len, body.len);
    assert_cap_ok(cap_buf_append_zeros(&read, body.len));
    assert_cap_ok(cap_body_read(&image->body, arena, 0, read.data, read.len));
    assert_memory_equal(read.data, body.data, body.len);
    struct cap_hash code_root = node_root(wanted->children[CODE]);
    assert_code_roots(image, wanted->children[CODE]->bytes.len, &code_root);
    assert_rebuilt(image, cap_buf_bytes(&body));
    cap_buf_free(&read);
    cap_buf_free(&body);
}

static void convert_full(const struct cap_wire_image *wire, const struct cap_source *arena)
{
    struct cap_hash hashes[FULL_SLOTS] = {{{1}}, {{2}}, {{3}}, {{4}}, {{5}}};
    struct cap_image image;
    struct node *wanted = test_cap_full();
    assert_int_equal(cap_wire_slot_count(wire), FULL_SLOTS);
    assert_cap_ok(cap_image_from_wire(wire, hashes, arena, &image));
    assert_image(&image, arena, wanted);
    node_free(wanted);
    cap_image_free(&image);
}

static void test_full(void **state)
{
    (void)state;
    struct test_image tree = test_image_full();
    struct cap_buf upload = node_encode(tree.root, NULL);
    struct cap_bytes arena;
    struct cap_wire_image wire = accept(cap_buf_bytes(&upload), &arena);
    struct cap_source memory = cap_source_memory(&arena);
    struct stream stream = {.bytes = arena};
    struct cap_source source = {.read = stream_read, .ctx = &stream};
    convert_full(&wire, &memory);
    convert_full(&wire, &source);

    stream = (struct stream){.bytes = arena, .fail_at = 1};
    struct cap_hash hashes[FULL_SLOTS] = {{{0}}};
    struct cap_image image = {0};
    assert_cap_error(cap_image_from_wire(&wire, hashes, &source, &image), CAP_E_IO);
    assert_null(image.body.segments);
    cap_image_free(NULL);
    cap_buf_free(&upload);
    test_image_free(&tree);
}

/* The empty Image reads nothing of its arena. */
static void test_empty(void **state)
{
    (void)state;
    struct test_image tree = test_image_new();
    struct cap_buf upload = node_encode(tree.root, NULL);
    struct cap_bytes arena;
    struct cap_wire_image wire = accept(cap_buf_bytes(&upload), &arena);
    struct cap_source none = {0};
    struct cap_image image;
    struct node *wanted = test_cap_node(NULL, 0);
    assert_cap_ok(cap_image_from_wire(&wire, NULL, &none, &image));
    assert_image(&image, &none, wanted);
    node_free(wanted);
    cap_image_free(&image);
    cap_buf_free(&upload);
    test_image_free(&tree);
}

/* Code longer than the pieces in which it is hashed, and around their ends. */
static void test_long_code(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {1,      4095,   4096,   4097,   262143,
                                       262144, 262145, 524288, 600001, 1100001};
    struct cap_buf code = {0};
    assert_cap_ok(cap_buf_append_zeros(&code, 1100003));
    for (size_t i = 0; i < code.len; i++) {
        code.data[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    struct test_image tree = test_image_new();
    struct cap_buf upload = node_encode(tree.root, NULL);
    struct cap_bytes no_arena;
    struct cap_wire_image wire = accept(cap_buf_bytes(&upload), &no_arena);
    struct stream stream = {.bytes = cap_buf_bytes(&code)};
    struct cap_source source = {.read = stream_read, .ctx = &stream};
    struct cap_source memory = cap_source_memory(&stream.bytes);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct cap_image image;
        struct node *wanted = test_cap_node(code.data + 2, lengths[i]);
        wire.code_off = 2;
        wire.code_len = lengths[i];
        stream.reads = 0;
        assert_cap_ok(cap_image_from_wire(&wire, NULL, &source, &image));
        assert_int_equal(stream.reads, (lengths[i] + 262143) / 262144);
        assert_image(&image, &source, wanted);
        cap_image_free(&image);
        assert_cap_ok(cap_image_from_wire(&wire, NULL, &memory, &image));
        assert_image(&image, &memory, wanted);
        cap_image_free(&image);
        node_free(wanted);
    }
    cap_buf_free(&upload);
    cap_buf_free(&code);
    test_image_free(&tree);
}

/* A page of zeros in the code is hashed as what it is: it is not a hole, unlike in a Data cap. */
static void test_zero_page_of_code(void **state)
{
    (void)state;
    struct test_image tree = test_image_new();
    struct cap_buf upload = node_encode(tree.root, NULL);
    struct cap_bytes no_arena;
    struct cap_wire_image wire = accept(cap_buf_bytes(&upload), &no_arena);
    uint8_t code[3 * 4096] = {0};
    code[2 * 4096] = 1;
    struct cap_bytes bytes = {code, sizeof(code)};
    struct cap_source memory = cap_source_memory(&bytes);
    struct cap_image image;
    wire.code_len = sizeof(code);
    assert_cap_ok(cap_image_from_wire(&wire, NULL, &memory, &image));
    assert_hash_equal(&image.code_roots[0], cap_zero_node(CAP_BLOCK_DEPTH));
    assert_hash_equal(&image.code_roots[1], cap_zero_node(CAP_BLOCK_DEPTH));
    assert_true(!cap_hash_equal(&image.code_roots[2], &image.code_roots[0]));
    cap_image_free(&image);
    cap_buf_free(&upload);
    test_image_free(&tree);
}

/* Offsets that leave 32 bits are an error before anything is read. */
static void test_offset_overflow(void **state)
{
    (void)state;
    struct test_image tree = test_image_full();
    struct cap_buf upload = node_encode(tree.root, NULL);
    struct cap_bytes arena;
    struct cap_wire_image wire = accept(cap_buf_bytes(&upload), &arena);
    struct cap_hash hashes[FULL_SLOTS] = {{{0}}};
    struct cap_source none = {0};
    struct cap_image image = {0};
    wire.code_len = UINT32_MAX;
    assert_cap_error(cap_image_from_wire(&wire, hashes, &none, &image), CAP_E_BODY_TOO_LARGE);
    cap_buf_free(&upload);
    test_image_free(&tree);
}

/* --- Decoding --------------------------------------------------------------------------------- */

static void test_decode_full(void **state)
{
    (void)state;
    assert_cap_ok(decode_tree(test_cap_full()));
    assert_cap_ok(decode_tree(test_cap_node(NULL, 0)));
}

static void test_decode_values(void **state)
{
    (void)state;
    struct node *root = test_cap_full();
    struct cap_buf body = test_cap_body(root, NULL);
    struct cap_image_view view;
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    assert_int_equal(view.code.len, 500);
    assert_int_equal(view.endpoints.count, 3);
    struct cap_endpoint endpoint;
    cap_image_endpoint_at(&view, 1, &endpoint);
    assert_memory_equal(endpoint.key.data, "a", 1);
    assert_int_equal(endpoint.key.len, 1);
    assert_int_equal(endpoint.entry_pc, 16);
    assert_int_equal(endpoint.stack_top, 0x20000000);
    assert_int_equal(endpoint.arg_cnode_size, 2);
    assert_true(endpoint.initial_regs[0] == UINT64_MAX);
    assert_int_equal(endpoint.initial_regs[12], 7);
    assert_true(view.has_yield_receiver);
    assert_memory_equal(view.yield_receiver_slot.data, "yield", 5);
    assert_int_equal(view.gas_slots.count, 2);
    assert_int_equal(view.quota_slots.count, 2);
    struct cap_slot slot;
    cap_image_slot_at(&view.initial, 1, &slot);
    assert_memory_equal(slot.key.data, "stack", 5);
    assert_int_equal(slot.cap_hash.bytes[0], 5);
    cap_buf_free(&body);
    node_free(root);
}

static void set_byte(struct node *root, const size_t *path, size_t depth, uint8_t value)
{
    struct node *node = root;
    for (size_t i = 0; i < depth; i++) {
        node = node->children[path[i]];
    }
    node->bytes.data[0] = value;
}

/* What no conversion makes, though it is good SSZ. */
static void test_not_converted(void **state)
{
    (void)state;
    const uint64_t regs[CAP_NUM_REGS] = {0};
    static const size_t stack_top[] = {ENDPOINTS, 1, 1, 1};
    static const size_t register_1[] = {ENDPOINTS, 1, 1, 4, 0};
    static const size_t arg_slot[] = {ENDPOINTS, 2, 1, 2};

    struct node *root = test_cap_full();
    set_byte(root, stack_top, 4, 9);
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    set_byte(root, register_1, 5, 9); /* register 0 may be anything */
    assert_cap_ok(decode_tree(root));
    root = test_cap_full();
    root->children[ENDPOINTS]->children[1]->children[1]->children[4]->children[0]->bytes.data[8] =
        1;
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    set_byte(root, arg_slot, 4, 1);
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    root->children[ENDPOINTS]->children[2]->children[1]->children[2]->bytes.len = 0;
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    assert_cap_ok(cap_buf_append8(
        &root->children[ENDPOINTS]->children[2]->children[1]->children[2]->bytes, 0));
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    test_cap_endpoint(root, "ab", 1, regs);
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    test_cap_endpoint(root, "aa", 1, regs);
    assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
    root = test_cap_full();
    test_cap_endpoint(root, "ab!", 1, regs);
    assert_cap_ok(decode_tree(root));
}

static void test_slot_order(void **state)
{
    (void)state;
    for (enum field table = PINNED; table <= INITIAL; table++) {
        static const char *const bad[] = {"s", "st", "stack", "", "lib", "code"};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            struct node *root = test_cap_full();
            test_cap_slot(root, table, "zz", 6);
            test_cap_slot(root, table, bad[i], 7);
            assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
        }
        struct node *root = test_cap_full();
        test_cap_slot(root, table, "zz", 6);
        test_cap_slot(root, table, "zz", 6);
        assert_cap_error(decode_tree(root), CAP_E_BODY_NOT_CANONICAL);
        root = test_cap_full();
        test_cap_slot(root, table, "zz", 6);
        test_cap_slot(root, table, "zza", 7);
        assert_cap_ok(decode_tree(root));
    }
}

static void test_paths(void **state)
{
    (void)state;
    for (size_t steps = 0; steps <= CAP_MAX_SOURCE_DEPTH + 2; steps++) {
        struct node *root = test_cap_full();
        struct node *path = test_cap_mapping(root, 1, 1);
        for (size_t i = 0; i < steps; i++) {
            node_add(path, test_key(i % 2 ? "" : "step"));
        }
        bool good = steps >= 1 && steps <= CAP_MAX_SOURCE_DEPTH;
        assert_cap_error(decode_tree(root), good ? CAP_OK : CAP_E_BODY_NOT_CANONICAL);
    }
}

/* Code at the limit, and one byte more: the body is address space, hardly memory. */
static void test_code_limit(void **state)
{
    (void)state;
    for (size_t more = 0; more <= 1; more++) {
        struct node *root = test_cap_node(NULL, 0);
        struct cap_buf empty = test_cap_body(root, NULL);
        size_t code_len = CAP_MAX_CODE_SIZE + more;
        uint8_t *body = calloc(1, empty.len + code_len);
        assert_non_null(body);
        memcpy(body, empty.data, 33);
        for (size_t at = 5; at < 33; at += 4) {
            cap_store32(body + at, cap_load32(body + at) + (uint32_t)code_len);
        }
        memcpy(body + 33 + code_len, empty.data + 33, empty.len - 33);
        struct cap_image_view view;
        enum cap_error error =
            cap_image_view_decode((struct cap_bytes){body, empty.len + code_len}, &view);
        assert_cap_error(error, more ? CAP_E_BODY_NOT_CANONICAL : CAP_OK);
        free(body);
        cap_buf_free(&empty);
        node_free(root);
    }
}

static void test_selectors_and_lengths(void **state)
{
    (void)state;
    struct node *root = test_cap_full();
    struct cap_buf body = test_cap_body(root, NULL);
    struct cap_hash hash;
    struct cap_image_view view;
    enum cap_kind kind;
    for (unsigned selector = 0; selector < 256; selector++) {
        body.data[0] = (uint8_t)selector;
        enum cap_error wanted = selector == 1 ? CAP_OK : CAP_E_BODY_NOT_CANONICAL;
        assert_cap_error(cap_image_view_decode(cap_buf_bytes(&body), &view), wanted);
        assert_cap_error(cap_body_hash(cap_buf_bytes(&body), &kind, &hash), wanted);
    }
    body.data[0] = 1;
    for (size_t len = 0; len < body.len; len++) {
        struct cap_bytes cut = {body.data, len};
        /* The last field, 9 bytes, may as well be empty, or its last key be one byte shorter. */
        bool good = len == body.len - 9 || len == body.len - 1;
        assert_cap_error(decode(cut, &hash), good ? CAP_OK : CAP_E_BODY_NOT_CANONICAL);
    }
    cap_buf_free(&body);
    node_free(root);
}

/* Whether a fault of this kind at this node can only break the encoding. */
static bool always_breaks(const struct node *node, const struct fault *fault)
{
    if (fault->kind == FAULT_GAP) {
        return (node->shape == SHAPE_CONTAINER || node->shape == SHAPE_LIST) && node->count;
    }
    if (fault->kind == FAULT_OFFSET_SET || fault->kind == FAULT_OFFSET_ADD) {
        return node->shape == SHAPE_CONTAINER && fault->which == 0 && node_variable(node);
    }
    return fault->kind == FAULT_SELECTOR && node->shape == SHAPE_UNION;
}

/* A fault at every depth: refused, or the encoding of another cap with another hash. */
static void test_faults(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {FAULT_OFFSET_SET, 0, 0, 0},
        {FAULT_OFFSET_SET, 0, 0, 1},
        {FAULT_OFFSET_SET, 0, 0, UINT32_MAX},
        {FAULT_OFFSET_SET, 0, 0, 0x80000000},
        {FAULT_OFFSET_SET, 0, 1, 0},
        {FAULT_OFFSET_SET, 0, 1, UINT32_MAX},
        {FAULT_OFFSET_ADD, 0, 0, 1},
        {FAULT_OFFSET_ADD, 0, 0, UINT32_MAX},
        {FAULT_OFFSET_ADD, 0, 0, 4},
        {FAULT_OFFSET_ADD, 0, 0, UINT32_MAX - 3},
        {FAULT_OFFSET_ADD, 0, 1, 1},
        {FAULT_OFFSET_ADD, 0, 2, UINT32_MAX},
        {FAULT_GAP, 0, 0, 1},
        {FAULT_GAP, 0, 0, 4},
        {FAULT_TRAILING, 0, 0, 1},
        {FAULT_TRUNCATED, 0, 0, 1},
        {FAULT_SELECTOR, 0, 0, 2},
        {FAULT_SELECTOR, 0, 0, 127},
        {FAULT_SELECTOR, 0, 0, 128},
        {FAULT_SELECTOR, 0, 0, 255},
        {FAULT_SELECTOR, 0, 0, 0},
    };
    struct node *root = test_cap_full();
    struct cap_buf good = test_cap_body(root, NULL);
    struct cap_hash good_hash = test_cap_hash(root);
    size_t broken = 0;
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        for (size_t node = 0; node < node_total(root); node++) {
            struct fault fault = faults[i];
            struct cap_hash hash;
            fault.node = node;
            struct cap_buf body = test_cap_body(root, &fault);
            bool same = body.len == good.len && memcmp(body.data, good.data, good.len) == 0;
            enum cap_error error = decode(cap_buf_bytes(&body), &hash);
            if (!same && (error != CAP_OK || always_breaks(node_at(root, node), &fault))) {
                assert_cap_error(error, CAP_E_BODY_NOT_CANONICAL);
                broken++;
            } else {
                assert_int_equal(cap_hash_equal(&hash, &good_hash), same);
            }
            cap_buf_free(&body);
        }
    }
    assert_true(broken > node_total(root));
    cap_buf_free(&good);
    node_free(root);
}

/* --- A runtime's questions -------------------------------------------------------------------- */

static void test_questions(void **state)
{
    (void)state;
    struct node *root = test_cap_full();
    node_add(test_cap_mapping(root, 0x30000000, 1), test_key("nowhere"));
    node_add(test_cap_mapping(root, 0x20000000, 1), test_key("code"));
    node_add(test_cap_mapping(root, UINT64_C(0x140000000), 1), test_key("lib"));
    node_add(test_cap_mapping(root, UINT64_C(0x250000000), 1), test_key("nowhere"));
    struct cap_buf body = test_cap_body(root, NULL);
    struct cap_image_view view;
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));

    uint64_t address;
    struct cap_bytes code;
    assert_true(cap_image_code_mapping(&view, &address, &code));
    assert_int_equal(address, 0x00400000);
    assert_int_equal(code.len, 500);
    assert_ptr_equal(code.data, view.code.data);

    bool read_only = false;
    assert_cap_ok(cap_image_mapping_read_only(&view, 0x10000000, &read_only));
    assert_true(read_only);
    /* Two mappings start here, and the second one is pinned. */
    read_only = false;
    assert_cap_ok(cap_image_mapping_read_only(&view, 0x20000000, &read_only));
    assert_true(read_only);
    /* Addresses count modulo 2^32, those that are asked for included. */
    read_only = false;
    assert_cap_ok(cap_image_mapping_read_only(&view, 0x40000000, &read_only));
    assert_true(read_only);
    assert_cap_ok(cap_image_mapping_read_only(&view, UINT64_C(0x150000000), &read_only));
    assert_false(read_only);
    read_only = true;
    assert_cap_ok(cap_image_mapping_read_only(&view, 0x30000000, &read_only));
    assert_false(read_only);
    assert_cap_error(cap_image_mapping_read_only(&view, 0x10000001, &read_only), CAP_E_NOT_FOUND);
    cap_buf_free(&body);
    node_free(root);
}

static void test_slot_find(void **state)
{
    (void)state;
    struct node *root = test_cap_node(NULL, 0);
    char key[2] = "";
    for (int letter = 'b'; letter <= 'z'; letter += 2) {
        key[0] = (char)letter;
        test_cap_slot(root, PINNED, key, (uint8_t)letter);
    }
    struct cap_buf body = test_cap_body(root, NULL);
    struct cap_image_view view;
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    for (int letter = 'a'; letter <= 'z'; letter++) {
        uint8_t c = (uint8_t)letter;
        struct cap_slot slot;
        struct cap_bytes wanted = {&c, 1};
        bool there = (letter - 'a') % 2;
        assert_int_equal(cap_image_slot_find(&view.pinned, wanted, &slot), there);
        assert_true(!there || slot.cap_hash.bytes[0] == c);
        assert_false(cap_image_slot_find(&view.initial, wanted, &slot));
        wanted.len = 0;
        assert_false(cap_image_slot_find(&view.pinned, wanted, &slot));
    }
    cap_buf_free(&body);
    node_free(root);
}

static void test_code_load(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 4095, 4096, 4097, 8192};
    uint8_t bytes[8192];
    memset(bytes, 0xee, sizeof(bytes));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct cap_image_view view = {.code = {bytes, lengths[i]}};
        struct cap_code code;
        assert_cap_ok(cap_code_load(&view, &code));
        assert_int_equal(code.len, lengths[i]);
        assert_int_equal(code.mapped_len, (lengths[i] + 4095) / 4096 * 4096);
        assert_int_equal((uintptr_t)code.data % 4096, 0);
        assert_int_equal(code.data == NULL, lengths[i] == 0);
        for (size_t k = 0; k < code.mapped_len; k++) {
            assert_int_equal(code.data[k], k < lengths[i] ? 0xee : 0);
        }
        cap_code_free(&code);
        assert_null(code.data);
    }
    struct cap_image_view none = {0};
    uint64_t address = 7;
    struct cap_bytes code;
    assert_false(cap_image_code_mapping(&none, &address, &code));
    assert_int_equal(address, 7);
    cap_code_free(NULL);
}

static void test_body_hash(void **state)
{
    (void)state;
    static const uint8_t zero_cap[] = {2, 0, 16, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0};
    struct cap_hash hash;
    enum cap_kind kind;
    assert_cap_ok(cap_body_hash((struct cap_bytes){zero_cap, sizeof(zero_cap)}, &kind, &hash));
    assert_int_equal(kind, CAP_KIND_DATA);
    struct cap_hash wanted = cap_chunk64(4096);
    cap_hash_pair(&wanted, cap_zero_node(0), &wanted);
    cap_mix_in(&wanted, 2, &wanted);
    assert_hash_equal(&hash, &wanted);
    struct node *root = test_cap_full();
    struct cap_buf body = test_cap_body(root, NULL);
    assert_cap_ok(cap_body_hash(cap_buf_bytes(&body), &kind, &hash));
    assert_int_equal(kind, CAP_KIND_IMAGE);
    wanted = test_cap_hash(root);
    assert_hash_equal(&hash, &wanted);
    assert_cap_error(cap_body_hash((struct cap_bytes){NULL, 0}, &kind, &hash),
                     CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&body);
    node_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_long_code),
        cmocka_unit_test(test_zero_page_of_code),
        cmocka_unit_test(test_offset_overflow),
        cmocka_unit_test(test_decode_full),
        cmocka_unit_test(test_decode_values),
        cmocka_unit_test(test_not_converted),
        cmocka_unit_test(test_slot_order),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_code_limit),
        cmocka_unit_test(test_selectors_and_lengths),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_slot_find),
        cmocka_unit_test(test_code_load),
        cmocka_unit_test(test_body_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
