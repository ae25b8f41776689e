#!/usr/bin/env python3
"""Copies a source with one fault in it: plant.py SOURCE COPY OLD NEW.

OLD must occur exactly once, so that a fault which no longer has a place is noticed.
"""

import sys
from pathlib import Path


def main():
    source, copy, old, new = sys.argv[1:]
    text = Path(source).read_text()
    if text.count(old) != 1:
        sys.exit(f"{source}: {text.count(old)} times: {old}")
    Path(copy).write_text(text.replace(old, new))


if __name__ == "__main__":
    main()
