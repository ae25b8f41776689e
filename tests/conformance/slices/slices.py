#!/usr/bin/env python3
"""Compares slices of lib/cap with an encoder and a verifier written from SLICES.md and FORMATS.md alone.

    slices.py ORACLE COUNT [SEED] [--vectors DIRECTORY]

First every vector, then COUNT random caps, each with random ranges and with slices that are damaged in
many ways. ORACLE answers as oracle.c says. The seed is printed; a disagreement prints what it was about.
Fails too when a verdict never occurred that a run must bring, so that the comparison cannot become empty.
"""

import argparse
import bisect
import functools
import hashlib
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

IMAGE, DATA = 1, 2
PAGE = 4096
MAX_CODE = 0x10000000 - 0x00400000
MAX_STRUCTURE = 17 << 20  # what the oracle's verifier allows
ANY = 0xffffffff
ERRORS = {"slice_mismatch": 24, "slice_malformed": 25, "invalid_argument": 42, "range_out_of_body": 88,
          "structure_too_large": 104}


class Wrong(Exception):
    def __init__(self, name, level=0, index=0):
        super().__init__(name)
        self.code, self.level, self.index = ERRORS[name], level, index


def malformed():
    return Wrong("slice_malformed")


# --- FORMATS.md section 2 -------------------------------------------------------------------------


def H(a, b):
    return hashlib.sha256(a + b).digest()


ZERO = [bytes(32)]
while len(ZERO) < 72:
    ZERO.append(H(ZERO[-1], ZERO[-1]))


def merkleize(chunks, depth):
    for level in range(depth):
        if len(chunks) % 2:
            chunks = chunks + [ZERO[level]]
        chunks = [H(chunks[i], chunks[i + 1]) for i in range(0, len(chunks), 2)]
    return chunks[0] if chunks else ZERO[depth]


def mix_in(root, value):
    return H(root, value.to_bytes(32, "little"))


def chunked(data):
    data = data + bytes(-len(data) % 32)
    return [data[i:i + 32] for i in range(0, len(data), 32)]


class Fixed:
    """Integers, hashes and vectors of integers: their bytes."""

    def __init__(self, size):
        self.size = size

    def decode(self, data):
        if len(data) != self.size:
            raise ValueError
        return data

    def encode(self, value):
        return value

    def root(self, value):
        chunks = chunked(value)
        return merkleize(chunks, (len(chunks) - 1).bit_length())


class ByteList:
    size = None

    def decode(self, data):
        return data

    def encode(self, value):
        return value

    def root(self, value):
        return mix_in(merkleize(chunked(value), 27), len(value))


def parts(data, offsets):
    """The bytes between offsets, which must ascend and end within the data."""
    ends = offsets[1:] + [len(data)]
    if any(a > b for a, b in zip(offsets, ends)):
        raise ValueError
    return [data[a:b] for a, b in zip(offsets, ends)]


def joined(pieces):
    at, offsets = 4 * len(pieces), b""
    for piece in pieces:
        offsets += struct.pack("<I", at)
        at += len(piece)
    return offsets + b"".join(pieces)


class List:
    size = None

    def __init__(self, element):
        self.element = element

    def decode(self, data):
        if not data:
            return []
        if len(data) < 4:
            raise ValueError
        first = struct.unpack_from("<I", data)[0]
        if first == 0 or first % 4 or first > len(data):
            raise ValueError
        offsets = list(struct.unpack_from(f"<{first // 4}I", data))
        return [self.element.decode(piece) for piece in parts(data, offsets)]

    def encode(self, value):
        return joined([self.element.encode(item) for item in value])

    def root(self, value):
        return mix_in(merkleize([self.element.root(item) for item in value], 32), len(value))


class Container:
    size = None

    def __init__(self, *fields):
        self.fields = fields

    def decode(self, data):
        at, fixed, offsets = 0, [], []
        for field in self.fields:
            size = field.size or 4
            piece = data[at:at + size]
            if len(piece) < size:
                raise ValueError
            fixed.append(piece)
            if field.size is None:
                offsets.append(struct.unpack("<I", piece)[0])
            at += size
        if offsets[0] != at:
            raise ValueError
        variable = iter(parts(data, offsets))
        return [field.decode(piece if field.size else next(variable))
                for field, piece in zip(self.fields, fixed)]

    def encode(self, value):
        pieces = [field.encode(item) for field, item in zip(self.fields, value)]
        at = sum(field.size or 4 for field in self.fields)
        head, tail = b"", b""
        for field, piece in zip(self.fields, pieces):
            if field.size:
                head += piece
            else:
                head += struct.pack("<I", at + len(tail))
                tail += piece
        return head + tail

    def root(self, value):
        roots = [field.root(item) for field, item in zip(self.fields, value)]
        return merkleize(roots, (len(roots) - 1).bit_length())


class Option:
    size = None

    def __init__(self, value):
        self.value = value

    def decode(self, data):
        if data == b"\0":
            return None
        if data[:1] != b"\1":
            raise ValueError
        return self.value.decode(data[1:])

    def encode(self, value):
        return b"\0" if value is None else b"\1" + self.value.encode(value)

    def root(self, value):
        return mix_in(ZERO[0], 0) if value is None else mix_in(self.value.root(value), 1)


KEY = ByteList()
U64 = Fixed(8)
ENDPOINT = Container(U64, U64, KEY, Fixed(1), Fixed(104))
SLOTS = List(Container(KEY, Fixed(32)))
IMAGE_CAP = Container(ByteList(), List(Container(KEY, ENDPOINT)), List(Container(U64, U64, List(KEY))),
                      SLOTS, SLOTS, Option(KEY), List(KEY), List(KEY))


def ascend(entries):
    keys = [entry[0] for entry in entries]
    return all(a < b for a, b in zip(keys, keys[1:]))


def decode_rest(rest):
    """An Image without code that some wire Image becomes (FORMATS.md section 5)."""
    fields = IMAGE_CAP.decode(rest)
    code, endpoints, mappings, pinned, initial = fields[:5]
    if code or not (ascend(endpoints) and ascend(pinned) and ascend(initial)):
        raise ValueError
    for _, (_, stack_top, slot, _, registers) in endpoints:
        if slot != b"\0" or stack_top != registers[8:16]:
            raise ValueError
    if not all(1 <= len(path) <= 8 for _, _, path in mappings):
        raise ValueError
    return fields


@functools.lru_cache(maxsize=1000)
def rest_roots(rest):
    """Of the seven fields after the code; ValueError."""
    return [field.root(item) for field, item in zip(IMAGE_CAP.fields, decode_rest(rest))][1:]


def image_hash(code_root, roots):
    return mix_in(merkleize([code_root] + roots, 3), IMAGE)


# --- Caps -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=100000)
def page_root(kind, page):
    if kind == DATA and not page:
        return ZERO[0]
    return merkleize(chunked(page), 7) if page else ZERO[7]


def empty(kind, level):
    return ZERO[level + (7 if kind == IMAGE else 0)]


class Cap:
    """A cap by its pages, each cut after its last byte that is not zero."""

    def __init__(self, kind, size, pages, rest=b""):
        self.kind, self.size, self.rest = kind, size, rest
        self.pages = {index: page.rstrip(b"\0") for index, page in pages.items() if page.rstrip(b"\0")}
        self.indexes = sorted(self.pages)
        self.count = -(-size // PAGE)
        self.depth = 20 if kind == IMAGE else (self.count - 1).bit_length()
        self.known = {}

    def node(self, level, index):
        low = bisect.bisect_left(self.indexes, index << level)
        if low == len(self.indexes) or self.indexes[low] >= (index + 1) << level:
            return empty(self.kind, level)
        if level == 0:
            return page_root(self.kind, self.pages[index])
        if (level, index) not in self.known:
            self.known[level, index] = H(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))
        return self.known[level, index]

    def body(self):
        if self.kind == IMAGE:
            fields = decode_rest(self.rest)
            code = b"".join(self.pages.get(i, b"").ljust(PAGE, b"\0") for i in range(self.count))
            return bytes([IMAGE]) + IMAGE_CAP.encode([code[:self.size]] + fields[1:])
        windows, arena, refs = {}, b"", b""
        for index in self.indexes:
            page = self.pages[index]
            if page not in windows:
                windows[page] = len(arena)
                arena += page
            refs += struct.pack("<III", index, windows[page], len(page))
        return struct.pack("<BQII", DATA, self.size, 16, 16 + len(refs)) + refs + arena


def cap_of_body(body):
    if body[0] == IMAGE:
        fields = IMAGE_CAP.decode(body[1:])
        code = fields[0]
        pages = {i // PAGE: code[i:i + PAGE] for i in range(0, len(code), PAGE)}
        return Cap(IMAGE, len(code), pages, IMAGE_CAP.encode([b""] + fields[1:]))
    size, pages_at, arena_at = struct.unpack_from("<QII", body, 1)
    refs, arena, pages = body[1 + pages_at:1 + arena_at], body[1 + arena_at:], {}
    for at in range(0, len(refs), 12):
        index, offset, length = struct.unpack_from("<III", refs, at)
        pages[index] = arena[offset:offset + length]
    return Cap(DATA, size, pages)


# --- SLICES.md section 2: encoding ------------------------------------------------------------------


def meets(ranges, first, end):
    return any(first < a + n and a < end for a, n in ranges)


def all_in(ranges, first, end):
    return all(meets(ranges, page, page + 1) for page in range(first, end))


def encode_node(cap, ranges, level, index, out):
    first, end = index << level, min((index + 1) << level, cap.count)
    if not meets(ranges, first, end) or cap.node(level, index) == empty(cap.kind, level):
        return
    if level == 0 or (level <= 4 and all_in(ranges, first, end)):
        for page in range(first, end):
            content = cap.pages.get(page, b"")
            out.append(struct.pack("<H", len(content)) + content)
        return
    out.append(cap.node(level - 1, 2 * index) + cap.node(level - 1, 2 * index + 1))
    encode_node(cap, ranges, level - 1, 2 * index, out)
    encode_node(cap, ranges, level - 1, 2 * index + 1, out)


def encode(cap, ranges):
    out = [struct.pack("<BQ", cap.kind, cap.size), cap.node(cap.depth, 0)]
    if cap.kind == IMAGE:
        out += [struct.pack("<I", len(cap.rest)), cap.rest]
    out.append(struct.pack("<I", len(ranges)))
    out += [struct.pack("<QQ", *pair) for pair in ranges]
    if cap.count:
        encode_node(cap, ranges, cap.depth, 0, out)
    return b"".join(out)


# --- SLICES.md section 2: what a receiver does --------------------------------------------------------


class Receiver:
    def __init__(self, slice_):
        self.slice, self.at = slice_, 0
        self.given = []  # what is proven, in order

    def take(self, length):
        piece = self.slice[self.at:self.at + length]
        if len(piece) < length:
            raise malformed()
        self.at += length
        return piece

    def head(self, wanted):
        self.kind = self.take(1)[0]
        if self.kind not in (IMAGE, DATA):
            raise malformed()
        self.size, self.root = struct.unpack("<Q32s", self.take(40))
        self.count = -(-self.size // PAGE)
        if self.kind == IMAGE:
            rest_len = struct.unpack("<I", self.take(4))[0]
            if self.size > MAX_CODE:
                raise malformed()
            if rest_len > MAX_STRUCTURE:
                raise Wrong("structure_too_large")
            try:
                roots = rest_roots(self.take(rest_len))
            except ValueError:
                raise malformed() from None
            self.depth = 20
            found = image_hash(mix_in(self.root, self.size), roots)
        else:
            if self.size == 0 or self.size % PAGE:
                raise malformed()
            self.depth = (self.count - 1).bit_length()
            found = mix_in(H(self.size.to_bytes(32, "little"), self.root), DATA)
        if wanted is not None and found != wanted:
            raise Wrong("slice_mismatch", self.depth + 1)
        if not self.count and self.root != empty(self.kind, self.depth):
            raise Wrong("slice_mismatch", self.depth)
        return found

    def take_ranges(self, asked):
        count = struct.unpack("<I", self.take(4))[0]
        if asked is None and 16 * count > MAX_STRUCTURE:
            raise Wrong("structure_too_large")
        if asked is not None and count != len(asked):
            raise malformed()
        self.ranges = []
        next_ = 0
        for i in range(count):
            first, pages = struct.unpack("<QQ", self.take(16))
            if asked is not None and (first, pages) != asked[i]:
                raise malformed()
            if pages == 0 or first < next_ or first + pages > self.count:
                raise malformed()
            next_ = first + pages + 1
            self.ranges.append((first, pages))

    def give_zeros(self, first, end):
        for a, n in self.ranges:
            low, high = max(a, first), min(a + n, end)
            if low >= high:
                continue
            last = self.given[-1] if self.given else None
            if last and last[0] == b"Z" and last[1] + last[2] == low:
                self.given[-1] = (b"Z", last[1], last[2] + high - low)
            else:
                self.given.append((b"Z", low, high - low))

    def group(self, level, index, wanted, first, end):
        pages = []
        for page in range(first, end):
            length = struct.unpack("<H", self.take(2))[0]
            if length > PAGE or page * PAGE + length > self.size:
                raise malformed()
            pages.append(self.take(length))
            if length and pages[-1][-1] == 0:
                raise malformed()
        roots = [page_root(self.kind, page) for page in pages]
        roots += [empty(self.kind, 0)] * ((1 << level) - len(roots))
        if merkleize(roots, level) != wanted:
            raise Wrong("slice_mismatch", level, index)
        self.given += [(b"P", first + i, page.ljust(PAGE, b"\0")) for i, page in enumerate(pages)]

    def node(self, level, index, wanted):
        first, end = index << level, min((index + 1) << level, self.count)
        if not meets(self.ranges, first, end):
            return
        if wanted == empty(self.kind, level):
            self.give_zeros(first, end)
        elif level == 0 or (level <= 4 and all_in(self.ranges, first, end)):
            self.group(level, index, wanted, first, end)
        else:
            left, right = struct.unpack("32s32s", self.take(64))
            if H(left, right) != wanted:
                raise Wrong("slice_mismatch", level, index)
            # Pages past the end count as empty.
            if (2 * index + 1) << (level - 1) >= self.count and right != empty(self.kind, level - 1):
                raise Wrong("slice_mismatch", level - 1, 2 * index + 1)
            self.node(level - 1, 2 * index, left)
            self.node(level - 1, 2 * index + 1, right)

    def verify(self, wanted, asked):
        self.head(wanted)
        self.take_ranges(asked)
        if self.count:
            self.node(self.depth, 0, self.root)
        if self.at != len(self.slice):
            raise malformed()


def verify(wanted, asked, slice_):
    """(code, level, index, given)"""
    receiver = Receiver(slice_)
    verdict = (0, 0, 0)
    try:
        receiver.verify(wanted, asked)
    except Wrong as wrong:
        verdict = (wrong.code, wrong.level, wrong.index)
    given = b"".join(kind + struct.pack("<Q", first) + (what if kind == b"P" else struct.pack("<Q", what))
                     for kind, first, what in receiver.given)
    return verdict + (given,)


def is_right(cap, ranges, given):
    """Whether what was proven are the cap's pages of the ranges, all of them and in order."""
    at, covered = 0, []
    while at < len(given):
        first, count = struct.unpack_from("<Q", given, at + 1)[0], 1
        if given[at:at + 1] == b"P":
            if given[at + 9:at + 9 + PAGE] != cap.pages.get(first, b"").ljust(PAGE, b"\0"):
                return False
            at += 9 + PAGE
        else:
            count = struct.unpack_from("<Q", given, at + 9)[0]
            if bisect.bisect_left(cap.indexes, first) != bisect.bisect_left(cap.indexes, first + count):
                return False
            at += 17
        if covered and covered[-1][0] + covered[-1][1] == first:
            covered[-1] = (covered[-1][0], covered[-1][1] + count)
        else:
            covered.append((first, count))
    return covered == ranges


def hash_of_head(slice_):
    """The cap that the head of a slice would be right for, or None."""
    try:
        return Receiver(slice_).head(None)
    except Wrong:
        return None


# --- The oracle -----------------------------------------------------------------------------------


def with_len(data):
    return struct.pack("<I", len(data)) + data


def packed(ranges):
    if ranges is None:
        return struct.pack("<I", ANY)
    return struct.pack("<I", len(ranges)) + b"".join(struct.pack("<QQ", *pair) for pair in ranges)


class Oracle:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request):
        self.process.stdin.write(request)
        self.process.stdin.flush()

    def take(self, layout):
        data = self.process.stdout.read(struct.calcsize(layout))
        if len(data) < struct.calcsize(layout):
            sys.exit("slices: the oracle stopped")
        return struct.unpack(layout, data)

    def take_bytes(self):
        length = self.take("<I")[0]
        return self.take(f"{length}s")[0]

    def bodies(self, upload):
        self.ask(b"w" + with_len(upload))
        code, count = self.take("<II")
        assert code == 0, code
        return [self.take_bytes() for _ in range(count)]

    def encode(self, body, ranges):
        self.ask(b"e" + with_len(body) + packed(ranges))
        code, cap_hash = self.take("<I32s")
        return code, cap_hash, self.take_bytes()

    def verify(self, cap_hash, ranges, slice_, piece):
        self.ask(b"v" + cap_hash + packed(ranges) + struct.pack("<I", piece) + with_len(slice_))
        return self.take("<IIQ") + (self.take_bytes(),)


# --- Comparing ------------------------------------------------------------------------------------


class Comparison:
    def __init__(self, oracle, seed):
        self.oracle, self.random = oracle, random.Random(seed)
        self.seen = {}

    def differs(self, what, **values):
        print(f"slices: {what} differs", file=sys.stderr)
        for name, value in values.items():
            text = value.hex() if isinstance(value, bytes) else repr(value)
            print(f"  {name}: {text[:20000]}", file=sys.stderr)
        sys.exit(1)

    def encoded(self, cap, body, ranges):
        """The slice of both; returns its cap's hash and the slice."""
        wanted = encode(cap, ranges)
        code, cap_hash, got = self.oracle.encode(body, ranges)
        if code != 0 or got != wanted:
            self.differs("the encoding", body=body, ranges=ranges, code=code, got=got, wanted=wanted)
        return cap_hash, wanted

    def verified(self, cap_hash, ranges, slice_):
        """The verdict of both."""
        wanted = verify(cap_hash, ranges, slice_)
        piece = self.random.choice((0, 1, 2, 63, 4096, self.random.randrange(1, 5000)))
        if piece and len(slice_) // piece > 20000:
            piece = 0
        got = self.oracle.verify(cap_hash, ranges, slice_, piece)
        if wanted[0] != ERRORS["slice_mismatch"]:
            got = got[:1] + wanted[1:3] + got[3:]
        if got != wanted:
            self.differs("the verdict", hash=cap_hash, ranges=ranges, slice=slice_, piece=piece,
                         got=got, wanted=wanted)
        self.seen[wanted[0]] = self.seen.get(wanted[0], 0) + 1
        return wanted

    def accepted(self, cap, cap_hash, ranges, slice_):
        for asked in (ranges, None):
            code, _, _, given = self.verified(cap_hash, asked, slice_)
            if code != 0 or not is_right(cap, ranges, given):
                self.differs("a good slice", hash=cap_hash, ranges=ranges, slice=slice_, code=code)

    # Random caps

    def page(self):
        r = self.random
        length = r.choice((PAGE, 1, 2, 31, 32, 33, r.randrange(1, PAGE + 1)))
        return bytes([r.randrange(1, 256)]) * length

    def key(self):
        return self.random.randbytes(self.random.choice((0, 1, 2, 33)))

    def rest(self):
        r = self.random
        u64 = lambda: r.randbytes(8)
        slots = lambda: sorted({self.key(): r.randbytes(32) for _ in range(r.randrange(4))}.items())
        endpoints = []
        for key in sorted({self.key() for _ in range(r.randrange(4))}):
            registers = r.randbytes(104)
            endpoints.append([key, [u64(), registers[8:16], b"\0", r.randbytes(1), registers]])
        mappings = [[u64(), u64(), [self.key() for _ in range(r.randrange(1, 9))]] for _ in range(r.randrange(3))]
        keys = lambda: [self.key() for _ in range(r.randrange(3))]
        return IMAGE_CAP.encode([b"", endpoints, mappings, slots(), slots(), r.choice((None, self.key())),
                                 keys(), keys()])

    def cap(self):
        r = self.random
        runs = lambda limit, most: [(r.randrange(limit), r.randrange(1, most)) for _ in range(r.randrange(5))]
        if r.random() < 0.4:
            size = r.choice((0, 1, PAGE, PAGE + 1, r.randrange(1, 40 * PAGE), r.randrange(1, 40 * PAGE)))
            if r.random() < 0.04:
                size = r.randrange(257 * PAGE, 300 * PAGE)
            count = -(-size // PAGE)
            same = [self.page() for _ in range(8)]
            pages = {i: r.choice(same) for i in range(count)}
            for first, length in runs(count + 1, 20):
                for i in range(first, min(first + length, count)):
                    pages.pop(i, None)
            if count and count - 1 in pages:
                pages[count - 1] = pages[count - 1][:size - (count - 1) * PAGE]
            return Cap(IMAGE, size, pages, self.rest())
        count = r.choice((1, 2, 3, 15, 16, 17, 33, r.randrange(1, 200), 1 << r.randrange(52),
                          r.randrange(1, 1 << r.randrange(1, 53)), (1 << 52) - 1))
        limit = min(count, 1 << 32)
        pages = {}
        for first, length in runs(limit, 20):
            for i in range(first, min(first + length, limit)):
                pages[i] = self.page()
        if r.random() < 0.04:
            for _ in range(300):  # so many that nodes are kept
                pages[r.randrange(min(limit, r.choice((1 << 10, 1 << 20, 1 << 32))))] = b"\1"
        return Cap(DATA, count * PAGE, pages)

    def ranges(self, cap):
        r = self.random
        wanted = []
        for _ in range(r.choice((0, 1, 1, 2, 5))):
            if cap.count:
                near = r.choice(cap.indexes) if cap.indexes and r.random() < 0.7 else r.randrange(cap.count)
                first = max(0, near - r.randrange(20))
                wanted.append((first, min(r.choice((1, 2, 16, 17, 64, cap.count)), cap.count - first)))
        merged = []
        for first, pages in sorted(wanted):
            if merged and first <= merged[-1][0] + merged[-1][1]:
                last = merged.pop()
                merged.append((last[0], max(last[0] + last[1], first + pages) - last[0]))
            else:
                merged.append((first, pages))
        return merged

    # Damage

    def damaged(self, slice_):
        r = self.random
        data = bytearray(slice_)
        at = r.randrange(len(data))
        if r.random() < 0.4:
            at = min(at, r.randrange(130))
        how = r.randrange(8)
        if how == 0:
            data[at] ^= 1 << r.randrange(8)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data += r.randbytes(r.randrange(1, 70))
        elif how == 3:
            del data[at:at + r.choice((1, 2, 16, 32, 64))]
        elif how == 4:
            data[at:at] = r.choice((b"\0", b"\1\0", bytes(32), r.randbytes(64)))
        elif how == 5:
            data[at] = r.choice((0, 1, 2, 255, (data[at] + 1) & 255))
        elif how == 6:
            other = r.randrange(len(data))
            data[at:at + 32], data[other:other + 32] = data[other:other + 32], data[at:at + 32]
        else:
            size = struct.unpack_from("<Q", data, 1)[0]
            size = r.choice((0, size + PAGE, size - PAGE, size + 1, size - 1, size // 2, r.randrange(1 << 64)))
            struct.pack_into("<Q", data, 1, size % (1 << 64))
        return bytes(data)

    def compare_cap(self, cap, body, rounds):
        r = self.random
        for _ in range(rounds):
            ranges = self.ranges(cap)
            cap_hash, slice_ = self.encoded(cap, body, ranges)
            self.accepted(cap, cap_hash, ranges, slice_)
            for _ in range(12):
                bad = self.damaged(slice_)
                if r.random() < 0.1:
                    bad = self.damaged(bad) if len(bad) >= 41 else bad
                wanted = cap_hash
                if r.random() < 0.4:
                    wanted = hash_of_head(bad) or cap_hash
                self.verified(wanted, r.choice((ranges, None)), bad)
            self.verified(cap_hash, self.ranges(cap), slice_)
        for ranges, name in (([(0, cap.count + 1)], "range_out_of_body"), ([(0, 0)], "invalid_argument")):
            code, _, _ = self.oracle.encode(body, ranges)
            if code != ERRORS[name]:
                self.differs("a refusal", body=body, ranges=ranges, code=code)

    def compare_forged(self):
        """Slices whose hashes are right, of what is not a cap."""
        some = {i: b"\1\2" for i in range(64)}
        for kind, size, claimed in ((DATA, 64 * PAGE, 34 * PAGE), (DATA, 64 * PAGE, PAGE), (DATA, PAGE, 0),
                                    (DATA, 2 * PAGE, PAGE + 1), (IMAGE, 64 * PAGE, 34 * PAGE),
                                    (IMAGE, PAGE + 2, PAGE + 1), (IMAGE, PAGE, 0), (IMAGE, PAGE, MAX_CODE + 1),
                                    (IMAGE, PAGE + 2, PAGE + 3)):
            cap = Cap(kind, size, {i: page for i, page in some.items() if i * PAGE < size},
                      self.rest() if kind == IMAGE else b"")
            claimed_count = -(-claimed // PAGE)
            for first in range(claimed_count if claimed_count <= cap.count else 0):
                bad = bytearray(encode(cap, [(first, 1)]))
                struct.pack_into("<Q", bad, 1, claimed)
                self.verified(hash_of_head(bytes(bad)) or bytes(32), None, bytes(bad))
            bad = bytearray(encode(cap, []))
            struct.pack_into("<Q", bad, 1, claimed)
            self.verified(hash_of_head(bytes(bad)) or bytes(32), None, bytes(bad))

    def compare_vectors(self, directory):
        entries = json.loads((directory / "slices.json").read_text())
        bodies = {}
        for vector in sorted({entry["vector"] for entry in entries}):
            for body in self.oracle.bodies((directory / f"{vector}.ssz").read_bytes()):
                bodies[hash_of_head(encode(cap_of_body(body), []))] = body
        for entry in entries:
            body = bodies[bytes.fromhex(entry["cap_hash"])]
            ranges = [tuple(pair) for pair in entry["ranges"]]
            cap = cap_of_body(body)
            cap_hash, slice_ = self.encoded(cap, body, ranges)
            if (cap_hash.hex(), len(slice_), hashlib.sha256(slice_).hexdigest()) != (
                    entry["cap_hash"], entry["len"], entry["sha256"]):
                self.differs("a vector", vector=entry["vector"].encode(), slice=slice_)
            self.accepted(cap, cap_hash, ranges, slice_)
            self.compare_cap(cap, body, 1)
        return len(entries)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("oracle")
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(1 << 31))
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    print(f"slices: {arguments.count} caps, seed {arguments.seed}", flush=True)
    comparison = Comparison(Oracle(arguments.oracle), arguments.seed)
    comparison.compare_forged()
    if arguments.vectors:
        print(f"  {comparison.compare_vectors(arguments.vectors)} vectors")
    for _ in range(arguments.count):
        cap = comparison.cap()
        comparison.compare_cap(cap, cap.body(), 3)
    verdicts = {"ok": 0} | {name: ERRORS[name] for name in
                            ("slice_mismatch", "slice_malformed", "structure_too_large")}
    for name, code in verdicts.items():
        print(f"  {name}: {comparison.seen.get(code, 0)}")
    missing = [name for name, code in verdicts.items() if code not in comparison.seen]
    if missing and arguments.count >= 100:
        sys.exit(f"never seen: {', '.join(missing)}")


if __name__ == "__main__":
    main()
