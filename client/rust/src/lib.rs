//! Caps by hash from a capstore daemon, verified. A safe face of libcapstore.
//!
//! ```no_run
//! # fn main() -> capstore::Result<()> {
//! let mut store = capstore::Store::connect("unix:/run/capstore/capstore.sock")?;
//! let hash = "fbe59d0aa1f15a4d62e17e9c45741cc7d149df12401c55d3bef63e14445b9ebc".parse()?;
//! let cap = store.get(&hash)?; // its bytes have that hash
//! if let Some(image) = cap.image() {
//!     println!("{} bytes of code", image.code().len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Threads.** A [`Store`] is one connection and can be sent to another thread, but not shared: every
//! call takes `&mut self`. Caps, maps and spaces never change and are both `Send` and `Sync`. So are the
//! readers and lazy maps of [`Store::parts`], through which threads share one store.
//!
//! ```compile_fail
//! fn shared<T: Sync>() {}
//! shared::<capstore::Store>(); // not Sync: threads open a store each
//! ```
//!
//! ```compile_fail
//! fn shared<T: Sync>() {}
//! // Not Sync: it belongs to one thread at a time.
//! shared::<capstore::SliceVerifier<fn(capstore::Proven<'_>) -> bool>>();
//! ```

#![warn(missing_docs)]

mod cap;
mod error;
mod hash;
mod lazy;
mod map;
mod reader;
mod slice;
mod store;
#[allow(non_camel_case_types)]
#[doc(hidden)]
pub mod sys;

pub use cap::{Cap, Data, Endpoint, Image, Mapping, Page, Region, Slot};
pub use error::{Code, Error, Result, Shortage, Unresolved};
pub use hash::Hash;
pub use map::{Map, Space, Span, Verify};
pub use lazy::{Lazy, LazyFailure, LazySpace};
pub use reader::{OpenOptions, Parts, ReadCounts, Reader};
pub use slice::{Proven, SliceVerifier, SliceWhere};
pub use store::{ClosureEntry, DaemonInfo, Kept, Options, Published, Put, Stat, Store};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// Where an Image's code maps.
pub const CODE_BASE: u64 = 0x0040_0000;

/// What a cap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A program.
    Image,
    /// A sparse run of pages.
    Data,
}

impl Kind {
    fn of(value: std::os::raw::c_int) -> Option<Kind> {
        match value {
            1 => Some(Kind::Image),
            2 => Some(Kind::Data),
            _ => None,
        }
    }

    /// Of a cap that the library made, which is one of the two.
    fn sure(value: std::os::raw::c_int) -> Kind {
        Kind::of(value).unwrap_or(Kind::Data)
    }

    fn value(self) -> std::os::raw::c_int {
        match self {
            Kind::Image => 1,
            Kind::Data => 2,
        }
    }
}

/// Which of an Image's two slot tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Mapped read-only.
    Pinned,
    /// Copied for each instance.
    Initial,
}

/// The name of a Data cap of raw bytes, followed by zeros up to `size` (0: their length), as
/// [`Store::put_data`] would publish it. No daemon is needed.
pub fn data_hash(content: &[u8], size: u64) -> Result<Hash> {
    let bytes = sys::capstore_bytes { data: content.as_ptr(), len: content.len() };
    let mut id = std::mem::MaybeUninit::<sys::capstore_data_id>::uninit();
    check(unsafe {
        let source = sys::capstore_source_memory(&bytes);
        sys::capstore_data_hash(&source, size, id.as_mut_ptr())
    })?;
    Ok(Hash::of(unsafe { &id.assume_init().cap_hash }))
}

/// The library's version, such as `0.1.0`.
pub fn version() -> &'static str {
    // Static, and ASCII.
    unsafe { std::ffi::CStr::from_ptr(sys::capstore_version()) }.to_str().unwrap_or("?")
}

fn check(value: std::os::raw::c_int) -> Result<()> {
    match value {
        0 => Ok(()),
        failed => Err(Error::bare(Code::of(failed))),
    }
}

/// A span that the library lent, for as long as its owner lives.
unsafe fn lent<'a>(bytes: sys::capstore_bytes) -> &'a [u8] {
    if bytes.len == 0 {
        return &[];
    }
    std::slice::from_raw_parts(bytes.data, bytes.len)
}
