/*
 * Errors of the admin socket: what went wrong with a call, for a person and for a program.
 *
 * `reason` is the contract: a stable word. Codes below zero are JSON-RPC's, 200 and up are our own,
 * and those between are the magnitudes of enum cap_error, whose names then are the reasons.
 */
#ifndef DAEMON_ADMIN_ERROR_H
#define DAEMON_ADMIN_ERROR_H

#include <jansson.h>
#include <stdbool.h>

#include "lib/cap/error.h"

/* X(NAME, code, reason, retry, message, hint) */
#define ADMIN_REASONS(X)                                                                           \
    X(PARSE_ERROR, -32700, parse_error, false, "the line is not one JSON object",                  \
      "send one JSON-RPC 2.0 object per line")                                                     \
    X(DUPLICATE_KEY, -32700, duplicate_key, false, "an object has the same key twice",             \
      "name every member once")                                                                    \
    X(INVALID_REQUEST, -32600, invalid_request, false, "the object is not a JSON-RPC 2.0 request", \
      "send {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"help\"}")                                   \
    X(BATCH, -32600, batch, false, "batches are not supported",                                    \
      "send one object per line; lines may be pipelined")                                          \
    X(UNKNOWN_METHOD, -32601, unknown_method, false, "unknown method",                             \
      "call help for the list of methods")                                                         \
    X(PARAMS_NOT_BY_NAME, -32602, params_not_by_name, false, "params is not an object",            \
      "pass params by name")                                                                       \
    X(UNKNOWN_PARAM, -32602, unknown_param, false, "the method has no such param",                 \
      "call schema for the params of a method")                                                    \
    X(MISSING_PARAM, -32602, missing_param, false, "a required param is missing",                  \
      "call schema for the params of a method")                                                    \
    X(WRONG_TYPE, -32602, wrong_type, false, "a param has the wrong type",                         \
      "call schema for the params of a method")                                                    \
    X(OUT_OF_BOUNDS, -32602, out_of_bounds, false, "a param is out of its bounds",                 \
      "call schema for the bounds of a param")                                                     \
    X(LINE_TOO_LONG, 200, line_too_long, false, "the line is too long; it was skipped",            \
      "hello states the longest line")                                                             \
    X(TOO_DEEP, 201, too_deep, false, "the JSON is nested too deeply", "hello states the bound")   \
    X(FORBIDDEN, 202, forbidden, false, "your level does not allow this method",                   \
      "hello states your level, help the level of each method")                                    \
    X(REPLY_TOO_LARGE, 203, reply_too_large, false, "the answer would be too large",               \
      "ask for fewer entries with limit, and page with cursor")                                    \
    X(AMBIGUOUS, 204, ambiguous, false, "several caps match the prefix",                           \
      "give more digits, or call cap.list with the prefix")

enum admin_reason {
#define ADMIN_REASON_ENUM(NAME, code, reason, retry, message, hint) ADMIN_##NAME,
    ADMIN_REASONS(ADMIN_REASON_ENUM)
#undef ADMIN_REASON_ENUM
};

/* One failure. `reason` NULL means that there is none. */
struct admin_error {
    int code;
    const char *reason; /* static */
    bool retry;         /* the same call may succeed later */
    char param[64];     /* the param concerned, or empty */
    char message[320];  /* the longest is about the configuration */
    char hint[160];
    json_t *needed_by; /* of CAP_E_STILL_NEEDED: what keeps the cap; NULL: nothing to tell */
};

/* Frees what it holds. */
void admin_error_free(struct admin_error *error);

/* Fills *ret with a reason's own texts. */
void admin_error_set(struct admin_error *ret, enum admin_reason reason);

/* As admin_error_set, about the param of that name (cut to fit), with a message of its own. */
void admin_error_param(struct admin_error *ret, enum admin_reason reason, const char *param,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The failure of a function of ours, with its name as reason. */
void admin_error_cap(struct admin_error *ret, enum cap_error error);

/* The JSON-RPC error object, or NULL without memory. */
json_t *admin_error_json(const struct admin_error *error);

#endif
