//! The C interface, as far as this crate uses it. `tests/layout.rs` compares the structures with the
//! headers.

use std::os::raw::{c_char, c_int, c_long, c_uint, c_void};

macro_rules! opaque {
    ($($name:ident)*) => {
        $(#[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        })*
    };
}

opaque! {
    capstore capstore_cap capstore_map capstore_space capstore_slice_verifier capstore_reader
    capstore_lazy
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct capstore_hash {
    pub bytes: [u8; 32],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct capstore_bytes {
    pub data: *const u8,
    pub len: usize,
}

#[repr(C)]
pub struct capstore_source {
    pub read: Option<unsafe extern "C" fn(*mut c_void, u64, *mut c_void, usize) -> c_int>,
    pub ctx: *mut c_void,
    pub len: u64,
    pub next_data: Option<unsafe extern "C" fn(*mut c_void, u64) -> u64>,
}

/// Only the members that this crate sets; `struct_size` says so to the library.
#[repr(C)]
pub struct capstore_options {
    pub struct_size: usize,
    pub timeout_ms: u32,
    pub no_verify: bool,
    pub agent: *const c_char,
    pub max_body: u64,
    pub max_caps: u64,
    pub progress: Option<unsafe extern "C" fn(*mut c_void, *const c_void) -> bool>, // not set
    pub progress_ctx: *mut c_void,
    pub max_bodies: u64,
    pub hash_thread: bool,
    pub leases: bool,
    pub keep_s: u32,
    pub no_resume: bool,
}

#[repr(C)]
#[derive(Default)]
pub struct capstore_kept {
    pub kind: u8,
    pub kept_s: u32,
}

#[repr(C)]
pub struct capstore_stat_result {
    pub kind: c_int,
    pub body_len: u64,
    pub size: u64,
    pub page_count: u64,
    pub ref_count: u64,
    pub published_us: u64,
    pub content_hash: capstore_hash,
}

#[repr(C)]
pub struct capstore_closure_entry {
    pub hash: capstore_hash,
    pub kind: c_int,
    pub body_len: u64,
    pub cap: *const capstore_cap,
}

#[repr(C)]
pub struct capstore_put_result {
    pub cap_hash: capstore_hash,
    pub size: u64,
    pub body_len: u64,
    pub is_new: bool,
    pub kept_s: u32,
}

#[repr(C)]
pub struct capstore_publish_result {
    pub cap_hash: capstore_hash,
    pub content_hash: capstore_hash,
    pub body_len: u64,
    pub is_new: bool,
    pub data_new: u32,
    pub data_present: u32,
    pub kept_s: u32,
}

#[repr(C)]
pub struct capstore_unresolved_slot {
    pub table: c_int,
    pub kind: c_int,
    pub cap_hash: capstore_hash,
    pub slot: capstore_bytes,
}

#[repr(C)]
pub struct capstore_page {
    pub index: u64,
    pub bytes: capstore_bytes,
}

#[repr(C)]
pub struct capstore_counts {
    pub endpoints: usize,
    pub mappings: usize,
    pub slots: [usize; 2],
    pub gas_slots: usize,
    pub quota_slots: usize,
}

#[repr(C)]
pub struct capstore_endpoint {
    pub key: capstore_bytes,
    pub entry_pc: u64,
    pub stack_top: u64,
    pub arg_cnode_slot: capstore_bytes,
    pub arg_cnode_size: u8,
    pub initial_regs: [u64; 13],
}

#[repr(C)]
pub struct capstore_mapping {
    pub start: u64,
    pub size: u64,
    pub steps: usize,
}

#[repr(C)]
pub struct capstore_slot {
    pub key: capstore_bytes,
    pub cap_hash: capstore_hash,
}

#[repr(C)]
pub struct capstore_span {
    pub address: u64,
    pub len: u64,
    pub read_only: bool,
    pub fd: c_int,
    pub file_len: u64,
}

#[repr(C)]
pub struct capstore_daemon_info {
    pub protocol_version: u16,
    pub store_id: [u8; 16],
    pub agent: [c_char; 65],
    pub max_hashes: u32,
    pub max_upload: u64,
    pub max_structure: u64,
    pub max_data: u64,
    pub idle_ms: u32,
}

#[repr(C)]
pub struct capstore_shortage_figures {
    pub need: u64,
    pub have: u64,
    pub limit: capstore_bytes,
}

#[repr(C)]
pub struct capstore_data_id {
    pub cap_hash: capstore_hash,
    pub size: u64,
    pub body_len: u64,
}

#[repr(C)]
pub struct capstore_region {
    pub start: u64,
    pub end: u64,
    pub read_only: bool,
    pub has_slot: bool,
    pub table: c_int,
    pub slot: capstore_slot,
}

#[repr(C)]
pub struct capstore_range {
    pub first: u64,
    pub pages: u64,
}

#[repr(C)]
pub struct capstore_slice_head {
    pub kind: c_int,
    pub size: u64,
    pub page_count: u64,
    pub image: *const capstore_cap,
}

#[repr(C)]
pub struct capstore_slice_sink {
    pub head: Option<unsafe extern "C" fn(*mut c_void, *const capstore_slice_head) -> c_int>,
    pub pages: Option<unsafe extern "C" fn(*mut c_void, u64, usize, *const u8) -> c_int>,
    pub zeros: Option<unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int>,
    pub ctx: *mut c_void,
}

#[repr(C)]
pub struct capstore_slice_where {
    pub offset: u64,
    pub level: c_uint,
    pub index: u64,
}

#[repr(C)]
pub struct capstore_open_options {
    pub struct_size: usize,
    pub cache_directory: *const c_char,
    pub max_memory: u64,
    pub readahead: u32,
}

#[repr(C)]
pub struct capstore_read_counts {
    pub requests: u64,
    pub fetched_pages: u64,
    pub cached_pages: u64,
    pub dropped_pages: u64,
    pub cache_failed: bool,
}

#[repr(C)]
pub struct capstore_lazy_failure {
    pub hash: *const capstore_hash,
    pub page: u64,
    pub address: *mut c_void,
    pub error: c_int,
    pub message: *const c_char,
}

#[repr(C)]
pub struct capstore_lazy_options {
    pub struct_size: usize,
    pub failed: Option<unsafe extern "C" fn(*mut c_void, *const capstore_lazy_failure) -> bool>,
    pub ctx: *mut c_void,
}

pub type WriteCb = unsafe extern "C" fn(*mut c_void, capstore_bytes) -> c_int;
pub type GotCb = unsafe extern "C" fn(*mut c_void, usize, c_int, *mut capstore_cap) -> c_int;
pub type VisitCb = unsafe extern "C" fn(*mut c_void, *const capstore_closure_entry) -> c_int;

pub const CLOSURE_BODIES: c_uint = 1;
pub const RESOLVE_ONLY: c_uint = 1;
pub const DRY_RUN: c_uint = 2;

extern "C" {
    pub fn capstore_error_name(error: c_int) -> *const c_char;
    pub fn capstore_error_text(error: c_int) -> *const c_char;
    pub fn capstore_version() -> *const c_char;

    pub fn capstore_new(options: *const capstore_options, ret: *mut *mut capstore) -> c_int;
    pub fn capstore_free(store: *mut capstore);
    pub fn capstore_connect(store: *mut capstore, address: *const c_char) -> c_int;
    pub fn capstore_connect_fd(store: *mut capstore, fd: c_int) -> c_int;
    pub fn capstore_close(store: *mut capstore);
    pub fn capstore_connected(store: *const capstore) -> bool;
    pub fn capstore_message(store: *const capstore) -> *const c_char;

    pub fn capstore_has(
        store: *mut capstore,
        hashes: *const capstore_hash,
        count: usize,
        ret_kinds: *mut u8,
    ) -> c_int;
    pub fn capstore_keep(
        store: *mut capstore,
        hashes: *const capstore_hash,
        count: usize,
        keep_s: u32,
        ret_kept: *mut capstore_kept,
    ) -> c_int;
    pub fn capstore_stat(
        store: *mut capstore,
        hash: *const capstore_hash,
        ret: *mut capstore_stat_result,
    ) -> c_int;
    pub fn capstore_get(
        store: *mut capstore,
        hash: *const capstore_hash,
        ret: *mut *mut capstore_cap,
    ) -> c_int;
    pub fn capstore_get_many(
        store: *mut capstore,
        hashes: *const capstore_hash,
        count: usize,
        got: Option<GotCb>,
        ctx: *mut c_void,
    ) -> c_int;
    pub fn capstore_closure(
        store: *mut capstore,
        root: *const capstore_hash,
        flags: c_uint,
        visit: Option<VisitCb>,
        ctx: *mut c_void,
    ) -> c_int;
    pub fn capstore_put_data(
        store: *mut capstore,
        content: *const capstore_source,
        size: u64,
        flags: c_uint,
        ret: *mut capstore_put_result,
    ) -> c_int;
    pub fn capstore_publish(
        store: *mut capstore,
        wire: *const capstore_source,
        flags: c_uint,
        ret: *mut capstore_publish_result,
    ) -> c_int;
    pub fn capstore_put_cap(
        store: *mut capstore,
        hash: *const capstore_hash,
        kind: c_int,
        body: *const capstore_source,
        ret: *mut capstore_put_result,
    ) -> c_int;
    pub fn capstore_unresolved_count(store: *const capstore) -> usize;
    pub fn capstore_unresolved(store: *const capstore, i: usize) -> capstore_unresolved_slot;
    pub fn capstore_source_memory(bytes: *const capstore_bytes) -> capstore_source;

    pub fn capstore_cap_from_body(
        body: capstore_bytes,
        expected: *const capstore_hash,
        ret: *mut *mut capstore_cap,
    ) -> c_int;
    pub fn capstore_cap_free(cap: *mut capstore_cap);
    pub fn capstore_cap_kind(cap: *const capstore_cap) -> c_int;
    pub fn capstore_cap_hash(cap: *const capstore_cap) -> *const capstore_hash;
    pub fn capstore_cap_verified(cap: *const capstore_cap) -> bool;
    pub fn capstore_cap_body(cap: *const capstore_cap) -> capstore_bytes;
    pub fn capstore_data_size(cap: *const capstore_cap) -> u64;
    pub fn capstore_data_page_count(cap: *const capstore_cap) -> u64;
    pub fn capstore_data_page(cap: *const capstore_cap, i: u64) -> capstore_page;
    pub fn capstore_data_read(
        cap: *const capstore_cap,
        offset: u64,
        dst: *mut c_void,
        len: usize,
    ) -> c_int;
    pub fn capstore_image_code(
        cap: *const capstore_cap,
        ret_address: *mut u64,
        ret_code: *mut capstore_bytes,
    ) -> bool;
    pub fn capstore_image_mapping_read_only(
        cap: *const capstore_cap,
        address: u64,
        ret: *mut bool,
    ) -> c_int;
    pub fn capstore_image_counts(cap: *const capstore_cap) -> capstore_counts;
    pub fn capstore_image_endpoint(cap: *const capstore_cap, i: usize) -> capstore_endpoint;
    pub fn capstore_image_mapping(cap: *const capstore_cap, i: usize) -> capstore_mapping;
    pub fn capstore_image_mapping_step(
        cap: *const capstore_cap,
        i: usize,
        step: usize,
    ) -> capstore_bytes;
    pub fn capstore_image_slot(cap: *const capstore_cap, table: c_int, i: usize) -> capstore_slot;
    pub fn capstore_image_yield_receiver(
        cap: *const capstore_cap,
        ret_key: *mut capstore_bytes,
    ) -> bool;
    pub fn capstore_image_gas_slot(cap: *const capstore_cap, i: usize) -> capstore_bytes;
    pub fn capstore_image_quota_slot(cap: *const capstore_cap, i: usize) -> capstore_bytes;

    pub fn capstore_map(
        store: *mut capstore,
        hash: *const capstore_hash,
        verify: c_int,
        ret: *mut *mut capstore_map,
    ) -> c_int;
    pub fn capstore_map_free(map: *mut capstore_map);
    pub fn capstore_map_kind(map: *const capstore_map) -> c_int;
    pub fn capstore_map_hash(map: *const capstore_map) -> *const capstore_hash;
    pub fn capstore_map_verified(map: *const capstore_map) -> bool;
    pub fn capstore_map_size(map: *const capstore_map) -> u64;
    pub fn capstore_map_bytes(map: *const capstore_map) -> capstore_bytes;
    pub fn capstore_map_image(map: *const capstore_map) -> *const capstore_cap;

    pub fn capstore_space(
        store: *mut capstore,
        hash: *const capstore_hash,
        verify: c_int,
        ret: *mut *mut capstore_space,
    ) -> c_int;
    pub fn capstore_space_free(space: *mut capstore_space);
    pub fn capstore_space_image(space: *const capstore_space) -> *const capstore_map;
    pub fn capstore_space_count(space: *const capstore_space) -> usize;
    pub fn capstore_space_span(space: *const capstore_space, i: usize) -> capstore_span;
    pub fn capstore_space_place(
        space: *const capstore_space,
        base: *mut c_void,
        len: u64,
    ) -> c_int;

    pub fn capstore_map_fd(map: *const capstore_map) -> c_int;
    pub fn capstore_info(store: *mut capstore, ret: *mut capstore_daemon_info) -> c_int;
    pub fn capstore_set_keep(store: *mut capstore, keep_s: u32);
    pub fn capstore_get_range(
        store: *mut capstore,
        hash: *const capstore_hash,
        offset: u64,
        len: u64,
        write: Option<WriteCb>,
        ctx: *mut c_void,
    ) -> c_int;
    pub fn capstore_shortage(
        store: *const capstore,
        ret_figures: *mut capstore_shortage_figures,
    ) -> bool;
    pub fn capstore_source_fd(fd: *const c_int, len: u64) -> capstore_source;
    pub fn capstore_data_hash(
        content: *const capstore_source,
        size: u64,
        ret_id: *mut capstore_data_id,
    ) -> c_int;
    pub fn capstore_image_regions(
        cap: *const capstore_cap,
        ret_regions: *mut *mut capstore_region,
    ) -> c_int;

    pub fn capstore_slice_verifier_new(
        hash: *const capstore_hash,
        ranges: *const capstore_range,
        count: usize,
        sink: *const capstore_slice_sink,
        ret_verifier: *mut *mut capstore_slice_verifier,
    ) -> c_int;
    pub fn capstore_slice_verifier_take(
        verifier: *mut capstore_slice_verifier,
        bytes: capstore_bytes,
    ) -> c_int;
    pub fn capstore_slice_verifier_finish(verifier: *mut capstore_slice_verifier) -> c_int;
    pub fn capstore_slice_verifier_where(
        verifier: *const capstore_slice_verifier,
    ) -> capstore_slice_where;
    pub fn capstore_slice_verifier_free(verifier: *mut capstore_slice_verifier);
    pub fn capstore_slice(
        store: *mut capstore,
        hash: *const capstore_hash,
        ranges: *const capstore_range,
        count: usize,
        sink: *const capstore_slice_sink,
        write: Option<WriteCb>,
        ctx: *mut c_void,
    ) -> c_int;

    pub fn capstore_open(
        store: *mut capstore,
        hash: *const capstore_hash,
        options: *const capstore_open_options,
        ret_reader: *mut *mut capstore_reader,
    ) -> c_int;
    pub fn capstore_reader_free(reader: *mut capstore_reader);
    pub fn capstore_reader_kind(reader: *const capstore_reader) -> c_int;
    pub fn capstore_reader_hash(reader: *const capstore_reader) -> *const capstore_hash;
    pub fn capstore_reader_size(reader: *const capstore_reader) -> u64;
    pub fn capstore_reader_image(reader: *const capstore_reader) -> *const capstore_cap;
    pub fn capstore_read(
        reader: *mut capstore_reader,
        offset: u64,
        dst: *mut c_void,
        len: usize,
        ret_len: *mut usize,
    ) -> c_int;
    pub fn capstore_reader_stats(reader: *const capstore_reader) -> capstore_read_counts;

    pub fn capstore_map_lazy(
        reader: *mut capstore_reader,
        options: *const capstore_lazy_options,
        ret_lazy: *mut *mut capstore_lazy,
    ) -> c_int;
    pub fn capstore_space_lazy(
        store: *mut capstore,
        hash: *const capstore_hash,
        open_options: *const capstore_open_options,
        options: *const capstore_lazy_options,
        base: *mut c_void,
        len: u64,
        ret_lazy: *mut *mut capstore_lazy,
    ) -> c_int;
    pub fn capstore_lazy_free(lazy: *mut capstore_lazy);
    pub fn capstore_lazy_bytes(lazy: *const capstore_lazy) -> capstore_bytes;
    pub fn capstore_lazy_image(lazy: *const capstore_lazy) -> *const capstore_cap;
    pub fn capstore_lazy_stats(lazy: *const capstore_lazy) -> capstore_read_counts;

    // Of the C library that every program here has.
    pub fn free(memory: *mut c_void);
    pub fn mmap(
        address: *mut c_void,
        len: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    pub fn munmap(address: *mut c_void, len: usize) -> c_int;
}
