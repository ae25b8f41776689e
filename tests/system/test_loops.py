"""Several threads serve clients: to a client, an operator and a limit they are one daemon."""

import signal
import threading
import unittest

import wire
from harness import START_SECONDS, SystemTest, content, wait_until
from protocol import END, Closed

THREADS = 3
CLIENTS = 4 * THREADS


class Loops(SystemTest):
    def setUp(self):
        super().setUp()
        self.d = self.daemon("--threads", str(THREADS), start=False)

    def start(self, *options):
        self.d.options += options
        self.d.start()

    def connect_all(self):
        """As many connections on each loop."""
        clients = [self.connect(self.d) for _ in range(CLIENTS)]
        self.assertEqual([loop["sessions"] for loop in self.d.admin("loops.list")["loops"]], [CLIENTS // THREADS] * THREADS)
        return clients

    def begin_uploads(self, clients):
        """Half an upload on each: what is left to send, and its id."""
        begun = []
        for number, client in enumerate(clients):
            body = content(f"upload {number}", 100000)
            request_id = client.request("PUT_DATA", flags=0, size=0, total_len=len(body))
            client.send_frame("BODY", request_id, body[:50000])
            begun.append((request_id, body))
        wait_until(lambda: self.d.admin("status")["uploads"]["in_flight"] == len(clients), "the uploads to begin")
        return begun

    def drain(self):
        self.d.process.send_signal(signal.SIGTERM)
        wait_until(lambda: self.d.admin("status")["phase"] == "draining", "the drain to begin")

    def test_uploads_that_arrive_together(self):
        """Many connections have more to be received at once than one receive takes."""
        self.d.options = ["--threads", "1"]
        self.start()
        bodies = [content(f"together {number}", 1500000) for number in range(12)]

        def publish(body):
            with self.d.connect() as client:
                for piece in body[:-1], body:
                    client.put_data(piece)

        threads = [threading.Thread(target=publish, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self.d.connect() as client:
            for body in bodies:
                self.assertFalse(client.put_data(body)["is_new"])

    def test_each_serves(self):
        self.start()
        clients = self.connect_all()
        hashes = []
        for number, client in enumerate(clients):
            body = content(f"body {number}", 30000)
            hashes.append(client.put_data(body)["cap_hash"])
            self.assertEqual(wire.data_content(client.get(hashes[-1])[1])[:len(body)], body)
        for client in clients:
            self.assertEqual(client.has(hashes), [2] * CLIENTS)
            self.assertRefuses("not_found", client.stat, bytes(32))
        figures = self.d.figures()
        for series, count in (('capstore_requests_total{type="has"}', CLIENTS), ("capstore_connections", CLIENTS),
                              ("capstore_connections_accepted_total", CLIENTS),
                              ("capstore_caps_published_total", CLIENTS), ("capstore_refusals_total", CLIENTS),
                              ("capstore_fetch_seconds_count", CLIENTS)):
            self.assertEqual(figures[series], count, series)
        self.assertEqual(self.d.admin("status")["threads"], {"count": THREADS, "responding": THREADS})
        self.assertTrue(all(loop["responds"] for loop in self.d.admin("loops.list")["loops"]))
        self.assertEqual(self.d.stop(), 0)

    def test_what_one_knows_the_others_need_not_look_up(self):
        self.start()
        clients = self.connect_all()
        known = clients[0].put_data(content("known", 5000))["cap_hash"]
        clients[0].get(known)  # it is noted after this is answered, and before the next
        for client in clients:
            client.get(known)
        figures = self.d.figures()
        self.assertEqual((figures["capstore_records_missed_total"], figures["capstore_records_used_total"]),
                         (1, CLIENTS))

    def test_new_connections_go_where_there_are_fewest(self):
        self.start()
        clients = self.connect_all()
        for client in clients[::THREADS]:  # all of one loop
            client.close()
        wait_until(lambda: self.d.admin("status")["sessions"]["open"] == CLIENTS - CLIENTS // THREADS, "them to leave")
        for _ in range(CLIENTS // THREADS):
            self.connect(self.d)
        self.assertEqual([loop["sessions"] for loop in self.d.admin("loops.list")["loops"]], [CLIENTS // THREADS] * THREADS)

    def test_clients_list_is_complete(self):
        self.start()
        self.connect_all()
        whole = self.d.admin("clients.list")
        numbers = [client["session"] for client in whole["clients"]]
        self.assertEqual((len(set(numbers)), whole["cursor"]), (CLIENTS, None))
        self.assertEqual(numbers, sorted(numbers))
        for limit in (1, 5, CLIENTS - 1, CLIENTS):
            paged, cursor = [], 0
            while cursor is not None:
                page = self.d.admin("clients.list", limit=limit, cursor=cursor)
                self.assertLessEqual(len(page["clients"]), limit)
                paged += [client["session"] for client in page["clients"]]
                cursor = page["cursor"]
            self.assertEqual(paged, numbers, limit)

    def test_limits_are_of_all(self):
        self.start("--max-connections", str(CLIENTS), "--max-peer-connections", str(CLIENTS), "--max-uploads",
                   str(THREADS), "--max-peer-uploads", str(THREADS))
        clients = self.connect_all()
        self.assertEnds(self.connect(self.d, hello=False), "too_many_connections")
        self.begin_uploads(clients[:THREADS])
        for client in clients[THREADS:]:
            self.assertIn("max-", self.assertRefuses("spool_full", client.put_data, b"one more").message)

    def test_the_log_level_is_of_all(self):
        self.start()
        self.d.admin("log.set", level="debug")
        for client in self.connect_all():
            client.close()
        wait_until(lambda: self.d.log().count(" debug session_closed ") == CLIENTS, "each loop's lines")

    def test_drain(self):
        """Uploads in flight on every loop are finished; who has nothing in flight is told and closed."""
        self.start()
        clients = self.connect_all()
        busy, idle = clients[:CLIENTS // 2], clients[CLIENTS // 2:]
        begun = self.begin_uploads(busy)
        self.drain()
        for client in idle:
            self.assertEnds(client, "draining")
        hashes = []
        for client, (request_id, body) in zip(busy, begun):
            self.assertRefuses("draining", client.has, [])
            client.send_frame("BODY", request_id, body[50000:], END)
            hashes.append((client.wait(request_id, "PUT_DATA_REPLY")["cap_hash"], body))
            self.assertEnds(client, "draining")
        self.assertEqual(self.d.process.wait(START_SECONDS), 0)
        self.assertIn(" info drained", self.d.log())
        self.d.start()
        client = self.connect(self.d)
        for cap_hash, body in hashes:
            self.assertEqual(wire.data_content(client.get(cap_hash)[1])[:len(body)], body)

    def test_a_second_signal_ends_at_once(self):
        self.start("--drain-ms", "3600000")
        clients = self.connect_all()
        self.begin_uploads(clients)
        self.drain()
        self.d.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.d.process.wait(START_SECONDS), 0)
        for client in clients:
            self.assertRaises(Closed, client.recv_frame)

    def test_the_bound_of_a_drain(self):
        self.start("--drain-ms", "300")
        clients = self.connect_all()
        self.begin_uploads(clients)
        self.assertEqual(self.d.stop(), 0)
        self.assertIn(f" warning drain_incomplete connections={CLIENTS} uploads={CLIENTS}", self.d.log())

    def test_many_uploads_at_once(self):
        """They share the buffers on their way to the disk: one loop's make room for another's."""
        self.start("--max-buffers", "1M")
        clients = self.connect_all()
        body = content("shared", 3 << 20)
        ids = [client.request("PUT_DATA", flags=0, size=0, total_len=len(body)) for client in clients]
        for at in range(0, len(body), 1 << 17):
            flags = END if at + (1 << 17) >= len(body) else 0
            for client, request_id in zip(clients, ids):
                client.send_frame("BODY", request_id, body[at:at + (1 << 17)], flags)
        self.assertEqual(len({client.wait(request_id, "PUT_DATA_REPLY")["cap_hash"]
                              for client, request_id in zip(clients, ids)}), 1)
        for client in clients:
            client.close()
        wait_until(self.d.holds_nothing, "everything to be given back")


if __name__ == "__main__":
    unittest.main()
