/* What a manifest and a program have in common: the pack, and what must live as long as it. */
#include "client/capctl/describe.h"

#include <stdarg.h>
#include <stdlib.h>

struct held {
    struct held *next;
    struct cli_input input; /* a file, or fd -1 */
    struct capstore_bytes bytes;
    void *memory;
};

static struct held *hold(struct describe *describe)
{
    struct held *held = calloc(1, sizeof(*held));
    if (held == NULL) {
        (void)describe_ok(describe, CAPSTORE_E_NO_MEMORY, NULL);
        return NULL;
    }
    held->input.fd = -1;
    held->next = describe->held;
    describe->held = held;
    return held;
}

bool describe_begin(struct cli *cli, struct describe *ret_describe)
{
    *ret_describe = (struct describe){.cli = cli};
    return describe_ok(ret_describe, capstore_pack_new(&ret_describe->pack), "pack");
}

void describe_end(struct describe *describe)
{
    capstore_pack_free(describe->pack);
    json_decref(describe->warnings);
    while (describe->held != NULL) {
        struct held *held = describe->held;
        describe->held = held->next;
        cli_input_close(&held->input);
        free(held->memory);
        free(held);
    }
}

bool describe_file(struct describe *describe, const char *path, struct capstore_source *ret_source)
{
    struct held *held = hold(describe);
    if (held == NULL || !cli_input_open(describe->cli, path, &held->input)) {
        return false;
    }
    *ret_source = held->input.source;
    return true;
}

bool describe_bytes(struct describe *describe, const uint8_t *bytes, size_t len,
                    struct capstore_source *ret_source)
{
    struct held *held = hold(describe);
    if (held == NULL) {
        return false;
    }
    held->bytes = (struct capstore_bytes){bytes, len};
    *ret_source = capstore_source_memory(&held->bytes);
    return true;
}

void *describe_memory(struct describe *describe, size_t len)
{
    struct held *held = hold(describe);
    if (held == NULL) {
        return NULL;
    }
    held->memory = calloc(1, len > 0 ? len : 1);
    if (held->memory == NULL) {
        (void)describe_ok(describe, CAPSTORE_E_NO_MEMORY, NULL);
    }
    return held->memory;
}

bool describe_ok(struct describe *describe, enum capstore_error error, const char *what)
{
    if (error == CAPSTORE_OK) {
        return true;
    }
    describe->cli->refused = cli_fail_error(describe->cli, error, what, NULL) == CLI_NO;
    return false;
}

bool describe_refuse(struct describe *describe, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    describe->cli->refused = true;
    (void)cli_fail(describe->cli, CLI_NO, "invalid_argument", "%s", message);
    return false;
}

void describe_warn(struct describe *describe, const char *reason, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (describe->warnings == NULL) {
        describe->warnings = json_array();
    }
    describe->warnings = out_append(describe->warnings, json_pack("{s:s, s:o}", "reason", reason,
                                                                  "message", out_text(message)));
}
