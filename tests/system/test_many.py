"""GET_MANY: many caps in one answer, what is wrong with one of them, and what the answer may take of the daemon."""

import unittest

import wire
from harness import SANITIZED, SystemTest, content, free_port, wait_until
from protocol import END, Refused

GET_MANY = 2  # the feature's bit
NOT_FOUND, QUARANTINED = 60, 68
ABSENT = b"\xee" * 32
KIB, MIB = 1 << 10, 1 << 20


class Many(SystemTest):
    def open(self, *options, **more):
        self.d = self.daemon(*options, **more)
        return self.getter()

    def getter(self, **more):
        client = self.connect(self.d, hello=False, **more)
        self.assertEqual(client.hello(features=GET_MANY)["features"], GET_MANY)
        return client

    def publish(self, client, *lengths):
        """The hashes of caps with content of these lengths, and what GET answers for each."""
        hashes = [client.put_data(content("many %d" % i, length))["cap_hash"] for i, length in enumerate(lengths)]
        gets = [client.get(cap_hash) for cap_hash in hashes]
        return hashes, [(reply["kind"], body) for reply, body in gets]

    def test_bodies(self):
        """All that GET gives, and what is not there, in one answer; again from another connection, from memory."""
        client = self.open("--threads", "1")
        hashes, wanted = self.publish(client, 0, 1, 1000, 4096, 9000, 20000, 300 * KIB, 3 * MIB)
        image = client.put_image(self.image())["cap_hash"]
        reply, body = client.get(image)
        hashes, wanted = hashes + [ABSENT, image], wanted + [NOT_FOUND, (reply["kind"], body)]
        for _ in range(2):
            self.assertEqual(client.get_many(hashes), wanted)
            self.assertEqual(client.get_many(hashes + hashes[::-1]), wanted + wanted[::-1])
        other = self.getter()
        self.assertEqual(other.get_many(hashes), wanted)
        self.assertEqual(other.get_many([]), [])
        self.assertEqual(other.get_many([ABSENT]), [NOT_FOUND])
        figures = self.d.figures()
        self.assertEqual(figures["capstore_get_many_caps_total"], 7 * len(hashes) + 1)
        self.assertUsable(client)

    def image(self):
        code = content("code", 5000)
        return wire.image(code=(0, len(code)), arena=code)

    def test_many_small(self):
        """More caps than one answer's memory, from the store after a restart and then from the records."""
        client = self.open()
        hashes, wanted = self.publish(client, *[700 + i for i in range(600)])
        client.close()
        self.d.stop()
        self.d.start()
        client = self.getter()
        for _ in range(3):
            self.assertEqual(client.get_many(hashes + [ABSENT]), wanted + [NOT_FOUND])

    def test_limit(self):
        client = self.open("--max-hashes", "10")
        self.assertEqual(client.get_many([ABSENT] * 10), [NOT_FOUND] * 10)
        self.assertRefuses("too_many_hashes", client.get_many, [ABSENT] * 11)
        self.assertUsable(client)

    def test_feature(self):
        """Without the feature the request is refused, also when it is longer than other messages may be."""
        self.open(listen=[f"unix:{self.root}/s", f"tcp:127.0.0.1:{free_port()}"])
        for features in (1, 0, None):
            plain = self.connect(self.d, hello=False)
            plain.hello(features=features)
            self.assertRefuses("unsupported_request", plain.get_many, [ABSENT] * 500)
            self.assertUsable(plain)
        self.assertEqual(self.getter(address=self.d.listen[1]).get_many([ABSENT]), [NOT_FOUND])

    def test_damaged(self):
        """A damaged cap spoils no other: small, and large after its first pieces; the daemon's fault is told."""
        client = self.open()
        lengths = (3000, 1000, 3 * MIB, 2000)
        hashes, wanted = self.publish(client, *lengths)
        client.close()
        self.d.stop()
        store = self.d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        for i, at in ((1, 500), (2, 2 * MIB)):
            data[data.index(content("many %d" % i, lengths[i])[at:at + 100])] ^= 4
        store.write_bytes(data)
        self.d.start()
        client = self.getter()
        wanted[1] = wanted[2] = QUARANTINED
        self.assertEqual(client.get_many(hashes), wanted)
        self.assertEqual(self.d.admin("status")["last_error"]["reason"], "corrupt")
        self.assertUsable(client)

    def test_bad_message(self):
        client = self.open()
        for payload in (b"", b"\x04\0\0", b"\x05\0\0\0x", b"\x04\0\0\0" + bytes(33)):
            request_id = client.take_id()
            client.send_frame("GET_MANY", request_id, payload)
            self.assertRefuses("bad_message", client.wait_many, request_id)
        self.assertUsable(client)

    def test_cancelled(self):
        """In the midst of an answer: the frame is completed, then comes the ERROR; the id is free again."""
        client = self.open()
        hashes, _ = self.publish(client, 3 * MIB, 2 * MIB)
        request_id = client.request("GET_MANY", hashes=b"".join(hashes * 20))
        self.assertEqual(client.wait(request_id, "GET_MANY_REPLY"), {"count": 40})
        client.send_frame("CANCEL", request_id)
        self.assertRefuses("cancelled", client.recv_body, request_id)
        self.assertUsable(client)

    def test_others_go_on(self):
        """A small request overtakes a long answer of the same connection, and of another."""
        client = self.open("--threads", "1")
        hashes, wanted = self.publish(client, 3 * MIB)
        other = self.getter()
        request_id = client.request("GET_MANY", hashes=b"".join(hashes * 50))
        self.assertUsable(other)
        small = client.request("HAS", hashes=b"")
        seen = []
        while small not in seen:
            got = client.recv_frame()
            seen.append(got.id)
            self.assertFalse(got.id == request_id and got.flags & END)
            client.inbox.setdefault(got.id, []).append(got)
        self.assertEqual(client.wait_many(request_id), wanted * 50)

    def test_memory(self):
        """Answers of gigabytes that nobody takes hold a chunk each; the connection ends, and all is given back."""
        client = self.open("--threads", "1", "--progress-ms", "1500")
        hashes, _ = self.publish(client, 4 * MIB)
        client.get_many(hashes)
        before = self.d.memory()
        slow = [self.getter() for _ in range(4)]
        for peer in slow:
            for _ in range(8):
                peer.request("GET_MANY", hashes=b"".join(hashes * 4000))
        wait_until(lambda: self.d.figures()["capstore_requests_in_flight"] == 32, "all requests")
        self.assertUsable(client)
        if not SANITIZED:
            self.assertLess(self.d.memory() - before, 32 * (140 + 132 + 64) * KIB + 4 * MIB)
        held = self.d.figures()["capstore_request_memory_bytes"]
        self.assertGreater(held, 32 * 132 * KIB)
        wait_until(lambda: self.d.figures()["capstore_connections"] == 1, "the slow ones are gone")
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] == 0, "memory is given back")
        self.assertUsable(client)

    def test_memory_limit(self):
        client = self.open("--max-memory", str(1 * MIB))
        hashes, wanted = self.publish(client, 4 * MIB)
        requests = [client.request("GET_MANY", hashes=b"".join(hashes * 10)) for _ in range(20)]
        refused = 0
        for request_id in requests:
            try:
                self.assertEqual(client.wait_many(request_id), wanted * 10)
            except Refused as error:
                self.assertEqual(error.name, "memory_limit")
                refused += 1
        self.assertTrue(0 < refused < 20, refused)
        self.assertEqual(client.get_many(hashes), wanted)

    def test_connection_gone(self):
        """Clients that leave in the midst of answers leave nothing behind."""
        client = self.open()
        hashes, wanted = self.publish(client, 2 * MIB, 500)
        for _ in range(20):
            leaver = self.getter()
            leaver.request("GET_MANY", hashes=b"".join((hashes + [ABSENT]) * 100))
            leaver.close()
        wait_until(lambda: self.d.figures()["capstore_requests_in_flight"] == 0, "no request")
        wait_until(lambda: self.d.figures()["capstore_request_memory_bytes"] == 0, "memory is given back")
        self.assertEqual(client.get_many(hashes), wanted)


if __name__ == "__main__":
    unittest.main()
