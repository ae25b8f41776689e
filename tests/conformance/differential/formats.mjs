// The formats of lib/cap/FORMATS.md, written a second time over an independent SSZ library.
//
// Nothing here is shared with lib/cap: types, roots and encodings come from @chainsafe/ssz, SHA-256 from
// Node, and the rules of the deblob are read from the document again.
import { createHash } from 'node:crypto';
import {
  ByteListType,
  ByteVectorType,
  ContainerType,
  ListCompositeType,
  NoneType,
  UintBigintType,
  UintNumberType,
  UnionType,
  VectorBasicType,
  VectorCompositeType,
} from '@chainsafe/ssz';

export const PAGE_SIZE = 4096;
export const NUM_REGS = 13;
export const MAX_SOURCE_DEPTH = 8;
export const MAX_CODE_SIZE = 0x10000000 - 0x00400000;

const LIMIT = 2 ** 32;
const u8 = new UintNumberType(1);
const u32 = new UintNumberType(4);
const u64 = new UintBigintType(8);
const Bytes32 = new ByteVectorType(32);
const Page = new ByteVectorType(PAGE_SIZE);
const Key = new ByteListType(LIMIT);
const listOf = (type) => new ListCompositeType(type, LIMIT);
const mapOf = (k, v) => listOf(new ContainerType({ k, v }));
const Keys = listOf(Key);
const OptionKey = new UnionType([new NoneType(), Key]);

const CodeRef = new ContainerType({ arenaOff: u32, len: u32 });
const Endpoint = new ContainerType({
  entryPc: u64,
  argRegisters: u8,
  argCnodeSize: u8,
  initialRegs: mapOf(u8, u64),
});
const MemoryMapping = new ContainerType({ start: u64, size: u64, source: Keys });
const PageRef = new ContainerType({ pageIndex: u32, arenaOff: u32, len: u32 });
const DataDesc = new ContainerType({ size: u64, pages: listOf(PageRef) });
const PinnedCap = new UnionType([
  new ContainerType({ desc: DataDesc }),
  new ContainerType({ contentHash: Bytes32 }),
]);

export const Image = new ContainerType({
  code: CodeRef,
  endpoints: mapOf(Key, Endpoint),
  memoryMappings: listOf(MemoryMapping),
  pinnedSlots: mapOf(Key, PinnedCap),
  initialSlots: mapOf(Key, DataDesc),
  yieldReceiverSlot: OptionKey,
  gasSlots: Keys,
  quotaSlots: Keys,
  arena: Key,
});

const CapEndpoint = new ContainerType({
  entryPc: u64,
  stackTop: u64,
  argCnodeSlot: Key,
  argCnodeSize: u8,
  initialRegs: new VectorBasicType(u64, NUM_REGS),
});
const SlotEntry = new ContainerType({ slot: Key, capHash: Bytes32 });
const ImageCap = new ContainerType({
  code: Key,
  endpoints: listOf(new ContainerType({ k: Key, v: CapEndpoint })),
  mappings: listOf(MemoryMapping),
  pinned: listOf(SlotEntry),
  initial: listOf(SlotEntry),
  yieldReceiverSlot: OptionKey,
  gasSlots: Keys,
  quotaSlots: Keys,
});
const DataBody = new ContainerType({ size: u64, pages: listOf(PageRef), arena: Key });

export const sha256 = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
export const hex = (bytes) => Buffer.from(bytes).toString('hex');

const Z = Buffer.alloc(32);
const chunk64 = (value) => {
  const chunk = Buffer.alloc(32);
  chunk.writeBigUInt64LE(BigInt(value));
  return chunk;
};
const ascending = (entries) =>
  entries.every((entry, i) => i === 0 || Buffer.compare(Buffer.from(entries[i - 1].k), Buffer.from(entry.k)) < 0);

// A strictly decoded Image, or null. The library is laxer than the document in places (bytes after None),
// so an encoding counts only when it is the one that the library itself would write.
export function decode(bytes) {
  let image;
  try {
    image = Image.deserialize(bytes);
    if (Buffer.compare(Buffer.from(Image.serialize(image)), bytes) !== 0) return null;
  } catch {
    return null;
  }
  const maps = [image.endpoints, image.pinnedSlots, image.initialSlots];
  if (!maps.every(ascending)) return null;
  for (const { v } of image.endpoints) {
    if (!v.initialRegs.every((r, i) => i === 0 || v.initialRegs[i - 1].k < r.k)) return null;
  }
  return image;
}

const descs = (image) => [
  ...image.pinnedSlots.filter(({ v }) => v.selector === 0).map(({ v }) => v.value.desc),
  ...image.initialSlots.map(({ v }) => v),
];

// Rules 1 to 10; the name of the first one broken, or null.
export function judge(image) {
  const arena = image.arena.length;
  if (image.code.len > MAX_CODE_SIZE) return 'code_too_large';
  if (image.code.arenaOff + image.code.len > arena) return 'code_ref_out_of_range';
  for (const desc of descs(image)) {
    if (desc.size % BigInt(PAGE_SIZE) !== 0n) return 'data_size_not_page_multiple';
    let last = -1;
    for (const page of desc.pages) {
      if (page.len < 1 || page.len > PAGE_SIZE) return 'data_bad_len';
      if (page.arenaOff + page.len > arena) return 'data_out_of_range';
      if (BigInt(page.pageIndex) >= desc.size / BigInt(PAGE_SIZE)) return 'data_page_index_out_of_range';
      if (page.pageIndex <= last) return 'data_not_canonical';
      last = page.pageIndex;
    }
  }
  for (const { v } of image.endpoints) {
    if (v.initialRegs.some((r) => r.k >= NUM_REGS)) return 'register_index_out_of_range';
  }
  for (const { source } of image.memoryMappings) {
    if (source.length === 0) return 'source_path_empty';
    if (source.length > MAX_SOURCE_DEPTH) return 'source_path_too_deep';
  }
  return null;
}

// merkleize of nodes at BigInt indexes below `count`, everything else zero.
function sparseRoot(nodes, count) {
  let level = nodes;
  let zero = Z;
  for (let width = 1n; width < count; width *= 2n) {
    const up = new Map();
    for (const index of level.keys()) {
      const left = index & ~1n;
      up.set(index >> 1n, sha256(level.get(left) ?? zero, level.get(left | 1n) ?? zero));
    }
    zero = sha256(zero, zero);
    level = up;
  }
  return level.get(0n) ?? zero;
}

function pagesRoot(nodes, count) {
  if (count > 600n) return sparseRoot(nodes, count);
  const all = Array.from({ length: Number(count) }, (_, i) => nodes.get(BigInt(i)) ?? Z);
  return new VectorCompositeType(Bytes32, all.length).hashTreeRoot(all);
}

function dataCap(desc, arena) {
  const size = desc.size === 0n ? BigInt(PAGE_SIZE) : desc.size;
  const nodes = new Map();
  const pages = [];
  const windows = new Map();
  const packed = [];
  let end = 0;
  for (const ref of desc.pages) {
    const page = Buffer.alloc(PAGE_SIZE);
    page.set(arena.subarray(ref.arenaOff, ref.arenaOff + ref.len));
    let len = PAGE_SIZE;
    while (len > 0 && page[len - 1] === 0) len--;
    if (len === 0) continue;
    nodes.set(BigInt(ref.pageIndex), Page.hashTreeRoot(page));
    const content = page.subarray(0, len).toString('latin1');
    if (!windows.has(content)) {
      windows.set(content, end);
      packed.push(page.subarray(0, len));
      end += len;
    }
    pages.push({ pageIndex: ref.pageIndex, arenaOff: windows.get(content), len });
  }
  const root = sha256(chunk64(size), pagesRoot(nodes, size / BigInt(PAGE_SIZE)));
  const body = Buffer.concat([
    Buffer.from([2]),
    DataBody.serialize({ size, pages, arena: Buffer.concat(packed) }),
  ]);
  return { capHash: sha256(root, chunk64(2)), size, body };
}

// What the driver says of an accepted Image.
export function convert(image) {
  const arena = Buffer.from(image.arena);
  const data = [];
  const entry = (k, desc) => {
    const cap = dataCap(desc, arena);
    data.push(cap);
    return { slot: k, capHash: cap.capHash };
  };
  const pinned = image.pinnedSlots.map(({ k, v }) =>
    v.selector === 0 ? entry(k, v.value.desc) : { slot: k, capHash: v.value.contentHash });
  const initial = image.initialSlots.map(({ k, v }) => entry(k, v));
  const cap = {
    code: arena.subarray(image.code.arenaOff, image.code.arenaOff + image.code.len),
    endpoints: image.endpoints.map(({ k, v }) => {
      const regs = Array(NUM_REGS).fill(0n);
      for (const r of v.initialRegs) regs[r.k] = r.v;
      return {
        k,
        v: {
          entryPc: v.entryPc,
          stackTop: regs[1],
          argCnodeSlot: new Uint8Array([0]),
          argCnodeSize: v.argCnodeSize,
          initialRegs: regs,
        },
      };
    }),
    mappings: image.memoryMappings,
    pinned,
    initial,
    yieldReceiverSlot: image.yieldReceiverSlot,
    gasSlots: image.gasSlots,
    quotaSlots: image.quotaSlots,
  };
  const body = Buffer.concat([Buffer.from([1]), ImageCap.serialize(cap)]);
  return {
    verdict: 'ok',
    image_content_hash: hex(Image.hashTreeRoot(image)),
    cap_hash: hex(sha256(ImageCap.hashTreeRoot(cap), chunk64(1))),
    body: hex(sha256(body)),
    body_len: body.length,
    data: data.map((d) => ({
      cap_hash: hex(d.capHash),
      size: String(d.size),
      body: hex(sha256(d.body)),
      body_len: d.body.length,
    })),
  };
}

// The whole verdict on an upload.
export function verdict(bytes) {
  const image = decode(bytes);
  if (image === null) return { verdict: 'ssz' };
  const error = judge(image);
  return error === null ? convert(image) : { verdict: error };
}
