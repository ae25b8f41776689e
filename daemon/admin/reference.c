#include "daemon/admin/reference.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/admin/text.h"

size_t admin_summary_len(const struct admin_method *method)
{
    const char *stop = strchr(method->doc, '.');
    return stop != NULL ? (size_t)(stop - method->doc) : strlen(method->doc);
}

/* --- Params in words -------------------------------------------------------------------------- */

static void print_choices(struct admin_text *text, const char *const *choices)
{
    for (size_t i = 0; choices[i] != NULL; i++) {
        admin_print(text, "%s%s", i == 0 ? "" : ", ", choices[i]);
    }
}

/* "integer, 1 to 1000; default 64", "64 hex digits, required". */
static void print_kind(struct admin_text *text, const struct admin_param *param)
{
    switch (param->type) {
    case ADMIN_BOOLEAN:
        admin_print(text, "true or false");
        break;
    case ADMIN_INTEGER:
        admin_print(text, "integer, %" PRId64 " to %" PRId64, param->min, param->max);
        break;
    case ADMIN_CHOICE:
        admin_print(text, "one of ");
        print_choices(text, param->choices);
        break;
    case ADMIN_CHOICES:
        admin_print(text, "array of ");
        print_choices(text, param->choices);
        break;
    case ADMIN_HASH:
        admin_print(text, "64 hex digits");
        break;
    case ADMIN_PREFIX:
        admin_print(text, "up to 64 hex digits");
        break;
    case ADMIN_NAME:
    case ADMIN_TEXT:
    case ADMIN_WORD:
        admin_print(text, "string of %" PRId64 " to %" PRId64 " bytes", param->min, param->max);
        break;
    }
    if (param->required) {
        admin_print(text, "; required");
    } else if (param->type == ADMIN_INTEGER) {
        admin_print(text, "; default %" PRId64, param->fallback);
    } else {
        admin_print(text, "; optional");
    }
}

/* --- Help ------------------------------------------------------------------------------------- */

enum cap_error admin_help_line(const struct admin_method *method, struct cap_buf *buf)
{
    struct admin_text text = {.buf = buf};
    admin_print(&text, "%-14s %-8s %.*s%s\n", method->name, admin_level_name(method->level),
                (int)admin_summary_len(method), method->doc,
                method->deprecated != NULL ? " (deprecated)" : "");
    return text.error;
}

enum cap_error admin_help_one(const struct admin_method *method, struct cap_buf *buf)
{
    struct admin_text text = {.buf = buf};
    admin_print(&text, "%s (level %s)\n  %s\n", method->name, admin_level_name(method->level),
                method->doc);
    if (method->deprecated != NULL) {
        admin_print(&text, "  Deprecated: %s\n", method->deprecated);
    }
    admin_print(&text, "Params:%s\n", method->params->name != NULL ? "" : " none");
    for (const struct admin_param *param = method->params; param->name != NULL; param++) {
        admin_print(&text, "  %s: %s (", param->name, param->doc);
        print_kind(&text, param);
        admin_print(&text, ")\n");
    }
    admin_print(&text, "Result:\n");
    for (const struct admin_field *field = method->result; field->name != NULL; field++) {
        admin_print(&text, "  %s: %s (%s)\n", field->name, field->doc, field->type);
    }
    admin_print(&text, "Example params: %s\n", method->example);
    return text.error;
}

/* --- ADMIN.md --------------------------------------------------------------------------------- */

static void markdown_method(struct admin_text *text, const struct admin_method *method)
{
    admin_print(text, "### `%s`\n\nLevel *%s*. %s\n\n", method->name,
                admin_level_name(method->level), method->doc);
    if (method->deprecated != NULL) {
        admin_print(text, "**Deprecated:** %s\n\n", method->deprecated);
    }
    if (method->params->name != NULL) {
        admin_print(text, "| param | what | values |\n|---|---|---|\n");
    }
    for (const struct admin_param *param = method->params; param->name != NULL; param++) {
        admin_print(text, "| `%s` | %s | ", param->name, param->doc);
        print_kind(text, param);
        admin_print(text, " |\n");
    }
    admin_print(text, "%s| result | type | what |\n|---|---|---|\n",
                method->params->name != NULL ? "\n" : "");
    for (const struct admin_field *field = method->result; field->name != NULL; field++) {
        admin_print(text, "| `%s` | %s | %s |\n", field->name, field->type, field->doc);
    }
    admin_print(text,
                "\n```json\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n```\n",
                method->name, method->example);
}

enum cap_error admin_reference_markdown(struct cap_buf *buf)
{
    struct admin_text text = {.buf = buf};
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    for (size_t i = 0; i < count; i++) {
        admin_print(&text, "\n");
        markdown_method(&text, &methods[i]);
    }
    return text.error;
}

/* --- The man page ----------------------------------------------------------------------------- */

static const char man_head[] =
    ".TH CAPSTORE-ADMIN 7 \"\" \"capstore " CAPSTORE_VERSION "\" \"capstore\"\n"
    ".SH NAME\ncapstore-admin \\- the admin socket of capstored(8)\n"
    ".SH DESCRIPTION\n"
    "JSON-RPC 2.0 on a Unix socket, one object per line, no batches, params by name.\n"
    "A request is at most 65536 bytes and 16 levels deep, an answer at most 1048576 bytes;\n"
    "longer lists have a cursor. Sizes are bytes, times RFC 3339 in UTC, durations end in _us\n"
    "or _ms. An error carries data with reason, which is stable, retry, and often hint and\n"
    "param.\n"
    ".PP\nAfter events.subscribe, events come as notifications on the same connection: method "
    "event,\n"
    "params with seq, time, kind, message and often hash, or with lost, the number of events that "
    "a\n"
    "slow reader will not see.\n"
    ".PP\nLevels: everyone who can connect may observe; members of the operators' group may "
    "operate;\n"
    "root and the daemon's own user may do everything. Every change is logged.\n"
    ".SH EXAMPLE\n.nf\n"
    "echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}' |\n"
    "    socat -t 5 - UNIX-CONNECT:/run/capstore/admin.sock | jq .result\n"
    ".fi\n.SH METHODS\n";

static void man_method(struct admin_text *text, const struct admin_method *method)
{
    admin_print(text, ".SS %s\n%s\n.br\nLevel: %s.\n", method->name, method->doc,
                admin_level_name(method->level));
    if (method->deprecated != NULL) {
        admin_print(text, ".br\nDeprecated: %s\n", method->deprecated);
    }
    for (const struct admin_param *param = method->params; param->name != NULL; param++) {
        admin_print(text, ".TP\n.B %s\n%s (", param->name, param->doc);
        print_kind(text, param);
        admin_print(text, ").\n");
    }
    admin_print(text, ".PP\nResult:\n");
    for (const struct admin_field *field = method->result; field->name != NULL; field++) {
        admin_print(text, ".TP\n.I %s\n%s (%s).\n", field->name, field->doc, field->type);
    }
}

enum cap_error admin_reference_man(struct cap_buf *buf)
{
    struct admin_text text = {.buf = buf};
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    admin_print(&text, "%s", man_head);
    for (size_t i = 0; i < count; i++) {
        man_method(&text, &methods[i]);
    }
    admin_print(&text, ".SH SEE ALSO\n.BR capstored (8),\n.BR capctl (1)\n");
    return text.error;
}
