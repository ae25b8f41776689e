/*
 * The manifest of `pack`: a JSON object that says what an Image holds (capctl.1, MANIFEST).
 *
 * Every member is known by name; an unknown one is refused, so that a slip of the pen is not
 * silently left out. jansson's types stay in this file.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/capctl/describe.h"

#define MANIFEST_MAX   ((uint64_t)16 << 20)
#define REGISTERS_MAX  256
#define MANIFEST_STEPS 64

struct manifest {
    struct describe *describe;
    char *directory; /* what files are relative to */
};

/* ---- values ---- */

static bool members_known(struct manifest *manifest, const json_t *object, const char *where,
                          const char *const *names)
{
    const char *member;
    json_t *value;
    if (!json_is_object(object)) {
        return describe_refuse(manifest->describe, "%s: an object is wanted", where);
    }
    json_object_foreach((json_t *)(uintptr_t)object, member, value)
    {
        size_t i = 0;
        while (names[i] != NULL && strcmp(names[i], member) != 0) {
            i++;
        }
        if (names[i] == NULL) {
            return describe_refuse(manifest->describe, "%s: unknown member \"%s\"", where, member);
        }
    }
    return true;
}

/* An integer, or a string that holds one; `fallback` when absent. */
static bool read_u64(struct manifest *manifest, const json_t *value, const char *where,
                     uint64_t limit, uint64_t *ret_value)
{
    uint64_t number = 0;
    bool good = false;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        number = (uint64_t)json_integer_value(value);
        good = true;
    } else if (json_is_string(value)) {
        good = cli_parse_u64(json_string_value(value), &number);
    }
    if (!good || number > limit) {
        return describe_refuse(manifest->describe,
                               "%s: an integer of 0 to %" PRIu64 " is wanted (a number, or a "
                               "string in decimal or 0x)",
                               where, limit);
    }
    *ret_value = number;
    return true;
}

static bool member_u64(struct manifest *manifest, const json_t *object, const char *name,
                       uint64_t limit, uint64_t *ret_value)
{
    const json_t *value = json_object_get(object, name);
    *ret_value = 0;
    return value == NULL || read_u64(manifest, value, name, limit, ret_value);
}

static bool read_hex(struct manifest *manifest, const char *text, const char *where,
                     struct cap_buf *ret_bytes)
{
    *ret_bytes = (struct cap_buf){0};
    enum cap_error error = cap_hex_parse(text, strlen(text), ret_bytes);
    if (error == CAP_OK) {
        return true;
    }
    cap_buf_free(ret_bytes); /* room may have been made for the digits */
    if (error == CAP_E_NO_MEMORY) {
        return describe_ok(manifest->describe, CAPSTORE_E_NO_MEMORY, where);
    }
    return describe_refuse(manifest->describe, "%s: \"%s\" is not written in hex digits", where,
                           text);
}

static bool read_key(struct manifest *manifest, const json_t *value, const char *where,
                     struct cap_buf *ret_key)
{
    if (!json_is_string(value)) {
        return describe_refuse(manifest->describe, "%s: a key in hex digits is wanted", where);
    }
    return read_hex(manifest, json_string_value(value), where, ret_key);
}

static struct capstore_bytes key_bytes(const struct cap_buf *key)
{
    return (struct capstore_bytes){key->data, key->len};
}

/* ---- content ---- */

/* A part of a file, by "offset" and "length". */
struct part {
    struct capstore_source whole;
    uint64_t offset;
};

static enum capstore_error part_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct part *part = (const struct part *)ctx;
    return part->whole.read(part->whole.ctx, part->offset + offset, dst, len);
}

static bool cut_part(struct manifest *manifest, const json_t *object,
                     const struct capstore_source *whole, struct capstore_source *ret_source)
{
    uint64_t offset;
    uint64_t len;
    if (!member_u64(manifest, object, "offset", INT64_MAX, &offset) ||
        !member_u64(manifest, object, "length", INT64_MAX, &len)) {
        return false;
    }
    if (offset > whole->len ||
        (json_object_get(object, "length") != NULL && len > whole->len - offset)) {
        return describe_refuse(manifest->describe,
                               "\"%s\": the part leaves the file of %" PRIu64 " bytes",
                               json_string_value(json_object_get(object, "file")), whole->len);
    }
    if (json_object_get(object, "length") == NULL) {
        len = whole->len - offset;
    }
    struct part *part = describe_memory(manifest->describe, sizeof *part);
    if (part == NULL) {
        return false;
    }
    *part = (struct part){*whole, offset};
    *ret_source = (struct capstore_source){part_read, part, len, NULL};
    return true;
}

static bool open_file(struct manifest *manifest, const char *name,
                      struct capstore_source *ret_source)
{
    char *path = NULL;
    if (name[0] == '\0' || strcmp(name, "-") == 0) {
        return describe_refuse(manifest->describe, "\"%s\" is no file name", name);
    }
    if (name[0] != '/' && asprintf(&path, "%s/%s", manifest->directory, name) < 0) {
        return describe_ok(manifest->describe, CAPSTORE_E_NO_MEMORY, NULL);
    }
    bool good = describe_file(manifest->describe, path != NULL ? path : name, ret_source);
    free(path);
    return good;
}

/* The bytes that "file" or "hex" of an object name; none of them is no bytes. */
static bool read_content(struct manifest *manifest, const json_t *object, const char *where,
                         struct capstore_source *ret_source)
{
    const json_t *file = json_object_get(object, "file");
    const json_t *hex = json_object_get(object, "hex");
    struct capstore_source whole;
    struct cap_buf bytes = {0};
    if (file != NULL && hex != NULL) {
        return describe_refuse(manifest->describe, "%s: \"file\" or \"hex\", not both", where);
    }
    if (file == NULL && (json_object_get(object, "offset") || json_object_get(object, "length"))) {
        return describe_refuse(manifest->describe, "%s: \"offset\" and \"length\" go with \"file\"",
                               where);
    }
    if (file != NULL) {
        if (!json_is_string(file)) {
            return describe_refuse(manifest->describe, "%s: \"file\" wants a string", where);
        }
        return open_file(manifest, json_string_value(file), &whole) &&
               cut_part(manifest, object, &whole, ret_source);
    }
    if (hex != NULL && !read_key(manifest, hex, where, &bytes)) {
        return false;
    }
    bool good = describe_bytes(manifest->describe, &bytes, ret_source);
    cap_buf_free(&bytes);
    return good;
}

static bool read_code(struct manifest *manifest, const json_t *code)
{
    static const char *const names[] = {"file", "hex", "offset", "length", NULL};
    struct capstore_source source;
    if (json_is_string(code)) {
        if (!open_file(manifest, json_string_value(code), &source)) {
            return false;
        }
    } else if (!members_known(manifest, code, "code", names) ||
               !read_content(manifest, code, "code", &source)) {
        return false;
    }
    return describe_ok(manifest->describe, capstore_pack_code(manifest->describe->pack, &source),
                       "code");
}

/* ---- slots ---- */

static bool read_pieces(struct manifest *manifest, const json_t *pieces)
{
    static const char *const names[] = {"at", "file", "hex", "offset", "length", NULL};
    size_t i;
    json_t *piece;
    if (!json_is_array(pieces)) {
        return describe_refuse(manifest->describe, "\"content\" wants an array");
    }
    json_array_foreach((json_t *)(uintptr_t)pieces, i, piece)
    {
        uint64_t at;
        struct capstore_source source;
        if (!members_known(manifest, piece, "content", names) ||
            !member_u64(manifest, piece, "at", UINT64_MAX, &at) ||
            !read_content(manifest, piece, "content", &source)) {
            return false;
        }
        enum capstore_error error = capstore_pack_content(manifest->describe->pack, at, &source);
        if (error == CAPSTORE_E_INVALID_ARGUMENT) {
            return describe_refuse(manifest->describe,
                                   "content: piece %zu overlaps the one before or is too far up",
                                   i);
        }
        if (!describe_ok(manifest->describe, error, "content")) {
            return false;
        }
    }
    return true;
}

static bool read_image_slot(struct manifest *manifest, const json_t *slot, const char *name,
                            struct capstore_bytes key)
{
    static const char *const names[] = {"image", NULL};
    struct capstore_hash hash;
    const char *text = json_string_value(json_object_get(slot, "image"));
    if (!members_known(manifest, slot, name, names)) {
        return false;
    }
    if (text == NULL || capstore_hash_parse(text, &hash) != CAPSTORE_OK) {
        return describe_refuse(manifest->describe, "slot %s: \"image\" wants 64 hex digits", name);
    }
    return describe_ok(manifest->describe,
                       capstore_pack_image(manifest->describe->pack, key, &hash), name);
}

static bool read_slot(struct manifest *manifest, enum capstore_table table, const json_t *slot,
                      const char *name, struct capstore_bytes key)
{
    static const char *const names[] = {"size", "file", "hex", "offset", "length", "content", NULL};
    uint64_t size;
    struct capstore_source source;
    if (table == CAPSTORE_TABLE_PINNED && json_object_get(slot, "image") != NULL) {
        return read_image_slot(manifest, slot, name, key);
    }
    if (!members_known(manifest, slot, name, names) ||
        !member_u64(manifest, slot, "size", CLI_MAX_SIZE, &size) ||
        !describe_ok(manifest->describe,
                     capstore_pack_data(manifest->describe->pack, table, key, size), name)) {
        return false;
    }
    const json_t *pieces = json_object_get(slot, "content");
    if (pieces != NULL && (json_object_get(slot, "file") || json_object_get(slot, "hex") ||
                           json_object_get(slot, "offset") || json_object_get(slot, "length"))) {
        return describe_refuse(manifest->describe,
                               "slot %s: \"content\" stands alone or beside \"size\"", name);
    }
    if (pieces != NULL) {
        return read_pieces(manifest, pieces);
    }
    return read_content(manifest, slot, name, &source) &&
           describe_ok(manifest->describe,
                       capstore_pack_content(manifest->describe->pack, 0, &source), name);
}

static bool read_slots(struct manifest *manifest, enum capstore_table table, const json_t *slots)
{
    const char *name;
    json_t *slot;
    if (!json_is_object(slots)) {
        return describe_refuse(manifest->describe, "\"%s\" wants an object of slots by key",
                               capstore_table_name(table));
    }
    json_object_foreach((json_t *)(uintptr_t)slots, name, slot)
    {
        struct cap_buf key;
        if (!read_hex(manifest, name, capstore_table_name(table), &key)) {
            return false;
        }
        bool good = read_slot(manifest, table, slot, name, key_bytes(&key));
        cap_buf_free(&key);
        if (!good) {
            return false;
        }
    }
    return true;
}

/* ---- endpoints, mappings, lists of keys ---- */

static bool read_registers(struct manifest *manifest, const json_t *object,
                           struct capstore_register *registers, size_t *ret_count)
{
    const char *name;
    json_t *value;
    *ret_count = 0;
    if (object == NULL) {
        return true;
    }
    if (!json_is_object(object)) {
        return describe_refuse(manifest->describe,
                               "\"initial_regs\" wants an object of values by register");
    }
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        uint64_t index;
        uint64_t number;
        if (!cli_parse_u64(name, &index) || index > UINT8_MAX || *ret_count == REGISTERS_MAX) {
            return describe_refuse(manifest->describe, "initial_regs: \"%s\" is no register", name);
        }
        if (!read_u64(manifest, value, "initial_regs", UINT64_MAX, &number)) {
            return false;
        }
        registers[(*ret_count)++] = (struct capstore_register){(uint8_t)index, number};
    }
    return true;
}

static bool read_endpoint(struct manifest *manifest, const char *name, const json_t *endpoint)
{
    static const char *const names[] = {"entry_pc", "arg_registers", "arg_cnode_size",
                                        "initial_regs", NULL};
    struct capstore_register registers[REGISTERS_MAX];
    struct capstore_endpoint_args args = {.registers = registers};
    uint64_t arg_registers;
    uint64_t arg_cnode_size;
    struct cap_buf key;
    if (!members_known(manifest, endpoint, "endpoint", names) ||
        !member_u64(manifest, endpoint, "entry_pc", UINT64_MAX, &args.entry_pc) ||
        !member_u64(manifest, endpoint, "arg_registers", UINT8_MAX, &arg_registers) ||
        !member_u64(manifest, endpoint, "arg_cnode_size", UINT8_MAX, &arg_cnode_size) ||
        !read_registers(manifest, json_object_get(endpoint, "initial_regs"), registers,
                        &args.register_count) ||
        !read_hex(manifest, name, "endpoints", &key)) {
        return false;
    }
    args.arg_registers = (uint8_t)arg_registers;
    args.arg_cnode_size = (uint8_t)arg_cnode_size;
    bool good = describe_ok(
        manifest->describe,
        capstore_pack_endpoint(manifest->describe->pack, key_bytes(&key), &args), "endpoints");
    cap_buf_free(&key);
    return good;
}

static bool read_endpoints(struct manifest *manifest, const json_t *endpoints)
{
    const char *name;
    json_t *endpoint;
    if (!json_is_object(endpoints)) {
        return describe_refuse(manifest->describe, "\"endpoints\" wants an object by key");
    }
    json_object_foreach((json_t *)(uintptr_t)endpoints, name, endpoint)
    {
        if (!read_endpoint(manifest, name, endpoint)) {
            return false;
        }
    }
    return true;
}

static bool read_mapping(struct manifest *manifest, const json_t *mapping)
{
    static const char *const names[] = {"start", "size", "source", NULL};
    struct cap_buf keys[MANIFEST_STEPS] = {{0}};
    struct capstore_bytes path[MANIFEST_STEPS];
    uint64_t start;
    uint64_t size;
    const json_t *source = json_object_get(mapping, "source");
    if (!members_known(manifest, mapping, "mappings", names) ||
        !member_u64(manifest, mapping, "start", UINT64_MAX, &start) ||
        !member_u64(manifest, mapping, "size", UINT64_MAX, &size)) {
        return false;
    }
    if (!json_is_array(source) || json_array_size(source) > MANIFEST_STEPS) {
        return describe_refuse(manifest->describe, "mappings: \"source\" wants an array of keys");
    }
    size_t steps = json_array_size(source);
    bool good = true;
    for (size_t i = 0; good && i < steps; i++) {
        good = read_key(manifest, json_array_get(source, i), "source", &keys[i]);
        path[i] = key_bytes(&keys[i]);
    }
    good = good &&
           describe_ok(manifest->describe,
                       capstore_pack_mapping(manifest->describe->pack, start, size, path, steps),
                       "mappings");
    for (size_t i = 0; i < steps; i++) {
        cap_buf_free(&keys[i]);
    }
    return good;
}

static bool read_mappings(struct manifest *manifest, const json_t *mappings)
{
    size_t i;
    json_t *mapping;
    if (!json_is_array(mappings)) {
        return describe_refuse(manifest->describe, "\"mappings\" wants an array");
    }
    json_array_foreach((json_t *)(uintptr_t)mappings, i, mapping)
    {
        if (!read_mapping(manifest, mapping)) {
            return false;
        }
    }
    return true;
}

/* One key, handed to one of the packer's functions that take a slot. */
static bool add_slot(struct manifest *manifest, const json_t *value, const char *where,
                     enum capstore_error (*add)(struct capstore_pack *, struct capstore_bytes))
{
    struct cap_buf key;
    if (!read_key(manifest, value, where, &key)) {
        return false;
    }
    bool good =
        describe_ok(manifest->describe, add(manifest->describe->pack, key_bytes(&key)), where);
    cap_buf_free(&key);
    return good;
}

static bool add_slots(struct manifest *manifest, const json_t *values, const char *where,
                      enum capstore_error (*add)(struct capstore_pack *, struct capstore_bytes))
{
    size_t i;
    json_t *value;
    if (!json_is_array(values)) {
        return describe_refuse(manifest->describe, "\"%s\" wants an array of keys", where);
    }
    json_array_foreach((json_t *)(uintptr_t)values, i, value)
    {
        if (!add_slot(manifest, value, where, add)) {
            return false;
        }
    }
    return true;
}

/* ---- the whole ---- */

static bool read_root(struct manifest *manifest, const json_t *root)
{
    static const char *const names[] = {"code",      "endpoints",   "mappings",
                                        "pinned",    "initial",     "yield_receiver_slot",
                                        "gas_slots", "quota_slots", NULL};
    if (!members_known(manifest, root, "manifest", names)) {
        return false;
    }
    const json_t *code = json_object_get(root, "code");
    const json_t *endpoints = json_object_get(root, "endpoints");
    const json_t *mappings = json_object_get(root, "mappings");
    const json_t *pinned = json_object_get(root, "pinned");
    const json_t *initial = json_object_get(root, "initial");
    const json_t *receiver = json_object_get(root, "yield_receiver_slot");
    const json_t *gas = json_object_get(root, "gas_slots");
    const json_t *quota = json_object_get(root, "quota_slots");
    return (code == NULL || read_code(manifest, code)) &&
           (endpoints == NULL || read_endpoints(manifest, endpoints)) &&
           (mappings == NULL || read_mappings(manifest, mappings)) &&
           (pinned == NULL || read_slots(manifest, CAPSTORE_TABLE_PINNED, pinned)) &&
           (initial == NULL || read_slots(manifest, CAPSTORE_TABLE_INITIAL, initial)) &&
           (receiver == NULL || json_is_null(receiver) ||
            add_slot(manifest, receiver, "yield_receiver_slot", capstore_pack_yield_receiver)) &&
           (gas == NULL || add_slots(manifest, gas, "gas_slots", capstore_pack_gas_slot)) &&
           (quota == NULL || add_slots(manifest, quota, "quota_slots", capstore_pack_quota_slot));
}

/* The text of the manifest, or NULL after saying what is wrong. */
static char *read_text(struct describe *describe, const char *path, size_t *ret_len)
{
    struct cli_input input;
    char *text = NULL;
    if (!cli_input_open(describe->cli, path, &input)) {
        return NULL;
    }
    size_t len = (size_t)input.len;
    if (input.len > MANIFEST_MAX) {
        (void)describe_refuse(describe, "%s: a manifest has at most 16 MiB", path);
    } else {
        text = malloc(len + 1);
        enum capstore_error error =
            text == NULL ? CAPSTORE_E_NO_MEMORY : input.source.read(input.source.ctx, 0, text, len);
        if (!describe_ok(describe, error, path)) {
            free(text);
            text = NULL;
        }
    }
    cli_input_close(&input);
    *ret_len = len;
    return text;
}

static char *directory_of(const char *path)
{
    const char *slash = strcmp(path, "-") == 0 ? NULL : strrchr(path, '/');
    if (slash == NULL) {
        return strdup(".");
    }
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

bool describe_manifest(struct describe *describe, const char *path)
{
    struct manifest manifest = {describe, directory_of(path)};
    json_error_t where;
    size_t len;
    bool good = manifest.directory != NULL || describe_ok(describe, CAPSTORE_E_NO_MEMORY, NULL);
    char *text = good ? read_text(describe, path, &len) : NULL;
    json_t *root = NULL;
    good = text != NULL;
    if (good) {
        root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
        good = root != NULL || describe_refuse(describe, "%s:%d:%d: %s", path, where.line,
                                               where.column, where.text);
    }
    good = good && read_root(&manifest, root);
    json_decref(root);
    free(text);
    free(manifest.directory);
    return good;
}
