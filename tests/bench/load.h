/*
 * The load generator: what the event loop (load.c) and the protocols (speak_*.c) share.
 *
 * One thread, one epoll. Each connection keeps up to `depth` requests in flight; what a turn brings
 * is received at once, and the requests that it makes room for go out in one send. Nothing is
 * allocated once the connections are made. A wrong answer ends the program: a benchmark of wrong
 * answers measures nothing.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/cap/bytes.h"

/* A message that is not complete waits for the rest in here: the longest is a HAS_REPLY. */
#define LOAD_CARRY 8192u

enum load_work {
    LOAD_GET,  /* values of random keys */
    LOAD_PUT,  /* a new value per request: keys in order */
    LOAD_HAS,  /* whether `batch` random keys are there, in one request */
    LOAD_MANY, /* values of `batch` random keys, in one request */
};

struct load_options {
    const struct speaker *speaker;
    enum load_work work;
    const char *address; /* unix:PATH or tcp:HOST:PORT */
    unsigned connections;
    unsigned depth;   /* requests in flight per connection */
    unsigned batch;   /* keys of one HAS or MANY */
    uint64_t keys;    /* in the set; LOAD_PUT has no end */
    uint64_t first;   /* the set begins with filled_hash(first) */
    uint64_t len;     /* of every value */
    uint64_t count;   /* requests in all; 0: as many as `seconds` have room for */
    double seconds;   /* of measurement, after `warmup` */
    double warmup;    /* seconds that count for nothing */
    double rate;      /* requests per second, sent by the clock; 0: as fast as answers come */
    uint64_t seed;    /* of the choice of keys */
    bool in_order;    /* LOAD_GET: keys in order, not random */
    bool verify_full; /* compare every byte; otherwise the first and last bytes of each piece */
};

/* A request in flight. */
struct slot {
    uint64_t began;  /* ns; by the clock of `rate`, when it was due */
    uint64_t key;    /* LOAD_HAS, LOAD_MANY: what its keys are drawn from, see load_key */
    uint64_t value;  /* the key of the value that arrives */
    uint64_t len;    /* bytes of it that have arrived */
    unsigned values; /* LOAD_MANY: that are complete */
};

struct conn {
    struct load *load;
    int fd;
    bool blocked; /* waits for EPOLLOUT */
    unsigned index;
    struct slot *slots; /* `depth` of them */
    unsigned *free;     /* stack of idle slots: those from `in_flight` on */
    unsigned *order;    /* ring of slots in the order sent */
    unsigned in_flight;
    uint64_t sent;
    uint64_t done;
    uint8_t *out; /* requests not yet taken by the kernel */
    size_t out_len;
    size_t out_sent;
    uint8_t carry[LOAD_CARRY]; /* of an incomplete message */
    size_t carry_len;

    /* For the speaker: a body under way. */
    uint64_t body_left; /* of the frame or value, with what trails it */
    unsigned body_slot;
    bool body_ends;      /* with this frame */
    uint64_t piece_left; /* of the piece of a MANY */
};

/* One protocol. */
struct speaker {
    const char *name;
    /* Bytes of the longest request under these options. */
    size_t (*request_max)(const struct load_options *options);
    /* Says hello on a blocking socket; NULL where the protocol has none. */
    void (*greet)(int fd);
    /* Writes the request in `slot` for conn->slots[slot].key; returns its length. */
    size_t (*request)(struct conn *conn, unsigned slot, uint8_t *out);
    /* Consumes whole messages and pieces of bodies; returns how many bytes. What it leaves, below
     * LOAD_CARRY bytes, comes again with more behind it. */
    size_t (*parse)(struct conn *conn, const uint8_t *bytes, size_t len);
};

extern const struct speaker speaker_capstore, speaker_redis, speaker_memcached, speaker_http;

/* The options that the connection works under. */
const struct load_options *load_options(const struct conn *conn);

/* Key `index` of the `batch` keys of the request in `slot`. */
uint64_t load_key(const struct conn *conn, unsigned slot, unsigned index);

/* The slot of the oldest request in flight: protocols that answer in order. */
unsigned load_oldest(const struct conn *conn);

/* LOAD_MANY: the value that arrives next is of key `index` of its `batch` keys. */
void load_expect(struct conn *conn, unsigned slot, unsigned index);

/* A value is complete; returns whether the request has others to come, which it has not but for
 * MANY. */
bool load_value_done(struct conn *conn, unsigned slot);

/* Takes the next piece of a value that the request in `slot` asked for, and verifies it. */
void load_value(struct conn *conn, unsigned slot, const uint8_t *bytes, size_t len);

/* Takes the next piece of a value that \r\n ends, of which body_left counts the bytes with those
 * two, and with the last piece of the last value calls load_done. Returns how many bytes it took.
 */
size_t load_line_value(struct conn *conn, const uint8_t *bytes, size_t len);

/* The request in `slot` is answered in full; a GET's value is complete. */
void load_done(struct conn *conn, unsigned slot);

/* Writes the text without its NUL; returns its length. */
static inline size_t load_text(uint8_t *out, const char *text)
{
    size_t len = 0;
    for (; text[len] != '\0'; len++) {
        out[len] = (uint8_t)text[len];
    }
    return len;
}

#endif
