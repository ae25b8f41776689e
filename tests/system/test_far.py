"""A whole program over a link with 100 ms of delay: by the kernel where that can, and by a relay."""

import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import CAPCTL, content
from relay import Distance
from test_closure import Base


class Far(Base):
    def network(self):
        """The words that run a program in a network of its own with such a loopback."""
        script = ("ip link set lo up && tc qdisc add dev lo root netem delay 50ms limit 100000 && echo ready && "
                  "exec sleep 600")
        try:
            holder = subprocess.Popen(["unshare", "-n", "sh", "-c", script], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except FileNotFoundError as error:
            self.skipTest(str(error))
        self.addCleanup(lambda: (holder.kill(), holder.wait(), holder.stdout.close()))
        said = holder.stdout.readline().strip()
        if said != "ready":
            self.skipTest(f"no network with a delay: {said}")
        return ["nsenter", "-n", "-t", str(holder.pid)]

    def best(self, command, *arguments):
        """The least seconds of five runs of the tool: what disturbs it only adds."""
        def once():
            began = time.monotonic()
            done = subprocess.run([*command, *map(str, arguments)], check=False, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            return time.monotonic() - began
        return min(once() for _ in range(5))

    def fetch_far(self, command):
        """A cold program of 1,000 caps takes at most a few round trips more than as many bytes in one body."""
        client = self.asker()
        root = self.image(client, "wide", [content(i, 3000) for i in range(999)])
        entries = client.closure([root])
        single = self.data(client, "single", sum(e[2] + 41 for e in entries))
        out = tempfile.mkdtemp(prefix="capstore-", dir="/dev/shm")  # where writing many files takes no disk
        self.addCleanup(shutil.rmtree, out)
        needed = self.best(command, "get", single.hex(), "-o", f"{out}/single")
        took = self.best(command, "closure", root.hex(), "-d", f"{out}/files")
        print(f"{len(entries)} caps in {took:.3f} s; as many bytes in one body in {needed:.3f} s")
        self.assertEqual(len(list(pathlib.Path(out, "files").iterdir())), 1000)
        self.assertGreater(needed, 0.19)  # the delay is there: the hello and the GET take two round trips
        self.assertLess(took, needed + 6 * 0.1)

    def test_a_long_network(self):
        prefix = self.network()
        self.d = self.daemon(listen=[f"unix:{self.root}/s", "tcp:127.0.0.1:7070"], start=False)
        inner = self.d.command()
        self.d.command = lambda: prefix + inner
        self.d.start()
        self.fetch_far([*prefix, CAPCTL, "-s", "tcp:127.0.0.1:7070"])

    def test_a_long_way(self):
        self.open().close()
        far = Distance(self.root / "far", self.d, 0.05)
        self.addCleanup(far.close)
        self.fetch_far([CAPCTL, "-s", far.address])


if __name__ == "__main__":
    unittest.main()
