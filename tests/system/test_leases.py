"""Promises: what a publication or a HAS was told is kept, is; and what it costs to tell so."""

import threading
import unittest

import wire
from harness import SystemTest, content
from protocol import KEEP, Closed, Refused, encode

DAY = 86400
PUT_CAP = 8  # the feature
ABSENT = bytes(31) + b"\x01"


class Leases(SystemTest):
    def client(self, d, **options):
        connection = self.connect(d, hello=False, **options)
        self.assertEqual(connection.hello(features=KEEP)["features"], KEEP)
        return connection

    def assertKept(self, got, wanted):
        """Seconds that are left of `wanted`: a busy machine may take some."""
        self.assertLessEqual(got, wanted)
        self.assertGreater(got, wanted - 60)

    def commits(self, d):
        return d.figures()["capstore_commits_total"]

    def publish_many(self, c, count, keep_s):
        """Hashes of `count` small caps, with as many in flight as the daemon allows."""
        hashes = []
        for first in range(0, count, 50):
            ids = [c.request("PUT_DATA", flags=0, size=0, total_len=8, keep_s=keep_s) for _ in range(50)]
            for number, request_id in enumerate(ids, first):
                c.send_body(request_id, b"%08d" % number)
            hashes += [c.wait(request_id, "PUT_DATA_REPLY")["cap_hash"] for request_id in ids]
        return hashes

    def test_a_publication_is_told_for_how_long(self):
        d = self.daemon("--lease-max", str(3 * DAY))
        c = self.client(d)
        self.assertKept(c.put_data(b"as usual")["kept_s"], DAY)
        self.assertKept(c.put_data(b"an hour", keep_s=3600)["kept_s"], 3600)
        self.assertKept(c.put_data(b"for ever", keep_s=2**32 - 1)["kept_s"], 3 * DAY)
        image = wire.simple_image(b"code", [(b"\x01", b"data")])
        dry = c.put_image(image, dry_run=True, keep_s=3600)
        self.assertEqual((dry["is_new"], dry["kept_s"]), (1, 0))
        first = c.put_image(image, keep_s=3600)
        self.assertKept(first["kept_s"], 3600)
        # Publishing it again renews it, by any of the requests.
        self.assertKept(c.put_image(image, keep_s=7200)["kept_s"], 7200)
        both = self.connect(d, hello=False)
        both.hello(features=KEEP | PUT_CAP)
        _, body = both.get(first["cap_hash"])
        again = both.put_cap(1, first["cap_hash"], body, keep_s=DAY)
        self.assertEqual(again["is_new"], 0)
        self.assertKept(again["kept_s"], DAY)

    def test_has_tells_and_renews(self):
        d = self.daemon()
        c = self.client(d)
        one = c.put_data(b"one", keep_s=100)["cap_hash"]
        two = c.put_data(b"two", keep_s=5000)["cap_hash"]
        before = self.commits(d)
        (kind, kept), absent, (_, longer) = c.keep([one, ABSENT, two], 0)
        self.assertEqual((kind, absent), (2, (0, 0)))
        self.assertKept(kept, 100)
        self.assertKept(longer, 5000)
        self.assertEqual(self.commits(d), before, "only asking writes nothing")
        got = c.keep([one, ABSENT, two, one], 3600)
        self.assertEqual(self.commits(d), before + 1)
        self.assertEqual(got[1], (0, 0))
        for index, wanted in ((0, 3600), (2, 5000), (3, 3600)):
            self.assertKept(got[index][1], wanted)
        # Another connection, with leases or without, and another loop.
        self.assertKept(self.client(d).keep([one], 0)[0][1], 3600)
        self.assertEqual(self.connect(d).has([one, ABSENT]), [2, 0])
        self.assertEqual(c.keep([], 3600), [])

    def test_without_the_feature_a_has_is_as_before(self):
        d = self.daemon()
        plain = self.connect(d)
        cap_hash = plain.put_data(b"plain")["cap_hash"]
        self.assertEqual(plain.has([cap_hash, ABSENT]), [2, 0])
        self.assertKept(self.client(d).keep([cap_hash], 0)[0][1], DAY)
        # A message in the form of the other kind of connection does not decode.
        plain.keeps = True
        self.assertRefuses("bad_message", plain.keep, [cap_hash], 0)
        plain.keeps = False
        self.assertUsable(plain)

    def test_nothing_is_promised_when_leases_are_off(self):
        d = self.daemon("--lease", "0", "--lease-max", "0")
        c = self.client(d)
        reply = c.put_data(b"unkept", keep_s=100)
        self.assertEqual(reply["kept_s"], 0)
        self.assertEqual(c.keep([reply["cap_hash"]], 100), [(2, 0)])

    def test_a_thousand_renewals(self):
        """They are as many commits as two batches; those that add little are none."""
        d = self.daemon()
        c = self.client(d)
        hashes = self.publish_many(c, 1000, DAY)
        before = self.commits(d)
        for _ in range(1000):
            c.wait_keep(c.request("HAS", hashes=hashes[0], keep_s=DAY))
        self.assertEqual(len(c.keep(hashes, DAY + DAY // 10)), 1000)
        self.assertEqual(self.commits(d), before)
        got = c.keep(hashes, 10 * DAY)
        self.assertEqual(self.commits(d), before + 2)
        for kind, kept in got:
            self.assertEqual(kind, 2)
            self.assertKept(kept, 10 * DAY)

    def test_a_promise_outlives_the_daemon(self):
        d = self.daemon()
        c = self.client(d)
        cap_hash = c.put_data(b"promised", keep_s=100)["cap_hash"]
        self.assertKept(c.keep([cap_hash], 20 * DAY)[0][1], 20 * DAY)
        d.kill()
        d.start()
        self.assertKept(self.client(d).keep([cap_hash], 0)[0][1], 20 * DAY)
        d.kill()

    def test_the_most_that_can_be_asked(self):
        """As many hashes as one HAS may have, for as long as the message can say."""
        d = self.daemon("--max-hashes", "8000", "--max-memory", "2M", "--max-peer-memory", "1M")
        c = self.client(d)
        hashes = self.publish_many(c, 600, 100)
        asked = (hashes * 14)[:8000]
        for kind, kept in c.keep(asked, 2**32 - 1):
            self.assertEqual(kind, 2)
            self.assertKept(kept, 30 * DAY)
        self.assertEqual(c.keep([ABSENT] * 8000, 2**32 - 1), [(0, 0)] * 8000)
        # Two at a time are more memory than a peer may have; the connection goes on.
        # Another thread sends: of a client that sends and does not read, the daemon reads no more either.
        requests = [(c.take_id(), encode("HAS_KEEP", hashes=b"".join(asked), keep_s=29 * DAY + number))
                    for number in range(20)]
        sender = threading.Thread(target=lambda: [c.send_frame("HAS", *request) for request in requests])
        sender.start()
        outcomes = set()
        for request_id, _ in requests:
            try:
                outcomes.add(len(c.wait_keep(request_id)))
            except Refused as refused:
                outcomes.add(refused.name)
        sender.join()
        self.assertLessEqual(outcomes, {8000, "memory_limit"})
        self.assertIn(8000, outcomes)
        self.assertRefuses("too_many_hashes", c.keep, [ABSENT] * 8001, 0)
        self.assertEqual(c.keep([ABSENT], 100), [(0, 0)])

    def test_a_flood_beside_a_publisher(self):
        """Renewals without end, given up halfway as well; a publisher has its answers."""
        d = self.daemon()
        hashes = self.publish_many(self.client(d), 1000, 100)
        over = threading.Event()
        unexpected = []

        def flood(number):
            keep_s = 1000 + number
            while not over.is_set():
                with d.connect(hello=False) as c:
                    c.hello(features=KEEP)
                    try:
                        for _ in range(5):
                            keep_s = keep_s * 5 // 4 if keep_s < 20 * DAY else 1000
                            ids = [c.request("HAS", hashes=b"".join(hashes), keep_s=keep_s) for _ in range(16)]
                            c.cancel(ids[1])
                            c.wait_keep(ids[0])
                    except Refused as refused:
                        if refused.name not in ("memory_limit", "too_many_requests", "cancelled"):
                            unexpected.append(refused)
                    except Closed as closed:
                        unexpected.append(closed)

        floods = [threading.Thread(target=flood, args=(number,)) for number in range(3)]
        for thread in floods:
            thread.start()
        try:
            c = self.client(d)
            for number in range(50):
                reply = c.put_data(content(f"beside {number}", 5000), keep_s=3600)
                self.assertEqual(reply["is_new"], 1)
                self.assertKept(reply["kept_s"], 3600)
        finally:
            over.set()
            for thread in floods:
                thread.join()
        self.assertEqual(unexpected, [])
        self.assertEqual(c.keep(hashes[:1], 0)[0][0], 2)

    def test_the_tool(self):
        d = self.daemon()
        published = self.ok(d.capctl("publish", self.file("i", wire.simple_image(b"code", [(b"\x01", b"data")])),
                                     "--keep", "2h"))
        self.assertKept(published["kept_s"], 7200)
        self.assertRegex(published["kept_until"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        put = self.ok(d.capctl("put", self.file("f", b"content")))
        self.assertKept(put["kept_s"], DAY)
        both = published["cap_hash"], put["cap_hash"]
        for time, wanted in (("0", (7200, DAY)), ("30h", (30 * 3600,) * 2), ("7d", (7 * DAY,) * 2), ("90", (7 * DAY,) * 2)):
            told = self.ok(d.capctl("has", "--keep", time, *both))
            for cap_hash, seconds in zip(both, wanted):
                self.assertKept(told[cap_hash]["kept_s"], seconds)
        told = self.assertStatus(d.capctl("has", "--keep", "1m", both[0], ABSENT.hex()), 1).json
        self.assertKept(told[both[0]]["kept_s"], 7 * DAY)
        self.assertIs(told[ABSENT.hex()], False)
        # A large Image that is there already is not sent, but kept.
        path = self.file("large", wire.simple_image(content("large", 1 << 20)))
        self.assertKept(self.ok(d.capctl("publish", "--keep", "60", path))["kept_s"], 60)
        uploads = d.figures()["capstore_uploads_total"]
        self.assertNotIn("kept_s", self.ok(d.capctl("publish", "--dry-run", path)))
        self.assertKept(self.ok(d.capctl("publish", path))["kept_s"], DAY)
        self.assertKept(self.ok(d.capctl("publish", "--keep", "9d", path))["kept_s"], 9 * DAY)
        self.assertEqual(d.figures()["capstore_uploads_total"], uploads)
        for wrong in ("", "x", "5w", "-1", "1.5h", "4294967296", "50000d", "1hh"):
            self.assertStatus(d.capctl("has", "--keep", wrong, both[0]), 2)


if __name__ == "__main__":
    unittest.main()
