/*
 * SSZ values for tests, made independently of the code under test.
 *
 * A value is a tree of nodes that knows how to encode itself and what its root is, both written
 * plainly from FORMATS.md. While encoding, one fault can be planted at any node: the surroundings
 * stay consistent, so that a decoder meets the fault at that depth and nowhere else. Running
 * out of memory aborts: it is a test.
 */
#ifndef TESTS_UNIT_CAP_BUILD_IMAGE_H
#define TESTS_UNIT_CAP_BUILD_IMAGE_H

#include "lib/cap/wire_image.h"

enum shape {
    SHAPE_FIXED,     /* integer or hash: at most one chunk */
    SHAPE_BYTE_LIST, /* List[byte, 2^32] */
    SHAPE_CONTAINER,
    SHAPE_LIST,  /* List[..., 2^32] */
    SHAPE_UNION, /* `selector`, and one child or none */
};

/* Owned by the tree that it was added to. */
struct node {
    enum shape shape;
    struct cap_buf bytes; /* of a leaf */
    uint8_t selector;
    struct node **children;
    size_t count;
};

struct node *node_int(uint64_t value, size_t size);
struct node *node_bytes(const void *data, size_t len); /* a byte list, copied */
struct node *node_hash(const struct cap_hash *hash);
struct node *node_container(void);
struct node *node_list(void);
struct node *node_union(uint8_t selector, struct node *value); /* value may be NULL */
/* Appends a field or an element; returns `parent`. */
struct node *node_add(struct node *parent, struct node *child);
void node_free(struct node *node);

bool node_variable(const struct node *node);
size_t node_total(const struct node *node); /* nodes in the tree, in pre-order */
const struct node *node_at(const struct node *node, size_t index);

enum fault_kind {
    FAULT_NONE,
    FAULT_OFFSET_SET, /* offset number `which` becomes `value` */
    FAULT_OFFSET_ADD, /* offset number `which` grows by `value`, modulo 2^32 */
    FAULT_GAP,        /* `value` zero bytes between the offsets and the first payload */
    FAULT_TRAILING,   /* `value` zero bytes after the node */
    FAULT_TRUNCATED,  /* the last `value` bytes are missing */
    FAULT_SELECTOR,   /* the union's selector becomes `value` */
};

struct fault {
    enum fault_kind kind;
    size_t node; /* in pre-order */
    size_t which;
    uint32_t value;
};

/* Encodes a tree; `fault` may be NULL. */
struct cap_buf node_encode(const struct node *node, const struct fault *fault);
struct cap_hash node_root(const struct node *node);

/* Root of 2^depth zero chunks, hashed here, not taken from the library's table. */
struct cap_hash plain_zero(unsigned depth);
/* Root of `count` chunks as a tree of 2^depth, computed plainly. */
struct cap_hash plain_merkleize(const struct cap_hash *chunks, size_t count, unsigned depth);

/* A wire Image; the lists and fields are where FORMATS.md section 3 has them. */
struct test_image {
    struct node *root;
    struct node *code;
    struct node *endpoints;
    struct node *mappings;
    struct node *pinned;
    struct node *initial;
    struct node *yield_receiver;
    struct node *gas;
    struct node *quota;
    struct node *arena;
};

/* An Image without anything, and its end. */
struct test_image test_image_new(void);
void test_image_free(struct test_image *image);

/* A Key from a C string. */
struct node *test_key(const char *key);
void test_image_set_code(struct test_image *image, uint32_t off, uint32_t len);
void test_image_set_arena(struct test_image *image, const void *data, size_t len);
void test_image_set_yield_receiver(struct test_image *image, const char *key);
/* Adds an endpoint and returns its initial_regs, a list to fill with test_register. */
struct node *test_image_endpoint(struct test_image *image, const char *key, uint64_t entry_pc);
void test_register(struct node *registers, uint8_t index, uint64_t value);
/* Adds a mapping and returns its source, a list to fill with keys. */
struct node *test_image_mapping(struct test_image *image, uint64_t start, uint64_t size);
/* Adds a data slot and returns its pages, a list to fill with test_page. */
struct node *test_image_data(struct test_image *image, enum cap_table table, const char *key,
                             uint64_t size);
void test_page(struct node *pages, uint32_t page_index, uint32_t arena_off, uint32_t len);
void test_image_pinned_image(struct test_image *image, const char *key,
                             const struct cap_hash *hash);

/* One Image with everything in it, several of each; accepted by the deblob. */
struct test_image test_image_full(void);

/* The tree of a decoded view, with an empty arena: what the decoder understood. */
struct test_image test_image_of_view(const struct cap_wire_image *view);

/* A copy of exactly `len` bytes on the heap, so that a sanitizer sees a read past its end. */
uint8_t *test_exact_copy(const uint8_t *data, size_t len);

#endif
