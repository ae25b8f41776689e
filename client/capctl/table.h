/* Objects of one kind in a table, for a person. */
#ifndef CLIENT_CAPCTL_TABLE_H
#define CLIENT_CAPCTL_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* A column. A list of them ends with title NULL. */
struct table_column {
    const char *title;
    const char *member; /* of each object: a text, an integer, true or false; else "-" is shown.
                           Times: seconds */
    bool right;         /* numbers */
};

/*
 * Prints an array of objects, a row each, under their titles; each column is as wide as its widest
 * value, but for the last, which has no bound. False when that failed.
 */
bool table_print(const json_t *rows, const struct table_column *columns, FILE *file);

#endif
