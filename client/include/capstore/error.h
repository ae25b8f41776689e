/*
 * Errors: every function of libcapstore that can fail returns one of these.
 *
 * The magnitude of a value is its code in the protocol, and its name (capstore_error_name) is the
 * same word in C, on the wire, in JSON and in capctl. Values are never reused for another meaning;
 * later versions may add some.
 */
#ifndef CAPSTORE_ERROR_H
#define CAPSTORE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* 0 is success; every failure is negative. */
enum capstore_error {
    CAPSTORE_OK = 0,

    /* ---- The deblob ---- */

    /* not a canonical SSZ encoding */
    CAPSTORE_E_SSZ = -1,
    /* the code region is longer than MAX_CODE_SIZE */
    CAPSTORE_E_CODE_TOO_LARGE = -2,
    /* the code window reaches past the end of the arena */
    CAPSTORE_E_CODE_REF_OUT_OF_RANGE = -3,
    /* the size of a data slot is not a multiple of the page size */
    CAPSTORE_E_DATA_SIZE_NOT_PAGE_MULTIPLE = -4,
    /* a page window is empty or longer than a page */
    CAPSTORE_E_DATA_BAD_LEN = -5,
    /* a page window reaches past the end of the arena */
    CAPSTORE_E_DATA_OUT_OF_RANGE = -6,
    /* a page index is past the end of its data slot */
    CAPSTORE_E_DATA_PAGE_INDEX_OUT_OF_RANGE = -7,
    /* page indexes are not strictly ascending */
    CAPSTORE_E_DATA_NOT_CANONICAL = -8,
    /* an endpoint sets a register that does not exist */
    CAPSTORE_E_REGISTER_INDEX_OUT_OF_RANGE = -9,
    /* the source path of a memory mapping is empty */
    CAPSTORE_E_SOURCE_PATH_EMPTY = -10,
    /* the source path of a memory mapping has more than MAX_SOURCE_DEPTH steps */
    CAPSTORE_E_SOURCE_PATH_TOO_DEEP = -11,
    /* slots name caps that are not published; publish them first, or upload with data */
    CAPSTORE_E_UNRESOLVED_SLOT = -12,

    /* ---- Caps and their bodies ---- */

    /* not a canonical served body */
    CAPSTORE_E_BODY_NOT_CANONICAL = -20,
    /* the content does not match its hash */
    CAPSTORE_E_HASH_MISMATCH = -21,
    /* the cap is not of the requested kind */
    CAPSTORE_E_WRONG_KIND = -22,
    /* the served body would be larger than allowed */
    CAPSTORE_E_BODY_TOO_LARGE = -23,
    /* a hash in the slice does not match */
    CAPSTORE_E_SLICE_MISMATCH = -24,
    /* not a canonical slice */
    CAPSTORE_E_SLICE_MALFORMED = -25,

    /* ---- Anywhere ---- */

    /* out of memory */
    CAPSTORE_E_NO_MEMORY = -40,
    /* an input or output operation failed */
    CAPSTORE_E_IO = -41,
    /* invalid argument */
    CAPSTORE_E_INVALID_ARGUMENT = -42,
    /* a bug in capstore; please report it */
    CAPSTORE_E_INTERNAL = -43,
    /* cancelled */
    CAPSTORE_E_CANCELLED = -44,

    /* ---- The store ---- */

    /* no cap with that hash is published here */
    CAPSTORE_E_NOT_FOUND = -60,
    /* the stored bytes are damaged; fetch the cap elsewhere or restore the store from a backup */
    CAPSTORE_E_CORRUPT = -61,
    /* the disk is full; free some space, then retry */
    CAPSTORE_E_DISK_FULL = -62,
    /* the store's map is full; raise its size, then retry */
    CAPSTORE_E_MAP_FULL = -63,
    /* too many readers of the store; retry later */
    CAPSTORE_E_READERS_FULL = -64,
    /* this version cannot read the store's format; run the version that wrote it */
    CAPSTORE_E_STORE_VERSION = -65,
    /* another process is using the state directory */
    CAPSTORE_E_STORE_LOCKED = -66,
    /* the store failed and must be reopened */
    CAPSTORE_E_STORE_FAILED = -67,
    /* the cap's stored bytes are damaged; publish it again to heal it, or fetch it elsewhere */
    CAPSTORE_E_QUARANTINED = -68,
    /* the operator forbids this cap */
    CAPSTORE_E_FORBIDDEN_CAP = -69,
    /* the cap is still needed: by a root, an Image, a lease or an upload */
    CAPSTORE_E_STILL_NEEDED = -70,
    /* there is no root with that name */
    CAPSTORE_E_NO_ROOT = -71,
    /* a job of that kind is running already; wait for its end, or cancel it */
    CAPSTORE_E_JOB_RUNNING = -72,
    /* no job with that number is running */
    CAPSTORE_E_NO_JOB = -73,
    /* an option that this needs is not set */
    CAPSTORE_E_NOT_CONFIGURED = -74,
    /* the upstream store cannot be reached or does not answer in time; retry later */
    CAPSTORE_E_UPSTREAM_AWAY = -75,
    /* the upstream store's answer breaks its protocol or does not match the hash */
    CAPSTORE_E_UPSTREAM_BROKEN = -76,

    /* ---- The protocol ---- */

    /* a frame breaks the protocol */
    CAPSTORE_E_BAD_FRAME = -80,
    /* no common protocol version */
    CAPSTORE_E_UNSUPPORTED_VERSION = -81,
    /* a frame is longer than the limit in HELLO_REPLY */
    CAPSTORE_E_FRAME_TOO_LARGE = -83,
    /* a message is longer than its type allows */
    CAPSTORE_E_MESSAGE_TOO_LARGE = -84,
    /* the request id is still in use */
    CAPSTORE_E_ID_IN_USE = -85,
    /* a message does not decode or holds impossible values */
    CAPSTORE_E_BAD_MESSAGE = -86,
    /* the body is not as long as declared */
    CAPSTORE_E_LENGTH_MISMATCH = -87,
    /* the range starts past the end of the body */
    CAPSTORE_E_RANGE_OUT_OF_BODY = -88,
    /* the daemon does not know this type of request */
    CAPSTORE_E_UNSUPPORTED_REQUEST = -89,
    /* the upload cannot go on at that offset; ask where, then retry */
    CAPSTORE_E_RESUME_OFFSET = -90,

    /* ---- Limits ---- */

    /* too many connections; retry later */
    CAPSTORE_E_TOO_MANY_CONNECTIONS = -100,
    /* too many requests in flight; wait for answers */
    CAPSTORE_E_TOO_MANY_REQUESTS = -101,
    /* too many hashes in one request; split it */
    CAPSTORE_E_TOO_MANY_HASHES = -102,
    /* the upload is larger than allowed */
    CAPSTORE_E_UPLOAD_TOO_LARGE = -103,
    /* the structure before the arena is larger than allowed */
    CAPSTORE_E_STRUCTURE_TOO_LARGE = -104,
    /* the data slots name more bytes than allowed */
    CAPSTORE_E_DATA_TOO_LARGE = -105,
    /* the spool is full; retry when other uploads have finished */
    CAPSTORE_E_SPOOL_FULL = -106,
    /* request memory limit reached; retry later */
    CAPSTORE_E_MEMORY_LIMIT = -107,
    /* connection idle for too long */
    CAPSTORE_E_IDLE_TIMEOUT = -108,
    /* a request made no progress for too long */
    CAPSTORE_E_PROGRESS_TIMEOUT = -109,
    /* the daemon is shutting down; retry later */
    CAPSTORE_E_DRAINING = -110,
    /* the operation timed out */
    CAPSTORE_E_TIMED_OUT = -111,
    /* the upload is slower than the least rate allowed */
    CAPSTORE_E_UPLOAD_TOO_SLOW = -112,
    /* no HELLO within the time allowed */
    CAPSTORE_E_HELLO_TIMEOUT = -113,
    /* over a quota of the daemon */
    CAPSTORE_E_QUOTA_EXCEEDED = -114,
    /* the closure is more than one answer gives; ask for the rest with what has arrived */
    CAPSTORE_E_CLOSURE_TOO_LARGE = -115,

    /* ---- The client ---- */

    /* cannot connect; check that the daemon is running and that the address is right */
    CAPSTORE_E_CONNECT = -120,
    /* connection lost; retry */
    CAPSTORE_E_CONNECTION_LOST = -121,
    /* the daemon's answer breaks the protocol */
    CAPSTORE_E_BAD_REPLY = -122,
    /* this system or this build cannot do that */
    CAPSTORE_E_NOT_SUPPORTED = -123,
};

/* The stable name of an error, such as "not_found"; "ok" for CAPSTORE_OK, "internal" for a value
 * that is not an error. Static, any thread. */
const char *capstore_error_name(enum capstore_error error);

/* One English sentence for a person, without a final stop. Static, any thread. */
const char *capstore_error_text(enum capstore_error error);

#ifdef __cplusplus
}
#endif

#endif
