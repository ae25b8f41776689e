/*
 * Values in JSON: one form for each kind, in every method.
 *
 * Every function returns a new value, or NULL without memory; json_pack passes that on.
 */
#ifndef DAEMON_ADMIN_VALUE_H
#define DAEMON_ADMIN_VALUE_H

#include <jansson.h>

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"
#include "lib/store/types.h"

#define ADMIN_KEY_SHOWN 64u /* bytes of a key that are shown; longer ones are cut */

/* An integer; past 2^63-1, which JSON readers do not hold, a string of its decimal digits. */
json_t *admin_value_u64(uint64_t value);

/* A time as RFC 3339 UTC with microseconds; null for one that no calendar holds, and for 0. */
json_t *admin_value_time(uint64_t us_since_1970);

/* 64 lower-case hex digits. */
json_t *admin_value_hash(const struct cap_hash *hash);

/* An address or a register: 0x and lower-case hex digits. */
json_t *admin_value_address(uint64_t address);

/* A key in hex; one past ADMIN_KEY_SHOWN bytes is cut and ends in "... (LEN bytes)". */
json_t *admin_value_key(struct cap_bytes key);

/* 16 bytes of a store's identity as 32 hex digits. */
json_t *admin_value_store_id(const uint8_t *id);

/* A text whose bytes may be anything: what is not printable ASCII shows as '?'. */
json_t *admin_value_text(const char *text);

/* References: objects with cap_hash, of the other end, and tables. */
json_t *admin_value_refs(const struct cap_ref *refs, size_t count);

/* "image" or "data". Static. */
const char *admin_kind_name(enum cap_kind kind);

/* Appends `item`, which it takes over. False when it is NULL or there is no memory. */
bool admin_append(json_t *array, json_t *item);

#endif
