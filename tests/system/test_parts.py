"""Parts of caps over real sockets: fetches that go on, programs that run from lazily fetched pages."""

import fcntl
import os
import struct
import subprocess
import unittest

import wire
from harness import PAGE, SystemTest, capctl, content
from liar import Liar

EXAMPLES = os.environ.get("CAPSTORE_EXAMPLES", "build/client")
NONE = "00" * 32


class Parts(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()

    def liar(self):
        liar = Liar(self.root / "liar.sock", self.d.path)
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
        liar.cut = [400_000, 900_000]
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
        self.assertLess(liar.passed, len(self.body) + 10_000)
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


class Lazy(Parts):
    """A program runs while most of it is elsewhere."""

    def setUp(self):
        super().setUp()
        data = bytearray(4 << 20)
        for i in range(4):
            struct.pack_into("<Q", data, i << 20, 1000 ** i)
            data[(i << 20) + PAGE:(i + 1 << 20)] = content(f"data {i}", (1 << 20) - PAGE)
        code = bytearray(content("code", 2 << 20))
        entry = 0x123458
        code[entry:entry + 36] = program(1, 4)
        arena = bytes(code) + bytes(data)
        pages = [(i, len(code) + i * PAGE, PAGE) for i in range(len(data) // PAGE)]
        image = wire.image(code=(0, len(code)), endpoints=[(b"\0", wire.endpoint(entry))],
                           mappings=[wire.mapping(0x10000000, len(data), [b"\x0b"])],
                           initial=[(b"\x0b", wire.data_desc(len(data), pages))], arena=arena)
        self.hash = self.ok(self.d.capctl("publish", self.file("image", image)))["cap_hash"]

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
        liar.cut = [100_000]
        self.assertEqual(self.ran(liar.address), 5 * 16)
        self.assertEqual(liar.connections, 2)

    def test_absent(self):
        done = self.run_lazy(self.d.address, NONE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not_found", done.stderr)


if __name__ == "__main__":
    unittest.main()
