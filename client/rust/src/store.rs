use std::ffi::{CStr, CString};
use std::fs::File;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::raw::{c_int, c_void};
use std::os::unix::io::{AsRawFd, IntoRawFd, OwnedFd};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

use crate::error::{Code, Error, Result, Shortage, Unresolved};
use crate::map::{Map, Space, Verify};
use crate::reader::Parts;
use crate::slice::ranges_of;
use crate::{lent, sys, Cap, Hash, Kind, Table};

/// How a store behaves; zero means the library's default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Longest wait without progress, in milliseconds.
    pub timeout_ms: u32,
    /// Accept bodies without hashing them.
    pub no_verify: bool,
    /// For the daemon's log: printable ASCII.
    pub agent: String,
    /// Longest body to accept, in bytes.
    pub max_body: u64,
    /// Most caps in a closure.
    pub max_caps: u64,
    /// Hash long bodies on a thread of their own.
    pub hash_thread: bool,
    /// Speak of leases: see [`Store::keep`].
    pub leases: bool,
    /// With `leases`: for how many seconds to keep what is published.
    pub keep_s: u32,
    /// Do not have uploads go on. Else one of more than 1 MiB whose connection is lost connects again
    /// and sends what the daemon has not got.
    pub no_resume: bool,
}

/// A connection to one daemon. It can be sent to another thread, but not shared.
pub struct Store(pub(crate) NonNull<sys::capstore>);

// A handle belongs to one thread at a time, which `&mut self` ensures; it is not Sync.
unsafe impl Send for Store {}

impl Drop for Store {
    fn drop(&mut self) {
        unsafe { sys::capstore_free(self.0.as_ptr()) }
    }
}

/// What the daemon knows of a cap without its body; over HTTP the members from `ref_count` on are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Image or Data.
    pub kind: Kind,
    /// Bytes of the served body.
    pub body_len: u64,
    /// Data: logical bytes. Image: bytes of code.
    pub size: u64,
    /// Data: pages that are not zero.
    pub page_count: u64,
    /// Image: distinct caps that it names.
    pub ref_count: u64,
    /// Microseconds since 1970, UTC.
    pub published_us: u64,
    /// Image: `image_content_hash`, as it was first published; zero for Data.
    pub content_hash: Hash,
}

/// What the daemon said in its hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonInfo {
    /// The protocol's version.
    pub protocol_version: u16,
    /// The store's identity.
    pub store_id: [u8; 16],
    /// What the daemon calls itself.
    pub agent: String,
    /// Hashes per request.
    pub max_hashes: u32,
    /// Bytes of an upload.
    pub max_upload: u64,
    /// Bytes of an Image before its arena.
    pub max_structure: u64,
    /// Bytes that an Image's data windows name.
    pub max_data: u64,
    /// A connection that is silent for longer is closed; 0: never.
    pub idle_ms: u32,
}

/// What [`Store::keep`] says of a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// `None`: it is not published.
    pub kind: Option<Kind>,
    /// For how many seconds from now it is promised to stay; 0: no promise.
    pub kept_s: u32,
}

/// What publishing a cap yielded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its name.
    pub hash: Hash,
    /// Logical bytes of a Data cap; 0 for [`Store::put_cap`].
    pub size: u64,
    /// Bytes of the served body.
    pub body_len: u64,
    /// False: it was published already, which is success.
    pub is_new: bool,
    /// With leases: for how many seconds it is promised to stay.
    pub kept_s: u32,
}

/// What publishing an Image yielded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The Image cap's name.
    pub hash: Hash,
    /// `image_content_hash` of the wire form.
    pub content_hash: Hash,
    /// Bytes of the served body.
    pub body_len: u64,
    /// In a dry run: would be.
    pub is_new: bool,
    /// Distinct Data caps stored with it.
    pub data_new: u32,
    /// Distinct Data caps that were there.
    pub data_present: u32,
    /// With leases: for how many seconds it is promised to stay.
    pub kept_s: u32,
}

/// One cap of a closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosureEntry {
    /// Its name.
    pub hash: Hash,
    /// Image or Data.
    pub kind: Kind,
    /// Bytes of the served body.
    pub body_len: u64,
}

/// A closure of the caller's inside a C callback: a panic is carried over the C frames.
pub(crate) struct Carried<F> {
    call: F,
    panic: Option<Box<dyn std::any::Any + Send>>,
}

pub(crate) const CANCELLED: c_int = -44;

impl<F> Carried<F> {
    pub(crate) fn new(call: F) -> Carried<F> {
        Carried { call, panic: None }
    }

    /// After the C frames: a panic goes on.
    pub(crate) fn resume(&mut self) {
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic)
        }
    }

    pub(crate) fn run(&mut self, call: impl FnOnce(&mut F) -> c_int) -> c_int {
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.call))) {
            Ok(value) => value,
            Err(panic) => {
                self.panic = Some(panic);
                CANCELLED
            }
        }
    }
}

unsafe extern "C" fn got<F>(ctx: *mut c_void, index: usize, error: c_int, cap: *mut sys::capstore_cap) -> c_int
where
    F: FnMut(usize, Result<Cap>),
{
    let carried = &mut *ctx.cast::<Carried<F>>();
    let outcome = match error {
        0 => Cap::take(cap),
        failed => Err(Error::bare(Code::of(failed))),
    };
    carried.run(|call| {
        call(index, outcome);
        0
    })
}

unsafe extern "C" fn visit<F>(ctx: *mut c_void, entry: *const sys::capstore_closure_entry) -> c_int
where
    F: FnMut(ClosureEntry, Option<&[u8]>) -> bool,
{
    let carried = &mut *ctx.cast::<Carried<F>>();
    let entry = &*entry;
    let kind = match Kind::of(entry.kind) {
        Some(kind) => kind,
        None => return Code::Internal.value(),
    };
    let body = (!entry.cap.is_null()).then(|| lent(sys::capstore_cap_body(entry.cap)));
    let told = ClosureEntry { hash: Hash::of(&entry.hash), kind, body_len: entry.body_len };
    carried.run(|call| if call(told, body) { 0 } else { CANCELLED })
}

unsafe extern "C" fn written<F>(ctx: *mut c_void, piece: sys::capstore_bytes) -> c_int
where
    F: FnMut(&[u8]) -> bool,
{
    let carried = &mut *ctx.cast::<Carried<F>>();
    let piece = lent(piece);
    carried.run(|call| if call(piece) { 0 } else { CANCELLED })
}

impl Store {
    /// Connects with the default options. The address is `unix:PATH`, `unix:@NAME`, `tcp:HOST:PORT` or,
    /// to read over HTTP, a URL.
    pub fn connect(address: &str) -> Result<Store> {
        let mut store = Store::new(&Options::default())?;
        store.reconnect(address)?;
        Ok(store)
    }

    /// A store that is not connected yet.
    pub fn new(options: &Options) -> Result<Store> {
        let agent = c_text(&options.agent)?;
        let options = sys::capstore_options {
            struct_size: std::mem::size_of::<sys::capstore_options>(),
            timeout_ms: options.timeout_ms,
            no_verify: options.no_verify,
            agent: if options.agent.is_empty() { std::ptr::null() } else { agent.as_ptr() },
            max_body: options.max_body,
            max_caps: options.max_caps,
            progress: None,
            progress_ctx: std::ptr::null_mut(),
            max_bodies: 0,
            hash_thread: options.hash_thread,
            leases: options.leases,
            keep_s: options.keep_s,
            no_resume: options.no_resume,
        };
        let mut store = std::ptr::null_mut();
        crate::check(unsafe { sys::capstore_new(&options, &mut store) })?;
        NonNull::new(store).map(Store).ok_or_else(|| Error::bare(Code::Internal))
    }

    /// Connects, after closing an earlier connection.
    pub fn reconnect(&mut self, address: &str) -> Result<()> {
        let address = c_text(address)?;
        self.said(unsafe { sys::capstore_connect(self.0.as_ptr(), address.as_ptr()) })
    }

    /// As [`Store::reconnect`], over a stream socket that is connected already.
    pub fn reconnect_fd(&mut self, socket: OwnedFd) -> Result<()> {
        self.said(unsafe { sys::capstore_connect_fd(self.0.as_ptr(), socket.into_raw_fd()) })
    }

    /// Closes the connection, if there is one.
    pub fn close(&mut self) {
        unsafe { sys::capstore_close(self.0.as_ptr()) }
    }

    /// Whether there is a connection that can be used.
    pub fn is_connected(&self) -> bool {
        unsafe { sys::capstore_connected(self.0.as_ptr()) }
    }

    /// What the library says of the last call's failure; empty after success. Errors carry it, except
    /// those of [`Store::parts`]: ask when they are given back.
    pub fn message(&self) -> String {
        let message = unsafe { CStr::from_ptr(sys::capstore_message(self.0.as_ptr())) };
        message.to_string_lossy().into_owned()
    }

    fn shortage(&self) -> Option<Shortage> {
        let mut figures = MaybeUninit::<sys::capstore_shortage_figures>::uninit();
        let known = unsafe { sys::capstore_shortage(self.0.as_ptr(), figures.as_mut_ptr()) };
        known.then(|| unsafe {
            let figures = figures.assume_init();
            let limit = String::from_utf8_lossy(lent(figures.limit)).into_owned();
            Shortage { need: figures.need, have: figures.have, limit }
        })
    }

    /// What the daemon said in its hello.
    pub fn info(&mut self) -> Result<DaemonInfo> {
        let mut info = MaybeUninit::<sys::capstore_daemon_info>::uninit();
        self.said(unsafe { sys::capstore_info(self.0.as_ptr(), info.as_mut_ptr()) })?;
        let info = unsafe { info.assume_init() };
        let agent = unsafe { CStr::from_ptr(info.agent.as_ptr()) };
        Ok(DaemonInfo {
            protocol_version: info.protocol_version,
            store_id: info.store_id,
            agent: agent.to_string_lossy().into_owned(),
            max_hashes: info.max_hashes,
            max_upload: info.max_upload,
            max_structure: info.max_structure,
            max_data: info.max_data,
            idle_ms: info.idle_ms,
        })
    }

    /// From now on publications ask to be kept for so many seconds, as by [`Options::keep_s`].
    pub fn set_keep(&mut self, keep_s: u32) {
        unsafe { sys::capstore_set_keep(self.0.as_ptr(), keep_s) }
    }

    /// Fetches bytes `[offset, offset + len)` of a served body, cut at its end; `u64::MAX`: to its end.
    /// A part of a body cannot be verified: these bytes are NOT verified. `each` takes them as they
    /// arrive, and returns whether to go on. For parts that are proven see [`Store::parts`].
    pub fn get_range<F>(&mut self, hash: &Hash, offset: u64, len: u64, each: F) -> Result<()>
    where
        F: FnMut(&[u8]) -> bool,
    {
        let mut carried = Carried::new(each);
        let value = unsafe {
            let ctx = (&mut carried as *mut Carried<F>).cast();
            let write = Some(written::<F> as sys::WriteCb);
            sys::capstore_get_range(self.0.as_ptr(), hash.as_c(), offset, len, write, ctx)
        };
        carried.resume();
        self.said(value)
    }

    /// Fetches the slice of ranges of pages, at most 256, in any order; none: the head alone. It is
    /// verified on the way, and `each` takes it as it arrives and returns whether to go on: until the
    /// call has succeeded, that is a piece of a slice and no more.
    pub fn slice<F>(&mut self, hash: &Hash, pages: &[Range<u64>], each: F) -> Result<()>
    where
        F: FnMut(&[u8]) -> bool,
    {
        let ranges = ranges_of(pages);
        let mut carried = Carried::new(each);
        let value = unsafe {
            let ctx = (&mut carried as *mut Carried<F>).cast();
            let write = Some(written::<F> as sys::WriteCb);
            let (at, count, sink) = (ranges.as_ptr(), ranges.len(), std::ptr::null());
            sys::capstore_slice(self.0.as_ptr(), hash.as_c(), at, count, sink, write, ctx)
        };
        carried.resume();
        self.said(value)
    }

    /// Lends the store to readers and lazy maps, of which any number of threads may use any number.
    /// Until the last is gone the store can do nothing else.
    pub fn parts(&mut self) -> Parts<'_> {
        Parts::of(self)
    }

    /// An error with what the library says of it.
    fn said(&self, value: c_int) -> Result<()> {
        if value == 0 {
            return Ok(());
        }
        let count = unsafe { sys::capstore_unresolved_count(self.0.as_ptr()) };
        let unresolved = (0..count).map(|i| unsafe {
            let slot = sys::capstore_unresolved(self.0.as_ptr(), i);
            Unresolved {
                table: if slot.table == 0 { Table::Pinned } else { Table::Initial },
                kind: Kind::of(slot.kind),
                hash: Hash::of(&slot.cap_hash),
                slot: lent(slot.slot).to_vec(),
            }
        });
        Err(Error {
            code: Code::of(value),
            message: self.message(),
            unresolved: unresolved.collect(),
            shortage: self.shortage(),
        })
    }

    /// Which of the caps are published: one answer for each, in their order.
    pub fn has(&mut self, hashes: &[Hash]) -> Result<Vec<Option<Kind>>> {
        let mut kinds = vec![0u8; hashes.len()];
        let value = unsafe {
            sys::capstore_has(self.0.as_ptr(), hashes.as_ptr().cast(), hashes.len(), kinds.as_mut_ptr())
        };
        self.said(value)?;
        Ok(kinds.into_iter().map(|kind| Kind::of(kind.into())).collect())
    }

    /// Has those of the caps that are published kept for `keep_s` seconds, durably, and says for how
    /// long each is promised to stay; 0 only asks. It needs [`Options::leases`].
    pub fn keep(&mut self, hashes: &[Hash], keep_s: u32) -> Result<Vec<Kept>> {
        let mut kept: Vec<sys::capstore_kept> = Vec::new();
        kept.resize_with(hashes.len(), Default::default);
        let value = unsafe {
            let hashes_at = hashes.as_ptr().cast();
            sys::capstore_keep(self.0.as_ptr(), hashes_at, hashes.len(), keep_s, kept.as_mut_ptr())
        };
        self.said(value)?;
        Ok(kept.iter().map(|k| Kept { kind: Kind::of(k.kind.into()), kept_s: k.kept_s }).collect())
    }

    /// What the daemon knows of a cap.
    pub fn stat(&mut self, hash: &Hash) -> Result<Stat> {
        let mut stat = MaybeUninit::<sys::capstore_stat_result>::uninit();
        self.said(unsafe { sys::capstore_stat(self.0.as_ptr(), hash.as_c(), stat.as_mut_ptr()) })?;
        let stat = unsafe { stat.assume_init() };
        Ok(Stat {
            kind: Kind::of(stat.kind).ok_or_else(|| Error::bare(Code::Internal))?,
            body_len: stat.body_len,
            size: stat.size,
            page_count: stat.page_count,
            ref_count: stat.ref_count,
            published_us: stat.published_us,
            content_hash: Hash::of(&stat.content_hash),
        })
    }

    /// Fetches a cap and verifies it.
    pub fn get(&mut self, hash: &Hash) -> Result<Cap> {
        let mut cap = std::ptr::null_mut();
        self.said(unsafe { sys::capstore_get(self.0.as_ptr(), hash.as_c(), &mut cap) })?;
        unsafe { Cap::take(cap) }
    }

    /// Fetches and verifies many caps and calls `each` once for every index, in any order, as they
    /// arrive. What is wrong with one is given to `each`, and the others go on.
    pub fn get_many<F: FnMut(usize, Result<Cap>)>(&mut self, hashes: &[Hash], each: F) -> Result<()> {
        let mut carried = Carried::new(each);
        let value = unsafe {
            let ctx = (&mut carried as *mut Carried<F>).cast();
            let hashes_at = hashes.as_ptr().cast();
            sys::capstore_get_many(self.0.as_ptr(), hashes_at, hashes.len(), Some(got::<F>), ctx)
        };
        carried.resume();
        self.said(value)
    }

    /// Visits a cap and every cap that it needs, transitively, each once. With `bodies` their served
    /// bodies come along, otherwise only those of Images. `each` returns whether to go on.
    pub fn closure<F>(&mut self, root: &Hash, bodies: bool, each: F) -> Result<()>
    where
        F: FnMut(ClosureEntry, Option<&[u8]>) -> bool,
    {
        let mut carried = Carried::new(each);
        let flags = if bodies { sys::CLOSURE_BODIES } else { 0 };
        let value = unsafe {
            let ctx = (&mut carried as *mut Carried<F>).cast();
            sys::capstore_closure(self.0.as_ptr(), root.as_c(), flags, Some(visit::<F>), ctx)
        };
        carried.resume();
        self.said(value)
    }

    /// Maps a cap for reading; on a Unix socket only.
    pub fn map(&mut self, hash: &Hash, verify: Verify) -> Result<Map> {
        let mut map = std::ptr::null_mut();
        let verify = verify as c_int;
        self.said(unsafe { sys::capstore_map(self.0.as_ptr(), hash.as_c(), verify, &mut map) })?;
        NonNull::new(map).map(Map).ok_or_else(|| Error::bare(Code::Internal))
    }

    /// Maps an Image and the Data cap behind each of its mappings.
    pub fn space(&mut self, hash: &Hash, verify: Verify) -> Result<Space> {
        let mut space = std::ptr::null_mut();
        let verify = verify as c_int;
        self.said(unsafe { sys::capstore_space(self.0.as_ptr(), hash.as_c(), verify, &mut space) })?;
        NonNull::new(space).map(Space).ok_or_else(|| Error::bare(Code::Internal))
    }

    /// Publishes a Data cap of raw bytes, followed by zeros up to `size` (0: their length). Durable
    /// when it returns.
    pub fn put_data(&mut self, content: &[u8], size: u64) -> Result<Put> {
        let mut put = MaybeUninit::uninit();
        let bytes = sys::capstore_bytes { data: content.as_ptr(), len: content.len() };
        let value = unsafe {
            let source = sys::capstore_source_memory(&bytes);
            sys::capstore_put_data(self.0.as_ptr(), &source, size, 0, put.as_mut_ptr())
        };
        self.said(value).map(|()| put_of(unsafe { put.assume_init() }))
    }

    /// Publishes a Data cap of a file from its beginning to its end now, as [`Store::put_data`]. Holes are
    /// not read. The file is read again where an upload goes on.
    pub fn put_file(&mut self, file: &File, size: u64) -> Result<Put> {
        let len = file.metadata().map_err(|_| Error::bare(Code::Io))?.len();
        let mut put = MaybeUninit::uninit();
        let fd = file.as_raw_fd();
        let value = unsafe {
            let source = sys::capstore_source_fd(&fd, len);
            sys::capstore_put_data(self.0.as_ptr(), &source, size, 0, put.as_mut_ptr())
        };
        self.said(value).map(|()| put_of(unsafe { put.assume_init() }))
    }

    /// Publishes a wire Image, with its inline data. Durable when it returns.
    pub fn publish(&mut self, wire: &[u8]) -> Result<Published> {
        self.publish_with(wire, 0)
    }

    /// Judges and resolves a wire Image, and stores nothing.
    pub fn dry_run(&mut self, wire: &[u8]) -> Result<Published> {
        self.publish_with(wire, sys::DRY_RUN)
    }

    /// As [`Store::publish`], but every Data cap must be published already.
    pub fn publish_resolved(&mut self, wire: &[u8]) -> Result<Published> {
        self.publish_with(wire, sys::RESOLVE_ONLY)
    }

    fn publish_with(&mut self, wire: &[u8], flags: u32) -> Result<Published> {
        let mut result = MaybeUninit::<sys::capstore_publish_result>::uninit();
        let bytes = sys::capstore_bytes { data: wire.as_ptr(), len: wire.len() };
        let value = unsafe {
            let source = sys::capstore_source_memory(&bytes);
            sys::capstore_publish(self.0.as_ptr(), &source, flags, result.as_mut_ptr())
        };
        self.said(value)?;
        let result = unsafe { result.assume_init() };
        Ok(Published {
            hash: Hash::of(&result.cap_hash),
            content_hash: Hash::of(&result.content_hash),
            body_len: result.body_len,
            is_new: result.is_new,
            data_new: result.data_new,
            data_present: result.data_present,
            kept_s: result.kept_s,
        })
    }

    /// Publishes a cap as it is: how it goes from one store to another.
    pub fn put_cap(&mut self, cap: &Cap) -> Result<Put> {
        let mut put = MaybeUninit::uninit();
        let body = cap.body();
        let bytes = sys::capstore_bytes { data: body.as_ptr(), len: body.len() };
        let (hash, kind) = (cap.hash(), cap.kind().value());
        let value = unsafe {
            let source = sys::capstore_source_memory(&bytes);
            sys::capstore_put_cap(self.0.as_ptr(), hash.as_c(), kind, &source, put.as_mut_ptr())
        };
        self.said(value).map(|()| put_of(unsafe { put.assume_init() }))
    }
}

fn put_of(put: sys::capstore_put_result) -> Put {
    Put {
        hash: Hash::of(&put.cap_hash),
        size: put.size,
        body_len: put.body_len,
        is_new: put.is_new,
        kept_s: put.kept_s,
    }
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::bare(Code::InvalidArgument))
}
