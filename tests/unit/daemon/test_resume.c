/* Uploads that are cut off and go on: what is kept, for whom, for how long, and what goes on. */
#include "tests/unit/daemon/test_cut_fixture.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/park.h"

#define LEN 300000u /* of most uploads here: more than one write of a spool */

static const uint8_t token[PROTO_TOKEN_SIZE] = {1, 2, 3};
static const uint8_t other_token[PROTO_TOKEN_SIZE] = {3, 2, 1};

static const struct upload_kind raw = {.type = PROTO_PUT_DATA};
static const struct upload_kind wire_image = {.type = PROTO_PUT_IMAGE};

/* --- Going on --------------------------------------------------------------------------------- */

/* Cut off at each of these, it becomes the cap that it becomes at once. */
static void check_cuts(struct fixture *fixture, const struct upload_kind *kind,
                       struct cap_bytes body, const size_t *cuts, size_t count)
{
    struct cap_hash first = {{0}};
    for (size_t i = 0; i < count; i++) {
        cut_off(fixture, kind, body, token, cuts[i]);
        int fd = open_resuming(fixture);
        uint64_t offset = kept(fixture, fd, token, body.len);
        assert_int_equal(offset, cuts[i] < PARK_MIN ? 0 : cuts[i]);
        assert_int_equal(kept(fixture, fd, token, body.len), offset); /* asking takes nothing */
        struct cap_hash hash = go_on(fixture, fd, kind, body, token, offset);
        first = i == 0 ? hash : first;
        assert_true(hash_is(hash, first));
        assert_int_equal(kept(fixture, fd, token, body.len), 0); /* it is answered */
        close(fd);
        expect_nothing(fixture);
    }
}

static void test_data_goes_on(void **state)
{
    static const size_t cuts[] = {0,      1,          PARK_MIN - 1, PARK_MIN, 99999,
                                  262144, 262144 + 5, LEN - 1,      LEN};
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    check_cuts(fixture, &raw, (struct cap_bytes){content, LEN}, cuts, sizeof(cuts) / sizeof(*cuts));
    assert_int_equal(fixture->server.loops[0].shard.stats.uploads_resumed, 6);
    free(content);
}

/* In its head, where that ends, within a page of its arena, and behind its last byte. */
static void test_an_image_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf wire = make_long_head();
    size_t head = wire.len - LONG_HEAD_CODE;
    const size_t cuts[] = {1000,        PARK_MIN,    head - 1,      head,         head + 1,
                           head + 4096, head + 5000, head + 262144, wire.len - 1, wire.len};
    check_cuts(fixture, &wire_image, cap_buf_bytes(&wire), cuts, sizeof(cuts) / sizeof(*cuts));
    cap_buf_free(&wire);
}

/* Of a dry run only what it reads goes to the disk: the same when it goes on. */
static void test_a_dry_run_goes_on(void **state)
{
    static const struct upload_kind dry = {.type = PROTO_PUT_IMAGE, .flags = PROTO_IMAGE_DRY_RUN};
    static const size_t cuts[] = {PARK_MIN, 200000, 290000};
    struct fixture *fixture = *state;
    struct cap_buf wire = make_image(LEN, NULL);
    check_cuts(fixture, &dry, cap_buf_bytes(&wire), cuts, sizeof(cuts) / sizeof(*cuts));
    cap_buf_free(&wire);
}

/* A served body, of which the front is judged anew. */
static void test_a_cap_goes_on(void **state)
{
    static const size_t cuts[] = {PARK_MIN, 280000};
    struct fixture *fixture = *state;
    struct upload_kind cap = {.type = PROTO_PUT_CAP};
    uint8_t *content = make_content(LEN);
    struct cap_bytes bytes = {content, LEN};
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_data data;
    struct cap_buf body = {0};
    assert_cap_ok(cap_data_from_content(&source, LEN, 0, UINT64_MAX, &data));
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)data.body.len));
    assert_cap_ok(cap_body_read(&data.body, &source, 0, body.data, body.len));
    cap.hash = data.hash;
    check_cuts(fixture, &cap, cap_buf_bytes(&body), cuts, sizeof(cuts) / sizeof(*cuts));
    cap_data_free(&data);
    cap_buf_free(&body);
    free(content);
}

/* A hundred times one after the other, always less than a block further. */
static void test_cut_again_and_again(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf wire = make_image(1500000, NULL);
    struct cap_bytes body = cap_buf_bytes(&wire);
    uint64_t offset = 0;
    int fd = open_resuming(fixture);
    for (size_t i = 0; i < 60; i++) {
        size_t len = PARK_MIN / 4 + 12345 % (i + 1) + (i == 0 ? PARK_MIN : 0);
        send_upload(fixture, fd, &wire_image, body.len, token, offset);
        client_frame(fixture, fd, PROTO_BODY, CUT_ID, 0,
                     cap_bytes_slice(body, (size_t)offset, len));
        close(fd);
        fd = open_resuming(fixture);
        offset += len;
        assert_int_equal(kept(fixture, fd, token, body.len), offset);
    }
    (void)go_on(fixture, fd, &wire_image, body, token, offset);
    close(fd);
    cap_buf_free(&wire);
    expect_nothing(fixture);
}

/* --- Refusals --------------------------------------------------------------------------------- */

/* What is kept goes on only as it was, where it ends, under its name. */
static void test_other_fields(void **state)
{
    static const struct upload_kind canonical = {.type = PROTO_PUT_DATA,
                                                 .flags = PROTO_PUT_CANONICAL};
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    cut_off(fixture, &raw, body, token, 200000);
    int fd = open_resuming(fixture);
    assert_int_equal(kept(fixture, fd, token, LEN), 200000);
    assert_int_equal(kept(fixture, fd, other_token, LEN), 0);
    const struct {
        const struct upload_kind *kind;
        uint64_t total_len;
        const uint8_t *token;
        uint64_t offset;
    } rows[] = {
        {&raw, LEN, token, 199999},        {&raw, LEN, token, 200001},
        {&raw, LEN, token, LEN},           {&raw, LEN + 1, token, 200000},
        {&raw, LEN, other_token, 200000},  {&canonical, LEN, token, 200000},
        {&wire_image, LEN, token, 200000},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        send_upload(fixture, fd, rows[i].kind, rows[i].total_len, rows[i].token, rows[i].offset);
        client_expect_error(fixture, fd, CUT_ID, CAP_E_RESUME_OFFSET);
        client_frame(fixture, fd, PROTO_BODY, CUT_ID, PROTO_FLAG_END, (struct cap_bytes){0});
    }
    (void)go_on(fixture, fd, &raw, body, token, 200000);
    close(fd);
    free(content);
    expect_nothing(fixture);
}

/* An offset behind the end does not decode. */
static void test_an_offset_behind_the_end(void **state)
{
    struct fixture *fixture = *state;
    uint8_t payload[45] = {0};
    int fd = open_resuming(fixture);
    cap_store64(payload + 9, 1000);
    memcpy(payload + 21, token, sizeof(token));
    cap_store64(payload + 37, 1001);
    client_frame(fixture, fd, PROTO_PUT_DATA, CUT_ID, 0,
                 (struct cap_bytes){payload, sizeof(payload)});
    client_expect_error(fixture, fd, CUT_ID, CAP_E_BAD_MESSAGE);
    close(fd);
}

/* With offset 0 it begins anew, and so does what it is cut off with. */
static void test_beginning_anew(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    cut_off(fixture, &raw, body, token, 200000);
    expect_kept(fixture, 1, 200000);
    cut_off(fixture, &raw, body, token, 100000);
    expect_kept(fixture, 1, 100000);
    int fd = open_resuming(fixture);
    begin_upload(fixture, fd, &raw, body, token, 100000);
    expect_figures(fixture, 0, 0);
    int second = open_resuming(fixture); /* takes the name of the first, which goes on */
    begin_upload(fixture, second, &raw, body, token, 150000);
    client_body(fixture, fd, CUT_ID, cap_bytes_slice(body, 100000, LEN - 100000), 50000);
    static struct reply reply;
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    close(fd);
    close(second);
    expect_kept(fixture, 1, 150000);
    free(content);
    clear(fixture);
}

/* Nothing is kept of what was refused or given up, nor without a name. */
static void test_nothing_is_kept(void **state)
{
    static const uint8_t none[PROTO_TOKEN_SIZE];
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    cut_off(fixture, &raw, body, none, 200000);
    expect_nothing(fixture);

    int fd = open_resuming(fixture);
    begin_upload(fixture, fd, &raw, body, token, 200000);
    client_frame(fixture, fd, PROTO_CANCEL, CUT_ID, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, CUT_ID, CAP_E_CANCELLED);
    assert_int_equal(kept(fixture, fd, token, LEN), 0);

    struct cap_buf wire = make_long_head();
    break_long_head(&wire);
    begin_upload(fixture, fd, &wire_image, cap_buf_bytes(&wire), token, wire.len);
    client_expect_error(fixture, fd, CUT_ID, CAP_E_SSZ);
    close(fd);
    cap_buf_free(&wire);
    free(content);
    expect_nothing(fixture);
}

static void no_resume(struct config *config)
{
    config->resume_keep = 0;
}

/* The feature goes with that of leases, and with the option. */
static void test_the_feature(void **state)
{
    struct fixture fixture;
    static struct reply reply;
    const struct proto_hello hello = {
        .version_min = 1, .version_max = 1, .has_features = true, .features = CUT_FEATURES};
    struct proto_hello without = hello;
    (void)state;
    without.features = PROTO_FEATURE_RESUME | PROTO_FEATURE_PUT_CAP;
    for (int i = 0; i < 2; i++) {
        struct cap_buf payload = {0};
        struct proto_hello_reply m;
        fixture_start(&fixture, i == 0 ? no_resume : NULL);
        int fd = client_connect(&fixture);
        assert_cap_ok(proto_hello_encode(i == 0 ? &hello : &without, &payload));
        client_frame(&fixture, fd, PROTO_HELLO, 0, 0, cap_buf_bytes(&payload));
        client_receive(&fixture, fd, &reply);
        assert_cap_ok(
            proto_hello_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
        assert_true((m.features & PROTO_FEATURE_RESUME) == 0);
        client_frame(&fixture, fd, PROTO_RESUME, 1, 0, (struct cap_bytes){token, sizeof(token)});
        client_expect_error(&fixture, fd, 1, CAP_E_UNSUPPORTED_REQUEST);
        cap_buf_free(&payload);
        close(fd);
        fixture_stop(&fixture);
    }
}

/* --- Connections that are not known to be lost ------------------------------------------------ */

static void ask(struct fixture *fixture, int fd, uint32_t id)
{
    client_frame(fixture, fd, PROTO_RESUME, id, 0, (struct cap_bytes){token, sizeof(token)});
    fixture_turn(fixture);
}

static void expect_offset(struct fixture *fixture, int fd, uint64_t offset)
{
    static struct reply reply;
    struct proto_resume_reply m;
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_RESUME_REPLY);
    assert_cap_ok(
        proto_resume_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_int_equal(m.offset, offset);
}

/* The one that hangs is ended, when nothing has come for a tick; both that asked are told. */
static void test_taken_over(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    int hangs = open_resuming(fixture);
    int fd = open_resuming(fixture);
    int second = open_resuming(fixture);
    begin_upload(fixture, hangs, &raw, body, token, 200000);
    ask(fixture, fd, 9);
    ask(fixture, second, 9);
    client_frame(fixture, hangs, PROTO_BODY, CUT_ID, 0, cap_bytes_slice(body, 200000, 1000));
    fixture_pass(fixture, 200);
    fixture_pass(fixture, 200);
    client_expect_error(fixture, hangs, CUT_ID, CAP_E_CANCELLED);
    expect_offset(fixture, fd, 201000);
    expect_offset(fixture, second, 201000);

    /* Of two that go on with it one has it. */
    send_upload(fixture, second, &raw, LEN, token, 201000);
    send_upload(fixture, fd, &raw, LEN, token, 201000);
    client_expect_error(fixture, fd, CUT_ID, CAP_E_RESUME_OFFSET);
    client_body(fixture, second, CUT_ID, cap_bytes_slice(body, 201000, LEN - 201000), 50000);
    static struct reply reply;
    client_receive(fixture, second, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    client_frame(fixture, fd, PROTO_BODY, CUT_ID, PROTO_FLAG_END, (struct cap_bytes){0});
    client_frame(fixture, hangs, PROTO_BODY, CUT_ID, PROTO_FLAG_END, (struct cap_bytes){0});
    close(hangs);
    close(fd);
    close(second);
    free(content);
    expect_nothing(fixture);
}

/* One that sends is heard to its end, but not for ever. */
static void test_taken_over_while_it_sends(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    int sends = open_resuming(fixture);
    int fd = open_resuming(fixture);
    begin_upload(fixture, sends, &raw, body, token, 100000);
    ask(fixture, fd, 9);
    size_t sent = 100000;
    for (; sent < 100000 + 25 * 90; sent += 90) {
        client_frame(fixture, sends, PROTO_BODY, CUT_ID, 0, cap_bytes_slice(body, sent, 90));
        fixture_turn(fixture);
        fixture_pass(fixture, 90);
    }
    client_expect_error(fixture, sends, CUT_ID, CAP_E_CANCELLED);
    static struct reply reply;
    struct proto_resume_reply m;
    client_receive(fixture, fd, &reply);
    assert_cap_ok(
        proto_resume_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_in_range(m.offset, 100000 + 20 * 90, sent);
    close(sends);
    close(fd);
    free(content);
    clear(fixture);
}

/* Who asked may give up, or go. */
static void test_asking_and_going(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    int hangs = open_resuming(fixture);
    begin_upload(fixture, hangs, &raw, (struct cap_bytes){content, LEN}, token, 200000);
    int fd = open_resuming(fixture);
    ask(fixture, fd, 9);
    client_frame(fixture, fd, PROTO_CANCEL, 9, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, 9, CAP_E_CANCELLED);
    ask(fixture, fd, 10);
    close(fd);
    fixture_turn(fixture);
    close(hangs);
    free(content);
    expect_kept(fixture, 1, 200000);
    clear(fixture);
}

/* What nothing came of for too long was cut off, as a rule. */
static void test_kept_after_a_silence(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    int fd = open_resuming(fixture);
    begin_upload(fixture, fd, &raw, (struct cap_bytes){content, LEN}, token, 200000);
    for (int i = 0; i < 40; i++) {
        fixture_pass(fixture, 1000);
    }
    client_expect_error(fixture, fd, CUT_ID, CAP_E_PROGRESS_TIMEOUT);
    close(fd);
    free(content);
    expect_kept(fixture, 1, 200000);
    clear(fixture);
}

/* --- The disk --------------------------------------------------------------------------------- */

static atomic_int write_errno;
static atomic_bool writes_pause;

static ssize_t fake_write(int fd, const void *data, size_t len, off_t at)
{
    while (atomic_load(&writes_pause)) {
        usleep(500);
    }
    errno = atomic_load(&write_errno);
    return errno != 0 ? -1 : pwrite(fd, data, len, at);
}

static struct spool_disk disk;

/* The connection is lost while the spool writes: that is waited for. Where it fails nothing is
 * kept. */
static void test_lost_during_a_write(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    disk = *spool_disk_system();
    disk.write = fake_write;
    fixture->server.loops[0].publish.spools.disk = &disk;
    for (int fails = 0; fails < 2; fails++) {
        atomic_store(&writes_pause, true);
        atomic_store(&write_errno, 0);
        cut_off(fixture, &raw, body, token, 200000);
        fixture_turn(fixture);
        int fd = open_resuming(fixture);
        ask(fixture, fd, 9);
        atomic_store(&write_errno, fails == 0 ? 0 : ENOSPC);
        atomic_store(&writes_pause, false);
        expect_offset(fixture, fd, fails == 0 ? 200000 : 0);
        atomic_store(&write_errno, 0);
        if (fails == 0) {
            (void)go_on(fixture, fd, &raw, body, token, 200000);
        }
        close(fd);
        expect_nothing(fixture);
    }
    free(content);
}

/* When the disk is short, what was cut off goes first. */
static void test_a_short_disk(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    cut_off(fixture, &raw, (struct cap_bytes){content, LEN}, token, 200000);
    expect_kept(fixture, 1, 200000);
    fixture_set_disk(fixture, 1000);
    fixture_set_disk(fixture, 1000); /* the look before told */
    free(content);
    expect_nothing(fixture);
}

/* Sends the message of an upload that is refused because the disk is full. */
static void expect_disk_full(struct fixture *fixture, int fd, uint64_t len, const uint8_t *name,
                             uint64_t offset)
{
    struct reply reply;
    send_upload(fixture, fd, &raw, len, name, offset);
    client_expect_error(fixture, fd, CUT_ID, CAP_E_DISK_FULL);
    client_receive(fixture, fd, &reply); /* the figures */
    assert_int_equal(reply.frame.flags, PROTO_FLAG_END);
    client_frame(fixture, fd, PROTO_CANCEL, CUT_ID, 0, (struct cap_bytes){0});
}

/* An upload that begins takes the place of what was cut off, where the disk has no other. */
static void test_a_disk_for_one_of_them(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t reserve = fixture->server.context.config.disk_reserve;
    const size_t len = LEN / 2; /* needs twice that of three quarters of what is free */
    uint8_t *content = make_content(len);
    struct cap_bytes body = {content, len};
    cut_off(fixture, &raw, body, token, 100000);
    expect_kept(fixture, 1, 100000);
    int fd = open_resuming(fixture);
    fixture_set_disk(fixture, reserve + 250000); /* too little even then */
    expect_disk_full(fixture, fd, len, other_token, 0);
    expect_kept(fixture, 1, 100000);
    fixture_set_disk(fixture, reserve + 350000);
    expect_disk_full(fixture, fd, len, token, 100000); /* what goes on drops nothing */
    expect_kept(fixture, 1, 100000);
    begin_upload(fixture, fd, &raw, body, other_token, 70000);
    close(fd);
    expect_kept(fixture, 1, 70000); /* its own */
    clear(fixture);
    free(content);
}

/* Nothing is dropped for an upload that has room in its place, and is refused for something else.
 */
static void test_a_disk_for_none_of_them(void **state)
{
    struct fixture *fixture = *state;
    struct config *config = &fixture->server.context.config;
    const size_t len = LEN / 2;
    const struct {
        config_number *option;
        uint64_t value;
        enum cap_error error;
        bool figures; /* follow the error */
    } rows[] = {
        {&config->max_spool, len - 1, CAP_E_SPOOL_FULL, false},
        {&config->quota_bytes, len - 1, CAP_E_QUOTA_EXCEEDED, true},
        {&config->max_peer_memory, 1, CAP_E_MEMORY_LIMIT, false},
    };
    uint8_t *content = make_content(len);
    cut_off(fixture, &raw, (struct cap_bytes){content, len}, token, 100000);
    expect_kept(fixture, 1, 100000);
    int fd = open_resuming(fixture);
    fixture_set_disk(fixture, config->disk_reserve + 350000);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t was = *rows[i].option;
        struct reply reply;
        *rows[i].option = rows[i].value;
        send_upload(fixture, fd, &raw, len, other_token, 0);
        client_expect_error(fixture, fd, CUT_ID, rows[i].error);
        if (rows[i].figures) {
            client_receive(fixture, fd, &reply);
        }
        client_frame(fixture, fd, PROTO_CANCEL, CUT_ID, 0, (struct cap_bytes){0});
        *rows[i].option = was;
        expect_kept(fixture, 1, 100000);
    }
    close(fd);
    clear(fixture);
    free(content);
}

/* Going on is refused like any upload where there is no room; what is kept stays. */
static void test_no_room_to_go_on(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    struct cap_bytes body = {content, LEN};
    cut_off(fixture, &raw, body, token, 200000);
    int fd = open_resuming(fixture);
    expect_kept(fixture, 1, 200000);
    fixture->server.context.config.max_spool = LEN - 1;
    send_upload(fixture, fd, &raw, LEN, token, 200000);
    client_expect_error(fixture, fd, CUT_ID, CAP_E_SPOOL_FULL);
    client_frame(fixture, fd, PROTO_BODY, CUT_ID, PROTO_FLAG_END, (struct cap_bytes){0});
    fixture->server.context.config.max_spool = UINT64_C(4) << 30;
    (void)go_on(fixture, fd, &raw, body, token, 200000);
    close(fd);
    free(content);
    expect_nothing(fixture);
}

/* --- Bounds ----------------------------------------------------------------------------------- */

static void test_for_some_time(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *content = make_content(LEN);
    cut_off(fixture, &raw, (struct cap_bytes){content, LEN}, token, 200000);
    expect_kept(fixture, 1, 200000);
    fixture->now_us += UINT64_C(299) * 1000000;
    publish_tick(&fixture->server.loops[0].publish);
    expect_kept(fixture, 1, 200000);
    fixture->now_us += UINT64_C(1) * 1000000;
    publish_tick(&fixture->server.loops[0].publish);
    free(content);
    expect_nothing(fixture);
}

static void few_bytes(struct config *config)
{
    config->resume_bytes = 350000;
}

/* What comes later takes the place of what came before; what is too much is not kept. */
static void test_a_share_of_bytes(void **state)
{
    struct fixture fixture;
    uint8_t *content = make_content(400000);
    struct cap_bytes body = {content, 400000};
    (void)state;
    fixture_start(&fixture, few_bytes);
    cut_off(&fixture, &raw, body, token, 200000);
    expect_kept(&fixture, 1, 200000);
    cut_off(&fixture, &raw, body, other_token, 150000);
    expect_kept(&fixture, 2, 350000);
    uint8_t third[PROTO_TOKEN_SIZE] = {7};
    cut_off(&fixture, &raw, body, third, 100000);
    expect_kept(&fixture, 2, 250000);
    int fd = open_resuming(&fixture);
    assert_int_equal(kept(&fixture, fd, token, body.len), 0);
    assert_int_equal(kept(&fixture, fd, other_token, body.len), 150000);
    cut_off(&fixture, &raw, body, token, 399999);
    expect_kept(&fixture, 2, 250000);
    assert_int_equal(kept(&fixture, fd, token, body.len), 0);
    close(fd);
    free(content);
    clear(&fixture);
    fixture_stop(&fixture);
}

/* The daemon ends, and lets go of what it kept. */
static void test_the_daemon_ends(void **state)
{
    struct fixture fixture;
    uint8_t *content = make_content(LEN);
    (void)state;
    fixture_start(&fixture, NULL);
    cut_off(&fixture, &raw, (struct cap_bytes){content, LEN}, token, 200000);
    expect_kept(&fixture, 1, 200000);
    int fd = open_resuming(&fixture); /* of this nothing is kept any more */
    begin_upload(&fixture, fd, &raw, (struct cap_bytes){content, LEN}, other_token, 200000);
    server_close(&fixture.server);
    fixture.closed = true;
    close(fd);
    free(content);
    fixture_stop(&fixture);
}

#define EACH(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_data_goes_on),
        EACH(test_an_image_goes_on),
        EACH(test_a_dry_run_goes_on),
        EACH(test_a_cap_goes_on),
        EACH(test_cut_again_and_again),
        EACH(test_other_fields),
        EACH(test_an_offset_behind_the_end),
        EACH(test_beginning_anew),
        EACH(test_nothing_is_kept),
        cmocka_unit_test(test_the_feature),
        EACH(test_taken_over),
        EACH(test_taken_over_while_it_sends),
        EACH(test_asking_and_going),
        EACH(test_kept_after_a_silence),
        EACH(test_lost_during_a_write),
        EACH(test_a_short_disk),
        EACH(test_a_disk_for_one_of_them),
        EACH(test_a_disk_for_none_of_them),
        EACH(test_no_room_to_go_on),
        EACH(test_for_some_time),
        cmocka_unit_test(test_a_share_of_bytes),
        cmocka_unit_test(test_the_daemon_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
