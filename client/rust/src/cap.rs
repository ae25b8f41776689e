use std::fmt;
use std::ptr::NonNull;

use crate::error::{Code, Error, Result};
use crate::{check, lent, sys, Hash, Kind, Table};

/// A cap in memory: decoded, verified unless the store was told not to. It never changes.
pub struct Cap(pub(crate) NonNull<sys::capstore_cap>);

// The library's caps never change after they were made, and any thread may free one.
unsafe impl Send for Cap {}
unsafe impl Sync for Cap {}

impl Drop for Cap {
    fn drop(&mut self) {
        unsafe { sys::capstore_cap_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cap").field("kind", &self.kind()).field("hash", &self.hash()).finish()
    }
}

impl Cap {
    pub(crate) unsafe fn take(cap: *mut sys::capstore_cap) -> Result<Cap> {
        NonNull::new(cap).map(Cap).ok_or_else(|| Error::bare(Code::Internal))
    }

    /// Decodes a served body and computes its hash, which must be `expected` if that is given.
    pub fn from_body(body: &[u8], expected: Option<&Hash>) -> Result<Cap> {
        let body = sys::capstore_bytes { data: body.as_ptr(), len: body.len() };
        let expected = expected.map_or(std::ptr::null(), Hash::as_c);
        let mut cap = std::ptr::null_mut();
        check(unsafe { sys::capstore_cap_from_body(body, expected, &mut cap) })?;
        unsafe { Cap::take(cap) }
    }

    /// Image or Data.
    pub fn kind(&self) -> Kind {
        Kind::sure(unsafe { sys::capstore_cap_kind(self.0.as_ptr()) })
    }

    /// Its name.
    pub fn hash(&self) -> Hash {
        Hash::of(unsafe { &*sys::capstore_cap_hash(self.0.as_ptr()) })
    }

    /// Whether its bytes were hashed and have that hash.
    pub fn is_verified(&self) -> bool {
        unsafe { sys::capstore_cap_verified(self.0.as_ptr()) }
    }

    /// The served body, byte for byte.
    pub fn body(&self) -> &[u8] {
        unsafe { lent(sys::capstore_cap_body(self.0.as_ptr())) }
    }

    /// What only an Image has.
    pub fn image(&self) -> Option<Image<'_>> {
        (self.kind() == Kind::Image).then(|| unsafe { Image::of(self.0.as_ptr()) })
    }

    /// What only a Data cap has.
    pub fn data(&self) -> Option<Data<'_>> {
        (self.kind() == Kind::Data).then_some(Data(self))
    }
}

/// A Data cap's content.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a>(&'a Cap);

/// A page that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Its logical address is `index * PAGE_SIZE`.
    pub index: u64,
    /// At most a page; the rest of the page is zero.
    pub bytes: &'a [u8],
}

impl<'a> Data<'a> {
    /// Logical bytes, a multiple of the page size; may be near 2^64.
    pub fn size(&self) -> u64 {
        unsafe { sys::capstore_data_size(self.0 .0.as_ptr()) }
    }

    /// The pages that are not zero, in ascending order.
    pub fn pages(&self) -> impl Iterator<Item = Page<'a>> + 'a {
        let cap = self.0;
        let count = unsafe { sys::capstore_data_page_count(cap.0.as_ptr()) };
        (0..count).map(move |i| {
            let page = unsafe { sys::capstore_data_page(cap.0.as_ptr(), i) };
            Page { index: page.index, bytes: unsafe { lent(page.bytes) } }
        })
    }

    /// Copies the logical bytes from `offset` on to all of `dst`; the range lies within the size.
    pub fn read(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        let at = dst.as_mut_ptr().cast();
        check(unsafe { sys::capstore_data_read(self.0 .0.as_ptr(), offset, at, dst.len()) })
    }
}

/// An Image's structure.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    cap: *const sys::capstore_cap,
    owner: std::marker::PhantomData<&'a Cap>,
}

unsafe impl Send for Image<'_> {}
unsafe impl Sync for Image<'_> {}

/// Where an Image can be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// An address, or an offset into the code: as the publisher put it.
    pub entry_pc: u64,
    /// Where the stack ends.
    pub stack_top: u64,
    /// The slot of the arguments' CNode.
    pub arg_cnode_slot: &'a [u8],
    /// Its size.
    pub arg_cnode_size: u8,
    /// The registers on entry.
    pub initial_regs: [u64; 13],
}

/// A range of addresses and where its content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// The source's path: 1 to 8 keys, of which the first is a slot of the Image.
    pub path: Vec<&'a [u8]>,
}

/// What is behind a mapping: element i of [`Image::regions`] is of mapping i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    /// First address.
    pub start: u64,
    /// Where it ends; the last address there is where start + size overflows.
    pub end: u64,
    /// Whether a program may only read it.
    pub read_only: bool,
    /// The slot whose Data cap is behind it; `None`: only a runtime knows.
    pub slot: Option<(Table, Slot<'a>)>,
}

/// A slot and the cap that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The cap.
    pub hash: Hash,
}

impl<'a> Image<'a> {
    /// `cap` is an Image that lives as long as 'a.
    pub(crate) unsafe fn of(cap: *const sys::capstore_cap) -> Image<'a> {
        Image { cap, owner: std::marker::PhantomData }
    }

    fn counts(&self) -> sys::capstore_counts {
        unsafe { sys::capstore_image_counts(self.cap) }
    }

    /// The code, which maps read-only at [`crate::CODE_BASE`]; empty when there is none.
    pub fn code(&self) -> &'a [u8] {
        let mut address = 0;
        let mut code = sys::capstore_bytes { data: std::ptr::null(), len: 0 };
        unsafe {
            if sys::capstore_image_code(self.cap, &mut address, &mut code) {
                lent(code)
            } else {
                &[]
            }
        }
    }

    /// Whether memory that is mapped at `address` is read-only. An error when no mapping starts
    /// there.
    pub fn mapping_is_read_only(&self, address: u64) -> Result<bool> {
        let mut read_only = false;
        let value =
            unsafe { sys::capstore_image_mapping_read_only(self.cap, address, &mut read_only) };
        check(value).map(|()| read_only)
    }

    /// The endpoints, in key order.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint<'a>> + 'a {
        let image = *self;
        (0..self.counts().endpoints).map(move |i| unsafe {
            let endpoint = sys::capstore_image_endpoint(image.cap, i);
            Endpoint {
                key: lent(endpoint.key),
                entry_pc: endpoint.entry_pc,
                stack_top: endpoint.stack_top,
                arg_cnode_slot: lent(endpoint.arg_cnode_slot),
                arg_cnode_size: endpoint.arg_cnode_size,
                initial_regs: endpoint.initial_regs,
            }
        })
    }

    /// The mappings, in list order.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping<'a>> + 'a {
        let image = *self;
        (0..self.counts().mappings).map(move |i| unsafe {
            let mapping = sys::capstore_image_mapping(image.cap, i);
            let path = (0..mapping.steps)
                .map(|step| lent(sys::capstore_image_mapping_step(image.cap, i, step)))
                .collect();
            Mapping { start: mapping.start, size: mapping.size, path }
        })
    }

    /// The regions of all mappings, in list order.
    pub fn regions(&self) -> Result<Vec<Region<'a>>> {
        let mut at = std::ptr::null_mut();
        check(unsafe { sys::capstore_image_regions(self.cap, &mut at) })?;
        let count = if at.is_null() { 0 } else { self.counts().mappings };
        let regions = (0..count).map(|i| unsafe {
            let region = &*at.add(i);
            let slot = region.has_slot.then(|| {
                let table = if region.table == 0 { Table::Pinned } else { Table::Initial };
                (table, Slot { key: lent(region.slot.key), hash: Hash::of(&region.slot.cap_hash) })
            });
            Region { start: region.start, end: region.end, read_only: region.read_only, slot }
        });
        let regions = regions.collect();
        unsafe { sys::free(at.cast()) };
        Ok(regions)
    }

    /// The slots of a table, in key order.
    pub fn slots(&self, table: Table) -> impl Iterator<Item = Slot<'a>> + 'a {
        let image = *self;
        (0..self.counts().slots[table as usize]).map(move |i| unsafe {
            let slot = sys::capstore_image_slot(image.cap, table as i32, i);
            Slot { key: lent(slot.key), hash: Hash::of(&slot.cap_hash) }
        })
    }

    /// The slot that receives yields.
    pub fn yield_receiver(&self) -> Option<&'a [u8]> {
        let mut key = sys::capstore_bytes { data: std::ptr::null(), len: 0 };
        unsafe { sys::capstore_image_yield_receiver(self.cap, &mut key).then(|| lent(key)) }
    }

    /// The gas slots, in list order.
    pub fn gas_slots(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let image = *self;
        (0..self.counts().gas_slots)
            .map(move |i| unsafe { lent(sys::capstore_image_gas_slot(image.cap, i)) })
    }

    /// The quota slots, in list order.
    pub fn quota_slots(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let image = *self;
        (0..self.counts().quota_slots)
            .map(move |i| unsafe { lent(sys::capstore_image_quota_slot(image.cap, i)) })
    }
}
