#include "daemon/admin/text.h"

#include <stdarg.h>
#include <stdio.h>

void admin_print(struct admin_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (text->error != CAP_OK || len < 0) {
        return;
    }
    /* One more for the NUL that vsnprintf writes. */
    text->error = cap_buf_reserve(text->buf, (size_t)len + 1);
    if (text->error != CAP_OK) {
        return;
    }
    va_start(args, format);
    vsnprintf((char *)text->buf->data + text->buf->len, (size_t)len + 1, format, args);
    va_end(args);
    text->buf->len += (size_t)len;
}
