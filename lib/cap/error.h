/*
 * The one error space of capstore.
 *
 * Every function that can fail returns `enum cap_error`: CAP_OK (0) or a negative value. The
 * magnitude is the code on the wire (proto/PROTOCOL.md) and never changes meaning; the name is the
 * same word in C, on the wire, in JSON and in the tool. Foreign codes (errno, LMDB, libuv) are
 * translated in exactly one function each, never passed on.
 *
 * Codes 1 to 12 are the rules of the deblob in their order (lib/cap/FORMATS.md section 5). Code 82
 * was unknown_type.
 */
#ifndef LIB_CAP_ERROR_H
#define LIB_CAP_ERROR_H

/*
 * X(NAME, code, name, text): the text says what is wrong and, where possible, what to do.
 *
 * client/include/capstore/error.h is written from this list, comments of sections included: run
 * `./dev fmt` after a change.
 */
#define CAP_ERRORS(X)                                                                              \
    /* The deblob. */                                                                              \
    X(SSZ, 1, ssz, "not a canonical SSZ encoding")                                                 \
    X(CODE_TOO_LARGE, 2, code_too_large, "the code region is longer than MAX_CODE_SIZE")           \
    X(CODE_REF_OUT_OF_RANGE, 3, code_ref_out_of_range,                                             \
      "the code window reaches past the end of the arena")                                         \
    X(DATA_SIZE_NOT_PAGE_MULTIPLE, 4, data_size_not_page_multiple,                                 \
      "the size of a data slot is not a multiple of the page size")                                \
    X(DATA_BAD_LEN, 5, data_bad_len, "a page window is empty or longer than a page")               \
    X(DATA_OUT_OF_RANGE, 6, data_out_of_range, "a page window reaches past the end of the arena")  \
    X(DATA_PAGE_INDEX_OUT_OF_RANGE, 7, data_page_index_out_of_range,                               \
      "a page index is past the end of its data slot")                                             \
    X(DATA_NOT_CANONICAL, 8, data_not_canonical, "page indexes are not strictly ascending")        \
    X(REGISTER_INDEX_OUT_OF_RANGE, 9, register_index_out_of_range,                                 \
      "an endpoint sets a register that does not exist")                                           \
    X(SOURCE_PATH_EMPTY, 10, source_path_empty, "the source path of a memory mapping is empty")    \
    X(SOURCE_PATH_TOO_DEEP, 11, source_path_too_deep,                                              \
      "the source path of a memory mapping has more than MAX_SOURCE_DEPTH steps")                  \
    X(UNRESOLVED_SLOT, 12, unresolved_slot,                                                        \
      "slots name caps that are not published; publish them first, or upload with data")           \
    /* Caps and their bodies. */                                                                   \
    X(BODY_NOT_CANONICAL, 20, body_not_canonical, "not a canonical served body")                   \
    X(HASH_MISMATCH, 21, hash_mismatch, "the content does not match its hash")                     \
    X(WRONG_KIND, 22, wrong_kind, "the cap is not of the requested kind")                          \
    X(BODY_TOO_LARGE, 23, body_too_large, "the served body would be larger than allowed")          \
    X(SLICE_MISMATCH, 24, slice_mismatch, "a hash in the slice does not match")                    \
    X(SLICE_MALFORMED, 25, slice_malformed, "not a canonical slice")                               \
    /* Anywhere. */                                                                                \
    X(NO_MEMORY, 40, no_memory, "out of memory")                                                   \
    X(IO, 41, io, "an input or output operation failed")                                           \
    X(INVALID_ARGUMENT, 42, invalid_argument, "invalid argument")                                  \
    X(INTERNAL, 43, internal, "a bug in capstore; please report it")                               \
    X(CANCELLED, 44, cancelled, "cancelled")                                                       \
    /* The store. */                                                                               \
    X(NOT_FOUND, 60, not_found, "no cap with that hash is published here")                         \
    X(CORRUPT, 61, corrupt,                                                                        \
      "the stored bytes are damaged; fetch the cap elsewhere or restore the store from a backup")  \
    X(DISK_FULL, 62, disk_full, "the disk is full; free some space, then retry")                   \
    X(MAP_FULL, 63, map_full, "the store's map is full; raise its size, then retry")               \
    X(READERS_FULL, 64, readers_full, "too many readers of the store; retry later")                \
    X(STORE_VERSION, 65, store_version,                                                            \
      "this version cannot read the store's format; run the version that wrote it")                \
    X(STORE_LOCKED, 66, store_locked, "another process is using the state directory")              \
    X(STORE_FAILED, 67, store_failed, "the store failed and must be reopened")                     \
    X(QUARANTINED, 68, quarantined,                                                                \
      "the cap's stored bytes are damaged; publish it again to heal it, or fetch it elsewhere")    \
    X(FORBIDDEN_CAP, 69, forbidden_cap, "the operator forbids this cap")                           \
    X(STILL_NEEDED, 70, still_needed,                                                              \
      "the cap is still needed: by a root, an Image, a lease or an upload")                        \
    X(NO_ROOT, 71, no_root, "there is no root with that name")                                     \
    X(JOB_RUNNING, 72, job_running,                                                                \
      "a job of that kind is running already; wait for its end, or cancel it")                     \
    X(NO_JOB, 73, no_job, "no job with that number is running")                                    \
    X(NOT_CONFIGURED, 74, not_configured, "an option that this needs is not set")                  \
    X(UPSTREAM_AWAY, 75, upstream_away,                                                            \
      "the upstream store cannot be reached or does not answer in time; retry later")              \
    X(UPSTREAM_BROKEN, 76, upstream_broken,                                                        \
      "the upstream store's answer breaks its protocol or does not match the hash")                \
    /* The protocol. */                                                                            \
    X(BAD_FRAME, 80, bad_frame, "a frame breaks the protocol")                                     \
    X(UNSUPPORTED_VERSION, 81, unsupported_version, "no common protocol version")                  \
    X(FRAME_TOO_LARGE, 83, frame_too_large, "a frame is longer than the limit in HELLO_REPLY")     \
    X(MESSAGE_TOO_LARGE, 84, message_too_large, "a message is longer than its type allows")        \
    X(ID_IN_USE, 85, id_in_use, "the request id is still in use")                                  \
    X(BAD_MESSAGE, 86, bad_message, "a message does not decode or holds impossible values")        \
    X(LENGTH_MISMATCH, 87, length_mismatch, "the body is not as long as declared")                 \
    X(RANGE_OUT_OF_BODY, 88, range_out_of_body, "the range starts past the end of the body")       \
    X(UNSUPPORTED_REQUEST, 89, unsupported_request,                                                \
      "the daemon does not know this type of request")                                             \
    X(RESUME_OFFSET, 90, resume_offset,                                                            \
      "the upload cannot go on at that offset; ask where, then retry")                             \
    /* Limits. */                                                                                  \
    X(TOO_MANY_CONNECTIONS, 100, too_many_connections, "too many connections; retry later")        \
    X(TOO_MANY_REQUESTS, 101, too_many_requests, "too many requests in flight; wait for answers")  \
    X(TOO_MANY_HASHES, 102, too_many_hashes, "too many hashes in one request; split it")           \
    X(UPLOAD_TOO_LARGE, 103, upload_too_large, "the upload is larger than allowed")                \
    X(STRUCTURE_TOO_LARGE, 104, structure_too_large,                                               \
      "the structure before the arena is larger than allowed")                                     \
    X(DATA_TOO_LARGE, 105, data_too_large, "the data slots name more bytes than allowed")          \
    X(SPOOL_FULL, 106, spool_full, "the spool is full; retry when other uploads have finished")    \
    X(MEMORY_LIMIT, 107, memory_limit, "request memory limit reached; retry later")                \
    X(IDLE_TIMEOUT, 108, idle_timeout, "connection idle for too long")                             \
    X(PROGRESS_TIMEOUT, 109, progress_timeout, "a request made no progress for too long")          \
    X(DRAINING, 110, draining, "the daemon is shutting down; retry later")                         \
    X(TIMED_OUT, 111, timed_out, "the operation timed out")                                        \
    X(UPLOAD_TOO_SLOW, 112, upload_too_slow, "the upload is slower than the least rate allowed")   \
    X(HELLO_TIMEOUT, 113, hello_timeout, "no HELLO within the time allowed")                       \
    X(QUOTA_EXCEEDED, 114, quota_exceeded, "over a quota of the daemon")                           \
    X(CLOSURE_TOO_LARGE, 115, closure_too_large,                                                   \
      "the closure is more than one answer gives; ask for the rest with what has arrived")         \
    /* The client. */                                                                              \
    X(CONNECT, 120, connect,                                                                       \
      "cannot connect; check that the daemon is running and that the address is right")            \
    X(CONNECTION_LOST, 121, connection_lost, "connection lost; retry")                             \
    X(BAD_REPLY, 122, bad_reply, "the daemon's answer breaks the protocol")                        \
    X(NOT_SUPPORTED, 123, not_supported, "this system or this build cannot do that")

enum cap_error {
    CAP_OK = 0,
#define CAP_ERROR_ENUM(NAME, code, name, text) CAP_E_##NAME = -(code),
    CAP_ERRORS(CAP_ERROR_ENUM)
#undef CAP_ERROR_ENUM
};

/* The stable name of an error, "ok" for CAP_OK, "internal" for a value that is not an error.
 * Static. */
const char *cap_error_name(enum cap_error error);

/* One English sentence for a person, without a final stop. Static. */
const char *cap_error_text(enum cap_error error);

/* The error of a code read from the wire (its magnitude); CAP_E_INTERNAL if it is unknown. */
enum cap_error cap_error_from_code(unsigned code);

#endif
