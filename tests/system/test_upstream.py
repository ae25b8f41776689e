"""A cache in front: what is not here comes from the daemon above, whole, once, and never wrong."""

import socket
import threading
import unittest

import protocol
import wire
from caches import GET_MANY, KIB, MIB, Caches, Fake, absent, send_body
from harness import content, free_port, wait_until
from protocol import Refused

MAP, CLOSURE = 1, protocol.CLOSURE  # features' bits
NOT_FOUND, AWAY, BROKEN = 60, 75, 76


def send_stat(connection, request_id, body):
    """A STAT's answer, for a body of 3 MiB of data."""
    connection.send_frame("STAT_REPLY", request_id, protocol.encode(
        "STAT_REPLY", kind=2, body_len=len(body), size=3 * MIB, page_count=768, ref_count=0, published_us=0,
        content_hash=bytes(32)))


def send_some(connection, request_id, name, body):
    """A STAT's answer, or of a GET's the first 2 MiB."""
    if name == "STAT":
        send_stat(connection, request_id, body)
    else:
        send_body(connection, request_id, body, 2 * MIB)


class Upstream(Caches):
    # What comes through.

    def test_whole_program(self):
        """A GET of an Image brings all that it refers to; then the daemon above is not needed any more."""
        above = self.above()
        root, hashes, bodies = self.program(above)
        below = self.below(above)
        client = self.client(below)
        self.assertEqual(client.has(hashes), [0] * len(hashes))  # HAS says what is here
        self.assertEqual(client.get(root), bodies[root])
        self.assertNotIn(0, client.has(hashes))
        above.stop()
        for one in hashes:
            self.assertEqual(client.get(one), bodies[one])
        kept = self.client(below, protocol.KEEP).keep(hashes, 0)
        self.assertTrue(all(seconds > 80000 for _, seconds in kept), kept)  # as any publication
        status = below.admin("status")["upstream"]
        self.assertEqual((status["state"], status["caps"], status["waiting"], status["under_way"]),
                         ("up", len(hashes), 0, 0))
        self.assertEqual(status["body_bytes"], sum(len(body) for _, body in bodies.values()))

    def test_every_request(self):
        """GET with a range, STAT, GET_MANY and MAP wait for what they are about."""
        above = self.above()
        put = self.client(above)
        hashes = [put.put_data(content(f"one {i}", 5000))["cap_hash"] for i in range(5)]
        stat, (_, body) = put.stat(hashes[1]), put.get(hashes[0])
        below = self.below(above)
        client = self.client(below, GET_MANY | MAP)
        self.assertEqual(client.get(hashes[0], 100, 200)[1], body[100:300])
        got = client.stat(hashes[1])
        self.assertEqual({**got, "published_us": 0}, {**stat, "published_us": 0})
        mapped = client.map(hashes[2])[0]
        self.assertEqual(mapped["body_len"], put.stat(hashes[2])["body_len"])
        many = client.get_many([absent(1), hashes[3], hashes[0], hashes[4], absent(2)])
        self.assertEqual([many[0], many[4]], [NOT_FOUND, NOT_FOUND])
        self.assertEqual([part[1] for part in many[1:4]], [put.get(hashes[i])[1] for i in (3, 0, 4)])
        self.assertEqual(below.admin("status")["upstream"]["caps"], 5)

    def test_many_caps_at_once(self):
        """A GET_MANY of a thousand comes in few round trips, as do as many GETs."""
        above = self.above()
        put = self.client(above)
        hashes = [put.put_data(content(f"small {i}", 500))["cap_hash"] for i in range(400)]
        client = self.client(self.below(above))
        self.assertEqual(client.get_many(hashes), [(2, put.get(one)[1]) for one in hashes])
        self.assertLess(self.asked_above(above, "get_many"), 40)

    def test_long_bodies(self):
        """What is too long for memory goes through the spool, and leaves nothing there."""
        above = self.above()
        put = self.client(above)
        long = put.put_data(content("long", 20 * MIB))["cap_hash"]
        code = content("long code", 3 * MIB)
        image = put.put_image(wire.simple_image(code, data=[(b"\x01", content("its data", 2 * MIB))]))["cap_hash"]
        below = self.below(above)
        client = self.client(below)
        for one in (long, image):
            self.assertEqual(client.get(one), put.get(one))
        self.assertEqual(below.admin("status")["upstream"]["file_bytes"], 0)
        self.assertEqual(list((below.state / "spool").iterdir()), [])

    def test_one_fetch_for_many_who_ask(self):
        """Twelve clients on all loops ask for the same at once: it comes once."""
        above = self.above()
        one = self.client(above).put_data(content("wanted", 8 * MIB))["cap_hash"]
        body_len = self.client(above).stat(one)["body_len"]
        below = self.below(above, "--threads", "2")
        clients = [self.client(below) for _ in range(12)]
        asked = [client.request("GET", hash=one, offset=0, len=protocol.TO_END) for client in clients]
        bodies = {client.wait_get(request)[1] for client, request in zip(clients, asked)}
        self.assertEqual(len(bodies), 1)
        self.assertLess(above.figures()["capstore_served_body_bytes_total"], body_len + MIB)  # and the head of one
        self.assertEqual(below.admin("status")["upstream"]["caps"], 1)

    def test_caches_of_caches(self):
        above = self.above()
        root, hashes, bodies = self.program(above, depth=3)
        middle = self.below(above, name="middle")
        below = self.below(middle)
        client = self.client(below)
        self.assertEqual(client.get(root), bodies[root])
        self.assertNotIn(0, client.has(hashes))
        self.assertNotIn(0, self.client(middle).has(hashes))
        self.assertRefuses("not_found", client.get, absent(7))

    def degraded(self, below, *lost):
        """Deletes caps from a cache, although its Images refer to them."""
        for one in lost:
            below.admin("cap.delete", hash=one.hex(), force=True)
        self.assertEqual({broken["cap_hash"] for broken in below.admin("status")["broken"]},
                         {one.hex() for one in lost})

    def assertComplete(self, entries, bodies):
        """That a closure's entries are these caps, each with its body."""
        self.assertEqual([entry[0].hex() for entry in entries if entry[1] == 0], [])
        self.assertTrue({entry[0]: entry[3] for entry in entries} == {one: body for one, (_, body) in bodies.items()})

    def test_degraded_image_is_healed(self):
        """What an Image refers to and was deleted here comes again with the Image, however it is asked for."""
        above = self.above()
        root, hashes, bodies = self.program(above)
        below = self.below(above)
        client = self.client(below, GET_MANY | CLOSURE)
        client.get(root)
        for ask in (lambda: client.get(root), lambda: client.stat(root), lambda: client.get_many([root]),
                    lambda: client.closure([root])):
            self.degraded(below, hashes[1], hashes[-1])  # what the inner Image refers to, and what the root does
            ask()
            self.assertNotIn(0, client.has(hashes))
            self.assertEqual(below.admin("status")["degraded"], [])
        self.degraded(below, hashes[0])
        entries = client.closure([root])
        self.assertComplete(entries, bodies)

    def test_degraded_by_much(self):
        """More is lost than one fetch of a request brings."""
        above = self.above()
        root, hashes, bodies = self.program(above, data=100, depth=1)
        below = self.below(above)
        client = self.client(below, CLOSURE)
        client.get(root)
        self.degraded(below, *hashes[1:])
        entries = client.closure([root])
        self.assertComplete(entries, bodies)

    def test_degraded_image_stays_here(self):
        """What is lost cannot be had: the Image is here, and is served."""
        above = self.above()
        root, hashes, bodies = self.program(above, depth=1)
        below = self.below(above, "--upstream-timeout", "2000")
        client = self.client(below, CLOSURE)
        client.get(root)
        above.kill()
        self.degraded(below, hashes[1])
        self.assertEqual(client.get(root), bodies[root])
        self.assertEqual([entry[0] for entry in client.closure([root]) if entry[1] == 0], [hashes[1]])
        self.assertRefuses("upstream_away", client.get, hashes[1])

    # What does not.

    def test_absent(self):
        """Remembered for some seconds, so that asking again costs nobody anything."""
        above = self.above()
        client = self.client(self.below(above))
        for _ in range(50):
            self.assertRefuses("not_found", client.get, absent(1))
            self.assertRefuses("not_found", client.stat, absent(1))
        self.assertEqual(self.asked_above(above, "get", "get_many"), 1)

    def test_published_above_later(self):
        above = self.above()
        client, put = self.client(self.below(above)), self.client(above)
        raw = content("later", 100)
        one = self.hash_of(raw)
        self.assertRefuses("not_found", client.get, one)
        self.assertEqual(put.put_data(raw)["cap_hash"], one)
        wait_until(lambda: self.comes(client, one, "not_found"), "what is remembered to be forgotten")

    def hash_of(self, raw):
        other = self.daemon(name="other")
        return self.client(other).put_data(raw)["cap_hash"]

    def test_random_hashes(self):
        """A peer that asks for a thousand hashes at random costs the daemon above its tokens, and no more."""
        above = self.above()
        below = self.below(above, "--upstream-rate", "1", "--upstream-timeout", "1500")
        flood = self.client(below)
        answers = flood.get_many([absent(i) for i in range(1000)])
        self.assertEqual(set(answers), {NOT_FOUND, AWAY})
        status = below.admin("status")["upstream"]
        self.assertLess(status["absent"], 300)  # 256, and one for each second
        self.assertEqual(status["state"], "up")  # who waited did so for tokens
        self.assertEqual(flood.get_many([]), [])

    def test_away(self):
        """Nobody is above: an error by name, at once; when it is there again, so is what it has."""
        above = self.above()
        one = self.client(above).put_data(content("there", 5000))["cap_hash"]
        here = content("here", 100)
        below = self.below(above)
        client = self.client(below)
        mine = client.put_data(here)["cap_hash"]
        above.kill()
        refused = self.assertRefuses("upstream_away", client.get, one)
        self.assertIn(one.hex(), refused.message)
        self.assertRefuses("upstream_away", client.stat, one)
        self.assertEqual(client.get_many([one, mine])[0], AWAY)
        self.assertShows(below, "away")
        above.start()
        wait_until(lambda: self.comes(client, one, "upstream_away"), "the daemon above to be dialled again")
        self.assertShows(below, "up")
        self.assertIn("upstream_away", below.log())
        self.assertIn("upstream_up", below.log())

    def assertShows(self, below, state, message=""):
        """That operators are told of this state, and of no other: by status, its warnings and the metrics."""
        status, figures = below.admin("status"), below.figures()
        self.assertEqual(status["upstream"]["state"], state)
        self.assertIn(message, status["upstream"]["message"] or "")
        reasons = [warning["reason"] for warning in status["warnings"]]
        for one in ("away", "broken"):
            self.assertEqual(figures[f"capstore_upstream_{one}"], 1 if one == state else 0)
            self.assertEqual(f"upstream_{one}" in reasons, one == state, reasons)

    def test_restarted_above(self):
        """A connection that went with a restart is dialled anew, without an error."""
        above = self.above()
        put = self.client(above)
        hashes = [put.put_data(content(f"restart {i}", 100))["cap_hash"] for i in range(2)]
        client = self.client(self.below(above))
        client.get(hashes[0])
        above.stop()
        above.start()
        client.get(hashes[1])

    def test_lies(self):
        """A body of another cap is an error by name; it is not served, and not kept."""
        vector = self.daemon(name="other")
        put = self.client(vector)
        one, other = (put.put_data(content(f"lie {i}", 9000))["cap_hash"] for i in range(2))
        long = put.put_data(content("long lie", 3 * MIB))["cap_hash"]
        _, wrong = put.get(other)
        _, right_long = put.get(long)
        flipped = bytearray(right_long)
        flipped[2 * MIB] ^= 1

        def answer(connection, request_id, name, cap_hash):
            if name == "STAT":
                send_stat(connection, request_id, flipped)
            else:
                send_body(connection, request_id, bytes(flipped) if cap_hash == long else wrong)

        fake = Fake(self.root / "fake", answer)
        self.addCleanup(fake.close)
        below = self.below(fake.address)
        client = self.client(below)
        for cap_hash in (one, long):
            self.assertRefuses("upstream_broken", client.get, cap_hash)
            self.assertEqual(client.has([cap_hash]), [0])
            self.assertEqual(client.get_many([cap_hash]), [BROKEN])
            self.assertShows(below, "broken", "does not match the hash" if cap_hash == one else "")
        self.assertEqual(client.get(other)[1], wrong)  # that one it does have
        self.assertShows(below, "up")
        self.assertIn("upstream_broken", below.log())
        self.assertEqual(below.admin("status")["upstream"]["failed"], 2)

    def test_half_a_body(self):
        """It goes away in the middle: an error, nothing kept; the next who asks has it."""
        put = self.client(self.daemon(name="other"))
        one = put.put_data(content("half", 500 * KIB))["cap_hash"]
        _, body = put.get(one)
        cuts = [200 * KIB]

        def answer(connection, request_id, _, cap_hash):
            send_body(connection, request_id, body, cuts[0] if cuts else None)
            if cuts:
                cuts.pop()
                connection.sock.shutdown(socket.SHUT_RDWR)

        fake = Fake(self.root / "fake", answer)
        self.addCleanup(fake.close)
        client = self.client(self.below(fake.address))
        self.assertRefuses("upstream_away", client.get, one)
        self.assertEqual(client.has([one]), [0])
        wait_until(lambda: self.comes(client, one, "upstream_away"), "it to be asked again")

    def test_says_nothing(self):
        """It takes the question and never answers: the client waits for upstream-timeout, and others do not."""
        silent = absent(0x51)
        put = self.client(self.daemon(name="other"))
        one = put.put_data(content("quick", 500))["cap_hash"]
        _, body = put.get(one)

        def answer(connection, request_id, _, cap_hash):
            if cap_hash != silent:
                send_body(connection, request_id, body)

        fake = Fake(self.root / "fake", answer)
        self.addCleanup(fake.close)
        below = self.below(fake.address, "--upstream-timeout", "700")
        client = self.client(below)
        slow = client.request("GET", hash=silent, offset=0, len=protocol.TO_END)
        wait_until(lambda: silent in fake.asked, "the question to come up")
        self.assertEqual(client.get(one)[1], body)  # overtakes it
        fetch, = below.admin("status")["upstream"]["fetches"]
        self.assertEqual((fetch["cap_hash"], fetch["asked"], fetch["caps"], fetch["body_bytes"]),
                         (silent.hex(), 1, 0, 0))
        self.assertGreater(below.figures()["capstore_upstream_fetch_seconds"], 0)
        self.assertRefuses("upstream_away", client.wait_get, slow)
        gone = client.request("GET", hash=silent, offset=0, len=protocol.TO_END)
        client.cancel(gone)
        self.assertRefuses("cancelled", client.wait_get, gone)
        self.assertUsable(client)
        wait_until(lambda: below.admin("status")["requests_in_flight"] == 0, "the requests to be off")
        self.assertEqual(below.stop(20), 0)  # although it still waits up there

    def test_silence_is_away(self):
        """It accepts and never answers: away from when the client is told so, until something comes."""
        put = self.client(self.daemon(name="other"))
        one = put.put_data(content("late", 3 * MIB))["cap_hash"]
        _, body = put.get(one)
        speaks = threading.Event()

        def answer(connection, request_id, name, _):
            speaks.wait()
            send_some(connection, request_id, name, body)

        fake = Fake(self.root / "fake", answer)
        self.addCleanup(fake.close)
        self.addCleanup(speaks.set)
        below = self.below(fake.address, "--upstream-timeout", "4000")
        client = self.client(below)
        self.assertShows(below, "unused")
        asked = client.request("GET", hash=one, offset=0, len=protocol.TO_END)
        wait_until(lambda: fake.asked, "the question to come up")
        self.assertShows(below, "waiting")
        self.assertIsNotNone(below.admin("status")["upstream"]["since"])
        self.assertRefuses("upstream_away", client.wait_get, asked)
        self.assertShows(below, "away", "nothing came within upstream-timeout (4 s)")
        self.assertIn("upstream_away", below.log())
        speaks.set()
        wait_until(lambda: below.admin("status")["upstream"]["state"] == "up", "what comes to be seen")
        self.assertShows(below, "up")
        fetch, = below.admin("status")["upstream"]["fetches"]  # the same, which goes on
        self.assertEqual(fetch["cap_hash"], one.hex())
        self.assertIn("upstream_up", below.log())

    def test_fetches_under_way(self):
        """Operators see of a long fetch that it moves, or does not, and how much has come."""
        put = self.client(self.daemon(name="other"))
        one = put.put_data(content("long", 3 * MIB))["cap_hash"]
        _, body = put.get(one)

        def answer(connection, request_id, name, _):
            send_some(connection, request_id, name, body)

        fake = Fake(self.root / "fake", answer)
        self.addCleanup(fake.close)
        below = self.below(fake.address)
        self.client(below).request("GET", hash=one, offset=0, len=protocol.TO_END)

        def come():
            fetches = below.admin("status")["upstream"]["fetches"]
            return fetches and (fetches[0]["cap_hash"], fetches[0]["body_bytes"]) == (one.hex(), 2 * MIB)

        wait_until(come, "what was sent to have come")

    def test_drain(self):
        """Who waits while the daemon drains is told so, and it ends."""
        fake = Fake(self.root / "fake", lambda *_: None)
        self.addCleanup(fake.close)
        below = self.below(fake.address)
        clients = [self.client(below) for _ in range(3)]
        asked = [client.request("GET", hash=absent(i), offset=0, len=protocol.TO_END)
                 for i, client in enumerate(clients)]
        wait_until(lambda: len(fake.asked) >= 2, "the questions to come up")  # a peer has two threads
        below.process.send_signal(15)
        for client, request in zip(clients, asked):
            self.assertRefuses("draining", client.wait_get, request)
        self.assertEqual(below.process.wait(20), 0)
        below.process = None

    def test_circle(self):
        """Two caches, each above the other: a hash that neither has ends with an error, in bounded time."""
        ports = [free_port(), free_port()]
        one = self.daemon("--upstream", f"tcp:127.0.0.1:{ports[1]}", "--upstream-timeout", "500", name="one",
                          listen=[f"tcp:127.0.0.1:{ports[0]}"])
        two = self.daemon("--upstream", f"tcp:127.0.0.1:{ports[0]}", "--upstream-timeout", "500", name="two",
                          listen=[f"tcp:127.0.0.1:{ports[1]}"])
        for daemon in (one, two):
            with self.assertRaises(Refused) as caught:
                self.client(daemon).get(absent(9))
            self.assertIn(caught.exception.name, ("upstream_away", "not_found"))
        there = self.client(two).put_data(content("two has it", 100))["cap_hash"]
        wait_until(lambda: self.comes(self.client(one), there, "upstream_away"), "what the other has")

    def test_itself(self):
        path = self.root / "below" / "capstore.sock"
        below = self.below(f"unix:{path}")
        self.assertRefuses("upstream_broken", self.client(below).get, absent(3))
        self.assertIn("this daemon", below.admin("status")["upstream"]["message"])

    def test_no_room(self):
        """What is above and too much for this one is refused with the limit's name."""
        above = self.above()
        put = self.client(above)
        large = put.put_data(content("large", 2 * MIB))["cap_hash"]
        small = put.put_data(content("small", 200 * KIB))["cap_hash"]
        client = self.client(self.below(above, "--max-upload", str(MIB)))
        self.assertRefuses("upload_too_large", client.get, large)
        client = self.client(self.below(above, "--quota-total", str(100 * KIB), name="poor"))
        self.assertRefuses("quota_exceeded", client.get, small)
        self.assertEqual(client.has([small]), [0])

    def test_part_of_a_program_is_missing(self):
        """An Image whose data is gone above cannot be had: not_found, and nothing of it is half here."""
        above = self.above()
        root, hashes, _ = self.program(above, depth=1)
        above.admin("cap.delete", hash=hashes[1].hex(), force=True)
        client = self.client(self.below(above))
        self.assertRefuses("not_found", client.get, root)
        self.assertEqual(client.has([root, hashes[1]]), [0, 0])

    def test_bad_address(self):
        below = self.daemon("--upstream", "nowhere", name="below", start=False)
        below.start(wait=False)
        self.assertNotEqual(below.process.wait(20), 0)
        below.process = None
        self.assertIn("--upstream", below.log())


if __name__ == "__main__":
    unittest.main()
