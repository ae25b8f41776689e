/* System error numbers, translated once. */
#include "daemon/core/oserror.h"

#include <errno.h>

enum cap_error error_of_errno(int number)
{
    switch (number) {
    case 0:
        return CAP_OK;
    case ENOMEM:
        return CAP_E_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CAP_E_DISK_FULL;
    case EINVAL:
    case ENAMETOOLONG:
        return CAP_E_INVALID_ARGUMENT;
    case ECANCELED:
        return CAP_E_CANCELLED;
    case EWOULDBLOCK:
        return CAP_E_STORE_LOCKED;
    case ECONNRESET:
    case EPIPE:
        return CAP_E_CONNECTION_LOST;
    default:
        return CAP_E_IO;
    }
}
