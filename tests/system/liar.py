"""A proxy between a client and a daemon that changes or cuts what the daemon sends."""

import os
import socket
import struct
import threading

BODY = 0x10


class Liar:
    """Listens on `path` and passes every connection on to `target`, a Unix socket.

    flip: the byte, counted over the bodies that come on one connection, of which a bit is changed; None: none.
    cut: after so many bytes of bodies a connection is closed, once for each item of the list.
    """

    def __init__(self, path, target):
        self.path = str(path)
        self.target = str(target)
        self.flip = None
        self.cut = []
        self.passed = 0  # bytes of bodies, on all connections
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"unix:{self.path}"

    def close(self):
        self.listener.close()
        os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            cut = self.cut.pop(0) if self.cut else None
            threading.Thread(target=self._pass, args=(client, server, cut), daemon=True).start()

    def _pass(self, client, server, cut):
        with client, server:
            up = threading.Thread(target=self._up, args=(client, server), daemon=True)
            up.start()
            self._down(client, server, cut)
            up.join()

    @staticmethod
    def _end(*sockets):
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _up(self, client, server):
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        self._end(client, server)

    @staticmethod
    def _exactly(server, count):
        data = bytearray()
        while len(data) < count:
            piece = server.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _down(self, client, server, cut):
        seen = 0
        try:
            while True:
                header = self._exactly(server, 12)
                length, _, kind = struct.unpack_from("<IIB", header)
                payload = self._exactly(server, length)
                if kind == BODY:
                    if cut is not None and seen + length > cut:
                        client.sendall(header + payload[:cut - seen])
                        break
                    if self.flip is not None and seen <= self.flip < seen + length:
                        payload[self.flip - seen] ^= 0x20
                    seen += length
                    self.passed += length
                client.sendall(header + payload)
        except (OSError, EOFError):
            pass
        self._end(client, server)
