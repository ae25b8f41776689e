/*
 * What capctl top makes of the daemon's answers, and what it shows of that: rates and latencies
 * between two looks, a daemon that was started again, sorting, keys, screens of any size.
 */
#include "tests/unit/support.h"

#include <stdio.h>
#include <string.h>

#include "client/capctl/top_view.h"

struct fixture {
    struct top_model model;
    struct top_view view;
    struct top_screen screen;
};

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    assert_non_null(*state);
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

/* Decodes JSON with ' for ". */
static json_t *json_of(const char *text)
{
    char *copy = strdup(text);
    for (char *at = copy; *at != '\0'; at++) {
        if (*at == '\'') {
            *at = '"';
        }
    }
    json_t *value = json_loads(copy, 0, NULL);
    free(copy);
    assert_non_null(value);
    return value;
}

static json_t *metrics_of(unsigned gets, unsigned sent, unsigned fast, unsigned all)
{
    return json_pack("{s:o}", "text",
                     json_sprintf("# HELP x y\ncapstore_requests_total{type=\"get\"} %u\n"
                                  "capstore_requests_total{type=\"has\"} 0\n"
                                  "capstore_received_bytes_total 5\ncapstore_sent_bytes_total %u\n"
                                  "capstore_fetch_seconds_bucket{le=\"0.000064\"} %u\n"
                                  "capstore_fetch_seconds_bucket{le=\"0.001024\"} %u\n"
                                  "capstore_fetch_seconds_bucket{le=\"+Inf\"} %u\n"
                                  "capstore_fetch_seconds_count %u\n",
                                  gets, sent, fast, all, all, all));
}

#define CLIENTS                                                                                    \
    "{'clients':[{'session':1,'peer':'unix:uid=1000,pid=7','agent':'a','connected':'x',"           \
    "'idle_ms':0,'requests':2,'uploads':1,'bytes_in':%d,'bytes_out':%d,'output_bytes':9},"         \
    "{'session':2,'peer':'tcp:10.0.0.1:4000','agent':'b','connected':'x','idle_ms':90000,"         \
    "'requests':0,'uploads':0,'bytes_in':10,'bytes_out':10,'output_bytes':0},"                     \
    "{'session':3,'peer':'unix:uid=1000,pid=8','agent':'c','connected':'x','idle_ms':5000,"        \
    "'requests':5,'uploads':0,'bytes_in':%d,'bytes_out':0,'output_bytes':0}],'cursor':null}"

#define STATUS                                                                                     \
    "{'version':'1.2.3','phase':'running','time':'2026-01-01T12:34:56.000000Z','uptime_ms':%d,"    \
    "'sessions':{'open':3,'limit':1024,'peer_limit':256},'requests_in_flight':7,"                  \
    "'uploads':{'in_flight':1,'limit':256},'writer_queue':2,"                                      \
    "'memory':{'bytes':1024,'limit_bytes':1048576},'spool':{'bytes':0,'limit_bytes':0},"           \
    "'caps':{'image':3,'data':1200},'body_bytes':{'total':5242880},'refs':9,'file_bytes':8388608," \
    "'file_free_bytes':0,'map_bytes':1099511627776,'disk_free_bytes':1073741824,'refusals':4,"     \
    "'warnings':[{'reason':'disk_low','message':'the disk is nearly full\\u001b[2J'}]}"

#define JOBS                                                                                       \
    "{'jobs':[{'id':7,'kind':'scrub','state':'running','cancelled':false,'phase':'content',"       \
    "'done':10,'total':40,'done_bytes':1024,'total_bytes':2048,'percent':50,'took_ms':61000,"      \
    "'message':''},{'id':8,'kind':'gc','state':'running','cancelled':false,'phase':'',"            \
    "'done':1,'total':null,'done_bytes':0,'total_bytes':null,'percent':null,'took_ms':0,"          \
    "'message':''},{'id':5,'kind':'backup','state':'failed','cancelled':false,'phase':'',"         \
    "'done':0,'total':null,'done_bytes':0,'total_bytes':null,'percent':null,'took_ms':0,"          \
    "'message':'the disk is full'}]}"

#define REFUSALS                                                                                   \
    "{'refusals':[{'time':'2026-01-01T12:00:01.000000Z','peer':'unix:uid=5,pid=6',"                \
    "'what':'put_image','reason':'ssz','message':'not a canonical SSZ encoding'}]}"

/* A look at `second` of the daemon's life. */
static void look(struct fixture *fixture, int second, unsigned gets, unsigned fast, unsigned all)
{
    char clients[1024];
    char status[1024];
    snprintf(clients, sizeof(clients), CLIENTS, second * 1000, second * 3000, second * 100);
    snprintf(status, sizeof(status), STATUS, second * 1000);
    struct top_sample sample = {
        .time_ms = 5000 + second * 1000,
        .status = json_of(status),
        .metrics = metrics_of(gets, gets * 10, fast, all),
        .clients = json_of(clients),
        .jobs = json_of(JOBS),
        .refusals = json_of(REFUSALS),
    };
    top_model_take(&fixture->model, &sample);
    top_sample_free(&sample);
}

static void draw(struct fixture *fixture, int rows, int cols)
{
    fixture->screen.rows = rows;
    fixture->screen.cols = cols;
    top_view_draw(&fixture->view, &fixture->model, &fixture->screen);
}

/* The row of the screen that begins with these words; the test fails without one. */
static int row_with(const struct fixture *fixture, const char *words)
{
    for (int row = 0; row < fixture->screen.rows; row++) {
        if (strstr(fixture->screen.text[row], words) != NULL) {
            return row;
        }
    }
    for (int row = 0; row < fixture->screen.rows; row++) {
        print_message("%s\n", fixture->screen.text[row]);
    }
    fail_msg("the screen does not say: %s", words);
    return -1;
}

static bool is_near(double a, double b)
{
    return a > b * 0.999 - 1e-9 && a < b * 1.001 + 1e-9;
}

/* ---- the model ---- */

static void test_rates_are_of_the_time_between(void **state)
{
    struct fixture *fixture = *state;
    struct top_model *model = &fixture->model;
    look(fixture, 10, 1000, 0, 0);
    assert_int_equal(model->type_count, 2);
    assert_true(is_near(model->types[0].requests.per_second, 0));
    assert_true(model->latencies[TOP_FETCH].p50 < 0);
    look(fixture, 12, 1500, 0, 0);
    assert_string_equal(model->types[0].name, "get");
    assert_true(is_near(model->types[0].requests.per_second, 250));
    assert_true(is_near(model->sent.per_second, 2500));
    assert_true(is_near(model->received.per_second, 0));
    assert_true(is_near(model->sessions[0].in.per_second, 1000));
    assert_true(is_near(model->sessions[0].out.per_second, 3000));
}

static void test_latencies_are_of_what_is_new(void **state)
{
    struct fixture *fixture = *state;
    const struct top_histogram *fetch = &fixture->model.latencies[TOP_FETCH];
    look(fixture, 1, 0, 90, 100);
    assert_true(is_near(fetch->p50, 0.000064)); /* since the start */
    assert_true(is_near(fetch->p99, 0.001024));
    look(fixture, 2, 0, 91, 200);
    assert_true(is_near(fetch->p50, 0.001024));
    look(fixture, 3, 0, 91, 200);
    assert_true(fetch->p50 < 0);
}

static void test_a_daemon_that_was_started_again(void **state)
{
    struct fixture *fixture = *state;
    look(fixture, 100, 5000, 9, 10);
    top_model_lost(&fixture->model, "cannot connect");
    assert_false(fixture->model.connected);
    assert_int_equal(fixture->model.session_count, 3);
    assert_true(is_near(fixture->model.sent.per_second, 0));
    look(fixture, 1, 50, 1, 1);
    assert_true(fixture->model.connected);
    assert_true(is_near(fixture->model.types[0].requests.per_second, 0));
    look(fixture, 2, 60, 1, 1);
    assert_true(is_near(fixture->model.types[0].requests.per_second, 10));
}

static void test_peers_have_their_share(void **state)
{
    struct fixture *fixture = *state;
    const struct top_model *model = &fixture->model;
    char name[TOP_TEXT_SIZE];
    look(fixture, 1, 0, 0, 0);
    look(fixture, 2, 0, 0, 0);
    assert_int_equal(model->peer_count, 2);
    assert_string_equal(model->peers[0].name, "unix:uid=1000");
    assert_int_equal(model->peers[0].sessions, 2);
    assert_int_equal(model->peers[0].requests, 7);
    assert_true(is_near(model->peers[0].in, 1100));
    assert_true(is_near(model->peers[0].share, 1));
    assert_string_equal(model->peers[1].name, "tcp:10.0.0.1");
    top_peer_name("tcp:[2001:db8::1]:80", name);
    assert_string_equal(name, "tcp:[2001:db8::1]");
}

/* Answers that lack members, or have others than are known, do no harm. */
static void test_answers_of_another_version(void **state)
{
    struct fixture *fixture = *state;
    static const char *const texts[] = {"{}", "{'jobs':7,'clients':{},'status':[],'text':5}",
                                        ("{'jobs':[1,null],'clients':['x'],'refusals':[{}],"
                                         "'text':'capstore_requests_total{type=\\n x'}")};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct top_sample sample = {
            .status = json_of(texts[i]),
            .metrics = json_of(texts[i]),
            .clients = json_of(texts[i]),
            .jobs = json_of(texts[i]),
            .refusals = json_of(texts[i]),
        };
        top_model_take(&fixture->model, &sample);
        top_sample_free(&sample);
        draw(fixture, 24, 80);
    }
    struct top_sample nothing = {0};
    top_model_take(&fixture->model, &nothing);
    draw(fixture, 24, 80);
}

/* ---- the screen ---- */

static void test_the_main_screen(void **state)
{
    struct fixture *fixture = *state;
    snprintf(fixture->model.address, sizeof(fixture->model.address), "unix:/a");
    look(fixture, 10, 1000, 0, 0);
    look(fixture, 11, 4000, 90, 100);
    draw(fixture, 30, 100);
    assert_int_equal(row_with(fixture, "capstored 1.2.3  running  up 0:00:11  12:34:56 UTC"), 0);
    row_with(fixture, "requests/s get 3.0k");
    row_with(fixture, "bytes/s    in 0 B  out 29.3 KiB");
    row_with(fixture, "p50, p99   get 64 us, 1.02 ms");
    row_with(fixture, "sessions   3 of 1024; in flight 7 requests, uploads 1 of 256, 2 to write");
    row_with(fixture, "store      3 images, 1.2k data, bodies 5.0 MiB");
    row_with(fixture,
             "disk       file 8.0 MiB, 0 B of it free, at most 1.0 TiB; disk 1.0 GiB free");
    int warning = row_with(fixture, "warning: the disk is nearly full?[2J");
    assert_int_equal(fixture->screen.looks[warning][0], TOP_ALARM);
    row_with(fixture, "7  scrub    running    [#####.....]  50 % 0:01:01 content  10 of 40, "
                      "1.0 KiB of 2.0 KiB");
    row_with(fixture, "8  gc       running");
    row_with(fixture, "5  backup   failed");
    int first =
        row_with(fixture, "1    2    1    1000 B     2.9 KiB    0:00:00  unix:uid=1000,pid=7  a");
    assert_int_equal(fixture->screen.looks[first][0], TOP_SELECTED);
    row_with(fixture, "100 %         2    7    1    1.1 KiB");
    row_with(fixture, "12:00:01 put_image of unix:uid=5,pid=6: ssz: not a canonical");
    row_with(fixture, "q quit");
    top_model_lost(&fixture->model, "cannot connect to unix:/a");
    draw(fixture, 30, 100);
    assert_int_equal(row_with(fixture, "not connected, retrying"), 0);
    row_with(fixture, "cannot connect to unix:/a");
}

/* Nothing is written outside, at any size. */
static void draw_sizes(struct fixture *fixture)
{
    for (int rows = 1; rows < 40; rows += 3) {
        for (int cols = 1; cols < 130; cols += 7) {
            draw(fixture, rows, cols);
            for (int row = 0; row < rows; row++) {
                assert_int_equal(strlen(fixture->screen.text[row]), cols);
            }
        }
    }
}

static void test_screens_of_any_size(void **state)
{
    struct fixture *fixture = *state;
    static const int keys[] = {'h', 'h', TOP_KEY_ENTER, TOP_KEY_ESCAPE, 'c', 'n'};
    look(fixture, 10, 1000, 0, 0);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        (void)top_view_key(&fixture->view, &fixture->model, keys[i]);
        draw_sizes(fixture);
    }
    draw(fixture, 100000, 100000);
    assert_int_equal(fixture->screen.rows, TOP_ROWS_MAX);
    assert_int_equal(fixture->screen.cols, TOP_COLS_MAX);
}

static void test_sorting_moves_rows_and_keeps_the_cursor(void **state)
{
    struct fixture *fixture = *state;
    look(fixture, 10, 0, 0, 0);
    look(fixture, 11, 0, 0, 0);
    draw(fixture, 24, 80);
    assert_int_equal(fixture->model.sessions[0].number, 1);
    assert_int_equal(top_view_key(&fixture->view, &fixture->model, TOP_KEY_DOWN), TOP_STAY);
    uint64_t selected = fixture->view.selected;
    assert_int_equal(selected, fixture->model.sessions[1].number);
    static const uint64_t firsts[TOP_SORTS] = {1, 1, 3, 2, 1};
    for (int i = 0; i < TOP_SORTS; i++) {
        draw(fixture, 24, 80);
        assert_int_equal(fixture->model.sessions[0].number, firsts[fixture->view.sort]);
        assert_int_equal(fixture->view.selected, selected);
        (void)top_view_key(&fixture->view, &fixture->model, 's');
    }
    (void)top_view_key(&fixture->view, &fixture->model, 'r');
    draw(fixture, 24, 80);
    assert_int_equal(fixture->model.sessions[2].number, 1);
    row_with(fixture, "by out/s, reversed");
}

static void test_looking_into_a_session(void **state)
{
    struct fixture *fixture = *state;
    look(fixture, 10, 0, 0, 0);
    (void)top_view_key(&fixture->view, &fixture->model, TOP_KEY_ENTER);
    draw(fixture, 24, 80);
    row_with(fixture, "session    1");
    row_with(fixture, "in flight  2 requests, 1 uploads");
    row_with(fixture, "received   9.8 KiB");
    fixture->model.session_count = 0;
    draw(fixture, 24, 80);
    row_with(fixture, "session 1 has ended");
    assert_int_equal(top_view_key(&fixture->view, &fixture->model, 'q'), TOP_STAY);
    assert_int_equal(fixture->view.mode, TOP_MAIN);
    assert_int_equal(top_view_key(&fixture->view, &fixture->model, TOP_KEY_ENTER), TOP_STAY);
    assert_int_equal(fixture->view.mode, TOP_MAIN);
    assert_int_equal(top_view_key(&fixture->view, &fixture->model, 'q'), TOP_QUIT);
}

static void test_cancelling_asks_first(void **state)
{
    struct fixture *fixture = *state;
    struct top_view *view = &fixture->view;
    look(fixture, 10, 0, 0, 0);
    (void)top_view_key(view, &fixture->model, 'c');
    draw(fixture, 24, 80);
    row_with(fixture, "cancel job 7, scrub?");
    (void)top_view_key(view, &fixture->model, 'c');
    draw(fixture, 24, 80);
    row_with(fixture, "cancel job 8, gc?");
    (void)top_view_key(view, &fixture->model, 'c');
    assert_int_equal(view->job, 7);
    assert_int_equal(top_view_key(view, &fixture->model, 'q'), TOP_STAY);
    assert_int_equal(view->mode, TOP_MAIN);
    (void)top_view_key(view, &fixture->model, 'c');
    assert_int_equal(top_view_key(view, &fixture->model, 'y'), TOP_CANCEL);
    assert_int_equal(view->job, 7);
    draw(fixture, 24, 80);
    row_with(fixture, "cancelling job 7");
    fixture->model.job_count = 0;
    (void)top_view_key(view, &fixture->model, 'c');
    draw(fixture, 24, 80);
    row_with(fixture, "no job runs");
}

static void test_short_numbers(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},       {5, "5"},         {12.34, "12.3"},  {999, "999"},
                 {1000, "1.0k"}, {73400, "73.4k"}, {999999, "1.0M"}, {2.5e9, "2.5G"}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[16];
        top_short_number(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rates_are_of_the_time_between),
        TEST(test_latencies_are_of_what_is_new),
        TEST(test_a_daemon_that_was_started_again),
        TEST(test_peers_have_their_share),
        TEST(test_answers_of_another_version),
        TEST(test_the_main_screen),
        TEST(test_screens_of_any_size),
        TEST(test_sorting_moves_rows_and_keeps_the_cursor),
        TEST(test_looking_into_a_session),
        TEST(test_cancelling_asks_first),
        TEST(test_short_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
