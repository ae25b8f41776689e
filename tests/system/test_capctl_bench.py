"""capctl bench: what it counts is what the daemon did."""

import unittest

from harness import SystemTest, content


class CapctlBench(SystemTest):
    def bench(self, d, *arguments):
        return self.ok(d.capctl("bench", "--seconds", "1", *arguments))

    def test_publish_and_fetch(self):
        d = self.daemon()
        result = self.bench(d, "--clients", "3", "--size", "5000")
        self.assertEqual((result["clients"], result["seconds"], result["size"]), (3, 1, 5000))
        published, fetched = result["publish"], result["fetch"]
        self.assertEqual(d.figures()["capstore_caps{kind=\"data\"}"], published["requests"])
        self.assertGreaterEqual(published["requests"], 3)
        self.assertGreaterEqual(fetched["bytes_per_second"], 5000 * fetched["per_second"])
        for measured in (published, fetched):
            steps = [measured[name] for name in ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "worst_ns")]
            self.assertEqual(steps, sorted(steps))
            self.assertEqual(sum(step["count"] for step in measured["histogram"]), measured["requests"])

    def test_many_in_flight(self):
        """None is lost or counted twice."""
        d = self.daemon()
        result = self.bench(d, "--clients", "2", "--in-flight", "30")
        self.assertEqual(result["in_flight"], 30)
        self.assertEqual(d.figures()["capstore_caps{kind=\"data\"}"], result["publish"]["requests"])
        self.assertGreaterEqual(result["fetch"]["requests"], 60)

    def test_mix(self):
        """Both kinds go on at once, in about the proportion asked for."""
        d = self.daemon()
        result = self.bench(d, "--clients", "2", "--in-flight", "8", "--mix", "3:1")
        mixed = result["mixed"]
        self.assertEqual(mixed["mix"], "3:1")
        self.assertEqual(d.figures()["capstore_caps{kind=\"data\"}"],
                         result["publish"]["requests"] + mixed["publish"]["requests"])
        fetches, publications = mixed["fetch"]["requests"], mixed["publish"]["requests"]
        spread = 6 * (0.75 * 0.25 * (fetches + publications)) ** 0.5  # six standard deviations
        self.assertLess(abs(fetches - 0.75 * (fetches + publications)), spread)
        lines = self.assertStatus(d.capctl("bench", "--seconds", "1", "--mix", "1:1", json_output=False),
                                  0).stdout.decode().splitlines()
        self.assertEqual([line.split()[0] for line in lines[:5]], ["per", "publish", "fetch", "mixed", "mixed"])

    def test_given_hashes(self):
        """It fetches only those, and publishes nothing."""
        d = self.daemon()
        known = self.ok(d.capctl("put", self.file("known", content("known", 100))))["cap_hash"]
        result = self.bench(d, known)
        self.assertNotIn("publish", result)
        self.assertNotIn("mixed", result)
        self.assertGreater(result["fetch"]["requests"], 0)
        self.assertEqual(d.figures()["capstore_caps{kind=\"data\"}"], 1)

    def test_for_a_person(self):
        d = self.daemon()
        result = self.assertStatus(d.capctl("bench", "--seconds", "1", json_output=False), 0)
        lines = result.stdout.decode().splitlines()
        self.assertEqual([line.split()[0] for line in lines[:3]], ["per", "publish", "fetch"])

    def test_refused(self):
        d = self.daemon()
        absent = "00" * 32
        self.assertEqual(self.assertStatus(d.capctl("bench", "--seconds", "1", absent), 1).json["error"], "not_found")
        for words in (["--clients", "0"], ["--clients", "257"], ["--in-flight", "0"], ["--seconds", "x"], ["--size", "31"],
                      ["--size", "65M"], ["--size", "1K", absent], ["xyz"], ["--mix", "90"], ["--mix", "0:1"],
                      ["--mix", "1:0"], ["--mix", "1:10001"], ["--mix", "1:1:1"], ["--mix", "1:1", absent]):
            self.assertEqual(self.assertStatus(d.capctl("bench", *words), 2).json["error"], "usage", words)


if __name__ == "__main__":
    unittest.main()
