"""One peer takes all that it can get; the others do not notice."""

import unittest

import protocol
import wire
from harness import SystemTest, content, free_port, wait_until
from raw import FRAME_MAX, HELLO

HOSTILE, INNOCENT = "127.0.0.2", "127.0.0.3"


class Shares(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon(start=False)
        self.address = f"tcp:127.0.0.1:{free_port()}"
        self.d.listen.append(self.address)

    def connect_from(self, source, hello=True):
        c = protocol.Connection(self.address, source=source)
        self.addCleanup(c.close)
        if hello:
            c.hello()
        return c

    def innocent_works(self):
        c = self.connect_from(INNOCENT)
        for number in range(3):
            text = content(f"innocent {self.id()} {number}", 100000)
            cap_hash = c.put_data(text)["cap_hash"]
            self.assertEqual(c.has([cap_hash]), [2])
            self.assertEqual(wire.data_content(c.get(cap_hash)[1])[:len(text)], text)
        c.close()

    def test_connections(self):
        """Those without a HELLO count like others."""
        self.d.options = ["--max-connections", "16"]
        self.d.start()
        for hello in (True, False):
            held = [self.connect_from(HOSTILE, hello=False) for _ in range(8)]
            if hello:
                for c in held[:4]:
                    c.hello()
            for c in held[4:]:
                self.assertEnds(c, "too_many_connections")
            self.assertEqual(self.d.admin("status")["sessions"], {"open": 4, "limit": 16, "peer_limit": 4})
            self.innocent_works()
            for c in held:
                c.close()
            wait_until(lambda: self.d.admin("status")["sessions"]["open"] == 0, "connections to be gone")

    def test_uploads(self):
        self.d.options = ["--max-uploads", "16"]
        self.d.start()
        for number in range(4):
            c = self.connect_from(HOSTILE)
            for _ in range(4):
                request_id = c.request("PUT_DATA", flags=0, size=0, total_len=1000)
                c.send_frame("BODY", request_id, b"x")
                if number > 0:
                    refused = self.assertRefuses("spool_full", c.wait, request_id, "PUT_DATA_REPLY")
                    self.assertIn("max-peer-uploads", refused.message)
            wait_until(lambda: self.d.admin("status")["uploads"]["in_flight"] == 4, "a quarter")
        self.innocent_works()

    def test_memory(self):
        """Heads that stop, and small uploads that fill what they leave."""
        self.d.options = ["--max-memory", "8M"]
        self.d.start()
        head = wire.image(endpoints=[(bytes(700000), wire.endpoint(0))])[:600000]
        for _ in range(8):
            c = self.connect_from(HOSTILE)
            request_id = c.request("PUT_IMAGE", flags=0, total_len=1 << 20)
            for at in range(0, len(head), FRAME_MAX):
                c.send_frame("BODY", request_id, head[at:at + FRAME_MAX])
            for _ in range(8):
                c.request("PUT_DATA", flags=0, size=0, total_len=60000)
        wait_until(lambda: self.d.admin("status")["memory"]["bytes"] > 1 << 20, "memory to be taken")
        self.assertLessEqual(self.d.admin("status")["memory"]["bytes"], 3 << 20)
        self.innocent_works()

    def test_not_a_word(self):
        """Who connects and says nothing, or not enough, is let go; who has said HELLO stays."""
        self.d.options = ["--hello-ms", "300"]
        self.d.start()
        said = self.connect_from(INNOCENT)
        for piece in (b"", HELLO[:20]):
            c = self.connect_from(HOSTILE, hello=False)
            c.send_raw(piece)
            self.assertEqual(self.assertEnds(c, "hello_timeout")["id"], 0)
        self.assertUsable(said)

    def test_a_quiet_client_is_not_refused(self):
        self.d.options = ["--idle-ms", "300"]
        self.d.start()
        self.assertEnds(self.connect_from(INNOCENT), "idle_timeout")
        self.assertEqual(self.d.admin("status")["refusals"], 0)
        self.assertIn("capstore_connections_idle_total 1\n", self.d.admin("metrics")["text"])
        self.assertNotIn("refused", self.d.log())


if __name__ == "__main__":
    unittest.main()
