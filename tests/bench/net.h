/* Connections of the benchmarks' programs: blocking, and a failure ends the program. */
#ifndef TESTS_BENCH_NET_H
#define TESTS_BENCH_NET_H

#include <stddef.h>
#include <stdint.h>

/* A connected blocking socket, with TCP_NODELAY; `address` is unix:PATH or tcp:HOST:PORT. */
int net_connect(const char *address);

/* A listening socket; what it accepts blocks, with TCP_NODELAY. */
int net_listen(const char *address);

/* Says HELLO to capstored and receives the HELLO_REPLY. */
void net_hello(int fd);

/* Receives one whole message of capstored, neither BODY nor ERROR, of at most 4096 bytes with its
 * header; returns its type, and the payload is at buf + PROTO_FRAME_HEADER_SIZE. */
uint8_t net_message(int fd, uint8_t *buf);

/* Prints the message with what was received, and ends the program with status 1. */
_Noreturn void net_die(const char *what, const uint8_t *bytes, size_t len);

/* The same with the text of errno. */
_Noreturn void net_die_errno(const char *what);

#endif
