/*
 * What the commands of capctl share: the context of a run, exit statuses, arguments, messages.
 *
 * A command prints its result as one object (out.h), its troubles through cli_fail, and returns an
 * exit status. Only main.c parses the global options and owns the context.
 */
#ifndef CLIENT_CAPCTL_CLI_H
#define CLIENT_CAPCTL_CLI_H

#include <capstore/capstore.h>

#define CLI_DEFAULT_SOCKET "unix:/run/capstore/capstore.sock"
#define CLI_DEFAULT_ADMIN  "unix:/run/capstore/admin.sock"
#define CLI_MAX_OPTIONS    6
#define CLI_MAX_SIZE       (UINT64_MAX - (CAPSTORE_PAGE_SIZE - 1)) /* what is rounded up to a page */

enum cli_exit {
    CLI_DONE = 0,
    CLI_NO = 1,     /* the answer is no: refused, absent, corrupt */
    CLI_USAGE = 2,  /* wrong usage */
    CLI_FAILED = 3, /* could not: connection, daemon, disk */
};

struct cli_meter; /* progress.h */

/* An option of a command. `letter` 0: none; `value` NULL: a flag, else what it is called in help.
 */
struct cli_option {
    const char *name; /* without the dashes */
    char letter;
    const char *value;
    const char *help;
};

struct cli;

/* A command: what it is called, what it takes, what it does. */
struct cli_command {
    const char *name;
    const char *arguments; /* as help prints them */
    const char *summary;
    int min_arguments;
    int max_arguments; /* -1: any number */
    struct cli_option options[CLI_MAX_OPTIONS];
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
    const char *values[CLI_MAX_OPTIONS]; /* of command->options; "" for a flag that is set */
    char **arguments;
    int argument_count;
    struct cli_meter *meter; /* of the transfer that runs */
    bool failed;             /* cli_fail has spoken */
    bool refused;            /* what was described is wrong, rather than unreadable */
};

/* The commands, one group per file. */
enum cli_exit cli_check(struct cli *cli);
enum cli_exit cli_hash(struct cli *cli);
enum cli_exit cli_pack(struct cli *cli);
enum cli_exit cli_put(struct cli *cli);
enum cli_exit cli_publish(struct cli *cli);
enum cli_exit cli_get(struct cli *cli);
enum cli_exit cli_has(struct cli *cli);
enum cli_exit cli_show(struct cli *cli);
enum cli_exit cli_closure(struct cli *cli);
enum cli_exit cli_admin(struct cli *cli);
enum cli_exit cli_status(struct cli *cli);

/* The value of an option of the command, NULL when it was not given. */
const char *cli_option(const struct cli *cli, const char *name);

/*
 * Says what went wrong: a sentence on the standard error, and with --json one object {"error",
 * "message"} on the standard output. `error` is a stable word. Returns `exit`.
 */
enum cli_exit cli_fail(struct cli *cli, enum cli_exit exit, const char *error, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));

/* As cli_fail, for an error of the library; the exit status follows from it. `what` stands in front
 * and may be NULL. */
enum cli_exit cli_fail_error(struct cli *cli, enum capstore_error error, const char *what,
                             const char *message);

/* Prints a remark on the standard error. */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The exit status that an error of the library means. */
enum cli_exit cli_exit_of(enum capstore_error error);

/* Whether an error is a refusal of what was uploaded or checked: the deblob's rules and limits. */
bool cli_is_refusal(enum capstore_error error);

/* Reads an unsigned integer, decimal or 0x. False for anything else, or what does not fit. */
bool cli_parse_u64(const char *text, uint64_t *ret_value);

/* An option that is a number of bytes, `fallback` when absent. False after saying what is wrong. */
bool cli_option_size(struct cli *cli, const char *name, uint64_t fallback, uint64_t *ret_value);

/* Reads a hash argument. False after saying what is wrong. */
bool cli_parse_hash(struct cli *cli, const char *text, struct capstore_hash *ret_hash);

/* A connection to the daemon with progress shown, or NULL after saying what is wrong: *ret_exit. */
struct capstore *cli_connect(struct cli *cli, enum cli_exit *ret_exit);

#endif
