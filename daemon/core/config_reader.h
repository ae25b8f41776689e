/* What the readers of the configuration share: config.c and config_json.c. */
#ifndef DAEMON_CORE_CONFIG_READER_H
#define DAEMON_CORE_CONFIG_READER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/cap/error.h"

struct config;
struct config_option;
struct config_origin;

/* A configuration being read. */
struct config_reader {
    struct config *config;
    const struct config_origin *origin; /* of what is being set */
    char *reason;                       /* of CONFIG_REASON_SIZE bytes */
};

/* The row of a name of `len` bytes, NULL for an unknown one. */
const struct config_option *config_option_find(const char *name, size_t len);

/* The number of a row. */
unsigned config_option_index(const struct config_option *option);

/* CAP_E_INVALID_ARGUMENT, with a reason that shows `text` and says what the row takes. */
enum cap_error config_bad_value(struct config_reader *reader, const struct config_option *option,
                                const char *text);

/* Sets a number, or refuses one out of bounds with a reason. */
enum cap_error config_set_number(struct config_reader *reader, const struct config_option *option,
                                 uint64_t value);

/* Sets a row from text, as on the command line, or refuses it with a reason. CAP_E_NO_MEMORY. */
enum cap_error config_set_text(struct config_reader *reader, const struct config_option *option,
                               const char *text);

/* Reads the file that the configuration names. As config_parse. */
enum cap_error config_read_file(struct config_reader *reader);

#endif
