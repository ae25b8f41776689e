/*
 * What a crash of the daemon says: one line that names what to do.
 */
#ifndef DAEMON_CORE_CRASH_H
#define DAEMON_CORE_CRASH_H

/*
 * From here on SIGSEGV and SIGBUS write a line to standard error that names the check of the store
 * in `state`, since a damaged file shows in this way; then the signal does what it does by itself.
 * Once, before other threads start. The store, which is opened later, puts its own handler of
 * SIGBUS in front: a read that meets a bad page ends there, and what else raises SIGBUS comes here.
 */
void crash_install(const char *state);

#endif
