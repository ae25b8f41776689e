/*
 * One loop of the daemon: its thread, and the rooms as they are on it. server.c makes as many as
 * the option `threads` says; the first runs on the main thread.
 *
 * Main thread only, but for what the loop's own thread does.
 */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include "daemon/core/lag.h"
#include "daemon/net/hub.h"
#include "daemon/publish/publish.h"
#include "daemon/routes.h"
#include "daemon/serve/await.h"
#include "daemon/serve/serve.h"

struct loop {
    struct shard shard;
    struct hub hub;
    struct publish publish;
    struct serve serve;
    struct lag lag;
    struct route routes[ROUTES_MAX];
    struct await awaits[ROUTES_MAX]; /* in front of these, with a daemon above */
    uv_timer_t tick;
    bool loop_open;
    bool tick_open;
    uv_thread_t thread;
    bool threaded; /* `thread` runs it */
    bool ending;   /* its thread's */
    struct letter drain;
    struct letter end;
    atomic_uint_fast64_t beat; /* rises with each tick */
    uint64_t beat_seen;        /* the watchdog's */
};

/*
 * Makes a loop without rooms and enters it in the context, which outlives it. CAP_E_NO_MEMORY.
 * After a failure here, in loop_open or in loop_start, loop_close and loop_free release what there
 * is.
 */
enum cap_error loop_init(struct loop *loop, struct context *context);

/*
 * Opens the rooms, with what they share: `hubs` and `serves`, in which this loop's are entered,
 * `writer` and `room`. CAP_E_NO_MEMORY, also when there are too many threads.
 */
enum cap_error loop_open(struct loop *loop, struct hub_set *hubs, struct serve_set *serves,
                         struct writer *writer, struct room *room);

/* Has a thread of its own run it. CAP_E_NO_MEMORY. */
enum cap_error loop_start(struct loop *loop);

/* Ends that thread: the loop is the main thread's from now on. Without one it does nothing. */
void loop_join(struct loop *loop);

/* Has its clients leave when nothing of theirs is in flight. */
void loop_drain(struct loop *loop);

/* Whether it has turned since this was last asked. */
bool loop_beats(struct loop *loop);

/* Closes every connection; the rooms look nothing up any more. After loop_join. Here, in
 * loop_settle and in loop_free a zeroed loop is fine. */
void loop_close(struct loop *loop);

/* After writer_stop: takes back what is with the writer and the pool. */
void loop_settle(struct loop *loop);

/* Runs it until it has nothing left to do, and frees it. */
void loop_free(struct loop *loop);

#endif
