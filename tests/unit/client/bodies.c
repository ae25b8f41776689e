#include "tests/unit/client/bodies.h"

#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"

const uint8_t hello_body[34] = {
    0x02, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0,   0x1c, 0,   0,   0,
    0,    0,    0,    0, 0, 0, 0, 0, 5, 0,    0, 0, 'h', 'e',  'l', 'l', 'o',
};

struct capstore_hash hash_of(const char *hex)
{
    struct capstore_hash hash;
    assert_int_equal(capstore_hash_parse(hex, &hash), CAPSTORE_OK);
    return hash;
}

/* The wire Image, packed through the public library. */
static void make_wire(const char *code, const struct capstore_hash *pinned, size_t count,
                      struct cap_buf *ret_wire)
{
    struct capstore_pack *pack;
    struct capstore_source wire;
    struct capstore_bytes bytes = {(const uint8_t *)code, strlen(code)};
    struct capstore_source source = capstore_source_memory(&bytes);
    uint8_t key = 0x0b;
    struct capstore_bytes step = {&key, 1};
    struct capstore_endpoint_args entry = {.entry_pc = 4};

    assert_int_equal(capstore_pack_new(&pack), CAPSTORE_OK);
    assert_int_equal(capstore_pack_code(pack, &source), CAPSTORE_OK);
    assert_int_equal(capstore_pack_endpoint(pack, (struct capstore_bytes){NULL, 0}, &entry),
                     CAPSTORE_OK);
    assert_int_equal(capstore_pack_mapping(pack, CAPSTORE_DATA_BASE, 4096, &step, 1), CAPSTORE_OK);
    for (size_t i = 0; i < count; i++, key++) {
        assert_int_equal(capstore_pack_image(pack, step, &pinned[i]), CAPSTORE_OK);
    }
    assert_int_equal(capstore_pack_finish(pack, &wire), CAPSTORE_OK);
    *ret_wire = (struct cap_buf){0};
    assert_cap_ok(cap_buf_append_zeros(ret_wire, wire.len));
    assert_int_equal(wire.read(wire.ctx, 0, ret_wire->data, wire.len), CAPSTORE_OK);
    capstore_pack_free(pack);
}

void make_image(const char *code, const struct capstore_hash *pinned, size_t count,
                struct cap_buf *ret_body, struct capstore_hash *ret_hash)
{
    struct cap_buf wire;
    struct cap_wire_image view;
    struct cap_image image;
    struct cap_hash *hashes = calloc(count + 1, sizeof(*hashes));

    assert_non_null(hashes);
    make_wire(code, pinned, count, &wire);
    assert_cap_ok(cap_deblob(cap_buf_bytes(&wire), wire.len, &view, NULL));
    struct cap_bytes arena = {wire.data + view.head.len, wire.len - view.head.len};
    struct cap_source source = cap_source_memory(&arena);
    for (size_t i = 0; i < count; i++) {
        memcpy(hashes[i].bytes, pinned[i].bytes, CAP_HASH_SIZE);
    }
    assert_cap_ok(cap_image_from_wire(&view, hashes, &source, &image));
    *ret_body = (struct cap_buf){0};
    assert_cap_ok(cap_buf_append_zeros(ret_body, image.body.len));
    assert_cap_ok(cap_body_read(&image.body, &source, 0, ret_body->data, image.body.len));
    memcpy(ret_hash->bytes, image.hash.bytes, CAP_HASH_SIZE);
    cap_image_free(&image);
    cap_buf_free(&wire);
    free(hashes);
}
