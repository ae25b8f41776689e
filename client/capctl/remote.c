/* put, publish, get, has, closure: the commands that need a daemon. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/file.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"
#include "client/capctl/resume.h"

/* Reads all arguments as hashes, which the caller frees. NULL after saying what is wrong:
 * *ret_exit. */
static struct capstore_hash *read_hashes(struct cli *cli, enum cli_exit *ret_exit)
{
    size_t count = (size_t)cli->argument_count;
    struct capstore_hash *hashes = calloc(count, sizeof(*hashes));
    if (hashes == NULL) {
        *ret_exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
    }
    for (size_t i = 0; hashes != NULL && i < count; i++) {
        if (!cli_parse_hash(cli, cli->arguments[i], &hashes[i])) {
            *ret_exit = CLI_USAGE;
            free(hashes);
            hashes = NULL;
        }
    }
    return hashes;
}

/* Adds for how long something is promised to stay, and until when by the clock here. Returns the
 * object, which may be NULL. */
static json_t *add_kept(json_t *object, uint32_t kept_s)
{
    char text[32];
    struct tm tm;
    time_t until = time(NULL) + (time_t)kept_s;
    if (object == NULL || json_object_set_new(object, "kept_s", out_u64(kept_s)) != 0) {
        json_decref(object);
        return NULL;
    }
    if (kept_s > 0 && gmtime_r(&until, &tm) != NULL &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0 &&
        json_object_set_new(object, "kept_until", out_text(text)) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* ---- put ---- */

static enum cli_exit print_put(struct cli *cli, const struct capstore_put_result *result)
{
    json_t *object = json_pack("{s:o, s:o, s:b}", "cap_hash", out_hash(&result->cap_hash), "size",
                               out_u64(result->size), "new", result->is_new);
    return cli_print(cli, add_kept(object, result->kept_s), CLI_DONE);
}

/* Says why a Data cap was not published, and what the file is if it is something else. */
static enum cli_exit put_failed(struct cli *cli, const struct capstore *store,
                                const struct cli_input *input, enum capstore_error error)
{
    char nature[CLI_NATURE_SIZE];
    bool known = cli->options[CLI_CANONICAL] != NULL &&
                 (error == CAPSTORE_E_BODY_NOT_CANONICAL || error == CAPSTORE_E_WRONG_KIND) &&
                 cli_recognise(input, nature);
    return known ? cli_fail_error(cli, error, cli->arguments[0], nature)
                 : cli_fail_asked(cli, error, cli->arguments[0], store);
}

enum cli_exit cli_put(struct cli *cli)
{
    uint64_t size;
    uint32_t keep_s;
    enum cli_exit exit = CLI_FAILED;
    struct cli_input input;
    bool canonical = cli->options[CLI_CANONICAL] != NULL;
    if (!cli_option_size(cli, CLI_SIZE, 0, &size) || !cli_option_keep(cli, 0, &keep_s)) {
        return CLI_USAGE;
    }
    if (canonical && cli->options[CLI_SIZE] != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "--size does not go with --canonical");
    }
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct capstore *store = cli_connect_keeping(cli, keep_s, &exit);
    if (store != NULL) {
        struct cli_meter meter;
        cli_meter_begin(cli, &meter, "sending", "waiting for the daemon to hash and store it");
        struct capstore_put_result result;
        enum capstore_error error = capstore_put_data(
            store, &input.source, size, canonical ? CAPSTORE_PUT_CANONICAL : 0, &result);
        cli_meter_end(cli);
        exit =
            error == CAPSTORE_OK ? print_put(cli, &result) : put_failed(cli, store, &input, error);
    }
    capstore_free(store);
    cli_input_close(&input);
    return exit;
}

/* ---- publish ---- */

/* An Image longer than this is not sent if the daemon has it: what fits one frame is sent sooner
 * than it is hashed and asked for. */
#define ASK_ABOVE (UINT64_C(256) << 10)

static enum cli_exit print_published(struct cli *cli, const struct capstore_publish_result *result)
{
    bool dry = cli->options[CLI_DRY_RUN] != NULL;
    json_t *object = json_pack(
        "{s:s, s:o*, s:o, s:o, s:b, s:o, s:o}", "verdict", "accepted", "dry_run",
        dry ? json_true() : NULL, "cap_hash", out_hash(&result->cap_hash), "image_content_hash",
        out_hash(&result->content_hash), "new", result->is_new, "data_new",
        out_u64(result->data_new), "data_present", out_u64(result->data_present));
    return cli_print(cli, dry ? object : add_kept(object, result->kept_s), CLI_DONE);
}

static enum cli_exit print_refused(struct cli *cli, const struct capstore *store,
                                   const struct cli_input *input, enum capstore_error error)
{
    bool dry = cli->options[CLI_DRY_RUN] != NULL;
    char text[CLI_SSZ_SIZE];
    const char *message = capstore_message(store);
    if (error == CAPSTORE_E_SSZ) {
        message = cli_ssz_text(input, message, text);
    }
    json_t *slots = error == CAPSTORE_E_UNRESOLVED_SLOT ? json_array() : NULL;
    for (size_t i = 0; slots != NULL && i < capstore_unresolved_count(store); i++) {
        struct capstore_unresolved_slot slot = capstore_unresolved(store, i);
        slots =
            out_append(slots, json_pack("{s:o, s:o, s:o, s:o}", "table",
                                        out_text(capstore_table_name(slot.table)), "slot",
                                        out_key(slot.slot), "cap_hash", out_hash(&slot.cap_hash),
                                        "kind", out_text(capstore_kind_name(slot.kind))));
    }
    return cli_print(cli,
                     json_pack("{s:s, s:o*, s:o, s:o, s:o*}", "verdict", "refused", "dry_run",
                               dry ? json_true() : NULL, "error",
                               out_text(capstore_error_name(error)), "message", out_text(message),
                               "unresolved", slots),
                     CLI_NO);
}

/* How many distinct caps a judged Image carries as data. */
static uint32_t distinct_data(const struct capstore_check_result *check)
{
    struct capstore_hash *hashes = calloc(check->data_count + 1, sizeof(*hashes));
    size_t count = 0;
    if (hashes != NULL) {
        for (size_t i = 0; i < check->data_count; i++) {
            hashes[i] = check->data[i].cap_hash;
        }
        count = cli_distinct(hashes, check->data_count);
    }
    free(hashes);
    return (uint32_t)count;
}

/* For how long an Image that is published already is kept unless --keep says it: as the daemon
 * keeps what is sent, where its settings are not changed. */
#define USUAL_KEEP_S 86400u

/* Asks for an Image and, unless in a dry run, has it kept, if the daemon knows how. */
static struct capstore_kept ask(struct cli *cli, struct capstore *store,
                                const struct capstore_hash *hash, uint32_t keep_s)
{
    struct capstore_kept kept = {0, 0};
    bool dry = cli->options[CLI_DRY_RUN] != NULL;
    if (capstore_keep(store, hash, 1, dry ? 0 : keep_s, &kept) != CAPSTORE_OK &&
        cli->options[CLI_KEEP] == NULL) {
        (void)capstore_has(store, hash, 1, &kept.kind);
    }
    return kept;
}

/*
 * Asks whether the Image is published already, and has it kept; then all that it names is published
 * as well, and sending it is pointless. True with what the daemon would have answered; false if it
 * must be sent, also after a failure, which sending it will report.
 */
static bool is_published(struct cli *cli, struct capstore *store,
                         const struct capstore_source *wire, uint32_t keep_s,
                         struct capstore_publish_result *ret_result)
{
    struct cli_meter meter;
    struct capstore_check_result *check = NULL;
    struct capstore_kept kept = {0, 0};
    cli_meter_begin(cli, &meter, "hashing", "asking the daemon whether it has it");
    struct capstore_source metered = cli_meter_source(&meter, wire, 2);
    if (capstore_check(&metered, &check) == CAPSTORE_OK && check->error == CAPSTORE_OK) {
        kept = ask(cli, store, &check->cap_hash, keep_s);
    }
    cli_meter_end(cli);
    if (kept.kind == CAPSTORE_KIND_IMAGE) {
        *ret_result = (struct capstore_publish_result){
            .cap_hash = check->cap_hash,
            .content_hash = check->content_hash,
            .body_len = check->body_len,
            .is_new = false,
            .data_new = 0,
            .data_present = distinct_data(check),
            .kept_s = kept.kept_s,
        };
    }
    capstore_check_free(check);
    return kept.kind == CAPSTORE_KIND_IMAGE;
}

enum cli_exit cli_publish(struct cli *cli)
{
    bool dry = cli->options[CLI_DRY_RUN] != NULL;
    unsigned flags = (cli->options[CLI_RESOLVE_ONLY] != NULL ? CAPSTORE_RESOLVE_ONLY : 0) |
                     (dry ? CAPSTORE_DRY_RUN : 0);
    enum cli_exit exit = CLI_FAILED;
    struct cli_input input;
    struct capstore_publish_result result;
    uint32_t keep_s;
    if (!cli_option_keep(cli, 0, &keep_s)) {
        return CLI_USAGE;
    }
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct capstore *store = cli_connect_keeping(cli, keep_s, &exit);
    if (store != NULL && cli->options[CLI_RESEND] == NULL && input.len > ASK_ABOVE &&
        is_published(cli, store, &input.source, keep_s == 0 ? USUAL_KEEP_S : keep_s, &result)) {
        exit = print_published(cli, &result);
    } else if (store != NULL) {
        struct cli_meter meter;
        cli_meter_begin(cli, &meter, "sending",
                        dry ? "waiting for the daemon to check and hash it"
                            : "waiting for the daemon to check, hash and store it");
        enum capstore_error error = capstore_publish(store, &input.source, flags, &result);
        cli_meter_end(cli);
        if (error == CAPSTORE_OK) {
            exit = print_published(cli, &result);
        } else if (cli_is_refusal(error)) {
            exit = print_refused(cli, store, &input, error);
        } else {
            exit = cli_fail_asked(cli, error, cli->arguments[0], store);
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
    if (cli->options[CLI_CONTENT] == NULL) {
        return cli_output_write(cli, output, capstore_cap_body(cap));
    }
    if (capstore_cap_kind(cap) == CAPSTORE_KIND_DATA) {
        return cli_output_data(cli, output, cap);
    }
    (void)capstore_image_code(cap, &address, &code); /* without code the content is empty */
    return cli_output_write(cli, output, code);
}

static json_t *cap_entry(const struct capstore_hash *hash, enum capstore_kind kind,
                         uint64_t body_len)
{
    return json_pack("{s:o, s:o, s:o}", "cap_hash", out_hash(hash), "kind",
                     out_text(capstore_kind_name(kind)), "body_len", out_u64(body_len));
}

/* Writes what was fetched to its destination; with none it was only verified. */
static enum cli_exit deliver(struct cli *cli, const struct capstore_cap *cap, const char *path)
{
    struct cli_output output;
    if (path != NULL) {
        if (!cli_output_open(cli, path, &output)) {
            return CLI_FAILED;
        }
        struct cli_meter meter;
        if (!output.stream) { /* a stream may be the terminal itself */
            cli_meter_begin(cli, &meter, "writing", NULL);
        }
        bool good = write_cap(cli, &output, cap) && cli_output_commit(cli, &output);
        cli_meter_end(cli);
        cli_output_close(&output);
        if (!good) {
            return CLI_FAILED;
        }
        if (strcmp(path, "-") == 0) {
            return CLI_DONE;
        }
    }
    return cli_print(
        cli, cap_entry(capstore_cap_hash(cap), capstore_cap_kind(cap), capstore_cap_body(cap).len),
        CLI_DONE);
}

static enum cli_exit get_one(struct cli *cli)
{
    struct capstore_hash hash;
    enum cli_exit exit = CLI_FAILED;
    const char *path;
    if (!cli_parse_hash(cli, cli->arguments[0], &hash) || !cli_choose_output(cli, &path)) {
        return CLI_USAGE;
    }
    struct capstore *store = cli_connect(cli, &exit);
    struct capstore_cap *cap = store != NULL ? cli_fetch(cli, store, &hash, &exit) : NULL;
    if (cap != NULL) {
        exit = deliver(cli, cap, path);
    }
    capstore_cap_free(cap);
    capstore_free(store);
    return exit;
}

/* ---- many caps ---- */

/* Caps that go to a directory, and what is printed of them. */
struct saving {
    struct cli *cli;
    const char *directory;              /* NULL: nothing is saved */
    const struct capstore_hash *hashes; /* those that were asked for; of a closure NULL */
    json_t *caps;
    struct cli_batch batch; /* of files in the directory */
    enum cli_exit exit;     /* if all goes well but for single caps */
};

/* Writes a cap to the file of its name. False after saying what is wrong. */
static bool save(struct saving *saving, const struct capstore_cap *cap)
{
    struct cli *cli = saving->cli;
    char hex[CAPSTORE_HASH_HEX_SIZE];
    char *path;
    capstore_hash_format(capstore_cap_hash(cap), hex);
    if (asprintf(&path, "%s/%s", saving->directory, hex) < 0) {
        (void)cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        return false;
    }
    struct cli_output *output = cli_batch_open(cli, &saving->batch, path);
    free(path);
    return output != NULL && write_cap(cli, output, cap);
}

/* Puts the files in place and prints, after a call of the library that ended with `error`. */
static enum cli_exit end_saving(struct saving *saving, const struct capstore *store,
                                enum capstore_error error)
{
    struct cli *cli = saving->cli;
    /* What came before the daemon failed stays. */
    bool good = !cli->failed && cli_batch_commit(cli, &saving->batch);
    cli_batch_close(&saving->batch);
    cli_meter_end(cli);
    if (good && error == CAPSTORE_OK) {
        return cli_print(cli, json_pack("{s:o}", "caps", saving->caps), saving->exit);
    }
    json_decref(saving->caps);
    return cli->failed ? CLI_FAILED : cli_fail_error(cli, error, NULL, capstore_message(store));
}

static enum capstore_error on_got(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap)
{
    struct saving *saving = ctx;
    const struct capstore_hash *hash = &saving->hashes[index];
    json_t *entry = cap != NULL
                        ? cap_entry(hash, capstore_cap_kind(cap), capstore_cap_body(cap).len)
                        : json_pack("{s:o, s:o, s:o}", "cap_hash", out_hash(hash), "error",
                                    out_text(capstore_error_name(error)), "message",
                                    out_text(capstore_error_text(error)));
    enum cli_exit exit = cli_exit_of(error);
    saving->exit = exit > saving->exit ? exit : saving->exit;
    if (json_array_set_new(saving->caps, index, entry) != 0) {
        error = CAPSTORE_E_NO_MEMORY;
    } else {
        error = cap == NULL || save(saving, cap) ? CAPSTORE_OK : CAPSTORE_E_IO;
    }
    capstore_cap_free(cap);
    return error;
}

/* Fetches all of them to a directory. What is missing or damaged is said in its place. */
static enum cli_exit get_many(struct cli *cli, const char *directory)
{
    enum cli_exit exit = CLI_FAILED;
    struct capstore *store = NULL;
    size_t count = (size_t)cli->argument_count;
    struct capstore_hash *hashes = read_hashes(cli, &exit);
    if (hashes != NULL && cli_make_directory(cli, directory)) {
        store = cli_connect(cli, &exit);
    }
    if (store != NULL) {
        struct cli_meter meter;
        struct saving saving = {
            .cli = cli, .directory = directory, .hashes = hashes, .caps = json_array()};
        for (size_t i = 0; i < count; i++) {
            saving.caps = out_append(saving.caps, json_null());
        }
        cli_meter_begin(cli, &meter, "fetching", "verifying");
        exit = end_saving(&saving, store, capstore_get_many(store, hashes, count, on_got, &saving));
    }
    capstore_free(store);
    free(hashes);
    return exit;
}

enum cli_exit cli_get(struct cli *cli)
{
    const char *directory = cli->options[CLI_DIRECTORY];
    if (directory != NULL && cli->options[CLI_OUTPUT] != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "-o does not go with -d");
    }
    if (directory == NULL && cli->argument_count > 1) {
        return cli_fail(cli, CLI_USAGE, "usage", "several caps need -d DIR");
    }
    if (cli->options[CLI_RESUME] != NULL) {
        return cli_get_resumed(cli);
    }
    return directory != NULL ? get_many(cli, directory) : get_one(cli);
}

/* ---- has ---- */

static enum cli_exit print_has(struct cli *cli, const struct capstore_hash *hashes, size_t count,
                               const uint8_t *kinds)
{
    json_t *object = json_object();
    enum cli_exit exit = CLI_DONE;
    for (size_t i = 0; i < count; i++) {
        char hex[CAPSTORE_HASH_HEX_SIZE];
        capstore_hash_format(&hashes[i], hex);
        if (kinds[i] == 0) {
            exit = CLI_NO;
        }
        if (json_object_set_new(object, hex, json_boolean(kinds[i] != 0)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return cli_print(cli, object, exit);
}

static enum cli_exit print_kept(struct cli *cli, const struct capstore_hash *hashes, size_t count,
                                const struct capstore_kept *kept)
{
    json_t *object = json_object();
    enum cli_exit exit = CLI_DONE;
    for (size_t i = 0; i < count; i++) {
        char hex[CAPSTORE_HASH_HEX_SIZE];
        bool there = kept[i].kind != 0;
        capstore_hash_format(&hashes[i], hex);
        json_t *entry = there ? add_kept(json_object(), kept[i].kept_s) : json_false();
        exit = there ? exit : CLI_NO;
        if (json_object_set_new(object, hex, entry) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return cli_print(cli, object, exit);
}

/* has --keep */
static enum cli_exit keep(struct cli *cli, uint32_t keep_s)
{
    size_t count = (size_t)cli->argument_count;
    enum cli_exit exit = CLI_FAILED;
    struct capstore *store = NULL;
    struct capstore_kept *kept = calloc(count, sizeof(*kept));
    struct capstore_hash *hashes = read_hashes(cli, &exit);
    if (hashes != NULL && kept == NULL) {
        exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
    } else if (hashes != NULL) {
        store = cli_connect_keeping(cli, 0, &exit);
    }
    if (store != NULL) {
        enum capstore_error error = capstore_keep(store, hashes, count, keep_s, kept);
        exit = error == CAPSTORE_OK ? print_kept(cli, hashes, count, kept)
                                    : cli_fail_error(cli, error, NULL, capstore_message(store));
    }
    capstore_free(store);
    free(kept);
    free(hashes);
    return exit;
}

enum cli_exit cli_has(struct cli *cli)
{
    uint32_t keep_s;
    if (!cli_option_keep(cli, 0, &keep_s)) {
        return CLI_USAGE;
    }
    if (cli->options[CLI_KEEP] != NULL) {
        return keep(cli, keep_s);
    }
    size_t count = (size_t)cli->argument_count;
    enum cli_exit exit = CLI_FAILED;
    struct capstore *store = NULL;
    uint8_t *kinds = calloc(count, 1);
    struct capstore_hash *hashes = read_hashes(cli, &exit);
    if (hashes == NULL) {
        goto out;
    }
    if (kinds == NULL) {
        exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        goto out;
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

static enum capstore_error visit(void *ctx, const struct capstore_closure_entry *entry)
{
    struct saving *saving = ctx;
    saving->caps = out_append(saving->caps, cap_entry(&entry->hash, entry->kind, entry->body_len));
    if (saving->caps == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    return saving->directory == NULL || save(saving, entry->cap) ? CAPSTORE_OK : CAPSTORE_E_IO;
}

enum cli_exit cli_closure(struct cli *cli)
{
    struct capstore_hash root;
    enum cli_exit exit = CLI_FAILED;
    const char *directory = cli->options[CLI_DIRECTORY];
    if (!cli_parse_hash(cli, cli->arguments[0], &root)) {
        return CLI_USAGE;
    }
    if (directory != NULL && !cli_make_directory(cli, directory)) {
        return CLI_FAILED;
    }
    struct capstore *store = cli_connect(cli, &exit);
    if (store == NULL) {
        return exit;
    }
    struct saving saving = {.cli = cli, .directory = directory, .caps = json_array()};
    struct cli_meter meter;
    cli_meter_begin(cli, &meter, "fetching", "verifying");
    unsigned flags = directory != NULL ? CAPSTORE_CLOSURE_BODIES : CAPSTORE_CLOSURE_LIST;
    exit = end_saving(&saving, store, capstore_closure(store, &root, flags, visit, &saving));
    capstore_free(store);
    return exit;
}
