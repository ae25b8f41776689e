#include <stdio.h>

#include "lib/cap/merkle.h"
#include "tests/unit/cap/build_image.h"
#include "tests/unit/support.h"

/* Encodes and frees a tree, decodes the bytes. The caller frees *ret_bytes after the view. */
static enum cap_error decode(struct test_image *image, struct cap_buf *ret_bytes,
                             struct cap_wire_image *ret_view)
{
    *ret_bytes = node_encode(image->root, NULL);
    test_image_free(image);
    return cap_wire_image_decode(cap_buf_bytes(ret_bytes), ret_bytes->len, ret_view);
}

static void assert_key(struct cap_bytes key, const char *wanted)
{
    assert_int_equal(key.len, strlen(wanted));
    if (key.len > 0) {
        assert_memory_equal(key.data, wanted, key.len);
    }
}

static void the_empty_image(void **state)
{
    struct test_image image = test_image_new();
    struct cap_wire_image view;
    struct cap_buf bytes;
    (void)state;
    assert_cap_ok(decode(&image, &bytes, &view));
    assert_int_equal(bytes.len, CAP_WIRE_FIXED_SIZE + 1); /* None takes a byte */
    assert_int_equal(view.head.len, bytes.len);
    assert_int_equal(view.arena_len, 0);
    assert_int_equal(view.endpoints.count, 0);
    assert_int_equal(view.mappings.count, 0);
    assert_int_equal(cap_wire_slot_count(&view), 0);
    assert_false(view.has_yield_receiver);
    assert_int_equal(view.gas_slots.count, 0);
    assert_int_equal(view.quota_slots.count, 0);
    assert_int_equal(cap_wire_image_data_len(&view), 0);
    cap_buf_free(&bytes);
}

/* The example of FORMATS.md section 3. */
static void the_empty_image_byte_for_byte(void **state)
{
    static const char hex[] = "0000000000000000"
                              "2800000028000000280000002800000028000000"
                              "290000002900000029000000"
                              "00";
    struct cap_wire_image view;
    struct cap_buf bytes = {0};
    struct cap_hash hash;
    (void)state;
    assert_cap_ok(cap_hex_parse(hex, sizeof(hex) - 1, &bytes));
    assert_cap_ok(cap_wire_image_decode(cap_buf_bytes(&bytes), bytes.len, &view));
    cap_byte_list_root((struct cap_bytes){NULL, 0}, &hash);
    assert_cap_ok(cap_wire_image_content_hash(&view, &hash, NULL, &hash));
    assert_hash_hex(&hash, "c00d0d19295f469e9dbed009b8dc8411f6579229e30e295de3f90774f3c71296");
    cap_buf_free(&bytes);
}

static void every_endpoint_and_mapping_is_seen(void **state)
{
    struct test_image image = test_image_full();
    struct cap_wire_endpoint endpoint;
    struct cap_mapping mapping;
    struct cap_wire_image view;
    struct cap_buf bytes;
    (void)state;
    assert_cap_ok(decode(&image, &bytes, &view));
    assert_int_equal(view.code_off, 4500);
    assert_int_equal(view.code_len, 500);
    assert_int_equal(view.endpoints.count, 3);
    cap_wire_endpoint_at(&view, 1, &endpoint);
    assert_key(endpoint.key, "a");
    assert_int_equal(endpoint.entry_pc, 16);
    assert_int_equal(endpoint.arg_registers, 1);
    assert_int_equal(endpoint.arg_cnode_size, 2);
    assert_int_equal(endpoint.register_count, 3);
    assert_true(cap_wire_register(&endpoint, 0).value == UINT64_MAX);
    assert_int_equal(cap_wire_register(&endpoint, 2).index, 12);
    assert_int_equal(cap_wire_register(&endpoint, 2).value, 7);
    cap_wire_endpoint_at(&view, 0, &endpoint);
    assert_key(endpoint.key, "");
    assert_int_equal(endpoint.register_count, 0);

    assert_int_equal(view.mappings.count, 2);
    cap_mapping_at(&view.mappings, 1, &mapping);
    assert_int_equal(mapping.start, 0x20000000);
    assert_int_equal(mapping.size, 0x1000);
    assert_int_equal(mapping.source.count, 3);
    assert_key(cap_ssz_list_at(&mapping.source, 0), "heap");
    assert_key(cap_ssz_list_at(&mapping.source, 1), "");
    assert_key(cap_ssz_list_at(&mapping.source, 2), "deeper");
    cap_buf_free(&bytes);
}

static void every_slot_is_seen(void **state)
{
    static const char *const keys[] = {"code", "lib", "zero", "heap", "stack"};
    struct test_image image = test_image_full();
    struct cap_wire_slot slots[5];
    struct cap_wire_image view;
    struct cap_buf bytes;
    (void)state;
    assert_cap_ok(decode(&image, &bytes, &view));
    assert_int_equal(cap_wire_slot_count(&view), 5);
    for (size_t i = 0; i < 5; i++) {
        cap_wire_slot_at(&view, i, &slots[i]);
        assert_key(slots[i].key, keys[i]);
        assert_int_equal(slots[i].table, i < 3 ? CAP_TABLE_PINNED : CAP_TABLE_INITIAL);
        assert_int_equal(slots[i].kind, i == 1 ? CAP_KIND_IMAGE : CAP_KIND_DATA);
    }
    assert_int_equal(slots[0].desc.size, 0x2000);
    assert_int_equal(slots[0].desc.page_count, 2);
    struct cap_page_ref ref = cap_page_ref_at(slots[0].desc.pages, 1);
    assert_int_equal(ref.page_index, 1);
    assert_int_equal(ref.arena_off, 4096);
    assert_int_equal(ref.len, 404);
    assert_memory_equal(slots[1].content_hash.bytes, "\1\2\3\0", 4);
    assert_int_equal(slots[2].desc.size, 0);
    assert_true(slots[3].desc.size == UINT64_MAX - 4095);
    assert_int_equal(cap_page_ref_at(slots[3].desc.pages, 0).page_index, UINT32_MAX);
    assert_int_equal(cap_wire_image_data_len(&view), 4096 + 404 + 1);
    assert_string_equal(cap_table_name(slots[0].table), "pinned");
    assert_string_equal(cap_table_name(slots[3].table), "initial");

    assert_true(view.has_yield_receiver);
    assert_key(view.yield_receiver_slot, "yield");
    assert_int_equal(view.gas_slots.count, 2);
    assert_key(cap_ssz_list_at(&view.gas_slots, 0), "g2"); /* order kept */
    assert_int_equal(view.quota_slots.count, 2);
    assert_key(cap_ssz_list_at(&view.quota_slots, 1), "q");
    cap_buf_free(&bytes);
}

/* The same view from the head alone, of an upload whose arena is huge. */
static void the_head_is_enough(void **state)
{
    struct test_image image = test_image_full();
    struct cap_wire_image whole;
    struct cap_wire_image view;
    struct cap_buf bytes;
    size_t head_len;
    (void)state;
    assert_cap_ok(decode(&image, &bytes, &whole));
    assert_cap_ok(
        cap_wire_image_head_len((struct cap_bytes){bytes.data, 40}, bytes.len, &head_len));
    assert_int_equal(head_len, bytes.len - 5000);
    assert_int_equal(head_len, whole.head.len);
    assert_int_equal(whole.arena_len, 5000);

    uint8_t *head = test_exact_copy(bytes.data, head_len);
    uint64_t total = head_len + (UINT64_C(1) << 32);
    assert_cap_ok(cap_wire_image_decode((struct cap_bytes){head, head_len}, total, &view));
    assert_true(view.arena_len == UINT64_C(1) << 32);
    assert_int_equal(view.quota_slots.count, 2);
    assert_cap_error(cap_wire_image_decode((struct cap_bytes){head, head_len}, total + 1, &view),
                     CAP_E_SSZ);
    assert_cap_error(cap_wire_image_decode((struct cap_bytes){head, head_len}, UINT64_MAX, &view),
                     CAP_E_SSZ);
    assert_true(view.total_len == total);
    free(head);
    cap_buf_free(&bytes);
}

static void every_truncation_is_refused(void **state)
{
    struct test_image image = test_image_full();
    struct cap_wire_image view;
    struct cap_buf bytes;
    (void)state;
    assert_cap_ok(decode(&image, &bytes, &view));
    size_t head_len = view.head.len;
    for (size_t len = 0; len < head_len; len++) {
        uint8_t *exact = test_exact_copy(bytes.data, len);
        struct cap_bytes front = {exact, len};
        assert_cap_error(cap_wire_image_decode(front, bytes.len, &view), CAP_E_SSZ);
        assert_cap_error(cap_wire_image_decode(front, len, &view), CAP_E_SSZ);
        free(exact);
    }
    /* Cut within the arena it is another image, a valid one. */
    assert_cap_ok(cap_wire_image_decode((struct cap_bytes){bytes.data, head_len}, head_len, &view));
    assert_int_equal(view.arena_len, 0);
    cap_buf_free(&bytes);
}

/* Each offset of the fixed part, at its edges: the head's length is known or refused. */
static void the_fixed_part_is_judged_alone(void **state)
{
    uint8_t front[CAP_WIRE_FIXED_SIZE] = {0};
    size_t head_len = 77;
    (void)state;
    for (size_t at = 8; at < sizeof(front); at += 4) {
        cap_store32(front + at, at == 8 ? 40 : 41);
    }
    struct cap_bytes bytes = {front, sizeof(front)};
    assert_cap_ok(cap_wire_image_head_len(bytes, 41, &head_len));
    assert_int_equal(head_len, 41);
    assert_cap_ok(cap_wire_image_head_len(bytes, 41 + (UINT64_C(1) << 32), &head_len));
    assert_cap_error(cap_wire_image_head_len(bytes, 42 + (UINT64_C(1) << 32), &head_len),
                     CAP_E_SSZ);
    assert_cap_error(cap_wire_image_head_len(bytes, 40, &head_len), CAP_E_SSZ);
    assert_cap_error(cap_wire_image_head_len(bytes, 0, &head_len), CAP_E_SSZ);
    for (size_t len = 0; len < sizeof(front); len++) {
        assert_cap_error(cap_wire_image_head_len((struct cap_bytes){front, len}, 1000, &head_len),
                         CAP_E_SSZ);
    }
    for (size_t at = 8; at < sizeof(front); at += 4) {
        static const uint32_t wrong[] = {0, 39, 43, UINT32_C(1) << 31, UINT32_MAX};
        uint32_t good = cap_load32(front + at);
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
            cap_store32(front + at, wrong[i]);
            assert_cap_error(cap_wire_image_head_len(bytes, 42, &head_len), CAP_E_SSZ);
        }
        cap_store32(front + at, good);
    }
    assert_int_equal(head_len, 41);
    cap_store32(front + 36, UINT32_MAX); /* the largest head */
    assert_cap_ok(cap_wire_image_head_len(bytes, UINT32_MAX, &head_len));
    assert_true(head_len == UINT32_MAX);
}

/* Keys of a map, in the order given: accepted or not. */
static void check_map_order(const char *const *keys, size_t count, bool good)
{
    for (int table = 0; table < 3; table++) {
        struct test_image image = test_image_new();
        struct cap_wire_image view;
        struct cap_buf bytes;
        for (size_t i = 0; i < count; i++) {
            if (table == 2) {
                test_image_endpoint(&image, keys[i], 0);
            } else {
                test_image_data(&image, (enum cap_table)table, keys[i], 4096);
            }
        }
        assert_cap_error(decode(&image, &bytes, &view), good ? CAP_OK : CAP_E_SSZ);
        cap_buf_free(&bytes);
    }
}

static void map_keys_ascend_strictly(void **state)
{
    (void)state;
    check_map_order((const char *const[]){"", "\1", "\1\1", "\1\2", "\2", "\xff"}, 6, true);
    check_map_order((const char *const[]){"b", "a"}, 2, false);
    check_map_order((const char *const[]){"a", "a"}, 2, false);
    check_map_order((const char *const[]){"", ""}, 2, false);
    check_map_order((const char *const[]){"a", ""}, 2, false);
    check_map_order((const char *const[]){"ab", "a"}, 2, false); /* a prefix comes first */
    check_map_order((const char *const[]){"\x80", "\x7f"}, 2, false);
    check_map_order((const char *const[]){"a", "c", "b", "d"}, 4, false);
}

static void registers_ascend_strictly(void **state)
{
    static const uint8_t rows[][3] = {
        {0, 1, 255}, {0, 0, 1}, {1, 0, 2}, {0, 2, 1}, {254, 255, 255}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct test_image image = test_image_new();
        struct node *registers = test_image_endpoint(&image, "e", 0);
        struct cap_wire_image view;
        struct cap_buf bytes;
        for (size_t j = 0; j < 3; j++) {
            test_register(registers, rows[i][j], j);
        }
        assert_cap_error(decode(&image, &bytes, &view), i == 0 ? CAP_OK : CAP_E_SSZ);
        cap_buf_free(&bytes);
    }
}

/* Encodes the tree, lets `damage` at byte `at` of it be `value`, and says what is wrong. */
static void assert_why(const struct test_image *image, size_t at, uint32_t value, const char *why)
{
    struct cap_buf bytes = node_encode(image->root, NULL);
    struct cap_wire_image view;
    struct cap_ssz_fault fault = {""};
    assert_cap_ok(cap_wire_image_decode_why(cap_buf_bytes(&bytes), bytes.len, &view, &fault));
    assert_string_equal(fault.text, "");
    cap_store32(bytes.data + at, value);
    assert_cap_error(cap_wire_image_decode_why(cap_buf_bytes(&bytes), bytes.len, &view, &fault),
                     CAP_E_SSZ);
    assert_string_equal(fault.text, why);
    cap_buf_free(&bytes);
}

static void a_fault_says_where_and_why(void **state)
{
    struct test_image image = test_image_full();
    struct cap_wire_image view;
    struct cap_ssz_fault fault;
    (void)state;
    node_add(image.gas, test_key("x"));
    struct cap_buf bytes = node_encode(image.root, NULL);
    uint32_t endpoints = cap_load32(bytes.data + 8);
    uint32_t mappings = cap_load32(bytes.data + 12);
    uint32_t gas = cap_load32(bytes.data + 28);
    assert_why(&image, 8, 41, "offset of endpoints is 41, expected 40");
    assert_why(&image, 12, 39, "offset of memory_mappings is 39, below that of endpoints (40)");
    char text[100];
    snprintf(text, sizeof(text), "offset of arena is 65536, past the end (%zu bytes)", bytes.len);
    assert_why(&image, 36, 65536, text);
    assert_why(&image, gas, 1, "gas_slots: its table of offsets is wrong");
    assert_why(&image, endpoints + cap_load32(bytes.data + endpoints), 1,
               "endpoints, entry 0: its length or an offset in it is wrong");
    uint32_t mapping = mappings + cap_load32(bytes.data + mappings);
    assert_why(&image, mapping + 16, 21,
               "memory_mappings, entry 0: its length or an offset in it is wrong");
    assert_why(&image, mapping + 20, 3, "memory_mappings, entry 0: its source does not decode");
    assert_cap_error(
        cap_wire_image_decode_why((struct cap_bytes){bytes.data, 39}, 39, &view, &fault),
        CAP_E_SSZ);
    assert_string_equal(fault.text, "39 bytes; a wire Image has at least 40");
    cap_buf_free(&bytes);
    test_image_free(&image);
}

/* Against a root that is computed from the tree of values. */
static void content_hashes(void **state)
{
    struct test_image images[2] = {test_image_new(), test_image_full()};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct cap_hash wanted = node_root(images[i].root);
        struct cap_hash arena_root = node_root(images[i].arena);
        struct cap_wire_image view;
        struct cap_buf bytes;
        struct cap_hash hash;
        assert_cap_ok(decode(&images[i], &bytes, &view));
        assert_cap_ok(cap_wire_image_content_hash(&view, &arena_root, NULL, &hash));
        assert_hash_equal(&hash, &wanted);
        cap_buf_free(&bytes);
    }
}

static void shared_field_decoders(void **state)
{
    static const uint8_t none_and_more[] = {0, 0};
    static const uint8_t some[] = {1, 'k'};
    struct cap_ssz_list list = {{NULL, 0}, 77};
    struct cap_bytes key = {NULL, 77};
    bool present = false;
    (void)state;
    assert_cap_error(cap_option_key_decode((struct cap_bytes){NULL, 0}, &present, &key), CAP_E_SSZ);
    assert_cap_error(cap_option_key_decode((struct cap_bytes){none_and_more, 2}, &present, &key),
                     CAP_E_SSZ);
    assert_int_equal(key.len, 77);
    assert_cap_ok(cap_option_key_decode((struct cap_bytes){some, 2}, &present, &key));
    assert_true(present);
    assert_key(key, "k");
    assert_cap_ok(cap_option_key_decode((struct cap_bytes){some, 1}, &present, &key));
    assert_true(present);
    assert_key(key, "");
    assert_cap_ok(cap_option_key_decode((struct cap_bytes){none_and_more, 1}, &present, &key));
    assert_false(present);

    assert_cap_error(cap_key_list_decode((struct cap_bytes){some, 2}, &list), CAP_E_SSZ);
    assert_cap_error(cap_mapping_list_decode((struct cap_bytes){some, 2}, &list), CAP_E_SSZ);
    assert_int_equal(list.count, 77);
    assert_cap_ok(cap_mapping_list_decode((struct cap_bytes){NULL, 0}, &list));
    assert_int_equal(list.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_empty_image),
        cmocka_unit_test(the_empty_image_byte_for_byte),
        cmocka_unit_test(every_endpoint_and_mapping_is_seen),
        cmocka_unit_test(every_slot_is_seen),
        cmocka_unit_test(the_head_is_enough),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(the_fixed_part_is_judged_alone),
        cmocka_unit_test(map_keys_ascend_strictly),
        cmocka_unit_test(registers_ascend_strictly),
        cmocka_unit_test(a_fault_says_where_and_why),
        cmocka_unit_test(content_hashes),
        cmocka_unit_test(shared_field_decoders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
