/* Mapping against a scripted daemon: what it gives, and what it must not get away with. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

#define SEALS    (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
#define CODE_LEN 5000u
#define RESERVED (UINT64_C(1) << 32)

/* What is wrong with what the daemon gives. */
enum wrong {
    NOTHING,
    NO_DESCRIPTOR,
    NOT_SEALED,
    GROWABLE,
    SHORT_FILE,
    OTHER_BYTES,
    OTHER_TAIL,
    WRONG_SIZE,
    NOT_A_BODY,
    A_PIPE,
};

/* A cap that the scripted daemon has. */
struct held {
    struct capstore_hash hash;
    struct proto_map_reply layout;
    int fd;
};

struct store {
    struct held held[4];
    size_t count;
    enum wrong wrong;
};

static void write_at(int fd, uint64_t at, const void *data, size_t len)
{
    assert_int_equal(pwrite(fd, data, len, (off_t)at), len);
}

/* A file of `len` bytes, as a daemon would make it but for the seals. */
static struct held *add(struct store *store, const struct capstore_hash *hash, uint64_t len)
{
    struct held *held = &store->held[store->count++];
    held->hash = *hash;
    held->layout.len = len;
    held->fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(held->fd >= 0);
    assert_int_equal(ftruncate(held->fd, (off_t)len), 0);
    return held;
}

static void seal(struct store *store)
{
    for (size_t i = 0; i < store->count; i++) {
        int fd = store->held[i].fd;
        if (store->wrong == OTHER_BYTES) {
            write_at(fd, 1, "x", 1);
        } else if (store->wrong == OTHER_TAIL) {
            write_at(fd, CODE_LEN, "x", 1);
        } else if (store->wrong == NOT_A_BODY) {
            write_at(fd, store->held[i].layout.rest_off + 40, "\xff\xff\xff\xff", 4);
        } else if (store->wrong == SHORT_FILE) {
            assert_int_equal(ftruncate(fd, 4096), 0);
        }
        int seals = store->wrong == NOT_SEALED ? F_SEAL_SHRINK
                    : store->wrong == GROWABLE ? F_SEAL_WRITE | F_SEAL_SHRINK
                                               : SEALS;
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
        store->held[i].layout.size += store->wrong == WRONG_SIZE ? 1 : 0;
    }
}

static void drop(struct store *store)
{
    for (size_t i = 0; i < store->count; i++) {
        close(store->held[i].fd);
    }
}

/* The Data cap of 3 pages of which the middle one is zero, and its hash. */
static void add_data(struct store *store, char letter, struct capstore_hash *ret_hash)
{
    static uint8_t pages[3 * 4096];
    memset(pages, letter, 4096);
    memset(pages + 8192, letter + 1, 100);
    struct capstore_bytes bytes = {pages, sizeof(pages)};
    struct capstore_source content = capstore_source_memory(&bytes);
    struct capstore_data_id info;
    assert_error(capstore_data_hash(&content, 0, &info), "ok");
    *ret_hash = info.cap_hash;
    struct held *held = add(store, ret_hash, sizeof(pages));
    held->layout.kind = CAP_KIND_DATA;
    held->layout.size = sizeof(pages);
    held->layout.body_len = info.body_len;
    write_at(held->fd, 0, pages, 4096);
    write_at(held->fd, 8192, pages + 8192, 100);
}

static const uint8_t initial_key = 1;
static const uint8_t pinned_key = 2;
static const uint8_t other_key = 9;

static void add_mapping(struct capstore_pack *pack, uint64_t start, uint64_t size,
                        const uint8_t *key)
{
    const struct capstore_bytes step = {key, 1};
    assert_error(capstore_pack_mapping(pack, start, size, &step, 1), "ok");
}

/*
 * An Image with CODE_LEN bytes of code, and three mappings: one of a Data cap to be written, larger
 * than it, one of a pinned one, smaller, and one of a slot that is not there. `hashes` are those of
 * the pinned cap, whose first page has a 'k', and of the initial one, with an 'a'.
 */
static void make_body(const struct capstore_hash hashes[2], struct cap_buf *ret_body,
                      struct capstore_hash *ret_hash)
{
    static uint8_t code[CODE_LEN];
    struct capstore_pack *pack;
    struct capstore_source wire;
    struct capstore_bytes code_bytes = {code, sizeof(code)};
    struct capstore_bytes page[2];
    struct capstore_source content[2];
    struct cap_wire_image view;
    struct cap_image image;
    struct cap_hash inner[2];
    struct cap_buf bytes = {0};
    memset(code, 0xc0, sizeof(code));
    struct capstore_source code_source = capstore_source_memory(&code_bytes);
    assert_error(capstore_pack_new(&pack), "ok");
    assert_error(capstore_pack_code(pack, &code_source), "ok");
    add_mapping(pack, CAPSTORE_DATA_BASE, UINT64_C(4) * 4096, &initial_key);
    add_mapping(pack, CAPSTORE_DATA_BASE + 0x10000, UINT64_C(2) * 4096, &pinned_key);
    add_mapping(pack, CAPSTORE_DATA_BASE + 0x20000, 4096, &other_key);
    for (size_t i = 0; i < 2; i++) {
        page[i] = (struct capstore_bytes){(const uint8_t *)(i == 0 ? "k" : "a"), 1};
        content[i] = capstore_source_memory(&page[i]);
        const struct capstore_bytes key = {i == 0 ? &pinned_key : &initial_key, 1};
        assert_error(capstore_pack_data(pack,
                                        i == 0 ? CAPSTORE_TABLE_PINNED : CAPSTORE_TABLE_INITIAL,
                                        key, UINT64_C(3) * 4096),
                     "ok");
        assert_error(capstore_pack_content(pack, 0, &content[i]), "ok");
        memcpy(inner[i].bytes, hashes[i].bytes, sizeof(inner[i].bytes));
    }
    assert_error(capstore_pack_finish(pack, &wire), "ok");
    assert_cap_ok(cap_buf_append_zeros(&bytes, wire.len));
    assert_error(wire.read(wire.ctx, 0, bytes.data, wire.len), "ok");
    assert_cap_ok(cap_deblob(cap_buf_bytes(&bytes), wire.len, &view, NULL));
    const struct cap_bytes arena = {bytes.data + view.head.len, bytes.len - view.head.len};
    struct cap_source source = cap_source_memory(&arena);
    assert_cap_ok(cap_image_from_wire(&view, inner, &source, &image));
    assert_cap_ok(cap_buf_append_zeros(ret_body, image.body.len));
    assert_cap_ok(cap_body_read(&image.body, &source, 0, ret_body->data, image.body.len));
    memcpy(ret_hash->bytes, image.hash.bytes, CAP_HASH_SIZE);
    cap_image_free(&image);
    cap_buf_free(&bytes);
    capstore_pack_free(pack);
}

/* That Image, and its Data caps first. */
static void add_image(struct store *store, struct capstore_hash *ret_hash)
{
    struct capstore_hash data[2];
    struct cap_buf body = {0};
    add_data(store, 'k', &data[0]);
    add_data(store, 'a', &data[1]);
    make_body(data, &body, ret_hash);
    struct held *held = add(store, ret_hash, 8192 + body.len - CODE_LEN);
    held->layout.kind = CAP_KIND_IMAGE;
    held->layout.body_len = body.len;
    held->layout.size = CODE_LEN;
    held->layout.rest_off = 8192;
    held->layout.rest_len = body.len - CODE_LEN;
    write_at(held->fd, 0, body.data + 33, CODE_LEN);
    write_at(held->fd, 8192, body.data, 33);
    write_at(held->fd, 8192 + 33, body.data + 33 + CODE_LEN, body.len - 33 - CODE_LEN);
    cap_buf_free(&body);
}

/* --- The daemon --- */

static void send_fd(struct fake *fake, struct cap_bytes bytes, int fd)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec span = {(uint8_t *)(uintptr_t)bytes.data, bytes.len};
    struct msghdr message = {.msg_iov = &span,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(fd));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    fake_check(fake, sendmsg(fake->fd, &message, MSG_NOSIGNAL) == (ssize_t)bytes.len);
}

static void give(struct fake *fake, const struct held *held, enum wrong wrong)
{
    struct cap_buf payload = {0};
    uint8_t frame[PROTO_FRAME_HEADER_SIZE + 64];
    int ends[2] = {-1, -1};
    fake_check(fake, proto_map_reply_encode(&held->layout, &payload) == CAP_OK);
    const struct proto_frame header = {
        .len = (uint32_t)payload.len, .id = fake->frame.id, .type = PROTO_MAP_REPLY};
    proto_frame_encode(&header, frame);
    memcpy(frame + PROTO_FRAME_HEADER_SIZE, payload.data, payload.len);
    const struct cap_bytes bytes = {frame, PROTO_FRAME_HEADER_SIZE + payload.len};
    if (wrong == NO_DESCRIPTOR) {
        fake_raw(fake, bytes.data, bytes.len);
    } else if (wrong == A_PIPE) {
        fake_check(fake, pipe(ends) == 0);
        send_fd(fake, bytes, ends[0]);
        close(ends[0]);
        close(ends[1]);
    } else {
        send_fd(fake, bytes, held->fd);
    }
    cap_buf_free(&payload);
}

/* Answers MAP, and HAS. */
static void serve(struct fake *fake)
{
    static const uint8_t kind = CAP_KIND_DATA;
    const struct store *store = fake->ctx;
    fake_hello(fake);
    while (fake_take(fake)) {
        struct proto_map message;
        const struct held *held = NULL;
        if (fake->frame.type == PROTO_HAS) {
            const struct proto_has_reply reply = {.kinds = {&kind, 1}};
            struct cap_buf payload = {0};
            fake_check(fake, proto_has_reply_encode(&reply, &payload) == CAP_OK);
            fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
            continue;
        }
        fake_check(fake, fake->frame.type == PROTO_MAP);
        fake_check(fake, proto_map_decode(cap_buf_bytes(&fake->payload), &message) == CAP_OK);
        for (size_t i = 0; i < store->count; i++) {
            if (memcmp(store->held[i].hash.bytes, message.hash.bytes, CAP_HASH_SIZE) == 0) {
                held = &store->held[i];
            }
        }
        if (held == NULL) {
            fake_error(fake, fake->frame.id, CAP_E_NOT_FOUND, "not here", 0);
        } else {
            give(fake, held, store->wrong);
        }
    }
}

/* --- Tests --- */

static void test_data(void **state)
{
    struct store store = {.count = 0};
    struct fake fake;
    struct capstore_hash hash;
    struct capstore_hash absent = {{1}};
    struct capstore_map *map;
    (void)state;
    add_data(&store, 'd', &hash);
    seal(&store);
    fake_start(&fake, serve, &store);
    struct capstore *handle = fake_connect(&fake, NULL);
    assert_error(capstore_map(handle, &absent, CAPSTORE_VERIFY_ONCE, &map), "not_found");
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_ONCE, &map), "ok");
    assert_int_equal(capstore_map_kind(map), CAPSTORE_KIND_DATA);
    assert_true(capstore_hash_equal(capstore_map_hash(map), &hash));
    assert_true(capstore_map_verified(map));
    assert_int_equal(capstore_map_size(map), 3 * 4096);
    assert_null(capstore_map_image(map));
    struct capstore_bytes bytes = capstore_map_bytes(map);
    assert_int_equal(bytes.len, 3 * 4096);
    assert_int_equal((uintptr_t)bytes.data % 4096, 0);
    assert_int_equal(bytes.data[4095], 'd');
    assert_int_equal(bytes.data[4096], 0);
    assert_int_equal(bytes.data[8192], 'e');
    assert_true((fcntl(capstore_map_fd(map), F_GETFD) & FD_CLOEXEC) != 0);
    fake_assert_usable(handle);
    capstore_free(handle); /* the map stays */
    assert_int_equal(bytes.data[0], 'd');
    capstore_map_free(map);
    capstore_map_free(NULL);
    fake_join(&fake);
    drop(&store);
}

/* What the daemon must not get away with, and whether the connection goes on. */
static void refuse(enum wrong wrong, bool image, const char *name, bool usable)
{
    struct store store = {.wrong = wrong};
    struct fake fake;
    struct capstore_hash hash;
    struct capstore_map *map = NULL;
    if (image) {
        add_image(&store, &hash);
    } else {
        add_data(&store, 'd', &hash);
    }
    seal(&store);
    fake_start(&fake, serve, &store);
    struct capstore *handle = fake_connect(&fake, NULL);
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_ALWAYS, &map), name);
    assert_null(map);
    assert_string_not_equal(capstore_message(handle), "");
    assert_int_equal(capstore_connected(handle), usable);
    if (usable) {
        fake_assert_usable(handle);
    }
    capstore_free(handle);
    fake_join(&fake);
    drop(&store);
}

static void test_refused(void **state)
{
    (void)state;
    for (int image = 0; image < 2; image++) {
        refuse(NO_DESCRIPTOR, image, "bad_reply", false);
        refuse(NOT_SEALED, image, "bad_reply", false);
        refuse(GROWABLE, image, "bad_reply", false);
        refuse(SHORT_FILE, image, "bad_reply", false);
        refuse(WRONG_SIZE, image, "bad_reply", false);
        refuse(A_PIPE, image, "bad_reply", false);
        refuse(OTHER_BYTES, image, "hash_mismatch", true);
    }
    refuse(OTHER_TAIL, true, "body_not_canonical", true);
    refuse(NOT_A_BODY, true, "body_not_canonical", true);
}

static void test_verification(void **state)
{
    struct store store = {.wrong = OTHER_BYTES};
    struct fake fake;
    struct capstore_hash hash;
    struct capstore_map *map;
    struct capstore_map *other = NULL;
    (void)state;
    add_data(&store, 'd', &hash);
    seal(&store);
    fake_start(&fake, serve, &store);
    struct capstore *handle = fake_connect(&fake, NULL);
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_NEVER, &map), "ok");
    assert_false(capstore_map_verified(map));
    /* A map of the file that was not verified vouches for nothing. */
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_ONCE, &other), "hash_mismatch");
    capstore_map_free(map);
    capstore_free(handle);
    fake_join(&fake);
    drop(&store);
}

static void test_verified_once(void **state)
{
    struct store store = {.count = 0};
    struct fake fake;
    struct capstore_hash hash;
    struct capstore_hash other = {{7}};
    struct capstore_map *maps[3] = {NULL, NULL, NULL};
    (void)state;
    add_data(&store, 'd', &hash);
    seal(&store);
    store.held[store.count] = store.held[0]; /* the same file under another name */
    store.held[store.count].hash = other;
    store.held[store.count++].fd = dup(store.held[0].fd);
    fake_start(&fake, serve, &store);
    struct capstore *handle = fake_connect(&fake, NULL);
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_ONCE, &maps[0]), "ok");
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_ONCE, &maps[1]), "ok");
    assert_true(capstore_map_verified(maps[1]));
    assert_error(capstore_map(handle, &other, CAPSTORE_VERIFY_ONCE, &maps[2]), "hash_mismatch");
    capstore_map_free(maps[0]);
    capstore_map_free(maps[1]);
    capstore_free(handle);
    fake_join(&fake);
    drop(&store);
}

/* Whether a byte can be written there, without a signal. */
static bool can_write(uint8_t *at)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "w", 1), 1);
    bool can = read(ends[0], at, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return can;
}

static void check_spans(const struct capstore_space *space)
{
    const struct {
        uint64_t address;
        uint64_t len;
        bool read_only;
        bool has_file;
        uint64_t file_len;
    } wanted[] = {
        {CAPSTORE_CODE_BASE, 8192, true, true, 8192},
        {CAPSTORE_DATA_BASE, 4 * 4096, false, true, 3 * 4096},
        {CAPSTORE_DATA_BASE + 0x10000, 2 * 4096, true, true, 2 * 4096},
        {CAPSTORE_DATA_BASE + 0x20000, 4096, false, false, 0},
    };
    assert_int_equal(capstore_space_count(space), 4);
    for (size_t i = 0; i < 4; i++) {
        struct capstore_span span = capstore_space_span(space, i);
        assert_int_equal(span.address, wanted[i].address);
        assert_int_equal(span.len, wanted[i].len);
        assert_int_equal(span.read_only, wanted[i].read_only);
        assert_int_equal(span.fd >= 0, wanted[i].has_file);
        assert_int_equal(span.file_len, wanted[i].file_len);
    }
}

static void test_space(void **state)
{
    struct store store = {.count = 0};
    struct fake fake;
    struct capstore_hash hash;
    struct capstore_space *space = NULL;
    (void)state;
    add_image(&store, &hash);
    seal(&store);
    fake_start(&fake, serve, &store);
    struct capstore *handle = fake_connect(&fake, NULL);
    assert_error(capstore_space(handle, &store.held[0].hash, CAPSTORE_VERIFY_ONCE, &space),
                 "wrong_kind");
    assert_error(capstore_space(handle, &hash, CAPSTORE_VERIFY_ONCE, &space), "ok");
    check_spans(space);
    const struct capstore_map *image = capstore_space_image(space);
    assert_int_equal(capstore_map_size(image), CODE_LEN);
    assert_int_equal(capstore_map_bytes(image).len, 8192);
    assert_int_equal(capstore_image_counts(capstore_map_image(image)).mappings, 3);
    assert_true(capstore_cap_verified(capstore_map_image(image)));

    void *reserved =
        mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(reserved != MAP_FAILED);
    uint8_t *base = reserved;
    assert_error(capstore_space_place(space, base, CAPSTORE_DATA_BASE), "invalid_argument");
    assert_error(capstore_space_place(space, base + 1, RESERVED), "invalid_argument");
    assert_error(capstore_space_place(space, base, RESERVED), "ok");
    capstore_space_free(space);
    capstore_space_free(NULL);

    uint8_t *code = base + CAPSTORE_CODE_BASE;
    uint8_t *data = base + CAPSTORE_DATA_BASE;
    assert_int_equal(code[CODE_LEN - 1], 0xc0);
    assert_int_equal(code[CODE_LEN], 0);
    assert_false(can_write(code));
    assert_int_equal(data[0], 'a');
    assert_int_equal(data[8192], 'b');
    assert_int_equal(data[12288], 0); /* past the Data cap */
    assert_true(can_write(data));
    assert_true(can_write(data + 12288));
    assert_int_equal(data[0], 'w');
    assert_int_equal(data[0x10000], 'k');
    assert_false(can_write(data + 0x10000));
    char first = 0;
    assert_int_equal(pread(store.held[1].fd, &first, 1, 0), 1);
    assert_int_equal(first, 'a'); /* what is written is a copy */
    munmap(reserved, RESERVED);
    capstore_free(handle);
    fake_join(&fake);
    drop(&store);
}

/* A process that may open no more files is told so. */
static void test_too_many_files(void **state)
{
    struct store store = {.count = 0};
    struct fake fake;
    struct capstore_hash hash;
    struct capstore_map *map = NULL;
    struct rlimit before;
    (void)state;
    add_data(&store, 'd', &hash);
    seal(&store);
    fake_start(&fake, serve, &store);
    struct capstore *handle = fake_connect(&fake, NULL);
    int next = dup(0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {(rlim_t)next, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    enum capstore_error error = capstore_map(handle, &hash, CAPSTORE_VERIFY_ONCE, &map);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_error(error, "no_memory");
    assert_string_equal(capstore_message(handle), "too many open files (ulimit -n)");
    fake_assert_usable(handle);
    assert_error(capstore_map(handle, &hash, CAPSTORE_VERIFY_ONCE, &map), "ok");
    capstore_map_free(map);
    capstore_free(handle);
    fake_join(&fake);
    drop(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_verification), cmocka_unit_test(test_verified_once),
        cmocka_unit_test(test_space),        cmocka_unit_test(test_too_many_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
