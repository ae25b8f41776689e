#include "tests/unit/client/slicer.h"

#include "lib/cap/image_cap.h"
#include "lib/cap/slice_encode.h"
#include "tests/unit/cap/build_cap.h"

#define STEP 40000u /* of a frame: no boundary of anything */

const struct capstore_hash *slicer_add(struct slicer *slicer, struct cap_buf *body)
{
    enum cap_kind kind;
    struct cap_hash hash;
    assert_true(slicer->count < SLICER_CAPS);
    assert_cap_ok(cap_body_hash(cap_buf_bytes(body), &kind, &hash));
    memcpy(slicer->hashes[slicer->count].bytes, hash.bytes, CAP_HASH_SIZE);
    slicer->bodies[slicer->count] = *body;
    *body = (struct cap_buf){0};
    return &slicer->hashes[slicer->count++];
}

static struct cap_bytes body_of(struct slicer *slicer, const struct cap_hash *hash)
{
    for (size_t i = 0; i < slicer->count; i++) {
        if (memcmp(slicer->hashes[i].bytes, hash->bytes, CAP_HASH_SIZE) == 0) {
            return cap_buf_bytes(&slicer->bodies[i]);
        }
    }
    return (struct cap_bytes){NULL, 0};
}

static void send_slice(struct slicer *slicer, const struct proto_slice *asked)
{
    struct fake *fake = &slicer->fake;
    uint32_t id = fake->frame.id;
    struct cap_bytes body = body_of(slicer, &asked->hash);
    struct cap_range ranges[PROTO_SLICE_RANGES_MAX];
    struct cap_buf slice = {0}, payload = {0};
    uint64_t pages = 0;
    size_t count = asked->ranges.len / PROTO_RANGE_SIZE;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = asked->ranges.data + i * PROTO_RANGE_SIZE;
        ranges[i] = (struct cap_range){cap_load64(at), cap_load64(at + 8)};
        pages += ranges[i].pages;
    }
    slicer->asked = pages;
    if (body.len == 0) {
        fake_error(fake, id, CAP_E_NOT_FOUND, "none", 0);
        return;
    }
    enum cap_error error = cap_slice_of_body(body, ranges, count, &slice);
    if (error != CAP_OK) {
        fake_error(fake, id, error, cap_error_text(error), 0);
        return;
    }
    if (slicer->flip >= 0 && (size_t)slicer->flip < slice.len) {
        slice.data[slicer->flip] ^= 0x10;
    }
    const struct proto_slice_reply reply = {body.data[0], body.len, 0};
    fake_check(fake, proto_slice_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_SLICE_REPLY, id, &payload);
    for (size_t at = 0; at < slice.len; at += STEP) {
        size_t len = slice.len - at < STEP ? slice.len - at : STEP;
        fake_send(fake, PROTO_BODY, id, at + len == slice.len ? PROTO_FLAG_END : 0,
                  cap_bytes_slice(cap_buf_bytes(&slice), at, len));
    }
    cap_buf_free(&slice);
}

static void script(struct fake *fake)
{
    struct slicer *slicer = (struct slicer *)(uintptr_t)fake->ctx;
    fake_hello(fake);
    while (fake_take(fake)) {
        struct proto_slice slice;
        struct proto_get get;
        if (fake->frame.type == PROTO_SLICE) {
            slicer->requests++;
            fake_check(fake, proto_slice_decode(cap_buf_bytes(&fake->payload), &slice) == CAP_OK);
            send_slice(slicer, &slice);
        } else if (fake->frame.type == PROTO_GET) {
            slicer->requests++;
            fake_check(fake, proto_get_decode(cap_buf_bytes(&fake->payload), &get) == CAP_OK);
            fake_body(fake, body_of(slicer, &get.hash), STEP);
        } else if (fake->frame.type == PROTO_HAS) {
            fake_reply_has(fake);
        } else {
            fake_check(fake, fake->frame.type == PROTO_CANCEL);
        }
    }
}

struct capstore *slicer_start(struct slicer *slicer, uint64_t features)
{
    slicer->flip = -1;
    fake_start(&slicer->fake, script, slicer);
    slicer->fake.features = features;
    return fake_connect(&slicer->fake, slicer->options);
}

void slicer_stop(struct slicer *slicer)
{
    fake_join(&slicer->fake);
    for (size_t i = 0; i < slicer->count; i++) {
        cap_buf_free(&slicer->bodies[i]);
    }
}

struct cap_buf slicer_content(size_t pages, bool (*is_zero)(size_t page))
{
    struct cap_buf content = {0};
    assert_cap_ok(cap_buf_append_zeros(&content, pages * CAP_PAGE_SIZE));
    for (size_t page = 0; page < pages; page++) {
        for (size_t i = 0; !is_zero(page) && i < CAP_PAGE_SIZE; i++) {
            content.data[page * CAP_PAGE_SIZE + i] = (uint8_t)(page * 7 + i * 13 + (i >> 8) + 1);
        }
    }
    return content;
}

/* A slot of this key with a cap, and a mapping of it. */
static void add_slot(struct node *root, enum field table, const char *key, uint64_t at,
                     uint64_t len, const struct capstore_hash *data)
{
    struct cap_hash hash;
    memcpy(hash.bytes, data->bytes, CAP_HASH_SIZE);
    node_add(root->children[table],
             node_add(node_add(node_container(), test_key(key)), node_hash(&hash)));
    node_add(test_cap_mapping(root, at, len), test_key(key));
}

struct cap_buf slicer_image(struct cap_bytes code, const struct capstore_hash *data,
                            uint64_t mapped)
{
    struct node *root = test_cap_node(code.data, code.len);
    if (data != NULL) {
        add_slot(root, PINNED, "a", SLICER_READ_ONLY, mapped, data);
        add_slot(root, INITIAL, "b", SLICER_WRITABLE, mapped, data);
    }
    struct cap_buf body = test_cap_body(root, NULL);
    node_free(root);
    return body;
}
