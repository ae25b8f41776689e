"""Publishers, readers, a collection every second, restarts and crashes, for half a minute or, in the long form, an hour.

What is acknowledged is kept for as long as was promised: by the answer to its publication, by that to a HAS, by a root,
or by an Image that is kept. What nothing keeps goes. The daemon is never idle meanwhile, and never sound by luck: at the
end `capstored --check` reads all of it.
"""

import json
import os
import random
import subprocess
import threading
import time
import unittest

import wire
from harness import CAPSTORED, LONG, PAGE, AdminError, SystemTest, content, wait_until
from protocol import KEEP, Closed, Refused

SECONDS = int(os.environ.get("CAPSTORE_SOAK_SECONDS", 3600 if LONG else 25))
LEASE = 5  # seconds that a publication is kept for: many run out in a minute
SLACK = 2  # seconds: the store's clock counts whole ones, and a busy machine answers late
LIVE = 400  # caps that this test remembers at a time
CODE = b"\x13\x00\x00\x00"


class Known:
    """A cap that was acknowledged, and until when it is promised."""

    def __init__(self, cap_hash, body, until, needs=()):
        self.hash, self.body, self.until, self.needs = cap_hash, body, until, needs
        self.root = None


class Soak(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon("--lease", str(LEASE), "--drain-ms", "2000")
        self.lock = threading.Lock()
        self.known = {}  # hash -> Known
        self.roots = 0
        self.unanswered = set()  # names of roots of which the daemon's end has left open whether they are there
        self.end = 0
        self.failures = []
        self.figures = dict.fromkeys(
            ("published", "read", "asked", "renewed", "rooted", "gone", "collections", "restarts", "crashes"), 0)
        self.sizes = []

    # --- what clients do --------------------------------------------------------------------------

    def client(self):
        connection = self.d.connect(hello=False)
        try:
            connection.hello(features=KEEP)
        except BaseException:
            connection.close()
            raise
        return connection

    def busy(self, step):
        """Repeats a step with a connection until the end; a daemon that is away is waited for."""
        connection = None
        while time.monotonic() < self.end and not self.failures:
            try:
                if connection is None:
                    connection = self.client()
                step(connection)
            except (Closed, OSError):
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.05)
            except Refused as error:
                if error.name not in ("draining", "unresolved_slot"):
                    self.failures.append(f"{step.__name__}: refused with {error.name}")
                if error.id == 0:
                    connection.close()
                    connection = None
        if connection is not None:
            connection.close()

    def promised(self, cap_hash, body, began, kept_s, needs=()):
        with self.lock:
            known = self.known.setdefault(cap_hash, Known(cap_hash, body, 0, needs))
            known.until = max(known.until, began + kept_s)

    def publish(self, c):
        began = time.monotonic()
        seed = random.randrange(1 << 62)
        data = content(seed, random.choice((64, 500, PAGE, 5 * PAGE, 40 * PAGE)))
        if random.random() < 0.3:
            reply = c.put_image(wire.simple_image(CODE, [(b"\x40", data), (b"\x41", content(seed % 50, PAGE))]))
        else:
            reply = c.put_data(data, keep_s=random.choice((0, 0, 2, 20)))
        self.promised(reply["cap_hash"], None, began, reply["kept_s"])
        self.figures["published"] += 1

    def held(self):
        """Some cap that must be there for some seconds more, or None."""
        with self.lock:
            now = time.monotonic() + SLACK
            kept = [k for k in random.sample(list(self.known.values()), min(20, len(self.known)))
                    if k.root or k.until > now]
        return random.choice(kept) if kept else None

    def lost(self, known, how):
        """A held cap was not there; unless the promise ran out while the daemon was asked."""
        if known.root or known.until > time.monotonic():
            why = {}
            try:
                why = self.d.admin("why", hash=known.hash.hex())
            except (OSError, AdminError, ValueError):
                pass
            self.failures.append(f"{how}: {known.hash.hex()} is gone, promised for "
                                 f"{known.until - time.monotonic():.1f} s more, root {known.root}: {json.dumps(why)}")

    def read(self, c):
        known = self.held()
        if known is None:
            time.sleep(0.01)
            return
        try:
            _, body = c.get(known.hash)
        except Refused as error:
            if error.name != "not_found":
                raise
            self.lost(known, "GET")
            return
        if known.body is None:
            known.body = body
        elif known.body != body:
            self.failures.append(f"{known.hash.hex()} has other bytes than before")
        self.figures["read"] += 1

    def ask(self, c):
        """HAS, of which one in four asks to keep: what it promises holds from then on."""
        with self.lock:
            some = random.sample(list(self.known.values()), min(8, len(self.known)))
        if not some:
            time.sleep(0.01)
            return
        keep_s = random.choice((0, 0, 0, 8))
        held = [k.root is not None or k.until > time.monotonic() + SLACK for k in some]
        began = time.monotonic()
        answers = c.keep([k.hash for k in some], keep_s)
        for known, was_held, (kind, kept_s) in zip(some, held, answers):
            if kind == 0 and was_held:
                self.lost(known, "HAS")
            elif kind != 0:
                self.promised(known.hash, known.body, began, kept_s)
        self.figures["renewed" if keep_s else "asked"] += 1

    # --- what operators do ------------------------------------------------------------------------

    def change_roots(self):
        """Sets a root to a cap that is held, or removes one."""
        with self.lock:
            rooted = [k for k in self.known.values() if k.root]
        if len(rooted) > 20:
            known = random.choice(rooted)
            with self.lock:
                name, known.root = known.root, None
            self.change_root("roots.remove", name)
            return
        known = self.held()
        if known is not None and not known.root:
            self.roots += 1
            name = f"soak/{self.roots}"
            self.change_root("roots.set", name, hash=known.hash.hex())
            with self.lock:
                known.root = name
            self.figures["rooted"] += 1

    def change_root(self, method, name, **params):
        self.unanswered.add(name)
        self.d.admin(method, name=name, **params)
        self.unanswered.remove(name)

    def forget(self):
        """What nobody promises any more is looked at no longer."""
        with self.lock:
            now = time.monotonic()
            over = [h for h, k in self.known.items() if not k.root and k.until < now - SLACK]
            for cap_hash in over[:max(0, len(self.known) - LIVE)]:
                del self.known[cap_hash]

    def operate(self):
        """Collects every second. What it does not expect ends the test."""
        try:
            self.operate_until_the_end()
        except Exception as error:
            self.failures.append(f"operator: {error!r}")
            raise

    def operate_until_the_end(self):
        while time.monotonic() < self.end and not self.failures:
            try:
                self.d.admin("gc.run")
                self.figures["collections"] += 1
                self.change_roots()
                self.forget()
                figures = self.d.figures()
                live = sum(value for name, value in figures.items() if name.startswith("capstore_body_bytes"))
                self.sizes.append((figures["capstore_store_file_bytes"], live))
            except AdminError as error:
                if error.reason not in ("job_running", "draining", "not_found"):
                    self.failures.append(f"operator: {error.reason}")
            except (OSError, ValueError):
                pass  # a daemon that is being restarted
            time.sleep(1)

    def restart(self):
        """Ends the daemon from time to time, gently or not, and starts it again."""
        while time.monotonic() < self.end - 5 and not self.failures:
            time.sleep(random.uniform(4, 10))
            if random.random() < 0.5:
                self.assertEqual(self.d.stop(), 0)
                self.figures["restarts"] += 1
            else:
                self.d.kill()
                self.figures["crashes"] += 1
            self.d.start()

    def test_nothing_that_is_held_is_lost(self):
        self.end = time.monotonic() + SECONDS
        threads = [threading.Thread(target=self.busy, args=(step,))
                   for step in (self.publish, self.publish, self.read, self.read, self.ask)]
        threads.append(threading.Thread(target=self.operate))
        for thread in threads:
            thread.start()
        self.restart()
        for thread in threads:
            thread.join()
        self.assertEqual(self.failures, [])
        self.the_end()

    def count(self, c, hashes):
        """How many of them are there."""
        return sum(kind != 0 for at in range(0, len(hashes), 4096) for kind, _ in c.keep(hashes[at:at + 4096], 0))

    def the_end(self):
        """What is held is there, what nothing keeps goes, and the store is sound."""
        c = self.client()
        for known in self.known.values():
            if known.root or known.until > time.monotonic() + SLACK:
                c.get(known.hash)
        time.sleep(max(0, max(k.until for k in self.known.values()) - time.monotonic()) + SLACK)
        for name in self.unanswered:
            try:
                self.d.admin("roots.remove", name=name)
            except AdminError as error:
                self.assertEqual(error.reason, "no_root")
        self.d.admin("gc.run")
        wait_until(lambda: all(job["state"] != "running" for job in self.d.admin("jobs.list")["jobs"]), "collection")
        rooted = [k.hash for k in self.known.values() if k.root]
        others = [k.hash for k in self.known.values() if not k.root]
        self.assertEqual(self.count(c, rooted), len(rooted))
        left = [h.hex() for h in others if c.keep([h], 0)[0][0] != 0]
        self.figures["gone"] = len(others) - len(left)
        self.assertEqual([self.d.admin("why", hash=h) for h in left[:2]], [], "what nothing keeps is collected")
        c.close()
        self.assertEqual(self.d.stop(), 0)
        checked = subprocess.run([CAPSTORED, "--state", str(self.d.state), "--check"], capture_output=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.figures["file_bytes_largest"] = max(size for size, _ in self.sizes)
        self.figures["body_bytes_largest"] = max(live for _, live in self.sizes)
        print(json.dumps(self.figures))
        for name in ("published", "read", "asked", "renewed", "rooted", "gone", "collections"):
            self.assertGreater(self.figures[name], 0, name)
        self.assertGreater(self.figures["restarts"] + self.figures["crashes"], 0)


if __name__ == "__main__":
    unittest.main()
