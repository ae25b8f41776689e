/* The end of a process whose own rules were broken. */
#include "daemon/core/must.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void must_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "capstored: %s:%d: does not hold: %s\n", file, line, expression);
    abort();
}
