"""A cache in front that serves HTTP: requests for what is not here wait for the daemon above."""

import http.client
import socket
import threading
import unittest

from caches import KIB, MIB, Caches, Fake, absent, send_body
from harness import PAGE, content, wait_until
from over_http import Answer, Http


class Pipe:
    """What comes of a connection, for several responses: bytes behind one are the next one's, so nobody closes it."""

    def __init__(self, s):
        self.file = s.makefile("rb")

    def makefile(self, _mode):
        return self

    def close(self):
        pass

    def __getattr__(self, name):
        return getattr(self.file, name)


class UpstreamHttp(Caches, Http):
    def cache(self, above, *options, name="below", **more):
        """A cache that serves HTTP; `above` is a daemon or an address."""
        address = above if isinstance(above, str) else above.address
        return self.serve("--upstream", address, *options, name=name, **more)

    def fake(self, answer=lambda *_: None):
        fake = Fake(self.root / "fake", answer)
        self.addCleanup(fake.close)
        return fake

    def begin(self, path, method="GET"):
        """A request that is sent; its answer is not read."""
        connection = self.connection()
        connection.request(method, path)
        return connection

    def end(self, connection):
        return Answer(connection.getresponse())

    def waits(self, fake, *hashes):
        wait_until(lambda: set(hashes) <= set(fake.asked), "the question to come up")

    # What comes through.

    def test_every_path(self):
        """Body, content, slice, info, a closure and a page: each is about a cap that is only above."""
        above = self.above()
        put = self.client(above)
        raw = content("over HTTP", 3 * PAGE + 5)
        hashes = [put.put_data(raw + bytes([i]))["cap_hash"] for i in range(7)]
        root, program, bodies = self.program(above)
        self.cache(above)
        answer = self.ask(f"/caps/{hashes[0].hex()}")
        self.assertEqual((answer.status, answer.body), (200, put.get(hashes[0])[1]))
        self.assertIn("immutable", answer.headers["Cache-Control"])
        answer = self.ask(f"/caps/{hashes[1].hex()}/content")
        self.assertEqual((answer.status, answer.body[:len(raw) + 1]), (200, raw + b"\x01"))
        self.assertEqual(self.ask(f"/caps/{hashes[2].hex()}/slice?pages=0-1").status, 200)
        self.assertEqual(self.ask(f"/caps/{hashes[3].hex()}/info").json["cap_hash"], hashes[3].hex())
        self.assertEqual(self.ask(f"/caps/{hashes[4].hex()}/view").status, 200)
        answer = self.ask(f"/caps/{hashes[5].hex()}", method="HEAD")
        self.assertEqual((answer.status, answer.headers["Content-Length"]), (200, str(put.stat(hashes[5])["body_len"])))
        answer = self.ask(f"/caps/{hashes[6].hex()}", Range="bytes=10-29")
        self.assertEqual((answer.status, answer.body), (206, put.get(hashes[6])[1][10:30]))
        closure = self.ask(f"/closures/{root.hex()}")
        self.assertEqual(closure.status, 200)
        for one in program:
            self.assertIn(bodies[one][1], closure.body)
        self.assertEqual(self.d.figures()["capstore_upstream_awaited_total"], 8)
        above.stop()
        self.assertEqual(self.ask(f"/caps/{root.hex()}").body, bodies[root][1])

    def test_keep_alive(self):
        """A connection that has waited goes on, with requests that wait and with such that do not."""
        above = self.above()
        put = self.client(above)
        hashes = [put.put_data(content(f"alive {i}", 500))["cap_hash"] for i in range(5)]
        self.cache(above)
        connection = self.connection()
        for one in [*hashes, absent(1), hashes[0], absent(1)]:
            answer = self.ask(f"/caps/{one.hex()}", connection=connection)
            self.assertEqual(answer.status, 404 if one == absent(1) else 200)
        self.assertEqual(self.d.figures()["capstore_http_requests_total"], 8)

    def test_pipelined(self):
        """Requests behind one that waits are answered after it, in order."""
        above = self.above()
        put = self.client(above)
        hashes = [put.put_data(content(f"pipe {i}", 300))["cap_hash"] for i in range(4)]
        self.cache(above)
        with self.raw(b"".join(b"GET /caps/%s HTTP/1.1\r\nHost: x\r\n\r\n" % one.hex().encode() for one in hashes)) as s:
            pipe = Pipe(s)
            for one in hashes:
                response = http.client.HTTPResponse(pipe)
                response.begin()
                self.assertEqual(response.read(), put.get(one)[1])

    def test_with_a_body(self):
        """A GET with a body waits, too, and then its connection ends."""
        above = self.above()
        one = self.client(above).put_data(content("odd", 300))["cap_hash"]
        self.cache(above)
        with self.raw(b"GET /caps/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" % one.hex().encode()) as s:
            response = http.client.HTTPResponse(s)
            response.begin()
            self.assertEqual((response.status, response.read()), (200, self.client(above).get(one)[1]))
            self.assertEqual(s.recv(1), b"")

    def test_two_levels(self):
        above = self.above()
        root, hashes, bodies = self.program(above, depth=3)
        middle = self.below(above, name="middle")
        self.cache(middle)
        self.assertEqual(self.ask(f"/caps/{root.hex()}").body, bodies[root][1])
        self.assertNotIn(0, self.client(self.d).has(hashes))
        self.assertNotIn(0, self.client(middle).has(hashes))
        self.refuses(self.ask(f"/caps/{absent(7).hex()}"), 404, "not_found")

    def test_one_fetch_for_many_who_ask(self):
        """Twenty clients of HTTP and ten of the protocol ask for the same at once: it comes once."""
        wanted, body = self.body_of(200 * KIB)
        go = threading.Event()

        def answer(connection, request_id, _, __):
            go.wait(60)
            send_body(connection, request_id, body)

        fake = self.fake(answer)
        self.cache(fake.address)
        clients = [self.client(self.d) for _ in range(10)]
        asked = [client.request("GET", hash=wanted, offset=0, len=2**64 - 1) for client in clients]
        waiting = [self.begin(f"/caps/{wanted.hex()}") for _ in range(20)]
        wait_until(lambda: self.d.figures()["capstore_upstream_awaited_total"] == 30, "all to wait")
        go.set()
        self.assertEqual({self.end(connection).body for connection in waiting}, {body})
        self.assertEqual({client.wait_get(request)[1] for client, request in zip(clients, asked)}, {body})
        self.assertEqual(fake.asked, [wanted])

    def body_of(self, size):
        """A Data cap that no daemon of the test has but one that is none of its business."""
        put = self.client(self.daemon(name="other"))
        one = put.put_data(content("wanted", size))["cap_hash"]
        return one, put.get(one)[1]

    def test_degraded_image_is_healed(self):
        """A closure, and the Image itself, bring what the Image refers to and was deleted here."""
        above = self.above()
        root, hashes, bodies = self.program(above, data=40)
        below = self.cache(above)
        complete = self.ask(f"/closures/{root.hex()}").body
        for path in ("closures", "caps"):
            for one in hashes[1:41]:  # of the inner Image
                below.admin("cap.delete", hash=one.hex(), force=True)
            answer = self.ask(f"/{path}/{root.hex()}")
            self.assertTrue(answer.body == (complete if path == "closures" else bodies[root][1]))
            self.assertEqual(below.admin("status")["broken"], [])
        above.kill()
        below.admin("cap.delete", hash=hashes[1].hex(), force=True)
        self.assertEqual(self.ask(f"/caps/{root.hex()}").status, 200)
        self.assertEqual(self.ask(f"/closures/{root.hex()}").status, 200)
        self.refuses(self.ask(f"/caps/{hashes[1].hex()}"), 504, "upstream_away")

    # What does not.

    def test_others_do_not_wait(self):
        """More wait than there are threads: who asks for what is here, and for health, is answered."""
        fake = self.fake()
        self.cache(fake.address)
        here = self.publish()
        waiting = [self.begin(f"/caps/{absent(i).hex()}") for i in range(40)]
        wait_until(lambda: self.d.figures()["capstore_upstream_awaited_total"] == 40, "all to wait")
        for _ in range(16):  # so that each thread has some of these
            self.assertEqual(self.ask(f"/caps/{here}").status, 200)
            self.assertEqual(self.ask("/readyz").status, 200)
        for connection in waiting:
            connection.close()

    def test_absent(self):
        above = self.above()
        self.cache(above)
        for _ in range(20):
            self.refuses(self.ask(f"/caps/{absent(1).hex()}"), 404, "not_found")
            self.refuses(self.ask(f"/closures/{absent(1).hex()}"), 404, "not_found")
        self.assertEqual(self.asked_above(above, "get", "get_many"), 1)

    def test_away(self):
        above = self.above()
        one = self.client(above).put_data(content("there", 5000))["cap_hash"]
        self.cache(above)
        above.kill()
        answer = self.refuses(self.ask(f"/caps/{one.hex()}"), 504, "upstream_away")
        self.assertIn(one.hex(), answer.json["message"])
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        above.start()
        wait_until(lambda: self.ask(f"/caps/{one.hex()}").status == 200, "the daemon above to be dialled again")

    def test_broken(self):
        _, wrong = self.body_of(9000)
        fake = self.fake(lambda connection, request_id, *_: send_body(connection, request_id, wrong))
        self.cache(fake.address)
        for path in (f"/caps/{absent(5).hex()}", f"/closures/{absent(5).hex()}", f"/caps/{absent(5).hex()}/info"):
            self.refuses(self.ask(path), 502, "upstream_broken")

    def test_says_nothing(self):
        """It waits for upstream-timeout, and no longer; then operators are told, too."""
        fake = self.fake()
        below = self.cache(fake.address, "--upstream-timeout", "700")
        self.refuses(self.ask(f"/caps/{absent(1).hex()}"), 504, "upstream_away")
        upstream = below.admin("status")["upstream"]
        self.assertEqual((upstream["state"], upstream["message"]),
                         ("away", "nothing came within upstream-timeout (0.7 s)"))

    def test_client_goes_away(self):
        """It withdraws: nobody waits for what nobody has begun to fetch, and its account is free again."""
        fake = self.fake()
        self.cache(fake.address, "--max-peer-requests", "12")
        first = []
        for i in range(2):  # one by one, so that each takes one of a peer's two threads
            first.append(self.begin(f"/caps/{absent(i).hex()}"))
            self.waits(fake, absent(i))
        for _ in range(3):
            others = [self.begin(f"/caps/{absent(i).hex()}") for i in range(2, 12)]
            wait_until(lambda: self.upstream()["waiting"] == 10, "the others to wait")
            for connection in others:
                connection.close()
            wait_until(lambda: self.upstream()["waiting"] == 0, "the others to have gone")
        self.assertEqual(self.upstream()["under_way"], 2)
        for connection in first:
            connection.close()
        wait_until(lambda: self.d.figures()["capstore_connections"] == 0, "the first two to have gone")

    def upstream(self):
        return self.d.admin("status")["upstream"]

    def test_peer_shares(self):
        """A request that waits counts among its peer's, and only once."""
        go = threading.Event()

        def answer(connection, request_id, *_):
            go.wait(60)
            send_body(connection, request_id, bytes(100))

        fake = self.fake(answer)
        self.cache(fake.address, "--max-peer-requests", "3")
        waiting = [self.begin(f"/caps/{absent(i).hex()}") for i in range(3)]
        wait_until(lambda: self.d.figures()["capstore_upstream_awaited_total"] == 3, "them to wait")
        self.refuses(self.ask(f"/caps/{absent(9).hex()}"), 503, "too_many_requests")
        go.set()
        for connection in waiting:
            self.refuses(self.end(connection), 502, "upstream_broken")

    def test_drain(self):
        fake = self.fake()
        below = self.cache(fake.address)
        waiting = [self.begin(f"/caps/{absent(i).hex()}") for i in range(8)]
        wait_until(lambda: below.figures()["capstore_upstream_awaited_total"] == 8, "them to wait")
        below.process.send_signal(15)
        for connection in waiting:
            self.refuses(self.end(connection), 503, "draining")
        self.assertEqual(below.process.wait(20), 0)
        below.process = None

    def test_stop(self):
        """A second signal ends the daemon at once, although some wait."""
        fake = self.fake()
        below = self.cache(fake.address, "--drain-ms", "600000")
        waiting = [self.begin(f"/caps/{absent(i).hex()}") for i in range(8)]
        idle = self.client(below)  # and an upload that keeps the drain from ending
        idle.send_frame("PUT_DATA", 1, b"")
        wait_until(lambda: below.figures()["capstore_upstream_awaited_total"] == 8, "them to wait")
        below.process.send_signal(15)
        below.process.send_signal(15)
        self.assertEqual(below.process.wait(20), 0)
        below.process = None
        for connection in waiting:
            connection.close()


if __name__ == "__main__":
    unittest.main()
