/*
 * A non-blocking stream socket with deadlines: all system calls of a connection that is made.
 *
 * A deadline is a monotonic time in ms (client_clock_ms) past which waiting is CAP_E_TIMED_OUT.
 */
#ifndef CLIENT_LIB_LINK_H
#define CLIENT_LIB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/cap/error.h"

#define CLIENT_PASSED_LOST (-2) /* a descriptor came, and this process may not open another */

/* Monotonic nanoseconds, and the same clock in milliseconds. */
int64_t client_clock_ns(void);
int64_t client_clock_ms(void);

/* Sleeps for so long, whatever signals come. */
void client_sleep_ms(unsigned ms);

/* Makes a descriptor from elsewhere non-blocking. CAP_E_IO. */
enum cap_error client_link_prepare(int fd);

/* Waits until `fd` can be read, or written if `want_write`. CAP_E_TIMED_OUT, CAP_E_IO. */
enum cap_error client_link_wait(int fd, bool want_write, int64_t deadline_ms, bool *ret_readable,
                                bool *ret_writable);

/*
 * Reads or writes what goes without waiting. *ret_len 0 with CAP_OK: nothing now.
 * CAP_E_CONNECTION_LOST at the end of the stream or when the peer is gone. A descriptor that comes
 * with the bytes replaces *passed (-1: none), which is closed; of several only the first is kept.
 * CLIENT_PASSED_LOST: there was no room for it.
 */
enum cap_error client_link_read(int fd, void *dst, size_t len, size_t *ret_len, int *passed);
enum cap_error client_link_write(int fd, const void *src, size_t len, size_t *ret_len);

/* Ends both directions: what is read after what has arrived is the end of the stream. */
void client_link_end(int fd);

#endif
