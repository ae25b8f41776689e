/* Tables: two passes over the rows, the first for the widths. */
#include "client/capctl/table.h"

#include <string.h>

#define COLUMNS_MAX 16
#define NUMBER_SIZE 24 /* of a 64-bit integer, or a time in seconds */
#define TIME_LEN    (sizeof("2026-01-31T12:00:00.123456Z") - 1) /* as the daemon writes it */
#define SECONDS_LEN (sizeof("2026-01-31T12:00:00") - 1)

static bool is_time(const json_t *value)
{
    const char *text = json_string_value(value);
    return json_string_length(value) == TIME_LEN && text[10] == 'T' && text[SECONDS_LEN] == '.' &&
           text[TIME_LEN - 1] == 'Z';
}

/* The text of a cell: the value's own, or in `number`. */
static const char *cell_text(const json_t *row, const struct table_column *column,
                             char number[NUMBER_SIZE])
{
    const json_t *value = json_object_get(row, column->member);
    if (is_time(value)) {
        snprintf(number, NUMBER_SIZE, "%.*sZ", (int)SECONDS_LEN, json_string_value(value));
        return number;
    }
    if (json_is_string(value) && json_string_length(value) > 0) {
        return json_string_value(value);
    }
    if (json_is_integer(value)) {
        snprintf(number, NUMBER_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return number;
    }
    if (json_is_boolean(value)) {
        return json_is_true(value) ? "yes" : "no";
    }
    return "-";
}

static bool print_cell(const char *text, const struct table_column *column, size_t width,
                       FILE *file)
{
    if (column[1].title == NULL && !column->right) {
        return fprintf(file, "%s\n", text) >= 0;
    }
    return fprintf(file, column->right ? "%*s%s" : "%-*s%s", (int)width, text,
                   column[1].title == NULL ? "\n" : "  ") >= 0;
}

bool table_print(const json_t *rows, const struct table_column *columns, FILE *file)
{
    size_t widths[COLUMNS_MAX];
    char number[NUMBER_SIZE];
    bool good = true;
    size_t count = 0;
    size_t index;
    const json_t *row;
    for (; columns[count].title != NULL && count < COLUMNS_MAX; count++) {
        widths[count] = strlen(columns[count].title);
        json_array_foreach(rows, index, row)
        {
            size_t len = strlen(cell_text(row, &columns[count], number));
            widths[count] = len > widths[count] ? len : widths[count];
        }
    }
    for (size_t i = 0; i < count; i++) {
        good = print_cell(columns[i].title, &columns[i], widths[i], file) && good;
    }
    json_array_foreach(rows, index, row)
    {
        for (size_t i = 0; i < count; i++) {
            const char *text = cell_text(row, &columns[i], number);
            good = print_cell(text, &columns[i], widths[i], file) && good;
        }
    }
    return good;
}
