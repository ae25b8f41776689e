"""Every limit of the daemon, made small and hit: the error by its name, and life goes on."""

import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import termios
import threading
import time
import unittest

import wire
from harness import PAGE, SANITIZED, Daemon, SystemTest, content, free_port, wait_until
from protocol import END, Closed, Refused
from raw import FRAME_MAX, NO_HASH

MIB = 1 << 20


class Connections(SystemTest):
    def turned_away(self, d, **options):
        with d.connect(hello=False, **options) as c:
            return self.assertEnds(c, "too_many_connections")

    def admitted(self, d, **options):
        """Whether there is room again."""
        try:
            with d.connect(**options):
                return True
        except (Refused, Closed):
            return False

    def unread(self, c):
        return struct.unpack("=i", fcntl.ioctl(c.sock, termios.FIONREAD, bytes(4)))[0]

    def test_unread(self):
        """What was lent to a client that does not read it stays its own, and counted, when its connection ends."""
        d = self.daemon("--max-connections", "3", "--max-peer-connections", "2", "--threads", "1")
        c = self.connect(d)
        cap_hash = c.put_data(content("unread", MIB))["cap_hash"]
        body = [c.get(cap_hash)[1] for _ in range(3)][0]
        wait_until(lambda: d.figures()["capstore_body_cache_bytes"] >= MIB, "the body to be kept")
        slow = self.connect(d)
        request_id = slow.request("GET", hash=cap_hash, offset=0, len=64 << 10)
        wait_until(lambda: self.unread(slow) > 64 << 10, "the answer")
        slow.sock.shutdown(socket.SHUT_WR)
        for _ in range(3):
            time.sleep(0.5)
            self.turned_away(d)
        slow.wait(request_id, "GET_REPLY")
        self.assertEqual(slow.recv_body(request_id), body[:64 << 10])
        with self.assertRaises(Closed):
            slow.recv_frame()
        wait_until(lambda: self.admitted(d), "room again")
        slow.close()
        self.assertUsable(c)

    def test_unread_at_the_end(self):
        """A client that does not read what was lent to it does not hold up the daemon's end."""
        d = self.daemon("--threads", "1")
        c = self.connect(d)
        cap_hash = c.put_data(content("unread", MIB))["cap_hash"]
        for _ in range(3):
            c.get(cap_hash)
        slow = self.connect(d)
        slow.request("GET", hash=cap_hash, offset=0, len=64 << 10)
        wait_until(lambda: self.unread(slow) > 64 << 10, "the answer")
        slow.sock.shutdown(socket.SHUT_WR)
        c.close()
        self.assertEqual(d.stop(10), 0)

    def test_in_all(self):
        d = self.daemon("--max-connections", "3", "--max-peer-connections", "3")
        held = [self.connect(d) for _ in range(3)]
        self.assertEqual(self.turned_away(d)["id"], 0)
        for c in held:
            self.assertUsable(c)
        self.assertEqual(d.admin("status")["sessions"], {"open": 3, "limit": 3, "peer_limit": 3})
        held[0].close()
        wait_until(lambda: self.admitted(d), "the place of the one that left")

    def test_of_one_peer(self):
        """A user of the Unix socket and an address of TCP are two peers."""
        d = self.daemon("--max-peer-connections", "2", start=False)
        d.listen.append(f"tcp:127.0.0.1:{free_port()}")
        d.start()
        for address in d.listen:
            held = [self.connect(d, address=address) for _ in range(2)]
            self.turned_away(d, address=address)
            self.assertUsable(held[0])
        held[0].close()
        wait_until(lambda: self.admitted(d, address=d.listen[1]), "the place of the one that left")
        self.turned_away(d, address=d.listen[0])


    def test_of_the_process(self):
        """With few descriptors, who is too many is still told so, and operators are not locked out."""
        d = self.daemon("--max-peer-connections", "1000", start=False)
        command = d.command()
        d.command = lambda: ["sh", "-c", 'ulimit -n 80; exec "$@"', "sh", *command]
        d.start()
        status = d.admin("status")
        connections, uploads = status["sessions"]["limit"], status["uploads"]["limit"]
        self.assertGreaterEqual(connections, 12)
        self.assertGreaterEqual(uploads, 4)
        held = [self.connect(d) for _ in range(connections)]
        for _ in range(60):
            self.turned_away(d)
        self.assertUsable(held[0])
        self.assertEqual(d.admin("status")["sessions"]["open"], connections)
        self.assertRegex(d.log(), rf" warning too_few_file_descriptors limit=80 needed=\d+ "
                                  rf"max_connections={connections} max_uploads={uploads} ")
        self.assertNotIn(" error fault", d.log())


class Requests(SystemTest):
    def test_in_flight(self):
        d = self.daemon("--max-requests", "2")
        c = self.connect(d)
        first, second = (c.request("PUT_DATA", flags=0, size=0, total_len=10) for _ in range(2))
        for name, fields in (("HAS", {"hashes": b""}), ("STAT", {"hash": NO_HASH}),
                             ("GET", {"hash": NO_HASH, "offset": 0, "len": 0})):
            request_id = c.request(name, **fields)
            self.assertRefuses("too_many_requests", c.wait, request_id, name + "_REPLY")
        c.cancel(first)
        self.assertRefuses("cancelled", c.wait, first, "PUT_DATA_REPLY")
        self.assertUsable(c)
        c.send_frame("BODY", second, b"0123456789", END)
        c.wait(second, "PUT_DATA_REPLY")

    def test_refused_uploads_left_open(self):
        """They count as in flight; more of them than requests are allowed end the connection."""
        d = self.daemon("--max-requests", "2")
        c = self.connect(d)
        for _ in range(2):
            request_id = c.request("PUT_DATA", flags=0, size=0, total_len=2**60)
            self.assertRefuses("upload_too_large", c.wait, request_id, "PUT_DATA_REPLY")
        self.assertRefuses("too_many_requests", c.has, [])
        c.request("PUT_DATA", flags=0, size=0, total_len=1)
        self.assertEqual(self.assertEnds(c, "too_many_requests")["id"], 0)

    def test_log_of_aborted_uploads(self):
        """A peer that cancels again and again does not fill the log: 20 lines in a second."""
        d = self.daemon()
        c = self.connect(d)
        began = time.monotonic()
        for _ in range(500):
            request_id = c.request("PUT_DATA", flags=0, size=0, total_len=10)
            c.cancel(request_id)
            self.assertRefuses("cancelled", c.wait, request_id, "PUT_DATA_REPLY")
        seconds = int(time.monotonic() - began) + 2
        lines = len(re.findall(" (?:upload_aborted|refused) ", d.log()))
        self.assertGreater(lines, 0)
        self.assertLessEqual(lines, 20 * seconds)

    def test_log_of_what_is_there(self):
        """Nor does one that publishes the same thing again and again."""
        d = self.daemon()
        c = self.connect(d)
        began = int(time.time())
        for _ in range(500):
            c.put_data(b"")
        ended = int(time.time())
        lines = d.log().count(" info published ")
        self.assertGreater(lines, 1)
        self.assertLessEqual(lines, 1 + 20 * (ended - began + 1))
        wait_until(lambda: time.time() >= ended + 1, "another second")
        c.put_data(b"")
        self.assertIn(" lines_not_logged event=published count=", d.log())

    def test_hashes(self):
        d = self.daemon("--max-hashes", "10")
        c = self.connect(d)
        self.assertEqual(c.has([NO_HASH] * 10), [0] * 10)
        self.assertRefuses("too_many_hashes", c.has, [NO_HASH] * 11)
        self.assertUsable(c)

    def test_limits_are_told(self):
        options = {"requests": 3, "hashes": 5, "upload": 8192, "structure": 2048, "data": 4096}
        arguments = [word for name, value in options.items() for word in (f"--max-{name}", str(value))]
        d = self.daemon(*arguments, "--idle-ms", "40000", "--progress-ms", "0")
        c = self.connect(d, hello=False)
        reply = c.hello()
        self.assertEqual({name: reply[f"limits.{name}"] for name in options}, options)
        self.assertEqual((reply["limits.idle_ms"], reply["limits.progress_ms"]), (40000, 0))
        self.assertEqual(reply["limits.frame"], FRAME_MAX)
        self.assertEqual(reply["store_id"].hex(), d.admin("hello")["store_id"])


class Uploads(SystemTest):
    def test_length(self):
        d = self.daemon("--max-upload", "8192")
        c = self.connect(d)
        c.put_data(content("fits", 8192))
        head = wire.image(code=(0, 0))
        fits = wire.image(code=(0, 8192 - len(head)), arena=content("code", 8192 - len(head)))
        self.assertEqual(len(fits), 8192)
        c.put_image(fits)
        self.assertRefuses("upload_too_large", c.put_data, bytes(8193))
        self.assertRefuses("upload_too_large", c.put_image, fits + b"\0")
        # The logical size is not uploaded.
        self.assertEqual(c.put_data(b"x", size=1 << 40)["size"], 1 << 40)

    def test_structure(self):
        d = self.daemon("--max-structure", "1024")
        c = self.connect(d)
        empty = len(wire.image(endpoints=[(b"", wire.endpoint(0))]))
        for length, fits in ((1024, True), (1025, False)):
            image = wire.image(endpoints=[(bytes(length - empty), wire.endpoint(0))], arena=b"arena")
            self.assertEqual(len(image), length + 5)
            if fits:
                c.put_image(image)
            else:
                self.assertRefuses("structure_too_large", c.put_image, image)
        self.assertUsable(c)

    def test_structure_is_refused_by_the_fixed_part(self):
        d = self.daemon("--max-structure", "1024")
        c = self.connect(d)
        image = wire.image(endpoints=[(bytes(100000), wire.endpoint(0))])
        request_id = c.request("PUT_IMAGE", flags=0, total_len=len(image))
        c.send_frame("BODY", request_id, image[:40])
        self.assertRefuses("structure_too_large", c.wait, request_id, "PUT_IMAGE_REPLY")
        c.cancel(request_id)
        self.assertUsable(c)

    def test_slots(self):
        d = self.daemon("--max-slots", "2")
        c = self.connect(d)
        c.put_image(wire.simple_image(b"code", [(b"a", b"1"), (b"b", b"2")]))
        self.assertRefuses("structure_too_large", c.put_image,
                           wire.simple_image(b"code", [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]))

    def test_data(self):
        d = self.daemon("--max-data", "8192")
        c = self.connect(d)
        for length, fits in ((PAGE, True), (1, False)):
            pages = [(0, 0, PAGE), (1, 0, PAGE)] if fits else [(0, 0, PAGE), (1, 0, PAGE), (2, 0, length)]
            image = wire.image(initial=[(b"a", wire.data_desc(3 * PAGE, pages))], arena=content("data", PAGE))
            if fits:
                c.put_image(image)
            else:
                self.assertRefuses("data_too_large", c.put_image, image)
        self.assertUsable(c)

    def amplified(self, windows):
        """An Image in which every window is the same page: (image, bytes that its windows name)."""
        desc = wire.data_desc(windows * PAGE, [(i, 0, PAGE) for i in range(windows)])
        return wire.image(initial=[(b"a", desc)], arena=content("page", PAGE)), windows * PAGE

    def test_amplification(self):
        """A megabyte of structure that names hundreds: refused before the arena, or hashed in bounded memory."""
        image, named = self.amplified(87000)
        self.assertGreater(named, 300 * MIB)
        self.assertLess(len(image), 1100000)
        d = self.daemon("--max-data", "64M", name="small")
        c = self.connect(d)
        request_id = c.request("PUT_IMAGE", flags=0, total_len=len(image))
        for at in range(0, len(image) - PAGE, FRAME_MAX):
            c.send_frame("BODY", request_id, image[at:min(at + FRAME_MAX, len(image) - PAGE)])
        self.assertRefuses("data_too_large", c.wait, request_id, "PUT_IMAGE_REPLY")
        c.cancel(request_id)
        self.assertUsable(c)

        d = self.daemon(name="roomy")
        done = threading.Event()
        most = [0]

        def watch():
            while not done.is_set():
                most[0] = max(most[0], d.memory())
                time.sleep(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with d.connect(timeout=200) as c:
                reply = c.put_image(image)
                self.assertEqual((reply["is_new"], reply["data_new"]), (1, 1))
        finally:
            done.set()
            watcher.join()
        if not SANITIZED:
            self.assertLess(most[0], 64 * MIB)
        self.assertLess(d.admin("status")["body_bytes"]["data"], 1100000 + PAGE, "one page is stored once")


class Spool(SystemTest):
    def hold(self, c, length):
        """An upload that stays open, reserved."""
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=length)
        c.send_frame("BODY", request_id, b"x")
        c.has([])  # handled in order, so the upload has begun
        return request_id

    def release(self, c, request_id):
        c.cancel(request_id)
        self.assertRefuses("cancelled", c.wait, request_id, "PUT_DATA_REPLY")

    def is_full(self, c, length):
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=length)
        self.assertRefuses("spool_full", c.wait, request_id, "PUT_DATA_REPLY")
        c.send_frame("BODY", request_id, b"", END)
        self.assertUsable(c)

    def test_in_all(self):
        d = self.daemon("--max-spool", "1M", "--max-peer-spool", "1M")
        c, other = self.connect(d), self.connect(d)
        held = self.hold(c, 600000)
        self.is_full(other, 600000)
        self.hold(other, MIB - 600000)
        self.is_full(other, 1)
        self.assertEqual(d.admin("status")["spool"], {"bytes": MIB, "limit_bytes": MIB, "peer_limit_bytes": MIB})
        self.release(c, held)
        other.put_data(content("room again", 600000))

    def test_of_one_peer(self):
        d = self.daemon("--max-peer-spool", "1M", "--max-spool", "4M", start=False)
        d.listen.append(f"tcp:127.0.0.1:{free_port()}")
        d.start()
        local, second, remote = (self.connect(d, address=d.listen[i]) for i in (0, 0, 1))
        self.hold(local, MIB)
        self.is_full(second, 1000)
        remote.put_data(content("another peer", 600000))

    def test_uploads(self):
        d = self.daemon("--max-uploads", "2", "--max-peer-uploads", "2")
        c = self.connect(d)
        held = [self.hold(c, 10), self.hold(c, 10)]
        self.is_full(c, 10)
        self.release(c, held[0])
        c.put_data(b"room again")

    def test_memory(self):
        """One Image's head is too much; or those of many together, until some are gone."""
        d = self.daemon("--max-memory", "1M", "--max-peer-memory", "1M")
        c = self.connect(d)
        large = wire.image(endpoints=[(struct.pack(">I", i), wire.endpoint(0)) for i in range(20000)])
        small = wire.image(endpoints=[(bytes(200000), wire.endpoint(0))])
        self.assertRefuses("memory_limit", c.put_image, large)
        c.put_image(small)
        held = []
        while len(held) < 20:
            holder = self.connect(d)
            request_id = holder.request("PUT_IMAGE", flags=0, total_len=len(small))
            holder.send_frame("BODY", request_id, small[:-10])
            if d.admin("status")["memory"]["bytes"] > 700000:
                break
            held.append((holder, request_id))
        self.assertLess(len(held), 20)
        self.assertRefuses("memory_limit", c.put_image, small)
        self.assertUsable(c)
        for holder, _ in held:
            holder.close()
        wait_until(lambda: d.admin("status")["memory"]["bytes"] < 500000, "memory to be given back")
        c.put_image(small)


class Filling(SystemTest):
    def fill(self, c, size, error):
        """Publishes until there is no room; returns what is there, hash by content's number."""
        there = {}
        for number in range(4000):
            try:
                there[number] = c.put_data(content(f"fill {size} {number}", size))["cap_hash"]
            except Refused as refused:
                self.assertEqual(refused.name, error, refused.message)
                return there
        self.fail("never full")

    def is_refused(self, error, c, image):
        try:
            c.put_image(image)
        except Refused as refused:
            self.assertEqual(refused.name, error, refused.message)
            return True
        return False

    def check(self, c, there, size):
        for number, cap_hash in there.items():
            self.assertEqual(wire.data_content(c.get(cap_hash)[1])[:size], content(f"fill {size} {number}", size))


class Full(Filling):
    def test_map(self):
        d = self.daemon("--map-size", "8M")
        c = self.connect(d)
        big = self.fill(c, 300000, "map_full")
        self.assertGreater(len(big), 3)
        self.check(c, big, 300000)
        small = self.fill(c, 10000, "map_full")  # what still fits
        self.check(c, small, 10000)
        self.check(c, big, 300000)
        image = wire.simple_image(b"code", [(b"a", content("map", 300000))])
        refused = self.assertRefuses("map_full", c.put_image, image)
        need, have, limit = refused.shortage()
        self.assertTrue(300000 < need < 330000, need)  # the Image, its Data and their tables
        self.assertTrue(0 <= have < need, have)
        self.assertEqual(limit, "")
        entry = d.admin("refusals.list", limit=1)["refusals"][0]
        self.assertEqual((entry["need"], entry["have"], entry["reason"]), (need, have, "map_full"))
        self.assertEqual(d.admin("status")["caps"]["image"], 0, "all or nothing")
        self.assertEqual(d.stop(), 0)

        d.options = ["--map-size", "64M"]
        d.start()
        c = self.connect(d)
        self.check(c, big, 300000)
        self.check(c, small, 10000)
        c.put_image(image)

    def test_disk_reserve(self):
        d = self.daemon()
        with d.connect() as c:
            there = c.put_data(b"there")["cap_hash"]
        free = d.admin("status")["disk_free_bytes"]
        self.assertEqual(d.stop(), 0)
        d.options = ["--disk-reserve", str(2 * free)]
        d.start()
        c = self.connect(d)
        for _ in range(2):
            # More than the free pages of the store's file take.
            self.assertRefuses("disk_full", c.put_data, content("new", 3 * MIB))
            image = wire.simple_image(b"code", [(b"a", content("new", 3 * MIB))])
            self.assertRefuses("disk_full", c.put_image, image)
            self.assertEqual(wire.data_content(c.get(there)[1]).rstrip(b"\0"), b"there")


class SmallDisk(Daemon):
    """A daemon whose state is on a file system of its own, in a mount namespace of its own."""

    MOUNT = 'mount -t tmpfs -o mode=700,size="$1" none "$2" && shift 2 && exec "$@"'

    def __init__(self, root, size, *options):
        super().__init__(root, *options)
        self.size = size
        self.state.mkdir()

    def command(self):
        return ["unshare", "-m", "sh", "-c", self.MOUNT, "sh", str(self.size), str(self.state), *super().command()]

    def disk(self):
        """Its state directory, as it sees it."""
        return f"/proc/{self.process.pid}/root{self.state}"

    def free(self):
        figures = os.statvfs(self.disk())
        return figures.f_bavail * figures.f_frsize

    def ballast(self, leave):
        """Fills the disk up to `leave` bytes."""
        with open(f"{self.disk()}/ballast", "ab") as file:
            file.write(bytes(max(0, self.free() - leave)))

    def unload(self):
        os.unlink(f"{self.disk()}/ballast")


def may_mount():
    """Whether we may make a mount namespace and mount in it."""
    if not shutil.which("unshare"):
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@unittest.skipUnless(may_mount(), "needs root for a mount namespace")
class DiskFull(Filling):
    def small_disk(self, size, *options):
        d = SmallDisk(self.root, size, "--disk-reserve", "0", *options)
        self.daemons.append(d)
        return d.start()

    def test_no_room_to_begin(self):
        """A new store on a disk that is full, page by page until it has room: a sentence, no crash."""
        refused = 0
        for pages in range(1, 100, 2):
            root = self.root / f"begin{pages}"
            root.mkdir()
            d = SmallDisk(root, pages * PAGE, "--disk-reserve", "0")
            try:
                d.start()
            except AssertionError:
                self.assertEqual(d.process.wait(), 1, d.log())
                self.assertIn("the disk is full", d.log())
                refused += 1
            else:
                self.assertEqual(d.stop(), 0)
                break
        self.assertGreater(refused, 5)
        self.assertLess(pages, 99, "it started at last")

    def test_full_and_free_again(self):
        d = self.small_disk(32 * MIB)
        c = self.connect(d)
        big = self.fill(c, 700000, "disk_full")
        self.assertGreater(len(big), 5)
        small = self.fill(c, 20000, "disk_full")
        self.check(c, big, 700000)
        self.check(c, small, 20000)
        self.assertRefuses("disk_full", c.put_image, wire.simple_image(b"code", [(b"a", content("i", 700000))]))
        caps = d.admin("status")["caps"]
        self.assertEqual((caps["image"], caps["data"]), (0, len(big) + len(small)))
        # More disk: it goes on without a restart.
        subprocess.run(["nsenter", "-m", "-t", str(d.process.pid), "mount", "-o", f"remount,size={96 * MIB}", d.state],
                       check=True)
        image = wire.simple_image(b"code", [(b"a", content("i", 700000))])
        wait_until(lambda: not self.is_refused("disk_full", c, image), "the daemon to look at the disk again")
        self.check(c, big, 700000)
        self.assertEqual(d.stop(), 0)

    def test_full_while_the_body_arrives(self):
        """Room was there when the upload began, and is gone when its bytes come."""
        d = self.small_disk(48 * MIB)
        c, other = self.connect(d), self.connect(d)
        there = other.put_data(b"there")["cap_hash"]
        body = content("arriving", 6 * MIB)
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=len(body))
        c.send_frame("BODY", request_id, body[:1000])
        wait_until(lambda: d.admin("status")["spool"]["bytes"] == len(body), "the upload to begin")
        d.ballast(leave=MIB)
        c.send_body(request_id, body[1000:])
        self.assertRefuses("disk_full", c.wait, request_id, "PUT_DATA_REPLY")
        self.assertUsable(c)
        self.assertEqual(wire.data_content(other.get(there)[1]).rstrip(b"\0"), b"there")
        d.unload()
        wait_until(lambda: d.admin("status")["spool"]["bytes"] == 0, "the spool to be given back")
        image = wire.simple_image(b"code", [(b"a", content("as long", len(body)))])
        wait_until(lambda: not self.is_refused("disk_full", c, image), "a look at the disk")
        self.assertEqual(wire.data_content(c.get(c.put_data(body)["cap_hash"])[1]), body)

    def test_full_to_the_last_page(self):
        """Whatever is left when the store writes: an error with a name or success, and reads go on."""
        d = self.small_disk(48 * MIB)
        c = self.connect(d)
        size = 100000  # a few of them need more than the file has behind its end
        there = {number: c.put_data(content(f"fill {size} {number}", size))["cap_hash"] for number in range(20)}
        refused = 0
        for pages in range(24):
            d.ballast(leave=pages * PAGE)
            try:
                there[100 + pages] = c.put_data(content(f"fill {size} {100 + pages}", size))["cap_hash"]
            except Refused as error:
                self.assertEqual(error.name, "disk_full", error.message)
                refused += 1
            self.check(c, there, size)
            d.unload()
        self.assertGreater(refused, 0)
        self.assertIsNone(d.process.poll())
        image = wire.simple_image(b"code", [(b"a", content("at last", size))])
        wait_until(lambda: not self.is_refused("disk_full", c, image), "a look at the disk")
        self.check(c, there, size)
        self.assertEqual(d.stop(), 0)


if __name__ == "__main__":
    unittest.main()
