// Images at random, mostly sound, and the ways of breaking them. Everything follows from one seed.
import { damageJoint } from './damage.mjs';
import { Image, PAGE_SIZE } from './formats.mjs';

// mulberry32: small, seeded, good enough to choose test cases.
export function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (n) => next() % n;
  return {
    below,
    chance: (percent) => below(100) < percent,
    pick: (list) => list[below(list.length)],
    bytes: (n) => Uint8Array.from({ length: n }, () => below(256)),
    u64: () => (BigInt(next()) << 32n) | BigInt(next()),
  };
}

const key = (r) => r.bytes(r.pick([0, 1, 1, 1, 2, 3, 31, 32, 33, 70]));

function distinctKeys(r, count) {
  const found = new Map();
  for (let i = 0; i < count; i++) {
    const k = key(r);
    found.set(Buffer.from(k).toString('hex'), k);
  }
  const keys = [...found.values()];
  return keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

// An arena of runs: zeros, noise, and repeats of what is there, so that pages can be equal.
function arenaOf(r) {
  const parts = [];
  for (let i = r.below(6); i > 0; i--) {
    const length = r.pick([1, 5, 32, 100, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 7]);
    const kind = r.below(3);
    if (kind === 0) parts.push(new Uint8Array(length));
    else if (kind === 1 || parts.length === 0) parts.push(r.bytes(length));
    else parts.push(r.pick(parts));
  }
  return Buffer.concat(parts);
}

function window(r, arena, max) {
  const len = Math.min(arena.length, r.pick([1, 2, 31, 32, 33, 1000, PAGE_SIZE - 1, PAGE_SIZE]), max);
  const arenaOff = r.chance(30) ? 0 : r.below(arena.length - len + 1);
  return { arenaOff, len };
}

const U64_PAGES = (1n << 52n) - 1n;

function desc(r, arena) {
  const count = r.pick([0n, 1n, 2n, 3n, 4n, 5n, 8n, 9n, 64n, 513n, 1n << 32n, 1n << 51n, U64_PAGES]);
  const indexes = new Set();
  const reachable = count > 0xffffffffn ? 0xffffffff : Number(count);
  for (let i = r.below(6); i > 0 && reachable > 0 && arena.length > 0; i--) {
    indexes.add(r.chance(20) ? reachable - 1 : r.below(Math.min(reachable, r.pick([4, 600, 0xffffffff]))));
  }
  const pages = [...indexes].sort((a, b) => a - b)
    .map((pageIndex) => ({ pageIndex, ...window(r, arena, PAGE_SIZE) }));
  return { size: count * BigInt(PAGE_SIZE), pages };
}

function endpoint(r) {
  const registers = new Set();
  for (let i = r.below(5); i > 0; i--) registers.add(r.below(13));
  return {
    entryPc: r.chance(50) ? BigInt(r.below(1000)) : r.u64(),
    argRegisters: r.below(256),
    argCnodeSize: r.below(256),
    initialRegs: [...registers].sort((a, b) => a - b).map((k) => ({ k, v: r.u64() })),
  };
}

function mapping(r) {
  const steps = 1 + r.below(r.chance(20) ? 8 : 2);
  return { start: r.u64(), size: r.u64(), source: Array.from({ length: steps }, () => key(r)) };
}

const some = (r, most, make) => Array.from({ length: r.below(most) }, make);

// A decoded Image that every rule accepts.
export function soundImage(r) {
  const arena = arenaOf(r);
  const code = arena.length === 0 ? { arenaOff: 0, len: 0 } : window(r, arena, arena.length);
  const pinned = (k) => ({
    k,
    v: r.chance(25)
      ? { selector: 1, value: { contentHash: r.bytes(32) } }
      : { selector: 0, value: { desc: desc(r, arena) } },
  });
  return {
    code,
    endpoints: distinctKeys(r, r.below(4)).map((k) => ({ k, v: endpoint(r) })),
    memoryMappings: some(r, 4, () => mapping(r)),
    pinnedSlots: distinctKeys(r, r.below(4)).map(pinned),
    initialSlots: distinctKeys(r, r.below(4)).map((k) => ({ k, v: desc(r, arena) })),
    yieldReceiverSlot: r.chance(50) ? { selector: 1, value: key(r) } : { selector: 0, value: null },
    gasSlots: some(r, 3, () => key(r)),
    quotaSlots: some(r, 3, () => key(r)),
    arena,
  };
}

const anyDesc = (image, r) => {
  const pinned = image.pinnedSlots.filter(({ v }) => v.selector === 0).map(({ v }) => v.value.desc);
  const descs = [...pinned, ...image.initialSlots.map(({ v }) => v)];
  return descs.length > 0 ? r.pick(descs) : undefined;
};
const onDesc = (change) => (image, r) => {
  const desc = anyDesc(image, r);
  if (desc) change(desc, r, image);
};
const onPage = (change) => onDesc((desc, r, image) => {
  if (desc.pages.length) change(r.pick(desc.pages), desc, image);
});
const onAny = (list, change) => (image, r) => {
  if (image[list].length) change(r.pick(image[list]), r);
};

// Breaks one rule in the decoded value (or does nothing where the Image has no place for it).
const breakRule = [
  (image) => { image.code.len = 0x0fc00001; },
  (image) => { image.code.len = image.arena.length - image.code.arenaOff + 1; },
  (image) => { image.code.arenaOff = 0xffffffff; },
  onDesc((desc, r) => { desc.size += BigInt(1 + r.below(4095)); }),
  onDesc((desc) => { desc.size = 0xffffffffffffffffn; }),
  onPage((page) => { page.len = 0; }),
  onPage((page) => { page.len = PAGE_SIZE + 1; }),
  onPage((page, _, image) => { page.arenaOff = image.arena.length - page.len + 1; }),
  onPage((page) => { page.arenaOff = 0xffffffff; }),
  onPage((page, desc) => { page.pageIndex = Number(BigInt.asUintN(32, desc.size / 4096n)); }),
  onPage((page, desc) => { desc.pages.push({ ...page }); }),
  onPage((_, desc) => { desc.pages.reverse(); }),
  onAny('endpoints', ({ v }, r) => { v.initialRegs.push({ k: 13 + r.below(243), v: 0n }); }),
  onAny('endpoints', ({ v }) => { v.initialRegs.reverse(); }),
  onAny('memoryMappings', (m) => { m.source = []; }),
  onAny('memoryMappings', (m, r) => { m.source = Array.from({ length: 9 }, () => key(r)); }),
  (image) => { image.pinnedSlots.reverse(); },
  (image) => { if (image.initialSlots[0]) image.initialSlots.push(image.initialSlots[0]); },
];

// Changes some bytes of an encoding without knowing what they mean.
const damage = [
  (bytes, r) => { if (bytes.length) bytes[r.below(bytes.length)] ^= 1 << r.below(8); return bytes; },
  (bytes, r) => bytes.subarray(0, r.below(bytes.length + 1)),
  (bytes, r) => Buffer.concat([bytes, r.bytes(1 + r.below(8))]),
  (bytes, r) => {
    if (bytes.length < 40) return bytes;
    const at = r.chance(60) ? 8 + 4 * r.below(8) : r.below(bytes.length - 3);
    const old = bytes.readUInt32LE(at);
    const value = r.pick([0, 1, 3, 4, old + 1, old - 1, old + 4, old - 4, bytes.length, bytes.length + 1,
      0x7fffffff, 0x80000000, 0xffffffff]);
    bytes.writeUInt32LE(value >>> 0, at);
    return bytes;
  },
  (bytes, r) => {
    const at = r.below(bytes.length + 1);
    return Buffer.concat([bytes.subarray(0, at), r.bytes(1 + r.below(5)), bytes.subarray(at)]);
  },
  (bytes, r) => {
    const at = r.below(bytes.length + 1);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + r.below(5))]);
  },
];

// One upload: sound, with some rules broken, with its structure or any bytes damaged, or several of these.
export function upload(r) {
  const image = soundImage(r);
  const fate = r.below(100);
  if (fate >= 20 && fate < 50) {
    for (let i = 1 + r.below(3); i > 0; i--) r.pick(breakRule)(image, r);
  }
  let bytes = Buffer.from(Image.serialize(image));
  if (fate >= 45 && fate < 85) bytes = damageJoint(bytes, r);
  if (fate >= 80) {
    for (let i = 1 + r.below(3); i > 0; i--) bytes = Buffer.from(r.pick(damage)(bytes, r));
  }
  return bytes;
}
