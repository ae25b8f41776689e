/* Which part of each list of a result is shown. */
#ifndef DAEMON_ADMIN_PAGE_H
#define DAEMON_ADMIN_PAGE_H

#include <stdint.h>

struct admin_page {
    uint64_t offset;
    uint64_t limit;
};

#endif
