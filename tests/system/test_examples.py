"""The examples do what their first line says."""

import os
import subprocess
import unittest

import wire
from harness import SystemTest, content

EXAMPLES = os.environ.get("CAPSTORE_EXAMPLES", "build/client")
SIZES = (100, 5000, 300000)


class Examples(SystemTest):
    def example(self, name, *arguments):
        return subprocess.run([f"{EXAMPLES}/capstore_example_{name}", *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60, check=False)

    def put(self, d):
        return [self.ok(d.capctl("put", self.file(f"of{size}", content(f"example {size}", size))))["cap_hash"]
                for size in SIZES]

    def test_fetch(self):
        d = self.daemon()
        image = self.file("image", wire.simple_image(b"\x13\x00\x00\x00", []))
        done = self.example("fetch", d.address, self.ok(d.capctl("publish", image))["cap_hash"])
        self.assertEqual((done.returncode, done.stdout), (0, b"4 bytes of code for 0x400000\n"))

    def test_many(self):
        d = self.daemon()
        hashes = self.put(d)
        for name, last in (("fetch_many", "3 caps, "), ("fetch_uv", "")):
            done = self.example(name, d.address, *hashes)
            self.assertEqual((done.returncode, done.stderr), (0, b""), name)
            self.assertTrue(done.stdout.decode().splitlines()[-1].startswith(last), done.stdout)
        lengths = sorted(int(line.split()[0]) for line in done.stdout.decode().splitlines())
        self.assertEqual(len(lengths), 3)
        self.assertGreater(lengths[2], SIZES[2])

    def test_failures(self):
        d = self.daemon()
        hashes = self.put(d)
        for name in ("fetch_many", "fetch_uv"):
            done = self.example(name, d.address, hashes[0], "00" * 32)
            self.assertEqual(done.returncode, 1, name)
            self.assertIn(b"not_found", done.stderr, name)
            done = self.example(name, "unix:/nowhere/at/all", hashes[0])
            self.assertEqual(done.returncode, 1, name)
            self.assertIn(b"connect", done.stderr, name)


if __name__ == "__main__":
    unittest.main()
