"""A store on a file system of 64 MiB that fills up: refused by name, reads go on, and well again by itself."""

import json
import os
import shutil
import subprocess
import unittest

import wire
from harness import Daemon, SystemTest, content, wait_until
from protocol import Refused

MIB = 1 << 20
SIZE = 64 * MIB
TMPFS = 'mount -t tmpfs -o mode=700,size="$1" none "$2"'
EXT4 = 'truncate -s "$1" "$2.img" && mkfs.ext4 -q -m 0 "$2.img" && mount -o loop "$2.img" "$2" && chmod 700 "$2"'
HOLD = " && echo mounted && exec cat"  # for as long as somebody holds the other end of its pipe


class Disk:
    """A file system in a mount namespace of its own, which daemons come into and leave."""

    def __init__(self, mount, directory):
        directory.mkdir()
        self.directory = directory
        self.holder = subprocess.Popen(["unshare", "-m", "sh", "-c", mount + HOLD, "sh", str(SIZE), str(directory)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.mounted = self.holder.stdout.readline() == b"mounted\n"

    def close(self):
        self.holder.communicate()

    def enter(self, command):
        return ["nsenter", "-m", "-t", str(self.holder.pid), *command]

    def path(self, name=""):
        return f"/proc/{self.holder.pid}/root{self.directory}/{name}"

    def free(self):
        figures = os.statvfs(self.path())
        return figures.f_bavail * figures.f_frsize

    def put(self, name, size):
        with open(self.path(name), "wb") as file:
            file.write(bytes(size))

    def fill(self):
        """A foreign file takes all that is left, in small and smaller pieces."""
        with open(self.path("foreign"), "ab", buffering=0) as file:
            for piece in (MIB, 4096, 1):
                try:
                    while file.write(bytes(piece)) == piece:
                        os.fsync(file.fileno())
                except OSError:
                    pass

    def empty(self):
        os.unlink(self.path("foreign"))


class OnDisk(Daemon):
    disk = None

    def command(self):
        return self.disk.enter(super().command())


class Full(SystemTest):
    """On tmpfs; below, the same on ext4, which reports a full disk in other ways."""

    MOUNT = TMPFS

    def setUp(self):
        super().setUp()
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            self.skipTest("needs unshare and nsenter")
        disk = Disk(self.MOUNT, self.root / "state")
        self.addCleanup(disk.close)
        if not disk.mounted:
            self.skipTest("needs the right to mount in a namespace of its own")
        self.d = OnDisk(self.root, "--disk-reserve", "1M", "--threads", "1")
        self.d.disk = disk
        self.daemons.append(self.d)
        self.disk = disk
        self.d.start()
        self.there = {}
        self.with_figures = 0  # refusals that told theirs

    def put(self, c, number, size):
        data = content(f"{number} {size}", size)
        self.there[number, size] = c.put_data(data)["cap_hash"]

    def may_put(self, c, number, size):
        """Whether there is room; a refusal is by name."""
        try:
            self.put(c, number, size)
        except Refused as error:
            self.assertEqual(error.name, "disk_full", error.message)
            if error.detail:
                need, have, limit = error.shortage()
                self.assertGreater(need, have)
                self.assertGreaterEqual(need, size)
                self.assertEqual(limit, "")
                self.with_figures += 1
            return False
        return True

    def fill(self, c, first, size):
        number = first
        while self.may_put(c, number, size):
            number += 1
            self.assertLess(number - first, 3000, "never full")
        return number

    def check(self, c):
        """Reads and lookups go on."""
        hashes = list(self.there.values())
        self.assertEqual(c.has(hashes[:1000]), [2] * len(hashes[:1000]))
        for (number, size), cap_hash in self.there.items():
            self.assertEqual(wire.data_content(c.get(cap_hash)[1])[:size], content(f"{number} {size}", size))

    def wait_for_room(self, c, number, size):
        wait_until(lambda: self.may_put(c, number, size), "room")

    def test_filled_by_publications(self):
        self.disk.put("ballast", 8 * MIB)
        c = self.connect(self.d)
        self.fill(c, 0, 3 * MIB)
        self.fill(c, 0, 200000)
        self.fill(c, 0, 4000)
        self.assertGreater(len(self.there), 15)
        self.check(c)
        self.assertIn("disk_full", self.d.log())
        self.assertGreater(self.with_figures, 0)
        # The last of the disk goes to somebody else; then a restart.
        self.disk.fill()
        self.check(c)
        self.assertFalse(self.may_put(c, 9000, 2 * MIB))
        c.close()
        self.assertEqual(self.d.stop(), 0, self.d.log())
        self.d.start()
        c = self.connect(self.d)
        self.check(c)
        self.assertFalse(self.may_put(c, 9001, 2 * MIB))
        self.d.kill()
        self.d.start()
        c = self.connect(self.d)
        self.check(c)
        warnings = [warning["reason"] for warning in self.d.admin("status")["warnings"]]
        self.assertIn("disk_low", warnings)
        self.disk.empty()
        os.unlink(self.disk.path("ballast"))
        self.wait_for_room(c, 9002, 2 * MIB)
        self.check(c)

    def test_filled_by_somebody_else(self):
        """A foreign file fills the disk while there is work, and goes away: no restart."""
        c = self.connect(self.d)
        self.put(c, 0, 4 * MIB)
        for number in range(20):
            self.put(c, number, 5000)
        for turn in range(3):
            self.disk.fill()
            self.assertFalse(self.may_put(c, 100 + turn, 3 * MIB))
            self.check(c)
            self.disk.empty()
            self.wait_for_room(c, 100 + turn, 3 * MIB)
        self.check(c)
        self.assertIsNone(self.d.process.poll())
        self.assertEqual(self.d.stop(), 0)

    def test_deleted_on_a_full_disk(self):
        self.disk.put("ballast", 8 * MIB)
        c = self.connect(self.d)
        self.fill(c, 0, 2 * MIB)
        self.fill(c, 0, 30000)
        self.disk.fill()
        self.check(c)
        for key, cap_hash in list(self.there.items())[::2]:
            self.d.admin("cap.delete", hash=cap_hash.hex(), force=True)
            del self.there[key]
            self.assertEqual(c.has([cap_hash]), [0])
        self.check(c)
        # What was deleted is room in the store; the spool has none but in memory, before the disk has.
        wait_until(lambda: self.d.admin("status")["file_free_bytes"] > 10 * MIB, "the sweep")
        self.wait_for_room(c, 9000, 4000)
        self.disk.empty()
        os.unlink(self.disk.path("ballast"))
        self.wait_for_room(c, 9001, 3 * MIB)
        self.check(c)


class FullExt4(Full):
    MOUNT = EXT4


class Quotas(SystemTest):
    """A quota that is reached is refused before the payload, and raised by a reload."""

    def refused(self, c, data):
        with self.assertRaises(Refused) as caught:
            c.put_data(data)
        self.assertEqual(caught.exception.name, "quota_exceeded")
        self.shortage = caught.exception.shortage()
        return caught.exception.message

    def check_figures(self, need, have, limit):
        """Of the last refusal: on the wire, for operators, and of the same upload by the tool."""
        self.assertEqual(self.shortage, (need, have, limit))
        entry = self.d.admin("refusals.list", limit=1)["refusals"][0]
        self.assertEqual((entry["need"], entry["have"], entry["reason"]), (need, have, "quota_exceeded"))
        path = self.root / "upload"
        path.write_bytes(content("second", 50000))
        done = self.d.capctl("put", path)
        self.assertEqual(done.status, 3)
        refused = done.json
        self.assertEqual((refused["error"], refused["need"], refused["have"], refused["limit"]),
                         ("quota_exceeded", need, have, limit))

    def start_with(self, **quotas):
        self.file = self.root / "config.json"
        self.configure(**quotas)
        self.d = self.daemon("--config", str(self.file))
        return self.connect(self.d)

    def configure(self, **quotas):
        self.file.write_text(json.dumps({f"quota-{name}": value for name, value in quotas.items()}))

    def test_reached_and_raised(self):
        c = self.start_with(bytes=100000)
        there = c.put_data(content("first", 60000))["cap_hash"]
        me = f"uid {os.getuid()}"
        had = self.d.admin("quota.list")["publishers"][0]
        self.assertEqual((had["uid"], had["caps"], had["under_way_bytes"]), (os.getuid(), 1, 0))
        message = self.refused(c, content("second", 50000))
        self.assertEqual(message, f"over quota-bytes of {me}: need 50000 bytes, have {100000 - had['bytes']} of 100000")
        self.check_figures(50000, 100000 - had["bytes"], "quota-bytes")
        # By what is declared, before the payload: nothing of it has been sent.
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=50000)
        with self.assertRaises(Refused):
            c.wait(request_id, "PUT_DATA_REPLY")
        # What is under way counts.
        waiting = c.request("PUT_DATA", flags=0, size=0, total_len=30000)
        wait_until(lambda: self.d.admin("quota.list")["publishers"][0]["under_way_bytes"] == 30000, "the upload")
        self.refused(c, content("third", 20000))
        c.send_body(waiting, content("fourth", 30000))
        c.wait(waiting, "PUT_DATA_REPLY")
        self.assertEqual(wire.data_content(c.get(there)[1])[:60000], content("first", 60000))
        self.configure(bytes=1000000)
        self.d.admin("config.reload")
        c.put_data(content("second", 50000))
        self.configure(bytes=1000000, caps=3)
        self.d.admin("config.reload")
        self.assertIn("need 1 caps, have 0 of 3", self.refused(c, b"one more"))
        self.check_figures(1, 0, "quota-caps")
        self.assertEqual(self.d.figures()["capstore_publisher_caps_limit"], 3)
        self.configure(hourly=200000)
        self.d.admin("config.reload")
        self.assertIn("over quota-hourly", self.refused(c, content("hour", 90000)))
        self.configure(total=150000)
        self.d.admin("config.reload")
        self.assertIn("over quota-total of all publishers", self.refused(c, content("all", 90000)))
        self.configure()
        self.d.admin("config.reload")
        c.put_data(content("all", 90000))

    def test_tcp_is_one_publisher(self):
        self.file = self.root / "config.json"
        self.configure(caps=2)
        d = self.daemon("--config", str(self.file), listen=[f"unix:{self.root}/capstore.sock", "tcp:127.0.0.1:0"])
        self.d = d
        port = d.admin("status")["listening"][1]
        for number in range(2):
            with d.connect(address=port) as c:
                c.put_data(content(f"tcp {number}", 100))
        with d.connect(address=port) as c:
            self.assertIn("of all TCP clients", self.refused(c, b"third"))
        with d.connect() as c:
            c.put_data(b"third")
        names = [row["publisher"] for row in d.admin("quota.list")["publishers"]]
        self.assertEqual(names, [f"uid:{os.getuid()}", "anonymous"])


if __name__ == "__main__":
    unittest.main()
