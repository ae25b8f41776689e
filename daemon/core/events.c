/* The ring of events. */
#include "daemon/core/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *event_kind_name(enum event_kind kind)
{
    static const char *const names[] = {
#define EVENT_KIND_NAME(NAME, name) #name,
        EVENT_KINDS(EVENT_KIND_NAME)
#undef EVENT_KIND_NAME
    };
    return names[kind];
}

enum cap_error events_init(struct events *events, const struct env *env)
{
    struct event *ring = calloc(EVENTS_KEPT, sizeof(*ring));
    if (ring == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *events = (struct events){.env = env, .lock = PTHREAD_MUTEX_INITIALIZER, .ring = ring};
    return CAP_OK;
}

void events_free(struct events *events)
{
    free(events->ring);
    events->ring = NULL;
}

void events_emit(struct events *events, enum event_kind kind, const struct cap_hash *hash,
                 const char *format, ...)
{
    struct event event = {.kind = kind, .has_hash = hash != NULL};
    va_list args;
    if (events->ring == NULL) {
        return;
    }
    if (hash != NULL) {
        event.hash = *hash;
    }
    va_start(args, format);
    vsnprintf(event.message, sizeof(event.message), format, args);
    va_end(args);
    pthread_mutex_lock(&events->lock);
    event.seq = events->last_seq + 1;
    event.time_us = env_real_us(events->env);
    events->ring[event.seq % EVENTS_KEPT] = event;
    events->last_seq = event.seq;
    pthread_mutex_unlock(&events->lock);
}

uint64_t events_last(const struct events *events)
{
    return atomic_load(&events->last_seq);
}

size_t events_next(struct events *events, struct event_cursor *cursor, struct event *ret_events,
                   size_t max, uint64_t *ret_lost)
{
    size_t count = 0;
    *ret_lost = 0;
    if (events->ring == NULL) {
        return 0;
    }
    pthread_mutex_lock(&events->lock);
    uint64_t last = events->last_seq;
    uint64_t oldest = last > EVENTS_KEPT ? last - EVENTS_KEPT + 1 : 1;
    if (cursor->after > last) {
        cursor->after = oldest - 1;
    } else if (cursor->after + 1 < oldest) {
        *ret_lost = oldest - 1 - cursor->after;
        cursor->after = oldest - 1;
    }
    while (cursor->after < last && count < max) {
        const struct event *event = &events->ring[++cursor->after % EVENTS_KEPT];
        if ((cursor->kinds >> event->kind & 1) != 0) {
            ret_events[count++] = *event;
        }
    }
    pthread_mutex_unlock(&events->lock);
    return count;
}
