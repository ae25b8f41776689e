/*
 * What uploads become, without a daemon: heads, judgements, caps, room on the disk. And no
 * allocation that fails is a crash or a leak.
 */
#include "tests/unit/daemon/test_upload_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/publish/head.h"
#include "daemon/publish/job.h"
#include "daemon/publish/pace.h"
#include "lib/cap/pack.h"
#include "tests/support/store_memory.h"

static const struct image_limits no_limits = {SIZE_MAX, UINT64_MAX, UINT64_MAX, "max-memory",
                                              UINT64_MAX};
static const struct caps_stamp stamp = {{1, 2}, 3};

/* --- Allocations that fail -------------------------------------------------------------------- */

/* Allocations of our own libraries go here; the one after `allowed` others fails, once. */
static size_t allowed = SIZE_MAX;

void *real_malloc(size_t size) __asm__("__real_malloc");
void *real_calloc(size_t count, size_t size) __asm__("__real_calloc");
void *real_realloc(void *memory, size_t size) __asm__("__real_realloc");
void *wrap_malloc(size_t size) __asm__("__wrap_malloc");
void *wrap_calloc(size_t count, size_t size) __asm__("__wrap_calloc");
void *wrap_realloc(void *memory, size_t size) __asm__("__wrap_realloc");

static bool fails(void)
{
    return allowed-- == 0;
}

void *wrap_malloc(size_t size)
{
    return fails() ? NULL : real_malloc(size);
}

void *wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : real_calloc(count, size);
}

void *wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : real_realloc(memory, size);
}

/* --- What is used below ----------------------------------------------------------------------- */

static struct cap_store *new_store(void)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "caps";
    struct cap_store *store = NULL;
    assert_cap_ok(cap_store_memory_new(id, FIXTURE_STORE_MAX, &store));
    return store;
}

static void on_decided(void *ctx, struct cap_admission *admission)
{
    (void)ctx;
    assert_cap_ok(admission->error);
}

static void store_admission(struct cap_store *store, struct cap_admission *admission)
{
    const struct cap_admit_watch watch = {.decided = on_decided};
    cap_store_admit(store, &admission, 1, &watch);
}

static enum cap_error read_bytes(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct cap_bytes *bytes = ctx;
    memcpy(dst, bytes->data + offset, len);
    return CAP_OK;
}

static size_t head_len_of(const struct cap_buf *wire)
{
    size_t len = 0;
    assert_cap_ok(cap_wire_image_head_len((struct cap_bytes){wire->data, CAP_WIRE_FIXED_SIZE},
                                          wire->len, &len));
    return len;
}

/* A job for the whole of an Image, whose arena is *arena. */
static struct job job_for(const struct cap_buf *wire, struct cap_store *store,
                          struct cap_bytes *arena)
{
    static const atomic_bool never = false;
    size_t head_len = head_len_of(wire);
    *arena = (struct cap_bytes){wire->data + head_len, wire->len - head_len};
    return (struct job){
        .store = store,
        .cancelled = &never,
        .total_len = wire->len,
        .form = JOB_WIRE,
        .head = {wire->data, head_len},
        .limits = no_limits,
        .look_memory = UINT64_MAX,
        .spool = {.read = read_bytes, .ctx = arena},
        .stamp = stamp,
    };
}

/* --- Heads ------------------------------------------------------------------------------------ */

/* In pieces of every length: the same head, and no memory is taken for what has not come. */
static void test_head_in_pieces(void **state)
{
    struct cap_buf wire = make_image(20000, NULL);
    size_t len = head_len_of(&wire);
    (void)state;
    for (size_t step = 1; step < 2 * len; step++) {
        struct head head = {0};
        struct judgement judgement = {0};
        size_t at = 0;
        while (!head_is_complete(&head)) {
            struct cap_bytes piece = {wire.data + at, wire.len - at < step ? wire.len - at : step};
            size_t had = piece.len;
            size_t wanted = head_wants(&head, wire.len, piece.len);
            assert_true(wanted <= 2 * (head.filled + piece.len) || wanted <= 4096);
            assert_cap_ok(head_take(&head, &piece, wire.len, len, &judgement));
            assert_true(head.capacity <= wanted);
            assert_true(piece.len < had);
            at += had - piece.len;
        }
        assert_int_equal(head.filled, len);
        assert_memory_equal(head.data, wire.data, len);
        head_free(&head);
    }
    cap_buf_free(&wire);
}

static void test_head_refusals(void **state)
{
    struct cap_buf wire = make_image(20000, NULL);
    size_t len = head_len_of(&wire);
    struct head head = {0};
    struct judgement judgement = {0};
    struct cap_bytes piece = cap_buf_bytes(&wire);
    (void)state;
    assert_cap_error(head_take(&head, &piece, wire.len, len - 1, &judgement),
                     CAP_E_STRUCTURE_TOO_LARGE);
    assert_non_null(strstr(judgement.message, "max-structure"));
    head_free(&head);
    /* Shorter than the fixed part, and nothing at all. */
    for (size_t n = 0; n < CAP_WIRE_FIXED_SIZE; n++) {
        piece = (struct cap_bytes){wire.data, n};
        assert_cap_error(head_take(&head, &piece, n, len, &judgement), CAP_E_SSZ);
        head_free(&head);
    }
    cap_buf_free(&wire);
}

/* --- Judging ---------------------------------------------------------------------------------- */

static void test_limits_name_their_option(void **state)
{
    struct cap_buf wire = make_image(20000, NULL);
    struct cap_bytes head = {wire.data, head_len_of(&wire)};
    struct cap_wire_image view;
    struct judgement judgement = {0};
    struct image_limits limits = no_limits;
    (void)state;
    assert_cap_ok(image_judge(head, wire.len, &limits, &view, &judgement));
    limits.max_slots = 2;
    assert_cap_error(image_judge(head, wire.len, &limits, &view, &judgement),
                     CAP_E_STRUCTURE_TOO_LARGE);
    assert_non_null(strstr(judgement.message, "3 slots; max-slots is 2"));
    limits = no_limits;
    limits.max_data = 17999;
    assert_cap_error(image_judge(head, wire.len, &limits, &view, &judgement), CAP_E_DATA_TOO_LARGE);
    assert_non_null(strstr(judgement.message, "18000 bytes; max-data is 17999"));
    limits = no_limits;
    limits.max_memory = head.len + image_make_memory(&view) - 1;
    assert_cap_error(image_judge(head, wire.len, &limits, &view, &judgement), CAP_E_MEMORY_LIMIT);
    cap_buf_free(&wire);
}

/* What is missing is named, in the message and in the list. */
static void test_what_is_missing_is_named(void **state)
{
    struct cap_store *store = new_store();
    struct cap_buf wire = make_image(200000, &absent);
    struct cap_bytes arena;
    struct job job = job_for(&wire, store, &arena);
    struct cap_ssz_list list;
    char hex[CAP_HASH_HEX_SIZE];
    (void)state;
    cap_hash_format(&absent, hex);
    job_judge(&job);
    assert_cap_error(job.judgement.error, CAP_E_UNRESOLVED_SLOT);
    assert_false(job.resolved);
    assert_non_null(strstr(job.judgement.message, hex));
    assert_cap_ok(proto_unresolved_decode(cap_buf_bytes(&job.judgement.detail), &list));
    assert_int_equal(list.count, 1);
    job_free(&job);
    /* Resolve only: the data is known when its caps are made. */
    job = job_for(&wire, store, &arena);
    job.resolve_only = true;
    job_judge(&job);
    assert_cap_ok(job.judgement.error);
    job_make(&job);
    assert_cap_error(job.judgement.error, CAP_E_UNRESOLVED_SLOT);
    assert_non_null(strstr(job.judgement.message, "4 slots name caps that are not published"));
    assert_non_null(strstr(job.judgement.message, "and 2 more"));
    job_free(&job);
    /* Without memory for an early look it is left to a later one. */
    job = job_for(&wire, store, &arena);
    job.look_memory = 0;
    job_judge(&job);
    assert_cap_ok(job.judgement.error);
    assert_false(job.resolved);
    job_make(&job);
    assert_cap_error(job.judgement.error, CAP_E_UNRESOLVED_SLOT);
    job_free(&job);
    cap_buf_free(&wire);
    cap_store_close(store);
}

/*
 * What was looked up before the arena came is not looked up again, since the admission decides; but
 * a dry run has no admission.
 */
static void test_one_early_look(void **state)
{
    struct cap_store *full = new_store();
    struct cap_store *empty = new_store();
    struct cap_buf sub = make_image(100, NULL);
    struct cap_bytes arena;
    struct job job = job_for(&sub, full, &arena);
    (void)state;
    job_judge(&job);
    job_make(&job);
    store_admission(full, &job.caps.admission);
    struct cap_hash published = job.caps.image.hash;
    job_free(&job);
    struct cap_buf wire = make_image(200000, &published);
    for (int dry = 0; dry < 2; dry++) {
        job = job_for(&wire, full, &arena);
        job.dry_run = dry == 1;
        job_judge(&job);
        assert_cap_ok(job.judgement.error);
        assert_true(job.resolved);
        held_release(&job.held);
        job.store = empty;
        job_make(&job);
        assert_cap_error(job.judgement.error, dry == 1 ? CAP_E_UNRESOLVED_SLOT : CAP_OK);
        assert_int_equal(job.caps.admission.needed_count, 1);
        job_free(&job);
    }
    cap_buf_free(&sub);
    cap_buf_free(&wire);
    cap_store_close(full);
    cap_store_close(empty);
}

/* --- Caps ------------------------------------------------------------------------------------- */

/* An upload that names the same few bytes again and again is a long job, however short it is. */
static void test_cost_is_what_is_named(void **state)
{
    struct cap_pack *pack = NULL;
    struct cap_body body = {0};
    const struct cap_bytes page = key("a page");
    struct cap_source source = cap_source_memory(&page);
    struct cap_buf wire = {0};
    struct cap_wire_image view;
    (void)state;
    assert_cap_ok(cap_pack_new(&pack));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, key("rw"), 0));
    for (uint64_t i = 0; i < 1000; i++) {
        assert_cap_ok(cap_pack_content(pack, i * CAP_PAGE_SIZE, 0, page.len));
    }
    assert_cap_ok(cap_pack_finish(pack, &source, &body));
    assert_cap_ok(cap_buf_append_zeros(&wire, body.len));
    assert_cap_ok(cap_body_read(&body, &source, 0, wire.data, body.len));
    assert_cap_ok(cap_deblob(cap_buf_bytes(&wire), wire.len, &view, NULL));
    assert_int_equal(image_make_cost(&view, false),
                     wire.len + 1000 * page.len + view.head.len * IMAGE_STRUCTURE_COST);
    cap_body_free(&body);
    cap_pack_free(pack);
    cap_buf_free(&wire);
}

/* The admission has each Data cap once, the Image last, and needs nothing that it brings. */
static void test_admission_of_an_image(void **state)
{
    struct cap_store *store = new_store();
    struct cap_buf wire = make_image(20000, NULL);
    struct cap_bytes arena;
    struct job job = job_for(&wire, store, &arena);
    (void)state;
    job_judge(&job);
    job_make(&job);
    assert_cap_ok(job.judgement.error);
    const struct cap_admission *admission = &job.caps.admission;
    assert_int_equal(admission->needed_count, 0);
    assert_int_equal(admission->put_count, 3); /* two of three Data caps are equal */
    assert_int_equal(job.caps.data_distinct, 2);
    assert_int_equal(admission->puts[2].info.kind, CAP_KIND_IMAGE);
    assert_int_equal(admission->puts[2].ref_count, 3);
    for (size_t i = 0; i < admission->put_count; i++) {
        assert_true(admission->puts[i].is_new);
        assert_int_equal(admission->puts[i].info.published_us, 3);
    }
    job_free(&job);
    cap_buf_free(&wire);
    cap_store_close(store);
}

/* An arena of which only a part can be read. */
struct part {
    struct cap_bytes arena;
    uint64_t from;
    uint64_t until;
};

static enum cap_error read_part(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct part *part = ctx;
    if (len > 0 && (offset < part->from || offset + len > part->until)) {
        return CAP_E_IO;
    }
    memcpy(dst, part->arena.data + offset, len);
    return CAP_OK;
}

/* Caps of the code at this place and of the slots, made with and without the rest of the arena. */
static void check_reads(struct cap_wire_image view, struct cap_bytes arena, uint32_t code_off,
                        uint32_t code_len)
{
    struct part part = {.arena = arena};
    struct cap_hash *roots = calloc(cap_block_count(arena.len), sizeof(*roots));
    struct caps caps[2];
    assert_non_null(roots);
    cap_block_roots(arena.data, arena.len, roots);
    view.code_off = code_off;
    view.code_len = code_len;
    image_reads(&view, &part.from, &part.until);
    assert_true(part.from <= part.until && part.until <= arena.len);
    const struct caps_source sources[2] = {
        {.hashed = cap_source_memory(&arena)},
        {.hashed = {.read = read_part,
                    .ctx = &part,
                    .block_roots = roots,
                    .block_count = cap_block_count(arena.len)}},
    };
    for (size_t i = 0; i < 2; i++) {
        assert_cap_ok(image_make(&view, false, &sources[i], &stamp, &caps[i]));
    }
    assert_hash_equal(&caps[0].image.hash, &caps[1].image.hash);
    assert_hash_equal(&caps[0].content_hash, &caps[1].content_hash);
    caps_free(&caps[0]);
    caps_free(&caps[1]);
    free(roots);
}

static void test_what_is_read(void **state)
{
    static const uint32_t offs[] = {0, 1, 4096, 5000, 8192, 20480, 31000};
    static const uint32_t lens[] = {0, 1, 4095, 4096, 4097, 8192, 12000};
    struct cap_buf wire = make_image(40000, NULL);
    size_t head_len = head_len_of(&wire);
    struct cap_bytes arena = {wire.data + head_len, wire.len - head_len};
    struct cap_wire_image view;
    uint64_t from;
    uint64_t until;
    (void)state;
    assert_cap_ok(cap_deblob(cap_buf_bytes(&wire), wire.len, &view, NULL));
    for (size_t i = 0; i < sizeof(offs) / sizeof(offs[0]); i++) {
        for (size_t k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
            check_reads(view, arena, offs[i], lens[k]);
        }
    }
    view.initial = view.pinned = (struct cap_ssz_list){0};
    view.code_off = 4096;
    view.code_len = 8192;
    image_reads(&view, &from, &until);
    assert_int_equal(from, until);
    cap_buf_free(&wire);
}

static void test_cancelled_job(void **state)
{
    const atomic_bool cancelled = true;
    struct cap_buf wire = make_image(20000, NULL);
    struct cap_bytes arena;
    struct job job = job_for(&wire, NULL, &arena);
    (void)state;
    assert_cap_ok(job_judge_rules(&job));
    job.cancelled = &cancelled;
    job_make(&job);
    assert_cap_error(job.judgement.error, CAP_E_CANCELLED);
    job_free(&job);
    cap_buf_free(&wire);
}

/* --- Turns ------------------------------------------------------------------------------------ */

#define MANY_KEYS 40000u /* each counts as a KiB, twice */

/* An Image that is all structure: its gas slots are keys of one byte. */
static struct cap_buf make_structure(void)
{
    struct cap_pack *pack = NULL;
    struct cap_body body = {0};
    struct cap_buf wire = {0};
    struct cap_bytes nothing = {(const uint8_t *)"", 0};
    struct cap_source source = cap_source_memory(&nothing);
    assert_cap_ok(cap_pack_new(&pack));
    for (size_t i = 0; i < MANY_KEYS; i++) {
        assert_cap_ok(cap_pack_gas_slot(pack, (struct cap_bytes){(const uint8_t *)"g", 1}));
    }
    assert_cap_ok(cap_pack_finish(pack, &source, &body));
    assert_cap_ok(cap_buf_append_zeros(&wire, body.len));
    assert_cap_ok(cap_body_read(&body, &source, 0, wire.data, body.len));
    cap_body_free(&body);
    cap_pack_free(pack);
    return wire;
}

/* Where one long job hashes at a time: a structure, and another peer's job beside it. */
struct turns {
    struct pool pool;
    struct pool_outlet outlet;
    struct job job;
    struct pool_job other;
    atomic_bool begun;
    atomic_bool cancelled;
    bool cancels; /* the other one does */
    uint64_t hashed_then;
    char order[3];
};

static void run_structure(struct pool_job *pool_job)
{
    struct turns *turns = CONTAINER_OF(pool_job, struct turns, job.pool);
    while (!atomic_load(&turns->begun)) {
        uv_sleep(1);
    }
    job_make(&turns->job);
}

static void run_other(struct pool_job *pool_job)
{
    struct turns *turns = CONTAINER_OF(pool_job, struct turns, other);
    turns->hashed_then = turns->job.pool.hashed; /* it rests */
    atomic_store(&turns->cancelled, turns->cancels);
}

static void on_structure(struct pool_job *pool_job)
{
    struct turns *turns = CONTAINER_OF(pool_job, struct turns, job.pool);
    turns->order[strlen(turns->order)] = 's';
}

static void on_other(struct pool_job *pool_job)
{
    struct turns *turns = CONTAINER_OF(pool_job, struct turns, other);
    turns->order[strlen(turns->order)] = 'o';
}

static void run_turns(struct turns *turns, struct cap_store *store, const struct cap_buf *wire)
{
    const struct pool_size size = {1, 1, 100};
    struct stats stats = {0};
    uv_loop_t loop;
    struct cap_bytes arena;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_cap_ok(pool_open(&turns->pool, env_system(), &size));
    assert_cap_ok(pool_outlet_open(&turns->outlet, &turns->pool, &loop, &stats));
    turns->job = job_for(wire, store, &arena);
    turns->job.cancelled = &turns->cancelled;
    assert_cap_ok(job_judge_rules(&turns->job));
    assert_true(job_make_cost(&turns->job) > POOL_SMALL);
    turns->job.pool = (struct pool_job){.peer_id = 1,
                                        .cost = job_make_cost(&turns->job),
                                        .cancelled = &turns->cancelled,
                                        .run = run_structure,
                                        .done = on_structure};
    turns->other =
        (struct pool_job){.peer_id = 2, .cost = POOL_SMALL + 1, .run = run_other, .done = on_other};
    pool_submit(&turns->outlet, &turns->job.pool);
    pool_submit(&turns->outlet, &turns->other);
    atomic_store(&turns->begun, true);
    pool_outlet_close(&turns->outlet);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    pool_close(&turns->pool);
    job_free(&turns->job);
}

/* Hashing a structure, of which nothing is read, gives way after a turn. */
static void test_structure_takes_turns(void **state)
{
    struct cap_store *store = new_store();
    struct cap_buf wire = make_structure();
    struct turns turns = {.cancels = false};
    (void)state;
    run_turns(&turns, store, &wire);
    assert_cap_ok(turns.job.judgement.error);
    assert_string_equal(turns.order, "os");
    assert_in_range(turns.hashed_then, POOL_TURN, 2 * POOL_TURN);
    assert_in_range(turns.job.pool.hashed, 2 * 1024 * MANY_KEYS, 3 * 1024 * MANY_KEYS);
    cap_buf_free(&wire);
    cap_store_close(store);
}

/* And ends when it is cancelled. */
static void test_structure_is_cancelled(void **state)
{
    struct cap_buf wire = make_structure();
    struct turns turns = {.cancels = true};
    (void)state;
    run_turns(&turns, NULL, &wire);
    assert_cap_error(turns.job.judgement.error, CAP_E_CANCELLED);
    assert_string_equal(turns.order, "os");
    assert_in_range(turns.job.pool.hashed, POOL_TURN, 2 * POOL_TURN);
    cap_buf_free(&wire);
}

/* --- No memory -------------------------------------------------------------------------------- */

/*
 * Every allocation of a whole upload fails once: gathering, judging with a look at the store,
 * making. The outcome is CAP_E_NO_MEMORY, or, where trouble may be left to a later step, that of
 * an upload without trouble.
 */
static enum cap_error whole_upload(const struct cap_buf *wire, struct cap_store *store)
{
    struct head head = {0};
    struct judgement judgement = {0};
    struct cap_bytes piece = cap_buf_bytes(wire);
    struct cap_bytes arena;
    struct job job = job_for(wire, store, &arena);
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && !head_is_complete(&head)) {
        error = head_take(&head, &piece, wire->len, SIZE_MAX, &judgement);
    }
    if (error == CAP_OK) {
        job.head = (struct cap_bytes){head.data, head.len};
        job_judge(&job);
        error = job.judgement.error;
    }
    if (error == CAP_OK) {
        job_make(&job);
        error = job.judgement.error;
    }
    struct cap_buf reply = {0};
    if (error == CAP_OK) {
        error = job_encode_reply(&job, &job.caps.admission, &reply);
    }
    cap_buf_free(&reply);
    job_free(&job);
    head_free(&head);
    return error;
}

static void sweep(const struct cap_buf *wire, struct cap_store *store, enum cap_error outcome)
{
    for (size_t i = 0;; i++) {
        assert_true(i < 10000);
        allowed = i;
        enum cap_error error = whole_upload(wire, store);
        bool done = allowed <= i;
        allowed = SIZE_MAX;
        if (done) {
            assert_cap_error(error, outcome);
            return;
        }
        if (error != outcome) {
            assert_cap_error(error, CAP_E_NO_MEMORY);
        }
    }
}

static void test_no_memory(void **state)
{
    struct cap_store *store = new_store();
    struct cap_buf images[2] = {make_image(200000, NULL), make_image(200000, &absent)};
    (void)state;
    sweep(&images[0], store, CAP_OK);
    sweep(&images[1], store, CAP_E_UNRESOLVED_SLOT);
    cap_buf_free(&images[0]);
    cap_buf_free(&images[1]);
    cap_store_close(store);
}

static void test_no_memory_for_data(void **state)
{
    static const struct cap_bytes content = {(const uint8_t *)"content", 7};
    const struct data_order order = {.total_len = content.len};
    struct cap_source memory = {.read = read_bytes, .ctx = (void *)(uintptr_t)&content};
    const struct caps_source source = {memory, memory};
    enum cap_error error = CAP_E_NO_MEMORY;
    (void)state;
    for (size_t i = 0; error != CAP_OK; i++) {
        struct caps caps;
        allowed = i;
        error = data_make(&order, &source, &stamp, &caps);
        allowed = SIZE_MAX;
        caps_free(&caps);
        assert_true(error == CAP_OK || error == CAP_E_NO_MEMORY);
        assert_true(i < 100);
    }
}

/* --- Pace ------------------------------------------------------------------------------------- */

/* Only time in which the client's bytes could be taken counts, and only after the grace. */
static void test_pace(void **state)
{
    const struct config config = {.min_upload_rate = 1000, .min_upload_grace_ms = 2000};
    const struct config any = {.min_upload_rate = 0};
    struct pace pace = {.ticked_us = 5000000};
    struct judgement judgement = {.error = CAP_OK};
    (void)state;
    assert_true(pace_tick(&pace, 7000000));
    assert_cap_ok(pace_judge(&pace, 0, &config, &judgement));
    pace.ours = true;
    assert_false(pace_tick(&pace, 60000000));
    assert_cap_ok(pace_judge(&pace, 0, &config, &judgement));
    assert_true(pace_tick(&pace, 62000000));
    assert_cap_ok(pace_judge(&pace, 4000, &config, &judgement));
    assert_cap_ok(pace_judge(&pace, 0, &any, &judgement));
    assert_cap_error(pace_judge(&pace, 3999, &config, &judgement), CAP_E_UPLOAD_TOO_SLOW);
    assert_string_equal(judgement.message,
                        "the body comes at 999 bytes per second; min-upload-rate is 1000");
    assert_true(pace_tick(&pace, 61000000)); /* a clock that goes back takes nothing away */
    assert_cap_ok(pace_judge(&pace, 4000, &config, &judgement));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_in_pieces),
        cmocka_unit_test(test_head_refusals),
        cmocka_unit_test(test_limits_name_their_option),
        cmocka_unit_test(test_what_is_missing_is_named),
        cmocka_unit_test(test_one_early_look),
        cmocka_unit_test(test_cost_is_what_is_named),
        cmocka_unit_test(test_admission_of_an_image),
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_cancelled_job),
        cmocka_unit_test(test_structure_takes_turns),
        cmocka_unit_test(test_structure_is_cancelled),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_memory_for_data),
        cmocka_unit_test(test_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
