"""Caps from one daemon to another: dump, load and mirror, damaged streams, interruptions, and bodies
that are larger than what is kept in memory."""

import json
import os
import signal
import struct
import subprocess
import time
import unittest

from harness import CAPCTL, LONG, SANITIZED, VECTORS, SystemTest, capctl, content, free_port, wait_until
import wire

HEADER, HEAD, SUM, END = 40, 56, 8, 32
CAP, LAST, ROOT = 1, 2, 3


def records(dump):
    """(offset, type, kind, hash, body) of each record; the layout alone, no checksum is looked at."""
    assert dump[:8] == b"capdump\0" and struct.unpack_from("<II", dump, 8) == (1, 0)
    at, found = HEADER, []
    while at < len(dump):
        kind, cap_kind, length = struct.unpack_from("<BB6xQ", dump, at)
        body = dump[at + HEAD:at + HEAD + length]
        assert len(body) == length
        found.append((at, kind, cap_kind, dump[at + 16:at + 48].hex(), body))
        at += HEAD + length + SUM
    return found


class Copies(SystemTest):
    def setUp(self):
        super().setUp()
        self.a = self.daemon(name="a")
        self.b = self.daemon(name="b")

    def dump(self, d, *hashes, path=None):
        path = path or self.root / "dump"
        result = self.ok(capctl("-s", d.address, "--admin", f"unix:{d.admin_path}", "dump", *hashes, "-o", path))
        return path, result

    def load(self, d, path, **options):
        return d.capctl("load", path, **options)

    def mirror(self, *hashes):
        return capctl("--admin", f"unix:{self.a.admin_path}", "mirror", "--from", self.a.address, "--to",
                      self.b.address, *hashes)

    def caps(self, d):
        found, cursor = {}, {}
        while True:
            page = d.admin("cap.list", limit=1000, **cursor)
            found.update({c["cap_hash"]: c["kind"] for c in page["caps"]})
            if page["cursor"] is None:
                return found
            cursor = {"cursor": page["cursor"]}

    def same_bodies(self, hashes):
        for cap in hashes:
            one = self.a.capctl("get", cap, "-o", self.root / "one")
            other = self.b.capctl("get", cap, "-o", self.root / "other")
            self.ok(one), self.ok(other)
            self.assertEqual((self.root / "one").read_bytes(), (self.root / "other").read_bytes(), cap)

    def publish_vectors(self):
        index = json.loads((VECTORS / "index.json").read_text())
        for vector in index["valid"]:
            self.a.capctl("publish", VECTORS / vector["file"])
        self.assertGreater(len(self.caps(self.a)), 200)

    def publish(self, d, code, data=(), images=()):
        image = self.file("wire", wire.simple_image(code, *(
            [(b"%d" % i, one) for i, one in enumerate(many)] for many in (data, images))))
        return self.ok(d.capctl("publish", image))["cap_hash"]

    def chain(self):
        """Images that pin each other and share data: the last needs all of them."""
        shared = content(7, 9000)
        inner = self.publish(self.a, b"inner", [shared, content(8, 100)])
        other = self.publish(self.a, b"other", [shared])
        middle = self.publish(self.a, b"middle", [shared], [bytes.fromhex(inner)])
        outer = self.publish(self.a, b"outer", [content(9, 5000)],
                             [bytes.fromhex(middle), bytes.fromhex(other), bytes.fromhex(inner)])
        self.publish(self.a, b"apart", [content(10, 200)])
        return inner, other, middle, outer

    def check_order(self, found, d):
        """What a cap refers to comes before it."""
        seen = set()
        for _, kind, _, cap, _ in found:
            if kind == CAP:
                refs = d.admin("refs.list", hash=cap, direction="out", limit=1000)["refs"]
                self.assertLessEqual({r["cap_hash"] for r in refs}, seen)
                self.assertNotIn(cap, seen)
                seen.add(cap)
        return seen

    # --- the whole way ---

    def test_every_vector(self):
        self.publish_vectors()
        path, result = self.dump(self.a)
        all_caps = self.caps(self.a)
        found = records(path.read_bytes())
        self.assertEqual(self.check_order(found, self.a), set(all_caps))
        self.assertEqual(result["caps"], len(all_caps))
        self.assertEqual(result["left_out"], 0)
        self.assertEqual(found[-1][1], LAST)
        self.assertEqual(struct.unpack_from("<QQQ", found[-1][4]),
                         (len(all_caps), 0, sum(len(f[4]) for f in found[:-1])))
        loaded = self.ok(self.load(self.b, path))
        self.assertEqual((loaded["new"], loaded["present"]), (len(all_caps), 0))
        self.assertEqual(self.caps(self.b), all_caps)
        self.same_bodies(list(all_caps)[::9])
        again = self.ok(self.load(self.b, path))
        self.assertEqual((again["new"], again["present"]), (0, len(all_caps)))
        back, _ = self.dump(self.b, path=self.root / "back")
        self.assertEqual({f[3]: f[4] for f in records(back.read_bytes()) if f[1] == CAP},
                         {f[3]: f[4] for f in found if f[1] == CAP})
        # What a wire Image becomes is what came by its body.
        for vector in json.loads((VECTORS / "index.json").read_text())["valid"]:
            published = self.b.capctl("publish", VECTORS / vector["file"])
            if published.status == 0:
                self.assertFalse(published.json["new"], vector["name"])

    def test_closure_with_shared_data(self):
        inner, other, middle, outer = self.chain()
        path, result = self.dump(self.a, outer)
        found = records(path.read_bytes())
        seen = self.check_order(found, self.a)
        self.assertLessEqual({inner, other, middle, outer}, seen)
        self.assertEqual(len(seen), 4 + 3)
        self.ok(self.load(self.b, path))
        self.assertEqual(set(self.caps(self.b)), seen)
        closure = self.ok(self.b.capctl("closure", outer))
        self.assertEqual({c["cap_hash"] for c in closure["caps"]}, seen)
        self.same_bodies(seen)

    def test_mirror(self):
        inner, other, middle, outer = self.chain()
        sent = self.ok(self.mirror(middle))
        self.assertEqual(sent["sent"], 4)
        self.assertEqual(self.ok(self.mirror(middle))["sent"], 0)
        self.assertEqual(self.ok(self.mirror(outer))["sent"], 3)
        self.assertEqual(self.ok(self.mirror())["sent"], 2)
        self.assertEqual(self.caps(self.a), self.caps(self.b))
        self.same_bodies(self.caps(self.a))
        self.assertEqual(self.ok(self.mirror())["sent"], 0)

    def test_mirror_all_vectors_over_tcp(self):
        self.b = self.daemon(name="tcp", listen=[f"tcp:127.0.0.1:{free_port()}"])
        self.publish_vectors()
        self.assertEqual(self.ok(self.mirror())["sent"], len(self.caps(self.a)))
        self.assertEqual(self.caps(self.a), self.caps(self.b))

    def test_deep_chain(self):
        """Each pins the one before it: many more levels than a stack of bodies would like."""
        last = None
        for i in range(300):
            images = [] if last is None else [bytes.fromhex(last)]
            last = self.publish(self.a, b"%d" % i, [], images)
        path, result = self.dump(self.a, last)
        self.assertEqual(result["caps"], 300)
        self.assertEqual(self.ok(self.load(self.b, path))["new"], 300)
        path, result = self.dump(self.a)
        self.check_order(records(path.read_bytes()), self.a)

    def test_pipe(self):
        *_, outer = self.chain()
        script = '"$0" -s "$1" --admin "$2" dump -o - | "$0" -s "$3" load -'
        done = subprocess.run(["sh", "-c", script, CAPCTL, self.a.address, f"unix:{self.a.admin_path}",
                               self.b.address], capture_output=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.caps(self.a), self.caps(self.b))

    def test_roots(self):
        if "roots.set" not in {method["name"] for method in self.a.admin("help")["methods"]}:
            self.skipTest("this daemon has no roots")
        inner, other, middle, outer = self.chain()
        for name, cap in (("release/1", middle), ("release/2", outer), ("other", other)):
            self.a.admin("roots.set", name=name, hash=cap)
        path, result = self.dump(self.a, "release/1", other)
        self.assertEqual((result["caps"], result["roots"]), (5, 1))
        found = records(path.read_bytes())
        self.assertEqual([f[1:] for f in found if f[1] == ROOT], [(ROOT, 0, middle, b"release/1")])
        path, result = self.dump(self.a)
        self.assertEqual(result["roots"], 3)
        loaded = self.ok(self.load(self.b, path))
        self.assertEqual(sorted(r["name"] for r in loaded["roots"]), ["other", "release/1", "release/2"])
        self.assertEqual(self.b.admin("roots.list")["roots"], [])
        self.ok(capctl("-s", self.b.address, "--admin", f"unix:{self.b.admin_path}", "load", "--set-roots", path))
        self.assertEqual({r["name"]: r["cap_hash"] for r in self.b.admin("roots.list")["roots"]},
                         {"release/1": middle, "release/2": outer, "other": other})
        self.assertEqual(self.ok(self.mirror("release/2"))["sent"], 0)

    def test_empty_store(self):
        path, result = self.dump(self.a)
        self.assertEqual(result["caps"], 0)
        self.assertEqual(self.ok(self.load(self.b, path))["caps"], 0)

    # --- damage ---

    def test_damaged_streams(self):
        self.chain()
        path, _ = self.dump(self.a)
        good = path.read_bytes()
        found = records(good)
        bad = self.root / "bad"
        positions = sorted({0, 8, 12, 17, 33, *range(HEADER, len(good), 97),
                            *(at + offset for at, _, _, _, body in found
                              for offset in (0, 1, 5, 8, 15, 16, 47, 48, HEAD, HEAD + len(body) - 1,
                                             HEAD + len(body)))})
        for position in positions[::1 if LONG else 7]:
            with self.subTest(position):
                damaged = bytearray(good)
                damaged[position] ^= 0x10
                bad.write_bytes(damaged)
                self.refuse_damage(bad, position, found)

    def refuse_damage(self, bad, position, found):
        result = self.load(self.b, bad)
        self.assertStatus(result, 1)
        self.assertEqual(result.json["error"], "corrupt")
        at = max([0] + [f[0] for f in found if f[0] <= position])
        self.assertIn(f"{bad}: at byte {at}:", result.json["message"])
        before = [f[3] for f in found if f[1] == CAP and f[0] < at]
        there = set(self.caps(self.b))
        self.assertLessEqual(set(before), there)
        for cap in there:
            self.assertTrue(self.b.admin("cap.stat", hash=cap)["cap_hash"])

    def test_truncated_streams(self):
        self.chain()
        path, _ = self.dump(self.a)
        good = path.read_bytes()
        found = records(good)
        bad = self.root / "bad"
        for length in sorted({0, 1, HEADER - 1, HEADER, len(good) - 1, len(good) - END - SUM,
                              *(f[0] + HEAD + 3 for f in found), *(f[0] for f in found)}):
            with self.subTest(length):
                bad.write_bytes(good[:length])
                result = self.load(self.b, bad)
                self.assertStatus(result, 1)
                at = max([0] + [f[0] for f in found if f[0] <= length] if length >= HEADER else [0])
                if length == HEADER:
                    at = HEADER
                self.assertIn(f"at byte {at}:", result.json["message"])
                self.assertLessEqual({f[3] for f in found if f[1] == CAP and f[0] < at}, set(self.caps(self.b)))
        bad.write_bytes(good + b"x")
        self.assertIn(f"at byte {len(good)}: bytes follow", self.load(self.b, bad).json["message"])
        # A whole record taken out, from the end of the caps so that no slot is missing.
        *_, last, end = found
        bad.write_bytes(good[:last[0]] + good[end[0]:])
        self.assertIn("records are missing", self.load(self.b, bad).json["message"])
        bad.write_bytes(b"not a dump at all, but long enough to have a header")
        self.assertIn("not a dump", self.load(self.b, bad).json["message"])

    def test_record_taken_out(self):
        """What needs the cap that is missing is not published, what does not need it is."""
        inner, other, middle, outer = self.chain()
        path, _ = self.dump(self.a, outer)
        good = path.read_bytes()
        found = records(good)
        refs = {r["cap_hash"] for r in self.a.admin("refs.list", hash=outer, direction="out")["refs"]}
        own = next(f for f in found if f[3] in refs and f[2] == 2)  # Data that only the last one needs
        cut = self.file("cut", good[:own[0]] + good[own[0] + HEAD + len(own[4]) + SUM:])
        result = self.load(self.b, cut)
        self.assertStatus(result, 1)
        self.assertEqual(result.json["error"], "corrupt")
        there = set(self.caps(self.b))
        self.assertNotIn(outer, there)
        self.assertLessEqual({inner, other, middle}, there)
        self.assertEqual(self.ok(self.load(self.b, path))["new"], 2)

    # --- what cannot be had ---

    def test_missing_caps_are_left_out(self):
        absent = "00" * 31 + "01"
        *_, outer = self.chain()
        result = capctl("-s", self.a.address, "dump", absent, outer, "-o", self.root / "dump")
        self.assertStatus(result, 1)
        self.assertEqual((result.json["caps"], result.json["left_out"]), (7, 1))
        self.assertIn(absent, result.stderr)
        self.ok(self.load(self.b, self.root / "dump"))
        self.assertStatus(self.mirror(absent), 1)

    def test_usage(self):
        for arguments in (["dump"], ["mirror"],
                          ["mirror", "--from", self.a.address], ["load"], ["dump", "-o", "-"]):
            self.assertStatus(capctl("-s", self.a.address, "--admin", f"unix:{self.a.admin_path}", *arguments), 2)
        unknown = capctl("-s", self.a.address, "--admin", f"unix:{self.a.admin_path}", "dump", "nothing", "-o",
                         self.root / "x")
        self.assertStatus(unknown, 1)
        self.assertEqual(unknown.json["error"], "no_root")
        self.assertFalse((self.root / "x").exists())
        other = capctl("--admin", f"unix:{self.b.admin_path}", "mirror", "--from", self.a.address, "--to",
                       self.b.address)
        self.assertStatus(other, 2)
        self.assertIn("another daemon", other.json["message"])
        self.assertStatus(self.load(self.b, self.root / "none"), 3)

    # --- interruptions ---

    def fill(self, count, size):
        c = self.connect(self.a)
        for i in range(count):
            c.put_data(content(i, size))

    def interrupted(self, *arguments):
        """A run of capctl that is killed once something has arrived in b."""
        before = len(self.caps(self.b))
        run = subprocess.Popen([CAPCTL, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(self.caps(self.b)) > before or run.poll() is not None, "a cap to arrive")
        run.send_signal(signal.SIGKILL)
        run.wait()

    def test_killed_and_repeated(self):
        self.fill(2000, 20000)
        *_, outer = self.chain()
        path, result = self.dump(self.a)
        self.interrupted("-s", self.b.address, "load", path)
        some = len(self.caps(self.b))
        self.assertLess(some, result["caps"])
        again = self.ok(self.load(self.b, path))
        self.assertEqual(again["caps"], result["caps"])
        self.assertGreaterEqual(again["present"], some)
        self.assertEqual(self.caps(self.a), self.caps(self.b))

    def test_mirror_killed_and_repeated(self):
        self.fill(2000, 20000)
        self.chain()
        self.interrupted("--admin", f"unix:{self.a.admin_path}", "mirror", "--from", self.a.address, "--to",
                         self.b.address)
        some = len(self.caps(self.b))
        total = len(self.caps(self.a))
        self.assertLess(some, total)
        self.assertLessEqual(self.ok(self.mirror())["sent"], total - some)
        self.assertEqual(self.caps(self.a), self.caps(self.b))

    def test_dump_that_fails_leaves_no_file(self):
        self.fill(2000, 20000)
        run = subprocess.Popen([CAPCTL, "-s", self.a.address, "--admin", f"unix:{self.a.admin_path}", "dump", "-o",
                                self.root / "dump"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.a.kill()
        self.assertEqual(run.wait(timeout=60), 3)
        self.assertFalse((self.root / "dump").exists())

    def test_idle_connections_are_opened_again(self):
        """While one waits for the other, or for a pipe."""
        self.a = self.daemon("--idle-ms", "100", name="idle")
        self.fill(1500, 20000)
        self.chain()
        path, result = self.dump(self.a)
        self.assertEqual(result["caps"], len(self.caps(self.a)))
        self.assertEqual(self.ok(self.mirror())["sent"], result["caps"])
        good = path.read_bytes()
        run = subprocess.Popen([CAPCTL, "--json", "-s", self.a.address, "load", "-"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
        run.stdin.write(good[:len(good) // 2])
        run.stdin.flush()
        time.sleep(0.5)
        run.stdin.write(good[len(good) // 2:])
        self.assertEqual(json.loads(run.communicate()[0])["present"], result["caps"])

    # --- large ---

    @unittest.skipIf(SANITIZED, "the tool's own memory says nothing")
    def test_bounded_memory(self):
        """400 MiB of caps, a few of them large, in far less memory than that."""
        self.fill(3000, 100000)
        for i in range(5):
            self.ok(self.a.capctl("put", self.file("large", content(100 + i, 20 << 20))))
        for arguments in (
                ("-s", self.a.address, "--admin", f"unix:{self.a.admin_path}", "dump", "-o", self.root / "dump"),
                ("-s", self.b.address, "load", self.root / "dump")):
            run = subprocess.Popen([CAPCTL, *map(str, arguments)], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(run.returncode, 0)
            self.assertLess(usage.ru_maxrss, 160 << 10, arguments[2])
        self.assertEqual(self.caps(self.a), self.caps(self.b))


if __name__ == "__main__":
    unittest.main()
