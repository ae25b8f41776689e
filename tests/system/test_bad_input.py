"""The shapes that break SSZ decoders, as uploads: the daemon and `capctl check` agree on each, and the daemon lives.

Each method takes one shape and applies it at every depth of some Images where it fits.
"""

import itertools
import random
import struct
import unittest

import shapes
from harness import LONG, PAGE, VECTORS, SystemTest, capctl, content
from protocol import Refused
from shapes import (Bytes, Container, Items, List, Union, data_desc, encode, endpoint, image, keyed, mapping, marks_of,
                    overwrite, paths_of, pinned_data, pinned_image, read)

U32, U64 = 2**32 - 1, 2**64 - 1
CODE_MAX = 0x10000000 - 0x00400000
ARENA = content("arena", 9000)
ABSENT = bytes(range(32))


def rich(**changes):
    """An Image with something in every field."""
    parts = {
        "code": (100, 500), "arena": ARENA, "receiver": b"\x09\x01", "gas": [b"\x03", b"", b"\x03\x04"], "quota": [b"\x05"],
        "endpoints": [keyed(b"", endpoint(1)), keyed(b"\x01", endpoint(2, [(0, 5), (1, 7), (12, U64)])),
                      keyed(b"\x01\x02", endpoint(U64, [(3, 0)]))],
        "mappings": [mapping(0x10000000, PAGE, [b"\x0b"]), mapping(0x20000000, 0, [b"", b"\x01", b"\x02\x03"])],
        "pinned": [keyed(b"\x0b", pinned_data(data_desc(2 * PAGE, [(0, 0, PAGE), (1, 5, 77)]))),
                   keyed(b"\x0c", pinned_data(data_desc(0, [])))],
        "initial": [keyed(b"", data_desc(PAGE, [(0, 1, 1)])), keyed(b"\x41", data_desc(4 * PAGE, [(1, 9, 9), (3, 9, 9)]))],
    }
    return image(**{**parts, **changes})


def small():
    return image(code=(0, 4), arena=b"code", initial=[keyed(b"a", data_desc(PAGE, [(0, 0, 4)]))])


BASES = {"rich": rich(), "small": small(), "empty": image()}


class Differential(SystemTest):
    """Uploads over one connection, each compared with the tool's verdict."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.c = self.connect(self.d)
        self.verdicts = {}

    def tearDown(self):
        """The same connection and the same daemon, after all that."""
        self.assertUsable(self.c)
        self.assertEqual(self.d.admin("status")["requests_in_flight"], 0)

    def tool(self, data):
        """What `capctl check` says: an error's name, or the hashes."""
        result = capctl("check", "-", stdin=data)
        said = result.json
        if said["verdict"] == "refused":
            self.assertEqual(result.status, 1)
            return said["error"], None
        self.assertEqual(result.status, 0)
        return "accepted", said

    def agree(self, data, label=None):
        """Both verdicts are the same; returns it."""
        error, said = self.tool(data)
        try:
            reply = self.c.put_image(data, piece=random.Random(len(data)).choice([7, 1000, 60000]))
        except Refused as refused:
            if error == "accepted" and refused.name == "unresolved_slot":
                self.assertEqual([u["cap_hash"].hex() for u in refused.unresolved()],
                                 [i["cap_hash"] for i in said["images"]], label)
            else:
                self.assertEqual(refused.name, error, label)
        else:
            self.assertEqual(error, "accepted", label)
            self.assertEqual((reply["cap_hash"].hex(), reply["content_hash"].hex(), reply["body_len"]),
                             (said["cap_hash"], said["image_content_hash"], said["body_len"]), label)
        self.verdicts[error] = self.verdicts.get(error, 0) + 1
        return error

    def refused(self, data, error="ssz", label=None):
        self.assertEqual(self.agree(data, label), error, label)


class Shapes(Differential):
    def every(self, kind):
        """(label, encoding, mark, its number) for each mark of a kind in the bases."""
        for name, base in BASES.items():
            data = encode(base)
            for mark in marks_of(base):
                if mark.kind == kind:
                    yield f"{name} {mark}", data, mark, read(data, mark)

    def test_the_bases_are_sound(self):
        for name, base in BASES.items():
            self.assertEqual(self.agree(encode(base), name), "accepted")
        caps = self.d.admin("status")["caps"]
        self.assertEqual(caps["image"], 3)

    def test_01_first_offsets_of_containers(self):
        for label, data, mark, value in self.every("offset"):
            if mark.of == "container" and mark.index == 0:
                for wrong in (value - 1, value + 1, value - 4, value + 4, 0, 1, 2**31, U32):
                    self.refused(overwrite(data, mark, wrong), label=label)

    def test_02_first_offsets_of_lists(self):
        for label, data, mark, value in self.every("offset"):
            if mark.of == "list" and mark.index == 0:
                for wrong in (0, 1, 2, 3, value - 1, value + 1, value + 2):
                    self.refused(overwrite(data, mark, wrong), label=label)
                for wrong in (value + 4, value - 4):  # another count: now and then that is a list too
                    self.agree(overwrite(data, mark, wrong), label)
        # A list whose bytes are not a table.
        for length in (1, 2, 3):
            for field in range(2, 9):
                if field != 6:  # the receiver is a union
                    self.refused(encode(BASES["empty"], tails={(field,): bytes(length)}))

    def test_03_huge_first_offsets(self):
        for label, data, mark, _ in self.every("offset"):
            if mark.of == "list" and mark.index == 0:
                for wrong in (2**31, 2**30, U32 - 3, U32 - 7, 1 << 20, 1 << 24):
                    self.refused(overwrite(data, mark, wrong), label=label)

    def test_04_offsets_at_the_end_and_past_it(self):
        for label, data, mark, value in self.every("offset"):
            length = mark.end - mark.start
            for wrong in (length + 1, length + 4, U32, len(data) + 1):
                self.refused(overwrite(data, mark, wrong), label=label)
            if value != length:
                self.agree(overwrite(data, mark, length), label)
        self.assertGreater(self.verdicts["ssz"], 50)

    def test_05_offsets_that_decrease_or_overlap(self):
        for label, data, mark, value in self.every("offset"):
            if mark.index == 0:
                first = value
                continue
            for wrong in (0, first - 1, first - 4):
                self.refused(overwrite(data, mark, wrong), label=label)
            for wrong in (first, value - 1, value + 1):
                self.agree(overwrite(data, mark, wrong), label)
        # Each list's elements all begin where the first one does: a small file that would be a huge tree.
        for name in ("endpoints", "mappings", "initial", "gas"):
            count = 5000
            field = shapes.FIELDS.index(name)
            body = struct.pack("<I", 4 * count) * count + encode(BASES["rich"].fields[2 + field].elements[0])
            fields = list(image().fields)
            fields[2 + field] = Bytes(body)
            self.agree(encode(Container(fields)), name)

    def test_06_a_gap_before_the_first_payload(self):
        for name, base in BASES.items():
            for path, node in paths_of(base):
                has_offsets = isinstance(node, (Container, List)) and any(
                    m.path == path and m.kind == "offset" for m in marks_of(base))
                for length in (1, 3, 4, 8) if has_offsets else ():
                    data = encode(base, gaps={path: bytes(length)})
                    self.assertEqual(len(data), len(encode(base)) + length)
                    self.refused(data, label=f"{name} {path}")

    def test_07_trailing_bytes(self):
        for path, node in paths_of(BASES["rich"]):
            if isinstance(node, (bytes, shapes.U)):
                continue  # of fixed size: a tail would shift its neighbours
            for tail in (b"\0", b"\1", b"\0" * 4, b"\xff" * 12):
                self.agree(encode(BASES["rich"], tails={path: tail}), f"{path} {tail}")
        self.assertGreater(self.verdicts["ssz"], 40)

    def test_08_truncation(self):
        data = encode(BASES["rich"])
        head = len(data) - len(ARENA)
        for length in (*range(0, 60), *range(60, head, 1 if LONG else 5)):
            self.refused(data[:length], label=length)
        for length in (head, head + 1, len(data) - 1):
            self.assertNotIn(self.agree(data[:length], length), ("ssz",))
        for path, node in paths_of(BASES["rich"]):
            if not isinstance(node, (bytes, shapes.U)):
                for cut in (lambda n: n - 1, lambda n: n // 2, lambda n: 1, lambda n: 0):
                    self.agree(encode(BASES["rich"], cuts={path: lambda n, cut=cut: max(0, cut(n))}), path)
        self.assertGreater(self.verdicts["ssz"], 100)

    def test_09_spans_that_are_no_multiple(self):
        for name, base in BASES.items():
            for path, node in paths_of(base):
                if isinstance(node, Items):
                    for length in range(1, node.width):
                        self.refused(encode(base, tails={path: bytes(length)}), label=f"{name} {path}")
                    if node.elements:
                        self.refused(encode(base, cuts={path: lambda n: n - 1}), label=f"{name} {path}")

    def test_10_one_over_a_limit(self):
        def initial(*pages, size=PAGE):
            return encode(image(arena=ARENA, initial=[keyed(b"a", data_desc(size, pages))]))

        def code(off, length, arena=ARENA):
            return encode(image(code=(off, length), arena=arena))

        path = [b"a"] * 8
        slot = [keyed(b"a", data_desc(PAGE, []))]
        for data, error in (
                (encode(image(mappings=[mapping(0, PAGE, path)], initial=slot)), "accepted"),
                (encode(image(mappings=[mapping(0, PAGE, path + [b"a"])], initial=slot)), "source_path_too_deep"),
                (encode(image(mappings=[mapping(0, PAGE, [])], initial=slot)), "source_path_empty"),
                (encode(image(endpoints=[keyed(b"", endpoint(0, [(12, 1)]))])), "accepted"),
                (encode(image(endpoints=[keyed(b"", endpoint(0, [(13, 1)]))])), "register_index_out_of_range"),
                (encode(image(endpoints=[keyed(b"", endpoint(0, [(255, 1)]))])), "register_index_out_of_range"),
                (initial((0, 0, PAGE)), "accepted"), (initial((0, 0, PAGE + 1)), "data_bad_len"),
                (initial((0, 0, 0)), "data_bad_len"), (initial((1, 0, 1)), "data_page_index_out_of_range"),
                (initial((0, len(ARENA) - 1, 1)), "accepted"), (initial((0, len(ARENA), 1)), "data_out_of_range"),
                (initial(size=PAGE + 1), "data_size_not_page_multiple"), (initial(size=0), "accepted"),
                (initial((0, 0, 1), size=0), "data_page_index_out_of_range"),
                (initial((0, 0, 1), (0, 0, 1)), "data_not_canonical"),
                (initial((1, 0, 1), (0, 0, 1), size=2 * PAGE), "data_not_canonical"),
                (code(len(ARENA), 0), "accepted"), (code(len(ARENA) + 1, 0), "code_ref_out_of_range"),
                (code(0, len(ARENA)), "accepted"), (code(1, len(ARENA)), "code_ref_out_of_range"),
                (code(0, CODE_MAX), "code_ref_out_of_range"), (code(0, CODE_MAX + 1), "code_too_large")):
            self.refused(data, error)

    def test_11_unions(self):
        for label, data, mark, value in self.every("selector"):
            for wrong in (2, 127, 128, 255):
                self.refused(overwrite(data, mark, wrong), label=label)
            self.agree(overwrite(data, mark, 1 - value), label)  # the other arm's data
        for name, base in BASES.items():
            for path, node in paths_of(base):
                if isinstance(node, Union):
                    self.refused(encode(base, cuts={path: lambda n: 0}), label=f"{name} {path} empty")
                    self.agree(encode(base, cuts={path: lambda n: 1}), f"{name} {path} selector only")
                    if node.value is None:
                        for tail in (b"\0", b"\0\0\0\0"):
                            self.refused(encode(base, tails={path: tail}), label="bytes after None")
        for length in (0, 31, 33):
            self.refused(encode(rich(pinned=[keyed(b"a", pinned_image(bytes(length)))])), label="a hash of another length")

    def test_12_deep_and_many(self):
        deep = [b"k" * 200] * 8
        many = [mapping(i * PAGE, PAGE, [b""] * 8) for i in range(3000)]
        for data in (encode(image(mappings=[mapping(0, PAGE, deep)] * 300)), encode(image(mappings=many)),
                     encode(image(gas=[b""] * 100000)), encode(image(quota=[b"q"] * 50000)),
                     encode(image(endpoints=[keyed(struct.pack(">H", i), endpoint(0, [(r, r) for r in range(13)]))
                                             for i in range(3000)]))):
            self.refused(data, "accepted")
        self.refused(encode(image(mappings=[mapping(0, PAGE, [b""] * 5000)])), "source_path_too_deep")
        slots = [keyed(struct.pack(">H", i), data_desc(PAGE, [])) for i in range(3000)]
        self.refused(encode(image(initial=slots)), "accepted")

    def test_13_sums_that_wrap(self):
        for off, length in itertools.product((0, 1, 2**31, U32 - 1, U32), repeat=2):
            self.agree(encode(image(code=(off, length), arena=b"arena")), ("code", off, length))
            page = (0, off, length)
            self.agree(encode(image(arena=b"arena", initial=[keyed(b"a", data_desc(PAGE, [page]))])), page)
            page = (0, off, min(length, PAGE))
            self.agree(encode(image(arena=b"arena", pinned=[keyed(b"a", pinned_data(data_desc(PAGE, [page])))])), page)
        self.assertGreaterEqual(self.verdicts["code_ref_out_of_range"], 5)
        self.assertGreaterEqual(self.verdicts["data_out_of_range"], 5)

    def test_15_right_encoding_wrong_hash(self):
        data = encode(rich(pinned=[keyed(b"\x07", pinned_image(ABSENT)), keyed(b"\x08", pinned_image(bytes(32)))]))
        refused = self.assertRefuses("unresolved_slot", self.c.put_image, data)
        self.assertEqual([(u["slot"], u["kind"], u["cap_hash"]) for u in refused.unresolved()],
                         [(b"\x07", 1, ABSENT), (b"\x08", 1, bytes(32))])
        # A Data cap's hash where an Image's is expected.
        data_hash = self.c.put_data(b"data")["cap_hash"]
        self.assertRefuses("unresolved_slot", self.c.put_image,
                           encode(image(pinned=[keyed(b"\x07", pinned_image(data_hash))])))

    def test_16_zero_bombs(self):
        """Sizes near 2^64: time and memory follow what is present."""
        for size in (2**63, 2**64 - PAGE, 2**44, 2**44 + PAGE):
            for pages in ([], [(0, 0, 1)], [(min(U32, size // PAGE - 1), 0, 9)], [(0, 0, 9), (U32 - 1, 3, 9), (U32, 0, PAGE)]):
                self.agree(encode(image(arena=ARENA, initial=[keyed(b"a", data_desc(size, pages))])), (size, pages))
                self.agree(encode(image(arena=ARENA, pinned=[keyed(b"a", pinned_data(data_desc(size, pages)))])), (size, pages))
        self.assertGreater(self.verdicts["accepted"], 20)
        many = [keyed(struct.pack(">H", i), data_desc(2**64 - PAGE, [])) for i in range(2000)]
        self.refused(encode(image(initial=many)), "accepted")
        self.assertRefuses("invalid_argument", self.c.put_data, b"", size=2**64 - 1)
        self.assertEqual(self.c.put_data(b"", size=2**64 - PAGE)["size"], 2**64 - PAGE)

    def test_17_map_keys(self):
        def maps(keys):
            yield "endpoints", [keyed(key, endpoint(1)) for key in keys]
            yield "pinned", [keyed(key, pinned_data(data_desc(PAGE, []))) for key in keys]
            yield "initial", [keyed(key, data_desc(PAGE, [])) for key in keys]

        good = ([b""], [b"", b"\0"], [b"\0", b"\0\0"], [b"a", b"a\0", b"b"], [b"\x7f", b"\x80", b"\xff", b"\xff\0"],
                [b"\0" * 300, b"\0" * 301])
        bad = ([b"", b""], [b"\0", b""], [b"b", b"a"], [b"a\0", b"a"], [b"a", b"a"], [b"a", b"b", b"a"], [b"\x80", b"\x7f"],
               [b"a", b"b", b"b"], [b"\xff\xff", b"\xff"])
        for keys, error in [(keys, "accepted") for keys in good] + [(keys, "ssz") for keys in bad]:
            for name, entries in maps(keys):
                self.refused(encode(image(**{name: entries})), error, (name, keys))
        for registers, error in (([0, 1, 2], "accepted"), ([0, 0], "ssz"), ([1, 0], "ssz"), ([255, 254], "ssz")):
            node = endpoint(0, [(r, 1) for r in registers])
            self.refused(encode(image(endpoints=[keyed(b"", node)])), error, registers)
        # One key in both tables is none of the store's business.
        both = image(pinned=[keyed(b"k", pinned_data(data_desc(PAGE, [])))], initial=[keyed(b"k", data_desc(PAGE, []))])
        self.refused(encode(both), "accepted")

    def test_18_every_integer_at_its_edges(self):
        for label, data, mark, value in self.every("integer"):
            for number in {0, 1, value - 1, value + 1, 12, 13, PAGE - 1, PAGE, PAGE + 1, CODE_MAX, CODE_MAX + 1,
                           1 << 8 * mark.width - 1, (1 << 8 * mark.width) - 1}:
                self.agree(overwrite(data, mark, number), f"{label} {number}")
        self.assertGreater(self.verdicts["accepted"], 50)
        self.assertGreater(sum(self.verdicts.values()) - self.verdicts["accepted"], 50)


class Mutations(Differential):
    """No plan, a seed: what the daemon says over one connection is what the tool says."""

    def mutate(self, rng, data, others):
        data = bytearray(data)
        head = max(1, min(len(data), 600))
        for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
            at = rng.randrange(head)
            what = rng.randrange(7)
            if what == 0:
                data[at:at + 1] = bytes([rng.choice([0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)])])
            elif what == 1 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif what == 2:
                del data[at:at + rng.choice([1, 4, 8, 12])]
            elif what == 3:
                data[at:at] = rng.randbytes(rng.choice([1, 4, 12]))
            elif what == 4:
                number = (int.from_bytes(data[at:at + 4], "little") + rng.choice([-4, -1, 1, 4, 12])) % 2**32
                data[at:at + 4] = number.to_bytes(4, "little")
            elif what == 5:
                other = rng.choice(others)
                start = rng.randrange(max(1, min(len(other), 600)))
                data[at:at + 40] = other[start:start + 40]
            else:
                data[at:] = data[at:] if rng.random() < 0.5 else data[at:-rng.randrange(1, 40)]
        return bytes(data)

    def test_mutations(self):
        seed = random.randrange(2**32) if LONG else 1
        print(f"seed {seed}")
        rng = random.Random(seed)
        vectors = [path.read_bytes() for path in sorted(VECTORS.glob("*.ssz")) if path.stat().st_size < 20000]
        sources = [encode(base) for base in BASES.values()] + vectors
        self.assertGreater(len(sources), 50)
        for number in range(5000 if LONG else 500):
            data = self.mutate(rng, rng.choice(sources), sources)
            self.agree(data, f"seed {seed}, number {number}: {data[:2000].hex()}")
        self.assertGreater(self.verdicts["accepted"], 20)
        self.assertGreater(self.verdicts["ssz"], 100)
        self.assertGreater(len(self.verdicts), 5, "many kinds of verdict")


class Bodies(SystemTest):
    """PUT_DATA with a canonical body: everything but the one canonical form is refused."""

    def body(self, size=2 * PAGE, pages=((0, 0, 5), (1, 5, 3)), arena=b"helloabc"):
        return b"\x02" + encode(Container([shapes.U(8, size), Items(12, [struct.pack("<III", *p) for p in pages]),
                                           Bytes(arena)]))

    def test_what_is_not_canonical(self):
        d = self.daemon()
        c = self.connect(d)
        good = self.body()
        self.assertEqual(c.get(c.put_data(good, canonical=True)["cap_hash"])[1], good)
        shared = self.body(pages=((0, 0, 5), (1, 0, 5)), arena=b"hello")
        c.put_data(shared, canonical=True)
        c.put_data(self.body(pages=(), arena=b""), canonical=True)
        bad = {
            "empty": b"", "selector only": b"\x02", "an Image": b"\x01" + good[1:], "an unknown kind": b"\x03" + good[1:],
            "cut": good[:-1], "cut in the table": good[:20], "a tail": good + b"\0",
            "size 0": self.body(size=0, pages=(), arena=b""), "size": self.body(size=2 * PAGE + 1),
            "descending": self.body(pages=((1, 0, 5), (0, 5, 3))), "twice": self.body(pages=((0, 0, 5), (0, 5, 3))),
            "past the end": self.body(pages=((0, 0, 5), (2, 5, 3))), "an empty window": self.body(pages=((0, 0, 5), (1, 5, 0))),
            "not in order of use": self.body(pages=((0, 3, 5), (1, 0, 3)), arena=b"abchello"),
            "overlapping": self.body(pages=((0, 0, 5), (1, 4, 4)), arena=b"helloabc"[:8]),
            "outside": self.body(pages=((0, 0, 5), (1, 5, 4))), "unused": self.body(arena=b"helloabcd"),
            "wrapping": self.body(pages=((0, 0, 5), (1, U32, 3))), "too long": self.body(
                pages=((0, 0, PAGE + 1),), arena=b"x" * (PAGE + 1)),
            "not trimmed": self.body(arena=b"helloab\0"), "a zero page": self.body(arena=b"hello\0\0\0"),
            "not shared": self.body(pages=((0, 0, 5), (1, 5, 5)), arena=b"hellohello"),
        }
        for mark in shapes.marks_of(Container([shapes.U(8, 2 * PAGE), Items(12, []), Bytes(b"")])):
            for wrong in (0, 15, 17, 2**31, U32) if mark.kind == "offset" else ():
                bad[f"offset {mark.index} {wrong}"] = good[:1] + overwrite(good[1:], mark, wrong)
        for name, body in bad.items():
            with self.subTest(name):
                self.assertRefuses("body_not_canonical", c.put_data, body, canonical=True)
        self.assertEqual(d.admin("status")["caps"]["data"], 3)
        for size in range(0, len(good)):
            self.assertRefuses("body_not_canonical", c.put_data, good[:size], canonical=True)


if __name__ == "__main__":
    unittest.main()
