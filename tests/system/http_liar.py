"""An HTTP server that answers what a test says, byte for byte: a cache that lies, breaks off, or never ends."""

import socket
import threading


class HttpLiar:
    """Answers each request by `answer(path, headers)`: bytes, or a generator of them, sent as they are.

    headers: by lower-case name. tls: an SSLContext, for https. The connection is closed after each answer, so that its
    end may tell its length.
    """

    def __init__(self, answer, tls=None):
        self.answer = answer
        self.tls = tls
        self.asked = []  # (path, headers) of every request, but the probes of HELLO
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        if self.tls:
            try:
                client = self.tls.wrap_socket(client, server_side=True)
            except OSError:
                return  # the client thinks nothing of it
        with client:
            data = b""
            while b"\r\n\r\n" not in data:
                some = client.recv(65536)
                if not some:
                    return
                data += some
            lines = data.split(b"\r\n\r\n")[0].decode().split("\r\n")
            path = lines[0].split(" ")[1]
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
            if not path.endswith("/healthz"):
                self.asked.append((path, headers))
            answer = ok(b"") if path.endswith("/healthz") else self.answer(path, headers)
            try:
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                client.recv(1)  # what the client has not read would be lost by a reset
            except OSError:
                pass  # it has had enough


def head(status, **headers):
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def ok(body, **headers):
    return head("200 OK", Content_Length=len(body), **headers) + body


def part(body, first, last, **headers):
    """A range of a body, with both ends in."""
    piece = body[first:last + 1]
    return head("206 Partial Content", Content_Length=len(piece),
                Content_Range=f"bytes {first}-{last}/{len(body)}", **headers) + piece


def asked_range(headers, size):
    """The range that a request asks for, cut to what there is."""
    first, last = headers["range"].removeprefix("bytes=").split("-")
    return int(first), min(int(last), size - 1) if last else size - 1
