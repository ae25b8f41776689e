/*
 * The sending side of a connection, with streams that wait, fail and end at every point of a frame.
 */
#include "tests/unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/framing.h"
#include "daemon/net/handover.h"
#include "proto/frame.h"

#define LONG_LEN ((size_t)PROTO_FRAME_MAX * 2 + 1000)

struct fixture {
    int ours;
    int theirs;
    struct output output;
    uint8_t *content;       /* LONG_LEN bytes */
    struct cap_buf arrived; /* at the other end */
};

/* A stream of the content whose answers a test scripts. */
struct test_stream {
    struct stream stream;
    struct fixture *fixture;
    uint64_t offset;
    uint64_t wait_at; /* waits when asked at or past this offset, until cleared */
    uint64_t fail_at;
    const void *unreadable; /* handed out instead of the content from `fail_at` on */
    unsigned over;
    enum cap_error error;
};

static enum stream_answer window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                 int *ret_count)
{
    struct test_stream *test = (struct test_stream *)(void *)stream;
    if (test->offset >= test->wait_at) {
        return STREAM_WAITS;
    }
    if (test->offset >= test->fail_at && test->unreadable == NULL) {
        stream->error = CAP_E_CORRUPT;
        return STREAM_FAILED;
    }
    ret_iov[0].iov_base = test->fixture->content + test->offset;
    if (test->offset >= test->fail_at) {
        memcpy(&ret_iov[0].iov_base, &test->unreadable, sizeof(test->unreadable));
    }
    ret_iov[0].iov_len = len;
    *ret_count = 1;
    return STREAM_READY;
}

static void sent(struct stream *stream, size_t len)
{
    struct test_stream *test = (struct test_stream *)(void *)stream;
    test->offset += len;
}

static void over(struct stream *stream, enum cap_error error)
{
    struct test_stream *test = (struct test_stream *)(void *)stream;
    test->over++;
    test->error = error;
}

static const struct stream_class class = {
    .window = window,
    .sent = sent,
    .over = over,
};

static void add(struct fixture *fixture, struct test_stream *test, uint32_t id, uint64_t len)
{
    *test = (struct test_stream){
        .stream = {.class = &class, .id = id, .left = len},
        .fixture = fixture,
        .wait_at = UINT64_MAX,
        .fail_at = UINT64_MAX,
    };
    output_add(&fixture->output, &test->stream);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    int fds[2];
    output_init(&fixture->output, &framing_proto);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    fixture->ours = fds[0];
    fixture->theirs = fds[1];
    fixture->content = malloc(LONG_LEN);
    for (size_t i = 0; i < LONG_LEN; i++) {
        fixture->content[i] = (uint8_t)(i * 7 + i / 251);
    }
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    output_free(&fixture->output);
    cap_buf_free(&fixture->arrived);
    free(fixture->content);
    close(fixture->ours);
    close(fixture->theirs);
    free(fixture);
    return 0;
}

static enum pump_result pump(struct fixture *fixture)
{
    uint64_t n = 0;
    return output_pump(&fixture->output, fixture->ours, 1u << 20, &n);
}

/* Takes what has arrived. */
static void take(struct fixture *fixture)
{
    uint8_t bytes[65536];
    ssize_t n;
    while ((n = recv(fixture->theirs, bytes, sizeof(bytes), 0)) > 0) {
        assert_cap_ok(cap_buf_append(&fixture->arrived, bytes, (size_t)n));
    }
}

/* Pumps and takes until nothing moves any more. */
static enum pump_result run(struct fixture *fixture)
{
    enum pump_result result;
    do {
        result = pump(fixture);
        take(fixture);
    } while (result == PUMP_BLOCKED);
    return result;
}

/* Takes the next frame from what arrived; its payload stands in front of *ret_payload. */
static struct proto_frame next_frame(struct fixture *fixture, size_t *at,
                                     const uint8_t **ret_payload)
{
    struct proto_frame frame;
    assert_true(*at + PROTO_FRAME_HEADER_SIZE <= fixture->arrived.len);
    assert_cap_ok(proto_frame_decode(fixture->arrived.data + *at, PROTO_FRAME_MAX, &frame));
    *at += PROTO_FRAME_HEADER_SIZE;
    assert_true(*at + frame.len <= fixture->arrived.len);
    *ret_payload = fixture->arrived.data + *at;
    *at += frame.len;
    return frame;
}

/* All frames that arrived: bodies by id (0 or 1) are the content, nothing is left over. */
static void check_bodies(struct fixture *fixture, uint64_t *ret_len, bool *ret_end)
{
    size_t at = 0;
    while (at < fixture->arrived.len) {
        const uint8_t *payload = NULL;
        struct proto_frame frame = next_frame(fixture, &at, &payload);
        if (frame.type != PROTO_BODY) {
            continue;
        }
        assert_memory_equal(payload, fixture->content + ret_len[frame.id], frame.len);
        ret_len[frame.id] += frame.len;
        ret_end[frame.id] = frame.flags == PROTO_FLAG_END;
    }
}

/* --- Bodies --- */

static void test_bodies_take_turns(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    struct test_stream b;
    uint64_t len[2] = {0};
    bool end[2] = {false};
    size_t at = 0;
    const uint8_t *payload;
    add(fixture, &a, 0, LONG_LEN);
    add(fixture, &b, 1, LONG_LEN);
    assert_int_equal(run(fixture), PUMP_IDLE);
    check_bodies(fixture, len, end);
    assert_int_equal(len[0], LONG_LEN);
    assert_int_equal(len[1], LONG_LEN);
    assert_true(end[0] && end[1]);
    assert_int_equal(a.over, 1);
    assert_cap_ok(a.error);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(next_frame(fixture, &at, &payload).id, i % 2);
    }
    assert_false(output_wants(&fixture->output));
}

static void test_empty_body(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    uint64_t len[2] = {0};
    bool end[2] = {false};
    add(fixture, &a, 0, 0);
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_int_equal(fixture->arrived.len, PROTO_FRAME_HEADER_SIZE);
    check_bodies(fixture, len, end);
    assert_true(end[0]);
    assert_int_equal(a.over, 1);
}

/* A message goes out before the next body frame, not within one. */
static void test_message_overtakes(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    size_t at = 0;
    const uint8_t *payload;
    add(fixture, &a, 0, LONG_LEN);
    assert_int_equal(pump(fixture), PUMP_BLOCKED); /* within the first frame */
    assert_cap_ok(framing_message(&fixture->output, PROTO_HAS_REPLY, 9, (struct cap_bytes){0}));
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_int_equal(next_frame(fixture, &at, &payload).type, PROTO_BODY);
    assert_int_equal(next_frame(fixture, &at, &payload).type, PROTO_HAS_REPLY);
    assert_int_equal(next_frame(fixture, &at, &payload).type, PROTO_BODY);
}

/* --- Waiting --- */

static void test_waiting_at_a_frame_lets_others_go(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    struct test_stream b;
    uint64_t len[2] = {0};
    bool end[2] = {false};
    add(fixture, &a, 0, LONG_LEN);
    add(fixture, &b, 1, LONG_LEN);
    a.wait_at = PROTO_FRAME_MAX;
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_int_equal(b.over, 1);
    assert_int_equal(a.over, 0);
    assert_false(output_wants(&fixture->output));
    a.wait_at = UINT64_MAX;
    output_resume(&fixture->output, &a.stream);
    assert_true(output_wants(&fixture->output));
    assert_int_equal(run(fixture), PUMP_IDLE);
    check_bodies(fixture, len, end);
    assert_int_equal(len[0], LONG_LEN);
    assert_true(end[0]);
}

static void test_waiting_within_a_frame_holds_all(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    uint64_t len[2] = {0};
    bool end[2] = {false};
    add(fixture, &a, 0, LONG_LEN);
    assert_int_equal(pump(fixture), PUMP_BLOCKED);
    a.wait_at = 0;
    take(fixture);
    assert_int_equal(pump(fixture), PUMP_IDLE);
    assert_cap_ok(framing_message(&fixture->output, PROTO_HAS_REPLY, 9, (struct cap_bytes){0}));
    assert_false(output_wants(&fixture->output));
    assert_int_equal(pump(fixture), PUMP_IDLE);
    a.wait_at = UINT64_MAX;
    output_resume(&fixture->output, &a.stream);
    assert_int_equal(run(fixture), PUMP_IDLE);
    check_bodies(fixture, len, end);
    assert_int_equal(len[0], LONG_LEN);
}

/* --- Ends --- */

static void test_end_within_a_frame_waits_for_it(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    uint64_t len[2] = {0};
    bool end[2] = {false};
    add(fixture, &a, 0, LONG_LEN);
    assert_int_equal(pump(fixture), PUMP_BLOCKED);
    output_end(&fixture->output, &a.stream, CAP_E_CANCELLED);
    assert_int_equal(a.over, 0);
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_int_equal(a.over, 1);
    assert_cap_error(a.error, CAP_E_CANCELLED);
    check_bodies(fixture, len, end);
    assert_int_equal(len[0], PROTO_FRAME_MAX);
    assert_false(end[0]);
}

static void test_end_of_what_waits_or_queues(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream tests[4];
    for (uint32_t i = 0; i < 4; i++) {
        add(fixture, &tests[i], 0, 10);
    }
    tests[0].wait_at = 0;
    output_end(&fixture->output, &tests[2].stream, CAP_E_CANCELLED);
    output_end(&fixture->output, &tests[3].stream, CAP_E_CANCELLED);
    assert_int_equal(run(fixture), PUMP_IDLE);
    output_end(&fixture->output, &tests[0].stream, CAP_E_CANCELLED);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(tests[i].over, 1);
        assert_cap_error(tests[i].error, i == 1 ? CAP_OK : CAP_E_CANCELLED);
    }
    assert_int_equal(fixture->arrived.len, PROTO_FRAME_HEADER_SIZE + 10);
    struct test_stream last; /* the queue is sound */
    add(fixture, &last, 0, 10);
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_int_equal(last.over, 1);
}

static void test_failure_at_a_frame_ends_the_stream(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    struct test_stream b;
    add(fixture, &a, 0, LONG_LEN);
    add(fixture, &b, 1, LONG_LEN);
    a.fail_at = PROTO_FRAME_MAX;
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_cap_error(a.error, CAP_E_CORRUPT);
    assert_int_equal(b.over, 1);
    assert_cap_ok(b.error);
}

static void test_failure_within_a_frame_loses_the_connection(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    add(fixture, &a, 0, LONG_LEN);
    assert_int_equal(pump(fixture), PUMP_BLOCKED);
    a.fail_at = 1;
    take(fixture);
    assert_int_equal(pump(fixture), PUMP_LOST);
    assert_int_equal(a.over, 1);
}

/* A page that the kernel cannot read (EFAULT) never kills us: the stream fails. */
static void test_unreadable_page(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    size_t size = 2 * (size_t)PROTO_FRAME_MAX;
    void *hole = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(hole != MAP_FAILED);
    add(fixture, &a, 0, LONG_LEN);
    a.fail_at = 0;
    a.unreadable = hole;
    enum pump_result result = run(fixture);
    assert_int_equal(a.over, 1);
    assert_cap_error(a.error, CAP_E_IO);
    /* Where the header went out alone the frame cannot be taken back. */
    assert_true(result == PUMP_LOST || fixture->arrived.len == 0);
    munmap(hole, size);
}

/* A client that always leaves answers unread gets them all, and the buffer does not grow. */
static void test_messages_never_all_taken(void **state)
{
    struct fixture *fixture = *state;
    int small = 4096;
    const uint8_t payload[1000] = {0};
    const uint8_t *got = NULL;
    uint32_t sent_id = 0;
    size_t at = 0;
    setsockopt(fixture->ours, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    for (unsigned round = 0; round < 1000; round++) {
        uint8_t bytes[2000];
        while (output_waiting(&fixture->output) < 32768) {
            assert_cap_ok(framing_message(&fixture->output, PROTO_STAT_REPLY, ++sent_id,
                                          (struct cap_bytes){payload, sizeof(payload)}));
        }
        assert_int_equal(pump(fixture), PUMP_BLOCKED);
        assert_true(output_waiting(&fixture->output) > 0);
        ssize_t n = recv(fixture->theirs, bytes, sizeof(bytes), 0);
        assert_true(n > 0);
        assert_cap_ok(cap_buf_append(&fixture->arrived, bytes, (size_t)n));
        assert_true(output_memory(&fixture->output) <= (64u << 10));
    }
    assert_int_equal(run(fixture), PUMP_IDLE);
    for (uint32_t id = 1; id <= sent_id; id++) {
        assert_int_equal(next_frame(fixture, &at, &got).id, id);
    }
    assert_int_equal(at, fixture->arrived.len);
}

/* --- Descriptors ------------------------------------------------------------------------------ */

/* Receives up to `len` bytes; *ret_fd is what was passed with them, or -1. */
static ssize_t receive_fd(int socket, uint8_t *bytes, size_t len, int *ret_fd)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec iov = {bytes, len};
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    *ret_fd = -1;
    if (header != NULL) {
        assert_int_equal(header->cmsg_type, SCM_RIGHTS);
        assert_int_equal(header->cmsg_len, CMSG_LEN(sizeof(int)));
        memcpy(ret_fd, CMSG_DATA(header), sizeof(int));
    }
    return n;
}

static int one_page(uint8_t first)
{
    int fd = memfd_create("page", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &first, 1), 1);
    return fd;
}

/* Each descriptor comes with the first byte of its message, whatever goes before and after. */
static void test_descriptors(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    static uint8_t bytes[LONG_LEN];
    struct cap_bytes five = {(const uint8_t *)"12345", 5};
    int fds[2] = {one_page(1), one_page(2)};
    int received[3] = {-1, -1, -1};
    add(fixture, &a, 0, 100);
    assert_cap_ok(output_append(&fixture->output, five, five));
    assert_cap_ok(output_append_fd(&fixture->output, five, five, fds[0]));
    assert_cap_ok(output_append_fd(&fixture->output, five, five, fds[1]));
    assert_cap_ok(output_append(&fixture->output, five, five));
    assert_int_equal(output_waiting(&fixture->output), 40);
    assert_int_equal(pump(fixture), PUMP_IDLE);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* closed once it was sent */
    assert_int_equal(receive_fd(fixture->theirs, bytes, 10, &received[0]), 10);
    assert_int_equal(received[0], -1);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t first = 0;
        assert_int_equal(receive_fd(fixture->theirs, bytes, 10, &received[i]), 10);
        assert_true(received[i] >= 0);
        assert_int_equal(pread(received[i], &first, 1, 0), 1);
        assert_int_equal(first, i + 1);
        close(received[i]);
    }
    assert_int_equal(receive_fd(fixture->theirs, bytes, sizeof(bytes), &received[2]),
                     10 + PROTO_FRAME_HEADER_SIZE + 100);
    assert_int_equal(received[2], -1);
}

/* One that never went out is closed with the output. */
static void test_descriptor_is_dropped(void **state)
{
    struct fixture *fixture = *state;
    struct cap_bytes five = {(const uint8_t *)"12345", 5};
    int fd = one_page(1);
    assert_cap_ok(output_append_fd(&fixture->output, five, five, fd));
    output_free(&fixture->output);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(output_memory(&fixture->output), 0);
}

/* A message and the first frame behind it go out in one call, so that a small GET is one packet. */
static void test_message_and_frame_together(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    uint8_t bytes[4096];
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    close(fixture->ours);
    close(fixture->theirs);
    fixture->ours = fds[0];
    fixture->theirs = fds[1];
    add(fixture, &a, 0, 100);
    assert_cap_ok(framing_message(&fixture->output, PROTO_GET_REPLY, 0, (struct cap_bytes){0}));
    assert_int_equal(pump(fixture), PUMP_IDLE);
    assert_int_equal(recv(fixture->theirs, bytes, sizeof(bytes), 0),
                     2 * PROTO_FRAME_HEADER_SIZE + 100);
    assert_int_equal(a.over, 1);
}

static void test_closed_peer(void **state)
{
    struct fixture *fixture = *state;
    struct test_stream a;
    add(fixture, &a, 0, LONG_LEN);
    shutdown(fixture->theirs, SHUT_RD);
    assert_int_equal(run(fixture), PUMP_LOST);
}

/* --- Handing over ----------------------------------------------------------------------------- */

static enum stream_answer lent_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                      int *ret_count)
{
    static struct loan loan;
    stream->lends = &loan;
    return window(stream, len, ret_iov, ret_count);
}

static const struct stream_class lent_class = {
    .window = lent_window,
    .sent = sent,
    .over = over,
};

/* As add, but with spans that last, in an output that hands over. */
static void add_lent(struct fixture *fixture, struct test_stream *test, uint32_t id, uint64_t len,
                     struct handover *handover)
{
    (void)signal(SIGPIPE, SIG_IGN);
    assert_cap_ok(handover_open(handover));
    output_lend(&fixture->output, handover, fixture->ours);
    add(fixture, test, id, len);
    test->stream.class = &lent_class;
}

/* In order, whole and unchanged, behind the message, however little the socket takes at a time. */
static void test_lent_spans_are_handed_over(void **state)
{
    struct fixture *fixture = *state;
    struct handover handover;
    struct test_stream a;
    const uint8_t *payload;
    size_t at = 0;
    uint64_t len = 0;
    add_lent(fixture, &a, 7, LONG_LEN, &handover);
    assert_cap_ok(framing_message(&fixture->output, PROTO_GET_REPLY, 7, (struct cap_bytes){0}));
    assert_int_equal(run(fixture), PUMP_IDLE);
    assert_int_equal(a.over, 1);
    assert_cap_ok(a.error);
    assert_int_equal(next_frame(fixture, &at, &payload).type, PROTO_GET_REPLY);
    while (len < LONG_LEN) {
        struct proto_frame frame = next_frame(fixture, &at, &payload);
        assert_int_equal(frame.type, PROTO_BODY);
        assert_memory_equal(payload, fixture->content + len, frame.len);
        len += frame.len;
        assert_int_equal((frame.flags & PROTO_FLAG_END) != 0, len == LONG_LEN);
    }
    assert_int_equal(at, fixture->arrived.len);
    output_close(&fixture->output);
    handover_close(&handover);
}

/* It was not copied: what is unmapped before it is received arrives all the same. */
static void test_handed_over_memory_may_go(void **state)
{
    struct fixture *fixture = *state;
    struct handover handover;
    struct test_stream a;
    const uint8_t *payload;
    const size_t len = 64 << 10;
    size_t at = 0;
    uint8_t *pages = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    memcpy(pages, fixture->content, len);
    add_lent(fixture, &a, 7, len, &handover);
    a.fail_at = 0;
    a.unreadable = pages; /* which it is not: these are handed out in place of the content */
    assert_int_equal(pump(fixture), PUMP_IDLE);
    assert_int_equal(a.over, 1);
    assert_true(output_is_lent(&fixture->output));
    memset(pages, 0x5a, 1); /* shows that they are the same pages */
    assert_int_equal(munmap(pages, len), 0);
    take(fixture);
    assert_false(output_is_lent(&fixture->output));
    assert_int_equal(next_frame(fixture, &at, &payload).len, len);
    assert_int_equal(payload[0], 0x5a);
    assert_memory_equal(payload + 1, fixture->content + 1, len - 1);
    output_close(&fixture->output);
    handover_close(&handover);
}

/* What a full socket did not take goes to nobody else: the pipe is empty. */
static void test_full_socket_leaves_nothing_behind(void **state)
{
    struct fixture *fixture = *state;
    struct handover handover;
    struct test_stream a;
    uint8_t byte;
    add_lent(fixture, &a, 7, LONG_LEN, &handover);
    assert_int_equal(pump(fixture), PUMP_BLOCKED);
    assert_true(a.offset > 0 && a.offset < LONG_LEN);
    assert_int_equal(read(handover.read, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    uint64_t before = a.offset;
    assert_int_equal(pump(fixture), PUMP_BLOCKED);
    assert_int_equal(a.offset, before);
    output_close(&fixture->output);
    handover_close(&handover);
}

static void test_closed_peer_of_lent_spans(void **state)
{
    struct fixture *fixture = *state;
    struct handover handover;
    struct test_stream a;
    add_lent(fixture, &a, 7, LONG_LEN, &handover);
    shutdown(fixture->theirs, SHUT_RD);
    assert_int_equal(run(fixture), PUMP_LOST);
    output_close(&fixture->output);
    handover_close(&handover);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bodies_take_turns),
        TEST(test_empty_body),
        TEST(test_message_overtakes),
        TEST(test_waiting_at_a_frame_lets_others_go),
        TEST(test_waiting_within_a_frame_holds_all),
        TEST(test_end_within_a_frame_waits_for_it),
        TEST(test_end_of_what_waits_or_queues),
        TEST(test_failure_at_a_frame_ends_the_stream),
        TEST(test_failure_within_a_frame_loses_the_connection),
        TEST(test_unreadable_page),
        TEST(test_messages_never_all_taken),
        TEST(test_closed_peer),
        TEST(test_descriptors),
        TEST(test_descriptor_is_dropped),
        TEST(test_message_and_frame_together),
        TEST(test_lent_spans_are_handed_over),
        TEST(test_handed_over_memory_may_go),
        TEST(test_full_socket_leaves_nothing_behind),
        TEST(test_closed_peer_of_lent_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
