use std::ffi::CStr;
use std::os::raw::{c_int, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

use crate::cap::Image;
use crate::error::{Code, Error, Result};
use crate::reader::ReadCounts;
use crate::{check, lent, sys, Hash};

/// A page that could not be fetched, or not be proven.
#[derive(Debug)]
pub struct LazyFailure<'a> {
    /// Of the cap.
    pub hash: Hash,
    /// Of its content.
    pub page: u64,
    /// Where it belongs in memory.
    pub address: usize,
    /// Why, and what the library says of it.
    pub code: Code,
    /// For a person.
    pub message: &'a str,
}

type Failed<'r> = Box<dyn FnMut(&LazyFailure<'_>) -> bool + Send + 'r>;

unsafe extern "C" fn failed(ctx: *mut c_void, failure: *const sys::capstore_lazy_failure) -> bool {
    let call = AssertUnwindSafe(|| {
        let failure = &*failure;
        let message = CStr::from_ptr(failure.message).to_string_lossy();
        (*ctx.cast::<Failed<'_>>())(&LazyFailure {
            hash: Hash::of(&*failure.hash),
            page: failure.page,
            address: failure.address as usize,
            code: Code::of(failure.error),
            message: &message,
        })
    });
    // On a thread of C there is no frame that a panic could go on in.
    catch_unwind(call).unwrap_or_else(|_| std::process::abort())
}

/// The content of a [`crate::Reader`] as memory whose pages are fetched when they are touched. A child of
/// fork does not have it. To touch a page that cannot be had is SIGBUS, unless the function of
/// [`crate::Reader::map_lazy`] says to try again.
///
/// ```compile_fail
/// # fn f(reader: &capstore::Reader<'_>) -> capstore::Result<u8> {
/// let map = reader.map_lazy(|_| false)?;
/// let bytes = map.bytes();
/// drop(map); // not while `bytes` is used
/// Ok(bytes[0])
/// # }
/// ```
///
/// ```compile_fail
/// # fn f(parts: capstore::Parts<'_>, hash: capstore::Hash) -> capstore::Result<()> {
/// let reader = parts.open(&hash, &Default::default())?;
/// let map = reader.map_lazy(|_| false)?;
/// drop(reader); // not while it is mapped
/// println!("{}", map.bytes()[0]);
/// # Ok(())
/// # }
/// ```
// A map that is forgotten instead of dropped keeps its thread, which does nothing without somebody
// who touches the memory, and nobody can: it refers to a reader and a function that may be gone.
pub struct Lazy<'r> {
    lazy: NonNull<sys::capstore_lazy>,
    failed: *mut Failed<'r>, // owned; the map's thread calls it
}

// Memory for any thread, which may unmap it when it has it alone; `failed` is only the map's thread's.
unsafe impl Send for Lazy<'_> {}
unsafe impl Sync for Lazy<'_> {}

impl Drop for Lazy<'_> {
    fn drop(&mut self) {
        unsafe {
            sys::capstore_lazy_free(self.lazy.as_ptr()); // ends the thread
            drop(Box::from_raw(self.failed));
        }
    }
}

impl<'r> Lazy<'r> {
    pub(crate) fn begin<F, C>(call: F, begin: C) -> Result<Lazy<'r>>
    where
        F: FnMut(&LazyFailure<'_>) -> bool + Send + 'r,
        C: FnOnce(&sys::capstore_lazy_options, *mut *mut sys::capstore_lazy) -> c_int,
    {
        let ctx: *mut Failed<'r> = Box::into_raw(Box::new(Box::new(call)));
        let options = sys::capstore_lazy_options {
            struct_size: std::mem::size_of::<sys::capstore_lazy_options>(),
            failed: Some(failed),
            ctx: ctx.cast(),
        };
        let mut lazy = std::ptr::null_mut();
        match (check(begin(&options, &mut lazy)), NonNull::new(lazy)) {
            (Ok(()), Some(lazy)) => Ok(Lazy { lazy, failed: ctx }),
            (outcome, _) => {
                drop(unsafe { Box::from_raw(ctx) });
                Err(outcome.err().unwrap_or_else(|| Error::bare(Code::Internal)))
            }
        }
    }

    /// The content, with zeros up to the end of its last page.
    pub fn bytes(&self) -> &[u8] {
        unsafe { lent(sys::capstore_lazy_bytes(self.lazy.as_ptr())) }
    }

    /// An Image's structure, without its code.
    pub fn image(&self) -> Option<Image<'_>> {
        let image = unsafe { sys::capstore_lazy_image(self.lazy.as_ptr()) };
        (!image.is_null()).then(|| unsafe { Image::of(image) })
    }

    /// What its readers have done so far, together.
    pub fn counts(&self) -> ReadCounts {
        ReadCounts::of(unsafe { sys::capstore_lazy_stats(self.lazy.as_ptr()) })
    }
}

/// Address space that nobody can touch until something is mapped over it.
struct Reserved {
    base: NonNull<c_void>,
    len: usize,
}

impl Reserved {
    fn new(len: usize) -> Result<Reserved> {
        const PROT_NONE: c_int = 0;
        const PRIVATE_ANONYMOUS_NORESERVE: c_int = 0x2 | 0x20 | 0x4000;
        let base = unsafe {
            sys::mmap(std::ptr::null_mut(), len, PROT_NONE, PRIVATE_ANONYMOUS_NORESERVE, -1, 0)
        };
        match NonNull::new(base) {
            Some(base) if base.as_ptr() as isize != -1 => Ok(Reserved { base, len }),
            _ => Err(Error::bare(if len == 0 { Code::InvalidArgument } else { Code::NoMemory })),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        unsafe { sys::munmap(self.base.as_ptr(), self.len) };
    }
}

/// The memory of a program, whose pages are fetched when they are touched; made by
/// [`crate::Parts::space_lazy`]. It is unmapped when this is dropped.
pub struct LazySpace<'s> {
    lazy: Lazy<'s>, // dropped first
    reserved: Reserved,
}

// As Lazy; the range belongs to it.
unsafe impl Send for LazySpace<'_> {}
unsafe impl Sync for LazySpace<'_> {}

impl<'s> LazySpace<'s> {
    pub(crate) fn lay<F, C>(len: usize, failed: F, lay: C) -> Result<LazySpace<'s>>
    where
        F: FnMut(&LazyFailure<'_>) -> bool + Send + 's,
        C: FnOnce(
            &sys::capstore_lazy_options,
            *mut c_void,
            *mut *mut sys::capstore_lazy,
        ) -> c_int,
    {
        let reserved = Reserved::new(len)?;
        let base = reserved.base.as_ptr();
        let lazy = Lazy::begin(failed, |options, lazy| lay(options, base, lazy))?;
        Ok(LazySpace { lazy, reserved })
    }

    /// Where address 0 of the program lies. What it points to is there while this is; addresses where
    /// nothing is mapped must not be touched, nor those of read-only mappings be written to.
    pub fn base(&self) -> *mut u8 {
        self.reserved.base.as_ptr().cast()
    }

    /// Bytes that are reserved.
    pub fn size(&self) -> usize {
        self.reserved.len
    }

    /// The Image's structure, without its code.
    pub fn image(&self) -> Option<Image<'_>> {
        self.lazy.image()
    }

    /// What its readers have done so far, together.
    pub fn counts(&self) -> ReadCounts {
        self.lazy.counts()
    }
}
