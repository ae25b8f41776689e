/*
 * Events for a connection that subscribed to them: notifications, in lines.
 *
 * Nothing is kept for a subscriber but where it is in the ring of events. One that does not read
 * loses what the ring forgets, and is told how many. Loop thread only.
 */
#ifndef DAEMON_ADMIN_SUBSCRIPTION_H
#define DAEMON_ADMIN_SUBSCRIPTION_H

#include "daemon/core/events.h"

struct admin_subscription {
    bool on;
    struct event_cursor cursor;
};

/* Whether something has happened that it has not looked at. */
static inline bool admin_subscription_waits(const struct admin_subscription *subscription,
                                            const struct events *events)
{
    return subscription->cursor.after != events_last(events);
}

/*
 * Appends the next notifications, of at most ADMIN_EVENTS_TURN events and one of what was lost.
 * Of kinds that it did not ask for there are none. CAP_E_NO_MEMORY.
 */
enum cap_error admin_subscription_write(struct admin_subscription *subscription,
                                        struct events *events, struct cap_buf *output);

#endif
