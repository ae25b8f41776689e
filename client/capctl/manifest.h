/* The manifest of `pack`: a JSON object that says what an Image holds (capctl.1, MANIFEST). */
#ifndef CLIENT_CAPCTL_MANIFEST_H
#define CLIENT_CAPCTL_MANIFEST_H

#include "client/capctl/describe.h"

/* Reads a manifest into a description. False after saying what is wrong. */
bool manifest_read(struct describe *describe, const char *path);

#endif
