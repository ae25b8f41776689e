/* capctl: the table of commands, the command line, help. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "client/capctl/cli.h"

#define BIT(option) (1u << (option))

static const struct cli_command commands[] = {
    {"check", "FILE", "judge a wire Image, offline", 1, 1, 0, cli_check},
    {"hash", "FILE", "name the Data cap of raw bytes, offline", 1, 1, BIT(CLI_SIZE), cli_hash},
    {"pack", "[MANIFEST.json]", "build a wire Image from a manifest or a program", 0, 1,
     BIT(CLI_OUTPUT) | BIT(CLI_ELF) | BIT(CLI_STACK), cli_pack},
    {"put", "FILE", "publish a Data cap", 1, 1, BIT(CLI_SIZE) | BIT(CLI_CANONICAL) | BIT(CLI_KEEP),
     cli_put},
    {"publish", "FILE", "publish a wire Image, by default with its data", 1, 1,
     BIT(CLI_RESOLVE_ONLY) | BIT(CLI_DRY_RUN) | BIT(CLI_RESEND) | BIT(CLI_KEEP), cli_publish},
    {"get", "HASH...", "fetch a cap, or many, and verify them", 1, -1,
     BIT(CLI_OUTPUT) | BIT(CLI_CONTENT) | BIT(CLI_DIRECTORY) | BIT(CLI_RESUME), cli_get},
    {"slice", "HASH", "fetch pages of a cap with their proof, or check them offline", 1, 1,
     BIT(CLI_OUTPUT) | BIT(CLI_PAGES) | BIT(CLI_VERIFY), cli_slice},
    {"map", "HASH", "map a cap as a runtime does, and say what lies where", 1, 1, 0, cli_map},
    {"has", "HASH...", "ask which caps are published", 1, -1, BIT(CLI_KEEP), cli_has},
    {"show", "HASH|FILE", "lay out a cap or a wire Image for a person", 1, 1, 0, cli_show},
    {"closure", "HASH", "list every cap that an Image needs", 1, 1, BIT(CLI_DIRECTORY),
     cli_closure},
    {"dump", "[HASH|ROOT...]", "write caps and all they need to a file; without any, all caps", 0,
     -1, BIT(CLI_OUTPUT), cli_dump},
    {"load", "FILE", "publish what a dump holds", 1, 1, BIT(CLI_SET_ROOTS), cli_load},
    {"mirror", "[HASH|ROOT...]", "publish in one daemon what it lacks of another", 0, -1,
     BIT(CLI_FROM) | BIT(CLI_TO), cli_mirror},
    {"admin", "METHOD [NAME=VALUE...]", "call a method of the admin socket", 1, -1, 0, cli_admin},
    {"status", "", "show the daemon's status", 0, 0, 0, cli_status},
    {"config", "[get|test|reload]", "show the daemon's settings, or read its file again", 0, 1, 0,
     cli_config},
    {"jobs", "[list | cancel ID]", "show long work on the store, or cancel it", 0, 2, 0, cli_jobs},
    {"events", "", "follow what happens in the daemon", 0, 0, BIT(CLI_KIND) | BIT(CLI_SINCE),
     cli_events},
    {"gc", "[plan|run]", "show what nothing keeps, or collect it", 0, 1, 0, cli_gc},
    {"roots", "[list | set NAME HASH | remove NAME]", "show or change the names that keep caps", 0,
     3, 0, cli_roots},
    {"why", "HASH", "say what keeps a cap, or what became of it", 1, 1, 0, cli_why},
    {"delete", "HASH", "remove one cap now", 1, 1, BIT(CLI_FORCE), cli_delete},
    {"forbid", "HASH REASON", "remove a cap and refuse its publication", 2, 2, 0, cli_forbid},
    {"allow", "HASH", "let a forbidden cap be published again", 1, 1, 0, cli_allow},
    {"backup", "[list]", "make a backup of the running store, or list them", 0, 1, 0, cli_backup},
    {"compact", "", "give free room in the store back to the disk", 0, 0, 0, cli_compact},
    {"scrub", "[status | start | pause]",
     "look the store through for damage, or say what was found", 0, 1, BIT(CLI_REPAIR), cli_scrub},
    {"quota", "", "show what publishers have in the store, and the quotas", 0, 0, 0, cli_quota},
    {"top", "", "the daemon on a live screen", 0, 0, 0, cli_top},
    {"bench", "[HASH...]", "measure the daemon: publishing and fetching", 0, -1,
     BIT(CLI_CLIENTS) | BIT(CLI_IN_FLIGHT) | BIT(CLI_MIX) | BIT(CLI_SECONDS) | BIT(CLI_SIZE),
     cli_bench},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* An option of commands as help shows it. `letter` 0: none; `value` NULL: a flag. */
struct option_text {
    const char *name;
    char letter;
    const char *value;
    const char *help;
};

static const struct option_text option_texts[CLI_OPTION_COUNT] = {
    [CLI_OUTPUT] = {"output", 'o', "FILE", "where the bytes go"},
    [CLI_SIZE] = {"size", 0, "N",
                  "size of the Data cap: zeros follow the content (bench: default 1K)"},
    [CLI_ELF] = {"elf", 0, "PROG", "build it from a static RISC-V ELF"},
    [CLI_STACK] = {"stack", 0, "N", "with --elf: bytes of stack, 0 for none (default 1M)"},
    [CLI_CANONICAL] = {"canonical", 0, NULL, "FILE is a served body, not raw bytes"},
    [CLI_RESOLVE_ONLY] = {"resolve-only", 0, NULL, "every Data cap must be published already"},
    [CLI_DRY_RUN] = {"dry-run", 0, NULL, "judge and resolve, store nothing"},
    [CLI_RESEND] = {"resend", 0, NULL, "send it even if it is published already"},
    [CLI_KEEP] = {"keep", 0, "TIME",
                  "have it kept for so many seconds, or 90m, 12h, 7d (has: 0 asks)"},
    [CLI_CONTENT] = {"content", 0, NULL, "a Data cap's logical bytes, or an Image's code"},
    [CLI_DIRECTORY] = {"directory", 'd', "DIR", "fetch them to DIR, one file per hash"},
    [CLI_CLIENTS] = {"clients", 0, "N", "connections (default 4)"},
    [CLI_IN_FLIGHT] = {"in-flight", 0, "N", "requests in flight on each (default 1)"},
    [CLI_MIX] = {"mix", 0, "F:P", "then both at once: F fetches for P publications"},
    [CLI_FROM] = {"from", 0, "ADDRESS", "the daemon that has the caps"},
    [CLI_TO] = {"to", 0, "ADDRESS", "the daemon that gets those it lacks"},
    [CLI_SET_ROOTS] = {"set-roots", 0, NULL,
                       "then set the roots that it holds, by the admin socket"},
    [CLI_SECONDS] = {"seconds", 0, "N", "time for each measurement (default 5)"},
    [CLI_KIND] = {"kind", 0, "KIND,...", "only events of these kinds"},
    [CLI_FORCE] = {"force", 0, NULL, "also if a lease or Images need it: these are degraded then"},
    [CLI_SINCE] = {"since", 0, "N", "begin after event N; 0: with the oldest that is kept"},
    [CLI_RESUME] = {"resume", 0, NULL, "go on with the FILE.part of a run that was cut off"},
    [CLI_PAGES] = {"pages", 0, "LIST", "such as 0-15,100; without it the head alone"},
    [CLI_VERIFY] = {"verify", 0, "FILE", "check this slice instead of fetching one"},
    [CLI_REPAIR] = {"repair", 0, NULL, "with start: put right what the caps prove"},
};

static const char global_help[] =
    "usage: capctl [-s ADDRESS] [--json] COMMAND [ARGUMENT...]\n"
    "\n"
    "  -s, --socket ADDRESS  the daemon: unix:PATH, unix:@NAME or tcp:HOST:PORT\n"
    "                        (else $CAPSTORE_SOCKET, else " CLI_DEFAULT_SOCKET ")\n"
    "      --via URL         read over HTTP instead, from the daemon or a cache:\n"
    "                        http://HOST[:PORT][/PATH], or https\n"
    "      --admin ADDRESS   its admin socket: unix:PATH\n"
    "                        (else $CAPSTORE_ADMIN, else " CLI_DEFAULT_ADMIN ")\n"
    "      --json            print one JSON object\n"
    "      --timeout SECONDS longest wait without progress (default 30)\n"
    "  -h, --help            print this help, or that of a command\n"
    "  -V, --version         print the version, and which SHA-256 code runs\n";

static const char exit_help[] =
    "\nHashes are 64 hex digits, optionally after 0x; integers are decimal or 0x; a number of "
    "bytes\n"
    "may end in K, M, G or T. FILE may be - for a standard stream.\n"
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

#define ARGUMENTS_WIDTH 23 /* of the column of arguments; a wider one has a line of its own */

static enum cli_exit print_help(struct cli *cli)
{
    fputs(global_help, stdout);
    fputs("\ncommands:\n", stdout);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        bool wide = strlen(commands[i].arguments) > ARGUMENTS_WIDTH;
        printf("  %-8s %-*s%s%*s %s\n", commands[i].name, ARGUMENTS_WIDTH, commands[i].arguments,
               wide ? "\n" : "", wide ? 11 + ARGUMENTS_WIDTH : 0, "", commands[i].summary);
    }
    fputs(exit_help, stdout);
    return printed(cli);
}

static enum cli_exit print_command_help(struct cli *cli)
{
    const struct cli_command *command = cli->command;
    printf("usage: capctl %s%s%s%s\n\n%s\n", command->name,
           command->options != 0 ? " [OPTION...]" : "", command->arguments[0] != '\0' ? " " : "",
           command->arguments, command->summary);
    if (command->options != 0) {
        fputc('\n', stdout);
    }
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        const struct option_text *option = &option_texts[i];
        char left[64];
        char letter[5] = "    ";
        if ((command->options & BIT(i)) == 0) {
            continue;
        }
        if (option->letter != 0) {
            snprintf(letter, sizeof(letter), "-%c, ", option->letter);
        }
        snprintf(left, sizeof(left), "%s--%s %s", letter, option->name,
                 option->value != NULL ? option->value : "");
        printf("  %-22s %s\n", left, option->help);
    }
    return printed(cli);
}

static enum cli_exit print_version(struct cli *cli)
{
    if (cli->json) {
        printf("{\"version\": \"%s\", \"sha256\": \"%s\"}\n", capstore_version(),
               capstore_sha256());
    } else {
        printf("capctl %s\nsha256: %s\n", capstore_version(), capstore_sha256());
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

#define LONGEST_NAME 15u /* of a command; what is longer is compared up to here */

/* How many letters to add, drop or change until one word is the other. */
static unsigned distance(const char *word, const char *name)
{
    unsigned row[LONGEST_NAME + 1]; /* to each beginning of the name */
    size_t len = strnlen(name, LONGEST_NAME);
    for (unsigned i = 0; i <= len; i++) {
        row[i] = i;
    }
    for (; *word != '\0'; word++) {
        unsigned before = row[0]++;
        for (size_t i = 1; i <= len; i++) {
            unsigned change = before + (*word != name[i - 1]);
            before = row[i];
            row[i] = MIN(change, MIN(row[i], row[i - 1]) + 1);
        }
    }
    return row[len];
}

/* Says that there is no such command, and which one may have been meant. */
static enum cli_exit refuse_command(struct cli *cli, const char *word)
{
    unsigned nearest = strlen(word) > 3 ? 3 : 2; /* what is further away is another word */
    const char *meant = NULL;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        unsigned away = distance(word, commands[i].name);
        if (away < nearest) {
            nearest = away;
            meant = commands[i].name;
        }
    }
    return cli_fail(cli, CLI_USAGE, "usage", "unknown command %s%s%s%s try capctl --help", word,
                    meant != NULL ? "; did you mean " : "", meant != NULL ? meant : "",
                    meant != NULL ? "?" : ";");
}

/* ---- the command line ---- */

/* What getopt_long returns for options without a letter: above any letter. Those of commands come
 * first, in their order. */
#define KEY_COMMAND 256 /* above UCHAR_MAX */
#define KEY_ADMIN   (KEY_COMMAND + CLI_OPTION_COUNT)
#define KEY_JSON    (KEY_ADMIN + 1)
#define KEY_TIMEOUT (KEY_ADMIN + 2)

#define LETTERS ":s:hVo:d:" /* with the colon getopt_long reports a missing argument as ':' */

/* What the options ask for instead of a command. */
struct asked {
    bool help;
    bool version;
};

static int key_of(int option)
{
    return option_texts[option].letter != 0 ? option_texts[option].letter : KEY_COMMAND + option;
}

/* All options of all commands: which of them the command takes is known only afterwards. */
static void list_options(struct option ret_list[CLI_OPTION_COUNT + 8])
{
    static const struct option globals[] = {
        {"socket", required_argument, NULL, 's'},
        {"via", required_argument, NULL, 's'},
        {"admin", required_argument, NULL, KEY_ADMIN},
        {"json", no_argument, NULL, KEY_JSON},
        {"timeout", required_argument, NULL, KEY_TIMEOUT},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        int argument = option_texts[i].value != NULL ? required_argument : no_argument;
        ret_list[i] = (struct option){option_texts[i].name, argument, NULL, key_of(i)};
    }
    memcpy(ret_list + CLI_OPTION_COUNT, globals, sizeof(globals));
}

static bool take_timeout(struct cli *cli, const char *text)
{
    uint64_t seconds;
    if (!cli_parse_u64(text, &seconds) || seconds == 0 || seconds > 86400) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "--timeout: \"%s\" is not a number of seconds from 1 to 86400", text);
        return false;
    }
    cli->timeout_ms = (uint32_t)seconds * 1000;
    return true;
}

/* Takes an option that getopt_long found. False after saying what is wrong. `word` is its
 * word on the command line. */
static bool take_option(struct cli *cli, struct asked *asked, int key, const char *word)
{
    switch (key) {
    case 's':
        cli->socket = optarg;
        return true;
    case KEY_ADMIN:
        cli->admin = optarg;
        return true;
    case KEY_JSON:
        cli->json = true;
        return true;
    case KEY_TIMEOUT:
        return take_timeout(cli, optarg);
    case 'h':
        asked->help = true;
        return true;
    case 'V':
        asked->version = true;
        return true;
    case ':':
        (void)cli_fail(cli, CLI_USAGE, "usage", "option %s requires an argument", word);
        return false;
    case '?':
        if (optopt > 0 && optopt < KEY_COMMAND && word[1] != '-') {
            (void)cli_fail(cli, CLI_USAGE, "usage", "unknown option -%c; try capctl --help",
                           optopt);
        } else {
            (void)cli_fail(cli, CLI_USAGE, "usage", "%s %s; try capctl --help",
                           optopt != 0 ? "no argument is allowed in" : "unknown option", word);
        }
        return false;
    default:
        for (int i = 0; i < CLI_OPTION_COUNT; i++) {
            if (key_of(i) == key) {
                cli->options[i] = optarg != NULL ? optarg : "";
            }
        }
        return true;
    }
}

/* Whether the command takes every option that was given. False after saying which it does not. */
static bool options_fit(struct cli *cli)
{
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        if (cli->options[i] != NULL && (cli->command->options & BIT(i)) == 0) {
            (void)cli_fail(cli, CLI_USAGE, "usage", "%s does not take --%s; try capctl %s --help",
                           cli->command->name, option_texts[i].name, cli->command->name);
            return false;
        }
    }
    return true;
}

static enum cli_exit run(struct cli *cli, int argc, char **argv)
{
    struct option options[CLI_OPTION_COUNT + 8];
    struct asked asked = {false, false};
    int key;
    list_options(options);
    opterr = 0;
    while ((key = getopt_long(argc, argv, LETTERS, options, NULL)) != -1) {
        if (!take_option(cli, &asked, key, argv[optind - 1])) {
            return CLI_USAGE;
        }
    }
    /* "help" and "version" are the options of these names, written as commands. */
    for (; optind < argc &&
           (strcmp(argv[optind], "help") == 0 || strcmp(argv[optind], "version") == 0);
         optind++) {
        asked.help = asked.help || argv[optind][0] == 'h';
        asked.version = asked.version || argv[optind][0] == 'v';
    }
    if (asked.version) {
        return print_version(cli);
    }
    if (optind < argc) {
        cli->command = find_command(argv[optind]);
        if (cli->command == NULL) {
            return refuse_command(cli, argv[optind]);
        }
    }
    if (asked.help) {
        return cli->command != NULL ? print_command_help(cli) : print_help(cli);
    }
    if (cli->command == NULL) {
        fputs(global_help, stderr);
        return cli_fail(cli, CLI_USAGE, "usage", "missing command; try capctl --help");
    }
    cli->arguments = argv + optind + 1;
    cli->argument_count = argc - optind - 1;
    if (!options_fit(cli)) {
        return CLI_USAGE;
    }
    if (cli->argument_count < cli->command->min_arguments ||
        (cli->command->max_arguments >= 0 && cli->argument_count > cli->command->max_arguments)) {
        return cli_fail(cli, CLI_USAGE, "usage", "usage: capctl %s%s%s", cli->command->name,
                        cli->command->arguments[0] != '\0' ? " " : "", cli->command->arguments);
    }
    return cli->command->run(cli);
}

/* The variable's value, unless it is not set or empty. */
static const char *setting(const char *variable, const char *fallback)
{
    const char *value = getenv(variable);
    return value != NULL && value[0] != '\0' ? value : fallback;
}

/* Obeys CAPSTORE_SHA256; false after saying why it cannot. */
static bool choose_sha256(struct cli *cli)
{
    const char *name = setting("CAPSTORE_SHA256", NULL);
    enum capstore_error error = name != NULL ? capstore_sha256_use(name) : CAPSTORE_OK;
    if (error != CAPSTORE_OK) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "CAPSTORE_SHA256: %s %s", name,
                       error == CAPSTORE_E_NOT_FOUND ? "does not run on this CPU"
                                                     : "is not a name in capctl(1)");
    }
    return error == CAPSTORE_OK;
}

/*
 * A standard stream that was closed when we started is occupied, with the wrong access mode so that
 * using it fails: otherwise the next file or socket would get its number and receive our results.
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
    };
    /* --json applies to every message, including one about a word in front of it. */
    for (int i = 1; i < argc; i++) {
        cli.json = cli.json || strcmp(argv[i], "--json") == 0;
    }
    /* A write past the file size limit fails with EFBIG and is reported like a full disk. */
    (void)signal(SIGXFSZ, SIG_IGN);
    if (!choose_sha256(&cli)) {
        return CLI_USAGE;
    }
    return (int)run(&cli, argc, argv);
}
