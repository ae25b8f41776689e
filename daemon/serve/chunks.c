/* A stack of free chunks. */
#include "daemon/serve/chunks.h"

#include <stdlib.h>

uint8_t *chunks_take(struct chunks *chunks)
{
    return chunks->count > 0 ? chunks->kept[--chunks->count] : malloc(CHUNK_SIZE);
}

void chunks_give(struct chunks *chunks, uint8_t *chunk)
{
    if (chunk != NULL && chunks->count < CHUNKS_KEPT) {
        chunks->kept[chunks->count++] = chunk;
    } else {
        free(chunk);
    }
}

void chunks_close(struct chunks *chunks)
{
    while (chunks->count > 0) {
        free(chunks->kept[--chunks->count]);
    }
}
