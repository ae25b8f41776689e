#include "tests/unit/daemon/test_upload_fixture.h"

#include <string.h>

#include "daemon/publish/upload.h"
#include "lib/cap/pack.h"

const struct cap_hash absent = {{0xee}};

struct cap_bytes key(const char *text)
{
    return (struct cap_bytes){(const uint8_t *)text, strlen(text)};
}

uint8_t *make_content(size_t len)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        content[i] = (uint8_t)(1 + (i * 31 + i / 4096) % 255);
    }
    return content;
}

struct cap_buf make_long_head(void)
{
    struct cap_pack *pack = NULL;
    struct cap_body body = {0};
    struct cap_buf wire = {0};
    uint8_t *content = make_content(LONG_HEAD_CODE);
    struct cap_bytes bytes = {content, LONG_HEAD_CODE};
    struct cap_source source = cap_source_memory(&bytes);
    assert_cap_ok(cap_pack_new(&pack));
    cap_pack_code(pack, 0, LONG_HEAD_CODE);
    for (uint32_t i = 0; i < 5000; i++) {
        uint8_t name[4];
        cap_store32(name, i);
        assert_cap_ok(cap_pack_endpoint(pack, (struct cap_bytes){name, 4}, i, 0, 0, NULL, 0));
    }
    assert_cap_ok(cap_pack_finish(pack, &source, &body));
    assert_cap_ok(cap_buf_append_zeros(&wire, body.len));
    assert_cap_ok(cap_body_read(&body, &source, 0, wire.data, body.len));
    assert_true(wire.len - LONG_HEAD_CODE > UPLOAD_JUDGE_INLINE);
    cap_body_free(&body);
    cap_pack_free(pack);
    free(content);
    return wire;
}

void break_long_head(struct cap_buf *wire)
{
    wire->data[wire->len - LONG_HEAD_CODE - 4] ^= 0xff;
}

struct cap_buf make_image(size_t code_len, const struct cap_hash *pinned)
{
    struct cap_pack *pack = NULL;
    struct cap_body body = {0};
    struct cap_buf wire = {0};
    uint8_t *content = make_content(code_len + 10000);
    struct cap_bytes bytes = {content, code_len + 10000};
    struct cap_source source = cap_source_memory(&bytes);
    assert_cap_ok(cap_pack_new(&pack));
    cap_pack_code(pack, 10000, code_len);
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, key("ro"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 0, 9000));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, key("rw"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 0, 9000));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, key("zero"), UINT64_C(1) << 40));
    if (pinned != NULL) {
        assert_cap_ok(cap_pack_image(pack, key("sub"), pinned));
    }
    assert_cap_ok(cap_pack_finish(pack, &source, &body));
    assert_cap_ok(cap_buf_append_zeros(&wire, body.len));
    assert_cap_ok(cap_body_read(&body, &source, 0, wire.data, body.len));
    cap_body_free(&body);
    cap_pack_free(pack);
    free(content);
    return wire;
}

const struct reply *upload_image(struct fixture *fixture, int fd, uint8_t flags,
                                 const struct cap_buf *wire)
{
    static struct reply reply;
    client_put_image(fixture, fd, 7, flags, wire->len);
    client_body(fixture, fd, 7, cap_buf_bytes(wire), 30000);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.id, 7);
    return &reply;
}
