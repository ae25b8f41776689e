"""capstored --check: a sound store, a damaged one, one in use; and what a crash of the daemon says."""

import os
import random
import signal
import subprocess
import time
import unittest

import harness
import protocol
import wire
from harness import LONG, SANITIZED, START_SECONDS, SystemTest, content

SOUND, DAMAGED, USAGE, FAILED = 0, 1, 2, 3


def check(state, *options):
    return subprocess.run([harness.CAPSTORED, "--check", "--state", str(state), *options], capture_output=True,
                          text=True, timeout=120, check=False)


PAGE = 4096
NO_PAGE = 2**64 - 1
NOT_READ = {"header": range(8, 10), "run": range(8, 10)}  # bytes of a place: padding of pages


def field(data, at, width):
    return int.from_bytes(data[at:at + width], "little")


def index_places(data):
    """What LMDB trusts in a store's file: (kind, offset, length), by its data version 1."""
    newer = max((0, PAGE), key=lambda at: field(data, at + 144, 8))
    places = [("commit", newer + 144, 8), ("commit", PAGE - newer + 144, 8)]
    todo = [field(data, newer + 80, 8), field(data, newer + 128, 8)]
    while todo:
        page = todo.pop() * PAGE
        is_branch, lower = field(data, page + 10, 2) == 1, field(data, page + 12, 2)
        places += [("header", page, 16), ("offsets", page + 16, lower - 16)]
        for at in range(page + 16, page + lower, 2):
            node = page + field(data, at, 2)
            flags, key = field(data, node + 4, 2), field(data, node + 6, 2)
            value = node + 8 + key
            places.append(("node", node, 8))
            if is_branch:
                todo.append(field(data, node, 6))
            elif flags & 1:
                places += [("overflow", value, 8), ("run", field(data, value, 8) * PAGE, 16)]
            elif flags & 2:
                places.append(("tree", value + 4, 2))
                todo += [root for root in [field(data, value + 40, 8)] if root != NO_PAGE]
    return places


def separators(data, places):
    """The keys of branch pages, by which LMDB finds its way: (offset, length)."""
    for _, page, _ in (place for place in places if place[0] == "header"):
        if field(data, page + 10, 2) == 1:
            for at in range(page + 18, page + field(data, page + 12, 2), 2):
                node = page + field(data, at, 2)
                yield node + 8, field(data, node + 6, 2)


class Check(SystemTest):
    def stored(self):
        """A daemon's state directory with a few caps, the daemon stopped; and the largest cap's hash and content."""
        d = self.daemon()
        c = self.connect(d)
        for i in range(20):
            c.put_data(content(i, 1000 * i + 1))
        big = content(99, 300000)
        reply = c.put_data(big)
        c.close()
        d.stop()
        return d, reply["cap_hash"], big

    def test_sound(self):
        d, _, _ = self.stored()
        store = d.state / "store" / "store.lmdb"
        before = store.read_bytes()
        result = check(d.state)
        self.assertEqual(result.returncode, SOUND, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertIn(": sound, 21 caps, ", result.stderr)
        self.assertEqual(store.read_bytes(), before, "the check changes nothing")
        d.start()
        self.connect(d)

    def test_one_cap_is_one_cap(self):
        d = self.daemon()
        self.connect(d).put_data(b"one")
        d.stop()
        self.assertIn(": sound, 1 cap, ", check(d.state).stderr)

    def test_sound_after_kills(self):
        """Whatever kill -9 interrupts, what it leaves is sound: commits, stages, sweeps, reused pages."""
        d = self.daemon(start=False)
        for life in range(8):
            d.start()
            c = self.connect(d)
            for i in range(10):
                c.put_data(content(100 * life + i, 700 * i * i + 1))
            cut = c.request("PUT_DATA", flags=0, size=0, total_len=12 << 20)
            c.send_body(cut, content(life, 12 << 20))
            if life % 2 == 0:
                c.send_frame("CANCEL", cut)
            for i in range(20):
                c.send_body(c.request("PUT_DATA", flags=0, size=0, total_len=900 * i + 1), content(i, 900 * i + 1))
            time.sleep(0.02 * life)
            d.kill()
            result = check(d.state)
            self.assertEqual((result.returncode, result.stdout), (SOUND, ""), f"life {life}")

    def test_damaged_body(self):
        d, cap, big = self.stored()
        store = d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        at = data.index(big[150000:150100])
        data[at] ^= 4
        store.write_bytes(data)
        result = check(d.state)
        self.assertEqual(result.returncode, DAMAGED)
        self.assertIn(f"{cap.hex()} body: chunk ", result.stdout)
        self.assertIn(": damaged, 1 finding", result.stderr)
        # The daemon does not serve it, says so, and tells when it was first seen.
        d.start()
        c = self.connect(d)
        self.assertRefuses("quarantined", c.get, cap)
        harness.wait_until(lambda: d.admin("cap.stat", hash=cap.hex())["damaged"] is not None, "the fact to be kept")
        self.assertIn(cap.hex(), d.log())
        began = time.time()
        for _ in range(200):
            self.assertRefuses("quarantined", c.get, cap)
        # Publishing it again heals it.
        self.assertEqual(c.put_data(big)["is_new"], 1)
        self.assertEqual(c.has([cap]), [2])
        self.assertIsNone(d.admin("cap.stat", hash=cap.hex())["damaged"])
        self.assertLessEqual(d.log().count(" error fault "), 20 * (int(time.time()) - int(began) + 2))

    def test_engine_crash_is_a_finding(self):
        """Pages whose headers lie: LMDB crashes, or says so; either is a finding."""
        d, _, _ = self.stored()
        store = d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        for fill in (b"\xff", b"\x5a", b"\x01", b"\x00"):
            hurt = bytearray(data)
            for page in range(2, len(data) // 4096):
                hurt[page * 4096 + 16:page * 4096 + 200] = fill * 184
            store.write_bytes(hurt)
            result = check(d.state)
            self.assertEqual(result.returncode, DAMAGED, (fill, result))
            self.assertTrue(result.stdout)
        last = max(field(data, at + 136, 8) for at in (0, PAGE))  # zeros are written ahead behind it
        store.write_bytes(data[:last // 2 * PAGE])
        result = check(d.state)
        self.assertEqual(result.returncode, DAMAGED, result)
        self.assertRegex(result.stdout, "store page [0-9]+ lies past the end of the file")
        self.assertIn("the storage engine crashed (SIGBUS) while reading", result.stdout)

    def many(self):
        """The file of a store whose indexes have branches, and its bytes."""
        d = self.daemon()
        c = self.connect(d)
        for i in range(120):
            c.put_data(content(i, 3000 if i % 8 == 0 else 10))
        for i in range(4):
            data = [(bytes([j]), content(100 * i + j, 20)) for j in range(30)]
            c.put_image(wire.simple_image(bytes([i]), data=data))
        c.close()
        d.stop()
        store = d.state / "store" / "store.lmdb"
        return d, store, bytearray(store.read_bytes())

    def assertFound(self, d, file, data, at, byte, what):
        file.seek(at)
        file.write(bytes([byte]))
        file.flush()
        result = check(d.state)
        file.seek(at)
        file.write(data[at:at + 1])
        file.flush()
        place = f"{what} at {at // PAGE}:{at % PAGE}: 0x{data[at]:02x} became 0x{byte:02x}: {result}"
        self.assertEqual(result.returncode, DAMAGED, place)
        self.assertTrue(result.stdout, place)

    def test_indexes(self):
        """Flips in what LMDB reads of its own, not in what it keeps for us."""
        d, store, data = self.many()
        places = {}
        for kind, at, length in index_places(data):
            places.setdefault(kind, []).extend(set(range(at, at + length)) -
                                               {at + skipped for skipped in NOT_READ.get(kind, ())})
        rounds = 200 if LONG else 5 if SANITIZED else 20
        choose = random.Random(4)
        with open(store, "r+b", buffering=0) as file:
            for kind, ats in sorted(places.items()):
                for _ in range(rounds):
                    at = choose.choice(ats)
                    self.assertFound(d, file, data, at, data[at] ^ 1 << choose.randrange(8), kind)
        self.assertEqual(check(d.state).returncode, SOUND)

    def test_sizes(self):
        """A file that says it has more pages than a process can map, or was made for a larger map."""
        d, store, data = self.many()
        newer = max((0, PAGE), key=lambda at: field(data, at + 144, 8))
        with open(store, "r+b", buffering=0) as file:
            for at in range(newer + 136, newer + 144):
                if at >= newer + 138:  # less is a gap at the end, which may be
                    self.assertFound(d, file, data, at, 0x10, "the number of pages")
            for at in range(newer + 32, newer + 40):
                file.seek(at)
                file.write(b"\xff")
            self.assertEqual(check(d.state).returncode, SOUND, "what it was made for does not matter")

    def test_separators(self):
        """A branch that leads past a cap which is there: who asks for it would be told that it is not."""
        d, store, data = self.many()
        found = 0
        with open(store, "r+b", buffering=0) as file:
            for at, length in separators(data, index_places(data)):
                if length == 32:
                    self.assertFound(d, file, data, at, 0xff if data[at] < 0x80 else 0x00, "a separator")
                    found += 1
        self.assertGreater(found, 2)

    def test_what_cannot_be_checked(self):
        d = self.daemon()
        result = check(d.state)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("another capstored uses", result.stderr)
        d.stop()
        empty = self.root / "empty"
        empty.mkdir()
        result = check(empty)
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(list(empty.iterdir()), [], "nothing is made")
        result = subprocess.run([harness.CAPSTORED, "--check"], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, USAGE)
        result = check(empty, "--no-such-option")
        self.assertEqual(result.returncode, USAGE)

    @unittest.skipIf(os.environ.get("CAPSTORE_SANITIZED"), "a sanitizer has handlers of its own")
    def test_a_crash_names_the_check(self):
        for number, name in ((signal.SIGSEGV, "SIGSEGV"), (signal.SIGBUS, "SIGBUS")):
            d = self.daemon(name=name)
            d.process.send_signal(number)
            self.assertEqual(d.process.wait(START_SECONDS), -number)
            d.process = None
            line = [line for line in d.log().splitlines() if "crashed" in line]
            self.assertEqual(len(line), 1, d.log())
            self.assertIn(f"signal={name} ", line[0])
            self.assertIn(f"capstored --check --state {d.state}", line[0])
            self.assertEqual(check(d.state).returncode, SOUND)


class CutWhileOpen(SystemTest):
    """A file that is cut under a running daemon, as a bad sector would show: reads fail, the daemon lives on."""

    def answers(self, d, c, bodies):
        """The hashes of which a GET was answered; everything else that reads is asked, too."""
        alive = set()
        for cap, body in bodies.items():
            for call in (c.get, c.stat, lambda cap: c.has([cap])):
                try:
                    reply = call(cap)
                    if call == c.get:
                        self.assertEqual(reply[1], body)
                        alive.add(cap)
                except protocol.Refused as refused:
                    self.assertEqual(refused.name, "io")
                    self.assertIn(cap.hex(), refused.message)
        calls = [("cap.list", {}), ("status", {}), ("metrics", {})]
        for cap in bodies:
            calls += [("cap.stat", {"hash": cap.hex()}), ("cap.explain", {"hash": cap.hex()}),
                      ("refs.list", {"hash": cap.hex(), "direction": "in"})]
        for method, params in calls:
            try:
                d.admin(method, **params)
            except harness.AdminError as error:
                self.assertEqual(error.reason, "io")
        return alive

    def test_what_was_sound_is_checked_again(self):
        """Damage below a body that was served, and whose pages are in memory."""
        d = self.daemon()
        c = self.connect(d)
        for size in (9000, 40000, 300000):
            body = content(size, size)
            cap = c.put_data(body)["cap_hash"]
            whole = c.get(cap)[1]
            self.assertEqual(c.get(cap)[1], whole)
            store = d.state / "store" / "store.lmdb"
            at = store.read_bytes().index(body[size // 2:size // 2 + 64])
            with open(store, "r+b") as file:
                file.seek(at)
                file.write(bytes([body[size // 2] ^ 1]))
            try:
                self.assertEqual(c.get(cap)[1], whole)  # from a copy in memory
            except protocol.Refused as refused:
                self.assertEqual(refused.name, "quarantined")
        self.assertIsNone(d.process.poll(), d.log())

    def test_reads_fail_and_the_daemon_lives(self):
        d = self.daemon("--record-cache", "0")
        c = self.connect(d)
        bodies = {}
        for i in range(40):
            reply = c.put_data(content(i, 3000 * i + 1))
            bodies[reply["cap_hash"]] = c.get(reply["cap_hash"])[1]
        store = d.state / "store" / "store.lmdb"
        whole = store.read_bytes()
        self.assertEqual(self.answers(d, c, bodies), set(bodies))
        seen = set()
        for part in (0.9, 0.7, 0.5, 0.3, 0.1, 0):
            os.truncate(store, int(len(whole) * part) // PAGE * PAGE)
            alive = self.answers(d, c, bodies)
            seen.add(len(alive))
        self.assertEqual(alive, set())
        self.assertRefuses("io", c.put_data, content(99, 1000))
        self.assertTrue(any(0 < count < len(bodies) for count in seen), seen)
        self.assertIsNone(d.process.poll(), d.log())
        line = next(line for line in d.log().splitlines() if " error fault error=io " in line)
        self.assertIn(f"capstored --check --state {d.state}", line)
        with open(store, "r+b") as file:
            file.write(whole)
        self.assertEqual(self.answers(d, c, bodies), set(bodies))
        self.assertTrue(all(d.admin("cap.stat", hash=cap.hex())["damaged"] is None for cap in bodies))
        self.assertEqual(d.admin("status")["last_error"]["reason"], "io")
        d.stop()
        self.assertEqual(check(d.state).returncode, SOUND)


if __name__ == "__main__":
    unittest.main()
