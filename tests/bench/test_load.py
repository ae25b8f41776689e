#!/usr/bin/env python3
"""The load generator counts no wrong answer: it fails on one, whatever the protocol."""

import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))

import harness
from cores import Others
from servers import Bare, Capstored, Memcached, Missing, Nginx, Redis

LOAD = str(pathlib.Path(os.environ["CAPSTORE_BENCH"]) / "load")
COUNT = 100
LENGTH = 1000


class LoadTest(harness.SystemTest):
    def load(self, server, *words):
        command = [LOAD, server.protocol, words[0], server.address("unix"), "connections=2", "depth=4", *words[1:]]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)

    def start(self, kind):
        try:
            server = kind(self.root / kind.name, *((COUNT, LENGTH) if kind is Bare else ()))
        except Missing as missing:
            self.skipTest(str(missing))
        if kind in (Capstored, Nginx):
            server.fill(COUNT, LENGTH)
        server.start()
        self.addCleanup(server.stop)
        if kind in (Redis, Memcached):
            self.assertEqual(self.load(server, "put", f"count={COUNT}", f"len={LENGTH}").returncode, 0)
        return server

    def check(self, kind, has=False):
        server = self.start(kind)
        right = ["get", "count=500", "verify=1"]
        self.assertEqual(self.load(server, *right, f"keys={COUNT}", f"len={LENGTH}").returncode, 0)
        self.assertNotEqual(self.load(server, *right, f"keys={COUNT}", f"len={LENGTH - 1}").returncode, 0, "length")
        self.assertNotEqual(self.load(server, *right, "keys=10", f"first={COUNT}", f"len={LENGTH}").returncode, 0,
                            "absent")
        if has:
            words = ["has", "count=20", "batch=50"]
            self.assertEqual(self.load(server, *words, f"keys={COUNT}").returncode, 0)
            self.assertNotEqual(self.load(server, *words, f"keys={COUNT * 2}").returncode, 0, "absent")
            words = ["many", "count=20", "batch=50", "verify=1"]
            self.assertEqual(self.load(server, *words, f"keys={COUNT}", f"len={LENGTH}").returncode, 0)
            self.assertNotEqual(self.load(server, *words, f"keys={COUNT}", f"len={LENGTH - 1}").returncode, 0, "length")
            self.assertNotEqual(self.load(server, *words, f"keys={COUNT * 2}", f"len={LENGTH}").returncode, 0, "absent")

    def test_capstore(self):
        self.check(Capstored, has=True)

    def test_redis(self):
        self.check(Redis, has=True)

    def test_memcached(self):
        self.check(Memcached)

    def test_bare(self):
        self.check(Bare)

    def test_nginx(self):
        self.check(Nginx)

    def test_other_bytes(self):
        """A body of the right length that is not what was stored."""
        server = self.start(Nginx)
        for file in (server.root / "files" / "caps").iterdir():
            content = bytearray(file.read_bytes())
            content[500] ^= 1
            file.write_bytes(content)
        words = ["get", f"keys={COUNT}", f"len={LENGTH}", "count=10"]
        self.assertEqual(self.load(server, *words).returncode, 0, "the first and the last bytes are right")
        self.assertNotEqual(self.load(server, *words, "verify=1").returncode, 0)


class CoresTest(unittest.TestCase):
    def test_others_are_seen(self):
        """A process that is not ours keeps a core busy: or others do, which counts as well."""
        core = min(os.sched_getaffinity(0))
        with Others({core}, [os.getpid()]) as others:
            subprocess.run(["setsid", "-f", "taskset", "-c", str(core), "timeout", "1", "sh", "-c", "while :; do :; done"],
                           check=True, timeout=60)
            time.sleep(1)
        self.assertGreater(others.seconds, 0.3)


if __name__ == "__main__":
    unittest.main()
