/* pack: a manifest or a program to the one canonical wire Image. */
#include <string.h>

#include "client/capctl/elf_pack.h"
#include "client/capctl/manifest.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"

#define DEFAULT_STACK (UINT64_C(1) << 20) /* zeros: it costs the store nothing */

/* Judges what was packed, and writes it when it would be accepted. */
static enum cli_exit judge_and_write(struct cli *cli, struct describe *describe,
                                     const struct capstore_source *wire, const char *path)
{
    enum cli_exit exit = CLI_FAILED;
    struct capstore_check_result *check = cli_judge(cli, wire, &exit);
    if (check == NULL) {
        return exit;
    }
    if (check->error == CAPSTORE_OK) {
        struct cli_output output;
        bool good = cli_output_open(cli, path, &output);
        if (good) {
            struct cli_meter meter;
            if (!output.stream) { /* a stream may be the terminal itself */
                cli_meter_begin(cli, &meter, "writing", NULL);
            }
            good = cli_output_copy(cli, &output, wire) && cli_output_commit(cli, &output);
            cli_meter_end(cli);
            cli_output_close(&output);
        }
        if (!good) {
            capstore_check_free(check);
            return CLI_FAILED;
        }
    }
    exit = cli_print_check(cli, check, describe->warnings, NULL);
    describe->warnings = NULL;
    capstore_check_free(check);
    return exit;
}

static bool describe_input(struct describe *describe, const char *program, uint64_t stack)
{
    if (program != NULL) {
        return elf_pack(describe, program, stack);
    }
    return manifest_read(describe, describe->cli->arguments[0]);
}

/* More than the error's own words, where the packer means something in particular. */
static const char *what_failed(enum capstore_error error)
{
    if (error == CAPSTORE_E_SSZ) {
        return "duplicate key or register (0a and 0A are one key, 1 and 0x1 one register)";
    }
    if (error == CAPSTORE_E_BODY_TOO_LARGE) {
        return "the content is more than 4 GiB, or reaches above 16 TiB of a slot";
    }
    return NULL;
}

enum cli_exit cli_pack(struct cli *cli)
{
    const char *program = cli->options[CLI_ELF];
    const char *path = cli->options[CLI_OUTPUT];
    uint64_t stack;
    if ((program != NULL) == (cli->argument_count == 1)) {
        return cli_fail(cli, CLI_USAGE, "usage", "pack needs either MANIFEST.json or --elf PROG");
    }
    if (path == NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "pack needs -o FILE");
    }
    if (program == NULL && cli->options[CLI_STACK] != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "--stack goes with --elf");
    }
    if (!cli_option_size(cli, CLI_STACK, DEFAULT_STACK, &stack)) {
        return CLI_USAGE;
    }
    cli->quiet = strcmp(path, "-") == 0;
    if (cli->quiet && cli->json) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "-o - and --json cannot share the standard output; name a file");
    }
    struct describe describe;
    struct capstore_source wire;
    enum cli_exit exit = CLI_FAILED;
    if (describe_begin(cli, &describe) && describe_input(&describe, program, stack)) {
        struct cli_meter meter;
        cli_meter_begin(cli, &meter, "packing", NULL);
        enum capstore_error error = capstore_pack_finish(describe.pack, &wire);
        cli_meter_end(cli);
        exit = error == CAPSTORE_OK ? judge_and_write(cli, &describe, &wire, path)
                                    : cli_fail_error(cli, error, "pack", what_failed(error));
    } else if (cli->refused) {
        exit = CLI_NO;
    }
    describe_end(&describe);
    return exit;
}
