"""HTTP: what hashes name is served whole, in ranges and to caches; clients that are slow or hostile are bounded."""

import base64
import email
import email.policy
import hashlib
import html.parser
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import unittest

import harness
import wire
from harness import PAGE, SANITIZED, VECTORS, content, wait_until
from over_http import Http
from protocol import decode_entries

MIB = 1 << 20
FOREVER = "public, max-age=31536000, immutable"


def whole(data):
    return data + bytes(-len(data) % PAGE)


class Caps(Http):
    def test_the_body_is_what_the_protocol_serves(self):
        for http_address in ("tcp:127.0.0.1:0", f"unix:{self.root}/http.sock"):
            with self.subTest(http_address):
                self.serve(http=http_address, name=http_address[:4])
                for data in (b"x", content("middle", 100 * PAGE + 1), content("large", 9 * MIB)):
                    cap_hash = self.publish(data)
                    expected = self.body(cap_hash)
                    got = self.ask(f"/caps/{cap_hash}")
                    self.assertEqual((got.status, got.body), (200, expected))
                    self.assertEqual(got.headers["Content-Length"], str(len(expected)))
                    self.assertEqual(got.headers["ETag"], f'"{cap_hash}"')
                    self.assertEqual(got.headers["Cache-Control"], FOREVER)
                    self.assertEqual(got.headers["Accept-Ranges"], "bytes")
                    self.assertEqual(got.headers["Content-Type"], "application/octet-stream")
                    self.assertEqual(got.headers["X-Content-Type-Options"], "nosniff")
                    with self.d.connect(hello=False) as c:
                        self.assertEqual(got.headers["Capstore-Store"], c.hello()["store_id"].hex())
                    head = self.ask(f"/caps/{cap_hash}", method="HEAD")
                    self.assertEqual((head.status, head.body), (200, b""))
                    self.assertEqual({k: v for k, v in head.headers.items() if k != "Date"},
                                     {k: v for k, v in got.headers.items() if k != "Date"})
                    self.assertEqual(self.ask(f"/caps/{cap_hash}/content").body, whole(data))

    def test_content_with_holes_and_pages_that_repeat(self):
        self.serve()
        random.seed(7)
        pages = [b""] * 700
        for i in random.sample(range(700), 300):
            pages[i] = content(f"page {i % 20}", random.choice([PAGE, 1, 100]))
        data = b"".join(page + bytes(PAGE - len(page)) for page in pages)
        size = len(data) + 5000 * PAGE  # and nothing behind
        cap_hash = self.publish(data, size)
        got = self.ask(f"/caps/{cap_hash}/content")
        self.assertEqual(len(got.body), size)
        self.assertEqual(got.body, data + bytes(size - len(data)))
        for _ in range(60):
            first = random.randrange(len(data))
            last = min(first + random.choice([0, 1, 4095, 4096, 70000, 300000]), size - 1)
            part = self.ask(f"/caps/{cap_hash}/content", Range=f"bytes={first}-{last}")
            self.assertEqual(part.status, 206)
            self.assertEqual(part.body, got.body[first:last + 1], (first, last))

    def test_the_content_of_a_cap_as_large_as_one_can_be(self):
        self.serve()
        size = 2**64 - PAGE
        cap_hash = self.publish(b"hello", size)
        head = self.ask(f"/caps/{cap_hash}/content", method="HEAD")
        self.assertEqual((head.status, head.headers["Content-Length"]), (200, str(size)))
        for asked, first, last, body in (("0-6", 0, 6, b"hello\0\0"), ("-3", size - 3, size - 1, bytes(3)),
                                         (f"{2**44 - 2}-{2**44 + 1}", 2**44 - 2, 2**44 + 1, bytes(4))):
            got = self.ask(f"/caps/{cap_hash}/content", Range=f"bytes={asked}")
            self.assertEqual((got.status, got.headers["Content-Range"]), (206, f"bytes {first}-{last}/{size}"))
            self.assertEqual(got.body, body, asked)
        self.assertEqual(self.d.figures()['capstore_errors_total{reason="corrupt"}'], 0)

    def test_the_content_of_an_image_is_its_code(self):
        self.serve()
        code = content("code", 5 * PAGE + 8)
        with self.d.connect() as c:
            cap_hash = c.put_image(wire.simple_image(code, [(b"\x40", content("slot", PAGE))]))["cap_hash"].hex()
        self.assertEqual(self.ask(f"/caps/{cap_hash}/content").body, code)
        self.assertEqual(self.ask(f"/caps/{cap_hash}/content", Range="bytes=-9").body, code[-9:])
        self.assertEqual(self.ask(f"/caps/{cap_hash}").body, self.body(cap_hash))

    def test_ranges(self):
        self.serve()
        cap_hash = self.publish(content("ranges", 200 * PAGE))
        body = self.body(cap_hash)
        size = len(body)
        for asked, first, last in (("0-0", 0, 0), ("5-", 5, size - 1), ("-5", size - 5, size - 1),
                                   (f"0-{size * 9}", 0, size - 1), (f"-{size * 9}", 0, size - 1),
                                   ("65500-131100", 65500, 131100), (f"{size - 1}-99999999999999999999999", size - 1, size - 1)):
            got = self.ask(f"/caps/{cap_hash}", Range=f"bytes={asked}")
            self.assertEqual((got.status, got.headers["Content-Range"]), (206, f"bytes {first}-{last}/{size}"), asked)
            self.assertEqual(got.body, body[first:last + 1], asked)
            self.assertEqual(got.headers["Cache-Control"], FOREVER)
        for asked in (f"bytes={size}-", "bytes=-0"):
            got = self.ask(f"/caps/{cap_hash}", Range=asked)
            self.assertEqual((got.status, got.headers["Content-Range"]), (416, f"bytes */{size}"), asked)
        for asked in ("bytes=", "bytes=5-4", "bytes=x", "lines=1-2", "bytes=1-2,", "bytes=1-2 3-4", "bytes=--1",
                      "bytes=" + ",".join(["0-0"] * 17), f"bytes=0-{size - 1},0-0"):
            got = self.ask(f"/caps/{cap_hash}", Range=asked)
            self.assertEqual((got.status, len(got.body)), (200, size), asked)

    def test_several_ranges(self):
        self.serve()
        cap_hash = self.publish(content("parts", 200 * PAGE))
        body = self.body(cap_hash)
        ranges = [(0, 9), (100000, 300000), (len(body) - 3, len(body) - 1), (50, 50)]
        got = self.ask(f"/caps/{cap_hash}", Range="bytes=" + ", ".join(f"{a}-{b}" for a, b in ranges) + ",99999999-")
        self.assertEqual(got.status, 206)
        self.assertEqual(got.headers["Content-Length"], str(len(got.body)))
        message = email.message_from_bytes(f"Content-Type: {got.headers['Content-Type']}\r\n\r\n".encode() + got.body,
                                           policy=email.policy.HTTP)
        parts = list(message.iter_parts())
        self.assertEqual([part["Content-Range"] for part in parts], [f"bytes {a}-{b}/{len(body)}" for a, b in ranges])
        boundary = re.search("boundary=([0-9a-f]{32})$", got.headers["Content-Type"]).group(1).encode()
        chunks = got.body.split(b"--" + boundary)
        self.assertEqual([chunk.split(b"\r\n\r\n", 1)[1][:-2] for chunk in chunks[1:-1]],
                         [body[a:b + 1] for a, b in ranges])
        again = self.ask(f"/caps/{cap_hash}", Range="bytes=0-1,5-6").headers["Content-Type"]
        self.assertNotIn(boundary.decode(), again)  # nobody can guess it

    def test_what_a_client_has_is_not_sent_again(self):
        self.serve()
        cap_hash = self.publish()
        size = len(self.body(cap_hash))
        for known in (f'"{cap_hash}"', "*", f'"x", W/"{cap_hash}"'):
            got = self.ask(f"/caps/{cap_hash}", If_None_Match=known)
            self.assertEqual((got.status, got.body, got.headers["ETag"]), (304, b"", f'"{cap_hash}"'), known)
            self.assertIn(got.headers["Content-Length"], (None, str(size)))
        self.assertEqual(self.ask(f"/caps/{cap_hash}", If_None_Match='"x"').status, 200)
        self.assertEqual(self.ask(f"/caps/{'0' * 64}", If_None_Match="*").status, 404)
        for only_if, status in ((f'"{cap_hash}"', 206), ('"x"', 200), (f'W/"{cap_hash}"', 200),
                                ("Fri, 27 Nov 2026 06:54:41 GMT", 200)):
            self.assertEqual(self.ask(f"/caps/{cap_hash}", Range="bytes=0-1", If_Range=only_if).status, status, only_if)

    def test_what_is_not_here(self):
        self.serve()
        absent = self.refuses(self.ask(f"/caps/{'0' * 64}"), 404, "not_found")
        self.assertEqual(absent.headers["Cache-Control"], "public, max-age=10")
        deleted, forbidden, damaged = (self.publish(content(name, PAGE)) for name in ("deleted", "forbidden", "damaged"))
        self.d.admin("cap.delete", hash=deleted, force=True)
        gone = self.refuses(self.ask(f"/caps/{deleted}"), 410, "not_found")
        self.assertEqual(gone.headers["Cache-Control"], "public, max-age=10")
        self.d.admin("cap.forbid", hash=forbidden, reason='a "reason" <b>')
        self.assertIn('a "reason" <b>', self.refuses(self.ask(f"/caps/{forbidden}"), 410, "forbidden_cap").json["message"])
        for path in ("/caps/", "/caps/xyz", f"/caps/{damaged[:-1]}", f"/caps/{damaged.upper()}", f"/caps/{damaged}0",
                     f"/caps/0x{damaged}"):
            self.refuses(self.ask(path), 400, "invalid_argument")
        for path in ("/nothing", "/caps", f"/caps/{damaged}/", f"/caps/{damaged}/nothing", "/%2e%2e/etc/passwd", "//"):
            self.refuses(self.ask(path), 404, "invalid_argument")

    def test_a_damaged_cap_is_never_served(self):
        self.serve()
        data = content("damage", 20 * PAGE)
        cap_hash = self.publish(data)
        self.d.stop()
        file = self.d.state / "store" / "store.lmdb"
        stored = bytearray(file.read_bytes())
        at = stored.find(data[PAGE * 3:PAGE * 3 + 64])
        self.assertGreater(at, 0)
        stored[at] ^= 1
        file.write_bytes(stored)
        self.d.log_path.unlink()
        self.d.start()
        self.listening()
        with self.assertRaises((http.client.HTTPException, ConnectionError)):
            self.ask(f"/caps/{cap_hash}")
        wait_until(lambda: self.ask(f"/caps/{cap_hash}").status == 503, "the cap to be quarantined")
        answer = self.refuses(self.ask(f"/caps/{cap_hash}"), 503, "quarantined")
        self.assertEqual(answer.headers["Cache-Control"], "no-store")

    def test_scripts_of_other_origins_may_read_caps_and_no_figures(self):
        self.serve()
        cap_hash = self.publish()
        for path in (f"/caps/{cap_hash}", f"/caps/{'0' * 64}"):
            self.assertEqual(self.ask(path).headers["Access-Control-Allow-Origin"], "*")
        asked = self.ask(f"/caps/{cap_hash}", method="OPTIONS", Origin="https://example.org",
                         Access_Control_Request_Method="GET", Access_Control_Request_Headers="range")
        self.assertEqual((asked.status, asked.headers["Access-Control-Allow-Origin"]), (204, "*"))
        self.assertIn("Range", asked.headers["Access-Control-Allow-Headers"])
        for path in ("/metrics", "/healthz"):
            self.assertIsNone(self.ask(path).headers["Access-Control-Allow-Origin"])

    def test_nothing_is_written(self):
        self.serve()
        cap_hash = self.publish()
        for method in ("PUT", "POST", "DELETE", "PATCH", "TRACE", "BREW"):
            got = self.ask(f"/caps/{cap_hash}", method=method)
            self.assertEqual((got.status, got.headers["Allow"]), (405, "GET, HEAD, OPTIONS"), method)
        self.assertEqual(self.ask(f"/caps/{cap_hash}").status, 200)


class Parts(Http):
    def test_every_vector_of_slices(self):
        self.serve()
        index = json.loads((VECTORS / "index.json").read_text())
        for vector in index["valid"]:
            if not vector["images"]:
                self.ok(self.d.capctl("publish", VECTORS / vector["file"]))
        slices = json.loads((VECTORS / "slices.json").read_text())
        compared = 0
        for one in slices:
            pages = ",".join(f"{first}-{first + count - 1}" for first, count in one["ranges"])
            got = self.ask(f"/caps/{one['cap_hash']}/slice?pages={pages}")
            if got.status == 404:  # of an Image that is published nowhere
                continue
            self.assertEqual((got.status, len(got.body)), (200, one["len"]), one["vector"])
            self.assertEqual(hashlib.sha256(got.body).hexdigest(), one["sha256"], one["vector"])
            self.assertEqual((got.headers["ETag"], got.headers["Cache-Control"]), (f'"{one["cap_hash"]}"', FOREVER))
            compared += 1
        self.assertGreater(compared, 40)

    def test_a_long_slice_and_one_of_pages_typed_by_a_person(self):
        self.serve()
        data = content("slices", 3 * MIB)
        cap_hash = self.publish(data)
        everything = self.ask(f"/caps/{cap_hash}/slice?pages=0-767")
        self.assertGreater(len(everything.body), len(data))
        self.assertLess(len(everything.body), len(data) * 1.01)
        typed = self.ask(f"/caps/{cap_hash}/slice?pages=9,3-5,4-7,100")
        self.assertEqual(typed.body, self.ask(f"/caps/{cap_hash}/slice?pages=3-7,9,100").body)
        self.assertIn(data[100 * PAGE:101 * PAGE], typed.body)
        self.assertNotIn(data[99 * PAGE:99 * PAGE + 100], typed.body)
        self.assertEqual(self.ask(f"/caps/{cap_hash}/slice?pages=1", If_None_Match=f'"{cap_hash}"').status, 304)
        head = self.ask(f"/caps/{cap_hash}/slice?pages=1", method="HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        skeleton = self.ask(f"/caps/{cap_hash}/slice?pages=").body
        self.assertEqual(len(skeleton), 1 + 8 + 32 + 4)
        self.assertTrue(typed.body.startswith(skeleton[:41]))
        for query in ("", "?pages=x", "?pages=5-4", "?pages=1,", "?pages=,1", "?pages=1;2", "?pages=-1", "?pages=99999999999999999999",
                      "?pages=" + ",".join(str(2 * n) for n in range(257))):
            self.refuses(self.ask(f"/caps/{cap_hash}/slice{query}"), 400, "invalid_argument")
        self.refuses(self.ask(f"/caps/{cap_hash}/slice?pages=760-768"), 400, "range_out_of_body")
        self.refuses(self.ask(f"/caps/{'0' * 64}/slice?pages=0"), 404, "not_found")

    def program(self):
        """An Image of an Image, with data that they share; its hash."""
        shared = content("shared", 9000)
        with self.d.connect() as c:
            inner = c.put_image(wire.simple_image(content("inner", 5000), [(b"a", shared), (b"b", content("b", 3 * MIB))]))
            outer = c.put_image(wire.simple_image(content("outer", 300), [(b"a", shared), (b"c", content("c", 100))],
                                                  [(b"i", inner["cap_hash"])]))
        return outer["cap_hash"], inner["cap_hash"]

    def test_closures(self):
        self.serve()
        outer, inner = self.program()
        with self.connect(self.d, hello=False) as c:
            c.hello(features=32)
            expected = {have: c.closure([outer], have) for have in ((), (inner,))}
            got = self.ask(f"/closures/{outer.hex()}")
            self.assertEqual((got.status, got.headers["Cache-Control"]), (200, "no-store"))
            self.assertEqual(decode_entries(got.body), expected[()])
            self.assertEqual(len(expected[()]), 5)
            got = self.ask(f"/closures/{outer.hex()}?have={inner.hex()},{'1' * 64}")
            self.assertEqual(decode_entries(got.body), expected[(inner,)])
            listed = self.ask(f"/closures/{outer.hex()}?list")
            self.assertEqual(decode_entries(listed.body, True), [(h, k, n, None) for h, k, n, _ in expected[()]])
        for have in ("x", "1" * 63, f"{'1' * 64},", f"{'1' * 64};{'2' * 64}", "A" * 64):
            self.refuses(self.ask(f"/closures/{outer.hex()}?have={have}"), 400, "invalid_argument")
        self.refuses(self.ask(f"/closures/{'0' * 64}"), 404, "not_found")
        wait_until(lambda: self.d.admin("status")["memory"]["bytes"] == 0, "what the walks took to be free")

    def test_a_closure_that_is_too_large_ends_early(self):
        self.serve("--closure-max", "3")
        outer, _ = self.program()
        with self.assertRaises(http.client.IncompleteRead) as caught:
            self.ask(f"/closures/{outer.hex()}")
        entries = decode_entries(caught.exception.partial)
        self.assertEqual(len(entries), 3)
        have = ",".join(entry[0].hex() for entry in entries)
        rest = decode_entries(self.ask(f"/closures/{outer.hex()}?have={have}").body)
        self.assertEqual([entry[0] for entry in rest][-1], outer)

    def test_info(self):
        self.serve()
        outer, inner = self.program()
        got = self.ask(f"/caps/{outer.hex()}/info")
        self.assertEqual((got.headers["Content-Type"], got.headers["Cache-Control"], got.headers["ETag"]),
                         ("application/json", FOREVER, f'"{outer.hex()}"'))
        info = got.json
        self.assertEqual((info["cap_hash"], info["kind"], info["size"], info["pages"], info["body_len"]),
                         (outer.hex(), "image", 300, 1, len(self.body(outer.hex()))))
        self.assertIn(inner.hex(), [slot["cap_hash"] for slot in info["image"]["pinned"]])
        before = got.body
        self.d.admin("cap.delete", hash=inner.hex(), force=True)
        self.assertEqual(self.ask(f"/caps/{outer.hex()}/info").body, before, "nothing in it depends on what else is here")
        data = self.publish(b"x", 5 * PAGE)
        info = self.ask(f"/caps/{data}/info").json
        self.assertEqual((info["kind"], info["size"], info["pages"]), ("data", 5 * PAGE, 5))


class Page(html.parser.HTMLParser):
    """What a page holds: links, scripts, styles, inputs, rows of tables by the table's id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.rows, self.text, self.styles, self.table = [], [], {}, "", [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.assert_plain(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        elif tag == "table":
            self.table = self.rows.setdefault(attributes.get("id"), [])
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append("")

    def assert_plain(self, attributes):
        assert not any(name.startswith("on") or name == "style" for name in attributes), attributes

    def handle_data(self, data):
        self.text += data
        if self.tags and self.tags[-1] == "style" and data.strip() and not self.styles:
            self.styles.append(data)
        elif self.table and self.table[-1]:
            self.table[-1][-1] += data.strip()


class Pages(Http):
    def page(self, path, status=200):
        got = self.ask(path)
        self.assertEqual((got.status, got.headers["Content-Type"]), (status, "text/html; charset=utf-8"))
        page = Page(got.body.decode())
        self.assertNotIn("script", page.tags)
        self.assertEqual(page.tags.count("style"), 1)
        source = base64.b64encode(hashlib.sha256(page.styles[0].encode()).digest()).decode()
        self.assertEqual(got.headers["Content-Security-Policy"],
                         f"default-src 'none'; style-src 'sha256-{source}'; form-action 'self'; base-uri 'none'; "
                         "frame-ancestors 'none'")
        return page

    def image(self):
        with self.d.connect() as c:
            data = c.put_data(content("slot", 2 * PAGE))["cap_hash"].hex()
            image = c.put_image(wire.image(code=(0, 8), arena=bytes(8) + content("slot", 2 * PAGE),
                                           endpoints=[(b"<b>", wire.endpoint(0))],
                                           mappings=[wire.mapping(0x10000000, 2 * PAGE, [b"\x40"])],
                                           initial=[(b"\x40", wire.data_desc(2 * PAGE, [(0, 8, PAGE), (1, 8 + PAGE, PAGE)]))]))
        return image["cap_hash"].hex(), data

    def test_the_first_page(self):
        self.serve()
        self.publish()
        page = self.page("/")
        self.assertIn(["Data caps", "1, 0.0 MiB"], page.rows["figures"])
        self.assertIn("input", page.tags)
        self.assertIn("metrics", page.links)

    def test_looking_a_hash_up(self):
        self.serve()
        cap_hash = self.publish()
        for typed in (cap_hash, cap_hash[:7], cap_hash.upper()[:20], "%20%200x" + cap_hash[:9] + "%0a", "+" + cap_hash):
            got = self.ask(f"/find?hash={typed}")
            self.assertEqual((got.status, got.headers["Location"]), (303, f"caps/{cap_hash}/view"), typed)
        for typed in ("", "%20", "xyz", cap_hash + "0", "%3Cscript%3E"):
            self.page(f"/find?hash={typed}", 400)
        self.page("/find", 400)
        self.page("/find?hash=" + "0" * 64, 404)

    def test_caps(self):
        self.serve()
        image, data = self.image()
        page = self.page(f"/caps/{image}/view")
        self.assertIn(f"../../caps/{data}/view", page.links)
        self.assertEqual([row[0] for row in page.rows["mappings"]], ["from", "0x10000000"])
        self.assertEqual(page.rows["initial"][1][3:], ["yes", data])
        self.d.admin("cap.delete", hash=data, force=True)
        self.assertEqual(self.page(f"/caps/{image}/view").rows["initial"][1][3:], ["no", data])
        self.page(f"/caps/{data}/view", 404)
        hole = self.publish(b"x" * PAGE + bytes(PAGE) + b"y")
        self.assertEqual(len(self.page(f"/caps/{hole}/view").rows["runs"]), 3)
        self.page(f"/caps/{image}/view?offset=x", 400)
        self.assertNotIn("initial", self.page(f"/caps/{image}/view?offset=5").rows)

    @unittest.skipUnless(shutil.which("chromium"), "chromium is not installed")
    def test_a_browser(self):
        self.serve()
        image, data = self.image()
        root = f"http://127.0.0.1:{self.port}"
        for path, expected in (("/", "Look a hash up"), (f"/caps/{image}/view", data)):
            done = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                   f"--user-data-dir={self.root}/browser", "--enable-logging=stderr", "--v=0",
                                   "--virtual-time-budget=2000", "--dump-dom", root + path],
                                  capture_output=True, text=True, timeout=120, check=False)
            self.assertIn(expected, done.stdout, done.stderr[-2000:])
            self.assertNotIn("Content Security Policy", done.stderr)
        size = self.picture(root + f"/caps/{image}/view")
        self.assertGreater(size, 5000, "something is to be seen")

    def picture(self, url):
        path = self.root / "page.png"
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                        f"--user-data-dir={self.root}/browser", f"--screenshot={path}", url],
                       capture_output=True, timeout=120, check=False)
        return path.stat().st_size


class Monitoring(Http):
    def test_metrics_and_health(self):
        self.serve()
        got = self.ask("/metrics")
        self.assertEqual(got.headers["Content-Type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.assertEqual(got.headers["Cache-Control"], "no-store")
        self.assertTrue(got.body.endswith(b"# EOF\n"))
        names = {line.split()[2] for line in got.body.decode().splitlines() if line.startswith("# TYPE")}
        expected = {line.split()[2] for line in self.d.admin("metrics")["text"].splitlines() if line.startswith("# TYPE")}
        self.assertEqual(names, expected)
        for path, line in (("/healthz", b"ok\n"), ("/readyz", b"ready\n")):
            got = self.ask(path)
            self.assertEqual((got.status, got.body, got.headers["Cache-Control"]), (200, line, "no-store"))

    def test_metrics_count_what_other_loops_do(self):
        self.serve("--threads", "3")
        cap_hash = bytes.fromhex(self.publish())
        for _ in range(6):
            with self.d.connect() as c:
                c.has([cap_hash])

        def answered():
            text = self.ask("/metrics").body.decode()
            return int(re.search(r'capstore_requests_total\{type="has"\} (\d+)', text, re.I).group(1)) >= 6

        wait_until(answered, "the lookups of every loop")

    def test_many_scrapes_at_once(self):
        self.serve()
        bodies = []

        def scrape():
            for _ in range(20):
                bodies.append(self.ask("/metrics").body)

        threads = [threading.Thread(target=scrape) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(bodies), 120)
        self.assertTrue(all(body.endswith(b"# EOF\n") for body in bodies))


class Clients(Http):
    def test_one_connection_many_requests(self):
        self.serve()
        cap_hash = self.publish()
        connection = self.connection()
        for path in (f"/caps/{cap_hash}", "/healthz", "/nothing", f"/caps/{cap_hash}/content") * 20:
            self.ask(path, connection=connection)
        self.assertEqual(self.d.figures()["capstore_connections"], 1)
        connection.close()
        wait_until(self.d.holds_nothing, "the connection to be closed")

    def test_requests_in_one_packet(self):
        self.serve()
        request = f"GET /caps/{self.publish()} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        s = self.raw(request * 20 + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: s.recv(1 << 16), b""))
        self.assertEqual(got.count(b"HTTP/1.1 200 OK"), 21)
        self.assertTrue(got.endswith(b"ok\n"))

    def test_a_request_of_which_it_is_unsure_where_it_ends_is_the_last(self):
        """What follows may be the body of it to who stands in front, and then nobody asked for it."""
        self.serve()
        hidden = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        length = b"Content-Length: %d\r\n" % len(hidden)
        for header in (b"Content-Length: 0\r\n" + length, length + b"Content-Length: 0\r\n", length,
                       length.replace(b":", b" :"), b" " + length,
                       b"Content-Length: 0\r\nContent-Length: 0\r\n" + length,
                       b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"):
            s = self.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n" + hidden)
            got = b"".join(iter(lambda: s.recv(1 << 16), b""))  # it is closed
            self.assertEqual(got.count(b"HTTP/1.1 "), 1, (header, got))

    def test_more_connections_than_one_peer_may_have(self):
        self.serve("--max-peer-connections", "5")
        kept = [self.raw() for _ in range(5)]
        wait_until(lambda: self.d.figures()["capstore_connections"] == 5, "five connections")
        with self.raw() as s:
            got = b"".join(iter(lambda: s.recv(4096), b""))
        self.assertTrue(got.startswith(b"HTTP/1.1 503 "), got)
        self.assertIn(b"too_many_connections", got)
        with self.d.connect() as c:  # another peer
            self.assertUsable(c)
        for s in kept:
            s.close()
        wait_until(lambda: self.d.figures()["capstore_connections"] == 0, "them to be gone")
        self.assertEqual(self.ask("/healthz").status, 200)

    def test_a_header_that_does_not_end(self):
        self.serve("--hello-ms", "2000")
        s = self.raw(b"GET / HTTP/1.1\r\n")
        with self.assertRaises(OSError):
            for i in range(100000):
                s.sendall(b"X-%d: " % i + b"y" * 1000 + b"\r\n")
                s.setblocking(False)
                try:
                    if s.recv(4096) == b"" or i > 1000:
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                s.settimeout(60)
        wait_until(self.d.holds_nothing, "the connection to be closed")
        for line in (b"GET /" + b"a" * 60000 + b" HTTP/1.1\r\n\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n",
                     b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"\x01" * 600, b"GET / HTTP/1.1\r\nHost\r\n\r\n",
                     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                     b"GET /healthz HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"):
            s = self.raw()
            try:
                s.sendall(line)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            except OSError:
                pass
        wait_until(self.d.holds_nothing, "all of them to be closed")
        self.assertEqual(self.ask("/healthz").status, 200)

    def trickle(self, s, data):
        """Sends a byte every 50 ms until the daemon closes; fails when it does not."""
        s.settimeout(0.05)
        for at in range(600):
            try:
                s.sendall(data[at % len(data):][:1])
                if s.recv(100) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        self.fail("30 s of single bytes, and the connection is still open")

    def test_a_byte_every_moment_keeps_no_connection(self):
        self.serve("--hello-ms", "1000", "--idle-ms", "2000")
        self.trickle(self.raw(), b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 500)
        self.trickle(self.raw(b"GET /healthz HTTP/1.1\r\n"), b"X: y\r\n")
        s = self.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b"ok\n", s.recv(4096))
        self.trickle(s, b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 500)
        self.assertGreaterEqual(self.d.figures()["capstore_http_slow_total"], 2)
        self.assertEqual(self.ask("/healthz").status, 200)

    def slow_readers(self, cap_hash, count):
        readers = []
        for _ in range(count):
            s = socket.socket()
            self.addCleanup(s.close)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(60)
            s.connect(("127.0.0.1", self.port))
            s.sendall(f"GET /caps/{cap_hash} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            readers.append(s)
        return readers

    def test_an_answer_that_nobody_reads_is_given_up(self):
        self.serve("--progress-ms", "1500")
        cap_hash = self.publish(content("slow", 24 * MIB))
        silent, trickling = self.slow_readers(cap_hash, 2)
        stop = threading.Event()

        def read_a_little():
            while not stop.wait(0.05):
                try:
                    if trickling.recv(200) == b"":
                        return
                except OSError:
                    return

        reader = threading.Thread(target=read_a_little)
        reader.start()
        self.addCleanup(reader.join)
        self.addCleanup(stop.set)
        wait_until(lambda: self.d.figures()["capstore_http_slow_total"] == 2, "both to be cut")
        wait_until(self.d.holds_nothing, "what they held to be free")
        # One who reads, if slowly, is served.
        connection = self.connection()
        connection.request("GET", f"/caps/{cap_hash}")
        response = connection.getresponse()
        got = b""
        while part := response.read(512 << 10):
            got += part
            time.sleep(0.05)
        self.assertEqual(got, self.body(cap_hash))

    def test_slow_readers_hold_no_snapshot_and_little_memory(self):
        self.serve()
        cap_hash = self.publish(content("snapshots", 24 * MIB))
        before = self.d.memory()
        readers = self.slow_readers(cap_hash, 60)
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] >= 60 * 65536, "all to be answered")
        wait_until(lambda: self.d.figures()["capstore_store_readers"] <= 1, "no snapshot but that of the figures")
        if not SANITIZED:
            self.assertLess(self.d.memory() - before, 24 * MIB)
        for s in readers:
            s.close()
        wait_until(self.d.holds_nothing, "them to be gone")

    def test_what_is_deleted_while_it_is_sent_ends_early(self):
        self.serve()
        cap_hash = self.publish(content("going", 24 * MIB))
        [s] = self.slow_readers(cap_hash, 1)
        head = s.recv(1000)
        self.assertIn(b"200 OK", head)
        self.d.admin("cap.delete", hash=cap_hash, force=True)
        size = len(head)
        while part := s.recv(1 << 20):
            size += len(part)
        self.assertLess(size, 24 * MIB)

    def test_the_drain(self):
        self.serve()
        cap_hash = self.publish(content("drained", 24 * MIB))
        idle = self.raw()
        kept = self.connection()
        self.ask("/healthz", connection=kept)
        busy = self.raw(f"GET /caps/{cap_hash} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = busy.recv(1000)
        self.d.process.terminate()
        self.assertEqual(idle.recv(10), b"")
        with self.assertRaises(OSError):
            wait_until(lambda: self.raw() is None, "the listener to close", 10)
        size = len(head) - head.index(b"\r\n\r\n") - 4
        while part := busy.recv(1 << 20):
            size += len(part)
        self.assertGreaterEqual(size, 24 * MIB, "the answer under way is finished")
        self.assertEqual(self.d.process.wait(60), 0)
        self.d.process = None
        self.assertIn("drained", self.d.log())

    def test_random_requests(self):
        """Nothing that a client sends ends the daemon or leaves something behind."""
        self.serve()
        cap_hash = self.publish()
        random.seed(os.environ.get("CAPSTORE_SEED", "5"))
        good = f"GET /caps/{cap_hash}?pages=0-3 HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\nConnection: close\r\n\r\n".encode()
        for _ in range(150):
            data = bytearray(good)
            for _ in range(random.randrange(1, 6)):
                at = random.randrange(len(data))
                data[at:at + random.randrange(3)] = random.randbytes(random.randrange(4))
            s = self.raw()
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            except OSError:
                pass
            s.close()
        wait_until(self.d.holds_nothing, "all of it to be gone")
        self.assertEqual(self.ask(f"/caps/{cap_hash}").body, self.body(cap_hash))


class Address(Http):
    def test_a_socket_of_systemd(self):
        """One that is named http serves HTTP, the others clients; --http comes on top."""
        clients, web = socket.socket(socket.AF_UNIX), socket.socket()
        clients.bind(str(self.root / "clients"))
        web.bind(("127.0.0.1", 0))
        for s in (clients, web):
            s.listen()
            self.addCleanup(s.close)
        self.d = d = self.daemon(start=False)
        script = ("import os, sys\n"
                  "fds = [os.dup2(int(fd), 500 + i) for i, fd in enumerate(sys.argv[1].split(','))]\n"
                  "for i, fd in enumerate(fds): os.dup2(fd, 3 + i, inheritable=True)\n"
                  "os.environ['LISTEN_PID'] = str(os.getpid())\n"
                  "os.execv(sys.argv[2], sys.argv[2:])\n")
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(
                ["python3", "-c", script, f"{clients.fileno()},{web.fileno()}", harness.CAPSTORED, "--state", str(d.state),
                 "--admin", f"unix:{d.admin_path}", "--http", f"unix:{self.root}/http"],
                pass_fds=[clients.fileno(), web.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(os.environ, LISTEN_FDS="2", LISTEN_FDNAMES="capstore:http"))
        wait_until(d.ready, "the daemon to answer")
        wait_until(lambda: " started " in d.log(), "the daemon to have started")
        with d.connect(address=f"unix:{self.root}/clients") as c:
            cap_hash = c.put_data(b"inherited")["cap_hash"].hex()
        for address in (f"tcp:127.0.0.1:{web.getsockname()[1]}", f"unix:{self.root}/http"):
            self.address = address
            self.assertEqual(self.ask(f"/caps/{cap_hash}/content").body, whole(b"inherited"))
        self.assertEqual(d.stop(), 0)

    def test_a_wrong_address_ends_the_start(self):
        for address in ("127.0.0.1:80", "tcp:nowhere", "http://x", "unix:"):
            d = self.daemon("--http", address, name=f"a{len(self.daemons)}", start=False)
            d.start(wait=False)
            self.assertNotEqual(d.process.wait(60), 0)
            d.process = None
            self.assertIn(address.split(":")[-1] or "unix:", d.log())


if __name__ == "__main__":
    unittest.main()
