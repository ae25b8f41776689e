/* The screens of `top`, from the top row down; a row that does not fit is left out. */
#include "client/capctl/top_view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/capctl/out.h"

#define LABEL_COLS 11 /* of what precedes the figures in the rows at the top */
#define LOWER_ROWS 3  /* of peers, and of refusals */
#define BAR_COLS   10

/* ---- a screen ---- */

static void clear(struct top_screen *screen)
{
    screen->rows = screen->rows > TOP_ROWS_MAX ? TOP_ROWS_MAX : screen->rows;
    screen->cols = screen->cols > TOP_COLS_MAX ? TOP_COLS_MAX : screen->cols;
    for (int row = 0; row < screen->rows; row++) {
        memset(screen->text[row], ' ', (size_t)screen->cols);
        screen->text[row][screen->cols] = '\0';
        memset(screen->looks[row], TOP_PLAIN, (size_t)screen->cols);
    }
}

/* Writes at a place, as much as fits; returns the column after it. */
__attribute__((format(printf, 5, 6))) static int put(struct top_screen *screen, int row, int col,
                                                     enum top_look look, const char *format, ...)
{
    char text[TOP_COLS_MAX + 1];
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): which it is, in the line above */
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len >= (int)sizeof(text)) {
        len = (int)sizeof(text) - 1;
    }
    if (row < 0 || row >= screen->rows || col >= screen->cols) {
        return col + len;
    }
    int shown = len < screen->cols - col ? len : screen->cols - col;
    memcpy(screen->text[row] + col, text, (size_t)shown);
    memset(screen->looks[row] + col, (int)look, (size_t)shown);
    return col + len;
}

/* Gives a whole row a look. */
static void paint(struct top_screen *screen, int row, enum top_look look)
{
    if (row >= 0 && row < screen->rows) {
        memset(screen->looks[row], (int)look, (size_t)screen->cols);
    }
}

/* ---- figures in words ---- */

void top_short_number(double value, char ret_text[16])
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000;
        unit++;
    }
    bool whole =
        unit == 0 ? value >= 99.5 || value - (double)(uint64_t)value < 0.05 : value >= 99.5;
    snprintf(ret_text, 16, whole ? "%.0f%s" : "%.1f%s", value, units[unit]);
}

struct words {
    char text[32];
};

static struct words number(double value)
{
    struct words words;
    top_short_number(value, words.text);
    return words;
}

static struct words size(double bytes)
{
    struct words words;
    out_human_size(bytes > 0 ? (uint64_t)bytes : 0, words.text);
    return words;
}

/* "-", "12 us", "3.4 ms", "1.2 s". */
static struct words latency(double seconds)
{
    struct words words;
    if (seconds < 0) {
        snprintf(words.text, sizeof(words.text), "-");
    } else if (seconds < 0.001) {
        snprintf(words.text, sizeof(words.text), "%.0f us", seconds * 1e6);
    } else if (seconds < 1) {
        snprintf(words.text, sizeof(words.text), "%.3g ms", seconds * 1e3);
    } else {
        snprintf(words.text, sizeof(words.text), "%.3g s", seconds);
    }
    return words;
}

/* "0:00:12", "3d 04:05:06". */
static struct words duration(double seconds)
{
    struct words words;
    uint64_t whole = seconds > 0 ? (uint64_t)seconds : 0;
    char days[24] = "";
    if (whole >= 86400) {
        snprintf(days, sizeof(days), "%" PRIu64 "d ", whole / 86400);
    }
    snprintf(words.text, sizeof(words.text), "%s%d:%02d:%02d", days, (int)(whole / 3600 % 24),
             (int)(whole / 60 % 60), (int)(whole % 60));
    return words;
}

/* ---- the rows at the top ---- */

static int draw_head(const struct top_model *model, struct top_screen *screen)
{
    put(screen, 0, 0, TOP_BOLD, "capstored %s  %s  up %s  %.8s UTC  %s", model->version,
        model->phase, duration(model->uptime_s).text,
        strlen(model->clock) > 11 ? model->clock + 11 : "", model->address);
    if (!model->connected) {
        put(screen, 0, 0, TOP_ALARM, "%-*s", screen->cols, " not connected, retrying");
        put(screen, 1, 0, TOP_ALARM, " %s", model->problem);
        return 2;
    }
    return 1;
}

static void label(struct top_screen *screen, int row, const char *name)
{
    put(screen, row, 0, TOP_BOLD, "%s", name);
}

static int draw_requests(const struct top_model *model, struct top_screen *screen, int row)
{
    int col = LABEL_COLS;
    label(screen, row, "requests/s");
    for (size_t i = 0; i < model->type_count; i++) {
        const struct top_type *type = &model->types[i];
        if (type->requests.total > 0) {
            col = put(screen, row, col, TOP_PLAIN, "%s %s  ", type->name,
                      number(type->requests.per_second).text);
        }
    }
    label(screen, row + 1, "bytes/s");
    put(screen, row + 1, LABEL_COLS, TOP_PLAIN, "in %s  out %s",
        size(model->received.per_second).text, size(model->sent.per_second).text);
    return row + 2;
}

static int draw_latencies(const struct top_model *model, struct top_screen *screen, int row)
{
    static const char *const names[TOP_LATENCIES] = {
        [TOP_LOOKUP] = "has", [TOP_FETCH] = "get",     [TOP_GET_MANY] = "get many",
        [TOP_UPLOAD] = "put", [TOP_COMMIT] = "commit", [TOP_TURN] = "loop",
    };
    int col = LABEL_COLS;
    label(screen, row, "p50, p99");
    for (size_t i = 0; i < TOP_LATENCIES; i++) {
        const struct top_histogram *histogram = &model->latencies[i];
        if (histogram->p50 >= 0) {
            col = put(screen, row, col, TOP_PLAIN, "%s %s, %s   ", names[i],
                      latency(histogram->p50).text, latency(histogram->p99).text);
        }
    }
    return row + 1;
}

static int draw_store(const struct top_model *model, struct top_screen *screen, int row)
{
    label(screen, row, "sessions");
    put(screen, row, LABEL_COLS, TOP_PLAIN,
        "%" PRIu64 " of %" PRIu64 "; in flight %" PRIu64 " requests, uploads %" PRIu64
        " of %" PRIu64 ", %" PRIu64 " to write",
        model->sessions_open, model->sessions_limit, model->in_flight, model->uploads,
        model->uploads_limit, model->writer_queue);
    label(screen, row + 1, "memory");
    put(screen, row + 1, LABEL_COLS, TOP_PLAIN, "%s of %s, spool %s of %s",
        size((double)model->memory).text, size((double)model->memory_limit).text,
        size((double)model->spool).text, size((double)model->spool_limit).text);
    label(screen, row + 2, "store");
    put(screen, row + 2, LABEL_COLS, TOP_PLAIN, "%s images, %s data, bodies %s",
        number((double)model->images).text, number((double)model->data).text,
        size((double)model->bodies).text);
    label(screen, row + 3, "disk");
    put(screen, row + 3, LABEL_COLS, TOP_PLAIN, "file %s, %s of it free, at most %s; disk %s free",
        size((double)model->file).text, size((double)model->file_free).text,
        size((double)model->map).text, size((double)model->disk_free).text);
    row += 4;
    for (size_t i = 0; i < model->warning_count; i++, row++) {
        put(screen, row, 0, TOP_ALARM, "warning: %s", model->warnings[i]);
    }
    return row;
}

/* "[#####.....]  50 %", or nothing of what has no known end. */
static int draw_bar(struct top_screen *screen, int row, int col, int percent)
{
    char bar[BAR_COLS + 1];
    int full = percent < 0 ? 0 : percent * BAR_COLS / 100;
    for (int i = 0; i < BAR_COLS; i++) {
        bar[i] = i < full ? '#' : '.';
    }
    bar[BAR_COLS] = '\0';
    return percent < 0 ? put(screen, row, col, TOP_PLAIN, "%-*s", BAR_COLS + 8, "")
                       : put(screen, row, col, TOP_PLAIN, "[%s] %3d %% ", bar, percent);
}

static void draw_job(const struct top_job *job, struct top_screen *screen, int row)
{
    int col = put(screen, row, 0, TOP_PLAIN, "%6" PRIu64 "  %-8s %-10s ", job->id, job->kind,
                  job->running && job->cancelled ? "cancelling" : job->state);
    if (job->running) {
        col = draw_bar(screen, row, col, job->percent);
    }
    col = put(screen, row, col, TOP_PLAIN, "%s %s  %" PRIu64, duration(job->took_s).text,
              job->phase, job->done);
    if (job->total > 0) {
        col = put(screen, row, col, TOP_PLAIN, " of %" PRIu64, job->total);
    }
    if (job->done_bytes > 0 || job->total_bytes > 0) {
        col = put(screen, row, col, TOP_PLAIN, ", %s", size((double)job->done_bytes).text);
    }
    if (job->total_bytes > 0) {
        col = put(screen, row, col, TOP_PLAIN, " of %s", size((double)job->total_bytes).text);
    }
    put(screen, row, col, TOP_PLAIN, "  %s", job->message);
}

/* Those that run, and the last that ended. */
static int draw_jobs(const struct top_model *model, struct top_screen *screen, int row)
{
    bool ended = false;
    if (model->job_count == 0) {
        return row;
    }
    put(screen, row, 0, TOP_TITLE, "%-*s", screen->cols, "   JOB  KIND     STATE");
    row++;
    for (size_t i = 0; i < model->job_count && !ended; i++, row++) {
        draw_job(&model->jobs[i], screen, row);
        ended = !model->jobs[i].running;
    }
    return row;
}

/* ---- sessions ---- */

static enum top_sort sort_key; /* of compare; qsort has no context */

static int compare_numbers(double a, double b)
{
    return a > b ? -1 : a < b;
}

/* The greatest first; of equal ones, the oldest. */
static int compare(const void *a, const void *b)
{
    const struct top_session *left = a;
    const struct top_session *right = b;
    int order = 0;
    switch (sort_key) {
    case TOP_BY_OUT:
        order = compare_numbers(left->out.per_second, right->out.per_second);
        break;
    case TOP_BY_IN:
        order = compare_numbers(left->in.per_second, right->in.per_second);
        break;
    case TOP_BY_REQUESTS:
        order = compare_numbers((double)left->requests, (double)right->requests);
        break;
    case TOP_BY_IDLE:
        order = compare_numbers(left->idle_s, right->idle_s);
        break;
    case TOP_BY_SESSION:
    case TOP_SORTS:
        break;
    }
    return order != 0 ? order : compare_numbers((double)right->number, (double)left->number);
}

static void sort_sessions(const struct top_view *view, struct top_model *model)
{
    sort_key = view->sort;
    qsort(model->sessions, model->session_count, sizeof(model->sessions[0]), compare);
    for (size_t i = 0; view->reverse && i < model->session_count / 2; i++) {
        struct top_session swapped = model->sessions[i];
        model->sessions[i] = model->sessions[model->session_count - 1 - i];
        model->sessions[model->session_count - 1 - i] = swapped;
    }
}

/* Which row the cursor is on: that of the selected session, else the first. */
static size_t cursor_of(const struct top_view *view, const struct top_model *model)
{
    for (size_t i = 0; i < model->session_count; i++) {
        if (model->sessions[i].number == view->selected) {
            return i;
        }
    }
    return 0;
}

static void draw_sessions(const struct top_view *view, const struct top_model *model,
                          struct top_screen *screen, int row, int rows)
{
    static const char *const sorts[TOP_SORTS] = {"out/s", "in/s", "requests", "idle", "session"};
    char title[160];
    size_t cursor = cursor_of(view, model);
    size_t first = rows > 1 && cursor >= (size_t)(rows - 1) ? cursor - (size_t)(rows - 2) : 0;
    snprintf(title, sizeof(title),
             "SESSION  REQ  PUT    IN/s       OUT/s      IDLE     PEER  (%zu%s, by %s%s)",
             model->session_count, model->more_sessions ? " of them" : "", sorts[view->sort],
             view->reverse ? ", reversed" : "");
    put(screen, row, 0, TOP_TITLE, "%-*s", screen->cols, title);
    for (size_t i = first; i < model->session_count && (int)(i - first) < rows - 1; i++) {
        const struct top_session *session = &model->sessions[i];
        int at = row + 1 + (int)(i - first);
        put(screen, at, 0, TOP_PLAIN,
            "%7" PRIu64 " %4" PRIu64 " %4" PRIu64 "    %-10s %-10s %-8s %s  %s", session->number,
            session->requests, session->uploads, size(session->in.per_second).text,
            size(session->out.per_second).text, duration(session->idle_s).text, session->peer,
            session->agent);
        if (i == cursor) {
            paint(screen, at, TOP_SELECTED);
        }
    }
}

/* ---- the rows at the bottom ---- */

static int draw_peers(const struct top_model *model, struct top_screen *screen, int row)
{
    char title[96];
    snprintf(title, sizeof(title),
             "SHARE  SESSIONS  REQ  PUT    IN/s       OUT/s      PEER  (%zu, at most %" PRIu64
             " sessions each)",
             model->peer_count, model->sessions_peer_limit);
    put(screen, row++, 0, TOP_TITLE, "%-*s", screen->cols, title);
    for (size_t i = 0; i < LOWER_ROWS; i++, row++) {
        if (i < model->peer_count) {
            const struct top_peer *peer = &model->peers[i];
            put(screen, row, 0, TOP_PLAIN,
                "%3.0f %%  %8zu %4" PRIu64 " %4" PRIu64 "    %-10s %-10s %s", peer->share * 100,
                peer->sessions, peer->requests, peer->uploads, size(peer->in).text,
                size(peer->out).text, peer->name);
        }
    }
    return row;
}

static int draw_refusals(const struct top_model *model, struct top_screen *screen, int row)
{
    char title[64];
    snprintf(title, sizeof(title), "REFUSED  (%" PRIu64 " since the start)", model->refusals_total);
    put(screen, row++, 0, TOP_TITLE, "%-*s", screen->cols, title);
    for (size_t i = 0; i < LOWER_ROWS; i++, row++) {
        if (i < model->refusal_count) {
            const struct top_refusal *refusal = &model->refusals[i];
            put(screen, row, 0, TOP_PLAIN, "%.8s %s of %s: %s: %s",
                strlen(refusal->time) > 11 ? refusal->time + 11 : "", refusal->what, refusal->peer,
                refusal->reason, refusal->message);
        }
    }
    return row;
}

static void draw_foot(const struct top_view *view, struct top_screen *screen)
{
    int row = screen->rows - 1;
    if (view->notice[0] != '\0') {
        put(screen, row, 0, TOP_BOLD, "%-*s", screen->cols, view->notice);
    } else {
        put(screen, row, 0, TOP_PLAIN,
            "q quit  s sort  r reverse  Enter look into  c cancel a job  h help");
    }
}

/* ---- other screens ---- */

static void draw_session(const struct top_view *view, const struct top_model *model,
                         struct top_screen *screen, int row)
{
    const struct top_session *session = &model->sessions[cursor_of(view, model)];
    put(screen, row, 0, TOP_TITLE, "%-*s", screen->cols, "SESSION");
    if (model->session_count == 0 || session->number != view->selected) {
        put(screen, row + 2, 2, TOP_PLAIN, "session %" PRIu64 " has ended", view->selected);
        return;
    }
    put(screen, row + 2, 2, TOP_PLAIN, "session    %" PRIu64, session->number);
    put(screen, row + 3, 2, TOP_PLAIN, "peer       %s", session->peer);
    put(screen, row + 4, 2, TOP_PLAIN, "agent      %s", session->agent);
    put(screen, row + 5, 2, TOP_PLAIN, "connected  %s", session->connected);
    put(screen, row + 6, 2, TOP_PLAIN, "idle       %s", duration(session->idle_s).text);
    put(screen, row + 7, 2, TOP_PLAIN, "in flight  %" PRIu64 " requests, %" PRIu64 " uploads",
        session->requests, session->uploads);
    put(screen, row + 8, 2, TOP_PLAIN, "received   %s, now %s/s", size(session->in.total).text,
        size(session->in.per_second).text);
    put(screen, row + 9, 2, TOP_PLAIN, "sent       %s, now %s/s", size(session->out.total).text,
        size(session->out.per_second).text);
    put(screen, row + 10, 2, TOP_PLAIN, "waiting    %s for its socket",
        size((double)session->waiting).text);
}

static void draw_help(struct top_screen *screen, int row)
{
    static const char *const lines[] = {
        "q           quit",
        "s           sort by the next column: out/s, in/s, requests, idle, session",
        "r           reverse the order",
        "up, down    move the cursor (also k and j)",
        "Enter       look into the session under the cursor; Esc comes back",
        "c           cancel a job that runs: it asks first",
        "h, ?        this help",
        "",
        "p50, p99    half of what was served in the last second, and all but one in",
        "            a hundred, took no longer than this",
        "SHARE       of the bytes that all sessions move, by user or address",
        "REQ, PUT    requests and uploads in flight",
    };
    put(screen, row, 0, TOP_TITLE, "%-*s", screen->cols, "HELP");
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        put(screen, row + 2 + (int)i, 2, TOP_PLAIN, "%s", lines[i]);
    }
}

void top_view_draw(const struct top_view *view, struct top_model *model, struct top_screen *screen)
{
    clear(screen);
    sort_sessions(view, model);
    int row = draw_head(model, screen);
    if (view->mode == TOP_HELP) {
        draw_help(screen, row);
    } else if (view->mode == TOP_SESSION) {
        draw_session(view, model, screen, row);
    } else {
        row = draw_requests(model, screen, row);
        row = draw_latencies(model, screen, row);
        row = draw_store(model, screen, row);
        row = draw_jobs(model, screen, row);
        int lower = screen->rows - 1 - 2 * (LOWER_ROWS + 1);
        if (lower - row < 3) { /* a low terminal has the sessions alone */
            draw_sessions(view, model, screen, row, screen->rows - 1 - row);
        } else {
            draw_sessions(view, model, screen, row, lower - row);
            draw_refusals(model, screen, draw_peers(model, screen, lower));
        }
    }
    paint(screen, screen->rows - 1, TOP_PLAIN);
    put(screen, screen->rows - 1, 0, TOP_PLAIN, "%-*s", screen->cols, "");
    draw_foot(view, screen);
}

/* ---- keys ---- */

static void move(struct top_view *view, const struct top_model *model, int by)
{
    size_t cursor = cursor_of(view, model);
    if (model->session_count == 0) {
        return;
    }
    if (by < 0 && cursor > 0) {
        cursor--;
    } else if (by > 0 && cursor + 1 < model->session_count) {
        cursor++;
    }
    view->selected = model->sessions[cursor].number;
}

/* Asks about the job that runs after the one asked about before; the first again after the last. */
static void ask_cancel(struct top_view *view, const struct top_model *model)
{
    const struct top_job *first = NULL;
    const struct top_job *next = NULL;
    for (size_t i = 0; i < model->job_count; i++) {
        const struct top_job *job = &model->jobs[i];
        if (job->running && !job->cancelled) {
            first = first == NULL ? job : first;
            next = next == NULL && view->mode == TOP_CONFIRM && job->id > view->job ? job : next;
        }
    }
    next = next == NULL ? first : next;
    if (next == NULL) {
        view->mode = TOP_MAIN;
        snprintf(view->notice, sizeof(view->notice), "no job runs");
        return;
    }
    view->mode = TOP_CONFIRM;
    view->job = next->id;
    snprintf(view->notice, sizeof(view->notice),
             "cancel job %" PRIu64 ", %s?  y yes  c another one  any other key no", next->id,
             next->kind);
}

static enum top_action confirm(struct top_view *view, const struct top_model *model, int key)
{
    if (key == 'c') {
        ask_cancel(view, model);
        return TOP_STAY;
    }
    view->mode = TOP_MAIN;
    if (key != 'y' && key != 'Y') {
        return TOP_STAY;
    }
    snprintf(view->notice, sizeof(view->notice), "cancelling job %" PRIu64, view->job);
    return TOP_CANCEL;
}

enum top_action top_view_key(struct top_view *view, struct top_model *model, int key)
{
    sort_sessions(view, model);
    view->notice[0] = '\0';
    if (view->mode == TOP_CONFIRM) {
        return confirm(view, model, key);
    }
    switch (key) {
    case 'q':
        if (view->mode == TOP_MAIN) {
            return TOP_QUIT;
        }
        view->mode = TOP_MAIN;
        break;
    case TOP_KEY_ESCAPE:
        view->mode = TOP_MAIN;
        break;
    case 's':
        view->sort = (enum top_sort)((view->sort + 1) % TOP_SORTS);
        break;
    case 'r':
        view->reverse = !view->reverse;
        break;
    case 'k':
    case TOP_KEY_UP:
        move(view, model, -1);
        break;
    case 'j':
    case TOP_KEY_DOWN:
        move(view, model, 1);
        break;
    case TOP_KEY_ENTER:
        move(view, model, 0);
        view->mode = model->session_count > 0 ? TOP_SESSION : view->mode;
        break;
    case 'c':
        ask_cancel(view, model);
        break;
    case 'h':
    case '?':
        view->mode = view->mode == TOP_HELP ? TOP_MAIN : TOP_HELP;
        break;
    default:
        break;
    }
    return TOP_STAY;
}
