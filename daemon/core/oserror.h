/* The one place where the system's error numbers become ours. */
#ifndef DAEMON_CORE_OSERROR_H
#define DAEMON_CORE_OSERROR_H

#include "lib/cap/error.h"

/* The error of an errno value; libuv's codes are the same, negated. CAP_E_IO for any other. */
enum cap_error error_of_errno(int number);

#endif
