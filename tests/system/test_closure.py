"""CLOSURE: whole programs in one answer, and what such an answer may take of the daemon."""

import threading
import unittest

import wire
from harness import SANITIZED, SystemTest, capctl, content, free_port, wait_until
from protocol import CLOSURE, END, TYPES, Refused, decode_entries
from relay import Relay

IMAGE, DATA = 1, 2
ABSENT = b"\xee" * 32
KIB, MIB = 1 << 10, 1 << 20


class Base(SystemTest):
    def open(self, *options, **more):
        self.d = self.daemon(*options, **more)
        return self.asker()

    def asker(self, **more):
        client = self.connect(self.d, hello=False, **more)
        self.assertEqual(client.hello(features=CLOSURE)["features"], CLOSURE)
        return client

    def image(self, client, name, data=(), images=()):
        """Publishes an Image with this content in its slots and these Images pinned; returns its hash."""
        code = content(name, 5000)
        slots = [(b"%d" % i, one) for i, one in enumerate(data)]
        pinned = [(b"i%d" % i, one) for i, one in enumerate(images)]
        return client.put_image(wire.simple_image(code, slots, pinned))["cap_hash"]

    def data(self, client, name, size):
        return client.put_data(content(name, size))["cap_hash"]

    def program(self, client, large=300 * KIB):
        """A program of three levels whose Images share data; its hash."""
        shared = content("shared", 9000)
        inner = self.image(client, "inner", [shared, content("a", 100), content("large", large)])
        other = self.image(client, "other", [shared, content("b", 70 * KIB)])
        middle = self.image(client, "middle", [shared], [inner])
        return self.image(client, "outer", [content("c", 5000)], [middle, other, inner])

    def refs(self, cap):
        refs = self.d.admin("refs.list", hash=cap.hex(), direction="out", limit=1000)["refs"]
        return {bytes.fromhex(r["cap_hash"]) for r in refs}

    def reached(self, root, had=()):
        """What the closure of a cap must have, asked cap by cap, but for some and what is only below them."""
        found, left = set(), [root]
        while left:
            cap = left.pop()
            if cap not in found and cap not in had:
                found.add(cap)
                left += self.refs(cap)
        return found

    def all_of(self, root):
        return self.reached(root)

    def check_order(self, entries, before=()):
        """Each cap comes once, and after what it refers to."""
        seen = set(before)
        for cap, kind, _, _ in entries:
            self.assertNotIn(cap, seen)
            if kind == IMAGE:
                self.assertLessEqual(self.refs(cap), seen)
            seen.add(cap)

    def check_bodies(self, client, entries):
        for cap, kind, length, body in entries:
            reply, wanted = client.get(cap)
            self.assertEqual((kind, length), (reply["kind"], reply["body_len"]))
            self.assertEqual(body, wanted)


class Closure(Base):
    # --- what comes ---

    def test_references_first(self):
        """All that a program needs, once each, as GET gives it; again after a restart, when nothing is known."""
        client = self.open()
        root = self.program(client, large=3 * MIB)
        for _ in range(2):
            entries = client.closure([root, root])
            self.assertEqual({e[0] for e in entries}, self.all_of(root))
            self.check_order(entries)
            self.check_bodies(client, entries)
            self.assertEqual(entries[-1][0], root)
            client.close()
            self.d.stop()
            self.d.start()
            client = self.asker()
        single = self.data(client, "single", 10)
        entries = client.closure([single, root, single])
        self.assertEqual((entries[0][0], len(entries)), (single, len(self.all_of(root)) + 1))
        self.assertEqual(client.closure([]), [])
        figures = self.d.figures()
        self.assertEqual(figures["capstore_closure_caps_total"], len(entries))
        self.assertEqual(figures["capstore_closure_seconds_count"], 2)
        self.assertUsable(client)

    def test_list(self):
        client = self.open()
        root = self.program(client)
        entries = client.closure([root, ABSENT], list_only=True)
        self.assertEqual(entries, [e[:3] + (None,) for e in client.closure([root, ABSENT])])
        self.check_order(entries)

    def test_have(self):
        """What the client has is left out with all that only it needs; what it has may be unknown."""
        client = self.open()
        root = self.program(client)
        inner = self.image(client, "inner", [content("shared", 9000), content("a", 100), content("large", 300 * KIB)])
        middle = self.image(client, "middle", [content("shared", 9000)], [inner])
        for had in ([middle, ABSENT, middle], [inner], [middle, inner]):
            entries = client.closure([root], have=had)
            self.assertEqual({e[0] for e in entries}, self.reached(root, had))
            self.check_order(entries, self.all_of(root) - self.reached(root, had))
        self.assertEqual(client.closure([root], have=[root]), [])
        self.assertEqual(client.closure([ABSENT], have=[ABSENT]), [])

    def test_absent(self):
        """What is not there, is forbidden or is damaged comes without a body, and the rest comes all the same."""
        client = self.open()
        gone, bad = self.data(client, "gone", 3000), self.data(client, "bad", 3000)
        large = self.data(client, "torn", 60 * KIB)
        root = self.image(client, "root", [content("gone", 3000), content("bad", 3000), content("torn", 60 * KIB),
                                           content("kept", 3000)])
        outer = self.image(client, "outer", [], [root])
        self.d.admin("cap.delete", hash=gone.hex(), force=True)
        self.d.admin("cap.forbid", hash=bad.hex(), reason="no")
        client.close()
        self.d.stop()
        store = self.d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        data[data.index(content("torn", 60 * KIB)[30000:30100])] ^= 4
        store.write_bytes(data)
        self.d.start()
        client = self.asker()
        for _ in range(2):  # the damaged one is quarantined from the second time on
            entries = client.closure([outer, ABSENT])
            kinds = {cap: kind for cap, kind, _, _ in entries}
            self.assertEqual([kinds[cap] for cap in (gone, bad, large, ABSENT)], [0, 0, 0, 0])
            self.assertEqual([kinds[cap] for cap in (root, outer)], [IMAGE, IMAGE])
            self.assertEqual(sorted(kinds.values()).count(DATA), 1)
            self.check_order(entries)
        self.assertEqual(self.d.admin("status")["last_error"]["reason"], "corrupt")

    def test_damaged_while_sent(self):
        """A large body that turns out damaged after its head ends the answer; what came before it is complete."""
        client = self.open()
        root = self.image(client, "root", [content("large", 3 * MIB)])
        large = self.data(client, "large", 3 * MIB)
        client.close()
        self.d.stop()
        store = self.d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        data[data.index(content("large", 3 * MIB)[2 * MIB:2 * MIB + 100])] ^= 4
        store.write_bytes(data)
        self.d.start()
        client = self.asker()
        with self.assertRaises(Refused) as caught:
            client.closure([root])
        refused = caught.exception
        self.assertIn(refused.name, ("corrupt", "quarantined"))  # the second when it was found while reading ahead
        self.assertTrue(refused.message.startswith(large.hex()), refused.message)
        self.assertEqual([e[1] for e in client.closure([root])], [0, IMAGE])

    # --- bounds ---

    def test_too_large(self):
        """As many caps as are allowed, then an ERROR; asked again with what came, the rest."""
        client = self.open("--closure-max", "7")
        root = self.image(client, "wide", [content(i, 100 + i) for i in range(30)])
        everything, had = self.all_of(root), []
        while True:
            request_id = client.ask_closure([root], had)
            self.assertEqual(client.wait(request_id, "CLOSURE_REPLY"), {"max": 7})
            frames, refused = b"", None
            while True:
                got = client._next_of(request_id)
                if got.type == TYPES["ERROR"]:
                    refused = client._refusal(got)
                    break
                frames += got.payload
                if got.flags & END:
                    break
            entries = decode_entries(frames)
            self.check_order(entries, had)
            had += [e[0] for e in entries]
            if refused is None:
                break
            self.assertEqual((refused.name, len(entries)), ("closure_too_large", 7))
        self.assertEqual(set(had), everything)
        self.assertEqual(len(had), len(everything))
        self.assertUsable(client)
        self.assertEqual(self.d.figures()['capstore_setting{option="closure-max"}'], 7)

    def test_limits(self):
        client = self.open("--max-hashes", "10")
        self.assertEqual(len(client.closure([ABSENT] * 4, [bytes(32)] * 6)), 1)
        self.assertRefuses("too_many_hashes", client.closure, [ABSENT] * 5, [bytes(32)] * 6)
        for payload in (b"", b"\x02\x09\0\0\0\x09\0\0\0", b"\0\x09\0\0\0\x09\0\0\0" + bytes(33), b"\0\x09\0\0\0"):
            request_id = client.take_id()
            client.send_frame("CLOSURE", request_id, payload)
            self.assertRefuses("bad_message", client.wait_closure, request_id)
        self.assertUsable(client)

    def test_feature(self):
        self.open(listen=[f"unix:{self.root}/s", f"tcp:127.0.0.1:{free_port()}"])
        plain = self.connect(self.d, hello=False)
        plain.hello(features=2)
        self.assertRefuses("unsupported_request", plain.closure, [ABSENT] * 300)
        self.assertUsable(plain)
        self.assertEqual(self.asker(address=self.d.listen[1]).closure([ABSENT]), [(ABSENT, 0, 0, None)])

    def test_memory(self):
        """Answers that nobody takes hold a chunk and a walk each; the connection ends, and all is given back."""
        client = self.open("--threads", "1", "--progress-ms", "1500")
        root = self.image(client, "wide", [content(i, 60 * KIB) for i in range(100)])
        client.closure([root])
        before = self.d.memory()
        slow = [self.asker() for _ in range(4)]
        for peer in slow:
            for _ in range(8):
                peer.ask_closure([root])
        wait_until(lambda: self.d.figures()["capstore_requests_in_flight"] == 32, "all requests")
        self.assertUsable(client)
        if not SANITIZED:
            self.assertLess(self.d.memory() - before, 32 * (140 + 132 + 64) * KIB + 4 * MIB)
        self.assertGreater(self.d.figures()["capstore_request_memory_bytes"], 32 * 132 * KIB)
        wait_until(lambda: self.d.figures()["capstore_connections"] == 1, "the slow ones are gone")
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] == 0, "memory is given back")
        self.assertUsable(client)

    def test_memory_limit(self):
        """A walk that finds no memory ends with what it found."""
        client = self.open()
        root = self.image(client, "wide", [content(i, 10) for i in range(2000)])
        client.close()
        self.d.stop()
        self.d.options = ["--max-memory", "1M", "--max-peer-memory", "190K"]
        self.d.start()
        client = self.asker()
        refused = self.assertRefuses("memory_limit", client.closure, [root], list_only=True)
        self.assertIn("max-peer-memory", refused.message)
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] == 0, "memory is given back")
        self.assertEqual(client.closure([ABSENT]), [(ABSENT, 0, 0, None)])

    def test_cancelled(self):
        """In the midst of an answer, in the chunk or in a large body: the ERROR comes, and the id is free again."""
        client = self.open()
        small = self.image(client, "wide", [content(i, 60 * KIB) for i in range(100)])
        large = self.image(client, "large", [content("large", 30 * MIB)])
        for root in (small, large):
            request_id = client.ask_closure([root])
            client.wait(request_id, "CLOSURE_REPLY")
            client.send_frame("CANCEL", request_id)
            self.assertRefuses("cancelled", client.recv_body, request_id)
            self.assertUsable(client)
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] == 0, "memory is given back")

    def test_connection_gone(self):
        client = self.open()
        root = self.program(client, large=20 * MIB)
        for i in range(20):
            leaver = self.asker()
            request_id = leaver.ask_closure([root])
            if i % 2 == 0:
                leaver.wait(request_id, "CLOSURE_REPLY")
            leaver.close()
        wait_until(lambda: self.d.figures()["capstore_requests_in_flight"] == 0, "no request")
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] == 0, "memory is given back")
        self.assertEqual({e[0] for e in client.closure([root])}, self.all_of(root))

    def test_drained(self):
        """An answer under way is finished when the daemon stops; one that is asked for then is refused."""
        client = self.open("--threads", "1")
        root = self.image(client, "large", [content("large", 30 * MIB), content("small", 10)])
        request_id = client.ask_closure([root])
        client.wait(request_id, "CLOSURE_REPLY")
        self.d.process.terminate()
        wait_until(lambda: "drain" in self.d.log(), "draining")
        late = client.ask_closure([root])
        self.assertEqual(len(decode_entries(client.recv_body(request_id))), 3)
        self.assertRefuses("draining", client.wait_closure, late)
        self.assertEqual(self.d.process.wait(60), 0)
        self.d.process = None

    def test_others_go_on(self):
        """A small request overtakes a long answer of the same connection, and of another."""
        client = self.open("--threads", "1")
        root = self.image(client, "large", [content(i, 3 * MIB) for i in range(8)])
        other = self.asker()
        request_id = client.ask_closure([root])
        self.assertUsable(other)
        small = client.request("HAS", hashes=b"")
        seen = []
        while small not in seen:
            got = client.recv_frame()
            seen.append(got.id)
            self.assertFalse(got.id == request_id and got.flags & END)
            client.inbox.setdefault(got.id, []).append(got)
        self.assertEqual(len(client.wait_closure(request_id)), 9)


class Programs(Base):
    """The library's side, by the tool: through a relay that counts and cuts."""

    def fetch(self, relay, root, name="out", status=0):
        """capctl closure -d; the names and lengths of the files."""
        result = self.assertStatus(capctl("-s", relay.address, "closure", root.hex(), "-d", self.root / name), status)
        files = {path.name: path.stat().st_size for path in (self.root / name).iterdir()}
        return result.json, files

    def wide(self, client, count, size=3000):
        return self.image(client, "wide", [content(i, size) for i in range(count)])

    def test_round_trips(self):
        """A program of 1,000 caps: the hello, and one request."""
        client = self.open()
        root = self.wide(client, 999)
        with Relay(self.root / "relay", self.d) as relay:
            answer, files = self.fetch(relay, root)
            self.assertEqual(len(files), 1000)
            self.assertEqual(set(files), {cap["cap_hash"] for cap in answer["caps"]})
            self.assertLessEqual(relay.turns, 3)
            self.assertLess(relay.down[0], sum(files.values()) + 1000 * 41 + 20000)
            self.assertLess(relay.up, 1000)

    def test_list_round_trips(self):
        """The same without its bodies, which do not come; and cap by cap where the daemon gives fewer at once."""
        client = self.open()
        root = self.wide(client, 999)
        files = {(e[0].hex(), e[2]) for e in client.closure([root])}
        for options, turns, most in (((), 3, 1000 * 41 + 5000), (("--closure-max", "60"), 50, 500_000)):
            self.d.stop()
            self.d.options = list(options)
            self.d.start()
            with Relay(self.root / "relay", self.d) as relay:
                answer = self.ok(capctl("-s", relay.address, "closure", root.hex()))
                self.assertEqual({(cap["cap_hash"], cap["body_len"]) for cap in answer["caps"]}, files)
                self.assertEqual(len(answer["caps"]), 1000)
                self.assertLessEqual(relay.turns, turns)
                self.assertLess(sum(relay.down), most)

    def test_cut_off(self):
        """The connection is lost at many points: what came is kept, and nothing comes twice but what was under way."""
        client = self.open()
        root = self.program(client, large=2 * MIB)
        with Relay(self.root / "relay", self.d) as relay:
            answer, files = self.fetch(relay, root)
            whole, = relay.down
        self.assertEqual(len(files), len(self.all_of(root)))
        largest, second = sorted(files.values())[-1:-3:-1]
        for tenth in range(10):
            with Relay(self.root / "relay", self.d, cuts=[whole * tenth // 10 + 200]) as relay:
                again, got = self.fetch(relay, root, f"out{tenth}")
                self.assertEqual(got, files)
                self.assertEqual(sorted(c["cap_hash"] for c in again["caps"]), sorted(files))
                self.assertEqual(len(relay.down), 2)
                self.assertLess(sum(relay.down), whole + largest + 20000)
        # Cut again and again, each time after something new has come.
        with Relay(self.root / "relay", self.d, cuts=[second + 50000] * 4 + [largest + 200000] * 3) as relay:
            again, got = self.fetch(relay, root, "often")
            self.assertEqual(got, files)

    def test_cut_off_for_good(self):
        """Nothing comes any more: the error, after a bounded number of attempts; what came is in the directory."""
        client = self.open()
        root = self.wide(client, 200)
        with Relay(self.root / "relay", self.d, cuts=[300000] + [100] * 50) as relay:
            error, files = self.fetch(relay, root, status=3)
            self.assertEqual(error["error"], "connection_lost")
            self.assertTrue(20 < len(files) < 201, len(files))
            self.assertLessEqual(len(relay.down), 8)

    def test_cut_off_with_much_at_hand(self):
        """More loose caps have come than a request can name: the rest comes all the same, and only that."""
        client = self.open("--max-hashes", "50")
        root = self.wide(client, 300)
        with Relay(self.root / "relay", self.d, cuts=[600000]) as relay:
            answer, files = self.fetch(relay, root)
            self.assertEqual(len(files), 301)
            self.assertLess(sum(relay.down), sum(files.values()) + 301 * 200 + 3 * max(files.values()) + 20000)

    def test_in_parts(self):
        """A closure of more caps than the daemon gives at once."""
        client = self.open("--closure-max", "60")
        inner = [self.image(client, f"i{i}", [content((i, k), 500) for k in range(50)]) for i in range(5)]
        root = self.image(client, "outer", [content("o", 100)], inner)
        with Relay(self.root / "relay", self.d) as relay:
            answer, files = self.fetch(relay, root)
            self.assertEqual(set(files), {cap.hex() for cap in self.all_of(root)})
            self.assertEqual(len(answer["caps"]), len(files))
            self.assertLess(relay.turns, 10)

    def test_missing(self):
        """A cap that is not there: the error names it, and all others were written."""
        client = self.open()
        root = self.program(client)
        gone = self.data(client, "a", 100)
        everything = self.all_of(root)
        self.d.admin("cap.delete", hash=gone.hex(), force=True)
        with Relay(self.root / "relay", self.d) as relay:
            error, files = self.fetch(relay, root, status=1)
            self.assertEqual(error["error"], "not_found")
            self.assertIn(gone.hex(), error["message"])
            self.assertEqual(set(files), {cap.hex() for cap in everything - {gone}})

    def test_mirror(self):
        """A program that is named goes in a few round trips, and then what is new of it."""
        client = self.open()
        inner = [self.image(client, f"i{i}", [content((i, k), 900) for k in range(60)]) for i in range(5)]
        root = self.image(client, "outer", [content("o", 100)], inner)
        more = self.image(client, "more", [content("p", 100)], [root])
        other = self.daemon(name="b")
        for cap, fresh in ((root, self.all_of(root)), (more, self.all_of(more) - self.all_of(root))):
            with Relay(self.root / "relay", self.d) as relay:
                done = self.ok(capctl("--admin", f"unix:{self.d.admin_path}", "mirror", "--from", relay.address, "--to",
                                      other.address, cap.hex()))
                self.assertEqual((done["sent"], done["left_out"]), (len(fresh), 0))
                self.assertLess(relay.turns, 8)  # two hellos, the list, the bodies
                bodies = sum(e[2] for e in client.closure([cap], list_only=True) if e[0] in fresh)
                self.assertLess(sum(relay.down), bodies + 41 * 2 * 400 + 5000)

    def test_dump(self):
        """So does one that goes to a file."""
        client = self.open()
        root = self.wide(client, 500)
        for i in range(10):
            root = self.image(client, f"above {i}", [content(("level", i), 700)], [root])
        with Relay(self.root / "relay", self.d) as relay:
            done = self.ok(capctl("-s", relay.address, "dump", "-o", self.root / "dump", root.hex()))
            self.assertEqual((done["caps"], done["left_out"]), (521, 0))
            self.assertLess(relay.turns, 8)

    def test_restart(self):
        """The daemon is restarted in the midst of it."""
        client = self.open()
        root = self.wide(client, 300, 30000)
        client.close()
        with Relay(self.root / "relay", self.d, cuts=[3 * MIB]) as relay:
            def restart():
                wait_until(lambda: relay.down and relay.down[0] == 3 * MIB, "the cut")
                self.d.stop()
                self.d.start()
            thread = threading.Thread(target=restart)
            thread.start()
            answer, files = self.fetch(relay, root)
            thread.join()
            self.assertEqual(len(files), 301)


if __name__ == "__main__":
    unittest.main()
