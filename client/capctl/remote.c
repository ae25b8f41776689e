/* put, publish, get, has, closure: what a daemon is asked for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/capctl/file.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"

/* ---- put ---- */

static enum cli_exit print_put(struct cli *cli, const struct capstore_put_result *result)
{
    struct out out;
    out_begin(&out, cli->json);
    out_hash(&out, "cap_hash", &result->cap_hash);
    out_size(&out, "size", result->size);
    out_bool(&out, "new", result->is_new);
    return cli_print(cli, &out, CLI_DONE);
}

enum cli_exit cli_put(struct cli *cli)
{
    uint64_t size;
    enum cli_exit exit = CLI_FAILED;
    struct cli_input input;
    bool canonical = cli_option(cli, "canonical") != NULL;
    if (!cli_option_size(cli, "size", 0, &size)) {
        return CLI_USAGE;
    }
    if (canonical && cli_option(cli, "size") != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "--canonical states its own size");
    }
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct capstore *store = cli_connect(cli, &exit);
    if (store != NULL) {
        struct cli_meter meter;
        cli_meter_start(&meter, "sending", "waiting for the daemon");
        struct capstore_put_result result;
        cli->meter = &meter;
        enum capstore_error error = capstore_put_data(
            store, &input.source, size, canonical ? CAPSTORE_PUT_CANONICAL : 0, &result);
        cli_meter_stop(&meter);
        cli->meter = NULL;
        exit = error == CAPSTORE_OK
                   ? print_put(cli, &result)
                   : cli_fail_error(cli, error, cli->arguments[0], capstore_message(store));
    }
    capstore_free(store);
    cli_input_close(&input);
    return exit;
}

/* ---- publish ---- */

static enum cli_exit print_published(struct cli *cli, const struct capstore_publish_result *result)
{
    struct out out;
    out_begin(&out, cli->json);
    out_text(&out, "verdict", "accepted");
    out_hash(&out, "cap_hash", &result->cap_hash);
    out_hash(&out, "image_content_hash", &result->content_hash);
    out_bool(&out, "new", result->is_new);
    out_u64(&out, "data_new", result->data_new);
    out_u64(&out, "data_present", result->data_present);
    return cli_print(cli, &out, CLI_DONE);
}

static enum cli_exit print_refused(struct cli *cli, const struct capstore *store,
                                   enum capstore_error error)
{
    struct out out;
    out_begin(&out, cli->json);
    out_text(&out, "verdict", "refused");
    out_text(&out, "error", capstore_error_name(error));
    out_text(&out, "message", capstore_message(store));
    if (error == CAPSTORE_E_UNRESOLVED_SLOT) {
        out_array(&out, "unresolved");
        for (size_t i = 0; i < capstore_unresolved_count(store); i++) {
            struct capstore_unresolved slot = capstore_unresolved(store, i);
            out_object(&out, NULL);
            out_text(&out, "table", capstore_table_name(slot.table));
            out_key(&out, "slot", slot.slot);
            out_hash(&out, "cap_hash", &slot.cap_hash);
            out_text(&out, "kind", capstore_kind_name(slot.kind));
            out_end(&out);
        }
        out_end(&out);
    }
    return cli_print(cli, &out, CLI_NO);
}

enum cli_exit cli_publish(struct cli *cli)
{
    unsigned flags = (cli_option(cli, "resolve-only") != NULL ? CAPSTORE_RESOLVE_ONLY : 0) |
                     (cli_option(cli, "dry-run") != NULL ? CAPSTORE_DRY_RUN : 0);
    enum cli_exit exit = CLI_FAILED;
    struct cli_input input;
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct capstore *store = cli_connect(cli, &exit);
    if (store != NULL) {
        struct cli_meter meter;
        cli_meter_start(&meter, "sending", "waiting for the daemon");
        struct capstore_publish_result result;
        cli->meter = &meter;
        enum capstore_error error = capstore_publish(store, &input.source, flags, &result);
        cli_meter_stop(&meter);
        cli->meter = NULL;
        if (error == CAPSTORE_OK) {
            exit = print_published(cli, &result);
        } else if (cli_is_refusal(error)) {
            exit = print_refused(cli, store, error);
        } else {
            exit = cli_fail_error(cli, error, cli->arguments[0], capstore_message(store));
        }
    }
    capstore_free(store);
    cli_input_close(&input);
    return exit;
}

/* ---- get ---- */

static bool write_cap(struct cli *cli, struct cli_output *output, const struct capstore_cap *cap)
{
    uint64_t address;
    struct capstore_bytes code = {NULL, 0};
    if (cli_option(cli, "content") == NULL) {
        return cli_output_write(cli, output, capstore_cap_body(cap));
    }
    if (capstore_cap_kind(cap) == CAPSTORE_KIND_DATA) {
        return cli_output_data(cli, output, cap);
    }
    (void)capstore_image_code(cap, &address, &code); /* without code the content is empty */
    return cli_output_write(cli, output, code);
}

/* Writes what was fetched where it is wanted; without a file, --json only verifies. */
static enum cli_exit deliver(struct cli *cli, const struct capstore_cap *cap)
{
    const char *path = cli_option(cli, "output");
    if (path == NULL && !cli->json) {
        path = "-";
    }
    struct cli_output output;
    if (path != NULL) {
        if (!cli_output_open(cli, path, &output)) {
            return CLI_FAILED;
        }
        struct cli_meter meter = {0};
        if (!output.stream) { /* a stream may be the terminal itself */
            cli_meter_start(&meter, "writing", NULL);
        }
        cli->meter = &meter;
        bool good = write_cap(cli, &output, cap) && cli_output_commit(cli, &output);
        cli_meter_stop(&meter);
        cli->meter = NULL;
        cli_output_close(&output);
        if (!good) {
            return CLI_FAILED;
        }
        if (strcmp(path, "-") == 0) {
            return CLI_DONE;
        }
    }
    struct out out;
    out_begin(&out, cli->json);
    out_hash(&out, "cap_hash", capstore_cap_hash(cap));
    out_text(&out, "kind", capstore_kind_name(capstore_cap_kind(cap)));
    out_size(&out, "body_len", capstore_cap_body(cap).len);
    return cli_print(cli, &out, CLI_DONE);
}

/* Fetches with progress shown. NULL after saying what is wrong: *ret_exit. */
static struct capstore_cap *fetch(struct cli *cli, struct capstore *store,
                                  const struct capstore_hash *hash, enum cli_exit *ret_exit)
{
    struct cli_meter meter;
    struct capstore_cap *cap = NULL;
    cli_meter_start(&meter, "fetching", "verifying");
    cli->meter = &meter;
    enum capstore_error error = capstore_get(store, hash, &cap);
    cli_meter_stop(&meter);
    cli->meter = NULL;
    if (error == CAPSTORE_OK) {
        return cap;
    }
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(hash, hex);
    *ret_exit = cli_fail_error(cli, error, hex, capstore_message(store));
    return NULL;
}

enum cli_exit cli_get(struct cli *cli)
{
    struct capstore_hash hash;
    enum cli_exit exit = CLI_FAILED;
    const char *path = cli_option(cli, "output");
    bool to_stdout = path != NULL ? strcmp(path, "-") == 0 : !cli->json;
    if (!cli_parse_hash(cli, cli->arguments[0], &hash)) {
        return CLI_USAGE;
    }
    if (to_stdout && cli->json) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "-o - and --json both want the standard output; name a file");
    }
    if (to_stdout && path == NULL && isatty(STDOUT_FILENO) == 1) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "the bytes of a cap do not belong on a terminal; use -o FILE");
    }
    struct capstore *store = cli_connect(cli, &exit);
    struct capstore_cap *cap = store != NULL ? fetch(cli, store, &hash, &exit) : NULL;
    if (cap != NULL) {
        exit = deliver(cli, cap);
    }
    capstore_cap_free(cap);
    capstore_free(store);
    return exit;
}

/* ---- has ---- */

/* Whether an equal hash stands before `i`: JSON wants each member once. */
static bool repeated(const struct capstore_hash *hashes, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (capstore_hash_equal(&hashes[j], &hashes[i])) {
            return true;
        }
    }
    return false;
}

static enum cli_exit print_has(struct cli *cli, const struct capstore_hash *hashes, size_t count,
                               const uint8_t *kinds)
{
    struct out out;
    enum cli_exit exit = CLI_DONE;
    out_begin(&out, cli->json);
    for (size_t i = 0; i < count; i++) {
        char hex[CAPSTORE_HASH_HEX_SIZE];
        capstore_hash_format(&hashes[i], hex);
        if (kinds[i] == 0) {
            exit = CLI_NO;
        }
        if (!repeated(hashes, i)) {
            out_bool(&out, hex, kinds[i] != 0);
        }
    }
    return cli_print(cli, &out, exit);
}

enum cli_exit cli_has(struct cli *cli)
{
    size_t count = (size_t)cli->argument_count;
    enum cli_exit exit = CLI_FAILED;
    struct capstore *store = NULL;
    struct capstore_hash *hashes = calloc(count, sizeof *hashes);
    uint8_t *kinds = calloc(count, 1);
    if (hashes == NULL || kinds == NULL) {
        exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        if (!cli_parse_hash(cli, cli->arguments[i], &hashes[i])) {
            exit = CLI_USAGE;
            goto out;
        }
    }
    store = cli_connect(cli, &exit);
    if (store == NULL) {
        goto out;
    }
    enum capstore_error error = capstore_has(store, hashes, count, kinds);
    exit = error == CAPSTORE_OK ? print_has(cli, hashes, count, kinds)
                                : cli_fail_error(cli, error, NULL, capstore_message(store));
out:
    capstore_free(store);
    free(kinds);
    free(hashes);
    return exit;
}

/* ---- closure ---- */

struct closure {
    struct cli *cli;
    const char *directory;
    struct out *out;
};

static enum capstore_error visit(void *ctx, const struct capstore_closure_entry *entry)
{
    struct closure *closure = (struct closure *)ctx;
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(&entry->hash, hex);
    out_object(closure->out, NULL);
    out_hash(closure->out, "cap_hash", &entry->hash);
    out_text(closure->out, "kind", capstore_kind_name(entry->kind));
    out_size(closure->out, "body_len", entry->body_len);
    out_end(closure->out);
    if (closure->directory == NULL) {
        return CAPSTORE_OK;
    }
    char *path;
    if (asprintf(&path, "%s/%s", closure->directory, hex) < 0) {
        return CAPSTORE_E_NO_MEMORY;
    }
    struct cli_output output;
    bool good = cli_output_open(closure->cli, path, &output);
    if (good) {
        good = cli_output_write(closure->cli, &output, capstore_cap_body(entry->cap)) &&
               cli_output_commit(closure->cli, &output);
        cli_output_close(&output);
    }
    free(path);
    return good ? CAPSTORE_OK : CAPSTORE_E_IO;
}

enum cli_exit cli_closure(struct cli *cli)
{
    struct capstore_hash root;
    enum cli_exit exit = CLI_FAILED;
    const char *directory = cli_option(cli, "directory");
    if (!cli_parse_hash(cli, cli->arguments[0], &root)) {
        return CLI_USAGE;
    }
    if (directory != NULL && mkdir(directory, 0777) < 0 && errno != EEXIST) {
        return cli_fail(cli, CLI_FAILED, "io", "%s: %s", directory, strerror(errno));
    }
    struct capstore *store = cli_connect(cli, &exit);
    if (store == NULL) {
        return exit;
    }
    struct out out;
    struct closure closure = {.cli = cli, .directory = directory, .out = &out};
    struct cli_meter meter;
    cli_meter_start(&meter, "fetching", "verifying");
    cli->meter = &meter;
    out_begin(&out, cli->json);
    out_array(&out, "caps");
    enum capstore_error error = capstore_closure(
        store, &root, directory != NULL ? CAPSTORE_CLOSURE_BODIES : 0, visit, &closure);
    out_end(&out);
    cli_meter_stop(&meter);
    cli->meter = NULL;
    if (error == CAPSTORE_OK) {
        exit = cli_print(cli, &out, CLI_DONE);
    } else {
        cap_buf_free(&out.text);
        exit = cli->failed ? CLI_FAILED : cli_fail_error(cli, error, NULL, capstore_message(store));
    }
    capstore_free(store);
    return exit;
}
