/* The table of reasons, and the one shape in which every failure is answered. */
#include "daemon/admin/error.h"

#include <stdarg.h>
#include <stdio.h>

struct reason {
    int code;
    const char *name;
    bool retry;
    const char *message;
    const char *hint;
};

static const struct reason reasons[] = {
#define REASON_ROW(NAME, code, reason, retry, message, hint) {code, #reason, retry, message, hint},
    ADMIN_REASONS(REASON_ROW)
#undef REASON_ROW
};

void admin_error_set(struct admin_error *ret, enum admin_reason reason)
{
    const struct reason *row = &reasons[reason];
    *ret = (struct admin_error){.code = row->code, .reason = row->name, .retry = row->retry};
    snprintf(ret->message, sizeof(ret->message), "%s", row->message);
    snprintf(ret->hint, sizeof(ret->hint), "%s", row->hint);
}

void admin_error_param(struct admin_error *ret, enum admin_reason reason, const char *param,
                       const char *format, ...)
{
    admin_error_set(ret, reason);
    snprintf(ret->param, sizeof(ret->param), "%s", param);
    va_list args;
    va_start(args, format);
    vsnprintf(ret->message, sizeof(ret->message), format, args);
    va_end(args);
}

/* Failures whose cause may go away by itself. */
static bool is_transient(enum cap_error error)
{
    static const enum cap_error transient[] = {
        CAP_E_NO_MEMORY,         CAP_E_READERS_FULL, CAP_E_DISK_FULL,
        CAP_E_TOO_MANY_REQUESTS, CAP_E_MEMORY_LIMIT, CAP_E_TOO_MANY_CONNECTIONS,
        CAP_E_TIMED_OUT,         CAP_E_DRAINING,     CAP_E_CANCELLED,
    };
    for (size_t i = 0; i < sizeof(transient) / sizeof(transient[0]); i++) {
        if (transient[i] == error) {
            return true;
        }
    }
    return false;
}

void admin_error_cap(struct admin_error *ret, enum cap_error error)
{
    *ret = (struct admin_error){
        .code = -(int)error, .reason = cap_error_name(error), .retry = is_transient(error)};
    snprintf(ret->message, sizeof(ret->message), "%s", cap_error_text(error));
    if (error == CAP_E_CORRUPT) {
        snprintf(ret->hint, sizeof(ret->hint),
                 "scrub.start with repair=true puts right what the caps prove, and says what it "
                 "cannot (capctl scrub start --repair)");
    } else if (ret->retry) {
        snprintf(ret->hint, sizeof(ret->hint), "retry later");
    }
}

void admin_error_free(struct admin_error *error)
{
    json_decref(error->needed_by);
    error->needed_by = NULL;
}

json_t *admin_error_json(const struct admin_error *error)
{
    /* A message may quote the peer's own words cut in the middle of a character. */
    json_t *message = json_string(error->message);
    if (message == NULL) {
        message = json_string("the call is wrong (its words are cut)");
    }
    json_t *data = json_pack("{s:s, s:b}", "reason", error->reason, "retry", (int)error->retry);
    if (data != NULL && error->hint[0] != '\0' &&
        json_object_set_new(data, "hint", json_string(error->hint)) != 0) {
        goto fail;
    }
    if (data != NULL && error->needed_by != NULL &&
        json_object_set(data, "needed_by", error->needed_by) != 0) {
        goto fail;
    }
    /* A param name of the peer's that was cut may not be UTF-8 any longer: left out. */
    if (data != NULL && error->param[0] != '\0') {
        (void)json_object_set_new(data, "param", json_string(error->param));
    }
    return json_pack("{s:i, s:o, s:o}", "code", error->code, "message", message, "data", data);
fail:
    json_decref(data);
    json_decref(message);
    return NULL;
}
