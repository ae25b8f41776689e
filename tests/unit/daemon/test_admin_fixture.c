#include "tests/unit/daemon/test_admin_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/publish/quota.h"
#include "daemon/publish/writer.h"
#include "daemon/upkeep/backup.h"
#include "daemon/upkeep/compact.h"
#include "daemon/upkeep/gc.h"
#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "tests/support/store_memory.h"

#define MEMORY_STORE_MAX (UINT64_C(64) << 20)

void admin_gauges(const struct admin_rooms *rooms, struct gauges *ret_gauges)
{
    *ret_gauges = CONTAINER_OF(rooms->hubs->hubs[0], struct fixture, hub)->gauges;
}

size_t hub_clients(const struct hub *hub, uint64_t after, struct client *ret_clients, size_t max,
                   bool *ret_more)
{
    struct hub *at = (struct hub *)(uintptr_t)hub;
    const struct fixture *fixture = CONTAINER_OF(at, struct fixture, hub);
    size_t count = 0;
    size_t i = 0;
    for (; i < fixture->client_count && count < max; i++) {
        if (fixture->clients[i].session > after) {
            ret_clients[count++] = fixture->clients[i];
        }
    }
    *ret_more = i < fixture->client_count;
    return count;
}

/* Any address will do: nobody looks behind it. */
enum cap_error backups_start(struct backups *backups, uint64_t *ret_id)
{
    *ret_id = 7;
    return backups == NULL ? CAP_E_NOT_CONFIGURED : CAP_OK;
}

size_t backups_list(struct backups *backups, struct backup ret_list[BACKUPS_MAX])
{
    assert_non_null(backups);
    ret_list[0] = (struct backup){"20260102T000000.000Z", FIXTURE_NOW_US, 5000, false};
    ret_list[1] = (struct backup){"20260101T000000.000Z", FIXTURE_NOW_US - 1, 4000, true};
    return 2;
}

enum cap_error compact_start(struct upkeep_jobs *jobs, struct context *context,
                             struct writer *writer, uint64_t *ret_id)
{
    (void)jobs;
    (void)context;
    (void)writer;
    *ret_id = 8;
    return CAP_OK;
}

enum cap_error gc_start(struct gc *gc, uint64_t *ret_id)
{
    (void)gc;
    *ret_id = 9;
    return CAP_OK;
}

size_t writer_queued(const struct writer *writer)
{
    (void)writer;
    return 0;
}

/* The fixture's store is written by the caller's thread. */
enum cap_error writer_run(struct writer *writer, writer_errand *run, void *ctx)
{
    return run((struct cap_store *)(void *)writer, ctx);
}

static void on_drain(void *owner)
{
    struct fixture *fixture = owner;
    fixture->drains++;
    fixture->context.phase = PHASE_DRAINING;
}

static void on_stop(void *owner, int exit_code)
{
    struct fixture *fixture = owner;
    assert_int_equal(exit_code, 0);
    fixture->stops++;
    fixture->context.phase = PHASE_STOPPING;
}

/* One setting that is live, one that is not, and one word that is wrong. */
static enum cap_error on_reload(void *owner, bool apply, struct config_changes *ret_changes,
                                char ret_reason[CONFIG_REASON_SIZE])
{
    struct fixture *fixture = owner;
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    bool found[2] = {false, false};
    ret_changes->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!found[options[i].live]) {
            found[options[i].live] = true;
            ret_changes->rows[ret_changes->count++] =
                (struct config_change){.option = &options[i], .from = "old", .to = "new"};
        }
    }
    snprintf(ret_reason, CONFIG_REASON_SIZE, "line 3: wrong");
    fixture->reloads += apply;
    return fixture->reload_error;
}

static uint64_t stepped_us(void *ctx)
{
    return FIXTURE_NOW_US + ((const struct fixture *)ctx)->passed_us;
}

/* --- Publishing ------------------------------------------------------------------------------- */

static void on_decided(void *ctx, struct cap_admission *admission)
{
    (void)ctx;
    (void)admission;
}

static void put_body(struct fixture *fixture, struct cap_put *put, const struct cap_body *body,
                     const struct cap_source *source)
{
    struct cap_admission admission = {.puts = put, .put_count = 1};
    const struct cap_admit_watch watch = {.decided = on_decided};
    struct cap_buf whole = {0};
    assert_cap_ok(cap_buf_append_zeros(&whole, body->len));
    assert_cap_ok(cap_body_read(body, source, 0, whole.data, body->len));
    struct cap_bytes bytes = cap_buf_bytes(&whole);
    put->info.body_len = body->len;
    put->info.publisher = (struct cap_publisher){1000, 100};
    put->info.published_us = FIXTURE_NOW_US;
    put->body = cap_source_memory(&bytes);
    cap_store_admit(fixture->context.store, &(struct cap_admission *const){&admission}, 1, &watch);
    assert_cap_ok(admission.error);
    cap_buf_free(&whole);
}

static struct cap_hash put_data(struct fixture *fixture, const struct cap_data_desc *desc,
                                const struct cap_source *arena)
{
    struct cap_data data;
    assert_cap_ok(cap_data_from_desc(desc, arena, UINT64_MAX, NULL, &data));
    struct cap_put put = {.hash = data.hash, .page_roots = data.page_roots};
    put.info.kind = CAP_KIND_DATA;
    put.info.size = data.size;
    put.info.page_count = data.page_count;
    put_body(fixture, &put, &data.body, arena);
    struct cap_hash hash = data.hash;
    cap_data_free(&data);
    return hash;
}

/* Resolves every slot, storing its data; fills hashes and refs. */
static void put_slots(struct fixture *fixture, const struct cap_wire_image *wire,
                      const struct cap_source *arena, struct cap_hash *hashes, struct cap_ref *refs)
{
    for (size_t i = 0; i < cap_wire_slot_count(wire); i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(wire, i, &slot);
        hashes[i] =
            slot.kind == CAP_KIND_DATA ? put_data(fixture, &slot.desc, arena) : slot.content_hash;
        refs[i].hash = hashes[i];
        refs[i].tables = slot.table == CAP_TABLE_PINNED ? CAP_REF_PINNED : CAP_REF_INITIAL;
    }
}

struct cap_hash fixture_publish(struct fixture *fixture, struct cap_pack *pack,
                                struct cap_bytes content)
{
    struct cap_source source = cap_source_memory(&content);
    struct cap_body packed = {0};
    struct cap_buf upload = {0};
    struct cap_wire_image wire;
    assert_cap_ok(cap_pack_finish(pack, &source, &packed));
    assert_cap_ok(cap_buf_append_zeros(&upload, packed.len));
    assert_cap_ok(cap_body_read(&packed, &source, 0, upload.data, packed.len));
    assert_cap_ok(cap_wire_image_decode(cap_buf_bytes(&upload), upload.len, &wire));
    struct cap_bytes arena_bytes = {upload.data + wire.head.len, wire.arena_len};
    struct cap_source arena = cap_source_memory(&arena_bytes);

    size_t count = cap_wire_slot_count(&wire);
    struct cap_hash *hashes = calloc(count + 1, sizeof(*hashes));
    struct cap_ref *refs = calloc(count + 1, sizeof(*refs));
    put_slots(fixture, &wire, &arena, hashes, refs);
    struct cap_image image;
    assert_cap_ok(cap_image_from_wire(&wire, hashes, &arena, &image));
    struct cap_put put = {
        .hash = image.hash, .refs = refs, .ref_count = count, .page_roots = image.code_roots};
    put.info.kind = CAP_KIND_IMAGE;
    put.info.size = wire.code_len;
    put.info.has_content_hash = true;
    put.info.content_hash.bytes[0] = 0xcc;
    put_body(fixture, &put, &image.body, &arena);
    struct cap_hash hash = image.hash;

    cap_image_free(&image);
    free(hashes);
    free(refs);
    cap_buf_free(&upload);
    cap_body_free(&packed);
    cap_pack_free(pack);
    return hash;
}

static struct cap_bytes key(const char *text)
{
    return (struct cap_bytes){(const uint8_t *)text, strlen(text)};
}

/* The Image of the fixture: pages 0, 1 and 5 of "ro" hold code's bytes, "rw" is all zero. */
static void publish_all(struct fixture *fixture)
{
    uint8_t content[FIXTURE_CODE_LEN];
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(1 + i % 251);
    }
    struct cap_bytes bytes = {content, sizeof(content)};
    struct cap_pack *pack = NULL;
    assert_cap_ok(cap_pack_new(&pack));
    fixture->inner = fixture_publish(fixture, pack, bytes);

    struct cap_register stack = {1, 0x1000};
    struct cap_bytes read_only[] = {key("ro")};
    struct cap_bytes read_write[] = {key("rw")};
    struct cap_bytes nowhere[] = {key("none"), key("b")};
    assert_cap_ok(cap_pack_new(&pack));
    cap_pack_code(pack, 0, FIXTURE_CODE_LEN);
    assert_cap_ok(cap_pack_endpoint(pack, key("main"), 4, 2, 3, &stack, 1));
    assert_cap_ok(cap_pack_endpoint(pack, key("off"), FIXTURE_CODE_LEN, 0, 0, NULL, 0));
    assert_cap_ok(cap_pack_mapping(pack, CAP_DATA_BASE + 0x10000, 0x1000, read_write, 1));
    assert_cap_ok(cap_pack_mapping(pack, CAP_DATA_BASE, 0x9000, read_only, 1));
    assert_cap_ok(cap_pack_mapping(pack, CAP_DATA_BASE + 0x8000, 0x1000, nowhere, 2));
    assert_cap_ok(cap_pack_mapping(pack, UINT64_MAX - 0xfff, 0x2000, read_write, 1));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, key("ro"), 8 * CAP_PAGE_SIZE));
    assert_cap_ok(cap_pack_content(pack, 0, 0, 2 * CAP_PAGE_SIZE));
    assert_cap_ok(cap_pack_content(pack, 5 * CAP_PAGE_SIZE, 1, 100));
    assert_cap_ok(cap_pack_image(pack, key("sub"), &fixture->inner));
    assert_cap_ok(
        cap_pack_data(pack, CAP_TABLE_INITIAL, key("rw"), (UINT64_C(1) << 63) + CAP_PAGE_SIZE));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, key("sub"), CAP_PAGE_SIZE));
    assert_cap_ok(cap_pack_gas_slot(pack, key("gas")));
    fixture->image = fixture_publish(fixture, pack, bytes);
}

/* --- Life ------------------------------------------------------------------------------------- */

static void find_names(struct fixture *fixture)
{
    json_t *explained =
        fixture_result(fixture, "cap.explain", fixture_hash_params(&fixture->image, NULL));
    json_t *image = json_object_get(explained, "image");
    json_t *pinned = json_array_get(json_object_get(image, "pinned"), 0);
    json_t *initial = json_array_get(json_object_get(image, "initial"), 0);
    assert_cap_ok(
        cap_hash_parse(json_string_value(json_object_get(pinned, "cap_hash")), &fixture->data));
    assert_cap_ok(
        cap_hash_parse(json_string_value(json_object_get(initial, "cap_hash")), &fixture->zero));
    json_decref(explained);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    static const uint8_t id[CAP_STORE_ID_SIZE] = {0xab, 0xcd};
    assert_int_equal(uv_loop_init(&fixture->shard.loop), 0);
    fixture->env = (struct env){.monotonic_us = stepped_us, .real_us = stepped_us, .ctx = fixture};
    fixture->context.env = &fixture->env;
    config_init(&fixture->context.config);
    assert_int_equal(pipe2(fixture->log_fds, O_NONBLOCK | O_CLOEXEC), 0);
    log_init(&fixture->context.log, &fixture->env, fixture->log_fds[1], false);
    fixture->context.log.level = LOG_LEVEL_INFO;
    assert_cap_ok(refusals_init(&fixture->context.refusals, 4));
    assert_cap_ok(cap_store_memory_new(id, MEMORY_STORE_MAX, &fixture->context.store));
    fixture->context.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    fixture->context.config_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    config_init(&fixture->context.given);
    fixture->context.phase = PHASE_RUNNING;
    fixture->context.started_us = FIXTURE_NOW_US;
    fixture->context.drain = on_drain;
    fixture->context.stop = on_stop;
    fixture->context.reload = on_reload;
    fixture->context.owner = fixture;
    fixture->shard.context = &fixture->context;
    fixture->context.shards[fixture->context.shard_count++] = &fixture->shard;
    fixture->hub.shard = &fixture->shard;
    fixture->hubs = (struct hub_set){.hubs = {&fixture->hub}, .count = 1};
    fixture->rooms = (struct admin_rooms){.context = &fixture->context, .hubs = &fixture->hubs};
    fixture->rooms.backups = (struct backups *)(void *)fixture;
    fixture->rooms.writer = (struct writer *)(void *)fixture->context.store;
    assert_cap_ok(events_init(&fixture->context.events, &fixture->env));
    assert_cap_ok(upkeep_jobs_new(&fixture->context, &fixture->rooms.jobs));
    assert_cap_ok(quotas_new(&fixture->context.config, &fixture->env, &fixture->context.quotas));
    assert_cap_ok(scrub_new(&fixture->context, NULL, fixture->rooms.jobs, &fixture->rooms.scrub));
    assert_int_equal(uv_sem_init(&fixture->job_gate, 0), 0);
    publish_all(fixture);
    find_names(fixture);
    *state = fixture;
    return 0;
}

void fixture_set_root(struct fixture *fixture, const char *name)
{
    struct cap_root root = {.hash = fixture->image, .set_us = FIXTURE_NOW_US};
    bool replaced;
    snprintf(root.name, sizeof(root.name), "%s", name);
    assert_cap_ok(cap_store_root_set(fixture->context.store, &root, &replaced));
}

void fixture_run_out(struct fixture *fixture)
{
    int alive = 1;
    for (int i = 0; alive && i < 100000; i++) {
        alive = uv_run(&fixture->shard.loop, UV_RUN_ONCE);
    }
    assert_int_equal(alive, 0);
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(uv_loop_close(&fixture->shard.loop), 0);
    fixture_end_job(fixture);
    upkeep_jobs_free(fixture->rooms.jobs);
    quotas_free(fixture->context.quotas);
    scrub_free(fixture->rooms.scrub);
    uv_sem_destroy(&fixture->job_gate);
    cap_store_close(fixture->context.store);
    events_free(&fixture->context.events);
    refusals_free(&fixture->context.refusals);
    config_free(&fixture->context.config);
    close(fixture->log_fds[0]);
    close(fixture->log_fds[1]);
    free(fixture);
    return 0;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

static enum cap_error run_job(struct upkeep_job *job, void *ctx)
{
    struct fixture *fixture = ctx;
    job_progress(job, 3, 0, 30, 40, "testing");
    uv_sem_wait(&fixture->job_gate);
    return job->cancelled ? CAP_E_CANCELLED : CAP_E_DISK_FULL;
}

void fixture_start_job(struct fixture *fixture)
{
    struct upkeep_job_info info = {0};
    if (fixture->job_waits) {
        return;
    }
    fixture_end_job(fixture); /* a method may have started one */
    fixture->job_waits = true;
    assert_cap_ok(upkeep_jobs_start(fixture->rooms.jobs, UPKEEP_SCRUB, run_job, fixture, NULL));
    while (info.done == 0) {
        assert_true(upkeep_jobs_running(fixture->rooms.jobs, UPKEEP_SCRUB, &info));
    }
}

void fixture_end_job(struct fixture *fixture)
{
    if (fixture->job_waits) {
        fixture->job_waits = false;
        uv_sem_post(&fixture->job_gate);
    }
    assert_true(upkeep_jobs_join(fixture->rooms.jobs, UPKEEP_JOBS_GRACE_US));
}

/* --- Calls ------------------------------------------------------------------------------------ */

json_t *fixture_call(struct fixture *fixture, enum admin_level level, const char *method,
                     const char *params, struct admin_error *ret_error)
{
    json_t *object = params != NULL ? json_loads(params, 0, NULL) : NULL;
    assert_true(!params || json_is_object(object));
    struct admin_call call = {
        .rooms = &fixture->rooms, .store = fixture->context.store, .level = level};
    call.peer.uid = 1000;
    call.peer.gid = 100;
    json_t *result = admin_call_begin(&call, method, object) ? admin_call_run(&call) : NULL;
    if (result != NULL) {
        assert_null(call.error.reason);
    } else {
        assert_non_null(call.error.reason);
    }
    if (ret_error != NULL) {
        *ret_error = call.error;
        ret_error->needed_by = NULL; /* the call's */
    }
    admin_call_free(&call);
    json_decref(object);
    return result;
}

json_t *fixture_result(struct fixture *fixture, const char *method, const char *params)
{
    struct admin_error error;
    json_t *result = fixture_call(fixture, ADMIN_ADMIN, method, params, &error);
    if (result == NULL) {
        fail_msg("%s: %s (%s)", method, error.reason, error.message);
    }
    return result;
}

const char *fixture_hash_params(const struct cap_hash *hash, const char *rest)
{
    static char params[512];
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    snprintf(params, sizeof(params), "{\"hash\":\"%s\"%s}", hex, rest != NULL ? rest : "");
    return params;
}

const char *fixture_log(struct fixture *fixture)
{
    static char text[8192];
    ssize_t len = read(fixture->log_fds[0], text, sizeof(text) - 1);
    text[len > 0 ? len : 0] = '\0';
    return text;
}
