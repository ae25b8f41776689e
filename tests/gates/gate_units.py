"""The systemd files are valid, and the service is as closed as we promise.

They are judged as the build configured them (systemd/ of the build directory), with the daemon's
path replaced by one that exists: systemd wants to see the program.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

SERVICE = "capstored.service"
SOCKETS = ("capstored.socket", "capstored-admin.socket", "capstored-http.socket")
# Ten times the exposure that `systemd-analyze security` computes; lower is better.
EXPOSURE = 10


def output_of(command):
    """What the command says when it is not content; nothing when it is."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (result.stdout + result.stderr).strip()
    if result.returncode == 0 and not (command[1] == "verify" and said):
        return []
    return [f"{command[0]} {command[1]}: {line}" for line in said.splitlines()[-12:]] or \
        [f"{command[0]} {command[1]} failed"]


def unit_findings(configured, room):
    for name in (SERVICE, *SOCKETS):
        unit = (configured / name).read_text()
        if "@" in re.sub(r"@[a-z-]+", "", re.sub(r"(?m)^#.*$", "", unit)):
            return [f"systemd/{name}: a variable is not filled in"]
        unit = re.sub(r'(?m)^ExecStart="?(/.*/)?capstored"? ', "ExecStart=/bin/true ", unit)
        (room / name).write_text(unit)
    units = [str(room / name) for name in (SERVICE, *SOCKETS)]
    return output_of(["systemd-analyze", "verify", "--man=no", *units]) + output_of(
        ["systemd-analyze", "security", "--offline=true", "--no-pager",
         f"--threshold={EXPOSURE}", units[0]])


def account_findings(source, room):
    (room / "etc").mkdir()
    owner = f" {os.getuid()} {os.getgid()} "
    tmpfiles = (source / "capstore.tmpfiles").read_text().replace(" root root ", owner)
    (room / "tmpfiles.conf").write_text(tmpfiles)
    return output_of(["systemd-sysusers", f"--root={room}", str(source / "capstore.sysusers")]) + \
        output_of(["systemd-tmpfiles", f"--root={room}", "--create", str(room / "tmpfiles.conf")])


def check(context):
    configured = context.build / "systemd"
    if not (configured / SERVICE).exists():
        return 0, []
    with tempfile.TemporaryDirectory(prefix="capstore-units-") as folder:
        room = Path(folder)
        findings = unit_findings(configured, room)
        findings += account_findings(context.root / "systemd", room)
    return 5, findings
