/* A setting as JSON. */
#ifndef DAEMON_CORE_CONFIG_JSON_H
#define DAEMON_CORE_CONFIG_JSON_H

#include <jansson.h>

#include "daemon/core/config.h"

/* The value of a row as the file would hold it; null: it is unset. A new value; NULL: no memory. */
json_t *config_json_value(const struct config *config, const struct config_option *option);

#endif
