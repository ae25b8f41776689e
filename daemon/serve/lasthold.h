/*
 * When nobody holds a file in memory any more: neither a descriptor of it nor a mapping, in any
 * process. Its pages are free then.
 *
 * The kernel says so through inotify: a memfd has no name, so the end of its last open file is its
 * deletion. Any thread, but reading what is gone is one thread's at a time.
 */
#ifndef DAEMON_SERVE_LASTHOLD_H
#define DAEMON_SERVE_LASTHOLD_H

#include <stdbool.h>
#include <stddef.h>

/* Each file makes two events; of these the kernel keeps 16,384. */
#define LASTHOLD_FILES_MAX 4096u

/* A descriptor to watch with, the caller's; -1: the system cannot. */
int lasthold_open(void);

/* Watches the file of `fd`, a memfd; returns its number, or -1: too many are watched. */
int lasthold_watch(int watcher, int fd);

/*
 * Takes numbers of files that are gone, at most `max`, into ret_numbers; returns how many, 0 when
 * there are no more now.
 */
size_t lasthold_gone(int watcher, int *ret_numbers, size_t max);

#endif
