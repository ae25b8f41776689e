/* The line is made at the start: in the handler only write() may be called. */
#include "daemon/core/crash.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/config.h"
#include "daemon/core/log.h"

#define ROOM       (CONFIG_TEXT_SIZE + 300u)
#define STACK_SIZE 16384u /* above MINSIGSTKSZ of any machine; the handler takes next to none */

static char segv_line[ROOM];
static char bus_line[ROOM];
static uint8_t stack[STACK_SIZE];

static void on_crash(int number)
{
    const char *line = number == SIGBUS ? bus_line : segv_line;
    if (write(STDERR_FILENO, line, strlen(line)) < 0) {
        /* There is nobody to tell. */
    }
    (void)raise(number); /* SA_RESETHAND, SA_NODEFER: it ends the process, with a core if wanted */
}

static void fill(char line[ROOM], const char *name, const char *state)
{
    (void)snprintf(line, ROOM,
                   "%serror crashed signal=%s message=\"if the store is damaged, this finds it: "
                   "capstored --check --state %s\"\n",
                   log_fd_is_journal(STDERR_FILENO) ? "<2>" : "", name, state);
}

void crash_install(const char *state)
{
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_handler = on_crash};
    action.sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
    fill(segv_line, "SIGSEGV", state);
    fill(bus_line, "SIGBUS", state);
    (void)sigemptyset(&action.sa_mask);
    (void)sigaltstack(&alternate, NULL); /* the loop's; the other threads' stacks are their own */
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
}
