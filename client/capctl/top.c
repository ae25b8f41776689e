/*
 * top: the daemon on a live screen.
 *
 * A thread asks the admin socket once a second, so that keys are obeyed while the daemon is slow;
 * it connects again when the daemon is gone. The main thread draws what it found and has the
 * terminal, which ncurses gives back at the end, also on SIGINT and SIGTERM.
 */
#include <locale.h>
#include <ncurses.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/admin.h"
#include "client/capctl/cli.h"
#include "client/capctl/top_view.h"

#define LOOK_MS    1000 /* between looks */
#define KEY_MS     100  /* longest wait for a key before what was found is drawn */
#define TIMEOUT_MS 3000 /* of a call: a daemon that is stuck is said to be */

/* What both threads use; under the lock. */
struct shared {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* for the asking thread */
    bool stop;
    uint64_t cancel; /* the job to be cancelled; 0: none */
    bool fresh;      /* the model is newer than what is drawn */
    struct top_model model;
    char notice[128]; /* what came of cancelling; empty: nothing new */

    struct cli cli;    /* the asking thread's */
    char problem[256]; /* the asking thread's: what cli_fail said */
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the asking thread ---- */

/* Asks one question. False when the connection is of no use any more. */
static bool ask(struct cli_admin *admin, const char *method, json_t *params, json_t **ret_result)
{
    enum cli_exit exit = CLI_DONE;
    *ret_result = cli_admin_call(admin, method, params, &exit);
    return *ret_result != NULL || exit == CLI_NO; /* a refusal is an answer */
}

static bool look(struct cli_admin *admin, struct top_sample *ret_sample)
{
    *ret_sample = (struct top_sample){0};
    bool good =
        ask(admin, "status", json_object(), &ret_sample->status) &&
        ask(admin, "metrics", json_pack("{s:s}", "format", "prometheus"), &ret_sample->metrics) &&
        ask(admin, "clients.list", json_pack("{s:i}", "limit", TOP_SESSIONS),
            &ret_sample->clients) &&
        ask(admin, "jobs.list", json_object(), &ret_sample->jobs) &&
        ask(admin, "refusals.list", json_pack("{s:i}", "limit", TOP_REFUSALS),
            &ret_sample->refusals);
    ret_sample->time_ms = now_ms();
    return good && ret_sample->status != NULL;
}

/* Cancels the job that the user chose, and says what came of it. */
static void cancel(struct shared *shared, struct cli_admin *admin, uint64_t id)
{
    json_t *result = NULL;
    enum cli_exit exit = CLI_DONE;
    shared->problem[0] = '\0';
    result = cli_admin_call(admin, "jobs.cancel", json_pack("{s:I}", "id", (json_int_t)id), &exit);
    pthread_mutex_lock(&shared->lock);
    snprintf(shared->notice, sizeof(shared->notice), "%.120s",
             result != NULL ? "the job is asked to end" : shared->problem);
    shared->fresh = true;
    pthread_mutex_unlock(&shared->lock);
    json_decref(result);
}

/* One look, or a try to connect. */
static void turn(struct shared *shared, struct cli_admin **admin)
{
    struct top_sample sample = {0};
    enum cli_exit exit;
    if (*admin == NULL) {
        *admin = cli_admin_open(&shared->cli, &exit);
    }
    bool good = *admin != NULL && look(*admin, &sample);
    pthread_mutex_lock(&shared->lock);
    if (good) {
        top_model_take(&shared->model, &sample);
    } else {
        top_model_lost(&shared->model, shared->problem);
    }
    shared->fresh = true;
    pthread_mutex_unlock(&shared->lock);
    top_sample_free(&sample);
    if (!good) {
        cli_admin_close(*admin);
        *admin = NULL;
    }
}

/* Waits for the time of the next look, a job to cancel, or the end: false. */
static bool wait_turn(struct shared *shared, uint64_t *ret_cancel)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOOK_MS / 1000;
    pthread_mutex_lock(&shared->lock);
    while (!shared->stop && shared->cancel == 0 &&
           pthread_cond_timedwait(&shared->wake, &shared->lock, &until) == 0) {
    }
    *ret_cancel = shared->cancel;
    shared->cancel = 0;
    bool stop = shared->stop;
    pthread_mutex_unlock(&shared->lock);
    return !stop;
}

static void *ask_main(void *arg)
{
    struct shared *shared = arg;
    struct cli_admin *admin = NULL;
    uint64_t id = 0;
    do {
        if (id != 0 && admin != NULL) {
            cancel(shared, admin, id);
        }
        turn(shared, &admin);
    } while (wait_turn(shared, &id));
    cli_admin_close(admin);
    return NULL;
}

/* ---- the terminal ---- */

static void show(const struct top_screen *screen)
{
    static const attr_t looks[] = {
        [TOP_PLAIN] = A_NORMAL,
        [TOP_BOLD] = A_BOLD,
        [TOP_TITLE] = A_BOLD | A_UNDERLINE,
        [TOP_SELECTED] = A_REVERSE,
        [TOP_ALARM] = A_BOLD | A_REVERSE,
    };
    erase();
    for (int row = 0; row < screen->rows; row++) {
        for (int col = 0; col < screen->cols; col++) {
            chtype shown = (chtype)(unsigned char)screen->text[row][col];
            (void)mvaddch(row, col, shown | looks[screen->looks[row][col]]);
        }
    }
    (void)refresh();
}

static int key_of(int key)
{
    switch (key) {
    case KEY_UP:
        return TOP_KEY_UP;
    case KEY_DOWN:
        return TOP_KEY_DOWN;
    case KEY_ENTER:
    case '\n':
    case '\r':
        return TOP_KEY_ENTER;
    case 27:
        return TOP_KEY_ESCAPE;
    default:
        return key;
    }
}

/* Draws and obeys keys until the user has had enough, or the terminal is gone. */
static void interact(struct shared *shared, struct top_screen *screen)
{
    struct top_view view = {0};
    bool draw = true;
    for (int key = ERR;; key = getch()) {
        enum top_action action = TOP_STAY;
        pthread_mutex_lock(&shared->lock);
        if (key != ERR && key != KEY_RESIZE) {
            action = top_view_key(&view, &shared->model, key_of(key));
        }
        if (shared->notice[0] != '\0') {
            memcpy(view.notice, shared->notice, sizeof(view.notice));
            shared->notice[0] = '\0';
        }
        if (action == TOP_CANCEL) {
            shared->cancel = view.job;
            pthread_cond_signal(&shared->wake);
        }
        draw = draw || key != ERR || shared->fresh;
        shared->fresh = false;
        if (draw) {
            getmaxyx(stdscr, screen->rows, screen->cols);
            top_view_draw(&view, &shared->model, screen);
        }
        pthread_mutex_unlock(&shared->lock);
        if (action == TOP_QUIT || !isatty(STDIN_FILENO)) {
            return;
        }
        if (draw) {
            show(screen);
            draw = false;
        }
    }
}

/* Starts the thread, which leaves signals to this one. False when it cannot. */
static bool start_asking(struct shared *shared, pthread_t *ret_thread)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool started = pthread_create(ret_thread, NULL, ask_main, shared) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

static void stop_asking(struct shared *shared, pthread_t thread)
{
    pthread_mutex_lock(&shared->lock);
    shared->stop = true;
    pthread_cond_signal(&shared->wake);
    pthread_mutex_unlock(&shared->lock);
    pthread_join(thread, NULL);
}

enum cli_exit cli_top(struct cli *cli)
{
    enum cli_exit exit = CLI_FAILED;
    pthread_t thread;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "top needs a terminal; see also capctl status, jobs and admin metrics");
    }
    struct shared *shared = calloc(1, sizeof(*shared));
    struct top_screen *screen = calloc(1, sizeof(*screen));
    SCREEN *terminal = NULL;
    if (shared == NULL || screen == NULL) {
        exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        goto end;
    }
    pthread_mutex_init(&shared->lock, NULL);
    pthread_cond_init(&shared->wake, NULL);
    shared->cli = *cli;
    shared->cli.timeout_ms = cli->timeout_ms != 0 ? cli->timeout_ms : TIMEOUT_MS;
    shared->cli.said = shared->problem;
    shared->cli.said_size = sizeof(shared->problem);
    snprintf(shared->model.address, sizeof(shared->model.address), "%s", cli->admin);
    (void)setlocale(LC_CTYPE, "");
    terminal = newterm(NULL, stdout, stdin);
    if (terminal == NULL) {
        exit = cli_fail(cli, CLI_USAGE, "usage", "this terminal is not known (TERM)");
        goto end;
    }
    (void)cbreak();
    (void)noecho();
    (void)keypad(stdscr, TRUE);
    (void)set_escdelay(25);
    (void)curs_set(0);
    timeout(KEY_MS);
    bool started = start_asking(shared, &thread);
    if (started) {
        interact(shared, screen);
    }
    (void)endwin();
    delscreen(terminal);
    if (started) {
        stop_asking(shared, thread);
        exit = CLI_DONE;
    } else {
        exit = cli_fail(cli, CLI_FAILED, "no_memory", "cannot start a thread");
    }
end:
    free(screen);
    free(shared);
    return exit;
}
