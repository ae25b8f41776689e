"""What is kept and what goes: roots, deletion, collection, and why."""

import datetime
import json
import socket
import subprocess
import time
import unittest

import wire
from harness import CAPCTL, PAGE, AdminError, SystemTest, capctl, content, wait_until
from protocol import Refused

CODE = b"\x13\x00\x00\x00"


class Keep(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.c = self.connect(self.d)

    def publish_image(self, name):
        """An Image and the one Data cap that it names."""
        data = content(name, 3 * PAGE)
        image = self.c.put_image(wire.simple_image(CODE, [(b"\x40", data)]))["cap_hash"]
        refs = self.d.admin("refs.list", hash=image.hex(), direction="out")["refs"]
        return image, bytes.fromhex(refs[0]["cap_hash"])

    def collect(self):
        job = self.d.admin("gc.run")["job"]

        def ended():
            jobs = self.d.admin("jobs.list")["jobs"]
            return next(j for j in jobs if j["id"] == job)["state"] != "running"

        wait_until(ended, "the collection to end")

    def state(self, hash_):
        return self.d.admin("why", hash=hash_.hex())["state"]

    def test_a_root_keeps_what_its_image_needs(self):
        image, data = self.publish_image("kept")
        self.d.admin("roots.set", name="release/1", hash=image.hex())
        self.collect()
        self.assertEqual([self.state(image), self.state(data)], ["published"] * 2)
        why = self.d.admin("why", hash=data.hex())
        self.assertEqual(why["path"], {"root": "release/1", "caps": [data.hex(), image.hex()]})

    def test_refused_with_what_refers_to_it(self):
        image, data = self.publish_image("referred to")
        with self.assertRaises(AdminError) as refused:
            self.d.admin("cap.delete", hash=data.hex())
        self.assertEqual(refused.exception.reason, "still_needed")
        self.assertIn(image.hex(), refused.exception.hint)
        needed_by = refused.exception.needed_by
        self.assertEqual(needed_by["caps"], self.d.admin("refs.list", hash=data.hex(), direction="in")["refs"])
        self.assertEqual(needed_by["caps"], [{"cap_hash": image.hex(), "tables": ["initial"]}])
        self.assertEqual((needed_by["more"], needed_by["roots"]), (False, []))
        self.assertIn(data, self.have([data]))

    def have(self, hashes):
        return [hash_ for hash_, kind in zip(hashes, self.c.has(hashes)) if kind != 0]

    def test_force_degrades_until_it_is_published_again(self):
        image, data = self.publish_image("forced")
        self.assertEqual(self.d.admin("cap.delete", hash=data.hex(), force=True)["degraded"], [image.hex()])
        self.assertEqual(self.have([image, data]), [image])
        self.assertEqual([self.state(image), self.state(data)], ["degraded", "absent"])
        self.assertEqual(self.c.put_data(content("forced", 3 * PAGE))["cap_hash"], data)
        self.assertEqual(self.state(image), "published")
        self.assertEqual(self.have([image, data]), [image, data])

    def test_what_is_forbidden_goes_and_does_not_come_back(self):
        image, data = self.publish_image("forbidden")
        reason = "withdrawn by its author"
        self.assertEqual(self.d.admin("cap.forbid", hash=data.hex(), reason=reason)["degraded"], [image.hex()])
        for _ in range(2):
            self.assertEqual(self.have([image, data]), [image])
            for ask in (lambda: self.c.get(data), lambda: self.c.stat(data),
                        lambda: self.c.put_data(content("forbidden", 3 * PAGE))):
                with self.assertRaises(Refused) as refused:
                    ask()
                self.assertEqual(refused.exception.name, "forbidden_cap")
                self.assertIn(reason, str(refused.exception))
                self.assertIn(data.hex(), str(refused.exception))
            why = self.d.admin("why", hash=data.hex())
            self.assertEqual((why["state"], why["forbidden"]["reason"]), ("forbidden", reason))
            self.c.close()
            self.d.stop()
            self.d.start()
            self.c = self.connect(self.d)
        self.d.admin("cap.allow", hash=data.hex())
        self.assertEqual(self.c.put_data(content("forbidden", 3 * PAGE))["is_new"], 1)
        self.assertEqual(self.state(image), "published")
        with self.assertRaises(AdminError) as refused:
            self.d.admin("cap.allow", hash=data.hex())
        self.assertEqual(refused.exception.reason, "not_found")

    def test_what_goes_is_an_event(self):
        image, data = self.publish_image("watched")
        self.d.admin("cap.delete", hash=image.hex(), force=True)
        self.d.admin("cap.delete", hash=data.hex(), force=True)
        with socket.socket(socket.AF_UNIX) as operator:
            operator.settimeout(30)
            operator.connect(str(self.d.admin_path))
            operator.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe","params":{"since":0}}\n')
            with operator.makefile("rb") as lines:
                self.assertIn("result", json.loads(lines.readline()))
                told = [json.loads(lines.readline())["params"] for _ in range(3)]
        self.assertEqual([(event["kind"], event["hash"]) for event in told],
                         [("published", image.hex()), ("deleted", image.hex()), ("deleted", data.hex())])

    def test_why_remembers_over_a_restart(self):
        image, data = self.publish_image("forgotten")
        self.d.admin("cap.delete", hash=image.hex(), force=True)
        self.c.close()
        self.d.stop()
        self.d.start()
        self.c = self.connect(self.d)
        why = self.d.admin("why", hash=image.hex())
        self.assertEqual((why["state"], why["removed"]["cause"]), ("absent", "deleted"))
        self.assertEqual(self.state(data), "published")


class Marks(SystemTest):
    """Collection by itself, between a high and a low mark; never without one."""

    def used(self, d):
        figures = d.figures()
        return figures["capstore_store_file_bytes"] - figures["capstore_store_file_free_bytes"]

    def test_from_the_high_mark_to_the_low_one(self):
        d = self.daemon("--config", str(self.file("config", b'{"lease": 0}')))
        c = self.connect(d)
        kept = c.put_data(content("kept", 1 << 20))["cap_hash"]
        d.admin("roots.set", name="kept", hash=kept.hex())
        for number in range(24):
            c.put_data(content(f"garbage {number}", 1 << 20))
        self.assertGreater(self.used(d), 24 << 20)
        self.assertEqual(d.figures()["capstore_gc_runs_total"], 0, "no mark is set")
        self.file("config", b'{"lease": 0, "gc-high": "20M", "gc-low": "8M"}')
        d.admin("config.reload")
        wait_until(lambda: self.used(d) <= 8 << 20, "the low mark")
        wait_until(lambda: d.figures()["capstore_gc_runs_total"] > 0, "the job to end")
        figures = d.figures()
        self.assertGreaterEqual(figures["capstore_gc_caps_total"], 16)
        self.assertLess(figures["capstore_gc_caps_total"], 24, "what fits under the low mark stays")
        c.get(kept)


class Tool(SystemTest):
    """The same with capctl: objects with --json, tables and sentences for a person."""

    def setUp(self):
        super().setUp()
        self.d = self.daemon()

    def tool(self, *words, json_output=True):
        return capctl("--admin", f"unix:{self.d.admin_path}", *words, json_output=json_output)

    def shown(self, *words):
        return self.assertStatus(self.tool(*words, json_output=False), 0).stdout.decode()

    def test_roots(self):
        hash_ = self.ok(self.d.capctl("put", "-", stdin=b"kept"))["cap_hash"]
        self.assertEqual(self.shown("roots"), "no root\n")
        self.assertFalse(self.ok(self.tool("roots", "set", "a/b", hash_))["replaced"])
        self.assertTrue(self.ok(self.tool("roots", "set", "a/b", hash_))["replaced"])
        self.assertRegex(self.shown("roots", "list"), rf"a/b  +\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ +\d+  {hash_}")
        self.assertEqual(self.ok(self.tool("roots"))["roots"][0]["name"], "a/b")
        self.assertIn("a root keeps it", self.shown("why", hash_))
        self.assertNotIn("forbidden", self.shown("why", hash_), "nor anything else that is not true of it")
        self.assertIn("forbidden", self.ok(self.tool("why", hash_)))
        needed_by = self.refused(self.tool("delete", hash_, "--force"), "still_needed")["needed_by"]
        self.assertEqual((needed_by["caps"], needed_by["more"], needed_by["roots"]), ([], False, ["a/b"]))
        self.assertIn("capctl: note: root a/b names it\n", self.tool("delete", hash_, json_output=False).stderr)
        self.ok(self.tool("roots", "remove", "a/b"))
        self.refused(self.tool("roots", "remove", "a/b"), "no_root")
        self.assertEqual(self.ok(self.tool("delete", hash_, "--force"))["cap_hash"], hash_)
        self.assertIn("deleted it", self.shown("why", hash_))
        self.refused(self.tool("roots", "set", "a/b", hash_), "not_found")
        self.ok(self.tool("forbid", hash_, "not ours"))
        self.assertIn("not ours", self.shown("why", hash_))
        self.assertEqual(self.ok(self.tool("allow", hash_))["cap_hash"], hash_)

    def test_what_needs_a_cap_is_listed(self):
        data = self.ok(self.d.capctl("put", "-", "--keep", "1h", stdin=content("shared", 5000)))["cap_hash"]
        until = self.refused(self.tool("delete", data), "still_needed")["needed_by"]["kept_until"]
        left = datetime.datetime.fromisoformat(until.replace("Z", "+00:00")).timestamp() - time.time()
        self.assertTrue(3000 < left < 3700, left)
        images = []
        with self.d.connect() as c:
            for number in range(17):
                wire_image = wire.simple_image(b"code %d" % number, [(b"a", content("shared", 5000))])
                images.append(c.put_image(wire_image)["cap_hash"].hex())
        needed_by = self.refused(self.tool("delete", data), "still_needed")["needed_by"]
        self.assertEqual([ref["cap_hash"] for ref in needed_by["caps"]], sorted(images)[:16])
        self.assertTrue(needed_by["more"])
        lines = self.tool("delete", data, json_output=False).stderr.splitlines()
        self.assertEqual(lines[1:17], [f"capctl: note: Image {image} refers to it (initial)"
                                       for image in sorted(images)[:16]])
        self.assertEqual(lines[17], "capctl: note: more Images refer to it: capctl admin refs.list has all")
        self.assertEqual(lines[18], f"capctl: note: a lease keeps it until {until[:19]}Z")

    def test_more_roots_than_a_page_holds(self):
        hash_ = self.ok(self.d.capctl("put", "-", stdin=b"kept"))["cap_hash"]
        names = [f"root-{number:04}" for number in range(1001)]
        for name in names:
            self.d.admin("roots.set", name=name, hash=hash_)
        self.assertEqual([root["name"] for root in self.ok(self.tool("roots"))["roots"]], names)

    def test_what_would_go(self):
        self.ok(self.d.capctl("put", "-", "--keep", "1", stdin=b"garbage"))
        wait_until(lambda: self.shown("gc").startswith("1 cap of "), "the end of its lease")
        self.assertRegex(self.shown("gc"), r"^1 cap of \d+ B would go\nKIND +BYTES ")
        self.assertRegex(self.shown("gc", "run"), r"^1 cap of \d+ bytes went")
        self.assertRegex(self.shown("gc"), r"^0 caps of 0 B would go\n")

    def test_gc(self):
        self.ok(self.d.capctl("put", "-", stdin=b"published"))
        self.assertRegex(self.shown("gc"), r"^\d+ caps? of .* would go")
        self.assertEqual(self.ok(self.tool("gc", "plan"))["more"], False)
        self.assertRegex(self.shown("gc", "run"), r"\d+ caps of \d+ bytes went")
        self.assertEqual(self.ok(self.tool("gc", "run"))["state"], "done")

    def test_forbidden(self):
        hash_ = self.ok(self.d.capctl("put", "-", stdin=b"leaked"))["cap_hash"]
        refused = self.refused(self.tool("allow", hash_), "not_found")
        self.assertIn("that cap is not forbidden", refused["message"])
        self.ok(self.tool("forbid", hash_, "a leaked key"))
        self.assertIn("capctl allow", self.shown("why", hash_))
        self.assertStatus(self.d.capctl("get", hash_), 1)
        events = subprocess.Popen([CAPCTL, "--admin", f"unix:{self.d.admin_path}", "events", "--since", "0", "--kind",
                                   "forbidden"], stdout=subprocess.PIPE)
        self.addCleanup(events.stdout.close)
        self.addCleanup(events.wait)
        self.addCleanup(events.kill)
        self.assertRegex(events.stdout.readline().decode(), rf"Z  forbidden {{7,8}}{hash_}\n$")

    def test_wrong_usage(self):
        for words in (["roots", "set", "x"], ["roots", "drop", "x"], ["gc", "now"], ["why", "xyz"], ["delete"],
                      ["roots", "set", "x", "xyz"]):
            self.assertStatus(self.tool(*words), 2)


if __name__ == "__main__":
    unittest.main()
