/*
 * Typed params: described once, in a table, from which they are checked, documented and put into
 * the schema.
 */
#ifndef DAEMON_ADMIN_PARAMS_H
#define DAEMON_ADMIN_PARAMS_H

#include <jansson.h>

#include "daemon/admin/error.h"
#include "lib/cap/bytes.h"

#define ADMIN_MAX_PARAMS 6 /* of one method */

enum admin_type {
    ADMIN_INTEGER, /* within [min, max] */
    ADMIN_CHOICE,  /* one of the words of `choices` */
    ADMIN_CHOICES, /* an array of one or more of them */
    ADMIN_HASH,    /* 64 hex digits, 0x in front allowed */
    ADMIN_PREFIX,  /* the first hex digits of a hash, an odd count included */
    ADMIN_WORD,    /* a text of min to max bytes */
    ADMIN_NAME,    /* the same, of printable ASCII without spaces */
    ADMIN_TEXT,    /* the same, of printable ASCII */
    ADMIN_BOOLEAN, /* false when it is not given */
};

/* One param. A list of them ends with a row whose name is NULL. */
struct admin_param {
    const char *name;
    enum admin_type type;
    bool required;
    int64_t min; /* ADMIN_INTEGER: the value; ADMIN_WORD, _NAME, _TEXT: the length */
    int64_t max;
    int64_t fallback;           /* ADMIN_INTEGER that is not given */
    const char *const *choices; /* ADMIN_CHOICE, ADMIN_CHOICES (at most 32): ends with NULL */
    const char *doc;
};

/* A param's value as a method sees it. Which members are set follows from the type. */
struct admin_arg {
    bool given;
    bool boolean;
    int64_t integer;
    unsigned choice;      /* index in `choices`; 0 when not given, so see `given` */
    uint32_t set;         /* ADMIN_CHOICES: a bit for each index */
    struct cap_hash hash; /* ADMIN_PREFIX: the bits past `bits` are zero */
    unsigned bits;        /* ADMIN_PREFIX: four per digit */
    const char *text;     /* ADMIN_WORD, _NAME, _TEXT: borrowed from the request */
};

/*
 * Checks `given` (an object, or NULL for none) against a list and reads it: ret_args[i] belongs to
 * params[i]. False with *ret_error for an unknown, missing, wrongly typed or out-of-bounds param,
 * which it names.
 */
bool admin_params_read(const struct admin_param *params, json_t *given,
                       struct admin_arg ret_args[ADMIN_MAX_PARAMS], struct admin_error *ret_error);

/* The JSON Schema of a params object; NULL without memory. */
json_t *admin_params_schema(const struct admin_param *params);

#endif
