"""Caches in front of HTTP: what they have got once they serve without the daemon, in ranges and slices, too."""

import unittest

import wire
from harness import PAGE, content
from protocol import decode_entries
from proxies import Proxies, needs_nginx, needs_varnish


class Caches(Proxies):
    def second_is_free(self, path, **headers):
        """Asks twice; the second answer is the first, and the daemon has not heard of it. Returns it."""
        first = self.through(path, **headers)
        self.assertIn(first.status, (200, 206), path)
        before = self.asked()
        again = self.through(path, **headers)
        self.assertEqual((again.status, again.body), (first.status, first.body), path)
        self.assertEqual(self.asked(), before, f"{path} was asked for again")
        return again

    def check(self):
        data = content("cached", 300 * PAGE)
        cap_hash = self.publish(data)
        body = self.body(cap_hash)
        # A range of what the cache does not have, then the whole, then ranges of that.
        part = self.through(f"/caps/{cap_hash}", Range="bytes=70000-140000")
        self.assertEqual((part.status, part.body), (206, body[70000:140001]))
        self.assertEqual(self.second_is_free(f"/caps/{cap_hash}").body, body)
        before = self.asked()
        for first, last in ((0, 0), (100, 200000), (len(body) - 9, len(body) - 1)):
            part = self.through(f"/caps/{cap_hash}", Range=f"bytes={first}-{last}")
            self.assertEqual((part.status, part.body), (206, body[first:last + 1]))
        self.assertEqual(self.through(f"/caps/{cap_hash}", If_None_Match=f'"{cap_hash}"').status, 304)
        self.assertEqual(self.asked(), before, "ranges of what is cached are the cache's")
        self.assertEqual(self.second_is_free(f"/caps/{cap_hash}/content").body, data)
        for pages in ("0-15,100", "", "299"):
            path = f"/caps/{cap_hash}/slice?pages={pages}"
            self.assertEqual(self.second_is_free(path).body, self.ask(path).body)
        self.assertEqual(self.second_is_free(f"/caps/{cap_hash}/info").json["size"], len(data))
        self.check_what_is_not_kept(cap_hash)

    def check_what_is_not_kept(self, cap_hash):
        with self.d.connect() as c:
            image = c.put_image(wire.simple_image(content("code", 500), [(b"a", content("a", 100))]))["cap_hash"].hex()
        self.assertEqual(len(decode_entries(self.through(f"/closures/{image}").body)), 2)
        for path in ("/metrics", "/readyz", f"/closures/{image}", "/"):
            before = self.asked()
            self.assertEqual((self.through(path).status, self.through(path).status), (200, 200))
            self.assertEqual(self.asked() - before, 2, path)
        late = content("late", 5)
        self.assertEqual(self.through(f"/caps/{'0' * 64}").status, 404)
        self.d.admin("cap.delete", hash=cap_hash, force=True)
        self.assertEqual(self.ask(f"/caps/{cap_hash}").status, 410)
        self.assertEqual(self.through(f"/caps/{cap_hash}").status, 200, "a cache keeps what it has")
        self.publish(late)

    @needs_nginx
    def test_nginx(self):
        for address in ("tcp:127.0.0.1:0", f"unix:{self.root}/http.sock"):
            with self.subTest(address):
                self.serve(http=address, name=f"d-{address[:4]}")
                self.start_nginx(f"nginx-{address[:4]}")
                self.check()

    @needs_varnish
    def test_varnish(self):
        self.serve()
        self.start_varnish()
        self.check()


if __name__ == "__main__":
    unittest.main()
