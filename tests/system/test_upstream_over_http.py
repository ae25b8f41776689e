"""A cache in front whose daemon above is reached over HTTP: directly, through nginx, through a cache that lies."""

import threading
import unittest

from caches import MIB, Caches, absent
from harness import content, free_port, wait_until
from http_liar import HttpLiar, asked_range, head, ok, part
from proxies import Proxies, needs_nginx


class UpstreamOverHttp(Caches, Proxies):
    def above_http(self, *options, **more):
        """A daemon that serves HTTP, and the address of that."""
        self.serve(*options, name="above", **more)
        return self.d, f"http://127.0.0.1:{self.port}"

    def liar(self, answer):
        liar = HttpLiar(answer)
        self.addCleanup(liar.close)
        return liar

    def bodies(self, *sizes):
        """Data caps of a daemon that nobody asks: {hash: body}."""
        put = self.client(self.daemon(name="other"))
        hashes = [put.put_data(content(f"above {i}", size))["cap_hash"] for i, size in enumerate(sizes)]
        return {one: put.get(one)[1] for one in hashes}

    def test_whole_program(self):
        above, address = self.above_http()
        root, hashes, bodies = self.program(above)
        put = self.client(above)
        long = put.put_data(content("long", 5 * MIB))["cap_hash"]
        many = [put.put_data(content(f"small {i}", 500))["cap_hash"] for i in range(100)]
        below = self.below(address)
        client = self.client(below)
        self.assertEqual(client.get(root), bodies[root])
        self.assertNotIn(0, client.has(hashes))
        self.assertTrue(client.get(long) == put.get(long))
        self.assertTrue(client.get_many(many) == put.get_many(many))
        self.assertRefuses("not_found", client.get, absent(1))
        self.assertEqual(below.admin("status")["upstream"]["state"], "up")
        self.assertEqual(list((below.state / "spool").iterdir()), [])

    @needs_nginx
    def test_through_nginx(self):
        """Two caches behind one of nginx: what the first has brought, the second has from there."""
        above, _ = self.above_http()
        root, hashes, bodies = self.program(above)
        self.start_nginx()
        address = f"http://127.0.0.1:{self.proxy_port}{self.prefix}"
        first = self.client(self.below(address, name="first"))
        self.assertEqual(first.get(root), bodies[root])
        asked = self.asked()
        second = self.client(self.below(address, name="second"))
        self.assertEqual(second.get(root), bodies[root])
        self.assertNotIn(0, second.has(hashes))
        self.assertLess(self.asked() - asked, len(hashes))  # its probes, no bodies
        self.assertRefuses("not_found", second.get, absent(1))

    def test_cache_that_lies(self):
        """A poisoned cache is upstream_broken, and never a wrong byte."""
        true = self.bodies(9000, 7000, 3 * MIB)
        one, other, long = true
        flipped = bytearray(true[long])
        flipped[2 * MIB] ^= 1

        def answer(path, headers):
            cap_hash = bytes.fromhex(path.split("/")[2])
            body = {one: true[other], other: true[other], long: bytes(flipped)}[cap_hash]
            if "range" in headers:
                return part(body, *asked_range(headers, len(body)))
            return ok(body)

        liar = self.liar(answer)
        below = self.below(liar.url)
        client = self.client(below)
        for cap_hash in (one, long):
            self.assertRefuses("upstream_broken", client.get, cap_hash)
            self.assertEqual(client.has([cap_hash]), [0])
        self.assertEqual(client.get(other)[1], true[other])
        self.assertIn("upstream_broken", below.log())

    def test_away(self):
        port = free_port()
        above, address = self.above_http(http=f"tcp:127.0.0.1:{port}")
        one = self.client(above).put_data(content("there", 5000))["cap_hash"]
        client = self.client(self.below(address))
        above.kill()
        self.assertRefuses("upstream_away", client.get, one)
        above.start()
        wait_until(lambda: self.comes(client, one, "upstream_away"), "the daemon above to be dialled again")

    def test_says_nothing(self):
        """A server that never answers: an error in time, and the daemon stops at once all the same."""
        go = threading.Event()
        self.addCleanup(go.set)

        def answer(*_):
            go.wait(60)
            return head("503 Service Unavailable")

        liar = self.liar(answer)
        below = self.below(liar.url, "--upstream-timeout", "700")
        self.assertRefuses("upstream_away", self.client(below).get, absent(1))
        self.assertEqual(below.stop(20), 0)

    def test_itself(self):
        port = free_port()
        below = self.serve("--upstream", f"http://127.0.0.1:{port}", http=f"tcp:127.0.0.1:{port}", name="below")
        self.assertRefuses("upstream_broken", self.client(below).get, absent(3))
        self.assertIn("this daemon", below.admin("status")["upstream"]["message"])

    def test_bad_addresses(self):
        for address in ("http://", "http://:80", "https:///caps", "http://host?x", "ftp://host"):
            below = self.daemon("--upstream", address, name="below", start=False)
            below.start(wait=False)
            self.assertNotEqual(below.process.wait(20), 0)
            below.process = None
            self.assertIn("--upstream", below.log())


if __name__ == "__main__":
    unittest.main()
