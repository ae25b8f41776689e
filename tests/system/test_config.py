"""The configuration of a daemon that runs: read again, judged, shown."""

import grp
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import unittest

from harness import AdminError, PAGE, START_SECONDS, SystemTest, content, wait_until


class Config(SystemTest):
    def write(self, text):
        """The configuration file, replaced at once; a dict is written one setting to a line."""
        if isinstance(text, dict):
            text = "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in text.items()) + "\n}\n"
        draft = self.root / "draft"
        draft.write_text(text)
        draft.rename(self.root / "config.json")

    def configured(self, text, *options, **more):
        self.write(text)
        return self.daemon("--config", str(self.root / "config.json"), *options, **more)

    @staticmethod
    def settings(d):
        return {setting["name"]: setting for setting in d.admin("config.get")["settings"]}

    def values(self, d):
        return {name: setting["value"] for name, setting in self.settings(d).items()}

    def hang_up(self, d, said):
        before = d.log().count(f" {said} ")
        d.process.send_signal(signal.SIGHUP)
        wait_until(lambda: d.log().count(f" {said} ") > before, said)

    def test_reload_changes_what_is_live(self):
        d = self.configured({"max-hashes": 2, "workers": 3, "log-level": "info"}, "--max-slots", "9")
        old = self.connect(d)
        with self.subTest("what the HELLO_REPLY said holds"):
            self.write({"max-hashes": 3, "max-slots": 5, "readers": 3, "workers": 4, "log-level": "debug"})
            self.assertEqual(d.admin("config.test"), {
                "changed": [{"name": "log-level", "from": "info", "to": "debug"},
                            {"name": "max-hashes", "from": "2", "to": "3"}],
                "restart_needed": [{"name": "workers", "from": "3", "to": "4"},
                                   {"name": "readers", "from": "8", "to": "3"}]})
            self.assertEqual(self.values(d)["max-hashes"], 2)
            done = self.ok(self.capctl(d, "config", "reload"))
            self.assertEqual([change["name"] for change in done["changed"]], ["log-level", "max-hashes"])
            self.assertRefuses("too_many_hashes", old.has, [bytes(32)] * 3)
            self.assertEqual(self.connect(d).has([bytes(32)] * 3), [0] * 3)
        self.assertIn('config_reloaded changed="log-level max-hashes" restart_needed="workers readers"', d.log())
        settings = self.settings(d)
        self.assertEqual((settings["max-hashes"]["source"], settings["max-hashes"]["line"]), ("file", 2))
        self.assertEqual((settings["max-slots"]["source"], settings["max-slots"]["value"]), ("command line", 9))
        self.assertEqual((settings["workers"]["value"], settings["workers"]["configured"]), (3, 4))
        self.assertIn("restart", settings["workers"]["note"])
        self.assertIsNone(settings["max-hashes"]["note"])

        with self.subTest("the signal does the same, and what is no longer said is the default again"):
            self.write({"workers": 3})
            self.hang_up(d, "config_reloaded")
            values = self.values(d)
            self.assertEqual((values["max-hashes"], values["log-level"], values["workers"]), (4096, "info", 3))
            self.assertEqual(d.figures()['capstore_setting{option="max-hashes"}'], 4096)
        with self.subTest("nothing to change"):
            self.assertEqual(d.admin("config.reload"), {"changed": [], "restart_needed": []})

    def test_a_bad_file_changes_nothing(self):
        d = self.configured({"max-hashes": 2})
        before = self.values(d)
        for text, reason in (
            ('{"max-hashes": 3,\n"max-slots": 0}', "line 2: max-slots: 0 is not between 1 and 65535"),
            ('{"max-hashes": 3,\n\n"colour": "red"}', "line 3: colour: unknown setting"),
            ('{"max-hashes": 3,\n"log-level"}', "line 2, column"),
            ('{"max-hashes": 3, "admin-group": "no such group"}', "admin-group: no group is called no such group"),
            ('{"max-hashes": 3, "listen-mode": "9"}', "line 1: listen-mode: '9' is not valid"),
            ("", "line 1, column"),
        ):
            with self.subTest(text):
                self.write(text)
                for method in ("config.test", "config.reload"):
                    with self.assertRaises(AdminError) as caught:
                        d.admin(method)
                    self.assertEqual(caught.exception.reason, "invalid_argument")
                    self.assertIn(reason, str(caught.exception))
                self.hang_up(d, "config_not_reloaded")
                self.assertIn(reason, d.log().splitlines()[-1])
                self.assertEqual(self.values(d), before)
        (self.root / "config.json").unlink()
        tool = self.capctl(d, "config", "reload", json_output=False)
        self.assertStatus(tool, 1)
        self.assertRegex(tool.stderr, "cannot read .*config.json: No such file")
        self.assertEqual(self.values(d), before)
        self.assertUsable(self.connect(d))

    def capctl(self, d, *arguments, **options):
        return d.capctl("--admin", f"unix:{d.admin_path}", *arguments, **options)

    def test_without_a_file(self):
        d = self.daemon()
        self.hang_up(d, "config_not_reloaded")
        with self.assertRaises(AdminError) as caught:
            d.admin("config.reload")
        self.assertEqual(caught.exception.reason, "not_configured")
        self.assertIn("--config FILE", str(caught.exception))
        self.assertIsNone(d.admin("config.get")["file"])
        self.assertUsable(self.connect(d))
        self.assertEqual(d.stop(), 0)

    def test_log_set_until_the_next_reload(self):
        d = self.configured({"log-level": "warning"})
        d.admin("log.set", level="debug")
        setting = self.settings(d)["log-level"]
        self.assertEqual((setting["value"], setting["configured"], setting["note"]), ("debug", "warning", "log.set changed it"))
        self.assertEqual(d.admin("config.reload")["changed"], [{"name": "log-level", "from": "debug", "to": "warning"}])
        self.assertEqual(self.values(d)["log-level"], "warning")

    def test_the_tool(self):
        d = self.configured({"max-hashes": 2})
        shown = self.capctl(d, "config", json_output=False).stdout.decode()
        sources = {line.split(" ")[0]: line.rfind("default") for line in shown.splitlines() if line.endswith(" default")}
        self.assertEqual(set(sources.values()), {shown.splitlines()[0].index("SOURCE")}, "in one column")
        self.assertRegex(shown, r"(?m)^max-hashes +2 +file line 2$")
        self.assertRegex(shown, r"(?m)^max-upload +1073741824 +default$")
        self.assertRegex(shown, r"(?m)^listen +\S+ +command line$")
        self.write({"max-hashes": 4, "workers": 5})
        self.assertEqual(self.capctl(d, "config", "test", json_output=False).stdout.decode(),
                         "max-hashes: 2 -> 4\nworkers: 4 -> 5 (needs a restart: unchanged)\n")
        self.assertEqual(self.capctl(d, "config", "reload", json_output=False).status, 0)
        self.assertEqual(self.capctl(d, "config", "reload", json_output=False).stdout.decode(),
                         "nothing changes\nworkers: 4 -> 5 (needs a restart: unchanged)\n")
        shown = self.capctl(d, "config", json_output=False).stdout.decode()
        self.assertRegex(shown, r"(?m)^workers +4 +file line 3; configured: 5, a restart brings the configured value$")
        self.assertEqual(self.capctl(d, "config", "burn").status, 2)

    def test_limits_of_clients_keep_to_the_file_descriptors(self):
        self.write({"max-connections": 50})
        d = self.daemon("--config", str(self.root / "config.json"), start=False)
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(["prlimit", "--nofile=300:300", *d.command()], stdout=log, stderr=log)
        wait_until(d.ready, "the daemon to answer")
        self.write({"max-connections": 5000, "max-peer-connections": 4000})
        d.admin("config.reload")
        setting = self.settings(d)["max-connections"]
        self.assertLess(setting["value"], 300)
        self.assertEqual((setting["configured"], setting["source"]), (5000, "file"))
        self.assertIn("file descriptors", setting["note"])
        self.assertEqual(d.figures()["capstore_connections_limit"], setting["value"])

    @unittest.skipIf(os.geteuid() != 0, "only root may give a socket to any group")
    def test_the_operators_change(self):
        nogroup = grp.getgrgid(65534).gr_name
        d = self.configured({})
        self.assertEqual(stat.S_IMODE(d.admin_path.stat().st_mode), 0o600)
        self.write({"admin-group": nogroup})
        self.assertEqual(d.admin("config.reload")["changed"], [{"name": "admin-group", "from": "", "to": nogroup}])
        found = d.admin_path.stat()
        self.assertEqual((stat.S_IMODE(found.st_mode), found.st_gid), (0o660, 65534))
        self.root.chmod(0o755)
        d.root.chmod(0o755)
        ask = ["setpriv", "--reuid=65533", "--regid=65534", "--clear-groups", "socat", "-t", "30", "-",
               f"UNIX-CONNECT:{d.admin_path}"]
        hello = b'{"jsonrpc": "2.0", "id": 1, "method": "hello"}\n'
        answer = subprocess.run(ask, input=hello, capture_output=True, timeout=60, check=True).stdout
        self.assertEqual(json.loads(answer)["result"]["level"], "operate")
        self.write({})
        d.admin("config.reload")
        self.assertEqual(stat.S_IMODE(d.admin_path.stat().st_mode), 0o600)
        d.admin_path.chmod(0o666)
        answer = subprocess.run(ask, input=hello, capture_output=True, timeout=60, check=True).stdout
        self.assertEqual(json.loads(answer)["result"]["level"], "observe")

    def test_systemd_is_told(self):
        self.write({})
        d = self.daemon("--config", str(self.root / "config.json"), start=False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(self.root / "notify"))
            notify.settimeout(START_SECONDS)
            environment = dict(os.environ, NOTIFY_SOCKET=str(self.root / "notify"))
            with open(d.log_path, "ab") as log:
                d.process = subprocess.Popen(d.command(), stdout=log, stderr=log, env=environment)
            self.assertIn(b"READY=1", notify.recv(4096))
            for text, said in (("{}", "STATUS=Serving"), ("{\n[", "STATUS=Serving; configuration not reloaded: ")):
                self.write(text)
                d.process.send_signal(signal.SIGHUP)
                self.assertRegex(notify.recv(4096).decode(), r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
                told = notify.recv(4096).decode().splitlines()
                self.assertEqual(told[0], "READY=1")
                self.assertTrue(told[1].startswith(said), told)

    def test_under_load(self):
        """Clients publish and fetch while every limit changes again and again; nobody is refused for it."""
        tight = {"max-upload": 1 << 20, "max-hashes": 16, "max-requests": 8, "max-memory": 32 << 20, "max-output": 4096,
                 "max-buffers": 1 << 20, "max-peer-hashing": 100, "disk-reserve": 0, "progress-ms": 60000,
                 "max-spool": 64 << 20, "log-level": "error"}
        wide = {"log-level": "info", "max-peer-requests": 4096, "peer-prefix6": 48}
        d = self.configured(wide, "--threads", "2")
        stop = threading.Event()
        failures = []
        done = [0] * 4

        def client(number):
            try:
                while not stop.is_set():
                    with d.connect() as c:
                        for turn in range(8):
                            body = content(f"{number}/{done[number]}", 3 * PAGE)
                            cap_hash = c.put_data(body)["cap_hash"]
                            if c.has([cap_hash] * 16) != [2] * 16:
                                raise AssertionError(f"published and absent: {cap_hash.hex()}")
                            done[number] += 1
            except Exception as error:  # whatever ends a client is the test's failure
                failures.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(done))]
        for thread in threads:
            thread.start()
        try:
            for turn in range(40):
                self.write(tight if turn % 2 == 0 else wide)
                if turn % 4 < 2:
                    d.admin("config.reload")
                else:
                    d.process.send_signal(signal.SIGHUP)
                d.admin("config.get")
            wait_until(lambda: failures or min(done) >= 40, "clients to get on", 120)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(d.stop(), 0)


if __name__ == "__main__":
    unittest.main()
