"""Backup, restore and compaction while clients publish and fetch; across kills, damage and full disks."""

import random
import re
import subprocess
import threading
import time
import unittest

import harness
import protocol
import wire
from harness import LONG, AdminError, SystemTest, content, wait_until

NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z")
SOUND = 0
GET_MANY = 2  # the feature's bit


class Client(threading.Thread):
    """Turns on a connection of its own until it is told to stop; what was unexpected is in `trouble`."""

    def __init__(self, daemon, number):
        super().__init__()
        self.daemon, self.number = daemon, number
        self.ending = False
        self.turns = 0
        self.trouble = []

    def run(self):
        try:
            with self.daemon.connect(hello=False, timeout=120) as client:
                client.hello(features=GET_MANY)
                while not self.ending:
                    self.turn(client)
                    self.turns += 1
        except (OSError, protocol.Closed) as error:
            if not self.ending:
                self.trouble.append(error)
        except Exception as error:  # pylint: disable=broad-except
            self.trouble.append(error)

    def turn(self, client):
        raise NotImplementedError


class Publisher(Client):
    """Publishes caps of many lengths; `acknowledged` names them in their order."""

    def __init__(self, daemon, number, label="p"):
        super().__init__(daemon, number)
        self.label = label
        self.acknowledged = []

    def turn(self, client):
        seed = f"{self.label}/{self.number}/{self.turns}"
        length = random.Random(seed).choice((10, 700, 4096, 9000, 70000, 1500000))
        self.acknowledged.append((client.put_data(content(seed, length))["cap_hash"], seed, length))


class Fetcher(Client):
    """Fetches known small caps again and again, one by one and many at once."""

    def __init__(self, daemon, number, known):
        super().__init__(daemon, number)
        self.known = known

    def turn(self, client):
        cap_hash, body = random.choice(self.known)
        if wire.data_content(client.get(cap_hash)[1])[:len(body)] != body:
            self.trouble.append(f"a wrong body of {cap_hash.hex()}")
        some = random.sample(self.known, 8)
        for (_, wanted), (_, got) in zip(some, client.get_many([known[0] for known in some])):
            if wire.data_content(got)[:len(wanted)] != wanted:
                self.trouble.append("a wrong body among many")


class BackupTest(SystemTest):

    def keeper(self, *options, name="d", **kwargs):
        """A daemon with a directory for backups."""
        self.backups = self.root / "backups"
        self.backups.mkdir(exist_ok=True)
        return self.daemon("--backup-dir", str(self.backups), "--backup-rate", "0", "--map-size", "4G", *options, name=name, **kwargs)

    def job(self, d, method, wait=True):
        """Starts a job; its outcome once it has ended."""
        self.seen = len(d.log())  # the numbers begin anew with the daemon
        number = d.admin(method)["job"]
        return self.outcome(d, number) if wait else number

    def ended(self, d, number):
        return re.search(rf"job_ended job={number} .*outcome=(\w+).*", d.log()[self.seen:])

    def outcome(self, d, number):
        wait_until(lambda: self.ended(d, number), f"job {number} to end", 120)
        found = self.ended(d, number)
        self.last_line = found.group(0)
        return found.group(1)

    def run_clients(self, *clients):
        for client in clients:
            client.start()
        self.addCleanup(self.end_clients, *clients)
        return clients

    def end_clients(self, *clients):
        for client in clients:
            client.ending = True
        for client in clients:
            client.join(120)
            self.assertEqual(client.trouble, [])

    def publish(self, d, count, label):
        """Small caps; (hash, content) of each."""
        with d.connect() as client:
            bodies = [content(f"{label}/{i}", 50 + 37 * i % 6000) for i in range(count)]
            return [(client.put_data(body)["cap_hash"], body) for body in bodies]

    def assertSound(self, state):
        checked = subprocess.run([harness.CAPSTORED, "--check", "--state", str(state)], capture_output=True,
                                 text=True, timeout=300, check=False)
        self.assertEqual(checked.returncode, SOUND, checked.stdout + checked.stderr)

    def assertHolds(self, d, acknowledged):
        with d.connect() as client:
            for cap_hash, seed, length in acknowledged:
                body = wire.data_content(client.get(cap_hash)[1])
                self.assertEqual(body[:length], content(seed, length))

    # --- Backup -----------------------------------------------------------------------------------

    def test_restore_of_a_backup_made_while_clients_publish(self):
        d = self.keeper()
        publishers = self.run_clients(*(Publisher(d, number) for number in range(3)))
        wait_until(lambda: all(p.turns > 5 for p in publishers), "publications")
        before = [cap for p in publishers for cap in list(p.acknowledged)]
        self.assertEqual(self.job(d, "backup.start"), "done", d.log()[-2000:])
        self.end_clients(*publishers)
        listed = d.admin("backup.list")
        self.assertEqual(listed["dir"], str(self.backups))
        [backup] = listed["backups"]
        self.assertTrue(NAME.fullmatch(backup["name"]) and backup["verified"])
        self.assertGreater(backup["bytes"], 0)
        status = d.admin("status")["backups"]
        self.assertEqual((status["verified"], status["failed"]), (1, False))
        self.assertLess(status["age_ms"], 120000)
        figures = d.figures()
        self.assertEqual((figures["capstore_backups"], figures["capstore_backup_failed"]), (1, 0))
        self.assertGreater(figures["capstore_backup_age_seconds"], 0)
        self.assertSound(self.backups / backup["name"])

        restored = self.daemon(name="r", start=False)
        restored.state = self.backups / backup["name"]
        restored.start()
        self.assertEqual(restored.admin("hello")["store_id"], d.admin("hello")["store_id"])
        self.assertHolds(restored, before)
        more = self.publish(restored, 20, "after")
        with restored.connect() as client:
            self.assertEqual(client.get(more[0][0])[0]["kind"], 2)
        # A backup that a daemon uses is not removed, however old it is.
        for _ in range(4):
            self.assertEqual(self.job(d, "backup.start"), "done")
        self.assertIn(backup["name"], [other["name"] for other in d.admin("backup.list")["backups"]])
        self.assertIn("backup_not_removed", d.log())
        self.assertEqual(restored.stop(), 0)
        self.assertSound(self.backups / backup["name"])

    def test_the_oldest_go(self):
        d = self.keeper("--backup-keep", "2")
        self.publish(d, 50, "a")
        names = []
        (self.backups / "20200101T000000.000Z.new").mkdir()
        (self.backups / "20200101T000000.000Z.new" / "leftover").write_text("x")
        (self.backups / "not ours").mkdir()
        for _ in range(4):
            self.assertEqual(self.job(d, "backup.start"), "done")
            names.insert(0, d.admin("backup.list")["backups"][0]["name"])
        self.assertEqual([backup["name"] for backup in d.admin("backup.list")["backups"]], names[:2])
        self.assertEqual(sorted(path.name for path in self.backups.iterdir()), [*sorted(names[:2]), "not ours"])
        d.stop()
        d.start()  # the list is what is there
        self.assertEqual([backup["name"] for backup in d.admin("backup.list")["backups"]], names[:2])

    def test_a_damaged_store_costs_no_sound_backup(self):
        d = self.keeper("--backup-keep", "1")
        known = self.publish(d, 50, "a")
        with d.connect() as client:
            marked = content("marked", 50000)
            client.put_data(marked)
        self.assertEqual(self.job(d, "backup.start"), "done")
        sound = d.admin("backup.list")["backups"][0]["name"]
        d.stop()
        path = d.state / "store" / "store.lmdb"
        data = bytearray(path.read_bytes())
        at = data.find(marked[20000:20512])
        self.assertGreater(at, 0)
        while at >= 0:
            data[at] ^= 1
            at = data.find(marked[20000:20512])
        path.write_bytes(data)
        d.start()
        for _ in range(3):
            self.assertEqual(self.job(d, "backup.start"), "failed")
            self.assertIn("error=corrupt", self.last_line)
        listed = d.admin("backup.list")["backups"]
        self.assertEqual([(b["verified"], b["name"] == sound) for b in listed], [(False, False), (True, True)])
        self.assertIn("body", (self.backups / listed[0]["name"] / "findings").read_text())
        self.assertTrue(d.admin("status")["backups"]["failed"])
        self.assertEqual(d.figures()["capstore_backup_failed"], 1)
        with d.connect() as client:
            self.assertEqual(client.has([known[0][0]]), [2])

    def test_refused_by_name(self):
        d = self.daemon()
        with self.assertRaises(AdminError) as caught:
            d.admin("backup.start")
        self.assertEqual(caught.exception.reason, "not_configured")
        self.assertEqual(d.admin("backup.list"), {"dir": None, "backups": []})
        e = self.daemon("--backup-dir", str(self.root / "nowhere"), name="e")
        self.assertIn("no_backup_dir", e.log())
        self.assertEqual(self.job(e, "backup.start"), "failed")
        self.assertIn("No such file", self.last_line)
        f = self.keeper("--disk-reserve", "60T", name="f")
        for method in "backup.start", "compact.start":
            self.assertEqual(self.job(f, method), "failed")
            self.assertRegex(self.last_line, r"error=disk_full.*need \d+ bytes, have 0")
        self.assertEqual(list(self.backups.iterdir()), [])

    def test_stopped_in_the_middle(self):
        d = self.keeper("--backup-rate", "1M")
        with d.connect() as client:
            for i in range(10):
                client.put_data(content(f"large {i}", 2000000))
        number = self.job(d, "backup.start", wait=False)
        wait_until(lambda: any(self.backups.iterdir()), "the copy to begin")
        with self.assertRaises(AdminError) as caught:
            d.admin("backup.start")
        self.assertEqual(caught.exception.reason, "job_running")
        self.assertEqual(d.stop(), 0)
        self.assertEqual(self.outcome(d, number), "cancelled")
        self.assertEqual(list(self.backups.iterdir()), [])

    # --- The tool ---------------------------------------------------------------------------------

    def tool(self, d, *words, **options):
        return harness.capctl("--admin", f"unix:{d.admin_path}", *words, **options)

    def test_the_tool(self):
        d = self.keeper()
        self.publish(d, 50, "a")
        shown = self.assertStatus(self.tool(d, "backup", "list", json_output=False), 0)
        self.assertEqual(shown.stdout.decode(), f"{self.backups}\nno backup\n")
        made = self.ok(self.tool(d, "backup"))
        self.assertEqual((made["kind"], made["state"], made["percent"], made["phase"]), ("backup", "done", 100, ""))
        self.assertGreater(made["done"], 50)
        self.assertIn("verified", made["message"])
        shown = self.assertStatus(self.tool(d, "backup", json_output=False), 0)
        self.assertRegex(shown.stdout.decode(), r"^\d{8}T\d{6}\.\d{3}Z: \d+ bytes, verified\n$")
        self.assertEqual(self.ok(self.tool(d, "backup", "list")), d.admin("backup.list"))
        lines = self.tool(d, "backup", "list", json_output=False).stdout.decode().splitlines()
        self.assertEqual(lines[1].split(), ["NAME", "MADE", "SIZE", "VERIFIED"])
        self.assertRegex(lines[2], r"^\d{8}T\d{6}\.\d{3}Z +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +[\d.]+ .iB +yes$")
        shown = self.assertStatus(self.tool(d, "compact", json_output=False), 0)
        self.assertRegex(shown.stdout.decode(), r"^the file has \d+ bytes, and had \d+\n$")
        done = self.ok(self.tool(d, "compact"))
        self.assertEqual((done["state"], done["percent"], done["phase"]), ("done", 100, ""))
        self.assertGreater(done["done"], 50)
        for words in ["backup", "all"], ["backup", "list", "x"], ["compact", "x"]:
            self.assertStatus(self.tool(d, *words), 2)

    def test_the_tool_tells_why_not(self):
        d = self.daemon()
        self.refused(self.tool(d, "backup"), "not_configured")
        self.assertIn("--backup-dir", self.tool(d, "backup").json["message"])
        shown = self.assertStatus(self.tool(d, "backup", "list", json_output=False), 0)
        self.assertEqual(shown.stdout, b"backup-dir is not set\n")
        e = self.keeper("--disk-reserve", "60T", name="e")
        for command in "backup", "compact":
            failed = self.assertStatus(self.tool(e, command), 1).json
            self.assertEqual((failed["state"], failed["reason"]), ("failed", "disk_full"))
            failed = self.assertStatus(self.tool(e, command, json_output=False), 1)
            self.assertRegex(failed.stderr, r"failed: not enough room .*: need \d+ bytes, have 0")

    # --- Compaction -------------------------------------------------------------------------------

    def test_compaction_under_load(self):
        d = self.keeper("--threads", "2")
        known = self.publish(d, 400, "known")
        publishers = [Publisher(d, number) for number in range(2)]
        fetchers = [Fetcher(d, number, known) for number in range(4)]
        clients = self.run_clients(*publishers, *fetchers)
        for _ in range(4):
            turns = [client.turns for client in clients]
            self.assertEqual(self.job(d, "compact.start"), "done", d.log()[-2000:])
            self.assertIn("bytes, and had", self.last_line)
            wait_until(lambda: all(c.turns > t or c.trouble for c, t in zip(clients, turns)), "every client to go on", 120)
        self.end_clients(*clients)
        before = d.admin("status")["file_bytes"]
        self.assertEqual(self.job(d, "compact.start"), "done")
        self.assertLess(d.admin("status")["file_bytes"], before)
        deleted = subprocess.run(["ls", "-l", f"/proc/{d.process.pid}/fd"], capture_output=True, text=True,
                                 check=True).stdout
        self.assertNotIn("store.lmdb (deleted)", deleted)
        self.assertEqual(d.admin("status")["writer_held_ms"], 0)
        self.assertHolds(d, [cap for p in publishers for cap in p.acknowledged])
        self.assertEqual(d.stop(), 0)
        self.assertSound(d.state)

    def test_publications_wait_and_reads_do_not(self):
        d = self.keeper("--progress-ms", "100")  # a client is not at fault when it waits for the writer
        known = self.publish(d, 50, "known")
        with d.connect() as client:
            for i in range(60):
                client.put_data(content(f"large {i}", 2000000))
        number = self.job(d, "compact.start", wait=False)
        held = 0
        with d.connect(timeout=120) as writer, d.connect() as reader:
            request = writer.request("PUT_DATA", flags=0, size=0, total_len=3)
            writer.send_body(request, b"abc")
            while not self.ended(d, number):
                status = d.admin("status")
                held = max(held, status["writer_held_ms"])
                reader.get(random.choice(known)[0])
            self.assertTrue(writer.wait(request, "PUT_DATA_REPLY")["is_new"])
        self.assertEqual(self.outcome(d, number), "done")
        self.assertGreater(held, 0)

    def test_killed_at_any_moment(self):
        d = self.keeper()
        known = self.publish(d, 200, "known")
        with d.connect() as client:
            for i in range(10):
                client.put_data(content(f"large {i}", 2000000))
        rng = random.Random(1)
        acknowledged = []
        for rounds in range(60 if LONG else 8):
            publisher = Publisher(d, rounds, "k")
            publisher.start()
            d.admin("compact.start")
            if rounds % 2:
                d.admin("backup.start")
            time.sleep(rng.uniform(0.0, 0.6))
            publisher.ending = True
            d.kill()
            publisher.join()
            acknowledged += publisher.acknowledged
            d.start()
            self.assertFalse((d.state / "store" / "store.lmdb.new").exists())
        self.assertHolds(d, acknowledged)
        with d.connect() as client:
            self.assertEqual(client.has([cap_hash for cap_hash, _ in known]), [2] * len(known))
        def clean():  # the check of a daemon that was killed may go on for a while in what it checks
            self.assertEqual(self.job(d, "backup.start"), "done")
            return all(NAME.fullmatch(path.name) for path in self.backups.iterdir())

        wait_until(clean, "leftovers to be removed")
        self.assertEqual(d.stop(), 0)
        self.assertSound(d.state)


if __name__ == "__main__":
    unittest.main(verbosity=2)
