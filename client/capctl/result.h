/* Results that several commands print, and the way each of them is printed. */
#ifndef CLIENT_CAPCTL_RESULT_H
#define CLIENT_CAPCTL_RESULT_H

#include "client/capctl/out.h"

/* Prints the object where results go. Returns `exit`, or CLI_FAILED when it cannot be written. */
enum cli_exit cli_print(struct cli *cli, struct out *out, enum cli_exit exit);

/* What `check` prints of a judged Image; CLI_DONE for accepted, CLI_NO for refused. */
enum cli_exit cli_print_check(struct cli *cli, const struct capstore_check *check);

/* Judges a wire Image with progress shown. NULL after saying what is wrong: *ret_exit. */
struct capstore_check *cli_judge(struct cli *cli, const struct capstore_source *wire,
                                 enum cli_exit *ret_exit);

#endif
