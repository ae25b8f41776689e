#include "tests/unit/cap/build_cap.h"

#include "lib/cap/merkle.h"
#include "tests/unit/support.h"

struct node *test_cap_node(const void *code, size_t code_len)
{
    struct node *root = node_container();
    node_add(root, node_bytes(code, code_len));
    for (int field = ENDPOINTS; field < FIELDS; field++) {
        node_add(root, field == YIELD ? node_union(0, NULL) : node_list());
    }
    return root;
}

/* Vector[uint64, 13]: packed, four chunks of which the last one is cut. */
static struct node *registers_node(const uint64_t regs[CAP_NUM_REGS])
{
    struct node *vector = node_container();
    for (size_t chunk = 0; chunk < 3; chunk++) {
        struct cap_hash packed;
        for (size_t i = 0; i < 4; i++) {
            cap_store64(packed.bytes + 8 * i, regs[4 * chunk + i]);
        }
        node_add(vector, node_hash(&packed));
    }
    return node_add(vector, node_int(regs[12], 8));
}

static struct node *entry(const char *key, struct node *value)
{
    return node_add(node_add(node_container(), test_key(key)), value);
}

void test_cap_endpoint(struct node *root, const char *key, uint64_t entry_pc,
                       const uint64_t regs[CAP_NUM_REGS])
{
    struct node *endpoint = node_container();
    node_add(endpoint, node_int(entry_pc, 8));
    node_add(endpoint, node_int(regs[1], 8));
    node_add(endpoint, node_bytes("", 1));
    node_add(endpoint, node_int(2, 1));
    node_add(endpoint, registers_node(regs));
    node_add(root->children[ENDPOINTS], entry(key, endpoint));
}

struct node *test_cap_mapping(struct node *root, uint64_t start, uint64_t size)
{
    struct node *path = node_list();
    struct node *mapping = node_container();
    node_add(node_add(node_add(mapping, node_int(start, 8)), node_int(size, 8)), path);
    node_add(root->children[MAPPINGS], mapping);
    return path;
}

void test_cap_slot(struct node *root, enum field table, const char *key, uint8_t mark)
{
    struct cap_hash hash = {{mark}};
    node_add(root->children[table], entry(key, node_hash(&hash)));
}

struct node *test_cap_full(void)
{
    uint8_t code[500];
    for (size_t i = 0; i < sizeof(code); i++) {
        code[i] = (uint8_t)((4500 + i) * 7 + 1);
    }
    const uint64_t none[CAP_NUM_REGS] = {0};
    const uint64_t some[CAP_NUM_REGS] = {UINT64_MAX, 0x20000000, [12] = 7};
    struct node *root = test_cap_node(code, sizeof(code));
    test_cap_endpoint(root, "", 0, none);
    test_cap_endpoint(root, "a", 16, some);
    test_cap_endpoint(root, "ab", 499, none);
    node_add(test_cap_mapping(root, 0x10000000, 0x2000), test_key("code"));
    struct node *path = test_cap_mapping(root, 0x20000000, 0x1000);
    node_add(node_add(node_add(path, test_key("heap")), test_key("")), test_key("deeper"));
    test_cap_slot(root, PINNED, "code", 1);
    test_cap_slot(root, PINNED, "lib", 2);
    test_cap_slot(root, PINNED, "zero", 3);
    test_cap_slot(root, INITIAL, "heap", 4);
    test_cap_slot(root, INITIAL, "stack", 5);
    root->children[YIELD]->selector = 1;
    node_add(root->children[YIELD], test_key("yield"));
    node_add(node_add(root->children[GAS], test_key("g2")), test_key("g1"));
    node_add(node_add(root->children[QUOTA], test_key("")), test_key("q"));
    return root;
}

struct cap_buf test_cap_body(const struct node *root, const struct fault *fault)
{
    struct cap_buf payload = node_encode(root, fault);
    struct cap_buf body = {0};
    assert_cap_ok(cap_buf_append8(&body, 1));
    if (payload.len) {
        assert_cap_ok(cap_buf_append(&body, payload.data, payload.len));
    }
    cap_buf_free(&payload);
    return body;
}

struct cap_hash test_cap_hash(const struct node *root)
{
    struct cap_hash hash = node_root(root);
    cap_mix_in(&hash, 1, &hash);
    return hash;
}
