"""Every vector through `capctl check` and through a running daemon."""

import hashlib
import json
import unittest

from harness import VECTORS, SystemTest, capctl


class Vectors(SystemTest):
    @classmethod
    def setUpClass(cls):
        index = json.loads((VECTORS / "index.json").read_text())
        cls.valid, cls.invalid = index["valid"], index["invalid"]
        assert len(cls.valid) > 50 and len(cls.invalid) > 50

    def compare(self, vector, checked):
        self.assertEqual(checked["verdict"], "accepted")
        for member in ("image_content_hash", "cap_hash", "body_len"):
            self.assertEqual(checked[member], vector[member], member)
        wanted = [{k: d[k] for k in ("table", "slot", "size", "cap_hash", "body_len")} for d in vector["data"]]
        self.assertEqual(checked["data"], wanted)
        self.assertEqual(len(checked["images"]), len(vector["images"]))

    def test_check(self):
        for vector in self.valid:
            with self.subTest(vector["name"]):
                self.compare(vector, self.ok(capctl("check", VECTORS / vector["file"])))
        for vector in self.invalid:
            with self.subTest(vector["name"]):
                refused = self.refused(capctl("check", VECTORS / vector["file"]), vector["error"])
                self.assertEqual(refused["verdict"], "refused")

    def test_daemon(self):
        d = self.daemon()
        for vector in self.invalid:
            with self.subTest(vector["name"]):
                self.refused(d.capctl("publish", VECTORS / vector["file"]), vector["error"])
        self.assertEqual(d.admin("status")["caps"]["data"], 0, "a refused Image leaves nothing")
        for vector in self.valid:
            with self.subTest(vector["name"]):
                self.publish(d, vector)

    def publish(self, d, vector):
        result = d.capctl("publish", VECTORS / vector["file"])
        if vector["images"]:  # its pinned Images are published nowhere
            refused = self.refused(result, "unresolved_slot")
            self.assertEqual(len(refused["unresolved"]), len(vector["images"]))
            return
        published = self.ok(result)
        self.assertEqual(published["cap_hash"], vector["cap_hash"])
        self.assertEqual(published["image_content_hash"], vector["image_content_hash"])
        self.fetch(d, vector)
        for data in vector["data"]:
            self.fetch(d, data)
        self.read_only(d, vector)

    def read_only(self, d, vector):
        """Whether memory at an address is read-only, by the tool and by the daemon."""
        if "mapping_is_pinned" not in vector:
            return
        shown = self.ok(d.capctl("show", vector["cap_hash"]))["mappings"]
        explained = d.admin("cap.explain", hash=vector["cap_hash"])["image"]["mappings"]
        for mappings in (shown, explained):
            for address, pinned in vector["mapping_is_pinned"]:
                found = {m["read_only"] for m in mappings if int(m["start"], 16) % 2**32 == int(address, 16)}
                self.assertEqual(found or {False}, {pinned}, address)

    def fetch(self, d, wanted):
        out = self.root / "body"
        got = self.ok(d.capctl("get", wanted["cap_hash"], "-o", out))
        self.assertEqual(got["body_len"], wanted["body_len"])
        self.assertEqual(hashlib.sha256(out.read_bytes()).hexdigest(), wanted["body_sha256"])


if __name__ == "__main__":
    unittest.main()
