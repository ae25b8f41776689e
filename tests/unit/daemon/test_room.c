/* Room on the disk for uploads, and a peer's share of what is left. */
#include "tests/unit/support.h"

#include "daemon/publish/room.h"
#include "lib/cap/refusal.h"

static void assert_lacks(const struct judgement *judgement, uint64_t need, uint64_t have)
{
    struct proto_shortage shortage;
    assert_cap_ok(proto_shortage_decode(cap_buf_bytes(&judgement->detail), &shortage));
    assert_int_equal(shortage.need, need);
    assert_int_equal(shortage.have, have);
    assert_int_equal(shortage.limit.len, 0);
}

static void test_room(void **state)
{
    struct room room = {.disk_free = 1000};
    struct room_ask ask = {.len = 300, .reserve = 200};
    struct judgement judgement = {0};
    (void)state;
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len = 401;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    assert_string_equal(judgement.message,
                        "the upload needs 802 bytes of disk, in spool and store; free are 1000, of "
                        "which disk-reserve keeps 200 and other uploads need 0");
    assert_lacks(&judgement, 802, 800);
    /* Free pages of the store are room for the store, and no more. */
    room.store_free = 300;
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len = 412;
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len = 413;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    room.store_free = UINT64_C(1) << 40;
    ask.len = 480;
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len = 481;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    /* Another upload is promised its bytes twice; what its spool has on the disk counts once. */
    room.store_free = 0;
    ask = (struct room_ask){.len = 75, .reserved = 300, .reserve = 200};
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len = 76;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    room.spooled_then = 2;
    assert_cap_ok(room_check(&room, &ask, &judgement));
    room.spooled_then = 10000; /* of uploads that are over */
    assert_cap_ok(room_check(&room, &ask, &judgement));
    cap_buf_free(&judgement.detail);
}

/* Caps were deleted on a full disk: what is spooled in memory goes into the pages that they left.
 */
static void test_room_in_free_pages(void **state)
{
    struct room room = {.disk_free = 0, .store_free = 1000};
    struct room_ask ask = {.len = 400, .reserved = 600, .reserve = 200, .in_memory = true};
    struct judgement judgement = {0};
    (void)state;
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len++;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    ask.len--;
    ask.in_memory = false;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    cap_buf_free(&judgement.detail);
}

/* One peer takes what it can get; the others' small uploads have room beside it. */
static void test_room_is_shared(void **state)
{
    struct room room = {.disk_free = 100000};
    struct room_ask ask = {.len = 1000, .reserve = 20000};
    struct judgement judgement = {0};
    (void)state;
    while (room_check(&room, &ask, &judgement) == CAP_OK) {
        ask.own += ask.len;
        ask.reserved = ask.own;
    }
    assert_int_equal(ask.own, 30000);
    assert_string_equal(judgement.message,
                        "the disk is nearly full: with this upload the client's would "
                        "need 62000 bytes of it, in spool and store; of what is left it "
                        "may have 60000, the rest is for other clients");
    assert_lacks(&judgement, 62000, 60000);
    /* The same when its bytes come: they are on the disk then, and free no more. */
    for (unsigned written = 0; written <= 2; written++) {
        struct room_ask other = {.len = 7500, .reserved = 30000, .reserve = 20000};
        room.spooled_then = written * UINT64_C(15000);
        room.disk_free = 100000 - room.spooled_then;
        assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
        assert_cap_ok(room_check(&room, &other, &judgement));
        other.len++;
        assert_cap_error(room_check(&room, &other, &judgement), CAP_E_DISK_FULL);
    }
    /* Of a large disk it is 64 MiB that stay. */
    room = (struct room){.disk_free = UINT64_C(1) << 40};
    ask = (struct room_ask){.len = (room.disk_free - (UINT64_C(64) << 20)) / 2};
    assert_cap_ok(room_check(&room, &ask, &judgement));
    ask.len++;
    assert_cap_error(room_check(&room, &ask, &judgement), CAP_E_DISK_FULL);
    cap_buf_free(&judgement.detail);
}

/* The reserve and what others need may be more than there is. */
static void test_what_a_refusal_says(void **state)
{
    const struct room_claim claim = {
        .needed = 5, .where = "in the store", .free = 9, .reserve = 10};
    const struct room_claim map = {.needed = 70, .where = "in the store", .free = 60};
    struct judgement judgement = {0};
    (void)state;
    assert_cap_error(room_refuse(&claim, CAP_E_DISK_FULL, &judgement), CAP_E_DISK_FULL);
    assert_lacks(&judgement, 5, 0);
    assert_cap_error(room_refuse(&map, CAP_E_MAP_FULL, &judgement), CAP_E_MAP_FULL);
    assert_lacks(&judgement, 70, 60);
    assert_string_equal(judgement.message,
                        "the upload needs 70 bytes in the store, whose map has room for 60; raise "
                        "map-size, then retry");
    cap_buf_free(&judgement.detail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_room_in_free_pages),
        cmocka_unit_test(test_room_is_shared),
        cmocka_unit_test(test_what_a_refusal_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
