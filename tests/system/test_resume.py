"""Uploads that go on: connections that are cut, by a proxy that counts what is sent; and what a client may ask of it."""

import array
import fcntl
import os
import socket
import termios
import threading
import unittest

import harness
import wire
from harness import PAGE, SystemTest, capctl, content, wait_until
from protocol import KEEP, RESUME, Connection, open_socket

MIB = 1 << 20
TOKEN = bytes(range(1, 17))


class Proxy:
    """Forwards connections to `target`, and cuts the one under way when so many bytes of its client have come in all."""

    def __init__(self, target, cuts=()):
        self.target = target
        self.cuts = list(cuts)
        self.sent = 0  # bytes of clients that have come here, forwarded or not
        self.connections = 0
        self.swallows = False  # the next answer to a complete upload does not reach its client
        self.open = True
        self.cut = False
        self.after_cut = lambda: None  # what is done after each
        self.listener = socket.socket()
        # So little that what a client has sent is here or still with it.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.address = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def close(self):
        self.open = False
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        self.thread.join()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            server = open_socket(self.target, None)
            back = threading.Thread(target=self.back, args=(server, client), daemon=True)
            back.start()
            self.forward(client, server)
            for end in (client, server):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            back.join()
            client.close()
            server.close()
            if self.cut:
                self.cut = False
                self.after_cut()

    def back(self, server, client):
        try:
            while data := server.recv(65536):
                if self.swallows and self.sent >= self.swallows:
                    self.swallows = False
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def forward(self, client, server):
        """Until the client ends, or the next cut."""
        while self.open:
            left = self.cuts[0] - self.sent if self.cuts else 1 << 30
            data = client.recv(min(65536, left))
            self.sent += len(data)
            if not data:
                return
            try:
                server.sendall(data)
            except OSError:
                return
            if self.cuts and self.sent >= self.cuts[0]:
                self.cuts.pop(0)
                waiting = array.array("i", [0])
                fcntl.ioctl(client, termios.FIONREAD, waiting)
                self.sent += waiting[0]  # it has come as well
                self.cuts = [cut for cut in self.cuts if cut > self.sent]
                self.cut = True
                return


class Cut(SystemTest):
    """Connections that end in the midst of an upload of the real tool."""

    def proxy(self, daemon, cuts=()):
        proxy = Proxy(daemon.address, cuts)
        self.addCleanup(proxy.close)
        return proxy

    def tcp_daemon(self, *options):
        return self.daemon(*options, listen=["tcp:127.0.0.1:%d" % harness.free_port()])

    def cut_often(self, size, cuts, *command):
        """The tool's upload of `size` bytes, cut so often; returns its output."""
        d = self.tcp_daemon()
        proxy = self.proxy(d, [size * i // cuts for i in range(1, cuts)])
        result = capctl("-s", proxy.address, *command)
        answer = self.ok(result)
        self.assertGreater(proxy.connections, cuts * 9 // 10)
        self.assertLess(proxy.sent, size * 11 // 10)
        self.assertIn("resumed at", result.stderr)
        figures = d.figures()
        self.assertGreater(figures["capstore_uploads_resumed_total"], cuts * 9 // 10 - 1)
        self.assertEqual(figures["capstore_parked_uploads"], 0)
        wait_until(d.holds_nothing, "the uploads to be over")
        print(f"{size} bytes in {proxy.connections} connections: {proxy.sent} sent")
        return d, answer

    def test_put_cut_often(self):
        size, cuts = (100 * MIB, 100) if harness.LONG else (24 * MIB, 24)
        data = self.file("data", os.urandom(size))
        d, put = self.cut_often(size, cuts, "put", data)
        self.assertEqual(put["cap_hash"], self.ok(d.capctl("put", data))["cap_hash"])

    def test_publish_cut_often(self):
        """An Image: a head, a code that is staged ahead, hashed as it arrives."""
        size, cuts = (100 * MIB, 100) if harness.LONG else (16 * MIB, 16)
        image = self.file("image", wire.simple_image(os.urandom(size), [(b"\x40", content("block", 3 * PAGE))], []))
        d, published = self.cut_often(size, cuts, "publish", image)
        self.assertEqual(published["cap_hash"], self.ok(capctl("check", image))["cap_hash"])
        got = self.root / "got"
        self.ok(d.capctl("get", published["cap_hash"], "--content", "-o", got))
        self.assertEqual(got.stat().st_size, size)


    def test_load(self):
        """Long caps of a dump go on as well."""
        source = self.daemon(name="source")
        put = [self.ok(source.capctl("put", self.file("data", os.urandom(size))))["cap_hash"]
               for size in (20 * MIB, 5 * MIB, 5)]
        dump = self.root / "dump"
        self.ok(source.capctl("dump", *put, "-o", dump))
        d = self.tcp_daemon()
        proxy = self.proxy(d, [5 * MIB, 10 * MIB, 15 * MIB, 23 * MIB])
        self.ok(capctl("-s", proxy.address, "load", dump))
        self.assertEqual(proxy.connections, 5)
        self.assertLess(proxy.sent, 27 * MIB)
        self.ok(d.capctl("has", *put))

    def test_a_daemon_that_restarts(self):
        """What it kept is gone; the upload begins anew."""
        d = self.tcp_daemon()
        proxy = self.proxy(d, [4 * MIB])
        proxy.after_cut = lambda: (d.kill(), d.start())
        data = self.file("data", os.urandom(6 * MIB))
        self.ok(capctl("-s", proxy.address, "put", data))
        self.assertGreater(proxy.sent, 10 * MIB)
        self.assertEqual(d.figures()["capstore_uploads_resumed_total"], 0)

    def test_a_lost_answer(self):
        """The cap is there; it is published again, which is success."""
        d = self.tcp_daemon()
        proxy = self.proxy(d)
        data = os.urandom(2 * MIB)
        proxy.swallows = len(data)
        put = self.ok(capctl("-s", proxy.address, "put", self.file("data", data)))
        self.assertFalse(put["new"])
        self.assertEqual(proxy.connections, 2)
        self.ok(d.capctl("has", put["cap_hash"]))

    def test_a_lost_answer_of_a_cap(self):
        """The tool knows its hash, and asks for it instead of sending it again."""
        source = self.daemon(name="source")
        put = self.ok(source.capctl("put", self.file("data", os.urandom(5 * MIB))))
        self.ok(source.capctl("dump", put["cap_hash"], "-o", self.root / "dump"))
        d = self.tcp_daemon()
        proxy = self.proxy(d)
        proxy.swallows = 5 * MIB
        self.assertEqual(self.ok(capctl("-s", proxy.address, "load", self.root / "dump"))["caps"], 1)
        self.assertEqual(proxy.connections, 2)
        self.assertLess(proxy.sent, 6 * MIB)
        self.ok(d.capctl("has", put["cap_hash"]))

    def test_giving_up(self):
        if not harness.LONG:
            return  # it waits for 12 s
        d = self.tcp_daemon()
        proxy = self.proxy(d, [4 * MIB])
        proxy.after_cut = proxy.listener.close
        result = capctl("-s", proxy.address, "put", self.file("data", os.urandom(6 * MIB)))
        self.assertStatus(result, 3)
        self.assertIn("5 attempts to go on have failed", result.stderr)

    def test_without_a_name(self):
        """An upload of at most 1 MiB is cut off for good, and nothing of it is kept."""
        d = self.tcp_daemon()
        proxy = self.proxy(d, [MIB // 2])
        result = capctl("-s", proxy.address, "put", self.file("data", os.urandom(MIB)))
        self.assertNotEqual(result.status, 0)
        self.assertEqual(proxy.connections, 1)
        wait_until(d.holds_nothing, "the upload to be over")
        self.assertEqual(d.figures()["capstore_parked_uploads"], 0)


class Peers(SystemTest):
    """What a client that makes its messages itself may ask, and what it may not."""

    def resuming(self, daemon, **options):
        connection = Connection(daemon.address, **options)
        self.addCleanup(connection.close)
        connection.hello(features=KEEP | RESUME)
        return connection

    def cut_off(self, connection, data, sent, token=TOKEN):
        upload = connection.request("PUT_DATA", flags=0, size=0, total_len=len(data), token=token)
        for at in range(0, sent, 65536):
            connection.send_frame("BODY", upload, data[at:min(at + 65536, sent)])
        connection.close()

    def test_another_address(self):
        """Who guesses a token and comes from elsewhere has nothing of it, and drops nothing."""
        d = self.daemon("--threads", "4", listen=["tcp:127.0.0.1:%d" % harness.free_port()])
        data = os.urandom(2 * MIB)
        self.cut_off(self.resuming(d), data, MIB)
        own = self.resuming(d)
        other = self.resuming(d, source="127.0.0.2")
        self.assertEqual(own.resume(TOKEN), (MIB, 2 * MIB))
        self.assertEqual(other.resume(TOKEN), (0, 0))
        upload = other.request("PUT_DATA", flags=0, size=0, total_len=2 * MIB, token=TOKEN, offset=MIB)
        self.assertRefuses("resume_offset", other.wait, upload, "PUT_DATA_REPLY")
        for number in range(1, 20):
            self.cut_off(self.resuming(d, source="127.0.0.3"), data, MIB, token=bytes([number] * 16))
        self.assertEqual(own.resume(TOKEN), (MIB, 2 * MIB))
        upload = own.request("PUT_DATA", flags=0, size=0, total_len=2 * MIB, token=TOKEN, offset=MIB)
        own.send_body(upload, data[MIB:])
        self.assertTrue(own.wait(upload, "PUT_DATA_REPLY")["is_new"])

    def test_a_connection_that_hangs(self):
        """It looks alive, and its upload goes on elsewhere, be it on another loop."""
        d = self.daemon("--threads", "4")
        data = os.urandom(2 * MIB)
        hangs = self.resuming(d)
        first = hangs.request("PUT_DATA", flags=0, size=0, total_len=len(data), token=TOKEN)
        hangs.send_frame("BODY", first, data[:65536])
        hangs.send_frame("BODY", first, data[65536:100000])
        c = self.resuming(d)
        self.assertEqual(c.resume(TOKEN), (100000, len(data)))
        upload = c.request("PUT_DATA", flags=0, size=0, total_len=len(data), token=TOKEN, offset=100000)
        c.send_body(upload, data[100000:])
        self.assertTrue(c.wait(upload, "PUT_DATA_REPLY")["is_new"])
        self.assertRefuses("cancelled", hangs.wait, first, "PUT_DATA_REPLY")


if __name__ == "__main__":
    unittest.main()
