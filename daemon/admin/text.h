/* Text that is built piece by piece; the first error sticks. */
#ifndef DAEMON_ADMIN_TEXT_H
#define DAEMON_ADMIN_TEXT_H

#include "lib/cap/bytes.h"

struct admin_text {
    struct cap_buf *buf; /* the caller's; holds all or, after an error, a part */
    enum cap_error error;
};

/* Appends as printf would, without a NUL. After an error it does nothing. */
void admin_print(struct admin_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
