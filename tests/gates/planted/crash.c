/* A fuzz target that dies of the input "boom": the replay of a corpus with it must be a failure. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 4 && memcmp(data, "boom", size) == 0)
        abort();
    return 0;
}
