/* Bounds of the admin socket; what they bound is in admin.h. */
#ifndef DAEMON_ADMIN_LIMITS_H
#define DAEMON_ADMIN_LIMITS_H

#define ADMIN_CONNECTIONS_MAX  16u /* a few operators and scrapers, each with one or two */
#define ADMIN_CONNECTIONS_KEPT 4u  /* of these, for peers who may do more than observe */
#define ADMIN_COMMANDS_MAX     2u  /* in threads: they may wait for the disk */
#define ADMIN_TURN_MAX         16u /* commands of one connection in one turn of the loop */
#define ADMIN_EVENTS_TURN      64u /* events of one connection in one turn: some 100 us of JSON */
#define ADMIN_EVENTS_TICK      4u /* such turns in ADMIN_EVENTS_MS: 12,800 a second, 4 % of a loop */
#define ADMIN_EVENTS_MS        20u /* between looks for events: a quarter of the ring at that rate */

#endif
