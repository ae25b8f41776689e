"""A cold cache on a slow device: a client that asks for what is in memory does not notice.

The store lies on a file system of our own (tests/support/slow_fs.c) on which every read of the device takes 200 ms
longer. The kernel itself says whether the loop's thread ever waited for it: by the thread's major page faults.
"""

import os
import pathlib
import random
import subprocess
import threading
import time
import unittest

import protocol
from harness import LONG, SANITIZED, SystemTest, wait_until

FILL = os.environ.get("CAPSTORE_FILL", "build/tests/support/fill_store")
SLOW_FS = os.environ.get("CAPSTORE_SLOW_FS", "build/tests/support/slow_fs")
CAPS = 300000 if LONG else 20000
SECONDS = 20 if LONG else 4
DELAY_MS = 200
# A turn of the loop that waited once would take DELAY_MS. Half of that is far from it and from what a busy machine
# makes of a turn of a millisecond. On an idle one, in the long form, the promise itself is held: 50 ms.
STALL_SECONDS = 0.05 if LONG and not SANITIZED else DELAY_MS / 2000
MASK = 2**64 - 1


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def cap_hash(index):
    """The hash of cap `index` of fill_store."""
    return b"".join(splitmix64(4 * index + word).to_bytes(8, "little") for word in range(4))


def loop_faults(daemon):
    """Major page faults of the daemon's first thread, which runs the loop: reads of the device that it waited for."""
    pid = daemon.process.pid
    stat = pathlib.Path(f"/proc/{pid}/task/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[9])


class ColdTest(SystemTest):
    def setUp(self):
        super().setUp()
        for program, package in ((FILL, "the build of the tests"), (SLOW_FS, "libfuse3-dev when the tests were built")):
            if not os.access(program, os.X_OK):
                self.skipTest(f"needs {program}, and so {package}")
        self.backing = self.root / "backing"
        self.delay = self.file("delay", b"0")
        self.store = self.root / "d" / "state" / "store"
        self.store.mkdir(parents=True)
        self.store.parent.chmod(0o700)

    def mount(self):
        device = subprocess.Popen([SLOW_FS, self.backing, self.store, self.delay],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(device.wait)
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.store)], check=False,
                        stderr=subprocess.DEVNULL)
        self.addCleanup(self.end_daemons)
        wait_until(lambda: device.poll() is not None or os.path.ismount(self.store), "the mount")
        if device.poll() is not None:
            self.skipTest("needs /dev/fuse and the right to mount")

    def fill(self, count, length):
        subprocess.run([FILL, self.backing, str(count), str(length)], check=True)

    def slow_down(self, milliseconds):
        self.delay.write_bytes(b"%-8d" % milliseconds)

    def ask_in_background(self, daemon, ask):
        """Runs ask(connection) on a connection of its own until the test says stop; returns (stop, latencies)."""
        connection, ended, latencies = self.connect(daemon), threading.Event(), []

        def run():
            while not ended.is_set():
                began = time.monotonic()
                ask(connection)
                latencies.append(time.monotonic() - began)

        thread = threading.Thread(target=run)
        thread.start()

        def stop():
            ended.set()
            thread.join()

        return stop, latencies

    def judge(self, daemon, faults_before, cold, hot):
        figures = daemon.figures()
        stall = figures["capstore_loop_stall_max_seconds"]
        print(f"{len(cold)} cold requests, longest {max(cold) * 1000:.0f} ms; {len(hot)} beside them, longest "
              f"{max(hot) * 1000:.1f} ms; longest turn of the loop {stall * 1000:.1f} ms", flush=True)
        self.assertGreater(max(cold), DELAY_MS / 1000, "nothing was cold")
        self.assertEqual(loop_faults(daemon), faults_before, "the loop waited for the device")
        self.assertLess(stall, STALL_SECONDS)
        self.assertLess(max(hot), DELAY_MS / 1000, "a request for what is in memory waited for the device")

    def test_cold_index(self):
        """Small bodies lie in the leaves of the index: looking one up reads several cold pages."""
        self.fill(CAPS, 1024)
        self.mount()
        daemon = self.daemon()
        client = self.connect(daemon)
        known = [cap_hash(index) for index in range(20)]
        for one in known:
            client.get(one)
        self.slow_down(DELAY_MS)
        faults, pick = loop_faults(daemon), random.Random(1)

        def ask_cold(connection):
            one = cap_hash(pick.randrange(CAPS // 2, CAPS))
            what = pick.randrange(4)
            if what == 0:
                self.assertEqual(connection.has([one, os.urandom(32)])[1], 0)
            elif what == 1:
                self.assertEqual(connection.stat(one)["body_len"], 1024)
            elif what == 2:
                self.assertRefuses("not_found", connection.get, os.urandom(32))
            else:
                self.assertEqual(connection.get(one)[1], one * 32)

        askers = [self.ask_in_background(daemon, ask_cold) for _ in range(12)]
        hot = self.ask_in_background(daemon, lambda connection: connection.get(pick.choice(known)))
        time.sleep(SECONDS)
        hot[0]()
        self.slow_down(0)
        for stop, _ in askers:
            stop()
        self.judge(daemon, faults, [one for _, latencies in askers for one in latencies], hot[1])

    def test_cold_bodies(self):
        """Large bodies beside each other: the pages of one in memory, those of the others not."""
        length, count = 1 << 20, 48
        self.fill(count, length)
        self.mount()
        daemon = self.daemon()
        client = self.connect(daemon)
        known = cap_hash(0)
        for _ in range(2):
            self.assertEqual(client.get(known)[1], known * (length // 32))
        self.slow_down(DELAY_MS)
        faults, numbers = loop_faults(daemon), iter(range(1, count))

        def ask_cold(connection):
            number = next(numbers, None)
            if number is None:
                time.sleep(0.1)
            else:
                connection.get(cap_hash(number))

        askers = [self.ask_in_background(daemon, ask_cold) for _ in range(6)]
        hot = self.ask_in_background(daemon, lambda connection: connection.get(known))
        time.sleep(SECONDS)
        hot[0]()
        self.slow_down(0)
        for stop, _ in askers:
            stop()
        self.judge(daemon, faults, [one for _, latencies in askers for one in latencies], hot[1])


if __name__ == "__main__":
    unittest.main()
