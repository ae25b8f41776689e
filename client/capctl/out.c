/* Two ways to print one object: JSON on one line, or indented lines for a person. */
#include "client/capctl/out.h"

#include <inttypes.h>
#include <stdlib.h>

static void put(struct out *out, const char *text, size_t len)
{
    if (out->error == CAP_OK) {
        out->error = cap_buf_append(&out->text, text, len);
    }
}

static void puts_text(struct out *out, const char *text)
{
    put(out, text, strlen(text));
}

/* The length of the UTF-8 sequence at `text`, 0 when it is none (overlong and surrogates included).
 */
static size_t utf8_len(const unsigned char *text)
{
    size_t len = text[0] < 0x80   ? 1
                 : text[0] < 0xc2 ? 0
                 : text[0] < 0xe0 ? 2
                 : text[0] < 0xf0 ? 3
                                  : 4;
    if (text[0] > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f)) {
        return 0;
    }
    return len;
}

static void json_string(struct out *out, const char *value)
{
    puts_text(out, "\"");
    const unsigned char *at = (const unsigned char *)value;
    while (*at != '\0') {
        char escape[8];
        size_t len = utf8_len(at);
        if (*at == '"' || *at == '\\') {
            snprintf(escape, sizeof escape, "\\%c", *at);
            puts_text(out, escape);
        } else if (*at < ' ' || *at == 0x7f || len == 0) {
            snprintf(escape, sizeof escape, "\\u%04x", len == 0 ? 0xfffdu : (unsigned)*at);
            puts_text(out, escape);
        } else {
            put(out, (const char *)at, len);
        }
        at += len == 0 ? 1 : len;
    }
    puts_text(out, "\"");
}

static struct out_level *level(struct out *out)
{
    return &out->levels[out->depth];
}

/* Objects indent, the arrays around them do not: "- " takes that place. */
static void indent(struct out *out)
{
    for (int i = 1; i <= out->depth; i++) {
        if (!out->levels[i].array) {
            puts_text(out, "  ");
        }
    }
}

/* For a person: what stands in front of a value on its line. */
static void human_lead(struct out *out, const char *name)
{
    struct out_level *at = level(out);
    if (at->inline_array) {
        puts_text(out, " ");
        return;
    }
    if (out->dash) {
        out->dash = false; /* the "- " stands there already */
    } else {
        if (out->text.len > 0) {
            puts_text(out, "\n");
        }
        indent(out);
        if (at->array) {
            puts_text(out, "- ");
        }
    }
    if (name != NULL) {
        puts_text(out, name);
        puts_text(out, ":");
    }
}

static void lead(struct out *out, const char *name)
{
    if (!out->json) {
        human_lead(out, name);
        level(out)->count++;
        return;
    }
    if (level(out)->count++ > 0) {
        puts_text(out, ", ");
    }
    if (name != NULL) {
        json_string(out, name);
        puts_text(out, ": ");
    }
}

/* A value that looks the same in both forms, but for quotes. */
static void plain(struct out *out, const char *name, const char *value, bool quoted)
{
    lead(out, name);
    if (out->json && quoted) {
        json_string(out, value);
        return;
    }
    if (!out->json && name != NULL) {
        puts_text(out, " ");
    }
    puts_text(out, value[0] == '\0' ? "\"\"" : value);
}

void out_begin(struct out *out, bool json)
{
    *out = (struct out){.json = json};
    if (json) {
        puts_text(out, "{");
    }
}

void out_text(struct out *out, const char *name, const char *value)
{
    plain(out, name, value, true);
}

void out_u64(struct out *out, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    plain(out, name, text, false);
}

void out_human_size(uint64_t value, char ret_text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double shown = (double)value;
    while (shown >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        shown /= 1024;
        unit++;
    }
    snprintf(ret_text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", shown, units[unit]);
}

void out_size(struct out *out, const char *name, uint64_t value)
{
    char text[64];
    char human[32];
    out_human_size(value, human);
    if (out->json || value < 1024) {
        snprintf(text, sizeof text, "%" PRIu64, value);
    } else {
        snprintf(text, sizeof text, "%" PRIu64 " (%s)", value, human);
    }
    plain(out, name, text, false);
}

void out_address(struct out *out, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "0x%" PRIx64, value);
    plain(out, name, text, true);
}

void out_bool(struct out *out, const char *name, bool value)
{
    plain(out, name, out->json ? (value ? "true" : "false") : (value ? "yes" : "no"), false);
}

void out_null(struct out *out, const char *name)
{
    plain(out, name, out->json ? "null" : "none", false);
}

void out_hash(struct out *out, const char *name, const struct capstore_hash *hash)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(hash, hex);
    plain(out, name, hex, true);
}

void out_key(struct out *out, const char *name, struct capstore_bytes key)
{
    char *hex = malloc(2 * key.len + 1);
    if (hex == NULL) {
        out->error = CAP_E_NO_MEMORY;
        return;
    }
    cap_hex_format((struct cap_bytes){key.data, key.len}, hex);
    plain(out, name, hex, true);
    free(hex);
}

static void enter(struct out *out, const char *name, bool array, bool inline_array)
{
    bool element = level(out)->array && !out->json;
    lead(out, name);
    if (out->depth + 1 == OUT_MAX_DEPTH) {
        out->error = CAP_E_INTERNAL;
        return;
    }
    out->levels[++out->depth] = (struct out_level){array, inline_array && !out->json, 0};
    if (out->json) {
        puts_text(out, array ? "[" : "{");
    } else {
        out->dash = element && !array;
    }
}

void out_object(struct out *out, const char *name)
{
    enter(out, name, false, false);
}

void out_array(struct out *out, const char *name)
{
    enter(out, name, true, false);
}

void out_line(struct out *out, const char *name)
{
    enter(out, name, true, true);
}

void out_end(struct out *out)
{
    struct out_level left = *level(out);
    if (out->depth > 0) {
        out->depth--;
    }
    if (out->json) {
        puts_text(out, left.array ? "]" : "}");
    } else if (left.count == 0) {
        puts_text(out, " none");
    }
    out->dash = false;
}

bool out_finish(struct out *out, FILE *file)
{
    puts_text(out, out->json ? "}\n" : "\n");
    bool good = out->error == CAP_OK;
    if (good) {
        good = fwrite(out->text.data, 1, out->text.len, file) == out->text.len;
    }
    good = fflush(file) == 0 && good;
    cap_buf_free(&out->text);
    return good;
}
