/*
 * What the commands of capctl share: the context of a run, exit statuses, options, messages.
 *
 * A command prints its result as one object (out.h), reports trouble with cli_fail, and returns an
 * exit status. Only main.c parses the command line and owns the context.
 *
 * capctl is a client of libcapstore like any other: it includes <capstore/...> and nothing else of
 * the tree.
 */
#ifndef CLIENT_CAPCTL_CLI_H
#define CLIENT_CAPCTL_CLI_H

#include <capstore/capstore.h>
#include <jansson.h>

#define CLI_DEFAULT_SOCKET "unix:/run/capstore/capstore.sock"
#define CLI_DEFAULT_ADMIN  "unix:/run/capstore/admin.sock"
#define CLI_MAX_SIZE       (UINT64_MAX - (CAPSTORE_PAGE_SIZE - 1)) /* what is rounded up to a page */

enum cli_exit {
    CLI_DONE = 0,
    CLI_NO = 1,     /* the answer is no: refused, absent, corrupt */
    CLI_USAGE = 2,  /* wrong usage */
    CLI_FAILED = 3, /* could not: connection, daemon, disk */
};

struct cli_meter; /* progress.h */

/* The options of commands; each means the same wherever it is taken. */
enum cli_option {
    CLI_OUTPUT,
    CLI_SIZE,
    CLI_ELF,
    CLI_STACK,
    CLI_CANONICAL,
    CLI_RESOLVE_ONLY,
    CLI_DRY_RUN,
    CLI_RESEND,
    CLI_KEEP,
    CLI_CONTENT,
    CLI_DIRECTORY,
    CLI_CLIENTS,
    CLI_IN_FLIGHT,
    CLI_MIX,
    CLI_SECONDS,
    CLI_KIND,
    CLI_SINCE,
    CLI_FROM,
    CLI_TO,
    CLI_SET_ROOTS,
    CLI_FORCE,
    CLI_REPAIR,
    CLI_RESUME,
    CLI_PAGES,
    CLI_VERIFY,
    CLI_OPTION_COUNT,
};

struct cli;

/* A command: its name, what it takes, what it does. */
struct cli_command {
    const char *name;
    const char *arguments; /* as help prints them */
    const char *summary;
    int min_arguments;
    int max_arguments; /* -1: any number */
    unsigned options;  /* bit CLI_... of each option that it takes */
    enum cli_exit (*run)(struct cli *cli);
};

/* A run of the tool. */
struct cli {
    const char *socket;
    const char *admin;
    bool json;
    bool quiet; /* the standard output carries content: no human result there */
    uint32_t timeout_ms;
    const struct cli_command *command;
    const char *options[CLI_OPTION_COUNT]; /* NULL: not given; "" for a flag that is set */
    char **arguments;
    int argument_count;
    struct cli_meter *meter;   /* of what is going on; NULL: none */
    const json_t *failed_with; /* members that cli_fail adds to its object; NULL: none */
    char *said;                /* where cli_fail writes instead of a stream; NULL: nowhere */
    size_t said_size;
    bool failed;           /* cli_fail has spoken */
    enum cli_exit failure; /* what it returned first */
    bool refused;          /* what was described is wrong, rather than unreadable */
};

/* The commands, one group per file. */
enum cli_exit cli_check(struct cli *cli);
enum cli_exit cli_hash(struct cli *cli);
enum cli_exit cli_pack(struct cli *cli);
enum cli_exit cli_put(struct cli *cli);
enum cli_exit cli_publish(struct cli *cli);
enum cli_exit cli_get(struct cli *cli);
enum cli_exit cli_slice(struct cli *cli);
enum cli_exit cli_map(struct cli *cli);
enum cli_exit cli_has(struct cli *cli);
enum cli_exit cli_show(struct cli *cli);
enum cli_exit cli_closure(struct cli *cli);
enum cli_exit cli_dump(struct cli *cli);
enum cli_exit cli_load(struct cli *cli);
enum cli_exit cli_mirror(struct cli *cli);
enum cli_exit cli_admin(struct cli *cli);
enum cli_exit cli_status(struct cli *cli);
enum cli_exit cli_config(struct cli *cli);
enum cli_exit cli_jobs(struct cli *cli);
enum cli_exit cli_events(struct cli *cli);
enum cli_exit cli_backup(struct cli *cli);
enum cli_exit cli_compact(struct cli *cli);
enum cli_exit cli_scrub(struct cli *cli);
enum cli_exit cli_quota(struct cli *cli);
enum cli_exit cli_top(struct cli *cli);
enum cli_exit cli_gc(struct cli *cli);
enum cli_exit cli_roots(struct cli *cli);
enum cli_exit cli_why(struct cli *cli);
enum cli_exit cli_delete(struct cli *cli);
enum cli_exit cli_forbid(struct cli *cli);
enum cli_exit cli_allow(struct cli *cli);
enum cli_exit cli_bench(struct cli *cli);

/* Starts a meter for the run (cli_meter_start), which shows the progress of transfers and is
 * stopped by the first message; and ends it, if it still runs. */
void cli_meter_begin(struct cli *cli, struct cli_meter *meter, const char *label,
                     const char *after);
void cli_meter_end(struct cli *cli);

/*
 * Says what went wrong: a sentence on the standard error, and with --json one object {"error",
 * "message"} on the standard output. `error` is a stable word. Returns `exit`. Where cli->said is
 * set, the sentence goes there alone.
 */
enum cli_exit cli_fail(struct cli *cli, enum cli_exit exit, const char *error, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));

/* The exit status that an error of the library means. */
enum cli_exit cli_exit_of(enum capstore_error error);

/* As cli_fail, for an error of the library; the exit status follows from it. `what` is put in front
 * and may be NULL. */
enum cli_exit cli_fail_error(struct cli *cli, enum capstore_error error, const char *what,
                             const char *message);

/* The same for what an upload over `store` ended with, in its words and with its figures. */
enum cli_exit cli_fail_asked(struct cli *cli, enum capstore_error error, const char *what,
                             const struct capstore *store);

/* As cli_fail, for an errno on the file `path`. */
enum cli_exit cli_fail_errno(struct cli *cli, const char *path, int code);

/* Prints a remark on the standard error. */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether an error is a refusal of what was uploaded or checked: the deblob's rules and limits. */
bool cli_is_refusal(enum capstore_error error);

/* Reads an unsigned integer, decimal or 0x. False for anything else, or what does not fit. */
bool cli_parse_u64(const char *text, uint64_t *ret_value);

/*
 * An option that is a number of bytes: an integer, or a decimal number with K, M, G or T for KiB to
 * TiB. `fallback` when absent. False after saying what is wrong.
 */
bool cli_option_size(struct cli *cli, enum cli_option option, uint64_t fallback,
                     uint64_t *ret_value);

/* --keep: a number of seconds, or of minutes, hours or days with m, h or d. `fallback` when absent.
 * False after saying what is wrong. */
bool cli_option_keep(struct cli *cli, uint32_t fallback, uint32_t *ret_seconds);

/* Reads a hash argument. False after saying what is wrong. */
bool cli_parse_hash(struct cli *cli, const char *text, struct capstore_hash *ret_hash);

/* Sorts hashes and drops the repeated ones. Returns how many are left. */
size_t cli_distinct(struct capstore_hash *hashes, size_t count);

/* Reads pairs of hex digits of either case into `ret_bytes`, which has room for one byte per pair.
 * False for anything else. */
bool cli_hex_parse(const char *text, uint8_t *ret_bytes);

/* A connection to the daemon with progress shown, or NULL after saying what is wrong: *ret_exit. */
struct capstore *cli_connect(struct cli *cli, enum cli_exit *ret_exit);

/* The longest body there is, whatever a daemon claims: offsets in the format have 32 bits. */
#define CLI_LONGEST_BODY (UINT64_C(1) << 33)

/* How to connect for a command that shows the progress of all it does by itself. */
struct cli_connect_options {
    const char *address;
    uint64_t max_body;  /* longest body to accept; 0: CLI_LONGEST_BODY */
    bool show_progress; /* of each body */
    bool leases;        /* speak of them */
    uint32_t keep_s;    /* what publications ask for */
};

/* The same, with options. */
struct capstore *cli_connect_to(struct cli *cli, const struct cli_connect_options *how,
                                enum cli_exit *ret_exit);

/* The same, one that speaks of leases; publications ask to be kept for `keep_s` seconds. */
struct capstore *cli_connect_keeping(struct cli *cli, uint32_t keep_s, enum cli_exit *ret_exit);

/* Fetches a cap with progress shown. NULL after saying what is wrong: *ret_exit. */
struct capstore_cap *cli_fetch(struct cli *cli, struct capstore *store,
                               const struct capstore_hash *hash, enum cli_exit *ret_exit);

#endif
