/*
 * The result of a command: one object, as JSON or for a person.
 *
 * Values are written as they come; nothing reaches the standard output before out_finish, so a run
 * prints a whole object or none. `name` is NULL inside of an array.
 */
#ifndef CLIENT_CAPCTL_OUT_H
#define CLIENT_CAPCTL_OUT_H

#include <stdio.h>

#include "client/capctl/cli.h"
#include "lib/cap/bytes.h"

#define OUT_MAX_DEPTH 8

struct out_level {
    bool array;
    bool inline_array; /* for a person: on one line */
    size_t count;
};

struct out {
    bool json;
    enum cap_error error; /* the first one; later writes do nothing */
    struct cap_buf text;
    int depth;
    struct out_level levels[OUT_MAX_DEPTH];
    bool dash; /* for a person: the next member starts an element */
};

/* Begins the object. */
void out_begin(struct out *out, bool json);

/* A member of the object, or an element of the array, that was begun last. */
void out_text(struct out *out, const char *name, const char *value);
void out_u64(struct out *out, const char *name, uint64_t value);
/* An integer that counts bytes: a person also sees it in KiB and so on. */
void out_size(struct out *out, const char *name, uint64_t value);
/* An address: "0x10000000" in both forms. */
void out_address(struct out *out, const char *name, uint64_t value);
void out_bool(struct out *out, const char *name, bool value);
void out_null(struct out *out, const char *name);
void out_hash(struct out *out, const char *name, const struct capstore_hash *hash);
/* A key: lower-case hex digits. */
void out_key(struct out *out, const char *name, struct capstore_bytes key);

/* Begins a member that is an object or an array; out_end ends it. */
void out_object(struct out *out, const char *name);
void out_array(struct out *out, const char *name);
/* An array of plain values, which a person sees on one line. */
void out_line(struct out *out, const char *name);
void out_end(struct out *out);

/* Prints the object to `file` and releases it. False when that failed. */
bool out_finish(struct out *out, FILE *file);

/* Formats a number of bytes for a person: "12 B", "1.5 KiB". */
void out_human_size(uint64_t value, char ret_text[32]);

#endif
