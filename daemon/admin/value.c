#include "daemon/admin/value.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/core/env.h"
#include "lib/store/store.h"

#define LAST_TIME_US UINT64_C(253402300799999999) /* the end of the year 9999 */

json_t *admin_value_u64(uint64_t value)
{
    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    char digits[24];
    snprintf(digits, sizeof(digits), "%" PRIu64, value);
    return json_string(digits);
}

json_t *admin_value_time(uint64_t us_since_1970)
{
    if (us_since_1970 == 0 || us_since_1970 > LAST_TIME_US) {
        return json_null();
    }
    char text[ENV_TIME_SIZE];
    env_format_time(us_since_1970, text);
    return json_string(text);
}

json_t *admin_value_hash(const struct cap_hash *hash)
{
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    return json_string(hex);
}

json_t *admin_value_address(uint64_t address)
{
    return json_sprintf("0x%" PRIx64, address);
}

json_t *admin_value_key(struct cap_bytes key)
{
    char hex[2 * ADMIN_KEY_SHOWN + 1];
    size_t shown = key.len < ADMIN_KEY_SHOWN ? key.len : ADMIN_KEY_SHOWN;
    cap_hex_format((struct cap_bytes){key.data, shown}, hex);
    if (shown == key.len) {
        return json_string(hex);
    }
    return json_sprintf("%s... (%zu bytes)", hex, key.len);
}

json_t *admin_value_store_id(const uint8_t *id)
{
    char hex[2 * CAP_STORE_ID_SIZE + 1];
    cap_hex_format((struct cap_bytes){id, CAP_STORE_ID_SIZE}, hex);
    return json_string(hex);
}

json_t *admin_value_text(const char *text)
{
    char shown[512];
    size_t len = 0;
    for (; text[len] != '\0' && len < sizeof(shown) - 1; len++) {
        bool plain = text[len] >= ' ' && text[len] <= '~';
        shown[len] = '?';
        if (plain) {
            shown[len] = text[len];
        }
    }
    return json_stringn(shown, len);
}

static json_t *tables_json(uint8_t tables)
{
    json_t *array = json_array();
    bool failed = array == NULL;
    if ((tables & CAP_REF_PINNED) != 0) {
        failed |= !admin_append(array, json_string(cap_table_name(CAP_TABLE_PINNED)));
    }
    if ((tables & CAP_REF_INITIAL) != 0) {
        failed |= !admin_append(array, json_string(cap_table_name(CAP_TABLE_INITIAL)));
    }
    if (!failed) {
        return array;
    }
    json_decref(array);
    return NULL;
}

json_t *admin_value_refs(const struct cap_ref *refs, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < count; i++) {
        json_t *ref = json_pack("{s:o, s:o}", "cap_hash", admin_value_hash(&refs[i].hash), "tables",
                                tables_json(refs[i].tables));
        if (!admin_append(array, ref)) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

const char *admin_kind_name(enum cap_kind kind)
{
    return kind == CAP_KIND_IMAGE ? "image" : "data";
}

bool admin_append(json_t *array, json_t *item)
{
    return json_array_append_new(array, item) == 0;
}
