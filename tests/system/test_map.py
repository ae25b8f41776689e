"""Caps as descriptors: what is in them, that they cannot change, and what they may take of the daemon."""

import errno
import fcntl
import mmap
import os
import subprocess
import sys
import unittest

import wire
from harness import SystemTest, capctl, content, free_port
from protocol import Refused

MAP = 1  # the feature's bit
PAGE = 4096
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
MIB = 1 << 20

# Maps a descriptor's file, touches all of it, says so, and waits to be told to end.
HOLDER = """
import mmap, sys
size = int(sys.argv[2])
pages = mmap.mmap(int(sys.argv[1]), size, mmap.MAP_SHARED, mmap.PROT_READ)
sum(pages[at] for at in range(0, size, 4096))
print("ready", flush=True)
sys.stdin.read()
"""


def pages_with_data(fd, size):
    """The indexes of pages that are not holes."""
    pages, at = [], 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        end = os.lseek(fd, at, os.SEEK_HOLE)
        pages += range(at // PAGE, -(-end // PAGE))
        at = end
    return pages


class Map(SystemTest):
    def open(self, *options, **more):
        self.d = self.daemon(*options, **more)
        return self.mapper()

    def mapper(self):
        client = self.connect(self.d, hello=False)
        self.assertEqual(client.hello(features=MAP)["features"], MAP)
        return client

    def map(self, client, cap_hash):
        """(reply, descriptor), which is closed at the end of the test."""
        reply, fd = client.map(cap_hash)
        self.addCleanup(self.close, fd)
        return reply, fd

    @staticmethod
    def close(fd):
        try:
            os.close(fd)
        except OSError:
            pass

    def held(self):
        return self.d.figures()["capstore_map_cache_bytes"]

    def assertSealed(self, fd):
        self.assertEqual(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS, SEALS)
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0)):
            self.assertRaises(OSError, change)
        self.assertRaises(OSError, mmap.mmap, fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def test_image(self):
        client = self.open()
        code = content("code", 3 * PAGE + 7)
        made = client.put_image(wire.simple_image(code, [(b"\x01", content("data", 100))]))
        _, body = client.get(made["cap_hash"])
        reply, fd = self.map(client, made["cap_hash"])
        self.assertSealed(fd)
        self.assertEqual(os.fstat(fd).st_size, reply["len"])
        self.assertEqual((reply["kind"], reply["body_len"], reply["size"]), (1, len(body), len(code)))
        self.assertEqual(reply["rest_off"], 4 * PAGE)
        self.assertEqual(os.pread(fd, 4 * PAGE, 0), code + bytes(PAGE - 7))
        rest = os.pread(fd, reply["rest_len"], reply["rest_off"])
        self.assertEqual(rest[:33] + code + rest[33:], body)

    def test_image_without_code(self):
        client = self.open()
        made = client.put_image(wire.image())
        _, body = client.get(made["cap_hash"])
        reply, fd = self.map(client, made["cap_hash"])
        self.assertEqual((reply["size"], reply["rest_off"], reply["rest_len"]), (0, 0, len(body)))
        self.assertEqual(os.pread(fd, len(body) + 1, 0), body)

    def test_data(self):
        """Pages of zeros are holes, equal pages are there twice, what a window cuts off is zero."""
        client = self.open()
        one, other = content("one", PAGE), content("other", 100) + bytes(PAGE - 100)
        raw = one + bytes(2 * PAGE) + other + one + bytes(PAGE) + one + other
        made = client.put_data(raw, size=20 * PAGE)
        reply, fd = self.map(client, made["cap_hash"])
        self.assertSealed(fd)
        self.assertEqual((reply["kind"], reply["size"], reply["len"]), (2, 20 * PAGE, 20 * PAGE))
        self.assertEqual(os.pread(fd, 21 * PAGE, 0), raw + bytes(12 * PAGE))
        self.assertEqual(pages_with_data(fd, 20 * PAGE), [0, 3, 4, 6, 7])

    def test_larger_than_a_window(self):
        client = self.open()
        raw = b"".join(content(f"run {n}", 37 * PAGE) + bytes(PAGE) for n in range(40))
        made = client.put_data(raw)
        _, fd = self.map(client, made["cap_hash"])
        self.assertEqual(os.pread(fd, len(raw), 0), raw)
        image = client.put_image(wire.simple_image(raw[:-PAGE - 5]))
        _, fd = self.map(client, image["cap_hash"])
        self.assertEqual(os.pread(fd, len(raw), 0)[:len(raw) - PAGE - 5], raw[:-PAGE - 5])

    def test_sparse(self):
        client = self.open()
        made = client.put_data(b"begin", size=1 << 40)
        reply, fd = self.map(client, made["cap_hash"])
        self.assertEqual((reply["size"], reply["len"]), (1 << 40, 1 << 40))
        self.assertEqual(os.fstat(fd).st_size, 1 << 40)
        self.assertEqual(os.fstat(fd).st_blocks * 512, PAGE)
        made = client.put_data(b"begin", size=(1 << 64) - PAGE)
        reply, fd = self.map(client, made["cap_hash"])
        self.assertEqual((reply["size"], reply["len"]), ((1 << 64) - PAGE, 1 << 44))

    def test_file_limit(self):
        """A limit on the size of files is told, and does not end the daemon."""
        client = self.open()
        subprocess.run(["prlimit", f"--pid={self.d.process.pid}", f"--fsize={1 << 30}"], check=True)
        made = client.put_data(b"begin", size=1 << 40)
        self.assertRefuses("memory_limit", client.map, made["cap_hash"])
        self.assertUsable(client)

    def test_absent(self):
        client = self.open()
        self.assertRefuses("not_found", client.map, bytes(32))
        made = client.put_data(b"late")
        self.map(client, made["cap_hash"])

    def test_damaged(self):
        """What the store finds damaged while it is copied is given to nobody, and is a fault of the daemon."""
        client = self.open()
        raw = content("damaged", 2 * MIB)
        made = client.put_data(raw)
        client.close()
        self.d.stop()
        store = self.d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        data[data.index(raw[1500000:1500100])] ^= 4
        store.write_bytes(data)
        self.d.start()
        client = self.mapper()
        refused = self.assertRefuses("quarantined", client.map, made["cap_hash"])
        self.assertTrue(refused.message.startswith(made["cap_hash"].hex()))
        self.assertEqual(self.d.admin("status")["last_error"]["reason"], "corrupt")
        self.assertEqual((client.descriptors, self.held()), ([], 0))
        self.assertUsable(client)

    def test_who_may(self):
        """Not over TCP, not without the feature, not from a daemon that maps nothing; who does not ask sees nothing."""
        client = self.open(listen=[f"unix:{self.root}/s", f"tcp:127.0.0.1:{free_port()}"])
        cap_hash = client.put_data(b"x")["cap_hash"]
        tcp = self.connect(self.d, hello=False, address=self.d.listen[1])
        self.assertEqual(tcp.hello(features=MAP)["features"], 0)
        with self.assertRaises(Refused) as refused:
            tcp.map(cap_hash)
        self.assertEqual((refused.exception.name, refused.exception.message),
                         ("unsupported_request", "caps are mapped through a Unix socket only"))
        for features in (0, None):
            old = self.connect(self.d, hello=False)
            self.assertEqual(old.hello(features=features).get("features", 0), 0)
            self.assertRefuses("unsupported_request", old.map, cap_hash)
            self.assertEqual(old.get(cap_hash)[0]["kind"], 2)
        other = self.daemon("--map-cache", "0", name="none")
        client = self.connect(other, hello=False)
        self.assertEqual(client.hello(features=MAP)["features"], 0)
        self.assertRefuses("unsupported_request", client.map, cap_hash)

    def test_made_once(self):
        client = self.open("--threads", "2")
        cap_hash = client.put_data(content("once", 16 * MIB))["cap_hash"]
        clients = [self.mapper() for _ in range(12)]
        requests = [c.request("MAP", hash=cap_hash) for c in clients]
        inodes = set()
        for mapper, request in zip(clients, requests):
            _, fd = mapper.wait_map(request)
            self.addCleanup(os.close, fd)
            inodes.add(os.fstat(fd).st_ino)
        self.assertEqual(len(inodes), 1)
        figures = self.d.figures()
        self.assertEqual((figures["capstore_map_copies_made_total"], figures["capstore_maps_total"]), (1, 12))

    def test_shared_by_many_processes(self):
        """What a hundred processes map takes the memory of one copy."""
        processes, size = 100, 4 * MIB
        client = self.open()
        cap_hash = client.put_data(content("shared", size))["cap_hash"]
        holders = []
        self.addCleanup(lambda: [(p.stdin.close(), p.wait(), p.stdout.close()) for p in holders])
        for _ in range(processes):
            _, fd = client.map(cap_hash)
            holders.append(subprocess.Popen([sys.executable, "-c", HOLDER, str(fd), str(size)], pass_fds=[fd],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            os.close(fd)
        for holder in holders:
            self.assertEqual(holder.stdout.readline(), b"ready\n")
        resident = proportional = 0
        for holder in holders:
            with open(f"/proc/{holder.pid}/smaps_rollup") as rollup:
                figures = dict(line.split(":") for line in rollup.read().splitlines()[1:])
            resident += int(figures["Rss"].split()[0]) * 1024
            proportional += int(figures["Pss_Shmem"].split()[0]) * 1024
        self.assertGreaterEqual(resident, processes * size)
        self.assertGreaterEqual(proportional, size - processes * 1024)  # each is rounded down
        self.assertLess(proportional, 2 * size)
        self.assertLess(self.held(), 2 * size)

    def test_least_recently_used_goes_first(self):
        client = self.open("--map-cache", "4M", "--max-peer-maps", "4M")
        hashes = [client.put_data(content(f"cap {n}", MIB))["cap_hash"] for n in range(5)]

        def made():
            return self.d.figures()["capstore_map_copies_made_total"]

        def ask(number):
            os.close(client.map(hashes[number])[1])

        for number in (0, 1, 2, 3, 0, 4):  # 1 has to go
            ask(number)
        self.assertEqual(made(), 5)
        ask(0)
        self.assertEqual(made(), 5)
        ask(1)
        self.assertEqual(made(), 6)
        self.assertLessEqual(self.held(), 4 * MIB)

    def test_held_copies_count(self):
        """A peer that keeps what it was given is refused more, until it lets go; what it has stays sound."""
        client = self.open("--map-cache", "8M")  # a share of 2 MiB
        raw = [content(f"cap {n}", MIB) for n in range(6)]
        hashes = [client.put_data(body)["cap_hash"] for body in raw]
        fds = [client.map(cap_hash)[1] for cap_hash in hashes[:2]]
        for cap_hash in hashes[2:]:
            with self.assertRaises(Refused) as refused:
                client.map(cap_hash)
            self.assertEqual(refused.exception.name, "memory_limit")
            self.assertIn("of one peer reached (max-peer-maps)", refused.exception.message)
        self.assertLessEqual(self.held(), 2 * MIB)
        for fd, body in zip(fds, raw):
            self.assertEqual(os.pread(fd, MIB, 0), body)
        os.close(fds[0])
        fd = client.map(hashes[5])[1]
        self.assertRefuses("memory_limit", client.map, hashes[4])
        pages = mmap.mmap(fd, MIB, mmap.MAP_SHARED, mmap.PROT_READ)  # a mapping holds as a descriptor does
        os.close(fd)
        self.assertRefuses("memory_limit", client.map, hashes[4])
        pages.close()
        self.close(client.map(hashes[4])[1])
        os.close(fds[1])

    def test_other_peers_have_room(self):
        if os.geteuid() != 0:
            self.skipTest("another user takes root")
        client = self.open("--map-cache", "8M")
        hashes = [client.put_data(content(f"cap {n}", MIB))["cap_hash"] for n in range(4)]
        for cap_hash in hashes[:2]:
            self.map(client, cap_hash)
        self.assertRefuses("memory_limit", client.map, hashes[2])
        os.chmod(self.root, 0o755)
        os.chmod(self.d.address[len("unix:"):], 0o777)
        seen = []

        def as_another():
            mapper = self.mapper()
            seen.append(mapper.map(hashes[2])[1])

        os.setresuid(-1, 65534, -1)
        try:
            as_another()
        finally:
            os.setresuid(-1, 0, -1)
        os.close(seen[0])

    def test_larger_than_all_room(self):
        client = self.open("--map-cache", "1M", "--max-peer-maps", "1M")
        cap_hash = client.put_data(content("large", 2 * MIB))["cap_hash"]
        with self.assertRaises(Refused) as refused:
            client.map(cap_hash)
        self.assertEqual(refused.exception.name, "memory_limit")
        self.assertIn("all copies may take 1048576 (map-cache)", refused.exception.message)
        self.assertEqual(self.held(), 0)

    def test_one_that_does_not_receive(self):
        """Its descriptors stay in its socket, so it is refused more; others go on."""
        client = self.open()
        cap_hash = client.put_data(b"small")["cap_hash"]
        greedy = self.mapper()
        sent = 300
        for number in range(sent):
            request = greedy.request("MAP", hash=cap_hash)
        self.map(client, cap_hash)
        self.assertUsable(client)
        refused = 0
        for number in range(request - sent + 1, request + 1):
            try:
                os.close(greedy.wait_map(number)[1])
            except Refused as error:
                self.assertEqual(error.name, "too_many_requests")
                refused += 1
        self.assertGreater(refused, 0)
        self.map(greedy, cap_hash)

    def test_cancel_and_disconnect_while_it_is_made(self):
        client = self.open()
        hashes = [client.put_data(content(f"cap {n}", 8 * MIB))["cap_hash"] for n in range(4)]
        for round_number in range(8):
            cap_hash = hashes[round_number % 4]
            request = client.request("MAP", hash=cap_hash)
            client.cancel(request)
            try:
                os.close(client.wait_map(request)[1])
            except Refused as refused:
                self.assertEqual(refused.name, "cancelled")
            leaver = self.mapper()
            leaver.request("MAP", hash=cap_hash)
            leaver.close()
        _, fd = self.map(client, hashes[3])
        self.assertEqual(os.pread(fd, 8 * MIB, 0), content("cap 3", 8 * MIB))

    def test_tool(self):
        """`capctl map` lays an Image out with the data behind its mappings."""
        client = self.open(listen=[f"unix:{self.root}/s", f"tcp:127.0.0.1:{free_port()}"])
        pages = content("page", PAGE)
        arena = content("code", 5000) + pages
        desc = wire.data_desc(3 * PAGE, [(1, 5000, PAGE)])
        made = client.put_image(wire.image(
            code=(0, 5000), pinned=[(b"k", wire.pinned_data(desc))], initial=[(b"i", desc)], arena=arena,
            mappings=[wire.mapping(0x10000000, 3 * PAGE, [b"k"]), wire.mapping(0x20000000, 8 * PAGE, [b"i"]),
                      wire.mapping(0x30000000, PAGE, [b"absent"])]))
        name = made["cap_hash"].hex()
        shown = self.ok(self.d.capctl("map", name))
        self.assertEqual(shown, {
            "cap_hash": name, "kind": "image", "size": 5000, "mapped_len": 2 * PAGE, "verified": True, "spans": [
                {"start": "0x400000", "size": "0x2000", "read_only": True, "mapped_len": 2 * PAGE},
                {"start": "0x10000000", "size": "0x3000", "read_only": True, "mapped_len": 3 * PAGE},
                {"start": "0x20000000", "size": "0x8000", "read_only": False, "mapped_len": 3 * PAGE},
                {"start": "0x30000000", "size": "0x1000", "read_only": False, "mapped_len": None}]})
        data = client.put_data(b"x", size=1 << 30)["cap_hash"].hex()
        self.assertEqual(self.ok(self.d.capctl("map", data)), {
            "cap_hash": data, "kind": "data", "size": 1 << 30, "mapped_len": 1 << 30, "verified": True})
        self.refused(self.d.capctl("map", "00" * 32), "not_found")
        refused = self.assertStatus(capctl("-s", self.d.listen[1], "map", name), 3).json
        self.assertEqual(refused["error"], "unsupported_request")
        self.assertIn("caps are mapped through a Unix socket only", refused["message"])

    def test_end_of_the_daemon(self):
        """It ends while copies are made, and what it gave out stays."""
        client = self.open("--threads", "2")
        raw = content("kept", MIB)
        kept = client.put_data(raw)["cap_hash"]
        large = client.put_data(content("large", 32 * MIB))["cap_hash"]
        _, fd = self.map(client, kept)
        waiting = [self.mapper() for _ in range(6)]
        for mapper in waiting:
            mapper.request("MAP", hash=large)
        self.assertEqual(self.d.stop(), 0)
        self.assertEqual(os.pread(fd, MIB, 0), raw)


if __name__ == "__main__":
    unittest.main()
