"""What stands between a client and a daemon: relays that count, cut connections where they are told, and lie."""

import pathlib
import queue
import selectors
import socket
import struct
import threading
import time

from protocol import HEADER, TYPES, open_socket


class Relay:
    """Passes on what comes at `path` to a daemon, one thread for each connection, until it is closed.

    turns: how often a client spoke after it had been answered, and so what waits for a round trip, over all
    connections; down: bytes to clients, of each connection; cuts: after how many bytes to the client each of the next
    connections is cut; the ones after these are not.
    """

    def __init__(self, path, daemon, cuts=()):
        self.daemon, self.cuts = daemon, list(cuts)
        self.turns, self.down, self.up = 0, [], 0
        self.path = pathlib.Path(path)
        self.address = f"unix:{self.path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)
        self.path.unlink()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                number, cut = len(self.down), self.cuts.pop(0) if self.cuts else None
                self.down.append(0)
            thread = threading.Thread(target=self.relay, args=(client, number, cut), daemon=True)
            self.threads.append(thread)
            thread.start()

    def relay(self, client, number, cut):
        answered = True
        try:
            server = open_socket(self.daemon.address, 30)
        except OSError:  # it is just not there: so its client is told
            client.close()
            return
        with client, server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                source, sink = (client, server) if client in ready else (server, client)
                try:
                    data = source.recv(1 << 16)
                    end, count = not data, len(data)
                    if source is server:
                        data, count = self.answer(number, cut, data)
                    sink.sendall(data)
                except OSError:
                    return
                if source is client:
                    self.up += count
                    self.turns += answered and not end
                    answered = False
                else:
                    self.down[number] += count
                    answered = True
                if end or self.down[number] == cut:
                    return

    def answer(self, number, cut, data):
        """What a client gets of the daemon's bytes, and how many of them count."""
        data = data if cut is None else data[:cut - self.down[number]]
        return data, len(data)


class Liar(Relay):
    """Goes frame by frame: `down` and `cuts` count bytes of bodies, and of the byte `flip`, unless that is None, a bit is
    changed on every connection. `claim`, unless that is None, is how long STAT says that a body is."""

    def __init__(self, path, daemon):
        self.flip, self.claim, self.held = None, None, {}
        super().__init__(path, daemon)

    def answer(self, number, cut, data):
        held, passed, count = self.held.setdefault(number, bytearray()), bytearray(), 0
        held += data
        while len(held) >= HEADER.size:
            length, _, kind, _, _ = HEADER.unpack_from(held)
            if len(held) < HEADER.size + length:
                break
            frame = held[:HEADER.size + length]
            del held[:len(frame)]
            if self.claim is not None and kind == TYPES["STAT_REPLY"]:
                struct.pack_into("<Q", frame, HEADER.size + 1, self.claim)
            if kind == TYPES["BODY"]:
                at = self.down[number] + count
                if self.flip is not None and at <= self.flip < at + length:
                    frame[HEADER.size + self.flip - at] ^= 0x20
                if cut is not None and at + length > cut:
                    return passed + frame[:HEADER.size + cut - at], cut - self.down[number]
                count += length
            passed += frame
        return passed, count


class Distance:
    """Passes on what comes to a daemon, and what comes back, each `delay` seconds later: a long link without a bound of
    bytes, where the system cannot make one."""

    def __init__(self, path, daemon, delay):
        self.daemon, self.delay = daemon, delay
        self.address = f"unix:{path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self.sockets = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for one in self.sockets:
            one.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = open_socket(self.daemon.address, None)
            self.sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                late = queue.Queue()
                for target, end in ((self.take, source), (self.give, sink)):
                    threading.Thread(target=target, args=(end, late), daemon=True).start()

    def take(self, source, late):
        data = b"more"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            late.put((time.monotonic() + self.delay, data))

    @staticmethod
    def give(sink, late):
        while True:
            due, data = late.get()
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:  # its other side has gone
                return
