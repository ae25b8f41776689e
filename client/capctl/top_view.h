/*
 * What `top` shows: the model laid out on a screen of characters, and what the keys do. Pure: the
 * terminal is top.c's.
 */
#ifndef CLIENT_CAPCTL_TOP_VIEW_H
#define CLIENT_CAPCTL_TOP_VIEW_H

#include "client/capctl/top_model.h"

#define TOP_ROWS_MAX 200
#define TOP_COLS_MAX 400

enum top_look {
    TOP_PLAIN,
    TOP_BOLD,
    TOP_TITLE,    /* of a table */
    TOP_SELECTED, /* the row under the cursor */
    TOP_ALARM,    /* what an operator has to act on */
};

/* Characters in rows, each with a look. All printable ASCII. */
struct top_screen {
    int rows;
    int cols;
    char text[TOP_ROWS_MAX][TOP_COLS_MAX + 1];
    unsigned char looks[TOP_ROWS_MAX][TOP_COLS_MAX];
};

enum top_sort {
    TOP_BY_OUT,
    TOP_BY_IN,
    TOP_BY_REQUESTS,
    TOP_BY_IDLE,
    TOP_BY_SESSION,
    TOP_SORTS,
};

enum top_mode {
    TOP_MAIN,
    TOP_SESSION, /* one session */
    TOP_HELP,
    TOP_CONFIRM, /* whether to cancel a job */
};

/* What the user has chosen. A zeroed one is the beginning. */
struct top_view {
    enum top_mode mode;
    enum top_sort sort;
    bool reverse;
    uint64_t selected; /* the number of a session; 0: the first row */
    uint64_t job;      /* TOP_CONFIRM: its number */
    char notice[128];  /* at the bottom, until the next key */
};

/* Keys that are not characters. */
enum top_key {
    TOP_KEY_UP = 0x100,
    TOP_KEY_DOWN,
    TOP_KEY_ENTER,
    TOP_KEY_ESCAPE,
};

enum top_action {
    TOP_STAY,
    TOP_QUIT,
    TOP_CANCEL, /* the job view->job */
};

/* Does what a key means. Sorts the model's sessions first, as they are shown. */
enum top_action top_view_key(struct top_view *view, struct top_model *model, int key);

/* Draws; rows and columns of the screen are set, and cut to the most that there may be. */
void top_view_draw(const struct top_view *view, struct top_model *model, struct top_screen *screen);

/* "0", "12.3", "4.5k", "1.2M": at most five characters. */
void top_short_number(double value, char ret_text[16]);

#endif
