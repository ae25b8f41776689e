#!/usr/bin/env python3
"""Runs one gate over a source tree: run.py GATE [--root DIR] [--build DIR] [FILE...]

A gate is a module of this folder with check(context) -> (how many things it looked at, findings).
It fails on any finding, and when it looked at nothing: a gate that sees no files guards nothing.
"""

import argparse
import importlib
import sys
from collections import namedtuple
from pathlib import Path

sys.dont_write_bytecode = True

HERE = Path(__file__).resolve().parent
Context = namedtuple("Context", "root build only")


def main():
    names = sorted(path.stem for path in HERE.glob("gate_*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gate", choices=[name.removeprefix("gate_") for name in names])
    parser.add_argument("--root", type=Path, default=HERE.parent.parent)
    parser.add_argument("--build", type=Path, help="a configured build directory")
    parser.add_argument("files", nargs="*", type=Path, help="only these (relative to the root)")
    args = parser.parse_intermixed_args()
    gate = importlib.import_module("gate_" + args.gate)
    context = Context(args.root.resolve(), args.build and args.build.resolve(), args.files)
    looked_at, findings = gate.check(context)
    for finding in findings:
        print(finding)
    print(f"{args.gate}: {looked_at} looked at, {len(findings)} findings")
    return 1 if findings or looked_at == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
