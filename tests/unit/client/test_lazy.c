/* Lazy maps: memory is right or not there; what cannot be proven is SIGBUS. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/client/slicer.h"
#include "tests/unit/data_body.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)
#define assert_ok(expression)          assert_error(expression, "ok")

#define PAGE  ((size_t)CAPSTORE_PAGE_SIZE)
#define PAGES 200u
#define RANGE (UINT64_C(1) << 30)

struct fixture {
    struct slicer slicer;
    struct cap_buf content;
    struct cap_buf code;
    struct capstore_hash data;
    struct capstore_hash image;
    struct capstore *store;
    struct capstore_reader *reader;
    struct capstore_lazy *lazy;
    unsigned failures; /* that the callback heard of */
    unsigned again;    /* how many of them are to be tried again, the lie being over */
    uint64_t page;     /* of the last failure, as the next two */
    void *address;
    enum capstore_error error;
};

static bool zero_page(size_t page)
{
    return page % 3 == 0 || page >= 180;
}

static void begin(struct fixture *fixture)
{
    *fixture = (struct fixture){.content = slicer_content(PAGES, zero_page)};
    struct cap_buf body = make_data_body(cap_buf_bytes(&fixture->content));
    fixture->data = *slicer_add(&fixture->slicer, &body);
    fixture->code = slicer_content(20, zero_page);
    fixture->code.len -= 1000;
    body = slicer_image(cap_buf_bytes(&fixture->code), &fixture->data, 210 * PAGE);
    fixture->image = *slicer_add(&fixture->slicer, &body);
    fixture->store = slicer_start(&fixture->slicer, PROTO_FEATURE_SLICE);
}

static void end(struct fixture *fixture)
{
    capstore_lazy_free(fixture->lazy);
    capstore_reader_free(fixture->reader);
    capstore_free(fixture->store);
    slicer_stop(&fixture->slicer);
    cap_buf_free(&fixture->content);
    cap_buf_free(&fixture->code);
}

static bool on_failed(void *ctx, const struct capstore_lazy_failure *failure)
{
    struct fixture *fixture = ctx;
    fixture->failures++;
    fixture->page = failure->page;
    fixture->address = failure->address;
    fixture->error = failure->error;
    if (fixture->again == 0) {
        return false;
    }
    fixture->again--;
    fixture->slicer.flip = -1;
    return true;
}

/* Maps the Data cap; skips the test where the kernel does not allow it. */
static const uint8_t *map(struct fixture *fixture)
{
    const struct capstore_lazy_options options = {sizeof(options), on_failed, fixture};
    assert_ok(capstore_open(fixture->store, &fixture->data, NULL, &fixture->reader));
    enum capstore_error error = capstore_map_lazy(fixture->reader, &options, &fixture->lazy);
    if (error == CAPSTORE_E_NOT_SUPPORTED) {
        assert_non_null(strstr(capstore_message(fixture->store), "userfaultfd"));
        end(fixture);
        skip();
    }
    assert_ok(error);
    assert_int_equal(capstore_lazy_bytes(fixture->lazy).len, fixture->content.len);
    return capstore_lazy_bytes(fixture->lazy).data;
}

static sigjmp_buf escape;

static void on_sigbus(int number)
{
    (void)number;
    siglongjmp(escape, 1);
}

/* The kernel lets the page be read after it was placed, of which ThreadSanitizer does not know. */
__attribute__((noinline, no_sanitize("thread"))) static int peek(const volatile uint8_t *at)
{
    return *at;
}

/* The byte there, or -1 for SIGBUS. */
static int touch(const volatile uint8_t *at)
{
    const struct sigaction action = {.sa_handler = on_sigbus};
    struct sigaction before;
    assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
    int byte = sigsetjmp(escape, 1) == 0 ? peek(at) : -1;
    assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
    return byte;
}

/* What is touched is right, and only that is fetched. */
static void test_touch(void **state)
{
    struct fixture fixture;
    (void)state;
    begin(&fixture);
    const uint8_t *bytes = map(&fixture);
    assert_int_equal(fixture.slicer.requests, 1); /* the head */
    assert_int_equal(bytes[70 * PAGE + 5], fixture.content.data[70 * PAGE + 5]);
    assert_int_equal(fixture.slicer.requests, 2);
    assert_memory_equal(bytes + 64 * PAGE, fixture.content.data + 64 * PAGE, 16 * PAGE);
    assert_int_equal(fixture.slicer.requests, 2);
    assert_memory_equal(bytes, fixture.content.data, fixture.content.len);
    assert_int_equal(fixture.failures, 0);
    /* What a program gives back comes again. */
    assert_int_equal(madvise((void *)(uintptr_t)bytes, fixture.content.len, MADV_DONTNEED), 0);
    assert_memory_equal(bytes, fixture.content.data, fixture.content.len);
    end(&fixture);
}

struct toucher {
    pthread_t thread;
    const struct fixture *fixture;
    const uint8_t *bytes;
    size_t first;
    bool wrong;
};

static void *touch_all(void *ctx)
{
    struct toucher *toucher = ctx;
    for (size_t i = 0; i < PAGES; i++) {
        size_t at = (toucher->first + i * 37) % PAGES * PAGE;
        toucher->wrong = toucher->wrong || memcmp(toucher->bytes + at,
                                                  toucher->fixture->content.data + at, PAGE) != 0;
    }
    return NULL;
}

/* Several threads touch the same pages at once. */
static void test_threads(void **state)
{
    struct fixture fixture;
    struct toucher touchers[4];
    (void)state;
    begin(&fixture);
    const uint8_t *bytes = map(&fixture);
    for (size_t i = 0; i < 4; i++) {
        touchers[i] = (struct toucher){.fixture = &fixture, .bytes = bytes, .first = i / 2};
        assert_int_equal(pthread_create(&touchers[i].thread, NULL, touch_all, &touchers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(touchers[i].thread, NULL);
        assert_false(touchers[i].wrong);
    }
    end(&fixture);
}

/* A page that cannot be proven: the function hears of it, then SIGBUS, each time; others are there.
 */
static void test_liar(void **state)
{
    struct fixture fixture;
    (void)state;
    begin(&fixture);
    const uint8_t *bytes = map(&fixture);
    assert_int_equal(touch(bytes), 0);
    fixture.slicer.flip = 1000;
    assert_int_equal(touch(bytes + 50 * PAGE + 9), -1);
    assert_int_equal(fixture.failures, 1);
    assert_int_equal(fixture.page, 50);
    assert_ptr_equal(fixture.address, bytes + 50 * PAGE);
    assert_true(fixture.error == CAPSTORE_E_SLICE_MISMATCH ||
                fixture.error == CAPSTORE_E_SLICE_MALFORMED);
    fixture.slicer.flip = -1;
    assert_int_equal(touch(bytes + 50 * PAGE + 9), -1); /* it stays so */
    assert_int_equal(fixture.failures, 1);
    assert_memory_equal(bytes + 51 * PAGE, fixture.content.data + 51 * PAGE, 20 * PAGE);
    /* One that is tried again, and is right then. */
    fixture.slicer.flip = 1000;
    fixture.again = 1;
    assert_int_equal(touch(bytes + 100 * PAGE + 9), fixture.content.data[100 * PAGE + 9]);
    assert_int_equal(fixture.failures, 2);
    end(&fixture);
}

/* A child has no zeros where pages were not placed yet: it does not have the memory. */
static void test_fork(void **state)
{
    struct fixture fixture;
    int status;
    (void)state;
    begin(&fixture);
    const uint8_t *bytes = map(&fixture);
    pid_t child = fork();
    if (child == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        _exit(bytes[70 * PAGE + 5] == 0 ? 1 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    end(&fixture);
}

/* An Image as capstore_space_place lays it out. */
static void test_space(void **state)
{
    struct fixture fixture;
    (void)state;
    begin(&fixture);
    uint8_t *base =
        mmap(NULL, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(base != MAP_FAILED);
    enum capstore_error error =
        capstore_space_lazy(fixture.store, &fixture.image, NULL, NULL, base, RANGE, &fixture.lazy);
    if (error == CAPSTORE_E_NOT_SUPPORTED) {
        munmap(base, RANGE);
        end(&fixture);
        skip();
    }
    assert_ok(error);
    assert_int_equal(capstore_image_counts(capstore_lazy_image(fixture.lazy)).mappings, 2);
    assert_int_equal(fixture.slicer.requests, 2); /* both heads */
    assert_memory_equal(base + CAPSTORE_CODE_BASE, fixture.code.data, fixture.code.len);
    for (size_t i = fixture.code.len; i < 20 * PAGE; i++) {
        assert_int_equal(base[CAPSTORE_CODE_BASE + i], 0);
    }
    const uint8_t *pinned = base + SLICER_READ_ONLY;
    uint8_t *initial = base + SLICER_WRITABLE;
    initial[17 * PAGE + 1] = 99; /* a page that was not there */
    assert_memory_equal(pinned, fixture.content.data, fixture.content.len);
    assert_int_equal(pinned[205 * PAGE], 0); /* past the cap, within the mapping */
    assert_int_equal(initial[17 * PAGE + 1], 99);
    assert_int_equal(initial[17 * PAGE + 2], fixture.content.data[17 * PAGE + 2]);
    assert_memory_equal(initial + 18 * PAGE, fixture.content.data + 18 * PAGE, 100 * PAGE);
    capstore_lazy_free(fixture.lazy);
    fixture.lazy = NULL;
    assert_error(capstore_space_lazy(fixture.store, &fixture.image, NULL, NULL, base,
                                     SLICER_WRITABLE, &fixture.lazy),
                 "invalid_argument");
    assert_error(
        capstore_space_lazy(fixture.store, &fixture.data, NULL, NULL, base, RANGE, &fixture.lazy),
        "wrong_kind");
    munmap(base, RANGE);
    end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_touch), cmocka_unit_test(test_threads), cmocka_unit_test(test_liar),
        cmocka_unit_test(test_fork),  cmocka_unit_test(test_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
