/* What hashes for long reports each step, and can be stopped there. */
#include "tests/unit/support.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "tests/unit/cap/build_image.h"

#define MAX_SLOTS 16u

struct teller {
    uint64_t steps;
    uint64_t bytes;
    uint64_t stop_at; /* a step; 0: never */
};

static bool count_step(void *ctx, uint64_t bytes)
{
    struct teller *teller = ctx;
    teller->bytes += bytes;
    return ++teller->steps != teller->stop_at;
}

/* All that is hashed of an Image with one of everything, and a key of 600 KiB. */
static enum cap_error hash_all(const struct cap_wire_image *wire, const struct cap_source *arena)
{
    struct cap_hash hashes[MAX_SLOTS] = {{{0}}};
    struct cap_hash root = {{0}};
    struct cap_hash content_hash;
    struct cap_image image;
    enum cap_error error = cap_wire_image_content_hash(wire, &root, arena->work, &content_hash);
    assert_true(cap_wire_slot_count(wire) <= MAX_SLOTS);
    for (size_t i = 0; error == CAP_OK && i < cap_wire_slot_count(wire); i++) {
        struct cap_wire_slot slot;
        struct cap_data data;
        cap_wire_slot_at(wire, i, &slot);
        if (slot.kind == CAP_KIND_DATA) {
            error = cap_data_from_desc(&slot.desc, arena, UINT64_MAX, NULL, &data);
            if (error == CAP_OK) {
                cap_data_free(&data);
            }
        }
    }
    if (error == CAP_OK) {
        error = cap_image_from_wire(wire, hashes, arena, &image);
    }
    if (error == CAP_OK) {
        cap_image_free(&image);
    }
    return error;
}

/* What is hashed of the structure is told in small steps, and each may be the last. */
static void test_stops(void **state)
{
    (void)state;
    static const uint8_t long_key[600 << 10];
    struct test_image tree = test_image_full();
    node_add(tree.gas, node_bytes(long_key, sizeof(long_key)));
    struct cap_buf upload = node_encode(tree.root, NULL);
    struct cap_wire_image wire;
    struct cap_refusal refusal;
    assert_cap_ok(cap_deblob(cap_buf_bytes(&upload), upload.len, &wire, &refusal));
    struct cap_bytes bytes = {upload.data + wire.head.len, (size_t)wire.arena_len};
    struct teller teller = {0};
    const struct cap_work work = {count_step, &teller};
    struct cap_source arena = cap_source_memory(&bytes);
    arena.work = &work;
    assert_cap_ok(hash_all(&wire, &arena));
    assert_true(teller.bytes >= 2 * sizeof(long_key));
    for (uint64_t stop_at = teller.steps; stop_at > 0; stop_at--) {
        teller = (struct teller){.stop_at = stop_at};
        assert_cap_error(hash_all(&wire, &arena), CAP_E_CANCELLED);
        assert_int_equal(teller.steps, stop_at);
    }
    cap_buf_free(&upload);
    test_image_free(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
