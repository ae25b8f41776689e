use std::marker::PhantomData;
use std::os::raw::c_void;
use std::os::unix::io::BorrowedFd;
use std::ptr::NonNull;

use crate::cap::Image;
use crate::error::Result;
use crate::{check, lent, sys, Hash, Kind};

/// When a mapped cap is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Unless this process holds a map of the same file, verified.
    Once = 0,
    /// Each time.
    Always = 1,
    /// The daemon is trusted.
    Never = 2,
}

/// A cap mapped into memory without a copy: a sealed file that all processes share. It lives on when
/// the store is closed.
pub struct Map(pub(crate) NonNull<sys::capstore_map>);

// A map never changes; any thread may read and free it.
unsafe impl Send for Map {}
unsafe impl Sync for Map {}

impl Drop for Map {
    fn drop(&mut self) {
        unsafe { sys::capstore_map_free(self.0.as_ptr()) }
    }
}

fn bytes_of<'a>(map: *const sys::capstore_map) -> &'a [u8] {
    unsafe { lent(sys::capstore_map_bytes(map)) }
}

impl Map {
    /// Image or Data.
    pub fn kind(&self) -> Kind {
        Kind::sure(unsafe { sys::capstore_map_kind(self.0.as_ptr()) })
    }

    /// The hash that was asked for.
    pub fn hash(&self) -> Hash {
        Hash::of(unsafe { &*sys::capstore_map_hash(self.0.as_ptr()) })
    }

    /// Whether this file was hashed, now or earlier, and has that hash.
    pub fn is_verified(&self) -> bool {
        unsafe { sys::capstore_map_verified(self.0.as_ptr()) }
    }

    /// Bytes of an Image's code, or of a Data cap's content, which may be near 2^64.
    pub fn size(&self) -> u64 {
        unsafe { sys::capstore_map_size(self.0.as_ptr()) }
    }

    /// An Image's code with zeros up to the end of its last page; a Data cap's content up to 2^44.
    pub fn bytes(&self) -> &[u8] {
        bytes_of(self.0.as_ptr())
    }

    /// The file, open for reading; the code or the data begins at offset 0.
    pub fn fd(&self) -> BorrowedFd<'_> {
        unsafe { BorrowedFd::borrow_raw(sys::capstore_map_fd(self.0.as_ptr())) }
    }

    /// An Image's structure, without its code.
    pub fn image(&self) -> Option<Image<'_>> {
        let image = unsafe { sys::capstore_map_image(self.0.as_ptr()) };
        (!image.is_null()).then(|| unsafe { Image::of(image) })
    }
}

/// An Image and the Data caps behind its mappings, all of them mapped.
pub struct Space(pub(crate) NonNull<sys::capstore_space>);

unsafe impl Send for Space {}
unsafe impl Sync for Space {}

impl Drop for Space {
    fn drop(&mut self) {
        unsafe { sys::capstore_space_free(self.0.as_ptr()) }
    }
}

/// A range of a program's memory.
#[derive(Debug)]
pub struct Span<'a> {
    /// First address.
    pub address: u64,
    /// Bytes, as the Image says; of the code up to the end of its last page.
    pub len: u64,
    /// Shared; otherwise a program writes to a copy of its own.
    pub read_only: bool,
    /// What is there, from offset 0; `None`: only a runtime knows.
    pub fd: Option<BorrowedFd<'a>>,
    /// Bytes that come from the file, whole pages; zeros follow up to `len`.
    pub file_len: u64,
    owner: PhantomData<&'a Space>,
}

impl Space {
    /// The Image's structure, without its code.
    pub fn image(&self) -> Option<Image<'_>> {
        unsafe {
            let map = sys::capstore_space_image(self.0.as_ptr());
            let image = sys::capstore_map_image(map);
            (!image.is_null()).then(|| Image::of(image))
        }
    }

    /// The code, with zeros up to the end of its last page.
    pub fn code(&self) -> &[u8] {
        bytes_of(unsafe { sys::capstore_space_image(self.0.as_ptr()) })
    }

    /// The code, if there is any, then the mappings in list order.
    pub fn spans(&self) -> impl Iterator<Item = Span<'_>> + '_ {
        let count = unsafe { sys::capstore_space_count(self.0.as_ptr()) };
        (0..count).map(move |i| {
            let span = unsafe { sys::capstore_space_span(self.0.as_ptr(), i) };
            Span {
                address: span.address,
                len: span.len,
                read_only: span.read_only,
                fd: (span.fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(span.fd) }),
                file_len: span.file_len,
                owner: PhantomData,
            }
        })
    }

    /// Maps every span that has a file at `base + address`, over what was mapped there.
    ///
    /// # Safety
    /// `[base, base + len)` is a range that the caller has reserved and nobody uses: what was mapped
    /// there is gone after the call. It begins at a page's boundary.
    pub unsafe fn place(&self, base: *mut c_void, len: u64) -> Result<()> {
        check(sys::capstore_space_place(self.0.as_ptr(), base, len))
    }
}
