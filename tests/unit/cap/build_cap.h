/*
 * Image caps for tests, as trees of nodes that encode themselves and know their roots: made
 * independently of the code under test, like the wire Images of build_image.h.
 */
#ifndef TESTS_UNIT_CAP_BUILD_CAP_H
#define TESTS_UNIT_CAP_BUILD_CAP_H

#include "tests/unit/cap/build_image.h"

/* The payload of an Image cap; each field is a node of its root. */
enum field {
    CODE,
    ENDPOINTS,
    MAPPINGS,
    PINNED,
    INITIAL,
    YIELD,
    GAS,
    QUOTA,
    FIELDS,
};

/* An Image cap that has only code; the caller frees it. The others add to one. */
struct node *test_cap_node(const void *code, size_t code_len);
void test_cap_endpoint(struct node *root, const char *key, uint64_t entry_pc,
                       const uint64_t regs[CAP_NUM_REGS]);
/* Returns the mapping's source, a list to fill with keys. */
struct node *test_cap_mapping(struct node *root, uint64_t start, uint64_t size);
/* `mark` is the first byte of the slot's hash. */
void test_cap_slot(struct node *root, enum field table, const char *key, uint8_t mark);

/* What test_image_full must become; slot i resolves to the hash that begins with i + 1. */
struct node *test_cap_full(void);

/* The served body, with a fault in its payload if `fault` is not NULL, and the CapHash. */
struct cap_buf test_cap_body(const struct node *root, const struct fault *fault);
struct cap_hash test_cap_hash(const struct node *root);

#endif
