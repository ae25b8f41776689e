//! The C interface, as far as this crate uses it. `tests/layout.rs` compares the structures with the
//! headers.

use std::os::raw::{c_char, c_int, c_uint, c_void};

macro_rules! opaque {
    ($($name:ident)*) => {
        $(#[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        })*
    };
}

opaque! { capstore capstore_cap capstore_map capstore_space }

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
    pub progress: Option<unsafe extern "C" fn(*mut c_void, *const c_void) -> bool>,
    pub progress_ctx: *mut c_void,
    pub max_bodies: u64,
    pub hash_thread: bool,
    pub leases: bool,
    pub keep_s: u32,
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
}
