/* status: the whole object as JSON; on one screen for a person. */
#include <string.h>

#include "client/capctl/admin.h"
#include "client/capctl/result.h"

#define LIST_MAX 3u /* shown of what can be long, such as damaged caps */

/* What says nothing on one's own machine: it is in the JSON. */
static const char *const left_out[] = {"time", "store_id", "engine"};

static bool is_left_out(const char *name)
{
    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++) {
        if (strcmp(name, left_out[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void format(const char *name, const json_t *value, char ret_text[32])
{
    uint64_t number = (uint64_t)json_integer_value(value);
    if (strstr(name, "bytes") != NULL) {
        out_human_size(number, ret_text);
    } else {
        snprintf(ret_text, 32, "%llu", (unsigned long long)number);
    }
}

/* The limit that goes with what the object's first member counts; NULL: none. */
static const json_t *limit_of(const json_t *object, const char *name)
{
    const char *limit = strcmp(name, "bytes") == 0 ? "limit_bytes" : "limit";
    const json_t *value = json_object_get(object, limit);
    return json_is_integer(value) ? value : NULL;
}

/* "3 of 1024"; shares of peers are in `config`. */
static json_t *used_of(const char *name, const json_t *used, const json_t *limit)
{
    char text[32];
    char most[32];
    format(name, used, text);
    format(name, limit, most);
    return json_sprintf("%s of %s", text, most);
}

/* "12 (2 image, 10 data)". */
static json_t *by_kind(const char *name, const json_t *object)
{
    char total[32];
    char image[32];
    char data[32];
    format(name, json_object_get(object, "total"), total);
    format(name, json_object_get(object, "image"), image);
    format(name, json_object_get(object, "data"), data);
    return json_sprintf("%s (image %s, data %s)", total, image, data);
}

/* An object of figures as one text, where it is of a form that has one; else NULL. */
static json_t *on_one_line(const char *name, json_t *object)
{
    void *first = json_object_iter(object);
    const char *unit = first != NULL ? json_object_iter_key(first) : "";
    const json_t *value = json_object_iter_value(first);
    const json_t *limit = limit_of(object, unit);
    if (json_is_integer(value) && limit != NULL) {
        return used_of(unit, value, limit);
    }
    if (json_is_integer(json_object_get(object, "image")) &&
        json_is_integer(json_object_get(object, "data")) &&
        json_is_integer(json_object_get(object, "total"))) {
        return by_kind(name, object);
    }
    return NULL;
}

/* Of a long list the first few, and how many more there are. False without memory. */
static bool shorten(json_t *list)
{
    size_t count = json_array_size(list);
    if (count <= LIST_MAX) {
        return true;
    }
    json_t *more = json_sprintf("%zu more, see --json", count - LIST_MAX);
    while (json_array_size(list) > LIST_MAX) {
        (void)json_array_remove(list, LIST_MAX);
    }
    return json_array_append_new(list, more) == 0;
}

/* Makes the status short. False without memory. */
static bool condense(json_t *status)
{
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(status, next, name, value)
    {
        json_t *line = json_is_object(value) ? on_one_line(name, value) : NULL;
        bool good = line != NULL ? json_object_set_new(status, name, line) == 0
                                 : strcmp(name, "warnings") == 0 || shorten(value);
        if (!good || (is_left_out(name) && json_object_del(status, name) != 0)) {
            return false;
        }
    }
    /* An operator looks for this one, also when there is none. */
    json_t *warnings = json_incref(json_object_get(status, "warnings"));
    out_drop_unset(status);
    if (warnings != NULL) {
        (void)json_object_del(status, "warnings");
        return json_object_set_new(status, "warnings", warnings) == 0;
    }
    return true;
}

enum cli_exit cli_status(struct cli *cli)
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *status = cli_admin_call(admin, "status", json_object(), &exit);
    if (status != NULL && !cli->json && !condense(status)) {
        exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
    } else if (status != NULL) {
        exit = cli_print(cli, json_incref(status), CLI_DONE);
    }
    json_decref(status);
    cli_admin_close(admin);
    return exit;
}
