use std::marker::PhantomData;
use std::ops::Range;
use std::os::raw::{c_int, c_void};
use std::ptr::NonNull;

use crate::cap::Image;
use crate::error::{Code, Error, Result};
use crate::store::{Carried, CANCELLED};
use crate::{check, sys, Hash, Kind, PAGE_SIZE};

/// What a slice proves, in this order: the head, then pages in ascending order, each once.
pub enum Proven<'a> {
    /// What the cap is.
    Head {
        /// Image or Data.
        kind: Kind,
        /// Data: logical bytes, perhaps near 2^64. Image: bytes of code.
        size: u64,
        /// Pages that are begun in `size`.
        page_count: u64,
        /// An Image's structure, without its code.
        image: Option<Image<'a>>,
    },
    /// At most 16 whole pages, zeros behind the end of the code.
    Pages {
        /// The first one's number.
        first: u64,
        /// Their bytes.
        bytes: &'a [u8],
    },
    /// Pages of zeros: perhaps very many.
    Zeros {
        /// The first one's number.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// Where a slice is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceWhere {
    /// Bytes from the slice's beginning.
    pub offset: u64,
    /// Of [`Code::SliceMismatch`]: the level of the node whose hash the slice does not have. One above
    /// the root of the tree of pages stands for the cap's hash.
    pub level: u32,
    /// Of the same: the node's number on its level.
    pub index: u64,
}

pub(crate) fn ranges_of(pages: &[Range<u64>]) -> Vec<sys::capstore_range> {
    let of = |pages: &Range<u64>| sys::capstore_range {
        first: pages.start,
        pages: pages.end.saturating_sub(pages.start), // an empty one is refused by name
    };
    pages.iter().map(of).collect()
}

/// Checks a slice from anywhere while it arrives; no daemon is needed. It can be sent to another
/// thread if its function can, but not shared.
///
/// ```compile_fail
/// fn sent<T: Send>(_: T) {}
/// let seen = std::rc::Rc::new(std::cell::Cell::new(0u64));
/// let mine = seen.clone();
/// let take = move |_: capstore::Proven<'_>| { mine.set(1); true };
/// sent(capstore::SliceVerifier::new(&capstore::Hash([0; 32]), None, take).unwrap());
/// ```
pub struct SliceVerifier<F> {
    verifier: NonNull<sys::capstore_slice_verifier>,
    carried: *mut Carried<F>, // owned; the library refers to it
    owned: PhantomData<F>,
}

// It belongs to one thread at a time.
unsafe impl<F: Send> Send for SliceVerifier<F> {}

impl<F> Drop for SliceVerifier<F> {
    fn drop(&mut self) {
        unsafe {
            sys::capstore_slice_verifier_free(self.verifier.as_ptr());
            drop(Box::from_raw(self.carried));
        }
    }
}

unsafe extern "C" fn head<F>(ctx: *mut c_void, head: *const sys::capstore_slice_head) -> c_int
where
    F: FnMut(Proven<'_>) -> bool,
{
    let head = &*head;
    let proven = Proven::Head {
        kind: Kind::sure(head.kind),
        size: head.size,
        page_count: head.page_count,
        image: (!head.image.is_null()).then(|| Image::of(head.image)),
    };
    tell::<F>(ctx, proven)
}

unsafe extern "C" fn pages<F>(ctx: *mut c_void, first: u64, count: usize, at: *const u8) -> c_int
where
    F: FnMut(Proven<'_>) -> bool,
{
    let bytes = std::slice::from_raw_parts(at, count * PAGE_SIZE);
    tell::<F>(ctx, Proven::Pages { first, bytes })
}

unsafe extern "C" fn zeros<F>(ctx: *mut c_void, first: u64, count: u64) -> c_int
where
    F: FnMut(Proven<'_>) -> bool,
{
    tell::<F>(ctx, Proven::Zeros { first, count })
}

unsafe fn tell<F>(ctx: *mut c_void, proven: Proven<'_>) -> c_int
where
    F: FnMut(Proven<'_>) -> bool,
{
    (*ctx.cast::<Carried<F>>()).run(|call| if call(proven) { 0 } else { CANCELLED })
}

impl<F> SliceVerifier<F>
where
    F: FnMut(Proven<'_>) -> bool,
{
    /// Of a slice of this cap with exactly these ranges of pages, in any order; `None`: with whatever
    /// ranges it states. `each` takes what is proven, and returns whether to go on.
    pub fn new(hash: &Hash, pages_: Option<&[Range<u64>]>, each: F) -> Result<SliceVerifier<F>> {
        let ranges = pages_.map(ranges_of);
        // A pointer that is not NULL, also to no ranges.
        let at = ranges.as_ref().map_or(std::ptr::null(), |ranges| ranges.as_ptr());
        let count = ranges.as_ref().map_or(0, Vec::len);
        let carried = Box::into_raw(Box::new(Carried::new(each)));
        let sink = sys::capstore_slice_sink {
            head: Some(head::<F>),
            pages: Some(pages::<F>),
            zeros: Some(zeros::<F>),
            ctx: carried.cast(),
        };
        let mut made = std::ptr::null_mut();
        let value = unsafe {
            sys::capstore_slice_verifier_new(hash.as_c(), at, count, &sink, &mut made)
        };
        match (check(value), NonNull::new(made)) {
            (Ok(()), Some(verifier)) => Ok(SliceVerifier { verifier, carried, owned: PhantomData }),
            (outcome, _) => {
                drop(unsafe { Box::from_raw(carried) });
                Err(outcome.err().unwrap_or_else(|| Error::bare(Code::Internal)))
            }
        }
    }

    /// Takes the next bytes. After a failure the verifier can only be asked where.
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let bytes = sys::capstore_bytes { data: bytes.as_ptr(), len: bytes.len() };
        self.outcome(|verifier| unsafe { sys::capstore_slice_verifier_take(verifier, bytes) })
    }

    /// The bytes have ended. An error when the slice is not complete.
    pub fn finish(&mut self) -> Result<()> {
        self.outcome(|verifier| unsafe { sys::capstore_slice_verifier_finish(verifier) })
    }

    fn outcome(
        &mut self,
        call: impl FnOnce(*mut sys::capstore_slice_verifier) -> c_int,
    ) -> Result<()> {
        let value = call(self.verifier.as_ptr());
        unsafe { (*self.carried).resume() };
        check(value)
    }

    /// Where it failed with [`Code::SliceMismatch`] or [`Code::SliceMalformed`].
    pub fn failed_at(&self) -> SliceWhere {
        let at = unsafe { sys::capstore_slice_verifier_where(self.verifier.as_ptr()) };
        SliceWhere { offset: at.offset, level: at.level, index: at.index }
    }
}
