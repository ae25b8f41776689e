/* The public errors are those of lib/cap: the compiler checks the values, gate `errors` the rest.
 */
#include <capstore/error.h>

#include "lib/cap/error.h"

#define SAME_VALUE(NAME, code, name, text)                                                         \
    _Static_assert((int)CAPSTORE_E_##NAME == (int)CAP_E_##NAME, "capstore/error.h: " #name);
CAP_ERRORS(SAME_VALUE)
#undef SAME_VALUE

_Static_assert((int)CAPSTORE_OK == (int)CAP_OK, "capstore/error.h: ok");

const char *capstore_error_name(enum capstore_error error)
{
    return cap_error_name((enum cap_error)(int)error);
}

const char *capstore_error_text(enum capstore_error error)
{
    return cap_error_text((enum cap_error)(int)error);
}
