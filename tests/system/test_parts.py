"""Parts of caps over real sockets: slices, fetches that go on, programs that run from lazily fetched pages."""

import fcntl
import os
import resource
import struct
import subprocess
import unittest

import wire
from harness import CAPCTL, PAGE, SystemTest, capctl, content
from relay import Liar

EXAMPLES = os.environ.get("CAPSTORE_EXAMPLES", "build/client")
NONE = "00" * 32


class Parts(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()

    def liar(self):
        liar = Liar(self.root / "liar.sock", self.d)
        self.addCleanup(liar.close)
        return liar

    def put(self, data, name="raw"):
        return self.ok(self.d.capctl("put", self.file(name, data)))["cap_hash"]

    def tool(self, address, *arguments, **options):
        return capctl("-s", address, *arguments, **options)


class Resume(Parts):
    """capctl get --resume."""

    def setUp(self):
        super().setUp()
        self.raw = content("resume", 3_000_000)
        self.hash = self.put(self.raw)
        self.target = self.root / "out"
        self.part = self.root / "out.part"
        self.body = self.d.capctl("get", self.hash, json_output=False).stdout

    def get(self, address=None, cap_hash=None):
        return self.tool(address or self.d.address, "get", "--resume", cap_hash or self.hash, "-o", self.target)

    def test_whole(self):
        done = self.ok(self.get())
        self.assertEqual((done["body_len"], done["resumed_at"], done["kind"]), (len(self.body), 0, "data"))
        self.assertEqual(self.target.read_bytes(), self.body)
        self.assertFalse(self.part.exists())

    def test_goes_on(self):
        """A connection that is cut again and again: each run adds, none fetches what is there."""
        liar = self.liar()
        liar.cuts = [400_000, 900_000]
        last = 0
        for _ in range(2):
            result = self.assertStatus(self.get(liar.address), 3)
            self.assertIn("goes on", result.stderr)
            self.assertGreater(self.part.stat().st_size, last)
            last = self.part.stat().st_size
            self.assertFalse(self.target.exists())
        done = self.ok(self.get(liar.address))
        self.assertEqual(done["resumed_at"], last)
        self.assertEqual(self.target.read_bytes(), self.body)
        self.assertLess(sum(liar.down), len(self.body) + 10_000)
        self.assertFalse(self.part.exists())

    def test_changed(self):
        """What is there is of another cap, or was changed, or is too long, or complete."""
        for wrong in (b"x" * 1000, self.body[:5000] + b"?" + self.body[5001:9000], self.body + b"more",
                      bytes([self.body[0] ^ 1]) + self.body[1:]):
            self.part.write_bytes(wrong)
            done = self.ok(self.get())
            self.assertEqual(done["resumed_at"], 0)
            self.assertEqual(self.target.read_bytes(), self.body)
        self.part.write_bytes(self.body)
        self.assertEqual(self.ok(self.get())["resumed_at"], len(self.body))
        self.assertEqual(self.target.read_bytes(), self.body)

    def test_lie(self):
        """A daemon that lies: nothing gets the name."""
        liar = self.liar()
        liar.flip = 2_000_000
        self.assertEqual(self.refused(self.get(liar.address), "hash_mismatch")["error"], "hash_mismatch")
        self.assertFalse(self.target.exists())
        self.assertFalse(self.part.exists())

    def test_claim(self):
        """A daemon that claims more than there can be, or sends more than it claims, does not fill the disk."""
        liar = self.liar()
        liar.claim = 1 << 50
        self.refused(self.get(liar.address), "body_too_large")
        self.assertEqual(sum(liar.down), 0)
        liar.claim = 2_000_000
        self.assertEqual(self.assertStatus(self.get(liar.address), 3).json["error"], "bad_reply")
        self.assertLessEqual(self.part.stat().st_size, 2_000_000)

    def test_other_names(self):
        """What lies where the part belongs is another file too, or somebody else's: it stays as it is."""
        other = self.file("other", b"precious")
        os.link(other, self.part)
        self.assertIn("remove it", self.assertStatus(self.get(), 3).stderr)
        self.assertEqual(other.read_bytes(), b"precious")
        other.unlink()
        if os.geteuid() == 0:
            os.chown(self.part, 1, 1)
            self.assertIn("remove it", self.assertStatus(self.get(), 3).stderr)
            self.assertEqual(self.part.read_bytes(), b"precious")
            os.chown(self.part, 0, 0)
        self.assertEqual(self.ok(self.get())["resumed_at"], 0)

    def test_refusals(self):
        self.refused(self.get(cap_hash=NONE), "not_found")
        for words in (("-o", "-"), (), ("-o", self.target, "--content"), ("-d", self.root / "dir")):
            self.assertStatus(self.d.capctl("get", "--resume", self.hash, *words), 2)
        self.part.unlink(missing_ok=True)
        self.part.mkdir()
        self.assertStatus(self.get(), 3)

    def test_two_at_once(self):
        with open(self.part, "ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.assertIn("another run", self.assertStatus(self.get(), 3).stderr)


class Slices(Parts):
    """capctl slice."""

    def setUp(self):
        super().setUp()
        self.raw = content("slice", 40 * PAGE) + bytes(200 * PAGE) + content("end", 30 * PAGE)
        self.hash = self.put(self.raw)
        self.target = self.root / "slice"

    def slice(self, *arguments, address=None, cap_hash=None):
        return self.tool(address or self.d.address, "slice", cap_hash or self.hash, "-o", self.target, *arguments)

    def check(self, *arguments, cap_hash=None, path=None, **options):
        return self.tool("unix:/nowhere", "slice", "--verify", path or self.target, cap_hash or self.hash, *arguments,
                         **options)

    def test_round(self):
        for pages, count, zeros in (("0-15,100", 17, 1), ("3", 1, 0), ("0-269", 270, 200), ("5,5,4,6-9,0x20", 7, 0)):
            made = self.ok(self.slice("--pages", pages))
            self.assertEqual((made["kind"], made["size"], made["page_count"]), ("data", len(self.raw), 270))
            self.assertEqual((made["pages"], made["zero_pages"]), (count, zeros), pages)
            self.assertEqual(made["slice_len"], self.target.stat().st_size)
            self.assertEqual(self.ok(self.check()), made)
            self.assertEqual(self.ok(self.check("--pages", pages)), made)
            self.assertEqual(self.ok(self.check(path="-", stdin=self.target.read_bytes())), made)
            self.refused(self.check("--pages", "7-8"), "slice_malformed")
        piped = self.d.capctl("slice", self.hash, "--pages", "3", json_output=False)
        self.ok(self.slice("--pages", "3"))
        self.assertEqual(piped.stdout, self.target.read_bytes())
        self.assertIn(self.raw[3 * PAGE:4 * PAGE].rstrip(b"\0"), piped.stdout)
        self.assertEqual(self.ok(self.slice())["pages"], 0)  # the head alone
        self.assertLess(self.target.stat().st_size, 100)

    def test_image(self):
        code = content("code", 50 * PAGE - 77)
        image = self.ok(self.d.capctl("publish", self.file("image", wire.simple_image(code))))["cap_hash"]
        made = self.ok(self.slice("--pages", "40-49", cap_hash=image))
        self.assertEqual((made["kind"], made["size"], made["pages"]), ("image", len(code), 10))
        self.assertEqual(self.ok(self.check(cap_hash=image)), made)

    def test_wrong(self):
        """A bit that is wrong anywhere, an end that is early, bytes too many, another cap."""
        self.ok(self.slice("--pages", "3,64"))
        good = self.target.read_bytes()
        errors = set()
        for at in range(0, len(good), 211):
            self.target.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1:])
            result = self.assertStatus(self.check(), 1)
            errors.add(result.json["error"])
            self.assertIn("byte", result.json["message"])
        self.assertEqual(errors, {"slice_mismatch", "slice_malformed"})
        for wrong in (good[:-1], good + b"\0", b""):
            self.target.write_bytes(wrong)
            self.refused(self.check(), "slice_malformed")
        self.target.write_bytes(good)
        self.refused(self.check(cap_hash=NONE), "slice_mismatch")
        self.assertStatus(self.check(path=self.root / "absent"), 3)

    def test_lie(self):
        """What a proxy changes on the way ends in an error; no file appears."""
        liar = self.liar()
        for flip in (1, 20, 60, 200, 700, 5000):
            liar.flip = flip
            error = self.assertStatus(self.slice("--pages", "0-3,8", address=liar.address), 1).json["error"]
            self.assertIn(error, ("slice_mismatch", "slice_malformed"))
            self.assertFalse(self.target.exists())
        liar.flip = None
        self.ok(self.slice("--pages", "0-3,8", address=liar.address))

    def test_refusals(self):
        self.refused(self.slice(cap_hash=NONE), "not_found")
        self.refused(self.slice("--pages", "269-270"), "range_out_of_body")
        said = self.d.capctl("slice", self.hash, "--pages", "269-270", "-o", self.target, json_output=False).stderr
        self.assertEqual(said.count(self.hash), 1, said)
        for pages in ("", "1-", "-1", "2-1", "a", "1,,2", "1 2", "0-18446744073709551615"):
            self.assertStatus(self.slice("--pages", pages), 2)
        self.assertStatus(self.slice("--pages", ",".join(str(2 * i) for i in range(257))), 1)
        self.assertStatus(self.check("-o", "elsewhere"), 2)

    def test_pipe_memory(self):
        """A long slice is checked from a pipe in little memory."""
        size = 48 << 20
        cap_hash = self.put(content("long", size), "long")
        self.ok(self.slice("--pages", f"0-{size // PAGE - 1}", cap_hash=cap_hash))
        with open(self.target, "rb") as source:
            feed = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.PIPE)
            done = subprocess.run([CAPCTL, "--json", "slice", "--verify", "-", cap_hash], stdin=feed.stdout,
                                  capture_output=True, check=False, preexec_fn=limit_memory)
            feed.stdout.close()
            feed.wait()
        self.assertEqual(done.returncode, 0, done.stderr)


def limit_memory():
    """Less than the slice that is checked."""
    if not os.environ.get("CAPSTORE_SANITIZED"):
        resource.setrlimit(resource.RLIMIT_DATA, (24 << 20, 24 << 20))


def program(stride, count):
    """RISC-V that adds up `count` words of data, `stride` MiB apart, and ends with ecall."""
    def lui(register, value):
        return value << 12 | register << 7 | 0x37

    def addi(register, source, value):
        return (value & 0xfff) << 20 | source << 15 | register << 7 | 0x13

    words = [
        lui(11, 0x10000),  # a1: where data is
        lui(14, stride << 8),  # a4: from one word to the next
        addi(12, 0, count),  # a2
        0 << 20 | 11 << 15 | 3 << 12 | 13 << 7 | 0x03,  # ld a3, 0(a1)
        13 << 20 | 10 << 15 | 10 << 7 | 0x33,  # add a0, a0, a3
        14 << 20 | 11 << 15 | 11 << 7 | 0x33,  # add a1, a1, a4
        addi(12, 12, -1),
        branch_ne(12, -16),
        0x73,  # ecall
    ]
    return b"".join(struct.pack("<I", word) for word in words)


def branch_ne(register, offset):
    bits = offset & 0x1fff
    return ((bits >> 12 & 1) << 31 | (bits >> 5 & 0x3f) << 25 | register << 15 | 1 << 12
            | (bits >> 1 & 0xf) << 8 | (bits >> 11 & 1) << 7 | 0x63)


def lazy_image():
    """A wire Image that adds up one number of each MiB of its data."""
    data = bytearray(4 << 20)
    for i in range(4):
        struct.pack_into("<Q", data, i << 20, 1000 ** i)
        data[(i << 20) + PAGE:(i + 1 << 20)] = content(f"data {i}", (1 << 20) - PAGE)
    code = bytearray(content("code", 2 << 20))
    entry = 0x123458
    code[entry:entry + 36] = program(1, 4)
    arena = bytes(code) + bytes(data)
    pages = [(i, len(code) + i * PAGE, PAGE) for i in range(len(data) // PAGE)]
    return wire.image(code=(0, len(code)), endpoints=[(b"\0", wire.endpoint(entry))],
                      mappings=[wire.mapping(0x10000000, len(data), [b"\x0b"])],
                      initial=[(b"\x0b", wire.data_desc(len(data), pages))], arena=arena)


class Lazy(Parts):
    """A program runs while most of it is elsewhere."""

    def setUp(self):
        super().setUp()
        self.hash = self.ok(self.d.capctl("publish", self.file("image", lazy_image())))["cap_hash"]

    def run_lazy(self, address, cap_hash=None):
        return subprocess.run([f"{EXAMPLES}/capstore_example_run_lazy", address, cap_hash or self.hash],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, text=True)

    def ran(self, address):
        done = self.run_lazy(address)
        if "not_supported" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        first, second = done.stdout.splitlines()
        self.assertEqual(first.split(",")[0], "a0 = 1001001001 after 23 instructions")
        return int(second.split()[0])

    def test_runs(self):
        self.assertEqual(self.ran(self.d.address), 5 * 16)  # of the code, and each word's group

    def test_cut(self):
        """The connection is lost in the middle: it is made again."""
        liar = self.liar()
        liar.cuts = [100_000]
        self.assertEqual(self.ran(liar.address), 5 * 16)
        self.assertEqual(len(liar.down), 2)

    def test_lie(self):
        """Bytes that are not the program's are never run."""
        if "not_supported" in self.run_lazy(self.d.address).stderr:
            self.skipTest("no userfaultfd")
        liar = self.liar()
        for flip in (3, 400, 5000, 90_000):
            liar.flip = flip
            done = self.run_lazy(liar.address)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "slice_mismatch|slice_malformed")
            self.assertEqual(done.stdout, "")

    def test_absent(self):
        done = self.run_lazy(self.d.address, NONE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not_found", done.stderr)


if __name__ == "__main__":
    unittest.main()
