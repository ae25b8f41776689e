"""The largest Image there is: decided offline, uploaded while others are answered, within bounded memory."""

import struct
import subprocess
import threading
import time
import unittest

import harness
import wire
from harness import PAGE, SystemTest, capctl, content

MAX_CODE_SIZE = 0x10000000 - 0x00400000  # 252 MiB
MEMORY_BOUND = 64 << 20


class Big(SystemTest):
    def largest(self, name, extra=0, marks=True):
        """A file with an Image whose code is MAX_CODE_SIZE + extra bytes, with a mark in every 64 KiB."""
        size = MAX_CODE_SIZE + extra
        head = wire.image(code=(0, size), endpoints=[(b"\x00", wire.endpoint(0))])
        path = self.root / name
        with open(path, "wb") as file:
            file.write(head)
            for at in range(0, size if marks else 0, 1 << 16):
                file.seek(len(head) + at)
                file.write(struct.pack("<Q", at ^ 0x5A5A5A5A5A5A5A5A))
            file.truncate(len(head) + size)
        return path

    def test_check_at_the_limit(self):
        checked = self.ok(capctl("check", self.largest("at", marks=False)))
        self.assertEqual(checked["verdict"], "accepted")
        self.assertEqual(checked["body_len"] > MAX_CODE_SIZE, True)
        self.refused(capctl("check", self.largest("past", extra=1, marks=False)), "code_too_large")

    def test_upload_beside_small_fetches(self):
        d = self.daemon()
        small = self.ok(d.capctl("put", self.file("small", content("small", PAGE))))["cap_hash"]
        path = self.largest("image")
        upload = subprocess.Popen([harness.CAPCTL, "-s", d.address, "--json", "publish", str(path)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(upload.kill)
        watch = Watch(d)
        watch.start()
        fetched = 0
        while upload.poll() is None:
            got = self.ok(d.capctl("get", small, "-o", self.root / "out"))
            self.assertEqual(got["body_len"], 17 + 12 + PAGE)
            fetched += 1
        watch.finish()
        out, err = upload.communicate()
        self.assertEqual(upload.returncode, 0, err)
        self.assertGreater(fetched, 10, "small fetches were answered while the upload went on")
        self.assertGreater(watch.samples, 10)
        if not harness.SANITIZED:
            self.assertLess(watch.most, MEMORY_BOUND, "the daemon's anonymous memory")
        import json

        cap_hash = json.loads(out)["cap_hash"]
        body = self.root / "body"
        self.ok(d.capctl("get", cap_hash, "--content", "-o", body))
        with open(path, "rb") as wanted, open(body, "rb") as got:
            wanted.seek(path.stat().st_size - MAX_CODE_SIZE)
            while True:
                block = wanted.read(1 << 20)
                self.assertEqual(got.read(1 << 20), block)
                if not block:
                    break

    def test_refused_by_its_header(self):
        """One byte too much is refused while nearly all of it is still to come."""
        d = self.daemon()
        self.refused(d.capctl("publish", self.largest("past", extra=1, marks=False)), "code_too_large")
        received = [line for line in d.admin("metrics")["text"].splitlines()
                    if line.startswith("capstore_received_bytes_total ")]
        self.assertEqual(len(received), 1)
        self.assertLess(int(received[0].split()[1]), 64 << 20)


class Watch(threading.Thread):
    """Samples the daemon's anonymous memory; the kernel's own high-water mark has no such split."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.watched = daemon
        self.most = self.samples = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            self.most = max(self.most, self.watched.memory())
            self.samples += 1
            time.sleep(0.005)

    def finish(self):
        self.done.set()
        self.join()


if __name__ == "__main__":
    unittest.main()
