"""The bindings against the real daemon: the Rust crate and its tests, the Python file, the C++ example."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import wire
from harness import PAGE, SANITIZED, SystemTest, content
from relay import Liar
from test_resume import Proxy

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

    def others(self):
        """Addresses of a store that lies past the first head of a slice, of one that cuts an upload, and of one with a
        quota; by the names of the environment that tests look for."""
        liar = Liar(self.root / "liar.sock", self.d)
        liar.flip = 5000
        self.addCleanup(liar.close)
        proxy = Proxy(self.d.address, [3 << 20])
        self.addCleanup(proxy.close)
        config = self.file("config.json", json.dumps({"quota-bytes": 100000}).encode())
        quota = self.daemon("--config", str(config), name="quota")
        return {"CAPSTORE_TEST_LIAR": liar.address, "CAPSTORE_TEST_CUT": proxy.address,
                "CAPSTORE_TEST_QUOTA": quota.address}

    def program(self):
        """A wire Image with code, and data that is mapped."""
        code, data = b"\x13\x00\x00\x00" * 5000, content("mapped", 40 * PAGE)
        pages = [(i, len(code) + i * PAGE, PAGE) for i in range(40)]
        return wire.image(code=(0, len(code)), endpoints=[(b"\0", wire.endpoint(4))],
                          mappings=[wire.mapping(0x10000000, len(data), [b"\x0b"])],
                          initial=[(b"\x0b", wire.data_desc(len(data), pages))], arena=code + data)

    def resumed(self):
        return self.d.figures()["capstore_uploads_resumed_total"]

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
                           CAPSTORE_TEST_IMAGE=str(self.root / "image"),
                           CAPSTORE_TEST_PROGRAM=str(self.file("program", self.program())), **self.others())
        manifest = ["--manifest-path", ROOT / "client/rust/Cargo.toml", "--offline", "--quiet"]
        tested = self.run_ok([CARGO, "test", *manifest], env=environment)
        self.assertIn("test result: ok", tested)
        self.assertEqual(self.resumed(), 1)
        fetched = self.run_ok([CARGO, "run", *manifest, "--example", "fetch", "--", self.d.address, self.image],
                              env=environment)
        self.assertIn("0x00400000 + 0x1000, read-only", fetched)
        self.assertIn("slot [40]: ", fetched)
        program = self.ok(self.d.capctl("publish", self.root / "program"))["cap_hash"]
        lazy = [CARGO, "run", *manifest, "--example", "run_lazy", "--"]
        ran = subprocess.run([*map(str, lazy), self.d.address, program], capture_output=True, text=True, check=False,
                             env=environment)
        if "not_supported" not in ran.stderr:
            first = content("mapped", 1)[0]
            self.assertEqual(ran.stdout, "endpoint [00]: 0x400004: 13...\n"
                             f"region 0x10000000 to 0x10028000: {first:02x}...\n21 pages fetched\n", ran.stderr)
            lied = subprocess.run([*map(str, lazy), environment["CAPSTORE_TEST_LIAR"], program], capture_output=True,
                                  text=True, check=False, env=environment)
            self.assertEqual((lied.returncode, lied.stdout), (1, ""))
            self.assertRegex(lied.stderr, "slice_mismatch|slice_malformed")

    @unittest.skipIf(SANITIZED, "the library needs a runtime that the interpreter does not load")
    def test_python(self):
        script = """
import capstore, sys
address, image, wire, data = sys.argv[1:3] + [open(path, "rb").read() for path in sys.argv[3:5]]
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
assert capstore.data_hash(b"hello") == put.cap_hash and store._pointer is None

def refused(name, call, *arguments):
    try:
        call(*arguments)
    except capstore.Error as error:
        assert error.name == name, error
        return error
    raise AssertionError(name)

liar, cut, quota, program, cache = sys.argv[5:]
big = b"".join(i.to_bytes(8, "big") * 512 for i in range(1280))
with capstore.Store(address) as store:
    info = store.info()
    assert info.max_hashes > 0 and len(info.store_id) == 32, info
    with open(sys.argv[4], "rb") as file:
        assert not store.put_file(file).is_new
    assert not store.put_cap(got).is_new
    hash_ = store.put_data(big[:1 << 20]).cap_hash
    for later in (False, True):
        with store.open(hash_, cache_directory=cache) as reader:
            assert (reader.kind, reader.size, reader.hash, reader.image) == ("data", 1 << 20, hash_, None)
            assert reader.read(5000, 70000) == big[5000:75000]
            assert reader.read((1 << 20) - 1, 10) == big[(1 << 20) - 1:1 << 20] and reader.read(1 << 20, 1) == b""
            assert (reader.counts.fetched_pages == 0) == (reader.counts.cached_pages > 0) == later, reader.counts
    try:
        reader.read(0, 1)
    except ValueError:
        pass
    else:
        raise AssertionError("read after close")
    with store.open(store.publish(open(program, "rb").read()).cap_hash) as reader:
        assert reader.read(4, 4) == b"\\x13\\0\\0\\0" and reader.size == 20000
        assert [m.start for m in reader.image.mappings] == [0x10000000]
    assert "00" * 32 in refused("not_found", store.open, "00" * 32).message
    slice_ = store.slice(hash_, [range(9, 11), range(3, 4)])
    proven = capstore.verify_slice(hash_, slice_, [range(3, 4), range(9, 11)])
    assert (proven.kind, proven.size, proven.zeros) == ("data", 1 << 20, [])
    assert proven.pages == {i: big[i * 4096:(i + 1) * 4096] for i in (3, 9, 10)}
    refused("slice_mismatch", capstore.verify_slice, hash_, slice_[:-1] + bytes([slice_[-1] ^ 1]))
    refused("slice_malformed", capstore.verify_slice, hash_, slice_[:-1])
    refused("range_out_of_body", store.slice, hash_, [range(256, 257)])
    left = store.open(hash_)
try:
    left.read(0, 1)  # closed with its store
except ValueError:
    pass
with capstore.Store(liar) as store, store.open(hash_) as reader:
    refused("slice_mismatch", reader.read, 0, 100)
    assert reader.read(0, 100) == big[:100]  # it lies once on a connection
with capstore.Store(cut) as store:
    assert store.put_data(big).cap_hash == capstore.data_hash(big)
with capstore.Store(quota) as store:
    shortage = refused("quota_exceeded", store.put_data, big).shortage
    assert shortage.need >= len(big) and shortage[1:] == (100000, "quota-bytes"), shortage
    assert refused("not_found", store.get, "00" * 32).shortage is None
print(capstore.version())
"""
        others = self.others()
        cache = self.root / "cache"
        cache.mkdir()
        data = self.root / "data"
        data.write_bytes(self.data)
        said = self.run_ok([sys.executable, "-c", script, self.d.address, self.image, self.root / "image", data,
                            *(others["CAPSTORE_TEST_" + name] for name in ("LIAR", "CUT", "QUOTA")),
                            self.file("program", self.program()), cache],
                           env=dict(os.environ, PYTHONPATH=str(ROOT / "client/python"),
                                    CAPSTORE_LIBRARY=str(pathlib.Path(LIBRARY).resolve())))
        self.assertRegex(said, r"^\d+\.\d+\.\d+\n$")
        self.assertEqual(self.resumed(), 1)

    @unittest.skipUnless(shutil.which("g++"), "no g++")
    @unittest.skipIf(SANITIZED, "the library needs a runtime that g++ does not link")
    def test_cpp(self):
        program = self.root / "fetch_raii"
        self.run_ok(["g++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                     "-I", ROOT / "client/include", ROOT / "client/examples/fetch_raii.cpp", "-o", program,
                     "-L", library_directory(), "-lcapstore", f"-Wl,-rpath,{library_directory()}"])
        self.assertRegex(self.run_ok([program, self.d.address, self.image]), r"^image, \d+ bytes\nread 20 of 20\n$")
        failed = subprocess.run([program, self.d.address, "00" * 32], capture_output=True, text=True, check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertTrue(failed.stderr.startswith("not_found: "), failed.stderr)


if __name__ == "__main__":
    unittest.main()
