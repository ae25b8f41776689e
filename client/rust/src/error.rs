//! Errors: the names of the library, as an enum.

use std::ffi::CStr;
use std::fmt;

use crate::sys;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal,)*) => {
        /// What went wrong. The name of a code, [`Code::name`], is the same word in C, on the wire,
        /// in JSON and in `capctl`. Later versions may add some.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $variant,)*
            /// A code that this crate does not know; the library may be newer.
            Other(i32),
        }

        impl Code {
            /// Every code that has a variant.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The code of a value that the library returned, which is negative.
            pub(crate) fn of(value: i32) -> Code {
                match value.wrapping_neg() {
                    $($code => Code::$variant,)*
                    _ => Code::Other(value),
                }
            }

            /// The value of the C library: negative.
            pub fn value(self) -> i32 {
                match self {
                    $(Code::$variant => -$code,)*
                    Code::Other(value) => value,
                }
            }
        }
    };
}

codes! {
    #[doc = "not a canonical SSZ encoding"]
    Ssz = 1,
    #[doc = "the code region is longer than MAX_CODE_SIZE"]
    CodeTooLarge = 2,
    #[doc = "the code window reaches past the end of the arena"]
    CodeRefOutOfRange = 3,
    #[doc = "the size of a data slot is not a multiple of the page size"]
    DataSizeNotPageMultiple = 4,
    #[doc = "a page window is empty or longer than a page"]
    DataBadLen = 5,
    #[doc = "a page window reaches past the end of the arena"]
    DataOutOfRange = 6,
    #[doc = "a page index is past the end of its data slot"]
    DataPageIndexOutOfRange = 7,
    #[doc = "page indexes are not strictly ascending"]
    DataNotCanonical = 8,
    #[doc = "an endpoint sets a register that does not exist"]
    RegisterIndexOutOfRange = 9,
    #[doc = "the source path of a memory mapping is empty"]
    SourcePathEmpty = 10,
    #[doc = "the source path of a memory mapping has more than MAX_SOURCE_DEPTH steps"]
    SourcePathTooDeep = 11,
    #[doc = "slots name caps that are not published; publish them first, or upload with data"]
    UnresolvedSlot = 12,
    #[doc = "not a canonical served body"]
    BodyNotCanonical = 20,
    #[doc = "the content does not match its hash"]
    HashMismatch = 21,
    #[doc = "the cap is not of the requested kind"]
    WrongKind = 22,
    #[doc = "the served body would be larger than allowed"]
    BodyTooLarge = 23,
    #[doc = "a hash in the slice does not match"]
    SliceMismatch = 24,
    #[doc = "not a canonical slice"]
    SliceMalformed = 25,
    #[doc = "out of memory"]
    NoMemory = 40,
    #[doc = "an input or output operation failed"]
    Io = 41,
    #[doc = "invalid argument"]
    InvalidArgument = 42,
    #[doc = "a bug in capstore; please report it"]
    Internal = 43,
    #[doc = "cancelled"]
    Cancelled = 44,
    #[doc = "no cap with that hash is published here"]
    NotFound = 60,
    #[doc = "the stored bytes are damaged; fetch the cap elsewhere or restore the store from a backup"]
    Corrupt = 61,
    #[doc = "the disk is full; free some space, then retry"]
    DiskFull = 62,
    #[doc = "the store's map is full; raise its size, then retry"]
    MapFull = 63,
    #[doc = "too many readers of the store; retry later"]
    ReadersFull = 64,
    #[doc = "this version cannot read the store's format; run the version that wrote it"]
    StoreVersion = 65,
    #[doc = "another process is using the state directory"]
    StoreLocked = 66,
    #[doc = "the store failed and must be reopened"]
    StoreFailed = 67,
    #[doc = "the cap's stored bytes are damaged; publish it again to heal it, or fetch it elsewhere"]
    Quarantined = 68,
    #[doc = "the operator forbids this cap"]
    ForbiddenCap = 69,
    #[doc = "the cap is still needed: by a root, an Image, a lease or an upload"]
    StillNeeded = 70,
    #[doc = "there is no root with that name"]
    NoRoot = 71,
    #[doc = "a job of that kind is running already; wait for its end, or cancel it"]
    JobRunning = 72,
    #[doc = "no job with that number is running"]
    NoJob = 73,
    #[doc = "an option that this needs is not set"]
    NotConfigured = 74,
    #[doc = "the upstream store cannot be reached or does not answer in time; retry later"]
    UpstreamAway = 75,
    #[doc = "the upstream store's answer breaks its protocol or does not match the hash"]
    UpstreamBroken = 76,
    #[doc = "a frame breaks the protocol"]
    BadFrame = 80,
    #[doc = "no common protocol version"]
    UnsupportedVersion = 81,
    #[doc = "a frame is longer than the limit in HELLO_REPLY"]
    FrameTooLarge = 83,
    #[doc = "a message is longer than its type allows"]
    MessageTooLarge = 84,
    #[doc = "the request id is still in use"]
    IdInUse = 85,
    #[doc = "a message does not decode or holds impossible values"]
    BadMessage = 86,
    #[doc = "the body is not as long as declared"]
    LengthMismatch = 87,
    #[doc = "the range starts past the end of the body"]
    RangeOutOfBody = 88,
    #[doc = "the daemon does not know this type of request"]
    UnsupportedRequest = 89,
    #[doc = "the upload cannot go on at that offset; ask where, then retry"]
    ResumeOffset = 90,
    #[doc = "too many connections; retry later"]
    TooManyConnections = 100,
    #[doc = "too many requests in flight; wait for answers"]
    TooManyRequests = 101,
    #[doc = "too many hashes in one request; split it"]
    TooManyHashes = 102,
    #[doc = "the upload is larger than allowed"]
    UploadTooLarge = 103,
    #[doc = "the structure before the arena is larger than allowed"]
    StructureTooLarge = 104,
    #[doc = "the data slots name more bytes than allowed"]
    DataTooLarge = 105,
    #[doc = "the spool is full; retry when other uploads have finished"]
    SpoolFull = 106,
    #[doc = "request memory limit reached; retry later"]
    MemoryLimit = 107,
    #[doc = "connection idle for too long"]
    IdleTimeout = 108,
    #[doc = "a request made no progress for too long"]
    ProgressTimeout = 109,
    #[doc = "the daemon is shutting down; retry later"]
    Draining = 110,
    #[doc = "the operation timed out"]
    TimedOut = 111,
    #[doc = "the upload is slower than the least rate allowed"]
    UploadTooSlow = 112,
    #[doc = "no HELLO within the time allowed"]
    HelloTimeout = 113,
    #[doc = "over a quota of the daemon"]
    QuotaExceeded = 114,
    #[doc = "the closure is more than one answer gives; ask for the rest with what has arrived"]
    ClosureTooLarge = 115,
    #[doc = "cannot connect; check that the daemon is running and that the address is right"]
    Connect = 120,
    #[doc = "connection lost; retry"]
    ConnectionLost = 121,
    #[doc = "the daemon's answer breaks the protocol"]
    BadReply = 122,
    #[doc = "this system or this build cannot do that"]
    NotSupported = 123,
}

impl Code {
    /// Its name, such as `not_found`.
    pub fn name(self) -> &'static str {
        text_of(unsafe { sys::capstore_error_name(self.value()) })
    }

    /// One English sentence for a person, without a final stop.
    pub fn text(self) -> &'static str {
        text_of(unsafe { sys::capstore_error_text(self.value()) })
    }
}

fn text_of(text: *const std::os::raw::c_char) -> &'static str {
    // The library's names and texts are static and ASCII.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("?")
}

/// A failed call: its code, and what the library or the daemon said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What went wrong.
    pub code: Code,
    /// The details for a person; may be empty.
    pub message: String,
    /// Of [`Code::UnresolvedSlot`]: every slot that failed.
    pub unresolved: Vec<Unresolved>,
    /// Of [`Code::QuotaExceeded`], [`Code::DiskFull`] and [`Code::MapFull`], when the daemon knows
    /// them: what the upload needed and what there was.
    pub shortage: Option<Shortage>,
}

/// What an upload needed and what there was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes; caps if `limit` is `quota-caps`.
    pub need: u64,
    /// Of the same, less than `need`.
    pub have: u64,
    /// The daemon's option that sets it; empty: the code says it.
    pub limit: String,
}

/// A slot that names a cap which is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Which of the Image's tables.
    pub table: crate::Table,
    /// What was expected; `None`: either kind.
    pub kind: Option<crate::Kind>,
    /// The cap that is not there.
    pub hash: crate::Hash,
    /// The slot's key.
    pub slot: Vec<u8>,
}

impl Error {
    pub(crate) fn bare(code: Code) -> Error {
        Error { code, message: String::new(), unresolved: Vec::new(), shortage: None }
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Error {
        Error::bare(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = if self.message.is_empty() { self.code.text() } else { &self.message };
        write!(f, "{}: {}", self.code.name(), said)
    }
}

impl std::error::Error for Error {}

/// What calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
