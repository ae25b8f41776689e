/* From a member to the struct that embeds it. */
#ifndef DAEMON_CORE_CONTAINER_H
#define DAEMON_CORE_CONTAINER_H

#include <stddef.h>

#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
