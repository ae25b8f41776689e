"""SLICE: pages with their proof, compared byte for byte with the encoder that was written from SLICES.md."""

import hashlib
import json
import random
import struct
import sys
import threading
import unittest

import wire
from harness import PAGE, SANITIZED, VECTORS, SystemTest, content, free_port, wait_until
from protocol import END, KEEP, SLICE, TYPES, Refused, decode

sys.path.insert(0, str(VECTORS.parent / "slices"))
import slices  # pylint: disable=wrong-import-position

ABSENT = b"\xee" * 32
KIB, MIB = 1 << 10, 1 << 20
HELD = (132 + 120) * KIB  # of one request: a chunk and an encoder


def random_ranges(pick, count, most=8):
    """Canonical ranges of a cap of `count` pages; often long, often single pages."""
    ranges, at = [], pick.randrange(max(1, count // 4))
    while at < count and len(ranges) < most:
        pages = min(count - at, pick.choice((1, 1, 2, 15, 16, 17, 64, 300)))
        ranges.append((at, pages))
        at += pages + pick.choice((1, 2, 16, 33, max(1, count // 5)))
    return ranges


class Slice(SystemTest):
    def open(self, *options, **more):
        self.d = self.daemon(*options, **more)
        return self.slicer()

    def slicer(self, **more):
        client = self.connect(self.d, hello=False, **more)
        self.assertEqual(client.hello(features=SLICE)["features"], SLICE)
        return client

    def publish_data(self, client, seed, pages, holes=()):
        """(hash, cap) of a Data cap of pages that do not repeat, and pages of zeros."""
        body = bytearray(content(seed, pages * PAGE))
        for first, count in holes:
            body[first * PAGE:(first + count) * PAGE] = bytes(count * PAGE)
        return self.published(client, client.put_data(bytes(body))["cap_hash"])

    def publish_image(self, client, seed, length):
        code = content(seed, length)
        return self.published(client, client.put_image(wire.image(code=(0, length), arena=code))["cap_hash"])

    def published(self, client, cap_hash):
        cap = slices.cap_of_body(client.get(cap_hash)[1])
        cap.node(cap.depth, 0)  # now: later somebody may wait for an answer to be read
        return cap_hash, cap

    def compare(self, client, cap_hash, cap, ranges):
        reply, got = client.slice(cap_hash, ranges)
        self.assertEqual((reply["kind"], reply["size"]), (cap.kind, cap.size))
        self.assertEqual(reply["body_len"], client.stat(cap_hash)["body_len"])
        self.assertTrue(got == slices.encode(cap, ranges), (cap_hash.hex(), ranges, len(got)))

    def test_vectors(self):
        """Every vector of slices of caps that can be published: Images that others name are nowhere."""
        client, whole = self.open(), set()
        for vector in json.loads((VECTORS / "index.json").read_text())["valid"]:
            if not vector["images"]:
                client.put_image((VECTORS / vector["file"]).read_bytes())
                whole.add(vector["name"])
        wanted = [vector for vector in json.loads((VECTORS / "slices.json").read_text()) if vector["vector"] in whole]
        self.assertGreater(len(wanted), 40)
        for vector in wanted:
            ranges = [tuple(pair) for pair in vector["ranges"]]
            with self.subTest(vector["vector"], ranges=ranges):
                _, got = client.slice(bytes.fromhex(vector["cap_hash"]), ranges)
                self.assertEqual(len(got), vector["len"])
                self.assertEqual(hashlib.sha256(got).hexdigest(), vector["sha256"])

    def test_random_ranges(self):
        """Caps of both kinds, of sizes on both sides of what bounds the kept nodes, twice; from the file at last."""
        client = self.open()
        caps = [self.publish_data(client, "one", 1), self.publish_data(client, "dense", 1000),
                self.publish_data(client, "holes", 700, [(0, 1), (17, 40), (300, 256), (699, 1)]),
                self.publish_data(client, "zero", 70, [(0, 70)]), self.publish_image(client, "small", 5),
                self.publish_image(client, "odd", 257 * PAGE + 1), self.publish_image(client, "long", 1200 * PAGE),
                self.published(client, client.put_image(wire.image(endpoints=[(b"\0", wire.endpoint(0))]))["cap_hash"])]
        pick = random.Random(20)
        for _ in range(2):
            for cap_hash, cap in caps:
                count = cap.count
                for ranges in [], [(0, count)] if count else [], *(random_ranges(pick, count) for _ in range(12)):
                    self.compare(client, cap_hash, cap, ranges)
            client.close()
            self.d.stop()
            self.d.start()
            client = self.slicer()
        self.compare(client, *caps[1], [(3, 4), (10, 20)])
        figures = self.d.figures()
        self.assertEqual(figures['capstore_requests_total{type="slice"}'], 1)
        self.assertEqual(figures["capstore_slice_pages_total"], 24)
        self.assertEqual(figures["capstore_slice_seconds_count"], 1)

    def test_giant_sparse(self):
        """Terabytes of zeros with some pages in them: the slice of everything, of nothing, of one page, of 256 ranges."""
        client = self.open()
        count, pick = 1 << 32, random.Random(21)
        indexes = {0, count - 1, count // 2, *range(5000, 5400), *(pick.randrange(count) for _ in range(600))}
        cap = slices.Cap(slices.DATA, count * PAGE, {i: content(f"sparse {i}", 1 + i % 200) for i in indexes})
        cap_hash = client.put_data(cap.body(), canonical=True)["cap_hash"]
        some = pick.sample(sorted(indexes), 200) + [pick.randrange(count) for _ in range(56)]
        strewn = [(i, 1) for i in sorted(some) if i - 1 not in some and i + 1 not in some]
        for ranges in ([(0, count)], [(count - 1, 1)], [(1, count - 2)], [(5001, 398)], [(6000, 1 << 20)], strewn,
                       *(random_ranges(pick, count, 256) for _ in range(5))):
            self.compare(client, cap_hash, cap, ranges)

    def test_256_ranges(self):
        client = self.open()
        image, cap = self.publish_image(client, "many", 700 * PAGE)
        for step in (2, 2.7):
            self.compare(client, image, cap, [(int(i * step), 1) for i in range(256)])

    def test_refused(self):
        """What cannot be asked for, and what is not there; the connection goes on."""
        client = self.open()
        cap_hash, cap = self.publish_data(client, "refused", 40)
        for ranges in ([(0, 0)], [(5, 1), (4, 1)], [(0, 2), (2, 1)], [(0, 3), (2, 4)], [(7, 2**64 - 1)],
                       [(2 * i, 1) for i in range(257)]):
            self.assertRefuses("bad_message", client.slice, cap_hash, ranges)
        for payload in (b"", cap_hash, cap_hash + struct.pack("<I", 36) + bytes(15)):
            request_id = client.take_id()
            client.send_frame("SLICE", request_id, payload)
            self.assertRefuses("bad_message", client.wait_slice, request_id)
        for ranges in ([(0, 41)], [(40, 1)], [(0, 1), (39, 2)], [(2**63, 2**63 - 1)]):
            refused = self.assertRefuses("range_out_of_body", client.slice, cap_hash, ranges)
            self.assertTrue(refused.message.startswith(cap_hash.hex()), refused.message)
        self.assertRefuses("not_found", client.slice, ABSENT, [(0, 1)])
        self.compare(client, cap_hash, cap, [(39, 1)])
        self.d.admin("cap.forbid", hash=cap_hash.hex(), reason="unwanted")
        self.assertRefuses("forbidden_cap", client.slice, cap_hash, [(39, 1)])
        self.assertUsable(client)

    def test_feature(self):
        self.open(listen=[f"unix:{self.root}/s", f"tcp:127.0.0.1:{free_port()}"])
        for features in (KEEP, 0, None):
            plain = self.connect(self.d, hello=False)
            plain.hello(features=features)
            self.assertRefuses("unsupported_request", plain.slice, ABSENT, [(2 * i, 1) for i in range(256)])
            self.assertUsable(plain)
        self.assertRefuses("not_found", self.slicer(address=self.d.listen[1]).slice, ABSENT, [])

    def damaged(self, *damage):
        """A daemon whose store has one byte changed in each of these places."""
        self.d.stop()
        store = self.d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        for piece in damage:
            self.assertEqual(data.count(piece), 1)
            data[data.index(piece)] ^= 4
        store.write_bytes(data)
        self.d.start()
        return self.slicer()

    def read_until_error(self, client, request_id):
        """(what came of the slice, name of the ERROR that ended it)."""
        got = bytearray()
        while True:
            frame = client.recv_frame()
            self.assertEqual(frame.id, request_id)
            if frame.type == TYPES["ERROR"]:
                return bytes(got), decode("ERROR", frame.payload)["name"]
            self.assertFalse(frame.flags & END, "the slice came whole")
            got += frame.payload if frame.type == TYPES["BODY"] else b""

    def test_damaged(self):
        """Damage where the slice needs it ends it by name, and elsewhere does not touch it; never a wrong byte."""
        client = self.open()
        caps = [self.publish_data(client, "damage", 2000), self.publish_image(client, "damage too", 2000 * PAGE)]
        client.close()
        client = self.damaged(*(cap.pages[1000][:512] for _, cap in caps))
        for cap_hash, cap in caps:
            for ranges in ([(0, 900)], [(1100, 900)], [(0, 1), (1999, 1)], [(900, 50), (1050, 50)]):
                self.compare(client, cap_hash, cap, ranges)
            whole = slices.encode(cap, [(0, 2000)])
            got, error = self.read_until_error(client, client.ask_slice(cap_hash, [(0, 2000)]))
            self.assertEqual(error, "quarantined")
            self.assertGreater(len(got), 800 * PAGE)
            self.assertTrue(whole.startswith(got))
            self.assertRefuses("quarantined", client.slice, cap_hash, [(0, 1)])
        self.assertEqual(self.d.admin("status")["last_error"]["reason"], "corrupt")
        self.assertUsable(client)

    def test_damaged_roots(self):
        """The same of the page roots and nodes that are kept: a slice that needs them is refused."""
        client = self.open()
        cap_hash, cap = self.publish_image(client, "roots", 700 * PAGE)
        other_hash, other = self.publish_image(client, "nodes", 700 * PAGE)
        client.close()
        client = self.damaged(cap.node(0, 3), other.node(6, 2))
        for damaged in (cap_hash, other_hash):
            self.assertRefuses("quarantined", client.slice, damaged, [(2, 1)])
        self.assertUsable(client)

    def test_deleted_meanwhile(self):
        """A cap that goes while a client is slow: what came is right, and an ERROR ends it."""
        client = self.open("--threads", "1")
        cap_hash, cap = self.publish_data(client, "goes", 2000)
        request_id = client.ask_slice(cap_hash, [(0, 2000)])
        client.recv_frame()  # the reply
        self.d.admin("cap.delete", hash=cap_hash.hex(), force=True)
        got, error = self.read_until_error(client, request_id)
        self.assertEqual(error, "not_found")
        self.assertTrue(slices.encode(cap, [(0, 2000)]).startswith(got))
        self.assertUsable(client)

    def test_slow_clients(self):
        """Slices that nobody takes hold a chunk and an encoder each, and no snapshot; all is given back."""
        client = self.open("--threads", "1")
        cap_hash, cap = self.publish_data(client, "slow", 2000)
        self.compare(client, cap_hash, cap, [(7, 100)])
        before = self.d.memory()
        slow = [self.slicer() for _ in range(4)]
        for peer in slow:
            for _ in range(8):
                peer.ask_slice(cap_hash, [(0, 2000)])
        wait_until(lambda: self.d.figures()["capstore_requests_in_flight"] == 32, "all requests")
        wait_until(lambda: self.d.figures()["capstore_read_jobs_in_flight"] == 0, "every chunk is made")
        figures = self.d.figures()
        self.compare(client, cap_hash, cap, [(7, 100)])
        self.assertEqual(figures["capstore_store_readers"], 0)
        self.assertGreater(figures["capstore_request_memory_bytes"], 32 * HELD)
        if not SANITIZED:
            self.assertLess(self.d.memory() - before, 32 * (HELD + 140 * KIB) + 4 * MIB)
        for peer in slow:
            peer.close()
        wait_until(self.holds_nothing, "all is given back")
        self.assertUsable(client)

    def test_memory_limit(self):
        client = self.open("--max-memory", str(8 * MIB))  # of which one peer has a quarter
        cap_hash, cap = self.publish_data(client, "limit", 2000)
        requests = [client.ask_slice(cap_hash, [(0, 2000)]) for _ in range(20)]
        refused = 0
        for request_id in requests:
            try:
                self.assertTrue(client.wait_slice(request_id)[1] == slices.encode(cap, [(0, 2000)]))
            except Refused as error:
                self.assertEqual(error.name, "memory_limit")
                refused += 1
        self.assertTrue(0 < refused < 20, refused)
        self.compare(client, cap_hash, cap, [(0, 2000)])

    def test_cancelled(self):
        """In the midst of a slice: the frame is completed, then comes the ERROR; the id is free again."""
        client = self.open()
        cap_hash, cap = self.publish_data(client, "cancel", 1500)
        for _ in range(5):
            request_id = client.ask_slice(cap_hash, [(0, 1500)])
            client.wait(request_id, "SLICE_REPLY")
            client.cancel(request_id)
            self.assertRefuses("cancelled", client.recv_body, request_id)
        self.compare(client, cap_hash, cap, [(1000, 5)])

    def test_others_go_on(self):
        """A small request overtakes a long slice of the same connection, and of another."""
        client = self.open("--threads", "1")
        cap_hash, cap = self.publish_data(client, "long", 2000)
        other = self.slicer()
        request_id = client.ask_slice(cap_hash, [(0, 2000)])
        self.assertUsable(other)
        self.compare(other, cap_hash, cap, [(1, 1)])
        small, seen = client.request("HAS", hashes=b""), []
        while small not in seen:
            got = client.recv_frame()
            seen.append(got.id)
            self.assertFalse(got.id == request_id and got.flags & END)
            client.inbox.setdefault(got.id, []).append(got)
        self.assertTrue(client.wait_slice(request_id)[1] == slices.encode(cap, [(0, 2000)]))

    def test_connections_gone(self):
        """Clients that leave in the midst of slices leave nothing behind."""
        client = self.open()
        cap_hash, cap = self.publish_data(client, "leave", 2000)
        for _ in range(20):
            leaver = self.slicer()
            for _ in range(5):
                leaver.ask_slice(cap_hash, [(0, 2000)])
            leaver.close()
        wait_until(self.holds_nothing, "all is given back")
        self.compare(client, cap_hash, cap, [(0, 17)])

    def holds_nothing(self):
        figures = self.d.figures()
        return (figures["capstore_requests_in_flight"], figures["capstore_request_memory_bytes"]) == (0, 0)

    def test_many_at_once(self):
        """Several clients with several requests each, in several threads of the daemon."""
        client = self.open("--threads", "3")
        caps = [self.publish_data(client, "dense", 1500), self.publish_image(client, "image", 1100 * PAGE),
                self.publish_data(client, "holes", 900, [(100, 500)])]
        failures = []

        def work(seed):
            pick = random.Random(seed)
            try:
                with self.d.connect(hello=False) as mine:
                    mine.hello(features=SLICE)
                    for _ in range(3):
                        asked = [(*pick.choice(caps), pick.choice((3, 20, 200))) for _ in range(6)]
                        asked = [(cap_hash, cap, random_ranges(pick, cap.count, most)) for cap_hash, cap, most in asked]
                        ids = [mine.ask_slice(cap_hash, ranges) for cap_hash, _, ranges in asked]
                        for request_id, (_, cap, ranges) in zip(ids, asked):
                            if mine.wait_slice(request_id)[1] != slices.encode(cap, ranges):
                                failures.append((seed, ranges))
            except Exception as error:  # pylint: disable=broad-except; the test's own thread tells
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_draining(self):
        """A slice under way is finished when the daemon is told to stop."""
        client = self.open()
        cap_hash, cap = self.publish_data(client, "drain", 1500)
        request_id = client.ask_slice(cap_hash, [(0, 1500)])
        client.wait(request_id, "SLICE_REPLY")
        self.d.process.terminate()
        wait_until(lambda: self.d.figures()["capstore_draining"] == 1, "the drain")
        late = client.ask_slice(cap_hash, [(0, 1)])
        self.assertTrue(client.recv_body(request_id) == slices.encode(cap, [(0, 1500)]))
        self.assertRefuses("draining", client.wait_slice, late)
        self.assertEnds(client, "draining")
        self.assertEqual(self.d.process.wait(60), 0)
        self.d.process = None


if __name__ == "__main__":
    unittest.main()
