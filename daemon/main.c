/* capstored: arguments, process-wide settings, server, exit status. */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/check.h"
#include "daemon/core/crash.h"
#include "daemon/server.h"
#include "lib/cap/sha256.h"

/* Exit statuses: sysexits' EX_USAGE for a wrong command line, 1 for other failures. */
#define EXIT_USAGE 64

/*
 * A file opened while one of the first three descriptors is closed takes its number, and log lines
 * would then be written into a store or a socket of ours.
 */
static void open_streams(void)
{
    int fd = 0;
    while (fd >= 0 && fd <= STDERR_FILENO) {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/*
 * Prints a sentence on one line, even if it quotes control characters of a file or an argument;
 * like these, what is not ASCII is shown as the log shows it, since it may be invisible.
 */
static void print_error(const char *sentence, const char *name)
{
    char line[4 * CONFIG_REASON_SIZE] = "";
    size_t len = 0;
    for (const char *at = sentence; *at != '\0' && len + sizeof("\\x00") <= sizeof(line); at++) {
        unsigned char byte = (unsigned char)*at;
        bool plain = byte >= ' ' && byte < 0x7f;
        len += (size_t)snprintf(line + len, sizeof(line) - len, plain ? "%c" : "\\x%02x", byte);
    }
    /* The journal takes a line without a priority as information. */
    fprintf(stderr, "%scapstored: %s%s%s%s\n", log_fd_is_journal(STDERR_FILENO) ? "<3>" : "", line,
            name == NULL ? "" : " (", name == NULL ? "" : name, name == NULL ? "" : ")");
}

/* Descriptors are bounded by our own limits; the process may use all that it is allowed. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/*
 * Memory goes back to the system when an upload is done: few arenas, long blocks mapped. What stays
 * is twice what a step of a stage takes: given back after each, every step would fault it in again.
 */
static void bound_heap(void)
{
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
    (void)mallopt(M_TRIM_THRESHOLD, 2 * CAP_STAGE_STEP);
}

/* Says what keeps a configuration from working, as far as it can be seen without starting. */
static int check(const struct config *config)
{
    char reason[CONFIG_REASON_SIZE];
    if (sockets_check(config, reason) != CAP_OK) {
        print_error(reason, NULL);
        return EXIT_USAGE;
    }
    return config_print(config, stdout) == CAP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int check_store(const struct config *config, bool repair)
{
    char reason[CONFIG_REASON_SIZE];
    enum check_status status = check_run(config, repair, reason);
    if (status == CHECK_FAILED) {
        print_error(reason, NULL);
    }
    return (int)status;
}

static int run(struct config *config)
{
    struct server server;
    char reason[CONFIG_REASON_SIZE];
    crash_install(config->state);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a write past `ulimit -f` fails with EFBIG: disk_full */
    raise_descriptor_limit();
    bound_heap();
    enum cap_error error = server_start(&server, env_system(), config, NULL, reason);
    if (error != CAP_OK) {
        print_error(reason, cap_error_name(error));
        return error == CAP_E_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILURE;
    }
    int status = server_run(&server);
    server_close(&server);
    return status;
}

/* Obeys CAPSTORE_SHA256; false after saying why it cannot. */
static bool choose_sha256(void)
{
    const char *name = getenv("CAPSTORE_SHA256");
    enum cap_error error = name != NULL && name[0] != '\0' ? cap_sha256_use_kernel(name) : CAP_OK;
    if (error != CAP_OK) {
        char reason[CONFIG_REASON_SIZE];
        snprintf(reason, sizeof(reason), "CAPSTORE_SHA256: %.64s %s", name,
                 error == CAP_E_NOT_FOUND ? "does not run on this CPU"
                                          : "is not a name in capctl(1)");
        print_error(reason, NULL);
    }
    return error == CAP_OK;
}

int main(int argc, char **argv)
{
    struct config config;
    enum config_action action = CONFIG_RUN;
    char reason[CONFIG_REASON_SIZE];
    int status = EXIT_SUCCESS;
    open_streams();
    if (!choose_sha256()) {
        return EXIT_USAGE;
    }
    config_init(&config);
    if (config_parse(&config, argc, argv, &action, reason) != CAP_OK) {
        print_error(reason, NULL);
        config_free(&config);
        return action == CONFIG_CHECK_STORE || action == CONFIG_REPAIR ? CHECK_USAGE : EXIT_USAGE;
    }
    switch (action) {
    case CONFIG_RUN:
        status = run(&config);
        break;
    case CONFIG_CHECK:
        status = check(&config);
        break;
    case CONFIG_CHECK_STORE:
    case CONFIG_REPAIR:
        status = check_store(&config, action == CONFIG_REPAIR);
        break;
    case CONFIG_HELP:
        config_help(stdout);
        break;
    case CONFIG_VERSION:
        printf("capstored %s\nsha256: %s\n", CAPSTORE_VERSION, cap_sha256_kernel_name());
        break;
    }
    config_free(&config);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? status : EXIT_FAILURE;
}
