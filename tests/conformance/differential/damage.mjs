// Damages an encoding where its structure has joints: offsets, selectors, the ends of values, at every
// depth. What surrounds a change is made to fit it, so that one fault is left for a decoder to find, and
// not some fault further out that hides it.
import { ContainerType, ListCompositeType, UnionType } from '@chainsafe/ssz';
import { Image } from './formats.mjs';

// Walks a value of `type` at [start, end) and collects its joints: `words`, offsets with what they count
// from; `selectors`, positions; `ends`, where values end.
function walk(type, view, start, end, found) {
  found.ends.push(end);
  if (type instanceof ContainerType) {
    const sizes = type.fieldsEntries.map(({ fieldType }) => fieldType.fixedSize ?? 4);
    const at = sizes.map((_, i) => start + sizes.slice(0, i).reduce((a, b) => a + b, 0));
    const variable = type.fieldsEntries.map(({ fieldType }, i) => ({ type: fieldType, at: at[i] }))
      .filter((field) => field.type.fixedSize === null);
    walkOffsets(variable, view, start, end, found);
  } else if (type instanceof ListCompositeType && type.elementType.fixedSize === null) {
    const count = start === end ? 0 : view.getUint32(start, true) / 4;
    const elements = Array.from({ length: count }, (_, i) => ({ type: type.elementType, at: start + 4 * i }));
    walkOffsets(elements, view, start, end, found);
  } else if (type instanceof UnionType) {
    found.selectors.push(start);
    const arm = type.types[view.getUint8(start)];
    if (start + 1 < end) walk(arm, view, start + 1, end, found);
  }
}

function walkOffsets(values, view, start, end, found) {
  const from = values.map(({ at }) => start + view.getUint32(at, true));
  values.forEach(({ type, at }, i) => {
    found.words.push({ at, base: start });
    walk(type, view, from[i], from[i + 1] ?? end, found);
  });
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

function joints(bytes) {
  const found = { words: [], selectors: [], ends: [] };
  walk(Image, viewOf(bytes), 0, bytes.length, found);
  return found;
}

// Replaces `gone` bytes at `at` by `added`; offsets go on pointing at what they pointed at. What began
// exactly at `at` begins after the added bytes, or before them when `before`.
function splice(bytes, { words }, at, gone, added, before) {
  const moved = (position) => {
    if (position < at || (position === at && before)) return position;
    return Math.max(position - gone, at) + added.length;
  };
  const result = Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + gone)]);
  const view = viewOf(bytes);
  for (const word of words) {
    if (word.at >= at && word.at < at + gone) continue;
    const value = moved(word.base + view.getUint32(word.at, true)) - moved(word.base);
    const to = word.at < at ? word.at : word.at - gone + added.length;
    if (to + 4 <= result.length) result.writeUInt32LE(value >>> 0, to);
  }
  return result;
}

const kinds = [
  // An offset that is off, or that of a neighbour: gaps, overlaps, offsets that decrease.
  (bytes, found, r) => {
    const word = r.pick(found.words);
    const peers = found.words.filter(({ base }) => base === word.base);
    const old = bytes.readUInt32LE(word.at);
    const value = r.chance(50)
      ? bytes.readUInt32LE(r.pick(peers).at) + r.pick([0, 0, 0, 1, -1])
      : r.pick([0, 1, 2, 3, 4, old + 1, old - 1, old + 4, old - 4, 0x7fffffff, 0x80000000, 0xffffffff]);
    bytes.writeUInt32LE(value >>> 0, word.at);
    return bytes;
  },
  (bytes, found, r) => {
    const at = r.pick(found.selectors);
    bytes[at] = r.pick([0, 1, 2, 127, 128, 255]);
    return bytes;
  },
  // A value that is longer: bytes after None or a fixed container, an element and a half.
  (bytes, found, r) => splice(bytes, found, r.pick(found.ends), 0, r.bytes(1 + r.below(5)), r.chance(30)),
  // Bytes between an offset table and the first payload.
  (bytes, found, r) => {
    const { at, base } = r.pick(found.words);
    const target = base + bytes.readUInt32LE(at);
    return splice(bytes, found, target, 0, r.bytes(r.pick([1, 4])), false);
  },
  // A value that is cut short, or gone.
  (bytes, found, r) => {
    const end = r.pick(found.ends);
    const gone = Math.min(end, 1 + r.below(5));
    return splice(bytes, found, end - gone, gone, Buffer.alloc(0), false);
  },
];

// `bytes` encode an Image; one joint of it is damaged.
export function damageJoint(bytes, r) {
  return r.pick(kinds)(bytes, joints(bytes), r);
}
