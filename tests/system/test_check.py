"""capstored --check: a sound store, a damaged one, one in use; and what a crash of the daemon says."""

import os
import signal
import subprocess
import time
import unittest

import harness
from harness import START_SECONDS, SystemTest, content

SOUND, DAMAGED, USAGE, FAILED = 0, 1, 2, 3


def check(state, *options):
    return subprocess.run([harness.CAPSTORED, "--check", "--state", str(state), *options], capture_output=True,
                          text=True, timeout=120, check=False)


class Check(SystemTest):
    def stored(self):
        """A daemon's state directory with a few caps, the daemon stopped; and the largest cap's hash and content."""
        d = self.daemon()
        c = self.connect(d)
        for i in range(20):
            c.put_data(content(i, 1000 * i + 1))
        big = content(99, 300000)
        reply = c.put_data(big)
        c.close()
        d.stop()
        return d, reply["cap_hash"], big

    def test_sound(self):
        d, _, _ = self.stored()
        store = d.state / "store" / "store.lmdb"
        before = store.read_bytes()
        result = check(d.state)
        self.assertEqual(result.returncode, SOUND, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertIn(": sound, 21 caps, ", result.stderr)
        self.assertEqual(store.read_bytes(), before, "the check changes nothing")
        d.start()
        self.connect(d)

    def test_sound_after_kills(self):
        """Whatever kill -9 interrupts, what it leaves is sound: commits, stages, sweeps, reused pages."""
        d = self.daemon(start=False)
        for life in range(8):
            d.start()
            c = self.connect(d)
            for i in range(10):
                c.put_data(content(100 * life + i, 700 * i * i + 1))
            cut = c.request("PUT_DATA", flags=0, size=0, total_len=12 << 20)
            c.send_body(cut, content(life, 12 << 20))
            if life % 2 == 0:
                c.send_frame("CANCEL", cut)
            for i in range(20):
                c.send_body(c.request("PUT_DATA", flags=0, size=0, total_len=900 * i + 1), content(i, 900 * i + 1))
            time.sleep(0.02 * life)
            d.kill()
            result = check(d.state)
            self.assertEqual((result.returncode, result.stdout), (SOUND, ""), f"life {life}")

    def test_damaged_body(self):
        d, cap, big = self.stored()
        store = d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        at = data.index(big[150000:150100])
        data[at] ^= 4
        store.write_bytes(data)
        result = check(d.state)
        self.assertEqual(result.returncode, DAMAGED)
        self.assertIn(f"{cap.hex()} body: chunk ", result.stdout)
        self.assertIn(": damaged, 1 finding", result.stderr)
        # The daemon does not serve it, says so, and tells when it was first seen.
        d.start()
        c = self.connect(d)
        self.assertRefuses("corrupt", c.get, cap)
        harness.wait_until(lambda: d.admin("cap.stat", hash=cap.hex())["damaged"] is not None, "the fact to be kept")
        self.assertIn(cap.hex(), d.log())

    def test_engine_crash_is_a_finding(self):
        """Pages whose headers lie: LMDB crashes, or says so; either is a finding."""
        d, _, _ = self.stored()
        store = d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        for fill in (b"\xff", b"\x5a", b"\x01", b"\x00"):
            hurt = bytearray(data)
            for page in range(2, len(data) // 4096):
                hurt[page * 4096 + 16:page * 4096 + 200] = fill * 184
            store.write_bytes(hurt)
            result = check(d.state)
            self.assertEqual(result.returncode, DAMAGED, (fill, result))
            self.assertTrue(result.stdout)
        store.write_bytes(data[:len(data) // 2])
        result = check(d.state)
        self.assertEqual(result.returncode, DAMAGED, result)
        self.assertRegex(result.stdout, "store page [0-9]+ lies past the end of the file")
        self.assertIn("the storage engine crashed (SIGBUS) while reading", result.stdout)

    def test_what_cannot_be_checked(self):
        d = self.daemon()
        result = check(d.state)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("another capstored uses", result.stderr)
        d.stop()
        empty = self.root / "empty"
        empty.mkdir()
        result = check(empty)
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(list(empty.iterdir()), [], "nothing is made")
        result = subprocess.run([harness.CAPSTORED, "--check"], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, USAGE)
        result = check(empty, "--no-such-option")
        self.assertEqual(result.returncode, USAGE)

    @unittest.skipIf(os.environ.get("CAPSTORE_SANITIZED"), "a sanitizer has handlers of its own")
    def test_a_crash_names_the_check(self):
        for number, name in ((signal.SIGSEGV, "SIGSEGV"), (signal.SIGBUS, "SIGBUS")):
            d = self.daemon(name=name)
            d.process.send_signal(number)
            self.assertEqual(d.process.wait(START_SECONDS), -number)
            d.process = None
            line = [line for line in d.log().splitlines() if "crashed" in line]
            self.assertEqual(len(line), 1, d.log())
            self.assertIn(f"signal={name} ", line[0])
            self.assertIn(f"capstored --check --state {d.state}", line[0])
            self.assertEqual(check(d.state).returncode, SOUND)


if __name__ == "__main__":
    unittest.main()
