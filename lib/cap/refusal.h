/* Why an Image was refused, for a person. */
#ifndef LIB_CAP_REFUSAL_H
#define LIB_CAP_REFUSAL_H

#include "lib/cap/bytes.h"

#define CAP_REFUSAL_MESSAGE_SIZE 256

/* `message` names the field, the slot's key, the values. */
struct cap_refusal {
    enum cap_error error;
    char message[CAP_REFUSAL_MESSAGE_SIZE]; /* NUL-terminated, printable ASCII; long keys are cut */
};

/* Sets *reterr, unless it is NULL. Returns the error. */
enum cap_error cap_refuse(struct cap_refusal *reterr, enum cap_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define CAP_KEY_TEXT_BYTES 16u /* of a key that are shown */

/* A key for a person: hex, cut when long. */
struct cap_key_text {
    char text[sizeof("0x...") + 2 * CAP_KEY_TEXT_BYTES];
};

struct cap_key_text cap_key_text(struct cap_bytes key);

#endif
