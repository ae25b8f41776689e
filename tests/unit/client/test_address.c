/* Addresses, errors, hashes, ready-made sources: the small pure parts. */
#include <stdio.h>
#include <unistd.h>

#include "client/lib/address.h"
#include "tests/unit/support.h"

#include <capstore/capstore.h>

static void test_good_addresses(void **state)
{
    struct client_address address;
    (void)state;
    assert_cap_ok(client_address_parse("unix:/run/x.sock", &address));
    assert_true(address.is_unix);
    assert_string_equal(address.path, "/run/x.sock");
    assert_cap_ok(client_address_parse("tcp:localhost:7070", &address));
    assert_false(address.is_unix);
    assert_string_equal(address.host, "localhost");
    assert_string_equal(address.port, "7070");
    assert_cap_ok(client_address_parse("tcp:[::1]:65535", &address));
    assert_string_equal(address.host, "::1");
    assert_string_equal(address.port, "65535");
}

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {
        "",          "unix:",     "unix",          "/run/x.sock", "tcp:",
        "tcp:host",  "tcp:host:", "tcp::80",       "tcp:host:0",  "tcp:host:65536",
        "tcp:h:080", "tcp:h:8x",  "tcp:::1:80",    "tcp:[]:80",   "tcp:[::1:80",
        "tcp:h:+80", "udp:h:80",  "tcp:h:1000000", "TCP:h:80",    "tcp:[::1]80",
    };
    struct client_address address = {.port = "9"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (client_address_parse(bad[i], &address) != CAP_E_INVALID_ARGUMENT) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
    }
    assert_string_equal(address.port, "9");
}

static void test_addresses_over_http(void **state)
{
    static const char *const good[] = {
        "http://h",
        "https://h.example/",
        "http://127.0.0.1:8402",
        "http://[::1]:80/store",
        "http://[::1]/a/b",
        "https://h:65535/a/b-c/",
    };
    static const char *const bad[] = {
        "http://",       "https:///x",    "http://:80",    "http://h:",      "http://h:0",
        "http://h:80x",  "http://u@h",    "http://u:p@h",  "http://h/?q",    "http://h/#f",
        "http://h\\x",   "http://h x",    "http://h\n",    "http://h/\x7f",  "http://[]",
        "http://[::1",   "http://[::1]x", "http://::1:80", "http://h:99999", "http://h/\xc3\xa9",
        "http://[::1]:", "http:h",        "HTTP://h",      "httpx://h",      "http:/h",
    };
    char text[CLIENT_BASE_MAX + 2] = "http://h/";
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!client_address_is_http(good[i])) {
            fail_msg("\"%s\" was refused", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (client_address_is_http(bad[i])) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
    }
    memset(text + 9, 'p', CLIENT_BASE_MAX - 9);
    assert_true(client_address_is_http(text));
    text[CLIENT_BASE_MAX] = 'p';
    assert_false(client_address_is_http(text));
    assert_true(client_address_means_http("https://"));
    assert_false(client_address_means_http("tcp:http://"));
}

/* A path as long as the system takes, and one byte more. */
static void test_longest_path(void **state)
{
    struct client_address address;
    char text[6 + CLIENT_UNIX_PATH_MAX + 1] = "unix:";
    (void)state;
    memset(text + 5, 'p', CLIENT_UNIX_PATH_MAX);
    text[5 + CLIENT_UNIX_PATH_MAX] = '\0';
    assert_cap_ok(client_address_parse(text, &address));
    text[5 + CLIENT_UNIX_PATH_MAX] = 'p';
    text[6 + CLIENT_UNIX_PATH_MAX] = '\0';
    assert_cap_error(client_address_parse(text, &address), CAP_E_INVALID_ARGUMENT);
}

/* Every error has one name on both sides of the border. */
static void test_errors_are_the_same(void **state)
{
    (void)state;
#define CHECK(NAME, code, name, text)                                                              \
    assert_int_equal(CAPSTORE_E_##NAME, -(code));                                                  \
    assert_string_equal(capstore_error_name(CAPSTORE_E_##NAME), #name);                            \
    assert_string_equal(capstore_error_text(CAPSTORE_E_##NAME), text);
    CAP_ERRORS(CHECK)
#undef CHECK
    assert_string_equal(capstore_error_name(CAPSTORE_OK), "ok");
    assert_string_equal(capstore_error_name((enum capstore_error) - 9999), "internal");
}

static void test_hash_text(void **state)
{
    struct capstore_hash hash;
    struct capstore_hash again;
    char hex[CAPSTORE_HASH_HEX_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof(hash.bytes); i++) {
        hash.bytes[i] = (uint8_t)(i * 9);
    }
    capstore_hash_format(&hash, hex);
    assert_int_equal(capstore_hash_parse(hex, &again), CAPSTORE_OK);
    assert_true(capstore_hash_equal(&hash, &again));
    hex[63] = '\0';
    assert_int_equal(capstore_hash_parse(hex, &again), CAPSTORE_E_INVALID_ARGUMENT);
    assert_true(capstore_hash_equal(&hash, &again));
    again.bytes[31] ^= 1;
    assert_false(capstore_hash_equal(&hash, &again));
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(capstore_kind_name(CAPSTORE_KIND_IMAGE), "image");
    assert_string_equal(capstore_kind_name(CAPSTORE_KIND_DATA), "data");
    assert_string_equal(capstore_kind_name((enum capstore_kind)9), "unknown");
    assert_string_equal(capstore_table_name(CAPSTORE_TABLE_PINNED), "pinned");
    assert_string_equal(capstore_table_name(CAPSTORE_TABLE_INITIAL), "initial");
    assert_string_equal(capstore_table_name((enum capstore_table)9), "unknown");
    assert_string_equal(capstore_version(), CAPSTORE_VERSION);
}

/* A file that is shorter than its source says is an error, not zeros. */
static void test_sources(void **state)
{
    FILE *file = tmpfile();
    char bytes[4];
    (void)state;
    assert_non_null(file);
    int fd = fileno(file);
    assert_int_equal(write(fd, "abcdef", 6), 6);
    struct capstore_source source = capstore_source_fd(&fd, 8);
    assert_int_equal(source.len, 8);
    assert_int_equal(source.read(source.ctx, 2, bytes, 4), CAPSTORE_OK);
    assert_memory_equal(bytes, "cdef", 4);
    assert_int_equal(source.read(source.ctx, 4, bytes, 4), CAPSTORE_E_IO);
    fclose(file);

    struct capstore_bytes memory = {(const uint8_t *)"wxyz", 4};
    source = capstore_source_memory(&memory);
    assert_int_equal(source.read(source.ctx, 1, bytes, 3), CAPSTORE_OK);
    assert_memory_equal(bytes, "xyz", 3);
    assert_int_equal(source.read(source.ctx, 2, bytes, 3), CAPSTORE_E_IO);
    assert_int_equal(source.read(source.ctx, UINT64_MAX, bytes, 1), CAPSTORE_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_addresses),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_addresses_over_http),
        cmocka_unit_test(test_longest_path),
        cmocka_unit_test(test_errors_are_the_same),
        cmocka_unit_test(test_hash_text),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
