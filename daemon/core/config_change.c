/* The configuration while the daemon runs: read again, compared, and its live numbers changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/config.h"
#include "daemon/core/config_reader.h"

static bool is_text(const struct config_option *option)
{
    return option->type == CONFIG_TEXT || option->type == CONFIG_TEXTS;
}

static uint64_t number_at(const struct config *config, const struct config_option *option)
{
    return *(const config_number *)(const void *)((const char *)config + option->offset);
}

static void set_number_at(struct config *config, const struct config_option *option, uint64_t value)
{
    *(config_number *)(void *)((char *)config + option->offset) = value;
}

/* The texts of a row: as many as `listen` may have, or one; ends with NULL, or at the maximum. */
static char *const *texts_at(const struct config *config, const struct config_option *option,
                             size_t *ret_max)
{
    *ret_max = option->type == CONFIG_TEXTS ? CONFIG_LISTEN_MAX : 1;
    return (char *const *)(const void *)((const char *)config + option->offset);
}

static char **text_at(struct config *config, const struct config_option *option)
{
    return (char **)(void *)((char *)config + option->offset);
}

/* Copies one row, with its origin. */
static enum cap_error copy_row(const struct config *from, const struct config_option *option,
                               struct config *to)
{
    char reason[CONFIG_REASON_SIZE];
    unsigned row = config_option_index(option);
    enum cap_error error = CAP_OK;
    if (is_text(option)) {
        size_t max;
        char *const *texts = texts_at(from, option, &max);
        struct config_reader reader = {to, &from->origins[row], reason};
        for (size_t i = 0; error == CAP_OK && i < max && texts[i] != NULL; i++) {
            error = config_set_text(&reader, option, texts[i]);
        }
    } else {
        set_number_at(to, option, number_at(from, option));
    }
    to->origins[row] = from->origins[row];
    return error;
}

enum cap_error config_copy(const struct config *config, struct config *ret_copy)
{
    size_t count;
    const struct config_option *options = config_options(&count);
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = copy_row(config, &options[i], ret_copy);
    }
    return error;
}

enum cap_error config_read_again(const struct config *given, struct config *config,
                                 char ret_reason[CONFIG_REASON_SIZE])
{
    size_t count;
    const struct config_option *options = config_options(&count);
    struct config_reader reader = {.config = config, .reason = ret_reason};
    enum cap_error error = CAP_OK;
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        if (given->origins[i].source == CONFIG_FROM_COMMAND_LINE) {
            error = copy_row(given, &options[i], config);
        }
    }
    return error == CAP_OK && config->config != NULL ? config_read_file(&reader) : error;
}

bool config_differs(const struct config *one, const struct config *other,
                    const struct config_option *option)
{
    if (!is_text(option)) {
        return number_at(one, option) != number_at(other, option);
    }
    size_t max;
    char *const *left = texts_at(one, option, &max);
    char *const *right = texts_at(other, option, &max);
    for (size_t i = 0; i < max; i++) {
        if (left[i] == NULL || right[i] == NULL) {
            return left[i] != right[i];
        }
        if (strcmp(left[i], right[i]) != 0) {
            return true;
        }
    }
    return false;
}

void config_apply(struct config *config, struct config *wanted)
{
    size_t count;
    const struct config_option *options = config_options(&count);
    for (size_t i = 0; i < count; i++) {
        if (options[i].live && options[i].type == CONFIG_TEXT) {
            char **text = text_at(config, &options[i]);
            char **other = text_at(wanted, &options[i]);
            char *kept = *text;
            *text = *other;
            *other = kept;
        } else if (options[i].live) {
            set_number_at(config, &options[i], number_at(wanted, &options[i]));
        }
    }
}

const char *config_source_name(enum config_source source)
{
    switch (source) {
    case CONFIG_FROM_DEFAULT:
        break;
    case CONFIG_FROM_FILE:
        return "file";
    case CONFIG_FROM_COMMAND_LINE:
        return "command line";
    }
    return "default";
}
