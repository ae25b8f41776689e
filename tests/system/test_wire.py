"""Misuse of the protocol, and what it promises: every state is reached over a real socket."""

import random
import struct
import time
import unittest

import protocol
import wire
from harness import PAGE, SystemTest, content, wait_until
from protocol import END, KEEP, RESUME, TO_END, TYPES, Closed, Refused, decode, encode, frame
from raw import FRAME_MAX, HELLO, LARGE, NO_HASH, header, put_data, put_image, refused_head

MESSAGE_MAX = 4096


class Frames(SystemTest):
    """Section 2: what a frame may be."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()

    def ends(self, data, error, hello=True, request_id=None):
        """These bytes end a connection with this error, and the daemon serves on."""
        with self.d.connect(hello=hello) as c:
            c.send_raw(data)
            fields = self.assertEnds(c, error)
        if request_id is not None:
            self.assertEqual(fields["id"], request_id)

    def test_byte_at_a_time(self):
        c = self.connect(self.d, hello=False)
        body = b"one by one"
        talk = HELLO + frame("HAS", 1, encode("HAS", hashes=NO_HASH)) + frame("PUT_DATA", 2, put_data(len(body)))
        for data in (talk, *protocol.body_frames(2, body, 4)):
            for at in range(len(data)):
                c.send_raw(data[at:at + 1])
        self.assertEqual(c.recv_hello_reply()["version"], 1)
        self.assertEqual(c.wait(1, "HAS_REPLY")["kinds"], b"\0")
        cap_hash = c.wait(2, "PUT_DATA_REPLY")["cap_hash"]
        self.assertEqual(wire.data_content(c.get(cap_hash)[1]).rstrip(b"\0"), body)

    def test_lengths_of_messages(self):
        c = self.connect(self.d)
        for length in (0, 1, MESSAGE_MAX):
            for kind in ("GET", "STAT", "PUT_DATA", "PUT_IMAGE"):
                with self.subTest(kind=kind, length=length):
                    request_id = c.take_id()
                    c.send_frame(kind, request_id, bytes(length))
                    self.assertRefuses("bad_message", c.wait, request_id, kind + "_REPLY")
                    if kind.startswith("PUT"):
                        c.send_frame("BODY", request_id, b"", END)
        c.send_frame("HAS", 1000, b"")
        self.assertRefuses("bad_message", c.wait, 1000, "HAS_REPLY")
        self.assertUsable(c)
        for kind in ("HELLO", "GET", "STAT", "PUT_DATA", "PUT_IMAGE", "CANCEL"):
            self.ends(header(MESSAGE_MAX + 1, 7, kind), "message_too_large")

    def test_lengths_of_frames(self):
        c = self.connect(self.d)
        body = content("frame", FRAME_MAX)
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=len(body))
        c.send_raw(header(FRAME_MAX, request_id, "BODY", END) + body)
        cap_hash = c.wait(request_id, "PUT_DATA_REPLY")["cap_hash"]
        self.assertEqual(wire.data_content(c.get(cap_hash)[1]), body)
        hashes = (FRAME_MAX - 4) // 32
        c.send_frame("HAS", 99, encode("HAS", hashes=bytes(32 * hashes)))
        self.assertRefuses("too_many_hashes", c.wait, 99, "HAS_REPLY")
        self.assertUsable(c)
        for length in (FRAME_MAX + 1, 2**31, 2**32 - 1):
            self.ends(header(length, 7, "BODY"), "frame_too_large", request_id=7)
            self.ends(header(length, 7, "HAS"), "frame_too_large", request_id=7)
            self.ends(header(length, 0, "HELLO"), "frame_too_large", hello=False)

    def test_unknown_types(self):
        unknown = sorted(set(range(256)) - set(TYPES.values()))
        for kind in unknown:
            if kind & 0x80:
                self.ends(header(kind=kind), "bad_frame", request_id=1)
            self.ends(header(kind=kind, request_id=0), "bad_frame", request_id=0)

    def test_unknown_requests(self):
        """Later versions have more requests: each is refused by itself, whatever it carries."""
        c = self.connect(self.d)
        for kind in sorted(set(range(0x80)) - set(TYPES.values())):
            for length in (0, 1, MESSAGE_MAX):
                request_id = c.take_id()
                c.send_raw(header(length, request_id, kind) + bytes(length))
                refused = self.assertRefuses("unsupported_request", c.wait, request_id, "HAS_REPLY")
                self.assertIn("0x%02x" % kind, refused.message)
        self.assertUsable(c)
        self.ends(header(MESSAGE_MAX + 1, 7, 0x33), "message_too_large", request_id=7)
        self.ends(header(kind=0x33, flags=END), "bad_frame")
        self.ends(header(kind=0x33), "bad_frame", hello=False)

    def test_features(self):
        """The daemon grants those of the client's that it has, and answers each form of HELLO in its own."""
        both = KEEP | RESUME  # the second one never alone
        for features, granted in ((0, 0), *((1 << bit, 1 << bit) for bit in range(6)), (RESUME, 0), (both, both),
                                  (2**64 - 128, 0), (2**64 - 1, 127)):
            c = self.connect(self.d, hello=False)
            self.assertEqual(c.hello(features=features)["features"], granted)
            self.assertUsable(c)
        c = self.connect(self.d, hello=False)
        self.assertNotIn("features", c.hello(features=None))
        self.assertUsable(c)

    def test_unknown_flags(self):
        c = self.connect(self.d)
        for kind, fields, known in (("PUT_DATA", {"size": 0}, 1), ("PUT_IMAGE", {}, 3)):
            for unknown in (0x40, 0xFF & ~known):
                request_id = c.request(kind, flags=unknown | 1, total_len=1, **fields)
                refused = self.assertRefuses("bad_message", c.wait, request_id, kind + "_REPLY")
                self.assertEqual(refused.message, "unknown flags 0x%02x" % unknown)
                c.send_frame("BODY", request_id, b"", END)
        self.assertUsable(c)

    def test_reserved_bits(self):
        for bit in range(1, 8):
            self.ends(header(kind="BODY", flags=1 << bit), "bad_frame")
        for bit in range(16):
            self.ends(header(reserved=1 << bit), "bad_frame")
        for kind in set(TYPES) - {"BODY"}:
            self.ends(header(kind=kind, flags=END), "bad_frame")

    def test_the_order_of_judgement(self):
        self.ends(header(2**32 - 1, kind=0x33, flags=3), "bad_frame")
        self.ends(header(2**32 - 1, kind=0x93), "bad_frame")
        self.ends(header(2**32 - 1, kind=0x33, flags=END), "bad_frame")
        self.ends(header(2**32 - 1, kind=0x33), "frame_too_large")
        self.ends(header(2**32 - 1, flags=END), "bad_frame")
        self.ends(header(2**32 - 1, kind="GET"), "frame_too_large")

    def test_garbage(self):
        http = b"GET / HTTP/1.1\r\nHost: capstore\r\n\r\n"
        tls = bytes.fromhex("160301020001 0001fc0303") + bytes(range(64))
        for data in (http, tls, b"SSH-2.0-OpenSSH_9.2\r\n", b"\n" * 64, b"\xff" * 4096):
            self.ends(data, "bad_frame", hello=False)
            self.ends(data, "bad_frame")
        rng = random.Random(7)
        for _ in range(100):
            with self.d.connect(hello=False) as c:
                c.send_raw(rng.randbytes(rng.randrange(12, 3000)))
                got = c.recv_frame()
                self.assertEqual(decode("ERROR", got.payload)["name"], "bad_frame")
        self.assertUsable(self.connect(self.d))

    def test_frames_of_the_wrong_side(self):
        for kind in TYPES:
            if kind.endswith("_REPLY") or kind == "ERROR":
                self.ends(frame(kind, 1), "bad_frame", request_id=1)

    def test_ids(self):
        for kind in ("HAS", "GET", "STAT", "PUT_DATA", "PUT_IMAGE", "CANCEL"):
            self.ends(header(0, 0, kind), "bad_frame", request_id=0)
        self.ends(frame("CANCEL", 1, b"x"), "bad_frame")
        self.ends(frame("BODY", 1, b"x"), "bad_frame", request_id=1)
        upload = frame("PUT_DATA", 5, put_data(10))
        self.ends(upload + upload, "id_in_use", request_id=5)
        self.ends(upload + frame("HAS", 5, encode("HAS", hashes=b"")), "id_in_use", request_id=5)
        self.ends(upload + frame("PUT_DATA", 6, put_data(10)) + frame("BODY", 7, b"x"), "bad_frame", request_id=7)

    def test_an_id_is_free_after_its_answer(self):
        c = self.connect(self.d)
        for _ in range(3):
            c.next_id = 9
            self.assertUsable(c)
            c.next_id = 9
            c.put_data(b"again")
        # A body that ended is over: what follows belongs to no upload.
        c.send_frame("BODY", 9, b"late")
        self.assertEqual(self.assertEnds(c, "bad_frame")["id"], 9)


class Hello(SystemTest):
    """Section 3.1."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()

    def answer(self, *frames):
        with self.d.connect(hello=False) as c:
            c.send_raw(b"".join(frames))
            return self.assertEnds(c, self.wanted)

    def hello(self, magic=protocol.MAGIC, low=1, high=1, agent="x", request_id=0):
        return frame("HELLO", request_id, encode("HELLO", magic=magic, version_min=low, version_max=high, agent=agent))

    def test_what_must_come_first(self):
        self.wanted = "bad_frame"
        for first in (frame("HAS", 1, encode("HAS", hashes=b"")), frame("CANCEL", 1), frame("BODY", 1, b"x"),
                      self.hello(request_id=1)):
            self.assertEqual(self.answer(first)["id"], 0)

    def test_a_second_one(self):
        c = self.connect(self.d)
        c.send_raw(self.hello())
        self.assertEnds(c, "bad_frame")

    def test_bad_messages(self):
        self.wanted = "bad_message"
        whole = encode("HELLO", magic=protocol.MAGIC, version_min=1, version_max=1, agent="x")
        bad = [self.hello(magic=b"capstorf"), self.hello(low=2, high=1), self.hello(low=0, high=1),
               self.hello(agent="a" * 65), self.hello(agent="a\nb"), self.hello(agent="a\0b"), self.hello(agent="\x7f")]
        bad += [frame("HELLO", 0, whole[:cut]) for cut in range(len(whole) - 1)]
        bad += [frame("HELLO", 0, whole[:12] + struct.pack("<I", offset) + whole[16:])
                for offset in (0, 15, 17, 18, 2**31, 2**32 - 1)]
        for data in bad:
            self.assertEqual(self.answer(data)["id"], 0)

    def test_versions(self):
        self.wanted = "unsupported_version"
        for low, high in ((2, 2), (2, 65535), (65535, 65535)):
            self.assertIn("1", self.answer(self.hello(low=low, high=high))["message"])
        for high in (1, 2, 65535):
            c = self.connect(self.d, hello=False)
            c.send_raw(self.hello(high=high))
            self.assertEqual(c.recv_hello_reply()["version"], 1)
            self.assertUsable(c)

    def test_agents(self):
        for agent in ("", " ~" * 32):
            c = self.connect(self.d, hello=False)
            c.hello(agent=agent)
            self.assertIn(agent, [client["agent"] for client in self.d.admin("clients.list")["clients"]])

    def test_pipelining(self):
        """Many requests right behind the HELLO, in one piece; each has its one answer."""
        c = self.connect(self.d, hello=False)
        talk, wanted = [HELLO], {}
        for i in range(1, 61):
            kind = ("HAS", "STAT", "GET", "PUT_DATA", "PUT_IMAGE")[i % 5]
            body = {"PUT_DATA": b"%d" % i, "PUT_IMAGE": wire.simple_image(b"code %d" % i)}.get(kind)
            talk.append(frame(kind, i, {
                "HAS": encode("HAS", hashes=NO_HASH * i), "STAT": encode("STAT", hash=NO_HASH),
                "GET": encode("GET", hash=NO_HASH, offset=0, len=TO_END),
                "PUT_DATA": put_data(len(body or b"")), "PUT_IMAGE": put_image(len(body or b""))}[kind]))
            if body is not None:
                talk += protocol.body_frames(i, body)
            wanted[i] = "ERROR" if kind in ("STAT", "GET") else kind + "_REPLY"
        c.send_raw(b"".join(talk))
        c.recv_hello_reply()
        got = {}
        while len(got) < len(wanted):
            answer = c.recv_frame()
            self.assertNotIn(answer.id, got, "one answer each")
            got[answer.id] = protocol.TYPE_NAMES[answer.type]
            if answer.type == TYPES["ERROR"]:
                self.assertEqual(decode("ERROR", answer.payload)["name"], "not_found")
        self.assertEqual(got, wanted)


class Time(SystemTest):
    """Section 3.8, with small limits."""

    def test_silence(self):
        """Half of a frame and then nothing; also nothing at all, before and after HELLO."""
        d = self.daemon("--progress-ms", "200", "--idle-ms", "600")
        has = frame("HAS", 1, encode("HAS", hashes=NO_HASH))
        for hello, data, cuts in ((True, has, (0, 1, 11, 12, 40)), (False, HELLO, (0, 5, 12, 20))):
            for cut in cuts:
                with self.subTest(hello=hello, sent=cut):
                    c = self.connect(d, hello=hello)
                    c.send_raw(data[:cut])
                    fields = self.assertEnds(c, "progress_timeout" if cut else "idle_timeout")
                    self.assertEqual(fields["id"], 0)

    def test_a_stalled_upload(self):
        """It is refused, and the connection goes on; one that trickles is none."""
        d = self.daemon("--progress-ms", "400")
        c = self.connect(d)
        stalled = c.request("PUT_DATA", flags=0, size=0, total_len=100)
        c.send_frame("BODY", stalled, b"x")
        empty = c.request("PUT_IMAGE", flags=0, total_len=100)
        for request_id, reply in ((stalled, "PUT_DATA_REPLY"), (empty, "PUT_IMAGE_REPLY")):
            self.assertRefuses("progress_timeout", c.wait, request_id, reply)
            c.send_frame("BODY", request_id, b"more", END)
        self.assertUsable(c)

    def test_frames_without_payload_are_no_progress(self):
        d = self.daemon("--progress-ms", "300")
        c = self.connect(d)
        stalled = c.request("PUT_DATA", flags=0, size=0, total_len=100)
        deadline = time.monotonic() + 30
        while not c.readable():
            self.assertLess(time.monotonic(), deadline, "never refused")
            c.send_frame("BODY", stalled, b"")
            time.sleep(0.02)
        self.assertRefuses("progress_timeout", c.wait, stalled, "PUT_DATA_REPLY")

    def steadily(self, step, seconds, gap):
        """Calls step() again and again for `seconds`, none later than `gap` after the last one; False where the
        machine was too busy to be so punctual, so that nothing can be said."""
        end, last = time.monotonic() + seconds, time.monotonic()
        while last < end:
            step()
            now = time.monotonic()
            if now - last > gap:
                return False
            last = now
            time.sleep(0.02)
        return True

    def test_who_asks_now_and_then_is_not_idle(self):
        d = self.daemon("--idle-ms", "600")

        def attempt():
            with d.connect() as c:
                try:
                    return self.steadily(lambda: c.has([]), 1.5, 0.3)
                except (Closed, Refused):
                    return False

        self.assertTrue(any(attempt() for _ in range(20)), "never survived")

    def test_who_sends_a_little_makes_progress(self):
        d = self.daemon("--progress-ms", "600")

        def attempt():
            with d.connect() as c:
                request_id = c.request("PUT_DATA", flags=0, size=0, total_len=1 << 20)
                return self.steadily(lambda: c.send_frame("BODY", request_id, b"x"), 1.5, 0.3) and not c.readable()

        self.assertTrue(any(attempt() for _ in range(20)), "never survived")


class Uploads(SystemTest):
    """Section 3.3: refusals while the body is arriving, lengths, cancelling."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.c = self.connect(self.d)

    def tearDown(self):
        wait_until(lambda: self.d.admin("status")["spool"]["bytes"] == 0, "an empty spool")

    def test_shorter_and_longer_than_declared(self):
        for body, declared in ((b"", 1), (b"x" * 99, 100), (b"x" * 5000, 5001)):
            request_id = self.c.request("PUT_DATA", flags=0, size=0, total_len=declared)
            for data in protocol.body_frames(request_id, body, 1000):
                self.c.send_raw(data)
            self.assertRefuses("length_mismatch", self.c.wait, request_id, "PUT_DATA_REPLY")
            self.assertUsable(self.c)
        for body, declared in ((b"x", 0), (b"x" * 101, 100)):
            request_id = self.c.request("PUT_DATA", flags=0, size=0, total_len=declared)
            self.c.send_frame("BODY", request_id, body)
            self.assertRefuses("length_mismatch", self.c.wait, request_id, "PUT_DATA_REPLY")
            self.c.send_frame("BODY", request_id, bytes(10000))
            self.c.send_frame("BODY", request_id, b"", END)
            self.assertUsable(self.c)
            # One frame too much that also ends the body.
            request_id = self.c.request("PUT_DATA", flags=0, size=0, total_len=declared)
            self.c.send_frame("BODY", request_id, body, END)
            self.assertRefuses("length_mismatch", self.c.wait, request_id, "PUT_DATA_REPLY")
            self.assertUsable(self.c)
        image = wire.simple_image(b"code")
        for cut in (0, 1, 39, 40, len(image) - 1):
            request_id = self.c.request("PUT_IMAGE", flags=0, total_len=len(image))
            self.c.send_frame("BODY", request_id, image[:cut], END)
            self.assertRefuses("length_mismatch", self.c.wait, request_id, "PUT_IMAGE_REPLY")

    def test_refused_by_its_head(self):
        """The ERROR is there when the head is: small heads are judged by the loop, large ones by a worker."""
        for endpoints in (1, 20000):
            head, total = refused_head(endpoints)
            request_id = self.c.request("PUT_IMAGE", flags=0, total_len=total)
            for data in protocol.body_frames(request_id, head):
                self.c.send_raw(data[:9] + b"\0" + data[10:])  # the body goes on: no END
            self.assertRefuses("register_index_out_of_range", self.c.wait, request_id, "PUT_IMAGE_REPLY")
            self.assertEqual(self.d.admin("status")["spool"]["bytes"], 0, "nothing is held for it")
            # What was on its way is dropped; the connection serves others meanwhile.
            for _ in range(20):
                self.c.send_frame("BODY", request_id, bytes(100000))
                self.assertUsable(self.c)
            self.c.send_frame("BODY", request_id, b"", END)
            self.c.next_id = request_id
            self.assertUsable(self.c)

    def test_each_rule_is_decided_before_the_arena(self):
        page = wire.data_desc(PAGE, [(0, 0, 10)])
        outside = wire.data_desc(PAGE, [(0, 2**32 - 1, 9)])
        heads = {
            "ssz": b"\xff" * 40,
            "code_too_large": wire.image(code=(0, 253 << 20)),
            "code_ref_out_of_range": wire.image(code=(2**32 - 1, 2)),
            "data_size_not_page_multiple": wire.image(initial=[(b"a", wire.data_desc(PAGE + 1, []))]),
            "data_bad_len": wire.image(initial=[(b"a", wire.data_desc(PAGE, [(0, 0, PAGE + 1)]))]),
            "data_out_of_range": wire.image(pinned=[(b"a", wire.pinned_data(outside))]),
            "data_page_index_out_of_range": wire.image(initial=[(b"a", wire.data_desc(PAGE, [(1, 0, 9)]))]),
            "data_not_canonical": wire.image(initial=[(b"a", wire.data_desc(2 * PAGE, [(1, 0, 9), (1, 0, 9)]))]),
            "register_index_out_of_range": refused_head()[0],
            "source_path_empty": wire.image(initial=[(b"a", page)], mappings=[wire.mapping(0, PAGE, [])]),
            "source_path_too_deep": wire.image(initial=[(b"a", page)], mappings=[wire.mapping(0, PAGE, [b"a"] * 9)]),
        }
        for error, head in heads.items():
            with self.subTest(error):
                request_id = self.c.request("PUT_IMAGE", flags=0, total_len=200 << 20)
                self.c.send_frame("BODY", request_id, head)
                refused = self.assertRefuses(error, self.c.wait, request_id, "PUT_IMAGE_REPLY")
                if error == "ssz":
                    self.assertEqual(refused.message, "offset of endpoints is 4294967295, expected 40")
                self.c.cancel(request_id)
        self.assertUsable(self.c)

    def test_refused_by_its_length(self):
        for kind, payload in (("PUT_DATA", put_data), ("PUT_IMAGE", put_image)):
            for total in ((1 << 30) + 1, 2**64 - 1):
                self.c.send_frame(kind, 77, payload(total))
                self.assertRefuses("upload_too_large", self.c.wait, 77, kind + "_REPLY")
                self.c.send_frame("BODY", 77, b"already on its way")
                self.c.send_frame("BODY", 77, b"", END)
        self.assertUsable(self.c)

    def test_bad_messages_expect_a_body(self):
        for kind, payload in (("PUT_DATA", encode("PUT_DATA", flags=2, size=0, total_len=4)),
                              ("PUT_DATA", encode("PUT_DATA", flags=1, size=9, total_len=4)),
                              ("PUT_IMAGE", put_image(4, flags=4)), ("PUT_IMAGE", b"short")):
            request_id = self.c.take_id()
            self.c.send_frame(kind, request_id, payload)
            self.c.send_frame("BODY", request_id, b"body", END)
            self.assertRefuses("bad_message", self.c.wait, request_id, kind + "_REPLY")
            self.assertUsable(self.c)

    # Cancelling (section 3.5).

    def free(self, request_id):
        """The id is free and nothing else came for it."""
        self.c.next_id = request_id
        self.assertUsable(self.c)
        self.assertFalse(self.c.inbox, "no second answer")

    def test_cancel_while_the_body_arrives(self):
        image = wire.simple_image(content("cancel", 1 << 20))
        for sent in (0, 20, 40, 100, 1 << 19, len(image)):
            with self.subTest(sent=sent):
                request_id = self.c.request("PUT_IMAGE", flags=0, total_len=len(image))
                for at in range(0, sent, FRAME_MAX):
                    self.c.send_frame("BODY", request_id, image[at:min(sent, at + FRAME_MAX)])
                self.c.cancel(request_id)
                self.assertRefuses("cancelled", self.c.wait, request_id, "PUT_IMAGE_REPLY")
                self.free(request_id)

    def test_cancel_after_the_end(self):
        """While it is hashed and written: one answer, whichever; and the store agrees with it."""
        cancelled = 0
        for number in range(12):
            body = content(f"late cancel {number}", 4 << 20 if number % 2 else 100)
            request_id = self.c.request("PUT_DATA", flags=0, size=0, total_len=len(body))
            for data in protocol.body_frames(request_id, body, FRAME_MAX):
                self.c.send_raw(data)
            self.c.cancel(request_id)
            try:
                reply = self.c.wait(request_id, "PUT_DATA_REPLY")
                self.assertEqual(self.c.has([reply["cap_hash"]]), [2])
            except Refused as refused:
                self.assertEqual(refused.name, "cancelled")
                cancelled += 1
            self.free(request_id)
        self.assertGreater(cancelled, 0, "a cancel came in time")

    def test_cancel_of_a_refused_upload_only_ends_its_body(self):
        head, total = refused_head()
        request_id = self.c.request("PUT_IMAGE", flags=0, total_len=total)
        self.c.send_frame("BODY", request_id, head)
        self.assertRefuses("register_index_out_of_range", self.c.wait, request_id, "PUT_IMAGE_REPLY")
        self.c.cancel(request_id)
        self.free(request_id)

    def test_cancel_ends_the_body(self):
        request_id = self.c.request("PUT_DATA", flags=0, size=0, total_len=100)
        self.c.cancel(request_id)
        self.assertRefuses("cancelled", self.c.wait, request_id, "PUT_DATA_REPLY")
        self.c.send_frame("BODY", request_id, b"x")
        self.assertEnds(self.c, "bad_frame")

    def test_cancel_of_nothing(self):
        for request_id in (1, 5, 2**32 - 1):
            self.c.cancel(request_id)
        self.assertUsable(self.c)


class Downloads(SystemTest):
    """Section 3.4."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.c = self.connect(self.d)

    def test_two_large_bodies_and_small_answers_take_turns(self):
        large = [self.c.put_data(content(f"large {i}", LARGE), piece=FRAME_MAX)["cap_hash"] for i in range(2)]
        first, second = (self.c.request("GET", hash=h, offset=0, len=TO_END) for h in large)
        has = self.c.request("HAS", hashes=large[0] + NO_HASH)
        bodies = {first: bytearray(), second: bytearray()}
        ended, answered, seen = [], None, []
        while len(ended) < 2 or answered is None:
            got = self.c.recv_frame()
            if got.type == TYPES["BODY"]:
                bodies[got.id] += got.payload
                seen.append(got.id)
                if got.flags & END:
                    ended.append(got.id)
            elif got.id == has:
                answered = len(ended)
                self.assertEqual(decode("HAS_REPLY", got.payload)["kinds"], b"\2\0")
        self.assertEqual(answered, 0, "the small answer overtook both bodies")
        # A thread may have found one of them much earlier than the other: from then on they take turns.
        self.assertGreater(sum(a != b for a, b in zip(seen, seen[1:])), 10)
        for i, request_id in enumerate((first, second)):
            self.assertEqual(wire.data_content(bodies[request_id]), content(f"large {i}", LARGE))

    def test_ranges(self):
        put = self.c.put_data(content("ranges", 300 * PAGE))
        length = put["body_len"]
        whole = self.c.get(put["cap_hash"])[1]
        self.assertEqual(len(whole), length)
        edges = [0, 1, 16, 17, 4095, 4096, 65535, 65536, 65537, length - 1, length]
        for offset in edges:
            for want in (0, 1, 4096, 65536, length - offset, length - offset + 1, length, 2**64 - 2, TO_END):
                reply, body = self.c.get(put["cap_hash"], offset, want)
                self.assertEqual(body, whole[offset:min(length, offset + want)], (offset, want))
                self.assertEqual((reply["kind"], reply["body_len"], reply["offset"]), (2, length, offset))
        for offset in (length + 1, 2**32, 2**63, 2**64 - 1):
            for want in (0, 1, TO_END):
                self.assertRefuses("range_out_of_body", self.c.get, put["cap_hash"], offset, want)
        rng = random.Random(3)
        for _ in range(50):
            offset, want = rng.randrange(length), rng.randrange(length)
            self.assertEqual(self.c.get(put["cap_hash"], offset, want)[1], whole[offset:offset + want])

    def test_what_is_not_there(self):
        self.assertRefuses("not_found", self.c.get, NO_HASH)
        self.assertRefuses("not_found", self.c.stat, NO_HASH)
        self.assertEqual(self.c.has([]), [])

    def test_stat(self):
        before = time.time()
        put = self.c.put_data(b"x" * (PAGE + 1))
        stat = self.c.stat(put["cap_hash"])
        self.assertEqual((stat["kind"], stat["size"], stat["page_count"], stat["ref_count"], stat["content_hash"]),
                         (2, 2 * PAGE, 2, 0, NO_HASH))
        self.assertLess(abs(stat["published_us"] / 1e6 - before), 3600)
        image = self.c.put_image(wire.simple_image(b"code", [(b"a", b"x"), (b"b", b"x"), (b"c", b"y")]))
        stat = self.c.stat(image["cap_hash"])
        self.assertEqual((stat["kind"], stat["size"], stat["ref_count"], stat["content_hash"]),
                         (1, 4, 2, image["content_hash"]))
        self.assertEqual(stat["body_len"], image["body_len"])

    def test_cancel_of_a_get(self):
        cap_hash = self.c.put_data(content("get", LARGE), piece=FRAME_MAX)["cap_hash"]
        for read in (0, 3):
            request_id = self.c.request("GET", hash=cap_hash, offset=0, len=TO_END)
            self.c.wait(request_id, "GET_REPLY")
            for _ in range(read):
                self.c._next_of(request_id)
            self.c.cancel(request_id)  # most of the body cannot be on its way: the socket holds less
            self.assertRefuses("cancelled", self.c.recv_body, request_id)
            self.c.next_id = request_id
            self.assertEqual(len(self.c.get(cap_hash, 5, 100)[1]), 100)

    def test_cancel_of_a_long_has(self):
        for _ in range(20):
            request_id = self.c.request("HAS", hashes=NO_HASH * 4096)
            self.c.cancel(request_id)
            try:
                self.assertEqual(self.c.wait(request_id, "HAS_REPLY")["kinds"], bytes(4096))
            except Refused as refused:
                self.assertEqual(refused.name, "cancelled")
            self.c.next_id = request_id
            self.assertUsable(self.c)


if __name__ == "__main__":
    unittest.main()
