/* mirror: what one store has and another lacks. */
#include "client/capctl/all.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"
#include "client/capctl/sender.h"

struct mirroring {
    struct cli *cli;
    struct cli_sender sender;
    uint64_t total_bytes;
};

static bool is_there(void *ctx, const struct capstore_hash *hashes, size_t count, bool *ret_known)
{
    struct mirroring *mirroring = ctx;
    return cli_sender_has(&mirroring->sender, hashes, count, ret_known);
}

static bool send_cap(void *ctx, struct capstore_cap *cap)
{
    struct mirroring *mirroring = ctx;
    struct cli *cli = mirroring->cli;
    bool good = cli_sender_put(&mirroring->sender, cap);
    if (cli->meter != NULL) {
        cli_meter_update(cli->meter, mirroring->sender.sent_bytes, mirroring->total_bytes);
    }
    return good;
}

static enum cli_exit print_mirrored(struct cli *cli, const struct mirroring *mirroring,
                                    uint64_t left_out)
{
    return cli_print(cli,
                     json_pack("{s:o, s:o, s:o}", "sent", out_u64(mirroring->sender.sent),
                               "body_bytes", out_u64(mirroring->sender.sent_bytes), "left_out",
                               out_u64(left_out)),
                     left_out > 0 ? CLI_NO : CLI_DONE);
}

enum cli_exit cli_mirror(struct cli *cli)
{
    struct mirroring mirroring = {.cli = cli};
    struct cli_walk walk = {.cli = cli, .known = is_there, .take = send_cap, .ctx = &mirroring};
    if (cli->options[CLI_FROM] == NULL || cli->options[CLI_TO] == NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "name both daemons with --from and --to");
    }
    bool good = cli_all_bytes(cli, &mirroring.total_bytes) &&
                cli_walk_open(&walk, cli->options[CLI_FROM]) &&
                cli_sender_open(cli, &mirroring.sender, cli->options[CLI_TO]);
    if (good) {
        struct cli_meter meter;
        cli_meter_begin(cli, &meter, "sending", "sending");
        good = cli_visit_all(cli, &walk) && cli_sender_drain(&mirroring.sender);
        cli_meter_end(cli);
    }
    enum cli_exit exit = good ? print_mirrored(cli, &mirroring, walk.left_count) : cli->failure;
    cli_sender_close(&mirroring.sender);
    cli_walk_close(&walk);
    return exit;
}
