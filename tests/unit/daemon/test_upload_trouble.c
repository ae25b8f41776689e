/* Uploads that meet trouble: slow clients, slow and full disks, several errors at once. */
#include "tests/unit/daemon/test_upload_fixture.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/upload.h"
#include "lib/cap/pack.h"

/* --- The disk --------------------------------------------------------------------------------- */

static atomic_int write_errno;   /* what writes fail with; 0: they do not */
static atomic_int open_errno;    /* and opening */
static atomic_bool writes_pause; /* writes wait as long as this is set */
static atomic_bool write_begun;  /* one has come */
static atomic_size_t bytes_written;

static int fake_open(const char *dir)
{
    int error = atomic_load(&open_errno);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return spool_disk_system()->open(dir);
}

static ssize_t fake_write(int fd, const void *data, size_t len, off_t at)
{
    atomic_store(&write_begun, true);
    while (atomic_load(&writes_pause)) {
        usleep(500);
    }
    int error = atomic_load(&write_errno);
    if (error != 0) {
        errno = error;
        return -1;
    }
    len = len > 10000 ? 10000 : len; /* short writes are not an error */
    atomic_fetch_add(&bytes_written, len);
    return pwrite(fd, data, len, at);
}

static const struct spool_disk fake_disk = {fake_open, fake_write, pread};

static void replace_disk(struct fixture *fixture)
{
    atomic_store(&write_errno, 0);
    atomic_store(&open_errno, 0);
    atomic_store(&writes_pause, false);
    atomic_store(&write_begun, false);
    atomic_store(&bytes_written, 0);
    fixture->server.loops[0].publish.spools.disk = &fake_disk;
}

static const struct fault *last_fault(const struct fixture *fixture)
{
    return &fixture->server.context.last_fault;
}

/* The error is the upload's; operators are told; the next upload goes through. */
static void test_spool_errors(void **state)
{
    static const struct {
        int number;
        enum cap_error error;
    } rows[] = {{ENOSPC, CAP_E_DISK_FULL}, {EDQUOT, CAP_E_DISK_FULL}, {EIO, CAP_E_IO}};
    struct fixture *fixture = *state;
    uint8_t *content = make_content(300000);
    int fd = client_open(fixture);
    replace_disk(fixture);
    for (uint32_t i = 0; i < 6; i++) {
        atomic_store(i % 2 == 0 ? &open_errno : &write_errno, rows[i / 2].number);
        client_put_data(fixture, fd, i + 1, 300000);
        client_frame(fixture, fd, PROTO_BODY, i + 1, 0, (struct cap_bytes){content, 100000});
        client_expect_error(fixture, fd, i + 1, rows[i / 2].error);
        assert_cap_error(last_fault(fixture)->error, rows[i / 2].error);
        client_frame(fixture, fd, PROTO_BODY, i + 1, PROTO_FLAG_END, (struct cap_bytes){0});
        atomic_store(&open_errno, 0);
        atomic_store(&write_errno, 0);
        (void)client_publish(fixture, fd, i + 1, (struct cap_bytes){content, 300000});
    }
    free(content);
    close(fd);
}

/* The refusal and last_error say what to do. */
static void test_full_disk_is_explained(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    fixture_set_disk(fixture, (UINT64_C(16) << 20) + 1000);
    client_put_data(fixture, fd, 1, 501);
    client_expect_error(fixture, fd, 1, CAP_E_DISK_FULL);
    assert_cap_error(last_fault(fixture)->error, CAP_E_DISK_FULL);
    assert_string_equal(last_fault(fixture)->message,
                        "the upload needs 1002 bytes of disk, in spool and store; free are "
                        "16778216, of which disk-reserve keeps 16777216 and other uploads need 0");
    close(fd);
}

/* So does the refusal of what the writer finds no room for, the disk having filled meanwhile. */
static void test_a_disk_that_filled_meanwhile_is_explained(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_put_data(fixture, fd, 1, 10);
    fixture->disk_free = (UINT64_C(16) << 20) + 10;
    client_frame(fixture, fd, PROTO_BODY, 1, PROTO_FLAG_END, key("0123456789"));
    client_expect_error(fixture, fd, 1, CAP_E_DISK_FULL);
    assert_string_equal(last_fault(fixture)->message,
                        "the upload needs 39 bytes of disk, in the store; free are 16777226, of "
                        "which disk-reserve keeps 16777216 and other uploads need 0");
    close(fd);
}

/* The connection goes while a write of the spool is under way. */
static void test_gone_during_a_write(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(300000);
    struct ledger_figures figures;
    replace_disk(fixture);
    for (int closing = 0; closing < 2; closing++) {
        int fd = client_open(fixture);
        atomic_store(&writes_pause, true);
        client_put_data(fixture, fd, 1, 300000);
        client_frame(fixture, fd, PROTO_BODY, 1, 0, (struct cap_bytes){content, 100000});
        for (int i = 0; i < 4; i++) {
            fixture_turn(fixture);
        }
        if (closing == 0) {
            client_frame(fixture, fd, PROTO_CANCEL, 1, 0, (struct cap_bytes){0});
            client_expect_error(fixture, fd, 1, CAP_E_CANCELLED);
        }
        close(fd);
        fixture_turn(fixture);
        ledger_figures(fixture->server.context.ledger, &figures);
        assert_int_equal(figures.uploads, 0); /* its slot does not wait for the disk */
        atomic_store(&writes_pause, false);
        fixture_settle(fixture);
        assert_int_equal(atomic_load(&fixture->server.room.spooled), 0);
    }
    free(content);
}

/* --- The least rate --------------------------------------------------------------------------- */

static void slow_clients(struct config *config)
{
    config->min_upload_rate = 1000;
    config->min_upload_grace_ms = 10000;
    config->progress_ms = 30000;
}

/* A byte now and then is not enough; the refusal comes with the grace time's end. */
static void test_too_slow(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, slow_clients);
    int fd = client_open(&fixture);
    client_put_data(&fixture, fd, 1, 100000);
    client_put_image(&fixture, fd, 2, 0, 100000);
    for (int second = 0; second < 10; second++) {
        client_frame(&fixture, fd, PROTO_BODY, 1, 0, key("x"));
        client_frame(&fixture, fd, PROTO_BODY, 2, 0, key("x"));
        fixture_turn(&fixture);
        fixture_pass(&fixture, 1000);
        assert_false(client_is_there(&fixture, fd, &absent));
    }
    fixture_pass(&fixture, 1000);
    client_expect_error(&fixture, fd, 2, CAP_E_UPLOAD_TOO_SLOW);
    client_expect_error(&fixture, fd, 1, CAP_E_UPLOAD_TOO_SLOW);
    assert_false(client_is_there(&fixture, fd, &absent)); /* the connection goes on */
    close(fd);
    fixture_stop(&fixture);
}

/* As slow as allowed, for a minute. */
static void test_slow_but_steady(void **state)
{
    struct fixture fixture;
    uint8_t *content = make_content(60000);
    struct reply reply;
    (void)state;
    fixture_start(&fixture, slow_clients);
    int fd = client_open(&fixture);
    client_put_data(&fixture, fd, 1, 60000);
    for (size_t second = 0; second < 60; second++) {
        client_frame(&fixture, fd, PROTO_BODY, 1, second == 59 ? PROTO_FLAG_END : 0,
                     (struct cap_bytes){content + 1000 * second, 1000});
        fixture_turn(&fixture);
        fixture_pass(&fixture, 1000);
    }
    client_receive(&fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    free(content);
    close(fd);
    fixture_stop(&fixture);
}

/* Where the disk is slow, the time is ours. */
static void test_our_time_does_not_count(void **state)
{
    struct fixture fixture;
    uint8_t *content = make_content(2000000);
    struct reply reply;
    (void)state;
    fixture_start(&fixture, slow_clients);
    replace_disk(&fixture);
    int fd = client_open(&fixture);
    atomic_store(&writes_pause, true);
    client_put_data(&fixture, fd, 1, 2000000);
    struct cap_bytes body = {content, 2000000};
    size_t sent = 0;
    /* As much as goes before the spool has no room. */
    for (; sent < 360000; sent += 60000) {
        client_frame(&fixture, fd, PROTO_BODY, 1, 0, cap_bytes_slice(body, sent, 60000));
        do { /* the first write has but the first frame, so that the others fill the next block */
            fixture_turn(&fixture);
        } while (!atomic_load(&write_begun));
    }
    for (int second = 0; second < 3600; second++) {
        fixture_pass(&fixture, 1000);
    }
    atomic_store(&writes_pause, false);
    client_body(&fixture, fd, 1, cap_bytes_slice(body, sent, body.len - sent), 60000);
    client_receive(&fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    free(content);
    close(fd);
    fixture_stop(&fixture);
}

/* --- A long head ------------------------------------------------------------------------------ */

/*
 * A worker finds a rule broken while the loop finds the body too long, too short, or is told to
 * forget it: one answer, whole. ThreadSanitizer sees that they share nothing.
 */
static void test_two_errors_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf wire = make_long_head();
    size_t head = wire.len - LONG_HEAD_CODE;
    static struct reply reply;
    struct proto_error m;
    break_long_head(&wire);
    for (uint32_t i = 0; i < 32; i++) {
        int fd = client_open(fixture);
        client_put_image(fixture, fd, 1, 0, wire.len);
        client_frame(fixture, fd, PROTO_BODY, 1, 0, (struct cap_bytes){wire.data, head});
        for (uint32_t turn = 0; turn < i / 8; turn++) {
            uv_run(&fixture->server.loops[0].shard.loop, UV_RUN_NOWAIT);
        }
        if (i % 4 == 0) {
            client_body(fixture, fd, 1, cap_buf_bytes(&wire), 100000);
        } else if (i % 4 == 1) {
            client_frame(fixture, fd, PROTO_BODY, 1, PROTO_FLAG_END, key("short"));
        } else if (i % 4 == 2) {
            client_frame(fixture, fd, PROTO_CANCEL, 1, 0, (struct cap_bytes){0});
        } else {
            close(fd);
            continue;
        }
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_ERROR);
        assert_cap_ok(proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
        enum cap_error error = cap_error_from_code(m.code);
        assert_true(error == CAP_E_SSZ || error == CAP_E_LENGTH_MISMATCH ||
                    error == CAP_E_CANCELLED);
        const char *text = error == CAP_E_LENGTH_MISMATCH && i % 4 == 0
                               ? "the body is longer than declared"
                               : "the body is shorter than declared";
        if (error == CAP_E_LENGTH_MISMATCH) {
            assert_int_equal(m.message.len, strlen(text));
            assert_memory_equal(m.message.data, text, m.message.len);
        }
        assert_false(client_is_there(fixture, fd, &absent));
        close(fd);
    }
    fixture_settle(fixture);
    cap_buf_free(&wire);
}

/* A wire Image of code alone. */
static struct cap_buf make_code(size_t len)
{
    struct cap_pack *pack = NULL;
    struct cap_body body = {0};
    struct cap_buf wire = {0};
    uint8_t *content = make_content(len);
    struct cap_bytes bytes = {content, len};
    struct cap_source source = cap_source_memory(&bytes);
    assert_cap_ok(cap_pack_new(&pack));
    cap_pack_code(pack, 0, len);
    assert_cap_ok(cap_pack_finish(pack, &source, &body));
    assert_cap_ok(cap_buf_append_zeros(&wire, body.len));
    assert_cap_ok(cap_body_read(&body, &source, 0, wire.data, body.len));
    cap_body_free(&body);
    cap_pack_free(pack);
    free(content);
    return wire;
}

static struct proto_put_image_reply reply_to(struct fixture *fixture, int fd, uint8_t flags,
                                             const struct cap_buf *wire)
{
    const struct reply *reply = upload_image(fixture, fd, flags, wire);
    struct proto_put_image_reply m;
    assert_int_equal(reply->frame.type, PROTO_PUT_IMAGE_REPLY);
    assert_cap_ok(
        proto_put_image_reply_decode((struct cap_bytes){reply->payload, reply->frame.len}, &m));
    return m;
}

/*
 * A dry run writes what is read again, here the last page, and the blocks that came before that was
 * known: the one whose end tells the upload, and the next.
 */
static void test_a_dry_run_writes_little(void **state)
{
    enum { LEN = (3 << 20) + 5 };
    struct fixture *fixture = *state;
    struct cap_buf wire = make_code(LEN);
    int fd = client_open(fixture);
    replace_disk(fixture);
    struct proto_put_image_reply dry = reply_to(fixture, fd, PROTO_IMAGE_DRY_RUN, &wire);
    assert_in_range(atomic_load(&bytes_written), 5, 2 * SPOOL_BLOCK + 5);
    fixture_settle(fixture);
    assert_int_equal(atomic_load(&fixture->server.room.spooled), 0);
    struct proto_put_image_reply real = reply_to(fixture, fd, 0, &wire);
    assert_true(atomic_load(&bytes_written) > LEN);
    assert_hash_equal(&dry.cap_hash, &real.cap_hash);
    assert_hash_equal(&dry.content_hash, &real.content_hash);
    fixture_settle(fixture);
    cap_buf_free(&wire);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_spool_errors),
        TEST(test_full_disk_is_explained),
        TEST(test_a_disk_that_filled_meanwhile_is_explained),
        TEST(test_gone_during_a_write),
        cmocka_unit_test(test_too_slow),
        cmocka_unit_test(test_slow_but_steady),
        cmocka_unit_test(test_our_time_does_not_count),
        TEST(test_two_errors_at_once),
        TEST(test_a_dry_run_writes_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
