"""Takes the picture of capctl top in README.md: screenshot.py FILE.svg, with CAPSTORE_DAEMON and CAPSTORE_TOOL set.

A daemon with clients that publish and fetch, a backup, a few refusals; what the terminal shows of it, as SVG.
"""

import html
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import harness
from terminal import Terminal

COLS, ROWS = 96, 27
CELL_WIDTH, CELL_HEIGHT = 8, 17
BOLD, UNDERLINE, REVERSE = "1", "4", "7"  # of ECMA-48
INK, PAPER = "#d8dee9", "#1e222a"


def runs(screen):
    """(row, text, look) of each run of characters with the same look; looks go on over the ends of lines."""
    row, look = 0, set()
    for codes, text, end in re.findall(r"\x1b\[([\d;]*)m|([^\x1b\n]+)|(\n)", screen):
        if text:
            yield row, text, look
        elif end:
            row += 1
        else:
            for number in codes.split(";"):
                look = set() if number in ("", "0") else look | {number}


def svg(screen):
    width, height = COLS * CELL_WIDTH + 16, ROWS * CELL_HEIGHT + 16
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
             f'<rect width="{width}" height="{height}" rx="6" fill="{PAPER}"/>',
             f'<g font-family="monospace" font-size="13.3" fill="{INK}" xml:space="preserve">']
    cols = [0] * ROWS
    for row, text, look in runs(screen):
        x, y, wide = 8 + cols[row] * CELL_WIDTH, 8 + row * CELL_HEIGHT, len(text) * CELL_WIDTH
        cols[row] += len(text)
        if REVERSE in look:
            parts.append(f'<rect x="{x}" y="{y}" width="{wide}" height="{CELL_HEIGHT}" fill="{INK}"/>')
        if UNDERLINE in look:
            parts.append(f'<rect x="{x}" y="{y + CELL_HEIGHT - 2}" width="{wide}" height="1"/>')
        if text.strip():
            how = ' font-weight="bold"' * (BOLD in look) + f' fill="{PAPER}"' * (REVERSE in look)
            parts.append(f'<text x="{x}" y="{y + 13}" textLength="{wide}"{how}>{html.escape(text)}</text>')
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def take(root):
    backups = root / "backups"
    backups.mkdir(mode=0o700)
    tool = str(pathlib.Path(harness.CAPCTL).resolve())
    with harness.Daemon(root, "--backup-dir", str(backups)) as d:
        load = subprocess.Popen([tool, "-s", d.address, "bench", "--clients", "6", "--seconds", "8", "--mix", "9:1"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with Terminal(root, cols=COLS, rows=ROWS) as terminal:
                terminal.say(f"{tool} --admin unix:{d.admin_path} top")
                time.sleep(17)  # both single measurements are over: the mix runs
                harness.capctl("--admin", f"unix:{d.admin_path}", "backup")
                bad = root / "bad"
                bad.write_bytes(b"\x7fELF" + bytes(100))
                d.capctl("publish", bad)
                time.sleep(2.5)
                return terminal.screen(escapes=True)
        finally:
            load.kill()
            load.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="capstore-") as root:
        screen = take(pathlib.Path(root))
    print(re.sub(r"\x1b\[[\d;]*m", "", screen))
    pathlib.Path(sys.argv[1]).write_text(svg(screen))


if __name__ == "__main__":
    main()
