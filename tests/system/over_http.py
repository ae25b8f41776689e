"""An HTTP client for the system tests, and daemons that serve it."""

import http.client
import json
import re
import socket

from harness import PAGE, SystemTest, content, wait_until


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("capstore")
        self.unix = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.unix)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Http(SystemTest):
    def serve(self, *options, http="tcp:127.0.0.1:0", **more):
        self.d = self.daemon("--http", http, *options, **more)
        self.listening()
        return self.d

    def listening(self):
        wait_until(lambda: " started " in self.d.log(), "the daemon to have started")
        self.address = re.search(r"http_listening address=(\S+)", self.d.log()).group(1)

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def connection(self):
        if self.address.startswith("unix:"):
            connection = UnixConnection(self.address[5:])
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.addCleanup(connection.close)
        return connection

    def ask(self, path, method="GET", connection=None, **headers):
        connection = connection or self.connection()
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())

    def raw(self, data=b""):
        s = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(s.close)
        s.settimeout(60)
        s.sendall(data)
        return s

    def publish(self, data=None, size=0):
        """A Data cap; returns its hash in hex."""
        with self.d.connect() as c:
            return c.put_data(content("http", 3 * PAGE + 5) if data is None else data, size)["cap_hash"].hex()

    def body(self, cap_hash):
        with self.d.connect() as c:
            return c.get(bytes.fromhex(cap_hash))[1]

    def refuses(self, answer, status, error):
        self.assertEqual((answer.status, answer.json["error"]), (status, error), answer.body)
        return answer
