/* pack: a manifest or a program to the one canonical wire Image. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/capctl/describe.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"

#define DEFAULT_STACK (UINT64_C(1) << 20)

/* ---- what lives as long as the description ---- */

struct held {
    struct held *next;
    struct cli_input input; /* a file, or fd -1 */
    struct cap_buf buf;
    struct capstore_bytes bytes;
    void *memory;
};

static struct held *hold(struct describe *describe)
{
    struct held *held = calloc(1, sizeof *held);
    if (held == NULL) {
        (void)cli_fail_error(describe->cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
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
    while (describe->held != NULL) {
        struct held *held = describe->held;
        describe->held = held->next;
        cli_input_close(&held->input);
        cap_buf_free(&held->buf);
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

bool describe_bytes(struct describe *describe, struct cap_buf *bytes,
                    struct capstore_source *ret_source)
{
    struct held *held = hold(describe);
    if (held == NULL) {
        return false;
    }
    held->buf = *bytes;
    *bytes = (struct cap_buf){0};
    held->bytes = (struct capstore_bytes){held->buf.data, held->buf.len};
    *ret_source = capstore_source_memory(&held->bytes);
    return true;
}

void *describe_memory(struct describe *describe, size_t len)
{
    struct held *held = hold(describe);
    if (held == NULL) {
        return NULL;
    }
    held->memory = calloc(1, len);
    if (held->memory == NULL) {
        (void)cli_fail_error(describe->cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
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
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    describe->cli->refused = true;
    (void)cli_fail(describe->cli, CLI_NO, "invalid_argument", "%s", message);
    return false;
}

/* ---- the command ---- */

/* Judges what was packed, and writes it when it would be accepted. */
static enum cli_exit judge_and_write(struct cli *cli, const struct capstore_source *wire,
                                     const char *path)
{
    enum cli_exit exit = CLI_FAILED;
    struct capstore_check *check = cli_judge(cli, wire, &exit);
    if (check == NULL) {
        return exit;
    }
    if (check->error == CAPSTORE_OK) {
        struct cli_output output;
        bool good = cli_output_open(cli, path, &output);
        if (good) {
            struct cli_meter meter = {0};
            if (!output.stream) { /* a stream may be the terminal itself */
                cli_meter_start(&meter, "writing", NULL);
            }
            cli->meter = &meter;
            good = cli_output_copy(cli, &output, wire) && cli_output_commit(cli, &output);
            cli_meter_stop(&meter);
            cli->meter = NULL;
            cli_output_close(&output);
        }
        if (!good) {
            capstore_check_free(check);
            return CLI_FAILED;
        }
    }
    exit = cli_print_check(cli, check);
    capstore_check_free(check);
    return exit;
}

static bool describe_input(struct describe *describe, const char *program, uint64_t stack)
{
    if (program != NULL) {
        return describe_elf(describe, program, stack);
    }
    return describe_manifest(describe, describe->cli->arguments[0]);
}

/* More than the error's own words, where the packer means something in particular. */
static const char *what_failed(enum capstore_error error)
{
    if (error == CAPSTORE_E_SSZ) {
        return "a key of a table, or a register of an endpoint, stands there twice (0a and 0A are "
               "one key, 1 and 0x1 one register)";
    }
    if (error == CAPSTORE_E_BODY_TOO_LARGE) {
        return "the content is more than 4 GiB, or reaches above 16 TiB of a slot";
    }
    return NULL;
}

enum cli_exit cli_pack(struct cli *cli)
{
    const char *program = cli_option(cli, "elf");
    const char *path = cli_option(cli, "output");
    uint64_t stack;
    if ((program != NULL) == (cli->argument_count == 1)) {
        return cli_fail(cli, CLI_USAGE, "usage", "pack wants MANIFEST.json or --elf PROG");
    }
    if (path == NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "pack wants -o FILE");
    }
    if (program == NULL && cli_option(cli, "stack") != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "--stack goes with --elf");
    }
    if (!cli_option_size(cli, "stack", DEFAULT_STACK, &stack)) {
        return CLI_USAGE;
    }
    cli->quiet = strcmp(path, "-") == 0;
    if (cli->quiet && cli->json) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "-o - and --json both want the standard output; name a file");
    }
    struct describe describe;
    struct capstore_source wire;
    enum cli_exit exit = CLI_FAILED;
    if (describe_begin(cli, &describe) && describe_input(&describe, program, stack)) {
        struct cli_meter meter;
        cli_meter_start(&meter, "packing", NULL);
        cli->meter = &meter;
        enum capstore_error error = capstore_pack_finish(describe.pack, &wire);
        cli_meter_stop(&meter);
        cli->meter = NULL;
        exit = error == CAPSTORE_OK ? judge_and_write(cli, &wire, path)
                                    : cli_fail_error(cli, error, "pack", what_failed(error));
    } else if (cli->refused) {
        exit = CLI_NO;
    }
    describe_end(&describe);
    return exit;
}
