#include "tests/unit/cap/build_image.h"

#include <stdlib.h>

#include "lib/cap/merkle.h"

#define LIST_DEPTH      32u
#define BYTE_LIST_DEPTH 27u

static void require(bool good)
{
    if (!good) {
        abort();
    }
}

static void put(struct cap_buf *buf, const void *data, size_t len)
{
    require(cap_buf_append(buf, data, len) == CAP_OK);
}

static struct node *node_new(enum shape shape)
{
    struct node *node = calloc(1, sizeof(*node));
    require(node != NULL);
    node->shape = shape;
    return node;
}

struct node *node_int(uint64_t value, size_t size)
{
    struct node *node = node_new(SHAPE_FIXED);
    uint8_t bytes[8];
    cap_store64(bytes, value);
    put(&node->bytes, bytes, size);
    return node;
}

struct node *node_bytes(const void *data, size_t len)
{
    struct node *node = node_new(SHAPE_BYTE_LIST);
    put(&node->bytes, data, len);
    return node;
}

struct node *node_hash(const struct cap_hash *hash)
{
    struct node *node = node_new(SHAPE_FIXED);
    put(&node->bytes, hash->bytes, CAP_HASH_SIZE);
    return node;
}

struct node *node_container(void)
{
    return node_new(SHAPE_CONTAINER);
}

struct node *node_list(void)
{
    return node_new(SHAPE_LIST);
}

struct node *node_union(uint8_t selector, struct node *value)
{
    struct node *node = node_new(SHAPE_UNION);
    node->selector = selector;
    if (value != NULL) {
        node_add(node, value);
    }
    return node;
}

struct node *node_add(struct node *parent, struct node *child)
{
    struct node **children =
        realloc(parent->children, (parent->count + 1) * sizeof(parent->children[0]));
    require(children != NULL);
    parent->children = children;
    parent->children[parent->count++] = child;
    return parent;
}

void node_free(struct node *node)
{
    if (node == NULL) {
        return;
    }
    for (size_t i = 0; i < node->count; i++) {
        node_free(node->children[i]);
    }
    free(node->children);
    cap_buf_free(&node->bytes);
    free(node);
}

bool node_variable(const struct node *node)
{
    if (node->shape != SHAPE_CONTAINER) {
        return node->shape != SHAPE_FIXED;
    }
    for (size_t i = 0; i < node->count; i++) {
        if (node_variable(node->children[i])) {
            return true;
        }
    }
    return false;
}

size_t node_total(const struct node *node)
{
    size_t total = 1;
    for (size_t i = 0; i < node->count; i++) {
        total += node_total(node->children[i]);
    }
    return total;
}

const struct node *node_at(const struct node *node, size_t index)
{
    if (index == 0) {
        return node;
    }
    index--;
    for (size_t i = 0; i < node->count; i++) {
        size_t total = node_total(node->children[i]);
        if (index < total) {
            return node_at(node->children[i], index);
        }
        index -= total;
    }
    abort();
}

static struct cap_buf encode(const struct node *node, const struct fault *fault, size_t *position);

/* A container or a list: the fixed part with its offsets, then what they lead to. */
static void encode_parts(const struct node *node, const struct fault *fault, bool here,
                         size_t *position, struct cap_buf *out)
{
    struct cap_buf payload = {0};
    uint32_t fixed = 0;
    size_t offset_number = 0;
    for (size_t i = 0; i < node->count; i++) {
        const struct node *child = node->children[i];
        struct cap_buf plain = node_encode(child, NULL);
        fixed += node_variable(child) ? 4 : (uint32_t)plain.len;
        cap_buf_free(&plain);
    }
    uint32_t gap = here && fault->kind == FAULT_GAP ? fault->value : 0;
    for (size_t i = 0; i < node->count; i++) {
        struct cap_buf child = encode(node->children[i], fault, position);
        if (!node_variable(node->children[i])) {
            put(out, child.data, child.len);
            cap_buf_free(&child);
            continue;
        }
        uint32_t offset = fixed + gap + (uint32_t)payload.len;
        if (here && offset_number == fault->which && fault->kind == FAULT_OFFSET_SET) {
            offset = fault->value;
        }
        if (here && offset_number == fault->which && fault->kind == FAULT_OFFSET_ADD) {
            offset += fault->value;
        }
        offset_number++;
        require(cap_buf_append32(out, offset) == CAP_OK);
        put(&payload, child.data, child.len);
        cap_buf_free(&child);
    }
    require(cap_buf_append_zeros(out, gap) == CAP_OK);
    put(out, payload.data, payload.len);
    cap_buf_free(&payload);
}

static void encode_union(const struct node *node, const struct fault *fault, bool here,
                         size_t *position, struct cap_buf *out)
{
    uint8_t selector = node->selector;
    if (here && fault->kind == FAULT_SELECTOR) {
        selector = (uint8_t)fault->value;
    }
    put(out, &selector, 1);
    if (node->count > 0) {
        struct cap_buf child = encode(node->children[0], fault, position);
        put(out, child.data, child.len);
        cap_buf_free(&child);
    }
}

/* `position` counts nodes in pre-order. */
static struct cap_buf encode(const struct node *node, const struct fault *fault, size_t *position)
{
    bool here = fault != NULL && fault->node == *position;
    struct cap_buf out = {0};
    ++*position;
    switch (node->shape) {
    case SHAPE_FIXED:
    case SHAPE_BYTE_LIST:
        put(&out, node->bytes.data, node->bytes.len);
        break;
    case SHAPE_CONTAINER:
    case SHAPE_LIST:
        encode_parts(node, fault, here, position, &out);
        break;
    case SHAPE_UNION:
        encode_union(node, fault, here, position, &out);
        break;
    }
    if (here && fault->kind == FAULT_TRAILING) {
        require(cap_buf_append_zeros(&out, fault->value) == CAP_OK);
    }
    if (here && fault->kind == FAULT_TRUNCATED) {
        out.len -= fault->value < out.len ? fault->value : out.len;
    }
    return out;
}

struct cap_buf node_encode(const struct node *node, const struct fault *fault)
{
    size_t position = 0;
    return encode(node, fault, &position);
}

struct cap_hash plain_zero(unsigned depth)
{
    static struct cap_hash zeros[65];
    static unsigned known; /* zeros[0 .. known] are computed */

    for (; known < depth; known++) {
        cap_hash_pair(&zeros[known], &zeros[known], &zeros[known + 1]);
    }
    return zeros[depth];
}

struct cap_hash plain_merkleize(const struct cap_hash *chunks, size_t count, unsigned depth)
{
    if (count == 0) {
        return plain_zero(depth);
    }
    if (depth == 0) {
        return chunks[0];
    }
    size_t half = depth > 31 ? count : (size_t)1 << (depth - 1);
    size_t in_left = count < half ? count : half;
    struct cap_hash left = plain_merkleize(chunks, in_left, depth - 1);
    struct cap_hash right = plain_merkleize(chunks + in_left, count - in_left, depth - 1);
    cap_hash_pair(&left, &right, &left);
    return left;
}

static struct cap_hash mixed(struct cap_hash root, uint64_t value)
{
    struct cap_hash chunk = {{0}};
    cap_store64(chunk.bytes, value);
    cap_hash_pair(&root, &chunk, &root);
    return root;
}

static unsigned container_depth(size_t count)
{
    unsigned depth = 0;
    while ((size_t)1 << depth < count) {
        depth++;
    }
    return depth;
}

struct cap_hash node_root(const struct node *node)
{
    size_t bytes_chunks = (node->bytes.len + CAP_HASH_SIZE - 1) / CAP_HASH_SIZE;
    size_t count = node->shape == SHAPE_BYTE_LIST ? bytes_chunks : node->count;
    struct cap_hash *chunks = calloc(count + 1, sizeof(*chunks));
    struct cap_hash root = {{0}};
    require(chunks != NULL);
    for (size_t i = 0; i < node->count; i++) {
        chunks[i] = node_root(node->children[i]);
    }
    switch (node->shape) {
    case SHAPE_FIXED:
        memcpy(root.bytes, node->bytes.data, node->bytes.len);
        break;
    case SHAPE_BYTE_LIST:
        if (node->bytes.len > 0) {
            memcpy(chunks, node->bytes.data, node->bytes.len);
        }
        root = mixed(plain_merkleize(chunks, count, BYTE_LIST_DEPTH), node->bytes.len);
        break;
    case SHAPE_CONTAINER:
        root = plain_merkleize(chunks, count, container_depth(count));
        break;
    case SHAPE_LIST:
        root = mixed(plain_merkleize(chunks, count, LIST_DEPTH), count);
        break;
    case SHAPE_UNION:
        root = mixed(chunks[0], node->selector);
        break;
    }
    free(chunks);
    return root;
}

struct test_image test_image_new(void)
{
    struct test_image image = {
        .root = node_container(),
        .code = node_container(),
        .endpoints = node_list(),
        .mappings = node_list(),
        .pinned = node_list(),
        .initial = node_list(),
        .yield_receiver = node_union(0, NULL),
        .gas = node_list(),
        .quota = node_list(),
        .arena = node_bytes(NULL, 0),
    };
    struct node *const fields[] = {image.code,   image.endpoints, image.mappings,
                                   image.pinned, image.initial,   image.yield_receiver,
                                   image.gas,    image.quota,     image.arena};
    node_add(node_add(image.code, node_int(0, 4)), node_int(0, 4));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        node_add(image.root, fields[i]);
    }
    return image;
}

void test_image_free(struct test_image *image)
{
    node_free(image->root);
    *image = (struct test_image){0};
}

struct node *test_key(const char *key)
{
    return node_bytes(key, strlen(key));
}

void test_image_set_code(struct test_image *image, uint32_t off, uint32_t len)
{
    cap_store32(image->code->children[0]->bytes.data, off);
    cap_store32(image->code->children[1]->bytes.data, len);
}

void test_image_set_arena(struct test_image *image, const void *data, size_t len)
{
    image->arena->bytes.len = 0;
    put(&image->arena->bytes, data, len);
}

void test_image_set_yield_receiver(struct test_image *image, const char *key)
{
    image->yield_receiver->selector = 1;
    node_add(image->yield_receiver, test_key(key));
}

static void add_entry(struct node *map, struct node *key, struct node *value)
{
    node_add(map, node_add(node_add(node_container(), key), value));
}

struct node *test_image_endpoint(struct test_image *image, const char *key, uint64_t entry_pc)
{
    struct node *endpoint = node_container();
    struct node *registers = node_list();
    node_add(node_add(endpoint, node_int(entry_pc, 8)), node_int(1, 1));
    node_add(node_add(endpoint, node_int(2, 1)), registers);
    add_entry(image->endpoints, test_key(key), endpoint);
    return registers;
}

void test_register(struct node *registers, uint8_t index, uint64_t value)
{
    node_add(registers,
             node_add(node_add(node_container(), node_int(index, 1)), node_int(value, 8)));
}

struct node *test_image_mapping(struct test_image *image, uint64_t start, uint64_t size)
{
    struct node *mapping = node_container();
    struct node *source = node_list();
    node_add(node_add(node_add(mapping, node_int(start, 8)), node_int(size, 8)), source);
    node_add(image->mappings, mapping);
    return source;
}

static struct node *desc_node(uint64_t size, struct node *pages)
{
    return node_add(node_add(node_container(), node_int(size, 8)), pages);
}

struct node *test_image_data(struct test_image *image, enum cap_table table, const char *key,
                             uint64_t size)
{
    struct node *pages = node_list();
    struct node *desc = desc_node(size, pages);
    if (table == CAP_TABLE_PINNED) {
        add_entry(image->pinned, test_key(key), node_union(0, node_add(node_container(), desc)));
    } else {
        add_entry(image->initial, test_key(key), desc);
    }
    return pages;
}

void test_page(struct node *pages, uint32_t page_index, uint32_t arena_off, uint32_t len)
{
    struct node *page = node_container();
    node_add(node_add(node_add(page, node_int(page_index, 4)), node_int(arena_off, 4)),
             node_int(len, 4));
    node_add(pages, page);
}

void test_image_pinned_image(struct test_image *image, const char *key, const struct cap_hash *hash)
{
    add_entry(image->pinned, test_key(key),
              node_union(1, node_add(node_container(), node_hash(hash))));
}

struct test_image test_image_full(void)
{
    struct test_image image = test_image_new();
    struct cap_hash hash = {{1, 2, 3}};
    uint8_t arena[5000];
    for (size_t i = 0; i < sizeof(arena); i++) {
        arena[i] = (uint8_t)(i * 7 + 1);
    }
    test_image_set_arena(&image, arena, sizeof(arena));
    test_image_set_code(&image, 4500, 500);
    test_image_endpoint(&image, "", 0);
    struct node *list = test_image_endpoint(&image, "a", 16);
    test_register(list, 0, UINT64_MAX);
    test_register(list, 1, 0x20000000);
    test_register(list, 12, 7);
    test_image_endpoint(&image, "ab", 499);
    list = test_image_mapping(&image, 0x10000000, 0x2000);
    node_add(list, test_key("code"));
    list = test_image_mapping(&image, 0x20000000, 0x1000);
    node_add(node_add(node_add(list, test_key("heap")), test_key("")), test_key("deeper"));
    list = test_image_data(&image, CAP_TABLE_PINNED, "code", 0x2000);
    test_page(list, 0, 0, 4096);
    test_page(list, 1, 4096, 404);
    test_image_pinned_image(&image, "lib", &hash);
    test_image_data(&image, CAP_TABLE_PINNED, "zero", 0);
    list = test_image_data(&image, CAP_TABLE_INITIAL, "heap", UINT64_MAX - 4095);
    test_page(list, UINT32_MAX, 10, 1);
    test_image_data(&image, CAP_TABLE_INITIAL, "stack", 0x4000);
    test_image_set_yield_receiver(&image, "yield");
    node_add(node_add(image.gas, test_key("g2")), test_key("g1"));
    node_add(node_add(image.quota, test_key("")), test_key("q"));
    return image;
}

static struct node *bytes_node(struct cap_bytes bytes)
{
    return node_bytes(bytes.data, bytes.len);
}

static void add_keys(struct node *list, const struct cap_ssz_list *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        node_add(list, bytes_node(cap_ssz_list_at(keys, i)));
    }
}

static void add_endpoint_of(struct node *endpoints, const struct cap_wire_endpoint *endpoint)
{
    struct node *registers = node_list();
    struct node *node = node_container();
    for (size_t i = 0; i < endpoint->register_count; i++) {
        struct cap_register element = cap_wire_register(endpoint, i);
        test_register(registers, element.index, element.value);
    }
    node_add(node_add(node, node_int(endpoint->entry_pc, 8)), node_int(endpoint->arg_registers, 1));
    node_add(node_add(node, node_int(endpoint->arg_cnode_size, 1)), registers);
    add_entry(endpoints, bytes_node(endpoint->key), node);
}

static void add_slot_of(struct test_image *image, const struct cap_wire_slot *slot)
{
    struct node *pages = node_list();
    for (size_t i = 0; i < slot->desc.page_count; i++) {
        struct cap_page_ref ref = cap_page_ref_at(slot->desc.pages, i);
        test_page(pages, ref.page_index, ref.arena_off, ref.len);
    }
    struct node *desc = desc_node(slot->desc.size, pages);
    if (slot->table == CAP_TABLE_INITIAL) {
        add_entry(image->initial, bytes_node(slot->key), desc);
    } else if (slot->kind == CAP_KIND_DATA) {
        add_entry(image->pinned, bytes_node(slot->key),
                  node_union(0, node_add(node_container(), desc)));
    } else {
        node_free(desc);
        add_entry(image->pinned, bytes_node(slot->key),
                  node_union(1, node_add(node_container(), node_hash(&slot->content_hash))));
    }
}

struct test_image test_image_of_view(const struct cap_wire_image *view)
{
    struct test_image image = test_image_new();
    test_image_set_code(&image, view->code_off, view->code_len);
    for (size_t i = 0; i < view->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(view, i, &endpoint);
        add_endpoint_of(image.endpoints, &endpoint);
    }
    for (size_t i = 0; i < view->mappings.count; i++) {
        struct cap_mapping mapping;
        cap_mapping_at(&view->mappings, i, &mapping);
        add_keys(test_image_mapping(&image, mapping.start, mapping.size), &mapping.source);
    }
    for (size_t i = 0; i < cap_wire_slot_count(view); i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(view, i, &slot);
        add_slot_of(&image, &slot);
    }
    if (view->has_yield_receiver) {
        image.yield_receiver->selector = 1;
        node_add(image.yield_receiver, bytes_node(view->yield_receiver_slot));
    }
    add_keys(image.gas, &view->gas_slots);
    add_keys(image.quota, &view->quota_slots);
    return image;
}

uint8_t *test_exact_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    require(copy != NULL);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}
