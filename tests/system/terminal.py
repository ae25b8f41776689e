"""A real terminal for programs that draw: tmux."""

import os
import shutil
import subprocess

MISSING = None if shutil.which("tmux") else "tmux is not installed"


class Terminal:
    """A shell in a terminal of this size, on a tmux server of its own. Use as a context manager."""

    def __init__(self, root, cols=80, rows=24, term="screen"):
        self.socket = str(root / "tmux")
        environment = {key: value for key, value in os.environ.items() if key not in ("TMUX", "TMUX_PANE")}
        environment.update(TERM="xterm", PS1="$ ", ENV="")
        subprocess.run(["tmux", "-f", "/dev/null", "-S", self.socket, "new-session", "-d", "-x", str(cols), "-y", str(rows),
                        f"TERM={term} exec sh"], check=True, env=environment, timeout=60)

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", self.socket, *words], check=True, capture_output=True, timeout=60).stdout.decode()

    def say(self, line):
        """Types a line."""
        self.tmux("send-keys", "-l", line)
        self.keys("Enter")

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, cols, rows):
        self.tmux("resize-window", "-x", str(cols), "-y", str(rows))

    def screen(self, escapes=False):
        """What it shows; with escapes, also how, and spaces to the ends of lines."""
        return self.tmux("capture-pane", "-p", *(["-e", "-N"] if escapes else []))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], check=False, capture_output=True, timeout=60)
