"""Clients as they come: torn connections, slow readers, many at once."""

import itertools
import random
import signal
import socket
import struct
import threading
import time
import unittest

import wire
from harness import LONG, PAGE, SANITIZED, SystemTest, capctl, content, free_port, wait_until
from protocol import END, TO_END, Closed, Refused, decode, encode, frame
from raw import FRAME_MAX, HELLO, LARGE, NO_HASH, header, put_data, put_image, refused_head

def pieces(body):
    """The BODY frames of request 1, without the END."""
    return b"".join(frame("BODY", 1, body[at:at + 60000]) for at in range(0, len(body), 60000))


class Resets(SystemTest):
    """A connection may be torn at any moment."""

    def states(self, d, large):
        """(what, bytes that lead there)"""
        image = wire.simple_image(content("reset", 1 << 20))
        head, total = refused_head(20000)
        upload = HELLO + frame("PUT_IMAGE", 1, put_image(len(image)))
        data = content("reset data", 2 << 20)
        get = frame("GET", 2, encode("GET", hash=large, offset=0, len=TO_END))
        return [
            ("connected", b""),
            ("half a header", HELLO[:6]),
            ("half a HELLO", HELLO[:20]),
            ("after HELLO", HELLO),
            ("half a message", HELLO + header(36) + bytes(10)),
            ("before the head", upload),
            ("in the fixed part", upload + frame("BODY", 1, image[:39])),
            ("in the head", upload + frame("BODY", 1, image[:60])),
            ("in the arena", upload + frame("BODY", 1, image[:200000])),
            ("all but END", upload + pieces(image)),
            ("while a large head is judged", HELLO + frame("PUT_IMAGE", 1, put_image(total)) + pieces(head)),
            ("after a refusal", HELLO + frame("PUT_IMAGE", 1, put_image(2**63)) + frame("BODY", 1, b"x")),
            ("while it is hashed", HELLO + frame("PUT_DATA", 1, put_data(len(data))) + pieces(data)
             + frame("BODY", 1, b"", END)),
            ("while it is written", HELLO + frame("PUT_DATA", 1, put_data(3)) + frame("BODY", 1, b"abc", END)),
            ("while a body is sent", HELLO + get),
            ("while many are sent", HELLO + b"".join(frame("GET", i, get[12:]) for i in range(2, 40))),
            ("during a long HAS", HELLO + frame("HAS", 1, encode("HAS", hashes=NO_HASH * 4096))),
            ("after bad bytes", HELLO + b"\xff" * 12),
        ]

    def test_reset_in_every_state(self):
        d = self.daemon(start=False)
        d.listen.append(f"tcp:127.0.0.1:{free_port()}")
        d.start()
        with d.connect() as c:
            large = c.put_data(content("large", LARGE), piece=FRAME_MAX)["cap_hash"]
        for address in d.listen:
            for what, data in self.states(d, large):
                for wait in (False, True):
                    with self.subTest(what, address=address, wait=wait):
                        before = d.figures()["capstore_received_bytes_total"]
                        c = d.connect(hello=False, address=address)
                        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        c.send_raw(data)
                        if wait:  # until the daemon has read all of it
                            wait_until(lambda: d.figures()["capstore_received_bytes_total"] >= before + len(data), what)
                        c.close()
        wait_until(d.holds_nothing, "everything to be given back")
        figures = d.figures()
        for name in ("connections", "requests_in_flight", "uploads_in_flight", "spool_bytes", "request_memory_bytes",
                     "spool_buffer_bytes", "hash_jobs_in_flight", "writer_queue"):
            self.assertEqual(figures["capstore_" + name], 0, name)
        with d.connect() as c:
            self.assertEqual(len(c.get(large)[1]), c.stat(large)["body_len"])
            c.put_data(b"still at work")

    def test_half_closed(self):
        """A client that closes its sending side asks nothing more: the connection ends, nothing is held."""
        d = self.daemon()
        c = self.connect(d)
        c.request("PUT_DATA", flags=0, size=0, total_len=1 << 20)
        c.sock.shutdown(socket.SHUT_WR)
        with self.assertRaises(Closed):
            while True:
                c.recv_frame()
        wait_until(d.holds_nothing, "everything to be given back")


class SlowReaders(SystemTest):
    """Who takes no answers is bounded, then ended, and no burden for others."""

    def client(self, d, agent):
        return next((c for c in d.admin("clients.list")["clients"] if c["agent"] == agent), None)

    def fill(self, c, piece):
        """Sends without reading until the daemon takes nothing more; returns how much went out."""
        sent = 0
        c.sock.settimeout(0.3)
        try:
            while sent < 64 << 20:
                c.sock.sendall(piece)
                sent += len(piece)
        except TimeoutError:
            pass
        c.sock.settimeout(30)
        return sent

    def test_bodies_nobody_takes(self):
        d = self.daemon("--progress-ms", "1500")
        other = self.connect(d)
        large = other.put_data(content("slow", LARGE), piece=FRAME_MAX)["cap_hash"]
        small = other.put_data(b"small")["cap_hash"]
        c = self.connect(d, hello=False)
        c.hello(agent="slow")
        for _ in range(60):
            c.request("GET", hash=large, offset=0, len=TO_END)
        wait_until(lambda: self.client(d, "slow")["requests"] == 60, "60 requests in flight")
        while (slow := self.client(d, "slow")) is not None:
            self.assertLess(slow["output_bytes"], 64 << 10)
            self.assertEqual(wire.data_content(other.get(small)[1]).rstrip(b"\0"), b"small")
            if not SANITIZED:
                self.assertLess(d.memory(), 32 << 20)
            time.sleep(0.02)
        self.assertEqual(d.admin("refusals.list")["refusals"][0]["reason"], "progress_timeout")
        other.close()
        wait_until(d.holds_nothing, "everything to be given back")

    def test_snapshots_end_before_their_readers(self):
        """A snapshot keeps pages from being used again: it ends in a moment, however long its reader takes."""
        seconds = 4
        d = self.daemon()
        large = self.connect(d).put_data(content("slow", LARGE), piece=FRAME_MAX)["cap_hash"]
        readers = [self.connect(d) for _ in range(20)]
        for reader in readers:
            reader.request("GET", hash=large, offset=0, len=TO_END)
        oldest = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for reader in readers:
                reader.sock.recv(100)
            oldest = max(oldest, d.figures()["capstore_store_oldest_reader_seconds"])
            time.sleep(0.1)
        self.assertEqual(d.admin("status")["requests_in_flight"], len(readers))
        self.assertLess(oldest, seconds / 2)

    def test_answers_nobody_takes(self):
        """Past max-output nothing more is read of this client, so it cannot make the daemon hold more."""
        d = self.daemon("--progress-ms", "2500", "--max-output", "16K")
        other = self.connect(d)
        c = self.connect(d, hello=False)
        c.hello(agent="slow")
        sent = self.fill(c, frame("STAT", 5, b"no hash") * 100)
        self.assertLess(sent, 8 << 20, "the daemon stops reading")
        self.assertLess(self.client(d, "slow")["output_bytes"], 32 << 10)
        self.assertEqual(d.admin("status")["sessions"]["open"], 2)
        self.assertUsable(other)
        wait_until(lambda: self.client(d, "slow") is None, "the end of the slow client")
        self.assertUsable(other)

    def test_it_goes_on_when_they_are_taken(self):
        d = self.daemon("--max-output", "4K")
        c = self.connect(d)
        piece = frame("STAT", 5, b"no hash") * 50
        done = threading.Event()
        asked = []

        def ask():
            for _ in range(400):
                c.sock.sendall(piece)
                asked.append(50)
            done.set()

        sender = threading.Thread(target=ask)
        sender.start()
        answers = 0
        while answers < 400 * 50:
            got = c.recv_frame()
            self.assertEqual((got.id, decode("ERROR", got.payload)["name"]), (5, "bad_message"))
            answers += 1
        sender.join()
        self.assertUsable(c)


class Publisher(threading.Thread):
    """Publishes a share of the Images in an order of its own, all of it the protocol's way."""

    def __init__(self, test, daemon, number, images):
        super().__init__()
        self.test, self.daemon_under_test, self.number = test, daemon, number
        self.images = images
        self.replies, self.failure = [], None

    def run(self):
        try:
            order = list(self.images.items())
            random.Random(self.number).shuffle(order)
            with self.daemon_under_test.connect() as c:
                for name, image in order:
                    self.replies.append((name, c.put_image(image, piece=random.Random(name).choice([500, 60000]))))
        except Exception as failure:  # handed to the test's own thread
            self.failure = failure


class Reader(threading.Thread):
    """Fetches the Images again and again; what it finds must be whole."""

    def __init__(self, daemon, hashes):
        super().__init__()
        self.daemon_under_test, self.hashes = daemon, hashes
        self.bodies, self.failure = {}, None
        self.over = threading.Event()
        self.found = 0

    def run(self):
        try:
            with self.daemon_under_test.connect() as c:
                while not self.over.is_set():
                    self.round(c)
        except Exception as failure:
            self.failure = failure

    def round(self, c):
        for cap_hash, body_len in self.hashes.items():
            there = c.has([cap_hash])[0]
            try:
                body = c.get(cap_hash)[1]
            except Refused as refused:
                if there or refused.name != "not_found":
                    raise
                continue
            if len(body) != body_len or self.bodies.setdefault(cap_hash, body) != body:
                raise AssertionError("a body changed")
            self.found += 1


class Together(SystemTest):
    """What many clients send and get in one turn of a loop goes through one system call, or one each."""

    def test_every_client_gets_its_own(self):
        for sockets in (0, 1, 7, 32):
            with self.subTest(sockets=sockets):
                self.exchange(self.daemon("--io-uring", str(sockets), "--threads", "1", name=f"d{sockets}"), sockets)

    def exchange(self, d, seed):
        rng = random.Random(seed)
        bodies = {}
        clients = [self.connect(d) for _ in range(70)]
        for i in range(40):
            body = content(f"together {i}", rng.choice((1, 100, 4000, 30000, 200000)))
            bodies[clients[i].put_data(body)["cap_hash"]] = body
        for _ in range(8):
            asked = []
            gone = self.connect(d)  # with answers on their way
            d.process.send_signal(signal.SIGSTOP)  # until all have sent, so that it meets them in one turn
            for client in rng.sample(clients, 60):
                hashes = rng.choices(list(bodies), k=rng.randrange(1, 9))
                asked.append((client, [(client.request("GET", hash=one, offset=0, len=TO_END), one) for one in hashes]))
            for one in bodies:
                gone.request("GET", hash=one, offset=0, len=TO_END)
            gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
            d.process.send_signal(signal.SIGCONT)
            for client, requests in asked:
                for request_id, one in requests:
                    got = wire.data_content(client.wait_get(request_id)[1])
                    self.assertEqual(got[:len(bodies[one])], bodies[one])
        for client in clients:
            client.has(list(bodies))
            self.assertEqual((client.inbox, client.readable()), ({}, False), "an answer that was sent twice")


class Concurrency(SystemTest):
    def test_the_same_and_different_images_at_once(self):
        d = self.daemon()
        shared = {f"shared {i}": self.image(f"shared {i}") for i in range(20 if LONG else 8)}
        publishers = []
        for number in range(6):
            own = {f"own {number} {i}": self.image(f"own {number} {i}") for i in range(20 if LONG else 6)}
            publishers.append(Publisher(self, d, number, {**shared, **own}))
        wanted = {}
        for publisher in publishers:
            for name, image in publisher.images.items():
                wanted.setdefault(name, self.ok(capctl("check", "-", stdin=image)))
        hashes = {bytes.fromhex(w["cap_hash"]): w["body_len"] for w in wanted.values()}
        readers = [Reader(d, hashes) for _ in range(3)]
        for thread in readers + publishers:
            thread.start()
        for thread in publishers:
            thread.join()
        for thread in readers:
            thread.over.set()
            thread.join()
        for thread in readers + publishers:
            if thread.failure:
                raise thread.failure
        self.assertGreater(sum(reader.found for reader in readers), 0)
        new = {name: 0 for name in wanted}
        data_new = 0
        for name, reply in itertools.chain(*(publisher.replies for publisher in publishers)):
            self.assertEqual(reply["cap_hash"].hex(), wanted[name]["cap_hash"])
            self.assertEqual(reply["data_new"] + reply["data_present"], 2)
            new[name] += reply["is_new"]
            data_new += reply["data_new"]
        self.assertEqual(set(new.values()), {1}, "each was new exactly once")
        caps = d.admin("status")["caps"]
        self.assertEqual((caps["image"], caps["data"]), (len(wanted), data_new))
        self.assertEqual(data_new, len(wanted) + 1, "one of each Image's own, and the common one")
        wait_until(d.holds_nothing, "everything to be given back")

    def image(self, seed):
        size = random.Random(seed).choice([10, PAGE, 50 * PAGE])
        return wire.simple_image(content(seed + " code", 3000), [(b"\x01", content(seed, size)), (b"\x02", b"common")])


if __name__ == "__main__":
    unittest.main()
