/* get --resume. */
#ifndef CLIENT_CAPCTL_RESUME_H
#define CLIENT_CAPCTL_RESUME_H

#include "client/capctl/cli.h"

/* Fetches a body to the file of -o, going on with what an earlier run has left beside it. */
enum cli_exit cli_get_resumed(struct cli *cli);

#endif
