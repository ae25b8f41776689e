/* check and hash: what needs no daemon. */
#include <string.h>

#include "client/capctl/file.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"

enum cli_exit cli_print(struct cli *cli, struct out *out, enum cli_exit exit)
{
    if (out_finish(out, cli->quiet ? stderr : stdout)) {
        return exit;
    }
    return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

static void print_warnings(struct out *out, const struct capstore_check *check)
{
    out_array(out, "warnings");
    for (size_t i = 0; i < check->warning_count; i++) {
        const struct capstore_warning *warning = &check->warnings[i];
        out_object(out, NULL);
        out_text(out, "reason", warning->reason);
        if (warning->has_key) {
            out_key(out, "key", warning->key);
        }
        if (warning->has_index) {
            out_u64(out, "mapping", warning->index);
        }
        if (warning->has_other_index) {
            out_u64(out, "other_mapping", warning->other_index);
        }
        if (warning->has_value && strcmp(warning->reason, "arena_unused") == 0) {
            out_u64(out, "bytes", warning->value);
        } else if (warning->has_value) {
            out_address(out, "address", warning->value);
        }
        out_text(out, "message", warning->text);
        out_end(out);
    }
    out_end(out);
}

static void print_caps(struct out *out, const struct capstore_check *check)
{
    out_array(out, "data");
    for (size_t i = 0; i < check->data_count; i++) {
        const struct capstore_check_data *data = &check->data[i];
        out_object(out, NULL);
        out_text(out, "table", capstore_table_name(data->table));
        out_key(out, "slot", data->slot);
        out_size(out, "size", data->size);
        out_hash(out, "cap_hash", &data->cap_hash);
        out_size(out, "body_len", data->body_len);
        out_end(out);
    }
    out_end(out);
    out_array(out, "images");
    for (size_t i = 0; i < check->image_count; i++) {
        out_object(out, NULL);
        out_key(out, "slot", check->images[i].slot);
        out_hash(out, "cap_hash", &check->images[i].cap_hash);
        out_end(out);
    }
    out_end(out);
}

enum cli_exit cli_print_check(struct cli *cli, const struct capstore_check *check)
{
    struct out out;
    out_begin(&out, cli->json);
    if (check->error != CAPSTORE_OK) {
        out_text(&out, "verdict", "refused");
        out_text(&out, "error", capstore_error_name(check->error));
        out_text(&out, "message", check->message);
        return cli_print(cli, &out, CLI_NO);
    }
    out_text(&out, "verdict", "accepted");
    out_hash(&out, "image_content_hash", &check->content_hash);
    out_hash(&out, "cap_hash", &check->cap_hash);
    out_size(&out, "body_len", check->body_len);
    print_caps(&out, check);
    print_warnings(&out, check);
    return cli_print(cli, &out, CLI_DONE);
}

struct capstore_check *cli_judge(struct cli *cli, const struct capstore_source *wire,
                                 enum cli_exit *ret_exit)
{
    struct cli_meter meter;
    cli_meter_start(&meter, "checking", NULL);
    cli->meter = &meter;
    /* The arena is read for the content hash and once more for what names it. */
    struct capstore_source metered = cli_meter_source(&meter, wire, 2);
    struct capstore_check *check = NULL;
    enum capstore_error error = capstore_check(&metered, &check);
    cli_meter_stop(&meter);
    cli->meter = NULL;
    if (error != CAPSTORE_OK) {
        *ret_exit = cli_fail_error(cli, error, "check", NULL);
    }
    return check;
}

/* What get and closure fetch is no wire Image, but not broken either. */
static void note_body(const struct cli *cli, const struct cli_input *input)
{
    struct capstore_cap *cap = cli_input_body(input);
    if (cap != NULL) {
        cli_note("%s is no wire Image but a sound served body (kind: %s); show reads it",
                 cli->arguments[0], capstore_kind_name(capstore_cap_kind(cap)));
    }
    capstore_cap_free(cap);
}

enum cli_exit cli_check(struct cli *cli)
{
    struct cli_input input;
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    enum cli_exit exit = CLI_FAILED;
    struct capstore_check *check = cli_judge(cli, &input.source, &exit);
    if (check != NULL) {
        if (check->error == CAPSTORE_E_SSZ) {
            note_body(cli, &input);
        }
        exit = cli_print_check(cli, check);
    }
    capstore_check_free(check);
    cli_input_close(&input);
    return exit;
}

enum cli_exit cli_hash(struct cli *cli)
{
    uint64_t size;
    struct cli_input input;
    if (!cli_option_size(cli, "size", 0, &size)) {
        return CLI_USAGE;
    }
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct cli_meter meter;
    cli_meter_start(&meter, "hashing", NULL);
    cli->meter = &meter;
    struct capstore_source metered = cli_meter_source(&meter, &input.source, 1);
    struct capstore_data_id id;
    enum capstore_error error = capstore_data_hash(&metered, size, &id);
    cli_meter_stop(&meter);
    cli->meter = NULL;
    cli_input_close(&input);
    if (error != CAPSTORE_OK) {
        return cli_fail_error(cli, error, cli->arguments[0], NULL);
    }
    struct out out;
    out_begin(&out, cli->json);
    out_hash(&out, "cap_hash", &id.cap_hash);
    out_size(&out, "size", id.size);
    out_size(&out, "body_len", id.body_len);
    return cli_print(cli, &out, CLI_DONE);
}
