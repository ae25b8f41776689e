#include "daemon/admin/subscription.h"

#include <stdlib.h>

#include "daemon/admin/limits.h"
#include "daemon/admin/value.h"

/* A notification with these params, which it takes over, as a line. */
static enum cap_error append(json_t *params, struct cap_buf *output)
{
    json_t *note =
        json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", "event", "params", params);
    char *text = note == NULL ? NULL : json_dumps(note, JSON_COMPACT | JSON_ENSURE_ASCII);
    enum cap_error error = text == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    if (error == CAP_OK) {
        error = cap_buf_append(output, text, strlen(text));
    }
    if (error == CAP_OK) {
        error = cap_buf_append(output, "\n", 1);
    }
    free(text);
    json_decref(note);
    return error;
}

static json_t *event_json(const struct event *event)
{
    json_t *params =
        json_pack("{s:o, s:o, s:s, s:o}", "seq", admin_value_u64(event->seq), "time",
                  admin_value_time(event->time_us), "kind", event_kind_name(event->kind), "message",
                  admin_value_text(event->message));
    if (params != NULL && event->has_hash &&
        json_object_set_new(params, "hash", admin_value_hash(&event->hash)) != 0) {
        json_decref(params);
        return NULL;
    }
    return params;
}

enum cap_error admin_subscription_write(struct admin_subscription *subscription,
                                        struct events *events, struct cap_buf *output)
{
    struct event batch[ADMIN_EVENTS_TURN];
    uint64_t lost = 0;
    enum cap_error error = CAP_OK;
    size_t count = events_next(events, &subscription->cursor, batch, ADMIN_EVENTS_TURN, &lost);
    if (lost > 0) {
        error = append(json_pack("{s:o}", "lost", admin_value_u64(lost)), output);
    }
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = append(event_json(&batch[i]), output);
    }
    return error;
}
