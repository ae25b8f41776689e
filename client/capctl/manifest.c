/*
 * The manifest of `pack`: a JSON object that says what an Image holds (capctl.1, MANIFEST).
 *
 * Every member is known by name; an unknown one is refused, so that a typing error is not
 * silently ignored. Each message names the file and the place in it: m.json: mappings[2].size: ...
 */
#include "client/capctl/manifest.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/capctl/result.h"

#define MANIFEST_MAX   ((uint64_t)16 << 20) /* as much structure as a daemon takes by default */
#define REGISTERS_MAX  256                  /* one per index; the check refuses those above 12 */
#define MANIFEST_STEPS 64  /* of a path; the check refuses more than 8, and names the path */
#define PLACE_SIZE     256 /* keys are cut to 80 characters, and nest twice */

struct manifest {
    struct describe *describe;
    const char *path;
    char *directory;        /* what files are relative to */
    char place[PLACE_SIZE]; /* of the value that is being read, such as endpoints["00"].entry_pc */
};

/* ---- places and messages ---- */

/* Goes to a value inside the present one: a format of ".name", "[index]" or "[\"key\"]". Returns
 * what leave takes. */
static size_t enter(struct manifest *manifest, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static size_t enter(struct manifest *manifest, const char *format, ...)
{
    size_t len = strlen(manifest->place);
    va_list args;
    va_start(args, format);
    vsnprintf(manifest->place + len, sizeof(manifest->place) - len, format, args);
    va_end(args);
    return len;
}

static void leave(struct manifest *manifest, size_t len)
{
    manifest->place[len] = '\0';
}

/* Says what is wrong with the present value. Returns false. */
static bool refuse(struct manifest *manifest, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(struct manifest *manifest, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    const char *place = manifest->place;
    place += place[0] == '.';
    return describe_refuse(manifest->describe, "%s: %s%s%s", manifest->path, place,
                           place[0] != '\0' ? ": " : "", message);
}

/* As describe_ok, at the present value. */
static bool packed(struct manifest *manifest, enum capstore_error error)
{
    return describe_ok(manifest->describe, error, manifest->path);
}

static const char *type_name(const json_t *value)
{
    if (value == NULL) {
        return "nothing";
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

/* Says that the present value should be another. Returns false. */
static bool refuse_type(struct manifest *manifest, const json_t *value, const char *expected)
{
    return refuse(manifest, "expected %s, got %s", expected, type_name(value));
}

/* ---- values ---- */

/* Whether the present value is an object of no other members than these. */
static bool members_known(struct manifest *manifest, const json_t *object, const char *const *names)
{
    const char *member;
    json_t *value;
    if (!json_is_object(object)) {
        return refuse_type(manifest, object, "an object");
    }
    json_object_foreach((json_t *)(uintptr_t)object, member, value)
    {
        size_t i = 0;
        while (names[i] != NULL && strcmp(names[i], member) != 0) {
            i++;
        }
        if (names[i] == NULL) {
            return refuse(manifest, "unknown member \"%s\"", member);
        }
    }
    return true;
}

/* An integer, or a string that holds one. */
static bool read_u64(struct manifest *manifest, const json_t *value, uint64_t limit,
                     uint64_t *ret_value)
{
    uint64_t number = 0;
    bool good = false;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        number = (uint64_t)json_integer_value(value);
        good = true;
    } else if (json_is_string(value)) {
        good = cli_parse_u64(json_string_value(value), &number);
    } else if (!json_is_integer(value)) {
        return refuse_type(manifest, value, "an integer, or a string that holds one");
    }
    if (!good || number > limit) {
        return refuse(manifest,
                      "expected an integer from 0 to %" PRIu64 " (a number, or a string in decimal "
                      "or 0x)",
                      limit);
    }
    *ret_value = number;
    return true;
}

/* A member of the present object; 0 when absent. */
static bool member_u64(struct manifest *manifest, const json_t *object, const char *name,
                       uint64_t limit, uint64_t *ret_value)
{
    const json_t *value = json_object_get(object, name);
    size_t here = enter(manifest, ".%s", name);
    *ret_value = 0;
    bool good = value == NULL || read_u64(manifest, value, limit, ret_value);
    leave(manifest, here);
    return good;
}

/* Bytes in hex digits, which live as long as the description. */
static bool read_hex(struct manifest *manifest, const char *text, struct capstore_bytes *ret_bytes)
{
    size_t len = strlen(text) / 2;
    uint8_t *bytes = describe_memory(manifest->describe, len);
    if (bytes == NULL) {
        return false;
    }
    if (!cli_hex_parse(text, bytes)) {
        return refuse(manifest, "\"%.80s\" is not an even number of hex digits", text);
    }
    *ret_bytes = (struct capstore_bytes){bytes, len};
    return true;
}

static bool read_key(struct manifest *manifest, const json_t *value, struct capstore_bytes *ret_key)
{
    if (!json_is_string(value)) {
        return refuse_type(manifest, value, "a string of hex digits");
    }
    return read_hex(manifest, json_string_value(value), ret_key);
}

/* ---- content ---- */

/* A part of a file, by "offset" and "length". */
struct part {
    struct capstore_source whole;
    uint64_t offset;
};

static enum capstore_error part_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct part *part = ctx;
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
    bool cut = json_object_get(object, "length") != NULL;
    if (offset > whole->len || (cut && len > whole->len - offset)) {
        return refuse(manifest,
                      "the part reaches past the end of \"%s\", which has %" PRIu64 " bytes",
                      json_string_value(json_object_get(object, "file")), whole->len);
    }
    struct part *part = describe_memory(manifest->describe, sizeof(*part));
    if (part == NULL) {
        return false;
    }
    *part = (struct part){*whole, offset};
    *ret_source = (struct capstore_source){part_read, part, cut ? len : whole->len - offset, NULL};
    return true;
}

static bool open_file(struct manifest *manifest, const char *name,
                      struct capstore_source *ret_source)
{
    char *path = NULL;
    if (name[0] == '\0' || strcmp(name, "-") == 0) {
        return refuse(manifest, "\"%s\" is not a file name", name);
    }
    if (name[0] != '/' && asprintf(&path, "%s/%s", manifest->directory, name) < 0) {
        return packed(manifest, CAPSTORE_E_NO_MEMORY);
    }
    bool good = describe_file(manifest->describe, path != NULL ? path : name, ret_source);
    free(path);
    return good;
}

/* The bytes that "file" or "hex" of the present object name; neither of them means no bytes. */
static bool read_content(struct manifest *manifest, const json_t *object,
                         struct capstore_source *ret_source)
{
    const json_t *file = json_object_get(object, "file");
    const json_t *hex = json_object_get(object, "hex");
    struct capstore_source whole;
    struct capstore_bytes bytes = {NULL, 0};
    bool good = true;
    if (file != NULL && hex != NULL) {
        return refuse(manifest, "\"file\" and \"hex\" exclude each other");
    }
    if (file == NULL &&
        (json_object_get(object, "offset") != NULL || json_object_get(object, "length") != NULL)) {
        return refuse(manifest, "\"offset\" and \"length\" go with \"file\"");
    }
    size_t here = enter(manifest, file != NULL ? ".file" : ".hex");
    if (file != NULL) {
        good = json_is_string(file) ? open_file(manifest, json_string_value(file), &whole)
                                    : refuse_type(manifest, file, "a string");
    } else if (hex != NULL) {
        good = read_key(manifest, hex, &bytes);
    }
    leave(manifest, here);
    if (!good) {
        return false;
    }
    return file != NULL ? cut_part(manifest, object, &whole, ret_source)
                        : describe_bytes(manifest->describe, bytes.data, bytes.len, ret_source);
}

static bool read_code(struct manifest *manifest, const json_t *code)
{
    static const char *const names[] = {"file", "hex", "offset", "length", NULL};
    struct capstore_source source;
    bool good = false;
    if (json_is_string(code)) {
        good = open_file(manifest, json_string_value(code), &source);
    } else if (!json_is_object(code)) {
        good = refuse_type(manifest, code, "an object or the name of a file");
    } else {
        good = members_known(manifest, code, names) && read_content(manifest, code, &source);
    }
    return good && packed(manifest, capstore_pack_code(manifest->describe->pack, &source));
}

/* ---- lists ---- */

/* Reads one element of an array, or one member of an object, at its place. */
typedef bool read_element(struct manifest *manifest, const json_t *element, void *ctx);
typedef bool read_member(struct manifest *manifest, const char *name, const json_t *member,
                         void *ctx);

static bool each_element(struct manifest *manifest, const json_t *array, read_element *read,
                         void *ctx)
{
    size_t i;
    json_t *element;
    if (!json_is_array(array)) {
        return refuse_type(manifest, array, "an array");
    }
    json_array_foreach((json_t *)(uintptr_t)array, i, element)
    {
        size_t here = enter(manifest, "[%zu]", i);
        if (!read(manifest, element, ctx)) {
            return false;
        }
        leave(manifest, here);
    }
    return true;
}

static bool each_member(struct manifest *manifest, const json_t *object, read_member *read,
                        void *ctx)
{
    const char *name;
    json_t *member;
    if (!json_is_object(object)) {
        return refuse_type(manifest, object, "an object");
    }
    json_object_foreach((json_t *)(uintptr_t)object, name, member)
    {
        size_t here = enter(manifest, "[\"%.80s\"]", name);
        if (!read(manifest, name, member, ctx)) {
            return false;
        }
        leave(manifest, here);
    }
    return true;
}

/* ---- slots ---- */

static bool read_piece(struct manifest *manifest, const json_t *piece, void *ctx)
{
    static const char *const names[] = {"at", "file", "hex", "offset", "length", NULL};
    uint64_t at;
    struct capstore_source source;
    (void)ctx;
    if (!members_known(manifest, piece, names) ||
        !member_u64(manifest, piece, "at", UINT64_MAX, &at) ||
        !read_content(manifest, piece, &source)) {
        return false;
    }
    enum capstore_error error = capstore_pack_content(manifest->describe->pack, at, &source);
    if (error == CAPSTORE_E_INVALID_ARGUMENT) {
        return refuse(manifest, "overlaps the piece before it, or lies too high");
    }
    return packed(manifest, error);
}

static bool read_image_slot(struct manifest *manifest, const json_t *slot,
                            struct capstore_bytes key)
{
    static const char *const names[] = {"image", NULL};
    struct capstore_hash hash;
    const char *text = json_string_value(json_object_get(slot, "image"));
    if (!members_known(manifest, slot, names)) {
        return false;
    }
    if (text == NULL || capstore_hash_parse(text, &hash) != CAPSTORE_OK) {
        (void)enter(manifest, ".image");
        return refuse(manifest, "not a hash: expected 64 hex digits");
    }
    return packed(manifest, capstore_pack_image(manifest->describe->pack, key, &hash));
}

/* A slot of the table *ctx. */
static bool read_slot(struct manifest *manifest, const char *name, const json_t *slot, void *ctx)
{
    static const char *const names[] = {"size", "file", "hex", "offset", "length", "content", NULL};
    const enum capstore_table *table = ctx;
    struct capstore_pack *pack = manifest->describe->pack;
    struct capstore_bytes key;
    struct capstore_source source;
    uint64_t size;
    if (!read_hex(manifest, name, &key)) {
        return false;
    }
    if (*table == CAPSTORE_TABLE_PINNED && json_object_get(slot, "image") != NULL) {
        return read_image_slot(manifest, slot, key);
    }
    if (!members_known(manifest, slot, names) ||
        !member_u64(manifest, slot, "size", CLI_MAX_SIZE, &size) ||
        !packed(manifest, capstore_pack_data(pack, *table, key, size))) {
        return false;
    }
    const json_t *pieces = json_object_get(slot, "content");
    if (pieces == NULL) {
        return read_content(manifest, slot, &source) &&
               packed(manifest, capstore_pack_content(pack, 0, &source));
    }
    if (json_object_get(slot, "file") != NULL || json_object_get(slot, "hex") != NULL ||
        json_object_get(slot, "offset") != NULL || json_object_get(slot, "length") != NULL) {
        return refuse(manifest, "\"content\" goes with \"size\" only");
    }
    (void)enter(manifest, ".content");
    return each_element(manifest, pieces, read_piece, NULL);
}

static bool read_pinned(struct manifest *manifest, const json_t *slots)
{
    enum capstore_table table = CAPSTORE_TABLE_PINNED;
    return each_member(manifest, slots, read_slot, &table);
}

static bool read_initial(struct manifest *manifest, const json_t *slots)
{
    enum capstore_table table = CAPSTORE_TABLE_INITIAL;
    return each_member(manifest, slots, read_slot, &table);
}

/* ---- endpoints, mappings, lists of keys ---- */

struct registers {
    size_t count;
    struct capstore_register list[REGISTERS_MAX];
};

static bool read_register(struct manifest *manifest, const char *name, const json_t *value,
                          void *ctx)
{
    struct registers *registers = ctx;
    uint64_t index;
    uint64_t number = 0;
    if (!cli_parse_u64(name, &index) || index > UINT8_MAX || registers->count == REGISTERS_MAX) {
        return refuse(manifest, "not a register");
    }
    if (!read_u64(manifest, value, UINT64_MAX, &number)) {
        return false;
    }
    registers->list[registers->count++] = (struct capstore_register){(uint8_t)index, number};
    return true;
}

static bool read_endpoint(struct manifest *manifest, const char *name, const json_t *endpoint,
                          void *ctx)
{
    static const char *const names[] = {"entry_pc", "arg_registers", "arg_cnode_size",
                                        "initial_regs", NULL};
    struct registers registers = {.count = 0};
    struct capstore_endpoint_args args = {.registers = registers.list};
    struct capstore_bytes key;
    uint64_t arg_registers;
    uint64_t arg_cnode_size;
    (void)ctx;
    if (!read_hex(manifest, name, &key) || !members_known(manifest, endpoint, names) ||
        !member_u64(manifest, endpoint, "entry_pc", UINT64_MAX, &args.entry_pc) ||
        !member_u64(manifest, endpoint, "arg_registers", UINT8_MAX, &arg_registers) ||
        !member_u64(manifest, endpoint, "arg_cnode_size", UINT8_MAX, &arg_cnode_size)) {
        return false;
    }
    const json_t *initial = json_object_get(endpoint, "initial_regs");
    size_t here = enter(manifest, ".initial_regs");
    if (initial != NULL && !each_member(manifest, initial, read_register, &registers)) {
        return false;
    }
    leave(manifest, here);
    args.register_count = registers.count;
    args.arg_registers = (uint8_t)arg_registers;
    args.arg_cnode_size = (uint8_t)arg_cnode_size;
    return packed(manifest, capstore_pack_endpoint(manifest->describe->pack, key, &args));
}

static bool read_endpoints(struct manifest *manifest, const json_t *endpoints)
{
    return each_member(manifest, endpoints, read_endpoint, NULL);
}

struct steps {
    size_t count;
    struct capstore_bytes keys[MANIFEST_STEPS];
};

static bool read_step(struct manifest *manifest, const json_t *value, void *ctx)
{
    struct steps *steps = ctx;
    if (steps->count == MANIFEST_STEPS) {
        return refuse(manifest, "a path of more than %d steps", MANIFEST_STEPS);
    }
    return read_key(manifest, value, &steps->keys[steps->count++]);
}

static bool read_mapping(struct manifest *manifest, const json_t *mapping, void *ctx)
{
    static const char *const names[] = {"start", "size", "source", NULL};
    struct steps path = {.count = 0};
    uint64_t start;
    uint64_t size;
    (void)ctx;
    if (!members_known(manifest, mapping, names) ||
        !member_u64(manifest, mapping, "start", UINT64_MAX, &start) ||
        !member_u64(manifest, mapping, "size", UINT64_MAX, &size)) {
        return false;
    }
    size_t here = enter(manifest, ".source");
    if (!each_element(manifest, json_object_get(mapping, "source"), read_step, &path)) {
        return false;
    }
    leave(manifest, here);
    return packed(manifest, capstore_pack_mapping(manifest->describe->pack, start, size, path.keys,
                                                  path.count));
}

static bool read_mappings(struct manifest *manifest, const json_t *mappings)
{
    return each_element(manifest, mappings, read_mapping, NULL);
}

static bool read_receiver(struct manifest *manifest, const json_t *value)
{
    struct capstore_bytes key;
    return json_is_null(value) ||
           (read_key(manifest, value, &key) &&
            packed(manifest, capstore_pack_yield_receiver(manifest->describe->pack, key)));
}

static bool read_gas_slot(struct manifest *manifest, const json_t *value, void *ctx)
{
    struct capstore_bytes key;
    (void)ctx;
    return read_key(manifest, value, &key) &&
           packed(manifest, capstore_pack_gas_slot(manifest->describe->pack, key));
}

static bool read_gas_slots(struct manifest *manifest, const json_t *values)
{
    return each_element(manifest, values, read_gas_slot, NULL);
}

static bool read_quota_slot(struct manifest *manifest, const json_t *value, void *ctx)
{
    struct capstore_bytes key;
    (void)ctx;
    return read_key(manifest, value, &key) &&
           packed(manifest, capstore_pack_quota_slot(manifest->describe->pack, key));
}

static bool read_quota_slots(struct manifest *manifest, const json_t *values)
{
    return each_element(manifest, values, read_quota_slot, NULL);
}

/* ---- the whole ---- */

static bool read_root(struct manifest *manifest, const json_t *root)
{
    static const struct {
        const char *name;
        bool (*read)(struct manifest *manifest, const json_t *value);
    } members[] = {
        {"code", read_code},           {"endpoints", read_endpoints},
        {"mappings", read_mappings},   {"pinned", read_pinned},
        {"initial", read_initial},     {"yield_receiver_slot", read_receiver},
        {"gas_slots", read_gas_slots}, {"quota_slots", read_quota_slots},
    };
    const size_t count = sizeof(members) / sizeof(members[0]);
    const char *names[sizeof(members) / sizeof(members[0]) + 1] = {NULL};
    for (size_t i = 0; i < count; i++) {
        names[i] = members[i].name;
    }
    if (!members_known(manifest, root, names)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(root, members[i].name);
        size_t here = enter(manifest, ".%s", members[i].name);
        if (value != NULL && !members[i].read(manifest, value)) {
            return false;
        }
        leave(manifest, here);
    }
    return true;
}

/* Editors of another system put an invisible mark in front of a text: that of UTF-8 is skipped,
 * those of other encodings are named. */
static bool skip_mark(struct manifest *manifest, char **text, size_t *len)
{
    const unsigned char *bytes = (const unsigned char *)*text;
    if (*len >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        *text += 3;
        *len -= 3;
    } else if (*len >= 2 &&
               (memcmp(bytes, "\xff\xfe", 2) == 0 || memcmp(bytes, "\xfe\xff", 2) == 0)) {
        return refuse(manifest, "the text is in UTF-16 or UTF-32; save it as UTF-8");
    }
    return true;
}

/* Says where the text is not JSON. A NUL byte, which the parser takes for the end of the text, is
 * named. */
static bool refuse_syntax(struct manifest *manifest, const char *text, size_t len,
                          const json_error_t *where)
{
    size_t read = (size_t)where->position + 1; /* in a string the byte at fault is put back */
    const char *nul = memchr(text, '\0', read < len ? read : len);
    if (nul == NULL) {
        return describe_refuse(manifest->describe, "%s:%d:%d: %s", manifest->path, where->line,
                               where->column, where->text);
    }
    int line = 1;
    int column = 1;
    for (const char *at = text; at < nul; at++) {
        bool ends_line = *at == '\n';
        bool continues = ((unsigned char)*at & 0xc0) == 0x80; /* a character of UTF-8 */
        line += ends_line ? 1 : 0;
        column = ends_line ? 1 : column + (continues ? 0 : 1);
    }
    return describe_refuse(manifest->describe, "%s:%d:%d: a NUL byte; a manifest is text, in UTF-8",
                           manifest->path, line, column);
}

static bool parse(struct manifest *manifest, char *text, size_t len)
{
    json_error_t where;
    if (!skip_mark(manifest, &text, &len)) {
        return false;
    }
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    bool good =
        root != NULL ? read_root(manifest, root) : refuse_syntax(manifest, text, len, &where);
    json_decref(root);
    return good;
}

/* Whether a text may be JSON by its first byte, which may be one of a byte order mark. */
static bool like_json(const char *text, size_t len)
{
    return len > 0 && strchr("{[ \t\r\n\xef\xfe\xff", text[0]) != NULL && text[0] != '\0';
}

/* The text of the manifest, or NULL after saying what is wrong. */
static char *read_text(struct manifest *manifest, size_t *ret_len)
{
    struct cli_input input;
    char nature[CLI_NATURE_SIZE];
    char *text = NULL;
    if (!cli_input_open(manifest->describe->cli, manifest->path, &input)) {
        return NULL;
    }
    size_t len = (size_t)input.len;
    if (input.len > MANIFEST_MAX) {
        (void)refuse(manifest, "longer than 16 MiB, the limit for a manifest");
    } else {
        text = malloc(len + 1);
        enum capstore_error error =
            text == NULL ? CAPSTORE_E_NO_MEMORY : input.source.read(input.source.ctx, 0, text, len);
        bool good = packed(manifest, error);
        if (good && text != NULL && !like_json(text, len) && cli_recognise(&input, nature)) {
            good = refuse(manifest, "%s", nature);
        }
        if (!good) {
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

bool manifest_read(struct describe *describe, const char *path)
{
    struct manifest manifest = {
        .describe = describe, .path = path, .directory = directory_of(path)};
    size_t len;
    if (manifest.directory == NULL) {
        return describe_ok(describe, CAPSTORE_E_NO_MEMORY, NULL);
    }
    char *text = read_text(&manifest, &len);
    bool good = text != NULL && parse(&manifest, text, len);
    free(text);
    free(manifest.directory);
    return good;
}
