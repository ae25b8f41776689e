/* capctl: the table of commands, the global options, help. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/capctl/cli.h"

static const struct cli_command commands[] = {
    {"check", "FILE", "judge a wire Image, offline", 1, 1, {{0}}, cli_check},
    {"hash",
     "FILE",
     "name the Data cap of raw bytes, offline",
     1,
     1,
     {{"size", 0, "N", "logical size; zeros follow the content"}},
     cli_hash},
    {"pack",
     "[MANIFEST.json]",
     "build a wire Image from a manifest or a program",
     0,
     1,
     {{"output", 'o', "FILE", "where the wire Image goes"},
      {"elf", 0, "PROG", "build it from a static RISC-V ELF"},
      {"stack", 0, "N", "with --elf: bytes of stack, 0 for none (default 1 MiB)"}},
     cli_pack},
    {"put",
     "FILE",
     "publish a Data cap",
     1,
     1,
     {{"size", 0, "N", "logical size; zeros follow the content"},
      {"canonical", 0, NULL, "FILE is a served body, not raw bytes"}},
     cli_put},
    {"publish",
     "FILE",
     "publish a wire Image, by default with its data",
     1,
     1,
     {{"resolve-only", 0, NULL, "every Data cap must be published already"},
      {"dry-run", 0, NULL, "judge and resolve, store nothing"}},
     cli_publish},
    {"get",
     "HASH",
     "fetch a cap and verify it",
     1,
     1,
     {{"output", 'o', "FILE", "where the bytes go"},
      {"content", 0, NULL, "a Data cap's logical bytes, or an Image's code"}},
     cli_get},
    {"has", "HASH...", "ask which caps are published", 1, -1, {{0}}, cli_has},
    {"show", "HASH|FILE", "lay out a cap or a wire Image for a person", 1, 1, {{0}}, cli_show},
    {"closure",
     "HASH",
     "list every cap that an Image needs",
     1,
     1,
     {{"directory", 'd', "DIR", "fetch them to DIR, one file per hash"}},
     cli_closure},
    {"admin",
     "METHOD [NAME=VALUE...]",
     "call a method of the admin socket",
     1,
     -1,
     {{0}},
     cli_admin},
    {"status", "", "show how the daemon is", 0, 0, {{0}}, cli_status},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const char global_help[] =
    "usage: capctl [-s ADDRESS] [--json] COMMAND [ARGUMENT...]\n"
    "\n"
    "  -s, --socket ADDRESS  the daemon: unix:PATH or tcp:HOST:PORT\n"
    "                        (else $CAPSTORE_SOCKET, else " CLI_DEFAULT_SOCKET ")\n"
    "      --admin ADDRESS   its admin socket: unix:PATH\n"
    "                        (else $CAPSTORE_ADMIN, else " CLI_DEFAULT_ADMIN ")\n"
    "      --json            print one JSON object\n"
    "      --timeout SECONDS longest wait without progress (default 30)\n"
    "  -h, --help            this, or with a command what it takes\n"
    "  -V, --version         the version\n";

static const char exit_help[] =
    "\nHashes are 64 hex digits, 0x in front allowed; integers decimal or 0x; FILE may be - for a\n"
    "standard stream.\n"
    "Exit status: 0 done; 1 the answer is no (refused, absent, corrupt); 2 wrong usage; 3 could\n"
    "not (connection, daemon, disk).\n";

/* The end of what was printed with stdio. */
static enum cli_exit printed(struct cli *cli)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return CLI_DONE;
    }
    return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

static enum cli_exit print_help(struct cli *cli)
{
    fputs(global_help, stdout);
    fputs("\ncommands:\n", stdout);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        printf("  %-8s %-23s %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
    }
    fputs(exit_help, stdout);
    return printed(cli);
}

static enum cli_exit print_command_help(struct cli *cli)
{
    const struct cli_command *command = cli->command;
    printf("usage: capctl %s%s%s%s\n\n%s\n", command->name,
           command->options[0].name != NULL ? " [OPTION...]" : "",
           command->arguments[0] != '\0' ? " " : "", command->arguments, command->summary);
    for (int i = 0; i < CLI_MAX_OPTIONS && command->options[i].name != NULL; i++) {
        const struct cli_option *option = &command->options[i];
        char left[64];
        char letter[5] = "    ";
        if (option->letter != 0) {
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        }
        snprintf(left, sizeof left, "%s--%s %s", letter, option->name,
                 option->value != NULL ? option->value : "");
        printf("%s  %-22s %s\n", i == 0 ? "\n" : "", left, option->help);
    }
    return printed(cli);
}

static enum cli_exit print_version(struct cli *cli)
{
    if (cli->json) {
        printf("{\"version\": \"%s\"}\n", capstore_version());
    } else {
        printf("capctl %s\n", capstore_version());
    }
    return printed(cli);
}

static const struct cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* Where the reading of arguments stands. */
struct reader {
    int count;
    char **words;
    int next;
    bool help;
    bool version;
    bool plain; /* after "--": no more options */
};

/* The value of an option: after "=", or the next word. NULL after saying what is wrong. */
static const char *option_value(struct cli *cli, struct reader *reader, const char *word,
                                const char *attached)
{
    if (attached != NULL) {
        return attached;
    }
    if (reader->next < reader->count) {
        return reader->words[reader->next++];
    }
    (void)cli_fail(cli, CLI_USAGE, "usage", "%s wants a value", word);
    return NULL;
}

/* Whether `word` is the option of this name, "--name", "--name=value", "-l" or "-lvalue". */
static bool is_option(const char *word, const char *name, char letter, const char **ret_attached)
{
    *ret_attached = NULL;
    if (word[0] == '-' && letter != 0 && word[1] == letter) {
        if (word[2] != '\0') {
            *ret_attached = word + 2;
        }
        return true;
    }
    size_t len = strlen(name);
    if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, len) != 0) {
        return false;
    }
    if (word[2 + len] == '=') {
        *ret_attached = word + 3 + len;
    }
    return word[2 + len] == '\0' || word[2 + len] == '=';
}

/* A global option with a value. */
static bool take_setting(struct cli *cli, struct reader *reader, const char *word, bool *ret_taken)
{
    const char *attached;
    const char *value = NULL;
    uint64_t seconds;
    *ret_taken = true;
    if (is_option(word, "socket", 's', &attached)) {
        return (cli->socket = option_value(cli, reader, word, attached)) != NULL;
    }
    if (is_option(word, "admin", 0, &attached)) {
        return (cli->admin = option_value(cli, reader, word, attached)) != NULL;
    }
    if (!is_option(word, "timeout", 0, &attached)) {
        *ret_taken = false;
        return true;
    }
    value = option_value(cli, reader, word, attached);
    if (value == NULL) {
        return false;
    }
    if (!cli_parse_u64(value, &seconds) || seconds == 0 || seconds > 86400) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "--timeout: \"%s\" is not 1 to 86400", value);
        return false;
    }
    cli->timeout_ms = (uint32_t)seconds * 1000;
    return true;
}

static bool take_global(struct cli *cli, struct reader *reader, const char *word, bool *ret_taken)
{
    *ret_taken = true;
    if (strcmp(word, "--json") == 0) {
        cli->json = true;
    } else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
        reader->help = true;
    } else if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0) {
        reader->version = true;
    } else {
        return take_setting(cli, reader, word, ret_taken);
    }
    return true;
}

static bool take_option(struct cli *cli, struct reader *reader, const char *word, bool *ret_taken)
{
    *ret_taken = false;
    for (int i = 0; i < CLI_MAX_OPTIONS && cli->command->options[i].name != NULL; i++) {
        const struct cli_option *option = &cli->command->options[i];
        const char *attached;
        if (!is_option(word, option->name, option->letter, &attached)) {
            continue;
        }
        *ret_taken = true;
        if (option->value != NULL) {
            return (cli->values[i] = option_value(cli, reader, word, attached)) != NULL;
        }
        cli->values[i] = "";
        if (attached == NULL) {
            return true;
        }
        (void)cli_fail(cli, CLI_USAGE, "usage", "--%s takes no value", option->name);
        return false;
    }
    return true;
}

/* One word of the command line. False after saying what is wrong. */
static bool take_word(struct cli *cli, struct reader *reader, char *word)
{
    bool taken = false;
    if (!reader->plain && strcmp(word, "--") == 0) {
        reader->plain = true;
        return true;
    }
    if (!reader->plain && word[0] == '-' && word[1] != '\0') {
        if (!take_global(cli, reader, word, &taken)) {
            return false;
        }
        if (!taken && cli->command != NULL && !take_option(cli, reader, word, &taken)) {
            return false;
        }
        if (!taken) {
            (void)cli_fail(cli, CLI_USAGE, "usage", "unknown option %s; try capctl --help", word);
        }
        return taken;
    }
    if (cli->command != NULL) {
        cli->arguments[cli->argument_count++] = word;
        return true;
    }
    if (strcmp(word, "help") == 0 || strcmp(word, "version") == 0) {
        reader->help = reader->help || word[0] == 'h';
        reader->version = reader->version || word[0] == 'v';
        return true;
    }
    cli->command = find_command(word);
    if (cli->command == NULL) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "unknown command %s; try capctl --help", word);
    }
    return cli->command != NULL;
}

static enum cli_exit run(struct cli *cli, struct reader *reader)
{
    while (reader->next < reader->count) {
        if (!take_word(cli, reader, reader->words[reader->next++])) {
            return CLI_USAGE;
        }
    }
    if (reader->version) {
        return print_version(cli);
    }
    if (reader->help) {
        return cli->command != NULL ? print_command_help(cli) : print_help(cli);
    }
    if (cli->command == NULL) {
        fputs(global_help, stderr);
        return cli_fail(cli, CLI_USAGE, "usage", "a command is wanted; try capctl --help");
    }
    if (cli->argument_count < cli->command->min_arguments ||
        (cli->command->max_arguments >= 0 && cli->argument_count > cli->command->max_arguments)) {
        return cli_fail(cli, CLI_USAGE, "usage", "usage: capctl %s %s", cli->command->name,
                        cli->command->arguments);
    }
    return cli->command->run(cli);
}

/* The first that is set and not empty. */
static const char *setting(const char *variable, const char *fallback)
{
    const char *value = getenv(variable);
    return value != NULL && value[0] != '\0' ? value : fallback;
}

/*
 * A standard stream that came closed is occupied, the wrong way round so that using it fails: else
 * the next file or socket would take its number, and a result be written into it.
 */
static bool occupy_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    if (!occupy_standard_streams()) {
        return CLI_FAILED;
    }
    struct cli cli = {
        .socket = setting("CAPSTORE_SOCKET", CLI_DEFAULT_SOCKET),
        .admin = setting("CAPSTORE_ADMIN", CLI_DEFAULT_ADMIN),
        .arguments = calloc((size_t)argc + 1, sizeof(char *)),
    };
    struct reader reader = {.count = argc, .words = argv, .next = 1};
    /* --json holds for every message, also for one about a word before it. */
    for (int i = 1; i < argc; i++) {
        cli.json = cli.json || strcmp(argv[i], "--json") == 0;
    }
    enum cli_exit exit = cli.arguments == NULL
                             ? cli_fail(&cli, CLI_FAILED, "no_memory", "out of memory")
                             : run(&cli, &reader);
    free(cli.arguments);
    return (int)exit;
}
