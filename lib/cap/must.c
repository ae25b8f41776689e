/* The end of a process whose own rules were broken. */
#include "lib/cap/must.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void must_failed(const char *expression, const char *file, int line)
{
    (void)dprintf(STDERR_FILENO, "%s: %s:%d: does not hold: %s\n", program_invocation_short_name,
                  file, line, expression);
    abort();
}
