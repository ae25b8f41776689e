/* The two things that systemd asks of a service: notifications, and sockets that it opened. */
#ifndef DAEMON_CORE_SD_H
#define DAEMON_CORE_SD_H

#include <stdint.h>

#define SD_LISTEN_FDS_START 3
#define SD_NAME_SIZE        32

/* Sends "READY=1", "STATUS=…" and the like to NOTIFY_SOCKET; without one does nothing. Never
 * waits. */
void sd_notify(const char *state);

/* How many sockets were passed (LISTEN_FDS for this process), at SD_LISTEN_FDS_START onwards. */
int sd_listen_count(void);

/* The name of passed socket `index` in LISTEN_FDNAMES; "" when it has none. */
void sd_listen_name(int index, char ret_name[SD_NAME_SIZE]);

/* The watchdog's period in microseconds for this process, 0 when there is none. */
uint64_t sd_watchdog_us(void);

#endif
