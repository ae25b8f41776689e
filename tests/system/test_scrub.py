"""Damage at rest: who finds it, what is answered, and that publishing again heals; scrubs, paused and interrupted."""

import subprocess
import time
import unittest

import harness
import wire
from harness import SystemTest, capctl, content

SOUND, DAMAGED = 0, 1
MIB = 1 << 20


def check(state, *options):
    return subprocess.run([harness.CAPSTORED, "--check", "--state", str(state), *options], capture_output=True,
                          text=True, timeout=120, check=False)


class Scrub(SystemTest):
    def flip(self, d, bytes_there, ahead=0):
        """Flips a bit wherever these bytes lie in the file of a daemon that is down, or so many bytes behind them."""
        store = d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        at = data.index(bytes_there)
        while at >= 0:
            data[at + ahead] ^= 4
            at = data.find(bytes_there, at + 1)
        store.write_bytes(data)

    def scrubbed(self, d, **params):
        """Scrubs until the pass is at its end; returns scrub.status."""
        d.admin("scrub.start", **params)
        return self.ended(d)

    def ended(self, d):
        harness.wait_until(lambda: d.admin("scrub.status")["state"] == "idle", "the scrub to end")
        return d.admin("scrub.status")

    def published(self, d):
        """An Image of two Data caps, one of them long; returns (the wire Image, its hash, the long one's, its bytes)."""
        c = self.connect(d)
        raw = content("damaged", 300000)
        image = wire.simple_image(b"code", data=[(b"a", content("a", 5000)), (b"b", raw)])
        reply = c.put_image(image)
        return image, reply["cap_hash"], c.put_data(raw)["cap_hash"], raw

    def test_second_push_heals(self):
        """A flipped bit is found by a GET; the cap is not there any more until it is published again."""
        d = self.daemon("--record-cache", "0", "--body-cache", "0")
        _, image, cap, raw = self.published(d)
        d.stop()
        self.flip(d, raw[150000:150100])
        d.start()
        c = self.connect(d)
        self.assertEqual(c.has([image, cap]), [1, 2])
        for life in range(2):
            self.assertIn(cap.hex(), self.assertRefuses("quarantined", c.get, cap).message)
            self.assertEqual(c.has([image, cap]), [1, 0])
            self.assertStatus(d.capctl("get", cap.hex()), 1)
            harness.wait_until(lambda: d.admin("status")["broken"] != [], "the damage to be written down")
            status = d.admin("status")
            self.assertEqual([(one["cap_hash"], one["why"]) for one in status["broken"]], [(cap.hex(), "damaged")])
            self.assertEqual(status["degraded"], [{"cap_hash": image.hex(), "needs": cap.hex()}])
            self.assertIsNotNone(d.admin("cap.stat", hash=cap.hex())["damaged"])
            if life == 0:
                d.stop()
                self.assertEqual(check(d.state).returncode, DAMAGED)
                d.start()
                c = self.connect(d)
        self.assertEqual(c.put_data(raw)["is_new"], 1)
        self.assertEqual(c.has([image, cap]), [1, 2])
        self.assertEqual(c.get(cap)[1][-len(raw):], raw)
        status = d.admin("status")
        self.assertEqual((status["broken"], status["degraded"]), ([], []))
        self.assertEqual(c.put_data(raw)["is_new"], 0)
        d.stop()
        result = check(d.state)
        self.assertEqual((result.returncode, result.stdout), (SOUND, ""))

    def test_image_heals_its_data(self):
        """The Image published again brings its data: what is quarantined of it is healed, too."""
        d = self.daemon()
        image, image_hash, cap, raw = self.published(d)
        d.stop()
        self.flip(d, raw[150000:150100])
        d.start()
        status = self.scrubbed(d)
        self.assertEqual([one["cap_hash"] for one in status["broken"]], [cap.hex()])
        c = self.connect(d)
        reply = c.put_image(image)
        self.assertEqual((reply["is_new"], reply["data_new"], reply["data_present"]), (0, 1, 1))
        self.assertEqual(c.get(cap)[1][-len(raw):], raw)
        self.assertEqual(c.has([image_hash, cap]), [1, 2])

    def test_scrub_finds_what_nobody_reads(self):
        d = self.daemon()
        _, image, cap, raw = self.published(d)
        status = self.scrubbed(d)
        self.assertEqual((status["last_findings"], status["broken"], status["recent"]), (0, [], []))
        job = d.admin("jobs.list")["jobs"][0]
        self.assertEqual((job["kind"], job["state"], job["percent"]), ("scrub", "done", 100))
        self.assertLess(status["age_s"], 60)
        d.stop()
        self.flip(d, raw[150000:150100])
        d.start()
        status = self.scrubbed(d)
        self.assertEqual(status["last_findings"], 1)
        self.assertEqual(status["recent"][0]["cap_hash"], cap.hex())
        self.assertIn("checksum does not match", status["recent"][0]["what"])
        self.assertEqual(self.connect(d).has([image, cap]), [1, 0])
        self.assertIn(f" error scrub_found cap={cap.hex()} ", d.log())
        figures = d.figures()
        self.assertEqual(figures["capstore_quarantined_caps"], 1)
        self.assertGreater(figures["capstore_scrub_last_pass_timestamp_seconds"], time.time() - 60)

    def test_repair(self):
        """A reference that is lost in one direction is mended online and offline."""
        for online in (False, True):
            d = self.daemon(name=f"d{online}")
            _, image, cap, _ = self.published(d)
            d.stop()
            self.flip(d, cap + image, ahead=64)
            self.assertEqual(check(d.state).returncode, DAMAGED)
            if online:
                d.start()
                asked = self.assertStatus(capctl("--admin", f"unix:{d.admin_path}", "why", cap.hex()), 1)
                self.assertEqual(asked.json["error"], "corrupt")
                self.assertIn("scrub.start with repair=true", asked.json["message"])
                status = self.scrubbed(d, repair=True)
                self.assertGreater(status["last_findings"], 0)
                self.assertEqual(status["last_unrepaired"], 0)
                d.stop()
            else:
                result = check(d.state, "--repair")
                self.assertEqual(result.returncode, SOUND, result.stdout)
                self.assertIn("not: 0", result.stderr)
            result = check(d.state)
            self.assertEqual((result.returncode, result.stdout), (SOUND, ""))

    def test_pause_and_restart(self):
        """A paused pass stays so over a restart; one that the daemon's end interrupts goes on by itself."""
        d = self.daemon("--scrub-rate", "2M")
        c = self.connect(d)
        for i in range(12):
            c.put_data(content(f"slow {i}", MIB))
        d.admin("scrub.start")
        harness.wait_until(lambda: d.admin("scrub.status")["caps"]["done"] > 1, "the scrub to get on")
        self.assertRaises(harness.AdminError, d.admin, "scrub.start")
        d.admin("scrub.pause")
        harness.wait_until(lambda: d.admin("scrub.status")["state"] == "paused", "the scrub to pause")
        d.stop()
        d.start()
        time.sleep(2)
        self.assertEqual(d.admin("scrub.status")["state"], "paused")
        d.admin("scrub.start")
        harness.wait_until(lambda: d.admin("scrub.status")["caps"]["done"] > 3, "the scrub to get on")
        d.stop()
        d.start()
        harness.wait_until(lambda: d.admin("scrub.status")["state"] == "running", "the scrub to go on")
        status = self.ended(d)
        self.assertEqual((status["caps"]["done"], status["last_findings"]), (12, 0))


if __name__ == "__main__":
    unittest.main()
