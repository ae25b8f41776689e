/* Events on the admin socket: who subscribes, what follows, and what a slow reader gets. */
#include "tests/unit/daemon/test_admin_peer.h"

#include <stdio.h>

#include "daemon/admin/limits.h"

#define SUBSCRIBE(params)                                                                          \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.subscribe\",\"params\":" params "}\n"
#define HELLO "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"hello\"}\n"

static void emit(struct fixture *fixture, enum event_kind kind, unsigned number)
{
    struct cap_hash hash = {{0xab}};
    events_emit(&fixture->context.events, kind, kind == EVENT_PUBLISHED ? &hash : NULL, "number %u",
                number);
}

/* As wait_lines, and no more come. */
static void wait_events(struct peer_end *peer, size_t lines)
{
    wait_lines(peer, lines);
    assert_int_equal(line_count(peer), lines);
}

/* Line `index` is the event with this number and kind. */
static void assert_event(const struct peer_end *peer, size_t index, json_int_t seq,
                         const char *kind, unsigned number)
{
    char message[32];
    json_t *event = answer_at(peer, index);
    const json_t *params = json_object_get(event, "params");
    assert_string_equal(json_string_value(json_object_get(event, "method")), "event");
    assert_null(json_object_get(event, "id"));
    assert_int_equal(json_integer_value(json_object_get(params, "seq")), seq);
    assert_string_equal(json_string_value(json_object_get(params, "kind")), kind);
    snprintf(message, sizeof(message), "number %u", number);
    assert_string_equal(json_string_value(json_object_get(params, "message")), message);
    assert_string_equal(json_string_value(json_object_get(params, "time")),
                        "2026-01-01T00:00:00.123456Z");
    assert_int_equal(json_object_get(params, "hash") != NULL, strcmp(kind, "published") == 0);
    json_decref(event);
}

static void what_happens_from_now_on_follows(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    emit(fixture, EVENT_PUBLISHED, 1);
    say_text(&peer, SUBSCRIBE("{}"));
    wait_lines(&peer, 1);
    assert_answer(&peer, 0, 1, "ok");
    emit(fixture, EVENT_PUBLISHED, 2);
    emit(fixture, EVENT_REFUSED, 3);
    wait_events(&peer, 3);
    assert_event(&peer, 1, 2, "published", 2);
    assert_event(&peer, 2, 3, "refused", 3);
    close_peer(&peer);
}

static void what_was_before_can_be_asked_for(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end all = connect_peer(fixture);
    struct peer_end some = connect_peer(fixture);
    struct peer_end ahead = connect_peer(fixture);
    for (unsigned i = 1; i <= 4; i++) {
        emit(fixture, i % 2 == 0 ? EVENT_JOB_ENDED : EVENT_REFUSED, i);
    }
    say_text(&all, SUBSCRIBE("{\"since\":0}"));
    wait_events(&all, 5);
    assert_event(&all, 1, 1, "refused", 1);
    assert_event(&all, 4, 4, "job_ended", 4);
    say_text(&some, SUBSCRIBE("{\"since\":2,\"kinds\":[\"job_ended\",\"healed\"]}"));
    wait_events(&some, 2);
    assert_event(&some, 1, 4, "job_ended", 4);
    /* A number from before a restart. */
    say_text(&ahead, SUBSCRIBE("{\"since\":100}"));
    wait_events(&ahead, 5);
    assert_event(&ahead, 1, 1, "refused", 1);
    close_peer(&ahead);
    close_peer(&some);
    close_peer(&all);
}

/* Calls go on beside the events, also one that subscribes anew. */
static void a_subscriber_may_call(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    say_text(&peer, SUBSCRIBE("{\"kinds\":[\"refused\"]}"));
    wait_lines(&peer, 1);
    emit(fixture, EVENT_REFUSED, 1);
    wait_events(&peer, 2);
    say_text(&peer, HELLO);
    wait_lines(&peer, 3);
    assert_answer(&peer, 2, 2, "ok");
    say_text(&peer, SUBSCRIBE("{\"kinds\":[\"healed\"]}"));
    wait_lines(&peer, 4);
    emit(fixture, EVENT_REFUSED, 2);
    emit(fixture, EVENT_HEALED, 3);
    wait_events(&peer, 5);
    assert_event(&peer, 4, 3, "healed", 3);
    close_peer(&peer);
}

/* A subscription that is refused leaves the one that there is. */
static void a_wrong_subscription_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    say_text(&peer, SUBSCRIBE("{\"kinds\":[\"refused\"]}"));
    say_text(&peer, SUBSCRIBE("{\"kinds\":[\"nothing\"]}"));
    wait_lines(&peer, 2);
    assert_answer(&peer, 1, 1, "out_of_bounds");
    emit(fixture, EVENT_REFUSED, 1);
    wait_events(&peer, 3);
    assert_event(&peer, 2, 1, "refused", 1);
    close_peer(&peer);
}

static void what_the_ring_forgot_is_counted(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    for (unsigned i = 1; i <= EVENTS_KEPT + 7; i++) {
        emit(fixture, EVENT_REFUSED, i);
    }
    say_text(&peer, SUBSCRIBE("{\"since\":2}"));
    wait_events(&peer, 2 + EVENTS_KEPT);
    json_t *note = answer_at(&peer, 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(note, "params"), "lost")),
                     5);
    json_decref(note);
    assert_event(&peer, 2, 8, "refused", 8);
    assert_event(&peer, 1 + EVENTS_KEPT, EVENTS_KEPT + 7, "refused", EVENTS_KEPT + 7);
    close_peer(&peer);
}

/*
 * A reader that stops costs no memory and slows nobody: what happens meanwhile is lost to it alone,
 * and it is told how much. Seq by seq, all that was emitted is accounted for.
 */
static void a_slow_reader_loses_events(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end slow = connect_peer(fixture);
    struct peer_end other = connect_peer(fixture);
    unsigned number = 0;
    say_text(&slow, SUBSCRIBE("{}"));
    wait_lines(&slow, 1);
    for (int tick = 0; tick < 40; tick++) {
        for (int i = 0; i < 500; i++) {
            emit(fixture, EVENT_REFUSED, ++number);
        }
        uv_run(&fixture->shard.loop, UV_RUN_ONCE); /* the timer of the events, or a turn of them */
    }
    say_text(&other, HELLO);
    wait_lines(&other, 1);
    close_peer(&other);
    json_int_t seen = 0;
    json_int_t lost = 0;
    size_t lines = 1;
    while (seen + lost < (json_int_t)number) {
        uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
        receive(&slow);
        for (size_t count = line_count(&slow); lines < count; lines++) {
            json_t *event = answer_at(&slow, lines);
            const json_t *params = json_object_get(event, "params");
            json_int_t gone = json_integer_value(json_object_get(params, "lost"));
            lost += gone;
            seen += gone > 0 ? 0 : 1;
            if (gone == 0) {
                assert_int_equal(json_integer_value(json_object_get(params, "seq")), seen + lost);
            }
            json_decref(event);
        }
    }
    assert_true(lost > 0);
    assert_true(seen >= EVENTS_KEPT);
    close_peer(&slow);
}

/* One that only waits for events is not closed for it. */
static void a_subscriber_is_not_idle(void **state)
{
    struct fixture *fixture = *state;
    fixture->context.config.idle_ms = 1000;
    struct peer_end peer = connect_peer(fixture);
    struct peer_end idle = connect_peer(fixture);
    say_text(&idle, HELLO);
    wait_lines(&idle, 1);
    say_text(&peer, SUBSCRIBE("{}"));
    wait_lines(&peer, 1);
    fixture->passed_us = 3600u * UINT64_C(1000000);
    admin_tick(fixture->admin);
    wait_end(&idle);
    emit(fixture, EVENT_ALLOWED, 1);
    wait_events(&peer, 2);
    close_peer(&idle);
    close_peer(&peer);
}

/* --- Jobs ----------------------------------------------------------------------------------- */

static const json_t *job_at(const json_t *result, size_t index)
{
    return json_array_get(json_object_get(result, "jobs"), index);
}

static void jobs_are_listed_while_they_run_and_after(void **state)
{
    struct fixture *fixture = *state;
    json_t *result = fixture_result(fixture, "jobs.list", NULL);
    assert_int_equal(json_array_size(json_object_get(result, "jobs")), 0);
    json_decref(result);
    fixture_start_job(fixture);
    result = fixture_result(fixture, "jobs.list", NULL);
    const json_t *job = job_at(result, 0);
    assert_int_equal(json_integer_value(json_object_get(job, "id")), 1);
    assert_string_equal(json_string_value(json_object_get(job, "kind")), "scrub");
    assert_string_equal(json_string_value(json_object_get(job, "state")), "running");
    assert_string_equal(json_string_value(json_object_get(job, "phase")), "testing");
    assert_int_equal(json_integer_value(json_object_get(job, "percent")), 75);
    assert_true(json_is_null(json_object_get(job, "total")));
    assert_true(json_is_null(json_object_get(job, "ended")));
    assert_true(json_is_null(json_object_get(job, "reason")));
    json_decref(result);
    fixture_end_job(fixture);
    result = fixture_result(fixture, "jobs.list", NULL);
    job = job_at(result, 0);
    assert_string_equal(json_string_value(json_object_get(job, "state")), "failed");
    assert_string_equal(json_string_value(json_object_get(job, "reason")), "disk_full");
    assert_true(json_is_string(json_object_get(job, "ended")));
    json_decref(result);
}

static void a_job_can_be_cancelled(void **state)
{
    struct fixture *fixture = *state;
    struct admin_error error;
    fixture_start_job(fixture);
    assert_null(fixture_call(fixture, ADMIN_ADMIN, "jobs.cancel", "{\"id\":2}", &error));
    assert_string_equal(error.reason, "no_job");
    json_decref(fixture_result(fixture, "jobs.cancel", "{\"id\":1}"));
    fixture_end_job(fixture);
    json_t *result = fixture_result(fixture, "jobs.list", NULL);
    const json_t *job = job_at(result, 0);
    assert_string_equal(json_string_value(json_object_get(job, "state")), "cancelled");
    assert_true(json_is_true(json_object_get(job, "cancelled")));
    assert_true(json_is_null(json_object_get(job, "reason")));
    json_decref(result);
    assert_null(fixture_call(fixture, ADMIN_ADMIN, "jobs.cancel", "{\"id\":1}", &error));
    assert_string_equal(error.reason, "no_job");
}

static void a_job_begins_and_ends_with_an_event(void **state)
{
    struct fixture *fixture = *state;
    struct event_cursor cursor = {.kinds = EVENT_ALL};
    struct event events[4];
    uint64_t lost = 0;
    fixture_start_job(fixture);
    fixture_end_job(fixture);
    assert_int_equal(events_next(&fixture->context.events, &cursor, events, 4, &lost), 2);
    assert_int_equal(events[0].kind, EVENT_JOB_STARTED);
    assert_string_equal(events[0].message, "job 1, scrub");
    assert_int_equal(events[1].kind, EVENT_JOB_ENDED);
    assert_non_null(strstr(events[1].message, "job 1, scrub, failed: the disk is full"));
    const char *log = fixture_log(fixture);
    assert_non_null(strstr(log, "job_started job=1 kind=scrub"));
    assert_non_null(strstr(log, "job_ended job=1 kind=scrub outcome=failed error=disk_full"));
}

int main(void)
{
#define WITH_SOCKET(test)  cmocka_unit_test_setup_teardown(test, peer_setup, peer_teardown)
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SOCKET(what_happens_from_now_on_follows),
        WITH_SOCKET(what_was_before_can_be_asked_for),
        WITH_SOCKET(a_subscriber_may_call),
        WITH_SOCKET(a_wrong_subscription_changes_nothing),
        WITH_SOCKET(what_the_ring_forgot_is_counted),
        WITH_SOCKET(a_slow_reader_loses_events),
        WITH_SOCKET(a_subscriber_is_not_idle),
        WITH_FIXTURE(jobs_are_listed_while_they_run_and_after),
        WITH_FIXTURE(a_job_can_be_cancelled),
        WITH_FIXTURE(a_job_begins_and_ends_with_an_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
