"""What was deleted is not served any more, whatever each thread of the daemon has remembered of it."""

import threading
import unittest

from harness import LONG, SystemTest, content
from protocol import Refused

THREADS = 3
CLIENTS = 2 * THREADS
SIZES = (100, 4000, 9000, 50000, 3000000)


class Fetcher(threading.Thread):
    """Asks for all caps again and again; notes what it got of one that it knew to be deleted."""

    def __init__(self, test):
        super().__init__()
        self.test = test
        self.rounds = 0
        self.wrong = []
        self.error = None

    def ask(self, connection, cap_hash):
        """Whether it is there, in three ways."""
        yield "HAS", connection.has([cap_hash])[0] != 0
        for name, call in (("STAT", connection.stat), ("GET", connection.get)):
            try:
                call(cap_hash)
                yield name, True
            except Refused as refused:
                assert refused.name == "not_found", refused
                yield name, False

    def run(self):
        try:
            with self.test.d.connect() as connection:
                while not self.test.over.is_set():
                    for cap_hash in self.test.hashes:
                        gone = cap_hash in self.test.deleted  # before anything is asked
                        answers = list(self.ask(connection, cap_hash))
                        self.wrong += [(name, cap_hash.hex()) for name, there in answers if gone and there]
                    self.rounds += 1
        except Exception as error:  # pylint: disable=broad-except; the test's own thread tells
            self.error = error


class Gone(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon("--threads", str(THREADS))
        self.over = threading.Event()
        self.deleted = set()
        self.hashes = []

    def publish(self, connection, seed):
        bodies = [content(f"gone {seed} {size}", size) for size in SIZES]
        return [bytes(connection.put_data(body)["cap_hash"]) for body in bodies]

    def test_deleted_while_it_is_fetched(self):
        with self.d.connect() as connection:
            for seed in range(4 if LONG else 2):
                self.hashes += self.publish(connection, seed)
        fetchers = [Fetcher(self) for _ in range(CLIENTS)]
        for fetcher in fetchers:
            fetcher.start()
        try:
            for cap_hash in self.hashes:
                rounds = [fetcher.rounds for fetcher in fetchers]
                self.d.admin("cap.delete", hash=cap_hash.hex(), force=True)
                self.deleted.add(cap_hash)
                while any(f.is_alive() and f.rounds < at + 2 for f, at in zip(fetchers, rounds)):
                    self.over.wait(0.01)
        finally:
            self.over.set()
            for fetcher in fetchers:
                fetcher.join()
        for fetcher in fetchers:
            self.assertIsNone(fetcher.error)
            self.assertEqual(fetcher.wrong, [])


if __name__ == "__main__":
    unittest.main()
