/* Receives and sends of many sockets: one by one, together, and with a ring that fails midway. */
#include "tests/unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/calls.h"

#define LEN 100u /* bytes of a span */

struct io_uring;
struct io_uring_probe;

/* Weak: a build without io_uring has none, and calls none. */
int real_submit(struct io_uring *ring, unsigned wait) __asm__("__real_io_uring_submit_and_wait")
    __attribute__((weak));
int wrap_submit(struct io_uring *ring, unsigned wait) __asm__("__wrap_io_uring_submit_and_wait");

struct io_uring_probe *real_probe(struct io_uring *ring) __asm__("__real_io_uring_get_probe_ring")
    __attribute__((weak));
struct io_uring_probe *wrap_probe(struct io_uring *ring) __asm__("__wrap_io_uring_get_probe_ring");

enum trouble { NONE, BEFORE, AFTER, INTERRUPTED };

static struct {
    enum trouble trouble;
    unsigned times;
} submits;

/* BEFORE: nothing was done; AFTER: everything was, and the call fails all the same. */
int wrap_submit(struct io_uring *ring, unsigned wait)
{
    submits.times++;
    if (submits.trouble == BEFORE) {
        return -ENOMEM;
    }
    if (submits.trouble == INTERRUPTED && submits.times % 2 == 1) {
        return -EINTR;
    }
    int n = real_submit(ring, wait);
    return submits.trouble == AFTER ? -ENOMEM : n;
}

static bool is_old; /* the kernel: it has rings, and cannot say what they can do */

struct io_uring_probe *wrap_probe(struct io_uring *ring)
{
    return is_old ? NULL : real_probe(ring);
}

struct fixture {
    struct calls calls;
    int ours[CALLS_MAX];
    int theirs[CALLS_MAX];
    uint8_t bytes[CALLS_MAX][CALL_SPANS][LEN];
    uint8_t arrived[CALLS_MAX][CALL_SPANS * LEN];
    struct call list[CALLS_MAX];
};

static void open_pairs(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    submits.trouble = NONE;
    submits.times = 0;
    for (size_t i = 0; i < CALLS_MAX; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
                         0);
        fixture->ours[i] = fds[0];
        fixture->theirs[i] = fds[1];
        for (size_t span = 0; span < CALL_SPANS; span++) {
            memset(fixture->bytes[i][span], (int)(i * CALL_SPANS + span) & 0xff, LEN);
        }
    }
}

static void close_pairs(struct fixture *fixture)
{
    calls_close(&fixture->calls);
    for (size_t i = 0; i < CALLS_MAX; i++) {
        close(fixture->ours[i]);
        close(fixture->theirs[i]);
    }
}

/* Whether there is a ring. The system or the build may have none: the test then goes on without. */
static bool open_ring(struct fixture *fixture, unsigned most)
{
    enum cap_error error = calls_open(&fixture->calls, most);
    assert_true(error == CAP_OK || error == CAP_E_IO);
    return error == CAP_OK;
}

static void plan_send(struct fixture *fixture, size_t i, size_t spans)
{
    struct call *call = &fixture->list[i];
    *call = (struct call){.fd = fixture->ours[i], .sends = true, .count = spans};
    for (size_t span = 0; span < spans; span++) {
        call->spans[span] = (struct iovec){fixture->bytes[i][span], LEN};
    }
}

static void plan_receive(struct fixture *fixture, size_t i)
{
    fixture->list[i] = (struct call){
        .fd = fixture->theirs[i],
        .spans = {{fixture->arrived[i], sizeof(fixture->arrived[i])}},
        .count = 1,
    };
}

/* Every socket sends another number of spans, the first and the last none, and receives them. */
static void exchange(struct fixture *fixture)
{
    for (size_t i = 0; i < CALLS_MAX; i++) {
        plan_send(fixture, i, i == CALLS_MAX - 1 ? 0 : i % (CALL_SPANS + 1));
    }
    calls_make(&fixture->calls, fixture->list, CALLS_MAX);
    for (size_t i = 0; i < CALLS_MAX; i++) {
        assert_int_equal(fixture->list[i].result, fixture->list[i].count * LEN);
        plan_receive(fixture, i);
    }
    calls_make(&fixture->calls, fixture->list, CALLS_MAX);
    for (size_t i = 0; i < CALLS_MAX; i++) {
        size_t len = i == CALLS_MAX - 1 ? 0 : i % (CALL_SPANS + 1) * LEN;
        assert_int_equal(fixture->list[i].result, len == 0 ? -EAGAIN : (ssize_t)len);
        assert_memory_equal(fixture->arrived[i], fixture->bytes[i], len);
    }
}

static void test_one_by_one(void **state)
{
    struct fixture fixture;
    (void)state;
    open_pairs(&fixture);
    exchange(&fixture);
    assert_int_equal(submits.times, 0);
    close_pairs(&fixture);
}

/* All of a list in as few system calls as its bound allows. */
static void test_together(void **state)
{
    static const unsigned most[] = {1, 2, 7, CALLS_MAX};
    struct fixture fixture;
    (void)state;
    for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        open_pairs(&fixture);
        bool ring = open_ring(&fixture, most[i]);
        exchange(&fixture);
        exchange(&fixture);
        unsigned lists = (CALLS_MAX + most[i] - 1) / most[i];
        assert_in_range(submits.times, 0, 4 * lists);
        assert_true(!ring || submits.times > 0);
        close_pairs(&fixture);
    }
}

/* A call that was made is never made again, whenever the ring fails. */
static void test_ring_that_fails(void **state)
{
    struct fixture fixture;
    (void)state;
    for (enum trouble trouble = BEFORE; trouble <= INTERRUPTED; trouble++) {
        open_pairs(&fixture);
        bool ring = open_ring(&fixture, CALLS_MAX);
        submits.trouble = trouble;
        exchange(&fixture);
        assert_int_equal(fixture.calls.ring != NULL, ring && trouble == INTERRUPTED);
        exchange(&fixture);
        close_pairs(&fixture);
    }
}

/* Linux 5.1 to 5.5 have rings that neither send nor receive: each call would end with EINVAL. */
static void test_ring_without_sockets(void **state)
{
    struct fixture fixture;
    (void)state;
    open_pairs(&fixture);
    is_old = true;
    assert_int_equal(calls_open(&fixture.calls, CALLS_MAX), CAP_E_IO);
    is_old = false;
    exchange(&fixture);
    assert_int_equal(submits.times, 0);
    close_pairs(&fixture);
}

/* What a socket cannot do is over at once, and each call has an end of its own. */
static void test_sockets_in_trouble(void **state)
{
    struct fixture fixture;
    (void)state;
    for (int with_ring = 0; with_ring <= 1; with_ring++) {
        open_pairs(&fixture);
        if (with_ring != 0) {
            (void)open_ring(&fixture, CALLS_MAX);
        }
        unsigned rounds = 0;
        do { /* until the first is full */
            plan_send(&fixture, 0, CALL_SPANS);
            plan_send(&fixture, 1, 1);
            calls_make(&fixture.calls, fixture.list, 2);
            rounds += fixture.list[1].result == LEN;
            plan_receive(&fixture, 1);
            calls_make(&fixture.calls, fixture.list + 1, 1);
            assert_int_equal(fixture.list[1].result, LEN);
        } while (fixture.list[0].result > 0);
        assert_int_equal(fixture.list[0].result, -EAGAIN);
        assert_true(rounds > 1);
        close(fixture.theirs[2]);
        plan_send(&fixture, 2, 1);
        close(fixture.ours[3]);
        plan_receive(&fixture, 3);
        plan_receive(&fixture, 4);
        plan_send(&fixture, 5, 2);
        calls_make(&fixture.calls, fixture.list + 2, 4);
        assert_int_equal(fixture.list[2].result, -EPIPE);
        assert_int_equal(fixture.list[3].result, 0);
        assert_int_equal(fixture.list[4].result, -EAGAIN);
        assert_int_equal(fixture.list[5].result, 2 * LEN);
        fixture.theirs[2] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        fixture.ours[3] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        close_pairs(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_by_one),         cmocka_unit_test(test_together),
        cmocka_unit_test(test_ring_that_fails),    cmocka_unit_test(test_ring_without_sockets),
        cmocka_unit_test(test_sockets_in_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
