#include "tests/unit/daemon/test_cut_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/park.h"

int open_resuming(struct fixture *fixture)
{
    return client_open_with(fixture, CUT_FEATURES);
}

void send_upload(struct fixture *fixture, int fd, const struct upload_kind *kind,
                 uint64_t total_len, const uint8_t *name, uint64_t offset)
{
    struct cap_buf payload = {0};
    if (kind->type == PROTO_PUT_DATA) {
        struct proto_put_data m = {.flags = kind->flags, .total_len = total_len, .offset = offset};
        memcpy(m.token, name, sizeof(m.token));
        assert_cap_ok(proto_put_data_resume_encode(&m, &payload));
    } else if (kind->type == PROTO_PUT_IMAGE) {
        struct proto_put_image m = {.flags = kind->flags, .total_len = total_len, .offset = offset};
        memcpy(m.token, name, sizeof(m.token));
        assert_cap_ok(proto_put_image_resume_encode(&m, &payload));
    } else {
        struct proto_put_cap m = {
            .kind = CAP_KIND_DATA, .hash = kind->hash, .total_len = total_len, .offset = offset};
        memcpy(m.token, name, sizeof(m.token));
        assert_cap_ok(proto_put_cap_resume_encode(&m, &payload));
    }
    client_frame(fixture, fd, kind->type, CUT_ID, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
}

void begin_upload(struct fixture *fixture, int fd, const struct upload_kind *kind,
                  struct cap_bytes body, const uint8_t *name, size_t sent)
{
    send_upload(fixture, fd, kind, body.len, name, 0);
    for (size_t at = 0; at < sent; at += 50000) {
        size_t len = sent - at < 50000 ? sent - at : 50000;
        client_frame(fixture, fd, PROTO_BODY, CUT_ID, 0, cap_bytes_slice(body, at, len));
    }
}

void cut_off(struct fixture *fixture, const struct upload_kind *kind, struct cap_bytes body,
             const uint8_t *name, size_t sent)
{
    int fd = open_resuming(fixture);
    begin_upload(fixture, fd, kind, body, name, sent);
    close(fd);
}

uint64_t kept(struct fixture *fixture, int fd, const uint8_t *name, uint64_t total_len)
{
    static struct reply reply;
    struct proto_resume m;
    struct proto_resume_reply answer;
    struct cap_buf payload = {0};
    memcpy(m.token, name, sizeof(m.token));
    assert_cap_ok(proto_resume_encode(&m, &payload));
    client_frame(fixture, fd, PROTO_RESUME, 9, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_RESUME_REPLY);
    assert_cap_ok(
        proto_resume_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &answer));
    assert_int_equal(answer.total_len, answer.offset == 0 ? 0 : total_len);
    return answer.offset;
}

struct cap_hash go_on(struct fixture *fixture, int fd, const struct upload_kind *kind,
                      struct cap_bytes body, const uint8_t *name, uint64_t offset)
{
    static struct reply reply;
    send_upload(fixture, fd, kind, body.len, name, offset);
    client_body(fixture, fd, CUT_ID,
                cap_bytes_slice(body, (size_t)offset, body.len - (size_t)offset), 50000);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, kind->type | PROTO_REPLY_BIT);
    struct cap_bytes payload = {reply.payload, reply.frame.len};
    if (kind->type == PROTO_PUT_DATA) {
        struct proto_put_data_reply m;
        assert_cap_ok(proto_put_data_reply_keep_decode(payload, &m));
        return m.cap_hash;
    }
    if (kind->type == PROTO_PUT_IMAGE) {
        struct proto_put_image_reply m;
        assert_cap_ok(proto_put_image_reply_keep_decode(payload, &m));
        return m.cap_hash;
    }
    return kind->hash;
}

void expect_nothing(struct fixture *fixture)
{
    struct park_figures figures;
    struct ledger_figures held;
    fixture_settle(fixture);
    park_figures(fixture->server.context.park, &figures);
    ledger_figures(fixture->server.context.ledger, &held);
    assert_int_equal(figures.count, 0);
    assert_int_equal(figures.bytes, 0);
    assert_int_equal(held.memory, 0);
    assert_int_equal(atomic_load(&fixture->server.room.spooled), 0);
}

void expect_figures(struct fixture *fixture, uint64_t count, uint64_t bytes)
{
    struct park_figures figures;
    park_figures(fixture->server.context.park, &figures);
    assert_int_equal(figures.count, count);
    assert_int_equal(figures.bytes, bytes);
}

void expect_kept(struct fixture *fixture, uint64_t count, uint64_t bytes)
{
    fixture_settle(fixture);
    expect_figures(fixture, count, bytes);
}

void clear(struct fixture *fixture)
{
    park_clear(fixture->server.context.park, 0, true, &fixture->server.loops[0].shard.pool);
    expect_nothing(fixture);
}

bool hash_is(struct cap_hash one, struct cap_hash other)
{
    return memcmp(&one, &other, sizeof(one)) == 0;
}
