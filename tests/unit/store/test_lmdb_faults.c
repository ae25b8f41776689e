/*
 * Faults of the disk under the LMDB engine: writes and syncs that fail, one by one.
 *
 * LMDB calls pwrite, writev and fdatasync of the C library; this program puts its own in front,
 * which fail when a countdown says so. A meta page is what LMDB writes in less than a page. pwritev
 * is ours alone: zeros written ahead, without which a commit goes on.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define INTERPOSED __attribute__((visibility("default")))
#define META_MAX   4096u /* a write below it is of a meta page */

enum fault_kind { FAULT_NONE, FAULT_ANY, FAULT_DATA, FAULT_META, FAULT_SYNC, FAULT_AHEAD };

static struct {
    enum fault_kind kind;
    unsigned after; /* calls that still succeed */
    unsigned times; /* then this many fail */
    int error;
    unsigned seen;
} fault;

static bool strikes(enum fault_kind kind)
{
    if (fault.kind != kind && (fault.kind != FAULT_ANY || kind == FAULT_AHEAD)) {
        return false;
    }
    fault.seen++;
    if (fault.after > 0) {
        fault.after--;
        return false;
    }
    if (fault.times == 0) {
        return false;
    }
    fault.times--;
    errno = fault.error;
    return true;
}

INTERPOSED ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (strikes(len < META_MAX ? FAULT_META : FAULT_DATA)) {
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

INTERPOSED ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (strikes(FAULT_DATA)) {
        return -1;
    }
    return syscall(SYS_writev, fd, iov, count);
}

INTERPOSED ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    if (strikes(FAULT_AHEAD)) {
        return -1;
    }
    (void)count; /* a short write, each time */
    return syscall(SYS_pwrite64, fd, iov[0].iov_base, iov[0].iov_len, at);
}

INTERPOSED int fdatasync(int fd)
{
    if (strikes(FAULT_SYNC)) {
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void arm(enum fault_kind kind, unsigned after, unsigned times, int error)
{
    fault.kind = kind;
    fault.after = after;
    fault.times = times;
    fault.error = error;
    fault.seen = 0;
}

static void disarm(void)
{
    fault.kind = FAULT_NONE;
    fault.after = 0;
    fault.times = 0;
}

/* --- Tests ------------------------------------------------------------------------------------ */

static struct fixture_engine lmdb = {.is_lmdb = true, .max_bytes = UINT64_C(1) << 30};

/*
 * A failed sync: that commit is refused and leaves nothing, and it is the last. The device reports
 * what it lost only once, so only opening again says what is there.
 */
static void test_sync_fails(void **state)
{
    struct fixture *fixture = *state;
    assert_cap_ok(put_data(fixture->store, 1, 100000));
    arm(FAULT_SYNC, 0, 1, EIO);
    assert_cap_error(put_data(fixture->store, 2, 100000), CAP_E_IO);
    assert_true(fault.seen > 0);
    disarm();
    assert_cap_ok(check_cap(fixture->store, 1, 100000));
    assert_cap_error(check_cap(fixture->store, 2, 100000), CAP_E_NOT_FOUND);
    assert_int_equal(get_counts(fixture->store).caps[CAP_KIND_DATA], 1);
    assert_cap_error(cap_store_failure(fixture->store), CAP_E_IO);
    assert_cap_error(put_data(fixture->store, 2, 100000), CAP_E_STORE_FAILED);
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_failure(fixture->store));
    assert_cap_ok(put_data(fixture->store, 2, 100000));
    assert_cap_ok(check_cap(fixture->store, 2, 100000));
}

/* A step of a stage and a sweep are commits as any other. */
static void test_sync_fails_in_a_stage(void **state)
{
    struct fixture *fixture = *state;
    uint64_t stage;
    arm(FAULT_SYNC, 0, 1, EIO);
    assert_cap_error(stage_all(fixture->store, 1, 100000, &stage), CAP_E_IO);
    assert_true(fault.seen > 0);
    disarm();
    assert_cap_error(put_data(fixture->store, 2, 100), CAP_E_STORE_FAILED);
    assert_cap_error(stage_all(fixture->store, 1, 100000, &stage), CAP_E_STORE_FAILED);
}

static void test_sync_fails_in_a_sweep(void **state)
{
    struct fixture *fixture = *state;
    uint64_t stage;
    assert_cap_ok(stage_all(fixture->store, 1, 100000, &stage));
    arm(FAULT_SYNC, 0, 1, EIO);
    assert_cap_error(drop_stage(fixture->store, stage), CAP_E_IO);
    assert_true(fault.seen > 0);
    disarm();
    assert_cap_error(cap_store_failure(fixture->store), CAP_E_IO);
    assert_cap_error(put_data(fixture->store, 2, 100), CAP_E_STORE_FAILED);
}

/* Dropping a stage is a mark: nothing is written, and each sweep is one bounded commit. */
static void test_dropping_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t len = 100 << 20; /* 1,601 chunks: four sweeps of 512, and one finds nothing */
    uint64_t stage;
    bool more = true;
    assert_cap_ok(stage_all(fixture->store, 1, len, &stage));
    arm(FAULT_SYNC, 1000, 0, EIO); /* only counts */
    cap_store_stage_drop(fixture->store, stage);
    assert_int_equal(fault.seen, 0);
    assert_cap_ok(put_data(fixture->store, 2, 100));
    assert_int_equal(fault.seen, 1);
    for (unsigned sweeps = 1; more; sweeps++) {
        assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
        assert_int_equal(fault.seen, more ? 1 + sweeps : sweeps);
        assert_true(sweeps <= 5);
    }
    assert_int_equal(fault.seen, 1 + 4);
}

/* So is admitting a staged cap that is there already. */
static void test_known_staged_cap_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seed = 1;
    struct cap_put put = fake_data(&seed, 100 << 20);
    uint64_t twin;
    bool more = true, is_new = true;
    assert_cap_ok(stage_all(fixture->store, 1, 100 << 20, &put.stage));
    assert_cap_ok(stage_all(fixture->store, 1, 100 << 20, &twin));
    assert_cap_ok(put_one(fixture->store, &put, NULL));
    put.stage = twin;
    arm(FAULT_SYNC, 1000, 0, EIO); /* only counts */
    assert_cap_ok(put_one(fixture->store, &put, &is_new));
    assert_false(is_new);
    assert_int_equal(fault.seen, 0); /* nothing to write: the chunks are left to the sweeps */
    while (more) {
        assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
    }
    assert_int_equal(fault.seen, 4);
    disarm();
    assert_cap_ok(check_cap(fixture->store, 1, 100 << 20));
}

static void test_no_space(void **state)
{
    static const int errors[] = {ENOSPC, EDQUOT};
    struct fixture *fixture = *state;
    assert_cap_ok(put_data(fixture->store, 1, 100000));
    for (size_t i = 0; i < 2; i++) {
        arm(FAULT_ANY, 0, 1000, errors[i]);
        assert_cap_error(put_data(fixture->store, 2 + i, 100000), CAP_E_DISK_FULL);
        assert_cap_ok(check_cap(fixture->store, 1, 100000)); /* reads go on meanwhile */
        disarm();
        assert_cap_error(check_cap(fixture->store, 2 + i, 100000), CAP_E_NOT_FOUND);
        assert_cap_ok(put_data(fixture->store, 2 + i, 100000));
    }
}

/* Zeros in front of the last page are a help that no put depends on. */
static void test_writing_ahead_fails(void **state)
{
    struct fixture *fixture = *state;
    arm(FAULT_AHEAD, 0, 1000, ENOSPC);
    for (uint64_t seed = 1; seed <= 300; seed++) {
        assert_cap_ok(put_data(fixture->store, seed, 4096));
    }
    assert_true(fault.seen > 0);
    disarm();
    for (uint64_t seed = 301; seed <= 600; seed++) {
        assert_cap_ok(put_data(fixture->store, seed, 4096));
    }
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
    for (uint64_t seed = 1; seed <= 600; seed++) {
        assert_cap_ok(check_cap(fixture->store, seed, 4096));
    }
}

/* A failed meta page: nobody can say what is on the disk, so the store must be opened again. */
static void test_meta_fails(void **state)
{
    struct fixture *fixture = *state;
    struct cap_read *read;
    uint64_t stage;
    assert_cap_ok(put_data(fixture->store, 1, 100000));
    arm(FAULT_META, 0, 1000, EIO);
    assert_cap_error(put_data(fixture->store, 2, 100000), CAP_E_STORE_FAILED);
    disarm();
    assert_cap_error(cap_store_read_begin(fixture->store, &read), CAP_E_STORE_FAILED);
    assert_cap_error(put_data(fixture->store, 3, 100), CAP_E_STORE_FAILED);
    assert_cap_error(stage_all(fixture->store, 3, 100, &stage), CAP_E_STORE_FAILED);
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(check_cap(fixture->store, 1, 100000));
    enum cap_error error = check_cap(fixture->store, 2, 100000);
    assert_true(error == CAP_OK || error == CAP_E_NOT_FOUND);
    assert_cap_ok(put_data(fixture->store, 2, 100000));
}

/* Publishes a staged cap and a small one. */
static enum cap_error publish(struct cap_store *store, uint64_t seed)
{
    struct cap_put put = fake_data(&seed, 9 << 20);
    enum cap_error error = put_data(store, seed + 1, 50);
    if (error == CAP_OK) {
        error = stage_all(store, seed, 9 << 20, &put.stage);
    }
    if (error != CAP_OK) {
        return error;
    }
    error = put_one(store, &put, NULL);
    if (error != CAP_OK) {
        (void)drop_stage(store, put.stage);
    }
    return error;
}

static void check_whole_or_absent(struct cap_store *store, uint64_t seed, uint64_t len,
                                  uint64_t *ret_present)
{
    enum cap_error error = check_cap(store, seed, len);
    if (error != CAP_OK) {
        assert_cap_error(error, CAP_E_NOT_FOUND);
    }
    *ret_present += error == CAP_OK;
}

/* The first call fails, then the second, … until nothing does: always whole or absent. */
static void fail_each(struct fixture *fixture, unsigned times, int code)
{
    uint64_t present = 1;
    enum cap_error error = CAP_E_IO;
    unsigned n;
    assert_cap_ok(put_data(fixture->store, 1, 100000));
    for (n = 0; error != CAP_OK; n++) {
        uint64_t seed = 100 + 2 * n;
        assert_true(n < 200);
        arm(FAULT_ANY, n, times, code);
        error = publish(fixture->store, seed);
        disarm();
        if (cap_store_failure(fixture->store) != CAP_OK) {
            fixture_close(fixture);
            assert_cap_ok(fixture_open(fixture));
        }
        assert_cap_ok(check_cap(fixture->store, 1, 100000));
        check_whole_or_absent(fixture->store, seed, 9 << 20, &present);
        check_whole_or_absent(fixture->store, seed + 1, 50, &present);
        assert_int_equal(get_counts(fixture->store).caps[CAP_KIND_DATA], present);
    }
    assert_true(n > 5);
}

static void test_each_call_fails_once(void **state)
{
    fail_each(*state, 1, EIO);
}

static void test_each_call_and_all_after_fail(void **state)
{
    fail_each(*state, 100000, ENOSPC);
}

#define WITH(function)                                                                             \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &lmdb                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_sync_fails),
        WITH(test_sync_fails_in_a_stage),
        WITH(test_sync_fails_in_a_sweep),
        WITH(test_dropping_is_bounded),
        WITH(test_known_staged_cap_is_bounded),
        WITH(test_no_space),
        WITH(test_writing_ahead_fails),
        WITH(test_meta_fails),
        WITH(test_each_call_fails_once),
        WITH(test_each_call_and_all_after_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
