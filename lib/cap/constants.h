/* Constants of the formats (FORMATS.md section 1). */
#ifndef LIB_CAP_CONSTANTS_H
#define LIB_CAP_CONSTANTS_H

#include <stdint.h>

#define CAP_PAGE_SIZE        4096u
#define CAP_NUM_REGS         13u
#define CAP_MAX_SOURCE_DEPTH 8u
#define CAP_CODE_BASE        UINT64_C(0x00400000)
#define CAP_DATA_BASE        UINT64_C(0x10000000)
#define CAP_MAX_CODE_SIZE    (CAP_DATA_BASE - CAP_CODE_BASE) /* 252 MiB */
#define CAP_LIST_LIMIT       (UINT64_C(1) << 32)
#define CAP_ADDRESS_END      (UINT64_C(1) << 32) /* 4 GiB: mappings should end here */

/* What a cap is: the selector of its union, which also ends its hash and begins its body. */
enum cap_kind {
    CAP_KIND_IMAGE = 1,
    CAP_KIND_DATA = 2,
};

#endif
