/* Readers: what they give, what they ask for, and what a daemon or a cache cannot make them give.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/client/slicer.h"
#include "tests/unit/data_body.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)
#define assert_ok(expression)          assert_error(expression, "ok")

#define GROUP ((size_t)16 * CAPSTORE_PAGE_SIZE)
#define PAGES 1000u /* of the Data cap: 62 groups and a half */

struct fixture {
    struct slicer slicer;
    struct cap_buf content;
    struct cap_buf code;
    struct capstore_hash data;
    struct capstore_hash image;
    struct capstore *store;
    struct capstore_reader *reader;
};

static bool zero_page(size_t page)
{
    return page % 5 == 0 || (page >= 100 && page < 300);
}

static void begin_with(struct fixture *fixture, uint64_t features,
                       const struct capstore_options *options)
{
    *fixture = (struct fixture){.content = slicer_content(PAGES, zero_page)};
    struct cap_buf body = make_data_body(cap_buf_bytes(&fixture->content));
    fixture->data = *slicer_add(&fixture->slicer, &body);
    fixture->code = slicer_content(40, zero_page);
    fixture->code.len -= 1000;
    body = slicer_image(cap_buf_bytes(&fixture->code), &fixture->data, 8192);
    fixture->image = *slicer_add(&fixture->slicer, &body);
    fixture->slicer.options = options;
    fixture->store = slicer_start(&fixture->slicer, features);
}

static void begin(struct fixture *fixture, uint64_t features)
{
    begin_with(fixture, features, NULL);
}

static void end(struct fixture *fixture)
{
    capstore_reader_free(fixture->reader);
    capstore_free(fixture->store);
    slicer_stop(&fixture->slicer);
    cap_buf_free(&fixture->content);
    cap_buf_free(&fixture->code);
}

static void open_with(struct fixture *fixture, const struct capstore_hash *hash,
                      const struct capstore_open_options *options)
{
    capstore_reader_free(fixture->reader);
    fixture->reader = NULL;
    assert_ok(capstore_open(fixture->store, hash, options, &fixture->reader));
}

/* Reads, and compares with the content. */
static void read_right(struct fixture *fixture, size_t offset, size_t len)
{
    uint8_t *bytes = malloc(len);
    size_t got = 0;
    assert_non_null(bytes);
    assert_error(capstore_read(fixture->reader, offset, bytes, len, &got), "ok");
    size_t left = fixture->content.len - offset;
    assert_int_equal(got, len < left ? len : left);
    assert_memory_equal(bytes, fixture->content.data + offset, got);
    free(bytes);
}

/* ---- reading ---- */

/* Any range is right, and what was read once costs no request. */
static void test_reads(void **state)
{
    struct fixture fixture;
    uint32_t seed = 1;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    open_with(&fixture, &fixture.data, NULL);
    assert_int_equal(capstore_reader_kind(fixture.reader), CAPSTORE_KIND_DATA);
    assert_int_equal(capstore_reader_size(fixture.reader), fixture.content.len);
    assert_null(capstore_reader_image(fixture.reader));
    for (int i = 0; i < 200; i++) {
        seed = seed * 1103515245 + 12345;
        size_t offset = seed % fixture.content.len;
        seed = seed * 1103515245 + 12345;
        read_right(&fixture, offset, (seed >> 8) % 200000);
    }
    read_right(&fixture, 0, fixture.content.len);
    unsigned before = fixture.slicer.requests;
    read_right(&fixture, 0, fixture.content.len);
    read_right(&fixture, 4095, 2);
    assert_int_equal(fixture.slicer.requests, before);
    size_t got = 7;
    uint8_t byte;
    assert_ok(capstore_read(fixture.reader, fixture.content.len, &byte, 1, &got));
    assert_int_equal(got, 0);
    assert_ok(capstore_read(fixture.reader, UINT64_MAX, &byte, 1, &got));
    assert_int_equal(got, 0);
    struct capstore_read_counts stats = capstore_reader_stats(fixture.reader);
    assert_int_equal(stats.requests, before);
    assert_int_equal(stats.fetched_pages, PAGES);
    end(&fixture);
}

/* Lost, and nobody said where to connect again. */
static void test_without_an_address(void **state)
{
    struct fixture fixture;
    uint8_t byte;
    size_t got;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    open_with(&fixture, &fixture.data, NULL);
    capstore_close(fixture.store);
    assert_error(capstore_read(fixture.reader, GROUP * 3, &byte, 1, &got), "connection_lost");
    assert_string_equal(capstore_message(fixture.store),
                        "not connected, and this handle was not told the daemon's address");
    end(&fixture);
}

/* An Image: its structure from the head, its code to the byte. */
static void test_image(void **state)
{
    struct fixture fixture;
    uint8_t bytes[200000];
    size_t got;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    open_with(&fixture, &fixture.image, NULL);
    const struct capstore_cap *image = capstore_reader_image(fixture.reader);
    assert_non_null(image);
    assert_int_equal(capstore_image_counts(image).mappings, 2);
    assert_int_equal(capstore_reader_size(fixture.reader), fixture.code.len);
    assert_ok(capstore_read(fixture.reader, 0, bytes, sizeof(bytes), &got));
    assert_int_equal(got, fixture.code.len);
    assert_memory_equal(bytes, fixture.code.data, got);
    end(&fixture);
}

/* Fetches double while reads run on, and begin anew after a jump. */
static void test_readahead(void **state)
{
    static const unsigned wanted[] = {16, 32, 64, 128, 128, 128};
    const struct capstore_open_options options = {.struct_size = sizeof(options),
                                                  .readahead = 8 * GROUP};
    struct fixture fixture;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    open_with(&fixture, &fixture.data, &options);
    assert_int_equal(fixture.slicer.asked, 0);
    size_t at = 0;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        read_right(&fixture, at, 10);
        assert_int_equal(fixture.slicer.asked, wanted[i]);
        at += wanted[i] * (size_t)CAPSTORE_PAGE_SIZE;
    }
    read_right(&fixture, 55 * GROUP, 10); /* a jump */
    assert_int_equal(fixture.slicer.asked, 16);
    read_right(&fixture, 56 * GROUP, 10);
    assert_int_equal(fixture.slicer.asked, 32);
    read_right(&fixture, 54 * GROUP, GROUP); /* what is here is not asked for again */
    assert_int_equal(fixture.slicer.asked, 16);
    end(&fixture);
}

/* With little memory, what is read is right, and is not all kept. */
static void test_memory(void **state)
{
    const struct capstore_open_options options = {.struct_size = sizeof(options), .max_memory = 1};
    struct fixture fixture;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    open_with(&fixture, &fixture.data, &options);
    for (int i = 0; i < 3; i++) {
        read_right(&fixture, 0, fixture.content.len);
    }
    struct capstore_read_counts stats = capstore_reader_stats(fixture.reader);
    assert_int_equal(stats.fetched_pages, 3 * PAGES);
    read_right(&fixture, fixture.content.len - GROUP, GROUP); /* the newest are kept */
    assert_int_equal(capstore_reader_stats(fixture.reader).fetched_pages, 3 * PAGES);
    end(&fixture);
}

/* A wrong bit anywhere in a slice is an error and never a wrong byte; then all goes on. */
static void test_liar(void **state)
{
    struct fixture fixture;
    uint8_t bytes[GROUP];
    int found = 0;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    for (int flip = 0; flip < 3000; flip += 29) {
        open_with(&fixture, &fixture.data, NULL);
        fixture.slicer.flip = flip;
        enum capstore_error error =
            capstore_read(fixture.reader, 33 * GROUP, bytes, sizeof(bytes), NULL);
        assert_true(error == CAPSTORE_E_SLICE_MISMATCH || error == CAPSTORE_E_SLICE_MALFORMED);
        assert_true(strlen(capstore_message(fixture.store)) > 0);
        found += error == CAPSTORE_E_SLICE_MISMATCH;
        fixture.slicer.flip = -1;
        fake_assert_usable(fixture.store);
        read_right(&fixture, 33 * GROUP, sizeof(bytes));
    }
    assert_true(found > 60);
    fixture.slicer.flip = 3;
    capstore_reader_free(fixture.reader);
    fixture.reader = NULL;
    enum capstore_error error = capstore_open(fixture.store, &fixture.image, NULL, &fixture.reader);
    assert_true(error == CAPSTORE_E_SLICE_MISMATCH || error == CAPSTORE_E_SLICE_MALFORMED);
    end(&fixture);
}

/* What is not there. */
static void test_absent(void **state)
{
    const struct capstore_hash none = {{9}};
    struct fixture fixture;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    assert_error(capstore_open(fixture.store, &none, NULL, &fixture.reader), "not_found");
    assert_null(fixture.reader);
    end(&fixture);
}

/* A daemon without slices: one fetch of the body, and all is read from it. */
static void test_whole(void **state)
{
    struct fixture fixture;
    (void)state;
    begin(&fixture, 0);
    open_with(&fixture, &fixture.data, NULL);
    read_right(&fixture, 0, fixture.content.len);
    read_right(&fixture, 123456, 789);
    assert_int_equal(fixture.slicer.requests, 1);
    open_with(&fixture, &fixture.image, NULL);
    assert_int_equal(capstore_image_counts(capstore_reader_image(fixture.reader)).mappings, 2);
    uint8_t bytes[200000];
    size_t got;
    assert_ok(capstore_read(fixture.reader, 0, bytes, sizeof(bytes), &got));
    assert_int_equal(got, fixture.code.len);
    assert_memory_equal(bytes, fixture.code.data, got);
    assert_int_equal(fixture.slicer.requests, 2);
    end(&fixture);
}

/* A daemon without slices that sends another cap: it is not read from, whatever the handle lets
 * pass. */
static void test_whole_of_another(void **state)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture fixture;
        options.no_verify = i == 1;
        begin_with(&fixture, 0, &options);
        fixture.slicer.hashes[0].bytes[5] ^= 1;
        fixture.slicer.hashes[1].bytes[5] ^= 1;
        for (size_t k = 0; k < 2; k++) {
            assert_error(
                capstore_open(fixture.store, &fixture.slicer.hashes[k], NULL, &fixture.reader),
                "hash_mismatch");
            assert_true(capstore_connected(fixture.store));
        }
        end(&fixture);
    }
}

/* ---- threads ---- */

struct worker {
    pthread_t thread;
    struct fixture *fixture;
    struct capstore_reader *readers[2];
    uint32_t seed;
    int wrong;
};

static void *work(void *ctx)
{
    struct worker *worker = ctx;
    const struct cap_buf *contents[2] = {&worker->fixture->content, &worker->fixture->code};
    uint8_t bytes[20000];
    for (int i = 0; i < 200; i++) {
        worker->seed = worker->seed * 1103515245 + 12345;
        size_t which = (worker->seed >> 16) % 2;
        size_t offset = (worker->seed >> 4) % contents[which]->len;
        size_t got = 0;
        if (capstore_read(worker->readers[which], offset, bytes, sizeof(bytes), &got) !=
                CAPSTORE_OK ||
            got == 0 || memcmp(bytes, contents[which]->data + offset, got) != 0) {
            worker->wrong++;
        }
        (void)capstore_reader_stats(worker->readers[which]);
    }
    return NULL;
}

/* Several threads, two readers of one store. */
static void test_threads(void **state)
{
    const struct capstore_open_options options = {.struct_size = sizeof(options), .max_memory = 1};
    struct fixture fixture;
    struct worker workers[4] = {{.seed = 1}, {.seed = 2}, {.seed = 3}, {.seed = 4}};
    struct capstore_reader *other;
    (void)state;
    begin(&fixture, PROTO_FEATURE_SLICE);
    open_with(&fixture, &fixture.data, &options);
    assert_ok(capstore_open(fixture.store, &fixture.image, NULL, &other));
    for (size_t i = 0; i < 4; i++) {
        workers[i].fixture = &fixture;
        workers[i].readers[0] = fixture.reader;
        workers[i].readers[1] = other;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].wrong, 0);
    }
    capstore_reader_free(other);
    end(&fixture);
}

/* ---- the cache ---- */

struct cached {
    struct fixture fixture;
    char directory[64];
    char path[256];
    struct capstore_open_options options;
};

static void begin_cached(struct cached *cached, uint64_t features)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    begin(&cached->fixture, features);
    snprintf(cached->directory, sizeof(cached->directory), "/tmp/capstore-test-XXXXXX");
    assert_non_null(mkdtemp(cached->directory));
    capstore_hash_format(&cached->fixture.data, hex);
    snprintf(cached->path, sizeof(cached->path), "%s/%s.pages", cached->directory, hex);
    cached->options = (struct capstore_open_options){.struct_size = sizeof(cached->options),
                                                     .cache_directory = cached->directory};
}

static void end_cached(struct cached *cached)
{
    end(&cached->fixture);
    unlink(cached->path);
    assert_int_equal(rmdir(cached->directory), 0);
}

static void reopen(struct cached *cached)
{
    open_with(&cached->fixture, &cached->fixture.data, &cached->options);
}

/* A later reader goes on where an earlier one ended, without a request. */
static void test_cache(void **state)
{
    struct cached cached;
    struct fixture *fixture = &cached.fixture;
    (void)state;
    begin_cached(&cached, PROTO_FEATURE_SLICE);
    reopen(&cached);
    read_right(fixture, 3 * GROUP + 5, 4 * GROUP);
    read_right(fixture, 20 * GROUP, 10);                /* between pages of zeros */
    read_right(fixture, fixture->content.len - 10, 10); /* the last group, which is not full */
    assert_false(capstore_reader_stats(fixture->reader).cache_failed);
    unsigned before = fixture->slicer.requests;
    reopen(&cached);
    read_right(fixture, 3 * GROUP + 5, 4 * GROUP);
    read_right(fixture, 10 * GROUP, 10);
    read_right(fixture, fixture->content.len - 10, 10);
    assert_int_equal(fixture->slicer.requests, before + 1); /* group 10 */
    struct capstore_read_counts stats = capstore_reader_stats(fixture->reader);
    assert_int_equal(stats.cached_pages, 5 * 16 + 8);
    assert_int_equal(stats.dropped_pages, 0);
    read_right(fixture, 0, fixture->content.len);
    reopen(&cached);
    before = fixture->slicer.requests;
    read_right(fixture, 0, fixture->content.len);
    assert_int_equal(fixture->slicer.requests, before);
    struct stat info;
    assert_int_equal(stat(cached.path, &info), 0);
    assert_true((uint64_t)info.st_blocks * 512 < fixture->content.len); /* zeros take no room */
    end_cached(&cached);
}

/* What a daemon without slices sends goes to the cache, all of it. */
static void test_cache_whole(void **state)
{
    struct cached cached;
    (void)state;
    begin_cached(&cached, 0);
    reopen(&cached);
    read_right(&cached.fixture, 5 * GROUP, 10);
    assert_int_equal(cached.fixture.slicer.requests, 1);
    reopen(&cached);
    read_right(&cached.fixture, 0, cached.fixture.content.len);
    assert_int_equal(cached.fixture.slicer.requests, 1);
    end_cached(&cached);
}

static void change_byte(const char *path, off_t at)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Whatever is changed in the file, what is read is right, and is put right in the file. */
static void test_cache_changed(void **state)
{
    struct cached cached;
    struct fixture *fixture = &cached.fixture;
    struct stat info;
    uint64_t dropped = 0;
    (void)state;
    begin_cached(&cached, PROTO_FEATURE_SLICE);
    reopen(&cached);
    read_right(fixture, 0, fixture->content.len);
    assert_int_equal(stat(cached.path, &info), 0);
    /* Dense where the head, the map and the nodes are. */
    for (off_t at = 0; at < info.st_size; at += at < 16384 ? 151 : 300007) {
        change_byte(cached.path, at);
        reopen(&cached);
        read_right(fixture, 0, fixture->content.len);
        dropped += capstore_reader_stats(fixture->reader).dropped_pages;
    }
    assert_true(dropped > 100);
    unsigned before = fixture->slicer.requests;
    reopen(&cached);
    read_right(fixture, 0, fixture->content.len);
    assert_int_equal(fixture->slicer.requests, before);
    end_cached(&cached);
}

/* A file that ends early, as after a power cut, or is of another cap, or nonsense. */
static void test_cache_torn(void **state)
{
    struct cached cached;
    struct fixture *fixture = &cached.fixture;
    struct stat info;
    (void)state;
    begin_cached(&cached, PROTO_FEATURE_SLICE);
    reopen(&cached);
    read_right(fixture, 0, fixture->content.len);
    assert_int_equal(stat(cached.path, &info), 0);
    for (off_t len = info.st_size; len >= 0; len -= len > 16384 ? 500009 : 1500) {
        assert_int_equal(truncate(cached.path, len), 0);
        reopen(&cached);
        read_right(fixture, 0, fixture->content.len);
    }
    char other[512];
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(&fixture->image, hex);
    snprintf(other, sizeof(other), "%s/%s.pages", cached.directory, hex);
    assert_int_equal(rename(cached.path, other), 0);
    open_with(fixture, &fixture->image, &cached.options);
    uint8_t bytes[200000];
    size_t got;
    assert_ok(capstore_read(fixture->reader, 0, bytes, sizeof(bytes), &got));
    assert_int_equal(got, fixture->code.len);
    assert_memory_equal(bytes, fixture->code.data, got);
    unlink(other);
    end_cached(&cached);
}

/* Two readers of one cap and one cache at a time, one of which the other's file is changed under.
 */
static void test_cache_shared(void **state)
{
    struct cached cached;
    struct fixture *fixture = &cached.fixture;
    struct capstore_reader *first;
    (void)state;
    begin_cached(&cached, PROTO_FEATURE_SLICE);
    assert_ok(capstore_open(fixture->store, &fixture->data, &cached.options, &first));
    reopen(&cached);
    read_right(fixture, 0, 20 * GROUP);
    unsigned before = fixture->slicer.requests;
    struct capstore_reader *second = fixture->reader;
    fixture->reader = first;
    read_right(fixture, 0, 20 * GROUP); /* what the other one fetched */
    assert_int_equal(fixture->slicer.requests, before);
    assert_int_equal(truncate(cached.path, 0), 0);
    read_right(fixture, 0, fixture->content.len);
    capstore_reader_free(second);
    end_cached(&cached);
}

/* A file with another name too is not written to: somebody may have put it there. */
static void test_cache_linked(void **state)
{
    struct cached cached;
    struct stat info;
    char other[sizeof(cached.path) + sizeof(".other")];
    (void)state;
    begin_cached(&cached, PROTO_FEATURE_SLICE);
    snprintf(other, sizeof(other), "%s.other", cached.path);
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(link(other, cached.path), 0);
    reopen(&cached);
    read_right(&cached.fixture, 0, cached.fixture.content.len);
    assert_true(capstore_reader_stats(cached.fixture.reader).cache_failed);
    assert_int_equal(stat(other, &info), 0);
    assert_int_equal(info.st_size, 0);
    unlink(other);
    reopen(&cached);
    read_right(&cached.fixture, 0, cached.fixture.content.len);
    assert_false(capstore_reader_stats(cached.fixture.reader).cache_failed);
    end_cached(&cached);
}

/* Something in the way of the file, and no directory: reading goes on without a cache. */
static void test_cache_failed(void **state)
{
    struct cached cached;
    struct fixture *fixture = &cached.fixture;
    (void)state;
    begin_cached(&cached, PROTO_FEATURE_SLICE);
    assert_int_equal(mkfifo(cached.path, 0600), 0);
    reopen(&cached);
    read_right(fixture, 0, fixture->content.len);
    assert_true(capstore_reader_stats(fixture->reader).cache_failed);
    unlink(cached.path);
    assert_int_equal(symlink("elsewhere", cached.path), 0);
    reopen(&cached);
    assert_true(capstore_reader_stats(fixture->reader).cache_failed);
    cached.options.cache_directory = "/nonexistent";
    reopen(&cached);
    read_right(fixture, 0, fixture->content.len);
    assert_true(capstore_reader_stats(fixture->reader).cache_failed);
    end_cached(&cached);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_without_an_address),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_readahead),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_liar),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_whole_of_another),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_whole),
        cmocka_unit_test(test_cache_changed),
        cmocka_unit_test(test_cache_torn),
        cmocka_unit_test(test_cache_shared),
        cmocka_unit_test(test_cache_failed),
        cmocka_unit_test(test_cache_linked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
