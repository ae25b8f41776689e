/* Uploads that go on over another connection, against a scripted daemon that listens. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/client/fake.h"

#define LEN      (UINT64_C(3) << 20)
#define KEPT     (UINT64_C(1) << 20) /* that the daemon says it has */
#define FEATURES (PROTO_FEATURE_KEEP | PROTO_FEATURE_RESUME | PROTO_FEATURE_PUT_CAP)

static char dir[] = "/tmp/capstore-resume-XXXXXX";
static struct sockaddr_un path;
static char address[sizeof(path.sun_path) + 8];
static int listener;

static int setup(void **state)
{
    (void)state;
    path = (struct sockaddr_un){.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(dir));
    snprintf(path.sun_path, sizeof(path.sun_path), "%s/socket", dir);
    snprintf(address, sizeof(address), "unix:%s", path.sun_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&path, sizeof(path)), 0);
    assert_int_equal(listen(listener, 4), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close(listener);
    assert_int_equal(unlink(path.sun_path), 0);
    assert_int_equal(rmdir(dir), 0);
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 7);
    return 0;
}

static enum capstore_error pattern_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)dst)[i] = (uint8_t)((offset + i) * 31 + ((offset + i) >> 12));
    }
    return CAPSTORE_OK;
}

static const struct capstore_source source = {pattern_read, NULL, LEN, NULL};

/* ---- the daemon's side ---- */

static void next_connection(struct fake *fake, uint64_t features)
{
    close(fake->fd);
    fake->fd = accept(listener, NULL, NULL);
    fake_check(fake, fake->fd >= 0);
    fake->features = features;
    fake_hello(fake);
}

/* Takes an upload's message, which goes on at `offset` under this name; sets it if it begins. */
static void take_upload(struct fake *fake, uint64_t offset, uint8_t token[PROTO_TOKEN_SIZE])
{
    struct proto_put_data put;
    (void)fake_expect(fake, PROTO_PUT_DATA);
    fake_check(fake, proto_put_data_resume_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
    fake_check(fake, put.total_len == LEN && put.offset == offset);
    if (offset == 0 && token[0] == 0) {
        memcpy(token, put.token, PROTO_TOKEN_SIZE);
    }
    fake_check(fake, memcmp(token, put.token, PROTO_TOKEN_SIZE) == 0);
}

static void answer_resume(struct fake *fake, const uint8_t *token, uint64_t total_len,
                          uint64_t offset)
{
    struct proto_resume resume;
    const struct proto_resume_reply reply = {total_len, offset};
    struct cap_buf payload = {0};
    (void)fake_expect(fake, PROTO_RESUME);
    fake_check(fake, proto_resume_decode(cap_buf_bytes(&fake->payload), &resume) == CAP_OK);
    fake_check(fake, memcmp(resume.token, token, PROTO_TOKEN_SIZE) == 0);
    fake_check(fake, proto_resume_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_RESUME_REPLY, fake->frame.id, &payload);
}

/* Takes the rest of the body, which begins as the source does at `offset`, and answers. */
static void take_rest(struct fake *fake, uint64_t offset)
{
    const struct proto_put_data_reply reply = {{{1}}, LEN, LEN, 1, 60};
    struct cap_buf payload = {0};
    uint8_t wanted[16];
    uint32_t id = fake->frame.id;
    (void)pattern_read(NULL, offset, wanted, sizeof(wanted));
    (void)fake_expect(fake, PROTO_BODY);
    fake_check(fake, memcmp(fake->payload.data, wanted, sizeof(wanted)) == 0);
    uint64_t got = fake->frame.len;
    fake_check(fake, got + fake_drain_body(fake) == LEN - offset);
    fake_check(fake, proto_put_data_reply_keep_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_DATA_REPLY, id, &payload);
}

/* The connection is lost twice: the daemon has kept something, then nothing. */
static void lose_twice(struct fake *fake)
{
    uint8_t token[PROTO_TOKEN_SIZE] = {0};
    next_connection(fake, FEATURES);
    take_upload(fake, 0, token);
    (void)fake_expect(fake, PROTO_BODY);
    next_connection(fake, FEATURES);
    answer_resume(fake, token, LEN, KEPT);
    take_upload(fake, KEPT, token);
    (void)fake_expect(fake, PROTO_BODY);
    next_connection(fake, FEATURES);
    answer_resume(fake, token, 0, 0);
    take_upload(fake, 0, token);
    take_rest(fake, 0);
    close(fake->fd);
}

static void lose_once(struct fake *fake)
{
    uint8_t token[PROTO_TOKEN_SIZE] = {0};
    next_connection(fake, FEATURES);
    take_upload(fake, 0, token);
    (void)fake_expect(fake, PROTO_BODY);
    next_connection(fake, FEATURES);
    answer_resume(fake, token, LEN, KEPT);
    take_upload(fake, KEPT, token);
    take_rest(fake, KEPT);
    close(fake->fd);
}

/* A handle without leases asks for them when it has something to send. */
static void lose_after_an_upgrade(struct fake *fake)
{
    next_connection(fake, 0);
    lose_once(fake);
}

/* What is kept cannot be of this upload. */
static void answer_nonsense(struct fake *fake)
{
    uint8_t token[PROTO_TOKEN_SIZE] = {0};
    next_connection(fake, FEATURES);
    take_upload(fake, 0, token);
    next_connection(fake, FEATURES);
    answer_resume(fake, token, LEN + 1, KEPT);
    close(fake->fd);
}

static void refuse(struct fake *fake)
{
    uint8_t token[PROTO_TOKEN_SIZE] = {0};
    next_connection(fake, FEATURES);
    take_upload(fake, 0, token);
    next_connection(fake, FEATURES);
    answer_resume(fake, token, LEN, KEPT);
    take_upload(fake, KEPT, token);
    fake_error(fake, fake->frame.id, CAP_E_DISK_FULL, "no room", 0);
    while (fake_take(fake)) {
        /* the client may close before it has ended the body */
    }
    close(fake->fd);
}

/* Takes all of a cap, whose answer is lost, and has nothing of it. */
static void lose_the_answer(struct fake *fake, uint8_t token[PROTO_TOKEN_SIZE])
{
    struct proto_put_cap put;
    next_connection(fake, FEATURES);
    (void)fake_expect(fake, PROTO_PUT_CAP);
    fake_check(fake, proto_put_cap_resume_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
    memcpy(token, put.token, PROTO_TOKEN_SIZE);
    fake_check(fake, fake_drain_body(fake) == LEN);
    next_connection(fake, FEATURES);
    answer_resume(fake, token, 0, 0);
}

/* Answers the question for the cap. */
static void answer_has(struct fake *fake, uint8_t kind, uint32_t kept_s)
{
    struct proto_has has;
    uint8_t le[4];
    struct cap_buf payload = {0};
    (void)fake_expect(fake, PROTO_HAS);
    fake_check(fake, proto_has_keep_decode(cap_buf_bytes(&fake->payload), &has) == CAP_OK);
    fake_check(fake, has.count == 1 && has.hashes.data[0] == 7 && has.keep_s == 50);
    cap_store32(le, kept_s);
    const struct proto_has_reply reply = {.kinds = {&kind, 1}, .kept_s = {le, sizeof(le)}};
    fake_check(fake, proto_has_reply_keep_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
}

static void has_the_cap(struct fake *fake)
{
    uint8_t token[PROTO_TOKEN_SIZE];
    lose_the_answer(fake, token);
    answer_has(fake, CAP_KIND_DATA, 60);
    close(fake->fd);
}

/* The cap is not there, or nothing is promised: it is sent again. */
static void send_again(struct fake *fake, uint8_t kind)
{
    const struct proto_put_cap_reply reply = {.is_new = 1, .kept_s = 60};
    uint8_t token[PROTO_TOKEN_SIZE];
    struct cap_buf payload = {0};
    lose_the_answer(fake, token);
    answer_has(fake, kind, 0);
    (void)fake_expect(fake, PROTO_PUT_CAP);
    uint32_t id = fake->frame.id;
    fake_check(fake, fake_drain_body(fake) == LEN);
    fake_check(fake, proto_put_cap_reply_keep_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_CAP_REPLY, id, &payload);
    close(fake->fd);
}

static void has_not_the_cap(struct fake *fake)
{
    send_again(fake, 0);
}

static void promises_nothing(struct fake *fake)
{
    send_again(fake, CAP_KIND_DATA);
}

/* ---- the client's side ---- */

/* What progress said. */
struct seen {
    uint64_t resumed; /* the furthest */
};

static bool on_progress(void *ctx, const struct capstore_progress *progress)
{
    struct seen *seen = (struct seen *)ctx;
    seen->resumed = progress->resumed > seen->resumed ? progress->resumed : seen->resumed;
    return true;
}

static enum capstore_error put(void (*script)(struct fake *fake), bool leases, struct seen *seen,
                               struct capstore_put_result *ret_result, char *ret_message)
{
    struct fake fake;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore *store = NULL;
    options.leases = leases;
    options.progress = on_progress;
    options.progress_ctx = seen;
    fake_start(&fake, script, NULL);
    close(fake.client_fd);
    assert_int_equal(capstore_new(&options, &store), CAPSTORE_OK);
    assert_int_equal(capstore_connect(store, address), CAPSTORE_OK);
    enum capstore_error error = capstore_put_data(store, &source, 0, 0, ret_result);
    snprintf(ret_message, CAPSTORE_MESSAGE_SIZE, "%s", capstore_message(store));
    capstore_free(store);
    fake_join(&fake);
    return error;
}

static void expect_put(void (*script)(struct fake *fake), bool leases)
{
    struct seen seen = {0};
    struct capstore_put_result result;
    char message[CAPSTORE_MESSAGE_SIZE];
    enum capstore_error error = put(script, leases, &seen, &result, message);
    assert_string_equal(message, "");
    assert_int_equal(error, CAPSTORE_OK);
    assert_int_equal(result.kept_s, 60);
    assert_int_equal(seen.resumed, KEPT);
}

static void test_goes_on(void **state)
{
    (void)state;
    expect_put(lose_once, true);
}

static void test_goes_on_twice(void **state)
{
    (void)state;
    expect_put(lose_twice, true);
}

static void test_asks_for_it(void **state)
{
    (void)state;
    expect_put(lose_after_an_upgrade, false);
}

static void expect_error(void (*script)(struct fake *fake), const char *name, const char *message)
{
    struct seen seen = {0};
    struct capstore_put_result result;
    char said[CAPSTORE_MESSAGE_SIZE];
    enum capstore_error error = put(script, true, &seen, &result, said);
    assert_string_equal(capstore_error_name(error), name);
    assert_string_equal(said, message);
}

static void test_nonsense(void **state)
{
    (void)state;
    expect_error(answer_nonsense, "bad_reply", "the daemon's answer does not make sense");
}

/* A refusal is the end: another connection would not help. */
static void test_refusal(void **state)
{
    (void)state;
    expect_error(refuse, "disk_full", "no room");
}

/* A cap by its hash. */
static void expect_cap(void (*script)(struct fake *fake), bool is_new)
{
    const struct capstore_hash hash = {{7}};
    struct fake fake;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore *store = NULL;
    struct capstore_put_result result = {.kept_s = 0};
    options.leases = true;
    options.keep_s = 50;
    fake_start(&fake, script, NULL);
    close(fake.client_fd);
    assert_int_equal(capstore_new(&options, &store), CAPSTORE_OK);
    assert_int_equal(capstore_connect(store, address), CAPSTORE_OK);
    assert_int_equal(capstore_put_cap(store, &hash, CAPSTORE_KIND_DATA, &source, &result),
                     CAPSTORE_OK);
    assert_int_equal(result.is_new, is_new);
    assert_int_equal(result.kept_s, 60);
    assert_int_equal(result.body_len, LEN);
    assert_true(capstore_hash_equal(&result.cap_hash, &hash));
    capstore_free(store);
    fake_join(&fake);
}

static void test_lost_answer(void **state)
{
    (void)state;
    expect_cap(has_the_cap, false);
}

static void test_lost_before_the_answer(void **state)
{
    (void)state;
    expect_cap(has_not_the_cap, true);
}

static void test_not_promised(void **state)
{
    (void)state;
    expect_cap(promises_nothing, true);
}

#define EACH(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_goes_on),
        EACH(test_goes_on_twice),
        EACH(test_asks_for_it),
        EACH(test_nonsense),
        EACH(test_refusal),
        EACH(test_lost_answer),
        EACH(test_lost_before_the_answer),
        EACH(test_not_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
