use std::ffi::CString;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;

use crate::cap::Image;
use crate::error::{Code, Error, Result};
use crate::lazy::{Lazy, LazyFailure, LazySpace};
use crate::{check, sys, Hash, Kind, Store};

/// A store that is lent to readers and lazy maps: what they give out is proven, always. Threads share
/// it and take turns.
///
/// Errors of all that is made of it have a code and no message, since the library keeps the message of
/// the last call of any thread: [`Store::message`] has it when the readers and maps are gone.
///
/// ```compile_fail
/// # fn f(store: &mut capstore::Store, hash: capstore::Hash) -> capstore::Result<()> {
/// let reader = store.parts().open(&hash, &Default::default())?;
/// store.has(&[hash])?; // not while something reads
/// reader.read_at(0, &mut [0])?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Parts<'s> {
    store: NonNull<sys::capstore>,
    lent: PhantomData<&'s Store>,
}

// The library has all that is done here take turns, and the store does nothing else meanwhile.
unsafe impl Send for Parts<'_> {}
unsafe impl Sync for Parts<'_> {}

/// How a reader keeps what it has; zero means the library's default.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A directory where pages are kept, too, for another reader of the cap, in this process or a later
    /// one. It need not be trusted: what does not verify is fetched again.
    pub cache_directory: Option<PathBuf>,
    /// Bytes of pages in memory.
    pub max_memory: u64,
    /// Most bytes to fetch at a time ahead of what is asked for.
    pub readahead: u32,
}

impl OpenOptions {
    /// Calls with the options as the library takes them.
    fn with_c<T>(&self, call: impl FnOnce(&sys::capstore_open_options) -> T) -> Result<T> {
        let path = match &self.cache_directory {
            Some(path) => Some(
                CString::new(path.as_os_str().as_bytes())
                    .map_err(|_| Error::bare(Code::InvalidArgument))?,
            ),
            None => None,
        };
        Ok(call(&sys::capstore_open_options {
            struct_size: std::mem::size_of::<sys::capstore_open_options>(),
            cache_directory: path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr()),
            max_memory: self.max_memory,
            readahead: self.readahead,
        }))
    }
}

/// What a reader, or the readers of a lazy map together, have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Requests to the daemon.
    pub requests: u64,
    /// Pages that were fetched, and proven.
    pub fetched_pages: u64,
    /// Pages of the cache, proven.
    pub cached_pages: u64,
    /// Pages of the cache that did not verify.
    pub dropped_pages: u64,
    /// Nothing more is written to the cache.
    pub cache_failed: bool,
}

impl ReadCounts {
    pub(crate) fn of(counts: sys::capstore_read_counts) -> ReadCounts {
        ReadCounts {
            requests: counts.requests,
            fetched_pages: counts.fetched_pages,
            cached_pages: counts.cached_pages,
            dropped_pages: counts.dropped_pages,
            cache_failed: counts.cache_failed,
        }
    }
}

impl<'s> Parts<'s> {
    pub(crate) fn of(store: &'s mut Store) -> Parts<'s> {
        Parts { store: store.0, lent: PhantomData }
    }

    /// Opens a cap for reading: asks for the head of its slice and nothing more, or not even that when
    /// the cache has it.
    pub fn open(&self, hash: &Hash, options: &OpenOptions) -> Result<Reader<'s>> {
        let mut reader = std::ptr::null_mut();
        check(options.with_c(|options| unsafe {
            sys::capstore_open(self.store.as_ptr(), hash.as_c(), options, &mut reader)
        })?)?;
        let reader = NonNull::new(reader).ok_or_else(|| Error::bare(Code::Internal))?;
        Ok(Reader { reader, lent: PhantomData })
    }

    /// Reserves `len` bytes of address space and lays an Image and the Data cap behind each of its
    /// mappings there, at their addresses: pages are fetched when they are touched. Mappings that are
    /// not read-only may be written to, and what is written stays in this process. `failed` as for
    /// [`Reader::map_lazy`].
    pub fn space_lazy<F>(
        &self,
        hash: &Hash,
        options: &OpenOptions,
        len: usize,
        failed: F,
    ) -> Result<LazySpace<'s>>
    where
        F: FnMut(&LazyFailure<'_>) -> bool + Send + 's,
    {
        let store = self.store.as_ptr();
        options.with_c(|open| LazySpace::lay(len, failed, |options, base, lazy| unsafe {
            sys::capstore_space_lazy(store, hash.as_c(), open, options, base, len as u64, lazy)
        }))?
    }
}

/// A cap of which parts are fetched when they are needed, each proven.
pub struct Reader<'s> {
    reader: NonNull<sys::capstore_reader>,
    lent: PhantomData<&'s Store>,
}

// Any number of threads may read, and one that has it alone may free it.
unsafe impl Send for Reader<'_> {}
unsafe impl Sync for Reader<'_> {}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        unsafe { sys::capstore_reader_free(self.reader.as_ptr()) }
    }
}

impl Reader<'_> {
    /// Image or Data.
    pub fn kind(&self) -> Kind {
        Kind::sure(unsafe { sys::capstore_reader_kind(self.reader.as_ptr()) })
    }

    /// The hash that it was opened by.
    pub fn hash(&self) -> Hash {
        Hash::of(unsafe { &*sys::capstore_reader_hash(self.reader.as_ptr()) })
    }

    /// Bytes of an Image's code, or of a Data cap's content, which may be near 2^64.
    pub fn size(&self) -> u64 {
        unsafe { sys::capstore_reader_size(self.reader.as_ptr()) }
    }

    /// An Image's structure, without its code.
    pub fn image(&self) -> Option<Image<'_>> {
        let image = unsafe { sys::capstore_reader_image(self.reader.as_ptr()) };
        (!image.is_null()).then(|| unsafe { Image::of(image) })
    }

    /// Copies content from `offset` on to `dst`, cut at the content's end; how many bytes. What is not
    /// here is fetched. After an error nothing in `dst` counts, and a read may be tried again.
    pub fn read_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let (at, mut len) = (dst.as_mut_ptr().cast(), 0);
        check(unsafe {
            sys::capstore_read(self.reader.as_ptr(), offset, at, dst.len(), &mut len)
        })?;
        Ok(len)
    }

    /// What it has done so far.
    pub fn counts(&self) -> ReadCounts {
        ReadCounts::of(unsafe { sys::capstore_reader_stats(self.reader.as_ptr()) })
    }

    /// Maps the content, whose pages are fetched when they are touched, by a thread of the map's own.
    ///
    /// `failed` hears of a page that cannot be had or not be proven, on the map's thread, while who
    /// touches the page waits. True: try again. False: a thread that touches it gets SIGBUS, now and from
    /// then on: never wrong bytes. It must touch no lazy memory (who waits would wait for ever), and a
    /// panic in it aborts the process, as does dropping the map in it: there is nobody to return an
    /// error to. It must be `Send`:
    ///
    /// ```compile_fail
    /// # fn f(reader: &capstore::Reader<'_>) -> capstore::Result<()> {
    /// let count = std::rc::Rc::new(std::cell::Cell::new(0));
    /// let map = reader.map_lazy(move |_| { count.set(1); false })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Code::NotSupported`] where the kernel does not let this process have a userfaultfd.
    pub fn map_lazy<'r, F>(&'r self, failed: F) -> Result<Lazy<'r>>
    where
        F: FnMut(&LazyFailure<'_>) -> bool + Send + 'r,
    {
        let reader = self.reader.as_ptr();
        Lazy::begin(failed, |options, lazy| unsafe {
            sys::capstore_map_lazy(reader, options, lazy)
        })
    }
}
