/*
 * Memory in which bodies are gathered on their way to a socket, one chunk for each answer under
 * way. A few are kept when no answer needs them, since the system takes longer to give new pages
 * than a chunk takes to send. Loop thread only.
 */
#ifndef DAEMON_SERVE_CHUNKS_H
#define DAEMON_SERVE_CHUNKS_H

#include <stddef.h>
#include <stdint.h>

#define CHUNK_SIZE  (132u << 10) /* 128 KiB and heads: a part of the processor's cache */
#define CHUNKS_KEPT 8u           /* as many answers at once keep a loop busy */

/* Zeroed: it keeps none. */
struct chunks {
    uint8_t *kept[CHUNKS_KEPT];
    size_t count;
};

/* A chunk, the caller's until chunks_give. NULL: no memory. */
uint8_t *chunks_take(struct chunks *chunks);

/* NULL is fine. */
void chunks_give(struct chunks *chunks, uint8_t *chunk);

/* Frees those that are kept. */
void chunks_close(struct chunks *chunks);

#endif
