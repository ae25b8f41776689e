/* Calls of the admin socket, for commands that need some of what it says. */
#ifndef CLIENT_CAPCTL_ADMIN_H
#define CLIENT_CAPCTL_ADMIN_H

#include <jansson.h>

#include "client/capctl/cli.h"

struct cli_admin; /* a connection */

/* Connects to the admin socket of the command line. NULL after saying what is wrong: *ret_exit. */
struct cli_admin *cli_admin_open(struct cli *cli, enum cli_exit *ret_exit);

/*
 * Calls a method, and takes over `params`. The result, which the caller releases; NULL after saying
 * what is wrong, a refusal of the daemon included: *ret_exit. Without a connection (NULL) that has
 * been said already.
 */
json_t *cli_admin_call(struct cli_admin *admin, const char *method, json_t *params,
                       enum cli_exit *ret_exit);

/*
 * After events.subscribe: waits for the next event, however long, and says nothing when that fails.
 * *ret_params is what the event says, or how many were lost; the caller releases it.
 */
enum capstore_error cli_admin_event(struct cli_admin *admin, json_t **ret_params);

/*
 * Starts a job by a method, which takes over `params`, waits until it has ended, and tells how. The
 * exit status says whether it is done.
 */
enum cli_exit cli_run_job(struct cli *cli, const char *method, json_t *params);

/* A member of an answer: a text, "" if there is none; an integer, 0 if there is none. */
const char *cli_admin_text(const json_t *object, const char *name);
json_int_t cli_admin_integer(const json_t *object, const char *name);

/* Closes it. NULL is fine. */
void cli_admin_close(struct cli_admin *admin);

#endif
