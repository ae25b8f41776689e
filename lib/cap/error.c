#include "lib/cap/error.h"

const char *cap_error_name(enum cap_error error)
{
    switch (error) {
    case CAP_OK:
        return "ok";
#define CAP_ERROR_NAME(NAME, code, name, text)                                                     \
    case CAP_E_##NAME:                                                                             \
        return #name;
        CAP_ERRORS(CAP_ERROR_NAME)
#undef CAP_ERROR_NAME
    }
    return "internal";
}

const char *cap_error_text(enum cap_error error)
{
    switch (error) {
    case CAP_OK:
        return "no error";
#define CAP_ERROR_TEXT(NAME, code, name, text)                                                     \
    case CAP_E_##NAME:                                                                             \
        return text;
        CAP_ERRORS(CAP_ERROR_TEXT)
#undef CAP_ERROR_TEXT
    }
    return "a bug in capstore; please report it";
}

enum cap_error cap_error_from_code(unsigned code)
{
    static const enum cap_error known[] = {
#define CAP_ERROR_VALUE(NAME, code, name, text) CAP_E_##NAME,
        CAP_ERRORS(CAP_ERROR_VALUE)
#undef CAP_ERROR_VALUE
    };

    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (code == (unsigned)-known[i]) {
            return known[i];
        }
    }
    return CAP_E_INTERNAL;
}
