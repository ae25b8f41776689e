"""The drill: what an operator breaks, or finds broken, is named in one sentence that says what to do.

Each test breaks one thing under a real daemon, and reads what `capctl status`, `capctl why` or the last line of a start
that failed says. named() holds these to the form: one line, what is wrong, what to do.
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time
import unittest

import harness
import wire
from harness import AdminError, PAGE, SystemTest, content, wait_until
from protocol import Refused

ODD_WORLD = os.environ.get("CAPSTORE_ODD_WORLD", "build/tests/support/libodd_world.so")
HOLD_SNAPSHOT = os.environ.get("CAPSTORE_HOLD_SNAPSHOT", "build/tests/support/hold_snapshot")
MIB = 1 << 20
ROOT = os.geteuid() == 0


class Drill(SystemTest):
    def named(self, sentence, wrong, to_do):
        self.assertNotIn("\n", sentence)
        self.assertLess(len(sentence), 512)
        self.assertRegex(sentence, wrong)
        self.assertRegex(sentence, to_do)

    def status(self, d):
        return self.ok(d.capctl("--admin", f"unix:{d.admin_path}", "status"))

    def why(self, d, cap_hash):
        return self.ok(d.capctl("--admin", f"unix:{d.admin_path}", "why", cap_hash.hex()))

    def warning(self, d, reason):
        """The sentence of a warning in `capctl status`, once it is there."""
        found = []

        def there():
            found[:] = [row["message"] for row in self.status(d)["warnings"] if row["reason"] == reason]
            return found

        wait_until(there, f"the warning {reason}")
        return found[0]

    def no_warning(self, d, reason):
        wait_until(lambda: reason not in [row["reason"] for row in self.status(d)["warnings"]], f"{reason} to go")

    def last_line(self, *command, status=1, env=None, limits=()):
        """What a capstored that fails says last."""
        def limit():
            for which, value in limits:
                resource.setrlimit(which, (value, value))

        done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                              env=env, preexec_fn=limit, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr.strip().splitlines()[-1]

    def store_file(self, d):
        return d.state / "store" / "store.lmdb"

    @staticmethod
    def odd(**settings):
        return dict(os.environ, LD_PRELOAD=ODD_WORLD, **{f"ODD_{name.upper()}": str(value) for name, value in settings.items()})

    def start_odd(self, d, **settings):
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(d.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.odd(**settings))
        wait_until(d.ready, "the daemon to answer")

    @unittest.skipUnless(ROOT, "only root may mount")
    def test_full_disk(self):
        mount = self.root / "disk"
        mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", mount], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", mount], check=False)
        d = self.daemon(start=False)
        d.state = mount / "state"
        d.start()
        c = self.connect(d)
        cap_hash = c.put_data(b"before")["cap_hash"]
        self.assertEqual(self.status(d)["warnings"], [])
        filler = mount / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], check=False, capture_output=True)
        self.named(self.warning(d, "disk_low"), "the disk is full: 0 MiB are free", "free some, and they go on")
        refused = self.assertRefuses("disk_full", c.put_data, content("more", MIB))
        self.named(refused.message, "disk", "free")
        self.assertEqual(c.get(cap_hash)[1][-6:], b"before")
        filler.unlink()
        self.no_warning(d, "disk_low")
        wait_until(lambda: self.publishes(c), "publications to go on")
        c.close()
        self.assertEqual(d.stop(), 0)

    @staticmethod
    def publishes(c):
        try:
            return c.put_data(content("again", MIB))["cap_hash"]
        except Refused:
            return None

    @unittest.skipUnless(ROOT, "only root may become another user")
    def test_lost_permission(self):
        self.root.chmod(0o755)
        d = self.daemon(start=False)
        d.root.chmod(0o777)
        d.start().stop()
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        subprocess.run(["chown", "-R", "65534:65534", d.state], check=True)
        self.store_file(d).chmod(0)
        line = self.last_line(*as_nobody, *d.command())
        self.named(line, "cannot open the store in .*store", "must be readable and writable for the user that runs capstored")

    @unittest.skipUnless(ROOT, "only root may give files away")
    def test_wrong_owner(self):
        d = self.daemon()
        self.assertEqual(d.stop(), 0)
        subprocess.run(["chown", "-R", "65534:65534", d.state], check=True)
        self.named(self.last_line(*d.command(), status=64), "belongs to user 65534, and capstored runs as root", "chown -R root")

    def test_refused_image(self):
        d = self.daemon()
        image = wire.image(code=(0, 4), endpoints=[(b"\x00", wire.endpoint(0))], arena=b"\x13\x00\x00\x00",
                           pinned=[(b"\x40", wire.pinned_image(bytes(range(32))))])
        result = d.capctl("publish", self.file("image", image), json_output=False)
        self.assertStatus(result, 1)
        message, = [line for line in result.stdout.decode().splitlines() if line.startswith("message: ")]
        self.named(message, "1 slot names a cap that is not published here", "publish first: 0001")
        why = self.why(d, bytes(range(32)))
        self.named(why["summary"], "it is not here", "a refusal names it, which says what to fix")
        self.named(why["refusal"]["message"], "not published here", "publish first: 0001")

    def test_stale_reader(self):
        d = self.daemon()
        with subprocess.Popen([HOLD_SNAPSHOT, self.store_file(d)], stdout=subprocess.PIPE) as reader:
            self.assertEqual(reader.stdout.readline(), b"holding\n")
            self.named(self.warning(d, "foreign_reader"), f"process {reader.pid} reads the store's files", "end it")
            reader.kill()
        self.assertUsable(self.connect(d))

    def test_network_file_system(self):
        d = self.daemon(start=False)
        line = self.last_line(*d.command(), status=64, env=self.odd(network=1))
        self.named(line, "on a network file system", "local disk")

    def test_slow_client(self):
        d = self.daemon("--progress-ms", "200")
        c = self.connect(d)
        c.request("PUT_DATA", flags=0, size=0, total_len=PAGE)
        self.named(self.warning(d, "slow_clients"), "the client did not keep up: 1, the last of unix:uid=",
                   "raise progress-ms or lower min-upload-rate")

    def test_clock_jump(self):
        d = self.daemon(start=False)
        clock = self.file("clock", b"0")
        self.start_odd(d, clock=clock)
        self.assertEqual(self.status(d)["warnings"], [])
        clock.write_bytes(b"3600")
        self.named(self.warning(d, "clock_differs"), "the machine's clock is 3[56][0-9]{2} s ahead of the daemon's",
                   r"if it is wrong, set it \(timedatectl\); if it is right, restart capstored")
        clock.write_bytes(b"-3600")
        self.named(self.warning(d, "clock_differs"), "3[56][0-9]{2} s behind the store's", "timedatectl")
        clock.write_bytes(b"0")
        self.no_warning(d, "clock_differs")
        self.assertUsable(self.connect(d))

    def test_corrupt_configuration(self):
        config = self.file("config.json", b'{\n"max-upload": "1G",\n"max-slots": 0\n}')
        d = self.daemon("--config", str(config), start=False)
        self.named(self.last_line(*d.command(), status=64), f"{config}: line 3: max-slots: 0 is not", "between 1 and 65535")
        config.write_bytes(b'{\n"max-upload": "1G"\n}')
        d.start()
        config.write_bytes(b'{\n"max-upload" "1G"\n}')
        d.process.send_signal(signal.SIGHUP)
        self.named(self.warning(d, "config_not_reloaded"), f"{config}: line 2, column", "fix the file, then capctl config reload")

    def test_second_daemon(self):
        d = self.daemon()
        other = self.root / "other.sock"
        line = self.last_line(harness.CAPSTORED, "--state", d.state, "--listen", f"unix:{other}")
        self.named(line, f"another capstored uses {d.state}", "stop it, or give another --state")
        line = self.last_line(harness.CAPSTORED, "--state", self.root / "other", "--listen", d.address)
        self.named(line, "is in use", "stop the process that serves it, or give another path")

    def test_map_too_small(self):
        d = self.daemon("--map-size", "40M")
        c = self.connect(d)
        refused = None
        for number in range(48):
            try:
                c.put_data(content(number, MIB))
            except Refused as error:
                refused = error
        self.assertEqual(refused.name, "map_full")
        self.named(self.warning(d, "map_low"), "can take [0-9]+ MiB more before its map is full",
                   "restart capstored with a larger map-size than 40 MiB")
        self.assertUsable(c)
        self.assertEqual(d.stop(), 0)

    def test_descriptor_limit(self):
        d = self.daemon(start=False)
        line = self.last_line(*d.command(), limits=[(resource.RLIMIT_NOFILE, 24)])
        self.named(line, "the limit is 24 file descriptors, and at least [0-9]+ are needed", "raise it")
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(["prlimit", "--nofile=100:100", *d.command()], stdout=log, stderr=log)
        wait_until(d.ready, "the daemon to answer")
        self.named(self.warning(d, "too_few_file_descriptors"), "[0-9]+ clients are served instead of 1024",
                   "raise the limit .*LimitNOFILE=")

    def test_killed_worker(self):
        """The process in which --check reads the store is killed, as the kernel does when memory is short."""
        d = self.daemon()
        self.connect(d).put_data(content("large", 32 * MIB))
        self.assertEqual(d.stop(), 0)
        line = ""
        while "SIGKILL" not in line:  # unless it had ended before
            command = [harness.CAPSTORED, "--check", "--state", str(d.state)]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as check:
                children = pathlib.Path(f"/proc/{check.pid}/task/{check.pid}/children")
                killed = False  # once: a sanitizer that looks for leaks at the end has a child of its own
                while check.poll() is None and not killed:
                    for child in children.read_text().split() if children.exists() else ():
                        self.kill(int(child))
                        killed = True
                line = check.stderr.read().strip().splitlines()[-1]
        self.named(line, "the check was ended by SIGKILL", "run it again.*dmesg")

    @staticmethod
    def kill(process):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had ended

    def test_quarantined_cap(self):
        """A byte of a body flips at rest."""
        d, cap_hash = self.with_flipped(lambda data, cap_hash: data.index(content(7, 3 * PAGE)[100:164]))
        c = self.connect(d)
        refused = self.quarantined(c, cap_hash)
        self.named(refused.message, cap_hash.hex(), "publish it again to heal it, or fetch it elsewhere")
        self.named(self.why(d, cap_hash)["summary"], "its bytes are damaged, so it is quarantined", "publish it again, which heals it")

    def test_lost_index_page(self):
        """A page of the index is gone: zeros."""
        d, cap_hash = self.with_flipped(lambda data, cap_hash: data.index(cap_hash) // PAGE * PAGE, PAGE)
        c = self.connect(d)
        refused = self.quarantined(c, cap_hash)
        self.named(refused.message, cap_hash.hex(), "publish it again to heal it, or fetch it elsewhere")
        self.assertEqual(d.stop(), 0)
        done = subprocess.run([harness.CAPSTORED, "--check", "--state", d.state], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 1)

    def quarantined(self, c, cap_hash):
        """The refusal of a cap that is found damaged: the one who finds it is told as later ones are."""
        refused = self.assertRefuses("quarantined", c.get, cap_hash)
        wait_until(lambda: c.has([cap_hash]) == [0], "the quarantine to be known to HAS")
        return refused

    def with_flipped(self, place, length=1):
        """A daemon whose store has other bytes at a place, and the cap that this concerns."""
        d = self.daemon()
        c = self.connect(d)
        cap_hash = [c.put_data(content(number, 3 * PAGE)) for number in range(64)][7]["cap_hash"]
        c.close()
        self.assertEqual(d.stop(), 0)
        data = bytearray(self.store_file(d).read_bytes())
        at = place(data, cap_hash)
        data[at:at + length] = bytes(byte ^ 0xff for byte in data[at:at + length]) if length == 1 else bytes(length)
        self.store_file(d).write_bytes(data)
        return d.start(), cap_hash


if __name__ == "__main__":
    unittest.main()
