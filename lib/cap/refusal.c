/* Refusals. */
#include "lib/cap/refusal.h"

#include <stdarg.h>
#include <stdio.h>

struct cap_key_text cap_key_text(struct cap_bytes key)
{
    struct cap_key_text ret = {"0x"};
    size_t shown = key.len < CAP_KEY_TEXT_BYTES ? key.len : CAP_KEY_TEXT_BYTES;
    if (key.len == 0) {
        return (struct cap_key_text){"(empty key)"};
    }
    cap_hex_format(cap_bytes_slice(key, 0, shown), ret.text + 2);
    if (shown < key.len) {
        memcpy(ret.text + 2 + 2 * shown, "...", sizeof("..."));
    }
    return ret;
}

enum cap_error cap_refuse(struct cap_refusal *reterr, enum cap_error error, const char *format, ...)
{
    va_list args;
    if (reterr == NULL) {
        return error;
    }
    reterr->error = error;
    va_start(args, format);
    (void)vsnprintf(reterr->message, sizeof(reterr->message), format, args);
    va_end(args);
    return error;
}
