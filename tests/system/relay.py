"""What stands between a client and a daemon: a relay that counts, and cuts connections where it is told."""

import pathlib
import queue
import selectors
import socket
import threading
import time

from protocol import open_socket


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
                    if source is server and cut is not None:
                        data = data[:cut - self.down[number]]
                    sink.sendall(data)
                except OSError:
                    return
                if source is client:
                    self.up += len(data)
                    self.turns += answered and bool(data)
                    answered = False
                else:
                    self.down[number] += len(data)
                    answered = True
                if not data or self.down[number] == cut:
                    return


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
