#!/usr/bin/env python3
"""The Debian packages, made and installed: packages.py CMAKE BUILD SOURCE

cpack makes them of a build. Then a Debian is made with debootstrap from the mirror that apt uses here,
with nothing in it but what the packages depend on, and started with systemd as PID 1 in namespaces of
its own: there they are installed, used, removed and purged. What cannot be done here is skipped with
the reason. CAPSTORE_TEST_LONG=1 also builds a program against the development package.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

CMAKE, BUILD, SOURCE = sys.argv[1:4] if len(sys.argv) >= 4 else ("", "", "")
LONG = os.environ.get("CAPSTORE_TEST_LONG") == "1"
NAMES = ("capctl", "capstored", "libcapstore-dev", "libcapstore0", "python3-capstore")
UNITS = ("capstored.socket", "capstored-admin.socket", "capstored.service")
STATE = "var/lib/capstore"

# systemd as PID 1 of a Debian in $1, whose mounts die with their namespace; $2 is a cgroup of its own.
BOOT = """
set -e
echo 0 >"$2/cgroup.procs"
mount --bind "$1" "$1"
mount --make-rprivate "$1"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for node in null zero full random urandom tty; do
    touch "$1/dev/$node"
    mount --bind "/dev/$node" "$1/dev/$node"
done
mkdir "$1/dev/pts" "$1/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
exec unshare --cgroup sh -c '
    mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
    exec chroot "$0" env -i container=capstore PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=multi-user.target --show-status=no --log-target=null' "$1"
"""


def run(*command, **options):
    """What the command printed. It must succeed."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout[-8000:]}")
    return done.stdout


def mirror():
    """The URL and the release of the Debian that apt here takes its packages from."""
    release = re.search(r"(?m)^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text()).group(1)
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages")
    for line in listed.splitlines():
        url, codename, component = line.split()
        if codename == release and component == "main":
            return url, release
    raise unittest.SkipTest("apt names no mirror of this Debian")


def first_choices(depends):
    """The packages in a Depends field that are not ours: of alternatives the first."""
    names = [re.match(r"\s*([a-z0-9.+-]+)", clause).group(1) for clause in depends.split(",") if clause.strip()]
    return [name for name in names if name not in NAMES]


def cgroups():
    """Where the second version of cgroups is mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(place)
    raise unittest.SkipTest("systemd cannot be started: no writable cgroup2 is mounted here")


@contextlib.contextmanager
def booted(root):
    """Runs commands in the Debian in `root`, under its systemd."""
    group = cgroups() / f"capstore-test-{os.getpid()}"
    group.mkdir()
    init = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child",
                             "sh", "-c", BOOT, "sh", root, group], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        inside = enter(init)
        state = ""
        for _ in range(300):
            state = subprocess.run([*inside, "systemctl", "is-system-running"], capture_output=True, text=True,
                                   check=False).stdout.strip()
            if state in ("running", "degraded"):
                break
            if init.poll() is not None:
                raise unittest.SkipTest(f"systemd cannot be started here: {init.stdout.read().decode().strip()}")
            time.sleep(0.1)
        else:
            raise unittest.SkipTest(f"systemd did not come up here: {state}")
        yield inside
    finally:
        init.kill()
        init.wait()
        init.stdout.close()
        remove_group(group)


def enter(init):
    """A prefix for commands: into the namespaces of what `init` has started, at its root."""
    children = Path(f"/proc/{init.pid}/task/{init.pid}/children")
    for _ in range(300):
        with contextlib.suppress(FileNotFoundError):
            started = children.read_text().split()
            if started and "systemd" in Path(f"/proc/{started[0]}/comm").read_text():
                return ["nsenter", "-t", started[0], "-a", "-r", "-w"]
        if init.poll() is not None:
            break
        time.sleep(0.1)
    init.kill()
    raise unittest.SkipTest(f"systemd cannot be started here: {init.stdout.read().decode().strip()}")


def remove_group(group):
    """The kernel lets go of a cgroup some time after its last process has died."""
    for _ in range(100):
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if not group.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{group} remains")


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("dpkg-shlibdeps") is None:
            raise unittest.SkipTest("no dpkg-shlibdeps (dpkg-dev)")
        cls.folder = Path(tempfile.mkdtemp(prefix="capstore-packages-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run(Path(CMAKE).with_name("cpack"), "-G", "DEB", "--config", f"{BUILD}/CPackConfig.cmake", "-B",
            cls.folder, cwd=BUILD)
        cls.packages = {path.name.split("_")[0]: path for path in cls.folder.glob("*.deb")}

    def field(self, package, name):
        return run("dpkg-deb", "-f", self.packages[package], name).strip()

    def test_what_they_say_and_hold(self):
        self.assertEqual(tuple(sorted(self.packages)), NAMES)
        for package in NAMES:
            self.assertEqual(self.field(package, "Package"), package)
            self.assertIn("copyright", run("dpkg-deb", "-c", self.packages[package]))
        for package, needs in (("capstored", "libuv1"), ("capstored", "liblmdb0"), ("capctl", "libelf1"), ("capctl", "libncursesw6"),
                               ("libcapstore0", "libsodium23"), ("libcapstore0", "libcurl4"), ("libcapstore-dev", "libcapstore0 (= "),
                               ("python3-capstore", "libcapstore0 (>= ")):
            self.assertIn(needs, self.field(package, "Depends"))
        listed = run("dpkg-deb", "-c", self.packages["capstored"])
        for name in ("./usr/bin/capstored", *(f"system/{unit}" for unit in UNITS), "man8/capstored.8"):
            self.assertIn(name, listed)
        self.assertNotIn("capctl", listed)

    def debian(self):
        """A Debian with what the packages depend on and nothing else that they could use."""
        if os.getuid() != 0:
            raise unittest.SkipTest("debootstrap needs root")
        if shutil.which("debootstrap") is None:
            raise unittest.SkipTest("no debootstrap")
        url, release = mirror()
        wanted = {"systemd-sysv"}
        for package in NAMES:
            wanted.update(first_choices(self.field(package, "Depends")))
        if LONG:
            wanted.update(("gcc", "libc6-dev", "pkg-config", "cmake", "make"))
        root = self.folder / "root"
        done = subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join(sorted(wanted))}", release,
                               root, url], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise unittest.SkipTest(f"debootstrap from {url}: {(done.stdout + done.stderr).splitlines()[-1]}")
        for package in self.packages.values():
            shutil.copy(package, root)
        return root

    def test_installed_started_removed_and_purged(self):
        root = self.debian()
        before = {path for path in root.rglob("*") if "capst" in path.name and path.suffix != ".deb"}
        self.assertEqual(before, set())
        with booted(root) as inside:
            debs = [f"/{path.name}" for path in self.packages.values()]
            run(*inside, "dpkg", "-i", *debs)
            for unit in UNITS:
                self.assertEqual(run(*inside, "systemctl", "is-active", unit).strip(), "active")
                self.assertEqual(run(*inside, "systemctl", "is-enabled", unit).strip(), "enabled")
            stored = self.use(inside)
            # Installed again it is an upgrade: the service restarts, the sockets stay.
            pids = [run(*inside, "systemctl", "show", "-P", "MainPID", UNITS[2])]
            run(*inside, "dpkg", "-i", f"/{self.packages['capstored'].name}")
            pids.append(run(*inside, "systemctl", "show", "-P", "MainPID", UNITS[2]))
            self.assertNotEqual(*pids)
            self.assertIn(f"{stored}: yes", run(*inside, "capctl", "-s", "unix:/run/capstore/capstore.sock", "has", stored))
            if LONG:
                self.develop(inside, root)
            run(*inside, "dpkg", "-r", *NAMES)
            self.assertTrue((root / STATE / "store").is_dir())
            self.assertNotEqual(subprocess.run([*inside, "systemctl", "is-active", *UNITS], check=False,
                                               capture_output=True).returncode, 0)
            self.assertEqual(run(*inside, "find", "/run/", "-maxdepth", "1", "-name", "capstore"), "")
            run(*inside, "dpkg", "-P", *NAMES)
            self.assertEqual(run(*inside, "systemctl", "--failed", "--no-legend"), "")
        for deb in self.packages.values():
            (root / deb.name).unlink()
        left = [path for path in root.rglob("*") if "capst" in path.name or "capctl" in path.name]
        self.assertEqual(left, [])

    def use(self, inside):
        """Puts a cap and reads it back; the hash."""
        client = [*inside, "env", "CAPSTORE_SOCKET=unix:/run/capstore/capstore.sock"]
        run(*inside, "sh", "-c", "head -c 5000 /dev/urandom >/tmp/file")
        stored = re.search(r"cap_hash: ([0-9a-f]{64})", run(*client, "capctl", "put", "/tmp/file")).group(1)
        run(*client, "capctl", "get", stored, "--content", "-o", "/tmp/back")
        run(*inside, "sh", "-c", "head -c 5000 /tmp/back | cmp - /tmp/file")
        script = "import capstore; print(capstore.Store('unix:/run/capstore/capstore.sock').get('%s').hash)" % stored
        self.assertEqual(run(*inside, "python3", "-B", "-c", script).strip(), stored)
        self.assertIn("running", run(*inside, "capctl", "--admin", "unix:/run/capstore/admin.sock", "status"))
        return stored

    def develop(self, inside, root):
        """The development package serves pkg-config and CMake."""
        project = root / "project"
        project.mkdir()
        shutil.copy(Path(SOURCE, "client", "examples", "fetch.c"), project)
        (project / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(user C)\nfind_package(capstore REQUIRED)\n"
            "add_executable(user fetch.c)\ntarget_link_libraries(user capstore::capstore)\n"
            "add_executable(static fetch.c)\ntarget_link_libraries(static capstore::static)\n")
        run(*inside, "sh", "-c", "cd /project && cmake -B b && cmake --build b && "
            "cc fetch.c $(pkg-config --cflags --libs capstore) -o u && "
            "cc -static fetch.c $(pkg-config --static --cflags --libs capstore) -o s")
        for program in ("b/user", "b/static", "u", "s"):
            run(*inside, "sh", "-c", f"/project/{program}; [ $? -eq 2 ]")
        shutil.rmtree(project)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
