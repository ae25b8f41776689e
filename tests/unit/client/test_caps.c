/* Caps in memory: verification, what a runtime reads, code in pages. */
#include "tests/unit/client/bodies.h"

static struct capstore_cap *open_hello(void)
{
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_cap *cap;
    assert_int_equal(capstore_cap_from_body((struct capstore_bytes){hello_body, sizeof(hello_body)},
                                            &hash, &cap),
                     CAPSTORE_OK);
    return cap;
}

static void test_data(void **state)
{
    struct capstore_cap *cap = open_hello();
    uint8_t page[4096];
    struct capstore_code code;
    bool read_only;
    (void)state;
    assert_int_equal(capstore_cap_kind(cap), CAPSTORE_KIND_DATA);
    assert_true(capstore_cap_verified(cap));
    assert_int_equal(capstore_cap_body(cap).len, sizeof(hello_body));
    assert_int_equal(capstore_data_size(cap), 4096);
    assert_int_equal(capstore_data_page_count(cap), 1);
    assert_int_equal(capstore_data_page(cap, 0).index, 0);
    assert_int_equal(capstore_data_page(cap, 0).bytes.len, 5);
    memset(page, 0xee, sizeof(page));
    assert_int_equal(capstore_data_read(cap, 0, page, sizeof(page)), CAPSTORE_OK);
    assert_memory_equal(page, "hello\0\0", 7);
    assert_int_equal(page[4095], 0);
    assert_int_equal(capstore_data_read(cap, 4096, page, 0), CAPSTORE_OK);
    assert_int_equal(capstore_data_read(cap, 4096, page, 1), CAPSTORE_E_INVALID_ARGUMENT);
    assert_int_equal(capstore_data_read(cap, UINT64_MAX, page, 2), CAPSTORE_E_INVALID_ARGUMENT);
    assert_int_equal(capstore_code_load(cap, &code), CAPSTORE_E_WRONG_KIND);
    assert_int_equal(capstore_image_mapping_read_only(cap, 0, &read_only), CAPSTORE_E_WRONG_KIND);
    assert_int_equal(capstore_image_counts(cap).mappings, 0);
    capstore_cap_free(cap);
    capstore_cap_free(NULL);
}

/* Every single flipped bit is noticed, and every truncation. */
static void test_damage(void **state)
{
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(hello_body); bit++) {
        uint8_t body[sizeof(hello_body)];
        struct capstore_cap *cap = NULL;
        memcpy(body, hello_body, sizeof(body));
        body[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum capstore_error error =
            capstore_cap_from_body((struct capstore_bytes){body, sizeof(body)}, &hash, &cap);
        assert_true(error == CAPSTORE_E_HASH_MISMATCH || error == CAPSTORE_E_BODY_NOT_CANONICAL);
        assert_null(cap);
    }
    for (size_t len = 0; len < sizeof(hello_body); len++) {
        struct capstore_cap *cap = NULL;
        assert_int_not_equal(
            capstore_cap_from_body((struct capstore_bytes){hello_body, len}, NULL, &cap),
            CAPSTORE_OK);
        assert_null(cap);
    }
}

static void test_image(void **state)
{
    struct capstore_hash pinned[2] = {hash_of(HELLO_HASH), {{9}}};
    struct cap_buf body;
    struct capstore_hash hash;
    struct capstore_cap *cap;
    struct capstore_bytes code;
    struct capstore_code loaded;
    uint64_t address;
    bool read_only = false;
    (void)state;
    make_image("some code", pinned, 2, &body, &hash);
    assert_int_equal(
        capstore_cap_from_body((struct capstore_bytes){body.data, body.len}, &hash, &cap),
        CAPSTORE_OK);
    cap_buf_free(&body);
    assert_int_equal(capstore_cap_kind(cap), CAPSTORE_KIND_IMAGE);
    assert_true(capstore_image_code(cap, &address, &code));
    assert_int_equal(address, CAPSTORE_CODE_BASE);
    assert_int_equal(code.len, 9);
    assert_memory_equal(code.data, "some code", 9);

    assert_int_equal(capstore_code_load(cap, &loaded), CAPSTORE_OK);
    assert_int_equal((uintptr_t)loaded.data % CAPSTORE_PAGE_SIZE, 0);
    assert_int_equal(loaded.len, 9);
    assert_int_equal(loaded.mapped_len, CAPSTORE_PAGE_SIZE);
    assert_memory_equal(loaded.data, "some code\0\0\0", 12);
    assert_int_equal(loaded.data[4095], 0);
    capstore_code_free(&loaded);
    assert_null(loaded.data);

    assert_int_equal(capstore_image_mapping_read_only(cap, CAPSTORE_DATA_BASE, &read_only),
                     CAPSTORE_OK);
    assert_true(read_only);
    assert_int_equal(capstore_image_mapping_read_only(cap, CAPSTORE_DATA_BASE + 1, &read_only),
                     CAPSTORE_E_NOT_FOUND);

    struct capstore_region *regions;
    struct capstore_mapping mapping = capstore_image_mapping(cap, 0);
    assert_int_equal(capstore_image_regions(cap, &regions), CAPSTORE_OK);
    assert_true(regions[0].start == mapping.start);
    assert_true(regions[0].end == mapping.start + mapping.size);
    assert_true(regions[0].read_only);
    assert_true(regions[0].has_slot);
    assert_int_equal(regions[0].table, CAPSTORE_TABLE_PINNED);
    assert_true(capstore_hash_equal(&regions[0].slot.cap_hash, &pinned[0]));
    free(regions);
    capstore_cap_free(cap);
}

static void test_image_lists(void **state)
{
    struct capstore_hash pinned[2] = {hash_of(HELLO_HASH), {{9}}};
    struct cap_buf body;
    struct capstore_hash hash;
    struct capstore_cap *cap;
    struct capstore_bytes key;
    (void)state;
    make_image("code", pinned, 2, &body, &hash);
    assert_int_equal(
        capstore_cap_from_body((struct capstore_bytes){body.data, body.len}, NULL, &cap),
        CAPSTORE_OK);
    cap_buf_free(&body);
    struct capstore_counts counts = capstore_image_counts(cap);
    assert_int_equal(counts.endpoints, 1);
    assert_int_equal(counts.mappings, 1);
    assert_int_equal(counts.slots[CAPSTORE_TABLE_PINNED], 2);
    assert_int_equal(counts.slots[CAPSTORE_TABLE_INITIAL], 0);
    assert_int_equal(capstore_image_endpoint(cap, 0).entry_pc, 4);
    assert_int_equal(capstore_image_endpoint(cap, 0).key.len, 0);
    assert_int_equal(capstore_image_mapping(cap, 0).start, CAPSTORE_DATA_BASE);
    assert_int_equal(capstore_image_mapping(cap, 0).steps, 1);
    assert_int_equal(capstore_image_mapping_step(cap, 0, 0).data[0], 0x0b);
    struct capstore_slot slot = capstore_image_slot(cap, CAPSTORE_TABLE_PINNED, 1);
    assert_int_equal(slot.key.data[0], 0x0c);
    assert_true(capstore_hash_equal(&slot.cap_hash, &pinned[1]));
    assert_false(capstore_image_yield_receiver(cap, &key));
    capstore_cap_free(cap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_image_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
