"""The library and the tool over HTTP: they read as over the protocol, through caches, and no liar gets by."""

import os
import re
import shutil
import ssl
import subprocess
import threading
import unittest

import wire
from harness import PAGE, capctl, content, free_port
from http_liar import HttpLiar, asked_range, head, ok, part
from over_http import Http
from protocol import CLOSURE, encode_entry
from proxies import Proxies, needs_nginx, needs_varnish
from test_parts import lazy_image

MIB = 1 << 20
ABSENT = "ab" * 32
EXAMPLES = os.environ.get("CAPSTORE_EXAMPLES", "build/client")


class Reading:
    """What holds of every way to a daemon's caps; `url` is the way."""

    def via(self, *arguments, **more):
        return capctl("--via", self.url, *arguments, **more)

    def publish_program(self):
        """An Image with two caps below it, one of them a pinned Image's. Returns their hashes, root last."""
        with self.d.connect() as c:
            below = c.put_image(wire.simple_image(content("below", 300), [(b"a", content("deep", 5 * PAGE))]))
            image = c.put_image(wire.simple_image(content("program", 40 * PAGE), [(b"b", content("flat", 9000))]))
            return [reply["cap_hash"].hex() for reply in (below, image)]

    def check_reading(self):
        data = content("read", 300 * PAGE + 7)
        cap_hash = self.publish(data)
        body = self.body(cap_hash)
        out = self.root / "out"
        self.ok(self.via("get", cap_hash, "-o", out))
        self.assertEqual(out.read_bytes(), body)
        self.ok(self.via("get", cap_hash, "--content", "-o", out))
        self.assertEqual(out.read_bytes().rstrip(b"\0"), data.rstrip(b"\0"))
        self.assertEqual(self.assertStatus(self.via("has", cap_hash, ABSENT), 1).json,
                         {cap_hash: True, ABSENT: False})
        self.assertEqual(self.assertStatus(self.via("get", ABSENT, "-o", self.root / "none"), 1).json["error"],
                         "not_found")
        self.assertFalse((self.root / "none").exists())
        here = self.d.capctl("slice", cap_hash, "--pages", "0-15,100,299", "-o", self.root / "here")
        there = self.via("slice", cap_hash, "--pages", "0-15,100,299", "-o", out)
        self.assertEqual(self.ok(there), self.ok(here))
        self.assertEqual(out.read_bytes(), (self.root / "here").read_bytes())
        for root in self.publish_program():
            self.assertEqual(self.ok(self.via("show", root)), self.ok(self.d.capctl("show", root)))
            self.assertEqual(self.ok(self.via("closure", root)), self.ok(self.d.capctl("closure", root)))
            directory = self.root / f"closure-{root}"
            self.ok(self.via("closure", root, "-d", directory))
            self.assertEqual({path.name: path.read_bytes() for path in directory.iterdir()},
                             {name: self.body(name) for name in os.listdir(directory)})
            self.assertEqual(len(os.listdir(directory)), 2)
        both = ("dump", *self.publish_program())
        self.assertEqual(self.ok(self.via(*both, "-o", out)), self.ok(self.d.capctl(*both, "-o", self.root / "here")))
        self.assertEqual(out.read_bytes(), (self.root / "here").read_bytes())


class Direct(Reading, Http):
    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def test_reading(self):
        self.serve()
        self.check_reading()

    def test_a_resumed_fetch_reads_the_rest(self):
        self.serve()
        cap_hash = self.publish(content("rest", 9 * MIB))
        body = self.body(cap_hash)
        out = self.root / "out"
        (self.root / "out.part").write_bytes(body[:5 * MIB])
        self.ok(self.via("get", cap_hash, "--resume", "-o", out))
        self.assertEqual(out.read_bytes(), body)

    def test_examples(self):
        """Programs over the library: one cap, many in flight, and a program whose pages come when they are touched."""
        self.serve()
        hashes = [self.publish(content(f"of {size}", size)) for size in (1, PAGE, 200_000)]
        for name, named in (("fetch", self.publish_program()[1:]), ("fetch_many", hashes), ("fetch_uv", hashes)):
            done, there = (self.example(name, address, *named) for address in (self.url, self.d.address))
            lines, expected = (sorted(one.stdout.splitlines()) for one in (done, there))  # many come in any order
            self.assertEqual((done.returncode, lines), (0, expected), done.stderr)
        image = self.ok(self.d.capctl("publish", self.file("image", lazy_image())))["cap_hash"]
        before = self.d.figures()["capstore_http_sent_bytes_total"]
        done, there = (self.example("run_lazy", address, image) for address in (self.url, self.d.address))
        if "not_supported" in there.stderr:
            self.skipTest(there.stderr)
        self.assertEqual((done.returncode, done.stdout), (0, there.stdout), done.stderr)
        self.assertLess(self.d.figures()["capstore_http_sent_bytes_total"] - before, 3 * MIB)  # of 6

    def example(self, name, *arguments):
        return subprocess.run([f"{EXAMPLES}/capstore_example_{name}", *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=120, check=False, text=True)

    def test_many_hashes(self):
        self.serve()
        known = [self.publish(content(f"known {i}", 100)) for i in range(40)]
        asked = {name: name in known for name in known + [f"{i:064x}" for i in range(500)]}
        self.assertEqual(self.assertStatus(self.via("has", *asked), 1).json, asked)

    def test_what_is_not_served_keeps_its_name(self):
        self.serve()
        gone, forbidden = (self.publish(content(name, PAGE)) for name in ("gone", "forbidden"))
        self.d.admin("cap.delete", hash=gone, force=True)
        self.d.admin("cap.forbid", hash=forbidden, reason="told so")
        self.refused(self.via("get", gone, "-o", self.root / "no"), "not_found")
        told = self.refused(self.via("get", forbidden, "-o", self.root / "no"), "forbidden_cap")
        self.assertIn("told so", told["message"])
        self.assertEqual(self.assertStatus(self.via("has", gone, forbidden), 1).json, {gone: False, forbidden: False})

    def test_nothing_is_written(self):
        self.serve()
        cap_hash = self.publish()
        raw = self.file("raw", b"x" * 5000)
        image = self.file("image", wire.simple_image(content("code", 500), [(b"a", content("a", 100))]))
        for arguments in (("put", raw), ("publish", image), ("has", "--keep", "1h", cap_hash), ("map", cap_hash)):
            result = self.via(*arguments)
            self.assertEqual((result.status, result.json["error"]), (3, "not_supported"), repr(result))
            self.assertIn("connect to a capstore address", result.json["message"])

    def test_mirror_and_dump(self):
        self.serve()
        names = {self.publish(content(f"mirrored {i}", 3000 * i)) for i in range(1, 40)}
        names |= set(self.publish_program())
        other = self.daemon(name="other")
        admin = ("--admin", f"unix:{self.d.admin_path}")
        dumped = self.ok(capctl(*admin, "--via", self.url, "dump", "-o", self.root / "dump"))
        self.assertGreaterEqual(dumped["caps"], len(names))
        sent = self.ok(capctl(*admin, "mirror", "--from", self.url, "--to", other.address))
        self.assertEqual((sent["sent"], sent["left_out"]), (dumped["caps"], 0))
        self.ok(other.capctl("has", *names))
        self.ok(other.capctl("put", self.file("only here", b"x" * 5000)))
        refused = capctl("--admin", f"unix:{other.admin_path}", "mirror", "--from", other.address, "--to", self.url)
        self.assertEqual((refused.status, refused.json["error"]), (3, "not_supported"), repr(refused))

    def test_a_daemon_that_goes_and_comes(self):
        port = free_port()
        self.serve(http=f"tcp:127.0.0.1:{port}")
        cap_hash = self.publish()
        self.d.stop()
        away = self.via("get", cap_hash, "-o", self.root / "no")
        self.assertEqual((away.status, away.json["error"]), (3, "connect"), repr(away))
        self.d.start()
        self.listening()
        self.ok(self.via("get", cap_hash, "-o", self.root / "out"))

    def test_what_is_no_address(self):
        for url in ("http://", "http://user@host", "http://host:0", "http://host/?x", "http://a b", "HTTP://host",
                    "ftp://host", "http://" + "h" * 2000):
            result = capctl("--via", url, "has", ABSENT)
            self.assertEqual((result.status, result.json["error"]), (2, "usage"), repr(result))


class Caches(Reading, Proxies):
    @property
    def url(self):
        return f"http://127.0.0.1:{self.proxy_port}{self.prefix}"

    def check(self):
        self.check_reading()
        cap_hash = self.publish(content("twice", 200 * PAGE))
        for arguments in (("get", cap_hash, "-o", self.root / "twice"), ("has", cap_hash),
                          ("slice", cap_hash, "--pages", "3-7", "-o", self.root / "slice")):
            self.ok(self.via(*arguments))
            before = self.asked()
            self.ok(self.via(*arguments))
            # Which asks whether somebody is there, and nothing else.
            self.assertLessEqual(self.asked() - before, 1, arguments)
        self.check_without_the_daemon(cap_hash)

    @needs_nginx
    def test_nginx(self):
        self.serve()
        self.start_nginx()
        self.check()

    @needs_varnish
    def test_varnish(self):
        self.serve()
        self.start_varnish()
        self.check()

    def check_without_the_daemon(self, cap_hash):
        self.d.stop()
        self.ok(self.via("get", cap_hash, "-o", self.root / "cached"))
        away = self.via("get", ABSENT[::-1], "-o", self.root / "no")
        self.assertEqual((away.status, away.json["error"]), (3, "upstream_away"), repr(away))


    @needs_nginx
    def test_bytes_that_change_on_the_disk_of_a_cache(self):
        self.serve()
        cap_hash, image = self.publish(content("poison", 64 * PAGE)), self.publish_program()[1]
        self.start_nginx()
        out = self.root / "out"
        self.ok(self.via("get", cap_hash, "-o", out))
        self.ok(self.via("get", image, "-o", out))
        self.ok(self.via("slice", cap_hash, "--pages", "1-3", "-o", out))
        out.unlink()
        changed = 0
        for path in (self.root / "nginx" / "cache").rglob("*"):
            if path.is_file():
                bytes_ = bytearray(path.read_bytes())
                bytes_[-100] ^= 1  # of the body, which is at the end
                path.write_bytes(bytes_)
                changed += 1
        self.assertEqual(changed, 3)
        for name in (cap_hash, image):
            self.refused(self.via("get", name, "-o", out), "hash_mismatch")
            self.assertFalse(out.exists())
        self.assertIn(self.assertStatus(self.via("slice", cap_hash, "--pages", "1-3", "-o", out), 1).json["error"],
                      ("slice_mismatch", "slice_malformed"))
        self.assertFalse(out.exists())
        self.ok(self.d.capctl("get", cap_hash, "-o", out))


class Liars(Http):
    """A server that says anything at all."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.data = content("lie", 90 * PAGE)
        self.name = self.publish(self.data)
        self.good = self.body(self.name)
        self.out = self.root / "out"

    def lie(self, answer, *arguments, timeout=None):
        """Runs the tool against a server that answers so; nothing may be written. Returns its error."""
        liar = HttpLiar(answer)
        self.addCleanup(liar.close)
        more = ["--timeout", str(timeout)] if timeout else []
        result = capctl(*more, "--via", liar.url, *(arguments or ("get", self.name)), "-o", self.out)
        self.assertIn(result.status, (1, 3), repr(result))
        self.assertEqual(list(self.root.glob("out*")), [], repr(result))
        self.asked = liar.asked
        return result.json["error"]

    def test_wrong_bytes(self):
        for at in (0, 1, 9, 20, len(self.good) - 1):
            changed = bytearray(self.good)
            changed[at] ^= 1
            self.assertIn(self.lie(lambda path, headers, body=bytes(changed): ok(body)),
                          ("hash_mismatch", "body_not_canonical"), at)
        self.assertEqual(self.lie(lambda path, headers: ok(self.body(self.publish(content("other", PAGE))))),
                         "hash_mismatch")
        self.assertIn(self.lie(lambda path, headers: ok(b"<html>Welcome to the hotel</html>")),
                      ("hash_mismatch", "body_not_canonical"))
        self.assertIn(self.lie(lambda path, headers: ok(b"")), ("hash_mismatch", "body_not_canonical"))

    def test_a_body_that_is_cut_short(self):
        self.assertEqual(self.lie(lambda path, headers: ok(self.good)[:-1]), "connection_lost")
        chunked = head("200 OK", Transfer_Encoding="chunked") + b"100\r\n" + self.good[:256] + b"\r\n"
        self.assertEqual(self.lie(lambda path, headers: chunked), "bad_reply")  # of an unknown length
        self.assertEqual(self.lie(lambda path, headers: head("200 OK") + self.good), "bad_reply")
        pages = ("slice", self.name, "--pages", "0-3")
        self.assertIn(self.lie(lambda path, headers: chunked, *pages), ("slice_malformed", "slice_mismatch"))
        whole = self.root / "slice"
        self.ok(self.d.capctl("slice", self.name, "--pages", "0-3", "-o", whole))
        piece = whole.read_bytes()[:-10]
        chunk = b"%x\r\n" % len(piece) + piece + b"\r\n"
        self.assertEqual(self.lie(lambda path, headers: head("200 OK", Transfer_Encoding="chunked") + chunk, *pages),
                         "connection_lost")
        self.assertEqual(self.lie(lambda path, headers: head("200 OK", Transfer_Encoding="chunked") + chunk
                                  + b"0\r\n\r\n", *pages), "slice_malformed")

    def test_a_body_that_does_not_end(self):
        def endless(start, length):
            yield head("200 OK", **length) + start
            while True:
                yield bytes(1 << 16)

        def chunks():
            yield head("200 OK", Transfer_Encoding="chunked")
            while True:
                yield b"10000\r\n" + bytes(1 << 16) + b"\r\n"

        self.assertIn(self.lie(lambda path, headers: endless(self.good, {"Content_Length": 1 << 62})),
                      ("body_too_large",))
        self.assertIn(self.lie(lambda path, headers: endless(self.good, {"Content_Length": 1 << 40})),
                      ("body_too_large",))
        self.assertEqual(self.lie(lambda path, headers: chunks()), "bad_reply")
        for answer in (chunks, lambda: endless(b"", {})):
            self.assertIn(self.lie(lambda path, headers, answer=answer: answer(), "slice", self.name, "--pages", "0-3"),
                          ("slice_malformed", "slice_mismatch"))

    def test_a_body_that_drips(self):
        stop = threading.Event()
        self.addCleanup(stop.set)

        def drip():
            yield head("200 OK", Content_Length=len(self.good)) + self.good[:100]
            for i in range(100, len(self.good)):
                stop.wait(0.2)
                yield self.good[i:i + 1]

        self.assertEqual(self.lie(lambda path, headers: drip(), timeout=2), "timed_out")

        def silent():
            yield b"HTTP/1.1 200 OK\r\n"
            stop.wait(60)

        self.assertEqual(self.lie(lambda path, headers: silent(), timeout=1), "timed_out")

    def test_headers_without_end(self):
        def many():
            yield b"HTTP/1.1 200 OK\r\n"
            while True:
                yield b"X-Padding: " + b"x" * 1000 + b"\r\n"

        def long():
            yield b"HTTP/1.1 200 OK\r\nX-Padding: "
            while True:
                yield b"x" * 10000

        self.assertEqual(self.lie(lambda path, headers: many()), "bad_reply")
        self.assertIn(self.lie(lambda path, headers: long()), ("bad_reply", "no_memory"))

    def test_redirects(self):
        def around(path, headers):
            return head("302 Found", Location=path, Content_Length=0)

        self.assertEqual(self.lie(around), "bad_reply")
        self.assertEqual(len(self.asked), 5)  # four redirects
        (self.root / "local").write_bytes(self.good)
        for target in (f"file://{self.root}/local", "gopher://127.0.0.1/", "ftp://127.0.0.1/x"):
            self.assertEqual(self.lie(lambda path, headers, to=target: head("302 Found", Location=to,
                                                                            Content_Length=0)), "bad_reply")
        good = HttpLiar(lambda path, headers: ok(self.good))
        self.addCleanup(good.close)
        liar = HttpLiar(lambda path, headers: head("307 Temporary", Location=good.url + path, Content_Length=0))
        self.addCleanup(liar.close)
        self.ok(capctl("--via", liar.url, "get", self.name, "-o", self.out))
        self.assertEqual(self.out.read_bytes(), self.good)

    def test_refusals(self):
        for status, body, error in (
                ("404 Not Found", b"<html>", "not_found"), ("410 Gone", b"", "not_found"),
                ("429 Too Many", b"", "too_many_requests"), ("502 Bad Gateway", b"<html>" * 99999, "upstream_away"),
                ("503 Away", b'{"error":"draining","message":"soon"}', "draining"),
                ("503 Away", b'{"error":"bad_frame","message":"x"}', "upstream_away"),
                ("503 Away", b'{"error":"no such name","message":"x"}', "upstream_away"),
                ("403 Forbidden", b"", "bad_reply"), ("401 Unauthorized", b"", "bad_reply"),
                ("204 No Content", b"", "bad_reply"), ("304 Not Modified", b"", "bad_reply"),
                ("206 Partial Content", self.good, "bad_reply"), ("999 Odd", b"", "bad_reply")):
            answer = head(status, **({} if status[:3] in ("204", "304") else {"Content_Length": len(body)})) + body
            self.assertEqual(self.lie(lambda path, headers, answer=answer: answer), error, status)
        self.assertEqual(self.lie(lambda path, headers: b"SSH-2.0-OpenSSH_9.2\r\n"), "bad_reply")
        self.assertEqual(self.lie(lambda path, headers: b"\0" * 100), "bad_reply")
        self.assertEqual(self.lie(lambda path, headers: b""), "connection_lost")

    def test_a_message_cannot_steer_a_terminal(self):
        liar = HttpLiar(lambda path, headers: head("503 x", Content_Length=90) + (
            b'{"error":"draining","message":"\x1b[2J\\u001b[2J\\n\xff"}' + b" " * 90)[:90])
        self.addCleanup(liar.close)
        result = capctl("--via", liar.url, "get", self.name, "-o", "-", json_output=False)
        self.assertEqual(re.findall(r"[^ -~\n]", result.stderr), [])

    @unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
    def test_a_certificate_that_nobody_knows(self):
        key, certificate = self.root / "key", self.root / "certificate"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                       check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        liar = HttpLiar(lambda path, headers: ok(self.good), tls)
        self.addCleanup(liar.close)
        result = capctl("--via", liar.url, "get", self.name, "-o", self.out)
        self.assertEqual((result.status, result.json["error"]), (3, "connect"), repr(result))
        self.assertIn("certificate", result.json["message"])
        plain = capctl("--via", liar.url.replace("https", "http"), "get", self.name, "-o", self.out)
        self.assertEqual(plain.status, 3, repr(plain))
        self.assertFalse(self.out.exists())

    # ---- ranges: `get --resume` asks for the rest of a body ----

    def resume(self, answer):
        """What becomes of a fetch that goes on at byte 100,000; the file if it succeeded, else the error."""
        liar = HttpLiar(answer)
        self.addCleanup(liar.close)
        (self.root / "out.part").write_bytes(self.good[:100000])
        result = capctl("--via", liar.url, "get", self.name, "--resume", "-o", self.out)
        if result.status == 0:
            got = self.out.read_bytes()
            self.out.unlink()
            return got
        self.assertFalse(self.out.exists())
        self.message = result.json["message"]
        return result.json["error"]

    def test_ranges(self):
        size = len(self.good)

        def with_range(lie, whole=self.good):
            def answer(path, headers):
                if "range" not in headers:  # after a first try that went wrong
                    return ok(whole)
                first, last = asked_range(headers, size)
                return lie(first, last) if first > 0 else part(self.good, first, last)
            return answer

        self.assertEqual(self.resume(with_range(lambda first, last: part(self.good, first, last))), self.good)
        # A server, or a cache, that knows no ranges sends all.
        self.assertEqual(self.resume(lambda path, headers: ok(self.good)), self.good)
        for from_, to in ((-1, 0), (0, -1), (1, 0)):
            self.assertEqual(self.resume(with_range(
                lambda first, last, from_=from_, to=to: part(self.good, first + from_, last + to))), "bad_reply")
            self.assertIn("another range of bytes", self.message)
        self.assertEqual(self.resume(with_range(lambda first, last: part(self.good, first, last)[:-1])),
                         "connection_lost")
        # Of no length of its own: only the range says what has to come.
        self.assertEqual(self.resume(with_range(lambda first, last: head(
            "206 Partial Content", Content_Range=f"bytes {first}-{last}/{size}") + self.good[first:last])),
            "connection_lost")
        for text in ("", "bytes */*", "bytes 5-4/9", "bytes 1-2/2", "bytes x", "bytes 1-2/99999999999999999999999"):
            self.assertEqual(self.resume(with_range(lambda first, last, text=text: head(
                "206 Partial Content", Content_Range=text) + self.good[first:])), "bad_reply", text)

        def more(first, last):
            return head("206 Partial Content", Content_Range=f"bytes {first}-{last}/{size}") + self.good[first:] + b"x"

        self.assertEqual(self.resume(with_range(more)), "bad_reply")
        changed = self.good[:-1] + bytes([self.good[-1] ^ 1])
        self.assertEqual(self.resume(with_range(lambda first, last: part(changed, first, last), changed)),
                         "hash_mismatch")
        self.assertEqual(self.resume(with_range(lambda first, last: part(changed, first, last))), self.good)

    # ---- closures ----

    def closure(self, answer):
        liar = HttpLiar(answer)
        self.addCleanup(liar.close)
        directory = self.root / "closure"
        result = capctl("--timeout", "3", "--via", liar.url, "closure", self.root_name, "-d", directory)
        self.assertNotEqual(result.status, 0, repr(result))
        names = set(os.listdir(directory)) if directory.exists() else set()
        for name in names:  # whatever came complete before the lie is what it says
            self.assertEqual((directory / name).read_bytes(), self.body(name))
        shutil.rmtree(directory, ignore_errors=True)
        return result.json["error"]

    def make_program(self):
        """An Image and the cap that it needs, as entries of a closure, and one of neither."""
        with self.d.connect(hello=False) as c:
            c.hello(features=CLOSURE)
            image = c.put_image(wire.simple_image(content("code", 500), [(b"a", content("a", 2 * PAGE))]))["cap_hash"]
            self.root_name = image.hex()
            (self.leaf, self.leaf_body), (_, image_body) = [
                (name, c.get(name)[1]) for name, *_ in c.closure([image])]
        return {"leaf": encode_entry(self.leaf, 2, self.leaf_body), "image": encode_entry(image, 1, image_body),
                "foreign": encode_entry(bytes.fromhex(self.name), 2, self.good)}

    def test_a_closure_that_is_cut_goes_on(self):
        entry = self.make_program()
        cut = (head("200 OK", Transfer_Encoding="chunked") + b"%x\r\n" % len(entry["leaf"]) + entry["leaf"] + b"\r\n")
        liar = HttpLiar(lambda path, headers: ok(entry["image"]) if path.endswith(f"have={self.leaf.hex()}") else cut)
        self.addCleanup(liar.close)
        self.ok(capctl("--via", liar.url, "closure", self.root_name, "-d", self.root / "cut"))
        self.assertEqual(len(os.listdir(self.root / "cut")), 2)
        self.assertEqual([path.rsplit("=", 1)[1] for path, _ in liar.asked], ["", self.leaf.hex()])

    def test_closures(self):
        entry = self.make_program()
        leaf, leaf_body = self.leaf, self.leaf_body

        def says(*entries):
            return lambda path, headers: ok(b"".join(entries))

        self.assertEqual(self.closure(says(entry["image"], entry["leaf"])), "bad_reply")
        self.assertEqual(self.closure(says(entry["leaf"], entry["leaf"], entry["image"])), "bad_reply")
        self.assertEqual(self.closure(says(entry["leaf"], entry["foreign"], entry["image"])), "bad_reply")
        self.assertEqual(self.closure(says(entry["leaf"])), "bad_reply")
        self.assertEqual(self.closure(says(b"")), "bad_reply")
        self.assertEqual(self.closure(says(entry["leaf"], entry["image"][:-1])), "bad_reply")
        self.assertEqual(self.closure(says(entry["leaf"][:-1] + b"\1", entry["image"])), "hash_mismatch")
        self.assertEqual(self.closure(says(encode_entry(leaf, 1, leaf_body), entry["image"])), "hash_mismatch")
        self.assertEqual(self.closure(says(encode_entry(leaf, 7, leaf_body))), "bad_reply")
        self.assertEqual(self.closure(says(encode_entry(leaf, 2, b"", body_len=1 << 60) + bytes(99))), "body_too_large")
        self.assertEqual(self.closure(says(b"<html>" * 99)), "bad_reply")
        self.assertEqual(self.closure(lambda path, headers: head("404 Not Found", Content_Length=0)), "not_found")
        self.assertEqual(self.closure(lambda path, headers: head("206 Partial Content", Content_Length=0,
                                                                 Content_Range="bytes 0-0/9")), "bad_reply")
        liar = HttpLiar(says(entry["leaf"], entry["image"]))
        self.addCleanup(liar.close)
        self.ok(capctl("--via", liar.url, "closure", self.root_name, "-d", self.root / "good"))


if __name__ == "__main__":
    unittest.main()
