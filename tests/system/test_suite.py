"""The conformance suite holds against capstored, and catches daemons that are broken on purpose."""

import json
import pathlib
import subprocess
import sys
import unittest

import harness
from harness import SystemTest

SUITE = pathlib.Path(__file__).resolve().parents[1] / "conformance" / "suite"
sys.path.insert(0, str(SUITE))

import broken  # noqa: E402

# What each fault is caught by, at least: so that the suite cannot come to fail for another reason.
CAUGHT_BY = {
    "a_flipped_bit": "get_gives_the_served_body",
    "a_wrong_kind": "has_answers_in_order",
    "another_id": "stat_tells_what_a_cap_is",
    "a_lost_end": "get_gives_the_served_body",
    "a_wrong_name": "get_gives_the_served_body",
    "a_wrong_code": "errors_are_those_of_the_table",
    "nothing_is_new": "put_data_of_both_forms",
    "all_features": "features_are_granted_of_those_asked_for",
    "a_range_ignored": "get_gives_the_served_body",
    "frames_not_judged": "frames_that_are_wrong",
    "cancel_ignored": "cancelling",
    "dry_runs_store": "images_are_published_as_a_whole",
}


class Conformance(SystemTest):
    def suite(self, address, *options):
        done = subprocess.run([sys.executable, "-B", str(SUITE / "suite.py"), address, "--json", *options],
                              capture_output=True, text=True, timeout=300, check=False)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.returncode, json.loads(done.stdout)

    def test_capstored_conforms(self):
        status, said = self.suite(self.daemon().address)
        self.assertEqual([result for result in said["results"] if result["verdict"] != "holds"], [])
        self.assertEqual(status, 0)
        # What takes a clock, a shutdown, a descriptor or a full machine is left to the tests of this daemon.
        self.assertEqual(set(said["not_covered"]), {"3.8", "3.9", "4.15", "4.16"})

    def test_broken_daemons_are_caught(self):
        self.assertEqual(set(CAUGHT_BY), set(broken.FAULTS))
        d = self.daemon()
        sections = {"get_gives_the_served_body": "4.6", "has_answers_in_order": "4.4", "stat_tells_what_a_cap_is": "4.8",
                    "errors_are_those_of_the_table": "4.14", "put_data_of_both_forms": "4.11",
                    "features_are_granted_of_those_asked_for": "6", "frames_that_are_wrong": "2.1", "cancelling": "3.5",
                    "images_are_published_as_a_whole": "4.14"}
        for fault, check in CAUGHT_BY.items():
            with self.subTest(fault):
                address = f"unix:{self.root}/{fault}.sock"
                proxy = subprocess.Popen([sys.executable, "-B", str(SUITE / "broken.py"), address, d.address, fault])
                try:
                    harness.wait_until((self.root / f"{fault}.sock").exists, "the broken daemon")
                    status, said = self.suite(address, "--only", sections[check], "--timeout", "2")
                finally:
                    proxy.kill()
                    proxy.wait()
                found = {result["check"] for result in said["results"] if result["verdict"] == "broken"}
                self.assertIn(check, found)
                self.assertEqual(status, 1)


if __name__ == "__main__":
    unittest.main()
