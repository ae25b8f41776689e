/* The two halves of show: caps (show.c) and wire Images (show_wire.c). */
#ifndef CLIENT_CAPCTL_SHOW_H
#define CLIENT_CAPCTL_SHOW_H

#include "client/capctl/file.h"

/* Lays out a wire Image. CLI_NO after saying so when the bytes are not one. */
enum cli_exit cli_show_wire(struct cli *cli, const struct cli_input *input);

#endif
