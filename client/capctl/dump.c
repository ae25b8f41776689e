/* dump and load: caps to a stream, and from it into a store. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/capctl/admin.h"
#include "client/capctl/all.h"
#include "client/capctl/dump_file.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"
#include "client/capctl/sender.h"

/* ---- dump ---- */

struct dumping {
    struct cli *cli;
    struct dump_writer writer;
    struct cli_seen seen; /* that were written */
    uint64_t total_bytes;
};

static bool is_written(void *ctx, const struct capstore_hash *hashes, size_t count, bool *ret_known)
{
    const struct dumping *dumping = ctx;
    for (size_t i = 0; i < count; i++) {
        ret_known[i] = cli_seen_has(&dumping->seen, &hashes[i]);
    }
    return true;
}

static bool write_cap(void *ctx, struct capstore_cap *cap)
{
    struct dumping *dumping = ctx;
    struct cli *cli = dumping->cli;
    bool good = dump_write_cap(&dumping->writer, cap);
    if (good && !cli_seen_add(&dumping->seen, capstore_cap_hash(cap))) {
        (void)cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        good = false;
    }
    capstore_cap_free(cap);
    if (cli->meter != NULL) {
        cli_meter_update(cli->meter, dumping->writer.counts.body_bytes, dumping->total_bytes);
    }
    return good;
}

/* Writes a root whose cap was written. */
static bool write_root(void *ctx, const char *name, const struct capstore_hash *hash)
{
    struct dumping *dumping = ctx;
    return !cli_seen_has(&dumping->seen, hash) || dump_write_root(&dumping->writer, name, hash);
}

/* Without arguments all roots, else those among the arguments. */
static bool write_roots(struct dumping *dumping)
{
    struct cli *cli = dumping->cli;
    if (cli->argument_count == 0) {
        return cli_each_root(cli, write_root, dumping);
    }
    for (int i = 0; i < cli->argument_count; i++) {
        struct capstore_hash hash;
        const char *text = cli->arguments[i];
        if (capstore_hash_parse(text, &hash) != CAPSTORE_OK &&
            !(cli_cap_named(cli, text, &hash) && write_root(dumping, text, &hash))) {
            return false;
        }
    }
    return true;
}

static enum cli_exit print_dumped(struct cli *cli, const struct dumping *dumping, uint64_t left_out)
{
    const struct dump_counts *counts = &dumping->writer.counts;
    return cli_print(cli,
                     json_pack("{s:o, s:o, s:o, s:o}", "caps", out_u64(counts->caps), "body_bytes",
                               out_u64(counts->body_bytes), "roots", out_u64(counts->roots),
                               "left_out", out_u64(left_out)),
                     left_out > 0 ? CLI_NO : CLI_DONE);
}

/* Where the dump goes. NULL after saying what is wrong. */
static const char *dump_path(struct cli *cli)
{
    const char *path = cli->options[CLI_OUTPUT];
    if (path == NULL) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "name the file with -o FILE; - is the standard output");
        return NULL;
    }
    cli->quiet = strcmp(path, "-") == 0;
    if (cli->quiet && cli->json) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "-o - and --json cannot share the standard output; name a file");
        return NULL;
    }
    if (cli->quiet && isatty(STDOUT_FILENO) == 1) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "the bytes of a dump do not belong on a terminal; use -o FILE");
        return NULL;
    }
    return path;
}

enum cli_exit cli_dump(struct cli *cli)
{
    struct dumping dumping = {.cli = cli};
    struct cli_walk walk = {.cli = cli, .known = is_written, .take = write_cap, .ctx = &dumping};
    struct capstore_daemon_info info = {0};
    const char *path = dump_path(cli);
    bool good = path != NULL && cli_all_bytes(cli, &dumping.total_bytes) &&
                cli_walk_open(&walk, cli->socket);
    if (good) {
        struct cli_meter meter;
        (void)capstore_info(walk.many, &info); /* it is connected */
        cli_meter_begin(cli, &meter, "dumping", "dumping");
        good = dump_create(cli, &dumping.writer, path, info.store_id) &&
               cli_visit_all(cli, &walk) && write_roots(&dumping) && dump_finish(&dumping.writer);
        cli_meter_end(cli);
        dump_writer_close(&dumping.writer);
    }
    enum cli_exit exit = good ? print_dumped(cli, &dumping, walk.left_count) : cli->failure;
    cli_seen_free(&dumping.seen);
    cli_walk_close(&walk);
    return exit;
}

/* ---- load ---- */

#define WINDOW_CAPS  256u
#define WINDOW_BYTES (UINT64_C(16) << 20)

/* Caps that were read, and are asked for together. */
struct loading {
    struct cli *cli;
    struct cli_sender sender;
    struct dump_reader reader;
    struct capstore_cap *caps[WINDOW_CAPS];
    size_t count;
    uint64_t bytes;
    uint64_t present; /* that were there */
    json_t *roots;
};

static void drop_window(struct loading *loading)
{
    for (size_t i = 0; i < loading->count; i++) {
        capstore_cap_free(loading->caps[i]);
    }
    loading->count = 0;
    loading->bytes = 0;
}

/* Publishes what of the window is not there. False after saying what is wrong. */
static bool flush_window(struct loading *loading)
{
    struct capstore_hash hashes[WINDOW_CAPS];
    bool there[WINDOW_CAPS] = {false};
    for (size_t i = 0; i < loading->count; i++) {
        hashes[i] = *capstore_cap_hash(loading->caps[i]);
    }
    bool good =
        loading->count == 0 || cli_sender_has(&loading->sender, hashes, loading->count, there);
    for (size_t i = 0; good && i < loading->count; i++) {
        if (there[i]) {
            loading->present++;
        } else {
            good = cli_sender_put(&loading->sender, loading->caps[i]);
            loading->caps[i] = NULL;
        }
    }
    drop_window(loading);
    return good;
}

static bool take_cap(struct loading *loading, struct capstore_cap *cap)
{
    loading->caps[loading->count++] = cap;
    loading->bytes += capstore_cap_body(cap).len;
    return (loading->count < WINDOW_CAPS && loading->bytes < WINDOW_BYTES) || flush_window(loading);
}

/* Reads to the end. False after saying what is wrong; then all that came before it is published. */
static bool load_all(struct loading *loading)
{
    struct dump_record record;
    bool good = true;
    do {
        good = dump_next(&loading->reader, &record);
        if (good && record.type == DUMP_CAP) {
            good = take_cap(loading, record.cap);
        } else if (good && record.type == DUMP_ROOT) {
            loading->roots =
                out_append(loading->roots, json_pack("{s:s, s:o}", "name", record.name, "cap_hash",
                                                     out_hash(&record.hash)));
        }
        if (loading->cli->meter != NULL) {
            cli_meter_update(loading->cli->meter, loading->reader.at, 0);
        }
    } while (good && record.type != DUMP_END);
    bool published = flush_window(loading) && cli_sender_drain(&loading->sender);
    return good && published;
}

/* Sets the roots of the dump, once all is published, if that is asked for. */
static bool set_roots(struct loading *loading)
{
    struct cli *cli = loading->cli;
    enum cli_exit exit; /* the tool remembers it */
    size_t count = cli->options[CLI_SET_ROOTS] == NULL ? 0 : json_array_size(loading->roots);
    struct cli_admin *admin = count == 0 ? NULL : cli_admin_open(cli, &exit);
    bool good = count == 0 || admin != NULL;
    for (size_t i = 0; good && i < count; i++) {
        const json_t *root = json_array_get(loading->roots, i);
        json_t *set = cli_admin_call(admin, "roots.set",
                                     json_pack("{s:O, s:O}", "name", json_object_get(root, "name"),
                                               "hash", json_object_get(root, "cap_hash")),
                                     &exit);
        good = set != NULL;
        json_decref(set);
    }
    cli_admin_close(admin);
    return good;
}

static enum cli_exit print_loaded(struct cli *cli, const struct loading *loading)
{
    const struct dump_counts *counts = &loading->reader.counts;
    const struct cli_sender *sender = &loading->sender;
    return cli_print(
        cli,
        json_pack("{s:o, s:o, s:o, s:o, s:O}", "caps", out_u64(counts->caps), "body_bytes",
                  out_u64(counts->body_bytes), "new", out_u64(sender->sent), "present",
                  out_u64(loading->present + sender->present), "roots", loading->roots),
        CLI_DONE);
}

enum cli_exit cli_load(struct cli *cli)
{
    struct loading *loading = calloc(1, sizeof(*loading));
    if (loading == NULL) {
        return cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
    }
    loading->cli = cli;
    loading->roots = json_array();
    bool good = dump_open(cli, &loading->reader, cli->arguments[0]) &&
                cli_sender_open(cli, &loading->sender, cli->socket);
    if (good) {
        struct cli_meter meter;
        cli_meter_begin(cli, &meter, "loading", NULL);
        good = load_all(loading) && set_roots(loading);
        cli_meter_end(cli);
    }
    enum cli_exit exit = good ? print_loaded(cli, loading) : cli->failure;
    drop_window(loading);
    json_decref(loading->roots);
    dump_reader_close(&loading->reader);
    cli_sender_close(&loading->sender);
    free(loading);
    return exit;
}
