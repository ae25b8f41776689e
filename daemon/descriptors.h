/* How many files the process may open, and what that leaves for clients. */
#ifndef DAEMON_DESCRIPTORS_H
#define DAEMON_DESCRIPTORS_H

#include "daemon/core/config.h"
#include "daemon/core/log.h"

struct copies;

/* Whether it is enough to start with so many loops. CAP_E_IO with a sentence. */
enum cap_error descriptors_check(size_t loops, char ret_reason[CONFIG_REASON_SIZE]);

/*
 * How many are not for clients: those that are open now, before the first client, and those that
 * `copies` (NULL: none) and operators will need. An error of open(2) with a sentence.
 */
enum cap_error descriptors_own(const struct copies *copies, uint64_t *ret_own,
                               char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Lowers a configuration's limits of clients to what the process may open besides `own`, and logs
 * it: past that nobody could be told that there are too many, and clients could lock the operators
 * out. CAP_E_IO with a sentence when nothing is left.
 */
enum cap_error descriptors_fit(uint64_t own, struct config *config, struct log *log,
                               char ret_reason[CONFIG_REASON_SIZE]);

#endif
