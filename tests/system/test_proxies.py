"""Caches in front of HTTP: what they have got once they serve without the daemon, in ranges and slices, too."""

import http.client
import os
import shutil
import subprocess
import unittest

import wire
from harness import PAGE, content, free_port, wait_until
from over_http import Http
from protocol import decode_entries

NGINX = """
daemon off;
worker_processes 1;
error_log {root}/error.log;
pid {root}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    proxy_temp_path {root}/proxy;
    proxy_cache_path {root}/cache keys_zone=caps:8m max_size=1g use_temp_path=off;
    server {{
        listen 127.0.0.1:{port};
        location /store/ {{
            proxy_pass http://{backend}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache caps;
            proxy_cache_lock on;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
"""

VARNISH = """
vcl 4.1;
backend default {{ {backend} }}
sub vcl_deliver {{ set resp.http.X-Cache = obj.hits; }}
"""


class Proxies(Http):
    prefix = ""

    def run_proxy(self, *command):
        log = open(self.root / "proxy.log", "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)

        def answers():
            self.assertIsNone(process.poll(), (self.root / "proxy.log").read_text())
            try:
                return self.through("/healthz").status == 200
            except OSError:
                return False

        wait_until(answers, "the proxy to answer")

    def through(self, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy_port, timeout=60)
        self.addCleanup(connection.close)
        return self.ask(self.prefix + path, connection=connection, **headers)

    def asked(self):
        """Requests that reached the daemon."""
        return self.d.figures()["capstore_http_requests_total"]

    def second_is_free(self, path, **headers):
        """Asks twice; the second answer is the first, and the daemon has not heard of it. Returns it."""
        first = self.through(path, **headers)
        self.assertIn(first.status, (200, 206), path)
        before = self.asked()
        again = self.through(path, **headers)
        self.assertEqual((again.status, again.body), (first.status, first.body), path)
        self.assertEqual(self.asked(), before, f"{path} was asked for again")
        return again

    def check(self):
        data = content("cached", 300 * PAGE)
        cap_hash = self.publish(data)
        body = self.body(cap_hash)
        # A range of what the cache does not have, then the whole, then ranges of that.
        part = self.through(f"/caps/{cap_hash}", Range="bytes=70000-140000")
        self.assertEqual((part.status, part.body), (206, body[70000:140001]))
        self.assertEqual(self.second_is_free(f"/caps/{cap_hash}").body, body)
        before = self.asked()
        for first, last in ((0, 0), (100, 200000), (len(body) - 9, len(body) - 1)):
            part = self.through(f"/caps/{cap_hash}", Range=f"bytes={first}-{last}")
            self.assertEqual((part.status, part.body), (206, body[first:last + 1]))
        self.assertEqual(self.through(f"/caps/{cap_hash}", If_None_Match=f'"{cap_hash}"').status, 304)
        self.assertEqual(self.asked(), before, "ranges of what is cached are the cache's")
        self.assertEqual(self.second_is_free(f"/caps/{cap_hash}/content").body, data)
        for pages in ("0-15,100", "", "299"):
            path = f"/caps/{cap_hash}/slice?pages={pages}"
            self.assertEqual(self.second_is_free(path).body, self.ask(path).body)
        self.assertEqual(self.second_is_free(f"/caps/{cap_hash}/info").json["size"], len(data))
        self.check_what_is_not_kept(cap_hash)

    def check_what_is_not_kept(self, cap_hash):
        with self.d.connect() as c:
            image = c.put_image(wire.simple_image(content("code", 500), [(b"a", content("a", 100))]))["cap_hash"].hex()
        self.assertEqual(len(decode_entries(self.through(f"/closures/{image}").body)), 2)
        for path in ("/metrics", "/readyz", f"/closures/{image}", "/"):
            before = self.asked()
            self.assertEqual((self.through(path).status, self.through(path).status), (200, 200))
            self.assertEqual(self.asked() - before, 2, path)
        late = content("late", 5)
        self.assertEqual(self.through(f"/caps/{'0' * 64}").status, 404)
        self.d.admin("cap.delete", hash=cap_hash, force=True)
        self.assertEqual(self.ask(f"/caps/{cap_hash}").status, 410)
        self.assertEqual(self.through(f"/caps/{cap_hash}").status, 200, "a cache keeps what it has")
        self.publish(late)

    @unittest.skipUnless(shutil.which("nginx"), "nginx is not installed")
    def test_nginx(self):
        for address in ("tcp:127.0.0.1:0", f"unix:{self.root}/http.sock"):
            with self.subTest(address):
                self.serve(http=address, name=f"d-{address[:4]}")
                root = self.root / f"nginx-{address[:4]}"
                root.mkdir()
                root.chmod(0o777)  # its workers run as another user
                self.root.chmod(0o755)
                self.proxy_port, self.prefix = free_port(), "/store"
                backend = f"127.0.0.1:{self.port}" if address.startswith("tcp") else f"unix:{self.root}/http.sock:"
                if address.startswith("unix"):
                    os.chmod(self.root / "http.sock", 0o666)
                (root / "nginx.conf").write_text(NGINX.format(root=root, port=self.proxy_port, backend=backend))
                self.run_proxy("nginx", "-p", str(root), "-c", str(root / "nginx.conf"), "-e", str(root / "error.log"))
                self.check()

    @unittest.skipUnless(shutil.which("varnishd"), "varnish is not installed")
    def test_varnish(self):
        self.serve()
        self.proxy_port, self.prefix = free_port(), ""
        (self.root / "varnish.vcl").write_text(
            VARNISH.format(backend=f'.host = "127.0.0.1"; .port = "{self.port}";'))
        self.run_proxy("varnishd", "-F", "-n", str(self.root / "varnish"), "-a", f"127.0.0.1:{self.proxy_port}",
                       "-f", str(self.root / "varnish.vcl"), "-s", "malloc,64m", "-j", "none")
        self.check()


if __name__ == "__main__":
    unittest.main()
