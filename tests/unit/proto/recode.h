/* Decode a payload and encode it again: what unit tests and the fuzzer ask of every message. */
#ifndef TESTS_UNIT_PROTO_RECODE_H
#define TESTS_UNIT_PROTO_RECODE_H

#include "proto/message.h"

/* Recoding in the form that messages have on some connection. */
typedef enum cap_error recode_form(uint8_t type, struct cap_bytes payload, struct cap_buf *again);

/*
 * Decodes a message of `type` and appends its encoding to `again`. Returns the decoder's error, or
 * the encoder's; a CANCEL is right when it is empty; BODY and types that do not exist are
 * CAP_E_UNSUPPORTED_REQUEST.
 */
enum cap_error recode(uint8_t type, struct cap_bytes payload, struct cap_buf *again);

/* The same on a connection with leases, where some messages have another form. */
enum cap_error recode_keep(uint8_t type, struct cap_bytes payload, struct cap_buf *again);

/* The same on a connection whose uploads go on. */
enum cap_error recode_resume(uint8_t type, struct cap_bytes payload, struct cap_buf *again);

/* The same for the detail of unresolved_slot. */
enum cap_error recode_unresolved(struct cap_bytes detail, struct cap_buf *again);

/* The same for a shortage. */
enum cap_error recode_shortage(struct cap_bytes detail, struct cap_buf *again);

#endif
