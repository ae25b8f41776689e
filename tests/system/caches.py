"""Caches for the system tests: daemons in front of another one, and a stand-in for that one."""

import socket
import threading

import protocol
import wire
from harness import START_SECONDS, SystemTest, content
from protocol import END, Refused

GET_MANY = 2  # a feature's bit
KIB, MIB = 1 << 10, 1 << 20


def absent(number):
    """A hash that nobody has published."""
    return number.to_bytes(32, "big")


class Fake:
    """A stand-in for the daemon above: answers HELLO, and every GET and STAT as it is told."""

    def __init__(self, path, answer):
        self.answer, self.asked, self.sockets = answer, [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self.address = f"unix:{path}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        connection = protocol.Connection.__new__(protocol.Connection)
        connection.sock, connection.received, connection.descriptors = sock, bytearray(), []
        try:
            connection.recv_frame()
            limits = {"limits_frame": 256 * KIB, "limits_requests": 64, "limits_hashes": 4096, "limits_upload": MIB,
                      "limits_structure": MIB, "limits_data": MIB, "limits_idle_ms": 0, "limits_progress_ms": 0}
            connection.send_frame("HELLO_REPLY", 0, protocol.encode(
                "HELLO_REPLY_FEATURES", version=1, store_id=b"\x11" * 16, agent="fake", features=0, **limits))
            while True:
                got = connection.recv_frame()
                name = protocol.TYPE_NAMES[got.type]
                if name in ("GET", "STAT"):
                    self.asked.append(protocol.decode(name, got.payload)["hash"])
                    self.answer(connection, got.id, name, self.asked[-1])
        except (protocol.Closed, OSError):
            sock.close()

    def close(self):
        self.listener.close()
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def send_body(connection, request_id, body, cut=None):
    """A GET's answer, of which only the first `cut` bytes are sent."""
    connection.send_frame("GET_REPLY", request_id, protocol.encode(
        "GET_REPLY", kind=2, body_len=len(body), offset=0, len=len(body)))
    sent = body if cut is None else body[:cut]
    for at in range(0, len(sent), 64 * KIB):
        last = cut is None and at + 64 * KIB >= len(sent)
        connection.send_frame("BODY", request_id, sent[at:at + 64 * KIB], END if last else 0)


class Caches(SystemTest):
    def above(self, *options, **more):
        return self.daemon(*options, name="above", **more)

    def below(self, above, *options, name="below", **more):
        """A cache; `above` is a daemon or an address. On a busy machine it waits for as long as the client does."""
        address = above if isinstance(above, str) else above.address
        if "--upstream-timeout" not in options:
            options += ("--upstream-timeout", str(START_SECONDS * 1000))
        return self.daemon("--upstream", address, *options, name=name, **more)

    def client(self, daemon, features=GET_MANY):
        client = self.connect(daemon, hello=False)
        client.hello(features=features)
        return client

    def comes(self, client, one, refusal):
        """Whether a cap comes; until then it is refused by this name."""
        try:
            return client.get(one)
        except Refused as refused:
            self.assertEqual(refused.name, refusal)
            return False

    def program(self, daemon, data=3, depth=2):
        """Images that refer to each other, `depth` of them, each with data: (root's hash, every hash, bodies)."""
        client = self.client(daemon)
        hashes, inner = [], []
        for level in range(depth):
            parts = [(bytes([i]), content(f"{level}/{i}", 3000 + 5000 * i)) for i in range(data)]
            image = wire.simple_image(content(f"code {level}", 6000), data=parts, images=inner)
            reply = client.put_image(image)
            hashes.append(reply["cap_hash"])
            hashes += [client.put_data(part)["cap_hash"] for _, part in parts]
            inner = [(b"\xaa", reply["cap_hash"])]
        root = hashes[-1 - data]
        return root, hashes, {one: client.get(one) for one in hashes}

    def asked_above(self, above, *types):
        figures = above.figures()
        return sum(figures.get('capstore_requests_total{type="%s"}' % one, 0) for one in types)
