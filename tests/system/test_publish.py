"""Publish, fetch, refuse: the way through the house with the real tool."""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import unittest

import harness
import wire
from harness import PAGE, SystemTest, capctl, content, free_port, wait_until
from protocol import body_frames, encode


class Publish(SystemTest):
    def image(self, name="image", code=b"\x13\x00\x00\x00" * 5, data=(), images=()):
        return self.file(name, wire.simple_image(code, data, images))

    def assertAbsent(self, d, cap_hash):
        """`has` says no, and its exit status too."""
        self.assertEqual(self.assertStatus(d.capctl("has", cap_hash), 1).json, {cap_hash: False})

    def test_publish_then_fetch(self):
        d = self.daemon()
        code, block = content("code", 5000), content("block", 3 * PAGE)
        path = self.image(code=code, data=[(b"\x40", block)])
        checked = self.ok(capctl("check", path))
        published = self.ok(d.capctl("publish", path))
        self.assertEqual(published["verdict"], "accepted")
        self.assertEqual(published["cap_hash"], checked["cap_hash"])
        self.assertEqual(published["image_content_hash"], checked["image_content_hash"])
        self.assertEqual((published["new"], published["data_new"], published["data_present"]), (True, 1, 0))

        out = self.root / "body"
        got = self.ok(d.capctl("get", published["cap_hash"], "-o", out))
        self.assertEqual(got["kind"], "image")
        self.assertEqual(got["body_len"], checked["body_len"])
        self.assertEqual(out.stat().st_size, checked["body_len"])
        self.assertEqual(out.read_bytes()[:1], b"\x01")
        self.ok(d.capctl("get", "0x" + published["cap_hash"], "--content", "-o", out))
        self.assertEqual(out.read_bytes(), code)

        data = checked["data"][0]
        self.assertEqual((data["table"], data["slot"], data["size"]), ("initial", "40", 3 * PAGE))
        self.ok(d.capctl("get", data["cap_hash"], "--content", "-o", out))
        self.assertEqual(out.read_bytes(), block)

    def test_publishing_again_is_success(self):
        d = self.daemon()
        path = self.image(data=[(b"\x40", content("x", PAGE)), (b"\x41", content("x", PAGE))])
        first = self.ok(d.capctl("publish", path))
        self.assertEqual((first["new"], first["data_new"], first["data_present"]), (True, 1, 0))
        again = self.ok(d.capctl("publish", path))
        self.assertEqual((again["new"], again["data_new"], again["data_present"]), (False, 0, 1))
        self.assertEqual(again["cap_hash"], first["cap_hash"])

    def test_uploads_that_pause(self):
        """Uploads of which nothing comes for a while hold no buffers, which others of their peer need to go on."""
        d = self.daemon("--max-buffers", "1M")
        code = content("paused", 1 << 20)
        image = wire.image(code=(0, len(code)), arena=code)
        paused = [self.connect(d) for _ in range(8)]
        for c in paused:
            c.send_frame("PUT_IMAGE", 1, encode("PUT_IMAGE", flags=2, total_len=len(image)))
            c.send_frame("BODY", 1, image[:200001])
        wait_until(lambda: d.figures()["capstore_uploads_in_flight"] == len(paused), "all uploads")
        wait_until(lambda: d.figures()["capstore_spool_buffer_bytes"] == 0, "empty buffers")
        for c in paused:
            for at in range(200001, 200101):
                c.send_frame("BODY", 1, image[at:at + 1])
        wait_until(lambda: d.figures()["capstore_spool_buffer_bytes"] == 0, "empty buffers")
        hashes = set()
        for c in paused:
            for piece in body_frames(1, image[200101:], 256 << 10):
                c.sock.sendall(piece)
            hashes.add(c.wait(1, "PUT_IMAGE_REPLY")["cap_hash"])
        self.assertEqual(hashes, {self.connect(d).put_image(image)["cap_hash"]})

    def test_resolve_only_needs_everything_there(self):
        d = self.daemon()
        block = content("missing", PAGE)
        path = self.image(data=[(b"\x40", block)])
        wanted = self.ok(capctl("check", path))
        refused = self.refused(d.capctl("publish", path, "--resolve-only"), "unresolved_slot")
        self.assertEqual(refused["unresolved"], [{"table": "initial", "slot": "40", "kind": "data",
                                                  "cap_hash": wanted["data"][0]["cap_hash"]}])
        self.assertAbsent(d, wanted["cap_hash"])
        put = self.ok(d.capctl("put", self.file("block", block)))
        self.assertEqual(put, put | {"cap_hash": wanted["data"][0]["cap_hash"], "size": PAGE, "new": True})
        self.assertEqual(self.ok(d.capctl("publish", path, "--resolve-only"))["cap_hash"], wanted["cap_hash"])

    def test_every_unresolved_slot_is_listed(self):
        d = self.daemon()
        missing = bytes(range(32))
        path = self.image(data=[(b"\x40", b"a"), (b"\x41", b"b")], images=[(b"\x07", missing)])
        refused = self.refused(d.capctl("publish", path, "--resolve-only"), "unresolved_slot")
        self.assertEqual([(u["table"], u["slot"], u["kind"]) for u in refused["unresolved"]],
                         [("pinned", "07", "image"), ("initial", "40", "data"), ("initial", "41", "data")])
        refused = self.refused(d.capctl("publish", path), "unresolved_slot")
        self.assertEqual([u["cap_hash"] for u in refused["unresolved"]], [missing.hex()])
        # All or nothing: the data that came with the refused Image is not there either.
        status = d.admin("status")
        self.assertEqual(status["caps"]["data"], 0)

    def test_a_slot_of_the_wrong_kind_is_unresolved(self):
        d = self.daemon()
        put = self.ok(d.capctl("put", self.file("block", b"data")))
        path = self.image(images=[(b"\x07", bytes.fromhex(put["cap_hash"]))])
        self.refused(d.capctl("publish", path), "unresolved_slot")

    def test_dry_run_stores_nothing(self):
        d = self.daemon()
        path = self.image(data=[(b"\x40", b"abc")])
        dry = self.ok(d.capctl("publish", path, "--dry-run"))
        self.assertEqual((dry["verdict"], dry["new"], dry["data_new"]), ("accepted", True, 1))
        self.assertAbsent(d, dry["cap_hash"])

    def test_images_within_images_and_closure(self):
        d = self.daemon()
        inner = self.ok(d.capctl("publish", self.image("inner", data=[(b"\x01", b"inner data")])))
        middle = self.ok(d.capctl("publish", self.image(
            "middle", code=b"mid", images=[(b"\x02", bytes.fromhex(inner["cap_hash"]))])))
        outer = self.ok(d.capctl("publish", self.image(
            "outer", code=b"out", data=[(b"\x01", b"inner data")],
            images=[(b"\x02", bytes.fromhex(inner["cap_hash"])), (b"\x03", bytes.fromhex(middle["cap_hash"]))])))
        directory = self.root / "closure"
        directory.symlink_to("elsewhere")  # which capctl makes
        closure = self.ok(d.capctl("closure", outer["cap_hash"], "-d", directory))
        kinds = {cap["cap_hash"]: cap["kind"] for cap in closure["caps"]}
        self.assertEqual(len(closure["caps"]), 4, "each cap once")
        for image in (inner, middle, outer):
            self.assertEqual(kinds[image["cap_hash"]], "image")
        self.assertEqual(sorted(kinds.values()), ["data", "image", "image", "image"])
        self.assertEqual(len(list(directory.iterdir())), 4)

    def closure_of(self, d, count):
        """A published Image with so many Data caps."""
        path = self.image("wide", data=[(index.to_bytes(2, "big"), b"content %d" % index) for index in range(count)])
        return self.ok(d.capctl("publish", path))["cap_hash"]

    def test_what_has_the_name_of_a_cap_in_a_directory_is_replaced(self):
        """A link is not followed, nor does anybody wait for who reads a pipe: the names are the tool's."""
        d = self.daemon()
        image = self.closure_of(d, 2)
        caps = [cap["cap_hash"] for cap in self.ok(d.capctl("closure", image))["caps"]]
        other = self.file("other", b"precious")
        for command in (("closure", image), ("get", *caps)):
            directory = self.root / command[0]
            directory.mkdir()
            (directory / caps[0]).symlink_to(other)
            (directory / caps[1]).symlink_to(self.root / "nothing")
            os.mkfifo(directory / caps[2])
            self.ok(d.capctl(*command, "-d", directory, timeout=60))
            self.assertEqual(other.read_bytes(), b"precious")
            self.assertFalse((self.root / "nothing").exists())
            for cap in caps:
                self.assertFalse((directory / cap).is_symlink())
                self.assertEqual((directory / cap).read_bytes(),
                                 d.capctl("get", cap, json_output=False).stdout)

    @unittest.skipUnless(shutil.which("strace") and not harness.SANITIZED,
                         "strace is not installed, or in the way of a sanitizer")
    def test_a_closure_is_synced_together_and_outlasts_a_power_cut(self):
        """The bytes of many files are synced before their names are given, and the names after that."""
        d = self.daemon()
        wide, directory, log = self.closure_of(d, 150), self.root / "closure", self.root / "trace"
        for inject in ((), ("-e", "inject=syncfs:error=EIO")):
            done = subprocess.run(
                ["strace", "-f", "-qq", "-o", log, "-e", "trace=openat,syncfs,fsync,renameat,renameat2", *inject,
                 harness.CAPCTL, "-s", d.address, "closure", wide, "-d", directory],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            calls = "".join("o" if ".capctl." in line and "openat" in line else
                            {"syncfs": "S", "fsync": "F", "rename": "r"}.get(re.sub(r"at2?$", "", call), "")
                            for line in log.read_text().splitlines()
                            for call in re.findall(r"^\d+ +(\w+)\(", line))
            if not calls:
                self.skipTest("this system does not let strace trace")
            if inject:  # each by itself then
                self.assertRegex(calls, "^(o{1,64}S(Fr){1,64}F)+$")
            else:
                self.assertRegex(calls, "^(o{1,64}Sr{1,64}F)+$")
            self.assertEqual(calls.count("r"), 151)
            self.assertEqual(len(list(directory.iterdir())), 151)

    def test_a_closure_that_fails_leaves_only_whole_files(self):
        d = self.daemon()
        big = self.image("big", code=b"big", data=[(b"\x00\x00", b"small"), (b"\x00\x01", os.urandom(100000))])
        cap_hash, directory = self.ok(d.capctl("publish", big))["cap_hash"], self.root / "closure"
        done = subprocess.run([harness.CAPCTL, "--json", "-s", d.address, "closure", cap_hash, "-d", directory],
                              capture_output=True, timeout=60, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20480, 20480)))
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]), (3, "disk_full"))
        for path in directory.iterdir():
            self.assertRegex(path.name, "^[0-9a-f]{64}$")

    def test_put_sizes(self):
        d = self.daemon()
        block = self.file("block", b"x" * 5000)
        for arguments, size in (((), 2 * PAGE), (("--size", "0x10000"), 0x10000), (("--size", "1"), 2 * PAGE)):
            hashed = self.ok(capctl("hash", block, *arguments))
            put = self.ok(d.capctl("put", block, *arguments))
            self.assertEqual((hashed["size"], put["size"]), (size, size))
            self.assertEqual(hashed["cap_hash"], put["cap_hash"])
        huge = self.ok(capctl("hash", block, "--size", str(2**63)))
        self.assertEqual(self.ok(d.capctl("put", block, "--size", str(2**63)))["cap_hash"], huge["cap_hash"])

    def test_standard_input_and_output(self):
        d = self.daemon()
        put = self.ok(d.capctl("put", "-", stdin=b"from a pipe"))
        got = self.assertStatus(d.capctl("get", put["cap_hash"], "--content", json_output=False), 0)
        self.assertEqual(got.stdout, b"from a pipe".ljust(PAGE, b"\0"))

    def test_holes_stay_holes(self):
        d = self.daemon()
        put = self.ok(d.capctl("put", self.file("block", b"x"), "--size", 1 << 30))
        out = self.root / "sparse"
        self.ok(d.capctl("get", put["cap_hash"], "--content", "-o", out))
        self.assertEqual(out.stat().st_size, 1 << 30)
        self.assertLess(out.stat().st_blocks * 512, 1 << 20)

    def test_get_many(self):
        d = self.daemon()
        contents = [content("many %d" % i, 10 + 100 * i) for i in range(20)]
        hashes = [self.ok(d.capctl("put", self.file("f", each)))["cap_hash"] for each in contents]
        absent, directory = "00" * 32, self.root / "many"
        for wanted, status in ((hashes, 0), (hashes[:3] + [absent] + hashes[3:] + hashes[:1], 1)):
            got = self.assertStatus(d.capctl("get", *wanted, "-d", directory, "--content"), status).json["caps"]
            self.assertEqual([cap["cap_hash"] for cap in got], wanted)
            self.assertEqual([cap.get("error") for cap in got],
                             ["not_found" if cap_hash == absent else None for cap_hash in wanted])
            self.assertEqual(sorted(path.name for path in directory.iterdir()), sorted(hashes))
        for cap_hash, each in zip(hashes, contents):
            self.assertEqual((directory / cap_hash).read_bytes().rstrip(b"\0"), each.rstrip(b"\0"))
            one = self.ok(d.capctl("get", cap_hash, "-o", self.root / "one"))
            self.ok(d.capctl("get", cap_hash, "-d", directory))
            self.assertEqual((directory / cap_hash).read_bytes(), (self.root / "one").read_bytes())
            self.assertEqual(one["body_len"], (directory / cap_hash).stat().st_size)
        for words in (hashes[:2], hashes[:2] + ["-d", directory, "-o", "x"], [hashes[0], "zz", "-d", directory]):
            self.assertStatus(d.capctl("get", *words), 2)
        self.assertStatus(d.capctl("get", *hashes, "-d", self.file("f", b"")), 3)

    def test_exit_statuses(self):
        d = self.daemon()
        absent = "00" * 32
        self.assertStatus(d.capctl("get", absent), 1)
        self.assertAbsent(d, absent)
        self.assertStatus(d.capctl("get", "zz"), 2)
        self.assertStatus(d.capctl("frobnicate"), 2)
        self.assertStatus(d.capctl("publish", self.root / "no-such-file"), 3)
        junk = self.refused(d.capctl("publish", self.file("junk", b"\x00" * 100)), "ssz")
        self.assertEqual(junk["message"], "not a wire Image (offset of endpoints is 0, expected 40); capctl pack makes one")
        self.assertStatus(capctl("-s", f"unix:{self.root}/nowhere", "has", absent), 3)

    def test_environment_names_the_socket(self):
        d = self.daemon()
        result = capctl("has", "00" * 32, env={"CAPSTORE_SOCKET": d.address})
        self.assertEqual(self.assertStatus(result, 1).json, {"00" * 32: False})

    def test_tcp(self):
        d = self.daemon(listen=[f"tcp:127.0.0.1:{free_port()}"])
        put = self.ok(d.capctl("put", self.file("block", content("tcp", 3 * PAGE))))
        out = self.root / "out"
        self.ok(d.capctl("get", put["cap_hash"], "--content", "-o", out))
        self.assertEqual(hashlib.sha256(out.read_bytes()).digest(),
                         hashlib.sha256(content("tcp", 3 * PAGE)).digest())


if __name__ == "__main__":
    unittest.main()
