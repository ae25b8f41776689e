/* slice: pages of a cap with their proof, fetched, or checked offline. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/capctl/progress.h"
#include "client/capctl/result.h"

#define STEP ((size_t)64 << 10) /* read at a time */

/* What a slice has proven. */
struct proven {
    struct cli *cli;
    struct cli_output *output; /* where its bytes go; NULL: nowhere */
    enum capstore_kind kind;   /* 0: not even its head */
    uint64_t size;
    uint64_t page_count;
    uint64_t pages; /* of the slice, zero or not */
    uint64_t zero_pages;
    uint64_t len; /* bytes of the slice */
};

static enum capstore_error on_head(void *ctx, const struct capstore_slice_head *head)
{
    struct proven *proven = ctx;
    proven->kind = head->kind;
    proven->size = head->size;
    proven->page_count = head->page_count;
    return CAPSTORE_OK;
}

static enum capstore_error on_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    static const uint8_t zeros[CAPSTORE_PAGE_SIZE];
    struct proven *proven = ctx;
    (void)first;
    proven->pages += count;
    for (size_t i = 0; i < count; i++) {
        proven->zero_pages += memcmp(bytes + i * sizeof(zeros), zeros, sizeof(zeros)) == 0;
    }
    return CAPSTORE_OK;
}

static enum capstore_error on_zeros(void *ctx, uint64_t first, uint64_t count)
{
    struct proven *proven = ctx;
    (void)first;
    proven->pages += count;
    proven->zero_pages += count;
    return CAPSTORE_OK;
}

static struct capstore_slice_sink sink_of(struct proven *proven)
{
    return (struct capstore_slice_sink){on_head, on_pages, on_zeros, proven};
}

static enum cli_exit print_proven(const struct proven *proven, const struct capstore_hash *hash)
{
    return cli_print(proven->cli,
                     json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "cap_hash", out_hash(hash),
                               "kind", out_text(capstore_kind_name(proven->kind)), "size",
                               out_u64(proven->size), "page_count", out_u64(proven->page_count),
                               "pages", out_u64(proven->pages), "zero_pages",
                               out_u64(proven->zero_pages), "slice_len", out_u64(proven->len)),
                     CLI_DONE);
}

/* ---- which pages ---- */

/* Reads "N" or "N-M", which ends at `end`. */
static bool parse_range(const char *text, const char *end, struct capstore_range *ret_range)
{
    char copy[64];
    uint64_t last;
    size_t len = (size_t)(end - text);
    if (len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *dash = strchr(copy, '-');
    if (dash != NULL) {
        *dash = '\0';
    }
    if (!cli_parse_u64(copy, &ret_range->first) ||
        !cli_parse_u64(dash != NULL ? dash + 1 : copy, &last) || last < ret_range->first ||
        last - ret_range->first == UINT64_MAX) {
        return false;
    }
    ret_range->pages = last - ret_range->first + 1;
    return true;
}

/* --pages: *ret_ranges, which the caller frees; NULL without the option. False after saying what is
 * wrong. */
static bool option_pages(struct cli *cli, struct capstore_range **ret_ranges, size_t *ret_count)
{
    const char *text = cli->options[CLI_PAGES];
    *ret_ranges = NULL;
    *ret_count = 0;
    if (text == NULL) {
        return true;
    }
    struct capstore_range *ranges = calloc(strlen(text) + 1, sizeof(*ranges));
    if (ranges == NULL) {
        (void)cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        return false;
    }
    for (const char *at = text;; at++) {
        const char *end = strchrnul(at, ',');
        if (!parse_range(at, end, &ranges[(*ret_count)++])) {
            free(ranges);
            (void)cli_fail(cli, CLI_USAGE, "usage",
                           "--pages: \"%s\" does not name pages: numbers and ranges, such as "
                           "0-15,100",
                           text);
            return false;
        }
        at = end;
        if (*at == '\0') {
            break;
        }
    }
    *ret_ranges = ranges;
    return true;
}

/* ---- checking ---- */

/* Reads all of a descriptor and checks it. Returns 0 or an errno; *ret_error is how the check
 * ended. */
static int check_all(int fd, struct capstore_slice_verifier *verifier, struct proven *proven,
                     enum capstore_error *ret_error)
{
    static uint8_t buffer[STEP];
    *ret_error = CAPSTORE_OK;
    while (*ret_error == CAPSTORE_OK) {
        ssize_t n = read(fd, buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        if (n == 0) {
            *ret_error = capstore_slice_verifier_finish(verifier);
            return 0;
        }
        proven->len += (uint64_t)n;
        *ret_error =
            capstore_slice_verifier_take(verifier, (struct capstore_bytes){buffer, (size_t)n});
    }
    return 0;
}

static enum cli_exit fail_where(struct cli *cli, const char *path, enum capstore_error error,
                                const struct capstore_slice_verifier *verifier)
{
    struct capstore_slice_where where = capstore_slice_verifier_where(verifier);
    char message[200];
    if (error == CAPSTORE_E_SLICE_MISMATCH) {
        snprintf(message, sizeof(message),
                 "a hash does not match: node %" PRIu64 " of level %u, before byte %" PRIu64,
                 where.index, where.level, where.offset);
    } else if (error == CAPSTORE_E_SLICE_MALFORMED) {
        snprintf(message, sizeof(message), "not a canonical slice%s, from byte %" PRIu64 " on",
                 cli->options[CLI_PAGES] != NULL ? " of these pages" : "", where.offset);
    } else {
        return cli_fail_error(cli, error, path, NULL);
    }
    return cli_fail_error(cli, error, path, message);
}

static enum cli_exit verify(struct cli *cli, const struct capstore_hash *hash,
                            const struct capstore_range *ranges, size_t count)
{
    const char *path = cli->options[CLI_VERIFY];
    bool standard = strcmp(path, "-") == 0;
    struct proven proven = {.cli = cli};
    const struct capstore_slice_sink sink = sink_of(&proven);
    struct capstore_slice_verifier *verifier = NULL;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cli_fail_errno(cli, path, errno);
    }
    enum capstore_error error = capstore_slice_verifier_new(hash, ranges, count, &sink, &verifier);
    int code = error == CAPSTORE_OK ? check_all(fd, verifier, &proven, &error) : 0;
    enum cli_exit exit = code != 0 ? cli_fail_errno(cli, standard ? "standard input" : path, code)
                         : error == CAPSTORE_E_NO_MEMORY ? cli_fail_error(cli, error, path, NULL)
                         : error != CAPSTORE_OK          ? fail_where(cli, path, error, verifier)
                                                         : print_proven(&proven, hash);
    capstore_slice_verifier_free(verifier);
    if (!standard) {
        close(fd);
    }
    return exit;
}

/* ---- fetching ---- */

static enum capstore_error on_bytes(void *ctx, struct capstore_bytes piece)
{
    struct proven *proven = ctx;
    proven->len += piece.len;
    return proven->output == NULL || cli_output_write(proven->cli, proven->output, piece)
               ? CAPSTORE_OK
               : CAPSTORE_E_IO;
}

static enum cli_exit fetch_to(struct cli *cli, const struct capstore_hash *hash,
                              const struct capstore_range *ranges, size_t count,
                              struct cli_output *output)
{
    enum cli_exit exit = CLI_FAILED;
    struct proven proven = {.cli = cli, .output = output};
    const struct capstore_slice_sink sink = sink_of(&proven);
    struct capstore *store = cli_connect(cli, &exit);
    if (store == NULL) {
        return exit;
    }
    struct cli_meter meter;
    cli_meter_begin(cli, &meter, "fetching", NULL);
    enum capstore_error error =
        capstore_slice(store, hash, ranges, count, &sink, on_bytes, &proven);
    cli_meter_end(cli);
    if (cli->failed) {
        exit = CLI_FAILED; /* the output could not be written */
    } else if (error != CAPSTORE_OK) {
        exit = cli_fail_error(cli, error, cli->arguments[0], capstore_message(store));
    } else if (output != NULL && !cli_output_commit(cli, output)) {
        exit = CLI_FAILED;
    } else {
        exit = cli->quiet ? CLI_DONE : print_proven(&proven, hash);
    }
    capstore_free(store);
    return exit;
}

static enum cli_exit fetch(struct cli *cli, const struct capstore_hash *hash,
                           const struct capstore_range *ranges, size_t count)
{
    const char *path;
    struct cli_output output;
    if (!cli_choose_output(cli, &path)) {
        return CLI_USAGE;
    }
    if (path == NULL) {
        return fetch_to(cli, hash, ranges, count, NULL);
    }
    cli->quiet = strcmp(path, "-") == 0;
    if (!cli_output_open(cli, path, &output)) {
        return CLI_FAILED;
    }
    enum cli_exit exit = fetch_to(cli, hash, ranges, count, &output);
    cli_output_close(&output);
    return exit;
}

enum cli_exit cli_slice(struct cli *cli)
{
    struct capstore_hash hash;
    struct capstore_range *ranges;
    size_t count;
    if (!cli_parse_hash(cli, cli->arguments[0], &hash)) {
        return CLI_USAGE;
    }
    if (cli->options[CLI_VERIFY] != NULL && cli->options[CLI_OUTPUT] != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage", "-o does not go with --verify");
    }
    if (!option_pages(cli, &ranges, &count)) {
        return cli->failure;
    }
    enum cli_exit exit = cli->options[CLI_VERIFY] != NULL ? verify(cli, &hash, ranges, count)
                                                          : fetch(cli, &hash, ranges, count);
    free(ranges);
    return exit;
}
