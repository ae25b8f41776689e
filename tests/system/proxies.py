"""Caches in front of a daemon's HTTP: nginx and Varnish, with no setting of their own."""

import http.client
import os
import shutil
import subprocess
import unittest

from harness import free_port, wait_until
from over_http import Http

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


needs_nginx = unittest.skipUnless(shutil.which("nginx"), "nginx is not installed")
needs_varnish = unittest.skipUnless(shutil.which("varnishd"), "varnish is not installed")


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

    def start_nginx(self, name="nginx"):
        """In front of the daemon that was served last; its cache is in root/NAME/cache."""
        root = self.root / name
        root.mkdir()
        root.chmod(0o777)  # its workers run as another user
        self.root.chmod(0o755)
        self.proxy_port, self.prefix = free_port(), "/store"
        backend = f"127.0.0.1:{self.port}" if self.address.startswith("tcp") else f"{self.address}:"
        if self.address.startswith("unix"):
            os.chmod(self.address[5:], 0o666)
        (root / "nginx.conf").write_text(NGINX.format(root=root, port=self.proxy_port, backend=backend))
        self.run_proxy("nginx", "-p", str(root), "-c", str(root / "nginx.conf"), "-e", str(root / "error.log"))

    def start_varnish(self):
        self.proxy_port, self.prefix = free_port(), ""
        (self.root / "varnish.vcl").write_text(
            VARNISH.format(backend=f'.host = "127.0.0.1"; .port = "{self.port}";'))
        self.run_proxy("varnishd", "-F", "-n", str(self.root / "varnish"), "-a", f"127.0.0.1:{self.proxy_port}",
                       "-f", str(self.root / "varnish.vcl"), "-s", "malloc,64m", "-j", "none")
