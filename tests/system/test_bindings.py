"""The bindings against the real daemon: the Rust crate and its tests, the Python file, the C++ example."""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import wire
from harness import PAGE, SANITIZED, SystemTest, content

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = os.environ.get("CAPSTORE_LIBRARY", "build/client/libcapstore.so")
CARGO = "/usr/bin/cargo"  # Debian's, not one that a developer may have


def library_directory():
    return str(pathlib.Path(LIBRARY).resolve().parent)


@unittest.skipUnless(os.path.exists(LIBRARY), "this build has no shared library")
class Bindings(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.data = content("bound", 3 * PAGE)
        image = wire.simple_image(b"\x13\x00\x00\x00" * 5, [(b"\x40", self.data)])
        self.wire = self.file("image", image).read_bytes()
        self.image = self.ok(self.d.capctl("publish", self.root / "image"))["cap_hash"]

    def run_ok(self, command, **more):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=600,
                              **more)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    @unittest.skipUnless(os.path.exists(CARGO), "no cargo from Debian")
    @unittest.skipIf(SANITIZED, "the library needs a runtime that cargo does not link")
    def test_rust(self):
        environment = dict(os.environ, CARGO_TARGET_DIR=str(self.root / "target"), RUSTC="/usr/bin/rustc",
                           RUSTDOC="/usr/bin/rustdoc", CAPSTORE_LIB_DIR=library_directory(),
                           LD_LIBRARY_PATH=library_directory(), RUSTFLAGS="-D warnings",
                           CARGO_HOME=str(self.root / "cargo"), CAPSTORE_TEST_ADDRESS=self.d.address,
                           CAPSTORE_TEST_IMAGE=str(self.root / "image"))
        manifest = ["--manifest-path", ROOT / "client/rust/Cargo.toml", "--offline", "--quiet"]
        tested = self.run_ok([CARGO, "test", *manifest], env=environment)
        self.assertIn("test result: ok", tested)
        fetched = self.run_ok([CARGO, "run", *manifest, "--example", "fetch", "--", self.d.address, self.image],
                              env=environment)
        self.assertIn("0x00400000 + 0x1000, read-only", fetched)
        self.assertIn("slot [40]: ", fetched)

    @unittest.skipIf(SANITIZED, "the library needs a runtime that the interpreter does not load")
    def test_python(self):
        script = """
import capstore, sys
address, image, wire, data = sys.argv[1:3] + [open(path, "rb").read() for path in sys.argv[3:]]
with capstore.Store(address, leases=True) as store:
    assert store.has([image, "00" * 32]) == ["image", None]
    cap = store.get(image)
    assert (cap.kind, cap.hash, len(cap.code)) == ("image", image, 20)
    slots = cap.slots("pinned") + cap.slots("initial")
    assert [slot.key for slot in slots] == [b"\\x40"], slots
    got = store.get(slots[0].cap_hash)
    assert got.read(0, len(data)) == data and got.size == len(data)
    assert capstore.Cap.from_body(got.body, got.hash).hash == got.hash
    assert {entry.hash for entry in store.closure(image)} == {image, got.hash}
    assert store.stat(image).ref_count == 1
    assert store.keep([image], 7000)[0].kept_s > 6000
    put = store.put_data(b"hello")
    assert put.cap_hash == "ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688" and put.is_new
    assert not store.publish(wire).is_new and store.publish(wire, dry_run=True).data_present == 1
    for call, name in ((lambda: store.get("00" * 32), "not_found"), (lambda: store.get("zz"), "invalid_argument"),
                       (lambda: store.publish(b"no image"), "ssz"),
                       (lambda: capstore.Cap.from_body(got.body[:-1] + b"!", got.hash), "hash_mismatch")):
        try:
            call()
        except capstore.Error as error:
            assert error.name == name, error
        else:
            raise AssertionError(name)
print(capstore.version())
"""
        data = self.root / "data"
        data.write_bytes(self.data)
        said = self.run_ok([sys.executable, "-c", script, self.d.address, self.image, self.root / "image", data],
                           env=dict(os.environ, PYTHONPATH=str(ROOT / "client/python"),
                                    CAPSTORE_LIBRARY=str(pathlib.Path(LIBRARY).resolve())))
        self.assertRegex(said, r"^\d+\.\d+\.\d+\n$")

    @unittest.skipUnless(shutil.which("g++"), "no g++")
    @unittest.skipIf(SANITIZED, "the library needs a runtime that g++ does not link")
    def test_cpp(self):
        program = self.root / "fetch_raii"
        self.run_ok(["g++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                     "-I", ROOT / "client/include", ROOT / "client/examples/fetch_raii.cpp", "-o", program,
                     "-L", library_directory(), "-lcapstore", f"-Wl,-rpath,{library_directory()}"])
        self.assertRegex(self.run_ok([program, self.d.address, self.image]), r"^image, \d+ bytes\n$")
        failed = subprocess.run([program, self.d.address, "00" * 32], capture_output=True, text=True, check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertTrue(failed.stderr.startswith("not_found: "), failed.stderr)


if __name__ == "__main__":
    unittest.main()
