/* check, hash and pack, without a daemon. */
#include <stdio.h>

#include "tests/unit/support.h"

#include <capstore/capstore.h>

/* A source that counts what was read and may fail. */
struct counted {
    struct capstore_source inner;
    uint64_t read;
    uint64_t fail_at; /* fails once a read reaches past this offset */
};

static enum capstore_error counted_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct counted *counted = (struct counted *)ctx;
    if (offset + len > counted->fail_at) {
        return CAPSTORE_E_IO;
    }
    counted->read += len;
    return counted->inner.read(counted->inner.ctx, offset, dst, len);
}

static struct capstore_bytes load(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", TEST_VECTORS, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    size_t len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return (struct capstore_bytes){bytes, len};
}

static void unload(struct capstore_bytes bytes)
{
    free((void *)(uintptr_t)bytes.data);
}

static struct capstore_check_result *check_of(const struct capstore_source *source)
{
    struct capstore_check_result *check;
    assert_string_equal(capstore_error_name(capstore_check(source, &check)), "ok");
    return check;
}

static void assert_hex(const struct capstore_hash *hash, const char *hex)
{
    char text[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(hash, text);
    assert_string_equal(text, hex);
}

static void test_accepted(void **state)
{
    struct capstore_bytes bytes = load("typical.ssz");
    struct capstore_source source = capstore_source_memory(&bytes);
    struct capstore_check_result *check = check_of(&source);
    (void)state;
    assert_int_equal(check->error, CAPSTORE_OK);
    assert_hex(&check->content_hash,
               "bf6572d92365812fe2b6b5dba8cebb30cafbcc1513fb2015965b0ef39e010c8f");
    assert_hex(&check->cap_hash,
               "51305b7f35954e458b3d3fccc7d72bff609181c649c94e4cee956cb7c8d9e612");
    assert_int_equal(check->body_len, 1163);
    assert_int_equal(check->data_count, 2);
    assert_int_equal(check->data[0].table, CAPSTORE_TABLE_PINNED);
    assert_int_equal(check->data[0].slot.len, 1);
    assert_int_equal(check->data[0].slot.data[0], 0x0b);
    assert_int_equal(check->data[0].size, 8192);
    assert_int_equal(check->data[1].table, CAPSTORE_TABLE_INITIAL);
    assert_int_equal(check->data[1].body_len, 17);
    assert_int_equal(check->image_count, 0);
    assert_int_equal(check->warning_count, 0);
    capstore_check_free(check);
    capstore_check_free(NULL);
    unload(bytes);
}

/* A refusal by a rule costs the structure, not the arena. */
static void test_refused_without_the_arena(void **state)
{
    struct capstore_bytes bytes = load("code_too_large.ssz");
    struct counted counted = {capstore_source_memory(&bytes), 0, 1000};
    struct capstore_source source = {counted_read, &counted, bytes.len, NULL};
    struct capstore_check_result *check = check_of(&source);
    (void)state;
    assert_string_equal(capstore_error_name(check->error), "code_too_large");
    assert_true(strlen(check->message) > 0);
    assert_true(counted.read < 1000);
    capstore_check_free(check);
    unload(bytes);
}

/* Wherever the source fails, the error comes out and nothing is left behind. */
static void test_failing_source(void **state)
{
    struct capstore_bytes bytes = load("typical.ssz");
    (void)state;
    for (uint64_t at = 0; at < bytes.len; at += 97) {
        struct counted counted = {capstore_source_memory(&bytes), 0, at};
        struct capstore_source source = {counted_read, &counted, bytes.len, NULL};
        struct capstore_check_result *check = NULL;
        assert_int_equal(capstore_check(&source, &check), CAPSTORE_E_IO);
        assert_null(check);
    }
    unload(bytes);
}

static void test_every_truncation(void **state)
{
    struct capstore_bytes bytes = load("key_order.ssz");
    (void)state;
    for (size_t len = 0; len < bytes.len; len++) {
        struct capstore_bytes front = {bytes.data, len};
        struct capstore_source source = capstore_source_memory(&front);
        struct capstore_check_result *check = check_of(&source);
        /* What cuts only into bytes of the arena that are not code is a smaller sound Image. */
        assert_true(check->error != CAPSTORE_OK || len + 16 > bytes.len);
        capstore_check_free(check);
    }
    unload(bytes);
}

static void test_data_hash(void **state)
{
    struct capstore_bytes bytes = {(const uint8_t *)"hello", 5};
    struct capstore_source source = capstore_source_memory(&bytes);
    struct capstore_data_id id;
    (void)state;
    assert_int_equal(capstore_data_hash(&source, 0, &id), CAPSTORE_OK);
    assert_hex(&id.cap_hash, "ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688");
    assert_int_equal(id.size, 4096);
    assert_int_equal(id.body_len, 34);
    assert_int_equal(capstore_data_hash(&source, UINT64_C(1) << 63, &id), CAPSTORE_OK);
    assert_true(id.size == UINT64_C(1) << 63);
    assert_int_equal(id.body_len, 34);
}

/* One slot from two sources and one from none; code from a third. */
static void describe(struct capstore_pack *pack, const struct capstore_source *sources)
{
    static const uint8_t keys[] = {0x0b, 0x41, 0x09};
    struct capstore_register stack = {1, 0x10004000};
    struct capstore_endpoint_args entry = {
        .entry_pc = CAPSTORE_CODE_BASE, .registers = &stack, .register_count = 1};
    struct capstore_bytes pinned = {&keys[0], 1};
    struct capstore_bytes initial = {&keys[1], 1};
    assert_int_equal(capstore_pack_endpoint(pack, (struct capstore_bytes){&keys[2], 1}, &entry),
                     CAPSTORE_OK);
    assert_int_equal(capstore_pack_mapping(pack, CAPSTORE_DATA_BASE, 8192, &pinned, 1),
                     CAPSTORE_OK);
    assert_int_equal(capstore_pack_data(pack, CAPSTORE_TABLE_INITIAL, initial, 5000), CAPSTORE_OK);
    assert_int_equal(capstore_pack_data(pack, CAPSTORE_TABLE_PINNED, pinned, 0), CAPSTORE_OK);
    assert_int_equal(capstore_pack_content(pack, 10, &sources[0]), CAPSTORE_OK);
    assert_int_equal(capstore_pack_content(pack, 4090, &sources[1]), CAPSTORE_OK);
    assert_int_equal(capstore_pack_code(pack, &sources[2]), CAPSTORE_OK);
    assert_int_equal(capstore_pack_yield_receiver(pack, initial), CAPSTORE_OK);
    assert_int_equal(capstore_pack_gas_slot(pack, initial), CAPSTORE_OK);
    assert_int_equal(capstore_pack_quota_slot(pack, pinned), CAPSTORE_OK);
}

static void test_pack_from_many_sources(void **state)
{
    struct capstore_bytes bytes[3] = {{(const uint8_t *)"first", 5},
                                      {(const uint8_t *)"over the page's end", 19},
                                      {(const uint8_t *)"code", 4}};
    struct capstore_source sources[3];
    struct capstore_source wire;
    struct capstore_pack *pack;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        sources[i] = capstore_source_memory(&bytes[i]);
    }
    assert_int_equal(capstore_pack_new(&pack), CAPSTORE_OK);
    describe(pack, sources);
    assert_int_equal(capstore_pack_finish(pack, &wire), CAPSTORE_OK);
    assert_int_equal(capstore_pack_finish(pack, &wire), CAPSTORE_E_INVALID_ARGUMENT);
    struct capstore_check_result *check = check_of(&wire);
    assert_int_equal(check->error, CAPSTORE_OK);
    assert_int_equal(check->code_len, 4);
    assert_int_equal(check->data_count, 2);
    assert_int_equal(check->data[0].size, 8192);
    assert_int_equal(check->data[1].size, 8192);
    assert_int_equal(check->data[1].body_len, 17);

    /* The pinned slot's hash is that of the same content laid out by hand. */
    uint8_t content[8192] = {0};
    static const char first[5] = "first"; /* content has no NULs at its ends */
    static const char over[19] = "over the page's end";
    memcpy(content + 10, first, sizeof(first));
    memcpy(content + 4090, over, sizeof(over));
    struct capstore_bytes flat = {content, sizeof(content)};
    struct capstore_source source = capstore_source_memory(&flat);
    struct capstore_data_id id;
    assert_int_equal(capstore_data_hash(&source, 0, &id), CAPSTORE_OK);
    assert_true(capstore_hash_equal(&id.cap_hash, &check->data[0].cap_hash));
    capstore_check_free(check);
    capstore_pack_free(pack);
    capstore_pack_free(NULL);
}

static void test_pack_refuses(void **state)
{
    struct capstore_bytes bytes = {(const uint8_t *)"0123456789", 10};
    struct capstore_source source = capstore_source_memory(&bytes);
    struct capstore_source wire;
    struct capstore_pack *pack;
    struct capstore_bytes key = {(const uint8_t *)"k", 1};
    (void)state;
    assert_int_equal(capstore_pack_new(&pack), CAPSTORE_OK);
    assert_int_equal(capstore_pack_data(pack, CAPSTORE_TABLE_PINNED, key, 0), CAPSTORE_OK);
    assert_int_equal(capstore_pack_content(pack, 5, &source), CAPSTORE_OK);
    assert_int_equal(capstore_pack_content(pack, 14, &source), CAPSTORE_E_INVALID_ARGUMENT);
    assert_int_equal(capstore_pack_data(pack, CAPSTORE_TABLE_PINNED, key, 0), CAPSTORE_OK);
    assert_int_equal(capstore_pack_finish(pack, &wire), CAPSTORE_E_SSZ);
    capstore_pack_free(pack);

    struct counted failing = {source, 0, 3};
    struct capstore_source broken = {counted_read, &failing, 10, NULL};
    assert_int_equal(capstore_pack_new(&pack), CAPSTORE_OK);
    assert_int_equal(capstore_pack_data(pack, CAPSTORE_TABLE_PINNED, key, 0), CAPSTORE_OK);
    assert_int_equal(capstore_pack_content(pack, 0, &broken), CAPSTORE_OK);
    assert_int_equal(capstore_pack_finish(pack, &wire), CAPSTORE_E_IO);
    capstore_pack_free(pack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),       cmocka_unit_test(test_refused_without_the_arena),
        cmocka_unit_test(test_failing_source), cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_data_hash),      cmocka_unit_test(test_pack_from_many_sources),
        cmocka_unit_test(test_pack_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
