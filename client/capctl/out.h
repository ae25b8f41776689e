/*
 * The result of a command: one JSON object, printed as JSON or laid out for a person.
 *
 * Commands build the object with jansson and these constructors, each of which returns a new
 * reference, or NULL when memory is short. A person sees the same members: a number of bytes (by
 * its name) also in KiB and so on, a duration in hours and minutes, yes and no, and short arrays on
 * one line.
 */
#ifndef CLIENT_CAPCTL_OUT_H
#define CLIENT_CAPCTL_OUT_H

#include <capstore/capstore.h>
#include <jansson.h>
#include <stdio.h>

/* A text; what is not UTF-8 in it is replaced. */
json_t *out_text(const char *value);

/* An integer of any size. jansson's own end at 2^63 - 1; a larger one is kept in a way that only
 * out_print understands. */
json_t *out_u64(uint64_t value);

/* An address: "0x10000000". */
json_t *out_address(uint64_t value);

/* A hash in hex digits. */
json_t *out_hash(const struct capstore_hash *hash);

/* A key in hex digits. */
json_t *out_key(struct capstore_bytes key);

/* Appends to an array and takes over `value`. Returns the array; NULL, the array released, when
 * either is NULL or memory is short. */
json_t *out_append(json_t *array, json_t *value);

/* Removes what is null, false or empty, also in objects of the object: a person need not read it.
 */
void out_drop_unset(json_t *object);

/* Prints an object, on one line as JSON or for a person. False when that failed. */
bool out_print(const json_t *object, bool json, FILE *file);

/* Formats a number of bytes for a person: "12 B", "1.5 KiB". */
void out_human_size(uint64_t value, char ret_text[32]);

#endif
